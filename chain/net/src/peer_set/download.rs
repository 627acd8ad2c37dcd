//! Which blocks to ask of whom.
//!
//! ```text
//!            common with the active chain          the peer's best header
//!   ─────────────────●──■──■──□──□──□──◇──◇──◇ ─ ─ ─ ─ ─ ─ ●
//!                       stored  in flight  to be asked for   (at most DOWNLOAD_WINDOW ahead)
//! ```
//!
//! Each peer has its own plan: the blocks between the active chain and the best header that this peer is known to
//! have, lowest first. So a branch whose blocks somebody withholds does not keep us from another one that is served.
//! A block is asked of one peer; once it is late, peers with nothing better to do are asked too. A peer that owes
//! blocks and sends none is let go. A damaged copy (mutated) costs its sender, and the block is asked for elsewhere.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::pow::Work;
use bitcoin::{Block, BlockHash};
use leyden_consensus::difficulty::{add_work, work_from_bits};

use crate::config::{DOWNLOAD_WINDOW, MAX_BLOCKS_IN_FLIGHT_PER_PEER, MAX_BLOCKS_IN_VALIDATION, MAX_REQUESTS_PER_BLOCK};
use crate::event::{Action, BlockOutcome, Ctx, Direction, DisconnectReason, PeerId};
use crate::misbehavior::Misbehavior;
use crate::peer::Peer;
use crate::plan::{common_height, make_plan};
use crate::view::BlockState;

use super::PeerSet;
use super::sync::{RECENT, check_list};

/// How long a block that could not be judged is left alone.
const UNDECIDED_PAUSE: Duration = Duration::from_secs(30);
/// While the tip is old and more blocks than this are on their way or being checked, nothing is announced to others.
const CATCHING_UP: usize = 8;

/// How a block came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Whole,
    /// Put together here, which may go wrong (BIP 152).
    Compact,
}

/// All requested blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Download {
    /// Who was asked for a block, in order.
    requests: BTreeMap<BlockHash, Vec<PeerId>>,
    /// Blocks that arrived and are being checked.
    in_validation: BTreeMap<BlockHash, Source>,
    /// Blocks that are not asked for before a time.
    paused: BTreeMap<BlockHash, Duration>,
}

impl Download {
    fn asked(&mut self, hash: BlockHash, peer: PeerId) {
        self.requests.entry(hash).or_default().push(peer);
    }

    fn unasked(&mut self, hash: &BlockHash, peer: PeerId) {
        if let Some(peers) = self.requests.get_mut(hash) {
            peers.retain(|asked| *asked != peer);
            if peers.is_empty() {
                self.requests.remove(hash);
            }
        }
    }

    pub(crate) fn disconnected(&mut self, peer: &Peer, id: PeerId) {
        for hash in peer.blocks_in_flight.keys() {
            self.unasked(hash, id);
        }
    }

    /// Who was asked for a block, in order.
    pub(crate) fn asked_of(&self, hash: &BlockHash) -> &[PeerId] {
        self.requests.get(hash).map_or(&[], Vec::as_slice)
    }

    /// Is no block on its way?
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.in_validation.is_empty()
    }

    pub(crate) fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.in_validation.contains_key(hash)
    }

    pub(crate) fn in_validation_count(&self) -> usize {
        self.in_validation.len()
    }

    /// False if another copy is being checked.
    pub(crate) fn begin_validation(&mut self, hash: BlockHash, source: Source) -> bool {
        let is_new = !self.is_in_validation(&hash);
        if is_new {
            self.in_validation.insert(hash, source);
        }
        is_new
    }

    /// Are many blocks on their way?
    fn is_busy(&self) -> bool {
        self.requests.len() + self.in_validation.len() > CATCHING_UP
    }

    fn is_free(&self, hash: &BlockHash, now: Duration) -> bool {
        !self.requests.contains_key(hash)
            && !self.is_in_validation(hash)
            && self.paused.get(hash).is_none_or(|until| *until <= now)
    }
}

impl PeerSet {
    /// Is our chain so far behind that its tip is not worth announcing, and transactions on top of others cannot be
    /// judged? Who announces blocks and withholds them can make us wait for those, but not make a young tip old.
    pub(crate) fn is_catching_up(&self, ctx: &Ctx) -> bool {
        let age = ctx.unix_time.saturating_sub(u64::from(ctx.chain.active_tip().header.time));
        age > RECENT.as_secs() && self.download.is_busy()
    }

