//! `leyden bench chain`: how fast this machine validates a chain of full blocks, from nothing.

use std::{fmt::Display, path::Path, process::Command};

use clap::Args;
use leyden_common::bench::{ChainDiskUse, ChainMade, ChainValidated};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::{CliError, Context, table};
use crate::cluster::leydend_program;

/// Make a chain of full blocks and validate it from an empty database, as a new node does.
///
/// Each payment of a full block spends two coins, every other one by a taproot key, the rest by a public key hash. All
/// scripts are run, nothing is assumed. Every block is synced to the disk with its undo data and indexes; coins are written
/// some blocks at a time, and all of them before the clock stops. At the end it is told what the chain takes on the disk in a
/// node that keeps all of it, in one that keeps the last 288 blocks, and in a light one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bench chain\n  \
    leyden bench chain --blocks 20     sooner\n  \
    leyden --json bench chain      for programs\n\n\
    `make bench-peers WHAT=chain` has Bitcoin Core's engine do the same.")]
pub(super) struct Chain {
    /// Full blocks, of 4,700 payments each
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    blocks: u32,
}

impl Chain {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let folder = tempfile::Builder::new()
            .prefix("leyden-bench-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let file = folder.path().join("blocks");
        context.note(&format!("making {} full blocks; 200 take a minute or two on two cores", self.blocks));
        let made: ChainMade = leydend(&["make-chain", "--blocks", &self.blocks.to_string()], &[("--file", &file)])?;
        context.note("validating them");
        let validated: ChainValidated =
            leydend(&["validate-chain"], &[("--file", &file), ("--folder", folder.path())])?;
        if validated.tip != made.tip {
            return Err(CliError::Failed(format!("the tip is {}, not the chain's {}", validated.tip, made.tip)));
        }
        context.note("comparing what it takes on the disk in an archival, a pruned and a light node");
        let light_folder = folder.path().join("light-node");
        let used: ChainDiskUse =
            leydend(&["disk-use"], &[("--folder", folder.path()), ("--light-folder", &light_folder)])?;
        let ChainValidated { seconds, peak_memory, .. } = validated;
        let (blocks, inputs) = (f64::from(made.blocks) / seconds, made.inputs as f64 / seconds);
        let value = json!({
            "full_blocks": self.blocks,
            "blocks": made.blocks,
            "inputs": made.inputs,
            "bytes": made.bytes,
            "seconds": seconds,
            "blocks_per_second": blocks,
            "inputs_per_second": inputs,
            "peak_memory_bytes": peak_memory,
            "disk_bytes": { "archival": used.archival, "pruned": used.pruned, "light": used.light },
        });
        let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        let share = |bytes: u64| {
            let percent = bytes as f64 * 100.0 / used.archival.max(1) as f64;
            format!("{:.1} MB, {percent:.2} % of that", bytes as f64 / 1e6)
        };
        context.show_value(&value, || {
            table::list(
                ["", "measured"],
                vec![
                    ["blocks", &format!("{}, {} of them full", made.blocks, self.blocks)].map(str::to_owned),
                    ["inputs", &made.inputs.to_string()].map(str::to_owned),
                    ["size", &megabytes(made.bytes)].map(str::to_owned),
                    ["time", &format!("{seconds:.1} s")].map(str::to_owned),
                    ["blocks a second", &format!("{blocks:.1}")].map(str::to_owned),
                    ["inputs a second", &format!("{inputs:.0}")].map(str::to_owned),
                    ["peak memory", &megabytes(peak_memory)].map(str::to_owned),
                    ["on the disk, archival", &megabytes(used.archival)].map(str::to_owned),
                    ["pruned to 288 blocks", &share(used.pruned)].map(str::to_owned),
                    ["light", &share(used.light)].map(str::to_owned),
                ],
                "",
            )
        })
    }
}

/// The daemon's program does it: it has the chain.
fn leydend<T: DeserializeOwned>(command: &[&str], paths: &[(&str, &Path)]) -> Result<T, CliError> {
    let failed = |error: &dyn Display| CliError::Failed(error.to_string());
    let mut daemon = Command::new(leydend_program().map_err(|error| failed(&error))?);
    daemon.arg("bench").args(command);
    for (flag, path) in paths {
        daemon.arg(flag).arg(path);
    }
    let output = daemon.output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
}
