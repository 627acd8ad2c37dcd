//! What `channel_reestablish` sends again, what it does not, and what it proves.

use super::harness::spent;
use super::harness::{Crash, Outcome, Setup, TestChannel, Who};
use crate::channel::state::ConnectionState;
use crate::channel::*;
use crate::types::*;
use crate::wire::{ErrorMessage, Message};

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

/// Ready, with one payment behind it, so that `channel_ready` is not repeated.
fn used(kind: CommitmentType) -> TestChannel {
    let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
    test.pay(Who::Alice, Msat(10_000_000));
    test
}

/// Connects again and tells what each side sends, before anything new is proposed.
fn resent(test: &mut TestChannel) -> [Vec<&'static str>; 2] {
    test.cut();
    for who in Who::BOTH {
        test[who].take_sent();
    }
    test.connect();
    for who in Who::BOTH {
        assert!(test.deliver(who), "channel_reestablish arrives");
    }
    Who::BOTH.map(|who| {
        let mut sent = test[who].take_sent();
        assert_eq!(sent.remove(0), "ChannelReestablish");
        sent
    })
}

#[test]
fn nothing_is_repeated_when_nothing_was_lost() {
    for kind in KINDS {
        assert_eq!(resent(&mut used(kind)), [vec![], vec![]] as [Vec<&str>; 2]);
    }
}

#[test]
fn an_unsigned_htlc_is_given_up_and_its_id_used_again() {
    let mut test = used(CommitmentType::Anchors);
    let attempt = test.add(Who::Alice, Msat(5_000_000));
    test.deliver(Who::Bob);
    assert_eq!(resent(&mut test), [vec![], vec![]] as [Vec<&str>; 2]);
    assert_eq!(test[Who::Alice].outcomes[&attempt], Outcome::Refused(CannotAdd::Disconnected));
    test.pay(Who::Alice, Msat(6_000_000));
}

#[test]
fn a_lost_commitment_signed_is_repeated_with_its_updates() {
    for kind in KINDS {
        let mut test = used(kind);
        test.add(Who::Alice, Msat(5_000_000));
        test.add(Who::Alice, Msat(6_000_000));
        test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1100)));
        test.event(Who::Alice, Event::Flush);
        test.deliver(Who::Bob);
        let [alice, bob] = resent(&mut test);
        assert_eq!(alice, ["UpdateAddHtlc", "UpdateAddHtlc", "UpdateFee", "CommitmentSigned"]);
        assert!(bob.is_empty());
        test.run();
        assert_eq!(test[Who::Bob].incoming.len(), 2);
        test.assert_in_sync();
    }
}

#[test]
fn a_lost_revoke_and_ack_is_repeated() {
    for kind in KINDS {
        let mut test = used(kind);
        test.add(Who::Alice, Msat(5_000_000));
        test.event(Who::Alice, Event::Flush);
        test.deliver(Who::Bob);
        test.deliver(Who::Bob);
        let [alice, bob] = resent(&mut test);
        assert!(alice.is_empty());
        assert_eq!(bob, ["RevokeAndAck"]);
        test.run();
        test.assert_in_sync();
    }
}

#[test]
fn both_lost_are_repeated_in_the_order_of_the_first_time() {
    for revoke_first in [true, false] {
        let mut test = used(CommitmentType::Anchors);
        test.add(Who::Alice, Msat(5_000_000));
        test.add(Who::Bob, Msat(6_000_000));
        test.event(Who::Alice, Event::Flush);
        if revoke_first {
            test.deliver(Who::Bob);
            test.deliver(Who::Bob); // Bob revokes
            test.event(Who::Bob, Event::Flush); // and then signs
        } else {
            test.event(Who::Bob, Event::Flush); // Bob signs
            test.deliver(Who::Bob);
            test.deliver(Who::Bob); // and then revokes
        }
        let [alice, bob] = resent(&mut test);
        assert!(alice.is_empty());
        let signed = ["UpdateAddHtlc", "CommitmentSigned"];
        if revoke_first {
            assert_eq!(bob, ["RevokeAndAck", signed[0], signed[1]]);
        } else {
            assert_eq!(bob, [signed[0], signed[1], "RevokeAndAck"]);
        }
        test.run();
        test.assert_in_sync();
        assert_eq!((test[Who::Alice].incoming.len(), test[Who::Bob].incoming.len()), (1, 1));
    }
}

#[test]
fn the_same_is_repeated_after_a_restart() {
    for crash in [Crash::BeforeCommit, Crash::AfterCommit] {
        let mut test = used(CommitmentType::StaticRemoteKey);
        test.add(Who::Alice, Msat(5_000_000));
        test.events(Who::Alice, vec![Event::Flush], crash);
        test.connect();
        test.run();
        let arrived = test[Who::Bob].incoming.len();
        assert_eq!(arrived, usize::from(crash == Crash::AfterCommit), "{crash:?}");
        test.assert_in_sync();
    }
}

#[test]
fn an_unsigned_removal_is_sent_again_after_a_lost_connection() {
    let mut test = used(CommitmentType::Anchors);
    test.add(Who::Alice, Msat(5_000_000));
    test.run();
    let id = *test[Who::Bob].incoming.keys().next().unwrap();
    test.fulfill(Who::Bob, id);
    let [alice, bob] = resent(&mut test);
    assert!(alice.is_empty());
    assert_eq!(bob, ["UpdateFulfillHtlc"]);
    test.run();
    assert_eq!(test[Who::Bob].balance(), Msat(315_000_000));
}

