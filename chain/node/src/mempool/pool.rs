//! The graph: which transaction spends which, with exact sums over ancestors and descendants.
//!
//! Everything here is bookkeeping. What may come in is decided by [`super::accept`], what has to go when memory runs
//! out by [`super::eviction`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{Amount, Block, OutPoint, Transaction, Txid, Wtxid};

use super::rate::Rate;

/// A transaction of the pool.
#[derive(Clone, Debug)]
pub struct Entry {
    /// With its witnesses.
    pub transaction: Arc<Transaction>,
    /// Its id without witnesses.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// What it pays by itself.
    pub fee: Amount,
    /// What it counts as paying, here and in all sums: the fee with what the user has added ([`Mempool::prioritise`]).
    pub modified_fee: Amount,
    /// Weight units (BIP 141).
    pub weight: u64,
    /// The weight, or what its signature operations are worth if that is more, in virtual bytes.
    pub virtual_bytes: u64,
    /// The cost of its signature operations (BIP 141).
    pub sigop_cost: u64,
    /// Seconds since 1970 at which it was accepted.
    pub time: u64,
    /// Its place in the order of acceptance; parents come before children.
    pub sequence: u64,
    /// Bytes of memory that count against the cap.
    pub memory: usize,
    /// Those in the pool that it spends from.
    pub parents: BTreeSet<Txid>,
    /// Those in the pool that spend from it.
    pub children: BTreeSet<Txid>,
    /// Over itself and all its unconfirmed ancestors.
    pub ancestors: Totals,
    /// Over itself and all its unconfirmed descendants.
    pub descendants: Totals,
}

/// Sums over a set of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many there are.
    pub count: usize,
    /// What they pay together.
    pub fee: Amount,
    /// Their virtual bytes, by signature operations where those count more.
    pub virtual_bytes: u64,
    /// Their weight units.
    pub weight: u64,
    /// The cost of their signature operations.
    pub sigop_cost: u64,
}

impl Totals {
    /// Their fees over their virtual bytes.
    pub fn rate(&self) -> Rate {
        Rate::new(self.fee, self.virtual_bytes)
    }

    /// Saturating: fees of valid transactions sum to far less than 2^64, and sizes are bounded by memory.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.fee = self.fee.checked_add(other.fee).unwrap_or(Amount::MAX);
        self.virtual_bytes = self.virtual_bytes.saturating_add(other.virtual_bytes);
        self.weight = self.weight.saturating_add(other.weight);
        self.sigop_cost = self.sigop_cost.saturating_add(other.sigop_cost);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.count = self.count.saturating_sub(other.count);
        self.fee = self.fee.checked_sub(other.fee).unwrap_or(Amount::ZERO);
        self.virtual_bytes = self.virtual_bytes.saturating_sub(other.virtual_bytes);
        self.weight = self.weight.saturating_sub(other.weight);
        self.sigop_cost = self.sigop_cost.saturating_sub(other.sigop_cost);
    }
}

impl Entry {
    /// Of this transaction alone.
    pub fn totals(&self) -> Totals {
        Totals {
            count: 1,
            fee: self.modified_fee,
            virtual_bytes: self.virtual_bytes,
            weight: self.weight,
            sigop_cost: self.sigop_cost,
        }
    }

    /// What it pays in truth, for the sums over the whole pool.
    fn paid(&self) -> Totals {
        Totals { fee: self.fee, ..self.totals() }
    }

    /// What it counts as paying over its virtual bytes, whatever its relatives pay.
    pub fn rate(&self) -> Rate {
        Rate::new(self.modified_fee, self.virtual_bytes)
    }

    /// What is lost by evicting it with its descendants, per byte: the better of its own rate and that of all of them.
    fn eviction_rate(&self) -> Rate {
        self.rate().max(self.descendants.rate())
    }
}

/// What a new entry is made of; the pool fills in the rest.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// With its witnesses.
    pub transaction: Arc<Transaction>,
    /// Its id without witnesses.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// What it pays by itself.
    pub fee: Amount,
    /// Weight units (BIP 141).
    pub weight: u64,
    /// The weight, or what its signature operations are worth if that is more, in virtual bytes.
    pub virtual_bytes: u64,
    /// The cost of its signature operations (BIP 141).
    pub sigop_cost: u64,
    /// Seconds since 1970 at which it was accepted.
    pub time: u64,
}

