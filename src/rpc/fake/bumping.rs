//! Whatever shall pay more does.

use async_trait::async_trait;

use super::Fake;
use crate::api::*;

#[async_trait]
impl Bumping for Fake {
    async fn bump_fee(&self, request: BumpFee) -> Result<String, ApiError> {
        self.asked(request, "done".to_owned())
    }
}
