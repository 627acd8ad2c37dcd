//! What a swap does next. Everything here follows from what is known, and is asked again after every event: so a restart
//! or a reorganisation needs no case of its own.
//!
//! ```text
//!   apply ──► note the event ──► lock? ──► redeem? ──► refund? ──► ended?
//! ```

use bitcoin::{Amount, Transaction};

use super::{
    contract::{Path, Spend},
    event::{Ctx, Effect, Event, Refusal},
    margins,
    state::{Claim, Lock, Outcome, Swap},
    terms::{Leg, Role},
};
use crate::{
    margins::FINAL_DEPTH,
    onchain::{Urgency, fee_at, percent, rate_of, replacement_fee, starting_rate},
    types::{Height, PaymentPreimage},
};

/// Blocks until a refund may pay its whole budget: nobody else can take the coins without giving theirs.
const REFUND_PATIENCE: u32 = 144;

impl Swap {
    pub(super) fn apply(&mut self, event: Event<'_>, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let mut is_due = true;
        match event {
            Event::Initiate(acceptance) => self.initiate(acceptance, ctx)?,
            Event::Participate => self.participate()?,
            Event::Redeem => self.order_redeem(ctx)?,
            Event::Refund => self.order_refund(ctx)?,
            Event::Cancel => self.cancel()?,
            Event::Funded { transaction, fee } => return self.funded(transaction, fee, ctx, effects),
            Event::NotFunded => {
                is_due = false;
                self.asked = false;
            }
            Event::Block { leg, block } => {
                self.connect(leg, &block)?;
                self.asked &= leg != self.role.gives();
            }
            Event::Reorganized { leg, to } => {
                self.disconnect(leg, to);
                is_due = false;
            }
            Event::Mempool { leg, transaction } => {
                let known = self.secret;
                self.seen_in_mempool(leg, transaction);
                is_due = self.secret != known;
            }
            Event::Tick => {}
        }
        if is_due && self.outcome.is_none() {
            self.lock(ctx, effects)?;
            self.redeem(ctx, effects)?;
            self.refund(ctx, effects)?;
            self.end(ctx);
        }
        Ok(())
    }

    fn initiate(&mut self, acceptance: super::Acceptance, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        if self.role != Role::Initiator {
            return Err(Refusal::NotInitiator);
        }
        self.must_run()?;
        acceptance.check(&self.offer)?;
        match &self.acceptance {
            Some(before) if *before != acceptance => return Err(Refusal::Initiated),
            Some(_) => return Ok(()),
            None => {}
        }
        self.offer.check_time(ctx.now, self.seconds_to_lock())?;
        self.acceptance = Some(acceptance);
        self.orders.lock = true;
        Ok(())
    }

    fn participate(&mut self) -> Result<(), Refusal> {
        if self.role != Role::Participant {
            return Err(Refusal::NotParticipant);
        }
        self.must_run()?;
        self.orders.lock = true;
        Ok(())
    }

    fn order_redeem(&mut self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        self.must_run()?;
        let gets = self.role.gets();
        if self.known_secret(ctx).is_none() {
            return Err(Refusal::NoSecret);
        }
        if self.role == Role::Initiator && !self.revealed {
            if !self.is_deep(gets) || self.leg(self.role.gives()).claim.is_some() {
                return Err(Refusal::NotRedeemable);
            }
            if !self.is_current(ctx) {
                return Err(Refusal::NotCurrent);
            }
            let needed = margins::reveal_seconds(&self.offer.leg(gets).chain);
            let left = self.seconds_left(gets, ctx);
            if left < needed {
                return Err(Refusal::TooLateToReveal { left, needed });
            }
        } else if !self.is_unspent(gets) {
            return Err(Refusal::NotRedeemable);
        }
        self.orders.redeem = true;
        Ok(())
    }

