//! Requests of Bitcoin Core's JSON-RPC, as far as they are read without a node.
//!
//! ```text
//!   body ─► batch::read ─► one call or a bounded number of them ─► Call: method, parameters by place or by name
//! ```
//!
//! Promises: any bytes are answered by calls or by an error with one of Bitcoin Core's numbers; amounts are exact to the
//! satoshi or refused.

#![warn(missing_docs)]

pub mod amount;
pub mod batch;
pub mod call;
pub mod error;
pub mod methods;

pub use batch::Calls;
pub use call::Call;
pub use error::RequestError;
