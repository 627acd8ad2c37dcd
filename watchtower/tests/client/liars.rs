//! Towers that claim what is not so, that take no backups, or that have done their work: what each of them can cause.

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute::LockTime, transaction::Version,
};
use leyden_channels::{
    channel::TowerPolicy,
    types::{ChannelId, CommitmentNumber, FeeratePerKw, Height, Side},
};
use leyden_watchtower::{
    client::{Effect, Event, Notice, Trouble, keys::TowerKeys as _, record::TowerId},
    codec::encode,
    mark::Mark,
    message::{Mode, Possession, RefusalCode, Refused, TowerMessage},
    receipt::{Closed, Contradiction},
    record::{HeldRow, Key, Row as _, Slot},
};

use super::world::{Crash, Keys, START, World, channel, duo};

const ALICE: u8 = 0;
const BOB: u8 = 1;

fn trouble(world: &World, of: u8) -> Option<Trouble> {
    world.client.coverage(channel(of))[0].trouble
}

fn held(world: &World, of: u8) -> Option<u64> {
    world.towers[0].held(&channel(of)).map(|number| number.0)
}

/// What both have agreed on, or a state that is not revoked.
fn spends_funding(channel: &ChannelId) -> Transaction {
    let previous_output: OutPoint = duo(channel).closing(Side::Local).funding;
    let input =
        TxIn { previous_output, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness: Witness::new() };
    let output = vec![TxOut { value: Amount::from_sat(10_000), script_pubkey: ScriptBuf::new() }];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

/// A channel that was closed while its node was asleep, and of which the tower gave back everything a hundred blocks later.
fn closed_while_asleep() -> (World, Closed) {
    let mut world = World::quiet(&[Mode::Own]);
    world.open();
    world.revoke_many(channel(ALICE), 3);
    world.revoke_many(channel(BOB), 3);
    world.settle();
    world.cut(0);
    let close = spends_funding(&channel(ALICE));
    let height = START.0 + 1;
    world.towers[0].block(height, std::slice::from_ref(&close));
    world.towers[0].mine_to(height + 150);
    world.tolerant = true;
    world.connect(0);
    world.settle();
    (world, Closed { txid: close.compute_txid(), height: Height(height) })
}

#[test]
fn a_tower_that_has_done_its_work_is_not_convicted_for_holding_nothing() {
    let (mut world, closed) = closed_while_asleep();
    assert_eq!(held(&world, ALICE), None, "the tower has given the room back");
    assert_eq!(trouble(&world, ALICE), Some(Trouble::Closed(closed)));
    assert_eq!(world.notices.pop(), Some(Notice::Closed { tower: TowerId(0), channel: channel(ALICE), closed }));
    // Nor by an audit.
    world.event(Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [7; 32] });
    world.settle();
    assert!(matches!(world.notices.pop(), Some(Notice::AuditPassed { .. })), "{:?}", world.notices);
    assert!(world.client.towers().all(|(_, row)| row.proof.is_none()));
    assert_eq!(world.client.policy(), TowerPolicy::BackUp);
    // The other channel goes on, and what the channel revokes meanwhile is kept.
    world.revoke(channel(BOB));
    world.revoke(channel(ALICE));
    world.settle();
    assert_eq!((held(&world, BOB), world.disk.queued(&channel(ALICE)).len()), (Some(3), 1));
    // Once the channel is over nothing is left at the tower.
    world.over(channel(ALICE));
    world.settle();
    let is_of_channel = |key: &Vec<u8>| matches!(Key::decode(key).unwrap(), Key::Closed { .. });
    assert!(!world.towers[0].store.rows.keys().any(is_of_channel));
}

#[test]
fn a_close_that_never_was_is_looked_for_in_time_and_convicts() {
    let (mut world, closed) = closed_while_asleep();
    assert!(world.looked_for.is_empty(), "this node does not know that block yet");
    world.tip = Height(closed.height.0 + 100);
    world.event(Event::Tick);
    assert_eq!(world.looked_for, [channel(ALICE)]);
    let answer = |unspent_at| Event::ClosedLookedFor { tower: TowerId(0), channel: channel(ALICE), unspent_at };
    // It is spent, or nobody can say.
    world.event(answer(None));
    assert_eq!(trouble(&world, ALICE), Some(Trouble::Closed(closed)));
    // The chain shows the funding output unspent: the tower has to show what it signed for, or cannot.
    world.event(answer(Some(world.tip)));
    assert_eq!(world.notices.pop(), Some(Notice::HoldsLess { tower: TowerId(0), channel: channel(ALICE) }));
    world.event(Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [8; 32] });
    world.settle();
    let Some(Notice::AuditFailed { contradiction, .. }) = world.notices.pop() else { panic!("{:?}", world.notices) };
    assert_eq!(contradiction, Contradiction::NeverClosed { closed });
    // Its receipts stay to be seen, and states are kept for another tower.
    assert_eq!(world.client.coverage(channel(ALICE))[0].receipts.len(), 1);
    assert_eq!(world.client.policy(), TowerPolicy::BackUp);
    world.forged = true;
    world.revoke(channel(ALICE));
    world.settle();
    assert_eq!(world.disk.queued(&channel(ALICE)).len(), 1);
}

