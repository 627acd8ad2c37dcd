//! A light node as people use it: it is paid, pays, and keeps a channel, beside full nodes that come and go.
//!
//! ```text
//!   full ──── witness        both serve filters; the light node asks both
//!     └── light ──┘
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::{
        NOBODY,
        calls::{settled_balance, succeeded},
    },
};
use leyden_proto::{
    leyden::{GenerateRequest, GetTipRequest, GetUtxoSetHashRequest, ProveInclusionRequest, VerifyInclusionRequest},
    lnrpc::SendCoinsRequest,
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use harness::{
    DEEP, Folder, MATURE, chain, height, leyden, refused, refused_start, run_leyden, send, wait_for_transaction,
};

const CAPACITY: i64 = 2_000_000;
const PUSHED: i64 = 300_000;
/// Blocks that a force close takes.
const DELAY: &str = "20";

struct Trio {
    full: DaemonProcess,
    witness: DaemonProcess,
    light: DaemonProcess,
    folder: Folder,
}

impl Trio {
    /// The full node has a spendable block reward.
    async fn new() -> Self {
        let folder = Folder::new();
        let delay = ["--to-self-delay", DELAY];
        let mut full = DaemonProcess::new(folder.path(), "full", &delay).unwrap();
        full.start().await.unwrap();
        full.mine(1, None).await.unwrap();
        full.mine(MATURE, Some(NOBODY)).await.unwrap();
        let to_full = chain(&full);
        let mut witness = DaemonProcess::new(folder.path(), "witness", &["--chain-connect", &to_full]).unwrap();
        witness.start().await.unwrap();
        let to_witness = chain(&witness);
        let flags = ["--light", "--chain-connect", &to_full, "--chain-connect", &to_witness, delay[0], delay[1]];
        let mut light = DaemonProcess::new(folder.path(), "light", &flags).unwrap();
        light.start().await.unwrap();
        let trio = Self { full, witness, light, folder };
        trio.wait_for_tip().await;
        trio
    }

    async fn wait_for_tip(&self) {
        let height = height(&self.full).await;
        for node in [&self.full, &self.witness, &self.light] {
            node.wait_for_height(height).await.unwrap();
        }
    }

    async fn mine(&self, blocks: u32) {
        self.full.mine(blocks, Some(NOBODY)).await.unwrap();
        self.wait_for_tip().await;
    }

    /// Gives the light node's wallet coins that a block has.
    async fn pay_light(&self, amount: i64) {
        let before = self.light.wallet_balance().await.unwrap();
        send(&self.full, &self.light.new_address().await.unwrap(), amount).await;
        self.mine(1).await;
        assert_eq!(settled_balance(&self.light, before + amount).await.unwrap(), before + amount);
    }

    async fn open_channel(&self) {
        self.light.connect(&self.full).await.unwrap();
        self.light.open_channel(&self.full, CAPACITY, PUSHED).await.unwrap();
        wait_until("the funding transaction to reach the full node", || async {
            Ok(!harness::mempool(&self.full).await.is_empty())
        })
        .await
        .unwrap();
        self.mine(DEEP).await;
        self.wait_for_channel().await;
    }

    async fn wait_for_channel(&self) {
        self.light.wait_for_active_channels(1).await.unwrap();
        self.full.wait_for_active_channels(1).await.unwrap();
    }

    /// Mines until the light node's wallet has at least this much; every block after what waits has reached the miner.
    async fn mine_until_light_has(&self, least: i64) -> i64 {
        for _ in 0..60 {
            let has = self.light.wallet_balance().await.unwrap();
            if has >= least {
                return has;
            }
            self.mine(1).await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        panic!("the light node has {} of {least}", self.light.wallet_balance().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_wallet_is_paid_and_pays() {
    let trio = Trio::new().await;
    trio.pay_light(5_000_000).await;
    let request = SendCoinsRequest {
        addr: trio.full.new_address().await.unwrap(),
        amount: 1_000_000,
        sat_per_vbyte: 2,
        ..SendCoinsRequest::default()
    };
    let txid = trio.light.client().unwrap().lightning().send_coins(request).await.unwrap().into_inner().txid;
    wait_for_transaction(&trio.full, &txid).await;
    trio.mine(1).await;
    wait_until("the change to be there", || async {
        let balance = trio.light.wallet_balance().await?;
        Ok(balance < 4_000_000 && balance > 3_999_000)
    })
    .await
    .unwrap();

    // Each proves to the other that it is in a block.
    let path = trio.folder.path().join("paid.txt");
    leyden(trio.light.data_dir(), &["chain", "proof", &txid, "--output-file", path.to_str().unwrap()]);
    let verified = leyden(trio.full.data_dir(), &["chain", "verify-proof", path.to_str().unwrap()]);
    assert!(verified.contains("The proof is good") && verified.contains(&txid), "{verified}");
    let request = ProveInclusionRequest { txid: txid.clone() };
    let proof = trio.full.client().unwrap().chain().prove_inclusion(request).await.unwrap().into_inner().proof;
    let mail = format!("> Hello,\n{proof}\n");
    let request = VerifyInclusionRequest { proof: mail };
    let verified = trio.light.client().unwrap().chain().verify_inclusion(request).await.unwrap();
    let transaction = verified.into_inner().transaction.unwrap();
    assert_eq!((transaction.txid, transaction.confirmations), (txid, 1));
    let damaged = VerifyInclusionRequest { proof: proof.replacen("0", "1", 40) };
    let refusal = trio.light.client().unwrap().chain().verify_inclusion(damaged).await;
    assert!(matches!(refusal.unwrap_err().code(), Code::InvalidArgument | Code::FailedPrecondition));

    // What a light node does not have is refused by name.
    let client = trio.light.client().unwrap();
    let answer = client.chain().get_utxo_set_hash(GetUtxoSetHashRequest {}).await;
    refused(answer, Code::FailedPrecondition, "this is a light node");
    let mut mined =
        client.chain().generate(GenerateRequest { blocks: 1, ..Default::default() }).await.unwrap().into_inner();
    refused(mined.next().await.unwrap(), Code::FailedPrecondition, "this is a light node");
    let output = run_leyden(trio.light.data_dir(), &["chain", "block", "1"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("light node"));
    let tip = client.chain().get_tip(GetTipRequest {}).await.unwrap().into_inner();
    assert!(tip.light && tip.disk_bytes > 0 && tip.current, "{tip:?}");
    println!("the light node's chain takes {} bytes", tip.disk_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_node_keeps_a_channel_through_a_kill_and_closes_it_alone() {
    let mut trio = Trio::new().await;
    trio.pay_light(5_000_000).await;
    trio.open_channel().await;
    let payment = trio.light.pay(trio.full.invoice(50_000, "one").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");
    let payment = trio.full.pay(trio.light.invoice(20_000, "two").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");

    trio.light.kill();
    trio.mine_without_light(2).await;
    trio.light.start().await.unwrap();
    trio.wait_for_tip().await;
    trio.wait_for_channel().await;
    let payment = trio.light.pay(trio.full.invoice(30_000, "three").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");

    let before = trio.light.wallet_balance().await.unwrap();
    let channel = trio.light.only_channel().await.unwrap();
    trio.light.close_channel(&channel.channel_point, true).await.unwrap();
    wait_until("the commitment to reach the full node", || async {
        Ok(!harness::mempool(&trio.full).await.is_empty())
    })
    .await
    .unwrap();
    let has = trio.mine_until_light_has(before + channel.local_balance - 10_000).await;
    assert!(has <= before + channel.local_balance + 1_000, "{has}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_node_finds_its_coins_when_the_peer_closes_while_it_is_away() {
    let mut trio = Trio::new().await;
    trio.pay_light(5_000_000).await;
    trio.open_channel().await;
    let before = trio.light.wallet_balance().await.unwrap();
    let channel = trio.light.only_channel().await.unwrap();
    trio.light.kill();
    let theirs = trio.full.only_channel().await.unwrap().channel_point;
    trio.full.close_channel(&theirs, true).await.unwrap();
    trio.mine_without_light(3).await;
    trio.light.start().await.unwrap();
    let has = trio.mine_until_light_has(before + channel.local_balance - 10_000).await;
    assert!(has <= before + channel.local_balance + 1_000, "{has}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_node_follows_when_its_peers_come_back_and_reorganise() {
    let mut trio = Trio::new().await;
    trio.pay_light(1_000_000).await;
    let fork = height(&trio.full).await;
    trio.full.terminate();
    trio.witness.mine(1, Some(NOBODY)).await.unwrap();
    trio.light.wait_for_height(fork + 1).await.unwrap();
    trio.witness.terminate();
    // The full one does not know of that block, and finds two others.
    trio.full.start().await.unwrap();
    trio.full.mine(2, Some(NOBODY)).await.unwrap();
    let (hash, top) = harness::tip(&trio.full).await;
    wait_until("the light node to follow", || async { Ok(harness::tip(&trio.light).await == (hash.clone(), top)) })
        .await
        .unwrap();
    trio.light.wait_for_height(fork + 2).await.unwrap();
    assert_eq!(settled_balance(&trio.light, 1_000_000).await.unwrap(), 1_000_000);
}

#[test]
fn a_light_node_does_not_start_with_what_needs_whole_blocks() {
    let folder = Folder::new();
    for flag in ["--mine", "--tower", "--tower-only", "--prune=1000"] {
        let (status, said) = refused_start(folder.path(), &["--light", flag]);
        assert!(!status.success() && said.contains("needs whole blocks"), "{flag}: {said}");
    }
}

impl Trio {
    async fn mine_without_light(&self, blocks: u32) {
        self.full.mine(blocks, Some(NOBODY)).await.unwrap();
        let height = height(&self.full).await;
        self.witness.wait_for_height(height).await.unwrap();
    }
}
