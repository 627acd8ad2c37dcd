//! Closing together with peers that follow BOLT 2 in other ways than we do, and closes that do not confirm.

use bitcoin::{Amount, Transaction};

use super::harness::spent;
use super::harness::{Setup, TestChannel, Who, wallet_script};
use crate::channel::*;
use crate::onchain::MutualScripts;
use crate::tx::{ClosingInput, build_closing};
use crate::types::*;
use crate::wire::{ClosingSigned, ErrorMessage, FeeRange, Message};

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

fn request(who: Who, feerate: u32) -> Event {
    Event::Close(CloseRequest {
        script: wallet_script(who),
        feerate: FeeratePerKw(feerate),
        feerate_min: FeeratePerKw(253),
        feerate_max: FeeratePerKw(feerate * 3),
    })
}

/// What a peer signs whose next message is `closing_signed`, whatever its core would do.
pub(super) fn closing_signed_by(test: &TestChannel, who: Who, fee: u64) -> ClosingSigned {
    let channel = test[who].established();
    let terms = &channel.terms;
    let balance = &channel.commitments.local.spec.balance;
    let closing = build_closing(&ClosingInput {
        funding: &channel.factory.funding,
        to_local: balance.local,
        to_remote: balance.remote,
        opener: terms.opener,
        fee: Amount::from_sat(fee),
        local_script: &wallet_script(who),
        remote_script: &wallet_script(who.other()),
        dust_limit: terms.sides.local.dust_limit,
    });
    ClosingSigned {
        channel_id: terms.channel_id,
        fee_satoshis: Amount::from_sat(fee),
        signature: channel.factory.signer.sign_funding_input(&closing.unwrap().sighash(&channel.factory.funding)),
        fee_range: Some(FeeRange { min_fee_satoshis: Amount::from_sat(200), max_fee_satoshis: Amount::from_sat(5000) }),
    }
}

fn say(test: &mut TestChannel, to: Who, message: impl Into<Message>) {
    test.event(to, Event::Message(message.into()));
}

/// The transaction that closes the channel for both, if `who` has it.
fn closing_of(test: &TestChannel, who: Who) -> Option<Transaction> {
    let last = test[who].broadcasts.last()?;
    let pays = |of: Who| last.output.iter().any(|output| output.script_pubkey == wallet_script(of));
    (pays(Who::Alice) && pays(Who::Bob)).then(|| last.clone())
}

/// We (Bob) want to close; the funder, whose feerate moved, answers `update_fee`, `commitment_signed`, `shutdown`.
fn fee_moves_at_shutdown(kind: CommitmentType) -> TestChannel {
    let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
    test.event(Who::Bob, request(Who::Bob, 1000));
    test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1300)));
    test.event(Who::Alice, Event::Flush);
    assert!(test.deliver(Who::Alice), "our shutdown");
    assert_eq!(test[Who::Alice].take_sent()[..].last(), Some(&"Shutdown"));
    test[Who::Bob].take_sent();
    for _ in 0..3 {
        assert!(test.deliver(Who::Bob));
    }
    assert_eq!(test[Who::Bob].take_sent(), ["RevokeAndAck"]);
    test
}

#[test]
fn a_peer_that_begins_to_negotiate_before_we_have_signed_its_fee_closes_with_us() {
    for kind in KINDS {
        for signed in [false, true] {
            let mut test = fee_moves_at_shutdown(kind);
            if signed {
                test.event(Who::Bob, Event::Flush);
                test[Who::Bob].take_sent();
            }
            // Core Lightning begins once it has our revoke_and_ack; a commitment_signed it does not read any more.
            let first = closing_signed_by(&test, Who::Alice, 900);
            say(&mut test, Who::Bob, first);
            assert_eq!(test[Who::Bob].take_sent(), ["ClosingSigned"]);
            assert_eq!(test[Who::Bob].channel.state_name(), StateName::Negotiating);
            assert!(closing_of(&test, Who::Bob).is_some());
        }
    }
}

