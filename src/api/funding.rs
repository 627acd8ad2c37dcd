//! Channels that are funded in other ways than each by a transaction of this wallet.

use async_trait::async_trait;
use bitcoin::{OutPoint, Psbt, Transaction};
use leyden_channels::types::ChannelId;

use super::{ApiError, CoinChoice, FeeChoice, OpenChannel};

/// Funding by PSBT, and of several channels at once.
#[async_trait]
pub(crate) trait Funding: Send + Sync {
    /// Goes on with an opening that has a [`PsbtShim`], or ends it. `NotFound` if there is none with this id that can go on.
    async fn funding_step(&self, id: ChannelId, step: FundingStep) -> Result<(), ApiError>;
    /// Opens channels by one transaction of the wallet: all of them or none. Their funding outputs, in the same order, once
    /// it is broadcast.
    async fn open_channels(&self, request: OpenChannels) -> Result<Vec<OutPoint>, ApiError>;
}

/// The caller makes the funding transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PsbtShim {
    /// Names the opening until the channel is pending.
    pub id: ChannelId,
    /// What the channel's output is added to.
    pub base: Option<Psbt>,
    /// Who broadcasts the transaction once the channel is durable.
    pub publisher: PsbtPublisher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PsbtPublisher {
    /// This node.
    Node,
    Caller,
}

/// What the caller does for the funding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FundingStep {
    Cancel,
    /// The transaction with all its inputs and outputs.
    Verify {
        psbt: Box<Psbt>,
        then: AfterVerify,
    },
    /// The same, signed.
    FinalizePsbt(Box<Psbt>),
    FinalizeRaw(Transaction),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterVerify {
    /// It is shown again, signed.
    Finalize,
    /// The caller signs and broadcasts it without that.
    Fund,
}

/// Several channels by one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenChannels {
    /// Each with an exact amount and an id of its own; their fees and coins do not count.
    pub channels: Vec<(ChannelId, OpenChannel)>,
    pub fee: FeeChoice,
    pub coins: CoinChoice,
    /// Of the transaction; may be empty.
    pub label: String,
}
