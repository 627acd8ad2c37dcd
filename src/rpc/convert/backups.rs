//! Channel backups.

use leyden_proto::lnrpc::{self, restore_chan_backup_request::Backup};

use super::{channels::channel_point, edge};
use crate::api::{ApiError, BackupContents, BackupSnapshot, ChannelBackup};

pub(crate) fn backup(backup: &ChannelBackup) -> lnrpc::ChannelBackup {
    lnrpc::ChannelBackup { chan_point: Some(channel_point(backup.funding)), chan_backup: backup.sealed.clone() }
}

pub(crate) fn snapshot(snapshot: &BackupSnapshot) -> lnrpc::ChanBackupSnapshot {
    lnrpc::ChanBackupSnapshot {
        single_chan_backups: Some(lnrpc::ChannelBackups {
            chan_backups: snapshot.singles.iter().map(backup).collect(),
        }),
        multi_chan_backup: Some(lnrpc::MultiChanBackup {
            chan_points: snapshot.singles.iter().map(|single| channel_point(single.funding)).collect(),
            multi_chan_backup: snapshot.all.clone(),
        }),
    }
}

/// The sealed backups in a snapshot, of which there must be at least one.
pub(crate) fn sealed(snapshot: lnrpc::ChanBackupSnapshot) -> Result<Vec<Vec<u8>>, ApiError> {
    let singles = snapshot.single_chan_backups.unwrap_or_default().chan_backups;
    let multi = snapshot.multi_chan_backup.map(|multi| multi.multi_chan_backup).filter(|multi| !multi.is_empty());
    let sealed: Vec<_> = singles.into_iter().map(|single| single.chan_backup).chain(multi).collect();
    some("single_chan_backups or multi_chan_backup", sealed)
}

pub(crate) fn to_restore(request: lnrpc::RestoreChanBackupRequest) -> Result<Vec<Vec<u8>>, ApiError> {
    let sealed = match request.backup {
        Some(Backup::ChanBackups(singles)) => {
            singles.chan_backups.into_iter().map(|single| single.chan_backup).collect()
        }
        Some(Backup::MultiChanBackup(multi)) => vec![multi],
        None => Vec::new(),
    };
    some("backup", sealed)
}

fn some(field: &str, sealed: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, ApiError> {
    if sealed.is_empty() { Err(edge::wrong(field, "a backup is needed")) } else { Ok(sealed) }
}

pub(crate) fn verified(contents: &BackupContents) -> lnrpc::VerifyChanBackupResponse {
    lnrpc::VerifyChanBackupResponse { chan_points: contents.channels.iter().map(ToString::to_string).collect() }
}