#[test]
fn a_signature_that_only_a_fee_wants_is_not_repeated_to_a_peer_that_negotiates() {
    let mut test = fee_moves_at_shutdown(CommitmentType::Anchors);
    test.event(Who::Bob, Event::Flush);
    assert_eq!(test[Who::Bob].take_sent(), ["CommitmentSigned"]);
    for restart in [false, true] {
        // It hung up on the signature, having negotiated already; after each connection it begins again.
        if restart {
            test.restart(Who::Bob);
        } else {
            test.cut();
        }
        test.connect();
        test[Who::Bob].take_sent();
        assert!(test.deliver(Who::Bob), "channel_reestablish");
        assert!(!test[Who::Bob].take_sent().contains(&"CommitmentSigned"), "restart {restart}");
    }
    let first = closing_signed_by(&test, Who::Alice, 900);
    say(&mut test, Who::Bob, first);
    assert_eq!(test[Who::Bob].take_sent(), ["ClosingSigned"]);
    assert!(closing_of(&test, Who::Bob).is_some());
    // The answer was lost with the line: all of it once more.
    test.cut();
    test.connect();
    test[Who::Bob].take_sent();
    assert!(test.deliver(Who::Bob));
    let sent = test[Who::Bob].take_sent();
    assert_eq!(sent, ["ChannelReestablish", "Shutdown"], "the funder speaks first");
    let first = closing_signed_by(&test, Who::Alice, 900);
    say(&mut test, Who::Bob, first);
    assert_eq!(test[Who::Bob].take_sent(), ["ClosingSigned"]);
}

#[test]
fn a_peer_that_waits_for_the_signature_of_its_fee_gets_it() {
    for kind in KINDS {
        let mut test = fee_moves_at_shutdown(kind);
        test.run();
        assert_eq!(closing_of(&test, Who::Alice).unwrap(), closing_of(&test, Who::Bob).unwrap());
        for who in Who::BOTH {
            assert!(test[who].commitments().is_drained());
        }

        let mut test = fee_moves_at_shutdown(kind);
        test.event(Who::Bob, Event::Flush);
        test.reconnect();
        assert_eq!(closing_of(&test, Who::Alice).unwrap(), closing_of(&test, Who::Bob).unwrap());
        assert!(test[Who::Bob].commitments().is_drained());
    }
}

#[test]
fn a_funder_whose_signed_fee_got_lost_closes_without_it() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1300)));
        test.event(Who::Alice, Event::Flush);
        test[Who::Bob].inbox.clear(); // the line is lost already
        test.event(Who::Alice, request(Who::Alice, 1000));
        test.event(Who::Bob, request(Who::Bob, 1000));
        test.reconnect();
        assert_eq!(closing_of(&test, Who::Alice).unwrap(), closing_of(&test, Who::Bob).unwrap());
    }
}

#[test]
fn a_signed_fee_that_got_lost_waits_for_the_shutdown_of_the_peer() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1300)));
        test.event(Who::Alice, Event::Flush);
        test.event(Who::Alice, request(Who::Alice, 1000));
        test.deliver(Who::Bob);
        test.cut();
        test.connect();
        while test.deliver(Who::Alice) {}
        test[Who::Alice].take_sent();
        // Bob's shutdown is on its way, and after it he may negotiate: then he takes no update_fee.
        assert!(!test[Who::Alice].channel.wants_flush());
        test.event(Who::Alice, Event::Flush);
        assert!(test[Who::Alice].take_sent().is_empty());
        test.run();
        assert_eq!(closing_of(&test, Who::Alice).unwrap(), closing_of(&test, Who::Bob).unwrap());
    }
}

#[test]
fn a_shutdown_waits_for_what_we_owe_a_signature() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1300)));
    test.event(Who::Alice, Event::Flush);
    test.deliver(Who::Bob);
    test.deliver(Who::Bob);
    test[Who::Bob].take_sent();
    test.event(Who::Bob, request(Who::Bob, 1000));
    assert!(test[Who::Bob].take_sent().is_empty());
    test.event(Who::Bob, Event::Flush);
    assert_eq!(test[Who::Bob].take_sent(), ["CommitmentSigned", "Shutdown"]);
    test.run();
    assert!(closing_of(&test, Who::Bob).is_some());
}

