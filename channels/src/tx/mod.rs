//! Transactions of a channel (BOLT 3): built here, byte for byte, and nowhere else.
//!
//! ```text
//!  funding ──► commitment n ──► to_local ───────────────► delayed claim (owner) or penalty (other, if revoked)
//!     │             ├─────────► to_remote ──────────────► the other node
//!     │             ├─────────► anchors ────────────────► fee-bumping children
//!     │             └─────────► HTLC ──► HTLC-success /► delayed claim (owner) or penalty
//!     │                           │      HTLC-timeout
//!     │                           └────► direct claim by preimage or timeout (other), or penalty
//!     └──► closing
//! ```
//!
//! The papers' names: C1 is a commitment, RD the delayed claim, D `to_remote`, BR the penalty on `to_local`, HE and
//! HT the HTLC-success and HTLC-timeout transactions, HERD and HTRD their delayed claims, HBR and HTBR the penalties
//! on HTLC and second-stage outputs.

mod claim;
mod closing;
mod commitment;
pub mod fee;
mod funding;
mod htlc;
mod penalty;
mod recognise;
pub mod scripts;

pub use claim::{
    CLAIM_SIGNATURE_LEN, ClaimError, ClaimInput, ClaimPath, ClaimRequest, ClaimTx, FeeCoin, SecondStage, build_claim,
    claim_weight,
};
pub use closing::{ClosingInput, ClosingTx, ClosingTxError, build_closing, closing_weight, verify_closing};
pub use commitment::{
    CommitmentHtlc, CommitmentInput, CommitmentOutput, CommitmentParams, CommitmentSetup, CommitmentTx,
    CommitmentTxError, ObscuringFactor, OutputKind, build_commitment, verify_commitment,
};
pub use funding::{Funding, FundingSignatures, funding_script_pubkey, funding_witness_script};
pub use htlc::{HtlcSignatures, HtlcTx};
pub use penalty::{RevokedState, to_remote_claim};
pub use recognise::{RecognisedOutput, recognise_outputs};

#[cfg(test)]
mod tests;
