//! All crossings of one owner, and the rates that they are quoted by.
//!
//! ```text
//!   ask ──► Opening ──► Waiting ── held in full ──► Paying ── preimage ──► Settling ──► Ended(Crossed)
//!                                                    └── records lost ──► InDoubt ── run out ──► Ended(Unknown)
//!              │           │                          │
//!              │           │ not paid in time,        │ failed for good,
//!              │           │ no time, no room         │ or never begun
//!              └───────────┴──────────────────────────┴──► GivingUp ──► Ended(GivenBack)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CrossingOutbox, margins,
    node::{Ctx, Effect, Incoming, Key, NodeNow, Order, Outgoing, PaymentRecords},
    rate::{Rate, RateError},
    refusal::Refusal,
    state::{Ask, Begun, Crossing, Held, Outcome, Pair, Reason, State},
};
use crate::{
    types::{CltvExpiry, Msat, PaymentHash, UnixTime},
    wire::Feature,
};

/// Quotes that may wait to be paid at once: each is looked at again and again until it expires.
pub const MAX_WAITING: usize = 100;

/// Payments that may be under way at once, or given back: each holds an HTLC on either network.
pub const MAX_UNDER_WAY: usize = 100;

/// Crossings that have ended and are kept to be shown; the oldest are forgotten first. Somebody whose payments always fail
/// leaves a row of some 2 kB each.
const KEPT: usize = 2_000;

/// The longest invoice that is taken, in bytes: one with the most hints that a wallet makes has half of it.
pub const MAX_INVOICE_BYTES: usize = 8_192;

/// A part of the outgoing payment is on average at least so many times what is worth a claim.
const WORTH_A_PART: u64 = 8;
/// Parts that an outgoing payment is split into at most, as any payment.
const MOST_PARTS: u64 = 16;

/// All crossings, and the rates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crossings {
    pub(super) rates: BTreeMap<Pair, Rate>,
    pub(super) all: BTreeMap<PaymentHash, Crossing>,
    /// Crossings that wait, and whose invoice was seen unpaid since the program was started: what these books say of them is all
    /// that ever was. Not kept, since older books would say the same.
    pub(super) seen_unpaid: BTreeSet<PaymentHash>,
}

impl Crossings {
    /// The rates that are set.
    pub fn rates(&self) -> impl Iterator<Item = (&Pair, &Rate)> {
        self.rates.iter()
    }

    /// Every crossing that is open, and the latest that have ended.
    pub fn all(&self) -> impl Iterator<Item = &Crossing> {
        self.all.values()
    }

    /// One of them.
    pub fn get(&self, hash: &PaymentHash) -> Option<&Crossing> {
        self.all.get(hash)
    }

    /// What is under way between two networks, in millisatoshi of the outgoing one.
    pub fn held(&self, pair: &Pair) -> Msat {
        let under_way = self.all.values().filter(|crossing| crossing.pair == *pair && crossing.is_under_way());
        Msat(under_way.fold(0, |sum: u64, crossing| sum.saturating_add(crossing.amount.0)))
    }

    /// Sets the owner's price, or takes it away: then quotes that nobody has paid yet are given up. Those that were made by
    /// another price stand until they expire.
    pub fn set_rate(&mut self, pair: Pair, rate: Option<Rate>) -> Result<CrossingOutbox, RateError> {
        let mut outbox = CrossingOutbox::default();
        match rate {
            Some(rate) => {
                rate.check()?;
                outbox.put(Key::Rate(pair), rate.encode());
                self.rates.insert(pair, rate);
            }
            None => {
                outbox.delete(Key::Rate(pair));
                self.rates.remove(&pair);
                let waiting = |crossing: &&mut Crossing| crossing.pair == pair && crossing.is_waiting();
                for crossing in self.all.values_mut().filter(waiting) {
                    crossing.state = State::GivingUp { reason: Reason::RateOff };
                    save(crossing, &mut outbox);
                }
            }
        }
        Ok(outbox)
    }

