//! A peer that says hello.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Fake, node_id};
use crate::api::*;

#[async_trait]
impl CustomMessages for Fake {
    async fn send_custom(&self, message: CustomMessage) -> Result<(), ApiError> {
        self.asked(message, ())
    }

    async fn custom_messages(&self) -> Result<Updates<Arc<CustomMessage>>, ApiError> {
        let hello = CustomMessage { peer: node_id(), message_type: 32_769, data: b"hello".to_vec() };
        self.answer(self.updates(vec![Arc::new(hello)]))
    }
}
