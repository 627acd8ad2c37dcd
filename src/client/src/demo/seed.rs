//! The seed story: Alice and Bob fund 0.5 each, she pays him 0.1, he pays back 0.04, one of them is killed in the middle
//! of a burst of payments and comes back, and they close.

use std::{path::Path, time::Duration};

use leyden_proto::lnrpc::{ListInvoiceRequest, ListPaymentsRequest, invoice::InvoiceState, payment::PaymentStatus};
use tokio::{task::JoinSet, time::sleep};

use super::{
    DataFolder, DemoError, DemoOptions, Narrator,
    calls::{NOBODY, settled_balance, succeeded},
    narrator::coins,
};
use crate::cluster::{ClusterError, DaemonProcess, wait_until};

const CAPACITY: i64 = 100_000_000;
const PUSHED: i64 = 50_000_000;
const ALICE_PAYS: i64 = 10_000_000;
const BOB_PAYS_BACK: i64 = 4_000_000;
const BURST: usize = 60;
const BURST_AMOUNT: i64 = 1_000;
/// Blocks that make a funding or closing transaction final for both.
const DEEP: u32 = 6;

/// Plays the story. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    let folder = DataFolder::new(options.folder)?;
    let mut narrator = Narrator::default();
    let mut nodes = start(&mut narrator, folder.path()).await?;
    let result = tell(&mut narrator, &mut nodes).await;
    if options.keep {
        let folder = folder.keep();
        println!("\nThe nodes keep running in {}. Talk to them, for example:", folder.display());
        for node in [&mut nodes.alice, &mut nodes.bob] {
            println!("  leyden --data-dir {} getinfo", node.data_dir().display());
            node.keep_running();
        }
        println!("Stop them with `leyden --data-dir … stop`.");
    }
    result?;
    narrator.finish()
}

struct Nodes {
    alice: DaemonProcess,
    bob: DaemonProcess,
}

async fn start(narrator: &mut Narrator, folder: &Path) -> Result<Nodes, DemoError> {
    narrator.step("Alice and Bob each start a daemon: full node, miner, wallet and Lightning node in one");
    let mut alice = DaemonProcess::new(folder, "alice", &[])?;
    alice.start().await?;
    let chain = alice.chain_address()?;
    let mut bob = DaemonProcess::new(folder, "bob", &["--chain-connect", &chain])?;
    bob.start().await?;
    narrator.say(&format!("Alice is {}", alice.node_id().await?));
    narrator.say(&format!("Bob   is {}", bob.node_id().await?));
    Ok(Nodes { alice, bob })
}

async fn tell(narrator: &mut Narrator, nodes: &mut Nodes) -> Result<(), DemoError> {
    let funded = fund(narrator, nodes).await?;
    let channel_point = open(narrator, nodes).await?;
    pay_both_ways(narrator, nodes).await?;
    let paid = survive_a_kill(narrator, nodes).await?;
    close(narrator, nodes, &channel_point, funded, paid).await
}

async fn fund(narrator: &mut Narrator, nodes: &Nodes) -> Result<i64, DemoError> {
    let Nodes { alice, bob } = nodes;
    narrator.step("Alice mines a block, and 100 more so that its reward can be spent; Bob's node follows");
    alice.mine(1, None).await?;
    alice.mine(100, Some(NOBODY)).await?;
    bob.wait_for_height(101).await?;
    alice.wait_for_height(101).await?;
    let alice_has = alice.wallet_balance().await?;
    narrator.check("Alice's wallet: one block reward", 5_000_000_000, alice_has);
    narrator.check("Bob's wallet", 0, bob.wallet_balance().await?);
    Ok(alice_has)
}

async fn open(narrator: &mut Narrator, nodes: &Nodes) -> Result<String, DemoError> {
    let Nodes { alice, bob } = nodes;
    narrator.step("Alice opens a channel of 1.0 to Bob and gives him half of it: 0.5 each");
    alice.connect(bob).await?;
    alice.open_channel(bob, CAPACITY, PUSHED).await?;
    mine_for_all(nodes, DEEP).await?;
    alice.wait_for_active_channels(1).await?;
    bob.wait_for_active_channels(1).await?;
    let channel = alice.only_channel().await?;
    narrator.say(&format!("channel {} with a delay of {} blocks", channel.channel_point, delay(&channel)));
    check_channel(narrator, nodes, CAPACITY - PUSHED, PUSHED).await?;
    Ok(channel.channel_point)
}

