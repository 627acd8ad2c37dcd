//! What an observer of the interpreter is told. That it changes nothing is shown by every vector: `support::verified`.

use bitcoin::hashes::{Hash, hash160, sha256};
use leyden_consensus::script::ScriptFlags;

use crate::support::{Spend, Trace, push, script};

/// The lines of a verification, and whether it passed.
fn observed(spend: &Spend, flags: ScriptFlags) -> (Vec<String>, bool) {
    let mut trace = Trace::default();
    let passed = spend.spending().verify_input_observed(0, flags, &mut trace).is_ok();
    (trace.lines, passed)
}

#[test]
fn every_instruction_is_told_with_the_stacks_that_it_leaves() {
    let spend = Spend::of(script("IF TOALTSTACK 3 ELSE RETURN ENDIF FROMALTSTACK NUMEQUAL")).script_sig(script("3 1"));
    let (lines, passed) = observed(&spend, ScriptFlags::CONSENSUS);
    let expected = [
        "InputScript: ",
        "53",
        "= 03 | ",
        "51",
        "= 03 01 | ",
        "OutputScript: 03 01",
        "63",
        "= 03 | ",
        "6b",
        "=  | 03",
        "53",
        "= 03 | 03",
        "67",
        "= 03 | 03",
        "6a skipped",
        "= 03 | 03",
        "68 skipped",
        "= 03 | 03",
        "6c",
        "= 03 03 | ",
        "9c",
        "= 01 | ",
    ];
    assert_eq!((lines, passed), (expected.map(str::to_owned).to_vec(), true));
}

#[test]
fn what_fails_is_told_and_not_executed() {
    let (lines, passed) = observed(&Spend::of(script("1 VERIFY 0 VERIFY 1")), ScriptFlags::CONSENSUS);
    assert_eq!((lines.last().map(String::as_str), passed), (Some("69"), false), "{lines:?}");
}

#[test]
fn each_script_of_a_nested_program_is_a_stage() {
    let witness_script = script("NUMEQUAL");
    let program = [&[0, 32][..], sha256::Hash::hash(&witness_script).as_byte_array()].concat();
    let output = [&[0xa9, 20][..], hash160::Hash::hash(&program).as_byte_array(), &[0x87]].concat();
    let items = [vec![7], vec![7], witness_script];
    let (lines, passed) =
        observed(&Spend::of(output).script_sig(push(&program)).witness(&items), ScriptFlags::CONSENSUS);
    let stages: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(stages, ["InputScript", "OutputScript", "RedeemScript", "WitnessScript"], "{lines:?}");
    assert!(passed && lines.contains(&"WitnessScript: 07 07".to_owned()), "{lines:?}");
}

#[test]
fn what_is_not_checked_is_told() {
    let (lines, passed) = observed(&Spend::of(script("1 0x02 0x4e73")), ScriptFlags::CONSENSUS);
    assert!(passed && lines.last().is_some_and(|line| line.starts_with("AnyoneCanSpend")), "{lines:?}");
}
