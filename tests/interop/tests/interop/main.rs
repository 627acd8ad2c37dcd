//! Leyden and `ldk-node` on one chain, as peers: every case in both directions.
//!
//! ```text
//!   leydend (a process) ── Bitcoin Core's JSON-RPC ──► ldk-node (in this process)
//!        └──────────────── Lightning ───────────────────────┘
//! ```
//!
//! Each world is some nodes on a chain of their own, and goes through its cases in order; worlds run side by side. At the
//! end a table tells of every case; one that failed fails the run and ends its world.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod cases;
mod channels;
mod fees;
mod force;
mod forwards;
mod stale;
#[path = "../../support/mod.rs"]
mod support;
mod unconfirmed;

use std::{env, process::ExitCode};

use cases::Report;
use support::Kind;

#[tokio::main(flavor = "multi_thread", worker_threads = 8)]
async fn main() -> ExitCode {
    // What `cargo test` hands to every test program; `--skip` and its like are not for this one.
    let mut arguments = env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = arguments.next().filter(|first| !first.starts_with('-'));
    let report: &'static Report = Box::leak(Box::new(Report::new(filter)));
    let worlds = [
        tokio::spawn(report.world("anchors", channels::live(report, Kind::Anchors))),
        tokio::spawn(report.world("static_remotekey", channels::live(report, Kind::StaticRemoteKey))),
        tokio::spawn(report.world("fees with anchors", fees::live(report, Kind::Anchors))),
        tokio::spawn(report.world("fees with static_remotekey", fees::live(report, Kind::StaticRemoteKey))),
        tokio::spawn(report.world("force", force::live(report))),
        tokio::spawn(report.world("forwards", forwards::live(report))),
        tokio::spawn(report.world("stale with anchors", stale::live(report, Kind::Anchors))),
        tokio::spawn(report.world("stale with static_remotekey", stale::live(report, Kind::StaticRemoteKey))),
        tokio::spawn(report.world("unconfirmed", unconfirmed::live(report))),
    ];
    for world in worlds {
        world.await.expect("a case that panics is caught");
    }
    report.print()
}
