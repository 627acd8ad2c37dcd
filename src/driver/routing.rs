//! Routes for our payments, and what their ends teach.
//!
//! ```text
//!   FindRoutes ──┬── first try to a peer, within limits ──► any channel with it
//!                └── else ──► balances of all channels ──► Router over graph and hints ──► attempts, or no route
//!   an attempt's end ──► Scorer ──► the next search
//! ```
//!
//! A search runs beside the channels' tasks, since it asks them for their balances. By the time it has an answer other
//! parts of the payment may have ended: the answer counts only for what it was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use leyden_channels::{
    channel::{AttemptId, HtlcFailure, Outbox},
    gossip::Direction,
    onion::failure,
    payment::{
        HintHop,
        outgoing::{
            Attempt, AttemptFailure, AttemptState, Payment, PaymentEffect, PaymentFailure, PaymentLimits,
            PaymentRequest, Payments, ReadFailure,
        },
        route::{Hop, Route},
    },
    routing::{
        self, CostParams, LocalChannel, RouteError, RouteRequest, Scorer, Source, UpdateFromFailure,
        route::DEFAULT_MAX_HOPS, scorer::Attempted,
    },
    types::{CltvExpiry, Msat, NodeId, PaymentHash, PaymentPreimage, ShortChannelId, TipTrust, UnixTime},
};
use tokio::sync::oneshot;
use tracing::{debug, error};

use super::{committer::PendingEffects, connection::ephemeral_key, peer::Command, services::Services};
use crate::store::{Store, StoreError, Table};

/// Blocks that may be found while an HTLC is on its way, without the recipient refusing it for being late.
pub(crate) const BLOCK_PADDING: u32 = 3;
/// The most blocks that are added to keep hops from guessing.
const SHADOW_BLOCKS: u32 = 72;
/// `temporary_channel_failure` (BOLT 4): want of liquidity, as far as anybody can tell.
const TEMPORARY_CHANNEL_FAILURE: u16 = failure::UPDATE | 7;

/// A search was answered after the payment had changed.
struct Outdated;

/// Terms that failures have brought, by payment, each with the attempt that failed.
pub(crate) type FailureUpdates = HashMap<PaymentHash, Vec<(AttemptId, UpdateFromFailure)>>;

/// What the attempts of a payment so far have shown.
struct Known {
    excluded: Excluded,
    failure_updates: Vec<(AttemptId, UpdateFromFailure)>,
}

/// What a payment still has to find a route for.
#[derive(Clone, Copy)]
struct Missing {
    amount: Msat,
    max_fee: Msat,
    /// That it may be split into.
    parts: usize,
}

#[derive(Default)]
struct Excluded {
    edges: Vec<(ShortChannelId, Direction)>,
    nodes: Vec<NodeId>,
    /// Channels that take less, if they take anything.
    too_much: Vec<Attempted>,
}

/// What was learnt in earlier runs and has not faded.
pub(crate) fn load_learnt(store: &Store, now: UnixTime) -> Result<Scorer, StoreError> {
    let mut records = Vec::new();
    for (key, value) in store.table(Table::Learnt)? {
        let key: [u8; 8] = key.try_into().map_err(|_| store.damaged("the name of a channel"))?;
        records.push((ShortChannelId(u64::from_be_bytes(key)), value));
    }
    let learnt = Scorer::load(records.iter().map(|(id, value)| (*id, value.as_slice())));
    let mut learnt = learnt.unwrap_or_else(|error| {
        error!(%error, "the mission control data cannot be read and is discarded");
        Scorer::new()
    });
    learnt.prune(now);
    Ok(learnt)
}

/// Writes what has changed since the last time.
fn save(store: &Store, learnt: &Mutex<Scorer>) -> Result<(), StoreError> {
    let changed = learnt.lock().unwrap_or_else(PoisonError::into_inner).take_changed();
    if changed.is_empty() {
        return Ok(());
    }
    store.put_table(Table::Learnt, changed.into_iter().map(|(id, value)| (id.0.to_be_bytes().to_vec(), value)))
}

