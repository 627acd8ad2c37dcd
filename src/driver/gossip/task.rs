//! The gossip task: one turn takes what waits, checks it, writes what passed and sends what is due.

use std::{sync::Arc, time::Duration};

use bitcoin::Script;
use leyden_channels::{
    gossip::{
        FundingAnswer, GossipEffect, GossipKey, GossipSync, SignatureCheck, SyncEffect,
        store::{funding_script_of, stored_message},
    },
    types::{Height, NodeId, ShortChannelId},
    wire::{Message, Warning},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, info};

use super::{GossipEvent, own::OwnChannels};
use crate::{
    driver::{peer::Command, services::Services},
    store::Table,
};

/// Messages of one turn.
const TURN: usize = 512;
/// Stored messages of the backlog that a peer is sent in a second.
const BACKLOG: usize = 1_000;
/// Funding outputs of known channels that are looked at again in a second.
const LOOKS: usize = 500;
/// Seconds between looks for channels whose ends are silent, and for lessons that have faded.
const PRUNE_SECONDS: u64 = 3_600;
/// Blocks that are read one by one; after a longer absence every funding output is looked at.
const MAX_BLOCKS: u32 = 144;

struct Task {
    services: Arc<Services>,
    sync: GossipSync,
    own: OwnChannels,
    /// Channels whose funding output is to be looked at again.
    to_look_at: Vec<ShortChannelId>,
    /// Ids under which a funding output was known that has been found at another place.
    moved: Vec<ShortChannelId>,
    tip: (Height, Option<bitcoin::BlockHash>),
    pruned_at: u64,
}

/// Runs until the daemon stops.
pub async fn run(services: Arc<Services>, mut events: mpsc::UnboundedReceiver<GossipEvent>, flush_seconds: u64) {
    let mut task = Task::new(services, flush_seconds);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            count = events.recv_many(&mut waiting, TURN) => {
                if count == 0 {
                    return;
                }
                let mut effects = Vec::new();
                for event in waiting.drain(..) {
                    effects.extend(task.event(event).await);
                }
                task.settle(effects).await;
            }
            _ = ticks.tick() => task.tick().await,
        }
    }
}

impl Task {
    fn new(services: Arc<Services>, flush_seconds: u64) -> Self {
        let to_look_at = services.gossip.intake().graph().channels().map(|channel| channel.short_channel_id).collect();
        let height = services.tip();
        Self {
            sync: GossipSync::new(services.chain_hash(), services.now()).flushing_every(flush_seconds),
            own: OwnChannels::default(),
            to_look_at,
            moved: Vec::new(),
            tip: (height, services.node.block_hash(height.0)),
            pruned_at: services.now().0,
            services,
        }
    }

    async fn event(&mut self, event: GossipEvent) -> Vec<GossipEffect> {
        match event {
            GossipEvent::Connected { peer, features } => {
                let effects = self.sync.connected(peer.into(), &features, self.services.now());
                self.send_all(effects);
                self.own.connected(&self.services, peer)
            }
            GossipEvent::Disconnected(peer) => {
                self.sync.disconnected(&peer.into());
                Vec::new()
            }
            GossipEvent::Message { from, message } => {
                self.services.gossip.taken();
                self.message(from.into(), from, message)
            }
            GossipEvent::Channel(state) => self.own.channel(&self.services, *state),
            GossipEvent::ChannelGone(channel) => {
                self.own.gone(&self.services, &channel);
                Vec::new()
            }
            GossipEvent::Terms(channel) => self.own.refresh(&self.services, &channel),
            GossipEvent::NewTip(height) => self.new_tip(height).await,
        }
    }

