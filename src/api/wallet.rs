//! Money on the chain.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use bitcoin::{Address, Amount, FeeRate, OutPoint, SignedAmount, Transaction, TxOut, Txid};
use leyden_channels::types::{Height, UnixTime};

use super::{ApiError, Confirmation};
pub(crate) use crate::wallet::accounts::AddressKind;
use crate::wallet::reserve::Reserve;

/// The coins of the wallet.
#[async_trait]
pub(crate) trait Wallet: Send + Sync {
    /// A fresh address; with `reuse_unpaid` the latest one that nobody has paid, if there is one.
    async fn new_address(&self, kind: AddressKind, reuse_unpaid: bool) -> Result<Address, ApiError>;
    /// Coins with at least `min_confirmations` (1 or more) count as confirmed.
    async fn wallet_balance(&self, min_confirmations: u32) -> Result<WalletBalance, ApiError>;
    /// `FailedPrecondition` if the coins do not suffice.
    async fn send_coins(&self, request: SendCoins) -> Result<Txid, ApiError>;
    /// Newest first, unconfirmed ones before all others; the labels are those of `send_coins`.
    async fn wallet_transactions(&self, page: TransactionPage) -> Result<Vec<WalletTx>, ApiError>;
    /// Everything spendable, unconfirmed coins included.
    async fn unspent(&self) -> Result<Vec<WalletCoin>, ApiError>;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalletBalance {
    pub confirmed: Amount,
    pub unconfirmed: Amount,
    /// Mined by us and younger than 100 blocks.
    pub immature: Amount,
    /// Reserved for something under way; part of the others.
    pub locked: Amount,
    /// Kept back to raise the fees of anchor channels; part of the others.
    pub anchor_reserve: Amount,
    /// How many outputs that is.
    pub coins: usize,
}

/// What a transaction shall pay to be mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeeChoice {
    /// The daemon chooses.
    Default,
    /// As much as gets it into one of the next so many blocks (at least 1).
    ConfirmWithin(u16),
    /// This rate, which is not zero.
    Rate(FeeRate),
}

/// Which coins may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoinChoice {
    /// 0: unconfirmed coins too.
    pub min_confirmations: u32,
    /// Exactly these; empty: any.
    pub only: Vec<OutPoint>,
    /// Whether what is kept back for claims of channels may be spent too.
    pub reserve: Reserve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendAmount {
    /// Not zero; the fee comes on top.
    Exactly(Amount),
    /// Everything; the fee is taken from it.
    All,
}

/// A payment on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendCoins {
    pub to: Address,
    pub amount: SendAmount,
    pub fee: FeeChoice,
    pub coins: CoinChoice,
    /// A fee of more than half of what is sent is refused: somebody typed it wrong.
    pub refuses_high_fee: bool,
    /// The user's own words, at most 500 bytes; may be empty.
    pub label: String,
}

/// A transaction that moved the wallet's coins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WalletTx {
    pub txid: Txid,
    pub transaction: Arc<Transaction>,
    /// What the wallet gained or lost, fee included.
    pub net: SignedAmount,
    /// `None` if inputs are not known to the wallet.
    pub fee: Option<Amount>,
    pub confirmation: Option<Confirmation>,
    /// Of the block, or when it was first seen.
    pub time: UnixTime,
    pub label: String,
    /// The indices of the outputs that pay the wallet, in rising order.
    pub local_outputs: Vec<u32>,
    /// The indices of the inputs that spend from the wallet, in rising order.
    pub local_inputs: Vec<u32>,
}

/// A coin that the wallet can spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WalletCoin {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub kind: AddressKind,
    /// 0 while in the mempool.
    pub confirmations: u32,
}

/// A part of the wallet's transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransactionPage {
    pub heights: RangeInclusive<u32>,
    /// Those in no block, too.
    pub unconfirmed: bool,
    /// So many of those that are taken are left out, the newest ones.
    pub skip: usize,
    pub limit: Option<usize>,
}

impl TransactionPage {
    pub(crate) fn all() -> Self {
        Self { heights: 0..=u32::MAX, unconfirmed: true, skip: 0, limit: None }
    }

    /// Whether a transaction at this height is asked for, whatever the page; `None`: in no block.
    pub(crate) fn takes(&self, height: Option<Height>) -> bool {
        height.map_or(self.unconfirmed, |height| self.heights.contains(&height.0))
    }
}
