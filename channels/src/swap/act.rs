//! What a swap does next. Everything here follows from what is known, and is asked again after every event: so a restart
//! or a reorganisation needs no case of its own.
//!
//! ```text
//!   apply ──► note the event ──► lock? ──► redeem? ──► refund? ──► ended?
//! ```

use bitcoin::{Amount, Transaction};

use super::{
    claim::{self, Terms},
    contract::Path,
    event::{Ctx, Effect, Event, Refusal},
    leg::{Claim, Watched},
    margins,
    state::{Outcome, Swap},
    terms::{Chain, Leg, Role},
};
use crate::{
    margins::FINAL_DEPTH,
    types::{Height, PaymentPreimage, UnixTime},
};

impl Swap {
    pub(super) fn apply(&mut self, event: Event<'_>, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        self.now = ctx.now;
        let (mut is_due, mut refunds) = (true, true);
        match event {
            Event::Initiate(acceptance) => self.initiate(acceptance, ctx)?,
            Event::Participate => self.participate()?,
            Event::Redeem { secret } => self.order_redeem(secret, ctx)?,
            Event::Refund => self.order_refund(ctx)?,
            Event::Cancel => self.cancel(ctx)?,
            Event::Funded { transaction, fee } => return self.funded(transaction, fee, ctx, effects),
            Event::NotFunded => {
                is_due = false;
                self.asked = false;
            }
            Event::Block { leg, block } => {
                // A refund waits for the tick that follows: before it the mempool has been asked for the secret.
                refunds = false;
                let watched = self.watched(leg);
                let seen = self.leg_mut(leg).connect(&block, watched.as_ref())?;
                self.note_secret(seen);
                self.asked &= leg != self.role.gives();
            }
            Event::Reorganized { leg, to } => {
                // A secret that was seen stays known.
                self.leg_mut(leg).disconnect(to);
                is_due = false;
            }
            Event::Mempool { leg, transaction } => {
                let seen =
                    self.contract(leg).and_then(|contract| self.leg_mut(leg).find_spend(&contract, transaction, None));
                is_due = self.secret.is_none() && seen.is_some();
                self.note_secret(seen);
            }
            Event::OwnLock(transaction) => {
                // What follows is decided by what is told next, be it that time has passed.
                is_due = false;
                let leg = self.role.gives();
                if let Some(watched) = self.watched(leg) {
                    self.leg_mut(leg).find_waiting(&watched, transaction)?;
                }
            }
            Event::Tick => {}
        }
        self.reopen();
        if is_due && self.outcome.is_none() {
            self.sign_refund(ctx)?;
            self.lock(ctx, effects)?;
            self.redeem(ctx, effects)?;
            if refunds {
                self.refund(ctx, effects)?;
            }
            self.end(ctx);
        }
        Ok(())
    }

    /// Nothing was locked, as far as an older data directory knew: here is the lock all the same.
    fn reopen(&mut self) {
        if self.outcome == Some(Outcome::NothingLocked) && self.leg(self.role.gives()).has_lock() {
            self.outcome = None;
        }
    }

    /// A secret that the chain shows. Only an initiator could show it first: an older data directory may not know that this
    /// person did.
    fn note_secret(&mut self, seen: Option<PaymentPreimage>) {
        self.secret = self.secret.or(seen);
        self.revealed |= self.role == Role::Initiator && seen.is_some();
    }

    fn watched(&self, leg: Leg) -> Option<Watched> {
        let (amount, is_own) = (self.offer.leg(leg).amount, leg == self.role.gives());
        self.contract(leg).map(|contract| Watched { contract, amount, is_own })
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
        self.offer.check_time(self.latest(ctx), self.seconds_to_lock(ctx))?;
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

    fn order_redeem(&mut self, secret: Option<PaymentPreimage>, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        self.must_run()?;
        if secret.is_some_and(|secret| secret.hash() != self.offer.hash) {
            return Err(Refusal::WrongSecret);
        }
        // The initiator's own is known, and saying it shows it to nobody.
        if self.role == Role::Participant {
            self.secret = self.secret.or(secret);
        }
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
            let needed = margins::reveal_seconds(&self.pace(gets, ctx));
            let left = self.seconds_left(gets, ctx);
            if left < needed {
                return Err(Refusal::TooLateToReveal { left, needed });
            }
        } else if !self.leg(gets).is_unspent() {
            return Err(Refusal::NotRedeemable);
        }
        self.orders.redeem = true;
        Ok(())
    }

