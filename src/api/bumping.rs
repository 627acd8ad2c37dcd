//! Making what is unconfirmed pay more.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint};

use super::{ApiError, FeeChoice};
use crate::wallet::reserve::Reserve;

#[async_trait]
pub(crate) trait Bumping: Send + Sync {
    /// What was done, in words. `NotFound` if nothing unconfirmed of ours has to do with the output.
    async fn bump_fee(&self, request: BumpFee) -> Result<String, ApiError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BumpFee {
    pub outpoint: OutPoint,
    pub fee: FeeChoice,
    /// The most to pay.
    pub budget: Option<Amount>,
    /// Whether what is kept back for claims of channels may be spent too.
    pub reserve: Reserve,
}
