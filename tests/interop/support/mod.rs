//! What the tests and the benchmark share: nodes of both kinds on one chain.
#![allow(dead_code)]

pub mod chain;
pub mod crowd;
pub mod ldk;
pub mod ours;

pub use ldk::{Kind, Ldk};
