//! Both nodes, the wire between them, and the chain that both see.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use leyden_channels::channel::{
    AcceptOverrides, AcceptRequest, AddHtlc, AttemptId, Channel, ChannelType, ClosingDelay, Ctx, Effect, Event,
    FundingDepth, IncomingHtlc, Notice, OpenOverrides, OpenRequest, Origin, Outbox, Publisher, SpendKind, StateName,
};
use leyden_channels::keys::{KeysSigner, PerCommitmentSecret};
use leyden_channels::onchain::{self, ClosingChannel};
use leyden_channels::types::{
    ChannelId, CltvExpiry, CommitmentType, FeeratePerKw, Height, Msat, NodeId, PaymentHash, PaymentPreimage,
    ShortChannelId,
};
use leyden_channels::wire::{Message, OnionRoutingPacket};

use super::checks;
use super::node::{KeptRows, Node, Outcome, ctx};
use crate::input::Input;

/// One of the two nodes. Alice opens the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Alice,
    Bob,
}

impl Who {
    pub const BOTH: [Self; 2] = [Self::Alice, Self::Bob];

    fn other(self) -> Self {
        match self {
            Self::Alice => Self::Bob,
            Self::Bob => Self::Alice,
        }
    }
}

/// When a node dies within its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Never,
    BeforeCommit,
    AfterCommit,
}

const CAPACITY: u64 = 1_000_000;
const START: Height = Height(100);
/// Two cores that are told nothing new come to rest after far fewer messages.
const REST: usize = 2_000;
/// Waits of a negotiation that one run sees the end of.
const MOST_RESTS: usize = 6;
/// Attempts whose preimages are known; more are not made.
const MOST_ATTEMPTS: u64 = 60;
/// Sent messages that are kept for a replay.
const REMEMBERED: usize = 40;

pub struct World {
    nodes: [Node; 2],
    /// Messages on their way to each node.
    inbox: [VecDeque<Vec<u8>>; 2],
    /// The latest messages that were sent to each node.
    sent: [Vec<Vec<u8>>; 2],
    crash: [Crash; 2],
    connected: bool,
    tip: Height,
    next_attempt: u64,
    funding: Option<Transaction>,
    /// What was broadcast to spend the funding output.
    spends: Vec<Transaction>,
    /// The one that is in a block, and its height.
    confirmed: Option<(Transaction, Height)>,
    /// Nothing has happened for which one honest node might accuse the other of a violation.
    honest: bool,
}

fn preimage(attempt: u64) -> PaymentPreimage {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&attempt.to_be_bytes());
    PaymentPreimage(bytes)
}

/// The preimage of a payment that one of the two has made.
pub fn preimage_of(hash: &PaymentHash) -> Option<PaymentPreimage> {
    static KNOWN: OnceLock<Vec<(PaymentHash, PaymentPreimage)>> = OnceLock::new();
    let pair = |attempt| (preimage(attempt).hash(), preimage(attempt));
    let known = KNOWN.get_or_init(|| (0..MOST_ATTEMPTS).map(pair).collect());
    known.iter().find(|(known, _)| known == hash).map(|(_, preimage)| *preimage)
}

pub fn wallet_script(who: Who) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([who as u8 + 1; 20]))
}

fn signer(who: Who) -> Arc<KeysSigner> {
    Arc::new(KeysSigner::from_channel_seed(&[who as u8 + 1; 32]).expect("keys"))
}

fn kind_of(setup: u8) -> CommitmentType {
    if setup & 1 == 0 { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey }
}

