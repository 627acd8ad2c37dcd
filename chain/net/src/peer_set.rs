//! The state machine over all connections of a node: events in, actions out. Its parts: headers ([`sync`]), blocks
//! ([`download`], [`compact`]), transactions ([`relay`]), addresses ([`addresses`]), and answers ([`serve`], [`filters`]), and what a
//! light node asks for ([`fetch`]).

mod addresses;
mod compact;
mod download;
mod fetch;
mod filters;
mod relay;
mod serve;
mod sync;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{BlockHash, Transaction};

use self::download::Download;
use self::relay::Relay;
pub use self::sync::locator;
use crate::address_book::{AddressBook, network};
use crate::config::Config;
use crate::entropy::Entropy;
use crate::event::{Action, Ctx, Direction, DisconnectReason, Event, PeerId};
use crate::handshake::{Introduction, Step};
use crate::misbehavior::{self, Misbehavior};
use crate::peer::{Peer, PeerClock, PeerSummary};

/// All connections of a node.
///
/// Every call may return actions, which the driver carries out in order. A peer that got [`Action::Disconnect`] is
/// gone at once; later events about it are ignored.
#[derive(Clone, Debug)]
pub struct PeerSet {
    pub(crate) config: Config,
    pub(crate) entropy: Entropy,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    pub(crate) download: Download,
    pub(crate) relay: Relay,
    pub(crate) addresses: AddressBook,
    /// Nonces of the connections that we opened.
    own_nonces: BTreeSet<u64>,
    /// The active tip changed and not all peers know.
    pub(crate) announce_tip: bool,
    /// Peers that are to tell of new blocks by compact ones, who was first with a block longest ago first (BIP 152).
    pub(crate) high_bandwidth: Vec<PeerId>,
    /// What makes the short ids of the block that was last sent with them.
    pub(crate) last_nonce: Option<(BlockHash, u64)>,
    pub(crate) out: Vec<Action>,
}

