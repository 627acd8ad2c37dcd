//! Coins of one network for a Lightning payment on the other, and back, between people who each have both in one daemon.

use super::{
    Networks, PASSWORD, reconnected, save,
    swapping::{LATER, MEDIAN, Person, SUBSIDY, agree, coins, come_back_by_the_words, decoded, mine, value},
    wait_until_active,
};
use crate::harness::{DEEP, MATURE, Program, leyden, mempool};
use bitcoin::Amount;
use leyden::inside::seed::{self, KeyScheme, Seed};
use leyden_channels::{
    swap::{
        self, LegTerms,
        submarine::{Clock, Offer},
    },
    types::UnixTime,
};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::{NOBODY, calls::settled_balance},
};
use leyden_common::layout::Layout;
use leyden_proto::leyden::{
    CrossingRate, ListSwapsRequest, SetCrossingRateRequest, SubmarineAcceptRequest, SubmarineQuoteRequest,
    SwapAcceptRequest, SwapInfo, SwapInitiateRequest,
};
use leyden_proto::lnrpc::{ChangePasswordRequest, SendCoinsRequest, SendManyRequest, UnlockWalletRequest};
use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};
use tonic::{Code, Status};

/// Satoshi on north, and over Lightning on south: one for ten, and what is left is Bob's.
const COINS: i64 = 1_000_000;
const PAYMENT: i64 = 9_900_000;
/// Half of it back.
const COINS_BACK: i64 = 400_000;
const PAYMENT_BACK: i64 = 4_100_000;
/// In Bob's channel to Alice on south; half of it is hers.
const CAPACITY: i64 = 40_000_000;
const DEPTH: u32 = 7;
/// Not many more than a swap in needs, and fewer than [`LATER`].
const REFUND_HOURS: u32 = 47;

/// Alice has coins on north, and a channel to Bob on south.
async fn meet(networks: &Networks) -> (Person, Person) {
    let alice = Person::start(networks, "alice", true, None, &[]).await;
    let bob = Person::start(networks, "bob", true, Some(&alice), &[]).await;
    coins(&alice, &bob).await;
    bob.south().connect(alice.south()).await.unwrap();
    bob.south().open_channel(alice.south(), CAPACITY, CAPACITY / 2).await.unwrap();
    bob.south().mine(DEEP, Some(NOBODY)).await.unwrap();
    agree(bob.south(), alice.south()).await;
    usable(&alice, &bob).await;
    (alice, bob)
}

async fn usable(alice: &Person, bob: &Person) {
    for node in [alice.south(), bob.south()] {
        node.wait_for_active_channels(1).await.unwrap();
    }
}

async fn quoted(node: &DaemonProcess, request: SubmarineQuoteRequest) -> Result<Vec<u8>, Status> {
    let request = SubmarineQuoteRequest { depth: DEPTH, ..request };
    Ok(node.client().unwrap().swap().quote_submarine(request).await?.into_inner().offer)
}

async fn accepted(node: &DaemonProcess, request: SubmarineAcceptRequest) -> Result<Vec<u8>, Status> {
    let request = SubmarineAcceptRequest { depth: DEPTH, ..request };
    Ok(node.client().unwrap().swap().accept_submarine(request).await?.into_inner().acceptance)
}

async fn initiate(node: &DaemonProcess, acceptance: Vec<u8>) {
    node.client().unwrap().swap().initiate_submarine(SwapInitiateRequest { acceptance }).await.unwrap();
}

fn north() -> String {
    "north".to_owned()
}

/// The swap of this kind.
async fn listed(node: &DaemonProcess, kind: &str) -> SwapInfo {
    let list = node.client().unwrap().swap().list(ListSwapsRequest {}).await.unwrap().into_inner();
    list.swaps.into_iter().find(|swap| swap.kind == kind).unwrap()
}

async fn swap(person: &Person, kind: &str) -> SwapInfo {
    listed(person.south(), kind).await
}

async fn becomes(node: &DaemonProcess, kind: &str, phase: &str) {
    let what = format!("the swap {kind} of {} to be {phase}", node.name());
    wait_until(&what, || async { Ok(listed(node, kind).await.phase == phase) }).await.unwrap();
}

async fn reaches(person: &Person, kind: &str, phase: &str) {
    becomes(person.south(), kind, phase).await;
}

/// What somebody has in the channel on south, once nothing is on its way in it.
async fn local(person: &Person) -> i64 {
    let node = person.south();
    wait_until("the channel to rest", || async { Ok(node.only_channel().await?.pending_htlcs.is_empty()) })
        .await
        .unwrap();
    node.only_channel().await.unwrap().local_balance
}

