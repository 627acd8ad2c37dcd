//! What this node says about its channels and itself.
//!
//! ```text
//!   a channel of ours, six blocks deep and to be announced (anew, if a reorganisation has moved it):
//!     announcement_signatures ◄──► peer ──► channel_announcement ──► Intake ──► everybody
//!   every usable channel: channel_update ──┬─ announced ──► Intake ──► everybody
//!                                          └─ else ───────► the peer alone, for its invoices
//! ```

use std::collections::HashMap;

use leyden_channels::{
    gossip::{
        Direction, GossipEffect, GossipKey,
        announce::{OwnChannel, OwnNode, OwnUpdate, is_refresh_due, previous_time},
    },
    keys::curve,
    payment::HintHop,
    switch::SwitchEvent,
    types::{ChannelId, NodeId, ShortChannelId, Uptime},
    wire::{AnnouncementSignatures, ChannelUpdate, Features, Message},
};
use secp256k1::PublicKey;
use tracing::{info, warn};

use super::{GossipBatch, OwnChannelState};
use crate::{
    driver::{announced::Announced, peer::Command, services::Services, uncommitted::Gossip},
    store::Table,
};

/// Blocks on top of a funding transaction, itself included, before its channel is announced (BOLT 7).
const ANNOUNCEMENT_DEPTH: u32 = 6;
/// Seconds for which a peer may be away before others are told not to use the channel.
const OFFLINE_SECONDS: u64 = 600;

/// Our channels as the gossip task knows them.
#[derive(Default)]
pub(super) struct OwnChannels {
    channels: HashMap<ChannelId, Own>,
}

struct Own {
    state: OwnChannelState,
    unusable_since: Option<Uptime>,
    /// Our signatures went out on the present connection.
    signed: bool,
    /// The peer's half of the announcement.
    remote: Option<AnnouncementSignatures>,
    /// The latest terms that were told, and when.
    sent: Option<(OwnUpdate, u32)>,
    /// The user wants nobody to use it.
    turned_off: bool,
    /// What the peer asks for handing on to us. It may come before the peer's alias, by which payers call the channel.
    remote_terms: Option<ChannelUpdate>,
}

impl OwnChannels {
    pub(super) fn channel(&mut self, services: &Services, state: OwnChannelState) -> Vec<GossipEffect> {
        let channel = state.channel;
        let now = services.gossip.uptime();
        let mut effects = Vec::new();
        match self.channels.get_mut(&channel) {
            Some(own) => {
                let names = |state: &OwnChannelState| (state.short_channel_id, state.remote_alias, state.is_on_chain);
                if names(&own.state) != names(&state) {
                    own.sent = None;
                }
                let moved = own.state.short_channel_id != state.short_channel_id;
                if moved || !state.is_on_chain {
                    // What was said of the old place is void, and is said anew of the next one.
                    own.signed = false;
                    if let Some(old) = own.state.short_channel_id {
                        effects.extend(services.gossip.intake_mut().moved_away(old));
                    }
                }
                own.unusable_since = (!state.is_usable).then(|| own.unusable_since.unwrap_or(now));
                own.state = state;
            }
            None => {
                let unusable_since = (!state.is_usable).then_some(now);
                let own = Own {
                    state,
                    unusable_since,
                    signed: false,
                    remote: None,
                    sent: None,
                    turned_off: false,
                    remote_terms: None,
                };
                self.channels.insert(channel, own);
            }
        }
        effects.extend(self.refresh(services, &channel));
        effects
    }

    /// Tells others not to use a channel, or to use it again.
    pub(super) fn turn_off(&mut self, services: &Services, channel: &ChannelId, off: bool) -> Vec<GossipEffect> {
        if let Some(own) = self.channels.get_mut(channel) {
            own.turned_off = off;
        }
        self.refresh(services, channel)
    }

    /// A channel is no more; with whom it was.
    pub(super) fn gone(&mut self, services: &Services, channel: &ChannelId) -> Option<PublicKey> {
        services.gossip.hints_mut().remove(channel);
        self.channels.remove(channel).map(|own| own.state.peer)
    }

    /// Whether a channel with this peer has its funding output on the chain: one that cost it something, or us.
    pub(super) fn has_channel_with(&self, peer: &PublicKey) -> bool {
        self.channels.values().any(|own| own.state.peer == *peer && own.state.is_on_chain)
    }

