//! What gossip may cost: every bound of this module, and of the task that drives it, with its reason.
//!
//! ```text
//!   peer ──► Inbox ──► signature ──► PendingAnnouncements ──► funding ──► Graph, store      costs us: queue, CPU, room, disk
//!            QUEUE_*   CHECKS_*      SHARE_*                     UPDATES, NODES
//!   peer ──► questions ──► pieces ──► its connection                               costs us: queue, reads, bandwidth
//!            QUESTIONS     PIECE_BYTES  SERVED, UNSENT_BYTES
//! ```
//!
//! Three kinds of senders: this node itself, which no bound holds back; peers with a channel whose funding output is on
//! the chain, each with a share of its own that nobody else can fill; and strangers, each with a small share, and all
//! of them together with no more than so much. What is refused is counted ([`Refusals`]).

use super::bucket::Rate;

// What waits to be looked at.

/// Encoded bytes of one peer's messages that wait, if we have asked it for something or have a channel with it: the
/// answer to our largest question is a megabyte ([`IDS_PER_QUERY`]), and what a busy network says in a minute a fifth.
pub const QUEUE_BYTES: usize = 2 << 20;
/// Encoded bytes that wait of a stranger that we have asked for nothing: its own channels and its questions.
pub const STRANGER_QUEUE_BYTES: usize = 64 << 10;
/// All strangers together, asked or not: 5 that are asked, and 96 others with full queues.
pub const STRANGERS_QUEUE_BYTES: usize = 16 << 20;
/// What a waiting message costs beside its encoded bytes: its decoded form and its place in the queue.
pub const MESSAGE_OVERHEAD: usize = 256;
/// Messages of one turn: enough to share a batch of checks and one write, few enough to be done in a tenth of a second.
pub const TURN_MESSAGES: usize = 512;

// Signatures.

/// Curve operations for a peer in a second: 60 µs each, so that none takes more than an eighth of one core. A network
/// of the public one's size, some 350,000 signatures, is checked in three minutes. Twice that at once, for the answer to
/// one question.
pub const CHECKS: Rate = Rate { burst: 4_000.0, per_second: 2_000.0 };
/// For all strangers together in a second: half a core.
pub const STRANGERS_CHECKS: Rate = Rate { burst: 8_000.0, per_second: 8_000.0 };
/// Bytes of a message that cost as much as a check: a question for 8,000 channels, or the answer to one, has to be sorted
/// and looked up, some two milliseconds.
pub const BYTES_PER_CHECK: f64 = 2_000.0;
/// Wrong signatures that end a connection. No honest node passes on what it has not checked, so one is no accident; three
/// leave room for a node with one damaged record.
pub const FORGERIES: u32 = 3;
/// For so long a forger's key, and its address if it is a stranger's, is refused; its forgeries are forgotten after it,
/// too. An hour makes each three forgeries cost a new address.
pub const REFUSED_SECONDS: u64 = 3_600;
/// Forgers that are remembered, and likewise peers that are muted; whoever was noted first is forgotten first. A hundred
/// bytes each.
pub const REMEMBERED_FORGERS: usize = 4_096;
/// A message at a place in the chain so deep that no reorganisation separates us from the sender, and about an output
/// that is not there, is as good as forged.
pub const SETTLED_BLOCKS: u32 = 100;

// What waits for its channel, its funding or its depth.

/// Bytes that one stranger's announcements may hold while they wait: more than one turn of an honest answer brings,
/// since what is not young leaves within its turn.
pub const SHARE_BYTES: usize = 256 << 10;
/// All strangers together. When it is full, whoever holds most gives way.
pub const STRANGERS_SHARE_BYTES: usize = 8 << 20;
/// A peer with a channel.
pub const CHANNEL_PEER_SHARE_BYTES: usize = 1 << 20;
/// An announcement that is longer is neither kept nor passed on (BOLT 7 lets a node be reluctant): all that is defined
/// takes less than a kilobyte, and as much again is left for what is not defined yet.
pub const ANNOUNCEMENT_BYTES: usize = 2_048;

// How often the same thing may change.

/// A direction of a channel may take ten updates at once, and another one each minute.
pub const UPDATES: Rate = Rate { burst: 10.0, per_second: 1.0 / 60.0 };
/// A node may say something new about itself four times at once, and again each ten minutes.
pub const NODES: Rate = Rate { burst: 4.0, per_second: 1.0 / 600.0 };
/// A message that only repeats what is known is taken once a day: it says that its owner is alive.
pub const REPEAT_SECONDS: u32 = 24 * 3_600;

// Asking.

