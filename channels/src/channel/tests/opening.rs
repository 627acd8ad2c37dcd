//! From `open_channel` to `channel_ready`.

use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut};

use super::harness::{Crash, Setup, TestChannel, Who, wallet_script};
use crate::channel::{record, *};
use crate::types::*;
use crate::wire::{ErrorMessage, Message, Warning};

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

#[test]
fn a_channel_opens_with_the_pushed_amount_on_the_other_side() {
    for kind in KINDS {
        let test = Setup::new(1_000_000, kind).push(300_000).ready();
        assert_eq!(test[Who::Alice].balance(), Msat(700_000_000));
        assert_eq!(test[Who::Bob].balance(), Msat(300_000_000));
        let terms = test[Who::Bob].channel.terms().unwrap();
        assert_eq!((terms.opener, terms.delay_of(Side::Local)), (Side::Remote, 1000));
        let funding = OutPoint { txid: test.funding.as_ref().unwrap().compute_txid(), vout: 0 };
        assert_eq!(test.channel_id(), ChannelId::from_funding(funding));
        let summary = test[Who::Alice].channel.summary().unwrap();
        assert!(summary.usable && summary.online);
        let established = summary.established.unwrap();
        assert_eq!(established.short_channel_id, Some(ShortChannelId::new(Height(95), 1, 0)));
        assert_eq!(
            (established.local_alias, established.remote_alias),
            (Some(ShortChannelId(1)), Some(ShortChannelId(2)))
        );
        for who in Who::BOTH {
            let established = test[who].channel.summary().unwrap().established.unwrap();
            assert_eq!(established.push, Some(Msat(300_000_000)));
        }
    }
}

#[test]
fn terms_of_an_earlier_version_do_not_say_what_was_pushed() {
    let test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    let terms = &test[Who::Bob].established().terms;
    let earlier = Terms { push: None, ..terms.clone() };
    let bytes = record::encode_terms(&earlier);
    assert_eq!(bytes.len() + 8, record::encode_terms(terms).len());
    assert_eq!(record::decode_terms(&bytes).unwrap(), earlier);
}

#[test]
fn the_funding_transaction_is_broadcast_only_after_funding_signed_is_durable() {
    let mut test = TestChannel::funded(1_000_000).proposed();
    test.deliver(Who::Alice); // accept_channel, answered with funding_created
    test.deliver(Who::Bob);
    assert!(test[Who::Alice].broadcasts.is_empty());
    assert!(test[Who::Alice].store.rows.is_empty());
    assert!(!test[Who::Bob].store.rows.is_empty(), "the fundee remembers once funding_signed is out");
    test.deliver(Who::Alice);
    assert_eq!(test[Who::Alice].broadcasts, [test.funding.clone().unwrap()]);
    assert!(!test[Who::Alice].store.rows.is_empty());
}

#[test]
fn a_funding_transaction_that_its_maker_broadcasts_is_told_to_be_due_and_left_to_him() {
    let setup = Setup { publisher: Publisher::Maker, ..TestChannel::funded(1_000_000) };
    let mut test = setup.proposed();
    test.deliver(Who::Alice);
    test.deliver(Who::Bob);
    let is_due =
        |test: &TestChannel| test[Who::Alice].notices.iter().any(|notice| matches!(notice, Notice::Established { .. }));
    assert!(!is_due(&test) && test[Who::Alice].store.rows.is_empty());
    let event = test.next_message(Who::Alice).unwrap();
    test.events(Who::Alice, vec![event], Crash::AfterCommit);
    // The news was lost with the crash; the channel is there.
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Funding);
    assert!(test[Who::Alice].broadcasts.is_empty());
    let spent: Vec<OutPoint> = test[Who::Alice].established().funding_inputs.iter().map(|input| input.coin).collect();
    let inputs = &test.funding.as_ref().unwrap().input;
    assert_eq!(spent, inputs.iter().map(|input| input.previous_output).collect::<Vec<_>>());
    test.connect();
    test.confirm(3);
    test.run();
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
    assert!(test[Who::Alice].broadcasts.is_empty());
}

