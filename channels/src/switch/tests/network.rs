//! Six nodes in one process: channels, switch, invoices and payments of each, a store each, and wires between them.
//!
//! ```text
//!        ┌───────────── 4 ─── 5
//!        │              │
//!   0 ── 1 ═══ 2 ─────── 3          1 and 2 have two channels
//!   └──────────┘
//! ```
//!
//! Each state machine of a node has a lane of events of its own; which lane moves next is drawn at random, so that
//! channels, switch, invoices and payments are as concurrent as a driver's tasks. What several lanes did goes into one
//! commit, and a node may die before or after it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use secp256k1::{PublicKey, SecretKey};

use super::opening::{Base, ctx};
use super::single::Store;
use crate::channel::*;
use crate::keys::secp;
use crate::payment::incoming::{Arrived, Invoice, InvoiceEffect, Invoices};
use crate::payment::outgoing::{Payment, PaymentEffect, PaymentRequest, Payments};
use crate::payment::record;
use crate::payment::route::Route;
use crate::switch::*;
use crate::types::*;
use crate::wire::Message;

pub(super) const NODES: usize = 6;
pub(super) const EDGES: [(usize, usize); 8] = [(0, 1), (1, 2), (1, 2), (2, 3), (3, 4), (4, 5), (1, 4), (0, 2)];

/// When a node dies within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    Never,
    BeforeCommit,
    AfterCommit,
}

/// A mistake that a driver could make, planted to see that the checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// A restart does not read the owed settlements.
    ForgottenSettlements,
    /// A restart does not read which onions were seen.
    ForgottenOnions,
    /// A restart does not tell the switch of the HTLCs that were offered.
    ForgottenCircuits,
    /// The effects of a commit happen although the commit was lost.
    EffectsBeforeCommit,
}

/// What a lane holds.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Channel(ChannelId, Event),
    Switch(SwitchEvent),
    Receive(Box<Arrived>),
    Payment(PaymentNews),
}

#[derive(Clone, Debug)]
pub(super) enum PaymentNews {
    FindRoutes { request: Box<PaymentRequest>, amount: Msat },
    Fulfilled(AttemptId, PaymentPreimage),
    Failed(AttemptId, HtlcFailure),
    Refused(AttemptId, CannotAdd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Channel(ChannelId),
    Switch,
    Invoices,
    Payments,
}

impl Item {
    fn lane(&self) -> Lane {
        match self {
            Self::Channel(channel, _) => Lane::Channel(*channel),
            Self::Switch(_) => Lane::Switch,
            Self::Receive(_) => Lane::Invoices,
            Self::Payment(_) => Lane::Payments,
        }
    }
}

/// The effects of every state machine in one type.
pub(super) enum NodeEffect {
    Channel(ChannelId, Effect),
    Switch(SwitchEffect),
    Invoice(InvoiceEffect),
    Payment(PaymentEffect),
}

impl From<(ChannelId, Effect)> for NodeEffect {
    fn from((channel, effect): (ChannelId, Effect)) -> Self {
        Self::Channel(channel, effect)
    }
}

impl From<SwitchEffect> for NodeEffect {
    fn from(effect: SwitchEffect) -> Self {
        Self::Switch(effect)
    }
}

impl From<InvoiceEffect> for NodeEffect {
    fn from(effect: InvoiceEffect) -> Self {
        Self::Invoice(effect)
    }
}

impl From<PaymentEffect> for NodeEffect {
    fn from(effect: PaymentEffect) -> Self {
        Self::Payment(effect)
    }
}

pub(super) struct Node {
    pub secret: SecretKey,
    pub channels: BTreeMap<ChannelId, Channel>,
    pub switch: Switch,
    pub invoices: Invoices,
    pub payments: Payments,
    pub store: Store,
    pub lanes: BTreeMap<Lane, VecDeque<Item>>,
}

/// Two nodes' connection and what is on its way over it, to the lesser node first.
#[derive(Default)]
pub(super) struct Wire {
    pub connected: bool,
    pub queues: [VecDeque<Message>; 2],
}

/// What the test knows and no node does.
#[derive(Default)]
pub(super) struct Truth {
    /// Every HTLC that a node offered for a payment of its own.
    pub attempts: BTreeMap<(usize, AttemptId), Route>,
    pub fulfilled: BTreeSet<(usize, AttemptId)>,
    /// Which HTLC each forwarded packet came from.
    pub packets: HashMap<(usize, [u8; 32]), HtlcRef>,
    /// Attempts that repeat the onion of another one.
    pub repeated: HashSet<(usize, AttemptId)>,
    pub restarts: usize,
    /// Settlements that a restart found: of HTLCs that were to be fulfilled, and to be failed.
    pub owed: [usize; 2],
    /// HTLCs on their way that a restart found.
    pub resumed: usize,
    pub commits: usize,
    pub forwards: usize,
    pub news: usize,
    /// Packets offered lately, to be repeated.
    pub lately: Vec<(usize, Route, AddHtlc)>,
}

pub(super) struct Network {
    pub base: &'static Base,
    pub nodes: Vec<Node>,
    pub wires: BTreeMap<(usize, usize), Wire>,
    pub tip: Height,
    pub now: UnixTime,
    pub truth: Truth,
    pub bug: Bug,
    pub limits: Limits,
}

impl Network {
    pub fn new(base: &'static Base, bug: Bug) -> Self {
        let nodes = (0..NODES).map(|index| Node::load(base, index, base.stores[index].clone(), bug).0).collect();
        let wires = EDGES.iter().map(|edge| (*edge, Wire::default())).collect();
        let mut network = Self {
            base,
            nodes,
            wires,
            tip: base.tip,
            now: UnixTime(1_700_000_000),
            truth: Truth::default(),
            bug,
            limits: Limits::default(),
        };
        for node in 0..NODES {
            network.restart(node);
        }
        network.truth.restarts = 0;
        network
    }

