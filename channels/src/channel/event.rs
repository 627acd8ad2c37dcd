//! What can happen to a channel: wishes of this node, words of the peer, and news of the chain.

use bitcoin::{ScriptBuf, Transaction, TxOut, Txid};

use crate::onchain;
use crate::types::{
    ChannelId, CltvExpiry, CommitmentNumber, FeeratePerKw, Height, HtlcId, Msat, PaymentHash, PaymentPreimage,
};
use crate::wire::{Message, OnionRoutingPacket};

use super::funding::FundingInput;

/// The event that a channel is given next. Events of one channel are handled one after another.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Event {
    /// After a restart, once: the channel asks again for everything that a crash may have swallowed (watches,
    /// broadcasts, incoming HTLCs that nobody has answered).
    Restarted,
    /// The peer is connected and `init` has been exchanged.
    Connected,
    /// The connection is gone. What was not committed is forgotten, as BOLT 2 asks.
    Disconnected,
    /// The peer sent a message with this channel's id.
    Message(Message),

    /// The answer to [`Effect::Fund`](super::Effect::Fund): `transaction` pays the asked amount to the asked script in output
    /// `output`. All its inputs are segwit, and nobody has seen it yet. If the channel broadcasts it, it is signed.
    Funded { transaction: Transaction, output: u32, publisher: Publisher },
    /// Nothing funds the channel.
    FundingRefused { reason: String },

    /// Offer an HTLC to the peer. It is proposed at once and travels with the next [`Event::Flush`].
    Add(Box<AddHtlc>),
    /// Remove an incoming HTLC. Safe to repeat: an HTLC that is being removed, or is gone, stays so.
    Settle { id: HtlcId, settlement: Settlement },
    /// Propose this fee rate (opener only).
    UpdateFee(FeeratePerKw),
    /// The rates in [`Ctx::feerates`](super::Ctx) may have moved: an opener follows them (see [`super::feerate`]).
    Feerates,
    /// Sign and send what has gathered, if there is anything and no `commitment_signed` is unanswered. A driver
    /// drains its mailbox first and then sends one flush: so many updates share one signature.
    Flush,

    /// Close together with the peer.
    Close(CloseRequest),
    /// Close alone, by broadcasting our commitment transaction.
    ForceClose,

    /// The funding transaction is this deep. Repeated for each block until the channel is ready.
    FundingDepth(FundingDepth),
    /// The funding transaction was seen, in a block or in the mempool: this is what it needs, as far as it is news.
    FundingSeen { inputs: Vec<FundingInput> },
    /// The funding transaction is in no block: not yet, or not any more. Told after the first look at the chain, and when
    /// a reorganisation has taken its block back.
    FundingUnconfirmed,
    /// The transaction `by`, in the block at `height`, has spent what the funding transaction needs. Repeated for each
    /// block; a [`Event::FundingUnconfirmed`] or [`Event::FundingDepth`] takes it back.
    FundingConflict { by: Txid, height: Height, confirmations: u32 },
    /// The user gives the channel up.
    Abandon,
    /// What the chain has done to an output that [`Effect::Watch`](super::Effect::Watch) names, the funding output first of
    /// all; all of it is told up to `tip` when it ends with [`onchain::Event::Tip`].
    Chain { event: onchain::Event, tip: Height },
    /// An answer to what [`Effect::Onchain`](super::Effect::Onchain) asks for, or a person's wish.
    Onchain(onchain::Event),
    /// A block that confirmed the funding transaction has been disconnected, and those above it; what has become of the
    /// transaction is told next, and spends that are gone by [`Event::Chain`].
    Reorganized { to: Height },
    /// The chain's tip is now at this height.
    NewTip(Height),
    /// As many towers as are required hold everything that was queued for them, up to this state; `None`: nothing of it. What
    /// was told before counts no more. Told after [`Effect::TowerBackup`](super::Effect::TowerBackup), and whenever the towers,
    /// or how many of them are required, have changed.
    TowersHold { up_to: Option<CommitmentNumber> },
    /// A tower has signed that it holds the peer's commitment `number` as revoked: of a node restored from an old copy, this
    /// may be the first news of that.
    TowerKnowsRevoked { number: CommitmentNumber },
    /// The answer to [`onchain::Effect::Resolved`]: what people may ask of the close is kept, and the channel is over.
    CloseConfirmed,
}

