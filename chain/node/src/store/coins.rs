//! The unspent outputs: their rows, and in memory what was read of them and what is not written to them yet.
//!
//! ```text
//!   block ──▶ changed since the rows' block ──flush──▶ rows of `coins`, then the mark `coins` = the tip
//!                 │  a coin that came and went in between never becomes a row
//!   reader ───────┴──▶ read lately ──▶ rows
//! ```
//!
//! All else that a step changes (undo data, indexes, the tip) is written with it, and its block's body before, both synced
//! before anybody hears of it. So the disk has what the tip's coins follow from at any time: rows that belong to the block
//! which the mark names, and the bodies from there to the tip. After a crash they are gone through again (`roll_forward`);
//! what was checked before is not checked again. As each coin that those blocks touch is set or removed whatever the row
//! says, a flush may break off anywhere.
//!
//! What it promises:
//! * A reader sees the coins of the tip, whether they are written or not.
//! * [`UnflushedLimits`] bound what a restart has to go through and what the changes take in memory.
//! * Blocks are only ever added between the rows' block and the tip: whoever takes one off flushes before, and writes the
//!   coins of that step with its tip.

use std::collections::hash_map::Entry;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint};
use leyden_consensus::Coin;
use leyden_consensus::keyed_hash::OutPointMap;

use super::{Batch, BatchKind, Durability, FORMAT, Store, codec, family};
use crate::error::{NodeError, StoreError};
use crate::sync::{lock, read, write};

/// The row of `meta` that names the block whose coins the rows are; the tip if it is missing.
const COINS_AT: &str = "coins";
/// Bytes of rows that are written at a time.
pub(crate) const FLUSHED_AT_ONCE: usize = 4 << 20;
/// Memory for an outpoint and its coin without the script, in a table that is never quite full.
const ENTRY_BYTES: usize = 120;

/// How much may be left to a restart. Whichever is reached first has the coins written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnflushedLimits {
    /// Blocks whose coins are not written.
    pub blocks: u32,
    /// Bytes of these blocks' bodies.
    pub block_bytes: usize,
    /// Memory for the coins that they have changed.
    pub coin_bytes: usize,
}

impl Default for UnflushedLimits {
    /// A restart reads some 100 MB of blocks a second, needs no coin for that, and writes what 64 MB of memory held: it takes
    /// about a second, three on a slow or busy machine. 200 blocks are less than pruning leaves in any case.
    fn default() -> Self {
        Self { blocks: 200, block_bytes: 64 << 20, coin_bytes: 64 << 20 }
    }
}

/// The unspent outputs as far as they are in memory.
pub(super) struct Coins {
    limits: UnflushedLimits,
    /// Memory for what was read.
    read_bytes: AtomicUsize,
    memory: RwLock<Memory>,
}

#[derive(Default)]
struct Memory {
    changed: OutPointMap<Changed>,
    changed_bytes: usize,
    blocks: u32,
    block_bytes: usize,
    /// The block after which these changes hold; known once there are some.
    tip: Option<BlockHash>,
    lately: Lately,
}

/// What a step does to an outpoint.
#[derive(Clone, Debug)]
pub struct StepCoin {
    /// There was a coin before the step.
    pub existed: bool,
    /// The coin that is there after it.
    pub now: Option<Coin>,
}

/// A coin that differs from its row.
struct Changed {
    coin: Option<Coin>,
    /// There is no row of it, so that nothing has to be removed once it is spent.
    is_fresh: bool,
}

/// What rows say. Entries enter the young generation; when it is full it becomes the old one, and what was old and not used
/// since is forgotten.
#[derive(Default)]
struct Lately {
    young: OutPointMap<Option<Coin>>,
    old: OutPointMap<Option<Coin>>,
    young_bytes: usize,
}

impl Lately {
    fn get(&self, outpoint: &OutPoint) -> Option<&Option<Coin>> {
        self.young.get(outpoint).or_else(|| self.old.get(outpoint))
    }

    fn insert(&mut self, limit: usize, outpoint: OutPoint, coin: Option<Coin>) {
        if self.young_bytes >= limit / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes = self.young_bytes.saturating_add(memory_of(coin.as_ref()));
        self.young.insert(outpoint, coin);
    }

    /// The count of bytes stays: what was taken out makes room with the generation.
    fn remove(&mut self, outpoint: &OutPoint) {
        self.young.remove(outpoint);
        self.old.remove(outpoint);
    }
}

fn memory_of(coin: Option<&Coin>) -> usize {
    ENTRY_BYTES.saturating_add(coin.map_or(0, |coin| coin.output.script_pubkey.len()))
}

