//! A cheater publishes a revoked state; every satoshi of it ends with the honest node.

use std::collections::BTreeSet;

use bitcoin::{Transaction, Txid, Witness};

use super::{node::mine, *};
use crate::{
    keys::HtlcKey,
    tx::{HtlcSignatures, OutputKind, scripts},
};

fn states(htlcs: u64) -> Vec<State> {
    let old = State {
        alice: 200_000,
        offered: (1..=htlcs).map(|id| (id, 3_000)).collect(),
        received: (1_001..=1_000 + htlcs).map(|id| (id, 2_500)).collect(),
    };
    vec![State { alice: 900_000, ..State::default() }, old, State { alice: 900_000, ..State::default() }]
}

/// Bob's view at state 1, when he was honest.
fn cheater(duo: &Duo) -> (ClosingChannel, Transaction) {
    let channel = duo.closing_at(Side::Remote, 1);
    let tx = channel.signed_local_commitment(&duo.bob).unwrap().unwrap();
    (channel, tx)
}

fn total_fees(chain: &Chain, from: u32) -> Amount {
    chain.blocks.range(from..).flat_map(|(_, txs)| txs).map(|tx| chain.fee(tx)).sum()
}

#[test]
fn every_output_of_a_revoked_state_is_taken() {
    for (kind, htlcs) in KINDS.into_iter().flat_map(|kind| [(kind, 0), (kind, 3)]) {
        let duo = Duo::new(kind, states(htlcs));
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        alice.handle(Event::Restarted, &mut chain);
        let (_, revoked) = cheater(&duo);
        chain.submit(&revoked).unwrap();
        mine(1, &mut chain, &mut [&mut alice]);
        assert!(matches!(alice.resolution.closer(), Some(Closer::Revoked { number: CommitmentNumber(1), .. })));
        // The race for to_local goes alone.
        let to_local = alice.resolution.outputs().find(|output| output.role == Role::RevokedToLocal).unwrap().outpoint;
        let racer =
            chain.mempool.iter().find(|tx| tx.input.iter().any(|input| input.previous_output == to_local)).unwrap();
        assert_eq!(racer.input.len(), 1);
        mine(2, &mut chain, &mut [&mut alice]);
        let anchors = if kind == CommitmentType::Anchors { 660 } else { 0 };
        let got = chain.balance(&destination(Side::Local)).to_sat();
        assert_eq!(
            got + total_fees(&chain, START).to_sat() + anchors,
            CAPACITY.to_sat(),
            "nothing is left to the cheater"
        );
        assert!(got > 980_000, "{got}");
        mine(100, &mut chain, &mut [&mut alice]);
        assert!(alice.is_resolved());
    }
}