    fn message(&mut self, peer: NodeId, key: secp256k1::PublicKey, message: Message) -> Vec<GossipEffect> {
        let services = Arc::clone(&self.services);
        let now = services.now();
        let Ok(raw) = message.encode() else { return Vec::new() };
        let taken = match message {
            Message::ChannelAnnouncement(announcement) => {
                services.gossip.intake_mut().channel_announcement(announcement, raw, Some(peer))
            }
            Message::NodeAnnouncement(announcement) => {
                services.gossip.intake_mut().node_announcement(announcement, raw, Some(peer))
            }
            Message::ChannelUpdate(update) if self.own.peer_update(&services, &key, &update) => return Vec::new(),
            Message::ChannelUpdate(update) => services.gossip.intake_mut().channel_update(update, raw, Some(peer), now),
            Message::AnnouncementSignatures(signatures) => {
                return self.own.signatures(&services, &key, signatures);
            }
            Message::QueryShortChannelIds(query) => {
                let effects = self.sync.query_short_channel_ids(peer, &query, services.gossip.intake().graph());
                self.send_all(effects);
                return Vec::new();
            }
            Message::QueryChannelRange(query) => {
                let effects = self.sync.query_channel_range(peer, &query, services.gossip.intake().graph());
                self.send_all(effects);
                return Vec::new();
            }
            Message::ReplyChannelRange(reply) => {
                let effects = self.sync.reply_channel_range(peer, &reply, &services.gossip.intake(), now);
                self.send_all(effects);
                return Vec::new();
            }
            Message::ReplyShortChannelIdsEnd(_) => {
                let effects = self.sync.reply_short_channel_ids_end(peer, now);
                self.send_all(effects);
                return Vec::new();
            }
            Message::GossipTimestampFilter(filter) => {
                self.sync.gossip_timestamp_filter(peer, filter);
                return Vec::new();
            }
            // Not gossip.
            _ => return Vec::new(),
        };
        taken.unwrap_or_else(|reason| {
            debug!(%peer, %reason, "gossip is not taken");
            Vec::new()
        })
    }

    /// Does what the intake asks for until it asks for nothing more, then writes what is to be kept.
    async fn settle(&mut self, mut effects: Vec<GossipEffect>) {
        let mut writes = Vec::new();
        while !effects.is_empty() {
            let mut checks = Vec::new();
            let mut fundings = Vec::new();
            for effect in effects.drain(..) {
                match effect {
                    GossipEffect::Verify(check) => checks.push(check),
                    GossipEffect::CheckFunding { short_channel_id, script_pubkey } => {
                        fundings.push((short_channel_id, script_pubkey));
                    }
                    GossipEffect::Put { key, value } => writes.push((key.encode(), Some(value))),
                    GossipEffect::Delete { key } => writes.push((key.encode(), None)),
                    GossipEffect::Relay { key, timestamp, from } => self.sync.relay(key, timestamp, from),
                    GossipEffect::Warn { peer, text } => self.warn(peer, text),
                }
            }
            if !checks.is_empty() {
                // Curve operations: not on a thread that others wait for.
                let run = move || checks.into_iter().map(SignatureCheck::run).collect::<Vec<_>>();
                let outcomes = tokio::task::spawn_blocking(run).await.unwrap_or_default();
                let mut intake = self.services.gossip.intake_mut();
                effects.extend(outcomes.into_iter().flat_map(|outcome| intake.verified(outcome)));
            }
            for (id, script) in fundings {
                let answer = self.funding(id, &script).await;
                let now = self.services.now();
                effects.extend(self.services.gossip.intake_mut().funding_checked(id, answer, now));
                // Terms of a channel of ours may have waited for this.
                effects.extend(self.own.announced(&self.services, id));
            }
            effects.extend(self.forget_moved());
        }
        if !writes.is_empty()
            && let Err(error) = self.services.store.put_table(Table::Gossip, writes)
        {
            error!(%error, "gossip was not kept");
        }
    }

    async fn funding(&mut self, id: ShortChannelId, script: &Script) -> FundingAnswer {
        match self.services.node.output_at(id.block().0, id.index(), u32::from(id.output())).await {
            Ok(Some(found)) if found.output.script_pubkey.as_script() != script => FundingAnswer::Mismatch,
            Ok(Some(found)) if found.unspent => {
                self.moved.extend(self.services.gossip.note_output(found.outpoint, id));
                FundingAnswer::Unspent(found.output.value)
            }
            Ok(Some(_)) => FundingAnswer::Spent,
            Ok(None) => FundingAnswer::Mismatch,
            Err(error) => {
                error!(%error, "a funding output cannot be looked up");
                FundingAnswer::Spent
            }
        }
    }

    // The chain.

    async fn new_tip(&mut self, height: Height) -> Vec<GossipEffect> {
        let services = Arc::clone(&self.services);
        let (last, hash) = self.tip;
        self.tip = (height, services.node.block_hash(height.0));
        let follows = hash.is_some() && services.node.block_hash(last.0) == hash && height >= last;
        if !follows || height.0 - last.0 > MAX_BLOCKS {
            let intake = services.gossip.intake();
            self.to_look_at = intake.graph().channels().map(|channel| channel.short_channel_id).collect();
            // The latest blocks are those that a reorganisation has changed.
            self.to_look_at.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        } else {
            for at in last.0.saturating_add(1)..=height.0 {
                let Some(hash) = services.node.block_hash(at) else { continue };
                let Ok(Some(block)) = services.node.block(hash).await else { continue };
                let inputs = block.txdata.iter().flat_map(|transaction| &transaction.input);
                let fundings = services.gossip.fundings();
                let spent = inputs.filter_map(|input| fundings.ids.get(&input.previous_output));
                self.to_look_at.extend(spent);
            }
        }
        let effects = {
            let mut intake = services.gossip.intake_mut();
            if height < last {
                intake.block_disconnected(height);
            }
            intake.block_connected(height)
        };
        effects.into_iter().chain(self.own.refresh_all(&services)).collect()
    }

