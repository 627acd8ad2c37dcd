//! Blocks between an HTLC's events and its expiry, each number once, and how long one waits for news of the chain.
//!
//! ```text
//!  received, and ours to take                                                     offered
//!  ──── accepted ──────► CLAIM_MARGIN ──► RECEIVED_MARGIN ──► UPSTREAM_MARGIN ──► expiry ──► OFFERED_GRACE ─ ─► SMALL_GRACE
//!       only before it                    we close for the    a forward behind               we close to take   also for what is
//!       held: given up                    preimage's sake     it is failed back              it back            not worth the fee
//! ```
//!
//! Small forwards have no such long grace once there are several: see [`crate::onchain::must_close`].
//!
//! A preimage must not be told so late that the channel has to be closed for it at once: therefore the margin at which
//! HTLCs are accepted lies above the one at which channels close, for invoices, held ones and spontaneous payments alike.

/// Blocks before its expiry at which we close for an HTLC whose preimage we know: our commitment and the claim must be
/// confirmed by then.
pub const RECEIVED_MARGIN: u32 = 12;

/// Blocks that an HTLC for us must have left, more than these, when it is accepted, and at which what is held is given
/// up. Above [`RECEIVED_MARGIN`] by the blocks that may be found while the preimage travels and the peer signs.
pub const CLAIM_MARGIN: u32 = RECEIVED_MARGIN + 4;

/// Blocks before its expiry at which an incoming HTLC that waits for an outgoing one is failed: then its channel need
/// not be closed for it (BOLT 2, `cltv_expiry_delta` Selection).
pub const UPSTREAM_MARGIN: u32 = 3;

/// Blocks after its expiry at which we close for an HTLC that we offered.
pub const OFFERED_GRACE: u32 = 3;

/// Blocks after its expiry at which we close for an HTLC that we offered and that is not worth the fee of its claim: two
/// days. A peer may be away for a day without that costing a channel, but a payment must end: its HTLC can be fulfilled as long as the channel lives, so only the chain can say
/// that it failed. A peer that leaves an HTLC for two days after its expiry is gone or broken, and so is the channel.
pub const SMALL_GRACE: u32 = 288;

/// Blocks within which a claim is confirmed whose fee climbs with each of them.
pub const CONFIRMATION_BUDGET: u32 = 24;

/// Confirmations, the block itself being the first, after which the loss of an outgoing HTLC, or of the funding that it
/// needs, counts: then its incoming HTLC is failed.
pub const FAIL_DEPTH: u32 = 6;

/// Confirmations after which a spend is final, and what depended on it is forgotten (BOLT 5 says 100). Until then a
/// reorganisation could put a revoked commitment in its place, and somebody must be there to see it.
pub const FINAL_DEPTH: u32 = 100;

/// BOLT 4's `max_htlc_cltv`: coins are not locked for longer than two weeks, neither in forwards nor in our own payments.
pub const MAX_HTLC_CLTV: u32 = 2016;

/// For how long an HTLC waits until it is known how far the chain is, in seconds. A start, or a lost connection, takes seconds. Payers try for a minute (LND,
/// Core Lightning): one whose HTLC is failed earlier still has the time to try another way, or again.
pub const WAIT_FOR_TIP_SECONDS: u64 = 20;
