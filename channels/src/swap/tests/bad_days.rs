//! Each bad day of a swap, by its name. Nobody loses coins except by the rules.

use bitcoin::{Amount, Transaction};

use super::{person::Crash, world::*};
use crate::{
    swap::{
        Contract, Event, Expiry, Leg, Outcome, Phase, Refusal, Role,
        contract::{Path, Spend},
        margins,
    },
    types::{FeeratePerKw, UnixTime},
};

const BOTH_SWAPPED: (Holds, Holds) = (Holds { outer: false, inner: true }, Holds { outer: true, inner: false });
const NONE_SWAPPED: (Holds, Holds) = (Holds { outer: true, inner: false }, Holds { outer: false, inner: true });

fn end(world: &World) -> (Holds, Holds) {
    (world.holds(ALICE), world.holds(BOB))
}

#[test]
fn one_coin_for_ten() {
    let mut world = World::both_locked(false);
    world.mine(Leg::Inner, DEPTH);
    world.look(Role::Initiator);
    assert_eq!(world.alice.swap.phase(), Phase::Redeeming);
    // Bob reads the secret where it is first: in the mempool.
    world.look(Role::Participant);
    assert_eq!(world.bob.swap.phase(), Phase::Redeeming);
    world.mine(Leg::Inner, 1);
    world.mine(Leg::Outer, 1);
    world.both_look();
    assert_eq!((world.alice.swap.phase(), world.bob.swap.phase()), (Phase::Redeemed, Phase::Redeemed));
    assert_eq!(end(&world), BOTH_SWAPPED);
    world.mine(Leg::Inner, 100);
    world.mine(Leg::Outer, 100);
    world.both_look();
    let ended = Phase::Ended(Outcome::Swapped);
    assert_eq!((world.alice.swap.phase(), world.bob.swap.phase()), (ended, ended));
}

#[test]
fn one_coin_for_ten_by_hand() {
    let mut world = World::both_locked(true);
    world.mine(Leg::Inner, DEPTH);
    world.both_look();
    assert_eq!(world.alice.swap.phase(), Phase::Redeemable);
    world.order(Role::Initiator, Event::Redeem { secret: None }).unwrap();
    world.mine(Leg::Inner, 1);
    world.both_look();
    assert_eq!(world.bob.swap.phase(), Phase::Redeemable);
    world.order(Role::Participant, Event::Redeem { secret: None }).unwrap();
    world.mine(Leg::Outer, 1);
    world.both_look();
    assert_eq!(end(&world), BOTH_SWAPPED);
    assert_eq!(world.order(Role::Initiator, Event::Refund), Err(Refusal::NothingToRefund));
}

#[test]
fn the_participant_disappears_and_the_initiator_is_refunded_after_48_hours() {
    let mut world = World::agreed(false);
    world.mine(Leg::Outer, 1);
    world.pass(margins::OUTER_SECONDS, |world| world.look(Role::Initiator));
    assert_eq!(world.alice.swap.phase(), Phase::Locked);
    world.pass(margins::OUTER_SECONDS + 3 * 3600, |world| world.look(Role::Initiator));
    assert_eq!(world.alice.swap.phase(), Phase::Refunded);
    assert_eq!(end(&world), NONE_SWAPPED);
}

#[test]
fn the_initiator_disappears_and_the_participant_is_refunded_after_24_hours() {
    let mut world = World::both_locked(false);
    world.pass(margins::INNER_SECONDS + 3 * 3600, |world| world.look(Role::Participant));
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
    assert!(world.bob.swap.shown_secret().is_none() && world.holds(BOB).inner);
}

#[test]
fn both_sides_dead_until_after_expiry() {
    for redeemed in [false, true] {
        let mut world = World::both_locked(false);
        world.mine(Leg::Inner, DEPTH);
        if redeemed {
            // Her redeem is mined, and nobody is there to see it, for as long as the participant's margins allow.
            world.look(Role::Initiator);
            world.mine(Leg::Inner, 1);
            world.pass(margins::OUTER_SECONDS - 3600, |_| {});
        } else {
            world.pass(margins::OUTER_SECONDS + 24 * 3600, |_| {});
        }
        world.alice.restart();
        world.bob.restart();
        world.pass(margins::OUTER_SECONDS + 30 * 3600, World::both_look);
        assert_eq!(end(&world), if redeemed { BOTH_SWAPPED } else { NONE_SWAPPED });
    }
}

