//! One task for each peer: it owns the peer's channels and the connection to it.
//!
//! ```text
//!   messages of the peer ─┐                                                   ┌─► socket
//!   commands of the node ─┼─► drain what waits ─► handle ─► flush ─► commit ──┼─► other tasks, RPC
//!   news of the chain    ─┘         ▲                                         └─► settlements, payments …
//!                                   └──────────── what effects lead to ◄──────────────┘
//! ```
//!
//! A turn drains everything that waits, so that the updates of a busy channel share one `commitment_signed` and one
//! write. What gathers while a write is on its way to the disk makes up the next turn.

mod broadcast;
mod command;
mod connection;
mod custom;
mod effects;
mod log;
mod opening;
mod reserve;
mod room;
mod storage;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use bitcoin::{OutPoint, Txid};
pub(crate) use broadcast::RefusedTransaction;
use broadcast::Unsent;
pub(crate) use command::{
    ChannelState, CloseProgress, Command, ConnectionStats, FundingSource, OpenChoices, OpenPlan, OpenProgress,
    PeerState, Presence,
};
use connection::{Connected, receive};
use leyden_channels::{
    channel::{
        AddHtlc, Backing, CannotAdd, Channel, ClosingDelay, Effect, Event, FundingSpend, Outbox, SpendKind, Summary,
    },
    routing::LocalChannel,
    switch::SwitchEvent,
    types::{ChannelId, Height, ShortChannelId, Side},
    wire::{ErrorMessage, Message, OpenChannel},
};
use log::PeerLog;
use room::WaitingForRoom;
use secp256k1::PublicKey;
use storage::StoredForPeer;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tracing::{debug, error};

use super::{
    committer::{ConnectionId, NodeEffect, PendingEffects, Stopped},
    events::OwnHtlcNews,
    gossip::{GossipEvent, OwnChannelState},
    services::Services,
    strangers::PeerStanding,
    towers::TowerChannel,
};
use crate::limits::STRANGERS_TURN;

/// How often we ask whether the peer is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a peer may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// How long a signature is put off for every HTLC that it would repeat; from when on it is worth it, and at most.
const REST_PER_HTLC: Duration = Duration::from_micros(400);
const SHORTEST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_millis(20);
/// How long a signature that only a fee wants waits for a peer that may negotiate without it ([`ClosingDelay`]): Core
/// Lightning starts another process before it does.
const LATE_SIGNATURE: Duration = Duration::from_secs(3);
/// How long such a signature is waited for. The peer may rest too, and the line be slow.
const MISSING_SIGNATURE: Duration = Duration::from_secs(10);
/// Events of one kind that one turn takes at most.
const TURN: usize = 512;
pub(in crate::driver) struct Slot {
    pub(super) channel: Channel,
    /// Something was handled since the last flush.
    dirty: bool,
    /// A revocation has made HTLCs final, and what becomes of them is about to be decided.
    awaits_decisions: bool,
    /// Since when a flush would sign.
    signs_since: Option<Instant>,
    waiting_for_room: WaitingForRoom,
    /// A commitment has moved on: what the next ones need can be made while the peer is waited for.
    unprepared: bool,
    /// A bug of ours was met: until a restart this channel hears of the chain alone, as the store has it.
    pub(super) stopped: bool,
    /// And of nothing at all: it has not been read from the store again, or has met a bug once more.
    deaf: bool,
    opening: Option<mpsc::UnboundedSender<OpenProgress>>,
    closing: Vec<mpsc::UnboundedSender<CloseProgress>>,
    /// The user wants to close it together with the peer.
    pub(super) wish_to_close: bool,
    /// The user wants the closing transaction to pay more, and waits for news of that.
    fee_bump_wanted: bool,
    /// Claims that the mempool has refused, and why.
    pub(super) refused: BTreeMap<Txid, String>,
    /// Until a channel that we open is established.
    choices: Option<OpenChoices>,
}

