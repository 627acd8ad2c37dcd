//! `leyden lab double-spend`: the race of section 11, with real blocks.

use std::process::Command;

use clap::Args;
use leyden_common::bench::DoubleSpends;
use leyden_consensus::risk::RaceModel::{NegativeBinomial, Poisson};
use serde_json::json;

use super::super::{CliError, Context, risk, table};
use crate::cluster::leydend_program;

/// Race payments against their double spends, on a chain with real blocks.
///
/// A merchant waits for some confirmations. An attacker with a share of the hash rate mines in secret, and shows its chain
/// as soon as that has more work. The chain code of leydend decides each race; only time, and who finds the next block, are
/// simulated. What is seen is compared with the formulas of `leyden risk`. The exit code is 0 if they agree.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden lab double-spend\n  \
    leyden lab double-spend --attacker 10% --confirmations 2 --races 2000")]
pub(super) struct DoubleSpend {
    /// Share of the hash rate that the attacker has, up to 0.45
    #[arg(long, value_name = "Q", default_value = "0.3", value_parser = risk::share)]
    attacker: f64,
    /// Blocks that the merchant waits for
    #[arg(long, value_name = "Z", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    confirmations: u32,
    /// Number of races
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    races: u32,
    /// Seed of chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Above this share a race may go on for thousands of blocks.
const MOST_SHARE: f64 = 0.45;
/// Standard errors of an interval that holds the true value 95 times out of 100.
const OF_95_PERCENT: f64 = 1.96;
/// So far off is nobody by chance: once in two million times.
const BY_CHANCE: f64 = 5.0;

impl DoubleSpend {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        if self.attacker > MOST_SHARE {
            return Err(CliError::Usage(format!("--attacker is at most {MOST_SHARE}: beyond it races have no end")));
        }
        let waiting = context.waiting(format!("{} races", self.races));
        let measured = self.measure();
        waiting.finish_and_clear();
        let DoubleSpends { races, won, blocks, height } = measured?;
        let exact = NegativeBinomial.attacker_success(self.attacker, self.confirmations);
        let paper = Poisson.attacker_success(self.attacker, self.confirmations);
        let share = f64::from(won) / f64::from(races);
        let (least, most) = interval(won, races, OF_95_PERCENT);
        let (lowest, highest) = interval(won, races, BY_CHANCE);
        let agrees = (lowest..=highest).contains(&exact);
        let value = json!({
            "attacker": self.attacker,
            "confirmations": self.confirmations,
            "seed": self.seed,
            "races": races,
            "won": won,
            "success": share,
            "interval_95": [least, most],
            "exact": exact,
            "white_paper": paper,
            "blocks": blocks,
            "height": height,
        });
        context.show_value(&value, || {
            table::facts([
                (
                    "attacker",
                    format!("{} of the hash rate, against {} confirmations", self.attacker, self.confirmations),
                ),
                (
                    "races",
                    format!("{races}, seed {}: {blocks} blocks found, {height} in the chain at the end", self.seed),
                ),
                ("double spends that stand", format!("{won}: {share:.5}, 95 % interval {least:.5} to {most:.5}")),
                ("exact formula", format!("{exact:.5}")),
                ("white paper's", format!("{paper:.5}")),
            ])
        })?;
        if agrees {
            return Ok(());
        }
        Err(CliError::Failed(format!(
            "{won} of {races} is not what chance makes of {exact:.5}: please report this, with the seed"
        )))
    }

    /// The daemon's program races, for it has the chain.
    fn measure(&self) -> Result<DoubleSpends, CliError> {
        let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
        let folder = tempfile::Builder::new()
            .prefix("leyden-lab-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let mut daemon = Command::new(leydend_program().map_err(|error| failed(&error))?);
        daemon.args(["bench", "double-spend", "--folder"]).arg(folder.path());
        for (flag, value) in [
            ("--attacker", self.attacker.to_string()),
            ("--confirmations", self.confirmations.to_string()),
            ("--races", self.races.to_string()),
            ("--seed", self.seed.to_string()),
        ] {
            daemon.arg(flag).arg(value);
        }
        let output = daemon.output().map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
    }
}

/// Wilson's interval for a probability of which `won` of `races` were seen: so many standard errors to each side.
fn interval(won: u32, races: u32, errors: f64) -> (f64, f64) {
    let (won, races) = (f64::from(won), f64::from(races));
    let (share, square) = (won / races, errors * errors);
    let middle = share + square / (2.0 * races);
    let reach = errors * (share * (1.0 - share) / races + square / (4.0 * races * races)).sqrt();
    let scale = 1.0 + square / races;
    // Nothing and everything are bounds that rounding must not shift.
    let least = if won == 0.0 { 0.0 } else { ((middle - reach) / scale).max(0.0) };
    let most = if won == races { 1.0 } else { ((middle + reach) / scale).min(1.0) };
    (least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        let (least, most) = interval(10, 100, 1.96);
        // E. B. Wilson (1927); any table of statistics has these.
        assert!((least - 0.0552).abs() < 0.0002 && (most - 0.1744).abs() < 0.0002, "{least} {most}");
        assert_eq!(interval(0, 50, 1.96).0, 0.0);
        assert_eq!(interval(50, 50, 1.96).1, 1.0);
        assert!(interval(0, 50, 1.96).1 > 0.05);
    }
}
