//! What this node has learnt about where a channel's money is.
//!
//! ```text
//!   what node 1 can send    0 ├────────[low ········ high]────────┤ capacity
//!                                      somewhere in here
//!   a payment of x passed     low ≥ x at that moment: [max(low, x) − x, high − x] afterwards
//!   it passed and was failed further on               [max(low, x), high]
//!   it was failed here for want of liquidity          [low, min(high, x − 1)]
//!   time passes               both bounds drift to the ends, half of the way every six hours, or as its user has it
//! ```
//!
//! A channel has one balance, so one pair of bounds serves both directions. Where in the bounds the balance lies
//! follows a prior: half of all channels are taken to be anywhere, half to be near one of their ends, because
//! most channels carry more payments one way than the other. The chance that `x` passes is then the share of the
//! prior's mass within the bounds that lies above `x`.
//!
//! Failures that say nothing about liquidity (a node offline, a channel disabled) are kept as `trouble`: a surcharge
//! that halves with time, too.
//!
//! Durable: [`Scorer::take_changed`] gives the records to write, [`Scorer::load`] takes them back.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::gossip::Direction;
use crate::gossip::adjacency::tag;
use crate::gossip::graph::PerDirection;
use crate::types::{Msat, ShortChannelId, UnixTime};
use crate::wire::{DecodeError, Field as _, Reader};

/// After this time a bound has moved half of its way back to knowing nothing, if its user does not say otherwise.
pub const USUAL_HALF_LIFE: Duration = Duration::from_secs(6 * 3600);
/// After this many half-lives nothing worth keeping is left of a record.
const FORGOTTEN_AFTER_HALF_LIVES: f64 = 8.0;
/// The chance of an amount that is above the bounds but below the capacity: others pay too, and a channel that did not
/// have it a while ago is worth an attempt where there is no other route.
pub(super) const AGAINST_EXPECTATION: f64 = 0.005;
/// The capacity that a channel of an invoice's hint is taken to have, which only its owners know, unless more was sent.
const HIDDEN_CAPACITY: Msat = Msat((1 << 24) * 1000);
/// What a failure that is not about liquidity adds, as the negative logarithm of a chance.
const TROUBLE: f32 = 3.0;
const RECORD_VERSION: u8 = 1;

/// The prior: the share of channels in which at most the part `x` of the capacity is on a given side. Half of the
/// mass is even, half follows the eighth power of the distance from the middle.
pub(super) fn prior(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    let from_middle = 2.0 * x - 1.0;
    0.5 * x + 0.25 * (1.0 + from_middle.powi(9))
}

/// Bounds on what can be sent in one direction, at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// This much can be sent, in millisatoshi.
    pub low: f64,
    /// More than this cannot, in millisatoshi.
    pub high: f64,
    /// The channel's capacity in millisatoshi.
    pub capacity: f64,
    /// Surcharge, as the negative logarithm of a chance.
    pub trouble: f64,
}

impl Bounds {
    /// Nothing is known but the capacity.
    pub fn unknown(capacity_msat: f64) -> Self {
        Self { low: 0.0, high: capacity_msat, capacity: capacity_msat, trouble: 0.0 }
    }

    /// The chance that `amount` msat can be sent when `used` are on their way already.
    pub fn success_probability(&self, used: f64, amount: f64) -> f64 {
        self.chance(used, amount, AGAINST_EXPECTATION)
    }

    fn chance(&self, used: f64, amount: f64, least: f64) -> f64 {
        if used + amount > self.capacity || self.capacity <= 0.0 {
            return 0.0;
        }
        if used + amount > self.high {
            return least;
        }
        let chance = |amount: f64| {
            if amount <= self.low {
                return 1.0;
            }
            let at = |value: f64| prior(value / self.capacity);
            let mass = at(self.high) - at(self.low);
            let share = if mass <= 0.0 { 0.0 } else { (at(self.high) - at(amount)) / mass };
            share.clamp(least, 1.0)
        };
        let before = chance(used);
        if before <= 0.0 { 0.0 } else { chance(used + amount) / before }
    }

    /// The negative logarithm of the chance, which above the bounds is `least`, with the surcharge for trouble.
    pub fn nats(&self, used: f64, amount: f64, least: f64) -> f64 {
        -self.chance(used, amount, least).ln() + self.trouble
    }
}