    /// A new connection: what the peer may have missed is told again.
    pub(super) fn connected(&mut self, services: &Services, peer: PublicKey) -> Vec<GossipEffect> {
        let mut ids = Vec::new();
        for (id, own) in &mut self.channels {
            if own.state.peer == peer {
                own.signed = false;
                if !own.is_public(services) {
                    own.sent = None;
                }
                ids.push(*id);
            }
        }
        ids.iter().flat_map(|id| self.refresh(services, id)).collect()
    }

    pub(super) fn refresh_all(&mut self, services: &Services) -> Vec<GossipEffect> {
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        ids.iter().flat_map(|id| self.refresh(services, id)).collect()
    }

    /// The graph has taken a channel, which may be ours.
    pub(super) fn announced(&mut self, services: &Services, id: ShortChannelId) -> Vec<GossipEffect> {
        let own = self.channels.values().find(|own| own.state.short_channel_id == Some(id));
        let channel = own.map(|own| own.state.channel);
        channel.map(|channel| self.refresh(services, &channel)).unwrap_or_default()
    }

    /// Says what is due about a channel.
    pub(super) fn refresh(&mut self, services: &Services, channel: &ChannelId) -> Vec<GossipEffect> {
        let Some(own) = self.channels.get_mut(channel) else { return Vec::new() };
        let mut effects = own.announce(services);
        effects.extend(own.update(services));
        own.keep_hint(services);
        effects
    }

    /// The peer's half of an announcement.
    pub(super) fn signatures(
        &mut self,
        services: &Services,
        from: &PublicKey,
        signatures: AnnouncementSignatures,
    ) -> Vec<GossipEffect> {
        let channel = signatures.channel_id;
        let Some(own) = self.channels.get_mut(&channel) else { return Vec::new() };
        if own.state.peer != *from || !own.state.announce {
            return Vec::new();
        }
        if own.is_public(services) && own.state.short_channel_id == Some(signatures.short_channel_id) {
            // It has lost the announcement, or ours was lost on the way: it needs our half.
            if !own.signed {
                own.send_signatures(services);
            }
            return Vec::new();
        }
        own.remote = Some(signatures);
        self.refresh(services, &channel)
    }

    /// Takes the terms that the peer of an unannounced channel of ours asks, for our invoices; `false` if the update is for
    /// everybody: about another channel, or about one whose announcement may be under way.
    pub(super) fn peer_update(&mut self, services: &Services, from: &PublicKey, update: &ChannelUpdate) -> bool {
        let id = Some(update.short_channel_id);
        let names = |own: &&mut Own| own.state.local_alias == id || own.state.short_channel_id == id;
        let Some(own) = self.channels.values_mut().filter(|own| own.state.peer == *from).find(names) else {
            return false;
        };
        if own.is_public(services) {
            return false;
        }
        if curve::verify(&update.signed_digest(), &update.signature, from) {
            own.remote_terms = Some(update.clone());
            own.keep_hint(services);
        }
        !own.state.is_public_name(update.short_channel_id)
    }

    /// The announcement of this node, if it is due.
    pub(super) fn node(&self, services: &Services) -> Vec<GossipEffect> {
        let clocks = services.clocks();
        let local = NodeId::from(services.node_id());
        let mut intake = services.gossip.intake_mut();
        let graph = intake.graph();
        let Some(known) = graph.find_node(&local).and_then(|index| graph.node(index)) else { return Vec::new() };
        let Announced { alias, color, addresses } = services.announced();
        let features = services.local.features.clone();
        let node = OwnNode { node_id: local, features, alias, rgb_color: color, addresses };
        let previous = known.info.as_ref().and_then(|info| previous_time(info.timestamp, &clocks));
        let announcement =
            node.sign(clocks.present(), previous, |digest| curve::sign(digest, &services.keys.node_secret()));
        let same = known.info.as_ref().is_some_and(|info| {
            info.alias == announcement.alias
                && info.features == announcement.features
                && info.addresses == announcement.addresses
                && info.rgb_color == announcement.rgb_color
                && !is_refresh_due(info.timestamp, &clocks)
        });
        if same {
            return Vec::new();
        }
        let message = Message::NodeAnnouncement(Box::new(announcement.clone()));
        let Ok(raw) = message.encode() else { return Vec::new() };
        intake.node_announcement(Box::new(announcement), raw, None, &clocks).unwrap_or_default()
    }
}

