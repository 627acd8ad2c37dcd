//! Breaches with the tower as the only defender: every commitment type, both modes. Own mode takes all there is; blind mode
//! takes what its kits reach, and where it cannot reach the test says so.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use bitcoin::{Amount, OutPoint, Transaction, Witness};
use common::{
    DELAY, Duo, EXPIRY, KINDS, State, cheaters_purse,
    world::{Client, Crash, World, config, secrets_until},
};
use leyden_channels::{
    onchain::FeeEstimates,
    tx::OutputKind,
    types::{CommitmentNumber, CommitmentType, FeeratePerKw, HtlcDirection},
};
use leyden_watchtower::{
    mark::Mark,
    message::{Ask, Backup, BackupBody, Mode, PastHtlc, RefusalCode, TowerMessage},
    receipt::{Audit, Contradiction, convicts, proof_of_possession},
    record::{Key, Table},
    tower::{Event, Notice},
};

const MODES: [Mode; 2] = [Mode::Blind, Mode::Own];

/// State 1 is the one that Bob publishes.
fn states(htlcs: u64) -> Vec<State> {
    let old = State {
        alice: 200_000,
        offered: (1..=htlcs).map(|id| (id, 30_000)).collect(),
        received: (1_001..=1_000 + htlcs).map(|id| (id, 25_000)).collect(),
    };
    vec![State { alice: 900_000, ..State::default() }, old, State { alice: 900_000, ..State::default() }]
}

fn ready(mode: Mode, kind: CommitmentType, htlcs: u64) -> World {
    let mut world = World::new(config(), vec![Client::new(1, mode, Duo::new(1, kind, states(htlcs)))]);
    world.back_up(0, 2);
    world
}

fn every_case(mut test: impl FnMut(Mode, CommitmentType)) {
    for (mode, kind) in MODES.into_iter().flat_map(|mode| KINDS.map(|kind| (mode, kind))) {
        println!("{mode:?} {kind:?}");
        test(mode, kind);
    }
}

fn all_is_home(world: &World) {
    assert_eq!(world.lost(0, 1), Amount::ZERO, "{:#?}", world.chain.unspent().collect::<Vec<_>>());
    assert_eq!(world.chain.balance(&cheaters_purse()), Amount::ZERO);
}

fn breach(world: &World) -> Transaction {
    world.clients[0].duo.breach(1)
}

#[test]
fn a_breach_without_htlcs() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 0);
        let breach = breach(&world);
        world.publish_unseen(&breach);
        world.mine(1);
        // The race for to_local goes alone.
        let racer = world.chain.mempool.iter().find(|tx| tx.input.len() == 1);
        assert!(racer.is_some());
        world.mine(1);
        all_is_home(&world);
    });
}

#[test]
fn a_breach_with_966_htlcs() {
    every_case(|mode, kind| {
        let old = State {
            alice: 70_000,
            offered: (1..=483).map(|id| (id, 900)).collect(),
            received: (1_001..=1_483).map(|id| (id, 1_000)).collect(),
        };
        let mut all = states(0);
        all[1] = old;
        let mut duo = Duo::new(1, kind, all);
        duo.feerate = FeeratePerKw(253);
        let mut world = World::new(config(), vec![Client::new(1, mode, duo)]);
        world.estimates = FeeEstimates::flat(FeeratePerKw(253));
        world.back_up(0, 2);
        let breach = breach(&world);
        world.publish(&breach);
        world.mine(3);
        let spent =
            breach.output.len() - world.chain.unspent().filter(|(one, _)| one.txid == breach.compute_txid()).count();
        let anchors = if kind == CommitmentType::Anchors { 2 } else { 0 };
        let to_remote = usize::from(mode == Mode::Own);
        assert_eq!(spent, breach.output.len() - anchors - to_remote);
    });
}

