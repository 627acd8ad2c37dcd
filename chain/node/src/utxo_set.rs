//! All unspent outputs of the active chain as one: how many, how much, and a hash by which two nodes find out whether
//! they agree.

use bitcoin::hashes::{Hash, sha256, sha256d};
use bitcoin::{Amount, OutPoint, Txid};
use leyden_consensus::{Coin, UtxoSetHash};

use crate::core::Core;
use crate::error::NodeError;
use crate::node::Node;
use crate::store::{Going, hash_coin};
use crate::sync::read;
use crate::types::BlockRef;

/// What Bitcoin Core counts for an output beside its script: outpoint, height and coinbase flag, value, length.
const NOMINAL_BYTES: u64 = 50;

/// Which hash is wanted: each costs more than to look at the outputs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtxoSetHashKind {
    /// SHA-256d over all outputs in the order of their outpoints: Bitcoin Core's `hash_serialized_3`.
    Serialized,
    /// MuHash3072, which does not depend on the order.
    MuHash,
    /// None.
    None,
}

/// The hash that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtxoSetDigest {
    /// Of [`UtxoSetHashKind::Serialized`].
    Serialized(sha256d::Hash),
    /// Of [`UtxoSetHashKind::MuHash`].
    MuHash(sha256::Hash),
    /// Of [`UtxoSetHashKind::None`].
    None,
}

/// The unspent outputs of the active chain as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtxoSetStats {
    /// The tip that they belong to.
    pub block: BlockRef,
    /// Over all of them.
    pub digest: UtxoSetDigest,
    /// How many outputs there are.
    pub coins: u64,
    /// How many transactions have some.
    pub transactions: u64,
    /// What they are worth together.
    pub amount: Amount,
    /// Their size as Bitcoin Core counts it, whatever they take here.
    pub nominal_bytes: u64,
    /// What the database's files of them take, roughly.
    pub disk_bytes: u64,
}

enum Hasher {
    Serialized(Box<sha256::HashEngine>),
    MuHash(Box<UtxoSetHash>),
    None,
}

impl Hasher {
    fn new(kind: UtxoSetHashKind) -> Self {
        match kind {
            UtxoSetHashKind::Serialized => Self::Serialized(Box::new(sha256d::Hash::engine())),
            UtxoSetHashKind::MuHash => Self::MuHash(Box::default()),
            UtxoSetHashKind::None => Self::None,
        }
    }

    fn add(&mut self, outpoint: &OutPoint, coin: &Coin) {
        match self {
            Self::Serialized(engine) => hash_coin(engine.as_mut(), outpoint, coin),
            Self::MuHash(set) => set.add(outpoint, coin),
            Self::None => {}
        }
    }

    fn finish(self) -> UtxoSetDigest {
        match self {
            Self::Serialized(engine) => UtxoSetDigest::Serialized(sha256d::Hash::from_engine(*engine)),
            Self::MuHash(set) => UtxoSetDigest::MuHash(set.finish()),
            Self::None => UtxoSetDigest::None,
        }
    }
}

impl Node {
    /// Looks at all unspent outputs: on a large chain that takes minutes.
    pub async fn utxo_set(&self, kind: UtxoSetHashKind) -> Result<UtxoSetStats, NodeError> {
        self.blocking(move |core| core.utxo_set(kind)).await
    }
}

impl Core {
    /// Looks at all unspent outputs, as they are at one moment. Ends early when the node stops.
    pub fn utxo_set(&self, kind: UtxoSetHashKind) -> Result<UtxoSetStats, NodeError> {
        self.full("unspent outputs")?;
        let mut hasher = Hasher::new(kind);
        let (mut coins, mut transactions, mut nominal_bytes) = (0u64, 0u64, 0u64);
        let mut amount = Amount::ZERO;
        let mut last: Option<Txid> = None;
        let tip = self.store.scan_coins(|outpoint, coin| {
            if self.shutdown.is_cancelled() {
                return Err(NodeError::ShuttingDown);
            }
            hasher.add(outpoint, coin);
            transactions = transactions.saturating_add(u64::from(last.replace(outpoint.txid) != Some(outpoint.txid)));
            coins = coins.saturating_add(1);
            let script = coin.output.script_pubkey.len() as u64;
            nominal_bytes = nominal_bytes.saturating_add(NOMINAL_BYTES).saturating_add(script);
            let sum = amount.checked_add(coin.output.value);
            amount = sum.ok_or_else(|| NodeError::Invariant("more coins than there is money".into()))?;
            Ok(Going::On)
        })?;
        let block = read(&self.index).block_ref(&tip).ok_or(NodeError::UnknownBlock(tip))?;
        let disk_bytes = self.store.coins_bytes();
        let digest = hasher.finish();
        Ok(UtxoSetStats { block, digest, coins, transactions, amount, nominal_bytes, disk_bytes })
    }
}
