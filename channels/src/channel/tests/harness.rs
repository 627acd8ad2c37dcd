//! Two channel cores, a store each, and a wire between them.
//!
//! Promises: after every step the stored record is read back and compared, every satoshi is accounted for, and every
//! commitment, HTLC and closing transaction that a node could broadcast is signed and executed by our own interpreter.
//! A step can be cut short by a crash before or after its commit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use bitcoin::absolute::LockTime;
use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

use super::checks;
use crate::channel::FixedEnvironment;
use crate::channel::*;
use crate::keys::curve::tests::{Work, work_of};
use crate::keys::{KeysSigner, Signer};
use crate::onchain::{self, Closer, FeeEstimates};
use crate::tx::ClaimInput;
use crate::types::*;
use crate::wire::{Message, OnionRoutingPacket};

/// One of the two nodes. Alice opens the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Alice,
    Bob,
}

impl Who {
    pub const BOTH: [Self; 2] = [Self::Alice, Self::Bob];

    pub fn other(self) -> Self {
        match self {
            Self::Alice => Self::Bob,
            Self::Bob => Self::Alice,
        }
    }
}

/// When a node dies within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Never,
    BeforeCommit,
    AfterCommit,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub rows: BTreeMap<Key, Vec<u8>>,
    pub commits: usize,
    pub bytes: usize,
}

impl Persist for Store {
    type Error = Infallible;

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Infallible> {
        self.commits += 1;
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    assert_eq!(Key::decode(&key.encode()), Some(key));
                    self.bytes += value.len();
                    self.rows.insert(key, value);
                }
                Write::Delete { key } => {
                    self.rows.remove(&key);
                }
            }
        }
        Ok(())
    }
}

/// How an attempt to pay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Fulfilled,
    Failed(HtlcFailure),
    Refused(CannotAdd),
}

/// A node: its channel, its store, and what it has heard from its channel.
pub(crate) struct Node {
    pub channel: Channel,
    pub store: Store,
    pub signer: Arc<dyn Signer + Send + Sync>,
    pub policy: ChannelPolicy,
    pub feerates: Feerates,
    pub trust: TipTrust,
    /// Messages on their way to this node.
    pub inbox: VecDeque<Vec<u8>>,
    /// Incoming HTLCs that wait for an answer.
    pub incoming: BTreeMap<HtlcId, IncomingHtlc>,
    pub outcomes: BTreeMap<AttemptId, Outcome>,
    pub notices: Vec<Notice>,
    /// HTLCs of the other side that have ended for good.
    pub ended: Vec<(HtlcId, FinalHtlc)>,
    pub refusals: Vec<CloseRefused>,
    pub broadcasts: Vec<Transaction>,
    /// Closing transactions for which a child shall pay.
    pub raises: Vec<(Transaction, FeeratePerKw)>,
    pub local_close: Option<Box<SeenClose>>,
    pub remote_close: Option<Box<SeenClose>>,
    pub forgotten: bool,
    /// The names of the messages that it has sent since the last look.
    pub sent: Vec<&'static str>,
    pub executed: checks::Executed,
    /// Whether a `ProtocolViolation` is what the test wants.
    pub tolerant: bool,
    pub towers: TestTowers,
    /// What its channel has done on the curve since the last look.
    pub work: Work,
    /// Whether its channel prepares what comes next after each event, and what that has cost since the last look.
    pub prepares: bool,
    pub prepared: Work,
}

/// What a node's towers do, seen from its channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestTowers {
    pub policy: TowerPolicy,
    /// They do not answer by themselves.
    pub silent: bool,
    /// What the towers have, whatever becomes of the node.
    pub held: Option<CommitmentNumber>,
    /// Queued, and not acknowledged to this run of the node.
    pub asked: Option<CommitmentNumber>,
    /// What this run of the channel was told.
    pub told: Option<CommitmentNumber>,
    /// The newest commitment of the peer that was signed.
    pub signed: Option<CommitmentNumber>,
    /// How often a signature had to wait, and how many queued states were built again.
    pub waited: usize,
    pub rebuilt: usize,
}

