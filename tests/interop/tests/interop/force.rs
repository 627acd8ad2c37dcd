//! A close alone, with payments under way in both directions: four channels of two kinds, each side closes two.
//!
//! In each channel, two payments go each way and are held. After the close the recipient takes one of them on the chain,
//! and the other goes back to its sender when its time is up.

use ldk_node::{
    lightning::ln::channelmanager::PaymentId,
    lightning_types::payment::{PaymentHash, PaymentPreimage},
    payment::PaymentStatus as Status,
};
use leyden_client::{
    cluster::{ClusterError, DaemonProcess, wait_until},
    demo::ledger::Ledger,
};
use leyden_proto::lnrpc::{ListPaymentsRequest, PendingChannelsResponse, payment::PaymentStatus};

use crate::{
    cases::{Report, World},
    support::{
        Kind, Ldk, chain,
        ldk::{id_of, reach},
        ours::{self, Opening},
    },
};

const CAPACITY: i64 = 2_000_000;
const PUSH: i64 = 1_000_000;
const HTLC: i64 = 30_000;
/// Both wait as long for their own as LDK asks for.
const DELAY: &str = "144";

/// One channel and its peer.
struct Pair {
    peer: Ldk,
    kind: Kind,
    leyden_funds: bool,
    leyden_closes: bool,
    number: u8,
}

impl Pair {
    fn closer(&self) -> &'static str {
        if self.leyden_closes { "Leyden closes" } else { "LDK closes" }
    }

    /// The payments of this channel: to LDK and to Leyden, each taken or given back.
    fn secret(&self, to_leyden: bool, taken: bool) -> (PaymentPreimage, PaymentHash) {
        let preimage = PaymentPreimage([self.number * 4 + u8::from(to_leyden) * 2 + u8::from(taken) + 1; 32]);
        (preimage, preimage.into())
    }
}

struct Closing {
    alice: DaemonProcess,
    pairs: Vec<Pair>,
}

pub async fn live(report: &'static Report) -> World {
    let folder = report.folder();
    let alice = chain::start(folder.path(), "alice", &["--to-self-delay", DELAY]).await;
    let mut pairs = Vec::new();
    for (number, (kind, leyden_closes)) in (0..).zip([
        (Kind::Anchors, true),
        (Kind::Anchors, false),
        (Kind::StaticRemoteKey, true),
        (Kind::StaticRemoteKey, false),
    ]) {
        let peer = Ldk::start(folder.path(), &format!("peer{number}"), kind, chain::rpc(&alice));
        pairs.push(Pair { peer, kind, leyden_funds: number == 0 || number == 3, leyden_closes, number });
    }
    let world = Closing { alice, pairs };
    chain::fund(&world.alice, &[&world.alice], &world.peers()).await;
    let (coins, height) = (world.coins().await, chain::height(&world.alice).await);

    report.case("open four channels", "both", world.open()).await?;
    let mut expected = Vec::new();
    for pair in &world.pairs {
        let case = format!("payments held both ways, {}", pair.kind);
        expected.push(report.case(&case, pair.closer(), world.hold(pair)).await?);
    }
    let wallets = world.wallets().await;
    for pair in &world.pairs {
        let case = format!("close {} alone, 4 HTLCs pending", pair.kind);
        report.case(&case, pair.closer(), world.close(pair)).await?;
    }
    report.case("two HTLCs are taken on the chain", "both", world.take()).await?;
    report.case("two HTLCs go back on the chain", "both", world.give_back()).await?;
    report.case("everybody has what is theirs", "both", world.end(&expected, &wallets, coins, height)).await
}

/// What Leyden and LDK must get out of a channel, without fees.
struct Parts {
    leyden: i64,
    ldk: i64,
}

impl Closing {
    fn peers(&self) -> Vec<&Ldk> {
        self.pairs.iter().map(|pair| &pair.peer).collect()
    }

