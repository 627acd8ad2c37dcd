//! How the rows of the cores are named, whichever core wrote them.

use leyden_channels::{channel::Key, crossing, swap};
use leyden_watchtower::client::record::ClientKey;

/// The name of a row of the table `core`. The cores' keys are apart by their first bytes, but for the states that a channel
/// queues for towers and the towers' client deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoreKey {
    Channels(Key),
    TowerClient(ClientKey),
    Swap(swap::Key),
    Crossing(crossing::Key),
}

impl CoreKey {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Channels(key) => key.encode(),
            Self::TowerClient(key) => key.encode(),
            Self::Swap(swap::Key::Swap(id)) => [&[SWAP], id.0.as_slice()].concat(),
            Self::Swap(swap::Key::Submarine(id)) => [&[SUBMARINE], id.0.as_slice()].concat(),
            Self::Crossing(crossing::Key::Crossing(hash)) => [&[CROSSING], hash.0.as_slice()].concat(),
            Self::Crossing(crossing::Key::Rate(pair)) => [&[CROSSING_RATE], pair.encode().as_slice()].concat(),
        }
    }
}

/// The first byte of a swap's row; the hash of its secret follows.
pub(crate) const SWAP: u8 = 0x40;

/// The first byte of a submarine swap's row; the hash of its secret follows.
pub(crate) const SUBMARINE: u8 = 0x41;
/// The first byte of a crossing's row; the hash of its payments follows.
pub(crate) const CROSSING: u8 = 0x48;

/// The first byte of a rate's row; the two networks follow.
pub(crate) const CROSSING_RATE: u8 = 0x49;

impl From<crossing::Key> for CoreKey {
    fn from(key: crossing::Key) -> Self {
        Self::Crossing(key)
    }
}

impl From<swap::Key> for CoreKey {
    fn from(key: swap::Key) -> Self {
        Self::Swap(key)
    }
}

impl From<Key> for CoreKey {
    fn from(key: Key) -> Self {
        Self::Channels(key)
    }
}

impl From<ClientKey> for CoreKey {
    fn from(key: ClientKey) -> Self {
        match key {
            // One name for one row: of several writes to it the last one counts.
            ClientKey::Queued { channel, number } => Self::Channels(Key::TowerBackup { channel, number }),
            key @ (ClientKey::Tower(_) | ClientKey::Coverage { .. }) => Self::TowerClient(key),
        }
    }
}
