//! The light node's way along the chain: filters, the blocks that they point to, one commit after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::bip158::{BlockFilter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, ScriptBuf, Transaction};
use leyden_consensus::KnownHeader;
use leyden_consensus::block::is_block_mutated;
use leyden_net::{Fetched, PeerId, Wish};
use tokio::task::JoinSet;

use super::agree::{Verdict, is_lie, judge};
use super::audit;
use crate::backend::ChainEvent;
use crate::block_filter::FilterLink;
use crate::chain_index::tip_of;
use crate::core::Core;
use crate::driver::{Driver, LightPeer};
use crate::error::NodeError;
use crate::light_state::{Light, WatchSet};
use crate::merkle_proof::MerkleProof;
use crate::store::{Batch, BatchKind, Durability};
use crate::sync::{lock, read, write};

/// Blocks whose filters are asked for at a time: some megabytes.
const RUN: usize = 200;
/// Blocks that are passed over at a time while nothing is watched.
const BARE_RUN: usize = 2_000;
/// Peers whose word is asked for each filter.
const ASKED_PEERS: usize = 4;
/// How long the word of the others is waited for once one peer has told.
const GRACE: Duration = Duration::from_secs(3);
/// How often it is looked whether there is something to do.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a chain is left alone that no peer could show.
const WITHHELD_PAUSE: Duration = Duration::from_secs(10);

/// A block that was looked at.
pub(super) struct Looked {
    known: KnownHeader,
    /// Of its filter; `None` if no filter was asked for.
    link: Option<FilterLink>,
    proofs: Vec<MerkleProof>,
    scripts: Vec<ScriptBuf>,
}

