//! Own mode: a tower that belongs to the channel's owner, holds the revocation secrets, and does on the chain what the channel
//! itself would do about a breach.
//!
//! ```text
//!   once a channel      OwnChannel: keys, delay, destination, the secret of the revocation basepoint
//!   each revocation     the peer's secret (49 of them hold all), and the HTLCs that are new: some 60 bytes each
//!   the funding output is spent ─► Resolution with those secrets and no other key ─► penalties, second stages included
//! ```
//!
//! It covers every output of every revoked state, and whatever the cheater makes of them, merged second stages included, with
//! fees that follow the market: the core is the channel's own ([`leyden_channels::onchain::Resolution`]). `to_remote` is
//! left to its owner: the cheater cannot take it.
//!
//! **What it reveals.** With the peer's secret of any state, the secret of the revocation basepoint signs for everything that
//! this state gave the peer. A tower that colludes with the peer can take back what was once paid, and one that steals alone
//! cannot: nothing is spendable with it before the peer publishes a revoked state. Anybody who is given it can also compute
//! the basepoint's secret from a revocation key and the cheater's secret: that is why it must never be a stranger. A tower
//! takes such secrets from the clients that its operator has listed, and a client sends them to a tower that was added as its
//! own; each side refuses by itself.
//!
//! **What it costs.** Some 1 kB a channel, a shachain (32 bytes for each doubling of the number of states) and 70 bytes an
//! HTLC that ever was, in any number of states.

mod channel;
mod guard;
mod signer;

pub use channel::{OwnChannel, RevocationSecret};
pub use guard::{Guard, GuardCtx, OwnError};
pub use signer::RevocationSigner;
