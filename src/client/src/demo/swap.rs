//! The swap stories: coins of two networks, north and south, between two people with a daemon on each.
//!
//! - [`play`]: Alice gives 1 north for Bob's 10 south, as the seed of this project tells it. She locks 1, he locks 10 under
//!   the hash of her secret, she takes the 10 with it, he reads it from the chain and takes the 1.
//! - [`play_by_hand`]: the same, each step on command, with contracts and transactions as bytes.
//! - [`play_refund`]: Bob disappears, and after 48 hours Alice has her coin back.

use std::path::Path;

use bitcoin::{Transaction, consensus};
use leyden_proto::leyden::{
    ExtractSecretRequest, ListSwapsRequest, SwapAcceptRequest, SwapAuditRequest, SwapInfo, SwapInitiateRequest,
    SwapQuoteRequest, SwapRedeemRequest, SwapRequest,
};

use super::{
    DataFolder, DemoError, DemoOptions, Narrator,
    calls::{NOBODY, settled_balance},
    narrator::coins,
};
use crate::cluster::{ClusterError, DaemonProcess, wait_for};

/// Satoshi that Alice gives.
const GIVE: i64 = 100_000_000;
/// Satoshi that she gets.
const GET: i64 = 1_000_000_000;
/// What a block of either network creates.
const SUBSIDY: i64 = 5_000_000_000;
/// Blocks after which a reward can be spent.
const MATURE: u32 = 100;
/// Confirmations that a lock needs.
const DEPTH: u32 = 7;
/// Blocks whose median time is what it is now: half of eleven, and one.
const MEDIAN: u32 = 6;
/// Seconds until Alice's coin comes back, and an hour.
const AFTER_EXPIRY: u64 = 49 * 3_600;

/// A step on command.
enum Order {
    Participate,
    Redeem,
}

/// Two people with two daemons each.
struct Traders {
    alice: Person,
    bob: Person,
}

/// One person's daemons. Swaps are made at the one on north, which asks the one on south.
struct Person {
    north: DaemonProcess,
    south: DaemonProcess,
}

/// Plays the trade. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    run(options, async |narrator, traders| trade(narrator, traders).await).await
}

/// Plays the trade step by step, on command.
pub async fn play_by_hand(options: DemoOptions) -> Result<(), DemoError> {
    run(options, async |narrator, traders| by_hand(narrator, traders).await).await
}

/// Plays the trade that Bob walks away from.
pub async fn play_refund(options: DemoOptions) -> Result<(), DemoError> {
    run(options, async |narrator, traders| refund(narrator, traders).await).await
}

async fn run<F>(options: DemoOptions, story: F) -> Result<(), DemoError>
where
    F: AsyncFnOnce(&mut Narrator, &mut Traders) -> Result<(), DemoError>,
{
    let folder = DataFolder::new(options.folder)?;
    let mut narrator = Narrator::default();
    let mut traders = Traders::start(&mut narrator, folder.path()).await?;
    let result = story(&mut narrator, &mut traders).await;
    if options.keep {
        let folder = folder.keep();
        println!("\nThe nodes keep running in {}. Talk to them, for example:", folder.display());
        for node in traders.all() {
            println!("  leyden --data-dir {} swap list", node.data_dir().display());
            node.keep_running();
        }
        println!("Stop them with `leyden --data-dir … stop`.");
    }
    result?;
    narrator.finish()
}

async fn trade(narrator: &mut Narrator, traders: &mut Traders) -> Result<(), DemoError> {
    agree(narrator, traders, false).await?;
    let Traders { alice, bob } = traders;

    narrator.step("Alice's lock gets deep; Bob's daemon looks at it, and locks 10 south under the same hash");
    alice.phase("locking").await?;
    alice.mine_north(bob, DEPTH).await?;
    bob.phase("locking").await?;
    let locked = bob.swap().await?;
    narrator.say(&format!("Bob gets them back after 24 hours, Alice hers after 48: hash {}", hex::encode(&locked.id)));
    narrator.require("Bob does not know the secret", locked.secret.is_empty());

    narrator.step("Bob's lock gets deep; Alice takes the 10 south, and thereby shows the secret");
    bob.mine_south(alice, DEPTH).await?;
    alice.phase("redeeming").await?;
    narrator.say("Alice's daemon is killed right then (SIGKILL), and started again");
    alice.north.kill();
    alice.north.start().await?;
    bob.mine_south(alice, 1).await?;
    alice.phase("redeemed").await?;

    narrator.step("Bob reads the secret from the south chain, and takes the 1 north with it");
    bob.phase("redeeming").await?;
    alice.mine_north(bob, 1).await?;
    bob.phase("redeemed").await?;

    settle(narrator, alice, bob).await
}