impl Services {
    pub(crate) fn learnt(&self) -> MutexGuard<'_, Scorer> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was learnt since the last time.
    pub(crate) fn save_learnt(&self) {
        if let Err(error) = save(&self.store, &self.learnt) {
            error!(%error, "the mission control data could not be stored");
        }
    }

    /// Drops what has faded: it would only slow searches down.
    pub(crate) fn prune_learnt(&self) {
        self.learnt().prune(self.steady_time());
    }

    /// Forgets all of it.
    pub(crate) fn forget_learnt(&self) -> Result<(), StoreError> {
        self.learnt().reset();
        save(&self.store, &self.learnt)
    }

    /// Routes for what a payment still lacks: at once for the first try to a peer, else as a payment's event later.
    pub(super) fn find_routes(
        self: &Arc<Self>,
        hash: PaymentHash,
        request: &PaymentRequest,
        amount: Msat,
    ) -> Option<PendingEffects> {
        if self.trust() == TipTrust::InDoubt {
            let lost = |payments: &mut Payments| payments.no_route(&hash, PaymentFailure::TipInDoubt, self.now());
            return Some(self.change(&self.payments, lost));
        }
        let first_try = self.payments().pending(&hash).is_some_and(|payment| payment.attempts.is_empty());
        let PaymentLimits { max_part, max_cltv: _, outgoing, last_hop, max_parts: _, time_pref: _ } = &request.limits;
        let most = request.limits.most_blocks();
        let anyway =
            max_part.is_none() && outgoing.is_empty() && last_hop.is_none() && request.final_cltv_delta <= most;
        if first_try && anyway && self.peers.has_channel_with(&request.destination) {
            let blocks = request.final_cltv_delta.saturating_add(BLOCK_PADDING).min(most);
            let hop = Hop {
                node_id: request.destination,
                channel: None,
                amount,
                cltv_expiry: CltvExpiry(self.tip().0.saturating_add(blocks)),
            };
            let routes = Route::new(vec![hop]).into_iter().collect();
            return Some(self.change(&self.payments, |payments| self.use_routes(payments, &hash, routes)));
        }
        let services = Arc::clone(self);
        tokio::spawn(async move {
            let searcher = Arc::clone(&services);
            let found = tokio::spawn(async move { searcher.search(hash).await }).await;
            let found = found.unwrap_or_else(|fault| {
                error!(%hash, %fault, "the search for a route met a fault of its own: please report it");
                Some(services.change(&services.payments, |payments| {
                    payments.no_route(&hash, PaymentFailure::Error, services.now())
                }))
            });
            let Some(underway) = found else { return };
            // An error says that the daemon is stopping.
            let _ = services.run(underway).await;
        });
        None
    }

    /// Offers what is missing over these routes.
    fn use_routes(&self, payments: &mut Payments, hash: &PaymentHash, routes: Vec<Route>) -> Outbox<PaymentEffect> {
        payments.routes_found(hash, routes, ephemeral_key, self.now()).unwrap_or_else(|error| {
            error!(%hash, %error, "a payment has no onion");
            payments.no_route(hash, PaymentFailure::Error, self.now())
        })
    }

