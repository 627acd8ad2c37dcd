//! The opener follows the fee estimates, and what a wrong feerate leads to.

use super::harness::{Setup, TestChannel, Who};
use crate::channel::*;
use crate::types::*;
use crate::wire::UpdateFee;

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

fn rate(test: &TestChannel) -> u32 {
    for who in Who::BOTH {
        let commitments = test[who].commitments();
        assert_eq!(commitments.local.spec.feerate, commitments.remote.current.spec.feerate);
    }
    test[Who::Alice].commitments().local.spec.feerate.0
}

fn estimate(test: &mut TestChannel, closing: u32, slow: u32, mempool_minimum: u32) {
    for who in Who::BOTH {
        let feerates = &mut test[who].feerates;
        feerates.closing = FeeratePerKw(closing);
        feerates.slow = FeeratePerKw(slow);
        feerates.mempool_minimum = FeeratePerKw(mempool_minimum);
    }
}

fn look(test: &mut TestChannel) {
    for who in Who::BOTH {
        test.event(who, Event::Feerates);
    }
    test.run();
}

#[test]
fn the_opener_of_a_static_remotekey_channel_follows_the_estimate_up_and_down() {
    let mut test = Setup::new(1_000_000, CommitmentType::StaticRemoteKey).ready();
    estimate(&mut test, 1_050, 253, 253);
    look(&mut test);
    assert_eq!(rate(&test), 1_000, "near enough");
    estimate(&mut test, 25_000, 2_000, 253);
    let mut seen = Vec::new();
    for _ in 0..8 {
        look(&mut test);
        seen.push(rate(&test));
    }
    assert_eq!(seen, [3_530, 6_060, 8_590, 11_120, 13_900, 17_375, 21_718, 25_000], "step by step");
    estimate(&mut test, 300, 253, 253);
    look(&mut test);
    test.tip = Height(105);
    look(&mut test);
    assert_eq!(rate(&test), 25_000, "a peer may see the fall later");
    test.tip = Height(106);
    look(&mut test);
    assert_eq!(rate(&test), 300);
    test.pay(Who::Alice, Msat(100_000_000));
}

#[test]
fn a_new_block_makes_the_opener_look() {
    let mut test = Setup::new(1_000_000, CommitmentType::StaticRemoteKey).ready();
    estimate(&mut test, 3_000, 2_000, 253);
    test.event(Who::Alice, Event::NewTip(Height(101)));
    test.run();
    assert_eq!(rate(&test), 3_000);
}

#[test]
fn anchors_follow_the_mempool_and_not_the_estimate() {
    let mut setup = TestChannel::funded(1_000_000);
    setup.feerate = FeeratePerKw(2_500);
    let mut test = setup.ready();
    estimate(&mut test, 50_000, 20_000, 253);
    look(&mut test);
    test.tip = Height(106);
    look(&mut test);
    assert_eq!(rate(&test), 253);
    estimate(&mut test, 50_000, 20_000, 600);
    look(&mut test);
    assert_eq!(rate(&test), 900, "half more than full mempools take");
}

#[test]
fn the_opener_raises_the_fee_as_far_as_it_can_pay() {
    // 1,000 sat/kw cost 724 sat; beside its reserve of 2,000 it has 4,276 more.
    let mut test = Setup::new(200_000, CommitmentType::StaticRemoteKey).push(193_000).ready();
    estimate(&mut test, 20_000, 253, 253);
    for _ in 0..6 {
        look(&mut test);
    }
    let highest = rate(&test);
    assert!((4_000..=6_900).contains(&highest), "{highest}");
}

#[test]
fn one_change_at_a_time_and_none_while_the_peer_is_away() {
    let mut test = Setup::new(1_000_000, CommitmentType::StaticRemoteKey).ready();
    estimate(&mut test, 3_000, 253, 253);
    test[Who::Alice].take_sent();
    for _ in 0..3 {
        test.event(Who::Alice, Event::Feerates);
    }
    assert_eq!(test[Who::Alice].take_sent(), ["UpdateFee"]);
    test.cut();
    test.event(Who::Alice, Event::Feerates);
    assert!(test[Who::Alice].take_sent().is_empty());
    test.connect();
    test.run();
    assert_eq!(rate(&test), 1_000, "what was not signed is forgotten");
    look(&mut test);
    assert_eq!(rate(&test), 3_000);
}

