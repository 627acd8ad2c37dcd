//! May the tip be relied on?
//!
//! ```text
//!   clocks of peers, times of blocks ─┐
//!   best header ──────────────────────┤
//!   peers, and when one was last heard ┼──► judge ──► Ok, or the first reason to doubt
//!   age of the tip against the spacing ┘
//! ```
//!
//! A node that does not know how high the chain of the world is does not know what has expired. It then promises
//! nothing: no HTLC is taken, forwarded, fulfilled or offered, no channel opened. What this judges is only a doubt: the
//! tip that is known is right as far as it goes, so what must be done on the chain is done at any time.
//!
//! How far behind a node may be that has no doubt, and why that is little:
//! * [`TOLERATED_BLOCKS`] whose headers it has: less than any margin that a deadline of the channels has.
//! * What is found within [`TipRules::grace`] after the last peer was lost: one block on average.
//! * If all its peers withhold the chain from it: [`MAX_AGE_BLOCKS`] on average. They would have to be all of them.
//!
//! A pruned node cannot go over to a chain that parts from its own below the blocks that it keeps. If that one has more work
//! its doubt ends by no waiting: somebody has to say which of the two it is ([`TipDoubt::OutOfReach`]).
//!
//! What strangers can do: who holds all connections of a node can make it doubt (by a wrong clock), which costs
//! payments time and nobody money. The clocks of peers that this node chose itself count alone, if there are any, and
//! so do the headers: somebody who sends headers and never their blocks would else end all payments on a chain of
//! little work, even after he has gone.
//!
//! On a chain for tests (regtest, or any whose difficulty never changes) blocks come when somebody wants them: their age
//! says nothing, and a node that made the tip itself after it lost its peers is where its user wants it.

use std::fmt;
use std::time::Duration;

use bitcoin::BlockHash;
use leyden_consensus::{Params, Retarget};

use crate::types::Tip;

/// Blocks that may be missing below the best header: they are on their way at each new block.
pub const TOLERATED_BLOCKS: u32 = 2;
/// The tip may be as old as so many blocks take on average. A gap of that length has a probability of e^-12, once in
/// three years; as many blocks are left to claim an HTLC on the chain.
pub const MAX_AGE_BLOCKS: u64 = 12;
/// But not less than this: clocks of miners differ by minutes.
pub const LEAST_MAX_AGE: Duration = Duration::from_secs(600);
/// On a chain for tests peers come back at once, or not at all.
const TEST_GRACE: Duration = Duration::from_secs(5);
/// A clock that shows an earlier time does not tell one: there were no blocks before.
pub const FIRST_BLOCK: i64 = 1_231_006_505;

/// What the network's parameters say about doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TipRules {
    /// Blocks come when somebody wants them.
    pub for_tests: bool,
    /// The tip may be this old.
    pub max_age: Duration,
    /// For how long a node may be without peers.
    pub grace: Duration,
    /// How far a block's time may lie ahead of the clock.
    pub max_ahead: Duration,
}

impl TipRules {
    /// The rules of a network, by its block spacing.
    pub fn of(params: &Params) -> Self {
        let for_tests = matches!(params.retarget, Retarget::Never);
        let spacing = u64::from(params.spacing.get());
        Self {
            for_tests,
            max_age: Duration::from_secs(spacing.saturating_mul(MAX_AGE_BLOCKS)).max(LEAST_MAX_AGE),
            grace: if for_tests { TEST_GRACE } else { Duration::from_secs(spacing) },
            max_ahead: Duration::from_secs(u64::from(params.max_ahead)),
        }
    }

    /// How far our clock and those of others may be apart: half of what blocks may be ahead, so that the other half is
    /// left for those of miners.
    fn tolerance(&self) -> i64 {
        i64::try_from(self.max_ahead.as_secs() / 2).unwrap_or(i64::MAX)
    }
}

/// When a peer that had told its best headers was last connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastContact {
    /// One is connected.
    Now,
    /// So long ago.
    Ago(Duration),
    /// Not since the start.
    Never,
}

/// How the active chain stands to the best header's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BestChain {
    /// It has all of its blocks but the last [`TOLERATED_BLOCKS`].
    Had,
    /// Blocks of it are missing.
    Missing,
    /// The best header's chain parts from it after the height `fork`, and blocks that would have to come off are pruned.
    OutOfReach {
        /// The first block of it after the fork.
        first: BlockHash,
        /// The height of the last block that both have.
        fork: u32,
    },
}

