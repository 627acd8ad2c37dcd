//! Watchtowers: LND's view of them, and Leyden's own.

use std::net::Ipv6Addr;

use bitcoin::{OutPoint, secp256k1::PublicKey};
use leyden_channels::types::{CommitmentNumber, FeeratePerKw, Height};
use leyden_proto::{leyden, wtclientrpc};
use leyden_watchtower::{
    client::record::Proof,
    message::{DEFAULT_PORT, Mode, SignedHeld},
    receipt::{Held, Says},
};

use super::edge;
use crate::api::{AddTower, ApiError, AuditOutcome, ChannelAudit, ChannelCoverage, Tower, TowerCoverage, TowerList};

/// host:port; a host alone is at the port of towers.
pub(crate) fn address(field: &str, text: &str) -> Result<String, ApiError> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]:{DEFAULT_PORT}"));
    }
    let with_port = format!("{text}:{DEFAULT_PORT}");
    let found = [text, &with_port].into_iter().find(|text| edge::host_and_port(field, text).is_ok());
    found.map(str::to_owned).ok_or_else(|| edge::wrong(field, format_args!("\"{text}\" is not host:port")))
}

pub(crate) fn to_add(key: PublicKey, address: &str, mode: Mode) -> Result<AddTower, ApiError> {
    Ok(AddTower { key, address: self::address("address", address)?, mode })
}

pub(crate) fn optional_point(field: &str, text: &str) -> Result<Option<OutPoint>, ApiError> {
    if text.is_empty() { Ok(None) } else { edge::point(field, text).map(Some) }
}

/// What is told of sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sessions {
    pub listed: bool,
    pub without_exhausted: bool,
}

pub(crate) fn tower(tower: &Tower, shown: Sessions) -> wtclientrpc::Tower {
    let session = tower.granted.map(|granted| {
        let rate = per_vbyte(granted.sweep_feerate);
        #[allow(deprecated)]
        wtclientrpc::TowerSession {
            num_backups: small(tower.held),
            num_pending_backups: small(tower.waiting),
            max_backups: small(granted.states),
            sweep_sat_per_byte: rate,
            sweep_sat_per_vbyte: rate,
            id: tower.client.0.to_vec(),
        }
    });
    let session = session.filter(|_| !(shown.without_exhausted && tower.is_exhausted()));
    let num_sessions = u32::from(session.is_some());
    let sessions: Vec<_> = session.filter(|_| shown.listed).into_iter().collect();
    let info = wtclientrpc::TowerSessionInfo {
        active_session_candidate: tower.active,
        num_sessions,
        sessions: sessions.clone(),
        policy_type: wtclientrpc::PolicyType::Anchor.into(),
    };
    #[allow(deprecated)]
    wtclientrpc::Tower {
        pubkey: tower.key.serialize().to_vec(),
        addresses: vec![tower.address.clone()],
        active_session_candidate: tower.active,
        num_sessions,
        sessions,
        session_info: vec![info],
    }
}

pub(crate) fn stats(list: &TowerList) -> wtclientrpc::StatsResponse {
    let sum = |of: fn(&Tower) -> u64| small(list.towers.iter().map(of).fold(0, u64::saturating_add));
    wtclientrpc::StatsResponse {
        num_backups: sum(|tower| tower.held),
        num_pending_backups: sum(|tower| tower.waiting),
        num_failed_backups: small(list.failed),
        num_sessions_acquired: small(list.registered),
        num_sessions_exhausted: sum(|tower| u64::from(tower.is_exhausted())),
    }
}

pub(crate) fn policy_type(request: &wtclientrpc::PolicyRequest) -> Result<(), ApiError> {
    use wtclientrpc::PolicyType;
    match PolicyType::try_from(request.policy_type) {
        Ok(PolicyType::Legacy | PolicyType::Anchor) => Ok(()),
        Ok(PolicyType::Taproot) => Err(edge::wrong("policy_type", "this node has no taproot channels")),
        Err(_) => Err(edge::wrong("policy_type", format_args!("{} is not known", request.policy_type))),
    }
}

pub(crate) fn policy(list: &TowerList) -> wtclientrpc::PolicyResponse {
    let rate = per_vbyte(list.sweep_feerate);
    #[allow(deprecated)]
    wtclientrpc::PolicyResponse { max_updates: 0, sweep_sat_per_byte: rate, sweep_sat_per_vbyte: rate }
}

pub(crate) fn list(list: &TowerList) -> leyden::ListTowersResponse {
    let info = |tower: &Tower| {
        let granted = tower.granted;
        leyden::TowerInfo {
            pubkey: tower.key.to_string(),
            address: tower.address.clone(),
            own: tower.mode == Mode::Own,
            active: tower.active,
            connected: tower.connected,
            trouble: tower.trouble.clone().unwrap_or_default(),
            states_held: tower.held,
            states_waiting: tower.waiting,
            max_states: granted.map_or(0, |granted| granted.states),
            max_bytes: granted.map_or(0, |granted| granted.bytes),
            until_height: granted.map_or(0, |granted| granted.until.0),
            sweep_sat_per_kw: granted.map_or(0, |granted| granted.sweep_feerate.0),
            receipt_key: granted.map(|granted| granted.receipt_key.to_string()).unwrap_or_default(),
            proof: tower.proof.as_ref().map(proof),
            client_pubkey: hex::encode(tower.client.0),
            reached: tower.reached,
            height: tower.chain.map(|chain| chain.seen.height.0),
        }
    };
    leyden::ListTowersResponse { towers: list.towers.iter().map(info).collect(), required: u32::from(list.required) }
}

