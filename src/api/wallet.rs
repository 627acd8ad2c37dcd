//! Money on the chain, and the nodes that we talk to.

use std::time::Duration;

use bitcoin::{Address, Amount, FeeRate, OutPoint, SignedAmount, Transaction, TxOut, Txid, secp256k1::PublicKey};
use leyden_channels::{
    types::{Msat, UnixTime},
    wire::features::Features,
};

use super::Confirmation;
use crate::wallet::reserve::Reserve;

/// What an address of the wallet looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// P2WPKH.
    SegwitV0,
    /// P2TR.
    Taproot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalletBalance {
    pub confirmed: Amount,
    pub unconfirmed: Amount,
    /// Mined by us and younger than 100 blocks.
    pub immature: Amount,
    /// Reserved for something under way; part of the others.
    pub locked: Amount,
    /// Kept back to raise the fees of anchor channels; part of the others.
    pub anchor_reserve: Amount,
}

/// The sums over all channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelBalance {
    pub local: Msat,
    pub remote: Msat,
    /// In HTLCs that the remote sides offer.
    pub unsettled_local: Msat,
    /// In HTLCs that we offer.
    pub unsettled_remote: Msat,
    /// In channels that are being opened.
    pub pending_local: Msat,
    pub pending_remote: Msat,
}

/// What a transaction shall pay to be mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeChoice {
    /// The daemon chooses.
    Default,
    /// As much as gets it into one of the next so many blocks (at least 1).
    ConfirmWithin(u16),
    /// This rate, which is not zero.
    Rate(FeeRate),
}

/// Which coins may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinChoice {
    /// 0: unconfirmed coins too.
    pub min_confirmations: u32,
    /// Exactly these; empty: any.
    pub only: Vec<OutPoint>,
    /// Whether what is kept back for claims of channels may be spent too.
    pub reserve: Reserve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendAmount {
    /// Not zero; the fee comes on top.
    Exactly(Amount),
    /// Everything; the fee is taken from it.
    All,
}

/// A payment on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendCoins {
    pub to: Address,
    pub amount: SendAmount,
    pub fee: FeeChoice,
    pub coins: CoinChoice,
    /// A fee of more than half of what is sent is refused: somebody typed it wrong.
    pub refuses_high_fee: bool,
    /// The user's own words, at most 500 bytes; may be empty.
    pub label: String,
}

/// A transaction that moved the wallet's coins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletTx {
    pub txid: Txid,
    pub transaction: Transaction,
    /// What the wallet gained or lost, fee included.
    pub net: SignedAmount,
    /// `None` if inputs are not known to the wallet.
    pub fee: Option<Amount>,
    pub confirmation: Option<Confirmation>,
    /// Of the block, or when it was first seen.
    pub time: UnixTime,
    pub label: String,
    /// The indices of the outputs that pay the wallet.
    pub local_outputs: Vec<u32>,
    /// The indices of the inputs that spend from the wallet.
    pub local_inputs: Vec<u32>,
}

/// A coin that the wallet can spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletCoin {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub kind: AddressKind,
    /// 0 while in the mempool.
    pub confirmations: u32,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub node_id: PublicKey,
    /// As host:port, the port always given.
    pub host: String,
    /// How long to try; `None`: the daemon's default.
    pub timeout: Option<Duration>,
}

/// A connected node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    pub node_id: PublicKey,
    /// As host:port.
    pub address: String,
    /// They connected to us.
    pub inbound: bool,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Through all channels with it.
    pub amount_sent: Msat,
    pub amount_received: Msat,
    /// The latest round trip.
    pub ping: Option<Duration>,
    pub features: Features,
    /// What they complained of, oldest first.
    pub errors: Vec<PeerError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerError {
    pub time: UnixTime,
    pub text: String,
}
