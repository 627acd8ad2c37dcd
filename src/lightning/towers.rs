//! The calls about watchtowers.

use std::ops::Range;

use async_trait::async_trait;
use bitcoin::{OutPoint, secp256k1::PublicKey};
use leyden_channels::types::CommitmentNumber;
use leyden_watchtower::{
    appointment::ClientId,
    client::{
        Coverage, Trouble,
        keys::TowerKeys as _,
        record::{TowerId, Use},
    },
    message::Mode,
};

use super::LightningNode;
use crate::{
    api::{AddTower, ApiError, AuditOutcome, ChannelAudit, ChannelCoverage, Tower, TowerCoverage, TowerList, Towers},
    driver::towers::{self, ChannelTowers, SWEEP_FEERATE, TowerError, TowerState, TowersView},
};

#[async_trait]
impl Towers for LightningNode {
    async fn add_tower(&self, tower: AddTower) -> Result<ClientId, ApiError> {
        let AddTower { key, address, mode } = tower;
        let services = self.services();
        services.towers.add(key, address, mode).await?;
        Ok(services.keys.client(&key))
    }

    async fn remove_tower(&self, key: PublicKey, address: Option<String>) -> Result<(), ApiError> {
        Ok(self.services().towers.remove(key, address).await?)
    }

    async fn deactivate_tower(&self, key: PublicKey) -> Result<(), ApiError> {
        Ok(self.services().towers.deactivate(key).await?)
    }

    async fn towers(&self) -> Result<TowerList, ApiError> {
        let TowersView { required, towers, channels: _, failed, registered } = self.services().towers.view().await?;
        let towers = towers.into_iter().map(tower).collect();
        Ok(TowerList { towers, required, sweep_feerate: SWEEP_FEERATE, failed, registered })
    }

    async fn coverage(&self, channel: Option<OutPoint>) -> Result<Vec<ChannelCoverage>, ApiError> {
        let view = self.services().towers.view().await?;
        let found = named(&view, channel)?;
        Ok(found.into_iter().map(|one| coverage(&view, one)).collect())
    }

    async fn audit_tower(&self, key: PublicKey, channel: Option<OutPoint>) -> Result<Vec<ChannelAudit>, ApiError> {
        let towers = &self.services().towers;
        let view = towers.view().await?;
        let tower = view.towers.iter().find(|tower| tower.row.key == key).ok_or(TowerError::Unknown(key))?;
        let mut audits = Vec::new();
        for one in named(&view, channel)? {
            let outcome = match towers.audit(tower.id, one.channel).await {
                towers::AuditOutcome::Passed(held) => AuditOutcome::Holds(held),
                towers::AuditOutcome::Failed { contradiction, proof } => {
                    AuditOutcome::BrokeItsWord { contradiction, proof }
                }
                towers::AuditOutcome::NoReceipt => AuditOutcome::NoReceipt,
                towers::AuditOutcome::NotConnected => AuditOutcome::NotConnected,
                towers::AuditOutcome::NoAnswer => AuditOutcome::NoAnswer,
            };
            audits.push(ChannelAudit { funding: one.funding, outcome });
        }
        Ok(audits)
    }
}

fn named(view: &TowersView, channel: Option<OutPoint>) -> Result<Vec<&ChannelTowers>, ApiError> {
    let found = view.channels.iter().filter(|one| channel.is_none_or(|funding| one.funding == funding));
    let found: Vec<&ChannelTowers> = found.collect();
    match channel {
        Some(funding) if found.is_empty() => {
            Err(ApiError::not_found(format!("there is no channel {funding}; see `leyden listchannels`")))
        }
        Some(_) | None => Ok(found),
    }
}

fn tower(state: TowerState) -> Tower {
    let TowerState { id: _, row, client, is_ready, trouble, held, waiting } = state;
    Tower {
        key: row.key,
        address: row.address,
        mode: row.mode,
        active: row.use_of_it == Use::Active,
        connected: is_ready,
        trouble,
        held,
        waiting,
        granted: row.granted,
        client,
        proof: row.proof,
    }
}

fn coverage(view: &TowersView, one: &ChannelTowers) -> ChannelCoverage {
    let towers = one.coverage.iter().filter_map(|coverage| {
        let tower = find(view, coverage.tower)?;
        Some(TowerCoverage {
            key: tower.row.key,
            mode: tower.row.mode,
            receipts: coverage.receipts.clone(),
            waiting: coverage.waiting,
            why_not: why_not(coverage, tower),
        })
    });
    let revoked = one.coverage.iter().filter_map(|coverage| coverage.revoked).max();
    ChannelCoverage { funding: one.funding, peer: one.peer, revoked, towers: towers.collect() }
}

fn find(view: &TowersView, id: TowerId) -> Option<&TowerState> {
    view.towers.iter().find(|tower| tower.id == id)
}

