//! Routes through the network that a caller asks for, looks at, and sends over.

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use leyden_channels::{
    gossip::Direction,
    types::{CltvExpiry, Msat, NodeId, PaymentHash, PaymentSecret, ShortChannelId},
    wire::tlv::RawRecord,
};

use super::{ApiError, Attempt, FailureReason, RouteHintHop, RouteHop};

#[async_trait]
pub(crate) trait Routes: Send + Sync {
    /// The best route in one part. `NoRoute` if there is none within the limits.
    async fn query_route(&self, query: RouteQuery) -> Result<FoundRoute, ApiError>;
    /// The route over these nodes, over the cheapest channel between each two.
    async fn build_route(&self, request: BuildRoute) -> Result<PlannedRoute, ApiError>;
    /// Sends one HTLC over a route and waits for its end. `AlreadyExists` if the payment is over or looks for its own
    /// routes.
    async fn send_to_route(&self, hash: PaymentHash, route: PlannedRoute) -> Result<Attempt, ApiError>;
    /// What a payment would cost; nothing is spent.
    async fn estimate_fee(&self, request: FeeQuery) -> Result<FeeEstimate, ApiError>;
    /// Forgets what payments have taught about channels.
    async fn forget_experience(&self) -> Result<(), ApiError>;
}

/// A question for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteQuery {
    /// `None`: from this node.
    pub source: Option<NodeId>,
    pub target: PublicKey,
    /// Not zero.
    pub amount: Msat,
    /// `None`: the daemon's default.
    pub final_cltv: Option<u16>,
    /// `None`: any fee.
    pub max_fee: Option<Msat>,
    /// `None`: the daemon's default.
    pub max_cltv: Option<u32>,
    pub ignored_nodes: Vec<NodeId>,
    /// No route from the first to the second.
    pub ignored_pairs: Vec<(NodeId, NodeId)>,
    /// No route over these channels in these directions.
    pub ignored_channels: Vec<(ShortChannelId, Direction)>,
    pub last_hop: Option<NodeId>,
    /// Leave by one of these; empty: by any.
    pub outgoing: Vec<ShortChannelId>,
    pub route_hints: Vec<Vec<RouteHintHop>>,
    /// What the last hop is to carry for applications.
    pub custom_records: Vec<RawRecord>,
    /// From -100 (the lowest fees) to 100 (the surest route).
    pub time_pref: i8,
    /// Avoid what earlier payments have shown to be empty.
    pub use_experience: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FoundRoute {
    pub route: PlannedRoute,
    /// As far as earlier payments tell.
    pub success_probability: f64,
}

/// A route with all amounts and expiries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedRoute {
    /// In the direction of the payment; never empty.
    pub hops: Vec<RouteHop>,
    /// Of the HTLC that we offer.
    pub expiry: CltvExpiry,
    /// What the last hop is told: the payment secret and what all parts bring together.
    pub payment: Option<(PaymentSecret, Msat)>,
    pub metadata: Option<Vec<u8>>,
    /// For the last hop, in increasing order of their types.
    pub custom_records: Vec<RawRecord>,
}

/// A route over given nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildRoute {
    /// `None`: the least that the channels take.
    pub amount: Option<Msat>,
    /// `None`: the daemon's default.
    pub final_cltv: Option<u16>,
    pub outgoing: Option<ShortChannelId>,
    /// Every node after this one; never empty.
    pub hops: Vec<PublicKey>,
    pub secret: Option<PaymentSecret>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FeeQuery {
    /// From what is known, without asking anybody.
    Known { target: PublicKey, amount: Msat, outgoing: Vec<ShortChannelId> },
    /// By a payment that the recipient of the invoice must refuse, since nobody knows its preimage.
    Probe { request: String, timeout: std::time::Duration, outgoing: Vec<ShortChannelId> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeeEstimate {
    /// The fee, and the height at which the first HTLC would expire.
    Found {
        fee: Msat,
        expiry: CltvExpiry,
    },
    Failed(FailureReason),
}