    async fn search(&self, hash: PaymentHash) -> Option<PendingEffects> {
        loop {
            let all = self.local_channels().await;
            let failure_updates = self.failure_updates().get(&hash).cloned().unwrap_or_default();
            let (request, excluded, (amount, max_fee), channels, parts) = {
                let payments = self.payments();
                let payment = payments.pending(&hash)?;
                let channels: Vec<LocalChannel> =
                    all.iter().filter_map(|channel| payment.first_channel(channel)).collect();
                let excluded = self.excluded(payment, &failure_updates);
                (payment.request.clone(), excluded, payments.missing(&hash)?, channels, payment.parts_left())
            };
            if amount == Msat::ZERO {
                return None;
            }
            let known = Known { excluded, failure_updates };
            let found = match parts {
                0 => Err(RouteError::NoRoute { amount }),
                parts => self.plan(&request, &channels, &known, Missing { amount, max_fee, parts }),
            };
            let routes: Result<Vec<Route>, PaymentFailure> = match found {
                Ok(plan) => {
                    let routes: Option<Vec<Route>> = plan.routes.iter().map(to_payment_route).collect();
                    routes.ok_or(PaymentFailure::Error)
                }
                Err(error) => {
                    debug!(%hash, %error, "no route for a payment");
                    Err(match error {
                        // What the payer's limits or refusals rule out is there all the same.
                        RouteError::InsufficientBalance { .. } if !all.is_empty() && available(&all) < amount => {
                            PaymentFailure::InsufficientBalance
                        }
                        RouteError::InsufficientBalance { .. }
                        | RouteError::ZeroAmount
                        | RouteError::NoRoute { .. }
                        | RouteError::FeeLimit { .. }
                        | RouteError::CltvLimit { .. }
                        | RouteError::UnknownChannel(_)
                        | RouteError::BadHops => PaymentFailure::NoRoute,
                    })
                }
            };
            let changed = self.try_change(&self.payments, |payments| match routes {
                _ if payments.missing(&hash) != Some((amount, max_fee)) => Err(Outdated),
                Ok(routes) => Ok(self.use_routes(payments, &hash, routes)),
                Err(reason) => Ok(payments.no_route(&hash, reason, self.now())),
            });
            if let Ok(underway) = changed {
                return Some(underway);
            }
        }
    }

    fn plan(
        &self,
        request: &PaymentRequest,
        channels: &[LocalChannel],
        known: &Known,
        missing: Missing,
    ) -> Result<routing::Plan, RouteError> {
        let Missing { amount, max_fee, parts } = missing;
        let Excluded { edges, nodes, too_much } = &known.excluded;
        let failure_updates: Vec<UpdateFromFailure> = known.failure_updates.iter().map(|(_, update)| *update).collect();
        let failed = |hop: &HintHop| {
            edges.iter().any(|(id, _)| *id == hop.short_channel_id) || nodes.contains(&hop.node_id.into())
        };
        let hints: Vec<Vec<HintHop>> = request.hints.iter().filter(|hops| !hops.iter().any(failed)).cloned().collect();
        let limits = &request.limits;
        let mut question = RouteRequest {
            source: Source::Local { node: self.node_id().into(), channels },
            target: request.destination.into(),
            hints: &hints,
            last_hop: limits.last_hop.map(NodeId::from),
            amount,
            final_cltv_delta: request.final_cltv_delta,
            height: self.tip(),
            now: self.steady_time(),
            fee_limit: max_fee,
            cltv_limit: limits.most_blocks(),
            max_parts: parts,
            max_hops: DEFAULT_MAX_HOPS,
            excluded_nodes: nodes,
            excluded_edges: edges,
            failed: too_much,
            failure_updates: &failure_updates,
            params: CostParams::preferring(limits.time_pref),
        };
        // BOLT 7, Recommendations for Routing: a random number of blocks more keeps hops from telling by what is left
        // how near the recipient is. Where the payer's limit leaves no room for it, the limit comes first.
        let hidden = BLOCK_PADDING + rand::random::<u32>() % (SHADOW_BLOCKS + 1);
        let mut found = Err(RouteError::NoRoute { amount });
        for more in [hidden, BLOCK_PADDING, 0] {
            question.final_cltv_delta = request.final_cltv_delta.saturating_add(more);
            found = self.find(&question);
            if !matches!(found, Err(RouteError::CltvLimit { .. })) {
                break;
            }
        }
        found
    }

    /// The best routes, given what earlier payments have taught.
    pub(crate) fn find(&self, question: &RouteRequest<'_>) -> Result<routing::Plan, RouteError> {
        let mut router = self.router.lock().unwrap_or_else(PoisonError::into_inner);
        let intake = self.gossip.intake();
        router.find(intake.graph(), &self.learnt(), question)
    }

    /// Our channels that can carry payments now.
    pub(crate) async fn local_channels(&self) -> Vec<LocalChannel> {
        let mut answers = Vec::new();
        for mailbox in self.peers.with_channels() {
            let (answer, channels) = oneshot::channel();
            if mailbox.send(Command::Balances(answer)).is_ok() {
                answers.push(channels);
            }
        }
        let mut channels = Vec::new();
        for answer in answers {
            // A task that has ended has no channels.
            channels.extend(answer.await.unwrap_or_default());
        }
        channels
    }

