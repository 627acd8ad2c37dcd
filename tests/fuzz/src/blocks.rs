//! Blocks: any bytes are answered; a block that connects does to the coins what its transactions say and no more, makes
//! no money, and leaves the coins as they were when it is taken off.

use std::collections::HashMap;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness, transaction,
};
use leyden_consensus::block::{WITNESS_COMMITMENT_PREFIX, check_block_body, is_block_mutated};
use leyden_consensus::coins::is_unspendable;
use leyden_consensus::merkle::{merkle_root, witness_merkle_root};
use leyden_consensus::script::opcodes::push_number;
use leyden_consensus::subsidy::block_subsidy;
use leyden_consensus::{
    BlockContext, BlockUndo, Coin, CoinStats, Connected, Params, check_block, check_block_in_context, connect_block,
    disconnect_block,
};

use crate::input::Input;

type Coins = HashMap<OutPoint, Coin>;

/// Some coins are coinbases that have matured at this height, and some have not.
const HEIGHT: u32 = 250;
const PARENT_MEDIAN_TIME: u32 = 1_700_000_000;

pub fn blocks(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let params = Params::regtest();
    if input.flag() {
        let Ok(block) = deserialize::<Block>(input.rest()) else { return };
        assert_eq!(deserialize::<Block>(&serialize(&block)).expect("a block that was read"), block);
        put_on_and_take_off(&block, &params);
    } else {
        let block = build(&mut input);
        put_on_and_take_off(&block, &params);
    }
}

fn put_on_and_take_off(block: &Block, params: &Params) {
    let parent = block.header.prev_blockhash;
    let context = BlockContext { height: HEIGHT, parent_median_time: PARENT_MEDIAN_TIME, parent };
    let mutated = is_block_mutated(block, true);
    let checked = check_block_body(block).and_then(|()| check_block(block, params));
    let checked = checked.and_then(|()| check_block_in_context(block, &context, params));
    assert!(checked.is_err() || mutated.is_none(), "{mutated:?}");

    let coins = coins();
    // Who does not check first gets an answer, too; what it says holds for a checked block alone.
    let Ok(connected) = connect_block(
        block,
        &context,
        &coins,
        &|height: u32| Some(PARENT_MEDIAN_TIME - 600 * (HEIGHT - height)),
        params,
    ) else {
        return;
    };
    let scripts_pass = connected.checks.iter().all(|check| check.run().is_ok());
    if checked.is_ok() && scripts_pass {
        obeyed(block, &coins, connected, params);
    }
}

fn obeyed(block: &Block, before: &Coins, connected: Connected<'_>, params: &Params) {
    let mut after = before.clone();
    connected.changes.apply_to(&mut after);
    assert_eq!(after, replayed(block, before), "the changes are what the transactions say");
    let allowed = total(before) + block_subsidy(HEIGHT, params);
    assert!(total(&after) <= allowed, "{} coins became {}", total(before), total(&after));

    let mut stats = CoinStats::default();
    (stats.count, stats.total) = (before.len() as u64, total(before));
    stats.apply(&connected.changes).expect("the changes fit");
    assert_eq!((stats.count, stats.total), (after.len() as u64, total(&after)));

    let undo = BlockUndo::from_bytes(&connected.undo.to_bytes()).expect("undo data are read back");
    assert_eq!(undo, connected.undo);
    let back = disconnect_block(block, HEIGHT, undo, &after).expect("the block is taken off");
    back.apply_to(&mut after);
    assert_eq!(&after, before, "the coins are as they were");
    stats.apply(&back).expect("the changes fit");
    assert_eq!((stats.count, stats.total), (before.len() as u64, total(before)));
}

/// The coins after the block, found by the plainest way.
fn replayed(block: &Block, before: &Coins) -> Coins {
    let mut coins = before.clone();
    for (index, tx) in block.txdata.iter().enumerate() {
        if index > 0 {
            for input in &tx.input {
                coins.remove(&input.previous_output).expect("a valid transaction spends what there is");
            }
        }
        let txid = tx.compute_txid();
        for (vout, output) in (0..).zip(&tx.output).filter(|(_, output)| !is_unspendable(&output.script_pubkey)) {
            let coin = Coin { output: output.clone(), height: HEIGHT, is_coinbase: index == 0 };
            coins.insert(OutPoint { txid, vout }, coin);
        }
    }
    coins
}