/// HTBR1a: the tower sees the breach after the cheater's second stages are in blocks.
#[test]
fn second_stages_of_a_cheater_who_was_first() {
    for (mode, kind) in [
        (Mode::Blind, CommitmentType::StaticRemoteKey),
        (Mode::Own, CommitmentType::StaticRemoteKey),
        (Mode::Own, CommitmentType::Anchors),
    ] {
        let mut world = ready(mode, kind, 3);
        let breach = breach(&world);
        world.down = true;
        world.publish(&breach);
        world.mine(1);
        for stage in world.clients[0].duo.second_stages(1, HtlcDirection::Received) {
            world.chain.force(&stage);
        }
        // His own come after their expiry.
        world.mine(EXPIRY + 10 - world.chain.tip.0);
        for mut stage in world.clients[0].duo.second_stages(1, HtlcDirection::Offered) {
            // A timeout's branch may be chosen by what looks like a key.
            let mut items: Vec<Vec<u8>> = stage.input[0].witness.iter().map(<[u8]>::to_vec).collect();
            items[3] = vec![2; 33];
            stage.input[0].witness = Witness::from_slice(&items);
            world.chain.force(&stage);
        }
        world.mine(1);
        world.down = false;
        world.restart();
        world.mine(2);
        all_is_home(&world);
    }
}

#[test]
fn second_stages_merged_into_one() {
    let mut world = ready(Mode::Own, CommitmentType::Anchors, 3);
    let breach = breach(&world);
    world.down = true;
    world.publish(&breach);
    world.mine(1);
    let merged = world.clients[0].duo.merged_second_stage(1, HtlcDirection::Received);
    assert_eq!(merged.input.len(), 3);
    world.chain.force(&merged);
    world.mine(1);
    world.down = false;
    world.restart();
    world.mine(2);
    all_is_home(&world);
}

/// With anchors a blind tower has the first stage alone: what the cheater has moved on is his after the delay, and all else is
/// at home.
#[test]
fn what_a_blind_tower_cannot_reach_is_the_second_stage_of_anchors() {
    let mut world = ready(Mode::Blind, CommitmentType::Anchors, 3);
    let breach = breach(&world);
    world.down = true;
    world.publish_unseen(&breach);
    world.mine(1);
    let stage = world.clients[0].duo.second_stages(1, HtlcDirection::Received).remove(0);
    world.chain.force(&stage);
    world.mine(1);
    world.down = false;
    world.restart();
    world.mine(2);
    assert_eq!(world.lost(0, 1), Amount::from_sat(30_000));
    // A tower that is awake is in the next block, where his second stage can be no earlier.
    let mut world = ready(Mode::Blind, CommitmentType::Anchors, 3);
    world.publish_unseen(&breach);
    world.mine(1);
    let stages = world.clients[0].duo.second_stages(1, HtlcDirection::Received);
    assert!(stages.iter().all(|stage| {
        world.chain.mempool.iter().any(|tx| tx.input[0].previous_output == stage.input[0].previous_output)
    }));
    world.mine(1);
    all_is_home(&world);
}

/// The cheater's second stages wait for one block; the penalties are in the breach's own.
#[test]
fn a_breach_in_the_mempool_is_punished_in_its_block() {
    for kind in KINDS {
        let mut world = ready(Mode::Blind, kind, 3);
        let breach = breach(&world);
        world.publish(&breach);
        assert!(world.has_notice(|notice| matches!(notice, Notice::BreachInMempool { .. })));
        world.mine(1);
        // Nobody hurries for what the cheater cannot take.
        let commitment = world.clients[0].duo.bobs_commitment(1);
        let mut outputs = commitment.outputs();
        let to_remote =
            outputs.find(|(_, _, info)| info.kind == OutputKind::ToRemote).map(|(_, output, _)| output.value);
        assert_eq!(Some(world.lost(0, 1)), to_remote);
        world.restart();
        world.mine(2);
        all_is_home(&world);
    }
}

/// What was sent for a block that another one replaces is sent again for the breach where it is then.
#[test]
fn a_breach_that_leaves_the_mempool_with_its_penalties_is_punished_when_it_is_mined() {
    for kind in KINDS {
        let mut world = ready(Mode::Blind, kind, 3);
        let breach = breach(&world);
        world.publish(&breach);
        world.chain.mempool.clear();
        world.mine(3);
        world.publish_unseen(&breach);
        world.mine(2);
        all_is_home(&world);
    }
}