impl NewEntry {
    /// Its own fee over its virtual bytes.
    pub fn rate(&self) -> Rate {
        Rate::new(self.fee, self.virtual_bytes)
    }
}

/// The set of waiting transactions.
#[derive(Clone, Debug, Default)]
pub struct Mempool {
    entries: HashMap<Txid, Entry>,
    by_wtxid: HashMap<Wtxid, Txid>,
    spends: HashMap<OutPoint, (Txid, u32)>,
    order: BTreeMap<u64, Txid>,
    cheapest: BTreeSet<(Rate, u64)>,
    next_sequence: u64,
    totals: Totals,
    memory: usize,
    pub(super) floor: super::floor::Floor,
    pub(super) priorities: super::priorities::Priorities,
}

/// What the arrival of a block did to the pool.
#[derive(Clone, Debug, Default)]
pub struct Confirmed {
    /// Entries that the block holds.
    pub mined: Vec<Entry>,
    /// Entries that spend what the block spends otherwise, and their descendants.
    pub conflicts: Vec<Entry>,
}

impl Mempool {
    /// How many transactions wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Over the whole pool.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Approximate bytes of memory, which is what the cap counts.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The transaction with this id.
    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    /// Whether a transaction with this id waits, with whatever witnesses.
    pub fn contains(&self, txid: &Txid) -> bool {
        self.entries.contains_key(txid)
    }

    /// The transaction with this id and these witnesses.
    pub fn by_wtxid(&self, wtxid: &Wtxid) -> Option<&Entry> {
        self.by_wtxid.get(wtxid).and_then(|txid| self.entries.get(txid))
    }