#[test]
fn contract_altered() {
    // Bob locks the right amount for the right secret, but takes it back an hour earlier: it is not the contract.
    let mut world = World::agreed(false);
    let contract = world.alice.swap.contract(Leg::Inner).unwrap();
    let earlier = UnixTime(world.bob.swap.offer().inner.expiry.0 - 3600);
    let altered = Contract { expiry: Expiry::Time(earlier), ..contract };
    let fee = Amount::from_sat(500);
    let lock = world.chains.inner.fund(BOB, altered.script_pubkey().unwrap(), TEN, fee).unwrap();
    assert!(world.chains.inner.submit(&lock));
    world.chains.inner.mine(BEGIN);
    world.chains.inner.mine(BEGIN);
    let (alice, chains) = world.person(Role::Initiator);
    alice.catch_up(chains, &mut || Crash::Never);
    assert!(alice.swap.leg(Leg::Inner).lock.is_none() && alice.swap.shown_secret().is_none());
}

#[test]
fn a_lock_of_too_little_is_no_lock() {
    let mut world = World::agreed(false);
    let script = world.alice.swap.contract(Leg::Inner).unwrap().script_pubkey().unwrap();
    let less = Amount::from_sat(TEN.to_sat() - 1);
    let lock = world.chains.inner.fund(BOB, script, less, Amount::from_sat(500)).unwrap();
    assert!(world.chains.inner.submit(&lock));
    for _ in 0..10 {
        world.chains.inner.mine(BEGIN);
    }
    let (alice, chains) = world.person(Role::Initiator);
    alice.catch_up(chains, &mut || Crash::Never);
    assert!(alice.swap.leg(Leg::Inner).lock.is_none() && alice.swap.shown_secret().is_none());
}

#[test]
fn no_secret_is_shown_too_near_the_expiry() {
    let mut world = World::both_locked(false);
    let last = margins::INNER_SECONDS - margins::reveal_seconds(&SOUTH);
    world.pass(last + 300, |world| world.look(Role::Participant));
    world.look(Role::Initiator);
    assert!(world.alice.sent.iter().all(|(leg, _)| *leg == Leg::Outer));
    let by_hand = world.order(Role::Initiator, Event::Redeem { secret: None });
    assert!(matches!(by_hand, Err(Refusal::TooLateToReveal { .. })), "{by_hand:?}");
    world.run_out();
    assert_eq!(end(&world), NONE_SWAPPED);
    // A block before that it would have been.
    let mut world = World::both_locked(false);
    world.pass(last - 900, |world| world.look(Role::Participant));
    world.look(Role::Initiator);
    world.run_out();
    assert_eq!(end(&world), BOTH_SWAPPED);
}

/// What Alice could broadcast at any time.
fn redeem_by_alice(world: &World, fee: u64) -> Transaction {
    let (alice, leg) = (&world.alice, Leg::Inner);
    let lock = world.bob.swap.leg(leg).lock.unwrap();
    let secret = crate::swap::SwapKeys::secret(&alice.keys, &[0x40 + ALICE; 32]);
    let (path, to) = (Path::Redeem(secret), alice.wallet());
    let spend = Spend { outpoint: lock.outpoint, amount: lock.amount, path, to: &to, fee: Amount::from_sat(fee) };
    let key = crate::swap::SwapKeys::key(&alice.keys, &alice.swap.id(), leg);
    alice.swap.contract(leg).unwrap().spend(&spend, &key).unwrap()
}

#[test]
fn redeem_in_the_last_block() {
    // A late initiator shows the secret when the refund is in the mempool already, and pays more.
    let mut world = World::both_locked(false);
    let refunding = |world: &World| world.bob.swap.phase() == Phase::Refunding;
    while !refunding(&world) {
        world.step();
        world.look(Role::Participant);
    }
    let redeem = redeem_by_alice(&world, 100_000);
    assert!(world.chains.inner.submit(&redeem));
    world.look(Role::Participant);
    // Both spends are there: the chain has yet to say whose Bob's lock is.
    assert_eq!(world.bob.swap.leg(Leg::Outer).claim, None);
    world.mine(Leg::Inner, 1);
    world.look(Role::Participant);
    world.mine(Leg::Outer, 1);
    world.look(Role::Participant);
    assert_eq!(end(&world), BOTH_SWAPPED);
}

