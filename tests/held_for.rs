//! A held invoice belongs to whoever had it made: no crossing takes a swap's for its own, nor another daemon's.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::Folder;
use leyden_client::cluster::DaemonProcess;
use leyden_proto::leyden::{
    CrossingStatusRequest, GiveUpCrossingRequest, HoldCrossingRequest, ListSwapsRequest, LookAtHeldRequest,
    SubmarineAcceptRequest, SubmarineQuoteRequest,
};
use tonic::Code;

const COINS: i64 = 1_000_000;
const PAYMENT: i64 = 1_005_000;

async fn daemon(folder: &Folder, name: &str) -> DaemonProcess {
    let mut daemon = DaemonProcess::new(folder.path(), name, &[]).unwrap();
    daemon.start().await.unwrap();
    daemon
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// What a crossing of this book would have held.
fn order(payment_hash: &[u8], book: u8) -> HoldCrossingRequest {
    HoldCrossingRequest {
        payment_hash: payment_hash.to_vec(),
        amount_msat: PAYMENT as u64 * 1_000,
        expires: now() + 3_600,
        blocks: 500,
        book: vec![book; 32],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_held_invoice_of_a_swap_is_no_crossings() {
    let folder = Folder::new();
    let (alice, bob) = (daemon(&folder, "alice").await, daemon(&folder, "bob").await);
    let (alice, bob) = (alice.client().unwrap(), bob.client().unwrap());
    let quote = SubmarineQuoteRequest { out: true, coins: COINS, payment: PAYMENT, ..Default::default() };
    let offered = alice.swap().quote_submarine(quote).await.unwrap().into_inner();
    let accept = SubmarineAcceptRequest {
        offer: offered.offer,
        coins: COINS,
        payment: PAYMENT,
        locked_hours: 48,
        ..Default::default()
    };
    bob.swap().accept_submarine(accept.clone()).await.unwrap();

    let mut node = bob.crossing_node();
    let refused = node.hold(order(&offered.id, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    let look = LookAtHeldRequest { payment_hash: offered.id.clone(), book: vec![1; 32] };
    assert_eq!(node.look_at_held(look).await.unwrap().into_inner().state, "missing");
    node.give_up(GiveUpCrossingRequest { payment_hash: offered.id, book: vec![1; 32] }).await.unwrap();
    let swaps = bob.swap().list(ListSwapsRequest {}).await.unwrap().into_inner().swaps;
    assert_eq!(swaps[0].get.as_ref().unwrap().payment_state, "open", "a crossing has given a swap's invoice up");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_do_not_share_a_held_invoice() {
    let folder = Folder::new();
    let north = daemon(&folder, "north").await;
    let mut node = north.client().unwrap().crossing_node();
    let hash = [7; 32];
    let made = node.hold(order(&hash, 1)).await.unwrap().into_inner();
    assert_eq!(node.hold(order(&hash, 1)).await.unwrap().into_inner(), made, "the same order makes one invoice");
    assert_eq!(node.hold(order(&hash, 2)).await.unwrap_err().code(), Code::AlreadyExists);
    let look = |book| LookAtHeldRequest { payment_hash: hash.to_vec(), book: vec![book; 32] };
    assert_eq!(node.look_at_held(look(2)).await.unwrap().into_inner().state, "missing");
    node.give_up(GiveUpCrossingRequest { payment_hash: hash.to_vec(), book: vec![2; 32] }).await.unwrap();
    assert_eq!(node.look_at_held(look(1)).await.unwrap().into_inner().state, "open");
    assert_eq!(node.get_status(CrossingStatusRequest {}).await.unwrap().into_inner().directory.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_locks_the_acceptors_coins_for_longer_than_it_allows_is_refused() {
    let folder = Folder::new();
    let (alice, bob) = (daemon(&folder, "alice").await, daemon(&folder, "bob").await);
    let (alice, bob) = (alice.client().unwrap(), bob.client().unwrap());
    let quote = SubmarineQuoteRequest { out: true, coins: COINS, payment: PAYMENT, ..Default::default() };
    let offer = alice.swap().quote_submarine(quote).await.unwrap().into_inner().offer;
    let accept = |locked_hours| SubmarineAcceptRequest {
        offer: offer.clone(),
        coins: COINS,
        payment: PAYMENT,
        locked_hours,
        ..Default::default()
    };
    let refused = bob.swap().accept_submarine(accept(1)).await.unwrap_err();
    assert!(refused.message().contains("--inner-hours"), "{refused}");
    bob.swap().accept_submarine(accept(48)).await.unwrap();
}
