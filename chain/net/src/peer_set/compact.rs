//! Blocks told by the short ids of their transactions (BIP 152, version 2).
//!
//! ```text
//!   at most three peers that were first with blocks ◀── sendcmpct(1)   all others ◀── sendcmpct(0)
//!
//!   cmpctblock ─▶ header checked ─▶ near the tip? ─▶ mempool ─┬─ all there ─▶ block ─▶ check ─┬─ valid
//!     by itself (high bandwidth),         └─ no: as a header  └─ getblocktxn ─▶ blocktxn ─┘   └─ not its header's:
//!     or for getdata (low)                                                                       the whole is asked for
//! ```
//!
//! Nothing is looked for before the header is in the tree, and of one peer one block is put together at a time. Who tells of
//! a block that way need not have validated it, so an invalid one costs its sender nothing; what no software makes does.
//! What is missing counts as asked for like a whole block: if it is late, another peer is asked, and who never answers is
//! let go. We tell of a block so only once it is connected, so that what is asked about it can be answered.

use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::{GetBlockTxn, SendCmpct};
use bitcoin::{Block, BlockHash};

use super::PeerSet;
use super::download::Source;
use crate::compact::{Assembly, Flaw};
use crate::config::{
    COMPACT_BLOCKS_VERSION, MAX_BLOCKS_IN_FLIGHT_PER_PEER, MAX_BLOCKS_IN_VALIDATION, MAX_HIGH_BANDWIDTH_PEERS,
    MAX_PARTIAL_BLOCKS, MAX_REQUESTS_PER_BLOCK, MAX_TRANSACTION_REQUESTS, MINIMUM_COMPACT_BLOCKS_VERSION,
};
use crate::event::{Action, Ctx, Direction, PeerId};
use crate::misbehavior::Misbehavior;
use crate::peer::{Asked, Peer};
use crate::view::{BlockState, HeaderEntry};

/// A block at most so far above the tip is put together (Bitcoin Core's 2): the mempool has little of those beyond.
const ABOVE_TIP: u32 = 2;

impl PeerSet {
    /// Says that compact blocks are understood and served, and that none are wanted unasked.
    pub(crate) fn greet_with_compact_blocks(&mut self, id: PeerId) {
        let version = self.peers.get(&id).and_then(Peer::negotiated).map_or(0, |negotiated| negotiated.version);
        if !self.config.light && version >= MINIMUM_COMPACT_BLOCKS_VERSION {
            self.send_compact(id, false);
        }
    }

    fn send_compact(&mut self, id: PeerId, send_compact: bool) {
        let message = SendCmpct { send_compact, version: COMPACT_BLOCKS_VERSION };
        self.send(id, NetworkMessage::SendCmpct(message));
    }

    /// BIP 152: another version is as if it had not come.
    pub(crate) fn compact_blocks_wanted(&mut self, id: PeerId, message: SendCmpct) {
        if let Some(peer) = self.peers.get_mut(&id)
            && message.version == COMPACT_BLOCKS_VERSION
            && !self.config.light
        {
            peer.compact.provides = true;
            peer.compact.wants_unasked = message.send_compact;
        }
    }

    /// Is a block to be asked of this peer in its compact form?
    pub(crate) fn asks_compact(&self, peer: &Peer, hash: &BlockHash, ctx: &Ctx) -> bool {
        let Some(entry) = ctx.chain.entry(hash) else { return false };
        let parent = ctx.chain.entry(&entry.header.prev_blockhash).map(|parent| parent.state);
        peer.compact.provides
            && peer.compact.partial.is_none()
            && self.download.is_idle()
            && self.is_near_tip(&entry, ctx)
            && matches!(parent, Some(BlockState::Active | BlockState::Stored))
            // All of it would be missing.
            && !ctx.mempool.relayable(1).is_empty()
    }

    fn is_near_tip(&self, entry: &HeaderEntry, ctx: &Ctx) -> bool {
        let tip = ctx.chain.active_tip();
        entry.work > tip.work
            && entry.work >= self.config.minimum_chain_work
            && entry.height <= tip.height.saturating_add(ABOVE_TIP)
    }

    pub(crate) fn compact_block(&mut self, id: PeerId, compact: HeaderAndShortIds, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if self.config.light || !peer.compact.provides {
            return;
        }
        let header = compact.header;
        let hash = header.block_hash();
        match ctx.chain.entry(&hash).map(|entry| entry.state) {
            Some(BlockState::Invalid) => {
                self.withdraw_request(id, &hash);
            }
            Some(BlockState::Active | BlockState::Stored | BlockState::HeaderOnly) => {
                self.note_best_known(id, hash, ctx);
                self.put_together(id, compact, ctx);
                self.schedule_blocks(ctx);
            }
            None => {
                if peer.compact.sends_unasked {
                    peer.compact.held = Some(compact);
                }
                let before = peer.headers.in_validation;
                self.headers(id, vec![header], ctx);
                if let Some(peer) = self.peers.get_mut(&id)
                    && peer.headers.in_validation == before
                {
                    // Its header is not even worth a check.
                    peer.compact.held = None;
                }
            }
        }
    }