    // What payments teach.

    /// An HTLC of a payment was fulfilled.
    pub(crate) fn payment_fulfilled(&self, id: AttemptId, preimage: PaymentPreimage) -> PendingEffects {
        let mut hops = Vec::new();
        let underway = self.change(&self.payments, |payments| {
            let route = payments.attempt(id).map(|attempt| &attempt.route).filter(|route| route.hops().len() > 1);
            hops = route.map(|route| self.attempted(route)).unwrap_or_default();
            payments.fulfilled(id, preimage, self.now())
        });
        if !hops.is_empty() {
            self.learnt().arrived(&hops, self.steady_time());
        }
        underway
    }

    /// An HTLC of a payment failed.
    pub(crate) fn payment_failed(&self, id: AttemptId, failure: &HtlcFailure) -> PendingEffects {
        let mut lesson = None;
        let underway = self.change(&self.payments, |payments| {
            let read = payments.attempt(id).map(|attempt| attempt.read(failure)).unwrap_or_default();
            if let Some((hash, attempt)) = payments.hash_of(id).zip(payments.attempt(id)) {
                self.note_told(hash, attempt, &read);
                lesson = Some((read.failure.clone(), self.attempted(&attempt.route)));
            }
            payments.end_attempt(id, read.failure, self.now())
        });
        if let Some((failure, hops)) = lesson {
            debug!(?failure, "an attempt failed");
            self.learn(&failure, &hops);
        }
        underway
    }

    fn failure_updates(&self) -> MutexGuard<'_, FailureUpdates> {
        self.failure_updates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the terms that a failure brings, for the next attempts of the same payment.
    fn note_told(&self, hash: PaymentHash, attempt: &Attempt, read: &ReadFailure) {
        let Some(raw) = &read.update else { return };
        let Some(source) = read.failure.source.and_then(|source| usize::from(source).checked_sub(1)) else { return };
        let hops = attempt.route.hops();
        let (Some(from), Some(to)) = (hops.get(source), hops.get(source + 1)) else { return };
        let Some(channel) = to.channel else { return };
        let mut updates = self.failure_updates();
        let known = updates.entry(hash).or_default();
        let earlier: Vec<UpdateFromFailure> = known.iter().map(|(_, update)| *update).collect();
        let intake = self.gossip.intake();
        let news =
            UpdateFromFailure::read(raw, channel, &from.node_id.into(), &to.node_id.into(), intake.graph(), &earlier);
        known.extend(news.map(|news| (attempt.id, news)));
    }

    /// What was told counts for its payment alone, and that is over.
    pub(super) fn forget_told(&self, hash: &PaymentHash) {
        self.failure_updates().remove(hash);
    }

    /// `hops` are those after the first one, which is a channel of our own.
    fn learn(&self, failure: &AttemptFailure, hops: &[Attempted]) {
        let now = self.steady_time();
        let mut learnt = self.learnt();
        let Some(source) = failure.source else {
            // Somebody on the way does not say who.
            hops.iter().for_each(|hop| learnt.had_trouble(*hop, now));
            return;
        };
        // Node 1 is our peer: the HTLC reached it over our own channel, and it offers it over the first of `hops`.
        let Some(reached) = usize::from(source).checked_sub(1) else { return };
        let Some((passed, rest)) = hops.split_at_checked(reached) else { return };
        learnt.passed(passed, now);
        let Some(failed) = rest.first() else { return };
        if failure.code == TEMPORARY_CHANNEL_FAILURE {
            learnt.lacked_liquidity(*failed, now);
        } else {
            learnt.had_trouble(*failed, now);
        }
    }

