//! The peer's commitment stands in the mempool and does not get into a block: ours gets its chance.

use bitcoin::Transaction;

use super::{node::mine, *};
use crate::margins::RECEIVED_MARGIN;

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

/// Below what miners take a revoked commitment costs a cheater nothing and would keep us waiting until our HTLC has expired.
#[test]
fn a_revoked_commitment_that_does_not_confirm_keeps_nobody_from_closing_for_an_htlc() {
    let revoked = State { alice: 400_000, ..State::default() };
    let duo = Duo::new(CommitmentType::Anchors, vec![revoked, owed()]);
    let mut chain = duo.chain();
    chain.minimum = 4_000;
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.handle(Event::Restarted, &mut chain);
    alice.handle(Event::Preimage(preimage(11)), &mut chain);
    let expiry = EXPIRY + 11;
    mine(expiry - RECEIVED_MARGIN - 2 - chain.tip.0, &mut chain, &mut [&mut alice]);
    let revoked = duo.closing_at(Side::Remote, 0).signed_local_commitment(&duo.bob).unwrap().unwrap();
    chain.submit(&revoked).unwrap();
    alice.handle(Event::Spent { tx: revoked.clone(), height: None }, &mut chain);
    mine(1, &mut chain, &mut [&mut alice]);
    assert_eq!(chain.mempool, [revoked], "as long as there is time it may confirm, and then everything is ours");
    mine(6, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))), "{:?}", alice.resolution.closer());
    assert!(chain.tip.0 < expiry);
    assert!(alice.resolution.outputs().any(|output| matches!(output.role, Role::LocalSecondStage(_))));
}

/// An old copy of our data: what it would broadcast may be revoked.
#[test]
fn a_commitment_that_we_do_not_know_is_never_pushed_aside() {
    let duo = Duo::new(CommitmentType::Anchors, vec![owed(), owed()]);
    let mut chain = duo.chain();
    chain.minimum = 4_000;
    let mut alice = duo.node(Side::Local, duo.closing_at(Side::Local, 0));
    alice.crash_every = usize::MAX;
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.handle(Event::Restarted, &mut chain);
    alice.handle(Event::Preimage(preimage(11)), &mut chain);
    let bobs = duo.closing(Side::Remote).signed_local_commitment(&duo.bob).unwrap().unwrap();
    chain.submit(&bobs).unwrap();
    alice.handle(Event::Spent { tx: bobs.clone(), height: None }, &mut chain);
    alice.handle(Event::ForceClose, &mut chain);
    mine(60, &mut chain, &mut [&mut alice]);
    assert_eq!((&chain.mempool[..], alice.broadcasts), (&[bobs][..], 0));
}
