//! A ring of daemons, each of them payer, hop and payee, of which now and then one is killed and started
//! again: in the end every satoshi is where the payments say.
//!
//! `LEYDEN_RING_NODES`, `LEYDEN_RING_PAYMENTS` and `LEYDEN_RING_RESTARTS` make it larger, `LEYDEN_RING_SEED` another one.
//! `LEYDEN_LOG` says what the daemons log.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{Folder, assert_calm};
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, PATIENCE, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    leyden::{GetBlockRequest, GetTransactionRequest, get_block_request::Block as Which},
    lnrpc::{
        ForwardingHistoryRequest, Invoice, ListInvoiceRequest, ListPaymentsRequest, NetworkInfoRequest,
        invoice::InvoiceState, payment::PaymentStatus,
    },
    routerrpc::SendPaymentRequest,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

const COIN: i64 = 100_000_000;
/// What mining the first blocks of regtest brings.
const REWARD: i64 = 50 * COIN;
const CAPACITY: i64 = 40_000_000;
const MAX_AMOUNT: i64 = 1_000;
/// Payments at once for each node, of a long run.
const AT_ONCE: usize = 20;
/// Daemons of a ring, if this process may have enough files and connections open: each of them takes the process's for its
/// own.
const NODES: usize = 6;
const DESCRIPTORS_OF_EACH: usize = 80;
/// How long all that is under way may take to end once everybody is there.
const END_LIMIT: Duration = PATIENCE.saturating_mul(2);

struct Setting {
    nodes: usize,
    payments: usize,
    restarts: usize,
    seed: u64,
}

impl Setting {
    fn from_env() -> Self {
        Self {
            nodes: number("LEYDEN_RING_NODES", NODES.min(descriptors() / DESCRIPTORS_OF_EACH)),
            payments: number("LEYDEN_RING_PAYMENTS", 300),
            restarts: number("LEYDEN_RING_RESTARTS", 6),
            seed: number("LEYDEN_RING_SEED", 1),
        }
    }
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How many this process may have open.
fn descriptors() -> usize {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    usize::MAX
}

/// How the calls that began payments ended.
#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    paid: AtomicUsize,
    failed: AtomicUsize,
    /// The payer was killed before it told.
    cut: AtomicUsize,
}

/// Connections to the daemons that run now.
type Clients = Arc<Vec<Mutex<Option<Client>>>>;