    /// Somebody asks for an invoice to be paid from the other network. Asking again is answered with what there is already.
    pub fn ask(&mut self, ask: Ask, ctx: &Ctx) -> Result<CrossingOutbox, Refusal> {
        let Ask { pair, text, invoice, amount, known } = ask;
        if text.len() > MAX_INVOICE_BYTES {
            return Err(Refusal::TooLong);
        }
        let amount = match (invoice.amount, amount) {
            (Some(asked), Some(given)) if asked != given => return Err(Refusal::OtherAmount { asked, given }),
            (Some(amount), _) | (None, Some(amount)) if amount > Msat::ZERO => amount,
            (_, _) => return Err(Refusal::NoAmount),
        };
        if let Some(old) = self.all.get(&invoice.payment_hash) {
            return match &old.state {
                State::Ended(outcome) => Err(Refusal::Ended(outcome.clone())),
                _ if (&old.invoice, old.pair, old.amount) == (&text, pair, amount) => Ok(CrossingOutbox::default()),
                _ => Err(Refusal::Known),
            };
        }
        let rate = self.rates.get(&pair).copied().ok_or(Refusal::NoRate)?;
        let here = |node: Option<NodeNow>, name| node.filter(|node| node.is_current).ok_or(Refusal::Away(name));
        let (incoming, outgoing) = (here(ctx.incoming, "payer's")?, here(ctx.outgoing, "payee's")?);
        if invoice.payee == outgoing.node_id {
            return Err(Refusal::OwnInvoice);
        }
        if !matches!(known, Outgoing::NeverBegun(_)) {
            return Err(Refusal::Known);
        }
        if amount > rate.most {
            return Err(Refusal::TooMuch { amount, most: rate.most });
        }
        let price = rate.price(amount).ok_or(Refusal::TooMuch { amount, most: rate.most })?;
        for (amount, least) in [(amount, outgoing.least_claim), (price, incoming.least_claim)] {
            if amount < least {
                return Err(Refusal::TooLittle { amount, least });
            }
        }
        let held = Msat(self.held(&pair).0.saturating_add(ctx.swapped.0));
        if held.checked_add(amount).is_none_or(|all| all > rate.most_held) {
            return Err(Refusal::TooMuchHeld { held, most: rate.most_held });
        }
        let (waiting, busy) = self.counts();
        if waiting >= MAX_WAITING {
            return Err(Refusal::TooManyWaiting);
        }
        if busy >= MAX_UNDER_WAY {
            return Err(Refusal::TooManyUnderWay);
        }
        let left = invoice.expires_at().0.saturating_sub(ctx.now.0).saturating_sub(margins::PAY_SECONDS);
        if left < margins::LEAST_QUOTE_SECONDS {
            return Err(Refusal::ExpiresSoon);
        }
        let wanted = invoice.min_final_cltv_expiry_delta;
        let hold_blocks = margins::hold_blocks(wanted, &incoming.as_incoming(), &outgoing.as_outgoing())
            .map_err(|blocks| Refusal::Clocks { blocks })?;
        let parts = amount.0 / outgoing.least_claim.0.saturating_mul(WORTH_A_PART).max(1);
        let takes_parts = invoice.features.supports(Feature::BasicMpp);
        let crossing = Crossing {
            hash: invoice.payment_hash,
            pair,
            invoice_expires: invoice.expires_at(),
            final_blocks: wanted,
            amount,
            price,
            most_fee: rate.most_route_fee(amount),
            most_parts: if takes_parts { u16::try_from(parts.clamp(1, MOST_PARTS)).unwrap_or(1) } else { 1 },
            hold_blocks,
            created: ctx.now,
            expires: UnixTime(ctx.now.0.saturating_add(left.min(margins::QUOTE_SECONDS))),
            request: None,
            held: None,
            state: State::Opening,
            invoice: text,
        };
        let mut outbox = CrossingOutbox::default();
        save(&crossing, &mut outbox);
        order(&crossing, crossing.orders(), &mut outbox);
        self.all.insert(crossing.hash, crossing);
        Ok(outbox)
    }

