//! Traps around coins: amounts, maturity, relative locks, duplicates, failing halfway.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, Sequence, TxOut, transaction};
use leyden_consensus::params::{Activation, ExceptedRule, Exception};
use leyden_consensus::subsidy::MAX_MONEY;
use leyden_consensus::{
    BlockError, BlockUndo, Coin, DisconnectError, Params, TransactionError, check_transaction,
    check_transaction_inputs, disconnect_block,
};

use crate::support::{TestChain, anyone, fault, outpoint, seal, spend};
use crate::traps_blocks::funded;

/// Rules of the time when coinbases had no height, so that two can be the same.
fn before_bip34() -> Params {
    Params { activation: Activation { bip34: 10_000, ..Activation::ALWAYS }, ..Params::regtest() }
}

#[test]
fn trap_18_a_transaction_cannot_overwrite_an_unspent_one() {
    let mut chain = TestChain::new(before_bip34());
    let first = chain.mine(1).remove(0);
    let mut copy = chain.next_block(Vec::new(), 0);
    copy.txdata[0] = first.txdata[0].clone();
    seal(&mut copy);
    let error = fault(chain.connect(&copy).unwrap_err());
    assert_eq!(error.reject_reason(), "bad-txns-BIP30");
    assert!(!error.is_mutation());
}

#[test]
fn trap_18_an_excepted_duplicate_overwrites_and_undo_restores_the_older_coin() {
    let mut chain = TestChain::new(before_bip34());
    let first = chain.mine(1).remove(0);
    let mut copy = chain.next_block(Vec::new(), 0);
    copy.txdata[0] = first.txdata[0].clone();
    seal(&mut copy);
    let exception = Exception { block: copy.block_hash(), rule: ExceptedRule::DuplicateCoinbase };
    chain.params = Params { exceptions: vec![exception], ..(*chain.params).clone() }.into();
    let outpoint = outpoint(&copy.txdata[0], 0);
    let before = chain.coins_in_bytes();
    assert_eq!(chain.coins[&outpoint].height, 1);
    chain.connect(&copy).unwrap();
    assert_eq!(chain.coins[&outpoint].height, 2);
    assert_eq!(chain.stats.count, 1);
    chain.disconnect();
    assert_eq!(chain.coins[&outpoint].height, 1);
    assert!(chain.coins_in_bytes() == before);
}

#[test]
fn trap_18_a_duplicate_of_a_spent_transaction_is_allowed() {
    let mut chain = TestChain::new(before_bip34());
    let first = chain.mine(1).remove(0);
    chain.mine(100);
    let claim = spend(&[outpoint(&first.txdata[0], 0)], &[1000]);
    chain.mine_with(vec![claim], 0).unwrap();
    let mut copy = chain.next_block(Vec::new(), 0);
    copy.txdata[0] = first.txdata[0].clone();
    seal(&mut copy);
    chain.connect(&copy).unwrap();
    assert_eq!(chain.coins[&outpoint(&first.txdata[0], 0)].height, 103);
    let before = chain.coins.len();
    chain.disconnect();
    assert_eq!(chain.coins.len(), before - 1);
}

#[test]
fn trap_19_outputs_up_to_21_million_are_money_and_one_more_is_not() {
    let max = MAX_MONEY.to_sat();
    let from = [OutPoint { txid: bitcoin::hashes::Hash::all_zeros(), vout: 0 }];
    let verdict = |outputs: &[u64]| check_transaction(&spend(&from, outputs));
    assert_eq!(verdict(&[max]), Ok(()));
    assert_eq!(verdict(&[max - 1, 1]), Ok(()));
    assert_eq!(verdict(&[max, 1]), Err(TransactionError::OutputSumTooLarge));
    let too_large = Amount::from_sat(max + 1);
    assert_eq!(verdict(&[max + 1]), Err(TransactionError::OutputTooLarge { index: 0, value: too_large }));
    assert_eq!(verdict(&[0, u64::MAX]), Err(TransactionError::NegativeOutput { index: 1 }));
    assert_eq!(verdict(&[i64::MAX as u64 + 1]), Err(TransactionError::NegativeOutput { index: 0 }));
    // The overflow of August 2010: two outputs whose sum wraps around.
    assert!(verdict(&[9_223_372_036_854_277_039; 2]).is_err());
    assert_eq!(verdict(&vec![max; 10_000]), Err(TransactionError::OutputSumTooLarge));
}

