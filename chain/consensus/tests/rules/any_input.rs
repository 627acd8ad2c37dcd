//! Whatever bytes a peer or a damaged disk delivers, the rules answer and do not panic.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Block, BlockHash, OutPoint, Transaction};
use leyden_consensus::block::is_block_mutated;
use leyden_consensus::locktime::{is_final, sequence_locks};
use leyden_consensus::script::sigops::{SigopRules, sigop_cost};
use leyden_consensus::weight::block_weight;
use leyden_consensus::{
    BlockContext, BlockUndo, Coin, HeaderTree, Params, check_block, check_block_in_context, check_transaction,
    check_transaction_inputs, connect_block, disconnect_block,
};
use proptest::prelude::*;

use crate::support::{framed_blocks, outpoint, spend, vector_file};
use crate::traps_blocks::funded;

/// A block with spends and witnesses to start from.
fn seed_block() -> (Block, HashMap<OutPoint, Coin>) {
    let (chain, coins) = funded(3);
    let first = spend(&coins[..2], &[1000, 2000]);
    let second = spend(&[outpoint(&first, 0), coins[2]], &[500]);
    (chain.next_block(vec![first, second], 0), chain.coins)
}

/// Everything that one can ask about a block.
fn ask_everything(block: &Block, coins: &HashMap<OutPoint, Coin>, height: u32) {
    for params in [Params::regtest(), Params::mainnet()] {
        let context = BlockContext { height, parent_median_time: 1_300_000_000, parent: block.header.prev_blockhash };
        let _ = check_block(block, &params);
        let _ = check_block_in_context(block, &context, &params);
        let _ = is_block_mutated(block, true);
        let _ = block_weight(block);
        // The rules say to check the block first; even who does not gets an answer.
        let times = |height: u32| Some(height);
        if let Ok(connected) = connect_block(block, &context, coins, &times, &params) {
            for check in &connected.checks {
                let _ = check.run();
            }
            let mut after = coins.clone();
            connected.changes.apply_to(&mut after);
            let _ = disconnect_block(block, height, connected.undo, &after);
        }
        let _ = disconnect_block(block, height, BlockUndo::default(), coins);
    }
    for tx in &block.txdata {
        ask_about(tx, coins);
    }
}

fn ask_about(tx: &Transaction, coins: &HashMap<OutPoint, Coin>) {
    let _ = check_transaction(tx);
    let spent: Vec<Option<&Coin>> = tx.input.iter().map(|input| coins.get(&input.previous_output)).collect();
    let _ = check_transaction_inputs(tx, &spent, 200);
    let outputs = spent.iter().flatten().map(|coin| &coin.output);
    let _ = sigop_cost(tx, outputs, SigopRules::P2shAndWitness);
    let _ = is_final(tx, u32::MAX, u32::MAX);
    let heights = vec![u32::MAX; tx.input.len()];
    if let Ok(locks) = sequence_locks(tx, &heights, &|_: u32| Some(u32::MAX)) {
        let _ = locks.are_open(0, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn blocks_with_changed_bytes_are_answered(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        height in any::<u32>(),
    ) {
        let (block, coins) = seed_block();
        let mut bytes = serialize(&block);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(block) = deserialize::<Block>(&bytes) {
            ask_everything(&block, &coins, height);
        }
    }

    #[test]
    fn blocks_with_transactions_left_out_repeated_or_swapped_are_answered(
        order in prop::collection::vec(0usize..3, 0..7),
        height in 0u32..300,
    ) {
        let (block, coins) = seed_block();
        let txdata = order.iter().map(|index| block.txdata[*index].clone()).collect();
        ask_everything(&Block { header: block.header, txdata }, &coins, height);
    }

    #[test]
    fn any_header_is_answered_and_only_known_parents_pass(
        bytes in prop::collection::vec(any::<u8>(), 80),
        on_genesis in any::<bool>(),
        easy in any::<bool>(),
        now in any::<u64>(),
    ) {
        for params in [Params::regtest(), Params::leyden(), Params::testnet3()] {
            let mut tree = HeaderTree::new(Arc::new(params));
            let genesis = tree.best();
            let mut header: Header = deserialize(&bytes).unwrap();
            if on_genesis {
                header.prev_blockhash = genesis.hash;
            }
            if easy {
                header.bits = genesis.header.bits;
            }
            let accepted = tree.accept(header, now).is_ok();
            prop_assert!(!accepted || on_genesis);
            let _ = tree.restore(header, true, true);
            let unknown: BlockHash = header.block_hash();
            if !tree.contains(&unknown) {
                prop_assert!(tree.locator(&unknown).is_none());
                prop_assert!(tree.path(&genesis.hash, &unknown).is_none());
                prop_assert!(tree.invalidate(&unknown).is_empty());
                prop_assert!(!tree.mark_stored(&unknown));
            }
            tree.reconsider(&unknown);
            let _ = tree.next_bits(&genesis.hash, header.time);
        }
    }
}

#[test]
fn a_header_at_the_end_of_time_is_answered() {
    let mut params = Params::regtest();
    params.genesis.header.time = u32::MAX;
    let tree = HeaderTree::new(Arc::new(params));
    let genesis = tree.best();
    // No time is left after it, and asking says so without wrapping.
    assert_eq!(tree.earliest_time(&genesis.hash), Some(u32::MAX));
    assert!(tree.next_bits(&genesis.hash, u32::MAX).is_some());
}

#[test]
fn real_blocks_cut_short_are_no_blocks() {
    let Some(bytes) = vector_file("blocks/mainnet_1_255.dat") else { return };
    let block = framed_blocks(&bytes).pop().unwrap();
    let whole = serialize(&block);
    for length in 0..whole.len() {
        assert!(deserialize::<Block>(&whole[..length]).is_err());
    }
}
