//! Channels that the user's own transaction funds, and several channels by one transaction of the wallet.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{
    Address, Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, absolute::LockTime, psbt,
    transaction::Version,
};
use futures_util::future::{join_all, try_join_all};
use leyden_channels::types::ChannelId;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, sleep_until},
};
use tokio_stream::StreamExt as _;
use tracing::warn;

use super::{
    LightningNode, internal,
    wallet::{coins, fee_rate, wallet_error},
};
use crate::{
    api::{
        AfterVerify, ApiError, Channels as _, Funding, FundingStep, OpenChannels, OpenStage, OpenUpdate, PsbtPublisher,
        PsbtShim, Updates,
    },
    driver::{
        peer::{Command, OpenProgress},
        psbt_funding::{FUNDING_TIME, FundingStepError, SignedFunding},
        services::Services,
    },
};

/// After whoever has opened a channel hangs up without having shown a transaction: for so long another call of theirs may go
/// on with it, as it may over REST.
const HANG_UP_GRACE: Duration = Duration::from_secs(15);

#[async_trait]
impl Funding for LightningNode {
    async fn funding_step(&self, id: ChannelId, step: FundingStep) -> Result<(), ApiError> {
        let signed = match step {
            FundingStep::Cancel => {
                return self.services().psbt_fundings.cancel(&id, "user canceled funding").map_err(step_error);
            }
            FundingStep::Verify { psbt, then } => {
                let look = move |services: &Arc<Services>| {
                    services.psbt_fundings.verify(&id, &psbt, then == AfterVerify::Fund).map_err(step_error)
                };
                return self.read(look).await;
            }
            FundingStep::FinalizePsbt(psbt) => SignedFunding::Psbt(psbt),
            FundingStep::FinalizeRaw(transaction) => SignedFunding::Raw(transaction),
        };
        let look = move |services: &Arc<Services>| services.psbt_fundings.check_signed(&id, signed).map_err(step_error);
        let (transaction, publishes) = self.read(look).await?;
        let services = self.services();
        if publishes {
            // A channel whose transaction cannot be published would wait in vain.
            let tested = services.node.test_transactions(vec![transaction.clone()]).await.map_err(internal)?;
            if let Some(Err(reason)) = tested.into_iter().next() {
                let text = format!("error finalizing PSBT: the mempool would not accept the transaction: {reason}");
                return Err(ApiError::invalid(text));
            }
        }
        services.psbt_fundings.finalize(&id, transaction).map_err(step_error)
    }

    async fn open_channels(&self, request: OpenChannels) -> Result<Vec<OutPoint>, ApiError> {
        let services = Arc::clone(self.services());
        let (rate, coins) = (fee_rate(&services, request.fee), coins(&request.coins));
        let last = request.channels.len().saturating_sub(1);
        let mut batch = Batch { services: Arc::clone(&services), ids: Vec::new() };
        let mut openings = Vec::new();
        for (at, (id, mut channel)) in request.channels.into_iter().enumerate() {
            let publisher = if at == last { PsbtPublisher::Node } else { PsbtPublisher::Caller };
            channel.shim = Some(PsbtShim { id, base: None, publisher });
            batch.ids.push(id);
            openings.push(self.open_channel(channel));
        }
        let begun = try_join_all(openings).await;
        let mut streams =
            begun.map_err(|error| context("error batch opening channel, initial negotiation failed", error))?;
        let outputs = try_join_all(streams.iter_mut().map(awaited)).await?;
        let outputs: Vec<(ScriptBuf, Amount)> =
            outputs.into_iter().map(|output| (output.script_pubkey, output.value)).collect();
        let pay = move |services: &Arc<Services>| {
            services.wallet.pay(&outputs, rate, &coins).map_err(wallet_error).map(|transaction| (transaction, outputs))
        };
        let paid = self.read(pay).await.map_err(|error| context("error funding PSBT for batch channel open", error));
        let (transaction, outputs) = paid?;
        // From here on a caller that hangs up leaves nothing half: it goes on by itself.
        let work = finish(batch, streams, transaction, outputs, request.label);
        tokio::spawn(work).await.map_err(internal)?
    }
}

