//! What the rules for the target make of a hash rate that jumps: the moving average of `leyden` beside Bitcoin's rule.
//!
//! Printed are means over many chains with miners of luck, each seeded: how long a block is expected to take, so many blocks
//! after the jump.

use bitcoin::block::Header;
use bitcoin::{CompactTarget, Target};
use leyden_consensus::params::Retarget;
use leyden_consensus::{HeaderChain, Params, next_bits};

const SPACING: f64 = 600.0;
const RUNS: u64 = 12;
/// Blocks after the jump at which the table looks.
const LOOKS: [usize; 9] = [1, 36, 72, 144, 288, 576, 1_008, 2_016, 6_048];
/// A rule has settled once blocks are expected this near to the spacing.
const SETTLED: f64 = 0.2;

struct Chain {
    params: Params,
    headers: Vec<Header>,
    clock: f64,
    random: u64,
}

impl HeaderChain for Chain {
    fn tip_height(&self) -> u32 {
        u32::try_from(self.headers.len()).unwrap() - 1
    }

    fn header_at(&self, height: u32) -> Option<Header> {
        self.headers.get(height as usize).copied()
    }
}

impl Chain {
    fn new(params: Params, seed: u64) -> Self {
        let genesis = params.genesis.header;
        Self { clock: f64::from(genesis.time), headers: vec![genesis], params, random: seed }
    }

    /// Seconds that a block is expected to take.
    fn expected(&self, rate: f64) -> f64 {
        hashes(next_bits(self, 0, &self.params).unwrap()) / rate
    }

    fn mine(&mut self, rate: f64) {
        let bits = next_bits(self, 0, &self.params).unwrap();
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((self.random >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        self.clock += -uniform.ln() * hashes(bits) / rate;
        let tip = self.headers.last().unwrap();
        self.headers.push(Header { bits, time: (self.clock as u32).max(tip.time), ..*tip });
    }
}

fn hashes(bits: CompactTarget) -> f64 {
    let bytes = Target::from_compact(bits).to_be_bytes();
    2f64.powi(256) / bytes.iter().fold(0.0, |value, byte| value * 256.0 + f64::from(*byte))
}

/// What happened to the expected time of a block after a jump.
struct Response {
    /// Seconds, at each of [`LOOKS`].
    at: Vec<f64>,
    /// Blocks and days until it was within [`SETTLED`] of the spacing.
    settled_blocks: f64,
    settled_days: f64,
    /// How far it went beyond the spacing on the other side, as a factor.
    overshoot: f64,
}

fn after_jump(params: &Params, factor: f64) -> Response {
    let base = hashes(params.genesis.header.bits) / SPACING * 64.0;
    let mut mean = Response { at: vec![0.0; LOOKS.len()], settled_blocks: 0.0, settled_days: 0.0, overshoot: 0.0 };
    let share = 1.0 / RUNS as f64;
    for seed in 1..=RUNS {
        let mut chain = Chain::new(params.clone(), seed);
        // Long enough for either rule to find the hash rate; then a while on, so that the jump comes at no boundary.
        for _ in 0..5 * 2_016 + 1_000 {
            chain.mine(base);
        }
        let (rate, start) = (base * factor, chain.clock);
        let (mut settled, mut beyond) = (None, 1f64);
        for block in 1..=*LOOKS.last().unwrap() {
            let expected = chain.expected(rate) / SPACING;
            if let Some(look) = LOOKS.iter().position(|look| *look == block) {
                mean.at[look] += expected * SPACING * share;
            }
            if settled.is_none() && (expected - 1.0).abs() < SETTLED {
                settled = Some((block as f64, (chain.clock - start) / 86_400.0));
            }
            // After a rise blocks come too fast at first, so too slow is the other side.
            if settled.is_some() {
                beyond = beyond.max(if factor > 1.0 { expected } else { 1.0 / expected });
            }
            chain.mine(rate);
        }
        let (blocks, days) = settled.unwrap_or((f64::INFINITY, f64::INFINITY));
        mean.settled_blocks += blocks * share;
        mean.settled_days += days * share;
        mean.overshoot += beyond * share;
    }
    mean
}

#[test]
fn the_moving_average_follows_jumps_of_ten_times_in_days_where_bitcoins_rule_takes_weeks() {
    let leyden = Params::leyden();
    let interval = std::num::NonZeroU32::new(2_016).unwrap();
    let periodic = Params { retarget: Retarget::Periodic { interval, easiest_after_gap: false }, ..leyden.clone() };
    for (name, factor, days_here, days_there) in
        [("ten times the hash rate", 10.0, 1.5, 2.0), ("a tenth of it", 0.1, 10.0, 60.0)]
    {
        println!("{name}: seconds that a block is expected to take, so many blocks after the jump");
        print!("  {:>16}", "blocks");
        LOOKS.iter().for_each(|look| print!("{look:>7}"));
        println!("   settled after       overshoot");
        let mut responses = Vec::new();
        for (rule, params) in [("moving average", &leyden), ("2016 blocks", &periodic)] {
            let response = after_jump(params, factor);
            print!("  {rule:>16}");
            response.at.iter().for_each(|seconds| print!("{seconds:>7.0}"));
            let Response { settled_blocks, settled_days, overshoot, .. } = response;
            println!("   {settled_blocks:>5.0} = {settled_days:>5.1} days  {overshoot:>5.2}");
            responses.push(response);
        }
        let [average, windows] = &responses[..] else { unreachable!() };
        assert!(average.settled_days < days_here, "{}", average.settled_days);
        assert!(windows.settled_days > days_there, "{}", windows.settled_days);
        assert!(average.settled_blocks < windows.settled_blocks / 3.0);
        // It comes from one side and stays: what is beyond is luck.
        assert!(average.overshoot < 1.6, "{}", average.overshoot);
    }
}
