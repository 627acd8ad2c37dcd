//! Messages of other programs' protocols.

use super::*;
use crate::rpc::fake::node_id;

#[tokio::test]
async fn a_message_of_a_program_is_sent_and_those_of_peers_are_told() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let peer = node_id().serialize().to_vec();
    let request = lnrpc::SendCustomMessageRequest { peer: peer.clone(), r#type: 32_768, data: b"hello".to_vec() };
    let answer = lightning.send_custom_message(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.status, "message sent successfully");
    assert!(server.asked().contains("message_type: 32768"), "{}", server.asked());
    for (wrong, words) in [
        (
            lnrpc::SendCustomMessageRequest { r#type: 513, ..request.clone() },
            "msg type: 513 not in custom range: 32768 and not overridden",
        ),
        (lnrpc::SendCustomMessageRequest { r#type: 65_536, ..request.clone() }, "type"),
        (lnrpc::SendCustomMessageRequest { peer: vec![1], ..request.clone() }, "peer"),
        (lnrpc::SendCustomMessageRequest { data: vec![0; 65_534], ..request.clone() }, "data"),
    ] {
        refused(lightning.send_custom_message(wrong).await, Code::InvalidArgument, words);
    }
    lightning.send_custom_message(lnrpc::SendCustomMessageRequest { data: vec![0; 65_533], ..request }).await.unwrap();

    let messages = lightning.subscribe_custom_messages(lnrpc::SubscribeCustomMessagesRequest {}).await.unwrap();
    let messages: Vec<_> = messages.into_inner().map(|message| message.unwrap()).collect().await;
    assert_eq!(messages, [lnrpc::CustomMessage { peer, r#type: 32_769, data: b"hello".to_vec() }]);
}
