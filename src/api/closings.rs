//! What a channel can become on the chain, how far one that closes has come, and why it was closed.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Txid, secp256k1::PublicKey};
use leyden_channels::{
    onchain::{OutputReport, Tree},
    types::Height,
};

use super::ApiError;

#[async_trait]
pub(crate) trait Closings: Send + Sync {
    /// The transactions that the present state of a channel can become; `NotFound` if there is no such channel.
    async fn channel_tree(&self, funding: OutPoint) -> Result<ChannelTree, ApiError>;
    async fn closing_channels(&self) -> Result<Vec<ClosingChannel>, ApiError>;
    /// What a person should do something about, such as claims that lack coins, each in a sentence.
    async fn warnings(&self) -> Result<Vec<String>, ApiError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelTree {
    pub node_id: PublicKey,
    pub tree: Tree,
    pub height: Height,
}

/// A channel that is on its way to the chain or back to the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosingChannel {
    pub node_id: PublicKey,
    pub funding: OutPoint,
    pub capacity: Amount,
    pub reason: String,
    /// In the mempool or in the chain.
    pub closing_txid: Option<Txid>,
    pub closed_at: Option<Height>,
    pub outputs: Vec<OutputReport>,
    /// What our confirmed claims have paid to miners.
    pub fees: Amount,
    /// What they have brought the wallet.
    pub recovered: Amount,
    /// The chain's height now.
    pub height: Height,
}

/// What became of an output of a closed channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedOutput {
    pub outpoint: OutPoint,
    pub amount: Amount,
    /// In BOLT 3's words and with the paper's name.
    pub what: String,
    pub kind: ResolvedKind,
    /// The transaction that spent it, and whether it was ours; `None`: nobody found it worth its fee, or it is not ours.
    pub spent: Option<(Txid, bool)>,
    /// A first stage: its own output follows.
    pub first_stage: bool,
}

/// LND's kinds of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResolvedKind {
    Commitment,
    IncomingHtlc,
    OutgoingHtlc,
}
