//! The second daemon of the same person, on the other chain of a swap: found by its data directory, as `leyden` finds it.

use std::{fs, path::PathBuf};

use async_trait::async_trait;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Transaction, Txid, consensus, constants::ChainHash, hashes::Hash as _,
};
use leyden_channels::{
    crossing::{HoldOrder, Incoming, NodeNow, Outgoing, PayOrder, PaymentRecords},
    onchain::FeeEstimates,
    payment::InvoiceNetwork,
    swap::{Chain, Tip},
    types::{CltvExpiry, DirectoryId, FeeratePerKw, Height, Msat, PaymentHash, PaymentPreimage, UnixTime},
};
use leyden_common::layout::{Layout, Running};
use leyden_proto::leyden::{
    CrossingStatusRequest, GetTransactionRequest, GiveUpCrossingRequest, HoldCrossingRequest,
    LookAtCrossingPaymentRequest, LookAtHeldRequest, PayCrossingRequest, SettleCrossingRequest, SwapBlockRequest,
    SwapChainStatusRequest, SwapFundRequest, SwapNewScriptRequest, SwapRecallRequest, SwapSpenderRequest,
    SwapTransaction, SwapWaitingRequest, chain_client::ChainClient, crossing_node_client::CrossingNodeClient,
    swap_chain_client::SwapChainClient,
};
use secp256k1::PublicKey;
use tokio::{sync::Mutex, time::timeout};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::driver::{
    crossing::{CrossingNode, NodeError, NodeStatus, PATIENCE},
    swaps::{LegBlock, LegError, LegStatus, SwapLeg},
};

/// A block of 4 MB and more.
const MAX_MESSAGE: usize = 16 << 20;

type Authorized = InterceptedService<Channel, WithMacaroon>;

#[derive(Clone)]
struct WithMacaroon(MetadataValue<Ascii>);

impl tonic::service::Interceptor for WithMacaroon {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("macaroon", self.0.clone());
        Ok(request)
    }
}

/// A connection, and what opens the other daemon.
#[derive(Clone)]
struct Connection {
    channel: Channel,
    macaroon: WithMacaroon,
}

/// Why a call has no answer.
enum CallError {
    /// Nobody answers, or too late.
    Away(String),
    Status(Status),
}

