//! What a [`PeerSet`](crate::PeerSet) is told once, and the limits of the protocol.

use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::pow::Work;

/// The protocol version that we speak: the one that brought announcements by wtxid (BIP 339).
pub const PROTOCOL_VERSION: u32 = 70_016;
/// The oldest version that we talk to: the one that brought `sendheaders` (BIP 130).
pub const MINIMUM_PEER_VERSION: u32 = 70_012;

/// Most headers in one `headers` message; a full message means that there are more.
pub const MAX_HEADERS: usize = 2_000;
/// Most blocks named in answer to `getblocks`: as many as Bitcoin Core names, from which others know that there are more.
pub const MAX_BLOCKS_LISTED: usize = 500;
/// Most hashes in a block locator.
pub const MAX_LOCATOR: usize = 101;
/// Most entries of an `inv` or `getdata` message.
pub const MAX_INVENTORY: usize = 50_000;
/// Most addresses in an `addr` or `addrv2` message.
pub const MAX_ADDRESSES: usize = 1_000;
/// Longest name that a peer may give itself in `version`.
pub const MAX_USER_AGENT: usize = 256;
/// New blocks are announced by their headers up to this number at a time (BIP 130 peers), else by the tip's hash.
pub const MAX_HEADERS_TO_ANNOUNCE: usize = 8;

/// Blocks asked of one peer at a time.
pub const MAX_BLOCKS_IN_FLIGHT_PER_PEER: usize = 16;
/// How far beyond the last block in common with a peer blocks are asked for.
pub const DOWNLOAD_WINDOW: u32 = 1_024;
/// Received blocks that wait for their check; no more are asked for above that.
pub const MAX_BLOCKS_IN_VALIDATION: usize = 64;
/// The last blocks of its chain that a pruned peer keeps at least (BIP 159). It closes the connection when asked for others.
pub const NETWORK_LIMITED_BLOCKS: u32 = 288;
/// Blocks beyond those that a pruned node still sends: its tip may have moved since the peer asked (Bitcoin Core's 2).
pub const NETWORK_LIMITED_GRACE: u32 = 2;
/// Blocks that one peer is being sent at a time.
pub const MAX_BLOCKS_IN_SERVICE: usize = 4;
/// Block filters that one request may ask for (BIP 157).
pub const MAX_FILTERS: u32 = 1_000;
/// Filter hashes that one request may ask for (BIP 157).
pub const MAX_FILTER_HEADERS: u32 = 2_000;
/// A `cfcheckpt` has the filter header of every so many blocks (BIP 157).
pub const FILTER_CHECKPOINTS: u32 = 1_000;
/// Filters that are read at a time for one peer: some megabytes at most, as for a block.
pub const FILTERS_AT_ONCE: u32 = 16;
/// Bytes of filters that one answer may have: some times what a thousand full blocks need.
pub const MAX_FETCHED_FILTER_BYTES: usize = 64 << 20;
/// Peers that are asked for the same block at a time.
pub const MAX_REQUESTS_PER_BLOCK: usize = 3;

/// The version of compact blocks that we speak: the one with witnesses (BIP 152).
pub const COMPACT_BLOCKS_VERSION: u64 = 2;
/// Who speaks an older protocol is not told of compact blocks (BIP 152).
pub const MINIMUM_COMPACT_BLOCKS_VERSION: u32 = 70_014;
/// Peers that are to send compact blocks by themselves (BIP 152 allows no more).
pub const MAX_HIGH_BANDWIDTH_PEERS: usize = 3;
/// Blocks that are put together at a time, of all peers, one of each: those of the peers above, and one that was asked for.
/// Each takes a few megabytes at most.
pub const MAX_PARTIAL_BLOCKS: usize = MAX_HIGH_BANDWIDTH_PEERS + 1;
/// Blocks at most so far below the tip are sent in their compact form (Bitcoin Core's 5); a mempool has little of older ones.
pub const COMPACT_BLOCK_DEPTH: u32 = 5;
/// Single transactions are sent of blocks at most so far below the tip (Bitcoin Core's 10), of others the whole block: who has
/// us read one pays for it in bytes.
pub const BLOCK_TRANSACTIONS_DEPTH: u32 = 10;
/// Requests for transactions of a block that one peer may have waiting: some more than an honest one has blocks to put together.
pub const MAX_TRANSACTION_REQUESTS: usize = 4;

