//! The gossip task: one turn takes what waits, checks it, writes what passed and sends what is due.

use std::{sync::Arc, time::Duration};

use bitcoin::Script;
use leyden_channels::{
    gossip::{
        FundingAnswer, GossipEffect, GossipKey, GossipSync, Ignored, Received, Serving, SignatureCheck, SyncEffect,
        store::funding_script_of,
    },
    types::{Height, NodeId, ShortChannelId, Uptime},
    wire::Message,
};
use leyden_node::NodeError;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{debug, error, info};

use super::{GossipEvent, GraphNews, outgoing::PeerQueues, own::OwnChannels};
use crate::{
    driver::{background::Background, peer::Command, services::Services},
    store::Table,
    words::Line,
};

/// Events of our own of one turn.
const TURN: usize = 512;
/// How soon it is looked again whether a peer that had no room, or no checks left, has some.
const PAUSE: Duration = Duration::from_millis(50);
/// Funding outputs of known channels that are looked at again in a second.
const LOOKS: usize = 500;
/// Seconds between looks for channels whose ends are silent, and for lessons that have faded.
const PRUNE_SECONDS: u64 = 3_600;
/// Blocks that are read one by one; after a longer absence every funding output is looked at.
const MAX_BLOCKS: u32 = 144;

struct Task {
    services: Arc<Services>,
    background: Background,
    sync: GossipSync,
    serving: Serving,
    queues: PeerQueues,
    own: OwnChannels,
    /// Channels whose funding output is to be looked at again.
    to_look_at: Vec<ShortChannelId>,
    /// Ids under which a funding output was known that has been found at another place.
    moved: Vec<ShortChannelId>,
    tip: (Height, Option<bitcoin::BlockHash>),
    pruned_at: Uptime,
}

/// Runs until the daemon stops.
pub(crate) async fn run(services: Arc<Services>, mut events: mpsc::UnboundedReceiver<GossipEvent>, flush_seconds: u64) {
    let background = match Background::start("gossip-checks") {
        Ok(background) => background,
        Err(error) => return error!(%error, "the thread that checks gossip has failed: gossip is ignored"),
    };
    let mut task = Task::new(services, background, flush_seconds);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Vec::new();
    loop {
        let more = !task.services.gossip.inbox_mut().is_empty() || !task.serving.waiting().is_empty();
        let services = Arc::clone(&task.services);
        tokio::select! {
            biased;
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
            () = services.gossip.news.notified() => task.turn().await,
            () = sleep(PAUSE), if more => task.turn().await,
        }
        task.queues.serve(&services, &mut task.serving).await;
        task.note();
    }
}

impl Task {
    fn new(services: Arc<Services>, background: Background, flush_seconds: u64) -> Self {
        let to_look_at = services.gossip.intake().graph().channels().map(|channel| channel.short_channel_id).collect();
        let height = services.tip();
        Self {
            sync: GossipSync::new(services.chain_hash()),
            serving: Serving::new(services.chain_hash(), services.gossip.uptime()).flushing_every(flush_seconds),
            queues: PeerQueues::default(),
            own: OwnChannels::default(),
            to_look_at,
            moved: Vec::new(),
            tip: (height, services.node.block_hash(height.0)),
            pruned_at: services.gossip.uptime(),
            services,
            background,
        }
    }

    async fn event(&mut self, event: GossipEvent) -> Vec<GossipEffect> {
        match event {
            GossipEvent::Connected { peer, features, address, unsent } => {
                let (id, clocks) = (peer.into(), self.services.clocks());
                self.queues.connected(id, address, unsent);
                self.serving.connected(id, clocks.uptime);
                let effects = self.sync.connected(id, &features, &self.services.gossip.intake(), &clocks);
                self.ask(effects);
                self.own.connected(&self.services, peer)
            }
            GossipEvent::Disconnected(peer) => {
                let id = peer.into();
                self.queues.disconnected(&id);
                self.serving.disconnected(&id);
                self.sync.disconnected(&id);
                self.services.gossip.intake_mut().disconnected(id);
                Vec::new()
            }
            GossipEvent::Channel(state) => {
                let peer = state.peer;
                let effects = self.own.channel(&self.services, *state);
                self.services.gossip.note_channel_peer(&peer, self.own.has_channel_with(&peer));
                effects
            }
            GossipEvent::ChannelGone(channel) => {
                if let Some(peer) = self.own.gone(&self.services, &channel) {
                    self.services.gossip.note_channel_peer(&peer, self.own.has_channel_with(&peer));
                }
                Vec::new()
            }
            GossipEvent::Terms(channel) => self.own.refresh(&self.services, &channel),
            GossipEvent::TurnedOff { channel, off } => self.own.turn_off(&self.services, &channel, off),
            GossipEvent::NewTip(height) => self.new_tip(height).await,
        }
    }

