//! One header in the tree.

use bitcoin::block::Header;
use bitcoin::{BlockHash, Work};

use crate::difficulty::work_from_bits;

/// What the tree knows of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownHeader {
    /// The 80 bytes, as they were received.
    pub header: Header,
    /// Their hash, computed once.
    pub hash: BlockHash,
    /// Blocks between the genesis block (0) and this one.
    pub height: u32,
    /// Expected hashes from the genesis block up to and including this block.
    pub chain_work: Work,
    /// The median time of the eleven blocks that end in this one.
    pub median_time_past: u32,
    /// Whether this block or one before was found invalid.
    pub validity: Validity,
    /// The block's body is stored.
    pub stored: bool,
    /// So are the bodies of all blocks before.
    pub connectable: bool,
}

/// The verdict on a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// Nothing speaks against it.
    Valid,
    /// The block itself was found invalid.
    Failed,
    /// It builds on an invalid block.
    OnFailed,
}

impl Validity {
    /// Whether neither the block nor one before was found invalid.
    pub fn is_valid(self) -> bool {
        match self {
            Self::Valid => true,
            Self::Failed | Self::OnFailed => false,
        }
    }
}

/// Where an entry lies in the tree's arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(u32);

impl Slot {
    pub(super) const GENESIS: Self = Self(0);

    /// Four billion headers would fill a third of a terabyte of memory before this saturates.
    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) hash: BlockHash,
    pub(super) height: u32,
    pub(super) chain_work: Work,
    pub(super) median_time_past: u32,
    pub(super) validity: Validity,
    pub(super) parent: Option<Slot>,
    /// Some ancestor, far enough for logarithmic search; the genesis block's is itself.
    pub(super) jump: Slot,
    pub(super) first_child: Option<Slot>,
    pub(super) next_sibling: Option<Slot>,
    /// When the body was stored, counted in bodies.
    pub(super) stored: Option<u64>,
    /// When the chain up to here was first stored as a whole, counted in blocks.
    pub(super) linked: Option<u64>,
}

impl Entry {
    pub(super) fn genesis(header: Header, hash: BlockHash) -> Self {
        Self {
            header,
            hash,
            height: 0,
            chain_work: work_from_bits(header.bits),
            median_time_past: header.time,
            validity: Validity::Valid,
            parent: None,
            jump: Slot::GENESIS,
            first_child: None,
            next_sibling: None,
            stored: Some(0),
            linked: Some(0),
        }
    }

    pub(super) fn known(&self) -> KnownHeader {
        KnownHeader {
            header: self.header,
            hash: self.hash,
            height: self.height,
            chain_work: self.chain_work,
            median_time_past: self.median_time_past,
            validity: self.validity,
            stored: self.stored.is_some(),
            connectable: self.linked.is_some(),
        }
    }
}
