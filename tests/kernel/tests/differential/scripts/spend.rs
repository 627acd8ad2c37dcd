//! Outputs of every kind, and inputs that spend them.

use bitcoin::hashes::{Hash, hash160, sha256};
use bitcoin::{ScriptBuf, Witness};
use leyden_consensus::script::opcodes::{
    OP_0, OP_1, OP_2DROP, OP_CHECKSIG, OP_DROP, OP_DUP, OP_EQUAL, OP_EQUALVERIFY, OP_HASH160, OP_PUSHDATA1, push_number,
};
use secp256k1::Scalar;

use super::keys::{KEYS, Keys};
use super::program::{Dialect, EmbeddedForm, Item, Locks, Program, Writer};
use super::signature::{Fault, Place, Signature, TaprootPlace, leaf_hash, push_of, tagged};
use crate::draw::Draw;

/// How an output is to be spent, before anything is signed.
pub struct Spend {
    pub script_pubkey: ScriptBuf,
    kind: Kind,
}

enum Kind {
    /// Pay to public key hash, or to whatever the program says.
    Bare(Program),
    ScriptHash(Program),
    KeyHash {
        signature: Signature,
        key: Vec<u8>,
    },
    WitnessKeyHash {
        signature: Signature,
        key: Vec<u8>,
        nested: Option<Vec<u8>>,
    },
    WitnessScript {
        program: Program,
        nested: Option<Vec<u8>>,
    },
    TaprootKey {
        signature: Signature,
        tweak: Option<Scalar>,
        annex: Option<Vec<u8>>,
    },
    TaprootScript {
        program: Program,
        version: u8,
        control: Vec<u8>,
        annex: Option<Vec<u8>>,
    },
    /// A program of a version without rules, or of a length without rules.
    Unknown {
        nested: Option<Vec<u8>>,
        items: Vec<Vec<u8>>,
    },
}

impl Spend {
    pub fn draw(draw: &mut Draw, keys: &Keys, locks: Locks) -> Self {
        match draw.below(24) {
            0..=3 => {
                let program = Writer::new(draw, keys, Dialect::Legacy, locks).program();
                Self { script_pubkey: program.script.clone().into(), kind: Kind::Bare(program) }
            }
            4..=6 => {
                let program = Writer::new(draw, keys, Dialect::Legacy, locks).program();
                // The signature that goes into this one is not known yet.
                let program = Program { embedded: None, ..program };
                let script_pubkey = pay_to_script_hash(&program.script);
                Self { script_pubkey, kind: Kind::ScriptHash(program) }
            }
            7 | 8 => {
                let (signature, key) = key_spend(draw, keys);
                let hash = hash160::Hash::hash(&key).to_byte_array();
                let script = [&[OP_DUP, OP_HASH160][..], &push_of(&hash), &[OP_EQUALVERIFY, OP_CHECKSIG]].concat();
                Self { script_pubkey: script.into(), kind: Kind::KeyHash { signature, key } }
            }
            9..=11 => {
                let (signature, key) = key_spend(draw, keys);
                let output = witness_program(0, hash160::Hash::hash(&key).as_byte_array());
                Self::nested(draw, output, |nested| Kind::WitnessKeyHash { signature, key, nested })
            }
            12..=15 => {
                let program = Writer::new(draw, keys, Dialect::WitnessV0, locks).program();
                let output = witness_program(0, sha256::Hash::hash(&program.script).as_byte_array());
                Self::nested(draw, output, |nested| Kind::WitnessScript { program, nested })
            }
            16..=18 => Self::taproot_key(draw, keys),
            19..=22 => Self::taproot_script(draw, keys, locks),
            _ => {
                let (version, length) = match draw.below(4) {
                    0 => (0, draw.pick(&[2, 19, 21, 31, 33, 40])),
                    1 => (1, draw.pick(&[2, 31, 33, 40])),
                    2 => (1, 32),
                    _ => (draw.within(2, 16), draw.pick(&[1, 2, 32, 40, 41])),
                };
                let output = witness_program(version as u8, &draw.bytes(length));
                let items = (0..draw.below(3)).map(|_| draw.bytes(4)).collect();
                Self::nested(draw, output, |nested| Kind::Unknown { nested, items })
            }
        }
    }

    /// Whether the output script is known before the signature is.
    pub fn is_complete(&self) -> bool {
        !matches!(&self.kind, Kind::Bare(program) if program.embedded.is_some())
    }

    /// Inside a pay-to-script-hash output, sometimes.
    fn nested(draw: &mut Draw, output: Vec<u8>, kind: impl FnOnce(Option<Vec<u8>>) -> Kind) -> Self {
        if draw.percent(35) {
            Self { script_pubkey: pay_to_script_hash(&output), kind: kind(Some(output)) }
        } else {
            Self { script_pubkey: output.into(), kind: kind(None) }
        }
    }

