//! Incoming HTLCs that are to be forwarded once the tip may be relied on.
//!
//! ```text
//!   to be forwarded, tip in doubt ──► Waiting ──┬── the tip is current ──► decided, by the new height
//!                                               ├── too long, or close to its expiry ──► failed
//!                                               └── its channel closes ──► dropped: the chain returns it
//! ```
//!
//! Why failing is safe at any time: no outgoing HTLC forwards it and no preimage of it is known here, so that nothing
//! of ours hangs on it; its sender gets its money back and may try another way. Why waiting is safe: nothing is
//! promised meanwhile, and it ends before the neighbour would close its channel for want of an answer. What is kept is
//! in memory alone and bounded by what the channels hold: after a restart they tell it again.

use crate::channel::IncomingHtlc;
use crate::margins::WAIT_FOR_TIP_SECONDS;
use crate::types::{ChannelId, Height, UnixTime};

use super::circuit::HtlcRef;
use super::replay::{OnionKey, SeenOnion};

/// Blocks before its expiry, by the known tip, from which on an HTLC waits no longer: some more than those at which a
/// channel is closed for an HTLC that nobody answers.
pub const WAIT_MARGIN_BLOCKS: u32 = 16;

#[derive(Debug)]
pub(super) struct WaitingHtlc {
    pub htlc: IncomingHtlc,
    /// Its own onion, if it was seen before a restart.
    pub onion: Option<(OnionKey, SeenOnion)>,
    since: UnixTime,
}

impl WaitingHtlc {
    fn name(&self) -> HtlcRef {
        HtlcRef { channel: self.htlc.channel, id: self.htlc.id }
    }

    /// A clock that was set back makes nothing wait longer than the blocks allow.
    fn is_over(&self, now: UnixTime, tip: Height) -> bool {
        let waited = now.0.saturating_sub(self.since.0) >= WAIT_FOR_TIP_SECONDS;
        waited || self.htlc.cltv_expiry.0 <= tip.0.saturating_add(WAIT_MARGIN_BLOCKS)
    }
}

/// In the order in which they came.
#[derive(Debug, Default)]
pub(super) struct WaitingHtlcs(Vec<WaitingHtlc>);

impl WaitingHtlcs {
    pub(super) fn insert(&mut self, htlc: IncomingHtlc, onion: Option<(OnionKey, SeenOnion)>, since: UnixTime) {
        self.0.push(WaitingHtlc { htlc, onion, since });
    }

    pub(super) fn contains(&self, incoming: &HtlcRef) -> bool {
        self.0.iter().any(|one| one.name() == *incoming)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn remove(&mut self, incoming: &HtlcRef) {
        self.0.retain(|one| one.name() != *incoming);
    }

    pub(super) fn remove_channel(&mut self, channel: &ChannelId) {
        self.0.retain(|one| one.htlc.channel != *channel);
    }

    pub(super) fn take_all(&mut self) -> Vec<WaitingHtlc> {
        std::mem::take(&mut self.0)
    }

    /// Those that wait no longer.
    pub(super) fn take_over(&mut self, now: UnixTime, tip: Height) -> Vec<WaitingHtlc> {
        self.0.extract_if(.., |one| one.is_over(now, tip)).collect()
    }
}
