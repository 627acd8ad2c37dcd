//! A node around the peer logic: it does what it is asked, late or never or by halves, and watches the bounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Block, BlockHash, Transaction};
use leyden_net::codec::{FRAME_HEADER, MAX_PAYLOAD};
use leyden_net::config::{
    MAX_BLOCKS_IN_SERVICE, MAX_BLOCKS_IN_VALIDATION, MAX_FILTER_HEADERS, MAX_HEADERS, MAX_INVENTORY, MAX_LOCATOR,
};
use leyden_net::{
    Action, BlockForm, BlockOutcome, Config, Ctx, Direction, Event, FilterRequest, HeadersOutcome, PeerId, PeerSet,
    Timing, TransactionOutcome, encode_frame,
};

use super::chain::{Chain, Mempool, START, relayed, zero_work};

/// However the peers share them.
const MOST_UNCHECKED_TRANSACTIONS: usize = 1_000;

/// What the driver was asked for and has not done yet.
enum Job {
    Headers { peer: PeerId, headers: Vec<Header> },
    Block { peer: PeerId, block: Block },
    Serve { peer: PeerId, hash: BlockHash, form: BlockForm },
    ServeFilters { peer: PeerId },
    Submit { peer: PeerId, transaction: Arc<Transaction>, package: bool },
}

pub struct Station {
    now: Duration,
    chain: Chain,
    mempool: Mempool,
    peers: PeerSet,
    connected: BTreeMap<PeerId, SocketAddr>,
    jobs: Vec<Job>,
    pings: BTreeMap<PeerId, u64>,
    /// What was sent to the honest peer.
    to_honest: Vec<NetworkMessage>,
    honest: Option<PeerId>,
    next_peer: u64,
}

fn timing() -> Timing {
    // The same relations as the defaults, but no story has to last for hours.
    Timing {
        headers: Duration::from_secs(20),
        headers_refresh: Duration::from_secs(120),
        block: Duration::from_secs(20),
        ..Timing::default()
    }
}

