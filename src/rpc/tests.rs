//! The services over a stand-in for the daemon, called as a client calls them: over a socket.

use std::{sync::Arc, time::Duration};

use leyden_proto::{
    leyden::{self, chain_client::ChainClient},
    lnrpc::{
        self, WalletState as State, invoice::InvoiceState as RpcInvoiceState, lightning_client::LightningClient,
        payment::PaymentStatus, state_client::StateClient, wallet_unlocker_client::WalletUnlockerClient,
    },
    routerrpc::{self, router_client::RouterClient},
    verrpc::{VersionRequest, versioner_client::VersionerClient},
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{
    fake::{ADDRESS, Fake, NODE, PASSWORD, funding, invoice, payment},
    *,
};
use crate::{
    api::{FailureReason, InvoiceState, PaymentState},
    limits::SlotLimits,
    macaroon::{READONLY, RootKey},
};
use leyden_channels::types::{Msat, PaymentPreimage, UnixTime};

mod announcing;
mod chain_watch;
mod commands;
mod custom;
mod deciding;
mod diagnosis;
mod experience;
mod fields;
mod forgetting;
mod holding;
mod network;
mod networks;
mod programs;
mod requests;
mod routes;
mod signing;
mod tokens;
mod towers;

fn slots() -> ConnectionSlots {
    ConnectionSlots::new(SlotLimits { strangers: 4, known: 4 })
}

struct Server {
    fake: Fake,
    channel: Channel,
    stopping: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Plain text, no macaroons.
    async fn start(state: WalletState) -> Self {
        Self::start_with(state, Authorizer::Open, None).await
    }

    async fn start_with(state: WalletState, authorizer: Authorizer, tls: Option<tls::Identity>) -> Self {
        let fake = Fake::new(state);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let certificate = tls.as_ref().map(|tls| Certificate::from_pem(&tls.certificate));
        let daemon: Arc<dyn Daemon> = Arc::new(fake.clone());
        let services = Services::new(vec![daemon], authorizer, stopping.clone()).await.unwrap();
        let options = ServeOptions { services, tls, listener, slots: slots(), stopping: stopping.clone() };
        let serving = tokio::spawn(serve(options));
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).unwrap();
        if let Some(certificate) = certificate {
            let tls = ClientTlsConfig::new().ca_certificate(certificate).domain_name("localhost");
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        let channel = endpoint.connect().await.unwrap();
        Self { fake, channel, stopping, serving }
    }

    fn lightning(&self) -> LightningClient<Channel> {
        LightningClient::new(self.channel.clone())
    }

    fn router(&self) -> RouterClient<Channel> {
        RouterClient::new(self.channel.clone())
    }

    fn chain(&self) -> ChainClient<Channel> {
        ChainClient::new(self.channel.clone())
    }

    fn asked(&self) -> String {
        self.fake.script().asked.clone()
    }
}

fn refused<T>(answer: Result<T, Status>, code: Code, words: &str) {
    let status = answer.err().unwrap_or_else(|| panic!("answered although it must say: {words}"));
    assert_eq!(status.code(), code, "{status}");
    let said = words::with_advice(&status);
    assert!(said.contains(words), "{said:?} does not say {words:?}");
}

#[tokio::test]
async fn calls_before_the_wallet_is_open_say_what_to_do() {
    let server = Server::start(WalletState::NonExisting).await;
    let info = || lnrpc::GetInfoRequest {};
    refused(server.lightning().get_info(info()).await, Code::Unknown, "wallet not created");
    let server = Server::start(WalletState::Locked).await;
    refused(server.lightning().get_info(info()).await, Code::Unknown, "wallet locked");
    let track = routerrpc::TrackPaymentRequest { payment_hash: vec![0; 32], ..Default::default() };
    refused(server.router().track_payment_v2(track).await, Code::Unknown, "wallet locked");
    assert!(server.chain().get_tip(leyden::GetTipRequest {}).await.is_ok(), "the chain needs no wallet");
    let server = Server::start(WalletState::Unlocked).await;
    refused(server.lightning().get_info(info()).await, Code::Unavailable, "starting");
}

#[tokio::test]
async fn unlocking_is_seen_by_those_who_watch_the_state() {
    let server = Server::start(WalletState::Locked).await;
    let mut states = StateClient::new(server.channel.clone());
    let mut watching = states.subscribe_state(lnrpc::SubscribeStateRequest {}).await.unwrap().into_inner();
    assert_eq!(watching.message().await.unwrap().unwrap().state(), State::Locked);

    let mut unlocker = WalletUnlockerClient::new(server.channel.clone());
    let unlock =
        |password: &[u8]| lnrpc::UnlockWalletRequest { wallet_password: password.to_vec(), ..Default::default() };
    refused(unlocker.unlock_wallet(unlock(b"wrong")).await, Code::InvalidArgument, "wrong");
    refused(unlocker.unlock_wallet(unlock(b"")).await, Code::InvalidArgument, "wallet_password");
    unlocker.unlock_wallet(unlock(PASSWORD)).await.unwrap();
    assert_eq!(watching.message().await.unwrap().unwrap().state(), State::ServerActive);
    let now = states.get_state(lnrpc::GetStateRequest {}).await.unwrap().into_inner();
    assert_eq!(now.state(), State::ServerActive);
}

#[tokio::test]
async fn another_password_opens_the_wallet_and_a_short_one_is_refused() {
    let server = Server::start(WalletState::Locked).await;
    let mut unlocker = WalletUnlockerClient::new(server.channel.clone());
    let request = lnrpc::ChangePasswordRequest {
        current_password: PASSWORD.to_vec(),
        new_password: b"another one".to_vec(),
        stateless_init: true,
        new_macaroon_root_key: true,
    };
    let short = lnrpc::ChangePasswordRequest { new_password: b"1234567".to_vec(), ..request.clone() };
    refused(unlocker.change_password(short).await, Code::InvalidArgument, "password must have at least 8 characters");
    let wrong = lnrpc::ChangePasswordRequest { current_password: b"wrong".to_vec(), ..request.clone() };
    let words = "invalid passphrase for master public key";
    refused(unlocker.change_password(wrong).await, Code::InvalidArgument, words);
    let answer = unlocker.change_password(request).await.unwrap().into_inner();
    assert_eq!(answer.admin_macaroon, b"macaroon");
    assert!(server.asked().contains("stateless: true, new_root_key: true"), "{}", server.asked());
}

#[tokio::test]
async fn a_wallet_is_made_from_24_words_and_a_long_password() {
    let server = Server::start(WalletState::NonExisting).await;
    let mut unlocker = WalletUnlockerClient::new(server.channel.clone());
    let words = unlocker.gen_seed(lnrpc::GenSeedRequest::default()).await.unwrap().into_inner().cipher_seed_mnemonic;
    let good = lnrpc::InitWalletRequest {
        wallet_password: PASSWORD.to_vec(),
        cipher_seed_mnemonic: words,
        ..Default::default()
    };
    let short = lnrpc::InitWalletRequest { wallet_password: b"1234567".to_vec(), ..good.clone() };
    refused(unlocker.init_wallet(short).await, Code::InvalidArgument, "8 characters");
    let few = lnrpc::InitWalletRequest { cipher_seed_mnemonic: vec!["abandon".to_owned(); 12], ..good.clone() };
    refused(unlocker.init_wallet(few).await, Code::InvalidArgument, "12 words where 24");
    let entropy = lnrpc::GenSeedRequest { seed_entropy: vec![0; 16], ..Default::default() };
    refused(unlocker.gen_seed(entropy).await, Code::InvalidArgument, "16 bytes where 32");
    assert_eq!(unlocker.init_wallet(good).await.unwrap().into_inner().admin_macaroon, b"macaroon");
}

#[tokio::test]
async fn the_wallet_service_of_lnd_lists_the_same_coins() {
    use leyden_proto::walletrpc::{ListUnspentRequest, wallet_kit_client::WalletKitClient};
    let server = Server::start(WalletState::ServerActive).await;
    let mut wallet = WalletKitClient::new(server.channel.clone());
    let ask = |min_confs, unconfirmed_only| ListUnspentRequest { min_confs, unconfirmed_only, ..Default::default() };
    for (request, confirmations) in
        [(ask(0, false), vec![0, 1, 6]), (ask(1, false), vec![1, 6]), (ask(0, true), vec![0])]
    {
        let coins = wallet.list_unspent(request).await.unwrap().into_inner().utxos;
        assert_eq!(coins.iter().map(|coin| coin.confirmations).collect::<Vec<_>>(), confirmations);
    }
    refused(wallet.list_unspent(ask(1, true)).await, Code::InvalidArgument, "unconfirmed_only");
}

#[tokio::test]
async fn every_kind_of_error_has_its_code() {
    let server = Server::start(WalletState::ServerActive).await;
    for (error, code) in [
        (ApiError::invalid("a"), Code::InvalidArgument),
        (ApiError::precondition("b"), Code::FailedPrecondition),
        (ApiError::not_found("c"), Code::NotFound),
        (ApiError::exists("d"), Code::AlreadyExists),
        (ApiError::unavailable("e"), Code::Unavailable),
        (ApiError::internal("f"), Code::Internal),
    ] {
        server.fake.fail_with(error.clone());
        refused(server.lightning().get_info(lnrpc::GetInfoRequest {}).await, code, &error.to_string());
    }
}

#[tokio::test]
async fn opening_a_channel_is_told_as_it_proceeds() {
    let server = Server::start(WalletState::ServerActive).await;
    #[allow(deprecated)]
    let request = lnrpc::OpenChannelRequest {
        node_pubkey_string: NODE.to_owned(),
        local_funding_amount: 1_000_000,
        push_sat: 500_000,
        private: true,
        commitment_type: lnrpc::CommitmentType::Anchors.into(),
        ..Default::default()
    };
    let updates = server.lightning().open_channel(request.clone()).await.unwrap().into_inner();
    let updates: Vec<_> = updates.map(|update| update.unwrap().update.unwrap()).collect().await;
    use lnrpc::{channel_point::FundingTxid, open_status_update::Update};
    let [Update::ChanPending(pending), Update::ChanOpen(open)] = &updates[..] else { panic!("{updates:?}") };
    let internal: Vec<u8> = (1..=32).collect();
    assert_eq!((&pending.txid, pending.output_index), (&internal, 1));
    let point = open.channel_point.as_ref().unwrap();
    assert_eq!(point.funding_txid, Some(FundingTxid::FundingTxidBytes(internal.clone())));
    let asked = server.asked();
    for part in ["Exactly(1000000 SAT)", "push: Msat(500000000)", "announce: false", "Some(Anchors)"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }
    let point = server.lightning().open_channel_sync(request).await.unwrap().into_inner();
    assert_eq!(point.funding_txid, Some(FundingTxid::FundingTxidBytes(internal)));
}

#[tokio::test]
async fn a_channel_is_named_by_either_form_of_its_funding_txid() {
    use lnrpc::channel_point::FundingTxid;
    let server = Server::start(WalletState::ServerActive).await;
    let display = funding().txid.to_string();
    assert!(display.starts_with("201f1e"), "display order is the reverse of internal order");
    for name in [FundingTxid::FundingTxidStr(display), FundingTxid::FundingTxidBytes((1..=32).collect())] {
        let channel_point = Some(lnrpc::ChannelPoint { funding_txid: Some(name), output_index: 1 });
        let request = lnrpc::CloseChannelRequest { channel_point, force: true, ..Default::default() };
        let updates = server.lightning().close_channel(request).await.unwrap().into_inner();
        assert_eq!(updates.collect::<Vec<_>>().await.len(), 2);
        let asked = server.asked();
        assert!(asked.contains(&format!("{:?}", funding())) && asked.contains("Force"), "{asked}");
    }
}

#[tokio::test]
async fn a_channel_is_abandoned_only_by_who_says_that_he_knows_what_that_means() {
    use lnrpc::channel_point::FundingTxid;
    let server = Server::start(WalletState::ServerActive).await;
    let funding_txid = Some(FundingTxid::FundingTxidBytes((1..=32).collect()));
    let request = lnrpc::AbandonChannelRequest {
        channel_point: Some(lnrpc::ChannelPoint { funding_txid, output_index: 1 }),
        ..Default::default()
    };
    let refused = server.lightning().abandon_channel(request.clone()).await.unwrap_err();
    assert!(refused.message().contains("i_know_what_i_am_doing"), "{refused}");
    let request = lnrpc::AbandonChannelRequest { i_know_what_i_am_doing: true, ..request };
    let shim = lnrpc::AbandonChannelRequest { pending_funding_shim_only: true, ..request.clone() };
    let refused = server.lightning().abandon_channel(shim).await.unwrap_err();
    assert!(refused.message().contains("pending_funding_shim_only"), "{refused}");
    let answer = server.lightning().abandon_channel(request).await.unwrap().into_inner();
    assert_eq!(answer.status, "gone");
    let asked = server.asked();
    assert!(asked.contains("abandon") && asked.contains(&format!("{:?}", funding())), "{asked}");
}

#[tokio::test]
async fn a_payment_streams_its_states_until_the_last() {
    let server = Server::start(WalletState::ServerActive).await;
    let preimage = PaymentPreimage([9; 32]);
    let states = [PaymentState::Initiated, PaymentState::InFlight, PaymentState::Succeeded { preimage }];
    server.fake.script().payments = states.map(payment).to_vec();
    let request = routerrpc::SendPaymentRequest {
        payment_request: " lightning:lnbcrt1… ".to_owned(),
        fee_limit_sat: 10,
        ..Default::default()
    };
    let sent = server.router().send_payment_v2(request.clone()).await.unwrap().into_inner();
    let sent: Vec<_> = sent.map(Result::unwrap).collect().await;
    let statuses: Vec<_> = sent.iter().map(|payment| payment.status()).collect();
    assert_eq!(statuses, [PaymentStatus::Initiated, PaymentStatus::InFlight, PaymentStatus::Succeeded]);
    assert_eq!((sent[0].value_sat, sent[0].value_msat), (1, 1_500));
    assert_eq!(sent[0].creation_time_ns, 1_700_000_000_123_456_789);
    assert_eq!(
        (sent[1].payment_preimage.as_str(), sent[2].payment_preimage.as_str()),
        ("0".repeat(64).as_str(), "09".repeat(32).as_str())
    );
    let asked = server.asked();
    for part in ["request: \"lnbcrt1…\"", "timeout: 60s", "max_fee: Msat(10000)", "amount: None"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }

    let failed = payment(PaymentState::Failed { reason: FailureReason::NoRoute });
    server.fake.script().payments = vec![payment(PaymentState::InFlight), failed];
    let request = routerrpc::SendPaymentRequest { no_inflight_updates: true, ..request };
    let sent = server.router().send_payment_v2(request).await.unwrap().into_inner();
    let sent: Vec<_> = sent.map(Result::unwrap).collect().await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].failure_reason(), lnrpc::PaymentFailureReason::FailureReasonNoRoute);
}