/// Why a tower does not hold every revoked state of a channel, and what can be done.
pub(super) fn why_not(coverage: &Coverage, tower: &TowerState) -> Option<String> {
    if tower.row.proof.is_some() {
        return Some("it broke its word: remove it, and use another tower".to_owned());
    }
    match coverage.trouble {
        Some(Trouble::DataIsOld) => {
            return Some("it knows a later state than this node, whose data is old".to_owned());
        }
        Some(Trouble::HoldsLess) => {
            return Some("it says that it has lost what it signed for: `leyden tower audit` shows it".to_owned());
        }
        Some(Trouble::NotPrepared) => {
            return Some("a backup cannot be made: see the log, and report this".to_owned());
        }
        None => {}
    }
    if coverage.is_complete() {
        return None;
    }
    let mut reasons = Vec::new();
    if coverage.waiting > 0 {
        reasons.push(match coverage.waiting {
            1 => "1 state waits".to_owned(),
            waiting => format!("{waiting} states wait"),
        });
    }
    match (tower.row.use_of_it, tower.is_ready, &tower.trouble) {
        (Use::Deactivated, _, _) => reasons.push("it is deactivated: `leyden tower add` uses it again".to_owned()),
        (Use::Active, false, None) => reasons.push("it has not been reached yet".to_owned()),
        (Use::Active, false, Some(trouble)) => reasons.push(format!("it cannot be used: {trouble}")),
        (Use::Active, true, _) => {}
    }
    reasons.extend(gaps(coverage).map(|gap| format!("states {} to {} are not covered", gap.start.0, gap.end.0 - 1)));
    if coverage.receipts.is_empty() && coverage.waiting == 0 {
        reasons.push("it holds nothing: the tower was added later, and covers what is revoked from now on".to_owned());
    }
    if reasons.is_empty() {
        reasons.push("its last states are on their way".to_owned());
    }
    Some(reasons.join("; "))
}

/// What a person should do something about.
pub(super) fn warnings(view: &TowersView) -> Vec<String> {
    let in_use: Vec<&TowerState> = view.towers.iter().filter(|tower| tower.row.use_of_it == Use::Active).collect();
    let kept_word = in_use.iter().filter(|tower| tower.row.proof.is_none()).count();
    let mut warnings = Vec::new();
    for tower in &in_use {
        if tower.row.proof.is_some() {
            warnings.push(format!(
                "watchtower {} broke its word: it signed for backups that it does not have (`leyden --json tower list` has the \
                 proof). `leyden tower remove {0}`, and add another one",
                tower.row.key
            ));
        }
    }
    if usize::from(view.required) > kept_word {
        warnings.push(format!(
            "--tower-require is {}, and {kept_word} watchtowers are in use: payments wait. Add towers with `leyden tower add`, \
             or start leydend with a lower number",
            view.required
        ));
    }
    if in_use.is_empty() {
        return warnings;
    }
    for one in &view.channels {
        if is_covered(view, one) {
            continue;
        }
        let reasons = one.coverage.iter().filter_map(|coverage| {
            let tower = find(view, coverage.tower)?;
            Some(format!("{}: {}", short(&tower.row.key), why_not(coverage, tower)?))
        });
        let reasons: Vec<String> = reasons.collect();
        warnings.push(format!(
            "channel {} is not covered by any watchtower ({}): `leyden tower coverage` shows more",
            one.funding,
            reasons.join(", ")
        ));
    }
    warnings
}

/// Whether a tower holds all that the peer has revoked, or is about to.
pub(super) fn is_covered(view: &TowersView, one: &ChannelTowers) -> bool {
    one.coverage.iter().any(|coverage| {
        let Some(tower) = find(view, coverage.tower) else { return false };
        // What is on its way to a tower that takes it is no gap.
        let only_waits = tower.is_ready && coverage.waiting > 0;
        why_not(coverage, tower).is_none() || (only_waits && coverage.trouble.is_none() && !has_gap(coverage))
    })
}

/// The states before and between those that it has.
fn gaps(coverage: &Coverage) -> impl Iterator<Item = Range<CommitmentNumber>> {
    let mut next = CommitmentNumber(0);
    let gaps = coverage.receipts.iter().map(move |receipt| {
        let held = receipt.held;
        // An own tower got all earlier ones with the first.
        let from = if coverage.mode == Mode::Own { held.first } else { next };
        next = next.max(held.up_to.next());
        from..held.first
    });
    gaps.filter(|gap| !gap.is_empty())
}

/// Whether states are missing that it has not and that do not wait for it.
fn has_gap(coverage: &Coverage) -> bool {
    let held = coverage.receipts.iter().map(|receipt| receipt.held.up_to.next()).max().unwrap_or(CommitmentNumber(0));
    let missing = coverage.revoked.map_or(0, |revoked| revoked.next().0.saturating_sub(held.0));
    gaps(coverage).next().is_some() || missing > coverage.waiting
}

fn short(key: &PublicKey) -> String {
    key.to_string().chars().take(12).collect()
}

impl From<TowerError> for ApiError {
    fn from(error: TowerError) -> Self {
        let text = error.to_string();
        match error {
            TowerError::Unknown(_) | TowerError::OtherAddress { .. } => Self::not_found(text),
            TowerError::LastAddress { .. } => Self::precondition(text),
            TowerError::OtherMode { .. } => Self::exists(text),
            TowerError::Stopped => Self::unavailable(text),
        }
    }
}
