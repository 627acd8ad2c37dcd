//! `leyden route`: a route to somebody, and what it would cost.

use clap::Args;
use leyden_proto::{
    lnrpc::{QueryRoutesRequest, Route},
    routerrpc::{BuildRouteRequest, RouteFeeRequest},
};

use super::{
    CliError, Context,
    amount::{self, Sat},
    format, payinvoice, table,
};

/// Find a route to a node, over given nodes, or for an invoice, and show what it costs. Nothing is paid.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden route 02ab… 5000                   the best route for 5,000 sat\n  \
    leyden route 02ab… 5000 --via 03cd…       over this node; give more in order\n  \
    leyden route lnbcrt50u1…                  try how far an invoice's payment would come")]
pub struct FindRoute {
    /// The node's public key, or an invoice
    #[arg(value_name = "NODE|INVOICE")]
    to: String,
    /// Amount that the recipient receives; an invoice may name it
    #[arg(default_value = "0", hide_default_value = true)]
    amt: Sat,
    /// Route through this node; may be given more than once, in the order of the route
    #[arg(long, value_name = "NODE")]
    via: Vec<String>,
    /// The most to pay in fees
    #[arg(long, alias = "fee_limit", conflicts_with = "via")]
    fee_limit: Option<Sat>,
    /// Seconds after which the probe of an invoice gives up
    #[arg(long, default_value_t = 60)]
    timeout: u32,
}

impl FindRoute {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let is_node = self.to.len() == 66 && self.to.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_node {
            return self.probe(context).await;
        }
        if self.amt.0 == 0 {
            return Err(CliError::Usage("say how much is to arrive: leyden route NODE AMOUNT".to_owned()));
        }
        if self.via.is_empty() { self.query(context).await } else { self.along(context).await }
    }

    async fn query(self, context: &Context) -> Result<(), CliError> {
        use leyden_proto::lnrpc::{FeeLimit, fee_limit::Limit};
        let request = QueryRoutesRequest {
            pub_key: self.to,
            amt: self.amt.0,
            fee_limit: self.fee_limit.map(|limit| FeeLimit { limit: Some(Limit::Fixed(limit.0)) }),
            use_mission_control: true,
            ..Default::default()
        };
        let answer = context.client().await?.lightning().query_routes(request).await?.into_inner();
        context.show(&answer, || {
            let routes: Vec<String> = answer.routes.iter().map(shown).collect();
            let chance = answer.success_prob * 100.0;
            format!("{}\nsuccess probability, as far as is known: {chance:.0} %", routes.join("\n\n"))
        })
    }

    async fn along(self, context: &Context) -> Result<(), CliError> {
        let mut hop_pubkeys = Vec::new();
        for node in self.via.iter().chain([&self.to]) {
            let bytes = hex::decode(node)
                .map_err(|_| CliError::Usage(format!("\"{node}\" is no public key; it has 66 hex digits")))?;
            hop_pubkeys.push(bytes);
        }
        let amt_msat = self.amt.0.saturating_mul(1000);
        let request = BuildRouteRequest { amt_msat, hop_pubkeys, ..Default::default() };
        let answer = context.client().await?.router().build_route(request).await?.into_inner();
        context.show(&answer, || answer.route.as_ref().map(shown).unwrap_or_default())
    }

    async fn probe(self, context: &Context) -> Result<(), CliError> {
        let request = RouteFeeRequest { payment_request: self.to, timeout: self.timeout, ..Default::default() };
        let waiting = context.waiting("probing");
        let answer = context.client().await?.router().estimate_route_fee(request).await?.into_inner();
        waiting.finish_and_clear();
        let reason = answer.failure_reason();
        if reason != leyden_proto::lnrpc::PaymentFailureReason::FailureReasonNone {
            return Err(CliError::Failed(format!("the probe did not arrive: {}", payinvoice::explained(reason))));
        }
        context.show(&answer, || {
            table::facts([
                ("the payment would arrive", "yes".to_owned()),
                ("fee", amount::msat(answer.routing_fee_msat)),
                ("locked until block", answer.time_lock_delay.to_string()),
            ])
        })
    }
}

fn shown(route: &Route) -> String {
    let row = |hop: &leyden_proto::lnrpc::Hop| {
        [
            format::scid(hop.chan_id),
            hop.pub_key.clone(),
            amount::msat(hop.amt_to_forward_msat),
            amount::msat(hop.fee_msat),
            hop.expiry.to_string(),
        ]
    };
    let headings = ["channel", "to", ">amount to forward", ">fee", ">expiry (block)"];
    let hops = table::list(headings, route.hops.iter().map(row).collect(), "");
    let sums = table::facts([
        ("total amount", amount::msat(route.total_amt_msat)),
        ("total fees", amount::msat(route.total_fees_msat)),
        ("total time lock (block)", route.total_time_lock.to_string()),
    ]);
    format!("{hops}\n\n{sums}\n")
}
