//! `lnrpc.WalletUnlocker`: making and opening the wallet.

use leyden_proto::lnrpc::{self, wallet_unlocker_server::WalletUnlocker};
use tonic::{Request, Response, Status};

use super::{Context, convert::lifecycle};

pub(super) struct UnlockerService {
    context: Context,
}

impl UnlockerService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl WalletUnlocker for UnlockerService {
    async fn gen_seed(
        &self,
        request: Request<lnrpc::GenSeedRequest>,
    ) -> Result<Response<lnrpc::GenSeedResponse>, Status> {
        let entropy = lifecycle::seed_entropy(request.into_inner())?;
        let cipher_seed_mnemonic = self.context.daemon.gen_seed(entropy).await?;
        Ok(Response::new(lnrpc::GenSeedResponse { cipher_seed_mnemonic }))
    }

    async fn init_wallet(
        &self,
        request: Request<lnrpc::InitWalletRequest>,
    ) -> Result<Response<lnrpc::InitWalletResponse>, Status> {
        let request = lifecycle::init_wallet(request.into_inner())?;
        let admin_macaroon = self.context.daemon.init_wallet(request).await?;
        Ok(Response::new(lnrpc::InitWalletResponse { admin_macaroon }))
    }

    async fn unlock_wallet(
        &self,
        request: Request<lnrpc::UnlockWalletRequest>,
    ) -> Result<Response<lnrpc::UnlockWalletResponse>, Status> {
        let request = lifecycle::unlock_wallet(request.into_inner())?;
        self.context.daemon.unlock_wallet(request).await?;
        Ok(Response::new(lnrpc::UnlockWalletResponse {}))
    }
}
