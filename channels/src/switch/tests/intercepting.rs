//! What becomes of forwards that somebody else decides about.

use super::single::*;
use crate::channel::*;
use crate::onion::{self, FailureMessage, HopPayload};
use crate::switch::*;
use crate::types::*;

fn intercepting(interceptor: Interceptor) -> Single {
    let mut single = Single::new();
    assert!(single.event(SwitchEvent::Interceptor(interceptor)).is_empty());
    single
}

fn asked(effects: &[SwitchEffect]) -> Vec<InterceptedHtlc> {
    let asked = effects.iter().filter_map(|effect| match effect {
        SwitchEffect::Ask(htlc) => Some((**htlc).clone()),
        SwitchEffect::Offer { .. }
        | SwitchEffect::Settle { .. }
        | SwitchEffect::Receive(_)
        | SwitchEffect::PolicyChanged { .. }
        | SwitchEffect::Htlc(_) => None,
    });
    asked.collect()
}

fn answer(single: &mut Single, id: u64, answer: Interception) -> Vec<SwitchEffect> {
    single.event(SwitchEvent::Intercepted { incoming: at(ALICE, id), answer })
}

fn debts(single: &Single) -> Vec<Key> {
    single.store.0.keys().filter(|key| matches!(key, Key::Settlement { .. })).copied().collect()
}

