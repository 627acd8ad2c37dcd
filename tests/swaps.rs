//! Swaps on bad days of whole daemons: a disk that is lost, a chain that was replaced while a node was away.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{fs, path::Path};

use harness::{Folder, MATURE, PRUNE, chain, has_pruned, height, leyden, mempool, run_leyden, tip};
use leyden::inside::seed::{self, Seed};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::{NOBODY, calls::settled_balance},
};
use leyden_common::layout::Layout;
use leyden_proto::{
    leyden::{
        ConnectChainPeerRequest, ListSwapsRequest, SubmarineAcceptRequest, SubmarineQuoteRequest, SwapInfo,
        SwapInitiateRequest, SwapRequest,
    },
    walletrpc::ListAddressesRequest,
};

const COINS: i64 = 1_000_000;
const PAYMENT: i64 = 990_000;
/// What a block of regtest creates.
const SUBSIDY: i64 = 5_000_000_000;
/// Confirmations that a lock needs.
const DEPTH: u32 = 2;
/// Blocks until the refund: not many more than a swap in needs.
const REFUND_BLOCKS: u32 = 200;

/// The height at which the lock is made on a node that prunes.
const LOCKED_AT: u32 = 300;
/// Offers of which nothing comes.
const MANY_OFFERS: usize = 10;
/// More blocks than are kept in any case.
const MANY: u32 = 450;

/// Alice has a mature coin; Bob mines.
struct Pair {
    folder: Folder,
    alice: DaemonProcess,
    bob: DaemonProcess,
    words: Seed,
}

impl Pair {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// Alice's node has these flags.
    async fn with(flags: &[&str]) -> Self {
        let folder = Folder::new();
        let mut bob = DaemonProcess::new(folder.path(), "bob", &[]).unwrap();
        bob.start().await.unwrap();
        let words = Seed::from_entropy([71; 32], "");
        let alice = alice_with(folder.path(), "alice", &words, &bob, flags).await;
        alice.mine(1, None).await.unwrap();
        bob.wait_for_height(1).await.unwrap();
        let pair = Self { folder, alice, bob, words };
        pair.mine(MATURE).await;
        pair
    }

    async fn mine(&self, blocks: u32) {
        mine(&self.bob, &self.alice, blocks).await;
    }

    /// Alice's coins are in the contract of a swap in, whose lock is in Bob's mempool.
    async fn locked(&self) {
        self.locked_for(REFUND_BLOCKS).await;
    }

    async fn locked_for(&self, refund_blocks: u32) {
        let quote =
            SubmarineQuoteRequest { coins: COINS, payment: PAYMENT, depth: DEPTH, refund_blocks, ..Default::default() };
        let offer = self.alice.client().unwrap().swap().quote_submarine(quote).await.unwrap().into_inner().offer;
        let accept = SubmarineAcceptRequest {
            offer,
            pays: true,
            coins: COINS,
            payment: PAYMENT,
            depth: DEPTH,
            ..Default::default()
        };
        let accepted = self.bob.client().unwrap().swap().accept_submarine(accept).await.unwrap().into_inner();
        let request = SwapInitiateRequest { acceptance: accepted.acceptance };
        self.alice.client().unwrap().swap().initiate_submarine(request).await.unwrap();
        wait_until("the lock to be in Bob's mempool", || async { Ok(mempool(&self.bob).await.len() == 1) })
            .await
            .unwrap();
    }
}

async fn alice(folder: &Path, name: &str, words: &Seed, bob: &DaemonProcess) -> DaemonProcess {
    alice_with(folder, name, words, bob, &[]).await
}

async fn alice_with(folder: &Path, name: &str, words: &Seed, bob: &DaemonProcess, flags: &[&str]) -> DaemonProcess {
    let source = chain(bob);
    let flags = [&["--chain-connect", &source], flags].concat();
    let mut alice = DaemonProcess::new(folder, name, &flags).unwrap();
    let layout = Layout::new(alice.data_dir().to_owned(), "regtest");
    seed::save(&layout.wallet_seed(), words, None).unwrap();
    alice.start().await.unwrap();
    alice
}

