//! Honest unilateral closes, without HTLCs and with them both ways, each restarted after every event.

use super::{node::mine, *};
use crate::tx::scripts;

fn plain() -> State {
    State { alice: 600_000, ..State::default() }
}

/// Alice offers 1 and 2, Bob offers 11 and 12; 3 and 13 are dust.
fn with_htlcs() -> State {
    State {
        alice: 500_000,
        offered: vec![(1, 40_000), (2, 30_000), (3, 100)],
        received: vec![(11, 20_000), (12, 25_000), (13, 90)],
    }
}

#[test]
fn our_commitment_pays_us_after_the_delay() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), plain()]);
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        bob.handle(Event::Restarted, &mut chain);
        alice.handle(Event::ForceClose, &mut chain);
        mine(1, &mut chain, &mut [&mut alice, &mut bob]);
        let closed = chain.tip.0;
        assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))));
        assert!(matches!(bob.resolution.closer(), Some(Closer::Remote { .. })));
        mine(2, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(chain.balance(&destination(Side::Remote)) > Amount::from_sat(390_000), "Bob swept to_remote");
        mine(u32::from(DELAY) - 4, &mut chain, &mut [&mut alice, &mut bob]);
        assert_eq!(chain.balance(&destination(Side::Local)), Amount::ZERO);
        // The claim goes out as soon as it can be in the next block, and is.
        mine(2, &mut chain, &mut [&mut alice, &mut bob]);
        assert_eq!(chain.tip.0, closed + u32::from(DELAY));
        assert!(chain.balance(&destination(Side::Local)) > Amount::from_sat(595_000));
        mine(100, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.is_resolved() && bob.is_resolved());
    }
}

#[test]
fn what_is_not_decided_yet_is_not_called_worthless() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), plain()]);
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        bob.handle(Event::Restarted, &mut chain);
        alice.handle(Event::ForceClose, &mut chain);
        let close = chain.mine().remove(0);
        let statuses = |bob: &Node, tip| -> Vec<OutputStatus> {
            bob.resolution.report(tip, &bob.policy).iter().map(|report| report.status).collect()
        };
        let tip = chain.tip;
        bob.crash_every = usize::MAX;
        bob.handle(Event::Spent { tx: close, height: Some(tip) }, &mut chain);
        // Somebody looks between the news of the close and that of the tip, which may be later than the one that counts.
        for seen in [tip, Height(tip.0 + 1)] {
            let before = statuses(&bob, seen);
            assert!(!before.is_empty() && !before.contains(&OutputStatus::Uneconomic), "{before:?}");
        }
        assert!(statuses(&bob, Height(tip.0 + 1)).contains(&OutputStatus::Undecided));
        mine(2, &mut chain, &mut [&mut bob]);
        let after = statuses(&bob, chain.tip);
        assert!(after.iter().all(|status| matches!(status, OutputStatus::Claimed { .. } | OutputStatus::Spent { .. })));
    }
}

