//! Unspent outputs, and what a block does to them.
//!
//! ```text
//!   CoinSource (the caller's database) ──coins──► BlockCoins (one block's view) ──► CoinChanges, to be written at once
//!                                                        └────────────────────────► BlockUndo, to take it back
//! ```
//!
//! Nothing here writes. A view gathers what one block spends and creates; a coin that the block itself creates and
//! spends never shows up in the changes. So whatever goes wrong halfway, the set of coins is as it was.

use std::collections::HashMap;

use bitcoin::{OutPoint, ScriptBuf, TxOut};

/// An unspent output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coin {
    /// Its value and script.
    pub output: TxOut,
    /// The height of the block that created it.
    pub height: u32,
    /// Created by a coinbase, so it has to mature.
    pub is_coinbase: bool,
}

/// Where unspent outputs are looked up.
pub trait CoinSource {
    /// Why a look-up fails, as the database says it; it says nothing about the coin.
    type Error;

    /// The coin at an outpoint, if it exists and is unspent.
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, Self::Error>;

    /// Many coins at once, in the order asked for. A database that reads in bulk should do so here: connecting a block
    /// asks for all coins from outside of the block in one call.
    fn coins(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, Self::Error> {
        outpoints.iter().map(|outpoint| self.coin(outpoint)).collect()
    }
}

impl<S: CoinSource + ?Sized> CoinSource for &S {
    type Error = S::Error;

    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, Self::Error> {
        (**self).coin(outpoint)
    }

    fn coins(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, Self::Error> {
        (**self).coins(outpoints)
    }
}

/// Coins in memory.
impl CoinSource for HashMap<OutPoint, Coin> {
    type Error = std::convert::Infallible;

    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, Self::Error> {
        Ok(self.get(outpoint).cloned())
    }
}

/// What happens to one outpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoinChange {
    /// There was no coin, now there is.
    Added(Coin),
    /// There was a coin, now there is none.
    Removed(Coin),
    /// A coin takes the place of another: only where a duplicate coinbase is excepted from BIP 30.
    Replaced {
        /// The coin that was there.
        before: Coin,
        /// The coin that is there now.
        after: Coin,
    },
}

impl CoinChange {
    /// The coin that was there.
    pub fn before(&self) -> Option<&Coin> {
        match self {
            Self::Added(_) => None,
            Self::Removed(before) | Self::Replaced { before, .. } => Some(before),
        }
    }

    /// The coin that is there now.
    pub fn after(&self) -> Option<&Coin> {
        match self {
            Self::Added(after) | Self::Replaced { after, .. } => Some(after),
            Self::Removed(_) => None,
        }
    }

    /// The coin that is there now, by itself.
    pub fn into_after(self) -> Option<Coin> {
        match self {
            Self::Added(after) | Self::Replaced { after, .. } => Some(after),
            Self::Removed(_) => None,
        }
    }
}

/// All that a block does to the set of coins, each outpoint once, ordered by outpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoinChanges(Vec<(OutPoint, CoinChange)>);

impl CoinChanges {
    /// The changes in the order of their outpoints.
    pub fn iter(&self) -> std::slice::Iter<'_, (OutPoint, CoinChange)> {
        self.0.iter()
    }

    /// How many outpoints change.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the block changes no coin.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Carries the changes out on coins in memory.
    pub fn apply_to(&self, coins: &mut HashMap<OutPoint, Coin>) {
        for (outpoint, change) in self.iter() {
            match change.after() {
                Some(coin) => coins.insert(*outpoint, coin.clone()),
                None => coins.remove(outpoint),
            };
        }
    }
}

impl IntoIterator for CoinChanges {
    type Item = (OutPoint, CoinChange);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a CoinChanges {
    type Item = &'a (OutPoint, CoinChange);
    type IntoIter = std::slice::Iter<'a, (OutPoint, CoinChange)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What taking a block off needs to know besides the block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockUndo {
    /// The coins that each transaction but the coinbase spent, in input order.
    pub spent: Vec<Vec<Coin>>,
    /// Coins that a duplicate coinbase overwrote; empty but for the two blocks that BIP 30 excepts.
    pub overwritten: Vec<(OutPoint, Coin)>,
}

/// Whether an output can never be spent, so that it does not become a coin.
pub fn is_unspendable(script: &ScriptBuf) -> bool {
    script.as_bytes().first() == Some(&bitcoin::opcodes::all::OP_RETURN.to_u8()) || script.len() > MAX_SCRIPT_SIZE
}

/// A longer script fails whatever it says.
const MAX_SCRIPT_SIZE: usize = 10_000;

/// The coins as one block sees them while it is put on or taken off.
#[derive(Debug, Default)]
pub(crate) struct BlockCoins {
    touched: HashMap<OutPoint, Touched>,
}

#[derive(Debug)]
struct Touched {
    /// What the source holds.
    before: Option<Coin>,
    now: Option<Coin>,
}

impl BlockCoins {
    /// Takes coins over from the source; outpoints that were asked for and do not exist are remembered as such.
    pub(crate) fn load<S: CoinSource>(&mut self, outpoints: &[OutPoint], source: &S) -> Result<(), S::Error> {
        let coins = source.coins(outpoints)?;
        for (outpoint, coin) in outpoints.iter().zip(coins.into_iter().chain(std::iter::repeat(None))) {
            self.touched.entry(*outpoint).or_insert_with(|| Touched { before: coin.clone(), now: coin });
        }
        Ok(())
    }

    /// The coin as of now, for outpoints that were loaded or created.
    pub(crate) fn get(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.touched.get(outpoint)?.now.as_ref()
    }

    /// Spends a coin.
    pub(crate) fn take(&mut self, outpoint: &OutPoint) -> Option<Coin> {
        self.touched.get_mut(outpoint)?.now.take()
    }

    /// Adds a coin and returns the one that was there. An outpoint that was never loaded counts as empty before.
    pub(crate) fn put(&mut self, outpoint: OutPoint, coin: Coin) -> Option<Coin> {
        self.touched.entry(outpoint).or_insert(Touched { before: None, now: None }).now.replace(coin)
    }

    pub(crate) fn into_changes(self) -> CoinChanges {
        let mut changes: Vec<(OutPoint, CoinChange)> = self
            .touched
            .into_iter()
            .filter_map(|(outpoint, touched)| {
                let change = match (touched.before, touched.now) {
                    (None, None) => return None,
                    (None, Some(after)) => CoinChange::Added(after),
                    (Some(before), None) => CoinChange::Removed(before),
                    (Some(before), Some(after)) if before == after => return None,
                    (Some(before), Some(after)) => CoinChange::Replaced { before, after },
                };
                Some((outpoint, change))
            })
            .collect();
        changes.sort_unstable_by_key(|(outpoint, _)| *outpoint);
        CoinChanges(changes)
    }
}
