//! What is known of a swap, and its one way in.

use bitcoin::Amount;

use super::{
    contract::Contract,
    event::{Ctx, Event, Key, Refusal, SwapKeys, SwapOutbox},
    leg::{LegState, Lock, Start, Taken},
    margins,
    record::RestoreError,
    terms::{Acceptance, Chain, Leg, LegTerms, Offer, Role, TermsError, check_chain},
};
use crate::keys::curve;
use crate::types::{PaymentHash, PaymentPreimage, UnixTime};

/// One person's side of a swap. It survives by its row alone: see [`Swap::restore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    pub(super) role: Role,
    pub(super) offer: Offer,
    pub(super) acceptance: Option<Acceptance>,
    /// From which this person's secrets follow.
    pub(super) nonce: [u8; 32],
    pub(super) by_hand: bool,
    /// Confirmations that the other's lock needs.
    pub(super) depth: u32,
    /// The most that the lock's transaction may pay.
    pub(super) max_lock_fee: Amount,
    pub(super) created: UnixTime,
    pub(super) orders: Orders,
    /// Known to a participant once it was seen.
    pub(super) secret: Option<PaymentPreimage>,
    /// The initiator has made a redeem durable: it may be in anybody's hands.
    pub(super) revealed: bool,
    pub(super) outcome: Option<Outcome>,
    pub(super) outer: LegState,
    pub(super) inner: LegState,
    /// The wallet was asked for the lock since the last block, and has not answered. Not kept: after a restart it is
    /// asked again, and what it had made before was never broadcast.
    pub(super) asked: bool,
    /// The time of the last event. Not kept.
    pub(super) now: UnixTime,
}

/// What a person has ordered by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub lock: bool,
    pub redeem: bool,
    pub refund: bool,
}

/// How a swap has ended for this person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other's coins are here, finally.
    Swapped,
    /// One's own coins are back, finally.
    Refunded,
    /// No coins were locked, and none will be.
    NothingLocked,
    /// The other has both: the margins were not enough.
    Lost,
}

/// Where a swap is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The initiator waits for the participant's acceptance.
    Quoted,
    /// The participant waits for the initiator's lock to be deep enough.
    Accepted,
    /// The wallet makes the lock, or a block has yet to take it.
    Locking,
    /// One's own coins are locked; the other's are not, or not deep enough.
    Locked,
    /// The other's coins can be taken now.
    Redeemable,
    /// One's own coins can be taken back now.
    Refundable,
    /// The claim on the other's coins is on its way.
    Redeeming,
    /// The other's coins are here; not deep enough to be forgotten.
    Redeemed,
    /// The claim on one's own coins is on its way.
    Refunding,
    /// One's own coins are back; not deep enough to be forgotten.
    Refunded,
    /// Nothing follows.
    Ended(Outcome),
}

/// What a person says when a swap begins.
#[derive(Clone, Debug)]
pub struct Request {
    /// Fresh randomness.
    pub nonce: [u8; 32],
    /// Nothing is locked, redeemed or refunded without a command.
    pub by_hand: bool,
    /// Confirmations that the other's lock needs.
    pub depth: u32,
    /// The most that the transaction with the lock may pay in fees.
    pub max_lock_fee: Amount,
    /// Where coins of the initiator's chain come to this person, and how far this chain is.
    pub outer: Start,
    /// Where coins of the participant's chain come to this person, and how far this chain is.
    pub inner: Start,
}

/// What the initiator wants to trade.
#[derive(Clone, Copy, Debug)]
pub struct Trade {
    /// Goes to the participant.
    pub give: Amount,
    /// On this chain.
    pub give_on: Chain,
    /// Comes to the initiator.
    pub get: Amount,
    /// On that chain.
    pub get_on: Chain,
    /// Seconds until the initiator's coins come back.
    pub outer_seconds: u64,
    /// Seconds until the participant's coins come back.
    pub inner_seconds: u64,
}

/// Clocks of two people may differ by so much, in seconds, when it is judged for how long coins are locked.
const LOCKED_SLACK: u64 = 3600;

/// What both sides ask of an offer, on the chains as they are.
fn check(offer: &Offer, request: &Request, now: UnixTime) -> Result<(), TermsError> {
    offer.check()?;
    let outer = offer.outer.chain.no_faster_than(request.outer.spacing);
    let inner = offer.inner.chain.no_faster_than(request.inner.spacing);
    offer.check_gap(&outer, &inner)?;
    offer.check_time(now, margins::initiate_seconds(&outer, &inner, request.depth))
}

