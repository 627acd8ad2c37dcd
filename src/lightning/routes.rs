//! The calls about ways: found, built, sent over, and what they would cost.

use std::time::Duration;

use async_trait::async_trait;
use leyden_channels::{
    gossip::Direction,
    payment::{
        self, HintHop,
        outgoing::{OnRouteError, PaymentLimits, PaymentRequest},
        route::{Hop, Route},
    },
    routing::{
        self, CostParams, LocalChannel, RouteError, RouteRequest, Router, Scorer, Source,
        route::{DEFAULT_CLTV_LIMIT, DEFAULT_MAX_HOPS, along},
    },
    types::{CltvExpiry, Msat, NodeId, PaymentHash, ShortChannelId, UnixTime},
};
use tokio_stream::StreamExt as _;

use super::{LightningNode, internal, invoices::to_core_hint, payments::check_blocks, tip_error};
use crate::{
    api::{
        ApiError, Attempt, AttemptState, BuildRoute, FailureReason, FeeEstimate, FeeQuery, FoundRoute, PaymentState,
        PlannedRoute, RouteHop, RouteQuery, Routes,
    },
    driver::{connection::ephemeral_key, routing::BLOCK_PADDING, services::Services},
    store::StoreError,
};

/// Blocks that a recipient gets if the caller does not say; LND's own default for its forwards and recipients.
const DEFAULT_FINAL_CLTV: u16 = 80;
/// The most that a probe may cost, as with LND.
const PROBE_FEE_LIMIT: Msat = Msat(100_000_000_000);

#[async_trait]
impl Routes for LightningNode {
    async fn query_route(&self, query: RouteQuery) -> Result<FoundRoute, ApiError> {
        let services = self.services();
        let local = NodeId::from(services.node_id());
        let channels = leaving_by(services.local_channels().await, &query.outgoing);
        let hints: Vec<Vec<HintHop>> =
            query.route_hints.iter().map(|route| route.iter().map(to_core_hint).collect()).collect();
        let mut excluded = between(services, &query.ignored_pairs);
        excluded.extend(&query.ignored_channels);
        let source = match query.source.filter(|source| *source != local) {
            None => Source::Local { node: local, channels: &channels },
            Some(source) => Source::Graph(source),
        };
        let question = RouteRequest {
            last_hop: query.last_hop,
            hints: &hints,
            fee_limit: query.max_fee.unwrap_or(Msat(u64::MAX)),
            cltv_limit: query.max_cltv.map_or(DEFAULT_CLTV_LIMIT, |most| most.min(DEFAULT_CLTV_LIMIT)),
            excluded_nodes: &query.ignored_nodes,
            excluded_edges: &excluded,
            failed: &[],
            params: CostParams::preferring(query.time_pref),
            ..question(services, source, query.target.into(), query.amount, query.final_cltv)
        };
        let plan = if query.use_experience {
            services.find(&question)
        } else {
            let intake = services.gossip.intake();
            Router::new().find(intake.graph(), &Scorer::new(), &question)
        };
        let plan = plan.map_err(|error| no_route(&error))?;
        let route = plan.routes.first().ok_or_else(|| internal("a plan without a route"))?;
        let route = PlannedRoute { custom_records: query.custom_records, ..planned(route)? };
        Ok(FoundRoute { route, success_probability: plan.success_probability })
    }

    async fn build_route(&self, request: BuildRoute) -> Result<PlannedRoute, ApiError> {
        let services = self.services();
        let outgoing: Vec<ShortChannelId> = request.outgoing.into_iter().collect();
        let channels = leaving_by(services.local_channels().await, &outgoing);
        let nodes: Vec<NodeId> = request.hops.iter().copied().map(NodeId::from).collect();
        let target = *nodes.last().ok_or_else(|| ApiError::invalid("a route has at least one hop"))?;
        let source = Source::Local { node: services.node_id().into(), channels: &channels };
        let amount = request.amount.unwrap_or_else(|| least(services, &channels, &nodes));
        let question = question(services, source, target, amount, request.final_cltv);
        let route = {
            let intake = services.gossip.intake();
            along(intake.graph(), &question, &nodes).map_err(|error| no_route(&error))?
        };
        let mut planned = planned(&route)?;
        planned.payment = request.secret.map(|secret| (secret, route.amount()));
        Ok(planned)
    }

