//! The outputs of a commitment of the peer's (BOLT 5, Unilateral Close Handling: Remote Commitment Transaction).
//!
//! `to_remote` is ours. An HTLC that we offered we take back at its expiry, one offered to us with its preimage, both
//! directly. After a loss of data, when the state is newer than any that we know, `to_remote` is all that we can find.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction};

use super::{ClosingChannel, RemoteState, Role, TrackedOutput, closing_channel::RebuildError, deadline};
use crate::{
    keys::ClaimKey,
    tx::{
        ClaimInput, ClaimPath, CommitmentHtlc, CommitmentTx, OutputKind, RecognisedOutput, recognise_outputs,
        to_remote_claim,
    },
    types::{Height, HtlcDirection, PaymentHash, PaymentPreimage, Side},
};

/// The outputs that concern us of a commitment that we know.
pub(super) fn outputs(
    channel: &ClosingChannel,
    state: &RemoteState,
    commitment: &CommitmentTx,
    confirmed: Height,
    preimages: &BTreeMap<PaymentHash, PaymentPreimage>,
) -> Vec<TrackedOutput> {
    commitment
        .outputs()
        .filter_map(|(vout, output, info)| {
            let outpoint = OutPoint { txid: commitment.txid, vout };
            let recognised = RecognisedOutput { vout, output: output.clone(), info: info.clone() };
            let (role, claim) = match info.kind {
                OutputKind::ToRemote => {
                    (Role::ToRemote, Some(to_remote_claim(outpoint, &recognised, channel.kind, &channel.local)))
                }
                OutputKind::Htlc(htlc) => {
                    let claim = htlc_path(channel, &htlc, preimages).map(|path| ClaimInput {
                        outpoint,
                        output: output.clone(),
                        witness_script: info.witness_script.clone(),
                        key: ClaimKey::Htlc { per_commitment_point: state.per_commitment_point },
                        path,
                    });
                    (Role::RemoteHtlc(htlc), claim)
                }
                OutputKind::ToLocal | OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => return None,
            };
            let deadline = deadline::of_output(channel, &role, confirmed);
            let output = output.clone();
            Some(TrackedOutput { outpoint, output, role, confirmed, claim, deadline, spend: None, contested: false })
        })
        .collect()
}

/// How we take an HTLC of the peer's commitment; `None` without its preimage.
fn htlc_path(
    channel: &ClosingChannel,
    htlc: &CommitmentHtlc,
    preimages: &BTreeMap<PaymentHash, PaymentPreimage>,
) -> Option<ClaimPath> {
    let kind = channel.kind;
    match htlc.direction {
        HtlcDirection::Received => Some(ClaimPath::HtlcTimeout { kind, cltv_expiry: htlc.cltv_expiry }),
        HtlcDirection::Offered => {
            preimages.get(&htlc.payment_hash).map(|preimage| ClaimPath::HtlcPreimage { kind, preimage: *preimage })
        }
    }
}

/// `to_remote` of a commitment of which we know nothing but our own key.
pub(super) fn to_remote_only(
    channel: &ClosingChannel,
    tx: &Transaction,
    confirmed: Height,
) -> Result<Vec<TrackedOutput>, RebuildError> {
    let mut ours = ours_in(channel, tx, confirmed)?;
    ours.retain(|output| output.role == Role::ToRemote);
    Ok(ours)
}

/// What pays to our own keys in a transaction that neither of both should have signed: `to_remote`, and our anchor.
pub(super) fn ours_in(
    channel: &ClosingChannel,
    tx: &Transaction,
    confirmed: Height,
) -> Result<Vec<TrackedOutput>, RebuildError> {
    // Any point will do: neither depends on it.
    let keys = channel.keys(Side::Remote, channel.remote.payment)?;
    let txid = tx.compute_txid();
    let found = recognise_outputs(tx, &channel.params(Side::Remote), &keys, &[]);
    let ours = found.into_iter().filter_map(|found| {
        let outpoint = OutPoint { txid, vout: found.vout };
        let (role, claim) = match found.info.kind {
            OutputKind::ToRemote => (Role::ToRemote, to_remote_claim(outpoint, &found, channel.kind, &channel.local)),
            // In a commitment of the peer's, the other one's anchor is ours.
            OutputKind::ToRemoteAnchor => {
                let claim = ClaimInput {
                    outpoint,
                    output: found.output.clone(),
                    witness_script: found.info.witness_script.clone(),
                    key: ClaimKey::Funding,
                    path: ClaimPath::Anchor,
                };
                (Role::Anchor, claim)
            }
            OutputKind::ToLocal | OutputKind::ToLocalAnchor | OutputKind::Htlc(_) => return None,
        };
        Some(TrackedOutput {
            outpoint,
            output: found.output,
            role,
            confirmed,
            claim: Some(claim),
            deadline: deadline::of_output(channel, &role, confirmed),
            spend: None,
            contested: false,
        })
    });
    Ok(ours.collect())
}