/// What is known of the network.
#[derive(Clone, Debug)]
pub struct TipEvidence {
    /// Our clock.
    pub now: u64,
    /// The active chain's last block.
    pub tip: Tip,
    /// The header with most work behind it.
    pub best_header: Tip,
    /// How the active chain stands to the best header's.
    pub best_chain: BestChain,
    /// The time of a header that was refused for being too far ahead, and that would have made the best chain.
    pub refused_time: Option<u32>,
    /// How many seconds the clocks of the connected peers are ahead of ours, of those that count.
    pub clocks_ahead: Vec<i64>,
    /// Whether there should be peers: some were asked for, or there were some.
    pub expects_peers: bool,
    /// When somebody last told of headers.
    pub heard: LastContact,
    /// This node found the tip itself, and has not been told of headers since.
    pub found_alone: bool,
    /// The height of an old block that a light node has to look at and that no connected peer keeps.
    pub lacks: Option<u32>,
}

/// Why the tip cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum TipDoubt {
    /// The peers' clocks are so many seconds ahead of ours (below zero: behind).
    Clock { peers_ahead: i64, peers: usize },
    /// Our clock is so many seconds behind the time of a block.
    ClockBehindChain { seconds: u64 },
    /// Blocks are known by their headers alone.
    Behind { height: u32, best: u32 },
    /// A chain with more work cannot be followed: what would have to come off is pruned.
    OutOfReach { best: u32, fork: u32, first: BlockHash },
    /// No node of the chain has told how far it is since the start.
    NotHeard,
    /// The last peer was lost so many seconds ago.
    NoPeers { seconds: u64 },
    /// The block at this height has to be looked at, and no connected peer keeps it.
    Lacks { height: u32 },
    /// No block came for so many seconds.
    Old { seconds: u64, limit: u64 },
}

/// Whether the tip may be relied on; the doubt that explains most comes first.
pub fn judge(evidence: &TipEvidence, rules: &TipRules) -> Result<(), TipDoubt> {
    let TipEvidence {
        now,
        tip,
        best_header,
        best_chain,
        refused_time,
        clocks_ahead,
        expects_peers,
        heard,
        found_alone,
        lacks,
    } = evidence;
    let peers_ahead = median(clocks_ahead);
    if let Some(peers_ahead) = peers_ahead
        && peers_ahead.saturating_abs() > rules.tolerance()
    {
        return Err(TipDoubt::Clock { peers_ahead, peers: clocks_ahead.len() });
    }
    // Peers whose clocks agree with ours refuse such a header too.
    let refused_time = refused_time.filter(|_| peers_ahead.is_none());
    let latest = u64::from(tip.time.max(refused_time.unwrap_or_default()));
    if latest > now.saturating_add(rules.max_ahead.as_secs()) {
        return Err(TipDoubt::ClockBehindChain { seconds: latest.saturating_sub(*now) });
    }
    match *best_chain {
        BestChain::Had => {}
        BestChain::Missing => return Err(TipDoubt::Behind { height: tip.height, best: best_header.height }),
        BestChain::OutOfReach { first, fork } => {
            return Err(TipDoubt::OutOfReach { best: best_header.height, fork, first });
        }
    }
    let alone_by_will = rules.for_tests && *found_alone;
    if *expects_peers && !alone_by_will {
        match *heard {
            LastContact::Now => {}
            LastContact::Ago(ago) if ago <= rules.grace => {}
            LastContact::Ago(ago) => return Err(TipDoubt::NoPeers { seconds: ago.as_secs() }),
            LastContact::Never => return Err(TipDoubt::NotHeard),
        }
    }
    if let Some(height) = *lacks {
        return Err(TipDoubt::Lacks { height });
    }
    let (age, limit) = (now.saturating_sub(u64::from(tip.time)), rules.max_age.as_secs());
    if !rules.for_tests && age > limit {
        return Err(TipDoubt::Old { seconds: age, limit });
    }
    Ok(())
}

/// The middle of them; of an even number the one nearer to zero, which doubts less.
fn median(clocks: &[i64]) -> Option<i64> {
    let mut sorted = clocks.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle.checked_sub(1)?)?;
    Some(if lower.saturating_abs() < upper.saturating_abs() { lower } else { upper })
}

