//! What a fee estimate is worth: a market of bidders, blocks that take the best of them, and probes that pay what the
//! estimate says.
//!
//! ```text
//!   each block: newcomers at random feerates ─▶ pool ─▶ the best megabyte is mined
//!               a probe for each target pays its estimate; another pays half of it
//! ```
//!
//! `LEYDEN_SEED` repeats a run; the seed is printed first.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction, Txid, transaction::Version};
use leyden_consensus::Params;
use leyden_node::mempool::pool::NewEntry;
use leyden_node::mempool::rate::fee_at;
use leyden_node::mempool::{FeeEstimator, Mempool, MempoolPolicy};
use leyden_node::template::{TemplateContext, build};

const TARGETS: [u32; 5] = [1, 2, 3, 6, 12];
/// Everybody's size; two hundred fill a block. (A smaller probe would find room at the end of a block, whatever it pays.)
const BIDDER_BYTES: u64 = 5_000;
/// What Bitcoin Core's estimator asks of its feerates, and what is asked of ours.
const CLAIMED: f64 = 0.85;

struct Random(u64);

impl Random {
    fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About so many, as they come independently of each other.
    fn poisson(&mut self, mean: f64) -> u32 {
        let (mut count, mut left) = (0, mean);
        while left > 0.0 {
            left += self.part().max(1e-12).ln();
            count += 1;
        }
        count - 1
    }

    /// Around 1, a factor of some three to either side.
    fn spread(&mut self) -> f64 {
        ((self.part() + self.part() + self.part() + self.part() - 2.0) * 2.0).exp()
    }
}

struct Market {
    random: Random,
    pool: Mempool,
    estimator: FeeEstimator,
    policy: MempoolPolicy,
    height: u32,
    number: u32,
    /// Satoshi for a virtual byte that bidders offer in the middle.
    level: f64,
}

impl Market {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            pool: Mempool::default(),
            estimator: FeeEstimator::default(),
            policy: MempoolPolicy::default(),
            height: 1_000,
            number: 0,
            level: 20.0,
        }
    }

    fn add(&mut self, virtual_bytes: u64, fee: Amount) -> Txid {
        self.number += 1;
        let transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(self.number),
            input: Vec::new(),
            output: Vec::new(),
        };
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        let transaction = Arc::new(transaction);
        let weight = virtual_bytes * 4;
        self.pool.insert(NewEntry { transaction, txid, wtxid, fee, weight, virtual_bytes, sigop_cost: 0, time: 0 });
        txid
    }

    /// Newcomers for so many blocks.
    fn arrive(&mut self, load: f64) {
        let room = 1_000_000.0 / BIDDER_BYTES as f64;
        for _ in 0..self.random.poisson(room * load) {
            let rate = (self.level * self.random.spread()).max(1.0);
            self.add(BIDDER_BYTES, Amount::from_sat((rate * BIDDER_BYTES as f64) as u64));
        }
    }

    fn mine(&mut self) -> Vec<Txid> {
        self.height += 1;
        let params = Params::regtest();
        let context = TemplateContext {
            parent: params.genesis_hash,
            height: self.height,
            time: 0,
            bits: params.genesis.header.bits,
            subsidy: Amount::ZERO,
            segwit: true,
        };
        let block = build(&self.pool, &context, ScriptBuf::new(), 0).block;
        let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        let weight = txids.iter().filter_map(|txid| self.pool.get(txid)).map(|entry| entry.weight).sum();
        let confirmed = self.pool.confirm(&block, &txids);
        self.estimator.note_block(weight, &confirmed.mined);
        txids
    }

    fn estimate(&self, blocks: u32) -> FeeRate {
        self.estimator.estimate(blocks, &self.pool, &self.policy, 0)
    }
}

/// By target and share of the estimate that is paid: how many probes there were, and how many came in time.
type Outcome = BTreeMap<(u32, u32), (u32, u32)>;

