//! What the mempool takes, replaces, drops and gets back.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use bitcoin::absolute::LockTime;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::opcodes::all::{OP_NOP5, OP_RETURN};
use bitcoin::script::Builder;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Txid, transaction};
use common::*;
use leyden_consensus::Params;
use leyden_net::{ChainView, MempoolView, TxName};
use leyden_node::backend::{Backend, ChainEvent};
use leyden_node::core::Core;
use leyden_node::error::{NonStandard, PackageError, TrucViolation};
use leyden_node::{MempoolError, MempoolPolicy, RemovalReason};

const COIN: u64 = 50_0000_0000;

/// A node whose first coinbases are mature.
struct Bench {
    core: Core,
    params: Params,
    coins: Vec<OutPoint>,
    place: Place,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(MempoolPolicy::default())
    }

    fn with(policy: MempoolPolicy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let core = open_core_with(folder.path(), policy, None);
        let params = Params::regtest();
        let mut bench = Self { core, place: Place::genesis(&params), params, coins: Vec::new(), _folder: folder };
        for _ in 0..120 {
            let block = bench.mine(Vec::new());
            bench.coins.push(coinbase_of(&block));
        }
        bench
    }

    fn mine(&mut self, transactions: Vec<Transaction>) -> bitcoin::Block {
        let block = forge(&self.params, self.place, transactions);
        self.core.submit_block(block.clone()).unwrap_or_else(|error| panic!("{error}"));
        self.place = Place::of(&block, self.place.height + 1);
        block
    }

    fn submit(&self, transaction: &Transaction) -> Result<(), MempoolError> {
        let result = self.core.submit_transaction(transaction.clone()).map(drop);
        self.check();
        result
    }

    fn package(&self, transactions: &[&Transaction]) -> Result<(), MempoolError> {
        self.replaced_by(transactions).map(drop)
    }

    /// What had to go for a package.
    fn replaced_by(&self, transactions: &[&Transaction]) -> Result<Vec<Txid>, MempoolError> {
        let result = self.core.submit_package(transactions.iter().map(|tx| (*tx).clone()).collect());
        self.check();
        result
    }

    fn check(&self) {
        self.core.mempool.read().unwrap().check().unwrap_or_else(|error| panic!("{error}"));
    }

    fn holds(&self, transaction: &Transaction) -> bool {
        self.core.mempool.read().unwrap().contains(&transaction.compute_txid())
    }

    fn len(&self) -> usize {
        self.core.mempool.read().unwrap().len()
    }
}

fn reason(result: Result<(), MempoolError>) -> String {
    result.expect_err("it is refused").reason()
}

/// Spends a whole coinbase with this fee.
fn pay(coin: OutPoint, fee: u64) -> Transaction {
    spend(&[coin], vec![open_output(COIN - fee)])
}

fn version(mut transaction: Transaction, version: i32) -> Transaction {
    transaction.version = transaction::Version(version);
    transaction
}

fn anchor() -> TxOut {
    TxOut { value: bitcoin::Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]) }
}

#[test]
fn refusals_carry_the_known_reasons() {
    let bench = Bench::new();
    let good = pay(bench.coins[0], 1_000);
    assert_eq!(bench.submit(&good), Ok(()));
    assert_eq!(reason(bench.submit(&good)), "txn-already-in-mempool");
    let mut other_witness = good.clone();
    other_witness.input[0].witness.push([1]);
    assert_eq!(reason(bench.submit(&other_witness)), "txn-same-nonwitness-data-in-mempool");
    assert_eq!(reason(bench.submit(&pay(OutPoint { vout: 7, ..bench.coins[1] }, 1))), "bad-txns-inputs-missingorspent");
    assert_eq!(reason(bench.submit(&pay(bench.coins[119], 1_000))), "bad-txns-premature-spend-of-coinbase");
    assert_eq!(reason(bench.submit(&pay(bench.coins[1], 5))), "min relay fee not met");
    assert_eq!(reason(bench.submit(&spend(&[bench.coins[1]], vec![open_output(COIN + 1)]))), "bad-txns-in-belowout");
    assert_eq!(reason(bench.submit(&version(pay(bench.coins[1], 1_000), 4))), "version");
    let mut locked = pay(bench.coins[1], 1_000);
    locked.lock_time = LockTime::from_consensus(bench.place.height + 1);
    assert_eq!(reason(bench.submit(&locked)), "non-final");
    locked.lock_time = LockTime::from_consensus(bench.place.height);
    locked.input[0].sequence = Sequence::from_height(200);
    assert_eq!(reason(bench.submit(&locked)), "non-BIP68-final");
    let mut wrong = pay(bench.coins[1], 1_000);
    wrong.input[0].witness = bitcoin::Witness::from_slice(&[[0x52]]);
    assert!(reason(bench.submit(&wrong)).starts_with("mempool-script-verify-flag-failed"));
    assert!(bench.core.knows(&TxName::Wtxid(wrong.compute_wtxid())), "it need not be asked for again");
    let dust = spend(&[bench.coins[1]], vec![open_output(COIN - 1_000), open_output(100)]);
    assert_eq!(reason(bench.submit(&dust)), "dust");
    let coinbase = bench.core.block(&bench.place.hash).unwrap().unwrap().txdata[0].clone();
    assert_eq!(reason(bench.submit(&coinbase)), "coinbase");
    assert_eq!(bench.len(), 1);
}

