//! Random schedules: two honest nodes, and everything that may happen to them.
//!
//! A schedule adds, fulfills and fails HTLCs, changes the fee, delays messages, cuts the connection at any message, and
//! kills either node before or after a commit. No node may hold the other for wrong, every check of the harness holds
//! after every step, and once drained both agree on every balance, to the millisatoshi, with what the payments say. Many
//! schedules end with a cooperative close, begun at any time. In more than half of them the world outside is worse
//! ([`climate`](super::climate)).
//!
//! `LEYDEN_SCHEDULES` says how many to run. `LEYDEN_SCHEDULE_SEED` is the first seed: alone, it runs that schedule again.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::checks;
use super::climate::{self, Climate};
use super::harness::spent;
use super::harness::{Crash, Outcome, Setup, TestChannel, Who, wallet_script};
use crate::channel::*;
use crate::types::*;

/// SplitMix64: a schedule is its seed.
pub(super) struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn who(&mut self) -> Who {
        if self.chance(50) { Who::Alice } else { Who::Bob }
    }
}

/// How often each thing happens, out of the sum; drawn anew for each schedule, so that some are stormy and some calm.
struct Weather {
    add: u64,
    settle: u64,
    fee: u64,
    flush: u64,
    deliver: u64,
    batch: u64,
    cut: u64,
    restart: u64,
    towers: u64,
    crash_percent: u64,
}

impl Weather {
    fn draw(random: &mut Random) -> Self {
        let stormy = random.chance(50);
        Self {
            add: random.between(5, 30),
            settle: random.between(5, 30),
            fee: random.between(0, 4),
            flush: random.between(5, 25),
            deliver: random.between(20, 60),
            batch: random.between(0, 25),
            cut: if stormy { random.between(1, 8) } else { 0 },
            restart: if stormy { random.between(0, 3) } else { 0 },
            towers: 0,
            crash_percent: if stormy { random.between(0, 6) } else { 0 },
        }
    }

    fn total(&self) -> u64 {
        self.add
            + self.settle
            + self.fee
            + self.flush
            + self.deliver
            + self.batch
            + self.cut
            + self.restart
            + self.towers
    }
}