async fn by_hand(narrator: &mut Narrator, traders: &mut Traders) -> Result<(), DemoError> {
    agree(narrator, traders, true).await?;
    let Traders { alice, bob } = traders;

    narrator.step("Bob has Alice's contract and her transaction as hex, and audits them before he locks");
    alice.phase("locking").await?;
    let give = alice.swap().await?.give.unwrap_or_default();
    let request = SwapAuditRequest { contract: give.contract, transaction: give.lock_transaction };
    let audit = bob.north.client()?.swap().audit(request.clone()).await;
    let audit = audit.map_err(|status| bob.north.call_error(status))?.into_inner();
    narrator.check("Alice's transaction locks", GIVE, audit.amount);
    let mut altered = request;
    altered.contract.truncate(altered.contract.len() - 1);
    narrator.require("an altered contract is none", bob.north.client()?.swap().audit(altered).await.is_err());
    alice.mine_north(bob, DEPTH).await?;
    let before = bob.swap().await?;
    narrator.require("without a command Bob locks nothing", before.give.unwrap_or_default().lock.is_empty());
    bob.order(Order::Participate).await?;
    bob.phase("locking").await?;

    narrator.step("Alice redeems on command, not before Bob's lock is deep");
    narrator.require("before that she is refused", alice.order(Order::Redeem).await.is_err());
    bob.mine_south(alice, DEPTH).await?;
    alice.phase("redeemable").await?;
    alice.order(Order::Redeem).await?;
    alice.phase("redeeming").await?;
    bob.mine_south(alice, 1).await?;

    narrator.step("Bob extracts the secret from her transaction, and redeems with it");
    let redeem = alice.swap().await?;
    let transaction = redeem.get.unwrap_or_default().claim_transaction;
    let request = ExtractSecretRequest { transaction, hash: redeem.id };
    let secret = bob.north.client()?.swap().extract_secret(request).await;
    let secret = secret.map_err(|status| bob.north.call_error(status))?.into_inner().secret;
    narrator.require("it is Alice's", secret == redeem.secret);
    bob.phase("redeemable").await?;
    bob.order(Order::Redeem).await?;
    bob.phase("redeeming").await?;
    alice.mine_north(bob, 1).await?;
    bob.phase("redeemed").await?;
    settle(narrator, alice, bob).await
}

/// Who has what, once both have redeemed.
async fn settle(narrator: &mut Narrator, alice: &Person, bob: &Person) -> Result<(), DemoError> {
    let (hers, his) = (alice.swap().await?, bob.swap().await?);
    narrator.say(&format!("secret {}", hex::encode(&his.secret)));
    narrator.require("both know the same secret", hers.secret == his.secret && !his.secret.is_empty());
    let (alices, bobs) = (Paid::of(&hers)?, Paid::of(&his)?);
    narrator.say(&format!(
        "fees: Alice {} and {}, Bob {} and {}",
        coins(SUBSIDY - GIVE - alices.change),
        coins(GET - alices.got),
        coins(SUBSIDY - GET - bobs.change),
        coins(GIVE - bobs.got)
    ));
    for (node, what, expected) in [
        (&alice.north, "Alice's north: 50 less 1 and the fee", alices.change),
        (&alice.south, "Alice's south: 10 less the fee", alices.got),
        (&bob.north, "Bob's north: 1 less the fee", bobs.got),
        (&bob.south, "Bob's south: 50 less 10 and the fee", bobs.change),
    ] {
        narrator.check(what, expected, settled_balance(node, expected).await?);
    }
    let small = |fee: i64| (1..10_000).contains(&fee);
    let fees = [SUBSIDY - GIVE - alices.change, GET - alices.got, SUBSIDY - GET - bobs.change, GIVE - bobs.got];
    narrator.require("nobody paid more than a fee for it", fees.into_iter().all(small));
    Ok(())
}