/// A time as people say it, rounded to the nearest.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..120 => write!(f, "{seconds} seconds"),
            seconds @ 120..7_200 => write!(f, "{} minutes", seconds.saturating_add(30) / 60),
            seconds => write!(f, "{} hours", seconds.saturating_add(1_800) / 3_600),
        }
    }
}

impl fmt::Display for TipDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Clock { peers_ahead, peers } => {
                let (span, way) =
                    (Span(peers_ahead.unsigned_abs()), if peers_ahead > 0 { "behind" } else { "ahead of" });
                write!(f, "this machine's clock is {span} {way} those of its chain peers ({peers}): set the clock")
            }
            Self::ClockBehindChain { seconds } => {
                write!(f, "this machine's clock is {} behind the chain's latest block: set the clock", Span(seconds))
            }
            Self::Behind { height, best } => {
                write!(f, "blocks are missing, height {height} of {best}: wait until they have come")
            }
            Self::OutOfReach { best, fork, first } => write!(
                f,
                "a chain with more work, height {best}, parts from this node's after height {fork}, and the blocks that would \
                 have to come off are pruned: ask others which chain is right; to follow that one stop leydend, move its \
                 chain database away and start it again; to refuse it call `invalidateblock {first}` over JSON-RPC"
            ),
            Self::NotHeard => f.write_str(
                "no node of the chain has answered since the start: see `leyden chain peers` and --chain-connect",
            ),
            Self::NoPeers { seconds } => write!(
                f,
                "the last chain peer was lost {} ago, blocks may be missing: see `leyden chain peers`, and connect to \
                 one with `leyden chain connect`",
                Span(seconds)
            ),
            Self::Lacks { height } => write!(
                f,
                "a search of old blocks waits at height {height}, since the connected nodes keep the last blocks only: \
                 connect to one that keeps all blocks with `leyden chain connect`"
            ),
            Self::Old { seconds, limit } => write!(
                f,
                "the last block is {} old, where a new one is expected within {}: see `leyden chain peers`, and connect \
                 to others with `leyden chain connect`",
                Span(seconds),
                Span(limit)
            ),
        }
    }
}