#[test]
fn a_script_that_only_the_mempool_refuses_is_told_from_an_invalid_one() {
    let bench = Bench::new();
    // An unused NOP is valid in a block, and refused in the mempool because it may come to mean something.
    let script = Builder::new().push_opcode(OP_NOP5).push_opcode(OP_TRUE).into_script();
    let output = |script: &ScriptBuf| TxOut {
        value: bitcoin::Amount::from_sat(COIN / 2 - 1_000),
        script_pubkey: ScriptBuf::new_p2wsh(&script.wscript_hash()),
    };
    let failing = Builder::new().push_opcode(OP_RETURN).into_script();
    let parent = spend(&[bench.coins[0]], vec![output(&script), output(&failing)]);
    assert_eq!(bench.submit(&parent), Ok(()));
    let with_script = |vout, script: &ScriptBuf| {
        let mut child = spend(&[output_of(&parent, vout)], vec![open_output(COIN / 2 - 3_000)]);
        child.input[0].witness = bitcoin::Witness::from_slice(&[script.as_bytes()]);
        bench.submit(&child).unwrap_err()
    };
    let (policy, consensus) = (with_script(0, &script), with_script(1, &failing));
    assert!(matches!(policy, MempoolError::ScriptPolicy(_)) && !policy.breaks_consensus(), "{policy:?}");
    assert!(matches!(consensus, MempoolError::Script(_)) && consensus.breaks_consensus(), "{consensus:?}");
}

#[test]
fn a_confirmed_transaction_is_told_from_one_without_inputs() {
    let mut bench = Bench::new();
    let transaction = pay(bench.coins[0], 1_000);
    bench.mine(vec![transaction.clone()]);
    assert_eq!(bench.submit(&transaction), Err(MempoolError::AlreadyConfirmed(transaction.compute_txid())));
}

#[test]
fn a_replacement_pays_for_what_it_replaces_and_for_itself() {
    let bench = Bench::new();
    let first = pay(bench.coins[0], 1_000);
    let child = spend(&[output_of(&first, 0)], vec![open_output(COIN - 3_000)]);
    bench.submit(&first).unwrap();
    bench.submit(&child).unwrap();
    let size = first.vsize() as u64;
    let relay = size.div_ceil(10);
    assert!(matches!(bench.submit(&pay(bench.coins[0], 1_000)), Err(MempoolError::AlreadyInMempool(_))));
    let too_cheap = bench.submit(&pay(bench.coins[0], 2_999 + relay));
    assert!(matches!(too_cheap, Err(MempoolError::ReplacementFeeTooLow { .. })), "{too_cheap:?}");
    let mut events = bench.core.events();
    let replacement = pay(bench.coins[0], 3_000 + relay);
    assert_eq!(bench.submit(&replacement), Ok(()));
    assert!(bench.holds(&replacement) && !bench.holds(&first) && !bench.holds(&child));
    let mut replaced = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ChainEvent::TransactionRemoved { txid, reason, .. } = event {
            assert_eq!(reason, RemovalReason::Replaced);
            replaced.push(txid);
        }
    }
    assert_eq!(replaced, [child.compute_txid(), first.compute_txid()]);
}

#[test]
fn a_replacement_with_a_lower_rate_or_new_unconfirmed_inputs_is_refused() {
    let bench = Bench::new();
    let first = pay(bench.coins[0], 1_000);
    bench.submit(&first).unwrap();
    let wide = spend(&[bench.coins[0], bench.coins[1]], (0..20).map(|_| open_output(COIN / 20)).collect());
    let mut wide_cheap = wide.clone();
    wide_cheap.output.truncate(19);
    wide_cheap.output.push(open_output(COIN / 20 + COIN - 1_200));
    let refused = bench.submit(&wide_cheap);
    assert!(matches!(refused, Err(MempoolError::ReplacementFeeRateTooLow { .. })), "{refused:?}");
    let other = pay(bench.coins[2], 1_000);
    bench.submit(&other).unwrap();
    let adds = spend(&[bench.coins[0], output_of(&other, 0)], vec![open_output(2 * COIN - 100_000)]);
    assert_eq!(reason(bench.submit(&adds)), "replacement-adds-unconfirmed");
    let own = spend(&[bench.coins[0], output_of(&first, 0)], vec![open_output(COIN)]);
    assert_eq!(reason(bench.submit(&own)), "bad-txns-spends-conflicting-tx");
}

