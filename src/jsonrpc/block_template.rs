//! Work for miners outside of the node: `getblocktemplate` (BIP 22, 23, 145), with long polling and proposals.
//!
//! ```text
//!   template ─ longpollid = tip and the mempool's sequence ─▶ the same call with it waits:
//!                                     another tip ─▶ at once
//!                                     another mempool ─▶ after a minute, then looked at every ten seconds
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bitcoin::{Block, BlockHash, CompactTarget, OutPoint, Target, Transaction, consensus::encode::serialize_hex};
use leyden_consensus::{
    Retarget,
    weight::{MAX_BLOCK_SIGOP_COST, MAX_BLOCK_WEIGHT},
};
use leyden_jsonrpc::{Call, call::decode, error::TYPE};
use leyden_node::{MinerTemplate, Node, ProposalRejected, TipDoubt};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    error::{IN_INITIAL_DOWNLOAD, MISC, NOT_CONNECTED, RpcError},
    mining,
    waiting::tip_when,
};

/// A template is made anew when it is older than this, as in Bitcoin Core: it costs a check of a whole block.
const TEMPLATE_AGE: Duration = Duration::from_secs(5);
/// A stripped size counts four times in a weight, and signature operations of old scripts four times in their cost.
const WITNESS_SCALE: u64 = 4;
/// Hex digits of the block hash that a longpollid begins with.
const HASH_DIGITS: usize = 64;

/// How long a caller that polls waits for a mempool that has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub first: Duration,
    pub then: Duration,
}

impl Default for Patience {
    /// As in Bitcoin Core: on a busy chain the mempool is always another, and miners want a new template once a minute.
    fn default() -> Self {
        Self { first: Duration::from_secs(60), then: Duration::from_secs(10) }
    }
}

/// The last template, for all who ask.
#[derive(Default)]
pub(super) struct Templates {
    last: Mutex<Option<(Instant, Arc<MinerTemplate>)>>,
    pub patience: Patience,
}

pub(super) async fn get(
    node: &Node,
    templates: &Templates,
    call: &Call,
    ended: &CancellationToken,
) -> Result<Value, RpcError> {
    let nothing = Map::new();
    let request = match call.optional(0) {
        None => &nothing,
        Some(Value::Object(request)) => request,
        Some(_) => return Err(RpcError::new(TYPE, "template_request must be an object")),
    };
    match request.get("mode") {
        None | Some(Value::Null) => {}
        Some(Value::String(mode)) if mode == "template" => {}
        Some(Value::String(mode)) if mode == "proposal" => return propose(node, request).await,
        Some(_) => return Err(RpcError::parameter("Invalid mode")),
    }
    let rules = rules(request)?;
    if !rules.contains("segwit") {
        return Err(RpcError::parameter(
            "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})",
        ));
    }
    check_ready(node)?;
    if let Some(id) = request.get("longpollid").filter(|id| !id.is_null()) {
        wait(node, PollId::read(node, id)?, templates.patience, ended).await?;
    }
    Ok(describe(node, templates.fresh(node).await?.as_ref()))
}

fn rules(request: &Map<String, Value>) -> Result<BTreeSet<&str>, RpcError> {
    let Some(Value::Array(rules)) = request.get("rules") else { return Ok(BTreeSet::new()) };
    let texts = rules.iter().map(|rule| rule.as_str().ok_or_else(|| RpcError::new(TYPE, "rules must be strings")));
    texts.collect()
}

/// On a chain that others mine too, blocks on an old tip would be for nothing.
fn check_ready(node: &Node) -> Result<(), RpcError> {
    match node.check_tip() {
        // An old tip is what a new block mends; a wrong clock shows when the template is made.
        Ok(()) | Err(TipDoubt::Old { .. } | TipDoubt::Clock { .. } | TipDoubt::ClockBehindChain { .. }) => Ok(()),
        Err(doubt @ (TipDoubt::Behind { .. } | TipDoubt::Lacks { .. })) => Err(RpcError::new(
            IN_INITIAL_DOWNLOAD,
            format!("Leyden is in initial sync and waiting for blocks: {doubt}"),
        )),
        Err(doubt @ TipDoubt::OutOfReach { .. }) => {
            Err(RpcError::new(MISC, format!("Leyden does not follow the chain with most work: {doubt}")))
        }
        Err(doubt @ (TipDoubt::NotHeard | TipDoubt::NoPeers { .. })) => {
            Err(RpcError::new(NOT_CONNECTED, format!("Leyden is not connected: {doubt}")))
        }
    }
}

/// What a caller knows already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PollId {
    tip: BlockHash,
    mempool_sequence: u64,
}

impl PollId {
    fn read(node: &Node, id: &Value) -> Result<Self, RpcError> {
        // BIP 22 does not say what else it may be; Bitcoin Core takes it for what is known now.
        let Some(id) = id.as_str() else {
            return Ok(Self { tip: node.tip().hash, mempool_sequence: node.mempool_sequence() });
        };
        let wrong =
            || RpcError::parameter(format!("longpollid must begin with a block hash of 64 digits (not '{id}')"));
        let (hash, sequence) = id.split_at_checked(HASH_DIGITS).ok_or_else(wrong)?;
        let tip = hash.parse().map_err(|_| wrong())?;
        Ok(Self { tip, mempool_sequence: sequence.parse().unwrap_or_default() })
    }

    fn text(&self) -> String {
        format!("{}{}", self.tip, self.mempool_sequence)
    }
}

