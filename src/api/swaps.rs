//! Atomic and submarine swaps, and what this daemon does for another one that makes them.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
use leyden_channels::{
    swap::{
        Acceptance, Chain, Contract, Tip,
        submarine::{self, Direction},
    },
    types::{FeeratePerKw, Height, Msat, PaymentHash, PaymentPreimage},
};

use super::{ApiError, Updates};
pub(crate) use crate::driver::swaps::{
    AcceptSwap, CoinsPlace, QuoteSwap, SubmarineFacts, SwapInfo, SwapOrder, SwapTerms,
};

#[async_trait]
pub(crate) trait Swaps: Send + Sync {
    /// `FailedPrecondition` if the terms leave too little time, or no second daemon is known.
    async fn quote_swap(&self, request: QuoteSwap) -> Result<SwapInfo, ApiError>;
    /// `FailedPrecondition` if the offer is not what the caller believes it to be.
    async fn accept_swap(&self, request: AcceptSwap) -> Result<SwapInfo, ApiError>;
    async fn initiate_swap(&self, acceptance: Acceptance) -> Result<SwapInfo, ApiError>;
    /// `FailedPrecondition` if the terms leave too few blocks.
    async fn quote_submarine(&self, request: QuoteSubmarine) -> Result<SwapInfo, ApiError>;
    /// `FailedPrecondition` if the offer is not what the caller believes it to be.
    async fn accept_submarine(&self, request: AcceptSubmarine) -> Result<SwapInfo, ApiError>;
    async fn initiate_submarine(&self, acceptance: submarine::Acceptance) -> Result<SwapInfo, ApiError>;
    /// `FailedPrecondition` with the reason if it cannot be done now.
    async fn order_swap(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapInfo, ApiError>;
    async fn swaps(&self) -> Result<Vec<SwapInfo>, ApiError>;
    /// All as they are now, then each change.
    async fn subscribe_swaps(&self) -> Result<Updates<SwapInfo>, ApiError>;

    /// Takes the coins of a contract that this daemon does not know, by the wallet's words. `FailedPrecondition` if it cannot, or
    /// if the swap is under way here.
    async fn reclaim_swap(&self, request: ReclaimSwap) -> Result<Transaction, ApiError>;

    // For another daemon of the same person.

    async fn swap_chain_status(&self) -> Result<SwapChainStatus, ApiError>;
    /// `None` above the tip.
    async fn swap_block(&self, height: Height) -> Result<Option<SwapBlock>, ApiError>;
    async fn swap_spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, ApiError>;
    /// The wallet's transaction with an output to this script that is in no block.
    async fn swap_waiting(&self, script: ScriptBuf) -> Result<Option<Transaction>, ApiError>;
    async fn swap_script(&self) -> Result<ScriptBuf, ApiError>;
    /// Signed, its coins reserved, not broadcast; with its fee.
    async fn swap_fund(&self, request: FundSwap) -> Result<(Transaction, Amount), ApiError>;
    async fn swap_release(&self, transaction: Transaction) -> Result<(), ApiError>;
    async fn swap_recall(&self, request: RecallSwap) -> Result<(), ApiError>;
    async fn swap_broadcast(&self, transaction: Transaction) -> Result<(), ApiError>;
}

/// What is given and what is got; the latter follows from the rate between two networks if it is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amounts {
    GivesCoins { coins: Amount, payment: Option<Msat> },
    Pays { payment: Msat, coins: Option<Amount> },
}

/// A submarine swap that is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuoteSubmarine {
    pub direction: Direction,
    pub amounts: Amounts,
    pub terms: SubmarineTerms,
    pub place: CoinsPlace,
}

/// A submarine swap that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcceptSubmarine {
    pub offer: submarine::Offer,
    /// What the caller believes the bargain to be. What is got and not said is the offer's, if that is as good as the rate.
    pub direction: Direction,
    pub amounts: Amounts,
    /// The other network, of this name, if the coins are there.
    pub coins_on: Option<String>,
    pub terms: SubmarineTerms,
    /// For at most how many seconds the caller's coins may be locked, if it gives some.
    pub locked_for: u64,
}

/// What each side of a submarine swap decides for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubmarineTerms {
    /// Confirmations that the other's lock needs.
    pub depth: u32,
    pub max_lock_fee: Amount,
    /// The most that the payment's route may cost; `None`: the usual share of it.
    pub max_route_fee: Option<Msat>,
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
    /// Seconds between its last blocks, as measured.
    pub spacing: u32,
    pub is_pruned: bool,
    /// What the wallet has in blocks.
    pub confirmed: Amount,
}

#[derive(Clone, Debug)]
pub(crate) struct SwapBlock {
    pub tip: Tip,
    /// The hash of the block below.
    pub previous: [u8; 32],
    pub transactions: Vec<Transaction>,
}

/// A lock that is in no block and is called back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecallSwap {
    pub lock: Transaction,
    pub to: ScriptBuf,
    pub fee: Amount,
}

/// A contract of which nothing is left but its script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReclaimSwap {
    pub contract: Contract,
    pub lock: OutPoint,
    pub secret: Option<PaymentPreimage>,
}

/// A lock to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FundSwap {
    pub script: ScriptBuf,
    pub amount: Amount,
    pub max_fee: Amount,
}
