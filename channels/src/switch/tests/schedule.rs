//! Random schedules: six honest nodes that pay one another, and everything that may happen to them.
//!
//! A schedule makes invoices and pays them over random routes, in one part or two, sometimes with too small a fee or too
//! early an expiry, sometimes repeating an onion; it delays messages, cuts connections, changes fees, lets blocks pass and
//! kills nodes before or after any commit. In the end, once everything has been delivered and every node has restarted
//! once more:
//!
//! * every node has, to the millisatoshi, what the fulfilled attempts say: nobody lost anything, and every forward was
//!   settled upstream exactly as downstream;
//! * no HTLC, circuit or owed settlement is left anywhere;
//! * every payment is over, and one that succeeded has paid an invoice that its recipient holds for settled;
//! * no onion was forwarded twice, and every fulfilled forward is in one history record with its fee;
//! * the sender can read every failure.
//!
//! `LEYDEN_SCHEDULES` says how many to run, `LEYDEN_SCHEDULE_SEED` runs one again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use secp256k1::SecretKey;

use super::network::*;
use super::opening::{Base, Edge};
use crate::channel::*;
use crate::payment::incoming::{Invoice, InvoiceState};
use crate::payment::outgoing::{AttemptState, PaymentFailure, PaymentLimits, PaymentRequest, PaymentState};
use crate::payment::route::{Hop, Route};
use crate::switch::*;
use crate::types::*;

/// SplitMix64: a schedule is its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len())].clone()) }
    }

    fn secret(&mut self) -> SecretKey {
        let mut bytes = [1; 32];
        bytes[8..16].copy_from_slice(&self.next().to_be_bytes());
        bytes[16..24].copy_from_slice(&self.next().to_be_bytes());
        SecretKey::from_slice(&bytes).unwrap()
    }
}

/// How often each thing happens, drawn anew for each schedule.
struct Weather {
    pay: u64,
    work: u64,
    deliver: u64,
    flush: u64,
    cut: u64,
    restart: u64,
    crash_percent: u64,
    /// Of a lost connection, at each step.
    reconnect_percent: u64,
    /// Comes back late, so that what is owed over it waits.
    bad_wire: (usize, usize),
    lazy_percent: u64,
    /// This channel's task is slow on this node, so that others overtake it.
    lazy: (usize, Lane),
    repeat_percent: u64,
    bad_route_percent: u64,
}

struct Deal {
    sender: usize,
    receiver: usize,
    hash: PaymentHash,
}

struct Schedule {
    random: Random,
    weather: Weather,
    net: Network,
    policies: BTreeMap<(usize, ChannelId), ForwardPolicy>,
    deals: Vec<Deal>,
    initial: Vec<Msat>,
}

