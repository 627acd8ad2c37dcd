//! The demo's story as a test: what a newcomer sees first must work.

use leyden::demo::{DemoOptions, seed};

#[tokio::test(flavor = "multi_thread")]
async fn seed_story_ends_with_every_balance_right() {
    // The daemon's program is built beside this test.
    let _ = env!("CARGO_BIN_EXE_leydend");
    seed::play(DemoOptions::default()).await.expect("the demo ends well");
}
