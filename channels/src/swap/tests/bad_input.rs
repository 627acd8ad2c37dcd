//! Offers and answers that are not what they should be: nothing is accepted, nothing is locked.

use bitcoin::Amount;

use super::{
    person::{Crash, Keys, Person},
    world::*,
};
use crate::{
    swap::{Acceptance, Event, Leg, Offer, Refusal, Role, Swap, TermsError, margins},
    types::UnixTime,
};

fn offer() -> (Chains, Offer) {
    let chains = Chains::new();
    let (swap, _) = Swap::quote(trade(), request(ALICE, &chains, false), UnixTime(BEGIN), &Keys(ALICE)).unwrap();
    (chains, *swap.offer())
}

fn refused(change: impl Fn(&mut Offer)) -> TermsError {
    let (chains, mut offer) = offer();
    change(&mut offer);
    accept(offer, &chains, false).map(|_| ()).unwrap_err()
}

#[test]
fn wrong_chain() {
    let other = crate::swap::Chain { hash: bitcoin::constants::ChainHash::BITCOIN, spacing: 600 };
    assert_eq!(refused(|offer| offer.outer.chain = other), TermsError::WrongChain(other.hash));
    // Another spacing would make the margins shorter than they are. It is no other chain, and nobody is told so.
    let faster = crate::swap::Chain { spacing: 1, ..NORTH };
    let other_pace = refused(|offer| offer.outer.chain = faster);
    assert_eq!(other_pace, TermsError::WrongSpacing { chain: NORTH, got: faster });
    let told = other_pace.to_string();
    assert!(told.contains("blocks of") && told.contains("1 seconds apart") && told.contains("network file"), "{told}");
    assert_eq!(refused(|offer| offer.inner.chain = offer.outer.chain), TermsError::OneChain);
}

#[test]
fn wrong_amount() {
    let (less, more) = (Amount::from_sat(99_999_999), Amount::from_sat(1_000_000_001));
    assert_eq!(refused(|offer| offer.outer.amount = less), TermsError::WrongAmount { wanted: ONE, got: less });
    assert_eq!(refused(|offer| offer.inner.amount = more), TermsError::WrongAmount { wanted: TEN, got: more });
    let little = refused(|offer| offer.outer.amount = Amount::from_sat(600));
    assert_eq!(little.to_string(), "600 sat are too little for a swap: it must be at least 20000 sat");
    let much = Amount::MAX_MONEY + Amount::from_sat(1);
    assert_eq!(refused(|offer| offer.outer.amount = much), TermsError::TooLarge { amount: much });
}

#[test]
fn timelocks_that_leave_too_little_are_refused() {
    let gap = margins::gap_seconds(&NORTH, &SOUTH);
    let close = |offer: &mut Offer| offer.outer.expiry = UnixTime(offer.inner.expiry.0 + gap - 1);
    assert_eq!(refused(close), TermsError::GapTooSmall { gap: gap - 1, needed: gap });
    // The participant's before the initiator's, never the other way round.
    let swapped = |offer: &mut Offer| std::mem::swap(&mut offer.outer.expiry, &mut offer.inner.expiry);
    assert_eq!(refused(swapped), TermsError::GapTooSmall { gap: 0, needed: gap });
    let far = |offer: &mut Offer| offer.outer.expiry = UnixTime(BEGIN + margins::MAX_SECONDS + 1);
    assert_eq!(refused(far), TermsError::TooFar);
    // Longer than Bob has said that his coins may be locked.
    let late = |offer: &mut Offer| {
        offer.inner.expiry = UnixTime(BEGIN + margins::INNER_SECONDS + 7_200);
        offer.outer.expiry = UnixTime(BEGIN + 4 * margins::INNER_SECONDS);
    };
    assert!(matches!(refused(late), TermsError::LockedTooLong { most: margins::INNER_SECONDS, .. }));
    let soon = |offer: &mut Offer| offer.inner.expiry = UnixTime(BEGIN + 3600);
    assert!(matches!(refused(soon), TermsError::TooLate { left: 3600, .. }));
}