#[test]
fn refund_in_the_first_block() {
    // Bob's refund is in the first block that may have it; a redeem that comes then is too late, and Bob does not take both.
    let mut world = World::both_locked(false);
    while world.bob.swap.phase() != Phase::Refunded {
        world.step();
        world.look(Role::Participant);
    }
    let chain = &world.chains.inner;
    let taken = world.bob.swap.leg(Leg::Inner).taken.unwrap();
    let expiry = world.alice.swap.offer().inner.expiry;
    assert!(chain.tip_at(taken.at.0 - 1).median_time > expiry && chain.tip_at(taken.at.0 - 2).median_time <= expiry);
    let late = redeem_by_alice(&world, 100_000);
    assert!(!world.chains.inner.submit(&late));
    world.order(Role::Participant, Event::Mempool { leg: Leg::Inner, transaction: &late }).unwrap();
    world.run_out();
    assert_eq!(end(&world), NONE_SWAPPED);
}

#[test]
fn reorg_of_the_lock() {
    for forgetful in [false, true] {
        let mut world = World::agreed(false);
        world.mine(Leg::Outer, DEPTH - 1);
        world.look(Role::Participant);
        let now = world.chains.now;
        world.chains.outer.reorganize(DEPTH - 1, now, forgetful);
        world.look(Role::Participant);
        // It counts from where it stands now: in the first of the new blocks, or in none of them.
        assert_eq!(world.bob.swap.leg(Leg::Inner).funding.is_some(), !forgetful);
        world.look(Role::Initiator);
        world.mine(Leg::Outer, DEPTH);
        world.both_look();
        world.run_out();
        assert_eq!(end(&world), BOTH_SWAPPED);
    }
}

#[test]
fn reorg_of_the_redeem() {
    for forgetful in [false, true] {
        let mut world = World::both_locked(false);
        world.mine(Leg::Inner, DEPTH);
        world.both_look();
        world.mine(Leg::Inner, 2);
        world.mine(Leg::Outer, 2);
        world.both_look();
        assert_eq!(world.alice.swap.phase(), Phase::Redeemed);
        let now = world.chains.now;
        world.chains.inner.reorganize(2, now, forgetful);
        world.chains.outer.reorganize(2, now, forgetful);
        if forgetful {
            let (alice, chains) = world.person(Role::Initiator);
            alice.catch_up(chains, &mut || Crash::Never);
            assert_eq!(world.alice.swap.phase(), Phase::Redeeming);
        }
        world.run_out();
        assert_eq!(end(&world), BOTH_SWAPPED);
    }
}

#[test]
fn reorg_of_the_refund() {
    let mut world = World::both_locked(false);
    let until = margins::INNER_SECONDS + 3 * 3600;
    world.pass(until, |world| world.look(Role::Participant));
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
    let depth = world.bob.swap.leg(Leg::Inner).confirmations(world.bob.swap.leg(Leg::Inner).taken.unwrap().at);
    let now = world.chains.now;
    // A miner has Alice's redeem in its place: Bob takes the one coin.
    world.chains.inner.reorganize(depth, now, true);
    world.chains.inner.mempool.clear();
    let redeem = redeem_by_alice(&world, 100_000);
    assert!(world.chains.inner.submit(&redeem));
    world.mine(Leg::Inner, 1);
    world.look(Role::Participant);
    world.mine(Leg::Outer, 1);
    world.look(Role::Participant);
    assert_eq!(end(&world), BOTH_SWAPPED);
}

