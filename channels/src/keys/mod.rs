//! Keys of a channel (BOLT 3, Keys).
//!
//! ```text
//!  channel seed ──HKDF──► basepoint secrets + commitment seed        (basepoints, signer)
//!                              │                 │
//!                              │           shachain: secret of commitment n ──► per_commitment_point
//!                              ▼                 ▼
//!                  basepoint + per_commitment_point ──► the keys of commitment n      (derive)
//! ```
//!
//! Promises: a per-commitment secret leaves [`Signer`] through one method only, which is meant for revoked states, and the
//! revocation basepoint's through another, which is meant for a watchtower of our own;
//! secrets are overwritten when dropped; nothing here draws randomness (signatures follow RFC 6979).

mod basepoints;
pub mod curve;
mod derive;
mod shachain;
mod signer;
#[cfg(test)]
mod vectors;

use std::sync::LazyLock;

use secp256k1::{All, Secp256k1};

pub use basepoints::{BasepointSecrets, Basepoints};
pub use derive::{
    CommitmentKeys, HtlcKeys, derive_public_key, derive_revocation_public_key, derive_revocation_secret_key,
    derive_secret_key,
};
pub use shachain::{PerCommitmentSecret, PerCommitmentSecrets, ShachainError, per_commitment_secret};
pub use signer::{
    ClaimKey, ClaimSecret, ClaimSigner, CommitmentSignatures, HtlcKey, KeysSigner, SignatureError, Signer,
};

/// Why a key could not be made, or used. The first two have a chance of about 2^-128 for honest keys, so a peer is to
/// blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum KeyError {
    #[error("a basepoint and a per-commitment point cancel out to the point at infinity; the peer must send others")]
    PointAtInfinity,
    #[error("these 32 bytes are no valid secret key: zero or beyond the order of the curve")]
    InvalidSecret,
    #[error("the secret behind this key is not here")]
    NotHeld,
}

/// The one context for signing and verifying; its tables are built at first use.
pub fn secp() -> &'static Secp256k1<All> {
    static CONTEXT: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);
    &CONTEXT
}
