//! What can happen to the towers' client, and what it asks for.

use std::ops::RangeInclusive;

use bitcoin::{ScriptBuf, constants::ChainHash};
use leyden_channels::{
    channel::Outbox,
    types::{ChannelId, CommitmentNumber, FeeratePerKw, Height},
};
use secp256k1::PublicKey;

use super::{
    keys::TowerKeys,
    record::{ClientKey, Proof, TowerId},
};
use crate::{
    appointment::ChannelName,
    message::{Backup, Mode, RefusalCode, TowerMessage},
    receipt::{Closed, Contradiction, Says},
};

/// What a client's state machine answers with: rows to store, then effects.
pub type ClientOutbox = Outbox<Effect, ClientKey>;

/// What a client's state machine hears.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Event {
    /// Once, after [`super::Client::restore`], and after every channel was named.
    Started,
    /// The user adds a tower.
    Add { key: PublicKey, address: String, mode: Mode },
    /// And takes it away: what it signed for is forgotten, and nobody waits for it any more.
    Remove(TowerId),
    /// Backups go to this tower again.
    Activate(TowerId),
    /// Backups go to it no more; its receipts are kept.
    Deactivate(TowerId),
    /// So many towers have to hold a revoked state before its channel goes on.
    Require(u16),

    /// A channel that lives, with the newest commitment that its peer has revoked. Told of each before [`Event::Started`], of a
    /// new one when it is established, and in answer to [`Effect::NameChannels`].
    Channel { channel: ChannelId, revoked: Option<CommitmentNumber> },
    /// [`leyden_channels::channel::Effect::TowerBackup`].
    Queued { channel: ChannelId, number: CommitmentNumber },
    /// The channel is over, and its rows are being erased.
    ChannelOver(ChannelId),

    /// The handshake has shown the tower's key.
    Connected(TowerId),
    /// The connection is gone, from whichever side.
    Disconnected(TowerId),
    /// A message that has come from a connected tower.
    Message(TowerId, TowerMessage),
    /// The answer to [`Effect::Describe`].
    Described { tower: TowerId, channel: ChannelId, session: Session, destination: ScriptBuf, constants: Constants },
    /// The answer to [`Effect::Prepare`], in the order of the numbers: one a state, or one a part of the past.
    Prepared { tower: TowerId, channel: ChannelId, session: Session, backup: Box<Backup> },
    /// There is no such backup: a row is damaged, or a key does not fit. Nothing more is asked of this channel for this tower
    /// until it is connected again.
    NotPrepared { tower: TowerId, channel: ChannelId, session: Session, why: String },
    /// The answer to [`Effect::LookForClose`]: whether the funding output is unspent at this height, and whether that may be
    /// relied on; `None` if it cannot be said.
    ClosedLookedFor { tower: TowerId, channel: ChannelId, unspent_at: Option<Height> },
    /// Ask a tower to read again what it has signed for, under every tag. The nonce is fresh.
    Audit { tower: TowerId, channel: ChannelId, nonce: [u8; 32] },
    /// The answer to [`Effect::Continue`].
    Continue,
    /// Every minute or so.
    Tick,
}

/// One connection to one tower: what was asked for an earlier one is not used any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session(pub u32);

/// What is the same in all states of a channel, made for a tower of one mode.
#[derive(Clone, PartialEq, Eq)]
pub enum Constants {
    /// Sealed.
    Blind(Vec<u8>),
    /// With the secret of the revocation basepoint.
    Own(Vec<u8>),
}

impl std::fmt::Debug for Constants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blind(bytes) => write!(f, "Blind({} bytes)", bytes.len()),
            Self::Own(_) => f.write_str("Own(..)"),
        }
    }
}

impl Constants {
    /// For which kind of tower they are.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Blind(_) => Mode::Blind,
            Self::Own(_) => Mode::Own,
        }
    }
}

/// What an event is handled with.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The chain of the channels: a tower of another one is of no use.
    pub chain: ChainHash,
    /// The newest block that the node knows.
    pub tip: Height,
    /// From what this node's keys for its towers come.
    pub keys: &'a dyn TowerKeys,
    /// At which rate claims pay for themselves. Where it has changed, a blind tower gets what follows under another tag: what is
    /// signed stays as it is.
    pub sweep_feerate: FeeratePerKw,
}

