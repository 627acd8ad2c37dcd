//! Bad input and bad days: each line of the list is a test.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use bitcoin::Amount;
use common::{
    DELAY, Duo, KINDS, State, cheaters_purse,
    world::{Client, World, client_id, config},
};
use leyden_channels::{
    onchain::FeeEstimates,
    types::{CommitmentNumber, CommitmentType, FeeratePerKw, Height, HtlcDirection, Uptime},
};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, ClientId, FundingIndex},
    codec::ReadError,
    hint::Hint,
    mark::Mark,
    message::{
        Ask, Backup, BackupBody, Has, Hello, Mode, OpenChannel, PROTOCOL_VERSION, RefusalCode, Register, TowerFeatures,
        TowerMessage,
    },
    record::{Key, Slot, Table},
    tower::{Ctx, Event, Notice, Tower, TowerError},
};

const MODES: [Mode; 2] = [Mode::Blind, Mode::Own];

/// The state with the HTLCs, 1, is the one that Bob would like to have back.
fn states() -> Vec<State> {
    let old = State {
        alice: 200_000,
        offered: (1..=3).map(|id| (id, 30_000)).collect(),
        received: (1_001..=1_003).map(|id| (id, 25_000)).collect(),
    };
    vec![State { alice: 900_000, ..State::default() }, old, State { alice: 900_000, ..State::default() }]
}

fn client(number: u32, mode: Mode, kind: CommitmentType) -> Client {
    Client::new(number, mode, Duo::new(number, kind, states()))
}

/// A tower that holds both revoked states of one client.
fn ready(mode: Mode, kind: CommitmentType) -> World {
    let mut world = World::new(config(), vec![client(1, mode, kind)]);
    world.back_up(0, 2);
    world
}

fn is_breach(notice: &Notice) -> bool {
    matches!(notice, Notice::Breach { .. })
}

/// Bob has nothing, and everything but fees is at home.
fn all_is_home(world: &World, at: usize) {
    assert_eq!(world.lost(at, 1), Amount::ZERO, "{:#?}", world.chain.unspent().collect::<Vec<_>>());
    assert_eq!(world.chain.balance(&cheaters_purse()), Amount::ZERO);
}

fn every_case(mut test: impl FnMut(Mode, CommitmentType)) {
    for (mode, kind) in MODES.into_iter().flat_map(|mode| KINDS.map(|kind| (mode, kind))) {
        println!("{mode:?} {kind:?}");
        test(mode, kind);
    }
}

/// The good day that all others are held against.
#[test]
fn a_breach_is_punished_and_its_room_given_back_when_that_is_final() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let breach = world.clients[0].duo.breach(1);
        world.publish_unseen(&breach);
        world.mine(1);
        assert!(world.has_notice(is_breach));
        world.mine(1);
        all_is_home(&world, 0);
        world.mine(98);
        assert!(!world.has_notice(|notice| matches!(notice, Notice::Punished { .. })), "99 blocks are not final");
        world.mine(1);
        assert!(world.has_notice(|notice| matches!(notice, Notice::Punished { .. })));
        world.be_idle();
        assert_eq!(world.rows_left(), []);
        assert_eq!(world.tower.stats().hints, 0);
    });
}

#[test]
fn garbage_blobs_under_a_real_hint() {
    let mut world = ready(Mode::Blind, CommitmentType::Anchors);
    let breach = world.clients[0].duo.breach(1);
    let hint = Hint::from(&breach.compute_txid());
    world.clients.push(client(2, Mode::Blind, CommitmentType::Anchors));
    world.connect(1);
    let channel = world.clients[1].name;
    for (number, sealed) in (0..).zip([vec![], vec![0; 15], vec![7; 194], vec![9; 100_000]]) {
        let backup = Backup { channel, number: CommitmentNumber(number), body: BackupBody::Blind { hint, sealed } };
        backup.to_messages(Mark::default()).into_iter().for_each(|message| world.send(1, message));
    }
    assert_eq!(world.clients[1].receipt.unwrap().up_to, CommitmentNumber(3));
    world.publish(&breach);
    world.mine(2);
    let useless = world.notices.iter().filter(|notice| matches!(notice, Notice::Useless { .. })).count();
    assert_eq!(useless, 4);
    all_is_home(&world, 0);
}