    async fn mine(&self, blocks: u32) {
        chain::mine(&self.alice, &[&self.alice], &self.peers(), blocks).await;
    }

    /// What Leyden has, and each peer.
    async fn wallets(&self) -> (i64, Vec<i64>) {
        let peers = self.pairs.iter().map(|pair| i64::try_from(pair.peer.wallet()).unwrap()).collect();
        (self.alice.wallet_balance().await.unwrap(), peers)
    }

    async fn coins(&self) -> i64 {
        let (leyden, peers) = self.wallets().await;
        leyden + peers.iter().sum::<i64>()
    }

    async fn open(&self) {
        for pair in &self.pairs {
            ours::connect(&self.alice, &pair.peer).await;
            if pair.leyden_funds {
                let opening =
                    Opening { kind: pair.kind, capacity: CAPACITY, push: PUSH, private: true, zero_conf: false };
                ours::open(&self.alice, &pair.peer, &opening).await;
            } else {
                let amount = |sat| u64::try_from(sat).unwrap();
                pair.peer.open(reach(&self.alice).await, amount(CAPACITY), amount(PUSH), false);
            }
        }
        chain::wait_for_mempool(&self.alice, 4).await;
        self.mine(chain::DEEP).await;
        self.alice.wait_for_active_channels(4).await.unwrap();
        for pair in &self.pairs {
            pair.peer.wait_for_usable_channels(1).await;
            ours::agree(&self.alice, &pair.peer).await;
        }
    }

    /// Two payments go each way, and are held.
    async fn hold(&self, pair: &Pair) -> Parts {
        let [channel] = &ours::channels_with(&self.alice, &pair.peer).await[..] else { panic!("one channel") };
        let sat = u64::try_from(HTLC).unwrap();
        for taken in [true, false] {
            let (_, hash) = pair.secret(false, taken);
            ours::begin_to_pay(&self.alice, ours::for_invoice(pair.peer.hold_invoice(sat, hash))).await;
            pair.peer.claimable(hash).await;
            let (_, hash) = pair.secret(true, taken);
            pair.peer.pay(&ours::hold_invoice(&self.alice, HTLC, &hash.0).await);
            ours::wait_until_held(&self.alice, &hash.0).await;
        }
        wait_until("four HTLCs", || async {
            let channels = ours::channels_with(&self.alice, &pair.peer).await;
            Ok(channels.iter().all(|channel| channel.pending_htlcs.len() == 4))
        })
        .await
        .unwrap();
        // As much is taken in one direction as in the other. Who has funded the channel pays for the commitment.
        match pair.leyden_funds {
            true => Parts { leyden: CAPACITY - channel.remote_balance, ldk: channel.remote_balance },
            false => Parts { leyden: channel.local_balance, ldk: CAPACITY - channel.local_balance },
        }
    }

    async fn close(&self, pair: &Pair) {
        let [channel] = &ours::channels_with(&self.alice, &pair.peer).await[..] else { panic!("one channel") };
        let (preimage, _) = pair.secret(false, true);
        let ldk_learns_the_preimage = || pair.peer.claim(preimage, u64::try_from(HTLC).unwrap());
        if pair.leyden_closes {
            self.alice.close_channel(&channel.channel_point, true).await.unwrap();
            ldk_learns_the_preimage();
        } else {
            let known = pair.peer.channel(&channel.channel_point);
            let id = id_of(&self.alice).await;
            // It has no chance to tell Leyden.
            pair.peer.node().disconnect(id).unwrap();
            ldk_learns_the_preimage();
            pair.peer.node().force_close_channel(&known.user_channel_id, id, None).unwrap();
        }
        let height = chain::height(&self.alice).await;
        let is_confirmed = || async {
            let ledger = Ledger::since(&self.alice, height).await.unwrap();
            ledger.spender(&channel.channel_point).is_some()
        };
        // Whatever comes into the mempool until then is mined with it.
        wait_until("the commitment transaction", || async {
            if !self.alice.waiting_txids().await?.is_empty() {
                self.mine(1).await;
            }
            Ok(is_confirmed().await)
        })
        .await
        .unwrap();
        wait_until("both to have seen the close", || async {
            Ok(ours::channels_with(&self.alice, &pair.peer).await.is_empty() && pair.peer.channels().is_empty())
        })
        .await
        .unwrap();
    }

