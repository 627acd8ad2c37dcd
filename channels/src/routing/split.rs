//! A payment as one part or many.
//!
//! Of all ways to split an amount, the best one minimises the sum over its parts of fee + price × −ln(chance): a
//! min-cost flow, were the cost of an edge linear or convex. It is convex in the chance to fail (the more of a channel
//! is used, the dearer the next satoshi), but base fees, HTLC minima and the price of a hop are fixed costs a part,
//! under which an exact flow has no polynomial algorithm, and a linearised one answers with dozens of tiny parts whose
//! base fees it has not seen. So this module works with whole parts, each priced as it really is:
//!
//! ```text
//!   1. the best single path for the whole amount; if its chance is good, done
//!   2. for 2, 4, 8, … parts: part after part takes the best path there is, given what the parts before it use
//!      (an edge that is used already is priced at the margin); a part that finds none is halved
//!   3. each part looks for a better path once more, given all others: what an augmenting path over residual edges
//!      does in a flow algorithm, without leaving the true costs
//!   4. parts that took the same path become one; the cheapest plan of all wins
//! ```
//!
//! Each step is one search of some tens of microseconds, so even a payment of many parts is planned in the time that a
//! flow solver needs to build its network. The tests hold the result against the best of all splits
//! where those can be counted.

use super::cost::{EdgeCosts, SearchTerms, Usage};
use super::ends::{Ends, LastHopChannel};
use super::pricing::{Part, Pricing, StepCost};
use super::route::{Route, RouteError, RouteRequest, Source, Step, Violation, exact};
use super::scorer::{AGAINST_EXPECTATION, Scorer};
use super::search::{Path, Search, SearchRequest, Seed};
use crate::gossip::{EdgeId, Graph};
use crate::types::Msat;

/// Routes that together bring the whole amount to the payee, each carrying its own part.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One a part; at least one.
    pub routes: Vec<Route>,
    /// The chance that all of them arrive, as far as the scorer knows.
    pub success_probability: f64,
}

impl Plan {
    /// What all parts pay in fees.
    pub fn total_fee(&self) -> Msat {
        Msat(self.routes.iter().fold(0, |sum, route| sum.saturating_add(route.total_fee().0)))
    }
}

/// The chance from which on a single path is taken without looking for a split. Below it, a split may save more in
/// failed attempts than its further fees cost.
const GOOD_ENOUGH_NATS: f32 = 0.7;
/// A part is not made smaller than this: below, base fees and slots outweigh any gain.
const LEAST_PART: Msat = Msat(10_000_000);
/// How much more than its share a part may cost.
const SLACK: f32 = 1.25;
/// Pieces that a part may be put together from: those that take the same way become one.
const PIECES: usize = 4;
/// How often a path may turn out not to take its exact amount before the search gives up.
const MAX_RETRIES: usize = 10;

/// Finds routes, and keeps the memory that it needs for that.
#[derive(Default)]
pub struct Router {
    search: Search,
    usage: Usage,
}

impl Router {
    /// Without memory yet: it grows with the first request.
    pub fn new() -> Self {
        Self::default()
    }

    /// The best plan for a request, given what the scorer has learnt.
    pub fn find(&mut self, graph: &Graph, scorer: &Scorer, request: &RouteRequest<'_>) -> Result<Plan, RouteError> {
        if request.amount == Msat::ZERO {
            return Err(RouteError::ZeroAmount);
        }
        if let Source::Local { channels, .. } = request.source {
            let available = Msat(channels.iter().fold(0, |sum, channel| sum.saturating_add(channel.available.0)));
            if available < request.amount {
                return Err(RouteError::InsufficientBalance { amount: request.amount, available });
            }
        }
        let (request, ends) = (request.clone(), Ends::new(graph, request));
        let mut job = Job { router: self, graph, scorer, request, ends, least_chance: 0.0 };
        match job.find() {
            // Against what was learnt, where there is no other route.
            Err(RouteError::NoRoute { .. }) if !scorer.is_empty() => {
                job.least_chance = AGAINST_EXPECTATION;
                job.find()
            }
            found => found,
        }
    }
}