/// A stranger without a channel, who says what it likes.
struct Stranger {
    id: ClientId,
    channel: ChannelName,
}

impl Stranger {
    fn new(number: u32) -> Self {
        let channel = ChannelName { tag: ChannelTag([1; 16]), funding: FundingIndex(0) };
        Self { id: client_id(1_000_000 + number), channel }
    }

    fn says(&self, world: &mut World, message: impl Into<TowerMessage>) {
        world.feed(Event::Message(self.id, message.into())).unwrap();
    }

    fn registers(&self, world: &mut World) {
        world.feed(Event::Connected(self.id)).unwrap();
        let chain = bitcoin::constants::ChainHash::REGTEST;
        self.says(world, Hello { version: PROTOCOL_VERSION, chain, features: TowerFeatures::default() });
        let sweep_feerate = FeeratePerKw(2_500);
        self.says(world, Register { mode: Mode::Blind, sweep_feerate, term: 1_000 });
    }
}

#[test]
fn ten_thousand_blobs_on_one_hint() {
    let mut config = config();
    config.limits.registrations_per_minute = 1_000;
    let mut world = World::new(config, vec![client(1, Mode::Blind, CommitmentType::StaticRemoteKey)]);
    world.back_up(0, 2);
    let breach = world.clients[0].duo.breach(1);
    let hint = Hint::from(&breach.compute_txid());
    for stranger in (0..500).map(Stranger::new) {
        stranger.registers(&mut world);
        stranger.says(&mut world, OpenChannel { channel: stranger.channel, constants: vec![1; 200] });
        for number in (0..20).map(CommitmentNumber) {
            let body = BackupBody::Blind { hint, sealed: vec![number.0 as u8; 194] };
            let backup = Backup { channel: stranger.channel, number, body };
            backup.to_messages(Mark::default()).into_iter().for_each(|message| stranger.says(&mut world, message));
        }
    }
    assert_eq!(world.store.count(Table::Hint), 10_002);
    world.publish(&breach);
    world.mine(1);
    // Of each client no more are opened than an honest one could have.
    let useless = world.notices.iter().filter(|notice| matches!(notice, Notice::Useless { .. })).count();
    assert_eq!(useless, 500 * config_limit());
    world.mine(1);
    all_is_home(&world, 0);
}

/// Each has the breach's block looked at again, and must not have everything opened again.
#[test]
fn blobs_on_the_hint_of_a_breach_that_is_mined_are_opened_once() {
    let mut world = World::new(config(), vec![client(1, Mode::Blind, CommitmentType::Anchors)]);
    world.back_up(0, 2);
    let breach = world.clients[0].duo.breach(1);
    world.publish(&breach);
    world.mine(1);
    let stranger = Stranger::new(1);
    stranger.registers(&mut world);
    stranger.says(&mut world, OpenChannel { channel: stranger.channel, constants: vec![1; 200] });
    for number in (0..20).map(CommitmentNumber) {
        let body = BackupBody::Blind { hint: Hint::from(&breach.compute_txid()), sealed: vec![number.0 as u8; 194] };
        let backup = Backup { channel: stranger.channel, number, body };
        backup.to_messages(Mark::default()).into_iter().for_each(|message| stranger.says(&mut world, message));
        world.be_idle();
    }
    let useless = world.notices.iter().filter(|notice| matches!(notice, Notice::Useless { .. })).count();
    assert_eq!(useless, config_limit());
    world.mine(2);
    all_is_home(&world, 0);
}

fn config_limit() -> usize {
    config().limits.backups_per_hint
}

