//! The gRPC services of Leyden: the part of LND's interface that it answers (`lnd/*.proto`, under LND's names and
//! numbers) and what LND has no service for (`leyden/*.proto`). Beside the generated types there is what decodes requests,
//! what becomes of their fields ([`fields`]), messages as JSON ([`json`]) and LND's paths of REST ([`bindings`]).

pub mod bindings;
pub mod codec;
pub mod fields;
pub mod json;

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// The descriptors of all services ([`DESCRIPTORS`]), decoded once: that takes a tenth of a second.
pub fn pool() -> &'static DescriptorPool {
    // What cannot be decoded is no descriptor set that was compiled in: reflection would have failed before.
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap_or_default());
    &POOL
}

/// `Lightning`, `State` and `WalletUnlocker`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod lnrpc {
    tonic::include_proto!("lnrpc");
}

/// `ChainKit` and `ChainNotifier`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod chainrpc {
    tonic::include_proto!("chainrpc");
}

/// `Invoices`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod invoicesrpc {
    tonic::include_proto!("invoicesrpc");
}

/// `Peers`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod peersrpc {
    tonic::include_proto!("peersrpc");
}

/// `Router`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod routerrpc {
    tonic::include_proto!("routerrpc");
}

/// `Signer`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod signrpc {
    tonic::include_proto!("signrpc");
}

/// `Versioner`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod verrpc {
    tonic::include_proto!("verrpc");
}

/// `WalletKit`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod walletrpc {
    tonic::include_proto!("walletrpc");
}

/// `WatchtowerClient`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod wtclientrpc {
    tonic::include_proto!("wtclientrpc");
}

/// `Watchtower`, with LND's names and numbers.
#[allow(clippy::all, deprecated)]
pub mod watchtowerrpc {
    tonic::include_proto!("watchtowerrpc");
}

/// `Chain`, Leyden's own.
#[allow(clippy::all, deprecated)]
pub mod leyden {
    tonic::include_proto!("leyden");
}

/// All services and messages as an encoded `google.protobuf.FileDescriptorSet`: for server reflection, and for
/// programs that print messages without knowing their types.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/leyden.descriptors"));

/// Every call of LND's, and what becomes of it here: the table of `LND.md`, by service, a row a call.
pub const LND_CALLS: &str = include_str!("../LND.md");