#[test]
fn a_penalty_whose_input_the_cheater_pins_is_taken_apart() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 4);
        let breach = breach(&world);
        world.publish_unseen(&breach);
        world.mine(1);
        let grouped = world.chain.mempool.iter().map(|tx| tx.input.len()).max().unwrap();
        assert_eq!(grouped, 4, "what he offered himself he cannot move before its expiry");
        // Somebody keeps our claims out of blocks until then, and one of his second stages is in the miners' mempools.
        world.chain.minimum = 1_000_000;
        world.mine(EXPIRY + 6 - world.chain.tip.0);
        let stage = world.clients[0].duo.second_stages(1, HtlcDirection::Offered).remove(0);
        world.publish(&stage);
        world.chain.minimum = 0;
        world.feed(Event::Tip).unwrap();
        world.mine(3);
        all_is_home(&world);
    });
}

#[test]
fn a_fee_spike_during_a_penalty() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 2);
        world.estimates = FeeEstimates::flat(FeeratePerKw(253));
        let breach = breach(&world);
        world.publish_unseen(&breach);
        world.mine(1);
        // From 1 to 500 sat/vB: no estimate follows at first.
        world.chain.minimum = 125_000;
        world.mine(10);
        assert_eq!(world.chain.balance(&world.clients[0].home), Amount::ZERO);
        world.estimates = FeeEstimates::flat(FeeratePerKw(125_000));
        match mode {
            Mode::Own => {
                world.mine(3);
                assert!(world.is_spent(&to_local(&world)), "live fees follow it");
            }
            Mode::Blind => {
                // The slack reaches 10 sat/vB. It is spent by the deadline, and the spike has to end before it.
                world.mine(100);
                assert!(!world.is_spent(&to_local(&world)));
            }
        }
        world.chain.minimum = 2_000;
        world.mine(3);
        assert!(world.is_spent(&to_local(&world)));
        world.chain.minimum = 0;
        world.mine(2);
        all_is_home(&world);
    });
}

fn to_local(world: &World) -> OutPoint {
    let commitment = world.clients[0].duo.bobs_commitment(1);
    let mut outputs = commitment.outputs();
    let (vout, ..) = outputs.find(|(_, _, info)| info.kind == OutputKind::ToLocal).unwrap();
    OutPoint { txid: commitment.txid, vout }
}

#[test]
fn without_an_estimate_the_ramp_alone_reaches_the_needed_rate_before_the_deadline() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 0);
        world.estimates = FeeEstimates::flat(FeeratePerKw(253));
        let breach = breach(&world);
        world.publish(&breach);
        world.mine(1);
        world.chain.minimum = 2_000;
        let mut blocks = 0;
        while !world.is_spent(&to_local(&world)) {
            world.mine(1);
            blocks += 1;
        }
        println!("confirmed {blocks} blocks after the breach, {} broadcasts", world.broadcasts);
        assert!(blocks < u32::from(DELAY));
    });
}

#[test]
fn restarts_at_every_step() {
    every_case(|mode, kind| {
        for crash in [Crash::BeforeCommit, Crash::AfterCommit] {
            let mut world = ready(mode, kind, 3);
            let breach = breach(&world);
            // Before a commit every second one only, or nothing would ever be done.
            let step = if crash == Crash::BeforeCommit { 2 } else { 1 };
            world.crash_at = (world.handled + 1..world.handled + 400).step_by(step).map(|at| (at, crash)).collect();
            world.publish(&breach);
            for _ in 0..6 {
                world.mine(1);
                world.sync();
            }
            world.crash_at.clear();
            assert!(world.crashes >= 3, "{}", world.crashes);
            world.mine(2);
            all_is_home(&world);
        }
    });
}

#[test]
fn a_reorganisation_replaces_the_breach_by_the_honest_state() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 3);
        let fork = world.chain.tip;
        let breach = breach(&world);
        world.publish(&breach);
        world.mine(3);
        all_is_home(&world);
        world.disconnect(fork);
        let honest = world.clients[0].duo.breach(2);
        world.publish(&honest);
        let broadcasts = world.broadcasts;
        world.mine(5);
        assert_eq!(world.broadcasts, broadcasts, "nothing of it is the tower's to claim");
        assert_eq!(world.chain.balance(&world.clients[0].home), Amount::ZERO);
        world.mine(100);
        world.be_idle();
        // An own tower sees that the channel is final; a blind one is told.
        if mode == Mode::Blind {
            world.close_channel(0);
            world.be_idle();
        }
        assert_eq!(world.rows_left(), []);
    });
}

