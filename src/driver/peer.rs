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

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bitcoin::{FeeRate, OutPoint, ScriptBuf, Txid};
use leyden_channels::{
    channel::{
        self, AcceptRequest, AddHtlc, CannotAdd, Channel, CloseRequest, Effect, Event, HtlcFailure, IncomingHtlc, Key,
        Notice, OpenRequest, Origin, Outbox, Settlement, SpendKind, StateName,
    },
    onchain,
    payment::incoming::InvoiceEffect,
    routing::LocalChannel,
    switch::{ForwardPolicy, HtlcRef, SwitchEffect, SwitchEvent},
    types::{ChannelId, Height, HtlcId, PaymentPreimage, ShortChannelId, Side},
    wire::{ErrorMessage, Message, control::Ping},
};
use secp256k1::PublicKey;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::{debug, error, info, warn};

use super::{
    chain,
    committer::{LinkId, NodeEffect, Stopped, Underway},
    connection::{ConnectionError, Established, Incoming, Link},
    enforcement::{Enforcement, EnforcementState},
    events::ChannelNews,
    gossip::{self, GossipEvent, OwnChannelState},
    services::Services,
};
use crate::wallet::onchain::Coins;

/// How often we ask whether the peer is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a peer may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// Events of one kind that one turn takes at most.
const TURN: usize = 512;
/// Channels of one peer that are not funded yet, above which it may not open another: each costs us memory and, once its
/// first commitments are signed, a place in the store.
const MAX_UNFUNDED: usize = 16;

/// What the rest of the node asks of a peer's task.
pub enum Command {
    /// A new connection, which replaces the old one.
    Connected(Box<Established>),
    /// Hang up; answers once the channels know.
    HangUp(oneshot::Sender<()>),
    Open {
        plan: Box<OpenPlan>,
        progress: mpsc::UnboundedSender<Opening>,
    },
    Close {
        channel: ChannelId,
        request: CloseRequest,
        progress: mpsc::UnboundedSender<Closing>,
    },
    ForceClose {
        channel: ChannelId,
        progress: mpsc::UnboundedSender<Closing>,
    },
    /// Offer an HTLC on a channel with this peer that can carry it, on the named one if that can.
    Offer {
        htlc: Box<AddHtlc>,
        channel: Option<ShortChannelId>,
    },
    /// Offer an HTLC on this channel and no other.
    Add {
        channel: ChannelId,
        htlc: Box<AddHtlc>,
    },
    Settle {
        channel: ChannelId,
        id: HtlcId,
        settlement: Settlement,
    },
    /// News of the chain for one channel.
    Event {
        channel: ChannelId,
        event: Box<Event>,
    },
    /// News of the chain for the enforcement of a closed channel, in order.
    Enforce {
        channel: ChannelId,
        events: Vec<onchain::Event>,
    },
    NewTip(Height),
    /// Encoded messages for the peer, which depend on nothing durable.
    Gossip(Vec<Vec<u8>>),
    /// What can be sent over each channel now.
    Balances(oneshot::Sender<Vec<LocalChannel>>),
    /// A copy of what there is, for people.
    Describe(oneshot::Sender<PeerState>),
}

/// A channel that we open, and what it is to be to us.
pub struct OpenPlan {
    pub request: OpenRequest,
    pub funding_feerate: FeeRate,
    /// What may fund it.
    pub coins: Coins,
    /// The terms under which it forwards.
    pub forwarding: ForwardPolicy,
    /// The user's own words; may be empty.
    pub memo: String,
}

/// Progress of an opening, for the call that asked for it.
#[derive(Clone, Debug)]
pub enum Opening {
    Pending { funding: OutPoint },
    Open { funding: OutPoint },
    Failed { reason: String },
}

/// Progress of a closing, for the call that asked for it.
#[derive(Clone, Debug)]
pub enum Closing {
    Refused { reason: String },
    Pending { txid: Txid, by: Side },
    Closed { txid: Txid },
}

/// A peer at one moment.
#[derive(Debug)]
pub struct PeerState {
    pub node_id: PublicKey,
    pub link: Option<LinkState>,
    pub channels: Vec<leyden_channels::channel::Summary>,
    /// Of those among them that one side has closed alone.
    pub enforcements: Vec<EnforcementState>,
}

