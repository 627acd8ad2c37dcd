//! A daemon and an `ldk-node` with two channels of one kind, one that each has funded: from the first connection to the
//! close together.

use std::time::Duration;

use ldk_node::{
    CustomTlvRecord,
    lightning::events::PaymentFailureReason,
    lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description},
    lightning_types::payment::{PaymentHash, PaymentPreimage},
};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::{calls::settled_balance, ledger::Ledger},
};
use leyden_proto::{
    lnrpc::{CommitmentType, Invoice, PaymentFailureReason as Reason, htlc_attempt::HtlcStatus, invoice::InvoiceState},
    routerrpc::SendPaymentRequest,
};

use crate::{
    cases::{Report, World},
    support::{
        Kind, Ldk, chain,
        ldk::{End, id_of, reach},
        ours::{self, KEYSEND, Opening},
    },
};

const CAPACITY: i64 = 2_000_000;
/// What who funds a channel gives the other.
const PUSH: i64 = 800_000;

struct Two {
    alice: DaemonProcess,
    peer: Ldk,
    kind: Kind,
}

pub async fn live(report: &'static Report, kind: Kind) -> World {
    let folder = report.folder();
    let alice = chain::start(folder.path(), "alice", &["--accept-keysend"]).await;
    let peer = Ldk::start(folder.path(), "peer", kind, chain::rpc(&alice));
    let two = Two { alice, peer, kind };
    chain::fund(&two.alice, &[&two.alice], &[&two.peer]).await;
    let coins = two.alice.wallet_balance().await.unwrap() + i64::try_from(two.peer.wallet()).unwrap();
    let height = chain::height(&two.alice).await;

    report.case("connect", "Leyden dials", two.leyden_dials()).await?;
    report.case("connect", "LDK dials", two.ldk_dials()).await?;
    report.case(&format!("open {kind}"), "Leyden funds", two.leyden_funds()).await?;
    report.case(&format!("open {kind}"), "LDK funds", two.ldk_funds()).await?;
    report.case(&format!("pay, {kind}"), "Leyden pays", two.leyden_pays()).await?;
    report.case(&format!("pay, {kind}"), "LDK pays", two.ldk_pays()).await?;
    report.case("keysend", "Leyden pays", two.leyden_pays_unasked()).await?;
    report.case("keysend", "LDK pays", two.ldk_pays_unasked()).await?;
    report.case("two parts over two channels", "Leyden pays", two.leyden_pays_in_parts()).await?;
    report.case("two parts over two channels", "LDK pays", two.ldk_pays_in_parts()).await?;
    report.case("unknown payment hash is refused", "Leyden pays", two.leyden_pays_the_unknown()).await?;
    report.case("too small an amount is refused", "Leyden pays", two.leyden_pays_too_little()).await?;
    report.case("more than twice the amount is refused", "LDK pays", two.ldk_pays_too_much()).await?;
    report.case("held payment is given back", "Leyden pays", two.ldk_gives_back()).await?;
    report.case("held payment is given back", "LDK pays", two.leyden_gives_back()).await?;
    report.case("cancelled invoice is refused", "LDK pays", two.ldk_pays_a_cancelled_invoice()).await?;
    report.case("expired invoice is not paid", "Leyden pays", two.leyden_pays_an_expired_invoice()).await?;
    report.case("expired invoice is not paid", "LDK pays", two.ldk_pays_an_expired_invoice()).await?;
    report.case("more than there is finds no route", "Leyden pays", two.leyden_has_too_little()).await?;
    report.case("more than there is finds no route", "LDK pays", two.ldk_has_too_little()).await?;
    report.case("cut and connected again, payment held", "LDK dials", two.cut_while_ldk_holds()).await?;
    report.case("cut and connected again, payment held", "Leyden dials", two.cut_while_leyden_holds()).await?;
    for (closer, funder) in two.closes() {
        let case = format!("close {kind} together, {funder} has funded");
        report.case(&case, &format!("{closer} closes"), two.close(closer, funder)).await?;
    }
    report.case(&format!("no satoshi is lost, {kind}"), "both", two.add_up(coins, height)).await
}

