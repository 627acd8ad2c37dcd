//! What a chain takes on the disk, by how much of it is kept (the white paper's sections 7 and 8).
//!
//! ```text
//!   archival   every block, what it spent, all indexes          light    headers, and what concerns the wallet
//!   pruned     the last 288 blocks; headers, unspent outputs, indexes
//! ```
//!
//! Measured with real nodes on one chain: 288 small blocks are mined on it, so that all before them may be pruned; a light node
//! follows the archival one as any light node does, and receives one payment; then the archival one is opened as a pruned one.

use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::ScriptBuf;
use bitcoin::WScriptHash;
use bitcoin::hashes::Hash as _;
use leyden_consensus::Params;

use crate::config::NodeConfig;
use crate::error::{NodeError, StoreError};
use crate::node::Node;
use crate::prune::REORG_HORIZON;
use crate::pruner::PruneConfig;

/// Bytes of the chain's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUse {
    /// Of a node that keeps everything.
    pub archival: u64,
    /// Of one that gives up all blocks that it may.
    pub pruned: u64,
    /// Of one that has headers, and what concerns it.
    pub light: u64,
}

/// A node that does nothing meanwhile has a fault.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);

/// Measures the regtest chain that a node has in `folder`; the light node's goes into `light_folder`. Inside a tokio runtime.
pub async fn measure(folder: &Path, light_folder: &Path) -> Result<DiskUse, NodeError> {
    let config = |folder: &Path| NodeConfig { max_outbound: 0, ..NodeConfig::new(Params::regtest(), folder) };
    let here = Some(([127, 0, 0, 1], 0).into());
    let full = open(NodeConfig { listen: here, ..config(folder) }).await?;
    let paid = ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([0x4c; 32]));
    full.generate(1, paid.clone()).await?;
    full.generate(REORG_HORIZON, ScriptBuf::new_p2wsh(&WScriptHash::all_zeros())).await?;
    until("the filters are made", || full.has_filters() == Some(true)).await?;
    let address = full.local_address().ok_or_else(|| NodeError::Network("it does not listen".into()))?;
    let light = open(NodeConfig { light: true, connect: vec![address], ..config(light_folder) }).await?;
    light.watch_scripts(vec![paid], 0).await?;
    until("the light node is at the tip", || light.tip() == full.tip()).await?;
    let use_of = async |node: &Node| {
        node.shutdown().await;
        node.disk_bytes().await
    };
    let light = use_of(&light).await?;
    let archival = use_of(&full).await?;
    drop(full);
    let prune = Some(PruneConfig::default());
    let pruned = open(NodeConfig { network: false, prune, ..config(folder) }).await?;
    pruned.prune_up_to(pruned.tip().height).await?;
    let pruned = use_of(&pruned).await?;
    Ok(DiskUse { archival, pruned, light })
}

/// Starts a node. One that was just stopped may hold the database for a moment.
async fn open(config: NodeConfig) -> Result<Node, NodeError> {
    let begun = Instant::now();
    loop {
        match Node::start(config.clone()).await {
            Err(NodeError::Store(StoreError::Locked { .. })) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK).await;
            }
            started => return started,
        }
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) -> Result<(), NodeError> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            return Err(NodeError::Invariant(format!("it took too long until {what}")));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{validate_chain, write_chain};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_light_node_takes_little_and_a_pruned_one_less_than_an_archival_one() {
        let (folder, light) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let file = folder.path().join("blocks");
        write_chain(&file, 3).expect("a chain");
        validate_chain(&file, folder.path()).expect("a valid chain");
        let DiskUse { archival, pruned, light } = measure(folder.path(), light.path()).await.expect("nodes that work");
        println!("archival {archival}, pruned {pruned}, light {light} bytes");
        // Three full blocks and eight that split coins, 3 MB with what they spent.
        assert!(pruned + 3_000_000 < archival, "{pruned} of {archival}");
        assert!(light * 10 < archival, "{light} of {archival}");
    }
}
