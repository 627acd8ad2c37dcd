//! What is refused before anything is locked or paid.

use bitcoin::Amount;

use super::world::*;
use crate::{
    payment::InvoiceNetwork,
    swap::{
        Refusal, TermsError, margins,
        submarine::{Acceptance, Clock, Direction, Event, Offer, Submarine},
        tests::{
            chain::Chain,
            person::{Crash, Keys},
            world::{ALICE, BEGIN, BOB, PURSE},
        },
    },
    types::{Height, Msat, PaymentHash, UnixTime},
};

fn chain() -> Chain {
    Chain::new(0xaa, BEGIN)
}

fn offer(direction: Direction) -> Offer {
    quote(direction, &chain()).unwrap().0.offer().clone()
}

fn refused(offer: Offer, invoice_of: &Offer) -> TermsError {
    let own = match offer.direction {
        Direction::In => String::new(),
        Direction::Out => invoice(BOB, invoice_of.hash, invoice_of.payment, invoice_of.final_cltv),
    };
    let believed = believed(offer.direction);
    let chain = chain();
    Submarine::accept(offer, &believed, own, request(BOB, &chain), UnixTime(BEGIN), &Keys(BOB)).map(|_| ()).unwrap_err()
}

#[test]
fn an_offer_of_anything_else_is_refused() {
    for direction in [Direction::In, Direction::Out] {
        let good = offer(direction);
        assert!(accept(good.clone(), &chain()).is_ok());
        let other = |change: fn(&mut Offer)| {
            let mut altered = good.clone();
            change(&mut altered);
            refused(altered, &good)
        };
        let coins = other(|offer| offer.coins -= Amount::from_sat(1));
        assert_eq!(coins, TermsError::WrongAmount { wanted: COINS, got: COINS - Amount::from_sat(1) });
        assert!(matches!(other(|offer| offer.payment.0 += 1_000), TermsError::WrongAmount { .. }));
        assert!(matches!(other(|offer| offer.coins = Amount::from_sat(19_999)), TermsError::TooSmall { .. }));
        assert!(matches!(
            other(|offer| offer.chain.hash = bitcoin::constants::ChainHash::SIGNET),
            TermsError::WrongChain(_)
        ));
        let least = good.blocks_to_begin(DEPTH);
        let mut near = good.clone();
        near.clock = Clock::Height(Height(chain().height() + least - 1));
        assert_eq!(refused(near, &good), TermsError::TooFewBlocks { left: least - 1, needed: least });
        let far = other(|offer| offer.clock = Clock::Height(Height(refund_height(offer) + 2_016)));
        assert_eq!(far, TermsError::TooManyBlocks);
        let held = other(|offer| offer.final_cltv -= 1);
        assert!(matches!(held, TermsError::HeldTooShort { .. }), "{held:?}");
        let opposite = match direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        let chain = chain();
        let terms = believed(opposite);
        let answer =
            Submarine::accept(good.clone(), &terms, String::new(), request(BOB, &chain), UnixTime(BEGIN), &Keys(BOB));
        assert_eq!(answer.map(|_| ()), Err(TermsError::WrongDirection));
    }
}

#[test]
fn an_invoice_that_was_not_agreed_on_is_refused() {
    let good = offer(Direction::Out);
    let texts = [
        invoice(BOB, PaymentHash([1; 32]), good.payment, good.final_cltv),
        invoice(BOB, good.hash, Msat(good.payment.0 + 1), good.final_cltv),
        invoice(BOB, good.hash, good.payment, good.final_cltv + 1),
    ];
    for text in texts {
        assert!(matches!(good.check_invoice(&text, InvoiceNetwork::Regtest), Err(TermsError::OtherInvoice(_))));
        // Who lies in the acceptance is not paid.
        let (swap, outbox) = quote(Direction::Out, &chain()).unwrap();
        let mut alice = Person::new(ALICE, (swap, outbox));
        let bob = accept(alice.swap.offer().clone(), &chain()).unwrap().0;
        let lie = Acceptance { invoice: text, ..bob.acceptance().unwrap().clone() };
        let mut between = between();
        let refused = alice.handle(Event::Initiate(lie), &mut between, Crash::Never);
        assert!(matches!(refused, Err(Refusal::Terms(TermsError::OtherInvoice(_)))), "{refused:?}");
        assert_eq!(between.lightning.begun, 0);
    }
    let text = invoice(BOB, good.hash, good.payment, good.final_cltv);
    assert!(matches!(good.check_invoice(&text, InvoiceNetwork::Leyden), Err(TermsError::Invoice(_))));
}

fn between() -> Between {
    let mut chain = chain();
    chain.give(ALICE, PURSE);
    let travel = super::lightning::Travel::Arrives(0);
    Between {
        chain,
        other: None,
        lightning: super::lightning::Lightning::new(200, crate::payment::incoming::Hold::WhileSafe),
        now: BEGIN,
        travel,
        route: ROUTE,
    }
}