#[test]
fn a_crash_after_the_commit_broadcasts_the_funding_transaction_again() {
    let mut test = TestChannel::funded(1_000_000).proposed();
    test.deliver(Who::Alice);
    test.deliver(Who::Bob);
    let event = test.next_message(Who::Alice).unwrap();
    test.events(Who::Alice, vec![event], Crash::AfterCommit);
    assert_eq!(test[Who::Alice].broadcasts, [test.funding.clone().unwrap()]);
    test.connect();
    test.confirm(3);
    test.run();
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
    test.restart(Who::Alice);
    assert_eq!(test[Who::Alice].broadcasts.len(), 1, "a confirmed transaction is left alone");
}

#[test]
fn a_lost_connection_before_funding_signed_ends_the_opening() {
    let mut test = TestChannel::funded(1_000_000).proposed();
    test.deliver(Who::Alice);
    test.cut();
    for who in Who::BOTH {
        assert!(test[who].forgotten);
        assert!(test[who].store.rows.is_empty());
        assert!(test[who].notices.iter().any(|notice| matches!(notice, Notice::OpenFailed { .. })));
    }
}

#[test]
fn a_peer_that_refuses_ends_the_opening_with_its_words() {
    let mut test = TestChannel::funded(1_000_000).proposed();
    let error = ErrorMessage::new(ChannelId([7; 32]), "no more channels");
    test.event(Who::Alice, Event::Message(Message::Error(error)));
    let failed = Notice::OpenFailed { reason: "the peer refused: no more channels".to_owned() };
    assert!(test[Who::Alice].forgotten && test[Who::Alice].notices.contains(&failed));
}

#[test]
fn a_warning_ends_no_opening() {
    let mut test = TestChannel::funded(1_000_000).proposed();
    let text = "only so many bytes in peer storage";
    loop {
        for who in Who::BOTH {
            let warning = Warning::new(ChannelId([0; 32]), text);
            test.event(who, Event::Message(warning.into()));
        }
        if !test.deliver(Who::Alice) && !test.deliver(Who::Bob) {
            break;
        }
    }
    assert!(test[Who::Alice].broadcasts.len() == 1, "funded and signed by both");
    let said = Notice::PeerSays { error: false, text: text.to_owned() };
    for who in Who::BOTH {
        assert!(!test[who].forgotten && test[who].notices.contains(&said));
    }
}

#[test]
fn a_wrong_signature_in_the_opening_is_refused() {
    let mut test = TestChannel::funded(1_000_000).proposed();
    test[Who::Alice].tolerant = true;
    test.deliver(Who::Alice);
    test.deliver(Who::Bob);
    let Some(Event::Message(Message::FundingSigned(mut signed))) = test.next_message(Who::Alice) else { panic!() };
    signed.signature = secp256k1::ecdsa::Signature::from_compact(&[1; 64]).unwrap();
    test.event(Who::Alice, Event::Message(signed.into()));
    assert!(test[Who::Alice].forgotten && test[Who::Alice].broadcasts.is_empty());
}

#[test]
fn channel_ready_may_come_before_our_own_depth() {
    let mut test = TestChannel::funded(1_000_000).established();
    let (_, output) = test.funding_output();
    let depth = |confirmations| FundingDepth { height: Height(99), index: 1, confirmations, output: output.clone() };
    test.event(Who::Bob, Event::FundingDepth(depth(3)));
    test.run();
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Ready);
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Funding);
    test.event(Who::Alice, Event::FundingDepth(depth(2)));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Funding);
    test.event(Who::Alice, Event::FundingDepth(depth(3)));
    test.run();
    for who in Who::BOTH {
        assert_eq!(test[who].channel.state_name(), StateName::Normal);
    }
    test.pay(Who::Alice, Msat(50_000_000));
}

/// Alice's channel, which Bob uses without a confirmation.
fn unconfirmed(kind: CommitmentType, zero_conf: bool) -> Setup {
    Setup { trusts_funder: true, zero_conf, ..Setup::new(1_000_000, kind).push(300_000) }
}

