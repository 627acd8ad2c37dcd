//! What is known of a submarine swap, and its one way in.

use bitcoin::{Amount, constants::ChainHash};

use super::{
    across::Paces,
    event::{Ctx, Event, SubmarineOutbox},
    terms::{Acceptance, Clock, Direction, Offer},
    time::{Moment, PaymentChain, TimeLeft},
};
use crate::{
    keys::curve,
    payment::InvoiceNetwork,
    swap::{
        Chain, Contract, Key, LegState, Outcome, Refusal, RestoreError, Role, Start, SwapKeys, TermsError, margins,
        terms::check_chain,
    },
    types::{CltvExpiry, Height, Msat, PaymentHash, PaymentPreimage, UnixTime},
};

/// One person's side of a submarine swap. It survives by its row alone: see [`Submarine::restore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submarine {
    pub(super) role: Role,
    pub(super) offer: Offer,
    pub(super) acceptance: Option<Acceptance>,
    /// From which this person's secrets follow.
    pub(super) nonce: [u8; 32],
    /// Confirmations that the other's lock needs.
    pub(super) depth: u32,
    /// The most that the lock's transaction may pay.
    pub(super) max_lock_fee: Amount,
    /// The most that the payment's route may cost.
    pub(super) max_route_fee: Msat,
    pub(super) created: UnixTime,
    /// The initiator has ordered to begin.
    pub(super) is_begun: bool,
    /// Nothing more shall be locked or paid.
    pub(super) is_given_up: bool,
    /// Known to a participant once it was seen.
    pub(super) secret: Option<PaymentPreimage>,
    /// The initiator of a swap out has made a redeem durable: it may be in anybody's hands.
    pub(super) revealed: bool,
    pub(super) lightning: Lightning,
    pub(super) outcome: Option<Outcome>,
    /// The contract.
    pub(super) leg: LegState,
    /// The wallet was asked for the lock, or the payment begun, since the last block. Not kept: after a restart it is asked
    /// again.
    pub(super) asked: bool,
}

/// The Lightning leg as this person sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lightning {
    /// This person pays.
    Pays(Payment),
    /// This person is paid.
    Receives(Receipt),
}

/// How the payment of the hash stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payment {
    /// It was not begun.
    Unpaid,
    /// It is on its way.
    InFlight,
    /// It has arrived, and this came back for it.
    Paid(PaymentPreimage),
    /// No HTLC of it is left, and none was taken.
    Failed,
}

/// How the invoice of the hash stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Nothing has been paid.
    Open,
    /// All of it is here and held; the first of its HTLCs expires then.
    Held(CltvExpiry),
    /// The secret was given for it.
    Settled,
    /// The secret was given for it, and a channel's close took it back all the same.
    TakenBack,
    /// It was given up: what was held went back, and nothing more will be taken.
    Canceled,
}

/// Where a submarine swap is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The initiator waits for the participant's acceptance.
    Quoted,
    /// The participant waits for the initiator's lock, or payment.
    Accepted,
    /// The payment is tried; with a lock of the other that is not there or not deep enough, or a recipient who holds it.
    Paying,
    /// The wallet makes the lock, or a block has yet to take it.
    Locking,
    /// One's own coins are locked; the payment is not here, or the secret is not known.
    Locked,
    /// The claim on the other's coins is on its way.
    Redeeming,
    /// The other's coins are here; not deep enough to be forgotten.
    Redeemed,
    /// The payment is here.
    Settled,
    /// The claim on one's own coins is on its way.
    Refunding,
    /// One's own coins are back; not deep enough to be forgotten.
    Refunded,
    /// The other has both, the coins and the payment; not deep enough to be forgotten.
    Lost,
    /// Nothing follows.
    Ended(Outcome),
}

/// What a person says when a swap begins.
#[derive(Clone, Debug)]
pub struct Request {
    /// Fresh randomness.
    pub nonce: [u8; 32],
    /// Confirmations that the other's lock needs.
    pub depth: u32,
    /// The most that the transaction with the lock may pay in fees.
    pub max_lock_fee: Amount,
    /// The most that the payment's route may cost.
    pub max_route_fee: Msat,
    /// Where coins come to this person, and how far the chain is.
    pub start: Start,
    /// What invoices of the payment's chain begin with.
    pub network: InvoiceNetwork,
    /// The payment's chain: the same, unless the swap is across two.
    pub payment: PaymentChain,
}

