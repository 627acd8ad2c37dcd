//! The calls that stories are made of.

use std::collections::BTreeSet;

use leyden_proto::{
    leyden::{ConnectChainPeerRequest, GetMempoolRequest},
    lnrpc::{
        Channel, ChannelCloseSummary, ChannelPoint, CloseChannelRequest, ClosedChannelsRequest, CommitmentType,
        GetTransactionsRequest, Invoice, ListChannelsRequest, ListInvoiceRequest, ListPaymentsRequest,
        OpenChannelRequest, Payment, PendingChannelsRequest, PendingChannelsResponse, Transaction,
        WalletBalanceRequest, channel_point::FundingTxid, invoice::InvoiceState, payment::PaymentStatus,
        pending_channels_response::ForceClosedChannel,
    },
    routerrpc::SendPaymentRequest,
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::cluster::{ClusterError, DaemonProcess, wait_until};

/// Nobody has the key of this address: what is mined for it disturbs no balance.
pub const NOBODY: &str = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202";

impl DaemonProcess {
    /// Every channel, usable or not.
    pub async fn channels(&self) -> Result<Vec<Channel>, ClusterError> {
        let list = self.client()?.lightning().list_channels(ListChannelsRequest::default()).await;
        Ok(list.map_err(|status| self.call_error(status))?.into_inner().channels)
    }

    /// Its one open channel; an error if it has none or more.
    pub async fn only_channel(&self) -> Result<Channel, ClusterError> {
        let what = format!("the one channel of {}", self.name());
        self.channels().await?.into_iter().next().ok_or(ClusterError::Waited { what })
    }

    /// Waits until `count` channels can carry payments.
    pub async fn wait_for_active_channels(&self, count: usize) -> Result<(), ClusterError> {
        wait_until(&format!("{count} active channels of {}", self.name()), || async {
            Ok(self.channels().await?.iter().filter(|channel| channel.active).count() >= count)
        })
        .await
    }

    /// Opens a channel to a connected peer; returns once the funding transaction is broadcast.
    pub async fn open_channel(
        &self,
        peer: &DaemonProcess,
        capacity_sat: i64,
        push_sat: i64,
    ) -> Result<(), ClusterError> {
        self.open_channel_of_type(peer, capacity_sat, push_sat, CommitmentType::UnknownCommitmentType).await
    }

    /// The same, of a type that is not for the daemons to choose.
    pub async fn open_channel_of_type(
        &self,
        peer: &DaemonProcess,
        capacity_sat: i64,
        push_sat: i64,
        commitment_type: CommitmentType,
    ) -> Result<(), ClusterError> {
        let node_pubkey = hex::decode(peer.node_id().await?).unwrap_or_default();
        let request = OpenChannelRequest {
            node_pubkey,
            local_funding_amount: capacity_sat,
            push_sat,
            sat_per_vbyte: 2,
            commitment_type: commitment_type.into(),
            ..OpenChannelRequest::default()
        };
        let mut lightning = self.client()?.lightning();
        let mut updates = lightning.open_channel(request).await.map_err(|status| self.call_error(status))?.into_inner();
        match updates.next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(status)) => Err(self.call_error(status)),
            None => Err(ClusterError::Waited { what: "the funding transaction".into() }),
        }
    }

    /// Mines for nobody while nobody listens.
    pub async fn mine_alone(&self, blocks: u32) -> Result<(), ClusterError> {
        let height = self.height().await? + blocks;
        self.mine(blocks, Some(NOBODY)).await?;
        wait_until("the wallet to follow", || async { Ok(self.height().await? >= height) }).await
    }

    /// Connects to another node of the chain.
    pub async fn connect_chain(&self, other: &DaemonProcess) -> Result<(), ClusterError> {
        let request = ConnectChainPeerRequest { address: other.chain_address()? };
        let connected = self.client()?.chain().connect_peer(request).await;
        connected.map(|_| ()).map_err(|status| self.call_error(status))
    }

    /// Closes a channel; returns once the closing transaction is broadcast.
    pub async fn close_channel(&self, channel_point: &str, force: bool) -> Result<(), ClusterError> {
        let (txid, index) = channel_point.split_once(':').unwrap_or((channel_point, "0"));
        let point = ChannelPoint {
            funding_txid: Some(FundingTxid::FundingTxidStr(txid.to_owned())),
            output_index: index.parse().unwrap_or_default(),
        };
        let request = CloseChannelRequest {
            channel_point: Some(point),
            force,
            sat_per_vbyte: if force { 0 } else { 2 },
            ..CloseChannelRequest::default()
        };
        let mut lightning = self.client()?.lightning();
        let mut updates =
            lightning.close_channel(request).await.map_err(|status| self.call_error(status))?.into_inner();
        match updates.next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(status)) => Err(self.call_error(status)),
            None => Err(ClusterError::Waited { what: "the closing transaction".into() }),
        }
    }

    /// An invoice's BOLT 11 text.
    pub async fn invoice(&self, value_sat: i64, memo: &str) -> Result<String, ClusterError> {
        let request = Invoice { value: value_sat, memo: memo.to_owned(), ..Invoice::default() };
        let added = self.client()?.lightning().add_invoice(request).await;
        Ok(added.map_err(|status| self.call_error(status))?.into_inner().payment_request)
    }

    /// Pays an invoice and waits for the end, whatever it is.
    pub async fn pay(&self, payment_request: String) -> Result<Payment, ClusterError> {
        self.pay_within(payment_request, 0).await
    }

    /// Pays an invoice, with coins locked for at most so many blocks; 0: as many as is usual.
    pub async fn pay_within(&self, payment_request: String, cltv_limit: i32) -> Result<Payment, ClusterError> {
        let request = SendPaymentRequest {
            payment_request,
            cltv_limit,
            timeout_seconds: 60,
            fee_limit_sat: 1_000_000,
            no_inflight_updates: true,
            ..SendPaymentRequest::default()
        };
        let mut router = self.client()?.router();
        let mut updates = router.send_payment_v2(request).await.map_err(|status| self.call_error(status))?.into_inner();
        let mut last = None;
        while let Some(update) = updates.next().await {
            last = Some(update.map_err(|status| self.call_error(status))?);
        }
        last.ok_or(ClusterError::Waited { what: "the end of a payment".into() })
    }

    /// Confirmed and unconfirmed coins of the wallet, without immature ones.
    pub async fn wallet_balance(&self) -> Result<i64, ClusterError> {
        let balance = self.client()?.lightning().wallet_balance(WalletBalanceRequest::default()).await;
        Ok(balance.map_err(|status| self.call_error(status))?.into_inner().total_balance)
    }

    /// All transactions of its wallet.
    pub async fn transactions(&self) -> Result<Vec<Transaction>, ClusterError> {
        let list = self.client()?.lightning().get_transactions(GetTransactionsRequest::default()).await;
        Ok(list.map_err(|status| self.call_error(status))?.into_inner().transactions)
    }
}