impl World {
    /// `open_channel` is on its way. The bits of `setup`: the commitments' form, a gift, an agreed script, trust.
    pub fn opening(setup: u8) -> Self {
        let signers = Who::BOTH.map(signer);
        let policy = leyden_channels::channel::ChannelPolicy::default();
        let start = ctx(&policy, START);
        let commitment = kind_of(setup);
        let trusts_funder = setup & 8 != 0;
        let request = OpenRequest {
            remote_node: NodeId([3; 33]),
            temporary_channel_id: ChannelId([7; 32]),
            keys_id: [1; 32],
            capacity: Amount::from_sat(CAPACITY),
            push: Msat(if setup & 2 == 0 { 0 } else { 400_000_000 }),
            feerate: FeeratePerKw(1000),
            channel_type: ChannelType { commitment, scid_alias: false, zero_conf: setup & 16 != 0 && trusts_funder },
            announce: false,
            overrides: OpenOverrides { zero_conf: trusts_funder, ..OpenOverrides::default() },
            shutdown_script: wallet_script(Who::Alice),
            commit_to_script: setup & 4 != 0,
            alias: ShortChannelId(1),
            large_channels: true,
        };
        let (channel, outbox) = Channel::open(request, signers[0].clone(), &start).expect("an opening by the rules");
        let nodes = [Node::new(Some(channel), signers[0].clone()), Node::new(None, signers[1].clone())];
        let mut world = Self::of(nodes);
        world.commit(Who::Alice, outbox);
        let open = world.inbox[1].pop_front().map(|bytes| Message::decode(&bytes));
        let Some(Ok(Message::OpenChannel(open))) = open else { panic!("open_channel goes out first: {open:?}") };
        let accept = AcceptRequest {
            remote_node: NodeId([2; 33]),
            keys_id: [2; 32],
            overrides: AcceptOverrides::default(),
            shutdown_script: wallet_script(Who::Bob),
            commit_to_script: setup & 4 != 0,
            alias: ShortChannelId(2),
            large_channels: true,
            minimum_depth: 0,
            trusts_funder,
        };
        let accepted = Channel::accept(*open, accept, signers[1].clone(), &start);
        let (channel, outbox) = accepted.expect("an opening by the rules");
        world.node(Who::Bob).channel = Some(channel);
        world.commit(Who::Bob, outbox);
        world
    }

    fn of(nodes: [Node; 2]) -> Self {
        Self {
            nodes,
            inbox: Default::default(),
            sent: Default::default(),
            crash: [Crash::Never; 2],
            connected: true,
            tip: START,
            next_attempt: 0,
            funding: None,
            spends: Vec::new(),
            confirmed: None,
            honest: true,
        }
    }

    /// A channel in use, both nodes just restarted and connected. The bit of `setup` is the commitments' form.
    pub fn ready(setup: u8) -> Self {
        static READY: [OnceLock<(Transaction, [KeptRows; 2])>; 2] = [OnceLock::new(), OnceLock::new()];
        let (funding, rows) = READY[usize::from(setup & 1)].get_or_init(|| {
            let mut world = Self::opening(setup & 1 | 2);
            world.run();
            world.confirm_funding(6);
            world.run();
            let rows = Who::BOTH.map(|who| world.node(who).store.rows.clone());
            (world.funding.expect("the channel is funded"), rows)
        });
        let mut world = Self::of(Who::BOTH.map(|who| Node::new(None, signer(who))));
        world.funding = Some(funding.clone());
        world.connected = false;
        for (who, rows) in Who::BOTH.into_iter().zip(rows) {
            world.node(who).store.rows = rows.clone();
            world.restart(who);
        }
        world.connect();
        world.run();
        for who in Who::BOTH {
            assert_eq!(world.node(who).channel.as_ref().map(Channel::state_name), Some(StateName::Normal));
        }
        world
    }

    /// Payments have been made both ways, and two are on their way.
    pub fn busy() -> Self {
        let mut world = Self::ready(0);
        for (who, amount) in [(Who::Alice, 50_000_000), (Who::Bob, 20_000_000), (Who::Alice, 1_000)] {
            world.add(who, Msat(amount));
            world.run();
            let htlc = world.pick_incoming(who.other(), 0).expect("the HTLC has arrived");
            let settlement = leyden_channels::channel::Settlement::Fulfill(
                world.preimage(&htlc.payment_hash).expect("a payment of ours"),
            );
            world.event(who.other(), Event::Settle { id: htlc.id, settlement });
            world.run();
        }
        for who in Who::BOTH {
            world.add(who, Msat(30_000_000));
            world.event(who, Event::Flush);
        }
        world.deliver(Who::Bob);
        world
    }

