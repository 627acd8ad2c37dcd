//! How fields become bytes and bytes become fields.
//!
//! A [`Reader`] is a cursor over received bytes that checks every length before it looks; nothing read from the
//! network can panic or allocate more than the message itself holds. Writing goes straight into one `Vec<u8>`,
//! so that a message is laid out where the transport encrypts it.
//!
//! [`Field`] is a value that knows its own end; [`Record`] is the value of a TLV record, whose end the record's
//! length gives. Integers are big-endian (BOLT 1, Fundamental Types).

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, Txid};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;
use thiserror::Error;

use crate::types::{
    ChannelId, CltvExpiry, CommitmentNumber, DirectoryId, FeeratePerKw, HtlcId, Msat, NodeId, PaymentHash,
    PaymentPreimage, PaymentSecret, ShortChannelId,
};
use crate::wire::bigsize;

/// Why received bytes are not the message that they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum DecodeError {
    #[error("the message ends {missing} bytes early")]
    Truncated { missing: usize },
    #[error("a value is followed by {extra} bytes that do not belong to it")]
    TrailingBytes { extra: usize },
    #[error("an integer is encoded in more bytes than it needs")]
    NotMinimal,
    #[error("33 bytes are not a point on the curve")]
    InvalidPoint,
    #[error("64 bytes are not a signature")]
    InvalidSignature,
    #[error("record {next} follows record {previous}: the types of a TLV stream must increase")]
    RecordOrder { previous: u64, next: u64 },
    #[error("record {0} is unknown and even, so it must be understood")]
    UnknownEvenRecord(u64),
    #[error("commitment number {0} does not fit in 48 bits")]
    CommitmentNumberTooLarge(u64),
    #[error("{got} items are described by {expected} entries")]
    CountMismatch { expected: usize, got: usize },
    #[error("text is not valid UTF-8")]
    NotUtf8,
    #[error("a value is of kind {0}, which is not known")]
    UnknownKind(u8),
}

/// A cursor over received bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, tail)) = self.rest.split_at_checked(len) else {
            return Err(DecodeError::Truncated { missing: len - self.rest.len() });
        };
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { missing: N - self.rest.len() });
        };
        self.rest = tail;
        Ok(*head)
    }

    /// Everything that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// What is left, without taking it.
    pub fn peek_rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next value.
    pub fn field<T: Field>(&mut self) -> Result<T, DecodeError> {
        T::read(self)
    }

    /// The next number in BigSize form (BOLT 1).
    pub fn bigsize(&mut self) -> Result<u64, DecodeError> {
        bigsize::read(self)
    }

    /// An error unless everything has been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::TrailingBytes { extra }),
        }
    }

    /// A truncated integer of at most `max` bytes (`tu16`, `tu32`, `tu64`), which is always the last thing of its
    /// record: it takes all that is left, and must not start with a zero byte.
    pub fn truncated(&mut self, max: usize) -> Result<u64, DecodeError> {
        let bytes = self.take_rest();
        if bytes.len() > max {
            return Err(DecodeError::TrailingBytes { extra: bytes.len() - max });
        }
        if bytes.first() == Some(&0) {
            return Err(DecodeError::NotMinimal);
        }
        Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }
}

/// Appends `value` without its leading zero bytes (`tu16`, `tu32`, `tu64`).
pub fn write_truncated(value: u64, out: &mut Vec<u8>) {
    let skip = (value.leading_zeros() / 8) as usize;
    out.extend(value.to_be_bytes().iter().skip(skip));
}

/// A value that knows its own end.
pub trait Field: Sized {
    /// Reads the value and leaves the rest.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);
}