#[test]
fn a_chain_of_64_is_taken_and_no_longer_one() {
    let bench = Bench::new();
    let mut last = pay(bench.coins[0], 1_000);
    bench.submit(&last).unwrap();
    for length in 2..=64u64 {
        last = spend(&[output_of(&last, 0)], vec![open_output(COIN - 1_000 * length)]);
        bench.submit(&last).unwrap();
    }
    let refused = bench.submit(&spend(&[output_of(&last, 0)], vec![open_output(COIN - 100_000)]));
    assert!(matches!(refused, Err(MempoolError::ClusterTooLarge { count: 65, .. })), "{refused:?}");
    assert_eq!(reason(refused), "too-large-cluster");
    assert_eq!(bench.len(), 64);
    let block = bench.core.template(open_script(), 1).unwrap().block;
    assert_eq!(block.txdata.len(), 65);
}

#[test]
fn too_many_children_of_one_transaction_are_refused() {
    let bench = Bench::new();
    let parent = spend(&[bench.coins[0]], (0..70).map(|_| open_output(COIN / 70 - 1_000)).collect());
    bench.submit(&parent).unwrap();
    // One more than the limit of 64 may be a small direct child; what is beyond that may not.
    for vout in 0..64 {
        bench.submit(&spend(&[output_of(&parent, vout)], vec![open_output(COIN / 70 - 2_000)])).unwrap();
    }
    let refused = bench.submit(&spend(&[output_of(&parent, 64)], vec![open_output(COIN / 70 - 2_000)]));
    assert!(matches!(refused, Err(MempoolError::ClusterTooLarge { count: 66, .. })), "{refused:?}");
}

#[test]
fn who_joins_two_clusters_is_measured_by_both_and_not_by_what_it_replaces() {
    let bench = Bench::new();
    let chain = |coin: OutPoint, length: u64| {
        let mut all = vec![pay(coin, 1_000)];
        for number in 2..=length {
            all.push(spend(&[output_of(all.last().unwrap(), 0)], vec![open_output(COIN - 1_000 * number)]));
        }
        all.iter().for_each(|transaction| bench.submit(transaction).unwrap());
        all
    };
    let (one, two) = (chain(bench.coins[0], 40), chain(bench.coins[1], 24));
    let ends = [output_of(&one[39], 0), output_of(&two[23], 0)];
    let join = |fee: u64| spend(&ends, vec![open_output(2 * COIN - 64_000 - fee)]);
    assert_eq!(reason(bench.submit(&join(5_000))), "too-large-cluster");
    // The end of the first chain gives way to a join that spends what it has spent: one more and one less.
    let replacing = [output_of(&one[38], 0), output_of(&two[23], 0)];
    let replacing = spend(&replacing, vec![open_output(2 * COIN - 39_000 - 24_000 - 50_000)]);
    assert_eq!(reason(bench.submit(&replacing)), "replacement-adds-unconfirmed");
    let shorter = spend(&[output_of(&one[37], 0)], vec![open_output(COIN - 38_000 - 50_000)]);
    bench.submit(&shorter).unwrap();
    let ends = [output_of(&shorter, 0), output_of(&two[23], 0)];
    let joined = spend(&ends, vec![open_output(2 * COIN - 38_000 - 50_000 - 24_000 - 5_000)]);
    assert_eq!(bench.submit(&joined), Ok(()), "39 and 24 and itself");
    let more = spend(&[output_of(&joined, 0)], vec![open_output(COIN)]);
    assert_eq!(reason(bench.submit(&more)), "too-large-cluster");
}

/// A commitment transaction with an output for each side; the first side's is `first` large.
fn commitment(bench: &Bench, first: u64, fee: u64) -> Transaction {
    spend(&[bench.coins[0]], vec![open_output(first), open_output(COIN - first - fee)])
}

/// A peer spends its output of the commitment, and that again, until the commitment has all the descendants that the
/// pool allows it.
fn fill_descendants(bench: &Bench, commitment: &Transaction, fee: u64) -> Vec<Transaction> {
    let mut value = commitment.output[0].value.to_sat();
    let mut last = output_of(commitment, 0);
    let chain: Vec<Transaction> = (0..63)
        .map(|_| {
            value -= fee;
            let transaction = spend(&[last], vec![open_output(value)]);
            last = output_of(&transaction, 0);
            bench.submit(&transaction).unwrap();
            transaction
        })
        .collect();
    let more = spend(&[last], vec![open_output(value - fee)]);
    assert_eq!(reason(bench.submit(&more)), "too-large-cluster");
    chain
}

