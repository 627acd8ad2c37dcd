//! `leyden.Tower`: what the watchtower of this daemon guards.

use leyden_proto::leyden::{GetTowerStatsRequest, TowerStats, tower_server::Tower};
use tonic::{Request, Response, Status};

use super::{Context, assemble, convert::watchtower};

pub(super) struct TowerService {
    context: Context,
}

impl TowerService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Tower for TowerService {
    async fn get_tower_stats(&self, _request: Request<GetTowerStatsRequest>) -> Result<Response<TowerStats>, Status> {
        let tower = self.context.watchtower()?;
        let (info, stats) = (tower.info(), tower.stats().await?);
        Ok(Response::new(assemble(move || watchtower::stats(&info, &stats)).await?))
    }
}
