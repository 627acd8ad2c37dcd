//! The light node's way along the chain: filters, the blocks that they point to, one commit after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::bip158::BlockFilter;
use bitcoin::{Block, BlockHash, ScriptBuf, Transaction};
use leyden_consensus::KnownHeader;
use leyden_net::PeerId;

use super::agree::{Verdict, is_readable};
use super::ask::{Disputes, GRACE, able, block, filters, hashes, keepers, verdicts};
use super::audit;
use crate::backend::ChainEvent;
use crate::chain_index::tip_of;
use crate::core::Core;
use crate::driver::{Driver, LightPeer};
use crate::error::NodeError;
use crate::light_state::Light;
use crate::merkle_proof::MerkleProof;
use crate::store::{Batch, BatchKind, Durability, FilterWord};
use crate::sync::{lock, read, write};

/// Blocks whose filters are asked for at a time: some megabytes.
pub(super) const RUN: usize = 200;
/// Blocks that are passed over at a time while nothing is watched.
const BARE_RUN: usize = 2_000;
/// How often it is looked whether there is something to do.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// Ends of chains of which it is remembered when they were first seen: each took the work of a block.
const MOST_ENDS: usize = 1_000;
/// How long a chain is left alone that no peer could show.
const WITHHELD_PAUSE: Duration = Duration::from_secs(10);

/// A block that was looked at.
pub(super) struct Looked {
    known: KnownHeader,
    /// What was said of its filter; `None` if nobody was asked.
    word: Option<FilterWord>,
    proofs: Vec<MerkleProof>,
    scripts: Vec<ScriptBuf>,
}

/// Follows the chain, and hears all peers of it, until the node stops.
pub(crate) async fn run(core: Arc<Core>, driver: Driver) {
    tokio::join!(follow_on(Arc::clone(&core), driver.clone()), audit::run(core, driver));
}

