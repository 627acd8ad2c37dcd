//! Bob's disk is set back and he closes: everything is Alice's.

use std::collections::BTreeMap;

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute::LockTime,
    opcodes::all::OP_RETURN, script::Builder, script::PushBytesBuf, transaction::Version,
};
use leyden_channels::{
    keys::ClaimKey,
    onchain::{Closer, FeeEstimates, Role},
    tx::{ClaimRequest, FeeCoin, SecondStage, build_claim},
    types::{CommitmentType, FeeratePerKw, Height, HtlcDirection},
};

use crate::{
    node::{Crash, Rows},
    world::*,
};

/// A revoked state with HTLCs both ways, and Bob's copy of it.
pub struct Revoked {
    pub world: World,
    pub copy: Rows,
    /// Offered by Alice; Bob learnt their preimages later.
    pub offered: Vec<u64>,
    /// When Alice's, and when Bob's, expire.
    pub expiries: (Height, Height),
}

impl Revoked {
    /// `htlcs` each way, all of which have long been settled since.
    pub fn new(kind: CommitmentType, htlcs: u64) -> Self {
        let mut world = World::new(Setup::new(kind));
        world.pay(Alice, 100_000);
        let tip = world.chain.tip().0;
        let expiries = (Height(tip + 60), Height(tip + 12));
        let offered: Vec<u64> = (0..htlcs).map(|index| world.offer(Alice, 8_000 + index, expiries.0)).collect();
        let received: Vec<u64> = (0..htlcs).map(|index| world.offer(Bob, 9_000 + index, expiries.1)).collect();
        let copy = world.copy(Bob);
        for id in &offered {
            world.fulfil(Alice, *id);
        }
        for id in &received {
            world.fail(Bob, *id);
        }
        world.pay(Bob, 300_000);
        Self { world, copy, offered, expiries }
    }

    /// Bob starts with his old copy, cut off, and closes.
    pub fn cheat(&mut self) {
        self.world.cut();
        self.world.put_back(Bob, self.copy.clone());
        self.world.force_close(Bob);
    }

    /// Bob, who has learnt the preimages, uses them on his old commitment.
    pub fn use_preimages(&mut self) {
        for id in self.offered.clone() {
            self.world.learns(Alice, id);
        }
    }
}

fn revoked_outputs(world: &World, wanted: fn(&Role) -> bool) -> usize {
    world[Alice].outputs().filter(|output| wanted(&output.role)).count()
}

fn is_second_stage(role: &Role) -> bool {
    matches!(role, Role::RevokedSecondStage)
}

fn breach(kind: CommitmentType, htlcs: u64) {
    let mut day = Revoked::new(kind, htlcs);
    day.cheat();
    let world = &mut day.world;
    world.mine(1);
    assert!(matches!(world[Alice].closer(), Some(Closer::Revoked { .. })));
    let to_local = world[Alice].outputs().find(|output| output.role == Role::RevokedToLocal).expect("his balance");
    let race = world.chain.spender(&to_local.outpoint).expect("Alice's penalty is in the mempool");
    assert_eq!(race.transaction.input.len(), 1, "the race for to_local goes alone");
    world.mine(2);
    assert!(world[Alice].outputs().all(|output| !output.is_unspent()), "all is claimed within two blocks");
    world.mine_until_resolved(200);
    world.assert_cheater_lost(Bob);
}

#[test]
fn scenario_01_breach_without_htlcs_is_penalised() {
    KINDS.into_iter().for_each(|kind| breach(kind, 0));
}

#[test]
fn scenario_02_breach_with_htlcs_both_ways_is_penalised() {
    for kind in KINDS {
        for htlcs in [1, 6] {
            breach(kind, htlcs);
        }
    }
}

/// Alice is away until Bob has moved all HTLCs on, hers by preimage and his own by timeout, restarted after every event.
#[test]
fn scenario_03_second_stage_published_first_is_penalised() {
    for kind in KINDS {
        let mut day = Revoked::new(kind, 2);
        day.world[Alice].crash = Crash::AfterEveryEvent;
        day.cheat();
        day.world.away.push(Alice);
        day.world.mine(1);
        day.use_preimages();
        let timeouts = day.expiries.1;
        day.world.mine_to(timeouts);
        day.world.mine(2);
        let world = &mut day.world;
        world.away.clear();
        world.look();
        assert_eq!(revoked_outputs(world, is_second_stage), 4, "{kind:?}");
        world.mine_until_resolved(200);
        assert!(world[Alice].restarts > 50, "{}", world[Alice].restarts);
        world.assert_cheater_lost(Bob);
    }
}