#[tokio::test]
async fn subscribers_hear_of_invoices_added_and_settled_alone() {
    let server = Server::start(WalletState::ServerActive).await;
    let settled = InvoiceState::Settled { at: UnixTime(1_700_000_060), settle_index: 4, amount: Msat(1_501) };
    let accepted = InvoiceState::Accepted { amount: Msat(1) };
    server.fake.script().invoices = vec![
        invoice(1, InvoiceState::Open),
        invoice(1, accepted),
        invoice(1, settled),
        invoice(2, InvoiceState::Canceled),
    ];
    let request = lnrpc::InvoiceSubscription { add_index: 0, settle_index: 3 };
    let heard = server.lightning().subscribe_invoices(request).await.unwrap().into_inner();
    let heard: Vec<_> = heard.map(Result::unwrap).collect().await;
    let states: Vec<_> = heard.iter().map(|invoice| invoice.state()).collect();
    assert_eq!(states, [RpcInvoiceState::Open, RpcInvoiceState::Settled]);
    assert_eq!((heard[1].settle_index, heard[1].amt_paid_sat, heard[1].amt_paid_msat), (4, 1, 1_501));
    assert_eq!(server.asked(), "(None, Some(3))");
}

#[tokio::test]
async fn pages_carry_the_indices_of_their_ends() {
    let server = Server::start(WalletState::ServerActive).await;
    server.fake.script().invoices = vec![invoice(3, InvoiceState::Open), invoice(5, InvoiceState::Open)];
    let request = lnrpc::ListInvoiceRequest { index_offset: 2, ..Default::default() };
    let page = server.lightning().list_invoices(request).await.unwrap().into_inner();
    assert_eq!((page.first_index_offset, page.last_index_offset, page.invoices.len()), (3, 5, 2));
    assert!(server.asked().contains("offset: 2, limit: Some(100), reversed: false"), "{}", server.asked());
    let request = lnrpc::ListPaymentsRequest { reversed: true, ..Default::default() };
    let page = server.lightning().list_payments(request).await.unwrap().into_inner();
    assert_eq!((page.first_index_offset, page.last_index_offset, page.payments.len()), (0, 0, 0));
    assert!(server.asked().contains("limit: Some(100), reversed: true"), "{}", server.asked());
}

