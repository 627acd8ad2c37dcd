//! LND's REST: the calls of gRPC over HTTP and JSON, under LND's paths.
//!
//! ```text
//!   TLS ─► head ─► path: which call (`leyden_proto::bindings`) ─► macaroon ─► body, query and path: its request (`request`)
//!                                                                                        │
//!   JSON, or a line of JSON for each message of a stream (`reply`) ◄── the services in process (`call`, `crate::rpc`)
//!        or a message of a WebSocket for each (`websocket`)
//! ```
//!
//! Promises: there is no handler a call, so macaroons, locks and errors are those of gRPC; nothing but the head of a request is
//! read before it is known who may send it; what a caller can make the daemon hold is bounded by the numbers below and by those
//! of [`crate::limits`].

mod call;
mod cors;
mod reply;
mod request;
#[cfg(test)]
mod tests;
mod websocket;

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header},
};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use leyden_proto::bindings::Verb;
use prost_reflect::MethodDescriptor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use self::{
    call::Call,
    cors::Cors,
    reply::Refusal,
    request::{Found, Route},
};
use crate::{
    admission::ConnectionSlots,
    callers::{Caller, CallerListener, CallerStream},
    host::HostNames,
    limits::{CALLER_IDLE_TIMEOUT, MAX_REST_HEAD, REQUEST_TIMEOUT},
    request_room::{HeldRequest, RequestRefused},
    rpc::{DRAIN, METADATA_KEY, Services},
    web,
};

/// Headers with this prefix are metadata of the call.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// What [`serve`] needs.
pub(crate) struct ServeOptions {
    pub services: Services,
    /// `None` serves plain text: for tests alone.
    pub tls: Option<TlsAcceptor>,
    pub listener: TcpListener,
    /// Whom the listener lets in.
    pub slots: ConnectionSlots,
    /// Pages of which origins a browser lets call; `*`: of all.
    pub allowed_origins: Vec<String>,
    /// By which names pages of a browser may ask.
    pub names: HostNames,
    /// Whether the page for people is served too.
    pub has_page: bool,
    /// Ends the serving: streams are told so, calls get some seconds to finish.
    pub stopping: CancellationToken,
}

struct Server {
    services: Services,
    names: HostNames,
    cors: Cors,
    has_page: bool,
    /// Whoever must not be cut off at once when the daemon stops.
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// Answers on `listener` until `stopping` is cancelled and the calls in progress have ended.
pub(crate) async fn serve(options: ServeOptions) {
    let ServeOptions { services, tls, listener, slots, allowed_origins, names, has_page, stopping } = options;
    let (tasks, cors) = (TaskTracker::new(), Cors::new(allowed_origins));
    let server = Arc::new(Server { services, names, cors, has_page, tasks: tasks.clone(), stopping: stopping.clone() });
    let callers = CallerListener::new(listener, slots, Some(CALLER_IDLE_TIMEOUT));
    loop {
        let stream = tokio::select! {
            stream = callers.next() => stream,
            () = stopping.cancelled() => break,
        };
        tasks.spawn(connection(Arc::clone(&server), tls.clone(), stream));
    }
    tasks.close();
    // Who keeps a call open cannot keep the daemon alive.
    let _ = timeout(DRAIN, tasks.wait()).await;
}

async fn connection(server: Arc<Server>, tls: Option<TlsAcceptor>, stream: CallerStream) {
    let caller = stream.caller().clone();
    match tls {
        // The stream itself ends a handshake that takes too long.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                http(server, caller, stream).await;
            }
        }
        None => http(server, caller, stream).await,
    }
}

