//! Both nodes have published their commitments, and only one can get into a block.

use bitcoin::Transaction;
use leyden_channels::{
    onchain::{Closer, FeeEstimates, Role},
    types::{CommitmentType, FeeratePerKw, Height},
};

use crate::world::*;

/// Bob owes Alice an HTLC whose preimage she knows. His commitment stands in the mempool below what miners take, and he is
/// silent.
fn stuck(kind: CommitmentType) -> (World, u64, Height, Transaction) {
    let mut world = World::new(Setup::new(kind));
    let expiry = Height(world.chain.tip().0 + 40);
    let id = world.offer(Bob, 200_000, expiry);
    world.cut();
    world.chain.minimum = 3_000;
    world[Alice].estimates = FeeEstimates::flat(FeeratePerKw(3_000));
    world.away.push(Bob);
    world.force_close(Bob);
    let commitment = world.chain.waiting().into_iter().next().expect("his commitment");
    world.look();
    world.learns(Bob, id);
    (world, id, expiry, commitment)
}

#[test]
fn scenario_20_a_commitment_of_the_peers_below_what_miners_take_is_hurried() {
    for kind in KINDS {
        let (mut world, _, expiry, _) = stuck(kind);
        world.mine(3);
        assert!(matches!(world[Alice].closer(), Some(Closer::Remote { .. })), "{kind:?}");
        world.mine(3);
        assert!(world.chain.tip() < expiry);
        let taken = |role: &Role| matches!(role, Role::RemoteHtlc(_));
        assert!(
            world[Alice].outputs().any(|output| taken(&output.role) && output.spend.is_some_and(|spend| spend.ours))
        );
    }
}

#[test]
fn scenario_20_a_commitment_of_the_peers_that_no_miner_takes_gives_way_to_ours() {
    let (mut world, id, expiry, commitment) = stuck(CommitmentType::Anchors);
    world.chain.censored.insert(commitment.compute_txid());
    while world[Alice].closer().is_none() && world.chain.tip() < expiry {
        world.mine(1);
    }
    assert!(matches!(world[Alice].closer(), Some(Closer::Local(_))), "{:?}", world[Alice].refused);
    world.mine(3);
    assert!(world.chain.tip() < expiry);
    assert!(world[Alice].outputs().any(|output| matches!(output.role, Role::LocalSecondStage(_))));
    assert_eq!(world[Alice].taken_back(id), None);
}
