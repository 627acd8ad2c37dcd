//! `leyden swap cross` and `leyden swap crossings`: a Lightning payment from one network to another.

use clap::Args;
use leyden_proto::leyden::{CrossRequest, CrossingInfo, ListCrossingsRequest, LookAtCrossingRequest};

use super::super::{
    CliError, Context,
    amount::{self, Sat},
    format, lookupinvoice, table,
};

/// Have an invoice of the other network paid by a payment on this one.
///
/// Prints an invoice of this network with the same payment hash. Once somebody pays it, the other one is paid; if that fails,
/// what was paid goes back by itself. The payment may be locked for days if somebody on the other network does not answer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap cross lnbcrt10u1…            prints the invoice to be paid on this network\n  \
    leyden swap cross lnbcrt1… --amt 5000    an invoice that leaves the amount open\n  \
    leyden swap cross lnbcrt10u1… --to-own   an invoice of this network, paid from the other one\n  \
    leyden swap crossings                    what has become of it")]
pub(super) struct Cross {
    /// The payee's invoice
    invoice: String,
    /// What the payee is to get, if the invoice leaves that open
    #[arg(long)]
    amt: Option<Sat>,
    /// The invoice is of this daemon's own network
    #[arg(long)]
    to_own: bool,
}

impl Cross {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let amount_msat =
            self.amt.map_or(0, |amount| u64::try_from(amount.0).unwrap_or_default().saturating_mul(1_000));
        let request = CrossRequest { payment_request: self.invoice, amount_msat, to_own: self.to_own };
        let crossing = client.crossing().cross(request).await?.into_inner();
        context.show(&crossing, || {
            format!(
                "{}\n\nPay this on {} until then, and the payee is paid on {}:\n{}",
                for_people(&crossing),
                crossing.incoming,
                crossing.outgoing,
                crossing.payment_request
            )
        })
    }
}

/// Payments that cross, or have crossed, between the two networks.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap crossings\n  \
    leyden swap crossings 9f3c…     one of them, by the hash of its payments")]
pub(super) struct Crossings {
    /// The payment hash
    hash: Option<String>,
}

impl Crossings {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        if let Some(hash) = self.hash {
            let request = LookAtCrossingRequest { payment_hash: lookupinvoice::payment_hash(&hash)? };
            let crossing = client.crossing().look(request).await?.into_inner();
            return context.show(&crossing, || for_people(&crossing));
        }
        let list = client.crossing().list(ListCrossingsRequest {}).await?.into_inner();
        context.show(&list, || {
            let row = |crossing: &CrossingInfo| {
                [
                    format::short(&hex::encode(&crossing.payment_hash)),
                    format!("{}/{}", crossing.incoming, crossing.outgoing),
                    msat(crossing.price_msat),
                    msat(crossing.amount_msat),
                    time(crossing.created),
                    state(crossing),
                ]
            };
            table::list(
                ["hash", "networks", ">taken", ">paid", "~begun", "state"],
                list.crossings.iter().map(row).collect(),
                "Nothing has crossed. `leyden swap cross INVOICE` begins it, once `leyden swap rate` is set.",
            )
        })
    }
}

fn msat(amount: u64) -> String {
    amount::msat(i64::try_from(amount).unwrap_or(i64::MAX))
}

fn time(seconds: u64) -> String {
    format::time(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// What a state means, and why.
fn state(crossing: &CrossingInfo) -> String {
    match crossing.state.as_str() {
        "opening" => "the invoice is being made".to_owned(),
        "waiting" => "waits to be paid".to_owned(),
        "paying" => "held; the payee is being paid".to_owned(),
        "settling" => "the payee is paid; what is held is being taken".to_owned(),
        "giving_up" => format!("goes back: {}", crossing.reason),
        "crossed" => "done: the payee is paid, and so is this node".to_owned(),
        "given_back" => format!("nobody is paid: {}", crossing.reason),
        "taken_elsewhere" => crossing.reason.clone(),
        "lost" => format!("lost: {}", crossing.reason),
        "in_doubt" => {
            "held until it runs out: the payee's network has lost its records, and the payee may be paid".to_owned()
        }
        "unknown" => format!("not known: {}", crossing.reason),
        other => other.to_owned(),
    }
}

fn for_people(crossing: &CrossingInfo) -> String {
    let mut facts = vec![
        ("hash", hex::encode(&crossing.payment_hash)),
        ("payer pays", format!("{} on {}", msat(crossing.price_msat), crossing.incoming)),
        ("payee gets", format!("{} on {}", msat(crossing.amount_msat), crossing.outgoing)),
        ("binds until", time(crossing.expires)),
        ("locked for at most", format!("{} blocks of {}", crossing.hold_blocks, crossing.incoming)),
        ("state", state(crossing)),
    ];
    if !crossing.preimage.is_empty() {
        facts.push(("preimage", hex::encode(&crossing.preimage)));
        facts.push(("routes have cost", format!("{} on {}", msat(crossing.fee_msat), crossing.outgoing)));
    }
    table::facts(facts)
}
