//! What locks, recalls and claims pay, and how much time they take for granted.

use bitcoin::{Amount, constants::ChainHash};

use super::{
    person::{Keys, secret_of},
    world::*,
};
use crate::{
    swap::{self, Leg, Phase, Role, Swap, TermsError, Trade, contract::Path, margins},
    types::UnixTime,
};

#[test]
fn calling_a_lock_back_pays_for_blocks_that_did_not_take_it_and_not_for_hours() {
    let mut world = World::both_locked(false);
    // The inner chain finds no block for half a day.
    let until = BEGIN + margins::INNER_SECONDS - margins::reveal_seconds(&SOUTH) + 6 * 3_600;
    while world.chains.now < until {
        world.chains.now += 300;
        let due = (world.chains.now - BEGIN).is_multiple_of(u64::from(NORTH.spacing));
        world.mine(Leg::Outer, u32::from(due));
        world.look(Role::Participant);
    }
    world.mine(Leg::Inner, 1);
    world.look(Role::Participant);
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
    let kept = world.chains.inner.balance(BOB);
    assert!(kept + Amount::from_sat(2_000) > PURSE, "calling ten coins back has cost {}", PURSE - kept);
}

#[test]
fn calling_a_lock_back_never_pays_more_than_a_small_share_of_it() {
    let mut world = World::both_locked(false);
    world.chains.inner.minimum = u64::MAX / 1_000_000;
    world.pass(margins::INNER_SECONDS + 20 * 3600, |world| world.look(Role::Participant));
    let recall = world.bob.swap.leg(Leg::Inner).recall.unwrap();
    assert_eq!(recall.fee, TEN / 20);
}

#[test]
fn a_claim_does_not_pay_for_blocks_that_could_not_have_it() {
    let mut world = World::both_locked(false);
    world.mine(Leg::Inner, DEPTH);
    world.look(Role::Initiator);
    world.mine(Leg::Inner, 1);
    // Bob's daemon of the outer chain is away when the secret is shown; five hours later it is back.
    world.bob.away = Some(Leg::Outer);
    world.look(Role::Participant);
    assert_eq!(world.bob.swap.leg(Leg::Outer).claim.clone().map(|claim| claim.ramp), Some(None));
    for _ in 0..30 {
        world.chains.now += 600;
        world.mine(Leg::Outer, 1);
    }
    world.bob.away = None;
    world.look(Role::Participant);
    let claim = world.bob.swap.leg(Leg::Outer).claim.clone().unwrap();
    assert!(claim.fee < Amount::from_sat(1_000), "thirty blocks that never saw it make it pay {}", claim.fee);
    assert!(claim.ramp.is_some());
}

#[test]
fn on_a_slow_chain_a_claim_pays_its_budget_before_the_expiry() {
    let mut world = World::both_locked(false);
    world.mine(Leg::Inner, DEPTH);
    world.both_look();
    world.mine(Leg::Inner, 1);
    // Blocks of the outer chain ask for a fifth of the coin, and the estimate does not know it.
    let path = Path::Redeem(secret_of(&world.alice));
    let contract = world.bob.swap.contract(Leg::Outer).unwrap();
    let weight = contract.spend_weight(path, &world.bob.wallet()).unwrap().to_wu();
    world.chains.outer.minimum = ONE.to_sat() / 5 * 1_000 / weight;
    // One of them comes every forty minutes instead of ten.
    while world.chains.now < BEGIN + margins::OUTER_SECONDS {
        world.chains.now += 2_400;
        world.mine(Leg::Outer, 1);
        world.mine(Leg::Inner, 2);
        world.look(Role::Participant);
    }
    let state = world.bob.swap.leg(Leg::Outer);
    assert!(state.taken.is_some(), "at the outer expiry the claim is {:?}", state.claim);
}

#[test]
fn a_refund_without_a_rival_follows_the_estimate() {
    let mut world = World::agreed(false);
    world.mine(Leg::Outer, 1);
    world.pass(margins::OUTER_SECONDS + 3600, |world| world.look(Role::Initiator));
    world.chains.outer.minimum = 5_000;
    world.pass(margins::OUTER_SECONDS + 12 * 3600, |world| world.look(Role::Initiator));
    let claim = world.alice.swap.leg(Leg::Outer).claim.clone().unwrap();
    assert!(claim.fee < Amount::from_sat(1_000) && claim.ramp.is_none(), "{}", claim.fee);
    world.alice.estimate = crate::types::FeeratePerKw(5_000);
    world.pass(margins::OUTER_SECONDS + 14 * 3600, |world| world.look(Role::Initiator));
    assert_eq!(world.alice.swap.phase(), Phase::Refunded);
    // The participant's hurries when the outer expiry is near: after it the initiator can take both.
    let mut world = World::both_locked(false);
    world.mine(Leg::Inner, 1);
    world.chains.inner.minimum = 100_000;
    world.pass(margins::OUTER_SECONDS - 3600, |world| world.look(Role::Participant));
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
}

#[test]
fn the_time_between_the_expiries_counts_the_blocks_of_both_chains_as_they_come() {
    let quote = |outer_spacing, inner_spacing, measured, inner_seconds, outer_seconds| {
        let chains = Chains::new();
        let mut request = request(ALICE, &chains, false);
        request.inner.spacing = measured;
        let trade = Trade {
            give_on: swap::Chain { hash: ChainHash::REGTEST, spacing: outer_spacing },
            get_on: swap::Chain { hash: ChainHash::SIGNET, spacing: inner_spacing },
            outer_seconds,
            inner_seconds,
            ..trade()
        };
        Swap::quote(trade, request, UnixTime(BEGIN), &Keys(ALICE)).map(|_| ())
    };
    let day = 24 * 3_600;
    // The refund on a chain of two hours a block is there after fourteen hours, and the outer chain is fast.
    let slow = quote(60, 7_200, 0, 7 * day, 7 * day + margins::reveal_seconds(&swap::Chain { spacing: 60, ..NORTH }));
    assert!(matches!(slow, Err(TermsError::GapTooSmall { .. })), "{slow:?}");
    assert_eq!(quote(600, 600, 0, day, 2 * day), Ok(()));
    // A chain that is four times slower than its rules say counts as what it is.
    let slow = quote(600, 600, 2_400, 3 * day, 4 * day);
    assert!(matches!(slow, Err(TermsError::GapTooSmall { .. })), "{slow:?}");
}

#[test]
fn a_chain_that_slept_for_some_nights_is_not_slow() {
    let times = |intervals: &[u64]| {
        let mut now = BEGIN;
        let mut all = vec![UnixTime(now)];
        all.extend(intervals.iter().map(|interval| {
            now += interval;
            UnixTime(now)
        }));
        margins::measured_spacing(&all)
    };
    assert_eq!(times(&[600; 100]), 600);
    assert_eq!(times(&[[600; 96].as_slice(), &[90_000_000; 4]].concat()), 600);
    assert_eq!((times(&[2_400; 100]), times(&[]), times(&[9_999; 3])), (2_400, 0, 0));
}
