//! Calls over WebSocket, as LND's proxy has them: for pages in a browser, which cannot read a stream otherwise.
//!
//! ```text
//!   GET path?method=POST, Upgrade: websocket ─► the first message is the request ─► a message for each answer ─► closed
//!                                                └── of a call that takes many requests, each message is one
//! ```
//!
//! A browser cannot send a macaroon as a header, so it may come as a protocol: `Grpc-Metadata-Macaroon+HEX`. Like LND's
//! proxy, this one refuses with a message, not with a number of HTTP: no page could read that.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts},
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tonic::Status;

use super::{
    Server,
    call::Call,
    metadata,
    reply::{self, Refusal},
    request::{self, Route},
    verb, with_macaroon,
};
use crate::{
    callers::Caller,
    limits::{CALLER_WRITE_TIMEOUT, MAX_OPEN_REQUEST, REQUEST_TIMEOUT},
    request_room::HeldRequest,
};

/// The query's word for the verb that the call is bound to: a WebSocket always begins as a GET.
pub(super) const VERB_PARAMETER: &str = "method";

/// How a macaroon begins that comes as a protocol; the name is of any case.
const MACAROON_PROTOCOL: &str = "grpc-metadata-macaroon+";

/// How often somebody who says nothing is asked whether they are there, and how long the answer is waited for: LND's numbers.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PONG_PATIENCE: Duration = Duration::from_secs(5);
const PING: &[u8] = b"are you there?";

/// Requests of one call that were read and not taken yet; more are not read.
const MAX_WAITING_REQUESTS: usize = 1;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(super) fn is_upgrade(request: &Request<Incoming>) -> bool {
    let holds = |name, word: &str| {
        let values = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    request.method() == Method::GET && holds(header::CONNECTION, "upgrade") && holds(header::UPGRADE, "websocket")
}

/// Says yes; the call is made on what the connection becomes.
pub(super) fn open(server: &Arc<Server>, caller: Caller, mut request: Request<Incoming>) -> Response<Body> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let is_13 = request.headers().get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let Some(key) = key.filter(|_| is_13) else {
        return Refusal::from(Status::invalid_argument("not a WebSocket of version 13")).into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    // Browsers hang up if none of the protocols is chosen that they offered.
    if let Some(protocol) = protocols(&head).next().and_then(|protocol| HeaderValue::from_str(protocol).ok()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let own = Arc::clone(server);
    server.tasks.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let admitted = admit(&own, &caller, &head);
        let most = admitted.as_ref().map_or(MAX_OPEN_REQUEST, |admitted| admitted.held.limit().bytes);
        let config = WebSocketConfig::default()
            .max_message_size(Some(most))
            .max_frame_size(Some(most))
            // Each message is sent before the next one is made.
            .write_buffer_size(0);
        let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        converse(&own, caller, &head, admitted, socket).await;
    });
    response
}

fn protocols(head: &Parts) -> impl Iterator<Item = &str> {
    let values = head.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// A call that may be made.
struct Admitted {
    route: Route,
    metadata: HeaderMap,
    held: HeldRequest,
}

/// Whether the call may be made that the address names, before anything else is read.
fn admit(server: &Server, caller: &Caller, head: &Parts) -> Result<Admitted, Refusal> {
    let query = head.uri.query();
    let named = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).find(|(name, _)| name == VERB_PARAMETER);
    let method = match named {
        Some((_, name)) => Method::from_bytes(name.as_bytes()).map_err(|_| Refusal::Verb)?,
        None => Method::GET,
    };
    let route = server.route(verb(&method).ok_or(Refusal::Verb)?, head.uri.path())?;
    let prefix = |protocol: &&str| {
        protocol.get(..MACAROON_PROTOCOL.len()).is_some_and(|start| start.eq_ignore_ascii_case(MACAROON_PROTOCOL))
    };
    let mut metadata = metadata(&head.headers);
    if let Some(protocol) = protocols(head).find(prefix) {
        metadata.extend(with_macaroon(&protocol[MACAROON_PROTOCOL.len()..]));
    }
    let held = server.services.admit(&route.path, &metadata, caller);
    let held = held.map_err(|status| in_stream(&route, status.into()))?;
    Ok(Admitted { route, metadata, held })
}

fn in_stream(route: &Route, refusal: Refusal) -> Refusal {
    if route.method.is_server_streaming() { refusal.in_stream() } else { refusal }
}

async fn converse(server: &Server, caller: Caller, head: &Parts, admitted: Result<Admitted, Refusal>, socket: Socket) {
    let (mut to_caller, from_caller) = socket.split();
    let (requests, waiting) = mpsc::channel(MAX_WAITING_REQUESTS);
    let (heard, last_heard) = mpsc::channel(1);
    let last = tokio::select! {
        () = answer(server, caller, head, admitted, waiting, last_heard, &mut to_caller) => None,
        // The caller has gone, or broken the rules of the protocol: the call ends with it.
        breach = listen(from_caller, requests, heard) => match breach {
            Some(code) => Some(CloseFrame { code, reason: Utf8Bytes::default() }),
            None => return,
        },
    };
    let _ = timeout(PONG_PATIENCE, to_caller.send(Message::Close(last))).await;
}