    /// An output is at one place: what else was known of it, by an old place, is a ghost.
    fn forget_moved(&mut self) -> Vec<GossipEffect> {
        let moved = std::mem::take(&mut self.moved);
        let mut intake = self.services.gossip.intake_mut();
        moved.into_iter().flat_map(|id| intake.moved_away(id)).collect()
    }

    /// Whether funding outputs of known channels are spent or reorganised out, or unspent again.
    async fn look(&mut self) -> Vec<GossipEffect> {
        let rest = self.to_look_at.split_off(self.to_look_at.len().min(LOOKS));
        let ids = std::mem::replace(&mut self.to_look_at, rest);
        let services = Arc::clone(&self.services);
        let mut effects = Vec::new();
        for id in ids {
            let found = services.node.output_at(id.block().0, id.index(), u32::from(id.output())).await;
            let Ok(Some(stored)) = services.store.table_record(Table::Gossip, &GossipKey::Channel(id).encode()) else {
                continue;
            };
            let script = funding_script_of(&stored);
            let unspent = match found {
                // After a reorganisation the place may be another transaction's.
                Ok(Some(found)) if Some(&found.output.script_pubkey) == script.as_ref() => {
                    self.moved.extend(self.services.gossip.note_output(found.outpoint, id));
                    found.unspent
                }
                Ok(Some(_) | None) => false,
                Err(_) => continue,
            };
            let known = services.gossip.intake().graph().channel_by_id(id).map(|channel| channel.spent_at.is_some());
            if known == Some(unspent) {
                let spent_at = (!unspent).then_some(self.tip.0);
                info!(channel = %id, unspent, "the funding output of a channel has changed");
                effects.extend(services.gossip.intake_mut().funding_spent(id, spent_at, &stored));
            }
        }
        effects
    }

    async fn tick(&mut self) {
        let now = self.services.now();
        let mut effects = self.look().await;
        effects.extend(self.forget_moved());
        if self.pruned_at.saturating_add(PRUNE_SECONDS) <= now.0 {
            self.pruned_at = now.0;
            effects.extend(self.services.gossip.intake_mut().prune(now));
            self.services.prune_learnt();
        }
        effects.extend(self.own.refresh_all(&self.services));
        effects.extend(self.own.node(&self.services));
        self.settle(effects).await;
        let mut due = self.sync.tick(now);
        for peer in self.sync.peers() {
            let keys = self.sync.backlog(peer, self.services.gossip.intake().graph(), BACKLOG);
            if !keys.is_empty() {
                due.push(SyncEffect::SendStored { peer, keys });
            }
        }
        self.send_all(due);
        self.services.save_learnt();
    }

    // To the peers.

    fn send_all(&self, effects: Vec<SyncEffect>) {
        self.services.gossip.note_caught_up(self.sync.has_caught_up());
        for effect in effects {
            match effect {
                SyncEffect::Send { peer, message } => self.send(&peer, &message),
                SyncEffect::SendStored { peer, keys } => {
                    let store = &self.services.store;
                    let stored = |key: &GossipKey| {
                        let value = store.table_record(Table::Gossip, &key.encode()).ok().flatten()?;
                        stored_message(key, &value).ok().map(<[u8]>::to_vec)
                    };
                    self.send_raw(&peer, keys.iter().filter_map(stored).collect());
                }
                SyncEffect::Warn { peer, text } => self.warn(peer, text.to_owned()),
            }
        }
    }

    fn send(&self, peer: &NodeId, message: &Message) {
        match message.encode() {
            Ok(raw) => self.send_raw(peer, vec![raw]),
            Err(error) => error!(%error, "gossip cannot be sent"),
        }
    }

    fn send_raw(&self, peer: &NodeId, messages: Vec<Vec<u8>>) {
        if let Ok(peer) = peer.public_key() {
            self.services.peers.to_peer(&peer, Command::Gossip(messages));
        }
    }

    fn warn(&self, peer: NodeId, text: String) {
        debug!(%peer, %text, "a peer's gossip is wrong");
        self.send(&peer, &Warning::new(leyden_channels::types::ChannelId::ALL, text).into());
    }
}
