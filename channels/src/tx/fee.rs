//! Weights, fees and trimming (BOLT 3, Fees; Trimmed Outputs; Appendix A).
//!
//! The expected weights assume 73-byte signatures and both main outputs, as the spec does: both nodes must arrive at
//! the same satoshi.

use bitcoin::{Amount, Weight};

use super::CommitmentHtlc;
use crate::types::{CommitmentType, FeeratePerKw, HtlcDirection};

/// What each anchor output carries.
pub const ANCHOR_AMOUNT: Amount = Amount::from_sat(330);

/// The longest DER signature with its sighash byte. Ours are one or two bytes shorter.
pub const MAX_SIGNATURE_LEN: u64 = 73;

const WITNESS_SCALE: u64 = 4;
const VERSION: u64 = 4;
const LOCK_TIME: u64 = 4;
const SEGWIT_HEADER_WEIGHT: u64 = 2;
/// Outpoint, empty script, sequence.
pub(crate) const INPUT: u64 = 36 + 1 + 4;
pub(crate) const P2WSH_OUTPUT: u64 = 8 + 1 + 34;
pub(crate) const P2WPKH_OUTPUT: u64 = 8 + 1 + 22;

/// A closing transaction without its outputs.
pub(crate) const CLOSING_BASE_WEIGHT: u64 =
    (VERSION + 1 + INPUT + 1 + LOCK_TIME) * WITNESS_SCALE + SEGWIT_HEADER_WEIGHT + FUNDING_WITNESS;

const FUNDING_SCRIPT: u64 = 1 + 34 + 34 + 1 + 1;
/// Item count, empty item, two signatures, the 2-of-2, each with its length.
pub(crate) const FUNDING_WITNESS: u64 = 1 + 1 + 2 * (1 + MAX_SIGNATURE_LEN) + 1 + FUNDING_SCRIPT;

/// 724: a commitment of `option_static_remotekey` without HTLCs.
pub const COMMITMENT_WEIGHT: u64 = (VERSION + 1 + INPUT + 1 + P2WSH_OUTPUT + P2WPKH_OUTPUT + LOCK_TIME) * WITNESS_SCALE
    + SEGWIT_HEADER_WEIGHT
    + FUNDING_WITNESS;
/// 1124: a commitment with anchors, where the output count is taken as three bytes.
pub const ANCHORS_COMMITMENT_WEIGHT: u64 =
    (VERSION + 1 + INPUT + 3 + 4 * P2WSH_OUTPUT + LOCK_TIME) * WITNESS_SCALE + SEGWIT_HEADER_WEIGHT + FUNDING_WITNESS;
/// 172: each untrimmed HTLC output.
pub const HTLC_OUTPUT_WEIGHT: u64 = P2WSH_OUTPUT * WITNESS_SCALE;

/// What anchors add to an HTLC script: `1 OP_CHECKSEQUENCEVERIFY OP_DROP`.
const ANCHORS_HTLC_SCRIPT_EXTRA: u64 = 3;
pub(crate) const OFFERED_HTLC_SCRIPT: u64 = 133;
/// With a `cltv_expiry` of four bytes, the longest.
pub(crate) const RECEIVED_HTLC_SCRIPT: u64 = 140;
const HTLC_TX_BASE_WEIGHT: u64 =
    (VERSION + 1 + INPUT + 1 + P2WSH_OUTPUT + LOCK_TIME) * WITNESS_SCALE + SEGWIT_HEADER_WEIGHT;
const HTLC_TIMEOUT_WITNESS: u64 = 1 + 1 + 2 * (1 + MAX_SIGNATURE_LEN) + 1 + 1 + OFFERED_HTLC_SCRIPT;
const HTLC_SUCCESS_WITNESS: u64 = 1 + 1 + 2 * (1 + MAX_SIGNATURE_LEN) + 1 + 32 + 1 + RECEIVED_HTLC_SCRIPT;

/// 663: an HTLC-timeout transaction without anchors.
pub const HTLC_TIMEOUT_WEIGHT: u64 = HTLC_TX_BASE_WEIGHT + HTLC_TIMEOUT_WITNESS;
/// 703: an HTLC-success transaction without anchors; one more than the parts add up to, for history's sake.
pub const HTLC_SUCCESS_WEIGHT: u64 = HTLC_TX_BASE_WEIGHT + HTLC_SUCCESS_WITNESS + 1;
/// 666 and 706: the same with anchors. They pay no fee of their own.
pub const ANCHORS_HTLC_TIMEOUT_WEIGHT: u64 = HTLC_TIMEOUT_WEIGHT + ANCHORS_HTLC_SCRIPT_EXTRA;
/// Weight of an HTLC-success transaction with anchors (BOLT 3, Appendix A).
pub const ANCHORS_HTLC_SUCCESS_WEIGHT: u64 = HTLC_SUCCESS_WEIGHT + ANCHORS_HTLC_SCRIPT_EXTRA;

/// `feerate * weight / 1000`, rounded down.
pub fn fee_for_weight(feerate: FeeratePerKw, weight: Weight) -> Amount {
    Amount::from_sat(u64::from(feerate.0).saturating_mul(weight.to_wu()) / 1000)
}

