//! Payments that we make: one durable state machine for each payment hash.
//!
//! ```text
//!   start ──► Pending ── FindRoutes ──► attempts, an HTLC each ──┬── all failed, none left to try ──► Failed(reason)
//!                ▲                                               │
//!                └────────── some failed, time is left ──────────┤
//!                                                                └── any fulfilled ──► Succeeded(preimage)
//! ```
//!
//! Promises:
//! * One payment for each hash: a second `start` is refused while the first is pending or after it succeeded.
//! * All parts that are under way together never carry more than was asked for.
//! * An attempt is durable before its HTLC is offered, so that its outcome finds it after any crash.
//! * A payment ends as `Succeeded` only with the preimage, and as `Failed` only once no HTLC of it can succeed.
//! * After a restart nothing stays pending: attempts whose HTLC no channel has were never offered, or their failure
//!   was lost with the crash; both count as failed.

use std::collections::{BTreeMap, HashMap, HashSet};

use secp256k1::{PublicKey, SecretKey};

use crate::channel::{AddHtlc, AttemptId, CannotAdd, HtlcFailure, Key, Origin, Outbox};
use crate::margins::MAX_HTLC_CLTV;
use crate::onion::{self, FailureMessage, ForwardPayload, PaymentData, ReceivePayload, failure, sphinx};
use crate::types::{Msat, PaymentHash, PaymentPreimage, PaymentSecret, ShortChannelId, UnixTime};
use crate::wire::OnionRoutingPacket;
use crate::wire::tlv::RawRecord;

use super::HintHop;
use super::record;
use super::route::Route;

mod forget;
mod on_route;
mod retry;

pub use forget::Numbers;
pub use on_route::OnRouteError;
pub use retry::Refused;

/// What to pay, to whom, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRequest {
    /// The hash whose preimage is bought.
    pub payment_hash: PaymentHash,
    /// The recipient's node key.
    pub destination: PublicKey,
    /// What the recipient gets.
    pub amount: Msat,
    /// What the invoice asks to be shown.
    pub payment_secret: Option<PaymentSecret>,
    /// What the invoice asks to be repeated.
    pub payment_metadata: Option<Vec<u8>>,
    /// Blocks that the recipient wants to have left when the HTLC arrives.
    pub final_cltv_delta: u32,
    /// What all parts may pay in fees together.
    pub max_fee: Msat,
    /// No new attempt is made after this.
    pub deadline: UnixTime,
    /// The invoice, if there is one (BOLT 11).
    pub bolt11: String,
    /// Routes to the recipient over channels that the network does not know.
    pub hints: Vec<Vec<HintHop>>,
    /// Which routes it may take.
    pub limits: PaymentLimits,
    /// The preimage, which the payment brings along if there is no invoice (bLIP 3).
    pub keysend: Option<PaymentPreimage>,
    /// For the recipient's applications, in increasing order of their types.
    pub custom_records: Vec<RawRecord>,
}

/// Which routes a payment may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentLimits {
    /// That are under way at once; 1 if the recipient does not take several parts.
    pub max_parts: u16,
    /// The largest part, its fee included.
    pub max_part: Option<Msat>,
    /// Blocks from now to the expiry of our HTLC; `None`, and at most: as many as any node locks money for.
    pub max_cltv: Option<u32>,
    /// The channels that it may leave by; empty: any.
    pub outgoing: Vec<ShortChannelId>,
    /// The node before the recipient.
    pub last_hop: Option<PublicKey>,
    /// From -100 (the lowest fees) to 100 (the surest route).
    pub time_pref: i8,
}

impl PaymentLimits {
    /// Blocks from now to the expiry of our HTLC, however many the payer allows.
    pub fn most_blocks(&self) -> u32 {
        self.max_cltv.map_or(MAX_HTLC_CLTV, |most| most.min(MAX_HTLC_CLTV))
    }
}