    fn order_refund(&mut self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        self.must_run()?;
        let gives = self.role.gives();
        if !self.leg(gives).is_unspent() {
            return Err(Refusal::NothingToRefund);
        }
        let (expiry, median_time) = (self.offer.leg(gives).expiry, self.leg(gives).tip.median_time);
        if median_time <= expiry {
            return Err(Refusal::NotExpired { expiry, median_time });
        }
        if self.may_take_the_others() {
            return Err(Refusal::SecretShown);
        }
        if !self.knows_enough_to_refund(ctx) {
            return Err(Refusal::NotCurrent);
        }
        self.orders.refund = true;
        Ok(())
    }

    fn cancel(&mut self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        self.must_run()?;
        let gives = self.role.gives();
        if self.leg(gives).funding.is_some() {
            return Err(Refusal::Locked);
        }
        // In a block that was not looked at there may be a lock that an older data directory does not know.
        if self.acceptance.is_some() && !ctx.chain(gives).is_fed {
            return Err(Refusal::NotCurrent);
        }
        self.outcome = Some(Outcome::NothingLocked);
        Ok(())
    }

    fn must_run(&self) -> Result<(), Refusal> {
        if self.outcome.is_some() { Err(Refusal::Ended) } else { Ok(()) }
    }

    /// A leg's chain, no faster than it is.
    fn pace(&self, leg: Leg, ctx: &Ctx<'_>) -> Chain {
        self.offer.leg(leg).chain.no_faster_than(ctx.chain(leg).spacing)
    }

    /// Seconds that this person needs until the inner expiry to lock.
    fn seconds_to_lock(&self, ctx: &Ctx<'_>) -> u64 {
        let inner = self.pace(Leg::Inner, ctx);
        match self.role {
            Role::Initiator => margins::initiate_seconds(&self.pace(Leg::Outer, ctx), &inner, self.depth),
            Role::Participant => margins::lock_seconds(&inner, self.depth),
        }
    }

    /// The latest of all clocks.
    fn latest(&self, ctx: &Ctx<'_>) -> UnixTime {
        ctx.now.max(self.outer.tip.median_time).max(self.inner.tip.median_time)
    }

    /// Until a contract expires, by the later of two clocks: what may be refunded soon counts as if it were refunded.
    fn seconds_left(&self, leg: Leg, ctx: &Ctx<'_>) -> u64 {
        let latest = ctx.now.max(self.leg(leg).tip.median_time);
        self.offer.leg(leg).expiry.0.saturating_sub(latest.0)
    }

    fn is_current(&self, ctx: &Ctx<'_>) -> bool {
        ctx.outer.is_current && ctx.inner.is_current
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
        let in_time = self.offer.check_time(self.latest(ctx), self.seconds_to_lock(ctx)).is_ok();
        self.outcome.is_none()
            && self.acceptance.is_some()
            && is_ordered
            && other_is_good
            && in_time
            && self.is_current(ctx)
    }

