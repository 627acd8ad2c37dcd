//! What the tests and the benchmark share: nodes of both kinds on one chain.
#![allow(dead_code)]

pub mod chain;
pub mod crowd;
pub mod ldk;
#[path = "../../harness/line.rs"]
pub mod line;
pub mod ours;

pub use ldk::{Kind, Ldk};
