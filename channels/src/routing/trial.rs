//! Questions on a made-up network, and what the answers are worth: one judge for every router.
//!
//! ```text
//!   SyntheticNetwork ──► questions: two nodes by lot, one amount ──► a router ──► Answer
//!          │ balances that no router knows                                          │
//!          └──────────────────────────────► Trial::judge ◄──────────────────────────┘
//!                                       fee · chance · does it arrive
//! ```
//!
//! Routers guess where a channel's money is, each by a law of its own, so that none may be judged by another's. The judge
//! uses what is true of this network: the law that the balances were drawn by ([`share_at_most`]), under which the
//! channels of an answer are independent; and the very balances that were drawn, which say whether this answer would
//! arrive at the first try. The channels of the payer count as any others: it is told no balance.
//!
//! [`Trial::pay`] goes on where a first try fails: each failure teaches a scorer of its own, as it would a payer.
//!
//! Fee and chance make one number at a price: what it is worth to the payer that the chance grows by a factor of *e*.
//! LDK's default is about 0.05 % of the amount, LND's 0.1 % of the amount and 100 sat.

use std::collections::{BTreeMap, HashMap};

use super::route::{DEFAULT_CLTV_LIMIT, DEFAULT_MAX_HOPS, RouteRequest, Source};
use super::scorer::{Attempted, Scorer};
use super::{CostParams, Plan, Router};
use crate::gossip::synthetic::{Size, SplitMix, SyntheticChannel, SyntheticNetwork, share_at_most};
use crate::gossip::{Direction, Graph};
use crate::types::{Height, Msat, NodeId, ShortChannelId, UnixTime};

/// A made-up network and questions about it; the same for the same numbers, on every machine.
pub struct Trial {
    /// The network, balances included.
    pub network: SyntheticNetwork,
    /// Payer and payee.
    pub pairs: Vec<(NodeId, NodeId)>,
    /// What each payment is to bring.
    pub amount: Msat,
    by_id: HashMap<ShortChannelId, usize>,
}

/// The seed of the pairs: another stream than the network's.
const PAIRS: u64 = 42;

/// One HTLC of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The channel that it takes.
    pub short_channel_id: ShortChannelId,
    /// The node that it leads to.
    pub to: NodeId,
    /// What it brings to the next node.
    pub amount: Msat,
}

/// What a router answered: the HTLCs of each part, from the payer on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTLCs of each part.
    pub parts: Vec<Vec<Leg>>,
}

impl From<&Plan> for Answer {
    fn from(plan: &Plan) -> Self {
        let leg =
            |hop: &super::RouteHop| Leg { short_channel_id: hop.short_channel_id, to: hop.node, amount: hop.amount };
        Self { parts: plan.routes.iter().map(|route| route.hops.iter().map(leg).collect()).collect() }
    }
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// What all parts pay in fees.
    pub fee: Msat,
    /// Negative logarithm of the chance that all parts arrive at the first try.
    pub nats: f64,
    /// With the balances that were drawn, they do.
    pub arrives: bool,
}

impl Verdict {
    /// Fee and chance in one number.
    pub fn cost(&self, price_of_a_nat: f64) -> f64 {
        self.fee.0 as f64 + self.nats * price_of_a_nat
    }
}

/// A payment that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// How many attempts it took.
    pub tries: usize,
    /// What it paid in fees.
    pub fee: Msat,
}

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum InvalidRoute {
    #[error("channel {0} is not in the network, or does not lead where the answer says")]
    Channel(ShortChannelId),
    #[error("the parts bring {got} to the payee, and {wanted} were asked for")]
    Amount { got: Msat, wanted: Msat },
    #[error("a part does not lead from the payer to the payee")]
    Ends,
    #[error("over channel {0} more is sent, or less kept back for fees, than its policy says")]
    Policy(ShortChannelId),
}

impl Trial {
    /// Draws the network and pairs of nodes.
    pub fn new(size: Size, queries: usize, amount: Msat) -> Self {
        let network = SyntheticNetwork::generate(size);
        let mut random = SplitMix::new(PAIRS);
        let mut node = || network.nodes.get(random.below(network.nodes.len())).copied();
        let mut pairs = Vec::with_capacity(queries);
        while pairs.len() < queries {
            let (Some(from), Some(to)) = (node(), node()) else { break };
            // A network of one node has no pair.
            if from != to || network.nodes.len() < 2 {
                pairs.push((from, to));
            }
        }
        let by_id = network.channels.iter().enumerate().map(|(at, made)| (made.channel.short_channel_id, at)).collect();
        Self { network, pairs, amount, by_id }
    }

