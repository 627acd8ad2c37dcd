//! The Lightning paper's payment: Alice pays Dave 0.05 over Bob and Carol, who keep 0.001 each; the locks end three, two
//! and one days from now.

use std::path::Path;

use leyden_proto::lnrpc::{Invoice, Payment};

use super::{
    DemoError, DemoOptions, Narrator,
    calls::{NOBODY, succeeded},
    narrator::coins,
};
use crate::cluster::{ClusterError, DaemonProcess, wait_until};

const CAPACITY: i64 = 100_000_000;
const AMOUNT: i64 = 5_000_000;
/// What Bob and Carol keep each, in msat.
const FEE_MSAT: &str = "100000000";
const FEE: i64 = 100_000;
/// A day of blocks.
const DAY: &str = "144";
const DAY_BLOCKS: u32 = 144;
/// Blocks after which a channel is told to the network.
const DEEP: u32 = 6;

/// Plays the story. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    let temporary = tempfile::Builder::new().prefix("leyden-demo-").tempdir().map_err(DemoError::Folder)?;
    let folder = options.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mut narrator = Narrator::default();
    let mut nodes = start(&mut narrator, &folder).await?;
    let result = tell(&mut narrator, &nodes).await;
    if options.keep {
        // The folder has to outlive this process.
        let folder = temporary.keep();
        println!("\nThe nodes keep running in {}. Talk to them, for example:", folder.display());
        for node in &mut nodes {
            println!("  leyden --data-dir {} getinfo", node.data_dir().display());
            node.keep_running();
        }
        println!("Stop them with `leyden --data-dir … stop`.");
    }
    result?;
    narrator.finish()
}

type Nodes = [DaemonProcess; 4];

async fn start(narrator: &mut Narrator, folder: &Path) -> Result<Nodes, DemoError> {
    narrator.step("Alice, Bob, Carol and Dave each start a daemon; Bob and Carol ask 0.001 and a day for forwarding");
    let terms = ["--base-fee-msat", FEE_MSAT, "--fee-rate-ppm", "0", "--time-lock-delta", DAY];
    let mut alice = DaemonProcess::new(folder, "alice", &[])?;
    alice.start().await?;
    let chain = alice.chain_address()?;
    let with_terms: Vec<&str> = terms.iter().copied().chain(["--chain-connect", &chain]).collect();
    let mut bob = DaemonProcess::new(folder, "bob", &with_terms)?;
    let mut carol = DaemonProcess::new(folder, "carol", &with_terms)?;
    let mut dave = DaemonProcess::new(folder, "dave", &["--chain-connect", &chain])?;
    for node in [&mut bob, &mut carol, &mut dave] {
        node.start().await?;
    }
    Ok([alice, bob, carol, dave])
}

async fn tell(narrator: &mut Narrator, nodes: &Nodes) -> Result<(), DemoError> {
    let [alice, bob, carol, dave] = nodes;
    narrator.step(
        "Alice mines coins for Bob, Carol and herself; each opens a channel of 1.0 to the next, half of it given",
    );
    for node in [alice, bob, carol] {
        let address = node.new_address().await?;
        alice.mine(1, Some(&address)).await?;
    }
    mine_for_all(nodes, 100).await?;
    for (from, to) in [(alice, bob), (bob, carol), (carol, dave)] {
        from.connect(to).await?;
        from.open_channel(to, CAPACITY, CAPACITY / 2).await?;
    }
    wait_until("the funding transactions to reach Alice, who mines", || async {
        let info = leyden_proto::leyden::GetMempoolRequest { include_transactions: false };
        let pool = alice.client()?.chain().get_mempool(info).await.map_err(|status| alice.call_error(status))?;
        Ok(pool.into_inner().transaction_count >= 3)
    })
    .await?;
    mine_for_all(nodes, DEEP).await?;
    for (node, channels) in [(alice, 1), (bob, 2), (carol, 2), (dave, 1)] {
        node.wait_for_active_channels(channels).await?;
    }
    let before = balances(nodes).await?;

    narrator.step("Dave asks for 0.05; Alice knows only her channel to Bob and what gossip tells her");
    let payment = pay(alice, dave).await?;
    narrator.require("the payment succeeded", succeeded(&payment));
    let tip = i64::from(alice.height().await?);
    let route = payment.htlcs.iter().rev().find_map(|attempt| attempt.route.clone()).unwrap_or_default();
    let mut amounts = vec![(route.total_amt_msat, i64::from(route.total_time_lock))];
    amounts.extend(route.hops.iter().map(|hop| (hop.amt_to_forward_msat, i64::from(hop.expiry))));
    let expected = [
        ("Alice to Bob", AMOUNT + 2 * FEE, 3 * DAY_BLOCKS),
        ("Bob to Carol", AMOUNT + FEE, 2 * DAY_BLOCKS),
        ("Carol to Dave", AMOUNT, DAY_BLOCKS),
    ];
    for ((who, amount, blocks), (offered, expiry)) in expected.into_iter().zip(amounts) {
        narrator.say(&format!(
            "{who}: {} until block {expiry}, {} blocks from now",
            coins(offered / 1000),
            expiry - tip
        ));
        narrator.check(&format!("{who} offers"), amount, offered / 1000);
        narrator.require(&format!("{who}: the lock ends after {blocks} blocks"), expiry - tip == i64::from(blocks));
    }

    narrator.step("Afterwards Dave has 0.05 more, Bob and Carol 0.001 each, and Alice 0.052 less");
    let after = balances(nodes).await?;
    let gains = [-(AMOUNT + 2 * FEE), FEE, FEE, AMOUNT];
    for (((node, gain), before), after) in nodes.iter().zip(gains).zip(before).zip(after) {
        narrator.check(&format!("{} has in channels", node.name()), before + gain, after);
    }
    Ok(())
}

/// Until gossip has told Alice of the channels.
async fn pay(alice: &DaemonProcess, dave: &DaemonProcess) -> Result<Payment, ClusterError> {
    let request = Invoice { value: AMOUNT, cltv_expiry: u64::from(DAY_BLOCKS), ..Invoice::default() };
    let added = dave.client()?.lightning().add_invoice(request).await.map_err(|status| dave.call_error(status))?;
    let payment_request = added.into_inner().payment_request;
    for _ in 0..120 {
        let payment = alice.pay_within(payment_request.clone(), 3 * DAY_BLOCKS as i32).await?;
        if succeeded(&payment) {
            return Ok(payment);
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    Err(ClusterError::Waited { what: "a way from Alice to Dave".into() })
}

async fn mine_for_all(nodes: &Nodes, blocks: u32) -> Result<(), ClusterError> {
    let [alice, ..] = nodes;
    alice.mine(blocks, Some(NOBODY)).await?;
    let height = alice.height().await?;
    for node in nodes {
        node.wait_for_height(height).await?;
    }
    Ok(())
}

/// What each has in its channels, once nothing is under way.
async fn balances(nodes: &Nodes) -> Result<Vec<i64>, ClusterError> {
    let mut balances = Vec::new();
    for node in nodes {
        wait_until("the updates of the channels to end", || async {
            Ok(node.channels().await?.iter().all(|channel| channel.pending_htlcs.is_empty()))
        })
        .await?;
        balances.push(node.channels().await?.iter().map(|channel| channel.local_balance).sum());
    }
    Ok(balances)
}
