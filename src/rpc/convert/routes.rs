//! Routes through the network.

use std::{collections::HashMap, time::Duration};

use leyden_channels::{
    gossip::Direction,
    onion::payload::FIRST_CUSTOM_RECORD,
    types::{CltvExpiry, Msat, NodeId, PaymentHash, PaymentSecret, ShortChannelId},
    wire::tlv::RawRecord,
};
use leyden_proto::{lnrpc, routerrpc};

use super::{
    edge,
    invoices::{request_text, route_hints},
    msat,
    payments::failure_reason,
    sat, signed,
};
use crate::api::{ApiError, BuildRoute, FeeEstimate, FeeQuery, FoundRoute, PlannedRoute, RouteHop, RouteQuery};

/// How long a probe may take if the request does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn route_query(request: lnrpc::QueryRoutesRequest) -> Result<RouteQuery, ApiError> {
    let amount = positive(edge::either_amount("amt", request.amt, request.amt_msat)?, "amt")?;
    // A route is for one part, and its last hop has what BOLT 4 asks for: nothing else depends on them.
    edge::dest_features("dest_features", &request.dest_features)?;
    let node = |field: &str, bytes: &[u8]| edge::node_id(field, bytes).map(NodeId::from);
    let pair =
        |pair: &lnrpc::NodePair| Ok((node("ignored_pairs.from", &pair.from)?, node("ignored_pairs.to", &pair.to)?));
    Ok(RouteQuery {
        source: match request.source_pub_key.as_str() {
            "" => None,
            text => Some(edge::node_id_hex("source_pub_key", text)?.into()),
        },
        target: edge::node_id_hex("pub_key", &request.pub_key)?,
        amount,
        final_cltv: edge::optional_u16("final_cltv_delta", request.final_cltv_delta)?,
        max_fee: fee_limit(request.fee_limit.as_ref(), amount)?,
        max_cltv: (request.cltv_limit != 0).then_some(request.cltv_limit),
        ignored_nodes: request
            .ignored_nodes
            .iter()
            .map(|bytes| node("ignored_nodes", bytes))
            .collect::<Result<_, _>>()?,
        ignored_pairs: request.ignored_pairs.iter().map(pair).collect::<Result<_, ApiError>>()?,
        last_hop: match request.last_hop_pubkey.as_slice() {
            [] => None,
            bytes => Some(node("last_hop_pubkey", bytes)?),
        },
        ignored_channels: request.ignored_edges.iter().map(ignored_edge).collect(),
        outgoing: edge::outgoing(request.outgoing_chan_id, &request.outgoing_chan_ids)?,
        time_pref: edge::time_pref(request.time_pref)?,
        route_hints: route_hints(&request.route_hints)?,
        custom_records: custom_records("dest_custom_records", &request.dest_custom_records)?,
        use_experience: request.use_mission_control,
    })
}

fn ignored_edge(edge: &lnrpc::EdgeLocator) -> (ShortChannelId, Direction) {
    let direction = if edge.direction_reverse { Direction::FromNode2 } else { Direction::FromNode1 };
    (ShortChannelId(edge.channel_id), direction)
}

fn fee_limit(limit: Option<&lnrpc::FeeLimit>, amount: Msat) -> Result<Option<Msat>, ApiError> {
    use lnrpc::fee_limit::Limit;
    // Set to zero it says that nothing may be paid.
    let or_zero = |limit: Option<Msat>| Some(limit.unwrap_or(Msat::ZERO));
    match limit.and_then(|limit| limit.limit) {
        None => Ok(None),
        Some(Limit::Fixed(sat)) => edge::fee_limit("fee_limit", sat, 0).map(or_zero),
        Some(Limit::FixedMsat(msat)) => edge::fee_limit("fee_limit", 0, msat).map(or_zero),
        Some(Limit::Percent(percent)) => {
            let percent = u64::try_from(percent)
                .map_err(|_| edge::wrong("fee_limit", format_args!("{percent} percent is negative")))?;
            Ok(Some(Msat(amount.0.saturating_mul(percent) / 100)))
        }
    }
}

fn positive(amount: Msat, field: &str) -> Result<Msat, ApiError> {
    match amount {
        Msat::ZERO => Err(edge::wrong(field, "an amount above zero is needed")),
        amount => Ok(amount),
    }
}

fn channels(ids: &[u64]) -> Vec<ShortChannelId> {
    ids.iter().copied().map(ShortChannelId).collect()
}

