//! Coins of the two networks of one daemon for coins of the other, between people who each have one.

use std::fs;

use super::{Networks, save};
use crate::harness::{MATURE, height, leyden, mempool, run_leyden};
use bitcoin::{Transaction, consensus};
use leyden::inside::seed::{KeyScheme, Seed};
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, wait_until},
    demo::{NOBODY, calls::settled_balance},
};
use leyden_proto::leyden::{
    ListSwapsRequest, SwapAcceptRequest, SwapInfo, SwapInitiateRequest, SwapQuoteRequest, SwapRedeemRequest,
    SwapRequest,
};

const NORTH: i64 = 100_000_000;
const SOUTH: i64 = 1_000_000_000;
/// What a block of either network creates.
pub const SUBSIDY: i64 = 5_000_000_000;
/// Confirmations that a lock needs.
const DEPTH: u32 = 7;
/// Blocks whose median time is what it is now: half of eleven, and one.
pub const MEDIAN: u32 = 6;

/// One daemon with both networks.
pub struct Person {
    pub daemon: DaemonProcess,
    second: Option<DaemonProcess>,
    is_north_first: bool,
}

impl Person {
    /// `beside`: whose chains are followed.
    pub async fn start(
        networks: &Networks,
        name: &str,
        is_north_first: bool,
        beside: Option<&Self>,
        more: &[&str],
    ) -> Self {
        let (north, south) = (networks.north.as_str(), networks.south.as_str());
        let (first, second) = if is_north_first { (north, south) } else { (south, north) };
        let mut flags = vec!["--network", first, "--also", second];
        let address = |is_north: bool| beside.map(|beside| beside.on(is_north).chain_address().unwrap());
        let (to_first, to_second) = (address(is_north_first), address(!is_north_first));
        if let (Some(to_first), Some(to_second)) = (&to_first, &to_second) {
            flags.extend(["--chain-connect", to_first, "--also-chain-connect", to_second]);
        }
        flags.extend(more);
        let daemon = DaemonProcess::new(networks.folder.path(), name, &flags).unwrap();
        let mut person = Self { daemon, second: None, is_north_first };
        person.begin().await;
        person
    }

    pub async fn begin(&mut self) {
        self.daemon.start().await.unwrap();
        let name = format!("{} on the other", self.daemon.name());
        self.second = Some(self.daemon.on_second(&name).unwrap());
    }

    /// Killed, and started again.
    pub async fn dies(&mut self) {
        self.daemon.kill();
        self.begin().await;
    }

    fn on(&self, is_north: bool) -> &DaemonProcess {
        if is_north == self.is_north_first { &self.daemon } else { self.second.as_ref().unwrap() }
    }

    pub fn north(&self) -> &DaemonProcess {
        self.on(true)
    }

    pub fn south(&self) -> &DaemonProcess {
        self.on(false)
    }

    /// The first network's.
    fn client(&self) -> Client {
        self.daemon.client().unwrap().clone()
    }

    async fn swap(&self) -> SwapInfo {
        let list = self.client().swap().list(ListSwapsRequest {}).await.unwrap().into_inner();
        list.swaps.into_iter().next().unwrap()
    }

    async fn reaches(&self, phase: &str) {
        let what = format!("the swap of {} to be {phase}", self.daemon.name());
        wait_until(&what, || async { Ok(self.swap().await.phase == phase) }).await.unwrap();
    }
}

pub async fn agree(miner: &DaemonProcess, other: &DaemonProcess) {
    other.wait_for_height(miner.height().await.unwrap()).await.unwrap();
}

/// What waits is in the miner's mempool first: from the other's daemon it has to travel.
pub async fn mine(miner: &DaemonProcess, other: &DaemonProcess, blocks: u32) {
    wait_until("a transaction of the swap to be in the miner's mempool", || async {
        Ok(!mempool(miner).await.is_empty())
    })
    .await
    .unwrap();
    miner.mine(blocks, Some(NOBODY)).await.unwrap();
    agree(miner, other).await;
}

/// Alice has a coin on north, Bob one on south.
pub async fn coins(alice: &Person, bob: &Person) {
    for (miner, other) in [(alice.north(), bob.north()), (bob.south(), alice.south())] {
        miner.mine(1, None).await.unwrap();
        miner.mine(MATURE, Some(NOBODY)).await.unwrap();
        agree(miner, other).await;
    }
}

