//! What the stories about closing have in common: two nodes, a channel with half of it on each side, and a burst of
//! payments in both directions in the middle of which Bob's process is killed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{
    DataFolder, DemoError, DemoOptions, Narrator,
    calls::{NOBODY, Paid, settled_balance},
    ledger::Ledger,
    narrator::coins,
};
use crate::cluster::{ClusterError, DaemonProcess, wait_until};

/// Satoshi in the channel.
pub const CAPACITY: i64 = 100_000_000;
/// Satoshi that Alice gives to Bob at the opening.
pub const PUSHED: i64 = 50_000_000;
/// Blocks that make a funding transaction final for both.
pub const DEEP: u32 = 6;
/// Blocks after which the spend of an output of a closed channel is final (BOLT 5).
pub const FINAL: u32 = 100;
const BURST: usize = 40;
const BURST_AMOUNT: i64 = 50_000;
/// Time for HTLCs of a burst to be seen.
const BURST_LIMIT: Duration = Duration::from_secs(3);
/// Bursts that are tried until a kill leaves HTLCs of both directions.
const TRIES: usize = 20;

/// Two daemons with one channel, which Alice opens.
pub struct Stage {
    /// Opens the channel.
    pub alice: DaemonProcess,
    /// Accepts it.
    pub bob: DaemonProcess,
}

/// Whose commitment a burst is to leave HTLCs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one that Alice may broadcast.
    Alice,
    /// The one that Bob may broadcast.
    Bob,
}

/// HTLCs of a commitment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// By the owner of the commitment.
    pub offered: usize,
    /// By the other side.
    pub received: usize,
}

impl InFlight {
    fn both_directions(self) -> bool {
        self.offered > 0 && self.received > 0
    }
}

impl Stage {
    /// Runs a story with two fresh nodes.
    pub async fn play<F>(options: DemoOptions, story: F) -> Result<(), DemoError>
    where
        F: AsyncFnOnce(&mut Narrator, &mut Stage, &Path) -> Result<(), DemoError>,
    {
        let folder = DataFolder::new(options.folder)?;
        let mut narrator = Narrator::default();
        let mut stage = Self::start(&mut narrator, folder.path()).await?;
        let result = story(&mut narrator, &mut stage, folder.path()).await;
        if options.keep {
            let folder = folder.keep();
            println!("\nThe nodes keep running in {}. Talk to them, for example:", folder.display());
            for node in [&mut stage.alice, &mut stage.bob] {
                println!("  leyden --data-dir {} pendingchannels", node.data_dir().display());
                node.keep_running();
            }
            println!("Stop them with `leyden --data-dir … stop`.");
        }
        result?;
        narrator.finish()
    }

    async fn start(narrator: &mut Narrator, folder: &Path) -> Result<Self, DemoError> {
        narrator.step("Alice and Bob start a daemon each; Alice mines coins for both");
        let mut alice = DaemonProcess::new(folder, "alice", &[])?;
        alice.start().await?;
        let mut bob = DaemonProcess::new(folder, "bob", &["--chain-connect", &alice.chain_address()?])?;
        bob.start().await?;
        let stage = Self { alice, bob };
        stage.alice.mine(1, None).await?;
        stage.alice.mine(1, Some(&stage.bob.new_address().await?)).await?;
        stage.mine(FINAL).await?;
        narrator.check("Alice's wallet", 5_000_000_000, stage.alice.wallet_balance().await?);
        narrator.check("Bob's wallet", 5_000_000_000, stage.bob.wallet_balance().await?);
        Ok(stage)
    }

    /// Gives the channel point.
    pub async fn open(&self, narrator: &mut Narrator) -> Result<String, DemoError> {
        narrator.step("Alice opens a channel of 1.0 to Bob and gives him half of it: 0.5 each");
        self.alice.connect(&self.bob).await?;
        self.alice.open_channel(&self.bob, CAPACITY, PUSHED).await?;
        self.mine(DEEP).await?;
        self.wait_for_channel().await?;
        let channel = self.alice.only_channel().await?;
        let delay = channel.remote_constraints.as_ref().map_or(0, |constraints| constraints.csv_delay);
        narrator.say(&format!("channel {}; who closes alone waits {delay} blocks for his part", channel.channel_point));
        Ok(channel.channel_point)
    }

    /// Waits until both can use the channel.
    pub async fn wait_for_channel(&self) -> Result<(), ClusterError> {
        self.alice.wait_for_active_channels(1).await?;
        self.bob.wait_for_active_channels(1).await
    }

    /// Mines for nobody, and waits until both have seen it.
    pub async fn mine(&self, blocks: u32) -> Result<(), ClusterError> {
        self.alice.mine(blocks, Some(NOBODY)).await?;
        let height = self.alice.height().await?;
        self.alice.wait_for_height(height).await?;
        self.bob.wait_for_height(height).await
    }

