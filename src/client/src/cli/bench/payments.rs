//! `leyden bench payments`: payments per second between real daemons with durable storage.
//!
//! Invoices are made first and measured apart; the payments are then made over gRPC as any client would make them, so
//! many at a time. At the end every payment must have succeeded and both balances must be right to the satoshi.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use leyden_proto::{
    leyden::{ListCoverageRequest, ListTowersRequest},
    lnrpc::payment::PaymentStatus,
    routerrpc::SendPaymentRequest,
    watchtowerrpc::GetInfoRequest,
    wtclientrpc::AddTowerRequest,
};
use serde_json::json;
use tokio::task::JoinSet;

use super::super::{CliError, Context, table};
use super::work::{Share, Work};
use crate::{
    client::{Access, Client},
    cluster::{ClusterError, DaemonProcess, PATIENCE, wait_until},
    demo::NOBODY,
};

/// The most that a channel of the benchmark holds: one block's reward pays for it.
const CAPACITY: i64 = 1_000_000_000;

/// Pay invoices between real daemons (with fsync), and count the payments per second.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bench payments --nodes 2 --count 10000 --concurrency 100\n  \
    leyden bench payments --nodes 4 --count 2000 --concurrency 200      over two nodes between\n  \
    leyden bench payments --towers 2                                    without watchtowers, then with two\n  \
    leyden bench payments --concurrency 1 --count 500 --count-work      what one payment alone costs\n  \
    leyden bench payments --count 50000 --restart                       how soon it serves again after kill -9")]
pub(super) struct Payments {
    /// Daemons in a chain; payments go from the first to the last
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: u8,
    /// Payments in all
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Payments at a time
    #[arg(long, default_value_t = 100)]
    concurrency: usize,
    /// Satoshi that each payment carries
    #[arg(long, default_value_t = 1_000)]
    amount: i64,
    /// Watchtowers that guard every daemon: all is measured without them first, and then with them
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    towers: u8,
    /// Count what a payment costs: curve operations, messages, synced writes; beside what the protocol needs of one alone
    #[arg(long)]
    count_work: bool,
    /// Kill each daemon at the end, and measure how long it takes to serve again with all those payments behind it
    #[arg(long)]
    restart: bool,
}

/// One round of payments.
struct Measured {
    latencies: Vec<Duration>,
    payment_time: Duration,
    invoice_time: Duration,
    /// Processor seconds of all daemons.
    cpu: f64,
    /// What each payment took of the daemons, if that is counted.
    work: Vec<Share>,
}

impl Payments {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let failed = |error: ClusterError| CliError::Failed(error.to_string());
        let rounds = if self.towers > 0 { 2 } else { 1 };
        let total = i64::try_from(self.count).ok().and_then(|count| count.checked_mul(self.amount * rounds));
        if self.amount < 1 || self.concurrency < 1 || total.is_none_or(|total| total > CAPACITY * 9 / 10) {
            return Err(CliError::Usage(format!(
                "amount and concurrency must be at least 1, and all payments together at most {} sat",
                CAPACITY * 9 / 10
            )));
        }
        let folder = tempfile::Builder::new()
            .prefix("leyden-bench-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let mut nodes = Vec::new();
        for number in 1..=self.nodes {
            let name = match number {
                1 => "payer".to_owned(),
                number if number == self.nodes => "payee".to_owned(),
                number => format!("hop{}", number - 1),
            };
            nodes.push(DaemonProcess::new(folder.path(), &name, self.flags()).map_err(failed)?);
        }
        self.measure(context, nodes).await
    }