/// What the initiator wants.
#[derive(Clone, Debug)]
pub struct Bargain {
    /// Which way.
    pub direction: Direction,
    /// On the chain.
    pub coins: Amount,
    /// Over Lightning.
    pub payment: Msat,
    /// Where coins are locked.
    pub chain: Chain,
    /// Where the payment is, and for how long the lock is there.
    pub span: Span,
}

/// Where the payment is, and for how long the lock is there; `None`: for as long as leaves time for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The payment is on the same chain. Blocks until the lock goes back.
    One {
        /// How many.
        refund_blocks: Option<u32>,
    },
    /// The payment is on another one. Seconds until the lock goes back.
    Two {
        /// Which.
        payment_chain: Chain,
        /// How many.
        refund_seconds: Option<u64>,
    },
}

/// What somebody who accepts believes the bargain to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Believed {
    /// Which way.
    pub direction: Direction,
    /// Where coins are locked, and how much.
    pub coins: (Chain, Amount),
    /// Where the payment is, and how much.
    pub payment: (Chain, Msat),
}

impl Bargain {
    /// Blocks until the lock goes back, with both on one chain.
    fn blocks(&self, wanted: Option<u32>, depth: u32) -> u32 {
        let usual = match self.direction {
            Direction::In => margins::pay_blocks(&self.chain)
                .saturating_add(margins::ROUTE_BLOCKS)
                .saturating_add(depth.saturating_mul(2)),
            Direction::Out => margins::lock_blocks(&self.chain, depth),
        };
        wanted.unwrap_or(usual.saturating_add(margins::AGREE_BLOCKS))
    }

    /// Seconds until the lock goes back, with the payment elsewhere.
    fn across_seconds(&self, wanted: Option<u64>, paces: &Paces, depth: u32) -> u64 {
        wanted.unwrap_or_else(|| match self.direction {
            Direction::In => paces.usual_in_seconds(depth),
            Direction::Out => paces.usual_out_seconds(depth),
        })
    }

    fn paces(&self, payment_chain: &Chain, request: &Request) -> Paces {
        Paces::new(&self.chain, request.start.spacing, payment_chain, request.payment.measured)
    }

    /// Seconds until the lock goes back, as far as the chain's rules tell.
    pub fn seconds(&self, request: &Request) -> u64 {
        match &self.span {
            Span::One { refund_blocks } => {
                let blocks = self.blocks(*refund_blocks, request.depth);
                u64::from(blocks).saturating_mul(u64::from(self.chain.spacing))
            }
            Span::Two { payment_chain, refund_seconds } => {
                self.across_seconds(*refund_seconds, &self.paces(payment_chain, request), request.depth)
            }
        }
    }

    /// `min_final_cltv_expiry_delta` of the invoice.
    pub fn final_cltv(&self, request: &Request) -> u32 {
        match (self.direction, &self.span) {
            (Direction::In, Span::One { .. } | Span::Two { .. }) => margins::IN_FINAL_CLTV,
            (Direction::Out, Span::One { refund_blocks }) => {
                self.blocks(*refund_blocks, request.depth).saturating_add(margins::hold_gap(&self.chain))
            }
            (Direction::Out, Span::Two { payment_chain, .. }) => {
                self.paces(payment_chain, request).usual_hold_blocks(self.seconds(request))
            }
        }
    }

    fn clock(&self, request: &Request, now: UnixTime) -> Clock {
        match self.span {
            Span::One { refund_blocks } => {
                let tip = request.start.tip.height;
                Clock::Height(Height(tip.0.saturating_add(self.blocks(refund_blocks, request.depth))))
            }
            Span::Two { payment_chain, .. } => {
                // The later of two clocks, as it is judged by.
                let now = now.max(request.start.tip.median_time);
                Clock::Time { refund: UnixTime(now.0.saturating_add(self.seconds(request))), payment_chain }
            }
        }
    }
}

impl Request {
    fn moment(&self, now: UnixTime) -> Moment<'_> {
        let Start { tip, spacing, .. } = &self.start;
        Moment { now, coins: tip, coins_measured: *spacing, payment: self.payment }
    }
}

