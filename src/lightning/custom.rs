//! Messages that the node only carries.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{LightningNode, invoices::futures_unfold};
use crate::{
    api::{ApiError, CustomMessage, CustomMessages, Updates},
    driver::{peer::Command, uncommitted::Custom},
};

#[async_trait]
impl CustomMessages for LightningNode {
    async fn send_custom(&self, message: CustomMessage) -> Result<(), ApiError> {
        let CustomMessage { peer, message_type, data } = message;
        let message = Custom::new(message_type, data)
            .ok_or_else(|| ApiError::invalid("a message of this type and length is none that programs may send"))?;
        let peers = &self.services().peers;
        let not_connected = || ApiError::not_found(format!("peer is not connected: {peer} (`leyden connect` does)"));
        let mailbox = peers.get(&peer).filter(|_| peers.is_connected(&peer)).ok_or_else(not_connected)?;
        let (answer, sent) = oneshot::channel();
        mailbox.send(Command::Custom { message: Box::new(message), answer }).map_err(|_| not_connected())?;
        match sent.await {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => {
                Err(ApiError::unavailable(format!("peer {peer} does not read what it is sent: try again in a moment")))
            }
            Ok(None) | Err(_) => Err(not_connected()),
        }
    }

    async fn custom_messages(&self) -> Result<Updates<Arc<CustomMessage>>, ApiError> {
        let news = self.services().events.custom_messages();
        Ok(Box::pin(futures_unfold(news, |message| message)))
    }
}
