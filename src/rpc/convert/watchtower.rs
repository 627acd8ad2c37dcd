//! What the watchtower is, and what it guards.

use bitcoin::Amount;
use leyden_proto::{leyden, watchtowerrpc};
use leyden_watchtower::{
    message::Mode,
    responder::{ClaimReport, ClaimStatus},
    tower::PenaltyReport,
};

use crate::api::{WatchtowerInfo, WatchtowerStats};

pub(crate) fn info(info: &WatchtowerInfo) -> watchtowerrpc::GetInfoResponse {
    let uri = |address| format!("{}@{address}", info.key);
    watchtowerrpc::GetInfoResponse {
        pubkey: info.key.serialize().to_vec(),
        listeners: vec![info.listen.to_string()],
        uris: info.addresses.iter().map(uri).collect(),
    }
}

pub(crate) fn stats(info: &WatchtowerInfo, found: &WatchtowerStats) -> leyden::TowerStats {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let stats = &found.stats;
    leyden::TowerStats {
        height: found.tip.map_or(0, |tip| tip.0),
        clients: count(stats.clients),
        connected_clients: count(found.connected),
        channels: count(stats.channels),
        states: stats.states,
        bytes: stats.bytes,
        allowed_clients: count(info.allowed),
        max_other_clients: info.strangers,
        penalties: found.penalties.iter().map(penalty).collect(),
        broken: found.broken.clone(),
    }
}

fn penalty(report: &PenaltyReport) -> leyden::TowerPenalty {
    let mode = match report.mode {
        Mode::Blind => leyden::tower_penalty::Mode::Blind,
        Mode::Own => leyden::tower_penalty::Mode::Own,
    };
    leyden::TowerPenalty {
        client: report.client.to_string(),
        channel_tag: report.channel.tag.to_string(),
        funding_index: u32::from(report.channel.funding.0),
        mode: mode.into(),
        commitment_number: report.number.0,
        breach_txid: report.txid.to_string(),
        height: report.height.map_or(0, |height| height.0),
        claims: report.claims.iter().map(claim).collect(),
    }
}

fn claim(report: &ClaimReport) -> leyden::TowerClaim {
    use leyden::tower_claim::State;
    let sat = |amount: Amount| i64::try_from(amount.to_sat()).unwrap_or(i64::MAX);
    let claim = leyden::TowerClaim {
        outpoint: report.outpoint.to_string(),
        amount: sat(report.amount),
        deadline: report.deadline.map_or(0, |deadline| deadline.0),
        ..Default::default()
    };
    match report.status {
        ClaimStatus::Waiting => claim,
        ClaimStatus::Broadcast { txid, fee, feerate } => leyden::TowerClaim {
            state: State::Broadcast.into(),
            txid: txid.to_string(),
            fee: sat(fee),
            sat_per_kw: feerate.0,
            ..claim
        },
        ClaimStatus::Spent { txid, ours, height } => leyden::TowerClaim {
            state: if ours { State::Claimed } else { State::Lost }.into(),
            txid: txid.to_string(),
            spent_height: height.0,
            ..claim
        },
    }
}
