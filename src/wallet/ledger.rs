//! What the wallet has, ready to be asked: which transactions count, where they are, and the coins that nobody has spent.
//!
//! ```text
//!   chain, mempool ──► bdk's transaction graph ──► Ledger ─┬─ places      transaction → block, or waiting
//!                                                          ├─ coins       unspent outputs, with depth and origin
//!                                                          └─ by_value    the same, in order
//! ```
//!
//! `bdk_wallet` answers each question from its whole graph, and asks for every transaction how far down the chain its
//! block lies: a list of coins costs coins times blocks. Here the graph is gone through once, at the start and whenever
//! something old changes its meaning (a rival, a reorganisation, an eviction). Whatever merely comes on top is noted for
//! itself, so no block and no claim waits for a look at everything. Both ways give the same; a test holds them together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
};

use bdk_wallet::chain::{BlockId, CanonicalizationParams, ChainOracle, ChainPosition};
use bitcoin::{Amount, BlockHash, OutPoint, Transaction, TxOut, Txid};

use super::accounts::{Accounts, Derivation};

/// Blocks after which a mined coin can be spent (Bitcoin's coinbase maturity).
pub(super) const MATURITY: u32 = 100;

/// Where a transaction of the wallet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Block {
        height: u32,
        hash: BlockHash,
        /// Seconds since 1970.
        time: u64,
    },
    /// In no block yet.
    Waiting {
        /// Seconds since 1970.
        since: u64,
    },
}

impl Place {
    pub(super) fn height(&self) -> Option<u32> {
        match self {
            Self::Block { height, .. } => Some(*height),
            Self::Waiting { .. } => None,
        }
    }

    /// Of the block, or since when it waits for one; seconds since 1970.
    pub(super) fn time(&self) -> u64 {
        match self {
            Self::Block { time, .. } | Self::Waiting { since: time } => *time,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.height().is_none()
    }
}

/// An output of the wallet that nobody has spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coin {
    pub output: TxOut,
    pub place: Derivation,
    /// `None`: in no block yet.
    pub height: Option<u32>,
    /// By us, so that it ripens ([`MATURITY`]).
    pub mined: bool,
    /// Paid by a transaction that spends coins of ours: nobody else can take it back.
    pub from_us: bool,
}

impl Coin {
    pub(super) fn confirmations(&self, tip: u32) -> u32 {
        confirmations(self.height, tip)
    }

    pub(super) fn is_immature(&self, tip: u32) -> bool {
        self.mined && self.confirmations(tip) < MATURITY
    }
}

pub(super) fn confirmations(height: Option<u32>, tip: u32) -> u32 {
    height.map_or(0, |height| tip.saturating_sub(height).saturating_add(1))
}

/// The wallet's chain, block by block.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    hashes: BTreeMap<u32, BlockHash>,
    #[cfg(test)]
    pub asked: std::cell::Cell<u64>,
}

impl Blocks {
    pub(super) fn of(wallet: &Accounts) -> Self {
        let hashes = wallet.local_chain().iter_checkpoints().map(|checkpoint| (checkpoint.height(), checkpoint.hash()));
        Self {
            hashes: hashes.collect(),
            #[cfg(test)]
            asked: std::cell::Cell::default(),
        }
    }

    /// Puts a block where it belongs; what lay there and above is gone. Whether nothing did.
    pub(super) fn connect(&mut self, height: u32, hash: BlockHash) -> bool {
        let replaced = self.hashes.split_off(&height);
        self.hashes.insert(height, hash);
        replaced.is_empty()
    }
}

/// As `bdk_chain`'s own, but without a walk from the tip down.
impl ChainOracle for Blocks {
    type Error = Infallible;

    fn is_block_in_chain(&self, block: BlockId, _tip: BlockId) -> Result<Option<bool>, Infallible> {
        #[cfg(test)]
        self.asked.set(self.asked.get() + 1);
        Ok(self.hashes.get(&block.height).map(|hash| *hash == block.hash))
    }

    fn get_chain_tip(&self) -> Result<BlockId, Infallible> {
        let tip = self.hashes.last_key_value().map(|(height, hash)| BlockId { height: *height, hash: *hash });
        Ok(tip.unwrap_or_default())
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    blocks: Blocks,
    places: HashMap<Txid, Place>,
    coins: HashMap<OutPoint, Coin>,
    by_value: BTreeSet<(Amount, OutPoint)>,
    /// How often everything was gone through.
    #[cfg(test)]
    pub whole_looks: u64,
}

impl Ledger {
    /// Goes through the whole graph.
    pub(super) fn of(wallet: &Accounts) -> Self {
        let mut ledger = Self { blocks: Blocks::of(wallet), ..Self::default() };
        ledger.look_at_all(wallet);
        ledger
    }

