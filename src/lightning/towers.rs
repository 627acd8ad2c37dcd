//! The calls about watchtowers.

use std::{collections::BTreeSet, ops::Range};

use async_trait::async_trait;
use bitcoin::{OutPoint, secp256k1::PublicKey};
use leyden_channels::types::CommitmentNumber;
use leyden_watchtower::{
    appointment::ClientId,
    client::{
        Blindness, Coverage, ROWS_WITHOUT_TOWER, TowerChain, Trouble,
        keys::TowerKeys as _,
        record::{TowerId, Use},
    },
    message::{Mode, RefusalCode},
};

use super::LightningNode;
use crate::{
    api::{AddTower, ApiError, AuditOutcome, ChannelAudit, ChannelCoverage, Tower, TowerCoverage, TowerList, Towers},
    driver::towers::{self, ChannelTowers, TowerError, TowerState, TowersView},
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
        let services = self.services();
        let TowersView { required, towers, channels: _, failed, registered } = services.towers.view().await?;
        let sweep_feerate = services.towers.sweep_feerate();
        let towers = towers.into_iter().map(tower).collect();
        Ok(TowerList { towers, required, sweep_feerate, failed, registered })
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
                towers::AuditOutcome::Closed(closed) => AuditOutcome::Closed(closed),
                towers::AuditOutcome::TermOver => AuditOutcome::TermOver,
                towers::AuditOutcome::NotShown(number) => AuditOutcome::NotShown(number),
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
    let TowerState { id: _, row, client, is_ready, chain, is_reached, trouble, held, waiting } = state;
    let trouble = trouble.or_else(|| chain.and_then(blind));
    Tower {
        key: row.key,
        address: row.address,
        mode: row.mode,
        active: row.use_of_it == Use::Active,
        connected: is_ready,
        reached: is_reached,
        chain,
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
            waited_for: waits(view, one) && is_waited_for(coverage, tower),
        })
    });
    let revoked = one.coverage.iter().filter_map(|coverage| coverage.revoked).max();
    let payments_wait = waits(view, one);
    ChannelCoverage { funding: one.funding, peer: one.peer, revoked, towers: towers.collect(), payments_wait }
}

/// Whether a tower's receipts count: it is in use and has kept its word.
fn counts(tower: &TowerState) -> bool {
    tower.row.use_of_it == Use::Active && tower.row.proof.is_none()
}

/// Whether a channel does not go on before this tower holds more.
fn is_waited_for(coverage: &Coverage, tower: &TowerState) -> bool {
    let lacks_some = coverage.waiting > 0 || coverage.trouble == Some(Trouble::HoldsLess);
    counts(tower) && lacks_some
}

/// Whether the payments of a channel wait until more towers hold its last revoked state (`--tower-require`).
fn waits(view: &TowersView, one: &ChannelTowers) -> bool {
    let required = usize::from(view.required);
    let counted = || {
        let known = one.coverage.iter().filter_map(move |coverage| Some((coverage, find(view, coverage.tower)?)));
        known.filter(|(_, tower)| counts(tower))
    };
    let holding = counted().filter(|(coverage, tower)| !is_waited_for(coverage, tower)).count();
    // What waits for nobody is not stored for long: where nothing waits, nothing has been revoked since.
    let some_wait = counted().any(|(coverage, _)| coverage.waiting > 0) || counted().count() < required;
    holding < required && some_wait
}

fn find(view: &TowersView, id: TowerId) -> Option<&TowerState> {
    view.towers.iter().find(|tower| tower.id == id)
}

