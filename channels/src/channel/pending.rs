//! What hangs between this channel and others: read once after a restart, before anything else happens.

use super::Channel;
use super::commitment::spec::{Htlc, HtlcKey};
use super::event::Origin;
use crate::types::{CltvExpiry, HtlcId, ShortChannelId, Side};

impl Channel {
    /// The peer's HTLCs that are irrevocably committed and that we are not removing: the same for which
    /// [`Event::Restarted`](super::Event::Restarted) leads to [`Effect::Incoming`](super::Effect::Incoming).
    pub fn unsettled(&self) -> impl Iterator<Item = HtlcId> {
        let commitments = self.established().map(|channel| &channel.commitments);
        commitments.into_iter().flat_map(|commitments| {
            let remote = commitments.details.keys().filter(|key| key.offered_by == Side::Remote);
            remote.copied().filter(|key: &HtlcKey| commitments.is_removable(*key)).map(|key| key.id)
        })
    }

    /// When an HTLC of the peer's expires.
    pub fn expiry_of_incoming(&self, id: HtlcId) -> Option<CltvExpiry> {
        let details = &self.established()?.commitments.details;
        details.get(&HtlcKey { offered_by: Side::Remote, id }).map(|details| details.htlc.cltv_expiry)
    }

    /// The channel's name in the chain, and the alias that we told the peer.
    pub fn short_channel_ids(&self) -> (Option<ShortChannelId>, Option<ShortChannelId>) {
        self.established().map_or((None, None), |channel| (channel.short_channel_id, channel.aliases.local))
    }

    /// Our HTLCs that are not gone for good, and whose they are.
    pub fn offered(&self) -> impl Iterator<Item = (Htlc, Origin)> {
        let details = self.established().map(|channel| channel.commitments.details.values());
        details.into_iter().flatten().filter_map(|details| Some((details.htlc, details.origin?)))
    }
}
