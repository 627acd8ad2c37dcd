//! What pruning needs to know: how much may stay, and who needs what ([`crate::prune`] says why).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bitcoin::BlockHash;

use crate::chain_index::ChainIndex;
use crate::error::NodeError;
use crate::store::Store;
use crate::sync::lock;

/// The smallest target that a person may set, in megabytes. The database writes bodies in files of up to 64 MB, and can
/// give a file back only when all in it is gone: below this a target would mean nothing. (Bitcoin Core asks for 550, which
/// has room for 288 full blocks; here those are kept whatever the target, and a small chain's are small.)
pub const LEAST_TARGET_MB: u32 = 100;

/// Whether and how far blocks are pruned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneConfig {
    /// What bodies and undo data may take on the disk, in bytes.
    pub target_bytes: u64,
    /// Consumers without whose word nothing is pruned.
    pub wait_for: BTreeSet<&'static str>,
}

/// What a consumer needs of the active chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// All blocks from this height on.
    pub from: u32,
    /// The blocks at these heights.
    pub blocks: BTreeSet<u32>,
}

/// Says what a consumer needs now. Called with the chain locked: it may read the node's store and indexes, and must not wait
/// for anything that waits for the chain.
pub type Keeper = Arc<dyn Fn() -> Result<Needed, NodeError> + Send + Sync>;

/// What pruning needs to know.
pub struct Pruner {
    pub(crate) config: Option<PruneConfig>,
    keepers: Mutex<BTreeMap<&'static str, Keeper>>,
    /// It was said for whom it waits.
    is_told: AtomicBool,
}

impl Pruner {
    pub(crate) fn new(config: Option<PruneConfig>) -> Self {
        Self { config, keepers: Mutex::default(), is_told: AtomicBool::new(false) }
    }

    /// The target in bytes, if blocks are pruned.
    pub fn target_bytes(&self) -> Option<u64> {
        self.config.as_ref().map(|config| config.target_bytes)
    }

    /// Has nothing pruned from now on that the consumer needs.
    pub fn add_keeper(&self, consumer: &'static str, keeper: Keeper) {
        lock(&self.keepers).insert(consumer, keeper);
    }

    /// What all consumers need together; `None`: one that is waited for has not spoken.
    pub(crate) fn needed(&self, config: &PruneConfig) -> Result<Option<Needed>, NodeError> {
        let keepers = lock(&self.keepers).clone();
        if let Some(consumer) = config.wait_for.iter().find(|consumer| !keepers.contains_key(*consumer)) {
            if !self.is_told.swap(true, Ordering::AcqRel) {
                tracing::warn!(
                    "no block is pruned before the {consumer} says what it needs: unlock it if it is locked"
                );
            }
            return Ok(None);
        }
        let mut all = Needed { from: u32::MAX, blocks: BTreeSet::new() };
        for keeper in keepers.values() {
            let Needed { from, blocks } = keeper()?;
            all.from = all.from.min(from);
            all.blocks.extend(blocks);
        }
        Ok(Some(all))
    }
}

/// Why a block's body is not here.
pub(crate) fn absence(index: &ChainIndex, store: &Store, hash: &BlockHash) -> NodeError {
    let below = store.pruned_below();
    match index.block_ref(hash) {
        Some(at) if at.height < below && index.is_active(hash) => NodeError::Pruned { height: at.height, below },
        Some(_) if index.tree.get(hash).is_some_and(|known| known.stored) => {
            store.note_lost(*hash, &"it is not where it was stored");
            NodeError::MissingData(*hash)
        }
        Some(_) | None => NodeError::MissingData(*hash),
    }
}
