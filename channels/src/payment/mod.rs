//! Payments from both ends: what asks for them, what pays them, and how they end.
//!
//! - [`invoice`]: BOLT 11, written and read through `lightning-invoice`.
//! - [`incoming`]: our invoices, and the HTLCs that pay them.
//! - [`outgoing`]: payments that we make, their attempts and outcomes.
//! - [`route`]: a route through the network.
//! - [`record`]: how invoices and payments are stored.
//! - [`start`]: what of them a start reads.

pub mod incoming;
pub mod invoice;
pub mod outgoing;
pub mod record;
pub mod route;
pub mod start;

#[cfg(test)]
mod incoming_tests;
#[cfg(test)]
mod tests;

pub use crate::routing::HintHop;
pub use invoice::{Description, Invoice, InvoiceError, InvoiceNetwork, InvoiceRequest, OwnFields};
