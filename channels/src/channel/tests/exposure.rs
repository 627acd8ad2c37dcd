//! What may be lost to HTLCs that are not enforced, when HTLCs are added, when a fee changes, and over time.

use super::harness::{Crash, Outcome, Setup, TestChannel, Who, ctx};
use crate::channel::exposure::{ClaimRates, Exposure, Pricing};
use crate::channel::*;
use crate::types::*;
use crate::wire::{Message, UpdateFee};

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];
const LIMIT: Msat = Msat(50_000_000);

fn exposure(test: &TestChannel, who: Who) -> Exposure {
    let node = &test[who];
    node.channel.exposure(&ctx(&node.policy, node.feerates, test.tip)).unwrap()
}

/// Offers this many HTLCs, and tells how many were taken.
fn offer(test: &mut TestChannel, who: Who, count: usize, amount: Msat) -> usize {
    let attempts: Vec<AttemptId> = (0..count).map(|_| test.add(who, amount)).collect();
    let refused = |attempt: &&AttemptId| matches!(test[who].outcomes.get(attempt), Some(Outcome::Refused(_)));
    count - attempts.iter().filter(refused).count()
}

fn generous(setup: &mut Setup, who: Who) {
    setup.policy[who as usize].max_dust_exposure = Msat(u64::MAX);
}

fn accepted(test: &TestChannel, who: Who) -> Msat {
    let live = test[who].incoming.values().filter(|htlc| htlc.must_fail.is_none());
    Msat(live.map(|htlc| htlc.amount.0).sum())
}

/// No channel is closed for 1,019 sat at 4 sat/vB, and they have outputs on both commitments.
#[test]
fn forwards_not_worth_the_fee_stay_within_the_limit_when_offered() {
    for kind in KINDS {
        let mut test = Setup::new(10_000_000, kind).ready();
        let taken = offer(&mut test, Who::Alice, 241, Msat(1_019_000));
        assert_eq!(taken, 49);
        test.run();
        assert!(exposure(&test, Who::Alice).now <= LIMIT);
        assert_eq!(exposure(&test, Who::Alice).limit, LIMIT);
    }
}

#[test]
fn htlcs_not_worth_the_fee_stay_within_the_limit_when_received() {
    for kind in KINDS {
        let mut setup = Setup::new(10_000_000, kind);
        generous(&mut setup, Who::Alice);
        let mut test = setup.ready();
        assert_eq!(offer(&mut test, Who::Alice, 241, Msat(1_019_000)), 241);
        // One that is enforced passes whatever else there is.
        test.add(Who::Alice, Msat(50_000_000));
        test.run();
        assert_eq!(test[Who::Bob].incoming.len(), 242);
        assert_eq!(accepted(&test, Who::Bob), Msat(49 * 1_019_000 + 50_000_000));
        // After a restart the same ones are accepted.
        test.restart(Who::Bob);
        assert_eq!(accepted(&test, Who::Bob), Msat(49 * 1_019_000 + 50_000_000));
        // What is being failed costs nothing any more.
        test.connect();
        test.run();
        let must_fail: Vec<HtlcId> =
            test[Who::Bob].incoming.values().filter(|htlc| htlc.must_fail.is_some()).map(|htlc| htlc.id).collect();
        for id in must_fail {
            test.fail(Who::Bob, id);
        }
        assert_eq!(exposure(&test, Who::Bob).now, Msat(49 * 1_019_000));
        test.run();
        assert_eq!(exposure(&test, Who::Bob).now, Msat(49 * 1_019_000));
    }
}

/// They were passed on before the restart, and can still be lost.
#[test]
fn what_was_accepted_before_the_estimate_rose_counts_after_a_restart() {
    let mut test = TestChannel::funded(10_000_000).ready();
    for who in Who::BOTH {
        test[who].feerates.closing = FeeratePerKw::FLOOR;
    }
    assert_eq!(offer(&mut test, Who::Alice, 100, Msat(7_000_000)), 100);
    test.run();
    assert_eq!(accepted(&test, Who::Bob), Msat(700_000_000));
    test[Who::Bob].feerates.closing = FeeratePerKw(25_000);
    assert_eq!(exposure(&test, Who::Bob).now, Msat(700_000_000));
    test.restart(Who::Bob);
    assert_eq!(exposure(&test, Who::Bob).now, Msat(700_000_000));
}

#[test]
fn both_directions_share_one_limit() {
    let mut test = TestChannel::funded(10_000_000).push(5_000_000).ready();
    assert_eq!(offer(&mut test, Who::Bob, 30, Msat(1_000_000)), 30);
    test.run();
    assert_eq!(accepted(&test, Who::Alice), Msat(30_000_000));
    assert_eq!(offer(&mut test, Who::Alice, 30, Msat(1_000_000)), 20);
}

