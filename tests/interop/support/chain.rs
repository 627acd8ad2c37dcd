//! One chain: a daemon that mines and serves Bitcoin Core's JSON-RPC, and all who follow it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use leyden_client::{
    cluster::{ClusterError, DaemonProcess, PATIENCE, wait_until},
    demo::NOBODY,
};
use leyden_proto::leyden::{GetMempoolRequest, GetTipRequest};

use super::Ldk;

const USER: &str = "interop";
const PASSWORD: &str = "not secret";

/// Blocks after which what was mined can be spent, and a channel may be told to the network.
pub const MATURE: u32 = 100;
pub const DEEP: u32 = 6;

/// Blocks mined at a time while what is due is claimed.
const STEP: u32 = 12;
/// Blocks after which all expiries and delays are over: the longest expiry of LDK's payments, both delays, and as much
/// again. What is not there by then waits for a node that has not looked yet, not for blocks.
const ALL_BLOCKS: u32 = 960;
/// LDK asks for the chain every two seconds.
const LDK_POLLS: Duration = Duration::from_secs(2);

/// The JSON-RPC of the daemon that mines.
#[derive(Clone)]
pub struct Rpc {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

/// Starts the daemon that mines and that LDK's nodes ask about the chain.
pub async fn start(folder: &Path, name: &str, flags: &[&str]) -> DaemonProcess {
    let auth = format!("{USER}:{PASSWORD}");
    let mut all = vec!["--bitcoin-rpc-auth", &auth];
    all.extend(flags);
    let mut node = DaemonProcess::new(folder, name, &all).unwrap().with_bitcoin_rpc();
    node.start().await.unwrap();
    node
}

pub fn rpc(miner: &DaemonProcess) -> Rpc {
    let address = miner.bitcoin_rpc_address().unwrap().expect("the daemon serves JSON-RPC");
    Rpc { host: address.ip().to_string(), port: address.port(), user: USER.into(), password: PASSWORD.into() }
}

/// Another daemon on the miner's chain.
pub async fn join(miner: &DaemonProcess, folder: &Path, name: &str, flags: &[&str]) -> DaemonProcess {
    let chain = miner.chain_address().unwrap();
    let mut all = vec!["--chain-connect", &chain];
    all.extend(flags);
    let mut node = DaemonProcess::new(folder, name, &all).unwrap();
    node.start().await.unwrap();
    node
}

/// Gives each node two block rewards, and lets them mature.
pub async fn fund(miner: &DaemonProcess, ours: &[&DaemonProcess], peers: &[&Ldk]) {
    for node in ours {
        let address = node.new_address().await.unwrap();
        miner.mine(2, Some(&address)).await.unwrap();
    }
    for peer in peers {
        miner.mine(2, Some(&peer.new_address())).await.unwrap();
    }
    mine(miner, ours, peers, MATURE).await;
}

/// Mines for nobody, and waits until all have seen it.
pub async fn mine(miner: &DaemonProcess, ours: &[&DaemonProcess], peers: &[&Ldk], blocks: u32) {
    miner.mine(blocks, Some(NOBODY)).await.unwrap();
    let height = height(miner).await;
    for node in ours {
        node.wait_for_height(height).await.unwrap();
    }
    for peer in peers {
        peer.wait_for_height(height).await;
    }
}

/// Mines until something holds. Nodes act on blocks in their own time, and what they do with one is claimed in a later
/// one: so it goes on as long as there is patience, however many blocks that takes.
pub async fn mine_until<F, Fut>(
    miner: &DaemonProcess,
    ours: &[&DaemonProcess],
    peers: &[&Ldk],
    what: &str,
    mut holds: F,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool, ClusterError>>,
{
    let (begun, mut mined) = (Instant::now(), 0);
    while !holds().await.unwrap() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}, {mined} blocks long");
        if mined < ALL_BLOCKS {
            mine(miner, ours, peers, STEP).await;
            mined += STEP;
        } else {
            tokio::time::sleep(LDK_POLLS).await;
            mine(miner, ours, peers, 1).await;
            mined += 1;
        }
    }
}

/// The height of the chain, whatever the wallet has seen.
pub async fn height(node: &DaemonProcess) -> u32 {
    node.client().unwrap().chain().get_tip(GetTipRequest {}).await.unwrap().into_inner().height
}

/// Waits until so many transactions wait for the miner.
pub async fn wait_for_mempool(miner: &DaemonProcess, transactions: u64) {
    wait_until(&format!("{transactions} transactions to wait for a block"), || async {
        let request = GetMempoolRequest::default();
        let pool = miner.client()?.chain().get_mempool(request).await.map_err(|status| miner.call_error(status))?;
        Ok(pool.into_inner().transaction_count >= transactions)
    })
    .await
    .unwrap();
}

/// Waits until a transaction can be mined.
pub async fn wait_for_transaction(miner: &DaemonProcess, txid: &str) {
    wait_until(&format!("{txid} to wait for a block"), || async { Ok(miner.waiting_txids().await?.contains(txid)) })
        .await
        .unwrap();
}