#[test]
fn a_removal_decided_offline_travels_after_the_reconnection() {
    let mut test = used(CommitmentType::Anchors);
    test.add(Who::Alice, Msat(5_000_000));
    test.run();
    test.cut();
    let id = *test[Who::Bob].incoming.keys().next().unwrap();
    test.fulfill(Who::Bob, id);
    test.connect();
    test.run();
    assert_eq!(test[Who::Bob].balance(), Msat(315_000_000));
}

fn with_old_backup(kind: CommitmentType) -> TestChannel {
    set_back(used(kind))
}

/// Alice loses what happens now, as if an old backup had been put back.
pub(super) fn set_back(mut test: TestChannel) -> TestChannel {
    let old = test[Who::Alice].store.clone();
    test.pay(Who::Alice, Msat(20_000_000));
    test[Who::Alice].store = old;
    for who in Who::BOTH {
        test[who].tolerant = true;
    }
    test.restart(Who::Alice);
    test
}

#[test]
fn a_node_that_is_proven_old_never_broadcasts() {
    for kind in KINDS {
        let mut test = with_old_backup(kind);
        test.connect();
        test.run();
        assert_eq!(test[Who::Alice].channel.state_name(), StateName::Lost);
        assert!(test[Who::Alice].notices.contains(&Notice::DataLoss));
        test.event(Who::Alice, Event::ForceClose);
        test.event(Who::Alice, Event::NewTip(Height(5_000)));
        test.restart(Who::Alice);
        test.event(Who::Alice, Event::ForceClose);
        let funding = test.funding.clone().unwrap();
        assert!(test[Who::Alice].broadcasts.iter().all(|transaction| *transaction == funding));
        assert!(test[Who::Alice].channel.local_close().unwrap().is_none());

        // Bob saw that Alice is behind, waited, and closed when she asked for it.
        assert!(test[Who::Bob].notices.contains(&Notice::PeerDataLoss));
        assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
        let transaction = test[Who::Bob].broadcasts.last().unwrap().clone();
        test.event(Who::Alice, spent(transaction.clone(), Some(Height(200))));
        let close = test[Who::Alice].remote_close.take().unwrap();
        assert!(matches!(close.kind, SpendKind::Future(_)), "{:?}", close.kind);
        let [claim] = close.claims.as_slice() else { panic!("to_remote is found") };
        assert_eq!(claim.outpoint.txid, transaction.compute_txid());
        super::chain_close::execute_claims(&test, Who::Alice, &close.claims);
    }
}

/// The peer has closed while we were away, at a rate that does not confirm, and nobody has proved anything yet.
#[test]
fn a_newer_commitment_in_the_mempool_proves_that_ours_must_not_be_broadcast() {
    for kind in KINDS {
        let mut test = with_old_backup(kind);
        let transaction = test[Who::Bob].channel.local_close().unwrap().unwrap().transaction;
        test.event(Who::Alice, spent(transaction, None));
        for _ in 0..2 {
            let alice = &test[Who::Alice].channel;
            assert_eq!(alice.state_name(), StateName::Closing);
            let closing = alice.closing_channel(bitcoin::ScriptBuf::new()).unwrap().unwrap();
            assert!(closing.signed_local_commitment(test[Who::Alice].signer.as_ref()).unwrap().is_none());
            test.event(Who::Alice, Event::ForceClose);
            test.restart(Who::Alice);
        }
        let ours = test[Who::Alice].channel.established().unwrap().local_close().unwrap().transaction;
        assert!(test[Who::Alice].broadcasts.iter().all(|transaction| *transaction != ours));
    }
}

#[test]
fn the_peer_of_a_node_that_is_behind_waits_for_its_error() {
    let mut test = with_old_backup(CommitmentType::Anchors);
    test.connect();
    test.deliver(Who::Bob);
    assert_eq!(test[Who::Bob].established().connection, ConnectionState::PeerBehind);
    assert!(test[Who::Bob].broadcasts.is_empty());
    // It has found a newer backup in the meantime: the next connection starts afresh.
    test.cut();
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal);
    test.event(Who::Bob, Event::Message(ErrorMessage::new(test.channel_id(), "please close").into()));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
}

#[test]
fn a_peer_that_claims_a_future_without_proof_is_failed() {
    let mut test = used(CommitmentType::Anchors);
    test[Who::Bob].tolerant = true;
    test.cut();
    test.connect();
    let Some(Event::Message(Message::ChannelReestablish(mut message))) = test.next_message(Who::Bob) else { panic!() };
    message.next_revocation_number.0 += 5;
    message.your_last_per_commitment_secret = [5; 32];
    test.event(Who::Bob, Event::Message(message.into()));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
    assert_eq!(test[Who::Bob].broadcasts.len(), 1);
}

#[test]
fn messages_before_channel_reestablish_are_passed_over() {
    let mut test = used(CommitmentType::Anchors);
    test.cut();
    test.connect();
    let channel_id = test.channel_id();
    let early = crate::wire::UpdateFee { channel_id, feerate_per_kw: FeeratePerKw(2000) };
    test.event(Who::Bob, Event::Message(early.into()));
    test.run();
    test.pay(Who::Alice, Msat(5_000_000));
    assert_eq!(test[Who::Bob].commitments().local.spec.feerate, FeeratePerKw(1000));
}

#[test]
fn a_new_connection_before_the_old_ones_end_starts_afresh() {
    let mut test = used(CommitmentType::Anchors);
    let attempt = test.add(Who::Alice, Msat(5_000_000));
    for who in Who::BOTH {
        test[who].inbox.clear();
    }
    for who in Who::BOTH {
        test.event(who, Event::Connected);
    }
    test.run();
    assert_eq!(test[Who::Alice].outcomes[&attempt], Outcome::Refused(CannotAdd::Disconnected));
    test.pay(Who::Alice, Msat(5_000_000));
}
