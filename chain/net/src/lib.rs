//! Bitcoin's peer-to-peer protocol, pure: messages, time and the outcomes of checks come in as events, what is to be
//! done comes out as actions.
//!
//! ```text
//!              bytes          messages                     actions
//!   socket ───▶ FrameDecoder ───▶ PeerSet::handle ─┬─▶ Send, ServeBlock, Disconnect ───▶ socket
//!     ▲                             ▲    │         └─▶ AcceptHeaders, ProcessBlock, SubmitTransaction
//!     └──────── encode_frame        │    ▼ reads                        │
//!                                   │  ChainView, MempoolView           ▼
//!                                   └──────────────── outcome ◀── chainstate, mempool
//! ```
//!
//! What it promises:
//! * Against honest peers it ends on the valid chain with most work that any of them serves, whatever the dishonest
//!   ones do, stall or withhold.
//! * No message makes it panic, and what one peer can make it remember is bounded.
//! * The same events with the same seed give the same actions.
//!
//! It speaks version 70016 with headers-first synchronisation (BIP 130), transactions by wtxid (BIP 339), fee filters
//! (BIP 133), `addrv2` (BIP 155), compact blocks (BIP 152, version 2) and block filters (BIP 157), in plain
//! frames or encrypted packets (BIP 324).

#![warn(missing_docs)]

mod address_book;
mod block_form;
mod bounded;
pub mod codec;
mod compact;
pub mod config;
mod entropy;
pub mod event;
pub mod eviction;
mod fetched;
mod handshake;
pub mod misbehavior;
mod orphanage;
mod peer;
mod peer_set;
mod plan;
mod presync;
pub mod transport;
mod tx_requests;
mod tx_validation;
pub mod view;

pub use address_book::{AddressBook, KnownAddress};
pub use block_form::BlockForm;
pub use codec::{Envelope, FrameDecoder, FrameError, encode_frame};
pub use config::{Config, Timing};
pub use event::{
    Action, BlockOutcome, Ctx, Direction, DisconnectReason, Event, FilterRequest, HeadersOutcome, PeerId,
    TransactionOutcome,
};
pub use fetched::{Fetched, Wish};
pub use misbehavior::Misbehavior;
pub use peer::{PeerClock, PeerSummary};
pub use peer_set::{PeerSet, locator};
pub use transport::TransportKind;
pub use view::{BlockState, ChainView, HeaderEntry, MempoolView, RelayedTx, TxName};
