//! `leyden swap`: coins of one chain for coins of another, or for a Lightning payment.

mod audit;
mod begin;
mod cross;
mod list;
mod rate;
mod show;
mod steps;
mod submarine;

use clap::{Args, Subcommand};
use leyden_proto::leyden::{ListSwapsRequest, SwapInfo, SwapLegInfo};

use super::{CliError, Context, amount, format, table};
use crate::client::Client;

/// Trade coins of this chain for coins of another one (atomic swap), or for a Lightning payment (submarine swap, loop in, loop
/// out), with somebody whom you need not trust.
///
/// In a submarine swap `in` fills a channel of yours with coins of the chain, and `out` empties it, without closing it; each of
/// you runs one daemon. With --coins-on the coins are on the other network, and the payment on the one that the command is for.
///
/// For coins of two chains each of you has a node on both: one daemon that holds both (--also), or two, the first of which is
/// started with --swap-with and the second one's data directory. The initiator makes a secret and locks coins that the other can take with it, or that come back after 48
/// hours; the other locks coins under the same secret, for 24 hours; the initiator takes those, which shows the secret,
/// and the other takes the first with it. Whoever disappears loses nothing, nor does the one who stays: coins go back.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "A trade, step by step:\n  \
    leyden swap quote --give 1btc --get 10btc          Alice: prints an offer; send it to Bob\n  \
    leyden swap accept OFFER --give 10btc --get 1btc --give-other\n  \
                                                       Bob, whose second network has the 10: prints an acceptance; send it back\n  \
    leyden swap initiate ACCEPTANCE                    Alice: locks; all the rest happens by itself\n  \
    leyden swap list                                   where it is\n\n\
    Coins for a Lightning payment, and back; the offer goes to the other, the acceptance back:\n  \
    leyden swap in --give 1000000 --get 990000         Alice: her coins for a payment to her\n  \
    leyden swap accept OFFER --give 990000 --get 1000000 --lightning give\n  \
    leyden swap out --give 1000000 --get 990000        Alice: her payment for coins to her\n  \
    leyden swap accept OFFER --give 990000 --get 1000000 --lightning get\n  \
    leyden swap initiate ACCEPTANCE                    Alice: all the rest happens by itself\n\n\
    With --by-hand at `quote` or `accept` nothing happens by itself:\n  \
    leyden swap participate ID                       Bob locks, once Alice's lock is deep enough\n  \
    leyden swap redeem ID                            Alice shows the secret; then Bob redeems with it\n  \
    leyden swap refund ID                            takes your own coins back after the expiry\n  \
    leyden swap show ID                              contracts, transactions and secret as hex\n  \
    leyden swap reclaim CONTRACT TXID:INDEX          takes coins of a swap that a lost disk knew\n  \
    leyden swap audit CONTRACT TRANSACTION           what a contract says, whoever made it\n  \
    leyden swap extractsecret TRANSACTION HASH       the secret in a redeem\n\n\
    A Lightning payment that crosses to the other network, without a block on either:\n  \
    leyden swap rate north/south 1/10                what you take for it; off until it is set\n  \
    leyden swap cross INVOICE                        an invoice here for one there\n  \
    leyden swap crossings                            what has become of them"
)]
pub struct Swap {
    #[command(subcommand)]
    command: SwapCommand,
}

#[derive(Debug, Subcommand)]
enum SwapCommand {
    Quote(begin::Quote),
    #[command(visible_alias = "loopin")]
    In(submarine::In),
    #[command(visible_alias = "loopout")]
    Out(submarine::Out),
    Accept(begin::Accept),
    Initiate(begin::Initiate),
    Participate(steps::Participate),
    Redeem(steps::Redeem),
    Refund(steps::Refund),
    Cancel(steps::Cancel),
    Reclaim(steps::Reclaim),
    Audit(audit::Audit),
    #[command(name = "extractsecret")]
    ExtractSecret(audit::ExtractSecret),
    Cross(cross::Cross),
    Crossings(cross::Crossings),
    Rate(rate::Rate),
    List(list::List),
    Show(show::Show),
    Watch(list::Watch),
}

