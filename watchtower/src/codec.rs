//! How what travels, what is sealed and what is stored becomes bytes: the messages' own encoding of
//! [`leyden_channels::wire::codec`] (integers big-endian), and a little more for lists and byte strings (after a `u32` length),
//! options and tags.
//!
//! Promises: any bytes give a value or an error, never a panic; nothing is reserved that the bytes themselves do not hold;
//! what was written is read again as it was.

use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut, Txid, constants::ChainHash};
use leyden_channels::{
    keys::{PerCommitmentSecret, PerCommitmentSecrets, ShachainError},
    types::{
        CltvExpiry, CommitmentNumber, CommitmentType, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat, PaymentHash,
        Side,
    },
    wire::codec::{DecodeError, Field, Reader},
};
use secp256k1::{PublicKey, ecdsa::Signature};

/// Why bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ReadError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("{value} is no {what} that this version knows")]
    Unknown { what: &'static str, value: u64 },
    #[error("{what} of format {found} was written by a newer version: this one reads up to {newest}")]
    Newer { what: &'static str, found: u8, newest: u8 },
    #[error("{what} of {got} bytes is longer than the {limit} that are allowed")]
    TooLong { what: &'static str, got: usize, limit: usize },
    #[error(transparent)]
    Secrets(#[from] ShachainError),
    #[error("{what} are not in their order")]
    Order { what: &'static str },
}

/// A value that knows its own end.
pub trait Part: Sized {
    /// Appends its bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it, and leaves the reader behind it.
    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError>;
}

/// `value` alone.
pub fn encode(value: &impl Part) -> Vec<u8> {
    let mut out = Vec::new();
    value.put(&mut out);
    out
}

/// The one value that `bytes` are.
pub fn decode<T: Part>(bytes: &[u8]) -> Result<T, ReadError> {
    let mut reader = Reader::new(bytes);
    let value = T::take(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// `value` after its format number.
pub fn encode_format(format: u8, value: &impl Part) -> Vec<u8> {
    let mut out = vec![format];
    value.put(&mut out);
    out
}

/// The value after a format number, which must be `newest`: there is no older one yet.
pub fn decode_format<T: Part>(what: &'static str, newest: u8, bytes: &[u8]) -> Result<T, ReadError> {
    let mut reader = Reader::new(bytes);
    check_format(what, newest, &mut reader)?;
    let value = T::take(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Reads a format's number, from one to `newest`; `what` is the row's name in an error.
pub fn check_format(what: &'static str, newest: u8, reader: &mut Reader<'_>) -> Result<(), ReadError> {
    match reader.field::<u8>()? {
        found if found == newest => Ok(()),
        found if found > newest => Err(ReadError::Newer { what, found, newest }),
        found => Err(ReadError::Unknown { what, value: u64::from(found) }),
    }
}

/// A list's length. Lists are bounded long before 2^32 entries.
pub fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Parts that are written as the channels' messages write them.
macro_rules! as_in_messages {
    ($($name:ty),* $(,)?) => {$(
        impl Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.write(out);
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
                Ok(reader.field()?)
            }
        }
    )*};
}

as_in_messages!(
    u8,
    u16,
    u32,
    u64,
    [u8; 8],
    [u8; 16],
    [u8; 32],
    [u8; 33],
    Amount,
    ChainHash,
    CltvExpiry,
    CommitmentNumber,
    FeeratePerKw,
    HtlcId,
    Msat,
    PaymentHash,
    PublicKey,
    ScriptBuf,
    Signature,
    Txid,
);

/// Structs that are their fields, one after the other.
macro_rules! by_field {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl $crate::codec::Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::codec::Part::put(&self.$field, out);)*
            }

            fn take(
                reader: &mut leyden_channels::wire::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::ReadError> {
                Ok(Self { $($field: $crate::codec::Part::take(reader)?),* })
            }
        }
    )*};
}

/// Newtypes that are written as what they hold.
macro_rules! by_inner {
    ($($name:ident),* $(,)?) => {$(
        impl $crate::codec::Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $crate::codec::Part::put(&self.0, out);
            }

            fn take(
                reader: &mut leyden_channels::wire::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::ReadError> {
                $crate::codec::Part::take(reader).map(Self)
            }
        }
    )*};
}

/// Enums without content, by a byte.
macro_rules! by_tag {
    ($($name:ident { $($byte:literal $variant:ident),* $(,)? } $what:literal)*) => {$(
        impl $crate::codec::Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $byte),* });
            }

            fn take(
                reader: &mut leyden_channels::wire::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::ReadError> {
                match reader.field::<u8>()? {
                    $($byte => Ok(Self::$variant),)*
                    value => Err($crate::codec::ReadError::Unknown { what: $what, value: u64::from(value) }),
                }
            }
        }
    )*};
}

pub(crate) use {by_field, by_inner, by_tag};

by_inner!(Height, PerCommitmentSecret);
by_field! { OutPoint { txid, vout } TxOut { value, script_pubkey } }
by_tag! {
    Side { 0 Local, 1 Remote } "side"
    CommitmentType { 0 StaticRemoteKey, 1 Anchors } "commitment type"
    HtlcDirection { 0 Offered, 1 Received } "HTLC direction"
}

impl Part for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        match reader.field::<u8>()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(ReadError::Unknown { what: "yes or no", value: u64::from(value) }),
        }
    }
}

impl<T: Part> Part for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        bool::take(reader)?.then(|| T::take(reader)).transpose()
    }
}

impl<T: Part> Part for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        count(self.len()).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        (0..u32::take(reader)?).map(|_| T::take(reader)).collect()
    }
}

impl<A: Part, B: Part> Part for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

/// Bytes after a `u32` length: longer than the messages' own byte strings may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Part for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        count(self.0.len()).put(out);
        out.extend_from_slice(&self.0);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let len = u32::take(reader)?;
        Ok(Self(reader.bytes(usize::try_from(len).unwrap_or(usize::MAX))?.to_vec()))
    }
}

impl Part for PerCommitmentSecrets {
    fn put(&self, out: &mut Vec<u8>) {
        self.encode().write(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(Self::decode(&reader.field::<Vec<u8>>()?)?)
    }
}
