//! Channels that are used before they are confirmed, because their other end trusts the funder: LDK trusts Alice, who has
//! funded the one, and Bob trusts LDK, which has funded the other.

use leyden_client::cluster::DaemonProcess;

use crate::{
    cases::{Report, World},
    support::{
        Kind, Ldk, chain,
        ldk::{End, id_of, reach},
        ours::{self, Opening},
    },
};

const CAPACITY: i64 = 2_000_000;
const PUSH: i64 = 800_000;
/// Somebody who is never met: who names anybody offers `option_zeroconf`.
const STRANGER: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

struct Three {
    alice: DaemonProcess,
    bob: DaemonProcess,
    peer: Ldk,
}

pub async fn live(report: &'static Report) -> World {
    let folder = report.folder();
    let alice = chain::start(folder.path(), "alice", &["--zero-conf-peer", STRANGER]).await;
    let peer = Ldk::trusting(folder.path(), "peer", Kind::Anchors, chain::rpc(&alice), id_of(&alice).await);
    let bob = chain::join(&alice, folder.path(), "bob", &["--zero-conf-peer", &peer.id().to_string()]).await;
    let mut three = Three { alice, bob, peer };
    chain::fund(&three.alice, &[&three.alice, &three.bob], &[&three.peer]).await;

    let case = "open and pay unconfirmed";
    report.case(case, "Leyden funds", three.leyden_funds()).await?;
    report.case(case, "LDK funds", three.ldk_funds()).await?;
    let case = "restarts while unconfirmed";
    report.case(case, "Leyden is killed", three.leyden_is_killed()).await?;
    report.case(case, "LDK is stopped", three.ldk_is_stopped()).await?;
    report.case("confirm, pay and close", "both", three.confirm_and_close()).await
}

/// Pays in both directions.
async fn pay(ours: &DaemonProcess, peer: &Ldk) {
    let had = ours::agree(ours, peer).await;
    let payment = ours::pay(ours, ours::for_invoice(peer.invoice(50_000))).await;
    assert!(ours::succeeded(&payment), "{payment:?}");
    let end = peer.pay_to_end(&ours::invoice(ours, 20_000).await).await;
    assert!(matches!(end, End::Paid { .. }), "{end:?}");
    assert_eq!(ours::agree(ours, peer).await, had - 30_000);
}

impl Three {
    async fn leyden_funds(&self) {
        ours::connect(&self.alice, &self.peer).await;
        let opening = Opening { kind: Kind::Anchors, capacity: CAPACITY, push: PUSH, private: true, zero_conf: true };
        ours::open(&self.alice, &self.peer, &opening).await;
        self.peer.wait_for_usable_channels(1).await;
        self.alice.wait_for_active_channels(1).await.unwrap();
        pay(&self.alice, &self.peer).await;
    }

    async fn ldk_funds(&self) {
        self.peer.open(reach(&self.bob).await, 2_000_000, 800_000, false);
        self.peer.wait_for_usable_channels(2).await;
        self.bob.wait_for_active_channels(1).await.unwrap();
        pay(&self.bob, &self.peer).await;
    }

    async fn leyden_is_killed(&mut self) {
        for node in [&mut self.alice, &mut self.bob] {
            node.kill();
            node.start().await.unwrap();
            ours::reconnect(node, &self.peer).await;
            pay(node, &self.peer).await;
        }
    }

    async fn ldk_is_stopped(&mut self) {
        self.peer.stop();
        self.peer.start_again();
        for node in [&self.alice, &self.bob] {
            ours::reconnect(node, &self.peer).await;
            pay(node, &self.peer).await;
        }
    }

    async fn confirm_and_close(&self) {
        let Self { alice, bob, peer } = self;
        for node in [alice, bob] {
            let channel = node.only_channel().await.unwrap();
            assert!(channel.zero_conf && channel.zero_conf_confirmed_scid == 0, "{channel:?}");
        }
        chain::wait_for_mempool(alice, 2).await;
        chain::mine(alice, &[alice, bob], &[peer], chain::DEEP).await;
        for node in [alice, bob] {
            pay(node, peer).await;
            let channel = node.only_channel().await.unwrap();
            assert_eq!(channel.zero_conf_confirmed_scid, channel.chan_id);
            node.close_channel(&channel.channel_point, false).await.unwrap();
        }
        chain::wait_for_mempool(alice, 2).await;
        chain::mine(alice, &[alice, bob], &[peer], chain::DEEP).await;
        for node in [alice, bob] {
            assert!(node.channels().await.unwrap().is_empty());
        }
        assert!(peer.channels().is_empty());
    }
}
