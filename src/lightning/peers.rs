//! The peers' calls.

use async_trait::async_trait;
use leyden_channels::types::{Msat, UnixTime};
use secp256k1::PublicKey;
use tokio::{sync::oneshot, time::timeout};

use super::{LightningNode, invoices::futures_unfold};
use crate::{
    api::{ApiError, PeerAddress, PeerError, PeerEvent, PeerInfo, Peers, Updates},
    driver::{connection::ConnectionError, events::PeerNews, peer::Command, runtime},
};

#[async_trait]
impl Peers for LightningNode {
    async fn connect_peer(&self, peer: PeerAddress, keep_trying: bool) -> Result<(), ApiError> {
        let services = self.services();
        if peer.node_id == services.node_id() {
            return Err(ApiError::invalid("cannot make connection to self: this is the node's own key"));
        }
        if services.peers.is_connected(&peer.node_id) {
            return Err(ApiError::exists(format!("already connected to peer {}", peer.node_id)));
        }
        let dial = runtime::connect(services, peer.node_id, &peer.host);
        if keep_trying {
            runtime::keep_dialling(services, peer.node_id, peer.host.clone());
            return Ok(());
        }
        let result = match peer.timeout {
            Some(limit) => timeout(limit, dial).await.unwrap_or(Err(ConnectionError::Timeout(limit))),
            None => dial.await,
        };
        result.map_err(|error| ApiError::unavailable(error.to_string()))
    }

    async fn disconnect_peer(&self, node_id: PublicKey) -> Result<(), ApiError> {
        let services = self.services();
        let mailbox = services
            .peers
            .get(&node_id)
            .filter(|_| services.peers.is_connected(&node_id))
            .ok_or_else(|| ApiError::not_found(format!("peer {node_id} is not connected")))?;
        let (answer, state) = oneshot::channel();
        let described = mailbox.send(Command::Describe(answer)).is_ok();
        if described && state.await.is_ok_and(|state| !state.channels.is_empty()) {
            return Err(ApiError::precondition(format!(
                "peer {node_id} has channels with us: close them first (`leyden closechannel`)"
            )));
        }
        let (done, ended) = oneshot::channel();
        if mailbox.send(Command::HangUp(done)).is_ok() {
            let _ = ended.await;
        }
        Ok(())
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        let complaints = |node_id: &PublicKey| {
            let said = self.services().events.complaints(node_id);
            said.into_iter().map(|(time, text)| PeerError { time: UnixTime(time), text }).collect()
        };
        let states = self.peer_states().await;
        let peers = states.into_iter().filter_map(|state| {
            let connection = state.connection?;
            let sum = |of: fn(&leyden_channels::channel::EstablishedSummary) -> Msat| {
                let established = state.channels.iter().filter_map(|channel| channel.established.as_ref());
                Msat(established.map(|channel| of(channel).0).fold(0, u64::saturating_add))
            };
            Some(PeerInfo {
                node_id: state.node_id,
                address: connection.address.to_string(),
                inbound: connection.inbound,
                bytes_sent: connection.bytes_sent,
                bytes_received: connection.bytes_received,
                amount_sent: sum(|channel| channel.total_sent),
                amount_received: sum(|channel| channel.total_received),
                ping: connection.ping,
                features: connection.features,
                tells_gossip: self.services().gossip.listens_to(&state.node_id.into()),
                errors: complaints(&state.node_id),
            })
        });
        Ok(peers.collect())
    }

    async fn peer_events(&self) -> Result<Updates<PeerEvent>, ApiError> {
        let news = self.services().events.peers();
        let event = |PeerNews { node_id, is_online }| PeerEvent { node_id, is_online };
        Ok(Box::pin(futures_unfold(news, event)))
    }
}
