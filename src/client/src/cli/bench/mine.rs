//! `leyden bench mine`: hashes per second of every kernel, against what the processor could do at best.

use std::{fs, num::NonZeroUsize, thread, time::Duration};

use clap::Args;
use leyden_mining::kernel::{self, Measurement, Together};
use serde_json::{Value, json};

use super::super::{CliError, Context, table};

/// Measure how fast this machine mines: every kernel that it can run, on one core and on all.
#[derive(Debug, Args)]
#[command(after_help = "\
A kernel's limit is what the processor could do if no instruction had to wait for another: the same instructions
without dependence between them, measured in turn with the kernel. The fastest of many short slices counts, so other
programs disturb little; the load average says how many there were.

Example:
  leyden bench mine --seconds 5")]
pub(super) struct Mine {
    /// How long to measure the kernels in turn, and then one core and all in turn
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// How long the length of a cycle is measured.
const CYCLES_TIME: Duration = Duration::from_millis(200);

impl Mine {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let time = Duration::from_secs(self.seconds.max(1));
        context.note(&format!("measuring the kernels, then one core and {cores}, {} seconds each", time.as_secs()));
        let report = Report {
            load: load_average(),
            cycles_per_second: kernel::cycles_per_second(CYCLES_TIME),
            kernels: kernel::measure(kernel::available(), time),
            chosen: kernel::best().name(),
            cores,
            together: kernel::together(kernel::best(), cores, time),
        };
        context.show_value(&report.value(), || report.text())
    }
}

/// Programs that ran or wanted to, on average over the last minute, before this one. `None` where nobody counts them.
fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

struct Report {
    load: Option<f64>,
    cycles_per_second: Option<f64>,
    kernels: Vec<Measurement>,
    chosen: &'static str,
    cores: usize,
    together: Together,
}

impl Report {
    /// The rate of the reference, which is the first kernel.
    fn reference(&self) -> f64 {
        self.kernels.first().map_or(0.0, |kernel| kernel.hashes_per_second)
    }

    fn best(&self) -> f64 {
        self.kernels.iter().map(|kernel| kernel.hashes_per_second).fold(0.0, f64::max)
    }

    fn cycles_per_hash(&self, hashes_per_second: f64) -> Option<f64> {
        self.cycles_per_second.map(|cycles| cycles / hashes_per_second)
    }

    fn value(&self) -> Value {
        let kernels: Vec<_> = self
            .kernels
            .iter()
            .map(|kernel| {
                json!({
                    "kernel": kernel.name,
                    "hashes_per_second": kernel.hashes_per_second,
                    "cycles_per_hash": self.cycles_per_hash(kernel.hashes_per_second),
                    "limit_hashes_per_second": kernel.limit,
                    "limit_cycles_per_hash": kernel.limit.and_then(|limit| self.cycles_per_hash(limit)),
                    "share_of_limit": share(kernel),
                })
            })
            .collect();
        json!({
            "kernel": self.chosen,
            "kernels": kernels,
            "best_to_portable": self.best() / self.reference(),
            "cores": self.cores,
            "hashes_per_second_one_core": self.together.alone,
            "hashes_per_second_per_core": self.together.together,
            "hashes_per_second": self.together.together * self.cores as f64,
            "scaling": self.together.together / self.together.alone,
            "cycles_per_second": self.cycles_per_second,
            "load_average": self.load,
        })
    }

    fn text(&self) -> String {
        let rows = self.kernels.iter().map(|kernel| {
            [
                kernel.name.to_owned(),
                millions(kernel.hashes_per_second),
                or_dash(self.cycles_per_hash(kernel.hashes_per_second), |cycles| format!("{cycles:.1}")),
                or_dash(kernel.limit.and_then(|limit| self.cycles_per_hash(limit)), |cycles| format!("{cycles:.1}")),
                or_dash(share(kernel), |share| format!("{:.0} %", 100.0 * share)),
            ]
        });
        let headings = ["kernel", ">MH/s a core", ">cycles a hash", ">its limit", ">share of it"];
        let kernels = table::list(headings, rows.collect(), "There is no kernel.");
        let Together { alone, together } = self.together;
        let facts = table::facts([
            ("in use", self.chosen.to_owned()),
            ("best to portable", format!("{:.2}", self.best() / self.reference())),
            ("one core alone", format!("{} MH/s", millions(alone))),
            ("per core, all mining", format!("{} MH/s ({:.2} of one alone)", millions(together), together / alone)),
            ("all cores", format!("{} MH/s on {}", millions(together * self.cores as f64), self.cores)),
            ("clock", or_dash(self.cycles_per_second, |cycles| format!("{:.2} GHz", cycles / 1e9))),
            ("load average before", or_dash(self.load, |load| format!("{load:.2}"))),
        ]);
        format!("{kernels}\n\n{facts}")
    }
}

/// What a kernel reaches of its limit.
fn share(kernel: &Measurement) -> Option<f64> {
    kernel.limit.map(|limit| kernel.hashes_per_second / limit)
}

fn millions(hashes_per_second: f64) -> String {
    format!("{:.2}", hashes_per_second / 1e6)
}

fn or_dash(number: Option<f64>, show: impl FnOnce(f64) -> String) -> String {
    number.map_or_else(|| "–".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_is_shown_with_its_share_and_the_best_with_its_ratio_to_the_portable_one() {
        let kernel = |name, hashes_per_second, limit| Measurement { name, hashes_per_second, limit };
        let report = Report {
            load: Some(0.25),
            cycles_per_second: Some(4e9),
            kernels: vec![kernel("scalar", 10e6, None), kernel("avx512", 40e6, Some(50e6))],
            chosen: "avx512",
            cores: 2,
            together: Together { alone: 40e6, together: 38e6 },
        };
        let value = report.value();
        assert_eq!(value["best_to_portable"], 4.0);
        assert_eq!(value["scaling"], 0.95);
        assert_eq!(value["hashes_per_second"], 76e6);
        assert_eq!(value["kernels"][0]["share_of_limit"], Value::Null);
        assert_eq!(value["kernels"][1]["share_of_limit"], 0.8);
        assert_eq!(value["kernels"][1]["cycles_per_hash"], 100.0);
        assert_eq!(value["kernels"][1]["limit_cycles_per_hash"], 80.0);
        let text = report.text();
        for shown in ["40.00", "100.0", "80.0", "80 %", "4.00", "38.00 MH/s (0.95 of one alone)", "76.00 MH/s on 2"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
    }
}
