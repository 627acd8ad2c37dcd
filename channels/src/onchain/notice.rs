//! What people hear at once of a closing channel.

use bitcoin::Txid;

use super::{Closer, history::Close};
use crate::types::{CommitmentNumber, Height};

/// News of a closing channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Notice {
    /// The funding output is spent in a block.
    Closed { by: &'static str, txid: Txid, height: Height },
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

impl Notice {
    /// Who closed it, and how.
    pub(super) fn of_close(close: &Close) -> Self {
        let Close { txid, height, .. } = *close;
        match &close.closer {
            Closer::Mutual => Self::Closed { by: "both nodes together", txid, height },
            Closer::Local(_) => Self::Closed { by: "this node", txid, height },
            Closer::Remote { .. } => Self::Closed { by: "the peer", txid, height },
            Closer::RemoteFuture { number } => Self::DataLoss { number: *number },
            Closer::Revoked { number, .. } => Self::Breach { number: *number, txid },
            Closer::LocalOld { number } => Self::OldLocalState { number: *number },
            Closer::Unknown => Self::UnknownSpend { txid },
        }
    }
}
