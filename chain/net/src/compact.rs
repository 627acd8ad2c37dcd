//! A block out of a compact one (BIP 152, version 2).
//!
//! ```text
//!   header │ nonce │ short ids 6 bytes each │ prefilled transactions
//!                          │                        │
//!      mempool, extra ──▶ match ──▶ slots ◀─────────┘
//!                                    │ all found ──▶ block
//!                                    └ some missing ──▶ getblocktxn ──▶ blocktxn ──▶ block
//! ```
//!
//! A short id is 48 bits of the SipHash of a wtxid, with a key that the header and the nonce give. Two transactions may
//! share one by chance, so a wrong block here is nobody's fault: whether it is the block of its header shows when it is
//! checked, and if it is not, the whole block is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bitcoin::bip152::{HeaderAndShortIds, ShortId};
use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Transaction, Wtxid};

/// Transactions of one compact block: their indexes have 16 bits.
const MAX_TRANSACTIONS: usize = 1 << 16;
/// Transactions that are kept although the mempool does not have them (Bitcoin Core's 100).
const MAX_EXTRA: usize = 100;
/// The longest of those, in bytes: as long as any that a mempool takes, but for witnesses (Bitcoin Core's 100,000).
const MAX_EXTRA_BYTES: usize = 100_000;

/// Why a compact block is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// No node makes such a one.
    Malformed,
    /// Two of its transactions have the same short id.
    Collision,
}

/// A compact block while its transactions are looked for.
#[derive(Debug)]
pub(crate) struct Assembly {
    header: Header,
    keys: (u64, u64),
    slots: Vec<Option<Arc<Transaction>>>,
    wanted: BTreeMap<ShortId, Wanted>,
}

#[derive(Debug)]
struct Wanted {
    slot: usize,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Nothing,
    One(Wtxid, Arc<Transaction>),
    /// Several have its short id: which one is meant is not known.
    Several,
}

impl Assembly {
    pub(crate) fn new(compact: HeaderAndShortIds) -> Result<Self, Flaw> {
        let HeaderAndShortIds { header, nonce, short_ids, prefilled_txs } = compact;
        let count = short_ids.len().saturating_add(prefilled_txs.len());
        if count == 0 || count > MAX_TRANSACTIONS {
            return Err(Flaw::Malformed);
        }
        let mut slots = vec![None; count];
        let mut next = 0usize;
        for prefilled in prefilled_txs {
            // BIP 152: an index is told as its distance from the one before, less one.
            let index = next.saturating_add(usize::from(prefilled.idx));
            *slots.get_mut(index).ok_or(Flaw::Malformed)? = Some(Arc::new(prefilled.tx));
            next = index.saturating_add(1);
        }
        let free = slots.iter().enumerate().filter(|(_, slot)| slot.is_none()).map(|(index, _)| index);
        let mut wanted = BTreeMap::new();
        for (id, slot) in short_ids.into_iter().zip(free) {
            if wanted.insert(id, Wanted { slot, found: Found::Nothing }).is_some() {
                return Err(Flaw::Collision);
            }
        }
        let keys = ShortId::calculate_siphash_keys(&header, nonce);
        Ok(Self { header, keys, slots, wanted })
    }

    /// A transaction that may be one of the block's.
    pub(crate) fn offer(&mut self, wtxid: &Wtxid, transaction: &Arc<Transaction>) {
        let id = ShortId::with_siphash_keys(&wtxid.to_raw_hash(), self.keys);
        self.offer_as(&id, wtxid, transaction);
    }

    fn offer_as(&mut self, id: &ShortId, wtxid: &Wtxid, transaction: &Arc<Transaction>) {
        let Some(wanted) = self.wanted.get_mut(id) else { return };
        match &wanted.found {
            Found::Nothing => wanted.found = Found::One(*wtxid, Arc::clone(transaction)),
            Found::One(known, _) if known == wtxid => {}
            Found::One(..) => wanted.found = Found::Several,
            Found::Several => {}
        }
    }

