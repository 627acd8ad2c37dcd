//! `watchtowerrpc.Watchtower`: where clients reach the watchtower of this daemon.

use leyden_proto::watchtowerrpc::{GetInfoRequest, GetInfoResponse, watchtower_server::Watchtower};
use tonic::{Request, Response, Status};

use super::{Context, convert::watchtower};

pub(super) struct WatchtowerService {
    context: Context,
}

impl WatchtowerService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Watchtower for WatchtowerService {
    async fn get_info(&self, _request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(watchtower::info(&self.context.watchtower()?.info())))
    }
}
