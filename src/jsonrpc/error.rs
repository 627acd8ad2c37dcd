//! Errors with Bitcoin Core's numbers.

use axum::http::StatusCode;
pub(super) use leyden_jsonrpc::error::{INVALID_REQUEST, MISC};
use leyden_jsonrpc::{RequestError, error::INVALID_PARAMETER};
use leyden_node::NodeError;
use serde_json::{Value, json};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RpcError {
    pub code: i32,
    pub message: String,
}

pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
pub(super) const ALREADY_ADDED: i32 = -23;
pub(super) const NOT_ADDED: i32 = -24;
pub(super) const PEER_NOT_CONNECTED: i32 = -29;
pub(super) const INVALID_SUBNET: i32 = -30;
/// There are no peers, and there will be none.
pub(super) const P2P_DISABLED: i32 = -31;
pub(super) const INTERNAL: i32 = -32603;
pub(super) const INVALID_ADDRESS_OR_KEY: i32 = -5;
/// The node has no peers where it needs some, or stops.
pub(super) const NOT_CONNECTED: i32 = -9;
/// Blocks are missing.
pub(super) const IN_INITIAL_DOWNLOAD: i32 = -10;
pub(super) const VERIFY: i32 = -25;
pub(super) const VERIFY_REJECTED: i32 = -26;
pub(super) const ALREADY_IN_UTXO_SET: i32 = -27;

impl RpcError {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn invalid_request(message: &str) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    pub(super) fn method_not_found() -> Self {
        Self::new(METHOD_NOT_FOUND, "Method not found")
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMETER, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(INVALID_ADDRESS_OR_KEY, message)
    }

    /// Of HTTP, in the older protocol.
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            INVALID_REQUEST => StatusCode::BAD_REQUEST,
            METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }
}

impl From<RequestError> for RpcError {
    fn from(RequestError { code, message }: RequestError) -> Self {
        Self { code, message }
    }
}

impl From<NodeError> for RpcError {
    fn from(error: NodeError) -> Self {
        let code = match error {
            // Bitcoin Core's words: programs look for "pruned".
            NodeError::Pruned { .. } => return Self::new(MISC, "Block not available (pruned data)"),
            NodeError::UnknownBlock(_) => INVALID_ADDRESS_OR_KEY,
            NodeError::LightNode(_) | NodeError::OutOfReach { .. } => MISC,
            NodeError::ShuttingDown
            | NodeError::SearchStopped
            | NodeError::ClockBehindChain { .. }
            | NodeError::Network(_)
            | NodeError::Unreachable { .. }
            | NodeError::Store(_)
            | NodeError::Halted(_)
            | NodeError::MissingData(_)
            | NodeError::InvalidTemplate(_)
            | NodeError::Invariant(_) => INTERNAL,
        };
        Self::new(code, error.to_string())
    }
}
