//! What has happened since the start: counted where it happens, and read without waiting for anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Blocks that became part of the active chain.
    pub blocks_connected: u64,
    /// Blocks that ceased to be part of it.
    pub blocks_disconnected: u64,
    /// Steps to another branch.
    pub reorganisations: u64,
    /// Blocks that were mined here, on demand and in the background.
    pub blocks_found: u64,
    /// Headers that were tried for them.
    pub hashes: u64,
    /// What went to peers, and came from them; zero without networking.
    pub traffic: Traffic,
}

/// Bytes that went through connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To peers.
    pub sent: u64,
    /// From peers.
    pub received: u64,
}

/// Where the chain and the miner count.
#[derive(Debug, Default)]
pub struct Counters {
    connected: AtomicU64,
    disconnected: AtomicU64,
    reorganisations: AtomicU64,
    found: AtomicU64,
    /// Headers that were tried: the search adds to it.
    pub hashes: AtomicU64,
}

impl Counters {
    /// The active chain has lost and gained so many blocks in one step.
    pub fn note_step(&self, disconnected: usize, connected: usize) {
        let add = |counter: &AtomicU64, count: usize| counter.fetch_add(count as u64, Ordering::Relaxed);
        add(&self.connected, connected);
        add(&self.disconnected, disconnected);
        add(&self.reorganisations, usize::from(disconnected > 0));
    }

    /// A block was mined here.
    pub fn note_found(&self) {
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    /// Blocks that were mined here.
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// The sums up to now.
    pub fn totals(&self, traffic: Traffic) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            blocks_connected: get(&self.connected),
            blocks_disconnected: get(&self.disconnected),
            reorganisations: get(&self.reorganisations),
            blocks_found: self.found(),
            hashes: get(&self.hashes),
            traffic,
        }
    }
}