async fn refund(narrator: &mut Narrator, traders: &mut Traders) -> Result<(), DemoError> {
    agree(narrator, traders, false).await?;
    let Traders { alice, bob } = traders;
    alice.phase("locking").await?;

    narrator.step("Bob disappears; Alice's lock is in the chain, and nobody answers");
    bob.north.kill();
    bob.south.kill();
    alice.north.mine(DEPTH, Some(NOBODY)).await?;
    alice.phase("locked").await?;
    let locked = alice.swap().await?;
    let change = Paid::of(&locked)?.change;
    let left = settled_balance(&alice.north, change).await?;
    narrator.check("Alice's north, while 1 is locked", change, left);
    narrator.require(
        "her refund is signed already",
        locked.give.as_ref().is_some_and(|give| !give.refund_transaction.is_empty()),
    );

    narrator.step("48 hours later, after a restart, the median time of the chain is past the expiry");
    let shift = AFTER_EXPIRY.to_string();
    let south = alice.south.data_dir().display().to_string();
    alice.north.kill();
    alice.south.kill();
    let network = |name: &str, node: &DaemonProcess| network_file(node.data_dir(), name);
    let (north_file, south_file) = (network("north", &alice.north), network("south", &alice.south));
    alice.north.set_flags(&["--network", &north_file, "--swap-with", &south, "--regtest-clock-shift", &shift]);
    alice.south.set_flags(&["--network", &south_file, "--regtest-clock-shift", &shift]);
    alice.south.start().await?;
    alice.north.start().await?;
    let refund = alice.swap().await?;
    narrator.require("before that nothing is taken back", refund.phase == "locked");
    alice.south.mine(MEDIAN, Some(NOBODY)).await?;
    alice.north.mine(MEDIAN, Some(NOBODY)).await?;
    alice.phase("refunding").await?;
    alice.north.mine(1, Some(NOBODY)).await?;
    alice.phase("refunded").await?;

    let refunded = alice.swap().await?;
    let claim = decoded(&refunded.give.unwrap_or_default().claim_transaction)?;
    let back = value(&claim);
    narrator.say(&format!("fees: {} to lock, {} to take it back", coins(SUBSIDY - GIVE - change), coins(GIVE - back)));
    narrator.check(
        "Alice's north: 50 less two fees",
        change + back,
        settled_balance(&alice.north, change + back).await?,
    );
    narrator.require("the secret was never shown", refunded.secret.is_empty());
    Ok(())
}

/// Up to Alice's lock.
async fn agree(narrator: &mut Narrator, Traders { alice, bob }: &mut Traders, by_hand: bool) -> Result<(), DemoError> {
    narrator.step("Alice offers 1 north for 10 south; Bob looks at the offer and accepts it; nothing is locked yet");
    let quote = SwapQuoteRequest { give: GIVE, get: GET, depth: DEPTH, by_hand, ..SwapQuoteRequest::default() };
    let quoted = alice.north.client()?.swap().quote(quote).await;
    let offer = quoted.map_err(|status| alice.north.call_error(status))?.into_inner().offer;
    let right = SwapAcceptRequest {
        offer,
        give: GET,
        get: GIVE,
        give_other: true,
        depth: DEPTH,
        by_hand,
        ..Default::default()
    };
    let turned = SwapAcceptRequest { give_other: false, ..right.clone() };
    let refused = bob.north.client()?.swap().accept(turned).await.err();
    narrator.require(
        "Bob's daemon refuses it if he means to give north",
        refused.is_some_and(|status| status.message().contains("the other way round")),
    );
    let greedy = SwapAcceptRequest { give: GET / 2, ..right.clone() };
    let refused = bob.north.client()?.swap().accept(greedy).await;
    narrator.require("Bob's daemon refuses an offer that asks for more than he means to give", refused.is_err());
    let accepted = bob.north.client()?.swap().accept(right).await;
    let acceptance = accepted.map_err(|status| bob.north.call_error(status))?.into_inner().acceptance;
    narrator.check("Alice's north wallet", SUBSIDY, alice.north.wallet_balance().await?);
    narrator.check("Bob's south wallet", SUBSIDY, bob.south.wallet_balance().await?);

    narrator.step("Alice makes X and locks 1 north: Bob's with X, hers again after 48 hours");
    let initiated = alice.north.client()?.swap().initiate(SwapInitiateRequest { acceptance }).await;
    initiated.map_err(|status| alice.north.call_error(status))?;
    Ok(())
}

impl Traders {
    async fn start(narrator: &mut Narrator, folder: &Path) -> Result<Self, DemoError> {
        narrator.step("Two networks, north and south; Alice and Bob start a daemon on each, and mine 50 coins");
        std::fs::create_dir_all(folder).map_err(DemoError::Folder)?;
        for name in ["north", "south"] {
            let magic = if name == "north" { "6e6f7274" } else { "736f7574" };
            let file = format!(
                "name = \"{name}\"\nmagic = \"{magic}\"\nspacing = 600\n\n[genesis]\nmessage = \"the {name} chain\"\ntime = 1700000000\n"
            );
            std::fs::write(folder.join(format!("{name}.toml")), file).map_err(DemoError::Folder)?;
        }
        let alice = Person::start(folder, "alice", None).await?;
        let bob = Person::start(folder, "bob", Some(&alice)).await?;
        for (miner, other) in [(&alice.north, &bob.north), (&bob.south, &alice.south)] {
            miner.mine(1, None).await?;
            miner.mine(MATURE, Some(NOBODY)).await?;
            other.wait_for_height(miner.height().await?).await?;
        }
        Ok(Self { alice, bob })
    }

