//! HTLCs, fees and commitments while everything is well.

use super::harness::{Outcome, Setup, TestChannel, Who};
use crate::channel::*;
use crate::types::*;
use crate::wire::{Message, UpdateFulfillHtlc};

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

#[test]
fn payments_move_both_balances() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(400_000).ready();
        test.pay(Who::Alice, Msat(100_000_001));
        test.pay(Who::Bob, Msat(40_000_000));
        test.pay(Who::Alice, Msat(1));
        assert_eq!(test[Who::Alice].balance(), Msat(539_999_998));
        assert_eq!(test[Who::Bob].balance(), Msat(460_000_002));
        test.assert_in_sync();
    }
}

#[test]
fn a_failed_htlc_gives_the_money_and_the_reason_back() {
    let mut test = TestChannel::funded(1_000_000).ready();
    let attempt = test.add(Who::Alice, Msat(100_000_000));
    test.run();
    test.fail(Who::Bob, HtlcId(0));
    test.run();
    let failed = Outcome::Failed(HtlcFailure::Remote { reason: vec![7; 292] });
    assert_eq!(test[Who::Alice].outcomes[&attempt], failed);
    assert_eq!(test[Who::Alice].balance(), Msat(1_000_000_000));
    let stored = &test[Who::Alice].store.rows[&Key::Outcome(attempt)];
    assert!(matches!(OwedSettlement::decode(stored), Some(OwedSettlement::Failed { .. })));
}

#[test]
fn an_htlc_is_listed_as_committed_once_the_peer_has_revoked_what_lacks_it() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(400_000).ready();
    let listed = |test: &TestChannel| test[Who::Alice].channel.summary().unwrap().established.unwrap();
    test.add(Who::Bob, Msat(5_000_000));
    test.event(Who::Bob, Event::Flush);
    while test.deliver(Who::Alice) {}
    let key = HtlcKey { offered_by: Side::Remote, id: HtlcId(0) };
    assert_eq!((listed(&test).htlcs.len(), listed(&test).uncommitted), (1, vec![key]), "Bob may still go back");
    test.run();
    assert_eq!((listed(&test).htlcs.len(), listed(&test).uncommitted), (1, vec![]));
}

#[test]
fn an_htlc_that_forwards_another_names_it() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.add(Who::Alice, Msat(1_000_000));
    let (_, mut add) = test.htlc(Msat(5_000_000));
    add.origin = Origin::Forward { channel: ChannelId([8; 32]), htlc: HtlcId(77) };
    test.event(Who::Alice, Event::Add(Box::new(add)));
    test.run();
    let known = test[Who::Alice].channel.summary().unwrap().established.unwrap();
    assert_eq!(known.forwards, [(HtlcId(1), ChannelId([8; 32]), HtlcId(77))]);
}

#[test]
fn many_updates_share_one_signature_while_one_is_unanswered() {
    let mut test = TestChannel::funded(10_000_000).ready();
    test[Who::Alice].take_sent();
    test.add(Who::Alice, Msat(1_000_000));
    test.event(Who::Alice, Event::Flush);
    for _ in 0..20 {
        test.add(Who::Alice, Msat(1_000_000));
        test.event(Who::Alice, Event::Flush);
    }
    let signatures = |sent: Vec<&str>| sent.into_iter().filter(|name| *name == "CommitmentSigned").count();
    assert_eq!(signatures(test[Who::Alice].take_sent()), 1, "one is unanswered, so the others wait");
    test.run();
    assert_eq!(signatures(test[Who::Alice].take_sent()), 1, "all 20 in the second");
    assert_eq!(test[Who::Bob].incoming.len(), 21);
}

#[test]
fn a_signature_repeats_the_htlcs_that_neither_came_nor_go() {
    let mut test = TestChannel::funded(10_000_000).push(5_000_000).ready();
    let repeated = |test: &TestChannel| Who::BOTH.map(|who| test[who].channel.htlcs_to_repeat());
    for _ in 0..3 {
        test.add(Who::Alice, Msat(1_000_000));
    }
    assert_eq!(repeated(&test), [0, 0]);
    test.run();
    test.add(Who::Alice, Msat(1_000_000));
    assert_eq!(repeated(&test), [3, 3]);
    test.fulfill(Who::Bob, HtlcId(0));
    test.fulfill(Who::Bob, HtlcId(1));
    assert_eq!(repeated(&test), [3, 1]);
    test.event(Who::Bob, Event::Flush);
    while test.deliver(Who::Alice) {}
    assert_eq!(repeated(&test)[0], 1);
}

