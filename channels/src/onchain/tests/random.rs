//! Random closes: either side or a cheater, HTLCs both ways, reorganisations, fee jumps, restarts after every event.
//!
//! `LEYDEN_CLOSES` asks for more of them, `LEYDEN_CLOSE_SEED` for one alone.

use std::collections::BTreeSet;

use super::*;

/// A small generator (SplitMix64): every run is named by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn state(&mut self, first_id: u64) -> State {
        let amount =
            |random: &mut Self| if random.chance(15) { 50 + random.below(250) } else { 6_000 + random.below(30_000) };
        let htlcs = |random: &mut Self, from: u64| -> Vec<(u64, u64)> {
            (0..random.below(4)).map(|index| (from + index, amount(random))).collect()
        };
        let offered = htlcs(self, first_id);
        let received = htlcs(self, first_id + 10);
        State { alice: 250_000 + self.below(300_000), offered, received }
    }
}

/// How a run ended, for the statistics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Ending {
    Ours,
    Theirs,
    Breach,
}

fn run(seed: u64) -> (Ending, usize) {
    let mut random = Random(seed);
    let kind = KINDS[random.below(2) as usize];
    let states: Vec<State> = (0..3).map(|index| random.state(1 + 20 * index)).collect();
    let duo = Duo::new(kind, states);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    // A cheater is a node whose disk was set back.
    let cheats = random.chance(40);
    let bobs_state = if cheats { random.below(2) as usize } else { 2 };
    let mut bob = duo.node(Side::Remote, duo.closing_at(Side::Remote, bobs_state));
    // Reorganisations go twelve deep here: what is failed upstream must be deeper.
    alice.policy.fail_depth = 13;
    bob.policy.fail_depth = 13;
    alice.crash_every = 1 + random.below(8) as usize;
    bob.crash_every = 1 + random.below(8) as usize;
    alice.handle(Event::Restarted, &mut chain);
    bob.handle(Event::Restarted, &mut chain);

    // What Alice will learn she learns now; Bob may come late.
    let latest = duo.states[2].clone();
    let mut known = BTreeSet::new();
    for (id, _) in &latest.received {
        if random.chance(60) {
            known.insert(*id);
            alice.handle(Event::Preimage(preimage(*id)), &mut chain);
        }
    }
    let offered_to_bob: Vec<u64> = duo.states[bobs_state].offered.iter().map(|(id, _)| *id).collect();
    let learns = |id| (random.chance(60), START + random.below(70) as u32, id);
    let mut bob_learns: Vec<(bool, u32, u64)> = offered_to_bob.into_iter().map(learns).collect();
    let (alice_closes, bob_closes) = match (cheats, random.below(3)) {
        (true, _) => (random.chance(20), true),
        (false, 0) => (true, false),
        (false, 1) => (false, true),
        (false, _) => (true, true),
    };

    let mut reorgs = 0;
    let mut spike = 0;
    let mut away = 0;
    let mut missed: Vec<(Height, Vec<bitcoin::Transaction>)> = Vec::new();
    for block in 0..500u32 {
        // Whoever wants to close does so in the first blocks, in either order.
        if alice_closes && block == random.below(3) as u32 {
            alice.handle(Event::ForceClose, &mut chain);
        }
        if bob_closes && block == random.below(3) as u32 {
            bob.handle(Event::ForceClose, &mut chain);
        }
        if block == 3 && bob_closes {
            bob.handle(Event::ForceClose, &mut chain);
        }
        if block == 3 && alice_closes {
            alice.handle(Event::ForceClose, &mut chain);
        }
        bob_learns.retain(|(ever, at, id)| {
            let due = *ever && *at <= chain.tip.0;
            if due {
                bob.handle(Event::Preimage(preimage(*id)), &mut chain);
            }
            !due
        });
        // Fees jump for some blocks, and the estimates follow a block later.
        if spike == 0 && random.chance(3) {
            spike = 1 + random.below(5);
        }
        let rate = if spike > 0 { 4_000 } else { 253 };
        spike = spike.saturating_sub(1);
        chain.minimum = rate;
        if random.chance(30) {
            for tx in chain.mempool.clone() {
                alice.handle(Event::Spent { tx, height: None }, &mut chain);
            }
        }
        let txs = chain.mine();
        // Alice may be away for a while, a cheater's hour.
        if away == 0 && random.chance(if cheats { 5 } else { 1 }) {
            away = 1 + random.below(12);
        }
        away = away.saturating_sub(1);
        let estimates = FeeEstimates::new(vec![(1, FeeratePerKw(rate.max(1_000))), (144, FeeratePerKw(253))]);
        for node in [&mut alice, &mut bob] {
            node.estimates = estimates.clone();
        }
        // Either may be faster.
        let bob_first = random.chance(50);
        if bob_first {
            bob.block(&txs, &mut chain);
        }
        missed.push((chain.tip, txs.clone()));
        if away == 0 {
            for (height, txs) in missed.drain(..) {
                alice.behind = Some(height);
                alice.block(&txs, &mut chain);
            }
            alice.behind = None;
        }
        if !bob_first {
            bob.block(&txs, &mut chain);
        }
        if away == 0 && random.chance(if cheats { 5 } else { 1 }) {
            away = 1 + random.below(12);
        }
        missed.push((chain.tip, txs.clone()));
        away = away.saturating_sub(1);
        if away == 0 {
            for (height, txs) in missed.drain(..) {
                alice.behind = Some(height);
                alice.block(&txs, &mut chain);
            }
            alice.behind = None;
        }
        // Either may be faster.
        let mut order = [&mut alice, &mut bob];
        if random.chance(50) {
            order.reverse();
        }
        for node in order {
            let relaxed = FeeratePerKw(253);
            node.estimates = FeeEstimates::new(vec![(1, FeeratePerKw(rate.max(1_000))), (144, relaxed)]);
            if node.resolution.channel().destination == destination(Side::Remote) {
                node.block(&txs, &mut chain);
            }
        }
        if away == 0 && random.chance(4) && chain.tip.0 > START + 2 && reorgs < 4 {
            reorgs += 1;
            let depth = (1 + random.below(12)).min(u64::from(chain.tip.0 - START)) as u32;
            let fork = Height(chain.tip.0 - depth);
            let gone = chain.disconnect(fork);
            for node in [&mut alice, &mut bob] {
                node.handle(Event::Reorganized { to: fork }, &mut chain);
            }
            // Most of it comes back, as it does in mempools.
            for tx in gone {
                if random.chance(80) {
                    let _ = chain.submit(&tx);
                }
            }
            for _ in 0..=depth {
                let txs = chain.mine();
                alice.block(&txs, &mut chain);
                bob.block(&txs, &mut chain);
            }
        }
        // A cheater gets the time to reap what was left to it.
        if alice.is_resolved() && bob.is_resolved() || alice.is_resolved() && block > 350 {
            break;
        }
    }
    check(&duo, &chain, &alice, &bob, &latest, &known)
}