#[test]
fn htlcs_both_ways_on_our_commitment_go_to_their_rightful_owners() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), with_htlcs()]);
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        bob.handle(Event::Restarted, &mut chain);
        // Bob knows the preimage of 1, Alice that of 11. 2 and 12 time out.
        bob.handle(Event::Preimage(preimage(1)), &mut chain);
        alice.handle(Event::ForceClose, &mut chain);
        alice.handle(Event::Preimage(preimage(11)), &mut chain);
        mine(4, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.fulfilled(1), "the preimage that Bob used is told at once");
        assert!(bob.fulfilled(11));
        mine(4, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.failed(3) && bob.failed(13), "dust fails when the close is deep enough");
        assert!(!alice.failed(2) && !bob.failed(12));
        let to_expiry = EXPIRY + 12 - chain.tip.0;
        mine(to_expiry + 2, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(!bob.failed(12));
        mine(8, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.failed(2) && bob.failed(12));
        mine(u32::from(DELAY) + 101, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.is_resolved(), "{:#?}", alice.resolution.report(chain.tip, &alice.policy));
        assert!(bob.is_resolved(), "{:#?}", bob.resolution.report(chain.tip, &bob.policy));

        let ends = |node: &Node| {
            node.resolution.incoming_ends().into_iter().map(|(id, ours)| (id.0, ours)).collect::<Vec<_>>()
        };
        assert_eq!(ends(&alice), [(11, true), (12, false), (13, false)]);
        assert_eq!(ends(&bob), [(1, true), (2, false), (3, false)]);

        // Alice: 500,000 less fees, plus 2 and 11. Bob the rest, plus 1 and 12.
        let rewards = [(Side::Local, 500_000 + 30_000 + 20_000), (Side::Remote, 384_810 + 40_000 + 25_000)];
        for ((side, expected), node) in rewards.into_iter().zip([&alice, &bob]) {
            let got = node.gained(&chain);
            let fees = expected - got;
            println!("{kind:?}: {side:?} got {got} of {expected}");
            assert!((0..12_000).contains(&fees), "{fees}");
        }
        assert!(!alice.failed(1) && !bob.failed(11));
    }
}

#[test]
fn a_preimage_in_the_mempool_counts_before_it_is_confirmed() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), with_htlcs()]);
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        bob.handle(Event::Restarted, &mut chain);
        alice.handle(Event::ForceClose, &mut chain);
        mine(2, &mut chain, &mut [&mut alice, &mut bob]);
        bob.handle(Event::Preimage(preimage(2)), &mut chain);
        let shown = chain.mempool.last().unwrap().clone();
        assert!(!alice.fulfilled(2));
        alice.handle(Event::Spent { tx: shown, height: None }, &mut chain);
        assert!(alice.fulfilled(2));
    }
}

/// Only we can go through our second stage; whom a spend pays says nothing of who made it.
#[test]
fn a_spend_of_the_peers_that_pays_our_delayed_script_is_not_taken_for_ours() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), with_htlcs()]);
        let mut chain = duo.chain();
        let channel = duo.closing(Side::Local);
        let delayed = scripts::p2wsh(&channel.local_commitment().unwrap().unwrap().delayed_script);
        let mut alice = duo.node(Side::Local, channel);
        let channel = duo.closing(Side::Remote);
        let mut bob = duo.node(Side::Remote, ClosingChannel { destination: delayed, ..channel });
        bob.handle(Event::Restarted, &mut chain);
        bob.handle(Event::Preimage(preimage(1)), &mut chain);
        alice.handle(Event::ForceClose, &mut chain);
        mine(4, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.fulfilled(1));
        let taken = |output: &&TrackedOutput| matches!(output.role, Role::LocalHtlc(htlc) if htlc.id == HtlcId(1));
        let spend = alice.resolution.outputs().find(taken).unwrap().spend.unwrap();
        assert!(!spend.ours);
        assert!(alice.resolution.outputs().all(|output| output.outpoint.txid != spend.txid));
    }
}

#[test]
fn upstream_is_failed_in_time_even_if_nothing_is_decided() {
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), with_htlcs()]);
    let mut chain = duo.chain();
    let mut channel = duo.closing(Side::Local);
    channel.upstream_expiries.insert(HtlcId(2), CltvExpiry(EXPIRY + 2 + 40));
    let mut alice = duo.node(Side::Local, channel);
    alice.handle(Event::ForceClose, &mut chain);
    mine(1, &mut chain, &mut [&mut alice]);
    // No block takes our HTLC-timeout.
    chain.minimum = u32::MAX;
    let until = EXPIRY + 2 + 40 - 3 - chain.tip.0;
    mine(until - 1, &mut chain, &mut [&mut alice]);
    assert!(!alice.failed(2));
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(alice.failed(2));
}