#[test]
fn ordinary_small_payments_pass_at_10_and_at_50_satoshi_a_byte() {
    for kind in KINDS {
        for (rate, amount) in [(2_500, 5_000_000), (12_500, 5_000_000), (12_500, 1_000_000)] {
            let mut setup = Setup::new(10_000_000, kind);
            setup.feerate = FeeratePerKw(rate);
            let mut test = setup.ready();
            for who in Who::BOTH {
                test[who].feerates.closing = FeeratePerKw(rate);
            }
            let count = 50_000_000 / amount;
            assert_eq!(offer(&mut test, Who::Alice, count as usize, Msat(amount)), count as usize, "{kind:?} {rate}");
            // What is worth its claim is not limited.
            assert_eq!(offer(&mut test, Who::Alice, 60, Msat(100_000_000)), 60);
            test.run();
            assert!(test[Who::Bob].incoming.values().all(|htlc| htlc.must_fail.is_none()));
        }
    }
}

#[test]
fn a_large_channel_bears_more() {
    let mut test = TestChannel::funded(1_000_000_000).ready();
    assert_eq!(offer(&mut test, Who::Alice, 483, Msat(1_000_000)), 483);
    test.run();
    assert!(test[Who::Bob].incoming.values().all(|htlc| htlc.must_fail.is_none()));
    assert_eq!(exposure(&test, Who::Bob).limit, Msat(500_000_000));
}

/// The class of CVE-2021-41591.
#[test]
fn an_update_fee_that_trims_too_much_closes_the_channel_while_it_still_pays() {
    let mut test = Setup::new(16_000_000, CommitmentType::StaticRemoteKey).ready();
    assert_eq!(offer(&mut test, Who::Alice, 483, Msat(17_000_000)), 483);
    test.run();
    assert_eq!(exposure(&test, Who::Bob).now, Msat::ZERO);
    test[Who::Bob].tolerant = true;
    let message = UpdateFee { channel_id: test.channel_id(), feerate_per_kw: FeeratePerKw(25_000) };
    test.event(Who::Bob, Event::Message(message.into()));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
    let [commitment] = test[Who::Bob].broadcasts.as_slice() else { panic!("the commitment is broadcast") };
    assert_eq!(commitment.output.len(), 484, "every HTLC has its output");
    let wrong = test[Who::Bob].notices.iter().any(|notice| {
        matches!(
            notice,
            Notice::ProtocolViolation(ProtocolViolation::FeeOverexposes { exposure: Msat(8_211_000_000), .. })
        )
    });
    assert!(wrong, "{:?}", test[Who::Bob].notices);
}

#[test]
fn a_second_stage_that_burns_htlcs_counts_too() {
    let mut test = Setup::new(16_000_000, CommitmentType::StaticRemoteKey).ready();
    // They have outputs at 25,000 sat/kw as well, but little is left of them.
    assert_eq!(offer(&mut test, Who::Alice, 100, Msat(20_000_000)), 100);
    test.run();
    test[Who::Bob].tolerant = true;
    let message = UpdateFee { channel_id: test.channel_id(), feerate_per_kw: FeeratePerKw(25_000) };
    test.event(Who::Bob, Event::Message(message.into()));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
}

#[test]
fn an_ordinary_rise_of_the_fee_closes_nothing() {
    for kind in KINDS {
        let mut test = Setup::new(16_000_000, kind).ready();
        offer(&mut test, Who::Alice, 20, Msat(1_000_000));
        offer(&mut test, Who::Alice, 60, Msat(100_000_000));
        test.run();
        for rate in [2_500, 5_000, 10_000] {
            test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(rate)));
            test.run();
            for who in Who::BOTH {
                assert_eq!(test[who].commitments().local.spec.feerate, FeeratePerKw(rate));
                test[who].feerates.closing = FeeratePerKw(rate);
            }
        }
    }
}

#[test]
fn a_fee_that_would_trim_too_much_is_not_proposed() {
    let mut test = Setup::new(16_000_000, CommitmentType::StaticRemoteKey).ready();
    assert_eq!(offer(&mut test, Who::Alice, 300, Msat(17_000_000)), 300);
    test.run();
    test[Who::Alice].take_sent();
    test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(25_000)));
    assert!(test[Who::Alice].take_sent().is_empty());
    // The estimate is followed as far as no more than the limit is lost.
    for who in Who::BOTH {
        test[who].feerates.closing = FeeratePerKw(25_000);
    }
    for _ in 0..9 {
        test.event(Who::Alice, Event::Feerates);
        test.run();
    }
    let rate = test[Who::Alice].commitments().local.spec.feerate;
    assert!(rate > FeeratePerKw(2_000), "{rate:?}");
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal);
}