    /// No more are offered.
    pub(crate) fn finish(self) -> PartialBlock {
        let Self { header, mut slots, wanted, keys: _ } = self;
        for Wanted { slot, found } in wanted.into_values() {
            if let (Found::One(_, transaction), Some(slot)) = (found, slots.get_mut(slot)) {
                *slot = Some(transaction);
            }
        }
        PartialBlock { hash: header.block_hash(), header, slots }
    }
}

/// A block some of whose transactions may be missing.
#[derive(Clone, Debug)]
pub(crate) struct PartialBlock {
    hash: BlockHash,
    header: Header,
    slots: Vec<Option<Arc<Transaction>>>,
}

impl PartialBlock {
    pub(crate) fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The indexes of the transactions that are to be asked for.
    pub(crate) fn missing(&self) -> Vec<u64> {
        (0u64..).zip(&self.slots).filter(|(_, slot)| slot.is_none()).map(|(index, _)| index).collect()
    }

    /// The block, if these are as many as are missing. They are taken in the order of the indexes.
    pub(crate) fn complete(self, missing: Vec<Transaction>) -> Option<Block> {
        let mut missing = missing.into_iter();
        let mut txdata = Vec::with_capacity(self.slots.len());
        for slot in self.slots {
            txdata.push(match slot {
                Some(transaction) => Arc::unwrap_or_clone(transaction),
                None => missing.next()?,
            });
        }
        missing.next().is_none().then_some(Block { header: self.header, txdata })
    }
}

/// Transactions that the mempool does not have, although others may: refused, replaced, or without their parents.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExtraTransactions(VecDeque<(Wtxid, Arc<Transaction>)>);

impl ExtraTransactions {
    pub(crate) fn add(&mut self, transaction: &Arc<Transaction>) {
        if transaction.total_size() > MAX_EXTRA_BYTES {
            return;
        }
        if self.0.len() >= MAX_EXTRA {
            self.0.pop_front();
        }
        self.0.push_back((transaction.compute_wtxid(), Arc::clone(transaction)));
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &(Wtxid, Arc<Transaction>)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::bip152::PrefilledTransaction;
    use bitcoin::constants::genesis_block;
    use bitcoin::{Network, absolute, transaction};

    fn transaction(lock: u32) -> Arc<Transaction> {
        Arc::new(Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(lock),
            input: vec![],
            output: vec![],
        })
    }

    /// A block of the genesis block's header and so many transactions more.
    fn block(count: u32) -> Block {
        let mut block = genesis_block(Network::Regtest);
        block.txdata.extend((1..=count).map(|lock| Arc::unwrap_or_clone(transaction(lock))));
        block
    }

    fn compact(block: &Block) -> HeaderAndShortIds {
        HeaderAndShortIds::from_block(block, 7, 2, &[]).unwrap()
    }

    fn offer(assembly: &mut Assembly, transaction: &Arc<Transaction>) {
        assembly.offer(&transaction.compute_wtxid(), transaction);
    }

    #[test]
    fn a_block_whose_transactions_are_all_known_is_whole_at_once() {
        let block = block(5);
        let mut assembly = Assembly::new(compact(&block)).unwrap();
        // In any order, twice, and with others among them.
        for lock in [9, 5, 3, 4, 3, 1, 2, 8] {
            offer(&mut assembly, &transaction(lock));
        }
        let partial = assembly.finish();
        assert_eq!((partial.missing(), partial.hash()), (vec![], block.block_hash()));
        assert_eq!(partial.complete(vec![]), Some(block));
    }

    #[test]
    fn what_is_missing_is_named_and_comes_in_its_order() {
        let block = block(5);
        let mut assembly = Assembly::new(compact(&block)).unwrap();
        for lock in [1, 3, 4] {
            offer(&mut assembly, &transaction(lock));
        }
        let partial = assembly.finish();
        assert_eq!(partial.missing(), [2, 5]);
        let sent = |locks: &[u32]| locks.iter().map(|lock| Arc::unwrap_or_clone(transaction(*lock))).collect();
        assert_eq!(partial.clone().complete(sent(&[2, 5])), Some(block));
        assert_eq!(partial.clone().complete(sent(&[2])), None, "too few");
        assert_eq!(partial.complete(sent(&[2, 5, 5])), None, "too many");
    }