/// Our side's child of a commitment, which pays `fee`, with so many outputs.
fn our_child(commitment: &Transaction, fee: u64, outputs: u64) -> Transaction {
    let each = (commitment.output[1].value.to_sat() - fee) / outputs;
    spend(&[output_of(commitment, 1)], (0..outputs).map(|_| open_output(each)).collect())
}

#[test]
fn a_commitment_whose_descendants_a_peer_has_filled_still_takes_one_child_of_the_other_side() {
    let bench = Bench::new();
    let pinned = commitment(&bench, COIN / 2, 200);
    bench.submit(&pinned).unwrap();
    fill_descendants(&bench, &pinned, 20);
    // Some 43 bytes an output: 240 of them are more than 10,000, 230 are not.
    let large = our_child(&pinned, 50_000, 240);
    assert!(large.vsize() > 10_000);
    assert_eq!(reason(bench.submit(&large)), "too-large-cluster");
    let two_parents = {
        let other = pay(bench.coins[1], 1_000);
        bench.submit(&other).unwrap();
        let value = COIN - 1_000 + pinned.output[1].value.to_sat();
        spend(&[output_of(&pinned, 1), output_of(&other, 0)], vec![open_output(value - 50_000)])
    };
    assert_eq!(reason(bench.submit(&two_parents)), "too-large-cluster", "only of the commitment alone");
    let child = our_child(&pinned, 50_000, 230);
    assert!(child.vsize() <= 10_000);
    assert_eq!(bench.submit(&child), Ok(()));
    assert_eq!(bench.core.mempool.read().unwrap().get(&pinned.compute_txid()).unwrap().descendants.count, 65);
    let on_top = spend(&[output_of(&child, 0)], vec![open_output(child.output[0].value.to_sat() - 5_000)]);
    assert_eq!(reason(bench.submit(&on_top)), "too-large-cluster", "there is one such place");
    // It can be raised again, and brings the commitment into the next block.
    let raised = our_child(&pinned, 90_000, 1);
    assert_eq!(bench.submit(&raised), Ok(()));
    assert!(bench.holds(&raised) && !bench.holds(&child));
    let block = bench.core.template(open_script(), 1).unwrap().block;
    assert_eq!(txids(&block.txdata[1..3]), txids(&[pinned, raised]));
}

#[test]
fn a_commitment_that_a_peers_large_child_hangs_on_still_takes_one_child_of_the_other_side() {
    let bench = Bench::new();
    let pinned = commitment(&bench, COIN / 2, 200);
    bench.submit(&pinned).unwrap();
    // Nearly all of the 101,000 bytes.
    let value = pinned.output[0].value.to_sat();
    let large = spend(&[output_of(&pinned, 0)], (0..2_300).map(|_| open_output((value - 12_000) / 2_300)).collect());
    assert!((98_000..100_000).contains(&large.vsize()), "{}", large.vsize());
    bench.submit(&large).unwrap();
    let child = our_child(&pinned, 50_000, 200);
    assert!(large.vsize() + child.vsize() + pinned.vsize() > 101_000);
    assert_eq!(bench.submit(&child), Ok(()));
}

#[test]
fn a_version_2_parent_below_the_relay_minimum_comes_with_its_child() {
    let bench = Bench::new();
    for (coin, version_number) in [(0, 1), (1, 2)] {
        let parent = version(pay(bench.coins[coin], 0), version_number);
        assert_eq!(reason(bench.submit(&parent)), "min relay fee not met");
        let child = |fee: u64| spend(&[output_of(&parent, 0)], vec![open_output(COIN - fee)]);
        let both = (parent.vsize() + child(0).vsize()) as u64;
        let minimum = both.div_ceil(10);
        assert_eq!(reason(bench.package(&[&parent, &child(minimum - 1)])), "package-fee-too-low");
        assert_eq!(bench.package(&[&parent, &child(minimum)]), Ok(()), "version {version_number}");
        assert!(bench.holds(&parent) && bench.holds(&child(minimum)));
        // The child can be raised; the parent stays with the new one.
        assert_eq!(bench.submit(&child(5_000)), Ok(()));
        assert!(bench.holds(&parent));
    }
    let block = bench.core.template(open_script(), 1).unwrap().block;
    assert_eq!(block.txdata.len(), 5);
}

