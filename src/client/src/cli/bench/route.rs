//! `leyden bench route`: how long it takes to find a route through a network of the public one's size, what the routes are
//! worth, and how long the network takes to come back from the disk.

use std::{
    fmt::Display,
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;
use leyden_channels::{
    gossip::synthetic::Size,
    routing::{
        Router, Scorer,
        trial::{Answer, Trial},
    },
    types::Msat,
};
use leyden_common::bench::GraphLoaded;
use serde_json::json;

use super::{
    super::{CliError, Context, amount::Sat, table},
    payments::percentile,
};
use crate::cluster::leydend_program;

/// Find routes through a synthetic network of 15,000 nodes and 50,000 channels, and rate them.
///
/// The network is the same on every machine: nodes open channels mostly to those that have many, capacities spread
/// around 2,000,000 sat, and half of the channels have most of their money at one end. The router sees what gossip would
/// tell it; the judge sees the balances, too, and says which payments would arrive at the first try, and which after
/// failures that the router learns from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bench route\n  \
    leyden bench route --amount 10,000 --queries 200      smaller payments\n  \
    leyden --json bench route      for programs\n\n\
    `make bench-peers WHAT=route` asks LDK's router the same questions.")]
pub(super) struct Route {
    /// Number of payments to find a route for, between random nodes
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queries: u32,
    /// Amount of each payment
    #[arg(long, default_value = "1000000")]
    amount: Sat,
    /// Number of nodes
    #[arg(long, default_value_t = Size::PUBLIC.nodes, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    nodes: u32,
    /// Number of channels
    #[arg(long, default_value_t = Size::PUBLIC.channels, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    channels: u32,
    /// Seed of the network
    #[arg(long, default_value_t = Size::PUBLIC.seed)]
    seed: u64,
}

/// How often a payment is tried.
const TRIES: usize = 20;

impl Route {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let amount = u64::try_from(self.amount.0).ok().and_then(|sat| sat.checked_mul(1_000)).map(Msat);
        let amount = amount.filter(|amount| *amount > Msat::ZERO);
        let amount = amount.ok_or_else(|| CliError::Usage("the amount must be at least 1 sat".to_owned()))?;
        let size = Size { seed: self.seed, nodes: self.nodes, channels: self.channels };
        context.note(&format!("making a network of {} nodes and {} channels", size.nodes, size.channels));
        let trial = Trial::new(size, self.queries as usize, amount);
        context.note("keeping it on the disk and loading it");
        let kept = Kept::measure(size)?;
        context.note(&format!("looking for {} routes, and paying", self.queries));
        let found = Found::measure(&trial)?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let value = json!({
            "nodes": size.nodes,
            "channels": size.channels,
            "seed": size.seed,
            "queries": self.queries,
            "amount_sat": self.amount.0,
            "route_p50_ms": ms(found.p50),
            "route_p99_ms": ms(found.p99),
            "found_share": found.found,
            "mean_parts": found.parts,
            "mean_fee_share": found.fee,
            "mean_chance": found.chance,
            "first_try_share": found.first_try,
            "paid_share": found.paid,
            "mean_tries": found.tries,
            "records": kept.records,
            "record_bytes": kept.bytes,
            "graph_load_ms": ms(kept.load),
        });
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        context.show_value(&value, || {
            table::facts([
                ("network", format!("{} nodes, {} channels, seed {}", size.nodes, size.channels, size.seed)),
                ("queries", format!("{} of {} sat", self.queries, self.amount.0)),
                ("time for a route", format!("p50 {:.3} ms, p99 {:.3} ms", ms(found.p50), ms(found.p99))),
                ("routes found", percent(found.found)),
                ("", "for the others no route is wide enough, or none within a fee of 1 %".to_owned()),
                ("of those, on average", format!("{:.2} parts, fee {:.4} %", found.parts, found.fee * 100.0)),
                (
                    "success estimate",
                    format!("{}; first tries that arrive: {}", percent(found.chance), percent(found.first_try)),
                ),
                (
                    "paid in the end",
                    format!("{} with {:.1} tries, of {TRIES} at most", percent(found.paid), found.tries),
                ),
                (
                    "graph loaded from the disk",
                    format!("{:.0} ms ({} records, {:.1} MB)", ms(kept.load), kept.records, kept.bytes as f64 / 1e6),
                ),
            ])
        })
    }
}

/// The routes, and what they are worth.
struct Found {
    p50: Duration,
    p99: Duration,
    /// Of all queries.
    found: f64,
    // Means over those that were found.
    parts: f64,
    fee: f64,
    chance: f64,
    first_try: f64,
    paid: f64,
    /// Over those that were paid.
    tries: f64,
}

impl Found {
    fn measure(trial: &Trial) -> Result<Self, CliError> {
        let (graph, scorer) = (trial.network.graph(), Scorer::new());
        let mut router = Router::new();
        let mut times = Vec::with_capacity(trial.pairs.len());
        let (mut found, mut parts, mut arrived, mut paid, mut tries) = (0, 0, 0, 0, 0);
        let (mut fee, mut chance) = (0.0, 0.0);
        for &pair in &trial.pairs {
            let request = trial.request(pair.0, pair.1);
            let begun = Instant::now();
            let plan = router.find(&graph, &scorer, &request);
            times.push(begun.elapsed());
            let Ok(plan) = plan else { continue };
            let verdict = trial.judge(pair, &Answer::from(&plan));
            let verdict = verdict.map_err(|error| CliError::Failed(format!("a route is wrong: {error}")))?;
            found += 1;
            parts += plan.routes.len();
            arrived += usize::from(verdict.arrives);
            fee += verdict.fee.0 as f64 / trial.amount.0 as f64;
            chance += (-verdict.nats).exp();
            if let Some(payment) = trial.pay(&mut router, &graph, pair, TRIES) {
                paid += 1;
                tries += payment.tries;
            }
        }
        times.sort_unstable();
        let of = |count: usize, all: usize| count as f64 / all.max(1) as f64;
        let mean = |sum: f64| sum / found.max(1) as f64;
        Ok(Self {
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
            found: of(found, times.len()),
            parts: of(parts, found),
            fee: mean(fee),
            chance: mean(chance),
            first_try: of(arrived, found),
            paid: of(paid, found),
            tries: of(tries, paid),
        })
    }
}

/// The network as a node keeps it.
struct Kept {
    records: usize,
    bytes: usize,
    /// From opening the database to a graph that routes are found in.
    load: Duration,
}

impl Kept {
    /// The daemon's program makes the same network, keeps it and loads it: it has the database.
    fn measure(size: Size) -> Result<Self, CliError> {
        let failed = |error: &dyn Display| CliError::Failed(error.to_string());
        let folder = tempfile::Builder::new()
            .prefix("leyden-bench-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let mut daemon = Command::new(leydend_program().map_err(|error| failed(&error))?);
        daemon.args(["bench", "graph", "--folder"]).arg(folder.path());
        for (flag, value) in
            [("--nodes", u64::from(size.nodes)), ("--channels", u64::from(size.channels)), ("--seed", size.seed)]
        {
            daemon.args([flag, &value.to_string()]);
        }
        let output = daemon.output().map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
        }
        let loaded: GraphLoaded = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
        Ok(Self { records: loaded.records, bytes: loaded.bytes, load: Duration::from_secs_f64(loaded.seconds) })
    }
}
