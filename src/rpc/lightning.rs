//! `lnrpc.Lightning`: the wallet, peers, channels, invoices and payments.

use leyden_channels::types::NodeId;
use leyden_common::names::{REFUSE_HIGH_FEE, SWAPS};
use leyden_proto::lnrpc::{self, lightning_server::Lightning};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

use super::{
    Context, assemble, auth,
    convert::{
        backups, channels, custom, deciding, edge, forgetting, forwarding, funding, graph, invoices, lifecycle,
        long_closed::ClosedPieces, long_graph::GraphPieces, long_transactions::TransactionPieces, payments, recovery,
        routes, tokens, wallet, wallet_kit,
    },
    long,
    status::{Replies, replies, requests},
};
use crate::api::{ApiError, InvoiceState, OpenStage};

pub(super) struct LightningService {
    context: Context,
}

impl LightningService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

type Reply<T> = Result<Response<T>, Status>;

fn reply<T>(message: T) -> Reply<T> {
    Ok(Response::new(message))
}

#[tonic::async_trait]
impl Lightning for LightningService {
    type ChannelAcceptorStream = Replies<lnrpc::ChannelAcceptRequest>;
    type OpenChannelStream = Replies<lnrpc::OpenStatusUpdate>;
    type CloseChannelStream = Replies<lnrpc::CloseStatusUpdate>;
    type SubscribeChannelEventsStream = Replies<lnrpc::ChannelEventUpdate>;
    type SubscribeChannelBackupsStream = Replies<lnrpc::ChanBackupSnapshot>;
    type SubscribeTransactionsStream = Replies<lnrpc::Transaction>;
    type SubscribeChannelGraphStream = Replies<lnrpc::GraphTopologyUpdate>;
    type SubscribeCustomMessagesStream = Replies<lnrpc::CustomMessage>;
    type SubscribePeerEventsStream = Replies<lnrpc::PeerEvent>;
    type SubscribeInvoicesStream = Replies<lnrpc::Invoice>;

    async fn get_info(&self, _request: Request<lnrpc::GetInfoRequest>) -> Reply<lnrpc::GetInfoResponse> {
        let info = self.context.lightning()?.info().await?;
        reply(lifecycle::node_info(&info, &self.context.daemon.network()))
    }

    async fn new_address(&self, request: Request<lnrpc::NewAddressRequest>) -> Reply<lnrpc::NewAddressResponse> {
        let lightning = self.context.lightning()?;
        let (kind, reuse_unpaid) = wallet::address_kind(&request.into_inner())?;
        let address = lightning.new_address(kind, reuse_unpaid).await?.to_string();
        reply(lnrpc::NewAddressResponse { address })
    }

    async fn wallet_balance(
        &self,
        request: Request<lnrpc::WalletBalanceRequest>,
    ) -> Reply<lnrpc::WalletBalanceResponse> {
        let lightning = self.context.lightning()?;
        let min_confirmations = wallet::balance_confirmations(&request.into_inner())?;
        reply(wallet::balance(&lightning.wallet_balance(min_confirmations).await?))
    }

    async fn channel_balance(
        &self,
        _request: Request<lnrpc::ChannelBalanceRequest>,
    ) -> Reply<lnrpc::ChannelBalanceResponse> {
        reply(channels::balance(&self.context.lightning()?.channel_balance().await?))
    }

