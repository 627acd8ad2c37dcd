//! The connections that this node opens to addresses that it was told of: enough of them, now and then another one, and
//! the book of addresses that they come from.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bitcoin::p2p::ServiceFlags;
use leyden_net::config::NETWORK_LIMITED_BLOCKS;
use leyden_net::{Direction, Event, PeerId, PeerSet};

use super::{Core, dial};
use crate::driver::DriverConfig;
use crate::driver::address_file::{self, FileError};

/// How often a new peer is looked for.
const SEARCH: Duration = Duration::from_secs(5);
/// How often the address book is saved (Bitcoin Core's 15 minutes).
const SAVE: Duration = Duration::from_secs(15 * 60);
/// A new peer has this long to show what it is good for.
const TRIAL: Duration = Duration::from_secs(30);

/// Fills the address book with what the last run knew.
pub(super) fn restore_addresses(config: &DriverConfig, peers: &mut PeerSet, unix_time: u64) {
    let Some(path) = &config.address_file else { return };
    match address_file::read(path) {
        Ok(known) => peers.restore_addresses(known, unix_time),
        Err(FileError::Absent) => {}
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the address book starts empty: its file is of no use");
        }
    }
}

impl Core {
    /// What is to be done with each tick.
    pub(super) fn look_after_outbound(&mut self) {
        self.search();
        self.let_the_least_useful_go();
        self.tell_out_of_reach();
        if self.saved.elapsed() >= SAVE {
            self.save_addresses();
        }
    }

    /// Opens a connection to an address that peers told of, now and then, while there are too few.
    fn search(&mut self) {
        if self.searched.elapsed() < SEARCH || !self.is_active {
            return;
        }
        self.searched = Instant::now();
        let outbound = self.remotes.values().filter(|remote| remote.direction == Direction::Outbound).count();
        let is_full = outbound >= self.config.max_outbound;
        // One more than enough, now and then: it may be better than one of the others.
        let rotates = outbound == self.config.max_outbound
            && !self.found_peers().is_empty()
            && self.rotated.elapsed() >= self.config.rotate_after;
        if is_full && !rotates {
            return;
        }
        if rotates {
            self.rotated = Instant::now();
        }
        let Some(address) = self.peers.pick_address(self.backend.now()) else { return };
        if self.discouraged.get(&address.ip()).is_some_and(|until| *until > Instant::now()) {
            return;
        }
        let (input, stop) = (self.input(), self.stop.clone());
        let encrypts = self.peers.address_book().services(&address).has(ServiceFlags::P2P_V2);
        self.tasks.spawn(async move {
            tokio::select! {
                () = dial::connect_once(address, encrypts, &input) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Peers that this node connected to and that nobody has named.
    fn found_peers(&self) -> BTreeSet<PeerId> {
        let found = self.remotes.iter().filter(|(_, remote)| {
            remote.direction == Direction::Outbound && !self.dialers.contains_key(&remote.address)
        });
        found.map(|(peer, _)| *peer).collect()
    }

    /// While there is one peer more than enough, the one that is missed least goes.
    fn let_the_least_useful_go(&mut self) {
        let outbound = self.remotes.values().filter(|remote| remote.direction == Direction::Outbound).count();
        let found = self.found_peers();
        if outbound <= self.config.max_outbound || found.is_empty() {
            return;
        }
        let Some(peer) = self.peers.choose_to_rotate(&found, TRIAL, self.started.elapsed()) else { return };
        tracing::debug!(peer = peer.0, "disconnecting: another peer has taken its place");
        self.let_go(peer, "another peer has taken its place");
        self.handle(Event::Disconnected { peer });
    }

    /// Says of each peer once why it is of no help, unless another one is.
    fn tell_out_of_reach(&mut self) {
        let peers = self.peers.peers();
        self.told_out_of_reach.retain(|told| peers.iter().any(|peer| peer.peer == *told));
        if peers.iter().any(|peer| peer.ready && peer.services.has(ServiceFlags::NETWORK)) {
            return;
        }
        for peer in peers {
            let Some(height) = peer.out_of_reach else { continue };
            if self.told_out_of_reach.insert(peer.peer) {
                tracing::warn!(
                    address = %peer.address,
                    "cannot synchronise: the peer is pruned and keeps the last {NETWORK_LIMITED_BLOCKS} blocks only, \
                     while the block at height {height} is missing here; connect to a peer that keeps all blocks"
                );
            }
        }
    }

    pub(super) fn save_addresses(&mut self) {
        self.saved = Instant::now();
        let Some(path) = &self.config.address_file else { return };
        if let Err(error) = address_file::write(path, self.peers.address_book().entries()) {
            tracing::warn!(file = %path.display(), %error, "the address book cannot be saved");
        }
    }
}