impl Own {
    /// For invoices: how payers reach us over this channel while the network does not know it. One that is closed is
    /// unknown to the network as well.
    fn keep_hint(&self, services: &Services) {
        let hint = self.hint().filter(|_| self.state.is_normal && self.state.is_funded && !self.is_public(services));
        let mut hints = services.gossip.hints_mut();
        match hint {
            Some(hint) => hints.insert(self.state.channel, hint),
            None => hints.remove(&self.state.channel),
        };
    }

    /// What the peer knows the channel by.
    fn private_name(&self) -> Option<ShortChannelId> {
        let OwnChannelState { remote_alias, short_channel_id, alias_only, .. } = self.state;
        remote_alias.or(short_channel_id.filter(|_| !alias_only))
    }

    fn hint(&self) -> Option<HintHop> {
        let terms = self.remote_terms.as_ref()?;
        Some(HintHop {
            node_id: self.state.peer,
            // The alias that the peer gave us is the one that it knows: payers put it into their onions for the peer.
            short_channel_id: self.private_name()?,
            fee_base_msat: terms.fee_base_msat,
            fee_proportional_millionths: terms.fee_proportional_millionths,
            cltv_expiry_delta: terms.cltv_expiry_delta,
        })
    }

    /// The channel under its public name, once it may be announced.
    fn to_announce(&self, services: &Services) -> Option<OwnChannel> {
        let state = &self.state;
        let short_channel_id =
            state.short_channel_id.filter(|_| state.announce && state.is_normal && state.is_on_chain)?;
        let deep =
            short_channel_id.block().0.saturating_add(ANNOUNCEMENT_DEPTH - 1) <= services.gossip.intake().height().0;
        deep.then(|| OwnChannel {
            chain_hash: services.chain_hash(),
            channel_id: state.channel,
            short_channel_id,
            local_node: services.node_id(),
            remote_node: state.peer,
            local_funding: state.local_funding,
            remote_funding: state.remote_funding,
            features: Features::empty(),
        })
    }

    /// Whether the network knows the channel.
    fn is_public(&self, services: &Services) -> bool {
        let known = |id| services.gossip.intake().graph().find_channel(id).is_some();
        self.state.announce && self.state.short_channel_id.is_some_and(known)
    }

    fn local_half(&self, services: &Services, channel: &OwnChannel) -> Option<AnnouncementSignatures> {
        let digest = channel.digest();
        let signer = services.signer(&self.state.keys_id)?;
        let node_signature = curve::sign(&digest, &services.keys.node_secret());
        Some(channel.signatures(node_signature, signer.sign_funding_input(&digest)))
    }

    fn send_signatures(&mut self, services: &Services) {
        let half = self.to_announce(services).and_then(|channel| self.local_half(services, &channel));
        if let Some(half) = half
            && services.peers.is_connected(&self.state.peer)
        {
            self.signed = self.send(services, &Message::AnnouncementSignatures(half));
        }
    }

    fn send(&self, services: &Services, message: &Message) -> bool {
        let raw = message.encode().ok().and_then(Gossip::encoded);
        raw.is_some_and(|raw| services.peers.to_peer(&self.state.peer, Command::Gossip(GossipBatch::own(raw))))
    }

    fn announce(&mut self, services: &Services) -> Vec<GossipEffect> {
        if !self.state.announce || self.is_public(services) {
            return Vec::new();
        }
        let Some(channel) = self.to_announce(services) else { return Vec::new() };
        // BOLT 7: not before channel_reestablish, after which the channel is usable.
        if !self.signed && self.state.is_usable {
            self.send_signatures(services);
        }
        // The peer may have seen a reorganisation before us, or not yet.
        let here = |remote: &&AnnouncementSignatures| remote.short_channel_id == channel.short_channel_id;
        let Some(remote) = self.remote.as_ref().filter(here) else { return Vec::new() };
        let Some(local) = self.local_half(services, &channel) else { return Vec::new() };
        match channel.announcement(&local, remote) {
            Ok(announcement) => {
                let message = Message::ChannelAnnouncement(Box::new(announcement.clone()));
                let Ok(raw) = message.encode() else { return Vec::new() };
                info!(channel = %channel.short_channel_id, "announcing a channel");
                let taken = services.gossip.intake_mut().channel_announcement(Box::new(announcement), raw, None);
                taken.unwrap_or_default()
            }
            Err(error) => {
                warn!(channel = %self.state.channel, %error, "the channel is not announced");
                self.remote = None;
                Vec::new()
            }
        }
    }

