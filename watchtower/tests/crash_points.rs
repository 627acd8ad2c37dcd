//! The tower is killed before and after any of its commits, from registration to finality: no breach is missed, no
//! acknowledged state is lost.
//!
//! A run is a seed: two clients, blind or own, of either commitment type, with random states, who back up while blocks come;
//! one or both are cheated, at a random block, of a random state, with the cheater's second stages, reorganisations, blocks
//! that cannot be read and feerates that move. Some of those who are cheated back the state up only after its breach was
//! mined. `LEYDEN_TOWER_SEED=7` replays one run, `LEYDEN_TOWER_RUNS=400` makes so many
//! (each has some 25 crash points, so 400 are ten thousand), from `LEYDEN_TOWER_FROM`.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use bitcoin::{Amount, Transaction};
use common::{
    Duo, KINDS, START, State, cheaters_purse,
    world::{Client, Crash, World, config},
};
use leyden_channels::{
    onchain::FeeEstimates,
    types::{CommitmentType, FeeratePerKw, Height, HtlcDirection},
};
use leyden_watchtower::{message::Mode, tower::Notice};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Some HTLCs stay from the state before, others are new: an id names one HTLC for ever.
fn random_states(random: &mut Random) -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    for number in 0..3 + random.below(4) {
        let mut state = State { alice: 5_000 + random.below(300_000), ..State::default() };
        let before = states.last().cloned().unwrap_or_default();
        for (now, before, first) in
            [(&mut state.offered, before.offered, 1), (&mut state.received, before.received, 1_001)]
        {
            now.extend(before.into_iter().filter(|_| random.chance(60)));
            let first = first + number * 10;
            now.extend((first..first + random.below(4)).map(|id| (id, 2_000 + random.below(40_000))));
        }
        states.push(state);
    }
    states
}

/// What Bob does to one client.
struct Cheat {
    at: usize,
    state: u64,
    block: u32,
    /// His second stages, and from which block on he tries to get them in.
    stages: Vec<(u32, Transaction)>,
    /// From which block on the client backs up that state and those after it: the one before the breach, or a later one.
    backed_up: u32,
}

/// By so many blocks a backup may come after its breach: a client that was away. The penalties have to be mined before the end.
const MOST_LATE: u64 = 60;

/// What a run has seen.
#[derive(Default)]
struct Seen {
    crashes: usize,
    cheats: usize,
    /// Of which the state was backed up after its breach was mined.
    late: usize,
}

impl Cheat {
    fn is_late(&self) -> bool {
        self.backed_up >= self.block
    }
}