impl std::error::Error for TipDoubt {}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Work;
    use bitcoin::hashes::Hash as _;

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3_600;

    fn tip(height: u32, age: u64) -> Tip {
        let mut work = [0; 32];
        work[28..].copy_from_slice(&height.to_be_bytes());
        let time = u32::try_from(NOW - age).unwrap();
        Tip { hash: BlockHash::all_zeros(), height, time, median_time_past: time, work: Work::from_be_bytes(work) }
    }

    /// Synced, a minute after the last block, with two peers.
    fn evidence() -> TipEvidence {
        TipEvidence {
            now: NOW,
            tip: tip(1_000, 60),
            best_header: tip(1_000, 60),
            best_chain: BestChain::Had,
            refused_time: None,
            clocks_ahead: vec![-1, 2],
            expects_peers: true,
            heard: LastContact::Now,
            found_alone: false,
            lacks: None,
        }
    }

    fn leyden(evidence: &TipEvidence) -> Result<(), TipDoubt> {
        judge(evidence, &TipRules::of(&Params::leyden()))
    }

    fn regtest(evidence: &TipEvidence) -> Result<(), TipDoubt> {
        judge(evidence, &TipRules::of(&Params::regtest()))
    }

    #[test]
    fn a_synced_node_has_no_doubt() {
        assert_eq!(leyden(&evidence()), Ok(()));
        assert_eq!(regtest(&evidence()), Ok(()));
    }

    #[test]
    fn a_node_that_waits_for_blocks_is_behind_but_not_at_every_new_one() {
        let best_header = tip(1_002, 0);
        assert_eq!(leyden(&TipEvidence { best_header, ..evidence() }), Ok(()));
        let behind = TipEvidence { best_header, best_chain: BestChain::Missing, ..evidence() };
        let doubt = TipDoubt::Behind { height: 1_000, best: 1_002 };
        assert_eq!((leyden(&behind), regtest(&behind)), (Err(doubt), Err(doubt)));
    }

    #[test]
    fn who_cannot_follow_the_best_chain_hears_what_to_do_and_not_to_wait() {
        let first = BlockHash::from_byte_array([7; 32]);
        let best_chain = BestChain::OutOfReach { first, fork: 600 };
        let doubt = leyden(&TipEvidence { best_header: tip(1_002, 0), best_chain, ..evidence() }).unwrap_err();
        assert_eq!(doubt, TipDoubt::OutOfReach { best: 1_002, fork: 600, first });
        let words = doubt.to_string();
        assert!(words.contains("invalidateblock 0707") && !words.contains("wait"), "{words}");
    }

    #[test]
    fn a_node_that_has_lost_all_its_peers_has_doubts_after_a_block_s_time() {
        let lost = |seconds| TipEvidence { heard: LastContact::Ago(Duration::from_secs(seconds)), ..evidence() };
        assert_eq!(leyden(&lost(600)), Ok(()));
        assert_eq!(leyden(&lost(601)), Err(TipDoubt::NoPeers { seconds: 601 }));
        assert_eq!(regtest(&lost(6)), Err(TipDoubt::NoPeers { seconds: 6 }));
        assert_eq!(regtest(&TipEvidence { found_alone: true, ..lost(6) }), Ok(()), "its user mines alone");
        assert_eq!(leyden(&TipEvidence { found_alone: true, ..lost(601) }), Err(TipDoubt::NoPeers { seconds: 601 }));
    }

    #[test]
    fn a_node_that_has_not_heard_from_its_peers_yet_has_doubts_and_one_that_wants_none_has_not() {
        let fresh = TipEvidence { heard: LastContact::Never, clocks_ahead: Vec::new(), ..evidence() };
        assert_eq!(leyden(&fresh), Err(TipDoubt::NotHeard));
        assert_eq!(regtest(&fresh), Err(TipDoubt::NotHeard));
        let alone = TipEvidence { expects_peers: false, ..fresh };
        assert_eq!(regtest(&alone), Ok(()));
        assert_eq!(leyden(&alone), Ok(()), "it mines alone");
    }

    #[test]
    fn an_old_tip_is_doubted_where_blocks_come_by_themselves() {
        let old = |age| TipEvidence { tip: tip(1_000, age), best_header: tip(1_000, age), ..evidence() };
        assert_eq!(leyden(&old(2 * HOUR)), Ok(()));
        assert_eq!(leyden(&old(2 * HOUR + 1)), Err(TipDoubt::Old { seconds: 7_201, limit: 7_200 }));
        assert_eq!(regtest(&old(1_000 * HOUR)), Ok(()));
    }

    #[test]
    fn a_clock_that_disagrees_with_the_peers_is_named_with_the_hours() {
        let day: i64 = 24 * 3_600;
        for (ahead, words) in [(3 * day - 1, "72 hours behind"), (-3 * day, "72 hours ahead of")] {
            let doubt = leyden(&TipEvidence { clocks_ahead: vec![ahead, ahead, 0], ..evidence() }).unwrap_err();
            assert!(matches!(doubt, TipDoubt::Clock { peers: 3, .. }), "{doubt:?}");
            assert!(doubt.to_string().contains(words), "{doubt}");
        }
        assert_eq!(leyden(&TipEvidence { clocks_ahead: vec![0, 3 * day, 5], ..evidence() }), Ok(()), "one liar");
        assert_eq!(leyden(&TipEvidence { clocks_ahead: vec![3_600], ..evidence() }), Ok(()));
        assert!(leyden(&TipEvidence { clocks_ahead: vec![3_601], ..evidence() }).is_err());
    }

    #[test]
    fn a_clock_behind_the_chain_is_named_also_without_peers() {
        let tip = Tip { time: u32::try_from(NOW + 72 * HOUR).unwrap(), ..tip(1_000, 0) };
        let alone = TipEvidence { tip, best_header: tip, clocks_ahead: Vec::new(), expects_peers: false, ..evidence() };
        let doubt = regtest(&alone).unwrap_err();
        assert_eq!(doubt, TipDoubt::ClockBehindChain { seconds: 72 * HOUR });
        assert!(doubt.to_string().contains("72 hours behind"), "{doubt}");
    }

    #[test]
    fn blocks_that_are_refused_for_their_time_make_doubt_until_peers_agree_with_our_clock() {
        let refused_time = Some(u32::try_from(NOW + 72 * HOUR).unwrap());
        let blind = TipEvidence { refused_time, clocks_ahead: Vec::new(), ..evidence() };
        assert_eq!(leyden(&blind), Err(TipDoubt::ClockBehindChain { seconds: 72 * HOUR }));
        assert_eq!(leyden(&TipEvidence { refused_time, ..evidence() }), Ok(()), "a miner's clock, then");
    }
}