    /// The question as our own router takes it. A hundredth of the amount and 50 sat may go for fees.
    pub fn request(&self, from: NodeId, to: NodeId) -> RouteRequest<'static> {
        RouteRequest {
            source: Source::Graph(from),
            target: to,
            hints: &[],
            last_hop: None,
            amount: self.amount,
            final_cltv_delta: 40,
            height: Height(800_000),
            now: UnixTime(1_700_000_000),
            fee_limit: self.fee_limit(),
            cltv_limit: DEFAULT_CLTV_LIMIT,
            max_parts: 16,
            max_hops: DEFAULT_MAX_HOPS,
            excluded_nodes: &[],
            excluded_edges: &[],
            failed: &[],
            failure_updates: &[],
            params: CostParams::default(),
        }
    }

    /// What a payment may pay in fees.
    pub fn fee_limit(&self) -> Msat {
        Msat(self.amount.0 / 100 + 50_000)
    }

    /// Checks an answer against the network, and says what it is worth.
    pub fn judge(&self, (from, to): (NodeId, NodeId), answer: &Answer) -> Result<Verdict, InvalidRoute> {
        // What goes through each channel from node 1 and from node 2, all parts together.
        let mut loads: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let (mut sent, mut arrived) = (0u64, 0u64);
        for part in &answer.parts {
            let mut at = from;
            let mut before: Option<Msat> = None;
            for leg in part {
                let (index, made) = self.channel(leg.short_channel_id)?;
                let from_1 = self.check(made, at, leg, before)?;
                let load = loads.entry(index).or_default();
                let side = if from_1 { &mut load.0 } else { &mut load.1 };
                *side = side.saturating_add(leg.amount.0);
                (at, before) = (leg.to, Some(leg.amount));
            }
            let (Some(first), Some(last)) = (part.first(), part.last()) else { return Err(InvalidRoute::Ends) };
            if at != to {
                return Err(InvalidRoute::Ends);
            }
            sent = sent.saturating_add(first.amount.0);
            arrived = arrived.saturating_add(last.amount.0);
        }
        if arrived < self.amount.0 {
            return Err(InvalidRoute::Amount { got: Msat(arrived), wanted: self.amount });
        }
        let (mut nats, mut arrives) = (0.0, true);
        for (index, (from_1, from_2)) in loads {
            let Some(made) = self.network.channels.get(index) else { continue };
            nats -= chance(made, from_1, from_2).ln();
            arrives &= from_1 <= made.balance(Direction::FromNode1).0 && from_2 <= made.balance(Direction::FromNode2).0;
        }
        Ok(Verdict { fee: Msat(sent.saturating_sub(self.amount.0)), nats, arrives })
    }

    /// Pays with our own router, as often as is needed and at most `tries` times, against the balances that were drawn.
    pub fn pay(&self, router: &mut Router, graph: &Graph, pair: (NodeId, NodeId), tries: usize) -> Option<Paid> {
        let request = self.request(pair.0, pair.1);
        let mut scorer = Scorer::new();
        for tried in 1..=tries {
            let plan = router.find(graph, &scorer, &request).ok()?;
            // What the parts so far hold of each channel, in each direction.
            let mut held: HashMap<(ShortChannelId, bool), u64> = HashMap::new();
            let mut parts = plan.routes.iter().map(|route| route.attempted());
            if parts.all(|part| self.walk(&part, &mut held, &mut scorer, request.now)) {
                return Some(Paid { tries: tried, fee: plan.total_fee() });
            }
        }
        None
    }

    /// Whether all hops of a part have the amount; the scorer hears about it if one has not.
    fn walk(
        &self,
        part: &[Attempted],
        held: &mut HashMap<(ShortChannelId, bool), u64>,
        scorer: &mut Scorer,
        now: UnixTime,
    ) -> bool {
        for (at, hop) in part.iter().enumerate() {
            let from_1 = hop.direction == Direction::FromNode1;
            let held = held.entry((hop.short_channel_id, from_1)).or_default();
            *held = held.saturating_add(hop.amount.0);
            let has = self.channel(hop.short_channel_id).map_or(Msat::ZERO, |(_, made)| made.balance(hop.direction));
            if *held > has.0 {
                scorer.passed(part.get(..at).unwrap_or_default(), now);
                scorer.lacked_liquidity(*hop, now);
                return false;
            }
        }
        true
    }

    fn channel(&self, id: ShortChannelId) -> Result<(usize, &SyntheticChannel), InvalidRoute> {
        let index = *self.by_id.get(&id).ok_or(InvalidRoute::Channel(id))?;
        Ok((index, self.network.channels.get(index).ok_or(InvalidRoute::Channel(id))?))
    }

    /// Whether a leg that starts at `at` goes from node 1 to node 2, if it is as the channel allows. `before` is what `at`
    /// was given to forward it; nothing, if it is the payer.
    fn check(
        &self,
        made: &SyntheticChannel,
        at: NodeId,
        leg: &Leg,
        before: Option<Msat>,
    ) -> Result<bool, InvalidRoute> {
        let id = leg.short_channel_id;
        let (one, two) = (made.channel.node_id_1, made.channel.node_id_2);
        let (from_1, policy) = match (at, leg.to) {
            ends if ends == (one, two) => (true, made.policies.from_node_1),
            ends if ends == (two, one) => (false, made.policies.from_node_2),
            _ => return Err(InvalidRoute::Channel(id)),
        };
        let policy = policy.filter(|policy| !policy.disabled).ok_or(InvalidRoute::Policy(id))?;
        let fits = (policy.htlc_minimum_msat..=policy.htlc_maximum_msat).contains(&leg.amount);
        let needed = policy.fee(leg.amount).and_then(|fee| leg.amount.checked_add(fee));
        let pays = before.is_none_or(|before| needed.is_some_and(|needed| before >= needed));
        if fits && pays { Ok(from_1) } else { Err(InvalidRoute::Policy(id)) }
    }
}