    fn lock(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let leg = self.role.gives();
        if let Some(funding) = self.leg(leg).funding.clone() {
            if self.leg(leg).lock.is_some_and(|lock| lock.at.is_none()) {
                effects.push(if self.is_unwanted(ctx) {
                    let (amount, limit) = (self.offer.leg(leg).amount, self.max_lock_fee);
                    let fee = self.leg_mut(leg).recall_fee(&funding, limit, amount, ctx.chain(leg).estimates);
                    Effect::Recall { leg, lock: funding, to: self.leg(leg).destination.clone(), fee }
                } else {
                    Effect::Broadcast { leg, transaction: funding }
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

    /// Whether a lock that waits for a block is to be called back.
    ///
    /// A participant's lock that a block takes after the outer expiry is a gift: the initiator takes it with the secret and
    /// has her own coins back. So is one that a block takes when hers has left the chain. So once it is too late for her to
    /// show the secret in time, or her lock is in no block, a lock that waits is called back. An initiator's late lock costs
    /// nothing but time: nobody answers it. One whose secret buys the other's coins is the other's.
    fn is_unwanted(&self, ctx: &Ctx<'_>) -> bool {
        let (gives, gets) = (self.role.gives(), self.role.gets());
        // In a block that was not looked at, the lock may stand; there may be the other's.
        if self.role == Role::Initiator || self.may_take_the_others() || !ctx.chain(gives).is_fed {
            return false;
        }
        let is_late = self.seconds_left(gives, ctx) < margins::reveal_seconds(&self.pace(gives, ctx));
        is_late || (ctx.chain(gets).is_fed && !self.leg(gets).is_unspent())
    }

    /// The refund of a lock that this machine has not made, but found in a block.
    fn sign_refund(&mut self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        let leg = self.role.gives();
        if self.leg(leg).lacks_refund() {
            let refund = self.build(leg, Path::Refund, ctx)?;
            self.leg_mut(leg).refund = refund.map(|claim| claim.transaction);
        }
        Ok(())
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
        self.leg_mut(leg).note_lock(&contract, amount, &transaction, fee)?;
        self.sign_refund(ctx)?;
        effects.push(Effect::Broadcast { leg, transaction });
        Ok(())
    }

    fn redeem(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let (gives, gets) = (self.role.gives(), self.role.gets());
        let Some(secret) = self.known_secret(ctx).filter(|_| self.leg(gets).is_unspent()) else { return Ok(()) };
        let is_ordered = !self.by_hand || self.orders.redeem;
        let needed = margins::reveal_seconds(&self.pace(gets, ctx));
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
        // By hand, too, it is made before the initiator can take both.
        let is_ordered = !self.by_hand || self.orders.refund || self.refund_is_urgent(ctx);
        let is_expired = self.contract(leg).is_some_and(|contract| contract.is_expired(&self.leg(leg).tip));
        let is_known = self.knows_enough_to_refund(ctx);
        if self.leg(leg).is_unspent() && is_expired && is_ordered && is_known && !self.may_take_the_others() {
            self.claim(leg, Path::Refund, ctx, effects)?;
        }
        Ok(())
    }

    /// Who knows no secret need not know how the other chain stands, and needs no certainty of the own one: a refund of what
    /// is spent or not expired is merely refused. With a secret it matters whether the other's coins are still there.
    fn knows_enough_to_refund(&self, ctx: &Ctx<'_>) -> bool {
        !self.is_secret_out() || (ctx.outer.is_fed && ctx.inner.is_fed)
    }

    /// The other's coins are here or can be taken with a secret that is out: then one's own are not taken back.
    pub(super) fn may_take_the_others(&self) -> bool {
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
        let Some(contract) = self.contract(leg) else { return Ok(None) };
        let terms = Terms {
            contract: &contract,
            path,
            key: ctx.keys.key(&self.id(), leg),
            deadline: self.deadline(leg, path, ctx),
            is_fed: ctx.chain(leg).is_fed,
        };
        Ok(claim::build(self.leg(leg), &terms, ctx.chain(leg).estimates, ctx.policy)?)
    }

    /// The height by which a spend should have paid its whole budget; `None` while nobody else can take the coins without
    /// giving theirs.
    fn deadline(&self, leg: Leg, path: Path, ctx: &Ctx<'_>) -> Option<Height> {
        let within = |seconds: u64| {
            let blocks = seconds / u64::from(self.pace(leg, ctx).spacing.max(1));
            u32::try_from(blocks).unwrap_or(u32::MAX).max(1)
        };
        let blocks = match path {
            Path::Redeem(_) => within(self.seconds_left(leg, ctx)),
            // The other's coins are gone, and the secret is out: whoever has it may take these.
            Path::Refund if self.is_secret_out() => margins::CONFIRMATION_BUDGET,
            Path::Refund if self.refund_is_urgent(ctx) => within(self.seconds_left(Leg::Outer, ctx)),
            Path::Refund => return None,
        };
        Some(Height(self.leg(leg).tip.height.0.saturating_add(blocks)))
    }

    /// After the outer expiry the initiator can take the participant's lock and has her own back.
    fn refund_is_urgent(&self, ctx: &Ctx<'_>) -> bool {
        let needed = margins::reveal_seconds(&self.pace(Leg::Outer, ctx));
        self.role == Role::Participant && self.seconds_left(Leg::Outer, ctx) < needed
    }

    fn end(&mut self, ctx: &Ctx<'_>) {
        let (gives, gets) = (self.role.gives(), self.role.gets());
        let finally = |leg: Leg, with_secret: bool| self.leg(leg).is_taken(with_secret, FINAL_DEPTH);
        let is_replaced = self.leg(gives).is_replaced(FINAL_DEPTH);
        let is_too_late = self.offer.check_time(self.latest(ctx), self.seconds_to_lock(ctx)).is_err();
        // In a block that was not looked at there may be a lock that an older data directory does not know.
        let nothing_is_locked =
            self.leg(gives).funding.is_none() && (self.acceptance.is_none() || ctx.chain(gives).is_fed);
        self.outcome = if finally(gets, true) {
            Some(Outcome::Swapped)
        } else if finally(gives, false) {
            Some(Outcome::Refunded)
        } else if finally(gives, true) && finally(gets, false) {
            Some(Outcome::Lost)
        } else if is_replaced || (nothing_is_locked && is_too_late) {
            Some(Outcome::NothingLocked)
        } else {
            None
        };
    }
}
