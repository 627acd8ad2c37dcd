//! The channel backups' calls.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bitcoin::OutPoint;
use tokio_stream::{StreamExt as _, wrappers::WatchStream};

use super::{LightningNode, internal};
use crate::{
    api::{ApiError, BackupContents, BackupSnapshot, Backups, ChannelBackup, Updates},
    driver::{
        backup::{self, Restored},
        services::Services,
    },
    wallet::backup::{Contents, SealedBackupError, SwapBackup},
};

impl From<SealedBackupError> for ApiError {
    fn from(error: SealedBackupError) -> Self {
        match error {
            SealedBackupError::NotABackup
            | SealedBackupError::Newer { .. }
            | SealedBackupError::OtherChain
            | SealedBackupError::Closed
            | SealedBackupError::Content(_) => Self::invalid(error.to_string()),
            SealedBackupError::NotSealed => internal(error),
        }
    }
}

#[async_trait]
impl Backups for LightningNode {
    async fn channel_backup(&self, funding: OutPoint) -> Result<ChannelBackup, ApiError> {
        let backups = snapshot(self.services())?;
        backups.singles.into_iter().find(|backup| backup.funding == funding).ok_or_else(|| {
            ApiError::not_found(format!("there is no channel {funding} to back up; see `leyden listchannels`"))
        })
    }

    async fn channel_backups(&self) -> Result<BackupSnapshot, ApiError> {
        snapshot(self.services())
    }

    async fn backup_updates(&self) -> Result<Updates<BackupSnapshot>, ApiError> {
        let services = Arc::clone(self.services());
        let changes = WatchStream::new(services.backups.changes());
        Ok(Box::pin(changes.map(move |()| snapshot(&services))))
    }

    async fn verify_backups(&self, sealed: Vec<Vec<u8>>) -> Result<BackupContents, ApiError> {
        let Contents { channels, swaps } = self.open_backups(&sealed)?;
        let channels = channels.iter().map(|backup| backup.terms.funding).collect();
        Ok(BackupContents { channels, swaps: swaps.len() })
    }

    /// Those that are here, or have ended, are passed over.
    async fn restore_backups(&self, sealed: Vec<Vec<u8>>) -> Result<u32, ApiError> {
        let services = self.services();
        let mut restored = 0;
        let Contents { channels, swaps } = self.open_backups(&sealed)?;
        // First: a swap has a deadline.
        for SwapBackup { key, row } in swaps {
            let recovered = services.swaps.recover(key, row).await;
            restored += u32::from(recovered.map_err(|error| ApiError::invalid(error.to_string()))?);
        }
        for channel in channels {
            let (id, addresses) = (channel.terms.channel_id, channel.addresses.clone());
            if services.store.closed_channel(&channel.terms.funding)?.is_some() {
                continue;
            }
            let node_id = channel.terms.remote_node.public_key();
            let node_id = node_id.map_err(|_| ApiError::invalid(format!("channel {id} is with no valid node")))?;
            match backup::restore(services, node_id, channel).await {
                Some(Restored::Yes) => {
                    restored += 1;
                    // A restart has to find it too.
                    if let Some(address) = addresses.first() {
                        services.store.put_peer(&node_id, address)?;
                    }
                    backup::find_peer(services, node_id, addresses);
                }
                Some(Restored::Known) => {}
                Some(Restored::Refused(reason)) => {
                    return Err(ApiError::invalid(format!("channel {id} cannot be restored: {reason}")));
                }
                None => return Err(ApiError::unavailable("the daemon is stopping")),
            }
        }
        Ok(restored)
    }
}

impl LightningNode {
    /// What the backups hold; an error names the first that cannot be opened.
    fn open_backups(&self, sealed: &[Vec<u8>]) -> Result<Contents, ApiError> {
        let (mut channels, mut swaps) = (BTreeMap::new(), BTreeMap::new());
        for sealed in sealed {
            let opened = self.services().backups.open(sealed)?;
            channels.extend(opened.channels.into_iter().map(|backup| (backup.terms.channel_id, backup)));
            swaps.extend(opened.swaps.into_iter().map(|swap| (swap.key, swap)));
        }
        Ok(Contents { channels: channels.into_values().collect(), swaps: swaps.into_values().collect() })
    }
}

fn snapshot(services: &Services) -> Result<BackupSnapshot, ApiError> {
    let backup::Snapshot { singles, all } = services.backups.snapshot()?;
    let singles = singles.into_iter().map(|(funding, sealed)| ChannelBackup { funding, sealed });
    Ok(BackupSnapshot { singles: singles.collect(), all })
}
