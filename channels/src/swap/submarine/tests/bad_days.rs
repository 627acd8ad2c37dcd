//! Each bad day of a submarine swap, by its name. Nobody loses coins except by the rules.

use super::{lightning::Travel, world::*};
use crate::{
    margins::CLAIM_MARGIN,
    swap::{
        Outcome, Refusal, Role,
        contract::extract_secret,
        margins,
        submarine::{Direction, Event, Payment, Phase, Receipt},
        tests::person::Crash,
    },
    types::{CltvExpiry, FeeratePerKw},
};

const BOTH: [Role; 2] = [Role::Initiator, Role::Participant];

fn phases(world: &World) -> (Phase, Phase) {
    (world.alice.swap.phase(), world.bob.swap.phase())
}

/// A swap out swaps the other way round: Alice gets the coins.
fn flipped((alice, bob): (Holds, Holds)) -> (Holds, Holds) {
    (bob, alice)
}

#[test]
fn coins_into_a_channel() {
    let mut world = World::agreed(Direction::In);
    world.both_look();
    assert_eq!(phases(&world), (Phase::Locking, Phase::Accepted));
    world.mine_and_look(DEPTH - 1);
    assert_eq!((world.between.lightning.begun, phases(&world)), (0, (Phase::Locked, Phase::Accepted)));
    world.mine_and_look(1);
    assert_eq!(world.between.lightning.receipt, Receipt::Held(CltvExpiry(world.between.chain.height() + 40)));
    world.both_look();
    assert_eq!(world.between.lightning.receipt, Receipt::Settled);
    world.both_look();
    assert_eq!(phases(&world), (Phase::Settled, Phase::Redeeming));
    world.mine_and_look(1);
    assert_eq!((phases(&world), world.end()), ((Phase::Settled, Phase::Redeemed), BOTH_SWAPPED));
    world.mine_and_look(100);
    let ended = Phase::Ended(Outcome::Swapped);
    assert_eq!(phases(&world), (ended, ended));
}

#[test]
fn a_channel_into_coins() {
    let mut world = World::agreed(Direction::Out);
    assert_eq!(phases(&world), (Phase::Paying, Phase::Accepted));
    world.both_look();
    world.both_look();
    assert_eq!(phases(&world), (Phase::Paying, Phase::Locking));
    world.mine_and_look(DEPTH - 1);
    assert!(world.alice.swap.shown_secret().is_none());
    world.mine_and_look(1);
    // Bob reads the secret where it is first: in the mempool.
    assert_eq!(phases(&world), (Phase::Redeeming, Phase::Settled));
    world.mine_and_look(1);
    assert_eq!((phases(&world), world.end()), ((Phase::Redeemed, Phase::Settled), flipped(BOTH_SWAPPED)));
    assert_eq!(world.alice.swap.lightning(), crate::swap::submarine::Lightning::Pays(world.between.lightning.payment));
    world.mine_and_look(100);
    let ended = Phase::Ended(Outcome::Swapped);
    assert_eq!(phases(&world), (ended, ended));
}

#[test]
fn the_participant_disappears() {
    let mut world = World::agreed(Direction::In);
    world.mine_past_refund(3, &[Role::Initiator]);
    assert_eq!((phases(&world).0, world.end()), (Phase::Refunded, NONE_SWAPPED));
    assert_eq!(world.between.lightning.receipt, Receipt::Canceled);
    // Out: his node holds the payment until its channel is closed for it.
    let mut world = World::agreed(Direction::Out);
    world.mine_past_refund(400, &[Role::Initiator]);
    assert_eq!((phases(&world).0, world.end()), (Phase::Ended(Outcome::Refunded), flipped(NONE_SWAPPED)));
    assert!(world.alice.swap.shown_secret().is_none());
}

#[test]
fn the_initiator_disappears() {
    // In, after her lock: her node does not take the payment, and it comes back to Bob.
    let mut world = World::agreed(Direction::In);
    world.look(Role::Initiator);
    world.mine(DEPTH);
    world.mine_past_refund(100, &[Role::Participant]);
    assert_eq!(world.between.lightning.payment, Payment::Failed);
    assert_eq!(phases(&world).1, Phase::Ended(Outcome::Refunded));
    // Out, after her payment: Bob has his coins back, then gives the payment back.
    let mut world = World::agreed(Direction::Out);
    world.look(Role::Participant);
    world.look(Role::Participant);
    let refund_height = refund_height(world.alice.swap.offer());
    world.mine_past_refund(margins::REORG_DEPTH - 1, &[Role::Participant]);
    assert_eq!(phases(&world).1, Phase::Refunded);
    let held = world.bob.swap.lightning();
    let crate::swap::submarine::Lightning::Receives(Receipt::Held(expiry)) = held else { panic!("{held:?}") };
    assert!(expiry.0 >= refund_height + margins::hold_gap(&NORTH));
    world.mine_past_refund(margins::REORG_DEPTH + 2, &[Role::Participant]);
    assert_eq!((world.between.lightning.receipt, world.end()), (Receipt::Canceled, flipped(NONE_SWAPPED)));
}