/// What is known about one channel.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Knowledge {
    capacity: Msat,
    /// Bounds on what node 1 can send.
    low: Msat,
    high: Msat,
    trouble: PerDirection<f32>,
    learnt_at: UnixTime,
}

impl Knowledge {
    fn new(capacity: Msat, now: UnixTime) -> Self {
        Self { capacity, low: Msat::ZERO, high: capacity, trouble: PerDirection::default(), learnt_at: now }
    }

    fn half_lives(&self, now: UnixTime, half_life: Duration) -> f64 {
        now.0.saturating_sub(self.learnt_at.0) as f64 / half_life.as_secs_f64().max(1.0)
    }

    /// What is left of this knowledge now.
    fn at(&self, now: UnixTime, half_life: Duration) -> Self {
        if now <= self.learnt_at {
            return *self;
        }
        let keep = (-self.half_lives(now, half_life)).exp2();
        let from_top = self.capacity.saturating_sub(self.high).0 as f64 * keep;
        Self {
            low: Msat((self.low.0 as f64 * keep) as u64),
            high: self.capacity.saturating_sub(Msat(from_top as u64)),
            trouble: PerDirection {
                from_node_1: self.trouble.from_node_1 * keep as f32,
                from_node_2: self.trouble.from_node_2 * keep as f32,
            },
            learnt_at: now,
            capacity: self.capacity,
        }
    }

    fn bounds(&self, direction: Direction) -> Bounds {
        let (low, high) = match direction {
            Direction::FromNode1 => (self.low, self.high),
            Direction::FromNode2 => (self.capacity.saturating_sub(self.high), self.capacity.saturating_sub(self.low)),
        };
        Bounds {
            low: low.0 as f64,
            high: high.0 as f64,
            capacity: self.capacity.0 as f64,
            trouble: f64::from(*self.trouble.get(direction)),
        }
    }

    fn lesson(&self, short_channel_id: ShortChannelId, direction: Direction) -> Lesson {
        let (passes, most) = match direction {
            Direction::FromNode1 => (self.low, self.high),
            Direction::FromNode2 => (self.capacity.saturating_sub(self.high), self.capacity.saturating_sub(self.low)),
        };
        Lesson {
            short_channel_id,
            direction,
            learnt_at: self.learnt_at,
            passes,
            too_much: (most < self.capacity).then_some(Msat(most.0.saturating_add(1))),
            had_trouble: *self.trouble.get(direction) > 0.0,
        }
    }

    /// The bounds of a channel that turns out to be larger.
    fn with_capacity(self, capacity: Msat) -> Self {
        let more = capacity.saturating_sub(self.capacity);
        Self { capacity: self.capacity.max(capacity), high: Msat(self.high.0.saturating_add(more.0)), ..self }
    }

    /// In `direction` at least `amount` could be sent.
    fn at_least(&mut self, direction: Direction, amount: Msat) {
        match direction {
            Direction::FromNode1 => self.low = self.low.max(amount.min(self.capacity)),
            Direction::FromNode2 => self.high = self.high.min(self.capacity.saturating_sub(amount)),
        }
        self.high = self.high.max(self.low);
    }

    /// In `direction` less than `amount` could be sent.
    fn less_than(&mut self, direction: Direction, amount: Msat) {
        let most = amount.saturating_sub(Msat(1)).min(self.capacity);
        match direction {
            Direction::FromNode1 => {
                self.high = self.high.min(most);
                self.low = self.low.min(self.high);
            }
            Direction::FromNode2 => {
                self.low = self.low.max(self.capacity.saturating_sub(most));
                self.high = self.high.max(self.low);
            }
        }
    }

    /// `amount` has moved in `direction`.
    fn moved(&mut self, direction: Direction, amount: Msat) {
        match direction {
            Direction::FromNode1 => {
                self.low = self.low.saturating_sub(amount);
                self.high = self.high.saturating_sub(amount);
            }
            Direction::FromNode2 => {
                self.low = Msat(self.low.0.saturating_add(amount.0)).min(self.capacity);
                self.high = Msat(self.high.0.saturating_add(amount.0)).min(self.capacity);
            }
        }
    }
}

/// One hop of an attempt, as far as the scorer cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The channel.
    pub short_channel_id: ShortChannelId,
    /// The direction in which it was taken.
    pub direction: Direction,
    /// What was sent.
    pub amount: Msat,
    /// `None` of a channel that the graph does not know.
    pub capacity: Option<Msat>,
}

/// One bit for each tag of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TagSet(Box<[u64; 1024]>);

