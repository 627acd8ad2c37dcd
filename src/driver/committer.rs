//! One thread turns the outboxes of all tasks that wait into one synced write.
//!
//! ```text
//!   peer task ─┐
//!   peer task ─┼─► queue ──► committer: one RocksDB batch, one fsync ──► each task gets its effects back
//!   RPC call ──┘
//! ```
//!
//! While one write is on its way to the disk the next batch gathers: the busier the node, the more share an fsync. A
//! write that fails ends the process, since memory would be ahead of the disk; a restart loads what is true.

use std::sync::mpsc;

use leyden_channels::{
    channel::{Effect, Outbox},
    payment::{incoming::InvoiceEffect, outgoing::PaymentEffect},
    switch::SwitchEffect,
    types::ChannelId,
};
use leyden_watchtower::client as towers;
use tokio::sync::oneshot;

use crate::store::{CoreKey, Store, StoreError};

/// What any of the cores asks for.
#[derive(Debug)]
pub(crate) enum NodeEffect {
    /// `connection` is the connection that the channel knew of: what it wanted to send must not go out on another.
    Channel {
        channel: ChannelId,
        connection: ConnectionId,
        effect: Effect,
    },
    Invoice(InvoiceEffect),
    Payment(PaymentEffect),
    Switch(SwitchEffect),
    Towers(towers::Effect),
}

impl From<((ChannelId, ConnectionId), Effect)> for NodeEffect {
    fn from(((channel, connection), effect): ((ChannelId, ConnectionId), Effect)) -> Self {
        Self::Channel { channel, connection, effect }
    }
}

impl From<InvoiceEffect> for NodeEffect {
    fn from(effect: InvoiceEffect) -> Self {
        Self::Invoice(effect)
    }
}

impl From<SwitchEffect> for NodeEffect {
    fn from(effect: SwitchEffect) -> Self {
        Self::Switch(effect)
    }
}

impl From<towers::Effect> for NodeEffect {
    fn from(effect: towers::Effect) -> Self {
        Self::Towers(effect)
    }
}

impl From<PaymentEffect> for NodeEffect {
    fn from(effect: PaymentEffect) -> Self {
        Self::Payment(effect)
    }
}

/// Counts the connections of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub u64);

/// The process is ending: nothing more is committed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the daemon is stopping")]
pub(crate) struct Stopped;

/// Effects whose writes are on their way to the disk.
#[derive(Debug)]
#[must_use = "effects that nobody waits for do not happen"]
pub(crate) enum PendingEffects {
    /// There was nothing to write.
    Done(Vec<NodeEffect>),
    Waiting(oneshot::Receiver<Vec<NodeEffect>>),
}

impl PendingEffects {
    /// The effects, in order, once everything is durable.
    pub(crate) async fn effects(self) -> Result<Vec<NodeEffect>, Stopped> {
        match self {
            Self::Done(effects) => Ok(effects),
            Self::Waiting(effects) => effects.await.map_err(|_| Stopped),
        }
    }
}

struct Job {
    batch: Vec<Outbox<NodeEffect, CoreKey>>,
    done: oneshot::Sender<Vec<NodeEffect>>,
}

/// The way to the committer's thread; clones share it.
#[derive(Clone)]
pub(crate) struct Committer {
    jobs: mpsc::Sender<Job>,
    store: Store,
}

impl Committer {
    /// Starts the thread. `failed` is called once if a write fails; it should end the process.
    ///
    /// The thread is one of tokio's blocking ones: the end of the runtime waits for it, because RocksDB cannot be
    /// closed while the process exits.
    pub(crate) fn start(store: Store, failed: impl FnOnce(StoreError) + Send + 'static) -> Self {
        let (jobs, queue) = mpsc::channel();
        let mut disk = store.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = run(&queue, &mut disk) {
                failed(error);
            }
        });
        Self { jobs, store }
    }

    /// Hands the batch over; it reaches the disk after everything that was handed over before, or along with it.
    pub(crate) fn submit<K>(&self, batch: Vec<Outbox<NodeEffect, K>>) -> PendingEffects
    where
        CoreKey: From<K>,
    {
        let batch: Vec<Outbox<NodeEffect, CoreKey>> = batch.into_iter().map(Outbox::with_keys).collect();
        if !batch.iter().any(Outbox::needs_commit) {
            // Nothing to write: the disk is not touched, so nothing of this can fail.
            let effects = Outbox::commit_all(batch, &mut self.store.clone()).unwrap_or_default();
            return PendingEffects::Done(effects.into_iter().flatten().collect());
        }
        let (done, effects) = oneshot::channel();
        // If the thread has ended, `effects` says so.
        let _ = self.jobs.send(Job { batch, done });
        PendingEffects::Waiting(effects)
    }
}

fn run(queue: &mpsc::Receiver<Job>, disk: &mut Store) -> Result<(), StoreError> {
    while let Ok(first) = queue.recv() {
        let jobs: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
        let mut batch = Vec::new();
        let mut waiting = Vec::with_capacity(jobs.len());
        for job in jobs {
            waiting.push((job.batch.len(), job.done));
            batch.extend(job.batch);
        }
        let mut effects = Outbox::commit_all(batch, disk)?.into_iter();
        for (count, done) in waiting {
            let own = effects.by_ref().take(count).flatten().collect();
            // A task that is gone does not need its effects: a restart finds them again.
            let _ = done.send(own);
        }
    }
    Ok(())
}
