//! `leyden.Session`: a macaroon for a password, its end, and what a macaroon allows.

use std::sync::Arc;

use leyden_proto::leyden::{self, session_server::Session};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Context, auth, to_the_end};

pub(super) struct SessionService {
    context: Context,
}

impl SessionService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Session for SessionService {
    async fn login(&self, request: Request<leyden::LoginRequest>) -> Result<Response<leyden::LoginResponse>, Status> {
        let from = auth::address(request.extensions());
        let password = Zeroizing::new(request.into_inner().wallet_password);
        let daemon = Arc::clone(&self.context.daemon);
        let log_in = to_the_end(async move { daemon.log_in(password, from).await }).await?;
        Ok(Response::new(leyden::LoginResponse { macaroon: log_in.macaroon, expires: log_in.expires }))
    }

    async fn logout(
        &self,
        request: Request<leyden::LogoutRequest>,
    ) -> Result<Response<leyden::LogoutResponse>, Status> {
        self.context.daemon.log_out(&auth::shown(request.metadata()))?;
        Ok(Response::new(leyden::LogoutResponse {}))
    }

    async fn get_permissions(
        &self,
        request: Request<leyden::GetPermissionsRequest>,
    ) -> Result<Response<leyden::GetPermissionsResponse>, Status> {
        let allowed = self.context.daemon.permissions_of(&auth::shown(request.metadata()))?;
        let permissions =
            allowed.into_iter().map(|(entity, action)| leyden::SessionPermission { entity, action }).collect();
        Ok(Response::new(leyden::GetPermissionsResponse { permissions }))
    }
}