#[test]
fn what_a_penalty_has_taken_is_not_told_as_ours() {
    for kind in KINDS {
        let duo = Duo::new(kind, states(3));
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        alice.handle(Event::Restarted, &mut chain);
        // Bob runs on an old copy of his data.
        let mut bob = duo.node(Side::Remote, duo.closing_at(Side::Remote, 1));
        bob.handle(Event::Restarted, &mut chain);
        bob.handle(Event::ForceClose, &mut chain);
        mine(4, &mut chain, &mut [&mut alice, &mut bob]);
        let told: Vec<_> =
            bob.resolution.outputs().filter_map(|output| Some((output.role, output.spend?.ours))).collect();
        assert!(told.contains(&(Role::ToLocal, false)), "{kind:?}: {told:?}");
        assert_eq!(chain.balance(&destination(Side::Remote)), Amount::ZERO);
        mine(110, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(alice.is_resolved() && bob.is_resolved(), "{kind:?}");
    }
}

/// Bob's second stages of the HTLCs that he can spend: with preimages all that Alice offered.
fn second_stages(duo: &Duo, channel: &ClosingChannel, merged: bool) -> Vec<Transaction> {
    let state = channel.local_state.as_ref().unwrap();
    let commitment = channel.local_commitment().unwrap().unwrap();
    let key: HtlcKey = duo.bob.htlc_key(&state.per_commitment_point).unwrap();
    let pairs = commitment.htlc_txs().zip(&state.signatures.htlcs);
    let received = pairs.filter(|(htlc, _)| htlc.htlc.direction == HtlcDirection::Received);
    if !merged {
        return received
            .map(|(htlc, other)| {
                let owner = key.sign(&htlc.sighash_for_owner());
                let preimage = preimage(htlc.htlc.id.0);
                htlc.signed(&HtlcSignatures { owner, other: *other }, Some(&preimage))
            })
            .collect();
    }
    let claims: Vec<_> = received
        .filter_map(|(htlc, other)| {
            let preimage = preimage(htlc.htlc.id.0);
            let key = crate::keys::ClaimKey::Htlc { per_commitment_point: state.per_commitment_point };
            tx::SecondStage::claim(htlc, *other, Some(preimage), key)
        })
        .collect();
    let request = tx::ClaimRequest {
        inputs: claims,
        fee_coins: &[],
        destination: &destination(Side::Remote),
        fee: Amount::ZERO,
        tip: Height(START),
    };
    vec![tx::build_claim(request).unwrap().sign(&duo.bob).unwrap()]
}

#[test]
fn second_stages_of_a_cheater_are_taken_merged_or_not() {
    for (kind, merged) in [(KINDS[0], false), (KINDS[1], false), (KINDS[1], true)] {
        let duo = Duo::new(kind, states(3));
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        alice.handle(Event::Restarted, &mut chain);
        let (channel, revoked) = cheater(&duo);
        chain.submit(&revoked).unwrap();
        // Alice sees the block only after the cheater's second stages are in the next one.
        chain.mine();
        for stage in second_stages(&duo, &channel, merged) {
            chain.submit(&stage).unwrap();
        }
        alice.behind = Some(chain.tip);
        chain.mine();
        alice.block(&mut chain);
        chain.mempool.clear();
        alice.behind = None;
        alice.block(&mut chain);
        let stages = alice.resolution.outputs().filter(|output| output.role == Role::RevokedSecondStage).count();
        assert_eq!(stages, 3);
        mine(2, &mut chain, &mut [&mut alice]);
        let anchors = if kind == CommitmentType::Anchors { 660 } else { 0 };
        let got = chain.balance(&destination(Side::Local)).to_sat();
        let fees = total_fees(&chain, START).to_sat();
        assert_eq!(got + fees + anchors, CAPACITY.to_sat(), "{kind:?} merged {merged}");
        assert_eq!(chain.balance(&destination(Side::Remote)), Amount::ZERO);
    }
}

/// BOLT 3: whatever is not 32 bytes long chooses the timeout's branch of an HTLC that the owner offered, a key's length too,
/// and no signature covers it.
#[test]
fn a_cheaters_timeout_is_no_penalty_whatever_it_chooses_its_branch_with() {
    for (kind, junk) in KINDS.into_iter().flat_map(|kind| [vec![], vec![2; 33], vec![3; 31]].map(|junk| (kind, junk))) {
        let duo = Duo::new(kind, states(3));
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        alice.handle(Event::Restarted, &mut chain);
        let (channel, revoked) = cheater(&duo);
        chain.submit(&revoked).unwrap();
        while chain.tip.0 < EXPIRY + 50 {
            chain.mine();
        }
        alice.behind = Some(chain.tip);
        let state = channel.local_state.as_ref().unwrap();
        let commitment = channel.local_commitment().unwrap().unwrap();
        let key = duo.bob.htlc_key(&state.per_commitment_point).unwrap();
        let pairs = commitment.htlc_txs().zip(&state.signatures.htlcs);
        for (htlc, other) in pairs.filter(|(htlc, _)| htlc.htlc.direction == HtlcDirection::Offered) {
            let owner = key.sign(&htlc.sighash_for_owner());
            let mut stage = htlc.signed(&HtlcSignatures { owner, other: *other }, None);
            let mut items: Vec<Vec<u8>> = stage.input[0].witness.iter().map(<[u8]>::to_vec).collect();
            items[3] = junk.clone();
            stage.input[0].witness = Witness::from_slice(&items);
            chain.submit(&stage).unwrap();
        }
        chain.mine();
        alice.block(&mut chain);
        chain.mempool.clear();
        alice.behind = None;
        alice.block(&mut chain);
        let stages = alice.resolution.outputs().filter(|output| output.role == Role::RevokedSecondStage).count();
        assert_eq!(stages, 3, "{kind:?} {junk:?}");
        mine(2, &mut chain, &mut [&mut alice]);
        let anchors = if kind == CommitmentType::Anchors { 660 } else { 0 };
        let got = chain.balance(&destination(Side::Local)).to_sat();
        let fees = total_fees(&chain, START).to_sat();
        assert_eq!(got + fees + anchors, CAPACITY.to_sat(), "{kind:?} {junk:?}");
    }
}

#[test]
fn a_penalty_is_raised_through_a_fee_spike_until_it_confirms() {
    let duo = Duo::new(CommitmentType::Anchors, states(2));
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.estimates = FeeEstimates::flat(FeeratePerKw(253));
    alice.handle(Event::Restarted, &mut chain);
    chain.submit(&cheater(&duo).1).unwrap();
    mine(1, &mut chain, &mut [&mut alice]);
    // 1 to 500 sat/vB: no estimate follows at first.
    chain.minimum = 125_000;
    mine(10, &mut chain, &mut [&mut alice]);
    assert_eq!(chain.balance(&destination(Side::Local)), Amount::ZERO);
    alice.estimates = FeeEstimates::flat(FeeratePerKw(125_000));
    mine(3, &mut chain, &mut [&mut alice]);
    assert!(chain.balance(&destination(Side::Local)) > Amount::from_sat(600_000));
}

#[test]
fn blocks_that_a_node_only_catches_up_with_raise_no_claim() {
    for kind in KINDS {
        let duo = Duo::new(kind, states(2));
        let mut chain = duo.chain();
        chain.submit(&cheater(&duo).1).unwrap();
        let txs = chain.mine();
        let (begun, newest) = (chain.tip, Height(chain.tip.0 + u32::from(DELAY) / 2));
        let mut resolution = Resolution::begin(duo.closing(Side::Local));
        let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(253)), EnforcementPolicy::default());
        let mut sent = |event, tip, newest| -> BTreeSet<Txid> {
            let ctx = Ctx { tip, newest, estimates: &estimates, policy: &policy, signer: &duo.alice };
            let effects = resolution.handle(event, &ctx).unwrap().effects;
            let txids = effects.into_iter().filter_map(|effect| match effect {
                Effect::Broadcast { tx, .. } => Some(tx.compute_txid()),
                _ => None,
            });
            txids.collect()
        };
        sent(Event::Spent { tx: txs[0].clone(), height: Some(begun) }, begun, newest);
        let htlcs = duo.states[1].htlcs(Side::Remote);
        sent(Event::RevokedHtlcs { number: CommitmentNumber(1), htlcs }, begun, newest);
        let first = sent(Event::Tip, begun, newest);
        assert!(!first.is_empty(), "at once");
        // Blocks may also be told of many at a time.
        for tip in (begun.0 + 1..newest.0 - 5).chain([newest.0]) {
            assert_eq!(sent(Event::Tip, Height(tip), newest), first, "{kind:?} at {tip} of {newest:?}");
        }
        // From there on they climb.
        let climbed = (newest.0 + 1..newest.0 + 20).any(|tip| sent(Event::Tip, Height(tip), Height(tip)) != first);
        assert!(climbed, "{kind:?}");
    }
}

