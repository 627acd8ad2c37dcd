//! `leyden swap quote`, `accept` and `initiate`: how a swap begins.

use clap::{Args, ValueEnum, value_parser};
use leyden_channels::swap::submarine;
use leyden_proto::leyden::{
    SubmarineAcceptRequest, SwapAcceptRequest, SwapInfo, SwapInitiateRequest, SwapQuoteRequest,
};

use super::super::{
    CliError, Context,
    amount::{Sat, positive},
    format,
};

/// With fewer, a reorganisation of six blocks takes the other's lock away when yours stands already.
pub(super) const DEPTH: u32 = 7;

/// Which side of a submarine swap is the Lightning payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// You pay over Lightning, and get coins of the chain: the other fills a channel (in)
    Give,
    /// You are paid over Lightning, and give coins of the chain: the other empties a channel (out)
    Get,
}

/// What each side decides for itself.
#[derive(Debug, Args)]
struct Terms {
    /// Redeem and refund only on command; keep an eye on it then: coins go back to the other after the expiry
    #[arg(long)]
    by_hand: bool,
    /// Confirmations that the other's lock needs
    #[arg(long, value_name = "BLOCKS", default_value_t = DEPTH, value_parser = value_parser!(u32).range(1..))]
    depth: u32,
    /// The most that the transaction which locks your coins may pay in fees, in satoshi
    #[arg(long, value_name = "SAT", default_value = "10000", value_parser = positive)]
    max_lock_fee: Sat,
}

/// A depth that is typed in haste is not passed over.
pub(super) fn warn_of_depth(context: &Context, depth: u32) {
    if (1..DEPTH).contains(&depth) {
        let blocks = format::counted(depth, "block");
        context.note(&format!(
            "With --depth {depth} a reorganisation of {blocks} can take the other's lock away when you have locked or paid \
             already: whoever makes one takes what is yours for nothing. {DEPTH} withstand six."
        ));
    }
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
    #[arg(long, value_name = "HOURS", default_value_t = 48, value_parser = value_parser!(u32).range(1..))]
    outer_hours: u32,
    /// Hours until the other's coins go back
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = value_parser!(u32).range(1..))]
    inner_hours: u32,
}

impl Quote {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        warn_of_depth(context, self.terms.depth);
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
                "{}\n\nNothing is locked yet. Send this offer to the other:\n{}\n\nThen: {}",
                super::for_people(context, &swap),
                hex::encode(&swap.offer),
                context.command("swap initiate ACCEPTANCE")
            )
        })
    }
}

/// Look at an offer and accept it: the participant's first step. Say what you believe the trade to be; any other is refused.
///
/// Nothing is locked by it. Your coins are, as soon as the initiator's lock is deep enough, unless you say --by-hand.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap accept 4f01… --give 10btc --get 1btc                       ten of this daemon's chain for one of the other\n  \
    leyden swap accept 4f01… --give 10btc --get 1btc --give-other          ten of the other chain for one of this\n  \
    leyden swap accept 6f01… --give 990000 --get 1000000 --lightning give  you pay over Lightning for coins\n  \
    leyden --network south swap accept 6f02… --give 9900000 --get 1000000 --lightning give --coins-on north\n  \
    \x20                                                                      likewise, for coins of north")]
pub(super) struct Accept {
    /// The offer, as the initiator has sent it
    offer: String,
    /// What you give
    #[arg(long)]
    give: Sat,
    /// What you get for it; with --coins-on, at least what your own rate says if not given (`leyden swap rate`)
    #[arg(long, required_unless_present = "coins_on", value_parser = positive)]
    get: Option<Sat>,
    /// Give coins of the other daemon's chain, and get this one's: the offer must say the same
    #[arg(long)]
    give_other: bool,
    /// For at most how many hours your coins may be locked; an offer that asks for more is refused
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = value_parser!(u32).range(1..))]
    inner_hours: u32,
    /// Of a submarine swap: whether what you give, or what you get, is the Lightning payment
    #[arg(long, value_enum, value_name = "SIDE")]
    lightning: Option<Side>,
    /// Of a submarine swap: the network that the coins are on, if it is the other one; the payment is on the one that the command is
    /// for
    #[arg(long, value_name = "NETWORK", requires = "lightning")]
    coins_on: Option<String>,
    /// The most that the route of your Lightning payment may cost, in satoshi, at least 1; half a percent of it if not given
    #[arg(long, value_name = "SAT", value_parser = positive)]
    max_route_fee: Option<Sat>,
    #[command(flatten)]
    terms: Terms,
}

