//! Random schedules: two networks that find blocks faster and slower than they should; an owner whose process ends at any commit, whose
//! nodes are away for hours, whose data directory is put back to what it was, whose calls are lost, unanswered or late; payers and payees who do what they like.
//!
//! A failure prints its seed: `LEYDEN_CROSSING_SEED=n cargo test --workspace --lib crossing::tests::schedule` runs that one
//! alone.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use super::{clocks::rate, world::*};
use crate::{
    crossing::*,
    swap::{margins::RESTART_ALLOWANCE, tests::schedule::schedules},
    types::{Msat, PaymentHash},
};

/// The longest that anything is held: blocks at half their pace.
const LONGEST: u64 = 40 * 24 * 3_600;

#[derive(Clone)]
struct Dice(Rc<RefCell<u64>>);

impl Dice {
    fn next(&self) -> u64 {
        // SplitMix64.
        let mut state = self.0.borrow_mut();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How far the two networks are from what their rules aim at, in tenths, and whether their nodes have seen that.
#[derive(Clone, Copy)]
struct Clocks {
    north_faster: u64,
    south_slower: u64,
    measured: bool,
}

impl Clocks {
    /// As the rules aim at.
    const RIGHT: Self = Self { north_faster: 10, south_slower: 10, measured: false };
    /// Together they are beyond what the margins allow for what nobody has seen.
    const OFF: Self = Self { north_faster: 15, south_slower: 18, measured: true };

    fn north(&self, seconds: u64) -> u64 {
        seconds * 10 / self.north_faster
    }

    fn south(&self, seconds: u64) -> u64 {
        seconds * self.south_slower / 10
    }
}

/// How a network finds its blocks: seconds between two of them, on average.
struct Pace {
    seconds: u64,
    next: u64,
}

impl Pace {
    fn blocks(&mut self, now: u64, dice: &Dice) -> u32 {
        let mut found = 0;
        while self.next <= now {
            self.next += self.seconds * 9 / 10 + dice.below(self.seconds / 5);
            found += 1;
        }
        found
    }
}

struct Schedule {
    dice: Dice,
    world: World,
    north: Pace,
    south: Pace,
    payments: u8,
    /// When each node is back, if it is away; and whether it may be away once more.
    away: [(u64, bool); 2],
    /// What was kept earlier.
    older: Option<Disk>,
}

impl Schedule {
    fn new(seed: u64, clocks: Clocks) -> Self {
        let dice = Dice(Rc::new(RefCell::new(seed)));
        let chances = dice.clone();
        let fate = move || {
            let crash = match chances.below(20) {
                0 => Crash::Before,
                1 => Crash::After,
                _ => Crash::Never,
            };
            let call = match chances.below(20) {
                0 => Call::Lost,
                1 => Call::Unanswered,
                2 => Call::Late(chances.below(margins::FENCE_SECONDS)),
                _ => Call::Done,
            };
            (crash, call)
        };
        // Between twice as fast and twice as slow.
        let pace = |spacing: u32| Pace { seconds: u64::from(spacing) * (55 + dice.below(135)) / 100, next: BEGIN };
        let (mut north, mut south) = (pace(NORTH.spacing), pace(SOUTH.spacing));
        (north.seconds, south.seconds) = (clocks.north(north.seconds), clocks.south(south.seconds));
        let mut world = World::new(Box::new(fate));
        if clocks.measured {
            let seen = |seconds: u64| u32::try_from(seconds).unwrap();
            world.north.measured = seen(clocks.north(NORTH.spacing.into()));
            world.south.measured = seen(clocks.south(SOUTH.spacing.into()));
        }
        let payments = 1 + dice.below(5) as u8;
        for number in 0..payments {
            let conduct = match dice.below(6) {
                0 => Conduct::NoRoute,
                1 => Conduct::Ends { paid: false, at: dice.below(1_001) },
                2 => Conduct::Ends { paid: true, at: dice.below(1_001) },
                3 => Conduct::Ends { paid: dice.percent(50), at: 1_000 },
                _ => Conduct::Ends { paid: true, at: 0 },
            };
            world.conducts.insert(preimage(number).hash(), conduct);
        }
        Self { world, north, south, payments, away: [(0, true); 2], older: None, dice }
    }

    fn run(&mut self) {
        let end = BEGIN + LONGEST;
        let mut asked = 0;
        while self.world.now < end && !(asked == self.payments && self.is_over()) {
            // In a hurry while something happens, and else like a day of blocks.
            let is_quiet = self.world.crossings.all().all(|one| !one.is_waiting()) && self.world.late.is_empty();
            self.world.now += 1 + self.dice.below(if is_quiet { 900 } else { 30 });
            self.world.north.height.0 += self.north.blocks(self.world.now, &self.dice);
            self.world.south.height.0 += self.south.blocks(self.world.now, &self.dice);
            self.come_and_go();
            self.put_back();
            self.world.nodes();
            if asked < self.payments && self.dice.percent(20) && self.world.ask(asked).is_ok() {
                asked += 1;
            }
            for number in 0..asked {
                if self.dice.percent(10) {
                    let (blocks, more) = (self.dice.below(6) as u32, self.dice.below(3));
                    self.world.payer_pays(&preimage(number).hash(), blocks, more);
                }
            }
            if self.dice.percent(1) {
                let take = 1 + self.dice.below(3);
                let rate = (!self.dice.percent(20)).then(|| Rate { take, ..rate() });
                let outbox = self.world.crossings.set_rate(PAIR, rate).unwrap();
                self.world.carry_out(outbox);
                let outbox = self.world.crossings.set_rate(PAIR, Some(self.set())).unwrap();
                self.world.carry_out(outbox);
            }
            self.world.look();
            self.world.check();
        }
    }

    fn set(&self) -> Rate {
        Rate { take: 1 + self.dice.below(3), ..rate() }
    }

    fn is_over(&self) -> bool {
        self.world.late.is_empty() && self.world.crossings.all().all(Crossing::is_over)
    }

    /// The data directory is put back to what it was when the same payments were asked for. Calls of the process before have
    /// been answered or given up by then.
    fn put_back(&mut self) {
        if self.dice.percent(1) {
            self.older = Some(self.world.disk.clone());
        } else if self.dice.percent(1)
            && self.world.late.is_empty()
            && self.older.as_ref().is_some_and(|older| older.0.keys().eq(self.world.disk.0.keys()))
            && let Some(older) = self.older.take()
        {
            self.world.disk = older;
            self.world.restart();
        }
    }

    /// Each node is away at most once, for a third of what the margins allow both together.
    fn come_and_go(&mut self) {
        let now = self.world.now;
        let networks = [&mut self.world.north, &mut self.world.south];
        for (network, (back, may)) in networks.into_iter().zip(&mut self.away) {
            network.is_up = now >= *back;
            if network.is_up && *may && self.dice.percent(2) {
                (*back, *may) = (now + self.dice.below(RESTART_ALLOWANCE / 3), false);
                network.is_up = false;
            }
        }
    }

    /// Every millisatoshi on both sides.
    fn judge(&self) -> (u64, u64) {
        let (mut crossed, mut given_back) = (0, 0);
        let (mut taken, mut paid, mut unknown) = (Msat(0), Msat(0), BTreeSet::new());
        for crossing in self.world.crossings.all() {
            let hold = self.world.holds.get(&crossing.hash);
            match &crossing.state {
                State::Ended(Outcome::Crossed { fee, .. }) if crossing.held.is_some() => {
                    let held = crossing.held.expect("something was held");
                    assert!(held.amount >= crossing.price && *fee <= crossing.most_fee);
                    taken.0 += held.amount.0;
                    paid.0 += crossing.amount.0 + fee.0;
                    crossed += 1;
                }
                // The books are older than what was held.
                State::Ended(Outcome::Crossed { .. } | Outcome::TakenElsewhere) => {
                    unknown.insert(crossing.hash);
                    crossed += 1;
                }
                State::Ended(Outcome::GivenBack(_)) => given_back += 1,
                other => panic!("{other:?}, held {hold:?}"),
            }
        }
        let settled = self.world.holds.iter().filter(|(_, hold)| hold.state == Incoming::Settled);
        let settled = settled.filter(|(hash, _)| !unknown.contains(*hash));
        let on_north: u64 = settled.map(|(hash, _)| self.held(hash).0).sum();
        let on_south = self.world.payments.iter().filter(|(hash, _)| !unknown.contains(*hash));
        let on_south: u64 = on_south.map(|(_, payment)| spent(payment)).sum();
        assert_eq!((on_north, on_south), (taken.0, paid.0), "what moved on either network is what the books say");
        let open = self.world.holds.values().filter(|hold| matches!(hold.state, Incoming::Held { .. })).count();
        assert_eq!(open, 0, "nothing stays held");
        (crossed, given_back)
    }

    fn held(&self, hash: &PaymentHash) -> Msat {
        let crossing = self.world.crossings.get(hash).expect("what was taken is in the books");
        crossing.held.map_or(Msat(0), |held| held.amount)
    }
}

fn spent(payment: &Payment) -> u64 {
    match &payment.state {
        Outgoing::Paid { fee, .. } => payment.order.amount.0 + fee.0,
        Outgoing::NeverBegun(_) | Outgoing::UnderWay | Outgoing::Failed { .. } => 0,
    }
}

fn run(seed: u64, clocks: Clocks) -> (u64, u64) {
    let result = std::panic::catch_unwind(|| {
        let mut schedule = Schedule::new(seed, clocks);
        schedule.run();
        schedule.judge()
    });
    result.unwrap_or_else(|_| panic!("schedule of seed {seed} failed; LEYDEN_CROSSING_SEED={seed} runs it alone"))
}

/// So many seeds, or the one that is asked for.
fn run_all(clocks: Clocks, count: u64) {
    if let Ok(seed) = std::env::var("LEYDEN_CROSSING_SEED") {
        println!("{:?}", run(seed.parse().unwrap(), clocks));
        return;
    }
    let (mut crossed, mut given_back) = (0, 0);
    for seed in 0..count {
        let (one, other) = run(seed, clocks);
        (crossed, given_back) = (crossed + one, given_back + other);
    }
    println!("{count} schedules, seeds 0 to {}: {crossed} crossed, {given_back} given back", count - 1);
    assert!(crossed > count / 2 && given_back > count / 4, "{crossed} crossed, {given_back} given back");
}

/// Whether any of the first seeds loses money.
fn loses(clocks: Clocks) -> bool {
    let is_lost = |seed: u64| {
        let result = std::panic::catch_unwind(|| {
            let mut schedule = Schedule::new(seed, clocks);
            schedule.run();
            schedule.judge()
        });
        result.is_err()
    };
    (0..200).any(is_lost)
}

#[test]
fn schedules_of_crossings_never_pay_what_is_given_back_nor_take_what_is_not_paid() {
    run_all(Clocks::RIGHT, schedules());
}

#[test]
fn networks_that_are_seen_to_be_fast_and_slow_cross_as_safely() {
    run_all(Clocks::OFF, (schedules() / 4).max(1));
}

#[test]
fn clocks_worse_than_the_margins_allow_do_lose_money_here() {
    let slow = Clocks { south_slower: 120, ..Clocks::RIGHT };
    assert!(loses(slow), "the schedules see what the margins are for");
    let unseen = Clocks { measured: false, ..Clocks::OFF };
    assert!(loses(unseen), "the schedules see what a measured pace is for");
}
