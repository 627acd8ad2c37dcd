//! The simulated network: nodes, links with delays, a clock, and nodes that do not play by the rules.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::Work;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::{Magic, ServiceFlags};
use leyden_net::{
    Action, ChainView as _, Config, Ctx, Direction, DisconnectReason, Event, PeerId, PeerSet, Timing,
    TransactionOutcome, encode_frame,
};

use crate::chain::{Chain, Mempool, REFUSED, START, make_block, relayed, with_transactions, zero_work};

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    Honest,
    /// Never sends a block.
    Withholds,
    /// Changes the blocks that it sends.
    Mutates,
    /// Thinks that invalid blocks are valid.
    Lawless,
    /// Answers nothing at all after the handshake.
    Silent,
    /// Keeps the last 288 blocks only, and closes the connection when it is asked for another.
    Pruned,
}

pub struct Node {
    pub nature: Nature,
    pub chain: Chain,
    pub mempool: Mempool,
    pub peers: PeerSet,
    links: BTreeMap<PeerId, usize>,
    /// When the verdict on the last transaction is told.
    transactions_told: Duration,
    /// Why it let peers go.
    pub disconnects: Vec<DisconnectReason>,
}

struct Link {
    ends: [(usize, PeerId); 2],
    /// When the last message to each end arrives: a later one cannot overtake it.
    arrives: [Duration; 2],
    open: bool,
}

enum What {
    Deliver { link: usize, end: usize, message: NetworkMessage },
    Closed { link: usize, end: usize },
    Local { node: usize, event: Event },
    Tick { node: usize },
    Reconnect { from: usize, to: usize },
}

struct Scheduled {
    at: Duration,
    sequence: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

pub struct World {
    pub now: Duration,
    pub nodes: Vec<Node>,
    links: Vec<Link>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    random: u64,
    next_peer: u64,
    /// Pairs that reconnect whenever they can.
    wanted: BTreeSet<(usize, usize)>,
    /// Which side of a partition a node is on.
    pub side: Vec<u8>,
    /// The longest delay of a message or a check.
    pub max_delay: Duration,
    /// All messages that were delivered, by name.
    pub traffic: BTreeMap<&'static str, usize>,
    /// Their bytes.
    pub bytes: usize,
}

impl World {
    pub fn new(natures: &[Nature], seed: u64) -> Self {
        Self::with_minimum_work(natures, seed, zero_work())
    }

    /// Nodes that follow no chain with less work.
    pub fn with_minimum_work(natures: &[Nature], seed: u64, minimum: Work) -> Self {
        let mut world = Self {
            now: Duration::from_secs(START),
            nodes: Vec::new(),
            links: Vec::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            random: seed,
            next_peer: 0,
            wanted: BTreeSet::new(),
            side: vec![0; natures.len()],
            max_delay: Duration::from_millis(300),
            traffic: BTreeMap::new(),
            bytes: 0,
        };
        for (index, nature) in natures.iter().enumerate() {
            let mut config = Config::full_node("/simulated/", minimum);
            // The same relations as the defaults, but no run has to last for hours.
            config.timing = Timing {
                headers: Duration::from_secs(20),
                headers_refresh: Duration::from_secs(120),
                block: Duration::from_secs(20),
                ..Timing::default()
            };
            if *nature == Nature::Pruned {
                config.services = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
            }
            let mut entropy = [0; 32];
            entropy[..8].copy_from_slice(&(seed ^ index as u64).to_le_bytes());
            world.nodes.push(Node {
                nature: *nature,
                chain: Chain::new(*nature == Nature::Lawless),
                mempool: Mempool::default(),
                peers: PeerSet::new(config, entropy),
                links: BTreeMap::new(),
                transactions_told: Duration::ZERO,
                disconnects: Vec::new(),
            });
            world.schedule(Duration::from_millis(index as u64), What::Tick { node: index });
        }
        world
    }

    /// A number below `bound` (splitmix64).
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.random;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % bound.max(1)
    }

    fn delay(&mut self) -> Duration {
        let most = self.max_delay.as_micros() as u64;
        Duration::from_micros(self.random(most) + 1)
    }

