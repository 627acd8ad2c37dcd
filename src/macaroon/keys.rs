//! More root keys beside the first, each under an id of its own: whoever deletes one takes back every token that was
//! made with it, and no other.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// By id; 0 is the node's first key, which lies in a file of its own.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct MoreKeys(BTreeMap<u64, String>);

impl MoreKeys {
    /// What is stored; nothing if there is no file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                let keys: Self = serde_json::from_slice(&bytes).map_err(|_| damaged(path))?;
                if keys.0.values().all(|key| read(key).is_some()) { Ok(keys) } else { Err(damaged(path)) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<[u8; 32]> {
        self.0.get(&id).and_then(|key| read(key))
    }

    pub(super) fn insert(&mut self, id: u64, key: [u8; 32]) {
        self.0.insert(id, hex::encode(key));
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.0.remove(&id).is_some()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.keys().copied()
    }

    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(io::Error::other)
    }
}

fn read(key: &str) -> Option<[u8; 32]> {
    hex::decode(key).ok()?.try_into().ok()
}

fn damaged(path: &Path) -> io::Error {
    let text = format!("{} is damaged: delete it, and bake the macaroons anew that were made with it", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}
