//! What peers have asked us to keep for them (BOLT 1, Peer storage): one blob each, as it came.

use leyden_channels::types::Height;
use secp256k1::PublicKey;

use super::{Store, StoreError};

/// Blocks for which a blob is kept after the last channel with its owner.
const PEER_STORAGE_BLOCKS: u32 = 2016;

impl Store {
    /// Replaces what is kept for a peer.
    pub fn put_peer_storage(&self, node: &PublicKey, blob: &[u8]) -> Result<(), StoreError> {
        self.put_history(&blob_key(node), blob)
    }

    /// What a peer has left with this node (BOLT 1, peer storage).
    pub fn peer_storage(&self, node: &PublicKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.history_entry(&blob_key(node))
    }

    /// Forgets what is kept for nodes that have had no channel with us for long enough.
    pub fn forget_peer_storage(&self, tip: Height, has_channel: impl Fn(&PublicKey) -> bool) -> Result<(), StoreError> {
        for key in self.history_keys(BLOB)? {
            let node = key.get(BLOB.len()..).and_then(|bytes| PublicKey::from_slice(bytes).ok());
            let node = node.ok_or_else(|| self.damaged("the owner of a kept blob"))?;
            let since = self.history_entry(&since_key(&node))?;
            let since = since.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
            match (has_channel(&node), since) {
                (true, None) => {}
                (true, Some(_)) => self.remove_history(&since_key(&node))?,
                (false, None) => self.put_history(&since_key(&node), &tip.0.to_be_bytes())?,
                (false, Some(since)) if tip.0.saturating_sub(since) > PEER_STORAGE_BLOCKS => {
                    self.remove_history(&blob_key(&node))?;
                    self.remove_history(&since_key(&node))?;
                }
                (false, Some(_)) => {}
            }
        }
        Ok(())
    }
}

const BLOB: &[u8] = b"kept blob ";
const SINCE: &[u8] = b"kept since ";

fn blob_key(node: &PublicKey) -> Vec<u8> {
    [BLOB, &node.serialize()].concat()
}

fn since_key(node: &PublicKey) -> Vec<u8> {
    [SINCE, &node.serialize()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_outlives_the_last_channel_by_two_weeks_of_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let node = secp256k1::SecretKey::from_slice(&[3; 32]).unwrap().public_key(secp256k1::SECP256K1);
        store.put_peer_storage(&node, b"old").unwrap();
        store.put_peer_storage(&node, b"new").unwrap();
        let kept = || store.peer_storage(&node).unwrap();
        assert_eq!(kept().as_deref(), Some(&b"new"[..]));
        store.forget_peer_storage(Height(100), |_| false).unwrap();
        store.forget_peer_storage(Height(100 + PEER_STORAGE_BLOCKS), |_| false).unwrap();
        assert!(kept().is_some());
        // A new channel, and its end, begin the wait again.
        store.forget_peer_storage(Height(3000), |_| true).unwrap();
        store.forget_peer_storage(Height(3001), |_| false).unwrap();
        store.forget_peer_storage(Height(3000 + PEER_STORAGE_BLOCKS), |_| false).unwrap();
        assert!(kept().is_some());
        store.forget_peer_storage(Height(3002 + PEER_STORAGE_BLOCKS), |_| false).unwrap();
        assert!(kept().is_none());
    }
}
