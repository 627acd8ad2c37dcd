//! What programs have signed with keys that are lent to them ([`super::lent`]), and what addresses sign.
//!
//! ```text
//!   message ──► SHA-256, once or twice, or with a tag ──► ECDSA (DER, or 65 bytes that show the key) or BIP 340
//!   transaction, output, script ──► sighash (BIP 143, BIP 341) ──► signature
//! ```

use bitcoin::{
    Address, EcdsaSighashType, Psbt, ScriptBuf, TapLeafHash, TapSighashType, Transaction, TxOut, Witness,
    address::AddressData,
    consensus::Encodable as _,
    hashes::{Hash as _, HashEngine as _, hash160, sha256, sha256d},
    key::{Keypair, TapTweak as _},
    psbt::PsbtSighashType,
    secp256k1::{
        self, Message, PublicKey, SECP256K1, Scalar, SecretKey, XOnlyPublicKey,
        ecdsa::{RecoverableSignature, RecoveryId},
    },
    sighash::{Prevouts, SighashCache},
    taproot::LeafVersion,
};

use super::{
    onchain::OnchainWallet,
    psbt_signing::{PsbtError, finalize_input},
};

/// How a message is made a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Single,
    Double,
    /// BIP 340's tagged hash.
    Tagged(Vec<u8>),
}

impl Digest {
    fn of(&self, message: &[u8]) -> Message {
        let hash = match self {
            Self::Single => sha256::Hash::hash(message).to_byte_array(),
            Self::Double => sha256d::Hash::hash(message).to_byte_array(),
            Self::Tagged(tag) => {
                let tag = sha256::Hash::hash(tag);
                let mut engine = sha256::Hash::engine();
                engine.input(tag.as_byte_array());
                engine.input(tag.as_byte_array());
                engine.input(message);
                sha256::Hash::from_engine(engine).to_byte_array()
            }
        };
        Message::from_digest(hash)
    }
}

/// The form of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// DER, as LND has it.
    Ecdsa,
    /// 65 bytes, of which the key can be recovered.
    Compact,
    /// BIP 340, by the key tweaked with this as of BIP 341, if there is something.
    Schnorr { tweak: Vec<u8> },
}

/// BIP 137's header of a compressed key; the number of the key is added.
const COMPRESSED: u8 = 31;

pub(crate) fn sign_message(key: &SecretKey, message: &[u8], digest: &Digest, form: &Form) -> Option<Vec<u8>> {
    let message = digest.of(message);
    match form {
        Form::Ecdsa => Some(SECP256K1.sign_ecdsa(&message, key).serialize_der().to_vec()),
        Form::Compact => Some(compact(key, &message)),
        Form::Schnorr { tweak } if tweak.is_empty() => {
            let pair = Keypair::from_secret_key(SECP256K1, key);
            Some(SECP256K1.sign_schnorr(&message, &pair).as_ref().to_vec())
        }
        Form::Schnorr { tweak } => Some(SECP256K1.sign_schnorr(&message, &tweaked(key, tweak)?).as_ref().to_vec()),
    }
}

fn compact(key: &SecretKey, message: &Message) -> Vec<u8> {
    let (number, signature) = SECP256K1.sign_ecdsa_recoverable(message, key).serialize_compact();
    let header = COMPRESSED.saturating_add(u8::try_from(number.to_i32()).unwrap_or_default());
    [&[header], signature.as_slice()].concat()
}

/// BIP 341's output key of an internal one, with this after it in the hash. `None` with a chance of 2^-128.
fn tweaked(key: &SecretKey, root: &[u8]) -> Option<Keypair> {
    let pair = Keypair::from_secret_key(SECP256K1, key);
    let data = [pair.x_only_public_key().0.serialize().as_slice(), root].concat();
    let tweak = Scalar::from_be_bytes(*Digest::Tagged(b"TapTweak".to_vec()).of(&data).as_ref()).ok()?;
    pair.add_xonly_tweak(SECP256K1, &tweak).ok()
}

/// Whether an ECDSA signature (DER) holds for the message; `None` if it is none.
pub(crate) fn verify_ecdsa(key: &PublicKey, message: &[u8], signature: &[u8]) -> Option<bool> {
    let mut signature = secp256k1::ecdsa::Signature::from_der(signature).ok()?;
    signature.normalize_s();
    Some(SECP256K1.verify_ecdsa(&Digest::Single.of(message), &signature, key).is_ok())
}

/// Whether a BIP 340 signature holds for the message; `None` if it is none.
pub(crate) fn verify_schnorr(key: &XOnlyPublicKey, message: &[u8], signature: &[u8], digest: &Digest) -> Option<bool> {
    let signature = secp256k1::schnorr::Signature::from_slice(signature).ok()?;
    Some(SECP256K1.verify_schnorr(&signature, &digest.of(message), key).is_ok())
}

