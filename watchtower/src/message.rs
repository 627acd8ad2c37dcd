//! The protocol between a client and its tower, over BOLT 8's transport.
//!
//! ```text
//!   client                                   tower
//!     hello ───────────────────────────────►          1   both say who they are and what they can do
//!           ◄─────────────────────────────── hello    1
//!     register ────────────────────────────►          3   once a client, and again to prolong the term
//!           ◄────────────────────────── registered    5   the quota
//!     open_channel ────────────────────────►          7   once a (tag, funding index)
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
    keys::PerCommitmentSecret,
    tx::CommitmentHtlc,
    types::{CommitmentNumber, FeeratePerKw, Height, HtlcDirection, HtlcId},
    wire::{MAX_MESSAGE_LEN, codec::Reader, tlv},
};
use secp256k1::{PublicKey, ecdsa::Signature};

use crate::{
    appointment::{ChannelName, ChannelTag},
    codec::{Part, ReadError, by_field, by_inner, by_tag, decode, encode},
    hint::Hint,
    receipt::{BackupDigest, Held},
};

/// The port that towers listen on.
pub const DEFAULT_PORT: u16 = 9911;

/// The version of this protocol.
pub const PROTOCOL_VERSION: u16 = 1;

/// The most bytes of a backup's body: the kit of a `static_remotekey` commitment with 966 HTLCs, the most that BOLT 2
/// allows (154 bytes each with both signatures and an expiry), and some room for its head.
pub const MAX_BODY: usize = 966 * 154 + 1_024;

/// The most bytes of a body in one frame: the rest of the frame is the head.
pub const MAX_CHUNK: usize = MAX_MESSAGE_LEN - 535;

/// The most bytes of what `open_channel` carries: in own mode a shachain of 49 secrets and the channel's keys.
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
    pub const BLIND: Self = Self(1);
    pub const OWN: Self = Self(1 << 2);

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

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
    pub version: u16,
    pub chain: ChainHash,
    pub features: TowerFeatures,
}

/// Asks for a place, or for a longer term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    pub mode: Mode,
    /// At which rate each pre-signed claim pays for itself (LND's word). The tower raises it as far as it can.
    pub sweep_feerate: FeeratePerKw,
    /// How long from now, in blocks.
    pub term: u32,
}

/// What a client has at this tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    pub mode: Mode,
    pub sweep_feerate: FeeratePerKw,
    pub states: u64,
    pub bytes: u64,
    /// The tower keeps everything up to this block, and each open penalty until it is final.
    pub until: Height,
    /// Receipts are signed with this key.
    pub receipt_key: PublicKey,
}

/// Names a channel, with what is the same in all its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    pub channel: ChannelName,
    /// Blind: [`Constants`](crate::kit::Constants), sealed. Own: [`OwnChannel`](crate::own::OwnChannel).
    pub constants: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOpened {
    pub channel: ChannelName,
}

/// A revoked state of a channel. Numbers follow one another without a gap; the first may be any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub channel: ChannelName,
    pub number: CommitmentNumber,
    pub body: BackupBody,
}

/// What a state's backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupBody {
    /// A [`JusticeKit`](crate::kit::JusticeKit), sealed.
    Blind { hint: Hint, sealed: Vec<u8> },
    /// The secret with which the peer revoked the state, and all its HTLCs.
    Own { secret: PerCommitmentSecret, htlcs: Vec<StateHtlc> },
}

/// An HTLC of a state that is backed up in own mode, as the peer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateHtlc {
    /// The tower got it with an earlier state of this channel.
    Known {
        direction: HtlcDirection,
        id: HtlcId,
    },
    New(CommitmentHtlc),
}

impl StateHtlc {
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
    pub channel: ChannelName,
    pub number: CommitmentNumber,
    /// The length of the whole body.
    pub total: u32,
    pub bytes: Vec<u8>,
}

/// More of the backup that was begun last. Even: without it the backup is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRest {
    pub bytes: Vec<u8>,
}

/// A receipt: see [`Holding`](crate::receipt::Holding), whose other fields both sides know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub channel: ChannelName,
    pub held: Held,
    pub signature: Signature,
}

/// All funding outputs of the channel are final, or spent by a close that both signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseChannel {
    pub tag: ChannelTag,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelClosed {
    pub tag: ChannelTag,
}