#[test]
fn our_commitment_with_its_child_takes_the_place_of_a_pinned_commitment_that_pays_less() {
    let bench = Bench::new();
    let theirs = commitment(&bench, COIN / 2, 200);
    bench.submit(&theirs).unwrap();
    let chain = fill_descendants(&bench, &theirs, 20);
    let ours = commitment(&bench, COIN / 3, 0);
    assert_eq!(reason(bench.submit(&ours)), "min relay fee not met");
    let replaced = 200 + 63 * 20;
    let child = |fee: u64| our_child(&ours, fee, 1);
    let relay = ((ours.vsize() + child(0).vsize()) as u64).div_ceil(10);
    assert_eq!(reason(bench.package(&[&ours, &child(replaced + relay - 1)])), "insufficient fee");
    assert_eq!(bench.package(&[&ours, &child(replaced + relay)]), Ok(()));
    assert!(bench.holds(&ours) && !bench.holds(&theirs) && !chain.iter().any(|transaction| bench.holds(transaction)));
    assert_eq!(bench.len(), 2);
}

#[test]
fn a_package_that_pays_more_at_a_lower_rate_replaces_nothing() {
    let bench = Bench::new();
    // Theirs is small and pays 60 a byte or so together with its child.
    let theirs = commitment(&bench, COIN / 2, 0);
    let value = theirs.output[0].value.to_sat();
    let their_child = spend(&[output_of(&theirs, 0)], vec![open_output(value - 15_000)]);
    bench.package(&[&theirs, &their_child]).unwrap();
    let ours = commitment(&bench, COIN / 3, 0);
    // 25,000 for some 8,800 bytes: more in all, less in any block that is nearly full.
    let wide = our_child(&ours, 25_000, 200);
    let refused = bench.package(&[&ours, &wide]);
    assert_eq!(refused, Err(MempoolError::Package(PackageError::ReplacementWorse)));
    assert_eq!(bench.package(&[&ours, &our_child(&ours, 25_000, 1)]), Ok(()));

    // A parent that pays by itself, with a child that only makes up for what is thrown out.
    let first = spend(&[bench.coins[1]], vec![open_output(COIN / 2), open_output(COIN / 2 - 1_000)]);
    bench.submit(&first).unwrap();
    let tail = spend(&[output_of(&first, 1)], vec![open_output(COIN / 2 - 2_000)]);
    bench.submit(&tail).unwrap();
    let second = spend(&[bench.coins[1]], vec![open_output(COIN / 2), open_output(COIN / 2 - 1_900)]);
    assert_eq!(reason(bench.submit(&second)), "insufficient fee");
    let lifted = bench.package(&[&second, &our_child(&second, 200, 1)]);
    assert_eq!(lifted, Err(MempoolError::Package(PackageError::ReplacementByParent)));
}

/// `0 IF 1 (CHECKMULTISIG × 196) ENDIF 1`: anyone can spend it, and it counts 1 + 195 · 20 = 3,901 operations.
fn many_multisigs() -> ScriptBuf {
    let mut script = vec![0x00, 0x63, 0x51];
    script.extend([0xae; 196]);
    script.extend([0x68, 0x51]);
    ScriptBuf::from_bytes(script)
}

#[test]
fn the_pool_counts_a_number_for_one_checkmultisig_only_and_templates_stay_within_the_limit() {
    let mut bench = Bench::new();
    let script = many_multisigs();
    let costly = TxOut { value: bitcoin::Amount::from_sat(COIN / 50), script_pubkey: script.to_p2wsh() };
    let fund = spend(&[bench.coins[0]], vec![costly; 50]);
    bench.mine(vec![fund.clone()]);
    let claim = |outputs: std::ops::Range<u32>, fee: u64| {
        let value = u64::from(outputs.end - outputs.start) * (COIN / 50) - fee;
        let outpoints: Vec<OutPoint> = outputs.map(|vout| output_of(&fund, vout)).collect();
        let mut transaction = spend(&outpoints, vec![open_output(value)]);
        let witness = bitcoin::Witness::from_slice(&[script.as_bytes()]);
        transaction.input.iter_mut().for_each(|input| input.witness = witness.clone());
        transaction
    };
    // 21 inputs cost 81,921, more than a block may; 5 cost 19,505, more than a transaction may that is relayed.
    for inputs in [21, 5] {
        assert_eq!(reason(bench.submit(&claim(0..inputs, 500_000))), "bad-txns-too-many-sigops", "{inputs}");
    }
    // 4 inputs cost 15,604; five such transactions fit into a block of 80,000, the sixth does not.
    let claims: Vec<Transaction> = (0..6u32).map(|number| claim(4 * number..4 * number + 4, 100_000)).collect();
    for transaction in &claims {
        bench.submit(transaction).unwrap();
        let pool = bench.core.mempool.read().unwrap();
        assert_eq!(pool.get(&transaction.compute_txid()).unwrap().sigop_cost, 15_604);
    }
    let block = bench.core.template(open_script(), 1).unwrap().block;
    assert_eq!(block.txdata.len(), 1 + 5);
    bench.core.submit_block(solve(block)).unwrap();
    assert_eq!(bench.len(), 1);
}