#[test]
fn a_funder_whose_fee_is_never_signed_begins_to_negotiate() {
    // Core Lightning, as the other side, owes us a signature for our fee and does not send it once it has said shutdown.
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1300)));
    test.event(Who::Alice, Event::Flush);
    test.event(Who::Bob, request(Who::Bob, 1000));
    for _ in 0..2 {
        test.deliver(Who::Bob);
    }
    test.event(Who::Alice, request(Who::Alice, 1000));
    test.deliver(Who::Bob);
    while test.deliver(Who::Alice) {}
    test[Who::Alice].take_sent();
    assert!(test[Who::Alice].channel.wants_flush(), "after a while");
    test.event(Who::Alice, Event::Flush);
    assert_eq!(test[Who::Alice].take_sent(), ["ClosingSigned"]);
    // A signature that comes after all is taken.
    test.event(Who::Bob, Event::Flush);
    test.run();
    assert!(closing_of(&test, Who::Alice).is_some());
}

#[test]
fn updates_of_the_peer_that_are_not_signed_yet_do_not_keep_it_from_closing() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1300)));
    let shutdown = crate::wire::Shutdown { channel_id: test.channel_id(), scriptpubkey: wallet_script(Who::Alice) };
    test.deliver(Who::Bob);
    say(&mut test, Who::Bob, shutdown);
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Shutdown);
    assert!(test.connected);
    test.event(Who::Alice, Event::Flush);
    test.event(Who::Alice, request(Who::Alice, 1000));
    test.run();
    assert!(closing_of(&test, Who::Bob).is_some());
}

// After the agreement.

/// Closed together; both have the transaction in their mempools.
fn closed_in_mempool(kind: CommitmentType, feerate: u32) -> TestChannel {
    let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
    test.event(Who::Alice, request(Who::Alice, feerate));
    test.run();
    let transaction = closing_of(&test, Who::Alice).unwrap();
    for who in Who::BOTH {
        test.event(who, spent(transaction.clone(), None));
        assert_eq!(test[who].channel.state_name(), StateName::Closing);
    }
    test
}

#[test]
fn nobody_is_greeted_with_an_error() {
    for height in [None, Some(Height(120))] {
        let mut test = closed_in_mempool(CommitmentType::Anchors, 1000);
        let transaction = closing_of(&test, Who::Alice).unwrap();
        for who in Who::BOTH {
            test.event(who, spent(transaction.clone(), height));
        }
        test.cut();
        for who in Who::BOTH {
            test[who].take_sent();
        }
        test.connect();
        test.run();
        for who in Who::BOTH {
            assert!(test[who].take_sent().is_empty(), "there is nothing to say");
        }
    }
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.cut();
        test.event(Who::Alice, Event::ForceClose);
        test[Who::Alice].take_sent();
        test.connect();
        assert!(test[Who::Alice].take_sent().is_empty());
        // Bob does not know: he asks, and is told that the channel has failed.
        test[Who::Bob].tolerant = true;
        assert!(test.deliver(Who::Alice));
        assert_eq!(test[Who::Alice].take_sent(), ["Error"]);
        test.run();
        assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
    }
}

#[test]
fn a_close_that_the_peer_has_not_seen_complete_is_negotiated_again() {
    for kind in KINDS {
        for funder_knows in [false, true] {
            for (height, restart) in
                [(None, false), (None, true), (Some(Height(120)), false), (Some(Height(120)), true)]
            {
                let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
                test.event(Who::Bob, request(Who::Bob, 1000));
                let (knows, waits) = if funder_knows { (Who::Alice, Who::Bob) } else { (Who::Bob, Who::Alice) };
                // Everything arrives but the last closing_signed.
                loop {
                    let moved = Who::BOTH.into_iter().filter(|who| {
                        let last = closing_of(&test, knows).is_some();
                        !(last && *who == waits) && test.deliver(*who)
                    });
                    let moved = moved.count();
                    for who in Who::BOTH {
                        if test[who].channel.wants_flush() {
                            test.event(who, Event::Flush);
                        }
                    }
                    if closing_of(&test, knows).is_some() && closing_of(&test, waits).is_none() {
                        break;
                    }
                    if moved == 0 {
                        break;
                    }
                }
                let Some(transaction) = closing_of(&test, knows) else {
                    panic!("{knows:?} has no closing transaction")
                };
                if closing_of(&test, waits).is_some() {
                    // The one who speaks first knows last: there is no such case.
                    continue;
                }
                test.event(knows, spent(transaction.clone(), height));
                if restart {
                    test.restart(knows);
                } else {
                    test.cut();
                }
                test.connect();
                test.run();
                assert_eq!(closing_of(&test, waits), Some(transaction), "{kind:?} {knows:?} {height:?} {restart}");
            }
        }
    }
}