#[test]
fn a_payment_that_hangs_is_resolved_before_the_refund() {
    // In: it is with somebody on the way, for as long as Bob has allowed. Its preimage comes at the last moment.
    let mut world = World::agreed(Direction::In);
    world.between.route = margins::ROUTE_BLOCKS;
    world.both_look();
    world.mine_and_look(DEPTH);
    world.between.lightning.delay = 10_000;
    world.both_look();
    assert_eq!(world.between.lightning.receipt, Receipt::Settled);
    while world.between.lightning.payment == Payment::InFlight {
        world.mine(1);
        world.look(Role::Participant);
    }
    let left = refund_height(world.alice.swap.offer()) - world.between.chain.height();
    assert!(left >= margins::redeem_blocks(&NORTH), "{left}");
    world.mine_and_look(1);
    world.mine_and_look(1);
    assert_eq!(world.end(), BOTH_SWAPPED);
}

#[test]
fn a_payment_that_fails_is_tried_again_and_never_twice_at_a_time() {
    for direction in [Direction::In, Direction::Out] {
        let mut world = World::agreed_with(direction, Travel::Fails(2));
        world.both_look();
        world.mine_and_look(DEPTH + 6);
        let begun = world.between.lightning.begun;
        assert!((2..7).contains(&begun), "{direction:?}: {begun}");
        world.between.travel = Travel::Arrives(1);
        world.mine_and_look(DEPTH + 10);
        let expected = if direction == Direction::In { BOTH_SWAPPED } else { flipped(BOTH_SWAPPED) };
        assert_eq!(world.end(), expected);
        assert_eq!(world.between.lightning.taken, 1);
        // Once it is paid no event makes another payment of it.
        let begun = world.between.lightning.begun;
        world.mine_and_look(20);
        assert_eq!(world.between.lightning.begun, begun);
    }
}

#[test]
fn nothing_is_paid_when_the_refund_is_too_near() {
    let mut world = World::agreed(Direction::In);
    world.look(Role::Initiator);
    world.mine(1);
    let last = refund_height(world.alice.swap.offer()) - margins::pay_blocks(&NORTH);
    while world.between.chain.height() <= last {
        world.mine(1);
    }
    world.both_look();
    assert_eq!(world.between.lightning.begun, 0);
    assert_eq!(phases(&world).1, Phase::Ended(Outcome::NothingLocked));
    world.mine_past_refund(2, &BOTH);
    assert_eq!(world.end(), NONE_SWAPPED);
}

#[test]
fn no_secret_is_shown_too_near_the_refund() {
    let mut world = World::agreed(Direction::Out);
    world.both_look();
    world.both_look();
    let last = refund_height(world.alice.swap.offer()) - margins::redeem_blocks(&NORTH);
    while world.between.chain.height() <= last {
        world.mine(1);
        world.look(Role::Participant);
    }
    world.mine_past_refund(200, &BOTH);
    assert!(world.alice.swap.shown_secret().is_none());
    assert_eq!(world.end(), flipped(NONE_SWAPPED));
}

#[test]
fn coins_are_not_locked_for_a_payment_that_is_held_too_short() {
    let mut world = World::agreed_with(Direction::Out, Travel::Fails(0));
    world.both_look();
    // Somebody who pays past Alice's machine, with a shorter lock than was agreed.
    let short = refund_height(world.bob.swap.offer()) + margins::hold_gap(&NORTH) - 1;
    world.between.lightning.receipt = Receipt::Held(CltvExpiry(short));
    world.look(Role::Participant);
    assert!(world.bob.swap.leg().funding.is_none());
    assert_eq!(world.between.lightning.receipt, Receipt::Canceled);
    world.look(Role::Participant);
    assert_eq!(phases(&world).1, Phase::Ended(Outcome::NothingLocked));
}

#[test]
fn a_lock_that_no_block_takes_is_called_back_before_it_could_be_a_gift() {
    let mut world = World::agreed(Direction::Out);
    world.both_look();
    world.both_look();
    assert!(world.bob.swap.leg().funding.is_some());
    // Blocks ask for more than a lock pays, and less than calling it back may.
    world.between.chain.minimum = 20_000;
    world.mine_past_refund(margins::REORG_DEPTH + 2, &BOTH);
    assert!(world.bob.swap.leg().replaced.is_some(), "{:?}", phases(&world));
    assert_eq!(world.between.lightning.receipt, Receipt::Canceled);
    world.between.chain.minimum = 0;
    world.mine_past_refund(200, &BOTH);
    assert_eq!(world.end(), flipped(NONE_SWAPPED));
    assert_eq!(phases(&world).1, Phase::Ended(Outcome::NothingLocked));
}