    fn taproot_key(draw: &mut Draw, keys: &Keys) -> Self {
        let key = draw.below(KEYS);
        let tweak = draw.percent(50).then(|| {
            let root = if draw.percent(50) { draw.bytes(32) } else { Vec::new() };
            tweak(&keys.x_only(key), &root)
        });
        let output = match tweak {
            Some(tweak) => keys.tweaked(key, tweak).0.to_vec(),
            None => keys.x_only(key),
        };
        let fault = if draw.percent(30) { Fault::draw(draw) } else { Fault::None };
        let hash_type = draw.pick(&[0, 0, 1, 2, 3, 0x81, 0x82, 0x83, 4, 0x80, 0xff]);
        let signature = Signature { key, hash_type, separator: None, fault };
        let annex = draw_annex(draw);
        let script_pubkey = witness_program(1, &output).into();
        Self { script_pubkey, kind: Kind::TaprootKey { signature, tweak, annex } }
    }

    fn taproot_script(draw: &mut Draw, keys: &Keys, locks: Locks) -> Self {
        let mut program = Writer::new(draw, keys, Dialect::Tapscript, locks).program();
        if draw.percent(4) {
            program = any_success(draw, &program.script);
        }
        let version = if draw.percent(85) { 0xc0 } else { draw.pick(&[0xc2, 0x00, 0x50, 0x66, 0xfe, 0xbe]) };
        let depth = if draw.percent(8) { draw.near(128) } else { draw.below(4) };
        let key = draw.below(KEYS);
        let mut path = Vec::new();
        let mut node = leaf_hash(version, &program.script).to_byte_array();
        for _ in 0..depth {
            let sibling = draw.bytes(32);
            let mut pair = [node.to_vec(), sibling.clone()];
            pair.sort();
            node = tagged(b"TapBranch", &pair.concat());
            path.extend(sibling);
        }
        let (output, odd) = keys.tweaked(key, tweak(&keys.x_only(key), &node));
        let mut control = vec![version | u8::from(odd)];
        control.extend(keys.x_only(key));
        control.extend(path);
        match draw.below(25) {
            0 => control[0] ^= 1,
            1 => control[0] ^= 2,
            2 => control.push(0),
            3 => drop(control.pop()),
            4 => control[20] ^= 1,
            _ => {}
        }
        let annex = draw_annex(draw);
        let script_pubkey = witness_program(1, &output).into();
        Self { script_pubkey, kind: Kind::TaprootScript { program, version, control, annex } }
    }

    /// The input script and the witness that spend it, and the output script if that changes with the signature.
    pub fn sign(&self, place: &Place<'_>, keys: &Keys) -> Signed {
        match &self.kind {
            Kind::Bare(program) => {
                let (items, embedded) = legacy_items(program, place, keys);
                let script_pubkey = embedded.map(|(offset, bytes)| {
                    let (before, after) = program.script.split_at(offset);
                    [before, &bytes, after].concat().into()
                });
                Signed { script_sig: pushes(&items).into(), witness: Witness::new(), script_pubkey }
            }
            Kind::ScriptHash(program) => {
                let (mut items, _) = legacy_items(program, place, keys);
                items.push(program.script.clone());
                Signed::legacy(pushes(&items))
            }
            Kind::KeyHash { signature, key } => {
                let code = self.script_pubkey.as_bytes();
                Signed::legacy(pushes(&[signature.legacy(place, keys, code), key.clone()]))
            }
            Kind::WitnessKeyHash { signature, key, nested } => {
                let hash = hash160::Hash::hash(key).to_byte_array();
                let code = [&[OP_DUP, OP_HASH160][..], &push_of(&hash), &[OP_EQUALVERIFY, OP_CHECKSIG]].concat();
                Signed::witness(vec![signature.witness_v0(place, keys, &code), key.clone()], nested.as_ref())
            }
            Kind::WitnessScript { program, nested } => {
                let mut items = all_items(program, |signature| signature.witness_v0(place, keys, &program.script));
                items.push(program.script.clone());
                Signed::witness(items, nested.as_ref())
            }
            Kind::TaprootKey { signature, tweak, annex } => {
                let taproot = TaprootPlace { annex: annex.as_deref(), leaf: None, tweak: *tweak };
                let mut items = vec![signature.taproot(place, keys, &taproot)];
                items.extend(annex.clone());
                Signed::witness(items, None)
            }
            Kind::TaprootScript { program, version, control, annex } => {
                let leaf = Some(leaf_hash(*version, &program.script));
                let taproot = TaprootPlace { annex: annex.as_deref(), leaf, tweak: None };
                let mut items = all_items(program, |signature| signature.taproot(place, keys, &taproot));
                items.extend([program.script.clone(), control.clone()]);
                items.extend(annex.clone());
                Signed::witness(items, None)
            }
            Kind::Unknown { nested, items } => Signed::witness(items.clone(), nested.as_ref()),
        }
    }
}

/// What spends an output.
pub struct Signed {
    pub script_sig: ScriptBuf,
    pub witness: Witness,
    pub script_pubkey: Option<ScriptBuf>,
}

