//! Atomic swaps, and what this daemon does for another one that makes them.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
use leyden_channels::{
    swap::{Acceptance, Chain, Offer, Swap, Tip},
    types::{FeeratePerKw, Height, PaymentHash},
};

use super::{ApiError, Updates};

#[async_trait]
pub(crate) trait Swaps: Send + Sync {
    /// `FailedPrecondition` if the terms leave too little time, or no second daemon is known.
    async fn quote_swap(&self, request: QuoteSwap) -> Result<SwapInfo, ApiError>;
    /// `FailedPrecondition` if the offer is not what the caller believes it to be.
    async fn accept_swap(&self, request: AcceptSwap) -> Result<SwapInfo, ApiError>;
    async fn initiate_swap(&self, acceptance: Acceptance) -> Result<SwapInfo, ApiError>;
    /// `FailedPrecondition` with the reason if it cannot be done now.
    async fn order_swap(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapInfo, ApiError>;
    async fn swaps(&self) -> Result<Vec<SwapInfo>, ApiError>;
    /// All as they are now, then each change.
    async fn subscribe_swaps(&self) -> Result<Updates<SwapInfo>, ApiError>;

    // For another daemon of the same person.

    async fn swap_chain_status(&self) -> Result<SwapChainStatus, ApiError>;
    /// `None` above the tip.
    async fn swap_block(&self, height: Height) -> Result<Option<SwapBlock>, ApiError>;
    async fn swap_spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, ApiError>;
    async fn swap_script(&self) -> Result<ScriptBuf, ApiError>;
    /// Signed, its coins reserved, not broadcast; with its fee.
    async fn swap_fund(&self, request: FundSwap) -> Result<(Transaction, Amount), ApiError>;
    async fn swap_release(&self, transaction: Transaction) -> Result<(), ApiError>;
    async fn swap_recall(&self, request: RecallSwap) -> Result<(), ApiError>;
    async fn swap_broadcast(&self, transaction: Transaction) -> Result<(), ApiError>;
}

/// A swap, and what its networks are called.
#[derive(Clone, Debug)]
pub(crate) struct SwapInfo {
    pub swap: Swap,
    pub give_on: String,
    pub get_on: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuoteSwap {
    pub give: Amount,
    pub get: Amount,
    /// Coins of the second daemon's chain are given.
    pub give_other: bool,
    pub terms: SwapTerms,
    pub outer_seconds: u64,
    pub inner_seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcceptSwap {
    pub offer: Offer,
    pub give: Amount,
    pub get: Amount,
    pub terms: SwapTerms,
}

/// What each side decides for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SwapTerms {
    /// Nothing is redeemed or refunded without a call.
    pub by_hand: bool,
    /// Confirmations that the other's lock needs.
    pub depth: u32,
    pub max_lock_fee: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwapOrder {
    Participate,
    Redeem,
    Refund,
    Cancel,
}

#[derive(Clone, Debug)]
pub(crate) struct SwapChainStatus {
    pub network: String,
    pub chain: Chain,
    pub tip: Tip,
    /// Whether the tip may be relied on.
    pub is_current: bool,
    /// By the number of blocks within which it should confirm.
    pub feerates: Vec<(u32, FeeratePerKw)>,
}

#[derive(Clone, Debug)]
pub(crate) struct SwapBlock {
    pub tip: Tip,
    pub transactions: Vec<Transaction>,
}

/// A lock that is in no block and is called back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecallSwap {
    pub lock: Transaction,
    pub to: ScriptBuf,
    pub fee: Amount,
}

/// A lock to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FundSwap {
    pub script: ScriptBuf,
    pub amount: Amount,
    pub max_fee: Amount,
}
