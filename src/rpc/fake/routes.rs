//! One way, whoever asks.

use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bitcoin::Amount;
use leyden_channels::types::{CltvExpiry, Msat, PaymentHash, PaymentPreimage};

use super::{Fake, network::channel_id, node_id};
use crate::api::*;

pub(crate) fn route() -> PlannedRoute {
    let hop = |amount, fee, expiry| RouteHop {
        short_channel_id: channel_id(),
        capacity: Amount::from_sat(1_000_000),
        node_id: node_id(),
        amount: Msat(amount),
        fee: Msat(fee),
        expiry: CltvExpiry(expiry),
    };
    PlannedRoute {
        hops: vec![hop(10_000, 1_500, 220), hop(10_000, 0, 220)],
        expiry: CltvExpiry(300),
        payment: None,
        metadata: None,
        custom_records: Vec::new(),
    }
}

#[async_trait]
impl Routes for Fake {
    async fn query_route(&self, query: RouteQuery) -> Result<FoundRoute, ApiError> {
        let route = PlannedRoute { custom_records: query.custom_records.clone(), ..route() };
        self.asked(query, FoundRoute { route, success_probability: 0.5 })
    }

    async fn build_route(&self, request: BuildRoute) -> Result<PlannedRoute, ApiError> {
        let payment = request.secret.map(|secret| (secret, Msat(10_000)));
        self.asked(request, PlannedRoute { payment, ..route() })
    }

    async fn send_to_route(&self, hash: PaymentHash, route: PlannedRoute) -> Result<Attempt, ApiError> {
        let attempt = Attempt {
            id: 3,
            started: UNIX_EPOCH,
            state: AttemptState::Succeeded { at: UNIX_EPOCH, preimage: PaymentPreimage([9; 32]) },
            expiry: route.expiry,
            secret: route.payment.map(|(secret, _)| secret),
            total: route.payment.map_or(Msat::ZERO, |(_, total)| total),
            route: route.hops.clone(),
        };
        self.asked((hash, route), attempt)
    }

    async fn estimate_fee(&self, request: FeeQuery) -> Result<FeeEstimate, ApiError> {
        self.asked(request, FeeEstimate::Found { fee: Msat(1_500), expiry: CltvExpiry(300) })
    }

    async fn forget_experience(&self) -> Result<(), ApiError> {
        self.asked("forget_experience", ())
    }
}
