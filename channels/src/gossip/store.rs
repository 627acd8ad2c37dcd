//! What is kept of gossip: the signed messages themselves, one record each, from which the graph is filled at start.
//!
//! ```text
//!   key                                   value
//!   0 ‖ short channel id                  version ‖ capacity ‖ height of the spend or 0 ‖ channel_announcement
//!   1 ‖ short channel id ‖ direction      channel_update
//!   2 ‖ node id                           node_announcement
//! ```
//!
//! Keys sort so that channels come before their updates and nodes: loading in the order of the keys fills the graph
//! in one pass. There is no second form of the graph that could disagree with the messages; reading 50,000 channels
//! back takes a fraction of a second, because what has been checked once is not checked again. Messages that peers
//! ask for are sent from here, byte for byte.

use bitcoin::{Amount, ScriptBuf};

use super::checksum::update_checksum;
use super::graph::{Channel, Direction, Graph, NewChannel, NodeInfo, RoutingPolicy};
use super::validate::funding_script;
use crate::types::{Height, NodeId, ShortChannelId};
use crate::wire::{ChannelAnnouncement, ChannelUpdate, DecodeError, Field as _, Message, NodeAnnouncement, Reader};

const CHANNEL: u8 = 0;
const UPDATE: u8 = 1;
const NODE: u8 = 2;
const VERSION: u8 = 1;

/// The name of a stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GossipKey {
    /// Its `channel_announcement`.
    Channel(ShortChannelId),
    /// Its `channel_update` of this direction.
    Update(ShortChannelId, Direction),
    /// Its `node_announcement`.
    Node(NodeId),
}

impl GossipKey {
    /// The key's bytes: channels before updates before nodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(34);
        match self {
            Self::Channel(id) => {
                out.push(CHANNEL);
                id.write(&mut out);
            }
            Self::Update(id, direction) => {
                out.push(UPDATE);
                id.write(&mut out);
                out.push(u8::from(*direction == Direction::FromNode2));
            }
            Self::Node(id) => {
                out.push(NODE);
                id.write(&mut out);
            }
        }
        out
    }

    /// Reads what [`Self::encode`] has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(bytes);
        let key = match reader.field::<u8>()? {
            CHANNEL => Self::Channel(reader.field()?),
            UPDATE => {
                let id = reader.field()?;
                match reader.field::<u8>()? {
                    0 => Self::Update(id, Direction::FromNode1),
                    1 => Self::Update(id, Direction::FromNode2),
                    other => return Err(StoreError::Key(other)),
                }
            }
            NODE => Self::Node(reader.field()?),
            other => return Err(StoreError::Key(other)),
        };
        reader.finish()?;
        Ok(key)
    }
}

/// Why stored gossip cannot be read. All of it can be asked for again from peers, so it may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum StoreError {
    #[error("a gossip record has an unknown key of kind {0}")]
    Key(u8),
    #[error("a gossip record has version {0}, and this program knows {VERSION}")]
    Version(u8),
    #[error("a gossip record is damaged: {0}")]
    Damaged(#[from] DecodeError),
    #[error("a gossip record holds another message than its key says")]
    WrongMessage,
}

/// The value of a channel's record; `raw` is the encoded announcement, its type included.
pub fn channel_record(capacity: Amount, spent_at: Option<Height>, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(13 + raw.len());
    out.push(VERSION);
    capacity.write(&mut out);
    spent_at.map_or(0, |height| height.0).write(&mut out);
    out.extend_from_slice(raw);
    out
}

/// The message in a record, as it is sent to a peer.
pub fn stored_message<'a>(key: &GossipKey, value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match key {
        GossipKey::Channel(_) => {
            let mut reader = Reader::new(value);
            read_channel_header(&mut reader)?;
            Ok(reader.take_rest())
        }
        GossipKey::Update(..) | GossipKey::Node(_) => Ok(value),
    }
}