struct Schedule {
    random: Random,
    weather: Weather,
    climate: Climate,
    test: TestChannel,
    /// Everything that either node was asked to pay.
    attempts: Vec<(Who, AttemptId, Msat)>,
    initial: [Msat; 2],
    last_hash: Option<(PaymentHash, Msat, CltvExpiry)>,
    closing: bool,
    closed_for_fees: bool,
    /// What a receiver has decided about an HTLC, which a crash does not change.
    decided: HashMap<(Who, HtlcId), Settlement>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let kind = if random.chance(50) { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey };
        let capacity = random.between(200_000, 16_000_000);
        // Now and then the opener gives away so much that its own reserve is never met.
        let push = match random.chance(15) {
            true => capacity - random.between(6_000, 20_000),
            false => random.below(capacity * 6 / 10),
        };
        let mut setup = Setup::new(capacity, kind).push(push);
        setup.seed = seed;
        setup.feerate = FeeratePerKw(random.between(253, 3000) as u32);
        for policy in &mut setup.policy {
            if random.chance(30) {
                policy.max_accepted_htlcs = random.between(1, 12) as u16;
            }
            if random.chance(30) {
                policy.dust_limit = bitcoin::Amount::from_sat(random.between(354, 1000));
                policy.max_dust_exposure = Msat(random.between(1_000_000, 9_000_000));
            }
            if random.chance(30) {
                policy.max_in_flight_percent = random.between(10, 90) as u8;
            }
        }
        // A peer that bears less than the opener closes when the opener's fee trims more: that is no agreement.
        let most = setup.policy[0].exposure_limit(bitcoin::Amount::from_sat(capacity));
        setup.policy[1].max_dust_exposure = setup.policy[1].max_dust_exposure.max(most);
        let mut weather = Weather::draw(&mut random);
        let climate = Climate::draw(seed);
        let mut test = setup.ready();
        for node in &mut test.nodes {
            // What they may hold against each other is looked at in the end.
            node.tolerant = true;
            node.prepares = seed % 4 < 2;
            // In every second schedule towers are required, of one node or of both.
            if towers_are_required(seed, &mut random) {
                node.towers.policy = TowerPolicy::Require;
                node.towers.silent = true;
                weather.towers = random.between(2, 15);
            }
        }
        let initial = Who::BOTH.map(|who| test[who].balance());
        Self {
            random,
            weather,
            climate,
            test,
            attempts: Vec::new(),
            initial,
            last_hash: None,
            closing: false,
            closed_for_fees: false,
            decided: HashMap::new(),
        }
    }

    fn run(&mut self) {
        let steps = self.random.between(50, 120);
        let mut close_at = if self.random.chance(30) { self.random.below(steps) } else { steps };
        if self.climate.feerates_move {
            // The bounds of a closing fee are for a moment's feerates.
            close_at = steps;
        }
        for step in 0..steps {
            if step == close_at {
                self.close();
            }
            self.climate.change(&mut self.test);
            if self.is_over() {
                return;
            }
            self.step();
        }
        self.climate.calm(&mut self.test);
        for node in &mut self.test.nodes {
            node.towers.silent = false;
        }
        if self.is_over() {
            return;
        }
        self.drain();
        if self.closed_for_fees {
            return;
        }
        self.check_balances();
        if self.random.chance(60) {
            self.close();
        }
        if self.closing {
            self.finish_closing();
        }
        self.check_nobody_violates_the_protocol();
    }

    /// Whether somebody has closed the channel for its feerate.
    fn is_over(&mut self) -> bool {
        let over = self.test.nodes.iter().any(|node| node.channel.state_name() == StateName::Closing);
        if over {
            climate::check_closed_for_fees(&mut self.test);
            self.closed_for_fees = true;
        }
        over
    }

    fn step(&mut self) {
        let mut draw = self.random.below(self.weather.total());
        let who = self.random.who();
        let crash = match self.random.chance(self.weather.crash_percent) {
            false => Crash::Never,
            true if self.random.chance(50) => Crash::BeforeCommit,
            true => Crash::AfterCommit,
        };
        let mut drawn = |weight: u64| {
            let hit = draw < weight;
            draw = draw.saturating_sub(weight);
            if hit {
                draw = u64::MAX;
            }
            hit
        };
        let weather = &self.weather;
        if drawn(weather.add) {
            self.add(who, crash);
        } else if drawn(weather.settle) {
            self.settle(who, crash);
        } else if drawn(weather.fee) {
            // No opener of ours raises it by more at once.
            let rates = Who::BOTH.map(|who| self.test[who].commitments().claim_rates(&Feerates::default()).commitment);
            let most = exposure::raised(FeeratePerKw(rates[0].0.min(rates[1].0))).0.min(6_000);
            let feerate = FeeratePerKw(self.random.between(253, u64::from(most)) as u32);
            self.test.events(Who::Alice, vec![Event::UpdateFee(feerate)], crash);
        } else if drawn(weather.flush) {
            self.test.events(who, vec![Event::Flush], crash);
        } else if drawn(weather.deliver) {
            let count = self.random.between(1, 4) as usize;
            for _ in 0..count {
                let Some(event) = self.test.next_message(who) else { break };
                self.test.events(who, vec![event], crash);
            }
        } else if drawn(weather.batch) {
            self.batch(who, crash);
        } else if drawn(weather.cut) {
            self.cut();
        } else if drawn(weather.towers) {
            self.towers(who, crash);
        } else {
            self.test.restart(who);
        }
        let waits = self.test[who].channel.awaits_towers().is_some();
        self.test[who].towers.waited += usize::from(waits);
        if !self.test.connected && self.random.chance(40) {
            self.test.connect();
        }
    }

    /// They answer, late; now and then the user does without them for a while.
    fn towers(&mut self, who: Who, crash: Crash) {
        match (self.test[who].towers.policy, self.random.chance(10)) {
            (TowerPolicy::None, _) => {}
            (TowerPolicy::Require, true) => self.test.set_towers(who, TowerPolicy::BackUp),
            (TowerPolicy::BackUp, true) => self.test.set_towers(who, TowerPolicy::Require),
            (TowerPolicy::Require | TowerPolicy::BackUp, false) => drop(self.test.acknowledge(who, crash)),
        }
    }

    fn htlc(&mut self, who: Who) -> AddHtlc {
        let balance = self.test[who].balance().0;
        let amount = match self.random.below(10) {
            0..=2 => self.random.between(1, 999_999),
            3..=7 => self.random.between(1_000_000, (balance / 10).max(2_000_000)),
            8 => self.random.between(1_000_000, balance.max(2_000_000)),
            _ => self.random.between(300_000, 3_000_000),
        };
        let (attempt, mut add) = self.test.htlc(Msat(amount));
        add.cltv_expiry = CltvExpiry(self.test.tip.0 + self.random.between(200, 2000) as u32);
        if self.random.chance(40) {
            add.cltv_expiry = CltvExpiry(self.test.tip.0 + 500);
        }
        if let Some((hash, amount, expiry)) = self.last_hash
            && self.random.chance(10)
        {
            add.payment_hash = hash;
            if self.random.chance(70) {
                add.amount = amount;
            }
            if self.random.chance(50) {
                add.cltv_expiry = expiry;
            }
        }
        self.last_hash = Some((add.payment_hash, add.amount, add.cltv_expiry));
        self.attempts.push((who, attempt, add.amount));
        add
    }

    fn add(&mut self, who: Who, crash: Crash) {
        let count = if self.random.chance(20) { self.random.between(2, 6) } else { 1 };
        let events = (0..count).map(|_| Event::Add(Box::new(self.htlc(who)))).collect();
        self.test.events(who, events, crash);
    }

    fn settle(&mut self, who: Who, crash: Crash) {
        let ids: Vec<HtlcId> = self.test[who].incoming.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.below(ids.len() as u64) as usize];
        let event = self.settlement(who, id);
        self.test.events(who, vec![event], crash);
    }

    fn settlement(&mut self, who: Who, id: HtlcId) -> Event {
        let htlc = self.test[who].incoming.remove(&id).unwrap();
        if let Some(settlement) = self.decided.get(&(who, id)) {
            return Event::Settle { id, settlement: settlement.clone() };
        }
        let settlement = match self.random.below(10) {
            _ if htlc.must_fail.is_some() => Settlement::Fail { reason: vec![1; 292] },
            0..=5 => Settlement::Fulfill(self.test.preimages[&htlc.payment_hash]),
            6..=8 => Settlement::Fail { reason: vec![2; self.random.between(1, 300) as usize] },
            _ => Settlement::FailMalformed { sha256_of_onion: [3; 32], failure_code: 0x8005 },
        };
        self.decided.insert((who, id), settlement.clone());
        Event::Settle { id, settlement }
    }

    /// All that waits for a node, and a flush, in one commit.
    fn batch(&mut self, who: Who, crash: Crash) {
        let mut events = Vec::new();
        while let Some(event) = self.test.next_message(who) {
            events.push(event);
        }
        events.push(Event::Flush);
        self.test.events(who, events, crash);
    }

    /// The connection ends after a few more messages have arrived, or none.
    fn cut(&mut self) {
        for who in Who::BOTH {
            for _ in 0..self.random.below(4) {
                self.test.deliver(who);
            }
        }
        self.test.cut();
    }

    fn close(&mut self) {
        self.closing = true;
        let who = self.random.who();
        let wanted = FeeratePerKw(self.random.between(253, 4000) as u32);
        let script = wallet_script(who);
        self.test.event(
            who,
            Event::Close(CloseRequest {
                script,
                feerate: wanted,
                feerate_min: FeeratePerKw(253),
                feerate_max: FeeratePerKw(10_000),
            }),
        );
    }

    /// No more adds; everything pending is settled.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 100, "not drained: {}", self.describe());
            if !self.test.connected {
                self.test.connect();
            }
            self.test.run();
            if self.is_over() {
                return;
            }
            let mut settled = false;
            for who in Who::BOTH {
                while let Some(&id) = self.test[who].incoming.keys().next() {
                    let event = self.settlement(who, id);
                    self.test.event(who, event);
                    settled = true;
                }
            }
            if !settled && (self.is_drained() || self.is_closed_without_a_fee()) {
                return;
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.test.nodes.iter().all(|node| node.commitments().is_drained())
    }

    /// Both hold one closing transaction, and what is in one commitment only moves no balance: a feerate that nobody
    /// needs any more.
    fn is_closed_without_a_fee(&self) -> bool {
        let [alice, bob] = Who::BOTH.map(|who| self.agreed(who).map(|agreed| agreed.transaction.compute_txid()));
        alice.is_some() && alice == bob && self.test.nodes.iter().all(|node| node.commitments().is_without_htlcs())
    }

    fn agreed(&self, who: Who) -> Option<&state::Agreed> {
        match &self.test[who].established().phase {
            state::Phase::Negotiating(negotiating) => negotiating.agreed.as_ref(),
            _ => None,
        }
    }

    fn check_nobody_violates_the_protocol(&self) {
        for node in &self.test.nodes {
            let wrong = node.notices.iter().find(|notice| matches!(notice, Notice::ProtocolViolation(_)));
            assert!(wrong.is_none(), "a node holds the other for wrong: {wrong:?}");
        }
    }

    fn check_balances(&self) {
        if self.is_drained() {
            self.test.assert_in_sync();
        }
        for node in &self.test.nodes {
            assert!(node.commitments().details.is_empty());
            let live = node.live_rows().filter(|(key, _)| matches!(key, Key::Htlc { .. })).count();
            assert_eq!(live, 0, "HTLC rows are left over");
        }
        let mut expected = self.initial.map(|balance| balance.0);
        for (who, attempt, amount) in &self.attempts {
            let node = &self.test[*who];
            let stored =
                node.store.rows.get(&Key::Outcome(*attempt)).map(|bytes| OwedSettlement::decode(bytes).unwrap());
            let outcome = node.outcomes.get(attempt);
            match (&stored, outcome) {
                (Some(OwedSettlement::Fulfilled { .. }), None | Some(Outcome::Fulfilled)) => {
                    expected[*who as usize] -= amount.0;
                    expected[who.other() as usize] += amount.0;
                }
                (Some(OwedSettlement::Failed { failure }), Some(Outcome::Failed(told))) => assert_eq!(failure, told),
                (Some(OwedSettlement::Failed { .. }), None) => {}
                // Refused, or lost with a crash before it was signed.
                (None, None | Some(Outcome::Refused(_))) => {}
                (stored, outcome) => panic!("{attempt:?}: stored {stored:?}, told {outcome:?}"),
            }
        }
        let balances = Who::BOTH.map(|who| self.test[who].balance().0);
        assert_eq!(balances, expected, "balances do not follow from the payments");
    }

    /// Negotiates, with some more lost messages on the way, until both hold the same closing transaction.
    fn finish_closing(&mut self) {
        for _ in 0..self.random.below(4) {
            let who = self.random.who();
            self.test.deliver(who);
            if self.random.chance(30) {
                self.test.restart(who);
            } else if self.random.chance(30) {
                self.test.cut();
            }
            if !self.test.connected {
                self.test.connect();
            }
        }
        self.test.run();
        if Who::BOTH.iter().any(|who| self.agreed(*who).is_none()) {
            // The connection was cut more often than a peer may begin again between two blocks.
            self.test.tip = Height(self.test.tip.0 + 1);
            for who in Who::BOTH {
                self.test.event(who, Event::NewTip(self.test.tip));
            }
            self.test.reconnect();
        }
        let agreed = Who::BOTH.map(|who| {
            self.agreed(who).cloned().unwrap_or_else(|| panic!("{who:?} has not agreed: {}", self.describe()))
        });
        assert_eq!(agreed[0].transaction.compute_txid(), agreed[1].transaction.compute_txid());
        for who in Who::BOTH {
            let (_, output) = self.test.funding_output();
            let transaction = agreed[who as usize].transaction.clone();
            checks::execute(&transaction, vec![output]);
            self.test.event(who, spent(transaction, Some(Height(200))));
            self.test.event(who, Event::CloseConfirmed);
            assert!(self.test[who].forgotten);
            assert_eq!(self.test[who].channel.state_name(), StateName::Closed);
        }
    }

    fn describe(&self) -> String {
        Who::BOTH
            .map(|who| {
                let node = &self.test[who];
                format!(
                    "{who:?} {:?} {} incoming {:?} inbox {}",
                    node.channel.state_name(),
                    checks::pending(node.commitments()),
                    node.incoming.keys().collect::<Vec<_>>(),
                    node.inbox.len()
                )
            })
            .join("; ")
    }
}