    pub fn pairs(&self) -> Vec<(usize, usize)> {
        self.wires.keys().copied().collect()
    }

    fn channels_between(&self, pair: (usize, usize)) -> Vec<ChannelId> {
        let edges = self.base.edges.iter().filter(|edge| edge.ends == pair);
        edges.map(|edge| edge.channel).collect()
    }

    fn other(&self, node: usize, channel: &ChannelId) -> usize {
        let (a, b) = self.base.edge(channel).ends;
        if a == node { b } else { a }
    }

    // Events.

    /// Handles items of one node and commits what follows from them together.
    pub fn turn(&mut self, node: usize, items: Vec<Item>, crash: Crash) {
        let outboxes = items.into_iter().map(|item| self.handle(node, item)).collect();
        self.commit(node, outboxes, crash);
    }

    fn handle(&mut self, index: usize, item: Item) -> Outbox<NodeEffect> {
        let (now, tip) = (self.now, self.tip);
        let node = &mut self.nodes[index];
        match item {
            Item::Channel(channel, event) => {
                let described = format!("{event:?}");
                let Some(core) = node.channels.get_mut(&channel) else { panic!("{index} has no {channel}") };
                let out = core.handle(event, &ctx(tip, now));
                out.unwrap_or_else(|error| panic!("{index}: {error} after {described}")).tag(&channel).convert()
            }
            Item::Switch(event) => {
                let ctx = SwitchCtx { now, tip, node_secret: &node.secret, limits: &self.limits };
                node.switch.handle(event, &ctx).convert()
            }
            Item::Receive(arrived) => {
                let hash = arrived.htlc.payment_hash;
                let stored = if node.invoices.open(&hash).is_some() { None } else { node.stored_invoice(&hash) };
                node.invoices.arrived(*arrived, stored, now, tip).convert()
            }
            Item::Payment(PaymentNews::FindRoutes { .. }) => unreachable!("the schedule finds routes"),
            Item::Payment(PaymentNews::Fulfilled(attempt, preimage)) => {
                node.payments.fulfilled(attempt, preimage, now).convert()
            }
            Item::Payment(PaymentNews::Failed(attempt, failure)) => {
                node.payments.failed(attempt, &failure, now).convert()
            }
            Item::Payment(PaymentNews::Refused(attempt, cause)) => {
                node.payments.refused(attempt, &cause, now).convert()
            }
        }
    }