    async fn send_coins(&self, request: Request<lnrpc::SendCoinsRequest>) -> Reply<lnrpc::SendCoinsResponse> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let refuses_high_fee = edge::flag(request.metadata(), REFUSE_HIGH_FEE)?;
        let mut request = wallet::send_coins(request.into_inner(), &self.context.daemon.network())?;
        request.coins.reserve = reserve;
        request.refuses_high_fee = refuses_high_fee;
        reply(lnrpc::SendCoinsResponse { txid: lightning.send_coins(request).await?.to_string() })
    }

    async fn get_transactions(
        &self,
        request: Request<lnrpc::GetTransactionsRequest>,
    ) -> Reply<lnrpc::TransactionDetails> {
        let lightning = self.context.lightning()?;
        let wanted = wallet::transaction_page(&request.into_inner())?;
        let (network, skip) = (self.context.daemon.network(), wanted.skip);
        let page = lightning.wallet_transactions(wanted).await?;
        long::reply(TransactionPieces::new(skip, page, network)).await
    }

    async fn subscribe_transactions(
        &self,
        request: Request<lnrpc::GetTransactionsRequest>,
    ) -> Reply<Self::SubscribeTransactionsStream> {
        let lightning = self.context.lightning()?;
        let wanted = wallet::transaction_page(&request.into_inner())?;
        let network = self.context.daemon.network();
        let updates = lightning.transaction_updates().await?;
        Ok(replies(updates, &self.context.stopping, move |tx| {
            let height = tx.confirmation.map(|confirmation| confirmation.height);
            wanted.takes(height).then(|| wallet::transaction(&tx, &network))
        }))
    }

    async fn send_many(&self, request: Request<lnrpc::SendManyRequest>) -> Reply<lnrpc::SendManyResponse> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let mut request = wallet_kit::send_many(request.into_inner(), &self.context.daemon.network())?;
        request.coins.reserve = reserve;
        reply(lnrpc::SendManyResponse { txid: lightning.send_many(request).await?.to_string() })
    }

    async fn estimate_fee(&self, request: Request<lnrpc::EstimateFeeRequest>) -> Reply<lnrpc::EstimateFeeResponse> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let mut request = wallet_kit::to_estimate(&request.into_inner(), &self.context.daemon.network())?;
        request.coins.reserve = reserve;
        reply(wallet_kit::estimate(&lightning.estimate_send(request).await?))
    }

    async fn subscribe_peer_events(
        &self,
        _request: Request<lnrpc::PeerEventSubscription>,
    ) -> Reply<Self::SubscribePeerEventsStream> {
        let events = self.context.lightning()?.peer_events().await?;
        Ok(replies(events, &self.context.stopping, |event| Some(wallet::peer_event(&event))))
    }

    async fn sign_message(&self, request: Request<lnrpc::SignMessageRequest>) -> Reply<lnrpc::SignMessageResponse> {
        let lightning = self.context.lightning()?;
        let lnrpc::SignMessageRequest { msg, single_hash } = request.into_inner();
        if msg.is_empty() {
            return Err(ApiError::invalid("need a message to sign").into());
        }
        reply(lnrpc::SignMessageResponse { signature: lightning.sign_message(msg, single_hash).await? })
    }

    async fn verify_message(
        &self,
        request: Request<lnrpc::VerifyMessageRequest>,
    ) -> Reply<lnrpc::VerifyMessageResponse> {
        let lightning = self.context.lightning()?;
        let lnrpc::VerifyMessageRequest { msg, signature } = request.into_inner();
        if msg.is_empty() {
            return Err(ApiError::invalid("need a message to verify").into());
        }
        let signatory = lightning.verify_message(msg, &signature).await?;
        reply(lnrpc::VerifyMessageResponse {
            valid: signatory.is_some_and(|signatory| signatory.is_known),
            pubkey: signatory.map(|signatory| signatory.node_id.to_string()).unwrap_or_default(),
        })
    }

    async fn send_custom_message(
        &self,
        request: Request<lnrpc::SendCustomMessageRequest>,
    ) -> Reply<lnrpc::SendCustomMessageResponse> {
        let lightning = self.context.lightning()?;
        lightning.send_custom(custom::to_send(request.into_inner())?).await?;
        reply(lnrpc::SendCustomMessageResponse { status: "message sent successfully".to_owned() })
    }

    async fn subscribe_custom_messages(
        &self,
        _request: Request<lnrpc::SubscribeCustomMessagesRequest>,
    ) -> Reply<Self::SubscribeCustomMessagesStream> {
        let messages = self.context.lightning()?.custom_messages().await?;
        Ok(replies(messages, &self.context.stopping, |message| Some(custom::received(&message))))
    }

    async fn get_recovery_info(
        &self,
        _request: Request<lnrpc::GetRecoveryInfoRequest>,
    ) -> Reply<lnrpc::GetRecoveryInfoResponse> {
        let found = self.context.lightning()?.recovery().await?;
        reply(recovery::info(&found))
    }

    async fn delete_payment(
        &self,
        request: Request<lnrpc::DeletePaymentRequest>,
    ) -> Reply<lnrpc::DeletePaymentResponse> {
        let lightning = self.context.lightning()?;
        let which = payments::to_forget(&request.into_inner())?;
        let count = lightning.forget_payments(which).await?;
        reply(lnrpc::DeletePaymentResponse { status: payments::forgotten(count, which) })
    }

    async fn delete_all_payments(
        &self,
        request: Request<lnrpc::DeleteAllPaymentsRequest>,
    ) -> Reply<lnrpc::DeleteAllPaymentsResponse> {
        let lightning = self.context.lightning()?;
        let which = payments::all_to_forget(&request.into_inner())?;
        let count = lightning.forget_payments(which).await?;
        reply(lnrpc::DeleteAllPaymentsResponse { status: payments::forgotten(count, which) })
    }

    async fn check_macaroon_permissions(
        &self,
        request: Request<lnrpc::CheckMacPermRequest>,
    ) -> Reply<lnrpc::CheckMacPermResponse> {
        let request = request.into_inner();
        let (needed, path) = tokens::to_check(&request)?;
        self.context.daemon.check_macaroon(request.macaroon, needed, path).await?;
        reply(lnrpc::CheckMacPermResponse { valid: true })
    }

    async fn list_unspent(&self, request: Request<lnrpc::ListUnspentRequest>) -> Reply<lnrpc::ListUnspentResponse> {
        let lightning = self.context.lightning()?;
        let wanted = wallet::confirmation_range(&request.into_inner())?;
        let network = self.context.daemon.network();
        let coins = lightning.unspent().await?;
        let make = move || {
            let utxos = coins.iter().filter(|coin| wanted.contains(&coin.confirmations));
            lnrpc::ListUnspentResponse { utxos: utxos.map(|coin| wallet::utxo(coin, &network)).collect() }
        };
        reply(assemble(make).await?)
    }

    async fn connect_peer(&self, request: Request<lnrpc::ConnectPeerRequest>) -> Reply<lnrpc::ConnectPeerResponse> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let peer = wallet::peer_address(&request)?;
        let status = match request.perm {
            true => format!("connecting to {} in the background", peer.node_id),
            false => format!("connected to {}", peer.node_id),
        };
        lightning.connect_peer(peer, request.perm).await?;
        reply(lnrpc::ConnectPeerResponse { status })
    }

    async fn list_peers(&self, request: Request<lnrpc::ListPeersRequest>) -> Reply<lnrpc::ListPeersResponse> {
        let peers = self.context.lightning()?.peers().await?;
        let latest_error = request.into_inner().latest_error;
        reply(lnrpc::ListPeersResponse { peers: peers.iter().map(|peer| wallet::peer(peer, latest_error)).collect() })
    }

    async fn disconnect_peer(
        &self,
        request: Request<lnrpc::DisconnectPeerRequest>,
    ) -> Reply<lnrpc::DisconnectPeerResponse> {
        let lightning = self.context.lightning()?;
        let node_id = edge::node_id_hex("pub_key", &request.into_inner().pub_key)?;
        lightning.disconnect_peer(node_id).await?;
        reply(lnrpc::DisconnectPeerResponse { status: format!("disconnected from {node_id}") })
    }

    async fn open_channel(&self, request: Request<lnrpc::OpenChannelRequest>) -> Reply<Self::OpenChannelStream> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let mut request = channels::open_channel(request.into_inner(), &self.context.daemon.network())?;
        request.coins.reserve = reserve;
        let updates = lightning.open_channel(request).await?;
        Ok(replies(updates, &self.context.stopping, |update| Some(channels::open_update(&update))))
    }

    async fn open_channel_sync(&self, request: Request<lnrpc::OpenChannelRequest>) -> Reply<lnrpc::ChannelPoint> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let mut request = channels::open_channel(request.into_inner(), &self.context.daemon.network())?;
        if request.shim.is_some() {
            // This call has one answer, and the PSBT would come between.
            return Err(
                edge::wrong("funding_shim", "OpenChannel tells what the PSBT must pay, this call cannot").into()
            );
        }
        request.coins.reserve = reserve;
        let mut updates = lightning.open_channel(request).await?;
        let update = updates.next().await.ok_or_else(|| {
            ApiError::internal("the opening ended without a word: `leyden pendingchannels` shows whether it has begun")
        })??;
        match update.stage {
            OpenStage::Pending { funding, .. } | OpenStage::Open { funding } => reply(channels::channel_point(funding)),
            OpenStage::Awaited { .. } => Err(ApiError::internal("it waits for a PSBT that nobody can give it").into()),
        }
    }

    async fn channel_acceptor(
        &self,
        request: Request<Streaming<lnrpc::ChannelAcceptResponse>>,
    ) -> Reply<Self::ChannelAcceptorStream> {
        let lightning = self.context.lightning()?;
        let network = self.context.daemon.network();
        let answers = requests(request.into_inner(), move |answer| Ok(deciding::answer(answer, &network)));
        let questions = lightning.accept_channels(answers).await?;
        Ok(replies(questions, &self.context.stopping, |question| Some(deciding::question(&question))))
    }

    async fn batch_open_channel(
        &self,
        request: Request<lnrpc::BatchOpenChannelRequest>,
    ) -> Reply<lnrpc::BatchOpenChannelResponse> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let mut request = funding::batch(request.into_inner(), &self.context.daemon.network())?;
        request.coins.reserve = reserve;
        reply(funding::batch_opened(&lightning.open_channels(request).await?))
    }

    async fn funding_state_step(
        &self,
        request: Request<lnrpc::FundingTransitionMsg>,
    ) -> Reply<lnrpc::FundingStateStepResp> {
        let lightning = self.context.lightning()?;
        let (id, step) = funding::step(request.into_inner())?;
        lightning.funding_step(id, step).await?;
        reply(lnrpc::FundingStateStepResp {})
    }

    async fn close_channel(&self, request: Request<lnrpc::CloseChannelRequest>) -> Reply<Self::CloseChannelStream> {
        let lightning = self.context.lightning()?;
        let request = channels::close_channel(request.into_inner(), &self.context.daemon.network())?;
        let updates = lightning.close_channel(request).await?;
        Ok(replies(updates, &self.context.stopping, |update| Some(channels::close_update(&update))))
    }

    async fn abandon_channel(
        &self,
        request: Request<lnrpc::AbandonChannelRequest>,
    ) -> Reply<lnrpc::AbandonChannelResponse> {
        let lightning = self.context.lightning()?;
        let funding = channels::abandon_channel(&request.into_inner())?;
        reply(lnrpc::AbandonChannelResponse { status: lightning.abandon_channel(funding).await? })
    }

    async fn list_channels(&self, request: Request<lnrpc::ListChannelsRequest>) -> Reply<lnrpc::ListChannelsResponse> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let wanted = channels::ChannelFilter::new(&request)?;
        let mut all = lightning.channels().await?;
        all.retain(|channel| wanted.takes(channel));
        let mut channels: Vec<lnrpc::Channel> = all.iter().map(channels::channel).collect();
        if request.peer_alias_lookup {
            let peers: Vec<NodeId> = all.iter().map(|channel| channel.summary.node_id.into()).collect();
            for (channel, alias) in channels.iter_mut().zip(lightning.aliases(&peers).await?) {
                channel.peer_alias = alias;
            }
        }
        reply(lnrpc::ListChannelsResponse { channels })
    }

    async fn pending_channels(
        &self,
        request: Request<lnrpc::PendingChannelsRequest>,
    ) -> Reply<lnrpc::PendingChannelsResponse> {
        let pending = self.context.lightning()?.pending_channels().await?;
        reply(channels::pending_channels(&pending, request.into_inner().include_raw_tx))
    }

    async fn closed_channels(
        &self,
        request: Request<lnrpc::ClosedChannelsRequest>,
    ) -> Reply<lnrpc::ClosedChannelsResponse> {
        let wanted = request.into_inner();
        let mut channels = self.context.lightning()?.closed_channels().await?;
        channels.retain(|channel| channels::closure_is_wanted(&wanted, channel.closure));
        long::reply(ClosedPieces::new(channels, self.context.daemon.network().genesis)).await
    }

    async fn subscribe_channel_events(
        &self,
        _request: Request<lnrpc::ChannelEventSubscription>,
    ) -> Reply<Self::SubscribeChannelEventsStream> {
        let updates = self.context.lightning()?.channel_events().await?;
        let genesis = self.context.daemon.network().genesis;
        Ok(replies(updates, &self.context.stopping, move |event| Some(channels::channel_event(&event, genesis))))
    }

    async fn export_channel_backup(
        &self,
        request: Request<lnrpc::ExportChannelBackupRequest>,
    ) -> Reply<lnrpc::ChannelBackup> {
        let lightning = self.context.lightning()?;
        let funding = edge::channel_point("chan_point", request.into_inner().chan_point.as_ref())?;
        reply(backups::backup(&lightning.channel_backup(funding).await?))
    }

    async fn export_all_channel_backups(
        &self,
        _request: Request<lnrpc::ChanBackupExportRequest>,
    ) -> Reply<lnrpc::ChanBackupSnapshot> {
        reply(backups::snapshot(&self.context.lightning()?.channel_backups().await?))
    }

    async fn subscribe_channel_backups(
        &self,
        _request: Request<lnrpc::ChannelBackupSubscription>,
    ) -> Reply<Self::SubscribeChannelBackupsStream> {
        let updates = self.context.lightning()?.backup_updates().await?;
        Ok(replies(updates, &self.context.stopping, |snapshot| Some(backups::snapshot(&snapshot))))
    }

    async fn verify_chan_backup(
        &self,
        request: Request<lnrpc::ChanBackupSnapshot>,
    ) -> Reply<lnrpc::VerifyChanBackupResponse> {
        let lightning = self.context.lightning()?;
        let sealed = backups::sealed(request.into_inner())?;
        let contents = lightning.verify_backups(sealed).await?;
        let mut answer = Response::new(backups::verified(&contents));
        answer.metadata_mut().insert(SWAPS, MetadataValue::from(contents.swaps));
        Ok(answer)
    }

    async fn restore_channel_backups(
        &self,
        request: Request<lnrpc::RestoreChanBackupRequest>,
    ) -> Reply<lnrpc::RestoreBackupResponse> {
        let lightning = self.context.lightning()?;
        let sealed = backups::to_restore(request.into_inner())?;
        reply(lnrpc::RestoreBackupResponse { num_restored: lightning.restore_backups(sealed).await? })
    }

    async fn add_invoice(&self, request: Request<lnrpc::Invoice>) -> Reply<lnrpc::AddInvoiceResponse> {
        let lightning = self.context.lightning()?;
        let request = invoices::add_invoice(request.into_inner(), &self.context.daemon.network())?;
        let invoice = lightning.add_invoice(request).await?;
        reply(lnrpc::AddInvoiceResponse {
            r_hash: invoice.payment_hash.0.to_vec(),
            payment_request: invoice.request,
            add_index: invoice.add_index,
            payment_addr: invoice.secret.0.to_vec(),
        })
    }

    async fn lookup_invoice(&self, request: Request<lnrpc::PaymentHash>) -> Reply<lnrpc::Invoice> {
        let lightning = self.context.lightning()?;
        let hash = invoices::lookup_hash(&request.into_inner())?;
        reply(invoices::invoice(&lightning.invoice(hash).await?))
    }

    async fn list_invoices(&self, request: Request<lnrpc::ListInvoiceRequest>) -> Reply<lnrpc::ListInvoiceResponse> {
        let lightning = self.context.lightning()?;
        let page = lightning.invoices(invoices::page_request(&request.into_inner())).await?;
        let make = move || lnrpc::ListInvoiceResponse {
            first_index_offset: page.items.first().map_or(0, |invoice| invoice.add_index),
            last_index_offset: page.items.last().map_or(0, |invoice| invoice.add_index),
            invoices: page.items.iter().map(invoices::invoice).collect(),
        };
        reply(assemble(make).await?)
    }

    async fn delete_canceled_invoice(
        &self,
        request: Request<lnrpc::DelCanceledInvoiceReq>,
    ) -> Reply<lnrpc::DelCanceledInvoiceResp> {
        let lightning = self.context.lightning()?;
        let hash = forgetting::invoice(&request.into_inner())?;
        lightning.forget_invoice(hash).await?;
        reply(lnrpc::DelCanceledInvoiceResp {
            status: format!("canceled invoice deleted successfully: invoice hash {hash}"),
        })
    }

    async fn list_aliases(&self, _request: Request<lnrpc::ListAliasesRequest>) -> Reply<lnrpc::ListAliasesResponse> {
        let channels = self.context.lightning()?.channels().await?;
        reply(lnrpc::ListAliasesResponse { alias_maps: channels.iter().filter_map(channels::alias_map).collect() })
    }

    async fn lookup_htlc_resolution(
        &self,
        request: Request<lnrpc::LookupHtlcResolutionRequest>,
    ) -> Reply<lnrpc::LookupHtlcResolutionResponse> {
        let lightning = self.context.lightning()?;
        let (channel, id) = forwarding::htlc_name(&request.into_inner());
        let end = lightning.final_htlc(channel, id).await?;
        reply(lnrpc::LookupHtlcResolutionResponse { settled: end.settled, offchain: !end.on_chain })
    }

    async fn subscribe_invoices(
        &self,
        request: Request<lnrpc::InvoiceSubscription>,
    ) -> Reply<Self::SubscribeInvoicesStream> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let after = |index: u64| (index != 0).then_some(index);
        let updates = lightning.subscribe_invoices(after(request.add_index), after(request.settle_index)).await?;
        // LND's subscribers expect to hear of the first two alone. (differs: who was told of money hears if it does not
        // come home.)
        Ok(replies(updates, &self.context.stopping, |invoice| match invoice.state {
            InvoiceState::Open | InvoiceState::Settled { .. } | InvoiceState::TakenBack { .. } => {
                Some(invoices::invoice(&invoice))
            }
            InvoiceState::Accepted { .. } | InvoiceState::Canceled => None,
        }))
    }

    async fn decode_pay_req(&self, request: Request<lnrpc::PayReqString>) -> Reply<lnrpc::PayReq> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let text = invoices::request_text("pay_req", &request.pay_req)?;
        reply(invoices::decoded(&lightning.decode_invoice(text).await?))
    }

    async fn list_payments(&self, request: Request<lnrpc::ListPaymentsRequest>) -> Reply<lnrpc::ListPaymentsResponse> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let page = lightning.payments(payments::page_request(&request), request.include_incomplete).await?;
        let make = move || lnrpc::ListPaymentsResponse {
            first_index_offset: page.items.first().map_or(0, |payment| payment.index),
            last_index_offset: page.items.last().map_or(0, |payment| payment.index),
            total_num_payments: if request.count_total_payments { page.total } else { 0 },
            payments: page.items.iter().map(payments::payment).collect(),
        };
        reply(assemble(make).await?)
    }

    async fn describe_graph(&self, request: Request<lnrpc::ChannelGraphRequest>) -> Reply<lnrpc::ChannelGraph> {
        let unannounced = request.into_inner().include_unannounced;
        let whole = self.context.lightning()?.graph(unannounced).await?;
        long::reply(GraphPieces::new(whole)).await
    }

    async fn subscribe_channel_graph(
        &self,
        _request: Request<lnrpc::GraphTopologySubscription>,
    ) -> Reply<Self::SubscribeChannelGraphStream> {
        let updates = self.context.lightning()?.graph_updates().await?;
        Ok(replies(updates, &self.context.stopping, |update| Some(graph::update(&update))))
    }

    async fn get_chan_info(&self, request: Request<lnrpc::ChanInfoRequest>) -> Reply<lnrpc::ChannelEdge> {
        let lightning = self.context.lightning()?;
        let name = graph::channel_name(&request.into_inner())?;
        reply(graph::channel(&lightning.graph_channel(name).await?))
    }

    async fn get_node_info(&self, request: Request<lnrpc::NodeInfoRequest>) -> Reply<lnrpc::NodeInfo> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let view = lightning.graph_node(graph::node_name(&request)?).await?;
        reply(graph::node_view(&view, request.include_channels))
    }

    async fn get_network_info(&self, _request: Request<lnrpc::NetworkInfoRequest>) -> Reply<lnrpc::NetworkInfo> {
        reply(graph::summary(&self.context.lightning()?.network_summary().await?))
    }

    async fn query_routes(&self, request: Request<lnrpc::QueryRoutesRequest>) -> Reply<lnrpc::QueryRoutesResponse> {
        let lightning = self.context.lightning()?;
        let query = routes::route_query(request.into_inner())?;
        reply(routes::found(&lightning.query_route(query).await?))
    }

    async fn fee_report(&self, _request: Request<lnrpc::FeeReportRequest>) -> Reply<lnrpc::FeeReportResponse> {
        reply(forwarding::fee_report(&self.context.lightning()?.fee_report().await?))
    }

    async fn update_channel_policy(
        &self,
        request: Request<lnrpc::PolicyUpdateRequest>,
    ) -> Reply<lnrpc::PolicyUpdateResponse> {
        let lightning = self.context.lightning()?;
        let change = forwarding::policy_change(&request.into_inner())?;
        let refused = lightning.update_policy(change).await?;
        let failed_updates = refused.iter().map(forwarding::policy_refused).collect();
        reply(lnrpc::PolicyUpdateResponse { failed_updates })
    }

    async fn forwarding_history(
        &self,
        request: Request<lnrpc::ForwardingHistoryRequest>,
    ) -> Reply<lnrpc::ForwardingHistoryResponse> {
        let lightning = self.context.lightning()?;
        let request = forwarding::forwards_request(&request.into_inner());
        let page = lightning.forwards(request).await?;
        reply(assemble(move || forwarding::forwards(&page)).await?)
    }

    async fn bake_macaroon(&self, request: Request<lnrpc::BakeMacaroonRequest>) -> Reply<lnrpc::BakeMacaroonResponse> {
        self.context.refuse_while_locked()?;
        let token = auth::shown(request.metadata());
        let request = request.into_inner();
        let key = request.root_key_id;
        self.context.daemon.may_bake(&token, key)?;
        let macaroon = self.context.daemon.bake_macaroon(tokens::permissions(request)?, key).await?;
        reply(lnrpc::BakeMacaroonResponse { macaroon: hex::encode(macaroon) })
    }

    async fn list_macaroon_i_ds(
        &self,
        _request: Request<lnrpc::ListMacaroonIDsRequest>,
    ) -> Reply<lnrpc::ListMacaroonIDsResponse> {
        self.context.refuse_while_locked()?;
        reply(lnrpc::ListMacaroonIDsResponse { root_key_ids: self.context.daemon.macaroon_keys().await? })
    }

    async fn delete_macaroon_id(
        &self,
        request: Request<lnrpc::DeleteMacaroonIdRequest>,
    ) -> Reply<lnrpc::DeleteMacaroonIdResponse> {
        self.context.refuse_while_locked()?;
        let deleted = self.context.daemon.delete_macaroon_key(request.into_inner().root_key_id).await?;
        reply(lnrpc::DeleteMacaroonIdResponse { deleted })
    }

    async fn list_permissions(
        &self,
        _request: Request<lnrpc::ListPermissionsRequest>,
    ) -> Reply<lnrpc::ListPermissionsResponse> {
        reply(tokens::all())
    }

    async fn debug_level(&self, request: Request<lnrpc::DebugLevelRequest>) -> Reply<lnrpc::DebugLevelResponse> {
        self.context.lightning()?;
        let lnrpc::DebugLevelRequest { show, level_spec } = request.into_inner();
        let sub_systems = match show {
            true => self.context.daemon.log_parts().join(" "),
            false => self.context.daemon.set_log_level(&level_spec)?,
        };
        reply(lnrpc::DebugLevelResponse { sub_systems })
    }

    async fn get_debug_info(&self, request: Request<lnrpc::GetDebugInfoRequest>) -> Reply<lnrpc::GetDebugInfoResponse> {
        self.context.lightning()?;
        let log = match request.into_inner().include_log {
            true => self.context.daemon.log_lines().await?,
            false => Vec::new(),
        };
        reply(lnrpc::GetDebugInfoResponse { config: self.context.daemon.settings().into_iter().collect(), log })
    }

    async fn stop_daemon(&self, _request: Request<lnrpc::StopRequest>) -> Reply<lnrpc::StopResponse> {
        self.context.daemon.stop();
        reply(lnrpc::StopResponse { status: "leydend is stopping".to_owned() })
    }
}
