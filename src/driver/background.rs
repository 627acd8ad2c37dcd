//! A thread for long calculations that nobody waits for: less urgent than all others, so that it has what they leave.

use std::{io, sync::mpsc, thread};

use tokio::sync::oneshot;
use tracing::debug;

/// How much less urgent: where others want all processors, it still has a tenth of what each of them has.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The way to the thread, which ends when this is dropped.
pub(super) struct Background {
    jobs: mpsc::Sender<Job>,
}

impl Background {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            be_less_urgent();
            queue.into_iter().for_each(|job| job());
        })?;
        Ok(Self { jobs })
    }

    /// What comes out once its turn has come; `None` if the calculation has panicked.
    pub(super) async fn run<T: Send + 'static>(&self, calculate: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        let job = move || {
            // Whoever asked may have gone.
            let _ = done.send(calculate());
        };
        self.jobs.send(Box::new(job)).ok()?;
        result.await.ok()
    }
}

fn be_less_urgent() {
    // Of this thread alone, as Linux has it; elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        debug!(%error, "a thread stays as urgent as the others");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_calculates_one_after_the_other_and_is_less_urgent() {
        let background = Background::start("background").unwrap();
        let (first, second) =
            tokio::join!(background.run(|| thread::current().id()), background.run(|| thread::current().id()));
        assert!(first.is_some() && first == second && first != Some(thread::current().id()));
        #[cfg(target_os = "linux")]
        {
            let urgency = || rustix::process::getpriority_process(None).unwrap();
            assert_eq!(background.run(urgency).await, Some((urgency() + NICE).min(19)));
        }
    }
}
