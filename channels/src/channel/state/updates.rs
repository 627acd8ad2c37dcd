//! Updates and commitments: what `normal` and `shutdown` have in common.
//!
//! A received `commitment_signed` is answered at once by `revoke_and_ack`; our own is sent by [`Event::Flush`] alone,
//! so that the driver decides how many updates share one.
//!
//! [`Event::Flush`]: crate::channel::Event::Flush

use super::{ConnectionState, Established, Phase};
use crate::channel::commitment::limits::CannotAdd;
use crate::channel::commitment::spec::{Htlc, HtlcKey};
use crate::channel::commitment::{HtlcDetails, HtlcRemoval, RemovedHtlc};
use crate::channel::effect::{Effect, FailReason, HtlcFailure, IncomingHtlc};
use crate::channel::error::{Fault, Invariant};
use crate::channel::event::{AddHtlc, Origin};
use crate::channel::exposure::Admission;
use crate::channel::feerate;
use crate::channel::final_htlc::{FinalHtlc, ended};
use crate::channel::key::Key;
use crate::channel::record;
use crate::channel::settlement::OwedSettlement;
use crate::channel::turn::{Ctx, Turn};
use crate::margins::{MAX_HTLC_CLTV, OFFERED_GRACE};
use crate::types::{FeeratePerKw, HtlcId, Msat, PaymentPreimage, Side, TipTrust};
use crate::wire::{CommitmentSigned, Message, RevokeAndAck};

impl Established {
    pub(super) fn add(&mut self, add: &AddHtlc, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let result = if self.phase != Phase::Normal {
            Err(CannotAdd::State(self.phase.name()))
        } else if self.connection != ConnectionState::Online {
            Err(CannotAdd::Offline)
        } else if turn.ctx.trust == TipTrust::InDoubt {
            Err(CannotAdd::TipInDoubt)
        } else if let Some(cause) = self.not_funded() {
            Err(cause)
        } else if add.cltv_expiry.0 > turn.ctx.tip.0.saturating_add(MAX_HTLC_CLTV) {
            Err(CannotAdd::Expiry(add.cltv_expiry))
        } else {
            let Ctx { feerates, policy, .. } = turn.ctx;
            let admission = self.commitments.admission(&self.terms, feerates, policy);
            self.commitments.offer_add(add, &self.terms, admission)?
        };
        match result {
            Ok(message) => turn.send(message),
            Err(cause) => turn.emit(Effect::Refused { origin: add.origin, cause }),
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, id: HtlcId, settle: HtlcRemoval, turn: &mut Turn<'_>) {
        let is_said = match self.phase {
            Phase::Normal | Phase::Shutdown(_) => self.connection == ConnectionState::Online,
            // The peer will close, and the preimage is needed then.
            Phase::Lost => false,
            Phase::Funding
            | Phase::Ready
            | Phase::Negotiating(_)
            | Phase::Restored
            | Phase::Closing(_)
            | Phase::Closed => return,
        };
        if let Some(message) = self.commitments.settle(id, settle, self.terms.channel_id)
            && is_said
        {
            turn.send(message);
        }
    }

    pub(super) fn propose_fee(&mut self, feerate: FeeratePerKw, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let Ctx { feerates, policy, .. } = turn.ctx;
        let offered =
            if self.is_usable() { self.commitments.offer_fee(feerate, &self.terms, feerates, policy)? } else { None };
        match offered {
            Some(message) => turn.send(message),
            None => turn.emit(Effect::FeeRefused { feerate }),
        }
        Ok(())
    }

    /// The opener moves the fee rate towards what it should be, as far as that can be paid and endangers no HTLCs.
    pub(super) fn follow_feerate(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let changing = self.commitments.local_changes.all().any(|update| update.feerate().is_some());
        let in_doubt = turn.ctx.trust == TipTrust::InDoubt;
        if self.terms.opener != Side::Local || !self.is_usable() || changing || in_doubt {
            self.falling_since = None;
            return Ok(());
        }
        let Ctx { feerates, policy, tip, .. } = turn.ctx;
        let now = self.commitments.remote.latest().spec.feerate;
        let mut target = feerate::target(self.terms.commitment_type(), feerates);
        if feerate::step(now, target).is_some_and(|rate| rate < now) {
            // A reorganisation to before that moment begins anew.
            let since = self.falling_since.filter(|since| *since <= *tip).unwrap_or(*tip);
            self.falling_since = Some(since);
            if tip.0.saturating_sub(since.0) < feerate::FALL_PATIENCE {
                return Ok(());
            }
        }
        self.falling_since = None;
        while let Some(rate) = feerate::step(now, target) {
            if let Some(message) = self.commitments.offer_fee(rate, &self.terms, feerates, policy)? {
                turn.send(message);
                break;
            }
            if rate <= now {
                break;
            }
            // Half of the way, while that makes a difference.
            target = FeeratePerKw(now.0.saturating_add(rate.0.saturating_sub(now.0) / 2));
        }
        Ok(())
    }

    /// Sends what has gathered: one signature for all of it, then a `shutdown` that waited for it.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match self.phase {
            Phase::Normal | Phase::Shutdown(_) if self.connection == ConnectionState::Online => {}
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Negotiating(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closing(_)
            | Phase::Closed => return Ok(()),
        }
        self.flush_after_rest(turn)?;
        if matches!(self.phase, Phase::Normal | Phase::Shutdown(_)) && self.may_sign() {
            let signed = self.commitments.sign(&self.terms, &self.factory, turn.ctx.environment.workers())?;
            turn.touched.state = true;
            self.store_htlcs(&signed.added, turn)?;
            let channel = self.terms.channel_id;
            for id in signed.settled {
                turn.out.delete(Key::Settlement { channel, id });
            }
            turn.send(Message::CommitmentSigned(signed.message));
        }
        self.send_shutdown_if_due(turn);
        Ok(())
    }