/// The script that a channel's record says its funding output has.
pub fn funding_script_of(value: &[u8]) -> Option<ScriptBuf> {
    let mut reader = Reader::new(value);
    read_channel_header(&mut reader).ok()?;
    match Message::decode(reader.take_rest()) {
        Ok(Message::ChannelAnnouncement(announcement)) => funding_script(&announcement),
        Ok(_) | Err(_) => None,
    }
}

fn read_channel_header(reader: &mut Reader<'_>) -> Result<(Amount, Option<Height>), StoreError> {
    match reader.field::<u8>()? {
        VERSION => {}
        version => return Err(StoreError::Version(version)),
    }
    let capacity = reader.field()?;
    let spent_at = reader.field::<u32>()?;
    Ok((capacity, (spent_at != 0).then_some(Height(spent_at))))
}

pub(super) fn new_channel(announcement: &ChannelAnnouncement, capacity: Amount) -> NewChannel {
    NewChannel {
        short_channel_id: announcement.short_channel_id,
        node_id_1: announcement.node_id_1,
        node_id_2: announcement.node_id_2,
        capacity,
        routable: announcement.features.check_required().is_ok(),
    }
}

pub(crate) fn direction_of(update: &ChannelUpdate) -> Direction {
    if update.is_from_node_2() { Direction::FromNode2 } else { Direction::FromNode1 }
}

/// The policy in an update whose encoded form is `raw`.
pub(crate) fn policy_of(update: &ChannelUpdate, raw: &[u8]) -> RoutingPolicy {
    RoutingPolicy {
        timestamp: update.timestamp,
        checksum: update_checksum(raw),
        disabled: update.is_disabled(),
        cltv_expiry_delta: update.cltv_expiry_delta,
        htlc_minimum_msat: update.htlc_minimum_msat,
        htlc_maximum_msat: update.htlc_maximum_msat,
        fee_base_msat: update.fee_base_msat,
        fee_proportional_millionths: update.fee_proportional_millionths,
    }
}

pub(super) fn node_info_of(announcement: &NodeAnnouncement) -> NodeInfo {
    NodeInfo {
        timestamp: announcement.timestamp,
        alias: announcement.alias,
        rgb_color: announcement.rgb_color,
        features: announcement.features.clone(),
        addresses: announcement.addresses.clone(),
    }
}

impl Graph {
    /// The graph from its records, in the order of their keys.
    pub fn load<'a>(records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, StoreError> {
        let mut graph = Self::new();
        for (key, value) in records {
            graph.load_record(key, value)?;
        }
        Ok(graph)
    }

    /// The next of them.
    pub fn load_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let key = GossipKey::decode(key)?;
        let mut reader = Reader::new(value);
        let header = match key {
            GossipKey::Channel(_) => Some(read_channel_header(&mut reader)?),
            GossipKey::Update(..) | GossipKey::Node(_) => None,
        };
        let raw = reader.take_rest();
        match (key, Message::decode(raw)?, header) {
            (GossipKey::Channel(id), Message::ChannelAnnouncement(announcement), Some((capacity, spent_at))) => {
                self.add_channel(new_channel(&announcement, capacity));
                if spent_at.is_some() {
                    self.set_spent(id, spent_at);
                }
            }
            (GossipKey::Update(id, direction), Message::ChannelUpdate(update), None) => {
                self.set_policy(id, direction, Some(policy_of(&update, raw)));
            }
            (GossipKey::Node(id), Message::NodeAnnouncement(announcement), None) => {
                self.set_node_info(&id, node_info_of(&announcement));
            }
            _ => return Err(StoreError::WrongMessage),
        }
        Ok(())
    }
}

/// The keys of all that belongs to a channel that goes.
pub(super) fn keys_of_channel(channel: &Channel) -> Vec<GossipKey> {
    let id = channel.short_channel_id;
    let updates = [Direction::FromNode1, Direction::FromNode2]
        .into_iter()
        .filter(|direction| channel.policies.get(*direction).is_some())
        .map(|direction| GossipKey::Update(id, direction));
    std::iter::once(GossipKey::Channel(id)).chain(updates).collect()
}
