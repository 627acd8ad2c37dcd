//! `leyden swap in` and `leyden swap out`: how a submarine swap begins.

use clap::Args;
use leyden_proto::leyden::SubmarineQuoteRequest;

use super::{
    super::{CliError, Context, amount::Sat},
    begin::{DEPTH, warn_of_depth},
};

/// What each initiator decides for itself.
#[derive(Debug, Args)]
struct Terms {
    /// Blocks until the coins go back if nothing happens; if not given, as many as leave time for all of it
    #[arg(long, value_name = "BLOCKS")]
    refund_blocks: Option<u32>,
}

/// Offer coins of the chain for a Lightning payment to you (loop in): a submarine swap that fills a channel.
///
/// You lock coins that the other can take with what your invoice is paid for, or that come back to you at a height; the other
/// pays the invoice, and takes them. Nothing is locked by the offer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap in --give 1000000 --get 990000   prints an offer; send it to the other, who says\n  \
    leyden swap accept OFFER --give 990000 --get 1000000 --lightning give")]
pub(super) struct In {
    /// Coins of the chain that you give
    #[arg(long)]
    give: Sat,
    /// What you are paid over Lightning
    #[arg(long)]
    get: Sat,
    /// The most that the transaction which locks your coins may pay in fees, in satoshi
    #[arg(long, value_name = "SAT", default_value = "10000")]
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
    leyden swap accept OFFER --give 990000 --get 1000000 --lightning get")]
pub(super) struct Out {
    /// What you pay over Lightning
    #[arg(long)]
    give: Sat,
    /// Coins of the chain that you get
    #[arg(long)]
    get: Sat,
    /// Confirmations that the other's lock needs
    #[arg(long, value_name = "BLOCKS", default_value_t = DEPTH)]
    depth: u32,
    /// The most that the route of your payment may cost, in satoshi; half a percent of it if not given
    #[arg(long, value_name = "SAT")]
    max_route_fee: Option<Sat>,
    #[command(flatten)]
    terms: Terms,
}

impl In {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = SubmarineQuoteRequest {
            out: false,
            coins: self.give.0,
            payment: self.get.0,
            max_lock_fee: self.max_lock_fee.0,
            refund_blocks: self.terms.refund_blocks.unwrap_or_default(),
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
            coins: self.get.0,
            payment: self.give.0,
            depth: self.depth,
            max_route_fee: self.max_route_fee.map_or(0, |fee| fee.0),
            refund_blocks: self.terms.refund_blocks.unwrap_or_default(),
            ..SubmarineQuoteRequest::default()
        };
        quote(context, request).await
    }
}

async fn quote(context: &Context, request: SubmarineQuoteRequest) -> Result<(), CliError> {
    let swap = context.client().await?.swap().quote_submarine(request).await?.into_inner();
    context.show(&swap, || {
        format!(
            "{}\n\nNothing is locked or paid yet. Send this offer to the other:\n{}\n\nThen: leyden swap initiate ACCEPTANCE",
            super::for_people(&swap),
            hex::encode(&swap.offer)
        )
    })
}