/// How the backups of a channel are made for a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tower that gets the backups.
    pub tower: TowerId,
    /// The channel, as this node calls it.
    pub channel: ChannelId,
    /// To which connection the work belongs: what is prepared for an older one is dropped.
    pub session: Session,
    /// What the tower is given.
    pub mode: Mode,
    /// The channel, as the tower calls it.
    pub name: ChannelName,
    /// At which rate pre-signed claims pay for themselves, in blind mode.
    pub sweep_feerate: FeeratePerKw,
}

/// Which states to prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Work {
    /// From the rows under [`leyden_channels::channel::Key::TowerBackup`]. `first` is the first one that the tower gets.
    States { numbers: RangeInclusive<CommitmentNumber>, first: CommitmentNumber },
    /// Everything that the peer has revoked so far, in as many parts as it takes; own mode alone.
    Past,
}

/// What the driver does after the commit. All of it is harmless to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Effect {
    /// Have a connection to this tower; if there is none now, try again later and later.
    Connect(TowerId),
    /// Say [`Event::Channel`] of every channel again: while there was no tower nothing was told of revocations.
    NameChannels,
    /// And do not: the tower is gone, or has to be left alone for a while (`again`).
    Disconnect { tower: TowerId, again: bool },
    /// To a connected tower.
    Send(TowerId, TowerMessage),
    /// Make [`super::build::constants`] for a place; `destination` if it was chosen before.
    Describe { place: Place, destination: Option<ScriptBuf> },
    /// Make [`super::build`]'s backups, away from every channel, in the order of these effects.
    Prepare { place: Place, destination: ScriptBuf, work: Work },
    /// [`leyden_channels::channel::Event::TowersHold`].
    TowersHold { channel: ChannelId, up_to: Option<CommitmentNumber> },
    /// A tower says that the channel is closed. Is its funding output unspent? See [`Event::ClosedLookedFor`].
    LookForClose { tower: TowerId, channel: ChannelId },
    /// [`leyden_channels::channel::Event::TowerKnowsRevoked`].
    TowerKnowsRevoked { channel: ChannelId, number: CommitmentNumber },
    /// There is more to do when nothing else is.
    Continue,
    /// For the user, and for the log.
    Notice(Notice),
}

/// What a person wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Notice {
    /// Payments of this channel wait for these towers.
    Waiting { channel: ChannelId, number: CommitmentNumber, missing: Vec<TowerId>, required: u16 },
    /// The tower keeps what it holds, and what it gets, up to this block.
    Registered { tower: TowerId, until: Height },
    /// It refuses the client as a whole.
    Refused { tower: TowerId, code: RefusalCode, text: String },
    /// Of one channel alone: it is tried again after growing pauses.
    ChannelRefused { tower: TowerId, channel: ChannelId, code: RefusalCode, text: String },
    /// It keeps backups for a time that is over, or nearly so.
    TermTooShort { tower: TowerId, until: Height, tip: Height },
    /// Its term is over: what it signed for binds it no longer, and everything begins anew there.
    TermOver { tower: TowerId, channel: ChannelId, until: Height },
    /// It says that the channel is closed, and that it gave back what it had when that was final.
    Closed { tower: TowerId, channel: ChannelId, closed: Closed },
    /// It signed for a state that this node does not know, and cannot show that this node has ever sent it.
    ClaimsMore { tower: TowerId, channel: ChannelId, number: CommitmentNumber },
    /// The tower is of another chain, version or mode, or what it sends makes no sense.
    Unusable { tower: TowerId, why: String },
    /// The tower shows that this node sent it a state that it does not know: its data is old.
    DataIsOld { tower: TowerId, channel: ChannelId, number: CommitmentNumber },
    /// What is stored here was signed for, and the tower says now that it is not there. An audit is due.
    HoldsLess { tower: TowerId, channel: ChannelId },
    /// States before this one are not covered by this tower.
    CoveredFrom { tower: TowerId, channel: ChannelId, number: CommitmentNumber },
    /// A backup cannot be made: see [`Event::NotPrepared`].
    NotPrepared { tower: TowerId, channel: ChannelId, why: String },
    /// What it says does not contradict what it signed for: it holds that, or the channel is closed, or its term is over.
    AuditPassed { tower: TowerId, channel: ChannelId, says: Says },
    /// It signed for a state, and could not show that it has it. Nobody else can see that, so it is no proof.
    NotShown { tower: TowerId, channel: ChannelId, number: CommitmentNumber },
    /// It has not answered for a while.
    AuditUnanswered { tower: TowerId, channel: ChannelId },
    /// It has not, and this shows it.
    AuditFailed { tower: TowerId, channel: ChannelId, contradiction: Contradiction, proof: Box<Proof> },
}
