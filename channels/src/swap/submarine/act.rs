//! What a submarine swap does next. Everything here follows from what is known, and is asked again after every event: so a
//! restart or a reorganisation needs no case of its own.
//!
//! ```text
//!   apply ──► note the event ──┬─ gives coins:  lock? ──► settle? ──► refund? ──► give the payment back? ──┬──► ended?
//!                              └─ pays:         pay? ──► redeem? ─────────────────────────────────────────┘
//! ```

use bitcoin::{Amount, Transaction};

use super::{
    event::{Ctx, Effect, Event},
    state::{Lightning, Payment, Receipt, Submarine},
    terms::{Acceptance, Direction},
    time::{Moment, TimeLeft},
};
use crate::{
    margins::FINAL_DEPTH,
    swap::{
        Outcome, Refusal, Role,
        claim::{self, Terms},
        contract::Path,
        leg::{Claim, Watched},
        margins,
    },
    types::{CltvExpiry, Height, PaymentPreimage},
};

impl Submarine {
    pub(super) fn apply(&mut self, event: Event<'_>, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let (mut is_due, mut refunds) = (true, true);
        match event {
            Event::Initiate(acceptance) => self.initiate(acceptance, ctx)?,
            Event::Cancel => self.cancel(ctx)?,
            Event::Funded { transaction, fee } => return self.funded(transaction, fee, ctx, effects),
            Event::NotFunded => {
                is_due = false;
                self.asked = false;
            }
            Event::Block(block) => {
                // A refund waits for the tick that follows: before it the mempool has been asked for the secret.
                refunds = false;
                let watched = self.watched();
                let seen = self.leg.connect(&block, watched.as_ref())?;
                self.note_secret(seen);
                self.asked = false;
            }
            Event::Reorganized(to) => {
                // A secret that was seen stays known.
                self.leg.disconnect(to);
                is_due = false;
            }
            Event::Mempool(transaction) => {
                let contract = self.contract();
                let seen = contract.and_then(|contract| self.leg.find_spend(&contract, transaction, None));
                is_due = self.secret.is_none() && seen.is_some();
                self.note_secret(seen);
            }
            Event::Payment(payment) => is_due = self.note_payment(payment),
            Event::Receipt(receipt) => is_due = self.note_receipt(receipt, ctx),
            Event::OwnLock(transaction) => {
                // What follows is decided by what is told next: how the payment stands, or that time has passed.
                is_due = false;
                if let Some(watched) = self.watched() {
                    self.leg.find_waiting(&watched, transaction)?;
                }
            }
            Event::Tick => {}
        }
        self.reopen();
        if is_due && self.outcome.is_none() {
            match self.lightning {
                Lightning::Receives(receipt) => {
                    self.sign_refund(ctx)?;
                    self.lock(receipt, ctx, effects)?;
                    self.settle(receipt, ctx, effects);
                    if refunds {
                        self.refund(receipt, ctx, effects)?;
                    }
                    self.give_back(receipt, ctx, effects);
                }
                Lightning::Pays(payment) => {
                    self.pay(payment, ctx, effects);
                    self.redeem(payment, ctx, effects)?;
                }
            }
            self.end(ctx);
        }
        Ok(())
    }

    /// Nothing was locked, as far as an older data directory knew: here is the lock all the same.
    fn reopen(&mut self) {
        if self.outcome == Some(Outcome::NothingLocked) && self.gives_coins() && self.leg.has_lock() {
            self.outcome = None;
        }
    }

    /// A secret that the chain shows. Only an initiator who pays could show it there first: an older data directory may not
    /// know that this person did.
    fn note_secret(&mut self, seen: Option<PaymentPreimage>) {
        self.secret = self.secret.or(seen);
        self.revealed |= self.role == Role::Initiator && !self.gives_coins() && seen.is_some();
    }

    fn watched(&self) -> Option<Watched> {
        let (amount, is_own) = (self.offer.coins, self.gives_coins());
        self.contract().map(|contract| Watched { contract, amount, is_own })
    }

