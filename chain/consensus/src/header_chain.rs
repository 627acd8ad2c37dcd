//! Headers from the genesis block to a tip, wherever they are kept.

use bitcoin::block::Header;

/// A chain of headers from the genesis block to a tip.
pub trait HeaderChain {
    /// The height of the tip; the genesis block has 0.
    fn tip_height(&self) -> u32;
    /// The header at a height, if the chain reaches so far.
    fn header_at(&self, height: u32) -> Option<Header>;
}

/// Headers in order, the genesis block first.
impl HeaderChain for [Header] {
    fn tip_height(&self) -> u32 {
        u32::try_from(self.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn header_at(&self, height: u32) -> Option<Header> {
        self.get(usize::try_from(height).ok()?).copied()
    }
}
