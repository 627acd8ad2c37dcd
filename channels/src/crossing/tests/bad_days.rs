//! One bad thing at a time.

use super::{clocks::rate, world::*};
use crate::{
    crossing::*,
    swap::margins::RESTART_ALLOWANCE,
    types::{Height, Msat, PaymentHash},
};

fn hash() -> PaymentHash {
    preimage(1).hash()
}

/// Quoted, with a payee of this conduct.
fn quoted(conduct: Conduct) -> World {
    let mut world = World::calm();
    world.conducts.insert(hash(), conduct);
    world.ask(1).unwrap();
    world
}

fn state(world: &World) -> &State {
    &world.crossings.get(&hash()).unwrap().state
}

fn ended(world: &World) -> &Outcome {
    match state(world) {
        State::Ended(outcome) => outcome,
        other => panic!("it goes on: {other:?}"),
    }
}

const PAYS: Conduct = Conduct::Ends { paid: true, at: 0 };
const HANGS: Conduct = Conduct::Ends { paid: false, at: 1_000 };

#[test]
fn a_payment_crosses_and_the_owner_keeps_the_difference() {
    let mut world = quoted(PAYS);
    world.payer_pays(&hash(), 3, 0);
    world.pass(60);
    let fee = rate().most_route_fee(AMOUNT);
    assert_eq!(ended(&world), &Outcome::Crossed { preimage: preimage(1), fee });
    assert_eq!(world.holds[&hash()].state, Incoming::Settled);
}

#[test]
fn a_payee_that_cannot_be_reached_has_the_payer_get_it_back_at_once() {
    let mut world = quoted(Conduct::NoRoute);
    world.payer_pays(&hash(), 0, 0);
    world.pass(60);
    assert!(matches!(ended(&world), Outcome::GivenBack(Reason::PaymentFailed { .. })));
    assert_eq!(world.holds[&hash()].state, Incoming::Canceled);
}

#[test]
fn nothing_is_given_back_while_an_htlc_on_the_other_network_hangs() {
    let mut world = quoted(HANGS);
    world.payer_pays(&hash(), 0, 0);
    world.pass(60);
    let State::Paying { last_expiry, .. } = *state(&world) else { panic!("{:?}", state(&world)) };
    while world.south.height.0 < last_expiry.0 + margins::RESOLVE_BLOCKS - 1 {
        world.pass(600);
        assert!(matches!(world.holds[&hash()].state, Incoming::Held { .. }));
    }
    world.pass(1_200);
    assert!(matches!(ended(&world), Outcome::GivenBack(Reason::PaymentFailed { .. })));
}

#[test]
fn a_preimage_in_the_last_moment_is_still_claimed() {
    let mut world = quoted(Conduct::Ends { paid: true, at: 1_000 });
    world.payer_pays(&hash(), 0, 0);
    while !matches!(state(&world), State::Ended(_)) {
        world.pass(600);
    }
    assert!(matches!(ended(&world), Outcome::Crossed { .. }));
}

#[test]
fn a_payment_with_too_few_blocks_left_is_given_back_and_not_paid() {
    let mut world = quoted(PAYS);
    world.payer_pays(&hash(), 0, 0);
    // The owner was away for so long that little is left.
    world.north.height = Height(world.north.height.0 + 900);
    world.pass(60);
    assert_eq!(ended(&world), &Outcome::GivenBack(Reason::TooLate));
    assert!(world.payments.is_empty());
}

#[test]
fn a_network_that_is_away_costs_the_payer_a_minute_and_not_days() {
    let mut world = quoted(PAYS);
    world.pass(60);
    world.south.is_up = false;
    world.payer_pays(&hash(), 0, 0);
    world.pass(margins::HELD_PATIENCE_SECONDS + 60);
    assert_eq!(ended(&world), &Outcome::GivenBack(Reason::Away));
}

