//! Routes, exact to the millisatoshi and the block, and what is asked of them.
//!
//! ```text
//!   payer ── channel ──► hop 0 ── channel ──► hop 1 ── channel ──► payee
//!           amount₀, expiry₀     amount₁, expiry₁     amount₂ = what arrives
//!
//!   amountᵢ = amountᵢ₊₁ + fee of hop i for amountᵢ₊₁,   expiryᵢ = expiryᵢ₊₁ + delta of hop i
//! ```

use crate::gossip::graph::Channel;
use crate::gossip::{Direction, EdgeId, Graph, RoutingPolicy};
use crate::margins::MAX_HTLC_CLTV;
use crate::onion::payload::{ForwardPayload, ReceivePayload};
use crate::routing::HintHop;
use crate::routing::cost::CostParams;
use crate::routing::failure_update::{self, UpdateFromFailure};
use crate::routing::scorer::{Attempted, Scorer};
use crate::types::{CltvExpiry, Height, Msat, NodeId, ShortChannelId, UnixTime};

/// A channel of our own, as far as a payment over it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalChannel {
    /// Its name, an alias perhaps.
    pub short_channel_id: ShortChannelId,
    /// Whom it leads to.
    pub peer: NodeId,
    /// What can be sent over it now, all limits considered.
    pub available: Msat,
    /// Limits of a single HTLC.
    pub htlc_minimum_msat: Msat,
    /// The largest HTLC that the peer takes.
    pub htlc_maximum_msat: Msat,
}

/// Where a payment starts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Source<'a> {
    /// At this node, over channels whose balances are known.
    Local { node: NodeId, channels: &'a [LocalChannel] },
    /// At any node of the graph, over the channels that the graph has.
    Graph(NodeId),
}

impl Source<'_> {
    /// The payer.
    pub fn node(&self) -> NodeId {
        match self {
            Self::Local { node, .. } | Self::Graph(node) => *node,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRequest<'a> {
    /// Where the payment starts.
    pub source: Source<'a>,
    /// The payee; the payer itself for a payment that moves its own balances.
    pub target: NodeId,
    /// Routes to the payee over channels that the graph does not know.
    pub hints: &'a [Vec<HintHop>],
    /// The node over which the payment must reach the payee.
    pub last_hop: Option<NodeId>,
    /// What the payee gets, in all parts together.
    pub amount: Msat,
    /// Blocks that the last HTLC is to have left: the payee's minimum, and a random number more so that hops cannot
    /// tell how near the payee is.
    pub final_cltv_delta: u32,
    /// The chain's tip, from which expiries are counted.
    pub height: Height,
    /// The clock.
    pub now: UnixTime,
    /// For all parts together.
    pub fee_limit: Msat,
    /// Blocks from `height` to the expiry of the first HTLC.
    pub cltv_limit: u32,
    /// How many HTLCs the payment may be split into; at least 1.
    pub max_parts: usize,
    /// How many hops a route may have.
    pub max_hops: usize,
    /// Nodes that are not passed through.
    pub excluded_nodes: &'a [NodeId],
    /// Channels that are not taken in this direction.
    pub excluded_edges: &'a [(ShortChannelId, Direction)],
    /// What was too much for a channel in this payment.
    pub failed: &'a [Attempted],
    /// Terms that failures of this payment have brought: they count in place of the graph's.
    pub failure_updates: &'a [UpdateFromFailure],
    /// What the payer weighs against what.
    pub params: CostParams,
}

/// The usual limits on hops: the public network is never this wide, and the payloads of 20 hops leave room for
/// custom records.
pub const DEFAULT_MAX_HOPS: usize = 20;
/// Most nodes take no HTLC that expires later, and we offer none.
pub const DEFAULT_CLTV_LIMIT: u32 = MAX_HTLC_CLTV;

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RouteError {
    #[error("an amount of zero cannot be sent")]
    ZeroAmount,
    #[error("no route to the payee carries {amount}: open a channel, wait for gossip, or send less")]
    NoRoute { amount: Msat },
    #[error("our channels can send {available} together, and {amount} is needed")]
    InsufficientBalance { amount: Msat, available: Msat },
    #[error("the cheapest route costs {least} in fees, and the limit is {limit}")]
    FeeLimit { least: Msat, limit: Msat },
    #[error(
        "routes within the fee limit lock money longer than the {limit} blocks allowed; the fastest of all takes {least}"
    )]
    CltvLimit { least: u32, limit: u32 },
    #[error("channel {0} is not known")]
    UnknownChannel(ShortChannelId),
    #[error("the given hops are not connected, or one of them does not take the amount")]
    BadHops,
}