#[test]
fn the_channel_of_a_trusted_funder_pays_before_it_is_confirmed() {
    for (kind, zero_conf) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut test = unconfirmed(kind, zero_conf).proposed();
        test.run();
        for who in Who::BOTH {
            assert_eq!(test[who].channel.state_name(), StateName::Normal, "{:?}", test[who].notices);
            let aliases = [Some(ShortChannelId(1)), Some(ShortChannelId(2))];
            assert_eq!(test[who].channel.short_channel_ids(), (None, aliases[who as usize]));
        }
        test.pay(Who::Alice, Msat(50_000_000));
        test.pay(Who::Bob, Msat(20_000_000));
        test[Who::Alice].broadcasts.clear();
        for who in Who::BOTH {
            test.restart(who);
        }
        assert_eq!(test[Who::Alice].broadcasts.len(), 1, "it may not have reached anybody");
        test.connect();
        test.run();
        test.confirm(1);
        test.pay(Who::Alice, Msat(50_000_000));
        for who in Who::BOTH {
            let (real, _) = test[who].channel.short_channel_ids();
            assert_eq!(real, Some(ShortChannelId::new(Height(100), 1, 0)));
            assert_eq!(test[who].channel.terms().unwrap().channel_type.zero_conf, zero_conf);
        }
        test.restart(Who::Alice);
        assert_eq!(test[Who::Alice].broadcasts.len(), 1, "a confirmed transaction is left alone");
    }
}

#[test]
fn a_channel_of_zero_confirmations_survives_a_cut_at_every_message() {
    let mut messages = 0;
    loop {
        let mut test = unconfirmed(CommitmentType::Anchors, true).proposed();
        let delivered = (0..messages).filter(|turn| test.deliver(Who::BOTH[turn % 2])).count();
        let established = Who::BOTH.map(|who| test[who].channel.terms().is_some());
        test.cut();
        if established == [true, true] {
            test.connect();
            test.run();
            test.pay(Who::Alice, Msat(50_000_000));
        } else {
            // Alice funds nothing without Bob's signature; what Bob has signed he remembers, but not for ever.
            assert!(test[Who::Alice].broadcasts.is_empty() && test[Who::Alice].store.rows.is_empty());
            test.event(Who::Bob, Event::NewTip(Height(100 + 2017)));
            assert!(test[Who::Bob].forgotten);
        }
        if delivered < messages {
            return assert!(messages > 4, "the opening took {messages} messages");
        }
        messages += 1;
    }
}

#[test]
fn a_channel_that_was_used_is_not_forgotten_though_its_funding_transaction_never_came() {
    let mut test = unconfirmed(CommitmentType::Anchors, true).proposed();
    test.run();
    test.pay(Who::Alice, Msat(50_000_000));
    test.event(Who::Bob, Event::ForceClose);
    test.event(Who::Bob, Event::NewTip(Height(100 + 2017)));
    assert!(!test[Who::Bob].forgotten, "it is Alice's to confirm it after all");
}

#[test]
fn only_a_trusted_funder_opens_without_confirmations() {
    let refused = accept(&|open| {
        let channel_type = ChannelType { commitment: CommitmentType::Anchors, scid_alias: false, zero_conf: true };
        open.channel_type = Some(channel_type.to_features());
    });
    assert!(matches!(refused, Err(ParameterError::Untrusted)), "{refused:?}");
}

#[test]
fn channel_ready_is_repeated_until_the_first_commitment() {
    let mut test = TestChannel::funded(1_000_000).established();
    test.confirm(3);
    test.cut(); // both channel_ready are lost
    test.connect();
    test.run();
    for who in Who::BOTH {
        assert_eq!(test[who].channel.state_name(), StateName::Normal);
    }
    test.reconnect();
    test.pay(Who::Alice, Msat(50_000_000));
    test[Who::Alice].take_sent();
    test.reconnect();
    assert_eq!(test[Who::Alice].take_sent(), ["ChannelReestablish"]);
}

#[test]
fn a_funding_output_with_another_amount_or_script_fails_the_channel() {
    let violations: [fn(&mut TxOut); 2] =
        [|output| output.value = Amount::from_sat(999_999), |output| output.script_pubkey = wallet_script(Who::Alice)];
    for wrong in violations {
        let mut test = TestChannel::funded(1_000_000).established();
        test[Who::Bob].tolerant = true;
        let (_, mut output) = test.funding_output();
        wrong(&mut output);
        let depth = FundingDepth { height: Height(99), index: 1, confirmations: 3, output };
        test.event(Who::Bob, Event::FundingDepth(depth));
        // No transaction will ever fund it.
        assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closed);
        assert!(test[Who::Bob].forgotten);
    }
}

