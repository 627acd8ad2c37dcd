//! From the gossip task to the peers: what is stored is read beside the task, piece by piece, as fast as each peer reads.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use leyden_channels::{
    gossip::{GossipKey, Serving, SyncEffect, limits::UNSENT_BYTES, store::stored_message},
    types::{ChannelId, NodeId},
    wire::{Message, Warning},
};
use tracing::{debug, error};

use crate::{
    driver::{peer::Command, services::Services, uncommitted::Gossip},
    store::{Store, Table},
};

/// Encoded messages on their way to a peer's task; as long as they are, they count as unsent.
pub(crate) struct GossipBatch {
    pub messages: Vec<Gossip>,
    bytes: u64,
    waiting: Arc<AtomicU64>,
}

impl GossipBatch {
    fn new(messages: Vec<Gossip>, waiting: &Arc<AtomicU64>) -> Self {
        let bytes = messages.iter().map(|message| message.bytes().len()).sum::<usize>() as u64;
        waiting.fetch_add(bytes, Ordering::Relaxed);
        Self { messages, bytes, waiting: Arc::clone(waiting) }
    }

    /// Outside any account: what we say ourselves, unasked.
    pub(crate) fn own(message: Gossip) -> Self {
        Self::new(vec![message], &Arc::default())
    }
}

impl Drop for GossipBatch {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct PeerQueue {
    address: IpAddr,
    /// Bytes that wait for the socket.
    unsent: Arc<AtomicU64>,
    /// Bytes that wait for the peer's task.
    waiting: Arc<AtomicU64>,
}

/// The lines to all connected peers.
#[derive(Default)]
pub(super) struct PeerQueues {
    queues: HashMap<NodeId, PeerQueue>,
}

impl PeerQueues {
    pub(super) fn connected(&mut self, peer: NodeId, address: IpAddr, unsent: Arc<AtomicU64>) {
        self.queues.insert(peer, PeerQueue { address, unsent, waiting: Arc::default() });
    }

    pub(super) fn disconnected(&mut self, peer: &NodeId) {
        self.queues.remove(peer);
    }

    pub(super) fn address(&self, peer: &NodeId) -> Option<IpAddr> {
        self.queues.get(peer).map(|queue| queue.address)
    }

    /// Whether a peer has taken most of what it was sent.
    fn has_room(&self, peer: &NodeId) -> bool {
        self.queues.get(peer).is_some_and(|queue| {
            queue.unsent.load(Ordering::Relaxed) + queue.waiting.load(Ordering::Relaxed) < UNSENT_BYTES as u64
        })
    }

    /// The next piece of what each peer is to be told.
    pub(super) async fn serve(&self, services: &Services, serving: &mut Serving) {
        let now = services.gossip.uptime();
        let mut effects = Vec::new();
        for peer in serving.waiting() {
            if self.has_room(&peer) {
                let intake = services.gossip.intake();
                effects.extend(serving.serve(peer, !intake.is_channel_peer(&peer), intake.graph(), now));
            }
        }
        if effects.is_empty() {
            return;
        }
        let store = services.store.clone();
        let read = move || effects.into_iter().map(|effect| read(&store, effect)).collect::<Vec<_>>();
        for (peer, messages) in tokio::task::spawn_blocking(read).await.unwrap_or_default() {
            self.send_gossip(services, &peer, messages);
        }
    }

    pub(super) fn send_all(&self, services: &Services, effects: Vec<SyncEffect>) {
        for effect in effects {
            match effect {
                SyncEffect::Send { peer, message } => self.send(services, &peer, &message),
                SyncEffect::Warn { peer, text } => self.warn(services, peer, text.to_owned()),
                // Only [`Self::serve`] has them.
                SyncEffect::SendStored { .. } => {}
            }
        }
    }

    fn send(&self, services: &Services, peer: &NodeId, message: &Message) {
        match message.encode() {
            Ok(raw) => self.send_gossip(services, peer, Gossip::encoded(raw).into_iter().collect()),
            Err(error) => error!(%error, "gossip cannot be sent"),
        }
    }

    fn send_gossip(&self, services: &Services, peer: &NodeId, messages: Vec<Gossip>) {
        if let (Ok(key), Some(queue)) = (peer.public_key(), self.queues.get(peer)) {
            services.peers.to_peer(&key, Command::Gossip(GossipBatch::new(messages, &queue.waiting)));
        }
    }

    /// A peer that does not read does without.
    pub(super) fn warn(&self, services: &Services, peer: NodeId, text: String) {
        debug!(%peer, %text, "a peer's gossip is wrong");
        if self.has_room(&peer) {
            self.send(services, &peer, &Warning::new(ChannelId::ALL, text).into());
        }
    }
}

/// The messages of one effect, as they go out.
fn read(store: &Store, effect: SyncEffect) -> (NodeId, Vec<Gossip>) {
    let stored = |key: &GossipKey| {
        let value = store.table_record(Table::Gossip, &key.encode()).ok().flatten()?;
        stored_message(key, &value).ok().and_then(|message| Gossip::encoded(message.to_vec()))
    };
    let encode = |message: &Message| message.encode().into_iter().filter_map(Gossip::encoded).collect();
    match effect {
        SyncEffect::SendStored { peer, keys } => (peer, keys.iter().filter_map(stored).collect()),
        SyncEffect::Send { peer, message } => (peer, encode(&message)),
        SyncEffect::Warn { peer, text } => (peer, encode(&Warning::new(ChannelId::ALL, text.to_owned()).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_has_not_taken_leaves_no_room_for_more() {
        let (peer, unsent) = (NodeId([2; 33]), Arc::new(AtomicU64::new(0)));
        let mut queues = PeerQueues::default();
        assert!(!queues.has_room(&peer), "nobody is there");
        queues.connected(peer, IpAddr::from([127, 0, 0, 1]), Arc::clone(&unsent));
        assert!(queues.has_room(&peer));
        // Its task has not come to it yet.
        let waiting = Arc::clone(&queues.queues[&peer].waiting);
        let message = Gossip::encoded([vec![1, 0], vec![0; UNSENT_BYTES]].concat()).unwrap();
        let batch = GossipBatch::new(vec![message], &waiting);
        assert!(!queues.has_room(&peer));
        drop(batch);
        assert!(queues.has_room(&peer));
        // Its socket has not.
        unsent.store(UNSENT_BYTES as u64, Ordering::Relaxed);
        assert!(!queues.has_room(&peer));
        queues.disconnected(&peer);
        unsent.store(0, Ordering::Relaxed);
        assert!(!queues.has_room(&peer));
    }
}