    fn order_refund(&mut self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        self.must_run()?;
        let gives = self.role.gives();
        if !self.is_unspent(gives) {
            return Err(Refusal::NothingToRefund);
        }
        let (expiry, median_time) = (self.offer.leg(gives).expiry, self.leg(gives).tip.median_time);
        if median_time <= expiry {
            return Err(Refusal::NotExpired { expiry, median_time });
        }
        if self.may_take_the_others() {
            return Err(Refusal::SecretShown);
        }
        if !ctx.chain(gives).is_current || (self.is_secret_out() && !self.is_current(ctx)) {
            return Err(Refusal::NotCurrent);
        }
        self.orders.refund = true;
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), Refusal> {
        self.must_run()?;
        if self.leg(self.role.gives()).funding.is_some() {
            return Err(Refusal::Locked);
        }
        self.outcome = Some(Outcome::NothingLocked);
        Ok(())
    }

    fn must_run(&self) -> Result<(), Refusal> {
        if self.outcome.is_some() { Err(Refusal::Ended) } else { Ok(()) }
    }

    /// Seconds that this person needs until the inner expiry to lock.
    fn seconds_to_lock(&self) -> u64 {
        match self.role {
            Role::Initiator => margins::initiate_seconds(&self.offer.outer.chain, &self.offer.inner.chain, self.depth),
            Role::Participant => margins::lock_seconds(&self.offer.inner.chain, self.depth),
        }
    }

    /// Until a contract expires, by the later of two clocks: what may be refunded soon counts as if it were refunded.
    fn seconds_left(&self, leg: Leg, ctx: &Ctx<'_>) -> u64 {
        let latest = ctx.now.max(self.leg(leg).tip.median_time);
        self.offer.leg(leg).expiry.0.saturating_sub(latest.0)
    }

    fn is_current(&self, ctx: &Ctx<'_>) -> bool {
        ctx.outer.is_current && ctx.inner.is_current
    }

    /// In a block, and not spent in one.
    fn is_unspent(&self, leg: Leg) -> bool {
        let state = self.leg(leg);
        state.lock.is_some_and(|lock| lock.at.is_some()) && state.taken.is_none()
    }

    fn known_secret(&self, ctx: &Ctx<'_>) -> Option<PaymentPreimage> {
        match self.role {
            Role::Initiator => Some(ctx.keys.secret(&self.nonce)),
            Role::Participant => self.secret,
        }
    }

    fn may_lock(&self, ctx: &Ctx<'_>) -> bool {
        let is_ordered = self.orders.lock || (self.role == Role::Participant && !self.by_hand);
        let other_is_good = self.role == Role::Initiator || self.is_deep(self.role.gets());
        let in_time = self.offer.check_time(ctx.now, self.seconds_to_lock()).is_ok();
        self.outcome.is_none()
            && self.acceptance.is_some()
            && is_ordered
            && other_is_good
            && in_time
            && self.is_current(ctx)
    }

    fn lock(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let leg = self.role.gives();
        let state = self.leg(leg);
        if let Some(funding) = &state.funding {
            let is_waiting = state.lock.is_some_and(|lock| lock.at.is_none());
            if is_waiting {
                effects.push(match self.recall_fee(funding, ctx) {
                    Some(fee) => Effect::Recall { leg, lock: funding.clone(), to: state.destination.clone(), fee },
                    None => Effect::Broadcast { leg, transaction: funding.clone() },
                });
            }
            return Ok(());
        }
        let Some(contract) = self.contract(leg) else { return Ok(()) };
        if !self.asked && self.may_lock(ctx) {
            self.asked = true;
            let (amount, max_fee) = (self.offer.leg(leg).amount, self.max_lock_fee);
            effects.push(Effect::Fund { leg, script: contract.script_pubkey()?, amount, max_fee });
        }
        Ok(())
    }

    /// What calling the lock back pays; `None` while it shall come.
    ///
    /// A participant's lock that a block takes after the outer expiry is a gift: the initiator takes it with the secret and
    /// has her own coins back. So once it is too late for her to show the secret in time, a lock that waits is called back,
    /// and what that pays climbs until the inner expiry to what any claim may pay. An initiator's late lock costs nothing
    /// but time: nobody answers it. One whose secret is known is the other's.
    fn recall_fee(&self, lock: &Transaction, ctx: &Ctx<'_>) -> Option<Amount> {
        let leg = self.role.gives();
        let terms = self.offer.leg(leg);
        let window = margins::reveal_seconds(&terms.chain);
        let left = self.seconds_left(leg, ctx);
        if self.role == Role::Initiator || self.secret.is_some() || left >= window {
            return None;
        }
        let weight = lock.weight();
        let least = replacement_fee(self.max_lock_fee, weight);
        let soon = fee_at(ctx.chain(leg).estimates.within(1), weight);
        let budget = percent(terms.amount, ctx.policy.budget_percent);
        let way = budget.checked_sub(least).unwrap_or(Amount::ZERO).to_sat();
        let passed = u128::from(window.saturating_sub(left));
        let climbed = u128::from(way).saturating_mul(passed) / u128::from(window.max(1));
        let ramp = least.checked_add(Amount::from_sat(u64::try_from(climbed).unwrap_or(way)))?;
        Some(ramp.max(soon).min(budget.max(least)))
    }

