//! Atomic swaps: coins of one chain for coins of another, between two people who do not trust each other.
//!
//! ```text
//!            initiator (knows the secret)                       participant
//!  quote ──────────────── offer: amounts, hash, expiries, keys ────────────► accept
//!  initiate ◄──────────── acceptance: keys ─────────────────────────────────┘
//!     └─► locks on the first chain   [hash; back after 48 h]
//!                     deep, audited ──────────────────────────────────────► participate
//!             locks on the second chain   [same hash; back after 24 h] ◄──────┘
//!  deep, audited, in time ─► redeems on the second chain, shows the secret ─► redeems on the first chain
//! ```
//!
//! [`contract`] has the output that both lock coins in, [`terms`] what both agree on, [`Swap`] the state machine of one
//! person for both chains, behind the commit gate.
//!
//! # Promises
//!
//! - Nothing is locked beyond what was quoted: not another amount, not at another expiry, not with a higher fee.
//! - The signed refund is durable before the lock is broadcast.
//! - What the other person says is never relied on: their lock counts when a block has it, with the script that follows
//!   from both keys, the amount and the chain of the offer, so many blocks deep.
//! - The secret is not shown for the first time when there is too little time left to take the coins; once it is shown,
//!   nothing stops the attempt.
//! - Whoever has or may take the other's coins does not take their own back.
//! - A participant's lock that no block takes in time, or whose counterpart has left the chain, is called back, before it
//!   could come when it is of use to the other alone.
//! - Every claim is broadcast again at each block and pays more toward its deadline, within its budget; a reorganisation
//!   of a lock, a redeem or a refund puts the machine back to where the chain is.
//!
//! Whose disk is lost goes on from a copy of the row, however old: [`Swap::recover`]. The seed and the contract's script alone do
//! for the coins, too: [`way_out`]. The script names the hash, and the keys follow from that and the seed.
//!
//! # Why times and not heights
//!
//! Expiries are times (BIP 65 with the median time of BIP 113), as the two chains find their blocks at rates of their
//! own: with heights, a first chain that runs fast would open its refund before the second one's redeem is seen. A median
//! time is the same clock on both, at most two hours ahead of the world; and after a time without blocks it lags, so
//! that a redeem gets into blocks before a refund may.
//!
//! # Limits
//!
//! It has to be followed: a person whose node is away from one chain for longer than the margins in [`margins`] allow can
//! lose the coins, as in any such swap. A reorganisation deeper than [`margins::REORG_DEPTH`] can do the same.
//!
//! A data directory that is older than a lock finds it in blocks, and asks the wallet for it before it locks again and before
//! the swap ends. A swap that has ended with nothing locked is followed on for as long as a mempool keeps transactions
//! ([`margins::MEMPOOL_SECONDS`]), and goes on if its lock comes all the same. Where neither a block nor the wallet knows
//! of the lock in time, a participant cannot call it back; and whoever has kept it may send it in even later. For that, and for
//! a data directory that is older than the other's keys, there is `leyden swap reclaim`, with the contract's script.

pub mod contract;
pub mod margins;
pub mod submarine;
pub mod terms;

mod act;
mod claim;
mod event;
mod leg;
mod reclaim;
mod record;
mod span;
mod state;

#[cfg(test)]
pub(crate) mod tests;

pub use contract::{Contract, ContractError, Expiry};
pub use event::{BlockSeen, ChainCtx, Ctx, Effect, Event, Key, Refusal, SwapKeys, SwapOutbox};
pub use leg::{Claim, LegState, Lock, Ramp, Recall, Start, Taken, Tip};
pub use reclaim::{NotOurs, way_out};
pub use record::RestoreError;
pub use state::{Outcome, Phase, Request, Swap, Trade};
pub use terms::{Acceptance, Chain, Leg, LegTerms, Offer, Role, TermsError};