#[test]
fn when_a_term_is_over_everything_begins_anew() {
    for mode in [Mode::Blind, Mode::Own] {
        for knows_late in [false, true] {
            let mut world = World::quiet(&[]);
            world.towers.push(super::world::Far::new(0, mode));
            world.towers[0].config.limits.term = 3_000;
            world.towers[0].restart();
            world.add(0, Crash::Never);
            world.revoke_many(channel(ALICE), 3);
            world.settle();
            world.cut(0);
            let over = START.0 + 3_000 + 1;
            world.towers[0].mine_to(over);
            while std::mem::take(&mut world.towers[0].idle) {
                world.towers[0].handle(vec![leyden_watchtower::tower::Event::Idle], Crash::Never);
            }
            assert_eq!(held(&world, ALICE), None);
            world.tolerant = true;
            if !knows_late {
                world.tip = Height(over);
            }
            world.connect(0);
            world.settle();
            if knows_late {
                // This node is behind: the tower seems to have lost what it signed for, and shows by its height that it may.
                assert_eq!(trouble(&world, ALICE), Some(Trouble::HoldsLess));
                world.event(Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [9; 32] });
                world.settle();
                assert!(world.client.towers().all(|(_, row)| row.proof.is_none()));
                world.tip = Height(over);
                world.event(Event::Tick);
                world.settle();
            }
            assert!(
                world.notices.iter().any(|notice| matches!(notice, Notice::TermOver { .. })),
                "{:?}",
                world.notices
            );
            world.revoke(channel(ALICE));
            world.settle();
            assert_eq!((held(&world, ALICE), trouble(&world, ALICE)), (Some(3), None));
            let coverage = &world.client.coverage(channel(ALICE))[0];
            assert_eq!(coverage.receipts.len(), 1);
            assert_eq!(coverage.is_complete(), mode == Mode::Own, "blind kits of the past cannot be made again");
        }
    }
}

/// A node that was restored from a copy with five states fewer, and a tower that shows this mark with the newest state.
fn restored_with_mark(mark: Option<Mark>) -> World {
    let mut world = World::quiet(&[Mode::Blind]);
    world.revoke_many(channel(ALICE), 5);
    world.settle();
    let (copy, gates) = (world.disk.clone(), world.gates.clone());
    world.revoke_many(channel(ALICE), 5);
    world.settle();
    if let Some(mark) = mark {
        let key = Key::Held(Slot(0)).encode();
        let row = HeldRow::decode(&world.towers[0].store.rows[&key]).unwrap();
        world.towers[0].store.rows.insert(key, HeldRow { mark, ..row }.encode());
        world.towers[0].restart();
    }
    (world.disk, world.gates, world.tolerant) = (copy, gates, true);
    world.restart();
    world.settle();
    world
}

#[test]
fn a_tower_that_claims_a_state_that_was_never_sent_is_not_believed() {
    assert_eq!(restored_with_mark(None).called_old, [(channel(ALICE), CommitmentNumber(9))]);
    let secret = Keys.secret(&restored_with_mark(None).towers[0].config.key);
    let name = leyden_watchtower::client::keys::tag(&secret, &channel(ALICE), Default::default());
    // A mark of an earlier state, and one that is nobody's.
    for mark in [Mark::of(&secret, &name, CommitmentNumber(8)), Mark([3; 16])] {
        let mut world = restored_with_mark(Some(mark));
        assert_eq!(world.called_old, []);
        for _ in 0..3 {
            world.cut(0);
            world.connect(0);
            world.settle();
        }
        let said = world.notices.iter().filter(|notice| matches!(notice, Notice::ClaimsMore { .. })).count();
        assert_eq!((said, trouble(&world, ALICE)), (1, Some(Trouble::ClaimsMore)));
        assert_eq!(world.called_old, []);
    }
}

fn refused(world: &World, message: &TowerMessage, code: RefusalCode) -> Option<TowerMessage> {
    let channel = match message {
        TowerMessage::OpenChannel(open) => open.channel,
        TowerMessage::Backup(part) => part.channel,
        _ => return None,
    };
    let secret = Keys.secret(&world.towers[0].config.key);
    let of_alice = |round| leyden_watchtower::client::keys::tag(&secret, &self::channel(ALICE), round) == channel;
    let is_alices = (0..=255).map(leyden_watchtower::client::record::Round).any(of_alice);
    let (what, text) = (message.message_type(), "no".to_owned());
    is_alices.then(|| Refused { what, code, channel: Some(channel), number: None, text }.into())
}

