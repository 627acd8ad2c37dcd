//! Lists as a page shows them: small records, and which of them are wanted.

use std::time::UNIX_EPOCH;

use leyden_channels::{
    payment::{Description as Read, Invoice as ReadInvoice},
    types::Msat,
};
use leyden_proto::leyden::{
    self, browse_channels_request::Which as WhichChannels, browse_request::Which as WhichRecords,
};

use super::{edge, invoices::described, msat, payments::failure_reason, sat, seconds, signed, wallet::address_text};
use crate::api::{
    ApiError, ChannelCoverage, ChannelInfo, Invoice, InvoiceState, NetworkInfo, NetworkMap, Payment, PaymentState,
    WalletCoin,
};

/// How many are given if the caller does not say, and at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    usual: u32,
    most: u32,
}

pub(crate) const CHANNELS_AT_ONCE: Limits = Limits { usual: 20, most: 100 };
pub(crate) const RECORDS_AT_ONCE: Limits = Limits { usual: 50, most: 200 };
pub(crate) const MAP_NODES: Limits = Limits { usual: 120, most: 400 };
/// Nobody remembers more of what is looked for.
const MAX_SEARCH: usize = 200;

pub(crate) fn limit(asked: u32, limits: Limits) -> Result<usize, ApiError> {
    match asked {
        0 => Ok(limits.usual as usize),
        asked if asked > limits.most => {
            Err(edge::wrong("limit", format_args!("{asked} is too many, {} at most", limits.most)))
        }
        asked => Ok(asked as usize),
    }
}

/// What is looked for, in small letters.
struct Search(String);

impl Search {
    fn new(text: String) -> Result<Self, ApiError> {
        Ok(Self(edge::text("search", text, MAX_SEARCH)?.trim().to_lowercase()))
    }

    fn is_in(&self, texts: &[&str]) -> bool {
        self.0.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&self.0))
    }
}

/// Which channels are wanted, and which page of them.
pub(crate) struct WantedChannels {
    pub offset: usize,
    pub limit: usize,
    search: Search,
    which: WhichChannels,
}

impl WantedChannels {
    pub(crate) fn new(request: &leyden::BrowseChannelsRequest) -> Result<Self, ApiError> {
        let unknown = |_| edge::wrong("which", format_args!("{} is not known", request.which));
        Ok(Self {
            offset: request.offset as usize,
            limit: limit(request.limit, CHANNELS_AT_ONCE)?,
            search: Search::new(request.search.clone())?,
            which: WhichChannels::try_from(request.which).map_err(unknown)?,
        })
    }

    /// Whether names are needed to tell.
    pub(crate) fn searches(&self) -> bool {
        !self.search.0.is_empty()
    }

    pub(crate) fn takes(&self, channel: &ChannelInfo, coverage: Option<&ChannelCoverage>, alias: &str) -> bool {
        let is_meant = match self.which {
            WhichChannels::All => true,
            WhichChannels::Usable => channel.active,
            WhichChannels::Waiting => !channel.active,
            WhichChannels::Uncovered => is_uncovered(coverage),
        };
        let summary = &channel.summary;
        is_meant
            && (!self.searches()
                || self.search.is_in(&[
                    alias,
                    &summary.node_id.to_string(),
                    &summary.funding.to_string(),
                    &summary.memo,
                ]))
    }
}

fn is_covered(coverage: &ChannelCoverage) -> bool {
    coverage.towers.iter().any(|tower| tower.why_not.is_none())
}

/// There are towers for it, and none of them has all of it.
pub(crate) fn is_uncovered(coverage: Option<&ChannelCoverage>) -> bool {
    coverage.is_some_and(|coverage| !coverage.towers.is_empty() && !is_covered(coverage))
}

pub(crate) fn channel(
    channel: &ChannelInfo,
    coverage: Option<&ChannelCoverage>,
    alias: String,
) -> leyden::BrowseChannel {
    let summary = &channel.summary;
    let unsettled = channel.htlcs.iter().fold(0, |sum: u64, htlc| sum.saturating_add(htlc.amount.0));
    let towers = coverage.map(|coverage| coverage.towers.as_slice()).unwrap_or_default();
    let covered = coverage.is_some_and(is_covered);
    let why_not = towers.iter().find_map(|tower| tower.why_not.clone()).filter(|_| !covered);
    leyden::BrowseChannel {
        channel_point: summary.funding.to_string(),
        remote_pubkey: summary.node_id.to_string(),
        alias,
        memo: summary.memo.clone(),
        capacity: signed(summary.capacity),
        local_balance: sat(summary.local_balance),
        remote_balance: sat(summary.remote_balance),
        unsettled_balance: sat(Msat(unsettled)),
        active: channel.active,
        private: !summary.announce,
        lifetime: seconds(channel.lifetime),
        uptime: seconds(channel.uptime),
        connected: channel.connected,
        towers: u32::try_from(towers.len()).unwrap_or(u32::MAX),
        covered,
        why_not: why_not.unwrap_or_default(),
        trouble: summary.trouble.clone().unwrap_or_default(),
    }
}

/// Which payments or invoices are wanted, and where the page begins.
pub(crate) struct Wanted {
    pub before: u64,
    pub limit: u64,
    search: Search,
    which: WhichRecords,
}

impl Wanted {
    pub(crate) fn new(request: leyden::BrowseRequest) -> Result<Self, ApiError> {
        let unknown = |_| edge::wrong("which", format_args!("{} is not known", request.which));
        let which = WhichRecords::try_from(request.which).map_err(unknown)?;
        let limit = limit(request.limit, RECORDS_AT_ONCE)? as u64;
        Ok(Self { before: request.before, limit, search: Search::new(request.search)?, which })
    }