/// Follows the chain until the node stops.
pub(crate) async fn run(core: Arc<Core>, driver: Driver) {
    loop {
        let stepped = tokio::select! {
            () = core.shutdown.cancelled() => return,
            stepped = step(&core, &driver) => stepped,
        };
        let pause = match stepped {
            Ok(true) => continue,
            Ok(false) => PAUSE,
            Err(error) => {
                tracing::error!(%error, "the chain cannot be followed; it is tried again");
                WITHHELD_PAUSE
            }
        };
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One commit forward, or back. Whether there was one.
async fn step(core: &Arc<Core>, driver: &Driver) -> Result<bool, NodeError> {
    let Some(light) = &core.light else { return Ok(false) };
    let _turn = light.turn.lock().await;
    let peers = driver.light_peers();
    if audit::hear_newcomers(core, light, driver, &peers).await? {
        return Ok(true);
    }
    for target in targets(core, light, &peers) {
        if follow(core, light, driver, &peers, &target).await? {
            return Ok(true);
        }
        tracing::warn!(hash = %target.hash, height = target.height, "no peer shows what is in the chain up to this block");
        lock(&light.withheld).insert(target.hash, Instant::now() + WITHHELD_PAUSE);
    }
    Ok(false)
}

/// The ends of the peers' chains that have more work than the active one, the best first.
fn targets(core: &Core, light: &Light, peers: &[LightPeer]) -> Vec<KnownHeader> {
    let mut withheld = lock(&light.withheld);
    withheld.retain(|_, until| *until > Instant::now());
    let index = read(&core.index);
    let active = index.tip();
    let mut ends: Vec<KnownHeader> = peers
        .iter()
        .filter_map(|peer| index.tree.get(&peer.best_known?))
        .filter(|end| end.validity.is_valid() && end.chain_work > active.work && !withheld.contains_key(&end.hash))
        .filter(|end| end.chain_work >= core.params.minimum_chain_work)
        .collect();
    ends.sort_by_key(|end| (std::cmp::Reverse(end.chain_work), end.hash));
    ends.dedup_by_key(|end| end.hash);
    ends
}

/// Goes towards this block, as far as one commit takes. Whether it went.
async fn follow(
    core: &Arc<Core>,
    light: &Light,
    driver: &Driver,
    peers: &[LightPeer],
    target: &KnownHeader,
) -> Result<bool, NodeError> {
    let (path, active) = {
        let index = read(&core.index);
        (index.tree.path(&index.tip_hash(), &target.hash), index.tip())
    };
    let Some(path) = path else { return Ok(false) };
    let run = if lock(&light.set).is_empty() { BARE_RUN } else { RUN };
    let mut looked: Vec<Looked> = Vec::new();
    for hashes in path.connect.chunks(run) {
        let known: Option<Vec<KnownHeader>> = {
            let index = read(&core.index);
            hashes.iter().map(|hash| index.tree.get(hash)).collect()
        };
        let Some(known) = known else { return Ok(false) };
        let (wanted, before) = (known.len(), looked.len());
        let header = match (looked.last(), known.first()) {
            (Some(last), _) => last.link.map(|link| link.header),
            (None, Some(first)) => core.store.filter_link(&first.header.prev_blockhash)?.map(|link| link.header),
            (None, None) => None,
        };
        looked.extend(look(core, light, driver, peers, known, header).await?);
        let has_more_work = looked.last().is_some_and(|last| last.known.chain_work > active.work);
        if has_more_work || looked.len() - before < wanted {
            break;
        }
    }
    if looked.last().is_none_or(|last| last.known.chain_work <= active.work) {
        return Ok(false);
    }
    commit(core, light, &path.disconnect, &looked)?;
    Ok(true)
}

/// Looks at blocks that follow each other, as far as peers show what is in them. `before` is the filter header of the block
/// before them, if filters were asked for there.
async fn look(
    core: &Arc<Core>,
    light: &Light,
    driver: &Driver,
    peers: &[LightPeer],
    known: Vec<KnownHeader>,
    before: Option<FilterHeader>,
) -> Result<Vec<Looked>, NodeError> {
    let bare = |known| Looked { known, link: None, proofs: Vec::new(), scripts: Vec::new() };
    if lock(&light.set).is_empty() {
        return Ok(known.into_iter().map(bare).collect());
    }
    let able = able(core, peers, &known);
    let Some((previous, verdicts)) = hashes(driver, &able, &known).await else { return Ok(Vec::new()) };
    let filters = filters(driver, &able, &known, &verdicts).await;
    // What was said of the blocks before stands until somebody else says something different of them.
    let (mut looked, mut previous) = (Vec::new(), before.unwrap_or(previous));
    for (known, verdict) in known.into_iter().zip(verdicts) {
        let (hash, is_match) = match &verdict {
            Verdict::Agreed(hash) => {
                let Some(filter) = filters.get(&known.hash) else { break };
                light.remember_filter(known.hash, filter.clone());
                (*hash, matches(filter, &known.hash, lock(&light.set).scripts())?)
            }
            // Whichever is kept: the block is looked at.
            Verdict::Disputed(said) => (said.keys().next().copied().unwrap_or(FilterHash::all_zeros()), true),
        };
        let link = FilterLink::after(&previous, hash);
        previous = link.header;
        if !is_match {
            looked.push(Looked { link: Some(link), ..bare(known) });
            continue;
        }
        let Some(block) = block(core, driver, &able, &known).await else { break };
        if let Verdict::Disputed(said) = &verdict {
            tracing::warn!(block = %known.hash, height = known.height, "peers name different filters for a block");
            for peer in said.values().flatten() {
                expose(driver, *peer, &known, &block).await;
            }
        }
        let (places, scripts) = lock(&light.set).pick(&block);
        looked.push(Looked { known, link: Some(link), proofs: proofs(&block, &places), scripts });
    }
    Ok(looked)
}

/// Peers that serve filters and have all these blocks, those that this node chose first.
pub(super) fn able(core: &Core, peers: &[LightPeer], known: &[KnownHeader]) -> Vec<PeerId> {
    let Some(last) = known.last() else { return Vec::new() };
    let index = read(&core.index);
    let has = |end: BlockHash| index.tree.ancestor(&end, last.height).is_some_and(|at| at.hash == last.hash);
    let mut able: Vec<&LightPeer> =
        peers.iter().filter(|peer| peer.serves_filters && peer.best_known.is_some_and(has)).collect();
    able.sort_by_key(|peer| (peer.inbound, peer.id));
    able.iter().take(ASKED_PEERS).map(|peer| peer.id).collect()
}

/// What the peers say of the filters' hashes, and of the filter header before.
async fn hashes(driver: &Driver, peers: &[PeerId], known: &[KnownHeader]) -> Option<(FilterHeader, Vec<Verdict>)> {
    let (first, last) = (known.first()?, known.last()?);
    let wish = Wish::FilterHashes { start: first.height, stop: last.hash };
    let mut asked = JoinSet::new();
    for peer in peers {
        let (driver, peer) = (driver.clone(), *peer);
        asked.spawn(async move { (peer, driver.fetch(peer, wish).await) });
    }
    let (mut claims, mut before, mut deadline) = (Vec::new(), None, None);
    loop {
        let next = match deadline {
            None => asked.join_next().await,
            Some(deadline) => tokio::time::timeout_at(deadline, asked.join_next()).await.ok().flatten(),
        };
        let Some(answer) = next else { break };
        if let Ok((peer, Fetched::FilterHashes { previous, hashes })) = answer {
            claims.push((peer, hashes));
            before.get_or_insert(previous);
            deadline.get_or_insert(tokio::time::Instant::now() + GRACE);
        }
    }
    before.map(|previous| (previous, judge(&claims)))
}

/// The filters that all agree on. One that a peer sends with another hash is none.
async fn filters(
    driver: &Driver,
    peers: &[PeerId],
    known: &[KnownHeader],
    verdicts: &[Verdict],
) -> HashMap<BlockHash, BlockFilter> {
    let mut found = HashMap::new();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return found };
    let is_agreed = |verdict: &Verdict| matches!(verdict, Verdict::Agreed(_));
    for peer in peers {
        if found.len() == verdicts.iter().filter(|verdict| is_agreed(verdict)).count() {
            break;
        }
        let wish = Wish::Filters { start: first.height, stop: last.hash };
        let Fetched::Filters(contents) = driver.fetch(*peer, wish).await else { continue };
        let mut lies = false;
        for ((known, verdict), content) in known.iter().zip(verdicts).zip(contents) {
            let Verdict::Agreed(hash) = verdict else { continue };
            if FilterHash::hash(&content) == *hash {
                found.insert(known.hash, BlockFilter { content });
            } else {
                lies = true;
            }
        }
        if lies {
            driver.lies(*peer);
        }
    }
    found
}

fn matches<'a>(
    filter: &BlockFilter,
    hash: &BlockHash,
    scripts: impl IntoIterator<Item = &'a ScriptBuf>,
) -> Result<bool, NodeError> {
    let mut scripts = scripts.into_iter().map(|script| script.as_bytes()).peekable();
    if scripts.peek().is_none() {
        return Ok(false);
    }
    // A filter that cannot be read says nothing: then the block is looked at.
    Ok(filter.match_any(hash, scripts).unwrap_or(true))
}

