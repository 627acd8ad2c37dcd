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

use std::collections::{BTreeMap, VecDeque};

use bitcoin::{Transaction, TxOut};

use super::dark::Dark;
use super::enforcing::NodeEnvironment;
use super::items::*;
pub(super) use super::node::node_key;
use super::node::{Node, Outlook, Stored};
use super::opening::{Base, OPENING_TIP, YOUNG_TIP};
pub(super) use super::truth::{Breach, Close, Truth};
use super::wallet::{self, Wallet};
use crate::channel::*;
use crate::onchain::tests::chain::Chain;
use crate::payment::incoming::{InvoiceCtx, InvoiceEffect};
use crate::payment::outgoing::PaymentEffect;
use crate::payment::route::Route;
use crate::switch::*;
use crate::types::*;
use crate::wire::Message;

pub(super) const NODES: usize = 6;
pub(super) const EDGES: [(usize, usize); 8] = [(0, 1), (1, 2), (1, 2), (2, 3), (3, 4), (4, 5), (1, 4), (0, 2)];

/// Two nodes' connection and what is on its way over it, to the lesser node first.
#[derive(Default)]
pub(super) struct Wire {
    pub connected: bool,
    pub queues: [VecDeque<Message>; 2],
}

pub(super) struct Network {
    pub base: &'static Base,
    pub nodes: Vec<Node>,
    pub wires: BTreeMap<(usize, usize), Wire>,
    pub chain: Chain,
    pub now: UnixTime,
    pub truth: Truth,
    pub bug: Bug,
    pub limits: Limits,
    /// What the effects of a commit lead to at once, before anything else that waits.
    pub followups: Vec<Item>,
    /// Nobody closes a channel.
    pub peaceful: bool,
    /// Funding transactions may be taken back.
    pub storms: bool,
    /// Who is cut from the chain, and what it has broadcast in vain.
    pub dark: Option<Dark>,
    pub unheard: Vec<(Vec<Transaction>, Transaction)>,
    /// What each commit led to, where somebody compares.
    pub trace: Option<Vec<String>>,
}

