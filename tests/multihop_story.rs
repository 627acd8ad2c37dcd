//! The paper's payment as a test.

use leyden::demo::{DemoOptions, multihop};

#[tokio::test(flavor = "multi_thread")]
async fn multihop_story_ends_with_every_amount_and_lock_right() {
    // The daemon's program is built beside this test.
    let _ = env!("CARGO_BIN_EXE_leydend");
    multihop::play(DemoOptions::default()).await.expect("the demo ends well");
}