/// The way to the second daemon. It is looked for when it is needed, and again after it was away.
pub(crate) struct Sibling {
    data_dir: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Sibling {
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, connection: Mutex::default() }
    }

    fn away(&self, what: &dyn std::fmt::Display) -> CallError {
        let shown = self.data_dir.display();
        CallError::Away(format!(
            "no daemon answers on {shown} ({what}): start it with `leydend --network … --data-dir {shown}`, as before"
        ))
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let away = |what: &dyn std::fmt::Display| self.away(what);
        // The network is named by the daemon that runs.
        let running = fs::read(Layout::new(self.data_dir.clone(), "").running()).map_err(|error| away(&error))?;
        let running: Running = serde_json::from_slice(&running).map_err(|error| away(&error))?;
        let layout = Layout::new(self.data_dir.clone(), &running.network);
        let certificate = fs::read(layout.tls_certificate()).map_err(|error| away(&error))?;
        let macaroon = fs::read(layout.macaroon("admin")).map_err(|error| away(&error))?;
        let macaroon = hex::encode(macaroon).parse().map_err(|_| away(&"its macaroon cannot be read"))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", running.rpc)).map_err(|error| away(&error))?;
        let endpoint = endpoint.tls_config(tls).map_err(|error| away(&error))?.connect_timeout(PATIENCE);
        let channel = endpoint.connect().await.map_err(|error| away(&error))?;
        Ok(Connection { channel, macaroon: WithMacaroon(macaroon) })
    }

    /// One call. A daemon that was restarted has another address: whatever fails is looked for anew the next time.
    async fn ask<T, F>(&self, ask: impl FnOnce(Connection) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut connection = self.connection.lock().await;
        let connected = match connection.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        match timeout(PATIENCE, ask(connected.clone())).await {
            Ok(Ok(answer)) => {
                *connection = Some(connected);
                Ok(answer.into_inner())
            }
            // The connection has ended: nobody has answered.
            Ok(Err(status)) if std::error::Error::source(&status).is_some() => Err(self.away(&status.message())),
            Ok(Err(status)) => Err(CallError::Status(status)),
            Err(_) => Err(CallError::Away(format!("the daemon on {} does not answer", self.data_dir.display()))),
        }
    }

    /// One call about its chain and its wallet.
    async fn call<T, F>(&self, ask: impl FnOnce(SwapChainClient<Authorized>) -> F) -> Result<T, LegError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let client = |Connection { channel, macaroon }| {
            SwapChainClient::with_interceptor(channel, macaroon).max_decoding_message_size(MAX_MESSAGE)
        };
        self.ask(|connection| ask(client(connection))).await.map_err(|error| match error {
            CallError::Away(text) => LegError(text),
            CallError::Status(status) => LegError(status.message().to_owned()),
        })
    }

    /// One call about its Lightning node.
    async fn call_node<T, F>(&self, ask: impl FnOnce(CrossingNodeClient<Authorized>) -> F) -> Result<T, NodeError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let client = |Connection { channel, macaroon }| CrossingNodeClient::with_interceptor(channel, macaroon);
        self.ask(|connection| ask(client(connection))).await.map_err(|error| match error {
            CallError::Away(text) => NodeError::Away(text),
            CallError::Status(status) => {
                let text = status.message().to_owned();
                match status.code() {
                    Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists => {
                        NodeError::Refused(text)
                    }
                    // Whether it was done is not known.
                    _ => NodeError::Away(text),
                }
            }
        })
    }
}

#[async_trait]
impl SwapLeg for Sibling {
    async fn status(&self) -> Result<LegStatus, LegError> {
        let answer = self.call(|mut client| async move { client.get_status(SwapChainStatusRequest {}).await }).await?;
        let genesis = BlockHash::from_byte_array(bytes32(&answer.genesis_hash)?);
        let rates = answer.feerates.iter().map(|rate| (rate.blocks, FeeratePerKw(rate.sat_per_kw)));
        Ok(LegStatus {
            network: answer.network,
            chain: Chain { hash: ChainHash::from_genesis_block_hash(genesis), spacing: answer.spacing },
            tip: Tip {
                height: Height(answer.height),
                hash: bytes32(&answer.block_hash)?,
                median_time: UnixTime(answer.median_time),
            },
            spacing: answer.measured_spacing,
            is_current: answer.current,
            is_pruned: answer.pruned,
            confirmed: Amount::from_sat(u64::try_from(answer.confirmed).unwrap_or_default()),
            estimates: FeeEstimates::new(rates.collect()),
        })
    }

    /// It is asked for blocks, and does not know what for.
    fn keeps_blocks(&self) -> bool {
        false
    }

    async fn block(&self, height: Height) -> Result<Option<LegBlock>, LegError> {
        let request = SwapBlockRequest { height: height.0 };
        let answer = self.call(|mut client| async move { client.get_block(request).await }).await?;
        if answer.block_hash.is_empty() {
            return Ok(None);
        }
        let transactions: Result<Vec<Transaction>, LegError> =
            answer.transactions.iter().map(|bytes| transaction(bytes)).collect();
        let (hash, median_time) = (bytes32(&answer.block_hash)?, UnixTime(answer.median_time));
        let previous = bytes32(&answer.previous_hash)?;
        Ok(Some(LegBlock { tip: Tip { height, hash, median_time }, previous, transactions: transactions? }))
    }

    async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LegError> {
        let request = SwapSpenderRequest { txid: outpoint.txid.to_byte_array().to_vec(), output_index: outpoint.vout };
        let answer = self.call(|mut client| async move { client.get_spender(request).await }).await?;
        if answer.transaction.is_empty() { Ok(None) } else { transaction(&answer.transaction).map(Some) }
    }

