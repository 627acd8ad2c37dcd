//! The connection to the peer: which of two is kept, what comes in, and when it is given up.

use std::time::Duration;

use leyden_channels::{
    channel::Event,
    types::ChannelId,
    wire::{
        ErrorMessage, Message, Warning,
        control::{Ping, Pong},
    },
};
use tokio::{sync::mpsc, time::Instant};
use tracing::info;

use super::{Peer, SILENCE_LIMIT};
use crate::driver::{
    allowance::Allowance,
    committer::ConnectionId,
    connection::{Connection, ConnectionError, Established, Incoming, Received},
    events::PeerNews,
    gossip::{self, GossipEvent},
    peers::{ConnectionInfo, Refused},
    uncommitted::{Gossip, Uncommitted},
};
use crate::limits::{CUSTOM_AT_ONCE, CUSTOM_PER_SECOND, PONG_OVERHEAD, PONGS_AT_ONCE, PONGS_PER_SECOND};
use crate::words::{Line, said};

pub(super) struct Connected {
    pub(super) id: ConnectionId,
    pub(super) connection: Connection,
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) since: Instant,
    pub(super) heard: Instant,
    pub(super) pinged: Option<Instant>,
    pub(super) round_trip: Option<Duration>,
    /// What it may still ask for by pings.
    pongs: Allowance,
    /// What it may still send to other programs.
    pub(super) custom: Allowance,
    /// One of both has held the other for wrong.
    pub(super) disputed: bool,
}

impl Peer {
    pub(in crate::driver) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(super) fn connected(&mut self, established: Established) {
        if let Some(old) = &self.connection {
            // Both nodes dialled at once: both must keep the same one of the two connections.
            let crossing =
                old.connection.inbound != established.inbound && old.since.elapsed() < Duration::from_secs(10);
            let ours_wins = self.services.node_id() < self.node_id;
            if crossing && old.connection.inbound != ours_wins {
                self.services
                    .peers
                    .set_connected(&self.node_id, ConnectionInfo::new(old.connection.address, old.connection.inbound));
                return;
            }
            self.disconnect();
        }
        let now = Instant::now();
        let (connection, incoming) = established.start(&self.standing);
        let (address, unsent) = (connection.address.ip(), connection.unsent());
        self.services.peers.set_connected(&self.node_id, ConnectionInfo::new(connection.address, connection.inbound));
        self.log_connection("connected", &connection.address.to_string());
        self.services.events.peer(PeerNews { node_id: self.node_id, is_online: true });
        self.connections += 1;
        let id = self.connection_id();
        self.connection = Some(Connected {
            id,
            connection,
            incoming,
            since: now,
            heard: now,
            pinged: None,
            round_trip: None,
            pongs: Allowance::new(PONGS_AT_ONCE, PONGS_PER_SECOND, now.into_std()),
            custom: Allowance::new(CUSTOM_AT_ONCE, CUSTOM_PER_SECOND, now.into_std()),
            disputed: false,
        });
        let features =
            self.connection.as_ref().map(|connected| connected.connection.features.clone()).unwrap_or_default();
        self.services.gossip.tell(GossipEvent::Connected { peer: self.node_id, features, address, unsent });
        self.exchange_storage();
        if self.connection.is_some() {
            self.all(&Event::Connected);
        }
    }

    /// Says what has become of the connection; of strangers' only as far as all of them together may fill the log.
    fn log_connection(&self, what: &str, detail: &str) {
        let is_stranger = self.slots.is_empty();
        if !is_stranger || self.services.strangers_log.line(&format!("{} {what}", self.node_id)) != Line::Skip {
            info!(peer = %self.node_id, detail, "{what}");
        }
    }

    pub(super) fn disconnect(&mut self) {
        if let Some(connected) = self.connection.take() {
            self.log_connection("disconnected", &connected.connection.address.to_string());
            self.services.events.peer(PeerNews { node_id: self.node_id, is_online: false });
            self.asked.clear();
            let lasted = connected.since.elapsed();
            self.was_online += lasted;
            self.services.peers.disconnected(&self.node_id, connected.disputed, lasted);
            self.services.gossip.tell(GossipEvent::Disconnected(self.node_id));
            self.all(&Event::Disconnected);
        }
    }

    pub(super) fn keep_alive(&mut self) {
        let Some(connected) = &mut self.connection else { return };
        // A pong that does not come says that nothing of ours is read, whatever the peer sends itself.
        let unread = connected.pinged.is_some_and(|at| at.elapsed() > SILENCE_LIMIT);
        if unread || connected.heard.elapsed() > SILENCE_LIMIT {
            info!(peer = %self.node_id, "the peer does not answer or does not read, disconnecting");
            self.disconnect();
            return;
        }
        if connected.pinged.is_some() {
            return;
        }
        connected.pinged = Some(Instant::now());
        self.send(Ping { num_pong_bytes: 2, ignored: Vec::new() });
    }