    fn initiate(&mut self, acceptance: Acceptance, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        if self.role != Role::Initiator {
            return Err(Refusal::NotInitiator);
        }
        self.must_run()?;
        acceptance.check(&self.offer, ctx.network)?;
        match &self.acceptance {
            Some(before) if *before != acceptance => return Err(Refusal::Initiated),
            Some(_) => return Ok(()),
            None => {}
        }
        self.time(ctx).check_begin(self.depth)?;
        self.acceptance = Some(acceptance);
        self.is_begun = true;
        Ok(())
    }

    fn cancel(&mut self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        self.must_run()?;
        match self.lightning {
            Lightning::Receives(_) if self.leg.funding.is_some() => return Err(Refusal::Locked),
            Lightning::Receives(_) if !self.knows_its_lock(ctx) => return Err(Refusal::NotCurrent),
            Lightning::Pays(Payment::InFlight | Payment::Paid(_)) => return Err(Refusal::Paying),
            Lightning::Receives(_) | Lightning::Pays(Payment::Unpaid | Payment::Failed) => {}
        }
        self.is_given_up = true;
        Ok(())
    }

    fn must_run(&self) -> Result<(), Refusal> {
        if self.outcome.is_some() || self.is_given_up { Err(Refusal::Ended) } else { Ok(()) }
    }

    /// Whether it is another than before. What was paid stays paid.
    fn note_payment(&mut self, payment: Payment) -> bool {
        let Lightning::Pays(before) = self.lightning else { return false };
        let is_final = matches!(before, Payment::Paid(_));
        let is_of_this = match payment {
            Payment::Paid(preimage) => preimage.hash() == self.id(),
            Payment::Unpaid | Payment::InFlight | Payment::Failed => true,
        };
        // Given up with the payment on its way is a swap of which only a backup was left: the payments of then are not known.
        let is_forgotten = self.is_given_up && before == Payment::InFlight && payment == Payment::Unpaid;
        if is_final || is_forgotten || !is_of_this || before == payment {
            return false;
        }
        self.lightning = Lightning::Pays(payment);
        if let Payment::Paid(preimage) = payment {
            self.secret = Some(preimage);
        }
        true
    }

    fn note_receipt(&mut self, receipt: Receipt, ctx: &Ctx<'_>) -> bool {
        let Lightning::Receives(before) = self.lightning else { return false };
        self.lightning = Lightning::Receives(receipt);
        match receipt {
            // Only now it is shown: an order to take the payment may have been refused.
            Receipt::Settled | Receipt::TakenBack if self.role == Role::Initiator => {
                self.secret = Some(ctx.keys.secret(&self.nonce));
            }
            Receipt::Open | Receipt::Held(_) | Receipt::Settled | Receipt::TakenBack | Receipt::Canceled => {}
        }
        before != receipt
    }

    /// How much time is left now.
    fn time<'a>(&'a self, ctx: &Ctx<'a>) -> TimeLeft<'a> {
        let (coins, coins_measured) = (&self.leg.tip, ctx.chain.spacing);
        TimeLeft { offer: &self.offer, at: Moment { now: ctx.now, coins, coins_measured, payment: ctx.payment } }
    }

    /// Whether the tips of the chains that it is about may be relied on.
    fn is_current(&self, ctx: &Ctx<'_>) -> bool {
        ctx.chain.is_current && self.time(ctx).payment_is_current()
    }

    fn is_expired(&self) -> bool {
        self.contract().is_some_and(|contract| contract.is_expired(&self.leg.tip))
    }

    // Whoever gives coins.

    /// In a block that was not looked at there may be a lock that an older data directory does not know.
    fn knows_its_lock(&self, ctx: &Ctx<'_>) -> bool {
        self.leg.funding.is_some() || self.acceptance.is_none() || ctx.chain.is_fed
    }

    fn may_lock(&self, receipt: Receipt, ctx: &Ctx<'_>) -> bool {
        let is_paid_for = match (self.role, receipt) {
            (Role::Initiator, Receipt::Open | Receipt::Held(_)) => self.is_begun,
            (Role::Participant, Receipt::Held(expiry)) => self.time(ctx).outlasts(expiry),
            (Role::Participant, Receipt::Open)
            | (Role::Initiator | Role::Participant, Receipt::Settled | Receipt::TakenBack | Receipt::Canceled) => false,
        };
        is_paid_for
            && self.outcome.is_none()
            && !self.is_given_up
            && !self.time(ctx).is_too_late_to_begin(self.depth)
            && self.is_current(ctx)
    }