    fn schedule(&mut self, after: Duration, what: What) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + after, sequence: self.sequence, what }));
    }

    /// Connects two nodes, and again whenever the connection breaks.
    pub fn link(&mut self, from: usize, to: usize) {
        self.wanted.insert((from, to));
        self.connect(from, to);
    }

    fn connect(&mut self, from: usize, to: usize) {
        if self.side[from] != self.side[to] {
            self.schedule(Duration::from_secs(5), What::Reconnect { from, to });
            return;
        }
        let ids = [PeerId(self.next_peer), PeerId(self.next_peer + 1)];
        self.next_peer += 2;
        let link = self.links.len();
        self.links.push(Link { ends: [(from, ids[0]), (to, ids[1])], arrives: [self.now; 2], open: true });
        for (end, (node, other)) in [(from, to), (to, from)].into_iter().enumerate() {
            self.nodes[node].links.insert(ids[end], link);
            let direction = if end == 0 { Direction::Outbound } else { Direction::Inbound };
            let address = SocketAddr::from(([127, 0, 0, 1], 1_000 + other as u16));
            self.handle(node, Event::Connected { peer: ids[end], address, direction });
        }
    }

    fn close(&mut self, link: usize) {
        let Some(known) = self.links.get_mut(link) else { return };
        if !std::mem::replace(&mut known.open, false) {
            return;
        }
        let [(from, _), (to, _)] = known.ends;
        for end in 0..2 {
            let delay = self.delay();
            self.schedule(delay, What::Closed { link, end });
        }
        if self.wanted.contains(&(from, to)) {
            self.schedule(Duration::from_secs(5), What::Reconnect { from, to });
        }
    }

    /// Breaks one open connection.
    pub fn drop_a_link(&mut self) {
        let open: Vec<usize> = (0..self.links.len()).filter(|link| self.links[*link].open).collect();
        if !open.is_empty() {
            let index = self.random(open.len() as u64) as usize;
            self.close(open[index]);
        }
    }

    /// Nodes on different sides cannot reach each other any more.
    pub fn partition(&mut self, sides: &[u8]) {
        self.side = sides.to_vec();
        for link in 0..self.links.len() {
            let [(from, _), (to, _)] = self.links[link].ends;
            if sides[from] != sides[to] {
                self.close(link);
            }
        }
    }

    pub fn heal(&mut self) {
        self.side = vec![0; self.nodes.len()];
    }

    pub fn mine(&mut self, node: usize, count: usize) {
        for _ in 0..count {
            let (time, salt) = (self.now.as_secs(), self.random(u64::MAX));
            let lawless = self.nodes[node].nature == Nature::Lawless;
            self.nodes[node].chain.mine(time, salt, lawless);
            self.handle(node, Event::TipChanged);
        }
    }

    /// A block with these transactions, on what `node` has.
    pub fn mine_with(&mut self, node: usize, transactions: &[Arc<bitcoin::Transaction>]) {
        let (time, salt) = (self.now.as_secs(), self.random(u64::MAX));
        let chain = &mut self.nodes[node].chain;
        chain.mine_block(with_transactions(make_block(&chain.tip(), time, salt, false), transactions));
        self.handle(node, Event::TipChanged);
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.step(next.what);
        }
        self.now = end;
    }

    fn step(&mut self, what: What) {
        match what {
            What::Deliver { link, end, message } => {
                let known = &self.links[link];
                let (node, peer) = known.ends[end];
                if known.open {
                    *self.traffic.entry(message.cmd()).or_default() += 1;
                    self.bytes += encode_frame(Magic::REGTEST, message.clone()).len();
                    self.handle(node, Event::Message { peer, message });
                }
            }
            What::Closed { link, end } => {
                let (node, peer) = self.links[link].ends[end];
                self.nodes[node].links.remove(&peer);
                self.handle(node, Event::Disconnected { peer });
            }
            What::Local { node, event } => self.handle(node, event),
            What::Tick { node } => {
                self.handle(node, Event::Tick);
                self.schedule(Duration::from_millis(500), What::Tick { node });
            }
            What::Reconnect { from, to } => self.connect(from, to),
        }
    }

    pub fn handle(&mut self, index: usize, event: Event) {
        let node = &mut self.nodes[index];
        let ctx = Ctx { now: self.now, unix_time: self.now.as_secs(), chain: &node.chain, mempool: &node.mempool };
        let actions = node.peers.handle(event, &ctx);
        for action in actions {
            self.act(index, action);
        }
    }

    fn later(&mut self, node: usize, event: Event) {
        let delay = self.delay();
        self.schedule(delay, What::Local { node, event });
    }

    fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::Send { peer, message } => self.transmit(index, peer, message),
            Action::ServeBlock { peer, hash, form } => {
                let chain = &self.nodes[index].chain;
                let depth = chain.entry(&hash).map_or(0, |entry| chain.height().saturating_sub(entry.height));
                if self.nodes[index].nature == Nature::Pruned && depth >= 288 {
                    if let Some(link) = self.nodes[index].links.get(&peer).copied() {
                        self.close(link);
                    }
                    return;
                }
                if let Some(message) = self.nodes[index].chain.block(&hash).and_then(|block| form.message(block)) {
                    self.transmit(index, peer, message);
                }
                self.later(index, Event::BlockServed { peer });
            }
            Action::Fetched { .. } => unreachable!("no light node is in this world"),
            Action::ServeFilters { peer, .. } => self.later(index, Event::BlockServed { peer }),
            Action::Disconnect { peer, reason } => {
                self.nodes[index].disconnects.push(reason);
                if let Some(link) = self.nodes[index].links.get(&peer).copied() {
                    self.close(link);
                }
            }
            Action::Discourage { .. } => {}
            Action::AcceptHeaders { peer, headers } => {
                let outcome = self.nodes[index].chain.accept_headers(&headers);
                self.later(index, Event::HeadersProcessed { peer, count: headers.len(), outcome });
            }
            Action::ProcessBlock { peer, block } => {
                let hash = block.block_hash();
                let before = self.nodes[index].chain.tip().hash;
                let outcome = self.nodes[index].chain.process_block(block);
                self.later(index, Event::BlockProcessed { peer, hash, outcome });
                if self.nodes[index].chain.tip().hash != before {
                    self.later(index, Event::TipChanged);
                }
            }
            Action::SubmitTransaction { peer, transaction } => self.submit(index, peer, transaction, false),
            Action::SubmitPackage { peer, parent, child } => {
                if child.output[0].value.to_sat() == REFUSED {
                    for transaction in [parent, child] {
                        let outcome = TransactionOutcome::Rejected;
                        self.later(index, Event::TransactionProcessed { peer, transaction, outcome });
                    }
                    return;
                }
                self.submit(index, peer, parent, true);
                self.submit(index, peer, child, true);
            }
        }
    }

    pub fn submit(&mut self, index: usize, peer: PeerId, transaction: Arc<bitcoin::Transaction>, package: bool) {
        let outcome = self.nodes[index].mempool.submit(&transaction, package);
        if outcome == TransactionOutcome::Accepted {
            self.later(index, Event::TransactionAccepted(relayed(&transaction)));
        }
        // One thread checks them: what was checked first is told first.
        let at = (self.now + self.delay()).max(self.nodes[index].transactions_told);
        self.nodes[index].transactions_told = at;
        let event = Event::TransactionProcessed { peer, transaction, outcome };
        self.schedule(at - self.now, What::Local { node: index, event });
    }

    fn transmit(&mut self, index: usize, peer: PeerId, message: NetworkMessage) {
        let Some(link) = self.nodes[index].links.get(&peer).copied() else { return };
        let message = match (self.nodes[index].nature, message) {
            (
                Nature::Withholds,
                NetworkMessage::Block(_) | NetworkMessage::CmpctBlock(_) | NetworkMessage::BlockTxn(_),
            ) => return,
            (Nature::Mutates, NetworkMessage::CmpctBlock(mut message)) => {
                message.compact_block.prefilled_txs[0].tx.output[0].value += bitcoin::Amount::ONE_SAT;
                NetworkMessage::CmpctBlock(message)
            }
            (Nature::Mutates, NetworkMessage::Block(mut block)) => {
                block.txdata[0].output[0].value += bitcoin::Amount::ONE_SAT;
                NetworkMessage::Block(block)
            }
            (Nature::Silent, message) => match message {
                NetworkMessage::Version(_) | NetworkMessage::Verack | NetworkMessage::WtxidRelay => message,
                _ => return,
            },
            (_, message) => message,
        };
        let delay = self.delay();
        let known = &mut self.links[link];
        if !known.open {
            return;
        }
        let end = usize::from(known.ends[0] == (index, peer));
        // Messages arrive in the order in which they were sent.
        let at = (self.now + delay).max(known.arrives[end]);
        known.arrives[end] = at;
        self.schedule(at - self.now, What::Deliver { link, end, message });
    }

    pub fn honest(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].nature == Nature::Honest).collect()
    }

    pub fn tips(&self, of: &[usize]) -> BTreeSet<BlockHash> {
        of.iter().map(|index| self.nodes[*index].chain.tip().hash).collect()
    }

    /// All honest nodes are on one chain, and none of them has stored a better one.
    pub fn assert_agreement(&self) {
        let honest = self.honest();
        let heights: Vec<u32> = honest.iter().map(|index| self.nodes[*index].chain.height()).collect();
        assert_eq!(self.tips(&honest).len(), 1, "heights {heights:?}");
    }
}
