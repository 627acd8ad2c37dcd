//! What is remembered of one connection. Every part of it has a bound.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::bip152::HeaderAndShortIds;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message_blockdata::Inventory;

use crate::bounded::BoundedSet;
use crate::compact::PartialBlock;
use crate::config::NETWORK_LIMITED_BLOCKS;
use crate::event::{Direction, PeerId};
use crate::fetched::{Fetch, FilterRange};
use crate::handshake::{Handshake, Negotiated};
use crate::plan::Plan;
use crate::presync::Presync;
use crate::view::{RelayedTx, TxName};

/// Addresses that a peer is known to know.
const KNOWN_ADDRESSES: usize = 2_000;
/// Transactions that a peer is known to have, remembered so that they are not announced to it.
const KNOWN_TRANSACTIONS: usize = 20_000;

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub address: SocketAddr,
    pub direction: Direction,
    pub connected_at: Duration,
    pub handshake: Handshake,
    /// What its `version` said of the time.
    pub clock: Option<PeerClock>,
    /// The nonce of our `version` message.
    pub nonce: u64,
    pub score: u32,
    pub ping: Ping,
    pub headers: HeaderSync,
    /// A chain of its that has too little work so far.
    pub presync: Option<Presync>,
    /// The end of the chain with most work that the peer is known to have.
    pub best_known: Option<BlockHash>,
    /// A block that it announced and we have no header of yet.
    pub announced_unknown: Option<BlockHash>,
    /// The last header that we announced or sent to it.
    pub last_sent: Option<BlockHash>,
    /// Does it want blocks announced by header (BIP 130)?
    pub wants_headers: bool,
    pub plan: Option<Plan>,
    /// What a light node has asked it for.
    pub fetches: Vec<Fetch>,
    /// Blocks that it was asked for and did not send yet, with the time of the request.
    pub blocks_in_flight: BTreeMap<BlockHash, Duration>,
    /// When it last sent a block that it was asked for.
    pub last_block: Duration,
    pub compact: CompactRelay,
    pub last_useful: LastUseful,
    /// What it asked for and did not get yet.
    pub serving: VecDeque<Asked>,
    /// Blocks, and pieces of filters, handed to the driver and not confirmed as sent.
    pub blocks_in_service: usize,
    pub list: BlockList,
    pub relay: TxRelay,
    pub addresses: AddressRelay,
    /// The lowest block that we lack of its chain, if it does not keep that one any more.
    pub out_of_reach: Option<u32>,
}

/// Something that a peer asked for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Item(Inventory),
    Filters(FilterRange),
    /// Transactions of a block, by their indexes (BIP 152).
    Transactions {
        hash: BlockHash,
        indexes: Vec<u16>,
    },
}

/// Compact blocks between the peer and us (BIP 152).
#[derive(Clone, Debug, Default)]
pub(crate) struct CompactRelay {
    /// It sends them, and understands ours.
    pub provides: bool,
    /// It wants to be told of new blocks by them.
    pub wants_unasked: bool,
    /// We want to be told so by it.
    pub sends_unasked: bool,
    /// One whose header is being checked.
    pub held: Option<HeaderAndShortIds>,
    /// One of which some transactions were asked for.
    pub partial: Option<PartialBlock>,
    /// Blocks of those in flight of which nothing but the whole will do.
    pub owes_whole: BTreeSet<BlockHash>,
}

/// Progress of header synchronisation with one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeaderSync {
    /// When `getheaders` was sent that is not answered yet.
    pub asked_at: Option<Duration>,
    /// When it was last asked at all.
    pub last_asked: Option<Duration>,
    /// Lists that are being checked.
    pub in_validation: usize,
    /// A list came while too many were being checked; what was in it has to be asked for.
    pub missed: bool,
    /// It told all that it had at least once.
    pub done: bool,
    /// The list that is being checked ends a walk: there may be more.
    pub goes_on: bool,
    /// Walks over a chain with little work that led to nothing.
    pub failed_walks: u32,
}

/// What of the active chain a peer was told in answer to `getblocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockList {
    /// All that there was, or nothing.
    Ended,
    /// A full list, which ends with this block.
    UpTo(BlockHash),
    /// The last block of that list has been asked for: once it is sent, the tip is named, so that the peer asks on.
    Served,
}

/// The last ping.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ping {
    pub outstanding: Option<(u64, Duration)>,
    pub last_sent: Option<Duration>,
    pub round_trip: Option<Duration>,
    pub shortest: Option<Duration>,
}

/// When it last sent something that was new and valid.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastUseful {
    pub transaction: Option<Duration>,
    pub block: Option<Duration>,
}

/// Transactions on their way to the peer.
#[derive(Clone, Debug)]
pub(crate) struct TxRelay {
    pub known: BoundedSet<TxName>,
    pub queue: VecDeque<RelayedTx>,
    pub next_announcement: Duration,
    /// What the peer wants at least, in satoshi per 1000 virtual bytes (BIP 133).
    pub fee_filter: u64,
    /// What we told it last, and when.
    pub fee_filter_sent: Option<(u64, Duration)>,
}