    pub fn take_rows(mut self) -> KeptRows {
        std::mem::take(&mut self.node(Who::Alice).store.rows)
    }

    fn node(&mut self, who: Who) -> &mut Node {
        &mut self.nodes[who as usize]
    }

    /// From here on an honest node may have cause to accuse the other of a violation.
    pub fn may_differ(&mut self) {
        self.honest = false;
    }

    pub fn event(&mut self, who: Who, event: Event) {
        let tip = self.tip;
        let node = &mut self.nodes[who as usize];
        let Some(channel) = &mut node.channel else { return };
        let described = format!("{event:?}");
        let ctx: Ctx<'_> = ctx(&node.policy, tip);
        let outbox = channel.handle(event, &ctx).unwrap_or_else(|error| panic!("{who:?}: {error} after {described}"));
        match std::mem::replace(&mut self.crash[who as usize], Crash::Never) {
            Crash::Never => self.commit(who, outbox),
            Crash::BeforeCommit => self.restart(who),
            Crash::AfterCommit => {
                let Ok(_effects) = Outbox::commit_all(vec![outbox], &mut self.node(who).store);
                self.restart(who);
            }
        }
    }

    fn commit(&mut self, who: Who, outbox: Outbox) {
        let writes = outbox.needs_commit();
        let Ok(effects) = Outbox::commit_all(vec![outbox], &mut self.node(who).store);
        if writes {
            let funding = self.funding.as_ref().map(|funding| &funding.output[0]);
            checks::after_commit(&mut self.nodes[who as usize], funding);
        }
        for effect in effects.into_iter().flatten() {
            self.effect(who, effect);
        }
    }

    fn effect(&mut self, who: Who, effect: Effect) {
        match effect {
            Effect::Send(message) => {
                if let Message::RevokeAndAck(revocation) = &message {
                    let summary = self.node(who).channel.as_ref().and_then(Channel::summary);
                    let established = summary.and_then(|summary| summary.established).expect("an established channel");
                    let secret = PerCommitmentSecret(revocation.per_commitment_secret);
                    self.node(who).release(&secret, established.local_commitment);
                }
                self.send(who.other(), &message);
            }
            Effect::Disconnect => self.cut(),
            Effect::Fund { script, amount } => {
                let transaction = funding_transaction(script, amount);
                self.funding = Some(transaction.clone());
                self.event(who, Event::Funded { transaction, output: 0, publisher: Publisher::Channel });
            }
            Effect::Broadcast(transaction) => self.broadcast(who, transaction),
            Effect::Incoming(htlc) => {
                let told = self.node(who).incoming.entry(htlc.id).or_insert_with(|| (*htlc).clone());
                let same = IncomingHtlc { must_fail: told.must_fail, ..*htlc };
                assert_eq!(*told, same, "an incoming HTLC stays the same");
            }
            Effect::Fulfilled { origin, payment_hash, preimage, .. } => {
                assert_eq!(preimage.hash(), payment_hash);
                self.outcome(who, origin, Outcome::Fulfilled);
            }
            Effect::Failed { origin, .. } => self.outcome(who, origin, Outcome::Failed),
            Effect::Refused { origin, .. } => self.outcome(who, origin, Outcome::Refused),
            Effect::Closing { kind: SpendKind::Local, .. } => {
                let channel = self.node(who).channel.as_ref().expect("it closes");
                if let Some(close) = channel.local_close().expect("our own commitment") {
                    let number = close.commitment.number;
                    self.node(who).broadcast = Some(number);
                    assert!(self.node(who).released <= number.0, "{who:?} broadcasts what it has revoked");
                }
            }
            Effect::Notice(Notice::ProtocolViolation(violation)) => {
                assert!(!self.honest, "{who:?} takes offence: {violation}")
            }
            Effect::Notice(Notice::DataLoss) => panic!("{who:?} believes that it has lost data"),
            _ => {}
        }
    }

