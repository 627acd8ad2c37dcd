//! Processor time for others who may have only so much of it, all together.
//!
//! ```text
//!   task of a stranger ──► its turn, and there is time left ──► it is polled, and what that took is charged
//!                             └── spent: all of them rest until some has come back
//! ```
//!
//! Promises: strangers' tasks are polled one at a time, in the order in which they ask, so that they occupy one thread of
//! the runtime at most and none of them waits behind another for ever; what is done for them elsewhere counts too
//! ([`TimeBudget::charge`]); who is exempt neither waits nor is charged; and all rest for as long as what is there at once
//! takes to come back, at most, so that nobody silences the others by one expensive thing.
//!
//! Time is what passes on the clock while a task is polled: on a busy machine strangers get less, not more.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSemaphore;

use crate::sync::lock;

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What comes back in a second.
    pub per_second: Duration,
    /// What may be spent at once after a quiet time.
    pub at_once: Duration,
}

/// A shared allowance of processor time.
pub struct TimeBudget {
    share: Share,
    state: Mutex<State>,
    turn: Arc<Semaphore>,
    rests: AtomicU64,
}

struct State {
    /// Below zero if the last turn took more than there was.
    left_nanos: i64,
    at: Instant,
    used: Duration,
}

impl fmt::Debug for TimeBudget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TimeBudget").field("share", &self.share).finish_non_exhaustive()
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

impl TimeBudget {
    /// A budget that is full.
    pub fn new(share: Share) -> Arc<Self> {
        let state = State { left_nanos: nanos(share.at_once), at: Instant::now(), used: Duration::ZERO };
        Arc::new(Self { share, state: Mutex::new(state), turn: Arc::new(Semaphore::new(1)), rests: AtomicU64::new(0) })
    }

    /// What it was made with.
    pub fn share(&self) -> Share {
        self.share
    }

    /// How much of what there is at once is gone now.
    pub fn spent(&self) -> Duration {
        let _ = self.rest(Instant::now());
        let left = u64::try_from(lock(&self.state).left_nanos).unwrap_or(0);
        self.share.at_once.saturating_sub(Duration::from_nanos(left))
    }

    /// All that was charged since the start.
    pub fn used(&self) -> Duration {
        lock(&self.state).used
    }

    /// How often somebody had to rest.
    pub fn rests(&self) -> u64 {
        self.rests.load(Ordering::Relaxed)
    }

    /// Counts what was done on behalf of those who share the budget. What one thing took beyond the double of what is
    /// there at once is forgiven: the others would wait for it.
    pub fn charge(&self, spent: Duration) {
        let mut state = lock(&self.state);
        let deepest = nanos(self.share.at_once).saturating_neg();
        state.left_nanos = state.left_nanos.saturating_sub(nanos(spent)).max(deepest);
        state.used = state.used.saturating_add(spent);
    }

    /// How long it takes until there is some left; `None` if there is.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let mut state = lock(&self.state);
        let passed = now.saturating_duration_since(state.at);
        let back = passed.as_secs_f64() * self.share.per_second.as_secs_f64();
        let left = state.left_nanos.saturating_add(nanos(Duration::from_secs_f64(back)));
        (state.left_nanos, state.at) = (left.min(nanos(self.share.at_once)), now.max(state.at));
        let missing = Duration::from_nanos(state.left_nanos.checked_neg().and_then(|by| by.try_into().ok())?);
        // A little more than nothing, or it would be looked at again at once.
        Some(missing.div_f64(self.share.per_second.as_secs_f64().max(f64::MIN_POSITIVE)).max(SHORTEST_REST))
    }

    /// Polls the future out of the budget, but while it is exempt.
    pub fn meter<F: Future, E: Fn() -> bool>(self: &Arc<Self>, is_exempt: E, future: F) -> Metered<F, E> {
        Metered { future: Box::pin(future), is_exempt, turn: None, held: None, resting: None, budget: Arc::clone(self) }
    }
}

/// The shortest time that a timer is worth.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// See [`TimeBudget::meter`].
pub struct Metered<F, E> {
    future: Pin<Box<F>>,
    is_exempt: E,
    /// Its place among those who wait for their turn.
    turn: Option<PollSemaphore>,
    /// It is this one's turn.
    held: Option<OwnedSemaphorePermit>,
    resting: Option<Pin<Box<Sleep>>>,
    budget: Arc<TimeBudget>,
}

// Its parts are pinned on their own, or never.
impl<F, E> Unpin for Metered<F, E> {}

impl<F: Future, E: Fn() -> bool> Metered<F, E> {
    /// Ready when it may be polled: it is its turn, and there is time.
    fn admitted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.held.is_none() {
            let all = &self.budget.turn;
            let turn = self.turn.get_or_insert_with(|| PollSemaphore::new(Arc::clone(all)));
            // The semaphore is never closed.
            self.held = ready!(turn.poll_acquire(context));
        }
        loop {
            if let Some(resting) = &mut self.resting {
                ready!(resting.as_mut().poll(context));
                self.resting = None;
            }
            let Some(rest) = self.budget.rest(Instant::now()) else { return Poll::Ready(()) };
            self.budget.rests.fetch_add(1, Ordering::Relaxed);
            self.resting = Some(Box::pin(sleep(rest)));
        }
    }
}

