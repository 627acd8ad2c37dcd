//! Real blocks: structure, merkle roots, witness commitments, weights; and two of them with all they spend.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::consensus::encode::deserialize;
use bitcoin::script::Instruction;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Transaction, TxIn, TxOut};
use leyden_consensus::block::is_block_mutated;
use leyden_consensus::script::sigops::{SigopRules, legacy_sigops, sigop_cost};
use leyden_consensus::weight::block_weight;
use leyden_consensus::{
    BlockContext, BlockUndo, Coin, HeaderTree, Params, check_block, check_block_in_context, check_transaction,
    connect_block, disconnect_block,
};

use crate::support::{LATE, framed_blocks, vector_file, vector_json};

fn context(block: &Block, height: u32) -> BlockContext {
    // The exact median is not in the vectors; a block's own time bounds it from above.
    BlockContext { height, parent_median_time: block.header.time - 1, parent: block.header.prev_blockhash }
}

#[test]
fn real_blocks_pass_every_check_that_needs_no_coins() {
    let mut count = 0;
    for (file, height, params) in [
        ("mainnet_277647.raw.zst", 277_647, Params::mainnet()),
        ("mainnet_413567.raw.zst", 413_567, Params::mainnet()),
        ("mainnet_540107.raw.zst", 540_107, Params::mainnet()),
        ("mainnet_574200.raw.zst", 574_200, Params::mainnet()),
        ("mainnet_702861.raw.zst", 702_861, Params::mainnet()),
        ("mainnet_866342.raw.zst", 866_342, Params::mainnet()),
        ("testnet3_924634.raw", 924_634, Params::testnet3()),
    ] {
        let Some(bytes) = vector_file(&format!("blocks/{file}")) else { return };
        let block: Block = deserialize(&bytes).unwrap();
        check_block(&block, &params).unwrap_or_else(|error| panic!("{file}: {error}"));
        check_block_in_context(&block, &context(&block, height), &params)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(is_block_mutated(&block, height >= params.activation.segwit), None, "{file}");
        let weight = block_weight(&block);
        println!("{file}: {} transactions, weight {weight}", block.txdata.len());
        count += 1;
    }
    assert_eq!(count, 7);
}

/// What the two fully known blocks spend, as coins, in input order.
fn spent_coins(name: &str) -> Option<(Vec<Coin>, HashMap<u32, u32>)> {
    let rows = vector_json(&format!("blocks/{name}.spent_utxos.json.zst"))?;
    let mut median_times = HashMap::new();
    let coins = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let height = row["creation_height"].as_u64().unwrap() as u32;
            if let Some(time) = row.get("creation_time").and_then(serde_json::Value::as_u64) {
                median_times.insert(height - 1, time as u32);
            }
            Coin {
                output: TxOut {
                    value: Amount::from_sat(row["txout"]["value"].as_u64().unwrap()),
                    script_pubkey: ScriptBuf::from_hex(row["txout"]["script_pubkey"].as_str().unwrap()).unwrap(),
                },
                height,
                is_coinbase: row["is_coinbase"].as_bool().unwrap(),
            }
        })
        .collect();
    Some((coins, median_times))
}

fn connects_with_its_coins(name: &str, height: u32) {
    let Some((coins, median_times)) = spent_coins(name) else { return };
    let block: Block = deserialize(&vector_file(&format!("blocks/{name}.raw.zst")).unwrap()).unwrap();
    let params = Params::mainnet();
    let inputs = block.txdata.iter().skip(1).flat_map(|tx| &tx.input).map(|input| input.previous_output);
    let set: HashMap<OutPoint, Coin> = inputs.zip(coins).filter(|(_, coin)| coin.height != height).collect();
    let times = |height: u32| median_times.get(&height).copied();
    let connected = connect_block(&block, &context(&block, height), &set, &times, &params).unwrap();
    for check in &connected.checks {
        check.run().unwrap();
    }
    let paid: Amount = block.txdata[0].output.iter().map(|output| output.value).sum();
    let subsidy = leyden_consensus::subsidy::block_subsidy(height, &params);
    assert_eq!(paid, subsidy + connected.fees, "both miners took all that they could");

    // So does the rule on signature operations, written out once more.
    let mut cost: u64 = block.txdata.iter().map(|tx| 4 * plain_legacy_count(tx)).sum();
    for (tx, coins) in block.txdata.iter().skip(1).zip(&connected.undo.spent) {
        cost += tx.input.iter().zip(coins).map(|(input, coin)| plain_spending_cost(input, coin)).sum::<u64>();
    }
    assert_eq!(connected.sigop_cost, cost);

    let mut after = set.clone();
    connected.changes.apply_to(&mut after);
    let stored = connected.undo.to_bytes();
    let undo = BlockUndo::from_bytes(&stored).unwrap();
    disconnect_block(&block, height, undo, &after).unwrap().apply_to(&mut after);
    assert!(after == set);
    println!(
        "{name}: {} scripts, sigop cost {}, fees {}, {} coin changes, undo data {} bytes",
        connected.checks.len(),
        connected.sigop_cost,
        connected.fees,
        connected.changes.len(),
        stored.len()
    );
}