/// The HTLC that arrives at a node of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHop {
    /// The node that it arrives at.
    pub node: NodeId,
    /// The channel that leads to `node`, in this direction.
    pub short_channel_id: ShortChannelId,
    /// The direction in which it takes the channel.
    pub direction: Direction,
    /// The channel's capacity, as far as it is known.
    pub capacity: Msat,
    /// What arrives.
    pub amount: Msat,
    /// The expiry of the HTLC that arrives.
    pub cltv_expiry: CltvExpiry,
}

/// A route from the payer to the payee; it has at least one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTLCs in order, the one to the payee last.
    pub hops: Vec<RouteHop>,
}

impl Route {
    /// What the payer sends.
    pub fn total_amount(&self) -> Msat {
        self.hops.first().map_or(Msat::ZERO, |hop| hop.amount)
    }

    /// What the payee gets.
    pub fn amount(&self) -> Msat {
        self.hops.last().map_or(Msat::ZERO, |hop| hop.amount)
    }

    /// What the nodes between take together.
    pub fn total_fee(&self) -> Msat {
        self.total_amount().saturating_sub(self.amount())
    }

    /// The expiry of the first HTLC.
    pub fn total_cltv_expiry(&self) -> CltvExpiry {
        self.hops.first().map_or(CltvExpiry(0), |hop| hop.cltv_expiry)
    }

    /// What the hop at `index` takes for itself.
    pub fn fee_of(&self, index: usize) -> Msat {
        let amount = |index: usize| self.hops.get(index).map(|hop| hop.amount);
        match (amount(index), amount(index + 1)) {
            (Some(arrives), Some(leaves)) => arrives.saturating_sub(leaves),
            _ => Msat::ZERO,
        }
    }

    /// What the scorer is told about each hop.
    pub fn attempted(&self) -> Vec<Attempted> {
        let attempted = |hop: &RouteHop| Attempted {
            short_channel_id: hop.short_channel_id,
            direction: hop.direction,
            amount: hop.amount,
            capacity: Some(hop.capacity),
        };
        self.hops.iter().map(attempted).collect()
    }

    /// The chance that every hop has its amount, as far as the scorer knows; the first hop counts as certain.
    pub fn success_probability(&self, scorer: &Scorer, now: UnixTime) -> f64 {
        let chance = |hop: &RouteHop| {
            let capacity = hop.capacity.0 as f64;
            let bounds = scorer.bounds(hop.short_channel_id, hop.direction, now);
            let bounds = bounds.unwrap_or(super::scorer::Bounds::unknown(capacity));
            bounds.success_probability(0.0, hop.amount.0 as f64)
        };
        self.hops.iter().skip(1).map(chance).product()
    }

    /// The onion payload of each hop, in order. `last` is the payee's; its amount and expiry are set here.
    pub fn payloads(&self, mut last: ReceivePayload) -> Vec<Vec<u8>> {
        let mut payloads: Vec<Vec<u8>> = self
            .hops
            .iter()
            .skip(1)
            .map(|next| {
                let forward = ForwardPayload {
                    amt_to_forward: next.amount,
                    outgoing_cltv_value: next.cltv_expiry,
                    short_channel_id: next.short_channel_id,
                };
                forward.encode()
            })
            .collect();
        if let Some(hop) = self.hops.last() {
            last.amt_to_forward = hop.amount;
            last.outgoing_cltv_value = hop.cltv_expiry;
            payloads.push(last.encode());
        }
        payloads
    }
}