    /// What the earlier attempts of a payment have ruled out for it.
    fn excluded(&self, payment: &Payment, failure_updates: &[(AttemptId, UpdateFromFailure)]) -> Excluded {
        let mut excluded = Excluded::default();
        excluded.nodes.extend(payment.suspects().into_iter().map(NodeId::from));
        for attempt in &payment.attempts {
            let AttemptState::Failed(failure) = &attempt.state else { continue };
            let Some(source) = failure.source.and_then(|source| usize::from(source).checked_sub(1)) else { continue };
            // BOLT 4, Receiving Failure Codes: a failure of the whole node rules all its channels out.
            let node = attempt.route.hops().get(source).map(|hop| NodeId::from(hop.node_id));
            excluded.nodes.extend(node.filter(|_| failure.code & failure::NODE != 0));
            let failed = self.attempted(&attempt.route).get(source).copied();
            // New terms may be met.
            let was_updated = failure_updates.iter().any(|(id, _)| *id == attempt.id);
            if failure.code == TEMPORARY_CHANNEL_FAILURE {
                excluded.too_much.extend(failed);
            } else if !was_updated {
                excluded.edges.extend(failed.map(|failed| (failed.short_channel_id, failed.direction)));
            }
        }
        excluded
    }

    /// The channels of a route after the first one.
    fn attempted(&self, route: &Route) -> Vec<Attempted> {
        let intake = self.gossip.intake();
        let pairs = route.hops().windows(2);
        let attempted = pairs.filter_map(|pair| {
            let [from, to] = pair else { return None };
            let id = to.channel?;
            let is_first = NodeId::from(from.node_id) < NodeId::from(to.node_id);
            let known = intake.graph().channel_by_id(id).map(|channel| channel.capacity_msat());
            Some(Attempted {
                short_channel_id: id,
                direction: if is_first { Direction::FromNode1 } else { Direction::FromNode2 },
                amount: to.amount,
                capacity: known,
            })
        });
        attempted.collect()
    }
}

fn available(channels: &[LocalChannel]) -> Msat {
    Msat(channels.iter().fold(0, |sum, channel| sum.saturating_add(channel.available.0)))
}

pub(crate) fn to_payment_route(route: &routing::Route) -> Option<Route> {
    let hop = |hop: &routing::RouteHop| {
        let node_id = hop.node.public_key().ok()?;
        Some(Hop { node_id, channel: Some(hop.short_channel_id), amount: hop.amount, cltv_expiry: hop.cltv_expiry })
    };
    Route::new(route.hops.iter().map(hop).collect::<Option<Vec<Hop>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_700_000_000);
    const HOUR: u64 = 3_600;

    fn lacked(id: u64) -> Attempted {
        let (short_channel_id, direction) = (ShortChannelId(id), Direction::FromNode1);
        Attempted { short_channel_id, direction, amount: Msat(400), capacity: Some(Msat(1_000)) }
    }

    #[test]
    fn what_was_learnt_comes_back_fades_and_leaves_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let learnt = Mutex::new(Scorer::new());
        learnt.lock().unwrap().lacked_liquidity(lacked(1), NOW);
        learnt.lock().unwrap().lacked_liquidity(lacked(2), UnixTime(NOW.0 + 40 * HOUR));
        save(&store, &learnt).unwrap();
        let written = learnt.into_inner().unwrap();

        let high = |scorer: &Scorer, hours: u64| {
            let bounds = scorer.bounds(ShortChannelId(2), Direction::FromNode1, UnixTime(NOW.0 + hours * HOUR));
            bounds.map(|bounds| bounds.high)
        };
        let soon = load_learnt(&store, UnixTime(NOW.0 + 40 * HOUR)).unwrap();
        assert_eq!((soon.len(), high(&soon, 40)), (2, Some(399.0)));
        assert_eq!(high(&soon, 46), high(&written, 46), "it goes on fading where it was");
        assert!(high(&soon, 46) > Some(600.0));

        // Two days after the first lesson nothing of it is left.
        let later = Mutex::new(load_learnt(&store, UnixTime(NOW.0 + 49 * HOUR)).unwrap());
        assert_eq!(later.lock().unwrap().len(), 1);
        save(&store, &later).unwrap();
        assert_eq!(store.table(Table::Learnt).unwrap().len(), 1);

        later.lock().unwrap().reset();
        save(&store, &later).unwrap();
        assert!(load_learnt(&store, NOW).unwrap().is_empty());
    }
}
