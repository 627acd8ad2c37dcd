//! A data directory that is older than what has happened (a disk's snapshot, a virtual machine put back), or written by an older
//! program: the row knows no lock, the chain does.

use bitcoin::Amount;

use super::{person::Crash, world::*};
use crate::swap::{Leg, LegState, Outcome, Phase, Role, Swap, margins};

impl LegState {
    /// As it was when the wallet had not answered.
    pub fn forget_lock(&mut self) {
        (self.funding, self.refund, self.lock, self.lock_fee) = (None, None, None, None);
    }
}

#[test]
fn a_row_of_before_the_lock_does_not_lock_a_second_time() {
    for role in [Role::Initiator, Role::Participant] {
        let mut world = World::agreed(false);
        if role == Role::Participant {
            world.mine(Leg::Outer, DEPTH);
        }
        let mut old = world.person(role).0.disk.0.clone().unwrap();
        if role == Role::Initiator {
            let mut swap = Swap::restore(&old).unwrap();
            swap.outer.forget_lock();
            old = swap.encode();
        }
        let leg = role.gives();
        world.look(role);
        let began = world.chains.now;
        // In the mempool first, then in a block.
        for in_block in [false, true] {
            world.mine(leg, u32::from(in_block));
            let (person, _) = world.person(role);
            person.disk.0 = Some(old.clone());
            person.restart();
            for _ in 0..3 {
                world.look(role);
                world.mine(leg, 1);
            }
            let (person, chains) = world.person(role);
            let script = person.swap.contract(leg).unwrap().script_pubkey().unwrap();
            let locked = chains.leg(leg).holdings().get(&script).copied().unwrap_or(Amount::ZERO);
            assert_eq!(locked, person.swap.offer().leg(leg).amount, "{role:?}, in a block: {in_block}");
            assert!(person.swap.leg(leg).refund.is_some());
        }
        // Long after it could be locked in time, too: it is found, and comes back.
        world.chains.now = began + margins::OUTER_SECONDS + 3600;
        let (person, _) = world.person(role);
        person.disk.0 = Some(old);
        person.restart();
        for _ in 0..12 {
            world.look(role);
            world.mine(leg, 1);
        }
        world.look(role);
        assert_eq!(world.person(role).0.swap.phase(), Phase::Refunded, "{role:?}");
    }
}

/// A swap whose row is older than its lock, which no block takes before the swap is over for lack of time.
fn over_before_its_lock_comes(role: Role, is_blind: bool) -> World {
    let mut world = World::agreed(false);
    if role == Role::Participant {
        world.mine(Leg::Outer, DEPTH);
    }
    let leg = role.gives();
    let mut old = Swap::restore(world.person(role).0.disk.0.as_ref().unwrap()).unwrap();
    old.leg_mut(leg).forget_lock();
    world.chains.leg_mut(leg).minimum = u64::MAX;
    world.look(role);
    world.chains.now += margins::OUTER_SECONDS + 3600;
    let (person, _) = world.person(role);
    (person.disk.0, person.is_blind) = (Some(old.encode()), is_blind);
    person.restart();
    world.look(role);
    world
}

#[test]
fn a_lock_that_comes_when_its_swap_was_over_comes_back() {
    for role in [Role::Initiator, Role::Participant] {
        let mut world = over_before_its_lock_comes(role, true);
        assert_eq!(world.person(role).0.swap.phase(), Phase::Ended(Outcome::NothingLocked), "{role:?}");
        let leg = role.gives();
        world.chains.leg_mut(leg).minimum = 0;
        for _ in 0..12 {
            world.mine(leg, 1);
            world.look(role);
        }
        assert_eq!(world.person(role).0.swap.phase(), Phase::Refunded, "{role:?}");
    }
}

#[test]
fn a_lock_of_an_ended_swap_that_waits_in_the_mempool_is_known_again() {
    for role in [Role::Initiator, Role::Participant] {
        let mut world = over_before_its_lock_comes(role, false);
        let (person, chains) = world.person(role);
        let state = person.swap.leg(role.gives());
        let script = person.swap.contract(role.gives()).unwrap().script_pubkey().unwrap();
        // The participant's has been called back already: it could only come when it is of use to the other alone.
        let waits = chains.leg(role.gives()).waiting(&script).is_some();
        assert!(waits == (role == Role::Initiator) && state.funding.is_some() && state.refund.is_some(), "{role:?}");
        assert_eq!(person.swap.outcome(), None, "{role:?}");
    }
}

#[test]
fn an_ended_swap_is_followed_for_as_long_as_mempools_keep_its_lock() {
    let mut world = over_before_its_lock_comes(Role::Initiator, true);
    world.chains.now = BEGIN + margins::OUTER_SECONDS + margins::MEMPOOL_SECONDS - 3600;
    world.mine(Leg::Outer, 12);
    world.look(Role::Initiator);
    assert!(world.alice.swap.is_followed());
    world.chains.now += 2 * 3600;
    world.mine(Leg::Outer, 12);
    world.look(Role::Initiator);
    assert!(!world.alice.swap.is_followed() && world.alice.swap.outcome() == Some(Outcome::NothingLocked));
}

#[test]
fn a_lock_that_came_under_another_txid_is_known_and_comes_back() {
    let mut world = World::agreed(false);
    let mut bumped = world.alice.swap.leg(Leg::Outer).funding.clone().unwrap();
    bumped.output[1].value -= Amount::from_sat(5_000);
    assert!(world.chains.outer.submit(&bumped));
    world.mine(Leg::Outer, 1);
    world.look(Role::Initiator);
    let state = world.alice.swap.leg(Leg::Outer);
    assert_eq!(state.lock.unwrap().outpoint.txid, bumped.compute_txid());
    assert_eq!(state.refund.as_ref().unwrap().input[0].previous_output, state.lock.unwrap().outpoint);
    assert_eq!(world.alice.swap.phase(), Phase::Locked);
    world.pass(margins::OUTER_SECONDS + 3 * 3600, |world| world.look(Role::Initiator));
    assert_eq!(world.alice.swap.phase(), Phase::Refunded);
}

#[test]
fn nothing_of_a_branch_stays_that_a_reorganisation_beyond_all_bounds_has_taken_away() {
    let mut world = World::agreed(true);
    world.mine(Leg::Outer, 25);
    world.look(Role::Participant);
    assert!(world.bob.swap.leg(Leg::Outer).lock.unwrap().at.is_some());
    let now = world.chains.now;
    world.chains.outer.reorganize(25, now, true);
    let (bob, chains) = world.person(Role::Participant);
    bob.catch_up(chains, &mut || Crash::Never);
    assert_eq!(world.bob.swap.leg(Leg::Outer).lock.unwrap().at, None);
}

#[test]
fn a_row_of_the_first_format_is_read() {
    let world = World::both_locked(false);
    let row = world.bob.swap.encode();
    // Both legs end with two fields that it did not have: of the outer one they stand before the inner one's tip.
    let inner = &world.bob.swap.leg(Leg::Inner).tip;
    let begin = [inner.height.0.to_be_bytes().as_slice(), &inner.hash].concat();
    let at = row.windows(begin.len()).position(|bytes| bytes == begin).unwrap();
    let mut old = row[..at - 2].to_vec();
    old[0] = 1;
    // The lock's fee is known here, and takes eight bytes more.
    old.extend_from_slice(&row[at..row.len() - 10]);
    let read = Swap::restore(&old).unwrap();
    let mut expected = world.bob.swap.clone();
    expected.inner.lock_fee = None;
    assert_eq!(read.encode(), expected.encode());
}
