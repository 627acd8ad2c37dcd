//! A miner who takes what the mempool refuses: it makes its block by hand and gives it to the node as any pool would.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bitcoin::{
    Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxMerkleNode, TxOut,
    Witness, absolute::LockTime, block, consensus::encode, hashes::Hash as _, transaction,
};
use leyden_common::layout::Layout;
use leyden_consensus::{Params, subsidy::block_subsidy};
use leyden_proto::leyden::{GetBlockRequest, GetTipRequest, get_block_request};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::LabError;
use crate::cluster::DaemonProcess;

/// What marks a witness commitment (BIP 141).
const COMMITMENT_MARK: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// Mines one block on the node's tip with exactly these transactions, by regtest's rules, and submits it. The node's word for
/// what is wrong with it, if it is refused.
pub(super) async fn mine_with(
    node: &DaemonProcess,
    transactions: Vec<Transaction>,
) -> Result<Option<String>, LabError> {
    let called = |status| LabError::Cluster(node.call_error(status));
    let mut chain = node.client()?.chain();
    let tip = chain.get_tip(GetTipRequest {}).await.map_err(called)?.into_inner();
    let request = GetBlockRequest { block: Some(get_block_request::Block::Height(tip.height)), include_raw: false };
    let parent = chain.get_block(request).await.map_err(called)?.into_inner();
    let height = tip.height.saturating_add(1);
    let mut block = Block {
        header: block::Header {
            version: block::Version::from_consensus(0x2000_0000),
            prev_blockhash: tip.block_hash.parse().map_err(|error| LabError::of("the tip's hash", error))?,
            merkle_root: TxMerkleNode::all_zeros(),
            // Later than the median is all that is asked of it.
            time: u32::try_from(tip.time.max(tip.median_time.saturating_add(1))).unwrap_or(u32::MAX),
            bits: CompactTarget::from_consensus(parent.bits),
            nonce: 0,
        },
        txdata: vec![coinbase(height)],
    };
    block.txdata.extend(transactions);
    commit_to_witnesses(&mut block);
    block.header.merkle_root =
        block.compute_merkle_root().ok_or_else(|| LabError::Failed("an empty block".to_owned()))?;
    let target = Target::from_compact(block.header.bits);
    while !target.is_met_by(block.block_hash()) {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
    let answer = json_rpc(node, "submitblock", &json!([encode::serialize_hex(&block)])).await?;
    Ok(answer.as_str().map(str::to_owned))
}

/// The subsidy alone, to nobody.
fn coinbase(height: u32) -> Transaction {
    // The height first (BIP 34), and never shorter than two bytes.
    let script_sig = bitcoin::script::Builder::new().push_int(i64::from(height)).push_int(0).into_script();
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig,
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0; 32]]),
    };
    let reward =
        TxOut { value: block_subsidy(height, &Params::regtest()), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![reward],
    }
}

fn commit_to_witnesses(block: &mut Block) {
    let Some(root) = block.witness_root() else { return };
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let script = [&COMMITMENT_MARK[..], commitment.as_byte_array()].concat();
    if let Some(coinbase) = block.txdata.first_mut() {
        coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) });
    }
}

/// One call of Bitcoin Core's JSON-RPC, which the node must serve.
async fn json_rpc(node: &DaemonProcess, method: &str, parameters: &Value) -> Result<Value, LabError> {
    let failed = |error: std::io::Error| LabError::of("the node's JSON-RPC", error);
    let address =
        node.bitcoin_rpc_address()?.ok_or_else(|| LabError::Failed("the node serves no JSON-RPC".to_owned()))?;
    let cookie = Layout::new(node.data_dir().to_owned(), "regtest").bitcoin_rpc_cookie();
    let cookie = std::fs::read_to_string(cookie).map_err(failed)?;
    let body = json!({ "id": 1, "method": method, "params": parameters }).to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        BASE64.encode(cookie.trim()),
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.write_all(format!("{head}{body}").as_bytes()).await.map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(failed)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let answer: Value = serde_json::from_str(body).map_err(|error| LabError::of("the node's JSON-RPC", error))?;
    match &answer["error"] {
        Value::Null => Ok(answer["result"].clone()),
        error => Err(LabError::of(method, error)),
    }
}
