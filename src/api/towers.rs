//! The watchtowers that guard this node's channels.

use async_trait::async_trait;
use bitcoin::{OutPoint, secp256k1::PublicKey};
use leyden_channels::types::{CommitmentNumber, FeeratePerKw, NodeId};
use leyden_watchtower::{
    appointment::ClientId,
    client::{TowerChain, record::Proof},
    message::{Mode, Registered, SignedHeld},
    receipt::{Closed, Contradiction, Held},
};

use super::ApiError;

#[async_trait]
pub(crate) trait Towers: Send + Sync {
    /// Adds a tower, or another address of one that is there, durably; gives as whom it will know this node. `AlreadyExists` if
    /// it is there in the other mode.
    async fn add_tower(&self, tower: AddTower) -> Result<ClientId, ApiError>;
    /// `NotFound` if there is none. A tower has one address: to remove that alone (`address`) is a `FailedPrecondition`.
    async fn remove_tower(&self, key: PublicKey, address: Option<String>) -> Result<(), ApiError>;
    /// `NotFound` if there is none; twice is once.
    async fn deactivate_tower(&self, key: PublicKey) -> Result<(), ApiError>;
    async fn towers(&self) -> Result<TowerList, ApiError>;
    /// In the order of the funding outputs; `NotFound` if one is named that there is not.
    async fn coverage(&self, channel: Option<OutPoint>) -> Result<Vec<ChannelCoverage>, ApiError>;
    /// Has a tower read again what it signed for; `NotFound` if there is no such tower or channel.
    async fn audit_tower(&self, key: PublicKey, channel: Option<OutPoint>) -> Result<Vec<ChannelAudit>, ApiError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddTower {
    pub key: PublicKey,
    /// host:port.
    pub address: String,
    pub mode: Mode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TowerList {
    pub towers: Vec<Tower>,
    /// So many have to hold a revoked state before its channel goes on.
    pub required: u16,
    /// At which rate new towers are asked to claim.
    pub sweep_feerate: FeeratePerKw,
    /// Backups that could not be made, and places that towers have granted, since the start.
    pub failed: u64,
    pub registered: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tower {
    pub key: PublicKey,
    pub address: String,
    pub mode: Mode,
    /// It gets backups.
    pub active: bool,
    pub connected: bool,
    /// It answered when it was dialled last.
    pub reached: bool,
    /// How far its chain was when it was asked last.
    pub chain: Option<TowerChain>,
    /// What was wrong last.
    pub trouble: Option<String>,
    /// States that it holds, and that wait for it.
    pub held: u64,
    pub waiting: u64,
    pub granted: Option<Registered>,
    /// As whom it knows this node.
    pub client: ClientId,
    /// It broke its word.
    pub proof: Option<Proof>,
}

impl Tower {
    /// It holds as much as it has granted.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.granted.is_some_and(|granted| self.held >= granted.states)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelCoverage {
    pub funding: OutPoint,
    pub peer: NodeId,
    /// The newest state that the peer has revoked.
    pub revoked: Option<CommitmentNumber>,
    pub towers: Vec<TowerCoverage>,
    /// Its payments wait until more towers hold its last revoked state.
    pub payments_wait: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TowerCoverage {
    pub key: PublicKey,
    pub mode: Mode,
    /// What it signed for; the newest last.
    pub receipts: Vec<SignedHeld>,
    /// States that wait for it.
    pub waiting: u64,
    /// Why it does not hold every revoked state; `None` if it does.
    pub why_not: Option<String>,
    /// The channel's payments wait for it.
    pub waited_for: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelAudit {
    pub funding: OutPoint,
    pub outcome: AuditOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditOutcome {
    /// It has what it signed for.
    Holds(Held),
    /// It says that the channel is closed and all that came of it final, and the chain does not contradict that.
    Closed(Closed),
    /// By its own receipts it need not have anything any more.
    TermOver,
    /// It signed for this state and cannot show it: nothing that convinces others, and enough for this node.
    NotShown(CommitmentNumber),
    BrokeItsWord {
        contradiction: Contradiction,
        proof: Box<Proof>,
    },
    /// It has signed for nothing of this channel.
    NoReceipt,
    NotConnected,
    NoAnswer,
}
