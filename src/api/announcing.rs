//! What the node says of itself to the network.

use std::net::SocketAddr;

use async_trait::async_trait;

use super::ApiError;

#[async_trait]
pub(crate) trait Announcing: Send + Sync {
    /// What has become different. It holds until the next start. `InvalidArgument` if nothing would.
    async fn change_announcement(&self, change: AnnouncementChange) -> Result<Vec<AnnouncementOp>, ApiError>;
}

/// `None` leaves what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnnouncementChange {
    pub alias: Option<String>,
    pub color: Option<[u8; 3]>,
    /// None of them is among those to be removed.
    pub add: Vec<SocketAddr>,
    pub remove: Vec<SocketAddr>,
}

/// In LND's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnnouncementOp {
    pub entity: &'static str,
    pub actions: Vec<String>,
}
