//! One writer at a time turns the outboxes of all tasks that wait into one synced write.
//!
//! ```text
//!   peer task ─┐
//!   peer task ─┼─► queue ──► committer: one RocksDB batch, one fsync ──► each task gets its effects back
//!   RPC call ──┘
//! ```
//!
//! The committer is a thread of its own; a task that was alone the last time writes itself, at the end of what it
//! gathered ([`Gathering`]), and whatever others hand over meanwhile is the thread's.
//!
//! While one write is on its way to the disk the next batch gathers: the busier the node, the more share an fsync. A
//! write that fails ends the process, since memory would be ahead of the disk; a restart loads what is true.
//!
//! Promises: what was handed over earlier is durable earlier, or along with it, and nothing leaves the node before all
//! that was handed over before it. So what stays inside the node ([`Inner`]) is decided at once: it leads to outboxes that
//! are handed over later. A task that is alone decides all that follows from a message before the disk is asked at all
//! ([`Committer::gather`]), and a payment costs one write where it would have cost four. What one task begins and another goes
//! on with at once, such as a payment and its HTLC, is left to the write of the second ([`Gathering::leave`]).

use std::{
    marker::PhantomData,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
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
use tokio::{runtime::Handle, sync::oneshot};

use super::{events::OwnHtlc, vital::Vital};
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

/// What has to be written, and who writes.
#[derive(Default)]
struct Queue {
    /// The thread that has more to come, and what it has handed over.
    gathered_by: Option<ThreadId>,
    gathered: Vec<Job>,
    /// What waits for the next hand-over, because that is about to come ([`Gathering::leave`]).
    left: Vec<Job>,
    /// What the next write takes, and how many times something was added to it.
    waiting: Vec<Job>,
    hand_overs: usize,
    is_writing: bool,
    /// Nobody else had something to write with, or during, the last write.
    was_alone: bool,
    /// Nothing more is written: a write has failed, or memory may be half changed.
    has_failed: bool,
    /// Nobody is left who could hand anything over.
    is_closed: bool,
}

impl Queue {
    /// What was left, what has gathered, and then `job`, goes into the next write.
    fn hand_over(&mut self, job: Option<Job>) {
        let before = self.waiting.len();
        self.waiting.append(&mut self.left);
        self.waiting.append(&mut self.gathered);
        self.waiting.extend(job);
        if self.has_failed {
            // The receivers of the effects say so.
            self.waiting.clear();
        }
        self.hand_overs += usize::from(self.waiting.len() > before);
    }
}

/// Called once, with the reason, if a write fails or memory cannot be relied on.
type Failed = Box<dyn FnOnce(String) + Send>;

struct Shared {
    queue: Mutex<Queue>,
    /// There may be something for the committer's thread.
    wake: Condvar,
    /// Jobs that were handed over and whose effects were not given back yet.
    underway: AtomicUsize,
    store: Store,
    failed: Mutex<Option<Failed>>,
    /// The runtime has another thread to go on with while one is in the disk.
    may_write_in_task: bool,
}

/// The way to the committer; clones share it.
#[derive(Clone)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    /// The committer's thread ends with the last of these.
    _open: Arc<Open>,
}

struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.queue().is_closed = true;
        self.0.wake.notify_all();
    }
}

/// What this thread hands over meanwhile goes to the disk together, when this is dropped; at once if another thread
/// hands something over, which must not wait. It cannot be held over an `await`, and no lock may be held when it is dropped:
/// what is alone is written there and then.
pub(crate) struct Gathering {
    committer: Committer,
    /// Another thread gathers already.
    is_idle: bool,
    not_send: PhantomData<*const ()>,
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if !self.is_idle {
            self.committer.shared.end_gathering();
        }
    }
}

impl Gathering {
    /// Leaves what has gathered to whoever hands over something next: another task has been told of it, and will. The write
    /// that it would have had of its own is saved. It waits until then, or until what this returns is dropped.
    pub(crate) fn leave(mut self) -> Left {
        if !std::mem::replace(&mut self.is_idle, true) {
            let mut queue = self.committer.shared.queue();
            queue.gathered_by = None;
            let Queue { left, gathered, .. } = &mut *queue;
            left.append(gathered);
        }
        Left(self.committer.clone())
    }
}