/// Alice gives north for Bob's south, up to her lock.
async fn begin(alice: &Person, bob: &Person, by_hand: bool) {
    let give_other = !alice.is_north_first;
    let quote = SwapQuoteRequest { give: NORTH, get: SOUTH, give_other, by_hand, depth: DEPTH, ..Default::default() };
    let offer = alice.client().swap().quote(quote).await.unwrap().into_inner().offer;
    let give_other = bob.is_north_first;
    let (give, get) = (SOUTH, NORTH);
    let accept = SwapAcceptRequest { offer, give, get, give_other, by_hand, depth: DEPTH, ..Default::default() };
    let acceptance = bob.client().swap().accept(accept).await.unwrap().into_inner().acceptance;
    alice.client().swap().initiate(SwapInitiateRequest { acceptance }).await.unwrap();
    alice.reaches("locking").await;
}

pub fn decoded(bytes: &[u8]) -> Transaction {
    consensus::deserialize(bytes).unwrap()
}

pub fn value(transaction: &Transaction) -> i64 {
    transaction.output.iter().map(|output| i64::try_from(output.value.to_sat()).unwrap()).sum()
}

/// Both have what was agreed, less the fees of their own transactions, and nothing else has moved.
async fn settled(alice: &Person, bob: &Person) {
    let (hers, his) = (alice.swap().await, bob.swap().await);
    assert!(!his.secret.is_empty() && hers.secret == his.secret);
    for (swap, gives, gets) in
        [(&hers, (alice.north(), NORTH), (alice.south(), SOUTH)), (&his, (bob.south(), SOUTH), (bob.north(), NORTH))]
    {
        let (give, get) = (swap.give.as_ref().unwrap(), swap.get.as_ref().unwrap());
        let rest = value(&decoded(&give.lock_transaction)) - gives.1;
        let got = value(&decoded(&get.claim_transaction));
        assert!((SUBSIDY - gives.1 - 10_000..SUBSIDY - gives.1).contains(&rest), "{rest}");
        assert!((gets.1 - 10_000..gets.1).contains(&got), "{got}");
        for (node, expected) in [(gives.0, rest), (gets.0, got)] {
            assert_eq!(settled_balance(node, expected).await.unwrap(), expected, "{}", node.name());
        }
    }
}