impl Slot {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            dirty: false,
            awaits_decisions: false,
            signs_since: None,
            waiting_for_room: WaitingForRoom::new(),
            unprepared: false,
            stopped: false,
            deaf: false,
            opening: None,
            closing: Vec::new(),
            wish_to_close: false,
            fee_bump_wanted: false,
            refused: BTreeMap::new(),
            choices: None,
        }
    }

    /// Until when a signature is put off. Each repeats those of all HTLCs that stay in the peer's commitment, so while many
    /// are under way it waits a little for those to end, and for others to gather. Most end that soon; where they are held
    /// it costs each update of the channel [`LONGEST_REST`].
    fn rests_until(&self) -> Option<Instant> {
        let closing = self.channel.closing_delay().map(|rest| match rest {
            ClosingDelay::Signature => LATE_SIGNATURE,
            ClosingDelay::Negotiation => MISSING_SIGNATURE,
        });
        if let Some(rest) = closing {
            return self.signs_since.map(|since| since + rest);
        }
        let repeated = u32::try_from(self.channel.htlcs_to_repeat()).ok()?;
        let rest = (REST_PER_HTLC * repeated).min(LONGEST_REST);
        self.signs_since.filter(|_| rest >= SHORTEST_REST).map(|since| since + rest)
    }

    pub(super) fn tell_opening(&self, news: OpenProgress) {
        if let Some(progress) = &self.opening {
            // Whoever asked may have gone.
            let _ = progress.send(news);
        }
    }

    pub(super) fn tell_closing(&self, news: &CloseProgress) {
        for progress in &self.closing {
            let _ = progress.send(news.clone());
        }
    }
}

/// Never, if there is no moment to wait for.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

const NO_MORE_LINES: &str = "no more of it is logged for a minute";

/// The task's own things.
pub(crate) struct Peer {
    pub(super) node_id: PublicKey,
    pub(super) services: Arc<Services>,
    /// Our own mailbox, for watches.
    pub(super) mailbox: mpsc::UnboundedSender<Command>,
    pub(super) slots: HashMap<ChannelId, Slot>,
    /// Channels with outputs that were never looked at.
    pub(super) unseen: HashSet<ChannelId>,
    /// Channels that have met a bug of ours, to be read from the store once nothing of them is on its way there.
    to_read_again: Vec<ChannelId>,
    /// Channels that the peer wants to open, about which programs are asked.
    asked: HashMap<ChannelId, OpenChannel>,
    /// Ids that openings had before they got their permanent one.
    renamed: HashMap<ChannelId, ChannelId>,
    connection: Option<Connected>,
    connections: u64,
    /// Since when the peer is waited for, and for how long connections with it that are over have lasted.
    begun: Instant,
    was_online: Duration,
    standing: PeerStanding,
    /// For lines of the log that the peer causes.
    log: PeerLog,
    /// What the peer wants us to keep.
    stored_for_peer: StoredForPeer,
    /// Transactions that the mempool has refused.
    unsent: BTreeMap<Txid, Unsent>,
    /// They are due again.
    sends_again: bool,
    batch: Vec<Outbox<NodeEffect>>,
    /// What cores that all tasks share have handed over for us.
    pub(super) underway: Vec<PendingEffects>,
}

impl Peer {
    pub(crate) fn new(node_id: PublicKey, services: Arc<Services>, mailbox: mpsc::UnboundedSender<Command>) -> Self {
        let standing = PeerStanding::new(&services.strangers_time);
        let log = PeerLog::new(&services.strangers_log, &standing);
        Self {
            node_id,
            services,
            mailbox,
            slots: HashMap::new(),
            unseen: HashSet::new(),
            to_read_again: Vec::new(),
            asked: HashMap::new(),
            renamed: HashMap::new(),
            connection: None,
            connections: 0,
            begun: Instant::now(),
            was_online: Duration::ZERO,
            standing,
            log,
            stored_for_peer: StoredForPeer::default(),
            unsent: BTreeMap::new(),
            sends_again: false,
            batch: Vec::new(),
            underway: Vec::new(),
        }
    }

    /// A channel that was loaded from the store, before [`Self::run`].
    pub(crate) fn restore(&mut self, channel: Channel) {
        let id = channel.id();
        self.set_coins_aside(&channel);
        self.slots.insert(id, Slot::new(channel));
        self.keep_reserve(id);
    }