impl<F: Future, E: Fn() -> bool> Future for Metered<F, E> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if (this.is_exempt)() {
            // A turn that came to somebody who does not ask any more would be nobody's for ever.
            (this.turn, this.held, this.resting) = (None, None, None);
            return this.future.as_mut().poll(context);
        }
        ready!(this.admitted(context));
        let begun = Instant::now();
        let polled = this.future.as_mut().poll(context);
        this.budget.charge(begun.elapsed());
        this.held = None;
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;

    /// Takes this long, so many times.
    async fn work(turns: usize, time: Duration, done: Arc<AtomicUsize>) {
        for _ in 0..turns {
            let begun = Instant::now();
            while begun.elapsed() < time {
                std::hint::spin_loop();
            }
            done.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }

    const SHARE: Share = Share { per_second: Duration::from_millis(500), at_once: Duration::from_millis(20) };
    const MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn all_together_have_their_share_and_no_more() {
        let budget = TimeBudget::new(SHARE);
        let counts: Vec<_> = (0..8).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let begun = Instant::now();
        let tasks = counts.iter().map(|count| budget.meter(|| false, work(20, MILLISECOND, Arc::clone(count))));
        let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
        let mut behind = 0;
        while counts.iter().any(|count| count.load(Ordering::Relaxed) < 20) {
            let now: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            // Those that begin first are some turns ahead of those that have not begun.
            behind = behind.max(now.iter().max().unwrap() - now.iter().min().unwrap());
            tokio::time::sleep(MILLISECOND).await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        // What was charged beyond what was there at once, and beyond the last turn, has had to come back first.
        let used = budget.used();
        assert!(used >= 160 * MILLISECOND);
        let least = (used - SHARE.at_once).as_secs_f64() / SHARE.per_second.as_secs_f64();
        let last = used.as_secs_f64();
        assert!(begun.elapsed().as_secs_f64() > least - last, "{:?} for {used:?}", begun.elapsed());
        assert!(budget.rests() > 0);
        assert!(behind < 20, "one was done before another had begun");
    }

    #[test]
    fn one_expensive_thing_lets_the_others_rest_no_longer_than_what_is_there_at_once_takes_to_come_back() {
        let budget = TimeBudget::new(SHARE);
        budget.charge(Duration::from_secs(60));
        let rest = budget.rest(Instant::now()).unwrap();
        assert!(rest <= SHARE.at_once.div_f64(SHARE.per_second.as_secs_f64()), "{rest:?}");
        assert_eq!(budget.used(), Duration::from_secs(60));
    }

    #[tokio::test]
    async fn who_is_exempt_does_not_wait_and_is_not_charged() {
        let budget = TimeBudget::new(Share { per_second: Duration::from_nanos(1), ..SHARE });
        let (exempt, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        budget.charge(Duration::from_secs(1));
        let is_exempt = {
            let exempt = Arc::clone(&exempt);
            move || exempt.load(Ordering::Relaxed)
        };
        let task = tokio::spawn(budget.meter(is_exempt, work(3, MILLISECOND, Arc::clone(&done))));
        tokio::time::sleep(10 * MILLISECOND).await;
        assert_eq!(done.load(Ordering::Relaxed), 0, "the budget is spent");
        task.abort();
        exempt.store(true, Ordering::Relaxed);
        budget.meter(|| true, work(3, MILLISECOND, Arc::clone(&done))).await;
        assert_eq!((done.load(Ordering::Relaxed), budget.used()), (3, Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn who_becomes_exempt_while_it_waits_for_its_turn_leaves_the_line() {
        use tokio::time::timeout;
        let budget = TimeBudget::new(Share { per_second: Duration::from_secs(1), ..SHARE });
        budget.charge(120 * MILLISECOND);
        let exempt = AtomicBool::new(false);
        let first = tokio::spawn(budget.meter(|| false, std::future::ready(())));
        tokio::task::yield_now().await;
        let mut second = std::pin::pin!(budget.meter(|| exempt.load(Ordering::Relaxed), std::future::pending::<()>()));
        assert!(timeout(MILLISECOND, &mut second).await.is_err(), "it is in the line");
        exempt.store(true, Ordering::Relaxed);
        assert!(timeout(MILLISECOND, &mut second).await.is_err(), "its future has nothing to give");
        first.await.unwrap();
        let third = budget.meter(|| false, std::future::ready(()));
        timeout(Duration::from_secs(60), third).await.expect("the turn is not the second one's");
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_in_its_turn_gives_it_to_the_next() {
        let budget = TimeBudget::new(Share { per_second: Duration::from_secs(1), ..SHARE });
        budget.charge(40 * MILLISECOND);
        let done = Arc::new(AtomicUsize::new(0));
        let first = tokio::spawn(budget.meter(|| false, std::future::pending::<()>()));
        tokio::task::yield_now().await;
        first.abort();
        budget.meter(|| false, work(1, MILLISECOND, Arc::clone(&done))).await;
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }
}