/// Whether a payment ended well.
pub fn succeeded(payment: &Payment) -> bool {
    payment.status() == PaymentStatus::Succeeded
}

/// Waits for the balance of a wallet to become `expected`; gives what it is in the end.
pub async fn settled_balance(node: &DaemonProcess, expected: i64) -> Result<i64, ClusterError> {
    let is_there = || async { Ok(node.wallet_balance().await? == expected) };
    match wait_until("the balance of a wallet", is_there).await {
        Ok(()) | Err(ClusterError::Waited { .. }) => node.wallet_balance().await,
        Err(error) => Err(error),
    }
}

/// What a node has paid and was paid over Lightning, to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// Satoshi of payments that succeeded.
    pub sent: i64,
    /// Satoshi of invoices that were paid.
    pub received: i64,
    /// Payments that have neither succeeded nor failed.
    pub in_flight: usize,
}

impl DaemonProcess {
    /// Sums up its payments and invoices.
    pub async fn paid(&self) -> Result<Paid, ClusterError> {
        let mut lightning = self.client()?.lightning();
        let request = ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
        let payments = lightning.list_payments(request).await.map_err(|status| self.call_error(status))?;
        let request = ListInvoiceRequest { num_max_invoices: 100_000, ..ListInvoiceRequest::default() };
        let invoices = lightning.list_invoices(request).await.map_err(|status| self.call_error(status))?;
        let payments = payments.into_inner().payments;
        let of = |status: PaymentStatus| payments.iter().filter(move |payment| payment.status() == status);
        let invoices = invoices.into_inner().invoices;
        let settled = invoices.iter().filter(|invoice| invoice.state() == InvoiceState::Settled);
        Ok(Paid {
            sent: of(PaymentStatus::Succeeded).map(|payment| payment.value_sat).sum(),
            received: settled.map(|invoice| invoice.amt_paid_sat).sum(),
            in_flight: of(PaymentStatus::InFlight).count(),
        })
    }