async fn http<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(server: Arc<Server>, caller: Caller, stream: S) {
    let stopping = server.stopping.clone();
    let service = service_fn(move |request| {
        let (server, caller) = (Arc::clone(&server), caller.clone());
        async move { Ok::<_, Infallible>(server.answer(caller, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Whoever has not shown who they are has less time: `CallerStream` sees to that.
        .header_read_timeout(CALLER_IDLE_TIMEOUT)
        .max_buf_size(MAX_REST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    // What goes wrong here has been said to the caller, as far as it could be reached.
    tokio::select! {
        _ = &mut connection => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

impl Server {
    async fn answer(self: Arc<Self>, caller: Caller, request: Request<Incoming>) -> Response<Body> {
        let granted = self.cors.headers(request.headers());
        let may_ask = granted.as_ref().is_some_and(|granted| granted.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        let mut response = if is_of_browser(request.headers()) && !may_ask && !self.names.allow(request.headers()) {
            Refusal::Host.into_response()
        } else if request.method() == Method::OPTIONS && granted.is_some() {
            Response::new(Body::empty())
        } else if comes_from_elsewhere(request.headers(), granted.as_ref()) {
            Refusal::Origin.into_response()
        } else if let Some(file) = self.file(&request) {
            file
        } else if websocket::is_upgrade(&request) {
            websocket::open(&self, caller, request)
        } else {
            self.call(caller, request).await.unwrap_or_else(Refusal::into_response)
        };
        response.headers_mut().extend(granted.unwrap_or_default());
        response
    }

    /// A file of the page for people, if that is served.
    fn file(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        if !self.has_page || request.method() != Method::GET {
            return None;
        }
        web::file(request.uri().path())
    }

    async fn call(&self, caller: Caller, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (head, body) = request.into_parts();
        let verb = verb(&head.method).ok_or(Refusal::Verb)?;
        let route = self.route(verb, head.uri.path())?;
        let metadata = metadata(&head.headers);
        let answers_many = route.method.is_server_streaming();
        let in_stream = |refusal: Refusal| if answers_many { refusal.in_stream() } else { refusal };
        let mut held =
            self.services.admit(&route.path, &metadata, &caller).map_err(Refusal::from).map_err(in_stream)?;
        let busy = caller.busy();
        let body = read(body, &mut held).await?;
        let message = request::message(&route, head.uri.query(), body).await?;
        let call = Call { services: &self.services, route: &route, metadata, caller };
        if answers_many {
            let answers = call.stream(tokio_stream::once(message)).await.map_err(Refusal::from).map_err(in_stream)?;
            return Ok(reply::stream(answers, route.method.output(), busy));
        }
        let answer = call.unary(message).await?;
        reply::one(answer, route.method.output()).await
    }

    /// Which call a path stands for.
    fn route(&self, verb: Verb, path: &str) -> Result<Route, Refusal> {
        let (binding, parameters) = match request::find(verb, path) {
            Found::Call(binding, parameters) => (binding, parameters),
            Found::OtherVerb => return Err(Refusal::Verb),
            Found::Nothing => return Err(Refusal::Path),
        };
        // A test holds every binding against the descriptors.
        let method = method(binding.call).ok_or(Refusal::Path)?;
        Ok(Route { binding, parameters, path: format!("/{}", binding.call), method })
    }
}

fn method(call: &str) -> Option<MethodDescriptor> {
    let (service, name) = call.split_once('/')?;
    leyden_proto::pool().get_service_by_name(service)?.methods().find(|method| method.name() == name)
}

/// Whether a browser sends this: with each request over TLS it says for whose page. Programs have names for this machine that it
/// does not know itself (those of containers), and are not asked.
fn is_of_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// Whether a browser sends this for a page of another site, to which CORS grants nothing: that may not even make the calls that
/// need no macaroon. Programs name no origin.
fn comes_from_elsewhere(headers: &HeaderMap, granted: Option<&HeaderMap>) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return false,
        (Some(origin), None) => origin,
        // A browser names one.
        (Some(_), Some(_)) => return true,
    };
    if granted.is_some_and(|granted| granted.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)) {
        return false;
    }
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    named.is_none() || named != own
}

fn verb(method: &Method) -> Option<Verb> {
    match *method {
        Method::GET => Some(Verb::Get),
        Method::POST => Some(Verb::Post),
        Method::DELETE => Some(Verb::Delete),
        _ => None,
    }
}

/// The metadata of a call, among it the macaroon.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let named = headers.iter().filter_map(|(name, value)| {
        let name: HeaderName = name.as_str().strip_prefix(METADATA_PREFIX)?.parse().ok()?;
        Some((name, value.clone()))
    });
    named.collect()
}

/// The metadata of a call that comes with a macaroon in hexadecimal alone.
fn with_macaroon(hex: &str) -> HeaderMap {
    HeaderValue::from_str(hex)
        .map(|value| HeaderMap::from_iter([(HeaderName::from_static(METADATA_KEY), value)]))
        .unwrap_or_default()
}

/// The body of a request, if there is one.
async fn read(mut body: Incoming, held: &mut HeldRequest) -> Result<Bytes, Refusal> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let patience = held.limit().patience.unwrap_or(REQUEST_TIMEOUT);
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Status::invalid_argument("the body ended before its end"))?;
            let Ok(data) = frame.into_data() else { continue };
            held.grow(data.len()).map_err(too_large)?;
            bytes.extend_from_slice(&data);
        }
        Ok::<_, Refusal>(Bytes::from(bytes))
    };
    match timeout(patience, reading).await {
        Ok(read) => read,
        Err(_) => Err(Refusal::Http(
            StatusCode::REQUEST_TIMEOUT,
            Status::deadline_exceeded(format!("the body did not come within {} s", patience.as_secs())),
        )),
    }
}

fn too_large(refused: RequestRefused) -> Refusal {
    match refused {
        RequestRefused::TooLarge(_) => Refusal::Http(StatusCode::PAYLOAD_TOO_LARGE, refused.into()),
        RequestRefused::NoRoom => Status::from(refused).into(),
    }
}