impl Default for PaymentLimits {
    fn default() -> Self {
        Self { max_parts: 1, max_part: None, max_cltv: None, outgoing: Vec::new(), last_hop: None, time_pref: 0 }
    }
}

/// A payment and all its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Counts our payments, from 1.
    pub index: u64,
    /// What was asked for.
    pub request: PaymentRequest,
    /// When it began.
    pub created: UnixTime,
    /// Every HTLC that was ever sent for it.
    pub attempts: Vec<Attempt>,
    /// How it stands.
    pub state: PaymentState,
}

impl Payment {
    /// Fees of the attempts that succeeded or may still.
    pub fn fee(&self) -> Msat {
        self.sum(|attempt| attempt.route.fee())
    }

    fn sum(&self, of: impl Fn(&Attempt) -> Msat) -> Msat {
        let live = self.attempts.iter().filter(|attempt| !matches!(attempt.state, AttemptState::Failed(_)));
        Msat(live.fold(0, |sum, attempt| sum.saturating_add(of(attempt).0)))
    }

    /// What no live attempt carries yet.
    fn missing(&self) -> Msat {
        self.request.amount.saturating_sub(self.sum(|attempt| attempt.route.last().amount))
    }

    fn is_in_flight(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.state == AttemptState::InFlight)
    }
}

/// How a payment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum PaymentState {
    /// Attempts are in flight, or a route is looked for.
    Pending,
    /// An attempt brought the preimage, at this time.
    Succeeded { preimage: PaymentPreimage, at: UnixTime },
    /// No attempt is left, and none will be made.
    Failed { reason: PaymentFailure, at: UnixTime },
}

/// Why a payment failed, as a person is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum PaymentFailure {
    #[error("it took too long; it can be tried again")]
    Timeout,
    #[error("no route with enough capacity was found; open or fill a channel, or try a smaller amount")]
    NoRoute,
    #[error("the recipient does not know this payment, or the amount or the invoice's secret is wrong")]
    IncorrectPaymentDetails,
    #[error("the recipient cannot take payments at the moment; try again later")]
    RecipientBusy,
    #[error("the balance in usable channels is too small; open a channel or wait for the peer to be online")]
    InsufficientBalance,
    #[error("this node lost track of how far the chain is; `leyden getinfo` says why, then try again")]
    TipInDoubt,
    #[error("it failed on the way")]
    Error,
}

/// One HTLC of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number; the HTLC's origin.
    pub id: AttemptId,
    /// The route that it takes.
    pub route: Route,
    /// From this the onion's secrets follow again, so that a failure can be read after a restart.
    pub session_key: SecretKey,
    /// When it was sent.
    pub at: UnixTime,
    /// How it stands.
    pub state: AttemptState,
}

impl Attempt {
    /// Who failed it, and why. Takes off the layers of all hops: to be done once.
    pub fn read(&self, failure: &HtlcFailure) -> ReadFailure {
        let (source, code) = match failure {
            HtlcFailure::Remote { reason } => {
                let nodes: Vec<PublicKey> = self.route.hops().iter().map(|hop| hop.node_id).collect();
                let read = sphinx::shared_secrets(&self.session_key, &nodes)
                    .ok()
                    .and_then(|secrets| failure::decrypt(&secrets, reason.clone()));
                let Some(read) = read else { return ReadFailure::default() };
                let update = read.failure.channel_update().map(<[u8]>::to_vec);
                let source = u8::try_from(read.hop + 1).ok();
                let refused = match &read.failure {
                    FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat, height } => {
                        Some(Refused { amount: *htlc_msat, height: *height })
                    }
                    _ => None,
                };
                return ReadFailure { failure: AttemptFailure { source, code: read.failure.code(), refused }, update };
            }
            // Our peer could not read the onion.
            HtlcFailure::Malformed { failure_code, .. } => (1, *failure_code),
            HtlcFailure::NotOnChain => (0, failure::PERM | CHANNEL_FAILURE),
        };
        ReadFailure { failure: AttemptFailure { source: Some(source), code, refused: None }, update: None }
    }
}

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// It is on its way, or about to be sent.
    InFlight,
    /// It brought the preimage.
    Succeeded,
    /// It came back.
    Failed(AttemptFailure),
}

