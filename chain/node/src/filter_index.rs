//! The filters of all blocks of the active chain.
//!
//! ```text
//!   genesis ■─■─■─■─□─□─□─■ tip        a step writes the filter of a block whose parent has one, in its own commit;
//!                 └─ catching up ─▶    what was connected without filters is made up for from here, some at a time
//! ```
//!
//! What it promises: a block of the active chain has a filter only if all before it have, and after [`catch_up`] all have,
//! also those that come later.

use bitcoin::bip158::{BlockFilter, FilterHeader};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_filter::{CFCheckpt, CFHeaders, CFilter};
use bitcoin::{Block, BlockHash};
use leyden_consensus::BlockUndo;
use leyden_net::FilterRequest;

use crate::block_filter::{FilterLink, build};
use crate::error::{NodeError, StoreError};
use crate::store::{Batch, BatchKind, Durability, Store};

/// The basic filter's number (BIP 158).
const BASIC: u8 = 0;

/// Adds filters of blocks to a batch, each after its parent's.
#[derive(Debug, Default)]
pub(crate) struct FilterWriter {
    /// The last one that was added: it may not be in the store yet.
    last: Option<(BlockHash, FilterHeader)>,
}

impl FilterWriter {
    /// Adds the block's filter, if its parent has one. Whether it has.
    pub(crate) fn add(
        &mut self,
        store: &Store,
        batch: &mut Batch,
        (hash, block): (&BlockHash, &Block),
        undo: &BlockUndo,
    ) -> Result<bool, NodeError> {
        let parent = &block.header.prev_blockhash;
        let previous = match self.last {
            Some((last, header)) if last == *parent => Some(header),
            Some(_) | None => store.filter_link(parent)?.map(|link| link.header),
        };
        let Some(previous) = previous else { return Ok(false) };
        let filter = build(block, undo)?;
        let link = FilterLink::of(&previous, &filter);
        batch.put_filter(hash, &filter, &link);
        self.last = Some((*hash, link.header));
        Ok(true)
    }
}

/// The genesis block's filter, which all others follow.
pub(crate) fn begin(store: &Store, genesis: &Block) -> Result<(), NodeError> {
    let hash = genesis.block_hash();
    if !store.keeps_filters() || store.filter_link(&hash)?.is_some() {
        return Ok(());
    }
    let filter = build(genesis, &BlockUndo { spent: Vec::new(), overwritten: Vec::new() })?;
    let mut batch = Batch::new(BatchKind::Filters);
    batch.put_filter(&hash, &filter, &FilterLink::of(&FilterLink::before_genesis(), &filter));
    store.commit(&batch, Durability::Buffered)
}

/// The answer to a request (BIP 157); empty if a filter is missing, which is so for blocks that never were part of the
/// active chain.
pub(crate) fn answer(store: &Store, request: &FilterRequest) -> Result<Vec<NetworkMessage>, StoreError> {
    let link = |hash: &BlockHash| store.filter_link(hash);
    let message = match request {
        FilterRequest::Filters { blocks } => {
            let filters = blocks.iter().map(|hash| Ok(store.filter(hash)?.map(|filter| filter_message(*hash, filter))));
            let filters: Result<Option<Vec<_>>, StoreError> = filters.collect();
            return Ok(filters?.unwrap_or_default());
        }
        FilterRequest::Headers { before, blocks } => {
            let previous = match before {
                Some(before) => link(before)?.map(|link| link.header),
                None => Some(FilterLink::before_genesis()),
            };
            let links: Result<Option<Vec<FilterLink>>, StoreError> = blocks.iter().map(link).collect();
            let (Some(previous), Some(links), Some(stop)) = (previous, links?, blocks.last()) else {
                return Ok(Vec::new());
            };
            NetworkMessage::CFHeaders(CFHeaders {
                filter_type: BASIC,
                stop_hash: *stop,
                previous_filter_header: previous,
                filter_hashes: links.iter().map(|link| link.hash).collect(),
            })
        }
        FilterRequest::Checkpoints { stop, blocks } => {
            let links: Result<Option<Vec<FilterLink>>, StoreError> = blocks.iter().map(link).collect();
            let Some(links) = links? else { return Ok(Vec::new()) };
            let filter_headers = links.iter().map(|link| link.header).collect();
            NetworkMessage::CFCheckpt(CFCheckpt { filter_type: BASIC, stop_hash: *stop, filter_headers })
        }
    };
    Ok(vec![message])
}

fn filter_message(block_hash: BlockHash, filter: BlockFilter) -> NetworkMessage {
    NetworkMessage::CFilter(CFilter { filter_type: BASIC, block_hash, filter: filter.content })
}
