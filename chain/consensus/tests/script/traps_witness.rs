//! Witness rules in which other implementations have split from Bitcoin Core.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{Hash, hash160, sha256};
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TaprootBuilder};
use bitcoin::{Script, ScriptBuf, Transaction, TxIn, TxOut, XOnlyPublicKey};
use leyden_consensus::script::{LeafPosition, ScriptError, ScriptFlags};

use crate::support::{Spend, push, script};
use crate::traps::sign;

const CONSENSUS: ScriptFlags = ScriptFlags::CONSENSUS;

fn keypair() -> Keypair {
    Keypair::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[3; 32]).expect("a key"))
}

fn x_only() -> Vec<u8> {
    keypair().x_only_public_key().0.serialize().to_vec()
}

fn sign_schnorr(digest: [u8; 32]) -> Vec<u8> {
    Secp256k1::new().sign_schnorr_no_aux_rand(&Message::from_digest(digest), &keypair()).serialize().to_vec()
}

/// An output whose only leaf is this tapscript, and the leaf's control block.
pub fn taproot_leaf(leaf: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let leaf = ScriptBuf::from_bytes(leaf.to_vec());
    let internal_key = XOnlyPublicKey::from_slice(&x_only()).expect("a key");
    let tree = TaprootBuilder::new()
        .add_leaf(0, leaf.clone())
        .expect("one leaf")
        .finalize(&Secp256k1::new(), internal_key)
        .expect("complete");
    let control = tree.control_block(&(leaf, LeafVersion::TapScript)).expect("the leaf").serialize();
    ([&[0x51, 32][..], &tree.output_key().serialize()].concat(), control)
}

/// A spend of that leaf with these items below it.
fn spend_leaf(leaf: &[u8], items: &[Vec<u8>]) -> Spend {
    let (script_pubkey, control) = taproot_leaf(leaf);
    let items: Vec<_> = items.iter().cloned().chain([leaf.to_vec(), control]).collect();
    Spend::of(script_pubkey).witness(&items)
}

fn leaf_digest(spend: &Spend, leaf: &[u8], code_separator: u32) -> [u8; 32] {
    let leaf_hash = TapLeafHash::from_script(Script::from_bytes(leaf), LeafVersion::TapScript);
    spend.spending().taproot_digest(0, 0, None, Some(&LeafPosition { leaf_hash, code_separator })).expect("a digest")
}

fn spend_witness_script(code: &[u8], items: &[Vec<u8>]) -> Spend {
    let program = sha256::Hash::hash(code).to_byte_array();
    let items: Vec<_> = items.iter().cloned().chain([code.to_vec()]).collect();
    Spend::of([&[0, 32][..], &program].concat()).witness(&items)
}

/// The spend after a trip over the wire.
fn reparsed(spend: &Spend) -> Spend {
    let tx: Transaction = deserialize(&serialize(&spend.tx)).expect("the parser takes what a block may hold");
    assert_eq!(tx, spend.tx);
    Spend { tx, spent: spend.spent.clone() }
}

#[test]
fn trap_01_a_tapscript_may_have_998_signatures_of_999_keys_and_a_witness_item_400_kilobytes() {
    let key_check = push(&x_only());
    let mut leaf = [&key_check[..], &script("CHECKSIG")].concat();
    for _ in 1..999 {
        leaf.extend([&key_check[..], &script("CHECKSIGADD")].concat());
    }
    leaf.extend(script("998 NUMEQUAL"));
    let unsigned = spend_leaf(&leaf, &[]);
    let signature = sign_schnorr(leaf_digest(&unsigned, &leaf, LeafPosition::NO_CODE_SEPARATOR));
    let mut items = vec![signature; 999];
    items[500].clear();
    assert_eq!(reparsed(&spend_leaf(&leaf, &items)).verify(CONSENSUS), Ok(()));
    items[501].clear();
    assert_eq!(spend_leaf(&leaf, &items).verify(CONSENSUS), Err(ScriptError::EvalFalse));

    // A tapscript has no size limit of its own, and an item below OP_SUCCESS has none either.
    let long_leaf = [[push(&[1; 500]), script("DROP")].concat().repeat(800), script("1")].concat();
    assert!(long_leaf.len() > 400_000);
    assert_eq!(reparsed(&spend_leaf(&long_leaf, &[])).verify(CONSENSUS), Ok(()));
    assert_eq!(reparsed(&spend_leaf(&[0x50], &[vec![1; 400_000]])).verify(CONSENSUS), Ok(()));
    assert_eq!(spend_leaf(&script("DROP 1"), &[vec![1; 521]]).verify(CONSENSUS), Err(ScriptError::PushSize));
}

