//! What is waited for in the chain.

use bitcoin::{OutPoint, ScriptBuf, Txid, consensus, hashes::Hash as _};
use leyden_channels::types::Height;
use leyden_proto::chainrpc;

use super::edge;
use crate::api::{ApiError, ChainSight, FoundSpend, FoundTx, WantedSpend, WantedTx};

/// LND's number: what is deeper is not undone any more.
const MAX_CONFIRMATIONS: u32 = 144;
/// The longest script that an output may have and still be spent, by consensus.
const MAX_SCRIPT: usize = 10_000;

pub(crate) fn transaction(request: chainrpc::ConfRequest) -> Result<WantedTx, ApiError> {
    let chainrpc::ConfRequest { txid: name, script: paid, num_confs, height_hint, include_block } = request;
    let (script, from) = (script(paid)?, height(height_hint)?);
    if !(1..=MAX_CONFIRMATIONS).contains(&num_confs) {
        let text = format!("number of confirmations must be between 1 and {MAX_CONFIRMATIONS}");
        return Err(ApiError::invalid(text));
    }
    let (txid, with_block) = (txid("txid", &name)?, include_block);
    Ok(WantedTx { txid, script, confirmations: num_confs, from, with_block })
}

pub(crate) fn spend(request: chainrpc::SpendRequest) -> Result<WantedSpend, ApiError> {
    let chainrpc::SpendRequest { outpoint: spent, script: paid, height_hint } = request;
    let (script, from) = (script(paid)?, height(height_hint)?);
    let spent = spent.unwrap_or_default();
    let outpoint = match txid("outpoint.hash", &spent.hash)? {
        Some(txid) => Some(OutPoint { txid, vout: spent.index }),
        None if spent.index != 0 => return Err(edge::wrong("outpoint.hash", "an index alone names no output")),
        None if script.is_p2tr() => {
            return Err(ApiError::invalid("cannot register witness v1 spend request without outpoint"));
        }
        None => None,
    };
    Ok(WantedSpend { outpoint, script, from })
}

/// None, or all zeros: any.
fn txid(field: &str, bytes: &[u8]) -> Result<Option<Txid>, ApiError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let txid = edge::txid_bytes(field, bytes)?;
    Ok(Some(txid).filter(|txid| *txid != Txid::all_zeros()))
}

fn script(bytes: Vec<u8>) -> Result<ScriptBuf, ApiError> {
    match bytes.len() {
        0 => Err(ApiError::invalid("an output script must be provided")),
        1..=MAX_SCRIPT => Ok(ScriptBuf::from_bytes(bytes)),
        long => Err(edge::wrong("script", format_args!("{long} bytes; at most {MAX_SCRIPT} can be spent"))),
    }
}

fn height(hint: u32) -> Result<Height, ApiError> {
    match hint {
        0 => Err(ApiError::invalid("a height hint greater than 0 must be provided")),
        height => Ok(Height(height)),
    }
}

pub(crate) fn confirmation(sight: ChainSight<FoundTx>) -> chainrpc::ConfEvent {
    use chainrpc::conf_event::Event;
    let event = match sight {
        ChainSight::Found(found) => Event::Conf(chainrpc::ConfDetails {
            raw_tx: consensus::serialize(found.transaction.as_ref()),
            block_hash: found.hash.to_byte_array().to_vec(),
            block_height: found.height.0,
            tx_index: found.index,
            raw_block: found.block.map(|block| consensus::serialize(block.as_ref())).unwrap_or_default(),
        }),
        ChainSight::Gone => Event::Reorg(chainrpc::Reorg {}),
    };
    chainrpc::ConfEvent { event: Some(event) }
}

pub(crate) fn spending(sight: ChainSight<FoundSpend>) -> chainrpc::SpendEvent {
    use chainrpc::spend_event::Event;
    let event = match sight {
        ChainSight::Found(found) => {
            let spent = usize::try_from(found.input).ok().and_then(|input| found.spender.input.get(input));
            Event::Spend(chainrpc::SpendDetails {
                spending_outpoint: spent.map(|input| chainrpc::Outpoint {
                    hash: input.previous_output.txid.to_byte_array().to_vec(),
                    index: input.previous_output.vout,
                }),
                raw_spending_tx: consensus::serialize(found.spender.as_ref()),
                spending_tx_hash: found.spender.compute_txid().to_byte_array().to_vec(),
                spending_input_index: found.input,
                spending_height: found.height.0,
            })
        }
        ChainSight::Gone => Event::Reorg(chainrpc::Reorg {}),
    };
    chainrpc::SpendEvent { event: Some(event) }
}