impl Memory {
    fn known(&self, outpoint: &OutPoint) -> Option<&Option<Coin>> {
        self.changed.get(outpoint).map(|changed| &changed.coin).or_else(|| self.lately.get(outpoint))
    }

    fn change(&mut self, outpoint: OutPoint, StepCoin { existed, now }: StepCoin) {
        match self.changed.entry(outpoint) {
            Entry::Occupied(mut entry) => {
                self.changed_bytes = self.changed_bytes.saturating_sub(memory_of(entry.get().coin.as_ref()));
                if entry.get().is_fresh && now.is_none() {
                    entry.remove();
                    return;
                }
                self.changed_bytes = self.changed_bytes.saturating_add(memory_of(now.as_ref()));
                entry.get_mut().coin = now;
            }
            Entry::Vacant(_) if !existed && now.is_none() => {}
            Entry::Vacant(entry) => {
                // What was not there is at most known not to be there, which is hidden now, and true again once it is spent.
                if existed {
                    self.lately.remove(&outpoint);
                }
                self.changed_bytes = self.changed_bytes.saturating_add(memory_of(now.as_ref()));
                entry.insert(Changed { coin: now, is_fresh: !existed });
            }
        }
    }
}

impl Coins {
    pub(super) fn new(limits: UnflushedLimits) -> Self {
        Self { limits, read_bytes: AtomicUsize::new(0), memory: RwLock::default() }
    }

    fn is_flush_due(&self) -> bool {
        let (memory, limits) = (read(&self.memory), &self.limits);
        memory.blocks >= limits.blocks
            || memory.block_bytes >= limits.block_bytes
            || memory.changed_bytes >= limits.coin_bytes
    }
}

impl Store {
    /// How many coins that were read stay in memory, roughly.
    pub(crate) fn keep_coins(&self, coins: usize) {
        const TYPICAL_SCRIPT: usize = 30;
        self.coins.read_bytes.store(coins.saturating_mul(ENTRY_BYTES + TYPICAL_SCRIPT), Ordering::Relaxed);
    }