#[tokio::test]
async fn generating_blocks_counts_them_as_they_are_found() {
    let server = Server::start(WalletState::Locked).await;
    let request = leyden::GenerateRequest { blocks: 3, address: ADDRESS.to_owned() };
    let found = server.chain().generate(request).await.unwrap().into_inner();
    let found: Vec<_> = found.map(|update| update.unwrap()).map(|block| (block.found, block.height)).collect().await;
    assert_eq!(found, [(1, 1), (2, 2), (3, 3)]);
    let none = leyden::GenerateRequest::default();
    refused(server.chain().generate(none).await, Code::InvalidArgument, "blocks");
    let stop = server.chain().stop_mining(leyden::StopMiningRequest {}).await;
    refused(stop, Code::FailedPrecondition, "mine start");
}

#[tokio::test]
async fn coins_are_listed_by_confirmations() {
    let server = Server::start(WalletState::ServerActive).await;
    for (min_confs, max_confs, expected) in [(0, 0, vec![0, 1, 6]), (1, 0, vec![1, 6]), (1, 5, vec![1])] {
        let request = lnrpc::ListUnspentRequest { min_confs, max_confs, ..Default::default() };
        let coins = server.lightning().list_unspent(request).await.unwrap().into_inner().utxos;
        let confirmations: Vec<_> = coins.iter().map(|coin| coin.confirmations).collect();
        assert_eq!(confirmations, expected);
        assert_eq!(coins[0].address, ADDRESS);
    }
}

