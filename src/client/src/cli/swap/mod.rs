//! `leyden swap`: coins of one chain for coins of another.

mod audit;
mod begin;
mod list;
mod show;
mod steps;

use clap::{Args, Subcommand};
use leyden_proto::leyden::{ListSwapsRequest, SwapInfo};

use super::{CliError, Context, amount, format, table};
use crate::client::Client;

/// Trade coins of this chain for coins of another one, with somebody whom you need not trust.
///
/// Each of you runs two daemons, one on each chain, and the first is started with --swap-with and the second one's data
/// directory. The initiator makes a secret and locks coins that the other can take with it, or that come back after 48
/// hours; the other locks coins under the same secret, for 24 hours; the initiator takes those, which shows the secret,
/// and the other takes the first with it. Whoever disappears loses nothing, nor does the one who stays: coins go back.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "A trade, step by step:\n  \
    leyden swap quote --give 1btc --get 10btc          Alice: prints an offer; send it to Bob\n  \
    leyden swap accept OFFER --give 10btc --get 1btc   Bob: checks it, and prints an acceptance; send it back\n  \
    leyden swap initiate ACCEPTANCE                    Alice: locks; all the rest happens by itself\n  \
    leyden swap list                                   where it is\n\n\
    With --by-hand at `quote` or `accept` nothing happens by itself:\n  \
    leyden swap participate ID                       Bob locks, once Alice's lock is deep enough\n  \
    leyden swap redeem ID                            Alice shows the secret; then Bob redeems with it\n  \
    leyden swap refund ID                            takes your own coins back after the expiry\n  \
    leyden swap show ID                              contracts, transactions and secret as hex\n  \
    leyden swap audit CONTRACT TRANSACTION           what a contract says, whoever made it\n  \
    leyden swap extractsecret TRANSACTION HASH       the secret in a redeem"
)]
pub struct Swap {
    #[command(subcommand)]
    command: SwapCommand,
}

#[derive(Debug, Subcommand)]
enum SwapCommand {
    Quote(begin::Quote),
    Accept(begin::Accept),
    Initiate(begin::Initiate),
    Participate(steps::Participate),
    Redeem(steps::Redeem),
    Refund(steps::Refund),
    Cancel(steps::Cancel),
    Audit(audit::Audit),
    #[command(name = "extractsecret")]
    ExtractSecret(audit::ExtractSecret),
    List(list::List),
    Show(show::Show),
    Watch(list::Watch),
}

impl Swap {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.command {
            SwapCommand::Quote(command) => command.run(context).await,
            SwapCommand::Accept(command) => command.run(context).await,
            SwapCommand::Initiate(command) => command.run(context).await,
            SwapCommand::Participate(command) => command.run(context).await,
            SwapCommand::Redeem(command) => command.run(context).await,
            SwapCommand::Refund(command) => command.run(context).await,
            SwapCommand::Cancel(command) => command.run(context).await,
            SwapCommand::Audit(command) => command.run(context).await,
            SwapCommand::ExtractSecret(command) => command.run(context).await,
            SwapCommand::List(command) => command.run(context).await,
            SwapCommand::Show(command) => command.run(context).await,
            SwapCommand::Watch(command) => command.run(context).await,
        }
    }
}

/// Bytes as people paste them, with line breaks from a mail.
fn bytes(what: &str, text: &str) -> Result<Vec<u8>, CliError> {
    let digits: String = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    hex::decode(digits).map_err(|_| CliError::Usage(format!("{what} is hex: an even number of digits 0-9 and a-f")))
}

/// The swap whose id begins so.
async fn find(client: &Client, wanted: &str) -> Result<Vec<u8>, CliError> {
    let swaps = client.swap().list(ListSwapsRequest {}).await?.into_inner().swaps;
    let wanted = wanted.to_lowercase();
    let mut found = swaps.into_iter().map(|swap| swap.id).filter(|id| hex::encode(id).starts_with(&wanted));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(CliError::Usage(format!("no swap's id begins with \"{wanted}\": see `leyden swap list`"))),
        (Some(_), Some(_)) => {
            Err(CliError::Usage(format!("several swaps' ids begin with \"{wanted}\": give more of it")))
        }
    }
}

/// What a phase means, and what to do in it.
fn phase(swap: &SwapInfo) -> String {
    let by_hand = |text: &str, command: &str| {
        if swap.by_hand { format!("{text}: `leyden swap {command}`") } else { text.to_owned() }
    };
    match swap.phase.as_str() {
        "quoted" => "waits for the acceptance: `leyden swap initiate`".to_owned(),
        "accepted" => by_hand("waits for the other's lock to be deep", "participate"),
        "locking" => "your lock waits for a block".to_owned(),
        "locked" => "locked; waits for the other".to_owned(),
        "redeemable" => by_hand("the other's coins can be taken", "redeem"),
        "redeeming" => "takes the other's coins".to_owned(),
        "redeemed" | "swapped" => "done: the other's coins are yours".to_owned(),
        "refunding" => "takes your coins back".to_owned(),
        "refunded" => "your coins are back".to_owned(),
        "given_up" => "ended; nothing was locked".to_owned(),
        "lost" => "lost: the other has both".to_owned(),
        other => other.to_owned(),
    }
}

fn for_people(swap: &SwapInfo) -> String {
    let leg = |leg: &Option<leyden_proto::leyden::SwapLegInfo>, depth: Option<u32>| {
        let leg = leg.clone().unwrap_or_default();
        let lock = match (leg.lock.as_str(), leg.confirmations) {
            ("", _) => "not locked".to_owned(),
            (lock, 0) => format!("locked in {lock}, which waits for a block"),
            (lock, depth) => format!("locked in {lock}, {}", format::counted(depth, "confirmation")),
        };
        let depth = depth.map(|depth| format!(" (needs {depth})")).unwrap_or_default();
        let back = format::time(i64::try_from(leg.expiry).unwrap_or(i64::MAX));
        format!("{} on {}, back after {back}; {lock}{depth}", amount::sat(leg.amount), leg.network)
    };
    table::facts([
        ("id", hex::encode(&swap.id)),
        ("state", phase(swap)),
        ("you give", leg(&swap.give, None)),
        ("you get", leg(&swap.get, Some(swap.depth))),
    ])
}