/// The block, of the first peer that has it.
pub(super) async fn block(core: &Core, driver: &Driver, peers: &[PeerId], known: &KnownHeader) -> Option<Block> {
    for peer in peers {
        let Fetched::Block(block) = driver.fetch(*peer, Wish::Block(known.hash)).await else { continue };
        // Its hash is that of the header; its transactions have to be those of the merkle root and of the commitment.
        if is_block_mutated(&block, known.height >= core.params.activation.segwit).is_none() {
            return Some(*block);
        }
        driver.lies(*peer);
    }
    None
}

/// Lets a peer go whose filter leaves out what the block has. Whether it does.
pub(super) async fn expose(driver: &Driver, peer: PeerId, known: &KnownHeader, block: &Block) -> bool {
    let wish = Wish::Filters { start: known.height, stop: known.hash };
    let Fetched::Filters(filters) = driver.fetch(peer, wish).await else { return false };
    let lies = filters.into_iter().any(|content| is_lie(&BlockFilter { content }, block));
    if lies {
        tracing::warn!(peer = peer.0, block = %known.hash, "a peer's filter leaves out what its block has: it is let go");
        driver.lies(peer);
    }
    lies
}

/// The transactions at these places with their merkle branches, and before them the coinbase, which shows the depth.
pub(super) fn proofs(block: &Block, places: &[u32]) -> Vec<MerkleProof> {
    let first = (!places.is_empty() && !places.contains(&0)).then_some(0);
    first.into_iter().chain(places.iter().copied()).filter_map(|place| MerkleProof::new(block, place)).collect()
}