#[test]
fn a_peer_that_fails_the_channel_after_the_agreement_does_not_make_a_forced_close_of_it() {
    for seen in [false, true] {
        let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
        test.event(Who::Alice, request(Who::Alice, 1000));
        test.run();
        let transaction = closing_of(&test, Who::Bob).unwrap();
        if seen {
            test.event(Who::Bob, spent(transaction.clone(), None));
        }
        let channel_id = test.channel_id();
        // LDK forgets a channel once both have signed, and says so to whoever asks.
        say(&mut test, Who::Bob, ErrorMessage::new(channel_id, "no such channel"));
        assert!(test[Who::Bob].local_close.is_none());
        assert_eq!(closing_of(&test, Who::Bob), Some(transaction));
    }
}

#[test]
fn a_peer_with_old_data_learns_so_from_a_closed_channel() {
    let mut test = super::reconnection::set_back(Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready());
    test.event(Who::Bob, Event::ForceClose);
    test.connect();
    test.run();
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Lost);
    assert!(test[Who::Alice].local_close.is_none(), "it would have broadcast a revoked commitment");
}

/// Delivers until nothing moves; two cores need far fewer messages than that.
fn comes_to_rest(test: &mut TestChannel) {
    for _ in 0..200 {
        if !Who::BOTH.map(|who| test.deliver(who)).contains(&true) {
            return;
        }
    }
    panic!("the two never come to rest");
}

#[test]
fn asking_twice_at_once_for_a_higher_fee_comes_to_rest_at_the_last() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    test.event(Who::Alice, request(Who::Alice, 300));
    test.run();
    let paid = |tx: &Transaction| 1_000_000 - tx.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
    let first = paid(&closing_of(&test, Who::Alice).unwrap());
    test.event(Who::Alice, request(Who::Alice, 2000));
    test.event(Who::Alice, request(Who::Alice, 3000));
    comes_to_rest(&mut test);
    let last = closing_of(&test, Who::Alice).unwrap();
    assert!(paid(&last) >= first * 9, "{first} {}", paid(&last));
    assert_eq!(closing_of(&test, Who::Bob), Some(last));
}

/// A peer that repeats what it said of the first fee, while the second is settled, begins nothing again.
#[test]
fn closing_fees_of_two_conversations_come_to_rest() {
    const FIRST: u64 = 700;
    for kind in KINDS {
        let mut test = closed_in_mempool(kind, 1_000);
        let first = closing_signed_by(&test, Who::Alice, FIRST);
        test.event(Who::Alice, request(Who::Alice, 4_000));
        comes_to_rest(&mut test);
        let settled = closing_of(&test, Who::Bob).unwrap();
        test[Who::Bob].take_sent();
        for _ in 0..2 {
            say(&mut test, Who::Bob, first.clone());
            assert!(test[Who::Bob].take_sent().is_empty(), "both have signed more than that");
        }
        assert_eq!(closing_of(&test, Who::Bob), Some(settled.clone()));
        assert_eq!(closing_of(&test, Who::Alice), Some(settled));
    }
}

#[test]
fn a_reestablish_too_many_is_not_answered_for_ever() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    test.event(Who::Alice, request(Who::Alice, 300));
    test.run();
    test.event(Who::Alice, request(Who::Alice, 2000));
    let again = test[Who::Bob].inbox.back().cloned().unwrap();
    test[Who::Bob].inbox.push_back(again);
    comes_to_rest(&mut test);
    assert_eq!(closing_of(&test, Who::Bob), closing_of(&test, Who::Alice));
    // The next block gives another chance.
    test.tip = Height(test.tip.0 + 1);
    for who in Who::BOTH {
        test.event(who, Event::NewTip(test.tip));
    }
    test.event(Who::Alice, request(Who::Alice, 4000));
    comes_to_rest(&mut test);
    assert_eq!(closing_of(&test, Who::Bob), closing_of(&test, Who::Alice));
}

