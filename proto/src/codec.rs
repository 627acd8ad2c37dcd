//! The codec of all services: as usual, but that a server looks at all that a request says.
//!
//! Protobuf's decoders skip what they do not know. A client that asks for something (leave by this channel, at most that
//! long) would then be served as if it had not asked; so the server refuses what it does not know ([`crate::fields`]).

use std::marker::PhantomData;

use prost::{Message, Name};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use crate::fields;
use prost::bytes::Buf as _;

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
    type Encoder = ProstEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        // Of answers, those of a newer node too, a client reads what it understands.
        CheckedDecoder { is_request: fields::is_call(&U::full_name(), &T::full_name()), decodes: PhantomData }
    }
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
