//! Legacy rules in which other implementations have split from Bitcoin Core.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::{Sequence, TxIn, TxOut};
use leyden_consensus::script::{ScriptError, ScriptFlags};

use crate::support::{Spend, evaluate, push, script};

const NONE: ScriptFlags = ScriptFlags::NONE;

fn secret_key() -> SecretKey {
    SecretKey::from_slice(&[3; 32]).expect("a key")
}

fn public_key() -> Vec<u8> {
    secret_key().public_key(&Secp256k1::new()).serialize().to_vec()
}

/// An ECDSA signature of this digest with its hash type.
pub fn sign(digest: [u8; 32], hash_type: u8) -> Vec<u8> {
    let signature = Secp256k1::new().sign_ecdsa(&Message::from_digest(digest), &secret_key());
    [&signature.serialize_der()[..], &[hash_type]].concat()
}

/// A legacy signature of input 0 of the spend over this script code.
fn sign_legacy(spend: &Spend, script_code: &[u8], hash_type: u8) -> Vec<u8> {
    sign(spend.spending().legacy_digest(0, script_code, u32::from(hash_type)).expect("input 0"), hash_type)
}

fn checksig() -> Vec<u8> {
    [push(&public_key()), script("CHECKSIG")].concat()
}

#[test]
fn trap_03_version_is_32_bits_without_a_sign() {
    let mut spend = Spend::of(script("10 CHECKSEQUENCEVERIFY"));
    spend.tx.input[0].sequence = Sequence(10);
    for (version, expected) in [
        (1, Err(ScriptError::UnsatisfiedLockTime)),
        (2, Ok(())),
        (0xffff_ffffu32.cast_signed(), Ok(())),
        (i32::MIN, Ok(())),
        (0, Err(ScriptError::UnsatisfiedLockTime)),
    ] {
        spend.tx.version = bitcoin::transaction::Version(version);
        assert_eq!(spend.verify(ScriptFlags::CHECKSEQUENCEVERIFY), expected, "version {version}");
    }
}

#[test]
fn trap_04_find_and_delete_matches_the_exact_push_at_opcode_boundaries() {
    let tail = [script("DROP"), checksig()].concat();
    let unsigned = Spend::of(vec![]);
    let signature = sign_legacy(&unsigned, &tail, 1);
    let by_pushdata1 = [&[0x4c, signature.len() as u8][..], &signature].concat();
    let inside_longer = push(&[&[0x51][..], &push(&signature)].concat());
    for (name, front, deleted) in [
        ("pushed as it is searched", push(&signature), true),
        ("pushed by PUSHDATA1", by_pushdata1, false),
        ("inside a longer push", inside_longer, false),
    ] {
        let spend = Spend::of([&front[..], &tail].concat()).script_sig(push(&signature));
        let expected = if deleted { Ok(()) } else { Err(ScriptError::EvalFalse) };
        assert_eq!(spend.verify(NONE), expected, "{name}");
        let strict = if deleted { Err(ScriptError::SigFindAndDelete) } else { expected };
        assert_eq!(spend.verify(ScriptFlags::CONST_SCRIPTCODE), strict, "{name}");
    }
    // Twice in a row, where an implementation that looks only once a position would keep the second.
    let tail = [script("2DROP"), checksig()].concat();
    let signature = sign_legacy(&unsigned, &tail, 1);
    let doubled = [push(&signature), push(&signature), tail].concat();
    assert_eq!(Spend::of(doubled).script_sig(push(&signature)).verify(NONE), Ok(()));
}

#[test]
fn trap_05_code_separators_are_removed_from_legacy_digests() {
    // The separator after the check is not executed when the signature is checked, but is cut out all the same.
    let code = [push(&public_key()), script("CHECKSIGVERIFY CODESEPARATOR 1")].concat();
    let without = [push(&public_key()), script("CHECKSIGVERIFY 1")].concat();
    let spend = Spend::of(code.clone());
    let digest = |code: &[u8]| spend.spending().legacy_digest(0, code, 1).expect("input 0");
    assert_eq!(digest(&code), digest(&without));
    let signature = sign_legacy(&spend, &without, 1);
    assert_eq!(spend.script_sig(push(&signature)).verify(NONE), Ok(()));
}