#[test]
fn coins_that_come_after_the_end_of_an_opening_go_back_to_the_wallet() {
    let mut test = TestChannel::funded(1_000_000).proposed();
    test[Who::Alice].tolerant = true;
    let transaction = TestChannel::funded(1_000_000).established().funding.unwrap();
    test.event(Who::Alice, Event::Disconnected);
    assert!(test[Who::Alice].forgotten);
    let alice = &mut test[Who::Alice];
    let ctx = super::harness::ctx(&alice.policy, alice.feerates, Height(100));
    let funded = Event::Funded { transaction: transaction.clone(), output: 0, publisher: Publisher::Channel };
    let outbox = alice.channel.handle(funded, &ctx).unwrap();
    let released = Outbox::commit_all(vec![outbox], &mut alice.store).unwrap();
    let effects: Vec<Effect> = released.into_iter().flatten().collect();
    let txid = transaction.compute_txid();
    assert!(matches!(&effects[..], [Effect::ReleaseFunding { transaction }] if *transaction == txid), "{effects:?}");
}

#[test]
fn the_fundee_forgets_a_channel_that_is_not_funded_in_time() {
    let mut test = TestChannel::funded(1_000_000).established();
    for who in Who::BOTH {
        test.event(who, Event::NewTip(Height(100 + 2017)));
    }
    assert!(test[Who::Bob].forgotten);
    assert!(!test[Who::Alice].forgotten, "the funder has money in it");
}

#[test]
fn an_unfunded_channel_in_which_nothing_is_ours_is_forgotten_as_soon_as_it_ends() {
    let error = |test: &TestChannel| Event::Message(ErrorMessage::new(test.channel_id(), "not any more").into());
    type End = fn(&TestChannel) -> Event;
    let force: End = |_| Event::ForceClose;
    for (end, seen) in [(error as End, false), (error, true), (force, false)] {
        let mut test = TestChannel::funded(1_000_000).established();
        test[Who::Bob].tolerant = true;
        if seen {
            let coin = OutPoint { txid: test.funding_output().0.txid, vout: 7 };
            let inputs = vec![FundingInput { coin, by: test.funding_output().0.txid }];
            test.event(Who::Bob, Event::FundingSeen { inputs });
        }
        assert_eq!(test[Who::Bob].channel.backing(), Backing::Promised { since: Height(100), seen });
        assert_eq!(test[Who::Alice].channel.backing(), Backing::Funded);
        test.event(Who::Bob, end(&test));
        assert!(test[Who::Bob].forgotten);
    }
    // In a block, it is a channel like any other.
    let mut test = TestChannel::funded(1_000_000).established();
    test[Who::Bob].tolerant = true;
    let (_, output) = test.funding_output();
    test.event(Who::Bob, Event::FundingDepth(FundingDepth { height: Height(99), index: 1, confirmations: 1, output }));
    assert_eq!(test[Who::Bob].channel.backing(), Backing::Funded);
    test.event(Who::Bob, error(&test));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
    assert!(!test[Who::Bob].forgotten);
}

#[test]
fn a_fundee_whose_funder_forgot_the_channel_waits_and_then_forgets_it_too() {
    for funded_after_all in [false, true] {
        let mut test = TestChannel::funded(1_000_000).push(300_000).established();
        test[Who::Bob].tolerant = true;
        let error = ErrorMessage::new(test.channel_id(), "unknown channel");
        test.event(Who::Bob, Event::Message(error.into()));
        assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
        if funded_after_all {
            let (_, output) = test.funding_output();
            let depth = FundingDepth { height: Height(150), index: 1, confirmations: 1, output };
            test.event(Who::Bob, Event::FundingDepth(depth));
        }
        test.restart(Who::Bob);
        test.event(Who::Bob, Event::NewTip(Height(100 + 2017)));
        assert_eq!(test[Who::Bob].forgotten, !funded_after_all);
    }
}

