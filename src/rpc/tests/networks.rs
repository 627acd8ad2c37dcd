//! Two networks behind one listener.

use leyden_common::names::NETWORK;

use super::*;

/// Services on north and on south, and who answers there.
async fn both(authorizer: Authorizer) -> (Services, [Fake; 2]) {
    let fakes = ["north", "south"].map(|name| {
        let fake = Fake::new(WalletState::ServerActive);
        fake.script().network = Some(name);
        fake
    });
    let daemons = fakes.iter().map(|fake| Arc::new(fake.clone()) as Arc<dyn Daemon>).collect();
    (Services::new(daemons, authorizer, CancellationToken::new()).await.unwrap(), fakes)
}

fn request<T>(network: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(network) = network {
        request.metadata_mut().insert(NETWORK, network.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn each_call_is_answered_on_the_network_that_it_names() {
    let (services, [north, south]) = both(Authorizer::Open).await;
    let mut lightning = LightningClient::new(services.in_process());
    for (named, expected) in [(None, "north"), (Some("north"), "north"), (Some("south"), "south")] {
        let info = lightning.get_info(request(named, lnrpc::GetInfoRequest {})).await.unwrap().into_inner();
        assert_eq!(info.chains[0].network, expected);
    }
    south.fail_with(ApiError::unavailable("the south is closed"));
    assert!(lightning.get_info(request(None, lnrpc::GetInfoRequest {})).await.is_ok());
    let closed = lightning.get_info(request(Some("south"), lnrpc::GetInfoRequest {})).await.unwrap_err();
    assert_eq!(closed.code(), Code::Unavailable);

    let unknown = lightning.get_info(request(Some("east"), lnrpc::GetInfoRequest {})).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(unknown.message().contains("\"east\"") && unknown.message().contains("north and south"), "{unknown}");
    assert!(!north.is_stopped());
}

#[tokio::test]
async fn who_shows_no_macaroon_is_refused_whatever_the_network() {
    let (services, _) = both(Authorizer::Macaroons(Arc::new(RootKey::new([7; 32])))).await;
    let mut lightning = LightningClient::new(services.in_process());
    for named in [None, Some("south"), Some("east")] {
        let refused = lightning.get_info(request(named, lnrpc::GetInfoRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{named:?}");
    }
}
