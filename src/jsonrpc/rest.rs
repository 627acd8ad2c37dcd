//! Bitcoin Core's REST interface: blocks, headers, transactions, coins and the mempool for whoever may reach the port.
//!
//! ```text
//!   GET /rest/tx/TXID.EXT · block/HASH.EXT · block/notxdetails/HASH.EXT · headers/HASH.EXT?count=5
//!       blockhashbyheight/HEIGHT.EXT · blockfilter/basic/HASH.EXT · blockfilterheaders/basic/HASH.EXT?count=5
//!       getutxos[/checkmempool]/TXID-N/….EXT · chaininfo.json · mempool/info.json · mempool/contents.json
//!                                      EXT: bin, hex or json
//! ```
//!
//! Promises: it only reads; nobody has to show who he is, so it is off unless asked for, what one request may ask for has a
//! bound, and few are answered at a time: whoever has an answer made, or does not take it, holds one of few turns. Who hangs
//! up holds it until the work is done.

use std::{io, sync::Arc, time::Instant};

use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bitcoin::{Block, BlockHash, OutPoint, TxOut, Txid, consensus::serialize};
use leyden_jsonrpc::amount::coins;
use leyden_node::{Node, NodeError};
use serde_json::{Value, json};

use tokio::sync::OwnedSemaphorePermit;

use super::{Server, aside::aside, blockchain, describe, error::RpcError, mempool};
use crate::{admission::CallerTrust, callers::Caller, limits::CHAIN_REST_ANSWER_TIMEOUT};

/// Requests that are answered at a time, from their beginning until the answer is sent; a block as JSON may take a second and
/// 50 MB.
pub(super) const MAX_AT_ONCE: usize = 4;
/// An answer of so many bytes is no burden while it is sent: all unknown connections together hold 6 MB of them.
const SMALL_ANSWER: usize = 64 << 10;
/// An answer is handed to its connection in parts of so many bytes: its turn lasts until all but the last few are sent.
const PART: usize = 64 << 10;
/// Headers of one answer, as in Bitcoin Core.
const MAX_HEADERS: usize = 2_000;
const DEFAULT_HEADERS: usize = 5;
/// Outputs of one question, as in Bitcoin Core.
const MAX_OUTPOINTS: usize = 15;
/// The height that outputs of the mempool are given.
const MEMPOOL_HEIGHT: u32 = 0x7fff_ffff;

/// In which form an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bin,
    Hex,
    Json,
}

/// An answer in all its forms; each is made when it is asked for.
enum Answer {
    /// Bytes, and the same for people.
    Bytes(Vec<u8>),
    Json(Value),
    /// JSON that is too long to be a [`Value`] as a whole.
    JsonText(String),
}

/// An answer as it is sent.
struct Page {
    kind: &'static str,
    bytes: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn bad(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    fn missing(text: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, text: text.into() }
    }

    fn form(available: &str) -> Self {
        Self::missing(format!("output format not found (available: {available})"))
    }
}

impl From<RpcError> for Refusal {
    fn from(error: RpcError) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, text: error.message }
    }
}

impl From<NodeError> for Refusal {
    fn from(error: NodeError) -> Self {
        RpcError::from(error).into()
    }
}

