//! `leyden bench tower`: what a watchtower on this machine can take, and how soon it answers.

use std::{fmt::Display, process::Command};

use clap::Args;
use leyden_common::bench::{TowerBackups, TowerBreaches, TowerMeasured};
use serde_json::json;

use super::super::{CliError, Context, table};
use crate::cluster::leydend_program;

/// Have a watchtower back up states, start again and answer breaches, on a real disk.
///
/// Nothing is sent over a network: what is measured is the tower, its database and its signatures.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bench tower\n  \
    leyden bench tower --states 100000 --hints 1000000      sooner\n  \
    leyden --json bench tower      for programs\n\n\
    `leyden bench payments --towers 2` shows what towers cost payments.")]
pub(super) struct Tower {
    /// States without HTLCs to back up, in each mode
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    states: u64,
    /// Hints at the restart and while blocks are looked at
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    hints: u64,
    /// Channels that are breached in one block
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    channels: u32,
    /// HTLCs of each
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=40))]
    htlcs: u16,
}

impl Tower {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        context.note("backing up, starting again, answering breaches: with the default sizes a few minutes");
        let measured = self.measure()?;
        let TowerMeasured { states, blind, own, hints, breached_blind, breached_own } = measured;
        let backups = |of: &TowerBackups| json!({"durable_per_second": of.durable_per_second, "bytes_per_state": of.bytes_per_state});
        let breaches = |of: &TowerBreaches| {
            json!({
                "channels": of.channels,
                "htlcs": of.htlcs,
                "penalties": of.penalties,
                "outputs": of.outputs,
                "seconds": of.seconds,
            })
        };
        let value = json!({
            "states": states,
            "blind": backups(&blind),
            "own": backups(&own),
            "hints": hints.count,
            "block_p50_us": hints.block_p50_micros,
            "block_p99_us": hints.block_p99_micros,
            "restart_seconds": hints.restart_seconds,
            "breached_blind": breaches(&breached_blind),
            "breached_own": breaches(&breached_own),
        });
        let bytes = |of: &TowerBackups| format!("{:.0} bytes", of.bytes_per_state);
        let rate = |of: &TowerBackups| format!("{:.0} a second", of.durable_per_second);
        let answer = |of: &TowerBreaches| {
            let TowerBreaches { penalties, outputs, seconds, .. } = of;
            format!("{seconds:.2} s, {penalties} penalties of {outputs} outputs")
        };
        let wide = |what: &str, number: u64| format!("{what}, {number}");
        context.show_value(&value, || {
            table::list(
                ["", "measured", "goal", "LND, rust-teos"],
                vec![
                    [wide("a state, stranger's tower", states), bytes(&blind), "250 bytes".into(), OTHER_BYTES.into()],
                    [wide("a state, own tower", states), bytes(&own), "100 bytes".into(), OTHER_BYTES.into()],
                    ["durable receipts, stranger's".into(), rate(&blind), "10,000 a second".into(), String::new()],
                    ["durable receipts, own".into(), rate(&own), "10,000 a second".into(), String::new()],
                    [
                        wide("a block of 3,000 against hints", hints.count),
                        format!(
                            "p50 {:.2} ms, p99 {:.2} ms",
                            hints.block_p50_micros / 1e3,
                            hints.block_p99_micros / 1e3
                        ),
                        "2 ms".into(),
                        String::new(),
                    ],
                    [
                        wide("restart with hints", hints.count),
                        format!("{:.2} s", hints.restart_seconds),
                        "3 s".into(),
                        String::new(),
                    ],
                    [
                        format!("{} breaches of {} HTLCs, stranger's", breached_blind.channels, breached_blind.htlcs),
                        answer(&breached_blind),
                        "5 s".into(),
                        OTHER_COVER.into(),
                    ],
                    [
                        format!("{} breaches of {} HTLCs, own", breached_own.channels, breached_own.htlcs),
                        answer(&breached_own),
                        "5 s".into(),
                        OTHER_COVER.into(),
                    ],
                ],
                "",
            )
        })
    }

    /// The daemon's program does it: it has the database.
    fn measure(&self) -> Result<TowerMeasured, CliError> {
        let failed = |error: &dyn Display| CliError::Failed(error.to_string());
        let folder = tempfile::Builder::new()
            .prefix("leyden-bench-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let mut daemon = Command::new(leydend_program().map_err(|error| failed(&error))?);
        daemon.args(["bench", "tower", "--folder"]).arg(folder.path());
        let sizes = [
            ("--states", self.states),
            ("--hints", self.hints),
            ("--channels", u64::from(self.channels)),
            ("--htlcs", u64::from(self.htlcs)),
        ];
        for (flag, value) in sizes {
            daemon.args([flag, &value.to_string()]);
        }
        let output = daemon.output().map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
    }
}

/// What LND's towers and rust-teos keep of a state without HTLCs.
const OTHER_BYTES: &str = "500 to 1,000 bytes";

/// What they do about HTLCs.
const OTHER_COVER: &str = "take no HTLC";
