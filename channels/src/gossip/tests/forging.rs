//! Peers that say what is not so.

use super::super::limits::{
    ANNOUNCEMENT_BYTES, CHANNEL_PEER_SHARE_BYTES, FORGERIES, Refusal, SHARE_BYTES, STRANGERS_SHARE_BYTES,
};
use super::*;
use crate::wire::gossip::Excess;

const YOUNG: ShortChannelId = ShortChannelId(998 << 40 | 5 << 16);
/// In the block that comes next.
const AHEAD: ShortChannelId = ShortChannelId(1_001 << 40 | 5 << 16);

fn forged(mut update: ChannelUpdate) -> ChannelUpdate {
    update.fee_base_msat ^= 1;
    update
}

#[test]
fn forged_updates_do_not_spend_the_allowance_of_their_channel() {
    let mut peer = with_channel();
    for minute in 0..60 {
        peer.clocks = after(minute * 60);
        let liar = node(100 + minute);
        peer.take(forged(update(ID, 1, 2, 1_000, TIME + 5_000 + minute as u32)), Some(liar)).unwrap();
    }
    let mut liars = 0;
    while liars < 100 {
        liars += 1;
        peer.take(forged(update(ID, 1, 2, 1_000, TIME + 9_000)), Some(node(1_000 + liars))).unwrap();
    }
    for turn in 0..10 {
        peer.take(update(ID, 1, 2, turn, TIME + turn), Some(node(7))).unwrap();
    }
    let direction = own_channel(ID, 1, 2).direction();
    let policy = peer.intake.graph().channel_by_id(ID).unwrap().policies.get(direction).unwrap();
    assert_eq!(policy.fee_base_msat, 9);
    assert_eq!(peer.take(update(ID, 1, 2, 10, TIME + 10), Some(node(7))), Err(Ignored::TooOften));
    assert_eq!(peer.intake.refusals().get(Refusal::Forged), 160);
}

#[test]
fn what_is_signed_while_another_check_runs_counts_too() {
    let mut peer = with_channel();
    // All are looked at before the first one has been checked.
    let checks: Vec<_> =
        (0..30).flat_map(|n| peer.first_look(update(ID, 1, 2, n, TIME + n), Some(node(7))).unwrap()).collect();
    peer.run(checks);
    let direction = own_channel(ID, 1, 2).direction();
    let policy = peer.intake.graph().channel_by_id(ID).unwrap().policies.get(direction).unwrap();
    assert_eq!(policy.fee_base_msat, 9);
    assert_eq!(peer.intake.refusals().get(Refusal::TooOften), 20);
}

#[test]
fn a_node_says_something_new_about_itself_a_few_times_in_an_hour() {
    let mut peer = with_channel();
    let named = |turn: u32| {
        let own = OwnNode {
            node_id: node(1),
            features: Features::init(),
            alias: format!("turn {turn}"),
            rgb_color: [1, 2, 3],
            addresses: Vec::new(),
        };
        own.sign(UnixTime(u64::from(TIME + turn)), None, |digest| sign(digest, 1))
    };
    for liar in 0..20 {
        let mut forged = named(500);
        forged.alias[0] ^= 1;
        peer.take(forged, Some(node(100 + liar))).unwrap();
    }
    let mut taken = 0;
    for turn in 0..60 {
        peer.clocks = after(u64::from(turn) * 60);
        taken += usize::from(peer.take(named(turn), Some(node(7))).is_ok());
        assert!(peer.take(named(turn), Some(node(7))).is_err(), "said already, or too often");
    }
    assert!((9..=10).contains(&taken), "{taken}");
    // The same again is no news for a day.
    peer.clocks = after(80_000);
    peer.take(named(61), Some(node(7))).unwrap();
    let mut again = named(61);
    again.timestamp += 1;
    assert_eq!(peer.take(again, Some(node(7))), Err(Ignored::Known));
}

#[test]
fn a_forger_is_hung_up_on_and_a_peer_with_a_channel_is_muted() {
    let mut peer = with_channel();
    peer.intake.set_channel_peer(node(8), true);
    for turn in 0..FORGERIES {
        assert!(peer.hung_up.is_empty() && peer.muted.is_empty());
        for from in [node(7), node(8)] {
            peer.take(forged(update(ID, 1, 2, 7, TIME + turn)), Some(from)).unwrap();
        }
    }
    assert_eq!((&peer.hung_up[..], &peer.muted[..]), (&[node(7)][..], &[node(8)][..]));
}

#[test]
fn who_makes_up_channels_deep_in_the_chain_is_a_forger() {
    let mut peer = Peer::new(99);
    for number in 0..FORGERIES {
        let id = ShortChannelId::new(Height(500), number, 0);
        peer.fund(id, 50, 51);
        peer.take(announcement(id, 1, 2), Some(node(7))).unwrap();
    }
    assert_eq!(peer.hung_up, [node(7)]);
    // Near the tip a reorganisation may be the reason.
    for number in 0..2 * FORGERIES {
        let id = ShortChannelId::new(Height(990), number, 0);
        peer.fund(id, 50, 51);
        peer.take(announcement(id, 1, 2), Some(node(9))).unwrap();
    }
    assert_eq!(peer.hung_up, [node(7)]);
}

