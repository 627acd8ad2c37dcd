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
//!
//! Promises: what was handed over earlier is durable earlier, or along with it, and nothing leaves the node before all
//! that was handed over before it. So what stays inside the node ([`Inner`]) is decided at once: it leads to outboxes that
//! are handed over later. A task that is alone decides all that follows from a message before the disk is asked at all
//! ([`Committer::gather`]), and a payment costs one write where it would have cost four.

use std::{
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
};

use leyden_channels::{
    channel::{Effect, Inner, Outbox},
    payment::{incoming::InvoiceEffect, outgoing::PaymentEffect},
    switch::SwitchEffect,
    types::ChannelId,
};
use leyden_watchtower::client as towers;
use tokio::sync::oneshot;

use super::events::OwnHtlc;
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
    /// Tell who listens.
    News(OwnHtlc),
}

impl Inner for NodeEffect {
    fn is_inner(&self) -> bool {
        match self {
            Self::Channel { effect, .. } => matches!(
                effect,
                Effect::Incoming(_) | Effect::Fulfilled { .. } | Effect::Failed { .. } | Effect::Refused { .. }
            ),
            Self::Invoice(effect) => matches!(effect, InvoiceEffect::Decide(_) | InvoiceEffect::Settle { .. }),
            Self::Payment(effect) => matches!(effect, PaymentEffect::FindRoutes { .. } | PaymentEffect::Offer { .. }),
            Self::Switch(effect) => {
                matches!(effect, SwitchEffect::Offer { .. } | SwitchEffect::Settle { .. } | SwitchEffect::Receive(_))
            }
            Self::Towers(_) | Self::News(_) => false,
        }
    }
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
pub(crate) struct PendingEffects {
    inner: Vec<NodeEffect>,
    others: Others,
}

/// What must not happen before the writes are durable.
#[derive(Debug)]
enum Others {
    /// There was nothing to write, nor to wait for.
    Now(Vec<NodeEffect>),
    Durable(oneshot::Receiver<Vec<NodeEffect>>),
}

impl PendingEffects {
    /// What stays inside the node, and may be carried out at once.
    pub(crate) fn take_inner(&mut self) -> Vec<NodeEffect> {
        std::mem::take(&mut self.inner)
    }

    /// Whether nothing has to become durable first.
    pub(crate) fn waits_for_nothing(&self) -> bool {
        matches!(self.others, Others::Now(_))
    }

    /// The effects that have not been taken, once everything is durable: those that stay inside the node, then the others,
    /// each in order.
    pub(crate) async fn effects(self) -> Result<Vec<NodeEffect>, Stopped> {
        let others = match self.others {
            Others::Now(effects) => effects,
            Others::Durable(effects) => effects.await.map_err(|_| Stopped)?,
        };
        let mut effects = self.inner;
        effects.extend(others);
        Ok(effects)
    }
}

struct Job {
    batch: Vec<Outbox<NodeEffect, CoreKey>>,
    done: oneshot::Sender<Vec<NodeEffect>>,
}

/// Jobs of one thread that has more to come.
#[derive(Default)]
struct Gathered {
    by: Option<ThreadId>,
    jobs: Vec<Job>,
}

/// The way to the committer's thread; clones share it.
#[derive(Clone)]
pub(crate) struct Committer {
    jobs: mpsc::Sender<Vec<Job>>,
    gathered: Arc<Mutex<Gathered>>,
    /// Jobs that were handed over and whose effects were not given back yet.
    underway: Arc<AtomicUsize>,
    store: Store,
}

/// What this thread hands over meanwhile goes to the disk together, when this is dropped; at once if another thread
/// hands something over, which must not wait. It cannot be held over an `await`.
pub(crate) struct Gathering {
    committer: Committer,
    /// Another thread gathers already.
    is_idle: bool,
    not_send: PhantomData<*const ()>,
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if !self.is_idle {
            let mut gathered = self.committer.gathered();
            if gathered.by == Some(thread::current().id()) {
                gathered.by = None;
                self.committer.hand_over(&mut gathered, None);
            }
        }
    }
}

impl Committer {
    /// Starts the thread. `failed` is called once if a write fails; it should end the process.
    ///
    /// The thread is one of tokio's blocking ones: the end of the runtime waits for it, because RocksDB cannot be
    /// closed while the process exits.
    pub(crate) fn start(store: Store, failed: impl FnOnce(StoreError) + Send + 'static) -> Self {
        let (jobs, queue) = mpsc::channel();
        let mut disk = store.clone();
        let underway = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&underway);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = run(&queue, &mut disk, &counter) {
                failed(error);
            }
        });
        Self { jobs, gathered: Arc::default(), underway, store }
    }

    /// Hands the batch over; it reaches the disk after everything that was handed over before, or along with it.
    pub(crate) fn submit<K>(&self, batch: Vec<Outbox<NodeEffect, K>>) -> PendingEffects
    where
        CoreKey: From<K>,
    {
        let mut batch: Vec<Outbox<NodeEffect, CoreKey>> = batch.into_iter().map(Outbox::with_keys).collect();
        let inner = batch.iter_mut().flat_map(Outbox::take_inner).collect();
        let mut gathered = self.gathered();
        // What it rests on may be on its way to the disk, even if nothing of its own has to be written.
        if self.underway.load(Ordering::SeqCst) == 0 && !batch.iter().any(Outbox::needs_commit) {
            // Nothing to write: the disk is not touched, so nothing of this can fail.
            let effects = Outbox::commit_all(batch, &mut self.store.clone()).unwrap_or_default();
            return PendingEffects { inner, others: Others::Now(effects.into_iter().flatten().collect()) };
        }
        let (done, effects) = oneshot::channel();
        self.underway.fetch_add(1, Ordering::SeqCst);
        let job = Job { batch, done };
        if gathered.by == Some(thread::current().id()) {
            gathered.jobs.push(job);
        } else {
            self.hand_over(&mut gathered, Some(job));
        }
        PendingEffects { inner, others: Others::Durable(effects) }
    }

    /// From now on what this thread hands over is written together.
    pub(crate) fn gather(&self) -> Gathering {
        let mut gathered = self.gathered();
        let is_idle = gathered.by.is_some();
        gathered.by.get_or_insert_with(|| thread::current().id());
        Gathering { committer: self.clone(), is_idle, not_send: PhantomData }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what has gathered to the committer's thread, and then `job`.
    fn hand_over(&self, gathered: &mut Gathered, job: Option<Job>) {
        let mut jobs = std::mem::take(&mut gathered.jobs);
        jobs.extend(job);
        if !jobs.is_empty() {
            // If the thread has ended, the receivers of the effects say so.
            let _ = self.jobs.send(jobs);
        }
    }
}