#[test]
fn without_an_estimate_the_ramp_alone_reaches_the_needed_rate_before_the_deadline() {
    let duo = Duo::new(CommitmentType::Anchors, states(0));
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.estimates = FeeEstimates::flat(FeeratePerKw(253));
    alice.handle(Event::Restarted, &mut chain);
    chain.submit(&cheater(&duo).1).unwrap();
    mine(1, &mut chain, &mut [&mut alice]);
    chain.minimum = 60_000;
    let mut blocks = 0;
    let racing = |node: &Node| {
        node.resolution.outputs().any(|output| output.role == Role::RevokedToLocal && output.is_unspent())
    };
    while racing(&alice) {
        mine(1, &mut chain, &mut [&mut alice]);
        blocks += 1;
    }
    println!("confirmed {blocks} blocks after the breach, {} broadcasts", alice.broadcasts);
    assert!(blocks < u32::from(DELAY));
}

#[test]
fn a_claim_whose_input_the_cheater_contests_is_taken_apart() {
    let duo = Duo::new(CommitmentType::Anchors, states(4));
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    alice.handle(Event::Restarted, &mut chain);
    let (channel, revoked) = cheater(&duo);
    chain.submit(&revoked).unwrap();
    mine(1, &mut chain, &mut [&mut alice]);
    let grouped = chain.mempool.iter().map(|tx| tx.input.len()).max().unwrap();
    assert_eq!(grouped, 4);
    // The cheater's second stage of one HTLC is in the miners' mempools; ours cannot replace it there.
    let stage = second_stages(&duo, &channel, false).remove(0);
    chain.mempool.retain(|tx| tx.input.iter().all(|input| input.previous_output != stage.input[0].previous_output));
    chain.mempool.push(stage.clone());
    alice.handle(Event::Spent { tx: stage.clone(), height: None }, &mut chain);
    alice.handle(Event::Tip, &mut chain);
    mine(1, &mut chain, &mut [&mut alice]);
    mine(2, &mut chain, &mut [&mut alice]);
    let got = chain.balance(&destination(Side::Local)).to_sat();
    assert_eq!(got + total_fees(&chain, START).to_sat() + 660, CAPACITY.to_sat());
}

