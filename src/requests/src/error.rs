//! What is wrong with a request, with Bitcoin Core's numbers.

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// One of Bitcoin Core's numbers, such as [`PARSE`].
    pub code: i32,
    /// What is wrong, for people.
    pub message: String,
}

/// The body is no JSON.
pub const PARSE: i32 = -32700;
/// The JSON is no call.
pub const INVALID_REQUEST: i32 = -32600;
/// The call cannot be served as it is: too many or missing parameters.
pub const MISC: i32 = -1;
/// A parameter has another JSON type.
pub const TYPE: i32 = -3;
/// A parameter's value is out of range, or its name unknown.
pub const INVALID_PARAMETER: i32 = -8;
/// Hexadecimal that encodes no transaction or block.
pub const DESERIALIZATION: i32 = -22;

impl RequestError {
    /// An error with one of the numbers above.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// [`INVALID_REQUEST`].
    pub fn invalid(message: &str) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    /// [`PARSE`], with what the parser says.
    pub fn parse(error: &serde_json::Error) -> Self {
        Self::new(PARSE, format!("Parse error: {error}"))
    }

    /// [`INVALID_PARAMETER`].
    pub fn parameter(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMETER, message)
    }
}
