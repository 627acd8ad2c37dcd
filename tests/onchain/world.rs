//! Two nodes, a channel between them whose states are made by the real cores, and the chain that both see.
//!
//! Alice opens the channel, so the commitment's fee and both anchors are hers. A cheater is a node that was made of an
//! old copy of its own store, as in life; nothing here signs what a node would not sign.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use bitcoin::{
    Amount, OutPoint, Transaction, TxOut, Txid,
    hashes::{Hash as _, sha256},
};
use leyden_channels::{
    channel::{
        AcceptOverrides, AcceptRequest, AddHtlc, AttemptId, Channel, ChannelType, Ctx, Event, OpenOverrides,
        OpenRequest, Origin, Outbox, Publisher, Settlement, StateName, TowerPolicy,
    },
    onchain,
    tx::fee,
    types::{
        ChannelId, CltvExpiry, CommitmentType, FeeratePerKw, Height, HtlcId, Msat, NodeId, PaymentPreimage,
        ShortChannelId, TipTrust, UnixTime,
    },
    wire::{Message, OnionRoutingPacket},
};

use crate::{
    chain::Chain,
    node::{Crash, Input, Node, Rows},
    wallet::Wallet,
};

pub const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];
/// How long both wait for their own money.
pub const DELAY: u16 = 24;
/// What an anchor is worth.
const ANCHOR: u64 = 330;
/// What each wallet has for fees, in coins of a size that any claim here gets by with.
const COIN: u64 = 400_000;
const COINS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Alice,
    Bob,
}
pub use Who::{Alice, Bob};

impl Who {
    pub fn other(self) -> Self {
        match self {
            Alice => Bob,
            Bob => Alice,
        }
    }

    fn seed(self) -> u8 {
        match self {
            Alice => 0xa1,
            Bob => 0xb0,
        }
    }
}

#[derive(Clone)]
pub struct Setup {
    pub kind: CommitmentType,
    pub capacity: u64,
    /// Bob's share.
    pub push: u64,
    pub feerate: u32,
}

impl Setup {
    pub fn new(kind: CommitmentType) -> Self {
        Self { kind, capacity: 1_000_000, push: 400_000, feerate: 1_000 }
    }
}

pub struct World {
    pub chain: Chain,
    nodes: [Node; 2],
    /// Whoever mines, and gives.
    faucet: Wallet,
    /// Transactions that have nothing to do with the channel.
    others: BTreeSet<Txid>,
    pub setup: Setup,
    pub funding: OutPoint,
    /// The tip when the channel was open.
    pub opened: Height,
    preimages: BTreeMap<(Who, u64), PaymentPreimage>,
    next: u64,
    /// What both owned outside of the channel when it was open.
    before: [Amount; 2],
    /// Nodes that are switched off.
    pub away: Vec<Who>,
}

impl std::ops::Index<Who> for World {
    type Output = Node;

    fn index(&self, who: Who) -> &Node {
        &self.nodes[who as usize]
    }
}

impl std::ops::IndexMut<Who> for World {
    fn index_mut(&mut self, who: Who) -> &mut Node {
        &mut self.nodes[who as usize]
    }
}

