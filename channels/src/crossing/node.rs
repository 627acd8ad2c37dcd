//! What the nodes on the two networks are asked, and what they answer.

use secp256k1::PublicKey;

use super::state::Pair;
use crate::{
    swap::Chain,
    types::{CltvExpiry, DirectoryId, Height, Msat, PaymentHash, PaymentPreimage, UnixTime},
};

/// How crossings name what they keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The owner's price.
    Rate(Pair),
    /// All of a crossing.
    Crossing(PaymentHash),
}

/// A node at the moment of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeNow {
    /// Its network, with the spacing that its rules aim at.
    pub chain: Chain,
    /// Seconds between its blocks as they were found lately ([`crate::swap::margins::measured_pace`]); 0 if that is not known, or
    /// tells nothing of the blocks to come.
    pub measured: u32,
    /// How far that is.
    pub tip: Height,
    /// Whether the tip may be relied on.
    pub is_current: bool,
    /// Who it is there.
    pub node_id: PublicKey,
    /// The smallest HTLC that is worth a claim on the chain now.
    pub least_claim: Msat,
    /// What it knows its payments by.
    pub records: PaymentRecords,
}

impl NodeNow {
    /// Its network, as time on it runs out for what is held there.
    pub fn as_incoming(&self) -> Chain {
        self.chain.no_slower_than(self.measured)
    }

    /// Its network, as one waits for blocks there.
    pub fn as_outgoing(&self) -> Chain {
        self.chain.no_faster_than(self.measured)
    }
}

/// What a node knows its payments by. "There is none" of one data directory says nothing of a payment of another one, nor
/// of one that was made after an older copy of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentRecords {
    /// The data directory.
    pub directory: DirectoryId,
    /// Payments that were ever begun with it.
    pub count: u64,
}

impl PaymentRecords {
    /// Whether these records have every payment that `earlier` had.
    pub fn continues(&self, earlier: &Self) -> bool {
        self.directory == earlier.directory && self.count >= earlier.count
    }
}

/// What an event is handled with. A node that cannot be asked is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Ctx {
    /// The time of day.
    pub now: UnixTime,
    /// The owner's node on the incoming network.
    pub incoming: Option<NodeNow>,
    /// The owner's node on the outgoing network.
    pub outgoing: Option<NodeNow>,
    /// What swaps that are under way give on the outgoing network for what they get on the incoming one, in its millisatoshi.
    pub swapped: Msat,
}

/// What the incoming node says of the invoice that a crossing has it hold. It knows of no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Incoming {
    /// It has none.
    Missing,
    /// Nobody has paid it.
    Open,
    /// So much is held since then; the first of its HTLCs runs out at this height.
    Held { amount: Msat, expiry: CltvExpiry, since: UnixTime },
    /// The preimage was given for what was held.
    Settled,
    /// It was given up, and what was held went back.
    Canceled,
}

/// What the outgoing node says of a payment with a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Outgoing {
    /// These records have none.
    NeverBegun(PaymentRecords),
    /// HTLCs of it are on their way, or a route is looked for.
    UnderWay,
    /// The payee gave the preimage. The routes cost so much.
    Paid { preimage: PaymentPreimage, fee: Msat },
    /// It has ended, and no HTLC of it can succeed any more.
    Failed { reason: String },
}

/// A held invoice to be made. Making it twice is making it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldOrder {
    /// Of the invoice that is to be paid.
    pub hash: PaymentHash,
    /// The price.
    pub amount: Msat,
    /// It expires then.
    pub expires: UnixTime,
    /// Blocks that its HTLCs must have left when they arrive.
    pub blocks: u32,
}

/// The outgoing payment. Ordering it twice is ordering it once: it is begun only if no payment with its hash is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayOrder {
    /// What is paid (BOLT 11).
    pub invoice: String,
    /// How much the payee gets.
    pub amount: Msat,
    /// What the routes may cost.
    pub most_fee: Msat,
    /// Parts that are under way at once.
    pub most_parts: u16,
    /// Our HTLCs run out at this height, or earlier.
    pub last_expiry: CltvExpiry,
    /// It is not begun later, and no further attempt is made.
    pub deadline: UnixTime,
}

/// What the driver has to do after the commit. All of it is harmless to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Which crossing.
    pub hash: PaymentHash,
    /// Between which networks.
    pub pair: Pair,
    /// What.
    pub order: Order,
}

/// What one of the two nodes is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// On the incoming network: answer with [`super::Crossings::opened`] or [`super::Crossings::not_opened`].
    Hold(HoldOrder),
    /// On the incoming network: answer with [`super::Crossings::incoming`].
    LookAtIncoming,
    /// On the incoming network: take what is held; then look at it.
    Settle(PaymentPreimage),
    /// On the incoming network: give up the invoice and what is held; then look at it.
    GiveUp,
    /// On the outgoing network: answer with [`super::Crossings::outgoing`].
    LookAtOutgoing,
    /// On the outgoing network; then look at it.
    Pay(PayOrder),
}