#[test]
fn a_forward_is_asked_about_once_and_goes_on_when_it_is_resumed() {
    let mut single = intercepting(Interceptor::Present);
    let mut payload = HopPayload::Forward(forward_payload(DAVE)).encode();
    payload.extend([0xfe, 0, 1, 0, 1, 2, 7, 8]);
    let sent = sent_with(1, &payload, true);
    let effects = single.incoming(&sent.htlc);
    let [htlc] = &asked(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((htlc.incoming, htlc.incoming_channel), (at(ALICE, 1), name(ALICE)));
    assert_eq!((htlc.outgoing_channel, htlc.outgoing_amount), (name(DAVE), Msat(1_000_000)));
    assert_eq!(htlc.auto_fail, Height(TIP.0 + 140 - AUTO_FAIL_BLOCKS));
    assert_eq!(
        htlc.custom_records.iter().map(|record| (record.kind, &record.value[..])).collect::<Vec<_>>(),
        [(65_537, &[7, 8][..])]
    );
    assert_eq!(effects.len(), 1, "nothing else happens: {effects:?}");
    assert!(single.incoming(&sent.htlc).is_empty(), "its channel tells it again");
    let effects = answer(&mut single, 1, Interception::Resume);
    let (channel, add) = offer(&effects).unwrap();
    assert_eq!((channel, add.onion), (DAVE, htlc.next.clone()));
    assert!(answer(&mut single, 1, Interception::Resume).is_empty(), "a second answer changes nothing");
    assert_eq!(single.switch.held(), 0);
}

#[test]
fn only_its_own_preimage_settles_and_the_debt_is_durable_before_it_goes_back() {
    let mut single = intercepting(Interceptor::Present);
    let sent = sent(1, forward_payload(DAVE));
    single.incoming(&sent.htlc);
    assert!(answer(&mut single, 1, Interception::Settle(preimage(2))).is_empty());
    assert_eq!(single.switch.held_hash(&at(ALICE, 1)), Some(preimage(1).hash()), "it is held still");
    let effects = answer(&mut single, 1, Interception::Settle(preimage(1)));
    let [SwitchEffect::Settle { channel: ALICE, id: HtlcId(1), settlement }] = &effects[..] else { panic!() };
    assert_eq!(*settlement, Settlement::Fulfill(preimage(1)));
    assert_eq!(debts(&single), [at(ALICE, 1).origin().settlement_key()]);
    assert!(answer(&mut single, 1, Interception::Resume).is_empty(), "nothing takes it back");
}

#[test]
fn it_fails_in_our_name_or_with_words_of_a_node_behind() {
    let mut single = intercepting(Interceptor::Present);
    let ours = sent(1, forward_payload(DAVE));
    single.incoming(&ours.htlc);
    let effects = answer(&mut single, 1, Interception::Fail(InterceptionFailure::TemporaryChannelFailure));
    assert!(matches!(read_failure(&effects, &ours), FailureMessage::TemporaryChannelFailure { .. }));

    let theirs = sent(2, forward_payload(DAVE));
    single.incoming(&theirs.htlc);
    let reason = onion::failure::build(&theirs.secrets[1], &FailureMessage::PermanentNodeFailure);
    let effects = answer(&mut single, 2, Interception::FailEncrypted(reason));
    let Some((_, Settlement::Fail { reason })) = settlement(&effects) else { panic!("{effects:?}") };
    let read = onion::failure::decrypt(&theirs.secrets, reason).expect("the sender can read it");
    assert_eq!((read.hop, read.failure), (1, FailureMessage::PermanentNodeFailure));

    let unreadable = sent(3, forward_payload(DAVE));
    single.incoming(&unreadable.htlc);
    let effects = answer(&mut single, 3, Interception::Fail(InterceptionFailure::InvalidOnionHmac));
    let malformed = effects
        .iter()
        .any(|effect| matches!(effect, SwitchEffect::Settle { settlement: Settlement::FailMalformed { .. }, .. }));
    assert!(malformed, "{effects:?}");
    assert!(debts(&single).is_empty());
}

#[test]
fn what_is_held_goes_on_when_whoever_decides_has_gone_unless_one_is_required() {
    let mut single = intercepting(Interceptor::Present);
    let sent = sent(1, forward_payload(DAVE));
    single.incoming(&sent.htlc);
    assert!(single.event(SwitchEvent::Interceptor(Interceptor::Absent)).is_empty());
    let other = super::single::sent(2, forward_payload(DAVE));
    assert!(single.incoming(&other.htlc).is_empty(), "it waits for the next one");
    let effects = single.event(SwitchEvent::Interceptor(Interceptor::Present));
    assert_eq!(asked(&effects).len(), 2, "asked again");
    let effects = single.event(SwitchEvent::Interceptor(Interceptor::None));
    let offers = effects.iter().filter(|effect| matches!(effect, SwitchEffect::Offer { .. })).count();
    assert_eq!(offers, 2);
    assert!(asked(&single.incoming(&super::single::sent(3, forward_payload(DAVE)).htlc)).is_empty());
}

#[test]
fn none_is_held_until_its_channel_would_be_closed_and_none_is_asked_about_that_leaves_no_time() {
    let mut single = intercepting(Interceptor::Present);
    let held = sent(1, forward_payload(DAVE));
    single.incoming(&held.htlc);
    let due = Height(held.htlc.cltv_expiry.0 - AUTO_FAIL_BLOCKS);
    assert!(due.0 < held.htlc.cltv_expiry.0 - WAIT_MARGIN_BLOCKS);
    single.tip = Height(due.0 - 1);
    assert!(single.event(SwitchEvent::NewTip(single.tip)).is_empty());
    let late = sent(2, forward_payload(DAVE));
    let effects = single.incoming(&late.htlc);
    assert!(matches!(read_failure(&effects, &late), FailureMessage::ExpiryTooSoon { .. }));
    single.tip = due;
    let effects = single.event(SwitchEvent::NewTip(due));
    assert!(matches!(read_failure(&effects, &held), FailureMessage::TemporaryChannelFailure { .. }));
    assert!(answer(&mut single, 1, Interception::Settle(preimage(1))).is_empty(), "too late");
    assert!(debts(&single).is_empty());
}

#[test]
fn a_payment_to_us_is_not_asked_about_and_in_a_closed_channel_only_a_preimage_helps() {
    let mut single = intercepting(Interceptor::Present);
    assert!(matches!(&single.incoming(&sent_here(1).htlc)[..], [SwitchEffect::Receive(_)]));
    for id in [2, 3] {
        single.incoming(&sent(id, forward_payload(DAVE)).htlc);
    }
    single.event(SwitchEvent::Closed(ALICE));
    assert!(answer(&mut single, 2, Interception::Resume).is_empty());
    let effects = answer(&mut single, 3, Interception::Settle(preimage(3)));
    assert!(matches!(&effects[..], [SwitchEffect::Settle { .. }]), "{effects:?}");
}
