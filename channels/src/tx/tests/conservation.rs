//! Random commitments conserve every satoshi, and both nodes build the same bytes.

use proptest::prelude::*;

use super::*;
use crate::types::{CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcDirection, HtlcId, Msat, PaymentHash};

fn htlc() -> impl Strategy<Value = CommitmentHtlc> {
    (any::<bool>(), 0u64..50, 1u64..30_000_000, 0u8..4, 500u32..510).prop_map(|(offered, id, amount, hash, expiry)| {
        CommitmentHtlc {
            direction: if offered { HtlcDirection::Offered } else { HtlcDirection::Received },
            id: HtlcId(id),
            amount: Msat(amount),
            payment_hash: PaymentHash([hash; 32]),
            cltv_expiry: CltvExpiry(expiry),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn outputs_fee_and_trimmed_amounts_add_up_to_the_funding(
        htlcs in prop::collection::vec(htlc(), 0..20),
        feerate in 253u32..20_000,
        share in 0.0f64..1.0,
        number in 0u64..=CommitmentNumber::MAX.0,
        anchors: bool,
        local_opens: bool,
    ) {
        let nodes = TwoNodes::from_seeds(3, 4);
        let kind = if anchors { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey };
        let opener = if local_opens { Side::Local } else { Side::Remote };
        let funding = nodes.funding(Amount::from_sat(1_000_000));
        let params = nodes.params(kind, funding.clone(), Side::Local, opener);
        let keys = nodes.keys(Side::Local, nodes.local.per_commitment_point(CommitmentNumber(number)).unwrap());
        let rest = 1_000_000_000 - htlcs.iter().map(|htlc| htlc.amount.0).sum::<u64>();
        let to_local = (rest as f64 * share) as u64;
        let input = CommitmentInput {
            params: &params,
            keys: &keys,
            number: CommitmentNumber(number),
            feerate: FeeratePerKw(feerate),
            to_local: Msat(to_local),
            to_remote: Msat(rest - to_local),
            htlcs: &htlcs,
        };
        let cost = fee::anchors_cost(kind);
        let payer = if local_opens { to_local } else { rest - to_local };
        prop_assume!(Msat(payer).floor_sat() >= cost);
        let commitment = build_commitment(&input).unwrap();

        // What is in the outputs, what was trimmed, what rounding ate, and the fee.
        let dust = params.owner_dust_limit;
        let untrimmed = fee::count_untrimmed(kind, input.feerate, dust, &htlcs);
        prop_assert_eq!(commitment.htlc_count(), untrimmed);
        let outputs: Amount = commitment.tx.output.iter().map(|out| out.value).sum();
        let paid = funding.amount - outputs;
        let base = fee::commitment_fee(kind, input.feerate, untrimmed).min(Msat(payer).floor_sat() - cost);
        prop_assert!(paid >= base, "paid {} of {}", paid, base);
        let in_outputs = |wanted: &CommitmentHtlc| commitment.outputs.iter().any(|out| out.kind == OutputKind::Htlc(*wanted));
        let trimmed: Amount = htlcs.iter().filter(|htlc| !in_outputs(htlc)).map(|htlc| htlc.amount.floor_sat()).sum();
        // Besides: at most both main outputs as dust, the anchors that then go, and a satoshi for each rounding.
        let slack = dust * 2 + cost + Amount::from_sat(2 + htlcs.len() as u64);
        prop_assert!(paid <= base + trimmed + slack, "paid {paid}, base {base}, trimmed {trimmed}");
        prop_assert!(commitment.tx.output.iter().all(|out| out.value >= dust || out.value == fee::ANCHOR_AMOUNT));

        // Sorted, revealed, recognised, and the other node builds the same.
        prop_assert!(commitment.tx.output.is_sorted_by_key(|out| (out.value, out.script_pubkey.clone())));
        prop_assert_eq!(params.obscuring.reveal(&commitment.tx), Some(CommitmentNumber(number)));
        let recognised = recognise_outputs(&commitment.tx, &params, &keys, &htlcs);
        prop_assert_eq!(recognised.len(), commitment.outputs.len());
        for (recognised, (vout, output, info)) in recognised.iter().zip(commitment.outputs()) {
            prop_assert_eq!(recognised.vout, vout);
            prop_assert_eq!(&recognised.output, output);
            prop_assert_eq!(&recognised.info.witness_script, &info.witness_script);
        }
        let mirrored = TwoNodes { local: nodes.remote.clone(), remote: nodes.local.clone() };
        let point = keys.per_commitment_point;
        let (theirs, their_keys) = (
            mirrored.params(kind, mirrored.funding(funding.amount), Side::Remote, opener.other()),
            mirrored.keys(Side::Remote, point),
        );
        let other = build_commitment(&CommitmentInput { params: &theirs, keys: &their_keys, ..input }).unwrap();
        prop_assert_eq!(other.tx, commitment.tx);
    }
}