#[test]
fn the_preimage_counts_before_it_is_committed() {
    let mut test = TestChannel::funded(1_000_000).ready();
    let attempt = test.add(Who::Alice, Msat(100_000_000));
    test.run();
    test.fulfill(Who::Bob, HtlcId(0));
    test.deliver(Who::Alice); // update_fulfill_htlc, not signed yet
    assert_eq!(test[Who::Alice].outcomes[&attempt], Outcome::Fulfilled);
    assert!(test[Who::Alice].store.rows.contains_key(&Key::Outcome(attempt)), "durable before it is told");
    test.restart(Who::Alice);
    test.connect();
    test.run();
    assert_eq!(test[Who::Bob].balance(), Msat(100_000_000));
}

#[test]
fn a_forwarded_htlc_owes_its_settlement_under_the_incoming_htlc() {
    let mut test = TestChannel::funded(1_000_000).ready();
    let upstream = Origin::Forward { channel: ChannelId([8; 32]), htlc: HtlcId(77) };
    let (_, mut add) = test.htlc(Msat(5_000_000));
    add.origin = upstream;
    test.event(Who::Alice, Event::Add(Box::new(add)));
    test.run();
    test.fulfill(Who::Bob, HtlcId(0));
    test.run();
    let stored = &test[Who::Alice].store.rows[&Key::Settlement { channel: ChannelId([8; 32]), id: HtlcId(77) }];
    assert!(matches!(OwedSettlement::decode(stored), Some(OwedSettlement::Fulfilled { .. })));
}

#[test]
fn a_settlement_is_no_longer_owed_once_its_removal_is_signed() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.add(Who::Alice, Msat(5_000_000));
    test.run();
    let key = Key::Settlement { channel: test.channel_id(), id: HtlcId(0) };
    test[Who::Bob].store.rows.insert(key, vec![1]);
    test.fulfill(Who::Bob, HtlcId(0));
    assert!(test[Who::Bob].store.rows.contains_key(&key));
    test.event(Who::Bob, Event::Flush);
    assert!(!test[Who::Bob].store.rows.contains_key(&key));
}

#[test]
fn an_unanswered_htlc_is_told_again_after_a_restart_with_its_onion() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.add(Who::Alice, Msat(5_000_000));
    test.run();
    let told = test[Who::Bob].incoming[&HtlcId(0)].clone();
    test.restart(Who::Bob);
    assert_eq!(test[Who::Bob].incoming[&HtlcId(0)], told);
    test.connect();
    test.run();
    test.fulfill(Who::Bob, HtlcId(0));
    test.run();
    test.restart(Who::Bob);
    assert!(test[Who::Bob].incoming.is_empty());
}

#[test]
fn settling_twice_or_too_early_does_nothing() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.add(Who::Alice, Msat(5_000_000));
    test.event(Who::Alice, Event::Flush);
    test.deliver(Who::Bob);
    let fail = || Event::Settle { id: HtlcId(0), settlement: Settlement::Fail { reason: vec![] } };
    test[Who::Bob].take_sent();
    test.event(Who::Bob, fail());
    assert!(test[Who::Bob].take_sent().is_empty(), "not irrevocably committed");
    test.run();
    test.fulfill(Who::Bob, HtlcId(0));
    test.event(Who::Bob, fail());
    test.run();
    test.event(Who::Bob, fail());
    assert_eq!(test[Who::Bob].balance(), Msat(5_000_000));
}

#[test]
fn the_fee_rate_changes_both_commitments() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).ready();
        test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(2500)));
        test.run();
        for who in Who::BOTH {
            assert_eq!(test[who].commitments().local.spec.feerate, FeeratePerKw(2500));
        }
        test[Who::Bob].take_sent();
        test.event(Who::Bob, Event::UpdateFee(FeeratePerKw(3000)));
        assert!(test[Who::Bob].take_sent().is_empty(), "only the opener may");
    }
}

