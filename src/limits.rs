//! What others may make this node hold, do and write, and why: the limits of every server and connection but the chain's own, which stand
//! in `leyden_net` and in `leyden_node`'s driver.
//!
//! ```text
//!   a number here ──► the server that keeps to it ──► use and refusals ──► `leyden peers --limits`, metrics
//! ```
//!
//! Three kinds of others, in this order: the user of this node, peers with a channel that is paid for, strangers. A limit of
//! strangers never binds the others, and what strangers may take in all is small beside what the node needs itself.

use std::time::Duration;

use leyden_node::{Share, TimeBudget};

// Lightning: one connection.

/// What handshake and `init` may take: a few round trips over the slowest line.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer has to take some bytes within this time while there are any for it. A line that takes nothing for so long is no use
/// for payments, and the peer's own retransmissions will have given up about then.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that may wait for a peer before more is said to it. The largest honest need at once is what follows
/// `channel_reestablish`: 483 `update_add_htlc` of 1,452 bytes and a `commitment_signed` of 31 kB make 732 kB for one channel;
/// several busy channels fit. What one turn has to say is queued whole even beyond this, or a peer with many channels could
/// never be told it: the bound is on beginning another turn.
pub(crate) const MAX_UNSENT: u64 = 4 << 20;
/// Bytes that may wait before pongs and backups are left out, which peers make us send at will: several of the largest size
/// fit. For 128 strangers who do not read that is 64 MB.
pub(crate) const MAX_UNSENT_ANSWERS: u64 = 512 << 10;
/// What still waits when we hang up is given this time to leave, if it is no more than the last words of a conversation.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);
pub(crate) const MAX_LAST_WORDS: u64 = 64 << 10;
/// Bytes of messages that were read and not handled yet; more are not read. Sixteen of the largest, and what a line of 100
/// Mbit/s brings in 80 ms: no turn of ours takes longer.
pub(crate) const MAX_UNHANDLED: u32 = 1 << 20;
/// Messages of that, each of which costs a little beside its bytes.
pub(crate) const MAX_UNHANDLED_MESSAGES: usize = 1024;
/// Bytes of pongs, at once and a second. LND asks for up to 65,531 bytes once a minute; BOLT 1 lets a node hang up on more
/// than one ping in 30 seconds. A ping of 24 bytes must not buy a stranger thousands of our line.
pub(crate) const PONGS_AT_ONCE: u64 = 512 << 10;
pub(crate) const PONGS_PER_SECOND: u64 = 16 << 10;
/// Bytes of messages for other programs that are taken from one peer, while a program listens; what is above is dropped. Each
/// counts for `CUSTOM_OVERHEAD` more than it holds.
pub(crate) const CUSTOM_AT_ONCE: u64 = 512 << 10;
pub(crate) const CUSTOM_PER_SECOND: u64 = 64 << 10;
pub(crate) const CUSTOM_OVERHEAD: u64 = 256;
/// Such messages of all peers that a program may be behind: 8 MB of the longest ones.
pub(crate) const CUSTOM_BACKLOG: usize = 128;
/// What the shortest pong counts for: its frame, and the work.
pub(crate) const PONG_OVERHEAD: u64 = 64;

// Lightning: all connections.

/// Inbound handshakes at once of whom nothing is known. Whoever comes when they are full takes the place of the one who has
/// been silent longest, so the number only has to be above what honest peers need at once: each takes two round trips.
pub(crate) const MAX_HANDSHAKES: usize = 64;
/// Those from addresses where a peer with a channel was seen, which nobody else can take.
pub(crate) const MAX_KNOWN_HANDSHAKES: usize = 32;
/// Connected nodes that came to us and have no channel that is paid for. LND and Core Lightning serve some hundred strangers;
/// each may cost [`MAX_UNSENT_ANSWERS`] and [`MAX_UNHANDLED`].
pub(crate) const MAX_STRANGERS: usize = 128;

/// Processor time for all strangers together, beside handshakes and the checks of their gossip
/// ([`leyden_channels::gossip::limits`]): decryption, and their tasks. A sixth of one core is some 100 MB of what they send
/// in a second, far above what honest strangers need; a node with two slow cores has the rest for payments.
pub(crate) const STRANGERS_TIME: Share =
    Share { per_second: Duration::from_millis(160), at_once: Duration::from_millis(320) };
