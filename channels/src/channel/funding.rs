//! Where the funding transaction of a channel stands, and what it stands on.
//!
//! ```text
//!              a block has it                       that block is taken back
//!   awaited ──────────────────► confirmed ─────────────────────────────────────► gone
//!      │                            ▲ deep enough                                 │
//!      │                            └───────────────── shallow ◄──────────────────┤ another block has it
//!      └── another transaction in a block spends one of its coins ──► double-spent ◄┘
//! ```
//!
//! Whether a channel can be used depends on it: an HTLC in a channel whose output is not on the best chain is a promise
//! without a coin behind it. Zero-conf channels are used before the first block by trust in who funds them, and that trust
//! goes no further than a double-spend that confirms.

use std::fmt;

use bitcoin::{OutPoint, Txid};

use crate::types::Height;

/// What the chain says of a funding transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum FundingState {
    /// No block has had it so far.
    Awaited,
    /// It is on the best chain. How deep it must be before the first use is for the channel's phase.
    Confirmed,
    /// It is on the best chain again after a reorganisation, and not deep enough yet.
    Shallow,
    /// A reorganisation has taken its block back.
    ReorgedOut,
    /// The transaction `by`, in the block at `height`, has spent a coin that it needs.
    DoubleSpent { by: Txid, height: Height },
}

impl FundingState {
    /// Whether the best chain has the funding output.
    pub const fn is_on_chain(self) -> bool {
        match self {
            Self::Confirmed | Self::Shallow => true,
            Self::Awaited | Self::ReorgedOut | Self::DoubleSpent { .. } => false,
        }
    }
}

impl fmt::Display for FundingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Awaited => f.write_str("its funding transaction is not in a block yet"),
            Self::Confirmed => f.write_str("its funding transaction is confirmed"),
            Self::Shallow => {
                f.write_str("its funding transaction has come back after a reorganisation and needs more confirmations")
            }
            Self::ReorgedOut => f.write_str("a reorganisation has taken its funding transaction back"),
            Self::DoubleSpent { by, height } => {
                write!(f, "transaction {by} in block {} has spent a coin of its funding transaction", height.0)
            }
        }
    }
}

/// A coin that the funding transaction cannot do without: that `by`, the funding transaction or an unconfirmed ancestor of
/// it, and nothing else, spends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FundingInput {
    /// The output that the funding transaction spends.
    pub coin: OutPoint,
    /// The funding transaction.
    pub by: Txid,
}
