//! The node's own money on the chain, and the seed from which all its keys come.

pub(crate) mod backup;
pub(crate) mod bump;
pub(crate) mod claims;
mod compose;
pub(crate) mod keys;
mod ledger;
pub(crate) mod listing;
pub(crate) mod onchain;
pub(crate) mod rescan;
pub(crate) mod reserve;
pub(crate) mod scripts;
pub mod seed;