#[test]
fn a_client_that_floods() {
    let mut config = config();
    config.limits.messages_per_second = 10;
    config.limits.messages_at_once = 50;
    config.limits.states = 40;
    let mut world = World::new(config, vec![client(1, Mode::Blind, CommitmentType::Anchors)]);
    world.back_up(0, 2);
    let stranger = Stranger::new(1);
    stranger.registers(&mut world);
    stranger.says(&mut world, OpenChannel { channel: stranger.channel, constants: vec![1; 200] });
    let backup = |number| {
        let body = BackupBody::Blind { hint: Hint([3; 8]), sealed: vec![5; 194] };
        let backup = Backup { channel: stranger.channel, number: CommitmentNumber(number), body };
        backup.to_messages(Mark::default()).remove(0)
    };
    // Faster than it may: the connection ends.
    (0..100).for_each(|number| stranger.says(&mut world, backup(number)));
    let held = world.tower.held(&stranger.id, &stranger.channel).unwrap();
    assert!(held.up_to.0 < 50, "{held:?}");
    // Slowly it gets as far as its quota.
    world.now = Uptime(world.now.0 + 60_000);
    stranger.registers(&mut world);
    (held.up_to.0 + 1..45).for_each(|number| stranger.says(&mut world, backup(number)));
    let (_, _, used) = world.tower.clients().find(|(client, ..)| **client == stranger.id).unwrap();
    assert_eq!(used.states, 40);
    // The others are served.
    let breach = world.clients[0].duo.breach(1);
    world.publish(&breach);
    world.mine(2);
    all_is_home(&world, 0);
}

#[test]
fn a_stranger_who_opens_sessions_without_end() {
    let mut config = config();
    config.limits.clients = 100;
    let friend = client(1, Mode::Blind, CommitmentType::Anchors);
    config.admission.listed.insert(friend.id);
    let mut world = World::new(config, vec![friend]);
    for number in 0..1_000 {
        Stranger::new(number).registers(&mut world);
        world.now = Uptime(world.now.0 + 100);
    }
    assert_eq!(world.tower.stats().clients, 100);
    assert_eq!(world.store.count(Table::Client), 100);
    // Whoever is listed has a place all the same.
    world.back_up(0, 2);
    // Places in which nothing was put are given away after two weeks.
    world.mine(2_016);
    assert_eq!(world.tower.stats().clients, 1);
    Stranger::new(5_000).registers(&mut world);
    assert_eq!(world.tower.stats().clients, 2);
    let breach = world.clients[0].duo.breach(1);
    world.publish(&breach);
    world.mine(2);
    all_is_home(&world, 0);
}

#[test]
fn a_disk_that_fills() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let before = world.clients[0].receipt;
        world.store.full = true;
        // The commit fails, so the process stops: nothing is acknowledged.
        let backup = world.clients[0].backup(2);
        let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            backup.to_messages(Mark::default()).into_iter().for_each(|message| world.send(0, message));
        }));
        assert!(sent.is_err() && world.clients[0].receipt == before);
        world.store.full = false;
        world.restart();
        let breach = world.clients[0].duo.breach(1);
        world.chain.force(&breach);
        world.chain.mine();
        // So it does with a breach: nothing is broadcast, and the block comes again.
        world.store.full = true;
        let synced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.sync()));
        assert!(synced.is_err() && world.broadcasts == 0);
        world.store.full = false;
        world.restart();
        world.mine(1);
        all_is_home(&world, 0);
    });
}

#[test]
fn a_tower_killed_between_detection_and_confirmation() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let breach = world.clients[0].duo.breach(1);
        world.publish_unseen(&breach);
        world.mine(1);
        // Its claims are lost with everybody's mempool.
        world.chain.mempool.clear();
        world.restart();
        assert!(!world.chain.mempool.is_empty(), "they go out at the start, not with the next block");
        world.mine(1);
        all_is_home(&world, 0);
        world.restart();
        world.mine(100);
        world.be_idle();
        assert_eq!(world.rows_left(), []);
    });
}

#[test]
fn a_block_that_cannot_be_read_at_first() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let breach = world.clients[0].duo.breach(1);
        world.publish(&breach);
        world.unreadable.insert(world.chain.tip.0 + 1);
        world.mine(3);
        assert!(!world.has_notice(is_breach));
        world.unreadable.clear();
        // Nor can the store, for a while.
        world.store.unreadable = true;
        world.sync();
        assert!(!world.has_notice(is_breach));
        world.store.unreadable = false;
        world.sync();
        assert!(world.has_notice(is_breach));
        world.mine(1);
        all_is_home(&world, 0);
        // A block further on is not taken.
        let (height, hash) = (Height(world.chain.tip.0 + 2), [0; 32]);
        let block = leyden_watchtower::tower::BlockSeen { height, hash, transactions: &[] };
        assert!(matches!(world.feed(Event::Block(block)), Err(TowerError::Gap { .. })));
    });
}