    /// Time has passed, or the program was started: asks for what a crossing waits for.
    pub fn tick(&mut self, hash: &PaymentHash, ctx: &Ctx) -> CrossingOutbox {
        self.change(hash, |crossing, _, outbox| {
            if crossing.state == State::Opening && ctx.now > crossing.expires {
                // It may have been made all the same.
                crossing.state = State::GivingUp { reason: Reason::NotPaid };
            }
            order(crossing, crossing.orders(), outbox);
        })
    }

    /// The held invoice is made.
    pub fn opened(&mut self, hash: &PaymentHash, request: String) -> CrossingOutbox {
        self.change(hash, |crossing, _, _| {
            if crossing.state == State::Opening {
                crossing.request = Some(request);
                crossing.state = State::Waiting;
            }
        })
    }

    /// The incoming node makes no such invoice: it has another one with this hash. The crossing is forgotten.
    pub fn not_opened(&mut self, hash: &PaymentHash) -> CrossingOutbox {
        self.change(hash, |crossing, _, _| {
            if crossing.state == State::Opening {
                crossing.state = State::Ended(Outcome::GivenBack(Reason::NotPaid));
            }
        })
    }

    /// What the incoming node says of the held invoice.
    pub fn incoming(&mut self, hash: &PaymentHash, said: Incoming, ctx: &Ctx) -> CrossingOutbox {
        if said == Incoming::Open && self.all.get(hash).is_some_and(|crossing| crossing.state == State::Waiting) {
            self.seen_unpaid.insert(*hash);
        }
        self.change(hash, |crossing, room, outbox| match (&crossing.state, said) {
            (State::Waiting, Incoming::Held { amount, expiry, since }) => {
                let held = Held { amount, expiry };
                match decide(crossing, held, since, room, ctx) {
                    Decision::Wait => {}
                    Decision::GiveBack(reason) => {
                        crossing.state = State::GivingUp { reason };
                        order(crossing, crossing.orders(), outbox);
                    }
                    Decision::Pay { last_expiry, records } => {
                        let deadline = UnixTime(ctx.now.0.saturating_add(margins::PAY_SECONDS));
                        crossing.held = Some(held);
                        let begun = Begun::Unknown(records);
                        crossing.state = State::Paying { last_expiry, deadline, begun };
                        let pay = Order::Pay(crossing.pay_order(last_expiry, deadline));
                        order(crossing, vec![pay, Order::LookAtOutgoing], outbox);
                    }
                }
            }
            (State::Waiting, Incoming::Canceled | Incoming::Missing) => {
                crossing.state = State::Ended(Outcome::GivenBack(Reason::NotPaid));
            }
            (State::GivingUp { reason }, Incoming::Canceled | Incoming::Missing) => {
                crossing.state = State::Ended(Outcome::GivenBack(reason.clone()));
            }
            (State::InDoubt, Incoming::Canceled | Incoming::Missing) => {
                crossing.state = State::Ended(Outcome::Unknown);
            }
            (State::Waiting | State::InDoubt | State::GivingUp { .. }, Incoming::Settled) => {
                crossing.state = State::Ended(Outcome::TakenElsewhere);
            }
            (State::Settling { preimage, fee }, Incoming::Settled) => {
                crossing.state = State::Ended(Outcome::Crossed { preimage: *preimage, fee: *fee });
            }
            (State::Settling { preimage, fee }, Incoming::Canceled | Incoming::Missing) => {
                crossing.state = State::Ended(Outcome::Lost { preimage: *preimage, fee: *fee });
            }
            (State::GivingUp { reason }, Incoming::Open | Incoming::Held { .. }) if reason.follows_from_here_alone() => {
                order(crossing, vec![Order::LookAtOutgoing], outbox);
            }
            (State::Waiting, Incoming::Open)
            | (State::InDoubt | State::Settling { .. } | State::GivingUp { .. }, Incoming::Open | Incoming::Held { .. })
            // What is held says nothing while it is not known what has become of the outgoing payment.
            | (State::Opening | State::Paying { .. } | State::Ended(_), _) => {}
        })
    }

