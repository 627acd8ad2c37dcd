//! All unspent outputs together. A look at each takes a while on a large chain, so only one call at a time does it.

use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{Node, UtxoSetDigest, UtxoSetHashKind};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{aside::turn, error::RpcError};

pub(super) async fn info(
    node: &Node,
    call: &Call,
    one_at_a_time: &Semaphore,
    ended: &CancellationToken,
) -> Result<Value, RpcError> {
    let kind = match call.optional(0).map(|_| call.text(0)).transpose()? {
        None | Some("hash_serialized_3") => UtxoSetHashKind::Serialized,
        Some("muhash") => UtxoSetHashKind::MuHash,
        Some("none") => UtxoSetHashKind::None,
        Some(other) => return Err(RpcError::parameter(format!("'{other}' is not a valid hash_type"))),
    };
    if call.optional(1).is_some() {
        return Err(RpcError::parameter("Querying specific block heights requires coinstatsindex"));
    }
    call.flag(2, true)?;
    let _turn = turn(one_at_a_time, ended).await?;
    let set = node.utxo_set(kind).await?;
    let mut value = json!({
        "height": set.block.height,
        "bestblock": set.block.hash,
        "txouts": set.coins,
        "bogosize": set.nominal_bytes,
        "total_amount": coins(set.amount),
        "transactions": set.transactions,
        "disk_size": set.disk_bytes,
    });
    match set.digest {
        UtxoSetDigest::Serialized(hash) => value["hash_serialized_3"] = json!(hash),
        UtxoSetDigest::MuHash(hash) => {
            // Like all hashes for people, with its last byte first.
            let mut bytes = bitcoin::hashes::Hash::to_byte_array(hash);
            bytes.reverse();
            value["muhash"] = json!(hex::encode(bytes));
        }
        UtxoSetDigest::None => {}
    }
    Ok(value)
}
