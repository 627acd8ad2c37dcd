//! The peer's commitment transactions: the one that it holds, and perhaps a next one that we have signed.
//!
//! ```text
//!   Unready ──channel_ready──► Settled ──commitment_signed sent──► AwaitingRevocation
//!                                 ▲                                       │
//!                                 └────────revoke_and_ack received────────┘
//! ```

use secp256k1::PublicKey;

use super::spec::CommitmentSpec;
use crate::types::CommitmentNumber;

/// A commitment of the peer that we have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteCommitment {
    pub number: CommitmentNumber,
    pub spec: CommitmentSpec,
    pub per_commitment_point: PublicKey,
}

/// Which commitments the peer may broadcast without being punished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// The oldest that is not revoked.
    pub current: RemoteCommitment,
    pub stage: RemoteStage,
}

/// What comes after [`Remote::current`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RemoteStage {
    /// `channel_ready` has not told the next point yet: nothing can be signed.
    Unready,
    /// We may sign the next one, with this point.
    Settled { next_point: PublicKey },
    /// We have signed `next`; until the peer revokes the current one it may broadcast either.
    AwaitingRevocation {
        next: RemoteCommitment,
        /// The number of our own commitment when we signed: tells, after a reconnection, whether our
        /// `commitment_signed` went before or after our last `revoke_and_ack`.
        signed_at: CommitmentNumber,
    },
}

impl Remote {
    pub(crate) const fn next(&self) -> Option<&RemoteCommitment> {
        match &self.stage {
            RemoteStage::Unready | RemoteStage::Settled { .. } => None,
            RemoteStage::AwaitingRevocation { next, .. } => Some(next),
        }
    }

    /// The newest commitment that we have signed.
    pub(crate) const fn latest(&self) -> &RemoteCommitment {
        match &self.stage {
            RemoteStage::Unready | RemoteStage::Settled { .. } => &self.current,
            RemoteStage::AwaitingRevocation { next, .. } => next,
        }
    }
}