/// Reads until the caller goes; the answer: which rule it has broken, by RFC 6455's number. What is no request shows at least
/// that somebody is there.
async fn listen(
    mut from_caller: SplitStream<Socket>,
    requests: mpsc::Sender<Bytes>,
    heard: mpsc::Sender<()>,
) -> Option<CloseCode> {
    loop {
        let message = match from_caller.next().await? {
            Ok(message) => message,
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return None,
            Err(Error::Protocol(_)) => return Some(CloseCode::Protocol),
            Err(Error::Utf8(_)) => return Some(CloseCode::Invalid),
            Err(Error::Capacity(_)) => return Some(CloseCode::Size),
            Err(_) => return None,
        };
        let _ = heard.try_send(());
        let request = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            // Reading on sends the answer to it, and comes to the end.
            Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        if requests.send(request).await.is_err() {
            // Nobody takes it: the call has all that it wants.
        }
    }
}

/// Makes the call, and sends what it answers.
async fn answer(
    server: &Server,
    caller: Caller,
    head: &Parts,
    admitted: Result<Admitted, Refusal>,
    requests: mpsc::Receiver<Bytes>,
    mut heard: mpsc::Receiver<()>,
    to_caller: &mut SplitSink<Socket, Message>,
) {
    let (lines, mut ready) = mpsc::channel(1);
    let calling = call(server, caller, head, admitted, requests, lines);
    let sending = async {
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_until = None;
        loop {
            let silence = async {
                match silent_until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                line = ready.recv() => match line {
                    Some(line) => Message::text::<String>(line),
                    None => return,
                },
                _ = pings.tick() => {
                    silent_until = silent_until.or(Some(Instant::now() + PONG_PATIENCE));
                    Message::Ping(Bytes::from_static(PING))
                }
                Some(()) = heard.recv() => {
                    silent_until = None;
                    continue;
                }
                () = silence => return,
            };
            // The stream itself hangs up on who does not read; this is for what TLS keeps back.
            match timeout(CALLER_WRITE_TIMEOUT * 2, to_caller.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    tokio::pin!(sending);
    tokio::select! {
        () = calling => sending.await,
        () = &mut sending => {}
    }
}

async fn call(
    server: &Server,
    caller: Caller,
    head: &Parts,
    admitted: Result<Admitted, Refusal>,
    requests: mpsc::Receiver<Bytes>,
    lines: mpsc::Sender<String>,
) {
    let made = match admitted {
        Ok(admitted) => make(server, caller, head, admitted, requests, &lines).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = made {
        let _ = lines.send(refusal.into_text()).await;
    }
}

async fn make(
    server: &Server,
    caller: Caller,
    head: &Parts,
    admitted: Admitted,
    mut requests: mpsc::Receiver<Bytes>,
    lines: &mpsc::Sender<String>,
) -> Result<(), Refusal> {
    let Admitted { route, metadata, mut held } = admitted;
    let query = head.uri.query();
    let _busy = caller.busy();

    let first = if route.binding.has_body() {
        let first = timeout(held.limit().patience.unwrap_or(REQUEST_TIMEOUT), requests.recv()).await;
        first
            .map_err(|_| Status::deadline_exceeded("the first message, the request, did not come"))?
            .unwrap_or_default()
    } else {
        Bytes::new()
    };
    held.grow(first.len()).map_err(Status::from)?;
    let message = request::message(&route, query, first).await?;
    drop(held);
    let output = route.method.output();
    let call = Call { services: &server.services, route: &route, metadata, caller };
    if !route.method.is_server_streaming() {
        requests.close();
        let answer = call.unary(message).await?;
        let _ = lines.send(reply::text(answer, output, "", "").await?).await;
        return Ok(());
    }
    let (encoded, messages) = mpsc::channel(MAX_WAITING_REQUESTS);
    // There is room for one.
    let _ = encoded.try_send(message);
    let more = route.method.is_client_streaming().then_some(encoded);
    if more.is_none() {
        requests.close();
    }
    let answers =
        call.stream(ReceiverStream::new(messages)).await.map_err(|status| in_stream(&route, status.into()))?;
    let telling = async {
        let mut answers = Box::pin(reply::lines(answers, output));
        while let Some(line) = answers.next().await {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(telling);
    let Some(encoded) = more else {
        telling.await;
        return Ok(());
    };
    let asking = async {
        while let Some(text) = requests.recv().await {
            if encoded.send(request::message(&route, None, text).await?).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        () = &mut telling => Ok(()),
        asked = asking => asked,
    }
}