    #[test]
    fn of_two_transactions_with_the_same_short_id_neither_is_taken() {
        let block = block(2);
        let compact = compact(&block);
        let id = compact.short_ids[1];
        let mut assembly = Assembly::new(compact).unwrap();
        for lock in [1, 2] {
            offer(&mut assembly, &transaction(lock));
        }
        let stranger = transaction(99);
        assembly.offer_as(&id, &stranger.compute_wtxid(), &stranger);
        // Nor a third one.
        offer(&mut assembly, &transaction(2));
        assert_eq!(assembly.finish().missing(), [2]);
    }

    #[test]
    fn prefilled_transactions_stand_where_their_differences_say() {
        let block = block(4);
        let mut message = compact(&block);
        // All but the second: 0, 2, 3, 4 are told as 0, 1, 0, 0.
        let prefilled = [(0, 0), (2, 1), (3, 0), (4, 0)];
        message.prefilled_txs = prefilled
            .iter()
            .map(|(index, idx)| PrefilledTransaction { idx: *idx, tx: block.txdata[*index].clone() })
            .collect();
        message.short_ids.truncate(1);
        let mut assembly = Assembly::new(message).unwrap();
        offer(&mut assembly, &transaction(1));
        assert_eq!(assembly.finish().complete(vec![]), Some(block));
    }

    #[test]
    fn what_no_node_makes_is_malformed_and_equal_short_ids_are_a_collision() {
        let good = compact(&block(2));
        let flaw = |change: &dyn Fn(&mut HeaderAndShortIds)| {
            let mut message = good.clone();
            change(&mut message);
            Assembly::new(message).err()
        };
        assert_eq!(flaw(&|_| {}), None);
        let empty = flaw(&|message| {
            message.short_ids.clear();
            message.prefilled_txs.clear();
        });
        assert_eq!(empty, Some(Flaw::Malformed));
        assert_eq!(flaw(&|message| message.prefilled_txs[0].idx = 2), None, "the last place");
        assert_eq!(flaw(&|message| message.prefilled_txs[0].idx = 3), Some(Flaw::Malformed));
        assert_eq!(flaw(&|message| message.prefilled_txs[0].idx = u16::MAX), Some(Flaw::Malformed));
        let twice = flaw(&|message| {
            let mut second = message.prefilled_txs[0].clone();
            second.idx = u16::MAX;
            message.prefilled_txs.push(second);
        });
        assert_eq!(twice, Some(Flaw::Malformed));
        let many = |count: usize| flaw(&|message| message.short_ids = vec![ShortId::default(); count]);
        assert_eq!(many(1 << 16), Some(Flaw::Malformed));
        assert_eq!(many(2), Some(Flaw::Collision));
    }

    #[test]
    fn few_and_short_extra_transactions_are_kept_the_newest_of_them() {
        let mut extra = ExtraTransactions::default();
        for lock in 0..250 {
            extra.add(&transaction(lock));
        }
        let kept: Vec<Wtxid> = extra.iter().map(|(wtxid, _)| *wtxid).collect();
        let newest: Vec<Wtxid> = (150..250).map(|lock| transaction(lock).compute_wtxid()).collect();
        assert_eq!(kept, newest);
        let mut long = Arc::unwrap_or_clone(transaction(0));
        let script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0; MAX_EXTRA_BYTES]);
        long.output.push(bitcoin::TxOut { value: bitcoin::Amount::ZERO, script_pubkey });
        extra.add(&Arc::new(long));
        assert_eq!(extra.iter().next_back().map(|(wtxid, _)| *wtxid), kept.last().copied());
    }
}
