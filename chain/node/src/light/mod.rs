//! A light node: all headers, and of the blocks only the transactions that concern it (white paper, section 8; BIP 157).
//!
//! ```text
//!   headers of all peers ─▶ header tree ─▶ next block of the chain with most work that a peer stands for
//!                                               │ hashes of its filter, of several peers (`ask`) ─▶ do they agree? (`agree`)
//!   watched scripts ──▶ does the filter match? ◀┘          no: the block itself is looked at
//!   (`light_state`)           │ yes: the block ─▶ merkle root, witness commitment ─▶ transactions that concern us
//!                             ▼
//!            one commit: place of the block, the transactions with their merkle branches, new scripts, tip
//! ```
//!
//! To all that use the node it looks like a full one: the active chain is as long as the blocks have been looked at, notices
//! tell of each of its blocks with the transactions that concern us, and `spender` and `transaction` answer from what is
//! kept. What is asked for by `spender` is watched from then on, and looked for in the blocks that were passed over.
//!
//! What it promises: whatever a block of the active chain has that pays to or spends from a watched script is kept, as soon
//! as one connected peer tells the truth of the block's filter, whenever it comes or answers (`audit`). All rules for headers
//! are checked; those for transactions are left to the miners, whose work it follows.
//!
//! What it cannot know is refused by name ([`NodeError::LightNode`](crate::NodeError::LightNode)): unspent outputs, outputs
//! of others' channels, transactions that wait for a block, templates.

mod agree;
mod ask;
mod audit;
mod past;
mod scan;

use std::sync::Arc;

use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};

pub(crate) use self::scan::run;
use crate::core::Core;
use crate::error::NodeError;
use crate::light_state::Light;
use crate::sync::{lock, read};

/// Watches scripts, of which those that are new concern no block below `since`. Resolves when all blocks up to the tip have
/// been looked at for them; waits for a peer if it takes one.
pub(crate) async fn watch(core: &Arc<Core>, scripts: Vec<ScriptBuf>, since: u32) -> Result<(), NodeError> {
    let Some(light) = &core.light else { return Ok(()) };
    if lock(&light.set).unwatched(scripts.iter().cloned()).is_empty() {
        return Ok(());
    }
    past::add_scripts(core, light, scripts, since).await
}

/// Watches an output, so that the store tells who spends it. If its transaction is not known, it is watched as soon as that is
/// seen.
pub(crate) async fn watch_output(core: &Arc<Core>, outpoint: OutPoint) -> Result<(), NodeError> {
    let Some(light) = &core.light else { return Ok(()) };
    let Some((transaction, height)) = find(core, light, &outpoint.txid)? else {
        lock(&light.set).await_output(outpoint);
        return Ok(());
    };
    let output = usize::try_from(outpoint.vout).ok().and_then(|vout| transaction.output.get(vout));
    let Some(output) = output else { return Ok(()) };
    // One that waits is in no block yet.
    let since = height.unwrap_or_else(|| core.tip().height.saturating_add(1));
    watch(core, vec![output.script_pubkey.clone()], since).await
}

/// A kept transaction and its height; `None` for the height of one that waits.
fn find(core: &Core, light: &Light, txid: &Txid) -> Result<Option<(Transaction, Option<u32>)>, NodeError> {
    if let Some(waiting) = read(&light.pool).get(txid) {
        return Ok(Some((waiting.as_ref().clone(), None)));
    }
    let Some(position) = core.store.position(txid)? else { return Ok(None) };
    let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
    let kept = core.store.proofs(&hash)?.into_iter().find(|proof| proof.index == position.index);
    Ok(kept.map(|proof| (proof.transaction, Some(position.height))))
}