    fn lock(&mut self, receipt: Receipt, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        if let Some(lock) = self.leg.funding.clone() {
            if self.leg.lock.is_some_and(|lock| lock.at.is_none()) {
                effects.push(if self.is_unwanted(receipt, ctx) {
                    let (amount, limit) = (self.offer.coins, self.max_lock_fee);
                    let fee = self.leg.recall_fee(&lock, limit, amount, ctx.chain.estimates);
                    Effect::Recall { lock, to: self.leg.destination.clone(), fee }
                } else {
                    Effect::Broadcast { transaction: lock }
                });
            }
            return Ok(());
        }
        let Some(contract) = self.contract() else { return Ok(()) };
        if !self.asked && self.may_lock(receipt, ctx) {
            self.asked = true;
            let (amount, max_fee) = (self.offer.coins, self.max_lock_fee);
            effects.push(Effect::Fund { script: contract.script_pubkey()?, amount, max_fee });
        }
        Ok(())
    }

    /// Whether a lock that waits for a block is to be called back.
    ///
    /// The lock of a swap out that a block takes after the payment went back is a gift: the initiator takes it with the
    /// secret. So once it is too late for the secret to be shown in time, or the payment is not held any more, or not for as long
    /// as the lock needs to come back since its chain has become faster, a lock that waits is called back. A late lock of a swap
    /// in costs nothing but time: nobody pays for it.
    fn is_unwanted(&self, receipt: Receipt, ctx: &Ctx<'_>) -> bool {
        // In a block that was not looked at, the lock may stand.
        if self.role == Role::Initiator || !ctx.chain.is_fed {
            return false;
        }
        match receipt {
            Receipt::Held(expiry) => {
                let time = self.time(ctx);
                self.secret.is_none() && !(time.may_redeem() && time.outlasts(expiry))
            }
            Receipt::Settled => false,
            Receipt::Open | Receipt::TakenBack | Receipt::Canceled => true,
        }
    }

