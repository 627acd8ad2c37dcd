//! The protocol between a client and its tower, over BOLT 8's transport.
//!
//! ```text
//!   client                                   tower
//!     hello ───────────────────────────────►          1   both say who they are and what they can do
//!           ◄─────────────────────────────── hello    1
//!     register ────────────────────────────►          3   once a client, and again to prolong the term
//!           ◄────────────────────────── registered    5   the quota
//!     open_channel ────────────────────────►          7   once a (tag, funding index), and after a refused backup
//!           ◄────────────────────── channel_opened    9
//!     backup, backup_rest… ────────────────►     11, 12   one a revoked state, in their order, many in flight
//!           ◄──────────────────────── acknowledged   13   cumulative, after the commit: a receipt
//!     close_channel ───────────────────────►         15   the channel is final: forget it
//!           ◄────────────────────── channel_closed   17
//!     ask ─────────────────────────────────►         19   what do you hold?
//!           ◄──────── state, audited, possession     21, 25, 27
//!           ◄───────────────────────────── refused   23   anything above
//! ```
//!
//! message = type (u16) ‖ fields ‖ extension (TLV stream, empty today). A message with an unknown odd type is ignored, one
//! with an unknown even type ends the connection; the same holds for records of the extension (BOLT 1). Integers are
//! big-endian, byte strings have a `u16` length unless they say otherwise.
//!
//! What is refused of one channel stops nothing else: after a refused backup the tower passes over the backups of that channel
//! that were on their way, until the client opens the channel again. Whoever is refused a place is let go.
//!
//! The client's key of the handshake is its [`ClientId`](crate::appointment::ClientId): nothing else names it. A tower keeps
//! nothing of a client between hello and register.
//!
//! Promises: decoding never panics and reserves no more than the bytes themselves hold; a message that was encoded decodes to
//! itself; a backup longer than one frame is put together again by [`Assembler`], which never holds more than
//! [`MAX_BODY`] bytes.

use bitcoin::{
    constants::ChainHash,
    hashes::{Hash as _, HashEngine as _, sha256},
};
use leyden_channels::{
    keys::{PerCommitmentSecret, PerCommitmentSecrets},
    tx::CommitmentHtlc,
    types::{CommitmentNumber, FeeratePerKw, Height, HtlcDirection, HtlcId},
    wire::{MAX_MESSAGE_LEN, codec::Reader, tlv},
};
use secp256k1::{PublicKey, ecdsa::Signature};

use crate::{
    appointment::{ChannelName, ChannelTag},
    codec::{Part, ReadError, encode},
    hint::Hint,
    mark::Mark,
    receipt::{BackupDigest, Closed, Held, Says},
};

mod assembler;
mod layout;
#[cfg(test)]
mod tests;

pub use assembler::{Assembled, Assembler, AssemblyError};

/// The port that towers listen on.
pub const DEFAULT_PORT: u16 = 9911;

/// The version of this protocol.
pub const PROTOCOL_VERSION: u16 = 1;

/// The most bytes of a backup's body: the kit of a `static_remotekey` commitment with 966 HTLCs, the most that BOLT 2
/// allows (154 bytes each with both signatures and an expiry), and some room for its head.
pub const MAX_BODY: usize = 966 * 154 + 1_024;

/// The most bytes of a body in one frame: the rest of the frame is the head.
pub const MAX_CHUNK: usize = MAX_MESSAGE_LEN - 535;

/// The most bytes of what `open_channel` carries: in own mode eleven keys and a script, some 500 bytes, and room for more.
pub const MAX_CONSTANTS: usize = 4_096;

/// How a tower serves a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The tower can read nothing before the breach.
    Blind,
    /// The tower belongs to the client, and holds the revocation secrets.
    Own,
}

/// What a tower or a client can do, as bits: 0 blind, 2 own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TowerFeatures(pub u32);

impl TowerFeatures {
    /// It keeps sealed justice kits ([`Mode::Blind`]).
    pub const BLIND: Self = Self(1);
    /// It keeps revocation secrets ([`Mode::Own`]).
    pub const OWN: Self = Self(1 << 2);

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a tower with these features serves this mode.
    pub fn offers(self, mode: Mode) -> bool {
        let wanted = match mode {
            Mode::Blind => Self::BLIND,
            Mode::Own => Self::OWN,
        };
        self.0 & wanted.0 == wanted.0
    }
}