impl Submarine {
    /// The initiator's side: makes the secret and the offer. `invoice` is this person's, held, for the secret's hash, if the
    /// direction is in. Nothing is locked or paid by it.
    pub fn quote(
        bargain: &Bargain,
        invoice: String,
        request: Request,
        now: UnixTime,
        keys: &dyn SwapKeys,
    ) -> Result<(Self, SubmarineOutbox), TermsError> {
        let hash = keys.secret(&request.nonce).hash();
        let offer = Offer {
            direction: bargain.direction,
            hash,
            chain: bargain.chain,
            coins: bargain.coins,
            clock: bargain.clock(&request, now),
            payment: bargain.payment,
            final_cltv: bargain.final_cltv(&request),
            key: curve::public_key(&keys.key(&hash, bargain.direction.contract_leg())),
            invoice,
        };
        offer.check()?;
        TimeLeft { offer: &offer, at: request.moment(now) }.check_begin(request.depth)?;
        if offer.direction == Direction::In {
            offer.check_invoice(&offer.invoice, request.network)?;
        }
        Ok(Self::begin(Role::Initiator, offer, None, request, now))
    }

    /// The participant's side: looks at the offer, and answers it. `believed` is what this person believes the
    /// bargain to be; `invoice` is this person's, held, for the offer's hash, if the direction is out. Nothing is locked or
    /// paid by it.
    pub fn accept(
        offer: Offer,
        believed: &Believed,
        invoice: String,
        request: Request,
        now: UnixTime,
        keys: &dyn SwapKeys,
    ) -> Result<(Self, SubmarineOutbox), TermsError> {
        offer.check()?;
        let Believed { direction, coins: (coins_chain, coins), payment: (payment_chain, payment) } = *believed;
        for (chain, wanted) in [(offer.chain, coins_chain), (offer.payment_chain(), payment_chain)] {
            check_chain(chain, wanted)?;
        }
        if offer.direction != direction {
            return Err(TermsError::WrongDirection);
        }
        for (wanted, got) in [(coins, offer.coins), (payment.floor_sat(), offer.payment.floor_sat())] {
            if wanted != got {
                return Err(TermsError::WrongAmount { wanted, got });
            }
        }
        let left = TimeLeft { offer: &offer, at: request.moment(now) };
        left.check_begin(request.depth)?;
        if direction == Direction::Out {
            left.check_hold()?;
        }
        let key = curve::public_key(&keys.key(&offer.hash, direction.contract_leg()));
        let acceptance = Acceptance { offer: offer.digest(), key, invoice };
        acceptance.check(&offer, request.network)?;
        Ok(Self::begin(Role::Participant, offer, Some(acceptance), request, now))
    }

    fn begin(
        role: Role,
        offer: Offer,
        acceptance: Option<Acceptance>,
        request: Request,
        now: UnixTime,
    ) -> (Self, SubmarineOutbox) {
        let lightning = if offer.direction.locks() == role {
            Lightning::Receives(Receipt::Open)
        } else {
            Lightning::Pays(Payment::Unpaid)
        };
        let swap = Self {
            role,
            acceptance,
            nonce: request.nonce,
            depth: request.depth.max(1),
            max_lock_fee: request.max_lock_fee,
            max_route_fee: request.max_route_fee,
            created: now,
            is_begun: false,
            is_given_up: false,
            secret: None,
            revealed: false,
            lightning,
            outcome: None,
            leg: LegState::new(request.start),
            asked: false,
            offer,
        };
        let mut outbox = SubmarineOutbox::default();
        outbox.put(Key::Submarine(swap.id()), swap.encode());
        (swap, outbox)
    }

    /// What a backup has kept, where no swap with its hash is known. It goes on, but for what nobody knows to have been done:
    /// what was not locked or paid by then is not now. If coins were locked later, the blocks show it, and they come back.
    pub fn recover(row: &[u8]) -> Result<(Self, SubmarineOutbox), RestoreError> {
        let mut swap = Self::restore(row)?;
        swap.is_given_up = true;
        let mut outbox = SubmarineOutbox::default();
        outbox.put(Key::Submarine(swap.id()), swap.encode());
        Ok((swap, outbox))
    }