    pub(crate) fn standing(&self) -> &PeerStanding {
        &self.standing
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            let state = self.slots.get(&id).and_then(|slot| OwnChannelState::of(&slot.channel));
            if let Some(state) = state {
                self.services.gossip.tell(GossipEvent::Channel(Box::new(state)));
            }
            self.event(id, Event::Restarted);
        }
        self.keep_closes();
        if self.finish_turn().await.is_err() {
            return;
        }
        let mut ticks = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backups = self.services.backups.changes();
        backups.mark_unchanged();
        let mut some_commands = Vec::new();
        let mut some_messages = Vec::new();
        loop {
            let turn = if self.standing.is_stranger() { STRANGERS_TURN } else { TURN };
            let next_deadline = self.next_deadline();
            tokio::select! {
                count = commands.recv_many(&mut some_commands, TURN) => {
                    if count == 0 {
                        return;
                    }
                }
                () = receive(&mut self.connection, &mut some_messages, turn) => {}
                _ = ticks.tick() => {
                    self.keep_alive();
                    self.write_peer_storage();
                    // The mempool moves between blocks too.
                    self.all(&Event::Feerates);
                }
                Ok(()) = backups.changed() => self.send_backup(),
                () = until(next_deadline) => {}
            }
            // Whatever else waits belongs to the same turn.
            while some_commands.len() < TURN
                && let Ok(command) = commands.try_recv()
            {
                some_commands.push(command);
            }
            while some_messages.len() < turn
                && let Some(connection) = &mut self.connection
                && let Ok(message) = connection.incoming.try_recv()
            {
                some_messages.push(message);
            }
            for message in some_messages.drain(..) {
                self.incoming(message);
            }
            for command in some_commands.drain(..) {
                self.command(command);
            }
            if self.finish_turn().await.is_err() {
                return;
            }
            self.note_standing();
            let idle = self.connection.is_none() && self.slots.is_empty();
            if idle && self.services.peers.remove_if_idle(&self.node_id, &commands) {
                return;
            }
        }
    }

    /// Decides, signs what has gathered, commits, does what the cores ask for, until nothing is left to do.
    async fn finish_turn(&mut self) -> Result<(), Stopped> {
        if std::mem::take(&mut self.sends_again) {
            self.hand_over_again().await;
        }
        loop {
            self.do_what_waits_for_nothing().await?;
            let handed_over = self.decide_and_sign();
            if handed_over.is_empty() {
                if self.read_stopped_again() {
                    self.look_at_new_outputs().await;
                    continue;
                }
                if self.hand_to_socket() {
                    self.tell_refusals();
                    self.prepare();
                    return Ok(());
                }
                continue;
            }
            for one in handed_over {
                for effect in one.effects().await? {
                    self.effect(effect).await;
                }
            }
            self.look_at_new_outputs().await;
        }
    }

    /// All that follows inside the node, signed and handed over to be written together.
    fn decide_and_sign(&mut self) -> Vec<PendingEffects> {
        let mut handed_over = Vec::new();
        let services = Arc::clone(&self.services);
        let _together = services.committer.gather();
        loop {
            while !self.underway.is_empty() {
                for mut one in std::mem::take(&mut self.underway) {
                    let inner = one.take_inner();
                    handed_over.push(one);
                    inner.into_iter().for_each(|effect| self.decide(effect));
                }
            }
            self.add_all_waiting();
            self.flush_channels();
            if self.batch.is_empty() {
                match self.underway.is_empty() {
                    true => return handed_over,
                    // What waited for room was refused.
                    false => continue,
                }
            }
            let batch = std::mem::take(&mut self.batch);
            self.underway.push(services.committer.submit(batch));
        }
    }

    /// A stranger came to us and has no channel that more stands behind than its word. Its task may have to wait, so it
    /// shows itself to whoever would ask.
    fn note_standing(&self) {
        let came = self.connection.as_ref().is_some_and(|connected| connected.connection.inbound);
        let is_real =
            |(id, slot): (&ChannelId, &Slot)| slot.channel.backing() == Backing::Funded || self.is_enforced(id);
        let has_channel = self.slots.iter().any(is_real) || !self.unseen.is_empty();
        let (was_stranger, is_stranger) = (self.standing.is_stranger(), came && !has_channel);
        if is_stranger || was_stranger {
            self.services.peers.show(&self.node_id, is_stranger.then(|| self.describe()));
            self.standing.set_stranger(is_stranger);
        }
    }

    /// What a turn has to say goes out together: a peer that hears of a revocation before the updates that follow it
    /// would sign without them, and again with them. `false` if the connection is lost by it.
    fn hand_to_socket(&mut self) -> bool {
        let Some(connected) = &mut self.connection else { return true };
        match connected.connection.flush() {
            Ok(()) => true,
            Err(error) => {
                debug!(peer = %self.node_id, %error, "disconnecting");
                self.disconnect();
                false
            }
        }
    }

    /// While the peer has its turn.
    fn prepare(&mut self) {
        for slot in self.slots.values_mut() {
            if std::mem::take(&mut slot.unprepared) {
                slot.channel.prepare();
            }
        }
    }

    /// Effects that depend on no write share this turn's.
    async fn do_what_waits_for_nothing(&mut self) -> Result<(), Stopped> {
        loop {
            let done: Vec<PendingEffects> = self.underway.extract_if(.., |one| one.waits_for_nothing()).collect();
            if done.is_empty() {
                return Ok(());
            }
            for one in done {
                for effect in one.effects().await? {
                    self.effect(effect).await;
                }
            }
        }
    }

    /// Signs what has gathered, except where a revocation has made HTLCs final of which nobody has decided yet: a
    /// signature now would have to be revoked before the next, so that the decisions would wait for a whole round, and
    /// every HTLC would be signed once more.
    fn flush_channels(&mut self) {
        let all_decided = self.batch.is_empty() && self.underway.is_empty();
        let now = Instant::now();
        let mut ready = Vec::new();
        for (id, slot) in &mut self.slots {
            if !slot.dirty || (slot.awaits_decisions && !all_decided) {
                continue;
            }
            if slot.channel.wants_flush() {
                slot.signs_since.get_or_insert(now);
            }
            if slot.rests_until().is_none_or(|rested| rested <= now) {
                ready.push(*id);
            }
        }
        for id in ready {
            self.event(id, Event::Flush);
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.dirty = false;
                slot.awaits_decisions = false;
                slot.signs_since = None;
            }
        }
    }

    /// When a signature that was put off is due, or an HTLC has waited long enough for room.
    fn next_deadline(&self) -> Option<Instant> {
        let signatures = self.slots.values().filter(|slot| slot.dirty).filter_map(Slot::rests_until);
        signatures.chain(self.next_waiting_for_room()).min()
    }

    /// Hands an event to a channel. A bug of ours stops that channel alone.
    pub(super) fn event(&mut self, id: ChannelId, event: Event) {
        let connection = self.connection_id();
        let services = Arc::clone(&self.services);
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.deaf) else { return };
        slot.unprepared |=
            matches!(event, Event::Message(Message::CommitmentSigned(_) | Message::RevokeAndAck(_)) | Event::Flush);
        slot.awaits_decisions |=
            matches!(event, Event::Message(Message::RevokeAndAck(_))) && slot.channel.awaits_decisions();
        match slot.channel.handle(event, &services.ctx()) {
            Ok(outbox) => {
                slot.dirty = true;
                let new = slot.channel.id();
                if new != id
                    && let Err(why) = self.rename(id, new)
                {
                    // Its outbox is not committed, so nothing was signed and nothing is at stake.
                    return self.send(ErrorMessage::new(id, why));
                }
                self.push(new, connection, outbox);
            }
            Err(error) => {
                error!(channel = %slot.point(&id), %error,
                    "the channel is stopped until leydend is started again, and only watched; report this");
                if !std::mem::replace(&mut slot.stopped, true) {
                    self.to_read_again.push(id);
                }
                slot.deaf = true;
                // Of an opening nothing is stored, and nothing is at stake: it ends, and the peer may begin another.
                if slot.channel.is_over() {
                    self.opening_ended(id, "a bug in Leyden ended it: see the log, and report this");
                }
            }
        }
    }

    pub(super) fn push(&mut self, channel: ChannelId, connection: ConnectionId, outbox: Outbox<Effect>) {
        if !outbox.is_empty() {
            self.batch.push(outbox.tag(&(channel, connection)).convert());
        }
    }

    /// Reads channels again that have met a bug of ours: what is stored of them is right, and somebody must be there if the
    /// peer publishes a revoked commitment. True if there was one.
    fn read_stopped_again(&mut self) -> bool {
        let stopped = std::mem::take(&mut self.to_read_again);
        for id in &stopped {
            let channel = match self.services.stored_channel(id) {
                Ok(Some(channel)) => channel.stopped(),
                Ok(None) => continue,
                Err(error) => {
                    error!(channel = %self.point(id), %error, "the stopped channel cannot be read: its outputs are not claimed now");
                    continue;
                }
            };
            let Some(slot) = self.slots.get_mut(id) else { continue };
            let watched: Vec<OutPoint> = channel.watched().collect();
            slot.channel = channel;
            slot.deaf = false;
            // It is told anew what it may have missed.
            self.services.watch.forget_outputs(id);
            watched.into_iter().for_each(|outpoint| self.watch_output(*id, outpoint));
        }
        !stopped.is_empty()
    }

    /// Whether there is such a channel and it takes events.
    fn runs(&self, id: &ChannelId) -> bool {
        self.slots.get(id).is_some_and(|slot| !slot.stopped)
    }

    fn all(&mut self, event: &Event) {
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.event(id, event.clone());
        }
    }

    /// The switch may fail what is about to expire behind the channel, unless its enforcement has to decide that.
    fn still_open(&mut self, channel: ChannelId, tip: Height) {
        if self.slots.contains_key(&channel) && !self.is_enforced(&channel) {
            self.underway.push(self.services.tell_switch(SwitchEvent::StillOpen { channel, tip }));
        }
    }

    pub(super) fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.connections)
    }

    // Commands.

    fn command(&mut self, command: Command) {
        match command {
            Command::Connected(established) => self.connected(*established),
            Command::HangUp(done) => {
                self.disconnect();
                let _ = done.send(());
            }
            Command::GiveWay => {
                debug!(peer = %self.node_id, "disconnecting: another node needs the slot");
                if let Some(connected) = &self.connection {
                    connected.connection.cut();
                }
                self.disconnect();
            }
            Command::GiveUpUnfunded { channel } => self.give_up_unfunded(channel),
            Command::Open { plan, progress } => self.open(*plan, progress),
            Command::Fund { channel, transaction, output, publisher } => {
                let event = Event::Funded { transaction: *transaction, output, publisher };
                self.event(self.present_id(channel), event);
            }
            Command::CancelOpening { channel, reason } => {
                self.event(self.present_id(channel), Event::FundingRefused { reason });
            }
            Command::Decided { channel, connection, verdict } => self.decided(channel, connection, verdict),
            Command::Close { channel, request, progress } => {
                self.closing(channel, progress, Event::Close(request));
            }
            Command::ForceClose { channel, progress } => {
                self.closing(channel, progress, Event::ForceClose);
            }
            Command::Abandon { channel, answer } => {
                let _ = answer.send(self.abandon(channel));
            }
            Command::Restore(restore) => self.restore_channel(*restore),
            Command::Offer { htlc, channel } => self.offer(*htlc, channel),
            Command::Add { channel, htlc } if self.runs(&channel) => self.add(channel, htlc),
            Command::Add { channel: _, htlc } => self.refused(htlc.origin, CannotAdd::Offline),
            Command::Settle { channel, id, settlement } => self.event(channel, Event::Settle { id, settlement }),
            Command::Event { channel, event } => self.funding_news(channel, *event),
            Command::Towers { channel, event } => self.event(channel, *event),
            Command::NameToTowers { channel } => self.name_to_towers(channel),
            Command::Chain { channel, events, tip } => self.chain_news(channel, events, tip),
            Command::NewTip(height) => {
                self.sends_again = !self.unsent.is_empty();
                self.all(&Event::NewTip(height));
            }
            Command::StillOpen { channel, tip } => self.still_open(channel, tip),
            Command::Gossip(batch) => self.send_gossip(&batch.messages),
            Command::Custom { message, answer } => {
                let _ = answer.send(self.send_custom(*message));
            }
            Command::Balances(answer) => {
                let _ = answer.send(self.balances());
            }
            Command::Bump { channel, outpoint, feerate, answer } => {
                let _ = answer.send(self.bump(channel, outpoint, feerate));
            }
            Command::Tree { channel, answer } => {
                let _ = answer.send(self.tree(&channel));
            }
            Command::Describe(answer) => {
                let _ = answer.send(self.describe());
            }
            Command::Summaries(answer) => {
                let _ = answer.send(self.summaries());
            }
            Command::DescribeChannel { channel, answer } => {
                let summary = self.slots.get(&channel).and_then(|slot| slot.channel.summary());
                let _ = answer.send(summary.map(|summary| ChannelState { node_id: self.node_id, summary }));
            }
            Command::Claimant { outpoint, answer } => {
                let mut states = self.describe_enforcements().into_iter();
                let _ = answer.send(states.find(|state| state.concerns(&outpoint)).map(|state| state.channel));
            }
        }
    }

    /// An opening's id, which it may have changed meanwhile.
    pub(super) fn present_id(&self, id: ChannelId) -> ChannelId {
        self.renamed.get(&id).copied().unwrap_or(id)
    }

    /// What has become of a channel's funding transaction.
    fn funding_news(&mut self, id: ChannelId, event: Event) {
        self.event(id, event);
        self.note_backing(id);
    }

    pub(super) fn name_to_towers(&self, id: ChannelId) {
        if let Some(channel) = self.slots.get(&id).and_then(|slot| TowerChannel::of(&slot.channel)) {
            self.services.towers.established(channel);
        }
    }

    fn describe(&self) -> PeerState {
        PeerState {
            node_id: self.node_id,
            connection: self.connection.as_ref().map(|connected| ConnectionStats {
                address: connected.connection.address,
                inbound: connected.connection.inbound,
                features: connected.connection.features.clone(),
                bytes_sent: connected.connection.bytes_sent(),
                bytes_received: connected.connection.bytes_received(),
                ping: connected.round_trip,
            }),
            presence: Presence {
                watched: self.begun.elapsed(),
                online: self.was_online
                    + self.connection.as_ref().map_or(Duration::ZERO, |connected| connected.since.elapsed()),
            },
            channels: self.summaries(),
            resolutions: self.describe_enforcements(),
            refused: self.refused_transactions(),
        }
    }

    fn summaries(&self) -> Vec<Summary> {
        self.slots.values().filter_map(|slot| slot.channel.summary()).collect()
    }

    fn balances(&self) -> Vec<LocalChannel> {
        let usable = self.slots.values().filter(|slot| slot.channel.is_usable() && !slot.stopped);
        let balance = |slot: &Slot| {
            let terms = slot.channel.terms()?;
            let (real, alias) = slot.channel.short_channel_ids();
            let available = slot.channel.sendable();
            Some(LocalChannel {
                short_channel_id: real.or(alias)?,
                peer: terms.remote_node,
                available,
                htlc_minimum_msat: terms.htlc_minimum_of(Side::Local),
                htlc_maximum_msat: available,
            })
        };
        usable.filter_map(balance).collect()
    }

    fn closing(&mut self, id: ChannelId, progress: mpsc::UnboundedSender<CloseProgress>, event: Event) {
        match self.slots.get_mut(&id) {
            Some(slot) if slot.stopped => {
                let reason = "this channel met an error and is stopped: start leydend again, then close it".into();
                let _ = progress.send(CloseProgress::Refused { reason });
            }
            Some(slot) => {
                // What closes it may be under way already; what both have signed may still give way to something else.
                let spend = slot.channel.summary().and_then(|summary| summary.spend);
                let may_be_bumped = matches!(spend, Some(FundingSpend { kind: SpendKind::Mutual, height: None, .. }));
                if let Some(FundingSpend { txid, kind, .. }) = spend.filter(|_| !may_be_bumped) {
                    let by = if kind == SpendKind::Local { Side::Local } else { Side::Remote };
                    let _ = progress.send(CloseProgress::Pending { txid, by });
                }
                slot.closing.push(progress);
                slot.wish_to_close |= matches!(event, Event::Close(_));
                slot.fee_bump_wanted = may_be_bumped && matches!(event, Event::Close(_));
                if matches!(event, Event::ForceClose) {
                    self.note_force_close(id);
                }
                self.event(id, event);
            }
            None => {
                let _ = progress.send(CloseProgress::Refused { reason: "there is no such channel".into() });
            }
        }
    }

    /// Over the named channel and no other: what was asked of it, and what it refuses, is known by its name. Where none is
    /// named, over the usable channel with the most to spend.
    fn offer(&mut self, htlc: AddHtlc, named: Option<ShortChannelId>) {
        let is_meant = |slot: &Slot| {
            let (real, alias) = slot.channel.short_channel_ids();
            named.is_none() || real == named || alias == named
        };
        let best = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.channel.is_usable() && !slot.stopped && is_meant(slot))
            .max_by_key(|(id, slot)| (slot.channel.sendable(), **id))
            .map(|(id, _)| *id);
        match best {
            Some(id) => {
                let (amount, expiry) = (htlc.amount, htlc.cltv_expiry);
                // With the HTLC, in one write.
                self.batch.push(self.services.own_htlc(id, None, OwnHtlcNews::Offered { amount, expiry }));
                self.add(id, Box::new(htlc));
            }
            None => self.refused(htlc.origin, CannotAdd::Offline),
        }
    }
}