#[test]
fn asking_again_with_a_higher_fee_raises_the_close() {
    for seen in [false, true] {
        for opener_asks in [false, true] {
            let mut test = closed_in_mempool(CommitmentType::Anchors, 300);
            if !seen {
                test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
                test.event(Who::Alice, request(Who::Alice, 300));
                test.run();
            }
            let first = closing_of(&test, Who::Alice).unwrap();
            let who = if opener_asks { Who::Alice } else { Who::Bob };
            test.event(who, request(who, 3000));
            test.run();
            if opener_asks {
                let second = closing_of(&test, Who::Alice).unwrap();
                let paid = |tx: &Transaction| 1_000_000 - tx.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
                assert!(paid(&second) >= paid(&first) * 9, "{} {}", paid(&first), paid(&second));
                assert_eq!(closing_of(&test, Who::Bob), Some(second));
            } else {
                assert_eq!(test[who].raises.last().map(|(tx, rate)| (tx.clone(), rate.0)), Some((first, 3000)));
            }
        }
    }
}

#[test]
fn force_ends_a_mutual_close_that_does_not_confirm() {
    for kind in KINDS {
        let mut test = closed_in_mempool(kind, 253);
        let mutual = closing_of(&test, Who::Bob).unwrap();
        test.event(Who::Bob, Event::ForceClose);
        let close = test[Who::Bob].local_close.clone().expect("our commitment is broadcast");
        assert_eq!(test[Who::Bob].broadcasts.last(), Some(&close.transaction));
        assert!(test[Who::Bob].channel.needs_enforcement());
        test.restart(Who::Bob);
        assert!(test[Who::Bob].channel.needs_enforcement());
        let closing = test[Who::Bob].channel.closing_channel(wallet_script(Who::Bob)).unwrap().unwrap();
        let MutualScripts::Agreed(scripts) = &closing.mutual_scripts else { panic!("they are known") };
        assert!(scripts.contains(&wallet_script(Who::Alice)), "it may confirm after all");
        test.event(Who::Bob, spent(mutual, Some(Height(140))));
        assert!(test[Who::Bob].channel.needs_enforcement(), "what began it has to end it");
    }
}

#[test]
fn a_close_that_does_not_confirm_is_raised_and_then_ends_by_force() {
    for seen in [false, true] {
        let mut test = closed_in_mempool(CommitmentType::Anchors, 253);
        if !seen {
            test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
            test.event(Who::Alice, request(Who::Alice, 253));
            test.run();
        }
        let mutual = closing_of(&test, Who::Bob).unwrap();
        test[Who::Bob].feerates.closing = FeeratePerKw(5000);
        let (mut raised, mut forced) = (None, None);
        for height in 100..400 {
            test.event(Who::Bob, Event::NewTip(Height(height)));
            raised = raised.or_else(|| test[Who::Bob].raises.first().map(|raise| (height, raise.clone())));
            forced = forced.or_else(|| test[Who::Bob].local_close.as_ref().map(|_| height));
        }
        let (raised_at, raise) = raised.expect("raised");
        assert!((104..110).contains(&raised_at), "{raised_at}");
        assert_eq!(raise, (mutual, FeeratePerKw(5000)));
        assert!((200..300).contains(&forced.expect("ended by force")), "{forced:?}");
    }
}

#[test]
fn a_closing_fee_that_our_mempool_would_not_take_is_not_agreed_to() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].feerates.mempool_minimum = FeeratePerKw(2_000);
    test[Who::Bob].tolerant = true;
    test.event(Who::Alice, request(Who::Alice, 300)); // 900 at most
    test.run();
    let told =
        |notice: &Notice| matches!(notice, Notice::ProtocolViolation(ProtocolViolation::NoCommonClosingFee { .. }));
    assert!(test[Who::Bob].notices.iter().any(told));
    assert!(test.connected, "a warning that BOLT 2 asks for without an end of the connection");
    // The funder's user asks for more: no new connection is needed.
    test.event(Who::Alice, request(Who::Alice, 2_500));
    test.run();
    assert_eq!(closing_of(&test, Who::Alice), closing_of(&test, Who::Bob));
    assert!(closing_of(&test, Who::Bob).is_some());
}

#[test]
fn a_funder_goes_up_to_what_the_other_mempool_takes() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].feerates.mempool_minimum = FeeratePerKw(2_000);
    test.event(Who::Alice, request(Who::Alice, 900)); // 2,700 at most
    test.run();
    assert!(closing_of(&test, Who::Bob).is_some());
    let paid: u64 = closing_of(&test, Who::Bob).unwrap().output.iter().map(|output| output.value.to_sat()).sum();
    assert!((1_350..1_500).contains(&(1_000_000 - paid)), "{}", 1_000_000 - paid);
}