/// A channel between two nodes, and the world that both see.
pub(crate) struct TestChannel {
    pub nodes: [Node; 2],
    pub connected: bool,
    pub tip: Height,
    pub preimages: HashMap<PaymentHash, PaymentPreimage>,
    pub funding: Option<Transaction>,
    next_attempt: u64,
    coins: bool,
    publisher: Publisher,
    /// Of both nodes' keys.
    pub seed: u64,
}

/// What a test channel is opened with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub capacity: u64,
    pub push: Msat,
    pub kind: CommitmentType,
    pub policy: [ChannelPolicy; 2],
    pub feerate: FeeratePerKw,
    pub commit_to_script: bool,
    /// Bob uses Alice's channel before it is confirmed.
    pub trusts_funder: bool,
    /// The channel's type says so too.
    pub zero_conf: bool,
    /// Alice's wallet can pay.
    pub coins: bool,
    /// Who broadcasts the funding transaction.
    pub publisher: Publisher,
    /// Sets the keys apart, so that no two schedules sign the same.
    pub seed: u64,
}

impl Setup {
    pub fn new(capacity: u64, kind: CommitmentType) -> Self {
        Self {
            capacity,
            push: Msat(0),
            kind,
            policy: [ChannelPolicy::default(), ChannelPolicy::default()],
            feerate: FeeratePerKw(1000),
            commit_to_script: false,
            trusts_funder: false,
            zero_conf: false,
            coins: true,
            publisher: Publisher::Channel,
            seed: 0,
        }
    }

    pub fn push(mut self, sat: u64) -> Self {
        self.push = Msat(sat * 1000);
        self
    }

    /// Open, confirmed and ready.
    pub fn ready(self) -> TestChannel {
        let mut test = self.established();
        test.confirm(6);
        test.run();
        for node in &test.nodes {
            assert_eq!(node.channel.state_name(), StateName::Normal);
        }
        test
    }

    /// Both first commitments signed, funding transaction broadcast.
    pub fn established(self) -> TestChannel {
        let mut test = self.proposed();
        test.run();
        for who in Who::BOTH {
            assert_eq!(test[who].channel.state_name(), StateName::Funding, "{:?}", test[who].notices);
        }
        test
    }

    /// `open_channel` sent, `accept_channel` on its way.
    pub fn proposed(self) -> TestChannel {
        let signers: [Arc<dyn Signer + Send + Sync>; 2] = [0, 1].map(|index| {
            let signer = KeysSigner::from_channel_seed(&channel_seed(self.seed, index)).unwrap();
            Arc::new(signer) as Arc<dyn Signer + Send + Sync>
        });
        let tip = Height(100);
        let feerates = Feerates::default();
        let [alice, bob] = &self.policy;
        let (channel, outbox) = Channel::open(
            OpenRequest {
                remote_node: node_id(Who::Bob),
                temporary_channel_id: ChannelId([7; 32]),
                keys_id: [1; 32],
                capacity: Amount::from_sat(self.capacity),
                push: self.push,
                feerate: self.feerate,
                channel_type: ChannelType { commitment: self.kind, scid_alias: false, zero_conf: self.zero_conf },
                announce: false,
                overrides: OpenOverrides { zero_conf: self.trusts_funder, ..OpenOverrides::default() },
                shutdown_script: wallet_script(Who::Alice),
                commit_to_script: self.commit_to_script,
                alias: ShortChannelId(1),
                large_channels: true,
            },
            signers[0].clone(),
            &ctx(alice, feerates, tip),
        )
        .unwrap();
        let mut first = Node::new(channel, signers[0].clone(), alice.clone(), feerates);
        let effects = Outbox::commit_all(vec![outbox], &mut first.store).unwrap();
        let open = effects.into_iter().flatten().find_map(|effect| match effect {
            Effect::Send(Message::OpenChannel(open)) => Some(*open),
            _ => None,
        });
        let (channel, outbox) = Channel::accept(
            open.unwrap(),
            AcceptRequest {
                remote_node: node_id(Who::Alice),
                keys_id: [2; 32],
                overrides: AcceptOverrides::default(),
                shutdown_script: wallet_script(Who::Bob),
                commit_to_script: self.commit_to_script,
                alias: ShortChannelId(2),
                large_channels: true,
                minimum_depth: 0,
                trusts_funder: self.trusts_funder,
            },
            signers[1].clone(),
            &ctx(bob, feerates, tip),
        )
        .unwrap();
        let second = Node::new(channel, signers[1].clone(), bob.clone(), feerates);
        let mut test = TestChannel {
            nodes: [first, second],
            connected: true,
            tip,
            preimages: HashMap::new(),
            funding: None,
            next_attempt: 0,
            coins: self.coins,
            publisher: self.publisher,
            seed: self.seed,
        };
        test.commit(Who::Bob, vec![outbox], Crash::Never);
        test
    }
}

