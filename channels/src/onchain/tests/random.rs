//! Random closes: either side or a cheater, HTLCs both ways, reorganisations, fee jumps, restarts after every event. In half
//! of them fees jump up to a hundred times, and coins that claims count on are spent by a wallet with the same words.
//!
//! `LEYDEN_CLOSES` asks for more of them, `LEYDEN_CLOSE_FROM` for another first seed, `LEYDEN_CLOSE_SEED` for one alone.

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

/// How deep reorganisations go; what is told to others, or forgotten, must be deeper.
const DEEPEST: u32 = 12;

/// Sets the generator of what is worst apart from the others.
const SKY: u64 = 0x636c_696d_6174_6500;

/// One close from beginning to end.
struct Schedule {
    random: Random,
    chain: Chain,
    alice: Node,
    bob: Node,
    cheats: bool,
    /// Blocks that Alice has not seen yet, and for how many more she is away.
    missed: Vec<Height>,
    away: u64,
    /// For how many more blocks fees are high.
    spike: u64,
    reorgs: u32,
    /// Whether the world is at its worst, drawn from a generator of its own: other runs are what their seeds always were.
    harsh: bool,
    sky: Random,
    /// The rate of the present spike, or of the last one.
    peak: u32,
    /// What of Alice's coins was spent elsewhere.
    elsewhere: Vec<(Txid, Amount)>,
}

impl Schedule {
    fn both(&mut self, event: &Event) {
        for node in [&mut self.alice, &mut self.bob] {
            node.handle(event.clone(), &mut self.chain);
        }
    }

    /// Fees jump for some blocks, and estimates follow when they are seen.
    fn jump_fees(&mut self) {
        if self.spike == 0 && self.random.chance(4) {
            self.spike = 1 + self.random.below(5);
            let times = 2 + self.sky.below(99) as u32;
            self.peak = if self.harsh { 253 * times } else { 4_000 };
        }
        let rate = if self.spike > 0 { self.peak } else { 253 };
        self.spike = self.spike.saturating_sub(1);
        let soon = FeeratePerKw(self.chain.minimum.max(1_000));
        let estimates = FeeEstimates::new(vec![(1, soon), (144, FeeratePerKw(253))]);
        self.alice.estimates = estimates.clone();
        self.bob.estimates = estimates;
        self.chain.minimum = rate;
    }

    /// A wallet with the same words spends a coin that one of Alice's claims has.
    fn lose_a_coin(&mut self) {
        let coins: Vec<_> = self.alice.resolution.coins().flat_map(|(_, coins)| coins).cloned().collect();
        // The other wallet pays a fee of 2,000.
        let unspent = coins
            .into_iter()
            .find(|coin| coin.output.value > Amount::from_sat(3_000) && self.chain.is_unspent(&coin.outpoint));
        if let Some(coin) = unspent.filter(|_| self.harsh && self.sky.chance(5)) {
            let to = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([0xcc; 20]));
            let tx = self.alice.spend_elsewhere(&coin, to, &self.chain);
            self.elsewhere.push((tx.compute_txid(), coin.output.value));
            self.chain.force(tx);
        }
    }

    fn mine(&mut self) {
        self.lose_a_coin();
        if self.away == 0 && self.random.chance(30) {
            for tx in self.chain.mempool.clone() {
                self.alice.handle(Event::Spent { tx, height: None }, &mut self.chain);
            }
        }
        // Alice may be away for a while, a cheater's hour.
        if self.away == 0 && self.random.chance(if self.cheats { 8 } else { 2 }) {
            self.away = 1 + self.random.below(12);
        }
        self.chain.mine();
        self.missed.push(self.chain.tip);
        // Either may be faster.
        let bob_first = self.random.chance(50);
        if bob_first {
            self.bob.block(&mut self.chain);
        }
        if self.away == 0 {
            for height in std::mem::take(&mut self.missed) {
                self.alice.behind = Some(height);
                self.alice.block(&mut self.chain);
            }
            self.alice.behind = None;
        }
        if !bob_first {
            self.bob.block(&mut self.chain);
        }
        self.away = self.away.saturating_sub(1);
    }

    fn reorganise(&mut self) {
        self.reorgs += 1;
        let depth = (1 + self.random.below(u64::from(DEEPEST)) as u32).min(self.chain.tip.0 - START);
        let fork = Height(self.chain.tip.0 - depth);
        let gone = self.chain.disconnect(fork);
        self.both(&Event::Reorganized { to: fork });
        // Most of it comes back, as it does in mempools.
        for tx in gone {
            if self.random.chance(80) {
                let _ = self.chain.submit(&tx);
            }
        }
        for _ in 0..=depth {
            self.chain.mine();
            self.alice.block(&mut self.chain);
            self.bob.block(&mut self.chain);
        }
    }
}

