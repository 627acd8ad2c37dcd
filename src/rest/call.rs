//! A call of the services in this process: encoded messages in, encoded messages out.

use axum::body::Bytes;
use axum::http::HeaderMap;
use prost_reflect::prost::bytes::{Buf as _, BufMut as _};
use tokio_stream::Stream;
use tonic::{
    Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
};

use super::request::Route;
use crate::{
    callers::Caller,
    rpc::{MAX_MESSAGE, Services},
};

/// A call that is about to be made.
pub(super) struct Call<'a> {
    pub services: &'a Services,
    pub route: &'a Route,
    pub metadata: HeaderMap,
    pub caller: Caller,
}

impl Call<'_> {
    /// The one answer to one request.
    pub(super) async fn unary(self, message: Bytes) -> Result<Bytes, Status> {
        let path = self.path()?;
        let request = self.with_metadata(tonic::Request::new(message));
        let mut services = Grpc::new(self.services.in_process()).max_decoding_message_size(MAX_MESSAGE);
        let Ok(()) = services.ready().await;
        services.unary(request, path, Plain).await.map(tonic::Response::into_inner)
    }

    /// The answers to one request, or to as many as the call takes.
    pub(super) async fn stream(
        self,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Status> {
        let path = self.path()?;
        let request = self.with_metadata(tonic::Request::new(messages));
        let mut services = Grpc::new(self.services.in_process()).max_decoding_message_size(MAX_MESSAGE);
        let Ok(()) = services.ready().await;
        services.streaming(request, path, Plain).await.map(tonic::Response::into_inner)
    }

    fn path(&self) -> Result<PathAndQuery, Status> {
        self.route.path.parse().map_err(|_| Status::internal("the path of a call is none"))
    }

    fn with_metadata<T>(&self, mut request: tonic::Request<T>) -> tonic::Request<T> {
        *request.metadata_mut() = MetadataMap::from_headers(self.metadata.clone());
        request.extensions_mut().insert(self.caller.clone());
        request
    }
}

/// Messages stay encoded.
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
