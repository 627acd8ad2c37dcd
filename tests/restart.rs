//! Power cuts under load: either daemon is killed at random moments while both pay each other all the time.
//!
//! ```text
//!   12 callers ──► Alice ──invoices of Bob──► Bob        a chaos monkey: kill -9, start again, mine a block, kill again
//!   12 callers ──► Bob ──invoices of Alice──► Alice
//! ```
//!
//! In the end nothing is under way, every balance is right to the satoshi, the payers' successes are exactly the
//! payees' settled invoices, and the channel is the one that was opened.
//!
//! `LEYDEN_KILLS` asks for more kills, `LEYDEN_SEED` for the same choices again.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, PATIENCE, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    lnrpc::{
        ClosedChannelsRequest, Invoice, ListInvoiceRequest, ListPaymentsRequest, Payment, PendingChannelsRequest,
        invoice::InvoiceState, payment::PaymentStatus,
    },
    routerrpc::SendPaymentRequest,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use harness::{DEEP, Pair, held};

const CAPACITY: i64 = 10_000_000;
const PUSHED: i64 = 5_000_000;
/// In each direction.
const CALLERS: usize = 12;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// What the callers were told.
#[derive(Default)]
struct PaymentCounts {
    succeeded: Mutex<BTreeSet<String>>,
    failed: AtomicU64,
    /// The daemon went away before it told the end.
    cut: AtomicU64,
}

/// A connection that changes with each start of the daemon; `None` while it is away.
type Line = watch::Receiver<Option<Client>>;

