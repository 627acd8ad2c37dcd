//! `shutdown` and `closing_signed`.

use bitcoin::{Amount, ScriptBuf};

use super::harness::spent;
use super::harness::{Outcome, Setup, TestChannel, Who, wallet_script};
use crate::channel::*;
use crate::types::*;
use crate::wire::Message;

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

fn close(test: &mut TestChannel, who: Who) {
    close_with(test, who, 1000, 253, 5000);
}

fn close_with(test: &mut TestChannel, who: Who, feerate: u32, min: u32, max: u32) {
    let request = CloseRequest {
        script: wallet_script(who),
        feerate: FeeratePerKw(feerate),
        feerate_min: FeeratePerKw(min),
        feerate_max: FeeratePerKw(max),
    };
    test.event(who, Event::Close(request));
}

/// The fee that both agreed on.
fn agreed_fee(test: &TestChannel) -> u64 {
    let broadcasts = Who::BOTH.map(|who| test[who].broadcasts.last().expect("a closing transaction").clone());
    assert_eq!(broadcasts[0].compute_txid(), broadcasts[1].compute_txid());
    let paid: u64 = broadcasts[0].output.iter().map(|output| output.value.to_sat()).sum();
    test.funding_output().1.value.to_sat() - paid
}

#[test]
fn a_close_pays_both_balances_and_the_opener_pays_the_fee() {
    for kind in KINDS {
        for closer in Who::BOTH {
            let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
            test.pay(Who::Alice, Msat(50_000_999));
            close(&mut test, closer);
            test.run();
            let fee = agreed_fee(&test);
            let closing = test[Who::Bob].broadcasts.last().unwrap();
            let paid = |who| {
                let output = closing.output.iter().find(|output| output.script_pubkey == wallet_script(who));
                output.unwrap().value.to_sat()
            };
            assert_eq!(paid(Who::Bob), 350_000);
            assert_eq!(paid(Who::Alice) + fee, 650_000, "the fractions of both balances are lost");
            assert!((600..800).contains(&fee), "{fee}");
            for who in Who::BOTH {
                let transaction = closing_of(&test, who);
                test.event(who, spent(transaction, Some(Height(150))));
                assert_eq!(test[who].channel.state_name(), StateName::Closing);
                let close = test[who].remote_close.take().unwrap();
                assert_eq!(close.kind, SpendKind::Mutual);
                test.event(who, Event::CloseConfirmed);
                assert!(test[who].forgotten);
                test.restart(who);
                assert_eq!(test[who].channel.state_name(), StateName::Closed);
            }
        }
    }
}

#[test]
fn a_closing_transaction_that_every_mempool_has_lost_is_broadcast_again() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    close(&mut test, Who::Alice);
    test.run();
    let transaction = closing_of(&test, Who::Alice);
    for who in Who::BOTH {
        test.event(who, spent(transaction.clone(), None));
        test[who].broadcasts.clear();
        test.restart(who);
        assert_eq!(test[who].broadcasts, vec![transaction.clone()]);

        test.event(who, spent(transaction.clone(), Some(Height(120))));
        test[who].broadcasts.clear();
        test.restart(who);
        assert_eq!(test[who].broadcasts, vec![transaction.clone()], "a reorganisation may have taken it back");
    }
}

fn closing_of(test: &TestChannel, who: Who) -> bitcoin::Transaction {
    test[who].broadcasts.last().unwrap().clone()
}

#[test]
fn pending_htlcs_are_resolved_first_and_no_new_ones_are_taken() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.add(Who::Alice, Msat(5_000_000));
    test.run();
    let waiting = test.add(Who::Alice, Msat(6_000_000));
    close(&mut test, Who::Alice);
    assert!(!test[Who::Alice].take_sent().contains(&"Shutdown"), "an update of ours is not signed yet");
    test.run();
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Shutdown);
    let refused = test.add(Who::Bob, Msat(1_000_000));
    assert_eq!(test[Who::Bob].outcomes[&refused], Outcome::Refused(CannotAdd::State(StateName::Shutdown)));
    test.fulfill(Who::Bob, HtlcId(0));
    test.run();
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Shutdown);
    test.fail(Who::Bob, HtlcId(1));
    test.run();
    assert!(matches!(test[Who::Alice].outcomes[&waiting], Outcome::Failed(_)));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Negotiating);
    agreed_fee(&test);
}

