//! Blocks that force a decision: an HTLC that must be resolved on the chain, and a funding transaction that never came.

use super::{Established, Fault, Phase};
use crate::channel::commitment::changes::Update;
use crate::channel::commitment::spec::Htlc;
use crate::channel::effect::Effect;
use crate::channel::error::ProtocolViolation;
use crate::channel::event::Origin;
use crate::channel::feerate::{self, LOW_PATIENCE};
use crate::channel::params::FUNDING_TIMEOUT_BLOCKS;
use crate::channel::turn::{Ctx, Turn};
use crate::margins::OFFERED_GRACE;
use crate::onchain::{CloseReason, InFlight, must_close};
use crate::types::{Height, HtlcId, Side, TipTrust};
use crate::wire::Warning;

impl Established {
    pub(super) fn new_tip(&mut self, tip: Height, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if self.was_never_funded(tip) {
            self.forget_unfunded(turn);
            return Ok(());
        }
        if self.is_double_spent() {
            return Ok(());
        }
        match &self.phase {
            Phase::Normal | Phase::Shutdown(_) => {
                match self.overdue(tip, turn.ctx) {
                    Some(CloseReason::OutgoingExpired { id, expiry } | CloseReason::IncomingExpires { id, expiry }) => {
                        return Err(ProtocolViolation::HtlcDeadline { id, expiry }.into());
                    }
                    Some(CloseReason::SmallHtlcsExpired { total, limit }) => {
                        return Err(ProtocolViolation::SmallHtlcsExpired { total, limit }.into());
                    }
                    None => {}
                }
                if self.has_late_proposal(tip) {
                    self.start_again(turn);
                }
                self.watch_feerate(tip, turn.ctx)?;
                Ok(self.follow_feerate(turn)?)
            }
            Phase::Negotiating(_) | Phase::Closing(_) => self.closing_tip(tip, turn),
            Phase::Funding | Phase::Ready | Phase::Lost | Phase::Restored | Phase::Closed => Ok(()),
        }
    }

    /// A commitment that would not confirm in time endangers the HTLCs that it holds: if they are above the limit, after some
    /// blocks without a better rate we close.
    fn watch_feerate(&mut self, tip: Height, ctx: &Ctx<'_>) -> Result<(), ProtocolViolation> {
        let feerate = self.commitments.local.spec.feerate;
        let kind = self.terms.commitment_type();
        let exposed = self.commitments.exposure(&self.terms, &ctx.feerates, ctx.policy).is_over();
        // What blocks asked for that we are only catching up with says nothing.
        let in_doubt = ctx.trust == TipTrust::InDoubt;
        if in_doubt || !exposed || !feerate::is_too_low(kind, feerate, &ctx.feerates) {
            self.low_since = None;
            return Ok(());
        }
        // A reorganisation to before that moment begins anew.
        let since = self.low_since.filter(|since| *since <= tip).unwrap_or(tip);
        self.low_since = Some(since);
        if tip.0.saturating_sub(since.0) < LOW_PATIENCE {
            return Ok(());
        }
        Err(ProtocolViolation::FeerateTooLow { feerate, least: feerate::least(&ctx.feerates) })
    }

    /// The fundee has nothing at stake in a channel whose funding transaction never came and that was never used, whatever
    /// has become of it since:
    /// a funder that forgot it answers with an `error`, for example, and then our commitment can never be broadcast.
    fn was_never_funded(&self, tip: Height) -> bool {
        let unspent = match &self.phase {
            Phase::Closing(closing) => closing.spend.is_none(),
            Phase::Funding | Phase::Ready | Phase::Shutdown(_) | Phase::Negotiating(_) => true,
            Phase::Normal | Phase::Lost | Phase::Restored | Phase::Closed => false,
        };
        let late = tip.0.saturating_sub(self.opened_at.0) > FUNDING_TIMEOUT_BLOCKS;
        unspent && self.is_unused() && late && self.terms.opener == Side::Remote && self.short_channel_id.is_none()
    }

    /// Whether an HTLC that we have offered and not signed yet is past its deadline. Upstream is about to be failed for it,
    /// so it must never be signed.
    fn has_late_proposal(&self, tip: Height) -> bool {
        let mut proposed = self.commitments.local_changes.proposed.iter().filter_map(Update::adds);
        proposed.any(|htlc| tip.0 >= htlc.cltv_expiry.0.saturating_add(OFFERED_GRACE))
    }

    /// With a new connection both have forgotten what was not signed (BOLT 2, Message Retransmission).
    fn start_again(&mut self, turn: &mut Turn<'_>) {
        turn.send(Warning::new(self.terms.channel_id, "an HTLC has expired before it was signed: connecting anew"));
        turn.emit(Effect::Disconnect);
        self.disconnected(turn);
    }

    /// An HTLC for which we have to go on-chain (BOLT 2, `cltv_expiry_delta` Selection): one that we offered and signed and
    /// that the peer has not failed in time, or one that the peer offered, whose preimage we have told, and that will expire
    /// before we can claim it. One that would not pay for its claim closes the channel only long after its expiry: what
    /// waits for it must end.
    fn overdue(&self, tip: Height, ctx: &Ctx<'_>) -> Option<CloseReason> {
        let commitments = &self.commitments;
        let fulfilled = |id: HtlcId| {
            let mut updates = commitments.local_changes.all();
            updates.any(|update| matches!(update, Update::Fulfill { id: one, .. } if *one == id))
        };
        // A peer that answers our signature with nothing can broadcast the commitment that we have signed.
        let committed = |htlc: &Htlc| {
            let remote = &commitments.remote;
            [&remote.current.spec, &remote.latest().spec, &commitments.local.spec]
                .into_iter()
                .any(|spec| spec.htlc(htlc.key()).is_some())
        };
        let at_stake = commitments.details.values().filter_map(|details| {
            let htlc = &details.htlc;
            let preimage_known = match htlc.offered_by {
                Side::Local if !committed(htlc) => return None,
                Side::Local => false,
                Side::Remote => fulfilled(htlc.id),
            };
            let Htlc { offered_by, id, amount, cltv_expiry, .. } = *htlc;
            let forwards = matches!(details.origin, Some(Origin::Forward { .. }));
            let upstream_waits = forwards && !details.preimage_told;
            Some(InFlight { offered_by, id, amount, cltv_expiry, preimage_known, upstream_waits })
        });
        let kind = self.terms.commitment_type();
        let dust_limit = self.terms.sides.local.dust_limit;
        let small_limit = commitments.exposure_limit(&self.terms, ctx.policy);
        must_close(kind, at_stake, tip, ctx.feerates.closing, dust_limit, small_limit)
    }
}
