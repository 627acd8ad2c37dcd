//! For which channels the wallet keeps coins back.
//!
//! A channel that somebody else has funded counts too, even if this wallet is empty: a newcomer who wants to be paid first
//! must be able to begin. What he lacks is shown from then on, and the first coins that arrive are kept back. Until a block
//! has its funding transaction it does not count: a promise of a stranger's keeps no coins of ours back.

use leyden_channels::{
    channel::{Backing, FundingSpend, SpendKind, StateName},
    onchain::Resolution,
    types::ChannelId,
};

use super::Peer;

impl Peer {
    /// Keeps coins back for a channel, or no longer. To be called whenever its state may have changed.
    pub(in crate::driver) fn keep_reserve(&self, id: ChannelId) {
        let wallet = &self.services.wallet;
        if self.wants_reserve(&id) { wallet.keep_reserve_for(id) } else { wallet.keep_no_reserve_for(&id) }
    }

    /// Whether coins may be needed to bring a channel's money home.
    fn wants_reserve(&self, id: &ChannelId) -> bool {
        let Some(slot) = self.slots.get(id) else { return false };
        let anchors = match slot.channel.terms() {
            Some(terms) => terms.commitment_type().has_anchors(),
            // Before there is anything to store of it: one that we fund counts from the moment of its funding.
            None => return slot.choices.as_ref().is_some_and(|choices| choices.anchors),
        };
        let is_open = match slot.channel.state_name() {
            StateName::Opening
            | StateName::Funding
            | StateName::Ready
            | StateName::Normal
            | StateName::Shutdown
            | StateName::Negotiating
            // Until that is buried a reorganisation may bring the funding back.
            | StateName::DoubleSpent => true,
            // The peer's commitment pays us without any coin of ours.
            StateName::Lost | StateName::Restored | StateName::Closed => false,
            StateName::Closing => {
                let spend = slot.channel.summary().and_then(|summary| summary.spend);
                let together = matches!(spend, Some(FundingSpend { kind: SpendKind::Mutual, .. }));
                !together && slot.channel.resolution().is_none_or(Resolution::needs_coins)
            }
        };
        anchors && is_open && slot.channel.backing() == Backing::Funded
    }
}
