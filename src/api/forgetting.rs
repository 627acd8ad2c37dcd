//! What is deleted because its owner says so.

use async_trait::async_trait;
use leyden_channels::types::{Msat, PaymentHash};

use super::ApiError;

#[async_trait]
pub(crate) trait Forgetting: Send + Sync {
    /// Forgets forwards up to a time. `InvalidArgument` if it lies less than an hour ago.
    async fn forget_forwards(&self, until: ForgetUntil) -> Result<ForgottenForwards, ApiError>;
    /// Forgets an invoice that was canceled. `NotFound` if there is none, `FailedPrecondition` if it is not canceled, or something
    /// else of this node's still asks for it.
    async fn forget_invoice(&self, hash: PaymentHash) -> Result<(), ApiError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForgetUntil {
    /// Seconds since 1970.
    Time(u64),
    /// So many seconds ago.
    Ago(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForgottenForwards {
    pub count: u64,
    /// What they had earned.
    pub fees: Msat,
}