impl Node {
    fn new(channel: Channel, signer: Arc<dyn Signer + Send + Sync>, policy: ChannelPolicy, feerates: Feerates) -> Self {
        Self {
            channel,
            signer,
            policy,
            feerates,
            trust: TipTrust::Current,
            store: Store::default(),
            inbox: VecDeque::new(),
            incoming: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            notices: Vec::new(),
            ended: Vec::new(),
            refusals: Vec::new(),
            broadcasts: Vec::new(),
            raises: Vec::new(),
            local_close: None,
            remote_close: None,
            forgotten: false,
            sent: Vec::new(),
            executed: checks::Executed::default(),
            tolerant: false,
            towers: TestTowers::default(),
            work: Work::new(),
            prepares: false,
            prepared: Work::new(),
        }
    }

    pub(super) fn established(&self) -> &state::Established {
        self.channel.established().expect("the channel is established")
    }

    pub fn commitments(&self) -> &commitment::Commitments {
        &self.established().commitments
    }

    pub fn balance(&self) -> Msat {
        self.commitments().local.spec.balance.local
    }

    /// The names of the messages that this node has sent since the last call.
    pub fn take_sent(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.sent)
    }

    pub fn live_rows(&self) -> impl Iterator<Item = (Key, Vec<u8>)> {
        let prefix = Key::all_live_prefix();
        self.store
            .rows
            .iter()
            .filter(move |(key, _)| key.encode().starts_with(&prefix))
            .map(|(key, value)| (*key, value.clone()))
    }

    /// Dies and comes back with what it has committed.
    fn reload(&mut self) {
        let signer = self.signer.clone();
        let earlier = self.store.rows.iter().filter(|(key, _)| matches!(key, Key::Closing(_) | Key::Resolution(_)));
        let rows: Vec<_> = self.live_rows().chain(earlier.map(|(key, value)| (*key, value.clone()))).collect();
        self.channel = Channel::restore(rows, |_| Some(signer)).unwrap();
        self.incoming.clear();
        // An acknowledgement on its way is lost.
        (self.towers.asked, self.towers.told) = (None, None);
        let next = self.channel.established().and_then(|channel| channel.commitments.remote.next());
        self.towers.signed = self.towers.signed.max(next.map(|next| next.number));
    }
}

impl std::ops::Index<Who> for TestChannel {
    type Output = Node;

    fn index(&self, who: Who) -> &Node {
        &self.nodes[who as usize]
    }
}

impl std::ops::IndexMut<Who> for TestChannel {
    fn index_mut(&mut self, who: Who) -> &mut Node {
        &mut self.nodes[who as usize]
    }
}

impl TestChannel {
    /// A channel with anchors whose capacity is Alice's, `sat` satoshis.
    pub fn funded(sat: u64) -> Setup {
        Setup::new(sat, CommitmentType::Anchors)
    }

    /// Hands `events` to a node as one batch with one commit.
    pub fn events(&mut self, who: Who, events: Vec<Event>, crash: Crash) {
        let mut outboxes = Vec::new();
        for event in events {
            let node = &mut self.nodes[who as usize];
            let towers = node.towers.policy;
            let ctx = Ctx { trust: node.trust, towers, ..ctx(&node.policy, node.feerates, self.tip) };
            let described = format!("{event:?}");
            if let Event::TowersHold { up_to } = &event {
                node.towers.told = *up_to;
            }
            let (handled, work) = work_of(|| node.channel.handle(event, &ctx));
            for (operation, times) in work {
                *node.work.entry(operation).or_default() += times;
            }
            if node.prepares {
                let ((), work) = work_of(|| node.channel.prepare());
                for (operation, times) in work {
                    *node.prepared.entry(operation).or_default() += times;
                }
            }
            match handled {
                Ok(outbox) => outboxes.push(outbox),
                Err(error) => panic!("{who:?}: {error} after {described}"),
            }
        }
        self.commit(who, outboxes, crash);
    }