fn told(refused: Result<Vec<u8>, Status>) -> String {
    refused.unwrap_err().message().to_owned()
}

/// What whoever pays believes of an offer of [`COINS`] on north.
fn pays_for_coins(offer: Vec<u8>) -> SubmarineAcceptRequest {
    SubmarineAcceptRequest {
        offer,
        pays: true,
        coins: COINS,
        payment: PAYMENT,
        coins_on: north(),
        ..SubmarineAcceptRequest::default()
    }
}

/// Into the channel and out of it; each is killed once in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn coins_of_one_network_go_into_a_channel_on_the_other_and_out_of_it() {
    let networks = Networks::new();
    let (mut alice, mut bob) = meet(&networks).await;
    let (hers, his) = (local(&alice).await, local(&bob).await);

    let quote =
        SubmarineQuoteRequest { coins: COINS, payment: PAYMENT, coins_on: north(), ..SubmarineQuoteRequest::default() };
    let east = SubmarineQuoteRequest { coins_on: "east".to_owned(), ..quote.clone() };
    assert!(told(quoted(alice.south(), east).await).contains("this one is south, the other one north"));
    let offer = quoted(alice.south(), quote).await.unwrap();
    let believed = pays_for_coins(offer);
    // The person says where both are, never the offer.
    let here = SubmarineAcceptRequest { coins_on: String::new(), ..believed.clone() };
    assert!(told(accepted(bob.south(), here).await).contains("accept it on south with --coins-on north"));
    let other_way = SubmarineAcceptRequest { coins_on: "south".to_owned(), ..believed.clone() };
    assert!(told(accepted(bob.north(), other_way).await).contains("accept it on south with --coins-on north"));
    let acceptance = accepted(bob.south(), believed).await.unwrap();
    initiate(alice.south(), acceptance).await;
    reaches(&alice, "in", "locking").await;
    alice.dies().await;
    usable(&alice, &bob).await;
    let lock = swap(&alice, "in").await.give.unwrap();
    assert_eq!((lock.network.as_str(), lock.expiry_height), ("north", 0));
    assert!(lock.expiry > 0);
    assert_eq!(swap(&alice, "in").await.get.unwrap().network, "south");
    mine(alice.north(), bob.north(), DEPTH).await;
    reaches(&bob, "in", "redeeming").await;
    reaches(&alice, "in", "settled").await;
    mine(alice.north(), bob.north(), 1).await;
    reaches(&bob, "in", "redeemed").await;
    assert_eq!((local(&alice).await, local(&bob).await), (hers + PAYMENT, his - PAYMENT));
    let rest = value(&decoded(&lock.lock_transaction)) - COINS;
    assert!((SUBSIDY - COINS - 10_000..SUBSIDY - COINS).contains(&rest), "{rest}");
    assert_eq!(settled_balance(alice.north(), rest).await.unwrap(), rest);
    let taken = value(&decoded(&swap(&bob, "in").await.get.unwrap().claim_transaction));
    assert!((COINS - 10_000..COINS).contains(&taken), "{taken}");
    assert_eq!(settled_balance(bob.north(), taken).await.unwrap(), taken);

    // And back, over the same channel.
    let quote = SubmarineQuoteRequest {
        out: true,
        coins: COINS_BACK,
        payment: PAYMENT_BACK,
        coins_on: north(),
        ..SubmarineQuoteRequest::default()
    };
    let offer = quoted(alice.south(), quote).await.unwrap();
    // Bob asks at least ten on south for one on north, and a fee.
    let rate = CrossingRate {
        incoming: "south".to_owned(),
        outgoing: north(),
        take: 10,
        give: 1,
        fee_ppm: 5_000,
        most_msat: 1_000_000_000,
        most_held_msat: 1_000_000_000,
        ..CrossingRate::default()
    };
    let at_rate = SubmarineAcceptRequest { offer, coins: COINS_BACK, coins_on: north(), ..Default::default() };
    assert!(told(accepted(bob.south(), at_rate.clone()).await).contains("no rate is set here for south against north"));
    let set = async |take| {
        let rate = Some(CrossingRate { take, ..rate.clone() });
        let request = SetCrossingRateRequest { rate, off: false };
        bob.south().client().unwrap().crossing().set_rate(request).await.unwrap();
    };
    set(11).await;
    assert!(told(accepted(bob.south(), at_rate.clone()).await).contains("is what your rate asks"));
    set(10).await;
    let acceptance = accepted(bob.south(), at_rate).await.unwrap();
    initiate(alice.south(), acceptance).await;
    reaches(&bob, "out", "locking").await;
    assert!(swap(&bob, "out").await.secret.is_empty());
    bob.dies().await;
    usable(&alice, &bob).await;
    mine(alice.north(), bob.north(), DEPTH).await;
    reaches(&alice, "out", "redeeming").await;
    reaches(&bob, "out", "settled").await;
    mine(alice.north(), bob.north(), 1).await;
    reaches(&alice, "out", "redeemed").await;
    let moved = PAYMENT - PAYMENT_BACK;
    assert_eq!((local(&alice).await, local(&bob).await), (hers + moved, his - moved));
    let back = value(&decoded(&swap(&alice, "out").await.get.unwrap().claim_transaction));
    assert!((COINS_BACK - 10_000..COINS_BACK).contains(&back), "{back}");
    assert_eq!(settled_balance(alice.north(), rest + back).await.unwrap(), rest + back);
    let said = leyden(bob.daemon.data_dir(), &["--network", "south", "swap", "list"]);
    // Bob may or may not have looked at the block with Alice's claim yet.
    let coins = ["sat on north, back after", "sat on north; taken by the other"];
    assert!(coins.iter().any(|told| said.contains(told)) && said.contains("over Lightning on south"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_on_one_network_come_back_when_nobody_pays_on_the_other() {
    let networks = Networks::new();
    let (mut alice, mut bob) = meet(&networks).await;
    let hers = local(&alice).await;
    let quote = SubmarineQuoteRequest {
        coins: COINS,
        payment: PAYMENT,
        coins_on: north(),
        refund_hours: REFUND_HOURS,
        ..SubmarineQuoteRequest::default()
    };
    let soon = SubmarineQuoteRequest { refund_hours: 24, ..quote.clone() };
    assert!(told(quoted(alice.south(), soon).await).contains(" are left until the coins go back"));
    let offer = quoted(alice.south(), quote).await.unwrap();
    let believed = pays_for_coins(offer);
    let acceptance = accepted(bob.south(), believed).await.unwrap();
    bob.daemon.kill();
    initiate(alice.south(), acceptance).await;
    reaches(&alice, "in", "locking").await;
    // The backup of the network that the payment is on has it before its lock is in a block.
    let kept = networks.data_dir("kept.backup");
    fs::copy(Layout::new(alice.daemon.data_dir().to_owned(), "south").channel_backup(), &kept).unwrap();
    let said = leyden(alice.daemon.data_dir(), &["--network", "south", "verifychanbackup", kept.to_str().unwrap()]);
    assert!(said.contains("1 swap"), "{said}");
    alice.north().mine(DEPTH, Some(NOBODY)).await.unwrap();
    reaches(&alice, "in", "locked").await;
    let rest = value(&decoded(&swap(&alice, "in").await.give.unwrap().lock_transaction)) - COINS;

    alice.daemon.kill();
    let both = networks.both();
    alice.daemon.set_flags(&[&both[..], &LATER[..]].concat());
    alice.begin().await;
    reaches(&alice, "in", "locked").await;
    alice.north().mine(MEDIAN, Some(NOBODY)).await.unwrap();
    reaches(&alice, "in", "refunding").await;
    alice.dies().await;
    wait_until("the refund to wait for a block", || async { Ok(mempool(alice.north()).await.len() == 1) })
        .await
        .unwrap();
    alice.north().mine(1, Some(NOBODY)).await.unwrap();
    reaches(&alice, "in", "refunded").await;
    let back = value(&decoded(&swap(&alice, "in").await.give.unwrap().claim_transaction));
    assert!((COINS - 10_000..COINS).contains(&back), "{back}");
    assert_eq!(settled_balance(alice.north(), rest + back).await.unwrap(), rest + back);
    assert!(swap(&alice, "in").await.secret.is_empty(), "the secret was never shown");
    assert_eq!(local(&alice).await, hers);
}

/// One lock could stand for both, and whoever accepts both would pay for it twice.
#[tokio::test(flavor = "multi_thread")]
async fn no_two_swaps_of_either_kind_with_one_secret_are_accepted() {
    let networks = Networks::new();
    let alice = Person::start(&networks, "alice", true, None, &[]).await;
    let bob = Person::start(&networks, "bob", true, Some(&alice), &[]).await;
    coins(&alice, &bob).await;
    let quote =
        SubmarineQuoteRequest { coins: COINS, payment: PAYMENT, coins_on: north(), ..SubmarineQuoteRequest::default() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Alice's key and secret, the coins that she locks for the payment, and the time when they come back: for coins as well.
    let atomic_of = |offer: &[u8]| {
        let offer = Offer::decode(offer).unwrap();
        let Clock::Time { refund, payment_chain } = offer.clock else { panic!("it is across two chains") };
        let inner = UnixTime(now + 23 * 3_600);
        let outer = LegTerms { chain: offer.chain, amount: offer.coins, expiry: refund };
        let inner = LegTerms { chain: payment_chain, amount: Amount::from_sat(10_000_000), expiry: inner };
        swap::Offer { hash: offer.hash, outer, inner, refund_key: offer.key, redeem_key: offer.key }.encode()
    };
    let bobs = bob.south();
    let accept_atomic = async |offer: &[u8]| {
        let offer = atomic_of(offer);
        let request =
            SwapAcceptRequest { offer, give: 10_000_000, get: COINS, depth: DEPTH, ..SwapAcceptRequest::default() };
        bobs.client().unwrap().swap().accept(request).await.map(|answer| answer.into_inner().acceptance)
    };
    let first = quoted(alice.south(), quote.clone()).await.unwrap();
    accepted(bobs, pays_for_coins(first.clone())).await.unwrap();
    let refused = accept_atomic(&first).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("one lock could stand for both"), "{refused}");
    // The other way about, and both at once.
    let second = quoted(alice.south(), quote).await.unwrap();
    let (atomic, submarine) = tokio::join!(accept_atomic(&second), accepted(bobs, pays_for_coins(second.clone())));
    let refusal = match (atomic, submarine) {
        (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
        (Ok(_), Ok(_)) => panic!("both were accepted"),
        (Err(one), Err(other)) => panic!("{one} {other}"),
    };
    assert!(refusal.message().contains("one lock could stand for both"), "{refusal}");
}

/// They have one password, unless its change was cut off between them.
#[tokio::test(flavor = "multi_thread")]
async fn no_swap_begins_while_the_wallet_that_has_the_coins_is_not_open() {
    const NEW: &str = "battery staple";
    let networks = Networks::new();
    let data_dir = networks.data_dir("carol");
    let words = Seed::from_entropy([93; 32], "").with_scheme(KeyScheme::Chain);
    for (network, password) in [("north", std::str::from_utf8(PASSWORD).unwrap()), ("south", NEW)] {
        let path = Layout::new(data_dir.clone(), network).wallet_seed();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        seed::save(&path, &words, Some(password)).unwrap();
    }
    let mut carol = Program::start(&data_dir, &networks.both());
    let locked = carol.client().await;
    let unlock = UnlockWalletRequest { wallet_password: PASSWORD.to_vec(), ..UnlockWalletRequest::default() };
    locked.unlocker().unlock_wallet(unlock).await.unwrap_err();
    let client = reconnected(&mut carol).await;
    let quote = SubmarineQuoteRequest {
        coins: COINS,
        payment: PAYMENT,
        coins_on: "south".to_owned(),
        depth: DEPTH,
        ..SubmarineQuoteRequest::default()
    };
    let refused = client.swap().quote_submarine(quote.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("the wallet of south is not open"), "{refused}");
    let change = ChangePasswordRequest {
        current_password: PASSWORD.to_vec(),
        new_password: NEW.as_bytes().to_vec(),
        ..ChangePasswordRequest::default()
    };
    client.unlocker().change_password(change).await.unwrap();
    wait_until_active(&client.clone().on_network("south").unwrap()).await;
    client.swap().quote_submarine(quote).await.unwrap();
    carol.stop().await;
}

/// The contract lies on south, and its keys are of the node on north, where the payment would have come in.
#[tokio::test(flavor = "multi_thread")]
async fn coins_locked_for_a_payment_come_back_by_the_words_and_the_script_alone() {
    let networks = Networks::new();
    let words = Seed::from_entropy([92; 32], "").with_scheme(KeyScheme::Chain);
    let alice = Person::start(&networks, "alice", true, None, &[]).await;
    for network in ["north", "south"] {
        save(&networks.data_dir("bob"), network, &words);
        save(&networks.data_dir("again"), network, &words);
    }
    let mut bob = Person::start(&networks, "bob", true, Some(&alice), &[]).await;
    coins(&alice, &bob).await;
    let coins_on = "south".to_owned();
    let quote = SubmarineQuoteRequest {
        coins: COINS,
        payment: PAYMENT,
        coins_on: coins_on.clone(),
        refund_hours: REFUND_HOURS,
        ..SubmarineQuoteRequest::default()
    };
    let offer = quoted(bob.north(), quote).await.unwrap();
    let believed = SubmarineAcceptRequest { coins_on, ..pays_for_coins(offer) };
    initiate(bob.north(), accepted(alice.north(), believed).await.unwrap()).await;
    becomes(bob.north(), "in", "locking").await;
    mine(bob.south(), alice.south(), 1).await;
    becomes(bob.north(), "in", "locked").await;
    let give = listed(bob.north(), "in").await.give.unwrap();
    let total = value(&decoded(&give.lock_transaction));
    bob.daemon.kill();
    fs::remove_dir_all(bob.daemon.data_dir()).unwrap();
    come_back_by_the_words(&networks, &alice, &hex::encode(&give.contract), &give.lock, total).await;
}

/// Alice has a daemon for each network, and the one that the payment is on is a light node; Bob has one daemon for both.
#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_of_one_person_swap_as_one_does_and_wait_for_each_other() {
    let networks = Networks::new();
    let bob = Person::start(&networks, "bob", true, None, &[]).await;
    let (to_north, to_south) = (bob.north().chain_address().unwrap(), bob.south().chain_address().unwrap());
    let flags = ["--network", &networks.north, "--chain-connect", &to_north];
    let mut with_coins = DaemonProcess::new(networks.folder.path(), "alice-north", &flags).unwrap();
    with_coins.start().await.unwrap();
    let beside = with_coins.data_dir().display().to_string();
    let flags = ["--network", &networks.south, "--light", "--chain-connect", &to_south, "--swap-with", &beside];
    let mut paid = DaemonProcess::new(networks.folder.path(), "alice-south", &flags).unwrap();
    paid.start().await.unwrap();
    with_coins.mine(1, None).await.unwrap();
    with_coins.mine(MATURE, Some(NOBODY)).await.unwrap();
    agree(&with_coins, bob.north()).await;
    bob.south().mine(MATURE, Some(NOBODY)).await.unwrap();
    agree(bob.south(), &paid).await;

    let quote =
        SubmarineQuoteRequest { coins: COINS, payment: PAYMENT, coins_on: north(), ..SubmarineQuoteRequest::default() };
    let here = SubmarineQuoteRequest { coins_on: String::new(), ..quote.clone() };
    let refused = told(quoted(&paid, here).await);
    assert!(refused.contains("your node on south is a light one"), "{refused}");
    let offer = quoted(&paid, quote.clone()).await.unwrap();
    let acceptance = accepted(bob.south(), pays_for_coins(offer)).await.unwrap();
    with_coins.kill();
    let away = told(quoted(&paid, quote).await);
    assert!(away.contains("no daemon answers on"), "{away}");
    // It begins when the other one is there.
    let _ = paid.client().unwrap().swap().initiate_submarine(SwapInitiateRequest { acceptance }).await.unwrap();
    wait_until("the other daemon to be missed", || async {
        Ok(listed(&paid, "in").await.warnings.iter().any(|warning| warning.contains("no daemon answers on")))
    })
    .await
    .unwrap();
    with_coins.start().await.unwrap();
    becomes(&paid, "in", "locking").await;
    assert_eq!(listed(&paid, "in").await.give.unwrap().network, "north");
    mine(&with_coins, bob.north(), 1).await;
    becomes(&paid, "in", "locked").await;
    assert!(listed(&paid, "in").await.warnings.is_empty());
}

/// Addresses of private chains begin alike, so nobody sees which network one is of; the daemon does.
#[tokio::test(flavor = "multi_thread")]
async fn coins_are_not_sent_to_an_address_of_the_wallet_on_the_other_network() {
    let networks = Networks::new();
    let carol = Person::start(&networks, "carol", true, None, &[]).await;
    carol.north().mine(1, None).await.unwrap();
    carol.north().mine(MATURE, Some(NOBODY)).await.unwrap();
    assert_eq!(settled_balance(carol.north(), SUBSIDY).await.unwrap(), SUBSIDY);
    let (own, other) = (carol.north().new_address().await.unwrap(), carol.south().new_address().await.unwrap());
    let send = async |addr: &str| {
        let request = SendCoinsRequest { addr: addr.to_owned(), amount: 100_000, ..SendCoinsRequest::default() };
        carol.north().client().unwrap().lightning().send_coins(request).await
    };
    let told = send(&other).await.unwrap_err().message().to_owned();
    assert!(told.contains("of your wallet on south, and the coins are on north"), "{told}");
    let addr_to_amount = [(own.clone(), 100_000), (other, 100_000)].into_iter().collect();
    let many = SendManyRequest { addr_to_amount, ..SendManyRequest::default() };
    let refused = carol.north().client().unwrap().lightning().send_many(many).await.unwrap_err();
    assert!(refused.message().contains("of your wallet on south"), "{refused}");
    assert!(mempool(carol.north()).await.is_empty());
    send(&own).await.unwrap();
}
