//! What the node says of itself.

use leyden_proto::peersrpc::{
    NodeAnnouncementUpdateRequest, UpdateAddressAction, UpdateFeatureAction, peers_client::PeersClient,
};

use super::*;

#[tokio::test]
async fn alias_color_and_addresses_are_changed_and_features_are_not() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut peers = PeersClient::new(server.channel.clone());
    let address = |action, address: &str| UpdateAddressAction { action, address: address.to_owned() };
    let request = NodeAnnouncementUpdateRequest {
        alias: "carol".to_owned(),
        color: "#c42a81".to_owned(),
        address_updates: vec![address(0, "192.0.2.1:9735"), address(1, "[2001:db8::1]:9735")],
        ..Default::default()
    };
    let answer = peers.update_node_announcement(request.clone()).await.unwrap().into_inner();
    assert_eq!((answer.ops[0].entity.as_str(), answer.ops[0].actions[0].as_str()), ("alias", "changed to carol"));
    let asked = server.asked();
    for part in ["carol", "[196, 42, 129]", "add: [192.0.2.1:9735]", "remove: [[2001:db8::1]:9735]"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }
    let with = |updates| NodeAnnouncementUpdateRequest { address_updates: updates, ..request.clone() };
    let both = vec![address(0, "192.0.2.1:9735"), address(1, "192.0.2.1:9735")];
    for (wrong, words) in [
        (NodeAnnouncementUpdateRequest { alias: "x".repeat(33), ..request.clone() }, "invalid alias value"),
        (NodeAnnouncementUpdateRequest { alias: "a\nb".to_owned(), ..request.clone() }, "invalid alias value"),
        (NodeAnnouncementUpdateRequest { color: "red".to_owned(), ..request.clone() }, "unable to parse color"),
        (NodeAnnouncementUpdateRequest { color: "#c42a8".to_owned(), ..request.clone() }, "unable to parse color"),
        (with(vec![address(0, "example.org:9735")]), "address_updates"),
        (with(vec![address(7, "192.0.2.1:9735")]), "invalid address update action: 7"),
        (with(both), "invalid updates for removing AND adding 192.0.2.1:9735"),
        (
            NodeAnnouncementUpdateRequest {
                feature_updates: vec![UpdateFeatureAction { action: 0, feature_bit: 5 }],
                ..request.clone()
            },
            "feature_updates",
        ),
    ] {
        refused(peers.update_node_announcement(wrong).await, Code::InvalidArgument, words);
    }
}