impl PeerSet {
    /// No connections yet. `seed` has to be unpredictable to others.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            entropy: Entropy::new(seed),
            peers: BTreeMap::new(),
            download: Download::default(),
            relay: Relay::default(),
            addresses: AddressBook::default(),
            own_nonces: BTreeSet::new(),
            announce_tip: false,
            high_bandwidth: Vec::new(),
            last_nonce: None,
            out: Vec::new(),
        }
    }

    /// Takes an event and tells what to do.
    pub fn handle(&mut self, event: Event, ctx: &Ctx) -> Vec<Action> {
        match event {
            Event::Connected { peer, address, direction } => self.connected(peer, address, direction, ctx),
            Event::Disconnected { peer } => {
                self.remove(peer, ctx);
                self.schedule_blocks(ctx);
            }
            Event::Message { peer, message } => self.message(peer, message, ctx),
            Event::Tick => self.tick(ctx),
            Event::HeadersProcessed { peer, count, outcome } => self.headers_processed(peer, count, outcome, ctx),
            Event::BlockProcessed { peer, hash, outcome } => self.block_processed(peer, hash, outcome, ctx),
            Event::TransactionProcessed { peer, transaction, outcome } => {
                self.transaction_processed(peer, &transaction, outcome, ctx);
            }
            Event::BlockServed { peer } => self.block_served(peer, ctx),
            Event::AskedBeyondBlock { peer } => {
                self.misbehaves(peer, Misbehavior::BeyondBlock, ctx);
            }
            Event::Fetch { peer, request, wish } => self.fetch(peer, request, wish, ctx),
            Event::Lies { peer } => {
                self.misbehaves(peer, Misbehavior::FilterLie, ctx);
            }
            Event::PingWanted => self.ping_all(ctx),
            Event::TipChanged => self.tip_changed(ctx),
            Event::TransactionAccepted(transaction) => self.transaction_accepted(transaction),
            Event::TransactionRemoved { transaction, txid, wtxid } => {
                self.transaction_removed(&transaction, txid, wtxid)
            }
        }
        std::mem::take(&mut self.out)
    }

    /// All connections.
    pub fn peers(&self) -> Vec<PeerSummary> {
        self.peers.iter().map(|(id, peer)| peer.info(*id)).collect()
    }

    /// Transactions that wait for their parents, each with the peer that brought it.
    pub fn orphans(&self) -> impl Iterator<Item = (PeerId, &Arc<Transaction>)> {
        self.relay.orphanage.all()
    }

    /// Addresses that peers told of.
    pub fn address_book(&self) -> &AddressBook {
        &self.addresses
    }

    /// An address to connect to that is not connected yet, if one is known: if possible of a network that none of the peers
    /// is of that we connected to, so that no network has all of our eyes.
    pub fn pick_address(&mut self, unix_time: u64) -> Option<SocketAddr> {
        let connected: BTreeSet<SocketAddr> = self.peers.values().map(|peer| peer.address).collect();
        let chosen = self.peers.values().filter(|peer| peer.direction == Direction::Outbound);
        let networks: BTreeSet<_> = chosen.map(|peer| network(peer.address.ip())).collect();
        let now = Duration::from_secs(unix_time);
        let elsewhere = |address: &SocketAddr| !networks.contains(&network(address.ip()));
        let (book, entropy) = (&mut self.addresses, &mut self.entropy);
        book.pick(now, entropy, |address| connected.contains(address) || !elsewhere(address))
            .or_else(|| book.pick(now, entropy, |address| connected.contains(address)))
    }

    /// Of these peers, which we connected to, the one that is easiest to replace: none of whose blocks are on their way, and
    /// that was longest not the first with a new block; of several the youngest. Nobody is judged before `trial` is over.
    pub fn choose_to_rotate(&self, among: &BTreeSet<PeerId>, trial: Duration, now: Duration) -> Option<PeerId> {
        let judged = self.peers.iter().filter(|(id, peer)| {
            among.contains(id) && peer.blocks_in_flight.is_empty() && now.saturating_sub(peer.connected_at) >= trial
        });
        judged.min_by_key(|(_, peer)| (peer.last_useful.block, Reverse(peer.connected_at))).map(|(id, _)| *id)
    }

    fn connected(&mut self, id: PeerId, address: SocketAddr, direction: Direction, ctx: &Ctx) {
        let nonce = self.entropy.next_u64();
        self.peers.insert(id, Peer::new(address, direction, nonce, ctx.now));
        if direction == Direction::Outbound {
            self.own_nonces.insert(nonce);
            let message = self.introduction(nonce, address, ctx).message();
            self.send(id, message);
        }
    }

    fn introduction(&self, nonce: u64, remote: SocketAddr, ctx: &Ctx) -> Introduction<'_> {
        Introduction {
            config: &self.config,
            nonce,
            own_nonces: &self.own_nonces,
            serves_filters: ctx.chain.serves_filters(),
            unix_time: i64::try_from(ctx.unix_time).unwrap_or(i64::MAX),
            height: i32::try_from(ctx.chain.active_tip().height).unwrap_or(i32::MAX),
            remote,
        }
    }

    fn message(&mut self, id: PeerId, message: NetworkMessage, ctx: &Ctx) {
        let Some(peer) = self.peers.get(&id) else { return };
        let (mut handshake, direction) = (peer.handshake.clone(), peer.direction);
        if !peer.is_ready() || matches!(message, NetworkMessage::WtxidRelay | NetworkMessage::SendAddrV2) {
            let own = self.introduction(peer.nonce, peer.address, ctx);
            let step = handshake.on_message(direction, &message, &own);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.handshake = handshake;
                if let NetworkMessage::Version(version) = &message {
                    peer.clock.get_or_insert(PeerClock { reported: version.timestamp, at: ctx.now });
                }
            }
            match step {
                Step::Wait => {}
                Step::Reply(replies) => replies.into_iter().for_each(|reply| self.send(id, reply)),
                Step::Done => self.ready(id, ctx),
                Step::Close(reason) => self.disconnect(id, reason, ctx),
            }
            return;
        }
        match message {
            NetworkMessage::Ping(nonce) => self.send(id, NetworkMessage::Pong(nonce)),
            NetworkMessage::Pong(nonce) => self.pong(id, nonce, ctx),
            NetworkMessage::SendHeaders => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.wants_headers = true;
                }
            }
            NetworkMessage::FeeFilter(rate) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.relay.fee_filter = u64::try_from(rate).unwrap_or(0);
                }
            }
            NetworkMessage::GetBlocks(request) => self.list_blocks(id, &request, ctx),
            NetworkMessage::GetHeaders(request) => self.serve_headers(id, &request, ctx),
            NetworkMessage::Headers(headers) => self.headers(id, headers, ctx),
            NetworkMessage::Block(block) => {
                if let Some(block) = self.fetched_block(id, block) {
                    self.block(id, block, ctx);
                }
            }
            NetworkMessage::SendCmpct(message) => self.compact_blocks_wanted(id, message),
            NetworkMessage::CmpctBlock(message) => self.compact_block(id, message.compact_block, ctx),
            NetworkMessage::GetBlockTxn(message) => self.get_block_transactions(id, &message.txs_request, ctx),
            NetworkMessage::BlockTxn(message) => self.block_transactions(id, message.transactions, ctx),
            NetworkMessage::CFHeaders(message) => self.filter_hashes(id, message, ctx),
            NetworkMessage::CFilter(message) => self.filter(id, message, ctx),
            NetworkMessage::Inv(inventory) => self.inventory(id, &inventory, ctx),
            NetworkMessage::GetData(inventory) => self.get_data(id, inventory, ctx),
            NetworkMessage::NotFound(inventory) => self.not_found(id, &inventory, ctx),
            // A light node cannot check it.
            NetworkMessage::Tx(_) if self.config.light => {}
            NetworkMessage::Tx(transaction) => self.transaction(id, transaction, ctx),
            NetworkMessage::GetCFilters(request) => self.get_filters(id, &request, ctx),
            NetworkMessage::GetCFHeaders(request) => self.get_filter_headers(id, &request, ctx),
            NetworkMessage::GetCFCheckpt(request) => self.get_filter_checkpoints(id, &request, ctx),
            NetworkMessage::GetAddr => self.get_addresses(id, ctx),
            NetworkMessage::Addr(addresses) => {
                let addresses: Vec<_> = addresses
                    .iter()
                    .filter_map(|(time, address)| Some((address.socket_addr().ok()?, address.services, *time)))
                    .collect();
                self.addresses_told(id, &addresses, ctx);
            }
            NetworkMessage::AddrV2(addresses) => {
                let addresses: Vec<_> = addresses
                    .iter()
                    .filter_map(|message| Some((message.socket_addr().ok()?, message.services, message.time)))
                    .collect();
                self.addresses_told(id, &addresses, ctx);
            }
            // Handshake messages again, and everything that this node neither offers nor asks for.
            NetworkMessage::Version(_)
            | NetworkMessage::Verack
            | NetworkMessage::WtxidRelay
            | NetworkMessage::SendAddrV2
            | NetworkMessage::MemPool
            | NetworkMessage::MerkleBlock(_)
            | NetworkMessage::FilterLoad(_)
            | NetworkMessage::FilterAdd(_)
            | NetworkMessage::FilterClear
            | NetworkMessage::CFCheckpt(_)
            | NetworkMessage::Alert(_)
            | NetworkMessage::Reject(_)
            | NetworkMessage::Unknown { .. } => {}
        }
    }

    fn ready(&mut self, id: PeerId, ctx: &Ctx) {
        self.send(id, NetworkMessage::SendHeaders);
        self.greet_with_compact_blocks(id);
        self.send_fee_filter(id, ctx);
        self.greet_with_addresses(id, ctx);
        self.queue_mempool(id, ctx);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.last_block = ctx.now;
        }
        self.start_header_sync(ctx);
    }

    fn tick(&mut self, ctx: &Ctx) {
        let timing = self.config.timing;
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(peer) = self.peers.get(&id) else { continue };
            if !peer.is_ready() {
                if ctx.now.saturating_sub(peer.connected_at) >= timing.handshake {
                    self.disconnect(id, DisconnectReason::HandshakeTimeout, ctx);
                }
                continue;
            }
            self.ping(id, ctx);
            self.check_header_timeout(id, ctx);
            self.check_block_timeout(id, ctx);
            self.check_fetch_timeout(id, ctx);
            self.trickle(id, ctx);
            self.trickle_addresses(id, ctx);
            self.serve(id, ctx);
        }
        self.start_header_sync(ctx);
        self.schedule_blocks(ctx);
        self.announce_blocks(ctx);
        self.tick_relay(ctx);
    }

    fn ping(&mut self, id: PeerId, ctx: &Ctx) {
        let timing = self.config.timing;
        let Some(peer) = self.peers.get(&id) else { return };
        match peer.ping.outstanding {
            Some((_, sent)) if ctx.now.saturating_sub(sent) >= timing.ping_timeout => {
                self.disconnect(id, DisconnectReason::PingTimeout, ctx);
            }
            Some(_) => {}
            None if peer.ping.last_sent.is_none_or(|sent| ctx.now.saturating_sub(sent) >= timing.ping_interval) => {
                self.ping_now(id, ctx);
            }
            None => {}
        }
    }

    /// Pings a peer, unless an answer of it is waited for already.
    fn ping_now(&mut self, id: PeerId, ctx: &Ctx) {
        let nonce = self.entropy.next_u64();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.is_ready() && peer.ping.outstanding.is_none() {
            peer.ping.outstanding = Some((nonce, ctx.now));
            peer.ping.last_sent = Some(ctx.now);
            self.send(id, NetworkMessage::Ping(nonce));
        }
    }

    fn ping_all(&mut self, ctx: &Ctx) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.ping_now(id, ctx));
    }

    fn pong(&mut self, id: PeerId, nonce: u64, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some((wanted, sent)) = peer.ping.outstanding
            && wanted == nonce
        {
            peer.ping.outstanding = None;
            let round_trip = ctx.now.saturating_sub(sent);
            peer.ping.round_trip = Some(round_trip);
            peer.ping.shortest = Some(peer.ping.shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
        }
    }

    pub(crate) fn send(&mut self, peer: PeerId, message: NetworkMessage) {
        self.out.push(Action::Send { peer, message });
    }

    pub(crate) fn disconnect(&mut self, id: PeerId, reason: DisconnectReason, ctx: &Ctx) {
        if self.peers.contains_key(&id) {
            self.out.push(Action::Disconnect { peer: id, reason });
            self.remove(id, ctx);
        }
    }

    /// Counts a fault, and lets the peer go if it is one too many. True if it is gone.
    pub(crate) fn misbehaves(&mut self, id: PeerId, fault: Misbehavior, ctx: &Ctx) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return true };
        peer.score = peer.score.saturating_add(fault.points());
        if peer.score < misbehavior::LIMIT {
            return false;
        }
        let address = peer.address.ip();
        self.disconnect(id, DisconnectReason::Misbehaving(fault), ctx);
        if misbehavior::may_be_discouraged(address) {
            self.out.push(Action::Discourage { address });
        }
        true
    }

    fn remove(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        self.fetches_failed(id, std::mem::take(&mut peer.fetches));
        self.own_nonces.remove(&peer.nonce);
        self.high_bandwidth.retain(|chosen| *chosen != id);
        self.download.disconnected(&peer, id);
        self.relay.disconnected(id, ctx.now);
    }
}