    async fn send_to_route(&self, hash: PaymentHash, planned: PlannedRoute) -> Result<Attempt, ApiError> {
        let services = self.services();
        let route = to_route(&planned)?;
        let last = route.last();
        let (secret, total) = match planned.payment {
            Some((secret, total)) => (Some(secret), total),
            None => (None, last.amount),
        };
        let request = PaymentRequest {
            payment_hash: hash,
            destination: last.node_id,
            amount: total,
            payment_secret: secret,
            payment_metadata: planned.metadata,
            final_cltv_delta: 0,
            max_fee: Msat(u64::MAX),
            deadline: UnixTime(0),
            bolt11: String::new(),
            hints: Vec::new(),
            limits: PaymentLimits::default(),
            keysend: None,
            custom_records: planned.custom_records,
        };
        services.wait_for_tip().await.map_err(|doubt| tip_error("nothing is paid", &doubt))?;
        let mut sent = None;
        let send = || {
            let begun = services.try_change(&services.payments, |payments| {
                let stored = services.payment_record(&hash)?;
                let now = services.now();
                let (id, outbox) = payments.send_on_route(request, route, stored.as_ref(), ephemeral_key(), now)?;
                services.payment_times.begin(hash);
                sent = Some(id);
                Ok(outbox)
            });
            begun.map_err(|error| match error {
                SendError::Store(error) => error.into(),
                SendError::Route(error @ (OnRouteError::Start(_) | OnRouteError::Differs)) => {
                    ApiError::exists(error.to_string())
                }
                SendError::Route(OnRouteError::Route(error)) => ApiError::invalid(error.to_string()),
            })
        };
        let mut updates = self.follow_from_the_start(hash, send).await?;
        let id = sent.ok_or_else(|| internal("a part without a number"))?;
        while let Some(update) = updates.next().await {
            let payment = update?;
            let Some(attempt) = payment.attempts.into_iter().find(|attempt| attempt.id == id.0) else { continue };
            match &attempt.state {
                AttemptState::Failed { .. } | AttemptState::Succeeded { .. } => return Ok(attempt),
                AttemptState::InFlight => {}
            }
        }
        Err(ApiError::unavailable("the node is stopping; `leyden trackpayment` shows how the payment ended"))
    }

    async fn estimate_fee(&self, request: FeeQuery) -> Result<FeeEstimate, ApiError> {
        match request {
            FeeQuery::Known { target, amount, outgoing } => self.known_fee(target.into(), amount, &outgoing).await,
            FeeQuery::Probe { request, timeout, outgoing } => self.probe(&request, timeout, outgoing).await,
        }
    }

    async fn forget_experience(&self) -> Result<(), ApiError> {
        self.services().forget_learnt().map_err(internal)
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Route(#[from] OnRouteError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LightningNode {
    async fn known_fee(
        &self,
        target: NodeId,
        amount: Msat,
        outgoing: &[ShortChannelId],
    ) -> Result<FeeEstimate, ApiError> {
        let services = self.services();
        let channels = leaving_by(services.local_channels().await, outgoing);
        let source = Source::Local { node: services.node_id().into(), channels: &channels };
        let question = RouteRequest { fee_limit: PROBE_FEE_LIMIT, ..question(services, source, target, amount, None) };
        let plan = services.find(&question).map_err(|error| no_route(&error))?;
        let route = plan.routes.first().ok_or_else(|| internal("a plan without a route"))?;
        let expiry = CltvExpiry(route.total_cltv_expiry().0.saturating_add(BLOCK_PADDING));
        Ok(FeeEstimate::Found { fee: route.total_fee(), expiry })
    }

    /// A payment in one part under a hash that is nobody's: only its recipient can tell that it knows no such invoice.
    async fn probe(
        &self,
        text: &str,
        timeout: Duration,
        outgoing: Vec<ShortChannelId>,
    ) -> Result<FeeEstimate, ApiError> {
        let services = self.services();
        let invoice = payment::Invoice::parse(text, services.invoice_network)
            .map_err(|error| ApiError::invalid(error.to_string()))?;
        let amount = invoice
            .amount
            .ok_or_else(|| ApiError::invalid("the invoice leaves the amount open: a probe needs one that names it"))?;
        if invoice.payee == services.node_id() {
            return Err(ApiError::invalid("this is an invoice of this node's own: there is no route to probe"));
        }
        let request = PaymentRequest {
            payment_hash: PaymentHash(rand::random()),
            destination: invoice.payee,
            amount,
            payment_secret: Some(invoice.payment_secret),
            payment_metadata: invoice.payment_metadata,
            final_cltv_delta: invoice.min_final_cltv_expiry_delta,
            max_fee: PROBE_FEE_LIMIT,
            deadline: UnixTime(services.now().0.saturating_add(timeout.as_secs())),
            bolt11: String::new(),
            hints: invoice.route_hints,
            limits: PaymentLimits { outgoing, ..PaymentLimits::default() },
            keysend: None,
            custom_records: Vec::new(),
        };
        check_blocks(&request)?;
        let mut updates = self.begin(request).await?;
        while let Some(update) = updates.next().await {
            let payment = update?;
            let reason = match payment.state {
                PaymentState::Initiated | PaymentState::InFlight => continue,
                PaymentState::Succeeded { .. } => {
                    return Err(internal("somebody knew the preimage of a random hash: the probe was paid"));
                }
                PaymentState::Failed { reason } => reason,
            };
            let reached = payment.attempts.last().filter(|_| reason == FailureReason::IncorrectDetails);
            return Ok(match reached {
                Some(attempt) => FeeEstimate::Found {
                    fee: Msat(attempt.route.iter().fold(0, |sum: u64, hop| sum.saturating_add(hop.fee.0))),
                    expiry: attempt.expiry,
                },
                None => FeeEstimate::Failed(reason),
            });
        }
        Err(ApiError::unavailable("the node is stopping; try again when it runs"))
    }
}

fn question<'a>(
    services: &Services,
    source: Source<'a>,
    target: NodeId,
    amount: Msat,
    final_cltv: Option<u16>,
) -> RouteRequest<'a> {
    RouteRequest {
        source,
        target,
        hints: &[],
        last_hop: None,
        amount,
        final_cltv_delta: u32::from(final_cltv.unwrap_or(DEFAULT_FINAL_CLTV)),
        height: services.tip(),
        now: services.steady_time(),
        fee_limit: Msat(u64::MAX),
        cltv_limit: DEFAULT_CLTV_LIMIT,
        max_parts: 1,
        max_hops: DEFAULT_MAX_HOPS,
        excluded_nodes: &[],
        excluded_edges: &[],
        failed: &[],
        failure_updates: &[],
        params: CostParams::default(),
    }
}

