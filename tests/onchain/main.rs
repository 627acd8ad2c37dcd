//! The days that a channel must survive, on the real chain: consensus rules, mempool policy, blocks with proof of work
//! and reorganisations are those of the daemon; only the network and the clock are left out.
//!
//! | scenario | file |
//! |---|---|
//! | 1 to 6: a revoked state, bare, with HTLCs, with second stages, merged, pinned, in a fee spike | `breach` |
//! | 7 and 15: restarts after every event, crashes between every write and its effect | `restarts` |
//! | 8: reorganisations | `reorganisations` |
//! | 9 to 13: a unilateral close with HTLCs | `force_close` |
//! | 25: the funding output goes to scripts that nobody agreed to | `foreign_spend` |
//! | 14: a peer with a newer commitment | `lost_state` |
//! | 2 with all 966 HTLCs, and how long it takes | `large_breach` |
//! | 22: the funding transaction is not final | `unfunded` |
//! | 18 and 19: a wallet that was swept empty, coins of claims that vanish | `empty_wallet` |
//! | 20: both commitments on their way, one of them stuck | `rivals` |
//! | what a long life leaves in the store | `storage` |
//!
//! Every test ends with both balances, to the satoshi: what is due, less the fees of one's own transactions.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod breach;
mod chain;
mod empty_wallet;
mod force_close;
mod foreign_spend;
mod large_breach;
mod lost_state;
mod node;
mod reorganisations;
mod restarts;
mod rivals;
mod storage;
mod unfunded;
mod wallet;
mod world;