/// Who failed an attempt: `0` is this node, `1` our peer, and so on; `None` if the failure cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptFailure {
    /// The place on the route of the node that failed it.
    pub source: Option<u8>,
    /// The failure code of BOLT 4.
    pub code: u16,
    /// What came with `incorrect_or_unknown_payment_details` (BOLT 4).
    pub refused: Option<Refused>,
}

/// What an HTLC's failure says to the sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadFailure {
    /// Who failed it, and why.
    pub failure: AttemptFailure,
    /// The encoded `channel_update` that came with it.
    pub update: Option<Vec<u8>>,
}

/// What the payments ask their driver to do.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum PaymentEffect {
    /// Find routes for `amount` with at most `max_fee`; answer with [`Payments::routes_found`] or [`Payments::no_route`].
    FindRoutes { payment_hash: PaymentHash, request: Box<PaymentRequest>, amount: Msat, max_fee: Msat },
    /// Hand the HTLC to a channel with this peer.
    Offer { route: Box<Route>, htlc: Box<AddHtlc> },
    /// Tell whoever tracks payments.
    Updated(Box<Payment>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum StartError {
    #[error("this invoice is being paid already; `leyden trackpayment` follows it")]
    InFlight,
    #[error("invoice is already paid")]
    AlreadyPaid,
}

/// Why a call on a payment had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RouteError {
    #[error("no such payment is pending")]
    NotPending,
    #[error("the routes carry {got}, but only {missing} is missing")]
    TooMuch { missing: Msat, got: Msat },
    #[error("{got} parts more would be under way, and the payment may have {left}")]
    TooManyParts { left: usize, got: usize },
    #[error("no onion can be built for this route: {0}")]
    Onion(onion::OnionError),
}

/// Pending payments; those that are over live in the store alone.
#[derive(Debug, Default)]
pub struct Payments {
    /// In order, like invoices.
    pending: BTreeMap<PaymentHash, Payment>,
    by_attempt: HashMap<AttemptId, PaymentHash>,
    /// Payments for which routes have been asked for and not come.
    searching: HashSet<PaymentHash>,
    /// Payments with parts under way whose rest found no route, and why: the recipient waits for that rest in vain.
    without_route: HashMap<PaymentHash, PaymentFailure>,
    last_index: u64,
    last_attempt: u64,
}

impl Payments {
    /// From the stored records, in any order. Without those that are over, [`super::start`] knows the last numbers.
    pub fn restore(records: impl IntoIterator<Item = Payment>) -> Self {
        let mut payments = Self::default();
        for payment in records {
            payments.last_index = payments.last_index.max(payment.index);
            for attempt in &payment.attempts {
                payments.last_attempt = payments.last_attempt.max(attempt.id.0);
            }
            if payment.state == PaymentState::Pending {
                let hash = payment.request.payment_hash;
                payments.by_attempt.extend(payment.attempts.iter().map(|attempt| (attempt.id, hash)));
                payments.pending.insert(hash, payment);
            }
        }
        payments
    }

    /// The index of the latest payment; 0 if there is none.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The payment with this hash, unless it has ended.
    pub fn pending(&self, hash: &PaymentHash) -> Option<&Payment> {
        self.pending.get(hash)
    }

    /// How many have not ended.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// What a pending payment still has to find a route for, and what fees may be paid for that.
    pub fn missing(&self, hash: &PaymentHash) -> Option<(Msat, Msat)> {
        let payment = self.pending.get(hash)?;
        Some((payment.missing(), payment.request.max_fee.saturating_sub(payment.fee())))
    }