/// Peers that we ask for all that they know, and that then pass on to us what they hear.
pub const LIVE_PEERS: usize = 5;
/// Channels in one question. The answer, with updates and nodes, has to fit into [`QUEUE_BYTES`].
pub const IDS_PER_QUERY: usize = 500;
/// Channels that a peer may name: five times those of the public network. A peer that names more is making them up.
pub const RANGE_IDS: usize = 250_000;
/// An answer, or the next part of it, that has not come by then will not come. Peers that slow their answers down take
/// some five seconds for each.
pub const ANSWER_SECONDS: u64 = 60;
/// For all its answers a peer has this long.
pub const CATCH_UP_SECONDS: u64 = 3_600;
/// Answers in a row that bring none of the channels that they were asked for: the peer has nothing to tell.
pub const BARREN_ANSWERS: u32 = 3;
/// The peer that has passed on for the longest gives its place to one that waits, this often: nobody decides for good
/// what we hear, and what was lost is asked for again.
pub const TURN_SECONDS: u64 = 1_200;
/// A peer that was asked is not asked again before.
pub const ASK_AGAIN_SECONDS: u64 = 600;
/// A peer that keeps its place is asked for all it knows this often.
pub const REPEAT_QUESTION_SECONDS: u64 = 3_600;
/// A peer is useful if it tells at least one in so many of the public channels that we know from others.
pub const USEFUL_PART: usize = 2;

// Answering.

/// Questions of a peer that wait to be answered. BOLT 7 allows one of each kind at a time.
pub const QUESTIONS: usize = 2;
/// Channels in one answer: 24 bytes each with times and checksums, in 65,535.
pub const IDS_PER_REPLY: usize = 2_600;
/// What is sent to a peer before the next peer's turn.
pub const PIECE_BYTES: usize = 64 << 10;
/// Nothing more is sent to a peer of which so much has not left yet.
pub const UNSENT_BYTES: usize = 256 << 10;
/// Bytes a peer is sent in a second, and at once: a whole network in a minute.
pub const SERVED: Rate = Rate { burst: 2_097_152.0, per_second: 524_288.0 };
/// All strangers together.
pub const STRANGERS_SERVED: Rate = Rate { burst: 8_388_608.0, per_second: 4_194_304.0 };
/// Channels that are looked at for one piece of what a filter asks for, which may be none of them; and what each look
/// counts like, so that a filter which fits nothing is not for nothing.
pub const LOOKS: usize = 2_000;
/// Bytes that each look at a channel counts as, so that answers with nothing in them end too.
pub const LOOK_BYTES: usize = 16;
/// New messages that wait for a peer that does not take them; it may ask for what it misses. Four times what the public
/// network says in a minute.
pub const DUE_MESSAGES: usize = 4_096;

// Times.

/// Two weeks: an end that has said nothing for so long is taken to be gone (BOLT 7, Pruning).
pub const STALE_SECONDS: u64 = 14 * 24 * 3_600;
/// Blocks after which a channel without updates is forgotten (BOLT 7: two weeks).
pub const STALE_BLOCKS: u32 = 2_016;
/// Clocks may differ by a day.
pub const FUTURE_SECONDS: u64 = 24 * 3_600;
/// The present is at most so much later than the median time of the last blocks, whatever the clock says. That median
/// lags by an hour on a chain with blocks every ten minutes; six hours leave room for slow ones, and stay well within
/// the day that others tolerate.
pub const CHAIN_LAG_SECONDS: u64 = 6 * 3_600;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A wrong signature.
    Forged,
    /// The peer's queue of messages is full.
    QueueFull,
    /// Its share of what waits for funding or depth is.
    RoomFull,
    /// A peer that forged, and is not heard for a while.
    Muted,
    /// A list is longer than anybody needs.
    TooLong,
    /// A peer asks or sends more often than it may.
    TooOften,
    /// A question while others of the peer wait.
    Question,
    /// New messages for a peer that does not take them.
    NotTaken,
}

impl Refusal {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Forged,
        Self::QueueFull,
        Self::RoomFull,
        Self::Muted,
        Self::TooLong,
        Self::TooOften,
        Self::Question,
        Self::NotTaken,
    ];

    /// For a metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::QueueFull => "queue_full",
            Self::RoomFull => "room_full",
            Self::Muted => "muted",
            Self::TooLong => "too_long",
            Self::TooOften => "too_often",
            Self::Question => "question",
            Self::NotTaken => "not_taken",
        }
    }
}

/// How often what was refused since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// One more.
    pub fn count(&mut self, refusal: Refusal) {
        self.add(refusal, 1);
    }

    /// Many more.
    pub fn add(&mut self, refusal: Refusal, more: u64) {
        if let Some(count) = self.0.get_mut(refusal as usize) {
            *count = count.saturating_add(more);
        }
    }

    /// How many there were.
    pub fn get(&self, refusal: Refusal) -> u64 {
        self.0.get(refusal as usize).copied().unwrap_or_default()
    }

    /// What several parts have counted.
    pub fn with(mut self, others: &Self) -> Self {
        Refusal::ALL.iter().for_each(|refusal| self.add(*refusal, others.get(*refusal)));
        self
    }
}