impl Schedule {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut random = Random(seed);
        let stormy = random.chance(70);
        let weather = Weather {
            pay: random.between(2, 10),
            work: random.between(20, 50),
            deliver: random.between(20, 50),
            flush: random.between(10, 30),
            cut: if stormy { random.between(0, 8) } else { 0 },
            restart: if stormy { random.between(0, 6) } else { 0 },
            crash_percent: if stormy { random.between(0, 5) } else { 0 },
            reconnect_percent: random.between(2, 25),
            bad_wire: EDGES[random.below(EDGES.len())],
            lazy_percent: if random.chance(50) { 97 } else { 0 },
            lazy: {
                let edge = Base::get().edges[random.below(EDGES.len())];
                (if random.chance(50) { edge.ends.0 } else { edge.ends.1 }, Lane::Channel(edge.channel))
            },
            repeat_percent: if random.chance(40) { 15 } else { 0 },
            bad_route_percent: random.between(0, 20),
        };
        let net = Network::new(Base::get(), bug);
        let initial = net.nodes.iter().map(Node::balance).collect();
        let mut schedule = Self { random, weather, net, policies: BTreeMap::new(), deals: Vec::new(), initial };
        for edge in schedule.net.base.edges.clone() {
            for node in [edge.ends.0, edge.ends.1] {
                schedule.set_policy(node, edge.channel);
            }
        }
        for pair in schedule.net.pairs() {
            schedule.net.connect(pair);
        }
        schedule
    }

    fn set_policy(&mut self, node: usize, channel: ChannelId) {
        let random = &mut self.random;
        let policy = ForwardPolicy {
            base_fee: Msat(random.between(0, 5_000)),
            fee_ppm: random.between(0, 20_000) as u32,
            cltv_expiry_delta: random.between(18, 60) as u16,
            htlc_minimum: Msat(random.between(1, 2_000)),
            htlc_maximum: random.chance(20).then(|| Msat(random.between(50_000_000, 200_000_000))),
            enabled: random.chance(97),
        };
        let out = self.net.nodes[node].switch.set_policy(channel, policy).unwrap();
        self.net.commit(node, vec![out.convert()], Crash::Never);
        self.policies.insert((node, channel), policy);
    }

    fn run(&mut self) {
        for _ in 0..self.random.between(300, 900) {
            self.step();
        }
        self.drain();
        for node in 0..NODES {
            self.net.restart(node);
        }
        self.drain();
        self.check();
    }

    fn crash(&mut self) -> Crash {
        match self.random.chance(self.weather.crash_percent) {
            false => Crash::Never,
            true if self.random.chance(50) => Crash::BeforeCommit,
            true => Crash::AfterCommit,
        }
    }

    fn step(&mut self) {
        let Weather { pay, work, deliver, flush, cut, restart, .. } = self.weather;
        let mut draw = self.random.next() % (pay + work + deliver + flush + cut + restart + 3);
        let mut drawn = |weight: u64| {
            let hit = draw < weight;
            draw = if hit { u64::MAX } else { draw - weight };
            hit
        };
        if drawn(pay) {
            self.pay();
        } else if drawn(work) {
            let busy = |node: &usize| self.net.nodes[*node].lanes.values().any(|lane| !lane.is_empty());
            let busy: Vec<usize> = (0..NODES).filter(busy).collect();
            let count = self.random.between(1, 6);
            if let Some(node) = self.random.pick(&busy) {
                self.work(node, count);
            }
        } else if drawn(deliver) {
            self.deliver();
        } else if drawn(flush) {
            let wants = |node: &usize| self.net.nodes[*node].channels.values().any(Channel::wants_flush);
            let wanting: Vec<usize> = (0..NODES).filter(wants).collect();
            if let Some(node) = self.random.pick(&wanting) {
                self.flush(node);
            }
        } else if drawn(cut) {
            let pair = self.random.pick(&self.net.pairs()).unwrap();
            self.net.cut(pair);
        } else if drawn(restart) {
            self.restart();
        } else if drawn(1) {
            self.block();
        } else if drawn(1) {
            let edge = self.edge();
            self.set_policy(edge.ends.0, edge.channel);
        } else {
            self.net.now = UnixTime(self.net.now.0 + 5);
        }
        for pair in self.net.pairs() {
            let percent = if pair == self.weather.bad_wire { 2 } else { self.weather.reconnect_percent };
            if !self.net.wires[&pair].connected && self.random.chance(percent) {
                self.net.connect(pair);
            }
        }
    }

    /// Mostly where a settlement is owed, or something is on its way.
    fn restart(&mut self) {
        let owes = |key: &Key| matches!(key, Key::Settlement { .. });
        let owing: Vec<usize> = (0..NODES).filter(|node| self.net.nodes[*node].store.0.keys().any(owes)).collect();
        let pending: Vec<usize> = (0..NODES).filter(|node| self.net.nodes[*node].switch.pending() > 0).collect();
        let mut node = self.random.below(NODES);
        for preferred in [pending, owing] {
            let drawn = self.random.pick(&preferred).filter(|_| self.random.chance(70));
            node = drawn.unwrap_or(node);
        }
        self.net.restart(node);
    }

    fn edge(&mut self) -> Edge {
        let edges = &self.net.base.edges;
        edges[self.random.below(edges.len())]
    }

    fn block(&mut self) {
        self.net.tip = Height(self.net.tip.0 + 1);
        for node in 0..NODES {
            let tip = self.net.tip;
            self.net.push(node, Item::Switch(SwitchEvent::NewTip(tip)));
            for edge in self.net.base.edges.iter().filter(|edge| edge.ends.0 == node || edge.ends.1 == node) {
                self.net.push(node, Item::Switch(SwitchEvent::StillOpen { channel: edge.channel, tip }));
            }
        }
    }

    /// An invoice, and a payment of it.
    fn pay(&mut self) {
        if self.deals.len() >= 20 {
            return;
        }
        let sender = self.random.below(NODES);
        let receiver = (sender + 1 + self.random.below(NODES - 1)) % NODES;
        let mut preimage = PaymentPreimage([7; 32]);
        preimage.0[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let (hash, now) = (preimage.hash(), self.net.now);
        let amount = Msat(match self.random.below(4) {
            0 => self.random.between(2_000, 300_000),
            1 => self.random.between(50_000_000, 200_000_000),
            _ => self.random.between(1_000_000, 50_000_000),
        });
        let secret = PaymentSecret([self.random.next() as u8; 32]);
        let node = &mut self.net.nodes[receiver];
        let invoice = Invoice {
            index: node.invoices.next_index(),
            payment_hash: hash,
            preimage: Some(preimage),
            payment_secret: secret,
            amount: Some(amount),
            memo: String::new(),
            bolt11: String::new(),
            created: now,
            expiry_seconds: 3600,
            min_final_cltv_expiry_delta: 20,
            keysend: false,
            state: InvoiceState::Open,
        };
        let out = node.invoices.add(invoice).unwrap().convert();
        self.net.commit(receiver, vec![out], Crash::Never);
        let wrong_secret = self.random.chance(8);
        let request = PaymentRequest {
            payment_hash: hash,
            destination: node_key(receiver),
            amount,
            payment_secret: Some(if wrong_secret { PaymentSecret([0; 32]) } else { secret }),
            payment_metadata: None,
            final_cltv_delta: 30,
            max_fee: Msat(u64::MAX / 4),
            deadline: UnixTime(now.0 + 20),
            bolt11: String::new(),
            hints: Vec::new(),
            limits: PaymentLimits::default(),
            keysend: None,
            custom_records: Vec::new(),
        };
        let out = self.net.nodes[sender].payments.start(request, None, now).unwrap().convert();
        self.deals.push(Deal { sender, receiver, hash });
        let crash = self.crash();
        self.net.commit(sender, vec![out], crash);
    }

    /// Some lanes of a node move; what they did is one commit.
    fn work(&mut self, node: usize, count: u64) {
        let mut items = Vec::new();
        for _ in 0..count {
            let lanes: Vec<Lane> =
                self.net.nodes[node].lanes.iter().filter(|(_, lane)| !lane.is_empty()).map(|(lane, _)| *lane).collect();
            let Some(lane) = self.random.pick(&lanes) else { break };
            if self.weather.lazy == (node, lane) && self.random.chance(self.weather.lazy_percent) {
                continue;
            }
            let item = self.net.nodes[node].lanes.get_mut(&lane).and_then(|lane| lane.pop_front()).unwrap();
            if let Item::Payment(PaymentNews::FindRoutes { request, amount }) = item {
                self.find_routes(node, &request, amount);
                break;
            }
            items.push(item);
        }
        if !items.is_empty() {
            let crash = self.crash();
            self.net.turn(node, items, crash);
        }
        if self.random.chance(self.weather.repeat_percent) {
            self.repeat();
        }
    }

    /// Sends an onion that has been sent before, as a peer might that wants to see where it goes.
    fn repeat(&mut self) {
        let Some((node, route, mut htlc)) = self.random.pick(&self.net.truth.lately) else { return };
        if route.hops().len() < 2 || self.net.truth.repeated.len() > 10 {
            return;
        }
        let attempt = AttemptId(1 << 40 | self.net.truth.repeated.len() as u64);
        htlc.origin = Origin::Payment(attempt);
        self.net.truth.repeated.insert((node, attempt));
        self.net.offer(node, route, htlc);
    }

    fn find_routes(&mut self, node: usize, request: &PaymentRequest, amount: Msat) {
        let receiver = (0..NODES).find(|index| node_key(*index) == request.destination).unwrap();
        let parts = if self.random.chance(20) && amount.0 > 10_000 { 2 } else { 1 };
        let mut left = amount.0;
        let mut routes = Vec::new();
        for part in 0..parts {
            let part_amount = if part + 1 == parts { left } else { self.random.between(1_000, left - 1_000) };
            left -= part_amount;
            routes.extend(self.route(node, receiver, Msat(part_amount), request.final_cltv_delta));
        }
        let now = self.net.now;
        let crash = self.crash();
        let keys: Vec<SecretKey> = routes.iter().map(|_| self.random.secret()).collect();
        let payments = &mut self.net.nodes[node].payments;
        let out = if routes.len() == parts {
            let mut keys = keys.into_iter();
            payments.routes_found(&request.payment_hash, routes, || keys.next().unwrap(), now).unwrap_or_default()
        } else {
            payments.no_route(&request.payment_hash, PaymentFailure::NoRoute, now)
        };
        self.net.commit(node, vec![out.convert()], crash);
    }

    /// A random way without a loop, at the price that the nodes on it ask, or sometimes a little less.
    fn route(&mut self, from: usize, to: usize, amount: Msat, final_delta: u32) -> Option<Route> {
        let mut path: Vec<Edge> = Vec::new();
        let mut at = from;
        let mut seen = vec![from];
        while at != to {
            let edges = self.net.base.edges.iter().filter(|edge| edge.ends.0 == at || edge.ends.1 == at);
            let next = |edge: &Edge| if edge.ends.0 == at { edge.ends.1 } else { edge.ends.0 };
            let open: Vec<Edge> = edges.filter(|edge| !seen.contains(&next(edge))).copied().collect();
            let direct = open.iter().find(|edge| next(edge) == to).copied().filter(|_| self.random.chance(40));
            let edge = direct.or_else(|| self.random.pick(&open))?;
            at = next(&edge);
            seen.push(at);
            path.push(edge);
        }
        let mut amount = amount.0;
        let mut expiry = self.net.tip.0 + final_delta;
        let mut hops = Vec::new();
        for (index, edge) in path.iter().enumerate().rev() {
            let node = seen[index + 1];
            let (to, channel) = (node_key(node), Some(edge.name));
            hops.push(Hop { node_id: to, channel, amount: Msat(amount), cltv_expiry: CltvExpiry(expiry) });
            if index > 0 {
                let policy = &self.policies[&(seen[index], edge.channel)];
                let bad = self.random.chance(self.weather.bad_route_percent);
                let fee = policy.fee(Msat(amount)).unwrap().0;
                amount += if bad { fee.saturating_sub(1) } else { fee };
                let short = u32::from(self.random.chance(self.weather.bad_route_percent / 2));
                expiry += u32::from(policy.cltv_expiry_delta) - short;
            }
        }
        hops.reverse();
        Route::new(hops)
    }

    fn deliver(&mut self) {
        let waiting = self.net.wires.iter().flat_map(|(pair, wire)| {
            [false, true]
                .into_iter()
                .filter(|upward| !wire.queues[usize::from(*upward)].is_empty())
                .map(|up| (*pair, up))
        });
        let waiting: Vec<_> = waiting.collect();
        let Some((pair, upward)) = self.random.pick(&waiting) else { return };
        for _ in 0..self.random.between(1, 6) {
            self.net.deliver(pair, upward);
        }
    }

    fn flush(&mut self, node: usize) {
        let wanting = self.net.nodes[node].channels.iter().filter(|(_, channel)| channel.wants_flush());
        let items: Vec<Item> = wanting.map(|(id, _)| Item::Channel(*id, Event::Flush)).collect();
        if !items.is_empty() {
            let crash = self.crash();
            self.net.turn(node, items, crash);
        }
    }

    /// No more payments, crashes or cuts: everything is delivered until nothing moves.
    fn drain(&mut self) {
        self.weather.crash_percent = 0;
        self.weather.repeat_percent = 0;
        self.weather.lazy_percent = 0;
        self.weather.bad_route_percent = 0;
        for patience in 0..6 {
            for round in 0.. {
                assert!(round < 5_000, "the network does not come to rest");
                if !self.settle_once() {
                    break;
                }
            }
            // Parts that wait for others that will never come.
            self.net.now = UnixTime(self.net.now.0 + 30);
            for node in 0..NODES {
                let (now, tip) = (self.net.now, self.net.tip);
                let out = self.net.nodes[node].invoices.tick(now, tip).convert();
                self.net.commit(node, vec![out], Crash::Never);
            }
            if patience == 5 {
                assert!(!self.settle_once(), "still moving");
            }
        }
    }

    fn settle_once(&mut self) -> bool {
        let mut moved = false;
        for pair in self.net.pairs() {
            if !self.net.wires[&pair].connected {
                self.net.connect(pair);
                moved = true;
            }
            for upward in [false, true] {
                while self.net.deliver(pair, upward) {
                    moved = true;
                }
            }
        }
        for node in 0..NODES {
            while self.net.nodes[node].lanes.values().any(|lane| !lane.is_empty()) {
                self.work(node, 8);
                moved = true;
            }
            if self.net.nodes[node].channels.values().any(Channel::wants_flush) {
                self.flush(node);
                moved = true;
            }
        }
        moved
    }

    fn check(&self) {
        self.check_nothing_is_left();
        self.check_balances();
        self.check_payments();
        self.check_history();
    }

    fn check_nothing_is_left(&self) {
        for (index, node) in self.net.nodes.iter().enumerate() {
            for (id, channel) in &node.channels {
                let summary = channel.summary().unwrap().established.unwrap();
                assert_eq!(summary.htlcs, [], "{index} has HTLCs left on {id}");
                assert_eq!(channel.offered().count() + channel.unsettled().count(), 0);
                let far = self
                    .net
                    .nodes
                    .iter()
                    .enumerate()
                    .find(|(other, far)| *other != index && far.channels.contains_key(id));
                let far = far.unwrap().1.channels[id].summary().unwrap().established.unwrap();
                assert_eq!((summary.local_balance, summary.remote_balance), (far.remote_balance, far.local_balance));
            }
            assert_eq!(node.switch.pending(), 0, "{index} has circuits left");
            for key in node.store.0.keys() {
                let left = matches!(key, Key::Settlement { .. } | Key::Outcome(_) | Key::Htlc { .. });
                assert!(!left, "{index} has a row left: {key:?}");
            }
        }
    }

    fn check_balances(&self) {
        let mut expected: Vec<i64> = self.initial.iter().map(|balance| balance.0 as i64).collect();
        for (sender, attempt) in &self.net.truth.fulfilled {
            let hops = self.net.truth.attempts[&(*sender, *attempt)].hops().to_vec();
            expected[*sender] -= hops[0].amount.0 as i64;
            for (index, hop) in hops.iter().enumerate() {
                let node = (0..NODES).find(|node| node_key(*node) == hop.node_id).unwrap();
                let handed_on = hops.get(index + 1).map_or(0, |next| next.amount.0);
                expected[node] += (hop.amount.0 - handed_on) as i64;
            }
        }
        let got: Vec<i64> = self.net.nodes.iter().map(|node| node.balance().0 as i64).collect();
        assert_eq!(got, expected, "balances do not follow from the payments");
    }

    fn check_payments(&self) {
        for Deal { sender, receiver, hash } in &self.deals {
            let invoice = self.net.nodes[*receiver].stored_invoice(hash).unwrap();
            let Some(payment) = self.net.nodes[*sender].stored_payment(hash) else { continue };
            let paid = payment.attempts.iter().any(|one| self.net.truth.fulfilled.contains(&(*sender, one.id)));
            let settled = matches!(invoice.state, InvoiceState::Settled(_));
            for attempt in &payment.attempts {
                let read = !matches!(&attempt.state, AttemptState::Failed(failure) if failure.source.is_none());
                assert!(read, "the sender cannot read a failure: {attempt:?}");
            }
            match payment.state {
                PaymentState::Succeeded { preimage, .. } => {
                    assert!(paid && settled);
                    assert_eq!(preimage.hash(), *hash);
                }
                PaymentState::Failed { .. } => assert!(!paid, "paid, but the sender does not know"),
                PaymentState::Pending => panic!("a payment is stuck: {payment:?}"),
            }
            // With a repeated onion somebody else may have paid.
            let repeated = self.net.truth.lately.iter().any(|(_, _, htlc)| htlc.payment_hash == *hash)
                && !self.net.truth.repeated.is_empty();
            assert!(!settled || paid || repeated, "settled, but nobody paid");
        }
    }

    fn check_history(&self) {
        let mut expected: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
        for key in &self.net.truth.fulfilled {
            let hops = self.net.truth.attempts[key].hops();
            for pair in hops.windows(2) {
                let node = (0..NODES).find(|node| node_key(*node) == pair[0].node_id).unwrap();
                let (count, fees) = expected.entry(node).or_default();
                *count += 1;
                *fees += pair[0].amount.0 - pair[1].amount.0;
            }
        }
        for (index, node) in self.net.nodes.iter().enumerate() {
            let records = node.forwards();
            let fees: u64 = records.iter().map(|record| record.fee().0).sum();
            let wanted = expected.get(&index).copied().unwrap_or_default();
            assert_eq!((records.len(), fees), wanted, "history of {index}");
            assert!((1..).zip(&records).all(|(number, record)| record.number == number));
        }
    }
}