fn leaving_by(channels: Vec<LocalChannel>, outgoing: &[ShortChannelId]) -> Vec<LocalChannel> {
    let wanted = |channel: &LocalChannel| outgoing.is_empty() || outgoing.contains(&channel.short_channel_id);
    channels.into_iter().filter(wanted).collect()
}

/// Every channel from the first node of a pair to the second.
fn between(services: &Services, pairs: &[(NodeId, NodeId)]) -> Vec<(ShortChannelId, Direction)> {
    let intake = services.gossip.intake();
    let graph = intake.graph();
    let mut edges = Vec::new();
    for (from, to) in pairs {
        let channels = graph.channels_between(from, to);
        edges.extend(channels.map(|(channel, direction)| (channel.short_channel_id, direction)));
    }
    edges
}

/// The least that some channel between each two nodes takes. Amounts only rise towards the payer.
fn least(services: &Services, channels: &[LocalChannel], nodes: &[NodeId]) -> Msat {
    let first = channels.iter().filter(|channel| nodes.first() == Some(&channel.peer));
    let first = first.map(|channel| channel.htlc_minimum_msat).min().unwrap_or(Msat(1));
    let intake = services.gossip.intake();
    let graph = intake.graph();
    let between = |from: &NodeId, to: &NodeId| {
        let channels = graph.channels_between(from, to);
        let minima = channels.filter_map(|(channel, direction)| channel.policies.get(direction).as_ref());
        minima.filter(|policy| !policy.disabled).map(|policy| policy.htlc_minimum_msat).min()
    };
    let others = nodes.windows(2).filter_map(|pair| match pair {
        [from, to] => between(from, to),
        _ => None,
    });
    others.chain([first, Msat(1)]).max().unwrap_or(Msat(1))
}

fn no_route(error: &RouteError) -> ApiError {
    match error {
        RouteError::ZeroAmount => ApiError::invalid(error.to_string()),
        RouteError::InsufficientBalance { .. }
        | RouteError::NoRoute { .. }
        | RouteError::FeeLimit { .. }
        | RouteError::CltvLimit { .. }
        | RouteError::UnknownChannel(_)
        | RouteError::BadHops => ApiError::NoRoute(format!("unable to find a path to destination: {error}")),
    }
}

fn planned(route: &routing::Route) -> Result<PlannedRoute, ApiError> {
    let mut hops = Vec::with_capacity(route.hops.len());
    for (index, hop) in route.hops.iter().enumerate() {
        let next = route.hops.get(index + 1);
        hops.push(RouteHop {
            short_channel_id: hop.short_channel_id,
            capacity: hop.capacity.floor_sat(),
            node_id: hop.node.public_key().map_err(internal)?,
            amount: next.map_or(hop.amount, |next| next.amount),
            fee: route.fee_of(index),
            expiry: next.map_or(hop.cltv_expiry, |next| next.cltv_expiry),
        });
    }
    let (payment, metadata, custom_records) = (None, None, Vec::new());
    Ok(PlannedRoute { hops, expiry: route.total_cltv_expiry(), payment, metadata, custom_records })
}

/// From what each node forwards to what reaches it.
fn to_route(planned: &PlannedRoute) -> Result<Route, ApiError> {
    let mut arriving = planned.expiry;
    let mut hops = Vec::with_capacity(planned.hops.len());
    for hop in &planned.hops {
        let amount = hop.amount.checked_add(hop.fee).ok_or_else(|| ApiError::invalid("route: too large an amount"))?;
        let channel = Some(hop.short_channel_id).filter(|id| id.0 != 0);
        hops.push(Hop { node_id: hop.node_id, channel, amount, cltv_expiry: arriving });
        arriving = hop.expiry;
    }
    Route::new(hops).ok_or_else(|| {
        let text = "route: it has 1 to 27 hops, and amounts and expiries never rise on the way";
        ApiError::invalid(text)
    })
}