async fn wait(node: &Node, known: PollId, patience: Patience, ended: &CancellationToken) -> Result<(), RpcError> {
    let mut limit = patience.first;
    loop {
        let tip = tip_when(node, |tip| tip.hash != known.tip, Instant::now().checked_add(limit), ended).await;
        if ended.is_cancelled() {
            return Err(RpcError::new(NOT_CONNECTED, "Shutting down"));
        }
        if tip.hash != known.tip || node.mempool_sequence() != known.mempool_sequence {
            return Ok(());
        }
        limit = patience.then;
    }
}

impl Templates {
    async fn fresh(&self, node: &Node) -> Result<Arc<MinerTemplate>, RpcError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((made, template)) = last
            && made.elapsed() < TEMPLATE_AGE
            && template.template.block.header.prev_blockhash == node.tip().hash
        {
            return Ok(template);
        }
        let made = Instant::now();
        let template = Arc::new(node.miner_template().await?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((made, Arc::clone(&template)));
        Ok(template)
    }
}

fn describe(node: &Node, made: &MinerTemplate) -> Value {
    let MinerTemplate { template, min_time, mempool_sequence } = made;
    let header = &template.block.header;
    let has_segwit = template.height >= node.params().activation.segwit;
    // Before witnesses there is no cost and no weight, but counts and bytes.
    let scale = if has_segwit { 1 } else { WITNESS_SCALE };
    let (coinbase, transactions) = match template.block.txdata.split_first() {
        Some((coinbase, transactions)) => (Some(coinbase), transactions),
        None => (None, &[][..]),
    };
    let places: HashMap<_, _> = (1_usize..).zip(transactions).map(|(at, one)| (one.compute_txid(), at)).collect();
    let transactions = transactions.iter().zip(&template.costs).map(|(transaction, cost)| {
        let depends = transaction.input.iter().filter_map(|input| places.get(&input.previous_output.txid));
        json!({
            "data": serialize_hex(transaction),
            "txid": transaction.compute_txid(),
            "hash": transaction.compute_wtxid(),
            "depends": depends.collect::<BTreeSet<_>>(),
            "fee": cost.fee.to_sat(),
            "sigops": cost.sigop_cost / scale,
            "weight": transaction.weight().to_wu(),
        })
    });
    let outputs = coinbase.map(|coinbase| coinbase.output.as_slice()).unwrap_or_default();
    let now = u32::try_from(node.clock().now()).unwrap_or(u32::MAX);
    let poll = PollId { tip: header.prev_blockhash, mempool_sequence: *mempool_sequence };
    // Where a late block is easier, its time decides on its target, too.
    let is_time_free = !matches!(node.params().retarget, Retarget::Periodic { easiest_after_gap: true, .. });
    let mutable =
        if is_time_free { json!(["time", "transactions", "prevblock"]) } else { json!(["transactions", "prevblock"]) };
    let mut value = json!({
        "capabilities": ["proposal"],
        "version": header.version.to_consensus(),
        "rules": if has_segwit { json!(["csv", "!segwit", "taproot"]) } else { json!(["csv"]) },
        "vbavailable": {},
        "vbrequired": 0,
        "previousblockhash": header.prev_blockhash,
        "transactions": transactions.collect::<Vec<_>>(),
        "coinbaseaux": {},
        "coinbasevalue": outputs.first().map_or(0, |output| output.value.to_sat()),
        "longpollid": poll.text(),
        "target": target(header.bits),
        "mintime": min_time,
        "mutable": mutable,
        "noncerange": "00000000ffffffff",
        "sigoplimit": MAX_BLOCK_SIGOP_COST / scale,
        "sizelimit": MAX_BLOCK_WEIGHT / scale,
        "curtime": now.max(*min_time),
        "bits": format!("{:08x}", header.bits.to_consensus()),
        "height": template.height,
    });
    if has_segwit {
        value["weightlimit"] = json!(MAX_BLOCK_WEIGHT);
        if let Some(commitment) = outputs.get(1) {
            value["default_witness_commitment"] = json!(hex::encode(commitment.script_pubkey.as_bytes()));
        }
    }
    value
}

fn target(bits: CompactTarget) -> String {
    hex::encode(Target::from_compact(bits).to_be_bytes())
}

/// `null` if the block would be valid with its proof of work, else why not, in a word.
async fn propose(node: &Node, request: &Map<String, Value>) -> Result<Value, RpcError> {
    let data = request.get("data").and_then(Value::as_str);
    let data = data.ok_or_else(|| RpcError::new(TYPE, "Missing data String key for proposal"))?;
    let block: Block = decode(data, "Block")?;
    let hash = block.block_hash();
    if let Some(state) = node.block_state(&hash) {
        return Ok(json!(mining::duplicate(state)));
    }
    match node.check_proposal(block).await {
        Ok(()) => Ok(Value::Null),
        Err(ProposalRejected::NotOnTip) => Ok(json!("inconclusive-not-best-prevblk")),
        Err(ProposalRejected::Header(cause)) => Ok(json!(cause.reject_reason())),
        Err(ProposalRejected::Block(rejected)) => mining::verdict(rejected),
    }
}

/// Miners may leave the witness of the coinbase out: there is but one that can be meant (BIP 141, 32 zeros).
pub(super) fn complete(block: &mut Block) {
    let Some(coinbase) = block.txdata.first_mut().filter(|coinbase| commits_to_witnesses(coinbase)) else { return };
    if let [input] = coinbase.input.as_mut_slice()
        && input.previous_output == OutPoint::null()
        && input.witness.is_empty()
    {
        input.witness.push([0_u8; 32]);
    }
}

fn commits_to_witnesses(coinbase: &Transaction) -> bool {
    // OP_RETURN, a push of 36 bytes, and the tag of BIP 141.
    const BEGIN: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    coinbase
        .output
        .iter()
        .any(|output| output.script_pubkey.len() >= 38 && output.script_pubkey.as_bytes().starts_with(&BEGIN))
}
