//! The submarine story across two networks: coins on north for a Lightning payment on south, and back. Alice and Bob each have one
//! daemon that holds both networks, and a channel between them on south.
//!
//! 1. In: Alice locks coins on north, Bob pays her invoice on south and takes them. Her daemon is killed right after the lock.
//! 2. Out: Alice pays an invoice on south that Bob holds, he locks coins on north, she takes them, which pays him. His daemon is
//!    killed while the payment is held.

use std::path::Path;

use leyden_proto::leyden::{SubmarineAcceptRequest, SubmarineQuoteRequest};

use super::{
    DataFolder, DemoError, DemoOptions, Narrator,
    calls::NOBODY,
    submarine::{accepted, initiate, last, local, paid, phase, quoted},
};
use crate::cluster::{ClusterError, DaemonProcess, wait_until};

/// Satoshi on north, in.
const COINS: i64 = 10_000_000;
/// Satoshi on south, in: ten for one, and what is less is Bob's for his trouble.
const IN_PAYMENT: i64 = 99_500_000;
/// Satoshi on south, out.
const OUT_PAYMENT: i64 = 60_300_000;
/// What Bob gives on north for that.
const OUT_COINS: i64 = 6_000_000;
/// In the channel on south; half of it is Alice's.
const CAPACITY: i64 = 400_000_000;
/// Blocks after which a reward can be spent.
const MATURE: u32 = 100;
/// Blocks that make a funding transaction final for both.
const DEEP: u32 = 6;
/// Confirmations that a lock needs.
const DEPTH: u32 = 3;

/// One person's daemon, on each of its networks.
struct Person {
    north: DaemonProcess,
    south: DaemonProcess,
}

impl Person {
    async fn start(folder: &Path, name: &str, flags: &[&str]) -> Result<Self, DemoError> {
        let mut north = DaemonProcess::new(folder, name, flags)?;
        north.start().await?;
        let south = north.on_second(&format!("{name}-south"))?;
        Ok(Self { north, south })
    }

    /// Killed (SIGKILL), and started again.
    async fn dies(&mut self) -> Result<(), DemoError> {
        self.north.kill();
        self.north.start().await?;
        self.south = self.north.on_second(self.south.name())?;
        Ok(())
    }
}

/// Plays it. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    let folder = DataFolder::new(options.folder)?;
    let mut narrator = Narrator::default();
    let (mut alice, mut bob) = begin(&mut narrator, folder.path()).await?;
    let result = tell(&mut narrator, &mut alice, &mut bob).await;
    if options.keep {
        let folder = folder.keep();
        println!("\nThe nodes keep running in {}. Talk to them, for example:", folder.display());
        println!("  leyden --data-dir {} --network south swap list", alice.north.data_dir().display());
        for node in [&mut alice.north, &mut bob.north] {
            node.keep_running();
        }
        println!("Stop them with `leyden --data-dir … stop`.");
    }
    result?;
    narrator.finish()
}

async fn begin(narrator: &mut Narrator, folder: &Path) -> Result<(Person, Person), DemoError> {
    narrator.step("Two networks; Alice and Bob each have one daemon that holds both, and a channel on south");
    std::fs::create_dir_all(folder).map_err(DemoError::Folder)?;
    let file = |name: &str| folder.join(format!("{name}.toml")).display().to_string();
    for (name, magic) in [("north", "6e6f7274"), ("south", "736f7574")] {
        let text = format!(
            "name = \"{name}\"\nmagic = \"{magic}\"\nspacing = 600\n\n[genesis]\nmessage = \"the {name} chain\"\ntime = 1700000000\n"
        );
        std::fs::write(folder.join(format!("{name}.toml")), text).map_err(DemoError::Folder)?;
    }
    let (north, south) = (file("north"), file("south"));
    let both = ["--network", north.as_str(), "--also", south.as_str()];
    let alice = Person::start(folder, "alice", &both).await?;
    let (to_north, to_south) = (alice.north.chain_address()?, alice.south.chain_address()?);
    let beside = ["--chain-connect", to_north.as_str(), "--also-chain-connect", to_south.as_str()];
    let bob = Person::start(folder, "bob", &[both, beside].concat()).await?;
    for (miner, other) in [(&alice.north, &bob.north), (&bob.south, &alice.south)] {
        miner.mine(1, None).await?;
        mine(miner, other, MATURE).await?;
    }
    bob.south.connect(&alice.south).await?;
    bob.south.open_channel(&alice.south, CAPACITY, CAPACITY / 2).await?;
    mine(&bob.south, &alice.south, DEEP).await?;
    wait_for_channel(&alice, &bob).await?;
    Ok((alice, bob))
}

