//! The unspent outputs of descriptors, for callers without an index of their own.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use bitcoin::{Amount, Network, ScriptBuf};
use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{CoinSearch, CoinsFound, Node, coin_search::MAX_FOUND};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    descriptors::{MAX_SCRIPTS, ParsedDescriptor, range},
    error::{MISC, RpcError},
};

/// The last index of a descriptor with a range, unless the caller says otherwise.
const LAST_INDEX: u32 = 1000;

/// The search that goes on, if any: there is one at a time.
#[derive(Default)]
pub(super) struct Search(Mutex<Option<Arc<CoinSearch>>>);

impl Search {
    fn present(&self) -> Option<Arc<CoinSearch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self) -> Result<Turn<'_>, RpcError> {
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if present.is_some() {
            let text = "Scan already in progress, use action \"abort\" or \"status\"";
            return Err(RpcError::parameter(text));
        }
        let search = Arc::new(CoinSearch::default());
        *present = Some(Arc::clone(&search));
        Ok(Turn { all: self, search })
    }
}

/// A search from its beginning to its end.
struct Turn<'a> {
    all: &'a Search,
    search: Arc<CoinSearch>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.search.give_up();
        *self.all.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

pub(super) async fn scan(node: &Node, call: &Call, all: &Search, ended: &CancellationToken) -> Result<Value, RpcError> {
    match call.text(0)? {
        "status" => Ok(all.present().map_or(Value::Null, |search| json!({ "progress": search.percent() }))),
        "abort" => Ok(json!(all.present().inspect(|search| search.give_up()).is_some())),
        "start" => start(node, call, all, ended).await,
        other => Err(RpcError::parameter(format!("Invalid action '{other}'"))),
    }
}

async fn start(node: &Node, call: &Call, all: &Search, ended: &CancellationToken) -> Result<Value, RpcError> {
    let objects = call.optional(1).and_then(Value::as_array);
    let missing = || RpcError::new(MISC, "scanobjects argument is required for the start action");
    let objects = objects.ok_or_else(missing)?;
    let turn = all.begin()?;
    let scripts = scripts(objects, node.params().address_network)?;
    let wanted: HashSet<ScriptBuf> = scripts.keys().cloned().collect();
    let found = node.search_coins(wanted, Arc::clone(&turn.search));
    let given_up = async {
        ended.cancelled().await;
        turn.search.give_up();
        std::future::pending().await
    };
    // A search that was given up ends soon, and keeps its turn until then.
    let CoinsFound { block, looked_at, coins: found, is_complete, is_too_much } = tokio::select! {
        found = found => found?,
        never = given_up => never,
    };
    if is_too_much {
        let text = format!("more than {MAX_FOUND} unspent outputs match: scan for fewer descriptors at a time");
        return Err(RpcError::new(MISC, text));
    }
    let mut total = Amount::ZERO;
    let unspents = found.iter().map(|(outpoint, coin)| {
        total = total.checked_add(coin.output.value).unwrap_or(Amount::MAX_MONEY);
        json!({
            "txid": outpoint.txid,
            "vout": outpoint.vout,
            "scriptPubKey": hex::encode(coin.output.script_pubkey.as_bytes()),
            "desc": scripts.get(&coin.output.script_pubkey),
            "amount": coins(coin.output.value),
            "coinbase": coin.is_coinbase,
            "height": coin.height,
            "blockhash": node.block_hash(coin.height),
            "confirmations": block.height.saturating_sub(coin.height).saturating_add(1),
        })
    });
    let unspents: Vec<Value> = unspents.collect();
    Ok(json!({
        "success": is_complete,
        "txouts": looked_at,
        "height": block.height,
        "bestblock": block.hash,
        "unspents": unspents,
        "total_amount": coins(total),
    }))
}

/// Scripts, each with the descriptor of it alone.
type Scripts = HashMap<ScriptBuf, String>;

fn scripts(objects: &[Value], network: Network) -> Result<Scripts, RpcError> {
    let mut found = Scripts::new();
    for object in objects {
        let (text, range) = match object {
            Value::String(text) => (text.as_str(), (0, LAST_INDEX)),
            object => {
                let text = object.get("desc").and_then(Value::as_str);
                let missing = || RpcError::parameter("Descriptor needs to be provided in scan object");
                let range = object.get("range").map_or(Ok((0, LAST_INDEX)), range)?;
                (text.ok_or_else(missing)?, range)
            }
        };
        let descriptor = ParsedDescriptor::parse(text, network)?;
        let indexes = if descriptor.is_ranged() { range.0..=range.1 } else { 0..=0 };
        for index in indexes {
            for path in 0..descriptor.paths() {
                found.extend(descriptor.scripts(path, index)?);
            }
            if found.len() > MAX_SCRIPTS as usize {
                return Err(RpcError::parameter(format!("at most {MAX_SCRIPTS} scripts can be scanned for at a time")));
            }
        }
    }
    Ok(found)
}
