//! Inputs of PSBTs (BIP 174) that keys sign which are lent to programs ([`super::lent`]): a program that has built a script of its own
//! names the key's place in the input, as it does for LND.
//!
//! ```text
//!   path m/1017'/coin'/family'/0/index beside a public key ─┬─ it is that key ──► tweaked, if the input says so ──► signed
//!                                                           └─ it is not ──► the input is left as it is
//! ```
//!
//! What is signed is what the program says: nothing of the node's own hangs on these keys.

use bitcoin::{
    ScriptBuf, TapLeafHash, TxOut,
    bip32::{ChildNumber, DerivationPath},
    ecdsa,
    hashes::Hash as _,
    key::XOnlyPublicKey,
    psbt::{self, Psbt, raw},
    secp256k1::{PublicKey, SECP256K1, SecretKey},
    sighash::SighashCache,
    taproot::LeafVersion,
};

use super::{
    keys::{LIGHTNING_PURPOSE, NodeKeys, coin_type, hard},
    lent::{KeyChoice, KeyLocator, LentError},
    psbt_signing::{PsbtError, check_weight, is_final, utxo},
    signing::{KeyTweak, OutputToSign, SignError, Spend, sign_output},
};

/// LND's keys of an input for a tweak of the key that signs it (32 bytes each).
const SINGLE_TWEAK: raw::Key = raw::Key { type_value: 0x51, key: Vec::new() };
const DOUBLE_TWEAK: raw::Key = raw::Key { type_value: 0xd0, key: Vec::new() };

/// Keys of an input that are looked at: those that sign together in one script are at most as many.
const MAX_NAMED: usize = 20;