/// Everything is delivered, but what Alice's channel is about is refused: how many messages of it there were.
fn settle_refusing(world: &mut World, code: RefusalCode) -> usize {
    let mut count = 0;
    loop {
        let mut moved = world.work(Crash::Never);
        for bytes in std::mem::take(&mut world.towers[0].to_tower) {
            moved = true;
            match refused(world, &TowerMessage::decode(&bytes).unwrap(), code) {
                Some(answer) => {
                    count += 1;
                    world.towers[0].to_node.push_back(answer.encode());
                }
                None => world.towers[0].to_tower.push_back(bytes),
            }
        }
        moved |= world.deliver_to_tower(0, 50, Crash::Never) | world.deliver_to_node(0, Crash::Never);
        if !moved {
            return count;
        }
    }
}

#[test]
fn a_channel_that_is_refused_stops_no_other_and_costs_little() {
    let codes = [
        RefusalCode::ChannelExists,
        RefusalCode::NoSuchChannel,
        RefusalCode::QuotaExceeded,
        RefusalCode::ChannelEnded,
        RefusalCode::Unreadable,
        RefusalCode::Other(900),
    ];
    for code in codes {
        let mut world = World::quiet(&[Mode::Blind]);
        world.open();
        world.tolerant = true;
        world.revoke_many(channel(ALICE), 300);
        let first = settle_refusing(&mut world, code);
        assert!((1..=3).contains(&first), "{code:?}: {first} messages");
        assert_eq!(trouble(&world, ALICE), Some(Trouble::Refused(code)));
        // A thousand ticks, five hundred minutes: pauses grow.
        let mut later = 0;
        for tick in 0..1_000 {
            if tick % 100 == 0 {
                world.revoke(channel(ALICE));
                world.revoke(channel(BOB));
            }
            world.event(Event::Tick);
            later += settle_refusing(&mut world, code);
        }
        assert!((5..=15).contains(&later), "{code:?}: {later} messages");
        assert!(world.client.is_connected(TowerId(0)), "{code:?}");
        assert_eq!(held(&world, BOB), Some(9));
        let said = world.notices.iter().filter(|notice| matches!(notice, Notice::ChannelRefused { .. })).count();
        assert!(said <= 1 + later, "{said} lines");
        // As soon as it takes the channel everything is there.
        for _ in 0..241 {
            world.event(Event::Tick);
            world.settle();
        }
        assert_eq!((held(&world, ALICE), trouble(&world, ALICE)), (Some(309), None), "{code:?}");
        assert!(world.disk.queued(&channel(ALICE)).is_empty());
    }
}

#[test]
fn a_term_that_ends_too_soon_is_not_taken() {
    let mut world = World::quiet(&[]);
    world.towers.push(super::world::Far::new(0, Mode::Blind));
    world.tolerant = true;
    // Its chain is a year behind this node's.
    world.tip = Height(START.0 + 52_560 - 2_000);
    world.add(0, Crash::Never);
    world.revoke(channel(ALICE));
    world.settle();
    let until = Height(START.0 + 52_560);
    assert_eq!(world.notices, [Notice::TermTooShort { tower: TowerId(0), until, tip: world.tip }]);
    assert!(!world.client.is_connected(TowerId(0)));
    assert_eq!((held(&world, ALICE), world.disk.queued(&channel(ALICE)).len()), (None, 1));
}

#[test]
fn a_changed_rate_begins_another_tag_and_leaves_what_is_signed() {
    for mode in [Mode::Blind, Mode::Own] {
        let mut world = World::quiet(&[mode]);
        world.revoke_many(channel(ALICE), 3);
        world.settle();
        let notices = world.notices.len();
        world.cut(0);
        world.sweep_feerate = FeeratePerKw(5_000);
        world.connect(0);
        world.revoke_many(channel(ALICE), 3);
        let mut rates = Vec::new();
        for _ in 0..1_000 {
            rates.extend(world.work.iter().filter_map(|effect| match effect {
                Effect::Describe { place, .. } | Effect::Prepare { place, .. } => Some(place.sweep_feerate),
                _ => None,
            }));
            world.work(Crash::Never);
            world.deliver_to_tower(0, 1, Crash::Never);
            world.deliver_to_node(0, Crash::Never);
        }
        world.settle();
        assert_eq!(held(&world, ALICE), Some(5));
        let coverage = &world.client.coverage(channel(ALICE))[0];
        assert!(coverage.is_complete() && coverage.waiting == 0, "{coverage:?}");
        let rounds = if mode == Mode::Blind { 2 } else { 1 };
        assert_eq!(coverage.receipts.len(), rounds);
        assert!(mode == Mode::Own || rates.iter().all(|rate| *rate == FeeratePerKw(5_000)), "{rates:?}");
        assert_eq!(world.notices.len(), notices, "nothing is amiss");
        // It stays with that.
        world.cut(0);
        world.connect(0);
        world.revoke(channel(ALICE));
        world.settle();
        assert_eq!(world.client.coverage(channel(ALICE))[0].receipts.len(), rounds);
        // What it has of both is asked for at an audit.
        world.tolerant = true;
        world.event(Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [5; 32] });
        let asked = |world: &World| {
            let audits = world.towers[0].to_tower.iter().filter(|bytes| bytes[..2] == encode(&19_u16));
            audits.count()
        };
        assert_eq!(asked(&world), 1, "one at a time");
        world.settle();
        assert!(matches!(world.notices.pop(), Some(Notice::AuditPassed { .. })));
    }
}

