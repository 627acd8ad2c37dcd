//! Bitcoin Core's JSON-RPC over HTTP, for software that expects a bitcoind: other Lightning nodes, indexers, miners.
//!
//! ```text
//!   POST / ─► who asks (cookie, or user and password) ─► body ─► one call or a batch ─► `Call` ─► a method of a group
//!   {"result": …, "error": null, "id": …} ◄──────────────────────────────────────────────┘
//! ```
//!
//! Promises: it is off unless asked for; it never touches the wallet; method names, fields and error numbers are those
//! of Bitcoin Core, and a method that is not served says so instead of guessing. Nothing is read but the headers before it is
//! known who sends it.

mod aside;
mod auth;
mod block_template;
mod blockchain;
mod chain_control;
mod control;
mod describe;
mod descriptors;
mod error;
mod filters;
mod mempool;
mod mining;
mod network;
mod proofs;
mod raw_transaction;
mod rest;
mod scan;
mod statistics;
mod submission;
#[cfg(test)]
mod tests;
mod upkeep;
mod utxo_set;
mod waiting;

use std::{io, sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use leyden_jsonrpc::{Call, Calls, batch};
use leyden_node::{Node, types::Relatives};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{CallerTrust, ConnectionSlots},
    callers::{Caller, CallerListener},
    host::{self, HostNames},
    limits::{
        CALLER_IDLE_TIMEOUT, JSONRPC_BODY_TIMEOUT, MAX_JSONRPC_ANSWER, MAX_JSONRPC_BATCH, MAX_JSONRPC_BODY,
        MAX_KNOWN_CALLERS,
    },
    zmq::Notifier,
};
use aside::aside_for_caller;
pub(crate) use auth::Access;
use block_template::Templates;
use control::Running;
use error::RpcError;
use network::Added;
use scan::Search;

/// Requests that are answered at a time, those included whose callers have hung up: one for each caller that may be known. A
/// thread holds each, of the 512 that the runtime has for such, and the node needs some of the others.
const MAX_AT_ONCE: usize = MAX_KNOWN_CALLERS;

struct Server {
    node: Node,
    access: Access,
    started: Instant,
    /// Cancelled when the daemon stops, which a caller may ask for.
    stopping: CancellationToken,
    running: Running,
    /// For calls that look at the whole database.
    one_at_a_time: Semaphore,
    search: Search,
    added: Added,
    templates: Templates,
    turns: Arc<Semaphore>,
    rest_turns: Arc<Semaphore>,
    notifiers: Vec<Notifier>,
}

/// What is served, and to whom.
pub(crate) struct Service {
    /// Whose chain it is.
    pub node: Node,
    /// Who may call.
    pub access: Access,
    /// Whether the REST interface is served too, to everybody who asks by one of these names.
    pub rest: Option<HostNames>,
    /// What is published over ZeroMQ, and where, for whoever asks.
    pub notifiers: Vec<Notifier>,
}

impl Server {
    fn new(service: Service, stopping: CancellationToken) -> Self {
        let Service { node, access, rest: _, notifiers } = service;
        Self {
            node,
            access,
            started: Instant::now(),
            stopping,
            running: Running::default(),
            one_at_a_time: Semaphore::new(1),
            search: Search::default(),
            added: Added::default(),
            templates: Templates::default(),
            turns: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            rest_turns: Arc::new(Semaphore::new(rest::MAX_AT_ONCE)),
            notifiers,
        }
    }
}

/// Answers calls on `listener` until `stopping` is cancelled; the call `stop` cancels it.
pub(crate) async fn serve(
    mut service: Service,
    listener: TcpListener,
    slots: ConnectionSlots,
    stopping: CancellationToken,
) -> io::Result<()> {
    let mut router = Router::new().route("/", post(answer));
    if let Some(names) = service.rest.take() {
        let answer = get(rest::answer).layer(middleware::from_fn_with_state(names, host::check));
        router = router.route("/rest/{*path}", answer);
    }
    let router = router.with_state(Arc::new(Server::new(service, stopping.clone())));
    let callers = CallerListener::new(listener, slots, Some(CALLER_IDLE_TIMEOUT));
    let service = router.into_make_service_with_connect_info::<Caller>();
    axum::serve(callers, service).with_graceful_shutdown(stopping.cancelled_owned()).await
}

