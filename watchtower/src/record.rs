//! Under which keys a tower keeps what, and the rows themselves.
//!
//! ```text
//!   01                       tip          the block up to which everything was looked at
//!   02 client                client       registration: mode, rate, quota, term
//!   03 slot                  channel      whose, its name, what is the same in all its states; written once
//!   04 slot                  held         which states, their digest, their size
//!   05 slot number           backup       blind: hint ‖ sealed kit
//!   06 hint slot number      (empty)      finds the backups of a hint
//!   07 slot                  own state    the peer's secrets, and which HTLCs the newest state has
//!   08 slot direction id     own HTLC     what a penalty needs to know of it, and which states had it
//!   09 slot number           breach       the outputs that are claimed, with the kit that does
//!   0a slot number           response     what the chain did to it since, and our claims
//!   0b slot                  enforcement  own mode: the resolution of the channel's end
//!   0c height                recent       the hints of that block's transactions, for backups that come late
//!   0d slot                  (empty)      a channel whose rows are being deleted
//!   0e client tag funding    closed       how a channel ended that nothing is kept of any more, until its client's term ends
//! ```
//!
//! A slot is the tower's short name of a channel at a client. All rows but 05 and 06 begin with a format number, and one of a
//! newer version is refused. Rows of 05 and 06 are a million and more, so their table is their format: another layout gets
//! another table (a kit has a layout number of its own inside).
//!
//! Numbers of commitments take six bytes, the most that they have. A backup without HTLCs takes 213 bytes with its key, its
//! row in the index 19.

use bitcoin::{TxOut, Txid};
use leyden_channels::{
    keys::PerCommitmentSecrets,
    types::{CltvExpiry, CommitmentNumber, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat, PaymentHash},
    wire::codec::Reader,
};

use crate::{
    appointment::{ChannelName, ClientId},
    codec::{Bytes, Part, ReadError, by_field, by_inner, decode_format, encode_format},
    hint::Hint,
    mark::Mark,
    message::Mode,
    receipt::{Closed, Held},
};

const FORMAT: u8 = 1;

/// The tower's short name of one channel of one client; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// The name of one durable row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Key {
    /// The last block that was acted on.
    Tip,
    /// A client and its term.
    Client(ClientId),
    /// A channel's constants.
    Channel(Slot),
    /// What is held of a channel.
    Held(Slot),
    /// A blind tower's backup: the sealed kit.
    Backup { slot: Slot, number: CommitmentNumber },
    /// Where a transaction with this hint leads. No value.
    Hint { hint: Hint, slot: Slot, number: CommitmentNumber },
    /// An own tower's secrets of a channel.
    OwnState(Slot),
    /// An HTLC that some state of a channel had.
    OwnHtlc { slot: Slot, direction: HtlcDirection, id: HtlcId },
    /// A revoked state that is in a block.
    Breach { slot: Slot, number: CommitmentNumber },
    /// What is done about it.
    Response { slot: Slot, number: CommitmentNumber },
    /// An own tower's resolution of a closed channel.
    Enforcement(Slot),
    /// The hints of a block's transactions, for backups that come after their breach.
    Recent(Height),
    /// A channel whose rows are being deleted.
    Leaving(Slot),
    /// A channel that has ended, and how.
    Closed { client: ClientId, channel: ChannelName },
}

/// The first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the keys of the same name say it")]
pub enum Table {
    Tip = 1,
    Client = 2,
    Channel = 3,
    Held = 4,
    Backup = 5,
    Hint = 6,
    OwnState = 7,
    OwnHtlc = 8,
    Breach = 9,
    Response = 10,
    Enforcement = 11,
    Recent = 12,
    Leaving = 13,
    Closed = 14,
}

impl Table {
    /// Every one, in the order of their bytes.
    pub const ALL: [Self; 14] = [
        Self::Tip,
        Self::Client,
        Self::Channel,
        Self::Held,
        Self::Backup,
        Self::Hint,
        Self::OwnState,
        Self::OwnHtlc,
        Self::Breach,
        Self::Response,
        Self::Enforcement,
        Self::Recent,
        Self::Leaving,
        Self::Closed,
    ];

    /// What all its keys begin with.
    pub const fn prefix(self) -> [u8; 1] {
        [self as u8]
    }

    /// What its keys of one slot begin with.
    pub fn of_slot(self, slot: Slot) -> Vec<u8> {
        let mut out = self.prefix().to_vec();
        slot.put(&mut out);
        out
    }
}

impl Key {
    /// What all rows of a hint begin with.
    pub fn hint_prefix(hint: Hint) -> Vec<u8> {
        let mut out = Table::Hint.prefix().to_vec();
        hint.put(&mut out);
        out
    }

