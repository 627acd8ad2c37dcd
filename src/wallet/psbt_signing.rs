//! PSBTs (BIP 174) that the wallet signs: its own coins, and nothing of which it does not know what it gives away.
//!
//! ```text
//!   each input ─┬─ a coin of the wallet ─┬─ said to be what it is, promised to nothing else ──► signed
//!               │                        └─ else ──► the whole PSBT is refused
//!               └─ another one ──► left as it is
//! ```
//!
//! A SegWit v0 signature holds for one amount of one input. Who could have the wallet sign twice with amounts that are not
//! true could make it pay a fee that it never saw; so what a PSBT says of a coin must be what the wallet knows of it.

use bdk_wallet::miniscript::psbt::PsbtExt as _;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, Psbt, TapSighashType, Transaction, TxIn, TxOut, Weight, Witness, psbt,
    secp256k1::{All, Message, SECP256K1, Secp256k1},
    sighash::{Prevouts, SighashCache},
};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

use super::{
    accounts::{AddressKind, Derivation},
    claims::key_spend,
    onchain::{OnchainWallet, State, WalletError},
};

/// Nodes relay no larger transaction (Bitcoin Core's policy), and what a larger one made us hash and verify would be out of all
/// proportion.
const MAX_WEIGHT: Weight = Weight::from_wu(400_000);

/// Refuses a transaction that nobody would relay. Without its signatures it weighs less than with them.
pub(super) fn check_weight(transaction: &Transaction) -> Result<(), PsbtError> {
    let weight = transaction.weight();
    if weight > MAX_WEIGHT { Err(PsbtError::TooHeavy { weight }) } else { Ok(()) }
}

/// Why a PSBT is not paid for or not signed. The texts begin with LND's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PsbtError {
    #[error("PSBT packet must contain at least one output")]
    NoOutputs,
    #[error("change output index out of range: {at}")]
    NoSuchOutput { at: usize },
    #[error("input {at} not found in list of non-locked UTXO: it has to be a coin of the wallet that is free, once")]
    NotFree { at: usize },
    #[error("input {outpoint} is not locked: lease it first (`leyden wallet leaseoutput`)")]
    NotLeased { outpoint: OutPoint },
    #[error("error estimating input weight: input {at} is neither P2WPKH nor P2TR")]
    UnknownWeight { at: usize },
    #[error("the amounts are more than all money, or the outputs more than the inputs")]
    TooMuch,
    #[error(
        "fee {} exceeds max fee on total output value {} with max fee ratio {ratio}: pay a lower rate, or raise \
         max_fee_ratio", .fee.to_sat(), .paid.to_sat()
    )]
    FeeTooHigh { fee: Amount, paid: Amount, ratio: f64 },
    #[error("input (index={at}) doesn't specify any UTXO info")]
    NoUtxo { at: usize },
    #[error("error signing PSBT: input {at}: its UTXO information is not that of the coin it spends")]
    WrongUtxo { at: usize },
    #[error("error signing PSBT: input {at}: the coin is set aside for a channel or a claim")]
    SetAside { at: usize },
    #[error("error signing PSBT: input {at}: the coin is spent by transaction {by}")]
    Spent { at: usize, by: bitcoin::Txid },
    #[error("error signing PSBT: input {at}: its sighash type leaves open where the coin goes; ALL is signed")]
    Sighash { at: usize },
    #[error("the transaction weighs {weight}, and none above {MAX_WEIGHT} weight units is relayed: make several of it")]
    TooHeavy { weight: Weight },
    #[error("PSBT is already fully signed")]
    Complete,
    #[error("error finalizing PSBT: input {at}: {reason}")]
    NotFinal { at: usize, reason: String },
    #[error("unable to extract final TX: {0}")]
    Extract(String),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// What a PSBT says of an input.
pub(super) struct Told<'a> {
    pub output: &'a TxOut,
    /// By the transaction that made it.
    pub is_proven: bool,
}