/// One channel of a path, wherever it is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A channel of our own, by its place in [`Source::Local`].
    Local(usize),
    Edge(EdgeId),
    /// A channel of an invoice's hint.
    Hint {
        hint: usize,
        hop: usize,
    },
}

/// What a step asks for, in the form that all three have.
pub(super) struct HopTerms {
    pub short_channel_id: ShortChannelId,
    pub to: NodeId,
    pub direction: Direction,
    pub capacity: Msat,
    pub minimum: Msat,
    pub maximum: Msat,
    pub fee_base_msat: u32,
    pub fee_proportional_millionths: u32,
    pub cltv_expiry_delta: u16,
}

/// The capacity that a channel from a hint is taken to have.
const HINT_CAPACITY: Msat = Msat(100_000_000_000);

pub(super) fn direction_between(from: &NodeId, to: &NodeId) -> Direction {
    if from < to { Direction::FromNode1 } else { Direction::FromNode2 }
}

impl Step {
    pub(super) fn terms(self, graph: &Graph, request: &RouteRequest<'_>) -> Option<HopTerms> {
        match self {
            Self::Local(index) => {
                let Source::Local { node, channels } = request.source else { return None };
                let channel = channels.get(index)?;
                let capacity =
                    graph.channel_by_id(channel.short_channel_id).map_or(channel.available, Channel::capacity_msat);
                Some(HopTerms {
                    short_channel_id: channel.short_channel_id,
                    to: channel.peer,
                    direction: direction_between(&node, &channel.peer),
                    capacity,
                    minimum: channel.htlc_minimum_msat,
                    maximum: channel.htlc_maximum_msat.min(channel.available),
                    fee_base_msat: 0,
                    fee_proportional_millionths: 0,
                    cltv_expiry_delta: 0,
                })
            }
            Self::Edge(edge) => {
                let (channel, policy) = graph.edge(edge)?;
                let updated = failure_update::find(request.failure_updates, channel.short_channel_id, edge.direction());
                // The search has seen the graph's terms: that a channel is disabled shows here alone.
                let closed = updated.is_some_and(|policy| policy.disabled);
                let policy = updated.unwrap_or(policy);
                let (_, to) = channel.ends(edge.direction());
                Some(HopTerms {
                    short_channel_id: channel.short_channel_id,
                    to: graph.node(to)?.id,
                    direction: edge.direction(),
                    capacity: channel.capacity_msat(),
                    minimum: policy.htlc_minimum_msat,
                    maximum: if closed { Msat::ZERO } else { policy.htlc_maximum_msat.min(channel.capacity_msat()) },
                    fee_base_msat: policy.fee_base_msat,
                    fee_proportional_millionths: policy.fee_proportional_millionths,
                    cltv_expiry_delta: policy.cltv_expiry_delta,
                })
            }
            Self::Hint { hint, hop } => {
                let hops = request.hints.get(hint)?;
                let at = hops.get(hop)?;
                let to = hops.get(hop + 1).map_or(request.target, |next| next.node_id.into());
                Some(HopTerms {
                    short_channel_id: at.short_channel_id,
                    to,
                    direction: direction_between(&at.node_id.into(), &to),
                    capacity: HINT_CAPACITY.max(Msat(request.amount.0.saturating_mul(2))),
                    minimum: Msat(1),
                    maximum: Msat(u64::MAX),
                    fee_base_msat: at.fee_base_msat,
                    fee_proportional_millionths: at.fee_proportional_millionths,
                    cltv_expiry_delta: at.cltv_expiry_delta,
                })
            }
        }
    }
}

