//! `leyden.Session`: a macaroon for a password, and what a macaroon allows.

use leyden_proto::leyden::{self, session_server::Session};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Context, auth::METADATA_KEY};

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
        let password = Zeroizing::new(request.into_inner().wallet_password);
        let log_in = self.context.daemon.log_in(password).await?;
        Ok(Response::new(leyden::LoginResponse { macaroon: log_in.macaroon, expires: log_in.expires }))
    }

    async fn get_permissions(
        &self,
        request: Request<leyden::GetPermissionsRequest>,
    ) -> Result<Response<leyden::GetPermissionsResponse>, Status> {
        let token = request.metadata().get(METADATA_KEY).and_then(|value| hex::decode(value.as_bytes()).ok());
        let allowed = self.context.daemon.permissions_of(&token.unwrap_or_default())?;
        let permissions =
            allowed.into_iter().map(|(entity, action)| leyden::SessionPermission { entity, action }).collect();
        Ok(Response::new(leyden::GetPermissionsResponse { permissions }))
    }
}
