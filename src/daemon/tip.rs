//! Says in the log why the tip cannot be relied on, while it cannot.

use std::time::Duration;

use leyden_node::Node;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is looked at, and how often at most it is said.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// A doubt that passes sooner, as after most starts, is not worth a line.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn tell_doubts(node: Node, stopping: CancellationToken) {
    let mut since: Option<Instant> = None;
    let mut told: Option<Instant> = None;
    loop {
        match node.check_tip() {
            Ok(()) => {
                if since.take().is_some_and(|since| told.is_some_and(|told| told >= since)) {
                    info!(height = node.tip().height, "the chain's tip may be relied on again");
                }
            }
            Err(doubt) => {
                let begun = *since.get_or_insert_with(Instant::now);
                let due = told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL);
                if due && begun.elapsed() >= PATIENCE {
                    warn!(height = node.tip().height, %doubt, "nothing is paid, taken, forwarded or opened");
                    told = Some(Instant::now());
                }
            }
        }
        tokio::select! {
            () = sleep(LOOK_INTERVAL) => {}
            () = stopping.cancelled() => return,
        }
    }
}
