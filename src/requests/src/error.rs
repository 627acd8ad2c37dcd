//! What is wrong with a request, with Bitcoin Core's numbers.

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    pub code: i32,
    pub message: String,
}

pub const PARSE: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const MISC: i32 = -1;
pub const TYPE: i32 = -3;
pub const INVALID_PARAMETER: i32 = -8;
pub const DESERIALIZATION: i32 = -22;

impl RequestError {
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn invalid(message: &str) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    pub fn parse(error: &serde_json::Error) -> Self {
        Self::new(PARSE, format!("Parse error: {error}"))
    }

    pub fn parameter(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMETER, message)
    }
}
