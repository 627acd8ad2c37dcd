//! What a request may take before and while it is read, and how long a stream lasts.

use std::time::Instant;

use leyden_proto::codec::CheckedCodec;
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery};

use super::*;
use crate::{
    limits::{MAX_OPEN_CALLS, MAX_OPEN_REQUEST, MAX_REQUEST, OPEN_REQUEST_TIMEOUT},
    macaroon::{ADMIN, time_before},
};

fn unlocker(server: &Server) -> WalletUnlockerClient<Channel> {
    WalletUnlockerClient::new(server.channel.clone())
}

async fn locked() -> Server {
    let key = Arc::new(RootKey::new([3; 32]));
    Server::start_with(WalletState::NonExisting, Authorizer::Macaroons(key), None).await
}

#[tokio::test]
async fn a_request_that_does_not_come_to_its_end_is_given_up() {
    let server = locked().await;
    let mut grpc = Grpc::new(server.channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/lnrpc.WalletUnlocker/InitWallet");
    let codec = CheckedCodec::<lnrpc::InitWalletRequest, lnrpc::InitWalletResponse>::default();
    let begun = Instant::now();
    let half = Request::new(tokio_stream::pending::<lnrpc::InitWalletRequest>());
    refused(grpc.client_streaming(half, path, codec).await, Code::DeadlineExceeded, "in time");
    assert!(begun.elapsed() >= OPEN_REQUEST_TIMEOUT);
}

#[tokio::test]
async fn requests_without_a_token_are_small_and_of_few_values() {
    let server = locked().await;
    let entropy = lnrpc::GenSeedRequest { seed_entropy: vec![1; MAX_OPEN_REQUEST], ..Default::default() };
    refused(unlocker(&server).gen_seed(entropy).await, Code::ResourceExhausted, "65536 bytes");
    let init = |bytes| lnrpc::InitWalletRequest { wallet_password: vec![b'x'; bytes], ..Default::default() };
    refused(unlocker(&server).init_wallet(init(MAX_REQUEST)).await, Code::ResourceExhausted, "bytes");
    refused(unlocker(&server).init_wallet(init(MAX_REQUEST / 2)).await, Code::InvalidArgument, "24");
    let words = lnrpc::InitWalletRequest { cipher_seed_mnemonic: vec![String::new(); 30_000], ..Default::default() };
    refused(unlocker(&server).init_wallet(words).await, Code::InvalidArgument, "more than 20000 values");
    assert_eq!(server.asked(), "", "nobody was asked");
}

#[tokio::test]
async fn one_connection_has_few_calls_without_a_token_at_a_time() {
    let server = locked().await;
    server.fake.script().hold_streams = true;
    let mut held = Vec::new();
    let mut state = StateClient::new(server.channel.clone());
    for _ in 0..MAX_OPEN_CALLS {
        held.push(state.subscribe_state(lnrpc::SubscribeStateRequest {}).await.unwrap());
    }
    refused(state.get_state(lnrpc::GetStateRequest {}).await, Code::ResourceExhausted, "without a macaroon");
    held.clear();
    let again = async {
        while state.get_state(lnrpc::GetStateRequest {}).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), again).await.expect("those that are over do not count");
}

#[tokio::test]
async fn a_stream_ends_with_the_time_of_its_token() {
    let key = Arc::new(RootKey::new([3; 32]));
    let authorizer = Authorizer::Macaroons(Arc::clone(&key));
    let server = Server::start_with(WalletState::ServerActive, authorizer, None).await;
    server.fake.script().hold_streams = true;
    // As long as a slow machine may need to begin.
    let until = time_before(leyden_node::Clock::System.now() + 20);
    let token = hex::encode(key.bake(ADMIN, [1; 16]).narrowed(until.as_bytes()).to_bytes());
    let mut request = Request::new(lnrpc::ChannelEventSubscription {});
    request.metadata_mut().insert(auth::METADATA_KEY, token.parse().unwrap());
    let mut stream = server.lightning().subscribe_channel_events(request).await.unwrap().into_inner();
    let end = async {
        loop {
            if let Err(status) = stream.message().await.map(|message| message.expect("an error ends it")) {
                return status;
            }
        }
    };
    let status = timeout(Duration::from_secs(120), end).await.expect("it ends");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("expired"), "{status}");
}

#[tokio::test]
async fn macaroons_are_not_made_or_listed_while_the_wallet_is_locked() {
    let server = Server::start(WalletState::Locked).await;
    let bake = lnrpc::BakeMacaroonRequest::default();
    refused(server.lightning().bake_macaroon(bake).await, Code::Unknown, "leyden unlock");
    let list = lnrpc::ListMacaroonIDsRequest {};
    refused(server.lightning().list_macaroon_i_ds(list).await, Code::Unknown, "leyden unlock");
}

#[tokio::test]
async fn an_error_does_not_say_more_than_a_client_reads() {
    let server = Server::start(WalletState::ServerActive).await;
    let request = lnrpc::PayReqString { pay_req: "ä".repeat(20_000) };
    let status = server.lightning().decode_pay_req(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message().len());
    assert!(status.message().len() < 2_100, "{}", status.message().len());
}