async fn mine(miner: &DaemonProcess, other: &DaemonProcess, blocks: u32) {
    miner.mine(blocks, Some(NOBODY)).await.unwrap();
    agree(&[miner, other]).await;
}

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

async fn swap(node: &DaemonProcess) -> SwapInfo {
    let list = node.client().unwrap().swap().list(ListSwapsRequest {}).await.unwrap().into_inner();
    list.swaps.into_iter().next().unwrap()
}

async fn wait_for_phase(node: &DaemonProcess, phase: &str) {
    let what = format!("the swap of {} to be {phase}", node.name());
    wait_until(&what, || async { Ok(swap(node).await.phase == phase) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_in_a_contract_come_back_by_the_words_and_the_script_alone() {
    let mut pair = Pair::new().await;
    pair.locked().await;
    pair.mine(1).await;
    wait_for_phase(&pair.alice, "locked").await;
    let give = swap(&pair.alice).await.give.unwrap();
    let (contract, lock) = (hex::encode(&give.contract), give.lock);
    // While the swap is under way here, it needs no help.
    let early = run_leyden(pair.alice.data_dir(), &["swap", "reclaim", &contract, &lock]);
    let told = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && told.contains("under way here"), "{told}");
    pair.alice.kill();
    fs::remove_dir_all(pair.alice.data_dir()).unwrap();

    let again = alice(pair.folder.path(), "again", &pair.words, &pair.bob).await;
    agree(&[&pair.bob, &again]).await;
    let early = run_leyden(again.data_dir(), &["swap", "reclaim", &contract, &lock]);
    let told = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && told.contains(&format!("before block {}", give.expiry_height)), "{told}");
    mine(&pair.bob, &again, give.expiry_height - height(&pair.bob).await).await;
    // Somebody else's words do not open it.
    let foreign = run_leyden(pair.bob.data_dir(), &["swap", "reclaim", &contract, &lock]);
    assert!(!foreign.status.success());
    leyden(again.data_dir(), &["swap", "reclaim", &contract, &lock]);
    wait_until("the refund to be in Bob's mempool", || async { Ok(mempool(&pair.bob).await.len() == 1) })
        .await
        .unwrap();
    let before = again.wallet_balance().await.unwrap();
    mine(&pair.bob, &again, 1).await;
    let after = settled_balance(&again, before).await.unwrap();
    // One block's coin, less the fees of the lock and of the refund.
    assert!((SUBSIDY - 5_000..SUBSIDY).contains(&after), "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_goes_on_by_the_words_and_the_channel_backup_alone() {
    let mut pair = Pair::new().await;
    pair.locked().await;
    // The file beside the wallet had it before the lock went out.
    let kept = pair.folder.path().join("kept.backup");
    fs::copy(Layout::new(pair.alice.data_dir().to_owned(), "regtest").channel_backup(), &kept).unwrap();
    pair.alice.kill();
    fs::remove_dir_all(pair.alice.data_dir()).unwrap();
    pair.bob.mine(1, Some(NOBODY)).await.unwrap();

    let again = alice(pair.folder.path(), "again", &pair.words, &pair.bob).await;
    agree(&[&pair.bob, &again]).await;
    leyden(again.data_dir(), &["restorechanbackup", kept.to_str().unwrap()]);
    wait_for_phase(&again, "locked").await;
    let give = swap(&again).await.give.unwrap();
    mine(&pair.bob, &again, give.expiry_height - height(&pair.bob).await).await;
    wait_until("the refund to be in Bob's mempool", || async { Ok(mempool(&pair.bob).await.len() == 1) })
        .await
        .unwrap();
    let before = again.wallet_balance().await.unwrap();
    mine(&pair.bob, &again, 1).await;
    let after = settled_balance(&again, before).await.unwrap();
    assert!((SUBSIDY - 5_000..SUBSIDY).contains(&after), "{before} {after}");
    wait_for_phase(&again, "refunded").await;
    // It is known here now.
    let said = leyden(again.data_dir(), &["restorechanbackup", kept.to_str().unwrap()]);
    assert!(said.contains("here already"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_a_swap_still_needs_are_not_pruned() {
    let mut pair = Pair::with(&PRUNE).await;
    pair.mine(LOCKED_AT - MATURE).await;
    pair.locked_for(MANY + 100).await;
    pair.mine(MANY).await;
    wait_for_phase(&pair.alice, "locked").await;
    wait_until("old blocks to be pruned", || async { Ok(has_pruned(&pair.alice, 50)) }).await.unwrap();
    assert!(!has_pruned(&pair.alice, LOCKED_AT - 1), "from below its lock on they stay");
    // A restart looks through them again, and the coins come back.
    pair.alice.kill();
    pair.alice.start().await.unwrap();
    let give = swap(&pair.alice).await.give.unwrap();
    pair.mine(give.expiry_height - height(&pair.bob).await).await;
    wait_until("the refund to be in Bob's mempool", || async { Ok(mempool(&pair.bob).await.len() == 1) })
        .await
        .unwrap();
    pair.mine(1).await;
    wait_for_phase(&pair.alice, "refunded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_found_again_when_the_chain_was_replaced_while_its_node_was_away() {
    let mut pair = Pair::new().await;
    let mut carol = DaemonProcess::new(pair.folder.path(), "carol", &[]).unwrap();
    carol.start().await.unwrap();
    let follow = |from: &DaemonProcess, to: &DaemonProcess| {
        let (client, address) = (from.client().unwrap().chain(), chain(to));
        let mut client = client;
        async move { client.connect_peer(ConnectChainPeerRequest { address }).await.unwrap() }
    };
    follow(&carol, &pair.bob).await;
    agree(&[&pair.bob, &carol]).await;
    // Carol goes on alone, and never hears of the lock.
    assert!(carol.terminate().unwrap().success());
    carol.start().await.unwrap();
    pair.locked().await;
    let lock = mempool(&pair.bob).await;
    pair.mine(1).await;
    wait_for_phase(&pair.alice, "locked").await;
    wait_for_phase(&pair.bob, "accepted").await;
    pair.alice.kill();

    carol.mine(3, Some(NOBODY)).await.unwrap();
    follow(&pair.bob, &carol).await;
    agree(&[&pair.bob, &carol]).await;
    pair.alice.start().await.unwrap();
    agree(&[&pair.bob, &pair.alice]).await;
    wait_for_phase(&pair.alice, "locking").await;
    wait_until("the lock to wait for a block again", || async { Ok(mempool(&pair.bob).await == lock) }).await.unwrap();
    pair.mine(1).await;
    wait_for_phase(&pair.alice, "locked").await;
    let hers = swap(&pair.alice).await.give.unwrap();
    assert_eq!(hers.confirmations, 1);
    // Bob's swap hears of the block beside hers.
    wait_until("Bob to see the lock in its new block", || async {
        let his = swap(&pair.bob).await.get.unwrap();
        Ok((his.confirmations, &his.lock) == (1, &hers.lock))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_come_to_nothing_do_not_lead_a_restored_wallet_astray() {
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "node", &[]).unwrap();
    node.start().await.unwrap();
    let client = node.client().unwrap();
    let quote = |coins| SubmarineQuoteRequest { coins, payment: PAYMENT, ..Default::default() };
    for _ in 0..MANY_OFFERS {
        let offered = client.swap().quote_submarine(quote(COINS)).await.unwrap().into_inner();
        client.swap().cancel(SwapRequest { id: offered.id }).await.unwrap();
        // One that is refused has taken no address either.
        client.swap().quote_submarine(quote(1)).await.unwrap_err();
    }
    // What is under way has one of its own.
    for _ in 0..2 {
        client.swap().quote_submarine(quote(COINS)).await.unwrap();
    }
    let list = client.wallet_kit().list_addresses(ListAddressesRequest::default()).await.unwrap().into_inner();
    let given: usize = list.account_with_addresses.iter().map(|account| account.addresses.len()).sum();
    assert_eq!(given, 2, "addresses that were given out");
}