/// Why a tower does not cover every revoked state of a channel, and what can be done.
pub(super) fn why_not(coverage: &Coverage, tower: &TowerState) -> Option<String> {
    if tower.row.proof.is_some() {
        return Some("it broke its word: remove it, and use another tower".to_owned());
    }
    match coverage.trouble {
        Some(Trouble::DataIsOld) => {
            return Some("it knows a later state than this node, whose data is old".to_owned());
        }
        Some(Trouble::ClaimsMore) => {
            let text = "it says that it knows a later state than this node, and cannot show it: use another tower";
            return Some(text.to_owned());
        }
        Some(Trouble::NotShown(number)) => {
            return Some(format!("it signed for state {} and cannot show that it has it: use another tower", number.0));
        }
        Some(Trouble::Closed(closed)) => {
            return Some(format!(
                "it says that the channel was closed by {} in block {}, and gave its backups back when that was final",
                closed.txid, closed.height.0
            ));
        }
        Some(Trouble::Refused(code)) => return Some(refused(code, coverage.waiting)),
        Some(Trouble::NoRoundLeft) => {
            let text = "it has not taken the channel under any of 255 names: remove it, and use another tower";
            return Some(text.to_owned());
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
        return tower.chain.and_then(blind);
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

/// Why a tower that holds everything may still not see a breach.
fn blind(chain: TowerChain) -> Option<String> {
    Some(match chain.blindness()? {
        Blindness::Behind(blocks) => format!(
            "its chain was {blocks} blocks behind ours when it was asked last: it sees no breach in those; look after its chain, or use another tower"
        ),
        Blindness::Unsure => {
            "it does not know how far the chain is, so it may see no breach; look after its chain, or use another tower"
                .to_owned()
        }
    })
}

/// Why a tower does not take one channel, which is tried again now and then.
fn refused(code: RefusalCode, waiting: u64) -> String {
    let why = match code {
        RefusalCode::QuotaExceeded | RefusalCode::Full => "it has no more room for this channel: add another tower",
        RefusalCode::ChannelExists | RefusalCode::NoSuchChannel => "it takes no name of this channel",
        RefusalCode::ChannelEnded => "it says that the channel has ended, and does not show how",
        RefusalCode::Unreadable | RefusalCode::WrongSecret | RefusalCode::OutOfOrder => {
            "it cannot read a backup: see the log, and report this"
        }
        RefusalCode::NotOffered
        | RefusalCode::TooFast
        | RefusalCode::NotRegistered
        | RefusalCode::TermsDiffer
        | RefusalCode::NotReady
        | RefusalCode::Other(_) => "it refuses this channel: see the log",
    };
    match waiting {
        0 => why.to_owned(),
        1 => format!("{why}; 1 state waits, and is offered again now and then"),
        waiting => format!("{why}; {waiting} states wait, and are offered again now and then"),
    }
}

/// What a person should do something about; the worst first. `closed` are channels whose closing transaction is in a block:
/// whether towers cover them matters no more.
pub(super) fn warnings(view: &TowersView, closed: &BTreeSet<OutPoint>) -> Vec<String> {
    let in_use: Vec<&TowerState> = view.towers.iter().filter(|tower| tower.row.use_of_it == Use::Active).collect();
    let kept_word = in_use.iter().filter(|tower| counts(tower)).count();
    let living = || view.channels.iter().filter(move |one| !closed.contains(&one.funding));
    let mut warnings: Vec<String> = living().filter_map(|one| old_data(view, one)).collect();
    for tower in &in_use {
        if tower.row.proof.is_some() {
            warnings.push(format!(
                "watchtower {} broke its word: it signed for backups that it does not have (`leyden --json tower list` has the \
                 proof). Add another one, and then `leyden tower remove {0}`: until then the newest {ROWS_WITHOUT_TOWER} states of \
                 each channel are kept for it",
                tower.row.key
            ));
        }
    }
    if usize::from(view.required) > kept_word {
        warnings.push(format!(
            "--tower-require is {}, and the watchtowers in use are {kept_word}: payments wait. Add towers with `leyden tower \
             add`, or start leydend with a lower number",
            view.required
        ));
    } else {
        warnings.extend(living().filter_map(|one| stuck(view, one)));
    }
    if in_use.is_empty() {
        return warnings;
    }
    for one in living().filter(|one| old_data(view, one).is_none()) {
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

/// A tower holds a state that this node does not know.
fn old_data(view: &TowersView, one: &ChannelTowers) -> Option<String> {
    let knows_more = |coverage: &&Coverage| coverage.trouble == Some(Trouble::DataIsOld);
    let towers = one.coverage.iter().filter(knows_more).filter_map(|coverage| find(view, coverage.tower));
    let towers: Vec<String> = towers.map(|tower| short(&tower.row.key)).collect();
    (!towers.is_empty()).then(|| {
        format!(
            "THE DATA OF THIS NODE IS OLD: watchtower {} holds a later state of channel {} than this node knows, so this data \
             directory is an old copy. Do not close the channel with --force: that would publish a revoked state, and all of \
             it would be lost. Nothing is sent in it any more; connect to the peer, and let it close. If the newer data \
             directory still exists, stop this node and start that one instead",
            towers.join(", "),
            one.funding
        )
    })
}

/// Payments that wait for a tower that cannot take what they wait for.
fn stuck(view: &TowersView, one: &ChannelTowers) -> Option<String> {
    if !waits(view, one) {
        return None;
    }
    let towers = one.coverage.iter().filter_map(|coverage| {
        let tower = find(view, coverage.tower)?;
        let cannot = is_waited_for(coverage, tower) && (!tower.is_ready || coverage.trouble.is_some());
        let why = why_not(coverage, tower).filter(|_| cannot)?;
        Some(format!("{} ({why})", short(&tower.row.key)))
    });
    let towers: Vec<String> = towers.collect();
    (!towers.is_empty()).then(|| {
        format!(
            "payments of channel {} wait for watchtower {}: --tower-require is {}. Bring it back, add another with `leyden tower \
             add`, or start leydend with a lower number",
            one.funding,
            towers.join(", "),
            view.required
        )
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

#[cfg(test)]
mod tests {
    use bitcoin::{Txid, hashes::Hash as _};
    use leyden_channels::types::{ChannelId, Height, NodeId};
    use leyden_watchtower::{client::record::TowerRow, message::ChainSeen};

    use super::*;

    const KEY: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

    fn funding() -> OutPoint {
        OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 1 }
    }

    /// A tower that is away, and a channel of which a state waits for it.
    fn view(required: u16, trouble: Option<Trouble>) -> TowersView {
        let key: PublicKey = KEY.parse().unwrap();
        let address = "10.0.0.2:9911".to_owned();
        let row = TowerRow { key, address, mode: Mode::Blind, use_of_it: Use::Active, granted: None, proof: None };
        let tower = TowerState {
            id: TowerId(0),
            row,
            client: ClientId([2; 33]),
            is_ready: false,
            chain: None,
            is_reached: false,
            trouble: Some("nobody answers".to_owned()),
            held: 0,
            waiting: 1,
        };
        let coverage = Coverage {
            tower: TowerId(0),
            mode: Mode::Blind,
            receipts: Vec::new(),
            revoked: Some(CommitmentNumber(0)),
            waiting: 1,
            trouble,
        };
        let channel = ChannelTowers {
            channel: ChannelId([1; 32]),
            funding: funding(),
            peer: NodeId::from(key),
            coverage: vec![coverage],
        };
        TowersView { required, towers: vec![tower], channels: vec![channel], failed: 0, registered: 0 }
    }

    fn said(view: &TowersView) -> String {
        warnings(view, &BTreeSet::new()).join("\n")
    }

    #[test]
    fn payments_that_wait_for_a_tower_name_it() {
        let text = said(&view(1, None));
        assert!(
            text.contains(&format!("payments of channel {} wait for watchtower 02c6047f9441", funding())),
            "{text}"
        );
        assert!(text.contains("nobody answers") && text.contains("--tower-require is 1"), "{text}");
        let shown = coverage(&view(1, None), &view(1, None).channels[0]);
        assert!(shown.payments_wait && shown.towers[0].waited_for);
        let nobody_waits = coverage(&view(0, None), &view(0, None).channels[0]);
        assert!(!nobody_waits.payments_wait && !nobody_waits.towers[0].waited_for);
        assert!(!said(&view(0, None)).contains("payments of channel"));
    }

    #[test]
    fn a_tower_whose_chain_is_behind_covers_nothing() {
        let mut view = view(0, None);
        view.channels[0].coverage[0].revoked = None;
        let why = |view: &TowersView| coverage(view, &view.channels[0]).towers[0].why_not.clone();
        let seen = |height, is_sure| ChainSeen { height: Height(height), is_sure };
        for (seen, says) in [
            (seen(994, true), None),
            (seen(993, true), Some("7 blocks behind")),
            (seen(1_003, true), None),
            (seen(1_000, false), Some("does not know how far")),
        ] {
            view.towers[0].chain = Some(TowerChain { seen, ours: Height(1_000) });
            let why = why(&view);
            assert_eq!(why.is_some(), says.is_some(), "{seen:?}: {why:?}");
            assert!(says.is_none_or(|says| why.unwrap().contains(says)));
            assert_eq!(said(&view).contains("not covered by any watchtower"), says.is_some(), "{seen:?}");
        }
    }

    #[test]
    fn old_data_found_by_a_tower_comes_first_and_is_no_lack_of_cover() {
        let list = warnings(&view(0, Some(Trouble::DataIsOld)), &BTreeSet::new());
        assert!(list[0].contains("DATA OF THIS NODE IS OLD") && list[0].contains("--force"), "{list:?}");
        assert!(!list.iter().any(|warning| warning.contains("not covered")), "{list:?}");
    }

    #[test]
    fn a_channel_that_is_closed_on_the_chain_needs_no_cover() {
        assert!(said(&view(1, None)).contains("not covered by any watchtower"));
        assert_eq!(warnings(&view(1, None), &BTreeSet::from([funding()])), Vec::<String>::new());
    }
}