    async fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, LegError> {
        let request = GetTransactionRequest { txid: txid.to_string() };
        let client = |Connection { channel, macaroon }| ChainClient::with_interceptor(channel, macaroon);
        let answer = self
            .ask(|connection| {
                let mut client = client(connection).max_decoding_message_size(MAX_MESSAGE);
                async move { client.get_transaction(request).await }
            })
            .await;
        match answer {
            Ok(answer) => transaction(&answer.raw_tx).map(Some),
            Err(CallError::Status(status)) if status.code() == Code::NotFound => Ok(None),
            Err(CallError::Status(status)) => Err(LegError(status.message().to_owned())),
            Err(CallError::Away(text)) => Err(LegError(text)),
        }
    }

    async fn waiting(&self, script: &ScriptBuf) -> Result<Option<Transaction>, LegError> {
        let request = SwapWaitingRequest { script: script.to_bytes() };
        let answer = self.call(|mut client| async move { client.get_waiting(request).await }).await?;
        if answer.transaction.is_empty() { Ok(None) } else { transaction(&answer.transaction).map(Some) }
    }

    async fn new_script(&self) -> Result<ScriptBuf, LegError> {
        let answer = self.call(|mut client| async move { client.new_script(SwapNewScriptRequest {}).await }).await?;
        Ok(ScriptBuf::from_bytes(answer.script))
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount: Amount,
        max_fee: Amount,
    ) -> Result<(Transaction, Amount), LegError> {
        let satoshi = |amount: Amount| i64::try_from(amount.to_sat()).unwrap_or(i64::MAX);
        let request =
            SwapFundRequest { script: script.into_bytes(), amount: satoshi(amount), max_fee: satoshi(max_fee) };
        let answer = self.call(|mut client| async move { client.fund(request).await }).await?;
        let fee = u64::try_from(answer.fee).map_err(LegError::of)?;
        Ok((transaction(&answer.transaction)?, Amount::from_sat(fee)))
    }

    async fn release(&self, transaction: &Transaction) -> Result<(), LegError> {
        let request = SwapTransaction { transaction: consensus::serialize(transaction) };
        self.call(|mut client| async move { client.release(request).await }).await.map(drop)
    }

    async fn recall(&self, lock: &Transaction, to: ScriptBuf, fee: Amount) -> Result<(), LegError> {
        let fee = i64::try_from(fee.to_sat()).unwrap_or(i64::MAX);
        let request = SwapRecallRequest { lock: consensus::serialize(lock), script: to.into_bytes(), fee };
        self.call(|mut client| async move { client.recall(request).await }).await.map(drop)
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<(), LegError> {
        let request = SwapTransaction { transaction: consensus::serialize(transaction) };
        self.call(|mut client| async move { client.broadcast(request).await }).await.map(drop)
    }
}

#[async_trait]
impl CrossingNode for Sibling {
    async fn status(&self) -> Result<NodeStatus, NodeError> {
        let ask = |mut client: CrossingNodeClient<Authorized>| async move {
            client.get_status(CrossingStatusRequest {}).await
        };
        let answer = self.call_node(ask).await?;
        let genesis = BlockHash::from_byte_array(field(&answer.genesis_hash)?);
        let invoices = InvoiceNetwork::of_prefix(&answer.invoice_prefix).ok_or_else(unreadable)?;
        let now = NodeNow {
            chain: Chain { hash: ChainHash::from_genesis_block_hash(genesis), spacing: answer.spacing },
            measured: answer.measured_spacing,
            tip: Height(answer.height),
            is_current: answer.current,
            node_id: PublicKey::from_slice(&answer.node_id).map_err(|_| unreadable())?,
            least_claim: Msat(answer.least_claim_msat),
            records: PaymentRecords { directory: DirectoryId(field(&answer.directory)?), count: answer.payments },
        };
        Ok(NodeStatus { network: answer.network, invoices, now })
    }

