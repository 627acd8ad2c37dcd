//! Between protobuf and the domain: the only place that sees both.
//!
//! ```text
//!   request ──(checked field by field, wrong ones named)──► domain type
//!   domain type ──────────────────────────────────────────► response
//! ```
//!
//! [`edge`] has the checks that many fields share. A request that asks for something that is not there (an AMP
//! payment) is refused, never done halfway.

pub(super) mod announcing;
pub(super) mod backups;
pub(super) mod browse;
pub(super) mod chain;
pub(super) mod chain_watch;
pub(super) mod channels;
pub(super) mod closings;
pub(super) mod crossings;
pub(super) mod custom;
pub(super) mod deciding;
pub(super) mod edge;
pub(super) mod experience;
pub(super) mod forgetting;
pub(super) mod forwarding;
pub(super) mod funding;
pub(super) mod graph;
pub(super) mod invoices;
pub(super) mod lifecycle;
pub(super) mod long_closed;
pub(super) mod long_graph;
pub(super) mod long_transactions;
pub(super) mod payments;
pub(super) mod psbts;
pub(super) mod recovery;
pub(super) mod routes;
pub(super) mod signer;
pub(super) mod submarine;
pub(super) mod swaps;
pub(super) mod sweeps;
pub(super) mod tokens;
pub(super) mod towers;
pub(super) mod wallet;
pub(super) mod wallet_kit;
pub(super) mod watchtower;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bitcoin::{OutPoint, hashes::Hash as _};
use leyden_channels::{
    types::{Msat, ShortChannelId},
    wire::features::{Feature, Features},
};
use leyden_proto::lnrpc;

use super::long::wire::Sink;

/// Millisatoshi as a signed field; amounts on a chain of 21 million coins always fit.
fn msat(amount: Msat) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

/// Whole satoshi, rounded down.
fn sat(amount: Msat) -> i64 {
    msat(amount) / 1000
}

fn signed(amount: bitcoin::Amount) -> i64 {
    i64::try_from(amount.to_sat()).unwrap_or(i64::MAX)
}

fn both(amount: Msat) -> Option<lnrpc::Amount> {
    Some(lnrpc::Amount { sat: amount.0 / 1000, msat: amount.0 })
}

/// 0 stands for a channel that is not in a block.
fn scid(id: Option<ShortChannelId>) -> u64 {
    id.map_or(0, |id| id.0)
}

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn features(features: &Features) -> HashMap<u32, lnrpc::Feature> {
    features.bits().filter_map(|bit| u32::try_from(bit).ok()).map(|bit| (bit, feature(bit))).collect()
}

fn feature(bit: u32) -> lnrpc::Feature {
    let known = Feature::ALL.into_iter().find(|known| u32::try_from(known.required_bit()) == Ok(bit & !1));
    lnrpc::Feature {
        name: known.map_or("unknown", feature_name).to_owned(),
        is_required: bit.is_multiple_of(2),
        is_known: known.is_some(),
    }
}

/// LND's name of a feature, which clients look for; BOLT 9's of one that LND does not know.
const fn feature_name(feature: Feature) -> &'static str {
    match feature {
        Feature::DataLossProtect => "data-loss-protect",
        Feature::UpfrontShutdownScript => "upfront-shutdown-script",
        Feature::GossipQueries => "gossip-queries",
        Feature::VarOnionOptin => "tlv-onion",
        Feature::StaticRemotekey => "static-remote-key",
        Feature::PaymentSecret => "payment-addr",
        Feature::BasicMpp => "multi-path-payments",
        Feature::SupportLargeChannel => "wumbo-channels",
        Feature::Anchors => "anchors-zero-fee-htlc-tx",
        Feature::RouteBlinding => "route-blinding",
        Feature::ShutdownAnysegwit => "shutdown-any-segwit",
        Feature::Quiesce => "quiescence",
        Feature::OnionMessages => "onion-messages",
        Feature::ChannelType => "explicit-commitment-type",
        Feature::ScidAlias => "scid-alias",
        Feature::PaymentMetadata => "payment-metadata",
        Feature::Zeroconf => "zero-conf",
        Feature::SimpleClose => "rbf-coop-close",
        Feature::GossipQueriesEx
        | Feature::DualFund
        | Feature::AttributionData
        | Feature::ProvideStorage
        | Feature::Splice => feature.name(),
    }
}

/// A transaction's or a block's name, which is written the other way round.
fn put_name<T: Sink>(to: &mut T, field: u32, mut name: [u8; 32]) {
    name.reverse();
    to.hex(field, &name);
}

/// As text, txid:index.
fn put_outpoint<T: Sink>(to: &mut T, field: u32, outpoint: &OutPoint) {
    let mut txid = outpoint.txid.to_byte_array();
    // Names are written the other way round.
    txid.reverse();
    let digits = outpoint.vout.checked_ilog10().unwrap_or(0) as usize + 1;
    to.head(field, 2 * txid.len() + 1 + digits);
    to.raw_hex(&txid);
    to.raw(b":");
    to.made(digits, || outpoint.vout.to_string());
}