async fn answer(
    State(server): State<Arc<Server>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
) -> Response {
    if !server.access.allows(request.headers()) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\""), (header::CONNECTION, "close")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    if !caller.rise(CallerTrust::Known) {
        let text = "too many connections are open: close some that are not used, then try again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let _busy = caller.busy();
    let body = match timeout(JSONRPC_BODY_TIMEOUT, to_bytes(request.into_body(), MAX_JSONRPC_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response(),
    };
    let Ok(turn) = Arc::clone(&server.turns).acquire_owned().await else {
        // It is never closed.
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let asked = Arc::clone(&server);
    let answered = aside_for_caller(&server.stopping, |ended| async move {
        let _turn = turn;
        asked.all(&body, &ended).await
    });
    let Ok((status, answer)) = answered.await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let content = [(header::CONTENT_TYPE, "application/json")];
    match answer {
        Some(answer) => (status, content, answer + "\n").into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn refusal(error: RpcError) -> (StatusCode, Option<Value>) {
    (error.status(), Some(json!({ "result": null, "error": error.to_json(), "id": null })))
}

impl Server {
    /// The answer to a request, as text.
    /// `ended`: the caller has hung up, or the daemon stops.
    async fn all(&self, body: &Bytes, ended: &CancellationToken) -> (StatusCode, Option<String>) {
        let (status, answer) = match batch::read(body, MAX_JSONRPC_BATCH) {
            Ok(Calls::Batch(calls)) => return (StatusCode::OK, Some(self.batch(calls, ended).await)),
            Ok(Calls::One(call)) => self.answer(call, ended).await,
            Err(error) => refusal(error.into()),
        };
        (status, answer.map(|answer| answer.to_string()))
    }

    async fn batch(&self, calls: Vec<Value>, ended: &CancellationToken) -> String {
        let mut answers = String::from("[");
        for call in calls {
            if ended.is_cancelled() {
                break;
            }
            let answer = if answers.len() > MAX_JSONRPC_ANSWER {
                let error = RpcError::invalid_request("the answers of this batch are too long: make it smaller");
                Some(json!({ "result": null, "error": error.to_json(), "id": call.get("id") }))
            } else {
                self.answer(call, ended).await.1
            };
            let Some(answer) = answer else { continue };
            if answers.len() > 1 {
                answers.push(',');
            }
            answers.push_str(&answer.to_string());
        }
        answers + "]"
    }

    /// The answer to one call; none to a notification of JSON-RPC 2.0, which has no id.
    async fn answer(&self, call: Value, ended: &CancellationToken) -> (StatusCode, Option<Value>) {
        let id = call.get("id").cloned();
        let is_modern = call.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
        let result = match Call::read(&call) {
            Ok(call) => self.dispatch(&call, ended).await,
            Err(error) => Err(error.into()),
        };
        if is_modern && id.is_none() {
            return (StatusCode::NO_CONTENT, None);
        }
        // Errors of the older protocol are errors of HTTP too.
        let (status, answer) = match (is_modern, result) {
            (true, Ok(result)) => (StatusCode::OK, json!({ "jsonrpc": "2.0", "result": result, "id": id })),
            (true, Err(error)) => (StatusCode::OK, json!({ "jsonrpc": "2.0", "error": error.to_json(), "id": id })),
            (false, Ok(result)) => (StatusCode::OK, json!({ "result": result, "error": null, "id": id })),
            (false, Err(error)) => (error.status(), json!({ "result": null, "error": error.to_json(), "id": id })),
        };
        (status, Some(answer))
    }

    async fn dispatch(&self, call: &Call, ended: &CancellationToken) -> Result<Value, RpcError> {
        let node = &self.node;
        let _running = self.running.begin(call.method());
        match call.method() {
            "addnode" => network::add(node, call, &self.added).await,
            "clearbanned" => network::clear_bans(node).await,
            "createrawtransaction" => raw_transaction::create(node, call),
            "decoderawtransaction" => mempool::decode(node, call),
            "decodescript" => mempool::decode_script(node, call),
            "deriveaddresses" => descriptors::addresses(node, call),
            "disconnectnode" => network::disconnect(node, call),
            "estimatesmartfee" => mempool::estimate(node, call),
            "generatetoaddress" => mining::generate(node, call).await,
            "getaddednodeinfo" => network::added(node, call, &self.added),
            "getaddrmaninfo" => Ok(network::address_counts(node).await),
            "getbestblockhash" => Ok(json!(node.tip().hash)),
            "getblock" => blockchain::block(node, call).await,
            "getblockchaininfo" => blockchain::info(node),
            "getblockcount" => Ok(json!(node.tip().height)),
            "getblockfilter" => filters::filter(node, call).await,
            "getblocktemplate" => block_template::get(node, &self.templates, call, ended).await,
            "getblockfrompeer" => network::block_from_peer(node, call),
            "getblockhash" => blockchain::hash(node, call),
            "getblockheader" => blockchain::header(node, call).await,
            "getblockstats" => statistics::of_block(node, call).await,
            "getchainstates" => blockchain::states(node),
            "getchaintips" => chain_control::tips(node).await,
            "getchaintxstats" => statistics::of_chain(node, call, &self.one_at_a_time, ended).await,
            "getconnectioncount" => Ok(json!(node.peers().len())),
            "getdeploymentinfo" => blockchain::deployments(node, call),
            "getdescriptorinfo" => descriptors::info(node, call),
            "getindexinfo" => control::indexes(node, call),
            "getmemoryinfo" => control::memory(call),
            "getdifficulty" => Ok(blockchain::difficulty(node)),
            "getmempoolancestors" => mempool::relatives(node, call, Relatives::Ancestors),
            "getmempooldescendants" => mempool::relatives(node, call, Relatives::Descendants),
            "getmempoolentry" => mempool::entry(node, call),
            "getmempoolinfo" => Ok(mempool::info(node)),
            "getmininginfo" => mining::info(node),
            "getnettotals" => Ok(network::totals(node)),
            "getnetworkhashps" => mining::network_hash_rate(node, call),
            "getnetworkinfo" => Ok(network::info(node)),
            "getnodeaddresses" => network::addresses(node, call).await,
            "getorphantxs" => mempool::orphans(node, call).await,
            "getpeerinfo" => Ok(network::peers(node)),
            "getrawmempool" => mempool::list(node, call).await,
            "getrawtransaction" => mempool::transaction(node, call).await,
            "getrpcinfo" => Ok(self.running.info()),
            "gettxout" => blockchain::output(node, call).await,
            "gettxoutproof" => proofs::make(node, call).await,
            "gettxoutsetinfo" => utxo_set::info(node, call, &self.one_at_a_time, ended).await,
            "gettxspendingprevout" => mempool::spending(node, call).await,
            "getzmqnotifications" => Ok(control::notifications(&self.notifiers)),
            "help" => control::help(call),
            "invalidateblock" => chain_control::invalidate(node, call).await,
            "listbanned" => Ok(network::bans(node)),
            "logging" => control::logging(call),
            "getprioritisedtransactions" => Ok(mining::priorities(node)),
            "ping" => network::ping(node),
            "preciousblock" => chain_control::prefer(node, call).await,
            "prioritisetransaction" => mining::prioritise(node, call).await,
            "pruneblockchain" => upkeep::prune(node, call).await,
            "reconsiderblock" => chain_control::reconsider(node, call).await,
            "savemempool" => mempool::save(node).await,
            "scantxoutset" => scan::scan(node, call, &self.search, ended).await,
            "sendrawtransaction" => submission::send(node, call).await,
            "setban" => network::set_ban(node, call).await,
            "setnetworkactive" => network::set_active(node, call),
            "setmocktime" => control::mock_time(node, call),
            "stop" => {
                self.stopping.cancel();
                Ok(json!("Leyden stopping"))
            }
            "submitblock" => mining::submit(node, call).await,
            "submitheader" => chain_control::submit_header(node, call).await,
            "submitpackage" => submission::send_package(node, call).await,
            "testmempoolaccept" => submission::test(node, call).await,
            "uptime" => Ok(json!(self.started.elapsed().as_secs())),
            "validateaddress" => mempool::validate_address(node, call),
            "verifychain" => upkeep::verify(node, call, &self.one_at_a_time, ended).await,
            "verifytxoutproof" => proofs::verify(node, call).await,
            "waitforblock" => waiting::block(node, call, ended).await,
            "waitforblockheight" => waiting::height(node, call, ended).await,
            "waitfornewblock" => waiting::new_block(node, call, ended).await,
            _ => Err(RpcError::method_not_found()),
        }
    }
}