fn run(seed: u64) -> Seen {
    let random = &mut Random(seed);
    let mut clients = Vec::new();
    for number in 0..2 {
        let kind = KINDS[random.below(2) as usize];
        let mode = if random.chance(50) { Mode::Blind } else { Mode::Own };
        let states = random_states(random);
        clients.push(Client::new(number, mode, Duo::new(seed as u32 * 2 + number, kind, states)));
    }
    let mut world = World::new(config(), clients);
    // Crash points: half of them before a commit, half between a commit and its effects.
    let mut at = 0;
    loop {
        at += 1 + random.below(6) as usize;
        if at > 120 {
            break;
        }
        world.crash_at.insert(at, if random.chance(50) { Crash::BeforeCommit } else { Crash::AfterCommit });
    }

    let mut cheats: Vec<Cheat> = Vec::new();
    for at in 0..2 {
        if at == 1 && random.chance(50) {
            continue;
        }
        let duo = &world.clients[at].duo;
        let (last, block) = (duo.states.len() as u64 - 1, START + 2 + random.below(30) as u32);
        let state = random.below(last);
        // A blind kit of anchors does not reach his second stages.
        let reached = !(world.clients[at].mode == Mode::Blind && duo.kind == CommitmentType::Anchors);
        let received = duo.second_stages(state, HtlcDirection::Received).into_iter();
        let stages = received.filter(|_| reached && random.chance(50)).collect::<Vec<_>>();
        let stages = stages.into_iter().map(|stage| (block + 1 + random.below(3) as u32, stage)).collect();
        let backed_up = if random.chance(40) { block + 1 + random.below(MOST_LATE) as u32 } else { block - 1 };
        cheats.push(Cheat { at, state, block, stages, backed_up });
    }
    let mut reorganisations = 0;
    for _ in 0..140 {
        let tip = world.chain.tip.0;
        if random.chance(10) {
            world.estimates = FeeEstimates::flat(FeeratePerKw(253 + random.below(2_000) as u32));
        }
        for at in 0..2 {
            let last = world.clients[at].duo.states.len() as u64 - 1;
            let cheat = cheats.iter().find(|cheat| cheat.at == at);
            let due = cheat.is_some_and(|cheat| cheat.backed_up <= tip);
            // Of what it is cheated of, a client has backed up nothing before it is due, and everything then.
            let until = match cheat {
                Some(cheat) if !due => cheat.state,
                Some(_) | None => last,
            };
            let next = world.clients[at].next();
            if (due || random.chance(30)) && next < until {
                world.back_up(at, if due { until } else { next + 1 });
            }
        }
        for cheat in cheats.iter().filter(|cheat| cheat.block <= tip) {
            let breach = world.clients[cheat.at].duo.breach(cheat.state);
            if !world.chain.has(breach.compute_txid()) {
                world.publish(&breach);
            }
        }
        for (_, stage) in cheats.iter().flat_map(|cheat| &cheat.stages).filter(|(from, _)| *from <= tip) {
            let parent = stage.input[0].previous_output;
            let is_late =
                world.chain.mempool.iter().any(|tx| tx.input.iter().any(|input| input.previous_output == parent));
            if world.chain.is_unspent(&parent) && (!is_late || random.chance(20)) {
                world.publish(&stage.clone());
            }
        }
        if random.chance(5) {
            world.unreadable.insert(tip + 1);
        }
        world.mine(1);
        if random.chance(40) {
            world.unreadable.clear();
            world.sync();
        }
        if random.chance(4) && reorganisations < 3 && world.unreadable.is_empty() && tip > START + 4 {
            reorganisations += 1;
            let to = Height(tip.saturating_sub(random.below(12) as u32).max(START + 2));
            world.disconnect(to);
        }
        world.be_idle();
    }
    world.unreadable.clear();
    world.sync();
    for cheat in &cheats {
        let lost = world.lost(cheat.at, cheat.state);
        let client = &world.clients[cheat.at];
        let left = world.chain.unspent().filter(|(_, output)| output.script_pubkey != client.home);
        let left = left.filter(|(_, output)| output.script_pubkey.is_p2wsh()).collect::<Vec<_>>();
        assert_eq!(
            lost,
            Amount::ZERO,
            "client {} ({:?}, {:?}) of state {}: {left:#?}, {} crashes",
            cheat.at,
            client.mode,
            client.duo.kind,
            cheat.state,
            world.crashes
        );
    }
    assert_eq!(world.chain.balance(&cheaters_purse()), Amount::ZERO);
    // What was acknowledged is there as long as its channel is open.
    let cheated = |at: usize| cheats.iter().any(|cheat| cheat.at == at);
    for (at, client) in world.clients.iter().enumerate().filter(|(at, _)| !cheated(*at)) {
        let held = client.receipt;
        assert_eq!(world.tower.held(&client.id, &client.name), held, "client {at}");
        for number in held.map(|held| held.first.0..=held.up_to.0).into_iter().flatten() {
            let number = leyden_channels::types::CommitmentNumber(number);
            assert!(world.store.holds(client.id, client.name, number), "client {at} state {number:?}");
        }
    }
    world.mine(100);
    world.be_idle();
    let punished = world.notices.iter().filter(|notice| matches!(notice, Notice::Punished { .. })).count();
    let told_before_a_crash = world.crashes > 0;
    assert!(punished >= cheats.len() || told_before_a_crash, "{punished} of {}", cheats.len());
    for cheat in &cheats {
        let client = &world.clients[cheat.at];
        assert_eq!(world.tower.held(&client.id, &client.name), None, "the room is not given back");
    }
    let late = cheats.iter().filter(|cheat| cheat.is_late()).count();
    Seen { crashes: world.crashes, cheats: cheats.len(), late }
}

#[test]
fn no_breach_is_missed_and_no_acknowledged_state_lost_wherever_the_tower_is_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("LEYDEN_TOWER_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = number("LEYDEN_TOWER_FROM").unwrap_or(0);
            (first..first + number("LEYDEN_TOWER_RUNS").unwrap_or(20)).collect()
        }
    };
    let (count, first) = (seeds.len(), seeds[0]);
    let mut all = Seen::default();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        let Ok(seen) = result else { panic!("seed {seed} fails: LEYDEN_TOWER_SEED={seed}") };
        all.crashes += seen.crashes;
        all.cheats += seen.cheats;
        all.late += seen.late;
    }
    let Seen { crashes, cheats, late } = all;
    println!(
        "{count} runs from seed {first}: killed {crashes} times; {cheats} breaches, {late} of them mined before their backup came"
    );
    assert!(count == 1 || late > 0, "no backup came late");
}
