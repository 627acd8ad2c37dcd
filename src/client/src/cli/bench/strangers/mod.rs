//! `leyden bench strangers`: what a crowd of hostile strangers costs a node that is busy with honest payments.
//!
//! Two daemons with a channel pay each other's invoices at a steady rate, first alone and then while strangers of
//! every kind ([`conduct`]) do their worst to the payer. What is printed is measured at the payer. The strangers get what
//! processor time the rest leaves ([`crowd`]), and it is printed how much of it, and what they did with that.

mod conduct;
mod connection;
mod crowd;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use leyden_proto::{
    lnrpc::{GetInfoRequest, Invoice, payment::PaymentStatus},
    routerrpc::SendPaymentRequest,
};
use secp256k1::SecretKey;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

use self::{
    conduct::Target,
    crowd::{Crowd, Deeds},
};
use super::{
    super::{CliError, Context, table},
    payments::{cpu_seconds, percentile, prepare},
};
use crate::{
    client::{Access, Client},
    cluster::{ClusterError, DaemonProcess},
};

/// Payments under way at a time: what does not find room is not made.
const MAX_IN_FLIGHT: usize = 100;
/// Between two looks at `getinfo`.
const LOOK: Duration = Duration::from_millis(100);

/// Attack a node that makes payments with hostile peers, and measure what they cost.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bench strangers                              128 strangers for five minutes\n  \
    leyden bench strangers --strangers 20 --seconds 30")]
pub(super) struct Strangers {
    /// Hostile peers at a time
    #[arg(long, default_value_t = 128)]
    strangers: usize,
    /// How long the attack lasts
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// How long payments are measured before the attack
    #[arg(long, default_value_t = 30)]
    quiet_seconds: u64,
    /// Payments to start per second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rate: u64,
}

/// What was measured in one phase.
struct Phase {
    payments: usize,
    seconds: f64,
    payment_p99: Duration,
    getinfo_p99: Duration,
    getinfo_slowest: Duration,
    log_bytes: u64,
    disk_bytes: u64,
    /// Processors that the payer and the payee kept busy.
    payer_cpu: f64,
    payee_cpu: f64,
}

impl Phase {
    fn payments_per_second(&self) -> f64 {
        self.payments as f64 / self.seconds
    }
}

impl Strangers {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let failed = |error: ClusterError| CliError::Failed(error.to_string());
        let folder = tempfile::Builder::new()
            .prefix("leyden-bench-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let mut nodes = Vec::new();
        for name in ["payer", "payee"] {
            nodes.push(DaemonProcess::new(folder.path(), name, &[]).map_err(failed)?);
        }
        context.note("starting two daemons and opening a channel");
        prepare(&mut nodes).await.map_err(failed)?;
        let [payer, payee] = nodes.as_slice() else { return Ok(()) };

        context.note(&format!("{} payments a second for {} seconds, undisturbed", self.rate, self.quiet_seconds));
        let quiet = self.phase(payer, payee, self.quiet_seconds).await?;
        let target = target(payer).await?;
        context.note(&format!("the same for {} seconds with {} strangers", self.seconds, self.strangers));
        let io = |source| CliError::Io { what: "the strangers".into(), source };
        let crowd = Crowd::start(self.strangers, target).map_err(io)?;
        let disturbed = self.phase(payer, payee, self.seconds).await;
        let deeds = crowd.stop().map_err(io)?;
        let disturbed = disturbed?;
        let peak = payer.peak_memory();
        self.show(context, &quiet, &disturbed, deeds, peak)
    }

    fn show(
        &self,
        context: &Context,
        quiet: &Phase,
        disturbed: &Phase,
        deeds: Deeds,
        peak: u64,
    ) -> Result<(), CliError> {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let of_phase = |phase: &Phase| {
            json!({
                "payments": phase.payments,
                "payments_per_second": phase.payments_per_second(),
                "payment_p99_ms": milliseconds(phase.payment_p99),
                "getinfo_p99_ms": milliseconds(phase.getinfo_p99),
                "getinfo_slowest_ms": milliseconds(phase.getinfo_slowest),
                "log_bytes": phase.log_bytes,
                "disk_bytes": phase.disk_bytes,
                "payer_processors": phase.payer_cpu,
                "payee_processors": phase.payee_cpu,
            })
        };
        let Deeds { connections, messages, bytes, cpu_seconds } = deeds;
        let strangers_cpu = cpu_seconds / disturbed.seconds;
        let share = disturbed.payments_per_second() / quiet.payments_per_second().max(f64::MIN_POSITIVE);
        let value = json!({
            "strangers": self.strangers,
            "quiet": of_phase(quiet),
            "disturbed": of_phase(disturbed),
            "payments_share": share,
            "peak_memory_bytes": peak,
            "strangers_did": {
                "connections": connections,
                "messages": messages,
                "bytes": bytes,
                "processors": strangers_cpu,
            },
        });
        context.show_value(&value, || {
            let both = |of: &dyn Fn(&Phase) -> String| format!("{} alone, {} with strangers", of(quiet), of(disturbed));
            let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
            table::facts([
                ("strangers", self.strangers.to_string()),
                ("payments a second", both(&|phase| format!("{:.0}", phase.payments_per_second()))),
                ("share of them", format!("{:.0} %", share * 100.0)),
                ("payment, p99", both(&|phase| format!("{:.0} ms", milliseconds(phase.payment_p99)))),
                ("getinfo, p99", both(&|phase| format!("{:.1} ms", milliseconds(phase.getinfo_p99)))),
                ("getinfo, slowest", both(&|phase| format!("{:.1} ms", milliseconds(phase.getinfo_slowest)))),
                ("log", both(&|phase| megabytes(phase.log_bytes))),
                ("disk", both(&|phase| megabytes(phase.disk_bytes))),
                ("peak memory", megabytes(peak)),
                ("processors, payer", both(&|phase| format!("{:.2}", phase.payer_cpu))),
                ("processors, payee", both(&|phase| format!("{:.2}", phase.payee_cpu))),
                (
                    "the strangers did",
                    format!(
                        "{connections} connections, {messages} messages, {}, on {strangers_cpu:.2} processors",
                        megabytes(bytes)
                    ),
                ),
            ])
        })
    }

