//! The unspent outputs of descriptors, for callers without an index of their own.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use bdk_wallet::miniscript::{Descriptor, DescriptorPublicKey, descriptor::checksum::desc_checksum};
use bitcoin::{Address, Amount, Network, ScriptBuf, address::NetworkUnchecked, secp256k1::Secp256k1};
use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{CoinSearch, CoinsFound, Node, coin_search::MAX_FOUND};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::error::{MISC, RpcError};

/// Scripts that one search looks for: each costs a derivation of its keys, some tens of microseconds.
const MAX_SCRIPTS: u32 = 100_000;
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
                (text.ok_or_else(missing)?, range(object.get("range"))?)
            }
        };
        add(&mut found, text, range, network)?;
        if found.len() > MAX_SCRIPTS as usize {
            return Err(RpcError::parameter(format!("at most {MAX_SCRIPTS} scripts can be scanned for at a time")));
        }
    }
    Ok(found)
}

/// The last index, or the first and the last one.
fn range(value: Option<&Value>) -> Result<(u32, u32), RpcError> {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let range = match value {
        None => Some((0, LAST_INDEX)),
        Some(Value::Array(ends)) => match ends.as_slice() {
            [first, last] => number(first).zip(number(last)),
            _ => None,
        },
        Some(last) => number(last).map(|last| (0, last)),
    };
    let (first, last) = range.ok_or_else(|| RpcError::parameter("Range must be specified as end or as [begin,end]"))?;
    if last < first {
        return Err(RpcError::parameter("Range specified as [begin,end] must not have begin after end"));
    }
    if last - first >= MAX_SCRIPTS || last >= 1 << 31 {
        return Err(RpcError::parameter("Range is too large"));
    }
    Ok((first, last))
}

fn wrong(text: &str, why: impl std::fmt::Display) -> RpcError {
    RpcError::not_found(format!("'{text}' is not a valid descriptor: {why}"))
}

fn with_checksum(text: &str) -> Result<String, RpcError> {
    let checksum = desc_checksum(text).map_err(|error| wrong(text, error))?;
    Ok(format!("{text}#{checksum}"))
}

/// The descriptor without its checksum, which may be left out.
fn without_checksum(text: &str) -> Result<&str, RpcError> {
    let Some((plain, _)) = text.split_once('#') else { return Ok(text) };
    let right = with_checksum(plain)?;
    if right == text { Ok(plain) } else { Err(wrong(text, format!("with its checksum it is {right}"))) }
}

fn add(found: &mut Scripts, text: &str, range: (u32, u32), network: Network) -> Result<(), RpcError> {
    let plain = without_checksum(text)?;
    let inner = |name: &str| plain.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(address) = inner("addr") {
        let address = address.parse::<Address<NetworkUnchecked>>().and_then(|address| address.require_network(network));
        let address = address.map_err(|error| wrong(text, error))?;
        found.insert(address.script_pubkey(), with_checksum(plain)?);
        return Ok(());
    }
    if let Some(hexadecimal) = inner("raw") {
        let bytes = hex::decode(hexadecimal).map_err(|error| wrong(text, error))?;
        found.insert(ScriptBuf::from_bytes(bytes), with_checksum(plain)?);
        return Ok(());
    }
    if let Some(key) = inner("combo") {
        derive(found, &format!("pk({key})"), range)?;
        derive(found, &format!("pkh({key})"), range)?;
        // Keys that are not compressed have no outputs with witnesses.
        if derive(found, &format!("wpkh({key})"), range).is_ok() {
            derive(found, &format!("sh(wpkh({key}))"), range)?;
        }
        return Ok(());
    }
    derive(found, plain, range)
}

fn derive(found: &mut Scripts, text: &str, (first, last): (u32, u32)) -> Result<(), RpcError> {
    let secp = Secp256k1::new();
    let parsed = Descriptor::<DescriptorPublicKey>::parse_descriptor(&secp, text);
    let (descriptor, _) = parsed.map_err(|error| wrong(text, error))?;
    for single in descriptor.into_single_descriptors().map_err(|error| wrong(text, error))? {
        let indexes = if single.has_wildcard() { first..=last } else { 0..=0 };
        for index in indexes {
            let derived = single.derived_descriptor(&secp, index).map_err(|error| wrong(text, error))?;
            found.insert(derived.script_pubkey(), derived.to_string());
        }
    }
    Ok(())
}
