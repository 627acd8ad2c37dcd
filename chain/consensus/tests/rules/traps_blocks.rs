//! Traps around blocks: doctored copies, duplicate inputs, signature operation limits, sizes.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_DROP, OP_PUSHBYTES_75};
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use leyden_consensus::block::is_block_mutated;
use leyden_consensus::script::sigops::{SigopRules, legacy_sigops, sigop_cost};
use leyden_consensus::weight::{block_weight, stripped_size};
use leyden_consensus::{BlockError, Params, TransactionError, check_block, check_transaction};

use crate::support::{TestChain, commit_to_witnesses, fault, outpoint, seal, spend};

/// A chain with `count` coinbase outputs ready to be spent, and those outputs.
pub fn funded(count: u32) -> (TestChain, Vec<OutPoint>) {
    let mut chain = TestChain::new(Params::regtest());
    let outputs = chain.mine(count).iter().map(|block| outpoint(&block.txdata[0], 0)).collect();
    chain.mine(100);
    (chain, outputs)
}

fn refuse(chain: &mut TestChain, block: &Block) -> BlockError {
    let (coins, height) = (chain.coins_in_bytes(), chain.height());
    let error = fault(chain.connect(block).unwrap_err());
    assert!(chain.coins_in_bytes() == coins && chain.height() == height, "a refused block changes nothing");
    error
}

#[test]
fn trap_15_a_doctored_copy_with_repeated_transactions_does_not_poison_the_honest_block() {
    let (mut chain, coins) = funded(2);
    let spends = coins.iter().map(|coin| spend(&[*coin], &[1000])).collect();
    let honest = chain.next_block(spends, 0);
    assert_eq!(honest.txdata.len(), 3);
    let mut doctored = honest.clone();
    doctored.txdata.push(honest.txdata[2].clone());
    assert_eq!(doctored.block_hash(), honest.block_hash());
    assert!(doctored.check_merkle_root(), "the root does not tell them apart");
    let error = refuse(&mut chain, &doctored);
    assert_eq!(error.reject_reason(), "bad-txns-duplicate");
    assert!(error.is_mutation());
    assert_eq!(is_block_mutated(&doctored, true), Some(BlockError::RepeatedTransactions));
    chain.connect(&honest).unwrap();
}

#[test]
fn trap_15_inner_nodes_shown_as_64_byte_transactions_are_a_mutation() {
    // Two 64-byte "transactions" whose bytes are what an honest block's tree has above its leaves. Any 64 bytes that
    // parse will do: the point is that no coinbase comes first.
    let mut tx = spend(&[OutPoint { txid: Hash::all_zeros(), vout: 7 }], &[5]);
    tx.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 4]);
    assert_eq!(tx.base_size(), 64);
    let chain = TestChain::new(Params::regtest());
    let mut block = chain.next_block(Vec::new(), 0);
    block.txdata = vec![tx];
    seal(&mut block);
    let suspicion = is_block_mutated(&block, true).unwrap();
    assert_eq!(suspicion, BlockError::AmbiguousTransaction);
    assert!(suspicion.is_mutation());
    let error = check_block(&block, &chain.params).unwrap_err();
    assert_eq!(error, BlockError::NoCoinbase);
}

#[test]
fn trap_15_a_wrong_merkle_root_is_a_mutation_and_the_honest_block_still_connects() {
    let (mut chain, coins) = funded(1);
    let honest = chain.next_block(vec![spend(&coins, &[1000])], 0);
    let mut doctored = honest.clone();
    doctored.txdata[1].output[0].value = Amount::from_sat(999);
    let error = refuse(&mut chain, &doctored);
    assert_eq!(error, BlockError::MerkleRoot);
    assert!(error.is_mutation());
    doctored.txdata.clear();
    assert_eq!(refuse(&mut chain, &doctored), BlockError::MerkleRoot);
    chain.connect(&honest).unwrap();
}

/// Takes any one witness item.
fn drop_and_pass() -> ScriptBuf {
    Builder::new().push_opcode(OP_DROP).push_int(1).into_script()
}

/// A block that spends a witness output with a witness, and commits to it.
fn block_with_witness() -> (TestChain, Block) {
    let (mut chain, coins) = funded(1);
    let program = ScriptBuf::new_p2wsh(&drop_and_pass().wscript_hash());
    let mut fund = spend(&coins, &[1000]);
    fund.output[0].script_pubkey = program;
    chain.mine_with(vec![fund.clone()], 0).unwrap();
    let mut claim = spend(&[outpoint(&fund, 0)], &[900]);
    claim.input[0].witness = Witness::from_slice(&[&[0u8][..], drop_and_pass().as_bytes()]);
    let mut block = chain.next_block(vec![claim], 0);
    commit_to_witnesses(&mut block);
    seal(&mut block);
    (chain, block)
}