#[test]
fn what_older_books_find_held_waits_for_the_network_that_knows_whether_the_payee_is_paid() {
    let mut world = quoted(HANGS);
    let older = world.disk.clone();
    world.payer_pays(&hash(), 0, 0);
    world.pass(60);
    assert!(matches!(state(&world), State::Paying { .. }));
    world.south.is_up = false;
    world.disk = older;
    world.restart();
    world.pass(margins::HELD_PATIENCE_SECONDS + 600);
    assert_eq!(state(&world), &State::Waiting);
    assert!(matches!(world.holds[&hash()].state, Incoming::Held { .. }));
    world.south.is_up = true;
    world.pass(60);
    assert!(matches!(state(&world), State::Paying { begun: Begun::Seen, .. }));
}

#[test]
fn a_network_that_comes_back_in_time_pays() {
    let mut world = quoted(PAYS);
    world.south.is_up = false;
    world.payer_pays(&hash(), 0, 0);
    world.pass(30);
    world.south.is_up = true;
    world.pass(60);
    assert!(matches!(ended(&world), Outcome::Crossed { .. }));
}

#[test]
fn an_order_that_is_lost_is_repeated_and_after_the_fence_given_up() {
    let mut world = quoted(PAYS);
    world.payer_pays(&hash(), 0, 0);
    // The order is lost with the daemon that it was for.
    let said = world.holds[&hash()].state;
    let ctx = world.ctx();
    world.south.is_up = false;
    let outbox = world.crossings.incoming(&hash(), said, &ctx);
    world.carry_out(outbox);
    world.pass(margins::PAY_SECONDS + margins::FENCE_SECONDS + 60);
    assert!(matches!(state(&world), State::Paying { .. }), "unknown is not never");
    world.south.is_up = true;
    world.pass(60);
    assert_eq!(ended(&world), &Outcome::GivenBack(Reason::NotBegun));
}

#[test]
fn records_that_lack_a_payment_that_may_have_been_made_end_nothing() {
    // South's data directory is an older copy, or another one; or the payment was deleted from it after it had been seen.
    for (directory, was_seen) in [(2, true), (9, true), (9, false), (2, false)] {
        let mut world = quoted(HANGS);
        // The older copy has one payment less than there was at the decision.
        world.south.records.count = 5;
        world.payer_pays(&hash(), 0, 0);
        if was_seen {
            world.pass(60);
        } else {
            let (said, ctx) = (world.holds[&hash()].state, world.ctx());
            world.south.is_up = false;
            let outbox = world.crossings.incoming(&hash(), said, &ctx);
            world.carry_out(outbox);
        }
        assert!(matches!(state(&world), State::Paying { .. }), "{:?}", state(&world));
        let made = world.payments.remove(&hash());
        world.south.is_up = true;
        let count = if was_seen { 100 } else { 4 };
        world.south.records = PaymentRecords { directory: crate::types::DirectoryId([directory; 32]), count };
        world.pass(margins::PAY_SECONDS + margins::FENCE_SECONDS + 600);
        assert_eq!(state(&world), &State::InDoubt, "{directory} {was_seen}");
        assert!(world.payments.is_empty(), "paid a second time");
        assert!(matches!(world.holds[&hash()].state, Incoming::Held { .. }), "given back while the payee may be paid");
        if let Some(made) = made {
            // The right records come back, and say how it ended.
            let paid = Outgoing::Paid { preimage: preimage(1), fee: crate::types::Msat(0) };
            world.payments.insert(hash(), Payment { state: paid, ..made });
            world.pass(60);
            assert!(matches!(ended(&world), Outcome::Crossed { .. }));
        } else {
            world.north.height = Height(world.north.height.0 + 2_000);
            world.pass(60);
            assert_eq!(ended(&world), &Outcome::Unknown);
        }
    }
}

#[test]
fn after_a_restart_the_fate_of_the_payment_is_asked_before_anything_else() {
    let mut world = quoted(HANGS);
    world.payer_pays(&hash(), 0, 0);
    world.pass(60);
    world.restart();
    let ctx = world.ctx();
    let outbox = world.crossings.tick(&hash(), &ctx);
    let effects = crate::channel::Outbox::commit_all(vec![outbox], &mut world.disk).unwrap();
    let orders: Vec<Order> = effects.into_iter().flatten().map(|effect| effect.order).collect();
    assert_eq!(orders, [Order::LookAtOutgoing]);
}