    /// Time for what a block led to: claims reach the other node's mempool. A node tells its peers of transactions after
    /// a moment of chance, so both are asked; where they hold rivals for one output they never agree, and that is fine.
    pub async fn pause(&self) {
        sleep(Duration::from_millis(150)).await;
        for _ in 0..40 {
            let (alices, bobs) = (self.alice.waiting_txids().await, self.bob.waiting_txids().await);
            if matches!((alices, bobs), (Ok(alices), Ok(bobs)) if alices == bobs) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets both pay each other, and kills Bob's process while payments of both directions are under way in the
    /// commitment of one of them. Bob stays away.
    pub async fn burst(&mut self, narrator: &mut Narrator, whose: Whose) -> Result<(), DemoError> {
        narrator.step(&format!(
            "Both pay {BURST} invoices of {} at once; Bob's process is killed (SIGKILL) in the middle",
            coins(BURST_AMOUNT)
        ));
        for attempt in 0..TRIES {
            let mut calls = JoinSet::new();
            let (mut alices, mut bobs) = (Vec::new(), Vec::new());
            for number in 0..BURST {
                alices.push(self.alice.invoice(BURST_AMOUNT, &format!("to Alice {attempt}/{number}")).await?);
                bobs.push(self.bob.invoice(BURST_AMOUNT, &format!("to Bob {attempt}/{number}")).await?);
            }
            self.alice.pay_all(bobs, &mut calls)?;
            self.bob.pay_all(alices, &mut calls)?;
            self.wait_for_both_directions(whose).await?;
            self.bob.kill();
            // Alice takes note of it.
            let alice = &self.alice;
            wait_until("Alice to miss Bob", || async { Ok(!alice.only_channel().await?.active) }).await?;
            let (who, in_flight) = match whose {
                Whose::Alice => ("Alice", in_flight(&self.alice).await?),
                Whose::Bob => ("Bob", self.bobs_state().await?),
            };
            if in_flight.both_directions() {
                let InFlight { offered, received } = in_flight;
                narrator.say(&format!(
                    "{who}'s commitment holds {offered} HTLCs of {who}'s own and {received} of the other's"
                ));
                return Ok(());
            }
            self.bob_comes_back().await?;
            while calls.join_next().await.is_some() {}
            self.wait_for_payments().await?;
        }
        Err(DemoError::Story(format!("{TRIES} kills left no HTLCs in flight in both directions")))
    }

    /// Until the commitment of one of them holds HTLCs of both directions, or all payments are over before that is seen.
    async fn wait_for_both_directions(&self, whose: Whose) -> Result<(), ClusterError> {
        let node = match whose {
            Whose::Alice => &self.alice,
            Whose::Bob => &self.bob,
        };
        let begun = Instant::now();
        while begun.elapsed() < BURST_LIMIT && !in_flight(node).await?.both_directions() {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// What Bob's commitment holds: his node is asked where nobody reaches it.
    async fn bobs_state(&mut self) -> Result<InFlight, ClusterError> {
        self.bob.forget_addresses();
        self.bob.start().await?;
        let state = in_flight(&self.bob).await;
        self.bob.kill();
        state
    }

    /// Starts Bob again, connects Alice to him, and waits for the channel.
    pub async fn bob_comes_back(&mut self) -> Result<(), ClusterError> {
        self.bob.start().await?;
        self.alice.connect(&self.bob).await?;
        self.wait_for_channel().await
    }

    /// Until no payment is under way any more.
    pub async fn wait_for_payments(&self) -> Result<(), ClusterError> {
        wait_until("all payments to end", || async { Ok(!self.has_payments_in_flight().await?) }).await
    }

    /// Whether one of them has payments that have not ended.
    pub async fn has_payments_in_flight(&self) -> Result<bool, ClusterError> {
        Ok(self.alice.paid().await?.in_flight > 0 || self.bob.paid().await?.in_flight > 0)
    }
}

/// The HTLCs of a node's one channel, as it sees them.
pub async fn in_flight(node: &DaemonProcess) -> Result<InFlight, ClusterError> {
    let htlcs = node.only_channel().await?.pending_htlcs;
    let received = htlcs.iter().filter(|htlc| htlc.incoming).count();
    Ok(InFlight { offered: htlcs.len() - received, received })
}

/// One side's money before a close, to be compared with what it has in the end.
pub struct Share {
    /// In the wallet before the close.
    pub wallet: i64,
    /// In the channel when it was opened.
    opened_with: i64,
}

impl Share {
    /// Looks at the wallet now; `opened_with` are the satoshi in the channel when it was opened.
    pub async fn of(node: &DaemonProcess, opened_with: i64) -> Result<Self, ClusterError> {
        Ok(Self { wallet: node.wallet_balance().await?, opened_with })
    }

    /// What the channel owes this side, before any fee.
    pub fn in_channel(&self, paid: Paid) -> i64 {
        self.opened_with - paid.sent + paid.received
    }

    /// Checks the wallet: what it had, its part of the channel, less the fees of its own transactions and whatever
    /// else it had to bear.
    pub async fn check(
        &self,
        narrator: &mut Narrator,
        node: &DaemonProcess,
        ledger: &Ledger,
        share: i64,
        borne: i64,
    ) -> Result<(), DemoError> {
        let (fees, count) = ledger.fees(&node.wallet_txids().await?);
        narrator.say(&format!("{}: {count} transactions paid {} to miners", node.name(), coins(fees)));
        let expected = self.wallet + share - borne - fees;
        let has = settled_balance(node, expected).await?;
        narrator.check(&format!("{}'s wallet", node.name()), expected, has);
        Ok(())
    }
}