#[test]
fn an_offer_and_an_acceptance_survive_as_text_and_no_part_of_them_does() {
    let (chains, offer) = offer();
    let bytes = offer.encode();
    assert_eq!(Offer::decode(&bytes), Ok(offer));
    let acceptance = *accept(offer, &chains, false).unwrap().swap.acceptance().unwrap();
    assert_eq!(Acceptance::decode(&acceptance.encode()), Ok(acceptance));
    // Whoever mixes the two up is told which of them it is, and which is needed.
    let told = |error: TermsError| error.to_string();
    let answer = told(Offer::decode(&acceptance.encode()).unwrap_err());
    assert!(answer.contains("this is the acceptance of a swap, and the offer of a swap is needed here"), "{answer}");
    let question = told(Acceptance::decode(&bytes).unwrap_err());
    assert!(
        question.contains("this is the offer of a swap, and the acceptance of a swap is needed here"),
        "{question}"
    );
    let unknown = told(Offer::decode(&[&[0xff], &bytes[1..]].concat()).unwrap_err());
    assert!(unknown.contains("this is no offer or acceptance of a swap"), "{unknown}");
    assert!((0..bytes.len()).all(|length| Offer::decode(&bytes[..length]).is_err()));
    assert!(Offer::decode(&[bytes.clone(), vec![0]].concat()).is_err());
    assert_eq!(Offer::decode(&[vec![bytes[0], 2], bytes[2..].to_vec()].concat()), Err(TermsError::Newer(2)));
}

#[test]
fn an_acceptance_of_another_offer_locks_nothing() {
    let mut world = World::agreed(false);
    let (chains, offer) = offer();
    let bob =
        accept(Offer { outer: crate::swap::LegTerms { amount: ONE, ..offer.outer }, ..offer }, &chains, false).unwrap();
    let right = *bob.swap.acceptance().unwrap();
    let (swap, outbox) = Swap::quote(trade(), request(ALICE, &chains, false), UnixTime(BEGIN), &Keys(ALICE)).unwrap();
    let mut alice = Person::new(ALICE, (swap, outbox));
    let wrong = Acceptance { offer: [0; 32], ..right };
    let result = alice.handle(Event::Initiate(wrong), &mut world.chains, Crash::Never);
    assert_eq!(result, Err(Refusal::Terms(TermsError::OtherOffer)));
    // With the initiator's own key both halves of the contract would be the initiator's, or nobody's.
    let own = Acceptance { refund_key: offer.redeem_key, ..right };
    let result = alice.handle(Event::Initiate(own), &mut world.chains, Crash::Never);
    assert_eq!(result, Err(Refusal::Terms(TermsError::SameKey)));
    assert!(alice.sent.is_empty());
}

#[test]
fn a_lock_that_costs_more_than_was_quoted_is_not_broadcast() {
    let mut world = World::agreed(false);
    world.mine(Leg::Outer, DEPTH);
    world.bob.lock_fee = Amount::from_sat(1_001);
    let (bob, chains) = world.person(Role::Participant);
    for height in bob.swap.leg(Leg::Outer).tip.height.0 + 1..=chains.outer.height() {
        let (tip, previous, transactions) = chains.outer.block(height);
        let block = crate::swap::BlockSeen {
            height: tip.height,
            hash: tip.hash,
            previous,
            median_time: tip.median_time,
            transactions: &transactions,
        };
        let result = bob.handle(Event::Block { leg: Leg::Outer, block }, chains, Crash::Never);
        if let Err(refusal) = result {
            assert!(matches!(refusal, Refusal::FeeTooHigh { .. }), "{refusal}");
        }
    }
    assert!(bob.sent.is_empty() && chains.inner.mempool.is_empty());
}

#[test]
fn commands_are_refused_with_what_to_do() {
    let mut world = World::agreed(true);
    assert_eq!(world.order(Role::Initiator, Event::Participate), Err(Refusal::NotParticipant));
    assert_eq!(world.order(Role::Participant, Event::Redeem { secret: None }), Err(Refusal::NoSecret));
    assert_eq!(world.order(Role::Initiator, Event::Redeem { secret: None }), Err(Refusal::NotRedeemable));
    assert_eq!(world.order(Role::Participant, Event::Refund), Err(Refusal::NothingToRefund));
    world.mine(Leg::Outer, 1);
    world.both_look();
    assert!(matches!(world.order(Role::Initiator, Event::Refund), Err(Refusal::NotExpired { .. })));
    assert_eq!(world.order(Role::Initiator, Event::Cancel), Err(Refusal::Locked));
    world.order(Role::Participant, Event::Cancel).unwrap();
    assert_eq!(world.order(Role::Participant, Event::Participate), Err(Refusal::Ended));
}