#[test]
fn trap_16_a_copy_with_stripped_or_changed_witnesses_does_not_poison_the_honest_block() {
    let (mut chain, honest) = block_with_witness();

    let mut changed = honest.clone();
    changed.txdata[1].input[0].witness = Witness::from_slice(&[&[1u8][..], drop_and_pass().as_bytes()]);
    let mut stripped = honest.clone();
    stripped.txdata[1].input[0].witness = Witness::new();
    let mut no_reserved = honest.clone();
    no_reserved.txdata[0].input[0].witness = Witness::new();
    let mut long_reserved = honest.clone();
    long_reserved.txdata[0].input[0].witness = Witness::from_slice(&[[0u8; 33]]);
    let mut two_reserved = honest.clone();
    two_reserved.txdata[0].input[0].witness = Witness::from_slice(&[[0u8; 32], [0u8; 32]]);
    let mut stuffed = honest.clone();
    stuffed.txdata[0].input[0].witness = Witness::from_slice(&[vec![0u8; 5_000_000]]);

    for (copy, reason) in [
        (changed, "bad-witness-merkle-match"),
        (stripped, "bad-witness-merkle-match"),
        (no_reserved, "bad-witness-nonce-size"),
        (long_reserved, "bad-witness-nonce-size"),
        (two_reserved, "bad-witness-nonce-size"),
        (stuffed, "bad-witness-nonce-size"),
    ] {
        assert_eq!(copy.block_hash(), honest.block_hash());
        assert!(is_block_mutated(&copy, true).is_some());
        let error = refuse(&mut chain, &copy);
        assert_eq!(error.reject_reason(), reason);
        assert!(error.is_mutation(), "{reason}");
    }
    chain.connect(&honest).unwrap();
}

#[test]
fn trap_16_a_witness_without_commitment_is_unexpected() {
    let (mut chain, mut block) = block_with_witness();
    block.txdata[0].output.pop();
    block.txdata[0].input[0].witness = Witness::new();
    seal(&mut block);
    let error = refuse(&mut chain, &block);
    assert_eq!(error.reject_reason(), "unexpected-witness");
    assert!(error.is_mutation());
}

#[test]
fn trap_16_of_several_commitments_the_last_one_counts() {
    let (mut chain, mut block) = block_with_witness();
    let right = block.txdata[0].output.last().unwrap().clone();
    let mut wrong = right.clone();
    let mut bytes = wrong.script_pubkey.to_bytes();
    bytes[20] ^= 1;
    wrong.script_pubkey = ScriptBuf::from_bytes(bytes);
    block.txdata[0].output.push(wrong.clone());
    seal(&mut block);
    assert_eq!(refuse(&mut chain, &block).reject_reason(), "bad-witness-merkle-match");
    block.txdata[0].output.push(right);
    seal(&mut block);
    chain.connect(&block).unwrap();
}

#[test]
fn trap_17_a_transaction_cannot_spend_one_output_twice() {
    let (mut chain, coins) = funded(1);
    let twice = spend(&[coins[0], coins[0]], &[90_0000_0000]);
    assert_eq!(check_transaction(&twice), Err(TransactionError::DuplicateInput(coins[0])));
    let block = chain.next_block(vec![twice], 0);
    let error = refuse(&mut chain, &block);
    assert_eq!(error.reject_reason(), "bad-txns-inputs-duplicate");
    assert!(!error.is_mutation());
}

#[test]
fn trap_17_two_transactions_of_a_block_cannot_spend_the_same_output() {
    let (mut chain, coins) = funded(1);
    let block = chain.next_block(vec![spend(&coins, &[1000]), spend(&coins, &[2000])], 0);
    assert_eq!(refuse(&mut chain, &block).reject_reason(), "bad-txns-inputs-missingorspent");
}

#[test]
fn a_transaction_cannot_spend_what_comes_later_in_the_block() {
    let (mut chain, coins) = funded(1);
    let first = spend(&coins, &[1000]);
    let second = spend(&[outpoint(&first, 0)], &[900]);
    let block = chain.next_block(vec![second.clone(), first.clone()], 0);
    assert_eq!(refuse(&mut chain, &block).reject_reason(), "bad-txns-inputs-missingorspent");
    chain.mine_with(vec![first, second], 0).unwrap();
}

fn bytes_script(opcode: u8, count: usize) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![opcode; count])
}