/// The work on one request.
struct Job<'a> {
    router: &'a mut Router,
    graph: &'a Graph,
    scorer: &'a Scorer,
    request: RouteRequest<'a>,
    ends: Ends,
    /// The chance that a channel has more than what was learnt says.
    least_chance: f64,
}

impl Job<'_> {
    fn find(&mut self) -> Result<Plan, RouteError> {
        let (params, fee_limit, cltv_limit) = (self.request.params, self.request.fee_limit, self.request.cltv_limit);
        let plan = self.best().ok_or(RouteError::NoRoute { amount: self.request.amount })?;
        if self.within_limits(&plan) {
            return Ok(plan);
        }
        // What is best may be too dear or too slow: then what is cheapest, or fastest.
        let (mut least_fee, mut least_blocks) = (plan.total_fee(), self.blocks(&plan));
        for params in [params.fees_only(), params.blocks_only()] {
            self.request.params = params;
            if let Some(other) = self.best() {
                if self.within_limits(&other) {
                    return Ok(other);
                }
                least_fee = least_fee.min(other.total_fee());
                least_blocks = least_blocks.min(self.blocks(&other));
            }
        }
        if least_fee > fee_limit {
            return Err(RouteError::FeeLimit { least: least_fee, limit: fee_limit });
        }
        Err(RouteError::CltvLimit { least: least_blocks, limit: cltv_limit })
    }

    /// The longest time for which a part may lock money, in blocks.
    fn blocks(&self, plan: &Plan) -> u32 {
        let expiry = plan.routes.iter().map(|route| route.total_cltv_expiry().0).max().unwrap_or_default();
        expiry.saturating_sub(self.request.height.0)
    }

    fn within_limits(&self, plan: &Plan) -> bool {
        plan.total_fee() <= self.request.fee_limit && self.blocks(plan) <= self.request.cltv_limit
    }

    fn best(&mut self) -> Option<Plan> {
        if self.ends.most(self.graph, &self.request) < self.request.amount {
            return None;
        }
        self.router.usage.clear();
        let single = self.part(self.request.amount, &[], f32::INFINITY);
        if let Some(part) = &single
            && (part.nats <= GOOD_ENOUGH_NATS || self.request.max_parts <= 1)
        {
            return Some(plan(vec![part.clone()]));
        }
        let mut best: Option<Vec<Part>> = single.map(|part| vec![part]);
        let mut count = 2;
        while count <= self.request.max_parts {
            if self.request.amount.0 / (count as u64) < LEAST_PART.0
                && (best.is_some() || count > 4 || self.fits_in_one_channel())
            {
                break;
            }
            let to_beat = best.as_ref().map_or(f32::INFINITY, |best| total_cost(best));
            match self.split(count, to_beat) {
                Some(split) => best = Some(split),
                // Costs are convex in the number of parts, but for the grain of the paths.
                None if best.is_some() => break,
                None => {}
            }
            count *= 2;
        }
        best.map(plan)
    }

    /// Whether a channel of ours could carry everything. Then parts smaller than the least are not worth making even
    /// where nothing else seems to work: after a failure a scorer believes that less would pass, mostly wrongly if the
    /// amount was small (a node may have been away), and the parts that arrive wait for the others until they time out.
    fn fits_in_one_channel(&self) -> bool {
        match self.request.source {
            Source::Local { channels, .. } => channels.iter().any(|channel| channel.available >= self.request.amount),
            Source::Graph(_) => false,
        }
    }

    /// The amount in about `count` parts, if that costs less than `to_beat`.
    fn split(&mut self, count: usize, to_beat: f32) -> Option<Vec<Part>> {
        self.router.usage.clear();
        let mut parts: Vec<Part> = Vec::with_capacity(count);
        let mut size = self.request.amount.0.div_ceil(count as u64);
        let mut left = self.request.amount.0;
        let mut spent = 0.0;
        while left > 0 {
            if parts.len() >= self.request.max_parts.saturating_mul(PIECES) {
                return None;
            }
            // A remainder too small to stand alone goes with the part before it.
            let amount = if left < size + size / 8 { left } else { size };
            // Later parts find less room, so this part may cost its share of what is left to spend; and a little more,
            // because a channel that two parts share costs the second one less.
            let share = amount as f32 / left as f32;
            match self.part(Msat(amount), &parts, (to_beat - spent) * (share * SLACK).min(1.0)) {
                Some(part) => {
                    self.take(&part, true);
                    spent += part.cost;
                    parts.push(part);
                    left -= amount;
                }
                // A smaller part could pass where this one could not, but not for less.
                None if to_beat.is_finite() => return None,
                None => {
                    size /= 2;
                    if size < LEAST_PART.0 / 10 {
                        return None;
                    }
                }
            }
        }
        self.improve(&mut parts);
        let mut parts = self.merge(parts);
        if parts.len() > self.request.max_parts {
            return None;
        }
        self.reprice(&mut parts);
        (total_cost(&parts) < to_beat).then_some(parts)
    }

    /// Lets each part that shares channels with later ones look for a better route, given all the others. Where it
    /// shares nothing, the later parts have only made other routes dearer.
    fn improve(&mut self, parts: &mut [Part]) {
        for index in 0..parts.len() {
            let Some((part, later)) = parts.get(index..).and_then(<[Part]>::split_first) else { return };
            let shares = |other: &Part| other.steps.iter().any(|step| part.steps.contains(step));
            if !later.iter().any(shares) {
                continue;
            }
            let amount = part.route.amount();
            let old = part.clone();
            self.take(&old, false);
            let others: Vec<Part> =
                parts.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, part)| part.clone()).collect();
            let new = self.part(amount, &others, f32::INFINITY).unwrap_or(old);
            self.take(&new, true);
            if let Some(place) = parts.get_mut(index) {
                *place = new;
            }
        }
    }

    /// Parts that take the same way become one, where its limits allow.
    fn merge(&mut self, parts: Vec<Part>) -> Vec<Part> {
        let mut merged: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            let same = merged.iter_mut().find(|other| other.steps == part.steps);
            if let Some(other) = same
                && let Some(amount) = other.route.amount().checked_add(part.route.amount())
                && let Ok(route) = exact(self.graph, &self.request, &part.steps, amount)
            {
                other.route = route;
                other.cost += part.cost;
                other.nats += part.nats;
            } else {
                merged.push(part);
            }
        }
        merged
    }

    /// Prices all parts anew, each given those before it: what a shared channel costs is then counted once.
    fn reprice(&mut self, parts: &mut [Part]) {
        self.router.usage.clear();
        for index in 0..parts.len() {
            let Some((part, before)) = parts.get_mut(..=index).and_then(<[Part]>::split_last_mut) else { return };
            let amount = part.route.amount();
            let usage = &self.router.usage;
            let costs =
                EdgeCosts::new(self.graph, self.scorer, usage, &[], terms(&self.request, amount, self.least_chance));
            let pricing = Pricing {
                graph: self.graph,
                request: &self.request,
                costs: &costs,
                amount,
                others: before,
                closed: &[],
            };
            let price = pricing.steps(&part.steps);
            part.cost = price.cost;
            part.nats = price.nats;
            let part = part.clone();
            self.take(&part, true);
        }
    }

    /// Notes what a part uses, or gives it back.
    fn take(&mut self, part: &Part, add: bool) {
        for (step, hop) in part.steps.iter().zip(&part.route.hops) {
            if let Step::Edge(edge) = step {
                if add {
                    self.router.usage.add(*edge, hop.amount);
                } else {
                    self.router.usage.subtract(*edge, hop.amount);
                }
            }
        }
    }

    /// The best route for one part, given the others.
    /// It costs less than `limit`.
    fn part(&mut self, amount: Msat, others: &[Part], limit: f32) -> Option<Part> {
        let mut banned = self.ends.banned.clone();
        let mut closed: Vec<Step> = Vec::new();
        for _ in 0..MAX_RETRIES {
            let found = self.path(amount, others, limit, &banned, &closed)?;
            match exact(self.graph, &self.request, &found.steps, amount) {
                Ok(route) if route.hops.len() > self.request.max_hops => return None,
                Ok(route) => match self.overfilled(&found.steps, &route) {
                    Some(edge) => banned.push(edge),
                    None => return Some(Part { route, ..found }),
                },
                Err(Some(Violation(Step::Edge(edge)))) => banned.push(edge),
                Err(Some(Violation(step))) => closed.push(step),
                Err(None) => return None,
            }
        }
        None
    }

    /// A channel that has no room for this part beside the others, now that the fees of later hops, which the search
    /// leaves out, are in the amounts.
    fn overfilled(&self, steps: &[Step], route: &Route) -> Option<EdgeId> {
        steps.iter().zip(&route.hops).find_map(|(step, hop)| {
            let Step::Edge(edge) = step else { return None };
            let capacity = self.graph.channel(edge.channel())?.capacity_msat();
            let used = self.router.usage.of(*edge).checked_add(hop.amount);
            used.is_none_or(|used| used > capacity).then_some(*edge)
        })
    }

    /// The cheapest path, in the search's rounded numbers; its route is still empty.
    fn path(&mut self, amount: Msat, others: &[Part], limit: f32, banned: &[EdgeId], closed: &[Step]) -> Option<Part> {
        let Router { search, usage } = &mut *self.router;
        let terms = terms(&self.request, amount, self.least_chance);
        let costs = EdgeCosts::new(self.graph, self.scorer, usage, banned, terms);
        let pricing = Pricing { graph: self.graph, request: &self.request, costs: &costs, amount, others, closed };
        let ends = &self.ends;
        let direct = ends
            .direct
            .iter()
            .map(|hop| (hop, pricing.first(&hop.channel)))
            .filter(|(_, price)| price.cost < limit)
            .min_by(|a, b| a.1.cost.total_cmp(&b.1.cost));
        let seed = |tag: usize, node, price: StepCost| {
            price.cost.is_finite().then_some(Seed { node, cost: price.cost, tag: tag as u32 })
        };
        let forward: Vec<Seed> = ends
            .first
            .iter()
            .enumerate()
            .filter_map(|(tag, hop)| seed(tag, hop.peer, pricing.first(&hop.channel)))
            .collect();
        let backward: Vec<Seed> = ends
            .last
            .iter()
            .enumerate()
            .filter_map(|(tag, hop)| seed(tag, hop.node, pricing.last(&hop.channel)))
            .collect();
        let question = SearchRequest {
            graph: self.graph,
            costs: &costs,
            forward: &forward,
            backward: &backward,
            blocked: &ends.blocked,
            nodes: ends.nodes,
            limit: direct.as_ref().map_or(limit, |(_, price)| price.cost),
        };
        match search.find(&question) {
            Some(path) => assemble(&path, ends, &pricing),
            None => {
                let (hop, price) = direct?;
                Some(Part { steps: vec![hop.channel.step()], route: empty(), cost: price.cost, nats: price.nats })
            }
        }
    }
}