/// Why an input that names a key that is lent is not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LentPsbtError {
    #[error(transparent)]
    Psbt(#[from] PsbtError),
    #[error("error signing PSBT: input {at}: {error}")]
    Lent { at: usize, error: LentError },
    #[error("error signing PSBT: input {at}: {error}")]
    Sign { at: usize, error: SignError },
    #[error("error signing PSBT: input {at}: {what}")]
    Unclear { at: usize, what: &'static str },
}

/// An input that such a key signs.
struct Signing {
    asked: OutputToSign,
    key: SecretKey,
}

/// Signs what names a key that is lent, and none of the inputs that are `done`; which those were.
pub(crate) fn sign_with_lent(psbt: &mut Psbt, keys: &NodeKeys, done: &[usize]) -> Result<Vec<usize>, LentPsbtError> {
    check_weight(&psbt.unsigned_tx)?;
    let transaction = psbt.unsigned_tx.clone();
    let inputs = || transaction.input.iter().zip(&psbt.inputs).enumerate();
    let mut signing = Vec::new();
    for (at, (input, known)) in inputs().filter(|(at, (_, known))| !done.contains(at) && !is_final(known)) {
        let Some(key) = named_key(at, known, keys)? else { continue };
        let output = utxo(at, input, known)?.output;
        signing.push(to_sign(at, known, output, key)?);
    }
    if signing.is_empty() {
        return Ok(Vec::new());
    }
    let spent: Result<Vec<TxOut>, PsbtError> =
        inputs().map(|(at, (input, known))| Ok(utxo(at, input, known)?.output.clone())).collect();
    let spent = spent?;
    let mut cache = SighashCache::new(&transaction);
    let mut signed = Vec::new();
    for Signing { asked, key } in signing {
        let at = asked.input;
        let failed = |error| LentPsbtError::Sign { at, error };
        let signature = sign_output(&mut cache, &spent, &asked, key).map_err(failed)?;
        let Some(known) = psbt.inputs.get_mut(at) else { continue };
        put(known, &asked, key, &signature).map_err(|what| LentPsbtError::Unclear { at, what })?;
        signed.push(at);
    }
    Ok(signed)
}

/// The key that an input names, if there is one: by its place and its public key.
fn named_key(at: usize, known: &psbt::Input, keys: &NodeKeys) -> Result<Option<SecretKey>, LentPsbtError> {
    let coin = coin_type(keys.root().network);
    let by_key = known.bip32_derivation.iter().map(|(key, (_, path))| (key.x_only_public_key().0, path));
    let by_x_only = known.tap_key_origins.iter().map(|(key, (_, (_, path)))| (*key, path));
    let named = by_key.chain(by_x_only).filter_map(|(public, path)| Some((public, place_of(path, coin)?)));
    for (public, place) in named.take(MAX_NAMED) {
        let found = keys.lent_all(&[KeyChoice::At(place)]).map_err(|error| LentPsbtError::Lent { at, error })?;
        let is_it = |key: &SecretKey| key.x_only_public_key(SECP256K1).0 == public;
        if let Some(key) = found.into_iter().find(is_it) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// `m/1017'/coin'/family'/0/index`.
fn place_of(path: &DerivationPath, coin: u32) -> Option<KeyLocator> {
    let [purpose, of_coin, ChildNumber::Hardened { index: family }, branch, ChildNumber::Normal { index }] =
        path.as_ref()
    else {
        return None;
    };
    let is_lent =
        *purpose == hard(LIGHTNING_PURPOSE) && *of_coin == hard(coin) && *branch == ChildNumber::Normal { index: 0 };
    is_lent.then_some(KeyLocator { family: *family, index: *index })
}

fn to_sign(at: usize, known: &psbt::Input, output: &TxOut, key: SecretKey) -> Result<Signing, LentPsbtError> {
    let unclear = |what| LentPsbtError::Unclear { at, what };
    let script = &output.script_pubkey;
    let spend = if script.is_p2tr() {
        taproot_spend(known).map_err(unclear)?
    } else if let Some(script) = &known.witness_script {
        Spend::WitnessV0(script.clone())
    } else if script.is_p2wpkh() {
        Spend::WitnessV0(script.clone())
    } else {
        return Err(unclear("its script is none that is signed: P2WPKH, P2WSH with its script, or P2TR"));
    };
    let default = if script.is_p2tr() { 0 } else { 1 };
    let sighash = known.sighash_type.map_or(default, |asked| asked.to_u32());
    let asked = OutputToSign { input: at, output: output.clone(), spend, tweak: KeyTweak::None, sighash };
    let tweak = tweak(known).map_err(unclear)?;
    let key = tweak.apply(key).ok_or(LentPsbtError::Sign { at, error: SignError::Tweak })?;
    Ok(Signing { asked, key })
}

fn tweak(known: &psbt::Input) -> Result<KeyTweak, &'static str> {
    let (single, double) = (known.unknown.get(&SINGLE_TWEAK), known.unknown.get(&DOUBLE_TWEAK));
    match (single, double) {
        (None, None) => Ok(KeyTweak::None),
        (Some(_), Some(_)) => Err("it has a single and a double tweak"),
        (Some(single), None) => {
            single.as_slice().try_into().map(KeyTweak::Single).map_err(|_| "its single tweak has not 32 bytes")
        }
        (None, Some(double)) => {
            SecretKey::from_slice(double).map(KeyTweak::Double).map_err(|_| "its double tweak is no secret key")
        }
    }
}

fn taproot_spend(known: &psbt::Input) -> Result<Spend, &'static str> {
    let mut origins = known.tap_key_origins.values();
    let (Some((leaves, _)), None) = (origins.next(), origins.next()) else {
        return Err("it has to have one taproot BIP0032 derivation info");
    };
    match (leaves.as_slice(), &known.tap_merkle_root) {
        ([], root) => Ok(Spend::KeyPath(root.map(|root| root.to_byte_array().to_vec()).unwrap_or_default())),
        ([leaf], _) => leaf_script(known, leaf).map(Spend::ScriptPath).ok_or("the script of its leaf hash is missing"),
        (_, _) => Err("it has several leaf hashes, and is signed for one at a time"),
    }
}

fn leaf_script(known: &psbt::Input, leaf: &TapLeafHash) -> Option<ScriptBuf> {
    let scripts = known.tap_scripts.values().filter(|(_, version)| *version == LeafVersion::TapScript);
    scripts
        .map(|(script, _)| script)
        .find(|script| TapLeafHash::from_script(script, LeafVersion::TapScript) == *leaf)
        .cloned()
}

/// Puts a signature where those of its kind are looked for.
fn put(known: &mut psbt::Input, asked: &OutputToSign, key: SecretKey, signature: &[u8]) -> Result<(), &'static str> {
    const WRONG: &str = "its sighash type is none that is known";
    match &asked.spend {
        Spend::WitnessV0(_) => {
            let sighash_type = bitcoin::EcdsaSighashType::from_standard(asked.sighash).map_err(|_| WRONG)?;
            let signature = bitcoin::secp256k1::ecdsa::Signature::from_der(signature).map_err(|_| WRONG)?;
            let public: PublicKey = key.public_key(SECP256K1);
            known.partial_sigs.insert(public.into(), ecdsa::Signature { signature, sighash_type });
        }
        Spend::KeyPath(_) | Spend::ScriptPath(_) => {
            let byte = u8::try_from(asked.sighash).map_err(|_| WRONG)?;
            let sighash_type = bitcoin::TapSighashType::from_consensus_u8(byte).map_err(|_| WRONG)?;
            let signature = bitcoin::secp256k1::schnorr::Signature::from_slice(signature).map_err(|_| WRONG)?;
            let signature = bitcoin::taproot::Signature { signature, sighash_type };
            match &asked.spend {
                Spend::ScriptPath(script) => {
                    let leaf = TapLeafHash::from_script(script, LeafVersion::TapScript);
                    let public: XOnlyPublicKey = key.x_only_public_key(SECP256K1).0;
                    known.tap_script_sigs.insert((public, leaf), signature);
                }
                Spend::KeyPath(_) | Spend::WitnessV0(_) => known.tap_key_sig = Some(signature),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bitcoin::{
        Amount, BlockHash, NetworkKind, OutPoint, Transaction, TxIn, Txid, Witness, absolute::LockTime,
        opcodes::all::OP_CHECKSIG, taproot::TaprootBuilder, transaction::Version,
    };
    use leyden_consensus::script::{ScriptFlags, SpendingTx};

    use super::*;
    use crate::wallet::seed::Seed;

    const PLACE: KeyLocator = KeyLocator { family: 99, index: 5 };

    fn keys() -> NodeKeys {
        NodeKeys::new(&Seed::from_entropy([1; 32], ""), NetworkKind::Test, &BlockHash::all_zeros())
    }

    fn secret() -> SecretKey {
        keys().lent(KeyChoice::At(PLACE)).unwrap()
    }

    fn path(family: u32) -> DerivationPath {
        format!("m/1017'/1'/{family}'/0/5").parse().unwrap()
    }

    fn spending(scripts: &[ScriptBuf]) -> Psbt {
        let input =
            |vout| TxIn { previous_output: OutPoint { txid: Txid::from_byte_array([3; 32]), vout }, ..TxIn::default() };
        let output = |script: &ScriptBuf| TxOut { value: Amount::from_sat(10_000), script_pubkey: script.clone() };
        let mut psbt = Psbt::from_unsigned_tx(Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: (0..).zip(scripts).map(|(vout, _)| input(vout)).collect(),
            output: vec![TxOut { value: Amount::from_sat(9_000), ..output(&scripts[0]) }],
        })
        .unwrap();
        for (known, script) in psbt.inputs.iter_mut().zip(scripts) {
            known.witness_utxo = Some(output(script));
        }
        psbt
    }

    #[test]
    fn inputs_that_name_a_lent_key_are_signed_in_each_way() {
        let public = secret().public_key(SECP256K1);
        let x_only = public.x_only_public_key().0;
        let script = ScriptBuf::builder().push_key(&public.into()).push_opcode(OP_CHECKSIG).into_script();
        let leaf = ScriptBuf::builder().push_x_only_key(&x_only).push_opcode(OP_CHECKSIG).into_script();
        let tree = TaprootBuilder::new().add_leaf(0, leaf.clone()).unwrap().finalize(SECP256K1, x_only).unwrap();
        let with_scripts = ScriptBuf::new_p2tr(SECP256K1, x_only, tree.merkle_root());
        let mut psbt = spending(&[
            ScriptBuf::new_p2wsh(&script.wscript_hash()),
            ScriptBuf::new_p2wpkh(&bitcoin::PublicKey::new(public).wpubkey_hash().unwrap()),
            ScriptBuf::new_p2tr(SECP256K1, x_only, None),
            with_scripts.clone(),
            with_scripts,
        ]);
        let origin = (Default::default(), path(99));
        let leaf_hash = TapLeafHash::from_script(&leaf, LeafVersion::TapScript);
        let control = tree.control_block(&(leaf.clone(), LeafVersion::TapScript)).unwrap();
        psbt.inputs[0].witness_script = Some(script.clone());
        for known in &mut psbt.inputs[..2] {
            known.bip32_derivation.insert(public, origin.clone());
        }
        for known in &mut psbt.inputs[2..4] {
            known.tap_key_origins.insert(x_only, (Vec::new(), origin.clone()));
        }
        psbt.inputs[3].tap_merkle_root = tree.merkle_root();
        psbt.inputs[4].tap_key_origins.insert(x_only, (vec![leaf_hash], origin));
        psbt.inputs[4].tap_scripts.insert(control.clone(), (leaf.clone(), LeafVersion::TapScript));

        assert_eq!(sign_with_lent(&mut psbt, &keys(), &[]).unwrap(), [0, 1, 2, 3, 4]);
        let mut transaction = psbt.unsigned_tx.clone();
        let partial = |at: usize| psbt.inputs[at].partial_sigs[&public.into()].to_vec();
        transaction.input[0].witness = Witness::from_slice(&[partial(0), script.to_bytes()]);
        transaction.input[1].witness = Witness::from_slice(&[partial(1), public.serialize().to_vec()]);
        for at in [2, 3] {
            transaction.input[at].witness = Witness::from_slice(&[psbt.inputs[at].tap_key_sig.unwrap().to_vec()]);
        }
        let by_leaf = psbt.inputs[4].tap_script_sigs[&(x_only, leaf_hash)].to_vec();
        transaction.input[4].witness = Witness::from_slice(&[by_leaf, leaf.to_bytes(), control.serialize()]);
        let spent: Vec<TxOut> = psbt.inputs.iter().map(|known| known.witness_utxo.clone().unwrap()).collect();
        let spending = SpendingTx::new(&transaction, spent).unwrap();
        for at in 0..5 {
            assert!(spending.verify_input(at, ScriptFlags::STANDARD).is_ok(), "input {at}");
        }
    }

    #[test]
    fn a_tweak_in_the_input_makes_the_key_another_one() {
        let single = [7; 32];
        let tweaked = KeyTweak::Single(single).apply(secret()).unwrap().public_key(SECP256K1);
        let script = ScriptBuf::builder().push_key(&tweaked.into()).push_opcode(OP_CHECKSIG).into_script();
        let mut psbt = spending(&[ScriptBuf::new_p2wsh(&script.wscript_hash())]);
        psbt.inputs[0].witness_script = Some(script);
        psbt.inputs[0].bip32_derivation.insert(secret().public_key(SECP256K1), (Default::default(), path(99)));
        psbt.inputs[0].unknown.insert(SINGLE_TWEAK, single.to_vec());
        assert_eq!(sign_with_lent(&mut psbt.clone(), &keys(), &[]).unwrap(), [0]);
        assert_eq!(sign_with_lent(&mut psbt.clone(), &keys(), &[0]).unwrap(), [0; 0], "what is done is done");
        sign_with_lent(&mut psbt, &keys(), &[]).unwrap();
        assert!(psbt.inputs[0].partial_sigs.contains_key(&tweaked.into()));
        psbt.inputs[0].unknown.insert(SINGLE_TWEAK, vec![1]);
        let refused = sign_with_lent(&mut psbt, &keys(), &[]).unwrap_err().to_string();
        assert!(refused.contains("single tweak"), "{refused}");
    }

    #[test]
    fn keys_of_others_and_the_nodes_own_secrets_sign_nothing() {
        let script = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::all_zeros());
        let mut psbt = spending(&[script]);
        let foreign = keys().node_id();
        psbt.inputs[0].bip32_derivation.insert(foreign, (Default::default(), path(99)));
        assert_eq!(sign_with_lent(&mut psbt, &keys(), &[]).unwrap(), [0; 0], "it is another key than its place says");
        psbt.inputs[0].bip32_derivation.insert(foreign, (Default::default(), "m/84'/1'/0'/0/5".parse().unwrap()));
        assert_eq!(sign_with_lent(&mut psbt, &keys(), &[]).unwrap(), [0; 0]);
        for family in [7, 9, 11, 12] {
            psbt.inputs[0].bip32_derivation.insert(foreign, (Default::default(), path(family)));
            let refused = sign_with_lent(&mut psbt, &keys(), &[]).unwrap_err().to_string();
            assert!(refused.contains("is not lent"), "{refused}");
        }
    }
}
