//! The outputs of a revoked commitment, and of all that the cheater makes of them (BOLT 5, Revoked Transaction Close
//! Handling).
//!
//! ```text
//!  revoked commitment ─► to_local, HTLCs ─► penalty, at once
//!          └─► HTLC ─► the cheater's second stages, merged or not ─► each output that pays its delayed key ─► penalty
//! ```

use bitcoin::{OutPoint, Transaction};

use super::{ClosingChannel, Role, TrackedOutput, closing_channel::RebuildError, deadline};
use crate::{
    keys::PerCommitmentSecret,
    tx::{CommitmentHtlc, OutputKind, RevokedState},
    types::{Height, Side},
};

/// The outputs of the revoked commitment; `htlcs` are that state's, as the peer saw them.
pub(super) fn outputs(
    channel: &ClosingChannel,
    secret: PerCommitmentSecret,
    htlcs: &[CommitmentHtlc],
    commitment: &Transaction,
    confirmed: Height,
) -> Result<Vec<TrackedOutput>, RebuildError> {
    let params = channel.params(Side::Remote);
    let state = RevokedState::new(&params, &channel.local, &channel.remote, secret)?;
    let txid = commitment.compute_txid();
    let claims = state.claims(commitment, &channel.local, htlcs);
    Ok(claims
        .into_iter()
        .filter_map(|(found, claim)| {
            let role = match found.info.kind {
                OutputKind::ToLocal => Role::RevokedToLocal,
                OutputKind::ToRemote => Role::ToRemote,
                OutputKind::Htlc(htlc) => Role::RevokedHtlc(htlc),
                OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => return None,
            };
            Some(TrackedOutput {
                outpoint: OutPoint { txid, vout: found.vout },
                output: found.output,
                role,
                confirmed,
                claim,
                deadline: deadline::of_output(channel, &role, confirmed),
                spend: None,
                contested: false,
            })
        })
        .collect())
}

/// What is ours in a transaction with which the cheater spent HTLC outputs.
pub(super) fn second_stages(
    channel: &ClosingChannel,
    secret: PerCommitmentSecret,
    tx: &Transaction,
    confirmed: Height,
) -> Result<Vec<TrackedOutput>, RebuildError> {
    let params = channel.params(Side::Remote);
    let state = RevokedState::new(&params, &channel.local, &channel.remote, secret)?;
    let role = Role::RevokedSecondStage;
    Ok(state
        .second_stage_penalties(tx)
        .into_iter()
        .map(|claim| TrackedOutput {
            outpoint: claim.outpoint,
            output: claim.output.clone(),
            role,
            confirmed,
            claim: Some(claim),
            deadline: deadline::of_output(channel, &role, confirmed),
            spend: None,
            contested: false,
        })
        .collect())
}