    /// The lock is signed: sign the refund, keep both, and only then broadcast.
    fn funded(
        &mut self,
        transaction: Transaction,
        fee: Amount,
        ctx: &Ctx<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let leg = self.role.gives();
        self.asked = false;
        // What has changed meanwhile stops it; what the wallet made is not what was asked for, either.
        let Some(contract) = self.contract(leg).filter(|_| self.leg(leg).funding.is_none() && self.may_lock(ctx))
        else {
            effects.push(Effect::Release { leg, transaction });
            return Ok(());
        };
        if fee > self.max_lock_fee {
            return Err(Refusal::FeeTooHigh { fee, limit: self.max_lock_fee });
        }
        let amount = self.offer.leg(leg).amount;
        let vout = contract.find_in(&transaction, amount)?.ok_or(Refusal::WrongLock)?;
        if transaction.output.get(vout as usize).is_none_or(|output| output.value != amount) {
            return Err(Refusal::WrongLock);
        }
        let outpoint = bitcoin::OutPoint { txid: transaction.compute_txid(), vout };
        let state = self.leg_mut(leg);
        state.lock = Some(Lock { outpoint, amount, at: None });
        state.funding = Some(transaction.clone());
        let refund = self.build(leg, Path::Refund, ctx)?;
        self.leg_mut(leg).refund = refund.map(|claim| claim.transaction);
        effects.push(Effect::Broadcast { leg, transaction });
        Ok(())
    }

    fn redeem(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let (gives, gets) = (self.role.gives(), self.role.gets());
        let Some(secret) = self.known_secret(ctx).filter(|_| self.is_unspent(gets)) else { return Ok(()) };
        let is_ordered = !self.by_hand || self.orders.redeem;
        let needed = margins::reveal_seconds(&self.offer.leg(gets).chain);
        let time_is_short = self.seconds_left(gets, ctx) < needed;
        let may = match self.role {
            Role::Initiator if self.revealed => true,
            Role::Initiator => {
                let refunding = self.leg(gives).claim.is_some() || self.leg(gives).taken.is_some();
                is_ordered && self.is_deep(gets) && !time_is_short && self.is_current(ctx) && !refunding
            }
            // With a refund on its way both spends of this person's lock wait for a block, and only one of them makes the
            // other's coins this person's. The chain says which, unless there is no time to wait for it.
            Role::Participant => match self.leg(gives).taken {
                Some(taken) => taken.with_secret && (is_ordered || time_is_short),
                None => (is_ordered && self.leg(gives).claim.is_none()) || time_is_short,
            },
        };
        if may {
            self.revealed |= self.role == Role::Initiator;
            self.secret = Some(secret);
            self.claim(gets, Path::Redeem(secret), ctx, effects)?;
        }
        Ok(())
    }

    fn refund(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let leg = self.role.gives();
        let is_ordered = !self.by_hand || self.orders.refund;
        let is_expired = self.leg(leg).tip.median_time > self.offer.leg(leg).expiry;
        // Who knows no secret need not know how the other chain stands.
        let is_current = ctx.chain(leg).is_current && (!self.is_secret_out() || self.is_current(ctx));
        if self.is_unspent(leg) && is_expired && is_ordered && is_current && !self.may_take_the_others() {
            self.claim(leg, Path::Refund, ctx, effects)?;
        }
        Ok(())
    }

    /// The other's coins are here or can be taken with a secret that is out: then one's own are not taken back.
    fn may_take_the_others(&self) -> bool {
        let gets = self.leg(self.role.gets());
        let is_gone = match gets.taken {
            Some(taken) => !taken.with_secret && gets.confirmations(taken.at) >= margins::REORG_DEPTH,
            None => gets.lock.is_none_or(|lock| lock.at.is_none()),
        };
        self.is_secret_out() && !is_gone
    }

