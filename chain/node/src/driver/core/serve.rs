//! What peers ask for and is read from the disk: blocks, parts of them, and their filters. It is read on the blocking pool, and
//! charged to the time of those that came to us.

use std::sync::Arc;
use std::time::Instant;

use bitcoin::BlockHash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use leyden_net::{BlockForm, Envelope, Event, FilterRequest, PeerId};

use super::Core;

impl Core {
    pub(super) fn serve_block(&mut self, peer: PeerId, hash: BlockHash, form: BlockForm) {
        let Some(remote) = self.remotes.get(&peer) else { return };
        let (backend, send_queue) = (Arc::clone(&self.backend), remote.send_queue.clone());
        let (outcomes, time) = (self.outcomes.0.clone(), self.time_of(peer));
        self.tasks.spawn_blocking(move || {
            let begun = Instant::now();
            let sent = match backend.block(&hash) {
                Ok(Some(block)) => match form.message(&block) {
                    Some(message) => send_queue.send_block(vec![Envelope::new(&message)]),
                    None => {
                        let _ = outcomes.send(Event::AskedBeyondBlock { peer });
                        false
                    }
                },
                Ok(None) => false,
                Err(error) => {
                    tracing::error!(%hash, %error, "cannot read a block for a peer");
                    false
                }
            };
            if !sent {
                let missing = NetworkMessage::NotFound(vec![Inventory::WitnessBlock(hash)]);
                // If the peer reads too slowly, the next message to it will notice.
                let _ = send_queue.send(Envelope::new(&missing));
                let _ = outcomes.send(Event::BlockServed { peer });
            }
            if let Some(time) = time {
                time.charge(begun.elapsed());
            }
        });
    }

    pub(super) fn serve_filters(&mut self, peer: PeerId, request: FilterRequest) {
        let Some(remote) = self.remotes.get(&peer) else { return };
        let (backend, send_queue) = (Arc::clone(&self.backend), remote.send_queue.clone());
        let (outcomes, time) = (self.outcomes.0.clone(), self.time_of(peer));
        self.tasks.spawn_blocking(move || {
            let begun = Instant::now();
            let messages = backend.filters(&request).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot read block filters for a peer");
                Vec::new()
            });
            let envelopes: Vec<Envelope> = messages.iter().map(Envelope::new).collect();
            if envelopes.is_empty() || !send_queue.send_block(envelopes) {
                let _ = outcomes.send(Event::BlockServed { peer });
            }
            if let Some(time) = time {
                time.charge(begun.elapsed());
            }
        });
    }
}
