//! What peers say of blocks that were looked at without them.
//!
//! ```text
//!   each peer: up to where its word was held against what stands ─▶ behind the end of its chain? ─▶ its hashes of the filters
//!     above that, one by one ─▶ where they differ the block itself is looked at ─┬─ it has something that is not kept: the
//!                                                                                │  chain is looked at again from there on
//!                                                                                ├─ the peer's filter is false: it goes
//!                                                                                └─ neither: nothing is asked of it again
//! ```
//!
//! Every peer is heard of every block, whenever it comes, and if it comes to know the block or answers after the block was
//! taken from others' words. So it takes one peer that tells the truth to find what all others hide. Each is heard by a task
//! of its own: none waits for another, and following the chain waits for none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::bip158::{FilterHash, FilterHeader};
use leyden_consensus::KnownHeader;
use leyden_net::{Fetched, PeerId, Wish};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::ask::{block, expose, keepers};
use super::scan::{PAUSE, go_back};
use crate::core::Core;
use crate::driver::{Driver, LightPeer};
use crate::error::NodeError;
use crate::light_state::Light;
use crate::store::{Batch, BatchKind, Durability, FilterWord};
use crate::sync::{lock, read};

/// Blocks that are compared with one question.
const PIECE: u32 = 1_000;
/// Blocks below the tip of which a newcomer is heard: what lies deeper has been final for weeks.
pub(super) const HEARD_BLOCKS: u32 = 20_000;
/// Blocks that are looked at because of one peer before what was seen in them is written down.
const LOOKED_AT_ONCE: usize = 8;
/// How long a peer is left alone that could not be heard to the end.
const UNHEARD_PAUSE: Duration = Duration::from_secs(10);

