//! `peersrpc.Peers`: what the node says of itself to the network.

use leyden_proto::peersrpc::{NodeAnnouncementUpdateRequest, NodeAnnouncementUpdateResponse, peers_server::Peers};
use tonic::{Request, Response, Status};

use super::{Context, convert::announcing};

pub(super) struct PeersService {
    context: Context,
}

impl PeersService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Peers for PeersService {
    async fn update_node_announcement(
        &self,
        request: Request<NodeAnnouncementUpdateRequest>,
    ) -> Result<Response<NodeAnnouncementUpdateResponse>, Status> {
        let lightning = self.context.lightning()?;
        let ops = lightning.change_announcement(announcing::change(request.into_inner())?).await?;
        Ok(Response::new(announcing::changed(ops)))
    }
}
