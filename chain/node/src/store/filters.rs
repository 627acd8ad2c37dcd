//! Block filters: kept by block hash, on whatever branch the block is, so that no reorganisation touches them.

use bitcoin::BlockHash;
use bitcoin::bip158::{BlockFilter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;

use super::{Batch, Store, family};
use crate::block_filter::FilterLink;
use crate::error::StoreError;

const HASH_BYTES: usize = 32;

impl Store {
    /// The filter of this block, if it was made.
    pub fn filter(&self, hash: &BlockHash) -> Result<Option<BlockFilter>, StoreError> {
        let content = self.get(family::FILTERS, hash.as_byte_array())?;
        Ok(content.map(|content| BlockFilter::new(&content)))
    }

    /// Hash and header of this block's filter, if it was made.
    pub fn filter_link(&self, hash: &BlockHash) -> Result<Option<FilterLink>, StoreError> {
        let Some(bytes) = self.get(family::FILTER_HEADERS, hash.as_byte_array())? else { return Ok(None) };
        let (hash, header) = bytes.split_at_checked(HASH_BYTES).ok_or_else(|| self.corrupt("a filter header"))?;
        let hash = FilterHash::from_slice(hash).map_err(|_| self.corrupt("a filter's hash"))?;
        let header = FilterHeader::from_slice(header).map_err(|_| self.corrupt("a filter header"))?;
        Ok(Some(FilterLink { hash, header }))
    }
}

impl Batch {
    /// Adds a block's filter.
    pub fn put_filter(&mut self, block: &BlockHash, filter: &BlockFilter, link: &FilterLink) {
        self.put(family::FILTERS, block.as_byte_array(), &filter.content);
        self.put_filter_link(block, link);
    }

    /// Adds the hash and the header of a block's filter without the filter.
    pub fn put_filter_link(&mut self, block: &BlockHash, link: &FilterLink) {
        let value = [link.hash.to_byte_array(), link.header.to_byte_array()].concat();
        self.put(family::FILTER_HEADERS, block.as_byte_array(), &value);
    }
}