/// Answers a request whose path begins with `/rest/`.
pub(super) async fn answer(
    State(server): State<Arc<Server>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    caller.rise(CallerTrust::Caller);
    let _busy = caller.busy();
    let Ok(turn) = Arc::clone(&server.rest_turns).acquire_owned().await else {
        // It is never closed.
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let made = aside(async move {
        let found = find(&server.node, &path, query.as_deref().unwrap_or_default()).await;
        (found.map(|(form, answer)| page(form, answer)), turn)
    });
    match made.await {
        Ok((Ok(page), turn)) => send(page, turn),
        Ok((Err(Refusal { status, text }), _)) => {
            (status, [(header::CONTENT_TYPE, "text/plain")], text + "\r\n").into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn page(form: Form, answer: Answer) -> Page {
    let (kind, mut bytes) = match (form, answer) {
        (_, Answer::Json(value)) => ("application/json", value.to_string().into_bytes()),
        (_, Answer::JsonText(text)) => ("application/json", text.into_bytes()),
        (Form::Hex, Answer::Bytes(bytes)) => ("text/plain", hex::encode(bytes).into_bytes()),
        (Form::Bin | Form::Json, Answer::Bytes(bytes)) => {
            return Page { kind: "application/octet-stream", bytes };
        }
    };
    bytes.push(b'\n');
    Page { kind, bytes }
}

/// Sends a page. The turn of a large one ends when it is sent, or its caller is given up.
fn send(Page { kind, bytes }: Page, turn: OwnedSemaphorePermit) -> Response {
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, bytes.len().to_string())];
    let mut rest = Bytes::from(bytes);
    if rest.len() <= SMALL_ANSWER {
        return (headers, rest).into_response();
    }
    let begun = Instant::now();
    let parts = std::iter::from_fn(move || {
        let _held = &turn;
        if rest.is_empty() {
            return None;
        }
        if begun.elapsed() > CHAIN_REST_ANSWER_TIMEOUT {
            rest.clear();
            return Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer is taken too slowly")));
        }
        Some(Ok(rest.split_to(PART.min(rest.len()))))
    });
    (headers, Body::from_stream(tokio_stream::iter(parts))).into_response()
}

async fn find(node: &Node, path: &str, query: &str) -> Result<(Form, Answer), Refusal> {
    // The form is named last; a point before belongs to what it is about.
    let (path, form) = path.rsplit_once('.').unwrap_or((path, ""));
    let form = match form {
        "bin" => Form::Bin,
        "hex" => Form::Hex,
        "json" => Form::Json,
        _ if path.starts_with("mempool") || path.starts_with("chaininfo") => return Err(Refusal::form("json")),
        _ => return Err(Refusal::form(".bin, .hex, .json")),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let answer = match parts.as_slice() {
        ["tx", txid] => transaction(node, txid, form).await,
        ["block", hash] => block(node, hash, form, 2).await,
        ["block", "notxdetails", hash] => block(node, hash, form, 1).await,
        ["headers", hash] => headers(node, hash, parameter(query, "count"), form),
        ["headers", count, hash] => headers(node, hash, Some(count), form),
        ["blockhashbyheight", height] => block_hash(node, height, form),
        ["blockfilter", kind, hash] => filter(node, kind, hash, form).await,
        ["blockfilterheaders", kind, hash] => filter_headers(node, kind, hash, parameter(query, "count"), form).await,
        ["blockfilterheaders", kind, count, hash] => filter_headers(node, kind, hash, Some(count), form).await,
        ["getutxos", "checkmempool", outpoints @ ..] => coins_at(node, outpoints, true, form).await,
        ["getutxos", outpoints @ ..] => coins_at(node, outpoints, false, form).await,
        ["chaininfo"] if form == Form::Json => Ok(Answer::Json(blockchain::info(node)?)),
        ["mempool", "info"] if form == Form::Json => Ok(Answer::Json(mempool::info(node))),
        ["mempool", "contents"] if form == Form::Json => contents(node, query).await,
        ["chaininfo"] | ["mempool", "info" | "contents"] => Err(Refusal::form("json")),
        _ => Err(Refusal::missing("there is no such page")),
    };
    answer.map(|answer| (form, answer))
}

/// A parameter after the question mark.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn parse_hash<T: std::str::FromStr>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Refusal::bad(format!("Invalid hash: {text}")))
}

/// Digits alone: Bitcoin Core takes no sign.
fn parse_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

fn parse_count(count: Option<&str>) -> Result<usize, Refusal> {
    let Some(text) = count else { return Ok(DEFAULT_HEADERS) };
    let count = parse_number(text).filter(|count| (1..=MAX_HEADERS).contains(count));
    count.ok_or_else(|| {
        Refusal::bad(format!("Header count is invalid or out of acceptable range (1-{MAX_HEADERS}): {text}"))
    })
}

async fn transaction(node: &Node, text: &str, form: Form) -> Result<Answer, Refusal> {
    let txid: Txid = parse_hash(text)?;
    let found = match node.transaction(txid).await {
        // Its block was there, as an index knows; to who asks for the transaction it is as little there as any other.
        Err(NodeError::Pruned { .. }) => None,
        found => found?,
    };
    let found = found.ok_or_else(|| Refusal::missing(format!("{text} not found")))?;
    if form != Form::Json {
        return Ok(Answer::Bytes(serialize(found.transaction.as_ref())));
    }
    let mut value = describe::transaction(&found.transaction, node.params().address_network);
    if let Some((block, _)) = found.confirmed {
        value["blockhash"] = json!(block.hash);
    }
    Ok(Answer::Json(value))
}

async fn stored(node: &Node, text: &str) -> Result<(BlockHash, Arc<Block>), Refusal> {
    let hash: BlockHash = parse_hash(text)?;
    if node.header(&hash).is_none() {
        return Err(Refusal::missing(format!("{text} not found")));
    }
    let block = match node.block(hash).await {
        Err(NodeError::Pruned { .. }) => return Err(Refusal::missing(format!("{text} not available (pruned data)"))),
        found => found?,
    };
    Ok((hash, block.ok_or_else(|| Refusal::missing(format!("{text} not available (not fully downloaded)")))?))
}

async fn block(node: &Node, text: &str, form: Form, verbosity: i64) -> Result<Answer, Refusal> {
    let (hash, block) = stored(node, text).await?;
    let spent = match form {
        Form::Json => blockchain::spent(node, hash, verbosity).await?,
        Form::Bin | Form::Hex => None,
    };
    Ok(match form {
        Form::Json => Answer::JsonText(blockchain::block_text(node, &hash, &block, spent.as_deref(), verbosity)?),
        Form::Bin | Form::Hex => Answer::Bytes(serialize(block.as_ref())),
    })
}

/// So many blocks of the active chain from `hash` on; none if it is not of it.
fn active_from(node: &Node, text: &str, count: usize) -> Result<Vec<BlockHash>, Refusal> {
    let hash: BlockHash = parse_hash(text)?;
    let Some((_, height)) = node.header(&hash).filter(|_| node.is_active(&hash)) else { return Ok(Vec::new()) };
    Ok((height..=u32::MAX).map_while(|height| node.block_hash(height)).take(count).collect())
}

fn headers(node: &Node, text: &str, count: Option<&str>, form: Form) -> Result<Answer, Refusal> {
    let hashes = active_from(node, text, parse_count(count)?)?;
    if form == Form::Json {
        let described: Result<Vec<Value>, RpcError> =
            hashes.iter().map(|hash| blockchain::describe_header(node, hash)).collect();
        return Ok(Answer::Json(json!(described?)));
    }
    Ok(Answer::Bytes(hashes.iter().filter_map(|hash| node.header(hash)).flat_map(|(one, _)| serialize(&one)).collect()))
}

fn block_hash(node: &Node, text: &str, form: Form) -> Result<Answer, Refusal> {
    let height: u32 = parse_number(text).ok_or_else(|| Refusal::bad(format!("Invalid height: {text}")))?;
    let hash = node.block_hash(height).ok_or_else(|| Refusal::missing("Block height out of range"))?;
    Ok(match form {
        // As it is written for people, and in bytes as it is in headers.
        Form::Json => Answer::Json(json!({ "blockhash": hash })),
        Form::Hex => Answer::Bytes(serialize(&hash).into_iter().rev().collect()),
        Form::Bin => Answer::Bytes(serialize(&hash)),
    })
}

fn check_filters(node: &Node, kind: &str) -> Result<(), Refusal> {
    if kind != "basic" {
        return Err(Refusal::bad(format!("Unknown filtertype {kind}")));
    }
    match node.has_filters() {
        Some(_) => Ok(()),
        None => Err(Refusal::bad("Index is not enabled for filtertype basic")),
    }
}

async fn filter(node: &Node, kind: &str, text: &str, form: Form) -> Result<Answer, Refusal> {
    check_filters(node, kind)?;
    let hash: BlockHash = parse_hash(text)?;
    if node.header(&hash).is_none() {
        return Err(Refusal::missing(format!("{text} not found")));
    }
    let (filter, _) = node.filter(hash).await?.ok_or_else(|| Refusal::missing("Filter not found."))?;
    if form == Form::Json {
        return Ok(Answer::Json(json!({ "filter": hex::encode(&filter.content) })));
    }
    // Kind, block, filter: as peers send it.
    let mut bytes = vec![0];
    bytes.extend(serialize(&hash));
    bytes.extend(serialize(&filter.content));
    Ok(Answer::Bytes(bytes))
}

async fn filter_headers(
    node: &Node,
    kind: &str,
    text: &str,
    count: Option<&str>,
    form: Form,
) -> Result<Answer, Refusal> {
    check_filters(node, kind)?;
    let hashes = active_from(node, text, parse_count(count)?)?;
    let mut headers = Vec::with_capacity(hashes.len());
    for hash in hashes {
        let (_, link) = node.filter(hash).await?.ok_or_else(|| Refusal::missing("Filter not found."))?;
        headers.push(link.header);
    }
    if form == Form::Json {
        return Ok(Answer::Json(json!(headers)));
    }
    Ok(Answer::Bytes(headers.iter().flat_map(serialize).collect()))
}

async fn contents(node: &Node, query: &str) -> Result<Answer, Refusal> {
    let flag = |name: &str, default: bool| match parameter(query, name) {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(Refusal::bad(format!("The \"{name}\" query parameter must be either \"true\" or \"false\"."))),
    };
    let (verbose, with_sequence) = (flag("verbose", true)?, flag("mempool_sequence", false)?);
    if verbose && with_sequence {
        return Err(Refusal::bad(
            "Verbose results cannot contain mempool sequence values. (hint: set \"verbose=false\")",
        ));
    }
    if with_sequence {
        let (txids, sequence) = node.mempool_at_rest().await?;
        return Ok(Answer::Json(json!({ "txids": txids, "mempool_sequence": sequence })));
    }
    let entries = node.mempool_entries();
    Ok(if verbose {
        Answer::JsonText(mempool::entries_text(node, &entries))
    } else {
        Answer::Json(mempool::describe_all(node, &entries, false))
    })
}

/// An unspent output, and the height of its block.
struct Unspent {
    height: u32,
    output: TxOut,
}

async fn coins_at(node: &Node, outpoints: &[&str], with_mempool: bool, form: Form) -> Result<Answer, Refusal> {
    if outpoints.is_empty() {
        return Err(Refusal::bad("Error: empty request"));
    }
    if outpoints.len() > MAX_OUTPOINTS {
        let tried = outpoints.len();
        return Err(Refusal::bad(format!("Error: max outpoints exceeded (max: {MAX_OUTPOINTS}, tried: {tried})")));
    }
    let mut wanted = Vec::new();
    for text in outpoints {
        let parsed = text.split_once('-').and_then(|(txid, vout)| Some((txid.parse().ok()?, parse_number(vout)?)));
        let (txid, vout) = parsed.ok_or_else(|| Refusal::bad("Parse error"))?;
        wanted.push(OutPoint { txid, vout });
    }
    let tip = node.tip();
    let mut found = Vec::new();
    for outpoint in wanted {
        found.push(unspent(node, outpoint, with_mempool).await?);
    }
    let hits = || found.iter().flatten();
    if form == Form::Json {
        let network = node.params().address_network;
        let bitmap: String = found.iter().map(|coin| if coin.is_some() { '1' } else { '0' }).collect();
        let coins = hits().map(|Unspent { height, output }| {
            json!({
                "height": height,
                "value": coins(output.value),
                "scriptPubKey": describe::script_pubkey(&output.script_pubkey, network),
            })
        });
        return Ok(Answer::Json(json!({
            "chainHeight": tip.height,
            "chaintipHash": tip.hash,
            "bitmap": bitmap,
            "utxos": coins.collect::<Vec<_>>(),
        })));
    }
    let mut bitmap = vec![0_u8; found.len().div_ceil(8)];
    for (place, coin) in found.iter().enumerate() {
        if let Some(byte) = bitmap.get_mut(place / 8).filter(|_| coin.is_some()) {
            *byte |= 1 << (place % 8);
        }
    }
    let mut bytes = tip.height.to_le_bytes().to_vec();
    bytes.extend(serialize(&tip.hash));
    bytes.extend(serialize(&bitmap));
    bytes.extend(serialize(&bitcoin::VarInt(hits().count() as u64)));
    for Unspent { height, output } in hits() {
        // The version of the transaction stood here once.
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend(serialize(output));
    }
    Ok(Answer::Bytes(bytes))
}

async fn unspent(node: &Node, outpoint: OutPoint, with_mempool: bool) -> Result<Option<Unspent>, Refusal> {
    if with_mempool && node.mempool_spender(&outpoint).is_some() {
        return Ok(None);
    }
    if let Some(coin) = node.coin(outpoint).await? {
        return Ok(Some(Unspent { height: coin.height, output: coin.output }));
    }
    if !with_mempool || node.mempool_entry(&outpoint.txid).is_none() {
        return Ok(None);
    }
    let found = node.transaction(outpoint.txid).await?;
    let output = found.and_then(|found| found.transaction.output.get(outpoint.vout as usize).cloned());
    Ok(output.map(|output| Unspent { height: MEMPOOL_HEIGHT, output }))
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn who_does_not_take_a_large_answer_holds_his_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let answer = async |bytes: usize| {
            let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
            send(Page { kind: "text/plain", bytes: vec![7; bytes] }, turn)
        };
        let _small = answer(SMALL_ANSWER).await;
        assert_eq!(turns.available_permits(), 1, "a small one is no burden");
        let large = answer(10 * PART + 1).await;
        assert_eq!(large.headers()[header::CONTENT_LENGTH], (10 * PART + 1).to_string());
        let mut parts = large.into_body().into_data_stream();
        let mut taken = 0;
        while let Some(part) = parts.next().await {
            assert_eq!(turns.available_permits(), 0);
            taken += part.unwrap().len();
        }
        assert_eq!(taken, 10 * PART + 1);
        drop(parts);
        assert_eq!(turns.available_permits(), 1);
        drop(answer(10 * PART).await);
        assert_eq!(turns.available_permits(), 1, "who hangs up gives it back");
    }
}
