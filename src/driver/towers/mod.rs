//! The node's watchtowers: the task that owns the towers' client, its connections, and what makes its backups.
//!
//! ```text
//!   peers' tasks ── a state is revoked ─► ┌──────┐ ── Prepare ─► a maker a tower (blocking threads) ──┐
//!                ◄─ towers hold it ────── │ task │ ◄────────────────── backups ─────────────────────┘
//!   calls ◄────── view, audit ──────────► └──────┘ ◄── messages ──► a connection a tower (BOLT 8 over TCP)
//! ```
//!
//! The task decides nothing: [`Client`] does. Its outboxes go through the committer like those of all cores, and an effect is
//! carried out only when its writes are durable. A tower that cannot be reached is dialled again after growing pauses
//! ([`LAST_PAUSE`]), one with which there is a dispute after those of [`Backoff`]. One that does not answer within
//! [`ANSWER_LIMIT`] is hung up on.
//!
//! A node that was restored from an old copy hears of it from its towers ([`Towers::answered`]): so nobody is dialled and
//! nobody is let in before they have answered, or [`ANSWER_PATIENCE`] has passed.

mod connections;
mod link;
mod make;
mod people;
mod signed;
mod task;
mod view;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bitcoin::OutPoint;
use leyden_channels::{
    channel::{Channel, Key, TowerPolicy},
    keys::PerCommitmentSecret,
    types::{ChannelId, CommitmentNumber, FeeratePerKw, NodeId},
};
use leyden_watchtower::{
    client::{
        Client,
        record::{ClientKey, TowerId},
    },
    message::Mode,
};
use secp256k1::PublicKey;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::store::{Store, StoreError};
use task::Command;
pub(crate) use task::Task;
pub(crate) use view::{AuditOutcome, ChannelTowers, TowerState, TowersView};

/// How long channels wait at the start for what the towers know.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a tower may leave what we sent unanswered.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How often that is looked at, and whether channels wait.
const TICK: Duration = Duration::from_secs(30);

/// Pauses between attempts to reach a tower: payments may wait for it, so it is found soon after it is back.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(20);

/// How long an audit may take: the tower reads everything again.
const AUDIT_LIMIT: Duration = Duration::from_secs(60);

/// Why a wish about a tower is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TowerError {
    #[error("tower not found: there is no {0}; see `leyden tower list`")]
    Unknown(PublicKey),
    #[error("{address} is the only address of this tower: add it with another one, or remove the tower")]
    LastAddress { address: String },
    #[error("this tower is not reached at {address}: its address is {known}")]
    OtherAddress { address: String, known: String },
    #[error(
        "tower {key} is there as {}: a tower serves a node in one way. `leyden tower remove` takes it away first",
        match mode { Mode::Blind => "a stranger's (blind)", Mode::Own => "your own (--own)" }
    )]
    OtherMode { key: PublicKey, mode: Mode },
    #[error("the daemon is stopping")]
    Stopped,
}

/// The handle of the task; what it shows is there without asking.
pub(crate) struct Towers {
    mailbox: mpsc::UnboundedSender<Command>,
    policy: Arc<AtomicU8>,
    sweep_feerate: FeeratePerKw,
    answered: watch::Receiver<bool>,
    begun: Instant,
}

/// A channel, as the task has to know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TowerChannel {
    pub channel: ChannelId,
    pub funding: OutPoint,
    pub peer: NodeId,
    /// The newest state that the peer has revoked.
    pub revoked: Option<CommitmentNumber>,
}

impl TowerChannel {
    /// `None` while it is not established.
    pub(crate) fn of(channel: &Channel) -> Option<Self> {
        let terms = channel.terms()?;
        let (channel, revoked) = (channel.id(), channel.newest_revoked());
        Some(Self { channel, funding: terms.funding, peer: terms.remote_node, revoked })
    }
}

