//! What a set of transactions offers a miner, at every size that is left in a block.
//!
//! ```text
//!   fee │        ╭──────────     new      A replacement is better if its line is nowhere below the old one:
//!       │     ╭──╯                        whatever room a block has, its miner earns no less. A package that pays
//!       │   ╭─╯ ╭──────          old      more in all but at a lower rate would lose here on the left.
//!       │ ╭─╯╭──╯
//!       └─┴──┴─────────────── size
//! ```
//!
//! The line joins the *chunks* of the set, best rate first: groups of transactions that would be mined together. They
//! come from taking, again and again, the transaction that pays best together with the ancestors that it still needs,
//! and from joining a group with the one before it wherever the later one pays better. Relatives outside of the set are
//! left out, as if they were mined already; that makes the old line look better, never worse.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bitcoin::Txid;

use super::rate::Rate;

/// A transaction of the set, with what it spends.
#[derive(Clone, Debug)]
pub struct Member {
    /// The transaction.
    pub txid: Txid,
    /// Its own fee and size.
    pub rate: Rate,
    /// Direct parents; those that are not in the set are ignored.
    pub parents: Vec<Txid>,
}

/// The chunks of a set, the best rate first.
#[derive(Clone, Debug)]
pub struct Diagram {
    chunks: Vec<Rate>,
}

impl Diagram {
    /// Of a few transactions: the work grows with the cube of their number, which callers bound to some hundred.
    pub fn of(members: &[Member]) -> Self {
        let places: BTreeMap<Txid, usize> =
            members.iter().enumerate().map(|(place, member)| (member.txid, place)).collect();
        let parents: Vec<Vec<usize>> = members
            .iter()
            .map(|member| member.parents.iter().filter_map(|txid| places.get(txid).copied()).collect())
            .collect();
        let mut left: Vec<bool> = vec![true; members.len()];
        let mut chunks: Vec<Rate> = Vec::new();
        loop {
            let candidates = (0..members.len()).filter(|place| left.get(*place) == Some(&true));
            let groups = candidates.map(|place| {
                let group = with_ancestors(place, &parents, &left);
                let rates = group.iter().filter_map(|place| members.get(*place)).map(|member| member.rate);
                (rates.fold(NOTHING, join), group)
            });
            let Some((mut chunk, group)) = groups.max_by(|(left, _), (right, _)| left.cmp(right)) else { break };
            for place in group {
                if let Some(left) = left.get_mut(place) {
                    *left = false;
                }
            }
            while let Some(before) = chunks.pop_if(|before| *before < chunk) {
                chunk = join(before, chunk);
            }
            chunks.push(chunk);
        }
        Self { chunks }
    }

    /// Whether a miner never earns less from this set than from `old`, and somewhere more.
    pub fn improves(&self, old: &Self) -> bool {
        let (new_corners, old_corners) = (self.corners(), old.corners());
        let mut better = false;
        // Both lines are straight between corners, so they need to be compared at the corners alone.
        for at in new_corners.iter().chain(&old_corners).map(|(size, _)| *size) {
            match value(&new_corners, at).compare(&value(&old_corners, at)) {
                Ordering::Less => return false,
                Ordering::Equal => {}
                Ordering::Greater => better = true,
            }
        }
        better
    }

    /// Sums of size and fee after each chunk.
    fn corners(&self) -> Vec<(u128, u128)> {
        let mut sum = (0, 0);
        let corner = |chunk: &Rate| {
            sum = (sum.0 + u128::from(chunk.virtual_bytes), sum.1 + u128::from(chunk.fee.to_sat()));
            sum
        };
        self.chunks.iter().map(corner).collect()
    }
}

const NOTHING: Rate = Rate { fee: bitcoin::Amount::ZERO, virtual_bytes: 0 };

/// Saturating: fees of valid transactions sum to far less than 2^64.
fn join(one: Rate, other: Rate) -> Rate {
    Rate {
        fee: one.fee.checked_add(other.fee).unwrap_or(bitcoin::Amount::MAX),
        virtual_bytes: one.virtual_bytes.saturating_add(other.virtual_bytes),
    }
}