    pub(super) fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Ok(Received { message, .. }) => self.message(message),
            Err(ConnectionError::Closed) => self.disconnect(),
            Err(error) => {
                self.log_connection("the connection ended", &said(&error.to_string()));
                if matches!(error, ConnectionError::Decode(_) | ConnectionError::Cipher(_)) {
                    self.note_dispute();
                }
                self.disconnect();
            }
        }
    }

    pub(super) fn message(&mut self, message: Message) {
        let Some(connected) = &mut self.connection else { return };
        connected.heard = Instant::now();
        match message {
            Message::Ping(ping) => {
                if let Some(pong) = ping.answer() {
                    self.answer_ping(pong);
                }
            }
            Message::Pong(_) => {
                connected.round_trip = connected.pinged.take().map(|at| at.elapsed());
            }
            Message::Init(_) => {}
            Message::PeerStorage(message) => self.store_for_peer(message),
            Message::PeerStorageRetrieval(message) => self.storage_came_back(&message),
            Message::OpenChannel(open) => self.accept(*open),
            message if gossip::is_gossip(&message) => self.services.gossip.message(self.node_id, message),
            Message::Unknown { message_type, payload } if self.is_for_programs(message_type) => {
                self.custom_message(message_type, payload);
            }
            Message::Unknown { message_type, .. } if message_type % 2 == 0 => {
                self.log_connection("an unknown message of an even type; disconnecting", &message_type.to_string());
                self.note_dispute();
                self.disconnect();
            }
            message => match message.channel_id().map(|id| self.present_id(id)) {
                Some(ChannelId::ALL) => self.all(&Event::Message(message)),
                Some(id) if self.slots.contains_key(&id) => self.event(id, Event::Message(message)),
                // BOLT 1 wants an answer to the messages of a channel; the peer may hold it for open.
                Some(id) if is_of_channel(&message) => {
                    self.send(ErrorMessage::new(id, "unknown channel"));
                }
                // Words about no channel of ours, and what only gossip would want.
                Some(_) | None => self.note_words(&message),
            },
        }
    }

    /// Not if the peer asks for too many, nor while it does not read: BOLT 1 lets a node hang up for less.
    fn answer_ping(&mut self, pong: Pong) {
        let Some(connected) = &mut self.connection else { return };
        let cost = PONG_OVERHEAD + pong.ignored.len() as u64;
        if connected.connection.is_full_for(cost) || !connected.pongs.spend(cost, Instant::now().into_std()) {
            return self.services.peers.note_refused(Refused::Pong);
        }
        self.send(pong);
    }

    /// Whether what the peer has asked for is left out, because it does not read what it is sent.
    pub(super) fn is_full_for(&self, answer: usize) -> bool {
        let full = self.connection.as_ref().is_some_and(|connected| connected.connection.is_full_for(answer as u64));
        if full {
            self.services.peers.note_refused(Refused::Answer);
        }
        full
    }

    /// Something was wrong on this connection: if it ends, the next one is not hurried.
    pub(super) fn note_dispute(&mut self) {
        if let Some(connected) = &mut self.connection {
            connected.disputed = true;
        }
    }

    fn note_words(&mut self, message: &Message) {
        if let Message::Error(ErrorMessage { .. }) | Message::Warning(Warning { .. }) = message {
            self.note_dispute();
        }
    }

    /// A message that depends on nothing durable.
    pub(super) fn send(&mut self, message: impl Into<Uncommitted>) {
        let Some(connected) = &mut self.connection else { return };
        let message = message.into();
        let sent = connected
            .connection
            .queue(message.message())
            .map_err(ConnectionError::from)
            .and_then(|()| connected.connection.flush());
        if sent.is_err() {
            self.disconnect();
        }
    }

    pub(super) fn send_gossip(&mut self, messages: &[Gossip]) {
        let Some(connected) = &mut self.connection else { return };
        let queued = messages.iter().try_for_each(|message| connected.connection.queue_gossip(message));
        if queued.map_err(ConnectionError::from).and_then(|()| connected.connection.flush()).is_err() {
            self.disconnect();
        }
    }
}

/// At most `turn` messages.
pub(super) async fn receive(connection: &mut Option<Connected>, messages: &mut Vec<Incoming>, turn: usize) {
    match connection {
        Some(connected) => {
            if connected.incoming.recv_many(messages, turn).await == 0 {
                messages.push(Err(ConnectionError::Closed));
            }
        }
        None => std::future::pending().await,
    }
}

/// Whether this is a message of the types 32 to 255, by which a channel is opened, used and closed. Others name channels that
/// only gossip cares about: an `error` about them would end a channel that the peer may have with good reason.
fn is_of_channel(message: &Message) -> bool {
    matches!(message.message_type(), 32..=255)
}
