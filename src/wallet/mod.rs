//! The node's own money on the chain, and the seed from which all its keys come.

pub mod backup;
pub mod bump;
pub mod claims;
mod compose;
pub mod keys;
mod ledger;
pub mod listing;
pub mod onchain;
pub mod rescan;
pub mod reserve;
pub mod scripts;
pub mod seed;