    /// The unspent output at the tip; `None` if it does not exist or is spent.
    pub fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        if let Some(coin) = read(&self.coins.memory).known(outpoint) {
            return Ok(coin.clone());
        }
        self.coin_row(outpoint)
    }

    fn coin_row(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        let Some(bytes) = self.get(family::COINS, &codec::outpoint_key(outpoint))? else { return Ok(None) };
        Coin::from_bytes(&bytes).map(Some).map_err(|_| self.corrupt("a coin"))
    }

    /// The unspent outputs at the tip, in the order asked for.
    pub(crate) fn coins(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, StoreError> {
        let mut coins = Vec::with_capacity(outpoints.len());
        let mut missing = Vec::new();
        {
            let memory = read(&self.coins.memory);
            for (place, outpoint) in outpoints.iter().enumerate() {
                let known = memory.known(outpoint);
                if known.is_none() {
                    missing.push(place);
                }
                coins.push(known.cloned().flatten());
            }
        }
        for place in missing {
            let (Some(outpoint), Some(coin)) = (outpoints.get(place), coins.get_mut(place)) else { continue };
            *coin = self.coin_row(outpoint)?;
        }
        Ok(coins)
    }

    /// [`coin`](Self::coin), which stays in memory. Only for who holds the chain: nobody else may be sure that what was read
    /// is still so when it is remembered.
    pub(crate) fn remembered_coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        let (known, is_aged) = {
            let memory = read(&self.coins.memory);
            let is_aged = || !memory.changed.contains_key(outpoint) && !memory.lately.young.contains_key(outpoint);
            let known = memory.known(outpoint).cloned();
            (known.clone(), known.is_some() && is_aged())
        };
        if let Some(coin) = &known
            && !is_aged
        {
            return Ok(coin.clone());
        }
        let coin = match known {
            Some(coin) => coin,
            None => self.coin_row(outpoint)?,
        };
        let limit = self.coins.read_bytes.load(Ordering::Relaxed);
        let lately = &mut write(&self.coins.memory).lately;
        lately.remove(outpoint);
        lately.insert(limit, *outpoint, coin.clone());
        Ok(coin)
    }

    /// The block to which the rows belong, if that is not the tip.
    pub(crate) fn coins_at(&self) -> Result<Option<BlockHash>, StoreError> {
        self.get(family::META, COINS_AT.as_bytes())?.map(|bytes| self.decode_hash(&bytes)).transpose()
    }

    /// Writes a step that adds blocks of so many bytes to the chain, synced; its coins are written when it is time.
    pub(crate) fn commit_growth(
        &self,
        mut batch: Batch,
        tip: &BlockHash,
        (blocks, block_bytes): (u32, usize),
        coins: impl Iterator<Item = (OutPoint, StepCoin)>,
    ) -> Result<(), NodeError> {
        let moving = lock(&self.staging.moving);
        let rows_at = match self.coins_at()? {
            Some(at) => at,
            None => self.tip()?.ok_or_else(|| self.corrupt("the tip"))?,
        };
        batch.set_tip(tip);
        batch.set_coins_at(&rows_at);
        self.commit(&batch, Durability::Synced)?;
        {
            let mut memory = write(&self.coins.memory);
            memory.tip = Some(*tip);
            memory.blocks = memory.blocks.saturating_add(blocks);
            memory.block_bytes = memory.block_bytes.saturating_add(block_bytes);
            coins.for_each(|(outpoint, coin)| memory.change(outpoint, coin));
        }
        if self.coins.is_flush_due() { self.flush(&moving) } else { Ok(()) }
    }

    /// Writes a step that takes blocks off the chain, with its coins, synced. All changes before it must be flushed.
    pub(crate) fn commit_turn(
        &self,
        mut batch: Batch,
        tip: &BlockHash,
        coins: impl Iterator<Item = (OutPoint, StepCoin)>,
    ) -> Result<(), NodeError> {
        let _moving = lock(&self.staging.moving);
        self.check_flushed()?;
        let mut coins: Vec<_> = coins.collect();
        // In the order of the database, whose memory takes neighbours faster than it takes one here and one there.
        coins.sort_unstable_by_key(|(outpoint, _)| *outpoint);
        for (outpoint, coin) in &coins {
            batch.put_coin(outpoint, coin.now.as_ref());
        }
        batch.set_tip(tip);
        batch.set_coins_at(tip);
        self.commit(&batch, Durability::Synced)?;
        let limit = self.coins.read_bytes.load(Ordering::Relaxed);
        let mut memory = write(&self.coins.memory);
        for (outpoint, coin) in coins {
            memory.lately.remove(&outpoint);
            memory.lately.insert(limit, outpoint, coin.now);
        }
        Ok(())
    }

    /// The rows have changed in more than is worth knowing.
    pub(crate) fn forget_coins(&self) {
        write(&self.coins.memory).lately = Lately::default();
    }

    /// Writes the coins that are not written yet.
    pub fn flush_coins(&self) -> Result<(), NodeError> {
        self.flush(&lock(&self.staging.moving))
    }

    /// Nobody adds a step meanwhile, and whoever reads coins goes on.
    pub(super) fn flush(&self, _moving: &std::sync::MutexGuard<'_, ()>) -> Result<(), NodeError> {
        {
            let memory = read(&self.coins.memory);
            let Some(tip) = memory.tip.filter(|_| memory.blocks > 0) else { return Ok(()) };
            let mut changed: Vec<_> = memory.changed.iter().collect();
            changed.sort_unstable_by_key(|(outpoint, _)| **outpoint);
            let mut batch = Batch::new(BatchKind::Coins);
            for (outpoint, changed) in changed {
                batch.put_coin(outpoint, changed.coin.as_ref());
                if batch.memory() >= FLUSHED_AT_ONCE {
                    self.commit(&std::mem::replace(&mut batch, Batch::new(BatchKind::Coins)), Durability::Buffered)?;
                }
            }
            batch.set_coins_at(&tip);
            self.commit(&batch, Durability::Buffered)?;
        }
        let limit = self.coins.read_bytes.load(Ordering::Relaxed);
        let memory = &mut *write(&self.coins.memory);
        (memory.blocks, memory.block_bytes, memory.changed_bytes) = (0, 0, 0);
        // The table keeps its room: as many will come again.
        for (outpoint, Changed { coin, .. }) in memory.changed.drain() {
            if coin.is_some() {
                memory.lately.insert(limit, outpoint, coin);
            }
        }
        Ok(())
    }

    fn check_flushed(&self) -> Result<(), NodeError> {
        match read(&self.coins.memory).blocks {
            0 => Ok(()),
            blocks => Err(NodeError::Invariant(format!("the coins of {blocks} blocks are not written"))),
        }
    }
}

impl Batch {
    /// The coins' rows are those after this block.
    pub(crate) fn set_coins_at(&mut self, hash: &BlockHash) {
        // A program that does not know of it would take the rows for those of the tip.
        self.put_meta("format", &FORMAT.to_le_bytes());
        self.put_meta(COINS_AT, hash.as_byte_array());
    }
}