    pub fn commit(&mut self, index: usize, outboxes: Vec<Outbox<NodeEffect>>, crash: Crash) {
        if crash == Crash::BeforeCommit && self.bug != Bug::EffectsBeforeCommit {
            return self.restart(index);
        }
        let before = (crash == Crash::BeforeCommit).then(|| self.nodes[index].store.0.clone());
        let effects = Outbox::commit_all(outboxes, &mut self.nodes[index].store).unwrap();
        self.truth.commits += 1;
        if crash == Crash::AfterCommit {
            return self.restart(index);
        }
        for effect in effects.into_iter().flatten() {
            self.effect(index, effect);
        }
        if let Some(before) = before {
            self.let_escape(index);
            self.nodes[index].store.0 = before;
            self.restart(index);
        }
    }

    /// What a node has sent arrives, and is handled, before the node dies.
    fn let_escape(&mut self, node: usize) {
        for pair in self.pairs().into_iter().filter(|pair| pair.0 == node || pair.1 == node) {
            let other = if pair.0 == node { pair.1 } else { pair.0 };
            while self.deliver(pair, other > node) {}
            for channel in self.channels_between(pair) {
                let items = self.nodes[other].lanes.remove(&Lane::Channel(channel)).unwrap_or_default();
                self.turn(other, items.into(), Crash::Never);
            }
        }
    }

    pub fn push(&mut self, node: usize, item: Item) {
        self.nodes[node].lanes.entry(item.lane()).or_default().push_back(item);
    }

    fn effect(&mut self, node: usize, effect: NodeEffect) {
        match effect {
            NodeEffect::Channel(channel, effect) => self.channel_effect(node, channel, effect),
            NodeEffect::Switch(effect) => self.switch_effect(node, effect),
            NodeEffect::Invoice(InvoiceEffect::Settle { channel, id, settlement }) => {
                self.push(node, Item::Channel(channel, Event::Settle { id, settlement }));
            }
            NodeEffect::Invoice(InvoiceEffect::Updated(_)) | NodeEffect::Payment(PaymentEffect::Updated(_)) => {}
            NodeEffect::Payment(PaymentEffect::FindRoutes { request, amount, .. }) => {
                self.push(node, Item::Payment(PaymentNews::FindRoutes { request, amount }));
            }
            NodeEffect::Payment(PaymentEffect::Offer { route, htlc }) => self.offer(node, *route, *htlc),
        }
    }

    /// A node offers an HTLC of its own to the channel that the route begins with.
    pub fn offer(&mut self, node: usize, route: Route, htlc: AddHtlc) {
        let Origin::Payment(attempt) = htlc.origin else { panic!("no payment: {:?}", htlc.origin) };
        let name = route.first().channel.expect("routes of this test name every channel");
        let channel = self.base.named(name).channel;
        self.truth.attempts.insert((node, attempt), route.clone());
        if !self.truth.repeated.contains(&(node, attempt)) {
            self.truth.lately.push((node, route, htlc.clone()));
        }
        self.push(node, Item::Channel(channel, Event::Add(Box::new(htlc))));
    }