impl TagSet {
    fn new() -> Self {
        Self(Box::new([0; 1024]))
    }

    pub(super) fn insert(&mut self, tag: u16) {
        if let Some(word) = self.0.get_mut(usize::from(tag >> 6)) {
            *word |= 1 << (tag & 63);
        }
    }

    pub(super) fn contains(&self, tag: u16) -> bool {
        self.0.get(usize::from(tag >> 6)).is_some_and(|word| word & (1 << (tag & 63)) != 0)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scorer {
    channels: HashMap<ShortChannelId, Knowledge>,
    tags: TagSet,
    changed: BTreeSet<ShortChannelId>,
    half_life: Duration,
}

/// What is known about one direction of a channel, as it was when something was learnt about the channel last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// The channel.
    pub short_channel_id: ShortChannelId,
    /// Of which of its ends.
    pub direction: Direction,
    /// When.
    pub learnt_at: UnixTime,
    /// This much could be sent; zero if nothing is known.
    pub passes: Msat,
    /// This was too much; `None` if nothing is known.
    pub too_much: Option<Msat>,
    /// It failed for another reason than the amount.
    pub had_trouble: bool,
}

impl Default for Scorer {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer {
    /// Nothing was learnt.
    pub fn new() -> Self {
        Self { channels: HashMap::new(), tags: TagSet::new(), changed: BTreeSet::new(), half_life: USUAL_HALF_LIFE }
    }

    /// How many channels something is known about.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether nothing was learnt, or all has faded.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// After this time a bound has moved half of its way back to knowing nothing.
    pub fn half_life(&self) -> Duration {
        self.half_life
    }

    /// From now on knowledge fades so fast, that which is there too.
    pub fn set_half_life(&mut self, half_life: Duration) {
        self.half_life = half_life;
    }

    /// All that is known, in no order.
    pub fn lessons(&self) -> impl Iterator<Item = Lesson> {
        let both = [Direction::FromNode1, Direction::FromNode2];
        self.channels.iter().flat_map(move |(id, known)| both.map(|direction| known.lesson(*id, direction)))
    }

    /// What is known about a channel in one direction, if anything is.
    pub fn lesson(&self, id: ShortChannelId, direction: Direction) -> Option<Lesson> {
        self.channels.get(&id).map(|known| known.lesson(id, direction))
    }

    pub(super) fn tags(&self) -> &TagSet {
        &self.tags
    }

    /// What is known about a channel in one direction, if anything is.
    pub fn bounds(&self, id: ShortChannelId, direction: Direction, now: UnixTime) -> Option<Bounds> {
        self.channels.get(&id).map(|knowledge| knowledge.at(now, self.half_life).bounds(direction))
    }

    fn learn(&mut self, hop: Attempted, now: UnixTime, lesson: impl FnOnce(&mut Knowledge)) {
        let id = hop.short_channel_id;
        let hidden = HIDDEN_CAPACITY.max(Msat(hop.amount.0.saturating_mul(2)));
        let capacity = hop.capacity.unwrap_or(hidden);
        let knowledge = self.channels.entry(id).or_insert_with(|| Knowledge::new(capacity, now));
        *knowledge = knowledge.at(now, self.half_life).with_capacity(capacity);
        lesson(knowledge);
        self.tags.insert(tag(id));
        self.changed.insert(id);
    }

    /// A channel whose capacity nobody told has carried an amount: what spoke against that is forgotten.
    fn carries(&mut self, hop: Attempted, now: UnixTime) {
        let Some(known) = self.bounds(hop.short_channel_id, hop.direction, now) else { return };
        if known.high < hop.amount.0 as f64 || known.trouble > 0.0 {
            self.channels.remove(&hop.short_channel_id);
            self.changed.insert(hop.short_channel_id);
        }
    }

    /// A part of a payment arrived: every hop had its amount, and has passed it on.
    pub fn arrived(&mut self, hops: &[Attempted], now: UnixTime) {
        for hop in hops {
            if hop.capacity.is_none() {
                self.carries(*hop, now);
                continue;
            }
            self.learn(*hop, now, |knowledge| {
                knowledge.at_least(hop.direction, hop.amount);
                knowledge.moved(hop.direction, hop.amount);
                *knowledge.trouble.get_mut(hop.direction) = 0.0;
            });
        }
    }