    /// Nothing is passed over.
    pub(crate) fn takes_all(&self) -> bool {
        self.search.0.is_empty() && self.which == WhichRecords::All
    }

    pub(crate) fn takes_payment(&self, payment: &leyden::BrowsePayment) -> bool {
        let is_meant = match self.which {
            WhichRecords::All => true,
            WhichRecords::Done => payment.state == SUCCEEDED,
            WhichRecords::Failed => payment.state == FAILED,
            WhichRecords::UnderWay => payment.state == UNDER_WAY,
        };
        is_meant && self.search.is_in(&[&payment.payment_hash, &payment.description, &payment.destination])
    }

    pub(crate) fn takes_invoice(&self, invoice: &leyden::BrowseInvoice) -> bool {
        let is_meant = match self.which {
            WhichRecords::All => true,
            WhichRecords::Done => invoice.state == SETTLED,
            WhichRecords::Failed => [CANCELED, EXPIRED, TAKEN_BACK].contains(&invoice.state.as_str()),
            WhichRecords::UnderWay => [OPEN, HELD].contains(&invoice.state.as_str()),
        };
        is_meant && self.search.is_in(&[&invoice.payment_hash, &invoice.memo, &invoice.payment_request])
    }
}

const SUCCEEDED: &str = "succeeded";
const FAILED: &str = "failed";
const UNDER_WAY: &str = "under_way";

pub(crate) fn payment(payment: &Payment) -> leyden::BrowsePayment {
    let (state, preimage, failure) = match payment.state {
        PaymentState::Initiated | PaymentState::InFlight => (UNDER_WAY, None, None),
        PaymentState::Succeeded { preimage } => (SUCCEEDED, Some(preimage), None),
        PaymentState::Failed { reason } => (FAILED, None, Some(reason)),
    };
    let read = payment.request.as_deref().and_then(|text| ReadInvoice::parse_any(text).ok());
    let last_hop = payment.attempts.last().and_then(|attempt| attempt.route.last()).map(|hop| hop.node_id);
    let destination = read.as_ref().map(|read| read.payee).or(last_hop);
    let description = read.map(|read| match read.description {
        Read::Text(text) => text,
        Read::Hash(_) => String::new(),
    });
    let created = payment.created.duration_since(UNIX_EPOCH).unwrap_or_default();
    leyden::BrowsePayment {
        index: payment.index,
        payment_hash: payment.payment_hash.to_string(),
        value_msat: msat(payment.amount),
        fee_msat: msat(payment.fee),
        created: seconds(created),
        state: state.to_owned(),
        failure: failure.map(|reason| failure_reason(Some(reason)).as_str_name().to_owned()).unwrap_or_default(),
        description: description.unwrap_or_default(),
        destination: destination.map(|node| node.to_string()).unwrap_or_default(),
        payment_preimage: preimage.map(|preimage| hex::encode(preimage.0)).unwrap_or_default(),
    }
}

const OPEN: &str = "open";
const HELD: &str = "held";
const SETTLED: &str = "settled";
const CANCELED: &str = "canceled";
const EXPIRED: &str = "expired";
const TAKEN_BACK: &str = "taken_back";

/// `now` in seconds since 1970.
pub(crate) fn invoice(invoice: &Invoice, now: u64) -> leyden::BrowseInvoice {
    let expires = invoice.created.0.saturating_add(invoice.expiry.as_secs());
    let (state, settled, paid) = match invoice.state {
        InvoiceState::Open if expires < now => (EXPIRED, 0, Msat::ZERO),
        InvoiceState::Open => (OPEN, 0, Msat::ZERO),
        InvoiceState::Accepted { amount } => (HELD, 0, amount),
        InvoiceState::Settled { at, amount, .. } => (SETTLED, at.0, amount),
        InvoiceState::TakenBack { amount } => (TAKEN_BACK, 0, amount),
        InvoiceState::Canceled => (CANCELED, 0, Msat::ZERO),
    };
    let time = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    leyden::BrowseInvoice {
        index: invoice.add_index,
        payment_hash: invoice.payment_hash.to_string(),
        value_msat: msat(invoice.amount.unwrap_or(Msat::ZERO)),
        paid_msat: msat(paid),
        created: time(invoice.created.0),
        settled: time(settled),
        state: state.to_owned(),
        memo: described(&invoice.description).0,
        payment_request: invoice.request.clone(),
        expires: time(expires),
    }
}

pub(crate) fn coin(coin: &WalletCoin, network: &NetworkInfo) -> leyden::BrowseCoin {
    leyden::BrowseCoin {
        outpoint: coin.outpoint.to_string(),
        address: address_text(&coin.output.script_pubkey, network.addresses),
        amount: signed(coin.output.value),
        confirmations: coin.confirmations,
    }
}

pub(crate) fn map(map: &NetworkMap) -> leyden::GetMapResponse {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let node = |node: &crate::api::MapNode| leyden::MapNode {
        pubkey: node.id.to_string(),
        alias: node.alias.clone(),
        channels: count(node.channels),
    };
    leyden::GetMapResponse {
        nodes: map.nodes.iter().map(node).collect(),
        edges: map.edges.iter().map(|(a, b)| leyden::MapEdge { a: count(*a), b: count(*b) }).collect(),
        total_nodes: count(map.total_nodes),
        total_channels: count(map.total_channels),
        total_capacity: signed(map.total_capacity),
    }
}