    fn channel_effect(&mut self, node: usize, channel: ChannelId, effect: Effect) {
        match effect {
            Effect::Send(message) => {
                let other = self.other(node, &channel);
                let wire = self.wires.get_mut(&(node.min(other), node.max(other))).unwrap();
                if wire.connected {
                    wire.queues[usize::from(other > node)].push_back(message);
                }
            }
            Effect::Incoming(htlc) => self.push(node, Item::Switch(SwitchEvent::Incoming(htlc))),
            Effect::Fulfilled { origin, htlc, preimage, payment_hash } => {
                assert_eq!(preimage.hash(), payment_hash);
                let outgoing = HtlcRef { channel, id: htlc };
                let item = match (origin, HtlcRef::of_origin(origin)) {
                    (Origin::Payment(attempt), _) => {
                        self.truth.fulfilled.insert((node, attempt));
                        Item::Payment(PaymentNews::Fulfilled(attempt, preimage))
                    }
                    (_, Some(incoming)) => Item::Switch(SwitchEvent::Fulfilled { incoming, outgoing, preimage }),
                    (Origin::Forward { .. }, None) => unreachable!(),
                };
                self.push(node, item);
            }
            Effect::Failed { origin, htlc, failure, .. } => {
                let outgoing = HtlcRef { channel, id: htlc };
                let item = match (origin, HtlcRef::of_origin(origin)) {
                    (Origin::Payment(attempt), _) => Item::Payment(PaymentNews::Failed(attempt, failure)),
                    (_, Some(incoming)) => Item::Switch(SwitchEvent::Failed { incoming, outgoing, failure }),
                    (Origin::Forward { .. }, None) => unreachable!(),
                };
                self.push(node, item);
            }
            Effect::Refused { origin, cause } => {
                let item = match (origin, HtlcRef::of_origin(origin)) {
                    (Origin::Payment(attempt), _) => Item::Payment(PaymentNews::Refused(attempt, cause)),
                    (_, Some(incoming)) => Item::Switch(SwitchEvent::Refused { incoming, cause }),
                    (Origin::Forward { .. }, None) => unreachable!(),
                };
                self.push(node, item);
            }
            Effect::Notice(Notice::PeerWrong(wrong)) => panic!("{node} holds its peer for wrong: {wrong}"),
            Effect::Disconnect | Effect::Forget | Effect::LocalClose(_) | Effect::RemoteClose(_) => {
                panic!("{node}: nobody closes here")
            }
            Effect::Notice(_)
            | Effect::WatchFunding { .. }
            | Effect::WatchSpent { .. }
            | Effect::Broadcast(_)
            | Effect::FeeRefused { .. }
            | Effect::CloseRefused(_)
            | Effect::Enforce(_)
            | Effect::Fund { .. }
            | Effect::ReleaseFunding { .. } => {}
        }
    }

    fn switch_effect(&mut self, node: usize, effect: SwitchEffect) {
        match effect {
            SwitchEffect::Offer { channel, add } => {
                let incoming = HtlcRef::of_origin(add.origin).expect("a forward");
                let known = *self.truth.packets.entry((node, add.onion.sha256())).or_insert(incoming);
                assert_eq!(known, incoming, "{node} forwards an onion a second time");
                self.truth.forwards += 1;
                self.push(node, Item::Channel(channel, Event::Add(add)));
            }
            SwitchEffect::Settle { channel, id, settlement } => {
                self.push(node, Item::Channel(channel, Event::Settle { id, settlement }));
            }
            SwitchEffect::Receive(arrived) => self.push(node, Item::Receive(arrived)),
            SwitchEffect::Htlc(_) => self.truth.news += 1,
            SwitchEffect::PolicyChanged { .. } => {}
        }
    }

    // Connections and crashes.

    pub fn cut(&mut self, pair: (usize, usize)) {
        let wire = self.wires.get_mut(&pair).unwrap();
        if !std::mem::replace(&mut wire.connected, false) {
            return;
        }
        wire.queues.iter_mut().for_each(VecDeque::clear);
        let channels = self.channels_between(pair);
        for node in [pair.0, pair.1] {
            for channel in &channels {
                if let Some(lane) = self.nodes[node].lanes.get_mut(&Lane::Channel(*channel)) {
                    lane.retain(|item| !matches!(item, Item::Channel(_, Event::Message(_))));
                }
                self.turn(node, vec![Item::Channel(*channel, Event::Disconnected)], Crash::Never);
            }
        }
    }

    pub fn connect(&mut self, pair: (usize, usize)) {
        if std::mem::replace(&mut self.wires.get_mut(&pair).unwrap().connected, true) {
            return;
        }
        for channel in self.channels_between(pair) {
            for node in [pair.0, pair.1] {
                // A channel that has restarted hears of that before anything else.
                let lane = self.nodes[node].lanes.entry(Lane::Channel(channel)).or_default();
                if matches!(lane.front(), Some(Item::Channel(_, Event::Restarted))) {
                    let restarted = lane.pop_front();
                    self.turn(node, restarted.into_iter().collect(), Crash::Never);
                }
                self.turn(node, vec![Item::Channel(channel, Event::Connected)], Crash::Never);
            }
        }
    }

