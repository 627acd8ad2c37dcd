//! What `leydend` and its clients must agree on outside the `.proto` files: where files lie in the data directory
//! ([`layout`]) and how they are written ([`files`]), the form of a macaroon ([`macaroon`]), names in the API that no
//! `.proto` holds ([`names`]), results of benchmarks ([`bench`]), and how other people's words are shown ([`words`]).
//!
//! No database, no network, no chain: whoever uses this crate links none of them.

#![warn(missing_docs)]

pub mod bench;
pub mod files;
pub mod layout;
pub mod macaroon;
pub mod names;
pub mod words;