#[test]
fn who_comes_first_with_a_forgery_does_not_take_a_young_channels_place() {
    for id in [YOUNG, AHEAD] {
        let mut peer = Peer::new(99);
        peer.fund(id, 1, 2);
        let mut wrong = announcement(id, 1, 2);
        wrong.bitcoin_signature_2 = wrong.bitcoin_signature_1;
        // The forgery, one that other keys signed, and the honest one come before anything has been checked.
        let mut effects = peer.first_look(wrong, Some(node(7))).unwrap();
        effects.extend(peer.first_look(announcement(id, 3, 4), Some(node(8))).unwrap());
        effects.extend(peer.first_look(announcement(id, 1, 2), Some(node(9))).unwrap());
        // And a later time than the owner's, which it has not signed.
        peer.take(forged(update(id, 1, 2, 6, TIME + 900)), Some(node(7))).unwrap();
        peer.take(update(id, 1, 2, 5, TIME), Some(node(9))).unwrap();
        peer.run(effects);
        for height in TIP.0 + 1..=id.block().0 + 5 {
            peer.block(height);
        }
        let channel = peer.intake.graph().channel_by_id(id).expect("the honest one");
        let policy = channel.policies.get(own_channel(id, 1, 2).direction()).unwrap();
        assert_eq!(policy.fee_base_msat, 5);
        let first = peer.intake.graph().node(channel.node_1).unwrap().id;
        assert!([node(1), node(2)].contains(&first));
        assert_eq!(peer.intake.waiting_bytes(), 0);
    }
}

/// Announcements of channels in a block that has not come, whose signatures are right: those of other channels with the
/// id exchanged would not be, so each is signed anew.
fn made_up(count: u64, seed: u64) -> Vec<ChannelAnnouncement> {
    let id = |number: u64| ShortChannelId::new(Height(TIP.0 + 1), (seed * 10_000 + number) as u32, 0);
    (0..count).map(|number| announcement(id(number), 1, 2)).collect()
}

#[test]
fn made_up_channels_fill_their_senders_share_and_no_other() {
    let mut peer = Peer::new(99);
    let (channel_peer, honest) = (node(8), node(9));
    peer.intake.set_channel_peer(channel_peer, true);
    let mut refused = 0;
    for announcement in made_up(400, 0) {
        refused += usize::from(peer.take(announcement, Some(node(7))) == Err(Ignored::Busy));
    }
    assert!(refused > 100, "{refused}");
    assert!(peer.intake.waiting_bytes() <= SHARE_BYTES);
    assert_eq!(peer.intake.refusals().get(Refusal::RoomFull), refused as u64);
    // The young channels of others, of peers and of ourselves.
    for (number, from) in [(1, Some(honest)), (2, Some(channel_peer)), (3, None)] {
        let id = ShortChannelId::new(Height(998), number, 0);
        peer.fund(id, 10, 11);
        peer.take(announcement(id, 10, 11), from).unwrap();
    }
    // A peer with a channel has no end of room, either.
    for announcement in made_up(2_000, 1) {
        let _ = peer.take(announcement, Some(channel_peer));
    }
    assert!(peer.intake.waiting_bytes() <= SHARE_BYTES + CHANNEL_PEER_SHARE_BYTES + 8_000);
    peer.block(TIP.0 + 1);
    (2..=4).for_each(|more| peer.block(TIP.0 + more));
    assert_eq!(peer.intake.graph().channel_count(), 3);
    assert_eq!(peer.intake.waiting_bytes(), 0, "the block has come, and has none of them");
}

#[test]
fn all_strangers_together_hold_a_bounded_room_and_whoever_holds_most_gives_way() {
    let mut peer = Peer::new(99);
    let some = made_up(230, 0);
    for stranger in 0..45 {
        for announcement in &some {
            // Only what is kept matters here; their checks stay open.
            let _ = peer.first_look(announcement.clone(), Some(node(1_000 + stranger)));
        }
    }
    let full = peer.intake.waiting_bytes();
    assert!((STRANGERS_SHARE_BYTES * 9 / 10..=STRANGERS_SHARE_BYTES).contains(&full), "{full}");
    // One who comes late, with little, is heard.
    peer.fund(YOUNG, 10, 11);
    peer.take(announcement(YOUNG, 10, 11), Some(node(9))).unwrap();
    assert!(peer.intake.has_channel(YOUNG) && peer.intake.waiting_bytes() <= STRANGERS_SHARE_BYTES);
    // Who goes takes along what nothing confirms.
    (0..45).for_each(|stranger| peer.intake.disconnected(node(1_000 + stranger)));
    peer.intake.disconnected(node(9));
    assert!(peer.intake.waiting_bytes() < 2_000 && peer.intake.has_channel(YOUNG));
}

#[test]
fn what_nodes_say_waits_in_its_senders_share() {
    let mut peer = Peer::new(99);
    peer.take(announcement(AHEAD, 1, 2), Some(node(7))).unwrap();
    let mut huge = node_announcement(1, TIME);
    huge.excess = Excess(vec![7; 60_000]);
    assert_eq!(peer.take(huge, Some(node(7))), Err(Ignored::TooLong));
    for turn in 0..1_000 {
        let mut large = node_announcement(1 + turn % 2, TIME);
        large.timestamp += turn as u32;
        large.excess = Excess(vec![7; ANNOUNCEMENT_BYTES - 300]);
        let _ = peer.take(large, Some(node(7)));
    }
    assert!(peer.intake.waiting_bytes() < 20_000, "one for each node that is named");
    assert_eq!(peer.take(node_announcement(3, TIME), Some(node(7))), Err(Ignored::UnknownNode));
    peer.intake.disconnected(node(7));
    assert_eq!(peer.intake.waiting_bytes(), 0);
    assert_eq!(peer.take(node_announcement(1, TIME), Some(node(7))), Err(Ignored::UnknownNode));
}