#[test]
fn an_open_channel_that_breaks_a_rule_is_refused_by_name() {
    type Rule = (fn(&mut crate::wire::OpenChannel), &'static str);
    let rules: &[Rule] = &[
        (|open| open.chain_hash = bitcoin::constants::ChainHash::BITCOIN, "another chain"),
        (|open| open.funding_satoshis = Amount::from_sat(10_000), "capacity"),
        (|open| open.push_msat = Msat(1_000_000_001), "push_msat"),
        (|open| open.to_self_delay = 2017, "to_self_delay"),
        (|open| open.max_accepted_htlcs = 484, "max_accepted_htlcs"),
        (|open| open.max_accepted_htlcs = 0, "max_accepted_htlcs"),
        (|open| open.feerate_per_kw = FeeratePerKw(252), "fee rate"),
        (|open| open.feerate_per_kw = FeeratePerKw(250_001), "fee rate"),
        (|open| open.dust_limit_satoshis = Amount::from_sat(353), "dust limit"),
        (|open| open.dust_limit_satoshis = Amount::from_sat(1_001), "dust limit"),
        (|open| open.channel_reserve_satoshis = Amount::from_sat(353), "below a dust limit"),
        (|open| open.channel_reserve_satoshis = Amount::from_sat(100_001), "reserve"),
        (|open| open.htlc_minimum_msat = Msat(100_001), "htlc_minimum_msat"),
        (|open| open.max_htlc_value_in_flight_msat = Msat(999), "in_flight"),
        (|open| open.push_msat = Msat(999_999_000), "does not pay"),
        (|open| open.channel_type = None, "channel_type is missing"),
        (|open| open.channel_type = Some(crate::wire::Features::empty()), "not one that this node opens"),
        (
            |open| {
                open.channel_type =
                    Some(crate::wire::Features::anchors_channel().require(crate::wire::Feature::ScidAlias));
                open.channel_flags = 1;
            },
            "announced",
        ),
        (|open| open.upfront_shutdown_script = Some(ScriptBuf::from_bytes(vec![0x51])), "upfront"),
    ];
    for (break_rule, words) in rules {
        let error = accept(break_rule).unwrap_err().to_string();
        assert!(error.contains(words), "{error} does not say {words}");
    }
    accept(&|_| {}).unwrap();
}

fn accept(change: &dyn Fn(&mut crate::wire::OpenChannel)) -> Result<(), ParameterError> {
    let test = TestChannel::funded(1_000_000).established();
    let terms = test[Who::Alice].channel.terms().unwrap();
    let local = &terms.sides.local;
    let mut open = crate::wire::OpenChannel {
        chain_hash: bitcoin::constants::ChainHash::REGTEST,
        temporary_channel_id: ChannelId([3; 32]),
        funding_satoshis: Amount::from_sat(1_000_000),
        push_msat: Msat(0),
        dust_limit_satoshis: local.dust_limit,
        max_htlc_value_in_flight_msat: local.max_htlc_value_in_flight,
        channel_reserve_satoshis: local.channel_reserve,
        htlc_minimum_msat: local.htlc_minimum,
        feerate_per_kw: FeeratePerKw(1000),
        to_self_delay: local.to_self_delay,
        max_accepted_htlcs: local.max_accepted_htlcs,
        funding_pubkey: local.basepoints.funding,
        revocation_basepoint: local.basepoints.revocation,
        payment_basepoint: local.basepoints.payment,
        delayed_payment_basepoint: local.basepoints.delayed_payment,
        htlc_basepoint: local.basepoints.htlc,
        first_per_commitment_point: local.basepoints.htlc,
        channel_flags: 0,
        upfront_shutdown_script: Some(ScriptBuf::new()),
        channel_type: Some(crate::wire::Features::anchors_channel()),
    };
    change(&mut open);
    let request = AcceptRequest {
        remote_node: terms.remote_node,
        keys_id: [0; 32],
        overrides: AcceptOverrides::default(),
        shutdown_script: wallet_script(Who::Bob),
        commit_to_script: false,
        alias: ShortChannelId(9),
        large_channels: false,
        minimum_depth: 0,
        trusts_funder: false,
    };
    let policy = ChannelPolicy::default();
    let ctx = super::harness::ctx(&policy, Feerates::default(), Height(1));
    Channel::accept(open, request, test[Who::Bob].signer.clone(), &ctx).map(drop)
}

#[test]
fn no_channel_is_opened_while_the_tip_is_in_doubt() {
    for doubter in Who::BOTH {
        let mut test = TestChannel::funded(1_000_000).proposed();
        for who in Who::BOTH {
            test[who].tolerant = true;
        }
        test[doubter].trust = TipTrust::InDoubt;
        test.run();
        assert!(test[Who::Alice].forgotten && test[Who::Bob].forgotten, "{doubter:?}");
        assert!(test[Who::Alice].broadcasts.is_empty());
    }
}