    async fn hold(&self, book: DirectoryId, order: HoldOrder) -> Result<String, NodeError> {
        let HoldOrder { hash, amount, expires, blocks } = order;
        let request = HoldCrossingRequest {
            payment_hash: hash.0.to_vec(),
            amount_msat: amount.0,
            expires: expires.0,
            blocks,
            book: book.0.to_vec(),
        };
        let answer = self.call_node(|mut client| async move { client.hold(request).await }).await?;
        Ok(answer.payment_request)
    }

    async fn held(&self, book: DirectoryId, hash: PaymentHash) -> Result<Incoming, NodeError> {
        let request = LookAtHeldRequest { payment_hash: hash.0.to_vec(), book: book.0.to_vec() };
        let answer = self.call_node(|mut client| async move { client.look_at_held(request).await }).await?;
        match answer.state.as_str() {
            "missing" => Ok(Incoming::Missing),
            "open" => Ok(Incoming::Open),
            "held" => Ok(Incoming::Held {
                amount: Msat(answer.amount_msat),
                expiry: CltvExpiry(answer.expiry),
                since: UnixTime(answer.since),
            }),
            "settled" => Ok(Incoming::Settled),
            "canceled" => Ok(Incoming::Canceled),
            _ => Err(unreadable()),
        }
    }

    async fn settle(&self, book: DirectoryId, preimage: PaymentPreimage) -> Result<(), NodeError> {
        let request = SettleCrossingRequest { preimage: preimage.0.to_vec(), book: book.0.to_vec() };
        self.call_node(|mut client| async move { client.settle(request).await }).await.map(drop)
    }

    async fn give_up(&self, book: DirectoryId, hash: PaymentHash) -> Result<(), NodeError> {
        let request = GiveUpCrossingRequest { payment_hash: hash.0.to_vec(), book: book.0.to_vec() };
        self.call_node(|mut client| async move { client.give_up(request).await }).await.map(drop)
    }

    async fn pay(&self, order: PayOrder) -> Result<(), NodeError> {
        let PayOrder { invoice, amount, most_fee, most_parts, last_expiry, deadline } = order;
        let request = PayCrossingRequest {
            payment_request: invoice,
            amount_msat: amount.0,
            most_fee_msat: most_fee.0,
            most_parts: u32::from(most_parts),
            last_expiry: last_expiry.0,
            deadline: deadline.0,
        };
        self.call_node(|mut client| async move { client.pay(request).await }).await.map(drop)
    }

    async fn payment(&self, hash: PaymentHash) -> Result<Outgoing, NodeError> {
        let request = LookAtCrossingPaymentRequest { payment_hash: hash.0.to_vec() };
        let answer = self.call_node(|mut client| async move { client.look_at_payment(request).await }).await?;
        match answer.state.as_str() {
            "never_begun" => {
                let directory = DirectoryId(field(&answer.directory)?);
                Ok(Outgoing::NeverBegun(PaymentRecords { directory, count: answer.payments }))
            }
            "under_way" => Ok(Outgoing::UnderWay),
            "paid" => {
                Ok(Outgoing::Paid { preimage: PaymentPreimage(field(&answer.preimage)?), fee: Msat(answer.fee_msat) })
            }
            "failed" => Ok(Outgoing::Failed { reason: answer.reason }),
            _ => Err(unreadable()),
        }
    }
}

/// Nothing follows from what cannot be read.
fn unreadable() -> NodeError {
    NodeError::Away("the second daemon answers what cannot be read: is it of another version?".to_owned())
}

fn field(bytes: &[u8]) -> Result<[u8; 32], NodeError> {
    bytes.try_into().map_err(|_| unreadable())
}

fn bytes32(bytes: &[u8]) -> Result<[u8; 32], LegError> {
    bytes.try_into().map_err(|_| LegError("the second daemon answers what cannot be read".to_owned()))
}

fn transaction(bytes: &[u8]) -> Result<Transaction, LegError> {
    consensus::deserialize(bytes).map_err(LegError::of)
}