#[test]
fn trap_06_only_an_executed_code_separator_moves_the_start_of_the_signed_code() {
    for (front, executed) in [
        ("0 IF CODESEPARATOR ENDIF", false),
        ("1 IF CODESEPARATOR ENDIF", true),
        ("1 IF 1 ELSE CODESEPARATOR ENDIF DROP", false),
    ] {
        let code = [script(front), checksig()].concat();
        let spend = Spend::of(code.clone());
        let separator = code.iter().position(|byte| *byte == 0xab).expect("a separator");
        let signed = if executed { &code[separator + 1..] } else { &code[..] };
        let signature = sign_legacy(&spend, signed, 1);
        let spend = spend.script_sig(push(&signature));
        assert_eq!(spend.verify(NONE), Ok(()), "{front}");
        // Policy refuses it in any branch.
        assert_eq!(spend.verify(ScriptFlags::CONST_SCRIPTCODE), Err(ScriptError::OpCodeSeparator), "{front}");
    }
}

#[test]
fn trap_07_legacy_single_without_its_output_signs_the_number_one() {
    let mut spend = Spend::of(checksig());
    spend.tx.input.insert(0, TxIn::default());
    spend.spent.insert(0, TxOut::NULL);
    let mut one = [0; 32];
    one[0] = 1;
    for hash_type in [0x03, 0x83] {
        assert_eq!(spend.spending().legacy_digest(1, &checksig(), hash_type), Ok(one));
        let signature = sign(one, hash_type as u8);
        spend.tx.input[1].script_sig = push(&signature).into();
        assert_eq!(spend.spending().verify_input(1, NONE), Ok(()), "hash type {hash_type:x}");
        // It signs nothing: any change keeps it valid.
        let mut changed = spend.clone();
        changed.tx.output.clear();
        changed.tx.lock_time = LockTime::from_consensus(77);
        assert_eq!(changed.spending().verify_input(1, NONE), Ok(()));
    }
    // With its output there, the digest is an ordinary one.
    spend.tx.output.push(TxOut::NULL);
    assert_ne!(spend.spending().legacy_digest(1, &checksig(), 0x03), Ok(one));
}

