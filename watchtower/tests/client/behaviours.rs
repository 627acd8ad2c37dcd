//! What the client promises, one by one.

use bitcoin::{ScriptBuf, constants::ChainHash};
use leyden_channels::{
    channel::TowerPolicy,
    types::{CommitmentNumber, Height},
};
use leyden_watchtower::{
    client::{
        Blindness, CATCHING_UP, Client, Constants, Effect, Event, Notice, ROWS_WITHOUT_TOWER, Session, Trouble, Work,
        keys::tag,
        record::{ClientKey, Round, TowerId},
    },
    codec::encode,
    message::{
        Acknowledged, Backup, BackupBody, Hello, Mode, PROTOCOL_VERSION, RefusalCode, Refused, SignedHeld, State,
        TowerFeatures, TowerMessage,
    },
    receipt::{Digest, Held, Holding, convicts},
};

use super::world::{Crash, Far, World, channel, ctx};

const ALICE: u8 = 0;
const BOB: u8 = 1;

fn sent(far: &Far) -> Vec<&'static str> {
    far.to_tower.iter().map(|bytes| TowerMessage::decode(bytes).unwrap().name()).collect()
}

fn held(world: &World, at: usize) -> Option<u64> {
    world.towers[at].held(&channel(ALICE)).map(|number| number.0)
}

fn name_at(world: &World, at: usize) -> leyden_watchtower::appointment::ChannelName {
    use leyden_watchtower::client::keys::TowerKeys as _;
    let key = world.towers[at].config.key;
    tag(&super::world::Keys.secret(&key), &channel(ALICE), Round(0))
}

#[test]
fn every_tower_gets_every_state_and_the_rows_go() {
    let mut world = World::quiet(&[Mode::Blind, Mode::Own]);
    world.revoke_many(channel(ALICE), 40);
    assert_eq!(world.disk.queued(&channel(ALICE)).len(), 40);
    world.settle();
    assert_eq!([held(&world, 0), held(&world, 1)], [Some(39); 2]);
    assert!(world.disk.queued(&channel(ALICE)).is_empty());
    assert!(world.client.coverage(channel(ALICE)).iter().all(|coverage| coverage.is_complete()));
}

#[test]
fn a_tower_that_falls_behind_the_chain_is_seen_at_the_next_tick() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.settle();
    let id = world.towers[0].id.unwrap();
    let blindness = |world: &World| world.client.chain_of(id).unwrap().blindness();
    assert_eq!(blindness(&world), None);
    world.tip = Height(world.tip.0 + 7);
    world.event(Event::Tick);
    world.settle();
    assert_eq!(blindness(&world), Some(Blindness::Behind(7)));
    let tip = world.tip.0;
    world.towers[0].mine_to(tip - 6);
    world.event(Event::Tick);
    world.settle();
    assert_eq!(blindness(&world), None);
}

#[test]
fn a_row_stays_until_the_last_tower_in_use_has_it() {
    let mut world = World::quiet(&[Mode::Blind, Mode::Own]);
    world.settle();
    world.cut(1);
    world.revoke_many(channel(ALICE), 5);
    world.settle();
    assert_eq!((held(&world, 0), world.disk.queued(&channel(ALICE)).len()), (Some(4), 5));
    assert_eq!(world.client.missing(channel(ALICE)), [TowerId(1)]);
    world.connect(1);
    world.settle();
    assert_eq!((held(&world, 1), world.disk.queued(&channel(ALICE)).len()), (Some(4), 0));
}

#[test]
fn a_tower_that_is_removed_gives_back_its_rows_and_can_be_replaced() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.cut(0);
    world.revoke_many(channel(ALICE), 2_500);
    let id = world.towers[0].id.take().unwrap();
    world.event(Event::Remove(id));
    assert_eq!(world.disk.queued(&channel(ALICE)).len(), 1_500, "no turn deletes more than a thousand");
    world.settle();
    assert!(world.disk.rows.is_empty());
    assert_eq!(world.client.policy(), TowerPolicy::None);

    world.towers.push(Far::new(1, Mode::Blind));
    world.add(1, Crash::Never);
    world.revoke_many(channel(ALICE), 3);
    world.settle();
    assert_eq!(held(&world, 1), Some(2_502));
    let coverage = &world.client.coverage(channel(ALICE))[0];
    assert!(!coverage.is_complete() && coverage.receipts[0].held.first == CommitmentNumber(2_500));
    let from = |notice: &Notice| matches!(notice, Notice::CoveredFrom { number: CommitmentNumber(2_500), .. });
    assert!(world.notices.iter().any(from), "said honestly: {:?}", world.notices);
}