    /// Moves the next message of a wire to its channel's lane.
    pub fn deliver(&mut self, pair: (usize, usize), upward: bool) -> bool {
        let wire = self.wires.get_mut(&pair).unwrap();
        let Some(message) = wire.queues[usize::from(upward)].pop_front() else { return false };
        let bytes = message.encode().unwrap();
        let message = Message::decode(&bytes).unwrap();
        let channel = message.channel_id().expect("only channels speak here");
        let node = if upward { pair.1 } else { pair.0 };
        self.push(node, Item::Channel(channel, Event::Message(message)));
        true
    }

    /// A node dies and comes back with what it has committed.
    pub fn restart(&mut self, node: usize) {
        self.truth.restarts += 1;
        let peers = self.pairs().into_iter().filter(|pair| pair.0 == node || pair.1 == node);
        for pair in peers.collect::<Vec<_>>() {
            // Its own state is gone: only the other end hears of it.
            self.forget_wire(pair, node);
        }
        let rows = std::mem::take(&mut self.nodes[node].store.0);
        let (loaded, outboxes) = Node::load(self.base, node, rows, self.bug);
        let owed = loaded.store.0.iter().filter_map(|(key, value)| match key {
            Key::Settlement { .. } => OwedSettlement::decode(value),
            _ => None,
        });
        for owed in owed {
            self.truth.owed[usize::from(!matches!(owed, OwedSettlement::Fulfilled { .. }))] += 1;
        }
        let offered = loaded.channels.values().flat_map(Channel::offered);
        self.truth.resumed += offered.filter(|(_, origin)| HtlcRef::of_origin(*origin).is_some()).count();
        self.nodes[node] = loaded;
        self.commit(node, outboxes, Crash::Never);
        self.recover_payments(node);
        for channel in self.nodes[node].channels.keys().copied().collect::<Vec<_>>() {
            self.push(node, Item::Channel(channel, Event::Restarted));
        }
    }

    fn forget_wire(&mut self, pair: (usize, usize), dead: usize) {
        let wire = self.wires.get_mut(&pair).unwrap();
        if !std::mem::replace(&mut wire.connected, false) {
            return;
        }
        wire.queues.iter_mut().for_each(VecDeque::clear);
        let other = if pair.0 == dead { pair.1 } else { pair.0 };
        for channel in self.channels_between(pair) {
            if let Some(lane) = self.nodes[other].lanes.get_mut(&Lane::Channel(channel)) {
                lane.retain(|item| !matches!(item, Item::Channel(_, Event::Message(_))));
            }
            self.turn(other, vec![Item::Channel(channel, Event::Disconnected)], Crash::Never);
        }
    }