#[test]
fn trap_13_signature_operations_cost_80_000_and_not_one_more() {
    let mut chain = TestChain::new(Params::regtest());
    let with_sigops = |chain: &TestChain, count: usize| {
        let mut block = chain.next_block(Vec::new(), 0);
        block.txdata[0]
            .output
            .push(TxOut { value: Amount::ZERO, script_pubkey: bytes_script(OP_CHECKSIG.to_u8(), count) });
        seal(&mut block);
        block
    };
    let too_many = with_sigops(&chain, 20_001);
    let error = refuse(&mut chain, &too_many);
    assert_eq!(error, BlockError::SigopCost { cost: 80_004, limit: 80_000 });
    chain.connect(&with_sigops(&chain, 20_000)).unwrap();
}

#[test]
fn trap_13_operations_in_witness_scripts_cost_one_unit_each() {
    // 19,999 in the coinbase and 4 + 1 in a witness are one unit too many, 4 are not.
    for (in_witness, fits) in [(4usize, true), (5, false)] {
        let (mut chain, coins) = funded(1);
        // The script returns at once, but its signature checks count.
        let mut script = vec![0x51, 0x63, 0x51, 0x67];
        script.extend(vec![OP_CHECKSIG.to_u8(); in_witness]);
        script.push(0x68);
        let script = ScriptBuf::from_bytes(script);
        let mut fund = spend(&coins, &[1000]);
        fund.output[0].script_pubkey = ScriptBuf::new_p2wsh(&script.wscript_hash());
        chain.mine_with(vec![fund.clone()], 0).unwrap();
        let mut claim = spend(&[outpoint(&fund, 0)], &[900]);
        claim.input[0].witness = Witness::from_slice(&[script.as_bytes()]);
        let mut block = chain.next_block(vec![claim], 0);
        block.txdata[0]
            .output
            .push(TxOut { value: Amount::ZERO, script_pubkey: bytes_script(OP_CHECKSIG.to_u8(), 19_999) });
        commit_to_witnesses(&mut block);
        seal(&mut block);
        match chain.connect(&block).map_err(fault) {
            Ok(()) => assert!(fits),
            Err(error) => {
                assert!(!fits);
                assert_eq!(error, BlockError::SigopCost { cost: 80_001, limit: 80_000 });
            }
        }
    }
}

#[test]
fn trap_13_counting_stops_at_a_truncated_push_and_keeps_what_it_has() {
    let counted = |script: Vec<u8>| {
        let mut tx = spend(&[OutPoint::null()], &[0]);
        tx.output[0].script_pubkey = ScriptBuf::from_bytes(script);
        legacy_sigops(&tx)
    };
    let check = OP_CHECKSIG.to_u8();
    assert_eq!(counted(vec![check, check, OP_PUSHBYTES_75.to_u8(), check]), 2);
    assert_eq!(counted(vec![check, 0x4c]), 1);
    assert_eq!(counted(vec![check, 0x4d, 0xff, 0xff, check]), 1);
    assert_eq!(counted(vec![check, 0x4e, 0xff, 0xff, 0xff, 0xff, check]), 1);
    assert_eq!(counted(vec![0x4c, 1, check, check]), 1, "data is not code");
    assert_eq!(counted(vec![0x52, OP_CHECKMULTISIG.to_u8()]), 20, "a number before it does not count here");
}

#[test]
fn trap_13_redeem_scripts_are_counted_by_their_own_numbers() {
    let redeem = Builder::new().push_int(3).push_opcode(OP_CHECKMULTISIG).into_script();
    let p2sh = TxOut { value: Amount::ZERO, script_pubkey: redeem.to_p2sh() };
    let mut tx = spend(&[OutPoint { txid: Hash::all_zeros(), vout: 0 }], &[0]);
    let push = bitcoin::script::PushBytesBuf::try_from(redeem.to_bytes()).unwrap();
    tx.input[0].script_sig = Builder::new().push_int(1).push_slice(&push).into_script();
    let cost = |tx: &Transaction, rules| sigop_cost(tx, [&p2sh], rules);
    assert_eq!(cost(&tx, SigopRules::P2sh), 12);
    assert_eq!(cost(&tx, SigopRules::Legacy), 0);
    // Anything but pushes in the input script: the redeem script does not count.
    tx.input[0].script_sig = Builder::new().push_slice(push).push_opcode(bitcoin::opcodes::all::OP_NOP).into_script();
    assert_eq!(cost(&tx, SigopRules::P2sh), 0);
    // A number on top is no script; neither is a push that runs over.
    tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]);
    assert_eq!(cost(&tx, SigopRules::P2shAndWitness), 0);
    tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0x02, 0xac]);
    assert_eq!(cost(&tx, SigopRules::P2shAndWitness), 0);
}

