//! The way back: preimages, failures, history.

use super::single::*;
use crate::channel::*;
use crate::onion::{self, FailureMessage};
use crate::switch::*;
use crate::types::*;

fn forwarded() -> (Single, Sent) {
    let mut single = Single::new();
    let sent = sent(1, forward_payload(DAVE));
    single.offered(&sent.htlc);
    (single, sent)
}

#[test]
fn a_preimage_settles_the_incoming_htlc_and_is_recorded_once() {
    let (mut single, _) = forwarded();
    let fulfilled = SwitchEvent::Fulfilled { incoming: at(ALICE, 1), outgoing: at(DAVE, 5), preimage: preimage(1) };
    let effects = single.event(fulfilled.clone());
    let expected = (at(ALICE, 1), Settlement::Fulfill(preimage(1)));
    assert_eq!(settlement(&effects), Some(expected.clone()));
    assert_eq!(news(&effects), [HtlcEventKind::Settle { preimage: preimage(1), fee: Msat(1_100) }]);
    let record = single.forwards()[0];
    assert_eq!((record.number, record.fee()), (1, Msat(1_100)));
    assert_eq!((record.incoming, record.incoming_channel), (at(ALICE, 1), Some(name(ALICE))));
    assert_eq!((record.outgoing, record.outgoing_channel), (at(DAVE, 5).into(), Some(name(DAVE))));
    // A channel that is told twice tells twice.
    let effects = single.event(fulfilled);
    assert_eq!(settlement(&effects), Some(expected));
    assert_eq!(single.forwards().len(), 1);
    assert_eq!(single.switch.pending(), 0);
}

/// Its own channel may be over, and its records gone, before the channel in front has signed.
#[test]
fn a_preimage_is_owed_until_the_incoming_channel_has_signed() {
    let (mut single, _) = forwarded();
    single.event(SwitchEvent::Fulfilled { incoming: at(ALICE, 1), outgoing: at(DAVE, 5), preimage: preimage(1) });
    let owed = single.store.0.get(&Key::Settlement { channel: ALICE, id: HtlcId(1) });
    let owed = owed.and_then(|row| OwedSettlement::decode(row));
    assert_eq!(owed, Some(OwedSettlement::Fulfilled { preimage: preimage(1) }));
}

#[test]
fn a_failure_from_further_on_gets_one_more_layer() {
    let (mut single, sent) = forwarded();
    let told = FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat(7), height: TIP };
    let reason = onion::failure::build(&sent.secrets[1], &told);
    let failure = HtlcFailure::Remote { reason };
    let effects = single.event(SwitchEvent::Failed { incoming: at(ALICE, 1), outgoing: at(DAVE, 0), failure });
    let Some((_, Settlement::Fail { reason })) = settlement(&effects) else { panic!("{effects:?}") };
    let read = onion::failure::decrypt(&sent.secrets, reason).unwrap();
    assert_eq!((read.hop, read.failure), (1, told));
    assert_eq!(news(&effects), [HtlcEventKind::ForwardFail]);
    assert!(single.forwards().is_empty());
}

#[test]
fn an_onion_that_the_next_hop_could_not_read_is_told_in_our_name() {
    let (mut single, sent) = forwarded();
    let failure = HtlcFailure::Malformed { sha256_of_onion: [9; 32], failure_code: 0xc006 };
    let effects = single.event(SwitchEvent::Failed { incoming: at(ALICE, 1), outgoing: at(DAVE, 0), failure });
    let Some((_, Settlement::Fail { reason })) = settlement(&effects) else { panic!("{effects:?}") };
    let read = onion::failure::decrypt(&sent.secrets, reason).unwrap();
    assert_eq!((read.hop, read.failure), (0, FailureMessage::InvalidOnionKey { sha256_of_onion: [9; 32] }));
}

#[test]
fn an_htlc_that_the_chain_left_out_is_a_permanent_channel_failure() {
    let (mut single, sent) = forwarded();
    let failure = HtlcFailure::NotOnChain;
    let effects = single.event(SwitchEvent::Failed { incoming: at(ALICE, 1), outgoing: at(DAVE, 0), failure });
    let Some((_, Settlement::Fail { reason })) = settlement(&effects) else { panic!("{effects:?}") };
    let read = onion::failure::decrypt(&sent.secrets, reason).unwrap();
    assert_eq!((read.hop, read.failure), (0, FailureMessage::PermanentChannelFailure));
}

#[test]
fn news_of_an_unknown_forward_changes_nothing() {
    let mut single = Single::new();
    let incoming = at(ALICE, 1);
    let failure = HtlcFailure::NotOnChain;
    assert!(single.event(SwitchEvent::Failed { incoming, outgoing: at(DAVE, 0), failure }).is_empty());
    assert!(single.event(SwitchEvent::Refused { incoming, cause: CannotAdd::Offline }).is_empty());
    // A preimage is passed on in any case.
    let effects = single.event(SwitchEvent::Fulfilled { incoming, outgoing: at(DAVE, 0), preimage: preimage(1) });
    assert!(settlement(&effects).is_some());
    assert!(single.forwards().is_empty());
}
