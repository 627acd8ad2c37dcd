//! Peer storage (BOLT 1): we keep a blob for a peer that has a channel with us, and it keeps our channel backup.
//!
//! ```text
//!   peer ──peer_storage──► written, once a minute at most       connected ──peer_storage_retrieval──► peer
//!   connected, or the backup has changed ──peer_storage──► peer
//!   peer ──peer_storage_retrieval──► channels that we have lost are entered into channel.backup
//! ```

use std::time::Duration;

use leyden_channels::{
    channel::{Backing, StateName},
    wire::{
        control::{PeerStorage, PeerStorageRetrieval},
        features::Feature,
    },
};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Peer, Slot};
use crate::wallet::backup::Contents;

/// How often what a peer wants to be kept is written.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);
/// BOLT 1: every blob has this size, so that it tells nothing.
pub(super) const BLOB_SIZE: usize = 65_531;

/// What the peer wants us to keep.
#[derive(Default)]
pub(super) struct StoredForPeer {
    written: Option<Instant>,
    /// Came too soon after the last one, or before the channel's funding.
    waiting: Option<Vec<u8>>,
}

impl Peer {
    /// A new connection, before `channel_reestablish`: what the peer has lost may be in what it gets back.
    pub(super) fn exchange_storage(&mut self) {
        let kept = match &self.stored_for_peer.waiting {
            Some(blob) if self.has_channel() => Ok(Some(blob.clone())),
            Some(_) | None => self.services.store.peer_storage(&self.node_id),
        };
        match kept {
            Ok(Some(blob)) => self.send(PeerStorageRetrieval { blob }),
            Ok(None) => {}
            Err(error) => warn!(peer = %self.node_id, %error, "the peer's storage blob cannot be read"),
        }
        self.send_backup();
    }

    /// Has the peer keep our channels' backup, if it offers that and has a channel with us.
    pub(super) fn send_backup(&mut self) {
        let offers = self
            .connection
            .as_ref()
            .is_some_and(|connected| connected.connection.features.supports(Feature::ProvideStorage));
        if !offers || !self.has_channel() || self.is_full_for(BLOB_SIZE) {
            return;
        }
        match self.services.backups.padded(BLOB_SIZE) {
            Ok(blob) => self.send(PeerStorage { blob }),
            Err(error) => warn!(peer = %self.node_id, %error, "the channel backup is not sent"),
        }
    }

    /// Keeps a peer's blob. One whose channel has no funding in a block yet waits for that in memory: the peer may have seen
    /// the block before us, and sends its blob once. Such channels are bounded, and so are these.
    pub(super) fn store_for_peer(&mut self, message: PeerStorage) {
        if self.slots.is_empty() || message.blob.len() > BLOB_SIZE {
            return;
        }
        self.stored_for_peer.waiting = Some(message.blob);
        self.write_peer_storage();
    }

    /// Writes what waits, if the last time is long enough ago.
    pub(super) fn write_peer_storage(&mut self) {
        if self.stored_for_peer.written.is_some_and(|at| at.elapsed() < WRITE_INTERVAL) || !self.has_channel() {
            return;
        }
        let Some(blob) = self.stored_for_peer.waiting.take() else { return };
        self.stored_for_peer.written = Some(Instant::now());
        if let Err(error) = self.services.store.put_peer_storage(&self.node_id, &blob) {
            warn!(peer = %self.node_id, %error, "the peer's storage blob could not be stored");
        }
    }

    /// What the peer has kept for us.
    pub(super) fn storage_came_back(&mut self, message: &PeerStorageRetrieval) {
        match self.services.backups.open(&message.blob) {
            Ok(Contents { channels, .. }) => {
                let services = &self.services;
                let is_lost = |channel: &leyden_channels::channel::ChannelBackup| {
                    services.peers.owner(&channel.terms.channel_id).is_none()
                        && matches!(services.store.closed_channel(&channel.terms.funding), Ok(None))
                };
                services.backups.found(channels.into_iter().filter(is_lost).collect());
            }
            // Another node's blob, or one that is damaged: we have asked for neither.
            Err(error) => debug!(peer = %self.node_id, %error, "what the peer kept for us cannot be opened"),
        }
    }

    /// One that costs nothing to have does not count.
    fn has_channel(&self) -> bool {
        let counts = |slot: &Slot| {
            let name = slot.channel.state_name();
            !matches!(name, StateName::Opening | StateName::Closed) && slot.channel.backing() == Backing::Funded
        };
        self.slots.values().any(counts)
    }
}
