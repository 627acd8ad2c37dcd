//! Messages of other programs' protocols (BOLT 1: types from 32768 on), which the node only carries.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ApiError, Updates};
pub(crate) use crate::driver::{
    events::CustomMessage,
    uncommitted::{FIRST_CUSTOM_TYPE, MAX_CUSTOM_DATA},
};

#[async_trait]
pub(crate) trait CustomMessages: Send + Sync {
    /// Hands it to the peer's connection. `NotFound` if it is not connected, `Unavailable` if it does not read what it is sent.
    async fn send_custom(&self, message: CustomMessage) -> Result<(), ApiError>;
    /// What any peer sends from now on. Who reads too slowly is told so, and has to begin again.
    async fn custom_messages(&self) -> Result<Updates<Arc<CustomMessage>>, ApiError>;
}