    /// The bytes of the key; in their order, what is numbered follows one another by number.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(19);
        let out = &mut out;
        match self {
            Self::Tip => out.push(Table::Tip as u8),
            Self::Client(client) => put(Table::Client, client, out),
            Self::Channel(slot) => put(Table::Channel, slot, out),
            Self::Held(slot) => put(Table::Held, slot, out),
            Self::Backup { slot, number } => put(Table::Backup, &(*slot, Number(*number)), out),
            Self::Hint { hint, slot, number } => put(Table::Hint, &(*hint, (*slot, Number(*number))), out),
            Self::OwnState(slot) => put(Table::OwnState, slot, out),
            Self::OwnHtlc { slot, direction, id } => put(Table::OwnHtlc, &(*slot, (*direction, *id)), out),
            Self::Breach { slot, number } => put(Table::Breach, &(*slot, Number(*number)), out),
            Self::Response { slot, number } => put(Table::Response, &(*slot, Number(*number)), out),
            Self::Enforcement(slot) => put(Table::Enforcement, slot, out),
            Self::Recent(height) => put(Table::Recent, height, out),
            Self::Leaving(slot) => put(Table::Leaving, slot, out),
            Self::Closed { client, channel } => put(Table::Closed, &(*client, *channel), out),
        }
        std::mem::take(out)
    }

    /// An error for bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let of = &mut reader;
        let key = match of.field::<u8>()? {
            1 => Self::Tip,
            2 => Self::Client(Part::take(of)?),
            3 => Self::Channel(Part::take(of)?),
            4 => Self::Held(Part::take(of)?),
            5 => Self::Backup { slot: Part::take(of)?, number: Number::take(of)?.0 },
            6 => Self::Hint { hint: Part::take(of)?, slot: Part::take(of)?, number: Number::take(of)?.0 },
            7 => Self::OwnState(Part::take(of)?),
            8 => Self::OwnHtlc { slot: Part::take(of)?, direction: Part::take(of)?, id: Part::take(of)? },
            9 => Self::Breach { slot: Part::take(of)?, number: Number::take(of)?.0 },
            10 => Self::Response { slot: Part::take(of)?, number: Number::take(of)?.0 },
            11 => Self::Enforcement(Part::take(of)?),
            12 => Self::Recent(Part::take(of)?),
            13 => Self::Leaving(Part::take(of)?),
            14 => Self::Closed { client: Part::take(of)?, channel: Part::take(of)? },
            value => return Err(ReadError::Unknown { what: "table", value: u64::from(value) }),
        };
        reader.finish()?;
        Ok(key)
    }
}

fn put(table: Table, name: &impl Part, out: &mut Vec<u8>) {
    out.push(table as u8);
    name.put(out);
}

/// Six bytes.
struct Number(CommitmentNumber);

impl Part for Number {
    fn put(&self, out: &mut Vec<u8>) {
        let [_, _, number @ ..] = self.0.0.to_be_bytes();
        out.extend_from_slice(&number);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let [a, b, c, d, e, f] = reader.array()?;
        Ok(Self(CommitmentNumber(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))))
    }
}

/// A row with a format number.
pub trait Row: Part {
    /// What the row is called in an error.
    const WHAT: &'static str;

    /// The format's number, then the value.
    fn encode(&self) -> Vec<u8> {
        encode_format(FORMAT, self)
    }

    /// The row again.
    fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        decode_format(Self::WHAT, FORMAT, bytes)
    }
}

macro_rules! rows {
    ($($name:ident $what:literal)*) => {$(
        impl Row for $name {
            const WHAT: &'static str = $what;
        }
    )*};
}

rows! {
    TipRow "the tower's tip"
    ClientRow "a client"
    ChannelRow "a channel"
    HeldRow "what is held of a channel"
    OwnStateRow "the secrets of a channel"
    OwnHtlcRow "an HTLC"
    BreachRow "a breach"
    RecentRow "a block's hints"
    Closed "how a channel ended"
}

/// The value of [`Key::Tip`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TipRow {
    /// The block's height.
    pub height: Height,
    /// And its hash.
    pub hash: [u8; 32],
}

/// The value of [`Key::Client`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// What it was registered for.
    pub mode: Mode,
    /// As granted, in satoshi per 1,000 units of weight.
    pub sweep_feerate: FeeratePerKw,
    /// Where the chain was.
    pub since: Height,
    /// The block at which its term ends.
    pub until: Height,
}

/// The value of [`Key::Channel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRow {
    /// Whose channel it is.
    pub client: ClientId,
    /// As the client calls it.
    pub name: ChannelName,
    /// In which mode its backups come.
    pub mode: Mode,
    /// As the client sent them.
    pub constants: Vec<u8>,
}

/// The value of [`Key::Held`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldRow {
    /// Which states.
    pub held: Held,
    /// Of its backups, rows and keys included.
    pub bytes: u64,
    /// The client's, of the newest state.
    pub mark: Mark,
}

/// The value of [`Key::OwnState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnStateRow {
    /// All that the peer has revealed.
    pub secrets: PerCommitmentSecrets,
    /// The HTLCs of the newest state.
    pub live: Vec<(HtlcDirection, HtlcId)>,
}