/// Takes blocks off and puts others on, in one write.
fn commit(core: &Core, light: &Light, disconnect: &[BlockHash], looked: &[Looked]) -> Result<(), NodeError> {
    let Some(last) = looked.last() else { return Ok(()) };
    let mut batch = Batch::new(BatchKind::Tip);
    take_off(core, &mut batch, disconnect)?;
    let mut confirmed: Vec<Transaction> = Vec::new();
    for Looked { known, link, proofs, scripts } in looked {
        batch.put_active_some(known.height, &known.hash, proofs);
        if !proofs.is_empty() {
            batch.put_proofs(&known.hash, proofs);
        }
        if let Some(link) = link {
            batch.put_filter_link(&known.hash, link);
        }
        scripts.iter().for_each(|script| batch.put_watched(script));
        confirmed.extend(proofs.iter().map(|proof| proof.transaction.clone()));
    }
    move_tip(core, batch, &last.known)?;
    core.counters.note_step(disconnect.len(), looked.len());
    core.confirm_own(light, &confirmed);
    for hash in disconnect {
        let lost = core.store.proofs(hash)?.into_iter().filter(|proof| proof.index > 0);
        lost.for_each(|proof| core.return_own(light, proof.transaction));
    }
    Ok(())
}

/// The blocks leave the active chain.
fn take_off(core: &Core, batch: &mut Batch, disconnect: &[BlockHash]) -> Result<(), NodeError> {
    for hash in disconnect {
        let known = read(&core.index).tree.get(hash).ok_or(NodeError::UnknownBlock(*hash))?;
        batch.remove_active_some(known.height, &core.store.proofs(hash)?);
    }
    Ok(())
}

fn move_tip(core: &Core, mut batch: Batch, to: &KnownHeader) -> Result<(), NodeError> {
    batch.set_tip(&to.hash);
    core.store.commit(&batch, Durability::Synced)?;
    let mut index = write(&core.index);
    index.activate(&to.hash).ok_or(NodeError::UnknownBlock(to.hash))?;
    core.announce(ChainEvent::Tip(tip_of(to)));
    Ok(())
}

/// Goes back to this height, so that the blocks above are looked at again.
pub(super) fn go_back(core: &Core, height: u32) -> Result<(), NodeError> {
    let (to, above) = {
        let index = read(&core.index);
        let Some(to) = index.active_at(height).and_then(|hash| index.tree.get(&hash)) else { return Ok(()) };
        let above: Vec<BlockHash> =
            (height..index.tip().height).rev().filter_map(|at| index.active_at(at + 1)).collect();
        (to, above)
    };
    let mut batch = Batch::new(BatchKind::Tip);
    take_off(core, &mut batch, &above)?;
    move_tip(core, batch, &to)?;
    core.counters.note_step(above.len(), 0);
    Ok(())
}