async fn call(payer: Line, payee: Line, counts: Arc<PaymentCounts>, stop: CancellationToken, mut rng: StdRng) {
    while !stop.is_cancelled() {
        let clients = (payer.borrow().clone(), payee.borrow().clone());
        let (Some(payer), Some(payee)) = clients else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let invoice = Invoice { value: rng.random_range(1..2_000), ..Invoice::default() };
        let Ok(invoice) = payee.lightning().add_invoice(invoice).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        match pay(&payer, invoice.into_inner().payment_request).await {
            Some(payment) if payment.status() == PaymentStatus::Succeeded => {
                counts.succeeded.lock().unwrap().insert(payment.payment_hash);
            }
            Some(payment) => {
                assert_eq!(payment.status(), PaymentStatus::Failed);
                counts.failed.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
            }
            None => {
                counts.cut.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The end of a payment, if we live to see it.
async fn pay(payer: &Client, payment_request: String) -> Option<Payment> {
    let request = SendPaymentRequest {
        payment_request,
        timeout_seconds: 60,
        fee_limit_sat: 1_000,
        no_inflight_updates: true,
        ..SendPaymentRequest::default()
    };
    let mut updates = payer.router().send_payment_v2(request).await.ok()?.into_inner();
    let mut last = None;
    while let Some(update) = updates.next().await {
        last = Some(update.ok()?);
    }
    last
}

/// A daemon and the line on which callers reach it.
struct Victim {
    node: DaemonProcess,
    line: watch::Sender<Option<Client>>,
}

impl Victim {
    fn new(node: DaemonProcess) -> Self {
        let client = node.client().unwrap().clone();
        Self { node, line: watch::channel(Some(client)).0 }
    }

    fn kill(&mut self) {
        self.line.send_replace(None);
        self.node.kill();
    }

    async fn start(&mut self) {
        self.node.start().await.unwrap();
        self.line.send_replace(Some(self.node.client().unwrap().clone()));
    }

    /// Kills it again before it is up; it may have come up before.
    async fn start_and_kill(&mut self, after: Duration) {
        let _ = timeout(after, self.node.start()).await;
        self.kill();
    }
}

async fn payments(node: &DaemonProcess) -> Vec<Payment> {
    let request = ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
    node.client().unwrap().lightning().list_payments(request).await.unwrap().into_inner().payments
}

/// Amounts by hash.
type Amounts = BTreeMap<String, i64>;

async fn succeeded(node: &DaemonProcess) -> Amounts {
    let payments = payments(node).await.into_iter();
    let succeeded = payments.filter(|payment| payment.status() == PaymentStatus::Succeeded);
    succeeded.map(|payment| (payment.payment_hash, payment.value_sat)).collect()
}

async fn settled(node: &DaemonProcess) -> Amounts {
    let request = ListInvoiceRequest { num_max_invoices: 1_000_000, ..ListInvoiceRequest::default() };
    let invoices = node.client().unwrap().lightning().list_invoices(request).await.unwrap().into_inner().invoices;
    let open = invoices.iter().filter(|invoice| invoice.state() == InvoiceState::Accepted).count();
    assert_eq!(open, 0, "{}: invoices that are neither paid nor unpaid", node.name());
    let settled = invoices.iter().filter(|invoice| invoice.state() == InvoiceState::Settled);
    settled.map(|invoice| (hex::encode(&invoice.r_hash), invoice.amt_paid_sat)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_satoshi_is_lost_when_either_daemon_is_killed_under_load() {
    let kills = setting("LEYDEN_KILLS").unwrap_or(50);
    let seed = setting("LEYDEN_SEED").unwrap_or_else(rand::random);
    println!("LEYDEN_SEED={seed} LEYDEN_KILLS={kills}");
    let mut rng = StdRng::seed_from_u64(seed);
    let begun = Instant::now();

    let Pair { alice, bob, folder: _folder } = Pair::with_channel(CAPACITY, PUSHED).await;
    let channel_point = alice.only_channel().await.unwrap().channel_point;
    let mut victims = [Victim::new(alice), Victim::new(bob)];
    let (stop, counts) =
        (CancellationToken::new(), [Arc::new(PaymentCounts::default()), Arc::new(PaymentCounts::default())]);
    let mut callers = JoinSet::new();
    for caller in 0..2 * CALLERS {
        let (payer, payee) = (caller % 2, 1 - caller % 2);
        let rng = StdRng::seed_from_u64(seed.wrapping_add(1 + caller as u64));
        let lines = (victims[payer].line.subscribe(), victims[payee].line.subscribe());
        callers.spawn(call(lines.0, lines.1, Arc::clone(&counts[payer]), stop.clone(), rng));
    }

    let mut done = 0;
    while done < kills {
        sleep(Duration::from_millis(rng.random_range(20..600))).await;
        let victim = rng.random_range(0..2);
        victims[victim].kill();
        done += 1;
        match rng.random_range(0..10) {
            // A power cut takes both.
            0 => {
                victims[1 - victim].kill();
                done += 1;
                victims[1 - victim].start().await;
            }
            // And comes back for a moment only.
            1 | 2 => {
                let after = Duration::from_millis(rng.random_range(10..400));
                victims[victim].start_and_kill(after).await;
                done += 1;
            }
            _ => {}
        }
        victims[victim].start().await;
        if rng.random_range(0..5) == 0 {
            // The chain goes on too; a kill may hit a block on its way.
            victims[1 - victim].node.mine(1, Some(NOBODY)).await.unwrap();
        }
    }
    stop.cancel();
    timeout(PATIENCE, async { while callers.join_next().await.is_some() {} }).await.expect("every call ends");
    let [alice, bob] = victims.map(|victim| victim.node);
    let pair = Pair { alice, bob, folder: _folder };
    for node in [&pair.alice, &pair.bob] {
        wait_until(&format!("{} to end every payment", node.name()), || async {
            Ok(payments(node).await.iter().all(|payment| payment.status() != PaymentStatus::InFlight))
        })
        .await
        .unwrap();
    }

    // Each success of a payer is a settled invoice of the payee, and the other way round.
    let (alice_paid, bob_paid) = (succeeded(&pair.alice).await, succeeded(&pair.bob).await);
    assert_eq!(alice_paid, settled(&pair.bob).await, "what Alice paid is what Bob got");
    assert_eq!(bob_paid, settled(&pair.alice).await, "what Bob paid is what Alice got");
    for (counts, paid) in counts.iter().zip([&alice_paid, &bob_paid]) {
        let succeeded = counts.succeeded.lock().unwrap();
        assert!(succeeded.iter().all(|hash| paid.contains_key(hash)), "a success that was told is kept");
    }
    let sum = |figure: fn(&PaymentCounts) -> u64| counts.iter().map(|counts| figure(counts)).sum::<u64>();
    println!(
        "{done} kills in {:.0} s: {} payments of Alice and {} of Bob succeeded; callers saw {} fail and {} cut off",
        begun.elapsed().as_secs_f64(),
        alice_paid.len(),
        bob_paid.len(),
        sum(|counts| counts.failed.load(Ordering::Relaxed)),
        sum(|counts| counts.cut.load(Ordering::Relaxed)),
    );
    assert!(alice_paid.len() > 50 && bob_paid.len() > 50, "the load was not worth the name");

    // The channel is the one that was opened, and holds what each must have.
    let (a, b) = pair.settled_channel().await;
    let bobs = PUSHED + alice_paid.values().sum::<i64>() - bob_paid.values().sum::<i64>();
    assert_eq!(a.channel_point, channel_point);
    assert_eq!(b.local_balance, bobs, "Bob's balance");
    assert_eq!(a.local_balance + held(&a), CAPACITY - bobs, "Alice's balance");
    for node in [&pair.alice, &pair.bob] {
        let mut lightning = node.client().unwrap().lightning();
        let closed = lightning.closed_channels(ClosedChannelsRequest::default()).await.unwrap().into_inner();
        let pending = lightning.pending_channels(PendingChannelsRequest::default()).await.unwrap().into_inner();
        assert!(closed.channels.is_empty(), "{} closed a channel", node.name());
        assert_eq!(pending, Default::default(), "{} has pending channels", node.name());
    }

    // And it still works to its end.
    let wallet = pair.bob.wallet_balance().await.unwrap();
    for (payer, payee) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        let payment = payer.pay(payee.invoice(777, "after the storm").await.unwrap()).await.unwrap();
        assert_eq!(payment.status(), PaymentStatus::Succeeded);
    }
    pair.settled_channel().await;
    pair.bob.close_channel(&channel_point, false).await.unwrap();
    pair.mine(DEEP).await;
    let got = leyden_client::demo::calls::settled_balance(&pair.bob, wallet + bobs).await.unwrap();
    assert_eq!(got, wallet + bobs, "Bob's wallet after the close");
}