#[test]
fn a_close_survives_lost_connections_and_restarts_at_every_message() {
    for lost_after in 0..12 {
        for restart in [false, true] {
            let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
            test.add(Who::Bob, Msat(5_000_000));
            test.run();
            close(&mut test, Who::Bob);
            let mut delivered = 0;
            while delivered < lost_after {
                let moved = Who::BOTH.into_iter().filter(|who| test.deliver(*who)).count();
                for who in Who::BOTH {
                    if test[who].channel.wants_flush() {
                        test.event(who, Event::Flush);
                    }
                }
                if let Some(&id) = test[Who::Alice].incoming.keys().next() {
                    test.fulfill(Who::Alice, id);
                }
                delivered += moved.max(1);
            }
            if restart {
                test.restart(Who::Bob);
            } else {
                test.cut();
            }
            test.connect();
            test.run();
            if let Some(&id) = test[Who::Alice].incoming.keys().next() {
                test.fulfill(Who::Alice, id);
                test.run();
            }
            let fee = agreed_fee(&test);
            assert!(fee > 0);
        }
    }
}

#[test]
fn a_close_may_begin_before_the_channel_is_ready() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).established();
    close(&mut test, Who::Bob);
    test.run();
    assert!((600..800).contains(&agreed_fee(&test)));
}

#[test]
fn a_close_asked_for_offline_happens_after_the_reconnection() {
    let mut test = TestChannel::funded(1_000_000).ready();
    test.cut();
    close(&mut test, Who::Alice);
    test.restart(Who::Alice);
    test.connect();
    test.run();
    agreed_fee(&test);
}

#[test]
fn the_fundee_accepts_any_fee_that_relays_and_the_funder_only_its_own_range() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    close_with(&mut test, Who::Alice, 20_000, 20_000, 20_000);
    test.run();
    assert!(agreed_fee(&test) > 10_000);

    // A fee outside of what the funder has told is answered by a warning.
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Alice].tolerant = true;
    close_with(&mut test, Who::Alice, 1_000, 1_000, 2_000);
    let mut answer = None;
    while answer.is_none() {
        for who in Who::BOTH {
            match test.next_message(who) {
                Some(Event::Message(Message::ClosingSigned(signed))) if who == Who::Alice => answer = Some(signed),
                Some(event) => test.event(who, event),
                None => {}
            }
            if answer.is_none() && test[who].channel.wants_flush() {
                test.event(who, Event::Flush);
            }
        }
    }
    let honest = answer.unwrap();
    let mut lie = honest.clone();
    lie.fee_satoshis = Amount::from_sat(honest.fee_satoshis.to_sat() + 1);
    test.event(Who::Alice, Event::Message(lie.into()));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Closing, "a signature that fits nothing fails it");
}

#[test]
fn without_a_fee_range_both_meet_halfway() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    // Alice begins below what relays and goes up to 5000 per kw; Bob would choose 8000.
    test[Who::Bob].feerates.closing = FeeratePerKw(8_000);
    test[Who::Alice].feerates.mempool_minimum = FeeratePerKw(10);
    close_with(&mut test, Who::Alice, 10, 10, 5_000);
    let mut fees = Vec::new();
    for _ in 0..100 {
        for who in Who::BOTH {
            match test.next_message(who) {
                Some(Event::Message(Message::ClosingSigned(mut signed))) => {
                    signed.fee_range = None;
                    fees.push(signed.fee_satoshis.to_sat());
                    test.event(who, Event::Message(signed.into()));
                }
                Some(event) => test.event(who, event),
                None => {}
            }
            if test[who].channel.wants_flush() {
                test.event(who, Event::Flush);
            }
        }
    }
    let [first, wanted, middle, repeated] = fees[..] else { panic!("{fees:?}") };
    assert_eq!((middle, repeated), (u64::midpoint(first, wanted), middle));
    assert_eq!(agreed_fee(&test), middle);
}

#[test]
fn an_upfront_script_binds_both_sides() {
    let mut setup = TestChannel::funded(1_000_000);
    setup.commit_to_script = true;
    let mut test = setup.ready();
    let script = ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array([9; 20]));
    let request = CloseRequest {
        script: script.clone(),
        feerate: FeeratePerKw(1000),
        feerate_min: FeeratePerKw(253),
        feerate_max: FeeratePerKw(2000),
    };
    test.event(Who::Alice, Event::Close(request));
    assert!(matches!(test[Who::Alice].refusals[..], [CloseRefused::UpfrontScript { .. }]));
    test[Who::Alice].tolerant = true;
    let shutdown = crate::wire::Shutdown { channel_id: test.channel_id(), scriptpubkey: script };
    test.event(Who::Alice, Event::Message(shutdown.into()));
    assert!(!test.connected);
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
    test.connect();
    test.run();
    close(&mut test, Who::Bob);
    test.run();
    agreed_fee(&test);
}

#[test]
fn an_add_after_shutdown_and_a_script_of_another_form_are_wrong() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Alice].tolerant = true;
    let channel_id = test.channel_id();
    let p2pkh = ScriptBuf::new_p2pkh(&bitcoin::hashes::Hash::from_byte_array([9; 20]));
    test.event(Who::Alice, Event::Message(crate::wire::Shutdown { channel_id, scriptpubkey: p2pkh }.into()));
    assert!(!test.connected && test[Who::Alice].channel.state_name() == StateName::Normal);
}

