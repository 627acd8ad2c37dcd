//! Jobs of many peers for one thread: each peer has its own line, and the lines take turns. So what one peer sends
//! delays another's by one job at most.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex};

use leyden_net::PeerId;

use crate::sync::lock;

pub(super) struct FairQueue<Job> {
    lines: Mutex<Lines<Job>>,
    changed: Condvar,
}

struct Lines<Job> {
    jobs: BTreeMap<PeerId, VecDeque<Job>>,
    /// Peers with jobs, the next one first.
    turns: VecDeque<PeerId>,
    is_closed: bool,
}

impl<Job> FairQueue<Job> {
    pub(super) fn new() -> Self {
        let lines = Lines { jobs: BTreeMap::new(), turns: VecDeque::new(), is_closed: false };
        Self { lines: Mutex::new(lines), changed: Condvar::new() }
    }

    /// Adds a job at the end of the peer's line.
    pub(super) fn push(&self, peer: PeerId, job: Job) {
        let mut lines = lock(&self.lines);
        let line = lines.jobs.entry(peer).or_default();
        line.push_back(job);
        if line.len() == 1 {
            lines.turns.push_back(peer);
        }
        self.changed.notify_one();
    }

    /// Waits for the next job; `None` once the queue is closed.
    pub(super) fn pop(&self) -> Option<(PeerId, Job)> {
        let mut lines = lock(&self.lines);
        loop {
            if lines.is_closed {
                return None;
            }
            if let Some(next) = lines.next() {
                return Some(next);
            }
            lines = self.changed.wait(lines).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Takes the peer's whole line out.
    pub(super) fn take(&self, peer: PeerId) -> VecDeque<Job> {
        let mut lines = lock(&self.lines);
        lines.turns.retain(|turn| *turn != peer);
        lines.jobs.remove(&peer).unwrap_or_default()
    }

    /// No job is given out any more.
    pub(super) fn close(&self) {
        lock(&self.lines).is_closed = true;
        self.changed.notify_all();
    }
}

impl<Job> Lines<Job> {
    fn next(&mut self) -> Option<(PeerId, Job)> {
        let peer = self.turns.pop_front()?;
        let line = self.jobs.get_mut(&peer)?;
        let job = line.pop_front()?;
        if line.is_empty() {
            self.jobs.remove(&peer);
        } else {
            self.turns.push_back(peer);
        }
        Some((peer, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_take_turns_and_each_keeps_its_order() {
        let queue = FairQueue::new();
        for job in 0..300 {
            queue.push(PeerId(1), job);
        }
        queue.push(PeerId(2), 1_000);
        queue.push(PeerId(2), 1_001);
        let order: Vec<_> = (0..5).filter_map(|_| queue.pop()).map(|(_, job)| job).collect();
        assert_eq!(order, [0, 1_000, 1, 1_001, 2]);
        assert_eq!(queue.take(PeerId(1)).len(), 297);
        queue.push(PeerId(1), 7);
        assert_eq!(queue.pop(), Some((PeerId(1), 7)));
        queue.push(PeerId(1), 8);
        queue.close();
        assert_eq!(queue.pop(), None);
    }
}