    pub fn event(&mut self, who: Who, event: Event) {
        self.events(who, vec![event], Crash::Never);
    }

    fn commit(&mut self, who: Who, outboxes: Vec<Outbox>, crash: Crash) {
        if crash == Crash::BeforeCommit {
            return self.restart(who);
        }
        let effects = Outbox::commit_all(outboxes, &mut self[who].store).unwrap();
        checks::after_commit(self, who);
        if crash == Crash::AfterCommit {
            return self.restart(who);
        }
        for effect in effects.into_iter().flatten() {
            self.effect(who, effect);
        }
    }

    /// The node dies: the connection ends, and it restarts from its store.
    pub fn restart(&mut self, who: Who) {
        self[who].reload();
        if self.connected {
            self.hang_up();
            self.event(who.other(), Event::Disconnected);
        }
        self.event(who, Event::Restarted);
    }

    fn effect(&mut self, who: Who, effect: Effect) {
        match effect {
            Effect::Send(message) => {
                self[who].sent.push(message.name());
                if matches!(message, Message::CommitmentSigned(_)) {
                    checks::signed_with_towers(self, who);
                }
                if self.connected {
                    let bytes = message.encode().unwrap();
                    assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
                    self[who.other()].inbox.push_back(bytes);
                }
            }
            Effect::Disconnect => self.cut(),
            Effect::Fund { .. } if !self.coins => {
                self.event(who, Event::FundingRefused { reason: "the wallet is empty".to_owned() });
            }
            Effect::BumpClosingFee { transaction, feerate } => self[who].raises.push((transaction, feerate)),
            Effect::Fund { script, amount } => {
                let transaction = funding_transaction(script, amount);
                self.funding = Some(transaction.clone());
                self.event(who, Event::Funded { transaction, output: 0, publisher: self.publisher });
            }
            Effect::Broadcast(transaction) => {
                checks::execute_broadcast(self, &transaction);
                self[who].broadcasts.push(transaction);
            }
            Effect::Incoming(htlc) => {
                self[who].incoming.insert(htlc.id, *htlc);
            }
            Effect::Fulfilled { origin, payment_hash, preimage, .. } => {
                assert_eq!(preimage.hash(), payment_hash);
                self.outcome(who, origin, Outcome::Fulfilled);
            }
            Effect::Failed { origin, failure, .. } => self.outcome(who, origin, Outcome::Failed(failure)),
            Effect::Refused { origin, cause } => self.outcome(who, origin, Outcome::Refused(cause)),
            Effect::CloseRefused(refused) => self[who].refusals.push(refused),
            Effect::TowerBackup { number } => {
                checks::queued_for_towers(self, who, number);
                self[who].towers.asked = Some(number);
            }
            Effect::Closing { kind, .. } => {
                let close = Some(Box::new(SeenClose::of(&self[who], kind)));
                match kind {
                    SpendKind::Local => self[who].local_close = close,
                    _ => self[who].remote_close = close,
                }
            }
            Effect::Notice(notice) => {
                if let Notice::ProtocolViolation(wrong) = &notice
                    && !self[who].tolerant
                {
                    panic!("{who:?} holds the other for wrong: {wrong}");
                }
                self[who].notices.push(notice);
            }
            Effect::Forget => self[who].forgotten = true,
            Effect::WatchFunding { .. }
            | Effect::Watch { .. }
            | Effect::ReleaseFunding { .. }
            | Effect::FeeRefused { .. }
            | Effect::Onchain(_) => {}
            Effect::Final { htlc, end } => self[who].ended.push((htlc, end)),
        }
    }

    fn outcome(&mut self, who: Who, origin: Origin, outcome: Outcome) {
        let Origin::Payment(attempt) = origin else { return };
        let before = self[who].outcomes.insert(attempt, outcome.clone());
        assert!(
            before.is_none() || before == Some(outcome.clone()),
            "{who:?} {attempt:?}: {before:?}, now {outcome:?}"
        );
    }

    /// The connection ends; what was on its way is lost.
    pub fn cut(&mut self) {
        if !self.connected {
            return;
        }
        self.hang_up();
        for who in Who::BOTH {
            self.event(who, Event::Disconnected);
        }
    }