#[test]
fn retired_htlcs_tell_which_revoked_commitments_had_them() {
    let mut test = TestChannel::funded(1_000_000).ready();
    for _ in 0..3 {
        test.pay(Who::Alice, Msat(20_000_000));
    }
    for who in Who::BOTH {
        let remote = test[who].commitments().remote.current.number;
        for id in 0..3 {
            let offered_by = if who == Who::Alice { Side::Local } else { Side::Remote };
            let key = Key::RetiredHtlc { channel: test.channel_id(), offered_by, id: HtlcId(id) };
            let bytes = &test[who].store.rows[&key];
            assert!(bytes.len() < 64);
            let retired = decode_retired(HtlcKey { offered_by, id: HtlcId(id) }, bytes).unwrap();
            assert_eq!(retired.htlc.amount, Msat(20_000_000));
            assert!(retired.first_remote <= retired.last_remote && retired.last_remote <= remote);
        }
    }
}

#[test]
fn an_idle_channel_is_small_in_memory_and_on_disk() {
    let mut test = TestChannel::funded(10_000_000).push(5_000_000).ready();
    for _ in 0..20 {
        test.pay(Who::Alice, Msat(20_000_000));
        test.pay(Who::Bob, Msat(20_000_000));
    }
    let rows: std::collections::BTreeMap<Key, usize> =
        test[Who::Alice].live_rows().map(|(key, value)| (key, value.len())).collect();
    let id = test.channel_id();
    let memory = size_of::<state::Established>();
    println!("an idle channel: {memory} bytes of memory besides its scripts, rows {rows:?}");
    assert_eq!(rows.len(), 5, "no HTLC is left");
    assert!(rows[&Key::FundingInputs(id)] < 80, "of one input, written once");
    assert!(rows[&Key::State(id)] < 200 && rows[&Key::Terms(id)] < 800 && rows[&Key::Signatures(id)] < 80);
    assert!(rows[&Key::Secrets(id)] < 10 * 32, "one for each doubling");
    assert!(memory < 4096);
}

/// What a peer may not say, and whether it costs the connection or the channel.
#[test]
fn a_peer_that_breaks_a_rule_is_warned_or_failed() {
    type Break = fn(&mut TestChannel) -> Message;
    let cases: &[(&str, Break, StateName)] = &[
        ("an id out of order", |test| update_add(test, |add| add.id = HtlcId(5)), StateName::Normal),
        ("nothing", |test| update_add(test, |add| add.amount_msat = Msat(0)), StateName::Normal),
        ("more than there is", |test| update_add(test, |add| add.amount_msat = Msat(2_000_000_000)), StateName::Normal),
        ("into the reserve", |test| update_add(test, |add| add.amount_msat = Msat(995_000_000)), StateName::Normal),
        (
            "a time as expiry",
            |test| update_add(test, |add| add.cltv_expiry = CltvExpiry(500_000_000)),
            StateName::Normal,
        ),
        (
            "an HTLC that is not there",
            |test| {
                let payment_preimage = PaymentPreimage([0; 32]);
                UpdateFulfillHtlc { channel_id: test.channel_id(), id: HtlcId(3), payment_preimage }.into()
            },
            StateName::Normal,
        ),
        (
            "a fee beyond all reason",
            |test| {
                let feerate_per_kw = FeeratePerKw(1_000_000);
                crate::wire::UpdateFee { channel_id: test.channel_id(), feerate_per_kw }.into()
            },
            StateName::Closing,
        ),
        (
            "a wrong signature",
            |test| {
                test.add(Who::Alice, Msat(5_000_000));
                test.event(Who::Alice, Event::Flush);
                test.deliver(Who::Bob);
                let Some(Event::Message(Message::CommitmentSigned(mut signed))) = test.next_message(Who::Bob) else {
                    panic!()
                };
                signed.htlc_signature[0] = signed.signature;
                signed.into()
            },
            StateName::Closing,
        ),
        (
            "a revocation that nobody asked for",
            |test| {
                let next_per_commitment_point = test[Who::Alice].signer.basepoints().htlc;
                let channel_id = test.channel_id();
                crate::wire::RevokeAndAck { channel_id, per_commitment_secret: [1; 32], next_per_commitment_point }
                    .into()
            },
            StateName::Normal,
        ),
        ("an error", |test| crate::wire::ErrorMessage::new(test.channel_id(), "broken").into(), StateName::Closing),
    ];
    for (name, message, state) in cases {
        let mut test = TestChannel::funded(1_000_000).ready();
        test[Who::Bob].tolerant = true;
        let message = message(&mut test);
        test.event(Who::Bob, Event::Message(message));
        let bob = &test[Who::Bob];
        assert_eq!(bob.channel.state_name(), *state, "{name}");
        assert!(bob.notices.iter().any(|notice| matches!(notice, Notice::ProtocolViolation(_))), "{name}");
        assert_eq!(bob.broadcasts.len(), usize::from(*state == StateName::Closing), "{name}");
        if *state == StateName::Normal {
            assert!(!test.connected, "{name}");
            test.connect();
            test.run();
            test.pay(Who::Alice, Msat(10_000_000));
        }
    }
}

