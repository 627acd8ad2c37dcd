//! REST over a stand-in for the daemon, called as its clients call it: over a socket.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tokio_util::sync::CancellationToken;

use super::{ServeOptions, serve};
use crate::{
    admission::ConnectionSlots,
    api::{ApiError, PaymentState, WalletState},
    host::HostNames,
    limits::{MAX_OPEN_REQUEST, MAX_REST_BODY, SlotLimits},
    macaroon::{ADMIN, INVOICE, READONLY, RootKey},
    rpc::{
        Authorizer, Services,
        fake::{Fake, NODE, payment},
    },
    tls,
};

mod requests;
mod websockets;

/// How long a machine under load may take, beside the half minute that those are given who do not read.
const PATIENCE: Duration = Duration::from_secs(180);

struct Rest {
    fake: Fake,
    address: SocketAddr,
    slots: ConnectionSlots,
    key: Arc<RootKey>,
    stopping: CancellationToken,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn is(&self, status: u16, code: i64, words: &str) {
        let error = self.json();
        assert_eq!((self.status, error["code"].as_i64()), (status, Some(code)), "{self:?}");
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        let said = format!("{}: {}", text("message"), text("advice"));
        assert!(said.contains(words), "{said} does not say {words:?}");
        assert_eq!(error["details"], json!([]));
    }
}

impl Rest {
    async fn open() -> Self {
        Self::start(false, &[]).await
    }

    async fn start(asks_for_macaroons: bool, origins: &[&str]) -> Self {
        Self::start_with(asks_for_macaroons, origins, None).await
    }

    async fn start_with(asks_for_macaroons: bool, origins: &[&str], tls: Option<TlsAcceptor>) -> Self {
        let fake = Fake::new(WalletState::ServerActive);
        let key = Arc::new(RootKey::new([3; 32]));
        let authorizer = if asks_for_macaroons { Authorizer::Macaroons(Arc::clone(&key)) } else { Authorizer::Open };
        let stopping = CancellationToken::new();
        let services = Services::new(vec![Arc::new(fake.clone())], authorizer, stopping.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slots = ConnectionSlots::new(SlotLimits { strangers: 4, known: 4 });
        let allowed_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        let options = ServeOptions {
            services,
            tls,
            listener,
            slots: slots.clone(),
            allowed_origins,
            names: HostNames::new(&["node.example".to_owned()]),
            has_page: true,
            stopping: stopping.clone(),
        };
        tokio::spawn(serve(options));
        Self { fake, address, slots, key, stopping }
    }

    fn macaroon(&self, permissions: &[crate::macaroon::Permission]) -> String {
        hex::encode(self.key.bake(permissions, [1; 16]).to_bytes())
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, verb: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        // With the older protocol the body is not in pieces, and ends with the connection.
        let head = format!("{verb} {path} HTTP/1.0\r\nContent-Length: {length}\r\n{headers}\r\n");
        answer(self.send(&(head + body)).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "", body).await
    }

    fn asked(&self) -> String {
        self.fake.script().asked.clone()
    }

    async fn websocket(&self, path: &str, protocol: Option<&str>) -> WebSocketStream<TcpStream> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        client_async(request, stream).await.unwrap().0
    }

