//! What its owner has changed by a call in what the node says of itself: it holds over a restart, unless a setting says otherwise.

use leyden_channels::wire::NodeAddress;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

const KEY: &[u8] = b"announced";

/// What was never changed is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedAnnouncement {
    pub alias: Option<String>,
    /// Red, green, blue.
    pub color: Option<[u8; 3]>,
    pub addresses: Option<Vec<NodeAddress>>,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Record {
    alias: Option<String>,
    color: Option<[u8; 3]>,
    /// BOLT 7's descriptors, as hex.
    addresses: Option<String>,
}

impl Store {
    /// Durable when it returns.
    pub fn put_changed_announcement(&self, changed: &ChangedAnnouncement) -> Result<(), StoreError> {
        let descriptors = |addresses: &Vec<NodeAddress>| {
            let mut bytes = Vec::new();
            addresses.iter().for_each(|address| address.write(&mut bytes));
            hex::encode(bytes)
        };
        let record = Record {
            alias: changed.alias.clone(),
            color: changed.color,
            addresses: changed.addresses.as_ref().map(descriptors),
        };
        let bytes = serde_json::to_vec(&record).map_err(|error| self.damaged(&error.to_string()))?;
        self.put_history(KEY, &bytes)
    }

    /// Nothing, if nothing was ever changed.
    pub fn changed_announcement(&self) -> Result<ChangedAnnouncement, StoreError> {
        let Some(bytes) = self.history_entry(KEY)? else { return Ok(ChangedAnnouncement::default()) };
        let Record { alias, color, addresses } =
            serde_json::from_slice(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
        let read = |text: String| hex::decode(text).map(|bytes| NodeAddress::parse_all(&bytes));
        let addresses = addresses.map(read).transpose().map_err(|error| self.damaged(&error.to_string()))?;
        Ok(ChangedAnnouncement { alias, color, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_there_after_a_restart_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let addresses = vec![
            NodeAddress::Ipv4 { address: [192, 0, 2, 1], port: 9735 },
            NodeAddress::Dns { hostname: "node.example".to_owned(), port: 1 },
        ];
        let changed = ChangedAnnouncement { alias: Some("carol".to_owned()), color: None, addresses: Some(addresses) };
        {
            let store = Store::open(folder.path()).unwrap();
            assert_eq!(store.changed_announcement().unwrap(), ChangedAnnouncement::default());
            store.put_changed_announcement(&changed).unwrap();
        }
        assert_eq!(Store::open(folder.path()).unwrap().changed_announcement().unwrap(), changed);
    }
}
