//! The channels as the switch knows them: to whom each leads, and by which names senders may call it.

use std::collections::{BTreeMap, HashMap};

use crate::channel::Channel;
use crate::types::{ChannelId, Msat, NodeId, ShortChannelId, Side, UnixTime};

use super::grace::{ForwardPolicies, ForwardedHtlc, PolicyViolation};
use super::policy::ForwardPolicy;

/// A channel that HTLCs may come in and leave through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The channel.
    pub channel: ChannelId,
    /// Whom it leads to.
    pub peer: NodeId,
    /// What the funding output is worth.
    pub capacity: Msat,
    /// How many HTLCs we may offer at once.
    pub slots: u16,
    /// Where its funding output is in the chain.
    pub short_channel_id: Option<ShortChannelId>,
    /// What we told the peer to call it (BOLT 2, `channel_ready`): senders have it from the peer's invoices.
    pub alias: Option<ShortChannelId>,
    /// HTLCs come under the alias only (`option_scid_alias`): the real name would tell who has this channel.
    pub alias_only: bool,
}

impl Link {
    /// `None` while the channel is being opened.
    pub fn of(channel: &Channel) -> Option<Self> {
        let terms = channel.terms()?;
        let names = channel.short_channel_ids();
        Some(Self {
            channel: terms.channel_id,
            peer: terms.remote_node,
            capacity: terms.capacity_msat(),
            slots: terms.max_htlcs_of(Side::Local),
            short_channel_id: names.0,
            alias: names.1,
            alias_only: terms.channel_type.scid_alias,
        })
    }

    /// What a sender may put into its onion to mean this channel.
    fn names(&self) -> impl Iterator<Item = ShortChannelId> {
        let real = if self.alias_only { None } else { self.short_channel_id };
        real.into_iter().chain(self.alias)
    }

    /// The name that history and events show.
    pub fn name(&self) -> Option<ShortChannelId> {
        self.short_channel_id.or(self.alias)
    }
}

/// All channels, found by id, by name and by peer.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_id: BTreeMap<ChannelId, Entry>,
    by_name: HashMap<ShortChannelId, ChannelId>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub link: Link,
    /// `None` until terms are set.
    pub policies: Option<ForwardPolicies>,
    /// Our latest `channel_update`, encoded, for the senders of HTLCs that do not meet it.
    pub update: Vec<u8>,
}

/// Where an encoded `channel_update` names its channel: after type, signature and chain (BOLT 7).
const UPDATE_NAME_AT: usize = 2 + 64 + 32;

impl Entry {
    /// The `channel_update` for a failure, if it calls the channel as the sender did: another name would give away
    /// that both are one channel (BOLT 4, Failure Messages). Else nothing, which BOLT 4 allows.
    pub(super) fn update_for(&self, name: ShortChannelId) -> Vec<u8> {
        let named = self.update.get(UPDATE_NAME_AT..).and_then(|rest| rest.first_chunk::<8>());
        if named == Some(&name.0.to_be_bytes()) { self.update.clone() } else { Vec::new() }
    }

    /// The present terms.
    pub(super) fn policy(&self) -> ForwardPolicy {
        self.policies.as_ref().map_or_else(ForwardPolicy::default, |policies| policies.present)
    }

    /// Whether an HTLC meets the terms of this channel, or those that it had until lately.
    pub(super) fn met(&self, passing: &ForwardedHtlc, now: UnixTime) -> Result<(), PolicyViolation> {
        match &self.policies {
            Some(policies) => policies.met(passing, self.link.capacity, now),
            None => ForwardPolicies::new(ForwardPolicy::default()).met(passing, self.link.capacity, now),
        }
    }
}

impl Links {
    /// Adds a channel, or what has changed about it; its terms stay.
    pub(super) fn insert(&mut self, link: Link) {
        let id = link.channel;
        let (policies, update) = match self.remove(&id) {
            Some(entry) => (entry.policies, entry.update),
            None => (None, Vec::new()),
        };
        for name in link.names() {
            // Names are ours to choose or the chain's: nobody else can take one that is in use.
            self.by_name.entry(name).or_insert(id);
        }
        self.by_id.insert(id, Entry { link, policies, update });
    }

    pub(super) fn remove(&mut self, id: &ChannelId) -> Option<Entry> {
        let entry = self.by_id.remove(id)?;
        for name in entry.link.names() {
            if self.by_name.get(&name) == Some(id) {
                self.by_name.remove(&name);
            }
        }
        Some(entry)
    }

    pub(super) fn get(&self, id: &ChannelId) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ChannelId) -> Option<&mut Entry> {
        self.by_id.get_mut(id)
    }

    pub(super) fn named(&self, name: ShortChannelId) -> Option<&Entry> {
        self.by_name.get(&name).and_then(|id| self.by_id.get(id))
    }

    /// Every channel with this peer, the roomiest first.
    pub(super) fn with_peer(&self, peer: &NodeId) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.by_id.values().filter(|entry| entry.link.peer == *peer).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.link.capacity));
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(channel: u8, capacity: u64) -> Link {
        Link {
            channel: ChannelId([channel; 32]),
            peer: NodeId([2; 33]),
            capacity: Msat(capacity),
            slots: 483,
            short_channel_id: Some(ShortChannelId(u64::from(channel))),
            alias: Some(ShortChannelId(1000 + u64::from(channel))),
            alias_only: false,
        }
    }

    #[test]
    fn a_channel_answers_to_its_names_until_it_is_gone() {
        let mut links = Links::default();
        links.insert(link(1, 5));
        links.insert(Link { alias_only: true, ..link(2, 9) });
        let found = |links: &Links, name| links.named(ShortChannelId(name)).map(|entry| entry.link.channel.0[0]);
        assert_eq!(found(&links, 1), Some(1));
        assert_eq!(found(&links, 1001), Some(1));
        assert_eq!(found(&links, 2), None, "the real name is private");
        assert_eq!(found(&links, 1002), Some(2));
        let order: Vec<u8> = links.with_peer(&NodeId([2; 33])).iter().map(|entry| entry.link.channel.0[0]).collect();
        assert_eq!(order, [2, 1]);
        links.insert(Link { short_channel_id: Some(ShortChannelId(7)), ..link(1, 5) });
        assert_eq!((found(&links, 1), found(&links, 7)), (None, Some(1)), "a reorganisation renames it");
        links.remove(&ChannelId([1; 32]));
        assert_eq!((found(&links, 7), found(&links, 1001)), (None, None));
    }

    #[test]
    fn an_update_goes_out_only_under_the_name_that_the_sender_used() {
        let mut update = vec![0; 136];
        update[UPDATE_NAME_AT..UPDATE_NAME_AT + 8].copy_from_slice(&7_u64.to_be_bytes());
        let entry = Entry { link: link(1, 5), policies: None, update: update.clone() };
        assert_eq!(entry.update_for(ShortChannelId(7)), update);
        assert_eq!(entry.update_for(ShortChannelId(1001)), Vec::<u8>::new());
    }
}
