//! A node with watchtowers, all real processes: what is covered, a cheater who meets the tower alone, a tower that is away, and
//! one that has lost what it signed for.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{fs, path::Path};

use harness::{DEEP, Folder, MATURE, assert_calm, leyden, run_leyden, running, scrape::scrape};
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, own_ip, wait_for, wait_until},
    demo::{NOBODY, calls::succeeded},
};
use leyden_common::layout::Layout;
use leyden_proto::{
    invoicesrpc::{AddHoldInvoiceRequest, SettleInvoiceMsg},
    leyden::{ChannelCoverage, GetTowerStatsRequest, ListCoverageRequest, ListTowersRequest, TowerInfo},
    lnrpc::payment::PaymentStatus,
    watchtowerrpc,
};
use tokio::task::JoinSet;

const CAPACITY: i64 = 5_000_000;
const PUSHED: i64 = 2_000_000;
/// More than any number of claims costs at the lowest rates, and less than any output that they take.
const FEES: i64 = 60_000;

/// Alice and Bob, and a tower whose node mines for all.
struct Guarded {
    alice: DaemonProcess,
    bob: DaemonProcess,
    tower: DaemonProcess,
    /// KEY@HOST:PORT.
    tower_at: String,
    folder: Folder,
}

/// The flags of a tower that can be found again, and that tells what it does.
fn tower_flags() -> [String; 5] {
    let listen = format!("{}:9911", own_ip());
    ["--tower", "--tower-listen", &listen, "--metrics", "127.0.0.1:0"].map(str::to_owned)
}

async fn uri(node: &DaemonProcess) -> String {
    let info = node.client().unwrap().watchtower().get_info(watchtowerrpc::GetInfoRequest {}).await.unwrap();
    info.into_inner().uris[0].clone()
}

impl Guarded {
    /// With a channel of Alice's with Bob, and the tower added by Alice (`own`: as hers).
    async fn new(alice_flags: &[&str], own: bool) -> Self {
        let folder = Folder::new();
        let flags = tower_flags();
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut tower = DaemonProcess::new(folder.path(), "tower", &flags).unwrap();
        tower.start().await.unwrap();
        let hub = tower.chain_address().unwrap();
        let near = ["--chain-connect", hub.as_str()];
        let mut alice = DaemonProcess::new(folder.path(), "alice", &[&near, alice_flags].concat()).unwrap();
        alice.start().await.unwrap();
        // Whoever is away, the others have each other.
        let beside = alice.chain_address().unwrap();
        let around = [&near[..], &["--chain-connect", beside.as_str()]].concat();
        let mut bob = DaemonProcess::new(folder.path(), "bob", &around).unwrap();
        bob.start().await.unwrap();
        tower.mine(1, Some(&alice.new_address().await.unwrap())).await.unwrap();
        let tower_at = uri(&tower).await;
        let mut guarded = Self { alice, bob, tower, tower_at, folder };
        guarded.mine(MATURE).await;
        guarded.alice.connect(&guarded.bob).await.unwrap();
        guarded.alice.open_channel(&guarded.bob, CAPACITY, PUSHED).await.unwrap();
        guarded.confirm().await;

        let mut add = vec!["tower", "add", guarded.tower_at.as_str()];
        if own {
            add.insert(2, "--own");
        }
        let said = leyden(guarded.alice.data_dir(), &add);
        if own {
            let client = said.split_whitespace().last().unwrap().trim_end_matches(['`', '.']).to_owned();
            assert_eq!(client.len(), 66, "{said}");
            guarded.tower.terminate();
            flags.extend(["--tower-allow", client.as_str()]);
            let mut again = DaemonProcess::new(guarded.folder.path(), "tower", &flags).unwrap();
            std::mem::swap(&mut guarded.tower, &mut again);
            drop(again);
            guarded.tower.start().await.unwrap();
            reconnect(&guarded).await;
        }
        wait_until("the tower to be connected", || async { Ok(tower_of(&guarded.alice).await.connected) })
            .await
            .unwrap();
        guarded
    }

    async fn confirm(&self) {
        wait_until("the tower's node to see the funding transaction", || async {
            Ok(!harness::mempool(&self.tower).await.is_empty())
        })
        .await
        .unwrap();
        self.mine(DEEP).await;
        self.alice.wait_for_active_channels(1).await.unwrap();
        self.bob.wait_for_active_channels(1).await.unwrap();
    }