/// With anchors the HTLCs of one expiry share a transaction.
#[test]
fn scenario_04_many_second_stages_merged_into_one_are_penalised() {
    for kind in KINDS {
        let mut day = Revoked::new(kind, 3);
        day.cheat();
        day.world.away.push(Alice);
        day.use_preimages();
        day.world.mine(3);
        let world = &mut day.world;
        let commitment = world.commitment().compute_txid();
        let merged =
            |tx: &Transaction| tx.input.iter().filter(|input| input.previous_output.txid == commitment).count();
        let most = world.chain.confirmed(world.opened).iter().map(merged).max();
        assert_eq!(most, Some(if kind == CommitmentType::Anchors { 3 } else { 1 }));
        world.away.clear();
        world.look();
        assert_eq!(revoked_outputs(world, is_second_stage), 3);
        world.mine_until_resolved(200);
        world.assert_cheater_lost(Bob);
    }
}

/// A transaction that a cheater makes by hand: the HTLCs that Alice offered, claimed on his old commitment with their
/// preimages in one transaction, whose change goes to `change`.
fn merged_by_hand(day: &mut Revoked, change: &ScriptBuf, fee: u64) -> Transaction {
    let world = &mut day.world;
    let closing = world[Bob].closing().channel().clone();
    let commitment = closing.local_commitment().expect("his").expect("his");
    let state = closing.local_state.as_ref().expect("his");
    let preimages: BTreeMap<_, _> = day
        .offered
        .iter()
        .map(|id| world.preimage_of(Alice, *id))
        .map(|preimage| (preimage.hash(), preimage))
        .collect();
    let inputs = commitment.htlc_txs().zip(&state.signatures.htlcs);
    let received = inputs.filter(|(htlc, _)| htlc.htlc.direction == HtlcDirection::Received);
    let inputs = received
        .filter_map(|(htlc, signature)| {
            let preimage = *preimages.get(&htlc.htlc.payment_hash)?;
            let key = ClaimKey::Htlc { per_commitment_point: state.per_commitment_point };
            SecondStage::claim(htlc, *signature, Some(preimage), key)
        })
        .collect();
    let id = leyden_channels::onchain::ClaimId(77);
    let node = &world[Bob];
    let coins: Vec<FeeCoin> = node.wallet.clone().set_aside(id, Amount::from_sat(100_000), &world.chain);
    let fee = Amount::from_sat(fee);
    let request = ClaimRequest { inputs, fee_coins: &coins, destination: change, fee, tip: world.chain.tip() };
    let tx = build_claim(request).expect("enough").sign(node.signer.as_ref()).expect("his keys");
    node.wallet.sign(tx, &coins)
}

/// He gives Alice some coins so that his transaction looks like hers.
#[test]
fn scenario_04_merged_second_stages_that_pay_the_victim_too_are_penalised() {
    let mut day = Revoked::new(CommitmentType::Anchors, 3);
    day.cheat();
    day.world.away.push(Alice);
    day.world.mine(1);
    let alices = day.world[Alice].destination.clone();
    let tx = merged_by_hand(&mut day, &alices, 5_000);
    day.world.chain.submit(&tx).expect("a valid transaction");
    day.world.mine(1);
    let world = &mut day.world;
    assert!(world.chain.position(tx.compute_txid()).is_some());
    world.away.clear();
    world.look();
    assert_eq!(revoked_outputs(world, is_second_stage), 3, "they are not taken for her own");
    world.mine_until_resolved(200);
    world.assert_nothing_left();
    // Of his coins, what his transaction paid is gone to her and to the miners.
    let lost: u64 = tx.output.iter().filter(|output| output.script_pubkey == alices).map(|o| o.value.to_sat()).sum();
    assert_eq!(world.gain(Bob), -(lost as i64) - 5_000);
}

