//! What a channel queues for its towers, what it waits for, and what they may tell it.

use super::harness::{Crash, Outcome, Setup, TestChannel, Who, wallet_script};
use super::reconnection::set_back;
use crate::channel::record::{self, Rows};
use crate::channel::*;
use crate::tx::CommitmentTx;
use crate::types::*;
use Who::{Alice, Bob};

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

fn guarded(kind: CommitmentType, policy: TowerPolicy) -> TestChannel {
    let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
    test[Alice].towers.policy = policy;
    test[Alice].towers.silent = true;
    test
}

fn queued(test: &TestChannel) -> Vec<u64> {
    let number = |key: &Key| match key {
        Key::TowerBackup { number, .. } => Some(number.0),
        _ => None,
    };
    test[Alice].store.rows.keys().filter_map(number).collect()
}

fn built_again(test: &TestChannel, number: u64) -> (RevokedState, CommitmentTx) {
    let (channel, number) = (test.channel_id(), CommitmentNumber(number));
    let state = decode_revoked(&test[Alice].store.rows[&Key::TowerBackup { channel, number }]).unwrap();
    let state::Established { terms, commitments, .. } = test[Alice].established();
    let commitment = state.commitment(terms, &commitments.secrets.get(number).unwrap()).unwrap();
    (state, commitment)
}

/// Alice has offered an HTLC, and it is in both commitments; only her towers have not answered.
fn offer(test: &mut TestChannel) -> AttemptId {
    let attempt = test.add(Alice, Msat(50_000_000));
    test.run();
    attempt
}

#[test]
fn a_revoked_state_is_queued_in_the_commit_of_its_revocation() {
    for kind in KINDS {
        let mut test = guarded(kind, TowerPolicy::BackUp);
        test.add(Alice, Msat(50_000_000));
        test.event(Alice, Event::Flush);
        while test.deliver(Bob) {}
        test.event(Bob, Event::Flush);
        let commits = test[Alice].store.commits;
        test.deliver(Alice);
        assert_eq!((test[Alice].store.commits, queued(&test)), (commits + 1, vec![0]));
    }
}

#[test]
fn a_node_without_towers_queues_nothing() {
    let mut test = guarded(CommitmentType::Anchors, TowerPolicy::None);
    test.pay(Alice, Msat(50_000_000));
    test.restart(Alice);
    assert_eq!((queued(&test), test[Alice].towers.asked), (vec![], None));
}

