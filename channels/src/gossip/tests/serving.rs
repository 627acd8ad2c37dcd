//! Peers that ask.

use super::super::limits::{DUE_MESSAGES, PIECE_BYTES, QUESTIONS, Refusal, SERVED};
use super::*;
use crate::wire::{GossipTimestampFilter, QueryShortChannelIds, queries::QueryOption};

fn stored_keys(effects: &[SyncEffect]) -> Vec<GossipKey> {
    let keys = effects.iter().filter_map(|effect| match effect {
        SyncEffect::SendStored { keys, .. } => Some(keys.clone()),
        SyncEffect::Send { .. } | SyncEffect::Warn { .. } => None,
    });
    keys.flatten().collect()
}

fn ids_query(ids: Vec<ShortChannelId>) -> QueryShortChannelIds {
    QueryShortChannelIds { chain_hash: CHAIN, encoded_short_ids: ShortIds::Plain(ids), query_flags: None }
}

fn range_query(first_blocknum: u32, number_of_blocks: u32) -> QueryChannelRange {
    let query_option = Some(QueryOption(3));
    QueryChannelRange { chain_hash: CHAIN, first_blocknum, number_of_blocks, query_option }
}

#[test]
fn a_filter_brings_the_backlog_piece_by_piece() {
    let mut old = informed(200);
    let peer = node(600);
    old.connect(peer, &Features::empty());
    assert!(old.serve_all(peer).is_empty(), "nothing before the filter");
    let filter = GossipTimestampFilter { chain_hash: CHAIN, first_timestamp: TIME, timestamp_range: 1 };
    old.serving.gossip_timestamp_filter(peer, filter);
    let first = stored_keys(&old.serving.serve(peer, true, old.intake.graph(), old.clocks.uptime));
    let mut keys = stored_keys(&old.serve_all(peer));
    assert!(first.len() < 300 && !keys.is_empty(), "in pieces");
    keys.extend(first);
    let count = |of: fn(&GossipKey) -> bool| keys.iter().filter(|key| of(key)).count();
    assert_eq!(count(|key| matches!(key, GossipKey::Channel(_))), 200);
    assert_eq!(count(|key| matches!(key, GossipKey::Update(..))), 400);
    assert!(count(|key| matches!(key, GossipKey::Node(_))) >= 9);
}

#[test]
fn answers_about_the_whole_network_are_cut_to_fit() {
    let network = SyntheticNetwork::generate(Size { seed: 1, nodes: 2_000, channels: 9_000 });
    let graph = &network.graph();
    for (first, number) in [(0, u32::MAX), (500_100, 200), (500_449, 1), (0, 1), (600_000, 10)] {
        let mut serving = Serving::new(CHAIN, Uptime(0));
        serving.connected(node(1), Uptime(0));
        let query = range_query(first, number);
        assert!(serving.query_channel_range(node(1), &query).is_empty());
        let mut replies = Vec::new();
        while !serving.waiting().is_empty() {
            replies.extend(serving.serve(node(1), false, graph, Uptime(0)));
        }
        let mut ids = Vec::new();
        let mut next = query.first_blocknum;
        for (index, effect) in replies.iter().enumerate() {
            let SyncEffect::Send { message: Message::ReplyChannelRange(reply), .. } = effect else { panic!() };
            assert!(Message::from(reply.clone()).encode().is_ok());
            assert!(reply.first_blocknum >= next.saturating_sub(1) && reply.first_blocknum <= next);
            next = reply.end();
            assert_eq!(reply.sync_complete == 1, index + 1 == replies.len());
            let ShortIds::Plain(some) = &reply.encoded_short_ids else { panic!() };
            ids.extend_from_slice(some);
        }
        assert!(next >= query.end());
        let expected: Vec<_> = graph
            .channels_in_blocks(Height(first), Height(query.end()))
            .map(|channel| channel.short_channel_id)
            .collect();
        assert_eq!(ids, expected);
    }
}

#[test]
fn a_channel_that_is_asked_for_8_000_times_is_told_once() {
    let mut old = with_channel();
    old.take(update(ID, 1, 2, 100, TIME), None).unwrap();
    old.connect(node(600), &Features::empty());
    assert!(old.serving.query_short_channel_ids(node(600), &ids_query(vec![ID; 8_000])).is_empty());
    let effects = old.serve_all(node(600));
    assert_eq!(stored_keys(&effects).len(), 2);
    assert!(matches!(effects.last(), Some(SyncEffect::Send { message: Message::ReplyShortChannelIdsEnd(_), .. })));
}

#[test]
fn a_compressed_question_is_answered_within_the_length_of_a_plain_one() {
    let ids = |count: u64| (0..count).flat_map(|index| (ID.0 + index).to_be_bytes()).collect::<Vec<u8>>();
    let question = |list: &[u8]| QueryShortChannelIds {
        encoded_short_ids: ShortIds::Zlib(miniz_oxide::deflate::compress_to_vec_zlib(list, 6)),
        ..ids_query(Vec::new())
    };
    let mut old = with_channel();
    old.take(update(ID, 1, 2, 100, TIME), None).unwrap();
    old.connect(node(600), &Features::empty());
    for count in [1, 8_187] {
        assert!(old.serving.query_short_channel_ids(node(600), &question(&ids(count))).is_empty());
        assert_eq!(stored_keys(&old.serve_all(node(600))).len(), 2);
    }
    let mut broken = question(&ids(1));
    broken.encoded_short_ids = ShortIds::Zlib(vec![0x78, 0x9c, 1, 2, 3]);
    for wrong in [question(&ids(8_188)), question(&vec![0; 1 << 20]), question(&[0; 12]), broken] {
        let refused = old.serving.query_short_channel_ids(node(600), &wrong);
        assert!(matches!(refused[..], [SyncEffect::Warn { .. }]));
    }
}