/// Switched off while the peer took an HTLC with its preimage: the tip alone says nothing before the spends are told.
#[test]
fn what_has_not_been_told_yet_is_not_failed_upstream() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), with_htlcs()]);
        let mut chain = duo.chain();
        let mut channel = duo.closing(Side::Local);
        channel.upstream_expiries.insert(HtlcId(2), CltvExpiry(chain.tip.0 + 2));
        let mut alice = duo.node(Side::Local, channel);
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        bob.handle(Event::ForceClose, &mut chain);
        mine(1, &mut chain, &mut [&mut bob]);
        bob.handle(Event::Preimage(preimage(2)), &mut chain);
        mine(1, &mut chain, &mut [&mut bob]);

        alice.handle(Event::Restarted, &mut chain);
        assert!(!alice.failed(2));
        for (height, block) in chain.blocks.clone() {
            for tx in block {
                alice.handle(Event::Spent { tx, height: Some(Height(height)) }, &mut chain);
            }
        }
        alice.handle(Event::Tip, &mut chain);
        assert!(alice.fulfilled(2) && !alice.failed(2));
    }
}

#[test]
fn a_commitment_with_too_low_a_fee_is_pulled_by_a_child_on_our_anchor() {
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), with_htlcs()]);
    let mut chain = duo.chain();
    chain.minimum = 4_000;
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.handle(Event::ForceClose, &mut chain);
    assert_eq!(chain.mempool.len(), 2, "the commitment and its child");
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Local(_))));
}

#[test]
fn refusals_raise_a_fee_within_its_budget_only() {
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), plain()]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.handle(Event::ForceClose, &mut chain);
    let budget = Amount::from_sat(plain().alice * alice.policy.commitment_budget_percent / 100);
    let mut fee = Amount::ZERO;
    for _ in 0..60 {
        let child = chain.mempool.last().unwrap().clone();
        assert!(chain.fee(&child) >= fee && chain.fee(&child) <= budget, "{} of {budget}", chain.fee(&child));
        fee = chain.fee(&child);
        // Miners want more, or hold something that pays more.
        let cause = Rejection::FeeTooLow;
        alice.handle(Event::Rejected { txid: child.compute_txid(), cause }, &mut chain);
        chain.tip.0 += 1;
        alice.handle(Event::Tip, &mut chain);
    }
    assert!(fee > budget / 2, "{fee}");
}

/// The peer's commitment pays too little for these days, and an HTLC of ours must not wait.
#[test]
fn the_peers_commitment_is_pulled_by_a_child_on_our_anchor() {
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), with_htlcs()]);
    let mut chain = duo.chain();
    chain.minimum = 4_000;
    let mut channel = duo.closing(Side::Local);
    channel.upstream_expiries.insert(HtlcId(2), CltvExpiry(EXPIRY + 40));
    let mut alice = duo.node(Side::Local, channel);
    alice.estimates = FeeEstimates::flat(FeeratePerKw(4_000));
    alice.handle(Event::Restarted, &mut chain);
    let bobs = duo.closing(Side::Remote).signed_local_commitment(&duo.bob).unwrap().unwrap();
    chain.submit(&bobs).unwrap();
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(alice.resolution.closer().is_none());
    alice.crash_every = usize::MAX;
    alice.handle(Event::Spent { tx: bobs, height: None }, &mut chain);
    mine(2, &mut chain, &mut [&mut alice]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::Remote { .. })));
}

