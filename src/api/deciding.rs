//! What a program decides in the node's stead: which channels of others are opened, and what becomes of forwards.

use async_trait::async_trait;
use leyden_channels::{
    switch::{InterceptedHtlc, Interception},
    types::{ChannelId, HtlcId, ShortChannelId},
};

use super::{ApiError, Updates};
pub(crate) use crate::driver::acceptors::{ChannelQuestion, ChannelTerms, ChannelVerdict};

/// Streams of questions, and of answers to them.
#[async_trait]
pub(crate) trait Deciding: Send + Sync {
    /// Asks about every channel that another node wants to open, until `answers` ends.
    async fn accept_channels(&self, answers: Updates<ChannelAnswer>) -> Result<Updates<ChannelQuestion>, ApiError>;
    /// Asks about every forward, until `answers` ends or one of them cannot be. `AlreadyExists` if somebody is asked already.
    async fn intercept(&self, answers: Updates<InterceptionAnswer>) -> Result<Updates<InterceptedHtlc>, ApiError>;
}

/// Whether such a channel is opened, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelAnswer {
    pub id: ChannelId,
    pub verdict: ChannelVerdict,
}

/// What is to become of a forward, by what its incoming channel is called and that channel's number for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterceptionAnswer {
    pub channel: ShortChannelId,
    pub htlc: HtlcId,
    pub answer: Interception,
}
