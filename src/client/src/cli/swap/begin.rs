//! `leyden swap quote`, `accept` and `initiate`: how a swap begins.

use clap::Args;
use leyden_proto::leyden::{SwapAcceptRequest, SwapInitiateRequest, SwapQuoteRequest};

use super::super::{CliError, Context, amount::Sat};

/// What each side decides for itself.
#[derive(Debug, Args)]
struct Terms {
    /// Redeem and refund only on command; keep an eye on it then: coins go back to the other after the expiry
    #[arg(long)]
    by_hand: bool,
    /// Confirmations that the other's lock needs
    #[arg(long, value_name = "BLOCKS", default_value_t = 6)]
    depth: u32,
    /// The most that the transaction which locks your coins may pay in fees, in satoshi
    #[arg(long, value_name = "SAT", default_value = "10000")]
    max_lock_fee: Sat,
}

/// Offer a trade: the initiator's first step. Nothing is locked by it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap quote --give 1btc --get 10btc                one coin of this chain for ten of the other\n  \
    leyden swap quote --give 10btc --get 1btc --give-other   ten of the other chain for one of this\n\n\
    Amounts are satoshi, or coins with `btc` behind them, whatever the chain calls its coins.")]
pub(super) struct Quote {
    /// What you give
    #[arg(long)]
    give: Sat,
    /// What you get for it
    #[arg(long)]
    get: Sat,
    /// Give coins of the other daemon's chain, and get this one's
    #[arg(long)]
    give_other: bool,
    #[command(flatten)]
    terms: Terms,
    /// Hours until your coins come back if nothing happens
    #[arg(long, value_name = "HOURS", default_value_t = 48)]
    outer_hours: u32,
    /// Hours until the other's coins go back
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    inner_hours: u32,
}

impl Quote {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let request = SwapQuoteRequest {
            give: self.give.0,
            get: self.get.0,
            give_other: self.give_other,
            by_hand: self.terms.by_hand,
            depth: self.terms.depth,
            max_lock_fee: self.terms.max_lock_fee.0,
            outer_hours: self.outer_hours,
            inner_hours: self.inner_hours,
        };
        let swap = client.swap().quote(request).await?.into_inner();
        context.show(&swap, || {
            format!(
                "{}\n\nNothing is locked yet. Send this offer to the other:\n{}\n\nThen: leyden swap initiate ACCEPTANCE",
                super::for_people(&swap),
                hex::encode(&swap.offer)
            )
        })
    }
}

/// Look at an offer and accept it: the participant's first step. Say what you believe the trade to be; any other is refused.
///
/// Nothing is locked by it. Your coins are, as soon as the initiator's lock is deep enough, unless you say --by-hand.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap accept 4f01… --give 10btc --get 1btc")]
pub(super) struct Accept {
    /// The offer, as the initiator has sent it
    offer: String,
    /// What you give
    #[arg(long)]
    give: Sat,
    /// What you get for it
    #[arg(long)]
    get: Sat,
    #[command(flatten)]
    terms: Terms,
}

impl Accept {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let request = SwapAcceptRequest {
            offer: super::bytes("an offer", &self.offer)?,
            give: self.give.0,
            get: self.get.0,
            by_hand: self.terms.by_hand,
            depth: self.terms.depth,
            max_lock_fee: self.terms.max_lock_fee.0,
        };
        let swap = client.swap().accept(request).await?.into_inner();
        context.show(&swap, || {
            let next = if swap.by_hand {
                "Then, once the other's lock is deep: leyden swap participate"
            } else {
                "Your coins are locked as soon as the other's lock is deep"
            };
            format!(
                "{}\n\nNothing is locked yet. Send this acceptance back:\n{}\n\n{next}.",
                super::for_people(&swap),
                hex::encode(&swap.acceptance)
            )
        })
    }
}

/// Lock your coins: the initiator's second step. They come back after the expiry if the other does not go on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap initiate 4101…")]
pub(super) struct Initiate {
    /// The acceptance, as the participant has sent it
    acceptance: String,
}

impl Initiate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let acceptance = super::bytes("an acceptance", &self.acceptance)?;
        let swap = client.swap().initiate(SwapInitiateRequest { acceptance }).await?.into_inner();
        context.show(&swap, || super::for_people(&swap))
    }
}