    /// Is this block our tip, of today, and is no other on its way?
    fn is_up_to_date_with(&self, hash: &BlockHash, ctx: &Ctx) -> bool {
        let tip = ctx.chain.active_tip();
        let age = ctx.unix_time.saturating_sub(u64::from(tip.header.time));
        tip.hash == *hash && age < RECENT.as_secs() && self.download.is_idle()
    }

    /// Fills the request slots of all peers.
    pub(crate) fn schedule_blocks(&mut self, ctx: &Ctx) {
        if self.config.light {
            // Which blocks are worth it is not known here.
            let ids: Vec<PeerId> = self.peers.keys().copied().collect();
            ids.into_iter().for_each(|id| self.note_announced(id, ctx));
            return;
        }
        self.download.paused.retain(|_, until| *until > ctx.now);
        self.request_lost(ctx);
        let mut ids: Vec<(bool, usize, PeerId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.serves_blocks())
            .map(|(id, peer)| (peer.direction == Direction::Inbound, peer.blocks_in_flight.len(), *id))
            .collect();
        ids.sort_unstable();
        for (_, in_flight, id) in ids {
            if self.download.in_validation.len() >= MAX_BLOCKS_IN_VALIDATION {
                return;
            }
            if in_flight >= MAX_BLOCKS_IN_FLIGHT_PER_PEER {
                continue;
            }
            self.refresh_plan(id, ctx);
            let wanted = self.choose_blocks(id, ctx);
            self.request_blocks(id, &wanted, ctx);
        }
    }

    /// Asks for damaged blocks, which no plan holds: each of a peer whose chain has it.
    fn request_lost(&mut self, ctx: &Ctx) {
        for hash in ctx.chain.lost_blocks() {
            let Some(entry) = ctx.chain.entry(&hash).filter(|_| self.download.is_free(&hash, ctx.now)) else {
                continue;
            };
            let has = |peer: &Peer| {
                let best = peer.best_known.and_then(|best| ctx.chain.entry(&best));
                best.is_some_and(|best| {
                    peer.keeps_from(best.height) <= entry.height
                        && ctx.chain.ancestor(&best.hash, entry.height) == Some(hash)
                })
            };
            let may_be_asked = |peer: &Peer| {
                peer.serves_blocks() && peer.blocks_in_flight.len() < MAX_BLOCKS_IN_FLIGHT_PER_PEER && has(peer)
            };
            let id = self.peers.iter().find(|(_, peer)| may_be_asked(peer)).map(|(id, _)| *id);
            if let Some(id) = id {
                self.request_blocks(id, &[hash], ctx);
            }
        }
    }