/// Processor time for handshakes of whom nothing is known yet: some 250 in a second. Of its own, because whoever has a
/// channel is a stranger until then, and must not wait behind those whom we know to be.
pub(crate) const HANDSHAKES_TIME: Share =
    Share { per_second: Duration::from_millis(80), at_once: Duration::from_millis(400) };
/// Messages of a stranger that are handled before the next one's turn. Those of peers with channels share signatures and
/// writes, the more the better; a stranger's share nothing.
pub(crate) const STRANGERS_TURN: usize = 64;

// Channels of which only the peer's word says that they will be funded.

/// Of one peer: each costs us memory and, once its first commitments are signed, a place in the store. Core Lightning and LND
/// allow fewer.
pub(crate) const MAX_UNFUNDED_PER_PEER: usize = 16;
/// Of all peers: some 10 kB in memory and 3 kB in the store each, and a look at the chain at every block.
pub(crate) const MAX_UNFUNDED: usize = 256;
/// Blocks after which such a channel gives way to another one when there is no room, if its funding transaction was not even
/// seen. A funder who gets our signature broadcasts within seconds, and one who asks other signers within the hour. When
/// all are younger than this, openings by strangers are refused: that is the most that a stranger can do by them.
pub(crate) const UNFUNDED_GIVES_WAY_AFTER: u32 = 6;

/// HTLCs that wait until a full channel has room, in each channel: as many as it may hold (BOLT 2). They are payments of this
/// node and forwards, each with an onion; more than that are refused as the channel refuses them.
pub(crate) const MAX_WAITING_FOR_ROOM: usize = 483;

// A watchtower's clients. What they may make it store stands in `leyden_watchtower::session`.

/// Connections of clients that are not on the allow list, registered or not. A client of a tower needs one; whoever comes when they
/// are full takes the place of another: of those that are not registered first, and of the largest crowd.
pub(crate) const MAX_TOWER_STRANGERS: usize = 256;
/// Connections of clients on the allow list, which nobody else can take: one needs one.
pub(crate) const MAX_TOWER_KNOWN: usize = 64;
/// Within this time after the handshake a connection has to belong to a client that is registered.
pub(crate) const TOWER_REGISTER_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one client's messages that were read and are not durable yet; more are not read. It is what one commit takes up:
/// a thousand backups without HTLCs, or four frames of the largest.
pub(crate) const TOWER_MAX_UNHANDLED: u32 = 256 << 10;
/// What a message counts for at least: with the smallest ones 4,096 of them may wait.
pub(crate) const TOWER_MESSAGE_COST: u32 = 64;
/// Answers that may wait for a client that does not read them: a state of each of a thousand channels, several times over.
pub(crate) const TOWER_MAX_UNSENT: usize = 4_096;
/// Processor time for decryption of what those send who are not registered: honest ones register with their second message.
pub(crate) const TOWER_STRANGERS_TIME: Share =
    Share { per_second: Duration::from_millis(80), at_once: Duration::from_millis(160) };
/// Processor time for the handshakes of a watchtower: some 250 in a second.
pub(crate) const TOWER_HANDSHAKES_TIME: Share =
    Share { per_second: Duration::from_millis(80), at_once: Duration::from_millis(400) };

// Callers: gRPC, REST and JSON-RPC.

