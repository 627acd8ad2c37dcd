//! gRPC calls whose messages are bytes, good or bad.

use bytes::{Buf as _, BufMut as _};
use leyden_client::client::Access;
use tokio_stream::StreamExt as _;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// A connection to a daemon, without a macaroon.
pub async fn channel(access: &Access) -> Channel {
    let certificate = std::fs::read(&access.tls_certificate).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", access.address)).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

/// Calls a method by its path with any bytes as the request; gives the first answer.
pub async fn call(
    channel: &Channel,
    path: &str,
    macaroon: Option<&[u8]>,
    message: Vec<u8>,
) -> Result<Option<Vec<u8>>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(message);
    if let Some(macaroon) = macaroon {
        request.metadata_mut().insert("macaroon", hex::encode(macaroon).parse().unwrap());
    }
    let path: PathAndQuery = path.parse().unwrap();
    let mut answers = grpc.server_streaming(request, path, Bytes).await?.into_inner();
    answers.next().await.transpose()
}

#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
