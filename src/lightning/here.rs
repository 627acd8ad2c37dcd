//! A Lightning node of this process as one side of a swap or of a crossing payment: this network's own, or that of the second
//! network.
//!
//! It answers as a second daemon does over gRPC, what is asked of it is no less harmless to repeat, and who asks waits no longer:
//! what hangs on one network must not keep a payment on the other from being settled. While its wallet is not open it is away.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Transaction, Txid};
use leyden_channels::{
    crossing::{HoldOrder, Incoming, Outgoing, PayOrder},
    types::{DirectoryId, Height, PaymentHash, PaymentPreimage},
};
use tokio::time::timeout;

use super::LightningNode;
use crate::{
    api::{ApiError, CrossingStatus, Crossings as _},
    driver::{
        crossing::{CrossingNode, NodeError, NodeStatus, PATIENCE},
        swaps::{LegBlock, LegError, LegStatus, OwnLeg, SwapLeg},
    },
};

const SLOW: &str = "this daemon does not answer itself in time: is the machine busy, or the chain behind?";

type Find = Box<dyn Fn() -> Option<Arc<LightningNode>> + Send + Sync>;

/// The node that is found when it is needed.
pub(crate) struct NodeHere {
    find: Find,
    /// Why there is none, while there is none.
    absent: String,
}

impl NodeHere {
    pub(crate) fn new(find: impl Fn() -> Option<Arc<LightningNode>> + Send + Sync + 'static, absent: String) -> Self {
        Self { find: Box::new(find), absent }
    }

    /// Why there is none, while there is none.
    pub(super) fn absence(&self) -> Option<&str> {
        (self.find)().is_none().then_some(self.absent.as_str())
    }

    /// The network on which its wallet has the key to this script, if it is open and has.
    pub(super) fn network_of(&self, script: &Script) -> Option<String> {
        let node = (self.find)()?;
        let services = node.services();
        services.wallet.is_mine(script).then(|| services.node.params().name.clone())
    }

    fn node(&self) -> Result<Arc<LightningNode>, NodeError> {
        (self.find)().ok_or_else(|| NodeError::Away(self.absent.clone()))
    }

    fn leg(&self) -> Result<OwnLeg, LegError> {
        (self.find)().map(|node| node.own_leg()).ok_or_else(|| LegError(self.absent.clone()))
    }
}

/// What the node answers. Whether it has done what was asked is not known if that takes too long.
async fn asked<T>(call: impl Future<Output = Result<T, ApiError>>) -> Result<T, NodeError> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(NodeError::Away(SLOW.to_owned())),
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, LegError>>) -> Result<T, LegError> {
    timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(LegError(SLOW.to_owned())))
}

#[async_trait]
impl CrossingNode for NodeHere {
    async fn status(&self) -> Result<NodeStatus, NodeError> {
        let CrossingStatus { network, invoices, now } = asked(self.node()?.crossing_status()).await?;
        Ok(NodeStatus { network, invoices, now })
    }

    async fn hold(&self, book: DirectoryId, order: HoldOrder) -> Result<String, NodeError> {
        asked(self.node()?.hold_crossing(book, order)).await
    }

    async fn held(&self, book: DirectoryId, hash: PaymentHash) -> Result<Incoming, NodeError> {
        asked(self.node()?.held_crossing(book, hash)).await
    }

    async fn settle(&self, book: DirectoryId, preimage: PaymentPreimage) -> Result<(), NodeError> {
        asked(self.node()?.settle_crossing(book, preimage)).await
    }

    async fn give_up(&self, book: DirectoryId, hash: PaymentHash) -> Result<(), NodeError> {
        asked(self.node()?.give_up_crossing(book, hash)).await
    }

    async fn pay(&self, order: PayOrder) -> Result<(), NodeError> {
        asked(self.node()?.pay_crossing(order)).await
    }

    async fn payment(&self, hash: PaymentHash) -> Result<Outgoing, NodeError> {
        asked(self.node()?.crossing_payment(hash)).await
    }
}

fn failed(error: ApiError) -> NodeError {
    match error {
        ApiError::InvalidArgument(text)
        | ApiError::FailedPrecondition(text)
        | ApiError::NotFound(text)
        | ApiError::NoRoute(text)
        | ApiError::AlreadyExists(text) => NodeError::Refused(text),
        ApiError::Unavailable(text) | ApiError::Internal(text) => NodeError::Away(text),
    }
}

#[async_trait]
impl SwapLeg for NodeHere {
    async fn status(&self) -> Result<LegStatus, LegError> {
        in_time(self.leg()?.status()).await
    }

    /// The daemon tells each of its chains what the swaps of the other network need: see [`Swaps::needed_of_other`].
    ///
    /// [`Swaps::needed_of_other`]: crate::driver::swaps::Swaps::needed_of_other
    fn keeps_blocks(&self) -> bool {
        true
    }

    async fn block(&self, height: Height) -> Result<Option<LegBlock>, LegError> {
        in_time(self.leg()?.block(height)).await
    }

    async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LegError> {
        in_time(self.leg()?.spender(outpoint)).await
    }

    async fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, LegError> {
        in_time(self.leg()?.transaction(txid)).await
    }

    async fn waiting(&self, script: &ScriptBuf) -> Result<Option<Transaction>, LegError> {
        in_time(self.leg()?.waiting(script)).await
    }

    async fn new_script(&self) -> Result<ScriptBuf, LegError> {
        in_time(self.leg()?.new_script()).await
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount: Amount,
        max_fee: Amount,
    ) -> Result<(Transaction, Amount), LegError> {
        in_time(self.leg()?.fund(script, amount, max_fee)).await
    }

    async fn release(&self, transaction: &Transaction) -> Result<(), LegError> {
        in_time(self.leg()?.release(transaction)).await
    }

    async fn recall(&self, lock: &Transaction, to: ScriptBuf, fee: Amount) -> Result<(), LegError> {
        in_time(self.leg()?.recall(lock, to, fee)).await
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<(), LegError> {
        in_time(self.leg()?.broadcast(transaction)).await
    }
}
