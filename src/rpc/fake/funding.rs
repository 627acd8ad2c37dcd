//! Funding by PSBT, and of several channels at once.

use super::*;

#[async_trait]
impl Funding for Fake {
    async fn funding_step(&self, id: ChannelId, step: FundingStep) -> Result<(), ApiError> {
        self.asked((id, step), ())
    }

    async fn open_channels(&self, request: OpenChannels) -> Result<Vec<OutPoint>, ApiError> {
        self.asked(request, vec![funding()])
    }
}