#[tokio::test]
async fn balances_add_up() {
    let server = Server::start(WalletState::ServerActive).await;
    let balance = server.lightning().wallet_balance(lnrpc::WalletBalanceRequest::default()).await.unwrap().into_inner();
    assert_eq!((balance.total_balance, balance.confirmed_balance, balance.unconfirmed_balance), (120, 100, 20));
    assert_eq!(server.asked(), "1", "0 confirmations mean 1");
    let balance = server.lightning().channel_balance(lnrpc::ChannelBalanceRequest {}).await.unwrap().into_inner();
    assert_eq!(balance.local_balance, Some(lnrpc::Amount { sat: 1, msat: 1_999 }));
}

#[tokio::test]
async fn info_reads_as_clients_of_lnd_expect() {
    let server = Server::start(WalletState::ServerActive).await;
    let info = server.lightning().get_info(lnrpc::GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.identity_pubkey, NODE);
    assert_eq!(info.uris, [format!("{NODE}@127.0.0.1:9735")]);
    assert_eq!(info.color, "#3399ff");
    assert!(info.version.starts_with("0.21.0-beta commit=leyden-"), "{}", info.version);
    assert_eq!(info.chains[0].network, "regtest");
    let anchors = &info.features[&23];
    assert_eq!(
        (anchors.name.as_str(), anchors.is_required, anchors.is_known),
        ("anchors-zero-fee-htlc-tx", false, true)
    );
    assert!(info.features[&12].is_required);
    let version = VersionerClient::new(server.channel.clone()).get_version(VersionRequest {}).await.unwrap();
    assert_eq!((version.get_ref().app_major, version.get_ref().app_minor), (0, 21));
}