/// The first message in each direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of the protocol; see [`VERSION`].
    pub version: u16,
    /// The genesis block's hash.
    pub chain: ChainHash,
    /// What a tower offers; a client sets what it wants.
    pub features: TowerFeatures,
}

/// Asks for a place, or for a longer term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// What the client will give.
    pub mode: Mode,
    /// At which rate each pre-signed claim pays for itself (LND's word). The tower raises it as far as it can.
    pub sweep_feerate: FeeratePerKw,
    /// How long from now, in blocks.
    pub term: u32,
}

/// What a client has at this tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Of all its channels.
    pub mode: Mode,
    /// As granted, in satoshi per 1,000 units of weight.
    pub sweep_feerate: FeeratePerKw,
    /// How many revoked states are held.
    pub states: u64,
    /// How many bytes they take, rows and keys included.
    pub bytes: u64,
    /// The tower keeps everything up to this block, and each open penalty until it is final.
    pub until: Height,
    /// Receipts are signed with this key.
    pub receipt_key: PublicKey,
}

/// Names a channel, with what is the same in all its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// As the client calls it.
    pub channel: ChannelName,
    /// Blind: [`Constants`](crate::kit::Constants), sealed. Own: [`OwnChannel`](crate::own::OwnChannel).
    pub constants: Vec<u8>,
}

/// The answer to [`OpenChannel`]: its backups may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOpened {
    /// The channel of the request.
    pub channel: ChannelName,
}

/// A revoked state of a channel. Numbers follow one another without a gap; the first may be any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Whose commitment it is.
    pub channel: ChannelName,
    /// Which commitment, counted from zero.
    pub number: CommitmentNumber,
    /// What the tower needs to punish it.
    pub body: BackupBody,
}

/// What a state's backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum BackupBody {
    /// A [`JusticeKit`](crate::kit::JusticeKit), sealed.
    Blind { hint: Hint, sealed: Vec<u8> },
    /// The secret with which the peer revoked the state, and all its HTLCs.
    Own { secret: PerCommitmentSecret, htlcs: Vec<StateHtlc> },
    /// The first backup of a channel that is older than its tower, in own mode: every state up to this number, in parts, with
    /// `more` in all but the last. The secrets are those of the last part.
    OwnPast { secrets: PerCommitmentSecrets, htlcs: Vec<PastHtlc>, more: bool },
}

/// An HTLC and the states that had it; `last` is `None` if the state of this backup has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastHtlc {
    /// The HTLC, as the peer's commitments have it.
    pub htlc: CommitmentHtlc,
    /// The first state that had it.
    pub first: CommitmentNumber,
    /// The last one that had it.
    pub last: Option<CommitmentNumber>,
}

/// An HTLC of a state that is backed up in own mode, as the peer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum StateHtlc {
    /// The tower got it with an earlier state of this channel.
    Known { direction: HtlcDirection, id: HtlcId },
    /// It is told with this state.
    New(CommitmentHtlc),
}

impl StateHtlc {
    /// By what an HTLC is named within its channel.
    pub fn key(&self) -> (HtlcDirection, HtlcId) {
        match self {
            Self::Known { direction, id } => (*direction, *id),
            Self::New(htlc) => (htlc.direction, htlc.id),
        }
    }
}

/// The first part of a backup, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPart {
    /// Whose commitment it is.
    pub channel: ChannelName,
    /// Which commitment, counted from zero.
    pub number: CommitmentNumber,
    /// The newest one of a channel is shown when the client asks.
    pub mark: Mark,
    /// The length of the whole body.
    pub total: u32,
    /// The first bytes of the body.
    pub bytes: Vec<u8>,
}

/// More of the backup that was begun last. Even: without it the backup is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRest {
    /// The bytes that follow those sent before.
    pub bytes: Vec<u8>,
}

