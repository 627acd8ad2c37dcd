//! Whom a node asks, and when it has caught up.

use super::super::limits::{ANSWER_SECONDS, ASK_AGAIN_SECONDS, IDS_PER_QUERY, LIVE_PEERS, TURN_SECONDS};
use super::*;
use crate::wire::{ReplyChannelRange, ReplyShortChannelIdsEnd};

fn answering() -> Features {
    Features::empty().offer(Feature::GossipQueries)
}

fn reply(ids: Vec<ShortChannelId>) -> ReplyChannelRange {
    ReplyChannelRange {
        chain_hash: CHAIN,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        sync_complete: 1,
        encoded_short_ids: ShortIds::Plain(ids),
        timestamps: None,
        checksums: None,
    }
}

/// Those who are asked for all they know.
fn asked(effects: &[SyncEffect]) -> Vec<NodeId> {
    let asked = effects.iter().filter_map(|effect| match effect {
        SyncEffect::Send { peer, message: Message::QueryChannelRange(_) } => Some(*peer),
        SyncEffect::Send { .. } | SyncEffect::SendStored { .. } | SyncEffect::Warn { .. } => None,
    });
    asked.collect()
}

impl Peer {
    fn answer(&mut self, from: NodeId, ids: Vec<ShortChannelId>) -> Vec<SyncEffect> {
        self.sync.reply_channel_range(from, &reply(ids), &self.intake, &self.clocks)
    }

    fn end(&mut self, from: NodeId) -> Vec<SyncEffect> {
        let end = ReplyShortChannelIdsEnd { chain_hash: CHAIN, full_information: 1 };
        assert!(Message::from(end).encode().is_ok());
        self.sync.reply_short_channel_ids_end(from, &self.intake, &self.clocks)
    }

    fn tick_at(&mut self, seconds: u64) -> Vec<SyncEffect> {
        self.clocks = after(seconds);
        self.sync.tick(&self.intake, &self.clocks)
    }
}

#[test]
fn peers_that_answer_with_nothing_make_room_for_the_next() {
    let mut peer = informed(30);
    let empty: Vec<NodeId> = (1..=LIVE_PEERS as u64).map(|number| node(1_000 + number)).collect();
    for one in &empty {
        assert_eq!(asked(&peer.connect(*one, &answering())), [*one]);
        peer.answer(*one, Vec::new());
    }
    assert!(!peer.sync.has_caught_up(), "we know of channels that nobody has told");
    let honest = node(2_000);
    assert_eq!(asked(&peer.connect(honest, &answering())), [honest]);
    let ids: Vec<_> = peer.intake.graph().channels().map(|channel| channel.short_channel_id).collect();
    peer.answer(honest, ids);
    assert!(peer.sync.has_caught_up());
}

#[test]
fn peers_that_do_not_answer_lose_their_turn() {
    let mut peer = informed(30);
    let silent: Vec<NodeId> = (1..=LIVE_PEERS as u64).map(|number| node(1_000 + number)).collect();
    for one in &silent {
        peer.connect(*one, &answering());
    }
    let honest = node(2_000);
    assert!(asked(&peer.connect(honest, &answering())).is_empty());
    assert!(asked(&peer.tick_at(ANSWER_SECONDS - 1)).is_empty());
    assert_eq!(asked(&peer.tick_at(ANSWER_SECONDS)), [honest]);
    assert!(!peer.sync.has_caught_up());
    // They are asked again later, and nobody else waits longer for it.
    let again = asked(&peer.tick_at(ASK_AGAIN_SECONDS));
    assert_eq!(again.len(), LIVE_PEERS);
}