#[tokio::test]
async fn peers_are_found_at_the_usual_port() {
    let server = Server::start(WalletState::ServerActive).await;
    for (host, expected) in [
        ("example.com", "example.com:9735"),
        ("127.0.0.1:19735", "127.0.0.1:19735"),
        ("::1", "[::1]:9735"),
        ("[::1]", "[::1]:9735"),
        ("[::1]:9736", "[::1]:9736"),
    ] {
        let addr = Some(lnrpc::LightningAddress { pubkey: NODE.to_owned(), host: host.to_owned() });
        let request = lnrpc::ConnectPeerRequest { addr, ..Default::default() };
        server.lightning().connect_peer(request).await.unwrap();
        assert!(server.asked().contains(&format!("host: {expected:?}")), "{}", server.asked());
    }
}

#[tokio::test]
async fn stopping_ends_streams_with_a_word_and_the_server_in_time() {
    let server = Server::start(WalletState::ServerActive).await;
    server.fake.script().hold_streams = true;
    server.fake.script().payments = vec![payment(PaymentState::InFlight)];
    let track = routerrpc::TrackPaymentRequest { payment_hash: vec![0; 32], ..Default::default() };
    let mut stream = server.router().track_payment_v2(track).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());

    server.lightning().stop_daemon(lnrpc::StopRequest {}).await.unwrap();
    assert!(server.fake.is_stopped());
    server.stopping.cancel();
    refused(stream.message().await, Code::Unavailable, "stopping");
    timeout(Duration::from_secs(60), server.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn over_tls_a_macaroon_is_needed_for_all_but_the_first_calls() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = tls::Identity { certificate: certified.cert.pem(), key: certified.signing_key.serialize_pem() };
    let key = Arc::new(RootKey::new([3; 32]));
    let server = Server::start_with(WalletState::ServerActive, Authorizer::Macaroons(key.clone()), Some(tls)).await;

    StateClient::new(server.channel.clone()).get_state(lnrpc::GetStateRequest {}).await.unwrap();
    refused(server.lightning().get_info(lnrpc::GetInfoRequest {}).await, Code::Unauthenticated, "macaroon");
    refused(server.chain().get_tip(leyden::GetTipRequest {}).await, Code::Unauthenticated, "macaroon");

    let token = hex::encode(key.bake(READONLY, [0; 16]).to_bytes());
    let with_token = |mut request: Request<()>| {
        request.metadata_mut().insert(auth::METADATA_KEY, token.parse().unwrap());
        Ok(request)
    };
    let mut lightning = LightningClient::with_interceptor(server.channel.clone(), with_token);
    lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap();
    refused(lightning.stop_daemon(lnrpc::StopRequest {}).await, Code::PermissionDenied, "info:write");
    assert!(!server.fake.is_stopped());
}