impl Network {
    pub fn new(base: &'static Base, bug: Bug) -> Self {
        let stored = |index: usize| Stored {
            rows: base.stores[index].clone(),
            tip: base.tip,
            wallet: Wallet::of(index),
            outlook: Outlook::mild(),
        };
        let nodes: Vec<Node> = (0..NODES).map(|index| Node::load(base, index, stored(index), bug).0).collect();
        let mut chain = Chain::new(OPENING_TIP.0 - 1);
        chain.minimum = FeeratePerKw::FLOOR.0;
        chain.set_floor(FeeratePerKw::FLOOR.0);
        for (edge, funding) in base.edges.iter().zip(&base.fundings) {
            chain.add(
                funding.input[0].previous_output,
                TxOut { value: edge.capacity, script_pubkey: wallet::outside() },
            );
            chain.force(funding.clone());
        }
        while chain.tip < base.tip {
            chain.mine();
        }
        let wires = EDGES.iter().map(|edge| (*edge, Wire::default())).collect();
        let mut network = Self {
            base,
            nodes,
            wires,
            chain,
            now: UnixTime(1_700_000_000),
            truth: Truth::default(),
            bug,
            limits: Limits::default(),
            followups: Vec::new(),
            peaceful: true,
            storms: base.tip == YOUNG_TIP,
            dark: None,
            unheard: Vec::new(),
            trace: None,
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

    pub fn channels_between(&self, pair: (usize, usize)) -> Vec<ChannelId> {
        let edges = self.base.edges.iter().filter(|edge| edge.ends == pair);
        edges.map(|edge| edge.channel).collect()
    }

    pub fn other(&self, node: usize, channel: &ChannelId) -> usize {
        let (a, b) = self.base.edge(channel).ends;
        if a == node { b } else { a }
    }

    // Events.

    /// Handles items of one node and commits what follows from them together.
    pub fn turn(&mut self, node: usize, items: Vec<Item>, crash: Crash) {
        let outboxes = items.into_iter().flat_map(|item| self.handle(node, item)).collect();
        self.commit(node, outboxes, crash);
    }

    fn handle(&mut self, index: usize, item: Item) -> Vec<Outbox<NodeEffect>> {
        let now = self.now;
        let node = &mut self.nodes[index];
        let InvoiceCtx { tip, trust, .. } = node.invoice_ctx(now);
        let out = match item {
            Item::Channel(channel, event) => return self.channel_event(index, channel, event),
            Item::Tip(channel, height) => return self.channel_event(index, channel, Event::NewTip(height)),
            Item::StillOpen(channel, tip) => {
                if self.nodes[index].channels.contains_key(&channel) && !self.is_enforced(index, &channel) {
                    self.push(index, Item::Switch(SwitchEvent::StillOpen { channel, tip }));
                }
                return Vec::new();
            }
            Item::ForceClose(channel) => return self.channel_event(index, channel, Event::ForceClose),
            Item::Closed(channel) => {
                self.push(index, Item::Switch(SwitchEvent::Closed(channel)));
                self.closed(index, channel);
                self.nodes[index].invoices.channel_closed(&channel).convert()
            }
            Item::Enforce { channel, events, tip } => return self.enforce_all(index, channel, events, tip),
            Item::Resolved(channel) => return self.resolved(index, channel),
            Item::Erase(channel) => {
                let out: Outbox = erase(&channel, node.store.0.keys().copied());
                // It may be over for another reason than that its close is final.
                node.wallet.put_back_all(&channel);
                out.tag(&channel).convert()
            }
            Item::Switch(event) => {
                let ctx = SwitchCtx { now, tip, trust, node_secret: &node.secret, limits: &self.limits };
                node.switch.handle(event, &ctx).convert()
            }
            Item::Receive(arrived) => {
                let hash = arrived.htlc.payment_hash;
                let stored = if node.invoices.open(&hash).is_some() { None } else { node.stored_invoice(&hash) };
                node.invoices.arrived(*arrived, stored, &node.invoice_ctx(now)).convert()
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
        };
        vec![out]
    }

    pub fn channel_event(&mut self, index: usize, channel: ChannelId, event: Event) -> Vec<Outbox<NodeEffect>> {
        let is_forgotten = match (&event, self.bug) {
            (Event::Settle { settlement: Settlement::Fulfill(_), .. }, Bug::UnusedPreimages)
            | (Event::Restarted, Bug::ForgottenEnforcements) => self.is_enforced(index, &channel),
            _ => false,
        };
        if is_forgotten {
            return Vec::new();
        }
        let (now, node) = (self.now, &mut self.nodes[index]);
        let ctx = node.ctx(now);
        let Node { channels, switch, wallet, outlook, .. } = node;
        let environment = NodeEnvironment { switch, wallet, outlook };
        let ctx = Ctx { environment: &environment, ..ctx };
        match (channels.get_mut(&channel), event) {
            (Some(core), event) => {
                let origin = if let Event::Add(add) = &event { Some(add.origin) } else { None };
                let out = core.handle(event, &ctx);
                let out = out.unwrap_or_else(|error| panic!("{index}: {error} in {channel}"));
                let added = core.offered().find(|(_, one)| origin == Some(*one)).map(|(htlc, _)| htlc.id);
                if let (Some(_), Some(id)) = (origin, added) {
                    self.take_on(index, index, HtlcRef { channel, id });
                }
                vec![out.tag(&channel).convert()]
            }
            (None, Event::Add(add)) => {
                self.refused(index, add.origin, CannotAdd::Offline);
                Vec::new()
            }
            (None, _) => Vec::new(),
        }
    }

    pub fn commit(&mut self, index: usize, outboxes: Vec<Outbox<NodeEffect>>, crash: Crash) {
        if crash == Crash::BeforeCommit && self.bug != Bug::EffectsBeforeCommit {
            return self.restart(index);
        }
        let before = (crash == Crash::BeforeCommit).then(|| self.nodes[index].store.0.clone());
        let effects = Outbox::commit_all(outboxes, &mut self.nodes[index].store).unwrap();
        self.truth.commits += 1;
        if let Some(trace) = &mut self.trace {
            trace.extend(effects.iter().flatten().map(|effect| format!("{index}: {effect:?}")));
        }
        for effect in effects.iter().flatten() {
            self.witness(index, effect);
        }
        if crash == Crash::AfterCommit {
            return self.restart(index);
        }
        // A connection that is cut makes the other end commit meanwhile: what this node waits with is not the other's.
        let of_another = std::mem::take(&mut self.followups);
        for effect in effects.into_iter().flatten() {
            self.effect(index, effect);
        }
        for item in std::mem::take(&mut self.followups).into_iter().rev() {
            self.nodes[index].lanes.entry(item.lane()).or_default().push_front(item);
        }
        self.followups = of_another;
        self.look_at_new_outputs(index);
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
            NodeEffect::Invoice(InvoiceEffect::Decide(arrived)) => self.push(node, Item::Receive(arrived)),
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
            Effect::Incoming(htlc) => {
                if htlc.must_fail.is_none() {
                    self.take_on(node, self.other(node, &channel), HtlcRef { channel, id: htlc.id });
                }
                self.push(node, Item::Switch(SwitchEvent::Incoming(htlc)));
            }
            Effect::Fulfilled { .. } if self.bug == Bug::SilentPreimages && self.is_enforced(node, &channel) => {}
            Effect::Fulfilled { origin, htlc, preimage, payment_hash } => {
                assert_eq!(preimage.hash(), payment_hash);
                self.truth.from_chain[0] += usize::from(self.is_enforced(node, &channel));
                self.fulfilled(node, origin, HtlcRef { channel, id: htlc }, preimage);
            }
            Effect::Failed { origin, htlc, failure, .. } => {
                self.truth.from_chain[1] += usize::from(self.is_enforced(node, &channel));
                self.note_given_up(node, &channel, htlc, origin);
                self.failed(node, origin, HtlcRef { channel, id: htlc }, failure);
            }
            Effect::Refused { origin, cause } => self.refused(node, origin, cause),
            Effect::Notice(Notice::ProtocolViolation(ProtocolViolation::HtlcDeadline { .. })) if !self.peaceful => {
                self.truth.deadlines += 1
            }
            Effect::Notice(Notice::ProtocolViolation(
                ProtocolViolation::FeeOverexposes { .. }
                | ProtocolViolation::FeerateTooLow { .. }
                | ProtocolViolation::SmallHtlcsExpired { .. },
            )) if !self.peaceful => self.truth.fee_closes += 1,
            Effect::Notice(Notice::ProtocolViolation(ProtocolViolation::PeerFailed(_))) if !self.peaceful => {}
            Effect::Notice(Notice::ProtocolViolation(wrong)) => panic!("{node} holds its peer for wrong: {wrong}"),
            Effect::Notice(notice @ (Notice::DataLoss | Notice::PeerDataLoss)) => panic!("{node}: {notice:?}"),
            // An HTLC has expired before it was signed.
            Effect::Disconnect => {
                self.truth.hang_ups += 1;
                let other = self.other(node, &channel);
                self.cut((node.min(other), node.max(other)));
            }
            Effect::Closing { .. } if self.peaceful => panic!("{node}: nobody closes here"),
            Effect::Closing { transaction, kind } => {
                let is_known = matches!(kind, SpendKind::Local | SpendKind::Remote(_));
                assert!(is_known || self.truth.is_breached(&channel), "{node}: {transaction}, {kind:?}");
                self.followups.push(Item::Closed(channel));
            }
            Effect::Broadcast(transaction) => drop(self.broadcast(node, &[], &transaction)),
            Effect::Watch { outpoint, .. } => self.watch(node, channel, outpoint),
            Effect::Onchain(effect) => self.onchain_effect(node, channel, *effect),
            Effect::Forget => {
                self.nodes[node].channels.remove(&channel);
                self.nodes[node].view.forget(&channel);
                self.followups.push(Item::Erase(channel));
                self.push(node, Item::Switch(SwitchEvent::LinkGone(channel)));
            }
            Effect::Notice(_)
            | Effect::WatchFunding { .. }
            | Effect::FeeRefused { .. }
            | Effect::Final { .. }
            | Effect::BumpClosingFee { .. }
            | Effect::TowerBackup { .. }
            | Effect::CloseRefused(_)
            | Effect::Fund { .. }
            | Effect::ReleaseFunding { .. } => {}
        }
    }

    pub fn fulfilled(&mut self, node: usize, origin: Origin, outgoing: HtlcRef, preimage: PaymentPreimage) {
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

    pub fn failed(&mut self, node: usize, origin: Origin, outgoing: HtlcRef, failure: HtlcFailure) {
        let item = match (origin, HtlcRef::of_origin(origin)) {
            (Origin::Payment(attempt), _) => Item::Payment(PaymentNews::Failed(attempt, failure)),
            (_, Some(incoming)) => Item::Switch(SwitchEvent::Failed { incoming, outgoing, failure }),
            (Origin::Forward { .. }, None) => unreachable!(),
        };
        self.push(node, item);
    }

    fn refused(&mut self, node: usize, origin: Origin, cause: CannotAdd) {
        let item = match (origin, HtlcRef::of_origin(origin)) {
            (Origin::Payment(attempt), _) => Item::Payment(PaymentNews::Refused(attempt, cause)),
            (_, Some(incoming)) => Item::Switch(SwitchEvent::Refused { incoming, cause }),
            (Origin::Forward { .. }, None) => unreachable!(),
        };
        self.push(node, item);
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
            SwitchEffect::PolicyChanged { .. } | SwitchEffect::Ask(_) => {}
        }
    }
}