/// The expected weight of a commitment with this many untrimmed HTLCs.
pub fn commitment_weight(kind: CommitmentType, untrimmed_htlcs: usize) -> Weight {
    let base = match kind {
        CommitmentType::StaticRemoteKey => COMMITMENT_WEIGHT,
        CommitmentType::Anchors => ANCHORS_COMMITMENT_WEIGHT,
    };
    Weight::from_wu(base.saturating_add(HTLC_OUTPUT_WEIGHT.saturating_mul(untrimmed_htlcs as u64)))
}

/// The base fee of a commitment, which its opener pays.
pub fn commitment_fee(kind: CommitmentType, feerate: FeeratePerKw, untrimmed_htlcs: usize) -> Amount {
    fee_for_weight(feerate, commitment_weight(kind, untrimmed_htlcs))
}

/// What the opener pays for both anchors.
pub fn anchors_cost(kind: CommitmentType) -> Amount {
    match kind {
        CommitmentType::StaticRemoteKey => Amount::ZERO,
        CommitmentType::Anchors => ANCHOR_AMOUNT * 2,
    }
}

/// The expected weight of the second stage of an HTLC: HTLC-timeout if offered, HTLC-success if received.
pub fn htlc_tx_weight(kind: CommitmentType, direction: HtlcDirection) -> Weight {
    Weight::from_wu(match (kind, direction) {
        (CommitmentType::StaticRemoteKey, HtlcDirection::Offered) => HTLC_TIMEOUT_WEIGHT,
        (CommitmentType::StaticRemoteKey, HtlcDirection::Received) => HTLC_SUCCESS_WEIGHT,
        (CommitmentType::Anchors, HtlcDirection::Offered) => ANCHORS_HTLC_TIMEOUT_WEIGHT,
        (CommitmentType::Anchors, HtlcDirection::Received) => ANCHORS_HTLC_SUCCESS_WEIGHT,
    })
}

/// The fee that the second stage of an HTLC carries; zero with anchors.
pub fn htlc_tx_fee(kind: CommitmentType, direction: HtlcDirection, feerate: FeeratePerKw) -> Amount {
    match kind {
        CommitmentType::StaticRemoteKey => fee_for_weight(feerate, htlc_tx_weight(kind, direction)),
        CommitmentType::Anchors => Amount::ZERO,
    }
}

/// An HTLC of at least this amount gets an output; a smaller one is trimmed and goes to the fee.
pub fn trim_threshold(
    kind: CommitmentType,
    direction: HtlcDirection,
    feerate: FeeratePerKw,
    owner_dust_limit: Amount,
) -> Amount {
    let fee = htlc_tx_fee(kind, direction, feerate);
    owner_dust_limit.checked_add(fee).unwrap_or(Amount::MAX)
}

/// How many of these HTLCs get an output of their own.
pub fn count_untrimmed<'a>(
    kind: CommitmentType,
    feerate: FeeratePerKw,
    owner_dust_limit: Amount,
    htlcs: impl IntoIterator<Item = &'a CommitmentHtlc>,
) -> usize {
    let offered = trim_threshold(kind, HtlcDirection::Offered, feerate, owner_dust_limit);
    let received = trim_threshold(kind, HtlcDirection::Received, feerate, owner_dust_limit);
    htlcs
        .into_iter()
        .filter(|htlc| {
            htlc.amount.floor_sat()
                >= match htlc.direction {
                    HtlcDirection::Offered => offered,
                    HtlcDirection::Received => received,
                }
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CltvExpiry, HtlcId, Msat, PaymentHash};

    #[test]
    fn the_weights_are_those_that_the_spec_prints() {
        assert_eq!((COMMITMENT_WEIGHT, ANCHORS_COMMITMENT_WEIGHT, HTLC_OUTPUT_WEIGHT), (724, 1124, 172));
        assert_eq!((HTLC_TIMEOUT_WEIGHT, HTLC_SUCCESS_WEIGHT), (663, 703));
        assert_eq!((ANCHORS_HTLC_TIMEOUT_WEIGHT, ANCHORS_HTLC_SUCCESS_WEIGHT), (666, 706));
    }

    // BOLT 3, Fees, Example.
    #[test]
    fn the_worked_example_of_the_spec_costs_5340_satoshi() {
        let (kind, feerate, dust) = (CommitmentType::StaticRemoteKey, FeeratePerKw(5000), Amount::from_sat(546));
        let htlc = |direction, amount| CommitmentHtlc {
            direction,
            id: HtlcId(0),
            amount: Msat(amount),
            payment_hash: PaymentHash([0; 32]),
            cltv_expiry: CltvExpiry(500),
        };
        let htlcs = [
            htlc(HtlcDirection::Offered, 5_000_000),
            htlc(HtlcDirection::Offered, 1_000_000),
            htlc(HtlcDirection::Received, 7_000_000),
            htlc(HtlcDirection::Received, 800_000),
        ];
        assert_eq!(htlc_tx_fee(kind, HtlcDirection::Offered, feerate).to_sat(), 3315);
        assert_eq!(htlc_tx_fee(kind, HtlcDirection::Received, feerate).to_sat(), 3515);
        let untrimmed = count_untrimmed(kind, feerate, dust, &htlcs);
        assert_eq!(untrimmed, 2);
        assert_eq!(commitment_fee(kind, feerate, untrimmed).to_sat(), 5340);
    }
}
