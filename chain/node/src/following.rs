//! For who follows the chain by hand: events as they come, and one step of the way at a time.

use bitcoin::BlockHash;
use tokio::sync::broadcast;

use crate::backend::ChainEvent;
use crate::chain_index::NextStep;
use crate::node::Node;
use crate::sync::read;
use crate::types::Tip;

impl Node {
    /// Events from now on, and the tip at this very moment. Whoever reads them too slowly is told so by an error of the
    /// receiver, and begins anew.
    pub fn events(&self) -> (broadcast::Receiver<ChainEvent>, Tip) {
        self.core().subscribe()
    }

    /// The block after `from` on the way to `to`: see [`NextStep`]. `None` if they are the same, or one is not known.
    pub fn next_step(&self, from: &BlockHash, to: &BlockHash) -> Option<NextStep> {
        read(&self.core().index).next_step(from, to)
    }
}
