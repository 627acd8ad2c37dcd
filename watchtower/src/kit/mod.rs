//! The justice kit: what a blind tower needs to punish one revoked commitment, signed in advance by its client.
//!
//! ```text
//!   client, at the revocation                              tower, at the breach
//!   commitment, secret, keys ──build──► JusticeKit ──seal──► hint + sealed ──open──► JusticeKit ┐
//!   once a channel:        Constants ──seal──────────────► sealed ─────────open with the kit's key ┤
//!                                                             breaching transaction ───────────────┴─► Claims
//! ```
//!
//! # Layout
//!
//! A kit, before it is sealed ([`crate::seal`], 16 bytes more):
//!
//! ```text
//!   layout 1                 1 static_remotekey, 2 anchors; another one is refused by name, never guessed
//!   flags 1                  parity of the point · to_local · to_remote · HTLCs
//!   constants' key 16
//!   per_commitment_point 32  x alone
//!   signature 64             to_local, if the commitment has it
//!   signature 64             to_remote, if the commitment has it
//!   count 2, then of each HTLC that is covered
//!       output index 2       the highest bit: offered by the cheater
//!       payment hash 20      RIPEMD-160 of it
//!       expiry 4             the script of one that the cheater received has it, and from it on the other kind can be moved
//!       signature 64
//!       signature 64         static_remotekey: the output of its second stage, whose txid is known in advance
//! ```
//!
//! The keys are not in it: they follow from the per-commitment point and the basepoints, which are the same in every state
//! and lie once a channel in [`Constants`], sealed under a key of 16 bytes that each kit repeats. That is 194 sealed bytes a
//! state without HTLCs, against 237 with both keys, the delay and the sweep script in each; and the tower cannot read the
//! constants, nor link the channel to its funding output, before it has opened a kit.
//!
//! # Which signatures
//!
//! Each covers one input and one output (SINGLE|ANYONECANPAY, version 2, lock time 0), so the tower may join any of them in
//! any order, add inputs and outputs of its own, and leave out what the cheater has spent. The output pays to the client's
//! sweep script what the input holds less its share of a transaction of its own at the client's `sweep_feerate`, at least the
//! dust limit of that script ([`Sweep::output_value`]). What lies between is the slack, from which the tower pays.
//!
//! # What a kit covers, and what not
//!
//! - `to_local`, `to_remote` (the cheater cannot take it, but then all is at home), every HTLC output above the dust limit
//!   plus a share at the lowest rate that relays (some 440 sat), and with `static_remotekey` the cheater's second stages.
//! - Not the second stages of anchors channels: the cheater chooses their inputs and fee, so their txid is not known. What
//!   the tower does is to be first: those stages wait one block after the commitment, and its own claims go out while the
//!   commitment is in the mempool, so into the same block. One that it sees only in a block leaves it a race at the fees
//!   that the slack allows.
//! - Not fees above the slack: at the default of 2,500 sat/kw a claim pays up to 10 sat/vB. A client that expects more raises
//!   `sweep_feerate` (`leydend --tower-sweep-feerate`), or runs its own tower.
//!
//! # Who can do what
//!
//! - A lying client signs for other amounts, other outputs or garbage: the tower checks every signature against the breach
//!   that it sees and drops a kit at the first one that does not fit, so its broadcasts are valid and such a kit costs one
//!   check. HTLCs come in the order of their outputs, each once: no kit has more signatures than the breach has outputs.
//! - A lying tower has, before the breach, random bytes. With the breach it can take the slack for itself by adding an output
//!   (that is its reward and no more), or do nothing: it cannot redirect an output, nor lower it.
//! - A cheater that is also a client can register the hint of its own breach as often as its quota allows; each such kit fails
//!   to open, or claims what the breach does not have, and stands in nobody's way.
//! - The signatures of a kit are worth something only in the breach that they are sealed for: they name its txid.

mod build;
mod claims;
mod constants;
mod layout;
mod sweep;

pub use build::{KitError, KitRequest, build};
pub use claims::{BreachOutputs, Claims, KitClaim, KitRole, OpenError, SecondStage, open};
pub use constants::{Constants, ConstantsError, ConstantsKey, SweepTerms};
pub use layout::{HtlcKit, JusticeKit};
pub use sweep::{DEFAULT_SWEEP_FEERATE, Sweep, joined};