/// The member at `start` and those of its ancestors that are left.
fn with_ancestors(start: usize, parents: &[Vec<usize>], left: &[bool]) -> Vec<usize> {
    let mut seen = vec![false; parents.len()];
    let mut queue = vec![start];
    let mut group = Vec::new();
    while let Some(place) = queue.pop() {
        let new = seen.get_mut(place).is_some_and(|seen| !std::mem::replace(seen, true));
        if new && left.get(place) == Some(&true) {
            group.push(place);
            queue.extend(parents.get(place).into_iter().flatten());
        }
    }
    group
}

/// A fee as an exact fraction.
struct Fraction {
    numerator: u128,
    denominator: u128,
}

impl Fraction {
    fn compare(&self, other: &Self) -> Ordering {
        // Fees are below 2^51, and sizes of a hundred transactions below 2^26: everything fits.
        (self.numerator * other.denominator).cmp(&(other.numerator * self.denominator))
    }
}

/// What the first `at` bytes pay.
fn value(corners: &[(u128, u128)], at: u128) -> Fraction {
    let mut before = (0, 0);
    for corner in corners {
        if at < corner.0 {
            let (size, fee) = (corner.0 - before.0, corner.1 - before.1);
            return Fraction { numerator: before.1 * size + (at - before.0) * fee, denominator: size };
        }
        before = *corner;
    }
    Fraction { numerator: before.1, denominator: 1 }
}

#[cfg(test)]
mod tests {
    use bitcoin::Amount;
    use bitcoin::hashes::Hash;

    use super::*;

    /// Fee, size, and the places of the parents.
    type Plain<'a> = (u64, u64, &'a [u8]);

    fn diagram(members: &[Plain<'_>]) -> Diagram {
        let txid = |place: u8| Txid::from_byte_array([place; 32]);
        let members: Vec<Member> = (0u8..)
            .zip(members)
            .map(|(place, (fee, size, parents))| Member {
                txid: txid(place),
                rate: Rate::new(Amount::from_sat(*fee), *size),
                parents: parents.iter().map(|parent| txid(*parent)).collect(),
            })
            .collect();
        Diagram::of(&members)
    }

    fn chunks(members: &[Plain<'_>]) -> Vec<(u64, u64)> {
        diagram(members).chunks.iter().map(|chunk| (chunk.fee.to_sat(), chunk.virtual_bytes)).collect()
    }

    #[test]
    fn chunks_are_what_would_be_mined_together() {
        assert_eq!(chunks(&[]), []);
        assert_eq!(chunks(&[(5, 10, &[]), (9, 10, &[])]), [(9, 10), (5, 10)], "unrelated");
        assert_eq!(chunks(&[(0, 100, &[]), (300, 100, &[0])]), [(300, 200)], "a child pays for its parent");
        assert_eq!(chunks(&[(300, 100, &[]), (0, 100, &[0])]), [(300, 100), (0, 100)], "a parent not for its child");
        // The second child pays well once the first has brought their parent along.
        assert_eq!(chunks(&[(0, 10, &[]), (10, 1, &[0]), (9, 1, &[0])]), [(19, 12)]);
        assert_eq!(chunks(&[(1, 10, &[]), (1, 10, &[0]), (90, 10, &[1]), (1, 5, &[0])]), [(92, 30), (1, 5)]);
        assert_eq!(chunks(&[(7, 10, &[9])]), [(7, 10)], "a parent outside of the set does not count");
    }

    #[test]
    fn a_better_diagram_is_nowhere_below_and_somewhere_above() {
        let old = diagram(&[(100, 100, &[]), (10_000, 100, &[0])]);
        assert!(!old.improves(&old));
        // More in all, but a small block would earn less.
        assert!(!diagram(&[(11_000, 1_000, &[])]).improves(&old));
        assert!(!diagram(&[(0, 200, &[]), (11_000, 10_000, &[0])]).improves(&old));
        assert!(diagram(&[(10_101, 200, &[])]).improves(&old));
        assert!(!diagram(&[(10_099, 100, &[])]).improves(&old), "less in all");
        // As good in front, and more at the end.
        assert!(diagram(&[(10_100, 200, &[]), (1, 5_000, &[])]).improves(&old));
        assert!(diagram(&[(1, 1, &[])]).improves(&diagram(&[])));
        assert!(!diagram(&[]).improves(&diagram(&[])));
    }
}