impl Event {
    /// Whether a channel hears it that has met a bug of ours: what the chain does to its outputs, the answers to what it asks
    /// for because of that, and how its HTLCs end, for a preimage may be needed there.
    pub(super) const fn is_heard_when_stopped(&self) -> bool {
        match self {
            Self::Chain { .. } | Self::Onchain(_) | Self::Settle { .. } | Self::CloseConfirmed => true,
            Self::Restarted
            | Self::Connected
            | Self::Disconnected
            | Self::Message(_)
            | Self::Funded { .. }
            | Self::FundingRefused { .. }
            | Self::Add(_)
            | Self::UpdateFee(_)
            | Self::Feerates
            | Self::Flush
            | Self::Close(_)
            | Self::ForceClose
            | Self::FundingDepth(_)
            | Self::FundingSeen { .. }
            | Self::FundingUnconfirmed
            | Self::FundingConflict { .. }
            | Self::Abandon
            | Self::Reorganized { .. }
            | Self::TowersHold { .. }
            | Self::TowerKnowsRevoked { .. }
            | Self::NewTip(_) => false,
        }
    }
}

/// An HTLC to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddHtlc {
    /// Whose HTLC this is; returned with its fate.
    pub origin: Origin,
    /// What it moves.
    pub amount: Msat,
    /// The hash whose preimage claims it.
    pub payment_hash: PaymentHash,
    /// The height from which we may take it back.
    pub cltv_expiry: CltvExpiry,
    /// For the peer, and the nodes behind it.
    pub onion: OnionRoutingPacket,
    /// `path_key` for the next hop inside a blinded route.
    pub path_key: Option<secp256k1::PublicKey>,
}

/// Who caused an outgoing HTLC. It is stored with that HTLC and nowhere else: this is the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Origin {
    /// An attempt of a payment of this node.
    Payment(AttemptId),
    /// An incoming HTLC of another channel.
    Forward { channel: ChannelId, htlc: HtlcId },
}

/// One attempt to pay; a payment in several parts or with retries has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// How an incoming HTLC ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Settlement {
    /// Take it: `update_fulfill_htlc`.
    Fulfill(PaymentPreimage),
    /// `reason` is encrypted for the sender (BOLT 4).
    Fail { reason: Vec<u8> },
    /// The onion could not be read. `failure_code` has the BADONION bit.
    FailMalformed { sha256_of_onion: [u8; 32], failure_code: u16 },
}

/// What a cooperative close shall look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseRequest {
    /// Where our balance goes; ignored if an upfront script was agreed.
    pub script: ScriptBuf,
    /// What the closing transaction should pay, and between which bounds we let the peer move it.
    pub feerate: FeeratePerKw,
    /// The lowest feerate that we sign.
    pub feerate_min: FeeratePerKw,
    /// The highest feerate that we sign.
    pub feerate_max: FeeratePerKw,
}

/// Who broadcasts a funding transaction, which nobody may do before the channel is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// The channel, and again after every restart until it is confirmed.
    Channel,
    /// Whoever has made it: it may pay for other channels too, which have to be durable first.
    Maker,
}

/// Where the funding transaction is in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingDepth {
    /// The block that holds the funding transaction.
    pub height: Height,
    /// Its place in that block.
    pub index: u32,
    /// 1 for the tip.
    pub confirmations: u32,
    /// The funding output as the chain has it: the peer may have named one that pays less, or somebody else.
    pub output: TxOut,
}
