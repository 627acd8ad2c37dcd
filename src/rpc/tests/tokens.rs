//! Macaroons: baked, listed, taken back, and asked for.

use super::*;

fn permission(entity: &str, action: &str) -> lnrpc::MacaroonPermission {
    lnrpc::MacaroonPermission { entity: entity.to_owned(), action: action.to_owned() }
}

#[tokio::test]
async fn a_macaroon_is_baked_for_what_some_call_asks() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let request = lnrpc::BakeMacaroonRequest {
        permissions: vec![permission("invoices", "write"), permission("uri", "/lnrpc.Lightning/GetInfo")],
        root_key_id: 7,
        allow_external_permissions: false,
    };
    let baked = lightning.bake_macaroon(request.clone()).await.unwrap().into_inner().macaroon;
    assert_eq!(baked, hex::encode(b"macaroon"));
    assert!(
        server.asked().contains("(\"invoices\", \"write\")") && server.asked().ends_with("7)"),
        "{}",
        server.asked()
    );
    for (permissions, words) in [
        (vec![], "allows nothing"),
        (vec![permission("coffee", "read")], "coffee:read"),
        (vec![permission("uri", "/lnrpc.Lightning/Steal")], "Steal"),
    ] {
        let request = lnrpc::BakeMacaroonRequest { permissions, ..request.clone() };
        refused(lightning.bake_macaroon(request).await, Code::InvalidArgument, words);
    }
    let external = lnrpc::BakeMacaroonRequest {
        permissions: vec![permission("coffee", "read")],
        allow_external_permissions: true,
        ..request
    };
    lightning.bake_macaroon(external).await.unwrap();

    let ids = lightning.list_macaroon_i_ds(lnrpc::ListMacaroonIDsRequest {}).await.unwrap().into_inner();
    assert_eq!(ids.root_key_ids, [0, 7]);
    let delete = lnrpc::DeleteMacaroonIdRequest { root_key_id: 7 };
    assert!(lightning.delete_macaroon_id(delete).await.unwrap().into_inner().deleted);
}

#[tokio::test]
async fn every_call_tells_what_it_asks_of_a_macaroon() {
    let server = Server::start(WalletState::ServerActive).await;
    let answer = server.lightning().list_permissions(lnrpc::ListPermissionsRequest {}).await.unwrap().into_inner();
    let of = |path: &str| answer.method_permissions.get(path).map(|list| list.permissions.clone());
    assert_eq!(of("/lnrpc.Lightning/GetInfo"), Some(vec![permission("info", "read")]));
    let both = vec![permission("onchain", "write"), permission("offchain", "write")];
    assert_eq!(of("/lnrpc.Lightning/OpenChannel"), Some(both));
    assert_eq!(of("/routerrpc.Router/SendToRouteV2"), Some(vec![permission("offchain", "write")]));
    assert_eq!(of("/lnrpc.State/GetState"), None, "it needs none");
}

#[tokio::test]
async fn a_macaroon_for_one_call_opens_that_call_alone() {
    let key = Arc::new(RootKey::new([7; 32]));
    let baked = key.bake_with(0, [("uri".to_owned(), "/lnrpc.Lightning/GetInfo".to_owned())], [1; 16]).unwrap();
    let near = baked.clone().narrowed(b"ipaddr 127.0.0.1");
    let far = baked.narrowed(b"ipaddr 10.1.2.3");
    let server = Server::start_with(WalletState::ServerActive, Authorizer::Macaroons(key), None).await;
    let with = |macaroon: &leyden_common::macaroon::Macaroon| {
        let token: tonic::metadata::AsciiMetadataValue = hex::encode(macaroon.to_bytes()).parse().unwrap();
        move |mut request: Request<()>| {
            request.metadata_mut().insert("macaroon", token.clone());
            Ok(request)
        }
    };
    let mut allowed = LightningClient::with_interceptor(server.channel.clone(), with(&near));
    allowed.get_info(lnrpc::GetInfoRequest {}).await.unwrap();
    let other = allowed.channel_balance(lnrpc::ChannelBalanceRequest {}).await;
    refused(other, Code::PermissionDenied, "offchain:read");
    let mut elsewhere = LightningClient::with_interceptor(server.channel.clone(), with(&far));
    refused(elsewhere.get_info(lnrpc::GetInfoRequest {}).await, Code::Unauthenticated, "10.1.2.3");
}
