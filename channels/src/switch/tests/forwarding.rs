//! Which HTLCs go on, and what the senders of the others are told.

use super::single::*;
use crate::channel::*;
use crate::margins::UPSTREAM_MARGIN;
use crate::onion::{FailureMessage, ForwardPayload, HopPayload};
use crate::switch::*;
use crate::types::*;

/// A `channel_update` that names `scid`, as far as the switch looks.
fn update(scid: ShortChannelId) -> Vec<u8> {
    let mut bytes = vec![1, 2];
    bytes.extend([7; 96]);
    bytes.extend(scid.0.to_be_bytes());
    bytes.extend([8; 30]);
    bytes
}

fn announced() -> Single {
    let mut single = Single::new();
    for channel in [CAROL, CAROL_TOO, DAVE] {
        single.event(SwitchEvent::Announced { channel, update: update(name(channel)) });
    }
    single
}

fn code(failure: &FailureMessage) -> u16 {
    failure.code() & 0xff
}

#[test]
fn an_htlc_that_pays_goes_on_with_its_origin() {
    let mut single = Single::new();
    let sent = sent(1, forward_payload(CAROL));
    let effects = single.incoming(&sent.htlc);
    let (channel, add) = offer(&effects).unwrap();
    assert_eq!(channel, CAROL);
    assert_eq!(add.origin, Origin::Forward { channel: ALICE, htlc: HtlcId(1) });
    assert_eq!((add.amount, add.cltv_expiry), (Msat(1_000_000), CltvExpiry(TIP.0 + 100)));
    assert_eq!(add.payment_hash, sent.htlc.payment_hash);
    let peeled = crate::onion::peel(&add.onion, &add.payment_hash, &far_secret()).unwrap();
    assert_eq!(peeled.next, None);
    assert!(matches!(news(&effects)[..], [HtlcEventKind::Forward { .. }]));
    assert_eq!(single.switch.pending(), 1);
}