    /// What is next in the peers' queues.
    async fn turn(&mut self) {
        let taken = {
            let mut inbox = self.services.gossip.inbox_mut();
            let taken = inbox.turn(self.services.gossip.uptime());
            if !taken.is_empty() && !inbox.is_empty() {
                self.services.gossip.news.notify_one();
            }
            taken
        };
        let mut effects = Vec::new();
        for (peer, received) in taken {
            if matches!(received.message, Message::ReplyShortChannelIdsEnd(_)) {
                // What an answer has brought is known once it has been checked.
                self.settle(std::mem::take(&mut effects)).await;
            }
            effects.extend(self.message(peer, received));
        }
        self.settle(effects).await;
    }

    fn message(&mut self, peer: NodeId, Received { message, raw }: Received) -> Vec<GossipEffect> {
        let services = Arc::clone(&self.services);
        let clocks = services.clocks();
        let Ok(key) = peer.public_key() else { return Vec::new() };
        let from = Some(peer);
        let answers = match message {
            Message::ChannelAnnouncement(announcement) => {
                return taken(peer, services.gossip.intake_mut().channel_announcement(announcement, raw, from));
            }
            Message::NodeAnnouncement(announcement) => {
                return taken(peer, services.gossip.intake_mut().node_announcement(announcement, raw, from, &clocks));
            }
            Message::ChannelUpdate(update) if self.own.peer_update(&services, &key, &update) => return Vec::new(),
            Message::ChannelUpdate(update) => {
                return taken(peer, services.gossip.intake_mut().channel_update(update, raw, from, &clocks));
            }
            Message::AnnouncementSignatures(signatures) => {
                return self.own.signatures(&services, &key, signatures);
            }
            Message::QueryShortChannelIds(query) => self.serving.query_short_channel_ids(peer, &query),
            Message::QueryChannelRange(query) => self.serving.query_channel_range(peer, &query),
            Message::ReplyChannelRange(reply) => {
                self.sync.reply_channel_range(peer, &reply, &services.gossip.intake(), &clocks)
            }
            Message::ReplyShortChannelIdsEnd(_) => {
                self.sync.reply_short_channel_ids_end(peer, &services.gossip.intake(), &clocks)
            }
            Message::GossipTimestampFilter(filter) => {
                self.serving.gossip_timestamp_filter(peer, filter);
                return Vec::new();
            }
            // Not gossip.
            _ => return Vec::new(),
        };
        self.ask(answers);
        Vec::new()
    }

    /// Sends questions, and what else is due at once. The inbox has to have room for the answers by then.
    fn ask(&self, effects: Vec<SyncEffect>) {
        self.note();
        self.queues.send_all(&self.services, effects);
    }