/// A preimage of its own for each use.
fn secret(byte: u8) -> (PaymentPreimage, PaymentHash) {
    let preimage = PaymentPreimage([byte; 32]);
    (preimage, preimage.into())
}

/// Waits until an invoice has expired by the clock, which counts whole seconds.
async fn expired(invoice: &Bolt11Invoice) {
    wait_until("an invoice to expire", || async { Ok(invoice.is_expired()) }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn sat(amount: i64) -> u64 {
    u64::try_from(amount).unwrap()
}

impl Two {
    async fn leyden_dials(&self) {
        ours::connect(&self.alice, &self.peer).await;
        self.wait_for_connection(true).await;
        ours::disconnect(&self.alice, &self.peer).await;
        self.wait_for_connection(false).await;
    }

    async fn ldk_dials(&self) {
        self.peer.connect(&self.alice).await;
        self.wait_for_connection(true).await;
    }

    async fn wait_for_connection(&self, wanted: bool) {
        let id = id_of(&self.alice).await;
        wait_until("the connection", || async {
            let both = (ours::is_connected(&self.alice, &self.peer).await, self.peer.is_connected(id).await);
            Ok(both == (wanted, wanted))
        })
        .await
        .unwrap();
    }

    async fn leyden_funds(&self) {
        let opening = Opening { kind: self.kind, capacity: CAPACITY, push: PUSH, private: false, zero_conf: false };
        ours::open(&self.alice, &self.peer, &opening).await;
        self.opened(1).await;
        assert_eq!(self.of_funder("Leyden").await.remote_balance, PUSH);
    }

    async fn ldk_funds(&self) {
        self.peer.open(reach(&self.alice).await, sat(CAPACITY), sat(PUSH), true);
        self.opened(2).await;
        assert_eq!(self.of_funder("LDK").await.local_balance, PUSH);
    }

    async fn opened(&self, count: usize) {
        chain::wait_for_mempool(&self.alice, 1).await;
        self.mine(chain::DEEP).await;
        self.alice.wait_for_active_channels(count).await.unwrap();
        self.peer.wait_for_usable_channels(count).await;
        ours::agree(&self.alice, &self.peer).await;
        let kind = match self.kind {
            Kind::Anchors => CommitmentType::Anchors,
            Kind::StaticRemoteKey => CommitmentType::StaticRemoteKey,
        };
        let channels = self.alice.channels().await.unwrap();
        assert!(channels.iter().all(|channel| channel.commitment_type() == kind), "{channels:?}");
    }

    async fn mine(&self, blocks: u32) {
        chain::mine(&self.alice, &[&self.alice], &[&self.peer], blocks).await;
    }

    async fn of_funder(&self, funder: &str) -> leyden_proto::lnrpc::Channel {
        let channels = self.alice.channels().await.unwrap();
        channels.into_iter().find(|channel| channel.initiator == (funder == "Leyden")).unwrap()
    }

    /// Checks that exactly so much has changed hands.
    async fn moved_to_leyden(&self, had: i64, amount: i64) {
        assert_eq!(ours::agree(&self.alice, &self.peer).await, had + amount, "what Leyden has in its channels");
    }

    async fn leyden_pays(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let invoice = self.peer.invoice(50_000);
        let payment = ours::pay(&self.alice, ours::for_invoice(&invoice)).await;
        assert!(ours::succeeded(&payment), "{payment:?}");
        assert_eq!((payment.value_sat, payment.fee_msat), (50_000, 0));
        let preimage = PaymentPreimage(hex::decode(&payment.payment_preimage).unwrap().try_into().unwrap());
        let hash = PaymentHash::from(preimage);
        assert_eq!(hash.0, *AsRef::<[u8; 32]>::as_ref(invoice.payment_hash()));
        assert_eq!(self.peer.received(hash).await, 50_000_000);
        self.moved_to_leyden(had, -50_000).await;
    }

    async fn ldk_pays(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let invoice = ours::invoice(&self.alice, 30_000).await;
        let End::Paid { fee_msat, preimage } = self.peer.pay_to_end(&invoice).await else { panic!("it failed") };
        assert_eq!(fee_msat, 0);
        let invoice = ours::look_up(&self.alice, &PaymentHash::from(preimage).0).await;
        assert_eq!((invoice.state(), invoice.amt_paid_sat), (InvoiceState::Settled, 30_000));
        self.moved_to_leyden(had, 30_000).await;
    }

    async fn leyden_pays_unasked(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let (preimage, hash) = secret(1);
        let request = SendPaymentRequest {
            dest: self.peer.id().serialize().to_vec(),
            amt: 7_000,
            payment_hash: hash.0.to_vec(),
            final_cltv_delta: 80,
            dest_custom_records: [(KEYSEND, preimage.0.to_vec()), (70_001, b"hello".to_vec())].into(),
            ..SendPaymentRequest::default()
        };
        let payment = ours::pay(&self.alice, request).await;
        assert!(ours::succeeded(&payment), "{payment:?}");
        let records = self.peer.wait_for_event("the payment", |event| match event {
            ldk_node::Event::PaymentReceived { payment_hash, custom_records, .. } if *payment_hash == hash => {
                Some(custom_records.clone())
            }
            _ => None,
        });
        assert!(records.await.contains(&CustomTlvRecord { type_num: 70_001, value: b"hello".to_vec() }));
        self.moved_to_leyden(had, -7_000).await;
    }

    async fn ldk_pays_unasked(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let (preimage, hash) = secret(2);
        let records = vec![CustomTlvRecord { type_num: 70_003, value: b"and you".to_vec() }];
        let alice = id_of(&self.alice).await;
        let spontaneous = self.peer.node().spontaneous_payment();
        spontaneous.send_with_preimage_and_custom_tlvs(6_000_000, alice, records, preimage, None).unwrap();
        let end = self.peer.end(hash).await;
        assert!(matches!(end, End::Paid { .. }), "{end:?}");
        let invoice = ours::look_up(&self.alice, &hash.0).await;
        assert!(invoice.is_keysend && invoice.state() == InvoiceState::Settled, "{invoice:?}");
        assert_eq!(invoice.htlcs[0].custom_records[&70_003], b"and you");
        self.moved_to_leyden(had, 6_000).await;
    }

    async fn leyden_pays_in_parts(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        // LDK lets a tenth of a public channel's capacity be under way to it.
        let amount = CAPACITY * 3 / 20;
        let invoice = self.peer.invoice(sat(amount));
        let payment = ours::pay(&self.alice, ours::for_invoice(&invoice)).await;
        assert!(ours::succeeded(&payment), "{payment:?}");
        let parts = payment.htlcs.iter().filter(|part| part.status() == HtlcStatus::Succeeded).count();
        assert!(parts >= 2, "{payment:?}");
        self.moved_to_leyden(had, -amount).await;
    }

    async fn ldk_pays_in_parts(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let channels = self.alice.channels().await.unwrap();
        let largest = channels.iter().map(|channel| channel.remote_balance).max().unwrap();
        let amount = largest + 50_000;
        let invoice = ours::invoice(&self.alice, amount).await;
        let End::Paid { preimage, .. } = self.peer.pay_to_end(&invoice).await else { panic!("it failed") };
        let invoice = ours::look_up(&self.alice, &PaymentHash::from(preimage).0).await;
        assert!(invoice.htlcs.len() >= 2, "{invoice:?}");
        self.moved_to_leyden(had, amount).await;
    }

    async fn leyden_pays_the_unknown(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let request = SendPaymentRequest {
            dest: self.peer.id().serialize().to_vec(),
            amt: 1_000,
            payment_hash: vec![7; 32],
            payment_addr: vec![8; 32],
            final_cltv_delta: 80,
            ..SendPaymentRequest::default()
        };
        self.leyden_fails(request, Reason::FailureReasonIncorrectPaymentDetails).await;
        self.moved_to_leyden(had, 0).await;
    }

    async fn leyden_pays_too_little(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let invoice = self.peer.invoice(10_000);
        let request = SendPaymentRequest {
            dest: self.peer.id().serialize().to_vec(),
            amt: 9_999,
            payment_hash: AsRef::<[u8; 32]>::as_ref(invoice.payment_hash()).to_vec(),
            payment_addr: invoice.payment_secret().0.to_vec(),
            final_cltv_delta: 80,
            ..SendPaymentRequest::default()
        };
        self.leyden_fails(request, Reason::FailureReasonIncorrectPaymentDetails).await;
        // The whole is still taken.
        let payment = ours::pay(&self.alice, ours::for_invoice(&invoice)).await;
        assert!(ours::succeeded(&payment), "{payment:?}");
        self.moved_to_leyden(had, -10_000).await;
    }

    async fn leyden_fails(&self, request: SendPaymentRequest, reason: Reason) {
        let payment = ours::pay(&self.alice, request).await;
        assert!(!ours::succeeded(&payment), "{payment:?}");
        assert_eq!(payment.failure_reason(), reason, "{payment:?}");
    }

    async fn ldk_pays_too_much(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let invoice: Bolt11Invoice = ours::invoice(&self.alice, 10_000).await.parse().unwrap();
        let id = self.peer.node().bolt11_payment().send_using_amount(&invoice, 20_000_001, None).unwrap();
        let end = self.peer.end(PaymentHash(id.0)).await;
        assert_eq!(end, End::Failed(Some(PaymentFailureReason::RecipientRejected)));
        self.moved_to_leyden(had, 0).await;
    }

    async fn ldk_gives_back(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let (_, hash) = secret(3);
        ours::begin_to_pay(&self.alice, ours::for_invoice(self.peer.hold_invoice(20_000, hash))).await;
        assert_eq!(self.peer.claimable(hash).await, 20_000_000);
        self.peer.node().bolt11_payment().fail_for_hash(hash).unwrap();
        let payment = ours::end(&self.alice, &hash.0).await;
        assert_eq!(payment.failure_reason(), Reason::FailureReasonIncorrectPaymentDetails, "{payment:?}");
        self.moved_to_leyden(had, 0).await;
    }

    async fn leyden_gives_back(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let (_, hash) = secret(4);
        self.peer.pay(&ours::hold_invoice(&self.alice, 20_000, &hash.0).await);
        ours::wait_until_held(&self.alice, &hash.0).await;
        ours::cancel(&self.alice, &hash.0).await;
        assert_eq!(self.peer.end(hash).await, End::Failed(Some(PaymentFailureReason::RecipientRejected)));
        self.moved_to_leyden(had, 0).await;
    }

    async fn ldk_pays_a_cancelled_invoice(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let (_, hash) = secret(5);
        let invoice = ours::hold_invoice(&self.alice, 20_000, &hash.0).await;
        ours::cancel(&self.alice, &hash.0).await;
        let end = self.peer.pay_to_end(&invoice).await;
        assert_eq!(end, End::Failed(Some(PaymentFailureReason::RecipientRejected)));
        self.moved_to_leyden(had, 0).await;
    }

    async fn leyden_pays_an_expired_invoice(&self) {
        let bolt11 = self.peer.node().bolt11_payment();
        let description = Bolt11InvoiceDescription::Direct(Description::new("soon".to_owned()).unwrap());
        let invoice = bolt11.receive(1_000_000, &description, 1).unwrap();
        expired(&invoice).await;
        let mut router = self.alice.client().unwrap().router();
        let refused = router.send_payment_v2(ours::for_invoice(&invoice)).await.unwrap_err();
        assert!(refused.message().contains("expired"), "{refused:?}");
    }

    async fn ldk_pays_an_expired_invoice(&self) {
        let request = Invoice { value: 1_000, expiry: 1, ..Invoice::default() };
        let added = self.alice.client().unwrap().lightning().add_invoice(request).await.unwrap().into_inner();
        let invoice = added.payment_request.parse().unwrap();
        expired(&invoice).await;
        let refused = self.peer.node().bolt11_payment().send(&invoice, None);
        assert_eq!(refused, Err(ldk_node::NodeError::PaymentSendingFailed));
    }

    async fn leyden_has_too_little(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let invoice = self.peer.invoice(sat(had) + 1);
        self.leyden_fails(ours::for_invoice(&invoice), Reason::FailureReasonInsufficientBalance).await;
        self.moved_to_leyden(had, 0).await;
    }

    async fn ldk_has_too_little(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let invoice = ours::invoice(&self.alice, 2 * CAPACITY).await.parse().unwrap();
        let refused = self.peer.node().bolt11_payment().send(&invoice, None);
        assert_eq!(refused, Err(ldk_node::NodeError::PaymentSendingFailed));
        self.moved_to_leyden(had, 0).await;
    }

    /// LDK takes a payment while nobody is connected, and dials.
    async fn cut_while_ldk_holds(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let (preimage, hash) = secret(6);
        ours::begin_to_pay(&self.alice, ours::for_invoice(self.peer.hold_invoice(20_000, hash))).await;
        self.peer.claimable(hash).await;
        self.peer.node().disconnect(id_of(&self.alice).await).unwrap();
        self.peer.claim(preimage, 20_000);
        self.peer.connect(&self.alice).await;
        let payment = ours::end(&self.alice, &hash.0).await;
        assert!(ours::succeeded(&payment), "{payment:?}");
        self.moved_to_leyden(had, -20_000).await;
    }

    /// Leyden takes a payment while nobody is connected, and dials.
    async fn cut_while_leyden_holds(&self) {
        let had = ours::agree(&self.alice, &self.peer).await;
        let (preimage, hash) = secret(7);
        self.peer.pay(&ours::hold_invoice(&self.alice, 20_000, &hash.0).await);
        ours::wait_until_held(&self.alice, &hash.0).await;
        self.peer.node().disconnect(id_of(&self.alice).await).unwrap();
        ours::settle(&self.alice, &preimage.0).await;
        ours::reconnect(&self.alice, &self.peer).await;
        let end = self.peer.end(hash).await;
        assert!(matches!(end, End::Paid { .. }), "{end:?}");
        self.moved_to_leyden(had, 20_000).await;
    }

    /// Who closes the channel of whom: with both kinds, either closes what either has funded.
    fn closes(&self) -> [(&'static str, &'static str); 2] {
        match self.kind {
            Kind::Anchors => [("Leyden", "Leyden"), ("LDK", "LDK")],
            Kind::StaticRemoteKey => [("LDK", "Leyden"), ("Leyden", "LDK")],
        }
    }

    async fn close(&self, closer: &str, funder: &str) {
        ours::agree(&self.alice, &self.peer).await;
        let channel = self.of_funder(funder).await;
        let (leyden_had, ldk_had) = (self.alice.wallet_balance().await.unwrap(), self.ldk_has());
        let height = chain::height(&self.alice).await;
        match closer {
            "Leyden" => self.alice.close_channel(&channel.channel_point, false).await.unwrap(),
            _ => {
                let id = id_of(&self.alice).await;
                let known = self.peer.channel(&channel.channel_point);
                self.peer.node().close_channel(&known.user_channel_id, id).unwrap();
            }
        }
        chain::wait_for_mempool(&self.alice, 1).await;
        self.mine(chain::DEEP).await;
        let ledger = Ledger::since(&self.alice, height).await.unwrap();
        let txid = ledger.spender(&channel.channel_point).expect("a closing transaction in a block").to_owned();
        let (fee, _) = ledger.fees(&[txid].into());
        let (leyden, ldk) = match funder {
            "Leyden" => (channel.capacity - channel.remote_balance - fee, channel.remote_balance),
            _ => (channel.local_balance, channel.capacity - channel.local_balance - fee),
        };
        assert_eq!(settled_balance(&self.alice, leyden_had + leyden).await.unwrap(), leyden_had + leyden);
        wait_until("LDK's part", || async { Ok(self.ldk_has() == ldk_had + ldk) }).await.unwrap();
        assert!(
            self.peer
                .channels()
                .iter()
                .all(|known| { known.funding_txo.is_none_or(|output| output.to_string() != channel.channel_point) })
        );
    }

    fn ldk_has(&self) -> i64 {
        i64::try_from(self.peer.wallet()).unwrap()
    }

    /// What both have, and what miners got, is what both had.
    async fn add_up(&self, coins: i64, since: u32) {
        let ledger = Ledger::since(&self.alice, since).await.unwrap();
        let fees = ledger.all_fees();
        assert_eq!(self.alice.wallet_balance().await.unwrap() + self.ldk_has() + fees, coins);
    }
}