#[derive(Debug)]
pub struct LinkState {
    pub address: std::net::SocketAddr,
    pub inbound: bool,
    pub features: leyden_channels::wire::Features,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub ping: Option<Duration>,
}

pub(super) struct Slot {
    pub(super) channel: Channel,
    /// Something was handled since the last flush.
    dirty: bool,
    opening: Option<mpsc::UnboundedSender<Opening>>,
    closing: Vec<mpsc::UnboundedSender<Closing>>,
    /// Until a channel that we open is established.
    choices: Option<Choices>,
}

/// What the user chose for a channel that we open, beside what the peer hears of it.
struct Choices {
    funding_feerate: FeeRate,
    coins: Coins,
    forwarding: ForwardPolicy,
    memo: String,
}

impl Slot {
    fn new(channel: Channel) -> Self {
        Self { channel, dirty: false, opening: None, closing: Vec::new(), choices: None }
    }

    fn tell_opening(&self, news: Opening) {
        if let Some(progress) = &self.opening {
            // Whoever asked may have gone.
            let _ = progress.send(news);
        }
    }

    pub(super) fn tell_closing(&self, news: &Closing) {
        for progress in &self.closing {
            let _ = progress.send(news.clone());
        }
    }
}

/// The task's own things.
pub struct Peer {
    pub(super) node_id: PublicKey,
    pub(super) services: Arc<Services>,
    /// Our own mailbox, for watches.
    pub(super) mailbox: mpsc::UnboundedSender<Command>,
    pub(super) slots: HashMap<ChannelId, Slot>,
    /// Closed channels whose outputs are being claimed.
    pub(super) enforced: HashMap<ChannelId, Enforcement>,
    /// Closed channels with outputs that were never looked at.
    pub(super) unseen: HashSet<ChannelId>,
    /// Ids that openings had before they got their permanent one.
    renamed: HashMap<ChannelId, ChannelId>,
    link: Option<Connected>,
    links: u64,
    batch: Vec<Outbox<NodeEffect>>,
    /// What cores that all tasks share have handed over for us.
    underway: Vec<Underway>,
}

