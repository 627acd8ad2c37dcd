//! What the network tells about itself (BOLT 7): checked, kept, passed on.
//!
//! ```text
//!   peers ──► Inbox ──► Intake: checks ──► Graph ──► routing
//!     ▲                    │ store, relay
//!     └──── GossipSync ◄───┘   queries both ways, filters, backlog
//!         announce: our own channels and node
//! ```
//!
//! - [`graph`]: nodes, channels and policies, laid out for pathfinding ([`adjacency`]).
//! - [`validate`], [`intake`]: signatures, funding outputs, times, rates; pruning.
//! - [`inbox`], [`waiting`], [`bans`]: fair places for what peers say; who forges. [`limits`]: what all may cost.
//! - [`store`]: the records that the graph is filled from at start.
//! - [`sync`], [`serving`]: catching up, and keeping others up to date.
//! - [`time`]: what is taken for the present.
//! - [`announce`]: what this node says about itself.
//! - [`synthetic`]: a made-up network of the real one's shape and size, for benchmarks and tests.
//!
//! Gossip needs no commit before its effects: whatever is lost in a crash is asked for again.

pub mod adjacency;
pub mod announce;
pub mod bans;
pub mod bucket;
pub mod checksum;
pub mod graph;
pub mod inbox;
pub mod intake;
pub mod limits;
pub mod serving;
pub mod store;
pub mod sync;
pub mod synthetic;
pub mod time;
pub mod validate;
mod waiting;

#[cfg(test)]
mod tests;

pub use adjacency::{EdgeId, Slot};
pub use bans::BanList;
pub use graph::{ChannelIndex, Direction, Graph, NewChannel, NodeIndex, RoutingPolicy};
pub use inbox::{Inbox, Received};
pub use intake::{FundingAnswer, GossipEffect, Ignored, Intake};
pub use serving::Serving;
pub use store::GossipKey;
pub use sync::{GossipSync, SyncEffect};
pub use time::Clocks;
pub use validate::{Announcement, SignatureCheck};