    /// Outcomes that were stored and not processed, then attempts that no channel has.
    fn recover_payments(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let outcomes = node.store.0.iter().filter_map(|(key, value)| match key {
            Key::Outcome(attempt) => Some((*attempt, OwedSettlement::decode(value).unwrap())),
            _ => None,
        });
        let mut outboxes: Vec<Outbox<NodeEffect>> = Vec::new();
        for (attempt, owed) in outcomes.collect::<Vec<_>>() {
            outboxes.push(match owed {
                OwedSettlement::Fulfilled { preimage } => {
                    self.truth.fulfilled.insert((index, attempt));
                    node.payments.fulfilled(attempt, preimage, now).convert()
                }
                OwedSettlement::Failed { failure } => node.payments.failed(attempt, &failure, now).convert(),
            });
        }
        let alive = node.channels.values().flat_map(Channel::offered).filter_map(|(_, origin)| match origin {
            Origin::Payment(attempt) => Some(attempt),
            Origin::Forward { .. } => None,
        });
        let alive: HashSet<AttemptId> = alive.collect();
        outboxes.push(node.payments.restarted(&alive, now).convert());
        self.commit(index, outboxes, Crash::Never);
    }
}

impl Node {
    fn load(base: &Base, index: usize, rows: BTreeMap<Key, Vec<u8>>, bug: Bug) -> (Self, Vec<Outbox<NodeEffect>>) {
        let live = Key::all_live_prefix();
        let mut by_channel: BTreeMap<ChannelId, Vec<(Key, Vec<u8>)>> = BTreeMap::new();
        for (key, value) in rows.iter().filter(|(key, _)| key.encode().starts_with(&live)) {
            by_channel.entry(key.channel().unwrap()).or_default().push((*key, value.clone()));
        }
        let channels: BTreeMap<ChannelId, Channel> = by_channel
            .into_iter()
            .map(|(id, rows)| (id, Channel::restore(rows, |terms| Some(base.signer(&terms.keys_id))).unwrap()))
            .collect();
        let of_switch = rows.iter().filter(|(key, _)| match key {
            Key::Settlement { .. } => bug != Bug::ForgottenSettlements,
            Key::SeenOnion { .. } => bug != Bug::ForgottenOnions,
            Key::Forward(_) | Key::ForwardPolicy(_) => true,
            _ => false,
        });
        let of_switch: Vec<(Key, Vec<u8>)> = of_switch.map(|(key, value)| (*key, value.clone())).collect();
        let (switch, out) = if bug == Bug::ForgottenCircuits {
            Switch::restore(of_switch, std::iter::empty()).unwrap()
        } else {
            Switch::restore(of_switch, channels.values()).unwrap()
        };
        let invoices = rows.iter().filter(|(key, _)| matches!(key, Key::Invoice(_)));
        let invoices = Invoices::restore(invoices.map(|(_, bytes)| record::decode_invoice(bytes).unwrap()));
        let payments = rows.iter().filter(|(key, _)| matches!(key, Key::Payment(_)));
        let payments = Payments::restore(payments.map(|(_, bytes)| record::decode_payment(bytes).unwrap()));
        let secret = node_secret(index);
        let mut node =
            Self { secret, channels, switch, invoices, payments, store: Store(rows), lanes: BTreeMap::new() };
        let mut outboxes = vec![out.convert()];
        if bug == Bug::ForgottenCircuits {
            let none = Limits::default();
            let ctx = SwitchCtx { now: UnixTime(0), tip: base.tip, node_secret: &secret, limits: &none };
            let links: Vec<Link> = node.channels.values().filter_map(Link::of).collect();
            outboxes.extend(
                links.into_iter().map(|link| node.switch.handle(SwitchEvent::Link(Box::new(link)), &ctx).convert()),
            );
        }
        (node, outboxes)
    }

    /// The record of an invoice, whatever has become of it.
    pub fn stored_invoice(&self, hash: &PaymentHash) -> Option<Invoice> {
        let index = self.store.0.get(&Key::InvoiceIndex(*hash))?;
        let index = u64::from_be_bytes(index.as_slice().try_into().unwrap());
        Some(record::decode_invoice(&self.store.0[&Key::Invoice(index)]).unwrap())
    }

    /// The record of a payment.
    pub fn stored_payment(&self, hash: &PaymentHash) -> Option<Payment> {
        let index = self.store.0.get(&Key::PaymentIndex(*hash))?;
        let index = u64::from_be_bytes(index.as_slice().try_into().unwrap());
        Some(record::decode_payment(&self.store.0[&Key::Payment(index)]).unwrap())
    }

    pub fn forwards(&self) -> Vec<ForwardRecord> {
        let rows = self.store.0.iter().filter_map(|(key, value)| match key {
            Key::Forward(number) => Some(ForwardRecord::decode(*number, value).unwrap()),
            _ => None,
        });
        rows.collect()
    }

    pub fn balance(&self) -> Msat {
        let balances = self.channels.values().map(|channel| {
            channel.summary().and_then(|summary| summary.established).expect("established").local_balance.0
        });
        Msat(balances.sum())
    }
}

pub(super) fn node_secret(index: usize) -> SecretKey {
    SecretKey::from_slice(&[0x61 + index as u8; 32]).unwrap()
}

pub(super) fn node_key(index: usize) -> PublicKey {
    node_secret(index).public_key(secp())
}