#[test]
fn a_lock_whose_coins_somebody_with_the_same_wallet_has_spent_ends_the_swap() {
    let mut world = World::agreed(false);
    // Other coins of hers go to herself in the same block: nothing else would the test's wallet spend.
    world.chains.outer.mempool.clear();
    let rival = world.chains.outer.fund(ALICE, world.bob.wallet(), ONE, Amount::from_sat(700)).unwrap();
    assert!(world.chains.outer.submit(&rival));
    world.mine(Leg::Outer, 100);
    let now = world.chains.now;
    world.chains.outer.reorganize(1, now, true);
    world.look(Role::Initiator);
    // Two blocks in place of the last: 101 lie on it, and it is final.
    assert_eq!(world.alice.swap.phase(), Phase::Ended(Outcome::NothingLocked));
    assert_eq!(world.alice.swap.leg(Leg::Outer).lock.unwrap().at, None);
}

#[test]
fn a_lock_that_no_block_takes_is_called_back_before_it_could_be_a_gift() {
    let mut world = World::both_locked(false);
    // Blocks ask for more than the lock pays, for longer than a swap lasts.
    world.chains.inner.minimum = 20_000;
    let mut was_waiting = false;
    world.pass(margins::INNER_SECONDS - 3600, |world| {
        world.look(Role::Participant);
        was_waiting |= world.bob.swap.phase() == Phase::Locking;
    });
    assert!(was_waiting && world.bob.swap.phase() == Phase::Refunded, "{:?}", world.bob.swap.phase());
    assert_eq!(world.bob.swap.leg(Leg::Inner).lock.unwrap().at, None);
    // What comes then comes too late: Alice has the secret, and nothing to take with it.
    world.chains.inner.minimum = 0;
    world.run_out();
    assert_eq!(end(&world), NONE_SWAPPED);
    assert_eq!(world.bob.swap.phase(), Phase::Ended(Outcome::NothingLocked));
}

#[test]
fn fee_spike() {
    let mut world = World::both_locked(false);
    world.mine(Leg::Inner, DEPTH);
    // Miners take a hundred times what the estimate says: what waits for them pays more near its deadline.
    world.chains.inner.minimum = 50_000;
    world.chains.outer.minimum = 50_000;
    world.look(Role::Initiator);
    let first = world.alice.swap.leg(Leg::Inner).claim.clone().unwrap();
    assert!(first.fee < Amount::from_sat(1_000));
    world.pass(margins::OUTER_SECONDS, World::both_look);
    assert_eq!(end(&world), BOTH_SWAPPED);
    let last = world.alice.swap.leg(Leg::Inner).claim.clone().unwrap();
    let since = |claim: &crate::swap::Claim| claim.ramp.map(|ramp| ramp.since);
    assert!(last.fee > first.fee && since(&last) == since(&first) && since(&last).is_some());
    // An estimate that rises is followed at once.
    let mut world = World::both_locked(false);
    world.mine(Leg::Inner, DEPTH);
    world.look(Role::Initiator);
    world.alice.estimate = FeeratePerKw(50_000);
    world.mine(Leg::Inner, 0);
    world.chains.inner.minimum = 50_000;
    world.mine(Leg::Inner, 1);
    world.look(Role::Initiator);
    world.mine(Leg::Inner, 1);
    world.look(Role::Initiator);
    assert_eq!(world.alice.swap.phase(), Phase::Redeemed);
}

#[test]
fn restart_at_each_step() {
    // Every commit of both is followed, or not, by the end of the process.
    for crash in [Crash::Before, Crash::After] {
        for at in 0..60 {
            let mut world = World::agreed(false);
            let mut left = at;
            let mut next = || {
                left -= 1;
                if left == 0 { crash } else { Crash::Never }
            };
            for _ in 0..12 {
                world.mine(Leg::Outer, 1);
                world.mine(Leg::Inner, 1);
                world.alice.catch_up(&mut world.chains, &mut next);
                world.bob.catch_up(&mut world.chains, &mut next);
                world.check();
            }
            world.pass(3 * 3600, World::both_look);
            assert_eq!(end(&world), BOTH_SWAPPED, "{crash:?} at {at}");
        }
    }
}