    fn all(&mut self) -> [&mut DaemonProcess; 4] {
        [&mut self.alice.north, &mut self.alice.south, &mut self.bob.north, &mut self.bob.south]
    }
}

/// Beside the daemons' own folders.
fn network_file(data_dir: &Path, name: &str) -> String {
    data_dir.with_file_name(format!("{name}.toml")).display().to_string()
}

impl Person {
    async fn start(folder: &Path, name: &str, others: Option<&Self>) -> Result<Self, ClusterError> {
        let south_name = format!("{name}-south");
        let south_dir = folder.join(&south_name).display().to_string();
        let file = |name: &str| folder.join(format!("{name}.toml")).display().to_string();
        let (north_file, south_file) = (file("north"), file("south"));
        let mut north = vec!["--network", &north_file, "--swap-with", &south_dir];
        let mut south = vec!["--network", &south_file];
        let addresses = match others {
            Some(others) => Some((others.north.chain_address()?, others.south.chain_address()?)),
            None => None,
        };
        if let Some((north_address, south_address)) = &addresses {
            north.extend(["--chain-connect", north_address]);
            south.extend(["--chain-connect", south_address]);
        }
        let mut south = DaemonProcess::new(folder, &south_name, &south)?;
        let mut north = DaemonProcess::new(folder, &format!("{name}-north"), &north)?;
        south.start().await?;
        north.start().await?;
        Ok(Self { north, south })
    }

    /// Blocks of north that the other sees, too.
    async fn mine_north(&self, other: &Self, blocks: u32) -> Result<(), ClusterError> {
        mine(&self.north, &other.north, blocks).await
    }

    async fn mine_south(&self, other: &Self, blocks: u32) -> Result<(), ClusterError> {
        mine(&self.south, &other.south, blocks).await
    }

    async fn swap(&self) -> Result<SwapInfo, ClusterError> {
        let list = self.north.client()?.swap().list(ListSwapsRequest {}).await;
        let list = list.map_err(|status| self.north.call_error(status))?.into_inner();
        list.swaps.into_iter().next().ok_or_else(|| ClusterError::Waited { what: "a swap".to_owned() })
    }

    async fn order(&self, order: Order) -> Result<SwapInfo, ClusterError> {
        let request = SwapRequest { id: self.swap().await?.id };
        let mut client = self.north.client()?.swap();
        let answer = match order {
            Order::Participate => client.participate(request).await,
            Order::Redeem => client.redeem(SwapRedeemRequest { id: request.id, secret: Vec::new() }).await,
        };
        answer.map(tonic::Response::into_inner).map_err(|status| self.north.call_error(status))
    }

    /// Waits until the swap is there.
    async fn phase(&self, phase: &str) -> Result<(), ClusterError> {
        let what = format!("the swap of {} to be {phase}", self.north.name());
        wait_for(&what, || async { Ok((self.swap().await?.phase == phase).then_some(())) }).await
    }
}

/// Whatever waits is in the miner's mempool first: what is sent by the other's daemon has to travel.
async fn mine(miner: &DaemonProcess, other: &DaemonProcess, blocks: u32) -> Result<(), ClusterError> {
    wait_for("a transaction of the swap to be in the miner's mempool", || async {
        let list = miner.client()?.chain().get_mempool(leyden_proto::leyden::GetMempoolRequest::default()).await;
        let mempool = list.map_err(|status| miner.call_error(status))?.into_inner();
        Ok((mempool.transaction_count > 0).then_some(()))
    })
    .await?;
    miner.mine(blocks, Some(NOBODY)).await?;
    other.wait_for_height(miner.height().await?).await
}

/// What somebody's transactions left them with.
struct Paid {
    /// Of the lock.
    change: i64,
    /// By the redeem.
    got: i64,
}

impl Paid {
    fn of(swap: &SwapInfo) -> Result<Self, DemoError> {
        let (give, get) = (swap.give.clone().unwrap_or_default(), swap.get.clone().unwrap_or_default());
        let lock = decoded(&give.lock_transaction)?;
        let got = if get.claim_transaction.is_empty() { 0 } else { value(&decoded(&get.claim_transaction)?) };
        Ok(Self { change: value(&lock) - give.amount, got })
    }
}

fn decoded(bytes: &[u8]) -> Result<Transaction, DemoError> {
    consensus::deserialize(bytes).map_err(|error| DemoError::Story(format!("a transaction cannot be read: {error}")))
}

/// What its outputs are worth together.
fn value(transaction: &Transaction) -> i64 {
    let sum: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
    i64::try_from(sum).unwrap_or(i64::MAX)
}
