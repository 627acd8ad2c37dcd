//! The `channel.backup` file, which always names every channel in which something is at stake, and the return of a
//! channel from it.
//!
//! ```text
//!   channel established ──► file written anew (temporary, fsync, rename) ──► funding transaction broadcast
//!   the peer's is funded ─► file written anew: before that nothing stands behind it, and it costs a stranger nothing
//!   channel over ─────────► file written anew                    └─► whoever subscribed is told
//!   backup restored ──► Channel::recover ──► committed ──► its peer is dialled ──► it closes, `to_remote` is swept
//! ```
//!
//! Swaps of which something may be on a chain lie in it too, each as it was when something new was last at stake: see
//! [`super::swaps`]. A restored one goes on from there by what the blocks show.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bitcoin::{BlockHash, OutPoint};
use leyden_channels::{
    channel::{Backing, Channel, ChannelBackup, Event, Terms},
    swap,
    types::{ChannelId, NodeId, Side},
    wire::NodeAddress,
};
use leyden_common::files::write_new;
use secp256k1::PublicKey;
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::{
    gossip::{GossipEvent, OwnChannelState},
    peer::{Command, Peer, Slot},
    runtime,
    services::Services,
};
use crate::wallet::{
    backup::{BackupSeal, Contents, SealedBackupError, SwapBackup},
    keys::NodeKeys,
};

/// The backups of all channels, in memory and in the file.
pub(crate) struct Backups {
    seal: BackupSeal,
    path: PathBuf,
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    channels: BTreeMap<ChannelId, ChannelBackup>,
    swaps: BTreeMap<swap::Key, SwapBackup>,
}

/// All backups at one moment, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub singles: Vec<(OutPoint, Vec<u8>)>,
    pub all: Vec<u8>,
}

