//! `wtclientrpc.WatchtowerClient` and `leyden.Towers`: the towers that guard this node.

use leyden_proto::{
    leyden::{self, towers_server::Towers},
    wtclientrpc::{self, watchtower_client_server::WatchtowerClient},
};
use leyden_watchtower::message::Mode;
use tonic::{Request, Response, Status};

use super::{
    Context,
    convert::{edge, towers},
};
use crate::api::ApiError;

#[derive(Clone)]
pub(super) struct TowersService {
    context: Context,
}

impl TowersService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl WatchtowerClient for TowersService {
    async fn add_tower(
        &self,
        request: Request<wtclientrpc::AddTowerRequest>,
    ) -> Result<Response<wtclientrpc::AddTowerResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let key = edge::node_id("pubkey", &request.pubkey)?;
        lightning.add_tower(towers::to_add(key, &request.address, Mode::Blind)?).await?;
        Ok(Response::new(wtclientrpc::AddTowerResponse {}))
    }

    async fn remove_tower(
        &self,
        request: Request<wtclientrpc::RemoveTowerRequest>,
    ) -> Result<Response<wtclientrpc::RemoveTowerResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let key = edge::node_id("pubkey", &request.pubkey)?;
        let address = match request.address.as_str() {
            "" => None,
            address => Some(towers::address("address", address)?),
        };
        lightning.remove_tower(key, address).await?;
        Ok(Response::new(wtclientrpc::RemoveTowerResponse {}))
    }

    async fn deactivate_tower(
        &self,
        request: Request<wtclientrpc::DeactivateTowerRequest>,
    ) -> Result<Response<wtclientrpc::DeactivateTowerResponse>, Status> {
        let lightning = self.context.lightning()?;
        let key = edge::node_id("pubkey", &request.into_inner().pubkey)?;
        lightning.deactivate_tower(key).await?;
        let status = format!("tower {key} gets no more backups");
        Ok(Response::new(wtclientrpc::DeactivateTowerResponse { status }))
    }

    async fn list_towers(
        &self,
        request: Request<wtclientrpc::ListTowersRequest>,
    ) -> Result<Response<wtclientrpc::ListTowersResponse>, Status> {
        let wtclientrpc::ListTowersRequest { include_sessions, exclude_exhausted_sessions } = request.into_inner();
        let shown = towers::Sessions { listed: include_sessions, without_exhausted: exclude_exhausted_sessions };
        let list = self.context.lightning()?.towers().await?;
        let towers = list.towers.iter().map(|tower| towers::tower(tower, shown)).collect();
        Ok(Response::new(wtclientrpc::ListTowersResponse { towers }))
    }

    async fn get_tower_info(
        &self,
        request: Request<wtclientrpc::GetTowerInfoRequest>,
    ) -> Result<Response<wtclientrpc::Tower>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let key = edge::node_id("pubkey", &request.pubkey)?;
        let shown = towers::Sessions {
            listed: request.include_sessions,
            without_exhausted: request.exclude_exhausted_sessions,
        };
        let list = lightning.towers().await?;
        let unknown = || ApiError::not_found(format!("tower not found: there is no {key}; see `leyden tower list`"));
        let found = list.towers.iter().find(|tower| tower.key == key).ok_or_else(unknown)?;
        Ok(Response::new(towers::tower(found, shown)))
    }

    async fn stats(
        &self,
        _request: Request<wtclientrpc::StatsRequest>,
    ) -> Result<Response<wtclientrpc::StatsResponse>, Status> {
        Ok(Response::new(towers::stats(&self.context.lightning()?.towers().await?)))
    }

    async fn policy(
        &self,
        request: Request<wtclientrpc::PolicyRequest>,
    ) -> Result<Response<wtclientrpc::PolicyResponse>, Status> {
        let lightning = self.context.lightning()?;
        towers::policy_type(&request.into_inner())?;
        Ok(Response::new(towers::policy(&lightning.towers().await?)))
    }
}

#[tonic::async_trait]
impl Towers for TowersService {
    async fn add_tower(
        &self,
        request: Request<leyden::AddTowerRequest>,
    ) -> Result<Response<leyden::AddTowerResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let key = edge::node_id_hex("pubkey", &request.pubkey)?;
        let mode = if request.own { Mode::Own } else { Mode::Blind };
        let client = lightning.add_tower(towers::to_add(key, &request.address, mode)?).await?;
        Ok(Response::new(leyden::AddTowerResponse { client_pubkey: hex::encode(client.0) }))
    }

    async fn list_towers(
        &self,
        _request: Request<leyden::ListTowersRequest>,
    ) -> Result<Response<leyden::ListTowersResponse>, Status> {
        Ok(Response::new(towers::list(&self.context.lightning()?.towers().await?)))
    }

    async fn list_coverage(
        &self,
        request: Request<leyden::ListCoverageRequest>,
    ) -> Result<Response<leyden::ListCoverageResponse>, Status> {
        let lightning = self.context.lightning()?;
        let channel = towers::optional_point("channel_point", &request.into_inner().channel_point)?;
        let channels = lightning.coverage(channel).await?.iter().map(towers::coverage).collect();
        Ok(Response::new(leyden::ListCoverageResponse { channels }))
    }

    async fn audit(&self, request: Request<leyden::AuditRequest>) -> Result<Response<leyden::AuditResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let key = edge::node_id_hex("pubkey", &request.pubkey)?;
        let channel = towers::optional_point("channel_point", &request.channel_point)?;
        let channels = lightning.audit_tower(key, channel).await?.iter().map(towers::audit).collect();
        Ok(Response::new(leyden::AuditResponse { channels }))
    }
}