/// Openings of one transaction: they end with this, unless they are funded.
struct Batch {
    services: Arc<Services>,
    ids: Vec<ChannelId>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        for id in &self.ids {
            // One that is over, or durable, is not there any more.
            let _ = self.services.psbt_fundings.cancel(id, "another channel of the batch failed");
        }
    }
}

/// Funds all openings by a signed transaction, and waits for what comes of it.
async fn finish(
    mut batch: Batch,
    streams: Vec<Updates<OpenUpdate>>,
    transaction: Transaction,
    outputs: Vec<(ScriptBuf, Amount)>,
    label: String,
) -> Result<Vec<OutPoint>, ApiError> {
    let services = Arc::clone(&batch.services);
    let txid = transaction.compute_txid();
    let point = |(script, amount): &(ScriptBuf, Amount)| {
        let is_it = |output: &TxOut| output.script_pubkey == *script && output.value == *amount;
        let vout = transaction.output.iter().position(is_it).and_then(|at| u32::try_from(at).ok());
        vout.map(|vout| OutPoint { txid, vout })
    };
    let points: Option<Vec<OutPoint>> = outputs.iter().map(point).collect();
    let funded = match services.psbt_fundings.fund_all(&batch.ids, &transaction) {
        Ok(()) => Ok(()),
        Err(error) => Err(step_error(error)),
    };
    if let Err(error) = funded {
        services.wallet.release(&txid);
        return Err(context("error verifying PSBT", error));
    }
    let results = join_all(streams.into_iter().map(pending)).await;
    let was_published = batch.ids.last().is_none_or(|last| services.psbt_fundings.is_signed(last));
    let failure = results.into_iter().find_map(Result::err);
    match failure {
        None => {
            batch.ids.clear();
            if !label.is_empty() {
                services.store.put_label(&txid, &label)?;
            }
            points.ok_or_else(|| internal("the transaction does not pay its channels"))
        }
        // It is the last one's, durable, and tried again: the channels wait for it.
        Some(error) if was_published => {
            batch.ids.clear();
            Err(context("error publishing final batch transaction", error))
        }
        Some(error) => {
            services.wallet.release(&txid);
            for point in points.into_iter().flatten() {
                // Those that are durable will never be funded.
                let (answer, _) = tokio::sync::oneshot::channel();
                let channel = ChannelId::from_funding(point);
                services.peers.to_channel(&channel, Command::Abandon { channel, answer });
            }
            Err(context("error batch opening channel, final negotiation failed", error))
        }
    }
}

/// What a channel wants to be paid.
async fn awaited(updates: &mut Updates<OpenUpdate>) -> Result<TxOut, ApiError> {
    match updates.next().await {
        Some(Ok(OpenUpdate { stage: OpenStage::Awaited { output, .. }, .. })) => Ok(output),
        Some(Ok(_)) | None => Err(internal("the opening ended without a word")),
        Some(Err(error)) => Err(context("error batch opening channel, initial negotiation failed", error)),
    }
}

/// Until the channel is durable, and its transaction published if that is its part.
async fn pending(mut updates: Updates<OpenUpdate>) -> Result<(), ApiError> {
    match updates.next().await {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(error),
        None => Err(ApiError::unavailable("the opening was interrupted; see `leyden pendingchannels`")),
    }
}

/// The same kind of error, with words before its own.
fn context(words: &str, error: ApiError) -> ApiError {
    let text = format!("{words}: {error}");
    match error {
        ApiError::InvalidArgument(_) => ApiError::InvalidArgument(text),
        ApiError::FailedPrecondition(_) => ApiError::FailedPrecondition(text),
        ApiError::NotFound(_) => ApiError::NotFound(text),
        ApiError::AlreadyExists(_) => ApiError::AlreadyExists(text),
        ApiError::Unavailable(_) => ApiError::Unavailable(text),
        ApiError::NoRoute(_) => ApiError::NoRoute(text),
        ApiError::Internal(_) => ApiError::Internal(text),
    }
}

