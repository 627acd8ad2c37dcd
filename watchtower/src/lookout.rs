//! Which transactions of a block answer to a hint, of ten million and more.
//!
//! ```text
//!   memory:   base, sorted: 8 bytes a hint  +  overlay: what came since, and what went      ──┐
//!   block ──► hints of all its txids, sorted ──► merged by search ──► the few that are known ──┴─► read from the store
//! ```
//!
//! A hint stands in memory as the eight bytes that it is; whose it is, and the sealed kit, are in the store under it. The
//! lookout answers "perhaps" and the store answers for whom, so a match costs one read and everything else costs none.
//!
//! Promises: every transaction that is handed over is looked at; a hint that was added is found until it is removed as often
//! as it was added (several clients may have left the same one); memory is 8 bytes a hint and at most
//! [`OVERLAY_MAX`] entries more.

use std::collections::BTreeMap;

use bitcoin::Txid;

use crate::hint::Hint;

/// How many changes gather before they are merged into the base: merging ten million takes some 30 ms, so at this size a
/// backup pays less than a microsecond for it, and the overlay stays below 5 MB.
pub const OVERLAY_MAX: usize = 65_536;

/// The first bits of a hint name its part of the base: of ten million each has some forty, a few lines of memory, where a
/// search of all misses the cache twenty times.
const PART_BITS: u32 = 18;

/// Fewer hints are searched as a whole.
const IN_PARTS_FROM: usize = 1 << PART_BITS;

/// All hints that a tower watches for.
#[derive(Clone, Debug, Default)]
pub struct Lookout {
    /// Sorted, with repetitions.
    base: Vec<u64>,
    /// Where each part of the base begins, and the last one ends; empty while there are few. Whoever chooses hints can make
    /// one part large, which is then searched like the whole.
    parts: Vec<u32>,
    /// By how many each hint is more (or less) often there than in the base.
    overlay: BTreeMap<u64, i32>,
    len: usize,
}

impl Lookout {
    /// All hints of a tower that starts again, in any order; the fastest if they come sorted, as the store has them.
    pub fn load(hints: impl IntoIterator<Item = Hint>) -> Self {
        let mut base: Vec<u64> = hints.into_iter().map(value_of).collect();
        if !base.is_sorted() {
            base.sort_unstable();
        }
        let len = base.len();
        Self { parts: parts_of(&base), base, overlay: BTreeMap::new(), len }
    }

    /// How many hints are watched, repetitions included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more appointment with this hint. Two may share one.
    pub fn add(&mut self, hint: Hint) {
        self.len = self.len.saturating_add(1);
        self.change(hint, 1);
    }

    /// Takes one occurrence of a hint away; nothing if there is none.
    pub fn remove(&mut self, hint: Hint) {
        if self.count(value_of(hint)) > 0 {
            self.len = self.len.saturating_sub(1);
            self.change(hint, -1);
        }
    }

    /// Whether some appointment has this hint.
    pub fn contains(&self, hint: Hint) -> bool {
        self.count(value_of(hint)) > 0
    }

    /// Those of these transactions whose hint is watched, in their order.
    pub fn known(&self, txids: impl IntoIterator<Item = Txid>) -> Vec<Txid> {
        txids.into_iter().filter(|txid| self.contains(Hint::from(txid))).collect()
    }

    fn count(&self, hint: u64) -> i64 {
        let changed = self.overlay.get(&hint).copied().map_or(0, i64::from);
        let part = self.part(hint);
        let first = part.partition_point(|other| *other < hint);
        let from_there = part.get(first..).unwrap_or_default();
        if from_there.first() != Some(&hint) {
            return changed;
        }
        // However often somebody repeats one.
        let repeated = from_there.partition_point(|other| *other == hint);
        i64::try_from(repeated).unwrap_or(i64::MAX).saturating_add(changed)
    }

    /// Where a hint is, if it is in the base.
    fn part(&self, hint: u64) -> &[u64] {
        let at = part_number(hint);
        match (self.parts.get(at), self.parts.get(at.saturating_add(1))) {
            (Some(from), Some(to)) => self.base.get(*from as usize..*to as usize).unwrap_or_default(),
            _ => &self.base,
        }
    }

    fn change(&mut self, hint: Hint, by: i32) {
        let entry = self.overlay.entry(value_of(hint)).or_default();
        *entry = entry.saturating_add(by);
        if *entry == 0 {
            self.overlay.remove(&value_of(hint));
        }
        if self.overlay.len() >= OVERLAY_MAX {
            self.merge();
        }
    }