/// What an input is said to spend.
pub(super) fn utxo<'a>(at: usize, input: &TxIn, known: &'a psbt::Input) -> Result<Told<'a>, PsbtError> {
    let outpoint = input.previous_output;
    let proven = match &known.non_witness_utxo {
        Some(parent) => {
            let output = usize::try_from(outpoint.vout).ok().and_then(|vout| parent.output.get(vout));
            let output = output.filter(|_| parent.compute_txid() == outpoint.txid);
            Some(output.ok_or(PsbtError::WrongUtxo { at })?)
        }
        None => None,
    };
    match (proven, &known.witness_utxo) {
        (Some(proven), Some(told)) if proven != told => Err(PsbtError::WrongUtxo { at }),
        (Some(output), _) => Ok(Told { output, is_proven: true }),
        (None, Some(output)) => Ok(Told { output, is_proven: false }),
        (None, None) => Err(PsbtError::NoUtxo { at }),
    }
}

impl OnchainWallet {
    /// Signs what is the wallet's; which inputs those are.
    pub(crate) fn sign_psbt(&self, psbt: &mut Psbt) -> Result<Vec<usize>, PsbtError> {
        self.lock().sign_psbt(psbt, |_| true)
    }

    /// Signs one input, if it is the wallet's.
    pub(super) fn sign_one(&self, psbt: &mut Psbt, at: usize) -> Result<bool, PsbtError> {
        Ok(!self.lock().sign_psbt(psbt, |input| input == at)?.is_empty())
    }

    /// Signs what is the wallet's, and makes the transaction of it, which has to be whole then.
    pub(crate) fn finalize_psbt(&self, mut psbt: Psbt) -> Result<(Psbt, Transaction), PsbtError> {
        if psbt.inputs.iter().all(is_final) {
            return Err(PsbtError::Complete);
        }
        self.sign_psbt(&mut psbt)?;
        finish(psbt)
    }
}

pub(super) fn is_final(input: &psbt::Input) -> bool {
    input.final_script_witness.is_some() || input.final_script_sig.is_some()
}

impl State {
    fn sign_psbt(&self, psbt: &mut Psbt, is_asked: impl Fn(usize) -> bool) -> Result<Vec<usize>, PsbtError> {
        check_weight(&psbt.unsigned_tx)?;
        let transaction = psbt.unsigned_tx.clone();
        let inputs = || transaction.input.iter().zip(&psbt.inputs).enumerate();
        let spent: Result<Vec<TxOut>, PsbtError> =
            inputs().map(|(at, (input, known))| Ok(utxo(at, input, known)?.output.clone())).collect();
        let spent = spent?;
        let mut ours = Vec::new();
        for (at, (input, known)) in inputs().filter(|(at, _)| is_asked(*at)) {
            if let Some(place) = self.place_to_sign(at, input, known, &transaction)? {
                ours.push((at, place));
            }
        }
        let mut cache = SighashCache::new(&transaction);
        for (at, place) in &ours {
            let Some((known, output)) = psbt.inputs.get_mut(*at).zip(spent.get(*at)) else { continue };
            let key = self.secret_at(*place)?;
            let failed = |error: &dyn std::fmt::Display| WalletError::Sign(error.to_string());
            match place.kind {
                AddressKind::SegwitV0 => {
                    let sighash_type = ecdsa_type(known).ok_or(PsbtError::Sighash { at: *at })?;
                    let sighash = cache
                        .p2wpkh_signature_hash(*at, &output.script_pubkey, output.value, sighash_type)
                        .map_err(|error| failed(&error))?;
                    let signature = SECP256K1.sign_ecdsa_low_r(&Message::from(sighash), &key);
                    let public = bitcoin::PublicKey::new(key.public_key(SECP256K1));
                    known.partial_sigs.insert(public, bitcoin::ecdsa::Signature { signature, sighash_type });
                }
                AddressKind::Taproot => {
                    let sighash_type = taproot_type(known).ok_or(PsbtError::Sighash { at: *at })?;
                    let sighash = cache
                        .taproot_key_spend_signature_hash(*at, &Prevouts::All(&spent), sighash_type)
                        .map_err(|error| failed(&error))?;
                    known.tap_key_sig = Some(key_spend(&key, sighash, sighash_type));
                }
            }
            if known.witness_utxo.is_none() {
                known.witness_utxo = Some(output.clone());
            }
        }
        Ok(ours.into_iter().map(|(at, _)| at).collect())
    }