#[test]
fn a_queued_state_has_each_htlc_as_the_peer_saw_it_and_says_which_are_new() {
    for kind in KINDS {
        let mut test = guarded(kind, TowerPolicy::BackUp);
        offer(&mut test);
        test.add(Bob, Msat(20_000_000));
        test.add(Bob, Msat(1_000));
        test.run();
        test.pay(Alice, Msat(30_000_000));
        let numbers = queued(&test);
        assert!(numbers.len() > 3 && numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
        let mut known = std::collections::BTreeSet::new();
        let mut most = 0;
        for number in numbers {
            let (state, commitment) = built_again(&test, number);
            for RevokedHtlc { htlc, is_new } in &state.htlcs {
                assert_eq!(known.insert((htlc.direction, htlc.id)), *is_new, "state {number}, {htlc:?}");
            }
            most = most.max(state.htlcs.len());
            assert!(commitment.htlc_count() <= state.htlcs.len());
        }
        assert_eq!(most, 4, "one of them without an output");
        assert!(test[Alice].towers.rebuilt > 3);
    }
}

#[test]
fn no_commitment_is_signed_while_a_revoked_state_waits_for_its_towers() {
    let mut test = guarded(CommitmentType::Anchors, TowerPolicy::Require);
    let attempt = offer(&mut test);
    assert_eq!(test[Alice].channel.awaits_towers(), Some(CommitmentNumber(0)));
    assert!(!test[Alice].channel.wants_flush());
    test[Alice].take_sent();
    // Bob's preimage and signature are taken and answered all the same.
    let id = *test[Bob].incoming.keys().next().unwrap();
    test.fulfill(Bob, id);
    test.run();
    assert_eq!(test[Alice].outcomes.get(&attempt), Some(&Outcome::Fulfilled));
    test.add(Alice, Msat(1_000_000));
    test.event(Alice, Event::Flush);
    assert_eq!(test[Alice].take_sent(), ["RevokeAndAck", "UpdateAddHtlc"]);

    assert!(test.acknowledge(Alice, Crash::Never));
    assert_eq!(test[Alice].channel.awaits_towers(), None);
    test[Alice].towers.silent = false;
    test.run();
    assert!(test[Alice].take_sent().contains(&"CommitmentSigned"));
    test.fulfill(Bob, HtlcId(1));
    test.run();
    test.assert_in_sync();
}

#[test]
fn a_channel_whose_tower_is_gone_is_free_when_it_is_not_required_any_more() {
    for policy in [TowerPolicy::BackUp, TowerPolicy::None] {
        let mut test = guarded(CommitmentType::StaticRemoteKey, TowerPolicy::Require);
        offer(&mut test);
        test.fulfill(Bob, HtlcId(0));
        test.run();
        assert!(!test[Alice].commitments().is_drained());
        test.set_towers(Alice, policy);
        test.run();
        assert!(test[Alice].commitments().is_drained());
        test.assert_in_sync();
    }
}

#[test]
fn what_was_queued_is_told_again_after_a_restart_and_waited_for() {
    for crash in [Crash::BeforeCommit, Crash::AfterCommit] {
        let mut test = guarded(CommitmentType::Anchors, TowerPolicy::Require);
        offer(&mut test);
        test.acknowledge(Alice, crash);
        assert_eq!(test[Alice].towers.asked, Some(CommitmentNumber(0)), "it has no other way to hear of it");
        test.connect();
        test.run();
        test.fulfill(Bob, HtlcId(0));
        test.run();
        assert_eq!(test[Alice].channel.awaits_towers(), Some(CommitmentNumber(0)));
        test.acknowledge(Alice, Crash::Never);
        test.run();
        test[Alice].towers.silent = false;
        test.run();
        test.assert_in_sync();
    }
}

#[test]
fn closing_does_not_wait_for_towers() {
    let mut test = guarded(CommitmentType::Anchors, TowerPolicy::Require);
    offer(&mut test);
    test.event(Alice, Event::ForceClose);
    assert_eq!(test[Alice].channel.state_name(), StateName::Closing);

    let mut test = guarded(CommitmentType::Anchors, TowerPolicy::Require);
    test.pay(Bob, Msat(1_000_000));
    while !test[Alice].commitments().is_drained() {
        test.acknowledge(Alice, Crash::Never);
        test.run();
    }
    assert!(test[Alice].channel.awaits_towers().is_some());
    let (feerate, script) = (FeeratePerKw(1_000), wallet_script(Alice));
    let (feerate_min, feerate_max) = (feerate, feerate);
    test.event(Alice, Event::Close(CloseRequest { script, feerate, feerate_min, feerate_max }));
    test.run();
    assert_eq!(test[Alice].channel.state_name(), StateName::Negotiating);
    assert_eq!(test[Bob].channel.state_name(), StateName::Negotiating);
}

#[test]
fn a_tower_that_knows_a_later_revocation_keeps_an_old_copy_from_its_commitment() {
    for kind in KINDS {
        let mut test = set_back(Setup::new(1_000_000, kind).push(300_000).ready());
        let number = CommitmentNumber(test[Bob].commitments().local.number.0 - 1);
        test.event(Alice, Event::TowerKnowsRevoked { number });
        assert_eq!(test[Alice].channel.state_name(), StateName::Lost);
        assert!(test[Alice].notices.contains(&Notice::DataLoss));
        for event in [Event::ForceClose, Event::NewTip(Height(5_000))] {
            test.event(Alice, event);
            assert!(test[Alice].channel.local_close().unwrap().is_none());
            test.restart(Alice);
        }
        let funding = test.funding.clone().unwrap();
        assert!(test[Alice].broadcasts.iter().all(|transaction| *transaction == funding));
        test.connect();
        test.run();
        assert_eq!(test[Bob].channel.state_name(), StateName::Closing, "Bob is asked to close");
    }
}

#[test]
fn a_tower_that_knows_what_the_channel_knows_changes_nothing() {
    let mut test = guarded(CommitmentType::Anchors, TowerPolicy::Require);
    test[Alice].towers.silent = false;
    test.pay(Alice, Msat(50_000_000));
    let last = test[Alice].commitments().remote.current.number.0 - 1;
    test.event(Alice, Event::TowerKnowsRevoked { number: CommitmentNumber(last) });
    test.pay(Alice, Msat(50_000_000));
}

#[test]
fn a_state_of_a_version_without_towers_is_read() {
    let mut test = guarded(CommitmentType::Anchors, TowerPolicy::None);
    test.pay(Alice, Msat(50_000_000));
    let rows = Rows::collect(test[Alice].live_rows()).unwrap();
    let mut bytes = rows.state.unwrap();
    assert_eq!((bytes[0], bytes.pop()), (4, Some(0)));
    bytes[0] = 3;
    let signatures = record::decode_signatures(&rows.signatures.unwrap()).unwrap();
    let secrets = record::decode_secrets(&rows.secrets.unwrap()).unwrap();
    let state = record::decode_state(&bytes, rows.htlcs, signatures, secrets).unwrap();
    assert_eq!(state.queued, None);
    assert_eq!(state.commitments.local, test[Alice].commitments().local);
}