fn check(duo: &Duo, chain: &Chain, alice: &Node, bob: &Node, latest: &State, known: &BTreeSet<u64>) -> (Ending, usize) {
    let report = || format!("{:#?}", alice.resolution.report(chain.tip, &alice.policy));
    let closer = alice.resolution.closer().expect("the channel was closed");
    assert!(alice.is_resolved(), "not resolved: {}", report());
    for (id, _) in &latest.offered {
        let (fulfilled, failed) = (alice.fulfilled(*id), alice.failed(*id));
        assert!(fulfilled || failed, "nobody was told of HTLC {id}");
    }
    let confirmed = || chain.blocks.values().flatten();
    let commitment = confirmed().find(|tx| tx.input.iter().any(|input| input.previous_output == duo.funding.outpoint));
    let commitment = commitment.unwrap();
    let ending = match closer {
        Closer::Revoked { .. } => {
            assert!(bob.gained(chain) <= 0, "the cheater keeps {}: {}", bob.gained(chain), report());
            return (Ending::Breach, alice.broadcasts);
        }
        Closer::Local(_) => Ending::Ours,
        Closer::Remote { .. } => Ending::Theirs,
        other => panic!("{other:?}"),
    };
    let exists =
        |id: u64| alice.resolution.outputs().any(|output| output.role.htlc().is_some_and(|(_, htlc)| htlc.id.0 == id));
    let mut entitled = latest.alice as i64;
    for (id, amount) in &latest.offered {
        if exists(*id) && !alice.fulfilled(*id) {
            entitled += *amount as i64;
        }
    }
    for (id, amount) in &latest.received {
        if exists(*id) && known.contains(id) {
            entitled += *amount as i64;
        }
    }
    // Alice opened the channel: the commitment's fee and both anchors are hers. What she pays for her own claims is in
    // the transactions that pay to her, and in the second stages of her own commitment.
    let ours = |tx: &&bitcoin::Transaction| {
        let pays_us = tx.output.iter().any(|output| output.script_pubkey == destination(Side::Local));
        let second_stage = alice.resolution.outputs().any(|output| {
            matches!(output.role, Role::LocalSecondStage(_)) && output.outpoint.txid == tx.compute_txid()
        });
        pays_us || second_stage
    };
    let fees: Amount = confirmed().filter(ours).map(|tx| chain.fee(tx)).sum::<Amount>() + chain.fee(commitment);
    let got = alice.gained(chain) + fees.to_sat() as i64 + 660 + 10;
    assert!(got >= entitled, "{got} of {entitled}: {}", report());
    (ending, alice.broadcasts)
}

#[test]
fn the_honest_side_never_ends_below_what_is_its_own() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("LEYDEN_CLOSE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("LEYDEN_CLOSES").unwrap_or(100)).collect(),
    };
    let mut endings = std::collections::BTreeMap::new();
    let mut broadcasts = 0;
    let count = seeds.len();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        let Ok((ending, sent)) = result else { panic!("seed {seed} fails: LEYDEN_CLOSE_SEED={seed}") };
        *endings.entry(ending).or_insert(0) += 1;
        broadcasts += sent;
    }
    println!("{count} random closes: {endings:?}, {broadcasts} broadcasts");
}