#[test]
fn an_htlc_that_ends_here_goes_to_the_invoices() {
    let mut single = Single::new();
    let sent = sent_here(1);
    let effects = single.incoming(&sent.htlc);
    let [SwitchEffect::Receive(arrived)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(arrived.htlc, sent.htlc);
    assert_eq!(arrived.shared_secret, sent.secrets[0]);
    assert_eq!(single.store.0.keys().filter(|key| matches!(key, Key::SeenOnion { .. })).count(), 0);
}

#[test]
fn a_channel_is_found_by_its_name_and_by_its_alias() {
    for named in [name(DAVE), alias(DAVE)] {
        let mut single = Single::new();
        let payload = ForwardPayload { short_channel_id: named, ..forward_payload(DAVE) };
        assert_eq!(single.offered(&sent(1, payload).htlc).0, DAVE);
    }
    let mut single = Single::new();
    single.event(SwitchEvent::Link(Box::new(Link { alias_only: true, ..link(DAVE, 12) })));
    assert_eq!(single.failure(&sent(1, forward_payload(DAVE))), FailureMessage::UnknownNextPeer);
    let payload = ForwardPayload { short_channel_id: alias(DAVE), ..forward_payload(DAVE) };
    assert_eq!(single.offered(&sent(2, payload).htlc).0, DAVE);
}

#[test]
fn an_unknown_channel_is_an_unknown_next_peer() {
    let mut single = announced();
    let payload = ForwardPayload { short_channel_id: ShortChannelId(77), ..forward_payload(DAVE) };
    assert_eq!(single.failure(&sent(1, payload)), FailureMessage::UnknownNextPeer);
    single.event(SwitchEvent::LinkGone(DAVE));
    assert_eq!(single.failure(&sent(2, forward_payload(DAVE))), FailureMessage::UnknownNextPeer);
    assert!(!single.store.0.contains_key(&Key::ForwardPolicy(DAVE)));
}

#[test]
fn too_small_an_amount_is_told_with_the_update() {
    let mut single = announced();
    let at_least = ForwardPayload { amt_to_forward: Msat(5_000), ..forward_payload(DAVE) };
    single.offered(&sent(1, at_least).htlc);
    let payload = ForwardPayload { amt_to_forward: Msat(4_999), ..forward_payload(DAVE) };
    let failure = single.failure(&sent(2, payload));
    let channel_update = update(name(DAVE));
    assert_eq!(failure, FailureMessage::AmountBelowMinimum { htlc_msat: Msat(4_999), channel_update });
}

#[test]
fn a_millisatoshi_too_little_is_an_insufficient_fee() {
    let mut single = announced();
    let mut short = sent(1, forward_payload(DAVE));
    short.htlc.amount = Msat(1_001_099);
    let failure = single.failure(&short);
    let channel_update = update(name(DAVE));
    assert_eq!(failure, FailureMessage::FeeInsufficient { htlc_msat: Msat(1_001_099), channel_update });
    // More than all the money there is.
    let payload = ForwardPayload { amt_to_forward: Msat(u64::MAX), ..forward_payload(DAVE) };
    assert_eq!(code(&single.failure(&sent(2, payload))), 12);
}

#[test]
fn a_block_too_few_is_an_incorrect_expiry() {
    let mut single = announced();
    let mut short = sent(1, forward_payload(DAVE));
    short.htlc.cltv_expiry = CltvExpiry(TIP.0 + 139);
    let channel_update = update(name(DAVE));
    let expected = FailureMessage::IncorrectCltvExpiry { cltv_expiry: CltvExpiry(TIP.0 + 100), channel_update };
    assert_eq!(single.failure(&short), expected);
    let payload = ForwardPayload { outgoing_cltv_value: CltvExpiry(u32::MAX), ..forward_payload(DAVE) };
    assert_eq!(code(&single.failure(&sent(2, payload))), 13);
}

#[test]
fn an_expiry_near_the_tip_is_too_soon_and_one_weeks_away_too_far() {
    let mut single = announced();
    let soon = |blocks| ForwardPayload { outgoing_cltv_value: CltvExpiry(TIP.0 + blocks), ..forward_payload(DAVE) };
    let channel_update = update(name(DAVE));
    assert_eq!(single.failure(&sent(1, soon(3))), FailureMessage::ExpiryTooSoon { channel_update });
    single.offered(&sent(2, soon(4)).htlc);
    let mut far = sent(3, forward_payload(DAVE));
    far.htlc.cltv_expiry = CltvExpiry(TIP.0 + 2016);
    single.offered(&far.htlc);
    let mut too_far = sent(4, forward_payload(DAVE));
    too_far.htlc.cltv_expiry = CltvExpiry(TIP.0 + 2017);
    assert_eq!(single.failure(&too_far), FailureMessage::ExpiryTooFar);
}

#[test]
fn a_disabled_channel_says_so() {
    let mut single = announced();
    single.set_policy(DAVE, ForwardPolicy { enabled: false, ..POLICY });
    let channel_update = update(name(DAVE));
    let expected = FailureMessage::ChannelDisabled { disabled_flags: 0, channel_update };
    assert_eq!(single.failure(&sent(1, forward_payload(DAVE))), expected);
}

#[test]
fn of_several_mistakes_the_first_in_the_order_of_bolt_4_is_told() {
    let mut single = announced();
    let payload = ForwardPayload {
        amt_to_forward: Msat(1),
        outgoing_cltv_value: CltvExpiry(TIP.0 + 139),
        ..forward_payload(DAVE)
    };
    let mut bad = sent(1, payload);
    bad.htlc.amount = Msat(1);
    assert_eq!(code(&single.failure(&bad)), 11);
}

#[test]
fn too_large_an_amount_is_a_temporary_failure() {
    let mut single = announced();
    let payload = ForwardPayload { amt_to_forward: Msat(500_000_001), ..forward_payload(DAVE) };
    let mut large = sent(1, payload);
    large.htlc.amount = Msat(600_000_000);
    let channel_update = update(name(DAVE));
    assert_eq!(single.failure(&large), FailureMessage::TemporaryChannelFailure { channel_update });
}

fn detail(effects: &[SwitchEffect]) -> FailureDetail {
    let details = news(effects).into_iter().filter_map(|kind| match kind {
        HtlcEventKind::LinkFail { detail, .. } => Some(detail),
        _ => None,
    });
    let details: Vec<_> = details.collect();
    let [detail] = details[..] else { panic!("{details:?}") };
    detail
}

#[test]
fn whoever_runs_the_node_is_told_more_than_the_sender() {
    let mut single = announced();
    let mut detail_of = |id, payload, amount, must_fail| {
        let mut sent = sent(id, payload);
        sent.htlc.amount = amount;
        sent.htlc.must_fail = must_fail;
        detail(&single.incoming(&sent.htlc))
    };
    let usual = sent(1, forward_payload(DAVE)).htlc.amount;
    let large = ForwardPayload { amt_to_forward: Msat(500_000_001), ..forward_payload(DAVE) };
    assert_eq!(detail_of(1, large, Msat(600_000_000), None), FailureDetail::ExceedsMaximum);
    assert_eq!(detail_of(2, forward_payload(ALICE), usual, None), FailureDetail::CircularRoute);
    assert_eq!(detail_of(3, forward_payload(DAVE), Msat(1), None), FailureDetail::None, "the code says it");
    let doomed = Some(FailReason::DustExposure);
    assert_eq!(detail_of(4, forward_payload(DAVE), usual, doomed), FailureDetail::None);
    let mut unreadable = sent(5, forward_payload(DAVE)).htlc;
    unreadable.onion.0[200] ^= 1;
    assert_eq!(detail(&single.incoming(&unreadable)), FailureDetail::OnionDecode);
    let (balance, needed) = (Msat(1), Msat(2));
    for (id, cause, expected) in [
        (6, CannotAdd::Balance { balance, needed }, FailureDetail::InsufficientBalance),
        (7, CannotAdd::TooMuchInFlight { maximum: balance, total: needed }, FailureDetail::ExceedsMaximum),
        (8, CannotAdd::Offline, FailureDetail::LinkNotEligible),
        (9, CannotAdd::TooManyHtlcs { maximum: 1 }, FailureDetail::AddFailed),
    ] {
        single.offered(&sent(id, forward_payload(DAVE)).htlc);
        let effects = single.event(SwitchEvent::Refused { incoming: at(ALICE, id), cause });
        assert_eq!(detail(&effects), expected);
    }
}

#[test]
fn an_update_under_another_name_is_not_told() {
    let mut single = announced();
    single.set_policy(DAVE, ForwardPolicy { enabled: false, ..POLICY });
    let payload = ForwardPayload { short_channel_id: alias(DAVE), ..forward_payload(DAVE) };
    let expected = FailureMessage::ChannelDisabled { disabled_flags: 0, channel_update: Vec::new() };
    assert_eq!(single.failure(&sent(1, payload)), expected);
}

#[test]
fn an_htlc_does_not_go_back_where_it_came_from() {
    let mut single = announced();
    assert_eq!(code(&single.failure(&sent(1, forward_payload(ALICE)))), 7);
}

#[test]
fn a_doomed_htlc_is_failed() {
    let mut single = announced();
    for (id, reason) in [(1, FailReason::DustExposure), (2, FailReason::ShuttingDown), (3, FailReason::NotFunded)] {
        let mut must_fail = sent(id, forward_payload(DAVE));
        must_fail.htlc.must_fail = Some(reason);
        assert_eq!(code(&single.failure(&must_fail)), 7);
    }
}

#[test]
fn any_channel_with_the_same_peer_will_do() {
    let mut single = Single::new();
    let sent = sent(1, forward_payload(CAROL));
    let (first, add) = single.offered(&sent.htlc);
    assert_eq!(first, CAROL);
    let maximum = Msat(1);
    let cause = CannotAdd::TooMuchInFlight { maximum, total: maximum };
    let effects = single.event(SwitchEvent::Refused { incoming: at(ALICE, 1), cause: cause.clone() });
    let (second, again) = offer(&effects).unwrap();
    assert_eq!((second, &again), (CAROL_TOO, &add));
    let effects = single.event(SwitchEvent::Refused { incoming: at(ALICE, 1), cause });
    assert_eq!(code(&read_failure(&effects, &sent)), 7);
    assert_eq!(single.switch.pending(), 0);
}

#[test]
fn the_packet_of_a_forward_that_is_held_is_not_kept_for_another_channel() {
    let mut single = Single::new();
    let sent = sent(1, forward_payload(CAROL));
    single.offered(&sent.htlc);
    assert_eq!(single.switch.packets(), 1);
    single.tip = Height(TIP.0 + 5);
    single.event(SwitchEvent::NewTip(single.tip));
    assert_eq!(single.switch.packets(), 1);
    single.tip = Height(TIP.0 + 6);
    single.event(SwitchEvent::NewTip(single.tip));
    assert_eq!((single.switch.packets(), single.switch.pending()), (0, 1));
    // Should it be refused after all, it fails.
    let effects = single.event(SwitchEvent::Refused { incoming: at(ALICE, 1), cause: CannotAdd::Offline });
    assert_eq!(code(&read_failure(&effects, &sent)), 7);
}

#[test]
fn a_channel_that_carries_less_is_passed_over() {
    let mut single = Single::new();
    single.set_policy(CAROL, ForwardPolicy { htlc_maximum: Some(Msat(999_999)), ..POLICY });
    assert_eq!(single.offered(&sent(1, forward_payload(CAROL)).htlc).0, CAROL_TOO);
    single.set_policy(CAROL_TOO, ForwardPolicy { enabled: false, ..POLICY });
    assert_eq!(code(&single.failure(&sent(2, forward_payload(CAROL)))), 7);
}

#[test]
fn a_sibling_carries_an_htlc_only_if_it_meets_the_siblings_own_terms() {
    let dearer = [
        ForwardPolicy { base_fee: Msat(101), ..POLICY },
        ForwardPolicy { cltv_expiry_delta: 41, ..POLICY },
        ForwardPolicy { htlc_minimum: Msat(1_000_001), ..POLICY },
    ];
    for sibling in dearer {
        let mut single = announced();
        single.set_policy(CAROL_TOO, sibling);
        let sent = sent(1, forward_payload(CAROL));
        single.offered(&sent.htlc);
        let cause = CannotAdd::Offline;
        let effects = single.event(SwitchEvent::Refused { incoming: at(ALICE, 1), cause });
        assert_eq!(offer(&effects), None, "{sibling:?}");
        assert_eq!(code(&read_failure(&effects, &sent)), 7);
    }
}

#[test]
fn terms_before_a_change_hold_for_ten_minutes_and_over_a_restart() {
    let dearer = ForwardPolicy { base_fee: Msat(1_000), cltv_expiry_delta: 60, ..POLICY };
    let mut single = announced();
    single.set_policy_at(DAVE, dearer, UnixTime(NOW.0 - 599));
    single.offered(&sent(1, forward_payload(DAVE)).htlc);

    let rows = single.store.0.iter().filter(|(key, _)| matches!(key, Key::ForwardPolicy(_)));
    let (channel, row) =
        rows.map(|(key, value)| (*key, value.clone())).find(|row| row.0 == Key::ForwardPolicy(DAVE)).unwrap();
    let policies = crate::switch::grace::ForwardPolicies::decode(&row).unwrap();
    assert_eq!((channel, policies.present), (Key::ForwardPolicy(DAVE), dearer));
    let mut later = announced();
    later.set_policy_at(DAVE, dearer, UnixTime(NOW.0 - 600));
    assert_eq!(code(&later.failure(&sent(1, forward_payload(DAVE)))), 12);
}

#[test]
fn what_a_channel_says_no_with_becomes_a_failure_of_its_own() {
    let cases = [
        (CannotAdd::Offline, 7),
        (CannotAdd::NotFunded(FundingState::ReorgedOut), 7),
        (CannotAdd::State(StateName::DoubleSpent), 8),
        (CannotAdd::Disconnected, 7),
        (CannotAdd::State(StateName::Shutdown), 8),
        (CannotAdd::State(StateName::Closing), 8),
        (CannotAdd::State(StateName::Funding), 10),
        (CannotAdd::BelowMinimum { minimum: Msat(2), got: Msat(1) }, 11),
        (CannotAdd::TooManyHtlcs { maximum: 1 }, 7),
        (CannotAdd::Balance { balance: Msat(1), needed: Msat(2) }, 7),
        (CannotAdd::DustExposure { maximum: Msat(1), exposure: Msat(2) }, 7),
    ];
    for (cause, expected) in cases {
        let mut single = announced();
        let sent = sent(1, forward_payload(DAVE));
        single.offered(&sent.htlc);
        let effects = single.event(SwitchEvent::Refused { incoming: at(ALICE, 1), cause: cause.clone() });
        assert_eq!(code(&read_failure(&effects, &sent)), expected, "{cause:?}");
    }
}

#[test]
fn what_nobody_can_read_is_malformed() {
    let mut single = Single::new();
    let cases: [(usize, u8, u16); 3] = [(0, 1, 0xc004), (1, 0xff, 0xc006), (200, 1, 0xc005)];
    for (id, (position, mask, expected)) in (1..).zip(cases) {
        let mut bad = sent(id, forward_payload(DAVE));
        bad.htlc.onion.0[position] ^= mask;
        let effects = single.incoming(&bad.htlc);
        let (_, settlement) = settlement(&effects).unwrap();
        let sha256_of_onion = bad.htlc.onion.sha256();
        assert_eq!(settlement, Settlement::FailMalformed { sha256_of_onion, failure_code: expected });
    }
}

#[test]
fn a_payload_that_makes_no_sense_is_told_to_the_sender() {
    let mut single = Single::new();
    // No amount.
    assert_eq!(
        single.failure(&sent_with(1, &[4, 1, 1], true)),
        FailureMessage::InvalidOnionPayload { kind: 2, offset: 0 }
    );
    // A payload for a hop on the way, at the end of the route.
    let payload = HopPayload::Forward(forward_payload(DAVE)).encode();
    assert_eq!(
        single.failure(&sent_with(2, &payload, false)),
        FailureMessage::InvalidOnionPayload { kind: 6, offset: 0 }
    );
    // A length that BOLT 4 reserves.
    assert_eq!(single.failure(&sent_with(3, &[], true)), FailureMessage::InvalidOnionPayload { kind: 0, offset: 0 });
}

#[test]
fn a_blinded_htlc_gets_the_one_answer_of_blinded_paths() {
    let mut single = Single::new();
    let mut blinded = sent(1, forward_payload(DAVE));
    blinded.htlc.path_key = Some(far_secret().public_key(crate::keys::secp()));
    let effects = single.incoming(&blinded.htlc);
    let sha256_of_onion = blinded.htlc.onion.sha256();
    let expected = Settlement::FailMalformed { sha256_of_onion, failure_code: 0xc018 };
    assert_eq!(settlement(&effects).unwrap().1, expected);
}

#[test]
fn one_neighbour_gets_half_of_the_slots_and_the_rest_stays_for_others() {
    let mut single = Single::new();
    single.event(SwitchEvent::Link(Box::new(Link { slots: 4, ..link(DAVE, 12) })));
    for id in 1..=2 {
        single.offered(&sent(id, forward_payload(DAVE)).htlc);
    }
    assert_eq!(code(&single.failure(&sent(3, forward_payload(DAVE)))), 7);
    let mut from_carol = sent(4, forward_payload(DAVE)).htlc;
    from_carol.channel = CAROL;
    assert_eq!(single.offered(&from_carol).0, DAVE);
    // A forward that is over makes room.
    let outgoing = at(DAVE, 0);
    single.event(SwitchEvent::Fulfilled { incoming: at(ALICE, 1), outgoing, preimage: preimage(1) });
    single.offered(&sent(5, forward_payload(DAVE)).htlc);
}

#[test]
fn one_neighbour_gets_a_share_of_the_capacity_if_we_say_so() {
    let mut single = Single::new();
    single.limits.value_percent = 10;
    single.event(SwitchEvent::Link(Box::new(Link { capacity: Msat(15_000_000), ..link(DAVE, 12) })));
    single.offered(&sent(1, forward_payload(DAVE)).htlc);
    assert_eq!(code(&single.failure(&sent(2, forward_payload(DAVE)))), 7);
}

#[test]
fn the_same_onion_is_not_forwarded_twice() {
    let mut single = Single::new();
    let first = sent(1, forward_payload(DAVE));
    single.offered(&first.htlc);
    let mut again = first.htlc.clone();
    again.id = HtlcId(9);
    let sha256_of_onion = again.onion.sha256();
    let malformed = Settlement::FailMalformed { sha256_of_onion, failure_code: 0xc005 };
    assert_eq!(settlement(&single.incoming(&again)).unwrap().1, malformed);
    // Nor after it has failed, until it has expired: then it is too late for it anyway.
    let failure = HtlcFailure::Remote { reason: vec![0; 292] };
    single.event(SwitchEvent::Failed { incoming: at(ALICE, 1), outgoing: at(DAVE, 0), failure });
    assert_eq!(settlement(&single.incoming(&again)).unwrap().1, malformed);
    single.tip = Height(TIP.0 + 141);
    assert_eq!(single.switch.remembered(), 1);
    single.event(SwitchEvent::NewTip(single.tip));
    assert_eq!(single.switch.remembered(), 0);
    assert!(!single.store.0.keys().any(|key| matches!(key, Key::SeenOnion { .. })));
    again.cltv_expiry = CltvExpiry(TIP.0 + 1000);
    let late = Sent { htlc: again, secrets: first.secrets };
    assert_eq!(code(&single.failure(&late)), 14);
}

/// Its channel is not closed for an HTLC that is not worth the fee; but upstream would be closed on us.
#[test]
fn a_forward_that_nobody_resolves_is_failed_before_upstream_could_close() {
    let mut single = Single::new();
    let sent = sent(1, forward_payload(DAVE));
    single.offered(&sent.htlc);
    let expiry = sent.htlc.cltv_expiry.0;
    single.tip = Height(expiry - UPSTREAM_MARGIN - 1);
    assert!(single.event(SwitchEvent::StillOpen { channel: DAVE, tip: single.tip }).is_empty());
    single.tip = Height(expiry - UPSTREAM_MARGIN);
    // Through a closed channel it is for the enforcement to say.
    assert!(single.event(SwitchEvent::NewTip(single.tip)).is_empty());
    assert!(single.event(SwitchEvent::StillOpen { channel: ALICE, tip: single.tip }).is_empty());
    let effects = single.event(SwitchEvent::StillOpen { channel: DAVE, tip: single.tip });
    assert_eq!(read_failure(&effects, &sent), FailureMessage::PermanentChannelFailure);
    assert_eq!(single.switch.pending(), 0);
    // A preimage that comes late may still be in time.
    let fulfilled = SwitchEvent::Fulfilled { incoming: at(ALICE, 1), outgoing: at(DAVE, 0), preimage: preimage(1) };
    assert_eq!(settlement(&single.event(fulfilled)), Some((at(ALICE, 1), Settlement::Fulfill(preimage(1)))));
}

#[test]
fn policies_are_stored_told_and_checked() {
    let mut single = Single::new();
    assert_eq!(single.switch.policy(&DAVE), Some(POLICY));
    assert_eq!(single.switch.policy(&ChannelId([9; 32])), None);
    assert!(single.store.0.contains_key(&Key::ForwardPolicy(DAVE)));
    let hasty = ForwardPolicy { cltv_expiry_delta: 1, ..POLICY };
    assert_eq!(single.switch.set_policy(DAVE, hasty, NOW).unwrap_err(), PolicyError::DeltaTooSmall(1));
    let out = single.switch.set_policy(DAVE, ForwardPolicy::default(), NOW).unwrap();
    let effects = Outbox::commit_all(vec![out], &mut single.store).unwrap().remove(0);
    assert!(matches!(&effects[..], [SwitchEffect::PolicyChanged { channel: DAVE, .. }]));
}
