//! Which states of a channel wait for towers.

use std::collections::VecDeque;

use leyden_channels::types::CommitmentNumber;

/// The rows of one channel, as runs of numbers without a gap. There is a gap only where the node had no tower for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    runs: VecDeque<Run>,
    /// The newest state that is known to be revoked, queued or not.
    pub revoked: Option<CommitmentNumber>,
    /// Whatever was queued up to here is in the runs, or deleted.
    pub seen: Option<CommitmentNumber>,
    /// What the channel was told last.
    pub told: Option<CommitmentNumber>,
    /// The channel lives: the driver has named it.
    pub is_named: bool,
    /// For which state it waited at the last tick, and whether its user has heard of that.
    pub seen_waiting: Option<CommitmentNumber>,
    pub warned: bool,
}

/// From `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: CommitmentNumber,
    pub last: CommitmentNumber,
}

impl Queue {
    /// One more row, newer than all others; known ones change nothing.
    pub(super) fn push(&mut self, number: CommitmentNumber) {
        self.revoked = self.revoked.max(Some(number));
        self.seen = self.seen.max(Some(number));
        match self.runs.back_mut() {
            Some(run) if number <= run.last => {}
            Some(run) if number == run.last.next() => run.last = number,
            Some(_) | None => self.runs.push_back(Run { first: number, last: number }),
        }
    }

    pub(super) fn first(&self) -> Option<CommitmentNumber> {
        self.runs.front().map(|run| run.first)
    }

    pub(super) fn newest(&self) -> Option<CommitmentNumber> {
        self.runs.back().map(|run| run.last)
    }

    /// The run with this row, or the first one after it.
    pub(super) fn from(&self, number: CommitmentNumber) -> Option<Run> {
        let run = self.runs.iter().find(|run| run.last >= number)?;
        Some(Run { first: run.first.max(number), last: run.last })
    }

    /// How many rows there are from this one on.
    pub(super) fn backlog(&self, from: CommitmentNumber) -> u64 {
        let len = |run: &Run| run.last.0.saturating_sub(run.first.max(from).0).saturating_add(1);
        self.runs.iter().filter(|run| run.last >= from).map(len).sum()
    }

    /// The newest row that is not among so many newest ones.
    pub(super) fn all_but(&self, count: u64) -> Option<CommitmentNumber> {
        let mut left = count;
        for run in self.runs.iter().rev() {
            let len = run.last.0.saturating_sub(run.first.0).saturating_add(1);
            if left < len {
                return Some(CommitmentNumber(run.last.0.saturating_sub(left)));
            }
            left = left.saturating_sub(len);
        }
        None
    }

    /// Takes the oldest row away if it is not newer than `up_to`.
    pub(super) fn pop(&mut self, up_to: CommitmentNumber) -> Option<CommitmentNumber> {
        let run = self.runs.front_mut().filter(|run| run.first <= up_to)?;
        let number = run.first;
        if run.first == run.last {
            self.runs.pop_front();
        } else {
            run.first = number.next();
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn n(number: u64) -> CommitmentNumber {
        CommitmentNumber(number)
    }

    #[test]
    fn rows_are_found_in_order_and_over_gaps() {
        let mut queue = Queue::default();
        for number in [3, 4, 4, 5, 9, 10, 7] {
            queue.push(n(number));
        }
        assert_eq!((queue.first(), queue.newest(), queue.revoked), (Some(n(3)), Some(n(10)), Some(n(10))));
        assert_eq!(queue.from(n(4)), Some(Run { first: n(4), last: n(5) }));
        assert_eq!(queue.from(n(6)), Some(Run { first: n(9), last: n(10) }));
        assert_eq!(queue.from(n(11)), None);
        assert_eq!([0, 4, 6, 10, 11].map(|from| queue.backlog(n(from))), [5, 4, 2, 1, 0]);
        assert_eq!(
            [0, 1, 2, 3, 5, 6].map(|count| queue.all_but(count)),
            [Some(n(10)), Some(n(9)), Some(n(5)), Some(n(4)), None, None]
        );
        let popped: Vec<u64> = std::iter::from_fn(|| queue.pop(n(9))).map(|number| number.0).collect();
        assert_eq!((popped, queue.first()), (vec![3, 4, 5, 9], Some(n(10))));
    }
}