#[test]
fn a_lasting_disagreement_about_the_fee_ends_by_force() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].feerates.mempool_minimum = FeeratePerKw(2_000);
    for who in Who::BOTH {
        test[who].tolerant = true;
    }
    test.event(Who::Alice, request(Who::Alice, 300));
    test.run();
    for height in 100..200 {
        test.event(Who::Bob, Event::NewTip(Height(height)));
        if test[Who::Bob].local_close.is_some() {
            assert!((110..140).contains(&height), "{height}");
            return;
        }
        if height == 103 {
            test.restart(Who::Bob);
            test.connect();
            test.run();
        }
    }
    panic!("never ended");
}

#[test]
fn a_peer_that_wants_less_than_we_pay_step_by_step_is_not_wrong() {
    // Neither sends a range. Bob, who wants more than Alice pays, goes down as far as our mempool reaches, and no further.
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].feerates.mempool_minimum = FeeratePerKw(2_000);
    test[Who::Bob].tolerant = true;
    test.event(Who::Bob, request(Who::Bob, 2_500));
    for _ in 0..20 {
        test.deliver(Who::Alice);
        if matches!(test[Who::Bob].channel.state_name(), StateName::Negotiating) {
            break;
        }
        test.deliver(Who::Bob);
    }
    test[Who::Bob].inbox.clear();
    for fee in [200, 210] {
        let first = ClosingSigned { fee_range: None, ..closing_signed_by(&test, Who::Alice, fee) };
        say(&mut test, Who::Bob, first);
    }
    assert!(test.connected, "both would say the same after each reconnection");
    for height in 100..150 {
        test.event(Who::Bob, Event::NewTip(Height(height)));
    }
    assert!(test[Who::Bob].local_close.is_some(), "it ends by force, once");
}

#[test]
fn a_close_that_the_opener_cannot_raise_is_raised_by_the_other() {
    // All that the opener had is in its fee already, and is too little.
    let mut test = TestChannel::funded(100_000).push(95_000).ready();
    test.event(Who::Alice, request(Who::Alice, 10_000));
    test.run();
    let mutual = test[Who::Bob].broadcasts.last().unwrap().clone();
    test[Who::Bob].feerates.closing = FeeratePerKw(20_000);
    for height in 100..110 {
        test.event(Who::Bob, Event::NewTip(Height(height)));
    }
    assert_eq!(test[Who::Bob].raises.first(), Some(&(mutual, FeeratePerKw(20_000))));
}

#[test]
fn a_peer_that_is_wrong_again_and_again_is_closed_on_once_and_for_all() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    for who in Who::BOTH {
        test[who].tolerant = true;
    }
    for round in 0..100 {
        let message = crate::wire::UpdateFulfillHtlc {
            channel_id: test.channel_id(),
            id: HtlcId(7),
            payment_preimage: PaymentPreimage([1; 32]),
        };
        say(&mut test, Who::Bob, message);
        if test[Who::Bob].local_close.is_some() {
            assert!(round >= 10, "{round}");
            return;
        }
        assert!(!test.connected);
        test.connect();
        test.run();
    }
    panic!("for ever");
}

// Openings.

#[test]
fn the_peer_is_told_of_an_opening_that_fails_on_our_side() {
    let mut setup = TestChannel::funded(1_000_000);
    setup.coins = false;
    let mut test = setup.proposed();
    test[Who::Alice].take_sent();
    test.run();
    assert!(test[Who::Alice].forgotten);
    assert_eq!(test[Who::Alice].take_sent(), ["Error"]);
    assert!(test[Who::Bob].forgotten, "another opening can begin at once");
}

#[test]
fn the_peer_is_told_of_an_opening_that_we_give_up_at_any_stage() {
    for who in Who::BOTH {
        for delivered in 0..3 {
            for event in [Event::ForceClose, request(who, 1000)] {
                let mut test = TestChannel::funded(1_000_000).proposed();
                for step in 0..delivered {
                    test.deliver(if step % 2 == 0 { Who::Alice } else { Who::Bob });
                }
                if test[who].channel.state_name() != StateName::Opening {
                    continue;
                }
                test[who].take_sent();
                test.event(who, event);
                assert!(test[who].forgotten);
                assert_eq!(test[who].take_sent(), ["Error"], "{who:?} after {delivered}");
            }
        }
    }
}
