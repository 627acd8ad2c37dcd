//! How a program reaches a running daemon: TLS with the daemon's own certificate, and a macaroon with every call.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full};
use leyden_common::{
    layout::{Layout, Running},
    names::{KEYS, NETWORK, REFUSE_HIGH_FEE, SPEND_RESERVE},
};
use leyden_proto::{
    invoicesrpc::invoices_client::InvoicesClient,
    leyden::{
        chain_client::ChainClient, channels_client::ChannelsClient, crossing_client::CrossingClient,
        crossing_node_client::CrossingNodeClient, limits_client::LimitsClient, swap_client::SwapClient,
        tower_client::TowerClient, towers_client::TowersClient, wallet_client::WalletClient,
    },
    lnrpc::{
        lightning_client::LightningClient, state_client::StateClient, wallet_unlocker_client::WalletUnlockerClient,
    },
    routerrpc::router_client::RouterClient,
    walletrpc::wallet_kit_client::WalletKitClient,
    watchtowerrpc::watchtower_client::WatchtowerClient,
    wtclientrpc::watchtower_client_client::WatchtowerClientClient,
};
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use tonic::{
    Request, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{
        Service as _,
        http::{self, uri::PathAndQuery},
    },
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// Messages up to this size are accepted: a block of 4 MB as hex and more.
const MAX_MESSAGE_BYTES: usize = 200 << 20;

/// Why there is no connection to the daemon.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ClientError {
    #[error(
        "no daemon seems to run on {data_dir}: start it with `leydend --data-dir {data_dir}`, or name its address with --rpcserver"
    )]
    NotRunning { data_dir: String },
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("\"{0}\" is no network's name")]
    Network(String),
    #[error("{address} is not an address: {source}")]
    Address { address: String, source: tonic::transport::Error },
    #[error("no answer from {address}: {source}. Is leydend running there? Start it with `leydend`")]
    Connect { address: String, source: tonic::transport::Error },
}

/// Where the daemon is, and what it asks a caller to show.
#[derive(Debug, Clone)]
pub struct Access {
    /// host:port of the gRPC service.
    pub address: String,
    /// The daemon's certificate; PEM.
    pub tls_certificate: PathBuf,
    /// Absent until the wallet exists; calls that need one then say so.
    pub macaroon: PathBuf,
}

impl Access {
    /// The daemon that runs on a data directory, found by the file that it keeps there.
    pub fn from_data_dir(data_dir: &std::path::Path) -> Result<Self, ClientError> {
        let not_running = || ClientError::NotRunning { data_dir: data_dir.display().to_string() };
        let layout = Layout::new(data_dir.to_owned(), "regtest");
        let text = fs::read(layout.running()).map_err(|_| not_running())?;
        let running: Running = serde_json::from_slice(&text).map_err(|_| not_running())?;
        let layout = Layout::new(data_dir.to_owned(), &running.network);
        Ok(Self {
            address: running.rpc.to_string(),
            tls_certificate: layout.tls_certificate(),
            macaroon: layout.macaroon("admin"),
        })
    }
}

/// Adds the macaroon to each call, and the user's wishes for which LND has no field.
#[derive(Debug, Clone)]
pub struct WithMacaroon {
    macaroon: Option<MetadataValue<Ascii>>,
    /// The network that is meant; `None`: the daemon's first.
    network: Option<MetadataValue<Ascii>>,
    wishes: Wishes,
}

/// What the user insists on, or does not.
#[derive(Debug, Clone, Copy, Default)]
struct Wishes {
    /// To spend what is kept back for claims of channels.
    spend_reserve: bool,
    /// That a fee of more than half of what is sent is refused.
    refuse_high_fee: bool,
    /// How the keys of a new wallet follow from its words; `None`: as usual on the network.
    keys: Option<&'static str>,
}