    /// Its channels that are being opened or closed.
    pub async fn pending_channels(&self) -> Result<PendingChannelsResponse, ClusterError> {
        let pending = self.client()?.lightning().pending_channels(PendingChannelsRequest::default()).await;
        Ok(pending.map_err(|status| self.call_error(status))?.into_inner())
    }

    /// The one channel that is closing by force and whose commitment is in the chain.
    pub async fn force_closing(&self) -> Result<Option<ForceClosedChannel>, ClusterError> {
        Ok(self.pending_channels().await?.pending_force_closing_channels.into_iter().next())
    }

    /// This channel, if it is closing by force and its commitment is in the chain.
    pub async fn closing(&self, channel_point: &str) -> Result<Option<ForceClosedChannel>, ClusterError> {
        let mut closing = self.pending_channels().await?.pending_force_closing_channels.into_iter();
        Ok(closing.find(|one| one.channel.as_ref().is_some_and(|channel| channel.channel_point == channel_point)))
    }

    /// Its closed channels.
    pub async fn closed_channels(&self) -> Result<Vec<ChannelCloseSummary>, ClusterError> {
        let closed = self.client()?.lightning().closed_channels(ClosedChannelsRequest::default()).await;
        Ok(closed.map_err(|status| self.call_error(status))?.into_inner().channels)
    }

    /// The ids of all transactions that have moved the wallet's coins.
    pub async fn wallet_txids(&self) -> Result<BTreeSet<String>, ClusterError> {
        Ok(self.transactions().await?.into_iter().map(|transaction| transaction.tx_hash).collect())
    }

    /// The ids of all transactions that wait for a block.
    pub async fn waiting_txids(&self) -> Result<BTreeSet<String>, ClusterError> {
        let request = GetMempoolRequest { include_transactions: true, ..Default::default() };
        let mempool = self.client()?.chain().get_mempool(request).await;
        let mempool = mempool.map_err(|status| self.call_error(status))?.into_inner();
        Ok(mempool.transactions.into_iter().map(|transaction| transaction.txid).collect())
    }

    /// Begins to pay each of these invoices; the tasks end when the payments do, or the daemon.
    pub fn pay_all(&self, invoices: Vec<String>, calls: &mut JoinSet<()>) -> Result<(), ClusterError> {
        for payment_request in invoices {
            let mut router = self.client()?.router();
            calls.spawn(async move {
                let request = SendPaymentRequest {
                    payment_request,
                    timeout_seconds: 60,
                    no_inflight_updates: true,
                    ..SendPaymentRequest::default()
                };
                let Ok(updates) = router.send_payment_v2(request).await else { return };
                let mut updates = updates.into_inner();
                while let Ok(Some(_)) = updates.message().await {}
            });
        }
        Ok(())
    }
}
