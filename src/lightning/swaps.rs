//! The calls about swaps.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
use leyden_channels::{
    channel::StateName,
    swap::{
        Acceptance,
        submarine::{self, Direction},
    },
    types::{Height, Msat, PaymentHash},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::LightningNode;
use crate::{
    api::{
        AcceptSubmarine, AcceptSwap, ApiError, FundSwap, QuoteSubmarine, QuoteSwap, RecallSwap, ReclaimSwap, SwapBlock,
        SwapChainStatus, SwapInfo, SwapOrder, Swaps, Updates,
    },
    driver::swaps::{LegError, OwnLeg, SwapLeg, SwapRefused, reclaim},
};

/// Changes that a subscriber may be behind.
const NEWS: usize = 64;

#[async_trait]
impl Swaps for LightningNode {
    async fn quote_swap(&self, request: QuoteSwap) -> Result<SwapInfo, ApiError> {
        self.services().swaps.quote(request).await.map_err(refused)
    }

    async fn accept_swap(&self, request: AcceptSwap) -> Result<SwapInfo, ApiError> {
        let _begins = self.services().swaps.begins().await;
        self.services().swaps.accept(request).await.map_err(refused)
    }

    async fn initiate_swap(&self, acceptance: Acceptance) -> Result<SwapInfo, ApiError> {
        self.services().swaps.initiate(acceptance).await.map_err(refused)
    }

    async fn quote_submarine(&self, request: QuoteSubmarine) -> Result<SwapInfo, ApiError> {
        let _begins = self.services().swaps.begins().await;
        let request = self.priced_quote(request).await?;
        let hints = match request.direction {
            Direction::In => self.private_hints(Some(request.payment)).await,
            Direction::Out => Vec::new(),
        };
        let quoted = self.services().swaps.quote_submarine(request, hints).await.map_err(refused)?;
        Ok(self.with_room(quoted).await)
    }

    async fn accept_submarine(&self, request: AcceptSubmarine) -> Result<SwapInfo, ApiError> {
        let _begins = self.services().swaps.begins().await;
        let request = self.priced_accept(request).await?;
        let hints = match request.direction {
            Direction::In => Vec::new(),
            Direction::Out => self.private_hints(Some(request.payment)).await,
        };
        let accepted = self.services().swaps.accept_submarine(request, hints).await.map_err(refused)?;
        Ok(self.with_room(accepted).await)
    }

    async fn initiate_submarine(&self, acceptance: submarine::Acceptance) -> Result<SwapInfo, ApiError> {
        self.services().swaps.initiate_submarine(acceptance).await.map_err(refused)
    }

    async fn order_swap(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapInfo, ApiError> {
        self.services().swaps.order(id, order).await.map_err(refused)
    }

    async fn swaps(&self) -> Result<Vec<SwapInfo>, ApiError> {
        self.services().swaps.list().await.map_err(refused)
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
                    Ok(swap) => Ok(swap),
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

    async fn reclaim_swap(&self, request: ReclaimSwap) -> Result<Transaction, ApiError> {
        let ReclaimSwap { contract, lock, secret } = request;
        let is_open = |swap: &SwapInfo| match swap {
            SwapInfo::Atomic { swap, .. } => swap.id() == contract.hash && swap.outcome().is_none(),
            SwapInfo::Submarine { swap, .. } => swap.id() == contract.hash && swap.outcome().is_none(),
        };
        if self.swaps().await?.iter().any(is_open) {
            return Err(ApiError::precondition(
                "this swap is under way here, and does so by itself: see `leyden swap list`",
            ));
        }
        let services = self.services();
        let own: Arc<dyn SwapLeg> = Arc::new(self.own_leg());
        // A contract does not say on which of the two chains it lies; its keys are this node's on both.
        for chain in [Some(own), services.swaps.other()].into_iter().flatten() {
            let taken = reclaim(chain.as_ref(), &services.keys, &contract, lock, secret).await.map_err(failed)?;
            if let Some(transaction) = taken {
                return Ok(transaction);
            }
        }
        let text =
            format!("the output {lock} is not known here: is the chain synced, and the other one's daemon running?");
        Err(ApiError::precondition(text))
    }

    async fn swap_chain_status(&self) -> Result<SwapChainStatus, ApiError> {
        let status = self.own_leg().status().await.map_err(failed)?;
        Ok(SwapChainStatus {
            network: status.network,
            chain: status.chain,
            tip: status.tip,
            is_current: status.is_current,
            feerates: status.estimates.targets().to_vec(),
            spacing: status.spacing,
            is_pruned: status.is_pruned,
            confirmed: status.confirmed,
        })
    }

    async fn swap_block(&self, height: Height) -> Result<Option<SwapBlock>, ApiError> {
        let found = self.own_leg().block(height).await.map_err(failed)?;
        Ok(found.map(|block| SwapBlock { tip: block.tip, previous: block.previous, transactions: block.transactions }))
    }

    async fn swap_spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, ApiError> {
        self.own_leg().spender(outpoint).await.map_err(failed)
    }

    async fn swap_waiting(&self, script: ScriptBuf) -> Result<Option<Transaction>, ApiError> {
        self.own_leg().waiting(&script).await.map_err(failed)
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
    pub(super) fn own_leg(&self) -> OwnLeg {
        OwnLeg(Arc::clone(self.services()))
    }

    /// A swap that has just begun, with a warning if the channels cannot carry its payment as they are: coins would be locked for
    /// days for nothing.
    async fn with_room(&self, mut info: SwapInfo) -> SwapInfo {
        let SwapInfo::Submarine { swap, warnings, .. } = &mut info else { return info };
        let mut room = Room::default();
        for channel in self.peer_states().await.iter().flat_map(|state| &state.channels) {
            if let Some(known) = channel.established.as_ref().filter(|_| channel.state == StateName::Normal) {
                add(&mut room.outbound, known.local_balance, known.local_reserve);
                add(&mut room.inbound, known.remote_balance, known.remote_reserve);
            }
        }
        warnings.extend(room.lacks(swap.gives_coins(), swap.offer().payment));
        info
    }
}

/// What all channels together can carry, fees and limits on single payments left out: no less than that is too little.
#[derive(Clone, Copy, Default)]
struct Room {
    inbound: Msat,
    outbound: Msat,
}

fn add(room: &mut Msat, balance: Msat, reserve: Amount) {
    let kept = Msat::from_sat(reserve).unwrap_or_default();
    room.0 = room.0.saturating_add(balance.saturating_sub(kept).0);
}

impl Room {
    fn lacks(self, is_paid: bool, payment: Msat) -> Option<String> {
        let (room, what, how) = if is_paid {
            (self.inbound, "take in", "have somebody open one to you, or pay out of yours first")
        } else {
            (self.outbound, "pay out", "open one first, or be paid")
        };
        (room < payment).then(|| {
            format!(
                "your channels can {what} at most {} sat as they are, and the payment is of {} sat: {how}, or the swap comes to nothing",
                room.floor_sat().to_sat(),
                payment.floor_sat().to_sat()
            )
        })
    }
}

fn failed(error: LegError) -> ApiError {
    ApiError::precondition(error.to_string())
}

fn refused(error: SwapRefused) -> ApiError {
    let text = error.to_string();
    match error {
        SwapRefused::Unknown => ApiError::not_found(text),
        SwapRefused::Known | SwapRefused::KnownEnded | SwapRefused::Own | SwapRefused::SameSecret => {
            ApiError::exists(text)
        }
        SwapRefused::Away(_) | SwapRefused::Stopping => ApiError::unavailable(text),
        SwapRefused::NoOther
        | SwapRefused::OtherDirection { .. }
        | SwapRefused::Pruned(_)
        | SwapRefused::NoSuchNetwork { .. }
        | SwapRefused::OtherPlaces { .. }
        | SwapRefused::TooMany
        | SwapRefused::TooManyFollowed
        | SwapRefused::ByItself
        | SwapRefused::Refused(_) => ApiError::precondition(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cannot_be_paid_or_pay_so_much_is_told_before_anything_is_locked() {
        let room = Room { inbound: Msat(1_000_000), outbound: Msat(2_000_000) };
        assert_eq!(room.lacks(true, Msat(1_000_000)), None);
        assert_eq!(room.lacks(false, Msat(2_000_000)), None);
        let told = room.lacks(true, Msat(1_001_000)).unwrap();
        assert!(told.contains("take in at most 1000 sat") && told.contains("is of 1001 sat"), "{told}");
        let told = room.lacks(false, Msat(2_000_001)).unwrap();
        assert!(told.contains("pay out at most 2000 sat"), "{told}");
    }
}
