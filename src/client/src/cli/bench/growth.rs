//! `leyden bench growth`: what a long life costs. The same commands, and the start, on nodes with one, ten and a hundred
//! times as much behind them.
//!
//! ```text
//!   for 1×, 10×, 100×:  coins ── mined          invoices ── made           payments, forwards, closed channels ── written
//!                       ─► start ─► each command, and getinfo beside each of them ─► exponent between 10× and 100×
//! ```
//!
//! Linear is an exponent of 1, of the processor time that the daemon needs where the system tells it: what else runs on the
//! machine does not count. What takes a few milliseconds at 100× has no exponent that means anything.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use leyden_proto::{
    leyden::GenerateRequest,
    lnrpc::{
        ChannelGraphRequest, ClosedChannelsRequest, FeeReportRequest, ForwardingHistoryRequest, GetInfoRequest,
        GetTransactionsRequest, Invoice, ListInvoiceRequest, ListPaymentsRequest, ListUnspentRequest,
        PendingChannelsRequest, SendCoinsRequest, WalletBalanceRequest,
    },
};
use serde_json::json;
use tokio::task::JoinSet;

use super::super::{CliError, Context, table};
use crate::{
    client::Client,
    cluster::{DaemonProcess, leydend_program},
    demo::NOBODY,
};

/// How much more each node has behind it than the one before.
const STEPS: [u32; 3] = [1, 10, 100];
/// Below this nothing is said about how a time grows.
const MEASURABLE: Duration = Duration::from_millis(20);
/// Above linear, with what noise there is.
const TOO_STEEP: f64 = 1.25;
/// For how long `getinfo` may be held up.
const MOST_HELD: Duration = Duration::from_secs(1);
/// Calls at once while invoices are made.
const AT_ONCE: u32 = 64;
/// Blocks on top of those that a coin of them needs to be spent.
pub(super) const RIPENING: u32 = 100;

/// Measure how the time of commands and of the start grows with a node's history.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bench growth\n  \
    leyden bench growth --base 10      a quick look")]
pub(super) struct Growth {
    /// Coins, invoices, payments, forwards and closed channels of the first node; the others have 10 and 100 times as many
    // A coin is a block. More of them, found at once, would have times too far ahead of the clock: one second each six.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=400))]
    base: u32,
}

/// What one node took.
struct Measured {
    start: Time,
    calls: Vec<(&'static str, Time)>,
    /// The longest `getinfo` while all of them were made.
    held: Duration,
}

/// What passed on the clock, and the processor time of the daemon: the same where the system does not tell.
#[derive(Clone, Copy)]
struct Time {
    clock: Duration,
    processor: Duration,
}

impl Time {
    const NONE: Self = Self::on_clock(Duration::ZERO);

    const fn on_clock(clock: Duration) -> Self {
        Self { clock, processor: clock }
    }

    /// Of what has begun then, with so much processor time used before.
    fn since(begun: Instant, before: Option<Duration>, daemon: u32) -> Self {
        let clock = begun.elapsed();
        let used = before.and_then(|before| processor_time(daemon)?.checked_sub(before));
        Self { clock, processor: used.unwrap_or(clock) }
    }

    fn best(self, other: Self) -> Self {
        Self { clock: self.clock.min(other.clock), processor: self.processor.min(other.processor) }
    }
}

/// Of all threads of a process that live, as Linux tells it.
fn processor_time(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let spent = |thread: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    Some(Duration::from_nanos(threads.filter_map(spent).sum()))
}

impl Growth {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let mut measured = Vec::new();
        for step in STEPS {
            let count = self.base.saturating_mul(step);
            context.note(&format!("a node with {count} of everything"));
            measured.push(measure(count).await?);
        }
        let [one, ten, hundred] = measured.as_slice() else { return Ok(()) };
        let times = |of: &dyn Fn(&Measured) -> Time| [of(one), of(ten), of(hundred)];
        let held = times(&|node| Time::on_clock(node.held));
        let mut rows = vec![("start", times(&|node| node.start)), ("getinfo beside them", held)];
        for (at, (name, _)) in one.calls.iter().enumerate() {
            rows.push((name, times(&|node| node.calls.get(at).map_or(Time::NONE, |(_, time)| *time))));
        }
        let value: Vec<_> = rows
            .iter()
            .map(|(name, times)| {
                json!({
                    "what": name,
                    "seconds": times.map(|time| time.clock.as_secs_f64()),
                    "processor_seconds": times.map(|time| time.processor.as_secs_f64()),
                    "exponent": exponent(times),
                })
            })
            .collect();
        context.show_value(&json!(value), || {
            let cells = rows.iter().map(|(name, times)| {
                let milliseconds = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
                let [a, b, c] = times.map(|time| milliseconds(time.processor));
                let clock = milliseconds(times[2].clock);
                [
                    (*name).to_owned(),
                    a,
                    b,
                    c,
                    clock,
                    exponent(times).map_or("-".to_owned(), |steep| format!("{steep:.2}")),
                ]
            });
            let (first, last) = (self.base, self.base.saturating_mul(100));
            let headings = ["", ">1x ms", ">10x ms", ">100x ms", ">on the clock", ">exponent"];
            format!(
                "{}\n\nprocessor time, from {first} to {last} of everything",
                table::list(headings, cells.collect(), "")
            )
        })?;
        let steep = rows.iter().filter(|(_, times)| exponent(times).is_some_and(|steep| steep > TOO_STEEP));
        let names: Vec<&str> = steep.map(|(name, _)| *name).collect();
        if !names.is_empty() {
            return Err(CliError::Failed(format!("this grows faster than what it is about: {}", names.join(", "))));
        }
        if hundred.held > MOST_HELD {
            return Err(CliError::Failed(format!("getinfo was held up for {:.1} s", hundred.held.as_secs_f64())));
        }
        Ok(())
    }
}

