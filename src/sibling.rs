//! The second daemon of the same person, on the other chain of a swap: found by its data directory, as `leyden` finds it.

use std::{fs, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Transaction, consensus, constants::ChainHash, hashes::Hash as _,
};
use leyden_channels::{
    onchain::FeeEstimates,
    swap::{Chain, Tip},
    types::{FeeratePerKw, Height, UnixTime},
};
use leyden_common::layout::{Layout, Running};
use leyden_proto::leyden::{
    SwapBlockRequest, SwapChainStatusRequest, SwapFundRequest, SwapNewScriptRequest, SwapRecallRequest,
    SwapSpenderRequest, SwapTransaction, swap_chain_client::SwapChainClient,
};
use tokio::{sync::Mutex, time::timeout};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::driver::swaps::{LegBlock, LegError, LegStatus, SwapLeg};

/// How long the other daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
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

/// The way to the second daemon. It is looked for when it is needed, and again after it was away.
pub(crate) struct Sibling {
    data_dir: PathBuf,
    client: Mutex<Option<SwapChainClient<Authorized>>>,
}

impl Sibling {
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, client: Mutex::default() }
    }

    async fn connect(&self) -> Result<SwapChainClient<Authorized>, LegError> {
        let shown = self.data_dir.display();
        let away = |what: &dyn std::fmt::Display| {
            LegError(format!("no daemon answers on {shown} ({what}): start it with `leydend --data-dir {shown}`"))
        };
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
        Ok(SwapChainClient::with_interceptor(channel, WithMacaroon(macaroon)).max_decoding_message_size(MAX_MESSAGE))
    }

    /// One call. A daemon that was restarted has another address: whatever fails is looked for anew the next time.
    async fn call<T, F>(&self, ask: impl FnOnce(SwapChainClient<Authorized>) -> F) -> Result<T, LegError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut client = self.client.lock().await;
        let connected = match client.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        match timeout(PATIENCE, ask(connected.clone())).await {
            Ok(Ok(answer)) => {
                *client = Some(connected);
                Ok(answer.into_inner())
            }
            Ok(Err(status)) => Err(LegError(status.message().to_owned())),
            Err(_) => Err(LegError(format!("the daemon on {} does not answer", self.data_dir.display()))),
        }
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
            is_current: answer.current,
            estimates: FeeEstimates::new(rates.collect()),
        })
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
        Ok(Some(LegBlock { tip: Tip { height, hash, median_time }, transactions: transactions? }))
    }

    async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LegError> {
        let request = SwapSpenderRequest { txid: outpoint.txid.to_byte_array().to_vec(), output_index: outpoint.vout };
        let answer = self.call(|mut client| async move { client.get_spender(request).await }).await?;
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

fn bytes32(bytes: &[u8]) -> Result<[u8; 32], LegError> {
    bytes.try_into().map_err(|_| LegError("the second daemon answers what cannot be read".to_owned()))
}

fn transaction(bytes: &[u8]) -> Result<Transaction, LegError> {
    consensus::deserialize(bytes).map_err(LegError::of)
}
