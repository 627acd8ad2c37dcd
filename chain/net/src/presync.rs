//! A chain with little work is walked twice before it costs any room.
//!
//! ```text
//!   walk:   headers ─▶ proof of work? ─▶ forgotten; a mark is kept of every so many
//!              │ their work reaches the threshold              │ the list ends before
//!              ▼                                               ▼
//!   fetch:  the same headers again ─▶ same marks? ─▶ stored    nothing was stored
//! ```
//!
//! Headers are never forgotten once they are in the tree, and those of a chain with little work cost nobody much. So
//! the first time only their work is added up. What comes the second time must be the chain that was walked: its
//! headers wait until the next mark is met, and only then go to the tree. A mark is a keyed hash of 64 bits, so a peer
//! cannot find two chains with equal marks. (Bitcoin Core's pre-synchronisation has the same purpose.)
//!
//! One walk keeps at most [`MAX_MARKS`] marks (80 kB): when there are too many, every other one is dropped and the
//! distance doubles. In the second pass the headers between two marks wait, and those of one message.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::siphash24;
use bitcoin::pow::Work;
use leyden_consensus::difficulty::{add_work, work_from_bits};

use crate::config::MAX_HEADERS;

/// Marks that one walk keeps.
const MAX_MARKS: usize = 10_000;
/// Headers from one mark to the next at first.
const FIRST_STRIDE: u64 = 128;
/// Headers of a walk: 38 years of ten-minute blocks. A chain that needs more to reach the threshold is not followed.
const MAX_WALK: u64 = 2_000_000;

/// How far one of the two passes has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    last: BlockHash,
    /// Work of the whole chain that ends there.
    work: Work,
    /// Headers since the start.
    count: u64,
}

impl Progress {
    fn pass(&mut self, header: &Header, hash: BlockHash) {
        *self = Self {
            last: hash,
            work: add_work(self.work, work_from_bits(header.bits)),
            count: self.count.saturating_add(1),
        };
    }
}

/// The second pass.
#[derive(Clone, Debug)]
struct Fetch {
    at: Progress,
    /// Headers after the last mark that was met.
    waiting: Vec<Header>,
}

/// A chain of one peer that has too little work so far.
#[derive(Clone, Debug)]
pub(crate) struct Presync {
    keys: (u64, u64),
    /// The header of our tree that the chain starts from.
    start: BlockHash,
    start_work: Work,
    walk: Progress,
    stride: u64,
    /// Of every header whose number is a multiple of `stride`.
    marks: Vec<u64>,
    fetch: Option<Fetch>,
}

/// What a list of headers led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Headers that may be stored, and the request for what follows.
    More { ready: Vec<Header> },
    /// The chain has enough work: these are the last headers that had to wait.
    Complete { ready: Vec<Header> },
    /// The chain ends without enough work, or is another than the one that was walked.
    Failed,
    /// More headers than any honest chain has.
    TooLong,
}

impl Presync {
    /// A walk from a header of the tree. The keys have to be unpredictable to the peer.
    pub(crate) fn new(keys: (u64, u64), start: BlockHash, start_work: Work) -> Self {
        let walk = Progress { last: start, work: start_work, count: 0 };
        Self { keys, start, start_work, walk, stride: FIRST_STRIDE, marks: Vec::new(), fetch: None }
    }

    /// The header that the next list has to follow.
    pub(crate) fn expects(&self) -> BlockHash {
        self.fetch.as_ref().map_or(self.walk.last, |fetch| fetch.at.last)
    }

    /// The header of our tree that the chain starts from.
    pub(crate) fn start(&self) -> BlockHash {
        self.start
    }

    /// Takes a list that follows [`Self::expects`] and whose proofs of work were checked.
    pub(crate) fn take(&mut self, headers: &[Header], threshold: Work) -> Step {
        match self.fetch.take() {
            None => self.walk(headers, threshold),
            Some(fetch) => self.fetch(fetch, headers, threshold),
        }
    }

    fn walk(&mut self, headers: &[Header], threshold: Work) -> Step {
        for header in headers {
            let hash = header.block_hash();
            self.walk.pass(header, hash);
            if self.walk.count.is_multiple_of(self.stride) {
                self.marks.push(self.mark(&hash));
                self.thin_marks();
            }
        }
        if self.walk.work >= threshold {
            let at = Progress { last: self.start, work: self.start_work, count: 0 };
            self.fetch = Some(Fetch { at, waiting: Vec::new() });
        } else if headers.len() < MAX_HEADERS {
            return Step::Failed;
        } else if self.walk.count >= MAX_WALK {
            return Step::TooLong;
        }
        Step::More { ready: Vec::new() }
    }

    fn thin_marks(&mut self) {
        if self.marks.len() <= MAX_MARKS {
            return;
        }
        self.stride = self.stride.saturating_mul(2);
        // Of the marks numbered from 1 the even ones lie at multiples of the doubled distance.
        self.marks = self.marks.iter().skip(1).step_by(2).copied().collect();
    }