    fn send(&mut self, to: Who, message: &Message) {
        let bytes = message.encode().expect("our own message");
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(message));
        if self.connected {
            let sent = &mut self.sent[to as usize];
            sent.truncate(REMEMBERED - 1);
            sent.insert(0, bytes.clone());
            self.inbox[to as usize].push_back(bytes);
        }
    }

    fn outcome(&mut self, who: Who, origin: Origin, outcome: Outcome) {
        let Origin::Payment(attempt) = origin else { return };
        let before = self.node(who).outcomes.get(&attempt).copied();
        let is_told_again = before.is_none() || before == Some(outcome);
        // What was fulfilled stays so, whatever follows.
        assert!(
            is_told_again || before == Some(Outcome::Fulfilled),
            "{who:?} {attempt:?}: {before:?}, then {outcome:?}"
        );
        if is_told_again {
            self.node(who).outcomes.insert(attempt, outcome);
        }
    }

    fn funding_outpoint(&self) -> Option<OutPoint> {
        self.funding.as_ref().map(|funding| OutPoint { txid: funding.compute_txid(), vout: 0 })
    }

    fn broadcast(&mut self, who: Who, transaction: Transaction) {
        let Some(outpoint) = self.funding_outpoint() else { panic!("{who:?} broadcasts {transaction:?}") };
        if transaction.input.iter().all(|input| input.previous_output != outpoint) {
            return;
        }
        let output = self.funding.as_ref().map(|funding| funding.output[0].clone());
        checks::execute(&transaction, output.expect("the channel is funded"));
        if !self.spends.contains(&transaction) {
            self.spends.push(transaction);
        }
    }

    /// The node's next step ends in a crash.
    pub fn crash_next(&mut self, who: Who, crash: Crash) {
        self.crash[who as usize] = crash;
    }

    /// The node dies and comes back with what it has committed.
    pub fn restart(&mut self, who: Who) {
        self.crash[who as usize] = Crash::Never;
        self.node(who).channel = self.node(who).stored();
        if self.connected {
            self.connected = false;
            self.inbox = Default::default();
            self.event(who.other(), Event::Disconnected);
        }
        self.event(who, Event::Restarted);
    }

    pub fn cut(&mut self) {
        if std::mem::replace(&mut self.connected, false) {
            self.inbox = Default::default();
            Who::BOTH.into_iter().for_each(|who| self.event(who, Event::Disconnected));
        }
    }

    pub fn connect(&mut self) {
        if !std::mem::replace(&mut self.connected, true) {
            Who::BOTH.into_iter().for_each(|who| self.event(who, Event::Connected));
        }
    }

    pub fn deliver(&mut self, who: Who) {
        if let Some(bytes) = self.inbox[who as usize].pop_front() {
            self.receive(who, &bytes);
        }
    }

    /// As a driver does it: what cannot be decoded ends the connection, what names another channel is another's.
    fn receive(&mut self, who: Who, bytes: &[u8]) {
        let id = self.node(who).channel.as_ref().map(Channel::id);
        match Message::decode(bytes) {
            Ok(message) if message.channel_id().is_some() && message.channel_id() == id => {
                self.event(who, Event::Message(message));
            }
            Ok(_) => {}
            Err(_) => self.cut(),
        }
    }

    /// Delivers and flushes until nothing moves. Where a channel wants to wait before its next flush, it waits for quiet,
    /// and some times only: a negotiation may go on for as many blocks as it may take.
    pub fn run(&mut self) {
        let mut rests = 0;
        for _ in 0..REST {
            let mut moved = false;
            for who in Who::BOTH {
                moved |= !self.inbox[who as usize].is_empty();
                self.deliver(who);
                let wants = |channel: &Channel| channel.wants_flush() && channel.closing_delay().is_none();
                if self.inbox[who as usize].is_empty() && self.node(who).channel.as_ref().is_some_and(wants) {
                    self.event(who, Event::Flush);
                    moved = true;
                }
            }
            if !moved {
                rests += 1;
                if rests > MOST_RESTS || !self.end_a_rest() {
                    return;
                }
            }
        }
        panic!("the two never come to rest");
    }

    /// Time passes, and the shorter rests end first.
    fn end_a_rest(&mut self) -> bool {
        for rest in [ClosingDelay::Signature, ClosingDelay::Negotiation] {
            for who in Who::BOTH {
                if self.node(who).channel.as_ref().and_then(Channel::closing_delay) == Some(rest) {
                    self.event(who, Event::Flush);
                    return true;
                }
            }
        }
        false
    }

    /// What must hold at the end, whatever has happened: whoever has a channel gets its money on the chain.
    pub fn end(mut self) {
        let Some(output) = self.funding.as_ref().map(|funding| funding.output[0].clone()) else { return };
        for who in Who::BOTH {
            let Some(channel) = self.node(who).stored() else { continue };
            let closing = channel.closing_channel(wallet_script(who)).expect("our own channel").expect("it is durable");
            let kept = ClosingChannel { local_may_be_revoked: false, ..closing.clone() };
            assert_eq!(ClosingChannel::decode(&closing.encode()), Ok(kept));
            let closed = matches!(channel.state_name(), StateName::Closing | StateName::Closed);
            if let Some(close) = channel.local_close().expect("our own commitment") {
                checks::execute(&close.transaction, output.clone());
                assert!(self.node(who).released <= close.commitment.number.0);
            } else {
                assert!(closed, "{who:?} cannot close alone in state {}", channel.state_name());
            }
        }
    }
}

