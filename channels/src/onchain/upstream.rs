//! When what happens on this channel's chain is told to the incoming HTLC behind an outgoing one.
//!
//! ```text
//!  the peer shows a preimage, in the mempool or in a block ─────────────► fulfilled, at once
//!  our timeout (or penalty) has spent the output, deep enough ──────────► failed
//!  the close has no output for it (dust, or another state), deep enough ► failed
//!  its output was never worth its claim, for weeks ─────────────────────► failed
//!  the close is one whose outputs we cannot know (lost data) ───────────► failed long after its expiry
//!  upstream is about to expire, and nothing is decided yet ─────────────► failed: better lose this HTLC than both
//! ```

use std::collections::BTreeMap;

use bitcoin::{
    Transaction,
    hashes::{Hash as _, sha256},
};

use super::{ClosingChannel, Policy, TrackedOutput};
use crate::{
    tx::CommitmentHtlc,
    types::{Height, PaymentHash, PaymentPreimage},
};

/// Preimages of these HTLCs that a transaction's witnesses show: an item of 32 bytes that hashes to the payment hash,
/// wherever it stands, so that every way to spend an HTLC is covered.
pub(super) fn preimages_in<'a>(
    tx: &Transaction,
    htlcs: impl IntoIterator<Item = &'a CommitmentHtlc>,
) -> BTreeMap<PaymentHash, PaymentPreimage> {
    let shown: BTreeMap<PaymentHash, PaymentPreimage> = tx
        .input
        .iter()
        .flat_map(|input| input.witness.iter())
        .filter_map(|item| <[u8; 32]>::try_from(item).ok())
        .map(|item| (PaymentHash(sha256::Hash::hash(&item).to_byte_array()), PaymentPreimage(item)))
        .collect();
    htlcs
        .into_iter()
        .filter_map(|htlc| shown.get(&htlc.payment_hash).map(|preimage| (htlc.payment_hash, *preimage)))
        .collect()
}

/// How deep `height` is under `tip`: 1 for the tip itself.
pub(super) fn depth(height: Height, tip: Height) -> u32 {
    (tip.0.saturating_add(1)).saturating_sub(height.0)
}

/// What has become of an outgoing HTLC.
pub(super) enum Fate<'a> {
    /// The channel is not closed in a block.
    Open,
    /// The close, at this height, has no output for it.
    NoOutput { closed: Height },
    /// This output holds it.
    Held { output: &'a TrackedOutput, given_up: bool },
    /// The close may have an output for it that we cannot find.
    Unknown,
}

/// Whether an outgoing HTLC without a known preimage is to be failed upstream now.
pub(super) fn is_lost(
    channel: &ClosingChannel,
    htlc: &CommitmentHtlc,
    fate: &Fate<'_>,
    tip: Height,
    policy: &Policy,
) -> bool {
    let upstream_ends = channel
        .upstream_expiries
        .get(&htlc.id)
        .is_some_and(|expiry| tip.0.saturating_add(policy.upstream_margin) >= expiry.0);
    let decided = match fate {
        Fate::Open => false,
        Fate::NoOutput { closed } => depth(*closed, tip) >= policy.fail_depth,
        // Somebody spent it and no preimage was seen: that was us.
        Fate::Held { output, given_up } => match output.spend {
            Some(spend) => depth(spend.height, tip) >= policy.fail_depth,
            None => *given_up,
        },
        Fate::Unknown => depth(Height(htlc.cltv_expiry.0), tip) >= policy.finality,
    };
    decided || upstream_ends
}
