//! What can happen to a tower, and what it asks for.

use std::collections::HashMap;

use bitcoin::{Transaction, Txid};
use leyden_channels::{
    channel::Outbox,
    keys::KeyError,
    onchain::{EnforcementPolicy, FeeEstimates, Rejection, ResolutionError},
    types::{CommitmentNumber, Height, Uptime},
};
use secp256k1::SecretKey;

use crate::{
    appointment::{ChannelName, ClientId},
    codec::ReadError,
    kit::OpenError,
    mark::Mark,
    message::{Acknowledged, AssemblyError, Audited, Has, Mode, SignedClosed, SignedHeld, State, TowerMessage},
    receipt::{Audit, Closing, Holding},
    record::{Archive, Key, Unread},
};

/// What a tower's state machine answers with: rows to store, then effects.
pub type TowerOutbox = Outbox<Effect, Key>;

/// What a tower's state machine hears.
#[derive(Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Event<'a> {
    /// A client's connection is up: the handshake has shown its key. It replaces an older one.
    Connected(ClientId),
    /// Its connection is gone, from whichever side.
    Disconnected(ClientId),
    /// A message that has come from a connected client.
    Message(ClientId, TowerMessage),
    /// The next block, or one that was seen before.
    Block(BlockSeen<'a>),
    /// The blocks above this height were disconnected; `hash` is that of the block at this height.
    Reorganized { to: Height, hash: [u8; 32] },
    /// A transaction has come into the mempool.
    Mempool(&'a Transaction),
    /// A broadcast was refused.
    Rejected { txid: Txid, cause: Rejection },
    /// All blocks that there are have been fed: after a start, and whenever penalties should be broadcast again.
    Tip,
    /// There is nothing else to do.
    Idle,
}

/// A block of the best chain, as the driver read it.
#[derive(Clone, Copy, Debug)]
pub struct BlockSeen<'a> {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: [u8; 32],
    /// All of them, in their order.
    pub transactions: &'a [Transaction],
}

/// What an event is handled with.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The highest block that is known, if only by its header.
    pub newest: Height,
    /// Whether the chain may be as far as it is known here: if not, nobody is promised anything new.
    pub tip_is_sure: bool,
    /// Of the monotonic clock, for budgets.
    pub now: Uptime,
    /// What the next blocks cost, for penalties.
    pub estimates: &'a FeeEstimates,
    /// How much of a claim may go to fees.
    pub policy: &'a EnforcementPolicy,
    /// What was stored up to the last commit.
    pub archive: &'a dyn Archive,
}

/// What the driver has to do after the commit. All of it is harmless to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To a connected client.
    Send(ClientId, TowerMessage),
    /// Sign, then send.
    Sign(ClientId, ToSign),
    /// End this client's connection, and say why in the log.
    HangUp(ClientId, HangUp),
    /// And again at every start, until it is final.
    Broadcast(Transaction),
    /// For the tower's owner, and for the log.
    Notice(Notice),
    /// Feed this block again: a backup may have come after its breach.
    Reread(Height),
    /// There is more to do at the next [`Event::Idle`].
    MoreWhenIdle,
}

/// What leaves a tower with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum ToSign {
    /// A receipt.
    Acknowledged(Holding),
    /// The answer to a question about a channel.
    State { remaining: u32, channel: ChannelName, shown: Shown },
    /// The answer to an audit.
    Audited(Audit),
}

/// What a client is shown of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Shown {
    /// There is no backup of it.
    Nothing,
    /// A receipt, and the newest state's mark.
    Backups { holding: Holding, mark: Mark },
    /// How it ended.
    Closed(Closing),
}

impl Shown {
    fn sign(self, tower: &SecretKey) -> Has {
        match self {
            Self::Nothing => Has::Nothing,
            Self::Backups { holding, mark } => Has::Backups { receipt: signed(&holding, tower), mark },
            Self::Closed(closing) => {
                Has::Closed(SignedClosed { closed: closing.closed, signature: closing.sign(tower) })
            }
        }
    }
}

fn signed(holding: &Holding, tower: &SecretKey) -> SignedHeld {
    SignedHeld { held: holding.held, until: holding.until, signature: holding.sign(tower) }
}

