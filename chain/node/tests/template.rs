//! Block templates: always valid, and the best paid transactions first.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use bitcoin::{OutPoint, Transaction};
use common::*;
use leyden_consensus::Params;
use leyden_node::backend::Backend;
use leyden_node::core::Core;
use leyden_node::{Clock, MempoolPolicy};
use proptest::prelude::*;

const COIN: u64 = 50_0000_0000;

fn core_with_coins() -> (tempfile::TempDir, Core, Vec<OutPoint>) {
    let params = Params::regtest();
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    let blocks = forge_chain(&params, Place::genesis(&params), 115);
    let coins = blocks.iter().map(coinbase_of).collect();
    blocks.into_iter().for_each(|block| assert!(core.submit_block(block).is_ok()));
    (folder, core, coins)
}

#[test]
fn a_child_that_pays_brings_its_parent_along() {
    let (_folder, core, coins) = core_with_coins();
    let poor = spend(&[coins[0]], vec![open_output(COIN - 50)]);
    let rich_child = spend(&[output_of(&poor, 0)], vec![open_output(COIN - 50_000)]);
    let middle = spend(&[coins[1]], vec![open_output(COIN - 10_000)]);
    let cheap = spend(&[coins[2]], vec![open_output(COIN - 1_000)]);
    for transaction in [&cheap, &middle, &poor, &rich_child] {
        core.submit_transaction(transaction.clone()).unwrap();
    }
    let template = core.template(open_script(), 1).unwrap();
    assert_eq!(txids(&template.block.txdata[1..]), txids(&[poor, rich_child, middle, cheap]));
    assert_eq!(template.fees.to_sat(), 61_000);
    assert_eq!(template.block.txdata[0].output[0].value.to_sat(), COIN + 61_000);
    let block = solve(template.block);
    core.submit_block(block).unwrap();
    assert!(core.mempool.read().unwrap().is_empty());
}

#[test]
fn another_extra_nonce_makes_another_valid_block() {
    let (_folder, core, coins) = core_with_coins();
    core.submit_transaction(spend(&[coins[0]], vec![open_output(COIN - 1_000)])).unwrap();
    let mut template = core.template(open_script(), 1).unwrap();
    let before = template.block.header.merkle_root;
    template.set_extra_nonce(2);
    assert_ne!(template.block.header.merkle_root, before);
    core.submit_block(solve(template.block)).unwrap();
    assert_eq!(core.tip().height, 116);
}

#[test]
fn a_template_whose_nonces_are_used_up_takes_the_time_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::mockable();
    let params = std::sync::Arc::new(Params::regtest());
    let store = open_store(folder.path(), None);
    let core = Core::open(params, MempoolPolicy::default(), clock.clone(), store, 1_000, None).unwrap();
    assert!(clock.set(1_800_000_000));
    let mut template = core.template(open_script(), 1).unwrap();
    let first = template.block.header;
    assert!(clock.set(1_800_000_090));
    assert!(core.roll_template(&mut template).unwrap());
    let rolled = template.block.header;
    assert_eq!((first.time, rolled.time), (1_800_000_000, 1_800_000_090));
    assert_ne!(first.merkle_root, rolled.merkle_root);
    core.submit_block(solve(template.block.clone())).unwrap();
    assert!(!core.roll_template(&mut template).unwrap(), "there is another tip");
}

#[test]
fn a_block_is_filled_with_what_pays_most_and_not_overfilled() {
    let (_folder, core, coins) = core_with_coins();
    // Some 86,000 virtual bytes each: eleven fit.
    let outputs = 2_000;
    let transactions: Vec<Transaction> = (0..14u64)
        .map(|number| {
            let fee = 100_000 + number * 10_000;
            spend(&[coins[number as usize]], (0..outputs).map(|_| open_output((COIN - fee) / outputs)).collect())
        })
        .collect();
    for transaction in &transactions {
        core.submit_transaction(transaction.clone()).unwrap();
    }
    let block = core.template(open_script(), 1).unwrap().block;
    let best: Vec<Transaction> = transactions.iter().rev().take(11).cloned().collect();
    assert_eq!(txids(&block.txdata[1..]), txids(&best));
    assert!(block.weight().to_wu() <= 4_000_000);
    assert!(core.estimate_fee(1) > core.estimate_fee(6));
    core.submit_block(solve(block)).unwrap();
    assert_eq!(core.mempool.read().unwrap().len(), 3);
}

/// One random transaction: which outputs it spends, how many it makes, and what it pays.
#[derive(Clone, Debug)]
struct Step {
    inputs: Vec<prop::sample::Index>,
    outputs: u64,
    fee: u64,
    mine: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (prop::collection::vec(any::<prop::sample::Index>(), 1..4), 1..5u64, 0..20_000u64, prop::bool::weighted(0.05))
        .prop_map(|(inputs, outputs, fee, mine)| Step { inputs, outputs, fee, mine })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn templates_over_random_graphs_are_always_valid(steps in prop::collection::vec(step(), 1..80)) {
        let (_folder, core, coins) = core_with_coins();
        let mut outputs: Vec<(OutPoint, u64)> = coins[..14].iter().map(|coin| (*coin, COIN)).collect();
        let mut accepted = 0usize;
        for Step { inputs, outputs: count, fee, mine } in steps {
            let mut chosen: Vec<(OutPoint, u64)> = inputs.iter().map(|index| *index.get(&outputs)).collect();
            chosen.sort_unstable();
            chosen.dedup();
            let total: u64 = chosen.iter().map(|(_, value)| value).sum();
            let each = total.saturating_sub(fee) / count;
            let outpoints: Vec<OutPoint> = chosen.iter().map(|(outpoint, _)| *outpoint).collect();
            let transaction: Transaction = spend(&outpoints, (0..count).map(|_| open_output(each)).collect());
            if core.submit_transaction(transaction.clone()).is_ok() {
                accepted += 1;
                outputs.extend((0..count as u32).map(|vout| (output_of(&transaction, vout), each)));
            }
            core.mempool.read().unwrap().check().map_err(TestCaseError::fail)?;
            if mine {
                let block = core.template(open_script(), 7).unwrap().block;
                core.submit_block(solve(block)).unwrap();
            }
        }
        let waiting = core.mempool.read().unwrap().len();
        let template = core.template(open_script(), 9).unwrap();
        prop_assert_eq!(template.block.txdata.len(), waiting + 1);
        core.submit_block(solve(template.block)).unwrap();
        prop_assert!(core.mempool.read().unwrap().is_empty());
        prop_assert!(accepted >= waiting);
    }
}