/// `0 IF 1 (CHECKMULTISIG × 196) ENDIF 1`: anyone can spend it, and it counts 1 + 195 · 20 = 3,901 operations.
fn many_multisigs() -> ScriptBuf {
    let mut script = vec![0x00, 0x63, 0x51];
    script.extend([OP_CHECKMULTISIG.to_u8(); 196]);
    script.extend([0x68, 0x51]);
    ScriptBuf::from_bytes(script)
}

/// A block that spends `count` outputs of this script, with `more` legacy operations besides.
fn block_with_many_multisigs(count: usize, nesting: fn(&ScriptBuf) -> ScriptBuf, more: usize) -> (TestChain, Block) {
    let script = many_multisigs();
    let (mut chain, coins) = funded(1);
    let mut fund = spend(&coins, &vec![1_000; count]);
    fund.output.iter_mut().for_each(|output| output.script_pubkey = nesting(&script));
    chain.mine_with(vec![fund.clone()], 0).unwrap();
    let outpoints: Vec<OutPoint> = (0..count as u32).map(|vout| outpoint(&fund, vout)).collect();
    let mut claim = spend(&outpoints, &[900]);
    for (input, output) in claim.input.iter_mut().zip(&fund.output) {
        if output.script_pubkey.is_p2sh() {
            let push = bitcoin::script::PushBytesBuf::try_from(script.to_bytes()).unwrap();
            input.script_sig = Builder::new().push_slice(push).into_script();
        } else {
            input.witness = Witness::from_slice(&[script.as_bytes()]);
        }
    }
    let mut block = chain.next_block(vec![claim], 0);
    let script_pubkey = bytes_script(OP_CHECKSIG.to_u8(), more);
    block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey });
    commit_to_witnesses(&mut block);
    seal(&mut block);
    (chain, block)
}

#[test]
fn trap_13_a_number_counts_for_one_checkmultisig_and_not_for_those_further_on() {
    let witness: fn(&ScriptBuf) -> ScriptBuf = |script| ScriptBuf::new_p2wsh(&script.wscript_hash());
    let p2sh: fn(&ScriptBuf) -> ScriptBuf = |script| script.to_p2sh();
    // In witnesses 21 · 3,901 = 81,921 is too much. 20 · 3,901 = 78,020 leaves room for 495 · 4, and for no more.
    // In redeem scripts one costs 4 · 3,901 = 15,604: 5 of them cost as much as 20 in witnesses, 6 are too much.
    for (nesting, count, more, cost) in [
        (witness, 21, 0, Err(81_921)),
        (witness, 20, 495, Ok(80_000)),
        (witness, 20, 496, Err(80_004)),
        (p2sh, 6, 0, Err(93_624)),
        (p2sh, 5, 495, Ok(80_000)),
        (p2sh, 5, 496, Err(80_004)),
    ] {
        let (mut chain, block) = block_with_many_multisigs(count, nesting, more);
        match cost {
            Ok(_) => chain.connect(&block).unwrap(),
            Err(cost) => {
                let error = refuse(&mut chain, &block);
                assert_eq!(error, BlockError::SigopCost { cost, limit: 80_000 }, "{count} and {more}");
            }
        }
    }
}

#[test]
fn trap_13_the_witness_of_a_script_hash_counts_like_a_native_one_and_other_versions_count_nothing() {
    let script = many_multisigs();
    let cost = |script_pubkey: ScriptBuf, script_sig: ScriptBuf| {
        let mut tx = spend(&[OutPoint { txid: Hash::all_zeros(), vout: 0 }], &[0]);
        tx.input[0].script_sig = script_sig;
        tx.input[0].witness = Witness::from_slice(&[&[7][..], script.as_bytes()]);
        sigop_cost(&tx, [&TxOut { value: Amount::ZERO, script_pubkey }], SigopRules::P2shAndWitness)
    };
    let program = |version: u8, length: u8| {
        ScriptBuf::from_bytes([&[version, length][..], &vec![3; usize::from(length)]].concat())
    };
    let pushed = |program: &ScriptBuf| {
        let push = bitcoin::script::PushBytesBuf::try_from(program.to_bytes()).unwrap();
        Builder::new().push_slice(push).into_script()
    };
    let nothing = ScriptBuf::new();
    for (version, length, expected) in [
        (0x00, 32, 3_901),
        (0x00, 20, 1),
        (0x00, 31, 0),
        (0x00, 40, 0),
        (0x51, 32, 0),
        (0x51, 2, 0),
        (0x60, 32, 0),
        // Not a witness program at all: a number that is pushed as a byte, a program too long.
        (0x4f, 32, 0),
        (0x00, 41, 0),
    ] {
        let program = program(version, length);
        assert_eq!(cost(program.clone(), nothing.clone()), expected, "{version:#x} {length}");
        assert_eq!(cost(program.to_p2sh(), pushed(&program)), expected, "{version:#x} {length} in P2SH");
    }
    // An input script that does more than push reveals no program.
    let program = program(0, 32);
    let mut busy = pushed(&program).into_bytes();
    busy.insert(0, 0x61);
    assert_eq!(cost(program.to_p2sh(), ScriptBuf::from_bytes(busy)), 0);
}

