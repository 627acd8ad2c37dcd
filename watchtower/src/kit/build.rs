//! The client's side: a kit out of a commitment that the peer has revoked.

use bitcoin::OutPoint;
use leyden_channels::{
    keys::{ClaimKey, ClaimSecret, ClaimSigner, KeyError, PerCommitmentSecret},
    tx::{ClaimPath, CommitmentTx, HtlcTx, OutputKind, scripts},
    types::CommitmentType,
};
use secp256k1::ecdsa::Signature;

use super::{Constants, ConstantsKey, HtlcKit, JusticeKit, Sweep};

/// What a kit is made of.
#[derive(Clone, Copy)]
pub struct KitRequest<'a> {
    /// The channel's.
    pub constants: &'a Constants,
    /// Opens the constants for a tower that has opened the kit.
    pub key: ConstantsKey,
    /// The peer's commitment, built again as it was signed.
    pub commitment: &'a CommitmentTx,
    /// What the peer revoked it with.
    pub secret: PerCommitmentSecret,
    /// Signs as the channel's owner.
    pub signer: &'a dyn ClaimSigner,
    /// Whether `to_remote` is covered too: 64 bytes that no cheater makes needful.
    pub with_to_remote: bool,
}

/// Why there is no kit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum KitError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the channel's constants are for {constants:?} commitments, and this one is of {commitment:?}")]
    Kind { constants: CommitmentType, commitment: CommitmentType },
    #[error("output {vout} cannot be hashed for signing")]
    Sighash { vout: u32 },
}

/// Signs one claim of each output that is worth it. One signature an output, two an HTLC with `static_remotekey`; some
/// 20 µs each.
pub fn build(request: &KitRequest<'_>) -> Result<JusticeKit, KitError> {
    let KitRequest { constants, key, commitment, secret, signer, with_to_remote } = *request;
    if constants.kind != commitment.kind {
        return Err(KitError::Kind { constants: constants.kind, commitment: commitment.kind });
    }
    let per_commitment_point = secret.point()?;
    let keys = constants.keys(per_commitment_point)?;
    let mut kit = JusticeKit {
        kind: constants.kind,
        key,
        per_commitment_point,
        to_local: None,
        to_remote: None,
        htlcs: Vec::new(),
    };
    let penalty = signer.claim_secret(&ClaimKey::Revocation { per_commitment_secret: secret })?;
    let mut stages = commitment.htlc_txs();
    for (vout, output, info) in commitment.outputs() {
        let outpoint = OutPoint { txid: commitment.txid, vout };
        let sweep = |path: ClaimPath| {
            let terms = (&constants.sweep_script, constants.sweep_feerate);
            Sweep::new(outpoint, output.clone(), info.witness_script.clone(), path, terms)
        };
        match info.kind {
            OutputKind::ToLocal => kit.to_local = sign(sweep(ClaimPath::PenaltyDelayed), &penalty)?,
            OutputKind::ToRemote if with_to_remote => {
                let path = constants.to_remote_path();
                kit.to_remote = sign(sweep(path), &signer.claim_secret(&ClaimKey::Payment)?)?;
            }
            OutputKind::ToRemote | OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => {}
            OutputKind::Htlc(htlc) => {
                let stage = stages.next();
                let path = ClaimPath::PenaltyHtlc { revocation_key: keys.revocation };
                let (Some(signature), Ok(vout)) = (sign(sweep(path), &penalty)?, u16::try_from(vout)) else {
                    continue;
                };
                let second_stage = match constants.kind {
                    CommitmentType::StaticRemoteKey => sign(second_stage(constants, stage), &penalty)?,
                    CommitmentType::Anchors => None,
                };
                let payment_hash160 = scripts::payment_hash160(&htlc.payment_hash);
                let (direction, cltv_expiry) = (htlc.direction, htlc.cltv_expiry);
                kit.htlcs.push(HtlcKit { vout, direction, cltv_expiry, payment_hash160, signature, second_stage });
            }
        }
    }
    Ok(kit)
}

fn sign(sweep: Option<Sweep>, secret: &ClaimSecret) -> Result<Option<Signature>, KitError> {
    let Some(sweep) = sweep else { return Ok(None) };
    let sighash = sweep.sighash().ok_or(KitError::Sighash { vout: sweep.outpoint.vout })?;
    // A byte of a witness is a quarter of a vbyte, and there are a hundred of these for each that is ever needed.
    Ok(Some(secret.sign_any_r(&sighash)))
}

/// Of the output of the second stage, which the cheater can only publish as both have signed it.
fn second_stage(constants: &Constants, stage: Option<HtlcTx<'_>>) -> Option<Sweep> {
    let stage = stage?;
    let output = stage.tx.output.first()?;
    let outpoint = OutPoint { txid: stage.tx.compute_txid(), vout: 0 };
    let script = Some(stage.output_script.clone());
    let terms = (&constants.sweep_script, constants.sweep_feerate);
    Sweep::new(outpoint, output.clone(), script, ClaimPath::PenaltyDelayed, terms)
}

impl Constants {
    pub(super) fn to_remote_path(&self) -> ClaimPath {
        match self.kind {
            CommitmentType::StaticRemoteKey => ClaimPath::ToRemote { payment_key: self.local_payment },
            CommitmentType::Anchors => ClaimPath::ToRemoteAnchors,
        }
    }
}
