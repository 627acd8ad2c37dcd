//! The chain's storage: is it sound, and how much of it is kept.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use leyden_jsonrpc::Call;
use leyden_node::{ChainCheck, ChainChecked, Node, prune::REORG_HORIZON};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    aside::turn,
    error::{MISC, RpcError},
};

const DEFAULT_LEVEL: i64 = 3;
const HIGHEST_LEVEL: u8 = 4;
const DEFAULT_BLOCKS: i64 = 6;
/// Bitcoin Core's border between heights and seconds since 1970.
const FIRST_TIME: i64 = 1_000_000_000;
/// A block's time may be so far from when it was made.
const TIME_WINDOW: i64 = 2 * 60 * 60;

/// Looks at the last blocks. It goes on only while its caller waits.
pub(super) async fn verify(
    node: &Node,
    call: &Call,
    one_at_a_time: &Semaphore,
    ended: &CancellationToken,
) -> Result<Value, RpcError> {
    let number = |place: usize, default: i64| call.optional(place).map_or(Ok(default), |_| call.number(place));
    let level = number(0, DEFAULT_LEVEL)?.clamp(0, i64::from(HIGHEST_LEVEL));
    let level = u8::try_from(level).unwrap_or(HIGHEST_LEVEL);
    let blocks = u32::try_from(number(1, DEFAULT_BLOCKS)?).ok().filter(|blocks| *blocks > 0);
    let _turn = turn(one_at_a_time, ended).await?;
    let give_up = Arc::new(AtomicBool::new(false));
    let looked = node.check_chain(ChainCheck { level, blocks }, Arc::clone(&give_up));
    let given_up = async {
        ended.cancelled().await;
        give_up.store(true, Ordering::Release);
        std::future::pending().await
    };
    let looked = tokio::select! {
        looked = looked => looked?,
        never = given_up => never,
    };
    match looked {
        ChainChecked::Right => Ok(json!(true)),
        ChainChecked::Wrong { block, what } => {
            tracing::error!(%block, what, "the stored chain is not sound");
            Ok(json!(false))
        }
        ChainChecked::TooMany => {
            let text = "so many blocks have too many coins for this level: check fewer, or at level 2";
            Err(RpcError::new(MISC, text))
        }
    }
}

/// Gives up blocks up to a height, or up to the last one before a time, as far as nobody needs them.
pub(super) async fn prune(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let wanted = call.number(0)?;
    if node.prune_target().is_none() {
        return Err(RpcError::new(MISC, "Cannot prune blocks because node is not in prune mode."));
    }
    if wanted < 0 {
        return Err(RpcError::parameter("Negative block height."));
    }
    let tip = node.tip().height;
    let height = if wanted > FIRST_TIME {
        let time = wanted.saturating_sub(TIME_WINDOW);
        first_since(node, tip, time)
            .ok_or_else(|| RpcError::parameter("Could not find block with at least the specified timestamp."))?
    } else {
        let height = u32::try_from(wanted).ok().filter(|height| *height <= tip);
        height.ok_or_else(|| RpcError::parameter("Blockchain is shorter than the attempted prune height."))?
    };
    let below = node.prune_up_to(height.min(tip.saturating_sub(REORG_HORIZON))).await?;
    Ok(json!(below.map_or(0, i64::from) - 1))
}

/// The lowest block of the active chain that is as late.
fn first_since(node: &Node, tip: u32, time: i64) -> Option<u32> {
    let is_since = |height: &u32| {
        let header = node.block_hash(*height).and_then(|hash| node.header(&hash));
        header.is_some_and(|(header, _)| i64::from(header.time) >= time)
    };
    (0..=tip).find(is_since)
}
