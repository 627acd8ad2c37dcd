//! What can be offered: reserve, fees, dust, counts and amounts.

use super::harness::{Outcome, Setup, TestChannel, Who};
use crate::channel::*;
use crate::types::*;

fn refused(test: &mut TestChannel, who: Who, amount: Msat) -> CannotAdd {
    let attempt = test.add(who, amount);
    match test[who].outcomes.get(&attempt) {
        Some(Outcome::Refused(cause)) => cause.clone(),
        other => panic!("{amount} was not refused: {other:?}"),
    }
}

#[test]
fn the_opener_keeps_its_reserve_the_fee_and_a_buffer() {
    for kind in [CommitmentType::StaticRemoteKey, CommitmentType::Anchors] {
        let mut test = Setup::new(1_000_000, kind).ready();
        let established = test[Who::Alice].channel.summary().unwrap().established.unwrap();
        let most = established.sendable;
        assert!(matches!(refused(&mut test, Who::Alice, most), CannotAdd::Balance { .. }), "one HTLC more costs, too");
        assert!(matches!(refused(&mut test, Who::Alice, Msat(1_000_000_001)), CannotAdd::Balance { .. }));
        let one_htlc = Msat(172 * 2 * 1000);
        let fits = most.checked_sub(one_htlc).unwrap();
        test.pay(Who::Alice, fits);
        assert!(matches!(refused(&mut test, Who::Alice, Msat(1_000_000)), CannotAdd::Balance { .. }));
    }
}

#[test]
fn the_fundee_can_spend_all_but_its_reserve() {
    let mut test = TestChannel::funded(1_000_000).push(100_000).ready();
    assert!(matches!(refused(&mut test, Who::Bob, Msat(90_000_001)), CannotAdd::Balance { .. }));
    test.pay(Who::Bob, Msat(90_000_000));
    assert_eq!(test[Who::Bob].balance(), Msat(10_000_000));
}

#[test]
fn a_fundee_without_its_reserve_cannot_send() {
    let mut test = TestChannel::funded(1_000_000).ready();
    assert!(matches!(refused(&mut test, Who::Bob, Msat(1)), CannotAdd::Balance { .. }));
}

#[test]
fn counts_and_amounts_in_flight_are_what_the_peer_accepts() {
    let mut setup = TestChannel::funded(1_000_000);
    setup.policy[1].max_accepted_htlcs = 2;
    setup.policy[1].max_in_flight_percent = 20;
    setup.policy[1].htlc_minimum = Msat(1000);
    let mut test = setup.ready();
    assert!(matches!(refused(&mut test, Who::Alice, Msat(999)), CannotAdd::BelowMinimum { .. }));
    assert!(matches!(refused(&mut test, Who::Alice, Msat(200_000_001)), CannotAdd::TooMuchInFlight { .. }));
    test.add(Who::Alice, Msat(100_000_000));
    test.add(Who::Alice, Msat(1000));
    assert!(matches!(refused(&mut test, Who::Alice, Msat(1000)), CannotAdd::TooManyHtlcs { maximum: 2 }));
    test.run();
    test.fulfill(Who::Bob, HtlcId(0));
    test.run();
    test.add(Who::Alice, Msat(100_000_000));
    test.run();
    assert_eq!(test[Who::Bob].incoming.len(), 2);
}

#[test]
fn a_full_channel_has_room_soon_once_a_removal_is_told_and_room_once_it_is_signed() {
    let mut setup = TestChannel::funded(1_000_000);
    setup.policy[1].max_accepted_htlcs = 2;
    let mut test = setup.ready();
    let room = |test: &TestChannel| test[Who::Alice].channel.room_for_htlc();
    test.add(Who::Alice, Msat(10_000_000));
    assert_eq!(room(&test), HtlcRoom::Free);
    test.add(Who::Alice, Msat(10_000_000));
    assert_eq!(room(&test), HtlcRoom::Full);
    test.run();
    assert_eq!(room(&test), HtlcRoom::Full);
    test.fulfill(Who::Bob, HtlcId(0));
    assert!(test.deliver(Who::Alice));
    assert_eq!(room(&test), HtlcRoom::Soon);
    assert!(matches!(refused(&mut test, Who::Alice, Msat(10_000_000)), CannotAdd::TooManyHtlcs { maximum: 2 }));
    test.run();
    assert_eq!(room(&test), HtlcRoom::Free);
    test.add(Who::Alice, Msat(10_000_000));
    assert_eq!(room(&test), HtlcRoom::Full);
}

