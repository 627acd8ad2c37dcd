//! Forwards that somebody beside the switch decides about: they are held until he answers.
//!
//! ```text
//!   to be forwarded, somebody decides ──► held ──┬── resume ──► forwarded by the switch's own rules
//!                                                ├── settle ──► the preimage is stored as owed, then goes back
//!                                                ├── fail ────► failed, in our name or with his own words
//!                                                ├── he is gone ──► resumed, or held for the next one if one is required
//!                                                └── too close to its expiry ──► failed
//! ```
//!
//! Promises: a held HTLC has no outgoing one, and no preimage of it goes back before it is durable, so that a crash leaves
//! either the debt or an HTLC that is asked about again. None is held until its channel would have to be closed for it.
//! What is held is in memory alone and bounded by what the channels hold.

use std::collections::BTreeMap;

use crate::channel::{HtlcFailure, IncomingHtlc};
use crate::onion::{self, FailureMessage, ForwardPayload, HopPayload};
use crate::types::{ChannelId, CltvExpiry, Height, Msat, PaymentHash, PaymentPreimage, ShortChannelId};
use crate::wire::{OnionRoutingPacket, tlv::RawRecord};

use super::circuit::HtlcRef;
use super::replay::{OnionKey, SeenOnion};

/// Blocks before its expiry at which a held HTLC is failed: more than those at which a channel is closed for an HTLC that
/// nobody answers ([`WAIT_MARGIN_BLOCKS`](super::WAIT_MARGIN_BLOCKS)); LND's number.
pub const AUTO_FAIL_BLOCKS: u32 = 19;
/// Blocks more that must be left, or nobody is asked: there would be no time to answer. LND's number.
const TIME_TO_ANSWER_BLOCKS: u32 = 3;

/// Who decides about forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interceptor {
    /// The switch alone.
    #[default]
    None,
    /// Somebody, who is not there: forwards wait for him.
    Absent,
    /// Somebody who is asked.
    Present,
}

/// A forward to be decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterceptedHtlc {
    /// The incoming HTLC.
    pub incoming: HtlcRef,
    /// What the incoming channel is called.
    pub incoming_channel: ShortChannelId,
    /// What comes in.
    pub incoming_amount: Msat,
    /// The height from which the peer may take it back.
    pub incoming_expiry: CltvExpiry,
    /// The hash whose preimage claims it.
    pub payment_hash: PaymentHash,
    /// The channel that its sender has named; there may be none of that name.
    pub outgoing_channel: ShortChannelId,
    /// What the next hop is to get.
    pub outgoing_amount: Msat,
    /// The expiry of the HTLC to the next hop.
    pub outgoing_expiry: CltvExpiry,
    /// What its sender says to us beside that.
    pub custom_records: Vec<RawRecord>,
    /// For the next hop.
    pub next: OnionRoutingPacket,
    /// The height at which it is failed if nobody has answered.
    pub auto_fail: Height,
}

/// What is to become of a held HTLC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interception {
    /// Forwarded, if the switch finds a way.
    Resume,
    /// Taken, with this preimage.
    Settle(PaymentPreimage),
    /// Failed in our name.
    Fail(InterceptionFailure),
    /// Failed with the words of a node behind us, encrypted by it.
    FailEncrypted(Vec<u8>),
}

/// The failures that may be named: those about the onion, and the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "BOLT 4's names")]
pub enum InterceptionFailure {
    TemporaryChannelFailure,
    InvalidOnionVersion,
    InvalidOnionHmac,
    InvalidOnionKey,
}

#[derive(Clone, Debug)]
pub(super) struct HeldHtlc {
    pub htlc: IncomingHtlc,
    pub payload: ForwardPayload,
    pub next: OnionRoutingPacket,
    pub custom_records: Vec<RawRecord>,
    /// Its own onion, if it was seen before a restart.
    pub onion: Option<(OnionKey, SeenOnion)>,
    /// Its channel is closed: only a preimage helps.
    pub closed: bool,
}

impl HeldHtlc {
    pub(super) fn auto_fail(&self) -> Height {
        Height(self.htlc.cltv_expiry.0.saturating_sub(AUTO_FAIL_BLOCKS))
    }

