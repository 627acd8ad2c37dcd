//! Feerates that rise and fall while channels of one kind are open, one funded by each side: 200 blocks, of which many are
//! full. Nobody closes, payments flow all the time, and both openers follow.

use std::time::Duration;

use leyden_client::cluster::{DaemonProcess, PATIENCE, wait_until};
use leyden_proto::lnrpc::Channel;

use crate::{
    cases::{Report, World},
    support::{
        Kind, Ldk, chain,
        crowd::Crowd,
        ldk::{End, reach},
        ours::{self, Opening},
    },
};

const CAPACITY: i64 = 2_000_000;
const PUSH: i64 = 800_000;
/// Satoshi per 1000 weight units: 1 sat/vB.
const QUIET: i64 = 253;
/// Full blocks at a rate: an estimate remembers twelve, and follows when most of them are of that rate; our opener waits
/// another six before it lowers its own.
const FULL_BLOCKS: u32 = 14;
/// How long LDK may take to follow: it looks once a minute.
const LDK_FOLLOWS: Duration = PATIENCE.saturating_mul(2);

struct Two {
    alice: DaemonProcess,
    peer: Ldk,
    kind: Kind,
}

pub async fn live(report: &'static Report, kind: Kind) -> World {
    let folder = report.folder();
    let alice = chain::start(folder.path(), "alice", &[]).await;
    let peer = Ldk::quiet(folder.path(), "peer", kind, chain::rpc(&alice));
    let two = Two { alice, peer, kind };
    let crowd = Crowd::start(&two.alice).await;
    chain::fund(&two.alice, &[&two.alice], &[&two.peer]).await;
    two.open().await;
    let begun = chain::height(&two.alice).await;

    report.case(&format!("feerates rise, {kind}"), "both", two.follow(&crowd, &[3, 12, 40])).await?;
    report.case(&format!("feerates fall, {kind}"), "both", two.follow(&crowd, &[12, 3])).await?;
    report.case(&format!("the chain is quiet again, {kind}"), "both", two.calm_down(begun + 200)).await
}

impl Two {
    async fn open(&self) {
        ours::connect(&self.alice, &self.peer).await;
        let opening = Opening { kind: self.kind, capacity: CAPACITY, push: PUSH, private: false, zero_conf: false };
        ours::open(&self.alice, &self.peer, &opening).await;
        chain::wait_for_mempool(&self.alice, 1).await;
        self.mine(chain::DEEP).await;
        self.alice.wait_for_active_channels(1).await.unwrap();
        let (capacity, push) = (u64::try_from(CAPACITY).unwrap(), u64::try_from(PUSH).unwrap());
        self.peer.open(reach(&self.alice).await, capacity, push, true);
        chain::wait_for_mempool(&self.alice, 1).await;
        self.mine(chain::DEEP).await;
        self.alice.wait_for_active_channels(2).await.unwrap();
        self.peer.wait_for_usable_channels(2).await;
    }

    /// Full blocks at each of these rates in turn; both openers follow.
    async fn follow(&self, crowd: &Crowd, levels: &[u64]) {
        for level in levels {
            for _ in 0..FULL_BLOCKS {
                crowd.crowd(&self.alice, *level).await;
                self.mine(1).await;
            }
            self.followed(i64::try_from(level * 250).unwrap()).await;
            self.pay_both_ways().await;
        }
    }

    async fn calm_down(&self, height: u32) {
        while chain::height(&self.alice).await < height {
            self.mine(10).await;
            self.pay_both_ways().await;
        }
        self.followed(QUIET).await;
        self.pay_both_ways().await;
        ours::agree(&self.alice, &self.peer).await;
        assert_eq!(self.alice.channels().await.unwrap().len(), 2);
    }

    /// Both channels have a feerate near the estimate. With anchors ours stays at what the mempool takes; so does LDK's, unless
    /// it looks (once a minute) when all the blocks that an estimate remembers were full: then it takes the estimate.
    async fn followed(&self, estimate: i64) {
        let near = |rate: i64, wanted: i64| rate * 10 >= wanted * 9 && rate <= wanted * 2;
        let has_followed = |channel: &Channel| match self.kind {
            Kind::StaticRemoteKey => near(channel.fee_per_kw, estimate),
            Kind::Anchors if channel.initiator => near(channel.fee_per_kw, QUIET),
            Kind::Anchors => near(channel.fee_per_kw, QUIET) || near(channel.fee_per_kw, estimate),
        };
        let deadline = tokio::time::Instant::now() + LDK_FOLLOWS;
        loop {
            // LDK asks for estimates when it is told to.
            let _ = self.peer.node().sync_wallets();
            let channels = self.alice.channels().await.unwrap();
            assert_eq!(channels.len(), 2, "a channel was closed");
            if channels.iter().all(has_followed) {
                return;
            }
            let rates: Vec<i64> = channels.iter().map(|channel| channel.fee_per_kw).collect();
            let late = tokio::time::Instant::now() >= deadline;
            assert!(!late, "the feerates are {rates:?}, and the estimate is {estimate}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn pay_both_ways(&self) {
        wait_until("two active channels", || async {
            let channels = self.alice.channels().await?;
            Ok(channels.iter().filter(|channel| channel.active).count() == 2)
        })
        .await
        .unwrap();
        let invoice = self.peer.invoice(20_000);
        assert!(ours::succeeded(&ours::pay(&self.alice, ours::for_invoice(invoice)).await));
        let invoice = ours::invoice(&self.alice, 20_000).await;
        assert!(matches!(self.peer.pay_to_end(&invoice).await, End::Paid { .. }));
        assert_eq!(self.alice.channels().await.unwrap().len(), 2, "a channel was closed");
    }

    async fn mine(&self, blocks: u32) {
        chain::mine(&self.alice, &[&self.alice], &[&self.peer], blocks).await;
    }
}