#[test]
fn an_own_tower_that_is_younger_than_the_channel_gets_its_past_at_once() {
    let mut world = World::quiet(&[]);
    world.revoke_many(channel(ALICE), 7);
    world.towers.push(Far::new(0, Mode::Own));
    world.add(0, Crash::Never);
    world.settle();
    assert_eq!(held(&world, 0), Some(6));
    world.revoke_many(channel(ALICE), 3);
    world.settle();
    assert_eq!((held(&world, 0), world.tally.pasts), (Some(9), 1));
}

#[test]
fn required_towers_hold_the_channel_and_their_user_hears_which_is_missing() {
    let mut world = World::quiet(&[Mode::Blind, Mode::Blind]);
    world.settle();
    world.required = 2;
    world.event(Event::Require(2));
    assert_eq!(world.client.policy(), TowerPolicy::Require);
    world.cut(1);
    world.revoke_many(channel(ALICE), 2);
    world.settle();
    assert_eq!(world.disk.revoked[&channel(ALICE)], Some(CommitmentNumber(0)), "the second one waits");
    world.event(Event::Tick);
    world.event(Event::Tick);
    let expected = Notice::Waiting {
        channel: channel(ALICE),
        number: CommitmentNumber(0),
        missing: vec![TowerId(1)],
        required: 2,
    };
    assert_eq!(world.notices, [expected]);

    let waits = |world: &World| world.gates[&channel(ALICE)].queued > world.gates[&channel(ALICE)].held;
    assert!(waits(&world));
    // Fewer are enough, or the missing one is given up.
    world.required = 1;
    world.event(Event::Require(1));
    assert!(!waits(&world));
    world.required = 2;
    world.event(Event::Require(2));
    assert!(waits(&world));
    world.connect(1);
    world.settle();
    assert!(!waits(&world));
}

#[test]
fn more_towers_required_than_there_are_is_waited_for_and_not_deleted() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.required = 2;
    world.event(Event::Require(2));
    world.revoke_many(channel(ALICE), 2);
    world.settle();
    assert_eq!((held(&world, 0), world.disk.queued(&channel(ALICE)).len()), (Some(0), 1));
}

#[test]
fn a_node_restored_from_an_old_copy_hears_it_before_it_sends_a_state() {
    for mode in [Mode::Blind, Mode::Own] {
        let mut world = World::quiet(&[mode]);
        world.revoke_many(channel(ALICE), 5);
        world.settle();
        let (copy, gates) = (world.disk.clone(), world.gates.clone());
        world.revoke_many(channel(ALICE), 5);
        world.settle();

        (world.disk, world.gates, world.tolerant) = (copy, gates, true);
        world.restart();
        assert!(!world.client.has_answered());
        // The old copy goes on before the tower has answered.
        world.revoke(channel(ALICE));
        let mut said = Vec::new();
        while world.called_old.is_empty() {
            assert!(!world.client.has_answered());
            world.work(Crash::Never);
            said.extend(sent(&world.towers[0]));
            world.deliver_to_tower(0, 1, Crash::Never);
            world.deliver_to_node(0, Crash::Never);
        }
        assert_eq!(world.called_old, [(channel(ALICE), CommitmentNumber(9))]);
        assert!(said.iter().all(|name| ["Hello", "Register", "Ask"].contains(name)), "{said:?}");
        world.settle();
        assert!(world.client.has_answered());
        assert_eq!(held(&world, 0), Some(9));
        assert_eq!(world.client.coverage(channel(ALICE))[0].trouble, Some(Trouble::DataIsOld));
    }
}

