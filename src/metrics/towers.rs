//! Watchtowers: those that guard this node, and the one that it runs for others.

use leyden_watchtower::{responder::ClaimStatus, tower::Stats};

use super::page::{Family, Page, family};
use crate::api::{TowerFigures, WatchtowerStats};

const TOWERS: Family = family(
    "leyden_tower_client_towers",
    "Watchtowers of this node. away: in use and not reached; convicted: it broke its word.",
);
const REQUIRED: Family =
    family("leyden_tower_client_required", "So many have to hold a revoked state before its channel goes on.");
const ACKNOWLEDGED: Family =
    family("leyden_tower_client_backups_acknowledged", "Backups that towers hold, over all towers.");
const QUEUED: Family = family("leyden_tower_client_backups_queued", "Backups that wait, over all towers.");
const FAILED: Family = family("leyden_tower_client_backups_failed_total", "Backups that could not be made.");
const COVERAGE: Family = family(
    "leyden_tower_client_channels",
    "Channels by whether a tower holds every state that the peer has revoked, or is about to.",
);

pub(super) fn write_client(figures: &TowerFigures, page: &Page<'_>) {
    let TowerFigures { connected, away, deactivated, convicted, required, held, waiting, failed, covered, uncovered } =
        *figures;
    for (state, count) in
        [("connected", connected), ("away", away), ("deactivated", deactivated), ("convicted", convicted)]
    {
        page.gauge_of(TOWERS, ("state", state), count);
    }
    page.gauge(REQUIRED, required);
    page.gauge(ACKNOWLEDGED, held);
    page.gauge(QUEUED, waiting);
    page.counter(FAILED, failed);
    page.gauge_of(COVERAGE, ("covered", "yes"), covered);
    page.gauge_of(COVERAGE, ("covered", "no"), uncovered);
}

const HEIGHT: Family = family("leyden_tower_height", "The last block that the watchtower has looked at.");
const CONNECTED: Family = family("leyden_tower_connected_clients", "Clients that are connected.");
const CLIENTS: Family = family("leyden_tower_clients", "Clients that are registered.");
const CHANNELS: Family = family("leyden_tower_channels", "Channels that something is kept of.");
const STATES: Family = family("leyden_tower_states", "Revoked states that are held.");
const BYTES: Family = family("leyden_tower_stored_bytes", "What clients have stored, keys included.");
const HINTS: Family = family("leyden_tower_hints", "Hints that each transaction is looked up in.");
const BREACHES: Family = family("leyden_tower_open_breaches", "Breaches whose penalties are not final.");
const LEAVING: Family = family("leyden_tower_leaving_channels", "Channels whose rows are being deleted.");
const BROKEN: Family = family("leyden_tower_broken_channels", "Channels that a person has to look at.");
const OUTPUTS: Family = family(
    "leyden_tower_penalty_outputs",
    "Outputs of open breaches. confirmed: our penalty is in a block; lost: something else has spent it.",
);

pub(super) fn write_server(stats: &WatchtowerStats, page: &Page<'_>) {
    let WatchtowerStats { tip, stats, connected, penalties, broken } = stats;
    if let Some(tip) = tip {
        page.gauge(HEIGHT, tip.0.into());
    }
    let Stats { clients, channels, states, bytes, hints, breaches, leaving } = *stats;
    page.gauge(CONNECTED, *connected as u64);
    page.gauge(CLIENTS, clients as u64);
    page.gauge(CHANNELS, channels as u64);
    page.gauge(STATES, states);
    page.gauge(BYTES, bytes);
    page.gauge(HINTS, hints as u64);
    page.gauge(BREACHES, breaches as u64);
    page.gauge(LEAVING, leaving as u64);
    page.gauge(BROKEN, broken.len() as u64);
    for wanted in ["waiting", "broadcast", "confirmed", "lost"] {
        let claims = penalties.iter().flat_map(|penalty| &penalty.claims);
        let count = claims.filter(|claim| label(&claim.status) == wanted).count();
        page.gauge_of(OUTPUTS, ("status", wanted), count as u64);
    }
}

fn label(status: &ClaimStatus) -> &'static str {
    match status {
        ClaimStatus::Waiting => "waiting",
        ClaimStatus::Broadcast { .. } => "broadcast",
        ClaimStatus::Spent { ours: true, .. } => "confirmed",
        ClaimStatus::Spent { ours: false, .. } => "lost",
    }
}