    pub(super) fn place(&self, txid: &Txid) -> Option<&Place> {
        self.places.get(txid)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (&Txid, &Place)> {
        self.places.iter()
    }

    pub(super) fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    pub(super) fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// Coins that are worth `least` or more, the smallest first.
    pub(super) fn worth_at_least(&self, least: Amount) -> impl DoubleEndedIterator<Item = (&OutPoint, &Coin)> {
        let first = OutPoint { txid: bitcoin::hashes::Hash::all_zeros(), vout: 0 };
        self.by_value.range((least, first)..).filter_map(|(_, outpoint)| self.coins.get_key_value(outpoint))
    }

    /// A block was put into the wallet.
    pub(super) fn block_connected(&mut self, wallet: &Accounts, block: &bitcoin::Block, height: u32) {
        let hash = block.block_hash();
        let on_top = self.blocks.connect(height, hash);
        let place = Place::Block { height, hash, time: u64::from(block.header.time) };
        let mut ours = block.txdata.iter().filter(|tx| wallet.is_tx_relevant(tx));
        if !on_top || !ours.all(|tx| self.note(wallet, tx, place)) {
            self.look_at_all(wallet);
        }
    }

    /// A transaction in no block was put into the wallet, which did not keep it if it does not concern it.
    pub(super) fn transaction_seen(&mut self, wallet: &Accounts, transaction: &Transaction, now: u64) {
        let concerns = wallet.is_tx_relevant(transaction);
        if concerns && !self.note(wallet, transaction, Place::Waiting { since: now }) {
            self.look_at_all(wallet);
        }
    }

    /// A transaction was taken out.
    pub(super) fn transaction_dropped(&mut self, wallet: &Accounts) {
        self.look_at_all(wallet);
    }

    /// Notes one transaction, if that changes the meaning of no other one.
    fn note(&mut self, wallet: &Accounts, transaction: &Transaction, place: Place) -> bool {
        let graph = wallet.tx_graph();
        let txid = transaction.compute_txid();
        let inputs =
            || transaction.input.iter().map(|input| input.previous_output).filter(|_| !transaction.is_coinbase());
        if inputs().any(|spent| graph.outspends(spent).iter().any(|other| *other != txid)) {
            return false;
        }
        // What is in a block has its parents in blocks, whatever was told of them.
        let is_late =
            |parent: &Txid| place.height().is_some() && self.places.get(parent).is_some_and(Place::is_waiting);
        if inputs().any(|spent| is_late(&spent.txid)) {
            return false;
        }
        if let Some(known) = self.places.get_mut(&txid) {
            match (*known, place) {
                (Place::Waiting { .. }, Place::Block { height, .. }) => {
                    *known = place;
                    for outpoint in outpoints(txid, transaction) {
                        if let Some(coin) = self.coins.get_mut(&outpoint) {
                            coin.height = Some(height);
                        }
                    }
                }
                // It was taken for confirmed because of what spends it.
                (Place::Block { height: before, .. }, Place::Block { height, .. }) if before != height => return false,
                (Place::Block { .. }, Place::Block { .. }) | (_, Place::Waiting { .. }) => {}
            }
            return true;
        }
        let is_in_doubt = |parent: &Txid| graph.get_tx(*parent).is_some() && !self.places.contains_key(parent);
        let mut children = outpoints(txid, transaction).flat_map(|outpoint| graph.outspends(outpoint));
        if inputs().any(|spent| is_in_doubt(&spent.txid)) || children.next().is_some() {
            return false;
        }
        self.insert(wallet, txid, transaction, place);
        for spent in inputs() {
            self.remove_coin(&spent);
        }
        true
    }

    fn look_at_all(&mut self, wallet: &Accounts) {
        #[cfg(test)]
        {
            self.whole_looks += 1;
        }
        self.places.clear();
        self.coins.clear();
        self.by_value.clear();
        let graph = wallet.tx_graph();
        let tip = wallet.latest_checkpoint().block_id();
        let mut spent = Vec::new();
        let blocks = std::mem::take(&mut self.blocks);
        for entry in graph.list_canonical_txs(&blocks, tip, CanonicalizationParams::default()) {
            let transaction = entry.tx_node.tx.as_ref();
            if !wallet.is_tx_relevant(transaction) {
                continue;
            }
            let place = match entry.chain_position {
                ChainPosition::Confirmed { anchor, .. } => Place::Block {
                    height: anchor.block_id.height,
                    hash: anchor.block_id.hash,
                    time: anchor.confirmation_time,
                },
                ChainPosition::Unconfirmed { first_seen, .. } => {
                    Place::Waiting { since: first_seen.unwrap_or_default() }
                }
            };
            self.insert(wallet, entry.tx_node.txid, transaction, place);
            spent.extend(transaction.input.iter().map(|input| input.previous_output));
        }
        // Parents may come after their children.
        for outpoint in spent {
            self.remove_coin(&outpoint);
        }
        self.blocks = blocks;
    }

    fn insert(&mut self, wallet: &Accounts, txid: Txid, transaction: &Transaction, place: Place) {
        let from_us = transaction.input.iter().any(|input| wallet.txout(input.previous_output).is_some());
        self.places.insert(txid, place);
        for outpoint in outpoints(txid, transaction) {
            let Some((place_of_script, output)) = wallet.txout(outpoint) else { continue };
            let coin = Coin {
                output: output.clone(),
                place: place_of_script,
                height: place.height(),
                mined: transaction.is_coinbase(),
                from_us,
            };
            self.by_value.insert((coin.output.value, outpoint));
            self.coins.insert(outpoint, coin);
        }
    }

    fn remove_coin(&mut self, outpoint: &OutPoint) {
        if let Some(coin) = self.coins.remove(outpoint) {
            self.by_value.remove(&(coin.output.value, *outpoint));
        }
    }
}

fn outpoints(txid: Txid, transaction: &Transaction) -> impl Iterator<Item = OutPoint> {
    (0..).take(transaction.output.len()).map(move |vout| OutPoint { txid, vout })
}

#[cfg(test)]
mod tests;
