//! Claims that only the wallet can pay for, and a wallet that has little, or loses what it had.

use super::{node::mine, *};

/// Bob offers 11, whose preimage Alice knows.
fn owed() -> State {
    State { alice: 500_000, received: vec![(11, 20_000)], ..State::default() }
}

/// Alice has closed with her own commitment, and can claim 11 as soon as a coin pays for it.
fn closed(purse: u64) -> (Duo, Chain, Node) {
    let duo = Duo::new(CommitmentType::Anchors, vec![owed(), owed()]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.purse = Some(Amount::from_sat(purse));
    alice.handle(Event::ForceClose, &mut chain);
    alice.handle(Event::Preimage(preimage(11)), &mut chain);
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))));
    (duo, chain, alice)
}

fn claimed(alice: &Node) -> bool {
    alice.resolution.outputs().any(|output| matches!(output.role, Role::LocalSecondStage(_)))
}

#[test]
fn a_claim_pays_what_the_coins_that_there_are_can_pay() {
    let (_, mut chain, mut alice) = closed(800);
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(claimed(&alice), "{:#?}", alice.resolution.report(chain.tip, &alice.policy));
}

#[test]
fn a_claim_without_coins_says_what_it_lacks_and_is_made_when_they_come() {
    let (_, mut chain, mut alice) = closed(0);
    alice.crash_every = usize::MAX;
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(!claimed(&alice));
    let lacking = alice.resolution.lacking().unwrap();
    assert!((1_000..3_000).contains(&lacking.to_sat()), "{lacking}");
    alice.purse = Some(Amount::from_sat(10_000));
    mine(2, &mut chain, &mut [&mut alice]);
    assert!(claimed(&alice));
    assert_eq!(alice.resolution.lacking(), None);
}

#[test]
fn a_claim_with_few_coins_pays_more_when_others_come() {
    let (_, mut chain, mut alice) = closed(800);
    chain.minimum = 1_000;
    mine(3, &mut chain, &mut [&mut alice]);
    assert!(!claimed(&alice), "miners want more");
    alice.purse = Some(Amount::from_sat(10_000));
    mine(2, &mut chain, &mut [&mut alice]);
    assert!(claimed(&alice));
}

#[test]
fn a_coin_that_vanishes_is_given_up_and_another_one_pays() {
    let (_, mut chain, mut alice) = closed(5_000);
    let coin = |alice: &Node| alice.coins.values().flatten().map(|coin| coin.outpoint).collect::<Vec<_>>();
    let before = coin(&alice);
    assert_eq!(before.len(), 1);
    chain.remove(&before[0]);
    alice.purse = Some(Amount::from_sat(6_000));
    mine(2, &mut chain, &mut [&mut alice]);
    assert!(claimed(&alice), "{:#?}", alice.resolution.report(chain.tip, &alice.policy));
    assert!(!coin(&alice).contains(&before[0]));
}

/// Another wallet with the same words spends it.
#[test]
fn a_coin_that_is_spent_elsewhere_is_given_up_and_another_one_pays() {
    let (duo, mut chain, mut alice) = closed(5_000);
    let coin = alice.coins.values().flatten().next().unwrap().clone();
    let spend = alice.spend_elsewhere(&coin, destination(Side::Remote), &chain);
    chain.mempool.clear();
    chain.submit(&spend).unwrap();
    alice.purse = Some(Amount::from_sat(6_000));
    mine(3, &mut chain, &mut [&mut alice]);
    assert!(claimed(&alice), "{:#?}", alice.resolution.report(chain.tip, &alice.policy));
    drop(duo);
}

/// The child of our commitment, too.
#[test]
fn a_child_whose_coin_vanishes_gets_another_one() {
    let duo = Duo::new(CommitmentType::Anchors, vec![owed(), owed()]);
    let mut chain = duo.chain();
    chain.minimum = 4_000;
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.purse = Some(Amount::from_sat(20_000));
    alice.handle(Event::ForceClose, &mut chain);
    let coin = alice.coins.values().flatten().next().unwrap().outpoint;
    chain.remove(&coin);
    alice.purse = Some(Amount::from_sat(20_000));
    mine(2, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))));
}