    fn hang_up(&mut self) {
        self.connected = false;
        for who in Who::BOTH {
            self[who].inbox.clear();
        }
    }

    pub fn connect(&mut self) {
        assert!(!self.connected);
        self.connected = true;
        for who in Who::BOTH {
            self.event(who, Event::Connected);
        }
    }

    pub fn reconnect(&mut self) {
        self.cut();
        self.connect();
        self.run();
    }

    /// Delivers the oldest message to `who`, if there is one.
    pub fn deliver(&mut self, who: Who) -> bool {
        match self.next_message(who) {
            Some(event) => {
                self.event(who, event);
                true
            }
            None => false,
        }
    }

    pub fn next_message(&mut self, who: Who) -> Option<Event> {
        let bytes = self[who].inbox.pop_front()?;
        Some(Event::Message(Message::decode(&bytes).unwrap()))
    }

    /// Delivers and flushes until nothing moves.
    pub fn run(&mut self) {
        loop {
            let mut moved = false;
            for who in Who::BOTH {
                while self.deliver(who) {
                    moved = true;
                }
                if self[who].channel.wants_flush() && self[who].channel.closing_delay().is_none() {
                    self.event(who, Event::Flush);
                    moved = true;
                }
            }
            if !moved && !self.end_a_rest() && !self.towers_answer() {
                return;
            }
        }
    }

    fn towers_answer(&mut self) -> bool {
        let mut moved = false;
        for who in Who::BOTH {
            moved |= !self[who].towers.silent && self.acknowledge(who, Crash::Never);
        }
        moved
    }

    /// The towers have what was queued, and the channel hears of it, unless it crashes; whether there was something to hear.
    pub fn acknowledge(&mut self, who: Who, crash: Crash) -> bool {
        let towers = &mut self[who].towers;
        let Some(asked) = towers.asked.take() else { return false };
        towers.held = towers.held.max(Some(asked));
        let up_to = towers.held;
        self[who].store.rows.retain(|key, _| !matches!(key, Key::TowerBackup { number, .. } if Some(*number) <= up_to));
        self.events(who, vec![Event::TowersHold { up_to }], crash);
        true
    }

    /// Other towers, or fewer that are required.
    pub fn set_towers(&mut self, who: Who, policy: TowerPolicy) {
        self[who].towers.policy = policy;
        let up_to = self[who].towers.told;
        self.event(who, Event::TowersHold { up_to });
    }

    /// Time passes, and the shorter rests end first.
    fn end_a_rest(&mut self) -> bool {
        for rest in [ClosingDelay::Signature, ClosingDelay::Negotiation] {
            for who in Who::BOTH {
                if self[who].channel.closing_delay() == Some(rest) {
                    self.event(who, Event::Flush);
                    return true;
                }
            }
        }
        false
    }

    /// The funding transaction is `confirmations` deep.
    pub fn confirm(&mut self, confirmations: u32) {
        let (_, output) = self.funding_output();
        let depth = FundingDepth { height: Height(self.tip.0 - confirmations + 1), index: 1, confirmations, output };
        for who in Who::BOTH {
            self.event(who, Event::FundingDepth(depth.clone()));
        }
    }

    /// An HTLC to offer, with a preimage that the receiver knows.
    pub fn htlc(&mut self, amount: Msat) -> (AttemptId, AddHtlc) {
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let preimage = PaymentPreimage(bitcoin::hashes::sha256::Hash::hash(&attempt.0.to_be_bytes()).to_byte_array());
        self.preimages.insert(preimage.hash(), preimage);
        let add = AddHtlc {
            origin: Origin::Payment(attempt),
            amount,
            payment_hash: preimage.hash(),
            cltv_expiry: CltvExpiry(self.tip.0 + 500),
            onion: OnionRoutingPacket(Box::new([attempt.0 as u8; 1366])),
            path_key: None,
        };
        (attempt, add)
    }

    pub fn add(&mut self, who: Who, amount: Msat) -> AttemptId {
        let (attempt, add) = self.htlc(amount);
        self.event(who, Event::Add(Box::new(add)));
        attempt
    }

    /// The receiver fulfills the incoming HTLC with this id.
    pub fn fulfill(&mut self, who: Who, id: HtlcId) {
        let htlc = self[who].incoming.remove(&id).expect("the HTLC is there");
        let preimage = self.preimages[&htlc.payment_hash];
        self.event(who, Event::Settle { id, settlement: Settlement::Fulfill(preimage) });
    }