impl Interceptor for WithMacaroon {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(macaroon) = &self.macaroon {
            request.metadata_mut().insert("macaroon", macaroon.clone());
        }
        if let Some(network) = &self.network {
            request.metadata_mut().insert(NETWORK, network.clone());
        }
        let Wishes { spend_reserve, refuse_high_fee, keys } = self.wishes;
        if let Some(keys) = keys {
            request.metadata_mut().insert(KEYS, MetadataValue::from_static(keys));
        }
        for (key, wanted) in [(SPEND_RESERVE, spend_reserve), (REFUSE_HIGH_FEE, refuse_high_fee)] {
            if wanted {
                request.metadata_mut().insert(key, MetadataValue::from_static("true"));
            }
        }
        Ok(request)
    }
}

/// Messages stay encoded.
#[derive(Debug)]
struct Encoded;

impl Codec for Encoded {
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

impl Encoder for Encoded {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).into()))
    }
}

/// One answer, and when its bytes came.
#[derive(Debug, Clone)]
pub struct TimedAnswer {
    /// The message, encoded.
    pub message: Bytes,
    /// From the call to the first byte of the answer.
    pub first_byte: Duration,
    /// From the call to the last one.
    pub whole: Duration,
}

/// What stands before each message: whether it is compressed, and its length.
const MESSAGE_HEAD: usize = 5;

type Authorized = InterceptedService<Channel, WithMacaroon>;

/// A connection to a daemon; clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    macaroon: WithMacaroon,
}

impl Client {
    /// Opens one TLS connection that trusts only this certificate. A macaroon that cannot be read is left out: calls
    /// that need none work.
    pub async fn connect(access: &Access) -> Result<Self, ClientError> {
        let path = &access.tls_certificate;
        let certificate = fs::read(path).map_err(|source| ClientError::Read { path: path.clone(), source })?;
        // The certificate names localhost whatever the address is: what counts is that it is the daemon's own.
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost");
        let address = &access.address;
        let bad_address = |source| ClientError::Address { address: address.clone(), source };
        let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(bad_address)?;
        let channel = endpoint
            .tls_config(tls)
            .map_err(bad_address)?
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(|source| ClientError::Connect { address: address.clone(), source })?;
        let macaroon = match fs::read(&access.macaroon) {
            Ok(bytes) => hex::encode(bytes).parse().ok(),
            Err(_) => None,
        };
        Ok(Self { channel, macaroon: WithMacaroon { macaroon, network: None, wishes: Wishes::default() } })
    }

    /// This connection, for calls to this network of the daemon.
    pub fn on_network(mut self, name: &str) -> Result<Self, ClientError> {
        let value = name.parse().map_err(|_| ClientError::Network(name.to_owned()))?;
        self.macaroon.network = Some(value);
        Ok(self)
    }

    /// This connection, for a wallet whose keys follow from its words so: by `coin`, or by `chain`.
    pub fn with_keys_by(mut self, scheme: &'static str) -> Self {
        self.macaroon.wishes.keys = Some(scheme);
        self
    }

    /// This connection, for a user who insists on spending what is kept back for claims of channels.
    pub fn spending_reserve(mut self, insists: bool) -> Self {
        self.macaroon.wishes.spend_reserve = insists;
        self
    }

    /// This connection, for a user who has not insisted on a fee that is more than half of what is sent.
    pub fn refusing_high_fee(mut self, refuses: bool) -> Self {
        self.macaroon.wishes.refuse_high_fee = refuses;
        self
    }

    /// Any call by its path, with its request and its answers encoded; a call that has one answer gives one.
    pub async fn call(&self, path: &str, request: Vec<u8>) -> Result<Streaming<Vec<u8>>, Status> {
        let path = PathAndQuery::try_from(path).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let service = InterceptedService::new(self.channel.clone(), self.macaroon.clone());
        let mut grpc = Grpc::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
        grpc.ready().await.map_err(|_| Status::unavailable("transport error"))?;
        Ok(grpc.server_streaming(Request::new(request), path, Encoded).await?.into_inner())
    }