/// What was left to others; when this is dropped it is written, if it was not.
#[must_use = "what is left is written at once when this is dropped"]
pub(crate) struct Left(Committer);

impl Drop for Left {
    fn drop(&mut self) {
        let shared = &self.0.shared;
        let mut queue = shared.queue();
        if !queue.left.is_empty() {
            queue.hand_over(None);
            shared.wake_for(&queue);
        }
    }
}

impl Committer {
    /// Starts the thread. `failed` is called once if a write fails, or if what [`Self::vital`] holds panics; it should end
    /// the process.
    ///
    /// The thread is one of tokio's blocking ones: the end of the runtime waits for it, because RocksDB cannot be
    /// closed while the process exits.
    pub(crate) fn start(store: Store, failed: impl FnOnce(String) + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            underway: AtomicUsize::new(0),
            store,
            failed: Mutex::new(Some(Box::new(failed))),
            may_write_in_task: Handle::current().metrics().num_workers() > 1,
        });
        let thread = Arc::clone(&shared);
        tokio::task::spawn_blocking(move || thread.run());
        Self { _open: Arc::new(Open(Arc::clone(&shared))), shared }
    }

    /// Hands the batch over; it reaches the disk after everything that was handed over before, or along with it.
    pub(crate) fn submit<K>(&self, batch: Vec<Outbox<NodeEffect, K>>) -> PendingEffects
    where
        CoreKey: From<K>,
    {
        let mut batch: Vec<Outbox<NodeEffect, CoreKey>> = batch.into_iter().map(Outbox::with_keys).collect();
        let inner = batch.iter_mut().flat_map(Outbox::take_inner).collect();
        let shared = &self.shared;
        let mut queue = shared.queue();
        // What it rests on may be on its way to the disk, even if nothing of its own has to be written.
        let rests_on_nothing = !queue.has_failed && shared.underway.load(Ordering::SeqCst) == 0;
        if rests_on_nothing && !batch.iter().any(Outbox::needs_commit) {
            // Nothing to write: the disk is not touched, so nothing of this can fail.
            let effects = Outbox::commit_all(batch, &mut shared.store.clone()).unwrap_or_default();
            return PendingEffects { inner, others: Others::Now(effects.into_iter().flatten().collect()) };
        }
        let (done, effects) = oneshot::channel();
        shared.underway.fetch_add(1, Ordering::SeqCst);
        let job = Job { batch, done };
        if queue.gathered_by == Some(thread::current().id()) {
            queue.gathered.push(job);
        } else {
            queue.hand_over(Some(job));
            shared.wake_for(&queue);
        }
        PendingEffects { inner, others: Others::Durable(effects) }
    }

    /// From now on what this thread hands over is written together.
    pub(crate) fn gather(&self) -> Gathering {
        let mut queue = self.shared.queue();
        let is_idle = queue.gathered_by.is_some();
        queue.gathered_by.get_or_insert_with(|| thread::current().id());
        Gathering { committer: self.clone(), is_idle, not_send: PhantomData }
    }

    /// Nothing more is written, and nothing that waits for it is done, if `what` panics while this is held.
    pub(crate) fn vital(&self, what: &str) -> Vital<impl FnMut(String) + use<>> {
        let shared = Arc::clone(&self.shared);
        Vital::new(what, move |why| shared.close(why))
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever writes now looks at the queue again when it has written.
    fn wake_for(&self, queue: &Queue) {
        if !queue.is_writing && !queue.waiting.is_empty() {
            self.wake.notify_one();
        }
    }

    /// The committer's thread.
    fn run(&self) {
        let mut queue = self.queue();
        loop {
            if queue.is_writing || queue.waiting.is_empty() {
                if queue.has_failed || (queue.is_closed && !queue.is_writing) {
                    return;
                }
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue = self.write(queue);
        }
    }

    /// A task that is alone, and would wait for the disk next, asks it itself: two switches between threads would take as
    /// long as the disk does. Never twice in a row where others have something to write, so the tasks of one thread wait for
    /// one write at most.
    fn end_gathering(&self) {
        let mut queue = self.queue();
        queue.gathered_by = None;
        let others_wait = !queue.waiting.is_empty();
        queue.hand_over(None);
        let is_alone = self.may_write_in_task && queue.was_alone && !queue.is_writing && !others_wait;
        if is_alone && !queue.waiting.is_empty() {
            queue = self.write(queue);
        }
        self.wake_for(&queue);
    }

    /// One synced write of all that waits.
    fn write<'a>(&'a self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.write_by(queue, |jobs| self.write_jobs(jobs))
    }

    fn write_by<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        write: impl FnOnce(Vec<Job>) -> Result<(), StoreError>,
    ) -> MutexGuard<'a, Queue> {
        let jobs = std::mem::take(&mut queue.waiting);
        let hand_overs = std::mem::take(&mut queue.hand_overs);
        queue.is_writing = true;
        drop(queue);
        let vital = Vital::new("a write to the database", |why| {
            self.queue().is_writing = false;
            self.close(why);
        });
        let written = write(jobs);
        drop(vital);
        let mut queue = self.queue();
        queue.is_writing = false;
        queue.was_alone = hand_overs == 1 && queue.waiting.is_empty();
        if let Err(error) = written {
            drop(queue);
            self.close(error.to_string());
            queue = self.queue();
        }
        queue
    }

    /// Nothing more is written: who waits for it hears that it never comes.
    fn close(&self, why: String) {
        let mut queue = self.queue();
        queue.has_failed = true;
        let Queue { gathered, left, waiting, .. } = &mut *queue;
        let unwritten = [gathered, left, waiting].map(std::mem::take);
        self.wake.notify_all();
        drop(queue);
        drop(unwritten);
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(failed) = failed {
            failed(why);
        }
    }

    fn write_jobs(&self, jobs: Vec<Job>) -> Result<(), StoreError> {
        let count = jobs.len();
        let mut batch = Vec::new();
        let mut waiting = Vec::with_capacity(count);
        for job in jobs {
            waiting.push((job.batch.len(), job.done));
            batch.extend(job.batch);
        }
        let mut effects = Outbox::commit_all(batch, &mut self.store.clone())?.into_iter();
        // Before any effect is given back: one that leads to words alone must not wait for the next write.
        self.underway.fetch_sub(count, Ordering::SeqCst);
        for (count, done) in waiting {
            let own = effects.by_ref().take(count).flatten().collect();
            // A task that is gone does not need its effects: a restart finds them again.
            let _ = done.send(own);
        }
        Ok(())
    }
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

    /// A committer, and what is told once it fails.
    fn failing(folder: &tempfile::TempDir) -> (Committer, Store, std::sync::mpsc::Receiver<String>) {
        let store = Store::open(folder.path()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        (Committer::start(store.clone(), move |why| drop(tell.send(why))), store, told)
    }

    #[tokio::test]
    async fn after_a_panic_nothing_is_written_and_nothing_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store, told) = failing(&folder);
        let core = Arc::new(Mutex::new(()));
        let (its, panicking) = (Arc::clone(&core), committer.clone());
        let task = std::thread::spawn(move || {
            let _together = panicking.gather();
            let _half_changed = its.lock();
            let _vital = panicking.vital("a test");
            let _pending = panicking.submit(vec![outbox(1)]);
            panic!("as this test wants it");
        });
        assert!(task.join().is_err());
        assert!(core.is_poisoned() && told.recv_timeout(PATIENCE).unwrap().starts_with("a test met a fault"));
        assert!(timeout(PATIENCE, committer.submit(vec![outbox(2)]).effects()).await.unwrap().is_err());
        assert!(timeout(PATIENCE, committer.submit(vec![words()]).effects()).await.unwrap().is_err());
        assert!(!is_stored(&store, 1) && !is_stored(&store, 2));
    }

    #[tokio::test]
    async fn write_that_panics_is_told_of_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store, told) = failing(&folder);
        committer.shared.queue().is_writing = true;
        let pending = committer.submit(vec![outbox(1)]);
        let writer = committer.clone();
        let task = std::thread::spawn(move || {
            let queue = writer.shared.queue();
            drop(writer.shared.write_by(queue, |_| panic!("as this test wants it")));
        });
        assert!(task.join().is_err());
        assert!(told.recv_timeout(PATIENCE).unwrap().starts_with("a write to the database met a fault"));
        assert!(!committer.shared.queue().is_writing);
        assert!(timeout(PATIENCE, pending.effects()).await.unwrap().is_err());
        assert!(timeout(PATIENCE, committer.submit(vec![outbox(2)]).effects()).await.unwrap().is_err());
        assert!(!is_stored(&store, 1) && !is_stored(&store, 2));
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

    /// Once the thread has nothing more to do: effects are given back before it looks at the queue again.
    async fn is_idle(committer: &Committer) {
        while committer.shared.queue().is_writing {
            tokio::task::yield_now().await;
        }
    }

    /// Whether the row is stored when what was gathered has been let go.
    fn writes_itself(committer: &Committer, store: &Store, byte: u8) -> (PendingEffects, bool) {
        let pending = {
            let _together = committer.gather();
            committer.submit(vec![outbox(byte)])
        };
        (pending, is_stored(store, byte))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_is_alone_writes_itself_and_after_others_the_thread_does() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store) = start(&folder);
        // Nobody has written yet, so nobody was alone.
        assert_eq!(effects(committer.submit(vec![outbox(1)])).await.len(), 2);
        is_idle(&committer).await;
        for byte in 2..5 {
            let (pending, is_written) = writes_itself(&committer, &store, byte);
            assert!(is_written);
            assert_eq!(effects(pending).await.len(), 2);
        }
        // Two that share a write are not alone, whoever writes it.
        committer.shared.queue().is_writing = true;
        let both = [committer.submit(vec![outbox(5)]), committer.submit(vec![outbox(6)])];
        committer.shared.queue().is_writing = false;
        committer.shared.wake.notify_one();
        for pending in both {
            assert_eq!(effects(pending).await.len(), 2);
        }
        is_idle(&committer).await;
        assert!(!committer.shared.queue().was_alone);
    }

    #[tokio::test]
    async fn where_nobody_else_could_go_on_no_task_waits_in_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store) = start(&folder);
        assert_eq!(effects(committer.submit(vec![outbox(1)])).await.len(), 2);
        is_idle(&committer).await;
        assert!(committer.shared.queue().was_alone && !committer.shared.may_write_in_task);
        let (pending, _) = writes_itself(&committer, &store, 2);
        assert_eq!(effects(pending).await.len(), 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_left_goes_before_what_comes_next_in_one_write_and_never_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store) = start(&folder);
        let leave = |byte| {
            let together = committer.gather();
            let pending = committer.submit(vec![outbox(byte)]);
            (pending, together.leave())
        };
        let (first, left) = leave(1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!is_stored(&store, 1));
        assert_eq!(effects(committer.submit(vec![outbox(2)])).await.len(), 2);
        assert!(is_stored(&store, 1));
        assert_eq!(effects(first).await.len(), 2);
        is_idle(&committer).await;
        // It was one write, of one who was alone.
        assert!(committer.shared.queue().was_alone);
        drop(left);
        // Nobody hands anything over.
        let (second, left) = leave(3);
        drop(left);
        assert_eq!(effects(second).await.len(), 2);
        assert!(is_stored(&store, 3));
        // The end of the committer does not lose it either.
        let (third, left) = leave(4);
        drop((committer.clone(), left));
        assert_eq!(effects(third).await.len(), 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_failed_write_nothing_is_written_and_who_asks_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (committer, store) = start(&folder);
        committer.shared.queue().has_failed = true;
        let (pending, is_written) = writes_itself(&committer, &store, 1);
        assert!(!is_written && timeout(PATIENCE, pending.effects()).await.unwrap().is_err());
        let pending = committer.submit(vec![outbox(2)]);
        assert!(timeout(PATIENCE, pending.effects()).await.unwrap().is_err());
        assert!(!is_stored(&store, 1) && !is_stored(&store, 2));
    }
}
