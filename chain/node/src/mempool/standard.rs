//! What is relayed of all that is valid: forms whose cost is known and whose meaning cannot change under a later rule.
//!
//! The limits are Bitcoin Core's (`policy/policy.h`), so that its peers relay what we relay.
//!
//! Forms that the `bitcoin` crate recognises byte by byte as Bitcoin Core does are taken from it: `is_p2sh`, `is_p2wsh`,
//! `is_p2wpkh`, `is_p2tr`, `is_p2pkh`, `witness_version`, `is_op_return`, `is_push_only`, and the reading of a script
//! into instructions. Not taken: counts of signature operations (consensus has them), pay-to-public-key (the library
//! does not look at the key), bare multisig, dust limits. A wrong answer here costs relay, never a chain split.

use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_PUSHNUM_1, OP_PUSHNUM_16};
use bitcoin::script::Instruction;
use bitcoin::{Amount, Script, Transaction, TxIn, TxOut, Weight};
use leyden_consensus::script::sigops;

use super::policy::MempoolPolicy;
use super::rate::fee_at;
use crate::error::NonStandard;

const MAX_WEIGHT: u64 = 400_000;
const MIN_BYTES_WITHOUT_WITNESS: usize = 65;
const MAX_SCRIPT_SIG_BYTES: usize = 1650;
const MAX_BARE_MULTISIG_KEYS: usize = 3;
const MAX_P2SH_SIGOPS: u64 = 15;
const MAX_SIGOP_COST: u64 = 16_000;
const MAX_LEGACY_SIGOPS: u64 = 2_500;
const MAX_WITNESS_SCRIPT_BYTES: usize = 3_600;
const MAX_WITNESS_ITEMS: usize = 100;
const MAX_WITNESS_ITEM_BYTES: usize = 80;
/// A signature operation counts as this many bytes, so that blocks fill up in both measures alike.
const BYTES_PER_SIGOP: u64 = 20;
const ANNEX_TAG: u8 = 0x50;
const TAPSCRIPT_LEAF: u8 = 0xc0;
const LEAF_MASK: u8 = 0xfe;
/// Outputs below the dust limit that one transaction may have, if its child spends them (ephemeral dust).
const MAX_DUST_OUTPUTS: usize = 1;

/// Virtual size that fees are measured against.
pub fn virtual_bytes(weight: Weight, sigop_cost: u64) -> u64 {
    weight.to_wu().max(sigop_cost.saturating_mul(BYTES_PER_SIGOP)).div_ceil(4)
}

/// The form of a transaction, as far as it shows without the outputs that it spends.
pub fn check_transaction(transaction: &Transaction, policy: &MempoolPolicy) -> Result<(), NonStandard> {
    let version = transaction.version.0;
    if !(1..=3).contains(&version) {
        return Err(NonStandard::Version(version));
    }
    let weight = transaction.weight().to_wu();
    if weight > MAX_WEIGHT {
        return Err(NonStandard::Weight { weight, limit: MAX_WEIGHT });
    }
    for (input, spent) in transaction.input.iter().enumerate() {
        let bytes = spent.script_sig.len();
        if bytes > MAX_SCRIPT_SIG_BYTES {
            return Err(NonStandard::ScriptSigSize { input, bytes });
        }
        if !spent.script_sig.is_push_only() {
            return Err(NonStandard::ScriptSigNotPushOnly { input });
        }
    }
    let mut data_bytes = 0usize;
    for (output, created) in transaction.output.iter().enumerate() {
        match OutputKind::of(&created.script_pubkey) {
            OutputKind::Data => data_bytes = data_bytes.saturating_add(created.script_pubkey.len()),
            OutputKind::ScriptHash
            | OutputKind::UnknownWitness
            | OutputKind::Anchor
            | OutputKind::Taproot
            | OutputKind::WitnessScriptHash
            | OutputKind::Other => {}
            OutputKind::NonStandard => return Err(NonStandard::OutputScript { output }),
        }
    }
    if data_bytes > policy.max_data_bytes {
        return Err(NonStandard::DataCarrier { bytes: data_bytes, limit: policy.max_data_bytes });
    }
    let mut dust = dust_outputs(transaction, policy).skip(MAX_DUST_OUTPUTS);
    if let Some((output, amount, minimum)) = dust.next() {
        return Err(NonStandard::Dust { output, amount, minimum });
    }
    Ok(())
}

