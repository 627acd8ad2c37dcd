//! Unspent outputs as a step sees them: its own changes in front of those of the tip.
//!
//! ```text
//!   Overlay (one step: several blocks off and on) ──▶ ChainCoins ──▶ Store: memory, then rows (`store::coins`)
//!        │  of a step with one block nobody asks for coins after it: its changes go as they are
//!        ├── committed: the store takes the changes over with the step's tip
//!        ├── too large: put aside on the disk meanwhile (`step`), and read from there
//!        └── dropped:   nothing happened
//! ```

use std::collections::hash_map::Entry;
use std::sync::Arc;

use bitcoin::OutPoint;
use leyden_consensus::keyed_hash::OutPointMap;
use leyden_consensus::{Coin, CoinChange, CoinChanges, CoinSource};

use crate::error::StoreError;
use crate::store::{Batch, StepCoin, Store};

/// The unspent outputs at the tip, for who holds the chain. What is read one by one, as for the mempool, stays in memory; what
/// a block spends is read at once and needed no more.
pub struct ChainCoins {
    store: Arc<Store>,
}

impl ChainCoins {
    /// Those of this database.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// The database behind them.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl CoinSource for ChainCoins {
    type Error = StoreError;

    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        self.store.remembered_coin(outpoint)
    }

    fn coins(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, StoreError> {
        self.store.coins(outpoints)
    }
}

/// The coins as they will be after a step that is not committed yet.
pub struct Overlay<'a> {
    below: &'a ChainCoins,
    changes: OutPointMap<StepCoin>,
    /// The first changes, which come before those of the map.
    first: CoinChanges,
    /// Earlier changes wait on the disk.
    is_staged: bool,
}

fn step_coin(change: CoinChange) -> StepCoin {
    StepCoin { existed: change.before().is_some(), now: change.into_after() }
}

impl<'a> Overlay<'a> {
    /// No change yet.
    pub fn new(below: &'a ChainCoins) -> Self {
        Self { below, changes: OutPointMap::default(), first: CoinChanges::default(), is_staged: false }
    }

    /// A block of the step went on or came off.
    pub fn apply(&mut self, changes: CoinChanges) {
        if self.len() == 0 {
            self.first = changes;
            return;
        }
        self.spread();
        self.changes.reserve(changes.len());
        for (outpoint, change) in changes {
            let StepCoin { existed, now } = step_coin(change);
            match self.changes.entry(outpoint) {
                Entry::Occupied(mut entry) => entry.get_mut().now = now,
                Entry::Vacant(entry) => {
                    entry.insert(StepCoin { existed, now });
                }
            }
        }
    }

    /// The coins as they are now.
    pub fn coins(&mut self) -> OverlayCoins<'_> {
        self.spread();
        OverlayCoins(self)
    }

    fn spread(&mut self) {
        let first = std::mem::take(&mut self.first);
        self.changes.extend(first.into_iter().map(|(outpoint, change)| (outpoint, step_coin(change))));
    }

    /// What has to be written for the step, each outpoint once.
    pub fn into_changes(self) -> impl Iterator<Item = (OutPoint, StepCoin)> {
        let first = self.first.into_iter().map(|(outpoint, change)| (outpoint, step_coin(change)));
        first.chain(self.changes)
    }

    /// Changes that are in memory.
    pub(crate) fn len(&self) -> usize {
        self.changes.len().saturating_add(self.first.len())
    }

    /// Whether some of the changes wait on the disk.
    pub(crate) fn is_staged(&self) -> bool {
        self.is_staged
    }

    /// Hands over the changes to a batch that will be staged.
    pub(crate) fn move_to(&mut self, batch: &mut Batch) {
        self.spread();
        for (outpoint, coin) in self.changes.drain() {
            batch.put_coin(&outpoint, coin.now.as_ref());
        }
        self.is_staged = true;
    }
}

/// The coins after the changes that an overlay has so far.
pub struct OverlayCoins<'o>(&'o Overlay<'o>);

impl OverlayCoins<'_> {
    /// What the step itself has made of the coin, if it has touched it.
    fn own(&self, outpoint: &OutPoint) -> Result<Option<Option<Coin>>, StoreError> {
        let Self(overlay) = self;
        match overlay.changes.get(outpoint) {
            Some(coin) => Ok(Some(coin.now.clone())),
            None if overlay.is_staged => overlay.below.store.staged_coin(outpoint),
            None => Ok(None),
        }
    }
}

impl CoinSource for OverlayCoins<'_> {
    type Error = StoreError;

    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        match self.own(outpoint)? {
            Some(coin) => Ok(coin),
            None => self.0.below.coin(outpoint),
        }
    }

    fn coins(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, StoreError> {
        if self.0.changes.is_empty() && !self.0.is_staged {
            return self.0.below.coins(outpoints);
        }
        outpoints.iter().map(|outpoint| self.coin(outpoint)).collect()
    }
}
