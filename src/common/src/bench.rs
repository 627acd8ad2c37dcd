//! What `leydend` prints for `leyden bench` and `leyden lab`.

use serde::{Deserialize, Serialize};

/// A made-up network that was stored and loaded again; JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GraphLoaded {
    /// Records of the database.
    pub records: usize,
    /// Bytes of all keys and values.
    pub bytes: usize,
    /// From opening the database to a graph that routes are found in.
    pub seconds: f64,
}

/// Races of payments against their double spends; JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubleSpends {
    /// How many.
    pub races: u32,
    /// How many the attacker won.
    pub won: u32,
    /// Blocks that were found, by the attacker or others.
    pub blocks: u64,
    /// Of the chain at the end.
    pub height: u32,
}

/// A chain that was written to a file; JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainMade {
    /// All blocks but the genesis block.
    pub blocks: u32,
    /// Inputs of all transactions, coinbases' apart.
    pub inputs: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// The last block's hash.
    pub tip: String,
}

/// A chain that was validated from an empty database; JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainValidated {
    /// The tip's hash.
    pub tip: String,
    /// From the first block's bytes to the last block's commit.
    pub seconds: f64,
    /// The most memory that the process had at once, in bytes; 0 where the system does not tell.
    pub peak_memory: u64,
}

/// What a chain takes on the disk, in bytes, by how much of it is kept; JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainDiskUse {
    /// Every block, what it spent, and all indexes.
    pub archival: u64,
    /// The last 288 blocks; all headers, unspent outputs and indexes.
    pub pruned: u64,
    /// All headers, and what concerns the wallet.
    pub light: u64,
}

/// What a watchtower has done with a real disk; JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TowerMeasured {
    /// States without HTLCs that were backed up in each mode.
    pub states: u64,
    /// Backups for a stranger's tower.
    pub blind: TowerBackups,
    /// Backups for a tower of the client's own.
    pub own: TowerBackups,
    /// Many hints.
    pub hints: TowerHints,
    /// Breaches answered by a stranger's tower.
    pub breached_blind: TowerBreaches,
    /// Breaches answered by a tower of the client's own.
    pub breached_own: TowerBreaches,
}

/// Backups of one mode.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TowerBackups {
    /// Backups whose receipts were signed after they were durable.
    pub durable_per_second: f64,
    /// Of the whole database.
    pub bytes_per_state: f64,
}

/// A tower with many hints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TowerHints {
    /// How many.
    pub count: u64,
    /// From opening the database to a tower that guards.
    pub restart_seconds: f64,
    /// Looking up all transactions of a block of 3,000, the median.
    pub block_p50_micros: f64,
    /// The same for the slowest block of a hundred.
    pub block_p99_micros: f64,
}

/// A block in which many channels are breached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TowerBreaches {
    /// Breached channels.
    pub channels: u32,
    /// HTLCs of each.
    pub htlcs: u16,
    /// Transactions that were handed over.
    pub penalties: u64,
    /// Outputs that they take: all that the cheaters could.
    pub outputs: u64,
    /// From the block to the last penalty, the commit included.
    pub seconds: f64,
}
