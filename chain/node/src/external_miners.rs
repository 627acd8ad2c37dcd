//! Work for programs that mine outside of the node: templates to fill in, and their proposals of blocks (BIP 22, 23).
//!
//! ```text
//!   template ─▶ the program's own coinbase, time, nonces ─▶ proposal: would it be valid? ─▶ a block, as from a peer
//!       └── waits: another tip, or a mempool that has changed since
//! ```

use bitcoin::{Block, BlockHash, ScriptBuf, Txid};
use leyden_consensus::HeaderError;
use leyden_net::BlockState;

use crate::core::Core;
use crate::error::{BlockRejected, NodeError};
use crate::node::Node;
use crate::sync::{lock, read};
use crate::template::Template;

/// A block to be mined elsewhere.
#[derive(Clone, Debug)]
pub struct MinerTemplate {
    /// Its coinbase pays everything to an empty script: whoever mines it puts another in its place.
    pub template: Template,
    /// The earliest time that the header may have, in seconds since 1970.
    pub min_time: u32,
    /// [`Core::mempool_sequence`] from before its transactions were chosen.
    pub mempool_sequence: u64,
}

/// Why a block that is not mined yet would not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalRejected {
    /// It does not follow the tip, so nothing can be said of it.
    #[error("the proposed block does not follow the tip")]
    NotOnTip,
    /// It breaks a rule of headers.
    #[error("the proposed block's header is refused: {0}")]
    Header(#[from] HeaderError),
    /// It breaks another rule.
    #[error(transparent)]
    Block(#[from] BlockRejected),
}

impl Core {
    /// A template whose coinbase is for somebody else to make.
    pub fn miner_template(&self) -> Result<MinerTemplate, NodeError> {
        // What comes in from here on is news to whoever waits for it.
        let mempool_sequence = self.mempool_sequence();
        let template = self.template(ScriptBuf::new(), 0)?;
        let parent = template.block.header.prev_blockhash;
        let min_time = read(&self.index).tree.earliest_time(&parent).ok_or(NodeError::UnknownBlock(parent))?;
        Ok(MinerTemplate { template, min_time, mempool_sequence })
    }

    /// Whether the block would be valid on top of the tip, once it has its proof of work. Nothing changes.
    pub fn check_proposal(&self, block: &Block) -> Result<(), ProposalRejected> {
        self.full("the blocks before it, so that it cannot check it").map_err(BlockRejected::from)?;
        let chain = lock(&self.chain);
        if block.header.prev_blockhash != self.tip().hash {
            return Err(ProposalRejected::NotOnTip);
        }
        read(&self.index).tree.check_unmined(&block.header, self.clock.now())?;
        Ok(chain.check_template(block)?)
    }
}

impl Node {
    /// A block to be mined elsewhere.
    pub async fn miner_template(&self) -> Result<MinerTemplate, NodeError> {
        self.blocking(Core::miner_template).await
    }

    /// Whether a block would be valid on top of the tip, once it has its proof of work.
    pub async fn check_proposal(&self, block: Block) -> Result<(), ProposalRejected> {
        let checked = self.blocking(move |core| Ok(core.check_proposal(&block))).await;
        checked.map_err(|error| ProposalRejected::Block(error.into()))?
    }

    /// Grows with every transaction that comes into the mempool, or leaves it for another reason than its confirmation.
    pub fn mempool_sequence(&self) -> u64 {
        self.core().mempool_sequence()
    }

    /// All ids of the mempool with the number that its next change gets: both from between two changes.
    pub async fn mempool_at_rest(&self) -> Result<(Vec<Txid>, u64), NodeError> {
        self.blocking(|core| {
            let _chain = lock(&core.chain);
            let pool = read(&core.mempool);
            Ok((pool.iter().map(|entry| entry.txid).collect(), core.mempool_sequence()))
        })
        .await
    }

    /// What is known of a block; `None` if nothing is.
    pub fn block_state(&self, hash: &BlockHash) -> Option<BlockState> {
        read(&self.core().index).entry(hash).map(|entry| entry.state)
    }
}