impl Swap {
    /// The initiator's side: makes the secret and the offer. Nothing is locked by it.
    pub fn quote(
        trade: Trade,
        request: Request,
        now: UnixTime,
        keys: &dyn SwapKeys,
    ) -> Result<(Self, SwapOutbox), TermsError> {
        let hash = keys.secret(&request.nonce).hash();
        let key = |leg| curve::public_key(&keys.key(&hash, leg));
        let leg =
            |chain, amount, seconds: u64| LegTerms { chain, amount, expiry: UnixTime(now.0.saturating_add(seconds)) };
        let offer = Offer {
            hash,
            outer: leg(trade.give_on, trade.give, trade.outer_seconds),
            inner: leg(trade.get_on, trade.get, trade.inner_seconds),
            refund_key: key(Leg::Outer),
            redeem_key: key(Leg::Inner),
        };
        check(&offer, &request, now)?;
        Ok(Self::begin(Role::Initiator, offer, None, request, now))
    }

    /// The participant's side: looks at the offer, and answers it. `give` and `get` are what this person believes the trade
    /// to be, on the chains that their own nodes follow; `locked_for` is for how many seconds their coins may be locked.
    /// Nothing is locked by it.
    pub fn accept(
        offer: Offer,
        give: (Chain, Amount),
        get: (Chain, Amount),
        locked_for: u64,
        request: Request,
        now: UnixTime,
        keys: &dyn SwapKeys,
    ) -> Result<(Self, SwapOutbox), TermsError> {
        offer.check()?;
        for (leg, (chain, amount)) in [(&offer.outer, get), (&offer.inner, give)] {
            check_chain(leg.chain, chain)?;
            if leg.amount != amount {
                return Err(TermsError::WrongAmount { wanted: amount, got: leg.amount });
            }
        }
        check(&offer, &request, now)?;
        let (seconds, most) = (offer.inner.expiry.0.saturating_sub(now.0), locked_for);
        if seconds > most.saturating_add(LOCKED_SLACK) {
            return Err(TermsError::LockedTooLong { seconds, most });
        }
        let key = |leg| curve::public_key(&keys.key(&offer.hash, leg));
        let acceptance = Acceptance { offer: offer.digest(), redeem_key: key(Leg::Outer), refund_key: key(Leg::Inner) };
        acceptance.check(&offer)?;
        Ok(Self::begin(Role::Participant, offer, Some(acceptance), request, now))
    }

    fn begin(
        role: Role,
        offer: Offer,
        acceptance: Option<Acceptance>,
        request: Request,
        now: UnixTime,
    ) -> (Self, SwapOutbox) {
        let swap = Self {
            role,
            offer,
            acceptance,
            nonce: request.nonce,
            by_hand: request.by_hand,
            depth: request.depth.max(1),
            max_lock_fee: request.max_lock_fee,
            created: now,
            orders: Orders::default(),
            secret: None,
            revealed: false,
            outcome: None,
            outer: LegState::new(request.outer),
            inner: LegState::new(request.inner),
            asked: false,
            now,
        };
        let mut outbox = SwapOutbox::default();
        outbox.put(Key::Swap(offer.hash), swap.encode());
        (swap, outbox)
    }

    /// What a backup has kept, where no swap with its hash is known. It goes on, but for what nobody knows to have been done:
    /// coins that were not locked by then are not locked now. If they were locked later, the blocks show it, and it goes on too.
    pub fn recover(row: &[u8]) -> Result<(Self, SwapOutbox), RestoreError> {
        let mut swap = Self::restore(row)?;
        if swap.outcome.is_none() && swap.leg(swap.role.gives()).funding.is_none() {
            swap.outcome = Some(Outcome::NothingLocked);
        }
        let mut outbox = SwapOutbox::default();
        outbox.put(Key::Swap(swap.id()), swap.encode());
        Ok((swap, outbox))
    }

    /// Handles one event. After a refusal nothing has changed.
    pub fn handle(&mut self, event: Event<'_>, ctx: &Ctx<'_>) -> Result<SwapOutbox, Refusal> {
        let mut outbox = SwapOutbox::default();
        let mut next = self.clone();
        let mut effects = Vec::new();
        next.apply(event, ctx, &mut effects)?;
        let row = next.encode();
        if row != self.encode() {
            outbox.put(Key::Swap(self.id()), row);
        }
        effects.into_iter().for_each(|effect| outbox.emit(effect));
        *self = next;
        Ok(outbox)
    }

    /// The hash of the secret names a swap.
    pub fn id(&self) -> PaymentHash {
        self.offer.hash
    }