/// Watches new scripts, after the blocks from `since` to the tip have been looked at for them.
pub(super) async fn add_scripts(
    core: &Arc<Core>,
    light: &Light,
    scripts: Vec<ScriptBuf>,
    since: u32,
) -> Result<(), NodeError> {
    let _turn = light.turn.lock().await;
    // Others may have been quicker.
    let new = lock(&light.set).unwatched(scripts);
    // The blocks can change no more while it is our turn.
    let tip = core.tip();
    let mut batch = Batch::new(BatchKind::Tip);
    let mut kept = core.store.kept()?;
    kept.extend(read(&light.pool).iter().map(|transaction| transaction.as_ref().clone()));
    let mut own = WatchSet::new(new.clone(), &kept);
    // Nobody can spend what the genesis block pays.
    let mut from = since.max(1);
    while from <= tip.height && !new.is_empty() {
        let known: Vec<KnownHeader> = {
            let index = read(&core.index);
            let heights = from..=tip.height;
            let hashes = heights.take(RUN).filter_map(|height| index.active_at(height));
            hashes.filter_map(|hash| index.tree.get(&hash)).collect()
        };
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        for (known, block) in matching(core, light, &mut own, known).await? {
            let (places, found) = own.pick(&block);
            found.iter().for_each(|script| batch.put_watched(script));
            let mut kept_before = core.store.proofs(&known.hash)?;
            let fresh: Vec<MerkleProof> = proofs(&block, &places)
                .into_iter()
                .filter(|proof| kept_before.iter().all(|before| before.index != proof.index))
                .collect();
            if fresh.is_empty() {
                continue;
            }
            batch.put_active_some(known.height, &known.hash, &fresh);
            kept.extend(fresh.iter().map(|proof| proof.transaction.clone()));
            kept_before.extend(fresh);
            kept_before.sort_by_key(|proof| proof.index);
            batch.put_proofs(&known.hash, &kept_before);
        }
        from = from.saturating_add(count.max(1));
    }
    new.iter().for_each(|script| batch.put_watched(script));
    core.store.commit(&batch, Durability::Synced)?;
    lock(&light.set).add(&own.scripts().iter().cloned().collect::<Vec<_>>(), &kept);
    Ok(())
}

/// Those of the blocks that concern the scripts. Waits for peers that show them.
async fn matching(
    core: &Arc<Core>,
    light: &Light,
    own: &mut WatchSet,
    known: Vec<KnownHeader>,
) -> Result<Vec<(KnownHeader, Block)>, NodeError> {
    loop {
        if let Some(found) = try_matching(core, light, own, &known).await? {
            return Ok(found);
        }
        tokio::select! {
            () = core.shutdown.cancelled() => return Err(NodeError::ShuttingDown),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn try_matching(
    core: &Arc<Core>,
    light: &Light,
    own: &WatchSet,
    known: &[KnownHeader],
) -> Result<Option<Vec<(KnownHeader, Block)>>, NodeError> {
    let remembered: Option<Vec<BlockFilter>> = known.iter().map(|known| light.remembered_filter(&known.hash)).collect();
    let driver = light.driver.get();
    let able = driver.map(|driver| able(core, &driver.light_peers(), known)).unwrap_or_default();
    let mut wanted: Vec<KnownHeader> = Vec::new();
    if let Some(filters) = remembered {
        for (known, filter) in known.iter().zip(&filters) {
            if matches(filter, &known.hash, own.scripts())? {
                wanted.push(*known);
            }
        }
    } else {
        let Some(driver) = driver else { return Ok(None) };
        let Some((_, verdicts)) = hashes(driver, &able, known).await else { return Ok(None) };
        let filters = filters(driver, &able, known, &verdicts).await;
        for (known, verdict) in known.iter().zip(&verdicts) {
            let is_match = match (verdict, filters.get(&known.hash)) {
                (Verdict::Agreed(_), Some(filter)) => matches(filter, &known.hash, own.scripts())?,
                (Verdict::Agreed(_), None) => return Ok(None),
                (Verdict::Disputed(_), _) => true,
            };
            if is_match {
                wanted.push(*known);
            }
        }
        if verdicts.len() < known.len() {
            return Ok(None);
        }
    }
    let mut found = Vec::new();
    for known in wanted {
        let Some(driver) = driver else { return Ok(None) };
        let Some(block) = block(core, driver, &able, &known).await else { return Ok(None) };
        found.push((known, block));
    }
    Ok(Some(found))
}