    fn fetch(&mut self, mut fetch: Fetch, headers: &[Header], threshold: Work) -> Step {
        let mut ready = Vec::new();
        for header in headers {
            let hash = header.block_hash();
            fetch.at.pass(header, hash);
            fetch.waiting.push(*header);
            if fetch.at.count.is_multiple_of(self.stride) {
                let number = usize::try_from(fetch.at.count / self.stride).unwrap_or(usize::MAX);
                match number.checked_sub(1).and_then(|index| self.marks.get(index)) {
                    Some(mark) if *mark == self.mark(&hash) => ready.append(&mut fetch.waiting),
                    Some(_) => return Step::Failed,
                    None => {}
                }
            }
        }
        if fetch.at.work >= threshold {
            ready.append(&mut fetch.waiting);
            return Step::Complete { ready };
        }
        // The threshold may have risen since the walk: what was walked no longer suffices.
        if headers.len() < MAX_HEADERS || fetch.at.count > self.walk.count {
            return Step::Failed;
        }
        self.fetch = Some(fetch);
        Step::More { ready }
    }

    fn mark(&self, hash: &BlockHash) -> u64 {
        siphash24::Hash::hash_to_u64_with_keys(self.keys.0, self.keys.1, hash.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash as _;
    use bitcoin::{CompactTarget, TxMerkleNode};

    const BITS: u32 = 0x207f_ffff;

    /// Headers that follow each other; a walk does not ask for their proof of work, which is checked before.
    fn chain(start: BlockHash, count: usize, salt: u32) -> Vec<Header> {
        let mut previous = start;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let header = Header {
                version: bitcoin::block::Version::TWO,
                prev_blockhash: previous,
                merkle_root: TxMerkleNode::all_zeros(),
                time: salt,
                bits: CompactTarget::from_consensus(BITS),
                nonce: 0,
            };
            previous = header.block_hash();
            headers.push(header);
        }
        headers
    }

    /// The work of so many headers.
    fn work_of(count: usize) -> Work {
        (0..count).fold(zero(), |work, _| add_work(work, work_from_bits(CompactTarget::from_consensus(BITS))))
    }

    fn zero() -> Work {
        Work::from_be_bytes([0; 32])
    }

    fn start() -> BlockHash {
        BlockHash::from_byte_array([7; 32])
    }

    fn presync() -> Presync {
        Presync::new((1, 2), start(), zero())
    }

    /// Sends a chain in full lists until the pass ends; returns what became ready.
    fn pass(presync: &mut Presync, headers: &[Header], threshold: Work) -> (Vec<Header>, Step) {
        let mut all = Vec::new();
        for list in headers.chunks(MAX_HEADERS) {
            let was_walking = presync.fetch.is_none();
            match presync.take(list, threshold) {
                Step::More { ready } => {
                    all.extend(ready);
                    if was_walking && presync.fetch.is_some() {
                        return (all, Step::More { ready: Vec::new() });
                    }
                }
                Step::Complete { ready } => {
                    all.extend(&ready);
                    return (all, Step::Complete { ready });
                }
                other => return (all, other),
            }
        }
        (all, Step::More { ready: Vec::new() })
    }

    #[test]
    fn a_chain_with_enough_work_is_stored_on_the_second_pass_whole_and_in_order() {
        let (headers, threshold) = (chain(start(), 9_000, 1), work_of(8_500));
        let mut presync = presync();
        let (ready, step) = pass(&mut presync, &headers, threshold);
        assert_eq!((ready.len(), step), (0, Step::More { ready: Vec::new() }));
        assert_eq!(presync.expects(), start());
        let (ready, step) = pass(&mut presync, &headers, threshold);
        assert!(matches!(step, Step::Complete { .. }));
        assert_eq!(ready, headers);
    }

    #[test]
    fn a_chain_that_ends_too_early_leaves_nothing() {
        let mut presync = presync();
        assert_eq!(pass(&mut presync, &chain(start(), 8_500, 1), work_of(9_000)), (Vec::new(), Step::Failed));
    }

    #[test]
    fn another_chain_on_the_second_pass_is_noticed_before_any_of_it_is_stored() {
        let threshold = work_of(8_500);
        let mut walked = presync();
        pass(&mut walked, &chain(start(), 9_000, 1), threshold);
        assert_eq!(pass(&mut walked.clone(), &chain(start(), 9_000, 2), threshold), (Vec::new(), Step::Failed));
        // A chain that leaves the walked one later: what the two share is stored, and nothing else.
        let mut forked = chain(start(), 5_000, 1);
        forked.extend(chain(forked[4_999].block_hash(), 4_000, 2));
        let (ready, step) = pass(&mut walked, &forked, threshold);
        assert_eq!(step, Step::Failed);
        assert!(ready.len() <= 5_000 && forked.starts_with(&ready), "{}", ready.len());
    }

    #[test]
    fn a_walk_keeps_few_marks_however_long_it_is_and_still_knows_the_chain() {
        let length = 3 * MAX_MARKS * usize::try_from(FIRST_STRIDE).unwrap() / 2;
        let (mut headers, threshold) = (chain(start(), length, 1), work_of(length));
        let mut presync = presync();
        pass(&mut presync, &headers, threshold);
        assert!(presync.marks.len() <= MAX_MARKS && presync.stride == 2 * FIRST_STRIDE);
        let (ready, _) = pass(&mut presync.clone(), &headers, threshold);
        assert_eq!(ready.len(), length);
        headers.truncate(1_000);
        headers.extend(chain(headers[999].block_hash(), length, 2));
        assert_eq!(pass(&mut presync, &headers, threshold).1, Step::Failed);
    }

    #[test]
    fn a_walk_without_end_is_given_up() {
        let mut presync = presync();
        presync.walk.count = MAX_WALK - 1;
        assert_eq!(presync.take(&chain(start(), MAX_HEADERS, 1), work_of(9_000)), Step::TooLong);
    }
}