    fn choose_blocks(&mut self, id: PeerId, ctx: &Ctx) -> Vec<BlockHash> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        let Some(plan) = &peer.plan else {
            peer.out_of_reach = None;
            return Vec::new();
        };
        let keeps_from = ctx.chain.entry(&plan.target).map_or(0, |target| peer.keeps_from(target.height));
        let first = plan.blocks.front().and_then(|hash| ctx.chain.entry(hash)).map(|entry| entry.height);
        peer.out_of_reach = first.filter(|height| *height < keeps_from);
        let Some(peer) = self.peers.get(&id) else { return Vec::new() };
        let Some(plan) = &peer.plan else { return Vec::new() };
        let slots = MAX_BLOCKS_IN_FLIGHT_PER_PEER.saturating_sub(peer.blocks_in_flight.len());
        let missing = |hash: &BlockHash| {
            let entry = ctx.chain.entry(hash).filter(|entry| entry.state == BlockState::HeaderOnly);
            entry.is_some_and(|entry| entry.height >= keeps_from)
        };
        let wanted: Vec<BlockHash> = plan
            .blocks
            .iter()
            .filter(|hash| self.download.is_free(hash, ctx.now) && missing(hash))
            .take(slots)
            .copied()
            .collect();
        if !wanted.is_empty() || !peer.blocks_in_flight.is_empty() {
            return wanted;
        }
        // Nothing left but what others owe us for too long: take over the lowest such block.
        plan.blocks.iter().find(|hash| self.is_late(hash, ctx) && missing(hash)).copied().into_iter().collect()
    }

    /// Was the block asked for some time ago, of few enough peers that one more may be asked?
    fn is_late(&self, hash: &BlockHash, ctx: &Ctx) -> bool {
        let Some(asked) = self.download.requests.get(hash) else { return false };
        !self.download.is_in_validation(hash)
            && asked.len() < MAX_REQUESTS_PER_BLOCK
            && asked.iter().all(|peer| {
                let since = self.peers.get(peer).and_then(|peer| peer.blocks_in_flight.get(hash));
                since.is_none_or(|since| ctx.now.saturating_sub(*since) >= self.config.timing.block_retry)
            })
    }

    fn request_blocks(&mut self, id: PeerId, hashes: &[BlockHash], ctx: &Ctx) {
        let Some(peer) = self.peers.get(&id) else { return };
        let inventory = match hashes {
            [] => return,
            [hash] if self.asks_compact(peer, hash, ctx) => vec![Inventory::CompactBlock(*hash)],
            _ => hashes.iter().map(|hash| Inventory::WitnessBlock(*hash)).collect(),
        };
        for hash in hashes {
            self.note_request(id, *hash, ctx);
        }
        self.send(id, NetworkMessage::GetData(inventory));
    }

    /// A block is asked of the peer, if it was not before.
    pub(crate) fn note_request(&mut self, id: PeerId, hash: BlockHash, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Entry::Vacant(place) = peer.blocks_in_flight.entry(hash) {
            place.insert(ctx.now);
            self.download.asked(hash, id);
        }
    }

    /// The peer does not owe the block any more. Whether it did.
    pub(crate) fn withdraw_request(&mut self, id: PeerId, hash: &BlockHash) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.compact.owes_whole.remove(hash);
        peer.compact.partial.take_if(|partial| partial.hash() == *hash);
        let was_asked = peer.blocks_in_flight.remove(hash).is_some();
        if was_asked {
            self.download.unasked(hash, id);
        }
        was_asked
    }

    /// The peer has sent the block. Whether it was asked for it.
    pub(crate) fn take_request(&mut self, id: PeerId, hash: &BlockHash, ctx: &Ctx) -> bool {
        let was_asked = self.withdraw_request(id, hash);
        if was_asked && let Some(peer) = self.peers.get_mut(&id) {
            peer.last_block = ctx.now;
        }
        was_asked
    }

    /// A block that was announced before its header was known ends the peer's chain, now that it is.
    fn note_announced(&mut self, id: PeerId, ctx: &Ctx) {
        if let Some(hash) = self.peers.get(&id).and_then(|peer| peer.announced_unknown)
            && ctx.chain.entry(&hash).is_some()
        {
            self.note_best_known(id, hash, ctx);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.announced_unknown = None;
            }
        }
    }

    fn refresh_plan(&mut self, id: PeerId, ctx: &Ctx) {
        self.note_announced(id, ctx);
        let minimum = self.config.minimum_chain_work;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(target) = peer.best_known.and_then(|hash| ctx.chain.entry(&hash)) else {
            peer.plan = None;
            return;
        };
        let tip = ctx.chain.active_tip();
        if target.state == BlockState::Invalid {
            // The peer's chain turned out to be invalid; what else it has is not known.
            peer.best_known = None;
            peer.plan = None;
            return;
        }
        // A chain of equal work is fetched too: its next block may decide.
        let is_worth = target.hash != tip.hash && target.work >= tip.work && target.work >= minimum;
        if !is_worth || !ctx.chain.is_in_reach(&target.hash) {
            peer.plan = None;
            return;
        }
        let mut stored_to = None;
        if let Some(plan) = &mut peer.plan {
            while let Some(front) = plan.blocks.front()
                && ctx.chain.entry(front).is_none_or(|entry| entry.state != BlockState::HeaderOnly)
            {
                plan.blocks.pop_front();
            }
            if plan.target == target.hash && (!plan.blocks.is_empty() || plan.end == target.hash) {
                return;
            }
            stored_to = ctx.chain.entry(if plan.blocks.is_empty() { &plan.end } else { &plan.stored_to });
        }
        // What is stored of a branch need not be looked at again, however long the branch is.
        let stored_to = stored_to.filter(|stored| ctx.chain.ancestor(&target.hash, stored.height) == Some(stored.hash));
        let from = common_height(ctx.chain, &target, &tip).max(stored_to.map_or(0, |stored| stored.height));
        peer.plan = make_plan(ctx.chain, &target, from);
    }

    pub(crate) fn check_block_timeout(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(peer) = self.peers.get(&id) else { return };
        let Some(oldest) = peer.blocks_in_flight.values().min() else { return };
        let quiet_since = peer.last_block.max(*oldest);
        if ctx.now.saturating_sub(quiet_since) >= self.config.timing.block {
            self.disconnect(id, DisconnectReason::BlockTimeout, ctx);
        }
    }

    pub(crate) fn block(&mut self, id: PeerId, block: Block, ctx: &Ctx) {
        let hash = block.block_hash();
        if !self.peers.contains_key(&id) {
            return;
        }
        let asked_for = self.take_request(id, &hash, ctx);
        let Some(entry) = ctx.chain.entry(&hash) else {
            // Its header is unknown, so nobody asked for it. It is taken whole if its place is known.
            if self.is_next_best(&block.header, ctx) {
                if self.download.begin_validation(hash, Source::Whole) {
                    self.out.push(Action::ProcessBlock { peer: id, block });
                }
            } else if !asked_for {
                self.headers(id, vec![block.header], ctx);
            }
            self.schedule_blocks(ctx);
            return;
        };
        let wanted = asked_for || self.is_worth_storing(entry.work, entry.height, ctx);
        let is_missing = entry.state == BlockState::HeaderOnly || ctx.chain.lost_blocks().contains(&hash);
        if wanted && is_missing && self.download.begin_validation(hash, Source::Whole) {
            self.note_best_known(id, hash, ctx);
            self.out.push(Action::ProcessBlock { peer: id, block });
        }
        self.schedule_blocks(ctx);
    }

    /// Whether a block whose header is news would be worth it: it has its proof of work and a parent that we know.
    fn is_next_best(&self, header: &Header, ctx: &Ctx) -> bool {
        let Some(parent) = ctx.chain.entry(&header.prev_blockhash) else { return false };
        let work = add_work(parent.work, work_from_bits(header.bits));
        parent.state != BlockState::Invalid
            && check_list(std::slice::from_ref(header)).is_ok()
            && self.is_worth_storing(work, parent.height.saturating_add(1), ctx)
    }

    /// A block that nobody asked for is taken if it would be asked for anyway.
    fn is_worth_storing(&self, work: Work, height: u32, ctx: &Ctx) -> bool {
        let tip = ctx.chain.active_tip();
        !self.config.light
            && work >= tip.work
            && work >= self.config.minimum_chain_work
            && height <= tip.height.saturating_add(DOWNLOAD_WINDOW)
            && self.download.in_validation.len() < MAX_BLOCKS_IN_VALIDATION
    }

    pub(crate) fn block_not_found(&mut self, id: PeerId, hash: &BlockHash, ctx: &Ctx) {
        self.fetched_block_missing(id, hash);
        if !self.withdraw_request(id, hash) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // It does not have the chain that it announced; what it has it may announce again.
        peer.best_known = None;
        peer.plan = None;
        self.schedule_blocks(ctx);
    }

    pub(crate) fn block_processed(&mut self, id: PeerId, hash: BlockHash, outcome: BlockOutcome, ctx: &Ctx) {
        let source = self.download.in_validation.remove(&hash).unwrap_or(Source::Whole);
        match outcome {
            BlockOutcome::Accepted => {
                self.drop_partial(&hash);
                self.note_best_known(id, hash, ctx);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.last_useful.block = Some(ctx.now);
                }
                if self.is_up_to_date_with(&hash, ctx) {
                    self.choose_high_bandwidth(id);
                }
            }
            BlockOutcome::Invalid if source == Source::Compact => self.told_of_invalid(id, hash, ctx),
            BlockOutcome::Invalid => {
                self.misbehaves(id, Misbehavior::InvalidBlock, ctx);
            }
            BlockOutcome::Mutated if source == Source::Compact => self.put_together_wrongly(id, hash, ctx),
            BlockOutcome::Mutated => {
                self.misbehaves(id, Misbehavior::MutatedBlock, ctx);
            }
            BlockOutcome::Undecided => {
                self.download.paused.insert(hash, ctx.now.saturating_add(UNDECIDED_PAUSE));
            }
        }
        self.schedule_blocks(ctx);
        self.announce_blocks(ctx);
    }
}
