//! Work that must not be lost unseen: if it panics, nothing more is written, and the process ends.
//!
//! A panic is a fault of this program. What its task held in memory may be half changed, its channels would be left
//! unwatched, and nobody would know. What is on the disk is whole: a new start goes on from there. Tasks whose loss costs
//! nobody anything, such as a handshake or a call of the API, may panic alone.

use std::thread::panicking;

/// Says what has panicked, if that happens while this is held.
///
/// Declared after a lock is taken it speaks before the lock is given back.
#[must_use = "it sees only what panics while it is held"]
pub(crate) struct Vital<F: FnMut(String)> {
    what: String,
    tell: F,
}

impl<F: FnMut(String)> Vital<F> {
    pub(crate) fn new(what: &str, tell: F) -> Self {
        Self { what: what.to_owned(), tell }
    }

    /// Holds this while the task runs.
    pub(crate) async fn hold<T>(self, task: impl Future<Output = T>) -> T {
        let _held = self;
        task.await
    }
}

impl<F: FnMut(String)> Drop for Vital<F> {
    fn drop(&mut self) {
        if panicking() {
            let what = &self.what;
            (self.tell)(format!(
                "{what} met a fault of its own, which the lines before name: please report them. Nothing more is written, and \
                 what is on the disk is whole: start leydend again"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn task_that_panics_says_so_and_one_that_ends_does_not() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let vital = |what: &str| {
            let tell = tell.clone();
            Vital::new(what, move |why| drop(tell.send(why)))
        };
        assert_eq!(tokio::spawn(vital("a task that ends").hold(async { 7 })).await.unwrap(), 7);
        let aborted = tokio::spawn(vital("a task that is ended").hold(std::future::pending::<()>()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        let panicked = tokio::spawn(vital("the task of a peer").hold(async {
            tokio::task::yield_now().await;
            panic!("as a test wants it");
        }));
        assert!(panicked.await.unwrap_err().is_panic());
        drop(tell);
        assert!(told.recv().await.unwrap().starts_with("the task of a peer met a fault"));
        assert_eq!(told.recv().await, None);
    }
}
