//! The payments' calls.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use leyden_channels::{
    payment::{
        self,
        outgoing::{
            self, AttemptState as StoredAttempt, PaymentFailure, PaymentLimits, PaymentRequest, PaymentState as Stored,
            StartError,
        },
    },
    types::{Msat, PaymentHash, ShortChannelId, UnixTime},
    wire::Feature,
};
use secp256k1::PublicKey;
use tokio::sync::mpsc;
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, UnboundedReceiverStream},
};

use super::{
    LightningNode, internal,
    invoices::{futures_unfold, to_core_hint},
    tip_error,
};
use crate::{
    api::{
        ApiError, Attempt, AttemptFailure, AttemptState, FailureReason, ForgetPayments, Page, PageRequest, Payment,
        PaymentState, PaymentTarget, Payments, RouteHop, SendPayment, Updates,
    },
    driver::{
        committer::PendingEffects,
        services::{Services, StartOrStore},
    },
    store::StoreError,
};

/// Blocks that a recipient wants to have left if its request says nothing (BOLT 11).
const DEFAULT_FINAL_CLTV: u32 = 18;
/// Parts that a payment is split into, if the caller does not say, and at most.
const DEFAULT_MAX_PARTS: u32 = 16;
const MAX_PARTS: u32 = 64;

#[async_trait]
impl Payments for LightningNode {
    async fn send_payment(&self, request: SendPayment) -> Result<Updates<Payment>, ApiError> {
        let services = self.services();
        let cancel_on_hangup = request.cancel_on_hangup;
        let request = to_request(services, request)?;
        let hash = request.payment_hash;
        let updates = self.begin(request).await?;
        if !cancel_on_hangup {
            return Ok(updates);
        }
        let (sender, receiver) = mpsc::channel(16);
        let task = Arc::clone(services);
        tokio::spawn(async move {
            let mut updates = updates;
            loop {
                tokio::select! {
                    update = updates.next() => match update {
                        Some(update) => if sender.send(update).await.is_err() { break },
                        None => return,
                    },
                    () = sender.closed() => break,
                }
            }
            let underway = task.change(&task.payments, |payments| payments.stop_trying(&hash, task.now()));
            // An error says that the daemon is stopping.
            let _ = task.run(underway).await;
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn track_payment(&self, hash: PaymentHash) -> Result<Updates<Payment>, ApiError> {
        let services = self.services();
        // Listening first: a change between that and the look comes twice rather than never.
        let (sender, receiver) = mpsc::unbounded_channel();
        services.events.follow_payment(hash, sender);
        let record = services.payment_record(&hash)?;
        if let Some(record) = &record
            && record.state == Stored::Pending
        {
            let now = tokio_stream::once(Ok(to_api(services, record)));
            return Ok(Box::pin(now.chain(updates(services, receiver))));
        }
        // Nothing more is to come.
        drop(receiver);
        services.events.forget_listeners(&hash);
        let record = record.ok_or_else(|| no_payment(&hash))?;
        Ok(Box::pin(tokio_stream::once(Ok(to_api(services, &record)))))
    }

    async fn payments(&self, page: PageRequest, include_incomplete: bool) -> Result<Page<Payment>, ApiError> {
        self.read(move |services| list(services, &page, include_incomplete)).await
    }

    async fn track_payments(&self) -> Result<Updates<Payment>, ApiError> {
        let services = Arc::clone(self.services());
        // Listening first: a change between that and the look comes twice rather than never.
        let news = services.events.payments();
        let under_way: Vec<outgoing::Payment> = services.payments().under_way().cloned().collect();
        let now: Vec<_> = under_way.iter().map(|payment| Ok(to_api(&services, payment))).collect();
        Ok(Box::pin(tokio_stream::iter(now).chain(futures_unfold(news, move |payment| to_api(&services, &payment)))))
    }

    async fn forget_payments(&self, which: ForgetPayments) -> Result<u64, ApiError> {
        let services = Arc::clone(self.services());
        let (count, underway) =
            tokio::task::spawn_blocking(move || forget(&services, which)).await.map_err(internal)??;
        for change in underway {
            self.carry_out(change).await?;
        }
        Ok(count)
    }
}

/// Hands over what has to be written; how many payments it concerns.
fn forget(services: &Services, which: ForgetPayments) -> Result<(u64, Vec<PendingEffects>), ApiError> {
    let (mut found, mut changes) = (false, Vec::new());
    let numbers = services.payments().numbers();
    services.store.put_payment_numbers(numbers)?;
    for index in 1..=numbers.index {
        // `Err(None)`: nothing is to be done about this one.
        let change = services.try_change(&services.payments, |payments| {
            let stored = services.payment_at(index).map_err(|error| Some(error.into()))?;
            let payment = stored.filter(|one| which.hash.is_none_or(|hash| hash == one.request.payment_hash));
            let payment = payment.ok_or(None::<ApiError>)?;
            found = true;
            let hash = payment.request.payment_hash;
            if payments.is_under_way(&payment) {
                let text = format!("payment {hash} is in flight: it can be forgotten when it is over");
                return Err(which.hash.map(|_| ApiError::precondition(text)));
            }
            if !which.only_failed_attempts && is_needed(services, &payment).map_err(|error| Some(error.into()))? {
                let text = format!(
                    "payment {hash} belongs to a swap or a crossing that still asks how it ended: forget it later"
                );
                return Err(which.hash.map(|_| ApiError::precondition(text)));
            }
            if which.only_failed && !matches!(payment.state, Stored::Failed { .. }) {
                return Err(None);
            }
            if which.only_failed_attempts {
                return payments.forget_failed_attempts(payment).ok_or(None);
            }
            let latest = services.payment_record(&hash).map_err(|error| Some(error.into()))?;
            let is_latest = latest.is_some_and(|latest| latest.index == index);
            if is_latest && services.store.is_crossing_payment(&hash).map_err(|error| Some(error.into()))? {
                services.store.forget_crossing_payment(&hash).map_err(|error| Some(error.into()))?;
            }
            Ok(payments.delete(&payment, is_latest))
        });
        match change {
            Ok(change) => changes.push(change),
            Err(None) => {}
            Err(Some(error)) => return Err(error),
        }
    }
    match which.hash {
        Some(hash) if !found => Err(no_payment(&hash)),
        _ => Ok((u64::try_from(changes.len()).unwrap_or(u64::MAX), changes)),
    }
}

/// For how long a payment is kept that a crossing of another daemon has asked for, in seconds since it ended: the payer's HTLC
/// may last for two weeks of blocks, and blocks may come half as fast as they should.
const CROSSING_PAYMENT_SECONDS: u64 = 28 * 24 * 3600;

/// Whether a swap or a crossing may still ask what has become of a payment. To forget it would be to say that it was never made.
fn is_needed(services: &Services, payment: &outgoing::Payment) -> Result<bool, StoreError> {
    let hash = &payment.request.payment_hash;
    let ended = match &payment.state {
        Stored::Pending => return Ok(true),
        Stored::Succeeded { at, .. } | Stored::Failed { at, .. } => at.0,
    };
    let is_kept = services.now().0 < ended.saturating_add(CROSSING_PAYMENT_SECONDS);
    Ok(services.is_of_an_open_swap(hash)? || (is_kept && services.store.is_crossing_payment(hash)?))
}

/// LND's words first.
fn no_payment(hash: &PaymentHash) -> ApiError {
    ApiError::not_found(format!("payment isn't initiated: there is no payment with hash {hash}"))
}

impl LightningNode {
    /// Begins a payment that looks for its own ways.
    pub(super) async fn begin(&self, request: PaymentRequest) -> Result<Updates<Payment>, ApiError> {
        let hash = request.payment_hash;
        self.services().wait_for_tip().await.map_err(|doubt| tip_error("nothing is paid", &doubt))?;
        let begun = || {
            self.services().start_payment(request).map_err(|error| match error {
                StartOrStore::Start(error @ (StartError::InFlight | StartError::AlreadyPaid)) => {
                    ApiError::exists(error.to_string())
                }
                StartOrStore::Store(error) => internal(error),
            })
        };
        self.follow_from_the_start(hash, begun).await
    }

    /// Begins something about a payment, of which the caller misses nothing.
    pub(super) async fn follow_from_the_start(
        &self,
        hash: PaymentHash,
        begin: impl FnOnce() -> Result<PendingEffects, ApiError>,
    ) -> Result<Updates<Payment>, ApiError> {
        let updates = follow(self.services(), hash);
        match self.services().begin(begin) {
            Ok(begun) => self.carry_out_begun(begun).await.map(|()| updates),
            Err(error) => {
                drop(updates);
                self.services().events.forget_listeners(&hash);
                Err(error)
            }
        }
    }
}

fn list(services: &Services, request: &PageRequest, include_incomplete: bool) -> Result<Page<Payment>, ApiError> {
    let last = services.payments().last_index();
    let items = page(request, last, |index| {
        let Some(payment) = services.payment_at(index)? else { return Ok(None) };
        let created = payment.created.0;
        let wanted = (include_incomplete || matches!(payment.state, Stored::Succeeded { .. }))
            && request.created_from.is_none_or(|from| created >= from)
            && request.created_until.is_none_or(|until| created <= until);
        Ok(wanted.then(|| to_api(services, &payment)))
    })?;
    Ok(Page { items, total: last })
}

/// The wanted part of a list that is numbered from 1 to `last`, in ascending order.
pub(super) fn page<T>(
    request: &PageRequest,
    last: u64,
    mut get: impl FnMut(u64) -> Result<Option<T>, StoreError>,
) -> Result<Vec<T>, ApiError> {
    let limit = request.limit.unwrap_or(u64::MAX);
    let mut items = Vec::new();
    let indices: Box<dyn Iterator<Item = u64> + Send> = if request.reversed {
        let end = if request.offset == 0 { last } else { request.offset.saturating_sub(1).min(last) };
        Box::new((1..=end).rev())
    } else {
        Box::new(request.offset.saturating_add(1)..=last)
    };
    for index in indices {
        if items.len() as u64 >= limit {
            break;
        }
        items.extend(get(index)?);
    }
    if request.reversed {
        items.reverse();
    }
    Ok(items)
}

/// The payment's changes until its end.
fn follow(services: &Arc<Services>, hash: PaymentHash) -> Updates<Payment> {
    let (sender, receiver) = mpsc::unbounded_channel();
    services.events.follow_payment(hash, sender);
    Box::pin(updates(services, receiver))
}

fn updates(
    services: &Arc<Services>,
    receiver: mpsc::UnboundedReceiver<Arc<outgoing::Payment>>,
) -> impl tokio_stream::Stream<Item = Result<Payment, ApiError>> + Send + use<> {
    let services = Arc::clone(services);
    UnboundedReceiverStream::new(receiver).map(move |payment| Ok(to_api(&services, &payment)))
}

pub(super) fn to_request(services: &Services, request: SendPayment) -> Result<PaymentRequest, ApiError> {
    let now = services.now();
    let deadline = UnixTime(now.0.saturating_add(request.timeout.as_secs()));
    let most_parts = u16::try_from(request.max_parts.unwrap_or(DEFAULT_MAX_PARTS).clamp(1, MAX_PARTS)).unwrap_or(1);
    let limits = |takes_parts: bool| PaymentLimits {
        max_parts: if takes_parts { most_parts } else { 1 },
        max_part: request.max_part,
        max_cltv: request.max_cltv,
        outgoing: request.outgoing.clone(),
        last_hop: request.last_hop,
        time_pref: request.time_pref,
    };
    let refuse_own = |payee: PublicKey| {
        if payee == services.node_id() && !request.allow_self_payment {
            let text = "this is an invoice of this node's own, so paying it would move nothing but fees (over gRPC, \
                        allow_self_payment does it all the same)";
            return Err(ApiError::invalid(text));
        }
        Ok(())
    };
    let request = match request.target {
        PaymentTarget::Invoice { request: text, amount } => {
            let invoice = payment::Invoice::parse(&text, services.invoice_network)
                .map_err(|error| ApiError::invalid(error.to_string()))?;
            refuse_own(invoice.payee)?;
            if invoice.is_expired(now) {
                return Err(ApiError::invalid("the invoice has expired: ask the recipient for a new one"));
            }
            let amount = match (invoice.amount, amount) {
                (Some(asked), None) => asked,
                (Some(asked), Some(given)) if asked == given => asked,
                (Some(asked), Some(given)) => {
                    return Err(ApiError::invalid(format!("the invoice asks for {asked}, not for {given}")));
                }
                (None, Some(given)) => given,
                (None, None) => {
                    return Err(ApiError::invalid("the invoice leaves the amount open: say how much to pay"));
                }
            };
            PaymentRequest {
                payment_hash: invoice.payment_hash,
                destination: invoice.payee,
                amount,
                payment_secret: Some(invoice.payment_secret),
                payment_metadata: invoice.payment_metadata,
                final_cltv_delta: invoice.min_final_cltv_expiry_delta,
                max_fee: request.max_fee,
                deadline,
                bolt11: text,
                hints: invoice.route_hints,
                limits: limits(invoice.features.supports(Feature::BasicMpp)),
                keysend: None,
                custom_records: request.custom_records,
            }
        }
        PaymentTarget::Details { node_id, payment_hash, secret, amount, final_cltv, route_hints, keysend } => {
            refuse_own(node_id)?;
            // Parts find one another by the secret.
            let takes_parts = secret.is_some() && announces(services, node_id, Feature::BasicMpp);
            PaymentRequest {
                payment_hash,
                destination: node_id,
                amount,
                payment_secret: secret,
                payment_metadata: None,
                final_cltv_delta: final_cltv.map_or(DEFAULT_FINAL_CLTV, u32::from),
                max_fee: request.max_fee,
                deadline,
                bolt11: String::new(),
                hints: route_hints.iter().map(|route| route.iter().map(to_core_hint).collect()).collect(),
                limits: limits(takes_parts),
                keysend,
                custom_records: request.custom_records,
            }
        }
    };
    check_blocks(&request)?;
    Ok(request)
}

/// Whether the recipient can have as many blocks as it wants within the payment's limits.
pub(super) fn check_blocks(request: &PaymentRequest) -> Result<(), ApiError> {
    let (wanted, most) = (request.final_cltv_delta, request.limits.most_blocks());
    if wanted > most {
        let text = "the recipient wants the money locked for";
        return Err(ApiError::invalid(format!("{text} {wanted} blocks, and at most {most} are allowed (cltv_limit)")));
    }
    Ok(())
}

/// Whether a node says of itself that it knows a feature.
fn announces(services: &Services, node_id: PublicKey, feature: Feature) -> bool {
    let intake = services.gossip.intake();
    intake.graph().info_of(&node_id.into()).is_some_and(|info| info.features.supports(feature))
}

fn system_time(time: UnixTime) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(time.0)).unwrap_or(UNIX_EPOCH)
}

/// With the capacities of the channels that the graph knows now.
fn to_api(services: &Services, payment: &outgoing::Payment) -> Payment {
    let mut told = without_capacities(payment);
    if !told.attempts.is_empty() {
        let intake = services.gossip.intake();
        for hop in told.attempts.iter_mut().flat_map(|attempt| &mut attempt.route) {
            let channel = intake.graph().channel_by_id(hop.short_channel_id);
            hop.capacity = channel.map_or(bitcoin::Amount::ZERO, |channel| channel.capacity);
        }
    }
    told
}

fn without_capacities(payment: &outgoing::Payment) -> Payment {
    let (state, at) = match &payment.state {
        Stored::Pending if payment.attempts.is_empty() => (PaymentState::Initiated, payment.created),
        Stored::Pending => (PaymentState::InFlight, payment.created),
        Stored::Succeeded { preimage, at } => (PaymentState::Succeeded { preimage: *preimage }, *at),
        Stored::Failed { reason, at } => {
            let reason = match reason {
                PaymentFailure::Timeout => FailureReason::Timeout,
                PaymentFailure::NoRoute => FailureReason::NoRoute,
                PaymentFailure::IncorrectPaymentDetails => FailureReason::IncorrectDetails,
                PaymentFailure::InsufficientBalance => FailureReason::InsufficientBalance,
                // LND has no word for it: its failure is that of the last attempt.
                PaymentFailure::RecipientBusy | PaymentFailure::TipInDoubt | PaymentFailure::Error => {
                    FailureReason::Error
                }
            };
            (PaymentState::Failed { reason }, *at)
        }
    };
    let request = &payment.request;
    Payment {
        index: payment.index,
        payment_hash: request.payment_hash,
        amount: request.amount,
        fee: payment.fee(),
        request: Some(request.bolt11.clone()).filter(|text| !text.is_empty()),
        created: system_time(payment.created),
        state,
        attempts: payment.attempts.iter().map(|attempt| to_attempt(payment, attempt, system_time(at))).collect(),
    }
}

fn to_attempt(payment: &outgoing::Payment, attempt: &outgoing::Attempt, at: SystemTime) -> Attempt {
    let state = match (&attempt.state, &payment.state) {
        // The recipient has given the proof away for one part: the others are its to take, and nothing more is written
        // about them.
        (StoredAttempt::InFlight | StoredAttempt::Succeeded, Stored::Succeeded { preimage, .. }) => {
            AttemptState::Succeeded { at, preimage: *preimage }
        }
        (StoredAttempt::InFlight | StoredAttempt::Succeeded, Stored::Pending | Stored::Failed { .. }) => {
            AttemptState::InFlight
        }
        (StoredAttempt::Failed(failure), _) => AttemptState::Failed {
            at,
            failure: AttemptFailure {
                code: Some(failure.code).filter(|_| failure.source.is_some_and(|source| source > 0)),
                source: failure.source.map(u32::from),
                amount: failure.refused.map(|refused| refused.amount),
                height: failure.refused.map(|refused| refused.height.0),
            },
        },
    };
    let hops = attempt.route.hops();
    let route = hops
        .iter()
        .zip(hops.iter().skip(1).map(Some).chain([None]))
        .map(|(hop, next)| RouteHop {
            short_channel_id: hop.channel.unwrap_or(ShortChannelId(0)),
            capacity: bitcoin::Amount::ZERO,
            node_id: hop.node_id,
            amount: next.map_or(hop.amount, |next| next.amount),
            fee: next.map_or(Msat::ZERO, |next| hop.amount.saturating_sub(next.amount)),
            expiry: next.map_or(hop.cltv_expiry, |next| next.cltv_expiry),
        })
        .collect();
    Attempt {
        id: attempt.id.0,
        started: system_time(attempt.at),
        state,
        route,
        expiry: attempt.route.first().cltv_expiry,
        secret: payment.request.payment_secret,
        total: payment.request.amount,
    }
}
