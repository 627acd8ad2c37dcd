//! What is kept of an invoice, and of what paid it.

use crate::margins::CLAIM_MARGIN;
use crate::types::{
    ChannelId, CltvExpiry, DirectoryId, Height, HtlcId, Msat, PaymentHash, PaymentPreimage, PaymentSecret, UnixTime,
};
use crate::wire::tlv::RawRecord;

/// An invoice that we made, or what a spontaneous payment was made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Counts our invoices, from 1.
    pub index: u64,
    /// The hash that payments of it carry.
    pub payment_hash: PaymentHash,
    /// `None` while its HTLCs are to be held.
    pub preimage: Option<PaymentPreimage>,
    /// What only the invoice tells.
    pub payment_secret: PaymentSecret,
    /// `None`: the payer chooses.
    pub amount: Option<Msat>,
    /// What it is for, in the user's words.
    pub memo: String,
    /// The invoice as the payer gets it (BOLT 11).
    pub bolt11: String,
    /// When it was made.
    pub created: UnixTime,
    /// Seconds after which it is not paid any more.
    pub expiry_seconds: u64,
    /// Blocks that must be left when a payment arrives.
    pub min_final_cltv_expiry_delta: u32,
    /// Nobody asked for it: the payer brought the preimage.
    pub keysend: bool,
    /// Who decides what becomes of its HTLCs, if it has no preimage.
    pub holder: Holder,
    /// What has become of it.
    pub state: InvoiceState,
}

impl Invoice {
    /// When it can no longer be paid.
    pub fn expires(&self) -> UnixTime {
        UnixTime(self.created.0.saturating_add(self.expiry_seconds))
    }
}

/// Who decides what becomes of HTLCs that are held. Nobody else's machine takes the invoice for its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holder {
    /// Whoever made it by a call.
    #[default]
    Person,
    /// The initiator of the submarine swap in with its hash, who alone knows the preimage.
    SwapIn,
    /// The participant of the submarine swap out with its hash: coins are locked for it.
    SwapOut,
    /// The crossing with its hash, of the daemon with this data directory: another payment is made for it. `None`: an earlier
    /// version did not say of which daemon.
    Crossing(Option<DirectoryId>),
}

impl Holder {
    /// For how long it holds.
    pub fn hold(self) -> Hold {
        match self {
            Self::Person | Self::SwapIn => Hold::WhileSafe,
            Self::SwapOut | Self::Crossing(_) => Hold::UntilExpiry,
        }
    }
}

/// For how long HTLCs without a preimage are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// As long as no channel has to be closed for a preimage that is told.
    WhileSafe,
    /// Until they expire, and whatever the chain has come to: something that was paid elsewhere depends on them, so that a
    /// preimage that comes late is claimed on the chain, and to give them back early would be to lose them.
    UntilExpiry,
}

impl Hold {
    /// Blocks before the first expiry at which what is held is given up.
    pub(crate) fn margin(self) -> u32 {
        match self {
            Self::WhileSafe => CLAIM_MARGIN,
            Self::UntilExpiry => 0,
        }
    }
}

/// What has become of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvoiceState {
    /// Nobody has paid it.
    Open,
    /// Paid, and held.
    Accepted(Accepted),
    /// It was paid, and the preimage given away.
    Settled(Settled),
    /// It was given up: payments of it fail.
    Canceled,
}

/// HTLCs that are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// When the last part arrived.
    pub at: UnixTime,
    /// What all parts bring together.
    pub amount: Msat,
    /// The parts.
    pub htlcs: Vec<PaidBy>,
}

impl Accepted {
    /// When the first of the parts runs out; 0 if there are none.
    pub fn expiry(&self) -> CltvExpiry {
        self.htlcs.iter().map(|paid| paid.cltv_expiry).min().unwrap_or(CltvExpiry(0))
    }

    /// Whether they are to be given up.
    pub(super) fn is_over(&self, hold: Hold, tip: Height) -> bool {
        self.expiry().0 <= tip.0.saturating_add(hold.margin())
    }
}

/// How an invoice was paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Counts settlements, from 1.
    pub index: u64,
    /// When the preimage was given away.
    pub at: UnixTime,
    /// What was paid.
    pub amount: Msat,
    /// The parts.
    pub htlcs: Vec<PaidBy>,
}

/// An HTLC that paid an invoice, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidBy {
    /// The channel that it came in over.
    pub channel: ChannelId,
    /// The peer's number for it.
    pub htlc: HtlcId,
    /// What it brought.
    pub amount: Msat,
    /// The height from which the peer could have taken it back.
    pub cltv_expiry: CltvExpiry,
    /// When it arrived.
    pub at: UnixTime,
    /// The tip when it arrived.
    pub height: Height,
    /// What the payer sent along for applications.
    pub custom_records: Vec<RawRecord>,
    /// Its channel was closed, and it brought us nothing although the preimage was shown.
    pub taken_back: bool,
}

impl Settled {
    /// What was paid and not taken back.
    pub fn kept(&self) -> Msat {
        sum(self.htlcs.iter().filter(|paid| !paid.taken_back))
    }

    /// Whether all of it is ours.
    pub fn is_whole(&self) -> bool {
        self.htlcs.iter().all(|paid| !paid.taken_back)
    }
}

pub(super) fn sum<'a>(htlcs: impl IntoIterator<Item = &'a PaidBy>) -> Msat {
    Msat(htlcs.into_iter().fold(0, |sum, paid| sum.saturating_add(paid.amount.0)))
}