    /// Begins a payment. `stored` is the record of an earlier one with the same hash that is over.
    pub fn start(
        &mut self,
        request: PaymentRequest,
        stored: Option<&Payment>,
        now: UnixTime,
    ) -> Result<Outbox<PaymentEffect>, StartError> {
        let hash = request.payment_hash;
        if self.pending.contains_key(&hash) {
            return Err(StartError::InFlight);
        }
        let mut outbox = Outbox::default();
        let payment = self.new_payment(request, stored, now, &mut outbox)?;
        save(&mut outbox, &payment);
        find_routes(&mut outbox, &payment);
        self.last_index = payment.index;
        self.searching.insert(hash);
        self.pending.insert(hash, payment);
        Ok(outbox)
    }

    /// A payment that has its number, but is neither saved nor pending yet.
    fn new_payment(
        &self,
        request: PaymentRequest,
        stored: Option<&Payment>,
        now: UnixTime,
        outbox: &mut Outbox<PaymentEffect>,
    ) -> Result<Payment, StartError> {
        match stored.map(|payment| &payment.state) {
            Some(PaymentState::Succeeded { .. }) => return Err(StartError::AlreadyPaid),
            // It has just ended and is being written: how, the record does not say yet.
            Some(PaymentState::Pending) => return Err(StartError::InFlight),
            Some(PaymentState::Failed { .. }) | None => {}
        }
        let index = self.last_index.saturating_add(1);
        outbox.put(Key::PaymentIndex(request.payment_hash), index.to_be_bytes().to_vec());
        Ok(Payment { index, request, created: now, attempts: Vec::new(), state: PaymentState::Pending })
    }

    /// Routes for what was asked, or for a part of it; an HTLC is made for each. `session_keys` gives a fresh secret for each onion.
    pub fn routes_found(
        &mut self,
        hash: &PaymentHash,
        routes: Vec<Route>,
        mut session_keys: impl FnMut() -> SecretKey,
        now: UnixTime,
    ) -> Result<Outbox<PaymentEffect>, RouteError> {
        self.searching.remove(hash);
        let refused = self.pending.get(hash).is_some_and(Payment::is_refused_for_good);
        if routes.is_empty() || refused {
            return Ok(self.no_route(hash, PaymentFailure::NoRoute, now));
        }
        self.without_route.remove(hash);
        let payment = self.pending.get_mut(hash).ok_or(RouteError::NotPending)?;
        if routes.len() > payment.parts_left() {
            return Err(RouteError::TooManyParts { left: payment.parts_left(), got: routes.len() });
        }
        let mut outbox = Outbox::default();
        let first = self.last_attempt.saturating_add(1);
        self.last_attempt = offer(payment, routes, &mut session_keys, self.last_attempt, now, &mut outbox)?;
        self.by_attempt.extend((first..=self.last_attempt).map(|id| (AttemptId(id), *hash)));
        // A part has failed while these routes were looked for.
        if payment.missing() > Msat::ZERO && may_try_again(payment, now) {
            find_routes(&mut outbox, payment);
            self.searching.insert(*hash);
        }
        Ok(outbox)
    }

    /// There is no route for what was asked.
    pub fn no_route(&mut self, hash: &PaymentHash, reason: PaymentFailure, now: UnixTime) -> Outbox<PaymentEffect> {
        let mut outbox = Outbox::default();
        self.searching.remove(hash);
        let Some(payment) = self.pending.get(hash) else { return outbox };
        // Where the recipient has refused what came over the routes that there are, that is what the payer has to know.
        let reason = payment.refusal().unwrap_or(reason);
        if payment.is_in_flight() {
            self.without_route.insert(*hash, reason);
        } else {
            self.fail(hash, reason, now, &mut outbox);
        }
        outbox
    }

