//! Payments of others that pass through this node: on which terms, and what came of it.

use async_trait::async_trait;
use bitcoin::OutPoint;
use leyden_channels::{
    channel::FinalHtlc,
    switch::FailureDetail,
    types::{CltvExpiry, HtlcId, Msat, PaymentPreimage, ShortChannelId, UnixTime},
};

use super::{ApiError, Updates};

#[async_trait]
pub(crate) trait Forwarding: Send + Sync {
    async fn fee_report(&self) -> Result<FeeReport, ApiError>;
    /// Every channel that the change is for either has the new terms, durably, or is named in the answer. `NotFound` if
    /// one channel is named and there is none.
    async fn update_policy(&self, change: PolicyChange) -> Result<Vec<PolicyRefused>, ApiError>;
    /// The oldest first.
    async fn forwards(&self, request: ForwardsRequest) -> Result<ForwardsPage, ApiError>;
    /// Tells the network not to send payments over a channel, or to send them again; it holds until the next start.
    /// `NotFound` if there is no such channel, `FailedPrecondition` if it shall be used and its peer is away.
    async fn set_channel_status(&self, funding: OutPoint, status: ChannelStatus) -> Result<(), ApiError>;
    /// Everything that happens to HTLCs here from now on. A listener that falls too far behind gets an error.
    async fn htlc_events(&self) -> Result<Updates<HtlcEvent>, ApiError>;
    /// How an HTLC of a peer's has ended. `Unavailable` if that is not kept, `NotFound` if it has not ended, or too long ago.
    async fn final_htlc(&self, channel: ShortChannelId, id: HtlcId) -> Result<FinalHtlc, ApiError>;
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FeeReport {
    pub channels: Vec<ChannelFee>,
    /// Earned in the last day, week and 30 days.
    pub day: Msat,
    pub week: Msat,
    pub month: Msat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelFee {
    pub short_channel_id: ShortChannelId,
    pub funding: OutPoint,
    pub base_fee: Msat,
    pub fee_ppm: u32,
}

/// New terms; `None` leaves what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PolicyChange {
    /// `None`: every channel.
    pub channel: Option<OutPoint>,
    pub base_fee: Msat,
    pub fee_ppm: u32,
    pub cltv_expiry_delta: u16,
    pub htlc_minimum: Option<Msat>,
    pub htlc_maximum: Option<Msat>,
}

/// A channel that keeps its terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyRefused {
    pub funding: OutPoint,
    pub reason: PolicyRefusal,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyRefusal {
    /// The channel is still being opened.
    Pending,
    /// The terms cannot be.
    Invalid,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardsRequest {
    /// At or after, seconds since 1970.
    pub from: u64,
    /// At or before; `None`: now.
    pub until: Option<u64>,
    /// How many of this time to leave out.
    pub skip: u64,
    pub limit: u64,
    /// Empty: any.
    pub incoming: Vec<ShortChannelId>,
    /// Empty: any.
    pub outgoing: Vec<ShortChannelId>,
    /// Give the peers' names.
    pub aliases: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardsPage {
    pub forwards: Vec<Forward>,
    /// What to give as `skip` for the next page.
    pub next: u64,
}

/// A payment that passed through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub at: UnixTime,
    pub incoming: ForwardSide,
    pub outgoing: ForwardSide,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardSide {
    pub short_channel_id: Option<ShortChannelId>,
    pub htlc: Option<HtlcId>,
    pub amount: Msat,
    /// Empty if it is not asked for or not known.
    pub alias: String,
}

/// Something happened to an HTLC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HtlcEvent {
    pub at: UnixTime,
    pub role: HtlcRole,
    /// `None`: this node sends it.
    pub incoming: Option<HtlcName>,
    /// `None`: it ends here, or has not left yet.
    pub outgoing: Option<HtlcName>,
    pub what: HtlcNews,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HtlcName {
    pub short_channel_id: ShortChannelId,
    pub id: HtlcId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HtlcRole {
    Send,
    Receive,
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HtlcNews {
    /// Handed to the outgoing channel.
    Forwarded(HtlcAmounts),
    FailedFurtherOn,
    Settled {
        preimage: PaymentPreimage,
    },
    /// With this code of BOLT 4, if one was given.
    FailedHere {
        amounts: HtlcAmounts,
        code: Option<u16>,
        detail: FailureDetail,
    },
    /// Of a peer's: nothing can change it any more.
    Ended(FinalHtlc),
}

/// What comes in and what goes out; zero on a side that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HtlcAmounts {
    pub incoming: Msat,
    pub incoming_expiry: CltvExpiry,
    pub outgoing: Msat,
    pub outgoing_expiry: CltvExpiry,
}

/// Whether others are told to use a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelStatus {
    Enabled,
    Disabled,
    /// As its peer is there or away.
    Automatic,
}