/// Payments.
impl World {
    pub fn add(&mut self, who: Who, amount: Msat) {
        if self.next_attempt >= MOST_ATTEMPTS {
            return;
        }
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        let add = AddHtlc {
            origin: Origin::Payment(AttemptId(attempt)),
            amount,
            payment_hash: preimage(attempt).hash(),
            cltv_expiry: CltvExpiry(self.tip.0 + 500),
            onion: OnionRoutingPacket(Box::new([attempt as u8; OnionRoutingPacket::LEN])),
            path_key: None,
        };
        self.event(who, Event::Add(Box::new(add)));
    }

    pub fn preimage(&self, hash: &PaymentHash) -> Option<PaymentPreimage> {
        preimage_of(hash)
    }

    /// One of the HTLCs that were offered to the node, answered already or not.
    pub fn pick_incoming(&mut self, who: Who, choice: usize) -> Option<IncomingHtlc> {
        let incoming = &self.node(who).incoming;
        incoming.values().rev().nth(choice % incoming.len().max(1)).cloned()
    }
}

/// The chain.
impl World {
    fn both(&mut self, event: &Event) {
        Who::BOTH.into_iter().for_each(|who| self.event(who, event.clone()));
    }

    pub fn blocks(&mut self, count: u32) {
        // Deadlines come, and each side may have its own opinion on who has missed one.
        self.may_differ();
        self.tip = Height(self.tip.0 + count);
        self.both(&Event::NewTip(self.tip));
    }

    pub fn confirm_funding(&mut self, confirmations: u32) {
        let Some(output) = self.funding.as_ref().map(|funding| funding.output[0].clone()) else { return };
        if confirmations == 0 {
            return self.both(&Event::FundingUnconfirmed);
        }
        let height = Height(self.tip.0 + 1 - confirmations);
        self.both(&Event::FundingDepth(FundingDepth { height, index: 1, confirmations, output }));
    }

    pub fn mempool_spend(&mut self, choice: usize) {
        let Some(transaction) = self.spend(choice) else { return };
        self.tell_spent(transaction, None);
    }

    pub fn confirm_spend(&mut self, choice: usize) {
        let Some(transaction) = self.spend(choice) else { return };
        self.confirmed = Some((transaction.clone(), self.tip));
        self.tell_spent(transaction, Some(self.tip));
    }