/// The cheater's transaction and its large child are in all mempools: Alice cannot replace them, but what they do not
/// hold she takes at once.
#[test]
fn scenario_05_a_pinned_penalty_holds_up_no_other() {
    let mut day = Revoked::new(CommitmentType::Anchors, 4);
    day.cheat();
    day.world.mine(1);
    // What he could move on now goes alone; what he cannot before its expiry goes together.
    let mut sizes: Vec<usize> = day.world.chain.waiting().iter().map(|tx| tx.input.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 1, 1, 1, 1, 4]);

    // In the mempools of the miners his transaction was first; here it replaces hers.
    let one = day.offered[0];
    day.offered = vec![one];
    let bobs = day.world[Bob].wallet.script();
    let pin = merged_by_hand(&mut day, &bobs, 60_000);
    day.world.chain.submit(&pin).expect("it pays more than her penalty");
    let child = large_child(&day, &pin);
    day.world.chain.submit(&child).expect("a child");
    let world = &mut day.world;
    world.chain.censored.insert(pin.compute_txid());
    world.look();
    world.mine(3);
    let pinned = pin.input[0].previous_output;
    assert_eq!(unspent(world), [pinned], "all but the pinned one are hers");
    // In the end it confirms, and what it made of the HTLC is hers too.
    world.chain.censored.clear();
    world.mine_until_resolved(200);
    world.assert_nothing_left();
    let fees = 60_000 + world.chain.fee(&child).to_sat() as i64;
    assert_eq!(world.gain(Bob), -fees);
}

fn unspent(world: &World) -> Vec<OutPoint> {
    world[Alice].outputs().filter(|output| output.is_unspent()).map(|output| output.outpoint).collect()
}

/// 60,000 bytes that pay 1 sat/vB: nothing that a miner hurries for, much to pay for whoever replaces it.
fn large_child(day: &Revoked, parent: &Transaction) -> Transaction {
    let script = day.world[Bob].wallet.script();
    let vout = parent.output.iter().position(|output| output.script_pubkey == script).expect("change");
    let outpoint = OutPoint { txid: parent.compute_txid(), vout: vout as u32 };
    let output = parent.output[vout].clone();
    let data = PushBytesBuf::try_from(vec![0; 60_000]).expect("not too long");
    let script_pubkey = Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script();
    let change = TxOut { value: output.value - Amount::from_sat(61_000), script_pubkey: script };
    let input = TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey }, change],
    };
    let coin = FeeCoin { outpoint, output, witness_weight: bitcoin::Weight::from_wu(107) };
    day.world[Bob].wallet.sign(tx, &[coin])
}

/// Fees keep a common penalty out of the blocks until the cheater can come with his timeouts, and one of these only the
/// miners see.
#[test]
fn scenario_05_a_common_penalty_is_split_before_it_can_be_pinned() {
    for kind in KINDS {
        let mut day = Revoked::new(kind, 3);
        day.world[Alice].estimates = FeeEstimates::flat(FeeratePerKw(253));
        day.cheat();
        let world = &mut day.world;
        world.chain.minimum = 253;
        world.mine(1);
        let group = world.chain.waiting().into_iter().find(|tx| tx.input.len() == 3).expect("a common penalty");
        let pinned = group.input[0].previous_output;
        world.chain.minimum = 20_000;
        world.mine_to(Height(day.expiries.1.0 - 5));
        let inputs = world.chain.waiting().iter().map(|tx| tx.input.len()).max();
        assert_eq!(inputs, Some(1), "{kind:?}");
        world.chain.hidden_conflicts.insert(pinned);
        world.chain.minimum = 253;
        world.mine(3);
        assert_eq!(unspent(world), [pinned], "{kind:?}");
        world.chain.hidden_conflicts.clear();
        world.mine_until_resolved(200);
        world.assert_cheater_lost(Bob);
    }
}

#[test]
fn scenario_06_fee_spike_from_1_to_500_during_a_penalty() {
    for kind in KINDS {
        let mut day = Revoked::new(kind, 2);
        let world = &mut day.world;
        world[Alice].estimates = FeeEstimates::flat(FeeratePerKw(253));
        day.cheat();
        let world = &mut day.world;
        world.mine(1);
        world.chain.minimum = 125_000;
        world.mine(4);
        assert!(world[Alice].outputs().all(|output| output.is_unspent()), "1 sat/vB is not enough any more");
        world[Alice].estimates = FeeEstimates::flat(FeeratePerKw(126_000));
        world.mine(2);
        let to_local = world[Alice].outputs().find(|output| output.role == Role::RevokedToLocal).expect("his balance");
        let spend = to_local.spend.expect("it is worth the highest fee");
        let penalty = world.chain.confirmed(world.opened).into_iter().find(|tx| tx.compute_txid() == spend.txid);
        let penalty = penalty.expect("confirmed");
        assert!(world.chain.fee(&penalty).to_sat() * 4 >= 500 * penalty.weight().to_wu());
        // What is not worth such a fee waits.
        world.chain.minimum = 253;
        world[Alice].estimates = FeeEstimates::flat(FeeratePerKw(253));
        world.mine_until_resolved(200);
        world.assert_cheater_lost(Bob);
    }
}