#[test]
fn trap_02_op_success_passes_with_500_001_items() {
    let many = vec![vec![]; 500_001];
    let spend = spend_leaf(&[0x50], &many);
    assert_eq!(reparsed(&spend).verify(CONSENSUS), Ok(()));
    assert_eq!(spend.verify(CONSENSUS | ScriptFlags::DISCOURAGE_OP_SUCCESS), Err(ScriptError::DiscourageOpSuccess));
    // Any other script may have 1,000.
    assert_eq!(spend_leaf(&script("1"), &many[..1_001]).verify(CONSENSUS), Err(ScriptError::StackSize));
    let drops = script(&("2DROP ".repeat(500) + "1"));
    assert_eq!(spend_leaf(&drops, &many[..1_000]).verify(CONSENSUS), Ok(()));
}

#[test]
fn trap_05_witness_digests_keep_signatures_and_code_separators() {
    let key = keypair().public_key().serialize();
    let code = [push(&key), script("CHECKSIGVERIFY CODESEPARATOR 1")].concat();
    let without = [push(&key), script("CHECKSIGVERIFY 1")].concat();
    let unsigned = spend_witness_script(&code, &[]);
    let over = |signed: &[u8]| {
        let digest = unsigned.spending().segwit_v0_digest(0, signed, 1).expect("input 0");
        spend_witness_script(&code, &[sign(digest, 1)]).verify(CONSENSUS)
    };
    assert_eq!(over(&code), Ok(()));
    assert_eq!(over(&without), Err(ScriptError::CheckSigVerify));

    // A signature that is a part of its own script cannot be valid here: nothing cuts it out.
    let tail = [script("DROP"), push(&key), script("CHECKSIG")].concat();
    let digest = unsigned.spending().segwit_v0_digest(0, &tail, 1).expect("input 0");
    let signature = sign(digest, 1);
    let with_itself = [&push(&signature)[..], &tail].concat();
    assert_eq!(spend_witness_script(&with_itself, &[signature]).verify(CONSENSUS), Err(ScriptError::EvalFalse));
}

#[test]
fn trap_06_tapscript_signs_the_position_of_the_last_executed_code_separator() {
    for (front, position) in [
        ("NOP", LeafPosition::NO_CODE_SEPARATOR),
        ("0 IF CODESEPARATOR ENDIF", LeafPosition::NO_CODE_SEPARATOR),
        ("CODESEPARATOR 0 IF CODESEPARATOR ENDIF", 0),
        // A push is one position, however long it is.
        ("0x03 0x010203 DROP CODESEPARATOR 1 IF CODESEPARATOR ENDIF", 5),
    ] {
        let leaf = [script(front), push(&x_only()), script("CHECKSIG")].concat();
        let unsigned = spend_leaf(&leaf, &[]);
        let signature = sign_schnorr(leaf_digest(&unsigned, &leaf, position));
        assert_eq!(spend_leaf(&leaf, &[signature]).verify(CONSENSUS), Ok(()), "{front}");
    }
}