/// Between the second and the third node, if there is anything to see.
fn exponent([_, ten, hundred]: &[Time; 3]) -> Option<f64> {
    let (ten, hundred) = (ten.processor, hundred.processor);
    (hundred >= MEASURABLE).then(|| (hundred.as_secs_f64() / ten.as_secs_f64().max(1e-6)).log10())
}

pub(super) fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

async fn measure(count: u32) -> Result<Measured, CliError> {
    let folder = tempfile::Builder::new()
        .prefix("leyden-bench-")
        .tempdir()
        .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
    let mut node = DaemonProcess::new(folder.path(), "old", &["--log", "warn"]).map_err(failed)?;
    node.start().await.map_err(failed)?;
    let client = node.client().map_err(failed)?;
    generate(client, count, "").await?;
    generate(client, RIPENING, NOBODY).await?;
    make_invoices(client, count).await?;
    // It ends as a service manager would end it.
    if node.terminate().is_none_or(|status| !status.success()) {
        return Err(CliError::Failed(format!("a node did not end well: {}", node.log())));
    }
    write_past(node.data_dir(), count)?;
    let begun = Instant::now();
    node.start().await.map_err(failed)?;
    let pid = node.pid().unwrap_or_default();
    let start = Time::since(begun, Some(Duration::ZERO), pid);
    let client = node.client().map_err(failed)?;
    let calls = call_all(client, pid).await?;
    // Once more, with somebody who looks on.
    let over = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn(longest_getinfo(client.clone(), Arc::clone(&over)));
    let again = call_all(client, pid).await;
    over.store(true, Ordering::Relaxed);
    let held = watcher.await.map_err(failed)??;
    again?;
    Ok(Measured { start, calls, held })
}

pub(super) async fn generate(client: &Client, blocks: u32, address: &str) -> Result<(), CliError> {
    let request = GenerateRequest { blocks, address: address.to_owned() };
    let mut found = client.chain().generate(request).await?.into_inner();
    while found.message().await?.is_some() {}
    Ok(())
}

pub(super) async fn make_invoices(client: &Client, count: u32) -> Result<(), CliError> {
    let mut tasks = JoinSet::new();
    for share in 0..AT_ONCE {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in (share..count).step_by(AT_ONCE as usize) {
                let invoice = Invoice { value: 1_000, memo: "one of many".to_owned(), ..Invoice::default() };
                client.lightning().add_invoice(invoice).await?;
            }
            Ok::<_, CliError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(failed)??;
    }
    Ok(())
}

/// Payments, forwards and closed channels. The daemon's program writes them, for it has the database.
fn write_past(data_dir: &Path, count: u32) -> Result<(), CliError> {
    let mut daemon = Command::new(leydend_program().map_err(failed)?);
    daemon.args(["bench", "past", "--count", &count.to_string(), "--data-dir"]).arg(data_dir);
    let output = daemon.output().map_err(failed)?;
    if output.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&output.stderr).trim())) }
}

async fn longest_getinfo(client: Client, over: Arc<AtomicBool>) -> Result<Duration, CliError> {
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.lightning().get_info(GetInfoRequest {}).await?;
        longest = longest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(longest)
}

/// The best of several times, each call for everything that there is.
async fn call_all(client: &Client, pid: u32) -> Result<Vec<(&'static str, Time)>, CliError> {
    const TIMES: usize = 5;
    let mut all = Vec::new();
    macro_rules! time {
        ($name:literal, $call:expr) => {
            let mut best = None::<Time>;
            for _ in 0..TIMES {
                let (begun, before) = (Instant::now(), processor_time(pid));
                $call.await?;
                let time = Time::since(begun, before, pid);
                best = Some(best.map_or(time, |best| best.best(time)));
            }
            all.push(($name, best.unwrap_or(Time::NONE)));
        };
    }
    let lightning = || client.lightning();
    time!("getinfo", lightning().get_info(GetInfoRequest {}));
    time!("walletbalance", lightning().wallet_balance(WalletBalanceRequest::default()));
    let coins = || ListUnspentRequest { min_confs: 0, max_confs: i32::MAX, ..Default::default() };
    time!("listunspent", lightning().list_unspent(coins()));
    time!("listchaintxns", lightning().get_transactions(GetTransactionsRequest::default()));
    let send =
        || SendCoinsRequest { addr: NOBODY.to_owned(), amount: 1_000_000, sat_per_vbyte: 2, ..Default::default() };
    time!("sendcoins", lightning().send_coins(send()));
    let invoices = || ListInvoiceRequest { num_max_invoices: u64::MAX, ..Default::default() };
    time!("listinvoices", lightning().list_invoices(invoices()));
    let payments = || ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
    time!("listpayments", lightning().list_payments(payments()));
    let forwards = || ForwardingHistoryRequest { num_max_events: 50_000, start_time: 1, ..Default::default() };
    time!("fwdinghistory", lightning().forwarding_history(forwards()));
    time!("feereport", lightning().fee_report(FeeReportRequest {}));
    time!("closedchannels", lightning().closed_channels(ClosedChannelsRequest::default()));
    time!("pendingchannels", lightning().pending_channels(PendingChannelsRequest::default()));
    time!("graph describe", lightning().describe_graph(ChannelGraphRequest::default()));
    let invoice = || Invoice { value: 1, ..Invoice::default() };
    time!("addinvoice", lightning().add_invoice(invoice()));
    time!("chain generate 1", generate(client, 1, NOBODY));
    Ok(all)
}