#[test]
fn htlcs_too_small_for_an_output_are_limited() {
    let mut setup = TestChannel::funded(1_000_000);
    setup.policy[0].max_dust_exposure = Msat(500_000);
    let mut test = setup.ready();
    test.add(Who::Alice, Msat(300_000));
    assert!(matches!(refused(&mut test, Who::Alice, Msat(300_000)), CannotAdd::DustExposure { .. }));
    test.add(Who::Alice, Msat(10_000_000));
    test.run();
    assert_eq!(test[Who::Bob].incoming.len(), 2);
}

#[test]
fn a_receiver_that_bears_less_dust_is_told_to_fail_it() {
    let mut setup = TestChannel::funded(1_000_000);
    setup.policy[1].max_dust_exposure = Msat(500_000);
    let mut test = setup.ready();
    for _ in 0..2 {
        test.add(Who::Alice, Msat(300_000));
    }
    test.run();
    let must_fail: Vec<_> = test[Who::Bob].incoming.values().map(|htlc| htlc.must_fail).collect();
    assert_eq!(must_fail, [None, Some(FailReason::DustExposure)], "what fits is accepted");
}

#[test]
fn both_sides_offering_at_once_never_break_the_channel() {
    for kind in [CommitmentType::StaticRemoteKey, CommitmentType::Anchors] {
        let mut setup = Setup::new(200_000, kind).push(100_000);
        for policy in &mut setup.policy {
            // What may be lost is another matter.
            policy.max_dust_exposure = Msat(100_000_000);
        }
        let mut test = setup.ready();
        let most = test[Who::Alice].channel.summary().unwrap().established.unwrap().sendable;
        test.add(Who::Alice, most.checked_sub(Msat(344_000)).unwrap());
        for _ in 0..60 {
            test.add(Who::Bob, Msat(1_200_000));
        }
        test.run();
        for who in Who::BOTH {
            while let Some(&id) = test[who].incoming.keys().next() {
                test.fail(who, id);
                test.run();
            }
        }
        test.assert_in_sync();
        assert_eq!(test[Who::Alice].balance(), Msat(100_000_000));
    }
}

#[test]
fn a_fee_that_the_opener_cannot_pay_is_not_proposed() {
    let mut test = TestChannel::funded(200_000).push(195_000).ready();
    test[Who::Alice].take_sent();
    test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(5_000)));
    assert!(test[Who::Alice].take_sent().is_empty());
    test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1_500)));
    test.run();
    assert_eq!(test[Who::Bob].commitments().local.spec.feerate, FeeratePerKw(1_500));
}

#[test]
fn nothing_can_be_offered_offline() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.cut();
    assert_eq!(refused(&mut test, Who::Alice, Msat(1_000_000)), CannotAdd::Offline);
    test.connect();
    assert_eq!(refused(&mut test, Who::Alice, Msat(1_000_000)), CannotAdd::Offline, "not synchronised yet");
    test.run();
    test.pay(Who::Alice, Msat(1_000_000));
}

#[test]
fn a_fundee_that_was_given_nearly_everything_can_still_send() {
    for kind in [CommitmentType::StaticRemoteKey, CommitmentType::Anchors] {
        let mut test = Setup::new(1_000_000, kind).push(994_000).ready();
        assert!(test[Who::Alice].balance() < Msat(10_000_000), "below the reserve");
        test.pay(Who::Bob, Msat(1_500_000));
        test.pay(Who::Bob, Msat(100_000_000));
        test.pay(Who::Alice, Msat(50_000_000));
    }
}

#[test]
fn nothing_is_offered_while_the_tip_is_in_doubt_and_what_there_is_ends_as_ever() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.add(Who::Alice, Msat(50_000_000));
    test.run();
    for who in Who::BOTH {
        test[who].trust = TipTrust::InDoubt;
    }
    assert_eq!(refused(&mut test, Who::Alice, Msat(1_000_000)), CannotAdd::TipInDoubt);
    test.reconnect();
    test.run();
    let (&id, _) = test[Who::Bob].incoming.iter().next().unwrap();
    test.fulfill(Who::Bob, id);
    test.run();
    assert_eq!(test[Who::Bob].balance(), Msat(50_000_000));
}