/// The value of a TLV record: it ends where the record ends.
pub trait Record: Sized {
    /// `value` holds exactly the record's bytes. An error if they are too many or too few.
    fn read_record(value: Reader<'_>) -> Result<Self, DecodeError>;
    /// Appends the value without its type and length.
    fn write_record(&self, out: &mut Vec<u8>);
}

macro_rules! integer_fields {
    ($($int:ty),*) => {$(
        impl Field for $int {
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(reader.array()?))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

integer_fields!(u8, u16, u32, u64, i8, i16, i32, i64);

/// Newtypes that are written as what they hold.
macro_rules! newtype_fields {
    ($($name:ident($inner:ty)),*) => {$(
        impl Field for $name {
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(<$inner>::read(reader)?))
            }

            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }
        }
    )*};
}

newtype_fields!(
    ChannelId([u8; 32]),
    DirectoryId([u8; 32]),
    PaymentHash([u8; 32]),
    PaymentPreimage([u8; 32]),
    PaymentSecret([u8; 32]),
    NodeId([u8; 33]),
    Msat(u64),
    HtlcId(u64),
    ShortChannelId(u64),
    FeeratePerKw(u32),
    CltvExpiry(u32)
);

impl<const N: usize> Field for [u8; N] {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Field for CommitmentNumber {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = Self(reader.field()?);
        if number > Self::MAX {
            return Err(DecodeError::CommitmentNumberTooLarge(number.0));
        }
        Ok(number)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl Field for Amount {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_sat(reader.field()?))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.to_sat().write(out);
    }
}

impl Field for PublicKey {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_slice(&reader.array::<33>()?).map_err(|_| DecodeError::InvalidPoint)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize());
    }
}

impl Field for Signature {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_compact(&reader.array::<64>()?).map_err(|_| DecodeError::InvalidSignature)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize_compact());
    }
}

impl Field for ChainHash {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from(reader.array::<32>()?))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Field for Txid {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_byte_array(reader.array()?))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_byte_array());
    }
}

/// Bytes after a `u16` length. A longer value makes the message longer than 65535 bytes, which
/// [`Message::encode`](super::Message::encode) refuses as a whole.
fn write_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u16).write(out);
    out.extend_from_slice(bytes);
}

fn read_prefixed<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = reader.field::<u16>()?;
    reader.bytes(usize::from(len))
}

impl Field for Vec<u8> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(read_prefixed(reader)?.to_vec())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_prefixed(self, out);
    }
}

impl Field for ScriptBuf {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(read_prefixed(reader)?.to_vec()))
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_prefixed(self.as_bytes(), out);
    }
}

impl Field for Vec<Signature> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = usize::from(reader.field::<u16>()?);
        // The bytes are taken first, so that a count alone cannot make us reserve memory.
        let bytes = reader.bytes(count * 64)?;
        bytes
            .chunks_exact(64)
            .map(|one| Signature::from_compact(one).map_err(|_| DecodeError::InvalidSignature))
            .collect()
    }

    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u16).write(out);
        for signature in self {
            signature.write(out);
        }
    }
}

macro_rules! fixed_records {
    ($($name:ty),*) => {$(
        impl Record for $name {
            fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
                let read = value.field()?;
                value.finish()?;
                Ok(read)
            }

            fn write_record(&self, out: &mut Vec<u8>) {
                self.write(out);
            }
        }
    )*};
}

fixed_records!(u16, u32, u64, PublicKey, Signature, ShortChannelId, Txid);

impl Record for Vec<u8> {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        Ok(value.take_rest().to_vec())
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Record for ScriptBuf {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(value.take_rest().to_vec()))
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Record for Vec<ChainHash> {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        let mut chains = Self::with_capacity(value.remaining() / 32);
        while !value.is_empty() {
            chains.push(value.field()?);
        }
        Ok(chains)
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        for chain in self {
            chain.write(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_says_how_much_is_missing() {
        let mut reader = Reader::new(&[0, 1, 2]);
        assert_eq!(reader.field::<u16>(), Ok(1));
        assert_eq!(reader.field::<u32>(), Err(DecodeError::Truncated { missing: 3 }));
        assert_eq!(reader.bytes(9), Err(DecodeError::Truncated { missing: 8 }));
        assert_eq!(reader.remaining(), 1);
        assert_eq!(reader.finish(), Err(DecodeError::TrailingBytes { extra: 1 }));
    }

    #[test]
    fn truncated_integers_have_no_leading_zeros() {
        for value in [0, 1, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_truncated(value, &mut out);
            assert_eq!(Reader::new(&out).truncated(8), Ok(value));
        }
        assert_eq!(Reader::new(&[0]).truncated(8), Err(DecodeError::NotMinimal));
        assert_eq!(Reader::new(&[1; 5]).truncated(4), Err(DecodeError::TrailingBytes { extra: 1 }));
    }

    #[test]
    fn a_signature_count_beyond_the_message_is_refused_before_anything_is_reserved() {
        let error = Reader::new(&[0xff, 0xff, 1, 2]).field::<Vec<Signature>>();
        assert_eq!(error, Err(DecodeError::Truncated { missing: 0xffff * 64 - 2 }));
    }
}
