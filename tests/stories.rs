//! The demo's stories as tests: what a newcomer sees first must work.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use leyden_client::demo::{
    DemoOptions, breach, crossing, force_close, multihop, seed, submarine, submarine_across, swap, tower,
};

/// The daemon's program is built beside this test.
const _DAEMON: &str = env!("CARGO_BIN_EXE_leydend");

#[tokio::test(flavor = "multi_thread")]
async fn seed_story_ends_with_every_balance_right() {
    seed::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn multihop_story_ends_with_every_amount_and_lock_right() {
    multihop::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn force_close_story_ends_with_both_sides_paid_after_the_delay() {
    force_close::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn breach_story_ends_with_nothing_left_to_the_cheater() {
    breach::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn tower_story_ends_with_nothing_left_to_the_cheater_of_somebody_who_is_away() {
    tower::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_story_ends_with_one_coin_for_ten() {
    swap::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_refund_story_ends_with_the_coin_back_after_48_hours() {
    swap::play_refund(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_by_hand_story_ends_with_one_coin_for_ten() {
    swap::play_by_hand(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn submarine_story_ends_with_a_channel_filled_and_emptied() {
    submarine::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn submarine_across_story_ends_with_coins_of_north_paid_for_on_south_and_back() {
    submarine_across::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn crossing_story_ends_with_the_payee_paid_on_the_other_network() {
    crossing::play(DemoOptions::default()).await.expect("the demo ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn crossing_story_ends_the_same_with_both_networks_in_one_daemon() {
    crossing::play_in_one(DemoOptions::default()).await.expect("the demo ends well");
}