#[test]
fn a_block_beyond_the_limit_of_signature_operations_is_refused_however_they_are_written() {
    let mut bench = Bench::new();
    let script = many_multisigs();
    let costly = TxOut { value: bitcoin::Amount::from_sat(COIN / 21), script_pubkey: script.to_p2wsh() };
    let fund = spend(&[bench.coins[0]], vec![costly; 21]);
    bench.mine(vec![fund.clone()]);
    let outpoints: Vec<OutPoint> = (0..21).map(|vout| output_of(&fund, vout)).collect();
    let mut claim = spend(&outpoints, vec![open_output(COIN / 2)]);
    for input in &mut claim.input {
        input.witness = bitcoin::Witness::from_slice(&[script.as_bytes()]);
    }
    let block = forge(&bench.params, bench.place, vec![claim]);
    let refused = bench.core.submit_block(block).unwrap_err();
    assert!(refused.to_string().contains("81921"), "{refused}");
}

#[test]
fn a_child_pays_for_a_version_3_parent_without_fee_and_takes_its_dust() {
    let bench = Bench::new();
    let parent = version(spend(&[bench.coins[0]], vec![open_output(COIN), anchor()]), 3);
    assert_eq!(reason(bench.submit(&parent)), "min relay fee not met");
    let mut child = version(
        spend(&[output_of(&parent, 0), bench.coins[1], output_of(&parent, 1)], vec![open_output(2 * COIN - 2_000)]),
        3,
    );
    child.input[2].witness = bitcoin::Witness::new();
    let mut leaves_dust = child.clone();
    leaves_dust.input.pop();
    let refused = bench.package(&[&parent, &leaves_dust]);
    assert_eq!(reason(refused), "missing-ephemeral-spends");
    let mut poor = child.clone();
    poor.output[0] = open_output(2 * COIN - 10);
    assert_eq!(reason(bench.package(&[&parent, &poor])), "package-fee-too-low");
    assert_eq!(bench.package(&[&parent, &child]), Ok(()));
    assert!(bench.holds(&parent) && bench.holds(&child));
    assert_eq!(bench.package(&[&parent, &child]), Ok(()), "again is no failure");

    // Another child may take the first one's place without spending the same outputs, if it pays more.
    let with_fee = version(pay(bench.coins[2], 500), 3);
    let two = version(spend(&[bench.coins[3]], vec![open_output(COIN / 2), open_output(COIN / 2 - 500)]), 3);
    bench.submit(&with_fee).unwrap();
    bench.submit(&two).unwrap();
    let sibling = version(spend(&[output_of(&two, 0)], vec![open_output(COIN / 2 - 1_000)]), 3);
    let richer = version(spend(&[output_of(&two, 1)], vec![open_output(COIN / 2 - 500 - 5_000)]), 3);
    bench.submit(&sibling).unwrap();
    bench.submit(&richer).unwrap();
    assert!(bench.holds(&richer) && !bench.holds(&sibling));
    let grandchild = version(spend(&[output_of(&richer, 0)], vec![open_output(COIN / 2 - 50_000)]), 3);
    assert_eq!(bench.submit(&grandchild), Err(MempoolError::Truc(TrucViolation::TooManyAncestors)));
    let plain = version(spend(&[output_of(&with_fee, 0)], vec![open_output(COIN - 5_000)]), 2);
    assert!(matches!(bench.submit(&plain), Err(MempoolError::Truc(TrucViolation::ChildNotTruc { .. }))));
}

#[test]
fn dust_with_a_fee_is_refused_and_a_poor_package_leaves_nothing() {
    let bench = Bench::new();
    let paying = spend(&[bench.coins[0]], vec![open_output(COIN - 1_000), anchor()]);
    assert_eq!(bench.submit(&paying), Err(MempoolError::NonStandard(NonStandard::DustWithFee)));
    let parent = spend(&[bench.coins[0]], vec![open_output(COIN - 1)]);
    let child = spend(&[output_of(&parent, 0)], vec![open_output(COIN - 5)]);
    let refused = bench.package(&[&parent, &child]);
    assert!(matches!(refused, Err(MempoolError::Package(PackageError::FeeTooLow { .. }))), "{refused:?}");
    assert_eq!(bench.len(), 0);
    for (package, expected) in [
        (vec![&child, &parent], "package-not-sorted"),
        (vec![&parent, &parent], "conflict-in-package"),
        (vec![&parent, &paying], "conflict-in-package"),
        (vec![], "package-empty"),
    ] {
        assert_eq!(reason(bench.package(&package)), expected);
    }
    let unrelated = pay(bench.coins[1], 1_000);
    assert_eq!(reason(bench.package(&[&parent, &unrelated])), "package-not-child-with-parents");
}