fn client_of(clients: &Clients, node: usize) -> Option<Client> {
    clients[node].lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ring_keeps_every_satoshi_through_payments_and_restarts() {
    let setting = Setting::from_env();
    println!(
        "ring of {} daemons, {} payments, {} restarts, LEYDEN_RING_SEED={}",
        setting.nodes, setting.payments, setting.restarts, setting.seed
    );
    let folder = Folder::new();
    let mut ring = Ring::build(folder.path(), setting.nodes).await;
    let before = ring.held_by_each().await;

    let begun = Instant::now();
    let counts = ring.pay_and_restart(&setting).await;
    let took = begun.elapsed();
    ring.wait_for_the_end().await;

    ring.each_has_what_its_books_say(&before).await;
    ring.proofs_are_of_settled_invoices().await;
    ring.close_and_count().await;
    println!(
        "{} payments in {:.0} s ({:.0} a second): {} paid, {} failed, {} cut off by a restart of the payer",
        setting.payments,
        took.as_secs_f64(),
        setting.payments as f64 / took.as_secs_f64(),
        counts.paid.load(Ordering::Relaxed),
        counts.failed.load(Ordering::Relaxed),
        counts.cut.load(Ordering::Relaxed),
    );
    assert!(counts.paid.load(Ordering::Relaxed) * 2 > setting.payments, "most payments must find their way");
    for node in &ring.nodes {
        assert_calm(node.name(), &node.log());
    }
}

struct Ring {
    nodes: Vec<DaemonProcess>,
    clients: Clients,
}

impl Ring {
    /// Each node has one block's reward, and a channel with the next.
    async fn build(folder: &std::path::Path, size: usize) -> Self {
        let mut nodes: Vec<DaemonProcess> = Vec::new();
        for number in 0..size {
            let chain = nodes.first().map(|miner| miner.chain_address().unwrap());
            let flags: Vec<&str> = chain.iter().flat_map(|chain| ["--chain-connect", chain]).collect();
            let mut node = DaemonProcess::new(folder, &format!("node{number}"), &flags).unwrap();
            node.start().await.unwrap();
            nodes.push(node);
        }
        for node in &nodes {
            let address = node.new_address().await.unwrap();
            nodes[0].mine(1, Some(&address)).await.unwrap();
        }
        let clients = nodes.iter().map(|node| Mutex::new(node.client().ok().cloned())).collect();
        let ring = Self { nodes, clients: Arc::new(clients) };
        ring.mine(100).await;
        for (from, to) in ring.pairs() {
            from.connect(to).await.unwrap();
            from.open_channel(to, CAPACITY, CAPACITY / 2).await.unwrap();
        }
        ring.wait_for_transactions(size).await;
        ring.mine(6).await;
        for node in &ring.nodes {
            node.wait_for_active_channels(2).await.unwrap();
        }
        wait_until("everybody to know the ring", || async {
            for node in &ring.nodes {
                let info = node.client()?.lightning().get_network_info(NetworkInfoRequest {}).await;
                if info.map_err(|status| node.call_error(status))?.into_inner().num_channels as usize != size {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
        .unwrap();
        ring
    }

    fn pairs(&self) -> impl Iterator<Item = (&DaemonProcess, &DaemonProcess)> {
        self.nodes.iter().zip(self.nodes.iter().cycle().skip(1))
    }

    async fn mine(&self, blocks: u32) {
        self.nodes[0].mine(blocks, Some(NOBODY)).await.unwrap();
        let height = self.nodes[0].height().await.unwrap();
        for node in &self.nodes {
            node.wait_for_height(height).await.unwrap();
        }
    }

    async fn wait_for_transactions(&self, count: usize) {
        wait_until("all transactions to reach the miner", || async {
            Ok(self.nodes[0].waiting_txids().await?.len() >= count)
        })
        .await
        .unwrap();
    }

    /// Satoshi of each node in its channels, with what it has set aside as their opener.
    async fn held_by_each(&self) -> Vec<i64> {
        let mut each = Vec::new();
        for node in &self.nodes {
            let channels = node.channels().await.unwrap();
            let held = |channel: &leyden_proto::lnrpc::Channel| {
                let aside = channel.capacity - channel.local_balance - channel.remote_balance;
                channel.local_balance + if channel.initiator { aside } else { 0 }
            };
            each.push(channels.iter().map(held).sum());
        }
        each
    }

    async fn pay_and_restart(&mut self, setting: &Setting) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        let mut payers = JoinSet::new();
        let at_once = (setting.nodes * AT_ONCE).min(setting.payments / 20).max(1);
        for worker in 0..at_once {
            let random = StdRng::seed_from_u64(setting.seed.wrapping_mul(1_000).wrapping_add(worker as u64));
            payers.spawn(pay(Arc::clone(&self.clients), Arc::clone(&counts), setting.payments, random));
        }
        let mut random = StdRng::seed_from_u64(setting.seed);
        for restart in 1..=setting.restarts {
            let due = setting.payments * restart / (setting.restarts + 1);
            while counts.begun.load(Ordering::Relaxed) < due {
                sleep(Duration::from_millis(10)).await;
            }
            let victim = random.random_range(0..self.nodes.len());
            *self.clients[victim].lock().unwrap() = None;
            self.nodes[victim].kill();
            sleep(Duration::from_millis(random.random_range(0..1_000))).await;
            self.nodes[victim].start().await.unwrap();
            *self.clients[victim].lock().unwrap() = self.nodes[victim].client().ok().cloned();
            self.nodes[0].mine(1, Some(NOBODY)).await.unwrap();
            if restart % 20 == 0 {
                println!("{restart} restarts, {} payments begun", counts.begun.load(Ordering::Relaxed));
            }
        }
        payers.join_all().await;
        counts
    }

    async fn wait_for_the_end(&self) {
        let begun = Instant::now();
        loop {
            let mut busy = Vec::new();
            for node in &self.nodes {
                let channels = node.channels().await.unwrap();
                let under_way: usize = channels.iter().map(|channel| channel.pending_htlcs.len()).sum();
                let active = channels.iter().filter(|channel| channel.active).count();
                let in_flight = node.paid().await.unwrap().in_flight;
                if under_way + in_flight > 0 || active < 2 {
                    busy.push(format!("{}: {under_way} HTLCs, {in_flight} payments, {active} channels", node.name()));
                }
            }
            if busy.is_empty() {
                return;
            }
            assert!(begun.elapsed() < END_LIMIT, "under way without an end: {busy:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Sent, received and earned by forwarding is what the balances have changed by.
    async fn each_has_what_its_books_say(&self, before: &[i64]) {
        let after = self.held_by_each().await;
        assert_eq!(after.iter().sum::<i64>(), CAPACITY * self.nodes.len() as i64, "what all have together");
        for ((node, before), after) in self.nodes.iter().zip(before).zip(after) {
            let mut expected = before * 1_000;
            for payment in payments(node).await {
                if payment.status() == PaymentStatus::Succeeded {
                    expected -= payment.value_msat + payment.fee_msat;
                }
            }
            for invoice in invoices(node).await {
                if invoice.state() == InvoiceState::Settled {
                    expected += invoice.amt_paid_msat;
                }
            }
            expected += earned(node).await;
            // Balances of two channels are told in whole satoshi.
            assert!((after * 1_000 - expected).abs() <= 2_000, "{}: {after} sat, not {expected} msat", node.name());
        }
    }

    /// A payer's proof is of an invoice that was settled, for as much; and who was paid, was paid by somebody.
    async fn proofs_are_of_settled_invoices(&self) {
        let mut settled = BTreeMap::new();
        for node in &self.nodes {
            for invoice in invoices(node).await {
                assert!(invoice.state() != InvoiceState::Accepted, "an invoice of {} holds HTLCs", node.name());
                if invoice.state() == InvoiceState::Settled {
                    settled.insert(hex::encode(&invoice.r_preimage), invoice.amt_paid_msat);
                }
            }
        }
        for node in &self.nodes {
            for payment in payments(node).await {
                match payment.status() {
                    PaymentStatus::Succeeded => {
                        let paid = settled.remove(&payment.payment_preimage);
                        assert_eq!(paid, Some(payment.value_msat), "a proof of {}", node.name());
                    }
                    PaymentStatus::Failed => assert!(payment.payment_preimage.trim_matches('0').is_empty()),
                    status => panic!("a payment of {} is {status:?}", node.name()),
                }
            }
        }
        assert!(settled.is_empty(), "{} invoices were settled that nobody paid", settled.len());
    }

    /// Closes all channels: the wallets then hold what was mined for them, less what miners got.
    async fn close_and_count(&self) {
        for (from, to) in self.pairs() {
            let other = to.node_id().await.unwrap();
            let channels = from.channels().await.unwrap();
            let channel = channels.iter().find(|channel| channel.remote_pubkey == other && channel.initiator).unwrap();
            from.close_channel(&channel.channel_point, false).await.unwrap();
        }
        self.wait_for_transactions(self.nodes.len()).await;
        self.mine(6).await;
        let expected = REWARD * self.nodes.len() as i64 - self.fees_to_miners().await;
        wait_until("the wallets to hold everything", || async {
            let mut total = 0;
            for node in &self.nodes {
                total += node.wallet_balance().await?;
            }
            Ok(total == expected)
        })
        .await
        .unwrap();
    }

    /// What coinbases hold beyond the subsidy, which regtest halves every 150 blocks.
    async fn fees_to_miners(&self) -> i64 {
        let miner = &self.nodes[0];
        let mut chain = miner.client().unwrap().chain();
        let mut fees = 0;
        for height in 1..=miner.height().await.unwrap() {
            let request = GetBlockRequest { block: Some(Which::Height(height)), include_raw: false };
            let block = chain.get_block(request).await.unwrap().into_inner();
            let request = GetTransactionRequest { txid: block.txids[0].clone() };
            let coinbase = chain.get_transaction(request).await.unwrap().into_inner();
            let paid: u64 = coinbase.outputs.iter().map(|output| output.amount_sat).sum();
            fees += i64::try_from(paid).unwrap() - (REWARD >> (height / 150));
        }
        fees
    }
}

/// Makes invoices and pays them, each between two nodes drawn at random, until enough were begun.
async fn pay(clients: Clients, counts: Arc<Counts>, enough: usize, mut random: StdRng) {
    loop {
        let from = random.random_range(0..clients.len());
        let to = (from + random.random_range(1..clients.len())) % clients.len();
        let value = random.random_range(1..=MAX_AMOUNT);
        let (Some(payer), Some(payee)) = (client_of(&clients, from), client_of(&clients, to)) else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let invoice = Invoice { value, ..Invoice::default() };
        let Ok(invoice) = payee.lightning().add_invoice(invoice).await else { continue };
        if counts.begun.fetch_add(1, Ordering::Relaxed) >= enough {
            return;
        }
        let request = SendPaymentRequest {
            payment_request: invoice.into_inner().payment_request,
            timeout_seconds: 60,
            fee_limit_sat: 1_000,
            no_inflight_updates: true,
            ..SendPaymentRequest::default()
        };
        let ended = match end_of(&payer, request).await {
            Some(PaymentStatus::Succeeded) => &counts.paid,
            Some(_) => &counts.failed,
            None => &counts.cut,
        };
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn end_of(payer: &Client, request: SendPaymentRequest) -> Option<PaymentStatus> {
    let mut updates = payer.router().send_payment_v2(request).await.ok()?.into_inner();
    let mut last = None;
    while let Some(payment) = updates.message().await.ok()? {
        last = Some(payment.status());
    }
    last
}

async fn payments(node: &DaemonProcess) -> Vec<leyden_proto::lnrpc::Payment> {
    let request = ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
    node.client().unwrap().lightning().list_payments(request).await.unwrap().into_inner().payments
}

async fn invoices(node: &DaemonProcess) -> Vec<Invoice> {
    let request = ListInvoiceRequest { num_max_invoices: u64::MAX, ..ListInvoiceRequest::default() };
    node.client().unwrap().lightning().list_invoices(request).await.unwrap().into_inner().invoices
}

/// What forwarding has brought, in msat.
async fn earned(node: &DaemonProcess) -> i64 {
    let mut lightning = node.client().unwrap().lightning();
    let (mut earned, mut index_offset) = (0, 0);
    loop {
        let request = ForwardingHistoryRequest { index_offset, num_max_events: 50_000, ..Default::default() };
        let page = lightning.forwarding_history(request).await.unwrap().into_inner();
        if page.forwarding_events.is_empty() {
            return earned;
        }
        earned += page.forwarding_events.iter().map(|event| event.fee_msat as i64).sum::<i64>();
        index_offset = page.last_offset_index;
    }
}
