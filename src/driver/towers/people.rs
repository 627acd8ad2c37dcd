//! What people ask the towers' task, and what it tells them by itself.

use leyden_channels::types::ChannelId;
use leyden_watchtower::{
    appointment::ClientId,
    client::{Event, Notice, keys::TowerKeys as _, record::TowerId},
    receipt::{Held, Says},
};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::{
    AuditOutcome, ChannelTowers, TowerState, TowersView,
    task::{Counts, Running, WaitingAudit},
};
use crate::words::said;

impl Running {
    pub(super) fn view(&self) -> TowersView {
        let mut channels: Vec<ChannelTowers> = self
            .channels
            .values()
            .map(|known| ChannelTowers {
                channel: known.channel,
                funding: known.funding,
                peer: known.peer,
                coverage: self.client.coverage(known.channel),
            })
            .collect();
        channels.sort_by_key(|one| one.funding);
        let towers = self.client.towers().map(|(id, row)| {
            let coverage = channels.iter().flat_map(|one| &one.coverage).filter(|one| one.tower == id);
            let (mut held, mut waiting) = (0_u64, 0_u64);
            for one in coverage {
                held += one.receipts.iter().map(|receipt| states(&receipt.held)).sum::<u64>();
                waiting += one.waiting;
            }
            let client: ClientId = self.services.keys.client(&row.key);
            let connection = self.connections.get(&id);
            let is_reached = connection.is_some_and(|connection| connection.is_reached);
            let trouble = connection.and_then(|connection| connection.trouble.clone());
            let is_ready = self.client.is_connected(id);
            let chain = self.client.chain_of(id);
            TowerState { id, row: row.clone(), client, is_ready, chain, is_reached, trouble, held, waiting }
        });
        let (towers, Counts { failed, registered }) = (towers.collect(), self.counts);
        TowersView { required: self.client.required(), towers, channels, failed, registered }
    }

    pub(super) fn audit(&mut self, tower: TowerId, channel: ChannelId, answer: oneshot::Sender<AuditOutcome>) {
        let coverage = self.client.coverage(channel).into_iter().find(|one| one.tower == tower);
        let receipt = coverage.and_then(|one| one.receipts.last().copied());
        let outcome = match receipt {
            _ if !self.client.is_connected(tower) => AuditOutcome::NotConnected,
            None => AuditOutcome::NoReceipt,
            Some(receipt) => {
                self.audits.push(WaitingAudit { tower, channel, held: receipt.held, answer });
                return self.event(Event::Audit { tower, channel, nonce: rand::random() });
            }
        };
        let _ = answer.send(outcome);
    }

    /// Everybody who waits for it hears what came of an audit; `outcome` is given what was signed for when it was asked.
    pub(super) fn audited(&mut self, tower: TowerId, channel: ChannelId, outcome: impl Fn(Held) -> AuditOutcome) {
        let asked = |waiting: &mut WaitingAudit| waiting.tower == tower && waiting.channel == channel;
        for WaitingAudit { held, answer, .. } in self.audits.extract_if(.., asked) {
            let _ = answer.send(outcome(held));
        }
    }

    pub(super) fn name(&self, tower: TowerId) -> String {
        self.client.tower(tower).map(|row| format!("{}@{}", row.key, row.address)).unwrap_or_default()
    }

    /// A channel as commands name it.
    fn point(&self, channel: ChannelId) -> String {
        self.channels.get(&channel).map_or_else(|| channel.to_string(), |known| known.funding.to_string())
    }

