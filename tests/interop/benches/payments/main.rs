//! `make bench-peers WHAT=payments`: payments a second between two daemons, and between two LDK nodes on a chain of ours.
//!
//! For each number of payments at a time, both make all invoices first, which is not measured, and then pay. At the end
//! every payment must have succeeded and the recipient's balance must be right to the satoshi. The daemons are processes
//! of their own that are called over gRPC; the LDK nodes are in this process and called directly, and log warnings only.
//! The last line is the least ratio of all.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

#[path = "../../support/mod.rs"]
mod support;

use std::{
    collections::{HashMap, VecDeque},
    env,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::Parser;
use ldk_node::{Event, NodeError, lightning_invoice::Bolt11Invoice, lightning_types::payment::PaymentHash};
use leyden_client::cluster::wait_until;
use serde_json::Value;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};

use support::{Kind, Ldk, chain};

/// A channel that every node opens.
const CAPACITY: u64 = 16_000_000;
/// How long a payment may wait for room in the channel.
const PATIENCE: Duration = Duration::from_secs(60);
/// HTLCs that a channel of LDK's holds, in either direction (`ChannelHandshakeConfig::our_max_accepted_htlcs`).
const LDK_ROOM: usize = 50;
/// How long LDK takes about to free a place: until a removed HTLC is out of both commitments.
const UNTIL_FREE: Duration = Duration::from_millis(2);

/// The load of `leyden bench payments --nodes 2`.
#[derive(Parser)]
struct Payments {
    /// Payments at a time, one measurement each; an LDK channel holds 50, more than that wait for room
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 40, 100])]
    concurrency: Vec<usize>,
    /// Payments of a measurement: so many more as go on at a time, up to the last
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Satoshi that each payment carries
    #[arg(long, default_value_t = 1_000)]
    amount: u64,
    /// What `cargo bench` hands to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The most payments of one measurement.
const MOST: usize = 2_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 8)]
async fn main() {
    Payments::parse().run().await;
}

/// What was measured.
struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Payments {
    async fn run(self) {
        let total = self.concurrency.iter().map(|at_once| self.amount * self.count_at(*at_once) as u64).sum::<u64>();
        assert!(total > 0 && total <= CAPACITY * 9 / 10, "all payments together: at most {}", CAPACITY * 9 / 10);
        let lightning = LdkPair::start().await;
        let mut least = f64::INFINITY;
        for at_once in self.concurrency.iter().copied() {
            let count = self.count_at(at_once);
            let leyden = self.leyden(at_once);
            let ldk = lightning.pay(count, at_once, self.amount).await;
            println!("{count} payments of {} sat, {at_once} at a time", self.amount);
            println!("{:10}{:>14}{:>12}{:>12}", "", "payments/s", "p50 ms", "p99 ms");
            for (name, measured) in [("leydend", &leyden), ("ldk-node", &ldk)] {
                println!("{name:10}{:14.0}{:12.1}{:12.1}", measured.rate, measured.p50, measured.p99);
            }
            let ratio = leyden.rate / ldk.rate;
            println!("{ratio:.1} times as many");
            least = least.min(ratio);
        }
        lightning.stop().await;
        println!("ratio: {least:.1}");
    }

    fn count_at(&self, at_once: usize) -> usize {
        self.count.saturating_mul(at_once).min(MOST.max(self.count))
    }

    fn leyden(&self, at_once: usize) -> Measured {
        let count = self.count_at(at_once);
        eprintln!("two daemons of Leyden …");
        let output = Command::new(beside("leyden"))
            .args(["--json", "bench", "payments", "--nodes", "2"])
            .args(["--count", &count.to_string(), "--concurrency", &at_once.to_string()])
            .args(["--amount", &self.amount.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .expect("leyden runs");
        assert!(output.status.success(), "`leyden bench payments` failed");
        let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let number = |name: &str| value[name].as_f64().unwrap_or_else(|| panic!("no {name} in {value}"));
        assert_eq!(number("payments") as usize, count);
        Measured { rate: number("payments_per_second"), p50: number("latency_p50_ms"), p99: number("latency_p99_ms") }
    }
}

/// Two LDK nodes with a channel, and the miner of their chain.
struct LdkPair {
    payer: Arc<Ldk>,
    payee: Arc<Ldk>,
    ends: Ends,
    watchers: JoinSet<()>,
    _miner: leyden_client::cluster::DaemonProcess,
    _folder: tempfile::TempDir,
}

impl LdkPair {
    async fn start() -> Self {
        eprintln!("two LDK nodes …");
        let folder = tempfile::Builder::new().prefix("leyden-bench-").tempdir().unwrap();
        let miner = chain::start(folder.path(), "miner", &["--log", "warn"]).await;
        let start = |name| Arc::new(Ldk::quiet(folder.path(), name, Kind::Anchors, chain::rpc(&miner)));
        let (payer, payee) = (start("payer"), start("payee"));
        chain::fund(&miner, &[], &[&payer, &payee]).await;
        payer.open((payee.id(), payee.address()), CAPACITY, CAPACITY / 20, false);
        chain::wait_for_mempool(&miner, 1).await;
        chain::mine(&miner, &[], &[&payer, &payee], chain::DEEP).await;
        payer.wait_for_usable_channels(1).await;
        payee.wait_for_usable_channels(1).await;
        let (ends, watchers) = watch(&payer, &payee);
        Self { payer, payee, ends, watchers, _miner: miner, _folder: folder }
    }

    /// The nodes end here: the task that waits for an event must not be the last that has one.
    async fn stop(mut self) {
        self.watchers.shutdown().await;
        block_in_place(|| drop((self.payer, self.payee)));
    }

    async fn pay(&self, count: usize, at_once: usize, amount: u64) -> Measured {
        let Self { payer, payee, ends, .. } = self;
        let had = payee.in_channels();
        let unpaid: VecDeque<Bolt11Invoice> = (0..count).map(|_| payee.invoice(amount)).collect();
        let unpaid = Arc::new(Mutex::new(unpaid));
        let room = Arc::new(Semaphore::new(LDK_ROOM));
        let mut workers = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..at_once {
            let (unpaid, room) = (Arc::clone(&unpaid), Arc::clone(&room));
            let (ends, payer, payee) = (Arc::clone(ends), Arc::clone(payer), Arc::clone(payee));
            workers.spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let Some(invoice) = unpaid.lock().unwrap().pop_front() else { break };
                    let begun = Instant::now();
                    let _place = room.acquire().await.unwrap();
                    pay_to_end(&payer, &payee, &ends, invoice).await;
                    latencies.push(begun.elapsed());
                }
                latencies
            });
        }
        let mut latencies = Vec::new();
        while let Some(own) = workers.join_next().await {
            latencies.extend(own.unwrap());
        }
        let took = begun.elapsed();
        assert_eq!(latencies.len(), count);
        let paid = amount * count as u64;
        wait_until("LDK's balance to be right", || async { Ok(payee.in_channels() == had + paid) }).await.unwrap();
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let time: Duration = latencies[(latencies.len() - 1) * percent / 100];
            time.as_secs_f64() * 1e3
        };
        Measured { rate: count as f64 / took.as_secs_f64(), p50: percentile(50), p99: percentile(99) }
    }
}

