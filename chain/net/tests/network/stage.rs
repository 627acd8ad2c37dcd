//! One node against peers that say what a test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::{Block, BlockHash, Transaction};
use leyden_net::{
    Action, BlockForm, BlockState, ChainView as _, Config, Ctx, Direction, DisconnectReason, Event, PeerId, PeerSet,
};

use crate::chain::{Chain, Mempool, START, make_block, with_transactions, zero_work};

/// One node, whose checks end at once, and peers whose words are the test's.
pub struct Stage {
    pub peers: PeerSet,
    pub chain: Chain,
    pub mempool: Mempool,
    pub now: Duration,
    /// What was sent to a peer and not looked at.
    pub sent: BTreeMap<PeerId, Vec<NetworkMessage>>,
    pub served: Vec<(PeerId, BlockHash, BlockForm)>,
    pub gone: Vec<(PeerId, DisconnectReason)>,
    next_peer: u64,
}

impl Stage {
    pub fn with(config: Config) -> Self {
        let mut stage = Self {
            peers: PeerSet::new(config, [3; 32]),
            chain: Chain::new(false),
            mempool: Mempool::default(),
            now: Duration::from_secs(START),
            sent: BTreeMap::new(),
            served: Vec::new(),
            gone: Vec::new(),
            next_peer: 0,
        };
        for salt in 0..20 {
            stage.chain.mine(START, salt, false);
        }
        stage
    }

    pub fn new() -> Self {
        Self::with(Config::full_node("/stage/", zero_work()))
    }

    pub fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let ctx = Ctx { now: self.now, unix_time: self.now.as_secs(), chain: &self.chain, mempool: &self.mempool };
            for action in self.peers.handle(event, &ctx) {
                match action {
                    Action::Send { peer, message } => self.sent.entry(peer).or_default().push(message),
                    Action::ServeBlock { peer, hash, form } => self.served.push((peer, hash, form)),
                    Action::Disconnect { peer, reason } => self.gone.push((peer, reason)),
                    Action::AcceptHeaders { peer, headers } => {
                        let outcome = self.chain.accept_headers(&headers);
                        events.push(Event::HeadersProcessed { peer, count: headers.len(), outcome });
                    }
                    Action::ProcessBlock { peer, block } => {
                        let (hash, before) = (block.block_hash(), self.chain.tip().hash);
                        let outcome = self.chain.process_block(block);
                        if self.chain.tip().hash != before {
                            events.push(Event::TipChanged);
                        }
                        events.push(Event::BlockProcessed { peer, hash, outcome });
                    }
                    Action::SubmitTransaction { peer, transaction } => {
                        let outcome = self.mempool.submit(&transaction, false);
                        events.push(Event::TransactionProcessed { peer, transaction, outcome });
                    }
                    Action::SubmitPackage { .. }
                    | Action::ServeFilters { .. }
                    | Action::Fetched { .. }
                    | Action::Discourage { .. } => {}
                }
            }
        }
    }

    pub fn says(&mut self, peer: PeerId, message: NetworkMessage) {
        self.event(Event::Message { peer, message });
    }

    /// A peer that knows compact blocks, and has what this node has.
    pub fn peer(&mut self, direction: Direction) -> PeerId {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        let address = SocketAddr::from(([1, 2, 3, peer.0 as u8], 8333));
        self.event(Event::Connected { peer, address, direction });
        let here = Address::new(&address, ServiceFlags::NONE);
        self.says(
            peer,
            NetworkMessage::Version(VersionMessage {
                version: 70_016,
                services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
                timestamp: START as i64,
                receiver: here.clone(),
                sender: here,
                nonce: 1_000 + peer.0,
                user_agent: "/scripted/".into(),
                start_height: 0,
                relay: true,
            }),
        );
        self.says(peer, NetworkMessage::WtxidRelay);
        self.says(peer, NetworkMessage::Verack);
        self.says(peer, send_compact(false, 2));
        let tip = self.chain.tip().header;
        self.says(peer, NetworkMessage::Headers(vec![tip]));
        self.sent.remove(&peer);
        peer
    }

    /// One that this node has asked for compact blocks.
    pub fn fast_peer(&mut self, direction: Direction) -> PeerId {
        let peer = self.peer(direction);
        self.brings_a_block(peer);
        assert_eq!(self.sent_to(peer, "sendcmpct"), [send_compact(true, 2)]);
        self.sent.remove(&peer);
        peer
    }

    /// The peer is first with a block.
    pub fn brings_a_block(&mut self, peer: PeerId) {
        let block = self.next_block(&[]);
        self.says(peer, NetworkMessage::Headers(vec![block.header]));
        self.says(peer, NetworkMessage::Block(block.clone()));
        assert_eq!(self.chain.tip().hash, block.block_hash());
    }

    pub fn next_block(&self, transactions: &[Arc<Transaction>]) -> Block {
        let salt = 1_000 + u64::from(self.chain.height());
        with_transactions(make_block(&self.chain.tip(), START, salt, false), transactions)
    }

    pub fn sent_to(&mut self, peer: PeerId, command: &str) -> Vec<NetworkMessage> {
        let sent = self.sent.get(&peer).cloned().unwrap_or_default();
        sent.into_iter().filter(|message| message.cmd() == command).collect()
    }

    pub fn passes(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += Duration::from_millis(500);
            self.event(Event::Tick);
        }
    }

    pub fn is_here(&self, block: &Block) -> bool {
        self.chain.entry(&block.block_hash()).is_some_and(|entry| entry.state == BlockState::Active)
    }
}

pub fn send_compact(send_compact: bool, version: u64) -> NetworkMessage {
    NetworkMessage::SendCmpct(SendCmpct { send_compact, version })
}
