//! What a light node looks for in blocks that it has passed over: scripts that are watched from now on.
//!
//! ```text
//!   scripts, and the height from which on they may be found ─▶ filters of the blocks up to the tip ─▶ blocks ─▶ one commit
//!                                     after each run, and while a block has to be waited for, others take their turn
//! ```

use std::sync::Arc;
use std::time::Duration;

use bitcoin::bip158::BlockFilter;
use bitcoin::{Block, ScriptBuf};
use leyden_consensus::KnownHeader;

use super::agree::Verdict;
use super::ask::{ANSWER, able, block, filters, hashes, keepers, verdicts};
use super::audit::HEARD_BLOCKS;
use super::scan::{PAUSE, RUN, matches, proofs};
use crate::core::Core;
use crate::driver::{Driver, LightPeer};
use crate::error::NodeError;
use crate::light_state::{Light, WatchSet};
use crate::merkle_proof::MerkleProof;
use crate::store::{Batch, BatchKind, Durability, FilterWord};
use crate::sync::{lock, read};
use crate::tip::TipDoubt;

/// How long the same peers are left alone that do not show what is needed.
const SAME_PEERS_PAUSE: Duration = Duration::from_secs(10);

/// Watches new scripts, after the blocks from `since` to the tip have been looked at for them.
pub(super) async fn add_scripts(
    core: &Arc<Core>,
    light: &Light,
    scripts: Vec<ScriptBuf>,
    since: u32,
) -> Result<(), NodeError> {
    // Blocks may be exchanged, and others may add scripts, while a search waits: then it begins again.
    while !search(core, light, &scripts, since).await? {}
    *lock(&light.lacks) = None;
    Ok(())
}

/// Whether it came to its end before something changed that it has built upon.
async fn search(core: &Arc<Core>, light: &Light, scripts: &[ScriptBuf], since: u32) -> Result<bool, NodeError> {
    let mut turn = light.turn.lock().await;
    let state = light.state_of_blocks();
    // Others may have been quicker.
    let new = lock(&light.set).unwatched(scripts.iter().cloned());
    let mut batch = Batch::new(BatchKind::Tip);
    let mut kept = core.store.kept()?;
    kept.extend(read(&light.pool).iter().map(|transaction| transaction.as_ref().clone()));
    let mut own = WatchSet::new(new.clone(), &kept);
    let mut is_word_new = false;
    // Nobody can spend what the genesis block pays.
    let mut from = since.max(1);
    while from <= core.tip().height && !new.is_empty() {
        let known: Vec<KnownHeader> = {
            let index = read(&core.index);
            let heights = from..=index.tip().height;
            let hashes = heights.take(RUN).filter_map(|height| index.active_at(height));
            hashes.filter_map(|hash| index.tree.get(&hash)).collect()
        };
        let peers = light.driver.get().map(Driver::light_peers).unwrap_or_default();
        let is_found = match try_matching(core, light, &own, &peers, &known).await? {
            Tried::Found { blocks, words } => {
                for (known, block) in blocks {
                    put_found(core, &mut batch, &mut kept, &mut own, &known, &block)?;
                }
                let heard_from = core.tip().height.saturating_sub(HEARD_BLOCKS);
                for (known, word) in words.into_iter().filter(|(known, _)| known.height >= heard_from) {
                    batch.put_filter_word(&known.hash, word);
                    is_word_new = true;
                }
                from = from.saturating_add(u32::try_from(known.len()).unwrap_or(u32::MAX).max(1));
                true
            }
            Tried::Lacks(height) => {
                let before = lock(&light.lacks).replace(height);
                if before != Some(height) {
                    tracing::warn!("{}", TipDoubt::Lacks { height });
                }
                false
            }
            Tried::Nothing => false,
        };
        if from > core.tip().height {
            break;
        }
        drop(turn);
        if !is_found {
            until_peers_change(core, light, &peers).await?;
        }
        turn = light.turn.lock().await;
        if light.state_of_blocks() != state {
            return Ok(false);
        }
    }
    new.iter().for_each(|script| batch.put_watched(script));
    core.store.commit(&batch, Durability::Synced)?;
    lock(&light.set).add(&own.scripts().iter().cloned().collect::<Vec<_>>(), &kept);
    light.blocks_change();
    if is_word_new {
        // These words were few peers': all others are heard, too.
        light.forget_heard();
    }
    drop(turn);
    Ok(true)
}