/// Hears the peers until the node stops.
pub(super) async fn run(core: Arc<Core>, driver: Driver) {
    let mut hearings = Hearings::default();
    loop {
        if let Err(error) = hearings.go_on(&core, &driver) {
            tracing::error!(%error, "the peers' words cannot be compared; it is tried again");
        }
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Who is being heard, and who is left alone for a while.
#[derive(Default)]
struct Hearings {
    running: JoinSet<Result<bool, NodeError>>,
    of: HashMap<Id, PeerId>,
    paused: HashMap<PeerId, Instant>,
}

impl Hearings {
    fn go_on(&mut self, core: &Arc<Core>, driver: &Driver) -> Result<(), NodeError> {
        let Some(light) = &core.light else { return Ok(()) };
        while let Some(ended) = self.running.try_join_next_with_id() {
            let (id, is_done) = match ended {
                Ok((id, Ok(is_done))) => (id, is_done),
                Ok((id, Err(error))) => {
                    tracing::error!(%error, "a peer's word cannot be compared; it is tried again");
                    (id, false)
                }
                Err(error) => {
                    tracing::error!(%error, "the comparison of a peer's word has ended; it is tried again");
                    (error.id(), false)
                }
            };
            if let Some(peer) = self.of.remove(&id).filter(|_| !is_done) {
                self.paused.insert(peer, Instant::now() + UNHEARD_PAUSE);
            }
        }
        self.paused.retain(|_, until| *until > Instant::now());
        let peers = driver.light_peers();
        lock(&light.heard).retain(|heard, _| peers.iter().any(|peer| peer.id == *heard));
        let busy: HashSet<PeerId> = self.of.values().chain(self.paused.keys()).copied().collect();
        for peer in peers.into_iter().filter(|peer| peer.serves_filters && !busy.contains(&peer.id)) {
            let Some(unheard) = unheard(core, light, &peer)? else { continue };
            let task = self.running.spawn(hear(Arc::clone(core), driver.clone(), peer, unheard));
            self.of.insert(task.id(), peer.id);
        }
        Ok(())
    }
}

/// Blocks of the active chain of which a peer was not heard.
struct Unheard {
    first: u32,
    top: KnownHeader,
    /// It was heard of none.
    is_newcomer: bool,
}

fn unheard(core: &Core, light: &Light, peer: &LightPeer) -> Result<Option<Unheard>, NodeError> {
    if lock(&light.set).is_empty() {
        return Ok(None);
    }
    let heard = lock(&light.heard).get(&peer.id).copied();
    let index = read(&core.index);
    let tip = index.tip();
    let Some(best) = peer.best_known.filter(|_| heard != Some(tip.hash)) else { return Ok(None) };
    let Some(top) = index.tree.fork_point(&best, &tip.hash) else { return Ok(None) };
    let first = match heard.and_then(|heard| index.tree.fork_point(&heard, &top.hash)) {
        Some(heard) => heard.height.saturating_add(1),
        None => tip.height.saturating_sub(HEARD_BLOCKS).max(1),
    };
    drop(index);
    // Blocks from before anything was watched have no word.
    let is_unheard = first <= top.height && core.store.filter_word(&top.hash)?.is_some();
    Ok(is_unheard.then_some(Unheard { first, top, is_newcomer: heard.is_none() }))
}

/// What a hearing has shown so far.
#[derive(Default)]
struct Shown {
    /// Blocks that were looked at, and had nothing that is not kept.
    looked: Vec<BlockHash>,
    /// Blocks that have something that is not kept.
    missed: Vec<KnownHeader>,
    /// The filter header of the highest block, as the peer named it.
    header: Option<FilterHeader>,
}

/// Whether the peer was heard to the end, or can be heard on at once.
async fn hear(core: Arc<Core>, driver: Driver, peer: LightPeer, unheard: Unheard) -> Result<bool, NodeError> {
    let Some(light) = &core.light else { return Ok(true) };
    let mut shown = Shown::default();
    let end = compare(&core, light, &driver, &peer, &unheard, &mut shown).await?;
    let is_missed = !shown.missed.is_empty();
    settle(&core, light, &shown).await?;
    match end {
        End::Whole if !is_missed => {
            lock(&light.heard).insert(peer.id, unheard.top.hash);
            if let Some(header) = shown.header.filter(|_| unheard.is_newcomer) {
                *lock(&light.vouched) = Some((unheard.top.hash, header));
            }
            Ok(true)
        }
        End::Whole | End::Part => Ok(true),
        End::Failed => Ok(false),
    }
}

/// How a comparison has ended.
enum End {
    Whole,
    /// There is more to look at.
    Part,
    /// The peer does not answer, or nobody shows a block, or the peer lies.
    Failed,
}

/// Compares the peer's word with what stands, from the highest block down.
async fn compare(
    core: &Core,
    light: &Light,
    driver: &Driver,
    peer: &LightPeer,
    unheard: &Unheard,
    shown: &mut Shown,
) -> Result<End, NodeError> {
    let Unheard { mut first, top, is_newcomer } = *unheard;
    if is_newcomer && let Some(vouched) = agrees_up_to(core, light, driver, peer, &top).await {
        first = first.max(vouched.saturating_add(1));
    }
    let ancestor = |height: u32| read(&core.index).tree.ancestor(&top.hash, height);
    let mut end = top.height;
    while end >= first {
        let start = end.saturating_sub(PIECE - 1).max(first);
        let Some(stop) = ancestor(end) else { return Ok(End::Failed) };
        let wish = Wish::FilterHashes { start, stop: stop.hash };
        let Fetched::FilterHashes { previous, hashes } = driver.fetch(peer.id, wish).await else {
            return Ok(End::Failed);
        };
        if end == top.height {
            shown.header = Some(hashes.iter().fold(previous, |header, hash| hash.filter_header(&header)));
        }
        for (height, hash) in (start..=end).zip(hashes) {
            let Some(known) = ancestor(height) else { return Ok(End::Failed) };
            match core.store.filter_word(&known.hash)? {
                Some(FilterWord::Named(ours)) if ours != hash => {}
                Some(FilterWord::Named(_) | FilterWord::Looked) | None => continue,
            }
            if shown.looked.len().saturating_add(shown.missed.len()) >= LOOKED_AT_ONCE {
                return Ok(End::Part);
            }
            light.forget_filter(&known.hash);
            if !look(core, light, driver, peer.id, hash, &known, shown).await? {
                return Ok(End::Failed);
            }
        }
        end = start.saturating_sub(1);
        let below = ancestor(end).map(|below| core.store.filter_word(&below.hash)).transpose()?.flatten();
        if below.is_none() {
            break;
        }
    }
    Ok(End::Whole)
}

/// The height up to which one question shows that a newcomer agrees with who was heard before: a filter header stands for all
/// filters up to its block (BIP 157).
async fn agrees_up_to(core: &Core, light: &Light, driver: &Driver, peer: &LightPeer, top: &KnownHeader) -> Option<u32> {
    let (hash, vouched) = (*lock(&light.vouched))?;
    let at = read(&core.index).tree.get(&hash)?;
    read(&core.index).tree.ancestor(&top.hash, at.height).filter(|known| known.hash == hash)?;
    let wish = Wish::FilterHashes { start: at.height, stop: hash };
    let Fetched::FilterHashes { previous, hashes } = driver.fetch(peer.id, wish).await else { return None };
    let header = hashes.first()?.filter_header(&previous);
    (header == vouched).then_some(at.height)
}

/// Looks at a block of which the peer says something else. Whether somebody showed the block, and the peer is no liar.
async fn look(
    core: &Core,
    light: &Light,
    driver: &Driver,
    peer: PeerId,
    named: FilterHash,
    known: &KnownHeader,
    shown: &mut Shown,
) -> Result<bool, NodeError> {
    let found = {
        let _permit = light.looks.acquire().await;
        block(core, driver, keepers(core, &driver.light_peers(), known), known).await
    };
    let Some(found) = found else { return Ok(false) };
    let kept = core.store.proofs(&known.hash)?;
    // What it brings to watch is found again when it is looked at for good.
    let (places, _) = lock(&light.set).clone().pick(&found);
    let is_kept = |place: &u32| kept.iter().any(|proof| proof.index == *place);
    if places.iter().all(is_kept) {
        shown.looked.push(known.hash);
    } else {
        shown.missed.push(*known);
    }
    Ok(!expose(driver, peer, named, known, &found).await)
}

/// Writes down what was shown. If something was missed the chain is looked at again from there, whatever filters say.
async fn settle(core: &Core, light: &Light, shown: &Shown) -> Result<(), NodeError> {
    if shown.looked.is_empty() && shown.missed.is_empty() {
        return Ok(());
    }
    let _turn = light.turn.lock().await;
    let mut batch = Batch::new(BatchKind::Filters);
    shown.looked.iter().for_each(|hash| batch.put_filter_word(hash, FilterWord::Looked));
    core.store.commit(&batch, Durability::Buffered)?;
    let is_active = |known: &&KnownHeader| read(&core.index).is_active(&known.hash);
    let Some(lowest) = shown.missed.iter().filter(is_active).min_by_key(|known| known.height) else { return Ok(()) };
    lock(&light.to_look).extend(shown.missed.iter().map(|known| known.hash));
    tracing::warn!(
        height = lowest.height,
        "a peer has kept a block from us that concerns us: it is looked at again from there"
    );
    go_back(core, light, lowest.height.saturating_sub(1))
}