/// Announced transactions that are remembered for one peer.
pub const MAX_TX_ANNOUNCEMENTS_PER_PEER: usize = 5_000;
/// Transactions asked of one peer at a time.
pub const MAX_TX_IN_FLIGHT_PER_PEER: usize = 100;
/// Transactions of one peer that wait for the mempool's verdict: as many as it is asked for at a time.
pub const MAX_TXS_IN_VALIDATION_PER_PEER: usize = MAX_TX_IN_FLIGHT_PER_PEER;
/// Their bytes: five of the largest transactions that a mempool takes.
pub const MAX_TX_BYTES_IN_VALIDATION_PER_PEER: usize = 2_000_000;
/// The bytes of those of all peers. Beyond that a peer may have one waiting.
pub const MAX_TX_BYTES_IN_VALIDATION: usize = 32_000_000;
/// Transactions told to a peer right after the handshake, and the most in one announcement.
pub const MAX_TX_INV: usize = 1_000;

/// The settings of a [`PeerSet`](crate::PeerSet).
#[derive(Clone, Debug)]
pub struct Config {
    /// What this node says in `version` that it serves. Without `P2P_V2` it speaks in plain frames only (BIP 324).
    pub services: ServiceFlags,
    /// What this node calls itself in `version` (BIP 14).
    pub user_agent: String,
    /// Is this a light node? It takes headers, and blocks and filters one by one, but no transactions of others.
    pub light: bool,
    /// Blocks are downloaded only of chains with at least this much work, and no chain is served before ours has it.
    pub minimum_chain_work: Work,
    /// Where others can reach us, if they are to be told.
    pub public_address: Option<SocketAddr>,
    /// How long is waited for what.
    pub timing: Timing,
}

impl Config {
    /// Settings of a full node that serves blocks with witnesses.
    pub fn full_node(user_agent: impl Into<String>, minimum_chain_work: Work) -> Self {
        Self {
            services: ServiceFlags::NETWORK | ServiceFlags::WITNESS | ServiceFlags::P2P_V2,
            user_agent: user_agent.into(),
            light: false,
            minimum_chain_work,
            public_address: None,
            timing: Timing::default(),
        }
    }

    /// The same for a node that keeps its last blocks only (BIP 159).
    #[must_use]
    pub fn pruned(mut self) -> Self {
        self.services.remove(ServiceFlags::NETWORK);
        self.services.add(ServiceFlags::NETWORK_LIMITED);
        self
    }

    /// Settings of a light node, which serves nothing.
    pub fn light_node(user_agent: impl Into<String>, minimum_chain_work: Work) -> Self {
        Self { services: ServiceFlags::P2P_V2, light: true, ..Self::full_node(user_agent, minimum_chain_work) }
    }
}

/// Every duration that the peer logic waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `version` and `verack` have to arrive within this time after the connection.
    pub handshake: Duration,
    /// Between two pings to a peer.
    pub ping_interval: Duration,
    /// A peer that does not answer a ping for this long is let go.
    pub ping_timeout: Duration,
    /// An answer to `getheaders` has to arrive within this time.
    pub headers: Duration,
    /// Every peer is asked for news of its chain after this time, whatever it announces by itself.
    pub headers_refresh: Duration,
    /// A block that did not arrive after this time is asked of another peer too, if one has nothing better to do.
    pub block_retry: Duration,
    /// A peer that owes blocks and sends none for this long is let go.
    pub block: Duration,
    /// Another peer is asked for a transaction after this time.
    pub transaction: Duration,
    /// How long announcements of inbound peers, and by txid, wait for a better one.
    pub transaction_delay: Duration,
    /// Mean time between announcements of transactions to a peer that connected to us.
    pub trickle_inbound: Duration,
    /// Mean time between announcements of transactions to a peer that we connected to.
    pub trickle_outbound: Duration,
    /// Mean time between announcements of addresses to a peer.
    pub trickle_addresses: Duration,
    /// Mean time between announcements of our own address to a peer.
    pub own_address: Duration,
    /// How long a transaction without its parents is kept.
    pub orphan: Duration,
    /// How often `feefilter` is brought up to date.
    pub fee_filter: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(60),
            ping_interval: Duration::from_secs(120),
            ping_timeout: Duration::from_secs(20 * 60),
            headers: Duration::from_secs(120),
            headers_refresh: Duration::from_secs(10 * 60),
            block_retry: Duration::from_secs(2),
            block: Duration::from_secs(60),
            transaction: Duration::from_secs(60),
            transaction_delay: Duration::from_secs(2),
            trickle_inbound: Duration::from_secs(5),
            trickle_outbound: Duration::from_secs(2),
            trickle_addresses: Duration::from_secs(30),
            own_address: Duration::from_secs(24 * 60 * 60),
            orphan: Duration::from_secs(20 * 60),
            fee_filter: Duration::from_secs(10 * 60),
        }
    }
}