/// Addresses told to and by the peer.
#[derive(Clone, Debug)]
pub(crate) struct AddressRelay {
    pub answered_getaddr: bool,
    /// It was asked for addresses and has not told all.
    pub awaits_answer: bool,
    /// Addresses that are still accepted, and since when more were added.
    pub allowance: f64,
    pub refilled_at: Duration,
    /// What it knows is not told to it.
    pub known: BoundedSet<SocketAddr>,
    /// Addresses and when they were seen last, on their way to the peer.
    pub queue: Vec<(SocketAddr, Duration)>,
    pub next_told: Duration,
    /// When it is to hear of our own address again.
    pub own_due: Duration,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, direction: Direction, nonce: u64, now: Duration) -> Self {
        Self {
            address,
            direction,
            connected_at: now,
            handshake: Handshake::AwaitVersion,
            clock: None,
            nonce,
            score: 0,
            ping: Ping::default(),
            headers: HeaderSync::default(),
            presync: None,
            best_known: None,
            announced_unknown: None,
            last_sent: None,
            wants_headers: false,
            plan: None,
            fetches: Vec::new(),
            blocks_in_flight: BTreeMap::new(),
            last_block: now,
            compact: CompactRelay::default(),
            last_useful: LastUseful::default(),
            serving: VecDeque::new(),
            blocks_in_service: 0,
            list: BlockList::Ended,
            relay: TxRelay {
                known: BoundedSet::new(KNOWN_TRANSACTIONS),
                queue: VecDeque::new(),
                next_announcement: now,
                fee_filter: 0,
                fee_filter_sent: None,
            },
            addresses: AddressRelay {
                answered_getaddr: false,
                awaits_answer: false,
                allowance: 1.0,
                refilled_at: now,
                known: BoundedSet::new(KNOWN_ADDRESSES),
                queue: Vec::new(),
                next_told: now,
                own_due: now,
            },
            out_of_reach: None,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.handshake.ready().is_some()
    }

    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        self.handshake.ready()
    }

    /// Is this a peer that may be asked for headers and blocks?
    pub(crate) fn serves_blocks(&self) -> bool {
        self.negotiated().is_some_and(Negotiated::serves_blocks)
    }

    /// The lowest block that it keeps of a chain that is `height` long (BIP 159).
    pub(crate) fn keeps_from(&self, height: u32) -> u32 {
        let keeps_all = self.negotiated().is_some_and(|negotiated| negotiated.services.has(ServiceFlags::NETWORK));
        if keeps_all { 0 } else { height.saturating_sub(NETWORK_LIMITED_BLOCKS - 1) }
    }

    /// Does the peer want announcements of transactions?
    pub(crate) fn wants_transactions(&self) -> bool {
        self.negotiated().is_some_and(|negotiated| negotiated.relay)
    }

    /// The name under which this peer announces and asks for a transaction.
    pub(crate) fn name_of(&self, transaction: &RelayedTx) -> TxName {
        if self.negotiated().is_some_and(|negotiated| negotiated.wtxid_relay) {
            TxName::Wtxid(transaction.wtxid)
        } else {
            TxName::Txid(transaction.txid)
        }
    }

    pub(crate) fn info(&self, peer: PeerId) -> PeerSummary {
        let negotiated = self.handshake.negotiated();
        PeerSummary {
            peer,
            address: self.address,
            direction: self.direction,
            connected_at: self.connected_at,
            ready: self.is_ready(),
            version: negotiated.map_or(0, |negotiated| negotiated.version),
            services: negotiated.map_or(ServiceFlags::NONE, |negotiated| negotiated.services),
            user_agent: negotiated.map(|negotiated| negotiated.user_agent.clone()).unwrap_or_default(),
            start_height: negotiated.map_or(0, |negotiated| negotiated.start_height),
            best_known: self.best_known,
            clock: self.clock,
            has_sent_headers: self.headers.done,
            blocks_in_flight: self.blocks_in_flight.len(),
            high_bandwidth_to: self.compact.sends_unasked,
            high_bandwidth_from: self.compact.wants_unasked,
            out_of_reach: self.out_of_reach,
            round_trip: self.ping.round_trip,
            shortest_round_trip: self.ping.shortest,
            ping_since: self.ping.outstanding.map(|(_, sent)| sent),
            score: self.score,
        }
    }
}

/// What time a peer said it was, and when it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerClock {
    /// Seconds since 1970.
    pub reported: i64,
    /// In terms of [`Ctx::now`](crate::Ctx).
    pub at: Duration,
}

/// A connection as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSummary {
    /// The connection.
    pub peer: PeerId,
    /// The remote end's.
    pub address: SocketAddr,
    /// Who opened it.
    pub direction: Direction,
    /// In terms of [`Ctx::now`](crate::Ctx).
    pub connected_at: Duration,
    /// Is the handshake done? Before that the next five fields may be empty.
    pub ready: bool,
    /// The protocol version that the peer speaks.
    pub version: u32,
    /// What it says that it serves.
    pub services: ServiceFlags,
    /// What it calls itself (BIP 14).
    pub user_agent: String,
    /// The height of its chain when it connected, as it said.
    pub start_height: i32,
    /// The end of the best chain that the peer is known to have.
    pub best_known: Option<BlockHash>,
    /// What its `version` said of the time.
    pub clock: Option<PeerClock>,
    /// Whether it has told at least once all headers that it has.
    pub has_sent_headers: bool,
    /// Blocks that were asked of it and have not come.
    pub blocks_in_flight: usize,
    /// Whether we want it to tell of new blocks by compact ones (BIP 152, high bandwidth).
    pub high_bandwidth_to: bool,
    /// Whether it wants that of us.
    pub high_bandwidth_from: bool,
    /// The height of the lowest block that we lack of its chain, if it keeps the last blocks only (BIP 159) and not that one:
    /// then it cannot help.
    pub out_of_reach: Option<u32>,
    /// What the last ping took.
    pub round_trip: Option<Duration>,
    /// The least that one took.
    pub shortest_round_trip: Option<Duration>,
    /// When the ping was sent that it has not answered yet, in terms of [`Ctx::now`](crate::Ctx).
    pub ping_since: Option<Duration>,
    /// How much it misbehaved (100 is the end).
    pub score: u32,
}