#[test]
fn what_is_fulfilled_after_its_expiry_makes_the_limit_smaller_for_ever() {
    for kind in KINDS {
        let mut test = Setup::new(10_000_000, kind).ready();
        assert_eq!(offer(&mut test, Who::Alice, 100, Msat(1_000_000)), 50);
        test.run();
        test.tip = Height(603);
        test.event(Who::Alice, Event::NewTip(Height(603)));
        assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal, "not worth a close");
        for id in 0..20 {
            test.fulfill(Who::Bob, HtlcId(id));
        }
        for id in 20..50 {
            test.fail(Who::Bob, HtlcId(id));
        }
        test.run();
        assert_eq!(exposure(&test, Who::Alice), Exposure { now: Msat::ZERO, limit: Msat(30_000_000) });
        test.restart(Who::Alice);
        test.connect();
        test.run();
        assert_eq!(exposure(&test, Who::Alice).limit, Msat(30_000_000));
        assert_eq!(offer(&mut test, Who::Alice, 100, Msat(1_000_000)), 30);
        test.run();
        test.tip = Height(1_200);
        for id in 50..80 {
            test.fulfill(Who::Bob, HtlcId(id));
        }
        test.run();
        assert_eq!(offer(&mut test, Who::Alice, 1, Msat(1_000)), 0, "nothing is left to lose");
        test.pay(Who::Alice, Msat(100_000_000));
    }
}

#[test]
fn a_payment_in_time_costs_no_limit() {
    let mut test = TestChannel::funded(10_000_000).ready();
    offer(&mut test, Who::Alice, 1, Msat(1_000_000));
    test.run();
    test.tip = Height(602);
    test.fulfill(Who::Bob, HtlcId(0));
    test.run();
    assert_eq!(exposure(&test, Who::Alice), Exposure { now: Msat::ZERO, limit: LIMIT });
}

/// The estimate rose after they were added.
#[test]
fn small_htlcs_that_are_overdue_close_the_channel_once_they_are_above_the_limit_together() {
    for (count, closed) in [(40, false), (60, true)] {
        let mut test = TestChannel::funded(10_000_000).ready();
        for who in Who::BOTH {
            test[who].feerates.closing = FeeratePerKw::FLOOR;
        }
        assert_eq!(offer(&mut test, Who::Alice, count, Msat(1_200_000)), count.min(41));
        let mut large = 0;
        if closed {
            large = offer(&mut test, Who::Alice, 10, Msat(10_000_000));
            assert_eq!(large, 10);
        }
        test.run();
        for who in Who::BOTH {
            test[who].feerates.closing = FeeratePerKw(25_000);
        }
        test[Who::Alice].tolerant = true;
        test.event(Who::Alice, Event::NewTip(Height(602)));
        assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
        test.event(Who::Alice, Event::NewTip(Height(603)));
        let state = if closed { StateName::Closing } else { StateName::Normal };
        assert_eq!(test[Who::Alice].channel.state_name(), state, "{count} and {large}");
    }
}

/// Their incoming HTLCs are about to be failed: who fulfils them later would take them from us.
#[test]
fn small_forwards_that_are_overdue_close_the_channel_once_together_they_would_pay_for_another_one() {
    for kind in KINDS {
        for (count, state) in [(1, StateName::Normal), (2, StateName::Closing)] {
            let mut test = Setup::new(10_000_000, kind).ready();
            for id in 0..count {
                let (_, add) = test.htlc(Msat(1_000_000));
                let origin = Origin::Forward { channel: ChannelId([9; 32]), htlc: HtlcId(id) };
                test.event(Who::Alice, Event::Add(Box::new(AddHtlc { origin, ..add })));
            }
            test.run();
            test[Who::Alice].tolerant = true;
            test.event(Who::Alice, Event::NewTip(Height(602)));
            assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
            test.event(Who::Alice, Event::NewTip(Height(603)));
            assert_eq!(test[Who::Alice].channel.state_name(), state, "{kind:?}");
        }
    }
}

/// From the threshold on, each of the three ways to lose an HTLC is closed.
#[test]
fn the_threshold_is_above_dust_the_close_and_every_claim() {
    for kind in KINDS {
        let test = Setup::new(1_000_000, kind).ready();
        let terms = test[Who::Alice].channel.terms().unwrap();
        for rate in [253, 1_000, 12_500, 125_000] {
            let feerates = Feerates { closing: FeeratePerKw(rate), ..Feerates::default() };
            let pricing = Pricing::new(terms, ClaimRates::of(FeeratePerKw(rate), &feerates));
            for side in [Side::Local, Side::Remote] {
                let threshold = pricing.enforced_from(side).0 / 1_000;
                // Half of it pays a direct claim.
                assert!(
                    threshold >= 354 && threshold * 1_000 >= 2 * 600 * u64::from(rate),
                    "{kind:?} {rate} {threshold}"
                );
            }
        }
    }
}

#[test]
fn a_crash_forgets_nothing_that_was_written_off() {
    let mut test = TestChannel::funded(10_000_000).ready();
    offer(&mut test, Who::Alice, 1, Msat(1_000_000));
    test.run();
    test.tip = Height(700);
    test.fulfill(Who::Bob, HtlcId(0));
    // The preimage is durable with what it costs, though it was never signed.
    let fulfil = test.next_message(Who::Alice).unwrap();
    assert!(matches!(fulfil, Event::Message(Message::UpdateFulfillHtlc(_))));
    test.events(Who::Alice, vec![fulfil], Crash::AfterCommit);
    assert_eq!(exposure(&test, Who::Alice).limit, Msat(49_000_000));
}
