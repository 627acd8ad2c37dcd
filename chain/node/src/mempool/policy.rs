//! The numbers of what is kept and relayed. The defaults are Bitcoin Core's, so that its peers take what we take.

use bitcoin::FeeRate;

/// How choosy the mempool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolPolicy {
    /// A transaction that pays less is not relayed. Default: 0.1 sat/vB.
    pub minimum_relay: FeeRate,
    /// A replacement pays at least this much more for its own size, and the minimum rises by this over what was
    /// evicted. Default: 0.1 sat/vB.
    pub incremental_relay: FeeRate,
    /// Outputs below the cost of spending them at this rate are dust. Default: 3 sat/vB.
    pub dust_relay: FeeRate,
    /// Refuse transactions that are valid but not standard. Default: yes.
    pub require_standard: bool,
    /// Memory for all transactions.
    pub max_memory_bytes: usize,
    /// Seconds after which a transaction that nobody mined is dropped. Default: two weeks.
    pub expiry_seconds: u64,
    /// A transaction and all unconfirmed ones that it is related to, by whatever way.
    pub cluster: ClusterLimit,
    /// Virtual bytes of the one child that a transaction may have beyond the limit of its cluster.
    pub extra_child_bytes: u64,
    /// Transactions that one replacement may throw out (BIP 125, rule 5).
    pub max_replacements: usize,
    /// Bytes of all `OP_RETURN` scripts of one transaction.
    pub max_data_bytes: usize,
    /// Transactions and weight of one package.
    pub max_package_count: usize,
    /// Weight units of all transactions of a package together.
    pub max_package_weight: u64,
}

/// How many related transactions, and how large together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterLimit {
    /// Transactions, the one itself included.
    pub count: usize,
    /// Their virtual bytes together.
    pub virtual_bytes: u64,
}

impl Default for MempoolPolicy {
    fn default() -> Self {
        Self {
            minimum_relay: FeeRate::from_sat_per_kwu(25),
            incremental_relay: FeeRate::from_sat_per_kwu(25),
            dust_relay: FeeRate::from_sat_per_kwu(750),
            require_standard: true,
            max_memory_bytes: 300 << 20,
            expiry_seconds: 14 * 24 * 3600,
            cluster: ClusterLimit { count: 64, virtual_bytes: 101_000 },
            extra_child_bytes: 10_000,
            max_replacements: 100,
            max_data_bytes: 100_000,
            max_package_count: 25,
            max_package_weight: 404_000,
        }
    }
}
