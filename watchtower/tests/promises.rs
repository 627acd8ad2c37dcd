//! What a tower promises its clients, and what it does not promise: receipts that bind up to a block, ends that are explained,
//! shares of the disk, and nothing while it cannot keep it.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use common::{
    Duo, KINDS, State,
    world::{Client, World, client_id, config, tower_key},
};
use leyden_channels::{
    keys::secp,
    types::{CommitmentNumber, CommitmentType, FeeratePerKw, Height, Uptime},
};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, FundingIndex},
    hint::Hint,
    mark::Mark,
    message::{
        Ask, Backup, BackupBody, Has, Hello, Mode, OpenChannel, PROTOCOL_VERSION, RefusalCode, Register, TowerFeatures,
        TowerMessage,
    },
    receipt::{Audit, Closed, Closing, Contradiction, Says, convicts},
    record::{Key, Slot, Table},
    tower::{Event, Notice},
};

const MODES: [Mode; 2] = [Mode::Blind, Mode::Own];

fn states() -> Vec<State> {
    (0..4).map(|number| State { alice: 200_000 + number * 100_000, ..State::default() }).collect()
}

fn client(number: u32, mode: Mode, kind: CommitmentType) -> Client {
    Client::new(number, mode, Duo::new(number, kind, states()))
}

fn ready(mode: Mode, kind: CommitmentType) -> World {
    let mut world = World::new(config(), vec![client(1, mode, kind)]);
    world.back_up(0, 2);
    world
}

fn every_case(mut test: impl FnMut(Mode, CommitmentType)) {
    for (mode, kind) in MODES.into_iter().flat_map(|mode| KINDS.map(|kind| (mode, kind))) {
        println!("{mode:?} {kind:?}");
        test(mode, kind);
    }
}

fn audit(world: &mut World, at: usize) -> Audit {
    let (client, channel) = (world.clients[at].id, world.clients[at].name);
    let (chain, nonce, up_to) = (world.config.chain, [5; 32], world.clients[at].receipt.unwrap().up_to);
    let answers = world.ask(at, Ask::Audit { channel, up_to, nonce });
    let [TowerMessage::Audited(answer)] = answers.as_slice() else { panic!("{answers:?}") };
    let audit = Audit { chain, client, channel, nonce, at: answer.at, says: answer.says };
    assert!(audit.verify(&answer.signature, &world.config.key));
    audit
}