/// LDK 0.2 answers for ranges and not for single channels, and passes nothing on before the first filter.
#[test]
fn a_peer_that_leaves_questions_for_channels_unanswered_is_asked_for_all_that_it_has() {
    let mut peer = informed(30);
    let deaf = node(2_000);
    assert_eq!(asked(&peer.connect(deaf, &answering())), [deaf]);
    let told = peer.answer(deaf, vec![ShortChannelId(113 << 40 | 1 << 16)]);
    let questions =
        |effect: &SyncEffect| matches!(effect, SyncEffect::Send { message: Message::QueryShortChannelIds(_), .. });
    assert!(told.iter().any(questions), "{told:?}");
    let effects = peer.tick_at(ANSWER_SECONDS + 1);
    let filters = effects.iter().filter_map(|effect| match effect {
        SyncEffect::Send { peer, message: Message::GossipTimestampFilter(filter) } => Some((*peer, filter)),
        _ => None,
    });
    let everything = |(peer, filter): (NodeId, &crate::wire::GossipTimestampFilter)| {
        (peer, filter.first_timestamp, filter.timestamp_range)
    };
    assert_eq!(filters.map(everything).collect::<Vec<_>>(), [(deaf, 0, u32::MAX)]);
}

#[test]
fn a_peer_with_a_channel_is_asked_before_strangers() {
    let mut peer = Peer::new(99);
    for number in 0..20 {
        peer.connect(node(1_000 + number), &answering());
    }
    let friend = node(7);
    peer.intake.set_channel_peer(friend, true);
    assert!(asked(&peer.connect(friend, &answering())).is_empty());
    assert_eq!(asked(&peer.tick_at(ANSWER_SECONDS)).first(), Some(&friend));
}

#[test]
fn nobody_is_listened_to_for_ever_while_others_wait() {
    let mut peer = informed(30);
    let ids: Vec<_> = peer.intake.graph().channels().map(|channel| channel.short_channel_id).collect();
    for number in 0..20 {
        let one = node(1_000 + number);
        if !asked(&peer.connect(one, &answering())).is_empty() {
            peer.answer(one, ids.clone());
        }
    }
    let mut heard: std::collections::BTreeSet<NodeId> = peer.sync.asked();
    for seconds in 1..=5 * TURN_SECONDS {
        for next in asked(&peer.tick_at(seconds)) {
            heard.insert(next);
            peer.answer(next, ids.clone());
        }
        assert!(peer.sync.asked().len() <= LIVE_PEERS);
    }
    assert_eq!(heard.len(), 20);
}

#[test]
fn where_no_channel_is_known_all_that_are_there_have_to_say_so() {
    let mut peer = Peer::new(99);
    assert!(!peer.sync.has_caught_up());
    peer.connect(node(1), &answering());
    peer.connect(node(2), &answering());
    peer.answer(node(1), Vec::new());
    assert!(!peer.sync.has_caught_up(), "the other one is still being asked");
    peer.answer(node(2), Vec::new());
    assert!(peer.sync.has_caught_up());
    // Channels of our own are no network.
    let mut peer = Peer::new(99);
    let own = ShortChannelId::new(Height(600), 0, 0);
    peer.fund(own, 99, 1);
    peer.take(announcement(own, 99, 1), None).unwrap();
    peer.connect(node(1), &answering());
    peer.answer(node(1), vec![own]);
    assert!(peer.sync.has_caught_up());
}

#[test]
fn channels_that_are_made_up_are_no_news() {
    let mut peer = informed(30);
    let liar = node(1_000);
    peer.connect(liar, &answering());
    let made_up: Vec<_> = (0..10_000).map(|number| ShortChannelId::new(Height(300), number, 0)).collect();
    let mut effects = peer.answer(liar, made_up);
    let mut questions = 0;
    while let Some(SyncEffect::Send { message: Message::QueryShortChannelIds(query), .. }) = effects.first() {
        questions += 1;
        assert!(query.encoded_short_ids.plain().unwrap().len() <= IDS_PER_QUERY);
        effects = peer.end(liar);
    }
    assert_eq!(questions, 3, "it is given up");
    assert!(peer.sync.asked().is_empty() && !peer.sync.has_caught_up());
    // Blocks that have not come have no channels yet.
    let next = node(1_001);
    peer.connect(next, &answering());
    let effects = peer.answer(next, vec![ShortChannelId::new(Height(TIP.0 + 1), 0, 0); 3]);
    assert!(matches!(effects.first(), Some(SyncEffect::Send { message: Message::GossipTimestampFilter(_), .. })));
}