/// A reorganisation removes the penalties and leaves the breach.
#[test]
fn a_reorganisation_that_removes_a_part_of_the_claims() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 3);
        let breach = breach(&world);
        world.publish_unseen(&breach);
        world.mine(1);
        let fork = world.chain.tip;
        world.mine(2);
        all_is_home(&world);
        world.disconnect(fork);
        assert_ne!(world.lost(0, 1), Amount::ZERO);
        world.feed(Event::Tip).unwrap();
        world.mine(2);
        all_is_home(&world);
    });
}

#[test]
fn space_is_given_back_when_a_client_says_that_its_channel_is_final_or_its_term_ends() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 3);
        assert!(world.store.count(Table::Channel) == 1);
        world.close_channel(0);
        world.be_idle();
        assert_eq!(world.rows_left(), []);
        assert_eq!((world.tower.stats().hints, world.tower.stats().bytes), (0, 0));
        // It can come again, under the same name.
        world.clients[0].receipt = None;
        world.back_up(0, 2);
        world.mine(10_001);
        world.be_idle();
        assert_eq!(world.rows_left(), []);
        assert_eq!(world.tower.stats().clients, 0);
    });
}

#[test]
fn an_open_penalty_outlives_its_client_and_its_term() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 3);
        let breach = breach(&world);
        let term = 10_000 + common::START + 1;
        world.mine(term - world.chain.tip.0 - 3);
        world.chain.force(&breach);
        world.mine(1);
        world.close_channel(0);
        world.chain.minimum = 100_000_000;
        world.mine(20);
        assert_ne!(world.rows_left(), []);
        world.chain.minimum = 0;
        world.mine(2);
        all_is_home(&world);
        world.mine(100);
        world.be_idle();
        assert_eq!(world.rows_left(), []);
    });
}

/// In own mode all that a channel ever was can be told; a blind tower begins with the states whose kits can still be made.
#[test]
fn a_channel_that_is_older_than_its_tower() {
    for kind in KINDS {
        let mut world = World::new(config(), vec![Client::new(1, Mode::Own, Duo::new(1, kind, states(3)))]);
        world.connect(0);
        let client = &world.clients[0];
        let (first, last) = (CommitmentNumber(1), Some(CommitmentNumber(1)));
        let past: Vec<PastHtlc> =
            client.duo.states[1].bobs_htlcs().into_iter().map(|htlc| PastHtlc { htlc, first, last }).collect();
        let secrets = secrets_until(&client.duo, 2);
        let backup = |htlcs: &[PastHtlc], more| {
            let body = BackupBody::OwnPast { secrets: secrets.clone(), htlcs: htlcs.to_vec(), more };
            Backup { channel: client.name, number: CommitmentNumber(1), body }.to_messages(Mark::default())
        };
        let (part, whole) = (backup(&past[..3], true), backup(&past, false));
        part.into_iter().for_each(|message| world.send(0, message));
        assert_eq!(world.clients[0].receipt, None, "more is to come");
        // After a restart the first half is sent again.
        world.restart();
        world.connect(0);
        whole.into_iter().for_each(|message| world.send(0, message));
        assert_eq!(world.clients[0].receipt.unwrap().up_to, CommitmentNumber(1));
        let breach = breach(&world);
        world.publish(&breach);
        world.mine(2);
        all_is_home(&world);
    }
    let mut world = World::new(config(), vec![Client::new(1, Mode::Blind, Duo::new(1, KINDS[1], states(3)))]);
    world.connect(0);
    world.back_up_one(0, 1);
    let held = world.clients[0].receipt.unwrap();
    assert_eq!((held.first, held.up_to), (CommitmentNumber(1), CommitmentNumber(1)));
    // A gap is not taken.
    world.back_up_one(0, 1);
    assert!(world.clients[0].refused.is_empty(), "again is acknowledged again");
    let mut backup = world.clients[0].backup(1);
    backup.number = CommitmentNumber(3);
    backup.to_messages(Mark::default()).into_iter().for_each(|message| world.send(0, message));
    assert_eq!(world.clients[0].refused[0].code, RefusalCode::OutOfOrder);
}