#[test]
fn a_penalty_refused_below_the_minimum_fee_and_retried() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        world.estimates = FeeEstimates::flat(FeeratePerKw(253));
        let breach = world.clients[0].duo.breach(1);
        world.publish(&breach);
        // Neither the mempool nor a block takes what the estimate says.
        world.chain.floor = 1_500;
        world.mine(1);
        world.chain.minimum = 1_500;
        assert_eq!(world.chain.mempool.len(), 0, "everything was refused");
        let mut blocks = 0;
        while !world.is_spent(&to_local(&world)) {
            world.mine(1);
            blocks += 1;
        }
        assert!(blocks < u32::from(DELAY), "{blocks}");
        world.chain.floor = 0;
        world.chain.minimum = 0;
        world.mine(2);
        all_is_home(&world, 0);
    });
}

fn to_local(world: &World) -> bitcoin::OutPoint {
    let commitment = world.clients[0].duo.bobs_commitment(1);
    let outputs = commitment.outputs();
    let mut to_local = outputs.filter(|(_, _, info)| info.kind == leyden_channels::tx::OutputKind::ToLocal);
    let (vout, ..) = to_local.next().unwrap();
    bitcoin::OutPoint { txid: commitment.txid, vout }
}

#[test]
fn a_breach_reorged_out_and_in() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let breach = world.clients[0].duo.breach(1);
        for depth in [1, 3, 99] {
            let fork = world.chain.tip;
            world.publish(&breach);
            world.mine(depth);
            assert!(depth == 1 || world.lost(0, 1) == Amount::ZERO);
            world.disconnect(fork);
            assert!(world.has_notice(|notice| matches!(notice, Notice::BreachTakenBack { .. })));
            // Nothing is left to claim: what would be broadcast has no parent.
            let broadcasts = world.broadcasts;
            world.mine(2);
            assert_eq!(world.broadcasts, broadcasts);
        }
        // Another revoked state takes its place, and in the end the first one again.
        let fork = world.chain.tip;
        let other = world.clients[0].duo.breach(0);
        world.publish(&other);
        world.mine(3);
        assert_eq!(world.lost(0, 0), Amount::ZERO);
        world.disconnect(fork);
        world.publish(&breach);
        world.mine(3);
        all_is_home(&world, 0);
        world.mine(100);
        world.be_idle();
        assert_eq!(world.rows_left(), []);
    });
}

#[test]
fn tower_and_victim_both_down_for_half_of_the_delay() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let duo = &world.clients[0].duo;
        let breach = duo.breach(1);
        // What Bob makes of HTLCs meanwhile: without anchors his second stages are in the kit.
        let stages = match (mode, kind) {
            (Mode::Blind, CommitmentType::Anchors) => Vec::new(),
            (Mode::Blind | Mode::Own, _) => duo.second_stages(1, HtlcDirection::Received),
        };
        world.down = true;
        world.publish(&breach);
        world.mine(1);
        world.chain.mine();
        stages.iter().for_each(|stage| world.chain.force(stage));
        world.mine(u32::from(DELAY) / 2 - 2);
        world.down = false;
        world.restart();
        world.mine(2);
        all_is_home(&world, 0);
    });
}

#[test]
fn a_backup_that_arrives_after_the_breach_was_mined() {
    every_case(|mode, kind| {
        for killed in [false, true] {
            let mut world = World::new(config(), vec![client(1, mode, kind)]);
            world.back_up(0, 1);
            let duo = &world.clients[0].duo;
            let breach = duo.breach(1);
            // What Bob has moved on by then is found too, where it can be reached at all.
            let stages = match (mode, kind) {
                (Mode::Blind, CommitmentType::Anchors) => Vec::new(),
                (Mode::Blind | Mode::Own, _) => duo.second_stages(1, HtlcDirection::Received),
            };
            world.publish(&breach);
            world.mine(1);
            stages.iter().for_each(|stage| world.publish(stage));
            world.mine(20);
            world.restart();
            world.mine(20);
            assert!(mode == Mode::Own || !world.has_notice(is_breach));
            world.back_up(0, 2);
            if killed {
                world.restart();
            }
            world.be_idle();
            assert!(killed || world.has_notice(is_breach));
            world.feed(Event::Tip).unwrap();
            world.mine(1);
            all_is_home(&world, 0);
        }
    });
}

