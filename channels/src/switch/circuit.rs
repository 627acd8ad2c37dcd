//! Forwards that are on their way, and the way back.
//!
//! ```text
//!   incoming HTLC ──► Circuit ──Offer──► outgoing HTLC, whose Origin is the incoming one: stored there, only there
//!        ▲               │
//!        │               ├── fulfilled: the preimage as it is
//!        └── settle ◄────┼── failed: one more layer around what came from further on
//!                        ├── failed, because the next hop could not read the onion: told in our name
//!                        └── refused by every channel: our own failure
//! ```
//!
//! A circuit lives in memory alone. After a restart it is made again from the incoming HTLC, which its channel keeps
//! with its onion until it is settled: so the secret for the way back needs no storage of its own.

use std::collections::{BTreeMap, HashMap};

use crate::channel::{AddHtlc, CannotAdd, HtlcFailure, Origin, Settlement};
use crate::onion::{self, FailureMessage, ForwardPayload};
use crate::types::{ChannelId, CltvExpiry, Height, HtlcId, Msat, NodeId};

use super::forward::ReturnPath;
use super::policy::Limits;

/// An HTLC of one of our channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HtlcRef {
    /// The channel.
    pub channel: ChannelId,
    /// Its offerer's number for it.
    pub id: HtlcId,
}

impl HtlcRef {
    /// The origin of an HTLC that forwards this one.
    pub const fn origin(self) -> Origin {
        Origin::Forward { channel: self.channel, htlc: self.id }
    }

    /// The incoming HTLC that an outgoing one forwards; `None` for a payment of this node.
    pub const fn of_origin(origin: Origin) -> Option<Self> {
        match origin {
            Origin::Payment(_) => None,
            Origin::Forward { channel, htlc } => Some(Self { channel, id: htlc }),
        }
    }
}

/// One side of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The channel that it takes.
    pub channel: ChannelId,
    /// What it moves.
    pub amount: Msat,
    /// When its offerer may take it back.
    pub cltv_expiry: CltvExpiry,
}

/// A forward that is on its way.
#[derive(Debug)]
pub(super) struct Circuit {
    pub back: ReturnPath,
    /// The neighbour that sent it; `None` if its channel is gone already.
    pub from: Option<NodeId>,
    pub incoming: Leg,
    pub outgoing: Leg,
    /// Where and how it goes on if the channel that it was offered to refuses it.
    pub otherwise: Option<Alternatives>,
    /// Under which its onion is remembered; `None` if it was found after a restart and the row is not known.
    pub onion: Option<super::replay::OnionKey>,
}

#[derive(Debug)]
pub(super) struct Alternatives {
    pub payload: ForwardPayload,
    /// Only as long as there are other channels: it carries the next packet.
    pub add: Option<Box<AddHtlc>>,
    /// The channels not tried yet, the next one last.
    pub channels: Vec<ChannelId>,
    /// The tip when it was offered first.
    pub since: Height,
}

/// Blocks after which a channel that was offered an HTLC has taken it or said that it does not: the packet for another one
/// is not kept for longer, however long the HTLC is held. Should it be refused after all, it fails.
const OTHERWISE_BLOCKS: u32 = 6;

/// The way of an outgoing HTLC's failure to the sender of the incoming one.
pub(super) fn settlement_of(failure: HtlcFailure, back: &ReturnPath) -> Settlement {
    match (failure, back) {
        (HtlcFailure::Remote { mut reason }, ReturnPath::Onion(secret)) => {
            onion::failure::wrap(secret, &mut reason);
            Settlement::Fail { reason }
        }
        (HtlcFailure::Remote { .. }, ReturnPath::Plain { .. }) => back.fail(&FailureMessage::TemporaryNodeFailure),
        // BOLT 2: an update_fail_malformed_htlc goes on as an update_fail_htlc of ours, with the same code and hash. A
        // code without BADONION does not get here: the channel holds it for a wrong of the peer's.
        (HtlcFailure::Malformed { sha256_of_onion, failure_code }, _) => {
            let failure = FailureMessage::from_malformed(failure_code, sha256_of_onion);
            back.fail(&failure.unwrap_or(FailureMessage::TemporaryChannelFailure { channel_update: Vec::new() }))
        }
        // BOLT 5, HTLC outputs: a channel that closed without the HTLC is gone for good.
        (HtlcFailure::NotOnChain, _) => back.fail(&FailureMessage::PermanentChannelFailure),
    }
}

