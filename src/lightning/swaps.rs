//! The calls about atomic swaps.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
use leyden_channels::{
    swap::Acceptance,
    types::{Height, PaymentHash},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::LightningNode;
use crate::{
    api::{
        AcceptSwap, ApiError, FundSwap, QuoteSwap, RecallSwap, SwapBlock, SwapChainStatus, SwapInfo, SwapOrder,
        SwapTerms, Swaps, Updates,
    },
    driver::swaps::{self, LegError, OwnLeg, SwapLeg as _, SwapRefused, SwapView},
};

/// Changes that a subscriber may be behind.
const NEWS: usize = 64;

#[async_trait]
impl Swaps for LightningNode {
    async fn quote_swap(&self, request: QuoteSwap) -> Result<SwapInfo, ApiError> {
        let QuoteSwap { give, get, give_other, terms, outer_seconds, inner_seconds } = request;
        let terms = decided(terms);
        let quote = swaps::QuoteSwap { give, get, give_other, terms, outer_seconds, inner_seconds };
        self.services().swaps.quote(quote).await.map(info).map_err(refused)
    }

    async fn accept_swap(&self, request: AcceptSwap) -> Result<SwapInfo, ApiError> {
        let AcceptSwap { offer, give, get, terms } = request;
        let accept = swaps::AcceptSwap { offer, give, get, terms: decided(terms) };
        self.services().swaps.accept(accept).await.map(info).map_err(refused)
    }

    async fn initiate_swap(&self, acceptance: Acceptance) -> Result<SwapInfo, ApiError> {
        self.services().swaps.initiate(acceptance).await.map(info).map_err(refused)
    }

    async fn order_swap(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapInfo, ApiError> {
        let order = match order {
            SwapOrder::Participate => swaps::SwapOrder::Participate,
            SwapOrder::Redeem => swaps::SwapOrder::Redeem,
            SwapOrder::Refund => swaps::SwapOrder::Refund,
            SwapOrder::Cancel => swaps::SwapOrder::Cancel,
        };
        self.services().swaps.order(id, order).await.map(info).map_err(refused)
    }

    async fn swaps(&self) -> Result<Vec<SwapInfo>, ApiError> {
        let all = self.services().swaps.list().await.map_err(refused)?;
        Ok(all.into_iter().map(info).collect())
    }

    async fn subscribe_swaps(&self) -> Result<Updates<SwapInfo>, ApiError> {
        // Before the list, so that nothing falls between the two.
        let mut news = self.services().swaps.subscribe();
        let now = self.swaps().await?;
        let (updates, received) = mpsc::channel(NEWS);
        tokio::spawn(async move {
            for swap in now {
                if updates.send(Ok(swap)).await.is_err() {
                    return;
                }
            }
            loop {
                let update = tokio::select! {
                    update = news.recv() => update,
                    () = updates.closed() => return,
                };
                let update = match update {
                    Ok(view) => Ok(info(view)),
                    Err(RecvError::Lagged(_)) => Err(ApiError::unavailable("too slow a reader: subscribe again")),
                    Err(RecvError::Closed) => return,
                };
                let is_last = update.is_err();
                if updates.send(update).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(received)))
    }

    async fn swap_chain_status(&self) -> Result<SwapChainStatus, ApiError> {
        let status = self.own_leg().status().await.map_err(failed)?;
        Ok(SwapChainStatus {
            network: status.network,
            chain: status.chain,
            tip: status.tip,
            is_current: status.is_current,
            feerates: status.estimates.targets().to_vec(),
        })
    }

    async fn swap_block(&self, height: Height) -> Result<Option<SwapBlock>, ApiError> {
        let found = self.own_leg().block(height).await.map_err(failed)?;
        Ok(found.map(|block| SwapBlock { tip: block.tip, transactions: block.transactions }))
    }

    async fn swap_spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, ApiError> {
        self.own_leg().spender(outpoint).await.map_err(failed)
    }

    async fn swap_script(&self) -> Result<ScriptBuf, ApiError> {
        self.own_leg().new_script().await.map_err(failed)
    }

    async fn swap_fund(&self, request: FundSwap) -> Result<(Transaction, Amount), ApiError> {
        let FundSwap { script, amount, max_fee } = request;
        self.own_leg().fund(script, amount, max_fee).await.map_err(failed)
    }

    async fn swap_release(&self, transaction: Transaction) -> Result<(), ApiError> {
        self.own_leg().release(&transaction).await.map_err(failed)
    }

    async fn swap_recall(&self, request: RecallSwap) -> Result<(), ApiError> {
        let RecallSwap { lock, to, fee } = request;
        self.own_leg().recall(&lock, to, fee).await.map_err(failed)
    }

    async fn swap_broadcast(&self, transaction: Transaction) -> Result<(), ApiError> {
        self.own_leg().broadcast(&transaction).await.map_err(failed)
    }
}

impl LightningNode {
    fn own_leg(&self) -> OwnLeg {
        OwnLeg(std::sync::Arc::clone(self.services()))
    }
}

fn decided(terms: SwapTerms) -> swaps::SwapTerms {
    let SwapTerms { by_hand, depth, max_lock_fee } = terms;
    swaps::SwapTerms { by_hand, depth, max_lock_fee }
}

fn info(view: SwapView) -> SwapInfo {
    let SwapView { swap, give_on, get_on } = view;
    SwapInfo { swap, give_on, get_on }
}

fn failed(error: LegError) -> ApiError {
    ApiError::precondition(error.to_string())
}

fn refused(error: SwapRefused) -> ApiError {
    let text = error.to_string();
    match error {
        SwapRefused::Unknown => ApiError::not_found(text),
        SwapRefused::Known => ApiError::exists(text),
        SwapRefused::OtherAway(_) | SwapRefused::Stopping => ApiError::unavailable(text),
        SwapRefused::NoOther | SwapRefused::TooMany | SwapRefused::Refused(_) => ApiError::precondition(text),
    }
}