/// A transaction of exactly 64 bytes could stand for an inner node of a merkle tree; smaller ones are of no use.
/// This holds even where other standardness is waived.
pub fn check_size(transaction: &Transaction) -> Result<(), NonStandard> {
    let bytes = transaction.base_size();
    if bytes < MIN_BYTES_WITHOUT_WITNESS {
        return Err(NonStandard::TooSmall { bytes, minimum: MIN_BYTES_WITHOUT_WITNESS });
    }
    Ok(())
}

/// The form of what is spent, and of the witnesses that spend it. `spent` is in the order of the inputs.
pub fn check_inputs(transaction: &Transaction, spent: &[TxOut]) -> Result<(), NonStandard> {
    let mut legacy_sigops = 0u64;
    for (index, (input, output)) in transaction.input.iter().zip(spent).enumerate() {
        let script = &output.script_pubkey;
        // BIP 54 counts what runs: the input script, the spent script, and the redeem script, each accurately.
        let mut sigops =
            sigops::accurate(input.script_sig.as_bytes()).saturating_add(sigops::accurate(script.as_bytes()));
        match OutputKind::of(script) {
            OutputKind::NonStandard | OutputKind::UnknownWitness | OutputKind::Data => {
                return Err(NonStandard::InputScript { input: index });
            }
            OutputKind::ScriptHash => {
                let redeem = redeem_script(input).ok_or(NonStandard::InputScript { input: index })?;
                let inner = sigops::accurate(redeem.as_bytes());
                if inner > MAX_P2SH_SIGOPS {
                    return Err(NonStandard::InputScript { input: index });
                }
                sigops = sigops.saturating_add(inner);
            }
            OutputKind::Anchor | OutputKind::Taproot | OutputKind::WitnessScriptHash | OutputKind::Other => {}
        }
        legacy_sigops = legacy_sigops.saturating_add(sigops);
        if legacy_sigops > MAX_LEGACY_SIGOPS {
            return Err(NonStandard::LegacySigops { count: legacy_sigops, limit: MAX_LEGACY_SIGOPS });
        }
        if !input.witness.is_empty() && !is_witness_standard(input, script) {
            return Err(NonStandard::Witness { input: index });
        }
    }
    Ok(())
}

/// A transaction may not use up a large part of a block's signature operations: a fifth. This holds even where other
/// standardness is waived.
pub fn check_sigop_cost(cost: u64) -> Result<(), NonStandard> {
    if cost > MAX_SIGOP_COST {
        return Err(NonStandard::SigopCost { cost, limit: MAX_SIGOP_COST });
    }
    Ok(())
}

/// Outputs that hold less than it costs to spend them: index, amount, and the least that would do.
pub fn dust_outputs<'a>(
    transaction: &'a Transaction,
    policy: &'a MempoolPolicy,
) -> impl Iterator<Item = (usize, Amount, Amount)> + 'a {
    transaction.output.iter().enumerate().filter_map(|(index, output)| {
        let minimum = dust_limit(output, policy);
        (output.value < minimum).then_some((index, output.value, minimum))
    })
}

/// The least amount that is not dust: what creating and spending the output cost at the dust relay rate.
pub fn dust_limit(output: &TxOut, policy: &MempoolPolicy) -> Amount {
    let script = &output.script_pubkey;
    if script.is_op_return() {
        return Amount::ZERO;
    }
    /// An input of 148 bytes: outpoint, script length, 107 bytes of signature and key, sequence.
    const SPEND: u64 = 148;
    /// An input whose signature and key are witness: 67 virtual bytes.
    const WITNESS_SPEND: u64 = 67;
    let spend = if script.is_witness_program() { WITNESS_SPEND } else { SPEND };
    let created = u64::try_from(output.size()).unwrap_or(u64::MAX);
    fee_at(policy.dust_relay, created.saturating_add(spend))
}