    /// Until no connection is held any more.
    async fn is_free(&self) {
        let free = SlotLimits { strangers: 0, known: 0 };
        let wait = async {
            while self.slots.used() != free {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("a connection is held");
    }
}

async fn answer(mut stream: impl AsyncRead + Unpin) -> Answer {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    Answer { status: head[9..12].parse().unwrap(), head: head.to_lowercase(), body: body.to_owned() }
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Value> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a message in time")? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn a_call_by_path_is_that_of_grpc_and_its_json_is_lnds() {
    let rest = Rest::open().await;
    let info = rest.get("/v1/getinfo").await;
    assert_eq!(info.status, 200, "{info:?}");
    assert!(info.head.contains("content-type: application/json"), "{}", info.head);
    let info = info.json();
    assert_eq!(info["identity_pubkey"], NODE);
    assert!(info["block_height"].is_u64() && info["best_header_timestamp"].is_string(), "{info}");
    assert!(info["uris"].is_array() && info["features"].is_object(), "lists and maps are there when they are empty");

    let added = rest.post("/v1/invoices", r#"{"value": "5", "memo": "tea"}"#).await.json();
    assert!(added["r_hash"].as_str().unwrap().ends_with('='), "base64: {added}");
    assert!(rest.asked().contains("tea"), "{}", rest.asked());
    assert_eq!(rest.get("/v1/state").await.json(), json!({ "state": "SERVER_ACTIVE" }));
}

#[tokio::test]
async fn it_speaks_tls_with_the_certificate_of_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let layout = crate::config::Layout::new(folder.path().into(), "regtest");
    let identity = tls::open(&layout, "127.0.0.1:10009".parse().unwrap(), &[]).unwrap();
    let rest = Rest::start_with(false, &[], Some(tls::http_acceptor(&identity).unwrap())).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(rest.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /v1/state HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(answer(stream).await.json(), json!({ "state": "SERVER_ACTIVE" }));
    // Who does not speak TLS is hung up on.
    let plain = rest.send("GET /v1/state HTTP/1.0\r\n\r\n").await;
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, tokio::io::BufReader::new(plain).read_to_end(&mut bytes)).await.unwrap();
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    rest.is_free().await;
}

#[tokio::test]
async fn a_path_that_does_not_exist() {
    let rest = Rest::open().await;
    for path in
        ["/index.htm", "/v1", "/v1/getinfo/", "/v1/getinfos", "/v2/router/track/", "//v1/getinfo", "/v1/invoice/%ff"]
    {
        rest.get(path).await.is(404, 5, "Not Found");
    }
}

#[tokio::test]
async fn a_verb_that_does_not_exist() {
    let rest = Rest::open().await;
    rest.post("/v1/getinfo", "{}").await.is(501, 12, "Method Not Allowed");
    rest.get("/v1/chanpolicy").await.is(501, 12, "Method Not Allowed");
    rest.ask("BREW", "/v1/getinfo", "", "").await.is(501, 12, "Method Not Allowed");
    rest.ask("PUT", "/v1/getinfo", "", "").await.is(501, 12, "Method Not Allowed");
}

#[tokio::test]
async fn a_call_for_a_network_by_its_name() {
    let rest = Rest::open().await;
    let of = |name: &str| format!("Grpc-Metadata-network: {name}\r\n");
    assert_eq!(rest.ask("GET", "/v1/getinfo", &of("regtest"), "").await.status, 200);
    rest.ask("GET", "/v1/getinfo", &of("moon"), "").await.is(400, 3, "regtest");
    rest.is_free().await;
}

#[tokio::test]
async fn a_wrong_or_narrow_macaroon() {
    let rest = Rest::start(true, &[]).await;
    let with = |hex: &str| format!("Grpc-Metadata-macaroon: {hex}\r\n");
    let (admin, readonly, invoice) = (rest.macaroon(ADMIN), rest.macaroon(READONLY), rest.macaroon(INVOICE));
    rest.get("/v1/getinfo").await.is(401, 16, "macaroon");
    assert_eq!(rest.get("/v1/state").await.status, 200, "what needs none");
    rest.ask("GET", "/v1/getinfo", &with("zz"), "").await.is(401, 16, "hex");
    let forged = hex::encode(RootKey::new([9; 32]).bake(ADMIN, [1; 16]).to_bytes());
    rest.ask("GET", "/v1/getinfo", &with(&forged), "").await.is(401, 16, "");
    for macaroon in [&admin, &readonly] {
        assert_eq!(rest.ask("GET", "/v1/getinfo", &with(macaroon), "").await.status, 200);
    }
    rest.ask("POST", "/v1/invoices", &with(&readonly), "{}").await.is(403, 7, "");
    assert_eq!(rest.ask("POST", "/v1/invoices", &with(&invoice), "{}").await.status, 200);
    rest.ask("GET", "/v1/peers", &with(&invoice), "").await.is(403, 7, "");
    rest.is_free().await;
}

#[tokio::test]
async fn nothing_but_the_head_is_read_of_who_may_not_call() {
    let rest = Rest::start(true, &[]).await;
    let head = format!("POST /v1/invoices HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_REST_BODY}\r\n\r\n");
    let mut stream = rest.send(&head).await;
    let mut start = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("no byte of the body is waited for").unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_head_without_end() {
    let rest = Rest::open().await;
    let head = format!("GET /v1/getinfo HTTP/1.1\r\nX-Long: {}", "a".repeat(200_000));
    let mut stream = TcpStream::connect(rest.address).await.unwrap();
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is hung up on");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    rest.is_free().await;
}

#[tokio::test]
async fn errors_have_the_numbers_of_http_that_grpc_gateway_gives_them() {
    let rest = Rest::open().await;
    for (error, status, code) in [
        (ApiError::invalid("a"), 400, 3),
        (ApiError::precondition("b"), 400, 9),
        (ApiError::not_found("c"), 404, 5),
        (ApiError::exists("d"), 409, 6),
        (ApiError::unavailable("e"), 503, 14),
        (ApiError::internal("f"), 500, 13),
    ] {
        rest.fake.fail_with(error.clone());
        rest.get("/v1/getinfo").await.is(status, code, &error.to_string());
        // Of a stream that does not begin, too.
        let begun = rest.get("/v1/channels/subscribe").await;
        assert_eq!(begun.status, status, "{begun:?}");
        assert_eq!(begun.json()["error"]["code"], code, "as grpc-gateway ends a stream: {begun:?}");
    }
}

#[tokio::test]
async fn a_stream_is_a_line_of_json_for_each_message() {
    let rest = Rest::open().await;
    rest.fake.script().payments =
        vec![payment(PaymentState::InFlight), payment(PaymentState::InFlight), payment(PaymentState::InFlight)];
    let lines = rest.post("/v2/router/send", r#"{"payment_request": "lnbcrt1", "timeout_seconds": 5}"#).await;
    assert_eq!(lines.status, 200, "{lines:?}");
    let lines = lines.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["result"]["status"] == "IN_FLIGHT"), "{lines:?}");

    rest.fake.script().hold_streams = true;
    let request = "GET /v1/state/subscribe HTTP/1.0\r\n\r\n";
    let mut lines = tokio::io::BufReader::new(rest.send(request).await).lines();
    let mut next = async || timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().unwrap();
    while !next().await.is_empty() {}
    let state: Value = serde_json::from_str(&next().await).unwrap();
    assert_eq!(state["result"]["state"], "SERVER_ACTIVE");
    // The daemon's end is told in the stream.
    rest.stopping.cancel();
    let end: Value = serde_json::from_str(&next().await).unwrap();
    assert_eq!(end["error"]["code"], 14, "{end}");
}

#[tokio::test]
async fn a_caller_that_hangs_up_in_the_middle_of_a_stream() {
    let rest = Rest::open().await;
    rest.fake.script().hold_streams = true;
    let mut stream = rest.send("GET /v1/channels/subscribe HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    drop(stream);
    rest.is_free().await;
}

#[tokio::test]
async fn a_slow_reader() {
    let rest = Rest::open().await;
    // More than the buffers of the system hold.
    rest.fake.script().payments = vec![payment(PaymentState::InFlight); 40_000];
    let body = r#"{"payment_request": "lnbcrt1", "timeout_seconds": 5}"#;
    let head = format!("POST /v2/router/send HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = rest.send(&(head + body)).await;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    // From now on it reads nothing.
    rest.is_free().await;
    drop(stream);
}

#[tokio::test]
async fn pages_of_the_web_may_call_if_the_user_says_so() {
    let origin = "Origin: https://wallet.example\r\n";
    let closed = Rest::open().await;
    // Not even calls that need no macaroon.
    for (verb, path) in [("GET", "/v1/getinfo"), ("GET", "/v1/state"), ("OPTIONS", "/v1/getinfo"), ("GET", "/")] {
        closed.ask(verb, path, origin, "").await.is(403, 7, "--rest-cors");
    }
    let own = "Host: 127.0.0.1:8080\r\nOrigin: https://127.0.0.1:8080\r\n";
    assert_eq!(closed.ask("GET", "/v1/getinfo", own, "").await.status, 200, "the page that is served here");

    let rest = Rest::start(true, &["https://wallet.example"]).await;
    let preflight = rest.ask("OPTIONS", "/v1/invoices", origin, "").await;
    assert_eq!((preflight.status, preflight.body.as_str()), (200, ""));
    for part in [
        "access-control-allow-origin: https://wallet.example",
        "access-control-allow-methods: get, post, delete",
        "access-control-allow-headers: content-type, accept, grpc-metadata-macaroon, grpc-metadata-network",
    ] {
        assert!(preflight.head.contains(part), "{} has no {part}", preflight.head);
    }
    let refused = rest.ask("GET", "/v1/getinfo", origin, "").await;
    assert!(refused.status == 401 && refused.head.contains("allow-origin: https://wallet.example"), "{refused:?}");
    let other = rest.ask("GET", "/v1/state", "Origin: https://evil.example\r\n", "").await;
    assert!(!other.head.contains("allow-origin"), "{}", other.head);
}