    /// An HTLC was fulfilled. Safe to repeat. The channel's own note of it is deleted in the commit that keeps it here.
    pub fn fulfilled(&mut self, id: AttemptId, preimage: PaymentPreimage, now: UnixTime) -> Outbox<PaymentEffect> {
        let mut outbox = Outbox::default();
        outbox.delete(Key::Outcome(id));
        let Some(hash) = self.by_attempt.get(&id).copied() else { return outbox };
        let Some(payment) = self.pending.get_mut(&hash) else { return outbox };
        if preimage.hash() != hash {
            return outbox;
        }
        // The recipient gave the proof away: the other parts will be taken too, and change nothing of the outcome.
        for attempt in &mut payment.attempts {
            if attempt.id == id || attempt.state == AttemptState::InFlight {
                attempt.state = AttemptState::Succeeded;
            }
        }
        payment.state = PaymentState::Succeeded { preimage, at: now };
        save(&mut outbox, payment);
        self.forget(&hash);
        outbox
    }

    /// An HTLC failed for good. Safe to repeat.
    pub fn failed(&mut self, id: AttemptId, failure: &HtlcFailure, now: UnixTime) -> Outbox<PaymentEffect> {
        let failure = self.attempt(id).map(|attempt| attempt.read(failure).failure).unwrap_or_default();
        self.end_attempt(id, failure, now)
    }

    /// The channel did not take the HTLC.
    pub fn refused(&mut self, id: AttemptId, cause: &CannotAdd, now: UnixTime) -> Outbox<PaymentEffect> {
        let code = match cause {
            CannotAdd::TipInDoubt => TIP_IN_DOUBT,
            CannotAdd::Balance { .. } | CannotAdd::RemoteFee { .. } | CannotAdd::TooMuchInFlight { .. } => {
                INSUFFICIENT_BALANCE
            }
            CannotAdd::State(_)
            | CannotAdd::NotFunded(_)
            | CannotAdd::Offline
            | CannotAdd::Disconnected
            | CannotAdd::BelowMinimum { .. }
            | CannotAdd::Expiry(_)
            | CannotAdd::TooManyHtlcs { .. }
            | CannotAdd::DustExposure { .. } => TEMPORARY_CHANNEL_FAILURE,
        };
        self.end_attempt(id, AttemptFailure { source: Some(0), code, refused: None }, now)
    }

    /// After a restart: `alive` are the attempts whose HTLC is in a channel.
    pub fn restarted(&mut self, alive: &HashSet<AttemptId>, now: UnixTime) -> Outbox<PaymentEffect> {
        let mut outbox = Outbox::default();
        let hashes: Vec<PaymentHash> = self.pending.keys().copied().collect();
        for hash in hashes {
            let Some(payment) = self.pending.get_mut(&hash) else { continue };
            for attempt in &mut payment.attempts {
                if attempt.state == AttemptState::InFlight && !alive.contains(&attempt.id) {
                    let lost = AttemptFailure { source: Some(0), code: TEMPORARY_CHANNEL_FAILURE, refused: None };
                    attempt.state = AttemptState::Failed(lost);
                }
            }
            if payment.is_in_flight() {
                save(&mut outbox, payment);
            } else {
                // Whoever asked for it is not waiting any more, and must not be surprised by a late payment.
                self.fail(&hash, PaymentFailure::Timeout, now, &mut outbox);
            }
        }
        outbox
    }

    /// No further attempt is made for a payment; those that are under way decide it.
    pub fn stop_trying(&mut self, hash: &PaymentHash, now: UnixTime) -> Outbox<PaymentEffect> {
        let mut outbox = Outbox::default();
        if let Some(payment) = self.pending.get_mut(hash)
            && payment.request.deadline > now
        {
            payment.request.deadline = now;
            save(&mut outbox, payment);
        }
        outbox
    }

    /// The pending payment that an attempt belongs to.
    pub fn hash_of(&self, id: AttemptId) -> Option<PaymentHash> {
        self.by_attempt.get(&id).copied()
    }

