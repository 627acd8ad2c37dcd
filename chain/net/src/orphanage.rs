//! Transactions whose parents are not known yet, and parents that pay too little by themselves. Both wait for their
//! relatives, in a bounded space.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

use crate::event::PeerId;

/// Transactions that one peer may have brought and that wait for their parents: as many as may be related in a mempool.
const MAX_ORPHANS_PER_PEER: usize = 64;
/// Their weight together (Bitcoin Core's 404,000): one of the largest.
const MAX_WEIGHT_PER_PEER: u64 = 404_000;
/// Those of all peers.
const MAX_ORPHANS: usize = 1_000;
/// Their weight: at most so many bytes.
const MAX_WEIGHT: u64 = 10_000_000;
/// Larger transactions than a mempool takes are not kept either (in weight units).
const MAX_ORPHAN_WEIGHT: u64 = 400_000;
/// Parents that wait for a child that pays for them.
const MAX_PARENTS: usize = 50;

#[derive(Clone, Debug)]
struct Orphan {
    transaction: Arc<Transaction>,
    peer: PeerId,
    expires: Duration,
}

/// What some of them take.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    count: usize,
    weight: u64,
}

impl Share {
    fn and(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), weight: self.weight.saturating_add(other.weight) }
    }
}

/// The waiting room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orphanage {
    orphans: BTreeMap<Wtxid, Orphan>,
    parents: VecDeque<Parent>,
}

/// A transaction that pays too little by itself. Its scripts were not run yet.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    txid: Txid,
    pub(crate) transaction: Arc<Transaction>,
    /// Who brought it.
    pub(crate) peer: PeerId,
}

impl Orphanage {
    /// Keeps a transaction until its parents come.
    pub(crate) fn add(&mut self, transaction: Arc<Transaction>, peer: PeerId, expires: Duration) {
        if transaction.weight().to_wu() > MAX_ORPHAN_WEIGHT {
            return;
        }
        let wtxid = transaction.compute_wtxid();
        if self.contains(&wtxid) {
            return;
        }
        self.orphans.insert(wtxid, Orphan { transaction, peer, expires });
        loop {
            let shares = self.shares();
            let total = shares.values().fold(Share::default(), |sum, share| sum.and(*share));
            let share = shares.get(&peer).copied().unwrap_or_default();
            let from = if share.count > MAX_ORPHANS_PER_PEER || share.weight > MAX_WEIGHT_PER_PEER {
                Some(peer)
            } else if total.count > MAX_ORPHANS || total.weight > MAX_WEIGHT {
                shares.into_iter().max_by_key(|(_, share)| share.weight).map(|(peer, _)| peer)
            } else {
                None
            };
            let Some(from) = from else { return };
            self.remove_oldest_of(from);
        }
    }

    fn shares(&self) -> BTreeMap<PeerId, Share> {
        let mut shares: BTreeMap<PeerId, Share> = BTreeMap::new();
        for orphan in self.orphans.values() {
            let share = shares.entry(orphan.peer).or_default();
            *share = share.and(Share { count: 1, weight: orphan.transaction.weight().to_wu() });
        }
        shares
    }

    fn remove_oldest_of(&mut self, peer: PeerId) {
        let of_peer = self.orphans.iter().filter(|(_, orphan)| orphan.peer == peer);
        if let Some(wtxid) = of_peer.min_by_key(|(_, orphan)| orphan.expires).map(|(wtxid, _)| *wtxid) {
            self.orphans.remove(&wtxid);
        }
    }

    /// All that wait for a parent, each with the peer that brought it.
    pub(crate) fn all(&self) -> impl Iterator<Item = (PeerId, &Arc<Transaction>)> {
        self.orphans.values().map(|orphan| (orphan.peer, &orphan.transaction))
    }

    pub(crate) fn contains(&self, wtxid: &Wtxid) -> bool {
        self.orphans.contains_key(wtxid)
    }

    /// Gives back the transactions that spend outputs of `parent`, with the peers that brought them.
    pub(crate) fn take_children(&mut self, parent: &Txid) -> Vec<(PeerId, Arc<Transaction>)> {
        let wtxids: Vec<Wtxid> = self
            .orphans
            .iter()
            .filter(|(_, orphan)| spends(&orphan.transaction, parent))
            .map(|(wtxid, _)| *wtxid)
            .collect();
        wtxids
            .iter()
            .filter_map(|wtxid| self.orphans.remove(wtxid))
            .map(|orphan| (orphan.peer, orphan.transaction))
            .collect()
    }