#[test]
fn a_tower_that_repeats_itself_is_written_of_once() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.revoke_many(channel(ALICE), 5);
    world.settle();
    let (copy, gates) = (world.disk.clone(), world.gates.clone());
    world.revoke_many(channel(ALICE), 5);
    world.settle();

    (world.disk, world.gates, world.tolerant) = (copy, gates, true);
    world.restart();
    while world.called_old.is_empty() {
        world.work(Crash::Never);
        world.deliver_to_tower(0, 1, Crash::Never);
        let next = world.towers[0].to_node.front().map(|bytes| TowerMessage::decode(bytes).unwrap());
        if let Some(TowerMessage::State(state)) = next {
            let again = TowerMessage::from(State { remaining: 1, ..state }).encode();
            (0..20).for_each(|_| world.towers[0].to_node.push_front(again.clone()));
        }
        world.deliver_to_node(0, Crash::Never);
    }
    world.settle();
    assert!(world.called_old.len() > 20, "the channel hears it as often as it is said");
    let lines = world.notices.iter().filter(|notice| matches!(notice, Notice::DataIsOld { .. })).count();
    assert_eq!(lines, 1);
}

#[test]
fn a_node_made_again_without_its_towers_rows_finds_what_it_had_there() {
    let mut world = World::quiet(&[Mode::Own]);
    world.revoke_many(channel(ALICE), 5);
    world.settle();
    let keys: Vec<Vec<u8>> = world.disk.rows.keys().cloned().collect();
    for key in keys {
        if matches!(ClientKey::decode(&key).unwrap(), ClientKey::Coverage { .. }) {
            world.disk.rows.remove(&key);
        }
    }
    world.restart();
    world.settle();
    let coverage = &world.client.coverage(channel(ALICE))[0];
    assert_eq!(coverage.receipts.last().unwrap().held.up_to, CommitmentNumber(4));
    world.tolerant = true;
    world.revoke_many(channel(ALICE), 2);
    world.settle();
    assert_eq!(held(&world, 0), Some(6));
}

#[test]
fn nothing_of_own_mode_is_sent_to_a_blind_tower() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.tolerant = true;
    world.revoke(channel(ALICE));
    while !matches!(world.work.front(), Some(Effect::Describe { .. })) {
        assert!(
            world.work(Crash::Never)
                || world.deliver_to_tower(0, 1, Crash::Never)
                || world.deliver_to_node(0, Crash::Never)
        );
    }
    let Some(Effect::Describe { place, .. }) = world.work.pop_front() else { panic!() };
    let (tower, channel, session) = (place.tower, place.channel, place.session);
    let constants = Constants::Own(vec![1, 2, 3]);
    world.event(Event::Described { tower, channel, session, destination: ScriptBuf::new(), constants });
    assert!(sent(&world.towers[0]).is_empty() && !world.client.is_connected(tower));

    world.towers[0].cut();
    world.connect(0);
    while !matches!(world.work.front(), Some(Effect::Prepare { .. })) {
        assert!(
            world.work(Crash::Never)
                || world.deliver_to_tower(0, 1, Crash::Never)
                || world.deliver_to_node(0, Crash::Never)
        );
    }
    let Some(Effect::Prepare { place, .. }) = world.work.pop_front() else { panic!() };
    let body = BackupBody::Own { secret: super::world::duo(&channel).secret(0), htlcs: Vec::new() };
    let backup = Box::new(Backup { channel: place.name, number: CommitmentNumber(0), body });
    world.event(Event::Prepared { tower, channel, session: place.session, backup });
    assert!(sent(&world.towers[0]).is_empty() && !world.client.is_connected(tower));
    assert!(world.notices.iter().all(|notice| matches!(notice, Notice::Unusable { .. })));
}

/// Until a backup is on its way, and the tower's answer is ours to write.
fn with_a_backup_on_its_way() -> (World, Held) {
    let mut world = World::quiet(&[Mode::Blind]);
    world.tolerant = true;
    world.revoke(channel(ALICE));
    while !sent(&world.towers[0]).contains(&"Backup") {
        assert!(
            world.work(Crash::Never)
                || world.deliver_to_tower(0, 1, Crash::Never)
                || world.deliver_to_node(0, Crash::Never)
        );
    }
    world.towers[0].to_tower.clear();
    let number = CommitmentNumber(0);
    let backup = super::world::backup(name_at(&world, 0), &channel(ALICE), number, Mode::Blind);
    let held = Held { first: number, up_to: number, digest: Digest::default().and(&backup.digest()) };
    (world, held)
}

