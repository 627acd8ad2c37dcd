//! Scripts of blocks that wait for their turn, checked meanwhile.
//!
//! ```text
//!   connect:  │ N: coins, commit │ N+1: coins, commit │ …          one thread, most of it alone
//!   ahead:    │ scripts of N+1 ───────│ scripts of N+2 ──── …      the others
//! ```
//!
//! Whether a transaction's scripts pass does not depend on its place in the chain: its wtxid names its witnesses and, by its
//! inputs' outpoints, the outputs that it spends, whose content their txids name in turn. So they may be run as soon as those
//! outputs are seen anywhere: in the block itself, in a block that waits before it, among the unspent outputs. What succeeds is
//! remembered like a transaction of the mempool; all else is left for the block's turn, which decides everything.
//!
//! Who can make us do it: whoever has a block with a valid header near the tip and more work than it has, whose parent is here;
//! as much work would be done for it when its turn comes. And only while another block is connected: who has nothing to wait
//! for need not look ahead.

use std::sync::{Arc, TryLockError};

use bitcoin::OutPoint;
use leyden_consensus::block::is_identified_mutated;
use leyden_consensus::script::ScriptFlags;
use leyden_consensus::{BlockIds, ScriptCheck, script_flags};

use crate::core::Core;
use crate::prepared::PreparedBlock;
use crate::sync::read;

/// A block at most so far above the tip is looked at.
const ABOVE_TIP: u32 = 3;

impl Core {
    /// Runs the scripts of a block that has to wait, as far as what they spend is known.
    pub(crate) fn check_scripts_ahead(&self, prepared: &PreparedBlock) {
        let Some((flags, ids)) = self.worth_looking_ahead(prepared) else { return };
        let block = &prepared.block;
        let waiting = self.waiting.add(prepared.hash, block, ids);
        let is_alone = !matches!(self.chain.try_lock(), Err(TryLockError::WouldBlock));
        if is_alone {
            return;
        }
        let output = |outpoint: &OutPoint| {
            let waits = waiting.iter().find_map(|block| block.output(outpoint)).cloned();
            // What cannot be read is reported when it is the block's turn.
            waits.or_else(|| self.store.coin(outpoint).ok().flatten().map(|coin| coin.output))
        };
        // A failure is the block's own, and found again with its place in the order of all faults.
        let ((), _) = self.scripts.verify_while(|jobs| {
            let ids = ids.txids().iter().zip(ids.wtxids());
            for (transaction, (txid, wtxid)) in block.txdata.iter().zip(ids).skip(1) {
                if !jobs.is_needed(wtxid, flags) {
                    continue;
                }
                let spent = transaction.input.iter().map(|input| output(&input.previous_output)).collect();
                if let Some(spent) = spent {
                    jobs.take(ScriptCheck::identified(transaction, (*txid, *wtxid), spent, flags));
                }
            }
        });
    }

    /// The rules for the scripts of a block that is likely to be connected soon, and the ids of its transactions.
    fn worth_looking_ahead<'p>(&self, prepared: &'p PreparedBlock) -> Option<(ScriptFlags, &'p Arc<BlockIds>)> {
        let work = prepared.work.as_ref().ok().filter(|work| work.checked.is_ok() && self.light.is_none())?;
        let index = read(&self.index);
        let (known, tip) = (index.tree.get(&prepared.hash)?, index.tip());
        let parent = index.tree.get(&known.header.prev_blockhash)?;
        let is_next = known.validity.is_valid()
            && !known.stored
            && known.chain_work > tip.work
            && known.height <= tip.height.saturating_add(ABOVE_TIP)
            && (parent.stored || self.waiting.has(&parent.hash))
            && !index.is_assumed_valid(&prepared.hash);
        let segwit = known.height >= self.params.activation.segwit;
        let is_whole = || is_identified_mutated(&prepared.block, &work.ids, segwit).is_none();
        (is_next && is_whole()).then(|| (script_flags(known.height, prepared.hash, &self.params), &work.ids))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Block, consensus::deserialize};
    use leyden_consensus::Params;

    use super::*;
    use crate::backend::Backend as _;
    use crate::config::NodeConfig;
    use crate::node::open;
    use crate::sync::lock;
    use crate::synthetic::{read_chain, write_chain};

    #[test]
    fn scripts_of_blocks_that_wait_are_checked_while_another_is_connected() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("blocks");
        write_chain(&file, 2).expect("a chain");
        let blocks: Vec<Block> = read_chain(&file)
            .expect("a file")
            .map(|bytes| deserialize(&bytes.expect("bytes")).expect("a block"))
            .collect();
        let config = NodeConfig { sync_writes: false, ..NodeConfig::new(Params::regtest(), folder.path()) };
        let core = open(config).expect("a node");
        let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
        core.accept_headers(&headers).expect("headers");
        let [before @ .., last, end] = blocks.as_slice() else { panic!("two full blocks") };
        for block in before {
            core.submit_block(block.clone()).expect("a valid block");
        }
        let flags = script_flags(u32::try_from(blocks.len()).expect("few"), end.block_hash(), &core.params);
        let passed = |block: &Block| {
            let known = |tx: &&bitcoin::Transaction| core.scripts.is_verified(&tx.compute_wtxid(), flags);
            block.txdata.iter().skip(1).filter(known).count()
        };
        let all = |block: &Block| block.txdata.len() - 1;

        // Nobody has the chain: it is the block's turn.
        core.prepare_block(last.clone());
        assert_eq!(passed(last), 0);
        let connecting = lock(&core.chain);
        let mut doctored = last.clone();
        doctored.txdata[1].input[0].witness.push([1]);
        core.prepare_block(doctored.clone());
        assert_eq!((passed(&doctored), passed(last)), (0, 0), "it is not what its header says");
        let first = core.prepare_block(last.clone());
        assert_eq!(passed(last), all(last));
        // Some of what this one spends is made by the one that waits before it.
        let second = core.prepare_block(end.clone());
        assert_eq!(passed(end), all(end));
        drop(connecting);
        for block in [first, second] {
            core.submit_prepared(block).expect("a valid block");
        }
        assert_eq!(core.tip().hash, end.block_hash());
    }
}