/// What the schedules did, so that a test which does nothing is noticed.
#[derive(Debug, Default)]
struct Tally {
    schedules: usize,
    attempts: usize,
    fulfilled: usize,
    forwards: usize,
    repeated: usize,
    restarts: usize,
    owed: [usize; 2],
    resumed: usize,
    commits: usize,
    news: usize,
}

fn run(seeds: impl Iterator<Item = u64>, bug: Bug) -> Result<Tally, u64> {
    let mut tally = Tally::default();
    for seed in seeds {
        let finished = catch_unwind(AssertUnwindSafe(|| {
            let mut schedule = Schedule::new(seed, bug);
            schedule.run();
            schedule.net.truth
        }));
        let Ok(truth) = finished else { return Err(seed) };
        tally.schedules += 1;
        tally.attempts += truth.attempts.len();
        tally.fulfilled += truth.fulfilled.len();
        tally.forwards += truth.forwards;
        tally.repeated += truth.repeated.len();
        tally.restarts += truth.restarts;
        (0..2).for_each(|kind| tally.owed[kind] += truth.owed[kind]);
        tally.resumed += truth.resumed;
        tally.commits += truth.commits;
        tally.news += truth.news;
    }
    Ok(tally)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn no_satoshi_is_lost_and_no_htlc_stuck_in_any_schedule() {
    let seeds = match variable("LEYDEN_SCHEDULE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("LEYDEN_SCHEDULES").unwrap_or(300),
    };
    let single = seeds.end - seeds.start == 1;
    match run(seeds, Bug::None) {
        Ok(tally) => {
            println!("{tally:?}");
            assert!(single || (tally.fulfilled > tally.schedules && tally.forwards > tally.schedules));
        }
        Err(seed) => panic!("schedule {seed} failed; run it alone with LEYDEN_SCHEDULE_SEED={seed}"),
    }
}

#[test]
fn planted_bugs_are_noticed() {
    for bug in [Bug::ForgottenSettlements, Bug::ForgottenOnions, Bug::ForgottenCircuits, Bug::EffectsBeforeCommit] {
        let noticed = run(0..200, bug).expect_err("it goes unnoticed");
        println!("{bug:?}: noticed by schedule {noticed}");
    }
}
