//! The node's own money on the chain, and the seed from which all its keys come.

mod account;
pub(crate) mod backup;
pub(crate) mod bump;
pub(crate) mod claims;
mod compose;
pub(crate) mod funding_psbt;
mod key_scheme;
pub(crate) mod keys;
pub(crate) mod leases;
mod ledger;
pub(crate) mod listing;
pub(crate) mod onchain;
pub(crate) mod rescan;
pub(crate) mod reserve;
pub(crate) mod scripts;
pub mod seed;