/// What it held before the copy was made it can lose; what the tower has signed for it can ask for.
#[test]
fn blocks_that_are_seen_again_have_no_penalty_broadcast_at_each_of_them() {
    let clients = vec![client(1, Mode::Blind, KINDS[1]), client(2, Mode::Own, KINDS[1])];
    let mut world = World::new(config(), clients);
    world.back_up(0, 2);
    world.mine(10);
    let breach = world.clients[0].duo.breach(1);
    world.publish(&breach);
    world.mine(1);
    let penalties = world.broadcasts;
    assert!(penalties > 0);
    // A channel in own mode has every recent block looked at again; one of them holds the breach.
    world.connect(1);
    world.be_idle();
    assert!(world.broadcasts <= 2 * penalties, "{} broadcasts, where {penalties} were enough", world.broadcasts);
}

/// Cuts off all of a row but its first bytes.
fn damage(world: &mut World, which: impl Fn(&Key) -> bool) -> Key {
    let mut rows = world.store.rows.iter_mut().map(|(key, row)| (Key::decode(key).unwrap(), row));
    let (key, row) = rows.find(|(key, _)| which(key)).expect("such a row");
    row.truncate(2);
    key
}

#[test]
fn a_damaged_row_costs_what_it_is_about_and_nothing_else() {
    let backup = Key::Backup { slot: Slot(0), number: CommitmentNumber(1) };
    let cases = [(Mode::Blind, Some(backup)), (Mode::Blind, Some(Key::Channel(Slot(0)))), (Mode::Own, None)];
    for (mode, damaged) in cases {
        for (kind, restarted) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            println!("{mode:?} {kind:?} {damaged:?}, restarted: {restarted}");
            // Two clients are cheated in one block.
            let mut world = World::new(config(), vec![client(1, mode, kind), client(2, mode, kind)]);
            world.back_up(0, 2);
            world.back_up(1, 2);
            let an_htlc = |key: &Key| matches!(key, Key::OwnHtlc { slot: Slot(0), .. });
            let row = damage(&mut world, |key| damaged.map_or_else(|| an_htlc(key), |damaged| damaged == *key));
            let left = world.store.rows[&row.encode()].clone();
            if restarted {
                world.restart();
            }
            let breaches = [0, 1].map(|at| world.clients[at].duo.breach(1));
            breaches.iter().for_each(|breach| world.publish(breach));
            world.mine(3);
            assert_eq!(world.tower.tip().unwrap().height, world.chain.tip, "the tower stands still");
            assert_eq!(world.lost(1, 1), Amount::ZERO, "everybody else is served");
            let is_told = |notice: &Notice| matches!(notice, Notice::Damaged { row: told, .. } if *told == row);
            assert!(world.has_notice(is_told), "{:?}", world.notices);
            assert!(world.tower.damaged().any(|(key, _)| key == row));
            // In own mode one HTLC is what it costs.
            match mode {
                Mode::Own => assert!([25_000, 30_000].contains(&world.lost(0, 1).to_sat()), "{}", world.lost(0, 1)),
                Mode::Blind => assert!(!world.tower.breaches().any(|(slot, ..)| slot == Slot(0))),
            }
            assert_eq!(world.store.rows.get(&row.encode()), Some(&left), "it is left as it is");
        }
    }
}

#[test]
fn a_damaged_row_of_what_is_the_same_in_all_states_does_not_keep_a_tower_from_starting() {
    for table in [Table::Channel, Table::Held, Table::Client, Table::Recent, Table::Breach, Table::Response] {
        let clients = vec![client(1, Mode::Blind, KINDS[0]), client(2, Mode::Blind, KINDS[0])];
        let mut world = World::new(config(), clients);
        world.back_up(0, 2);
        world.back_up(1, 2);
        let breach = world.clients[0].duo.breach(1);
        world.publish(&breach);
        world.mine(1);
        let of_table = |key: &Key| key.encode().starts_with(&table.prefix());
        let row = damage(&mut world, of_table);
        world.restart();
        assert!(world.tower.damaged().any(|(key, _)| key == row), "{row:?}");
        let other = world.clients[1].duo.breach(1);
        world.publish(&other);
        world.mine(3);
        assert_eq!(world.lost(1, 1), Amount::ZERO, "{row:?}");
    }
    // Without the tip nobody knows what was looked at, and a newer row is no damage.
    let mut world = ready(Mode::Blind, KINDS[0]);
    damage(&mut world, |key| *key == Key::Tip);
    let restored =
        |world: &World| Tower::restore(world.config.clone(), world.store.lookout(), &world.store).map(|_| ());
    assert!(matches!(restored(&world), Err(TowerError::Damaged(_))));
    let mut world = ready(Mode::Blind, KINDS[0]);
    let key = Key::Channel(Slot(0)).encode();
    world.store.rows.get_mut(&key).unwrap()[0] = 2;
    assert!(matches!(restored(&world), Err(TowerError::Damaged(ReadError::Newer { .. }))));
}