/// Until it has shown a token, or called something that needs none, a connection lives this long: TLS and one request.
pub(crate) const CALLER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing moves is asked so often whether its other end is still there.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// For how long that, or what was sent, may stay without an answer: whoever vanished without a word holds no place after it.
pub(crate) const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(60);
/// A newcomer of whom nothing is known does not give way to the next one of a crowd of as many for this long: TLS and one
/// request over a slow line.
pub(crate) const CALLER_GRACE: Duration = Duration::from_secs(2);
/// A caller has to take some bytes within this time while there are any for it.
pub(crate) const CALLER_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of JSON-RPC between two requests. Bitcoin Core waits for 30 s; pools of clients keep them longer.
pub(crate) const CALLER_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Connections of which nothing is known, for each of gRPC, REST and JSON-RPC. Whoever comes when they are full takes the place of
/// another, those of other machines first. As many as may be known: a pool of clients opens all of its connections at once, and
/// each is unknown until its first request is read.
pub(crate) const MAX_UNKNOWN_CALLERS: usize = MAX_KNOWN_CALLERS;
/// Connections that have shown a token: a client needs one, a pool of clients some.
pub(crate) const MAX_KNOWN_CALLERS: usize = 96;
/// Bytes of the log that a call gives: its end.
pub(crate) const MAX_LOG_ANSWER: u64 = 1 << 20;
/// Addresses in what the node says of itself: each is some 20 bytes in every node's graph.
pub(crate) const MAX_ANNOUNCED_ADDRESSES: usize = 16;
/// Calls at a time that sign for programs or look for their keys; others wait for their turn. Each takes some milliseconds of a
/// processor, or a second where ten thousand keys are looked through.
pub(crate) const MAX_SIGNING_AT_ONCE: usize = 2;
/// Callers that wait until something stands in the chain, all together: each reads every block. Loop has a few for each swap.
pub(crate) const MAX_CHAIN_WATCHES: usize = 256;
/// Calls at a time on one connection of gRPC.
pub(crate) const MAX_CALLS_PER_CONNECTION: u32 = 256;
/// The largest request of JSON-RPC: a block in hexadecimal and some air.
pub(crate) const MAX_JSONRPC_BODY: usize = 10_000_000;
/// What reading one may take: 10 MB in this time is 2.7 Mbit/s.
pub(crate) const JSONRPC_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls in one batch of JSON-RPC. Bitcoin Core has no such limit; Electrum servers, which send the largest ones, ask for some
/// hundred blocks or transactions at a time, and a block may be 8 MB of hexadecimal: all answers are in memory at once.
pub(crate) const MAX_JSONRPC_BATCH: usize = 1_000;
/// Bytes of answers of one batch: above, the rest is refused.
pub(crate) const MAX_JSONRPC_ANSWER: usize = 128 << 20;

/// The largest request of REST, or message of a WebSocket: LND's number for both.
pub(crate) const MAX_REST_BODY: usize = 4 << 20;
/// The largest request of a call that carries transactions or backups: the largest transaction, and backups of ten thousand
/// channels.
pub(crate) const MAX_LARGE_REQUEST: usize = 4 << 20;
/// The largest request of any other call: a payment to as many addresses as a transaction has room for is a quarter of it.
pub(crate) const MAX_REQUEST: usize = 1 << 20;
/// The largest request of a call that needs no token, but for those with backups, which may have [`MAX_REQUEST`].
pub(crate) const MAX_OPEN_REQUEST: usize = 64 << 10;
/// Bytes of all requests that are read or answered at a time, of gRPC and REST. What they are decoded to may be some times as
/// much.
pub(crate) const REQUESTS_ROOM: usize = 32 << 20;
/// The same of those without a token.
pub(crate) const OPEN_REQUESTS_ROOM: usize = 4 << 20;
/// Bytes of a request for which no room is needed: a full room keeps nobody from unlocking the wallet. With
/// [`MAX_OPEN_CALLS`] on each connection that is 12 MB.
pub(crate) const FREE_REQUEST: usize = 4 << 10;
/// Bytes of all requests of a call without a token that takes many: server reflection, whose clients ask some hundred times.
pub(crate) const FREE_REQUEST_STREAM: usize = 32 << 10;
/// Calls without a token at a time on one connection.
pub(crate) const MAX_OPEN_CALLS: usize = 16;
/// What reading a request may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The same without a token.
pub(crate) const OPEN_REQUEST_TIMEOUT: Duration = CALLER_TIMEOUT;
/// Bytes of a request's first line and headers: an invoice in the path, a macaroon with many caveats, and some air.
pub(crate) const MAX_REST_HEAD: usize = 64 << 10;
/// What sending an answer of Bitcoin Core's REST may take: 50 MB in this time are 3.3 Mbit/s.
pub(crate) const CHAIN_REST_ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

// Subscribers of ZeroMQ, who show nothing of who they are.