    /// Mines for nobody; whoever runs sees it.
    async fn mine(&self, blocks: u32) {
        self.tower.mine(blocks, Some(NOBODY)).await.unwrap();
        let height = harness::height(&self.tower).await;
        for node in [&self.alice, &self.bob] {
            if node.pid().is_some() {
                node.wait_for_height(height).await.unwrap();
            }
        }
    }

    async fn pay(&self, from: &DaemonProcess, to: &DaemonProcess, amount: i64) {
        let invoice = to.invoice(amount, "").await.unwrap();
        assert!(succeeded(&from.pay(invoice).await.unwrap()));
    }

    async fn covered(&self) {
        wait_until("the tower to hold every revoked state", || async {
            let [channel] = coverage(&self.alice).await.try_into().unwrap();
            Ok(channel.covered && channel.revoked.is_some())
        })
        .await
        .unwrap();
    }

    fn logs(&self) -> [(&str, String); 3] {
        [("alice", self.alice.log()), ("bob", self.bob.log()), ("tower", self.tower.log())]
    }
}

/// The tower's node may have started on another port of the chain: whoever runs finds it there.
async fn reconnect(guarded: &Guarded) {
    let address = guarded.tower.chain_address().unwrap();
    for node in [&guarded.alice, &guarded.bob].into_iter().filter(|node| node.pid().is_some()) {
        let request = leyden_proto::leyden::ConnectChainPeerRequest { address: address.clone() };
        node.client().unwrap().chain().connect_peer(request).await.unwrap();
    }
}

fn client(node: &DaemonProcess) -> &Client {
    node.client().unwrap()
}

async fn coverage(node: &DaemonProcess) -> Vec<ChannelCoverage> {
    let request = ListCoverageRequest::default();
    client(node).towers().list_coverage(request).await.unwrap().into_inner().channels
}

