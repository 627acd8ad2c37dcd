//! The towers at one moment, for people.

use bitcoin::OutPoint;
use leyden_channels::types::{ChannelId, CommitmentNumber, NodeId};
use leyden_watchtower::{
    appointment::ClientId,
    client::{
        Coverage, TowerChain,
        record::{Proof, TowerId, TowerRow},
    },
    receipt::{Closed, Contradiction, Held},
};

#[derive(Clone, Debug)]
pub(crate) struct TowersView {
    /// So many towers have to hold a revoked state before its channel goes on.
    pub required: u16,
    pub towers: Vec<TowerState>,
    /// Every channel that lives, in the order of their funding outputs.
    pub channels: Vec<ChannelTowers>,
    /// Backups that could not be made since the start.
    pub failed: u64,
    /// Towers that granted a place since the start.
    pub registered: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct TowerState {
    pub id: TowerId,
    pub row: TowerRow,
    /// As whom the tower knows this node.
    pub client: ClientId,
    /// It is connected and has said what it holds.
    pub is_ready: bool,
    /// How far its chain was when it was asked last.
    pub chain: Option<TowerChain>,
    /// It answered when it was dialled last.
    pub is_reached: bool,
    /// Why not, or what was wrong last.
    pub trouble: Option<String>,
    /// States that it holds, and states that wait for it.
    pub held: u64,
    pub waiting: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ChannelTowers {
    pub channel: ChannelId,
    pub funding: OutPoint,
    pub peer: NodeId,
    /// One a tower.
    pub coverage: Vec<Coverage>,
}

/// What came of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditOutcome {
    /// It has what it signed for.
    Passed(Held),
    /// It says that the channel is closed and all that came of it final, and the chain does not contradict that.
    Closed(Closed),
    /// By its own receipts it need not have anything any more.
    TermOver,
    /// It signed for this state and cannot show it: nothing that convinces others, and enough for this node.
    NotShown(CommitmentNumber),
    Failed {
        contradiction: Contradiction,
        proof: Box<Proof>,
    },
    /// It has signed for nothing of this channel.
    NoReceipt,
    NotConnected,
    NoAnswer,
}
