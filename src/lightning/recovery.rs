//! What a restore has found, and looking at the chain once more.

use async_trait::async_trait;
use leyden_channels::types::Height;

use super::{LightningNode, internal};
use crate::{
    api::{ApiError, LostChannel, Recovering, Recovery},
    driver::runtime::{RestoreOnPruned, look_ahead},
};

impl LightningNode {
    fn how_recovery_stands(&self) -> Result<Recovery, ApiError> {
        let services = self.services();
        let (scanned, _) = services.wallet.tip();
        let reach = services.wallet.reach();
        let is_here = |id: &_| services.peers.owner(id).is_some();
        let lost = services.backups.only_in_backup(is_here).into_iter().map(|terms| LostChannel {
            funding: terms.funding,
            capacity: terms.capacity,
            peer: terms.remote_node,
        });
        Ok(Recovery {
            scanned: Height(scanned),
            tip: Height(services.node.tip().height),
            finished: self.wallet_is_synced(),
            window: look_ahead(&services.store)?,
            known_addresses: reach.known,
            widest_gap: reach.widest_gap,
            lost_channels: lost.collect(),
            backup_file: services.backups.path().to_owned(),
        })
    }
}

#[async_trait]
impl Recovering for LightningNode {
    async fn recovery(&self) -> Result<Recovery, ApiError> {
        self.how_recovery_stands()
    }

    async fn rescan(&self, window: Option<u32>) -> Result<Recovery, ApiError> {
        let services = self.services();
        RestoreOnPruned::check(&services.node).map_err(|error| ApiError::precondition(error.to_string()))?;
        if let Some(window) = window {
            services.store.put_recovery_window(window)?;
        }
        let begun = services.watch.rescan(look_ahead(&services.store)?).await;
        begun.ok_or_else(|| ApiError::unavailable("the daemon is stopping"))?.map_err(internal)?;
        self.how_recovery_stands()
    }
}