#[test]
fn a_package_replaces_a_conflicting_package_by_paying_more() {
    let bench = Bench::new();
    // Two versions of a commitment transaction, each with a child that pays.
    let commitment = |vout_first: u64| {
        version(spend(&[bench.coins[0]], vec![open_output(vout_first), open_output(COIN - vout_first)]), 3)
    };
    let (one, other) = (commitment(COIN / 2), commitment(COIN / 3));
    let bump = |parent: &Transaction, fee: u64| {
        version(spend(&[output_of(parent, 0)], vec![open_output(parent.output[0].value.to_sat() - fee)]), 3)
    };
    let first = bump(&one, 2_000);
    bench.package(&[&one, &first]).unwrap();
    assert_eq!(reason(bench.package(&[&other, &bump(&other, 2_010)])), "insufficient fee");
    let second = bump(&other, 4_000);
    let mut replaced = bench.replaced_by(&[&other, &second]).unwrap();
    replaced.sort_unstable();
    let mut gone = [one.compute_txid(), first.compute_txid()];
    gone.sort_unstable();
    assert_eq!(replaced, gone);
    assert_eq!(bench.replaced_by(&[&other, &second]), Ok(Vec::new()), "again replaces nothing");
    assert!(bench.holds(&other) && bench.holds(&second) && !bench.holds(&one) && !bench.holds(&first));
}

#[test]
fn a_full_pool_drops_what_pays_least_and_asks_for_more() {
    let bench = Bench::with(MempoolPolicy { max_memory_bytes: 20_000, ..MempoolPolicy::default() });
    let before = bench.core.minimum_fee_rate();
    let cheap = pay(bench.coins[0], 100);
    bench.submit(&cheap).unwrap();
    for (index, coin) in bench.coins[1..20].iter().enumerate() {
        let result = bench.submit(&pay(*coin, 1_000 + index as u64));
        assert!(matches!(result, Ok(()) | Err(MempoolError::FeeBelowMempoolMinimum { .. })), "{result:?}");
    }
    assert!(!bench.holds(&cheap));
    assert!(bench.core.mempool.read().unwrap().memory() <= 20_000);
    assert!(bench.core.minimum_fee_rate() > before);
    assert_eq!(reason(bench.submit(&cheap)), "mempool min fee not met");
    bench.core.clock.set(NOW + 1);
    assert!(bench.core.estimate_fee(1) >= bench.core.minimum_fee_rate());
}

#[test]
fn a_block_takes_its_transactions_out_and_what_conflicts_with_them() {
    let mut bench = Bench::new();
    let mined = pay(bench.coins[0], 1_000);
    let child = spend(&[output_of(&mined, 0)], vec![open_output(COIN - 2_000)]);
    let doomed = pay(bench.coins[1], 1_000);
    let doomed_child = spend(&[output_of(&doomed, 0)], vec![open_output(COIN - 2_000)]);
    let bystander = pay(bench.coins[2], 1_000);
    for transaction in [&mined, &child, &doomed, &doomed_child, &bystander] {
        bench.submit(transaction).unwrap();
    }
    bench.mine(vec![mined.clone(), pay(bench.coins[1], 5_000)]);
    bench.check();
    assert!(bench.holds(&child) && bench.holds(&bystander));
    assert_eq!(bench.len(), 2);
}

#[test]
fn transactions_of_disconnected_blocks_come_back_and_what_became_invalid_goes() {
    let mut bench = Bench::new();
    let fork = bench.place;
    let lost = pay(bench.coins[0], 1_000);
    let double = pay(bench.coins[1], 1_000);
    let block = bench.mine(vec![lost.clone(), double.clone()]);
    let on_lost = spend(&[output_of(&lost, 0)], vec![open_output(COIN - 2_000)]);
    let on_double = spend(&[output_of(&double, 0)], vec![open_output(COIN - 2_000)]);
    bench.submit(&on_lost).unwrap();
    bench.submit(&on_double).unwrap();
    // Matured only by the block that goes.
    let coinbase = bench.coins[20];
    let early = pay(coinbase, 1_000);
    bench.submit(&early).unwrap();

    let rival = forge(&bench.params, fork, vec![pay(bench.coins[1], 7_000)]);
    bench.core.submit_block(rival.clone()).unwrap();
    assert_eq!(bench.core.active_tip().hash, block.block_hash());
    let second = forge(&bench.params, Place::of(&rival, fork.height + 1), Vec::new());
    bench.core.submit_block(second).unwrap();
    bench.check();
    assert!(bench.holds(&lost) && bench.holds(&on_lost), "back with its child");
    assert!(!bench.holds(&double) && !bench.holds(&on_double), "spent otherwise on the new chain");
    assert!(bench.holds(&early), "the new chain is as long");
}

