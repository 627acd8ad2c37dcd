//! Headers first: which peers are asked for headers, and what is done with what they send.
//!
//! ```text
//!   peer ready ─▶ getheaders(locator) ─▶ headers ─┬─ full list ────▶ check ─▶ getheaders from its end
//!                        ▲                        ├─ shorter ──────▶ check ─▶ done: its best chain is known
//!                        │                        └─ connects to nothing ─▶ getheaders from what we have
//!                 refresh interval
//! ```
//!
//! While our best header is more than a day old, one peer at a time is asked, so that a long chain is not fetched from
//! everybody at once; whoever does not answer in time is let go and the next one is asked. After that everybody is.
//! A list is checked for continuity and proof of work before anything is spent on it, and a chain that is far behind
//! ours in work is stored only once it has shown that it ends with enough of it ([`crate::presync`]).

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::GetHeadersMessage;
use bitcoin::pow::Work;
use leyden_consensus::difficulty::{add_work, target_from_bits, work_from_bits};

use super::PeerSet;
use crate::config::{MAX_HEADERS, MAX_HEADERS_TO_ANNOUNCE, MAX_LOCATOR, PROTOCOL_VERSION};
use crate::event::{Action, Ctx, DisconnectReason, HeadersOutcome, PeerId};
use crate::misbehavior::Misbehavior;
use crate::presync::{Presync, Step};
use crate::view::{BlockState, ChainView, HeaderEntry};

/// A chain whose last header is younger than this counts as up to date.
pub(crate) const RECENT: Duration = Duration::from_secs(24 * 60 * 60);
/// Lists of one peer that are checked at a time. What is in more of them is asked for again once these are checked.
const MAX_LISTS_IN_VALIDATION: usize = 4;
/// A branch may leave the active chain this many blocks before its end without being suspicious.
const USUAL_REORGANISATION: u32 = 144;
/// Walks over a chain with little work that one peer may have fail: each costs us a hash a header.
const MAX_FAILED_WALKS: u32 = 3;

/// The hashes that tell another node where our chain and its chain part: the last ten blocks of the chain that ends in
/// `from`, then with doubling gaps, then genesis.
pub fn locator(chain: &dyn ChainView, from: &HeaderEntry) -> Vec<BlockHash> {
    let mut hashes = vec![from.hash];
    let mut height = from.height;
    let mut step = 1;
    while height > 0 {
        height = height.saturating_sub(step);
        match chain.ancestor(&from.hash, height) {
            Some(hash) => hashes.push(hash),
            None => break,
        }
        if hashes.len() > 10 {
            step = step.saturating_mul(2);
        }
    }
    hashes
}

impl PeerSet {
    /// Asks peers that were not asked yet, and after some time those that were.
    pub(crate) fn start_header_sync(&mut self, ctx: &Ctx) {
        let best = ctx.chain.most_work_header();
        let age = Duration::from_secs(ctx.unix_time.saturating_sub(u64::from(best.header.time)));
        let mut one_only = age > RECENT;
        if one_only && self.peers.values().any(|peer| peer.headers.asked_at.is_some() && !peer.headers.done) {
            return;
        }
        let refresh = self.config.timing.headers_refresh;
        // Peers that we chose come first.
        let mut ids: Vec<(bool, PeerId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.serves_blocks() && peer.headers.asked_at.is_none() && peer.presync.is_none())
            .filter(|(_, peer)| peer.headers.last_asked.is_none_or(|asked| ctx.now.saturating_sub(asked) >= refresh))
            .map(|(id, peer)| (peer.direction == crate::Direction::Inbound, *id))
            .collect();
        ids.sort_unstable();
        for (_, id) in ids {
            // From the block before the best one, so that the answer is never empty and shows what the peer has.
            let from = ctx.chain.entry(&best.header.prev_blockhash).unwrap_or(best);
            self.ask_headers(id, &from, ctx);
            if std::mem::take(&mut one_only) {
                return;
            }
        }
    }