impl Towers {
    /// From what is stored. The task is run once the channels are there.
    pub(crate) fn open(store: &Store, required: u16, sweep_feerate: FeeratePerKw) -> Result<(Self, Task), StoreError> {
        let name = |key: &[u8]| ClientKey::decode(key).map_err(|error| store.damaged(&error.to_string()));
        let mut rows = Vec::new();
        for (key, value) in store.core_records(&ClientKey::PREFIX)? {
            rows.push((name(&key)?, value));
        }
        for key in store.core_keys(&Key::all_tower_backups_prefix())? {
            rows.push((name(&key)?, Vec::new()));
        }
        let client = Client::restore(rows, required).map_err(|error| store.damaged(&error.to_string()))?;
        let (mailbox, commands) = mpsc::unbounded_channel();
        let policy = Arc::new(AtomicU8::new(encode_policy(client.policy())));
        let (show_answered, answered) = watch::channel(client.has_answered());
        let towers = Self {
            mailbox: mailbox.clone(),
            policy: Arc::clone(&policy),
            sweep_feerate,
            answered,
            begun: Instant::now(),
        };
        Ok((towers, Task::new(client, sweep_feerate, mailbox, commands, policy, show_answered)))
    }

    /// What each channel does for towers.
    pub(crate) fn policy(&self) -> TowerPolicy {
        decode_policy(self.policy.load(Ordering::Relaxed))
    }

    /// At which rate pre-signed claims pay for themselves.
    pub(crate) fn sweep_feerate(&self) -> FeeratePerKw {
        self.sweep_feerate
    }

    /// A channel has come to be.
    pub(crate) fn established(&self, channel: TowerChannel) {
        self.tell(Command::Channel(channel));
    }

    /// The peer has revoked a state that waits for towers.
    pub(crate) fn queued(&self, channel: ChannelId, number: CommitmentNumber, secret: Option<PerCommitmentSecret>) {
        self.tell(Command::Queued { channel, number, secret });
    }

    pub(crate) fn channel_over(&self, channel: ChannelId) {
        self.tell(Command::ChannelOver(channel));
    }

    /// Waits until the towers have said what they hold, or the time for that since the start has passed.
    pub(crate) async fn answered(&self) {
        self.answered_in(ANSWER_PATIENCE).await;
    }

    /// The same with another patience since the start.
    pub(crate) async fn answered_in(&self, patience: Duration) {
        let mut answered = self.answered.clone();
        let _ = timeout_at(self.begun + patience, answered.wait_for(|answered| *answered)).await;
    }

    // Calls.

    /// Adds a tower, or another address of one that is there; answers when that is durable.
    pub(crate) async fn add(&self, key: PublicKey, address: String, mode: Mode) -> Result<(), TowerError> {
        self.ask(|answer| Command::Add { key, address, mode, answer }).await?
    }

    pub(crate) async fn remove(&self, key: PublicKey, address: Option<String>) -> Result<(), TowerError> {
        self.ask(|answer| Command::Remove { key, address, answer }).await?
    }

    pub(crate) async fn deactivate(&self, key: PublicKey) -> Result<(), TowerError> {
        self.ask(|answer| Command::Deactivate { key, answer }).await?
    }

    pub(crate) async fn view(&self) -> Result<TowersView, TowerError> {
        self.ask(Command::View).await
    }

    /// Has a tower read again what it signed for of a channel.
    pub(crate) async fn audit(&self, tower: TowerId, channel: ChannelId) -> AuditOutcome {
        let asked = self.ask(|answer| Command::Audit { tower, channel, answer });
        timeout(AUDIT_LIMIT, asked).await.ok().and_then(Result::ok).unwrap_or(AuditOutcome::NoAnswer)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, TowerError> {
        let (answer, answered) = oneshot::channel();
        self.tell(command(answer));
        answered.await.map_err(|_| TowerError::Stopped)
    }

    fn tell(&self, command: Command) {
        // The task ends with the daemon.
        let _ = self.mailbox.send(command);
    }
}

const fn encode_policy(policy: TowerPolicy) -> u8 {
    match policy {
        TowerPolicy::None => 0,
        TowerPolicy::BackUp => 1,
        TowerPolicy::Require => 2,
    }
}

const fn decode_policy(number: u8) -> TowerPolicy {
    match number {
        0 => TowerPolicy::None,
        1 => TowerPolicy::BackUp,
        // What cannot be is the careful one.
        _ => TowerPolicy::Require,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_channels_do_for_towers_is_shown_to_them_as_it_is() {
        for policy in [TowerPolicy::None, TowerPolicy::BackUp, TowerPolicy::Require] {
            assert_eq!(decode_policy(encode_policy(policy)), policy);
        }
    }
}