    /// The refund of a lock that this machine has not made, but found in a block.
    fn sign_refund(&mut self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        if self.leg.lacks_refund() {
            self.leg.refund = self.build(Path::Refund, ctx)?.map(|claim| claim.transaction);
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
        self.asked = false;
        let may_lock = match self.lightning {
            Lightning::Receives(receipt) => self.leg.funding.is_none() && self.may_lock(receipt, ctx),
            Lightning::Pays(_) => false,
        };
        // What has changed meanwhile stops it.
        let Some(contract) = self.contract().filter(|_| may_lock) else {
            effects.push(Effect::Release { transaction });
            return Ok(());
        };
        if fee > self.max_lock_fee {
            return Err(Refusal::FeeTooHigh { fee, limit: self.max_lock_fee });
        }
        self.leg.note_lock(&contract, self.offer.coins, &transaction, fee)?;
        self.sign_refund(ctx)?;
        effects.push(Effect::Broadcast { transaction });
        Ok(())
    }

    /// Takes the payment that is held.
    fn settle(&self, receipt: Receipt, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) {
        let Receipt::Held(expiry) = receipt else { return };
        let preimage = match self.role {
            // Not without having given the coins, nor when they are about to come back, nor for what cannot be claimed any more.
            Role::Initiator => {
                let is_given = self.leg.is_unspent() && self.leg.claim.is_none() && !self.is_expired();
                let may_show = is_given && self.time(ctx).is_claimable(expiry) && self.is_current(ctx);
                may_show.then(|| ctx.keys.secret(&self.nonce))
            }
            Role::Participant => self.secret.filter(|_| self.may_settle(expiry, ctx)),
        };
        if let Some(preimage) = preimage {
            effects.push(Effect::Settle { preimage });
        }
    }

    /// With a refund on its way both spends of the lock wait for a block, and only one of them makes the payment this
    /// person's. The chain says which, unless there is no time to wait for it. Without a refund nothing has to be known of the
    /// chain: a stranger can make its tip doubtful, and the payment waits for nobody.
    fn may_settle(&self, expiry: CltvExpiry, ctx: &Ctx<'_>) -> bool {
        match self.leg.taken {
            Some(taken) => taken.with_secret,
            None => self.leg.claim.is_none() || (self.time(ctx).is_short(expiry) && ctx.chain.is_fed),
        }
    }

    fn refund(&mut self, receipt: Receipt, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        // It needs no certainty of the tip: a refund of what is spent or not expired is merely refused.
        if !self.leg.is_unspent() || !self.is_expired() {
            return Ok(());
        }
        match (receipt, self.role) {
            (Receipt::Settled, _) => Ok(()),
            // The payment is there to be taken: then the coins are the other's.
            (Receipt::Held(_), Role::Participant) if self.secret.is_some() => Ok(()),
            // First nobody can pay any more.
            (Receipt::Open | Receipt::Held(_), Role::Initiator) => {
                effects.push(Effect::CancelInvoice);
                Ok(())
            }
            (Receipt::Open | Receipt::Held(_), Role::Participant) | (Receipt::TakenBack | Receipt::Canceled, _) => {
                self.claim(Path::Refund, ctx, effects)
            }
        }
    }

    /// Gives the invoice up once the lock will not come, or is back for good. The initiator, who has not shown the secret, also
    /// gives back what it does not take any more.
    fn give_back(&self, receipt: Receipt, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) {
        let is_too_short = match (receipt, self.role) {
            (Receipt::Open, _) => false,
            (Receipt::Held(expiry), Role::Participant) => !self.time(ctx).outlasts(expiry),
            (Receipt::Held(expiry), Role::Initiator) => {
                if !self.time(ctx).is_claimable(expiry) {
                    effects.push(Effect::CancelInvoice);
                    return;
                }
                false
            }
            (Receipt::Settled | Receipt::TakenBack | Receipt::Canceled, _) => return,
        };
        let is_over = match self.leg.funding {
            None => {
                let is_too_late = self.time(ctx).is_too_late_to_begin(self.depth);
                let is_wanted = !self.is_given_up && !is_too_late && !is_too_short;
                !is_wanted && self.knows_its_lock(ctx)
            }
            Some(_) => self.leg.is_taken(false, margins::REORG_DEPTH) || self.leg.is_replaced(margins::REORG_DEPTH),
        };
        if is_over {
            effects.push(Effect::CancelInvoice);
        }
    }

    // Whoever pays.

    fn pay(&mut self, payment: Payment, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) {
        let Some(acceptance) = &self.acceptance else { return };
        let is_unpaid = matches!(payment, Payment::Unpaid | Payment::Failed);
        if !is_unpaid || self.asked || self.is_given_up || self.revealed || !self.is_current(ctx) {
            return;
        }
        let max_cltv = match self.offer.direction {
            Direction::In if self.leg.is_deep(self.depth) => self.time(ctx).pay_limit(),
            Direction::Out if self.is_begun && !self.is_too_late_to_pay(ctx) => {
                Some(self.offer.final_cltv.saturating_add(self.offer.route_blocks()))
            }
            Direction::In | Direction::Out => None,
        };
        let Some(max_cltv) = max_cltv else { return };
        let invoice = self.offer.invoice(acceptance).to_owned();
        self.asked = true;
        // On its way from the moment when it may be: what really became of it is told.
        self.lightning = Lightning::Pays(Payment::InFlight);
        effects.push(Effect::Pay { invoice, max_fee: self.max_route_fee, max_cltv });
    }

    fn is_too_late_to_pay(&self, ctx: &Ctx<'_>) -> bool {
        match self.offer.direction {
            Direction::In => self.time(ctx).pay_limit().is_none(),
            Direction::Out => self.time(ctx).is_too_late_to_begin(self.depth),
        }
    }

    fn redeem(&mut self, payment: Payment, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        if !self.leg.is_unspent() {
            return Ok(());
        }
        let secret = match self.role {
            // Paid for.
            Role::Participant => self.secret,
            Role::Initiator => {
                let is_paying = matches!(payment, Payment::InFlight | Payment::Paid(_));
                let in_time = self.time(ctx).may_redeem();
                let may_reveal = is_paying && in_time && self.leg.is_deep(self.depth) && ctx.chain.is_current;
                (self.revealed || may_reveal).then(|| ctx.keys.secret(&self.nonce))
            }
        };
        if let Some(secret) = secret {
            self.revealed |= self.role == Role::Initiator;
            self.secret = Some(secret);
            self.claim(Path::Redeem(secret), ctx, effects)?;
        }
        Ok(())
    }

    /// Broadcasts this person's spend of the contract, made or raised if it is time to.
    fn claim(&mut self, path: Path, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        if let Some(claim) = self.build(path, ctx)? {
            effects.push(Effect::Broadcast { transaction: claim.transaction.clone() });
            self.leg.claim = Some(claim);
        }
        Ok(())
    }

    fn build(&self, path: Path, ctx: &Ctx<'_>) -> Result<Option<Claim>, Refusal> {
        let Some(contract) = self.contract() else { return Ok(None) };
        let blocks = match path {
            Path::Redeem(_) => Some(self.time(ctx).blocks_to_redeem()),
            Path::Refund => self.refund_blocks(ctx),
        };
        let terms = Terms {
            contract: &contract,
            path,
            key: ctx.keys.key(&self.id(), self.offer.direction.contract_leg()),
            deadline: blocks.map(|blocks| Height(self.leg.tip.height.0.saturating_add(blocks.max(1)))),
            is_fed: ctx.chain.is_fed,
        };
        Ok(claim::build(&self.leg, &terms, ctx.chain.estimates, ctx.policy)?)
    }

    /// Blocks within which a refund should have paid its whole budget; `None` while nobody else can take the coins without
    /// giving the payment.
    fn refund_blocks(&self, ctx: &Ctx<'_>) -> Option<u32> {
        let Lightning::Receives(receipt) = self.lightning else { return None };
        match (receipt, self.role) {
            // The payment is gone, and the secret is out: whoever has it may take these.
            _ if self.secret.is_some() => Some(margins::CONFIRMATION_BUDGET),
            // Only this person has the secret.
            (_, Role::Initiator) => None,
            // Once the payment goes back, the initiator takes the coins for nothing.
            (Receipt::Held(expiry), Role::Participant) => self.time(ctx).blocks_to_refund(expiry),
            (Receipt::Open | Receipt::Settled | Receipt::TakenBack | Receipt::Canceled, Role::Participant) => {
                Some(margins::CONFIRMATION_BUDGET)
            }
        }
    }

    fn end(&mut self, ctx: &Ctx<'_>) {
        let (is_redeemed, is_refunded) = (self.leg.is_taken(true, FINAL_DEPTH), self.leg.is_taken(false, FINAL_DEPTH));
        let is_long_over = self.time(ctx).is_long_over();
        self.outcome = match self.lightning {
            Lightning::Receives(Receipt::Settled) => (is_redeemed || is_long_over).then_some(Outcome::Swapped),
            Lightning::Receives(Receipt::Open | Receipt::Held(_)) => None,
            Lightning::Receives(Receipt::TakenBack | Receipt::Canceled) => {
                if is_redeemed {
                    Some(Outcome::Lost)
                } else if is_refunded {
                    Some(Outcome::Refunded)
                } else if self.leg.is_replaced(FINAL_DEPTH) || (self.leg.funding.is_none() && self.knows_its_lock(ctx))
                {
                    Some(Outcome::NothingLocked)
                } else {
                    None
                }
            }
            Lightning::Pays(_) if is_redeemed => Some(Outcome::Swapped),
            Lightning::Pays(payment) => {
                let is_gone = is_refunded || (is_long_over && !self.leg.is_unspent() && self.leg.taken.is_none());
                let is_too_late = self.is_given_up || self.is_too_late_to_pay(ctx);
                match payment {
                    Payment::InFlight => (is_gone && self.is_given_up).then_some(Outcome::Lost),
                    Payment::Paid(_) => is_gone.then_some(Outcome::Lost),
                    Payment::Failed if self.revealed => is_gone.then_some(Outcome::Refunded),
                    Payment::Failed => is_too_late.then_some(Outcome::Refunded),
                    Payment::Unpaid => is_too_late.then_some(Outcome::NothingLocked),
                }
            }
        };
    }
}