    /// Asks for what follows `from`, unless the peer still owes an answer.
    fn ask_headers(&mut self, id: PeerId, from: &HeaderEntry, ctx: &Ctx) {
        self.get_headers(id, locator(ctx.chain, from), ctx);
    }

    fn get_headers(&mut self, id: PeerId, locator_hashes: Vec<BlockHash>, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.headers.asked_at.is_some() {
            return;
        }
        peer.headers.asked_at = Some(ctx.now);
        peer.headers.last_asked = Some(ctx.now);
        let message =
            GetHeadersMessage { version: PROTOCOL_VERSION, locator_hashes, stop_hash: BlockHash::all_zeros() };
        self.send(id, NetworkMessage::GetHeaders(message));
    }

    pub(crate) fn check_header_timeout(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.headers.asked_at.is_some_and(|asked| ctx.now.saturating_sub(asked) >= self.config.timing.headers) {
            self.disconnect(id, DisconnectReason::HeadersTimeout, ctx);
        }
    }

    /// A peer announced a block by its hash alone.
    pub(crate) fn block_announced(&mut self, id: PeerId, hash: BlockHash, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if ctx.chain.entry(&hash).is_some() {
            self.note_best_known(id, hash, ctx);
        } else {
            peer.announced_unknown = Some(hash);
            let best = ctx.chain.most_work_header();
            self.ask_headers(id, &best, ctx);
        }
    }

    pub(crate) fn headers(&mut self, id: PeerId, headers: Vec<Header>, ctx: &Ctx) {
        if headers.len() > MAX_HEADERS {
            self.misbehaves(id, Misbehavior::Oversized, ctx);
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            peer.headers.asked_at = None;
            peer.headers.done = true;
            // A chain that was being walked ends here, without the work that it needs.
            if peer.presync.is_some() {
                self.walk_failed(id, ctx);
            } else {
                self.start_header_sync(ctx);
            }
            return;
        };
        if let Err(fault) = check_list(&headers) {
            self.misbehaves(id, fault, ctx);
            return;
        }
        let last_hash = last.block_hash();
        if peer.presync.as_ref().is_some_and(|presync| presync.expects() == first.prev_blockhash) {
            peer.headers.asked_at = None;
            self.walk_on(id, &headers, ctx);
            return;
        }
        let Some(parent) = ctx.chain.entry(&first.prev_blockhash) else {
            self.unconnecting_headers(id, headers.len(), last_hash, ctx);
            return;
        };
        // Anything that could be the answer counts as the answer; an answer connects, if only to genesis.
        peer.headers.asked_at = None;
        if parent.state == BlockState::Invalid {
            self.misbehaves(id, Misbehavior::InvalidHeader, ctx);
            return;
        }
        if let Some(known) = ctx.chain.entry(&last_hash) {
            self.list_is_known(id, &known, headers.len(), ctx);
            return;
        }
        if !self.has_enough_work(id, &parent, &headers, ctx) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.headers.in_validation >= MAX_LISTS_IN_VALIDATION {
            peer.headers.missed = true;
            return;
        }
        self.accept_headers(id, headers);
    }

    /// An honest peer announces headers that we cannot connect, as many as it likes, while what is before them is on its
    /// way, or is being checked.
    fn unconnecting_headers(&mut self, id: PeerId, count: usize, last: BlockHash, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.announced_unknown = Some(last);
        if peer.headers.in_validation > 0 {
            peer.headers.missed = true;
            return;
        }
        // No peer answers a locator of ours like this, or announces so many.
        if count > MAX_HEADERS_TO_ANNOUNCE && self.misbehaves(id, Misbehavior::UnconnectingHeaders, ctx) {
            return;
        }
        let best = ctx.chain.most_work_header();
        self.ask_headers(id, &best, ctx);
    }