    /// These hops had their amounts, but got them back, because a later one failed; a probe that reached its end,
    /// too.
    pub fn passed(&mut self, hops: &[Attempted], now: UnixTime) {
        for hop in hops {
            if hop.capacity.is_none() {
                self.carries(*hop, now);
                continue;
            }
            self.learn(*hop, now, |knowledge| {
                knowledge.at_least(hop.direction, hop.amount);
            });
        }
    }

    /// This hop did not have the amount (`temporary_channel_failure`).
    pub fn lacked_liquidity(&mut self, hop: Attempted, now: UnixTime) {
        self.learn(hop, now, |knowledge| {
            knowledge.less_than(hop.direction, hop.amount);
        });
    }

    /// This hop failed for another reason, or somebody near it did and will not say who.
    pub fn had_trouble(&mut self, hop: Attempted, now: UnixTime) {
        self.learn(hop, now, |knowledge| {
            let trouble = knowledge.trouble.get_mut(hop.direction);
            *trouble = (*trouble + TROUBLE).min(4.0 * TROUBLE);
        });
    }

    /// What another node has learnt of a hop at that time: whether it had the amount. Left out if what is known is as new, unless
    /// with `force`.
    pub fn take_over(&mut self, hop: Attempted, had_it: bool, at: UnixTime, force: bool) {
        let is_older = self.channels.get(&hop.short_channel_id).is_some_and(|known| known.learnt_at >= at);
        if is_older && !force {
            return;
        }
        self.learn(hop, at, |knowledge| match had_it {
            true => knowledge.at_least(hop.direction, hop.amount),
            false => knowledge.less_than(hop.direction, hop.amount),
        });
    }

    /// Forgets what has faded.
    pub fn prune(&mut self, now: UnixTime) {
        let half_life = self.half_life;
        let faded = |knowledge: &Knowledge| knowledge.half_lives(now, half_life) > FORGOTTEN_AFTER_HALF_LIVES;
        let gone: Vec<_> = self.channels.iter().filter(|(_, known)| faded(known)).map(|(id, _)| *id).collect();
        self.changed.extend(gone.iter().copied());
        gone.iter().for_each(|id| {
            self.channels.remove(id);
        });
        self.rebuild_tags();
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.changed.extend(self.channels.drain().map(|(id, _)| id));
        self.rebuild_tags();
    }

    fn rebuild_tags(&mut self) {
        self.tags = TagSet::new();
        for id in self.channels.keys() {
            self.tags.insert(tag(*id));
        }
    }

    /// The records that changed since the last call, to be written; `None`: to be deleted.
    pub fn take_changed(&mut self) -> Vec<(ShortChannelId, Option<Vec<u8>>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|id| (id, self.channels.get(&id).map(Knowledge::encode))).collect()
    }

    /// A scorer from its records.
    pub fn load<'a>(records: impl IntoIterator<Item = (ShortChannelId, &'a [u8])>) -> Result<Self, ScorerRecordError> {
        let mut scorer = Self::new();
        for (id, record) in records {
            scorer.channels.insert(id, Knowledge::decode(record)?);
            scorer.tags.insert(tag(id));
        }
        Ok(scorer)
    }
}

/// Why a stored record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ScorerRecordError {
    #[error("a record of learnt liquidity has version {0}, and this program knows {RECORD_VERSION}")]
    Version(u8),
    #[error("a record of learnt liquidity is damaged: {0}")]
    Damaged(#[from] DecodeError),
}