    /// By which key an input is signed; `None` if it is not the wallet's, or signed already.
    fn place_to_sign(
        &self,
        at: usize,
        input: &TxIn,
        known: &psbt::Input,
        transaction: &Transaction,
    ) -> Result<Option<Derivation>, PsbtError> {
        let outpoint = input.previous_output;
        let told = utxo(at, input, known)?;
        let place = match self.wallet.txout(outpoint) {
            Some((place, output)) if output == told.output => place,
            Some(_) => return Err(PsbtError::WrongUtxo { at }),
            // A transaction that nobody has broadcast yet pays the wallet.
            None => match self.wallet.derivation_of_spk(&told.output.script_pubkey) {
                Some(place) if told.is_proven || place.kind == AddressKind::Taproot => place,
                Some(_) | None => return Ok(None),
            },
        };
        if is_final(known) {
            return Ok(None);
        }
        let for_claims = self.for_claims.values().flatten().map(|coin| &coin.outpoint);
        if self.reserved.values().flatten().chain(for_claims).any(|reserved| *reserved == outpoint) {
            return Err(PsbtError::SetAside { at });
        }
        let txid = transaction.compute_txid();
        let mut spenders = self.wallet.tx_graph().outspends(outpoint).iter();
        if let Some(by) = spenders.find(|by| **by != txid && self.ledger.place(by).is_some()) {
            return Err(PsbtError::Spent { at, by: *by });
        }
        Ok(Some(place))
    }
}

/// `None` if the signature would leave open where the coin goes.
fn ecdsa_type(input: &psbt::Input) -> Option<EcdsaSighashType> {
    let asked = input.sighash_type.map_or(Ok(EcdsaSighashType::All), |asked| asked.ecdsa_hash_ty()).ok()?;
    matches!(asked, EcdsaSighashType::All | EcdsaSighashType::AllPlusAnyoneCanPay).then_some(asked)
}

/// `None` if the signature would leave open where the coin goes.
fn taproot_type(input: &psbt::Input) -> Option<TapSighashType> {
    let asked = input.sighash_type.map_or(Ok(TapSighashType::Default), |asked| asked.taproot_hash_ty()).ok()?;
    use TapSighashType::{All, AllPlusAnyoneCanPay, Default};
    matches!(asked, Default | All | AllPlusAnyoneCanPay).then_some(asked)
}

/// The witness of an input that is signed.
pub(super) fn finalize_input(psbt: &mut Psbt, at: usize) -> Result<Witness, PsbtError> {
    let failed = |reason: String| PsbtError::NotFinal { at, reason };
    let secp: Secp256k1<All> = Secp256k1::new();
    psbt.finalize_inp_mut(&secp, at).map_err(|error| failed(error.to_string()))?;
    let witness = psbt.inputs.get(at).and_then(|input| input.final_script_witness.clone());
    witness.ok_or_else(|| failed("it has no witness".to_owned()))
}

/// Makes witnesses of the signatures, and a transaction of the PSBT, which the rules of the chain take.
fn finish(mut psbt: Psbt) -> Result<(Psbt, Transaction), PsbtError> {
    let spent: Result<Vec<TxOut>, PsbtError> = (psbt.unsigned_tx.input.iter().zip(&psbt.inputs).enumerate())
        .map(|(at, (input, known))| Ok(utxo(at, input, known)?.output.clone()))
        .collect();
    let secp: Secp256k1<All> = Secp256k1::new();
    for at in 0..psbt.inputs.len() {
        if !psbt.inputs.get(at).is_some_and(is_final) {
            psbt.finalize_inp_mut(&secp, at).map_err(|error| PsbtError::NotFinal { at, reason: error.to_string() })?;
        }
    }
    // It also refuses a fee that nobody means.
    let transaction = psbt.clone().extract_tx().map_err(|error| PsbtError::Extract(error.to_string()))?;
    check_weight(&transaction)?;
    let spending = SpendingTx::new(&transaction, spent?).map_err(|error| PsbtError::Extract(error.to_string()))?;
    for at in 0..transaction.input.len() {
        spending
            .verify_input(at, ScriptFlags::STANDARD)
            .map_err(|error| PsbtError::NotFinal { at, reason: error.to_string() })?;
    }
    Ok((psbt, transaction))
}

#[cfg(test)]
mod tests;