#[test]
fn trap_07_taproot_single_without_its_output_fails() {
    let mut spend = Spend::of([&[0x51, 32][..], &x_only()].concat());
    spend.tx.input.insert(0, TxIn::default());
    spend.spent.insert(0, TxOut::NULL);
    for hash_type in [0x03u8, 0x83] {
        spend.tx.input[1].witness = bitcoin::Witness::from_slice(&[[vec![1; 64], vec![hash_type]].concat()]);
        assert_eq!(spend.spending().verify_input(1, CONSENSUS), Err(ScriptError::SchnorrSigHashType));
    }
    // Version 0 signs a hash of zeros instead.
    let key = keypair().public_key().serialize();
    let code = [push(&key), script("CHECKSIG")].concat();
    spend.spent[1].script_pubkey = ScriptBuf::from_bytes([&[0, 32][..], sha256::Hash::hash(&code).as_ref()].concat());
    let digest = spend.spending().segwit_v0_digest(1, &code, 3).expect("input 1");
    spend.tx.input[1].witness = bitcoin::Witness::from_slice(&[sign(digest, 3), code]);
    assert_eq!(spend.spending().verify_input(1, CONSENSUS), Ok(()));
}

#[test]
fn trap_08_undefined_hash_types_fail_in_taproot() {
    let spend = Spend::of([&[0x51, 32][..], &x_only()].concat());
    for hash_type in 0..=u8::MAX {
        let with = |spend: Spend, signature: Vec<u8>| spend.witness(&[signature]).verify(CONSENSUS);
        match spend.spending().taproot_digest(0, hash_type, None, None) {
            Ok(digest) => {
                assert!(matches!(hash_type, 0..=3 | 0x81..=0x83), "hash type {hash_type:x}");
                let signature = sign_schnorr(digest);
                let typed = [&signature[..], &[hash_type]].concat();
                if hash_type == 0 {
                    assert_eq!(with(spend.clone(), signature), Ok(()));
                    // The default is never written.
                    assert_eq!(with(spend.clone(), typed), Err(ScriptError::SchnorrSigHashType));
                } else {
                    assert_eq!(with(spend.clone(), signature), Err(ScriptError::SchnorrSig));
                    assert_eq!(with(spend.clone(), typed), Ok(()));
                }
            }
            Err(error) => {
                assert_eq!(error, ScriptError::SchnorrSigHashType);
                let typed = [&[1; 64][..], &[hash_type]].concat();
                assert_eq!(with(spend.clone(), typed), Err(ScriptError::SchnorrSigHashType));
            }
        }
    }
    for length in [0, 1, 63, 66] {
        let result = spend.clone().witness(&[vec![1; length]]).verify(CONSENSUS);
        assert_eq!(result, Err(ScriptError::SchnorrSigSize), "{length} bytes");
    }
}

#[test]
fn trap_11_tapscript_pays_for_signature_checks_by_its_witness_size() {
    // Each check of a given signature costs 50; the budget is the witness size and 50. A key of an unknown length
    // makes any signature good, and costs the same.
    let checks = |count: usize, annex: usize| {
        let leaf = script(&("DUP 1 CHECKSIGVERIFY ".repeat(count) + "DROP 1"));
        let (script_pubkey, control) = taproot_leaf(&leaf);
        let mut items = vec![vec![7], leaf, control];
        if annex > 0 {
            items.push(vec![0x50; annex]);
        }
        let spend = Spend::of(script_pubkey).witness(&items);
        let budget = spend.tx.input[0].witness.size() + 50;
        (spend.verify(CONSENSUS), budget)
    };
    for count in [1, 2, 3, 4, 10, 100] {
        for annex in [0, 30, 200] {
            let (result, budget) = checks(count, annex);
            let expected = if 50 * count <= budget { Ok(()) } else { Err(ScriptError::TapscriptValidationWeight) };
            assert_eq!(result, expected, "{count} checks with a budget of {budget}");
        }
    }
    let leaf = script("0 0 0 CHECKMULTISIG");
    assert_eq!(spend_leaf(&leaf, &[]).verify(CONSENSUS), Err(ScriptError::TapscriptCheckMultisig));
    // There is no limit of 201 operations.
    assert_eq!(spend_leaf(&script(&("NOP ".repeat(1_000) + "1")), &[]).verify(CONSENSUS), Ok(()));
}