fn towers_are_required(seed: u64, random: &mut Random) -> bool {
    seed % 2 == 1 && random.chance(75)
}

/// What the schedules did, so that a test which does nothing is noticed.
#[derive(Default)]
struct Tally {
    schedules: u64,
    attempts: usize,
    commits: usize,
    bytes: usize,
    commitments: usize,
    htlcs: usize,
    closed_for_fees: usize,
    waited: usize,
    rebuilt: usize,
}

fn run(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let finished = catch_unwind(AssertUnwindSafe(|| {
            let mut schedule = Schedule::new(seed);
            schedule.run();
            schedule
        }));
        let schedule = match finished {
            Ok(schedule) => schedule,
            Err(panic) => {
                eprintln!("schedule {seed} failed; run it alone with LEYDEN_SCHEDULE_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        };
        tally.schedules += 1;
        tally.attempts += schedule.attempts.len();
        tally.closed_for_fees += usize::from(schedule.closed_for_fees);
        for node in &schedule.test.nodes {
            tally.commits += node.store.commits;
            tally.bytes += node.store.bytes;
            tally.commitments += node.executed.commitments;
            tally.htlcs += node.executed.htlcs;
            tally.waited += node.towers.waited;
            tally.rebuilt += node.towers.rebuilt;
        }
    }
    tally
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn random_schedules_conserve_every_satoshi_and_end_in_agreement() {
    let started = std::time::Instant::now();
    let first = variable("LEYDEN_SCHEDULE_SEED");
    let count = variable("LEYDEN_SCHEDULES").unwrap_or(if first.is_some() { 1 } else { 2_000 });
    let first = first.unwrap_or(0);
    let Tally { schedules, attempts, commits, bytes, commitments, htlcs, closed_for_fees, waited, rebuilt } =
        run(first..first + count);
    println!(
        "{schedules} schedules, {attempts} payments tried, {commits} commits of {} bytes on average, {commitments} \
         commitments and {htlcs} HTLC transactions executed, {closed_for_fees} closed for a feerate, {waited} steps with a \
         signature that waited for towers, {rebuilt} queued states rebuilt, {:.1} s",
        bytes / commits.max(1),
        started.elapsed().as_secs_f32()
    );
    assert!(attempts as u64 >= schedules && commitments as u64 > schedules);
    assert!(schedules < 100 || (waited as u64 > schedules && rebuilt as u64 > schedules));
}
