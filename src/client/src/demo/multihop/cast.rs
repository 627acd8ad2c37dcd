//! Alice, Bob, Carol and Dave in a row, a channel from each to the next, and what the parts of the story do with them.

use std::{path::Path, time::Duration};

use leyden_channels::types::PaymentPreimage;
use leyden_proto::{
    invoicesrpc::AddHoldInvoiceRequest,
    lnrpc::{Channel, PaymentHash, invoice::InvoiceState, payment::PaymentStatus},
    routerrpc::{SendPaymentRequest, TrackPaymentRequest},
};
use tokio::time::sleep;

use super::{AMOUNT, CAPACITY, DAY_BLOCKS, DEEP, FEE};
use crate::{
    cluster::{ClusterError, DaemonProcess, wait_for, wait_until},
    demo::{DemoError, NOBODY, Narrator},
};

/// What Bob and Carol keep each, in msat.
const FEE_MSAT: &str = "100000000";
/// A day of blocks.
const DAY: &str = "144";

pub(super) struct Cast {
    pub alice: DaemonProcess,
    pub bob: DaemonProcess,
    pub carol: DaemonProcess,
    pub dave: DaemonProcess,
}

impl Cast {
    pub(super) async fn start(narrator: &mut Narrator, folder: &Path) -> Result<Self, DemoError> {
        narrator
            .step("Alice, Bob, Carol and Dave each start a daemon; Bob and Carol ask 0.001 and a day for forwarding");
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
        Ok(Self { alice, bob, carol, dave })
    }

    /// Coins and channels.
    pub(super) async fn prepare(&self, narrator: &mut Narrator) -> Result<(), DemoError> {
        narrator.step(
            "Alice mines coins for Bob, Carol and herself; each opens a channel of 1.0 to the next, half of it given",
        );
        for node in [&self.alice, &self.bob, &self.carol] {
            let address = node.new_address().await?;
            self.alice.mine(1, Some(&address)).await?;
        }
        self.mine(100).await?;
        for (from, to) in [(&self.alice, &self.bob), (&self.bob, &self.carol), (&self.carol, &self.dave)] {
            from.connect(to).await?;
            from.open_channel(to, CAPACITY, CAPACITY / 2).await?;
        }
        self.mine_fundings().await?;
        for (node, channels) in self.all().into_iter().zip([1, 2, 2, 1]) {
            node.wait_for_active_channels(channels).await?;
        }
        Ok(())
    }

    pub(super) fn all(&self) -> [&DaemonProcess; 4] {
        [&self.alice, &self.bob, &self.carol, &self.dave]
    }

    pub(super) fn all_mut(&mut self) -> [&mut DaemonProcess; 4] {
        [&mut self.alice, &mut self.bob, &mut self.carol, &mut self.dave]
    }

    fn running(&self) -> impl Iterator<Item = &DaemonProcess> {
        self.all().into_iter().filter(|node| node.pid().is_some())
    }

    // The chain.

    /// Mines for nobody, and waits until all that run have seen it.
    pub(super) async fn mine(&self, blocks: u32) -> Result<(), ClusterError> {
        self.alice.mine(blocks, Some(NOBODY)).await?;
        let height = self.alice.height().await?;
        for node in self.running() {
            node.wait_for_height(height).await?;
        }
        Ok(())
    }

    pub(super) async fn mine_to(&self, height: u32) -> Result<(), ClusterError> {
        let now = self.alice.height().await?;
        self.mine(height.saturating_sub(now)).await
    }

    /// Block by block, with time between for what each led to.
    pub(super) async fn mine_slowly(&self, blocks: u32) -> Result<(), ClusterError> {
        for _ in 0..blocks {
            self.mine(1).await?;
            self.pause().await;
        }
        Ok(())
    }