/// Keeps what concerns the scripts in this block.
fn put_found(
    core: &Core,
    batch: &mut Batch,
    kept: &mut Vec<bitcoin::Transaction>,
    own: &mut WatchSet,
    known: &KnownHeader,
    block: &Block,
) -> Result<(), NodeError> {
    let (places, scripts) = own.pick(block);
    scripts.iter().for_each(|script| batch.put_watched(script));
    let found = proofs(block, &places);
    kept.extend(found.iter().map(|proof| proof.transaction.clone()));
    let mut all = core.store.proofs(&known.hash)?;
    let is_kept = |proof: &MerkleProof| all.iter().any(|before| before.index == proof.index);
    let fresh: Vec<MerkleProof> = found.into_iter().filter(|proof| !is_kept(proof)).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    batch.put_active_some(known.height, &known.hash, &fresh);
    all.extend(fresh);
    all.sort_by_key(|proof| proof.index);
    batch.put_proofs(&known.hash, &all);
    Ok(())
}

/// Waits until other peers are there, or these know more, or it is time to ask the same ones again.
async fn until_peers_change(core: &Core, light: &Light, before: &[LightPeer]) -> Result<(), NodeError> {
    let end = tokio::time::Instant::now() + SAME_PEERS_PAUSE;
    loop {
        tokio::select! {
            () = core.shutdown.cancelled() => return Err(NodeError::ShuttingDown),
            () = tokio::time::sleep(PAUSE) => {}
        }
        let now = light.driver.get().map(Driver::light_peers).unwrap_or_default();
        if now != before || tokio::time::Instant::now() >= end {
            return Ok(());
        }
    }
}

/// What came of an attempt.
enum Tried {
    /// The blocks that concern the scripts; and what was said of the filters of blocks of which nothing was known.
    Found { blocks: Vec<(KnownHeader, Block)>, words: Vec<(KnownHeader, FilterWord)> },
    /// No connected peer keeps the block at this height.
    Lacks(u32),
    /// No peer has answered.
    Nothing,
}

async fn try_matching(
    core: &Arc<Core>,
    light: &Light,
    own: &WatchSet,
    peers: &[LightPeer],
    known: &[KnownHeader],
) -> Result<Tried, NodeError> {
    let remembered: Option<Vec<BlockFilter>> = known.iter().map(|known| light.remembered_filter(&known.hash)).collect();
    let driver = light.driver.get();
    let (mut wanted, mut words): (Vec<KnownHeader>, Vec<_>) = (Vec::new(), Vec::new());
    if let Some(filters) = remembered {
        for (known, filter) in known.iter().zip(&filters) {
            if matches(filter, &known.hash, own.scripts())? {
                wanted.push(*known);
            }
        }
    } else {
        let (Some(driver), Some(last)) = (driver, known.last()) else { return Ok(Tried::Nothing) };
        // Nobody looks at old blocks in a hurry: all that are asked have their time.
        let claims = hashes(driver, &able(core, peers, last), known, ANSWER).await;
        let verdicts = verdicts(core, known, &claims)?;
        if verdicts.len() < known.len() {
            return Ok(Tried::Nothing);
        }
        let filters = filters(driver, &claims, known, &verdicts).await;
        for (known, verdict) in known.iter().zip(&verdicts) {
            let (is_match, word) = match (verdict, filters.get(&known.hash)) {
                (Verdict::Agreed(hash), Some(filter)) => {
                    (matches(filter, &known.hash, own.scripts())?, FilterWord::Named(*hash))
                }
                (Verdict::Agreed(_), None) => return Ok(Tried::Nothing),
                (Verdict::Disputed(_), _) => (true, FilterWord::Looked),
            };
            if is_match {
                wanted.push(*known);
            }
            if core.store.filter_word(&known.hash)?.is_none() {
                words.push((*known, word));
            }
        }
    }
    let mut blocks = Vec::new();
    for known in wanted {
        let Some(driver) = driver else { return Ok(Tried::Nothing) };
        let keepers = keepers(core, peers, &known);
        if keepers.is_empty() {
            let is_known_of = !able(core, peers, &known).is_empty();
            return Ok(if is_known_of { Tried::Lacks(known.height) } else { Tried::Nothing });
        }
        let Some(block) = block(core, driver, keepers, &known).await else { return Ok(Tried::Nothing) };
        blocks.push((known, block));
    }
    Ok(Tried::Found { blocks, words })
}
