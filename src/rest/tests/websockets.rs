//! Calls over WebSocket.

use super::*;

#[tokio::test]
async fn a_websocket_asks_with_its_first_message_and_is_told_each_answer() {
    let rest = Rest::start(true, &[]).await;
    rest.fake.script().payments = vec![payment(PaymentState::InFlight), payment(PaymentState::InFlight)];
    let protocol = format!("Grpc-Metadata-Macaroon+{}", rest.macaroon(ADMIN));
    let mut socket = rest.websocket("/v2/router/send?method=POST", Some(&protocol)).await;
    socket.send(Message::text(r#"{"payment_request": "lnbcrt1", "timeout_seconds": 5}"#)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(next(&mut socket).await.unwrap()["result"]["status"], "IN_FLIGHT");
    }
    assert_eq!(next(&mut socket).await, None, "it is closed after the last one");

    // A call that has one answer, and one that has no body.
    let mut socket = rest.websocket("/v1/getinfo", Some(&protocol)).await;
    assert_eq!(next(&mut socket).await.unwrap()["identity_pubkey"], NODE);
    let mut socket = rest.websocket("/v1/state/subscribe", None).await;
    assert_eq!(next(&mut socket).await.unwrap()["result"]["state"], "SERVER_ACTIVE");
    // It says more than anybody wants, and is still heard when it goes.
    for _ in 0..10 {
        socket.send(Message::text("{}")).await.unwrap();
    }
    socket.close(None).await.unwrap();
    drop(socket);
    rest.is_free().await;
}

#[tokio::test]
async fn a_websocket_is_refused_with_a_message() {
    let rest = Rest::start(true, &[]).await;
    let first = async |path: &str, protocol: Option<&str>| {
        let mut socket = rest.websocket(path, protocol).await;
        let first = next(&mut socket).await.unwrap();
        assert_eq!(next(&mut socket).await, None);
        first
    };
    assert_eq!(first("/v1/getinfo", None).await["code"], 16);
    assert_eq!(first("/v1/nothing", None).await["code"], 5);
    assert_eq!(first("/v1/getinfo?method=POST", None).await["code"], 12);
    let narrow = format!("Grpc-Metadata-Macaroon+{}", rest.macaroon(READONLY));
    assert_eq!(first("/v2/router/send?method=POST", Some(&narrow)).await["error"]["code"], 7);
    rest.is_free().await;
}

#[tokio::test]
async fn a_websocket_that_closes_in_the_middle() {
    let rest = Rest::open().await;
    rest.fake.script().hold_streams = true;
    rest.fake.script().payments = vec![payment(PaymentState::InFlight)];
    let mut socket = rest.websocket("/v2/router/send?method=POST", None).await;
    socket.send(Message::text(r#"{"payment_request": "lnbcrt1", "timeout_seconds": 5}"#)).await.unwrap();
    assert!(next(&mut socket).await.is_some());
    drop(socket);
    rest.is_free().await;
    // One that closes before it has asked, and one that sends what is no frame.
    drop(rest.websocket("/v2/router/send?method=POST", None).await);
    rest.is_free().await;
    let mut socket = rest.websocket("/v2/router/send?method=POST", None).await;
    socket.get_mut().write_all(&[0xff; 64]).await.unwrap();
    assert_eq!(closing(&mut socket).await, Some(1002), "it is told what it has done");
    drop(socket);
    rest.is_free().await;
}

/// The number with which the other end closes.
async fn closing(socket: &mut WebSocketStream<TcpStream>) -> Option<u16> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("an end in time")? {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_websocket_that_is_closed_is_told_so() {
    let rest = Rest::open().await;
    rest.fake.script().hold_streams = true;
    let mut socket = rest.websocket("/v1/state/subscribe", None).await;
    assert!(next(&mut socket).await.is_some());
    socket.close(None).await.unwrap();
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("an end in time") {
            Some(Ok(_)) => {}
            None => break,
            Some(Err(error)) => panic!("hung up on without a word: {error}"),
        }
    }
    rest.is_free().await;
}

#[tokio::test]
async fn nobody_without_a_token_makes_a_websocket_hold_a_large_message() {
    let rest = Rest::start(true, &[]).await;
    let mut socket = rest.websocket("/v1/genseed?method=GET", None).await;
    let _ = socket.send(Message::text("a".repeat(2 * MAX_OPEN_REQUEST + 1))).await;
    let mut socket = rest.websocket("/v2/router/send?method=POST", None).await;
    let _ = socket.send(Message::text("a".repeat(MAX_OPEN_REQUEST + 1))).await;
    rest.is_free().await;
}

#[tokio::test]
async fn a_websocket_that_stops_reading() {
    let rest = Rest::open().await;
    rest.fake.script().payments = vec![payment(PaymentState::InFlight); 40_000];
    let mut socket = rest.websocket("/v2/router/send?method=POST", None).await;
    socket.send(Message::text(r#"{"payment_request": "lnbcrt1", "timeout_seconds": 5}"#)).await.unwrap();
    assert!(next(&mut socket).await.is_some());
    rest.is_free().await;
    drop(socket);
}

#[tokio::test]
async fn a_websocket_that_is_silent_is_asked_whether_it_is_there() {
    let rest = Rest::open().await;
    rest.fake.script().hold_streams = true;
    let mut socket = rest.websocket("/v1/state/subscribe", None).await;
    assert!(next(&mut socket).await.is_some());
    // Reading is what makes a client answer.
    match timeout(PATIENCE, socket.next()).await.expect("a ping in time") {
        Some(Ok(Message::Ping(question))) => assert_eq!(question, Bytes::from_static(b"are you there?")),
        other => panic!("{other:?}"),
    }
    socket.flush().await.unwrap();
    // Now it is dead.
    rest.is_free().await;
    drop(socket);
}