    pub(super) fn ask(&self, incoming_channel: ShortChannelId) -> InterceptedHtlc {
        let Self { htlc, payload, next, custom_records, .. } = self;
        InterceptedHtlc {
            incoming: HtlcRef { channel: htlc.channel, id: htlc.id },
            incoming_channel,
            incoming_amount: htlc.amount,
            incoming_expiry: htlc.cltv_expiry,
            payment_hash: htlc.payment_hash,
            outgoing_channel: payload.short_channel_id,
            outgoing_amount: payload.amt_to_forward,
            outgoing_expiry: payload.outgoing_cltv_value,
            custom_records: custom_records.clone(),
            next: next.clone(),
            auto_fail: self.auto_fail(),
        }
    }
}

/// Whether there is time to ask about an HTLC.
pub(super) fn has_time(htlc: &IncomingHtlc, tip: Height) -> bool {
    htlc.cltv_expiry.0 > tip.0.saturating_add(AUTO_FAIL_BLOCKS + TIME_TO_ANSWER_BLOCKS)
}

/// The sender's own records for us.
pub(super) fn custom_records(htlc: &IncomingHtlc, node_secret: &secp256k1::SecretKey) -> Vec<RawRecord> {
    let peeled = onion::peel(&htlc.onion, &htlc.payment_hash, node_secret);
    peeled.map(|peeled| HopPayload::custom_records(&peeled.payload)).unwrap_or_default()
}

impl InterceptionFailure {
    /// The message, and whether the previous hop tells it as its own because the onion could not be read.
    pub(super) fn message(self, sha256_of_onion: [u8; 32], channel_update: Vec<u8>) -> (FailureMessage, bool) {
        match self {
            Self::TemporaryChannelFailure => (FailureMessage::TemporaryChannelFailure { channel_update }, false),
            Self::InvalidOnionVersion => (FailureMessage::InvalidOnionVersion { sha256_of_onion }, true),
            Self::InvalidOnionHmac => (FailureMessage::InvalidOnionHmac { sha256_of_onion }, true),
            Self::InvalidOnionKey => (FailureMessage::InvalidOnionKey { sha256_of_onion }, true),
        }
    }
}

/// As if it came from a node behind us.
pub(super) fn encrypted(reason: Vec<u8>) -> HtlcFailure {
    HtlcFailure::Remote { reason }
}

/// All that are held, by their names.
#[derive(Debug, Default)]
pub(super) struct HeldHtlcs {
    pub by_whom: Interceptor,
    held: BTreeMap<HtlcRef, HeldHtlc>,
}

impl HeldHtlcs {
    pub(super) fn insert(&mut self, held: HeldHtlc) {
        self.held.insert(HtlcRef { channel: held.htlc.channel, id: held.htlc.id }, held);
    }

    pub(super) fn get(&self, incoming: &HtlcRef) -> Option<&HeldHtlc> {
        self.held.get(incoming)
    }

    pub(super) fn contains(&self, incoming: &HtlcRef) -> bool {
        self.held.contains_key(incoming)
    }

    pub(super) fn remove(&mut self, incoming: &HtlcRef) -> Option<HeldHtlc> {
        self.held.remove(incoming)
    }

    pub(super) fn remove_channel(&mut self, channel: &ChannelId) {
        self.held.retain(|incoming, _| incoming.channel != *channel);
    }

    pub(super) fn channel_closed(&mut self, channel: &ChannelId) {
        self.held.values_mut().filter(|held| held.htlc.channel == *channel).for_each(|held| held.closed = true);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &HeldHtlc> {
        self.held.values()
    }

    pub(super) fn take_all(&mut self) -> Vec<HeldHtlc> {
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// Those that are held no longer at this height.
    pub(super) fn take_expiring(&mut self, tip: Height) -> Vec<HeldHtlc> {
        let due: Vec<HtlcRef> =
            self.held.iter().filter(|(_, held)| held.auto_fail() <= tip).map(|(incoming, _)| *incoming).collect();
        due.iter().filter_map(|incoming| self.held.remove(incoming)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}