pub(crate) fn coverage(channel: &ChannelCoverage) -> leyden::ChannelCoverage {
    let tower = |one: &TowerCoverage| leyden::TowerCoverage {
        pubkey: one.key.to_string(),
        own: one.mode == Mode::Own,
        // An own tower got all earlier states with the first.
        first: one.receipts.first().map(|receipt| if one.mode == Mode::Own { 0 } else { receipt.held.first.0 }),
        up_to: one.receipts.iter().map(|receipt| receipt.held.up_to.0).max(),
        waiting: one.waiting,
        complete: one.why_not.is_none(),
        why_not: one.why_not.clone().unwrap_or_default(),
        receipts: one.receipts.iter().map(receipt).collect(),
        waited_for: one.waited_for,
    };
    leyden::ChannelCoverage {
        channel_point: channel.funding.to_string(),
        remote_pubkey: channel.peer.to_string(),
        revoked: channel.revoked.map(|CommitmentNumber(number)| number),
        towers: channel.towers.iter().map(tower).collect(),
        covered: channel.towers.iter().any(|one| one.why_not.is_none()),
        payments_wait: channel.payments_wait,
    }
}

pub(crate) fn audit(audit: &ChannelAudit) -> leyden::ChannelAudit {
    use leyden::channel_audit::Result as Found;
    let (result, held, broken) = match &audit.outcome {
        AuditOutcome::Holds(held) => (Found::Holds, Some(*held), None),
        AuditOutcome::BrokeItsWord { contradiction, proof } => {
            let held = match proof.audit.says {
                Says::Holds(held) => Some(held),
                Says::Nothing | Says::Closed(_) => None,
            };
            (Found::BrokeItsWord, held, Some((contradiction, proof)))
        }
        AuditOutcome::Closed(_) => (Found::ChannelClosed, None, None),
        AuditOutcome::TermOver => (Found::TermOver, None, None),
        AuditOutcome::NotShown(_) => (Found::NotShown, None, None),
        AuditOutcome::NoReceipt => (Found::NoReceipt, None, None),
        AuditOutcome::NotConnected => (Found::NotConnected, None, None),
        AuditOutcome::NoAnswer => (Found::NoAnswer, None, None),
    };
    let (closed, not_shown) = match &audit.outcome {
        AuditOutcome::Closed(closed) => (Some(closed), None),
        AuditOutcome::NotShown(number) => (None, Some(number.0)),
        AuditOutcome::Holds(_)
        | AuditOutcome::TermOver
        | AuditOutcome::BrokeItsWord { .. }
        | AuditOutcome::NoReceipt
        | AuditOutcome::NotConnected
        | AuditOutcome::NoAnswer => (None, None),
    };
    leyden::ChannelAudit {
        not_shown,
        closed_by: closed.map(|closed| closed.txid.to_string()).unwrap_or_default(),
        closed_height: closed.map_or(0, |closed| closed.height.0),
        channel_point: audit.funding.to_string(),
        result: result.into(),
        first: held.map(|held| held.first.0),
        up_to: held.map(|held| held.up_to.0),
        contradiction: broken.map(|(contradiction, _)| contradiction.to_string()).unwrap_or_default(),
        proof: broken.map(|(_, broken)| proof(broken)),
    }
}

fn receipt(receipt: &SignedHeld) -> leyden::TowerReceipt {
    signed(&receipt.held, receipt.until, &receipt.signature)
}

fn signed(held: &Held, until: Height, signature: &bitcoin::secp256k1::ecdsa::Signature) -> leyden::TowerReceipt {
    leyden::TowerReceipt {
        first: held.first.0,
        up_to: held.up_to.0,
        digest: hex::encode(held.digest.0),
        signature: hex::encode(signature.serialize_compact()),
        until_height: until.0,
    }
}

fn proof(proof: &Proof) -> leyden::TowerProof {
    let Proof { receipt_key, receipt, receipt_signature, audit, audit_signature } = proof;
    let (held, closed) = match audit.says {
        Says::Nothing => (None, None),
        Says::Holds(held) => (Some(held), None),
        Says::Closed(closed) => (None, Some(closed)),
    };
    leyden::TowerProof {
        at_height: audit.at.0,
        closed_by: closed.map(|closed| closed.txid.to_string()).unwrap_or_default(),
        closed_height: closed.map_or(0, |closed| closed.height.0),
        receipt_key: receipt_key.to_string(),
        chain_hash: receipt.chain.to_string(),
        client: hex::encode(receipt.client.0),
        tag: hex::encode(receipt.channel.tag.0),
        funding_index: u32::from(receipt.channel.funding.0),
        receipt: Some(signed(&receipt.held, receipt.until, receipt_signature)),
        nonce: hex::encode(audit.nonce),
        held_first: held.map(|held| held.first.0),
        held_up_to: held.map(|held| held.up_to.0),
        held_digest: held.map(|held| hex::encode(held.digest.0)).unwrap_or_default(),
        held_signature: hex::encode(audit_signature.serialize_compact()),
    }
}

/// LND's fields for counts have 32 bits.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Satoshi per virtual byte, rounded down.
fn per_vbyte(rate: FeeratePerKw) -> u32 {
    rate.0 / 250
}