/// A receipt: see [`Holding`](crate::receipt::Holding), whose other fields both sides know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The channel that the receipt is for.
    pub channel: ChannelName,
    /// For everything that the tower holds of it now.
    pub receipt: SignedHeld,
}

/// All funding outputs of the channel are final, or spent by a close that both signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseChannel {
    /// The channel, with all its funding outputs.
    pub tag: ChannelTag,
}

/// The answer to [`CloseChannel`]: the tower keeps nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelClosed {
    /// The channel of the request.
    pub tag: ChannelTag,
}

/// Asks what the tower holds, or how far it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Ask {
    /// A [`State`] for each channel: what a node restored from an old copy asks before it does anything.
    All,
    /// One [`State`].
    Channel(ChannelName),
    /// Read again what is stored up to this number, and sign for it ([`Audited`]).
    Audit { channel: ChannelName, up_to: CommitmentNumber, nonce: [u8; 32] },
    /// Show that this backup is there ([`Possession`]).
    Possession { channel: ChannelName, number: CommitmentNumber, nonce: [u8; 32] },
    /// How far the tower's chain is ([`ChainSeen`]).
    Chain,
}

/// What the tower holds of one channel, with the newest receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// How many more of these follow as the answer to [`Ask::All`].
    pub remaining: u32,
    /// `None` if there is none at all.
    pub channel: Option<ChannelName>,
    /// What the tower has of it.
    pub has: Has,
}

/// What a tower has of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Has {
    /// No such channel, or no backup of it.
    Nothing,
    Backups {
        receipt: SignedHeld,
        /// Of the newest one.
        mark: Mark,
    },
    /// It has ended, and so has what was kept for it.
    Closed(SignedClosed),
}

/// What a receipt says, and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHeld {
    /// Which states.
    pub held: Held,
    /// Up to which block they are kept.
    pub until: Height,
    /// Of [`Holding`](crate::receipt::Holding), by the tower's key.
    pub signature: Signature,
}

/// How far the tower's chain is: a tower that is behind sees no breach in the blocks that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainSeen {
    /// The last block that it has acted on.
    pub height: Height,
    /// Whether the tower believes that its chain is as far as everybody's.
    pub is_sure: bool,
}

/// How a channel ended, and the signature for that ([`Closing`](crate::receipt::Closing)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedClosed {
    /// By what and where it was closed.
    pub closed: Closed,
    /// Of [`Closing`](crate::receipt::Closing), by the tower's key.
    pub signature: Signature,
}

/// See [`Audit`](crate::receipt::Audit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The channel that was asked about.
    pub channel: ChannelName,
    /// That of the request.
    pub nonce: [u8; 32],
    /// The last block that the tower has seen.
    pub at: Height,
    /// What was found on its disk.
    pub says: Says,
    /// Of [`Audit`](crate::receipt::Audit), by the tower's key.
    pub signature: Signature,
}

/// [`proof_of_possession`](crate::receipt::proof_of_possession) over the body of a backup; in own mode over its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possession {
    /// Whose backup it is.
    pub channel: ChannelName,
    /// Of which state.
    pub number: CommitmentNumber,
    /// `None` if there is no such backup.
    pub proof: Option<[u8; 32]>,
}

/// Something that was asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The type of the message that is refused.
    pub what: u16,
    /// For a program.
    pub code: RefusalCode,
    /// Which channel it was about, and which state.
    pub channel: Option<ChannelName>,
    /// The state's number, if it was about one.
    pub number: Option<CommitmentNumber>,
    /// For a person.
    pub text: String,
}

/// Why something is refused, as a number on the wire; those of a later version are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The tower does not serve this mode, or not this client.
    NotOffered,
    /// There is no room for another client now.
    Full,
    /// More messages or registrations than are allowed in this time: later.
    TooFast,
    /// The client has no place, or its term is over.
    NotRegistered,
    /// The quota of states or bytes is used up.
    QuotaExceeded,
    /// It has to be opened first.
    NoSuchChannel,
    /// It is open already, with other constants.
    ChannelExists,
    /// The next number, or a number that is held already, is the only one that can be backed up.
    OutOfOrder,
    /// It is too long, or not what this mode and version have: see the text.
    Unreadable,
    /// A secret of the peer's does not fit the earlier ones.
    WrongSecret,
    /// A register with another mode than before, while there are channels in that one.
    TermsDiffer,
    /// The channel has ended on the chain: [`Ask::Channel`] says how.
    ChannelEnded,
    /// The tower does not know how high the chain is, so it promises nothing new: later.
    NotReady,
    /// A code that this version does not know.
    Other(u16),
}

