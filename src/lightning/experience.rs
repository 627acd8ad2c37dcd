//! What payments have taught, as LND's mission control tells it: by pairs of neighbours, each with what passes and what does not.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use leyden_channels::{
    gossip::{Direction, Graph as Network, graph::Channel as NetworkChannel},
    routing::scorer::{Attempted, Bounds, Lesson},
    types::{Msat, NodeId, UnixTime},
};

use super::LightningNode;
use crate::{
    api::{ApiError, Experience, PairHistory, PairResult},
    driver::services::Services,
};

/// Channels whose ends are looked up before the graph is let go again.
const PIECE: usize = 1_000;

#[async_trait]
impl Experience for LightningNode {
    async fn experience(&self) -> Result<Vec<PairHistory>, ApiError> {
        self.read(|services| Ok(pairs(services))).await
    }

    async fn pair_chance(&self, from: NodeId, to: NodeId, amount: Msat) -> Result<(f64, PairResult), ApiError> {
        let services = self.services();
        // What our own channels hold is no matter of chance.
        if from == NodeId::from(services.node_id()) {
            let has_enough =
                services.local_channels().await.iter().any(|own| own.peer == to && own.available >= amount);
            let chance = if has_enough { 1.0 } else { 0.0 };
            return Ok((chance, PairResult::default()));
        }
        self.read(move |services| Ok(between(services, from, to, amount))).await
    }

    async fn import_experience(&self, pairs: Vec<PairHistory>, force: bool) -> Result<(), ApiError> {
        self.read(move |services| {
            for piece in pairs.chunks(PIECE) {
                take(services, piece, force);
            }
            services.save_learnt();
            Ok(())
        })
        .await
    }

    async fn half_life(&self) -> Result<Duration, ApiError> {
        Ok(self.services().learnt().half_life())
    }

    async fn set_half_life(&self, half_life: Duration) -> Result<(), ApiError> {
        self.services().learnt().set_half_life(half_life);
        Ok(())
    }
}

fn pairs(services: &Services) -> Vec<PairHistory> {
    let lessons: Vec<Lesson> = services.learnt().lessons().collect();
    let mut pairs: BTreeMap<(NodeId, NodeId), PairResult> = BTreeMap::new();
    for piece in lessons.chunks(PIECE) {
        let intake = services.gossip.intake();
        for lesson in piece {
            // The ends of a channel that an invoice hints at stand in that invoice alone.
            let Some(channel) = intake.graph().channel_by_id(lesson.short_channel_id) else { continue };
            let (Some(ends), Some(result)) = (ends(intake.graph(), channel, lesson.direction), to_result(lesson))
            else {
                continue;
            };
            let known = pairs.entry(ends).or_default();
            *known = both(*known, result);
        }
    }
    pairs.into_iter().map(|((from, to), result)| PairHistory { from, to, result }).collect()
}

/// Takes these pairs' results as this node's own.
fn take(services: &Services, pairs: &[PairHistory], force: bool) {
    let now = services.steady_time();
    let intake = services.gossip.intake();
    let mut learnt = services.learnt();
    for PairHistory { from, to, result } in pairs {
        let between = channels_between(intake.graph(), from, to);
        // What has not happened yet would never fade.
        for (at, hop, passed) in lessons_of(&between, result) {
            learnt.take_over(hop, passed, at.min(now), force);
        }
    }
}

fn channels_between(network: &Network, from: &NodeId, to: &NodeId) -> Vec<Attempted> {
    let Some(node) = network.find_node(from) else { return Vec::new() };
    let leads_there =
        |channel: &NetworkChannel, direction| ends(network, channel, direction).is_some_and(|(_, end)| end == *to);
    let channels = network.channels_of(node).filter(|(channel, direction)| leads_there(channel, *direction));
    channels
        .map(|(channel, direction)| Attempted {
            short_channel_id: channel.short_channel_id,
            direction,
            amount: Msat::ZERO,
            capacity: Some(channel.capacity_msat()),
        })
        .collect()
}

/// What a pair's result says of its channels: what was too much was so for each of them; what passed did so through the largest,
/// for all that is known. The failure comes first, as with LND.
fn lessons_of(between: &[Attempted], result: &PairResult) -> Vec<(UnixTime, Attempted, bool)> {
    let capacity = |hop: &Attempted| hop.capacity.unwrap_or_default();
    let mut lessons = Vec::new();
    if let Some((at, amount)) = result.failed {
        // More than a channel holds is too much whatever it has.
        let holding = between.iter().filter(|hop| amount <= capacity(hop));
        lessons.extend(holding.map(|hop| (at, Attempted { amount, ..*hop }, false)));
    }
    if let Some((at, amount)) = result.passed
        && let Some(largest) = between.iter().max_by_key(|hop| capacity(hop)).filter(|hop| amount <= capacity(hop))
    {
        lessons.push((at, Attempted { amount, ..*largest }, true));
    }
    lessons
}

