//! `lnrpc.WalletUnlocker`: making and opening the wallet.

use std::sync::Arc;

use leyden_proto::lnrpc::{self, wallet_unlocker_server::WalletUnlocker};
use tonic::{Request, Response, Status};

use super::{Context, auth, convert::lifecycle, to_the_end};
use crate::api::InitWallet;

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
        let keys = lifecycle::keys(request.metadata())?;
        let request = InitWallet { keys, ..lifecycle::init_wallet(request.into_inner())? };
        let daemon = Arc::clone(&self.context.daemon);
        let admin_macaroon = to_the_end(async move { daemon.init_wallet(request).await }).await?;
        Ok(Response::new(lnrpc::InitWalletResponse { admin_macaroon }))
    }

    async fn unlock_wallet(
        &self,
        request: Request<lnrpc::UnlockWalletRequest>,
    ) -> Result<Response<lnrpc::UnlockWalletResponse>, Status> {
        let from = auth::address(request.extensions());
        let request = lifecycle::unlock_wallet(request.into_inner())?;
        let daemon = Arc::clone(&self.context.daemon);
        to_the_end(async move { daemon.unlock_wallet(request, from).await }).await?;
        Ok(Response::new(lnrpc::UnlockWalletResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<lnrpc::ChangePasswordRequest>,
    ) -> Result<Response<lnrpc::ChangePasswordResponse>, Status> {
        let from = auth::address(request.extensions());
        let request = lifecycle::change_password(request.into_inner())?;
        let daemon = Arc::clone(&self.context.daemon);
        let admin_macaroon = to_the_end(async move { daemon.change_password(request, from).await }).await?;
        Ok(Response::new(lnrpc::ChangePasswordResponse { admin_macaroon }))
    }
}
