//! Channels that one side has closed alone, as the API shows them.

use bitcoin::Amount;
use leyden_channels::{
    channel::EstablishedSummary,
    onchain::{Role, TrackedOutput},
    types::{Height, Side},
};

use crate::{
    api::{ChannelSummary, ForceClosingChannel, PendingChannels, PendingHtlc, WaitingCloseChannel},
    driver::onchain::{ResolutionState, is_delayed},
};

/// Adds a channel that is closing, by an agreement or alone.
pub(super) fn add(
    pending: &mut PendingChannels,
    summary: ChannelSummary,
    known: &EstablishedSummary,
    resolution: Option<&ResolutionState>,
    tip: Height,
) {
    let Some(state) = resolution else {
        return pending.waiting_close.push(waiting(summary, known, None));
    };
    let Some((closing_txid, _)) = state.close else {
        return pending.waiting_close.push(waiting(summary, known, Some(state)));
    };
    let unspent = || state.outputs.iter().filter(|output| output.is_unspent());
    let delayed = unspent().filter(|output| output.role == Role::ToLocal);
    let matures_at = delayed.filter_map(matures_at).max();
    pending.force_closing.push(ForceClosingChannel {
        summary,
        closing_txid,
        limbo: unspent().filter(|output| is_ours(output)).map(|output| output.output.value).sum(),
        recovered: state.recovered.to_unsigned().unwrap_or(Amount::ZERO),
        matures_at,
        blocks_until_mature: matures_at.map_or(0, |height| blocks_until(height, tip)),
        htlcs: unspent().filter_map(|output| htlc(output, tip)).collect(),
    });
}

fn waiting(
    summary: ChannelSummary,
    known: &EstablishedSummary,
    resolution: Option<&ResolutionState>,
) -> WaitingCloseChannel {
    WaitingCloseChannel {
        limbo: summary.local_balance.floor_sat(),
        closing: resolution.and_then(|state| state.closing.clone()),
        local_commitment: resolution.and_then(|state| state.local_commitment),
        remote_commitment: resolution.and_then(|state| state.remote_commitment),
        local_commit_fee: known.commitment_fee,
        remote_commit_fee: known.commitment_fee,
        summary,
    }
}

/// Whether an output comes to us, unless the peer is faster or shows a preimage.
fn is_ours(output: &TrackedOutput) -> bool {
    output.claim.is_some()
}

/// The height of the first block that can hold our claim.
fn matures_at(output: &TrackedOutput) -> Option<Height> {
    output.claimable_from().map(|tip| Height(tip.0.saturating_add(1)))
}

fn blocks_until(height: Height, tip: Height) -> u32 {
    height.0.saturating_sub(tip.0.saturating_add(1))
}

/// An HTLC output, or what its second stage pays.
fn htlc(output: &TrackedOutput, tip: Height) -> Option<PendingHtlc> {
    let (owner, htlc) = match &output.role {
        Role::LocalHtlc(htlc) | Role::LocalSecondStage(htlc) => (Side::Local, htlc),
        Role::RemoteHtlc(htlc) | Role::RevokedHtlc(htlc) => (Side::Remote, htlc),
        Role::ToLocal | Role::ToRemote | Role::RevokedToLocal | Role::RevokedSecondStage | Role::Anchor => return None,
    };
    let direction = match owner {
        Side::Local => htlc.direction,
        Side::Remote => htlc.direction.reversed(),
    };
    // Without its preimage an HTLC offered to us ends when the peer takes it back.
    let matures_at = matures_at(output).unwrap_or(Height(htlc.cltv_expiry.0));
    Some(PendingHtlc {
        direction,
        amount: output.output.value,
        outpoint: output.outpoint,
        matures_at,
        blocks_until_mature: blocks_until(matures_at, tip),
        second_stage: is_delayed(output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maturity_counts_the_blocks_before_the_one_that_can_hold_the_claim() {
        assert_eq!(blocks_until(Height(1100), Height(100)), 999);
        assert_eq!(blocks_until(Height(1100), Height(1099)), 0);
        assert_eq!(blocks_until(Height(1100), Height(1200)), 0);
    }
}