/// Asks what the tower holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A [`State`] for each channel: what a node restored from an old copy asks before it does anything.
    All,
    /// One [`State`].
    Channel(ChannelName),
    /// Read again what is stored up to this number, and sign for it ([`Audited`]).
    Audit { channel: ChannelName, up_to: CommitmentNumber, nonce: [u8; 32] },
    /// Show that this backup is there ([`Possession`]).
    Possession { channel: ChannelName, number: CommitmentNumber, nonce: [u8; 32] },
}

/// What the tower holds of one channel, with the newest receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// How many more of these follow as the answer to [`Ask::All`].
    pub remaining: u32,
    /// `None` if there is no such channel, or none at all. A channel without a backup has no receipt.
    pub channel: Option<ChannelName>,
    pub receipt: Option<SignedHeld>,
}

/// What a receipt says, and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHeld {
    pub held: Held,
    pub signature: Signature,
}

/// See [`Audit`](crate::receipt::Audit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    pub channel: ChannelName,
    pub nonce: [u8; 32],
    pub held: Option<Held>,
    pub signature: Signature,
}

/// [`proof_of_possession`](crate::receipt::proof_of_possession) over the body of a backup; in own mode over its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possession {
    pub channel: ChannelName,
    pub number: CommitmentNumber,
    pub proof: Option<[u8; 32]>,
}

/// Something that was asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The type of the message that is refused.
    pub what: u16,
    pub code: RefusalCode,
    /// Which channel it was about, and which state.
    pub channel: Option<ChannelName>,
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
    TooFast,
    NotRegistered,
    /// The quota of states or bytes is used up.
    QuotaExceeded,
    NoSuchChannel,
    /// It is open already, with other constants.
    ChannelExists,
    /// The next number, or a number that is held already, is the only one that can be backed up.
    OutOfOrder,
    /// It is too long, or not what this mode and version have: see the text.
    Unreadable,
    /// A secret of the peer's does not fit the earlier ones.
    WrongSecret,
    /// A register with another mode or rate than before.
    TermsDiffer,
    Other(u16),
}