#[test]
fn an_invoice_is_given_up_before_the_coins_are_taken_back() {
    let mut world = World::agreed(Direction::In);
    world.look(Role::Initiator);
    let end = refund_height(world.alice.swap.offer());
    while world.between.chain.height() < end {
        assert!(world.alice.swap.leg().claim.is_none());
        assert_eq!(world.between.lightning.receipt, Receipt::Open);
        world.mine(1);
        world.look(Role::Initiator);
    }
    assert_eq!(world.between.lightning.receipt, Receipt::Canceled);
    // Who pays now gets nothing for it, and loses nothing.
    world.between.lightning.pay(end, ROUTE, 1_000, Travel::Arrives(0));
    world.mine(1);
    assert_eq!(world.between.lightning.payment, Payment::Failed);
    world.look(Role::Initiator);
    assert_eq!(phases(&world).0, Phase::Refunded);
}

#[test]
fn a_settled_payment_leaves_the_coins_to_the_other() {
    let mut world = World::agreed(Direction::In);
    world.both_look();
    world.mine_and_look(DEPTH);
    world.both_look();
    assert_eq!(world.between.lightning.receipt, Receipt::Settled);
    // Bob is away until long after the refund height, and redeems all the same.
    world.mine_past_refund(50, &[Role::Initiator]);
    assert!(world.alice.swap.leg().claim.is_none());
    world.look(Role::Participant);
    world.mine(1);
    world.both_look();
    assert_eq!(world.end(), BOTH_SWAPPED);
}

#[test]
fn the_secret_is_not_shown_for_an_htlc_that_is_about_to_expire() {
    // Bob pays by hand while the lock waits for a block; it gets one when this much is left of his HTLC.
    for left in [1, CLAIM_MARGIN, CLAIM_MARGIN + 1] {
        let mut world = World::agreed(Direction::In);
        world.between.chain.minimum = 1_000_000;
        world.look(Role::Initiator);
        let tip = world.between.chain.height();
        world.between.lightning.pay(tip, ROUTE, u32::MAX, Travel::Arrives(0));
        world.between.lightning.advance(tip, true);
        let Receipt::Held(expiry) = world.between.lightning.receipt else { panic!("it is held") };
        while world.between.chain.height() + left + 1 < expiry.0 {
            world.mine(1);
            world.look(Role::Initiator);
        }
        world.between.chain.minimum = 0;
        world.mine_and_look(1);
        assert_eq!(world.alice.swap.phase() == Phase::Settled, left > CLAIM_MARGIN, "{left} blocks are left");
        assert_eq!(world.alice.swap.shown_secret().is_some(), left > CLAIM_MARGIN, "{left} blocks are left");
        assert!(world.between.lightning.shown.is_none(), "the secret is shown for nothing");
        world.mine_past_refund(3, &BOTH);
        let end = if left > CLAIM_MARGIN { BOTH_SWAPPED } else { NONE_SWAPPED };
        assert_eq!(world.end(), end, "{left} blocks are left");
    }
}

#[test]
fn a_payment_that_the_chain_took_back_gives_the_coins_back() {
    let mut world = World::agreed(Direction::In);
    world.both_look();
    world.mine_and_look(DEPTH);
    world.look(Role::Initiator);
    assert_eq!(world.between.lightning.receipt, Receipt::Settled);
    world.between.lightning.receipt = Receipt::TakenBack;
    world.mine_past_refund(2, &[Role::Initiator]);
    assert_eq!(phases(&world).0, Phase::Refunded);
}

#[test]
fn reorg_of_the_lock() {
    for direction in [Direction::In, Direction::Out] {
        let mut world = World::agreed(direction);
        world.both_look();
        world.both_look();
        world.mine_and_look(DEPTH - 1);
        let now = world.between.now;
        world.between.chain.reorganize(DEPTH - 1, now, true);
        world.both_look();
        assert!(world.bob.swap.leg().lock.is_none_or(|lock| lock.at.is_none()));
        world.mine_and_look(DEPTH + 6);
        let expected = if direction == Direction::In { BOTH_SWAPPED } else { flipped(BOTH_SWAPPED) };
        assert_eq!(world.end(), expected, "{direction:?}");
    }
}

#[test]
fn reorg_of_the_redeem() {
    let mut world = World::agreed(Direction::Out);
    world.both_look();
    world.both_look();
    world.mine_and_look(DEPTH + 1);
    assert_eq!(phases(&world).0, Phase::Redeemed);
    let now = world.between.now;
    world.between.chain.reorganize(1, now, true);
    world.both_look();
    assert_eq!(phases(&world).0, Phase::Redeeming);
    world.mine_and_look(1);
    assert_eq!(world.end(), flipped(BOTH_SWAPPED));
}

