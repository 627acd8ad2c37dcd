//! What people hear at once of a closing channel.

use std::fmt;

use bitcoin::Txid;

use super::{Closer, history::Close};
use crate::types::{CommitmentNumber, Height};

/// News of a closing channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Notice {
    /// The funding output is spent in a block.
    Closed { by: ClosedBy, txid: Txid, height: Height },
    /// The close was taken back by a reorganisation.
    Reopened,
    /// The peer has published a revoked state.
    Breach { number: CommitmentNumber, txid: Txid },
    /// The funding output was spent in a way that we cannot explain: its keys may have leaked.
    UnknownSpend { txid: Txid },
    /// An old copy of our own data was used: the peer may take everything.
    OldLocalState { number: CommitmentNumber },
    /// We have lost data; only our plain balance can be claimed.
    DataLoss { number: CommitmentNumber },
}

/// Who has spent the funding output, where nobody did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// Both, with a closing transaction.
    Both,
    /// This node, with its latest commitment transaction.
    Local,
    /// The peer, with a commitment transaction that is not revoked.
    Remote,
}

impl fmt::Display for ClosedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both nodes together",
            Self::Local => "this node",
            Self::Remote => "the peer",
        })
    }
}

impl Notice {
    /// Who closed it, and how.
    pub(super) fn of_close(close: &Close) -> Self {
        let Close { txid, height, .. } = *close;
        match &close.closer {
            Closer::Mutual => Self::Closed { by: ClosedBy::Both, txid, height },
            Closer::Local(_) => Self::Closed { by: ClosedBy::Local, txid, height },
            Closer::Remote { .. } => Self::Closed { by: ClosedBy::Remote, txid, height },
            Closer::RemoteFuture { number } => Self::DataLoss { number: *number },
            Closer::Revoked { number, .. } => Self::Breach { number: *number, txid },
            Closer::LocalOld { number } => Self::OldLocalState { number: *number },
            Closer::Unknown => Self::UnknownSpend { txid },
        }
    }
}