    fn list_is_known(&mut self, id: PeerId, last: &HeaderEntry, count: usize, ctx: &Ctx) {
        if last.state == BlockState::Invalid {
            self.misbehaves(id, Misbehavior::InvalidHeader, ctx);
            return;
        }
        self.note_best_known(id, last.hash, ctx);
        self.continue_sync(id, last, count, ctx);
        self.schedule_blocks(ctx);
    }

    /// After a list that ends in `last`: there is more if the list was full, or if a walk ended in it.
    fn continue_sync(&mut self, id: PeerId, last: &HeaderEntry, count: usize, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.presync.is_some() {
            self.ask_for_walk(id, ctx);
        } else if std::mem::take(&mut peer.headers.goes_on) || count >= MAX_HEADERS {
            self.ask_headers(id, last, ctx);
        } else {
            peer.headers.done = true;
            self.start_header_sync(ctx);
        }
    }

    /// The work that a chain needs before its headers are stored: the network's minimum, and nearly that of our tip.
    fn work_threshold(&self, ctx: &Ctx) -> Work {
        let tip = ctx.chain.active_tip();
        let before = ctx.chain.active_at(tip.height.saturating_sub(USUAL_REORGANISATION));
        let work = before.and_then(|hash| ctx.chain.entry(&hash)).map_or(tip.work, |entry| entry.work);
        work.max(self.config.minimum_chain_work)
    }

    /// The minimum-work rule: a short list whose chain is far behind ours is dropped without a word; a full one may be
    /// the start of something better, which is walked first.
    fn has_enough_work(&mut self, id: PeerId, parent: &HeaderEntry, headers: &[Header], ctx: &Ctx) -> bool {
        let claimed = headers.iter().fold(parent.work, |work, header| add_work(work, work_from_bits(header.bits)));
        if claimed >= self.work_threshold(ctx) {
            return true;
        }
        let keys = (self.entropy.next_u64(), self.entropy.next_u64());
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if headers.len() < MAX_HEADERS {
            peer.headers.done = true;
            self.start_header_sync(ctx);
        } else if peer.presync.is_none() {
            peer.presync = Some(Presync::new(keys, parent.hash, parent.work));
            self.walk_on(id, headers, ctx);
        }
        false
    }

    /// A list of the chain that is being walked.
    fn walk_on(&mut self, id: PeerId, headers: &[Header], ctx: &Ctx) {
        let threshold = self.work_threshold(ctx);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(presync) = &mut peer.presync else { return };
        match presync.take(headers, threshold) {
            Step::More { ready } if ready.is_empty() => self.ask_for_walk(id, ctx),
            // What follows is asked for once these are checked.
            Step::More { ready } => self.accept_headers(id, ready),
            Step::Complete { ready } => {
                peer.presync = None;
                peer.headers.goes_on = true;
                self.accept_headers(id, ready);
            }
            Step::Failed => self.walk_failed(id, ctx),
            Step::TooLong => {
                self.misbehaves(id, Misbehavior::LowWorkHeaders, ctx);
            }
        }
    }

    fn ask_for_walk(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(presync) = self.peers.get(&id).and_then(|peer| peer.presync.as_ref()) else { return };
        let (next, start) = (presync.expects(), presync.start());
        let Some(start) = ctx.chain.entry(&start) else { return };
        let mut hashes = locator(ctx.chain, &start);
        if next != start.hash {
            hashes.insert(0, next);
            hashes.truncate(MAX_LOCATOR);
        }
        self.get_headers(id, hashes, ctx);
    }

    fn walk_failed(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.presync = None;
        peer.headers.done = true;
        peer.headers.failed_walks = peer.headers.failed_walks.saturating_add(1);
        if peer.headers.failed_walks < MAX_FAILED_WALKS || !self.misbehaves(id, Misbehavior::LowWorkHeaders, ctx) {
            self.start_header_sync(ctx);
        }
    }

