//! Answers are made in threads of their own.
//!
//! A block as JSON takes seconds and a hundred megabytes, and so may reading what a caller sends. On the runtime's threads
//! that would hold up every payment and every other caller. Each request therefore has a thread, from its bytes to the bytes
//! of its answer.
//!
//! A caller who hangs up ends what waits ([`super::waiting`]), and nothing else: what has begun is carried to its end, and
//! holds its turn until then. Otherwise whoever asks and hangs up, again and again, would have more of it going on at
//! once than there are turns.

use std::future::Future;

use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

use super::error::{MISC, RpcError};

/// The outcome of `work`, which has a thread for itself. It goes on if nobody waits for it any more.
pub(super) async fn aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work)).await
}

/// The outcome of `work`, which is told when its caller has hung up, or the daemon stops.
pub(super) async fn aside_for_caller<T, W>(
    stopping: &CancellationToken,
    work: impl FnOnce(CancellationToken) -> W,
) -> Result<T, JoinError>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let ended = stopping.child_token();
    let _hangs_up = ended.clone().drop_guard();
    aside(work(ended)).await
}

/// A turn for what few may do at a time, unless the caller is gone before it comes.
pub(super) async fn turn<'a>(turns: &'a Semaphore, ended: &CancellationToken) -> Result<SemaphorePermit<'a>, RpcError> {
    let gone = || RpcError::new(MISC, "the caller has hung up, or the daemon stops");
    tokio::select! {
        biased;
        () = ended.cancelled() => Err(gone()),
        turn = turns.acquire() => turn.map_err(|_| gone()),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    #[tokio::test]
    async fn answers_are_made_off_the_runtime_s_threads() {
        let here = std::thread::current().id();
        assert_ne!(aside(async { std::thread::current().id() }).await.unwrap(), here);
    }

    #[tokio::test]
    async fn who_hangs_up_holds_his_turn_until_the_work_is_done() {
        let turns = Arc::new(Semaphore::new(1));
        let held = Arc::clone(&turns).acquire_owned().await.unwrap();
        let (finish, finished) = oneshot::channel::<()>();
        let work = aside(async move {
            let _ = finished.await;
            drop(held);
        });
        assert!(timeout(Duration::from_millis(20), work).await.is_err(), "the caller hangs up");
        assert_eq!(turns.available_permits(), 0);
        finish.send(()).unwrap();
        let _next = turns.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_is_told_that_its_caller_is_gone() {
        let (told, wait) = oneshot::channel();
        let stopping = CancellationToken::new();
        let asked = aside_for_caller(&stopping, |ended| async move {
            let turns = Semaphore::new(0);
            let _ = told.send(turn(&turns, &ended).await.err());
        });
        assert!(timeout(Duration::from_millis(20), asked).await.is_err());
        assert_eq!(wait.await.unwrap().unwrap().code, MISC);
    }
}