fn delay(channel: &leyden_proto::lnrpc::Channel) -> u32 {
    channel.remote_constraints.as_ref().map_or(0, |constraints| constraints.csv_delay)
}

async fn pay_both_ways(narrator: &mut Narrator, nodes: &Nodes) -> Result<(), DemoError> {
    let Nodes { alice, bob } = nodes;
    narrator.step("Alice pays Bob 0.1");
    let payment = alice.pay(bob.invoice(ALICE_PAYS, "a painting").await?).await?;
    narrator.require("the payment succeeded", succeeded(&payment));
    check_channel(narrator, nodes, CAPACITY - PUSHED - ALICE_PAYS, PUSHED + ALICE_PAYS).await?;

    narrator.step("Bob pays back 0.04");
    let payment = bob.pay(alice.invoice(BOB_PAYS_BACK, "change").await?).await?;
    narrator.require("the payment succeeded", succeeded(&payment));
    let bobs = PUSHED + ALICE_PAYS - BOB_PAYS_BACK;
    check_channel(narrator, nodes, CAPACITY - bobs, bobs).await?;
    Ok(())
}

/// Gives what Bob was paid in the burst.
async fn survive_a_kill(narrator: &mut Narrator, nodes: &mut Nodes) -> Result<i64, DemoError> {
    narrator.step(&format!(
        "Alice pays {BURST} invoices of {BURST_AMOUNT} sat at once; Bob's process is killed (SIGKILL) in the middle"
    ));
    let mut invoices = Vec::new();
    for number in 0..BURST {
        invoices.push(nodes.bob.invoice(BURST_AMOUNT, &format!("burst {number}")).await?);
    }
    let mut calls = JoinSet::new();
    for invoice in invoices {
        let mut router = nodes.alice.client()?.router();
        calls.spawn(async move {
            let request = leyden_proto::routerrpc::SendPaymentRequest {
                payment_request: invoice,
                timeout_seconds: 60,
                no_inflight_updates: true,
                ..Default::default()
            };
            let Ok(updates) = router.send_payment_v2(request).await else { return };
            let mut updates = updates.into_inner();
            while let Ok(Some(_)) = updates.message().await {}
        });
    }
    // In the middle: once the first few are through.
    let alice = &nodes.alice;
    wait_until("the first payments of the burst", || async {
        Ok(ended(alice, PaymentStatus::Succeeded).await? >= 2 + BURST / 10)
    })
    .await?;
    nodes.bob.kill();
    sleep(Duration::from_millis(300)).await;
    nodes.bob.start().await?;
    nodes.alice.wait_for_active_channels(1).await?;
    nodes.bob.wait_for_active_channels(1).await?;
    while calls.join_next().await.is_some() {}

    let (alice, bob) = (&nodes.alice, &nodes.bob);
    wait_until("all payments to end", || async { Ok(ended(alice, PaymentStatus::InFlight).await? == 0) }).await?;
    // Two payments were made before the burst by Alice and Bob: one of hers is among hers.
    let succeeded = ended(alice, PaymentStatus::Succeeded).await? - 1;
    let failed = ended(alice, PaymentStatus::Failed).await?;
    narrator.say(&format!("{succeeded} payments succeeded, {failed} failed; nobody lost anything:"));
    let settled = settled_invoices(bob).await? - 1;
    narrator.require("each payment that Alice has proof of is one that Bob was paid", settled == succeeded);
    let paid = BURST_AMOUNT * i64::try_from(succeeded).unwrap_or(i64::MAX);
    let bobs = PUSHED + ALICE_PAYS - BOB_PAYS_BACK + paid;
    check_channel(narrator, nodes, CAPACITY - bobs, bobs).await?;
    Ok(paid)
}

async fn ended(node: &DaemonProcess, status: PaymentStatus) -> Result<usize, ClusterError> {
    let request = ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
    let list = node.client()?.lightning().list_payments(request).await;
    let payments = list.map_err(|error| node.call_error(error))?.into_inner().payments;
    Ok(payments.iter().filter(|payment| payment.status() == status).count())
}

