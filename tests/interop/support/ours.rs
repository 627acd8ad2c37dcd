//! What the cases ask of a daemon of ours.

use ldk_node::{ChannelDetails, LightningBalance};
use leyden_client::cluster::{DaemonProcess, wait_until};
use leyden_proto::{
    invoicesrpc::{AddHoldInvoiceRequest, CancelInvoiceMsg, SettleInvoiceMsg},
    lnrpc::{
        Channel, CommitmentType, ConnectPeerRequest, DisconnectPeerRequest, Invoice, LightningAddress,
        ListPeersRequest, OpenChannelRequest, Payment, PaymentHash, invoice::InvoiceState, payment::PaymentStatus,
    },
    routerrpc::{SendPaymentRequest, TrackPaymentRequest},
};

use tonic::Code;

use super::{Kind, Ldk};

/// The custom record that carries a keysend payment's preimage.
pub const KEYSEND: u64 = 5_482_373_484;

pub struct Opening {
    pub kind: Kind,
    pub capacity: i64,
    pub push: i64,
    pub private: bool,
    pub zero_conf: bool,
}

pub async fn connect(node: &DaemonProcess, peer: &Ldk) {
    let addr = Some(LightningAddress { pubkey: peer.id().to_string(), host: peer.host() });
    let request = ConnectPeerRequest { addr, ..ConnectPeerRequest::default() };
    node.client().unwrap().lightning().connect_peer(request).await.unwrap();
}

/// Connects unless they are connected; both may be dialling each other already, so that one of the two is hung up on.
pub async fn reconnect(node: &DaemonProcess, peer: &Ldk) {
    wait_until(&format!("{} to be connected to {} again", node.name(), peer.name()), || async {
        let addr = Some(LightningAddress { pubkey: peer.id().to_string(), host: peer.host() });
        let request = ConnectPeerRequest { addr, ..ConnectPeerRequest::default() };
        match node.client()?.lightning().connect_peer(request).await {
            Ok(_) => Ok(true),
            Err(status) => Ok(status.code() == Code::AlreadyExists),
        }
    })
    .await
    .unwrap();
}

pub async fn disconnect(node: &DaemonProcess, peer: &Ldk) {
    let request = DisconnectPeerRequest { pub_key: peer.id().to_string() };
    node.client().unwrap().lightning().disconnect_peer(request).await.unwrap();
}

pub async fn is_connected(node: &DaemonProcess, peer: &Ldk) -> bool {
    let peers = node.client().unwrap().lightning().list_peers(ListPeersRequest::default()).await.unwrap().into_inner();
    peers.peers.iter().any(|known| known.pub_key == peer.id().to_string())
}

/// Opens a channel to a connected peer; returns once the funding transaction is broadcast.
pub async fn open(node: &DaemonProcess, peer: &Ldk, opening: &Opening) {
    let commitment_type = match opening.kind {
        Kind::Anchors => CommitmentType::Anchors,
        Kind::StaticRemoteKey => CommitmentType::StaticRemoteKey,
    };
    let request = OpenChannelRequest {
        node_pubkey: peer.id().serialize().to_vec(),
        local_funding_amount: opening.capacity,
        push_sat: opening.push,
        sat_per_vbyte: 2,
        private: opening.private,
        zero_conf: opening.zero_conf,
        commitment_type: commitment_type.into(),
        ..OpenChannelRequest::default()
    };
    let mut updates = node.client().unwrap().lightning().open_channel(request).await.unwrap().into_inner();
    updates.message().await.unwrap().expect("the funding transaction");
}

pub async fn channels_with(node: &DaemonProcess, peer: &Ldk) -> Vec<Channel> {
    let id = peer.id().to_string();
    node.channels().await.unwrap().into_iter().filter(|channel| channel.remote_pubkey == id).collect()
}

pub async fn invoice(node: &DaemonProcess, sat: i64) -> String {
    node.invoice(sat, "interop").await.unwrap()
}

/// A request to pay an invoice, with a fee limit that nobody reaches.
pub fn for_invoice(payment_request: impl ToString) -> SendPaymentRequest {
    SendPaymentRequest { payment_request: payment_request.to_string(), ..SendPaymentRequest::default() }
}