    /// Pays and looks for so long.
    async fn phase(&self, payer: &DaemonProcess, payee: &DaemonProcess, seconds: u64) -> Result<Phase, CliError> {
        let time = Duration::from_secs(seconds);
        let (log_before, disk_before) = (log_size(payer), folder_size(payer.data_dir()));
        let cpu_before = (cpu_seconds(payer), cpu_seconds(payee));
        let access = Access::from_data_dir(payer.data_dir())?;
        let looks = tokio::spawn(look(Client::connect(&access).await?, time));
        let begun = Instant::now();
        let mut latencies = self.pay(payer, payee, time).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let mut looks = looks.await.map_err(|error| CliError::Failed(error.to_string()))??;
        latencies.sort_unstable();
        looks.sort_unstable();
        Ok(Phase {
            payments: latencies.len(),
            seconds,
            payment_p99: percentile(&latencies, 99),
            getinfo_p99: percentile(&looks, 99),
            getinfo_slowest: looks.last().copied().unwrap_or_default(),
            log_bytes: log_size(payer).saturating_sub(log_before),
            disk_bytes: folder_size(payer.data_dir()).saturating_sub(disk_before),
            payer_cpu: (cpu_seconds(payer) - cpu_before.0) / seconds,
            payee_cpu: (cpu_seconds(payee) - cpu_before.1) / seconds,
        })
    }

    /// Begins payments at the rate, and gives the time that each successful one took.
    async fn pay(
        &self,
        payer: &DaemonProcess,
        payee: &DaemonProcess,
        time: Duration,
    ) -> Result<Vec<Duration>, CliError> {
        let from = Client::connect(&Access::from_data_dir(payer.data_dir())?).await?;
        let to = Client::connect(&Access::from_data_dir(payee.data_dir())?).await?;
        let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut under_way = JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(self.rate).unwrap_or(u32::MAX));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let begun = Instant::now();
        let mut latencies = Vec::new();
        while begun.elapsed() < time {
            ticks.tick().await;
            while let Some(paid) = under_way.try_join_next() {
                latencies.extend(paid.map_err(|error| CliError::Failed(error.to_string()))?);
            }
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
            let (mut router, mut lightning) = (from.router(), to.lightning());
            under_way.spawn(async move {
                let _slot = slot;
                let invoice = Invoice { value: 1_000, ..Invoice::default() };
                let payment_request = lightning.add_invoice(invoice).await.ok()?.into_inner().payment_request;
                let request = SendPaymentRequest {
                    payment_request,
                    timeout_seconds: 60,
                    fee_limit_sat: 10,
                    no_inflight_updates: true,
                    ..SendPaymentRequest::default()
                };
                let begun = Instant::now();
                let mut updates = router.send_payment_v2(request).await.ok()?.into_inner();
                let mut status = PaymentStatus::Failed;
                while let Some(update) = updates.message().await.ok()? {
                    status = update.status();
                }
                (status == PaymentStatus::Succeeded).then(|| begun.elapsed())
            });
        }
        while let Some(paid) = under_way.join_next().await {
            latencies.extend(paid.map_err(|error| CliError::Failed(error.to_string()))?);
        }
        Ok(latencies)
    }
}

/// How long each `getinfo` takes.
async fn look(client: Client, time: Duration) -> Result<Vec<Duration>, CliError> {
    let mut lightning = client.lightning();
    let (begun, mut looks) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let asked = Instant::now();
        lightning.get_info(GetInfoRequest {}).await?;
        looks.push(asked.elapsed());
        tokio::time::sleep(LOOK).await;
    }
    Ok(looks)
}

async fn target(node: &DaemonProcess) -> Result<Target, CliError> {
    let failed = |error: ClusterError| CliError::Failed(error.to_string());
    let address = |text: String| -> Result<SocketAddr, CliError> {
        text.parse().map_err(|_| CliError::Failed(format!("{text} is no address")))
    };
    let id = node.node_id().await.map_err(failed)?;
    Ok(Target {
        node: id.parse().map_err(|_| CliError::Failed(format!("{id} is no node id")))?,
        lightning: address(node.lightning_address().map_err(failed)?)?,
        chain: address(node.chain_address().map_err(failed)?)?,
        rpc: address(Access::from_data_dir(node.data_dir())?.address)?,
        height: node.height().await.map_err(failed)?,
    })
}

fn random_key() -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_slice(&rand::random::<[u8; 32]>()) {
            return key;
        }
    }
}

fn log_size(daemon: &DaemonProcess) -> u64 {
    std::fs::metadata(daemon.data_dir().join("leydend.log")).map_or(0, |log| log.len())
}

/// Bytes of all files below a folder.
fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(kind) if kind.is_dir() => folder_size(&entry.path()),
            Ok(kind) => kind.len(),
            Err(_) => 0,
        })
        .fold(0, u64::saturating_add)
}