    pub(super) fn trouble(&mut self, tower: TowerId, what: &str) {
        if let Some(connection) = self.connections.get_mut(&tower) {
            connection.trouble = Some(said(what).to_string());
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Waiting { channel, number, missing, required } => {
                let missing: Vec<String> = missing.into_iter().map(|tower| self.name(tower)).collect();
                warn!(
                    channel = self.point(channel),
                    state = number.0,
                    required,
                    missing = missing.join(", "),
                    "payments of this channel wait until enough watchtowers hold its last revoked state"
                );
            }
            Notice::Registered { tower, until } => {
                self.counts.registered += 1;
                let name = self.name(tower);
                if let Some(connection) = self.connections.get_mut(&tower) {
                    connection.trouble = None;
                    // It grants the same at every connection.
                    if connection.logged_until.replace(until) != Some(until) {
                        info!(tower = name, until_block = until.0, "a watchtower stores the backups of this node");
                    }
                }
            }
            Notice::Refused { tower, code, text } => {
                let text = said(&text).to_string();
                warn!(tower = self.name(tower), ?code, text, "a watchtower refuses");
                self.trouble(tower, &format!("it refuses: {text}"));
            }
            Notice::Unusable { tower, why } => {
                warn!(tower = self.name(tower), why, "a watchtower cannot be used");
                self.trouble(tower, &why);
            }
            Notice::ChannelRefused { tower, channel, code, text } => {
                let text = said(&text).to_string();
                warn!(tower = self.name(tower), %channel, ?code, text,
                    "a watchtower refuses a channel; it is tried again after growing pauses");
            }
            Notice::TermTooShort { tower, until, tip } => {
                let why = format!(
                    "it keeps backups until block {} only, and the chain is at {}: its own chain may be behind",
                    until.0, tip.0
                );
                warn!(tower = self.name(tower), why, "a watchtower is of no use");
                self.trouble(tower, &why);
            }
            Notice::TermOver { tower, channel, until } => {
                warn!(tower = self.name(tower), %channel, until = until.0,
                    "the term of a watchtower is over, and what it held for us with it: it gets what is revoked from now on");
            }
            Notice::Closed { tower, channel, closed } => {
                info!(tower = self.name(tower), %channel, txid = %closed.txid, block = closed.height.0,
                    "a watchtower says that this channel is closed, and that all that came of it is final");
            }
            Notice::ClaimsMore { tower, channel, number } => {
                warn!(tower = self.name(tower), %channel, state = number.0,
                    "a watchtower says that it knows a later state than this node, and cannot show that this node ever sent it: \
                     it is not believed");
            }
            Notice::NotShown { tower, channel, number } => {
                error!(tower = self.name(tower), %channel, state = number.0,
                    "a watchtower signed for a state, and cannot show that it has it: use another one");
                self.audited(tower, channel, |_| AuditOutcome::NotShown(number));
            }
            Notice::AuditUnanswered { tower, channel } => {
                warn!(tower = self.name(tower), %channel, "a watchtower does not answer an audit");
                self.trouble(tower, "it does not answer when it is asked to show what it signed for");
            }
            Notice::DataIsOld { tower, channel, number } => {
                error!(
                    tower = self.name(tower),
                    channel = self.point(channel),
                    state = number.0,
                    "a watchtower holds a later state of this channel than this node knows: this node's data is old, so nothing is \
                     sent in the channel, and the peer has to close it"
                );
            }
            Notice::HoldsLess { tower, channel } => {
                warn!(
                    tower = self.name(tower),
                    channel = self.point(channel),
                    "a watchtower says that it has lost what it signed for"
                );
                self.event(Event::Audit { tower, channel, nonce: rand::random() });
            }
            Notice::CoveredFrom { tower, channel, number } => {
                info!(
                    tower = self.name(tower),
                    channel = self.point(channel),
                    state = number.0,
                    "states before this one are not covered: the channel is older than the tower"
                );
            }
            Notice::NotPrepared { tower, channel, why } => {
                error!(
                    tower = self.name(tower),
                    channel = self.point(channel),
                    why,
                    "a backup for a watchtower cannot be made"
                );
            }
            Notice::AuditPassed { tower, channel, says } => self.audited(tower, channel, |held| match says {
                Says::Holds(_) => AuditOutcome::Passed(held),
                Says::Closed(closed) => AuditOutcome::Closed(closed),
                Says::Nothing => AuditOutcome::TermOver,
            }),
            Notice::AuditFailed { tower, channel, contradiction, proof } => {
                error!(tower = self.name(tower), channel = self.point(channel), %contradiction, "a watchtower broke its word: use another one");
                self.audited(tower, channel, |_| AuditOutcome::Failed { contradiction, proof: proof.clone() });
            }
        }
    }
}

/// How many states a receipt is for.
fn states(held: &Held) -> u64 {
    held.up_to.0.saturating_sub(held.first.0).saturating_add(1)
}