/// Which outputs the peer's newer commitment has we cannot know: an HTLC of ours may be among them.
#[test]
fn after_a_loss_of_data_an_outgoing_htlc_is_not_failed_while_the_peer_may_take_it() {
    let duo = Duo::new(CommitmentType::Anchors, vec![with_htlcs(), with_htlcs()]);
    let mut chain = duo.chain();
    let mut channel = duo.closing_at(Side::Local, 0);
    channel.local_state = None;
    channel.upstream_expiries.insert(HtlcId(2), CltvExpiry(EXPIRY + 50));
    let mut alice = duo.node(Side::Local, channel);
    let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
    alice.handle(Event::Restarted, &mut chain);
    bob.handle(Event::ForceClose, &mut chain);
    mine(30, &mut chain, &mut [&mut alice, &mut bob]);
    assert!(matches!(alice.resolution.closer(), Some(Closer::RemoteFuture { .. })));
    assert!(!alice.failed(1) && !alice.failed(2));
    let upstream = EXPIRY + 50 - 3 - chain.tip.0;
    mine(upstream, &mut chain, &mut [&mut alice, &mut bob]);
    assert!(alice.failed(2) && !alice.failed(1));
    mine(100, &mut chain, &mut [&mut alice, &mut bob]);
    assert!(alice.failed(1) && alice.is_resolved());
}

/// Its output stays where it is, but whoever waits for the payment hears of it in the end.
#[test]
fn an_outgoing_htlc_that_is_never_worth_its_claim_is_failed_at_last() {
    let mut state = plain();
    state.offered = vec![(1, 1_400)];
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), state]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.policy.give_up_after = 250;
    alice.estimates = FeeEstimates::flat(FeeratePerKw(2_500));
    alice.handle(Event::ForceClose, &mut chain);
    let until = EXPIRY + 1 + 250 - chain.tip.0;
    mine(until - 1, &mut chain, &mut [&mut alice]);
    assert!(!alice.failed(1) && !alice.is_resolved());
    mine(1, &mut chain, &mut [&mut alice]);
    assert!(alice.failed(1) && alice.is_resolved());
}

/// The second stage alone would be worth it, but not with the coin that has to pay for it.
#[test]
fn an_outgoing_htlc_that_is_not_worth_the_coin_of_its_claim_is_failed_at_last() {
    let mut state = plain();
    state.offered = vec![(1, 500)];
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), state]);
    let mut chain = duo.chain();
    let mut channel = duo.closing(Side::Local);
    channel.local_dust_limit = Amount::from_sat(354);
    let commitment = channel.local_commitment().unwrap().unwrap();
    let state = channel.local_state.clone().unwrap();
    let signatures = commitment.sign(&duo.bob, &channel.funding(), &state.per_commitment_point, &OneThread).unwrap();
    channel.local_state = Some(LocalState { signatures, ..state });
    let mut alice = duo.node(Side::Local, channel);
    alice.policy.give_up_after = 250;
    alice.estimates = FeeEstimates::flat(FeeratePerKw::FLOOR);
    alice.handle(Event::ForceClose, &mut chain);
    let until = EXPIRY + 2 + 250 - chain.tip.0;
    mine(until, &mut chain, &mut [&mut alice]);
    assert!(alice.failed(1) && alice.is_resolved());
}

/// At the rate that its deadline asks for nothing would be left of it that could be paid out.
#[test]
fn a_small_htlc_is_claimed_late_for_what_leaves_an_output() {
    let mut state = plain();
    state.offered = vec![(1, 570)];
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), state]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
    alice.estimates = FeeEstimates::new(vec![(1, FeeratePerKw(1_000)), (144, FeeratePerKw::FLOOR)]);
    alice.handle(Event::Restarted, &mut chain);
    bob.handle(Event::ForceClose, &mut chain);
    mine(2, &mut chain, &mut [&mut alice, &mut bob]);
    // She is away until it is late.
    let until = EXPIRY + 200 - chain.tip.0;
    mine(until, &mut chain, &mut [&mut bob]);
    mine(120, &mut chain, &mut [&mut alice, &mut bob]);
    assert!(alice.failed(1) && alice.is_resolved());
}