    /// Keeps a transaction whose fee is too low, in case that a child pays for it.
    pub(crate) fn add_parent(&mut self, transaction: Arc<Transaction>, peer: PeerId) {
        let txid = transaction.compute_txid();
        if self.parent(&txid).is_some() || transaction.weight().to_wu() > MAX_ORPHAN_WEIGHT {
            return;
        }
        if self.parents.len() >= MAX_PARENTS {
            self.parents.pop_front();
        }
        self.parents.push_back(Parent { txid, transaction, peer });
    }

    pub(crate) fn parent(&self, txid: &Txid) -> Option<&Parent> {
        self.parents.iter().find(|parent| parent.txid == *txid)
    }

    pub(crate) fn remove_parent(&mut self, txid: &Txid) {
        self.parents.retain(|parent| parent.txid != *txid);
    }

    pub(crate) fn expire(&mut self, now: Duration) {
        self.orphans.retain(|_, orphan| orphan.expires > now);
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        self.orphans.retain(|_, orphan| orphan.peer != peer);
    }

    /// The fee climate or the chain changed: what was too cheap is worth another try.
    pub(crate) fn forget_parents(&mut self) {
        self.parents.clear();
    }
}

fn spends(transaction: &Transaction, parent: &Txid) -> bool {
    transaction.input.iter().any(|input| {
        let OutPoint { txid, .. } = input.previous_output;
        txid == *parent
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{TxIn, absolute, transaction};

    fn child_of(parent: u8, lock: u32) -> Arc<Transaction> {
        Arc::new(Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(lock),
            input: vec![TxIn {
                previous_output: OutPoint::new(Txid::from_byte_array([parent; 32]), 0),
                ..TxIn::default()
            }],
            output: vec![],
        })
    }

    #[test]
    fn children_are_given_back_when_their_parent_comes() {
        let mut orphanage = Orphanage::default();
        let (one, two) = (child_of(1, 0), child_of(2, 0));
        orphanage.add(Arc::clone(&one), PeerId(1), Duration::from_secs(9));
        orphanage.add(two, PeerId(1), Duration::from_secs(9));
        assert_eq!(orphanage.all().filter(|(peer, _)| *peer == PeerId(1)).count(), 2);
        assert_eq!(orphanage.take_children(&Txid::from_byte_array([1; 32])), [(PeerId(1), one)]);
        assert!(orphanage.take_children(&Txid::from_byte_array([1; 32])).is_empty());
        orphanage.expire(Duration::from_secs(9));
        assert!(orphanage.orphans.is_empty());
    }

    #[test]
    fn one_peer_cannot_fill_the_room() {
        let mut orphanage = Orphanage::default();
        orphanage.add(child_of(7, 7), PeerId(2), Duration::from_secs(1));
        for lock in 0..200 {
            orphanage.add(child_of(1, lock), PeerId(1), Duration::from_secs(u64::from(lock) + 2));
        }
        assert_eq!(orphanage.orphans.len(), MAX_ORPHANS_PER_PEER + 1);
        assert!(orphanage.contains(&child_of(7, 7).compute_wtxid()));
        assert!(orphanage.contains(&child_of(1, 199).compute_wtxid()));
    }

    #[test]
    fn many_peers_together_fill_no_more_than_the_room_and_push_out_the_heaviest() {
        let mut orphanage = Orphanage::default();
        orphanage.add(child_of(7, 7), PeerId(1_000), Duration::from_secs(1));
        for peer in 0..100 {
            for lock in 0..30 {
                let id = PeerId(u64::from(peer));
                orphanage.add(child_of(1, peer * 30 + lock), id, Duration::from_secs(u64::from(lock) + 2));
            }
        }
        assert_eq!(orphanage.orphans.len(), MAX_ORPHANS);
        assert!(orphanage.contains(&child_of(7, 7).compute_wtxid()));
    }

    #[test]
    fn cheap_parents_are_few() {
        let mut orphanage = Orphanage::default();
        for lock in 0..100 {
            orphanage.add_parent(child_of(1, lock), PeerId(1));
        }
        assert_eq!(orphanage.parents.len(), MAX_PARENTS);
        assert!(orphanage.parent(&child_of(1, 99).compute_txid()).is_some());
        assert!(orphanage.parent(&child_of(1, 0).compute_txid()).is_none());
    }
}
