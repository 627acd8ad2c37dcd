//! Transactions that programs make themselves, with the wallet's coins and signatures.

use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Psbt, Transaction};

use super::{AddressKind, ApiError, CoinChoice, FeeChoice, Lease};
pub(crate) use crate::wallet::psbt_funding::Selection;

#[async_trait]
pub(crate) trait Psbts: Send + Sync {
    /// Chooses coins for a PSBT and leases them. `FailedPrecondition` if they do not suffice.
    async fn fund_psbt(&self, request: FundPsbt) -> Result<PsbtFunded, ApiError>;
    /// Signs the inputs that are the wallet's, and tells which.
    async fn sign_psbt(&self, psbt: Psbt) -> Result<(Psbt, Vec<usize>), ApiError>;
    /// Signs likewise, and makes the transaction. Nothing is broadcast.
    async fn finalize_psbt(&self, psbt: Psbt) -> Result<(Psbt, Transaction), ApiError>;
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FundPsbt {
    pub template: Psbt,
    pub selection: Selection,
    pub fee: FeeChoice,
    /// Its `only` is empty: the template names coins.
    pub coins: CoinChoice,
    pub change: AddressKind,
    /// The most to pay, as a part of all outputs.
    pub max_fee_ratio: Option<f64>,
    pub lock_id: [u8; 32],
    pub lock_time: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PsbtFunded {
    pub psbt: Psbt,
    /// The index of the output that takes what is left.
    pub change: Option<usize>,
    /// What this has leased.
    pub leases: Vec<Lease>,
}
