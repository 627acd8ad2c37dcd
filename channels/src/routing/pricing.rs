//! Prices for the steps of a path that the search does not walk over: the first and the last ones, hints, and whole
//! paths once more.

use super::cost::EdgeCosts;
use super::ends::{FirstHopChannel, LastHopChannel};
use super::route::{Route, RouteRequest, Source, Step};
use crate::gossip::{Graph, Slot};
use crate::types::Msat;

/// What a first, middle or last channel costs, when the graph's arrays do not hold it.
#[derive(Clone, Copy)]
pub(super) struct StepCost {
    pub cost: f32,
    pub nats: f32,
}

impl StepCost {
    fn plus(self, other: Self) -> Self {
        Self { cost: self.cost + other.cost, nats: self.nats + other.nats }
    }
}

const FREE: StepCost = StepCost { cost: 0.0, nats: 0.0 };
const IMPASSABLE: StepCost = StepCost { cost: f32::INFINITY, nats: f32::INFINITY };

/// A part of a payment that has its route.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub steps: Vec<Step>,
    pub route: Route,
    /// Fee, time and chance in one number, given the parts that were planned before it.
    pub cost: f32,
    pub nats: f32,
}

/// Prices steps that lie outside the search proper.
pub(super) struct Pricing<'a> {
    pub graph: &'a Graph,
    pub request: &'a RouteRequest<'a>,
    pub costs: &'a EdgeCosts<'a>,
    pub amount: Msat,
    pub others: &'a [Part],
    pub closed: &'a [Step],
}

impl Pricing<'_> {
    /// A first channel: it takes no fee of its own.
    pub(super) fn first(&self, first: &FirstHopChannel) -> StepCost {
        if self.closed.contains(&first.step()) {
            return IMPASSABLE;
        }
        match first {
            FirstHopChannel::Local(index) => {
                let Source::Local { channels, .. } = self.request.source else { return IMPASSABLE };
                let Some(channel) = channels.get(*index) else { return IMPASSABLE };
                let used = self.others.iter().filter(|part| part.steps.first() == Some(&first.step()));
                let used = used.fold(0, |sum: u64, part| sum.saturating_add(part.route.total_amount().0));
                let fits = used.saturating_add(self.amount.0) <= channel.available.0
                    && (channel.htlc_minimum_msat..=channel.htlc_maximum_msat).contains(&self.amount);
                if fits { FREE } else { IMPASSABLE }
            }
            FirstHopChannel::Edge(slot) => {
                let nats = if self.costs.admits(slot) { self.costs.nats(slot) } else { f32::INFINITY };
                StepCost { cost: nats * self.costs.nat(), nats }
            }
        }
    }

    /// A channel of the graph on the way.
    fn edge(&self, slot: &Slot) -> StepCost {
        if !self.costs.admits(slot) {
            return IMPASSABLE;
        }
        let nats = self.costs.nats(slot);
        StepCost { cost: self.costs.fixed(slot) + nats * self.costs.nat(), nats }
    }

    /// A last stretch, all of it.
    pub(super) fn last(&self, last: &LastHopChannel) -> StepCost {
        match last {
            LastHopChannel::Edge(slot) => self.edge(slot),
            LastHopChannel::Hint(hint) => {
                let hops = self.request.hints.get(*hint).map_or(0, Vec::len);
                (0..hops).map(|hop| self.hint(*hint, hop)).fold(FREE, StepCost::plus)
            }
        }
    }

    /// A whole path.
    pub(super) fn steps(&self, steps: &[Step]) -> StepCost {
        let slot = |edge| self.graph.slot(edge);
        let price = |(index, step): (usize, &Step)| match step {
            Step::Local(local) => self.first(&FirstHopChannel::Local(*local)),
            Step::Edge(edge) if index == 0 => {
                slot(*edge).map_or(IMPASSABLE, |slot| self.first(&FirstHopChannel::Edge(slot)))
            }
            Step::Edge(edge) => slot(*edge).map_or(IMPASSABLE, |slot| self.edge(&slot)),
            Step::Hint { hint, hop } => self.hint(*hint, *hop),
        };
        steps.iter().enumerate().map(price).fold(FREE, StepCost::plus)
    }

    /// A channel of a hint: whoever names it can be paid over it, so only what was learnt speaks against it.
    fn hint(&self, hint: usize, hop: usize) -> StepCost {
        let step = Step::Hint { hint, hop };
        if self.closed.contains(&step) {
            return IMPASSABLE;
        }
        let Some(at) = self.request.hints.get(hint).and_then(|hops| hops.get(hop)) else { return IMPASSABLE };
        let Some(terms) = step.terms(self.graph, self.request) else { return IMPASSABLE };
        let nats = self.costs.learnt_nats(terms.short_channel_id, terms.direction);
        let amount = self.amount.0 as f32;
        let fee = at.fee_base_msat as f32 + at.fee_proportional_millionths as f32 * 1e-6 * amount;
        let fixed = fee + f32::from(at.cltv_expiry_delta) * self.request.params.lock_rate * amount;
        StepCost { cost: fixed + (nats + self.request.params.hop_nats) * self.costs.nat(), nats }
    }
}