fn run(queue: &mpsc::Receiver<Vec<Job>>, disk: &mut Store, underway: &AtomicUsize) -> Result<(), StoreError> {
    while let Ok(first) = queue.recv() {
        let jobs: Vec<Job> = first.into_iter().chain(queue.try_iter().flatten()).collect();
        let count = jobs.len();
        let mut batch = Vec::new();
        let mut waiting = Vec::with_capacity(count);
        for job in jobs {
            waiting.push((job.batch.len(), job.done));
            batch.extend(job.batch);
        }
        let mut effects = Outbox::commit_all(batch, disk)?.into_iter();
        // Before any effect is given back: one that leads to words alone must not wait for the next write.
        underway.fetch_sub(count, Ordering::SeqCst);
        for (count, done) in waiting {
            let own = effects.by_ref().take(count).flatten().collect();
            // A task that is gone does not need its effects: a restart finds them again.
            let _ = done.send(own);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leyden_channels::{
        channel::{Key, Settlement},
        types::{HtlcId, PaymentHash},
    };
    use tokio::time::timeout;

    use super::*;

    /// Longer than any disk takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn key(byte: u8) -> Key {
        Key::InvoiceIndex(PaymentHash([byte; 32]))
    }

    /// A row, something that stays inside the node and something that does not.
    fn outbox(byte: u8) -> Outbox<NodeEffect> {
        let mut outbox = Outbox::default();
        outbox.put(key(byte), vec![byte]);
        outbox.emit(inner());
        outbox.emit(news());
        outbox
    }

    fn inner() -> NodeEffect {
        let settlement = Settlement::Fail { reason: Vec::new() };
        NodeEffect::Invoice(InvoiceEffect::Settle { channel: ChannelId([1; 32]), id: HtlcId(0), settlement })
    }

    fn news() -> NodeEffect {
        let news = super::super::events::OwnHtlcNews::Failed;
        NodeEffect::News(OwnHtlc { at: Default::default(), channel: ChannelId([1; 32]), id: None, news })
    }

    fn words() -> Outbox<NodeEffect> {
        let mut outbox = Outbox::default();
        outbox.emit(news());
        outbox
    }

    fn start(folder: &tempfile::TempDir) -> (Committer, Store) {
        let store = Store::open(folder.path()).unwrap();
        (Committer::start(store.clone(), |error| panic!("{error}")), store)
    }

    async fn effects(pending: PendingEffects) -> Vec<NodeEffect> {
        timeout(PATIENCE, pending.effects()).await.unwrap().unwrap()
    }

    fn is_stored(store: &Store, byte: u8) -> bool {
        store.core_record(&key(byte).encode()).unwrap().is_some()
    }

    #[tokio::test]
    async fn what_stays_inside_is_decided_at_once_and_the_rest_when_it_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store) = start(&folder);
        let mut pending = {
            let _together = committer.gather();
            let mut pending = committer.submit(vec![outbox(1)]);
            assert!(matches!(pending.take_inner()[..], [NodeEffect::Invoice(_)]));
            assert!(!pending.waits_for_nothing() && !is_stored(&store, 1));
            pending
        };
        assert!(pending.take_inner().is_empty());
        assert!(matches!(effects(pending).await[..], [NodeEffect::News(_)]));
        assert!(is_stored(&store, 1));
        // What nobody takes out comes with the rest.
        assert_eq!(effects(committer.submit(vec![outbox(2)])).await.len(), 2);
    }

    #[tokio::test]
    async fn words_wait_for_what_they_may_rest_on_and_for_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store) = start(&folder);
        assert!(committer.submit(vec![words()]).waits_for_nothing());
        let told = {
            let _together = committer.gather();
            let _row = committer.submit(vec![outbox(1)]);
            let told = committer.submit(vec![words()]);
            assert!(!told.waits_for_nothing());
            told
        };
        assert_eq!(effects(told).await.len(), 1);
        assert!(is_stored(&store, 1));
        assert!(committer.submit(vec![words()]).waits_for_nothing());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_one_thread_gathers_keeps_no_other_waiting_and_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store) = start(&folder);
        let _together = committer.gather();
        let _mine = committer.submit(vec![outbox(1)]);
        let other = committer.clone();
        let theirs = std::thread::spawn(move || {
            // It does not gather a second time.
            let _together = other.gather();
            other.submit(vec![outbox(2)])
        });
        let theirs = theirs.join().unwrap();
        let runtime = tokio::runtime::Handle::current();
        let waited = std::thread::spawn(move || runtime.block_on(effects(theirs)).len());
        assert_eq!(waited.join().unwrap(), 2);
        assert!(is_stored(&store, 1) && is_stored(&store, 2));
    }
}
