//! What is reported of the cases.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Mutex,
    task::Poll,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Longer than any case needs, however busy the machine: what it waits for has its own patience.
const LIMIT: Duration = Duration::from_secs(1_800);

/// A world cannot go on.
pub struct Ended;

pub type World = Result<(), Ended>;

struct Row {
    case: String,
    who: String,
    took: Duration,
    failure: Option<String>,
}

/// The cases of all worlds, as they end.
pub struct Report {
    filter: Option<String>,
    rows: Mutex<Vec<Row>>,
    /// Where the worlds that failed have left their nodes' logs.
    left: Mutex<Vec<PathBuf>>,
}

impl Report {
    /// Runs only the worlds whose name holds `filter`.
    pub fn new(filter: Option<String>) -> Self {
        Self { filter, rows: Mutex::default(), left: Mutex::default() }
    }

    /// Runs a world unless the filter is against it.
    pub async fn world(&self, name: &'static str, world: impl Future<Output = World> + Send) {
        if self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            let begun = Instant::now();
            // A case that failed stands in the table already.
            if let Err(failure) = caught(world).await {
                let row = Row {
                    case: format!("start the nodes of {name}"),
                    who: "both".to_owned(),
                    took: begun.elapsed(),
                    failure: Some(failure),
                };
                self.rows.lock().unwrap().push(row);
            }
        }
    }

    /// A folder for the nodes of a world.
    pub fn folder(&'static self) -> Folder {
        Folder { inner: Some(tempfile::Builder::new().prefix("leyden-interop-").tempdir().unwrap()), report: self }
    }

    /// Runs a case; `who` acts in it.
    pub async fn case<T>(&self, case: &str, who: &str, run: impl Future<Output = T>) -> Result<T, Ended> {
        let begun = Instant::now();
        let result = match tokio::time::timeout(LIMIT, caught(run)).await {
            Ok(result) => result,
            Err(_) => Err(format!("not done after {} seconds", LIMIT.as_secs())),
        };
        let (result, failure) = match result {
            Ok(value) => (Ok(value), None),
            Err(failure) => (Err(Ended), Some(failure)),
        };
        println!("{} {case} ({who})", if failure.is_none() { "ok    " } else { "FAILED" });
        let row = Row { case: case.to_owned(), who: who.to_owned(), took: begun.elapsed(), failure };
        self.rows.lock().unwrap().push(row);
        result
    }

    /// Prints the table.
    pub fn print(&self) -> ExitCode {
        let rows = self.rows.lock().unwrap();
        let width = |of: fn(&Row) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default();
        let (cases, whos) = (width(|row| &row.case).max(4), width(|row| &row.who).max(3));
        println!("\n{:cases$}  {:whos$}  result  seconds", "case", "who");
        for row in rows.iter() {
            let result = if row.failure.is_none() { "ok" } else { "FAILED" };
            println!("{:cases$}  {:whos$}  {result:6}  {:7.1}", row.case, row.who, row.took.as_secs_f64());
        }
        let failed = rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?)));
        for (row, failure) in failed.clone() {
            println!("\n{} ({}): {failure}", row.case, row.who);
        }
        for folder in self.left.lock().unwrap().iter() {
            println!("what the nodes wrote is left in {}", folder.display());
        }
        let failed = failed.count();
        println!("\ninterop: {} cases, {failed} failed", rows.len());
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Ends a case that panics, and only it.
async fn caught<T>(run: impl Future<Output = T>) -> Result<T, String> {
    let mut run = pin!(run);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(message(&*panic))),
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// A temporary folder that stays, with what the nodes wrote, when a case has failed.
pub struct Folder {
    inner: Option<TempDir>,
    report: &'static Report,
}

impl Folder {
    pub fn path(&self) -> &Path {
        self.inner.as_ref().expect("the folder is there until the end").path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let failed = self.report.rows.lock().unwrap().iter().any(|row| row.failure.is_some());
        if let Some(folder) = self.inner.take()
            && failed
        {
            self.report.left.lock().unwrap().push(folder.keep());
        }
    }
}
