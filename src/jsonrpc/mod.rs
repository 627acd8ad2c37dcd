//! Bitcoin Core's JSON-RPC over HTTP, for software that expects a bitcoind: other Lightning nodes, indexers, miners.
//!
//! ```text
//!   POST / ─► who asks (cookie, or user and password) ─► one call or a batch ─► `Call` ─► a method of a group below
//!   {"result": …, "error": null, "id": …} ◄──────────────────────────────────────────────┘
//! ```
//!
//! Promises: it is off unless asked for; it never touches the wallet; method names, fields and error numbers are those
//! of Bitcoin Core, and a method that is not served says so instead of guessing.

mod amount;
mod auth;
mod blockchain;
mod call;
mod describe;
mod error;
mod mempool;
mod mining;
mod network;
#[cfg(test)]
mod tests;

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use leyden_node::Node;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use auth::Access;
use call::Call;
use error::RpcError;

/// The largest request: a block in hexadecimal and some air.
const MAX_BODY: usize = 10_000_000;

struct Server {
    node: Node,
    access: Access,
}

/// Answers calls on `listener` until `stopping` resolves.
pub async fn serve(
    node: Node,
    access: Access,
    listener: TcpListener,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let server = Arc::new(Server { node, access });
    let router = Router::new().route("/", post(answer)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(server);
    axum::serve(listener, router).with_graceful_shutdown(stopping).await
}

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    if !server.access.allows(&headers) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    let (status, answer) = match serde_json::from_slice(&body) {
        Ok(Value::Array(calls)) if !calls.is_empty() => {
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                answers.extend(server.one(call).await.1);
            }
            (StatusCode::OK, Some(Value::Array(answers)))
        }
        Ok(call @ Value::Object(_)) => server.one(call).await,
        Ok(_) => refusal(RpcError::invalid_request("a call is an object, a batch is an array of objects")),
        Err(error) => refusal(RpcError::parse(&error)),
    };
    let content = [(header::CONTENT_TYPE, "application/json")];
    match answer {
        Some(answer) => (status, content, answer.to_string() + "\n").into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn refusal(error: RpcError) -> (StatusCode, Option<Value>) {
    (error.status(), Some(json!({ "result": null, "error": error.to_json(), "id": null })))
}

impl Server {
    /// The answer to one call; none to a notification of JSON-RPC 2.0, which has no id.
    async fn one(&self, call: Value) -> (StatusCode, Option<Value>) {
        let id = call.get("id").cloned();
        let is_modern = call.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
        let result = match Call::read(&call) {
            Ok(call) => self.dispatch(&call).await,
            Err(error) => Err(error),
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

    async fn dispatch(&self, call: &Call) -> Result<Value, RpcError> {
        let node = &self.node;
        match call.method() {
            "getblockchaininfo" => blockchain::info(node),
            "getblockcount" => Ok(json!(node.tip().height)),
            "getbestblockhash" => Ok(json!(node.tip().hash)),
            "getblockhash" => blockchain::hash(node, call),
            "getblockheader" => blockchain::header(node, call).await,
            "getblock" => blockchain::block(node, call).await,
            "gettxout" => blockchain::output(node, call).await,
            "getrawtransaction" => mempool::transaction(node, call).await,
            "decoderawtransaction" => mempool::decode(node, call),
            "decodescript" => mempool::decode_script(node, call),
            "sendrawtransaction" => mempool::send(node, call).await,
            "submitpackage" => mempool::send_package(node, call).await,
            "testmempoolaccept" => mempool::test(node, call).await,
            "getrawmempool" => mempool::list(node, call),
            "getmempoolentry" => mempool::entry(node, call),
            "getmempoolinfo" => Ok(mempool::info(node)),
            "estimatesmartfee" => mempool::estimate(node, call),
            "getnetworkinfo" => Ok(network::info(node)),
            "getconnectioncount" => Ok(json!(node.peers().len())),
            "getpeerinfo" => Ok(network::peers(node)),
            "generatetoaddress" => mining::generate(node, call).await,
            "submitblock" => mining::submit(node, call).await,
            _ => Err(RpcError::method_not_found()),
        }
    }
}
