//! What a light node asks of one peer: how long it waits for the answer.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_filter::CFilter;
use bitcoin::p2p::message_network::VersionMessage;
use leyden_net::{Action, Config, Ctx, Direction, DisconnectReason, Event, Fetched, PeerId, PeerSet, Wish};

use crate::chain::{Chain, Mempool, START, zero_work};

const PEER: PeerId = PeerId(1);
const BLOCKS: u32 = 100;

/// A light node that has asked its peer for the filters of all blocks.
struct Asked {
    peers: PeerSet,
    chain: Chain,
    blocks: Vec<BlockHash>,
    now: Duration,
    outcome: Option<Fetched>,
    gone: Option<DisconnectReason>,
}

impl Asked {
    fn new() -> Self {
        let mut chain = Chain::new(false);
        let blocks: Vec<BlockHash> = (0..u64::from(BLOCKS)).map(|salt| chain.mine(START + salt, salt, false)).collect();
        let (now, peers) =
            (Duration::from_secs(START), PeerSet::new(Config::light_node("/light/", zero_work()), [3; 32]));
        let mut asked = Self { peers, chain, blocks, now, outcome: None, gone: None };
        let address = "203.0.113.7:8333".parse().unwrap();
        asked.handle(Event::Connected { peer: PEER, address, direction: Direction::Outbound });
        let nowhere = Address { services: ServiceFlags::NONE, address: [0; 8], port: 0 };
        asked.message(NetworkMessage::Version(VersionMessage {
            version: 70_016,
            services: ServiceFlags::NETWORK | ServiceFlags::WITNESS | ServiceFlags::COMPACT_FILTERS,
            timestamp: 0,
            receiver: nowhere.clone(),
            sender: nowhere,
            nonce: 5,
            user_agent: "/full/".into(),
            start_height: 0,
            relay: true,
        }));
        asked.message(NetworkMessage::Verack);
        // It owes no headers, for whose sake it would be let go.
        asked.message(NetworkMessage::Headers(Vec::new()));
        let wish = Wish::Filters { start: 1, stop: *asked.blocks.last().unwrap() };
        asked.handle(Event::Fetch { peer: PEER, request: 7, wish });
        asked
    }

    fn handle(&mut self, event: Event) {
        let mempool = Mempool::default();
        let ctx = Ctx { now: self.now, unix_time: self.now.as_secs(), chain: &self.chain, mempool: &mempool };
        for action in self.peers.handle(event, &ctx) {
            match action {
                Action::Fetched { request: 7, outcome, .. } => self.outcome = Some(outcome),
                Action::Disconnect { reason, .. } => self.gone = Some(reason),
                _ => {}
            }
        }
    }

    fn message(&mut self, message: NetworkMessage) {
        self.handle(Event::Message { peer: PEER, message });
    }

    /// A filter after each pause, as long as the peer is connected; whether all came.
    fn send_filters(&mut self, pause: Duration) -> bool {
        for block_hash in self.blocks.clone() {
            self.now += pause;
            self.message(NetworkMessage::Headers(Vec::new()));
            self.handle(Event::Tick);
            if self.gone.is_some() {
                return false;
            }
            self.message(NetworkMessage::CFilter(CFilter { filter_type: 0, block_hash, filter: vec![0] }));
        }
        true
    }
}

#[test]
fn filters_that_come_steadily_are_waited_for() {
    let mut asked = Asked::new();
    assert!(asked.send_filters(Duration::from_secs(2)));
    assert!(matches!(asked.outcome, Some(Fetched::Filters(filters)) if filters.len() == BLOCKS as usize));
}

#[test]
fn who_sends_a_filter_now_and_then_is_let_go() {
    let mut asked = Asked::new();
    assert!(!asked.send_filters(Duration::from_secs(50)), "less than silence lasts, but without end");
    assert_eq!((asked.gone, asked.outcome), (Some(DisconnectReason::BlockTimeout), Some(Fetched::Failed)));
}
