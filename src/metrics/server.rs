//! The HTTP side: one path, and the same care of connections as for other callers.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::Mutex};

use super::{recorder::Recorded, scrape::scrape};
use crate::{
    admission::{CallerTrust, ConnectionSlots},
    api::Daemon,
    callers::{Caller, CallerListener},
    host::{self, HostNames},
    limits::{CALLER_IDLE_TIMEOUT, METRICS_PAGE_AGE},
};

/// The content type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Server {
    daemons: Vec<Arc<dyn Daemon>>,
    recorded: Recorded,
    started: SystemTime,
    /// The last page, and when it was begun.
    page: Mutex<Option<(Instant, Bytes)>>,
}

/// Answers on `listener` until `stopping` resolves, whoever asks by one of the names. `daemons`: of each network. `started`: when the process was.
pub(crate) async fn serve(
    daemons: Vec<Arc<dyn Daemon>>,
    recorded: Recorded,
    started: SystemTime,
    listener: TcpListener,
    (slots, names): (ConnectionSlots, HostNames),
    stopping: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let upkeep = recorded.clone();
    let server = Arc::new(Server { daemons, recorded, started, page: Mutex::new(None) });
    let router = Router::new().route("/metrics", get(answer)).fallback(unknown).with_state(server);
    let router = router.layer(middleware::from_fn_with_state(names, host::check));
    let callers = CallerListener::new(listener, slots, Some(CALLER_IDLE_TIMEOUT));
    let service = router.into_make_service_with_connect_info::<Caller>();
    let serving = axum::serve(callers, service).with_graceful_shutdown(stopping);
    tokio::select! {
        ended = serving => ended,
        () = upkeep.keep_small() => Ok(()),
    }
}

async fn answer(State(server): State<Arc<Server>>, ConnectInfo(caller): ConnectInfo<Caller>) -> Response {
    // Nobody shows who they are: those who ask stay longer than those who are silent, and that is all.
    if !caller.rise(CallerTrust::Caller) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let _busy = caller.busy();
    // In a task of its own: a caller that hangs up must not have the same work begun again for the next one.
    match tokio::spawn(async move { server.page().await }).await {
        Ok(page) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn unknown() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "the metrics are at /metrics\n")
}

impl Server {
    /// A page that is young enough. Those who ask meanwhile wait for the same one.
    async fn page(&self) -> Bytes {
        let mut kept = self.page.lock().await;
        if let Some((begun, page)) = kept.as_ref()
            && begun.elapsed() < METRICS_PAGE_AGE
        {
            return page.clone();
        }
        let begun = Instant::now();
        let page = Bytes::from(scrape(&self.daemons, &self.recorded, self.started).await);
        *kept = Some((begun, page.clone()));
        page
    }
}