    /// Our terms, if others do not know them yet.
    fn update(&mut self, services: &Services) -> Vec<GossipEffect> {
        let Some((update, is_public)) = self.terms(services) else { return Vec::new() };
        let clocks = services.clocks();
        let mut previous =
            self.sent.filter(|(sent, _)| sent.short_channel_id == update.short_channel_id).map(|at| at.1);
        if is_public {
            let intake = services.gossip.intake();
            let known = intake.graph().channel_by_id(update.short_channel_id);
            let known = known.and_then(|channel| channel.policies.get(update.direction).as_ref());
            previous = known.map(|policy| policy.timestamp).or(previous);
            // From before a restart.
            let is_known = known.is_some_and(|known| {
                known.disabled == update.disabled
                    && known.cltv_expiry_delta == update.cltv_expiry_delta
                    && known.htlc_minimum_msat == update.htlc_minimum_msat
                    && known.htlc_maximum_msat == update.htlc_maximum_msat
                    && known.fee_base_msat == update.fee_base_msat
                    && known.fee_proportional_millionths == update.fee_proportional_millionths
            });
            if self.sent.is_none()
                && is_known
                && let Some(timestamp) = previous
            {
                let key = GossipKey::Update(update.short_channel_id, update.direction);
                if let Ok(Some(raw)) = services.store.table_record(Table::Gossip, &key.encode()) {
                    self.tell_switch(services, raw);
                    self.sent = Some((update, timestamp));
                }
            }
        }
        let is_sent = |(sent, at): &(OwnUpdate, u32)| *sent == update && !is_refresh_due(*at, &clocks);
        if self.sent.as_ref().is_some_and(is_sent) {
            return Vec::new();
        }
        if !is_public && !self.state.is_usable {
            // Told to the peer alone, which is not there.
            return Vec::new();
        }
        let previous = previous.and_then(|previous| previous_time(previous, &clocks));
        let signed =
            update.sign(clocks.present(), previous, |digest| curve::sign(digest, &services.keys.node_secret()));
        self.sent = Some((update, signed.timestamp));
        let message = Message::ChannelUpdate(signed.clone());
        let Ok(raw) = message.encode() else { return Vec::new() };
        self.tell_switch(services, raw.clone());
        if is_public {
            let mut intake = services.gossip.intake_mut();
            intake.channel_update(signed, raw, None, &clocks).unwrap_or_default()
        } else {
            self.send(services, &message);
            Vec::new()
        }
    }

    fn tell_switch(&self, services: &Services, update: Vec<u8>) {
        // It answers with nothing.
        let event = SwitchEvent::Announced { channel: self.state.channel, update };
        let _ = services.tell_switch(event);
    }

    fn terms(&self, services: &Services) -> Option<(OwnUpdate, bool)> {
        let state = &self.state;
        let is_public = self.is_public(services);
        if !state.is_normal && !is_public {
            return None;
        }
        let name = if is_public { state.short_channel_id } else { self.private_name() };
        let policy = services.forward_policy(&state.channel)?;
        let long_away = |since: Uptime| services.gossip.uptime().is_after(since, OFFLINE_SECONDS);
        let is_first = NodeId::from(services.node_id()) < NodeId::from(state.peer);
        let update = OwnUpdate {
            chain_hash: services.chain_hash(),
            short_channel_id: name?,
            direction: if is_first { Direction::FromNode1 } else { Direction::FromNode2 },
            announced: is_public,
            disabled: !policy.enabled
                || !state.is_normal
                || self.turned_off
                || self.unusable_since.is_some_and(long_away),
            cltv_expiry_delta: policy.cltv_expiry_delta,
            htlc_minimum_msat: policy.htlc_minimum.max(state.htlc_minimum),
            htlc_maximum_msat: policy.htlc_maximum.unwrap_or(state.capacity).min(state.htlc_maximum),
            fee_base_msat: u32::try_from(policy.base_fee.0).unwrap_or(u32::MAX),
            fee_proportional_millionths: policy.fee_ppm,
        };
        Some((update, is_public))
    }
}