/// What an address signs: Bitcoin Core's prefix keeps it from being a transaction.
fn address_digest(message: &[u8]) -> Message {
    let mut data = Vec::new();
    for part in [b"Bitcoin Signed Message:\n".as_slice(), message] {
        // Writing to memory does not fail.
        let _ = part.to_vec().consensus_encode(&mut data);
    }
    Digest::Double.of(&data)
}

/// Whether an address's key has signed the message, and that key as it stands in the address. `None` if no key can be recovered
/// from the signature; `valid` is `None` for an address of scripts.
pub(crate) fn verify_for_address(
    address: &Address,
    message: &[u8],
    signature: &[u8],
) -> Option<(Option<bool>, Vec<u8>)> {
    let (header, signature) = signature.split_first()?;
    // 27 to 30 with an uncompressed key, from there with a compressed one.
    let (number, is_compressed) = match header.checked_sub(27)? {
        number @ 0..=3 => (number, false),
        number @ 4..=7 => (number - 4, true),
        _ => return None,
    };
    let number = RecoveryId::from_i32(i32::from(number)).ok()?;
    let signature = RecoverableSignature::from_compact(signature, number).ok()?;
    let key = SECP256K1.recover_ecdsa(&address_digest(message), &signature).ok()?;
    let encoded = if is_compressed { key.serialize().to_vec() } else { key.serialize_uncompressed().to_vec() };
    let hash = hash160::Hash::hash(&encoded);
    let nested = || ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_raw_hash(hash));
    let valid = match address.to_address_data() {
        AddressData::P2pkh { pubkey_hash } => Some(pubkey_hash.to_raw_hash() == hash),
        AddressData::P2sh { script_hash } => Some(nested().script_hash() == script_hash),
        AddressData::Segwit { witness_program } if witness_program.is_p2wpkh() => {
            Some(witness_program.program().as_bytes() == hash.as_byte_array())
        }
        AddressData::Segwit { witness_program } if witness_program.is_p2tr() => {
            let output = key.x_only_public_key().0.tap_tweak(SECP256K1, None).0;
            Some(witness_program.program().as_bytes() == output.to_x_only_public_key().serialize())
        }
        _ => None,
    };
    Some((valid, encoded))
}

/// How an output is spent for which a signature is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spend {
    /// BIP 143, with this script.
    WitnessV0(ScriptBuf),
    /// BIP 341, by the output key with this root of scripts, or with none.
    KeyPath(Vec<u8>),
    /// BIP 342, by this leaf.
    ScriptPath(ScriptBuf),
}

/// How a key is made another before it signs, as channels do it (BOLT 3, key derivation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyTweak {
    None,
    /// Added to the key.
    Single([u8; 32]),
    /// The secret with which the key makes a revocation key.
    Double(SecretKey),
}

/// A signature that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputToSign {
    pub input: usize,
    pub output: TxOut,
    pub spend: Spend,
    pub tweak: KeyTweak,
    pub sighash: u32,
}

/// Why a transaction is not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("input {input} is none of the transaction's")]
    NoInput { input: usize },
    #[error("sighash: {0} is none that is known, or none for this output")]
    Sighash(u32),
    #[error("a tweak makes no key of this one")]
    Tweak,
    #[error(
        "error signing taproot output, transaction input is missing its previous outpoint information: give prev_outputs"
    )]
    NoPrevOutputs,
    #[error("the input cannot be signed: {0}")]
    Unsigned(String),
    #[error("input {input} spends no coin of this wallet")]
    NotOurs { input: usize },
    #[error(transparent)]
    Psbt(#[from] PsbtError),
}

impl KeyTweak {
    /// `None` if it makes no key of this one.
    pub(super) fn apply(&self, key: SecretKey) -> Option<SecretKey> {
        match self {
            Self::None => Some(key),
            Self::Single(tweak) => key.add_tweak(&Scalar::from_be_bytes(*tweak).ok()?).ok(),
            Self::Double(secret) => {
                let (base, point) = (key.public_key(SECP256K1), secret.public_key(SECP256K1));
                let factor = |one: &PublicKey, other: &PublicKey| {
                    let hash = sha256::Hash::hash(&[one.serialize(), other.serialize()].concat());
                    Scalar::from_be_bytes(hash.to_byte_array()).ok()
                };
                let base = key.mul_tweak(&factor(&base, &point)?).ok()?;
                let revealed = secret.mul_tweak(&factor(&point, &key.public_key(SECP256K1))?).ok()?;
                base.add_tweak(&Scalar::from(revealed)).ok()
            }
        }
    }
}