impl Swap {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.command {
            SwapCommand::Quote(command) => command.run(context).await,
            SwapCommand::In(command) => command.run(context).await,
            SwapCommand::Out(command) => command.run(context).await,
            SwapCommand::Accept(command) => command.run(context).await,
            SwapCommand::Initiate(command) => command.run(context).await,
            SwapCommand::Participate(command) => command.run(context).await,
            SwapCommand::Redeem(command) => command.run(context).await,
            SwapCommand::Refund(command) => command.run(context).await,
            SwapCommand::Cancel(command) => command.run(context).await,
            SwapCommand::Reclaim(command) => command.run(context).await,
            SwapCommand::Audit(command) => command.run(context).await,
            SwapCommand::ExtractSecret(command) => command.run(context).await,
            SwapCommand::Cross(command) => command.run(context).await,
            SwapCommand::Crossings(command) => command.run(context).await,
            SwapCommand::Rate(command) => command.run(context).await,
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
    // Such as a variable of a script that was never set.
    if wanted.is_empty() {
        return Err(CliError::Usage("the beginning of a swap's id is needed: see `leyden swap list`".to_owned()));
    }
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
fn phase(context: &Context, swap: &SwapInfo) -> String {
    let next = |command: &str| format!("`{}`", context.command(&format!("swap {command}")));
    let by_hand = |text: &str, command: &str| {
        if swap.by_hand { format!("{text}: {}", next(command)) } else { text.to_owned() }
    };
    match swap.phase.as_str() {
        "quoted" => format!("waits for the acceptance: {}", next("initiate")),
        "accepted" if swap.kind == "out" => "waits for the other's payment to be held".to_owned(),
        "accepted" if swap.by_hand => {
            format!("waits for the other's lock to be deep; then locks if you have said {}", next("participate"))
        }
        "accepted" => "waits for the other's lock to be deep".to_owned(),
        "paying" if swap.kind == "out" => "pays; waits for the other's lock to be deep".to_owned(),
        "paying" => "pays; waits for the payment to arrive".to_owned(),
        "settled" => "done: the payment is yours".to_owned(),
        "locking" if swap.give.as_ref().is_none_or(|leg| leg.lock.is_empty()) => {
            format!("your coins are to be locked as soon as they can be; {} gives it up", next("cancel"))
        }
        "locking" => "your lock waits for a block".to_owned(),
        "locked" => "locked; waits for the other".to_owned(),
        "redeemable" => by_hand("the other's coins can be taken", "redeem"),
        "refundable" => by_hand("your coins can be taken back", "refund"),
        "redeeming" => "takes the other's coins".to_owned(),
        "refunding" => "takes your coins back".to_owned(),
        "swapped" if swap.get.as_ref().is_some_and(|leg| !leg.payment_state.is_empty()) => {
            "done: the payment is yours".to_owned()
        }
        "refunded" if swap.give.as_ref().is_some_and(|leg| !leg.payment_state.is_empty()) => {
            "the payment has failed: nothing was paid".to_owned()
        }
        "redeemed" | "swapped" => "done: the other's coins are yours".to_owned(),
        "refunded" => "your coins are back".to_owned(),
        "given_up" if swap.kind != "atomic" => "ended; nothing was locked or paid".to_owned(),
        "given_up" => "ended; nothing was locked".to_owned(),
        "lost" => "lost: the other has both".to_owned(),
        other => other.to_owned(),
    }
}

fn for_people(context: &Context, swap: &SwapInfo) -> String {
    let leg = |leg: &Option<SwapLegInfo>, side: Side| {
        let leg = leg.clone().unwrap_or_default();
        if leg.payment_state.is_empty() { contract(swap, &leg, side) } else { payment(&leg) }
    };
    let mut text = table::facts([
        ("id", hex::encode(&swap.id)),
        ("state", phase(context, swap)),
        ("you give", leg(&swap.give, Side::Give)),
        ("you get", leg(&swap.get, Side::Get)),
    ]);
    for warning in &swap.warnings {
        text.push_str(&format!("\nWarning: {warning}"));
    }
    text
}

/// Which half of a swap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Give,
    Get,
}

fn contract(swap: &SwapInfo, leg: &SwapLegInfo, side: Side) -> String {
    let what = format!("{} on {}", amount::sat(leg.amount), leg.network);
    if let Some(end) = end_of_contract(swap, leg, side) {
        return format!("{what}; {end}");
    }
    let lock = match (leg.lock.as_str(), leg.confirmations) {
        ("", _) => "not locked".to_owned(),
        (lock, 0) => format!("locked in {lock}, which waits for a block"),
        (lock, depth) => format!("locked in {lock}, {}", format::counted(depth, "confirmation")),
    };
    let depth = if side == Side::Get { format!(" (needs {})", swap.depth) } else { String::new() };
    let back = match leg.expiry_height {
        0 => format!("after {} UTC", format::time(i64::try_from(leg.expiry).unwrap_or(i64::MAX))),
        height => format!("above block {height}{}", about(leg)),
    };
    format!("{what}, back {back}; {lock}{depth}")
}

/// What has become of a contract of which nothing goes back, or can be waited for, any more.
fn end_of_contract(swap: &SwapInfo, leg: &SwapLegInfo, side: Side) -> Option<String> {
    let has_ended = matches!(swap.phase.as_str(), "swapped" | "refunded" | "given_up" | "lost");
    match (leg.spent_by.as_str(), leg.with_secret, side) {
        ("", _, _) if leg.lock.is_empty() => has_ended.then(|| "not locked".to_owned()),
        ("", _, Side::Give) if matches!(swap.phase.as_str(), "redeemed" | "swapped") => {
            Some(format!("the other's, locked in {}", leg.lock))
        }
        ("", _, Side::Give) if swap.phase == "refunded" && leg.confirmations == 0 => {
            Some(format!("called back before a block took {}", leg.lock))
        }
        ("", _, Side::Get) if has_ended => Some(format!("the other's, in {}", leg.lock)),
        ("", _, _) => None,
        (by, true, Side::Give) => Some(format!("taken by the other in {by}")),
        (by, false, Side::Give) => Some(format!("back in {by}")),
        (by, true, Side::Get) => Some(format!("taken in {by}")),
        (by, false, Side::Get) => Some(format!("back with the other in {by}")),
    }
}

fn payment(leg: &SwapLegInfo) -> String {
    let state = match leg.payment_state.as_str() {
        "unpaid" | "open" => "not paid yet".to_owned(),
        "in_flight" => "on its way".to_owned(),
        "held" => format!("held until block {}{}", leg.expiry_height, about(leg)),
        "paid" | "settled" => "paid".to_owned(),
        "failed" => "failed; nothing of it is on its way".to_owned(),
        "canceled" => "given back, or not taken any more".to_owned(),
        "taken_back" => "taken back when its channel was closed".to_owned(),
        other => other.to_owned(),
    };
    let route = match (leg.route_fee_msat, leg.max_route_fee) {
        (Some(fee), _) => format!(", and {} for the route", amount::msat(i64::try_from(fee).unwrap_or(i64::MAX))),
        (None, 0) => String::new(),
        (None, fee) => format!(", and at most {} for the route", amount::sat(fee)),
    };
    format!("{} over Lightning on {}{route}; {state}", amount::sat(leg.amount), leg.network)
}

/// Beside a height: blocks come when they are found.
fn about(leg: &SwapLegInfo) -> String {
    match leg.expiry_about {
        0 => String::new(),
        time => format!(" (about {} UTC)", format::time(i64::try_from(time).unwrap_or(i64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_height_is_told_with_about_when_that_is_and_a_paid_route_with_what_it_cost() {
        let swap = SwapInfo { phase: "quoted".to_owned(), ..Default::default() };
        let coins = SwapLegInfo { network: "north".to_owned(), amount: 5, expiry_height: 700, ..Default::default() };
        assert!(contract(&swap, &coins, Side::Give).contains("back above block 700; not locked"));
        let timed = SwapLegInfo { expiry_about: 1_700_000_000, ..coins };
        let told = contract(&swap, &timed, Side::Give);
        assert!(told.contains("above block 700 (about 2023-11-1") && told.contains("UTC); not locked"), "{told}");

        let paid = SwapLegInfo { payment_state: "paid".to_owned(), max_route_fee: 9, ..timed };
        assert!(payment(&paid).contains("at most 9 sat for the route"));
        let cost = |fee| payment(&SwapLegInfo { route_fee_msat: Some(fee), ..paid.clone() });
        assert!(cost(7_500).contains("and 7.500 sat for the route"), "{}", cost(7_500));
        assert!(cost(0).contains("and 0 sat for the route"), "{}", cost(0));
    }

    #[test]
    fn of_coins_that_were_taken_or_are_back_nobody_reads_that_they_are_locked() {
        let at = |phase: &str, leg: &SwapLegInfo, side| {
            let swap = SwapInfo { phase: phase.to_owned(), depth: 7, ..Default::default() };
            contract(&swap, leg, side)
        };
        let (lock, expiry) = ("ab:1".to_owned(), 1_700_000_000);
        let leg = SwapLegInfo {
            network: "north".to_owned(),
            amount: 5,
            expiry,
            lock,
            confirmations: 3,
            ..Default::default()
        };
        let told = at("locked", &leg, Side::Get);
        assert!(
            told.contains("back after 2023-11-14 22:13:20 UTC; locked in ab:1, 3 confirmations (needs 7)"),
            "{told}"
        );
        assert_eq!(at("redeemed", &leg, Side::Give), "5 sat on north; the other's, locked in ab:1");
        let spent = |with_secret| SwapLegInfo { spent_by: "cd".to_owned(), with_secret, ..leg.clone() };
        assert_eq!(at("swapped", &spent(true), Side::Give), "5 sat on north; taken by the other in cd");
        assert_eq!(at("swapped", &spent(true), Side::Get), "5 sat on north; taken in cd");
        assert_eq!(at("refunded", &spent(false), Side::Give), "5 sat on north; back in cd");
        assert_eq!(at("refunded", &spent(false), Side::Get), "5 sat on north; back with the other in cd");
        let called_back = SwapLegInfo { confirmations: 0, ..leg.clone() };
        assert_eq!(at("refunded", &called_back, Side::Give), "5 sat on north; called back before a block took ab:1");
        let never = SwapLegInfo { lock: String::new(), confirmations: 0, ..leg };
        assert_eq!(at("given_up", &never, Side::Get), "5 sat on north; not locked");
    }

    #[test]
    fn what_comes_next_is_said_to_the_network_that_has_the_swap() {
        let on = |network: Option<&str>| {
            let network = network.map(str::to_owned);
            Context::new(crate::cli::Global { network, ..Default::default() })
        };
        let swap = SwapInfo { phase: "quoted".to_owned(), ..Default::default() };
        assert_eq!(phase(&on(None), &swap), "waits for the acceptance: `leyden swap initiate`");
        assert_eq!(
            phase(&on(Some("south")), &swap),
            "waits for the acceptance: `leyden --network south swap initiate`"
        );
        // A lock that the wallet could not make does not wait for a block.
        let mut swap =
            SwapInfo { phase: "locking".to_owned(), give: Some(SwapLegInfo::default()), ..Default::default() };
        assert!(phase(&on(None), &swap).contains("to be locked as soon as they can be; `leyden swap cancel`"));
        swap.give = Some(SwapLegInfo { lock: "ab:1".to_owned(), ..Default::default() });
        assert_eq!(phase(&on(None), &swap), "your lock waits for a block");
        // Whether it was ordered already is not told: both are true.
        let swap = SwapInfo { phase: "accepted".to_owned(), by_hand: true, ..Default::default() };
        assert!(phase(&on(None), &swap).ends_with("then locks if you have said `leyden swap participate`"));
    }
}