/// Each gets what there is; neither keeps the other waiting, nor asks for ever.
#[test]
fn several_claims_that_lack_coins_ask_once_a_block() {
    let state = State { alice: 500_000, received: vec![(11, 20_000), (12, 20_000), (13, 20_000)], ..State::default() };
    let duo = Duo::new(CommitmentType::Anchors, vec![state.clone(), state]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.crash_every = usize::MAX;
    alice.purse = Some(Amount::ZERO);
    alice.handle(Event::Restarted, &mut chain);
    alice.handle(Event::ForceClose, &mut chain);
    for id in [11, 12, 13] {
        alice.handle(Event::Preimage(preimage(id)), &mut chain);
    }
    mine(3, &mut chain, &mut [&mut alice]);
    let one = alice.resolution.lacking().unwrap().to_sat();
    assert!((3_000..9_000).contains(&one), "{one}");
    alice.purse = Some(Amount::from_sat(900));
    mine(2, &mut chain, &mut [&mut alice]);
    let stage = |output: &&TrackedOutput| matches!(output.role, Role::LocalSecondStage(_));
    let stages = alice.resolution.outputs().filter(stage).count();
    let report = alice.resolution.report(chain.tip, &alice.policy);
    assert_eq!(stages, 1, "{report:#?}");
}

/// Our commitment has confirmed while the process was down: the only coin is for the HTLC, not for a child.
#[test]
fn after_a_restart_nothing_is_pushed_or_paid_for_before_the_chain_was_looked_at() {
    let duo = Duo::new(CommitmentType::Anchors, vec![owed(), owed()]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.crash_every = usize::MAX;
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.purse = Some(Amount::ZERO);
    alice.handle(Event::ForceClose, &mut chain);
    chain.mine();
    let before = alice.broadcasts;

    alice.purse = Some(Amount::from_sat(10_000));
    alice.crash(&mut chain);
    alice.handle(Event::ForceClose, &mut chain);
    alice.handle(Event::Preimage(preimage(11)), &mut chain);
    assert!(alice.coins.values().all(Vec::is_empty), "{:?}", alice.coins);
    assert_eq!(alice.broadcasts, before);

    alice.block(&mut chain);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))));
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(claimed(&alice), "{:#?}", alice.resolution.report(chain.tip, &alice.policy));
}

/// Blocks became dear after it was broadcast, and stayed so for weeks: whoever waits for the HTLC is told, but its claim is
/// in the mempool with the wallet's coin, and pays a second stage when blocks are cheap again.
#[test]
fn a_claim_on_its_way_is_not_forgotten_however_long_it_waits() {
    let state = State { alice: 500_000, offered: vec![(1, 1_400)], received: vec![(11, 1_400)] };
    let duo = Duo::new(CommitmentType::Anchors, vec![state.clone(), state]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.policy.give_up_after = 250;
    alice.estimates = FeeEstimates::flat(FeeratePerKw::FLOOR);
    alice.handle(Event::ForceClose, &mut chain);
    mine(1, &mut chain, &mut [&mut alice]);
    chain.minimum = 2_500;
    alice.handle(Event::Preimage(preimage(11)), &mut chain);
    let expired = EXPIRY + 11 - chain.tip.0;
    mine(expired, &mut chain, &mut [&mut alice]);
    assert!(alice.resolution.claims().values().all(|claim| claim.sent.is_some()));
    alice.estimates = FeeEstimates::flat(FeeratePerKw(2_500));
    mine(300, &mut chain, &mut [&mut alice]);
    assert!(alice.failed(1) && !alice.taken_back(11));
    assert!(!alice.is_resolved(), "{:#?}", alice.resolution.report(chain.tip, &alice.policy));

    chain.minimum = 0;
    alice.estimates = FeeEstimates::flat(FeeratePerKw::FLOOR);
    mine(1 + u32::from(DELAY) + 1 + alice.policy.finality, &mut chain, &mut [&mut alice]);
    let stages = alice.resolution.outputs().filter(|output| matches!(output.role, Role::LocalSecondStage(_)));
    assert_eq!(stages.filter(|stage| !stage.is_unspent()).count(), 2);
    assert!(alice.is_resolved() && !alice.taken_back(11));
}
