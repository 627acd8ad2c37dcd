//! What an edge costs: one number, in millisatoshis, for everything that speaks against it.
//!
//! | term            | what                                                                                   |
//! |-----------------|----------------------------------------------------------------------------------------|
//! | fee             | what the node charges for forwarding the amount                                         |
//! | time locked     | amount × `cltv_expiry_delta` × 15 billionths: some 8 % a year of the money that may be stuck |
//! | chance to fail  | the negative logarithm of the chance to pass, times the price of a failed attempt       |
//! | hop             | a flat price, because every further node can fail for reasons of its own                |
//!
//! Chances multiply along a route, so their logarithms add, and the cheapest path is the one with the best trade of
//! fees against chance at the price that [`CostParams`] sets. All edges are priced for the amount that arrives; the
//! fees on the way change it by parts in a thousand, which does not change the order of paths.

use std::collections::HashMap;

use super::scorer::{Attempted, Bounds, Scorer, TagSet};
use crate::gossip::adjacency::tag;
use crate::gossip::{Direction, EdgeId, Graph, Slot};
use crate::types::{Msat, ShortChannelId, UnixTime};

/// What the parts of a cost weigh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostParams {
    /// The price of a failed attempt, apart from the amount.
    pub attempt_base_msat: f32,
    /// The price of a failed attempt, in proportion to the amount.
    pub attempt_rate: f32,
    /// The price of locking a millisatoshi for a block.
    pub lock_rate: f32,
    /// Chance of a hop to fail for reasons other than liquidity, as the negative logarithm of the chance to pass.
    pub hop_nats: f32,
}

impl Default for CostParams {
    /// 100 sat and 0.1 % for an attempt, as LND has them: a payer would rather pay a fee of a thousandth than try
    /// about once more.
    fn default() -> Self {
        Self { attempt_base_msat: 100_000.0, attempt_rate: 0.001, lock_rate: 15e-9, hop_nats: 0.01 }
    }
}

impl CostParams {
    /// From -100 (the lowest fees) to 100 (the surest route): as with LND, the price of a failed attempt is a nineteenth at one
    /// end and nineteen times as much at the other.
    pub fn preferring(time_pref: i8) -> Self {
        let preference = f32::from(time_pref.clamp(-100, 100)) * 0.009;
        let times = (1.0 + preference) / (1.0 - preference);
        let usual = Self::default();
        Self { attempt_base_msat: usual.attempt_base_msat * times, attempt_rate: usual.attempt_rate * times, ..usual }
    }

    /// The cheapest fee, whatever the chances: what is left when a fee limit rules the better routes out.
    pub fn fees_only(self) -> Self {
        Self {
            attempt_base_msat: self.attempt_base_msat * 1e-3,
            attempt_rate: self.attempt_rate * 1e-3,
            lock_rate: self.lock_rate * 1e-3,
            ..self
        }
    }

    /// The fewest blocks, whatever the fees: what is left when a limit on the time lock rules the better routes out.
    pub fn blocks_only(self) -> Self {
        Self { lock_rate: 1.0, ..self }
    }
}

/// What the parts of a payment that are already planned take from each edge, and edges that must not be used.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    used: HashMap<EdgeId, Msat>,
}

impl Usage {
    /// No part takes any channel.
    pub fn clear(&mut self) {
        self.used.clear();
    }

    /// What other parts send through this edge.
    pub fn of(&self, edge: EdgeId) -> Msat {
        self.used.get(&edge).copied().unwrap_or_default()
    }

    /// A part sends this through the edge.
    pub fn add(&mut self, edge: EdgeId, amount: Msat) {
        let used = self.used.entry(edge).or_default();
        *used = Msat(used.0.saturating_add(amount.0));
    }

    /// A part sends this no longer.
    pub fn subtract(&mut self, edge: EdgeId, amount: Msat) {
        if let Some(used) = self.used.get_mut(&edge) {
            *used = used.saturating_sub(amount);
        }
    }
}

/// What the edges of one search are priced for.
#[derive(Clone, Copy, Debug)]
pub struct SearchTerms<'a> {
    /// What the payer weighs against what.
    pub params: &'a CostParams,
    /// The amount that is to pass.
    pub amount: Msat,
    /// All parts of the payment together: it fails as a whole, however small the part that fails.
    pub whole: Msat,
    /// The clock, for what was learnt and fades.
    pub now: UnixTime,
    /// What was too much for a channel in this payment.
    pub failed: &'a [Attempted],
    /// The chance that a channel has more than what was learnt says.
    pub least_chance: f64,
}

/// Prices the edges of one search.
pub struct EdgeCosts<'a> {
    graph: &'a Graph,
    scorer: &'a Scorer,
    usage: &'a Usage,
    banned: &'a [EdgeId],
    failed: &'a [Attempted],
    least_chance: f64,
    /// Tags of channels that need more than the slot to be priced.
    special: TagSet,
    now: UnixTime,
    amount: f32,
    /// Price of one unit of negative logarithm.
    nat: f32,
    lock: f32,
    hop: f32,
}