fn receipt(world: &World, held: Held, chain: ChainHash) -> TowerMessage {
    let (client, channel, until) = (world.towers[0].client(), name_at(world, 0), Height(20_000));
    let signature = Holding { chain, client, channel, held, until }.sign(&world.towers[0].secret);
    Acknowledged { channel, receipt: SignedHeld { held, until, signature } }.into()
}

#[test]
fn a_receipt_counts_only_if_it_is_signed_and_for_what_was_sent() {
    let later = |held: Held| Held { up_to: held.up_to.next(), ..held };
    let other = |held: Held| Held { digest: Digest([9; 32]), ..held };
    type Change = (fn(Held) -> Held, ChainHash, bool);
    let changes: [Change; 4] = [
        (|held| held, ChainHash::REGTEST, true),
        (other, ChainHash::REGTEST, false),
        (later, ChainHash::REGTEST, false),
        (|held| held, ChainHash::BITCOIN, false),
    ];
    for (change, chain, counts) in changes {
        let (mut world, held) = with_a_backup_on_its_way();
        world.forged = true;
        let message = receipt(&world, change(held), chain);
        world.event(Event::Message(TowerId(0), message));
        assert_eq!(world.client.is_connected(TowerId(0)), counts);
        assert_eq!(world.client.coverage(channel(ALICE))[0].receipts.len(), usize::from(counts));
        if !counts {
            // It has lied: nothing is deleted.
            assert_eq!(world.disk.queued(&channel(ALICE)).len(), 1);
            assert!(matches!(world.notices[..], [Notice::Unusable { .. }]));
        }
    }
}

#[test]
fn a_tower_that_lost_what_it_signed_for_is_convicted_by_an_audit() {
    for mode in [Mode::Blind, Mode::Own] {
        let mut world = World::quiet(&[mode]);
        world.revoke_many(channel(ALICE), 3);
        world.settle();
        let audit = |nonce| Event::Audit { tower: TowerId(0), channel: channel(ALICE), nonce: [nonce; 32] };
        world.tolerant = true;
        world.event(audit(1));
        world.settle();
        assert!(matches!(world.notices.pop(), Some(Notice::AuditPassed { .. })), "while it keeps its word");

        let old = world.towers[0].store.clone();
        world.revoke_many(channel(ALICE), 3);
        world.settle();
        world.cut(0);
        world.towers[0].store = old;
        world.towers[0].restart();
        world.revoke(channel(ALICE));
        world.connect(0);
        world.settle();
        assert_eq!(world.notices.pop(), Some(Notice::HoldsLess { tower: TowerId(0), channel: channel(ALICE) }));
        assert_eq!(world.disk.queued(&channel(ALICE)).len(), 1, "nothing is sent to it");

        world.event(audit(2));
        world.settle();
        let Some(Notice::AuditFailed { proof, .. }) = world.notices.pop() else { panic!("{:?}", world.notices) };
        // Anybody can check it.
        assert!(proof.receipt.verify(&proof.receipt_signature, &proof.receipt_key));
        assert!(proof.audit.verify(&proof.audit_signature, &proof.receipt_key));
        assert!(convicts(&proof.receipt, &proof.audit, None).is_some());
        // It counts as none, but what it signed stays to be seen, and what is revoked is kept for the tower that takes its place.
        assert_eq!(world.client.coverage(channel(ALICE))[0].receipts.len(), 1);
        assert_eq!(world.client.policy(), TowerPolicy::BackUp);
        world.forged = true;
        world.revoke_many(channel(ALICE), 2);
        world.settle();
        assert_eq!(world.disk.queued(&channel(ALICE)).len(), 3);
        // And no more than a bound.
        let last = world.disk.revoked[&channel(ALICE)].unwrap().0 + ROWS_WITHOUT_TOWER;
        for number in (world.disk.revoked[&channel(ALICE)].unwrap().0..=last).map(CommitmentNumber) {
            world.disk.rows.insert(ClientKey::Queued { channel: channel(ALICE), number }.encode(), Vec::new());
        }
        world.disk.revoked.insert(channel(ALICE), Some(CommitmentNumber(last)));
        world.restart();
        world.settle();
        assert_eq!(world.client.policy(), TowerPolicy::BackUp);
        assert_eq!(world.disk.queued(&channel(ALICE)).len() as u64, ROWS_WITHOUT_TOWER);
        assert!(world.client.towers().all(|(_, row)| row.proof.as_ref() == Some(&*proof)));
    }
}

