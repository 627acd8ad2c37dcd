//! How a restore stands.

use leyden_proto::{leyden, lnrpc};

use super::{edge, lifecycle::recovery_window};
use crate::api::{ApiError, Recovery};

pub(crate) fn rescan(request: leyden::RescanRequest) -> Result<Option<u32>, ApiError> {
    let window = i32::try_from(request.recovery_window)
        .map_err(|_| edge::wrong("recovery_window", "it lies between 0 and 100000"))?;
    recovery_window(window)
}

pub(crate) fn recovery(recovery: &Recovery) -> leyden::Recovery {
    let lost_channels = recovery.lost_channels.iter().map(|channel| leyden::LostChannel {
        channel_point: channel.funding.to_string(),
        capacity: i64::try_from(channel.capacity.to_sat()).unwrap_or(i64::MAX),
        remote_pubkey: channel.peer.to_string(),
    });
    leyden::Recovery {
        scanned_height: recovery.scanned.0,
        block_height: recovery.tip.0,
        finished: recovery.finished,
        recovery_window: recovery.window,
        known_addresses: recovery.known_addresses,
        widest_gap: recovery.widest_gap,
        lost_channels: lost_channels.collect(),
        backup_file: recovery.backup_file.display().to_string(),
    }
}

/// As LND tells it.
pub(crate) fn info(recovery: &Recovery) -> lnrpc::GetRecoveryInfoResponse {
    let progress = f64::from(recovery.scanned.0.saturating_add(1)) / f64::from(recovery.tip.0.saturating_add(1));
    lnrpc::GetRecoveryInfoResponse {
        recovery_mode: !recovery.finished,
        recovery_finished: recovery.finished,
        progress: progress.min(1.0),
    }
}