    /// What the outgoing node says of the payment.
    pub fn outgoing(&mut self, hash: &PaymentHash, said: Outgoing, ctx: &Ctx) -> CrossingOutbox {
        self.change(hash, |crossing, _, outbox| {
            let paying = match &crossing.state {
                State::Paying { last_expiry, deadline, begun } => Some((*last_expiry, *deadline, *begun)),
                State::InDoubt => None,
                State::GivingUp { reason } if reason.follows_from_here_alone() => {
                    confirm_giving_up(crossing, said, outbox);
                    return;
                }
                State::Opening | State::Waiting | State::Settling { .. } | State::GivingUp { .. } | State::Ended(_) => {
                    return;
                }
            };
            match (said, paying) {
                (Outgoing::NeverBegun(records), Some((last_expiry, deadline, Begun::Unknown(noted))))
                    if records.continues(&noted) =>
                {
                    if ctx.now.0 > deadline.0.saturating_add(margins::FENCE_SECONDS) {
                        crossing.state = State::GivingUp { reason: Reason::NotBegun };
                    } else {
                        if ctx.now <= deadline {
                            let pay = Order::Pay(crossing.pay_order(last_expiry, deadline));
                            order(crossing, vec![pay], outbox);
                        }
                        return;
                    }
                }
                (Outgoing::NeverBegun(_), Some(_)) => crossing.state = State::InDoubt,
                (Outgoing::UnderWay, Some((last_expiry, deadline, Begun::Unknown(_)))) => {
                    crossing.state = State::Paying { last_expiry, deadline, begun: Begun::Seen };
                    return;
                }
                (Outgoing::Paid { preimage, fee }, _) if preimage.hash() == crossing.hash => {
                    crossing.state = State::Settling { preimage, fee };
                }
                (Outgoing::Failed { reason }, _) => {
                    crossing.state = State::GivingUp { reason: Reason::PaymentFailed { reason } };
                }
                // Without the preimage nothing is known.
                (Outgoing::NeverBegun(_) | Outgoing::UnderWay | Outgoing::Paid { .. }, None) => {
                    // Perhaps what is held has run out.
                    order(crossing, vec![Order::LookAtIncoming], outbox);
                    return;
                }
                (Outgoing::UnderWay | Outgoing::Paid { .. }, Some(_)) => return,
            }
            order(crossing, crossing.orders(), outbox);
        })
    }

    /// Changes one crossing, and keeps what has changed.
    fn change(
        &mut self,
        hash: &PaymentHash,
        change: impl FnOnce(&mut Crossing, &Room, &mut CrossingOutbox),
    ) -> CrossingOutbox {
        let mut outbox = CrossingOutbox::default();
        let Some(old) = self.all.get(hash) else { return outbox };
        let (_, busy) = self.counts();
        let room = Room {
            rate: self.rates.get(&old.pair).copied(),
            held: self.held(&old.pair),
            busy,
            was_seen_unpaid: self.seen_unpaid.contains(hash),
        };
        let mut next = old.clone();
        change(&mut next, &room, &mut outbox);
        if next == *old {
            return outbox;
        }
        if !next.is_waiting() {
            self.seen_unpaid.remove(hash);
        }
        if next.state == State::Ended(Outcome::GivenBack(Reason::NotPaid)) {
            // Nothing ever moved: nobody needs to know of it.
            outbox.delete(Key::Crossing(*hash));
            self.all.remove(hash);
            return outbox;
        }
        save(&next, &mut outbox);
        self.all.insert(*hash, next);
        self.forget_the_oldest(&mut outbox);
        outbox
    }

