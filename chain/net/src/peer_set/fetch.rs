//! What a light node asks of one peer at a time: hashes of block filters, filters, single blocks (BIP 157).
//!
//! ```text
//!   Fetch { peer, wish } ─▶ getcfheaders, getcfilters, getdata ─▶ peer ─▶ cfheaders, cfilter…, block ─▶ Fetched
//!                                                                  └─ nothing, too late, gone ─▶ Failed
//! ```
//!
//! Which peer is asked, and whose word counts, is for who asks. Here an answer is only held against the question: the
//! blocks it is about, how many, and how long it may be.

use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_filter::{CFHeaders, CFilter, GetCFHeaders, GetCFilters};
use bitcoin::{Block, BlockHash};

use super::PeerSet;
use crate::config::{MAX_FETCHED_FILTER_BYTES, MAX_FILTER_HEADERS, MAX_FILTERS};
use crate::event::{Action, Ctx, DisconnectReason, PeerId};
use crate::fetched::{Fetch, Fetched, Wish};
use crate::misbehavior::Misbehavior;

/// A whole answer may take so many times as long as silence may last: some megabytes of filters over a slow line come within
/// minutes. Who sends a drop now and then is let go.
const WHOLE_ANSWER: u32 = 4;

/// The basic filter's number (BIP 158).
const BASIC: u8 = 0;

impl PeerSet {
    pub(crate) fn fetch(&mut self, id: PeerId, request: u64, wish: Wish, ctx: &Ctx) {
        let span = |start: u32, stop: &BlockHash, most: u32| {
            let end = ctx.chain.entry(stop).map(|entry| entry.height);
            end.is_some_and(|end| start <= end && end.saturating_sub(start) < most)
        };
        let message = match wish {
            Wish::FilterHashes { start, stop } if span(start, &stop, MAX_FILTER_HEADERS) => {
                NetworkMessage::GetCFHeaders(GetCFHeaders { filter_type: BASIC, start_height: start, stop_hash: stop })
            }
            Wish::Filters { start, stop } if span(start, &stop, MAX_FILTERS) => {
                NetworkMessage::GetCFilters(GetCFilters { filter_type: BASIC, start_height: start, stop_hash: stop })
            }
            Wish::Block(hash) => NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]),
            Wish::FilterHashes { .. } | Wish::Filters { .. } => {
                self.fetched(id, request, Fetched::Failed);
                return;
            }
        };
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_ready()) else {
            self.fetched(id, request, Fetched::Failed);
            return;
        };
        peer.fetches.push(Fetch { request, wish, asked: ctx.now, heard: ctx.now, filters: Vec::new(), bytes: 0 });
        self.send(id, message);
    }

    fn fetched(&mut self, peer: PeerId, request: u64, outcome: Fetched) {
        self.out.push(Action::Fetched { peer, request, outcome });
    }

    /// Ends the first question that the answer fits. Whether there was one.
    fn answer(&mut self, id: PeerId, fits: impl Fn(&Wish) -> bool, outcome: Fetched) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let Some(place) = peer.fetches.iter().position(|fetch| fits(&fetch.wish)) else { return false };
        let request = peer.fetches.remove(place).request;
        self.fetched(id, request, outcome);
        true
    }

    pub(crate) fn filter_hashes(&mut self, id: PeerId, message: CFHeaders, ctx: &Ctx) {
        let CFHeaders { filter_type, stop_hash, previous_filter_header: previous, filter_hashes: hashes } = message;
        let end = ctx.chain.entry(&stop_hash).map(|entry| entry.height);
        let Some(end) = end.filter(|_| filter_type == BASIC) else { return };
        let is_asked = |wish: &Wish| matches!(wish, Wish::FilterHashes { stop, .. } if *stop == stop_hash);
        let fits = |wish: &Wish| match wish {
            Wish::FilterHashes { start, stop } => {
                *stop == stop_hash && u32::try_from(hashes.len()) == Ok(end.saturating_sub(*start).saturating_add(1))
            }
            Wish::Filters { .. } | Wish::Block(_) => false,
        };
        let asked = self.peers.get(&id).is_some_and(|peer| peer.fetches.iter().any(|fetch| is_asked(&fetch.wish)));
        let answered = self.answer(id, fits, Fetched::FilterHashes { previous, hashes: hashes.clone() });
        if asked && !answered {
            self.misbehaves(id, Misbehavior::FilterAnswer, ctx);
        }
    }

    /// Filters come in the order of their blocks (BIP 157).
    pub(crate) fn filter(&mut self, id: PeerId, message: CFilter, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let filters = peer.fetches.iter_mut().find_map(|fetch| match fetch.wish {
            Wish::Filters { start, stop } => Some((fetch, start, stop)),
            Wish::FilterHashes { .. } | Wish::Block(_) => None,
        });
        let Some((fetch, start, stop)) = filters.filter(|_| message.filter_type == BASIC) else { return };
        let height = u32::try_from(fetch.filters.len()).ok().and_then(|before| start.checked_add(before));
        let wanted = height.and_then(|height| ctx.chain.ancestor(&stop, height));
        fetch.bytes = fetch.bytes.saturating_add(message.filter.len());
        if wanted != Some(message.block_hash) || fetch.bytes > MAX_FETCHED_FILTER_BYTES {
            self.misbehaves(id, Misbehavior::FilterAnswer, ctx);
            return;
        }
        fetch.heard = ctx.now;
        fetch.filters.push(message.filter);
        if message.block_hash == stop {
            let filters = std::mem::take(&mut fetch.filters);
            self.answer(id, |wish| matches!(wish, Wish::Filters { .. }), Fetched::Filters(filters));
        }
    }

    /// The block, if nobody has asked for it here.
    pub(crate) fn fetched_block(&mut self, id: PeerId, block: Block) -> Option<Block> {
        let hash = block.block_hash();
        let asked = self.peers.get(&id)?.fetches.iter().any(|fetch| fetch.wish == Wish::Block(hash));
        if !asked {
            return Some(block);
        }
        self.answer(id, |wish| *wish == Wish::Block(hash), Fetched::Block(Box::new(block)));
        None
    }

    pub(crate) fn fetched_block_missing(&mut self, id: PeerId, hash: &BlockHash) {
        self.answer(id, |wish| *wish == Wish::Block(*hash), Fetched::Failed);
    }

    pub(crate) fn fetches_failed(&mut self, id: PeerId, fetches: Vec<Fetch>) {
        fetches.into_iter().for_each(|fetch| self.fetched(id, fetch.request, Fetched::Failed));
    }

    pub(crate) fn check_fetch_timeout(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(peer) = self.peers.get(&id) else { return };
        let silence = self.config.timing.block;
        let whole = silence.saturating_mul(WHOLE_ANSWER);
        let is_late = |fetch: &Fetch| {
            ctx.now.saturating_sub(fetch.heard) >= silence || ctx.now.saturating_sub(fetch.asked) >= whole
        };
        if peer.fetches.iter().any(is_late) {
            self.disconnect(id, DisconnectReason::BlockTimeout, ctx);
        }
    }
}
