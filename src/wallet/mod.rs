//! The node's own money on the chain, and the seed from which all its keys come.

pub(crate) mod account;
pub(crate) mod accounts;
pub(crate) mod backup;
pub(crate) mod bump;
pub(crate) mod claims;
mod compose;
pub(crate) mod funding_psbt;
mod key_scheme;
pub(crate) mod keys;
pub(crate) mod leases;
mod ledger;
pub(crate) mod lent;
pub(crate) mod lent_psbt;
pub(crate) mod listing;
pub(crate) mod musig2;
pub(crate) mod musig2_sessions;
pub(crate) mod onchain;
pub(crate) mod psbt_funding;
pub(crate) mod psbt_signing;
pub(crate) mod rescan;
pub(crate) mod reserve;
pub(crate) mod scripts;
pub mod seed;
pub(crate) mod signing;
