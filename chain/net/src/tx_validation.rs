//! Transactions that wait for the mempool's verdict: a share for each peer, so that what one sends keeps nobody else's
//! out.

use std::collections::BTreeMap;

use bitcoin::{Transaction, Wtxid};

use crate::config::{MAX_TX_BYTES_IN_VALIDATION, MAX_TX_BYTES_IN_VALIDATION_PER_PEER, MAX_TXS_IN_VALIDATION_PER_PEER};
use crate::event::PeerId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    count: usize,
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TxValidation {
    /// Who brought a transaction, and its bytes.
    waiting: BTreeMap<Wtxid, (PeerId, usize)>,
    shares: BTreeMap<PeerId, Share>,
    bytes: usize,
}

impl TxValidation {
    pub(crate) fn contains(&self, wtxid: &Wtxid) -> bool {
        self.waiting.contains_key(wtxid)
    }

    /// Has the peer room for this transaction? One that has nothing waiting always has.
    pub(crate) fn has_room(&self, peer: PeerId, transaction: &Transaction) -> bool {
        let Some(share) = self.shares.get(&peer) else { return true };
        let bytes = transaction.total_size();
        share.count < MAX_TXS_IN_VALIDATION_PER_PEER
            && share.bytes.saturating_add(bytes) <= MAX_TX_BYTES_IN_VALIDATION_PER_PEER
            && self.bytes.saturating_add(bytes) <= MAX_TX_BYTES_IN_VALIDATION
    }

    /// False if it was waiting already.
    pub(crate) fn insert(&mut self, peer: PeerId, transaction: &Transaction) -> bool {
        let bytes = transaction.total_size();
        let wtxid = transaction.compute_wtxid();
        if self.contains(&wtxid) {
            return false;
        }
        self.waiting.insert(wtxid, (peer, bytes));
        let share = self.shares.entry(peer).or_default();
        share.count = share.count.saturating_add(1);
        share.bytes = share.bytes.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }

    /// The verdict is there. Returns who has brought the transaction.
    pub(crate) fn remove(&mut self, wtxid: &Wtxid) -> Option<PeerId> {
        let (peer, bytes) = self.waiting.remove(wtxid)?;
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(share) = self.shares.get_mut(&peer) {
            share.count = share.count.saturating_sub(1);
            share.bytes = share.bytes.saturating_sub(bytes);
            if share.count == 0 {
                self.shares.remove(&peer);
            }
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{Amount, ScriptBuf, TxOut, absolute, transaction};

    fn transaction(bytes: usize, lock: u32) -> Transaction {
        let script_pubkey = ScriptBuf::from_bytes(vec![0; bytes]);
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(lock),
            input: vec![],
            output: vec![TxOut { value: Amount::ZERO, script_pubkey }],
        }
    }

    #[test]
    fn a_peer_fills_its_own_share_and_nobody_else_s() {
        let mut validation = TxValidation::default();
        let mut sent = Vec::new();
        for lock in 0..200 {
            let transaction = transaction(100, lock);
            if validation.has_room(PeerId(1), &transaction) {
                assert!(validation.insert(PeerId(1), &transaction));
                sent.push(transaction.compute_wtxid());
            }
        }
        assert_eq!(sent.len(), MAX_TXS_IN_VALIDATION_PER_PEER);
        let large = transaction(390_000, 1);
        assert!(!validation.has_room(PeerId(1), &large) && validation.has_room(PeerId(2), &large));
        assert!(validation.insert(PeerId(2), &large) && !validation.insert(PeerId(1), &large));
        assert!(sent.iter().all(|wtxid| validation.remove(wtxid) == Some(PeerId(1))));
        assert!(validation.has_room(PeerId(1), &large));
    }

    #[test]
    fn all_peers_together_hold_so_many_bytes_and_one_transaction_each() {
        let mut validation = TxValidation::default();
        for peer in 0..500 {
            for number in 0..10 {
                let transaction = transaction(390_000, peer * 10 + number);
                let id = PeerId(u64::from(peer));
                if validation.has_room(id, &transaction) {
                    validation.insert(id, &transaction);
                }
            }
        }
        assert!(validation.bytes <= MAX_TX_BYTES_IN_VALIDATION + 500 * 400_000);
        assert_eq!(validation.shares.len(), 500);
        let waiting: Vec<Wtxid> = validation.waiting.keys().copied().collect();
        assert!(waiting.iter().all(|wtxid| validation.remove(wtxid).is_some()));
        assert_eq!((validation.bytes, validation.shares.len()), (0, 0));
    }
}
