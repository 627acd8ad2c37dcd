//! Questions of a light node to its peers: of whom what is asked, and how long anybody is waited for.
//!
//! ```text
//!   peers that have the block ─┬─ hashes of filters: four of them at once, by chance, those that the user named first
//!                              ├─ filters: of those who have named their hashes ┐ one, and another one
//!                              └─ blocks: of whoever keeps them ────────────────┘ whenever it takes long
//! ```
//!
//! What it promises: a peer that answers late, in drops or not at all costs its share of a wait, and keeps nobody else's answer
//! from us; who sends a filter that is not the one it has named is let go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::bip158::{BlockFilter, FilterHash};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash};
use leyden_consensus::KnownHeader;
use leyden_consensus::block::is_block_mutated;
use leyden_net::config::NETWORK_LIMITED_BLOCKS;
use leyden_net::{Fetched, PeerId, Wish};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::agree::{Verdict, is_lie, judge};
use crate::core::Core;
use crate::driver::{Driver, LightPeer};
use crate::error::NodeError;
use crate::store::FilterWord;
use crate::sync::read;

/// Peers whose word is asked for before a filter is believed. All others are heard afterwards ([`super::audit`]).
const ASKED_PEERS: usize = 4;
/// How long the word of the others is waited for once one peer has told, and for their headers once one has told of a block.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How long the first answer is waited for: a node behind several others takes seconds, none takes longer.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// After this time another peer is asked for the same, then after twice as long, and so on.
const SECOND_ASKED: Duration = Duration::from_secs(2);
/// A node that keeps its last blocks only may be about to give up this many of them (BIP 159).
const KEPT_MARGIN: u32 = 2;
/// Blocks of a run for whose sake peers have to show their filters: some tens of megabytes.
const EXPOSED_BLOCKS: usize = 16;

/// What each peer says of the hashes of filters, who answered first first.
pub(super) type Claims = Vec<(PeerId, Vec<FilterHash>)>;

/// Peers that serve filters and have this block: first those that the user named, then those that this node chose, each in an
/// order that nobody can foresee.
pub(super) fn able(core: &Core, peers: &[LightPeer], last: &KnownHeader) -> Vec<PeerId> {
    let index = read(&core.index);
    let has = |end: BlockHash| index.tree.ancestor(&end, last.height).is_some_and(|at| at.hash == last.hash);
    in_line(peers.iter().filter(|peer| peer.serves_filters && peer.best_known.is_some_and(has)))
}

/// Those of them that keep this block itself.
pub(super) fn keepers(core: &Core, peers: &[LightPeer], known: &KnownHeader) -> Vec<PeerId> {
    let index = read(&core.index);
    let has = |end: BlockHash| index.tree.ancestor(&end, known.height).is_some_and(|at| at.hash == known.hash);
    let depth = |end: BlockHash| index.tree.get(&end).map(|end| end.height.saturating_sub(known.height));
    let is_recent = |end: BlockHash| depth(end).is_some_and(|depth| depth < NETWORK_LIMITED_BLOCKS - KEPT_MARGIN);
    let keeps = |peer: &&LightPeer| {
        peer.serves_filters && peer.best_known.is_some_and(|end| has(end) && (peer.keeps_all || is_recent(end)))
    };
    in_line(peers.iter().filter(keeps))
}

fn in_line<'a>(peers: impl Iterator<Item = &'a LightPeer>) -> Vec<PeerId> {
    let mut line: Vec<_> = peers.map(|peer| (!peer.is_named, peer.inbound, rand::random::<u32>(), peer.id)).collect();
    line.sort_unstable();
    line.into_iter().map(|(_, _, _, peer)| peer).collect()
}

/// What peers say of the hashes of these blocks' filters. Once one has told, the others have `patience` left.
pub(super) async fn hashes(driver: &Driver, able: &[PeerId], known: &[KnownHeader], patience: Duration) -> Claims {
    let mut claims = Claims::new();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return claims };
    let wish = Wish::FilterHashes { start: first.height, stop: last.hash };
    let mut asked = JoinSet::new();
    for peer in able.iter().take(ASKED_PEERS) {
        let (driver, peer) = (driver.clone(), *peer);
        asked.spawn(async move { (peer, driver.fetch(peer, wish).await) });
    }
    let mut deadline = Instant::now() + ANSWER;
    while let Ok(Some(answer)) = timeout_at(deadline, asked.join_next()).await {
        if let Ok((peer, Fetched::FilterHashes { hashes, .. })) = answer {
            claims.push((peer, hashes));
            deadline = deadline.min(Instant::now() + patience);
        }
    }
    claims
}

/// What counts for each of the blocks: what was said of them before is a word like any other.
pub(super) fn verdicts(core: &Core, known: &[KnownHeader], claims: &Claims) -> Result<Vec<Verdict>, NodeError> {
    let mut verdicts = judge(claims);
    for (known, verdict) in known.iter().zip(&mut verdicts) {
        let Verdict::Agreed(hash) = *verdict else { continue };
        match core.store.filter_word(&known.hash)? {
            Some(FilterWord::Named(before)) if before != hash => {
                let said = claims.iter().map(|(peer, _)| *peer).collect();
                *verdict = Verdict::Disputed(BTreeMap::from([(hash, said)]));
            }
            Some(FilterWord::Named(_) | FilterWord::Looked) | None => {}
        }
    }
    Ok(verdicts)
}

