//! Says in the log why the tip cannot be relied on, while it cannot.

use std::time::Duration;

use leyden_node::Node;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is looked at, and how often at most it is logged.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A doubt that passes sooner, as after most starts, is not worth a line.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn log_doubts(node: Node, stopping: CancellationToken) {
    let mut since: Option<Instant> = None;
    let mut logged: Option<Instant> = None;
    loop {
        match node.check_tip() {
            Ok(()) => {
                if since.take().is_some_and(|since| logged.is_some_and(|logged| logged >= since)) {
                    info!(height = node.tip().height, "the chain's tip may be relied on again");
                }
            }
            Err(doubt) => {
                let begun = *since.get_or_insert_with(Instant::now);
                let due = logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL);
                if due && begun.elapsed() >= PATIENCE {
                    warn!(height = node.tip().height, %doubt, "the chain's tip is in doubt: this node does not pay, accept, forward or open channels");
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
