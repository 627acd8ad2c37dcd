//! The funding transaction leaves the chain, comes back elsewhere, or is double-spent.

use bitcoin::{OutPoint, Txid, hashes::Hash as _};

use super::harness::{Outcome, Setup, TestChannel, Who};
use crate::channel::*;
use crate::types::*;

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

fn thief() -> Txid {
    Txid::from_byte_array([66; 32])
}

/// The block at height 95 is taken back.
fn take_back(test: &mut TestChannel) {
    for who in Who::BOTH {
        test.event(who, Event::Reorganized { to: Height(94) });
        test.event(who, Event::FundingUnconfirmed);
    }
}

fn conflict(test: &mut TestChannel, who: Who, confirmations: u32) {
    let height = Height(95);
    test.event(who, Event::FundingConflict { by: thief(), height, confirmations });
}

fn state(test: &TestChannel, who: Who) -> FundingState {
    test[who].channel.summary().unwrap().established.unwrap().funding_state
}

#[test]
fn a_channel_whose_funding_was_reorganised_out_takes_no_htlc_until_it_is_deep_again() {
    for kind in KINDS {
        for restarts in [false, true] {
            let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
            let pending = test.add(Who::Alice, Msat(50_000_000));
            test.run();
            take_back(&mut test);
            if restarts {
                test.restart(Who::Alice);
                test.restart(Who::Bob);
                test.connect();
                test.run();
            }
            for who in Who::BOTH {
                assert_eq!(state(&test, who), FundingState::ReorgedOut);
                assert!(!test[who].channel.is_usable());
                let attempt = test.add(who, Msat(1_000_000));
                let refused = Outcome::Refused(CannotAdd::NotFunded(FundingState::ReorgedOut));
                assert_eq!(test[who].outcomes[&attempt], refused);
            }
            // What was pending is resolved all the same.
            test.fulfill(Who::Bob, HtlcId(0));
            test.run();
            assert_eq!(test[Who::Alice].outcomes[&pending], Outcome::Fulfilled);

            // In another block: under another name, and not deep enough yet.
            test.tip = Height(103);
            test.confirm(2);
            for who in Who::BOTH {
                assert_eq!(state(&test, who), FundingState::Shallow);
                assert!(!test[who].channel.is_usable());
                assert_eq!(test[who].channel.short_channel_ids().0, Some(ShortChannelId::new(Height(102), 1, 0)));
            }
            test.tip = Height(104);
            test.confirm(3);
            test.pay(Who::Alice, Msat(10_000_000));
            test.pay(Who::Bob, Msat(10_000_000));
        }
    }
}

#[test]
fn an_htlc_that_comes_in_over_a_channel_without_its_funding_is_to_be_failed() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    // Bob knows it, Alice not yet.
    test.event(Who::Bob, Event::FundingUnconfirmed);
    let attempt = test.add(Who::Alice, Msat(10_000_000));
    test.run();
    assert_eq!(test[Who::Bob].incoming[&HtlcId(0)].must_fail, Some(FailReason::NotFunded));
    test.fail(Who::Bob, HtlcId(0));
    test.run();
    assert!(matches!(test[Who::Alice].outcomes[&attempt], Outcome::Failed(HtlcFailure::Remote { .. })));
}

#[test]
fn a_funding_that_moves_to_another_block_at_once_waits_for_its_depth_again() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    test.tip = Height(101);
    test.confirm(1);
    assert_eq!(state(&test, Who::Bob), FundingState::Shallow);
    assert!(!test[Who::Bob].channel.is_usable());
    test.tip = Height(103);
    test.confirm(3);
    assert_eq!(state(&test, Who::Bob), FundingState::Confirmed);
    let moved = Notice::Confirmed { short_channel_id: ShortChannelId::new(Height(101), 1, 0) };
    assert!(test[Who::Bob].notices.contains(&moved));
    test.pay(Who::Alice, Msat(10_000_000));
}

#[test]
fn a_zero_conf_channel_is_used_by_trust_until_a_double_spend_confirms() {
    for zero_conf in [false, true] {
        let setup = Setup { trusts_funder: true, zero_conf, ..Setup::new(1_000_000, CommitmentType::Anchors) };
        let mut test = setup.push(300_000).proposed();
        test.run();
        test.pay(Who::Alice, Msat(10_000_000));
        // Confirmed and taken back: its funder is trusted with that.
        test.confirm(1);
        take_back(&mut test);
        test.pay(Who::Bob, Msat(10_000_000));
        conflict(&mut test, Who::Bob, 1);
        assert_eq!(test[Who::Bob].channel.state_name(), StateName::DoubleSpent);
        let attempt = test.add(Who::Bob, Msat(1_000_000));
        assert!(matches!(
            test[Who::Bob].outcomes[&attempt],
            Outcome::Refused(CannotAdd::NotFunded(FundingState::DoubleSpent { .. }))
        ));
        test.add(Who::Alice, Msat(10_000_000));
        test.run();
        let incoming = test[Who::Bob].incoming.values().next_back().unwrap();
        assert_eq!(incoming.must_fail, Some(FailReason::NotFunded));
    }
}