#[test]
fn a_reorganisation_that_replaces_the_breach_by_the_honest_state_is_followed() {
    for kind in KINDS {
        let duo = Duo::new(kind, states(2));
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        alice.handle(Event::Restarted, &mut chain);
        let fork = chain.tip;
        chain.submit(&cheater(&duo).1).unwrap();
        mine(3, &mut chain, &mut [&mut alice]);
        assert!(chain.balance(&destination(Side::Local)) > Amount::from_sat(900_000));
        chain.disconnect(fork);
        alice.handle(Event::Reorganized { to: fork }, &mut chain);
        let honest = duo.closing(Side::Remote).signed_local_commitment(&duo.bob).unwrap().unwrap();
        chain.mempool.clear();
        chain.submit(&honest).unwrap();
        mine(3, &mut chain, &mut [&mut alice]);
        assert!(matches!(alice.resolution.closer(), Some(Closer::Remote { .. })));
        let got = chain.balance(&destination(Side::Local)).to_sat();
        assert!((890_000..=900_000).contains(&got), "{got}");
    }
}

#[test]
fn a_breach_with_966_htlcs_is_penalised_completely() {
    for kind in KINDS {
        let old = State {
            alice: 20_000,
            offered: (1..=483).map(|id| (id, 900)).collect(),
            received: (1_001..=1_483).map(|id| (id, 1_000)).collect(),
        };
        let mut all = states(0);
        all[1] = old;
        let mut duo = Duo::new(kind, all);
        duo.states[1].alice = 20_000;
        let mut channel = duo.closing_at(Side::Remote, 1);
        // Trimming at the HTLC fee of 1000 sat/kw would take them all without anchors.
        let feerate = FeeratePerKw(253);
        let local = channel.local_state.as_mut().unwrap();
        local.feerate = feerate;
        let revoked = channel.local_commitment().unwrap().unwrap();
        assert!(revoked.htlc_count() >= 483, "{}", revoked.htlc_count());
        let funding = channel.funding();
        let sighash = revoked.sighash(&funding);
        let signatures = tx::FundingSignatures {
            local: duo.bob.sign_funding_input(&sighash),
            remote: duo.alice.sign_funding_input(&sighash),
        };
        let mut chain = duo.chain();
        chain.submit(&revoked.signed(&funding, &signatures)).unwrap();
        let txs = chain.mine();
        let channel = duo.closing(Side::Local);
        let mut resolution = Resolution::begin(channel);
        let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(253)), EnforcementPolicy::default());
        let ctx = Ctx { tip: chain.tip, newest: chain.tip, estimates: &estimates, policy: &policy, signer: &duo.alice };
        let start = std::time::Instant::now();
        let _ = resolution.handle(Event::Spent { tx: txs[0].clone(), height: Some(chain.tip) }, &ctx).unwrap();
        let _ = resolution.handle(Event::Tip, &ctx).unwrap();
        let htlcs = duo.states[1].htlcs(Side::Remote);
        let loaded = Event::RevokedHtlcs { number: CommitmentNumber(1), htlcs };
        let effects = resolution.handle(loaded, &ctx).unwrap().effects;
        let record = resolution.encode();
        let took = start.elapsed();
        let penalties: Vec<Transaction> = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Broadcast { tx, .. } => Some(tx),
                _ => None,
            })
            .collect();
        for penalty in &penalties {
            chain.submit(penalty).unwrap();
        }
        let inputs: usize = penalties.iter().map(|tx| tx.input.len()).sum();
        let size: usize = penalties.iter().map(bitcoin::Transaction::vsize).sum();
        println!(
            "{kind:?}: {} HTLC outputs, {} penalties with {inputs} inputs, {size} vbytes, {} ms, record {} bytes",
            revoked.htlc_count(),
            penalties.len(),
            took.as_millis(),
            record.len(),
        );
        let claimable = revoked.outputs.iter().filter(|output| match output.kind {
            OutputKind::Htlc(_) | OutputKind::ToLocal | OutputKind::ToRemote => true,
            OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => false,
        });
        assert_eq!(inputs, claimable.count());
        assert!(took.as_secs() < 2);
        let _ = scripts::p2wsh(&revoked.delayed_script);
    }
}
