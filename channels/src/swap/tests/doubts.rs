//! A chain that is not what it seems: its tip in doubt, a reorganisation while it is read.

use super::{person::Crash, world::*};
use crate::swap::{BlockSeen, Event, Leg, Phase, Refusal, Role, margins};

#[test]
fn a_refund_does_not_wait_until_the_tip_is_beyond_doubt() {
    let mut world = World::both_locked(false);
    world.bob.doubts = true;
    world.pass(margins::INNER_SECONDS + 3 * 3600, |world| world.look(Role::Participant));
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
    // The initiator's, by command, too.
    let mut world = World::agreed(true);
    world.alice.doubts = true;
    world.pass(margins::OUTER_SECONDS + 3 * 3600, |world| world.look(Role::Initiator));
    world.order(Role::Initiator, Event::Refund).unwrap();
    world.mine(Leg::Outer, 1);
    world.look(Role::Initiator);
    assert_eq!(world.alice.swap.phase(), Phase::Refunded);
}

#[test]
fn with_a_doubted_tip_nothing_is_locked_and_no_secret_is_shown() {
    let mut world = World::agreed(false);
    world.bob.doubts = true;
    world.mine(Leg::Outer, DEPTH);
    world.look(Role::Participant);
    assert!(world.bob.swap.leg(Leg::Inner).funding.is_none());
    let mut world = World::both_locked(false);
    world.alice.doubts = true;
    world.mine(Leg::Inner, DEPTH);
    world.look(Role::Initiator);
    assert!(world.alice.swap.shown_secret().is_none());
    // Once it is shown nothing stops the attempt.
    world.alice.doubts = false;
    world.look(Role::Initiator);
    world.alice.doubts = true;
    world.chains.inner.mempool.clear();
    world.look(Role::Initiator);
    assert_eq!(world.chains.inner.mempool.len(), 1);
}

#[test]
fn who_has_been_away_asks_the_mempool_for_the_secret_before_refunding() {
    let mut world = World::both_locked(false);
    world.mine(Leg::Inner, DEPTH);
    world.look(Role::Initiator);
    let redeem = std::mem::take(&mut world.chains.inner.mempool);
    while world.chains.inner.tip().median_time <= world.bob.swap.offer().inner.expiry {
        world.step();
    }
    assert!(redeem.iter().all(|transaction| world.chains.inner.submit(transaction)));
    world.look(Role::Participant);
    assert_eq!(world.bob.swap.leg(Leg::Inner).claim, None, "both spends wait for a block");
}

#[test]
fn a_block_that_is_no_child_of_the_last_is_not_taken() {
    let mut world = World::agreed(false);
    world.mine(Leg::Outer, DEPTH - 1);
    world.look(Role::Participant);
    // Alice's lock leaves the chain between two blocks that are fetched.
    let now = world.chains.now;
    world.chains.outer.mempool.clear();
    world.chains.outer.reorganize(DEPTH - 1, now, true);
    let (bob, chains) = world.person(Role::Participant);
    let height = bob.swap.leg(Leg::Outer).tip.height.0 + 1;
    assert_eq!(height, chains.outer.height());
    let (tip, previous, transactions) = chains.outer.block(height);
    let block = BlockSeen {
        height: tip.height,
        hash: tip.hash,
        previous,
        median_time: tip.median_time,
        transactions: &transactions,
    };
    let refused = bob.handle(Event::Block { leg: Leg::Outer, block }, chains, Crash::Never);
    assert_eq!(refused, Err(Refusal::NoChild(height)));
    for _ in 0..5 {
        world.look(Role::Participant);
        world.mine(Leg::Outer, 1);
        world.mine(Leg::Inner, 1);
    }
    assert!(world.bob.swap.leg(Leg::Outer).lock.is_none_or(|lock| lock.at.is_none()));
    assert!(world.bob.swap.leg(Leg::Inner).funding.is_none(), "ten are locked against a lock that no chain has");
}
