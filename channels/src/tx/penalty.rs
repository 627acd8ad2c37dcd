//! Penalties: every output of a revoked commitment, and of whatever its owner made of the HTLC outputs, is ours
//! (BOLT 5, Revoked Transaction Close Handling).
//!
//! ```text
//!  revoked commitment ──► to_local ─────────────────────► penalty (BR)
//!                    ├──► HTLC ─────────────────────────► penalty (HBR)
//!                    └──► HTLC ──► HTLC-success/-timeout ► penalty (HTBR), also if several share one transaction
//! ```

use bitcoin::{OutPoint, ScriptBuf, Transaction};

use super::{
    ClaimInput, ClaimPath, CommitmentHtlc, CommitmentParams, OutputKind, RecognisedOutput, recognise_outputs, scripts,
};
use crate::{
    keys::{Basepoints, ClaimKey, CommitmentKeys, KeyError, PerCommitmentSecret},
    types::{CommitmentType, Side},
};

/// A revoked state of the peer's: its keys, rebuilt from the secret that the peer has revealed.
#[derive(Clone, Debug)]
pub struct RevokedState<'a> {
    params: &'a CommitmentParams,
    keys: CommitmentKeys,
    secret: PerCommitmentSecret,
    delayed_script: ScriptBuf,
}

impl<'a> RevokedState<'a> {
    /// `params` are those of the peer's commitments.
    pub fn new(
        params: &'a CommitmentParams,
        local: &Basepoints,
        remote: &Basepoints,
        secret: PerCommitmentSecret,
    ) -> Result<Self, KeyError> {
        debug_assert_eq!(params.owner, Side::Remote);
        let keys = CommitmentKeys::derive(secret.point()?, remote, local)?;
        let delayed_script = scripts::delayed(&keys.revocation, params.owner_to_self_delay, &keys.owner_delayed);
        Ok(Self { params, keys, secret, delayed_script })
    }

    /// The keys of the revoked commitment.
    pub fn keys(&self) -> &CommitmentKeys {
        &self.keys
    }

    /// What each output of the revoked commitment is, with its penalty; `htlcs` are that state's, as its owner (the
    /// peer) saw them. `to_remote` is ours without a penalty: its claim is the ordinary one. Anchors have none.
    pub fn claims(
        &self,
        commitment: &Transaction,
        local_payment: &Basepoints,
        htlcs: &[CommitmentHtlc],
    ) -> Vec<(RecognisedOutput, Option<ClaimInput>)> {
        let txid = commitment.compute_txid();
        recognise_outputs(commitment, self.params, &self.keys, htlcs)
            .into_iter()
            .map(|recognised| {
                let outpoint = OutPoint { txid, vout: recognised.vout };
                let claim = match recognised.info.kind {
                    OutputKind::ToLocal => Some(self.penalty(outpoint, &recognised, ClaimPath::PenaltyDelayed)),
                    OutputKind::Htlc(_) => {
                        let path = ClaimPath::PenaltyHtlc { revocation_key: self.keys.revocation };
                        Some(self.penalty(outpoint, &recognised, path))
                    }
                    OutputKind::ToRemote => {
                        Some(to_remote_claim(outpoint, &recognised, self.params.kind, local_payment))
                    }
                    OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => None,
                };
                (recognised, claim)
            })
            .collect()
    }

    /// Penalties on the outputs of a transaction with which the peer has spent HTLC outputs of this revoked state:
    /// one for each output that pays to its delayed key, however many HTLCs it merged.
    pub fn second_stage_penalties(&self, tx: &Transaction) -> Vec<ClaimInput> {
        let txid = tx.compute_txid();
        let script_pubkey = scripts::p2wsh(&self.delayed_script);
        (0..)
            .zip(&tx.output)
            .filter(|(_, output)| output.script_pubkey == script_pubkey)
            .map(|(vout, output)| ClaimInput {
                outpoint: OutPoint { txid, vout },
                output: output.clone(),
                witness_script: Some(self.delayed_script.clone()),
                key: ClaimKey::Revocation { per_commitment_secret: self.secret },
                path: ClaimPath::PenaltyDelayed,
            })
            .collect()
    }

    fn penalty(&self, outpoint: OutPoint, recognised: &RecognisedOutput, path: ClaimPath) -> ClaimInput {
        ClaimInput {
            outpoint,
            output: recognised.output.clone(),
            witness_script: recognised.info.witness_script.clone(),
            key: ClaimKey::Revocation { per_commitment_secret: self.secret },
            path,
        }
    }
}

/// The claim on `to_remote` of the peer's commitment.
pub fn to_remote_claim(
    outpoint: OutPoint,
    recognised: &RecognisedOutput,
    kind: CommitmentType,
    local: &Basepoints,
) -> ClaimInput {
    ClaimInput {
        outpoint,
        output: recognised.output.clone(),
        witness_script: recognised.info.witness_script.clone(),
        key: ClaimKey::Payment,
        path: match kind {
            CommitmentType::StaticRemoteKey => ClaimPath::ToRemote { payment_key: local.payment },
            CommitmentType::Anchors => ClaimPath::ToRemoteAnchors,
        },
    }
}