async fn tell(narrator: &mut Narrator, alice: &mut Person, bob: &mut Person) -> Result<(), DemoError> {
    let (hers, his) = (local(&alice.south).await?, local(&bob.south).await?);
    let (on_north, bobs) = (alice.north.wallet_balance().await?, bob.north.wallet_balance().await?);
    let heights = alice.south.height().await?;

    narrator
        .step("In: Alice offers 0.1 of north for 0.995 over Lightning on south; Bob accepts; nothing is locked yet");
    let coins_on = "north".to_owned();
    let quote = SubmarineQuoteRequest {
        coins: COINS,
        payment: IN_PAYMENT,
        depth: DEPTH,
        coins_on: coins_on.clone(),
        ..Default::default()
    };
    let offer = quoted(&alice.south, quote).await?;
    let believed = SubmarineAcceptRequest {
        pays: true,
        coins: COINS,
        payment: IN_PAYMENT,
        depth: DEPTH,
        coins_on: coins_on.clone(),
        ..Default::default()
    };
    let elsewhere = SubmarineAcceptRequest { coins_on: String::new(), ..believed.clone() };
    narrator.require(
        "Bob refuses an offer whose coins are on another network than he says",
        accepted(&bob.south, &offer, elsewhere).await.is_err(),
    );
    let acceptance = accepted(&bob.south, &offer, believed).await?;

    narrator.step("Alice locks 0.1 on north, and her daemon is killed (SIGKILL) and started again");
    initiate(&alice.south, acceptance).await?;
    phase(&alice.south, "locking").await?;
    alice.dies().await?;
    wait_for_channel(alice, bob).await?;
    seen_by_both(alice, bob).await?;
    narrator.require("Bob has paid nothing for a lock that no block has", last(&bob.south).await?.phase == "accepted");
    mine(&alice.north, &bob.north, DEPTH).await?;

    narrator
        .step("The lock is deep: Bob pays on south, and takes the coins on north with what his payment was taken with");
    phase(&bob.south, "redeeming").await?;
    phase(&alice.south, "settled").await?;
    seen_by_both(alice, bob).await?;
    mine(&alice.north, &bob.north, 1).await?;
    phase(&bob.south, "redeemed").await?;
    narrator.check("Alice's side of the channel on south", hers + IN_PAYMENT, local(&alice.south).await?);
    narrator.check("Bob's side of the channel on south", his - IN_PAYMENT, local(&bob.south).await?);
    let (after, bobs_after) = (alice.north.wallet_balance().await?, bob.north.wallet_balance().await?);
    paid(narrator, "Alice's wallet on north: 0.1 less, and a fee", on_north - COINS, after);
    paid(narrator, "Bob's wallet on north: 0.1 more, less a fee", bobs + COINS, bobs_after);

    narrator.step(
        "Out: Alice offers 0.603 over Lightning on south for 0.06 of north; Bob accepts with an invoice that he holds",
    );
    let quote = SubmarineQuoteRequest {
        out: true,
        coins: OUT_COINS,
        payment: OUT_PAYMENT,
        depth: DEPTH,
        coins_on: coins_on.clone(),
        ..Default::default()
    };
    let offer = quoted(&alice.south, quote).await?;
    let believed =
        SubmarineAcceptRequest { coins: OUT_COINS, payment: OUT_PAYMENT, depth: DEPTH, coins_on, ..Default::default() };
    let acceptance = accepted(&bob.south, &offer, believed).await?;
    initiate(&alice.south, acceptance).await?;
    phase(&bob.south, "locking").await?;
    let held = last(&bob.south).await?;
    narrator.require(
        "Alice's payment on south is held when Bob locks on north",
        held.get.as_ref().is_some_and(|leg| leg.payment_state == "held" && leg.network == "south")
            && held.give.as_ref().is_some_and(|leg| leg.network == "north"),
    );
    narrator.require("Bob does not know the secret", held.secret.is_empty());

    narrator.step("Bob's daemon is killed (SIGKILL) and started again; his lock gets deep, and Alice takes the coins");
    bob.dies().await?;
    wait_for_channel(alice, bob).await?;
    seen_by_both(alice, bob).await?;
    mine(&alice.north, &bob.north, DEPTH).await?;
    phase(&alice.south, "redeeming").await?;
    phase(&bob.south, "settled").await?;
    seen_by_both(alice, bob).await?;
    mine(&alice.north, &bob.north, 1).await?;
    phase(&alice.south, "redeemed").await?;
    let moved = IN_PAYMENT - OUT_PAYMENT;
    narrator.check("Alice's side of the channel on south", hers + moved, local(&alice.south).await?);
    narrator.check("Bob's side of the channel on south", his - moved, local(&bob.south).await?);
    let (end, bobs_end) = (alice.north.wallet_balance().await?, bob.north.wallet_balance().await?);
    paid(narrator, "Alice's wallet on north: 0.06 more, less a fee", after + OUT_COINS, end);
    paid(narrator, "Bob's wallet on north: 0.06 less, and a fee", bobs_after - OUT_COINS, bobs_end);
    narrator.require("no block was found on south meanwhile", alice.south.height().await? == heights);
    Ok(())
}

async fn mine(miner: &DaemonProcess, other: &DaemonProcess, blocks: u32) -> Result<(), ClusterError> {
    miner.mine(blocks, Some(NOBODY)).await?;
    other.wait_for_height(miner.height().await?).await
}

async fn wait_for_channel(alice: &Person, bob: &Person) -> Result<(), ClusterError> {
    alice.south.wait_for_active_channels(1).await?;
    bob.south.wait_for_active_channels(1).await
}

/// Whatever waits for a block of north is in both mempools.
async fn seen_by_both(alice: &Person, bob: &Person) -> Result<(), ClusterError> {
    wait_until("a transaction of the swap to be in both mempools", || async {
        let (alices, bobs) = (alice.north.waiting_txids().await?, bob.north.waiting_txids().await?);
        Ok(!alices.is_empty() && alices == bobs)
    })
    .await
}
