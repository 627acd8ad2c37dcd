//! The peers of the chain: who they are, who is kept and who is kept out.

use std::net::SocketAddr;
use std::sync::Arc;

use bitcoin::{BlockHash, Transaction};
use leyden_net::KnownAddress;

use super::Node;
use crate::bans::{Ban, BanError, BanList, Subnet};
use crate::error::{BlockRejected, NodeError};
use crate::network::Network;
use crate::time_budget::TimeBudget;
use crate::types::PeerInfo;

impl Node {
    // ---- peers ----

    /// Connects to a peer; resolves when the handshake is done.
    pub async fn connect_peer(&self, address: SocketAddr) -> Result<(), NodeError> {
        self.network()?.connect(address).await
    }

    /// Stays connected to a peer, however often that fails. An error without networking.
    pub fn keep_peer(&self, address: SocketAddr) -> Result<(), NodeError> {
        self.network()?.keep(address);
        Ok(())
    }

    /// The addresses with which no connection is wanted now.
    pub fn bans(&self) -> Vec<Ban> {
        self.inner.bans.list(self.clock().now())
    }

    /// Bans addresses, and closes the connections with them.
    pub async fn ban(&self, ban: Ban) -> Result<(), BanError> {
        self.change_bans(move |bans| bans.add(ban)).await?;
        if let Some(network) = self.inner.network.get() {
            network.let_banned_go();
        }
        Ok(())
    }

    /// Takes the ban of exactly this subnet back.
    pub async fn unban(&self, subnet: Subnet) -> Result<(), BanError> {
        self.change_bans(move |bans| bans.remove(subnet)).await
    }

    /// Takes all bans back.
    pub async fn clear_bans(&self) -> Result<(), BanError> {
        self.change_bans(BanList::clear).await
    }

    pub(super) async fn change_bans(
        &self,
        change: impl FnOnce(&BanList) -> Result<(), BanError> + Send + 'static,
    ) -> Result<(), BanError> {
        let bans = Arc::clone(&self.inner.bans);
        let changed = tokio::task::spawn_blocking(move || change(&bans)).await;
        changed.map_err(|error| BanError::File(std::io::Error::other(error)))?
    }

    /// Closes the connection to a peer, if there is one. An error without networking.
    pub fn disconnect_peer(&self, address: SocketAddr) -> Result<(), NodeError> {
        self.network()?.disconnect(address);
        Ok(())
    }

    /// The peers whose handshake is finished; none without networking.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.inner.network.get().map(|network| network.peers()).unwrap_or_default()
    }

    /// Asks all peers how long they take to answer; [`Node::peers`] tells it then. An error without networking.
    pub fn ping_peers(&self) -> Result<(), NodeError> {
        self.network()?.ping();
        Ok(())
    }

    /// Has connections, or closes all and makes none, until the node stops. An error without networking.
    pub fn set_network_active(&self, active: bool) -> Result<(), NodeError> {
        self.network()?.set_active(active);
        Ok(())
    }

    /// Whether connections are wanted.
    pub fn is_network_active(&self) -> bool {
        self.inner.network.get().is_some_and(|network| network.is_active())
    }

    /// So many at most of the addresses that peers have told, drawn by lot; none without networking.
    pub async fn known_addresses(&self, limit: usize) -> Vec<KnownAddress> {
        match self.inner.network.get() {
            Some(network) => network.addresses(limit).await,
            None => Vec::new(),
        }
    }

    /// Asks a peer ([`PeerInfo::id`]) for a block whose header is known, and submits it; `false` if it does not come.
    pub async fn fetch_block(&self, peer: u64, hash: BlockHash) -> Result<bool, BlockRejected> {
        match self.network()?.fetch_block(peer, hash).await {
            Some(block) => self.submit_block(block).await.map(|_| true),
            None => Ok(false),
        }
    }

    /// Transactions that wait for parents that this node does not know, each with the number of the peer that brought it
    /// ([`PeerInfo::id`]).
    pub async fn orphans(&self) -> Vec<(u64, Arc<Transaction>)> {
        match self.inner.network.get() {
            Some(network) => network.orphans().await,
            None => Vec::new(),
        }
    }

    /// Where peers can connect to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.inner.network.get().and_then(|network| network.local_address())
    }

    /// Processor time that peers share that came to us; `None` if there is no network.
    pub fn inbound_time(&self) -> Option<Arc<TimeBudget>> {
        self.inner.network.get().map(|network| network.inbound_time())
    }

    pub(super) fn network(&self) -> Result<&Arc<dyn Network>, NodeError> {
        self.inner.network.get().ok_or_else(|| NodeError::Network("it is switched off".into()))
    }
}