impl Signed {
    fn legacy(script_sig: Vec<u8>) -> Self {
        Self { script_sig: script_sig.into(), witness: Witness::new(), script_pubkey: None }
    }

    fn witness(items: Vec<Vec<u8>>, nested: Option<&Vec<u8>>) -> Self {
        let script_sig = nested.map_or(Vec::new(), |script| push_of(script)).into();
        Self { script_sig, witness: Witness::from_slice(&items), script_pubkey: None }
    }
}

/// A script that passes whatever comes with it: what no rule but the block's weight bounds.
fn any_success(draw: &mut Draw, script: &[u8]) -> Program {
    let opcode = draw.pick(&[0x50, 0x62, 0x7e, 0x81, 0x83, 0x8d, 0x95, 0xbb, 0xfe]);
    let before = script.get(..draw.below(script.len() + 1)).unwrap_or_default();
    let items = match draw.below(100) {
        0 => vec![Vec::new(); 500_001],
        1 => vec![vec![1; 400_000]],
        2..=20 => vec![Vec::new(); draw.near(1_000)],
        21..=40 => vec![vec![1; draw.near(520)]],
        _ => Vec::new(),
    };
    let script = [before, &[opcode], &draw.bytes(3)].concat();
    Program { script, items: items.into_iter().map(Item::Bytes).collect(), embedded: None }
}

fn key_spend(draw: &mut Draw, keys: &Keys) -> (Signature, Vec<u8>) {
    let key = draw.below(KEYS);
    let fault = if draw.percent(25) { Fault::draw(draw) } else { Fault::None };
    let hash_type =
        if draw.percent(60) { 1 } else { draw.pick(&[0, 2, 3, 0x81, 0x82, 0x83, 4, 0x23, 0x80, 0xe3, 0xff]) };
    let bytes = if draw.percent(85) { keys.compressed(key) } else { keys.uncompressed(key) };
    (Signature { key, hash_type, separator: None, fault }, bytes)
}

fn draw_annex(draw: &mut Draw) -> Option<Vec<u8>> {
    if draw.percent(85) {
        return None;
    }
    let mut annex = vec![if draw.percent(85) { 0x50 } else { 0x51 }];
    let length = draw.pick(&[0, 1, 40, 252, 253]);
    annex.extend(draw.bytes(length));
    Some(annex)
}

fn tweak(x_only: &[u8], root: &[u8]) -> Scalar {
    Scalar::from_be_bytes(tagged(b"TapTweak", &[x_only, root].concat())).expect("below the order")
}

fn witness_program(version: u8, program: &[u8]) -> Vec<u8> {
    let opcode = if version == 0 { OP_0 } else { OP_1 - 1 + version };
    [&[opcode][..], &push_of(program)].concat()
}

fn pay_to_script_hash(script: &[u8]) -> ScriptBuf {
    [&[OP_HASH160][..], &push_of(hash160::Hash::hash(script).as_byte_array()), &[OP_EQUAL]].concat().into()
}

fn all_items(program: &Program, sign: impl Fn(&Signature) -> Vec<u8>) -> Vec<Vec<u8>> {
    let item = |item: &Item| match item {
        Item::Bytes(bytes) => bytes.clone(),
        Item::Signature(signature) => sign(signature),
    };
    program.items.iter().map(item).collect()
}

/// The items, and what is put where into the script that signs itself.
type LegacyItems = (Vec<Vec<u8>>, Option<(usize, Vec<u8>)>);

fn legacy_items(program: &Program, place: &Place<'_>, keys: &Keys) -> LegacyItems {
    let items = |code: &[u8]| all_items(program, |signature| signature.legacy(place, keys, code));
    let Some(embedded) = program.embedded else { return (items(&program.script), None) };
    // What is signed is the script after FindAndDelete: the drop behind the pushes stays. Where nothing should be found,
    // the signature is a wrong one, unless somebody does find it.
    let left: &[u8] = match embedded.form {
        EmbeddedForm::Exact => &[OP_DROP],
        EmbeddedForm::Doubled => &[OP_2DROP],
        EmbeddedForm::Pushdata1 | EmbeddedForm::InsideLongerPush => &[],
    };
    let (before, after) = program.script.split_at(embedded.offset);
    let items = items(&[before, left, after].concat());
    let signature = items.iter().find(|item| item.len() > 60).cloned().unwrap_or_default();
    (items, Some((embedded.offset, embedded.form.bytes(&signature))))
}

/// An input script that pushes the items, mostly in their usual form.
fn pushes(items: &[Vec<u8>]) -> Vec<u8> {
    let push = |item: &Vec<u8>| match item[..] {
        [number @ 1..=16] if number % 2 == 0 => push_number(i64::from(number)),
        [number] if number % 5 == 0 => vec![OP_PUSHDATA1, 1, number],
        _ => push_of(item),
    };
    items.iter().flat_map(push).collect()
}
