//! Says in the log why the tip cannot be relied on, while it cannot.

use std::time::Duration;

use leyden_node::Node;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;

/// How often it is looked at, and how often at most it is logged.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A doubt that passes sooner, as after most starts, is not worth a line.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a doubt about the tip stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duties {
    /// There is a Lightning node.
    pub node: bool,
    pub tower: bool,
}

impl Duties {
    pub(super) fn of(config: &Config) -> Self {
        let alone = config.tower.as_ref().is_some_and(|tower| tower.alone);
        Self { node: !alone, tower: config.tower.is_some() }
    }

    /// What is not done while the tip is in doubt.
    const fn stopped(self) -> &'static str {
        match self {
            Self { node: true, tower: false } => "this node does not pay, accept, forward or open channels",
            Self { node: true, tower: true } => {
                "this node does not pay, accept, forward or open channels, and its watchtower may not see a breach"
            }
            Self { node: false, tower: _ } => {
                "this watchtower may not see a breach, and answers none that it does not see"
            }
        }
    }
}

pub(super) async fn log_doubts(node: Node, duties: Duties, stopping: CancellationToken) {
    let mut since: Option<Instant> = None;
    let mut logged: Option<Instant> = None;
    loop {
        match node.check_tip() {
            Ok(()) => {
                if since.take().is_some_and(|since| logged.is_some_and(|logged| logged >= since)) {
                    info!(height = node.tip().height, "synced to the chain again");
                }
            }
            Err(doubt) => {
                let begun = *since.get_or_insert_with(Instant::now);
                let due = logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL);
                if due && begun.elapsed() >= PATIENCE {
                    warn!(height = node.tip().height, %doubt, "not synced to the chain: {}", duties.stopped());
                    logged = Some(Instant::now());
                }
            }
        }
        tokio::select! {
            () = sleep(LOOK_INTERVAL) => {}
            () = stopping.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_alone_hears_what_the_doubt_means_for_a_tower() {
        let alone = Duties { node: false, tower: true }.stopped();
        assert!(alone.contains("breach") && !alone.contains("pay"), "{alone}");
        let both = Duties { node: true, tower: true }.stopped();
        assert!(both.contains("breach") && both.contains("pay"), "{both}");
        assert!(!Duties { node: true, tower: false }.stopped().contains("watchtower"));
    }
}