fn state(world: &mut World, at: usize) -> Has {
    let answers = world.ask(at, Ask::All);
    let [TowerMessage::State(state)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((state.remaining, state.channel), (0, Some(world.clients[at].name)));
    state.has
}

/// Published by Bob while Alice sleeps: a revoked state in either mode, and in own mode also one that is not.
#[test]
fn a_tower_says_how_a_channel_ended_and_is_not_convicted_for_having_nothing_left() {
    every_case(|mode, kind| {
        let endings = if mode == Mode::Own { vec![1, 3] } else { vec![1] };
        for ending in endings {
            let mut world = ready(mode, kind);
            let receipt = world.clients[0].holding();
            let close = world.clients[0].duo.breach(ending);
            world.publish(&close);
            world.mine(1);
            let closed = Closed { txid: close.compute_txid(), height: world.chain.tip };
            world.mine(102);
            world.be_idle();
            assert_eq!(world.rows_left(), []);
            for _ in 0..2 {
                let Has::Closed(signed) = state(&mut world, 0) else { panic!("{mode:?} {ending}") };
                assert_eq!(signed.closed, closed);
                let (client, channel) = (receipt.client, receipt.channel);
                let closing = Closing { chain: receipt.chain, client, channel, closed };
                assert!(closing.verify(&signed.signature, &tower_key().public_key(secp())));
                let audit = audit(&mut world, 0);
                assert_eq!(audit.says, Says::Closed(closed));
                assert_eq!(convicts(&receipt, &audit, None), None);
                // What was made up the chain itself would contradict.
                let never = convicts(&receipt, &audit, Some(closed.height));
                assert_eq!(never, Some(Contradiction::NeverClosed { closed }));
                world.restart();
                world.connect(0);
                world.clients[0].inbox.clear();
            }
            // It takes no more of that channel, and its client takes leave.
            assert_eq!(world.clients[0].refused.last().unwrap().code, RefusalCode::ChannelEnded);
            world.back_up_one(0, 2);
            assert_eq!(world.clients[0].refused.last().unwrap().code, RefusalCode::ChannelEnded);
            world.close_channel(0);
            assert_eq!(world.store.count(Table::Closed), 0);
            assert_eq!(state_of_nothing(&mut world), None);
        }
    });
}

fn state_of_nothing(world: &mut World) -> Option<ChannelName> {
    let answers = world.ask(0, Ask::All);
    let [TowerMessage::State(state)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(state.has, Has::Nothing);
    state.channel
}

#[test]
fn how_channels_ended_is_kept_until_the_term_ends_and_counts_as_channels() {
    let mut config = config();
    config.limits.channels = 1;
    let mut world = World::new(config, vec![client(1, Mode::Blind, CommitmentType::Anchors)]);
    world.back_up(0, 2);
    let breach = world.clients[0].duo.breach(1);
    world.publish(&breach);
    world.mine(103);
    world.be_idle();
    assert_eq!((world.store.count(Table::Closed), world.tower.stats().channels), (1, 0));
    world.connect(0);
    let name = ChannelName { tag: ChannelTag([9; 16]), funding: FundingIndex(0) };
    world.send(0, OpenChannel { channel: name, constants: vec![1; 200] }.into());
    assert_eq!(world.clients[0].refused.last().unwrap().code, RefusalCode::QuotaExceeded);
    world.mine(10_200);
    world.be_idle();
    assert_eq!((world.store.count(Table::Closed), world.tower.stats().clients), (0, 0));
}

#[test]
fn a_term_that_has_ended_convicts_nobody() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        let receipt = world.clients[0].holding();
        assert_eq!(receipt.until.0, world.chain.tip.0 + 10_000);
        world.mine(10_000);
        assert_eq!(audit(&mut world, 0).says, Says::Holds(receipt.held), "it keeps its word up to that block");
        world.mine(1);
        world.be_idle();
        world.connect(0);
        world.clients[0].inbox.clear();
        let answers = world.ask(0, Ask::Audit { channel: receipt.channel, up_to: receipt.held.up_to, nonce: [5; 32] });
        let Some(TowerMessage::Audited(answer)) = answers.last() else { panic!("{answers:?}") };
        let (chain, client, channel) = (receipt.chain, receipt.client, receipt.channel);
        let audit = Audit { chain, client, channel, nonce: [5; 32], at: answer.at, says: answer.says };
        assert!(audit.verify(&answer.signature, &world.config.key));
        assert_eq!((audit.says, convicts(&receipt, &audit, None)), (Says::Nothing, None));
        // The same answer a block earlier would have been a broken word.
        let early = Audit { at: receipt.until, ..audit };
        assert!(convicts(&receipt, &early, None).is_some());
    });
}

#[test]
fn the_newest_mark_is_shown_after_a_restart_too() {
    every_case(|mode, kind| {
        let mut world = ready(mode, kind);
        world.restart();
        world.connect(0);
        let Has::Backups { receipt, mark } = state(&mut world, 0) else { panic!("no backups") };
        assert_eq!((receipt.held.up_to, mark), (CommitmentNumber(1), world.clients[0].mark(1)));
    });
}

/// Sealed for nobody.
fn sealed(channel: ChannelName, number: u64, len: usize) -> TowerMessage {
    let body = BackupBody::Blind { hint: Hint([number as u8; 8]), sealed: vec![7; len] };
    let backup = Backup { channel, number: CommitmentNumber(number), body };
    backup.to_messages(Mark::default()).remove(0)
}