#[test]
fn the_fundee_never_proposes_a_fee() {
    let mut test = Setup::new(1_000_000, CommitmentType::StaticRemoteKey).ready();
    estimate(&mut test, 9_000, 253, 253);
    test[Who::Bob].take_sent();
    test.event(Who::Bob, Event::Feerates);
    test.event(Who::Bob, Event::NewTip(Height(101)));
    assert!(test[Who::Bob].take_sent().is_empty());
}

/// It was refused with a warning before, at every reconnection.
#[test]
fn a_feerate_well_above_our_estimate_is_borne() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).ready();
        test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(25_085)));
        test.run();
        assert_eq!(rate(&test), 25_085);
        test.pay(Who::Alice, Msat(100_000_000));
    }
}

#[test]
fn a_feerate_that_cannot_be_agreed_on_ends_in_one_clean_close() {
    // Beyond every estimate; below what relays; more than the opener has.
    for (push, feerate) in [(0, 250_001), (0, 252), (990_000, 20_000)] {
        for kind in KINDS {
            let mut test = Setup::new(1_000_000, kind).push(push).ready();
            test[Who::Bob].tolerant = true;
            test[Who::Bob].take_sent();
            let message = UpdateFee { channel_id: test.channel_id(), feerate_per_kw: FeeratePerKw(feerate) };
            test.event(Who::Bob, Event::Message(message.into()));
            assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing, "{feerate}");
            assert_eq!(test[Who::Bob].take_sent(), ["Error"], "{feerate}");
            assert_eq!(test[Who::Bob].broadcasts.len(), 1);
        }
    }
}

#[test]
fn a_static_remotekey_channel_whose_rate_is_too_low_is_closed_while_htlcs_are_pending() {
    for (pending, closes) in [(100_000_000, true), (50_000_000, false)] {
        let mut test = Setup::new(1_000_000, CommitmentType::StaticRemoteKey).ready();
        test.add(Who::Alice, Msat(pending));
        test.run();
        // The opener is away or does not follow.
        test[Who::Bob].feerates.slow = FeeratePerKw(4_000);
        test[Who::Bob].tolerant = true;
        for tip in 101..107 {
            test.event(Who::Bob, Event::NewTip(Height(tip)));
            assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal, "the opener has time to follow");
        }
        test.event(Who::Bob, Event::NewTip(Height(107)));
        let state = if closes { StateName::Closing } else { StateName::Normal };
        assert_eq!(test[Who::Bob].channel.state_name(), state);
    }
}

#[test]
fn an_opener_that_follows_in_time_keeps_its_channel() {
    let mut test = Setup::new(1_000_000, CommitmentType::StaticRemoteKey).ready();
    test.add(Who::Alice, Msat(100_000_000));
    test.run();
    estimate(&mut test, 5_000, 4_000, 253);
    for tip in 101..140 {
        test.tip = Height(tip);
        for who in Who::BOTH {
            test.event(who, Event::NewTip(Height(tip)));
        }
        test.run();
    }
    assert_eq!(rate(&test), 5_000);
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal);
}

#[test]
fn while_a_rate_is_too_low_no_more_than_the_limit_is_added() {
    let kept_just_above_a_close = (CommitmentType::StaticRemoteKey, 2_000, 253);
    let too_low = [(CommitmentType::StaticRemoteKey, 4_000, 253), (CommitmentType::Anchors, 253, 4_000)];
    for (kind, slow, mempool) in too_low.into_iter().chain([kept_just_above_a_close]) {
        let mut test = Setup::new(1_000_000, kind).ready();
        // Bob alone knows of it.
        let feerates = &mut test[Who::Bob].feerates;
        (feerates.slow, feerates.mempool_minimum) = (FeeratePerKw(slow), FeeratePerKw(mempool));
        test.add(Who::Alice, Msat(100_000_000));
        test.add(Who::Alice, Msat(40_000_000));
        test.run();
        let must_fail: Vec<_> = test[Who::Bob].incoming.values().map(|htlc| htlc.must_fail).collect();
        assert_eq!(must_fail, [Some(FailReason::DustExposure), None]);
    }
}

#[test]
fn nobody_acts_on_the_feerates_of_a_chain_that_may_be_old() {
    let mut test = Setup::new(1_000_000, CommitmentType::StaticRemoteKey).ready();
    test.add(Who::Alice, Msat(100_000_000));
    test.run();
    estimate(&mut test, 9_000, 8_000, 253);
    for who in Who::BOTH {
        test[who].trust = TipTrust::InDoubt;
    }
    for tip in 101..120 {
        for who in Who::BOTH {
            test.event(who, Event::NewTip(Height(tip)));
        }
        look(&mut test);
    }
    assert_eq!(rate(&test), 1_000);
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal);
}