#[test]
fn what_is_new_goes_before_what_is_late() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.open();
    world.revoke(channel(BOB));
    world.settle();
    world.cut(0);
    world.revoke_many(channel(ALICE), 1_000);
    world.connect(0);
    let mut asked = Vec::new();
    for step in 0.. {
        for effect in &world.work {
            if let Effect::Prepare { place, work: Work::States { numbers, .. }, .. } = effect {
                let one = (place.channel, numbers.start().0, numbers.end().0);
                if !asked.contains(&one) {
                    asked.push(one);
                }
            }
        }
        let late = asked.iter().filter(|(of, ..)| *of == channel(ALICE)).map(|(_, first, last)| last - first + 1);
        if late.sum::<u64>() == CATCHING_UP as u64 {
            // All places of those that catch up are taken, and nothing is acknowledged.
            break;
        }
        assert!(step < 100, "{asked:?}");
        assert!(
            world.deliver_to_tower(0, 1, Crash::Never) | world.deliver_to_node(0, Crash::Never) | describe(&mut world)
        );
    }
    world.revoke(channel(BOB));
    let next = world.work.iter().any(|effect| {
        matches!(effect, Effect::Prepare { place, .. } if place.channel == channel(BOB))
            || matches!(effect, Effect::Describe { place, .. } if place.channel == channel(BOB))
    });
    assert!(next, "it has a place at once");
    world.settle();
    assert_eq!(held(&world, 0), Some(999));
    assert!(world.disk.queued(&channel(ALICE)).is_empty());
}

/// The workers' next step, if it is no backup.
fn describe(world: &mut World) -> bool {
    !matches!(world.work.front(), Some(Effect::Prepare { .. })) && world.work(Crash::Never)
}

#[test]
fn a_tower_of_another_chain_version_or_mode_is_left_alone() {
    let features = TowerFeatures::BLIND;
    let fits = Hello { version: PROTOCOL_VERSION, chain: ChainHash::REGTEST, features };
    let bad = [
        Hello { version: 0, ..fits.clone() },
        Hello { chain: ChainHash::BITCOIN, ..fits.clone() },
        Hello { features: TowerFeatures::OWN, ..fits },
    ];
    for hello in bad {
        let mut world = World::quiet(&[Mode::Blind]);
        world.tolerant = true;
        while sent(&world.towers[0]).is_empty() {
            assert!(world.work(Crash::Never));
        }
        world.towers[0].to_tower.clear();
        world.event(Event::Message(TowerId(0), hello.into()));
        assert!(sent(&world.towers[0]).is_empty());
        assert!(matches!(world.notices[..], [Notice::Unusable { .. }]));
    }
}

#[test]
fn a_full_tower_is_told_of_and_tried_again() {
    for reconnects in [false, true] {
        a_full_tower(reconnects);
    }
}

fn a_full_tower(reconnects: bool) {
    let (mut world, _) = with_a_backup_on_its_way();
    let refused = Refused {
        what: 11,
        code: RefusalCode::QuotaExceeded,
        channel: Some(name_at(&world, 0)),
        number: None,
        text: "no room".into(),
    };
    world.event(Event::Message(TowerId(0), refused.into()));
    assert!(matches!(world.notices[..], [Notice::ChannelRefused { code: RefusalCode::QuotaExceeded, .. }]));
    assert!(world.client.is_connected(TowerId(0)));
    if reconnects {
        world.cut(0);
        world.connect(0);
    }
    world.settle();
    let trouble = world.client.coverage(channel(ALICE))[0].trouble;
    assert_eq!((held(&world, 0), trouble), (None, Some(Trouble::Refused(RefusalCode::QuotaExceeded))));
    world.event(Event::Tick);
    world.settle();
    assert_eq!(held(&world, 0), Some(0));
}

