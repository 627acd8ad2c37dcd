//! `leyden.Wallet`: how a restore stands, and looking at the chain again.

use leyden_proto::leyden::{self, wallet_server::Wallet};
use tonic::{Request, Response, Status};

use super::{Context, convert::recovery};

pub(super) struct WalletService {
    context: Context,
}

impl WalletService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Wallet for WalletService {
    async fn get_recovery(
        &self,
        _request: Request<leyden::GetRecoveryRequest>,
    ) -> Result<Response<leyden::Recovery>, Status> {
        let found = self.context.lightning()?.recovery().await?;
        Ok(Response::new(recovery::recovery(&found)))
    }

    async fn rescan(&self, request: Request<leyden::RescanRequest>) -> Result<Response<leyden::Recovery>, Status> {
        let lightning = self.context.lightning()?;
        let window = recovery::rescan(request.into_inner())?;
        Ok(Response::new(recovery::recovery(&lightning.rescan(window).await?)))
    }
}