pub(crate) fn found(found: &FoundRoute) -> lnrpc::QueryRoutesResponse {
    lnrpc::QueryRoutesResponse { routes: vec![route(&found.route)], success_prob: found.success_probability }
}

pub(crate) fn build_route(request: routerrpc::BuildRouteRequest) -> Result<BuildRoute, ApiError> {
    if request.hop_pubkeys.is_empty() {
        return Err(edge::wrong("hop_pubkeys", "name every node of the route after this one"));
    }
    let hops = request.hop_pubkeys.iter().map(|bytes| edge::node_id("hop_pubkeys", bytes));
    Ok(BuildRoute {
        amount: Some(edge::amount_msat("amt_msat", request.amt_msat)?).filter(|amount| *amount > Msat::ZERO),
        final_cltv: edge::optional_u16("final_cltv_delta", request.final_cltv_delta)?,
        outgoing: Some(ShortChannelId(request.outgoing_chan_id)).filter(|id| id.0 != 0),
        hops: hops.collect::<Result<_, _>>()?,
        secret: secret("payment_addr", &request.payment_addr)?,
    })
}

fn secret(field: &str, bytes: &[u8]) -> Result<Option<PaymentSecret>, ApiError> {
    match bytes {
        [] => Ok(None),
        bytes => Ok(Some(PaymentSecret(edge::bytes32(field, bytes)?))),
    }
}

pub(crate) fn fee_query(request: routerrpc::RouteFeeRequest) -> Result<FeeQuery, ApiError> {
    let outgoing = channels(&request.outgoing_chan_ids);
    match (request.dest.is_empty(), request.payment_request.is_empty()) {
        (false, true) => Ok(FeeQuery::Known {
            target: edge::node_id("dest", &request.dest)?,
            amount: positive(edge::either_amount("amt_sat", request.amt_sat, 0)?, "amt_sat")?,
            outgoing,
        }),
        (true, false) => Ok(FeeQuery::Probe {
            request: request_text("payment_request", &request.payment_request)?.to_owned(),
            timeout: match request.timeout {
                0 => DEFAULT_TIMEOUT,
                seconds => Duration::from_secs(u64::from(seconds)),
            },
            outgoing,
        }),
        (_, _) => Err(edge::wrong("dest", "give dest with amt_sat, or a payment_request")),
    }
}

pub(crate) fn fee_estimate(estimate: &FeeEstimate) -> routerrpc::RouteFeeResponse {
    match estimate {
        FeeEstimate::Found { fee, expiry } => routerrpc::RouteFeeResponse {
            routing_fee_msat: msat(*fee),
            time_lock_delay: i64::from(expiry.0),
            failure_reason: failure_reason(None).into(),
        },
        FeeEstimate::Failed(reason) => {
            let failure_reason = failure_reason(Some(*reason)).into();
            routerrpc::RouteFeeResponse { failure_reason, ..Default::default() }
        }
    }
}

pub(crate) fn send_to_route(request: routerrpc::SendToRouteRequest) -> Result<(PaymentHash, PlannedRoute), ApiError> {
    let hash = edge::payment_hash("payment_hash", &request.payment_hash)?;
    let route = request.route.ok_or_else(|| edge::wrong("route", "a route is needed; BuildRoute makes one"))?;
    Ok((hash, planned(route)?))
}

#[allow(deprecated)] // The satoshi fields are still sent by clients.
fn planned(route: lnrpc::Route) -> Result<PlannedRoute, ApiError> {
    let mut hops = Vec::with_capacity(route.hops.len());
    for hop in &route.hops {
        // Clients give one unit or both.
        let amount = |msat: i64, sat: i64| match msat {
            0 => edge::either_amount("route.hops", sat, 0),
            msat => edge::amount_msat("route.hops", msat),
        };
        hops.push(RouteHop {
            short_channel_id: ShortChannelId(hop.chan_id),
            capacity: edge::amount("route.hops.chan_capacity", hop.chan_capacity)?,
            node_id: edge::node_id_hex("route.hops.pub_key", &hop.pub_key)?,
            amount: amount(hop.amt_to_forward_msat, hop.amt_to_forward)?,
            fee: amount(hop.fee_msat, hop.fee)?,
            expiry: CltvExpiry(hop.expiry),
        });
    }
    let Some((last, before)) = route.hops.split_last() else {
        return Err(edge::wrong("route.hops", "a route has at least one hop"));
    };
    let only_last =
        before.iter().any(|hop| hop.mpp_record.is_some() || !hop.custom_records.is_empty() || !hop.metadata.is_empty());
    edge::refuse("route.hops", only_last, "only the last hop takes records")?;
    let payment = match &last.mpp_record {
        None => None,
        Some(record) => Some((
            PaymentSecret(edge::bytes32("mpp_record.payment_addr", &record.payment_addr)?),
            edge::amount_msat("mpp_record.total_amt_msat", record.total_amt_msat)?,
        )),
    };
    check_totals(&route, &hops)?;
    Ok(PlannedRoute {
        hops,
        expiry: CltvExpiry(route.total_time_lock),
        payment,
        metadata: Some(last.metadata.clone()).filter(|metadata| !metadata.is_empty()),
        custom_records: custom_records("custom_records", &last.custom_records)?,
    })
}