/// Probes in a market that takes so many blocks' newcomers a block, on average.
fn probe(market: &mut Market, blocks: u32, load: impl Fn(&mut Market, u32) -> f64) -> Outcome {
    let mut outcome = Outcome::new();
    let mut waiting: Vec<(Txid, u32, (u32, u32))> = Vec::new();
    for number in 0..blocks {
        for target in TARGETS {
            let rate = market.estimate(target);
            for percent in [100, 50] {
                let fee = fee_at(rate, BIDDER_BYTES) * u64::from(percent) / 100;
                let txid = market.add(BIDDER_BYTES, fee);
                waiting.push((txid, market.height + target, (target, percent)));
            }
        }
        // The estimate is made before those come who outbid it.
        let load = load(market, number);
        market.arrive(load);
        let mined = market.mine();
        waiting.retain(|(txid, deadline, kind)| {
            let (in_time, late) = (mined.contains(txid), *deadline <= market.height);
            if in_time || late {
                let (all, good) = outcome.entry(*kind).or_default();
                *all += 1;
                *good += u32::from(in_time);
            }
            !(in_time || late)
        });
    }
    outcome
}

fn share(outcome: &Outcome, target: u32, percent: u32) -> f64 {
    let (all, good) = outcome[&(target, percent)];
    f64::from(good) / f64::from(all)
}

fn seed() -> u64 {
    let seed = std::env::var("LEYDEN_SEED").ok().map_or_else(rand::random, |text| text.parse().unwrap());
    println!("LEYDEN_SEED={seed}");
    seed
}

#[test]
fn who_pays_the_estimate_is_mined_in_time_and_who_pays_half_is_not() {
    let mut market = Market::new(seed());
    // More come than blocks take: what pays least is never mined, and the pool is deeper than a block.
    const LOAD: f64 = 1.15;
    for _ in 0..20 {
        market.arrive(LOAD);
        market.mine();
    }
    let outcome = probe(&mut market, 150, |_, _| LOAD);
    assert!(market.pool.totals().virtual_bytes > 3_000_000, "a pool that is deeper than a block");
    for target in TARGETS {
        let (full, half) = (share(&outcome, target, 100), share(&outcome, target, 50));
        println!(
            "within {target}: {:.0} % of those who pay the estimate, {:.0} % of those who pay half",
            full * 100.0,
            half * 100.0
        );
        assert!(full >= CLAIMED, "within {target} blocks: {full}");
        // In a hurry one pays more than most others: half of that is mined later, and sometimes in time.
        let most = if target <= 2 { full - 0.1 } else { 0.5 };
        assert!(half < most, "half of the estimate for {target} blocks does as well: {half} of {full}");
    }
}

#[test]
fn without_a_history_or_with_room_in_blocks_the_least_is_enough() {
    let mut market = Market::new(seed());
    let least = market.policy.minimum_relay;
    assert!(TARGETS.iter().all(|target| market.estimate(*target) == least), "an empty node knows of nothing");
    for _ in 0..20 {
        market.arrive(0.3);
        market.mine();
    }
    assert!(TARGETS.iter().all(|target| market.estimate(*target) == least));
    (0..20).for_each(|_| drop(market.mine()));
    assert!(TARGETS.iter().all(|target| market.estimate(*target) == least), "empty blocks");
}

#[test]
fn a_jump_is_seen_in_the_queue_at_once_and_forgotten_when_it_is_over() {
    let mut market = Market::new(seed());
    for _ in 0..30 {
        market.arrive(1.05);
        market.mine();
    }
    let before = market.estimate(1);
    market.level *= 10.0;
    market.arrive(1.3);
    let after = market.estimate(1);
    assert!(after.to_sat_per_kwu() > before.to_sat_per_kwu() * 3, "{before} {after}");
    // A restart knows the queue, which is what matters then.
    market.estimator = FeeEstimator::default();
    assert_eq!(market.estimate(1), after);
    // Blocks of a reorganisation are blocks: their transactions are in the pool or mined again.
    market.level /= 10.0;
    for _ in 0..40 {
        market.arrive(0.7);
        market.mine();
    }
    assert!(market.estimate(1) <= before, "{} {before}", market.estimate(1));
}