/// Pays until it has succeeded. LDK fails what finds no room in the channel, where removed HTLCs stay a little longer than
/// their payments do. What was not sent at all is sent again; once LDK has taken a payment on, its failure is waited for, and
/// the recipient makes another invoice: of the same hash LDK may say for ever that it is being paid.
async fn pay_to_end(payer: &Ldk, payee: &Ldk, ends: &Ends, mut invoice: Bolt11Invoice) {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "LDK takes no payment any more");
        let hash = PaymentHash(*AsRef::<[u8; 32]>::as_ref(invoice.payment_hash()));
        let (ended, mut end) = mpsc::unbounded_channel();
        ends.lock().unwrap().insert(hash, ended);
        let sent = block_in_place(|| payer.node().bolt11_payment().send(&invoice, None));
        let good = match sent {
            Ok(_) => timeout(PATIENCE, end.recv()).await.expect("LDK tells how a payment ends").unwrap(),
            // No way was found, so nothing was sent.
            Err(NodeError::PaymentSendingFailed) => false,
            Err(error) => panic!("LDK does not pay: {error}"),
        };
        ends.lock().unwrap().remove(&hash);
        if good {
            return;
        }
        sleep(UNTIL_FREE).await;
        if sent.is_ok() {
            let amount = invoice.amount_milli_satoshis().unwrap() / 1_000;
            invoice = block_in_place(|| payee.invoice(amount));
        }
    }
}

/// Who waits for the end of a payment, which is good or not.
type Ends = Arc<Mutex<HashMap<PaymentHash, mpsc::UnboundedSender<bool>>>>;

/// Takes the events of both nodes as they come, and tells who waits for them.
fn watch(payer: &Arc<Ldk>, payee: &Arc<Ldk>) -> (Ends, JoinSet<()>) {
    let ends = Ends::default();
    let mut watchers = JoinSet::new();
    for ldk in [payer, payee] {
        let (ldk, ends) = (Arc::clone(ldk), Arc::clone(&ends));
        watchers.spawn(async move {
            loop {
                let end = match ldk.node().next_event_async().await {
                    Event::PaymentSuccessful { payment_hash, .. } => Some((payment_hash, true)),
                    Event::PaymentFailed { payment_hash: Some(payment_hash), .. } => Some((payment_hash, false)),
                    _ => None,
                };
                block_in_place(|| ldk.node().event_handled()).unwrap();
                if let Some((hash, good)) = end
                    && let Some(waiting) = ends.lock().unwrap().get(&hash)
                {
                    // Who has heard of the success is gone.
                    let _ = waiting.send(good);
                }
            }
        });
    }
    (ends, watchers)
}

/// A program that is built beside this one, which is in a folder below.
fn beside(name: &str) -> PathBuf {
    let current = env::current_exe().unwrap();
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let mut candidates = current.ancestors().skip(1).take(2).map(|folder| folder.join(&file));
    candidates.find(|path| path.is_file()).unwrap_or_else(|| panic!("{file} is missing: use `make bench-peers`"))
}
