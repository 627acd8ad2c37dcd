//! `leyden bench mine`: hashes per second.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use bitcoin::{Network, Target, constants::genesis_block};
use clap::Args;
use leyden_mining::{Job, kernel, search};
use serde_json::json;

use super::super::{CliError, Context, table};

/// Measure the hash rate: search for a proof of work with an impossible target.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leyden bench mine --seconds 5")]
pub(super) struct Mine {
    /// How long to search, on one core and then on all
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Mine {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let time = Duration::from_secs(self.seconds.max(1));
        let name = kernel::best().name().to_owned();
        context.note(&format!("searching with {name} on one core, then on {cores}, {} seconds each", time.as_secs()));
        let one = rate(1, time);
        let all = rate(cores, time);
        let per_core = all / cores as f64;
        let value = json!({
            "kernel": name,
            "cores": cores,
            "hashes_per_second_one_core": one,
            "hashes_per_second": all,
            "hashes_per_second_per_core": per_core,
            "scaling": per_core / one,
        });
        context.show_value(&value, || {
            table::facts([
                ("kernel", name.clone()),
                ("cores", cores.to_string()),
                ("one core alone", format!("{:.2} MH/s", one / 1e6)),
                ("per core, all mining", format!("{:.2} MH/s ({:.2} of one alone)", per_core / 1e6, per_core / one)),
                ("all cores", format!("{:.2} MH/s", all / 1e6)),
            ])
        })
    }
}

/// Hashes per second of a search that finds nothing.
fn rate(threads: usize, time: Duration) -> f64 {
    let job = Job::with_target(&genesis_block(Network::Bitcoin).header, Target::ZERO);
    let (stop, hashes) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            // A header has 2^32 nonces, which a fast machine exhausts within the time.
            while !stop.load(Ordering::Relaxed) {
                search(&job, threads, &stop, &hashes);
            }
        });
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    hashes.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}
