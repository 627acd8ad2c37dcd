//! The codec of all services: as usual, but that a server looks at all that a request says.
//!
//! Protobuf's decoders skip what they do not know. A client that asks for something (leave by this channel, at most that
//! long) would then be served as if it had not asked; so the server refuses what it does not know ([`crate::fields`]).

use std::marker::PhantomData;

use crate::fields;
use prost::bytes::{Buf as _, BufMut as _};
use prost::{
    Message, Name,
    encoding::{decode_varint, encode_varint},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Encodes `T` and decodes `U`: on a server `U` is the request, on a client the response.
#[derive(Debug)]
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: Message + Name + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WholeEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        WholeEncoder { encodes: PhantomData }
    }

    fn decoder(&mut self) -> Self::Decoder {
        // Of answers, those of a newer node too, a client reads what it understands.
        CheckedDecoder { is_request: fields::is_call(&U::full_name(), &T::full_name()), decodes: PhantomData }
    }
}

/// Encodes as usual, but that no value of a map is left out.
///
/// Protobuf lets an encoder leave out a value that is empty, and ours does. Readers made with protobuf.js, such as all
/// programs of Node.js, take a message that is left out for `null` and fail on the whole answer.
#[derive(Debug)]
pub struct WholeEncoder<T> {
    encodes: PhantomData<T>,
}

/// Maps of answers whose values are messages that may be empty: the answer, and the map's field.
const MAPS: [(&str, u64); 3] =
    [("lnrpc.ListPermissionsResponse", 1), ("lnrpc.WalletBalanceResponse", 4), ("walletrpc.SubmitPackageResponse", 2)];

impl<T: Message + Name> Encoder for WholeEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match MAPS.iter().find(|(message, _)| *message == T::full_name()) {
            Some((_, field)) => {
                let bytes = item.encode_to_vec();
                let whole = with_whole_entries(&bytes, *field).ok_or_else(|| Status::internal("not to be encoded"))?;
                buf.put_slice(&whole);
                Ok(())
            }
            None => item.encode(buf).map_err(|error| Status::internal(error.to_string())),
        }
    }
}

/// A field's number and wire type (Protobuf's encoding, Message Structure).
const LENGTH_DELIMITED: u64 = 2;
const VARINT: u64 = 0;
/// The value of a map's entry, a message: field 2.
const VALUE_BYTE: u8 = 0x12;
const VALUE: u64 = VALUE_BYTE as u64;

/// An encoded message in which each entry of a map has its value; `None`: it is no such message.
fn with_whole_entries(mut bytes: &[u8], map: u64) -> Option<Vec<u8>> {
    let mut whole = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let tag = decode_varint(&mut bytes).ok()?;
        encode_varint(tag, &mut whole);
        let number = decode_varint(&mut bytes).ok()?;
        match tag & 7 {
            VARINT => encode_varint(number, &mut whole),
            LENGTH_DELIMITED => {
                let (content, rest) = bytes.split_at_checked(usize::try_from(number).ok()?)?;
                bytes = rest;
                let lacks_value = tag >> 3 == map && !has_value(content)?;
                let added: &[u8] = if lacks_value { &[VALUE_BYTE, 0] } else { &[] };
                encode_varint(number + added.len() as u64, &mut whole);
                whole.extend_from_slice(content);
                whole.extend_from_slice(added);
            }
            _ => return None,
        }
    }
    Some(whole)
}

/// Whether an entry of a map with text or numbers for keys has a value.
fn has_value(mut entry: &[u8]) -> Option<bool> {
    while !entry.is_empty() {
        let tag = decode_varint(&mut entry).ok()?;
        if tag == VALUE {
            return Some(true);
        }
        let number = decode_varint(&mut entry).ok()?;
        if tag & 7 == LENGTH_DELIMITED {
            entry = entry.get(usize::try_from(number).ok()?..)?;
        }
    }
    Some(false)
}

/// See [`CheckedCodec`].
#[derive(Debug)]
pub struct CheckedDecoder<U> {
    is_request: bool,
    decodes: PhantomData<U>,
}

impl<U: Message + Name + Default> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        if self.is_request {
            fields::check(&U::full_name(), &bytes).map_err(|refused| Status::invalid_argument(refused.to_string()))?;
        }
        U::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::lnrpc::{WalletAccountBalance, WalletBalanceResponse};

    #[test]
    fn an_empty_value_of_a_map_is_encoded_too() {
        let account = |confirmed_balance| WalletAccountBalance { confirmed_balance, unconfirmed_balance: 0 };
        for balance in [0, 5] {
            let answer = WalletBalanceResponse {
                total_balance: balance,
                locked_balance: 7,
                account_balance: HashMap::from([("default".to_owned(), account(balance))]),
                ..WalletBalanceResponse::default()
            };
            let whole = with_whole_entries(&answer.encode_to_vec(), 4).unwrap();
            assert_eq!(WalletBalanceResponse::decode(whole.as_slice()).unwrap(), answer);
            let ends_with_value = whole.windows(11).any(|part| part[..9] == *b"\x0a\x07default" && part[9] == 0x12);
            assert!(ends_with_value, "{whole:02x?}");
        }
    }

    #[test]
    fn every_map_of_messages_that_may_be_empty_is_known() {
        let pool = prost_reflect::DescriptorPool::decode(crate::DESCRIPTORS).unwrap();
        for message in pool.all_messages().filter(|message| message.package_name() != "google.protobuf") {
            for field in message.fields().filter(|field| field.is_map()) {
                let prost_reflect::Kind::Message(entry) = field.kind() else { continue };
                let prost_reflect::Kind::Message(value) = entry.map_entry_value_field().kind() else { continue };
                // A feature has a name always.
                if value.full_name() == "lnrpc.Feature" {
                    continue;
                }
                let known = MAPS.contains(&(message.full_name(), u64::from(field.number())));
                assert!(known, "{} of {}", field.name(), message.full_name());
            }
        }
    }
}