/// Each is killed once after each step; Bob has named his networks the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn coins_of_two_networks_are_traded_between_two_daemons_that_are_killed_at_each_step() {
    let networks = Networks::new();
    let mut alice = Person::start(&networks, "alice", true, None, &[]).await;
    let mut bob = Person::start(&networks, "bob", false, Some(&alice), &[]).await;
    coins(&alice, &bob).await;
    begin(&alice, &bob, false).await;
    alice.dies().await;
    bob.dies().await;
    mine(alice.north(), bob.north(), DEPTH).await;
    bob.reaches("locking").await;
    bob.dies().await;
    mine(bob.south(), alice.south(), DEPTH).await;
    alice.reaches("redeeming").await;
    alice.dies().await;
    mine(bob.south(), alice.south(), 1).await;
    alice.reaches("redeemed").await;
    bob.reaches("redeeming").await;
    bob.dies().await;
    mine(alice.north(), bob.north(), 1).await;
    bob.reaches("redeemed").await;
    settled(&alice, &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_of_two_networks_are_traded_by_hand() {
    let networks = Networks::new();
    let alice = Person::start(&networks, "alice", true, None, &[]).await;
    let bob = Person::start(&networks, "bob", true, Some(&alice), &[]).await;
    coins(&alice, &bob).await;
    begin(&alice, &bob, true).await;
    let id = alice.swap().await.id;
    let redeem = || SwapRedeemRequest { id: id.clone(), secret: Vec::new() };
    mine(alice.north(), bob.north(), DEPTH).await;
    assert!(bob.swap().await.give.unwrap().lock.is_empty(), "nothing is locked without a command");
    assert!(alice.client().swap().redeem(redeem()).await.is_err(), "there is nothing to take yet");
    bob.client().swap().participate(SwapRequest { id: id.clone() }).await.unwrap();
    bob.reaches("locking").await;
    mine(bob.south(), alice.south(), DEPTH).await;
    alice.reaches("redeemable").await;
    alice.client().swap().redeem(redeem()).await.unwrap();
    mine(bob.south(), alice.south(), 1).await;
    alice.reaches("redeemed").await;
    bob.reaches("redeemable").await;
    bob.client().swap().redeem(redeem()).await.unwrap();
    mine(alice.north(), bob.north(), 1).await;
    bob.reaches("redeemed").await;
    settled(&alice, &bob).await;
}

/// 49 hours later.
pub const LATER: [&str; 2] = ["--regtest-clock-shift", "176400"];

#[tokio::test(flavor = "multi_thread")]
async fn who_is_left_alone_has_the_coins_back_although_the_daemon_was_killed() {
    let networks = Networks::new();
    let mut alice = Person::start(&networks, "alice", true, None, &[]).await;
    let mut bob = Person::start(&networks, "bob", true, Some(&alice), &[]).await;
    coins(&alice, &bob).await;
    begin(&alice, &bob, false).await;
    bob.daemon.kill();
    alice.north().mine(DEPTH, Some(NOBODY)).await.unwrap();
    alice.reaches("locked").await;
    let rest = value(&decoded(&alice.swap().await.give.unwrap().lock_transaction)) - NORTH;

    alice.daemon.kill();
    let both = networks.both();
    alice.daemon.set_flags(&[&both[..], &LATER[..]].concat());
    alice.begin().await;
    alice.reaches("locked").await;
    alice.north().mine(MEDIAN, Some(NOBODY)).await.unwrap();
    alice.reaches("refunding").await;
    alice.dies().await;
    wait_until("the refund to wait for a block", || async { Ok(mempool(alice.north()).await.len() == 1) })
        .await
        .unwrap();
    alice.north().mine(1, Some(NOBODY)).await.unwrap();
    alice.reaches("refunded").await;
    let back = value(&decoded(&alice.swap().await.give.unwrap().claim_transaction));
    assert!((NORTH - 10_000..NORTH).contains(&back), "{back}");
    assert_eq!(settled_balance(alice.north(), rest + back).await.unwrap(), rest + back);
    assert!(alice.swap().await.secret.is_empty(), "the secret was never shown");
}

/// The contract lies on south, and its keys are of the node on north, where the swap was made.
#[tokio::test(flavor = "multi_thread")]
async fn coins_on_the_other_network_come_back_by_the_words_and_the_script_alone() {
    let networks = Networks::new();
    let words = Seed::from_entropy([91; 32], "").with_scheme(KeyScheme::Chain);
    let alice = Person::start(&networks, "alice", true, None, &[]).await;
    for network in ["north", "south"] {
        save(&networks.data_dir("bob"), network, &words);
        save(&networks.data_dir("again"), network, &words);
    }
    let mut bob = Person::start(&networks, "bob", true, Some(&alice), &[]).await;
    coins(&alice, &bob).await;
    let quote = SwapQuoteRequest { give: SOUTH, get: NORTH, give_other: true, depth: DEPTH, ..Default::default() };
    let offer = bob.client().swap().quote(quote).await.unwrap().into_inner().offer;
    let accept = SwapAcceptRequest { offer, give: NORTH, get: SOUTH, depth: DEPTH, ..Default::default() };
    let acceptance = alice.client().swap().accept(accept).await.unwrap().into_inner().acceptance;
    bob.client().swap().initiate(SwapInitiateRequest { acceptance }).await.unwrap();
    bob.reaches("locking").await;
    mine(bob.south(), alice.south(), 1).await;
    bob.reaches("locked").await;
    let give = bob.swap().await.give.unwrap();
    let rest = value(&decoded(&give.lock_transaction)) - SOUTH;
    bob.daemon.kill();
    fs::remove_dir_all(bob.daemon.data_dir()).unwrap();

    let total = rest + SOUTH;
    come_back_by_the_words(&networks, &alice, &hex::encode(&give.contract), &give.lock, total).await;
}

/// The wallet that "again" has the words of takes the coins of a contract on south, which a swap of the node on north has locked.
/// So much is there in all, before fees.
pub async fn come_back_by_the_words(networks: &Networks, alice: &Person, contract: &str, lock: &str, total: i64) {
    // The clock is shifted on the first network alone.
    let again = Person::start(networks, "again", false, Some(alice), &LATER).await;
    // A clock that is so far ahead of others' is doubted, so the wallet's word is not waited for.
    let all = height(alice.south()).await;
    wait_until("the blocks of south", || async { Ok(height(again.south()).await == all) }).await.unwrap();
    let arguments = ["--network", "north", "swap", "reclaim", contract, lock];
    let early = run_leyden(again.daemon.data_dir(), &arguments);
    let told = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && told.contains("before the median time"), "{told}");
    again.south().mine(MEDIAN, Some(NOBODY)).await.unwrap();
    leyden(again.daemon.data_dir(), &arguments);
    wait_until("the refund to wait for a block", || async { Ok(mempool(again.south()).await.len() == 1) })
        .await
        .unwrap();
    again.south().mine(1, Some(NOBODY)).await.unwrap();
    let least = total - 10_000;
    wait_until("the coins to be back", || async {
        Ok((least..total).contains(&again.south().wallet_balance().await?))
    })
    .await
    .unwrap();
}
