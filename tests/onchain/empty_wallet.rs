//! The wallet that has to pay for claims is empty, or loses what it had, while channels with anchors are open.

use bitcoin::{Amount, Transaction};
use leyden_channels::{
    onchain::Closer,
    types::{CommitmentType, Height},
};

use crate::{node::Crash, world::*};

/// What the wallet keeps back for one channel.
const RESERVE: u64 = 10_000;

/// Bob owes Alice an HTLC whose preimage she knows, and is silent. Her wallet holds `left` and nothing else, and her process
/// dies of everything or of nothing.
fn silent_peer(left: u64, crash: Crash) -> (World, u64, Height) {
    let mut world = World::new(Setup::new(CommitmentType::Anchors));
    world.sweep_wallet(Alice, left);
    let expiry = Height(world.chain.tip().0 + 60);
    let id = world.offer(Bob, 200_000, expiry);
    world.cut();
    world[Alice].crash = crash;
    (world, id, expiry)
}

fn close(world: &mut World, id: u64) {
    world.force_close(Alice);
    world.learns(Bob, id);
    world.look();
    world.mine(1);
    assert!(matches!(world[Alice].closer(), Some(Closer::Local(_))));
}

fn came_home(world: &mut World, id: u64) {
    world.mine_until_resolved(200);
    assert_eq!(world[Alice].taken_back(id), None);
    let cost = world.opener_pays(1);
    world.assert_ended(600_000 + 200_000 - cost, 400_000 - 200_000);
}

/// What the wallet lacks is not stored: a process that has just come back knows it once the wallet has answered.
fn says_what_it_lacks(world: &World) -> bool {
    world[Alice].crash != Crash::Never || world[Alice].closing().lacking().is_some()
}

#[test]
fn scenario_18_what_the_wallet_keeps_back_for_a_channel_brings_its_htlcs_home() {
    for crash in Crash::ALL {
        let (mut world, id, _) = silent_peer(RESERVE, crash);
        close(&mut world, id);
        came_home(&mut world, id);
    }
}

#[test]
fn scenario_18_a_wallet_that_was_swept_empty_says_what_it_lacks_and_the_first_coin_brings_the_htlc_home() {
    for crash in Crash::ALL {
        let (mut world, id, expiry) = silent_peer(0, crash);
        close(&mut world, id);
        world.mine(20);
        assert!(says_what_it_lacks(&world));
        // Less than the deadline would like to pay, and enough for a block.
        world.give(Alice, 2_000);
        world.mine(3);
        assert_eq!(world[Alice].closing().lacking(), None);
        assert!(world.chain.tip() < expiry);
        came_home(&mut world, id);
    }
}

#[test]
fn scenario_18_what_a_wallet_without_any_coin_loses_is_told() {
    for crash in Crash::ALL {
        let (mut world, id, expiry) = silent_peer(0, crash);
        close(&mut world, id);
        world.mine_to(Height(expiry.0 + 4));
        assert_eq!(world[Alice].taken_back(id), None, "not before it is deep");
        world.mine_until_resolved(200);
        assert!(world[Alice].taken_back(id).is_some());
        world.assert_ended(600_000 - world.opener_pays(1), 400_000);
    }
}

#[test]
fn scenario_19_a_coin_that_a_wallet_with_the_same_words_spends_is_replaced() {
    for crash in Crash::ALL {
        let (mut world, id, expiry) = silent_peer(RESERVE, crash);
        close(&mut world, id);
        // The claim waits for a block, with the only coin.
        world.chain.minimum = 100_000;
        world.mine(2);
        let wallet = &world[Alice].wallet;
        let takes_it = |tx: &Transaction| tx.input.iter().any(|input| wallet.owns(&input.previous_output));
        let claim = world.chain.waiting().into_iter().find(takes_it).expect("her claim");
        let elsewhere = world[Alice].wallet.spend_like(&claim, &nobody(), Amount::from_sat(8_000), &world.chain);
        world.submit_other(&elsewhere);
        world.chain.minimum = 0;
        world.mine(1);
        world.lost(Alice, RESERVE);
        world.give(Alice, RESERVE);
        world.mine(4);
        assert!(world.chain.tip() < expiry);
        came_home(&mut world, id);
    }
}

/// The first coin of the wallet is in a block that is reorganised away with it, while it pays for a claim.
#[test]
fn scenario_19_a_coin_that_is_reorganised_out_is_replaced() {
    for crash in Crash::ALL {
        let (mut world, id, expiry) = silent_peer(0, crash);
        close(&mut world, id);
        world.mine(2);
        let fork = world.chain.tip();
        let gift = world.give(Alice, RESERVE);
        // Miners want more than its claim pays.
        world.chain.minimum = 50_000;
        world.mine(1);
        // The giver has paid somebody else in the other branch.
        let conflict = world.take_back(&gift);
        world.reorganise(fork, vec![vec![conflict]]);
        world.chain.minimum = 0;
        world.mine(2);
        assert!(says_what_it_lacks(&world), "{:?}", world[Alice].refused);
        world.lost(Alice, RESERVE);
        world.give(Alice, RESERVE);
        world.mine(4);
        assert!(world.chain.tip() < expiry);
        came_home(&mut world, id);
    }
}
