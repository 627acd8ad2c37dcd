//! What a newcomer says of the blocks that were looked at before it came.
//!
//! A single filter header stands for all filters up to its block (BIP 157). If a newcomer names another one than the tip's,
//! the two differ somewhere below: there the block itself is looked at. Either the newcomer's filter leaves out what the
//! block has; or a peer of the past has kept something from us: then the chain is looked at again from that block on.

use leyden_consensus::KnownHeader;
use leyden_net::{Fetched, PeerId, Wish};

use super::scan::{able, block, expose, go_back};
use crate::block_filter::FilterLink;
use crate::core::Core;
use crate::driver::{Driver, LightPeer};
use crate::error::NodeError;
use crate::light_state::Light;
use crate::store::{Batch, BatchKind, Durability};
use crate::sync::{lock, read};

/// Blocks that are compared with one question.
const PIECE: u32 = 1_000;
/// Blocks below the tip of which a newcomer is heard: what lies deeper has been final for weeks.
const HEARD_BLOCKS: u32 = 20_000;
/// Blocks that are looked at because of one newcomer. More differences than that are no mistake of ours.
const MOST_BLOCKS: usize = 100;

/// Hears each peer once. Whether the chain is to be looked at again because of it.
pub(super) async fn hear_newcomers(
    core: &Core,
    light: &Light,
    driver: &Driver,
    peers: &[LightPeer],
) -> Result<bool, NodeError> {
    let Some(tip) = known_at(core, core.tip().height) else { return Ok(false) };
    let Some(link) = core.store.filter_link(&tip.hash)? else { return Ok(false) };
    lock(&light.heard).retain(|heard| peers.iter().any(|peer| peer.id == *heard));
    for peer in able(core, peers, &[tip]) {
        if lock(&light.heard).contains(&peer) {
            continue;
        }
        let wish = Wish::FilterHashes { start: tip.height, stop: tip.hash };
        let Fetched::FilterHashes { previous, hashes } = driver.fetch(peer, wish).await else { continue };
        lock(&light.heard).insert(peer);
        let is_same = hashes.first().is_some_and(|hash| FilterLink::after(&previous, *hash) == link);
        if !is_same && hear(core, light, driver, peers, peer, &tip).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn known_at(core: &Core, height: u32) -> Option<KnownHeader> {
    let index = read(&core.index);
    index.active_at(height).and_then(|hash| index.tree.get(&hash))
}

/// Looks for the differences, the highest first.
async fn hear(
    core: &Core,
    light: &Light,
    driver: &Driver,
    peers: &[LightPeer],
    newcomer: PeerId,
    tip: &KnownHeader,
) -> Result<bool, NodeError> {
    let lowest = tip.height.saturating_sub(HEARD_BLOCKS);
    let (mut end, mut lowest_missed, mut looked_at) = (Some(tip.height), None, 0usize);
    while let Some(last) = end.filter(|last| *last >= lowest) {
        let first = last.saturating_sub(PIECE - 1).max(lowest);
        let Some(stop) = known_at(core, last) else { break };
        let wish = Wish::FilterHashes { start: first, stop: stop.hash };
        let Fetched::FilterHashes { previous, hashes } = driver.fetch(newcomer, wish).await else { return Ok(false) };
        let (mut batch, mut header) = (Batch::new(BatchKind::Filters), previous);
        for (height, hash) in (first..=last).zip(hashes) {
            let Some(known) = known_at(core, height) else { return Ok(false) };
            let link = FilterLink::after(&header, hash);
            header = link.header;
            // Blocks from before anything was watched have none.
            let Some(ours) = core.store.filter_link(&known.hash)? else { continue };
            if ours.hash != hash {
                looked_at = looked_at.saturating_add(1);
                if looked_at > MOST_BLOCKS {
                    tracing::warn!(peer = newcomer.0, "a peer's filters differ from all others': it is let go");
                    driver.lies(newcomer);
                    return Ok(false);
                }
                match look(core, light, driver, peers, newcomer, &known).await? {
                    Finding::Lie => return Ok(false),
                    Finding::Missed => {
                        lowest_missed = Some(lowest_missed.map_or(height, |lowest: u32| lowest.min(height)));
                    }
                    Finding::Nothing => {}
                }
            }
            batch.put_filter_link(&known.hash, &link);
        }
        core.store.commit(&batch, Durability::Buffered)?;
        end = first.checked_sub(1);
        let below = end.and_then(|height| known_at(core, height));
        let agreed = below.map(|known| core.store.filter_link(&known.hash)).transpose()?.flatten();
        if agreed.is_none_or(|agreed| agreed.header == previous) {
            break;
        }
    }
    let Some(missed) = lowest_missed else { return Ok(false) };
    tracing::warn!(
        height = missed,
        "a peer has kept a block from us that concerns us: it is looked at again from there"
    );
    go_back(core, missed.saturating_sub(1))?;
    Ok(true)
}

enum Finding {
    /// The newcomer's filter leaves out what the block has.
    Lie,
    /// The block has something that concerns us and that is not kept.
    Missed,
    Nothing,
}

async fn look(
    core: &Core,
    light: &Light,
    driver: &Driver,
    peers: &[LightPeer],
    newcomer: PeerId,
    known: &KnownHeader,
) -> Result<Finding, NodeError> {
    let Some(found) = block(core, driver, &able(core, peers, &[*known]), known).await else {
        return Ok(Finding::Nothing);
    };
    if expose(driver, newcomer, known, &found).await {
        return Ok(Finding::Lie);
    }
    let kept = core.store.proofs(&known.hash)?;
    let (places, _) = lock(&light.set).pick(&found);
    let is_kept = |place: &u32| kept.iter().any(|proof| proof.index == *place);
    light.forget_filter(&known.hash);
    Ok(if places.iter().all(is_kept) { Finding::Nothing } else { Finding::Missed })
}
