//! The peer's commitment stands in the mempool and does not get into a block: ours gets its chance.

use bitcoin::Transaction;

use super::{node::mine, *};

/// Bob offers 11, whose preimage Alice knows.
fn owed() -> State {
    State { alice: 500_000, received: vec![(11, 200_000)], ..State::default() }
}

/// Bob's commitment waits below what miners take, with as many descendants as it may have. Alice wants the close.
fn stuck(kind: CommitmentType) -> (Duo, Chain, Node, Transaction) {
    let duo = Duo::new(kind, vec![owed(), owed()]);
    let mut chain = duo.chain();
    chain.minimum = 4_000;
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.crash_every = usize::MAX;
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.handle(Event::Restarted, &mut chain);
    alice.handle(Event::Preimage(preimage(11)), &mut chain);
    let bobs = duo.closing(Side::Remote).signed_local_commitment(&duo.bob).unwrap().unwrap();
    chain.submit(&bobs).unwrap();
    (duo, chain, alice, bobs)
}

#[test]
fn a_commitment_of_the_peers_that_cannot_be_hurried_gives_way_to_ours() {
    let (_, mut chain, mut alice, bobs) = stuck(CommitmentType::Anchors);
    chain.pinned.push(bobs.compute_txid());
    alice.handle(Event::Spent { tx: bobs, height: None }, &mut chain);
    mine(20, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))), "{:?}", alice.resolution.closer());
    assert!(chain.tip.0 < EXPIRY);
    // The HTLC comes home before its expiry.
    assert!(alice.resolution.outputs().any(|output| matches!(output.role, Role::LocalSecondStage(_))));
}

/// Its child pays enough, but no miner has it.
#[test]
fn a_commitment_of_the_peers_that_no_miner_takes_gives_way_to_ours() {
    let (_, mut chain, mut alice, bobs) = stuck(CommitmentType::Anchors);
    chain.censored.push(bobs.compute_txid());
    alice.handle(Event::Spent { tx: bobs, height: None }, &mut chain);
    mine(24, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))), "{:?}", alice.resolution.closer());
    assert!(chain.tip.0 < EXPIRY);
}

#[test]
fn which_commitment_is_tried_survives_restarts() {
    let (_, mut chain, mut alice, bobs) = stuck(CommitmentType::Anchors);
    chain.pinned.push(bobs.compute_txid());
    for _ in 0..24 {
        alice.handle(Event::Restarted, &mut chain);
        if chain.mempool.contains(&bobs) {
            alice.handle(Event::Spent { tx: bobs.clone(), height: None }, &mut chain);
        }
        mine(1, &mut chain, &mut [&mut alice]);
    }
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))), "{:?}", alice.resolution.closer());
}

/// Without anchors, our own balance on it is a handle that needs no coin.
#[test]
fn a_commitment_without_anchors_is_hurried_by_what_it_pays_us() {
    let (_, mut chain, mut alice, bobs) = stuck(CommitmentType::StaticRemoteKey);
    alice.purse = Some(Amount::ZERO);
    alice.handle(Event::Spent { tx: bobs.clone(), height: None }, &mut chain);
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(alice.resolution.closer().is_none());
    mine(2, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Remote { .. })));
}

/// Nothing is at stake: it may wait for a cheap block.
#[test]
fn a_commitment_of_the_peers_that_holds_nothing_urgent_is_left_alone() {
    let state = State { alice: 500_000, ..State::default() };
    let duo = Duo::new(CommitmentType::Anchors, vec![state.clone(), state]);
    let mut chain = duo.chain();
    chain.minimum = 4_000;
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.handle(Event::Restarted, &mut chain);
    let bobs = duo.closing(Side::Remote).signed_local_commitment(&duo.bob).unwrap().unwrap();
    chain.submit(&bobs).unwrap();
    alice.handle(Event::Spent { tx: bobs, height: None }, &mut chain);
    mine(20, &mut chain, &mut [&mut alice]);
    assert_eq!((chain.mempool.len(), alice.broadcasts), (1, 0));
}
