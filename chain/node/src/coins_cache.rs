//! Unspent outputs as a step sees them: its own changes in front of those of the tip.
//!
//! ```text
//!   Overlay (one step: several blocks off and on) ──▶ ChainCoins ──▶ Store: memory, then rows (`store::coins`)
//!        ├── committed: the store takes the changes over with the step's tip
//!        ├── too large: put aside on the disk meanwhile (`step`), and read from there
//!        └── dropped:   nothing happened
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::OutPoint;
use leyden_consensus::{Coin, CoinChanges, CoinSource};

use crate::error::StoreError;
use crate::store::{Batch, StepCoin, Store};

/// The unspent outputs at the tip, for who holds the chain: what was read stays in memory.
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
        Ok(self.store.remembered_coins(std::slice::from_ref(outpoint))?.pop().flatten())
    }

    fn coins(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, StoreError> {
        self.store.remembered_coins(outpoints)
    }
}

/// The coins as they will be after a step that is not committed yet.
pub struct Overlay<'a> {
    below: &'a ChainCoins,
    changes: HashMap<OutPoint, StepCoin>,
    /// Earlier changes wait on the disk.
    is_staged: bool,
}

impl<'a> Overlay<'a> {
    /// No change yet.
    pub fn new(below: &'a ChainCoins) -> Self {
        Self { below, changes: HashMap::new(), is_staged: false }
    }

    /// A block of the step went on or came off.
    pub fn apply(&mut self, changes: CoinChanges) {
        self.changes.reserve(changes.len());
        for (outpoint, change) in changes {
            let existed = change.before().is_some();
            let now = change.into_after();
            self.changes
                .entry(outpoint)
                .and_modify(|coin| coin.now.clone_from(&now))
                .or_insert_with(|| StepCoin { existed, now });
        }
    }

    /// What has to be written for the step.
    pub fn into_changes(self) -> HashMap<OutPoint, StepCoin> {
        self.changes
    }

    /// Changes that are in memory.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether some of the changes wait on the disk.
    pub(crate) fn is_staged(&self) -> bool {
        self.is_staged
    }

    /// Hands over the changes to a batch that will be staged.
    pub(crate) fn move_to(&mut self, batch: &mut Batch) {
        for (outpoint, coin) in self.changes.drain() {
            batch.put_coin(&outpoint, coin.now.as_ref());
        }
        self.is_staged = true;
    }

    /// What the step itself has made of the coin, if it has touched it.
    fn own(&self, outpoint: &OutPoint) -> Result<Option<Option<Coin>>, StoreError> {
        match self.changes.get(outpoint) {
            Some(coin) => Ok(Some(coin.now.clone())),
            None if self.is_staged => self.below.store.staged_coin(outpoint),
            None => Ok(None),
        }
    }
}

impl CoinSource for Overlay<'_> {
    type Error = StoreError;

    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        match self.own(outpoint)? {
            Some(coin) => Ok(coin),
            None => self.below.coin(outpoint),
        }
    }

    fn coins(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, StoreError> {
        if self.changes.is_empty() && !self.is_staged {
            return self.below.coins(outpoints);
        }
        outpoints.iter().map(|outpoint| self.coin(outpoint)).collect()
    }
}
