//! Who is there: the mailbox of each peer's task, whose channel is which, and whom to dial again.
//!
//! A task exists for each node that is connected or has a channel with us; its mailbox is the one way to its channels. A
//! task without either ends, so that strangers who come and go leave nothing behind.

use std::{
    collections::{HashMap, HashSet, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use leyden_channels::types::ChannelId;
use secp256k1::PublicKey;
use tokio::sync::mpsc;

use super::{backoff::Backoff, peer::Command};

/// The register of peers; clones share it.
#[derive(Clone, Default)]
pub struct Peers {
    register: Arc<Mutex<Register>>,
}

#[derive(Default)]
struct Register {
    peers: HashMap<PublicKey, Entry>,
    owners: HashMap<ChannelId, PublicKey>,
}

struct Entry {
    mailbox: mpsc::UnboundedSender<Command>,
    connected: bool,
    /// Where it was last reached by us.
    address: Option<String>,
    /// A task is dialling it.
    dialling: bool,
    backoff: Backoff,
}

impl Peers {
    /// Enters a peer; `start` makes its task if there is none. A `command` reaches the task in any case.
    pub fn enter(
        &self,
        node_id: PublicKey,
        start: impl FnOnce() -> mpsc::UnboundedSender<Command>,
        command: Option<Command>,
    ) {
        let mut register = self.lock();
        let entry = register.peers.entry(node_id).or_insert_with(|| Entry {
            mailbox: start(),
            connected: false,
            address: None,
            dialling: false,
            backoff: Backoff::default(),
        });
        if let Some(command) = command {
            entry.connected |= matches!(command, Command::Connected(_));
            // The task ends only after it has left this register.
            let _ = entry.mailbox.send(command);
        }
    }

    pub fn get(&self, node_id: &PublicKey) -> Option<mpsc::UnboundedSender<Command>> {
        self.lock().peers.get(node_id).map(|entry| entry.mailbox.clone())
    }

    pub fn all(&self) -> Vec<mpsc::UnboundedSender<Command>> {
        self.lock().peers.values().map(|entry| entry.mailbox.clone()).collect()
    }

    pub fn is_connected(&self, node_id: &PublicKey) -> bool {
        self.lock().peers.get(node_id).is_some_and(|entry| entry.connected)
    }

    pub fn set_connected(&self, node_id: &PublicKey) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.connected = true;
        }
    }

    /// A connection has ended that lasted this long; `disputed` if one of both held the other for wrong.
    pub fn disconnected(&self, node_id: &PublicKey, disputed: bool, lasted: Duration) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.connected = false;
            entry.backoff.connection_ended(disputed, lasted, Instant::now());
        }
    }

    pub fn set_address(&self, node_id: &PublicKey, address: String) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.address = Some(address);
        }
    }

    pub fn address(&self, node_id: &PublicKey) -> Option<String> {
        self.lock().peers.get(node_id).and_then(|entry| entry.address.clone())
    }

    /// How many nodes without a channel are connected.
    pub fn strangers(&self) -> usize {
        let register = self.lock();
        let owners: HashSet<&PublicKey> = register.owners.values().collect();
        register.peers.iter().filter(|(node_id, entry)| entry.connected && !owners.contains(node_id)).count()
    }

    /// Forgets a peer whose task wants to end, unless a command has come for it. Nobody can send one in between.
    pub fn remove_if_idle(&self, node_id: &PublicKey, commands: &mpsc::UnboundedReceiver<Command>) -> bool {
        let mut register = self.lock();
        let idle = commands.is_empty();
        if idle {
            register.peers.remove(node_id);
        }
        idle
    }

    /// Enters a channel; `false`, and nothing changes, if another peer has a channel with this id.
    pub fn add_channel(&self, channel: ChannelId, owner: PublicKey) -> bool {
        *self.lock().owners.entry(channel).or_insert(owner) == owner
    }

    /// Enters a channel that has just got its id, which a peer may have chosen; `false`, and nothing changes, if there is
    /// a channel with this id, whoever its owner.
    pub fn add_new_channel(&self, channel: ChannelId, owner: PublicKey) -> bool {
        match self.lock().owners.entry(channel) {
            hash_map::Entry::Occupied(_) => false,
            hash_map::Entry::Vacant(entry) => {
                entry.insert(owner);
                true
            }
        }
    }

    pub fn remove_channel(&self, channel: &ChannelId) {
        self.lock().owners.remove(channel);
    }

    pub fn owner(&self, channel: &ChannelId) -> Option<PublicKey> {
        self.lock().owners.get(channel).copied()
    }

    pub fn has_channel_with(&self, node_id: &PublicKey) -> bool {
        self.lock().owners.values().any(|owner| owner == node_id)
    }

    pub fn to_peer(&self, node_id: &PublicKey, command: Command) -> bool {
        self.lock().peers.get(node_id).is_some_and(|entry| entry.mailbox.send(command).is_ok())
    }

    pub fn to_channel(&self, channel: &ChannelId, command: Command) -> bool {
        let register = self.lock();
        let entry = register.owners.get(channel).and_then(|owner| register.peers.get(owner));
        entry.is_some_and(|entry| entry.mailbox.send(command).is_ok())
    }

    /// Peers that have channels, are away, have a known address and are not being dialled; they are marked as being
    /// dialled.
    pub fn claim_missing(&self) -> Vec<(PublicKey, String)> {
        let now = Instant::now();
        let mut register = self.lock();
        let Register { peers, owners } = &mut *register;
        let mut missing = Vec::new();
        for (node_id, entry) in peers.iter_mut() {
            let wanted = owners.values().any(|owner| owner == node_id);
            if let Some(address) = &entry.address
                && wanted
                && !entry.connected
                && !entry.dialling
                && entry.backoff.may_dial(now)
            {
                entry.dialling = true;
                missing.push((*node_id, address.clone()));
            }
        }
        missing
    }

    pub fn dialled(&self, node_id: &PublicKey) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.dialling = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> PublicKey {
        secp256k1::SecretKey::from_slice(&[byte; 32]).unwrap().public_key(secp256k1::SECP256K1)
    }

    #[test]
    fn nobody_takes_over_the_id_of_a_channel() {
        let peers = Peers::default();
        let channel = ChannelId([7; 32]);
        assert!(peers.add_new_channel(channel, node(1)));
        assert!(peers.add_channel(channel, node(1)), "its owner may say so again");
        assert!(!peers.add_channel(channel, node(2)));
        assert!(!peers.add_new_channel(channel, node(2)));
        assert!(!peers.add_new_channel(channel, node(1)), "a second channel over one funding output");
        assert_eq!(peers.owner(&channel), Some(node(1)));
    }
}