    fn accept_headers(&mut self, id: PeerId, headers: Vec<Header>) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.headers.in_validation += 1;
            self.out.push(Action::AcceptHeaders { peer: id, headers });
        }
    }

    pub(crate) fn headers_processed(&mut self, id: PeerId, count: usize, outcome: HeadersOutcome, ctx: &Ctx) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.headers.in_validation = peer.headers.in_validation.saturating_sub(1);
        }
        match outcome {
            HeadersOutcome::Accepted { last } => {
                let held = self.take_held(id, &last);
                if let Some(entry) = ctx.chain.entry(&last)
                    && self.peers.contains_key(&id)
                {
                    self.note_best_known(id, last, ctx);
                    self.continue_sync(id, &entry, count, ctx);
                }
                if let Some(compact) = held {
                    self.put_together(id, compact, ctx);
                }
                self.schedule_blocks(ctx);
            }
            HeadersOutcome::Invalid => {
                self.misbehaves(id, Misbehavior::InvalidHeader, ctx);
            }
            HeadersOutcome::Undecided => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.headers.done = true;
                }
                self.start_header_sync(ctx);
            }
        }
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.headers.in_validation == 0
        {
            // What waits for a header that was refused.
            peer.compact.held = None;
        }
        self.ask_for_missed_headers(id, ctx);
    }

    /// Asks again for what came while too many lists were being checked.
    fn ask_for_missed_headers(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // An answer that is still to come was sent after what was missed, and so holds it.
        if peer.headers.in_validation == 0 && peer.presync.is_none() && std::mem::take(&mut peer.headers.missed) {
            let best = ctx.chain.most_work_header();
            self.ask_headers(id, &best, ctx);
        }
    }

    /// Remembers that a peer has a block, if its chain is better than what the peer is known to have.
    pub(crate) fn note_best_known(&mut self, id: PeerId, hash: BlockHash, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(entry) = ctx.chain.entry(&hash).filter(|entry| entry.state != BlockState::Invalid) else { return };
        let known = peer.best_known.and_then(|known| ctx.chain.entry(&known)).map(|known| known.work);
        if known.is_none_or(|known| entry.work > known) {
            peer.best_known = Some(hash);
            peer.plan = None;
        }
    }
}

/// Do the headers follow each other, each with the proof of work that it claims?
pub(crate) fn check_list(headers: &[Header]) -> Result<(), Misbehavior> {
    let mut previous: Option<BlockHash> = None;
    for header in headers {
        if previous.is_some_and(|previous| previous != header.prev_blockhash) {
            return Err(Misbehavior::NonContinuousHeaders);
        }
        let hash = header.block_hash();
        // Bits that stand for no target are met by no hash.
        if !target_from_bits(header.bits).is_ok_and(|target| target.is_met_by(hash)) {
            return Err(Misbehavior::MissingProofOfWork);
        }
        previous = Some(hash);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::TxMerkleNode;

    #[test]
    fn lists_need_continuity_and_proof_of_work() {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin).header;
        assert_eq!(check_list(&[genesis]), Ok(()));
        assert_eq!(check_list(&[genesis, genesis]), Err(Misbehavior::NonContinuousHeaders));
        let forged = Header { merkle_root: TxMerkleNode::all_zeros(), ..genesis };
        assert_eq!(check_list(&[forged]), Err(Misbehavior::MissingProofOfWork));
    }

    #[test]
    fn bits_that_stand_for_no_target_are_met_by_no_hash() {
        let regtest = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
        assert_eq!(check_list(&[regtest]), Ok(()));
        // Beyond 256 bits, negative, zero. The first would be easy if its exponent were taken modulo 256 bits.
        for bits in [0x407f_ffff, 0x2100_ffff + 0x0100_0000, 0x2080_ffff, 0x2000_0000] {
            let bits = bitcoin::CompactTarget::from_consensus(bits);
            for nonce in 0..20 {
                let header = Header { bits, nonce, ..regtest };
                assert_eq!(check_list(&[header]), Err(Misbehavior::MissingProofOfWork), "{bits:?} {nonce}");
            }
        }
    }
}
