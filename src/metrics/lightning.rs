//! The open wallet: its coins, peers, channels, and what is under way in them.

use leyden_channels::{channel::StateName, keys::curve::CurveOperation};

use super::page::{Family, Page, family};
use crate::api::{ChannelBalance, ChannelFigures, Lightning, NetworkFigures, PaymentFigures, WalletBalance};

const CONFIRMED: Family = family("leyden_wallet_confirmed_sat", "Coins in blocks.");
const UNCONFIRMED: Family = family("leyden_wallet_unconfirmed_sat", "Coins that wait for a block.");
const IMMATURE: Family = family("leyden_wallet_immature_sat", "Mining rewards younger than 100 blocks.");
const LOCKED: Family = family("leyden_wallet_locked_sat", "Part of these that is promised to something under way.");
const RESERVED: Family = family("leyden_wallet_anchor_reserve_sat", "Part of these that is kept back for claims.");
const COINS: Family = family("leyden_wallet_coins", "Unspent outputs of the wallet.");
const PEERS: Family =
    family("leyden_peers", "Connected Lightning nodes. Strangers came to us and have no funded channel.");
const GOSSIP_CHANNELS: Family = family("leyden_gossip_channels", "Channels of the network that are known.");
const GOSSIP_NODES: Family = family("leyden_gossip_nodes", "Nodes of the network that are known.");
const CHANNELS: Family = family("leyden_channels", "Channels that have not ended, by their state.");
const USABLE: Family = family("leyden_channels_usable", "Channels over which payments can be sent now.");
const LOCAL: Family = family("leyden_channels_local_msat", "What is ours in open channels, HTLCs aside.");
const REMOTE: Family = family("leyden_channels_remote_msat", "What is the peers' in open channels, HTLCs aside.");
const OPENING_LOCAL: Family = family("leyden_channels_opening_local_msat", "What is ours in channels being opened.");
const OPENING_REMOTE: Family =
    family("leyden_channels_opening_remote_msat", "What is the peers' in channels being opened.");
const HTLCS: Family = family("leyden_channels_htlcs", "HTLCs that are under way, by who offered them.");
const HTLC_AMOUNT: Family = family("leyden_channels_htlcs_msat", "What is in them, as far as the channels are open.");
const PAYMENTS: Family = family("leyden_payments_pending", "Payments that have not ended.");
const FORWARDS: Family = family("leyden_forwards_pending", "HTLCs of others that are on their way.");
const INVOICES: Family = family("leyden_invoices_open", "Invoices that can be paid, or are held.");
const CURVE: Family = family(
    "leyden_curve_operations_total",
    "Operations on the curve for channels, payments, gossip and towers, by their kind.",
);

/// What answers from memory.
pub(super) fn write(lightning: &dyn Lightning, page: &Page<'_>) {
    let NetworkFigures { peers, strangers, channels, nodes } = lightning.network_figures();
    page.gauge_of(PEERS, ("kind", "stranger"), strangers);
    page.gauge_of(PEERS, ("kind", "known"), peers.saturating_sub(strangers));
    page.gauge(GOSSIP_CHANNELS, channels);
    page.gauge(GOSSIP_NODES, nodes);
    let PaymentFigures { payments, forwards, invoices } = lightning.payment_figures();
    page.gauge(PAYMENTS, payments);
    page.gauge(FORWARDS, forwards);
    page.gauge(INVOICES, invoices);
    // They are counted for all of the process.
    for operation in CurveOperation::ALL.iter().filter(|_| page.is_first()) {
        page.counter_of(CURVE, ("operation", operation.name()), operation.count());
    }
}

pub(super) fn write_wallet(balance: &WalletBalance, page: &Page<'_>) {
    let WalletBalance { confirmed, unconfirmed, immature, locked, anchor_reserve, coins } = balance;
    page.gauge(CONFIRMED, confirmed.to_sat());
    page.gauge(UNCONFIRMED, unconfirmed.to_sat());
    page.gauge(IMMATURE, immature.to_sat());
    page.gauge(LOCKED, locked.to_sat());
    page.gauge(RESERVED, anchor_reserve.to_sat());
    page.gauge(COINS, *coins as u64);
}

pub(super) fn write_channels(figures: &ChannelFigures, page: &Page<'_>) {
    for (state, count) in &figures.states {
        page.gauge_of(CHANNELS, ("state", label(*state)), *count);
    }
    page.gauge(USABLE, figures.usable);
    let ChannelBalance { local, remote, unsettled_local, unsettled_remote, pending_local, pending_remote } =
        figures.balance;
    page.gauge(LOCAL, local.0);
    page.gauge(REMOTE, remote.0);
    page.gauge(OPENING_LOCAL, pending_local.0);
    page.gauge(OPENING_REMOTE, pending_remote.0);
    for (by, count, amount) in
        [("local", figures.offered_htlcs, unsettled_remote), ("remote", figures.received_htlcs, unsettled_local)]
    {
        page.gauge_of(HTLCS, ("offered_by", by), count);
        page.gauge_of(HTLC_AMOUNT, ("offered_by", by), amount.0);
    }
}

fn label(state: StateName) -> &'static str {
    match state {
        StateName::Opening => "opening",
        StateName::Funding => "funding",
        StateName::Ready => "ready",
        StateName::Normal => "normal",
        StateName::Shutdown => "shutdown",
        StateName::Negotiating => "negotiating",
        StateName::Lost => "lost",
        StateName::Restored => "restored",
        StateName::Closing => "closing",
        StateName::DoubleSpent => "double_spent",
        StateName::Closed => "closed",
    }
}
