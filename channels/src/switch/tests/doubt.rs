//! What the switch does while the tip is in doubt, and when it is known again.

use super::single::*;
use crate::channel::*;
use crate::margins::WAIT_FOR_TIP_SECONDS;
use crate::onion::FailureMessage;
use crate::switch::*;
use crate::types::*;

fn in_doubt() -> Single {
    Single { trust: TipTrust::InDoubt, ..Single::new() }
}

/// The tip is known again, so many blocks further.
fn becomes_current(single: &mut Single, blocks: u32) -> Vec<SwitchEffect> {
    single.trust = TipTrust::Current;
    single.tip = Height(single.tip.0 + blocks);
    single.event(SwitchEvent::Tick)
}

#[test]
fn a_forward_waits_for_the_tip_and_goes_on_with_it() {
    let mut single = in_doubt();
    let sent = sent(1, forward_payload(DAVE));
    assert!(single.incoming(&sent.htlc).is_empty());
    assert!(single.switch.is_waiting());
    assert!(single.event(SwitchEvent::Tick).is_empty());
    // Its channel tells it again: still one.
    assert!(single.incoming(&sent.htlc).is_empty());
    let effects = becomes_current(&mut single, 3);
    let (channel, add) = offer(&effects).unwrap();
    assert_eq!((channel, add.amount), (DAVE, Msat(1_000_000)));
    assert!(!single.switch.is_waiting());
    assert!(single.event(SwitchEvent::Tick).is_empty(), "once");
}

#[test]
fn an_htlc_that_expired_while_it_was_not_known_how_far_the_chain_is_is_not_forwarded() {
    let mut single = in_doubt();
    let sent = sent(1, forward_payload(DAVE));
    assert!(single.incoming(&sent.htlc).is_empty());
    // 21 blocks after the expiry of the HTLC that would be offered.
    let effects = becomes_current(&mut single, 121);
    assert!(matches!(read_failure(&effects, &sent), FailureMessage::ExpiryTooSoon { .. }));
}

#[test]
fn a_forward_waits_for_less_than_the_payer_and_never_until_its_channel_would_be_closed() {
    let mut single = in_doubt();
    let (patient, hasty) = (sent(1, forward_payload(DAVE)), sent(2, forward_payload(DAVE)));
    assert!(single.incoming(&patient.htlc).is_empty());
    single.now = UnixTime(NOW.0 + WAIT_FOR_TIP_SECONDS - 1);
    assert!(single.event(SwitchEvent::Tick).is_empty());
    single.now = UnixTime(NOW.0 + WAIT_FOR_TIP_SECONDS);
    let effects = single.event(SwitchEvent::Tick);
    assert_eq!(read_failure(&effects, &patient), FailureMessage::TemporaryNodeFailure);

    assert!(single.incoming(&hasty.htlc).is_empty());
    single.tip = Height(hasty.htlc.cltv_expiry.0 - WAIT_MARGIN_BLOCKS);
    let effects = single.event(SwitchEvent::NewTip(single.tip));
    assert_eq!(read_failure(&effects, &hasty), FailureMessage::TemporaryNodeFailure);
    assert!(!single.switch.is_waiting());
}

#[test]
fn what_ends_behind_passes_upstream_whatever_is_known_of_the_tip() {
    let mut single = Single::new();
    for id in [1, 2] {
        single.offered(&sent(id, forward_payload(DAVE)).htlc);
    }
    single.trust = TipTrust::InDoubt;
    let fulfilled = SwitchEvent::Fulfilled { incoming: at(ALICE, 1), outgoing: at(DAVE, 5), preimage: preimage(1) };
    let effects = single.event(fulfilled);
    assert_eq!(settlement(&effects), Some((at(ALICE, 1), Settlement::Fulfill(preimage(1)))));
    let failure = HtlcFailure::Remote { reason: vec![0; 292] };
    let effects = single.event(SwitchEvent::Failed { incoming: at(ALICE, 2), outgoing: at(DAVE, 6), failure });
    assert!(matches!(settlement(&effects), Some((_, Settlement::Fail { .. }))));
}

#[test]
fn an_htlc_whose_channel_closes_while_it_waits_is_not_forwarded() {
    let mut single = in_doubt();
    assert!(single.incoming(&sent(1, forward_payload(DAVE)).htlc).is_empty());
    assert!(single.event(SwitchEvent::Closed(ALICE)).is_empty());
    assert!(becomes_current(&mut single, 0).is_empty());
}

/// Found by no sender: the channel that was to take it lost sight of the chain in between.
#[test]
fn a_channel_that_is_in_doubt_ends_a_forward_without_a_try_of_its_siblings() {
    let mut single = Single::new();
    let sent = sent(1, forward_payload(CAROL));
    single.offered(&sent.htlc);
    let effects = single.event(SwitchEvent::Refused { incoming: at(ALICE, 1), cause: CannotAdd::TipInDoubt });
    assert_eq!(read_failure(&effects, &sent), FailureMessage::TemporaryNodeFailure);
}