    /// LDK has learnt its preimages before the commitments were in the chain, Leyden learns them afterwards.
    async fn take(&self) {
        for pair in &self.pairs {
            let (preimage, _) = pair.secret(true, true);
            ours::settle(&self.alice, &preimage.0).await;
        }
        for pair in &self.pairs {
            self.leyden_hears_the_end(pair, true).await;
            self.ldk_hears_the_end(pair, true).await;
        }
    }

    /// What nobody takes goes back once its time is up.
    async fn give_back(&self) {
        for pair in &self.pairs {
            self.leyden_hears_the_end(pair, false).await;
            self.ldk_hears_the_end(pair, false).await;
        }
    }

    async fn leyden_hears_the_end(&self, pair: &Pair, taken: bool) {
        let (_, hash) = pair.secret(false, taken);
        let request =
            || ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
        self.mine_until("a payment of Leyden to end", || async {
            let list = self.alice.client()?.lightning().list_payments(request()).await;
            let payments = list.map_err(|status| self.alice.call_error(status))?.into_inner().payments;
            let payment = payments.iter().find(|payment| payment.payment_hash == hex::encode(hash.0)).unwrap();
            Ok(payment.status() != PaymentStatus::InFlight)
        })
        .await;
        let payment = ours::end(&self.alice, &hash.0).await;
        assert_eq!(ours::succeeded(&payment), taken, "{payment:?}");
    }

    async fn ldk_hears_the_end(&self, pair: &Pair, taken: bool) {
        let (_, hash) = pair.secret(true, taken);
        let status = || {
            let payment = pair.peer.node().payment(&PaymentId(hash.0)).unwrap();
            payment.status
        };
        self.mine_until("a payment of LDK to end", || async { Ok(status() != Status::Pending) }).await;
        assert_eq!(status() == Status::Succeeded, taken);
    }

    async fn mine_until<F, Fut>(&self, what: &str, holds: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<bool, ClusterError>>,
    {
        chain::mine_until(&self.alice, &[&self.alice], &self.peers(), what, holds).await;
    }

    /// Everything is claimed, and each has what is theirs but for what the chain costs.
    async fn end(&self, expected: &[Parts], wallets: &(i64, Vec<i64>), coins: i64, since: u32) {
        self.mine_until("everything to be claimed", || async {
            Ok(self.alice.pending_channels().await? == PendingChannelsResponse::default()
                && self.pairs.iter().all(|pair| pair.peer.has_claimed_everything()))
        })
        .await;
        let ledger = Ledger::since(&self.alice, since).await.unwrap();
        let (leyden, peers) = self.wallets().await;
        let fees = ledger.all_fees();
        let left = ledger.anchors_left();
        assert_eq!(leyden + peers.iter().sum::<i64>() + fees + left, coins, "fees {fees}, anchors {left}");

        let closed = self.alice.closed_channels().await.unwrap();
        assert_eq!(closed.len(), self.pairs.len());
        let due: i64 = expected.iter().map(|parts| parts.leyden).sum();
        self.has_its_part("Leyden", leyden - wallets.0, due, fees + left);
        for ((pair, parts), (has, had)) in self.pairs.iter().zip(expected).zip(peers.iter().zip(&wallets.1)) {
            self.has_its_part(pair.peer.name(), has - had, parts.ldk, fees + left);
        }
    }

    /// Nobody has lost more than all fees together, or won anything.
    fn has_its_part(&self, who: &str, got: i64, due: i64, costs: i64) {
        assert!((due - costs..=due).contains(&got), "{who} got {got} of {due}");
    }
}
