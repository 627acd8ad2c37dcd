//! Type-length-value streams (BOLT 1, Type-Length-Value Format).
//!
//! ```text
//!   record = type (BigSize) ‖ length (BigSize) ‖ value
//!   stream = records in strictly increasing order of their types, up to the end of the message
//! ```
//!
//! [`Records`] walks a stream and enforces what every stream obeys: shortest encodings, increasing types, lengths
//! within the message. What a type means is the caller's: it matches on the type, and hands the ones that it does
//! not know to [`unknown`], where even ones are an error ("it is ok to be odd").

use super::bigsize;
use super::codec::{DecodeError, Reader, Record};

/// Walks the records of a stream.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
    previous: Option<u64>,
}

impl<'a> Records<'a> {
    /// A stream that takes up all of what `reader` has left.
    pub fn new(reader: Reader<'a>) -> Self {
        Self { reader, previous: None }
    }

    /// How many bytes of the stream are left.
    pub fn remaining(&self) -> usize {
        self.reader.remaining()
    }

    /// The next record's type and its value, or `None` at the end of the stream.
    pub fn next_record(&mut self) -> Result<Option<(u64, Reader<'a>)>, DecodeError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let kind = self.reader.bigsize()?;
        if let Some(previous) = self.previous
            && kind <= previous
        {
            return Err(DecodeError::RecordOrder { previous, next: kind });
        }
        self.previous = Some(kind);
        let len = self.reader.bigsize()?;
        // Longer than memory is longer than the message, too.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let value = self.reader.bytes(len)?;
        Ok(Some((kind, Reader::new(value))))
    }
}

/// An unknown record: refused when its type is even, passed over when it is odd.
pub fn unknown(kind: u64) -> Result<(), DecodeError> {
    if kind.is_multiple_of(2) { Err(DecodeError::UnknownEvenRecord(kind)) } else { Ok(()) }
}

/// Appends one record. The caller keeps the types in increasing order.
pub fn write<T: Record>(kind: u64, value: &T, out: &mut Vec<u8>) {
    write_with(kind, out, |out| value.write_record(out));
}

/// Appends one record whose value `fill` appends.
pub fn write_with(kind: u64, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    bigsize::write(kind, out);
    // The length is known only after the value: nearly always it fits in the one byte that is kept free for it.
    let at = out.len();
    out.push(0);
    fill(out);
    let len = (out.len() - at - 1) as u64;
    let mut prefix = Vec::new();
    match out.get_mut(at) {
        Some(byte) if len < 0xfd => *byte = len as u8,
        _ => {
            bigsize::write(len, &mut prefix);
            out.splice(at..=at, prefix);
        }
    }
}

/// A record that is kept as it came: a custom record of a payment, for example.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawRecord {
    /// The record's type.
    pub kind: u64,
    /// Its bytes.
    pub value: Vec<u8>,
}