/// Connections: an indexer or another node takes one for each topic. What may wait for one stands in `zmq`: 32 MB, so all of
/// them together hold 1 GB at the very most, and nothing while they read.
pub(crate) const MAX_SUBSCRIBERS: usize = 32;

// Callers of the metrics, who show nothing of who they are.

/// Connections: a server that collects metrics needs one, two of them and a person who looks are three. Whoever comes when
/// they are full takes the place of another, those of other machines first.
pub(crate) const MAX_METRICS_CALLERS: usize = 8;
/// For so long a page is given to everybody who asks. Collectors ask every ten seconds or less often; a crowd must not have
/// every channel counted for each of its questions.
pub(crate) const METRICS_PAGE_AGE: Duration = Duration::from_secs(1);
/// How long one part of a page is waited for. Collectors give up after ten seconds.
pub(crate) const METRICS_READ_LIMIT: Duration = Duration::from_secs(3);

/// File descriptors that the process may have open, and how they are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors(usize);

/// What a system counts as unlimited is this many: no sum of shares overflows.
const MOST_DESCRIPTORS: usize = usize::MAX / 100;
/// What others are never given, beside the databases' files: logs, listeners, the runtime's own, outbound peers.
const OWN_DESCRIPTORS: usize = 40;
/// Files that the databases may keep open. Those of the chain are many, and opening one anew costs a millisecond; with some
/// tens RocksDB works well.
const CHAIN_FILES: u32 = 512;
const NODE_FILES: u32 = 256;
/// A tower's database reads a file when a breach is looked up or an audit read, and else writes.
const TOWER_FILES: u32 = 32;
const LEAST_FILES: u32 = 16;
/// Slots of a server, however few descriptors there are: with fewer, honest callers who come at once would put one another out.
const LEAST_PLACES: usize = 4;
/// The same of REST, whose page a browser asks for over six connections at once: with fewer it puts itself out. Two more are
/// for a program beside it.
const LEAST_BROWSER_PLACES: usize = 8;

impl Descriptors {
    /// Of a process that may have so many open.
    pub(crate) fn new(limit: u64) -> Self {
        Self(usize::try_from(limit).unwrap_or(usize::MAX).min(MOST_DESCRIPTORS))
    }

    /// So many of each hundred that are not our own, but one at least and `most` at most.
    pub(crate) fn share(self, percent: usize, most: usize) -> usize {
        let files = self.chain_files().saturating_add(self.node_files()).saturating_add(self.tower_files());
        let own = OWN_DESCRIPTORS + usize::try_from(files).unwrap_or(usize::MAX / 2);
        (self.0.saturating_sub(own) * percent / 100).clamp(1, most)
    }

    /// Files of the chain's database.
    pub(crate) fn chain_files(self) -> u32 {
        u32::try_from(self.0 / 4).unwrap_or(u32::MAX).clamp(LEAST_FILES, CHAIN_FILES)
    }

    /// Files of the node's database.
    pub(crate) fn node_files(self) -> u32 {
        u32::try_from(self.0 / 8).unwrap_or(u32::MAX).clamp(LEAST_FILES, NODE_FILES)
    }

    /// Files of the watchtower's database.
    pub(crate) fn tower_files(self) -> u32 {
        u32::try_from(self.0 / 16).unwrap_or(u32::MAX).clamp(LEAST_FILES, TOWER_FILES)
    }

    /// Connections of a watchtower's clients. Where descriptors are scarce they are few: the node's own needs come first.
    pub(crate) fn tower(self) -> SlotLimits {
        SlotLimits { strangers: self.share(7, MAX_TOWER_STRANGERS), known: self.share(3, MAX_TOWER_KNOWN) }
    }

    /// Lightning connections of strangers, and of others as far as these have not come.
    pub(crate) fn lightning(self) -> usize {
        self.share(24, usize::MAX).max(LEAST_PLACES)
    }

    pub(crate) fn handshakes(self) -> SlotLimits {
        SlotLimits {
            strangers: self.share(10, MAX_HANDSHAKES).max(LEAST_PLACES),
            known: self.share(8, MAX_KNOWN_HANDSHAKES),
        }
    }