fn run(seed: u64) -> (Ending, usize) {
    let mut random = Random(seed);
    let kind = KINDS[random.below(2) as usize];
    let states: Vec<State> = (0..3).map(|index| random.state(1 + 20 * index)).collect();
    let duo = Duo::new(kind, states);
    // A cheater is a node whose disk was set back.
    let cheats = random.chance(40);
    let bobs_state = if cheats { random.below(2) as usize } else { 2 };
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    let mut bob = duo.node(Side::Remote, duo.closing_at(Side::Remote, bobs_state));
    for node in [&mut alice, &mut bob] {
        node.policy.fail_depth = DEEPEST + 1;
        node.policy.finality = DEEPEST + 8;
        node.crash_every = 1 + random.below(12) as usize;
        node.lost_every = 2 + random.below(3) as usize;
    }
    let chain = duo.chain();
    let mut sky = Random(seed ^ SKY);
    let harsh = sky.chance(50);
    let mut day = Schedule {
        random,
        chain,
        alice,
        bob,
        cheats,
        missed: vec![],
        away: 0,
        spike: 0,
        reorgs: 0,
        harsh,
        sky,
        peak: 0,
        elsewhere: vec![],
    };
    day.both(&Event::Restarted);

    // What Alice will learn she learns now; Bob may come late.
    let latest = duo.states[2].clone();
    let mut known = BTreeSet::new();
    for (id, _) in &latest.received {
        if day.random.chance(60) {
            known.insert(*id);
            day.alice.handle(Event::Preimage(preimage(*id)), &mut day.chain);
        }
    }
    let offered_to_bob = duo.states[bobs_state].offered.iter().map(|(id, _)| *id);
    let mut bob_learns: Vec<(u32, u64)> = Vec::new();
    for id in offered_to_bob {
        if day.random.chance(60) {
            bob_learns.push((START + day.random.below(70) as u32, id));
        }
    }
    let (alice_closes, bob_closes) = match (cheats, day.random.below(3)) {
        (true, _) => (day.random.chance(20), true),
        (false, 0) => (true, false),
        (false, 1) => (false, true),
        (false, _) => (true, true),
    };
    let closes_at = [day.random.below(4), day.random.below(4)].map(|block| START + block as u32);

    for block in 0..400u32 {
        if alice_closes && day.chain.tip.0 >= closes_at[0] && !day.alice.resolution.is_forced() {
            day.alice.handle(Event::ForceClose, &mut day.chain);
        }
        if bob_closes && day.chain.tip.0 >= closes_at[1] && !day.bob.resolution.is_forced() {
            day.bob.handle(Event::ForceClose, &mut day.chain);
        }
        let tip = day.chain.tip.0;
        for (_, id) in bob_learns.extract_if(.., |(at, _)| *at <= tip) {
            day.bob.handle(Event::Preimage(preimage(id)), &mut day.chain);
        }
        day.jump_fees();
        day.mine();
        let settled = day.alice.is_resolved();
        let up_to_date = day.away == 0 && day.missed.is_empty();
        if up_to_date && !settled && day.random.chance(4) && day.chain.tip.0 > START + 2 && day.reorgs < 4 {
            day.reorganise();
        }
        // A cheater gets the time to reap what was left to it.
        if day.alice.is_resolved() && (day.bob.is_resolved() || block > 350) {
            break;
        }
    }
    check(&duo, &day, &latest, &known)
}

fn check(duo: &Duo, day: &Schedule, latest: &State, known: &BTreeSet<u64>) -> (Ending, usize) {
    let Schedule { chain, alice, bob, elsewhere, .. } = day;
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
    let elsewhere: Amount = elsewhere.iter().filter(|(txid, _)| chain.has(*txid)).map(|(_, value)| *value).sum();
    let got = alice.gained(chain) + elsewhere.to_sat() as i64 + fees.to_sat() as i64 + 660 + 10;
    assert!(got >= entitled, "{got} of {entitled}: {}", report());
    (ending, alice.broadcasts)
}

#[test]
fn the_honest_side_never_ends_below_what_is_its_own() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("LEYDEN_CLOSE_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = number("LEYDEN_CLOSE_FROM").unwrap_or(0);
            (first..first + number("LEYDEN_CLOSES").unwrap_or(1_000)).collect()
        }
    };
    let mut endings = std::collections::BTreeMap::new();
    let mut broadcasts = 0;
    let (count, first) = (seeds.len(), seeds[0]);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        let Ok((ending, sent)) = result else { panic!("seed {seed} fails: LEYDEN_CLOSE_SEED={seed}") };
        *endings.entry(ending).or_insert(0) += 1;
        broadcasts += sent;
    }
    println!("{count} random closes from seed {first}: {endings:?}, {broadcasts} broadcasts");
}