async fn tower_of(node: &DaemonProcess) -> TowerInfo {
    let towers = client(node).towers().list_towers(ListTowersRequest {}).await.unwrap().into_inner().towers;
    towers.into_iter().next().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tower_covers_is_shown_and_outlives_both() {
    let mut all = Guarded::new(&[], false).await;
    for amount in [100_000, 50_000] {
        all.pay(&all.alice, &all.bob, amount).await;
        all.pay(&all.bob, &all.alice, 30_000).await;
    }
    all.covered().await;
    let [channel] = coverage(&all.alice).await.try_into().unwrap();
    let [at] = channel.towers.as_slice() else { panic!("{channel:?}") };
    assert_eq!((at.first, at.up_to, at.waiting), (Some(0), channel.revoked, 0));
    assert_eq!((at.receipts.len(), at.receipts[0].signature.len()), (1, 128));

    // A revocation may still follow the last payment's end.
    let said = leyden(all.alice.data_dir(), &["tower", "audit", &tower_of(&all.alice).await.pubkey]);
    let (_, to) = said.split_once("it has every state from 0 to ").unwrap_or_else(|| panic!("{said}"));
    let to: u64 = to.split_whitespace().next().unwrap().parse().unwrap();
    assert!(Some(to) >= channel.revoked, "{said}");
    all.covered().await;
    let table = leyden(all.alice.data_dir(), &["tower", "coverage"]);
    assert!(table.contains("yes"), "{table}");
    assert!(leyden(all.alice.data_dir(), &["listchannels"]).contains("watchtowers: covered"));

    // Both are killed, and go on where they were.
    all.alice.kill();
    all.tower.kill();
    all.alice.start().await.unwrap();
    let [kept] = coverage(&all.alice).await.try_into().unwrap();
    assert!(kept.towers[0].up_to >= at.up_to && kept.towers[0].receipts.len() == 1, "{kept:?}");
    let warnings = leyden(all.alice.data_dir(), &["getinfo"]);
    assert_eq!(warnings.contains("is not covered by any watchtower"), !kept.covered, "{warnings}");
    all.alice.wait_for_active_channels(1).await.unwrap();
    all.pay(&all.bob, &all.alice, 20_000).await;
    wait_until("a state to wait for the tower", || async { Ok(tower_of(&all.alice).await.states_waiting > 0) })
        .await
        .unwrap();
    let warnings = leyden(all.alice.data_dir(), &["getinfo"]);
    assert!(warnings.contains("is not covered by any watchtower"), "{warnings}");
    all.tower.start().await.unwrap();
    all.covered().await;
    let [channel] = coverage(&all.alice).await.try_into().unwrap();
    assert_eq!((channel.towers[0].first, channel.towers[0].receipts.len()), (Some(0), 1), "one chain of receipts");

    // A tower that is removed is not waited for, and leaves nothing.
    leyden(all.alice.data_dir(), &["tower", "remove", &tower_of(&all.alice).await.pubkey]);
    assert!(leyden(all.alice.data_dir(), &["tower", "list"]).contains("No watchtower"));
    assert!(!leyden(all.alice.data_dir(), &["listchannels"]).contains("watchtowers"));
    all.pay(&all.bob, &all.alice, 20_000).await;
    for (name, log) in all.logs() {
        assert_calm(name, &log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_tower_that_is_away_holds_payments_up_and_not_for_longer() {
    let mut all = Guarded::new(&["--tower-require", "1"], false).await;
    all.pay(&all.alice, &all.bob, 100_000).await;
    all.covered().await;
    all.tower.kill();
    let mut paying = JoinSet::new();
    for _ in 0..4 {
        let invoice = all.bob.invoice(50_000, "").await.unwrap();
        let mut router = client(&all.alice).router();
        paying.spawn(async move {
            let request = leyden_proto::routerrpc::SendPaymentRequest {
                payment_request: invoice,
                timeout_seconds: 600,
                fee_limit_sat: 10,
                no_inflight_updates: true,
                ..Default::default()
            };
            let mut updates = router.send_payment_v2(request).await.unwrap().into_inner();
            let mut status = PaymentStatus::InFlight;
            while let Some(update) = updates.message().await.unwrap() {
                status = update.status();
            }
            status
        });
        // Not all in one commitment.
        wait_until("an HTLC to be under way, or through", || async {
            let channel = all.alice.only_channel().await?;
            let waits = coverage(&all.alice).await[0].towers[0].waiting > 0;
            Ok(waits || !channel.pending_htlcs.is_empty())
        })
        .await
        .unwrap();
    }
    wait_until("a state to wait for the tower", || async { Ok(coverage(&all.alice).await[0].towers[0].waiting > 0) })
        .await
        .unwrap();
    // At most one revoked state is ever without its tower, whatever is asked for.
    for _ in 0..20 {
        assert!(coverage(&all.alice).await[0].towers[0].waiting <= 1);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let channel = all.alice.only_channel().await.unwrap();
    assert!(channel.remote_balance < PUSHED + 100_000 + 4 * 50_000, "four payments need more than one: {channel:?}");
    all.tower.start().await.unwrap();
    while let Some(status) = paying.join_next().await {
        assert_eq!(status.unwrap(), PaymentStatus::Succeeded);
    }
    all.covered().await;
}

async fn cheated(own: bool) {
    let mut all = Guarded::new(&[], own).await;
    all.pay(&all.alice, &all.bob, 100_000).await;
    // HTLCs in the state that Bob will publish: Alice's to him.
    let preimage = [7_u8; 32];
    let hash = {
        use bitcoin::hashes::{Hash as _, sha256};
        sha256::Hash::hash(&preimage).to_byte_array().to_vec()
    };
    let request = AddHoldInvoiceRequest { hash, value: 400_000, ..Default::default() };
    let held = client(&all.bob).invoices().add_hold_invoice(request).await.unwrap().into_inner().payment_request;
    let mut paying = JoinSet::new();
    all.alice.pay_all(vec![held], &mut paying).unwrap();
    wait_until("Bob to hold the payment", || async {
        let (a, b) = (all.alice.only_channel().await?, all.bob.only_channel().await?);
        Ok(a.pending_htlcs.len() == 1 && b.pending_htlcs.len() == 1)
    })
    .await
    .unwrap();

    // Bob's disk is copied; then he lives on, and what the copy has is revoked.
    all.bob.kill();
    let before = all.folder.path().join("bob-before");
    copy(all.bob.data_dir(), &before);
    all.bob.start().await.unwrap();
    all.bob.wait_for_active_channels(1).await.unwrap();
    client(&all.bob).invoices().settle_invoice(SettleInvoiceMsg { preimage: preimage.to_vec() }).await.unwrap();
    while let Some(paid) = paying.join_next().await {
        paid.unwrap();
    }
    all.pay(&all.bob, &all.alice, 1_500_000).await;
    all.pay(&all.bob, &all.alice, 10_000).await;
    all.covered().await;
    let channel = all.alice.only_channel().await.unwrap();
    let balance = all.alice.wallet_balance().await.unwrap();

    // Alice is gone. Bob puts the copy back, and closes with the old state.
    all.bob.kill();
    all.alice.kill();
    fs::remove_dir_all(all.bob.data_dir()).unwrap();
    copy(&before, all.bob.data_dir());
    all.bob.forget_addresses();
    all.bob.start().await.unwrap();
    reconnect(&all).await;
    all.bob.close_channel(&channel.channel_point, true).await.unwrap();
    wait_until("the old commitment to reach the tower's node", || async {
        Ok(!harness::mempool(&all.tower).await.is_empty())
    })
    .await
    .unwrap();
    all.mine(1).await;

    // The tower acts alone, until nothing is left to claim.
    wait_for("the tower to see the breach", || async {
        let stats = client(&all.tower).tower().get_tower_stats(GetTowerStatsRequest {}).await.unwrap().into_inner();
        Ok((!stats.penalties.is_empty()).then_some(()))
    })
    .await
    .unwrap();
    for _ in 0..DEEP {
        wait_until("penalties to be in the mempool, or through", || async {
            let stats = client(&all.tower).tower().get_tower_stats(GetTowerStatsRequest {}).await.unwrap().into_inner();
            use leyden_proto::leyden::tower_claim::State;
            let claims = stats.penalties.iter().flat_map(|one| &one.claims);
            Ok(claims.clone().count() > 0 && claims.clone().all(|claim| claim.state() != State::Waiting))
        })
        .await
        .unwrap();
        all.mine(1).await;
    }

    all.alice.start().await.unwrap();
    reconnect(&all).await;
    all.alice.wait_for_height(harness::height(&all.tower).await).await.unwrap();
    wait_until("all of the channel to be Alice's", || async {
        Ok(all.alice.wallet_balance().await? >= balance + CAPACITY - FEES)
    })
    .await
    .unwrap();
    let page = scrape(running(&all.tower).metrics.unwrap()).await;
    let mode = if own { "own" } else { "blind" };
    assert_eq!(page.get(&format!("leyden_tower_breaches_total{{mode=\"{mode}\"}}")), 1.0);
    assert_eq!((page.sum("leyden_tower_breaches_total"), page.get("leyden_tower_open_breaches")), (1.0, 1.0));
    assert!(page.get("leyden_tower_broadcasts_total") >= 1.0);
    assert!(page.get("leyden_tower_penalty_outputs{status=\"confirmed\"}") >= 1.0);
    assert_eq!(page.get("leyden_tower_penalty_outputs{status=\"lost\"}"), 0.0);
    for (name, log) in all.logs() {
        assert_calm(name, &log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_tower_takes_everything_from_a_cheater() {
    cheated(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_of_ones_own_takes_everything_from_a_cheater() {
    cheated(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_has_lost_what_it_signed_for_is_shown_by_its_own_words() {
    let mut all = Guarded::new(&[], false).await;
    all.pay(&all.alice, &all.bob, 100_000).await;
    all.covered().await;
    // Its disk is set back to before it had anything, but it keeps its key.
    all.tower.terminate();
    let store = Layout::new(all.tower.data_dir().to_owned(), "regtest").tower_database();
    assert!(store.is_dir(), "the tower's database");
    fs::remove_dir_all(&store).unwrap();
    all.tower.start().await.unwrap();
    let pubkey = tower_of(&all.alice).await.pubkey;
    wait_until("the tower to be convicted", || async { Ok(tower_of(&all.alice).await.proof.is_some()) }).await.unwrap();
    let info = leyden(all.alice.data_dir(), &["getinfo"]);
    assert!(info.contains(&format!("watchtower {pubkey} broke its word")), "{info}");
    let refused = run_leyden(all.alice.data_dir(), &["tower", "coverage"]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("it broke its word"), "{refused:?}");
}