#[test]
fn after_a_loss_of_data_our_plain_balance_is_swept_and_nothing_is_broadcast() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), State { alice: 650_000, ..State::default() }]);
        let mut chain = duo.chain();
        let mut channel = duo.closing_at(Side::Local, 0);
        channel.local_state = None;
        let mut alice = duo.node(Side::Local, channel);
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        alice.handle(Event::ForceClose, &mut chain);
        assert!(chain.mempool.is_empty());
        bob.handle(Event::ForceClose, &mut chain);
        mine(3, &mut chain, &mut [&mut alice, &mut bob]);
        assert_eq!(alice.resolution.closer(), Some(&Closer::RemoteFuture { number: CommitmentNumber(1) }));
        assert!(chain.balance(&destination(Side::Local)) > Amount::from_sat(640_000));
    }
}

#[test]
fn a_reorganisation_opens_the_channel_again_and_a_later_close_is_handled_afresh() {
    for kind in KINDS {
        let duo = Duo::new(kind, vec![plain(), with_htlcs()]);
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        bob.handle(Event::Restarted, &mut chain);
        let fork = chain.tip;
        alice.handle(Event::ForceClose, &mut chain);
        mine(5, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.resolution.closer().is_some());
        chain.disconnect(fork);
        for node in [&mut alice, &mut bob] {
            node.handle(Event::Reorganized { to: fork }, &mut chain);
            assert!(node.resolution.closer().is_none() && node.resolution.outputs().next().is_none());
        }
        // This time Bob's commitment comes first.
        chain.mempool.clear();
        bob.handle(Event::ForceClose, &mut chain);
        mine(2, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(matches!(alice.resolution.closer(), Some(Closer::Remote { .. })));
        mine(1, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(chain.balance(&destination(Side::Local)) > Amount::from_sat(490_000));
    }
}

#[test]
fn part_of_a_claim_that_a_reorganisation_removes_is_claimed_again() {
    let duo = Duo::new(CommitmentType::Anchors, vec![plain(), plain()]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
    bob.handle(Event::Restarted, &mut chain);
    alice.handle(Event::ForceClose, &mut chain);
    mine(1, &mut chain, &mut [&mut alice, &mut bob]);
    let fork = chain.tip;
    mine(1, &mut chain, &mut [&mut alice, &mut bob]);
    let swept = chain.balance(&destination(Side::Remote));
    assert!(swept > Amount::ZERO);
    chain.disconnect(fork);
    bob.handle(Event::Reorganized { to: fork }, &mut chain);
    assert_eq!(chain.balance(&destination(Side::Remote)), Amount::ZERO);
    mine(2, &mut chain, &mut [&mut alice, &mut bob]);
    assert_eq!(chain.balance(&destination(Side::Remote)), swept);
}

#[test]
fn two_htlcs_with_the_same_hash_and_amount_are_both_taken_back() {
    for kind in KINDS {
        let mut state = with_htlcs();
        state.offered = vec![(1, 30_000), (51, 30_000)];
        let duo = Duo::new(kind, vec![plain(), state]);
        let mut chain = duo.chain();
        let mut channel = duo.closing(Side::Local);
        // Equal in everything but the id: 1 and 51 share hash and expiry.
        assert_eq!(channel.outgoing().len(), 2);
        let local = channel.local_state.as_mut().unwrap();
        for htlc in &mut local.htlcs {
            if htlc.id == HtlcId(51) {
                htlc.payment_hash = preimage(1).hash();
            }
        }
        let commitment = channel.local_commitment().unwrap().unwrap();
        let point = channel.local_state.as_ref().unwrap().per_commitment_point;
        let signatures = commitment.sign(&duo.bob, &channel.funding(), &point, &OneThread).unwrap();
        channel.local_state.as_mut().unwrap().signatures = signatures;
        let mut alice = duo.node(Side::Local, channel);
        alice.handle(Event::ForceClose, &mut chain);
        let left = EXPIRY + 10 - chain.tip.0;
        mine(left + 10, &mut chain, &mut [&mut alice]);
        assert!(alice.failed(1) && alice.failed(51));
    }
}