#[test]
fn an_acceptance_of_another_offer_begins_nothing() {
    let mut alice = Person::new(ALICE, quote(Direction::In, &chain()).unwrap());
    let good = accept(alice.swap.offer().clone(), &chain()).unwrap().0.acceptance().unwrap().clone();
    let mut between = between();
    let mut order = |acceptance| alice.handle(Event::Initiate(acceptance), &mut between, Crash::Never);
    let other = Acceptance { offer: [9; 32], ..good.clone() };
    assert_eq!(order(other), Err(Refusal::Terms(TermsError::OtherOffer)));
    let own_key = Acceptance { key: offer(Direction::In).key, ..good.clone() };
    assert_eq!(order(own_key), Err(Refusal::Terms(TermsError::SameKey)));
    assert_eq!(order(good.clone()), Ok(()));
    assert_eq!(order(good.clone()), Ok(()), "twice is once");
    let key = secp256k1::SecretKey::from_slice(&[8; 32]).unwrap().public_key(secp256k1::SECP256K1);
    assert_eq!(order(Acceptance { key, ..good }), Err(Refusal::Initiated));
}

#[test]
fn an_offer_and_an_acceptance_survive_as_text_and_no_part_of_them_does() {
    for direction in [Direction::In, Direction::Out] {
        let offer = offer(direction);
        let acceptance = accept(offer.clone(), &chain()).unwrap().0.acceptance().unwrap().clone();
        let (offered, accepted) = (offer.encode(), acceptance.encode());
        assert_eq!(Offer::decode(&offered), Ok(offer));
        assert_eq!(Acceptance::decode(&accepted), Ok(acceptance));
        assert!(Offer::is_one(&offered) && !Offer::is_one(&accepted) && Acceptance::is_one(&accepted));
        for length in 0..offered.len() {
            assert!(Offer::decode(&offered[..length]).is_err());
        }
        for length in 0..accepted.len() {
            assert!(Acceptance::decode(&accepted[..length]).is_err());
        }
        assert!(Offer::decode(&[offered.as_slice(), &[0]].concat()).is_err());
        assert!(Offer::decode(&accepted).is_err() && Acceptance::decode(&offered).is_err());
        let mut newer = offered;
        newer[1] = 9;
        assert_eq!(Offer::decode(&newer), Err(TermsError::Newer(9)));
        assert!(crate::swap::Offer::decode(&newer).is_err());
    }
}

#[test]
fn a_lock_that_costs_more_than_was_quoted_is_not_broadcast() {
    let mut alice = Person::new(ALICE, quote(Direction::In, &chain()).unwrap());
    let acceptance = accept(alice.swap.offer().clone(), &chain()).unwrap().0.acceptance().unwrap().clone();
    alice.lock_fee = Amount::from_sat(1_001);
    let mut between = between();
    let refused = alice.handle(Event::Initiate(acceptance), &mut between, Crash::Never);
    assert!(matches!(refused, Err(Refusal::FeeTooHigh { .. })), "{refused:?}");
    assert!(between.chain.mempool.is_empty() && alice.swap.leg().funding.is_none());
}

#[test]
fn usual_terms_leave_time_for_all_of_it_on_quick_and_slow_chains() {
    for spacing in [60, 150, 600, 900] {
        for direction in [Direction::In, Direction::Out] {
            let chain = crate::swap::Chain { spacing, ..NORTH };
            let bargain = crate::swap::submarine::Bargain { chain, ..bargain(direction) };
            let request = crate::swap::submarine::Request { depth: 6, ..request(ALICE, &self::chain()) };
            let blocks = (bargain.seconds(&request) / u64::from(spacing)) as u32;
            let needed = match direction {
                Direction::In => margins::pay_blocks(&chain) + 12,
                Direction::Out => margins::lock_blocks(&chain, 6),
            };
            assert!(blocks >= needed + margins::AGREE_BLOCKS);
            assert!(bargain.final_cltv(&request) + margins::ROUTE_BLOCKS <= crate::margins::MAX_HTLC_CLTV, "{spacing}");
            // Two days and a half at the usual rate; four at most.
            assert!(blocks <= 600 * 4, "{blocks}");
        }
    }
    // A block each ten seconds: a night is more blocks than any node locks money for.
    let chain = crate::swap::Chain { spacing: 10, ..NORTH };
    let bargain = crate::swap::submarine::Bargain { chain, ..bargain(Direction::Out) };
    let quoted =
        Submarine::quote(&bargain, String::new(), request(ALICE, &self::chain()), UnixTime(BEGIN), &Keys(ALICE));
    assert_eq!(quoted.map(|_| ()), Err(TermsError::TooManyBlocks));
}