/// Gives a message enum its types on the wire.
macro_rules! messages {
    ($( $(#[$doc:meta])* $kind:literal $name:ident($ty:ty), )*) => {
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum TowerMessage {
            $( $(#[$doc])* $name($ty), )*
            /// Ignored if odd; if even, the connection ends ([`Self::must_be_understood`]).
            Unknown { message_type: u16 },
        }

        impl TowerMessage {
            pub fn message_type(&self) -> u16 {
                match self {
                    $( Self::$name(_) => $kind, )*
                    Self::Unknown { message_type } => *message_type,
                }
            }

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
}

impl TowerMessage {
    /// Whether who does not know this message has to hang up (BOLT 1: it is ok to be odd).
    pub fn must_be_understood(&self) -> bool {
        self.message_type().is_multiple_of(2)
    }
}

impl BackupBody {
    pub fn mode(&self) -> Mode {
        match self {
            Self::Blind { .. } => Mode::Blind,
            Self::Own { .. } => Mode::Own,
        }
    }
}

impl Backup {
    /// As messages: one, unless the body is longer than a frame.
    pub fn to_messages(&self) -> Vec<TowerMessage> {
        let body = encode(&self.body);
        let total = crate::codec::count(body.len());
        let mut chunks = body.chunks(MAX_CHUNK);
        let first = chunks.next().unwrap_or_default().to_vec();
        let head = BackupPart { channel: self.channel, number: self.number, total, bytes: first };
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

/// Puts a backup together that came in several frames. One a connection.
#[derive(Debug, Default)]
pub struct Assembler {
    begun: Option<BackupPart>,
}

/// Why parts are no backup. The connection ends: what follows cannot be told apart from the backup's rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    #[error("a backup of {got} bytes is longer than {MAX_BODY}")]
    TooLong { got: u32 },
    #[error("a backup has {extra} bytes more than it said")]
    TooMuch { extra: usize },
    #[error("a backup was not finished before the next message")]
    Unfinished,
    #[error("the rest of a backup came without its beginning")]
    NotBegun,
}

/// A whole backup, or one whose body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    pub channel: ChannelName,
    pub number: CommitmentNumber,
    pub body: Result<BackupBody, ReadError>,
}

impl Assembler {
    /// Whether a message other than [`BackupRest`] may come now.
    pub fn is_idle(&self) -> bool {
        self.begun.is_none()
    }

    pub fn begin(&mut self, part: BackupPart) -> Result<Option<Assembled>, AssemblyError> {
        if self.begun.is_some() {
            return Err(AssemblyError::Unfinished);
        }
        let total = usize::try_from(part.total).unwrap_or(usize::MAX);
        if total > MAX_BODY {
            return Err(AssemblyError::TooLong { got: part.total });
        }
        self.begun = Some(part);
        self.finish()
    }

    pub fn rest(&mut self, rest: &BackupRest) -> Result<Option<Assembled>, AssemblyError> {
        let part = self.begun.as_mut().ok_or(AssemblyError::NotBegun)?;
        part.bytes.extend_from_slice(&rest.bytes);
        self.finish()
    }

    fn finish(&mut self) -> Result<Option<Assembled>, AssemblyError> {
        let is_whole = |part: &mut BackupPart| part.bytes.len() >= part.total as usize;
        let Some(part) = self.begun.take_if(is_whole) else { return Ok(None) };
        match part.bytes.len().saturating_sub(part.total as usize) {
            0 => Ok(Some(Assembled { channel: part.channel, number: part.number, body: decode(&part.bytes) })),
            extra => Err(AssemblyError::TooMuch { extra }),
        }
    }
}

by_inner!(TowerFeatures, Hint);
by_tag! { Mode { 1 Blind, 2 Own } "mode" }
by_field! {
    Hello { version, chain, features }
    Register { mode, sweep_feerate, term }
    Registered { mode, sweep_feerate, states, bytes, until, receipt_key }
    OpenChannel { channel, constants }
    ChannelOpened { channel }
    BackupPart { channel, number, total, bytes }
    BackupRest { bytes }
    Acknowledged { channel, held, signature }
    CloseChannel { tag }
    ChannelClosed { tag }
    State { remaining, channel, receipt }
    SignedHeld { held, signature }
    Audited { channel, nonce, held, signature }
    Possession { channel, number, proof }
    Refused { what, code, channel, number, text }
    CommitmentHtlc { direction, id, amount, payment_hash, cltv_expiry }
}

impl Part for BackupBody {
    fn put(&self, out: &mut Vec<u8>) {
        self.mode().put(out);
        match self {
            Self::Blind { hint, sealed } => {
                hint.put(out);
                out.extend_from_slice(sealed);
            }
            Self::Own { secret, htlcs } => {
                secret.put(out);
                htlcs.iter().for_each(|htlc| htlc.put(out));
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match Mode::take(reader)? {
            Mode::Blind => Self::Blind { hint: Part::take(reader)?, sealed: reader.take_rest().to_vec() },
            Mode::Own => {
                let secret = Part::take(reader)?;
                let mut htlcs = Vec::new();
                while !reader.is_empty() {
                    htlcs.push(Part::take(reader)?);
                }
                Self::Own { secret, htlcs }
            }
        })
    }
}

const KNOWN: u8 = 0;
const NEW: u8 = 1;

impl Part for StateHtlc {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Known { direction, id } => {
                out.push(KNOWN);
                direction.put(out);
                id.put(out);
            }
            Self::New(htlc) => {
                out.push(NEW);
                htlc.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        match reader.field::<u8>()? {
            KNOWN => Ok(Self::Known { direction: Part::take(reader)?, id: Part::take(reader)? }),
            NEW => Ok(Self::New(Part::take(reader)?)),
            value => Err(ReadError::Unknown { what: "way to name an HTLC", value: u64::from(value) }),
        }
    }
}

const ASK_ALL: u8 = 0;
const ASK_CHANNEL: u8 = 1;
const ASK_AUDIT: u8 = 2;
const ASK_POSSESSION: u8 = 3;

impl Part for Ask {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::All => out.push(ASK_ALL),
            Self::Channel(channel) => {
                out.push(ASK_CHANNEL);
                channel.put(out);
            }
            Self::Audit { channel, up_to: number, nonce } | Self::Possession { channel, number, nonce } => {
                out.push(if matches!(self, Self::Audit { .. }) { ASK_AUDIT } else { ASK_POSSESSION });
                channel.put(out);
                number.put(out);
                nonce.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match reader.field::<u8>()? {
            ASK_ALL => Self::All,
            ASK_CHANNEL => Self::Channel(Part::take(reader)?),
            ASK_AUDIT => {
                Self::Audit { channel: Part::take(reader)?, up_to: Part::take(reader)?, nonce: Part::take(reader)? }
            }
            ASK_POSSESSION => Self::Possession {
                channel: Part::take(reader)?,
                number: Part::take(reader)?,
                nonce: Part::take(reader)?,
            },
            value => return Err(ReadError::Unknown { what: "question", value: u64::from(value) }),
        })
    }
}

impl Part for RefusalCode {
    fn put(&self, out: &mut Vec<u8>) {
        let code: u16 = match self {
            Self::NotOffered => 1,
            Self::Full => 2,
            Self::TooFast => 3,
            Self::NotRegistered => 4,
            Self::QuotaExceeded => 5,
            Self::NoSuchChannel => 6,
            Self::ChannelExists => 7,
            Self::OutOfOrder => 8,
            Self::Unreadable => 9,
            Self::WrongSecret => 10,
            Self::TermsDiffer => 11,
            Self::Other(code) => *code,
        };
        code.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(match reader.field::<u16>()? {
            1 => Self::NotOffered,
            2 => Self::Full,
            3 => Self::TooFast,
            4 => Self::NotRegistered,
            5 => Self::QuotaExceeded,
            6 => Self::NoSuchChannel,
            7 => Self::ChannelExists,
            8 => Self::OutOfOrder,
            9 => Self::Unreadable,
            10 => Self::WrongSecret,
            11 => Self::TermsDiffer,
            code => Self::Other(code),
        })
    }
}

/// A byte string; what is not UTF-8 is replaced: it is only shown.
impl Part for String {
    fn put(&self, out: &mut Vec<u8>) {
        // A text longer than 65,535 bytes is nobody's.
        self.bytes().take(usize::from(u16::MAX)).collect::<Vec<u8>>().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(String::from_utf8_lossy(&<Vec<u8> as Part>::take(reader)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use leyden_channels::{
        keys::secp,
        types::{CltvExpiry, Msat, PaymentHash},
    };
    use proptest::prelude::*;
    use secp256k1::SecretKey;

    use super::*;
    use crate::{appointment::FundingIndex, receipt::Digest};

    const CHANNEL: ChannelName = ChannelName { tag: ChannelTag([7; 16]), funding: FundingIndex(1) };
    const NUMBER: CommitmentNumber = CommitmentNumber(77);

    fn htlc(id: u64) -> CommitmentHtlc {
        CommitmentHtlc {
            direction: HtlcDirection::Offered,
            id: HtlcId(id),
            amount: Msat(5_000_000),
            payment_hash: PaymentHash([9; 32]),
            cltv_expiry: CltvExpiry(800_000),
        }
    }

    fn own_body(htlcs: u64) -> BackupBody {
        let known = StateHtlc::Known { direction: HtlcDirection::Received, id: HtlcId(3) };
        let htlcs = std::iter::once(known).chain((0..htlcs).map(|id| StateHtlc::New(htlc(id)))).collect();
        BackupBody::Own { secret: PerCommitmentSecret([8; 32]), htlcs }
    }

    fn samples() -> Vec<TowerMessage> {
        let key = SecretKey::from_slice(&[5; 32]).unwrap().public_key(secp());
        let signature = Signature::from_compact(&[1; 64]).unwrap();
        let held = Held { first: CommitmentNumber(0), up_to: NUMBER, digest: Digest([4; 32]) };
        let backup = Backup { channel: CHANNEL, number: NUMBER, body: own_body(2) };
        let features = TowerFeatures::BLIND.with(TowerFeatures::OWN);
        let (mode, sweep_feerate) = (Mode::Own, FeeratePerKw(2_500));
        let mut all = backup.to_messages();
        all.extend([
            Hello { version: PROTOCOL_VERSION, chain: ChainHash::REGTEST, features }.into(),
            Register { mode, sweep_feerate, term: 52_560 }.into(),
            Registered { mode, sweep_feerate, states: 9, bytes: 10, until: Height(11), receipt_key: key }.into(),
            OpenChannel { channel: CHANNEL, constants: vec![1, 2, 3] }.into(),
            ChannelOpened { channel: CHANNEL }.into(),
            BackupRest { bytes: vec![4; 9] }.into(),
            Acknowledged { channel: CHANNEL, held, signature }.into(),
            CloseChannel { tag: CHANNEL.tag }.into(),
            ChannelClosed { tag: CHANNEL.tag }.into(),
            Ask::All.into(),
            Ask::Channel(CHANNEL).into(),
            Ask::Audit { channel: CHANNEL, up_to: NUMBER, nonce: [3; 32] }.into(),
            Ask::Possession { channel: CHANNEL, number: NUMBER, nonce: [3; 32] }.into(),
            State { remaining: 0, channel: None, receipt: None }.into(),
            State { remaining: 2, channel: Some(CHANNEL), receipt: Some(SignedHeld { held, signature }) }.into(),
            Audited { channel: CHANNEL, nonce: [3; 32], held: Some(held), signature }.into(),
            Possession { channel: CHANNEL, number: NUMBER, proof: Some([6; 32]) }.into(),
            Refused {
                what: 11,
                code: RefusalCode::Other(900),
                channel: Some(CHANNEL),
                number: None,
                text: "the disk is full".into(),
            }
            .into(),
        ]);
        all
    }

    #[test]
    fn every_message_is_decoded_to_itself_and_refused_when_it_is_cut_short() {
        for message in samples() {
            let bytes = message.encode();
            assert_eq!(TowerMessage::decode(&bytes), Ok(message.clone()));
            for len in 2..bytes.len() {
                assert!(TowerMessage::decode(&bytes[..len]).is_err(), "{} at {len}", message.name());
            }
        }
    }

    #[test]
    fn unknown_odd_types_and_records_are_passed_over_and_even_ones_are_not() {
        let unknown = TowerMessage::decode(&[0, 99, 1, 2]).unwrap();
        assert!(!unknown.must_be_understood());
        assert!(TowerMessage::decode(&[0, 98]).unwrap().must_be_understood());
        let mut bytes = TowerMessage::from(ChannelOpened { channel: CHANNEL }).encode();
        bytes.extend([1, 1, 7]);
        assert!(TowerMessage::decode(&bytes).is_ok());
        bytes.extend([2, 1, 7]);
        assert!(TowerMessage::decode(&bytes).is_err());
    }

    #[test]
    fn a_backup_longer_than_a_frame_is_put_together_again() {
        let body = BackupBody::Blind { hint: Hint([3; 8]), sealed: (0..140_000).map(|at| at as u8).collect() };
        let backup = Backup { channel: CHANNEL, number: NUMBER, body };
        let mut assembler = Assembler::default();
        let mut whole = None;
        for message in backup.to_messages() {
            assert!(whole.is_none() && message.encode().len() <= MAX_MESSAGE_LEN);
            whole = match message {
                TowerMessage::Backup(part) => assembler.begin(part),
                TowerMessage::BackupRest(rest) => {
                    assert!(!assembler.is_idle());
                    assembler.rest(&rest)
                }
                other => panic!("{}", other.name()),
            }
            .unwrap();
        }
        assert_eq!(whole.unwrap().body, Ok(backup.body));
        assert!(assembler.is_idle());
    }

    #[test]
    fn parts_that_do_not_make_a_backup_are_refused_before_they_take_room() {
        let part = |total, bytes: usize| BackupPart { channel: CHANNEL, number: NUMBER, total, bytes: vec![1; bytes] };
        let mut assembler = Assembler::default();
        assert_eq!(assembler.rest(&BackupRest { bytes: vec![1] }), Err(AssemblyError::NotBegun));
        assert_eq!(assembler.begin(part(u32::MAX, 1)), Err(AssemblyError::TooLong { got: u32::MAX }));
        assert_eq!(assembler.begin(part(3, 5)), Err(AssemblyError::TooMuch { extra: 2 }));
        assert_eq!(assembler.begin(part(6, 5)), Ok(None));
        assert_eq!(assembler.begin(part(6, 5)), Err(AssemblyError::Unfinished));
    }

    #[test]
    fn the_own_backup_of_966_new_htlcs_is_one_frame() {
        let backup = Backup { channel: CHANNEL, number: NUMBER, body: own_body(966) };
        assert_eq!(backup.to_messages().len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(kind in 0_u8..30, bytes: Vec<u8>) {
            let message = [vec![0, kind], bytes.clone()].concat();
            if let Ok(message) = TowerMessage::decode(&message) {
                prop_assert_eq!(TowerMessage::decode(&message.encode()), Ok(message));
            }
            let _ = decode::<BackupBody>(&bytes);
        }
    }
}