    pub fn fail(&mut self, who: Who, id: HtlcId) {
        self[who].incoming.remove(&id).expect("the HTLC is there");
        self.event(who, Event::Settle { id, settlement: Settlement::Fail { reason: vec![7; 292] } });
    }

    /// A payment from `who` to the other, all the way.
    pub fn pay(&mut self, who: Who, amount: Msat) {
        let attempt = self.add(who, amount);
        self.run();
        let id = *self[who.other()].incoming.keys().next_back().expect("the HTLC has arrived");
        self.fulfill(who.other(), id);
        self.run();
        assert_eq!(self[who].outcomes.get(&attempt), Some(&Outcome::Fulfilled));
    }

    /// Both sides hold the same commitment, seen from either end.
    pub fn assert_in_sync(&self) {
        for who in Who::BOTH {
            let (mine, theirs) = (self[who].commitments(), self[who.other()].commitments());
            assert!(mine.remote.next().is_none());
            assert_eq!(checks::mirrored(&mine.remote.current.spec), theirs.local.spec);
            assert_eq!(mine.remote.current.number, theirs.local.number);
            assert_eq!(checks::mirrored(&mine.local.spec), theirs.local.spec);
        }
    }

    pub fn channel_id(&self) -> ChannelId {
        self[Who::Alice].channel.id()
    }

    pub fn funding_output(&self) -> (OutPoint, TxOut) {
        let transaction = self.funding.as_ref().unwrap();
        (OutPoint { txid: transaction.compute_txid(), vout: 0 }, transaction.output[0].clone())
    }
}

pub(crate) fn ctx(policy: &ChannelPolicy, feerates: Feerates, tip: Height) -> Ctx<'_> {
    let trust = TipTrust::Current;
    let environment = &*ENVIRONMENT;
    let (now, towers) = (UnixTime(1_700_000_000), TowerPolicy::None);
    Ctx { chain: ChainHash::REGTEST, now, tip, trust, feerates, policy, towers, environment }
}

static ENVIRONMENT: LazyLock<FixedEnvironment> = LazyLock::new(FixedEnvironment::default);

/// The funding output is spent.
pub(crate) fn spent(transaction: Transaction, height: Option<Height>) -> Event {
    Event::Chain { event: onchain::Event::Spent { tx: transaction, height }, tip: height.unwrap_or(TIP) }
}

/// The tip of those who have seen a spend in the mempool alone.
const TIP: Height = Height(100);

/// What a node knows of the close of its channel when it is told of it.
#[derive(Clone)]
pub(crate) struct SeenClose {
    pub transaction: Transaction,
    pub kind: SpendKind,
    pub height: Option<Height>,
    pub closer: Closer,
    /// What is ours alone, once the transaction is in a block.
    pub claims: Vec<ClaimInput>,
}

impl SeenClose {
    fn of(node: &Node, kind: SpendKind) -> Self {
        let closing = node.established().closing().expect("the channel closes");
        let ours = || node.established().local_close().unwrap().transaction;
        let transaction = closing.transaction.clone().filter(|_| kind != SpendKind::Local).unwrap_or_else(ours);
        let mut resolution = closing.resolution.clone();
        let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(500)), onchain::EnforcementPolicy::default());
        let ctx = onchain::Ctx { tip: TIP, newest: TIP, estimates: &estimates, policy: &policy, signer: &*node.signer };
        let spent = onchain::Event::Spent { tx: transaction.clone(), height: Some(TIP) };
        let _ = resolution.handle(spent, &ctx).unwrap();
        let own = resolution.outputs().filter(|output| output.role.is_ours_alone());
        let claims = own.filter_map(|output| output.claim.clone()).collect();
        let height = closing.spend.as_ref().and_then(|spend| spend.height);
        Self { transaction, kind, height, closer: resolution.closer().unwrap().clone(), claims }
    }
}

pub(crate) fn wallet_script(who: Who) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([who as u8 + 1; 20]))
}

pub(super) fn channel_seed(seed: u64, index: u8) -> [u8; 32] {
    let mut bytes = [index + 1; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes
}

fn node_id(who: Who) -> NodeId {
    NodeId([who as u8 + 2; 33])
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