/// The filters that all agree on, of those who have named them. Who sends another one than it has named is let go.
pub(super) async fn filters(
    driver: &Driver,
    claims: &Claims,
    known: &[KnownHeader],
    verdicts: &[Verdict],
) -> HashMap<BlockHash, BlockFilter> {
    let mut found = HashMap::new();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return found };
    let wanted = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Agreed(_))).count();
    let wish = Wish::Filters { start: first.height, stop: last.hash };
    let mut line = Line::new(driver, claims.iter().map(|(peer, _)| *peer).collect(), wish);
    while found.len() < wanted {
        let Some((peer, answer)) = line.next().await else { break };
        let Fetched::Filters(contents) = answer else { continue };
        let named = claims.iter().find(|(claimant, _)| *claimant == peer).map(|(_, hashes)| hashes.as_slice());
        let mut lies = false;
        for (((known, verdict), content), named) in known.iter().zip(verdicts).zip(contents).zip(named.unwrap_or(&[])) {
            if FilterHash::hash(&content) != *named {
                lies = true;
            } else if matches!(verdict, Verdict::Agreed(_)) {
                found.insert(known.hash, BlockFilter { content });
            }
        }
        if lies {
            tracing::warn!(peer = peer.0, "a peer sends other filters than it has named: it is let go");
            driver.lies(peer);
        }
    }
    found
}

/// The block, of the first of these peers that shows it.
pub(super) async fn block(core: &Core, driver: &Driver, keepers: Vec<PeerId>, known: &KnownHeader) -> Option<Block> {
    let mut line = Line::new(driver, keepers, Wish::Block(known.hash));
    while let Some((peer, answer)) = line.next().await {
        let Fetched::Block(block) = answer else { continue };
        // Its hash is that of the header; its transactions have to be those of the merkle root and of the commitment.
        if is_block_mutated(&block, known.height >= core.params.activation.segwit).is_none() {
            return Some(*block);
        }
        driver.lies(peer);
    }
    None
}

/// Has a peer show the filter that it has named, and lets it go if that leaves out what the block has, or is another one. Whether
/// the peer is not to be believed: who does not answer is let go as well, by its deadline.
pub(super) async fn expose(
    driver: &Driver,
    peer: PeerId,
    named: FilterHash,
    known: &KnownHeader,
    block: &Block,
) -> bool {
    let wish = Wish::Filters { start: known.height, stop: known.hash };
    let Fetched::Filters(filters) = driver.fetch(peer, wish).await else { return true };
    let is_named = |content: &Vec<u8>| FilterHash::hash(content) == named;
    let is_true = |content: Vec<u8>| is_named(&content) && !is_lie(&BlockFilter { content }, block);
    let lies = !filters.into_iter().all(is_true);
    if lies {
        tracing::warn!(peer = peer.0, block = %known.hash, "a peer's filter is false: it is let go");
        driver.lies(peer);
    }
    lies
}

/// Blocks of whose filters peers say different things, on their way to the end of who lies.
#[derive(Default)]
pub(super) struct Disputes {
    of: BTreeMap<PeerId, Vec<(KnownHeader, FilterHash, Arc<Block>)>>,
    blocks: usize,
    /// The heights of the first and the last.
    span: Option<(u32, u32)>,
}

impl Disputes {
    pub(super) fn add(&mut self, known: &KnownHeader, said: &BTreeMap<FilterHash, Vec<PeerId>>, block: &Block) {
        self.blocks = self.blocks.saturating_add(1);
        self.span = Some((self.span.map_or(known.height, |(first, _)| first), known.height));
        if self.blocks > EXPOSED_BLOCKS {
            return;
        }
        let block = Arc::new(block.clone());
        for (hash, peer) in said.iter().flat_map(|(hash, peers)| peers.iter().map(move |peer| (hash, peer))) {
            self.of.entry(*peer).or_default().push((*known, *hash, Arc::clone(&block)));
        }
    }

    /// Lets those go that are shown to lie. Nobody waits for it.
    pub(super) fn settle(self, driver: &Driver) {
        let Some((first, last)) = self.span else { return };
        tracing::warn!(first, last, blocks = self.blocks, "peers name different filters: the blocks are looked at");
        for (peer, named) in self.of {
            let driver = driver.clone();
            tokio::spawn(async move {
                for (known, hash, block) in named {
                    if expose(&driver, peer, hash, &known, &block).await {
                        return;
                    }
                }
            });
        }
    }
}

/// Asks one peer after the other for the same: the next one as soon as an answer is not enough, or after a pause that doubles.
struct Line {
    driver: Driver,
    wish: Wish,
    waiting: std::vec::IntoIter<PeerId>,
    asked: JoinSet<(PeerId, Fetched)>,
    pause: Duration,
    due: Instant,
}

impl Line {
    fn new(driver: &Driver, peers: Vec<PeerId>, wish: Wish) -> Self {
        let (waiting, asked) = (peers.into_iter(), JoinSet::new());
        Self { driver: driver.clone(), wish, waiting, asked, pause: SECOND_ASKED, due: Instant::now() }
    }

    /// The next answer; `None` if there is none to come.
    async fn next(&mut self) -> Option<(PeerId, Fetched)> {
        loop {
            tokio::select! {
                Some(answer) = self.asked.join_next() => {
                    self.due = Instant::now();
                    if let Ok(answer) = answer {
                        return Some(answer);
                    }
                }
                () = sleep_until(self.due), if self.waiting.len() > 0 => {
                    let peer = self.waiting.next()?;
                    let (driver, wish) = (self.driver.clone(), self.wish);
                    self.asked.spawn(async move { (peer, driver.fetch(peer, wish).await) });
                    self.due = Instant::now() + self.pause;
                    self.pause = self.pause.saturating_mul(2);
                }
                else => return None,
            }
        }
    }
}
