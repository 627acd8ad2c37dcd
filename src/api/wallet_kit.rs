//! What other programs need of the wallet beside paying: rates, names, the account, coins that are theirs for a time.

use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Transaction, TxOut, Txid, Wtxid, secp256k1::PublicKey};
use leyden_channels::types::UnixTime;

use super::{AddressKind, ApiError, CoinChoice, FeeChoice, Updates, WalletTx};

/// The wallet as the base of other programs.
#[async_trait]
pub(crate) trait WalletKit: Send + Sync {
    /// What gets a transaction into one of the next so many blocks, and the least that nodes take.
    async fn chain_feerates(&self, blocks: u16) -> Result<ChainFeerates, ApiError>;
    /// An address for change that was never given out before.
    async fn change_address(&self, kind: AddressKind) -> Result<Address, ApiError>;
    /// `FailedPrecondition` if the coins do not suffice.
    async fn send_many(&self, request: SendMany) -> Result<Txid, ApiError>;
    /// Pays scripts, which need not be addresses: the transaction, broadcast.
    async fn send_outputs(&self, request: SendOutputs) -> Result<Transaction, ApiError>;
    /// What became of transactions that are taken together, parents first.
    async fn submit_package(&self, transactions: Vec<Transaction>) -> Result<PackageResult, ApiError>;
    /// `NotFound` if the wallet has no such transaction; `FailedPrecondition` if it is in a block, in the mempool or a channel's.
    async fn forget_transaction(&self, txid: Txid) -> Result<(), ApiError>;
    /// What that would cost. Nothing is sent or set aside; the label counts for nothing.
    async fn estimate_send(&self, request: SendMany) -> Result<SendEstimate, ApiError>;
    /// `NotFound` if it is none of the wallet's.
    async fn wallet_transaction(&self, txid: Txid) -> Result<WalletTx, ApiError>;
    /// Each transaction of the wallet when it is first seen, and when a block has it.
    async fn transaction_updates(&self) -> Result<Updates<WalletTx>, ApiError>;
    /// `InvalidArgument` with the reason if it is refused.
    async fn publish(&self, transaction: Transaction, label: String) -> Result<(), ApiError>;
    /// `NotFound` if it is none of the wallet's, `AlreadyExists` if it has a label and may not get another.
    async fn label_transaction(&self, txid: Txid, label: String, overwrite: bool) -> Result<(), ApiError>;
    async fn account(&self, kind: AddressKind) -> Result<Account, ApiError>;
    /// Those that were given out, with what lies there.
    async fn addresses(&self, kind: AddressKind) -> Result<Vec<WalletAddress>, ApiError>;
    /// What has to be kept back with so many channels more.
    async fn required_reserve(&self, more_channels: u32) -> Result<Amount, ApiError>;
    /// No payment takes this coin until the lease ends; when that is. `NotFound` if the wallet has no such coin,
    /// `FailedPrecondition` if it is somebody else's for now.
    async fn lease_coin(&self, id: [u8; 32], coin: OutPoint, time: Duration) -> Result<UnixTime, ApiError>;
    /// `FailedPrecondition` if it is leased under another id; nothing happens if it is not leased.
    async fn release_coin(&self, id: [u8; 32], coin: OutPoint) -> Result<(), ApiError>;
    async fn leases(&self) -> Result<Vec<Lease>, ApiError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainFeerates {
    pub estimate: FeeRate,
    pub relay: FeeRate,
}

/// Several payments in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendMany {
    /// No amount is zero; one at least.
    pub outputs: Vec<(Address, Amount)>,
    pub fee: FeeChoice,
    pub coins: CoinChoice,
    /// The user's own words, at most 500 bytes; may be empty.
    pub label: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendOutputs {
    /// One at least.
    pub outputs: Vec<TxOut>,
    pub fee: FeeChoice,
    pub coins: CoinChoice,
    /// The user's own words, at most 500 bytes; may be empty.
    pub label: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageResult {
    /// "success", or what was wrong.
    pub message: String,
    /// Each with why it was not taken, if it was not.
    pub transactions: Vec<(Txid, Wtxid, Option<String>)>,
    /// What had to leave the mempool for a package that was taken; of a light node nothing is known.
    pub replaced: Vec<Txid>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendEstimate {
    pub fee: Amount,
    pub rate: FeeRate,
    pub inputs: Vec<OutPoint>,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub kind: AddressKind,
    /// BIP 32, as text.
    pub public_key: String,
    pub master_fingerprint: [u8; 4],
    pub path: String,
    /// How many addresses have been given out, and how many scripts for change taken.
    pub external: u32,
    pub internal: u32,
}

/// A script of an account that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WalletAddress {
    pub address: Address,
    /// For change, or for what channels pay back.
    pub is_internal: bool,
    pub balance: Amount,
    pub path: String,
    /// For P2TR the internal key.
    pub public_key: PublicKey,
}

/// A coin that somebody has leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub id: [u8; 32],
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub until: UnixTime,
}
