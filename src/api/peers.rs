//! The nodes that we talk to.

use std::time::Duration;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use leyden_channels::{
    types::{Msat, UnixTime},
    wire::features::Features,
};

use super::{ApiError, Updates};

/// Connections to other nodes.
#[async_trait]
pub(crate) trait Peers: Send + Sync {
    /// Returns once BOLT 1's `init` has been exchanged; with `keep_trying` at once. `AlreadyExists` if connected,
    /// `Unavailable` if nobody answers.
    async fn connect_peer(&self, peer: PeerAddress, keep_trying: bool) -> Result<(), ApiError>;
    /// `NotFound` if not connected, `FailedPrecondition` if channels with it are open.
    async fn disconnect_peer(&self, node_id: PublicKey) -> Result<(), ApiError>;
    async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError>;
    /// Every node that comes or goes from now on.
    async fn peer_events(&self) -> Result<Updates<PeerEvent>, ApiError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerEvent {
    pub node_id: PublicKey,
    pub is_online: bool,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    pub node_id: PublicKey,
    /// As host:port, the port always given.
    pub host: String,
    /// How long to try; `None`: the daemon's default.
    pub timeout: Option<Duration>,
}

/// A connected node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerInfo {
    pub node_id: PublicKey,
    /// As host:port.
    pub address: String,
    /// They connected to us.
    pub inbound: bool,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Through all channels with it.
    pub amount_sent: Msat,
    pub amount_received: Msat,
    /// The latest round trip.
    pub ping: Option<Duration>,
    pub features: Features,
    /// We have asked it to tell what it hears of the network.
    pub tells_gossip: bool,
    /// What they complained of, oldest first.
    pub errors: Vec<PeerError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerError {
    pub time: UnixTime,
    pub text: String,
}
