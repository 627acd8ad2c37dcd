//! Random scripts and witnesses: whatever they are, they give a result and never a panic, and more rules never pass
//! what fewer rules fail.

use bitcoin::hashes::{Hash, hash160, sha256};
use leyden_consensus::script::{ScriptFlags, opcodes};
use proptest::prelude::*;

use crate::support::{Spend, filled, push, trimmed};

/// Bytes that are often opcodes with an effect, numbers or pushes, and sometimes anything.
fn random_script() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        6 => (0..opcodes::NAMED.len()).prop_map(|index| vec![opcodes::NAMED[index].1]),
        4 => (0x51u8..=0x60).prop_map(|opcode| vec![opcode]),
        3 => prop::collection::vec(any::<u8>(), 0..6).prop_map(|data| push(&data)),
        1 => prop::collection::vec(any::<u8>(), 64..67).prop_map(|data| push(&data)),
        1 => prop::collection::vec(any::<u8>(), 32..34).prop_map(|data| push(&data)),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

fn random_items() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..6)
}

fn check(spend: &Spend, bits: u32) -> Result<(), TestCaseError> {
    let flags = filled(ScriptFlags::from_bits_truncate(bits));
    let result = spend.verify(flags);
    let fewer = trimmed(flags & ScriptFlags::CONSENSUS);
    if result.is_ok() {
        prop_assert_eq!(spend.verify(fewer), Ok(()), "passes with {:?} only", flags);
    }
    prop_assert_eq!(spend.verify(flags), result, "the same question has the same answer");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn bare_scripts(
        script_sig in random_script(),
        script_pubkey in random_script(),
        items in random_items(),
        bits in any::<u32>(),
    ) {
        check(&Spend::of(script_pubkey).script_sig(script_sig).witness(&items), bits)?;
    }

    #[test]
    fn arbitrary_bytes(
        script_sig in prop::collection::vec(any::<u8>(), 0..100),
        script_pubkey in prop::collection::vec(any::<u8>(), 0..100),
        bits in any::<u32>(),
    ) {
        check(&Spend::of(script_pubkey).script_sig(script_sig), bits)?;
    }

    #[test]
    fn pay_to_script_hash(redeem in random_script(), items in random_items(), bits in any::<u32>()) {
        prop_assume!(redeem.len() <= 520);
        let hash = hash160::Hash::hash(&redeem).to_byte_array();
        let script_sig: Vec<u8> = items.iter().chain([&redeem]).flat_map(|item| push(item)).collect();
        let script_pubkey = [&[0xa9, 20][..], &hash, &[0x87]].concat();
        check(&Spend::of(script_pubkey).script_sig(script_sig), bits)?;
    }

    #[test]
    fn witness_scripts(script in random_script(), items in random_items(), bits in any::<u32>()) {
        let hash = sha256::Hash::hash(&script).to_byte_array();
        let items: Vec<_> = items.into_iter().chain([script]).collect();
        let flags = bits | 1 << 11;
        check(&Spend::of([&[0, 32][..], &hash].concat()).witness(&items), flags)?;
    }

    #[test]
    fn tapscripts(script in random_script(), items in random_items(), annex in any::<bool>(), bits in any::<u32>()) {
        let (script_pubkey, control) = crate::traps_witness::taproot_leaf(&script);
        let mut items: Vec<_> = items.into_iter().chain([script, control]).collect();
        if annex {
            items.push(vec![0x50, 1, 2, 3]);
        }
        let flags = bits | 1 << 11 | 1 << 17;
        check(&Spend::of(script_pubkey).witness(&items), flags)?;
    }

    #[test]
    fn arbitrary_witness_programs(
        version in 0u8..=16,
        program in prop::collection::vec(any::<u8>(), 2..=40),
        items in random_items(),
        bits in any::<u32>(),
    ) {
        let opcode = if version == 0 { 0 } else { 0x50 + version };
        let script_pubkey = [&[opcode, program.len() as u8][..], &program].concat();
        check(&Spend::of(script_pubkey).witness(&items), bits | 1 << 11 | 1 << 17)?;
    }
}