impl HopTerms {
    fn fee(&self, amount: Msat) -> Option<Msat> {
        let policy = RoutingPolicy {
            timestamp: 0,
            checksum: 0,
            disabled: false,
            cltv_expiry_delta: self.cltv_expiry_delta,
            htlc_minimum_msat: self.minimum,
            htlc_maximum_msat: self.maximum,
            fee_base_msat: self.fee_base_msat,
            fee_proportional_millionths: self.fee_proportional_millionths,
        };
        policy.fee(amount)
    }
}

/// A step whose terms the exact amount does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub Step);

/// The exact route over `steps`, which lead from the payer to the payee, for an amount that arrives. `None` in the
/// error: the steps do not exist (any more).
pub(super) fn exact(
    graph: &Graph,
    request: &RouteRequest<'_>,
    steps: &[Step],
    amount: Msat,
) -> Result<Route, Option<Violation>> {
    let mut amount = amount;
    let mut expiry = request.height.0.checked_add(request.final_cltv_delta).ok_or(None)?;
    let mut hops = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate().rev() {
        let terms = step.terms(graph, request).ok_or(None)?;
        if amount < terms.minimum || amount > terms.maximum {
            return Err(Some(Violation(*step)));
        }
        hops.push(RouteHop {
            node: terms.to,
            short_channel_id: terms.short_channel_id,
            direction: terms.direction,
            capacity: terms.capacity,
            amount,
            cltv_expiry: CltvExpiry(expiry),
        });
        // The payer does not pay itself for the first channel.
        if index > 0 {
            let fee = terms.fee(amount).ok_or(Some(Violation(*step)))?;
            amount = amount.checked_add(fee).ok_or(Some(Violation(*step)))?;
            expiry = expiry.checked_add(u32::from(terms.cltv_expiry_delta)).ok_or(Some(Violation(*step)))?;
        }
    }
    hops.reverse();
    Ok(Route { hops })
}

/// The exact route over given nodes, over the channel between each two that takes the amount for the least
/// fee (BuildRoute). The request's source and target are the ends of `nodes`, which names every node after the payer.
pub fn along(graph: &Graph, request: &RouteRequest<'_>, nodes: &[NodeId]) -> Result<Route, RouteError> {
    let mut amount = request.amount;
    let mut steps = Vec::with_capacity(nodes.len());
    let froms: Vec<NodeId> = std::iter::once(request.source.node()).chain(nodes.iter().copied()).collect();
    for (index, (from, to)) in froms.iter().zip(nodes).enumerate().rev() {
        let step = match (request.source, index) {
            (Source::Local { channels, .. }, 0) => channels
                .iter()
                .enumerate()
                .filter(|(_, channel)| channel.peer == *to && channel.available >= amount)
                .max_by_key(|(_, channel)| channel.available)
                .map(|(index, _)| Step::Local(index)),
            _ => cheapest_edge(graph, request, from, to, amount),
        };
        let step = step.ok_or(RouteError::BadHops)?;
        if index > 0 {
            let terms = step.terms(graph, request).ok_or(RouteError::BadHops)?;
            amount = terms.fee(amount).and_then(|fee| amount.checked_add(fee)).ok_or(RouteError::BadHops)?;
        }
        steps.push(step);
    }
    steps.reverse();
    exact(graph, request, &steps, request.amount).map_err(|_| RouteError::BadHops)
}

fn cheapest_edge(graph: &Graph, request: &RouteRequest<'_>, from: &NodeId, to: &NodeId, amount: Msat) -> Option<Step> {
    let (from, to) = (graph.find_node(from)?, graph.find_node(to)?);
    graph
        .outgoing(from)
        .iter()
        .filter(|slot| slot.peer == to && slot.htlc_maximum_msat > 0.0)
        .filter_map(|slot| {
            let step = Step::Edge(slot.edge);
            let terms = step.terms(graph, request)?;
            let takes = (terms.minimum..=terms.maximum).contains(&amount);
            takes.then_some((terms.fee(amount)?, step))
        })
        .min_by_key(|(fee, _)| *fee)
        .map(|(_, step)| step)
}
