//! What a channel asks its driver to do, once its writes are durable.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};

use crate::onchain;
use crate::types::{
    ChannelId, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, PaymentHash, PaymentPreimage, ShortChannelId,
};
use crate::wire::{Message, OnionRoutingPacket};

use super::commitment::limits::CannotAdd;
use super::error::{CloseRefused, ProtocolViolation};
use super::event::Origin;
use super::final_htlc::FinalHtlc;
use super::funding::{FundingInput, FundingState};
use super::state::{SpendKind, StateName};

/// One thing to do. Every effect is either harmless to repeat or is found again after a restart.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Effect {
    /// Send to the peer, in this order.
    Send(Message),
    /// End the connection (after sending what came before).
    Disconnect,

    /// Have a transaction made that pays `amount` to `script`, by the wallet or by whoever was asked to, without showing it to
    /// anybody; answer with [`Event::Funded`](super::Event::Funded) or [`Event::FundingRefused`](super::Event::FundingRefused).
    Fund { script: ScriptBuf, amount: Amount },
    /// The funding transaction of this channel will never be used: the wallet may spend its coins again.
    ReleaseFunding { transaction: Txid },
    /// Broadcast, and again after every restart until it is confirmed.
    Broadcast(Transaction),
    /// The closing transaction that both have signed pays too little: pay at least `feerate` for it together with a child on
    /// our output, if the wallet has one that is worth it. Repeated at blocks until it confirms.
    BumpClosingFee { transaction: Transaction, feerate: FeeratePerKw },
    /// Tell [`Event::FundingDepth`](super::Event::FundingDepth) from the first confirmation on, at least until `depth`.
    /// And [`Event::FundingSeen`](super::Event::FundingSeen), [`Event::FundingUnconfirmed`](super::Event::FundingUnconfirmed)
    /// and [`Event::FundingConflict`](super::Event::FundingConflict) at any time. `inputs` is what is known of its needs.
    WatchFunding { funding: OutPoint, script: ScriptBuf, depth: u32, inputs: Vec<FundingInput> },
    /// Tell every spend of this output, and every reorganisation of one, by [`Event::Chain`](super::Event::Chain). A look at
    /// all watched outputs of the channel, which ends with a tip, is due.
    Watch { outpoint: OutPoint, script: ScriptBuf },

    /// An incoming HTLC is irrevocably committed: accept, forward or fail it (and answer with
    /// [`Event::Settle`](super::Event::Settle)). Repeated after a restart until it is answered.
    Incoming(Box<IncomingHtlc>),
    /// An outgoing HTLC was fulfilled. At least once, and final: a failure that follows after all is to be ignored.
    Fulfilled { origin: Origin, htlc: HtlcId, payment_hash: PaymentHash, preimage: PaymentPreimage },
    /// An outgoing HTLC has failed for good. At least once.
    Failed { origin: Origin, htlc: HtlcId, payment_hash: PaymentHash, failure: HtlcFailure },
    /// An outgoing HTLC was not, or will not be, offered; nothing is at stake.
    Refused { origin: Origin, cause: CannotAdd },
    /// An HTLC of the peer's has ended for good. For people and dashboards: not repeated after a restart.
    Final { htlc: HtlcId, end: FinalHtlc },
    /// A wish to close was refused.
    CloseRefused(CloseRefused),
    /// A wish to change the fee rate was refused.
    FeeRefused { feerate: FeeratePerKw },

    /// The peer's commitment `number` is revoked, and queued for the towers under
    /// [`Key::TowerBackup`](super::Key::TowerBackup), as may be earlier ones. Repeated after a restart for the newest one that
    /// ever was; answer with [`Event::TowersHold`](super::Event::TowersHold) when enough towers hold it, also if they do already.
    TowerBackup { number: CommitmentNumber },

    /// This transaction closes the channel, as far as is known: it was broadcast (a separate effect), or seen.
    Closing { transaction: Txid, kind: SpendKind },
    /// What the enforcement of a closed channel wants: none of the effects that have one of their own here.
    Onchain(Box<onchain::Effect>),
    /// News for people and dashboards.
    Notice(Notice),
    /// The channel is over, or never began: the driver may drop it.
    Forget,
}

/// An incoming HTLC that is irrevocably committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingHtlc {
    /// The channel that it came in over.
    pub channel: ChannelId,
    /// The peer's number for it.
    pub id: HtlcId,
    /// What it brings.
    pub amount: Msat,
    /// The hash whose preimage claims it.
    pub payment_hash: PaymentHash,
    /// The height from which the peer may take it back.
    pub cltv_expiry: CltvExpiry,
    /// The onion that says what to do with it, still closed.
    pub onion: OnionRoutingPacket,
    /// What opens the onion inside a blinded route.
    pub path_key: Option<secp256k1::PublicKey>,
    /// It must be failed, not accepted.
    pub must_fail: Option<FailReason>,
}

/// Why an incoming HTLC must be failed although the channel holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// More is at stake in HTLCs too small for an output than we are ready to lose to fees
    /// (BOLT 2, `max_dust_htlc_exposure_msat`).
    DustExposure,
    /// The funding output is not on the best chain, or not deep enough after a reorganisation.
    NotFunded,
    /// We have sent `shutdown`: it should not be routed on (BOLT 2, Closing Initiation).
    ShuttingDown,
    /// The channel is closed, or only waits for that: the HTLC may have no output, or one that the peer takes back.
    Closed,
}

/// Why an outgoing HTLC failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum HtlcFailure {
    /// `update_fail_htlc`: encrypted for the sender.
    Remote { reason: Vec<u8> },
    /// `update_fail_malformed_htlc`.
    Malformed { sha256_of_onion: [u8; 32], failure_code: u16 },
    /// The channel closed without it, or was never funded.
    NotOnChain,
}

/// What a person wants to know of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Notice {
    /// Both first commitments are signed: from now on the channel has this id.
    Established { channel: ChannelId, funding: OutPoint },
    /// The channel went from one state to another.
    StateChanged { from: StateName, to: StateName },
    /// The funding transaction is confirmed here.
    Confirmed { short_channel_id: ShortChannelId },
    /// The chain says something else of the funding transaction than before.
    Funding(FundingState),
    /// Payments can flow (`true`), or not until the peer is back and synchronised.
    Usable(bool),
    /// The opening failed.
    OpenFailed { reason: String },
    /// The peer did something wrong.
    ProtocolViolation(ProtocolViolation),
    /// The peer sent `warning` or `error`.
    PeerSays { error: bool, text: String },
    /// The closing transaction is agreed on and signed.
    ClosingSigned { transaction: Txid },
    /// `channel_reestablish`, or a tower, proved that our state is old: we must wait for the peer to close.
    DataLoss,
    /// `channel_reestablish` proved that the peer's state is old: it must recover, or ask us to close.
    PeerDataLoss,
}
