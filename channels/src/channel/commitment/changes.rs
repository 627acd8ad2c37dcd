//! Updates on their way into both commitment transactions.
//!
//! ```text
//!  ours:    proposed ──commitment_signed sent──► signed ──revoke_and_ack received──► acked
//!                                                    ──commitment_signed received──► in both
//!  theirs:  proposed ──commitment_signed received (and revoked)──► acked ──commitment_signed sent──► signed
//!                                                    ──revoke_and_ack received──► in both, irrevocably
//! ```
//!
//! An update first changes the commitment of the node that did not send it, and only after that node's
//! `revoke_and_ack` the sender's own (BOLT 2, Normal Operation). Promises: an update is in one list at a time, and the
//! lists keep the order in which the updates were sent, so that a retransmission repeats it.

use crate::types::{FeeratePerKw, HtlcId, PaymentPreimage};

use super::spec::Htlc;

/// What an `update_` message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    Add(Htlc),
    Fulfill { id: HtlcId, preimage: PaymentPreimage },
    Fail { id: HtlcId, reason: Vec<u8> },
    FailMalformed { id: HtlcId, sha256_of_onion: [u8; 32], failure_code: u16 },
    Fee(FeeratePerKw),
}

impl Update {
    /// The HTLC (offered by the other side) that this update removes.
    pub const fn removes(&self) -> Option<HtlcId> {
        match self {
            Self::Fulfill { id, .. } | Self::Fail { id, .. } | Self::FailMalformed { id, .. } => Some(*id),
            Self::Add(_) | Self::Fee(_) => None,
        }
    }

    pub const fn feerate(&self) -> Option<FeeratePerKw> {
        match self {
            Self::Fee(feerate) => Some(*feerate),
            Self::Add(_) | Self::Fulfill { .. } | Self::Fail { .. } | Self::FailMalformed { .. } => None,
        }
    }

    pub const fn adds(&self) -> Option<&Htlc> {
        match self {
            Self::Add(htlc) => Some(htlc),
            Self::Fulfill { .. } | Self::Fail { .. } | Self::FailMalformed { .. } | Self::Fee(_) => None,
        }
    }
}

/// Updates that this node sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalChanges {
    /// Sent (or waiting for the connection), not signed.
    pub proposed: Vec<Update>,
    /// In the commitment that we have signed for the peer and that awaits its `revoke_and_ack`.
    pub signed: Vec<Update>,
    /// In the peer's commitment for good, not in ours yet.
    pub acked: Vec<Update>,
}

impl LocalChanges {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Update> + Clone {
        self.acked.iter().chain(&self.signed).chain(&self.proposed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.proposed.is_empty() && self.signed.is_empty() && self.acked.is_empty()
    }
}

/// Updates that the peer sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoteChanges {
    /// Received, not signed by the peer: forgotten when the connection ends.
    pub proposed: Vec<Update>,
    /// In our commitment, not in one that we have signed for the peer.
    pub acked: Vec<Update>,
    /// In the commitment that we have signed for the peer and that awaits its `revoke_and_ack`.
    pub signed: Vec<Update>,
}

impl RemoteChanges {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Update> + Clone {
        self.signed.iter().chain(&self.acked).chain(&self.proposed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.proposed.is_empty() && self.acked.is_empty() && self.signed.is_empty()
    }
}