struct Connected {
    id: LinkId,
    link: Link,
    incoming: mpsc::Receiver<Incoming>,
    since: Instant,
    heard: Instant,
    pinged: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Peer {
    pub fn new(node_id: PublicKey, services: Arc<Services>, mailbox: mpsc::UnboundedSender<Command>) -> Self {
        Self {
            node_id,
            services,
            mailbox,
            slots: HashMap::new(),
            enforced: HashMap::new(),
            unseen: HashSet::new(),
            renamed: HashMap::new(),
            link: None,
            links: 0,
            batch: Vec::new(),
            underway: Vec::new(),
        }
    }

    /// A channel that was loaded from the store, before [`Self::run`].
    pub fn restore(&mut self, channel: Channel) {
        self.slots.insert(channel.id(), Slot::new(channel));
    }

    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            let state = self.slots.get(&id).and_then(|slot| OwnChannelState::of(&slot.channel));
            if let Some(state) = state {
                self.services.gossip.tell(GossipEvent::Channel(Box::new(state)));
            }
            self.event(id, Event::Restarted);
        }
        self.restart_enforcements();
        if self.finish_turn().await.is_err() {
            return;
        }
        let mut ticks = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut some_commands = Vec::new();
        let mut some_messages = Vec::new();
        loop {
            tokio::select! {
                count = commands.recv_many(&mut some_commands, TURN) => {
                    if count == 0 {
                        return;
                    }
                }
                () = receive(&mut self.link, &mut some_messages) => {}
                _ = ticks.tick() => self.keep_alive(),
            }
            // Whatever else waits belongs to the same turn.
            while some_commands.len() < TURN
                && let Ok(command) = commands.try_recv()
            {
                some_commands.push(command);
            }
            while some_messages.len() < TURN
                && let Some(link) = &mut self.link
                && let Ok(message) = link.incoming.try_recv()
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
            let idle = self.link.is_none() && self.slots.is_empty();
            if idle && self.services.peers.remove_if_idle(&self.node_id, &commands) {
                return;
            }
        }
    }

    /// Signs what has gathered, commits, does what the cores ask for, until nothing is left to do.
    async fn finish_turn(&mut self) -> Result<(), Stopped> {
        loop {
            self.do_what_waits_for_nothing().await;
            self.flush_channels();
            if self.batch.is_empty() && self.underway.is_empty() {
                return Ok(());
            }
            let committed = self.services.committer.submit(std::mem::take(&mut self.batch));
            let underway = std::mem::take(&mut self.underway);
            for one in std::iter::once(committed).chain(underway) {
                for effect in one.effects().await? {
                    self.effect(effect).await;
                }
            }
            self.look_at_new_outputs().await;
            if let Some(connected) = &mut self.link
                && let Err(error) = connected.link.flush()
            {
                debug!(peer = %self.node_id, %error, "hanging up");
                self.disconnect();
            }
        }
    }

    /// Effects that depend on no write share this turn's.
    async fn do_what_waits_for_nothing(&mut self) {
        while let Some(index) = self.underway.iter().position(|one| matches!(one, Underway::Done(_))) {
            if let Underway::Done(effects) = self.underway.remove(index) {
                for effect in effects {
                    self.effect(effect).await;
                }
            }
        }
    }

    fn flush_channels(&mut self) {
        let dirty: Vec<ChannelId> = self.slots.iter().filter(|(_, slot)| slot.dirty).map(|(id, _)| *id).collect();
        for id in dirty {
            self.event(id, Event::Flush);
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.dirty = false;
            }
        }
    }

    /// Hands an event to a channel. A bug of ours stops that channel alone.
    pub(super) fn event(&mut self, id: ChannelId, event: Event) {
        let link = self.link_id();
        let services = Arc::clone(&self.services);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match slot.channel.handle(event, &services.ctx()) {
            Ok(outbox) => {
                slot.dirty = true;
                let new = slot.channel.id();
                if new != id && !self.rename(id, new) {
                    // The peer names a funding output that a channel has already. To commit this outbox would write
                    // over that channel; without it nothing was signed and nothing is at stake.
                    warn!(channel = %new, peer = %self.node_id, "an opening with the funding output of another channel");
                    return self.send(&Message::Error(ErrorMessage::new(id, "this funding output is in use")));
                }
                self.push(new, link, outbox);
            }
            Err(error) => {
                error!(channel = %id, %error, "the channel is stopped");
                self.slots.remove(&id);
            }
        }
    }

    /// An opening gets its permanent id on the way; `false`, and it is dropped, if a channel has this id already.
    fn rename(&mut self, id: ChannelId, new: ChannelId) -> bool {
        let Some(slot) = self.slots.remove(&id) else { return false };
        let is_new = !self.slots.contains_key(&new) && self.services.peers.add_new_channel(new, self.node_id);
        if is_new {
            self.slots.insert(new, slot);
            self.renamed.insert(id, new);
        } else {
            slot.tell_opening(Opening::Failed { reason: "its funding output is that of another channel".into() });
        }
        is_new
    }

    pub(super) fn push(&mut self, channel: ChannelId, link: LinkId, outbox: Outbox<Effect>) {
        if !outbox.is_empty() {
            self.batch.push(outbox.tag(&(channel, link)).convert());
        }
    }

    fn all(&mut self, event: &Event) {
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.event(id, event.clone());
        }
    }

    pub(super) fn link_id(&self) -> LinkId {
        LinkId(self.links)
    }

    // The connection.

    fn connected(&mut self, established: Established) {
        if let Some(old) = &self.link {
            // Both nodes dialled at once: both must keep the same one of the two connections.
            let crossing = old.link.inbound != established.inbound && old.since.elapsed() < Duration::from_secs(10);
            let ours_wins = self.services.node_id() < self.node_id;
            if crossing && old.link.inbound != ours_wins {
                return;
            }
            self.disconnect();
        }
        let now = Instant::now();
        let (link, incoming) = established.start();
        info!(peer = %self.node_id, address = %link.address, "connected");
        self.links += 1;
        let id = self.link_id();
        self.link = Some(Connected { id, link, incoming, since: now, heard: now, pinged: None, round_trip: None });
        self.services.peers.set_connected(&self.node_id, true);
        let features = self.link.as_ref().map(|connected| connected.link.features.clone()).unwrap_or_default();
        self.services.gossip.tell(GossipEvent::Connected { peer: self.node_id, features });
        self.all(&Event::Connected);
    }

    fn disconnect(&mut self) {
        if self.link.take().is_some() {
            info!(peer = %self.node_id, "disconnected");
            self.services.peers.set_connected(&self.node_id, false);
            self.services.gossip.tell(GossipEvent::Disconnected(self.node_id));
            self.all(&Event::Disconnected);
        }
    }

    fn keep_alive(&mut self) {
        let Some(connected) = &mut self.link else { return };
        if connected.heard.elapsed() > SILENCE_LIMIT {
            warn!(peer = %self.node_id, "no sign of life, hanging up");
            self.disconnect();
            return;
        }
        connected.pinged = Some(Instant::now());
        let ping = Message::Ping(Ping { num_pong_bytes: 2, ignored: Vec::new() });
        if connected.link.queue(&ping).is_err() || connected.link.flush().is_err() {
            self.disconnect();
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Ok(message) => self.message(message),
            Err(ConnectionError::Closed) => self.disconnect(),
            Err(error) => {
                info!(peer = %self.node_id, %error, "the connection ended");
                self.disconnect();
            }
        }
    }

    fn message(&mut self, message: Message) {
        let Some(connected) = &mut self.link else { return };
        connected.heard = Instant::now();
        match message {
            Message::Ping(ping) => {
                if let Some(pong) = ping.answer() {
                    self.send(&Message::Pong(pong));
                }
            }
            Message::Pong(_) => {
                connected.round_trip = connected.pinged.take().map(|at| at.elapsed());
            }
            Message::Init(_) => {}
            Message::OpenChannel(open) => self.accept(*open),
            message if gossip::is_gossip(&message) => self.services.gossip.message(self.node_id, message),
            Message::Unknown { message_type, .. } if message_type % 2 == 0 => {
                warn!(peer = %self.node_id, message_type, "a message that must be understood is not; hanging up");
                self.disconnect();
            }
            message => match message.channel_id().map(|id| self.renamed.get(&id).copied().unwrap_or(id)) {
                Some(ChannelId::ALL) => self.all(&Event::Message(message)),
                Some(id) if self.slots.contains_key(&id) => self.event(id, Event::Message(message)),
                Some(id) if !matches!(message, Message::Error(_) | Message::Warning(_)) => {
                    self.send(&Message::Error(ErrorMessage::new(id, "unknown channel")));
                }
                // Words about no channel of ours, and what only gossip would want.
                Some(_) | None => {}
            },
        }
    }

    /// A message that depends on nothing durable.
    fn send(&mut self, message: &Message) {
        let Some(connected) = &mut self.link else { return };
        let sent = connected.link.queue(message).map_err(ConnectionError::from).and_then(|()| connected.link.flush());
        if sent.is_err() {
            self.disconnect();
        }
    }

    fn send_raw(&mut self, messages: &[Vec<u8>]) {
        let Some(connected) = &mut self.link else { return };
        let queued = messages.iter().try_for_each(|message| connected.link.queue_raw(message));
        if queued.map_err(ConnectionError::from).and_then(|()| connected.link.flush()).is_err() {
            self.disconnect();
        }
    }

    // Commands.

    fn command(&mut self, command: Command) {
        match command {
            Command::Connected(established) => self.connected(*established),
            Command::HangUp(done) => {
                self.disconnect();
                let _ = done.send(());
            }
            Command::Open { plan, progress } => self.open(*plan, progress),
            Command::Close { channel, request, progress } => {
                self.closing(channel, progress, Event::Close(request));
            }
            Command::ForceClose { channel, progress } => {
                self.closing(channel, progress, Event::ForceClose);
                // If it is closing already, our own commitment may be what gets it there.
                self.enforce(channel, onchain::Event::ForceClose);
            }
            Command::Offer { htlc, channel } => self.offer(*htlc, channel),
            Command::Add { channel, htlc } if self.slots.contains_key(&channel) => {
                self.event(channel, Event::Add(htlc))
            }
            Command::Add { channel: _, htlc } => self.refused(htlc.origin, CannotAdd::Offline),
            Command::Settle { channel, id, settlement } => self.settle(channel, id, settlement),
            Command::Event { channel, event }
                if matches!(*event, Event::CloseConfirmed) && self.is_enforced(&channel) => {}
            Command::Event { channel, event } => self.chain_event(channel, *event),
            Command::Enforce { channel, events } => self.enforce_all(channel, events),
            Command::NewTip(height) => self.all(&Event::NewTip(height)),
            Command::Gossip(messages) => self.send_raw(&messages),
            Command::Balances(answer) => {
                let _ = answer.send(self.balances());
            }
            Command::Describe(answer) => {
                let _ = answer.send(self.describe());
            }
        }
    }

    /// News of the chain; whatever they say of the closing transaction is kept for people too.
    fn chain_event(&mut self, id: ChannelId, event: Event) {
        let spent = if let Event::FundingSpent { transaction, .. } = &event { Some(transaction.clone()) } else { None };
        let is_about_close = spent.is_some() || matches!(event, Event::Reorganized { .. });
        self.event(id, event);
        if is_about_close {
            self.keep_close(id, spent.as_ref());
        }
    }

    fn describe(&self) -> PeerState {
        PeerState {
            node_id: self.node_id,
            link: self.link.as_ref().map(|connected| LinkState {
                address: connected.link.address,
                inbound: connected.link.inbound,
                features: connected.link.features.clone(),
                bytes_sent: connected.link.bytes_sent(),
                bytes_received: connected.link.bytes_received(),
                ping: connected.round_trip,
            }),
            channels: self.slots.values().filter_map(|slot| slot.channel.summary()).collect(),
            enforcements: self.describe_enforcements(),
        }
    }

    fn balances(&self) -> Vec<LocalChannel> {
        let usable = self.slots.values().filter(|slot| slot.channel.is_usable());
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

    fn open(&mut self, plan: OpenPlan, progress: mpsc::UnboundedSender<Opening>) {
        let OpenPlan { request, funding_feerate, coins, forwarding, memo } = plan;
        let fail = |reason: String| {
            let _ = progress.send(Opening::Failed { reason });
        };
        if self.link.is_none() {
            return fail("the peer is not connected: `leyden connect` it first".into());
        }
        let Some(signer) = self.services.signer(&request.keys_id) else {
            return fail("no keys could be made for this channel: try again".into());
        };
        match Channel::open(request, signer, &self.services.ctx()) {
            Ok((channel, outbox)) => {
                let id = channel.id();
                let choices = Some(Choices { funding_feerate, coins, forwarding, memo });
                let slot = Slot { opening: Some(progress), choices, ..Slot::new(channel) };
                self.slots.insert(id, slot);
                self.push(id, self.link_id(), outbox);
            }
            Err(error) => fail(error.to_string()),
        }
    }

    fn accept(&mut self, open: leyden_channels::wire::OpenChannel) {
        let id = open.temporary_channel_id;
        if self.slots.contains_key(&id) || self.services.peers.owner(&id).is_some() {
            return self.send(&Message::Error(ErrorMessage::new(id, "this temporary_channel_id is in use")));
        }
        let is_unfunded = |slot: &&Slot| matches!(slot.channel.state_name(), StateName::Opening | StateName::Funding);
        if self.slots.values().filter(is_unfunded).count() >= MAX_UNFUNDED {
            return self
                .send(&Message::Error(ErrorMessage::new(id, "confirm the channels that you are opening first")));
        }
        let request = match self.accept_request() {
            Ok(request) => request,
            Err(reason) => return self.send(&Message::Error(ErrorMessage::new(id, reason))),
        };
        let Some(signer) = self.services.signer(&request.keys_id) else {
            return self.send(&Message::Error(ErrorMessage::new(id, "no channels are accepted at the moment")));
        };
        match Channel::accept(open, request, signer, &self.services.ctx()) {
            Ok((channel, outbox)) => {
                self.slots.insert(channel.id(), Slot::new(channel));
                self.push(id, self.link_id(), outbox);
            }
            Err(error) => self.send(&Channel::refusal(id, &error)),
        }
    }

    fn accept_request(&self) -> Result<AcceptRequest, String> {
        let shutdown_script = self.services.wallet.new_script().map_err(|error| {
            error!(%error, "no script for a new channel");
            "no channels are accepted at the moment".to_owned()
        })?;
        Ok(AcceptRequest {
            remote_node: self.node_id.into(),
            keys_id: rand::random(),
            to_self_delay: None,
            shutdown_script,
            commit_to_script: false,
            alias: ShortChannelId(rand::random()),
            large_channels: self.large_channels(),
        })
    }

    pub fn large_channels(&self) -> bool {
        self.link.as_ref().is_some_and(|connected| {
            connected.link.features.supports(leyden_channels::wire::features::Feature::SupportLargeChannel)
        })
    }

    fn closing(&mut self, id: ChannelId, progress: mpsc::UnboundedSender<Closing>, event: Event) {
        match self.slots.get_mut(&id) {
            Some(slot) => {
                slot.closing.push(progress);
                self.event(id, event);
            }
            None => {
                let _ = progress.send(Closing::Refused { reason: "there is no such channel".into() });
            }
        }
    }

    /// Chooses the usable channel with the most to spend.
    fn offer(&mut self, htlc: AddHtlc, named: Option<ShortChannelId>) {
        let is_named = |slot: &Slot| {
            let (real, alias) = slot.channel.short_channel_ids();
            named.is_some() && (real == named || alias == named) && slot.channel.sendable() >= htlc.amount
        };
        let best = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.channel.is_usable())
            .max_by_key(|(id, slot)| (is_named(slot), slot.channel.sendable(), **id))
            .map(|(id, _)| *id);
        match best {
            Some(id) => self.event(id, Event::Add(Box::new(htlc))),
            None => self.refused(htlc.origin, CannotAdd::Offline),
        }
    }

    // Effects.

    async fn effect(&mut self, effect: NodeEffect) {
        match effect {
            NodeEffect::Channel { channel, link, effect } => self.channel_effect(channel, link, effect).await,
            NodeEffect::Invoice(InvoiceEffect::Settle { channel, id, settlement })
                if self.slots.contains_key(&channel) =>
            {
                self.settle(channel, id, settlement);
            }
            NodeEffect::Invoice(effect) => self.services.invoice_effect(effect),
            NodeEffect::Switch(effect) => self.switch_effect(effect),
            NodeEffect::Payment(effect) => self.underway.extend(self.services.payment_effect(effect)),
        }
    }

    async fn channel_effect(&mut self, id: ChannelId, link: LinkId, effect: Effect) {
        match effect {
            Effect::Send(message) => {
                if let Some(connected) = &mut self.link
                    && connected.id == link
                    && let Err(error) = connected.link.queue(&message)
                {
                    error!(channel = %id, %error, "hanging up");
                    self.disconnect();
                }
            }
            Effect::Disconnect => {
                if self.link.as_ref().is_some_and(|connected| connected.id == link) {
                    if let Some(connected) = &mut self.link {
                        let _ = connected.link.flush();
                    }
                    self.disconnect();
                }
            }
            Effect::Fund { script, amount } => self.fund(id, script, amount),
            Effect::ReleaseFunding { transaction } => self.services.wallet.release(&transaction),
            Effect::Broadcast(transaction) => {
                let (node, wallet) = (&self.services.node, &self.services.wallet);
                // A refusal is told to nobody: the watch on the funding output sees what the chain made of it, and a
                // restart broadcasts again.
                if let Err(error) = chain::broadcast(node, wallet, &[], &transaction).await {
                    warn!(channel = %id, txid = %transaction.compute_txid(), %error, "a transaction was not accepted");
                }
            }
            Effect::WatchFunding { funding, .. } => self.watch(id, funding, true).await,
            Effect::WatchSpent { funding, .. } => self.watch(id, funding, false).await,
            Effect::Incoming(htlc) => self.arrived(*htlc),
            Effect::Fulfilled { origin, htlc, preimage, .. } => {
                self.fulfilled(origin, HtlcRef { channel: id, id: htlc }, preimage);
            }
            Effect::Failed { origin, htlc, failure, .. } => {
                self.failed(origin, HtlcRef { channel: id, id: htlc }, failure);
            }
            Effect::Refused { origin, cause } => self.refused(origin, cause),
            Effect::CloseRefused(refused) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.tell_closing(&Closing::Refused { reason: refused.to_string() });
                }
            }
            Effect::FeeRefused { feerate } => {
                warn!(channel = %id, feerate = feerate.0, "the fee rate was not changed");
            }
            Effect::Notice(notice) => self.notice(id, notice),
            Effect::LocalClose(close) => self.closed_by_us(id, close.commitment.txid),
            Effect::RemoteClose(close) => match close.spend.kind {
                SpendKind::Mutual => {}
                SpendKind::Local | SpendKind::Remote(_) | SpendKind::Revoked(_) | SpendKind::Future(_) => {
                    self.closed_by_peer(id, close.spend.txid);
                }
            },
            Effect::Enforce(effect) => self.enforcement_effect(id, *effect).await,
            Effect::Forget => {
                self.forget_enforcement(id);
                // A peer chooses the temporary id of an opening: it may be that of somebody else's channel.
                let is_ours = self.services.peers.owner(&id) == Some(self.node_id);
                if is_ours {
                    self.services.watch.forget(&id);
                    self.services.peers.remove_channel(&id);
                }
                self.slots.remove(&id);
                if is_ours {
                    self.erase(id);
                }
                self.services.gossip.tell(GossipEvent::ChannelGone(id));
                self.underway.push(self.services.tell_switch(SwitchEvent::LinkGone(id)));
            }
        }
    }

    /// Removes what is stored of a channel that is over. If that fails it is over again at the next start.
    fn erase(&mut self, id: ChannelId) {
        let mut keys = Vec::new();
        for prefix in channel::prefixes(&id) {
            match self.services.store.core_records(&prefix) {
                Ok(rows) => keys.extend(rows.iter().filter_map(|(key, _)| Key::decode(key))),
                Err(error) => return error!(channel = %id, %error, "the rows of a closed channel cannot be read"),
            }
        }
        self.push(id, self.link_id(), channel::erase(&id, keys));
    }

    pub(super) fn tell_closing(&self, id: ChannelId, news: &Closing) {
        if let Some(slot) = self.slots.get(&id) {
            slot.tell_closing(news);
        }
    }

    fn notice(&mut self, id: ChannelId, notice: Notice) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if is_news_of_link(&notice) {
            let terms = slot.choices.as_ref().map_or(self.services.forwarding, |choices| choices.forwarding);
            self.underway.extend(self.services.link(&slot.channel, terms));
        }
        if (is_news_of_link(&notice) || matches!(notice, Notice::Usable(_)))
            && let Some(state) = OwnChannelState::of(&slot.channel)
        {
            self.services.gossip.tell(GossipEvent::Channel(Box::new(state)));
        }
        match notice {
            Notice::Established { funding, .. } => {
                if let Some(Choices { memo, .. }) = slot.choices.take()
                    && !memo.is_empty()
                    && let Err(error) = self.services.store.put_memo(&funding, &memo)
                {
                    warn!(channel = %id, %error, "the channel's memo was not kept");
                }
                slot.tell_opening(Opening::Pending { funding });
                self.services.events.channel(ChannelNews::Pending(funding));
            }
            Notice::StateChanged { from, to } => {
                info!(channel = %id, %from, %to, "state");
                if to == StateName::Normal
                    && from != StateName::Normal
                    && let Some(summary) = slot.channel.summary()
                    && let Some(established) = &summary.established
                {
                    let funding = established.funding;
                    slot.tell_opening(Opening::Open { funding });
                    slot.opening = None;
                    self.services.events.channel(ChannelNews::Open(Arc::new(summary)));
                }
            }
            Notice::Confirmed { short_channel_id } => info!(channel = %id, %short_channel_id, "confirmed"),
            Notice::Usable(usable) => {
                if let Some(funding) = slot.channel.terms().map(|terms| terms.funding) {
                    self.services.events.channel(ChannelNews::Usable { funding, usable });
                }
            }
            Notice::OpenFailed { reason } => {
                info!(channel = %id, %reason, "the opening failed");
                slot.tell_opening(Opening::Failed { reason });
            }
            Notice::PeerWrong(wrong) => warn!(channel = %id, peer = %self.node_id, %wrong, "the peer is wrong"),
            Notice::PeerSays { error, text } => {
                warn!(channel = %id, peer = %self.node_id, error, %text, "the peer says");
                self.services.events.complaint(self.node_id, text, self.services.now().0);
            }
            Notice::ClosingSigned { transaction } => {
                slot.tell_closing(&Closing::Pending { txid: transaction, by: Side::Local })
            }
            Notice::DataLoss => {
                error!(channel = %id, "our data is older than the peer's: it must close, we only wait");
            }
            Notice::PeerDataLoss => warn!(channel = %id, "the peer has lost data and must recover or ask us to close"),
        }
    }

    fn fund(&mut self, id: ChannelId, script: ScriptBuf, amount: bitcoin::Amount) {
        let Some(Choices { funding_feerate, coins, .. }) = self.slots.get(&id).and_then(|slot| slot.choices.as_ref())
        else {
            return;
        };
        let event = match self.services.wallet.pay(&[(script.clone(), amount)], *funding_feerate, coins) {
            Ok(transaction) => {
                let output = transaction.output.iter().position(|output| output.script_pubkey == script);
                let output = output.and_then(|output| u32::try_from(output).ok()).unwrap_or_default();
                Event::Funded { transaction, output }
            }
            Err(error) => Event::FundingRefused { reason: error.to_string() },
        };
        self.event(id, event);
    }

    async fn watch(&mut self, id: ChannelId, funding: OutPoint, depth: bool) {
        self.services.peers.add_channel(id, self.node_id);
        if let Err(error) = self.services.watch.watch(id, self.mailbox.clone(), funding, depth).await {
            error!(channel = %id, %error, "the chain cannot be watched");
        }
    }

    fn arrived(&mut self, htlc: IncomingHtlc) {
        self.underway.push(self.services.tell_switch(SwitchEvent::Incoming(Box::new(htlc))));
    }

    fn switch_effect(&mut self, effect: SwitchEffect) {
        match effect {
            SwitchEffect::Offer { channel, add } if self.slots.contains_key(&channel) => {
                self.event(channel, Event::Add(add));
            }
            SwitchEffect::Settle { channel, id, settlement } if self.slots.contains_key(&channel) => {
                self.settle(channel, id, settlement);
            }
            effect => self.underway.extend(self.services.switch_effect(effect)),
        }
    }

    pub(super) fn fulfilled(&mut self, origin: Origin, outgoing: HtlcRef, preimage: PaymentPreimage) {
        if let Origin::Payment(attempt) = origin {
            self.underway.push(self.services.payment_fulfilled(attempt, preimage));
        } else {
            self.underway.extend(self.services.forward_fulfilled(origin, outgoing, preimage));
        }
    }

    pub(super) fn failed(&mut self, origin: Origin, outgoing: HtlcRef, failure: HtlcFailure) {
        if let Origin::Payment(attempt) = origin {
            self.underway.push(self.services.payment_failed(attempt, &failure));
        } else {
            self.underway.extend(self.services.forward_failed(origin, outgoing, failure));
        }
    }

    fn refused(&mut self, origin: Origin, cause: CannotAdd) {
        if let Origin::Payment(attempt) = origin {
            self.underway.push(self.services.payment_refused(attempt, &cause));
        } else {
            self.underway.extend(self.services.forward_refused(origin, cause));
        }
    }
}

/// Whether the switch has to know: that there is a channel, or its names.
fn is_news_of_link(notice: &Notice) -> bool {
    matches!(notice, Notice::Established { .. } | Notice::StateChanged { .. } | Notice::Confirmed { .. })
}

async fn receive(link: &mut Option<Connected>, messages: &mut Vec<Incoming>) {
    match link {
        Some(connected) => {
            if connected.incoming.recv_many(messages, TURN).await == 0 {
                messages.push(Err(ConnectionError::Closed));
            }
        }
        None => std::future::pending().await,
    }
}