#[test]
fn a_refused_backup_stops_its_own_channel_alone() {
    let mut world = World::new(config(), vec![client(1, Mode::Blind, CommitmentType::Anchors)]);
    world.connect(0);
    let names = [3, 4].map(|tag| ChannelName { tag: ChannelTag([tag; 16]), funding: FundingIndex(0) });
    for channel in names {
        world.send(0, OpenChannel { channel, constants: vec![1; 200] }.into());
    }
    let numbers =
        |world: &World| names.map(|name| world.tower.held(&world.clients[0].id, &name).map(|held| held.up_to.0));
    world.send(0, sealed(names[0], 0, 194));
    // A gap; what follows it on the way would be the next one, and must not be taken after that.
    world.send(0, sealed(names[0], 2, 194));
    world.send(0, sealed(names[0], 1, 194));
    world.send(0, sealed(names[1], 0, 194));
    assert_eq!((numbers(&world), world.clients[0].refused.len()), ([Some(0), Some(0)], 1));
    assert_eq!(world.clients[0].hung_up, []);
    world.send(0, OpenChannel { channel: names[0], constants: vec![1; 200] }.into());
    world.send(0, sealed(names[0], 1, 194));
    assert_eq!(numbers(&world), [Some(1), Some(0)]);
    // Names without end are no way to have a tower remember things.
    for number in 0..=world.config.limits.channels as u32 {
        let mut tag = [0xaa; 16];
        tag[..4].copy_from_slice(&number.to_be_bytes());
        let name = ChannelName { tag: ChannelTag(tag), funding: FundingIndex(0) };
        world.send(0, sealed(name, 0, 20));
    }
    assert_eq!(world.clients[0].hung_up.len(), 1);
}

#[test]
fn a_channel_that_cannot_be_enforced_takes_no_backup_until_it_has_another_name() {
    for kind in KINDS {
        let mut world = ready(Mode::Own, kind);
        let before = world.clients[0].receipt;
        // Its secrets are damaged.
        let key = Key::OwnState(Slot(0)).encode();
        world.store.rows.insert(key, vec![1, 2, 3]);
        world.restart();
        assert_eq!(world.tower.broken().count(), 1);
        world.clients[0].refused.clear();
        world.connect(0);
        assert_eq!(world.clients[0].refused.last().unwrap().code, RefusalCode::ChannelExists);
        world.back_up_one(0, 2);
        assert_eq!(world.clients[0].refused.last().unwrap().code, RefusalCode::NoSuchChannel);
        assert_eq!(world.clients[0].receipt, before, "nothing is signed that nobody would enforce");
        world.clients[0].name.tag = ChannelTag([99; 16]);
        world.clients[0].receipt = None;
        world.open(0);
        world.back_up(0, 3);
        assert_eq!(world.clients[0].receipt.unwrap().up_to, CommitmentNumber(2));
        let breach = world.clients[0].duo.breach(1);
        world.publish(&breach);
        world.mine(2);
        assert!(world.has_notice(|notice| matches!(notice, Notice::Breach { .. })));
    }
}

/// A stranger with one channel.
fn stranger(world: &mut World, number: u32) -> ChannelName {
    let id = client_id(1_000 + number);
    let channel = ChannelName { tag: ChannelTag([1; 16]), funding: FundingIndex(0) };
    world.feed(Event::Connected(id)).unwrap();
    let hello = Hello { version: PROTOCOL_VERSION, chain: world.config.chain, features: TowerFeatures::default() };
    let register = Register { mode: Mode::Blind, sweep_feerate: FeeratePerKw(2_500), term: 1_000 };
    let open = OpenChannel { channel, constants: vec![1; 200] };
    for message in [TowerMessage::from(hello), register.into(), open.into()] {
        world.feed(Event::Message(id, message)).unwrap();
    }
    world.now = Uptime(world.now.0 + 60_000);
    channel
}