impl Backups {
    pub(crate) fn new(keys: &NodeKeys, genesis: BlockHash, path: PathBuf) -> Self {
        Self { seal: BackupSeal::new(keys, genesis), path, kept: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Begins with the channels and swaps that there are. A file that knows more than the database (which may have been lost
    /// alone) is never thrown away: what it has beside stays in it, unless `is_closed` or a swap `is_known`, and one that
    /// cannot be opened is set aside.
    pub(crate) fn begin(
        &self,
        now: Contents,
        is_closed: impl Fn(&OutPoint) -> bool,
        is_known: impl Fn(&swap::Key) -> bool,
    ) {
        let Contents { mut channels, swaps } = now;
        let mut all = self.lock();
        let before = self.kept();
        for backup in before.channels {
            let id = backup.terms.channel_id;
            if let Some(channel) = channels.iter_mut().find(|channel| channel.terms.channel_id == id) {
                let known = std::mem::take(&mut channel.addresses);
                channel.addresses =
                    known.iter().chain(backup.addresses.iter().filter(|one| !known.contains(one))).cloned().collect();
            } else if !is_closed(&backup.terms.funding) {
                warn!(channel = %backup.terms.funding, "this channel is only in the channel backup: `leyden restorechanbackup` recovers it");
                all.channels.insert(id, backup);
            }
        }
        for swap in before.swaps.into_iter().filter(|swap| !is_known(&swap.key)) {
            warn!(swap = ?swap.key, "this swap is only in the channel backup: `leyden restorechanbackup` takes it back");
            all.swaps.insert(swap.key, swap);
        }
        all.channels.extend(channels.into_iter().map(|backup| (backup.terms.channel_id, backup)));
        all.swaps.extend(swaps.into_iter().map(|swap| (swap.key, swap)));
        self.write(&all);
    }

    /// What the file has.
    fn kept(&self) -> Contents {
        let kept = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Contents::default(),
            Err(error) => Err(error.to_string()),
            Ok(sealed) => self.seal.open(&sealed).map_err(|error| error.to_string()),
        };
        kept.unwrap_or_else(|error| {
            let aside = (1_u32..).map(|number| self.path.with_extension(format!("backup.{number}")));
            if let Some(aside) = aside.into_iter().find(|path| !path.exists()) {
                warn!(%error, "the channel backup is set aside as {}", aside.display());
                let _ = fs::rename(&self.path, aside);
            }
            Contents::default()
        })
    }

    /// Enters a channel or what has changed about it. The file is durable when this returns.
    pub(crate) fn put(&self, backup: ChannelBackup) {
        let mut all = self.lock();
        let id = backup.terms.channel_id;
        if all.channels.get(&id) != Some(&backup) {
            all.channels.insert(id, backup);
            self.write(&all);
        }
    }

    /// Enters a swap, what has changed about it, or that nothing of it is at stake any more. The file is durable when this
    /// returns.
    pub(crate) fn put_swap(&self, key: swap::Key, backup: Option<SwapBackup>) {
        let mut all = self.lock();
        let before = match &backup {
            Some(backup) => all.swaps.insert(key, backup.clone()),
            None => all.swaps.remove(&key),
        };
        if before != backup {
            self.write(&all);
        }
    }

    pub(crate) fn remove(&self, id: &ChannelId) {
        let mut all = self.lock();
        if all.channels.remove(id).is_some() {
            self.write(&all);
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, SealedBackupError> {
        let all = self.lock();
        let single =
            |backup: &ChannelBackup| Ok::<_, SealedBackupError>((backup.terms.funding, self.seal.seal([backup], [])?));
        let singles = all.channels.values().map(single).collect::<Result<_, _>>()?;
        Ok(Snapshot { singles, all: self.seal.seal(all.channels.values(), all.swaps.values())? })
    }

    /// As many channels as fit into a blob of this size, the largest first, padded so that it tells nothing.
    pub(crate) fn padded(&self, size: usize) -> Result<Vec<u8>, SealedBackupError> {
        let all = self.lock();
        let mut channels: Vec<&ChannelBackup> = all.channels.values().collect();
        channels.sort_by_key(|backup| std::cmp::Reverse(backup.terms.capacity));
        self.seal.seal_padded(&channels, size)
    }

    /// Enters channels that only somebody else's copy of our backup has; the user decides whether to take them back.
    pub(crate) fn found(&self, channels: Vec<ChannelBackup>) {
        let mut all = self.lock();
        let before = all.channels.len();
        for backup in channels {
            all.channels.entry(backup.terms.channel_id).or_insert(backup);
        }
        let new = all.channels.len() - before;
        if new > 0 {
            warn!(
                "a peer has kept the backup of {new} channels that this node has lost: \
                `leyden restorechanbackup {}` takes them back",
                self.path.display()
            );
            self.write(&all);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Channels that are nowhere but in the backup.
    pub(crate) fn only_in_backup(&self, is_here: impl Fn(&ChannelId) -> bool) -> Vec<Terms> {
        let all = self.lock();
        all.channels.iter().filter(|(id, _)| !is_here(id)).map(|(_, backup)| backup.terms.clone()).collect()
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Contents, SealedBackupError> {
        self.seal.open(sealed)
    }

    /// Tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, all: &Kept) {
        let sealed = self.seal.seal(all.channels.values(), all.swaps.values());
        let written = sealed.map_err(|error| error.to_string()).and_then(|sealed| {
            write_new(&self.path, &sealed).map_err(|error| format!("{}: {error}", self.path.display()))
        });
        if let Err(error) = written {
            error!(%error, "the channel backup is out of date; it is written again with the next change");
        }
        self.changed.send_replace(());
    }
}

/// What came of a wish to restore a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    Yes,
    /// The channel is here, or it has ended.
    Known,
    Refused(String),
}

/// A channel to be restored, and who waits for the outcome.
pub(crate) struct Restore {
    pub backup: ChannelBackup,
    pub answer: oneshot::Sender<Restored>,
}

impl Services {
    /// Where a node can be reached: the address that we have `known`, then those that it announces.
    pub(crate) fn addresses_of(&self, node: &PublicKey, known: Option<String>) -> Vec<String> {
        let mut addresses: Vec<String> = known.into_iter().collect();
        let intake = self.gossip.intake();
        let graph = intake.graph();
        let announced =
            graph.info_of(&NodeId::from(*node)).map(|info| NodeAddress::parse_all(&info.addresses)).unwrap_or_default();
        for address in announced.iter().filter_map(NodeAddress::host_and_port) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The backup of a channel as it should be now.
    pub(crate) fn backup_of(&self, channel: &Channel) -> Option<ChannelBackup> {
        let node = channel.terms()?.remote_node.public_key().ok()?;
        channel.backup(self.addresses_of(&node, self.peers.address(&node)))
    }
}

impl Peer {
    /// Brings the backup of a channel up to date, before anything that follows from it happens.
    pub(super) async fn keep_backup(&self, id: ChannelId) {
        let Some(slot) = self.slots.get(&id) else { return };
        if slot.channel.backing() != Backing::Funded {
            return;
        }
        let Some(backup) = self.services.backup_of(&slot.channel) else { return };
        let services = Arc::clone(&self.services);
        if tokio::task::spawn_blocking(move || services.backups.put(backup)).await.is_err() {
            error!(channel = %self.point(&id), "the channel backup was not written");
        }
    }

    /// A channel of which only a backup is left.
    pub(super) fn restore_channel(&mut self, restore: Restore) {
        let Restore { backup, answer } = restore;
        let funding = backup.terms.funding;
        let outcome = self.try_restore(backup);
        if outcome == Restored::Yes {
            info!(channel = %funding, peer = %self.node_id, "restored from a backup: the peer is asked to close it");
        }
        let _ = answer.send(outcome);
    }

    fn try_restore(&mut self, backup: ChannelBackup) -> Restored {
        let id = backup.terms.channel_id;
        let Some(signer) = self.services.signer(&backup.terms.keys_id) else {
            return Restored::Refused("its keys cannot be made".into());
        };
        let (channel, outbox) = match Channel::recover(backup.clone(), signer, &self.services.ctx()) {
            Ok(recovered) => recovered,
            Err(error) => return Restored::Refused(error.to_string()),
        };
        let (peers, tip) = (&self.services.peers, self.services.tip());
        if self.slots.contains_key(&id) || peers.add_new_channel(id, self.node_id, Backing::Funded, tip).is_err() {
            return Restored::Known;
        }
        if let Some(state) = OwnChannelState::of(&channel) {
            self.services.gossip.tell(GossipEvent::Channel(Box::new(state)));
        }
        self.slots.insert(id, Slot::new(channel));
        self.push(id, self.connection_id(), outbox);
        self.services.backups.put(backup);
        self.note_cause(id, Side::Local, "only a backup of it was left, so the peer was asked to close it");
        if self.is_connected() {
            self.event(id, Event::Connected);
        }
        Restored::Yes
    }
}

/// Dials all addresses of a peer, again and again until one answers.
pub(crate) fn find_peer(services: &Arc<Services>, node_id: PublicKey, addresses: Vec<String>) {
    for address in addresses {
        runtime::keep_dialling(services, node_id, address);
    }
}

/// Sends a restore to its peer's task; gives the outcome.
pub(crate) async fn restore(services: &Arc<Services>, node_id: PublicKey, backup: ChannelBackup) -> Option<Restored> {
    let (answer, outcome) = oneshot::channel();
    runtime::tell_peer(services, node_id, Command::Restore(Box::new(Restore { backup, answer })));
    outcome.await.ok()
}
