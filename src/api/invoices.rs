//! Requests for payment: those that we make, and those of others that we read.

use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Address, secp256k1::PublicKey};
use leyden_channels::{
    types::{CltvExpiry, Height, HtlcId, Msat, PaymentHash, PaymentPreimage, PaymentSecret, ShortChannelId, UnixTime},
    wire::{features::Features, tlv::RawRecord},
};

use super::{ApiError, Page, PageRequest, Updates};

/// Invoices of this node.
#[async_trait]
pub(crate) trait Invoices: Send + Sync {
    /// `AlreadyExists` if the preimage belongs to another invoice.
    async fn add_invoice(&self, request: AddInvoice) -> Result<Invoice, ApiError>;
    async fn invoice(&self, hash: PaymentHash) -> Result<Invoice, ApiError>;
    /// In the order of `add_index`, from `after` (exclusive).
    async fn invoices(&self, page: PageRequest) -> Result<Page<Invoice>, ApiError>;
    /// Repeats what was added after `add_index` and settled after `settle_index` (`None` repeats nothing), then
    /// tells of every invoice that is added, accepted, settled or canceled.
    async fn subscribe_invoices(
        &self,
        add_index: Option<u64>,
        settle_index: Option<u64>,
    ) -> Result<Updates<Invoice>, ApiError>;
    /// Reads a BOLT 11 invoice of this network; whether it has expired does not matter.
    async fn decode_invoice(&self, request: &str) -> Result<DecodedInvoice, ApiError>;
}

/// An invoice to be made. `None` leaves the choice to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddInvoice {
    pub preimage: Option<PaymentPreimage>,
    /// `None`: the payer chooses. Never zero.
    pub amount: Option<Msat>,
    pub description: Description,
    /// At least one second.
    pub expiry: Option<Duration>,
    /// Blocks that must remain when the last HTLC arrives.
    pub min_final_cltv: Option<u16>,
    pub fallback: Option<Address>,
    /// Hints that the caller knows of.
    pub route_hints: Vec<Vec<RouteHintHop>>,
    /// Add hints for our channels that are not announced.
    pub hint_private_channels: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Description {
    /// At most 639 bytes (BOLT 11, the `d` field); may be empty.
    Text(String),
    /// SHA-256 of a longer one, and what the recipient keeps beside it; the payer does not see that.
    Hash { hash: [u8; 32], memo: String },
}

/// One step on the way to a recipient that the network does not know (BOLT 11, the `r` field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteHintHop {
    pub node_id: PublicKey,
    pub short_channel_id: ShortChannelId,
    pub base_fee: Msat,
    pub fee_ppm: u32,
    pub cltv_delta: u16,
}

/// An invoice of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invoice {
    /// Counts invoices as they are added, from 1.
    pub add_index: u64,
    pub payment_hash: PaymentHash,
    /// `None` while its payment is to be held.
    pub preimage: Option<PaymentPreimage>,
    pub secret: PaymentSecret,
    /// The BOLT 11 text.
    pub request: String,
    pub amount: Option<Msat>,
    pub description: Description,
    pub created: UnixTime,
    pub expiry: Duration,
    pub min_final_cltv: u16,
    pub fallback: Option<Address>,
    pub route_hints: Vec<Vec<RouteHintHop>>,
    pub hint_private_channels: bool,
    pub features: Features,
    /// Nobody asked for it: the payer brought the preimage.
    pub keysend: bool,
    pub state: InvoiceState,
    pub htlcs: Vec<InvoiceHtlc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvoiceState {
    /// Nobody has paid; also after it has expired.
    Open,
    /// HTLCs are held until all parts are here.
    Accepted {
        amount: Msat,
    },
    Settled {
        at: UnixTime,
        /// Counts invoices as they are settled, from 1.
        settle_index: u64,
        amount: Msat,
    },
    /// It was paid, but the channel was closed and what was paid, or a part of it, did not come home on the chain.
    TakenBack {
        /// The rest.
        amount: Msat,
    },
    Canceled,
}

/// A part of a payment that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvoiceHtlc {
    pub short_channel_id: ShortChannelId,
    pub id: HtlcId,
    pub amount: Msat,
    pub total: Msat,
    pub expiry: CltvExpiry,
    pub accepted_height: Height,
    pub accepted: UnixTime,
    pub resolved: Option<UnixTime>,
    pub state: InvoiceHtlcState,
    /// What the payer sent along for applications.
    pub custom_records: Vec<RawRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvoiceHtlcState {
    Accepted,
    Settled,
    Canceled,
}

/// What a BOLT 11 invoice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecodedInvoice {
    pub payee: PublicKey,
    pub payment_hash: PaymentHash,
    pub secret: PaymentSecret,
    /// `None`: the payer chooses.
    pub amount: Option<Msat>,
    pub description: Description,
    pub created: UnixTime,
    pub expiry: Duration,
    pub min_final_cltv: u16,
    pub fallback: Option<Address>,
    pub route_hints: Vec<Vec<RouteHintHop>>,
    pub features: Features,
}