impl<'a> EdgeCosts<'a> {
    /// The costs of one search. `banned` edges are never taken.
    pub fn new(
        graph: &'a Graph,
        scorer: &'a Scorer,
        usage: &'a Usage,
        banned: &'a [EdgeId],
        terms: SearchTerms<'a>,
    ) -> Self {
        let SearchTerms { params, amount, whole, now, failed, least_chance } = terms;
        let mut special = scorer.tags().clone();
        for edge in usage.used.keys().chain(banned) {
            if let Some(channel) = graph.channel(edge.channel()) {
                special.insert(tag(channel.short_channel_id));
            }
        }
        for hop in failed {
            special.insert(tag(hop.short_channel_id));
        }
        let amount = amount.0 as f32;
        let nat = params.attempt_base_msat + params.attempt_rate * whole.0 as f32;
        Self {
            graph,
            scorer,
            usage,
            banned,
            failed,
            least_chance,
            special,
            now,
            amount,
            nat,
            lock: params.lock_rate * amount,
            hop: params.hop_nats * nat,
        }
    }

    /// The price of one unit of negative logarithm of a chance.
    pub fn nat(&self) -> f32 {
        self.nat
    }

    /// Whether the edge's policy lets the amount pass. Nearly: the numbers of a slot are rounded, so an edge at its
    /// very limit is left to the exact computation.
    #[inline]
    pub fn admits(&self, slot: &Slot) -> bool {
        self.amount * 0.999_999 <= slot.htlc_maximum_msat && self.amount * 1.000_001 >= slot.htlc_minimum_msat
    }

    /// Everything but the chance to fail for want of liquidity.
    #[inline]
    pub fn fixed(&self, slot: &Slot) -> f32 {
        slot.fee_base_msat + slot.fee_rate * self.amount + f32::from(slot.cltv_expiry_delta) * self.lock + self.hop
    }

    /// The price of the chance to fail; infinite where the amount cannot pass.
    #[inline]
    pub fn liquidity(&self, slot: &Slot) -> f32 {
        self.nat * self.nats(slot)
    }

    /// The negative logarithm of the chance that the amount passes.
    #[inline]
    pub fn nats(&self, slot: &Slot) -> f32 {
        if self.special.contains(slot.tag) {
            return self.special_nats(slot);
        }
        // `prior` of the scorer, in place and in single precision: this is the innermost loop.
        let x = (self.amount / slot.capacity_msat).min(1.0);
        let from_middle = 2.0 * x - 1.0;
        let squared = from_middle * from_middle;
        let fourth = squared * squared;
        let pass = 0.75 - 0.5 * x - 0.25 * (fourth * fourth * from_middle);
        if pass > 0.0 { -pass.ln() } else { f32::INFINITY }
    }

    /// The chance of a channel that the graph does not know to pass the amount, as a negative logarithm, from what was
    /// learnt alone.
    pub fn learnt_nats(&self, id: ShortChannelId, direction: Direction) -> f32 {
        if self.has_failed(id, direction, 0.0) {
            return f32::INFINITY;
        }
        let bounds = self.scorer.bounds(id, direction, self.now);
        let amount = f64::from(self.amount);
        // Nobody has told its capacity, so none is too small.
        let nats = bounds.map_or(0.0, |bounds| {
            Bounds { capacity: bounds.capacity.max(amount), ..bounds }.nats(0.0, amount, self.least_chance)
        });
        if nats.is_nan() { f32::INFINITY } else { nats as f32 }
    }

    /// Whether no more than this was too much a moment ago.
    fn has_failed(&self, id: ShortChannelId, direction: Direction, used: f32) -> bool {
        let mut failed = self.failed.iter().filter(|hop| hop.short_channel_id == id && hop.direction == direction);
        failed.any(|hop| used + self.amount >= hop.amount.0 as f32 * 0.999_999)
    }

    #[cold]
    fn special_nats(&self, slot: &Slot) -> f32 {
        if self.banned.contains(&slot.edge) {
            return f32::INFINITY;
        }
        let Some(channel) = self.graph.channel(slot.edge.channel()) else { return f32::INFINITY };
        let used = self.usage.of(slot.edge);
        if self.has_failed(channel.short_channel_id, slot.edge.direction(), used.0 as f32) {
            return f32::INFINITY;
        }
        let bounds = self
            .scorer
            .bounds(channel.short_channel_id, slot.edge.direction(), self.now)
            .unwrap_or(Bounds::unknown(channel.capacity_msat().0 as f64));
        let nats = bounds.nats(used.0 as f64, f64::from(self.amount), self.least_chance);
        if nats.is_nan() { f32::INFINITY } else { nats as f32 }
    }
}