    /// The compact block whose header has just been accepted, if it waits.
    pub(crate) fn take_held(&mut self, id: PeerId, hash: &BlockHash) -> Option<HeaderAndShortIds> {
        let held = &mut self.peers.get_mut(&id)?.compact.held;
        held.take_if(|held| held.header.block_hash() == *hash)
    }

    /// Looks for the transactions of a block whose header is in the tree.
    pub(crate) fn put_together(&mut self, id: PeerId, compact: HeaderAndShortIds, ctx: &Ctx) {
        let hash = compact.header.block_hash();
        let Some(peer) = self.peers.get(&id) else { return };
        let asked_for = peer.blocks_in_flight.contains_key(&hash);
        if (!asked_for && !peer.compact.sends_unasked) || peer.compact.owes_whole.contains(&hash) {
            return;
        }
        let partial = peer.compact.partial.as_ref().map(|partial| partial.hash());
        if partial == Some(hash) {
            return;
        }
        let entry = ctx.chain.entry(&hash).filter(|entry| entry.state == BlockState::HeaderOnly);
        let Some(entry) = entry.filter(|_| !self.download.is_in_validation(&hash)) else {
            self.withdraw_request(id, &hash);
            return;
        };
        let partial_blocks = self.peers.values().filter(|peer| peer.compact.partial.is_some()).count();
        let has_room = partial.is_none() && partial_blocks < MAX_PARTIAL_BLOCKS;
        if !self.is_near_tip(&entry, ctx) || !has_room {
            if asked_for {
                self.ask_whole(id, hash, ctx);
            }
            return;
        }
        let may_ask = asked_for || self.may_ask_for_rest(id, &hash);
        let mut assembly = match Assembly::new(compact) {
            Ok(assembly) => assembly,
            Err(Flaw::Malformed) => {
                self.withdraw_request(id, &hash);
                self.misbehaves(id, Misbehavior::CompactBlock, ctx);
                return;
            }
            Err(Flaw::Collision) => {
                if may_ask {
                    self.ask_whole(id, hash, ctx);
                }
                return;
            }
        };
        ctx.mempool.visit(&mut |wtxid, transaction| assembly.offer(wtxid, transaction));
        self.relay.extra.iter().for_each(|(wtxid, transaction)| assembly.offer(wtxid, transaction));
        let partial = assembly.finish();
        let indexes = partial.missing();
        if indexes.is_empty() {
            if let Some(block) = partial.complete(Vec::new()) {
                self.put_to_check(id, block, ctx);
            }
        } else if may_ask && let Some(peer) = self.peers.get_mut(&id) {
            peer.compact.partial = Some(partial);
            self.note_request(id, hash, ctx);
            let txs_request = BlockTransactionsRequest { block_hash: hash, indexes };
            self.send(id, NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request }));
        }
    }

    /// May one more peer be asked for what is missing of a block? As with Bitcoin Core the last of the places is for a peer that
    /// we chose, unless one of those has been asked already.
    fn may_ask_for_rest(&self, id: PeerId, hash: &BlockHash) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        let asked = self.download.asked_of(hash);
        let is_chosen = |id: &PeerId| self.peers.get(id).is_some_and(|peer| peer.direction == Direction::Outbound);
        let keeps_last = !is_chosen(&id) && !asked.iter().any(is_chosen) && !asked.is_empty();
        peer.blocks_in_flight.len() < MAX_BLOCKS_IN_FLIGHT_PER_PEER
            && asked.len().saturating_add(usize::from(keeps_last)) < MAX_REQUESTS_PER_BLOCK
    }

    /// Asks for the whole block, and takes nothing less of this peer.
    fn ask_whole(&mut self, id: PeerId, hash: BlockHash, ctx: &Ctx) {
        self.note_request(id, hash, ctx);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.compact.owes_whole.insert(hash);
            self.send(id, NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]));
        }
    }

    pub(crate) fn block_transactions(&mut self, id: PeerId, message: BlockTransactions, ctx: &Ctx) {
        let BlockTransactions { block_hash: hash, transactions } = message;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(partial) = peer.compact.partial.take_if(|partial| partial.hash() == hash) else {
            // Another peer was faster; an answer it is all the same.
            if is_here(&hash, ctx) && !peer.compact.owes_whole.contains(&hash) {
                self.take_request(id, &hash, ctx);
            }
            return;
        };
        match partial.complete(transactions) {
            Some(block) => {
                if is_here(&hash, ctx) {
                    self.take_request(id, &hash, ctx);
                } else {
                    self.put_to_check(id, block, ctx);
                }
            }
            None => {
                self.withdraw_request(id, &hash);
                self.misbehaves(id, Misbehavior::CompactBlock, ctx);
            }
        }
        self.schedule_blocks(ctx);
    }

    fn put_to_check(&mut self, id: PeerId, block: Block, ctx: &Ctx) {
        let hash = block.block_hash();
        self.take_request(id, &hash, ctx);
        if self.download.in_validation_count() < MAX_BLOCKS_IN_VALIDATION
            && self.download.begin_validation(hash, Source::Compact)
        {
            self.out.push(Action::ProcessBlock { peer: id, block });
        }
    }

    /// The block is here: nobody needs to put it together any more.
    pub(crate) fn drop_partial(&mut self, hash: &BlockHash) {
        for peer in self.peers.values_mut() {
            peer.compact.partial.take_if(|partial| partial.hash() == *hash);
        }
    }

    /// What was put together is not the block of its header: a short id stood for another transaction than ours.
    pub(crate) fn put_together_wrongly(&mut self, id: PeerId, hash: BlockHash, ctx: &Ctx) {
        if self.peers.contains_key(&id) && self.download.asked_of(&hash).is_empty() {
            self.ask_whole(id, hash, ctx);
        }
    }

    /// BIP 152: compact blocks may be sent on before they are validated, so an invalid one is no fault. If its header is still
    /// good, the block is wrong by itself, which nothing remembers and nobody sends on: it would be put together over and over.
    /// The peer owes the whole then, which costs it the connection if it is as wrong.
    pub(crate) fn told_of_invalid(&mut self, id: PeerId, hash: BlockHash, ctx: &Ctx) {
        if ctx.chain.entry(&hash).is_some_and(|entry| entry.state == BlockState::HeaderOnly) {
            self.put_together_wrongly(id, hash, ctx);
        }
    }

    /// Has a peer that was first with a block tell of the next ones by itself, as Bitcoin Core chooses them: the last three, of
    /// which one that we connected to is not put out by those that connected to us.
    pub(crate) fn choose_high_bandwidth(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id).filter(|peer| peer.compact.provides) else { return };
        let is_inbound =
            |peers: &Self, id: &PeerId| peers.peers.get(id).is_none_or(|peer| peer.direction == Direction::Inbound);
        if peer.compact.sends_unasked {
            self.high_bandwidth.retain(|chosen| *chosen != id);
            self.high_bandwidth.push(id);
            return;
        }
        let chosen_out = self.high_bandwidth.iter().filter(|chosen| !is_inbound(self, chosen)).count();
        let is_full = self.high_bandwidth.len() >= MAX_HIGH_BANDWIDTH_PEERS;
        let oldest_is_out = self.high_bandwidth.first().is_some_and(|oldest| !is_inbound(self, oldest));
        if peer.direction == Direction::Inbound && is_full && chosen_out == 1 && oldest_is_out {
            self.high_bandwidth.swap(0, 1);
        }
        self.high_bandwidth.push(id);
        self.set_sends_unasked(id, true);
        if self.high_bandwidth.len() > MAX_HIGH_BANDWIDTH_PEERS {
            let oldest = self.high_bandwidth.remove(0);
            self.set_sends_unasked(oldest, false);
        }
    }

    fn set_sends_unasked(&mut self, id: PeerId, sends_unasked: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.compact.sends_unasked = sends_unasked;
            self.send_compact(id, sends_unasked);
        }
    }

    /// A peer asks for some transactions of a block.
    pub(crate) fn get_block_transactions(&mut self, id: PeerId, request: &BlockTransactionsRequest, ctx: &Ctx) {
        let Some(peer) = self.peers.get(&id) else { return };
        let waiting = peer.serving.iter().filter(|asked| matches!(asked, Asked::Transactions { .. })).count();
        if waiting >= MAX_TRANSACTION_REQUESTS {
            self.misbehaves(id, Misbehavior::TooManyRequests, ctx);
            return;
        }
        let indexes: Result<Vec<u16>, _> = request.indexes.iter().map(|index| u16::try_from(*index)).collect();
        match indexes {
            Ok(indexes) => self.enqueue(id, [Asked::Transactions { hash: request.block_hash, indexes }], ctx),
            // No block has so many.
            Err(_) => {
                self.misbehaves(id, Misbehavior::BeyondBlock, ctx);
            }
        }
    }

    /// By which number the short ids of a block are made: one for each block, which nobody can foresee.
    pub(crate) fn compact_nonce(&mut self, hash: &BlockHash) -> u64 {
        if let Some((last, nonce)) = self.last_nonce
            && last == *hash
        {
            return nonce;
        }
        let nonce = self.entropy.next_u64();
        self.last_nonce = Some((*hash, nonce));
        nonce
    }
}

/// Is there nothing left to learn about the block?
fn is_here(hash: &BlockHash, ctx: &Ctx) -> bool {
    ctx.chain.entry(hash).is_some_and(|entry| entry.state != BlockState::HeaderOnly)
}