impl Station {
    pub fn new(seed: u8) -> Self {
        let mut config = Config::full_node("/fuzzed/", zero_work());
        config.timing = timing();
        Self {
            now: Duration::from_secs(START),
            chain: Chain::new(false),
            mempool: Mempool::default(),
            peers: PeerSet::new(config, [seed; 32]),
            connected: BTreeMap::new(),
            jobs: Vec::new(),
            pings: BTreeMap::new(),
            to_honest: Vec::new(),
            honest: None,
            next_peer: 0,
        }
    }

    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.connected.contains_key(&peer)
    }

    pub fn last_ping(&self, peer: PeerId) -> u64 {
        self.pings.get(&peer).copied().unwrap_or_default()
    }

    pub fn connect(&mut self, address: SocketAddr, direction: Direction) -> PeerId {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        self.connected.insert(peer, address);
        self.event(Event::Connected { peer, address, direction });
        peer
    }

    pub fn message(&mut self, peer: PeerId, message: NetworkMessage) {
        if self.is_connected(peer) {
            self.event(Event::Message { peer, message });
        }
    }

    pub fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.event(Event::Tick);
    }

    pub fn mine(&mut self, salt: u64) {
        self.chain.mine(self.now.as_secs(), salt, false);
        self.event(Event::TipChanged);
    }

    pub fn accept(&mut self, transaction: &Arc<Transaction>) {
        if self.mempool.submit(transaction, false) == TransactionOutcome::Accepted {
            self.event(Event::TransactionAccepted(relayed(transaction)));
        }
    }

    pub fn event(&mut self, event: Event) {
        if let Event::Disconnected { peer } = &event {
            self.connected.remove(peer);
        }
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let ctx = Ctx { now: self.now, unix_time: self.now.as_secs(), chain: &self.chain, mempool: &self.mempool };
            for action in self.peers.handle(event, &ctx) {
                events.extend(self.act(action));
            }
        }
        self.check_bounds();
    }

    /// Does or notes what is asked, and gives what follows at once.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Send { peer, message } => {
                self.assert_connected(peer);
                check_message(&message);
                if let NetworkMessage::Ping(nonce) = message {
                    self.pings.insert(peer, nonce);
                }
                if self.honest == Some(peer) {
                    self.to_honest.push(message);
                }
            }
            Action::ServeBlock { peer, hash, form } => {
                self.assert_connected(peer);
                assert!(self.chain.block(&hash).is_some(), "only what there is can be served");
                self.jobs.push(Job::Serve { peer, hash, form });
            }
            Action::Fetched { .. } => unreachable!("nothing is fetched"),
            Action::ServeFilters { peer, request } => {
                self.assert_connected(peer);
                let (FilterRequest::Filters { blocks }
                | FilterRequest::Headers { blocks, .. }
                | FilterRequest::Checkpoints { blocks, .. }) = request;
                assert!(blocks.len() <= MAX_FILTER_HEADERS as usize);
                self.jobs.push(Job::ServeFilters { peer });
            }
            Action::Disconnect { peer, .. } => {
                self.assert_connected(peer);
                assert_ne!(self.honest, Some(peer), "an honest peer is kept");
                self.connected.remove(&peer);
                return Some(Event::Disconnected { peer });
            }
            Action::AcceptHeaders { peer, headers } => {
                self.assert_connected(peer);
                assert!(!headers.is_empty() && headers.len() <= MAX_HEADERS);
                assert!(headers.windows(2).all(|pair| pair[1].prev_blockhash == pair[0].block_hash()));
                self.jobs.push(Job::Headers { peer, headers });
            }
            Action::ProcessBlock { peer, block } => {
                self.assert_connected(peer);
                self.jobs.push(Job::Block { peer, block });
            }
            Action::SubmitTransaction { peer, transaction } => {
                self.jobs.push(Job::Submit { peer, transaction, package: false });
            }
            Action::SubmitPackage { peer, parent, child } => {
                for transaction in [parent, child] {
                    self.jobs.push(Job::Submit { peer, transaction, package: true });
                }
            }
            _ => {}
        }
        None
    }

    fn assert_connected(&self, peer: PeerId) {
        assert!(self.is_connected(peer), "{peer:?} is gone, and nothing more is to be done for it");
    }

    fn check_bounds(&self) {
        let count = |is: fn(&Job) -> bool| self.jobs.iter().filter(|job| is(job)).count();
        assert!(count(|job| matches!(job, Job::Block { .. })) <= MAX_BLOCKS_IN_VALIDATION);
        assert!(count(|job| matches!(job, Job::Submit { .. })) <= MOST_UNCHECKED_TRANSACTIONS);
        for peer in self.connected.keys() {
            let served =
                |job: &&Job| matches!(job, Job::Serve { peer: to, .. } | Job::ServeFilters { peer: to } if to == peer);
            assert!(self.jobs.iter().filter(served).count() <= MAX_BLOCKS_IN_SERVICE);
        }
        assert_eq!(self.peers.peers().len(), self.connected.len());
    }

    /// Does one of the jobs; or says that it could not, which must do no harm.
    pub fn do_job(&mut self, choice: usize, succeeds: bool) {
        if self.jobs.is_empty() {
            return;
        }
        let before = self.chain.tip().hash;
        let event = match self.jobs.remove(choice % self.jobs.len()) {
            Job::Headers { peer, headers } => {
                let count = headers.len();
                let outcome = if succeeds { self.chain.accept_headers(&headers) } else { HeadersOutcome::Undecided };
                Event::HeadersProcessed { peer, count, outcome }
            }
            Job::Block { peer, block } => {
                let hash = block.block_hash();
                let outcome = if succeeds { self.chain.process_block(block) } else { BlockOutcome::Undecided };
                Event::BlockProcessed { peer, hash, outcome }
            }
            Job::ServeFilters { peer } => Event::BlockServed { peer },
            Job::Serve { peer, hash, form } => {
                match self.chain.block(&hash).and_then(|block| form.message(block)) {
                    Some(message) if self.honest == Some(peer) => self.to_honest.push(message),
                    Some(_) => {}
                    None => self.event(Event::AskedBeyondBlock { peer }),
                }
                Event::BlockServed { peer }
            }
            Job::Submit { peer, transaction, package } => {
                let outcome =
                    if succeeds { self.mempool.submit(&transaction, package) } else { TransactionOutcome::Rejected };
                if outcome == TransactionOutcome::Accepted {
                    self.event(Event::TransactionAccepted(relayed(&transaction)));
                }
                Event::TransactionProcessed { peer, transaction, outcome }
            }
        };
        self.event(event);
        if self.chain.tip().hash != before {
            self.event(Event::TipChanged);
        }
    }

    /// Connects to an honest node with this chain and gives both some minutes.
    pub fn ends_on_the_best_chain(mut self, chain: Chain) {
        let best = chain.tip();
        let mut other = Self { chain, ..Self::new(0) };
        other.now = self.now;
        let (there, here) = (SocketAddr::from(([9, 9, 9, 9], 1)), SocketAddr::from(([8, 8, 8, 8], 1)));
        self.honest = Some(PeerId(self.next_peer));
        other.honest = Some(PeerId(other.next_peer));
        let (to_other, to_self) = (self.connect(there, Direction::Outbound), other.connect(here, Direction::Inbound));
        for _ in 0..300 {
            loop {
                let (sent, answered) = (std::mem::take(&mut self.to_honest), std::mem::take(&mut other.to_honest));
                if sent.is_empty() && answered.is_empty() && self.jobs.is_empty() && other.jobs.is_empty() {
                    break;
                }
                sent.into_iter().for_each(|message| other.message(to_self, message));
                answered.into_iter().for_each(|message| self.message(to_other, message));
                while !self.jobs.is_empty() || !other.jobs.is_empty() {
                    self.do_job(0, true);
                    other.do_job(0, true);
                }
            }
            if self.chain.tip().hash == best.hash {
                return;
            }
            self.pass(2_000);
            other.pass(2_000);
        }
        panic!("after ten minutes the node is at height {}, not at {}", self.chain.height(), best.height);
    }
}

fn check_message(message: &NetworkMessage) {
    match message {
        NetworkMessage::Headers(headers) => assert!(headers.len() <= MAX_HEADERS),
        NetworkMessage::Inv(items) | NetworkMessage::GetData(items) | NetworkMessage::NotFound(items) => {
            assert!(!items.is_empty() && items.len() <= MAX_INVENTORY);
        }
        NetworkMessage::GetHeaders(request) => assert!(request.locator_hashes.len() <= MAX_LOCATOR),
        _ => {}
    }
    assert!(encode_frame(Magic::REGTEST, message.clone()).len() <= FRAME_HEADER + MAX_PAYLOAD);
}