#[test]
fn a_lock_that_the_wallet_has_replaced_by_one_that_pays_more_is_the_lock() {
    let mut world = World::agreed(false);
    world.look(Role::Initiator);
    let mut bumped = world.alice.swap.leg(Leg::Outer).funding.clone().unwrap();
    bumped.output[1].value -= Amount::from_sat(5_000);
    assert!(world.chains.outer.submit(&bumped));
    world.mine(Leg::Outer, DEPTH);
    world.look(Role::Initiator);
    assert_eq!(world.alice.swap.phase(), Phase::Locked);
    let refund = world.alice.swap.leg(Leg::Outer).refund.clone().unwrap();
    assert_eq!(refund.input[0].previous_output.txid, bumped.compute_txid());
    world.pass(margins::OUTER_SECONDS + 3 * 3600, |world| world.look(Role::Initiator));
    assert_eq!((world.alice.swap.phase(), end(&world)), (Phase::Refunded, NONE_SWAPPED));
}

#[test]
fn by_hand_a_refund_is_made_before_the_initiator_can_take_both() {
    let mut world = World::both_locked(true);
    world.pass(margins::INNER_SECONDS + 3 * 3600, |world| world.look(Role::Participant));
    assert_eq!(world.bob.swap.phase(), Phase::Refundable);
    world.pass(margins::OUTER_SECONDS, |world| world.look(Role::Participant));
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
}

#[test]
fn a_lock_that_waits_is_called_back_when_the_others_is_gone() {
    let mut world = World::both_locked(false);
    let now = world.chains.now;
    world.chains.outer.mempool.clear();
    world.chains.outer.reorganize(DEPTH, now, true);
    world.chains.outer.mempool.clear();
    let away = world.chains.outer.fund(ALICE, world.alice.wallet(), ONE, Amount::from_sat(700)).unwrap();
    assert!(world.chains.outer.submit(&away));
    world.mine(Leg::Outer, 1);
    world.look(Role::Participant);
    world.mine(Leg::Inner, 1);
    world.look(Role::Participant);
    assert_eq!(world.bob.swap.phase(), Phase::Refunded);
    let redeem = redeem_by_alice(&world, 2_000);
    assert!(!world.chains.inner.submit(&redeem), "Alice takes ten for nothing");
}

#[test]
fn the_usual_depth_withstands_the_reorganisation_that_is_promised() {
    let mut world = World::agreed(false);
    world.bob.swap.depth = margins::DEPTH;
    world.bob.disk.0 = Some(world.bob.swap.encode());
    world.mine(Leg::Outer, margins::REORG_DEPTH);
    world.look(Role::Participant);
    assert!(world.bob.swap.leg(Leg::Inner).funding.is_none());
    world.mine(Leg::Outer, 1);
    world.look(Role::Participant);
    assert!(world.bob.swap.leg(Leg::Inner).funding.is_some());
    let now = world.chains.now;
    world.chains.outer.reorganize(margins::REORG_DEPTH, now, true);
    world.look(Role::Participant);
    assert!(world.bob.swap.leg(Leg::Outer).lock.unwrap().at.is_some());
}

#[test]
fn a_phase_tells_of_no_command_that_is_refused() {
    let mut world = World::both_locked(true);
    world.mine(Leg::Inner, DEPTH);
    world.both_look();
    // Bob has no secret, Alice's is good.
    let phases = |world: &World| (world.alice.swap.phase(), world.bob.swap.phase());
    assert_eq!(phases(&world), (Phase::Redeemable, Phase::Locked));
    world.pass(margins::INNER_SECONDS - 3600, World::both_look);
    assert_eq!(phases(&world), (Phase::Locked, Phase::Locked));
    assert!(world.order(Role::Initiator, Event::Redeem { secret: None }).is_err());
}

#[test]
fn a_secret_that_was_found_elsewhere_redeems() {
    let mut world = World::both_locked(true);
    world.mine(Leg::Inner, 1);
    world.look(Role::Participant);
    let wrong = Some(crate::types::PaymentPreimage([9; 32]));
    assert_eq!(world.order(Role::Participant, Event::Redeem { secret: wrong }), Err(Refusal::WrongSecret));
    let secret = Some(super::person::secret_of(&world.alice));
    world.order(Role::Participant, Event::Redeem { secret }).unwrap();
    world.mine(Leg::Outer, 1);
    world.look(Role::Participant);
    assert_eq!(world.bob.swap.phase(), Phase::Redeemed);
}