#[test]
fn reorg_of_the_refund() {
    let mut world = World::agreed(Direction::Out);
    world.both_look();
    world.both_look();
    world.mine(DEPTH);
    world.mine_past_refund(2, &[Role::Participant]);
    assert_eq!(phases(&world).1, Phase::Refunded);
    let now = world.between.now;
    world.between.chain.reorganize(2, now, true);
    world.look(Role::Participant);
    assert_eq!(phases(&world).1, Phase::Refunding);
    assert!(matches!(world.between.lightning.receipt, Receipt::Held(_)), "the payment is not given back yet");
    world.mine_past_refund(20, &[Role::Participant]);
    assert_eq!((world.between.lightning.receipt, phases(&world).1), (Receipt::Canceled, Phase::Refunded));
}

#[test]
fn redeem_in_the_last_block() {
    // Alice has shown the secret in time, and no block takes it until the refund height.
    let mut world = World::agreed(Direction::Out);
    world.both_look();
    world.both_look();
    world.mine(DEPTH);
    world.look(Role::Initiator);
    let hash = world.alice.swap.id();
    assert!(world.between.chain.mempool.iter().any(|transaction| extract_secret(transaction, &hash).is_some()));
    let kept = std::mem::take(&mut world.between.chain.mempool);
    let end = refund_height(world.alice.swap.offer());
    while world.between.chain.height() < end - 1 {
        world.mine(1);
    }
    world.between.chain.mempool = kept;
    world.mine(1);
    world.both_look();
    assert_eq!(world.end(), flipped(BOTH_SWAPPED));
}

#[test]
fn fee_spike() {
    let mut world = World::agreed(Direction::Out);
    world.both_look();
    world.both_look();
    world.mine(DEPTH);
    world.between.chain.minimum = 100_000;
    world.alice.estimate = FeeratePerKw(100_000);
    world.both_look();
    world.mine_and_look(margins::CONFIRMATION_BUDGET);
    assert_eq!(world.end(), flipped(BOTH_SWAPPED));
}

#[test]
fn restart_at_each_step() {
    for direction in [Direction::In, Direction::Out] {
        for crash in [Crash::Before, Crash::After] {
            let mut world = World::agreed(direction);
            for _ in 0..40 {
                for role in BOTH {
                    // The first event of its kind is lost in a crash; the next look does it again.
                    let mut events = 0;
                    let (person, between) = world.person(role);
                    person.catch_up(between, &mut || {
                        events += 1;
                        if events % 2 == 0 { crash } else { Crash::Never }
                    });
                    person.restart();
                    world.advance(true);
                    world.look(role);
                }
                world.mine(1);
            }
            let expected = if direction == Direction::In { BOTH_SWAPPED } else { flipped(BOTH_SWAPPED) };
            assert_eq!(world.end(), expected, "{direction:?} {crash:?}");
            assert_eq!((world.between.lightning.begun, world.between.lightning.taken), (1, 1));
        }
    }
}

#[test]
fn what_is_given_up_is_neither_locked_nor_paid() {
    for direction in [Direction::In, Direction::Out] {
        let mut world = World::agreed_with(direction, Travel::Hangs);
        let (bob, between) = world.person(Role::Participant);
        bob.handle(Event::Cancel, between, Crash::Never).unwrap();
        bob.catch_up(between, &mut || Crash::Never);
        assert_eq!(phases(&world).1, Phase::Ended(Outcome::NothingLocked));
        assert_eq!(world.bob.handle(Event::Cancel, &mut world.between, Crash::Never), Err(Refusal::Ended));
        let expected = if direction == Direction::In { Err(Refusal::Locked) } else { Err(Refusal::Paying) };
        world.look(Role::Initiator);
        assert_eq!(world.alice.handle(Event::Cancel, &mut world.between, Crash::Never), expected);
    }
}

#[test]
fn a_lock_that_the_wallet_has_replaced_by_one_that_pays_more_is_the_lock() {
    let mut world = World::agreed(Direction::Out);
    world.both_look();
    world.look(Role::Participant);
    let mut bumped = world.bob.swap.leg().funding.clone().unwrap();
    bumped.output[1].value -= bitcoin::Amount::from_sat(5_000);
    assert!(world.between.chain.submit(&bumped));
    world.mine(margins::REORG_DEPTH + 1);
    world.look(Role::Participant);
    // The payment is not given back while Alice could take the coins.
    assert!(matches!(world.between.lightning.receipt, Receipt::Held(_)), "{:?}", phases(&world));
    assert_eq!(phases(&world).1, Phase::Locked);
    world.mine_and_look(2);
    assert_eq!(world.end(), flipped(BOTH_SWAPPED));
}
