//! Under which names and keys a node shows itself to a tower.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use leyden_channels::types::ChannelId;
use secp256k1::PublicKey;

use super::record::Round;
use crate::appointment::{ChannelName, ChannelTag, ClientId, FundingIndex};

/// The node's keys for its towers, all derived from its seed: a node that is made again from it finds its backups.
pub trait TowerKeys {
    /// The key of the connection to this tower, and of no other one.
    fn client(&self, tower: &PublicKey) -> ClientId;

    /// A secret for this tower alone: tags and the keys of sealed constants follow from it.
    fn secret(&self, tower: &PublicKey) -> [u8; 32];
}

/// The name of a channel at a tower. It looks like chance to the tower, and says to the node's own seed which channel it is.
/// What was sealed under a tag is never sealed again otherwise: where the destination has to change, or states are missing
/// in between, another round begins with another tag.
pub fn tag(secret: &[u8; 32], channel: &ChannelId, round: Round) -> ChannelName {
    let mut engine = sha256::Hash::engine();
    engine.input(b"leyden/tower/tag");
    engine.input(secret);
    engine.input(&channel.0);
    engine.input(&[round.0]);
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    let mut tag = [0; 16];
    tag.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    ChannelName { tag: ChannelTag(tag), funding: FundingIndex(0) }
}