/// What is sent is what the hops say; totals that say otherwise were meant otherwise.
#[allow(deprecated)] // The satoshi fields are still sent by clients.
fn check_totals(route: &lnrpc::Route, hops: &[RouteHop]) -> Result<(), ApiError> {
    let sent = hops.first().and_then(|hop| hop.amount.checked_add(hop.fee)).unwrap_or_default();
    let fees = sent.saturating_sub(hops.last().map_or(Msat::ZERO, |hop| hop.amount));
    let totals = [
        ("route.total_amt_msat", route.total_amt_msat, msat(sent)),
        ("route.total_amt", route.total_amt, sat(sent)),
        ("route.total_fees_msat", route.total_fees_msat, msat(fees)),
        ("route.total_fees", route.total_fees, sat(fees)),
    ];
    for (field, given, expected) in totals {
        if given != 0 && given != expected {
            return Err(edge::wrong(
                field,
                format!("{given}, but the hops add up to {expected}; leave it 0 or mend them"),
            ));
        }
    }
    Ok(())
}

/// In increasing order of their types.
pub(crate) fn custom_records(field: &str, records: &HashMap<u64, Vec<u8>>) -> Result<Vec<RawRecord>, ApiError> {
    let mut sorted: Vec<RawRecord> =
        records.iter().map(|(kind, value)| RawRecord { kind: *kind, value: value.clone() }).collect();
    sorted.sort();
    match sorted.first() {
        Some(record) if record.kind < FIRST_CUSTOM_RECORD => {
            let text = format!("type {}; those of applications begin at {FIRST_CUSTOM_RECORD}", record.kind);
            Err(edge::wrong(field, text))
        }
        Some(_) | None => Ok(sorted),
    }
}

#[allow(deprecated)] // The satoshi fields are still read by clients.
pub(crate) fn route(route: &PlannedRoute) -> lnrpc::Route {
    let delivered = route.hops.last().map_or(Msat::ZERO, |hop| hop.amount);
    let fees = Msat(route.hops.iter().fold(0, |sum: u64, hop| sum.saturating_add(hop.fee.0)));
    let total = Msat(delivered.0.saturating_add(fees.0));
    let mut hops: Vec<_> = route.hops.iter().map(hop).collect();
    if let Some(last) = hops.last_mut() {
        last.mpp_record = route
            .payment
            .map(|(secret, total)| lnrpc::MppRecord { payment_addr: secret.0.to_vec(), total_amt_msat: msat(total) });
        last.metadata = route.metadata.clone().unwrap_or_default();
        last.custom_records = records(&route.custom_records);
    }
    lnrpc::Route {
        total_time_lock: route.expiry.0,
        total_fees: sat(fees),
        total_fees_msat: msat(fees),
        total_amt: sat(total),
        total_amt_msat: msat(total),
        hops,
    }
}

pub(crate) fn records(records: &[RawRecord]) -> HashMap<u64, Vec<u8>> {
    records.iter().map(|record| (record.kind, record.value.clone())).collect()
}

#[allow(deprecated)] // The satoshi fields are still read by clients.
fn hop(hop: &RouteHop) -> lnrpc::Hop {
    lnrpc::Hop {
        chan_id: hop.short_channel_id.0,
        chan_capacity: signed(hop.capacity),
        amt_to_forward: sat(hop.amount),
        amt_to_forward_msat: msat(hop.amount),
        fee: sat(hop.fee),
        fee_msat: msat(hop.fee),
        expiry: hop.expiry.0,
        pub_key: hop.node_id.to_string(),
        tlv_payload: true,
        ..Default::default()
    }
}
