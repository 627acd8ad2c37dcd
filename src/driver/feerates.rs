//! The feerates of the moment, as channels see them.
//!
//! They come from our own mempool and the blocks that it saw: there is no server that could lie or be away. What they can be
//! is old, while the chain is not known to be current; then nobody acts on them (`channel::feerate`). An estimate
//! walks through the mempool, so all channels share one for a second.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use leyden_channels::{
    channel::{Feerates, MAX_FEERATE},
    types::{FeeratePerKw, Height},
};
use leyden_node::Node;

use super::services::per_kw;

/// Confirmation target for channels' transactions, in blocks.
const TARGET_BLOCKS: u32 = 6;
/// What is slow: a day.
const SLOW_TARGET_BLOCKS: u32 = 144;
/// For how long an estimate is used at the same tip.
const FRESH: Duration = Duration::from_secs(1);

/// The last estimate, and when and where it was made.
#[derive(Default)]
pub(crate) struct LastFeerates(Mutex<Option<(Instant, Height, Feerates)>>);

impl LastFeerates {
    pub(crate) fn at(&self, tip: Height, node: &Node) -> Feerates {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *last {
            Some((made, at, feerates)) if at == tip && now.duration_since(made) < FRESH => feerates,
            Some(_) | None => {
                let feerates = estimate(node);
                *last = Some((now, tip, feerates));
                feerates
            }
        }
    }
}

fn estimate(node: &Node) -> Feerates {
    let closing = per_kw(node.estimate_fee(TARGET_BLOCKS));
    Feerates {
        minimum: FeeratePerKw::FLOOR,
        // Ten times the estimate, and never below what no honest estimate reaches.
        maximum: FeeratePerKw(closing.0.saturating_mul(10).max(MAX_FEERATE.0)),
        closing,
        slow: per_kw(node.estimate_fee(SLOW_TARGET_BLOCKS)),
        mempool_minimum: per_kw(node.mempool_info().minimum_fee_rate),
    }
}
