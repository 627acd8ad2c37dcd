//! Margins and prices.

use bitcoin::constants::ChainHash;
use proptest::prelude::*;

use crate::{
    crossing::{NodeNow, Rate, RateError, margins::*},
    margins::CLAIM_MARGIN,
    swap::{
        Chain,
        margins::{RESTART_ALLOWANCE, measured_pace},
    },
    types::{Height, Msat, UnixTime},
};

use super::world::{key, records};

fn chain(spacing: u32) -> Chain {
    Chain { hash: ChainHash::REGTEST, spacing }
}

/// One for ten, with a fee of 1 sat and 0.5 %.
pub fn rate() -> Rate {
    Rate {
        take: 1,
        give: 10,
        base_fee: Msat(1_000),
        fee_ppm: 5_000,
        most: Msat(1_000_000_000),
        most_held: Msat(2_000_000_000),
        route_fee_ppm: 10_000,
    }
}

#[test]
fn the_outgoing_htlc_is_resolved_before_the_incoming_one_has_to_be_claimed_however_both_clocks_go() {
    for (incoming, outgoing) in [(600, 600), (60, 60), (600, 60), (150, 150), (600, 150), (1_200, 600)] {
        let (incoming, outgoing) = (chain(incoming), chain(outgoing));
        let Ok(left) = hold_blocks(18, &incoming, &outgoing) else {
            panic!("{} to {} seconds leaves time enough", incoming.spacing, outgoing.spacing)
        };
        let limit = outgoing_limit(left, &incoming, &outgoing);
        assert!(limit >= 18 + LEAST_ROUTE_BLOCKS, "{limit}");
        // At the slowest: all attempts late, the night of a restart, the outgoing network at half its pace.
        let slowest =
            PAY_SECONDS + RESTART_ALLOWANCE + u64::from(limit + RESOLVE_BLOCKS) * u64::from(outgoing.spacing) * PACE;
        // At the fastest, the incoming one at twice its own.
        let fastest = u64::from(left - CLAIM_MARGIN) * u64::from(incoming.spacing) / PACE;
        assert!(slowest <= fastest, "{slowest} seconds against {fastest}");
    }
}

#[test]
fn two_networks_whose_clocks_leave_too_little_are_refused() {
    assert!(matches!(hold_blocks(18, &chain(60), &chain(600)), Err(Some(blocks)) if blocks > MOST_HOLD_BLOCKS));
    assert!(hold_blocks(MOST_HOLD_BLOCKS, &chain(600), &chain(600)).is_err());
    assert_eq!(hold_blocks(u32::MAX, &chain(1), &chain(u32::MAX)), Err(None));
    assert_eq!(outgoing_limit(CLAIM_MARGIN, &chain(600), &chain(600)), 0);
}

#[test]
fn a_measured_pace_makes_a_crossing_safer_and_never_less_safe() {
    let node = |measured| NodeNow {
        chain: chain(600),
        measured,
        tip: Height(7),
        is_current: true,
        node_id: key(1),
        least_claim: Msat(1_000),
        records: records(0),
    };
    let spacings = |measured| (node(measured).as_incoming().spacing, node(measured).as_outgoing().spacing);
    assert_eq!(spacings(0), (600, 600), "nothing is known");
    assert_eq!(spacings(200), (200, 600), "what is held there runs out sooner");
    assert_eq!(spacings(1_800), (600, 1_800), "what is paid there is known later");
    // Three times as fast and three times as slow is too much for two networks of ten minutes.
    let (fast, slow) = (node(200).as_incoming(), node(1_800).as_outgoing());
    assert!(hold_blocks(18, &chain(600), &chain(600)).is_ok());
    assert!(matches!(hold_blocks(18, &fast, &slow), Err(Some(blocks)) if blocks > MOST_HOLD_BLOCKS));
    // A payment that was quoted before that came to light is given back.
    assert_eq!(outgoing_limit(MOST_HOLD_BLOCKS, &fast, &slow), 0);
}

#[test]
fn a_pace_is_what_chance_makes_of_it_and_not_told_by_few_blocks() {
    let times = |intervals: &[u64]| {
        let mut now = 1_700_000_000;
        let mut all = vec![UnixTime(now)];
        all.extend(intervals.iter().map(|interval| {
            now += interval;
            UnixTime(now)
        }));
        all
    };
    // The quantiles of what a hundred blocks take that come by chance, 600 seconds apart on average.
    let by_chance: Vec<u64> = (0..100).map(|n| (-600.0 * (1.0 - (f64::from(n) + 0.5) / 100.0).ln()) as u64).collect();
    let pace = measured_pace(&times(&by_chance));
    assert!((570..=630).contains(&pace), "{pace}");
    // A night without blocks does not make it slow.
    let mut slept = by_chance.clone();
    slept[50] = 8 * 3_600;
    let pace = measured_pace(&times(&slept));
    assert!((570..=630).contains(&pace), "{pace}");
    assert_eq!(measured_pace(&times(&by_chance[..47])), 0);
    assert_eq!(measured_pace(&times(&[0; 100])), 1);
}

#[test]
fn a_price_is_rounded_up_by_less_than_a_millisatoshi() {
    let rate = rate();
    assert_eq!(rate.price(Msat(1_000_000)), Some(Msat(100_500 + 1_000)));
    // 0.1005 is rounded up to 1.
    assert_eq!(rate.price(Msat(1)), Some(Msat(1_001)));
    assert_eq!(rate.price(Msat(u64::MAX)), None);
    assert_eq!(rate.most_route_fee(Msat(999)), Msat(9));
}

#[test]
fn a_rate_that_cannot_be_meant_is_refused() {
    let rate = rate();
    assert_eq!(rate.check(), Ok(()));
    for wrong in [Rate { take: 0, ..rate }, Rate { give: 0, ..rate }, Rate { give: u64::MAX, ..rate }] {
        assert_eq!(wrong.check(), Err(RateError::Units));
    }
    assert_eq!(Rate { fee_ppm: 1_000_001, ..rate }.check(), Err(RateError::Fee(1_000_001)));
    let limits = Err(RateError::Limits { most: rate.most, most_held: Msat(1) });
    assert_eq!(Rate { most_held: Msat(1), ..rate }.check(), limits);
    assert!(Rate { most: Msat::ZERO, ..rate }.check().is_err());
}

proptest! {
    #[test]
    fn nobody_gets_a_price_below_the_rate(
        amount in 1..2_100_000_000_000_000_000_u64, take in 1..1_000_000_000_000_u64,
        give in 1..1_000_000_000_000_u64, fee_ppm in 0..1_000_000_u32,
    ) {
        let rate = Rate { take, give, fee_ppm, base_fee: Msat(0), ..rate() };
        if let Some(price) = rate.price(Msat(amount)) {
            let exact = u128::from(amount) * u128::from(take) * u128::from(1_000_000 + fee_ppm);
            let unit = u128::from(give) * 1_000_000;
            prop_assert!(u128::from(price.0) * unit >= exact);
            prop_assert!((u128::from(price.0) - 1) * unit < exact);
        }
    }

    #[test]
    fn more_blocks_are_never_fewer(left in 0..5_000_u32, incoming in 1..10_000_u32, outgoing in 1..10_000_u32) {
        let (incoming, outgoing) = (chain(incoming), chain(outgoing));
        let limit = outgoing_limit(left, &incoming, &outgoing);
        prop_assert!(outgoing_limit(left + 1, &incoming, &outgoing) >= limit);
        if limit > 0 {
            prop_assert!(incoming_blocks(limit, &incoming, &outgoing).unwrap() <= left);
        }
    }
}