#[test]
fn trap_19_inputs_and_fees_do_not_wrap_either() {
    let coin = |value: u64| Coin {
        output: TxOut { value: Amount::from_sat(value), script_pubkey: anyone() },
        height: 1,
        is_coinbase: false,
    };
    let max = MAX_MONEY.to_sat();
    let from = |vout| OutPoint { txid: bitcoin::hashes::Hash::all_zeros(), vout };
    let tx = spend(&[from(0), from(1)], &[1]);
    let verdict = |a: u64, b: u64| {
        let (a, b) = (coin(a), coin(b));
        check_transaction_inputs(&tx, &[Some(&a), Some(&b)], 500)
    };
    assert_eq!(verdict(max, 0), Ok(Amount::from_sat(max - 1)));
    assert_eq!(verdict(max, 1), Err(TransactionError::InputSumTooLarge));
    assert_eq!(verdict(u64::MAX, u64::MAX), Err(TransactionError::InputSumTooLarge));
    assert_eq!(
        verdict(0, 0),
        Err(TransactionError::OutputsExceedInputs { inputs: Amount::ZERO, outputs: Amount::from_sat(1) })
    );
    assert_eq!(check_transaction_inputs(&tx, &[], 500), Err(TransactionError::MissingInput(from(0))));
}

#[test]
fn trap_19_a_coinbase_may_take_subsidy_and_fees_and_not_one_satoshi_more() {
    let (mut chain, coins) = funded(1);
    let value = chain.coins[&coins[0]].output.value.to_sat();
    let claim = spend(&coins, &[value - 700]);
    let greedy = chain.next_block(vec![claim.clone()], 701);
    assert!(matches!(fault(chain.connect(&greedy).unwrap_err()), BlockError::CoinbaseOverpays { .. }));
    chain.mine_with(vec![claim], 700).unwrap();
    assert_eq!(chain.fees, Amount::from_sat(700));
}

#[test]
fn trap_21_a_coinbase_matures_after_exactly_100_blocks() {
    let mut chain = TestChain::new(Params::regtest());
    let first = chain.mine(1).remove(0);
    let claim = spend(&[outpoint(&first.txdata[0], 0)], &[1000]);
    chain.mine(98);
    // The next block has height 100, so the coinbase at height 1 would have depth 99.
    let error = chain.mine_with(vec![claim.clone()], 0).unwrap_err();
    assert_eq!(error.reject_reason(), "bad-txns-premature-spend-of-coinbase");
    chain.mine(1);
    chain.mine_with(vec![claim], 0).unwrap();
}

#[test]
fn trap_21_a_block_cannot_spend_its_own_coinbase() {
    let mut chain = TestChain::new(Params::regtest());
    let mut block = chain.next_block(Vec::new(), 0);
    block.txdata.push(spend(&[outpoint(&block.txdata[0], 0)], &[1000]));
    seal(&mut block);
    let error = fault(chain.connect(&block).unwrap_err());
    assert_eq!(error.reject_reason(), "bad-txns-premature-spend-of-coinbase");
}

fn locked(from: OutPoint, version: i32, sequence: u32) -> bitcoin::Transaction {
    let mut tx = spend(&[from], &[1000]);
    tx.version = transaction::Version(version);
    tx.input[0].sequence = Sequence(sequence);
    tx
}

#[test]
fn trap_21_a_relative_height_lock_opens_at_its_block_and_not_one_before() {
    let (mut chain, coins) = funded(1);
    let fund = spend(&coins, &[5000]);
    chain.mine_with(vec![fund.clone()], 0).unwrap();
    let claim = locked(outpoint(&fund, 0), 2, 5);
    chain.mine(3);
    let error = chain.mine_with(vec![claim.clone()], 0).unwrap_err();
    assert!(matches!(error, BlockError::Transaction { cause: TransactionError::SequenceLocked, .. }));
    assert_eq!(error.reject_reason(), "bad-txns-nonfinal");
    chain.mine(1);
    chain.mine_with(vec![claim], 0).unwrap();
}

#[test]
fn trap_21_a_relative_time_lock_counts_between_the_medians_before_both_blocks() {
    let (mut chain, coins) = funded(1);
    let fund = spend(&coins, &[5000]);
    let before_the_coin = chain.context().parent_median_time;
    chain.mine_with(vec![fund.clone()], 0).unwrap();
    // Ten units of 512 seconds; blocks come every 600, so the median reaches 5120 after nine of them.
    let claim = locked(outpoint(&fund, 0), 2, (1 << 22) | 10);
    while chain.context().parent_median_time < before_the_coin + 5120 {
        let error = chain.mine_with(vec![claim.clone()], 0).unwrap_err();
        assert_eq!(error.reject_reason(), "bad-txns-nonfinal");
        chain.mine(1);
    }
    assert_eq!(chain.context().parent_median_time, before_the_coin + 9 * 600);
    chain.mine_with(vec![claim], 0).unwrap();
}

#[test]
fn trap_3_a_transaction_version_of_all_ones_has_its_relative_lock_enforced() {
    let (mut chain, coins) = funded(1);
    let fund = spend(&coins, &[5000]);
    chain.mine_with(vec![fund.clone()], 0).unwrap();
    let claim = locked(outpoint(&fund, 0), -1, 5);
    assert_eq!(chain.mine_with(vec![claim], 0).unwrap_err().reject_reason(), "bad-txns-nonfinal");
    chain.mine_with(vec![locked(outpoint(&fund, 0), 1, 5)], 0).unwrap();
}