    /// An attempt of a pending payment.
    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        let payment = self.pending.get(self.by_attempt.get(&id)?)?;
        payment.attempts.iter().find(|attempt| attempt.id == id)
    }

    /// An attempt that no channel has: it failed with this.
    pub fn end_attempt(&mut self, id: AttemptId, failure: AttemptFailure, now: UnixTime) -> Outbox<PaymentEffect> {
        let mut outbox = Outbox::default();
        outbox.delete(Key::Outcome(id));
        let Some(hash) = self.by_attempt.get(&id).copied() else { return outbox };
        let Some(payment) = self.pending.get_mut(&hash) else { return outbox };
        let Some(attempt) = payment.attempts.iter_mut().find(|attempt| attempt.id == id) else { return outbox };
        if attempt.state != AttemptState::InFlight {
            return outbox;
        }
        let recipient = u8::try_from(attempt.route.hops().len()).ok();
        let by_recipient = failure.source == recipient;
        let reason = match failure.code {
            INSUFFICIENT_BALANCE => PaymentFailure::InsufficientBalance,
            // What it waited for had no route: more time would not help.
            MPP_TIMEOUT => self.without_route.get(&hash).copied().unwrap_or(PaymentFailure::Timeout),
            TIP_IN_DOUBT if failure.source == Some(0) => PaymentFailure::TipInDoubt,
            _ if by_recipient => PaymentFailure::IncorrectPaymentDetails,
            _ => PaymentFailure::Error,
        };
        attempt.state = AttemptState::Failed(failure);
        let reason = match payment.refusal().filter(|_| reason == PaymentFailure::IncorrectPaymentDetails) {
            Some(refusal) => refusal,
            None => reason,
        };
        // In doubt of the tip no other channel would take it either.
        if reason != PaymentFailure::TipInDoubt && may_try_again(payment, now) {
            save(&mut outbox, payment);
            // One search at a time: two would each find routes for the whole of what is missing.
            if self.searching.insert(hash) {
                find_routes(&mut outbox, payment);
            }
        } else if payment.is_in_flight() {
            save(&mut outbox, payment);
        } else {
            self.fail(&hash, reason, now, &mut outbox);
        }
        outbox
    }

    fn fail(&mut self, hash: &PaymentHash, reason: PaymentFailure, now: UnixTime, outbox: &mut Outbox<PaymentEffect>) {
        let Some(payment) = self.pending.get_mut(hash) else { return };
        payment.state = PaymentState::Failed { reason, at: now };
        save(outbox, payment);
        self.forget(hash);
    }

    fn forget(&mut self, hash: &PaymentHash) {
        self.searching.remove(hash);
        self.without_route.remove(hash);
        if let Some(payment) = self.pending.remove(hash) {
            for attempt in &payment.attempts {
                self.by_attempt.remove(&attempt.id);
            }
        }
    }
}

/// Makes an HTLC for each route; the number of the last attempt.
fn offer(
    payment: &mut Payment,
    routes: Vec<Route>,
    session_keys: &mut impl FnMut() -> SecretKey,
    mut last_attempt: u64,
    now: UnixTime,
    outbox: &mut Outbox<PaymentEffect>,
) -> Result<u64, RouteError> {
    let got = Msat(routes.iter().fold(0, |sum, route| sum.saturating_add(route.last().amount.0)));
    let missing = payment.missing();
    if got > missing {
        return Err(RouteError::TooMuch { missing, got });
    }
    // All onions before the first attempt: an attempt that is not offered would never end.
    let mut ready = Vec::with_capacity(routes.len());
    for route in routes {
        let session_key = session_keys();
        let onion = build_onion(&payment.request, &route, &session_key).map_err(RouteError::Onion)?;
        ready.push((route, session_key, onion));
    }
    for (route, session_key, onion) in ready {
        last_attempt = last_attempt.saturating_add(1);
        let id = AttemptId(last_attempt);
        let first = route.first();
        let htlc = AddHtlc {
            origin: Origin::Payment(id),
            amount: first.amount,
            payment_hash: payment.request.payment_hash,
            cltv_expiry: first.cltv_expiry,
            onion,
            path_key: None,
        };
        outbox.emit(PaymentEffect::Offer { route: Box::new(route.clone()), htlc: Box::new(htlc) });
        payment.attempts.push(Attempt { id, route, session_key, at: now, state: AttemptState::InFlight });
    }
    outbox.put(Key::LastAttempt, last_attempt.to_be_bytes().to_vec());
    save(outbox, payment);
    Ok(last_attempt)
}

