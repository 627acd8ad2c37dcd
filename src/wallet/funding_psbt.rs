//! A channel's funding transaction that somebody else makes and signs, as a PSBT (BIP 174).
//!
//! ```text
//!   PSBT with all inputs and outputs ──verify──► a txid that no signature changes ──finalize──► the signed transaction
//! ```
//!
//! The first commitment spends the funding output by its txid. So every input must be a SegWit spend, and what comes back
//! signed must be the transaction that was verified. Signatures are checked by the rules of the chain. The refusals begin
//! with LND's words.

use bdk_wallet::miniscript::psbt::PsbtExt as _;
use bitcoin::{
    Amount, Psbt, Script, ScriptBuf, Transaction, TxOut,
    blockdata::script::PushBytesBuf,
    psbt,
    secp256k1::{All, Secp256k1},
};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

/// Why a PSBT does not fund a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FundingPsbtError {
    #[error("funding output not found in PSBT: it must pay {} sat to the channel's address", .0.to_sat())]
    NoOutput(Amount),
    #[error("PSBT has no inputs: add coins that pay for the channel")]
    NoInputs,
    #[error("error determining input sum: input {input} has no UTXO information; have the wallet add it")]
    NoUtxo { input: usize },
    #[error("error determining input sum: input {input} names another transaction than its UTXO information")]
    ForeignUtxo { input: usize },
    #[error("input amount sum must be larger than output amount sum: {} sat come in, {} sat go out", .inputs.to_sat(), .outputs.to_sat())]
    TooLittle { inputs: Amount, outputs: Amount },
    #[error(
        "cannot use TX for channel funding, not all inputs are SegWit spends, risk of malleability: input {input} is \
         non-SegWit spend or missing redeem script"
    )]
    NotSegwit { input: usize },
    #[error("error finalizing PSBT: input {input}: {reason}")]
    NotFinal { input: usize, reason: String },
    #[error("outputs differ from verified PSBT: sign the very transaction that was verified")]
    OtherOutputs,
    #[error("inputs differ from verified PSBT: sign the very transaction that was verified")]
    OtherInputs,
    #[error("inputs not signed: input {input} has no signature data attached")]
    Unsigned { input: usize },
    #[error("inputs not signed: input {input} cannot be spent so: {reason}")]
    BadSignature { input: usize, reason: String },
}

/// A transaction that pays for a channel, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FundingDraft {
    /// All of it but the witnesses: its txid is final.
    transaction: Transaction,
    /// What it spends, in the order of its inputs.
    spent: Vec<TxOut>,
}