pub(super) fn step_error(error: FundingStepError) -> ApiError {
    let text = error.to_string();
    match error {
        FundingStepError::Unknown(_) => ApiError::NotFound(text),
        FundingStepError::Duplicate(_) => ApiError::AlreadyExists(text),
        FundingStepError::Verify(_) | FundingStepError::Finalize(_) => ApiError::InvalidArgument(text),
        FundingStepError::SkipsAndPublishes
        | FundingStepError::State { .. }
        | FundingStepError::OtherEnded { .. }
        | FundingStepError::OtherTransaction { .. } => ApiError::FailedPrecondition(text),
    }
}

/// What the stream of an opening tells, and how it ends if the user funds it and does not come back.
pub(super) struct OpeningStream {
    pub services: Arc<Services>,
    pub id: ChannelId,
    pub shim: Option<PsbtShim>,
    pub feerate: FeeRate,
    pub pending_told: bool,
    pub news: mpsc::UnboundedReceiver<OpenProgress>,
    pub updates: mpsc::Sender<Result<OpenUpdate, ApiError>>,
}

impl OpeningStream {
    pub(super) async fn run(mut self) {
        let mut too_late = self.shim.as_ref().map(|_| Instant::now() + FUNDING_TIME);
        let mut is_there = true;
        let mut gives_up = None;
        loop {
            tokio::select! {
                news = self.news.recv() => {
                    let Some(news) = news else { return };
                    let update = self.update(news);
                    let told = match update {
                        Some(update) => self.updates.send(update).await.is_ok(),
                        None => true,
                    };
                    if !told && self.shim.is_none() {
                        return;
                    }
                }
                () = self.updates.closed(), if is_there && self.shim.is_some() => {
                    is_there = false;
                    gives_up = Some(Instant::now() + HANG_UP_GRACE);
                }
                () = at(gives_up) => {
                    gives_up = None;
                    if self.services.psbt_fundings.awaits_transaction(&self.id) {
                        self.end("user canceled funding: whoever began it hung up, and showed no transaction");
                    }
                }
                () = at(too_late) => {
                    too_late = None;
                    self.end("user canceled funding: no signed transaction came within ten minutes");
                }
            }
        }
    }

    fn end(&self, reason: &str) {
        if self.services.psbt_fundings.expire(&self.id, reason) {
            warn!(pending_channel = %self.id, reason, "an opening ended");
        }
    }

    fn update(&mut self, news: OpenProgress) -> Option<Result<OpenUpdate, ApiError>> {
        let stage = match news {
            OpenProgress::Awaited { output } => {
                let base = self.shim.as_mut().and_then(|shim| shim.base.take());
                match template(base, &output) {
                    Ok(psbt) => {
                        let network = self.services.node.params().address_network;
                        match Address::from_script(&output.script_pubkey, network) {
                            Ok(address) => OpenStage::Awaited { output, address, psbt: Box::new(psbt) },
                            Err(error) => return Some(Err(internal(error))),
                        }
                    }
                    Err(error) => return Some(Err(internal(error))),
                }
            }
            // A transaction that is broadcast again is no news.
            OpenProgress::Pending { .. } if self.pending_told => return None,
            OpenProgress::Pending { funding } => {
                self.pending_told = true;
                let fee_rate = Some(self.feerate).filter(|_| self.shim.is_none());
                OpenStage::Pending { funding, fee_rate }
            }
            OpenProgress::Open { funding } => OpenStage::Open { funding },
            OpenProgress::Failed { reason } => return Some(Err(ApiError::precondition(reason))),
        };
        Some(Ok(OpenUpdate { temporary_id: self.id, stage }))
    }
}

/// Never, if there is no moment to wait for.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// A PSBT with the channel's output after those that it has.
fn template(base: Option<Psbt>, output: &TxOut) -> Result<Psbt, psbt::Error> {
    let empty =
        || Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: Vec::new(), output: Vec::new() };
    let mut psbt = base.map_or_else(|| Psbt::from_unsigned_tx(empty()), Ok)?;
    psbt.unsigned_tx.output.push(output.clone());
    psbt.outputs.push(psbt::Output::default());
    Ok(psbt)
}
