//! What is quoted, and what is not.

use super::{clocks::rate, world::*};
use crate::{crossing::*, payment::Invoice, types::Msat};

fn refusal(world: &mut World, ask: Ask) -> Refusal {
    let ctx = world.ctx();
    let before = world.crossings.clone();
    let refused = world.crossings.ask(ask, &ctx).expect_err("it is refused");
    assert!(world.crossings == before, "after a refusal nothing has changed");
    refused
}

#[test]
fn a_quote_names_the_price_and_leaves_the_time_that_both_clocks_need() {
    let mut world = World::calm();
    world.ask(1).unwrap();
    let crossing = world.crossings.get(&preimage(1).hash()).unwrap();
    assert_eq!((crossing.amount, crossing.price), (AMOUNT, rate().price(AMOUNT).unwrap()));
    assert_eq!(crossing.state, State::Waiting);
    assert_eq!(crossing.expires.0, BEGIN + margins::QUOTE_SECONDS);
    let limit = margins::outgoing_limit(crossing.hold_blocks, &NORTH, &SOUTH);
    assert_eq!(limit, FINAL_BLOCKS + margins::ROUTE_BLOCKS);
}

#[test]
fn asking_twice_is_asking_once_and_another_invoice_with_the_hash_is_refused() {
    let mut world = World::calm();
    world.ask(1).unwrap();
    let first = world.crossings.clone();
    world.ask(1).unwrap();
    assert!(world.crossings == first);
    let other = Ask { text: "another".into(), ..ask(&invoice(1, BEGIN)) };
    assert_eq!(refusal(&mut world, other), Refusal::Known);
    // What has ended is told, and not begun again.
    world.payer_pays(&preimage(1).hash(), 0, 0);
    world.pass(120);
    let again = refusal(&mut world, ask(&invoice(1, BEGIN)));
    assert!(matches!(again, Refusal::Ended(Outcome::Crossed { .. })), "{again}");
}

#[test]
fn without_a_rate_nothing_crosses_and_quotes_fall_when_it_is_taken_away() {
    let mut world = World::calm();
    world.ask(1).unwrap();
    let outbox = world.crossings.set_rate(PAIR, None).unwrap();
    world.carry_out(outbox);
    world.pass(30);
    assert_eq!(world.holds[&preimage(1).hash()].state, Incoming::Canceled);
    assert_eq!(refusal(&mut world, ask(&invoice(2, BEGIN))), Refusal::NoRate);
}

#[test]
fn another_rate_leaves_the_price_of_a_quote() {
    let mut world = World::calm();
    world.ask(1).unwrap();
    let dearer = Rate { take: 5, ..rate() };
    let outbox = world.crossings.set_rate(PAIR, Some(dearer)).unwrap();
    world.carry_out(outbox);
    world.payer_pays(&preimage(1).hash(), 0, 0);
    world.pass(120);
    let crossing = world.crossings.get(&preimage(1).hash()).unwrap();
    assert!(matches!(crossing.state, State::Ended(Outcome::Crossed { .. })), "{:?}", crossing.state);
    assert_eq!(crossing.price, rate().price(AMOUNT).unwrap());
}

#[test]
fn an_open_amount_is_asked_for_and_a_given_one_must_be_the_invoices() {
    let mut world = World::calm();
    let asked = ask(&invoice(1, BEGIN));
    let open = ask(&Invoice { amount: None, ..invoice(1, BEGIN) });
    let given = Some(Msat(7));
    let other = Refusal::OtherAmount { asked: AMOUNT, given: Msat(7) };
    assert_eq!(refusal(&mut world, Ask { amount: given, ..asked }), other);
    assert_eq!(refusal(&mut world, open.clone()), Refusal::NoAmount);
    assert_eq!(refusal(&mut world, Ask { amount: Some(Msat(0)), ..open.clone() }), Refusal::NoAmount);
    let ctx = world.ctx();
    let outbox = world.crossings.ask(Ask { amount: Some(AMOUNT), ..open }, &ctx).unwrap();
    world.carry_out(outbox);
    assert_eq!(world.crossings.all().next().unwrap().amount, AMOUNT);
}

#[test]
fn what_is_too_much_or_too_little_or_too_late_is_refused_with_its_number() {
    let mut world = World::calm();
    let of = |amount| ask(&Invoice { amount: Some(Msat(amount)), ..invoice(1, BEGIN) });
    assert!(matches!(refusal(&mut world, of(1_000_000_001)), Refusal::TooMuch { .. }));
    assert!(matches!(refusal(&mut world, of(999_999)), Refusal::TooLittle { .. }));
    // 5,000 sat are worth a claim on south, and their price of 503 and 1 sat is none on north.
    assert!(matches!(refusal(&mut world, of(5_000_000)), Refusal::TooLittle { amount: Msat(503_500), .. }));
    let old = ask(&Invoice { expiry_seconds: 119, ..invoice(1, BEGIN) });
    assert_eq!(refusal(&mut world, old), Refusal::ExpiresSoon);
    let long = ask(&Invoice { min_final_cltv_expiry_delta: 2_000, ..invoice(1, BEGIN) });
    assert!(matches!(refusal(&mut world, long), Refusal::Clocks { blocks: Some(_) }));
    let text = "l".repeat(8_193);
    assert_eq!(refusal(&mut world, Ask { text, ..ask(&invoice(1, BEGIN)) }), Refusal::TooLong);
}

#[test]
fn an_invoice_of_the_own_node_and_one_that_was_paid_are_refused() {
    let mut world = World::calm();
    let own = ask(&Invoice { payee: key(2), ..invoice(1, BEGIN) });
    assert_eq!(refusal(&mut world, own), Refusal::OwnInvoice);
    let paid = Ask { known: Outgoing::Failed { reason: "by hand".into() }, ..ask(&invoice(1, BEGIN)) };
    assert_eq!(refusal(&mut world, paid), Refusal::Known);
}

#[test]
fn a_network_that_cannot_be_asked_is_named() {
    let mut world = World::calm();
    world.south.is_up = false;
    assert_eq!(refusal(&mut world, ask(&invoice(1, BEGIN))), Refusal::Away("payee's"));
}

#[test]
fn a_thousand_quotes_take_the_room_of_a_hundred() {
    let mut world = World::calm();
    for number in 0..MAX_WAITING {
        world.ask(number as u8).unwrap();
    }
    for _ in 0..1_000 {
        assert_eq!(world.ask(200).unwrap_err(), Refusal::TooManyWaiting);
    }
    assert_eq!(world.disk.0.len(), 1 + MAX_WAITING, "the rate, and a row each");
    world.pass(margins::QUOTE_SECONDS + 60);
    assert_eq!(world.disk.0.len(), 1, "what nobody has paid leaves nothing");
    world.ask(200).unwrap();
}
