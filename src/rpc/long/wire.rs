//! Protobuf's encoding, field by field, of messages that are never built (Protobuf, Encoding).
//!
//! A gRPC message begins with its length, so whoever sends one before all of it is encoded has to know that length first. Here
//! the same lines say both: a [`Message`] is put to a [`Length`], which counts, or to bytes.

use prost::encoding::{encode_varint, encoded_len_varint};

/// A message, or a part of one: its fields that are not empty, in the order of their numbers.
pub(crate) trait Message {
    fn put<T: Sink>(&self, to: &mut T);

    fn length(&self) -> usize {
        let mut length = Length::default();
        self.put(&mut length);
        length.0
    }
}

/// Where a message goes.
pub(crate) trait Sink {
    fn varint(&mut self, value: u64);
    fn raw(&mut self, bytes: &[u8]);
    fn raw_hex(&mut self, bytes: &[u8]);
    /// A text whose length is known before it is made.
    fn made(&mut self, length: usize, make: impl FnOnce() -> String);

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    fn uint(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, VARINT);
            self.varint(value);
        }
    }

    /// `int32` and `int64`: a negative one takes ten bytes.
    fn int(&mut self, field: u32, value: i64) {
        self.uint(field, value.cast_unsigned());
    }

    fn flag(&mut self, field: u32, value: bool) {
        self.uint(field, u64::from(value));
    }

    fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.head(field, bytes.len());
            self.raw(bytes);
        }
    }

    /// As text in hexadecimal digits.
    fn hex(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.head(field, 2 * bytes.len());
            self.raw_hex(bytes);
        }
    }

    fn message(&mut self, field: u32, message: &impl Message)
    where
        Self: Sized,
    {
        self.head(field, message.length());
        message.put(self);
    }

    fn head(&mut self, field: u32, length: usize) {
        self.key(field, LENGTH_DELIMITED);
        self.varint(length as u64);
    }
}

const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// Counts what would be written.
#[derive(Debug, Default)]
pub(crate) struct Length(pub usize);

impl Length {
    /// What a field takes that is a message.
    pub(crate) fn of(field: u32, message: &impl Message) -> usize {
        let mut length = Self::default();
        length.message(field, message);
        length.0
    }
}

impl Sink for Length {
    fn varint(&mut self, value: u64) {
        self.0 += encoded_len_varint(value);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn raw_hex(&mut self, bytes: &[u8]) {
        self.0 += 2 * bytes.len();
    }

    fn made(&mut self, length: usize, _: impl FnOnce() -> String) {
        self.0 += length;
    }

    fn message(&mut self, field: u32, message: &impl Message) {
        let before = self.0;
        message.put(self);
        let length = self.0 - before;
        self.head(field, length);
    }
}

impl Sink for Vec<u8> {
    fn varint(&mut self, value: u64) {
        encode_varint(value, self);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn raw_hex(&mut self, bytes: &[u8]) {
        for some in bytes.chunks(HEX_AT_ONCE) {
            let mut digits = [0; 2 * HEX_AT_ONCE];
            for (two, byte) in digits.chunks_exact_mut(2).zip(some) {
                two.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            }
            self.extend(digits.iter().take(2 * some.len()));
        }
    }

    fn made(&mut self, _: usize, make: impl FnOnce() -> String) {
        self.extend_from_slice(make().as_bytes());
    }
}

const HEX_AT_ONCE: usize = 64;

/// `half`: below 16.
const fn digit(half: u8) -> u8 {
    if half < 10 { b'0' + half } else { b'a' + half - 10 }
}

#[cfg(test)]
mod tests {
    use leyden_proto::lnrpc;
    use prost::Message as _;

    use super::*;

    struct Output<'a>(&'a lnrpc::OutputDetail, &'a [u8]);

    impl Message for Output<'_> {
        fn put<T: Sink>(&self, to: &mut T) {
            let Output(detail, script) = self;
            to.int(1, detail.output_type.into());
            to.text(2, &detail.address);
            to.hex(3, script);
            to.int(4, detail.output_index);
            to.int(5, detail.amount);
            to.flag(6, detail.is_our_address);
        }
    }

    struct List<'a>(&'a [(lnrpc::OutputDetail, Vec<u8>)]);

    impl Message for List<'_> {
        fn put<T: Sink>(&self, to: &mut T) {
            for (detail, script) in self.0 {
                to.message(11, &Output(detail, script));
            }
        }
    }

    #[test]
    fn what_is_written_and_its_length_are_protobufs() {
        let numbers = [0, 1, 127, 128, -1, i64::MIN, i64::MAX];
        let details = (0..).zip(numbers).map(|(length, number)| {
            let script = vec![0xa9; length * 60];
            let detail = lnrpc::OutputDetail {
                output_type: i32::try_from(length).unwrap(),
                address: "bc1".repeat(length),
                pk_script: hex::encode(&script),
                output_index: number,
                amount: -number.saturating_add(1),
                is_our_address: number < 0,
            };
            (detail, script)
        });
        let details: Vec<_> = details.collect();
        let output_details = details.iter().map(|(detail, _)| detail.clone()).collect();
        let expected = lnrpc::Transaction { output_details, ..Default::default() }.encode_to_vec();
        let mut bytes = Vec::new();
        List(&details).put(&mut bytes);
        assert_eq!(bytes, expected);
        assert_eq!(List(&details).length(), expected.len());
    }

    #[test]
    fn every_byte_has_its_two_digits() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = Vec::new();
        text.raw_hex(&all);
        assert_eq!(text, hex::encode(&all).as_bytes());
    }
}