async fn settled_invoices(node: &DaemonProcess) -> Result<usize, ClusterError> {
    let request = ListInvoiceRequest { num_max_invoices: 10_000, ..ListInvoiceRequest::default() };
    let list = node.client()?.lightning().list_invoices(request).await;
    let invoices = list.map_err(|error| node.call_error(error))?.into_inner().invoices;
    Ok(invoices.iter().filter(|invoice| invoice.state() == InvoiceState::Settled).count())
}

async fn close(
    narrator: &mut Narrator,
    nodes: &Nodes,
    channel_point: &str,
    funded: i64,
    paid: i64,
) -> Result<(), DemoError> {
    let Nodes { alice, bob } = nodes;
    narrator.step("They close the channel together; the closing transaction is mined");
    alice.close_channel(channel_point, false).await?;
    wait_until("the channel to disappear from both lists", || async {
        Ok(alice.channels().await?.is_empty() && bob.channels().await?.is_empty())
    })
    .await?;
    mine_for_all(nodes, DEEP).await?;

    let bobs = PUSHED + ALICE_PAYS - BOB_PAYS_BACK + paid;
    let bob_has = settled_balance(bob, bobs).await?;
    narrator.check("Bob's wallet", bobs, bob_has);
    // Alice paid for the funding transaction, and as the opener for the closing one too.
    let (closing, closing_fee) = closing_fee(alice, channel_point).await?;
    let others = alice.transactions().await?.into_iter().filter(|transaction| transaction.tx_hash != closing);
    let funding_fee: i64 = others.map(|transaction| transaction.total_fees).sum();
    narrator.say(&format!("fees: {} for the funding, {} for the closing", coins(funding_fee), coins(closing_fee)));
    let alices = funded - bobs - funding_fee - closing_fee;
    let alice_has = settled_balance(alice, alices).await?;
    narrator.check("Alice's wallet", alices, alice_has);
    Ok(())
}

/// The transaction that spent the funding output, and what it paid to the miners.
async fn closing_fee(node: &DaemonProcess, channel_point: &str) -> Result<(String, i64), ClusterError> {
    use leyden_proto::leyden::GetTransactionRequest;

    for wallet_transaction in node.transactions().await? {
        let request = GetTransactionRequest { txid: wallet_transaction.tx_hash.clone() };
        let found = node.client()?.chain().get_transaction(request).await;
        let found = found.map_err(|status| node.call_error(status))?.into_inner();
        if found.inputs.iter().any(|input| input.outpoint == channel_point) {
            let out: u64 = found.outputs.iter().map(|output| output.amount_sat).sum();
            return Ok((wallet_transaction.tx_hash, CAPACITY - i64::try_from(out).unwrap_or(i64::MAX)));
        }
    }
    Err(ClusterError::Waited { what: "the closing transaction in the wallet".into() })
}

async fn mine_for_all(nodes: &Nodes, blocks: u32) -> Result<(), DemoError> {
    nodes.alice.mine(blocks, Some(NOBODY)).await?;
    let height = nodes.alice.height().await?;
    nodes.alice.wait_for_height(height).await?;
    nodes.bob.wait_for_height(height).await?;
    Ok(())
}

/// Both sides' views of the channel, once nothing is under way. The opener's balance is shown after the commitment's
/// fee and the two anchors, which come back with a cooperative close.
async fn check_channel(narrator: &mut Narrator, nodes: &Nodes, alices: i64, bobs: i64) -> Result<(), DemoError> {
    let Nodes { alice, bob } = nodes;
    wait_until("both sides to finish their updates", || async {
        let (a, b) = (alice.only_channel().await?, bob.only_channel().await?);
        Ok(a.pending_htlcs.is_empty()
            && b.pending_htlcs.is_empty()
            && a.local_balance == b.remote_balance
            && a.remote_balance == b.local_balance)
    })
    .await?;
    let channel = alice.only_channel().await?;
    let held = channel.capacity - channel.local_balance - channel.remote_balance;
    narrator.say(&format!("{} sat of Alice's are reserved for the commitment transaction's fee", held));
    narrator.check("Alice has in the channel", alices, channel.local_balance + held);
    narrator.check("Bob has in the channel", bobs, bob.only_channel().await?.local_balance);
    Ok(())
}