    fn forget_the_oldest(&mut self, outbox: &mut CrossingOutbox) {
        let over = || self.all.values().filter(|crossing| crossing.is_over());
        if over().count() <= KEPT {
            return;
        }
        let oldest = over().min_by_key(|crossing| crossing.created).map(|crossing| crossing.hash);
        if let Some(oldest) = oldest {
            outbox.delete(Key::Crossing(oldest));
            self.all.remove(&oldest);
        }
    }

    /// How many wait to be paid, and how many are under way or given back.
    fn counts(&self) -> (usize, usize) {
        let open = || self.all.values().filter(|crossing| !crossing.is_over());
        let waiting = open().filter(|crossing| crossing.is_waiting()).count();
        (waiting, open().count() - waiting)
    }
}

/// What there is between two networks.
struct Room {
    rate: Option<Rate>,
    held: Msat,
    busy: usize,
    was_seen_unpaid: bool,
}

/// What becomes of a payment that is held in full.
enum Decision {
    Wait,
    Pay { last_expiry: CltvExpiry, records: PaymentRecords },
    GiveBack(Reason),
}

fn decide(crossing: &Crossing, held: Held, since: UnixTime, room: &Room, ctx: &Ctx) -> Decision {
    let Some(rate) = room.rate else { return Decision::GiveBack(Reason::RateOff) };
    let here = |node: Option<NodeNow>| node.filter(|node| node.is_current);
    let (Some(incoming), Some(outgoing)) = (here(ctx.incoming), here(ctx.outgoing)) else {
        // These books may be older than a payment to the payee: then what is held waits for the node that knows.
        let waited = ctx.now.0.saturating_sub(since.0);
        let is_impatient = waited >= margins::HELD_PATIENCE_SECONDS && room.was_seen_unpaid;
        return if is_impatient { Decision::GiveBack(Reason::Away) } else { Decision::Wait };
    };
    let all = room.held.checked_add(ctx.swapped).and_then(|held| held.checked_add(crossing.amount));
    if all.is_none_or(|all| all > rate.most_held) || room.busy >= MAX_UNDER_WAY {
        return Decision::GiveBack(Reason::Full);
    }
    if ctx.now > crossing.invoice_expires {
        return Decision::GiveBack(Reason::InvoiceExpired);
    }
    let left = held.expiry.0.saturating_sub(incoming.tip.0);
    let limit = margins::outgoing_limit(left, &incoming.as_incoming(), &outgoing.as_outgoing());
    if held.amount < crossing.price || limit < crossing.final_blocks {
        return Decision::GiveBack(Reason::TooLate);
    }
    let last_expiry = CltvExpiry(outgoing.tip.0.saturating_add(limit));
    Decision::Pay { last_expiry, records: outgoing.records }
}

/// Gives back what is held if the outgoing node confirms that the payee is not paid. An older data directory may not know that it
/// is.
fn confirm_giving_up(crossing: &mut Crossing, said: Outgoing, outbox: &mut CrossingOutbox) {
    match said {
        Outgoing::NeverBegun(_) | Outgoing::Failed { .. } => {
            // What has become of it is looked at with the next tick.
            order(crossing, vec![Order::GiveUp], outbox);
            return;
        }
        Outgoing::Paid { preimage, fee } if preimage.hash() == crossing.hash => {
            crossing.state = State::Settling { preimage, fee };
        }
        Outgoing::UnderWay | Outgoing::Paid { .. } => {
            crossing.state = State::Paying { last_expiry: CltvExpiry(0), deadline: UnixTime(0), begun: Begun::Seen };
        }
    }
    order(crossing, crossing.orders(), outbox);
}

fn save(crossing: &Crossing, outbox: &mut CrossingOutbox) {
    outbox.put(Key::Crossing(crossing.hash), crossing.encode());
}

fn order(crossing: &Crossing, orders: Vec<Order>, outbox: &mut CrossingOutbox) {
    for order in orders {
        outbox.emit(Effect { hash: crossing.hash, pair: crossing.pair, order });
    }
}