    /// A call that has one answer, by its path, with the time that its bytes take.
    pub async fn timed(&self, path: &str, request: &[u8]) -> Result<TimedAnswer, Status> {
        let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        let length = u32::try_from(request.len()).map_err(|_| Status::invalid_argument("the request is too long"))?;
        let framed = [&[0], length.to_be_bytes().as_slice(), request].concat();
        let mut built = http::Request::post(path)
            .version(http::Version::HTTP_2)
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        if let Some(macaroon) = &self.macaroon.macaroon {
            built = built.header("macaroon", macaroon.as_bytes());
        }
        let request = built
            .body(Body::new(Full::new(Bytes::from(framed))))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut channel = self.channel.clone();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(unavailable)?;
        let begun = Instant::now();
        let answer = channel.call(request).await.map_err(unavailable)?;
        let refused = |headers: &http::HeaderMap| {
            Status::from_header_map(headers).filter(|status| status.code() != tonic::Code::Ok)
        };
        if let Some(status) = refused(answer.headers()) {
            return Err(status);
        }
        let mut body = answer.into_body();
        let (mut message, mut first_byte) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => {
                    first_byte.get_or_insert_with(|| begun.elapsed());
                    message.extend_from_slice(&data);
                }
                Err(other) => {
                    if let Some(status) = other.trailers_ref().and_then(refused) {
                        return Err(status);
                    }
                }
            }
        }
        let whole = begun.elapsed();
        let mut message = Bytes::from(message);
        if message.len() < MESSAGE_HEAD {
            return Err(Status::internal("the answer ended before its message"));
        }
        message.advance(MESSAGE_HEAD);
        Ok(TimedAnswer { message, first_byte: first_byte.unwrap_or(whole), whole })
    }

    /// `lnrpc.Lightning`.
    pub fn lightning(&self) -> LightningClient<Authorized> {
        LightningClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `routerrpc.Router`.
    pub fn router(&self) -> RouterClient<Authorized> {
        RouterClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `invoicesrpc.Invoices`.
    pub fn invoices(&self) -> InvoicesClient<Authorized> {
        InvoicesClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `leyden.Chain`.
    pub fn chain(&self) -> ChainClient<Authorized> {
        ChainClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `leyden.Channels`.
    pub fn channels(&self) -> ChannelsClient<Authorized> {
        ChannelsClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `leyden.Crossing`.
    pub fn crossing(&self) -> CrossingClient<Authorized> {
        CrossingClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `leyden.CrossingNode`.
    pub fn crossing_node(&self) -> CrossingNodeClient<Authorized> {
        CrossingNodeClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `leyden.Limits`.
    pub fn limits(&self) -> LimitsClient<Authorized> {
        LimitsClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `leyden.Swap`.
    pub fn swap(&self) -> SwapClient<Authorized> {
        SwapClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `leyden.Wallet`.
    pub fn wallet(&self) -> WalletClient<Authorized> {
        WalletClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `walletrpc.WalletKit`.
    pub fn wallet_kit(&self) -> WalletKitClient<Authorized> {
        WalletKitClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `leyden.Towers`.
    pub fn towers(&self) -> TowersClient<Authorized> {
        TowersClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `wtclientrpc.WatchtowerClient`.
    pub fn watchtower_client(&self) -> WatchtowerClientClient<Authorized> {
        WatchtowerClientClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `leyden.Tower`.
    pub fn tower(&self) -> TowerClient<Authorized> {
        TowerClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `watchtowerrpc.Watchtower`.
    pub fn watchtower(&self) -> WatchtowerClient<Authorized> {
        WatchtowerClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `lnrpc.State`, which needs no macaroon.
    pub fn state(&self) -> StateClient<Authorized> {
        StateClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }

    /// `lnrpc.WalletUnlocker`, which needs no macaroon.
    pub fn unlocker(&self) -> WalletUnlockerClient<Authorized> {
        WalletUnlockerClient::with_interceptor(self.channel.clone(), self.macaroon.clone())
    }
}