fn assemble(path: &Path, ends: &Ends, pricing: &Pricing<'_>) -> Option<Part> {
    let first = ends.first.get(path.forward_tag as usize)?;
    let last = ends.last.get(path.backward_tag as usize)?;
    let mut steps = Vec::with_capacity(path.edges.len() + 2);
    steps.push(first.channel.step());
    steps.extend(path.edges.iter().map(|edge| Step::Edge(*edge)));
    match last.channel {
        LastHopChannel::Edge(slot) => steps.push(Step::Edge(slot.edge)),
        LastHopChannel::Hint(hint) => {
            let hops = pricing.request.hints.get(hint).map_or(0, Vec::len);
            steps.extend((0..hops).map(|hop| Step::Hint { hint, hop }));
        }
    }
    let nats = pricing.steps(&steps).nats;
    Some(Part { steps, route: empty(), cost: path.cost, nats })
}

fn terms<'a>(request: &'a RouteRequest<'_>, amount: Msat, least_chance: f64) -> SearchTerms<'a> {
    let RouteRequest { params, amount: whole, now, failed, .. } = request;
    SearchTerms { params, amount, whole: *whole, now: *now, failed, least_chance }
}

fn empty() -> Route {
    Route { hops: Vec::new() }
}

fn total_cost(parts: &[Part]) -> f32 {
    parts.iter().map(|part| part.cost).sum()
}

fn plan(parts: Vec<Part>) -> Plan {
    let nats: f32 = parts.iter().map(|part| part.nats).sum();
    Plan { routes: parts.into_iter().map(|part| part.route).collect(), success_probability: f64::from((-nats).exp()) }
}