/// Attempts after which a payment is given up, whatever time is left.
const MAX_ATTEMPTS: usize = 100;

/// A failure of our own that no node sends: no flag set, above all codes of BOLT 4.
const INSUFFICIENT_BALANCE: u16 = 0x0fff;
/// A failure of our own that no node sends, for a payment that found the tip in doubt.
const TIP_IN_DOUBT: u16 = 0x0ffe;

/// `mpp_timeout` (BOLT 4).
const MPP_TIMEOUT: u16 = 23;

/// `permanent_channel_failure` without its flags (BOLT 4).
const CHANNEL_FAILURE: u16 = 8;
const TEMPORARY_CHANNEL_FAILURE: u16 = failure::UPDATE | 7;

/// A payment that is not over is named as such with its record: a start looks for no other.
fn save(outbox: &mut Outbox<PaymentEffect>, payment: &Payment) {
    outbox.put(Key::Payment(payment.index), record::encode_payment(payment));
    let name = Key::OpenPayment(payment.index);
    match payment.state {
        PaymentState::Pending => outbox.put(name, Vec::new()),
        PaymentState::Succeeded { .. } | PaymentState::Failed { .. } => outbox.delete(name),
    }
    outbox.emit(PaymentEffect::Updated(Box::new(payment.clone())));
}

/// Whether another attempt may be made.
fn may_try_again(payment: &Payment, now: UnixTime) -> bool {
    now < payment.request.deadline && payment.attempts.len() < MAX_ATTEMPTS && !payment.is_refused_for_good()
}

fn find_routes(outbox: &mut Outbox<PaymentEffect>, payment: &Payment) {
    outbox.emit(PaymentEffect::FindRoutes {
        payment_hash: payment.request.payment_hash,
        request: Box::new(payment.request.clone()),
        amount: payment.missing(),
        max_fee: payment.request.max_fee.saturating_sub(payment.fee()),
    });
}

/// BOLT 4, Payload Format: each node is told what to hand to the next one, the last what was meant for it.
fn build_onion(
    request: &PaymentRequest,
    route: &Route,
    session_key: &SecretKey,
) -> Result<OnionRoutingPacket, onion::OnionError> {
    let hops = route.hops();
    let mut payloads: Vec<Vec<u8>> = hops
        .iter()
        .skip(1)
        .map(|next| {
            ForwardPayload {
                amt_to_forward: next.amount,
                outgoing_cltv_value: next.cltv_expiry,
                // Only the first hop may come without a channel (see `Route::new`).
                short_channel_id: next.channel.unwrap_or(ShortChannelId(0)),
            }
            .encode()
        })
        .collect();
    let last = route.last();
    let payment_data =
        request.payment_secret.map(|payment_secret| PaymentData { payment_secret, total_msat: request.amount });
    payloads.push(
        ReceivePayload {
            amt_to_forward: last.amount,
            outgoing_cltv_value: last.cltv_expiry,
            payment_data,
            payment_metadata: request.payment_metadata.clone(),
            keysend_preimage: request.keysend,
            custom_records: request.custom_records.clone(),
        }
        .encode(),
    );
    let layers: Vec<sphinx::Hop<'_>> =
        hops.iter().zip(&payloads).map(|(hop, payload)| sphinx::Hop { node: hop.node_id, payload }).collect();
    sphinx::construct(session_key, &layers, &request.payment_hash).map(|built| built.packet)
}
