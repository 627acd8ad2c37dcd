//! The second stage of an HTLC on its owner's commitment: HTLC-timeout for an offered one, HTLC-success for a
//! received one (BOLT 3, HTLC-Timeout and HTLC-Success Transactions).

use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute,
    transaction::Version,
};
use secp256k1::{Message, ecdsa::Signature};

use super::{CommitmentHtlc, CommitmentTx, fee, funding::p2wsh_sighash, scripts};
use crate::{
    keys::{CommitmentKeys, curve},
    types::{CommitmentType, HtlcDirection, PaymentPreimage},
};

/// A second-stage transaction without its witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcTx<'a> {
    /// The transaction, unsigned.
    pub tx: Transaction,
    /// The HTLC that it spends.
    pub htlc: &'a CommitmentHtlc,
    /// What the commitment's HTLC output carries.
    pub input_amount: Amount,
    /// The witness script of that output.
    pub witness_script: &'a ScriptBuf,
    /// The witness script of this transaction's own output.
    pub output_script: &'a ScriptBuf,
    pub(super) kind: CommitmentType,
}

impl<'a> HtlcTx<'a> {
    pub(super) fn new(
        commitment: &'a CommitmentTx,
        vout: u32,
        htlc: &'a CommitmentHtlc,
        witness_script: &'a ScriptBuf,
    ) -> Self {
        let input_amount = htlc.amount.floor_sat();
        let own_fee = fee::htlc_tx_fee(commitment.kind, htlc.direction, commitment.feerate);
        let tx = Transaction {
            version: Version::TWO,
            lock_time: match htlc.direction {
                HtlcDirection::Offered => absolute::LockTime::from_consensus(htlc.cltv_expiry.0),
                HtlcDirection::Received => absolute::LockTime::ZERO,
            },
            input: vec![TxIn {
                previous_output: OutPoint { txid: commitment.txid, vout },
                script_sig: ScriptBuf::new(),
                sequence: match commitment.kind {
                    CommitmentType::StaticRemoteKey => Sequence(0),
                    CommitmentType::Anchors => Sequence(1),
                },
                witness: Witness::new(),
            }],
            output: vec![TxOut {
                // Not below zero: the HTLC was trimmed if it could not pay its second stage.
                value: input_amount.checked_sub(own_fee).unwrap_or(Amount::ZERO),
                script_pubkey: scripts::p2wsh(&commitment.delayed_script),
            }],
        };
        Self {
            tx,
            htlc,
            input_amount,
            witness_script,
            output_script: &commitment.delayed_script,
            kind: commitment.kind,
        }
    }

    /// What the other node signs: with anchors the owner may add inputs and outputs for the fee.
    pub fn sighash_for_other(&self) -> Message {
        p2wsh_sighash(&self.tx, self.witness_script, self.input_amount, other_sighash_type(self.kind))
    }

    /// What the owner signs.
    pub fn sighash_for_owner(&self) -> Message {
        p2wsh_sighash(&self.tx, self.witness_script, self.input_amount, EcdsaSighashType::All)
    }

    /// True if `signature` is the other node's for this transaction.
    pub fn verify_other(&self, signature: &Signature, keys: &CommitmentKeys) -> bool {
        keys.htlc().is_ok_and(|htlc| curve::verify(&self.sighash_for_other(), signature, &htlc.other))
    }

    /// The transaction with its witness. An HTLC-success needs the preimage; an HTLC-timeout ignores it.
    pub fn signed(self, signatures: &HtlcSignatures, preimage: Option<&PaymentPreimage>) -> Transaction {
        let owner = bitcoin::ecdsa::Signature::sighash_all(signatures.owner).serialize();
        let (kind, direction) = (self.kind, self.htlc.direction);
        let witness = htlc_witness(kind, signatures.other, &owner, preimage, direction, self.witness_script);
        let mut tx = self.tx;
        if let Some(input) = tx.input.first_mut() {
            input.witness = witness;
        }
        tx
    }
}

/// Both signatures of a second-stage transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtlcSignatures {
    /// With the key of the commitment's owner.
    pub owner: Signature,
    /// With the other node's key.
    pub other: Signature,
}

/// The witness of a second-stage input. `owner` is the owner's signature with its sighash byte.
pub(super) fn htlc_witness(
    kind: CommitmentType,
    other: Signature,
    owner: &[u8],
    preimage: Option<&PaymentPreimage>,
    direction: HtlcDirection,
    witness_script: &ScriptBuf,
) -> Witness {
    let mut witness = Witness::new();
    witness.push([]);
    let other = bitcoin::ecdsa::Signature { signature: other, sighash_type: other_sighash_type(kind) };
    witness.push_ecdsa_signature(&other);
    witness.push(owner);
    match (direction, preimage) {
        (HtlcDirection::Received, Some(preimage)) => witness.push(preimage.0),
        (HtlcDirection::Received, None) | (HtlcDirection::Offered, _) => witness.push([]),
    }
    witness.push(witness_script);
    witness
}

/// The sighash type of the other node's signature on a second-stage transaction.
pub(super) fn other_sighash_type(kind: CommitmentType) -> EcdsaSighashType {
    match kind {
        CommitmentType::StaticRemoteKey => EcdsaSighashType::All,
        CommitmentType::Anchors => EcdsaSighashType::SinglePlusAnyoneCanPay,
    }
}
