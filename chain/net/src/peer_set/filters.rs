//! Block filters for light clients (BIP 157): which ones a peer may ask for, and in what pieces it gets them.
//!
//! A request is a few bytes and its answer megabytes, so it waits in the peer's queue with the blocks that it asked for and
//! is worked off in the same way: a piece at a time, the next one when the socket has taken the last.

use bitcoin::BlockHash;
use bitcoin::p2p::message_filter::{GetCFCheckpt, GetCFHeaders, GetCFilters};

use super::PeerSet;
use crate::config::{FILTER_CHECKPOINTS, FILTERS_AT_ONCE, MAX_FILTER_HEADERS, MAX_FILTERS};
use crate::event::{Action, Ctx, FilterRequest, PeerId};
use crate::fetched::FilterRange;
use crate::misbehavior::Misbehavior;
use crate::peer::Asked;
use crate::view::HeaderEntry;

/// The basic filter's number (BIP 158).
const BASIC: u8 = 0;

impl PeerSet {
    pub(crate) fn get_filters(&mut self, id: PeerId, request: &GetCFilters, ctx: &Ctx) {
        let GetCFilters { filter_type, start_height, stop_hash } = *request;
        let range = FilterRange::Filters(start_height, stop_hash);
        self.filters_asked(id, range, (filter_type, start_height, stop_hash), MAX_FILTERS, ctx);
    }

    pub(crate) fn get_filter_headers(&mut self, id: PeerId, request: &GetCFHeaders, ctx: &Ctx) {
        let GetCFHeaders { filter_type, start_height, stop_hash } = *request;
        let range = FilterRange::Headers(start_height, stop_hash);
        self.filters_asked(id, range, (filter_type, start_height, stop_hash), MAX_FILTER_HEADERS, ctx);
    }

    pub(crate) fn get_filter_checkpoints(&mut self, id: PeerId, request: &GetCFCheckpt, ctx: &Ctx) {
        let GetCFCheckpt { filter_type, stop_hash } = *request;
        self.filters_asked(id, FilterRange::Checkpoints(stop_hash), (filter_type, 0, stop_hash), u32::MAX, ctx);
    }

    /// BIP 157: no other type than the basic one, the first block not above the last, and not too many.
    fn filters_asked(
        &mut self,
        id: PeerId,
        range: FilterRange,
        (filter_type, start, stop): (u8, u32, BlockHash),
        most: u32,
        ctx: &Ctx,
    ) {
        if !ctx.chain.serves_filters() {
            return;
        }
        // It may know a block that we do not know yet: that is no fault.
        let Some(stop) = ctx.chain.entry(&stop) else { return };
        if filter_type != BASIC || start > stop.height || stop.height.saturating_sub(start) >= most {
            self.misbehaves(id, Misbehavior::FilterRequest, ctx);
            return;
        }
        self.enqueue(id, [Asked::Filters(range)], ctx);
    }

    /// Hands the next piece of a request to the driver. What is left of it, if there is something left.
    pub(crate) fn serve_filters(&mut self, id: PeerId, range: FilterRange, ctx: &Ctx) -> Option<FilterRange> {
        let (request, rest) = match range {
            FilterRange::Filters(start, stop) => {
                let end = ctx.chain.entry(&stop)?.height;
                let last = end.min(start.saturating_add(FILTERS_AT_ONCE - 1));
                let blocks = ancestors(ctx, stop, start, last, 1);
                (FilterRequest::Filters { blocks }, (last < end).then(|| FilterRange::Filters(last + 1, stop)))
            }
            FilterRange::Headers(start, stop) => {
                let end = ctx.chain.entry(&stop)?.height;
                let before = start.checked_sub(1).and_then(|height| ctx.chain.ancestor(&stop, height));
                (FilterRequest::Headers { before, blocks: ancestors(ctx, stop, start, end, 1) }, None)
            }
            FilterRange::Checkpoints(stop) => {
                let HeaderEntry { height, .. } = ctx.chain.entry(&stop)?;
                let blocks = ancestors(ctx, stop, FILTER_CHECKPOINTS, height, FILTER_CHECKPOINTS);
                (FilterRequest::Checkpoints { stop, blocks }, None)
            }
        };
        self.out.push(Action::ServeFilters { peer: id, request });
        rest
    }
}

/// Every so many blocks of the chain that ends in `of`.
fn ancestors(ctx: &Ctx, of: BlockHash, first: u32, last: u32, every: u32) -> Vec<BlockHash> {
    let heights = (first..=last).step_by(usize::try_from(every).unwrap_or(1).max(1));
    heights.map_while(|height| ctx.chain.ancestor(&of, height)).collect()
}