impl ToSign {
    /// The message, with the tower's signature.
    pub fn sign(self, tower: &SecretKey) -> TowerMessage {
        match self {
            Self::Acknowledged(holding) => {
                Acknowledged { channel: holding.channel, receipt: signed(&holding, tower) }.into()
            }
            Self::State { remaining, channel, shown } => {
                State { remaining, channel: Some(channel), has: shown.sign(tower) }.into()
            }
            Self::Audited(audit) => {
                let (signature, Audit { channel, nonce, at, says, .. }) = (audit.sign(tower), audit);
                Audited { channel, nonce, at, says, signature }.into()
            }
        }
    }
}

/// Of several receipts of one channel keeps the last: it says what the others say.
pub fn newest_receipts(effects: Vec<Effect>) -> Vec<Effect> {
    let channel = |effect: &Effect| match effect {
        Effect::Sign(client, ToSign::Acknowledged(holding)) => Some((*client, holding.channel)),
        _ => None,
    };
    let mut last = HashMap::new();
    for (at, effect) in effects.iter().enumerate() {
        if let Some(channel) = channel(effect) {
            last.insert(channel, at);
        }
    }
    let is_last = |(at, effect): &(usize, Effect)| channel(effect).is_none_or(|one| last.get(&one) == Some(at));
    effects.into_iter().enumerate().filter(is_last).map(|(_, effect)| effect).collect()
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum HangUp {
    #[error("the client speaks before its hello")]
    NoHello,
    #[error("the client is on another chain")]
    OtherChain,
    #[error("the client sends a message that must be understood and is not: {0}")]
    NotUnderstood(u16),
    #[error("the client sends what only towers send: {0}")]
    NotForTowers(&'static str),
    #[error("the client sends faster than it may")]
    TooFast,
    #[error(transparent)]
    Parts(#[from] AssemblyError),
    #[error("the client goes on after more refused backups than it may have channels")]
    Refused,
}

/// News for whoever runs the tower.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Notice {
    /// A revoked state is in a block.
    Breach { client: ClientId, channel: ChannelName, mode: Mode, number: CommitmentNumber, txid: Txid, height: Height },
    /// A transaction in the mempool is one: its penalties go out with it, so that one block may hold both.
    BreachInMempool { txid: Txid },
    /// A reorganisation has taken it back, or in own mode whatever has spent the funding output.
    BreachTakenBack { client: ClientId, channel: ChannelName, txid: Txid },
    /// The penalties are final.
    Punished { client: ClientId, channel: ChannelName },
    /// A sealed kit under the hint of a transaction is of no use.
    Useless { client: ClientId, channel: ChannelName, number: CommitmentNumber, cause: OpenError },
    /// Own mode: the funding output was spent by something that is no revoked state.
    Closed { client: ClientId, channel: ChannelName, txid: Txid },
    /// A bug or a damaged row: a person has to look at it.
    Broken { client: ClientId, channel: ChannelName, cause: String },
    /// A row that cannot be read keeps one appointment, or one HTLC of a channel in own mode, from being acted on. It is left
    /// as it is, for a person to look at.
    Damaged { row: Key, damage: Damage },
    /// The client's term is over, and everything that it had here is deleted.
    TermEnded { client: ClientId },
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum Damage {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] ReadError),
    #[error("it has {0} bytes, which is too few")]
    Short(usize),
    #[error("it is missing")]
    Missing,
}

/// Why a tower stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum TowerError {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("a row of the tower is damaged: {0}")]
    Damaged(#[from] ReadError),
    #[error("a row of the tower is damaged: {0}")]
    Record(#[from] leyden_channels::onchain::RecordError),
    #[error("block {got} was fed to the tower where {expected} comes next")]
    Gap { expected: u32, got: u32 },
    #[error("a block was fed to the tower before its last rows were committed")]
    Unsettled,
    #[error("a channel of an own tower cannot be enforced: {0}")]
    Own(#[from] ResolutionError),
    #[error("a kit that was opened before cannot be opened: {0}")]
    Kit(#[from] OpenError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("slot {0} is used twice")]
    SlotTwice(u32),
}