/// Is this the output that anybody may spend with nothing (BIP 433)?
pub fn is_anchor(script: &Script) -> bool {
    const ANCHOR: [u8; 4] = [0x51, 0x02, 0x4e, 0x73];
    script.as_bytes() == ANCHOR
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputKind {
    ScriptHash,
    WitnessScriptHash,
    Taproot,
    Anchor,
    /// A witness program that a later rule may give a meaning.
    UnknownWitness,
    Data,
    /// Public key, its hash, witness public key hash, or a small bare multisig.
    Other,
    NonStandard,
}

impl OutputKind {
    fn of(script: &Script) -> Self {
        if script.is_p2sh() {
            Self::ScriptHash
        } else if script.is_p2wsh() {
            Self::WitnessScriptHash
        } else if script.is_p2tr() {
            Self::Taproot
        } else if is_anchor(script) {
            Self::Anchor
        } else if script.is_p2wpkh() || script.is_p2pkh() || is_public_key(script) || is_small_multisig(script) {
            Self::Other
        } else if let Some(version) = script.witness_version() {
            // Version 0 has no other programs than those above.
            if version == bitcoin::WitnessVersion::V0 { Self::NonStandard } else { Self::UnknownWitness }
        } else if script.is_op_return() && is_push_only_after_first(script) {
            Self::Data
        } else {
            Self::NonStandard
        }
    }
}

/// Pay to a public key whose first byte goes with its length. (The library looks at the length alone.)
pub fn is_public_key(script: &Script) -> bool {
    match script.as_bytes() {
        [33, 2 | 3, rest @ ..] => rest.len() == 33 && rest.ends_with(&[OP_CHECKSIG.to_u8()]),
        [65, 4 | 6 | 7, rest @ ..] => rest.len() == 65 && rest.ends_with(&[OP_CHECKSIG.to_u8()]),
        _ => false,
    }
}

fn is_push_only_after_first(script: &Script) -> bool {
    script.as_bytes().get(1..).is_some_and(|rest| Script::from_bytes(rest).is_push_only())
}

fn is_small_multisig(script: &Script) -> bool {
    let mut keys = 0usize;
    let mut numbers = Vec::new();
    let mut ended = false;
    for instruction in script.instructions() {
        let Ok(instruction) = instruction else { return false };
        match instruction {
            Instruction::PushBytes(key) if numbers.len() == 1 && !ended => {
                if !matches!((key.len(), key.as_bytes().first()), (33, Some(2 | 3)) | (65, Some(4 | 6 | 7))) {
                    return false;
                }
                keys = keys.saturating_add(1);
            }
            Instruction::Op(op) if (OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(&op.to_u8()) => {
                numbers.push(usize::from(op.to_u8().saturating_sub(OP_PUSHNUM_1.to_u8())).saturating_add(1));
            }
            Instruction::Op(OP_CHECKMULTISIG) if !ended => ended = true,
            Instruction::PushBytes(_) | Instruction::Op(_) => return false,
        }
    }
    matches!(numbers[..], [needed, total] if ended && total == keys && needed <= total && total <= MAX_BARE_MULTISIG_KEYS)
        && script.as_bytes().last() == Some(&OP_CHECKMULTISIG.to_u8())
}

/// The script that a pay-to-script-hash input reveals: the last thing that its signature script pushes. A number opcode
/// pushes a byte or nothing, which as a script holds no signature operation and is no witness program.
fn redeem_script(input: &TxIn) -> Option<&Script> {
    let script_sig = input.script_sig.as_bytes();
    if script_sig.is_empty() { None } else { sigops::last_push(script_sig).map(Script::from_bytes) }
}

fn is_witness_standard(input: &TxIn, script: &Script) -> bool {
    if is_anchor(script) {
        return false;
    }
    let (program, wrapped) = if script.is_p2sh() {
        match redeem_script(input) {
            Some(redeem) => (redeem, true),
            None => return false,
        }
    } else {
        (script, false)
    };
    if !program.is_witness_program() {
        return false;
    }
    let small = |items: &[&[u8]]| items.iter().all(|item| item.len() <= MAX_WITNESS_ITEM_BYTES);
    let items: Vec<&[u8]> = input.witness.iter().collect();
    if program.is_p2wsh() {
        let Some((witness_script, arguments)) = items.split_last() else { return false };
        return witness_script.len() <= MAX_WITNESS_SCRIPT_BYTES
            && arguments.len() <= MAX_WITNESS_ITEMS
            && small(arguments);
    }
    if program.is_p2tr() && !wrapped {
        if items.len() >= 2 && items.last().is_some_and(|last| last.first() == Some(&ANNEX_TAG)) {
            return false;
        }
        return match &items[..] {
            [] => false,
            [_] => true,
            [arguments @ .., _, control] => match control.first() {
                None => false,
                Some(leaf) if leaf & LEAF_MASK == TAPSCRIPT_LEAF => small(arguments),
                Some(_) => true,
            },
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hex::FromHex;
    use bitcoin::{ScriptBuf, Witness, absolute, transaction::Version};

    fn output(hex: &str, sat: u64) -> TxOut {
        TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::from_bytes(Vec::from_hex(hex).unwrap()) }
    }

    fn transaction(output: Vec<TxOut>) -> Transaction {
        Transaction { version: Version::TWO, lock_time: absolute::LockTime::ZERO, input: vec![TxIn::default()], output }
    }

    const P2WPKH: &str = "00140000000000000000000000000000000000000000";
    const P2PKH: &str = "76a914000000000000000000000000000000000000000088ac";
    const P2TR: &str = "51200000000000000000000000000000000000000000000000000000000000000000";
    const P2A: &str = "51024e73";

    #[test]
    fn dust_limits_are_the_known_ones() {
        let policy = MempoolPolicy::default();
        for (script, limit) in [(P2WPKH, 294), (P2PKH, 546), (P2TR, 330), (P2A, 240), ("6a", 0)] {
            assert_eq!(dust_limit(&output(script, 0), &policy), Amount::from_sat(limit), "{script}");
        }
    }

    #[test]
    fn known_output_scripts_are_standard() {
        let key = format!("02{}", "11".repeat(32));
        let multisig = |needed: u8, keys: usize| {
            let total = 0x50 + keys;
            format!("{:02x}{}{total:02x}ae", 0x50 + needed, format!("21{key}").repeat(keys))
        };
        let witness_v16 = "60020101";
        for script in [P2WPKH, P2PKH, P2TR, P2A, witness_v16, &multisig(1, 2), &multisig(3, 3), &format!("21{key}ac")] {
            let result = check_transaction(&transaction(vec![output(script, 10_000)]), &MempoolPolicy::default());
            assert_eq!(result, Ok(()), "{script}");
        }
        let (long, wrong) = (format!("41{}{}ac", key, "11".repeat(32)), format!("2104{}ac", "11".repeat(32)));
        for script in ["", "51", "0002aabb", &multisig(1, 4), &multisig(3, 2), "6a4c", "6aac", &long, &wrong] {
            let result = check_transaction(&transaction(vec![output(script, 10_000)]), &MempoolPolicy::default());
            assert_eq!(result, Err(NonStandard::OutputScript { output: 0 }), "{script}");
        }
    }

    #[test]
    fn a_key_is_paid_to_if_its_first_byte_goes_with_its_length() {
        for (first, length, standard) in [
            (2, 33, true),
            (3, 33, true),
            (4, 33, false),
            (0, 33, false),
            (4, 65, true),
            (6, 65, true),
            (7, 65, true),
            (5, 65, false),
            (2, 65, false),
            (2, 34, false),
        ] {
            let mut script = vec![length, first];
            script.extend(vec![0x11; usize::from(length) - 1]);
            script.push(OP_CHECKSIG.to_u8());
            assert_eq!(is_public_key(Script::from_bytes(&script)), standard, "{first} {length}");
            script.push(OP_CHECKSIG.to_u8());
            assert!(!is_public_key(Script::from_bytes(&script)));
        }
    }

    #[test]
    fn a_redeem_script_has_15_operations_each_checkmultisig_by_the_number_directly_before_it() {
        let spent = output("a914000000000000000000000000000000000000000087", 1_000);
        let multisig = OP_CHECKMULTISIG.to_u8();
        for (redeem, standard) in [
            (vec![0x5f, multisig], true),
            (vec![0x60, multisig], false),
            // One key, and 20 that nobody said a number for.
            (vec![0x51, multisig, multisig], false),
            (vec![0x51, multisig, 0x51, multisig], true),
        ] {
            let mut tx = transaction(vec![output(P2WPKH, 500)]);
            let push = bitcoin::script::PushBytesBuf::try_from(redeem.clone()).unwrap();
            tx.input[0].script_sig = bitcoin::script::Builder::new().push_slice(push).into_script();
            assert_eq!(check_inputs(&tx, std::slice::from_ref(&spent)).is_ok(), standard, "{redeem:?}");
        }
    }

    #[test]
    fn one_dust_output_may_pass_and_a_second_may_not() {
        let policy = MempoolPolicy::default();
        assert_eq!(check_transaction(&transaction(vec![output(P2A, 0)]), &policy), Ok(()));
        let two = transaction(vec![output(P2A, 0), output(P2A, 0)]);
        assert!(matches!(check_transaction(&two, &policy), Err(NonStandard::Dust { output: 1, .. })));
    }

    #[test]
    fn versions_outside_one_to_three_are_not_standard() {
        let policy = MempoolPolicy::default();
        for (version, standard) in [(0, false), (1, true), (2, true), (3, true), (4, false), (-1, false)] {
            let mut tx = transaction(vec![output(P2WPKH, 10_000)]);
            tx.version = Version(version);
            assert_eq!(check_transaction(&tx, &policy).is_ok(), standard, "{version}");
        }
    }

    #[test]
    fn witnesses_beyond_the_limits_are_not_standard() {
        let p2wsh = output(&format!("0020{}", "00".repeat(32)), 1_000);
        let p2tr = output(P2TR, 1_000);
        let p2a = output(P2A, 1_000);
        let cases: [(&TxOut, Vec<Vec<u8>>, bool); 10] = [
            (&p2wsh, vec![vec![1; 80], vec![1; 3600]], true),
            (&p2wsh, vec![vec![1; 81], vec![1; 10]], false),
            (&p2wsh, vec![vec![1; 3601]], false),
            (&p2wsh, vec![vec![]; 102], false),
            (&p2tr, vec![vec![1; 64]], true),
            (&p2tr, vec![vec![1; 64], vec![0x50]], false),
            (&p2tr, vec![vec![1; 80], vec![1; 500], vec![0xc0; 33]], true),
            (&p2tr, vec![vec![1; 81], vec![1; 500], vec![0xc0; 33]], false),
            (&p2tr, vec![vec![1; 10], vec![]], false),
            (&p2a, vec![vec![1]], false),
        ];
        for (index, (spent, witness, standard)) in cases.into_iter().enumerate() {
            let mut tx = transaction(vec![output(P2WPKH, 500)]);
            tx.input[0].witness = Witness::from_slice(&witness);
            assert_eq!(check_inputs(&tx, std::slice::from_ref(spent)).is_ok(), standard, "case {index}");
        }
    }
}