fn total(coins: &Coins) -> Amount {
    coins.values().map(|coin| coin.output.value).sum()
}

/// Anybody may spend these: with an empty input, with a witness, not before a block, not before a time.
fn locks() -> [ScriptBuf; 4] {
    let witness_script = ScriptBuf::from_bytes(vec![0x51]);
    [
        ScriptBuf::from_bytes(vec![0x51]),
        witness_script.to_p2wsh(),
        // 5 CHECKSEQUENCEVERIFY, which leaves the 5.
        ScriptBuf::from_bytes(vec![0x55, 0xb2]),
        // 200 CHECKLOCKTIMEVERIFY.
        ScriptBuf::from_bytes(vec![0x02, 0xc8, 0x00, 0xb1]),
    ]
}

fn coin_name(number: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 }
}

const COINS: u8 = 12;

fn coins() -> Coins {
    let locks = locks();
    let coin = |number: u8| Coin {
        output: TxOut {
            value: Amount::from_sat(1_000 * u64::from(number)),
            script_pubkey: locks[usize::from(number) % locks.len()].clone(),
        },
        height: HEIGHT - 13 * u32::from(number),
        is_coinbase: number.is_multiple_of(3),
    };
    (1..=COINS).map(|number| (coin_name(number), coin(number))).collect()
}

/// A block of transactions that are mostly right, with the proofs that its header needs.
fn build(input: &mut Input<'_>) -> Block {
    let (skips_commitment, claims) = (input.byte() == 1, input.u16());
    let mut made: Vec<OutPoint> = (1..=COINS).map(coin_name).collect();
    let mut transactions = Vec::new();
    while !input.is_empty() && transactions.len() < 20 {
        let tx = build_transaction(input, &made);
        let txid = tx.compute_txid();
        made.extend((0..tx.output.len() as u32).map(|vout| OutPoint { txid, vout }));
        transactions.push(tx);
    }
    let mut coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: OutPoint::null(), ..TxIn::default() }],
        output: vec![TxOut {
            value: block_subsidy(HEIGHT, &Params::regtest()) + Amount::from_sat(u64::from(claims)),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    coinbase.input[0].script_sig = [push_number(i64::from(HEIGHT)), vec![0]].concat().into();
    coinbase.input[0].witness = Witness::from_slice(&[[0; 32]]);
    transactions.insert(0, coinbase);
    let header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: PARENT_MEDIAN_TIME + 600,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut block = Block { header, txdata: transactions };
    if !skips_commitment {
        let commitment = Block::compute_witness_commitment(&witness_merkle_root(&block), &[0; 32]);
        let script = [&WITNESS_COMMITMENT_PREFIX[..], commitment.as_byte_array()].concat();
        block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: script.into() });
    }
    let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
    block.header.merkle_root = merkle_root(&txids).root;
    while !block.header.target().is_met_by(block.header.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

fn build_transaction(input: &mut Input<'_>, made: &[OutPoint]) -> Transaction {
    let locks = locks();
    let spend = |input: &mut Input<'_>| {
        let choice = input.byte();
        let previous_output = made.get(usize::from(choice) % (made.len() + 1)).copied().unwrap_or(coin_name(99));
        let witness = if input.flag() { Witness::from_slice(&[[0x51]]) } else { Witness::new() };
        let sequence = if input.flag() { Sequence(u32::from(input.byte())) } else { Sequence::MAX };
        TxIn { previous_output, script_sig: ScriptBuf::new(), sequence, witness }
    };
    let pay = |input: &mut Input<'_>| {
        // Rarely more than there is, and more than can be.
        let value = if input.byte() == 255 { input.u64() } else { u64::from(input.u16()) };
        let lock = input.index(locks.len() + 1);
        let script_pubkey = locks.get(lock).cloned().unwrap_or_else(|| ScriptBuf::from_bytes(vec![0x6a]));
        TxOut { value: Amount::from_sat(value), script_pubkey }
    };
    Transaction {
        version: transaction::Version(i32::from(input.byte() % 4)),
        lock_time: LockTime::from_consensus(if input.flag() { u32::from(input.u16()) } else { 0 }),
        input: (0..=input.index(3)).map(|_| spend(input)).collect(),
        output: (0..=input.index(3)).map(|_| pay(input)).collect(),
    }
}