    const fn flags(&self) -> &'static [&'static str] {
        if self.count_work { &["--log", "warn", "--metrics", "127.0.0.1:0"] } else { &["--log", "warn"] }
    }

    async fn work(&self, nodes: &[DaemonProcess]) -> Result<Work, CliError> {
        if !self.count_work {
            return Ok(Work::default());
        }
        Work::of(nodes).await.map_err(|error| CliError::Failed(error.to_string()))
    }

    async fn measure(self, context: &Context, mut nodes: Vec<DaemonProcess>) -> Result<(), CliError> {
        let failed = |error: ClusterError| CliError::Failed(error.to_string());
        context.note(&format!("starting {} daemons and opening a channel from each to the next", self.nodes));
        prepare(&mut nodes).await.map_err(failed)?;
        let measured = self.round(context, &nodes).await?;
        let Some(towers) = self.start_towers(context, &nodes).await? else {
            let restarts = self.restarts(context, &mut nodes).await.map_err(failed)?;
            return self.show(context, &measured, None, &restarts);
        };
        let guarded = self.round(context, &nodes).await?;
        let begun = Instant::now();
        for node in &nodes {
            wait_until("the towers to hold what has been revoked since", || async {
                let channels = node.client()?.towers().list_coverage(ListCoverageRequest::default()).await;
                let channels = channels.map_err(|status| node.call_error(status))?.into_inner().channels;
                Ok(channels.iter().all(|channel| channel.towers.iter().all(|tower| tower.waiting == 0)))
            })
            .await
            .map_err(failed)?;
        }
        let lag = begun.elapsed();
        drop(towers);
        let restarts = self.restarts(context, &mut nodes).await.map_err(failed)?;
        self.show(context, &measured, Some((&guarded, lag)), &restarts)
    }

    /// How long each daemon takes from its start until it serves, if that is wanted: all were killed without notice.
    async fn restarts(
        &self,
        context: &Context,
        nodes: &mut [DaemonProcess],
    ) -> Result<Vec<(String, Duration)>, ClusterError> {
        if !self.restart {
            return Ok(Vec::new());
        }
        context.note("killing each daemon and starting it again");
        let mut restarts = Vec::new();
        for node in nodes {
            node.kill();
            let begun = Instant::now();
            node.start().await?;
            restarts.push((node.name().to_owned(), begun.elapsed()));
        }
        Ok(restarts)
    }

    /// Makes invoices, then pays them.
    async fn round(&self, context: &Context, nodes: &[DaemonProcess]) -> Result<Measured, CliError> {
        let failed = |error: ClusterError| CliError::Failed(error.to_string());
        let [payer, .., payee] = nodes else { return Err(CliError::Failed("there are no daemons".to_owned())) };
        let before = payee.only_channel().await.map_err(failed)?.local_balance;

        context.note(&format!("making {} invoices", self.count));
        let begun = Instant::now();
        let mut invoices = self.make_invoices(payee).await?;
        let invoice_time = begun.elapsed();

        if let Some(first) = invoices.pop() {
            self.wait_for_way(payer, first).await?;
        }
        context.note(&format!("paying them, {} at a time", self.concurrency));
        let work_before = self.work(nodes).await?;
        let cpu_before: f64 = nodes.iter().map(cpu_seconds).sum();
        let begun = Instant::now();
        let mut latencies = self.pay_all(payer, invoices).await?;
        let payment_time = begun.elapsed();
        let cpu = nodes.iter().map(cpu_seconds).sum::<f64>() - cpu_before;

        // One more than was measured: the first, which waited for the route.
        let paid = i64::try_from(latencies.len() + 1).unwrap_or(i64::MAX).saturating_mul(self.amount);
        wait_until("the payee's balance to be what was paid", || async {
            Ok(payee.only_channel().await?.local_balance == before + paid)
        })
        .await
        .map_err(failed)?;
        latencies.sort_unstable();
        let work = if self.count_work {
            self.work(nodes).await?.since(&work_before, latencies.len(), u32::from(self.nodes) - 1)
        } else {
            Vec::new()
        };
        Ok(Measured { latencies, payment_time, invoice_time, cpu, work })
    }

    /// Starts towers on the same chain, and has them guard every daemon; `None` if none are wanted.
    async fn start_towers(
        &self,
        context: &Context,
        nodes: &[DaemonProcess],
    ) -> Result<Option<TowersOfBench>, CliError> {
        let failed = |error: ClusterError| CliError::Failed(error.to_string());
        let [first, ..] = nodes else { return Ok(None) };
        if self.towers == 0 {
            return Ok(None);
        }
        context.note(&format!("starting {} watchtowers, which guard every daemon", self.towers));
        let folder = tempfile::Builder::new()
            .prefix("leyden-bench-towers-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let hub = first.chain_address().map_err(failed)?;
        let mut towers = Vec::new();
        for number in 1..=self.towers {
            let flags = ["--log", "warn", "--tower", "--tower-listen", "127.0.0.1:0", "--chain-connect", &hub];
            let mut tower = DaemonProcess::new(folder.path(), &format!("tower{number}"), &flags).map_err(failed)?;
            tower.start().await.map_err(failed)?;
            let info = tower.client().map_err(failed)?.watchtower().get_info(GetInfoRequest {}).await?.into_inner();
            let address = info.listeners.first().cloned().unwrap_or_default();
            for node in nodes {
                let request = AddTowerRequest { pubkey: info.pubkey.clone(), address: address.clone() };
                node.client().map_err(failed)?.watchtower_client().add_tower(request).await?;
            }
            towers.push(tower);
        }
        for node in nodes {
            wait_until("the towers to be connected", || async {
                let towers = node.client()?.towers().list_towers(ListTowersRequest {}).await;
                let towers = towers.map_err(|status| node.call_error(status))?.into_inner().towers;
                Ok(towers.iter().all(|tower| tower.connected))
            })
            .await
            .map_err(failed)?;
        }
        Ok(Some(TowersOfBench { _towers: towers, _folder: folder }))
    }

    fn show(
        &self,
        context: &Context,
        measured: &Measured,
        guarded: Option<(&Measured, Duration)>,
        restarts: &[(String, Duration)],
    ) -> Result<(), CliError> {
        let latencies = &measured.latencies;
        let failures = self.count - latencies.len() + guarded.map_or(0, |(one, _)| self.count - one.latencies.len());
        let rate = measured.rate();
        let invoice_rate = self.count as f64 / measured.invoice_time.as_secs_f64();
        let (p50, p99) = (percentile(latencies, 50), percentile(latencies, 99));
        let per_payment = measured.cpu / self.count as f64;
        let mut value = json!({
            "nodes": self.nodes,
            "payments": latencies.len(),
            "failures": failures,
            "amount_sat": self.amount,
            "concurrency": self.concurrency,
            "payments_per_second": rate,
            "latency_p50_ms": p50.as_secs_f64() * 1e3,
            "latency_p99_ms": p99.as_secs_f64() * 1e3,
            "invoices_per_second": invoice_rate,
            "daemons_cpu_seconds_per_payment": per_payment,
        });
        let mut facts = vec![
            ("daemons in a chain", self.nodes.to_string()),
            ("payments", format!("{} of {} sat, {} at a time", latencies.len(), self.amount, self.concurrency)),
            ("failed", failures.to_string()),
            ("payments per second", format!("{rate:.0}")),
            ("latency", format!("p50 {:.1} ms, p99 {:.1} ms", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3)),
            ("invoices made per second", format!("{invoice_rate:.0} (before, not part of the above)")),
            ("processor time a payment", format!("{:.2} ms on all daemons together", per_payment * 1e3)),
            ("payee's balance", "right to the satoshi".to_owned()),
        ];
        if let Some((guarded, lag)) = guarded {
            let (with, share) = (guarded.rate(), guarded.rate() / rate * 100.0);
            let p99 = percentile(&guarded.latencies, 99);
            if let Some(value) = value.as_object_mut() {
                value.insert("towers".to_owned(), json!(self.towers));
                value.insert("payments_per_second_with_towers".to_owned(), json!(with));
                value.insert("latency_p99_ms_with_towers".to_owned(), json!(p99.as_secs_f64() * 1e3));
                value.insert("seconds_until_all_is_covered".to_owned(), json!(lag.as_secs_f64()));
            }
            facts.extend([
                (
                    "with watchtowers",
                    format!("{with:.0} payments per second, {share:.0} % ({} towers a daemon)", self.towers),
                ),
                ("all covered", format!("{:.1} s after the last payment", lag.as_secs_f64())),
            ]);
        }
        if !restarts.is_empty() {
            let seconds = |time: &Duration| time.as_secs_f64();
            let each = restarts.iter().map(|(name, time)| format!("{name} {:.3} s", seconds(time)));
            let each: Vec<_> = each.collect();
            facts.push(("serves again after kill -9", each.join(", ")));
            if let Some(value) = value.as_object_mut() {
                let of = |(name, time): &(String, Duration)| json!({ "name": name, "seconds": seconds(time) });
                value.insert("restarts".to_owned(), restarts.iter().map(of).collect());
            }
        }
        if let (false, Some(value)) = (measured.work.is_empty(), value.as_object_mut()) {
            let of = |share: &Share| json!({ "name": share.name, "each": share.each, "needed_alone": share.needed });
            value.insert("work_per_payment".to_owned(), measured.work.iter().map(of).collect());
        }
        context.show_value(&value, || {
            let work = measured.work.iter().map(|Share { name, each, needed }| {
                [(*name).to_owned(), format!("{each:.2}"), needed.map(|needed| needed.to_string()).unwrap_or_default()]
            });
            let work: Vec<_> = work.collect();
            let facts = table::facts(facts);
            if work.is_empty() {
                return facts;
            }
            let work = table::list(["work of all daemons", "a payment", "needed by one alone"], work, "");
            format!("{facts}\n{work}")
        })?;
        if failures > 0 {
            return Err(CliError::Failed(format!("{failures} payments failed")));
        }
        Ok(())
    }

    /// Pays one invoice, again and again until gossip has told the payer of the route.
    async fn wait_for_way(&self, payer: &DaemonProcess, payment_request: String) -> Result<(), CliError> {
        let mut router = payer.client().map_err(|error| CliError::Failed(error.to_string()))?.router();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut updates = router.send_payment_v2(self.request(payment_request.clone())).await?.into_inner();
            let mut status = PaymentStatus::Failed;
            while let Some(update) = updates.message().await? {
                status = update.status();
            }
            if status == PaymentStatus::Succeeded {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Err(CliError::Failed("the payer has found no route to the payee".to_owned()))
    }

    fn request(&self, payment_request: String) -> SendPaymentRequest {
        SendPaymentRequest {
            payment_request,
            timeout_seconds: 60,
            // The nodes between charge one satoshi and a millionth each.
            fee_limit_sat: i64::from(self.nodes) * (2 + self.amount / 100_000),
            no_inflight_updates: true,
            ..SendPaymentRequest::default()
        }
    }

    async fn make_invoices(&self, payee: &DaemonProcess) -> Result<Vec<String>, CliError> {
        let client = payee.client().map_err(|error| CliError::Failed(error.to_string()))?;
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..self.concurrency {
            let (next, mut lightning) = (Arc::clone(&next), client.lightning());
            let (count, value) = (self.count, self.amount);
            workers.spawn(async move {
                let mut made = Vec::new();
                // One more than is measured.
                while next.fetch_add(1, Ordering::Relaxed) < count + 1 {
                    let request = leyden_proto::lnrpc::Invoice {
                        value,
                        expiry: 86_400,
                        ..leyden_proto::lnrpc::Invoice::default()
                    };
                    made.push(lightning.add_invoice(request).await?.into_inner().payment_request);
                }
                Ok::<_, tonic::Status>(made)
            });
        }
        let mut invoices = Vec::with_capacity(self.count);
        while let Some(made) = workers.join_next().await {
            invoices.extend(made.map_err(|error| CliError::Failed(error.to_string()))??);
        }
        Ok(invoices)
    }

    /// The time that each successful payment took, from the call to its end.
    async fn pay_all(&self, payer: &DaemonProcess, invoices: Vec<String>) -> Result<Vec<Duration>, CliError> {
        let access = Access::from_data_dir(payer.data_dir())?;
        let invoices = Arc::new(invoices);
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        // A few connections, as several clients would have: one alone is limited by its own flow control.
        let mut clients = Vec::new();
        for _ in 0..self.concurrency.min(4) {
            clients.push(Client::connect(&access).await?);
        }
        for (_, client) in (0..self.concurrency).zip(clients.iter().cycle()) {
            let (next, invoices, mut router) = (Arc::clone(&next), Arc::clone(&invoices), client.router());
            let request = self.request(String::new());
            workers.spawn(async move {
                let mut latencies = Vec::new();
                while let Some(invoice) = invoices.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = SendPaymentRequest { payment_request: invoice.clone(), ..request.clone() };
                    let begun = Instant::now();
                    let mut updates = router.send_payment_v2(request).await?.into_inner();
                    let mut status = PaymentStatus::Failed;
                    while let Some(update) = updates.message().await? {
                        status = update.status();
                    }
                    if status == PaymentStatus::Succeeded {
                        latencies.push(begun.elapsed());
                    }
                }
                Ok::<_, tonic::Status>(latencies)
            });
        }
        let mut latencies = Vec::with_capacity(self.count);
        while let Some(own) = workers.join_next().await {
            latencies.extend(own.map_err(|error| CliError::Failed(error.to_string()))??);
        }
        Ok(latencies)
    }
}

