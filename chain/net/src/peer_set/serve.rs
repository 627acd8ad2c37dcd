//! Answers: headers after a locator, blocks and transactions that a peer asks for.
//!
//! A peer's requests wait in its own queue. A few blocks at a time are handed to the driver, which reads them from the
//! disk and writes them to the socket; so a peer that asks for much and reads slowly costs its own patience only.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage, Inventory};

use super::PeerSet;
use crate::block_form::BlockForm;
use crate::config::{
    BLOCK_TRANSACTIONS_DEPTH, COMPACT_BLOCK_DEPTH, MAX_BLOCKS_IN_SERVICE, MAX_BLOCKS_LISTED, MAX_HEADERS,
    MAX_HEADERS_TO_ANNOUNCE, MAX_INVENTORY, MAX_LOCATOR, NETWORK_LIMITED_BLOCKS, NETWORK_LIMITED_GRACE,
};
use crate::event::{Action, Ctx, DisconnectReason, PeerId};
use crate::misbehavior::Misbehavior;
use crate::peer::{Asked, BlockList, Peer};
use crate::view::{BlockState, HeaderEntry, TxName};

/// Transactions sent to one peer before others get their turn.
const MAX_TXS_AT_ONCE: usize = 100;

impl PeerSet {
    pub(crate) fn serve_headers(&mut self, id: PeerId, request: &GetHeadersMessage, ctx: &Ctx) {
        if request.locator_hashes.len() > MAX_LOCATOR {
            self.misbehaves(id, Misbehavior::Oversized, ctx);
            return;
        }
        let tip = ctx.chain.active_tip();
        if tip.work < self.config.minimum_chain_work {
            // Our chain may be a trap that we have not noticed yet. An empty answer keeps the peer from waiting.
            self.send(id, NetworkMessage::Headers(Vec::new()));
            return;
        }
        let mut headers = Vec::new();
        if request.locator_hashes.is_empty() {
            let active = ctx.chain.entry(&request.stop_hash).filter(|entry| entry.state == BlockState::Active);
            headers.extend(active.map(|entry| entry.header));
        } else {
            let mut height = fork_height(&request.locator_hashes, ctx).saturating_add(1);
            while headers.len() < MAX_HEADERS
                && let Some(entry) = ctx.chain.active_at(height).and_then(|hash| ctx.chain.entry(&hash))
            {
                headers.push(entry.header);
                if entry.hash == request.stop_hash {
                    break;
                }
                height = height.saturating_add(1);
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            // An empty answer says that the peer has our tip.
            peer.last_sent = Some(headers.last().map_or(tip.hash, |header| header.block_hash()));
        }
        self.send(id, NetworkMessage::Headers(headers));
    }

    /// Names the blocks after a locator, for peers that begin with blocks and not with headers (bcoin does).
    pub(crate) fn list_blocks(&mut self, id: PeerId, request: &GetBlocksMessage, ctx: &Ctx) {
        if request.locator_hashes.len() > MAX_LOCATOR {
            self.misbehaves(id, Misbehavior::Oversized, ctx);
            return;
        }
        if self.config.light || ctx.chain.active_tip().work < self.config.minimum_chain_work {
            return;
        }
        let after = fork_height(&request.locator_hashes, ctx).saturating_add(1);
        let is_wanted = |hash: &BlockHash| *hash != request.stop_hash;
        // What was pruned is not promised.
        let hashes = (after >= self.lowest_served(ctx))
            .then(|| (after..).map_while(|height| ctx.chain.active_at(height)).take_while(is_wanted));
        let blocks: Vec<_> = hashes.into_iter().flatten().take(MAX_BLOCKS_LISTED).collect();
        let Some(last) = blocks.last() else { return };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.list = if blocks.len() < MAX_BLOCKS_LISTED { BlockList::Ended } else { BlockList::UpTo(*last) };
        }
        self.send(id, NetworkMessage::Inv(blocks.into_iter().map(Inventory::Block).collect()));
    }

    pub(crate) fn get_data(&mut self, id: PeerId, inventory: Vec<Inventory>, ctx: &Ctx) {
        if inventory.len() > MAX_INVENTORY {
            self.misbehaves(id, Misbehavior::TooManyRequests, ctx);
            return;
        }
        self.enqueue(id, inventory.into_iter().map(Asked::Item), ctx);
    }