    /// Which side this person is on.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What was agreed.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The participant's answer, once it is known.
    pub fn acceptance(&self) -> Option<&Acceptance> {
        self.acceptance.as_ref()
    }

    /// Whether it waits for commands.
    pub fn is_by_hand(&self) -> bool {
        self.by_hand
    }

    /// Confirmations that the other's lock needs.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// When it was quoted or accepted.
    pub fn created(&self) -> UnixTime {
        self.created
    }

    /// What is known of a chain.
    pub fn leg(&self, leg: Leg) -> &LegState {
        match leg {
            Leg::Outer => &self.outer,
            Leg::Inner => &self.inner,
        }
    }

    pub(super) fn leg_mut(&mut self, leg: Leg) -> &mut LegState {
        match leg {
            Leg::Outer => &mut self.outer,
            Leg::Inner => &mut self.inner,
        }
    }

    /// The output of a leg; `None` until both have named their keys.
    pub fn contract(&self, leg: Leg) -> Option<Contract> {
        self.acceptance.as_ref().map(|acceptance| self.offer.contract(leg, acceptance))
    }

    /// The secret, as far as others may know it: what a participant has seen, or an initiator has shown.
    pub fn shown_secret(&self) -> Option<PaymentPreimage> {
        self.secret
    }

    /// How it has ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether it has to be told what happens: it is under way; or it has ended with nothing locked, and a lock that an older
    /// data directory does not know may still come: then it goes on.
    pub fn is_followed(&self) -> bool {
        match self.outcome {
            None => true,
            Some(Outcome::NothingLocked) => {
                let (leg, terms) = (self.leg(self.role.gives()), self.offer.leg(self.role.gives()));
                let end = terms.expiry.0.saturating_add(margins::MEMPOOL_SECONDS);
                self.acceptance.is_some() && leg.funding.is_none() && leg.tip.median_time.0 <= end
            }
            Some(Outcome::Swapped | Outcome::Refunded | Outcome::Lost) => false,
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        let (gives, gets) = (self.leg(self.role.gives()), self.leg(self.role.gets()));
        if let Some(outcome) = self.outcome {
            return Phase::Ended(outcome);
        }
        if gets.taken.is_some_and(|taken| self.is_own(&taken, self.role.gets())) {
            return Phase::Redeemed;
        }
        if gives.replaced.is_some() || gives.taken.is_some_and(|taken| !taken.with_secret) {
            return Phase::Refunded;
        }
        if gets.claim.is_some() {
            return Phase::Redeeming;
        }
        if gives.claim.is_some() {
            return Phase::Refunding;
        }
        match (gives.lock, &self.acceptance) {
            (None, None) => Phase::Quoted,
            (None, Some(_)) if self.role == Role::Participant => Phase::Accepted,
            (None, Some(_)) | (Some(Lock { at: None, .. }), _) => Phase::Locking,
            (Some(_), _) if self.is_redeemable() => Phase::Redeemable,
            (Some(_), _) if self.is_refundable() => Phase::Refundable,
            (Some(_), _) => Phase::Locked,
        }
    }

    /// Whether a command to redeem is taken, as far as it depends on the swap.
    fn is_redeemable(&self) -> bool {
        let gets = self.role.gets();
        let terms = self.offer.leg(gets);
        match self.role {
            Role::Participant => self.secret.is_some() && self.leg(gets).is_unspent(),
            Role::Initiator if self.revealed => self.leg(gets).is_unspent(),
            Role::Initiator => {
                let latest = self.now.max(self.leg(gets).tip.median_time);
                let left = terms.expiry.0.saturating_sub(latest.0);
                self.is_deep(gets) && left >= margins::reveal_seconds(&terms.chain)
            }
        }
    }

    /// Whether a command to refund is taken, as far as it depends on the swap.
    fn is_refundable(&self) -> bool {
        let gives = self.role.gives();
        let is_expired = self.contract(gives).is_some_and(|contract| contract.is_expired(&self.leg(gives).tip));
        is_expired && self.leg(gives).is_unspent() && !self.may_take_the_others()
    }

    /// Whether a spend of a leg is one that only this person can make.
    pub(super) fn is_own(&self, taken: &Taken, leg: Leg) -> bool {
        taken.with_secret == (leg == self.role.gets())
    }

    /// Whether a contract's output is in a block, unspent, and so many blocks deep as this person wants it.
    pub(super) fn is_deep(&self, leg: Leg) -> bool {
        self.leg(leg).is_deep(self.depth)
    }
}