impl Measured {
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.payment_time.as_secs_f64()
    }
}

/// They end when this is dropped, and their folder with them.
struct TowersOfBench {
    _towers: Vec<DaemonProcess>,
    _folder: tempfile::TempDir,
}

/// Starts the daemons on one chain, and opens a channel from each to the next.
pub(super) async fn prepare(nodes: &mut [DaemonProcess]) -> Result<(), ClusterError> {
    for node in nodes.iter_mut() {
        node.start().await?;
    }
    let [miner, others @ ..] = &*nodes else { return Ok(()) };
    for node in others {
        let request = leyden_proto::leyden::ConnectChainPeerRequest { address: miner.chain_address()? };
        node.client()?.chain().connect_peer(request).await.map_err(|status| node.call_error(status))?;
    }
    let pairs = || nodes.iter().zip(others);
    for (from, _) in pairs() {
        let address = from.new_address().await?;
        miner.mine(1, Some(&address)).await?;
    }
    mine(nodes, 100).await?;
    for (from, to) in pairs() {
        from.connect(to).await?;
        from.open_channel(to, CAPACITY, CAPACITY / 20).await?;
    }
    wait_until("the funding transactions to reach the miner", || async {
        let request = leyden_proto::leyden::GetMempoolRequest::default();
        let pool = miner.client()?.chain().get_mempool(request).await.map_err(|status| miner.call_error(status))?;
        Ok(usize::try_from(pool.into_inner().transaction_count).is_ok_and(|count| count >= others.len()))
    })
    .await?;
    mine(nodes, 6).await?;
    for (index, node) in nodes.iter().enumerate() {
        let is_end = index == 0 || index == others.len();
        node.wait_for_active_channels(if is_end { 1 } else { 2 }).await?;
    }
    Ok(())
}

async fn mine(nodes: &[DaemonProcess], blocks: u32) -> Result<(), ClusterError> {
    let [miner, ..] = nodes else { return Ok(()) };
    let height = miner.height().await?;
    miner.mine(blocks, Some(NOBODY)).await?;
    for node in nodes {
        node.wait_for_height(height + blocks).await?;
    }
    Ok(())
}

pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied().unwrap_or_default()
}

/// Processor time that a daemon has used since its start; 0 where the system does not tell.
pub(super) fn cpu_seconds(daemon: &DaemonProcess) -> f64 {
    let of = |pid| cpu_seconds_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    daemon.pid().and_then(of).unwrap_or_default()
}

/// Processor time in a line that Linux writes of a process or a thread.
pub(super) fn cpu_seconds_of(stat: &str) -> Option<f64> {
    // The name in parentheses may hold spaces; after it, user and system time are fields 12 and 13, in hundredths.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}