impl Accept {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        warn_of_depth(context, self.terms.depth);
        let client = context.client().await?;
        let offer = super::bytes("an offer", &self.offer)?;
        if submarine::Offer::is_one(&offer) {
            let swap = client.swap().accept_submarine(self.submarine(offer)?).await?.into_inner();
            return context.show(&swap, || accepted_submarine(context, &swap));
        }
        if self.lightning.is_some() {
            return Err(CliError::Usage("this is an offer of coins for coins: leave out --lightning".to_owned()));
        }
        let request = SwapAcceptRequest {
            offer,
            give: self.give.0,
            get: self.get.map_or(0, |get| get.0),
            give_other: self.give_other,
            by_hand: self.terms.by_hand,
            depth: self.terms.depth,
            max_lock_fee: self.terms.max_lock_fee.0,
            inner_hours: self.inner_hours,
        };
        let swap = client.swap().accept(request).await?.into_inner();
        context.show(&swap, || {
            let next = if swap.by_hand {
                let id: String = hex::encode(&swap.id).chars().take(8).collect();
                let command = context.command(&format!("swap participate {id}"));
                format!("Then: {command} has your coins locked, as soon as the other's lock is deep")
            } else {
                "Your coins are locked as soon as the other's lock is deep".to_owned()
            };
            format!(
                "{}\n\nNothing is locked yet. Send this acceptance back:\n{}\n\n{next}.",
                super::for_people(context, &swap),
                hex::encode(&swap.acceptance)
            )
        })
    }
}

impl Accept {
    fn submarine(&self, offer: Vec<u8>) -> Result<SubmarineAcceptRequest, CliError> {
        let Some(side) = self.lightning else {
            let text = "this is an offer of coins for a Lightning payment: say with --lightning give, or --lightning get, which \
                        of the two you believe to be the payment";
            return Err(CliError::Usage(text.to_owned()));
        };
        if self.terms.by_hand {
            return Err(CliError::Usage("a submarine swap goes on by itself: leave out --by-hand".to_owned()));
        }
        let get = self.get.map_or(0, |get| get.0);
        let (coins, payment) = match side {
            Side::Give => (get, self.give.0),
            Side::Get => (self.give.0, get),
        };
        Ok(SubmarineAcceptRequest {
            offer,
            pays: side == Side::Give,
            coins,
            payment,
            depth: self.terms.depth,
            max_lock_fee: self.terms.max_lock_fee.0,
            max_route_fee: self.max_route_fee.map_or(0, |fee| fee.0),
            locked_hours: self.inner_hours,
            coins_on: self.coins_on.clone().unwrap_or_default(),
        })
    }
}

fn accepted_submarine(context: &Context, swap: &SwapInfo) -> String {
    let next = if swap.kind == "in" {
        "Your node pays as soon as the other's lock is deep"
    } else {
        "Your coins are locked as soon as the other's payment is held"
    };
    format!(
        "{}\n\nNothing is locked or paid yet. Send this acceptance back:\n{}\n\n{next}.",
        super::for_people(context, swap),
        hex::encode(&swap.acceptance)
    )
}

/// Lock your coins, or make your payment: the initiator's second step. They come back if the other does not go on.
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
        let is_submarine = submarine::Acceptance::is_one(&acceptance);
        let request = SwapInitiateRequest { acceptance };
        let swap = if is_submarine {
            client.swap().initiate_submarine(request).await?.into_inner()
        } else {
            client.swap().initiate(request).await?.into_inner()
        };
        context.show(&swap, || super::for_people(context, &swap))
    }
}