#[test]
fn a_secret_that_does_not_fit_the_earlier_ones_is_refused() {
    let mut world = World::new(config(), vec![Client::new(1, Mode::Own, Duo::new(1, KINDS[1], states(0)))]);
    world.back_up(0, 1);
    let secret = world.clients[0].duo.secret(7);
    let body = BackupBody::Own { secret, htlcs: Vec::new() };
    let backup = Backup { channel: world.clients[0].name, number: CommitmentNumber(1), body };
    backup.to_messages(Mark::default()).into_iter().for_each(|message| world.send(0, message));
    assert_eq!(world.clients[0].refused[0].code, RefusalCode::WrongSecret);
    world.back_up(0, 2);
    assert_eq!(world.clients[0].receipt.unwrap().up_to, CommitmentNumber(1));
}

/// A tower that has lost what it signed for is convicted by its own receipt.
#[test]
fn an_audit_reads_what_is_there_and_a_receipt_convicts_who_has_lost_it() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind, 2);
        let (id, channel) = (world.clients[0].id, world.clients[0].name);
        let held = world.clients[0].receipt.unwrap();
        let chain = bitcoin::constants::ChainHash::REGTEST;
        let receipt = world.clients[0].holding();
        let nonce = [5; 32];
        let audit = |world: &mut World| {
            let answers = world.ask(0, Ask::Audit { channel, up_to: held.up_to, nonce });
            let [TowerMessage::Audited(answer)] = answers.as_slice() else { panic!("{answers:?}") };
            let audit = Audit { chain, client: id, channel, nonce, at: answer.at, says: answer.says };
            let key = world.config.key;
            assert!(audit.verify(&answer.signature, &key));
            audit
        };
        assert_eq!(convicts(&receipt, &audit(&mut world), None), None);
        // A backup that came since changes nothing.
        let body = world.clients[0].backup(0).body;
        let possession = |world: &mut World| {
            let answers = world.ask(0, Ask::Possession { channel, number: CommitmentNumber(0), nonce });
            let [TowerMessage::Possession(answer)] = answers.as_slice() else { panic!("{answers:?}") };
            answer.proof
        };
        let shown = match &body {
            BackupBody::Blind { .. } => leyden_watchtower::codec::encode(&body),
            BackupBody::Own { secret, .. } => secret.0.to_vec(),
            BackupBody::OwnPast { .. } => panic!("not the past"),
        };
        assert_eq!(possession(&mut world), Some(proof_of_possession(&nonce, &shown)));
        if mode == Mode::Blind {
            let slot = leyden_watchtower::record::Slot(0);
            let key = |number| Key::Backup { slot, number: CommitmentNumber(number) }.encode();
            let mut damaged = world.store.rows[&key(1)].clone();
            damaged[100] ^= 1;
            world.store.rows.insert(key(1), damaged);
            assert!(matches!(convicts(&receipt, &audit(&mut world), None), Some(Contradiction::HoldsOthers { .. })));
            world.store.rows.remove(&key(1));
            assert!(matches!(convicts(&receipt, &audit(&mut world), None), Some(Contradiction::HoldsLess { .. })));
            world.store.rows.remove(&key(0));
            assert!(matches!(convicts(&receipt, &audit(&mut world), None), Some(Contradiction::HoldsNothing { .. })));
            assert_eq!(possession(&mut world), None);
        }
    });
}

/// What a channel costs an own tower: the room for its states is constant, an HTLC takes a row.
#[test]
fn own_mode_takes_constant_room_for_its_states_and_a_row_an_htlc() {
    let states: Vec<State> = (0..401)
        .map(|number| State { alice: 300_000, offered: vec![(number / 2 + 1, 10_000)], ..State::default() })
        .collect();
    let mut world = World::new(config(), vec![Client::new(1, Mode::Own, Duo::new(1, KINDS[1], states))]);
    world.back_up(0, 400);
    let of = |table: Table| world.store.rows.iter().filter(move |(key, _)| key.starts_with(&table.prefix()));
    let size = |table: Table| of(table).map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let htlcs = of(Table::OwnHtlc).count();
    println!(
        "400 states: {} bytes for the channel, {} for its secrets, {} for each of {htlcs} HTLCs",
        size(Table::Channel) + size(Table::Held),
        size(Table::OwnState),
        size(Table::OwnHtlc) / htlcs,
    );
    assert_eq!(htlcs, 200);
    assert!(size(Table::OwnState) < 6 + 9 * 32 + 64 && size(Table::OwnHtlc) / htlcs < 90);
}