#[test]
fn a_peer_has_few_questions_at_a_time_and_none_once_it_has_gone() {
    let mut old = informed(20);
    old.connect(node(600), &Features::empty());
    for _ in 0..QUESTIONS {
        assert!(old.serving.query_channel_range(node(600), &range_query(0, 1_000)).is_empty());
    }
    for _ in 0..1_000 {
        let refused = old.serving.query_channel_range(node(600), &range_query(0, 1_000));
        assert!(matches!(refused[..], [SyncEffect::Warn { .. }]));
    }
    assert_eq!(old.serving.refusals().get(Refusal::Question), 1_000);
    old.disconnect(&node(600));
    assert!(old.serving.waiting().is_empty() && old.serve_all(node(600)).is_empty());
}

#[test]
fn answers_come_in_pieces_and_at_a_rate() {
    let network = SyntheticNetwork::generate(Size { seed: 1, nodes: 2_000, channels: 9_000 });
    let graph = &network.graph();
    let ids: Vec<_> = graph.channels().map(|channel| channel.short_channel_id).take(8_000).collect();
    let mut serving = Serving::new(CHAIN, Uptime(0));
    let peer = node(1);
    serving.connected(peer, Uptime(0));
    let size = |effects: &[SyncEffect]| {
        let keys = stored_keys(effects);
        keys.iter().map(|key| if matches!(key, GossipKey::Channel(_)) { 430 } else { 130 }).sum::<usize>()
    };
    let mut told = 0;
    // It asks again and again, and reads whatever comes.
    for tenth in 0..600 {
        serving.query_short_channel_ids(peer, &ids_query(ids.clone()));
        loop {
            let piece = serving.serve(peer, true, graph, Uptime(tenth * 100));
            if piece.is_empty() {
                break;
            }
            let bytes = size(&piece);
            assert!(bytes <= PIECE_BYTES + 2_000, "{bytes}");
            told += bytes;
        }
    }
    let most = (SERVED.burst + 60.0 * SERVED.per_second) as usize + PIECE_BYTES;
    assert!((most / 2..=most).contains(&told), "{told} of {most}");
}

#[test]
fn a_filter_that_fits_nothing_costs_its_sender_too() {
    let network = SyntheticNetwork::generate(Size { seed: 1, nodes: 2_000, channels: 9_000 });
    let graph = &network.graph();
    let mut serving = Serving::new(CHAIN, Uptime(0));
    let never = GossipTimestampFilter { chain_hash: CHAIN, first_timestamp: 1, timestamp_range: 1 };
    let mut pieces = 0;
    serving.connected(node(1), Uptime(0));
    for turn in 0..1_000 {
        serving.gossip_timestamp_filter(node(1), never.clone());
        if !serving.serve(node(1), true, graph, Uptime(turn)).is_empty() {
            pieces += 1;
        }
    }
    assert_eq!(pieces, 0);
    // It has used up what it may be told for now.
    assert!(serving.query_short_channel_ids(node(1), &ids_query(vec![ID])).is_empty());
    assert!(serving.serve(node(1), true, graph, Uptime(1_000)).is_empty());
    assert!(!serving.serve(node(1), true, graph, Uptime(60_000)).is_empty());
}

#[test]
fn what_is_new_waits_for_a_slow_peer_within_a_bound() {
    let mut serving = Serving::new(CHAIN, Uptime(0));
    let (slow, filter) = (node(1), |first| GossipTimestampFilter {
        chain_hash: CHAIN,
        first_timestamp: first,
        timestamp_range: u32::MAX,
    });
    serving.connected(slow, Uptime(0));
    serving.gossip_timestamp_filter(slow, filter(0));
    for minute in 1..=20 {
        for number in 0..1_000 {
            let key = GossipKey::Update(ShortChannelId(minute * 1_000 + number), Direction::FromNode1);
            serving.relay(key, 5, Some(node(2)));
        }
        serving.tick(Uptime(minute * 60_000));
    }
    serving.relay(GossipKey::Channel(ID), 5, None);
    serving.tick(Uptime(21 * 60_000));
    let mut keys = Vec::new();
    for second in 0..60 {
        keys.extend(stored_keys(&serving.serve(slow, false, &Graph::new(), Uptime((22 * 60 + second) * 60_000))));
    }
    assert_eq!(keys.len(), DUE_MESSAGES + 1, "and our own");
    assert!(keys.contains(&GossipKey::Channel(ID)));
    assert_eq!(serving.refusals().get(Refusal::NotTaken), 20_000 - DUE_MESSAGES as u64);
}
