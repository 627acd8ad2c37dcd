//! Calls that wait for a block.

use std::time::Duration;

use bitcoin::BlockHash;
use leyden_jsonrpc::Call;
use leyden_node::{Node, Tip};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::error::{MISC, RpcError};

/// When the caller wants an answer at the latest; 0 milliseconds are for ever.
fn deadline(call: &Call, place: usize) -> Result<Option<Instant>, RpcError> {
    let milliseconds = if call.optional(place).is_some() { call.number(place)? } else { 0 };
    let milliseconds = u64::try_from(milliseconds).map_err(|_| RpcError::new(MISC, "Negative timeout"))?;
    // What is later than the machine's clock can say is for ever too.
    let limit = Instant::now().checked_add(Duration::from_millis(milliseconds));
    Ok(limit.filter(|_| milliseconds > 0))
}

/// The tip as soon as it is `wanted`, or when the time is over, the caller has hung up or the daemon stops.
pub(super) async fn tip_when(
    node: &Node,
    wanted: impl Fn(&Tip) -> bool,
    deadline: Option<Instant>,
    ended: &CancellationToken,
) -> Tip {
    let mut events = node.backend().events();
    let over = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        let tip = node.tip();
        if wanted(&tip) {
            return tip;
        }
        tokio::select! {
            () = ended.cancelled() => return tip,
            () = &mut over => return tip,
            // Whoever has missed some looks at the tip as well.
            _ = events.recv() => {}
        }
    }
}

fn answer(tip: Tip) -> Value {
    json!({ "hash": tip.hash, "height": tip.height })
}

pub(super) async fn new_block(node: &Node, call: &Call, ended: &CancellationToken) -> Result<Value, RpcError> {
    let deadline = deadline(call, 0)?;
    let present: BlockHash = if call.optional(1).is_some() { call.hash(1)? } else { node.tip().hash };
    Ok(answer(tip_when(node, |tip| tip.hash != present, deadline, ended).await))
}

pub(super) async fn block(node: &Node, call: &Call, ended: &CancellationToken) -> Result<Value, RpcError> {
    let hash: BlockHash = call.hash(0)?;
    let deadline = deadline(call, 1)?;
    Ok(answer(tip_when(node, |tip| tip.hash == hash, deadline, ended).await))
}

pub(super) async fn height(node: &Node, call: &Call, ended: &CancellationToken) -> Result<Value, RpcError> {
    let height = call.number(0)?;
    let deadline = deadline(call, 1)?;
    Ok(answer(tip_when(node, |tip| i64::from(tip.height) >= height, deadline, ended).await))
}