/// An HTLC as the cheater saw it, and the states that had it; `last` is `None` while the newest one has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnHtlcRow {
    /// In millisatoshi.
    pub amount: Msat,
    /// By which the HTLC is claimed.
    pub payment_hash: PaymentHash,
    /// The block from which it may be taken back.
    pub cltv_expiry: CltvExpiry,
    /// The first state that had it.
    pub first: CommitmentNumber,
    /// The last one that had it.
    pub last: Option<CommitmentNumber>,
}

/// The value of [`Key::Breach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreachRow {
    /// The revoked commitment.
    pub txid: Txid,
    /// Of its outputs those that are claimed.
    pub outputs: Vec<(u32, TxOut)>,
    /// Whose commitment it is.
    pub name: ChannelName,
    /// The channel's constants, as the client sent them.
    pub constants: Vec<u8>,
    /// The kit that the transaction opens.
    pub sealed: Bytes,
}

/// Eight bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRow {
    /// One after the other.
    pub hints: Bytes,
}

by_inner!(Slot);
by_field! {
    TipRow { height, hash }
    ClientRow { mode, sweep_feerate, since, until }
    ChannelRow { client, name, mode, constants }
    HeldRow { held, bytes, mark }
    OwnStateRow { secrets, live }
    OwnHtlcRow { amount, payment_hash, cltv_expiry, first, last }
    BreachRow { txid, outputs, name, constants, sealed }
    RecentRow { hints }
}

/// Why the store cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tower's store cannot be read: {0}")]
pub struct Unread(pub String);

/// What a tower has stored, as of the last commit. A driver implements it over its database, a test over a map.
pub trait Archive {
    /// The row, if there is one.
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Unread>;

    /// The rows whose keys begin with `prefix` and come after `after`, in the keys' order: at most `limit`.
    fn scan(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Vec<u8>)>, Unread>;
}

/// How many rows are read at a time.
pub const SCAN_LIMIT: usize = 1_000;

/// Hands every row whose key begins with `prefix` to `each`, until that says stop.
pub fn scan_all<E: From<Unread>>(
    archive: &dyn Archive,
    prefix: &[u8],
    mut each: impl FnMut(Key, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut after = None;
    loop {
        let rows = archive.scan(prefix, after.as_ref(), SCAN_LIMIT)?;
        let is_last = rows.len() < SCAN_LIMIT;
        after = rows.last().map(|(key, _)| *key);
        for (key, value) in rows {
            each(key, value)?;
        }
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::appointment::{ChannelTag, FundingIndex};

    fn keys(number: u64, word: u32, hint: [u8; 8]) -> Vec<Key> {
        let (slot, number, hint) = (Slot(word), CommitmentNumber(number), Hint(hint));
        vec![
            Key::Tip,
            Key::Client(ClientId([hint.0[0]; 33])),
            Key::Channel(slot),
            Key::Held(slot),
            Key::Backup { slot, number },
            Key::Hint { hint, slot, number },
            Key::OwnState(slot),
            Key::OwnHtlc { slot, direction: HtlcDirection::Received, id: HtlcId(number.0) },
            Key::Breach { slot, number },
            Key::Response { slot, number },
            Key::Enforcement(slot),
            Key::Recent(Height(word)),
            Key::Leaving(slot),
            Key::Closed {
                client: ClientId([hint.0[1]; 33]),
                channel: ChannelName { tag: ChannelTag([hint.0[2]; 16]), funding: FundingIndex(word as u16) },
            },
        ]
    }

    proptest! {
        #[test]
        fn every_key_is_read_again_and_numbers_follow_one_another(number in 0_u64..1 << 48, word: u32, hint: [u8; 8]) {
            for (at, key) in keys(number, word, hint).into_iter().enumerate() {
                prop_assert_eq!(Key::decode(&key.encode()), Ok(key));
                prop_assert_eq!(usize::from(key.encode()[0]), at + 1);
                prop_assert_eq!(Table::ALL.get(at).map(|table| table.prefix()), Some([key.encode()[0]]));
            }
            let key = |number| Key::Backup { slot: Slot(word), number: CommitmentNumber(number) }.encode();
            prop_assert!(number == 0 || key(number - 1) < key(number));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(key) = Key::decode(&bytes) {
                prop_assert_eq!(key.encode(), bytes.clone());
            }
            let _ = (OwnStateRow::decode(&bytes), BreachRow::decode(&bytes), ChannelRow::decode(&bytes));
        }
    }

    #[test]
    fn a_row_of_a_newer_version_is_refused_by_name() {
        let row = TipRow { height: Height(7), hash: [1; 32] };
        let mut bytes = row.encode();
        assert_eq!(TipRow::decode(&bytes), Ok(row));
        bytes[0] = 2;
        let newer = ReadError::Newer { what: "the tower's tip", found: 2, newest: 1 };
        assert_eq!(TipRow::decode(&bytes), Err(newer));
    }
}