#[test]
fn a_few_strangers_who_fill_the_disk_leave_everybody_a_share() {
    let mut config = config();
    // Twenty places with room for four backups each, and as much as ten more would have.
    (config.limits.clients, config.limits.share) = (20, 4_000);
    (config.limits.strangers_bytes, config.limits.bytes) = (30 * 4_000, 1 << 20);
    let mut world = World::new(config, vec![client(1, Mode::Blind, CommitmentType::Anchors)]);
    world.connect(0);
    let up_to = |world: &World, number: u32, channel| {
        world.tower.held(&client_id(1_000 + number), &channel).map_or(0, |held| held.up_to.0 + 1)
    };
    let fill = |world: &mut World, number: u32, channel: ChannelName| {
        let first = up_to(world, number, channel);
        for state in first..first + 100 {
            world.feed(Event::Message(client_id(1_000 + number), sealed(channel, state, 935))).unwrap();
        }
        up_to(world, number, channel)
    };
    // One takes all that is common.
    let greedy = stranger(&mut world, 0);
    assert_eq!(fill(&mut world, 0, greedy), 44, "its share and the ten that nobody has");
    // Who came before and who comes later have theirs.
    let late: Vec<ChannelName> = (1..19).map(|number| stranger(&mut world, number)).collect();
    for (number, channel) in (1..19).zip(late) {
        assert_eq!(fill(&mut world, number, channel), 4, "stranger {number}");
    }
    world.back_up(0, 2);
    let bytes = world.tower.stats().bytes;
    assert!(bytes <= world.config.limits.strangers_bytes, "{bytes}");
    // There is no place without a share.
    stranger(&mut world, 50);
    assert!(!world.tower.is_client(&client_id(1_050)));
    // What is given back is there for others, after a restart too.
    world.restart();
    world.feed(Event::Connected(client_id(1_000))).unwrap();
    let again = stranger(&mut world, 1);
    assert_eq!(fill(&mut world, 1, again), 4);
    stranger(&mut world, 0);
    let close = leyden_watchtower::message::CloseChannel { tag: greedy.tag };
    world.feed(Event::Message(client_id(1_000), close.into())).unwrap();
    let again = stranger(&mut world, 1);
    assert_eq!(fill(&mut world, 1, again), 44);
}

#[test]
fn a_tower_that_does_not_know_how_far_its_chain_is_promises_nothing_new() {
    let mut world = World::new(config(), vec![client(1, Mode::Blind, CommitmentType::Anchors)]);
    world.back_up(0, 1);
    world.clients.push(client(2, Mode::Blind, CommitmentType::Anchors));
    world.mine(10);
    world.tip_is_sure = false;
    world.connect(1);
    assert_eq!(world.clients[1].refused[0].code, RefusalCode::NotReady);
    assert!(!world.tower.is_client(&world.clients[1].id));
    // Whoever has a place goes on, with the term that it had.
    let until = world.clients[0].until;
    world.connect(0);
    world.back_up(0, 2);
    assert_eq!((world.clients[0].until, world.clients[0].receipt.unwrap().up_to), (until, CommitmentNumber(1)));
    world.tip_is_sure = true;
    world.clients[1].refused.clear();
    world.connect(1);
    world.connect(0);
    world.back_up(0, 3);
    assert_eq!(world.clients[1].refused, []);
    assert_eq!(world.clients[0].until, Height(until.0 + 10));
}

#[test]
fn another_rate_is_no_other_client_and_another_mode_is_while_there_are_channels() {
    let mut world = ready(Mode::Blind, CommitmentType::Anchors);
    let register = |world: &mut World, mode, rate| {
        world.clients[0].inbox.clear();
        world.send(0, Register { mode, sweep_feerate: FeeratePerKw(rate), term: 10_000 }.into());
        world.clients[0].inbox.pop().unwrap()
    };
    let TowerMessage::Registered(granted) = register(&mut world, Mode::Blind, 5_000) else { panic!("refused") };
    assert_eq!(granted.sweep_feerate, FeeratePerKw(5_000));
    let id = world.clients[0].id;
    world.config.admission.listed.insert(id);
    world.restart();
    world.connect(0);
    let TowerMessage::Refused(refused) = register(&mut world, Mode::Own, 5_000) else { panic!("taken") };
    assert_eq!(refused.code, RefusalCode::TermsDiffer);
    world.close_channel(0);
    assert!(matches!(register(&mut world, Mode::Own, 5_000), TowerMessage::Registered(_)));
}