/// The chance that a channel of the network carries this much from node 1 and this much from node 2.
fn chance(made: &SyntheticChannel, from_1: u64, from_2: u64) -> f64 {
    let capacity = made.channel.capacity_msat().0 as f64;
    let (least, most) = (from_1 as f64 / capacity, 1.0 - from_2 as f64 / capacity);
    (share_at_most(most) - share_at_most(least)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial() -> Trial {
        Trial::new(Size { seed: 3, nodes: 300, channels: 1_000 }, 60, Msat(20_000_000))
    }

    #[test]
    fn the_judge_accepts_our_answers_and_counts_their_fees() {
        let trial = trial();
        let graph = trial.network.graph();
        let (mut router, scorer) = (Router::new(), Scorer::new());
        let (mut judged, mut again) = (0, 0);
        for &(from, to) in &trial.pairs {
            let Ok(plan) = router.find(&graph, &scorer, &trial.request(from, to)) else { continue };
            let verdict = trial.judge((from, to), &Answer::from(&plan)).unwrap();
            assert_eq!(verdict.fee, plan.total_fee());
            assert!(verdict.nats >= 0.0 && verdict.nats.is_finite());
            let paid = trial.pay(&mut router, &graph, (from, to), 20);
            assert!(!verdict.arrives || paid == Some(Paid { tries: 1, fee: verdict.fee }), "{verdict:?} {paid:?}");
            (judged, again) = (judged + 1, again + usize::from(paid.is_some_and(|paid| paid.tries > 1)));
        }
        println!("answers judged: {judged}; paid after a first failure: {again}");
        assert!(judged > 30 && again > 0, "{judged} {again}");
    }

    #[test]
    fn what_is_no_way_is_refused() {
        let trial = trial();
        let graph = trial.network.graph();
        let mut router = Router::new();
        let found = trial.pairs.iter().find_map(|&(from, to)| {
            let plan = router.find(&graph, &Scorer::new(), &trial.request(from, to)).ok()?;
            (plan.routes.iter().all(|route| route.hops.len() > 1 && route.total_fee() > Msat::ZERO))
                .then(|| ((from, to), Answer::from(&plan)))
        });
        let (pair, good) = found.unwrap();
        let changed = |change: &dyn Fn(&mut Answer)| {
            let mut answer = good.clone();
            change(&mut answer);
            trial.judge(pair, &answer)
        };
        assert!(changed(&|_| ()).is_ok());
        assert_eq!(changed(&|answer| answer.parts[0].truncate(1)), Err(InvalidRoute::Ends));
        let id = good.parts[0][1].short_channel_id;
        let keeps_the_fee = changed(&|answer| answer.parts[0][0].amount = answer.parts[0][1].amount);
        assert!(matches!(keeps_the_fee, Err(InvalidRoute::Policy(_))), "{keeps_the_fee:?}");
        assert_eq!(changed(&|answer| answer.parts[0][1].to = pair.0), Err(InvalidRoute::Channel(id)));
        let part = good.parts[0].last().unwrap().amount;
        let got = Msat(trial.amount.0 - part.0);
        assert_eq!(
            changed(&|answer| drop(answer.parts.remove(0))),
            Err(InvalidRoute::Amount { got, wanted: trial.amount })
        );
    }
}