#[test]
fn a_channel_that_is_over_is_forgotten_by_the_tower_even_if_that_is_away() {
    for crash in [Crash::Never, Crash::BeforeCommit, Crash::AfterCommit] {
        let mut world = World::quiet(&[Mode::Blind]);
        world.revoke_many(channel(ALICE), 3);
        world.settle();
        world.cut(0);
        world.disk.revoked.clear();
        world.gates.clear();
        world.event_with(Event::ChannelOver(channel(ALICE)), crash);
        world.connect(0);
        world.settle();
        assert_eq!(held(&world, 0), None);
        let left: Vec<ClientKey> = world.disk.rows.keys().map(|key| ClientKey::decode(key).unwrap()).collect();
        assert_eq!(left, [ClientKey::Tower(TowerId(0))]);
    }
}

#[test]
fn a_term_is_prolonged_before_it_ends() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.settle();
    let late = leyden_watchtower::client::Ctx { tip: Height(40_000), ..ctx() };
    let outbox = world.client.handle(Event::Tick, &late);
    let effects = leyden_channels::channel::Outbox::commit_all(vec![outbox], &mut world.disk).unwrap().remove(0);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send(_, TowerMessage::Register(_)))), "{effects:?}");
}

#[test]
fn two_towers_cannot_tell_that_they_serve_one_node() {
    let mut world = World::quiet(&[Mode::Blind, Mode::Blind]);
    world.revoke_many(channel(ALICE), 3);
    let mut seen: Vec<Vec<Vec<u8>>> = vec![Vec::new(), Vec::new()];
    loop {
        let mut moved = world.work(Crash::Never);
        for (at, seen) in seen.iter_mut().enumerate() {
            seen.extend(world.towers[at].to_tower.iter().cloned());
            moved |= world.deliver_to_tower(at, 50, Crash::Never) | world.deliver_to_node(at, Crash::Never);
        }
        if !moved {
            break;
        }
    }
    assert_ne!(world.towers[0].client(), world.towers[1].client());
    let tags = [0, 1].map(|at| encode(&name_at(&world, at).tag));
    let has = |bytes: &Vec<u8>, tag: &Vec<u8>| bytes.windows(tag.len()).any(|part| part == tag);
    assert!(seen[0].iter().any(|bytes| has(bytes, &tags[0])) && !seen[0].iter().any(|bytes| has(bytes, &tags[1])));
}

#[test]
fn late_answers_of_an_earlier_connection_change_nothing() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.revoke(channel(ALICE));
    while !matches!(world.work.front(), Some(Effect::Describe { .. })) {
        assert!(
            world.work(Crash::Never)
                || world.deliver_to_tower(0, 1, Crash::Never)
                || world.deliver_to_node(0, Crash::Never)
        );
    }
    let late = world.work.pop_front().unwrap();
    world.cut(0);
    world.connect(0);
    world.settle();
    world.work.push_back(late);
    world.settle();
    assert_eq!(held(&world, 0), Some(0));
    let (tower, session) = (TowerId(0), Session(1));
    world.event(Event::NotPrepared { tower, channel: channel(ALICE), session, why: "late".into() });
    assert_eq!(world.client.coverage(channel(ALICE))[0].trouble, None);
}

#[test]
fn damaged_rows_are_told_by_name() {
    let rows = [(ClientKey::Tower(TowerId(3)), vec![9, 9])];
    let error = Client::restore(rows, 0).err().unwrap();
    assert!(error.to_string().contains("a tower"), "{error}");
}

#[test]
fn a_blind_tower_that_is_added_again_gets_nothing_more_under_a_tag_that_it_knows() {
    let mut world = World::quiet(&[Mode::Blind]);
    world.revoke_many(channel(ALICE), 3);
    world.settle();
    let id = world.towers[0].id.take().unwrap();
    world.towers[0].cut();
    world.event(Event::Remove(id));
    world.add(0, Crash::Never);
    world.revoke_many(channel(ALICE), 2);
    let mut seen = Vec::new();
    loop {
        let moved = world.work(Crash::Never);
        seen.extend(world.towers[0].to_tower.iter().cloned());
        if !(world.deliver_to_tower(0, 50, Crash::Never) | world.deliver_to_node(0, Crash::Never) | moved) {
            break;
        }
    }
    assert_eq!(held(&world, 0), Some(4));
    let tag = encode(&name_at(&world, 0).tag);
    assert!(!seen.iter().any(|bytes| bytes.windows(tag.len()).any(|part| part == tag)));
}
