//! A chain that is not what it seems, a data directory that is older than what has happened, and what a recall costs.

use bitcoin::Amount;

use super::{lightning::Travel, world::*};
use crate::swap::{
    Outcome, Role, margins,
    submarine::{Direction, Phase, Receipt, Submarine},
    tests::world::{BOB, PURSE},
};

#[test]
fn a_refund_does_not_wait_until_the_tip_is_beyond_doubt() {
    for (direction, role) in [(Direction::In, Role::Initiator), (Direction::Out, Role::Participant)] {
        let mut world = World::agreed_with(direction, Travel::Arrives(0));
        world.look(Role::Initiator);
        world.look(role);
        world.mine(1);
        world.person(role).0.doubts = true;
        world.mine_past_refund(3, &[role]);
        assert_eq!(world.person(role).0.swap.phase(), Phase::Refunded, "{direction:?}");
    }
}

#[test]
fn with_a_doubted_tip_nothing_is_locked_and_what_is_held_is_taken() {
    let mut world = World::agreed(Direction::Out);
    world.look(Role::Initiator);
    world.bob.doubts = true;
    world.look(Role::Participant);
    assert!(world.bob.swap.leg().funding.is_none());
    world.bob.doubts = false;
    world.look(Role::Participant);
    world.mine(DEPTH);
    world.alice.doubts = true;
    world.look(Role::Initiator);
    assert!(world.alice.swap.shown_secret().is_none());
    world.alice.doubts = false;
    world.look(Role::Initiator);
    world.bob.doubts = true;
    world.look(Role::Participant);
    assert_eq!(world.between.lightning.receipt, Receipt::Settled);
}

/// A swap whose row is older than its lock, which no block takes before the swap is over for lack of blocks.
fn over_before_its_lock_comes(direction: Direction, is_blind: bool) -> World {
    let role = direction.locks();
    let mut world = World::agreed(direction);
    world.look(Role::Initiator);
    let mut old = Submarine::restore(world.person(role).0.disk.0.as_ref().unwrap()).unwrap();
    old.leg.forget_lock();
    world.between.chain.minimum = u64::MAX;
    world.look(role);
    world.mine_past_refund(3, &[]);
    let (person, _) = world.person(role);
    (person.disk.0, person.is_blind) = (Some(old.encode()), is_blind);
    person.restart();
    world.look(role);
    world
}

#[test]
fn a_lock_that_comes_when_its_swap_was_over_comes_back() {
    for direction in [Direction::In, Direction::Out] {
        let role = direction.locks();
        let mut world = over_before_its_lock_comes(direction, true);
        assert_eq!(world.person(role).0.swap.phase(), Phase::Ended(Outcome::NothingLocked), "{direction:?}");
        world.between.chain.minimum = 0;
        for _ in 0..3 {
            world.mine(1);
            world.look(role);
        }
        assert_eq!(world.person(role).0.swap.phase(), Phase::Refunded, "{direction:?}");
    }
}

#[test]
fn a_lock_of_an_ended_swap_that_waits_in_the_mempool_is_known_again() {
    for direction in [Direction::In, Direction::Out] {
        let role = direction.locks();
        let mut world = over_before_its_lock_comes(direction, false);
        let (person, between) = world.person(role);
        let script = person.swap.contract().unwrap().script_pubkey().unwrap();
        // The participant's has been called back already: it could only come when it is of use to the other alone.
        let waits = between.chain.waiting(&script).is_some();
        let state = person.swap.leg();
        assert!(waits == (role == Role::Initiator) && state.funding.is_some() && state.refund.is_some(), "{role:?}");
        assert_eq!(person.swap.outcome(), None, "{role:?}");
    }
}

#[test]
fn a_row_of_before_the_lock_does_not_lock_a_second_time() {
    for direction in [Direction::In, Direction::Out] {
        let role = direction.locks();
        let mut world = World::agreed(direction);
        world.look(Role::Initiator);
        let mut old = world.person(role).0.disk.0.clone().unwrap();
        if role == Role::Initiator {
            let mut swap = Submarine::restore(&old).unwrap();
            swap.leg.forget_lock();
            old = swap.encode();
        }
        world.look(role);
        for in_block in [false, true] {
            world.mine(u32::from(in_block));
            let (person, _) = world.person(role);
            person.disk.0 = Some(old.clone());
            person.restart();
            for _ in 0..3 {
                world.look(role);
                world.mine(1);
            }
            let (person, between) = world.person(role);
            let script = person.swap.contract().unwrap().script_pubkey().unwrap();
            assert_eq!(between.chain.holdings().get(&script).copied(), Some(COINS), "{direction:?} {in_block}");
            assert!(person.swap.leg().refund.is_some());
        }
        // Long after it could be locked in time, too: it is found, and the payment does not go back before the coins.
        world.mine_past_refund(1, &[]);
        let (person, _) = world.person(role);
        person.disk.0 = Some(old);
        person.restart();
        let mut canceled_at = None;
        for _ in 0..12 {
            world.look(role);
            if world.between.lightning.receipt == Receipt::Canceled {
                let leg = world.person(role).0.swap.leg().clone();
                canceled_at.get_or_insert(leg.lock.is_some());
            }
            world.mine(1);
        }
        world.look(role);
        assert_ne!(canceled_at, Some(false), "the payment goes back with a lock that is not looked for");
        assert_eq!(world.person(role).0.swap.phase(), Phase::Refunded, "{direction:?}");
    }
}

#[test]
fn calling_a_lock_back_pays_for_blocks_that_did_not_take_it_and_never_more_than_a_small_share() {
    let mut world = World::agreed(Direction::Out);
    world.look(Role::Initiator);
    world.look(Role::Participant);
    world.between.chain.minimum = u64::MAX / 1_000_000;
    let refund_height = refund_height(world.bob.swap.offer());
    while world.between.chain.height() + margins::redeem_blocks(&NORTH) <= refund_height {
        world.mine(1);
        world.look(Role::Participant);
    }
    let first = world.bob.swap.leg().recall.unwrap();
    for _ in 0..50 {
        world.between.now += 3_600;
        world.look(Role::Participant);
    }
    assert_eq!(world.bob.swap.leg().recall, Some(first), "time alone raises nothing");
    for _ in 0..30 {
        world.mine(1);
        world.look(Role::Participant);
    }
    assert_eq!(world.bob.swap.leg().recall.unwrap().fee, COINS / 20);
}

#[test]
fn a_lock_that_waits_is_called_back_when_the_payment_is_not_held_any_more() {
    let mut world = World::agreed(Direction::Out);
    world.look(Role::Initiator);
    world.look(Role::Participant);
    assert!(world.bob.swap.leg().funding.is_some());
    let tip = world.between.chain.height();
    world.between.lightning.cancel(tip);
    world.look(Role::Participant);
    world.mine(1);
    world.look(Role::Participant);
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
    assert!(world.between.chain.balance(BOB) + Amount::from_sat(3_000) > PURSE);
}