    /// The transaction of the pool that spends the output, and by which of its inputs.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<(Txid, u32)> {
        self.spends.get(outpoint).copied()
    }

    /// The output that a transaction of the pool creates there.
    pub fn output(&self, outpoint: &OutPoint) -> Option<&bitcoin::TxOut> {
        let entry = self.entries.get(&outpoint.txid)?;
        entry.transaction.output.get(usize::try_from(outpoint.vout).ok()?)
    }

    /// All entries in the order of acceptance: parents come before children.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.order.values().filter_map(|txid| self.entries.get(txid))
    }

    /// The entries that `transaction` spends directly.
    pub fn parents_of(&self, transaction: &Transaction) -> BTreeSet<Txid> {
        let spent = transaction.input.iter().map(|input| input.previous_output.txid);
        spent.filter(|txid| self.entries.contains_key(txid)).collect()
    }

    /// `start` and everything that they spend in the pool, directly or not.
    pub fn with_ancestors(&self, start: &BTreeSet<Txid>) -> BTreeSet<Txid> {
        self.closure(start, |entry| &entry.parents)
    }

    /// `start` and everything in the pool that spends them, directly or not.
    pub fn with_descendants(&self, start: &BTreeSet<Txid>) -> BTreeSet<Txid> {
        self.closure(start, |entry| &entry.children)
    }

    fn closure(&self, start: &BTreeSet<Txid>, next: impl Fn(&Entry) -> &BTreeSet<Txid>) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut queue: Vec<Txid> = start.iter().copied().collect();
        while let Some(txid) = queue.pop() {
            let Some(entry) = self.entries.get(&txid) else { continue };
            if found.insert(txid) {
                queue.extend(next(entry).iter().copied().filter(|other| !found.contains(other)));
            }
        }
        found
    }

    /// Over everything that is related to one of `start` by whatever way that does not lead through `without`. No more is
    /// looked at once there are more than `most`.
    pub fn cluster(&self, start: &BTreeSet<Txid>, without: &BTreeSet<Txid>, most: usize) -> Totals {
        let mut sums = Totals::default();
        let mut found = BTreeSet::new();
        let mut queue: Vec<Txid> = start.iter().copied().collect();
        while let Some(txid) = queue.pop()
            && sums.count <= most
        {
            let Some(entry) = self.entries.get(&txid).filter(|_| !without.contains(&txid)) else { continue };
            if found.insert(txid) {
                sums.add(&entry.totals());
                queue.extend(entry.parents.iter().chain(&entry.children).filter(|other| !found.contains(*other)));
            }
        }
        sums
    }

    /// Adds a transaction that spends nothing which the pool spends already, and none of whose outputs the pool
    /// spends. [`super::accept`] has made sure of both.
    pub fn insert(&mut self, new: NewEntry) {
        let NewEntry { transaction, txid, wtxid, fee, weight, virtual_bytes, sigop_cost, time } = new;
        if self.entries.contains_key(&txid) {
            return;
        }
        let parents = self.parents_of(&transaction);
        let ancestors = self.with_ancestors(&parents);
        let memory = memory_of(&transaction);
        let sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.saturating_add(1);
        let mut entry = Entry {
            transaction,
            txid,
            wtxid,
            fee,
            modified_fee: self.modified_fee(&txid, fee),
            weight,
            virtual_bytes,
            sigop_cost,
            time,
            sequence,
            memory,
            parents,
            children: BTreeSet::new(),
            ancestors: Totals::default(),
            descendants: Totals::default(),
        };
        let own = entry.totals();
        entry.ancestors = own;
        entry.descendants = own;
        for ancestor in &ancestors {
            if let Some(ancestor) = self.entries.get(ancestor) {
                entry.ancestors.add(&ancestor.totals());
            }
            self.change(ancestor, |ancestor| ancestor.descendants.add(&own));
        }
        for parent in &entry.parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                parent.children.insert(txid);
            }
        }
        for (index, input) in (0u32..).zip(&entry.transaction.input) {
            self.spends.insert(input.previous_output, (txid, index));
        }
        self.totals.add(&entry.paid());
        self.memory = self.memory.saturating_add(memory);
        self.by_wtxid.insert(wtxid, txid);
        self.order.insert(sequence, txid);
        self.cheapest.insert((entry.eviction_rate(), sequence));
        self.entries.insert(txid, entry);
    }

    /// Changes an entry's sums and keeps the eviction order in step.
    fn change(&mut self, txid: &Txid, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(txid) else { return };
        self.cheapest.remove(&(entry.eviction_rate(), entry.sequence));
        change(entry);
        self.cheapest.insert((entry.eviction_rate(), entry.sequence));
    }

    /// Changes what an entry counts as paying, in all sums.
    pub(super) fn set_modified_fee(&mut self, txid: &Txid, fee: Amount) {
        let single = BTreeSet::from([*txid]);
        let (ancestors, descendants) = (self.with_ancestors(&single), self.with_descendants(&single));
        let Some(before) = self.entries.get(txid).map(Entry::totals) else { return };
        let after = Totals { fee, ..before };
        self.change(txid, |entry| entry.modified_fee = fee);
        for relative in &ancestors {
            self.change(relative, |entry| {
                entry.descendants.subtract(&before);
                entry.descendants.add(&after);
            });
        }
        for relative in &descendants {
            self.change(relative, |entry| {
                entry.ancestors.subtract(&before);
                entry.ancestors.add(&after);
            });
        }
    }

    /// Takes one entry out. Either its ancestors or its descendants have left before.
    fn remove_one(&mut self, txid: &Txid) -> Option<Entry> {
        let single = BTreeSet::from([*txid]);
        let ancestors = self.with_ancestors(&single);
        let descendants = self.with_descendants(&single);
        let entry = self.entries.remove(txid)?;
        self.cheapest.remove(&(entry.eviction_rate(), entry.sequence));
        let own = entry.totals();
        for ancestor in ancestors.iter().filter(|other| *other != txid) {
            self.change(ancestor, |ancestor| ancestor.descendants.subtract(&own));
        }
        for descendant in descendants.iter().filter(|other| *other != txid) {
            self.change(descendant, |descendant| descendant.ancestors.subtract(&own));
        }
        for parent in &entry.parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                parent.children.remove(txid);
            }
        }
        for child in &entry.children {
            if let Some(child) = self.entries.get_mut(child) {
                child.parents.remove(txid);
            }
        }
        for input in &entry.transaction.input {
            self.spends.remove(&input.previous_output);
        }
        self.totals.subtract(&entry.paid());
        self.memory = self.memory.saturating_sub(entry.memory);
        self.by_wtxid.remove(&entry.wtxid);
        self.order.remove(&entry.sequence);
        Some(entry)
    }

    /// Takes the transactions out with everything that spends them; children come first in the answer.
    pub fn remove_with_descendants(&mut self, start: &BTreeSet<Txid>) -> Vec<Entry> {
        let doomed = self.with_descendants(start);
        let mut order: Vec<(u64, Txid)> =
            doomed.iter().filter_map(|txid| self.entries.get(txid)).map(|entry| (entry.sequence, entry.txid)).collect();
        order.sort_unstable_by(|left, right| right.cmp(left));
        order.iter().filter_map(|(_, txid)| self.remove_one(txid)).collect()
    }

    /// Takes everything out, parents first.
    pub fn drain(&mut self) -> Vec<Entry> {
        let order = std::mem::take(&mut self.order);
        let mut entries = std::mem::take(&mut self.entries);
        let drained = order.values().filter_map(|txid| entries.remove(txid)).collect();
        let priorities = std::mem::take(&mut self.priorities);
        *self = Self { next_sequence: self.next_sequence, floor: self.floor, priorities, ..Self::default() };
        drained
    }

    /// The block is part of the active chain now: its transactions leave, and so does what conflicts with them.
    pub fn confirm(&mut self, block: &Block, txids: &[Txid]) -> Confirmed {
        let mut result = Confirmed::default();
        for (transaction, txid) in block.txdata.iter().zip(txids) {
            self.priorities.forget(txid);
            if self.entries.is_empty() {
                continue;
            }
            result.mined.extend(self.remove_one(txid));
            let conflicts: BTreeSet<Txid> = transaction
                .input
                .iter()
                .filter_map(|input| self.spender(&input.previous_output))
                .map(|(txid, _)| txid)
                .collect();
            if !conflicts.is_empty() {
                result.conflicts.extend(self.remove_with_descendants(&conflicts));
            }
        }
        result
    }

    /// Entries accepted before `time`, and all that spend them.
    pub fn expire(&mut self, time: u64) -> Vec<Entry> {
        let old = self.entries.values().filter(|entry| entry.time < time).map(|entry| entry.txid).collect();
        self.remove_with_descendants(&old)
    }

    /// The entry whose removal, with its descendants, loses the least fee per byte.
    pub(super) fn cheapest(&self) -> Option<&Entry> {
        let (_, sequence) = self.cheapest.first()?;
        self.entries.get(self.order.get(sequence)?)
    }

    /// Recomputes everything from the transactions alone and compares. For tests.
    pub fn check(&self) -> Result<(), String> {
        let mut totals = Totals::default();
        let mut memory = 0usize;
        let mut spends = HashMap::new();
        for entry in self.entries.values() {
            let txid = entry.txid;
            totals.add(&entry.paid());
            memory += entry.memory;
            for (index, input) in (0u32..).zip(&entry.transaction.input) {
                if spends.insert(input.previous_output, (txid, index)).is_some() {
                    return Err(format!("{} is spent twice", input.previous_output));
                }
            }
            if entry.parents != self.parents_of(&entry.transaction) {
                return Err(format!("parents of {txid}"));
            }
            for (set, sums) in [
                (self.with_ancestors(&BTreeSet::from([txid])), entry.ancestors),
                (self.with_descendants(&BTreeSet::from([txid])), entry.descendants),
            ] {
                let mut wanted = Totals::default();
                set.iter().filter_map(|txid| self.entries.get(txid)).for_each(|entry| wanted.add(&entry.totals()));
                if wanted != sums {
                    return Err(format!("sums of {txid}: {sums:?}, wanted {wanted:?}"));
                }
            }
            for parent in &entry.parents {
                let parent = self.entries.get(parent).ok_or_else(|| format!("a parent of {txid} is gone"))?;
                if !parent.children.contains(&txid) || parent.sequence >= entry.sequence {
                    return Err(format!("{} and its child {txid}", parent.txid));
                }
            }
            if !self.cheapest.contains(&(entry.eviction_rate(), entry.sequence)) {
                return Err(format!("eviction order of {txid}"));
            }
        }
        let sizes = [self.by_wtxid.len(), self.order.len(), self.cheapest.len()];
        if spends != self.spends || totals != self.totals || memory != self.memory || sizes != [self.entries.len(); 3] {
            return Err("indexes or totals".into());
        }
        Ok(())
    }
}

/// What a transaction takes in memory, roughly: its bytes, and what its parts and the pool's indexes add.
fn memory_of(transaction: &Transaction) -> usize {
    const ENTRY: usize = 800;
    const PART: usize = 120;
    let parts = transaction.input.len().saturating_add(transaction.output.len());
    transaction.total_size().saturating_add(ENTRY).saturating_add(parts.saturating_mul(PART))
}