impl FundingDraft {
    /// Whether a PSBT pays exactly this output, by inputs that cannot change its txid.
    pub(crate) fn verify(psbt: &Psbt, output: &TxOut) -> Result<Self, FundingPsbtError> {
        let mut transaction = psbt.unsigned_tx.clone();
        if !transaction.output.contains(output) {
            return Err(FundingPsbtError::NoOutput(output.value));
        }
        if transaction.input.is_empty() {
            return Err(FundingPsbtError::NoInputs);
        }
        let mut spent = Vec::with_capacity(transaction.input.len());
        for (at, (input, known)) in transaction.input.iter_mut().zip(&psbt.inputs).enumerate() {
            let utxo = match &known.non_witness_utxo {
                Some(parent) if parent.compute_txid() != input.previous_output.txid => {
                    return Err(FundingPsbtError::ForeignUtxo { input: at });
                }
                Some(parent) => {
                    usize::try_from(input.previous_output.vout).ok().and_then(|vout| parent.output.get(vout))
                }
                None => known.witness_utxo.as_ref(),
            };
            let utxo = utxo.ok_or(FundingPsbtError::NoUtxo { input: at })?;
            input.script_sig =
                segwit_script_sig(&utxo.script_pubkey, known).ok_or(FundingPsbtError::NotSegwit { input: at })?;
            spent.push(utxo.clone());
        }
        let sum = |outputs: &[TxOut]| {
            outputs.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value)).unwrap_or(Amount::MAX)
        };
        let (inputs, outputs) = (sum(&spent), sum(&transaction.output));
        if inputs <= outputs {
            return Err(FundingPsbtError::TooLittle { inputs, outputs });
        }
        Ok(Self { transaction, spent })
    }

    /// The transaction without its witnesses.
    pub(crate) fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// What was verified, signed.
    pub(crate) fn finalize(&self, mut signed: Psbt) -> Result<Transaction, FundingPsbtError> {
        self.check_same(&signed.unsigned_tx)?;
        let secp: Secp256k1<All> = Secp256k1::new();
        for at in 0..signed.inputs.len() {
            let Some((input, spent)) = signed.inputs.get_mut(at).zip(self.spent.get(at)) else {
                return Err(FundingPsbtError::OtherInputs);
            };
            if input.final_script_witness.is_some() {
                continue;
            }
            if input.witness_utxo.is_none() && input.non_witness_utxo.is_none() {
                input.witness_utxo = Some(spent.clone());
            }
            let failed = |reason: String| FundingPsbtError::NotFinal { input: at, reason };
            signed.finalize_inp_mut(&secp, at).map_err(|error| failed(error.to_string()))?;
        }
        self.finalize_raw(signed.extract_tx_unchecked_fee_rate())
    }

    /// What was verified, signed, as a transaction.
    pub(crate) fn finalize_raw(&self, signed: Transaction) -> Result<Transaction, FundingPsbtError> {
        self.check_same(&signed)?;
        let is_bare = |input: &bitcoin::TxIn| input.script_sig.is_empty() && input.witness.is_empty();
        if let Some(input) = signed.input.iter().position(is_bare) {
            return Err(FundingPsbtError::Unsigned { input });
        }
        if signed.compute_txid() != self.transaction.compute_txid() {
            return Err(FundingPsbtError::OtherInputs);
        }
        let spending = SpendingTx::new(&signed, self.spent.clone()).map_err(|_| FundingPsbtError::OtherInputs)?;
        for input in 0..signed.input.len() {
            spending
                .verify_input(input, ScriptFlags::STANDARD)
                .map_err(|reason| FundingPsbtError::BadSignature { input, reason: reason.to_string() })?;
        }
        Ok(signed)
    }

    fn check_same(&self, other: &Transaction) -> Result<(), FundingPsbtError> {
        if other.output != self.transaction.output {
            return Err(FundingPsbtError::OtherOutputs);
        }
        let coins = |transaction: &Transaction| -> Vec<_> {
            transaction.input.iter().map(|input| (input.previous_output, input.sequence)).collect()
        };
        let frame = |transaction: &Transaction| (transaction.version, transaction.lock_time);
        if coins(other) != coins(&self.transaction) || frame(other) != frame(&self.transaction) {
            return Err(FundingPsbtError::OtherInputs);
        }
        Ok(())
    }
}

/// What an input's script will be, which is part of the txid: nothing, or the push of a nested witness program. `None` if it
/// is not known, or would have signatures in it.
fn segwit_script_sig(spent: &Script, input: &psbt::Input) -> Option<ScriptBuf> {
    if spent.is_witness_program() {
        return Some(ScriptBuf::new());
    }
    let nests =
        |program: &Script| program.is_witness_program() && *spent == *ScriptBuf::new_p2sh(&program.script_hash());
    let push = |program: &Script| {
        let bytes = PushBytesBuf::try_from(program.to_bytes()).ok()?;
        Some(ScriptBuf::builder().push_slice(bytes).into_script())
    };
    if let Some(program) = input.redeem_script.as_ref().filter(|program| nests(program)) {
        return push(program);
    }
    // A finalizer takes the redeem script out.
    let script_sig = input.final_script_sig.as_ref()?;
    let instruction = script_sig.instructions().next()?.ok()?;
    let program = ScriptBuf::from_bytes(instruction.push_bytes()?.as_bytes().to_vec());
    let expected = push(&program).filter(|_| nests(&program))?;
    (expected == *script_sig).then_some(expected)
}

#[cfg(test)]
mod tests;
