//! Giving a channel up that nothing can close any more.

use bitcoin::OutPoint;
use leyden_channels::channel::StateName;
use tokio::sync::oneshot;

use super::LightningNode;
use crate::{api::ApiError, driver::peer::Command};

impl LightningNode {
    pub(super) async fn abandon(&self, funding: OutPoint) -> Result<String, ApiError> {
        let not_found = || ApiError::not_found(format!("there is no channel {funding}; see `leyden pendingchannels`"));
        let states = self.peer_states().await;
        let channel = states
            .iter()
            .flat_map(|state| &state.channels)
            .find(|channel| channel.established.as_ref().is_some_and(|known| known.funding == funding))
            .ok_or_else(not_found)?;
        let (answer, done) = oneshot::channel();
        let id = channel.channel_id;
        if !self.services().peers.to_channel(&id, Command::Abandon { channel: id, answer }) {
            return Err(not_found());
        }
        match done.await {
            Ok(Ok(())) if channel.state == StateName::DoubleSpent => {
                Ok("the channel is forgotten; its coins had been spent by another transaction".to_owned())
            }
            Ok(Ok(())) => {
                Ok("the channel is forgotten: if its funding transaction is or gets confirmed, what it holds is lost"
                    .to_owned())
            }
            Ok(Err(reason)) => Err(ApiError::precondition(reason)),
            Err(_) => Err(ApiError::unavailable("the daemon is stopping")),
        }
    }
}