    fn is_secret_out(&self) -> bool {
        match self.role {
            Role::Initiator => self.revealed,
            Role::Participant => self.secret.is_some(),
        }
    }

    /// Broadcasts this person's spend of a leg, made or raised if it is time to.
    fn claim(&mut self, leg: Leg, path: Path, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        if let Some(claim) = self.build(leg, path, ctx)? {
            effects.push(Effect::Broadcast { leg, transaction: claim.transaction.clone() });
            self.leg_mut(leg).claim = Some(claim);
        }
        Ok(())
    }

    /// The spend of a leg as it should be now: the one that there is, or one that pays more. `None` if it cannot pay for
    /// its relay.
    fn build(&self, leg: Leg, path: Path, ctx: &Ctx<'_>) -> Result<Option<Claim>, Refusal> {
        let state = self.leg(leg);
        let (Some(contract), Some(lock)) = (self.contract(leg), state.lock) else { return Ok(None) };
        let with_secret = matches!(path, Path::Redeem(_));
        let spends_it = |claim: &&Claim| {
            let first = claim.transaction.input.first();
            claim.with_secret == with_secret && first.is_some_and(|input| input.previous_output == lock.outpoint)
        };
        let old = state.claim.as_ref().filter(spends_it);
        let weight = contract.spend_weight(path, &state.destination)?;
        let (tip, estimates) = (state.tip.height, ctx.chain(leg).estimates);
        let deadline = self.deadline(leg, path, ctx);
        let start = starting_rate(tip, Some(deadline), estimates, ctx.policy);
        let (since, start, deadline) = old.map_or((tip, start, deadline), |old| (old.since, old.start, old.deadline));
        let budget = percent(lock.amount, ctx.policy.budget_percent);
        let urgency = Urgency { since, start, deadline: Some(deadline), budget, weight };
        let Some(rate) = urgency.rate(tip, estimates, ctx.policy) else { return Ok(old.cloned()) };
        let fee = fee_at(rate, weight);
        if let Some(old) = old
            && (fee < replacement_fee(old.fee, weight) || rate <= rate_of(old.fee, weight))
        {
            return Ok(Some(old.clone()));
        }
        let key = ctx.keys.key(&self.nonce, leg);
        let spend = Spend { outpoint: lock.outpoint, amount: lock.amount, path, to: &state.destination, fee };
        let transaction = contract.spend(&spend, &key)?;
        Ok(Some(Claim { transaction, with_secret, fee, since, start, deadline }))
    }

    /// The height by which a spend should have paid its whole budget.
    fn deadline(&self, leg: Leg, path: Path, ctx: &Ctx<'_>) -> Height {
        let blocks = match path {
            Path::Redeem(_) => self.seconds_left(leg, ctx) / u64::from(self.offer.leg(leg).chain.spacing.max(1)),
            Path::Refund => u64::from(REFUND_PATIENCE),
        };
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).max(1);
        Height(self.leg(leg).tip.height.0.saturating_add(blocks))
    }

    fn end(&mut self, ctx: &Ctx<'_>) {
        let (gives, gets) = (self.role.gives(), self.role.gets());
        let finally = |leg: Leg, with_secret: bool| {
            let state = self.leg(leg);
            let taken = state.taken.filter(|taken| taken.with_secret == with_secret);
            taken.is_some_and(|taken| state.confirmations(taken.at) >= FINAL_DEPTH)
        };
        let is_replaced = {
            let state = self.leg(gives);
            state.replaced.is_some_and(|at| state.confirmations(at) >= FINAL_DEPTH)
        };
        let is_too_late = self.offer.check_time(ctx.now, self.seconds_to_lock()).is_err();
        self.outcome = if finally(gets, true) {
            Some(Outcome::Swapped)
        } else if finally(gives, false) {
            Some(Outcome::Refunded)
        } else if finally(gives, true) && finally(gets, false) {
            Some(Outcome::Lost)
        } else if is_replaced || (self.leg(gives).funding.is_none() && is_too_late) {
            Some(Outcome::NothingLocked)
        } else {
            None
        };
    }
}
