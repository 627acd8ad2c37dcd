//! Channels that an invoice names (BOLT 11, the `r` field).

use secp256k1::PublicKey;

use crate::types::ShortChannelId;

/// A channel that the graph need not know, on the way to the payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HintHop {
    /// The node that forwards over the channel.
    pub node_id: PublicKey,
    /// The channel to the next hop, or to the payee after the last one.
    pub short_channel_id: ShortChannelId,
    /// What each HTLC pays, in millisatoshi.
    pub fee_base_msat: u32,
    /// What each HTLC pays beside that, in millionths of its amount.
    pub fee_proportional_millionths: u32,
    /// Blocks between the expiries of incoming and outgoing HTLC.
    pub cltv_expiry_delta: u16,
}
