//! The funding output: a P2WSH of both funding keys, and the witness that spends it.

use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, Witness, sighash::SighashCache,
};
use secp256k1::{Message, PublicKey, ecdsa::Signature};

use super::scripts;

/// The witness script of a funding output.
pub fn funding_witness_script(one: &PublicKey, another: &PublicKey) -> ScriptBuf {
    scripts::funding(one, another)
}

/// The output script that the wallet pays to when it funds a channel.
pub fn funding_script_pubkey(one: &PublicKey, another: &PublicKey) -> ScriptBuf {
    scripts::p2wsh(&scripts::funding(one, another))
}

/// A channel's funding output, with all that spending it needs again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funding {
    /// The output's name.
    pub outpoint: OutPoint,
    /// What it is worth.
    pub amount: Amount,
    local_key: PublicKey,
    remote_key: PublicKey,
    witness_script: ScriptBuf,
}

/// Both signatures of a transaction that spends the funding output, each under `SIGHASH_ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FundingSignatures {
    /// With our key.
    pub local: Signature,
    /// With the peer's key.
    pub remote: Signature,
}

impl Funding {
    /// The output of these two keys (BOLT 3, Funding Transaction Output).
    pub fn new(outpoint: OutPoint, amount: Amount, local_key: PublicKey, remote_key: PublicKey) -> Self {
        let witness_script = scripts::funding(&local_key, &remote_key);
        Self { outpoint, amount, local_key, remote_key, witness_script }
    }

    /// Our `funding_pubkey`.
    pub fn local_key(&self) -> &PublicKey {
        &self.local_key
    }

    /// The peer's `funding_pubkey`.
    pub fn remote_key(&self) -> &PublicKey {
        &self.remote_key
    }

    /// Two of two, the keys in lexicographic order.
    pub fn witness_script(&self) -> &ScriptBuf {
        &self.witness_script
    }

    /// The output's script: P2WSH of the witness script.
    pub fn script_pubkey(&self) -> ScriptBuf {
        scripts::p2wsh(&self.witness_script)
    }

    /// The digest that both nodes sign in a transaction whose only input is this output.
    pub fn sighash(&self, tx: &Transaction) -> Message {
        p2wsh_sighash(tx, &self.witness_script, self.amount, EcdsaSighashType::All)
    }

    /// The witness, its signatures in the order of their keys.
    pub fn witness(&self, signatures: &FundingSignatures) -> Witness {
        let (first, second) = if self.local_key.serialize() <= self.remote_key.serialize() {
            (signatures.local, signatures.remote)
        } else {
            (signatures.remote, signatures.local)
        };
        let mut witness = Witness::new();
        witness.push([]);
        witness.push_ecdsa_signature(&bitcoin::ecdsa::Signature::sighash_all(first));
        witness.push_ecdsa_signature(&bitcoin::ecdsa::Signature::sighash_all(second));
        witness.push(&self.witness_script);
        witness
    }

    pub(super) fn input(&self, sequence: Sequence) -> TxIn {
        TxIn { previous_output: self.outpoint, script_sig: ScriptBuf::new(), sequence, witness: Witness::new() }
    }
}

/// The digest of input 0. For that index it cannot fail: every transaction that is built here has an input 0.
pub(super) fn p2wsh_sighash(
    tx: &Transaction,
    witness_script: &ScriptBuf,
    amount: Amount,
    sighash_type: EcdsaSighashType,
) -> Message {
    debug_assert!(!tx.input.is_empty());
    match SighashCache::new(tx).p2wsh_signature_hash(0, witness_script, amount, sighash_type) {
        Ok(sighash) => Message::from(sighash),
        Err(_) => Message::from_digest([0; 32]),
    }
}
