//! Transactions that this database knows for plain payments: only these are ever replaced by dearer ones.
//!
//! Any other transaction of the wallet may be what a channel stands on, of which a node that was restored from its words
//! knows nothing: a replacement of it would take the channel's output away.

use bitcoin::Txid;

use super::{Store, StoreError};

impl Store {
    /// To be noted before the transaction is broadcast.
    pub fn put_plain(&self, txid: &Txid) -> Result<(), StoreError> {
        self.put_history(&key(txid), &[])
    }

    /// Whether a transaction is one that the wallet made for a payment alone.
    pub fn is_plain(&self, txid: &Txid) -> Result<bool, StoreError> {
        Ok(self.history_entry(&key(txid))?.is_some())
    }
}

fn key(txid: &Txid) -> Vec<u8> {
    format!("plain {txid}").into_bytes()
}