impl Knowledge {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(41);
        out.push(RECORD_VERSION);
        [self.capacity, self.low, self.high].iter().for_each(|amount| amount.write(&mut out));
        self.trouble.from_node_1.to_bits().write(&mut out);
        self.trouble.from_node_2.to_bits().write(&mut out);
        self.learnt_at.0.write(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, ScorerRecordError> {
        let mut reader = Reader::new(bytes);
        match reader.field::<u8>()? {
            RECORD_VERSION => {}
            version => return Err(ScorerRecordError::Version(version)),
        }
        let (capacity, low, high) = (reader.field()?, reader.field()?, reader.field()?);
        let trouble =
            PerDirection { from_node_1: f32::from_bits(reader.field()?), from_node_2: f32::from_bits(reader.field()?) };
        let learnt_at = UnixTime(reader.field()?);
        reader.finish()?;
        Ok(Self { capacity, low, high, trouble, learnt_at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: ShortChannelId = ShortChannelId(7);
    const NOW: UnixTime = UnixTime(1_700_000_000);

    fn hop(direction: Direction, amount: u64) -> Attempted {
        Attempted { short_channel_id: ID, direction, amount: Msat(amount), capacity: Some(Msat(1000)) }
    }

    fn chance(scorer: &Scorer, direction: Direction, amount: f64, now: UnixTime) -> f64 {
        scorer.bounds(ID, direction, now).unwrap().success_probability(0.0, amount)
    }

    #[test]
    fn the_prior_is_a_distribution_with_mass_at_both_ends() {
        assert_eq!((prior(0.0), prior(0.5), prior(1.0)), (0.0, 0.5, 1.0));
        assert!(prior(0.1) > 0.2 && prior(0.9) < 0.8);
        assert!((0..1000).all(|x| prior(f64::from(x) / 1000.0) < prior(f64::from(x + 1) / 1000.0)));
    }

    #[test]
    fn a_failure_bounds_both_directions() {
        let mut scorer = Scorer::new();
        scorer.lacked_liquidity(hop(Direction::FromNode1, 400), NOW);
        assert_eq!(chance(&scorer, Direction::FromNode1, 400.0, NOW), AGAINST_EXPECTATION);
        assert_eq!(chance(&scorer, Direction::FromNode1, 1_001.0, NOW), 0.0);
        assert!(chance(&scorer, Direction::FromNode1, 200.0, NOW) > 0.0);
        assert_eq!(chance(&scorer, Direction::FromNode2, 601.0, NOW), 1.0);
    }

    #[test]
    fn a_payment_moves_what_it_proved() {
        let mut scorer = Scorer::new();
        scorer.passed(&[hop(Direction::FromNode1, 600)], NOW);
        assert_eq!(chance(&scorer, Direction::FromNode1, 600.0, NOW), 1.0);
        scorer.arrived(&[hop(Direction::FromNode1, 500)], NOW);
        assert_eq!(chance(&scorer, Direction::FromNode1, 100.0, NOW), 1.0);
        assert_eq!(chance(&scorer, Direction::FromNode1, 501.0, NOW), AGAINST_EXPECTATION);
        assert_eq!(chance(&scorer, Direction::FromNode2, 500.0, NOW), 1.0);
    }

    #[test]
    fn a_channel_of_unknown_capacity_is_only_known_by_its_failures() {
        let hidden = |amount: u64| Attempted { capacity: None, ..hop(Direction::FromNode1, amount) };
        let mut scorer = Scorer::new();
        scorer.arrived(&[hidden(20_000)], NOW);
        assert!(scorer.is_empty(), "the same amount again, or a larger one, is not held to be less likely");
        scorer.lacked_liquidity(hidden(20_000), NOW);
        assert_eq!(chance(&scorer, Direction::FromNode1, 20_000.0, NOW), AGAINST_EXPECTATION);
        assert!(chance(&scorer, Direction::FromNode1, 5_000.0, NOW) > 0.5);
        scorer.passed(&[hidden(1)], NOW);
        assert_eq!(
            chance(&scorer, Direction::FromNode1, 20_000.0, NOW),
            AGAINST_EXPECTATION,
            "a trifle proves nothing"
        );
        scorer.take_changed();
        scorer.passed(&[hidden(30_000)], NOW);
        assert_eq!((scorer.len(), scorer.take_changed()), (0, vec![(ID, None)]));
    }

    #[test]
    fn knowledge_fades_and_is_forgotten() {
        let mut scorer = Scorer::new();
        scorer.lacked_liquidity(hop(Direction::FromNode1, 400), NOW);
        let later = |hours: u64| UnixTime(NOW.0 + hours * 3600);
        let at = |scorer: &Scorer, hours| chance(scorer, Direction::FromNode1, 400.0, later(hours));
        assert!(at(&scorer, 1) > AGAINST_EXPECTATION);
        assert!(at(&scorer, 6) > at(&scorer, 1));
        assert!(at(&scorer, 40) > at(&scorer, 6));
        scorer.prune(later(6));
        assert_eq!(scorer.len(), 1);
        scorer.take_changed();
        scorer.prune(later(100));
        assert!(scorer.is_empty());
        assert_eq!(scorer.take_changed(), [(ID, None)]);
        assert!(!scorer.tags().contains(tag(ID)));
    }

    #[test]
    fn what_others_have_learnt_is_taken_if_it_is_newer_or_meant_to_be() {
        let mut scorer = Scorer::new();
        let at = |seconds: u64| UnixTime(NOW.0 + seconds);
        let of = |scorer: &Scorer| scorer.lesson(ID, Direction::FromNode1).unwrap();
        scorer.take_over(hop(Direction::FromNode1, 400), false, at(10), false);
        assert_eq!((of(&scorer).too_much, of(&scorer).learnt_at), (Some(Msat(400)), at(10)));
        scorer.take_over(hop(Direction::FromNode1, 100), false, at(10), false);
        assert_eq!(of(&scorer).too_much, Some(Msat(400)), "as old");
        scorer.take_over(hop(Direction::FromNode1, 100), false, at(5), true);
        assert_eq!((of(&scorer).too_much, of(&scorer).learnt_at), (Some(Msat(100)), at(10)));
        scorer.take_over(hop(Direction::FromNode1, 300), true, at(20), false);
        assert_eq!((of(&scorer).passes, of(&scorer).learnt_at), (Msat(300), at(20)));
        assert_eq!(scorer.take_changed().len(), 1, "it is kept");
    }

    #[test]
    fn knowledge_fades_as_fast_as_its_user_says() {
        let mut scorer = Scorer::new();
        scorer.lacked_liquidity(hop(Direction::FromNode1, 400), NOW);
        let later = UnixTime(NOW.0 + 3_600);
        let usual = chance(&scorer, Direction::FromNode1, 400.0, later);
        scorer.set_half_life(Duration::from_secs(600));
        assert!(chance(&scorer, Direction::FromNode1, 400.0, later) > usual);
        scorer.set_half_life(Duration::from_secs(864_000));
        assert!(chance(&scorer, Direction::FromNode1, 400.0, later) < usual);
        scorer.prune(UnixTime(NOW.0 + 864_000));
        assert_eq!(scorer.len(), 1, "what fades slowly is kept long");
    }

    #[test]
    fn what_was_learnt_is_told_for_both_directions() {
        let mut scorer = Scorer::new();
        scorer.lacked_liquidity(hop(Direction::FromNode1, 400), NOW);
        scorer.had_trouble(hop(Direction::FromNode2, 100), NOW);
        let of = |direction| scorer.lesson(ID, direction).unwrap();
        let (first, second) = (of(Direction::FromNode1), of(Direction::FromNode2));
        assert_eq!((first.passes, first.too_much, first.had_trouble), (Msat::ZERO, Some(Msat(400)), false));
        // What one side lacks the other has.
        assert_eq!((second.passes, second.too_much, second.had_trouble), (Msat(601), None, true));
        assert_eq!((scorer.lessons().count(), first.learnt_at), (2, NOW));
        assert_eq!(scorer.lesson(ShortChannelId(8), Direction::FromNode1), None);
    }

    proptest! {
        #[test]
        fn bounds_stay_in_order_and_records_come_back(
            lessons in proptest::collection::vec((0u8..4, any::<bool>(), 0u64..2000, 0u64..100_000), 1..40),
        ) {
            let mut scorer = Scorer::new();
            let mut now = NOW;
            for (kind, first, amount, seconds) in lessons {
                let direction = if first { Direction::FromNode1 } else { Direction::FromNode2 };
                now.0 += seconds;
                match kind {
                    0 => scorer.arrived(&[hop(direction, amount)], now),
                    1 => scorer.passed(&[hop(direction, amount)], now),
                    2 => scorer.lacked_liquidity(hop(direction, amount), now),
                    _ => scorer.had_trouble(hop(direction, amount), now),
                }
                for direction in [Direction::FromNode1, Direction::FromNode2] {
                    let bounds = scorer.bounds(ID, direction, now).unwrap();
                    prop_assert!(0.0 <= bounds.low && bounds.low <= bounds.high && bounds.high <= 1000.0, "{bounds:?}");
                    let chance = bounds.success_probability(0.0, 300.0);
                    prop_assert!((0.0..=1.0).contains(&chance));
                    prop_assert!(chance >= bounds.success_probability(0.0, 301.0));
                }
            }
            let records = scorer.take_changed();
            let loaded = Scorer::load(records.iter().map(|(id, record)| (*id, record.as_deref().unwrap()))).unwrap();
            prop_assert_eq!(&loaded.channels, &scorer.channels);
            prop_assert_eq!(&loaded.tags, &scorer.tags);
        }

        #[test]
        fn damaged_records_are_named(bytes: Vec<u8>) {
            let _ = Knowledge::decode(&bytes);
        }
    }
}