/// All forwards that are on their way, and what each neighbour has on each channel.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    by_incoming: HashMap<HtlcRef, Circuit>,
    held: BTreeMap<(NodeId, ChannelId), Held>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    count: usize,
    value: Msat,
}

impl Circuits {
    pub(super) fn contains(&self, incoming: &HtlcRef) -> bool {
        self.by_incoming.contains_key(incoming)
    }

    pub(super) fn len(&self) -> usize {
        self.by_incoming.len()
    }

    pub(super) fn incoming_expiry(&self, incoming: &HtlcRef) -> Option<CltvExpiry> {
        self.by_incoming.get(incoming).map(|circuit| circuit.incoming.cltv_expiry)
    }

    /// Those through a channel whose incoming HTLC expires at this height or before, in their order.
    pub(super) fn expiring(&self, through: ChannelId, height: Height) -> Vec<HtlcRef> {
        let is_due =
            |circuit: &Circuit| circuit.outgoing.channel == through && circuit.incoming.cltv_expiry.0 <= height.0;
        let due = self.by_incoming.iter().filter(|(_, circuit)| is_due(circuit));
        let mut due: Vec<HtlcRef> = due.map(|(incoming, _)| *incoming).collect();
        due.sort_unstable();
        due
    }

    pub(super) fn insert(&mut self, incoming: HtlcRef, circuit: Circuit) {
        self.hold(&circuit);
        self.by_incoming.insert(incoming, circuit);
    }

    pub(super) fn remove(&mut self, incoming: &HtlcRef) -> Option<Circuit> {
        let circuit = self.by_incoming.remove(incoming)?;
        self.release(&circuit);
        Some(circuit)
    }

    /// The channel that a circuit was offered to refused it. The next one to try, or the circuit's end.
    pub(super) fn refused(&mut self, incoming: &HtlcRef, cause: &CannotAdd) -> Option<Refused> {
        let mut circuit = self.remove(incoming)?;
        let next = circuit.otherwise.as_mut().and_then(|otherwise| {
            // An expiry that one channel does not take, none does; and the tip is the same for all.
            let hopeless = matches!(cause, CannotAdd::Expiry(_) | CannotAdd::TipInDoubt);
            let channel = if hopeless { None } else { otherwise.channels.pop() }?;
            Some((channel, otherwise.add.clone()?))
        });
        Some(match next {
            Some((channel, add)) => {
                circuit.outgoing.channel = channel;
                self.insert(*incoming, circuit);
                Refused::Offer { channel, add }
            }
            None => Refused::Over(Box::new(circuit)),
        })
    }

    /// Gives up the packets of forwards that have long been taken.
    pub(super) fn forget_packets(&mut self, tip: Height) {
        for otherwise in self.by_incoming.values_mut().filter_map(|circuit| circuit.otherwise.as_mut()) {
            if otherwise.since.0.saturating_add(OTHERWISE_BLOCKS) <= tip.0 {
                otherwise.add = None;
                otherwise.channels = Vec::new();
            }
        }
    }

    /// How many packets are kept.
    #[cfg(test)]
    pub(super) fn packets(&self) -> usize {
        let kept = |circuit: &&Circuit| circuit.otherwise.as_ref().is_some_and(|otherwise| otherwise.add.is_some());
        self.by_incoming.values().filter(kept).count()
    }

    /// Whether `from` may have one more HTLC of `amount` leave through a channel of that size.
    pub(super) fn has_room(&self, from: NodeId, to: &super::link::Link, amount: Msat, limits: &Limits) -> bool {
        let held = self.held.get(&(from, to.channel)).copied().unwrap_or_default();
        let value = held.value.0.saturating_add(amount.0);
        held.count < limits.slots(to.slots) && value <= limits.value(to.capacity).0
    }

    fn hold(&mut self, circuit: &Circuit) {
        let Some(from) = circuit.from else { return };
        let held = self.held.entry((from, circuit.outgoing.channel)).or_default();
        held.count = held.count.saturating_add(1);
        held.value = Msat(held.value.0.saturating_add(circuit.outgoing.amount.0));
    }

    fn release(&mut self, circuit: &Circuit) {
        let Some(from) = circuit.from else { return };
        let key = (from, circuit.outgoing.channel);
        if let Some(held) = self.held.get_mut(&key) {
            held.count = held.count.saturating_sub(1);
            held.value = held.value.saturating_sub(circuit.outgoing.amount);
            if held.count == 0 {
                self.held.remove(&key);
            }
        }
    }
}

/// What follows when a channel refuses.
pub(super) enum Refused {
    Offer { channel: ChannelId, add: Box<AddHtlc> },
    Over(Box<Circuit>),
}