/// A signature for one input by a key that is lent: DER for SegWit v0, 64 bytes for taproot, without the sighash type. Those of one
/// transaction share the `cache`: what they all sign is hashed once.
pub(crate) fn sign_output(
    cache: &mut SighashCache<&Transaction>,
    spent: &[TxOut],
    asked: &OutputToSign,
    key: SecretKey,
) -> Result<Vec<u8>, SignError> {
    let at = asked.input;
    if cache.transaction().input.get(at).is_none() {
        return Err(SignError::NoInput { input: at });
    }
    let key = asked.tweak.apply(key).ok_or(SignError::Tweak)?;
    let failed = |error: &dyn std::fmt::Display| SignError::Unsigned(error.to_string());
    let taproot_type = || {
        let byte = u8::try_from(asked.sighash).ok();
        byte.and_then(|byte| TapSighashType::from_consensus_u8(byte).ok()).ok_or(SignError::Sighash(asked.sighash))
    };
    let prevouts = || if spent.is_empty() { Err(SignError::NoPrevOutputs) } else { Ok(Prevouts::All(spent)) };
    match &asked.spend {
        Spend::WitnessV0(script) => {
            let sighash_type =
                EcdsaSighashType::from_standard(asked.sighash).map_err(|_| SignError::Sighash(asked.sighash))?;
            let value = asked.output.value;
            let message = if script.is_p2wpkh() {
                cache
                    .p2wpkh_signature_hash(at, script, value, sighash_type)
                    .map(Message::from)
                    .map_err(|error| failed(&error))?
            } else {
                cache
                    .p2wsh_signature_hash(at, script, value, sighash_type)
                    .map(Message::from)
                    .map_err(|error| failed(&error))?
            };
            Ok(SECP256K1.sign_ecdsa_low_r(&message, &key).serialize_der().to_vec())
        }
        Spend::KeyPath(root) => {
            let sighash = cache
                .taproot_key_spend_signature_hash(at, &prevouts()?, taproot_type()?)
                .map_err(|error| failed(&error))?;
            let pair = tweaked(&key, root).ok_or(SignError::Tweak)?;
            Ok(SECP256K1.sign_schnorr(&Message::from(sighash), &pair).as_ref().to_vec())
        }
        Spend::ScriptPath(leaf) => {
            let leaf = TapLeafHash::from_script(leaf, LeafVersion::TapScript);
            let sighash = cache
                .taproot_script_spend_signature_hash(at, &prevouts()?, leaf, taproot_type()?)
                .map_err(|error| failed(&error))?;
            let pair = Keypair::from_secret_key(SECP256K1, &key);
            Ok(SECP256K1.sign_schnorr(&Message::from(sighash), &pair).as_ref().to_vec())
        }
    }
}

/// A coin of the wallet that a transaction of somebody's is to spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoinToSign {
    pub input: usize,
    pub output: TxOut,
    pub sighash: u32,
}

impl OnchainWallet {
    /// The witness with which a transaction spends a coin of the wallet. `spent`: what all inputs spend; empty if that is not told.
    pub(crate) fn input_script(
        &self,
        transaction: &Transaction,
        spent: &[TxOut],
        coin: &CoinToSign,
    ) -> Result<Witness, SignError> {
        let at = coin.input;
        if transaction.input.get(at).is_none() {
            return Err(SignError::NoInput { input: at });
        }
        if coin.output.script_pubkey.is_p2tr() && spent.is_empty() {
            return Err(SignError::NoPrevOutputs);
        }
        let mut bare = transaction.clone();
        for input in &mut bare.input {
            input.script_sig = ScriptBuf::new();
            input.witness = Witness::new();
        }
        let mut psbt = Psbt::from_unsigned_tx(bare).map_err(|error| SignError::Unsigned(error.to_string()))?;
        for (index, input) in psbt.inputs.iter_mut().enumerate() {
            // What a SegWit v0 signature does not say is not looked at.
            let told = spent.get(index).cloned();
            input.witness_utxo =
                Some(told.unwrap_or(TxOut { value: bitcoin::Amount::ZERO, script_pubkey: ScriptBuf::new() }));
            if index == at {
                input.witness_utxo = Some(coin.output.clone());
                input.sighash_type = Some(PsbtSighashType::from_u32(coin.sighash));
            }
        }
        if !self.sign_one(&mut psbt, at)? {
            return Err(SignError::NotOurs { input: at });
        }
        Ok(finalize_input(&mut psbt, at)?)
    }

    /// A message signed by the key of an address of this wallet.
    pub(crate) fn sign_for_address(&self, address: &Address, message: &[u8]) -> Option<Vec<u8>> {
        let state = self.lock();
        let place = state.wallet.derivation_of_spk(&address.script_pubkey())?;
        let key = state.secret_at(place).ok()?;
        Some(compact(&key, &address_digest(message)))
    }
}

#[cfg(test)]
mod tests;