    /// Adds to what the peer waits for.
    pub(crate) fn enqueue(&mut self, id: PeerId, asked: impl IntoIterator<Item = Asked>, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.serving.extend(asked);
        if peer.serving.len() > 2 * MAX_INVENTORY {
            self.misbehaves(id, Misbehavior::TooManyRequests, ctx);
            return;
        }
        self.serve(id, ctx);
    }

    pub(crate) fn block_served(&mut self, id: PeerId, ctx: &Ctx) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.blocks_in_service = peer.blocks_in_service.saturating_sub(1);
            if peer.list == BlockList::Served && peer.blocks_in_service == 0 {
                peer.list = BlockList::Ended;
                self.send(id, NetworkMessage::Inv(vec![Inventory::Block(ctx.chain.active_tip().hash)]));
            }
        }
        self.serve(id, ctx);
        self.announce_blocks(ctx);
    }

    /// Works off a part of a peer's queue.
    pub(crate) fn serve(&mut self, id: PeerId, ctx: &Ctx) {
        let (lowest, tip_height) = (self.lowest_served(ctx), ctx.chain.active_tip().height);
        // BIP 159. Whether it is there by chance is nobody's business: it would tell this node from others.
        let is_pruned = |hash: &BlockHash| ctx.chain.entry(hash).is_some_and(|entry| entry.height < lowest);
        let mut missing = Vec::new();
        let mut transactions = 0;
        while transactions < MAX_TXS_AT_ONCE
            && let Some(peer) = self.peers.get_mut(&id)
            && peer.blocks_in_service < MAX_BLOCKS_IN_SERVICE
            && let Some(asked) = peer.serving.pop_front()
        {
            let item = match asked {
                Asked::Item(item) => item,
                Asked::Transactions { hash, .. } if is_pruned(&hash) => {
                    self.disconnect(id, DisconnectReason::BlockPruned, ctx);
                    return;
                }
                Asked::Transactions { hash, indexes } => {
                    if let Some(entry) = stored(&hash, ctx) {
                        let is_recent = tip_height.saturating_sub(entry.height) <= BLOCK_TRANSACTIONS_DEPTH;
                        let form = if is_recent { BlockForm::Transactions(indexes) } else { BlockForm::Whole };
                        self.serve_block(id, hash, form);
                    }
                    continue;
                }
                // BIP 157: filters come in the order of their blocks, so one piece waits for the other.
                Asked::Filters(_) if peer.blocks_in_service > 0 => {
                    peer.serving.push_front(asked);
                    break;
                }
                Asked::Filters(range) => {
                    let before = self.out.len();
                    let rest = self.serve_filters(id, range, ctx);
                    let handed_over = self.out.len().saturating_sub(before);
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.blocks_in_service += handed_over;
                        if let Some(rest) = rest {
                            peer.serving.push_front(Asked::Filters(rest));
                        }
                    }
                    continue;
                }
            };
            let name = match item {
                Inventory::Block(hash) | Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => {
                    if is_pruned(&hash) {
                        self.disconnect(id, DisconnectReason::BlockPruned, ctx);
                        return;
                    }
                    let Some(entry) = stored(&hash, ctx) else {
                        missing.push(item);
                        continue;
                    };
                    if peer.list == BlockList::UpTo(hash) {
                        peer.list = BlockList::Served;
                    }
                    let form = match item {
                        Inventory::Block(_) => BlockForm::WithoutWitnesses,
                        // BIP 152 allows the whole block as an answer to a request for a compact one.
                        Inventory::CompactBlock(_)
                            if peer.compact.provides
                                && entry.state == BlockState::Active
                                && tip_height.saturating_sub(entry.height) <= COMPACT_BLOCK_DEPTH =>
                        {
                            BlockForm::Compact { nonce: self.compact_nonce(&hash) }
                        }
                        _ => BlockForm::Whole,
                    };
                    self.serve_block(id, hash, form);
                    continue;
                }
                Inventory::WTx(wtxid) => TxName::Wtxid(wtxid),
                Inventory::Transaction(txid) | Inventory::WitnessTransaction(txid) => TxName::Txid(txid),
                Inventory::Error | Inventory::Unknown { .. } => continue,
            };
            match ctx.mempool.transaction(&name) {
                Some(transaction) => {
                    transactions += 1;
                    peer.relay.known.insert(name);
                    let message = NetworkMessage::Tx(transaction.as_ref().clone());
                    self.out.push(Action::Send { peer: id, message });
                }
                None => missing.push(item),
            }
        }
        if !missing.is_empty() {
            self.send(id, NetworkMessage::NotFound(missing));
        }
    }

    fn serve_block(&mut self, id: PeerId, hash: BlockHash, form: BlockForm) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.blocks_in_service += 1;
            self.out.push(Action::ServeBlock { peer: id, hash, form });
        }
    }

    /// The lowest height whose block is sent to peers.
    fn lowest_served(&self, ctx: &Ctx) -> u32 {
        if self.config.services.has(ServiceFlags::NETWORK) {
            return 0;
        }
        ctx.chain.active_tip().height.saturating_sub(NETWORK_LIMITED_BLOCKS.saturating_add(NETWORK_LIMITED_GRACE))
    }

    pub(crate) fn tip_changed(&mut self, ctx: &Ctx) {
        self.announce_tip = true;
        self.relay.orphanage.forget_parents();
        self.schedule_blocks(ctx);
        self.announce_blocks(ctx);
    }

    /// Tells peers about the active tip, unless we are still catching up.
    pub(crate) fn announce_blocks(&mut self, ctx: &Ctx) {
        let tip = ctx.chain.active_tip();
        if !self.announce_tip || self.is_catching_up(ctx) || tip.work < self.config.minimum_chain_work {
            return;
        }
        self.announce_tip = false;
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if !peer.is_ready() || has(peer, &tip, ctx) {
                continue;
            }
            let wants_compact = peer.compact.wants_unasked && !self.config.light;
            if wants_compact && peer.blocks_in_service > 0 {
                // It would overtake the block before it.
                self.announce_tip = true;
                continue;
            }
            match new_headers(peer, &tip, ctx) {
                Some(headers) if wants_compact && headers.len() == 1 => {
                    peer.last_sent = Some(tip.hash);
                    let nonce = self.compact_nonce(&tip.hash);
                    self.serve_block(id, tip.hash, BlockForm::Compact { nonce });
                }
                Some(headers) if peer.wants_headers => {
                    peer.last_sent = Some(tip.hash);
                    self.send(id, NetworkMessage::Headers(headers));
                }
                Some(_) | None => self.send(id, NetworkMessage::Inv(vec![Inventory::Block(tip.hash)])),
            }
        }
    }
}

