//! `leyden swap in` and `leyden swap out`: how a submarine swap begins.

use clap::{Args, value_parser};
use leyden_proto::leyden::SubmarineQuoteRequest;

use super::{
    super::{
        CliError, Context,
        amount::{Sat, positive},
    },
    begin::{DEPTH, warn_of_depth},
};

/// What each initiator decides for itself.
#[derive(Debug, Args)]
struct Terms {
    /// The network that the coins are on, if it is the other one of this daemon (--also), or of two (--swap-with); the payment is
    /// on the one that the command is for
    #[arg(long, value_name = "NETWORK")]
    coins_on: Option<String>,
    /// Blocks until the coins go back if nothing happens; if not given, as many as leave time for all of it
    #[arg(long, value_name = "BLOCKS", conflicts_with = "coins_on", value_parser = value_parser!(u32).range(1..))]
    refund_blocks: Option<u32>,
    /// With --coins-on: hours until the coins go back if nothing happens; if not given, as many as leave time for all of it
    #[arg(long, value_name = "HOURS", requires = "coins_on", value_parser = value_parser!(u32).range(1..))]
    refund_hours: Option<u32>,
}

/// What is got, or nothing if the rate between two networks says it.
fn got(get: Option<Sat>, terms: &Terms) -> Result<i64, CliError> {
    match get {
        Some(get) => Ok(get.0),
        None if terms.coins_on.is_some() => Ok(0),
        None => {
            Err(CliError::Usage("say with --get what you get for it: only between two networks a rate can".to_owned()))
        }
    }
}

/// Offer coins of the chain for a Lightning payment to you (loop in): a submarine swap that fills a channel.
///
/// You lock coins that the other can take with what your invoice is paid for, or that come back to you at a height; the other
/// pays the invoice, and takes them. Nothing is locked by the offer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap in --give 1000000 --get 990000   prints an offer; send it to the other, who says\n  \
    leyden swap accept OFFER --give 990000 --get 1000000 --lightning give\n  \
    leyden --network south swap in --give 1000000 --get 9900000 --coins-on north\n  \
    \x20                                            coins of north for a payment on south")]
pub(super) struct In {
    /// Coins of the chain that you give
    #[arg(long)]
    give: Sat,
    /// What you are paid over Lightning; with --coins-on, what your own rate says if not given (`leyden swap rate`)
    #[arg(long, value_parser = positive)]
    get: Option<Sat>,
    /// The most that the transaction which locks your coins may pay in fees, in satoshi
    #[arg(long, value_name = "SAT", default_value = "10000", value_parser = positive)]
    max_lock_fee: Sat,
    #[command(flatten)]
    terms: Terms,
}

/// Offer a Lightning payment for coins of the chain (loop out): a submarine swap that empties a channel.
///
/// You pay an invoice that the other holds; the other locks coins that you take with what it is paid for, which pays the other.
/// Whatever is not taken goes back. Nothing is paid by the offer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap out --give 1000000 --get 990000   prints an offer; send it to the other, who says\n  \
    leyden swap accept OFFER --give 990000 --get 1000000 --lightning get\n  \
    leyden --network south swap out --give 9900000 --get 1000000 --coins-on north\n  \
    \x20                                             a payment on south for coins of north")]
pub(super) struct Out {
    /// What you pay over Lightning
    #[arg(long)]
    give: Sat,
    /// Coins of the chain that you get; with --coins-on, what your own rate says if not given (`leyden swap rate`)
    #[arg(long, value_parser = positive)]
    get: Option<Sat>,
    /// Confirmations that the other's lock needs
    #[arg(long, value_name = "BLOCKS", default_value_t = DEPTH, value_parser = value_parser!(u32).range(1..))]
    depth: u32,
    /// The most that the route of your payment may cost, in satoshi, at least 1; half a percent of it if not given
    #[arg(long, value_name = "SAT", value_parser = positive)]
    max_route_fee: Option<Sat>,
    #[command(flatten)]
    terms: Terms,
}

impl In {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = SubmarineQuoteRequest {
            out: false,
            coins: self.give.0,
            payment: got(self.get, &self.terms)?,
            max_lock_fee: self.max_lock_fee.0,
            refund_blocks: self.terms.refund_blocks.unwrap_or_default(),
            refund_hours: self.terms.refund_hours.unwrap_or_default(),
            coins_on: self.terms.coins_on.unwrap_or_default(),
            ..SubmarineQuoteRequest::default()
        };
        quote(context, request).await
    }
}

impl Out {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        warn_of_depth(context, self.depth);
        let request = SubmarineQuoteRequest {
            out: true,
            coins: got(self.get, &self.terms)?,
            payment: self.give.0,
            depth: self.depth,
            max_route_fee: self.max_route_fee.map_or(0, |fee| fee.0),
            refund_blocks: self.terms.refund_blocks.unwrap_or_default(),
            refund_hours: self.terms.refund_hours.unwrap_or_default(),
            coins_on: self.terms.coins_on.unwrap_or_default(),
            ..SubmarineQuoteRequest::default()
        };
        quote(context, request).await
    }
}

async fn quote(context: &Context, request: SubmarineQuoteRequest) -> Result<(), CliError> {
    let swap = context.client().await?.swap().quote_submarine(request).await?.into_inner();
    context.show(&swap, || {
        format!(
            "{}\n\nNothing is locked or paid yet. Send this offer to the other:\n{}\n\nThen: {}",
            super::for_people(context, &swap),
            hex::encode(&swap.offer),
            context.command("swap initiate ACCEPTANCE")
        )
    })
}