    /// One of the spends that were broadcast, unless one is in the chain.
    fn spend(&self, choice: usize) -> Option<Transaction> {
        let open = self.confirmed.is_none().then_some(&self.spends)?;
        open.get(choice % open.len().max(1)).cloned()
    }

    fn tell_spent(&mut self, transaction: Transaction, height: Option<Height>) {
        self.may_differ();
        let event = onchain::Event::Spent { tx: transaction, height };
        self.both(&Event::Chain { event, tip: self.tip });
        for who in Who::BOTH {
            let summary = self.node(who).channel.as_ref().and_then(Channel::summary);
            let Some(spend) = summary.and_then(|summary| summary.spend) else { continue };
            match spend.kind {
                SpendKind::Mutual | SpendKind::Local | SpendKind::Remote(_) => {}
                SpendKind::Revoked(number) => panic!("{who:?} may punish the other for state {number:?}"),
                SpendKind::LocalOld(_) | SpendKind::Unknown => panic!("{who:?} does not know what closed the channel"),
                SpendKind::Future(number) => panic!("{who:?} does not know state {number:?}"),
            }
        }
    }

    pub fn reorganise(&mut self, back: u32) {
        let to = Height(self.tip.0.saturating_sub(back).max(START.0 - 10));
        if self.confirmed.as_ref().is_some_and(|(_, height)| *height > to) {
            self.confirmed = None;
        }
        self.may_differ();
        self.both(&Event::Reorganized { to });
        self.both(&Event::NewTip(self.tip));
    }

    /// The spend is deep enough that nobody doubts it any more.
    pub fn bury(&mut self) {
        if self.confirmed.is_some() {
            self.both(&Event::CloseConfirmed);
        }
    }
}

/// Lies.
impl World {
    /// The next message to `who` arrives as something else.
    pub fn lie(&mut self, who: Who, alter: impl FnOnce(&[u8], &[u8]) -> Vec<u8>) {
        let Some(bytes) = self.inbox[who as usize].pop_front() else { return };
        self.may_differ();
        let older = self.sent[who as usize].last().cloned().unwrap_or_default();
        let altered = alter(&bytes, &older);
        self.receive(who, &altered);
    }

    pub fn lose(&mut self, who: Who) {
        self.may_differ();
        self.inbox[who as usize].pop_front();
    }

    pub fn repeat(&mut self, who: Who) {
        if let Some(bytes) = self.inbox[who as usize].front().cloned() {
            self.may_differ();
            self.inbox[who as usize].push_front(bytes);
        }
    }

    /// The next message comes after all others.
    pub fn hold_back(&mut self, who: Who) {
        if let Some(bytes) = self.inbox[who as usize].pop_front() {
            self.may_differ();
            self.inbox[who as usize].push_back(bytes);
        }
    }

    /// An older message once more.
    pub fn replay(&mut self, who: Who, choice: usize) {
        let sent = &self.sent[who as usize];
        let Some(bytes) = sent.get(choice % sent.len().max(1)).cloned() else { return };
        if self.connected {
            self.may_differ();
            self.receive(who, &bytes);
        }
    }

    /// A message that nobody has sent, about this channel.
    pub fn make_up(&mut self, who: Who, input: &mut Input<'_>) {
        /// Those that begin with the channel's id.
        const TYPES: [u16; 15] = [1, 17, 34, 35, 36, 38, 39, 128, 130, 131, 132, 133, 134, 135, 136];
        let Some(id) = self.node(who).channel.as_ref().map(Channel::id) else { return };
        let number = TYPES[input.index(TYPES.len())];
        let bytes = [&number.to_be_bytes()[..], &id.0, input.short()].concat();
        if self.connected {
            self.may_differ();
            self.receive(who, &bytes);
        }
    }
}

fn funding_transaction(script: ScriptBuf, amount: Amount) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[1; 71].as_slice(), &[2; 33]]),
        }],
        output: vec![TxOut { value: amount, script_pubkey: script }],
    }
}