#[test]
fn closing_ranges_without_overlap_are_told() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].tolerant = true;
    close_with(&mut test, Who::Alice, 10, 10, 10); // less than what relays
    test.run();
    let told =
        |notice: &Notice| matches!(notice, Notice::ProtocolViolation(ProtocolViolation::NoCommonClosingFee { .. }));
    assert!(test[Who::Bob].notices.iter().any(told));
    assert!(test.connected, "a disagreement about a fee ends no other channel's connection");
    close_with(&mut test, Who::Alice, 1000, 253, 2000);
    test.run();
    agreed_fee(&test);
}

#[test]
fn an_output_between_both_dust_limits_does_not_keep_a_channel_from_closing() {
    for (alice, bob) in [(354, 1000), (1000, 354)] {
        let mut setup = TestChannel::funded(1_000_000).push(500);
        setup.policy[0].dust_limit = Amount::from_sat(alice);
        setup.policy[1].dust_limit = Amount::from_sat(bob);
        for closer in Who::BOTH {
            let mut test = setup.clone().ready();
            close(&mut test, closer);
            test.run();
            agreed_fee(&test);
            let outputs = test[Who::Bob].broadcasts.last().unwrap().output.len();
            assert_eq!(outputs, if alice == 354 { 2 } else { 1 }, "the opener signs first, by its own limit");
        }
    }
}

/// A channel whose money is all Alice's, who opened it.
fn all_alices(capacity: u64, dust_limits: [u64; 2]) -> TestChannel {
    let mut setup = TestChannel::funded(capacity);
    for (policy, dust_limit) in setup.policy.iter_mut().zip(dust_limits) {
        policy.dust_limit = Amount::from_sat(dust_limit);
        policy.max_remote_dust_limit = Amount::from_sat(20_000);
    }
    setup.ready()
}

/// One transaction closes it for both, and Alice's output is not below `least`.
fn closed_with_an_output(test: &TestChannel, least: u64) {
    agreed_fee(test);
    let [output] = &closing_of(test, Who::Alice).output[..] else { panic!("only Alice has anything") };
    assert_eq!(output.script_pubkey, wallet_script(Who::Alice));
    assert!(output.value.to_sat() >= least, "{}", output.value);
    for who in Who::BOTH {
        assert!(test[who].local_close.is_none());
        assert!(
            !test[who].notices.iter().any(|notice| matches!(notice, Notice::ProtocolViolation(_))),
            "{who:?} blames the other"
        );
    }
}

#[test]
fn a_close_at_an_absurd_fee_leaves_its_opener_an_output() {
    for (dust_limits, least) in [([354, 354], 354), ([354, 1_000], 1_000), ([1_000, 354], 1_000)] {
        let mut test = all_alices(100_000, dust_limits);
        close_with(&mut test, Who::Alice, 500_000, 253, 1_500_000);
        test.run();
        closed_with_an_output(&test, least);
    }
}

#[test]
fn a_small_channel_closes_by_either_side_when_fees_are_high() {
    for closer in Who::BOTH {
        let mut test = all_alices(20_000, [354, 354]);
        for who in Who::BOTH {
            test[who].feerates.closing = FeeratePerKw(37_500);
        }
        close_with(&mut test, closer, 37_500, 253, 112_500);
        test.run();
        closed_with_an_output(&test, 354);
        let fee = agreed_fee(&test);
        // What nobody has asked for takes half of it at most.
        assert!(if closer == Who::Alice { fee > 19_000 } else { fee <= 10_000 }, "{fee}");
    }
}

#[test]
fn an_opener_with_hardly_more_than_dust_closes_as_well() {
    let mut test = all_alices(20_000, [18_000, 354]);
    close_with(&mut test, Who::Alice, 500_000, 253, 1_500_000);
    test.run();
    closed_with_an_output(&test, 18_000);
}

#[test]
fn a_close_that_the_fundee_alone_gets_something_from_ends() {
    // Mempools want more than the opener has.
    let mut test = TestChannel::funded(100_000).push(95_000).ready();
    for who in Who::BOTH {
        test[who].feerates.mempool_minimum = FeeratePerKw(10_000);
    }
    close_with(&mut test, Who::Alice, 10_000, 253, 30_000);
    test.run();
    agreed_fee(&test);
    let [output] = &closing_of(&test, Who::Bob).output[..] else { panic!("the opener has no output") };
    assert_eq!((output.value.to_sat(), &output.script_pubkey), (95_000, &wallet_script(Who::Bob)));
}