#[test]
fn a_buried_double_spend_fails_the_outgoing_htlcs_and_then_ends_the_channel() {
    for kind in KINDS {
        for closing in [false, true] {
            let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
            let attempt = test.add(Who::Alice, Msat(50_000_000));
            test.add(Who::Bob, Msat(40_000_000));
            test.run();
            if closing {
                test.event(Who::Alice, Event::ForceClose);
            }
            take_back(&mut test);
            for confirmations in 1..=5 {
                conflict(&mut test, Who::Alice, confirmations);
                test.restart(Who::Alice);
                assert_eq!(test[Who::Alice].outcomes.get(&attempt), None, "a reorganisation may still undo it");
            }
            assert_eq!(test[Who::Alice].channel.state_name(), StateName::DoubleSpent);
            conflict(&mut test, Who::Alice, 6);
            let failed = Outcome::Failed(HtlcFailure::NotOnChain);
            assert_eq!(test[Who::Alice].outcomes.remove(&attempt), Some(failed));
            for confirmations in [7, 50, 99] {
                conflict(&mut test, Who::Alice, confirmations);
                test.restart(Who::Alice);
            }
            assert_eq!(test[Who::Alice].outcomes.get(&attempt), None, "told once");
            assert!(!test[Who::Alice].forgotten);
            conflict(&mut test, Who::Alice, 100);
            assert!(test[Who::Alice].forgotten);
            assert_eq!(test[Who::Alice].channel.state_name(), StateName::Closed);
        }
    }
}

/// The peer has it and expects it in the next commitment.
#[test]
fn what_is_proposed_when_a_double_spend_confirms_is_signed_all_the_same() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.add(Who::Alice, Msat(20_000_000));
    assert!(test.deliver(Who::Bob));
    conflict(&mut test, Who::Alice, 1);
    test.run();
    assert_eq!(test[Who::Bob].commitments().local.spec.htlcs().len(), 1);
}

#[test]
fn a_double_spend_that_a_reorganisation_undoes_gives_the_channel_back() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    take_back(&mut test);
    for who in Who::BOTH {
        conflict(&mut test, who, 3);
        test.event(who, Event::FundingUnconfirmed);
        assert_eq!(state(&test, who), FundingState::ReorgedOut);
    }
    test.tip = Height(110);
    test.confirm(3);
    test.pay(Who::Alice, Msat(10_000_000));
}

#[test]
fn an_opening_whose_coins_were_taken_ends_and_cannot_be_forced() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).established();
    let needs = &test[Who::Alice].established().funding_inputs;
    let funding = test.funding.as_ref().unwrap();
    assert_eq!(needs[0], FundingInput { coin: funding.input[0].previous_output, by: funding.compute_txid() });
    let broadcasts = test[Who::Alice].broadcasts.len();
    conflict(&mut test, Who::Alice, 1);
    for event in [
        Event::ForceClose,
        Event::Close(CloseRequest {
            script: super::harness::wallet_script(Who::Alice),
            feerate: FeeratePerKw(1000),
            feerate_min: FeeratePerKw(253),
            feerate_max: FeeratePerKw(2000),
        }),
    ] {
        test.event(Who::Alice, event);
        assert!(matches!(test[Who::Alice].refusals.pop(), Some(CloseRefused::NotFunded(_))));
    }
    assert_eq!(test[Who::Alice].broadcasts.len(), broadcasts, "nothing that could never confirm is broadcast");
    conflict(&mut test, Who::Alice, 100);
    assert!(test[Who::Alice].forgotten);
}

#[test]
fn an_abandoned_channel_fails_what_waits_and_is_forgotten() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    let attempt = test.add(Who::Alice, Msat(50_000_000));
    test.run();
    test.event(Who::Alice, Event::Abandon);
    assert_eq!(test[Who::Alice].outcomes[&attempt], Outcome::Failed(HtlcFailure::NotOnChain));
    assert!(test[Who::Alice].forgotten);
}

/// What a first look and every later one tell.
#[test]
fn a_watch_tells_what_has_become_of_the_funding() {
    let test = Setup::new(1_000_000, CommitmentType::Anchors).established();
    let (_, output) = test.funding_output();
    let needs = test[Who::Alice].established().funding_inputs.clone();
    let place = |height| FundingDepth { height: Height(height), index: 1, confirmations: 3, output: output.clone() };
    let view = |depth: Option<FundingDepth>, conflict: Option<(Txid, Height)>| FundingView {
        tip: Height(100),
        depth,
        inputs: needs.clone(),
        conflict,
    };
    let mut watch = FundingWatch::new(Vec::new());
    let told = |events: Vec<Event>| events.iter().map(|event| format!("{event:?}")).collect::<Vec<_>>();
    let names = |events: Vec<Event>| -> Vec<String> {
        told(events).iter().map(|event| event.split([' ', '(']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(watch.news(view(None, None))), ["FundingSeen", "FundingUnconfirmed"]);
    assert_eq!(watch.inputs(), needs);
    assert!(watch.news(view(None, None)).is_empty());
    assert_eq!(names(watch.news(view(Some(place(98)), None))), ["FundingDepth"]);
    assert_eq!(names(watch.news(view(Some(place(97)), None))), ["Reorganized", "FundingDepth"]);
    assert_eq!(names(watch.news(view(None, None))), ["Reorganized", "FundingUnconfirmed"]);
    let taken = Some((thief(), Height(99)));
    let events = watch.news(view(None, taken));
    let [Event::FundingConflict { by, height: Height(99), confirmations: 2 }] = events[..] else { panic!() };
    assert_eq!(by, thief());
    assert!(watch.news(view(None, taken)).is_empty());
    let later = FundingView { tip: Height(101), ..view(None, taken) };
    assert_eq!(names(watch.news(later)), ["FundingConflict"], "each block deeper");
    assert_eq!(names(watch.news(view(None, None))), ["FundingUnconfirmed"]);
    assert!(needs.iter().all(|need| need.coin != OutPoint::null()));
}
