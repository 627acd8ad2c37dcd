//! What is to be forgotten is.

use async_trait::async_trait;
use leyden_channels::types::{Msat, PaymentHash};

use super::Fake;
use crate::api::*;

#[async_trait]
impl Forgetting for Fake {
    async fn forget_forwards(&self, until: ForgetUntil) -> Result<ForgottenForwards, ApiError> {
        self.asked(until, ForgottenForwards { count: 7, fees: Msat(1_500) })
    }

    async fn forget_invoice(&self, hash: PaymentHash) -> Result<(), ApiError> {
        self.asked(hash, ())
    }
}