    /// Mines what nodes have broadcast, deep enough for channels, once all have reached Alice.
    pub(super) async fn mine_fundings(&self) -> Result<(), ClusterError> {
        wait_until("the funding transactions to reach Alice, who mines", || async {
            let alices = self.alice.waiting_txids().await?;
            for node in [&self.bob, &self.carol] {
                if !node.waiting_txids().await?.is_subset(&alices) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        self.mine(DEEP).await
    }

    /// Until what one node broadcast has reached all that run, or rivals for one output keep them apart.
    pub(super) async fn pause(&self) {
        sleep(Duration::from_millis(150)).await;
        for _ in 0..40 {
            let mut seen = Vec::new();
            for node in self.running() {
                seen.push(node.waiting_txids().await.ok());
            }
            if seen.windows(2).all(|pair| pair.first() == pair.last()) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// To the block in which the last delayed output can be spent.
    pub(super) async fn mine_until_matured(&self) -> Result<(), ClusterError> {
        let mut last = 0;
        for node in self.all() {
            let closing = node.pending_channels().await?.pending_force_closing_channels;
            let heights = closing.iter().flat_map(|one| {
                let own = one.pending_htlcs.iter().map(|htlc| htlc.maturity_height);
                own.chain([one.maturity_height])
            });
            last = heights.chain([last]).max().unwrap_or(last);
        }
        self.mine_to(last).await
    }

    pub(super) async fn wait_for_closings(&self) -> Result<(), ClusterError> {
        for node in self.all() {
            wait_until(&format!("{} to resolve its channels", node.name()), || async {
                Ok(node.pending_channels().await?.pending_force_closing_channels.is_empty())
            })
            .await?;
        }
        Ok(())
    }

    // Money.

    /// What each has in its wallet and its channels, once nothing is under way.
    pub(super) async fn fortunes(&self) -> Result<Vec<i64>, ClusterError> {
        let mut fortunes = Vec::new();
        for node in self.all() {
            wait_until("the updates of the channels to end", || async {
                Ok(node.channels().await?.iter().all(|channel| channel.pending_htlcs.is_empty()))
            })
            .await?;
            fortunes.push(node.wallet_balance().await? + in_channels(node).await?);
        }
        Ok(fortunes)
    }

    // The payment.

    /// Alice pays Dave's invoice, of which he alone knows the preimage and does not use it yet: all HTLCs wait.
    pub(super) async fn pay_held(&self, narrator: &mut Narrator, preimage: PaymentPreimage) -> Result<(), DemoError> {
        let dave = &self.dave;
        let hash = preimage.hash().0.to_vec();
        let request = AddHoldInvoiceRequest {
            hash: hash.clone(),
            value: AMOUNT,
            cltv_expiry: u64::from(DAY_BLOCKS),
            ..AddHoldInvoiceRequest::default()
        };
        let added = dave.client()?.invoices().add_hold_invoice(request).await;
        let payment_request = added.map_err(|status| dave.call_error(status))?.into_inner().payment_request;
        let tip = self.try_until_held(&payment_request, &hash).await?;
        let way = [("Alice to Bob", &self.bob), ("Bob to Carol", &self.carol), ("Carol to Dave", dave)];
        let expected = [(AMOUNT + 2 * FEE, 3), (AMOUNT + FEE, 2), (AMOUNT, 1)];
        for ((who, to), (amount, days)) in way.into_iter().zip(expected) {
            let channels = to.channels().await?;
            let htlc = channels.iter().flat_map(|channel| &channel.pending_htlcs).find(|htlc| htlc.incoming);
            let (offered, expiry) = htlc.map_or((0, 0), |htlc| (htlc.amount, htlc.expiration_height));
            narrator.check(&format!("{who} offers"), amount, offered);
            narrator.require(&format!("its lock ends after {days} days"), expiry == tip + days * DAY_BLOCKS);
        }
        narrator.require("Alice's payment is in flight", self.payment(&hash).await? == PaymentStatus::InFlight);
        Ok(())
    }

    /// Tries again while gossip has not told Alice of the route; gives the height at which it went well.
    async fn try_until_held(&self, payment_request: &str, hash: &[u8]) -> Result<u32, ClusterError> {
        let alice = &self.alice;
        wait_for("a route from Alice to Dave", || async {
            let request = SendPaymentRequest {
                payment_request: payment_request.to_owned(),
                cltv_limit: 3 * DAY_BLOCKS as i32,
                timeout_seconds: 60,
                fee_limit_sat: 2 * FEE,
                ..SendPaymentRequest::default()
            };
            let tip = alice.height().await?;
            let sent = alice.client()?.router().send_payment_v2(request).await;
            sent.map_err(|status| alice.call_error(status))?;
            wait_for("the end of an attempt", || async {
                let held = self.invoice(hash).await? == InvoiceState::Accepted;
                Ok(match self.payment(hash).await? {
                    PaymentStatus::Failed => {
                        sleep(Duration::from_millis(250)).await;
                        Some(None)
                    }
                    _ if held => Some(Some(tip)),
                    _ => None,
                })
            })
            .await
        })
        .await
    }

    /// How far Alice's payment is.
    pub(super) async fn payment(&self, hash: &[u8]) -> Result<PaymentStatus, ClusterError> {
        let alice = &self.alice;
        let request = TrackPaymentRequest { payment_hash: hash.to_vec(), no_inflight_updates: false };
        let updates = alice.client()?.router().track_payment_v2(request).await;
        let update = updates.map_err(|status| alice.call_error(status))?.into_inner().message().await;
        let update = update.map_err(|status| alice.call_error(status))?;
        // The stream begins with the present state.
        Ok(update.map_or(PaymentStatus::InFlight, |payment| payment.status()))
    }

    /// How far Dave's invoice is.
    pub(super) async fn invoice(&self, hash: &[u8]) -> Result<InvoiceState, ClusterError> {
        let request = PaymentHash { r_hash: hash.to_vec(), ..PaymentHash::default() };
        let found = self.dave.client()?.lightning().lookup_invoice(request).await;
        Ok(found.map_err(|status| self.dave.call_error(status))?.into_inner().state())
    }
}

/// The channel between two nodes that is open and can be used.
pub(super) async fn channel_point(node: &DaemonProcess, with: &DaemonProcess) -> Result<String, ClusterError> {
    let peer = with.node_id().await?;
    let channels = node.channels().await?;
    let found = channels.into_iter().find(|channel| channel.remote_pubkey == peer && channel.active);
    let what = format!("the channel between {} and {}", node.name(), with.name());
    Ok(found.ok_or(ClusterError::Waited { what })?.channel_point)
}

/// Whether HTLCs are under way in a channel of a node.
pub(super) async fn has_htlcs(node: &DaemonProcess) -> Result<bool, ClusterError> {
    Ok(node.channels().await?.iter().any(|channel| !channel.pending_htlcs.is_empty()))
}

/// Whether a node's own HTLC transaction of a closed channel is in the chain: its output waits for the delay.
pub(super) async fn has_htlc_transaction(node: &DaemonProcess, channel_point: &str) -> Result<bool, ClusterError> {
    let closing = node.closing(channel_point).await?;
    Ok(closing.is_some_and(|one| one.pending_htlcs.iter().any(|htlc| htlc.stage == 2)))
}

/// What a node has in its channels. What an opener has set aside for the commitment transaction is its own.
pub(super) async fn in_channels(node: &DaemonProcess) -> Result<i64, ClusterError> {
    let own = |channel: &Channel| {
        let aside = channel.capacity - channel.local_balance - channel.remote_balance - channel.unsettled_balance;
        channel.local_balance + if channel.initiator { aside } else { 0 }
    };
    Ok(node.channels().await?.iter().map(own).sum())
}