#[test]
fn a_transaction_that_nobody_mines_expires() {
    let mut bench = Bench::new();
    let transaction = pay(bench.coins[0], 1_000);
    bench.submit(&transaction).unwrap();
    bench.core.clock.set(NOW + 14 * 24 * 3600 + 1);
    bench.mine(Vec::new());
    assert_eq!(bench.len(), 0);
}

fn template_txids(bench: &Bench) -> Vec<bitcoin::Txid> {
    let template = bench.core.template(open_script(), 0).unwrap();
    template.block.txdata.iter().skip(1).map(Transaction::compute_txid).collect()
}

#[test]
fn what_the_user_adds_to_a_fee_decides_who_is_mined_first_and_pays_nobody() {
    let mut bench = Bench::new();
    let (poor, rich) = (pay(bench.coins[0], 1_000), pay(bench.coins[1], 90_000));
    let child = pay(output_of(&poor, 0), 50_000);
    for transaction in [&poor, &rich, &child] {
        bench.submit(transaction).unwrap();
    }
    let [poor_id, rich_id, child_id] = [&poor, &rich, &child].map(Transaction::compute_txid);
    assert_eq!(template_txids(&bench), [rich_id, poor_id, child_id]);
    bench.core.prioritise(poor_id, 200_000);
    bench.check();
    assert_eq!(template_txids(&bench), [poor_id, rich_id, child_id]);
    {
        let pool = bench.core.mempool.read().unwrap();
        assert_eq!(pool.get(&poor_id).unwrap().modified_fee.to_sat(), 201_000);
        assert_eq!(pool.get(&child_id).unwrap().ancestors.fee.to_sat(), 250_000);
        assert_eq!(pool.totals().fee.to_sat(), 140_000, "what is paid is what was paid");
    }
    assert_eq!(bench.core.template(open_script(), 0).unwrap().fees.to_sat(), 140_000);
    // Less than nothing it is not worth; it still is mined if there is room.
    bench.core.prioritise(rich_id, -1_000_000);
    bench.check();
    assert_eq!(template_txids(&bench), [poor_id, child_id, rich_id]);
    // What comes later may be favoured before, so much that it needs no fee.
    let free = pay(bench.coins[2], 0);
    assert_eq!(bench.submit(&free).map_err(|error| error.is_fee_too_low()), Err(true));
    bench.core.prioritise(free.compute_txid(), 5_000);
    bench.submit(&free).unwrap();
    // A block ends it; what stays keeps it.
    bench.mine(vec![poor, child]);
    let pool = bench.core.mempool.read().unwrap();
    let left: Vec<_> = pool.priorities().map(|(txid, delta)| (*txid, delta)).collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&(rich_id, -1_000_000)) && left.contains(&(free.compute_txid(), 5_000)));
}

#[test]
fn what_the_user_adds_to_fees_is_kept_in_the_file_of_the_mempool() {
    let bench = Bench::new();
    let (here, absent) = (pay(bench.coins[0], 0), pay(bench.coins[1], 0));
    bench.core.prioritise(here.compute_txid(), 7_000);
    bench.core.prioritise(absent.compute_txid(), -9);
    bench.submit(&here).unwrap();
    let file = bench._folder.path().join("mempool.dat");
    assert_eq!(bench.core.save_mempool(&file).unwrap(), 1);
    let bytes = std::fs::read(&file).unwrap();
    // The layout of Bitcoin Core: the delta after the time; then those of others; then nothing to announce.
    let tail = [
        &7_000_i64.to_le_bytes()[..],
        &[1],
        &bitcoin::consensus::serialize(&absent.compute_txid()),
        &(-9_i64).to_le_bytes(),
        &[0],
    ]
    .concat();
    assert!(bytes.ends_with(&tail));

    let fresh = Bench::new();
    fresh.core.restore_mempool(leyden_node::mempool::file::open(&file).unwrap()).unwrap();
    let deltas = |bench: &Bench| -> Vec<_> {
        bench.core.mempool.read().unwrap().priorities().map(|(txid, delta)| (*txid, delta)).collect()
    };
    assert_eq!(deltas(&fresh), deltas(&bench), "also of a transaction that is not valid on this chain");
    assert_eq!(deltas(&bench).len(), 2);
}