/// Gives a message enum its types on the wire.
macro_rules! messages {
    ($( $(#[$doc:meta])* $kind:literal $name:ident($ty:ty), )*) => {
        /// Every message, by its type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the type in each variant says what it is")]
        pub enum TowerMessage {
            $( $(#[$doc])* $name($ty), )*
            /// Ignored if odd; if even, the connection ends ([`Self::must_be_understood`]).
            Unknown { message_type: u16 },
        }

        impl TowerMessage {
            /// The number that stands in front of the message.
            pub fn message_type(&self) -> u16 {
                match self {
                    $( Self::$name(_) => $kind, )*
                    Self::Unknown { message_type } => *message_type,
                }
            }

            /// The message's name, for logs.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$name(_) => stringify!($name), )*
                    Self::Unknown { .. } => "an unknown message",
                }
            }

            /// A decrypted message, type included.
            pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
                let mut reader = Reader::new(bytes);
                let message = match reader.field::<u16>()? {
                    $( $kind => Self::$name(Part::take(&mut reader)?), )*
                    message_type => return Ok(Self::Unknown { message_type }),
                };
                let mut records = tlv::Records::new(reader);
                while let Some((kind, _)) = records.next_record()? {
                    tlv::unknown(kind)?;
                }
                Ok(message)
            }

            /// This message, type included. It fits into a frame if its byte strings keep to their limits.
            pub fn encode(&self) -> Vec<u8> {
                let mut out = encode(&self.message_type());
                match self {
                    $( Self::$name(message) => message.put(&mut out), )*
                    Self::Unknown { .. } => {}
                }
                out
            }
        }

        $( impl From<$ty> for TowerMessage {
            fn from(message: $ty) -> Self {
                Self::$name(message)
            }
        } )*
    };
}

messages! {
    1 Hello(Hello),
    3 Register(Register),
    5 Registered(Registered),
    7 OpenChannel(OpenChannel),
    9 ChannelOpened(ChannelOpened),
    11 Backup(BackupPart),
    12 BackupRest(BackupRest),
    13 Acknowledged(Acknowledged),
    15 CloseChannel(CloseChannel),
    17 ChannelClosed(ChannelClosed),
    19 Ask(Ask),
    21 State(State),
    23 Refused(Refused),
    25 Audited(Audited),
    27 Possession(Possession),
    29 ChainSeen(ChainSeen),
}

impl TowerMessage {
    /// Whether who does not know this message has to hang up (BOLT 1: it is ok to be odd).
    pub fn must_be_understood(&self) -> bool {
        self.message_type().is_multiple_of(2)
    }
}

impl BackupBody {
    /// To which mode it belongs.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Blind { .. } => Mode::Blind,
            Self::Own { .. } | Self::OwnPast { .. } => Mode::Own,
        }
    }
}

impl Backup {
    /// As messages: one, unless the body is longer than a frame.
    pub fn to_messages(&self, mark: Mark) -> Vec<TowerMessage> {
        let body = encode(&self.body);
        let total = crate::codec::count(body.len());
        let mut chunks = body.chunks(MAX_CHUNK);
        let first = chunks.next().unwrap_or_default().to_vec();
        let head = BackupPart { channel: self.channel, number: self.number, mark, total, bytes: first };
        let rest = chunks.map(|chunk| BackupRest { bytes: chunk.to_vec() }.into());
        std::iter::once(head.into()).chain(rest).collect()
    }

    /// What a receipt's digest takes up of this backup.
    pub fn digest(&self) -> BackupDigest {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.number.0.to_be_bytes());
        engine.input(&encode(&self.body));
        BackupDigest(sha256::Hash::from_engine(engine).to_byte_array())
    }
}