    /// Handles one event. After a refusal nothing has changed.
    pub fn handle(&mut self, event: Event<'_>, ctx: &Ctx<'_>) -> Result<SubmarineOutbox, Refusal> {
        let mut outbox = SubmarineOutbox::default();
        let mut next = self.clone();
        let mut effects = Vec::new();
        next.apply(event, ctx, &mut effects)?;
        let row = next.encode();
        if row != self.encode() {
            outbox.put(Key::Submarine(self.id()), row);
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

    /// Whether this person gives coins for a payment; if not, a payment for coins.
    pub fn gives_coins(&self) -> bool {
        self.offer.direction.locks() == self.role
    }

    /// What was agreed.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The participant's answer, once it is known.
    pub fn acceptance(&self) -> Option<&Acceptance> {
        self.acceptance.as_ref()
    }

    /// Confirmations that the other's lock needs.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The most that the payment's route may cost.
    pub fn max_route_fee(&self) -> Msat {
        self.max_route_fee
    }

    /// When it was quoted or accepted.
    pub fn created(&self) -> UnixTime {
        self.created
    }

    /// The contract on the chain.
    pub fn leg(&self) -> &LegState {
        &self.leg
    }

    /// The payment.
    pub fn lightning(&self) -> Lightning {
        self.lightning
    }

    /// The output; `None` until both have named their keys.
    pub fn contract(&self) -> Option<Contract> {
        self.acceptance.as_ref().map(|acceptance| self.offer.contract(acceptance))
    }

    /// Where this person gets, where it gives, and how much of the latter, as a rate between two networks has it; `None` if both are
    /// on one.
    pub fn exchanged(&self) -> Option<(ChainHash, ChainHash, Msat)> {
        let Clock::Time { payment_chain, .. } = self.offer.clock else { return None };
        let (coins, payment) = (self.offer.chain.hash, payment_chain.hash);
        Some(if self.gives_coins() {
            // More than there can be counts as all that can be said.
            (payment, coins, Msat::from_sat(self.offer.coins).unwrap_or(Msat(u64::MAX)))
        } else {
            (coins, payment, self.offer.payment)
        })
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
                let is_remembered = match self.offer.clock {
                    Clock::Height(refund) => {
                        let end = refund.0.saturating_add(margins::mempool_blocks(&self.offer.chain));
                        self.leg.tip.height.0 <= end
                    }
                    Clock::Time { refund, .. } => {
                        self.leg.tip.median_time.0 <= refund.0.saturating_add(margins::MEMPOOL_SECONDS)
                    }
                };
                let may_come = self.acceptance.is_some() && self.gives_coins() && self.leg.funding.is_none();
                may_come && is_remembered
            }
            Some(Outcome::Swapped | Outcome::Refunded | Outcome::Lost) => false,
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        if let Some(outcome) = self.outcome {
            return Phase::Ended(outcome);
        }
        let leg = &self.leg;
        let is_redeemed = leg.taken.is_some_and(|taken| taken.with_secret);
        let is_back = leg.replaced.is_some() || leg.taken.is_some_and(|taken| !taken.with_secret);
        match self.lightning {
            Lightning::Receives(Receipt::Settled) => Phase::Settled,
            Lightning::Receives(Receipt::TakenBack | Receipt::Canceled) if is_redeemed => Phase::Lost,
            Lightning::Receives(_) if is_back => Phase::Refunded,
            Lightning::Receives(_) if leg.claim.is_some() => Phase::Refunding,
            Lightning::Receives(_) if leg.lock.is_some_and(|lock| lock.at.is_some()) => Phase::Locked,
            Lightning::Receives(_) if leg.lock.is_some() || self.is_begun => Phase::Locking,
            Lightning::Pays(_) if is_redeemed => Phase::Redeemed,
            Lightning::Pays(Payment::Paid(_)) if leg.taken.is_some() => Phase::Lost,
            Lightning::Pays(_) if leg.claim.is_some() => Phase::Redeeming,
            Lightning::Pays(Payment::InFlight | Payment::Paid(_)) => Phase::Paying,
            Lightning::Pays(Payment::Unpaid | Payment::Failed) if self.is_begun => Phase::Paying,
            Lightning::Receives(_) | Lightning::Pays(_) => match self.acceptance {
                None => Phase::Quoted,
                Some(_) => Phase::Accepted,
            },
        }
    }
}