#[tokio::test]
async fn reflection_and_health_are_on() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let server = Server::start(WalletState::Locked).await;
    let ask = |question| ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let questions = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("lnrpc.Lightning".to_owned())),
    ];
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let answers = client.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let [MessageResponse::ListServicesResponse(list), MessageResponse::FileDescriptorResponse(file)] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["lnrpc.Lightning", "lnrpc.State", "lnrpc.WalletUnlocker", "routerrpc.Router", "leyden.Chain"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert!(!file.file_descriptor_proto.is_empty());

    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let check = HealthCheckRequest { service: String::new() };
    let health = HealthClient::new(server.channel.clone()).check(check).await.unwrap().into_inner();
    assert_eq!(health.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test]
async fn backups_go_out_and_come_back_as_they_are() {
    use lnrpc::{channel_point::FundingTxid, restore_chan_backup_request::Backup};

    let server = Server::start(WalletState::ServerActive).await;
    let mut client = LightningClient::new(server.channel.clone());
    let all = client.export_all_channel_backups(lnrpc::ChanBackupExportRequest {}).await.unwrap().into_inner();
    let multi = all.multi_chan_backup.clone().unwrap();
    assert_eq!((multi.chan_points.len(), multi.multi_chan_backup), (1, vec![3]));
    let verified = client.verify_chan_backup(all).await.unwrap();
    let swaps = verified.metadata().get(leyden_common::names::SWAPS).and_then(|swaps| swaps.to_str().ok());
    assert_eq!(swaps, Some("2"), "LND's answer has no field for them");
    assert_eq!(verified.into_inner().chan_points, [funding().to_string()]);
    assert_eq!(server.fake.script().asked, "[[1, 2], [3]]");

    let funding_txid = Some(FundingTxid::FundingTxidStr(funding().txid.to_string()));
    let chan_point = Some(lnrpc::ChannelPoint { funding_txid, output_index: 1 });
    let one =
        client.export_channel_backup(lnrpc::ExportChannelBackupRequest { chan_point }).await.unwrap().into_inner();
    let singles = lnrpc::ChannelBackups { chan_backups: vec![one] };
    let request = lnrpc::RestoreChanBackupRequest { backup: Some(Backup::ChanBackups(singles)) };
    assert_eq!(client.restore_channel_backups(request).await.unwrap().into_inner().num_restored, 1);
    let nothing = client.restore_channel_backups(lnrpc::RestoreChanBackupRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);

    let subscription = lnrpc::ChannelBackupSubscription {};
    let mut updates = client.subscribe_channel_backups(subscription).await.unwrap().into_inner();
    assert_eq!(updates.next().await.unwrap().unwrap().multi_chan_backup.unwrap().multi_chan_backup, [3]);
}
