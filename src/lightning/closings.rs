//! What channels can become on the chain, and how far those that close have come.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint};
use leyden_channels::channel::{StateName, Summary};
use tokio::sync::oneshot;

use super::{
    LightningNode, NodeHere,
    channels::is_closed_together,
    warnings::{not_open, warnings},
};
use crate::{
    api::{ApiError, ChannelTree, ClosingChannel, Closings},
    driver::{
        cause::reason,
        peer::{ChannelState, Command, PeerState},
    },
};

#[async_trait]
impl Closings for LightningNode {
    async fn channel_tree(&self, funding: OutPoint) -> Result<ChannelTree, ApiError> {
        let services = self.services();
        let not_found = || ApiError::not_found(format!("there is no channel {funding}; see `leyden listchannels`"));
        let ChannelState { node_id, summary } = self.channel_state(funding).await.ok_or_else(not_found)?;
        let (answer, tree) = oneshot::channel();
        let id = summary.channel_id;
        if !services.peers.to_channel(&id, Command::Tree { channel: id, answer }) {
            return Err(not_found());
        }
        let tree = tree.await.ok().flatten().ok_or_else(not_found)?;
        Ok(ChannelTree { node_id, tree, height: services.tip() })
    }

    async fn closing_channels(&self) -> Result<Vec<ClosingChannel>, ApiError> {
        let states = self.peer_states().await;
        let mut list = Vec::new();
        for state in &states {
            for channel in state.channels.iter().filter(|channel| is_closing(channel)) {
                list.extend(self.closing_channel(state, channel)?);
            }
        }
        list.sort_by_key(|channel| channel.funding);
        Ok(list)
    }

    async fn warnings(&self) -> Result<Vec<String>, ApiError> {
        let towers = self.services().towers.view().await?;
        let states = self.peer_states().await;
        let closed = states.iter().flat_map(|state| &state.resolutions).filter(|one| one.close.is_some());
        let closed = closed.map(|one| one.funding).collect();
        // That this node's data is old comes before everything else.
        let mut list = super::towers::warnings(&towers, &closed);
        list.extend(self.second.as_ref().and_then(NodeHere::absence).map(not_open));
        list.extend(warnings(self.services(), &states, self.crossings.trouble()));
        Ok(list)
    }
}

impl LightningNode {
    fn closing_channel(&self, state: &PeerState, channel: &Summary) -> Result<Option<ClosingChannel>, ApiError> {
        let services = self.services();
        let Some(funding) = channel.established.as_ref().map(|known| known.funding) else { return Ok(None) };
        let resolution = state.resolutions.iter().find(|one| one.channel == channel.channel_id);
        let double_spent = channel.established.as_ref().map(|known| known.funding_state);
        let double_spent = double_spent.filter(|_| channel.state == StateName::DoubleSpent);
        let why = match resolution {
            _ if let Some(state) = double_spent => state.to_string(),
            Some(one) => one.reason.clone(),
            None => reason(None, services.store.cause(&funding)?.as_ref()),
        };
        let spend = channel.spend.as_ref();
        let close = resolution.and_then(|one| one.close);
        Ok(Some(ClosingChannel {
            node_id: state.node_id,
            funding,
            capacity: channel.capacity,
            reason: why,
            closing_txid: close.map(|(txid, _)| txid).or_else(|| spend.map(|spend| spend.txid)),
            closed_at: close.map(|(_, height)| height).or_else(|| spend.and_then(|spend| spend.height)),
            outputs: resolution.map(|one| one.reports.clone()).unwrap_or_default(),
            fees: resolution.map_or(Amount::ZERO, |one| one.fees),
            recovered: resolution.and_then(|one| one.recovered.to_unsigned().ok()).unwrap_or(Amount::ZERO),
            height: services.tip(),
        }))
    }
}

fn is_closing(channel: &Summary) -> bool {
    match channel.state {
        StateName::Shutdown
        | StateName::Negotiating
        | StateName::Lost
        | StateName::Restored
        | StateName::DoubleSpent
        | StateName::Closing => !is_closed_together(channel),
        StateName::Opening | StateName::Funding | StateName::Ready | StateName::Normal | StateName::Closed => false,
    }
}