    /// Whether a flush would send something now.
    pub(crate) fn wants_flush(&self) -> bool {
        let updating =
            matches!(self.phase, Phase::Normal | Phase::Shutdown(_)) && self.connection == ConnectionState::Online;
        let shutdown_due = self.wants_shutdown() && !self.commitments.has_something_to_sign();
        // The peer may have added an HTLC after all, before it heard our shutdown: then nothing rests.
        let late = self.lost_signature_is_due() || self.closing_delay().is_some();
        updating && (self.may_sign() || shutdown_due || late)
    }

    /// An `update_`, `commitment_signed` or `revoke_and_ack`; gives back what is none of them.
    pub(super) fn update_message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<Option<Message>, Fault> {
        match message {
            Message::UpdateAddHtlc(add) => self.commitments.receive_add(add, &self.terms)?,
            Message::UpdateFulfillHtlc(fulfill) => self.fulfilled(fulfill.id, fulfill.payment_preimage, turn)?,
            Message::UpdateFailHtlc(fail) => {
                self.commitments.receive_removal(fail.id, HtlcRemoval::Fail { reason: fail.reason })?;
            }
            Message::UpdateFailMalformedHtlc(fail) => {
                let (sha256_of_onion, failure_code) = (fail.sha256_of_onion, fail.failure_code);
                self.commitments
                    .receive_removal(fail.id, HtlcRemoval::FailMalformed { sha256_of_onion, failure_code })?;
            }
            Message::UpdateFee(fee) => {
                let Ctx { feerates, policy, .. } = turn.ctx;
                self.commitments.receive_fee(fee.feerate_per_kw, &self.terms, feerates, policy)?;
            }
            Message::CommitmentSigned(signed) => self.commitment_signed(signed, turn)?,
            Message::RevokeAndAck(revoke) => self.revoked(&revoke, turn)?,
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// The preimage counts at once, whatever becomes of the update: it is stored and passed on.
    fn fulfilled(&mut self, id: HtlcId, preimage: PaymentPreimage, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let first =
            self.commitments.details.get(&HtlcKey { offered_by: Side::Local, id }).is_none_or(|one| !one.preimage_told);
        let htlc = self.commitments.receive_removal(id, HtlcRemoval::Fulfill(preimage))?;
        if first {
            self.write_off_if_late(&htlc, turn);
        }
        if let Some(origin) = self.commitments.details.get(&htlc.key()).and_then(|details| details.origin) {
            turn.out.put(origin.settlement_key(), OwedSettlement::Fulfilled { preimage }.encode());
            turn.emit(Effect::Fulfilled { origin, htlc: id, payment_hash: htlc.payment_hash, preimage });
        }
        Ok(())
    }

    /// An HTLC that was not enforced at its expiry, and whose preimage comes after that: the one behind it may have been
    /// failed by now. After a restart a repetition counts twice, to our own cost alone.
    fn write_off_if_late(&mut self, htlc: &Htlc, turn: &mut Turn<'_>) {
        let enforced_at = htlc.cltv_expiry.0.saturating_add(OFFERED_GRACE);
        if turn.ctx.tip.0 >= enforced_at {
            let written_off = &mut self.commitments.written_off;
            *written_off = Msat(written_off.0.saturating_add(htlc.amount.0));
            turn.touched.state = true;
        }
    }

    pub(super) fn commitment_signed(&mut self, message: CommitmentSigned, turn: &mut Turn<'_>) -> Result<(), Fault> {
        // What is revoked now belongs into the signature after the one that got lost.
        if self.take_lost_signature() {
            self.sign_again(turn)?;
        }
        let workers = turn.ctx.environment.workers();
        let accepted = self.commitments.receive_signed(message, &self.terms, &self.factory, workers)?;
        turn.touched.state = true;
        turn.touched.signatures = true;
        self.store_htlcs(&accepted.added, turn)?;
        self.retire_htlcs(accepted.removed, turn);
        turn.send(Message::RevokeAndAck(accepted.message));
        Ok(())
    }

    pub(super) fn revoked(&mut self, message: &RevokeAndAck, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let state = self.to_queue(turn);
        let revoked = self.commitments.receive_revocation(message)?;
        if let Some(state) = state {
            self.queue_for_towers(&state, turn);
        }
        self.violations = 0;
        turn.touched.state = true;
        turn.touched.secrets = true;
        for (htlc, origin, failure) in revoked.failed {
            self.failed(&htlc, origin, failure, turn);
        }
        self.retire_htlcs(revoked.removed, turn);
        let news: Vec<HtlcKey> = revoked.incoming.iter().map(|(htlc, _)| htlc.key()).collect();
        let mut admission = self.commitments.admission_of(&news, &self.terms, &turn.ctx.feerates, turn.ctx.policy);
        for (htlc, details) in revoked.incoming {
            let must_fail = self.incoming(&htlc, details, &mut admission, turn);
            if let Some(details) = self.commitments.details.get_mut(&htlc.key()) {
                details.must_fail = must_fail;
            }
        }
        Ok(())
    }

    pub(super) fn failed(&self, htlc: &Htlc, origin: Origin, failure: HtlcFailure, turn: &mut Turn<'_>) {
        turn.out.put(origin.settlement_key(), OwedSettlement::Failed { failure: failure.clone() }.encode());
        turn.emit(Effect::Failed { origin, htlc: htlc.id, payment_hash: htlc.payment_hash, failure });
    }

    /// Tells of an HTLC that is final; whether it is to be failed.
    fn incoming(&self, htlc: &Htlc, details: HtlcDetails, admission: &mut Admission, turn: &mut Turn<'_>) -> bool {
        let Some(onion) = details.onion else { return false };
        let must_fail = match self.phase {
            Phase::Shutdown(_) => Some(FailReason::ShuttingDown),
            Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => Some(FailReason::Closed),
            _ if self.not_funded().is_some() => Some(FailReason::NotFunded),
            _ => admission.admit(htlc).err().map(|_| FailReason::DustExposure),
        };
        turn.emit(Effect::Incoming(Box::new(IncomingHtlc {
            channel: self.terms.channel_id,
            id: htlc.id,
            amount: htlc.amount,
            payment_hash: htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
            onion,
            path_key: details.path_key,
            must_fail,
        })));
        must_fail.is_some()
    }

    /// After a restart: the incoming HTLCs that are irrevocably committed and that nobody has settled.
    pub(super) fn replay(&mut self, turn: &mut Turn<'_>) {
        let unanswered: Vec<HtlcKey> = self
            .commitments
            .details
            .keys()
            .filter(|key| key.offered_by == Side::Remote && self.commitments.is_removable(**key))
            .copied()
            .collect();
        let mut admission =
            self.commitments.admission_of(&unanswered, &self.terms, &turn.ctx.feerates, turn.ctx.policy);
        for key in unanswered {
            let Some(details) = self.commitments.details.get_mut(&key) else { continue };
            let onion = details.onion.take();
            let details = HtlcDetails { onion, ..details.clone() };
            // It may have been passed on long ago, at a lower feerate: only what is really failed counts no more.
            self.incoming(&details.htlc.clone(), details, &mut admission, turn);
        }
    }

    pub(super) fn store_htlcs(&self, keys: &[HtlcKey], turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let channel = self.terms.channel_id;
        for key in keys {
            let details = self.commitments.details.get(key).ok_or(Invariant::DetailsMissing(*key))?;
            let store_key = Key::Htlc { channel, offered_by: key.offered_by, id: key.id };
            turn.out.put(store_key, record::encode_htlc(details));
        }
        Ok(())
    }

    fn retire_htlcs(&self, removed: Vec<RemovedHtlc>, turn: &mut Turn<'_>) {
        let channel = self.terms.channel_id;
        for removed in removed {
            let HtlcKey { offered_by, id } = removed.htlc.key();
            turn.out.delete(Key::Htlc { channel, offered_by, id });
            if let Some(retired) = record::encode_retired(&removed) {
                turn.out.put(Key::RetiredHtlc { channel, offered_by, id }, retired);
            }
            if offered_by == Side::Remote {
                ended(channel, id, FinalHtlc { settled: removed.settled, on_chain: false }, turn);
            }
        }
    }
}
