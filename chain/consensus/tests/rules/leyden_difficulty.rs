//! The moving average of `leyden` under simulated hash rates and lying clocks.

use bitcoin::block::Header;
use bitcoin::{CompactTarget, Target};
use leyden_consensus::header::earliest_time;
use leyden_consensus::{HeaderChain, Params, next_bits};

const SPACING: f64 = 600.0;
/// Hashes a second that make ten-minute blocks of the first target.
const HONEST_RATE: f64 = 1_073_741_824.0 / SPACING;

/// The end of a chain: all that this rule looks at.
struct Simulation {
    params: Params,
    height: u32,
    parent: Header,
    tip: Header,
    /// The last eleven times.
    times: Vec<u32>,
    clock: f64,
    random: u64,
}

impl HeaderChain for Simulation {
    fn tip_height(&self) -> u32 {
        self.height
    }

    fn header_at(&self, height: u32) -> Option<Header> {
        match self.height - height {
            0 => Some(self.tip),
            1 => Some(self.parent),
            _ => None,
        }
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let params = Params::leyden();
        let tip = params.genesis.header;
        Self { clock: f64::from(tip.time), times: vec![tip.time], parent: tip, tip, params, height: 0, random: seed }
    }

    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Mines a block at this hash rate; `stamp` turns the true time into the one in the header.
    fn mine(&mut self, rate: f64, stamp: impl Fn(f64, &Header) -> u32) {
        let bits = next_bits(self, 0, &self.params).unwrap();
        let expected = hashes(bits) / rate;
        self.clock += -self.uniform().ln() * expected;
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        let earliest = earliest_time(sorted[sorted.len() / 2], self.tip.time, &self.params);
        let latest = self.clock as u32 + self.params.max_ahead;
        let time = stamp(self.clock, &self.tip).clamp(earliest, latest);
        self.times.push(time);
        if self.times.len() > 11 {
            self.times.remove(0);
        }
        self.parent = self.tip;
        self.tip = Header { bits, time, ..self.tip };
        self.height += 1;
    }

    fn honest(&mut self, rate: f64, blocks: u32) -> f64 {
        let start = self.clock;
        for _ in 0..blocks {
            self.mine(rate, |clock, _| clock as u32);
        }
        (self.clock - start) / f64::from(blocks)
    }
}

fn hashes(bits: CompactTarget) -> f64 {
    let bytes = Target::from_compact(bits).to_be_bytes();
    let target = bytes.iter().fold(0.0, |value, byte| value * 256.0 + f64::from(*byte));
    2f64.powi(256) / target
}

#[test]
fn blocks_come_every_ten_minutes_on_average() {
    let mut chain = Simulation::new(1);
    chain.honest(HONEST_RATE * 20.0, 2000);
    let average = chain.honest(HONEST_RATE * 20.0, 40_000);
    println!("steady hash rate: {average:.1} seconds a block");
    assert!((average / SPACING - 1.0).abs() < 0.02, "{average}");
}

#[test]
fn difficulty_follows_a_jump_of_the_hash_rate_in_days_and_not_in_months() {
    let mut chain = Simulation::new(2);
    chain.honest(HONEST_RATE * 10.0, 2000);
    // Nine of ten miners leave.
    let before = chain.clock;
    chain.honest(HONEST_RATE, 400);
    let days = (chain.clock - before) / 86_400.0;
    let average = chain.honest(HONEST_RATE, 2000);
    println!("a tenth of the hash rate: {days:.1} days until settled, then {average:.0} seconds a block");
    assert!(days < 14.0);
    assert!((average / SPACING - 1.0).abs() < 0.1);
    // They come back.
    chain.honest(HONEST_RATE * 10.0, 600);
    let average = chain.honest(HONEST_RATE * 10.0, 2000);
    assert!((average / SPACING - 1.0).abs() < 0.1);
}

#[test]
fn a_year_without_miners_costs_half_of_the_difficulty_and_no_more() {
    let mut chain = Simulation::new(3);
    chain.honest(HONEST_RATE * 50.0, 3000);
    let before = hashes(chain.tip.bits);
    chain.clock += 365.0 * 86_400.0;
    chain.honest(HONEST_RATE * 50.0, 2);
    let after = hashes(chain.tip.bits);
    assert!(after > before * 0.45 && after < before * 0.55, "{}", after / before);
}

#[test]
fn a_late_first_miner_finds_the_first_target() {
    let mut chain = Simulation::new(4);
    chain.clock += 1000.0 * 86_400.0;
    chain.honest(HONEST_RATE, 2);
    assert_eq!(chain.tip.bits, chain.params.genesis.header.bits);
}

#[test]
fn lying_about_times_does_not_make_blocks_cheaper() {
    // Miners with all of the hash rate, each with another lie. Blocks an hour must not rise above the honest rate by
    // more than the two hours that a clock may be ahead, once.
    type Lie = fn(f64, &Header) -> u32;
    let lies: [(&str, Lie); 5] = [
        ("always as late as allowed", |clock, _| clock as u32 + 7200),
        ("always as early as allowed", |_, _| 0),
        ("late and early in turn", |clock, tip| if tip.time % 2 == 0 { clock as u32 + 7201 } else { tip.time - 600 }),
        ("held back, then a jump", |clock, tip| {
            if clock as u32 - tip.time.min(clock as u32) > 86_400 { clock as u32 + 7200 } else { tip.time + 1 }
        }),
        ("one step forward in ten", |clock, tip| {
            if tip.nonce.wrapping_add(tip.time) % 10 == 0 { clock as u32 + 7200 } else { tip.time - 599 }
        }),
    ];
    for (name, lie) in lies {
        let mut chain = Simulation::new(5);
        chain.honest(HONEST_RATE * 10.0, 2000);
        let start = chain.clock;
        let mut blocks = 0.0;
        // Some lies only make the liar's own blocks dear, without end.
        while blocks < 4000.0 && chain.clock < start + 10.0 * 4000.0 * SPACING {
            chain.mine(HONEST_RATE * 10.0, lie);
            blocks += 1.0;
        }
        let average = (chain.clock - start) / blocks;
        println!("{name}: {average:.0} seconds a block");
        assert!(average > SPACING * 0.97, "{name}: {average}");
    }
}

#[test]
fn no_input_makes_the_rule_panic_or_leave_its_bounds() {
    let mut chain = Simulation::new(6);
    for bits in [0u32, 1, 0x1d00_ffff, 0x1e03_ffff, 0x2100_ffff, 0xff7f_ffff, 0x0180_0000, u32::MAX, 0x0300_0001] {
        for (parent, tip) in [(0, u32::MAX), (u32::MAX, 0), (5, 5)] {
            chain.height = 77;
            chain.parent.time = parent;
            chain.tip = Header { time: tip, bits: CompactTarget::from_consensus(bits), ..chain.tip };
            let next = next_bits(&chain, u32::MAX, &chain.params).unwrap();
            let target = leyden_consensus::difficulty::target_from_bits(next).unwrap();
            assert!(target <= chain.params.pow_limit);
        }
    }
}