    /// Puts the overlay into the base, in one pass from the back and without a second copy of the base.
    fn merge(&mut self) {
        let overlay = std::mem::take(&mut self.overlay);
        let mut less: BTreeMap<u64, i32> =
            overlay.iter().filter(|(_, by)| **by < 0).map(|(at, by)| (*at, -by)).collect();
        if !less.is_empty() {
            self.base.retain(|hint| match less.get_mut(hint) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    false
                }
                Some(_) | None => true,
            });
        }
        let more = overlay.into_iter().filter(|(_, by)| *by > 0);
        let more: Vec<u64> =
            more.flat_map(|(hint, by)| std::iter::repeat_n(hint, by.unsigned_abs() as usize)).collect();
        let old = self.base.len();
        self.base.resize(old.saturating_add(more.len()), u64::MAX);
        let (mut from, mut new) = (old, more.len());
        while new > 0 {
            // Both indices are below their lengths; the place to write lies `new` above the one that is read.
            let (Some(next), to) = (new.checked_sub(1).and_then(|at| more.get(at)).copied(), from + new - 1) else {
                break;
            };
            let moved = from.checked_sub(1).and_then(|at| self.base.get(at)).copied().filter(|hint| *hint > next);
            let value = match moved {
                Some(hint) => {
                    from -= 1;
                    hint
                }
                None => {
                    new -= 1;
                    next
                }
            };
            if let Some(slot) = self.base.get_mut(to) {
                *slot = value;
            }
        }
        self.parts = parts_of(&self.base);
    }
}

const fn part_number(hint: u64) -> usize {
    (hint >> (u64::BITS - PART_BITS)) as usize
}

/// Of a sorted base; one pass, some 10 ms for ten million.
fn parts_of(base: &[u64]) -> Vec<u32> {
    if base.len() < IN_PARTS_FROM || u32::try_from(base.len()).is_err() {
        return Vec::new();
    }
    let mut parts = vec![0_u32; (1 << PART_BITS) + 1];
    for hint in base {
        if let Some(next) = parts.get_mut(part_number(*hint).saturating_add(1)) {
            *next = next.saturating_add(1);
        }
    }
    let mut sum = 0_u32;
    for begin in &mut parts {
        sum = sum.saturating_add(*begin);
        *begin = sum;
    }
    parts
}

fn value_of(hint: Hint) -> u64 {
    u64::from_be_bytes(hint.0)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;
    use proptest::prelude::*;

    use super::*;

    fn txid(hint: u64) -> Txid {
        let mut bytes = [0x55; 32];
        bytes[..8].copy_from_slice(&hint.to_be_bytes());
        Txid::from_byte_array(bytes)
    }

    fn hint(value: u64) -> Hint {
        Hint(value.to_be_bytes())
    }

    #[test]
    fn a_breach_is_found_among_other_transactions_until_its_hint_is_removed_as_often_as_it_was_added() {
        let mut lookout = Lookout::load([9, 3, 7].map(hint));
        lookout.add(hint(7));
        let block = || (0..20).map(txid);
        assert_eq!(lookout.known(block()), [3, 7, 9].map(txid));
        lookout.remove(hint(7));
        lookout.remove(hint(3));
        lookout.remove(hint(4));
        assert_eq!(lookout.known(block()), [7, 9].map(txid));
        lookout.remove(hint(7));
        assert_eq!((lookout.known(block()), lookout.len()), (vec![txid(9)], 1));
    }

    #[test]
    fn what_is_searched_in_parts_is_found_as_well() {
        // Evenly spread, and many in one part, the first and the last value among them.
        let spread = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let many = 2 * IN_PARTS_FROM as u64;
        let crowded = (0..10_000).map(|number| (7 << (u64::BITS - PART_BITS)) + number);
        let all: Vec<u64> = (1..=many).map(spread).chain(crowded).chain([0, u64::MAX, u64::MAX]).collect();
        let mut lookout = Lookout::load(all.iter().copied().map(hint));
        assert_eq!(lookout.parts.last().copied(), u32::try_from(all.len()).ok());
        assert!(all.iter().all(|value| lookout.contains(hint(*value))));
        assert!((many + 1..many + 10_000).map(spread).all(|value| !lookout.contains(hint(value))));
        for value in [0, u64::MAX, spread(5)] {
            lookout.remove(hint(value));
        }
        lookout.add(hint(spread(many + 1)));
        lookout.merge();
        let left = [0, u64::MAX, spread(5), spread(6), spread(many + 1)].map(|value| lookout.contains(hint(value)));
        assert_eq!(left, [false, true, false, true, true]);
    }

    proptest! {
        #[test]
        fn whatever_was_added_and_removed_is_counted_through_every_merge(
            loaded in prop::collection::vec(0_u64..40, 0..60),
            steps in prop::collection::vec((0_u64..40, any::<bool>(), 0_u8..8), 0..200),
        ) {
            let mut lookout = Lookout::load(loaded.iter().copied().map(hint));
            let mut model = loaded;
            for (value, adds, merges) in steps {
                if adds {
                    lookout.add(hint(value));
                    model.push(value);
                } else {
                    lookout.remove(hint(value));
                    if let Some(at) = model.iter().position(|one| *one == value) {
                        model.remove(at);
                    }
                }
                if merges == 0 {
                    lookout.merge();
                    prop_assert!(lookout.overlay.is_empty() && lookout.base.is_sorted());
                    prop_assert_eq!(lookout.base.len(), model.len());
                }
                prop_assert_eq!(lookout.len(), model.len());
            }
            for value in 0..40 {
                prop_assert_eq!(lookout.contains(hint(value)), model.contains(&value));
            }
        }
    }
}