/// The block's place, if the block itself is here.
fn stored(hash: &BlockHash, ctx: &Ctx) -> Option<HeaderEntry> {
    ctx.chain.entry(hash).filter(|entry| match entry.state {
        BlockState::Active | BlockState::Stored => true,
        BlockState::HeaderOnly | BlockState::Invalid => false,
    })
}

/// Does the peer have this header, as far as we know?
fn has(peer: &Peer, entry: &HeaderEntry, ctx: &Ctx) -> bool {
    let contains =
        |end: Option<BlockHash>| end.is_some_and(|end| ctx.chain.ancestor(&end, entry.height) == Some(entry.hash));
    contains(peer.best_known) || contains(peer.last_sent)
}

/// The headers up to the tip that the peer does not have, if they connect to what it has and are few.
fn new_headers(peer: &Peer, tip: &HeaderEntry, ctx: &Ctx) -> Option<Vec<bitcoin::block::Header>> {
    let mut headers = Vec::new();
    let mut entry = *tip;
    loop {
        headers.push(entry.header);
        // The all-zero hash before genesis is no entry, so the walk ends there at the latest.
        entry = ctx.chain.entry(&entry.header.prev_blockhash)?;
        if has(peer, &entry, ctx) {
            headers.reverse();
            return Some(headers);
        }
        if headers.len() >= MAX_HEADERS_TO_ANNOUNCE || entry.hash == BlockHash::all_zeros() {
            return None;
        }
    }
}

/// The highest block of the active chain that a locator names; the genesis block if it names none.
fn fork_height(locator: &[BlockHash], ctx: &Ctx) -> u32 {
    let known = locator.iter().filter_map(|hash| ctx.chain.entry(hash));
    let mut active = known.filter(|entry| entry.state == BlockState::Active);
    active.next().map_or(0, |entry| entry.height)
}