#[test]
fn a_channel_that_its_tower_hears_of_after_the_breach_was_mined() {
    every_case(|mode, kind| {
        for killed in [false, true] {
            let mut world = World::new(config(), vec![client(1, mode, kind)]);
            let breach = world.clients[0].duo.breach(0);
            world.publish(&breach);
            world.mine(20);
            world.back_up(0, 1);
            if killed {
                world.restart();
            }
            world.be_idle();
            assert!(killed || world.has_notice(is_breach));
            world.mine(2);
            assert_eq!(world.lost(0, 0), Amount::ZERO);
        }
    });
}

#[test]
fn a_node_restored_from_an_old_copy_asks_its_tower_what_it_last_acknowledged() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let newest = world.clients[0].receipt.take().unwrap();
        world.restart();
        world.connect(0);
        let answers = world.ask(0, Ask::All);
        let [TowerMessage::State(state)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((state.remaining, state.channel), (0, Some(world.clients[0].name)));
        let Has::Backups { receipt, mark } = state.has else { panic!("{state:?}") };
        assert_eq!((receipt.held, mark), (newest, world.clients[0].mark(1)));
        assert_eq!(newest.up_to, CommitmentNumber(1));
        let unknown = ChannelName { tag: ChannelTag([99; 16]), funding: FundingIndex(0) };
        let answers = world.ask(0, Ask::Channel(unknown));
        assert!(matches!(answers.as_slice(), [TowerMessage::State(state)] if state.has == Has::Nothing));
    });
}

/// Secrets are no stranger's business.
#[test]
fn a_blind_tower_refuses_to_be_sent_secrets() {
    let mut world = World::new(config(), vec![client(1, Mode::Blind, CommitmentType::Anchors)]);
    world.clients[0].mode = Mode::Own;
    world.connect(0);
    assert_eq!(world.clients[0].refused[0].code, RefusalCode::NotOffered);
    assert_eq!(world.clients[0].refused[1].code, RefusalCode::NotRegistered);
    world.clients[0].mode = Mode::Blind;
    world.connect(0);
    world.clients[0].mode = Mode::Own;
    world.back_up_one(0, 0);
    assert_eq!(world.clients[0].refused.last().unwrap().code, RefusalCode::Unreadable);
    assert_eq!(world.clients[0].receipt, None);
    assert!(
        world.store.rows.keys().all(|key| !matches!(Key::decode(key).unwrap(), Key::OwnState(_) | Key::OwnHtlc { .. }))
    );
}

/// A block is never looked at with rows in mind that are not durable.
#[test]
fn a_block_waits_for_the_rows_before_it() {
    let mut world = ready(Mode::Blind, CommitmentType::Anchors);
    let message = world.clients[0].backup(2).to_messages(Mark::default()).remove(0);
    let id = world.clients[0].id;
    let ctx = Ctx {
        newest: world.chain.tip,
        tip_is_sure: true,
        now: world.now,
        estimates: &world.estimates,
        policy: &world.policy,
        archive: &world.store,
    };
    let _uncommitted = world.tower.handle(Event::Message(id, message), &ctx).unwrap();
    let block =
        leyden_watchtower::tower::BlockSeen { height: Height(world.chain.tip.0 + 1), hash: [1; 32], transactions: &[] };
    assert_eq!(world.tower.handle(Event::Block(block), &ctx).unwrap_err(), TowerError::Unsettled);
    assert_eq!(world.tower.handle(Event::Idle, &ctx).unwrap_err(), TowerError::Unsettled);
}