async fn follow_on(core: Arc<Core>, driver: Driver) {
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

/// One commit forward. Whether there was one.
async fn step(core: &Arc<Core>, driver: &Driver) -> Result<bool, NodeError> {
    let Some(light) = &core.light else { return Ok(false) };
    let _turn = light.turn.lock().await;
    let peers = driver.light_peers();
    for target in targets(core, light, &peers) {
        match follow(core, light, driver, &peers, &target).await? {
            Followed::Went => return Ok(true),
            Followed::Waits => {}
            Followed::Withheld => {
                tracing::warn!(hash = %target.hash, height = target.height, "no peer shows what is in the chain up to this block");
                lock(&light.withheld).insert(target.hash, Instant::now() + WITHHELD_PAUSE);
            }
        }
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
    let mut first_seen = lock(&light.first_seen);
    first_seen.retain(|hash, _| index.tree.get(hash).is_some_and(|known| known.chain_work > active.work));
    if first_seen.len() >= MOST_ENDS {
        first_seen.clear();
    }
    for end in &ends {
        first_seen.entry(end.hash).or_insert_with(Instant::now);
    }
    ends
}

/// What came of an attempt to go towards a block.
enum Followed {
    Went,
    /// Others may be about to tell of the same blocks.
    Waits,
    /// Nobody shows what is in the chain.
    Withheld,
}

/// Goes towards this block, as far as one commit takes.
async fn follow(
    core: &Arc<Core>,
    light: &Light,
    driver: &Driver,
    peers: &[LightPeer],
    target: &KnownHeader,
) -> Result<Followed, NodeError> {
    let (path, active) = {
        let index = read(&core.index);
        (index.tree.path(&index.tip_hash(), &target.hash), index.tip())
    };
    let Some(path) = path else { return Ok(Followed::Withheld) };
    let is_bare = lock(&light.set).is_empty();
    let (run, ready_up_to) =
        if is_bare { (BARE_RUN, target.height) } else { (RUN, ready_up_to(core, light, peers, target)) };
    let mut looked: Vec<Looked> = Vec::new();
    let mut told: Option<Vec<PeerId>> = None;
    for hashes in path.connect.chunks(run) {
        let known: Option<Vec<KnownHeader>> = {
            let index = read(&core.index);
            hashes.iter().map(|hash| index.tree.get(hash)).collect()
        };
        let Some(mut known) = known else { return Ok(Followed::Withheld) };
        known.retain(|known| known.height <= ready_up_to);
        let (wanted, before) = (known.len(), looked.len());
        let seen = look(core, light, driver, peers, known).await?;
        looked.extend(seen.blocks);
        told = Some(match told {
            Some(told) => told.into_iter().filter(|peer| seen.told.contains(peer)).collect(),
            None => seen.told,
        });
        let has_more_work = looked.last().is_some_and(|last| last.known.chain_work > active.work);
        if looked.len() - before < wanted && !has_more_work {
            return Ok(Followed::Withheld);
        }
        if has_more_work || wanted < hashes.len() {
            break;
        }
    }
    let Some(last) = looked.last().filter(|last| last.known.chain_work > active.work) else {
        return Ok(if ready_up_to < target.height { Followed::Waits } else { Followed::Withheld });
    };
    let (fork, last) = (path.fork, last.known.hash);
    commit(core, light, &path.disconnect, &looked)?;
    if !is_bare {
        note_heard(core, light, &told.unwrap_or_default(), fork, last)?;
    }
    Ok(Followed::Went)
}

/// Peers whose word counted for all blocks after `from`, up to `to`, need not be heard of them again, if they were heard of
/// those before.
fn note_heard(core: &Core, light: &Light, peers: &[PeerId], from: BlockHash, to: BlockHash) -> Result<(), NodeError> {
    let is_first = core.store.filter_word(&from)?.is_none();
    let mut heard = lock(&light.heard);
    for peer in peers {
        if is_first || heard.get(peer) == Some(&from) {
            heard.insert(*peer, to);
        }
    }
    Ok(())
}

/// The highest block on the way to `target` that all peers have who keep up with the chain, or that has been known for so long
/// that they had their time. Who tells of a block before all others is not to be alone with us.
fn ready_up_to(core: &Core, light: &Light, peers: &[LightPeer], target: &KnownHeader) -> u32 {
    let index = read(&core.index);
    let active = index.tip();
    let is_on_the_way = |hash: &BlockHash, height: u32| {
        index.tree.ancestor(&target.hash, height).is_some_and(|known| known.hash == *hash)
    };
    let has = |best: BlockHash| index.tree.fork_point(&best, &target.hash).map_or(0, |fork| fork.height);
    let keeps_up = |best: BlockHash| index.tree.ancestor(&best, active.height).is_some_and(|at| at.hash == active.hash);
    let ready = peers.iter().filter(|peer| peer.serves_filters).filter_map(|peer| match peer.best_known {
        Some(best) => keeps_up(best).then(|| has(best)),
        // It is about to tell.
        None => Some(0),
    });
    let ready = ready.min().unwrap_or(target.height);
    let first_seen = lock(&light.first_seen);
    let known_long =
        first_seen.iter().filter(|(_, at)| at.elapsed() >= GRACE).filter_map(|(hash, _)| index.tree.get(hash));
    let known_long =
        known_long.filter(|known| is_on_the_way(&known.hash, known.height)).map(|known| known.height).max();
    ready.max(known_long.unwrap_or(0))
}

/// Blocks that follow each other, as far as peers show what is in them.
struct Seen {
    blocks: Vec<Looked>,
    /// Whose word counted.
    told: Vec<PeerId>,
}

/// Looks at blocks that follow each other.
async fn look(
    core: &Arc<Core>,
    light: &Light,
    driver: &Driver,
    peers: &[LightPeer],
    known: Vec<KnownHeader>,
) -> Result<Seen, NodeError> {
    let bare = |known| Looked { known, word: None, proofs: Vec::new(), scripts: Vec::new() };
    let mut seen = Seen { blocks: Vec::new(), told: Vec::new() };
    let Some(last) = known.last() else { return Ok(seen) };
    if lock(&light.set).is_empty() {
        seen.blocks.extend(known.into_iter().map(bare));
        return Ok(seen);
    }
    let claims = hashes(driver, &able(core, peers, last), &known, GRACE).await;
    let verdicts = verdicts(core, &known, &claims)?;
    let filters = filters(driver, &claims, &known, &verdicts).await;
    seen.told = claims.into_iter().map(|(peer, _)| peer).collect();
    let mut disputes = Disputes::default();
    for (known, verdict) in known.into_iter().zip(verdicts) {
        let is_to_look = lock(&light.to_look).contains(&known.hash);
        let word = match (&verdict, filters.get(&known.hash)) {
            (Verdict::Disputed(_), _) => FilterWord::Looked,
            (Verdict::Agreed(_), _) if is_to_look => FilterWord::Looked,
            (Verdict::Agreed(_), None) => break,
            (Verdict::Agreed(hash), Some(filter)) => {
                light.remember_filter(known.hash, filter.clone());
                if !matches(filter, &known.hash, lock(&light.set).scripts())? {
                    seen.blocks.push(Looked { word: Some(FilterWord::Named(*hash)), ..bare(known) });
                    continue;
                }
                FilterWord::Named(*hash)
            }
        };
        let Some(block) = block(core, driver, keepers(core, peers, &known), &known).await else { break };
        if let Verdict::Disputed(said) = &verdict {
            disputes.add(&known, said, &block);
        }
        let (places, scripts) = lock(&light.set).pick(&block);
        seen.blocks.push(Looked { known, word: Some(word), proofs: proofs(&block, &places), scripts });
    }
    disputes.settle(driver);
    Ok(seen)
}

/// Whether the filter has one of the scripts. One that cannot be read says nothing: then the block is looked at.
pub(super) fn matches<'a>(
    filter: &BlockFilter,
    hash: &BlockHash,
    scripts: impl IntoIterator<Item = &'a ScriptBuf>,
) -> Result<bool, NodeError> {
    let mut scripts = scripts.into_iter().map(|script| script.as_bytes()).peekable();
    if scripts.peek().is_none() {
        return Ok(false);
    }
    Ok(!is_readable(filter) || filter.match_any(hash, scripts).unwrap_or(true))
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
    for Looked { known, word, proofs, scripts } in looked {
        batch.put_active_some(known.height, &known.hash, proofs);
        if !proofs.is_empty() {
            batch.put_proofs(&known.hash, proofs);
        }
        if let Some(word) = word {
            batch.put_filter_word(&known.hash, *word);
        }
        scripts.iter().for_each(|script| batch.put_watched(script));
        confirmed.extend(proofs.iter().map(|proof| proof.transaction.clone()));
    }
    move_tip(core, batch, &last.known)?;
    {
        let mut to_look = lock(&light.to_look);
        for looked in looked {
            to_look.remove(&looked.known.hash);
        }
    }
    if !disconnect.is_empty() {
        light.blocks_change();
    }
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
pub(super) fn go_back(core: &Core, light: &Light, height: u32) -> Result<(), NodeError> {
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
    light.blocks_change();
    light.forget_heard();
    core.counters.note_step(above.len(), 0);
    Ok(())
}
