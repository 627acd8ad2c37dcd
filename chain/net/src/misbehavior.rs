//! What a peer may not do, and what it costs.
//!
//! Faults that no honest peer can commit end the connection and discourage the address at once. Faults that may come
//! from a race or another policy add up; at [`LIMIT`] points the peer goes as well. Faults that prove nothing (an
//! unknown message, a transaction that we refuse) cost nothing.

use std::net::IpAddr;

/// The score at which a peer is let go and its address discouraged.
pub const LIMIT: u32 = 100;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum Misbehavior {
    #[error("a message has more entries than the protocol allows")]
    Oversized,
    #[error("headers do not follow each other")]
    NonContinuousHeaders,
    #[error("a header lacks its proof of work")]
    MissingProofOfWork,
    #[error("a header is invalid")]
    InvalidHeader,
    #[error("a long list of headers connects to nothing")]
    UnconnectingHeaders,
    #[error("too many headers of a chain with little work")]
    LowWorkHeaders,
    #[error("a block is invalid")]
    InvalidBlock,
    #[error("a block's content does not fit its header")]
    MutatedBlock,
    #[error("a compact block, or what completes it, does not have the form that it must have")]
    CompactBlock,
    #[error("it asks for transactions that a block does not have")]
    BeyondBlock,
    #[error("a transaction is invalid")]
    InvalidTransaction,
    #[error("too many requests wait for an answer")]
    TooManyRequests,
    #[error("it asks for block filters that nobody may ask for at once")]
    FilterRequest,
    #[error("block filters do not answer what was asked for")]
    FilterAnswer,
    #[error("a block filter leaves out what its block has")]
    FilterLie,
}

impl Misbehavior {
    /// The points that the fault adds.
    pub fn points(self) -> u32 {
        match self {
            Self::NonContinuousHeaders
            | Self::MissingProofOfWork
            | Self::InvalidHeader
            | Self::LowWorkHeaders
            | Self::InvalidBlock
            | Self::MutatedBlock
            | Self::CompactBlock
            | Self::BeyondBlock
            // Whoever relays one has checked it, and each may cost us a second of signature checks.
            | Self::InvalidTransaction
            | Self::TooManyRequests
            | Self::FilterRequest
            | Self::FilterAnswer
            | Self::FilterLie => LIMIT,
            Self::Oversized | Self::UnconnectingHeaders => 20,
        }
    }
}

/// Does discouraging this address make sense? On one machine all nodes share the loopback address.
pub(crate) fn may_be_discouraged(address: IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
}