/// A block of exactly this weight: outputs make it heavy by fours, a witness item by ones.
fn block_of_weight(weight: u64) -> (TestChain, Block) {
    let (chain, mut block) = block_with_witness();
    let mut filled = |output: usize, item: usize| {
        block.txdata[0].output.truncate(1);
        let filler = ScriptBuf::from_bytes(vec![0x6a; output]);
        block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: filler });
        let witness = Witness::from_slice(&[&vec![1u8; item][..], drop_and_pass().as_bytes()]);
        block.txdata[1].input[0].witness = witness;
        commit_to_witnesses(&mut block);
        block_weight(&block)
    };
    let missing = weight - filled(990_000, 10);
    assert_eq!(filled(990_000 + (missing / 4) as usize, 10 + (missing % 4) as usize), weight);
    seal(&mut block);
    (chain, block)
}

#[test]
fn a_block_may_weigh_four_million_units_and_not_one_more() {
    let (mut chain, block) = block_of_weight(4_000_001);
    let error = refuse(&mut chain, &block);
    assert_eq!(error, BlockError::Weight { weight: 4_000_001, limit: 4_000_000 });
    assert!(!error.is_mutation());
    let (mut chain, block) = block_of_weight(4_000_000);
    chain.connect(&block).unwrap();
}

#[test]
fn a_block_without_witnesses_may_have_a_million_bytes_and_not_one_more() {
    let mut chain = TestChain::new(Params::regtest());
    let sized = |chain: &TestChain, size: u64| {
        let mut block = chain.next_block(Vec::new(), 0);
        let filler = |length| TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x6a; length]) };
        block.txdata[0].output.push(filler(900_000));
        let missing = size - stripped_size(&block);
        block.txdata[0].output[1] = filler(900_000 + missing as usize);
        seal(&mut block);
        block
    };
    let block = sized(&chain, 1_000_001);
    assert_eq!(refuse(&mut chain, &block), BlockError::Length);
    let block = sized(&chain, 1_000_000);
    chain.connect(&block).unwrap();
}

#[test]
fn coinbases_come_first_and_alone_and_carry_their_height() {
    let (mut chain, _) = funded(1);
    let honest = chain.next_block(Vec::new(), 0);
    let mut two = honest.clone();
    let mut second = honest.txdata[0].clone();
    second.output[0].value = Amount::from_sat(1);
    two.txdata.push(second);
    seal(&mut two);
    assert_eq!(refuse(&mut chain, &two), BlockError::SecondCoinbase { index: 1 });

    let mut wrong_height = honest.clone();
    wrong_height.txdata[0].input[0].script_sig = Builder::new().push_int(500).push_int(0).into_script();
    seal(&mut wrong_height);
    assert_eq!(refuse(&mut chain, &wrong_height), BlockError::CoinbaseHeight { height: 102 });

    let mut long_form = honest.clone();
    // The height in a longer push than needed.
    long_form.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0x02, 102, 0x00, 0x00]);
    seal(&mut long_form);
    assert_eq!(refuse(&mut chain, &long_form).reject_reason(), "bad-cb-height");

    let mut greedy = honest.clone();
    greedy.txdata[0].output[0].value += Amount::from_sat(1);
    seal(&mut greedy);
    assert_eq!(refuse(&mut chain, &greedy).reject_reason(), "bad-cb-amount");
    chain.connect(&honest).unwrap();
}

/// The merkle root by the definition, for one pair.
#[test]
fn the_root_of_two_transactions_is_the_hash_of_both_ids() {
    let (chain, coins) = funded(1);
    let block = chain.next_block(vec![spend(&coins, &[1])], 0);
    let mut engine = sha256d::Hash::engine();
    for tx in &block.txdata {
        engine.input(tx.compute_txid().as_byte_array());
    }
    assert_eq!(block.header.merkle_root.to_raw_hash(), sha256d::Hash::from_engine(engine));
}