#[test]
fn an_owner_that_is_away_for_a_night_loses_nothing() {
    let mut world = quoted(Conduct::Ends { paid: true, at: 990 });
    world.payer_pays(&hash(), 0, 0);
    world.pass(60);
    let State::Paying { last_expiry, .. } = *state(&world) else { panic!("{:?}", state(&world)) };
    while world.south.height.0 + 12 < last_expiry.0 + margins::RESOLVE_BLOCKS {
        world.pass(600);
    }
    // Both daemons are stopped, and both networks go on.
    (world.north.is_up, world.south.is_up) = (false, false);
    world.pass(RESTART_ALLOWANCE);
    (world.north.is_up, world.south.is_up) = (true, true);
    world.restart();
    world.pass(60);
    assert!(matches!(ended(&world), Outcome::Crossed { .. }));
}

#[test]
fn no_more_is_under_way_than_the_owner_allows() {
    let mut world = World::calm();
    for number in 1..=5 {
        world.conducts.insert(preimage(number).hash(), HANGS);
        world.ask(number).unwrap();
    }
    for number in 1..=5 {
        world.payer_pays(&preimage(number).hash(), 0, 0);
    }
    world.pass(60);
    let under_way = world.crossings.all().filter(|crossing| crossing.is_under_way()).count();
    assert_eq!(under_way, 4, "2,000,000 sat in parts of 500,000");
    let full = Outcome::GivenBack(Reason::Full);
    assert_eq!(world.crossings.all().filter(|crossing| crossing.state == State::Ended(full.clone())).count(), 1);
    let refused = world.ask(6).unwrap_err();
    assert!(matches!(refused, Refusal::TooMuchHeld { .. }), "{refused}");
}

#[test]
fn what_swaps_have_under_way_counts_toward_what_the_owner_allows() {
    let mut world = World::calm();
    for number in 1..=2 {
        world.conducts.insert(preimage(number).hash(), PAYS);
        world.ask(number).unwrap();
    }
    // Room for one more of them.
    world.swapped = Msat(rate().most_held.0 - 500_000_000);
    world.payer_pays(&preimage(1).hash(), 0, 0);
    world.pass(60);
    assert!(matches!(ended(&world), Outcome::Crossed { .. }));
    // And for none.
    world.swapped = Msat(world.swapped.0 + 1);
    world.payer_pays(&preimage(2).hash(), 0, 0);
    world.pass(60);
    let full = State::Ended(Outcome::GivenBack(Reason::Full));
    assert_eq!(world.crossings.get(&preimage(2).hash()).unwrap().state, full);
    let refused = world.ask(3).unwrap_err();
    assert!(matches!(refused, Refusal::TooMuchHeld { held, .. } if held == world.swapped), "{refused}");
}

#[test]
fn an_answer_without_the_preimage_of_the_hash_settles_nothing() {
    let mut world = quoted(HANGS);
    world.payer_pays(&hash(), 0, 0);
    world.pass(60);
    let ctx = world.ctx();
    let lie = Outgoing::Paid { preimage: preimage(2), fee: crate::types::Msat(0) };
    let outbox = world.crossings.outgoing(&hash(), lie, &ctx);
    assert!(outbox.is_empty());
    assert!(matches!(state(&world), State::Paying { .. }));
}

#[test]
fn what_is_held_and_taken_by_somebody_with_the_preimage_is_not_paid_again() {
    let mut world = quoted(PAYS);
    let ctx = world.ctx();
    let outbox = world.crossings.incoming(&hash(), Incoming::Settled, &ctx);
    world.carry_out(outbox);
    assert_eq!(ended(&world), &Outcome::TakenElsewhere);
    assert!(world.payments.is_empty());
}