#[test]
fn trap_12_op_success_goes_before_every_other_rule() {
    let succeeds = [
        vec![0x50],
        script("RETURN 0xfe"),
        script("0 IF 0x7e"),
        // What follows it need not even parse.
        script("0xbb 0x4c"),
        [push(&[1; 600]), vec![0x62]].concat(),
    ];
    for leaf in succeeds {
        assert_eq!(spend_leaf(&leaf, &[vec![1; 600]]).verify(CONSENSUS), Ok(()), "{leaf:02x?}");
    }
    // Inside a push it is data, and a broken push in front of it fails.
    assert_eq!(spend_leaf(&[1, 0x50, 0x69, 0x51], &[]).verify(CONSENSUS), Ok(()));
    assert_eq!(spend_leaf(&[2, 0x50], &[]).verify(CONSENSUS), Err(ScriptError::BadOpcode));
    // In version 0 the same opcodes are disabled or unknown.
    for code in [vec![0x50], vec![0x7e], vec![0xbb]] {
        assert!(spend_witness_script(&code, &[]).verify(CONSENSUS).is_err());
    }
    // The witness items of version 0 are limited like pushes.
    let code = script("DROP 1");
    assert_eq!(spend_witness_script(&code, &[vec![1; 520]]).verify(CONSENSUS), Ok(()));
    assert_eq!(spend_witness_script(&code, &[vec![1; 521]]).verify(CONSENSUS), Err(ScriptError::PushSize));
}

#[test]
fn trap_14_nested_version_1_is_not_taproot_and_no_witness_may_be_left_over() {
    let program = [&[0x51, 32][..], &x_only()].concat();
    let hash = hash160::Hash::hash(&program).to_byte_array();
    let nested = [&[0xa9, 20][..], &hash, &[0x87]].concat();
    // Anyone can spend it, with any witness or none.
    let spend = Spend::of(nested.clone()).script_sig(push(&program));
    assert_eq!(spend.verify(CONSENSUS), Ok(()));
    assert_eq!(spend.clone().witness(&[vec![1; 64]]).verify(CONSENSUS), Ok(()));
    let discouraged = CONSENSUS | ScriptFlags::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM;
    assert_eq!(spend.verify(discouraged), Err(ScriptError::DiscourageUpgradableWitnessProgram));
    // Natively it is taproot.
    let native = Spend::of(program.clone()).witness(&[vec![1; 64]]);
    assert_eq!(native.verify(CONSENSUS), Err(ScriptError::SchnorrSig));
    assert_eq!(native.clone().script_sig(script("1")).verify(CONSENSUS), Err(ScriptError::WitnessMalleated));
    // The nested program has to be the one and only push, and by its length.
    let longer = [script("1"), push(&program)].concat();
    let by_pushdata1 = [&[0x4c, program.len() as u8][..], &program].concat();
    for malleated in [longer, by_pushdata1] {
        let result = Spend::of(nested.clone()).script_sig(malleated).verify(CONSENSUS);
        assert_eq!(result, Err(ScriptError::WitnessMalleatedP2sh));
    }

    let bare = Spend::of(script("1")).witness(&[vec![1]]);
    assert_eq!(bare.verify(CONSENSUS), Err(ScriptError::WitnessUnexpected));
    assert_eq!(bare.verify(ScriptFlags::P2SH), Ok(()));
    // An output that is almost a witness program takes no witness.
    let too_long = Spend::of([&[0x51, 41][..], &[1; 41]].concat()).witness(&[vec![1]]);
    assert_eq!(too_long.verify(CONSENSUS), Err(ScriptError::WitnessUnexpected));
}

#[test]
fn pay_to_anchor_is_spent_without_a_witness() {
    let anchor = script("1 0x02 0x4e73");
    assert_eq!(Spend::of(anchor.clone()).verify(ScriptFlags::STANDARD), Ok(()));
    let nested = [&[0xa9, 20][..], hash160::Hash::hash(&anchor).as_ref(), &[0x87]].concat();
    let result = Spend::of(nested).script_sig(push(&anchor)).verify(ScriptFlags::STANDARD);
    assert_eq!(result, Err(ScriptError::DiscourageUpgradableWitnessProgram));
}