fn update_add(test: &mut TestChannel, change: impl Fn(&mut crate::wire::UpdateAddHtlc)) -> Message {
    let (_, add) = test.htlc(Msat(5_000_000));
    let mut message = crate::wire::UpdateAddHtlc {
        channel_id: test.channel_id(),
        id: HtlcId(0),
        amount_msat: add.amount,
        payment_hash: add.payment_hash,
        cltv_expiry: add.cltv_expiry,
        onion_routing_packet: add.onion,
        path_key: None,
    };
    change(&mut message);
    message.into()
}

#[test]
fn a_wrong_preimage_and_a_missing_badonion_bit_are_noticed() {
    for malformed in [false, true] {
        let mut test = TestChannel::funded(1_000_000).ready();
        test.add(Who::Alice, Msat(5_000_000));
        test.run();
        test[Who::Alice].tolerant = true;
        let (channel_id, id) = (test.channel_id(), HtlcId(0));
        let message: Message = if malformed {
            crate::wire::UpdateFailMalformedHtlc { channel_id, id, sha256_of_onion: [0; 32], failure_code: 5 }.into()
        } else {
            UpdateFulfillHtlc { channel_id, id, payment_preimage: PaymentPreimage([0; 32]) }.into()
        };
        test.event(Who::Alice, Event::Message(message));
        assert!(test[Who::Alice].outcomes.is_empty());
        assert!(!test.connected);
    }
}

#[test]
fn how_a_peers_htlcs_have_ended_is_kept_once_nothing_can_change_it() {
    for keeps in [true, false] {
        let mut setup = Setup::new(1_000_000, CommitmentType::Anchors);
        setup.policy[1].keeps_final_htlcs = keeps;
        let mut test = setup.ready();
        for _ in 0..2 {
            test.add(Who::Alice, Msat(10_000_000));
        }
        test.run();
        let kept = |test: &TestChannel, id| {
            let channel = test[Who::Bob].channel.terms().unwrap().channel_id;
            let bytes = test[Who::Bob].store.rows.get(&Key::FinalHtlc { channel, id: HtlcId(id) });
            bytes.map(|bytes| FinalHtlc::decode(bytes).unwrap())
        };
        test.fulfill(Who::Bob, HtlcId(0));
        test.event(Who::Bob, Event::Flush);
        assert_eq!((kept(&test, 0), test[Who::Bob].ended.len()), (None, 0), "it is in a commitment still");
        test.run();
        test.fail(Who::Bob, HtlcId(1));
        test.run();
        let ends = [true, false].map(|settled| FinalHtlc { settled, on_chain: false });
        assert_eq!(test[Who::Bob].ended, [(HtlcId(0), ends[0]), (HtlcId(1), ends[1])]);
        assert_eq!([kept(&test, 0), kept(&test, 1)], ends.map(|end| keeps.then_some(end)));
        assert!(test[Who::Alice].ended.is_empty(), "hers are her payments' or forwards'");
    }
}
