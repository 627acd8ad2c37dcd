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
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;

use bitcoin::{OutPoint, ScriptBuf, TxOut};

use crate::keyed_hash::OutPointMap;

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
impl<S: BuildHasher> CoinSource for HashMap<OutPoint, Coin, S> {
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

/// All that a block does to the set of coins, each outpoint once, in no order.
#[derive(Clone, Debug, Default)]
pub struct CoinChanges(Vec<(OutPoint, CoinChange)>);

impl CoinChanges {
    /// The changes, in no order.
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
    touched: OutPointMap<Touched>,
}

/// An outpoint, with one copy of its coin as long as that is enough.
#[derive(Debug)]
struct Touched {
    /// The coin that was there last.
    coin: Option<Coin>,
    /// It is there no more.
    is_spent: bool,
    before: Before,
}

/// What the source holds.
#[derive(Debug)]
enum Before {
    Nothing,
    /// The coin that was there last.
    Same,
    /// One that the last has followed.
    Other(Box<Coin>),
}

impl Touched {
    fn now(&self) -> Option<&Coin> {
        self.coin.as_ref().filter(|_| !self.is_spent)
    }

    fn take(&mut self) -> Option<Coin> {
        if self.is_spent {
            return None;
        }
        match self.before {
            // Of a coin that the block itself creates and spends nothing is left.
            Before::Nothing => self.coin.take(),
            Before::Same | Before::Other(_) => {
                self.is_spent = true;
                self.coin.clone()
            }
        }
    }

    fn put(&mut self, coin: Coin) -> Option<Coin> {
        let last = self.coin.replace(coin);
        let was_spent = std::mem::replace(&mut self.is_spent, false);
        let replaced = if was_spent { None } else { last.clone() };
        if let (Before::Same, Some(last)) = (&self.before, last) {
            self.before = Before::Other(Box::new(last));
        }
        replaced
    }

    fn into_change(self) -> Option<CoinChange> {
        let Self { coin, is_spent, before } = self;
        match (before, coin) {
            (_, None) => None,
            (Before::Nothing, Some(after)) => (!is_spent).then_some(CoinChange::Added(after)),
            (Before::Same, Some(before)) => is_spent.then_some(CoinChange::Removed(before)),
            (Before::Other(before), Some(_)) if is_spent => Some(CoinChange::Removed(*before)),
            (Before::Other(before), Some(after)) => {
                (*before != after).then_some(CoinChange::Replaced { before: *before, after })
            }
        }
    }
}

impl BlockCoins {
    /// With room for so many outpoints.
    pub(crate) fn with_capacity(outpoints: usize) -> Self {
        Self { touched: OutPointMap::with_capacity_and_hasher(outpoints, Default::default()) }
    }

    /// Takes coins over from the source; outpoints that were asked for and do not exist are remembered as such.
    pub(crate) fn load<S: CoinSource>(&mut self, outpoints: &[OutPoint], source: &S) -> Result<(), S::Error> {
        let coins = source.coins(outpoints)?;
        for (outpoint, coin) in outpoints.iter().zip(coins.into_iter().chain(std::iter::repeat(None))) {
            self.touched.entry(*outpoint).or_insert_with(|| {
                let before = if coin.is_some() { Before::Same } else { Before::Nothing };
                Touched { coin, is_spent: false, before }
            });
        }
        Ok(())
    }

    /// The coin as of now, for outpoints that were loaded or created.
    pub(crate) fn get(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.touched.get(outpoint)?.now()
    }

    /// Spends a coin.
    pub(crate) fn take(&mut self, outpoint: &OutPoint) -> Option<Coin> {
        self.touched.get_mut(outpoint)?.take()
    }

    /// Adds a coin and returns the one that was there. An outpoint that was never loaded counts as empty before.
    pub(crate) fn put(&mut self, outpoint: OutPoint, coin: Coin) -> Option<Coin> {
        match self.touched.entry(outpoint) {
            Entry::Occupied(mut entry) => entry.get_mut().put(coin),
            Entry::Vacant(entry) => {
                entry.insert(Touched { coin: Some(coin), is_spent: false, before: Before::Nothing });
                None
            }
        }
    }

    pub(crate) fn into_changes(self) -> CoinChanges {
        let mut changes = Vec::with_capacity(self.touched.len());
        let touched = self.touched.into_iter();
        changes
            .extend(touched.filter_map(|(outpoint, touched)| touched.into_change().map(|change| (outpoint, change))));
        CoinChanges(changes)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Amount;

    use super::*;

    fn coin(sat: u64) -> Coin {
        let output = TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::new() };
        Coin { output, height: 1, is_coinbase: false }
    }

    /// What is left of an outpoint that has this coin, or none, after it was spent (`None`) and created in turn.
    fn left(before: Option<Coin>, steps: &[Option<u64>]) -> (Vec<Option<Coin>>, Option<CoinChange>) {
        let source: HashMap<OutPoint, Coin> = before.into_iter().map(|coin| (OutPoint::null(), coin)).collect();
        let mut coins = BlockCoins::default();
        coins.load(&[OutPoint::null()], &source).expect("a map");
        let answers = steps.iter().map(|step| match step {
            Some(sat) => coins.put(OutPoint::null(), coin(*sat)),
            None => coins.take(&OutPoint::null()),
        });
        let answers = answers.collect();
        (answers, coins.into_changes().into_iter().next().map(|(_, change)| change))
    }

    #[test]
    fn whatever_happens_to_an_outpoint_the_change_is_from_the_first_to_the_last() {
        use CoinChange::{Added, Removed, Replaced};
        let replaced = |before, after| Some(Replaced { before: coin(before), after: coin(after) });
        // What was there, what happens to it, what each answers, and the change.
        type Case<'a> = (Option<u64>, &'a [Option<u64>], &'a [Option<u64>], Option<CoinChange>);
        let table: [Case<'_>; 14] = [
            (None, &[], &[], None),
            (None, &[None], &[None], None),
            (None, &[Some(2)], &[None], Some(Added(coin(2)))),
            (None, &[Some(2), None], &[None, Some(2)], None),
            (None, &[Some(2), None, None], &[None, Some(2), None], None),
            (None, &[Some(2), Some(3)], &[None, Some(2)], Some(Added(coin(3)))),
            (None, &[Some(2), None, Some(3)], &[None, Some(2), None], Some(Added(coin(3)))),
            (Some(1), &[], &[], None),
            (Some(1), &[None, None], &[Some(1), None], Some(Removed(coin(1)))),
            (Some(1), &[None, Some(1)], &[Some(1), None], None),
            (Some(1), &[None, Some(2)], &[Some(1), None], replaced(1, 2)),
            (Some(1), &[Some(2)], &[Some(1)], replaced(1, 2)),
            (Some(1), &[Some(2), None], &[Some(1), Some(2)], Some(Removed(coin(1)))),
            (Some(1), &[Some(2), None, Some(3), Some(4)], &[Some(1), Some(2), None, Some(3)], replaced(1, 4)),
        ];
        for (before, steps, answers, change) in table {
            let answers: Vec<Option<Coin>> = answers.iter().map(|sat| sat.map(coin)).collect();
            assert_eq!(left(before.map(coin), steps), (answers, change), "{before:?} {steps:?}");
        }
    }
}