#[test]
fn an_absolute_lock_time_is_compared_with_the_median_and_not_with_the_block() {
    let (mut chain, coins) = funded(1);
    let mut claim = spend(&coins, &[1000]);
    claim.input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    let median = chain.context().parent_median_time;
    claim.lock_time = LockTime::from_consensus(median);
    assert_eq!(chain.mine_with(vec![claim.clone()], 0).unwrap_err().reject_reason(), "bad-txns-nonfinal");
    claim.lock_time = LockTime::from_consensus(median - 1);
    chain.mine_with(vec![claim], 0).unwrap();
}

#[test]
fn a_script_that_fails_refuses_the_block_and_names_the_input() {
    let (mut chain, coins) = funded(1);
    let mut fund = spend(&coins, &[5000]);
    fund.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x00]);
    chain.mine_with(vec![fund.clone()], 0).unwrap();
    let error = chain.mine_with(vec![spend(&[outpoint(&fund, 0)], &[1])], 0).unwrap_err();
    match &error {
        BlockError::Script(failure) => assert_eq!(failure.input, 0),
        other => panic!("{other}"),
    }
    assert_eq!(error.reject_reason(), "block-script-verify-flag-failed (EVAL_FALSE)");
    assert!(!error.is_mutation());
}

#[test]
fn outputs_that_nobody_can_spend_do_not_become_coins() {
    let (mut chain, coins) = funded(1);
    let mut burn = spend(&coins, &[10, 20, 30]);
    burn.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x6a]);
    burn.output[1].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51; 10_001]);
    burn.output[2].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51; 10_000]);
    chain.mine_with(vec![burn.clone()], 0).unwrap();
    assert!(!chain.coins.contains_key(&outpoint(&burn, 0)));
    assert!(!chain.coins.contains_key(&outpoint(&burn, 1)));
    assert!(chain.coins.contains_key(&outpoint(&burn, 2)));
}

#[test]
fn trap_24_a_reorganisation_that_fails_halfway_leaves_the_coins_as_they_were() {
    let (mut chain, coins) = funded(3);
    let start = chain.clone();
    chain.mine_with(vec![spend(&coins[..1], &[1000])], 0).unwrap();
    chain.mine(1);
    let before = (chain.coins_in_bytes(), chain.stats.hash.finish(), chain.tip());

    // A longer side chain whose second block spends what its first has spent already.
    let mut side = start;
    side.mine_with(vec![spend(&coins[..2], &[1500])], 0).unwrap();
    let first = side.connected.last().unwrap().0.clone();
    let bad = side.next_block(vec![spend(&coins[1..], &[77])], 0);
    assert!(side.connect(&bad).is_err());

    // As a node does it: a copy of the state takes the blocks off and on, and only the end of it is kept.
    let mut attempt = chain.clone();
    attempt.disconnect();
    attempt.disconnect();
    attempt.connect(&first).unwrap();
    let halfway = attempt.coins_in_bytes();
    let error = fault(attempt.connect(&bad).unwrap_err());
    assert_eq!(error.reject_reason(), "bad-txns-inputs-missingorspent");
    assert!(attempt.coins_in_bytes() == halfway, "a refused block changes nothing");
    // And going back the long way arrives at the same bytes too.
    attempt.disconnect();
    for (block, _) in &chain.connected[chain.connected.len() - 2..] {
        attempt.connect(block).unwrap();
    }
    assert!((attempt.coins_in_bytes(), attempt.stats.hash.finish(), attempt.tip()) == before);
}

#[test]
fn undo_data_of_another_block_is_noticed() {
    let (mut chain, coins) = funded(2);
    let block = chain.mine_with(vec![spend(&coins, &[1000])], 0).unwrap();
    let height = chain.height();
    let undo = BlockUndo::from_bytes(&chain.connected.last().unwrap().1).unwrap();
    let none = disconnect_block(&block, height, BlockUndo::default(), &chain.coins);
    assert!(matches!(none, Err(DisconnectError::TransactionCount { undo: 0, block: 1 })));
    let mut short = undo.clone();
    short.spent[0].pop();
    let short = disconnect_block(&block, height, short, &chain.coins);
    assert!(matches!(short, Err(DisconnectError::InputCount { undo: 1, inputs: 2, .. })));
    let wrong_height = disconnect_block(&block, height + 1, undo.clone(), &chain.coins);
    assert!(matches!(wrong_height, Err(DisconnectError::CreatedCoinDiffers(_))));
    let mut damaged = chain.coins.clone();
    damaged.insert(coins[0], undo.spent[0][0].clone());
    let exists = disconnect_block(&block, height, undo, &damaged);
    assert!(matches!(exists, Err(DisconnectError::SpentCoinExists(outpoint)) if outpoint == coins[0]));
}
