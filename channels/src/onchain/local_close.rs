//! The outputs of our own commitment (BOLT 5, Unilateral Close Handling: Local Commitment Transaction).
//!
//! `to_local` is ours after our delay. An HTLC that we offered goes through HTLC-timeout at its expiry, one offered to
//! us through HTLC-success as soon as we know its preimage; what the second stage pays is ours after the delay again.
//! `to_remote` is the peer's own business.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction};

use super::{ClosingChannel, Role, TrackedOutput, deadline};
use crate::{
    keys::ClaimKey,
    tx::{ClaimInput, ClaimPath, CommitmentTx, OutputKind, SecondStage, scripts},
    types::{Height, HtlcDirection, PaymentHash, PaymentPreimage},
};

/// The outputs of our commitment that concern us.
pub(super) fn outputs(
    channel: &ClosingChannel,
    commitment: &CommitmentTx,
    confirmed: Height,
    preimages: &BTreeMap<PaymentHash, PaymentPreimage>,
) -> Vec<TrackedOutput> {
    let Some(state) = &channel.local_state else { return Vec::new() };
    let point = state.per_commitment_point;
    let mut second_stages: BTreeMap<u32, ClaimInput> = commitment
        .htlc_txs()
        .zip(&state.signatures.htlcs)
        .filter_map(|(htlc, signature)| {
            let preimage = preimages.get(&htlc.htlc.payment_hash).copied();
            match (htlc.htlc.direction, &preimage) {
                (HtlcDirection::Offered, _) | (HtlcDirection::Received, Some(_)) => {}
                (HtlcDirection::Received, None) => return None,
            }
            let key = ClaimKey::Htlc { per_commitment_point: point };
            let claim = SecondStage::claim(htlc, *signature, preimage, key)?;
            Some((claim.outpoint.vout, claim))
        })
        .collect();

    commitment
        .outputs()
        .filter_map(|(vout, output, info)| {
            let outpoint = OutPoint { txid: commitment.txid, vout };
            let (role, claim) = match info.kind {
                OutputKind::ToLocal => {
                    let claim = ClaimInput {
                        outpoint,
                        output: output.clone(),
                        witness_script: info.witness_script.clone(),
                        key: ClaimKey::Delayed { per_commitment_point: point },
                        path: ClaimPath::Delayed { to_self_delay: channel.local_delay },
                    };
                    (Role::ToLocal, Some(claim))
                }
                OutputKind::Htlc(htlc) => (Role::LocalHtlc(htlc), second_stages.remove(&vout)),
                OutputKind::ToRemote | OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => return None,
            };
            let deadline = deadline::of_output(channel, &role, confirmed);
            let output = output.clone();
            Some(TrackedOutput { outpoint, output, role, confirmed, claim, deadline, spend: None, contested: false })
        })
        .collect()
}

/// The output of our second stage, if `tx` is it: the one that pays to our delayed key at the place of the input that
/// spent the HTLC (with anchors the peer's signature binds the two; without, there is one of each).
pub(super) fn second_stage(
    channel: &ClosingChannel,
    commitment: &CommitmentTx,
    spent: &TrackedOutput,
    tx: &Transaction,
    confirmed: Height,
) -> Option<TrackedOutput> {
    let (Role::LocalHtlc(htlc), Some(state)) = (spent.role, &channel.local_state) else { return None };
    let index = tx.input.iter().position(|input| input.previous_output == spent.outpoint)?;
    let output = tx.output.get(index)?;
    if output.script_pubkey != scripts::p2wsh(&commitment.delayed_script) {
        return None;
    }
    let outpoint = OutPoint { txid: tx.compute_txid(), vout: u32::try_from(index).ok()? };
    Some(TrackedOutput {
        outpoint,
        output: output.clone(),
        role: Role::LocalSecondStage(htlc),
        confirmed,
        claim: Some(ClaimInput {
            outpoint,
            output: output.clone(),
            witness_script: Some(commitment.delayed_script.clone()),
            key: ClaimKey::Delayed { per_commitment_point: state.per_commitment_point },
            path: ClaimPath::Delayed { to_self_delay: channel.local_delay },
        }),
        deadline: None,
        spend: None,
        contested: false,
    })
}
