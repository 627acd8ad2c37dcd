//! The server itself: what it offers, what it does, and its end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use leyden_jsonrpc::{
    Call,
    methods::{self, Group, METHODS, Method},
};
use leyden_node::Node;
use serde_json::{Map, Value, json};

use super::error::{MISC, RpcError};
use crate::zmq::{HIGH_WATER_MARK, Notifier};

/// The calls that are being answered, each under a number of its own.
#[derive(Default)]
pub(super) struct Running(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    /// The number of the last call.
    last: u64,
    /// By their numbers: the method, and when its answer was begun.
    running: BTreeMap<u64, (String, Instant)>,
}

impl Running {
    /// Notes a call until the guard is dropped.
    pub(super) fn begin(&self, method: &str) -> RunningGuard<'_> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.last = calls.last.wrapping_add(1);
        let number = calls.last;
        calls.running.insert(number, (method.to_owned(), Instant::now()));
        RunningGuard { running: self, number }
    }

    pub(super) fn info(&self) -> Value {
        let guarded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = guarded.running.values().map(|(method, begun)| {
            json!({ "method": method, "duration": u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX) })
        });
        // The log goes to standard error, which has no path.
        json!({ "active_commands": calls.collect::<Vec<_>>(), "logpath": "" })
    }
}

/// A call that is being answered.
pub(super) struct RunningGuard<'a> {
    running: &'a Running,
    number: u64,
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&self.number);
    }
}

/// A method and its parameters on a line.
fn usage(method: &Method) -> String {
    let parameters = method.parameters.iter().filter_map(|names| names.split('|').next());
    [method.name].into_iter().chain(parameters).collect::<Vec<_>>().join(" ")
}

pub(super) fn help(call: &Call) -> Result<Value, RpcError> {
    if call.optional(0).is_some() {
        let name = call.text(0)?;
        let text = match methods::find(name) {
            Some(method) => format!("{}\n\n{}", usage(method), method.text),
            None => format!("help: unknown command: {name}"),
        };
        return Ok(json!(text));
    }
    let of_group = |group: Group| {
        let lines = METHODS.iter().filter(move |method| method.group == group).map(usage);
        [format!("== {} ==", group.heading())].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    };
    Ok(json!(Group::ALL.map(of_group).join("\n\n")))
}

/// Of the transactions there is an index that finds every one, unless their blocks are not all here; of filters if they are
/// kept.
pub(super) fn indexes(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let wanted = if call.optional(0).is_some() { Some(call.text(0)?) } else { None };
    let height = node.tip().height;
    let mut indexes = Map::new();
    let mut add = |name: &str, synced: bool| {
        if wanted.is_none_or(|wanted| wanted == name) {
            indexes.insert(name.to_owned(), json!({ "synced": synced, "best_block_height": height }));
        }
    };
    let has_all_blocks = node.watched_scripts().is_none() && node.prune_target().is_none() && node.pruned_below() == 0;
    if has_all_blocks {
        add("txindex", true);
        add("txospenderindex", true);
    }
    if let Some(synced) = node.has_filters() {
        add("basic block filter index", synced);
    }
    Ok(Value::Object(indexes))
}

/// No memory is kept from being swapped out.
pub(super) fn memory(call: &Call) -> Result<Value, RpcError> {
    match call.optional(0).map(|_| call.text(0)).transpose()? {
        None | Some("stats") => Ok(json!({
            "locked": { "used": 0, "free": 0, "total": 0, "locked": 0, "chunks_used": 0, "chunks_free": 0 },
        })),
        Some("mallocinfo") => Err(RpcError::parameter("mallocinfo mode not available")),
        Some(other) => Err(RpcError::parameter(format!("unknown mode {other}"))),
    }
}

/// Bitcoin Core's categories say nothing of this log.
pub(super) fn logging(call: &Call) -> Result<Value, RpcError> {
    let names = [0, 1].into_iter().filter(|place| call.optional(*place).is_some());
    let names: Vec<&str> = names.map(|place| call.texts(place)).collect::<Result<Vec<_>, _>>()?.concat();
    match names.first() {
        None => Ok(json!({})),
        Some(name) => Err(RpcError::parameter(format!(
            "unknown logging category {name}: what is logged is set when leydend starts, by --log"
        ))),
    }
}

pub(super) fn mock_time(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let time = call.number(0)?;
    let latest = u32::MAX;
    let shown = u32::try_from(time)
        .map_err(|_| RpcError::parameter(format!("Mocktime must be in the range [0, {latest}], not {time}.")))?;
    if !node.clock().set(u64::from(shown)) {
        return Err(RpcError::new(MISC, "setmocktime is for regression testing (-regtest mode) only"));
    }
    Ok(Value::Null)
}

/// What is published over ZeroMQ, and where.
pub(super) fn notifications(notifiers: &[Notifier]) -> Value {
    let told = notifiers.iter().map(|notifier| {
        json!({
            "type": format!("pub{}", notifier.topic.name()),
            "address": format!("tcp://{}", notifier.address),
            "hwm": HIGH_WATER_MARK,
        })
    });
    told.collect()
}