#[test]
fn what_a_tower_has_lost_of_an_earlier_tag_is_found_too() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.revoke_many(channel(ALICE), 3);
    world.settle();
    world.cut(0);
    world.sweep_feerate = FeeratePerKw(5_000);
    world.connect(0);
    world.revoke_many(channel(ALICE), 3);
    world.settle();
    assert_eq!(world.client.coverage(channel(ALICE))[0].receipts.len(), 2);
    world.cut(0);
    for key in [Key::Channel(Slot(0)), Key::Held(Slot(0))] {
        assert!(world.towers[0].store.rows.remove(&key.encode()).is_some());
    }
    world.towers[0].restart();
    world.tolerant = true;
    world.connect(0);
    world.settle();
    assert_eq!(world.notices.pop(), Some(Notice::HoldsLess { tower: TowerId(0), channel: channel(ALICE) }));
    world.event(Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [5; 32] });
    world.settle();
    assert!(matches!(world.notices.pop(), Some(Notice::AuditFailed { .. })));
}

#[test]
fn a_tower_that_keeps_digests_and_drops_the_data_is_found_out() {
    for mode in [Mode::Blind, Mode::Own] {
        let mut world = World::quiet(&[mode]);
        world.revoke_many(channel(ALICE), 20);
        world.settle();
        world.tolerant = true;
        let audit = |nonce| Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [nonce; 32] };
        // More often than there are challenges.
        for nonce in 0..6 {
            world.event(audit(nonce));
            world.settle();
            assert!(matches!(world.notices.pop(), Some(Notice::AuditPassed { .. })));
        }
        world.revoke_many(channel(ALICE), 20);
        world.settle();
        // It answers the audit from its digests, and cannot answer the challenge.
        world.event(audit(9));
        let mut asked = 0;
        loop {
            let mut moved = world.deliver_to_tower(0, 50, Crash::Never);
            for bytes in std::mem::take(&mut world.towers[0].to_node) {
                let message = match TowerMessage::decode(&bytes).unwrap() {
                    TowerMessage::Possession(shown) => {
                        asked += 1;
                        let proof = (mode == Mode::Blind).then_some([4; 32]);
                        Possession { proof, ..shown }.into()
                    }
                    other => other,
                };
                world.towers[0].to_node.push_back(message.encode());
            }
            moved |= world.deliver_to_node(0, Crash::Never) | world.work(Crash::Never);
            if !moved {
                break;
            }
        }
        assert_eq!(
            asked,
            if mode == Mode::Blind { 1 } else { 2 },
            "who has nothing to show is asked again whether it has it"
        );
        let Some(Notice::NotShown { number, .. }) = world.notices.pop() else { panic!("{:?}", world.notices) };
        for restarts in [false, true] {
            assert_eq!(trouble(&world, ALICE), Some(Trouble::NotShown(number)), "it is not forgotten");
            if restarts {
                world.restart();
            }
            world.cut(0);
            world.connect(0);
            world.settle();
        }
        assert_eq!(trouble(&world, ALICE), Some(Trouble::NotShown(number)), "nor by a restart");
        world.revoke(channel(ALICE));
        world.settle();
        assert_eq!(world.disk.queued(&channel(ALICE)).len(), 1, "it gets no more, and states are kept for another");
    }
}

#[test]
fn a_tower_that_never_answers_an_audit_is_told_of() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.revoke_many(channel(ALICE), 3);
    world.settle();
    world.tolerant = true;
    world.event(Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [5; 32] });
    world.towers[0].to_tower.clear();
    for _ in 0..30 {
        world.event(Event::Tick);
        world.settle();
    }
    assert_eq!(world.notices, [Notice::AuditUnanswered { tower: TowerId(0), channel: channel(ALICE) }]);
}
