//! Funding transactions that are not final: a rival branch takes them back, moves them or double-spends them, and a wallet
//! that does not know what it stands on leaves them alone.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::path::Path;

use harness::{
    DEEP, Folder, MATURE, assert_calm, chain, height, leyden, mempool, network::graph, open_request, run_leyden, tip,
    wait_for_transaction,
};
use leyden::inside::seed::{self, Seed};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::{NOBODY, calls::succeeded},
};
use leyden_common::layout::Layout;
use leyden_proto::{
    leyden::ConnectChainPeerRequest,
    lnrpc::{
        AbandonChannelRequest, ChannelPoint, OpenChannelRequest, PendingUpdate, SendCoinsRequest,
        channel_close_summary::ClosureType, channel_point::FundingTxid, open_status_update::Update,
    },
};

const CAPACITY: i64 = 1_000_000;
const PUSHED: i64 = 300_000;
/// Blocks after which a double-spend is final.
const FINAL: u32 = 100;

async fn follow(from: &DaemonProcess, to: &DaemonProcess) {
    let request = ConnectChainPeerRequest { address: chain(to) };
    from.client().unwrap().chain().connect_peer(request).await.unwrap();
}

/// All with the tip of the first.
async fn agree(nodes: &[&DaemonProcess]) {
    wait_until("all to have the same tip", || async {
        let first = tip(nodes[0]).await;
        for node in nodes {
            if tip(node).await != first {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
    .unwrap();
    for node in nodes {
        node.wait_for_height(height(node).await).await.unwrap();
    }
}

async fn mine(nodes: &[&DaemonProcess], blocks: u32) {
    nodes[0].mine(blocks, Some(NOBODY)).await.unwrap();
    agree(nodes).await;
}

/// A daemon that is started anew knows nobody: from then on it has a chain of its own.
async fn cut_off(node: &mut DaemonProcess) {
    assert!(node.terminate().unwrap().success());
    node.start().await.unwrap();
}

/// What is wrong with the funding of a node's only channel, open or pending.
async fn trouble(node: &DaemonProcess) -> String {
    if let Some(channel) = node.channels().await.unwrap().first() {
        return channel.chan_status_flags.clone();
    }
    let pending = node.pending_channels().await.unwrap();
    let opening = pending.pending_open_channels.into_iter().filter_map(|channel| channel.channel);
    let waiting = pending.waiting_close_channels.into_iter().filter_map(|channel| channel.channel);
    opening.chain(waiting).next().map(|channel| channel.chan_status_flags).unwrap_or_default()
}

async fn wait_for_trouble(node: &DaemonProcess, words: &str) {
    let what = format!("{} to tell of \"{words}\"", node.name());
    wait_until(&what, || async { Ok(trouble(node).await.contains(words)) }).await.unwrap();
}

async fn wait_for_edges(node: &DaemonProcess, ids: &[u64]) {
    wait_until(&format!("{} to know {ids:?} and nothing else", node.name()), || async {
        let edges: Vec<u64> = graph(node).await.edges.iter().map(|edge| edge.channel_id).collect();
        Ok(edges == ids)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_a_reorganisation_moves_pauses_and_is_announced_anew_on_the_same_connection() {
    let folder = Folder::new();
    let mut nodes = Vec::new();
    for name in ["alice", "bob", "dave", "rival"] {
        let mut node = DaemonProcess::new(folder.path(), name, &[]).unwrap();
        node.start().await.unwrap();
        if let Some(alice) = nodes.first() {
            follow(&node, alice).await;
        }
        nodes.push(node);
    }
    let [alice, bob, dave, rival] = &mut nodes[..] else { panic!() };
    alice.mine(1, None).await.unwrap();
    mine(&[alice, bob, dave, rival], MATURE).await;
    cut_off(rival).await;

    dave.connect(alice).await.unwrap();
    alice.connect(bob).await.unwrap();
    alice.open_channel(bob, CAPACITY, PUSHED).await.unwrap();
    let funding = mempool(alice).await;
    wait_for_transaction(bob, &funding[0]).await;
    mine(&[alice, bob, dave], DEEP).await;
    for node in [&*alice, bob] {
        node.wait_for_active_channels(1).await.unwrap();
    }
    let old = alice.only_channel().await.unwrap().chan_id;
    for node in [&*alice, bob, dave] {
        wait_for_edges(node, &[old]).await;
    }
    assert!(succeeded(&alice.pay(bob.invoice(1_000, "before").await.unwrap()).await.unwrap()));

    // The rival's branch has nothing in it.
    rival.mine(DEEP + 2, Some(NOBODY)).await.unwrap();
    follow(rival, alice).await;
    agree(&[alice, bob, dave, rival]).await;
    for node in [&*alice, bob] {
        wait_for_trouble(node, "a reorganisation has taken its funding transaction back").await;
        assert!(!node.only_channel().await.unwrap().active);
    }
    for node in [&*alice, bob, dave] {
        wait_for_edges(node, &[]).await;
    }
    let listed = leyden(alice.data_dir(), &["listchannels"]);
    assert!(listed.contains("it takes no payments: a reorganisation"), "{listed}");
    let failed = alice.pay(bob.invoice(1_000, "meanwhile").await.unwrap()).await.unwrap();
    assert!(!succeeded(&failed), "{failed:?}");

    // It comes again.
    for node in [&*alice, bob] {
        wait_for_transaction(node, &funding[0]).await;
    }
    mine(&[alice, bob, dave, rival], 2).await;
    for node in [&*alice, bob] {
        wait_for_trouble(node, "needs more confirmations").await;
        assert!(!node.only_channel().await.unwrap().active);
    }
    mine(&[alice, bob, dave, rival], 1).await;
    for node in [&*alice, bob] {
        node.wait_for_active_channels(1).await.unwrap();
        wait_for_trouble(node, "ChanStatusDefault").await;
    }
    let new = alice.only_channel().await.unwrap().chan_id;
    assert_ne!(new, old);
    assert_eq!(bob.only_channel().await.unwrap().chan_id, new);
    assert!(succeeded(&alice.pay(bob.invoice(1_000, "after").await.unwrap()).await.unwrap()));
    mine(&[alice, bob, dave, rival], 3).await;
    for node in [&*alice, bob, dave] {
        wait_for_edges(node, &[new]).await;
    }
    for node in [&*alice, bob, dave] {
        assert_calm(node.name(), &node.log());
    }
    assert!(!alice.log().contains("the connection ended"), "one connection has seen it all");
}

/// Alice and a twin with the same words, each with a chain of its own from some block on, and Bob, who follows Alice.
struct Twins {
    alice: DaemonProcess,
    twin: DaemonProcess,
    bob: DaemonProcess,
    _folder: Folder,
}

async fn with_words(folder: &Path, name: &str, words: &Seed) -> DaemonProcess {
    let mut node = DaemonProcess::new(folder, name, &["--zero-conf-peer", STRANGER]).unwrap();
    std::fs::create_dir_all(node.data_dir()).unwrap();
    seed::save(&Layout::new(node.data_dir().to_owned(), "regtest").wallet_seed(), words, None).unwrap();
    node.start().await.unwrap();
    node
}

/// Somebody who is never met: who names anybody offers `option_zeroconf`.
const STRANGER: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

impl Twins {
    /// Alice has one coin; Bob uses her channels at once.
    async fn new() -> Self {
        let _ = env!("CARGO_BIN_EXE_leydend");
        let folder = Folder::new();
        let words = Seed::from_entropy([91; 32], "");
        let alice = with_words(folder.path(), "alice", &words).await;
        let twin = with_words(folder.path(), "twin", &words).await;
        let trusted = alice.node_id().await.unwrap();
        let mut bob = DaemonProcess::new(folder.path(), "bob", &["--zero-conf-peer", &trusted]).unwrap();
        bob.start().await.unwrap();
        for node in [&twin, &bob] {
            follow(node, &alice).await;
        }
        alice.mine(1, None).await.unwrap();
        mine(&[&alice, &twin, &bob], MATURE).await;
        alice.connect(&bob).await.unwrap();
        Self { alice, twin, bob, _folder: folder }
    }

    /// Gives the funding output.
    async fn open(&self, zero_conf: bool) -> Funding {
        let request =
            OpenChannelRequest { zero_conf, private: true, ..open_request(&self.bob, CAPACITY, PUSHED).await };
        let mut updates = self.alice.client().unwrap().lightning().open_channel(request).await.unwrap().into_inner();
        let update = updates.message().await.unwrap().and_then(|update| update.update);
        let Some(Update::ChanPending(PendingUpdate { output_index, .. })) = update else { panic!("{update:?}") };
        wait_until("the funding transaction", || async { Ok(mempool(&self.alice).await.len() == 1) }).await.unwrap();
        let txid = mempool(&self.alice).await.remove(0);
        wait_for_transaction(&self.bob, &txid).await;
        Funding { txid, output_index }
    }

    /// The twin spends the coin elsewhere, in a branch that wins.
    async fn double_spend(&mut self) -> String {
        let request =
            SendCoinsRequest { addr: NOBODY.to_owned(), send_all: true, sat_per_vbyte: 3, ..Default::default() };
        let thief = self.twin.client().unwrap().lightning().send_coins(request).await.unwrap().into_inner().txid;
        let ahead = height(&self.alice).await + 1 - height(&self.twin).await;
        self.twin.mine(ahead, Some(NOBODY)).await.unwrap();
        follow(&self.twin, &self.alice).await;
        agree(&[&self.alice, &self.bob, &self.twin]).await;
        thief
    }
}

struct Funding {
    txid: String,
    output_index: u32,
}

impl Funding {
    fn whole(&self) -> String {
        format!("{}:{}", self.txid, self.output_index)
    }

    fn point(&self) -> ChannelPoint {
        let funding_txid = Some(FundingTxid::FundingTxidStr(self.txid.clone()));
        ChannelPoint { funding_txid, output_index: self.output_index }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_spent_opening_is_told_cannot_be_forced_and_ends() {
    for zero_conf in [false, true] {
        let mut day = Twins::new().await;
        cut_off(&mut day.twin).await;
        let funding = day.open(zero_conf).await;
        if zero_conf {
            for node in [&day.alice, &day.bob] {
                node.wait_for_active_channels(1).await.unwrap();
            }
            assert!(succeeded(&day.alice.pay(day.bob.invoice(5_000, "trusted").await.unwrap()).await.unwrap()));
        }
        let thief = day.double_spend().await;
        let Twins { alice, bob, twin, .. } = &day;
        for node in [alice, bob] {
            wait_for_trouble(node, &format!("transaction {thief} in block")).await;
            assert_eq!(node.channels().await.unwrap().len(), 0, "nobody takes payments in it");
            let pending = node.pending_channels().await.unwrap();
            assert_eq!((pending.waiting_close_channels.len(), pending.total_limbo_balance), (1, 0), "{pending:?}");
        }
        let failed = alice.pay(bob.invoice(5_000, "distrusted").await.unwrap()).await.unwrap();
        assert!(!succeeded(&failed), "{failed:?}");
        let said = run_leyden(alice.data_dir(), &["closechannel", &funding.whole(), "--force"]);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("there is nothing to close"), "{said}");
        let listed = leyden(alice.data_dir(), &["pendingchannels"]);
        assert!(listed.contains("has spent a coin of its funding transaction"), "{listed}");

        mine(&[alice, bob, twin], FINAL).await;
        for node in [alice, bob] {
            wait_until("the channel to be closed", || async { Ok(node.closed_channels().await?.len() == 1) })
                .await
                .unwrap();
            let closed = node.closed_channels().await.unwrap();
            assert_eq!(closed[0].close_type(), ClosureType::FundingCanceled, "{closed:?}");
            assert_eq!((closed[0].closing_tx_hash.as_str(), closed[0].settled_balance), (thief.as_str(), 0));
            let pending = node.pending_channels().await.unwrap();
            assert!(pending.waiting_close_channels.is_empty() && pending.pending_open_channels.is_empty());
            assert_calm(node.name(), &node.log());
        }
        let closed = leyden(alice.data_dir(), &["channel", "closed"]);
        assert!(closed.contains("has spent a coin of its funding transaction"), "{closed}");
        assert_eq!(alice.wallet_balance().await.unwrap(), 0, "what the twin took is not counted any more");
        assert!(mempool(alice).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_with_the_same_words_never_replaces_a_funding_transaction() {
    let day = Twins::new().await;
    let funding = day.open(false).await.txid;
    let Twins { alice, bob, twin, .. } = &day;
    wait_for_transaction(twin, &funding).await;
    wait_until("the twin's wallet to know of it", || async {
        Ok(twin.transactions().await?.iter().any(|transaction| transaction.tx_hash == funding))
    })
    .await
    .unwrap();
    let said = run_leyden(twin.data_dir(), &["bumpfee", &format!("{funding}:0"), "--sat-per-vbyte", "20"]);
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("pulled along by its child"), "{said}");
    wait_until("the child to be everywhere", || async { Ok(mempool(alice).await.len() == 2) }).await.unwrap();
    mine(&[alice, bob, twin], DEEP).await;
    alice.wait_for_active_channels(1).await.unwrap();
    assert!(succeeded(&alice.pay(bob.invoice(5_000, "funded").await.unwrap()).await.unwrap()));

    // A payment that this daemon has made itself is replaced as ever, and so is what replaces it.
    let mut payment = harness::send(alice, NOBODY, 50_000).await;
    for rate in ["20", "40"] {
        let said = leyden(alice.data_dir(), &["bumpfee", &format!("{payment}:0"), "--sat-per-vbyte", rate]);
        let (_, replacement) = said.split_once("replaced by ").unwrap_or_else(|| panic!("{said}"));
        payment = replacement.chars().take_while(char::is_ascii_hexdigit).collect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_channel_is_forgotten_and_recorded() {
    let day = Twins::new().await;
    let funding = day.open(false).await;
    let Twins { alice, bob, .. } = &day;
    let whole = funding.whole();
    let said = run_leyden(bob.data_dir(), &["abandonchannel", &whole]);
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("--yes") && said.contains("lost"), "{said}");
    let request = AbandonChannelRequest { channel_point: Some(funding.point()), ..Default::default() };
    let refused = bob.client().unwrap().lightning().abandon_channel(request).await;
    harness::refused(refused, tonic::Code::InvalidArgument, "i_know_what_i_am_doing");
    let said = leyden(bob.data_dir(), &["abandonchannel", &whole, "--yes"]);
    assert!(said.contains("the channel is forgotten"), "{said}");
    wait_until("the record", || async { Ok(bob.closed_channels().await?.len() == 1) }).await.unwrap();
    assert_eq!(bob.closed_channels().await.unwrap()[0].close_type(), ClosureType::Abandoned);
    let pending = bob.pending_channels().await.unwrap();
    assert!(pending.pending_open_channels.is_empty(), "{pending:?}");
    assert_calm("bob", &bob.log());
    assert_calm("alice", &alice.log());
}
