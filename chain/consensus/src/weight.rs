//! How large a block may be, and how many signature checks it may ask for (BIP 141). They are counted in
//! [`crate::script::sigops`].

use bitcoin::{Block, Transaction, VarInt};

/// Four units a byte, one for a byte of witness.
pub const MAX_BLOCK_WEIGHT: u64 = 4_000_000;
/// Four units a signature operation, one in witness programs.
pub const MAX_BLOCK_SIGOP_COST: u64 = 80_000;
/// What a byte outside of witnesses weighs.
pub const WITNESS_SCALE: u64 = 4;

/// Size of a block without witnesses.
pub fn stripped_size(block: &Block) -> u64 {
    let transactions: usize = block.txdata.iter().map(Transaction::base_size).sum();
    (bitcoin::block::Header::SIZE + VarInt::from(block.txdata.len()).size() + transactions) as u64
}

/// Weight of a block: three times its size without witnesses plus its whole size.
pub fn block_weight(block: &Block) -> u64 {
    block.weight().to_wu()
}