/// Signature operations of a script, by index, with `accurate` numbers of keys or 20 for each CHECKMULTISIG.
fn plain_count(script: &[u8], accurate: bool) -> u64 {
    let (mut at, mut last, mut count) = (0usize, 0xffu8, 0u64);
    while at < script.len() {
        let opcode = script[at];
        at += 1;
        let width = match opcode {
            0x4c => 1,
            0x4d => 2,
            0x4e => 4,
            _ => 0,
        };
        let Some(length) = script.get(at..at + width) else { return count };
        let pushed = match width {
            0 if opcode < 0x4c => usize::from(opcode),
            _ => length.iter().rev().fold(0, |sum, byte| sum * 256 + usize::from(*byte)),
        };
        at += width + pushed;
        if at > script.len() {
            return count;
        }
        match opcode {
            0xac | 0xad => count += 1,
            0xae | 0xaf if accurate && (0x51..=0x60).contains(&last) => count += u64::from(last - 0x50),
            0xae | 0xaf => count += 20,
            _ => {}
        }
        last = opcode;
    }
    count
}

fn plain_legacy_count(tx: &Transaction) -> u64 {
    let inputs = tx.input.iter().map(|input| plain_count(input.script_sig.as_bytes(), false));
    inputs.chain(tx.output.iter().map(|output| plain_count(output.script_pubkey.as_bytes(), false))).sum()
}

/// What an input costs beyond its legacy operations. The blocks' input scripts of pay-to-script-hash all end in one
/// plain push of at most 520 bytes.
fn plain_spending_cost(input: &TxIn, coin: &Coin) -> u64 {
    let script = coin.output.script_pubkey.as_bytes();
    let mut program = script;
    let mut cost = 0;
    if script.len() == 23 && script[..2] == [0xa9, 20] && script[22] == 0x87 {
        program = match input.script_sig.instructions().last().unwrap().unwrap() {
            Instruction::PushBytes(bytes) => bytes.as_bytes(),
            Instruction::Op(_) => &[],
        };
        cost += 4 * plain_count(program, true);
    }
    cost += match program {
        [0, 20, rest @ ..] if rest.len() == 20 => 1,
        [0, 32, rest @ ..] if rest.len() == 32 => input.witness.last().map_or(0, |script| plain_count(script, true)),
        _ => 0,
    };
    cost
}

#[test]
fn block_277647_connects_with_fees_exact_and_comes_off_again() {
    connects_with_its_coins("mainnet_277647", 277_647);
}

#[test]
fn block_866342_connects_with_fees_exact_and_comes_off_again() {
    connects_with_its_coins("mainnet_866342", 866_342);
}

#[test]
fn the_largest_transaction_ever_mined_is_a_valid_transaction() {
    let Some(bytes) = vector_file("blocks/mainnet_megatx_bb41a757.raw.zst") else { return };
    let tx: Transaction = deserialize(&bytes).unwrap();
    assert_eq!(tx.base_size(), 999_657);
    assert_eq!(check_transaction(&tx), Ok(()));
    let spent: Vec<TxOut> = Vec::new();
    assert_eq!(sigop_cost(&tx, &spent, SigopRules::Legacy), legacy_sigops(&tx) * 4);
}

#[test]
fn the_longer_fork_of_the_btcd_set_wins_once_its_blocks_are_there() {
    // That set was made with a maturity of one block, so under the real rules it is about headers and bodies only.
    let Some(bytes) = vector_file("btcd/blk_0_to_4.dat") else { return };
    let main = framed_blocks(&bytes);
    let side: Vec<Block> = ["blk_3A", "blk_4A", "blk_5A"]
        .iter()
        .flat_map(|name| framed_blocks(&vector_file(&format!("btcd/{name}.dat")).unwrap()))
        .collect();
    let mut tree = HeaderTree::new(Arc::new(Params::mainnet()));
    assert_eq!(main[0].block_hash(), tree.params().genesis_hash);
    for block in main[1..].iter().chain(&side) {
        check_block(block, tree.params()).unwrap();
        tree.accept(block.header, LATE).unwrap();
    }
    // The side's headers are ahead, but without its bodies the first chain stays.
    for block in &main[1..] {
        tree.mark_stored(&block.block_hash());
    }
    let (first, best) = (tree.best_stored().hash, tree.best().hash);
    assert_eq!(first, main[4].block_hash());
    assert_eq!(best, side[2].block_hash());
    for block in side.iter().rev() {
        assert_eq!(tree.best_stored().hash, first);
        tree.mark_stored(&block.block_hash());
    }
    assert_eq!(tree.best_stored().hash, best);
    let path = tree.path(&first, &best).unwrap();
    println!("btcd: {} blocks off, {} blocks on", path.disconnect.len(), path.connect.len());
    assert_eq!((path.disconnect.len(), path.connect.len(), path.fork), (2, 3, main[2].block_hash()));
}