/// The best chance of all channels from one node to the other, and what is known of them.
fn between(services: &Services, from: NodeId, to: NodeId, amount: Msat) -> (f64, PairResult) {
    let now = services.steady_time();
    let intake = services.gossip.intake();
    let network = intake.graph();
    let learnt = services.learnt();
    let (mut chance, mut result) = (0.0_f64, PairResult::default());
    let Some(node) = network.find_node(&from) else { return (chance, result) };
    for (channel, direction) in network.channels_of(node) {
        if ends(network, channel, direction).is_none_or(|(_, other)| other != to) {
            continue;
        }
        let id = channel.short_channel_id;
        let unknown = Bounds::unknown(channel.capacity_msat().0 as f64);
        let bounds = learnt.bounds(id, direction, now).unwrap_or(unknown);
        chance = chance.max(bounds.success_probability(0.0, amount.0 as f64) * (-bounds.trouble).exp());
        if let Some(known) = learnt.lesson(id, direction).as_ref().and_then(to_result) {
            result = both(result, known);
        }
    }
    (chance, result)
}

/// From whom to whom a channel leads.
fn ends(network: &Network, channel: &NetworkChannel, direction: Direction) -> Option<(NodeId, NodeId)> {
    let (first, second) = (network.node(channel.node_1)?.id, network.node(channel.node_2)?.id);
    Some(match direction {
        Direction::FromNode1 => (first, second),
        Direction::FromNode2 => (second, first),
    })
}

/// `None`: nothing is known in this direction.
fn to_result(lesson: &Lesson) -> Option<PairResult> {
    let any_amount = lesson.had_trouble.then_some(Msat::ZERO);
    let failed = lesson.too_much.or(any_amount).map(|amount| (lesson.learnt_at, amount));
    let passed = Some(lesson.passes).filter(|amount| *amount > Msat::ZERO).map(|amount| (lesson.learnt_at, amount));
    (failed.is_some() || passed.is_some()).then_some(PairResult { failed, passed })
}

/// Of two channels between the same nodes an HTLC may take either: what passes one of them passes, and only what is too much for
/// each fails.
fn both(one: PairResult, other: PairResult) -> PairResult {
    let larger = |one: Option<(_, Msat)>, other: Option<(_, Msat)>| match (one, other) {
        (Some(one), Some(other)) => Some(if one.1 >= other.1 { one } else { other }),
        (one, other) => one.or(other),
    };
    PairResult { failed: larger(one.failed, other.failed), passed: larger(one.passed, other.passed) }
}

#[cfg(test)]
mod tests {
    use leyden_channels::types::ShortChannelId;

    use super::*;

    const AT: UnixTime = UnixTime(1_700_000_000);

    fn lesson(passes: u64, too_much: Option<u64>, had_trouble: bool) -> Lesson {
        Lesson {
            short_channel_id: ShortChannelId(1),
            direction: Direction::FromNode1,
            learnt_at: AT,
            passes: Msat(passes),
            too_much: too_much.map(Msat),
            had_trouble,
        }
    }

    #[test]
    fn what_is_known_of_a_channel_is_told_and_nothing_else() {
        assert_eq!(to_result(&lesson(0, None, false)), None);
        let passed = to_result(&lesson(5, None, false)).unwrap();
        assert_eq!(passed, PairResult { failed: None, passed: Some((AT, Msat(5))) });
        let trouble = to_result(&lesson(0, None, true)).unwrap();
        assert_eq!(trouble.failed, Some((AT, Msat::ZERO)), "whatever the amount");
        let lacked = to_result(&lesson(0, Some(400), true)).unwrap();
        assert_eq!(lacked.failed, Some((AT, Msat(400))));
    }

    #[test]
    fn a_failure_concerns_every_channel_between_two_nodes_and_a_success_the_largest() {
        let hop = |id, capacity| Attempted {
            short_channel_id: ShortChannelId(id),
            direction: Direction::FromNode1,
            amount: Msat::ZERO,
            capacity: Some(Msat(capacity)),
        };
        let between = [hop(1, 500), hop(2, 2_000), hop(3, 1_000)];
        let told = |failed: Option<u64>, passed: Option<u64>| -> Vec<(u64, u64, bool)> {
            let at = |amount| (AT, Msat(amount));
            let result = PairResult { failed: failed.map(at), passed: passed.map(at) };
            let lessons = lessons_of(&between, &result).into_iter();
            lessons.map(|(_, hop, passed)| (hop.short_channel_id.0, hop.amount.0, passed)).collect()
        };
        assert_eq!(told(Some(800), Some(700)), [(2, 800, false), (3, 800, false), (2, 700, true)]);
        assert!(told(None, Some(2_001)).is_empty(), "more than any of them holds");
        assert!(told(Some(2_001), None).is_empty());
    }

    #[test]
    fn of_two_channels_between_the_same_nodes_the_better_one_counts() {
        let (one, other) = (lesson(5, Some(400), false), lesson(7, Some(300), false));
        let both = both(to_result(&one).unwrap(), to_result(&other).unwrap());
        assert_eq!((both.failed, both.passed), (Some((AT, Msat(400))), Some((AT, Msat(7)))));
    }
}