impl World {
    /// An open channel on a new chain, both nodes with coins for fees.
    pub fn new(setup: Setup) -> Self {
        let mut faucet = Wallet::new(9);
        let mut chain = Chain::new(&faucet.script(), 1);
        faucet.receive(&chain.block_at(Height(1)).txdata[0]);
        let mut nodes = [Node::new("Alice", Alice.seed()), Node::new("Bob", Bob.seed())];
        for node in &mut nodes {
            node.channel_policy.to_self_delay = DELAY;
            // A hundred blocks teach nothing that twenty do not.
            node.policy.finality = 20;
        }
        let pay = |node: &Node, sat| TxOut { value: Amount::from_sat(sat), script_pubkey: node.wallet.script() };
        let coins = nodes.iter().flat_map(|node| vec![pay(node, COIN); COINS]);
        let gift = coins.chain([pay(&nodes[0], setup.capacity + 1_000)]).collect();
        let gift = faucet.pay(gift, Amount::from_sat(10_000), &chain);
        chain.submit(&gift).expect("a good payment");
        chain.mine();
        nodes.iter_mut().for_each(|node| node.wallet.receive(&gift));
        faucet.receive(&gift);

        let mut world = Self {
            chain,
            nodes,
            faucet,
            others: BTreeSet::new(),
            setup,
            funding: OutPoint::null(),
            opened: Height(0),
            preimages: BTreeMap::new(),
            next: 0,
            before: [Amount::ZERO; 2],
            away: Vec::new(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let Setup { kind, capacity, push, feerate } = self.setup;
        let request = OpenRequest {
            remote_node: NodeId([3; 33]),
            temporary_channel_id: ChannelId([7; 32]),
            keys_id: [1; 32],
            capacity: Amount::from_sat(capacity),
            push: Msat(push * 1000),
            feerate: FeeratePerKw(feerate),
            channel_type: ChannelType { commitment: kind, scid_alias: false, zero_conf: false },
            announce: false,
            overrides: OpenOverrides::default(),
            shutdown_script: self[Alice].destination.clone(),
            commit_to_script: false,
            alias: ShortChannelId(1),
            large_channels: true,
        };
        let tip = self.chain.tip();
        let alice = &mut self[Alice];
        let (channel, outbox) = Channel::open(request, alice.signer.clone(), &context(alice, tip)).expect("good terms");
        alice.channel = Some(channel);
        for effect in Outbox::commit_all(vec![outbox], &mut alice.store).expect("never fails").into_iter().flatten() {
            if let leyden_channels::channel::Effect::Send(message) = effect {
                alice.outbox.push_back(message);
            }
        }
        let Some(Message::OpenChannel(open)) = self[Alice].outbox.pop_front() else { panic!("open_channel") };
        let request = AcceptRequest {
            remote_node: NodeId([2; 33]),
            keys_id: [2; 32],
            overrides: AcceptOverrides::default(),
            shutdown_script: self[Bob].destination.clone(),
            commit_to_script: false,
            alias: ShortChannelId(2),
            large_channels: true,
            minimum_depth: 0,
            trusts_funder: false,
        };
        let bob = &mut self[Bob];
        let accepted = Channel::accept(*open, request, bob.signer.clone(), &context(bob, tip)).expect("good terms");
        bob.channel = Some(accepted.0);
        for effect in Outbox::commit_all(vec![accepted.1], &mut bob.store).expect("never fails").into_iter().flatten() {
            if let leyden_channels::channel::Effect::Send(message) = effect {
                bob.outbox.push_back(message);
            }
        }
        self.talk();
        let (script, amount) = self[Alice].to_fund.take().expect("the wallet is asked");
        let output = TxOut { value: amount, script_pubkey: script };
        // The coin that was made for it is the only one of that size.
        let chain = &self.chain;
        let funding = self.nodes[0].wallet.pay(vec![output], Amount::from_sat(1_000), chain);
        let funded = Event::Funded { transaction: funding, output: 0, publisher: Publisher::Channel };
        self.nodes[0].handle(Input::Channel(funded), chain);
        self.talk();
        self.funding = self[Alice].core().terms().expect("established").funding;
        for _ in 0..6 {
            self.mine(1);
            self.talk();
        }
        for who in [Alice, Bob] {
            assert_eq!(self[who].core().state_name(), StateName::Normal, "{who:?}");
        }
        self.opened = self.chain.tip();
        self.before = [Alice, Bob].map(|who| self.wealth(who));
    }

    /// A node's owner sends the wallet's coins away but this much, and counts anew what is there.
    pub fn sweep_wallet(&mut self, who: Who, left: u64) {
        let (left, fee) = (Amount::from_sat(left), Amount::from_sat(5_000));
        let tx = self.nodes[who as usize].wallet.sweep(&nobody(), left, fee, &self.chain);
        self.submit_other(&tx);
        self[who].wallet.receive(&tx);
        self.mine(1);
        self.rebase();
    }

    /// Somebody pays to a node's wallet, in the next block. It does not count as gained.
    pub fn give(&mut self, who: Who, sat: u64) -> Transaction {
        let value = Amount::from_sat(sat);
        let output = TxOut { value, script_pubkey: self[who].wallet.script() };
        let gift = self.faucet.pay(vec![output], Amount::from_sat(100_000), &self.chain);
        self.submit_other(&gift);
        self.faucet.receive(&gift);
        self[who].wallet.receive(&gift);
        self.before[who as usize] += value;
        self.mine(1);
        gift
    }

    /// Sends the coins of a gift back to the faucet; it does not count as given any more.
    pub fn take_back(&mut self, gift: &Transaction) -> Transaction {
        let back = self.faucet.script();
        let tx = self.faucet.spend_like(gift, &back, Amount::from_sat(1_000), &self.chain);
        self.faucet.receive(&tx);
        self.others.insert(tx.compute_txid());
        tx
    }

    /// A payment that has nothing to do with the channel.
    pub fn submit_other(&mut self, tx: &Transaction) {
        self.others.insert(tx.compute_txid());
        self.chain.submit(tx).expect("a good payment");
    }

    /// So much left a node's wallet for another reason than the channel.
    pub fn lost(&mut self, who: Who, sat: u64) {
        self.before[who as usize] -= Amount::from_sat(sat);
    }

    /// What both own outside of the channel is counted anew.
    pub fn rebase(&mut self) {
        self.before = [Alice, Bob].map(|who| self.wealth(who));
    }

    /// Delivers messages and flushes until nothing moves.
    pub fn talk(&mut self) {
        loop {
            let mut moved = false;
            for who in [Alice, Bob] {
                while let Some(message) = self[who.other()].outbox.pop_front() {
                    self.tell(who, Event::Message(message));
                    moved = true;
                }
                if self[who].core().wants_flush() {
                    self.tell(who, Event::Flush);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    pub fn tell(&mut self, who: Who, event: Event) {
        self.nodes[who as usize].handle(Input::Channel(event), &self.chain);
    }

    pub fn enforce(&mut self, who: Who, event: onchain::Event) {
        self.nodes[who as usize].handle(Input::Onchain(event), &self.chain);
    }

    /// The connection ends.
    pub fn cut(&mut self) {
        for who in [Alice, Bob] {
            self[who].outbox.clear();
            self.tell(who, Event::Disconnected);
        }
    }

    /// Offers an HTLC that is not signed yet; its id.
    pub fn add(&mut self, from: Who, sat: u64, expiry: Height) -> u64 {
        let preimage = PaymentPreimage(sha256::Hash::hash(&self.next.to_be_bytes()).to_byte_array());
        self.next += 1;
        self.add_with(from, sat, expiry, preimage)
    }

    pub fn add_with(&mut self, from: Who, sat: u64, expiry: Height, preimage: PaymentPreimage) -> u64 {
        let last = self.preimages.range((from, 0)..=(from, u64::MAX)).next_back();
        let id = last.map_or(0, |((_, id), _)| id + 1);
        self.preimages.insert((from, id), preimage);
        let add = AddHtlc {
            origin: Origin::Payment(AttemptId(id)),
            amount: Msat(sat * 1000),
            payment_hash: preimage.hash(),
            cltv_expiry: CltvExpiry(expiry.0),
            onion: OnionRoutingPacket(Box::new([0; 1366])),
            path_key: None,
        };
        self.tell(from, Event::Add(Box::new(add)));
        id
    }

    /// Offers an HTLC and commits to it on both sides; its id.
    pub fn offer(&mut self, from: Who, sat: u64, expiry: Height) -> u64 {
        let id = self.add(from, sat, expiry);
        self.talk();
        assert!(self[from.other()].incoming.contains_key(&HtlcId(id)), "HTLC {id} has arrived");
        id
    }

    pub fn preimage_of(&self, offerer: Who, id: u64) -> PaymentPreimage {
        self.preimages[&(offerer, id)]
    }

    /// The receiver settles an HTLC with its preimage.
    pub fn fulfil(&mut self, offerer: Who, id: u64) {
        let settlement = Settlement::Fulfill(self.preimage_of(offerer, id));
        self.tell(offerer.other(), Event::Settle { id: HtlcId(id), settlement });
        self.talk();
    }

    pub fn fail(&mut self, offerer: Who, id: u64) {
        let settlement = Settlement::Fail { reason: vec![7; 292] };
        self.tell(offerer.other(), Event::Settle { id: HtlcId(id), settlement });
        self.talk();
    }

    /// An amount changes hands.
    pub fn pay(&mut self, from: Who, sat: u64) {
        let id = self.offer(from, sat, Height(self.chain.tip().0 + 500));
        self.fulfil(from, id);
    }

    /// The receiver of an HTLC that is on the chain, or will be, learns its preimage.
    pub fn learns(&mut self, offerer: Who, id: u64) {
        let preimage = self.preimage_of(offerer, id);
        self.enforce(offerer.other(), onchain::Event::Preimage(preimage));
    }

    /// What `who` has stored now, to be put back later.
    pub fn copy(&self, who: Who) -> Rows {
        self[who].store.clone()
    }

    /// `who` is stopped, its store is replaced by an old copy, and it starts again without its peer.
    pub fn put_back(&mut self, who: Who, copy: Rows) {
        let old = &self[who];
        let mut node = Node::from_copy(old.name, who.seed(), copy, old.wallet.clone());
        node.policy = old.policy.clone();
        node.estimates = old.estimates.clone();
        node.sent = old.sent.clone();
        self[who] = node;
        self.restart(who);
    }

    /// The nodes find each other again.
    pub fn connect(&mut self) {
        for who in [Alice, Bob] {
            self.tell(who, Event::Connected);
        }
        self.talk();
    }

    pub fn force_close(&mut self, who: Who) {
        self.nodes[who as usize].force_close(&self.chain);
    }

    /// A bug of ours stops the channel of a node.
    pub fn meet_a_bug(&mut self, who: Who) {
        self.nodes[who as usize].meet_a_bug(&self.chain);
    }

    pub fn look(&mut self) {
        // What the one broadcasts, the other sees at once.
        for who in [Alice, Bob, Alice] {
            if !self.away.contains(&who) {
                self.nodes[who as usize].look(&self.chain);
            }
        }
    }

    pub fn look_one(&mut self, who: Who) {
        self.nodes[who as usize].look(&self.chain);
    }

    pub fn restart(&mut self, who: Who) {
        let node = &mut self.nodes[who as usize];
        for input in node.restart(&self.chain) {
            node.handle(input, &self.chain);
        }
    }

    pub fn mine(&mut self, count: u32) {
        for _ in 0..count {
            self.chain.mine();
            self.look();
        }
    }

    pub fn mine_to(&mut self, height: Height) {
        self.mine(height.0.saturating_sub(self.chain.tip().0));
    }

    /// Mines until both nodes are done with the channel, `limit` blocks at most.
    pub fn mine_until_resolved(&mut self, limit: u32) {
        for _ in 0..limit {
            if [Alice, Bob].iter().all(|who| self[*who].is_resolved()) {
                return;
            }
            self.mine(1);
        }
        for who in [Alice, Bob] {
            let node = &self[who];
            let report = node.closing().report(self.chain.tip(), &node.policy);
            assert!(node.is_resolved(), "{who:?} is not done after {limit} blocks: {report:#?}; {:?}", node.refused);
        }
    }

    pub fn reorganise(&mut self, fork: Height, blocks: Vec<Vec<Transaction>>) {
        self.chain.reorganise(fork, blocks);
        self.look();
    }

    pub fn crash(&mut self, crash: Crash) {
        self.nodes.iter_mut().for_each(|node| node.crash = crash);
    }

    /// The transaction in the chain that closed the channel.
    pub fn commitment(&self) -> Transaction {
        let spender = self.chain.spender(&self.funding).expect("the channel is closed");
        assert!(spender.place.is_some(), "and confirmed");
        spender.transaction
    }

    fn wealth(&self, who: Who) -> Amount {
        let (wallet, destination) = (self[who].wallet.script(), self[who].destination.clone());
        self.chain.balance(|script| *script == *wallet || *script == *destination)
    }

    /// What `who` owns more than before the close, in satoshi.
    pub fn gain(&self, who: Who) -> i64 {
        self.wealth(who).to_sat() as i64 - self.before[who as usize].to_sat() as i64
    }

    /// What has been confirmed since the channel was open, also where a reorganisation has moved its funding there.
    fn since_opened(&self) -> Vec<Transaction> {
        let mut all = self.chain.confirmed(self.opened);
        all.retain(|tx| tx.compute_txid() != self.funding.txid && !self.others.contains(&tx.compute_txid()));
        all
    }

    fn confirmed_by(&self, who: Who) -> Vec<Transaction> {
        let commitment = self.commitment().compute_txid();
        let sent = |txid: &Txid| self[who].sent.contains(txid) && *txid != commitment;
        self.since_opened().into_iter().filter(|tx| sent(&tx.compute_txid())).collect()
    }

    /// The fees of `who`'s transactions in the chain, the commitment's left out.
    pub fn fees_of(&self, who: Who) -> u64 {
        self.confirmed_by(who).iter().map(|tx| self.chain.fee(tx).to_sat()).sum()
    }

    /// What opening costs Alice when it ends: the fee of a commitment with so many outputs for HTLCs, and the anchors.
    pub fn opener_pays(&self, untrimmed: usize) -> u64 {
        let kind = self.setup.kind;
        let fee = fee::commitment_fee(kind, FeeratePerKw(self.setup.feerate), untrimmed) + fee::anchors_cost(kind);
        fee.to_sat()
    }

    /// What anchors have brought back to `who`.
    fn anchors_of(&self, who: Who) -> u64 {
        let commitment = self.commitment();
        let txid = commitment.compute_txid();
        let is_anchor = |outpoint: &OutPoint| {
            outpoint.txid == txid && commitment.output[outpoint.vout as usize].value.to_sat() == ANCHOR
        };
        let inputs = self.confirmed_by(who).into_iter().flat_map(|tx| tx.input);
        inputs.filter(|input| is_anchor(&input.previous_output)).count() as u64 * ANCHOR
    }

    /// Both have what is theirs, to the satoshi, less the fees of their own transactions; and nothing is left behind.
    pub fn assert_ended(&self, alice: u64, bob: u64) {
        let entitled = [(Alice, alice), (Bob, bob)];
        for (who, entitled) in entitled {
            let got = self.gain(who) + self.fees_of(who) as i64 - self.anchors_of(who) as i64;
            let (fees, kind) = (self.fees_of(who), self.setup.kind);
            assert_eq!(got, entitled as i64, "{who:?} with {kind:?}, fees {fees}");
        }
        self.assert_nothing_left();
    }

    /// All of the channel is with one of the two, or went to the miners, or lies in anchors.
    pub fn assert_nothing_left(&self) {
        let fees: u64 = self.since_opened().iter().map(|tx| self.chain.fee(tx).to_sat()).sum();
        let commitment = self.commitment();
        let txid = commitment.compute_txid();
        let left: u64 = (0..)
            .zip(&commitment.output)
            .filter(|(vout, _)| self.chain.is_unspent(&OutPoint { txid, vout: *vout }))
            .map(|(_, output)| output.value.to_sat())
            .filter(|value| *value == ANCHOR)
            .sum();
        let total = self.gain(Alice) + self.gain(Bob) + (fees + left) as i64;
        assert_eq!(total, self.setup.capacity as i64, "everything is accounted for");
    }

    /// The cheater has nothing of the channel, and the other one all that the miners did not get.
    pub fn assert_cheater_lost(&self, cheater: Who) {
        let own_coins =
            |tx: &Transaction| tx.input.iter().any(|input| self[cheater].wallet.owns(&input.previous_output));
        let wasted: u64 =
            self.confirmed_by(cheater).iter().filter(|tx| own_coins(tx)).map(|tx| self.chain.fee(tx).to_sat()).sum();
        let kind = self.setup.kind;
        // An anchor that pulled his commitment is his own.
        let due = self.anchors_of(cheater) as i64 - wasted as i64;
        assert_eq!(self.gain(cheater), due, "{cheater:?} keeps something with {kind:?}");
        self.assert_nothing_left();
    }
}

/// A script whose coins count for neither.
pub fn nobody() -> bitcoin::ScriptBuf {
    bitcoin::ScriptBuf::new_p2wsh(&bitcoin::ScriptBuf::new().wscript_hash())
}

pub fn context(node: &Node, tip: Height) -> Ctx<'_> {
    Ctx {
        chain: bitcoin::constants::ChainHash::REGTEST,
        now: UnixTime(1_800_000_000),
        tip,
        trust: TipTrust::Current,
        feerates: node.feerates,
        policy: &node.channel_policy,
        towers: TowerPolicy::None,
        environment: &*ENVIRONMENT,
    }
}

/// Nothing closes while it is opened.
static ENVIRONMENT: LazyLock<leyden_channels::channel::FixedEnvironment> = LazyLock::new(Default::default);