#[test]
fn trap_08_undefined_hash_types_count_by_their_low_five_bits_and_are_committed_whole() {
    let spend = Spend::of(checksig());
    let mut digests = vec![];
    // All of these are "all outputs"; each has its own digest, and a signature's byte says which.
    for hash_type in [0u8, 1, 4, 0x1f, 0x21, 0x40, 0x80, 0x81, 0xe1] {
        let signature = sign_legacy(&spend, &checksig(), hash_type);
        assert_eq!(spend.clone().script_sig(push(&signature)).verify(NONE), Ok(()), "hash type {hash_type:x}");
        let strict = spend.clone().script_sig(push(&signature)).verify(ScriptFlags::STRICTENC);
        let defined = matches!(hash_type & 0x7f, 1..=3);
        assert_eq!(strict, if defined { Ok(()) } else { Err(ScriptError::SigHashType) }, "hash type {hash_type:x}");
        digests.push(spend.spending().legacy_digest(0, &checksig(), u32::from(hash_type)).expect("input 0"));
        digests.push(spend.spending().legacy_digest(0, &checksig(), u32::from(hash_type) | 0x100).expect("input 0"));
    }
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn trap_09_loose_der_is_good_until_the_flag_asks_for_strict() {
    let spend = Spend::of(checksig());
    let strict = sign_legacy(&spend, &checksig(), 1);
    let with = |signature: &[u8], flags| spend.clone().script_sig(push(signature)).verify(flags);
    assert_eq!(with(&strict, ScriptFlags::STANDARD.without(ScriptFlags::CLEANSTACK)), Ok(()));
    // A zero byte more in front of R, garbage behind S, a length in two bytes.
    let r_length = strict[3];
    let padded = [&[0x30, strict[1] + 1, 2, r_length + 1, 0][..], &strict[4..]].concat();
    let (der, hash_type) = strict.split_at(strict.len() - 1);
    let trailing = [der, &[0, 0], hash_type].concat();
    let long_length = [&[0x30, 0x81][..], &strict[1..]].concat();
    for loose in [padded, trailing, long_length] {
        assert_eq!(with(&loose, NONE), Ok(()), "{loose:02x?}");
        for flag in [ScriptFlags::DERSIG, ScriptFlags::STRICTENC, ScriptFlags::LOW_S] {
            assert_eq!(with(&loose, flag), Err(ScriptError::SigDer));
        }
    }
    // The empty signature is a false result, not a failure.
    assert_eq!(with(&[], ScriptFlags::DERSIG), Err(ScriptError::EvalFalse));
}

#[test]
fn trap_10_operands_have_four_bytes_lock_times_five_and_negative_zero_is_false() {
    assert_eq!(evaluate("2147483647 1ADD", "2147483648 EQUAL", NONE), Ok(()));
    assert_eq!(evaluate("2147483648 1ADD", "1", NONE), Err(ScriptError::ScriptNumber));
    assert_eq!(evaluate("-2147483647 1SUB SIZE", "5 EQUALVERIFY DROP 1", NONE), Ok(()));
    for zero in ["0x01 0x80", "0x02 0x0080", "0x01 0x00", "0"] {
        assert_eq!(evaluate(zero, "NOP", NONE), Err(ScriptError::EvalFalse), "{zero}");
        assert_eq!(evaluate(zero, "IF 0 ELSE 1 ENDIF", NONE), Ok(()), "{zero}");
    }
    let lock_time = |operand: &str, lock: u32| {
        let mut spend = Spend::of(script(&format!("{operand} CHECKLOCKTIMEVERIFY DROP 1")));
        spend.tx.lock_time = LockTime::from_consensus(lock);
        spend.tx.input[0].sequence = Sequence::ZERO;
        spend.verify(ScriptFlags::CHECKLOCKTIMEVERIFY)
    };
    assert_eq!(lock_time("4294967295", u32::MAX), Ok(()));
    assert_eq!(lock_time("4294967295", u32::MAX - 1), Err(ScriptError::UnsatisfiedLockTime));
    assert_eq!(lock_time("0x06 0x000000000000", u32::MAX), Err(ScriptError::ScriptNumber));
    assert_eq!(lock_time("-1", 0), Err(ScriptError::NegativeLockTime));
    // Heights and times do not compare.
    assert_eq!(lock_time("499999999", 500_000_000), Err(ScriptError::UnsatisfiedLockTime));
    assert_eq!(lock_time("500000000", 500_000_000), Ok(()));
}

#[test]
fn trap_11_checkmultisig_takes_one_item_too_many_in_order_and_counts_its_keys() {
    let (own, other) = (public_key(), {
        let key = SecretKey::from_slice(&[4; 32]).expect("a key");
        key.public_key(&Secp256k1::new()).serialize().to_vec()
    });
    let code = [script("2"), push(&own), push(&other), script("2 CHECKMULTISIG")].concat();
    let spend = Spend::of(code.clone());
    let digest = spend.spending().legacy_digest(0, &code, 1).expect("input 0");
    let by_own = sign(digest, 1);
    let by_other = {
        let key = SecretKey::from_slice(&[4; 32]).expect("a key");
        let signature = Secp256k1::new().sign_ecdsa(&Message::from_digest(digest), &key);
        [&signature.serialize_der()[..], &[1]].concat()
    };
    let with = |items: &[&[u8]], flags| {
        let script_sig: Vec<u8> = items.iter().flat_map(|item| push(item)).collect();
        spend.clone().script_sig(script_sig).verify(flags)
    };
    assert_eq!(with(&[&[], &by_own, &by_other], ScriptFlags::NULLDUMMY), Ok(()));
    assert_eq!(with(&[&[7], &by_own, &by_other], NONE), Ok(()));
    assert_eq!(with(&[&[7], &by_own, &by_other], ScriptFlags::NULLDUMMY), Err(ScriptError::SigNullDummy));
    assert_eq!(with(&[&by_own, &by_other], NONE), Err(ScriptError::InvalidStackOperation));
    assert_eq!(with(&[&[], &by_other, &by_own], NONE), Err(ScriptError::EvalFalse));
    assert_eq!(with(&[&[], &by_other, &by_own], ScriptFlags::NULLFAIL), Err(ScriptError::SigNullFail));

    // Each costs itself and its keys: nine times 21 and 12 more are 201.
    let twenty_keys = "0 0 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 20 CHECKMULTISIG ";
    let at_limit = twenty_keys.repeat(9) + &"NOP ".repeat(12);
    assert_eq!(evaluate("", &at_limit, NONE), Ok(()));
    assert_eq!(evaluate("", &(at_limit + "NOP"), NONE), Err(ScriptError::OpCount));
    assert_eq!(evaluate("", "0 0 21 CHECKMULTISIG", NONE), Err(ScriptError::PubkeyCount));
}

#[test]
fn trap_12_some_opcodes_fail_where_they_are_not_executed() {
    for disabled in [
        "CAT", "SUBSTR", "LEFT", "RIGHT", "INVERT", "AND", "OR", "XOR", "2MUL", "2DIV", "MUL", "DIV", "MOD", "LSHIFT",
        "RSHIFT",
    ] {
        let unexecuted = format!("0 IF {disabled} ENDIF 1");
        assert_eq!(evaluate("", &unexecuted, NONE), Err(ScriptError::DisabledOpcode), "{disabled}");
    }
    for always_bad in ["VERIF", "VERNOTIF"] {
        assert_eq!(evaluate("", &format!("0 IF {always_bad} ENDIF 1"), NONE), Err(ScriptError::BadOpcode));
    }
    for bad_when_executed in ["VER", "RESERVED", "RESERVED1", "RESERVED2", "RETURN", "0xba", "0xff"] {
        assert_eq!(evaluate("", &format!("0 IF {bad_when_executed} ENDIF 1"), NONE), Ok(()), "{bad_when_executed}");
        assert!(evaluate("", &format!("1 IF {bad_when_executed} ENDIF 1"), NONE).is_err(), "{bad_when_executed}");
    }
    let unexecuted_push =
        |length: usize| Spend::of([script("0 IF"), push(&vec![1; length]), script("ENDIF 1")].concat()).verify(NONE);
    assert_eq!(unexecuted_push(520), Ok(()));
    assert_eq!(unexecuted_push(521), Err(ScriptError::PushSize));
    // Even an unreachable truncated push spoils the script.
    assert_eq!(evaluate("", "1 0 IF ENDIF 0x05 0x01", NONE), Err(ScriptError::BadOpcode));
}

#[test]
fn script_size_and_stack_size_are_limited_exactly() {
    // 10,000 bytes: 1 and pushes that are dropped by nobody.
    let bytes = |size: usize| Spend::of([vec![0; size - 1], vec![0x51]].concat()).verify(NONE);
    assert_eq!(bytes(1_000), Ok(()));
    assert_eq!(bytes(1_001), Err(ScriptError::StackSize));
    let long = |size: usize| {
        let push_of_520 = [push(&[1; 520]), script("DROP")].concat();
        let mut script = push_of_520.repeat(19);
        script.resize(size - 1, 0x61);
        script.push(0x51);
        Spend::of(script).verify(NONE)
    };
    assert_eq!(long(10_000), Ok(()));
    assert_eq!(long(10_001), Err(ScriptError::ScriptSize));
    // The second stack counts too.
    let halves = [vec![0x51; 500], [0x6b].repeat(200), vec![0x51; 500]].concat();
    assert_eq!(Spend::of(halves.clone()).verify(NONE), Ok(()));
    assert_eq!(Spend::of([halves, vec![0x51]].concat()).verify(NONE), Err(ScriptError::StackSize));
}