    /// Of gRPC or JSON-RPC, each.
    pub(crate) fn callers(self) -> SlotLimits {
        self.callers_with(LEAST_PLACES)
    }

    /// Of REST and its page.
    pub(crate) fn browsers(self) -> SlotLimits {
        self.callers_with(LEAST_BROWSER_PLACES)
    }

    fn callers_with(self, least: usize) -> SlotLimits {
        SlotLimits {
            strangers: self.share(4, MAX_UNKNOWN_CALLERS).max(least),
            known: self.share(4, MAX_KNOWN_CALLERS).max(least),
        }
    }

    /// Of ZeroMQ: nobody is known there.
    pub(crate) fn subscribers(self) -> SlotLimits {
        SlotLimits { strangers: self.share(3, MAX_SUBSCRIBERS), known: 0 }
    }

    /// Of the metrics: nobody is known there. Where descriptors are scarce one collector has to do.
    pub(crate) fn metrics_callers(self) -> SlotLimits {
        SlotLimits { strangers: self.share(1, MAX_METRICS_CALLERS), known: 0 }
    }

    /// Connections that other nodes of the chain may open to us.
    pub(crate) fn chain_inbound(self, most: usize) -> usize {
        self.share(20, most)
    }
}

/// How many connections a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotLimits {
    pub strangers: usize,
    pub known: usize,
}

/// One limit as it is kept to now, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitUse {
    pub name: &'static str,
    pub used: u64,
    pub limit: u64,
    /// How often something was refused or had to give way, since the start.
    pub refused: u64,
    /// What it bounds, in words.
    pub what: &'static str,
}

impl LimitUse {
    /// How much of a shared time is gone now, of what there is at once.
    pub(crate) fn of_time(name: &'static str, time: &TimeBudget, what: &'static str) -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (used, limit) = (milliseconds(time.spent()), milliseconds(time.share().at_once));
        Self { name, used, limit, refused: time.rests(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_never_get_the_descriptors_that_the_node_needs() {
        for limit in [0, 64, 128, 256, 1_024, 1 << 20, MOST_DESCRIPTORS] {
            let all = Descriptors::new(limit as u64);
            let (handshakes, callers) = (all.handshakes(), all.callers());
            let strangers = all.lightning().min(MAX_STRANGERS)
                + all.chain_inbound(117)
                + handshakes.strangers
                + all.tower().strangers
                + 2 * callers.strangers
                + all.browsers().strangers
                + all.subscribers().strangers
                + all.metrics_callers().strangers;
            let files = all.chain_files() + all.node_files() + all.tower_files();
            let own = OWN_DESCRIPTORS + usize::try_from(files).unwrap();
            assert!(
                strangers <= limit.saturating_sub(own).max(5 * LEAST_PLACES + LEAST_BROWSER_PLACES + 4),
                "{limit}: {strangers}"
            );
        }
        assert_eq!(Descriptors::new(u64::MAX), Descriptors(MOST_DESCRIPTORS));
        let usual = Descriptors::new(1_024);
        assert_eq!(usual.lightning().min(MAX_STRANGERS), MAX_STRANGERS);
        assert_eq!(usual.handshakes(), SlotLimits { strangers: 56, known: MAX_KNOWN_HANDSHAKES });
        assert_eq!(usual.callers(), SlotLimits { strangers: 22, known: 22 });
        assert_eq!(usual.browsers(), usual.callers());
        let scarce = Descriptors::new(256);
        assert_eq!(scarce.callers(), SlotLimits { strangers: LEAST_PLACES, known: LEAST_PLACES });
        assert_eq!(scarce.browsers(), SlotLimits { strangers: LEAST_BROWSER_PLACES, known: LEAST_BROWSER_PLACES });
        assert_eq!(usual.tower(), SlotLimits { strangers: 39, known: 17 });
        assert_eq!(usual.subscribers(), SlotLimits { strangers: 17, known: 0 });
        assert_eq!(usual.metrics_callers(), SlotLimits { strangers: 5, known: 0 });
        assert_eq!((usual.chain_inbound(117), usual.chain_files(), usual.node_files()), (113, 256, 128));
    }
}