    /// What others look at.
    fn note(&self) {
        let gossip = &self.services.gossip;
        gossip.note_caught_up(self.sync.has_caught_up());
        gossip.inbox_mut().set_asked(self.sync.asked());
        gossip.note_serving_refusals(*self.serving.refusals());
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
                    GossipEffect::CheckFunding { short_channel_id, from, script_pubkey } => {
                        fundings.push((short_channel_id, from, script_pubkey));
                    }
                    GossipEffect::Put { key, value } => {
                        self.services.gossip.tell_change(GraphNews::kept(&key));
                        writes.push((key.encode(), Some(value)));
                    }
                    GossipEffect::Delete { key } => {
                        self.services.gossip.tell_change(GraphNews::forgotten(&key));
                        if let GossipKey::Channel(id) = key {
                            self.services.gossip.forget_output(id);
                        }
                        writes.push((key.encode(), None));
                    }
                    GossipEffect::Relay { key, timestamp, from } => self.serving.relay(key, timestamp, from),
                    GossipEffect::Warn { peer, text } => self.queues.warn(&self.services, peer, text),
                    GossipEffect::HangUp { peer } => self.hang_up(peer),
                    GossipEffect::Mute { peer } => {
                        info!(%peer, "a peer with a channel forges gossip: its gossip is ignored for a while");
                        self.services.gossip.inbox_mut().mute(peer, self.services.gossip.uptime());
                    }
                }
            }
            if !checks.is_empty() {
                // Curve operations, of strangers' gossip mostly: payments and calls come first.
                let run = move || checks.into_iter().map(SignatureCheck::run).collect::<Vec<_>>();
                let outcomes = self.background.run(run).await.unwrap_or_default();
                let clocks = self.services.clocks();
                let mut intake = self.services.gossip.intake_mut();
                effects.extend(outcomes.into_iter().flat_map(|outcome| intake.verified(outcome, &clocks)));
            }
            for (id, from, script) in fundings {
                let answer = self.funding(id, &script).await;
                let clocks = self.services.clocks();
                effects.extend(self.services.gossip.intake_mut().funding_checked(id, from, answer, &clocks));
                // Terms of a channel of ours may have waited for this.
                effects.extend(self.own.announced(&self.services, id));
            }
            effects.extend(self.forget_moved());
        }
        let outputs = self.services.gossip.unsaved_outputs();
        if writes.is_empty() && outputs.is_empty() {
            return;
        }
        let store = self.services.store.clone();
        let write = move || {
            store.put_table(Table::Gossip, writes)?;
            store.put_table(Table::Fundings, outputs)
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            error!(%error, "gossip could not be stored");
        }
    }

    /// A forger is not let in again for a while.
    fn hang_up(&self, peer: NodeId) {
        // Nothing that it has sent by now is worth another signature check.
        self.services.gossip.inbox_mut().drop_messages(&peer);
        // What was taken out of the queue together says the same again.
        if self.services.strangers_log.line(&format!("{peer} forges gossip")) != Line::Skip {
            info!(%peer, "a peer forges gossip: disconnecting");
        }
        self.services.gossip.refuse(peer, self.queues.address(&peer));
        if let Ok(peer) = peer.public_key() {
            let (answer, _) = oneshot::channel();
            self.services.peers.to_peer(&peer, Command::HangUp(answer));
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
            // Of a pruned block only what is unspent is known.
            Err(NodeError::Pruned { .. }) => FundingAnswer::Spent,
            // Nor can anybody else's channel be checked: none is taken.
            Err(NodeError::LightNode(_)) => FundingAnswer::Spent,
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
        let store = services.store.clone();
        let read = move || {
            let record = |id| store.table_record(Table::Gossip, &GossipKey::Channel(id).encode()).ok().flatten();
            ids.into_iter().filter_map(|id| Some((id, record(id)?))).collect::<Vec<_>>()
        };
        let mut effects = Vec::new();
        for (id, stored) in tokio::task::spawn_blocking(read).await.unwrap_or_default() {
            let found = services.node.output_at(id.block().0, id.index(), u32::from(id.output())).await;
            let script = funding_script_of(&stored);
            let unspent = match found {
                // After a reorganisation the place may be another transaction's.
                Ok(Some(found)) if Some(&found.output.script_pubkey) == script.as_ref() => {
                    self.moved.extend(self.services.gossip.note_output(found.outpoint, id));
                    found.unspent
                }
                Ok(Some(_) | None) | Err(NodeError::Pruned { .. }) => false,
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
        let clocks = self.services.clocks();
        let mut effects = self.look().await;
        effects.extend(self.forget_moved());
        if clocks.uptime.is_after(self.pruned_at, PRUNE_SECONDS) {
            self.pruned_at = clocks.uptime;
            effects.extend(self.services.gossip.intake_mut().prune(&clocks));
            self.services.prune_learnt();
        }
        effects.extend(self.own.refresh_all(&self.services));
        effects.extend(self.own.node(&self.services));
        self.settle(effects).await;
        let questions = self.sync.tick(&self.services.gossip.intake(), &clocks);
        self.ask(questions);
        self.serving.tick(clocks.uptime);
        self.services.save_learnt();
    }
}

fn taken(peer: NodeId, taken: Result<Vec<GossipEffect>, Ignored>) -> Vec<GossipEffect> {
    taken.unwrap_or_else(|reason| {
        debug!(%peer, %reason, "gossip is not taken");
        Vec::new()
    })
}