/// Pays and waits for the end.
pub async fn pay(node: &DaemonProcess, request: SendPaymentRequest) -> Payment {
    let request =
        SendPaymentRequest { timeout_seconds: 60, no_inflight_updates: true, fee_limit_sat: 1_000, ..request };
    let mut updates = node.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(payment) = updates.message().await.unwrap() {
        last = Some(payment);
    }
    last.expect("the end of a payment")
}

/// Begins to pay; returns once the payment is stored.
pub async fn begin_to_pay(node: &DaemonProcess, request: SendPaymentRequest) {
    let request = SendPaymentRequest { timeout_seconds: 60, fee_limit_sat: 1_000, ..request };
    let mut updates = node.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
    updates.message().await.unwrap().expect("a payment that has begun");
}

/// Waits for the end of a payment.
pub async fn end(node: &DaemonProcess, hash: &[u8]) -> Payment {
    let request = TrackPaymentRequest { payment_hash: hash.to_vec(), no_inflight_updates: true };
    let mut updates = node.client().unwrap().router().track_payment_v2(request).await.unwrap().into_inner();
    updates.message().await.unwrap().expect("the end of a payment")
}

pub fn succeeded(payment: &Payment) -> bool {
    payment.status() == PaymentStatus::Succeeded
}

pub async fn hold_invoice(node: &DaemonProcess, sat: i64, hash: &[u8]) -> String {
    let request = AddHoldInvoiceRequest { hash: hash.to_vec(), value: sat, ..Default::default() };
    node.client().unwrap().invoices().add_hold_invoice(request).await.unwrap().into_inner().payment_request
}

pub async fn settle(node: &DaemonProcess, preimage: &[u8]) {
    let request = SettleInvoiceMsg { preimage: preimage.to_vec() };
    node.client().unwrap().invoices().settle_invoice(request).await.unwrap();
}

pub async fn cancel(node: &DaemonProcess, hash: &[u8]) {
    let request = CancelInvoiceMsg { payment_hash: hash.to_vec() };
    node.client().unwrap().invoices().cancel_invoice(request).await.unwrap();
}

pub async fn look_up(node: &DaemonProcess, hash: &[u8]) -> Invoice {
    let request = PaymentHash { r_hash: hash.to_vec(), ..PaymentHash::default() };
    node.client().unwrap().lightning().lookup_invoice(request).await.unwrap().into_inner()
}

pub async fn wait_until_held(node: &DaemonProcess, hash: &[u8]) {
    wait_until("a payment to be held", || async { Ok(look_up(node, hash).await.state() == InvoiceState::Accepted) })
        .await
        .unwrap();
}

/// Waits until nothing is under way in the channels with a peer, as both see it, and both agree on whose is what; gives
/// what is ours.
pub async fn agree(node: &DaemonProcess, peer: &Ldk) -> i64 {
    wait_until(&format!("{} and {} to agree", node.name(), peer.name()), || async {
        let ours = channels_with(node, peer).await;
        Ok(ours.iter().all(|channel| channel.active && channel.pending_htlcs.is_empty() && is_mirrored(channel, peer)))
    })
    .await
    .unwrap();
    channels_with(node, peer).await.iter().map(|channel| channel.local_balance).sum()
}

/// Whether a peer would get out of a channel what we hold to be its part.
fn is_mirrored(channel: &Channel, peer: &Ldk) -> bool {
    let channels = peer.channels();
    let is_it = |known: &&ChannelDetails| {
        known.funding_txo.is_some_and(|output| output.to_string() == channel.channel_point) && known.is_usable
    };
    let Some(known) = channels.iter().find(is_it) else { return false };
    peer.node().list_balances().lightning_balances.iter().any(|balance| match balance {
        LightningBalance::ClaimableOnChannelClose { channel_id, amount_satoshis, .. } => {
            *channel_id == known.channel_id && i64::try_from(*amount_satoshis).unwrap() == channel.remote_balance
        }
        _ => false,
    })
}
