//! Our latest commitment transaction: the one that we would broadcast.

use super::spec::CommitmentSpec;
use crate::keys::CommitmentSignatures;
use crate::types::CommitmentNumber;

/// Our commitment, with the peer's signatures on it. All earlier ones are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalCommitment {
    pub number: CommitmentNumber,
    pub spec: CommitmentSpec,
    /// The peer's.
    pub signatures: CommitmentSignatures,
}
