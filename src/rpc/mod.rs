//! The gRPC face of the daemon: LND's services under LND's names, and `leyden.Chain`.
//!
//! ```text
//!   REST ─────────┐ [`Services::in_process`]
//!   TLS ─► auth (macaroon) ─► networks (which of them) ─┐
//!                           ┌───────────────────────────┘
//!                           ├─► lightning · router ──┐
//!                           ├─► unlocker · state ────┼──► convert ──► api::Daemon
//!                           ├─► invoices · towers ───┤
//!                           ├─► watchtower · tower ──┤
//!                           ├─► versioner · chain ───┘
//!                           └─► reflection · health
//! ```
//!
//! A service takes a request apart, asks the daemon and puts the answer together; `convert` is the only place that
//! sees both protobuf and domain types, and checks every field on the way in. [`status`] is the only place that
//! turns an error into a gRPC status, and the only place that ends a stream when the daemon stops.

pub(crate) mod auth;
mod bodies;
mod browse;
mod chain;
mod chain_kit;
mod channels;
mod convert;
mod crossing;
mod invoices;
mod lightning;
mod limits;
mod long;
mod networks;
mod peers;
mod recovery;
mod router;
mod session;
mod signer;
mod state;
mod status;
mod swap;
mod tower;
mod towers;
mod unlocker;
mod versioner;
mod walletkit;
mod watchtower;
mod words;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use ::tower::Layer as _;
use leyden_proto::{
    DESCRIPTORS,
    chainrpc::{chain_kit_server::ChainKitServer, chain_notifier_server::ChainNotifierServer},
    invoicesrpc::invoices_server::InvoicesServer,
    leyden::browse_server::BrowseServer,
    leyden::chain_server::ChainServer,
    leyden::channels_server::ChannelsServer,
    leyden::crossing_node_server::CrossingNodeServer,
    leyden::crossing_server::CrossingServer,
    leyden::limits_server::LimitsServer,
    leyden::session_server::SessionServer,
    leyden::swap_chain_server::SwapChainServer,
    leyden::swap_server::SwapServer,
    leyden::tower_server::TowerServer,
    leyden::towers_server::TowersServer,
    leyden::wallet_server::WalletServer,
    lnrpc::lightning_server::LightningServer,
    lnrpc::state_server::StateServer,
    lnrpc::wallet_unlocker_server::WalletUnlockerServer,
    peersrpc::peers_server::PeersServer,
    routerrpc::router_server::RouterServer,
    signrpc::signer_server::SignerServer,
    verrpc::versioner_server::VersionerServer,
    walletrpc::wallet_kit_server::WalletKitServer,
    watchtowerrpc::watchtower_server::WatchtowerServer,
    wtclientrpc::watchtower_client_server::WatchtowerClientServer,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    codegen::http::HeaderMap,
    service::Routes,
    transport::{Identity, Server, ServerTlsConfig},
};

pub(crate) use self::auth::{Authorizer, METADATA_KEY};
use self::{long::LongAnswers, networks::ByNetwork};
use crate::{
    admission::ConnectionSlots,
    api::{ApiError, Chain, Daemon, Lightning, WalletState, Watchtower},
    callers::{Caller, CallerListener},
    limits::{MAX_CALLS_PER_CONNECTION, MAX_LARGE_REQUEST, MAX_REST_BODY},
    request_room::{HeldRequest, RequestRoom},
    tls,
};

/// How long calls may take to end once the daemon stops.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// The largest answer that is given: lists of tens of thousands of payments fit.
pub(crate) const MAX_MESSAGE: usize = 200 << 20;

/// What [`serve`] needs.
pub(crate) struct ServeOptions {
    pub services: Services,
    /// `None` serves plain text: for tests alone.
    pub tls: Option<tls::Identity>,
    pub listener: TcpListener,
    /// Whom the listener lets in.
    pub slots: ConnectionSlots,
    /// Ends the serving: streams are told so, calls get [`DRAIN`] to finish.
    pub stopping: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "tls.cert or tls.key in the data directory cannot be used ({0}): put right ones there, or delete both to have new ones \
         made"
    )]
    Tls(String),
    #[error("the descriptors of the services are damaged: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
    #[error("the gRPC server failed: {0}")]
    Transport(#[source] tonic::transport::Error),
    #[error("the gRPC listener failed: {0}")]
    Listener(#[from] io::Error),
}

/// Whether the certificate and the key can be used, before anything is started that would have to be stopped again.
pub(crate) fn check_tls(identity: &tls::Identity) -> Result<(), ServeError> {
    with_tls(Server::builder(), identity).map(drop)
}

fn with_tls(server: Server, identity: &tls::Identity) -> Result<Server, ServeError> {
    let identity = Identity::from_pem(&identity.certificate, &identity.key);
    server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(|error| ServeError::Tls(causes(&error)))
}

/// What went wrong, down to its cause.
fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Every service, and who may call it. Clones are the same services.
#[derive(Clone)]
pub(crate) struct Services {
    routes: Routes,
    authorizer: Authorizer,
    /// For requests that come by any door.
    room: RequestRoom,
}

impl Services {
    /// The services of a daemon on each of its networks, the first one's first. Streams end when `stopping` is cancelled.
    pub(crate) async fn new(
        daemons: Vec<Arc<dyn Daemon>>,
        authorizer: Authorizer,
        stopping: CancellationToken,
    ) -> Result<Self, ServeError> {
        let mut networks = Vec::new();
        for daemon in daemons {
            let name = daemon.network().name;
            networks.push((name, Self::of_network(Context { daemon, stopping: stopping.clone() }).await?));
        }
        let routes = ByNetwork::new(networks).into_routes();
        Ok(Self { routes, authorizer, room: RequestRoom::new() })
    }

    async fn of_network(context: Context) -> Result<Routes, ServeError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let reflection =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);

        let mut routes = Routes::builder();
        routes
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(LongAnswers(
                LightningServer::new(lightning::LightningService::new(context.clone()))
                    .max_decoding_message_size(MAX_LARGE_REQUEST)
                    .max_encoding_message_size(MAX_MESSAGE),
            ))
            .add_service(
                ChainKitServer::new(chain_kit::ChainKitService::new(context.clone()))
                    .max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(
                ChainNotifierServer::new(chain_kit::ChainKitService::new(context.clone()))
                    .max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(InvoicesServer::new(invoices::InvoicesService::new(context.clone())))
            .add_service(RouterServer::new(router::RouterService::new(context.clone())))
            .add_service(PeersServer::new(peers::PeersService::new(context.clone())))
            .add_service(StateServer::new(state::StateService::new(context.clone())))
            .add_service(WalletUnlockerServer::new(unlocker::UnlockerService::new(context.clone())))
            .add_service(WalletKitServer::new(walletkit::WalletKitService::new(context.clone())))
            .add_service(SignerServer::new(signer::SignerService::new(context.clone())))
            .add_service(WatchtowerServer::new(watchtower::WatchtowerService::new(context.clone())))
            .add_service(
                TowerServer::new(tower::TowerService::new(context.clone())).max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(VersionerServer::new(versioner::VersionerService))
            .add_service(
                ChannelsServer::new(channels::ChannelsService::new(context.clone()))
                    .max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(BrowseServer::new(browse::BrowseService::new(context.clone())))
            .add_service(SessionServer::new(session::SessionService::new(context.clone())))
            .add_service(LimitsServer::new(limits::LimitsService::new(context.clone())))
            .add_service(WatchtowerClientServer::new(towers::TowersService::new(context.clone())))
            .add_service(
                TowersServer::new(towers::TowersService::new(context.clone())).max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(SwapServer::new(swap::SwapService::new(context.clone())))
            .add_service(
                SwapChainServer::new(swap::SwapService::new(context.clone())).max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(CrossingServer::new(crossing::CrossingService::new(context.clone())))
            .add_service(CrossingNodeServer::new(crossing::CrossingService::new(context.clone())))
            .add_service(WalletServer::new(recovery::WalletService::new(context.clone())))
            .add_service(
                ChainServer::new(chain::ChainService::new(context))
                    .max_decoding_message_size(MAX_LARGE_REQUEST)
                    .max_encoding_message_size(MAX_MESSAGE),
            );
        Ok(routes.routes())
    }

    /// Whether a call may be made, before anything of its request is read, and what that may take. The connection of one that may
    /// is known then.
    pub(crate) fn admit(&self, path: &str, headers: &HeaderMap, caller: &Caller) -> Result<HeldRequest, Status> {
        let admitted = self.authorizer.judge(path, headers, Some(caller.address().ip()))?;
        auth::welcome(Some(caller), &admitted)?;
        // The request that is made of this JSON is counted when the call is made.
        Ok(self.room.begin(auth::limit(path, &admitted).as_json(MAX_REST_BODY)))
    }

    /// The services as a gRPC client of this process reaches them: with macaroons as from outside.
    pub(crate) fn in_process(&self) -> auth::AuthService<Routes> {
        auth::AuthLayer::new(self.authorizer.clone(), self.room.clone()).layer(self.routes.clone())
    }
}

/// Serves every service until `stopping` is cancelled and the calls in progress have ended.
pub(crate) async fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let ServeOptions { services, tls, listener, slots, stopping } = options;
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .max_concurrent_streams(MAX_CALLS_PER_CONNECTION);
    if let Some(identity) = &tls {
        server = with_tls(server, identity)?;
    }
    let router = server.layer(auth::AuthLayer::new(services.authorizer, services.room)).add_routes(services.routes);

    let incoming = CallerListener::new(listener, slots, None).into_stream();
    let stop = stopping.clone();
    let serving = router.serve_with_incoming_shutdown(incoming, async move { stop.cancelled().await });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended.map_err(ServeError::Transport),
        () = stopping.cancelled() => {}
    }
    // A client that keeps a call open cannot keep the daemon alive.
    match timeout(DRAIN, serving).await {
        Ok(ended) => ended.map_err(ServeError::Transport),
        Err(_) => Ok(()),
    }
}

/// Puts an answer together that can be long, on a thread that may take its time: no other call waits behind it.
async fn assemble<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(make).await.map_err(|error| ApiError::internal(error.to_string()))
}

/// Does what must not be left half done, or begun again for nothing, when its caller hangs up.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.map_err(|error| ApiError::internal(error.to_string()))?
}

/// What every service holds.
#[derive(Clone)]
struct Context {
    daemon: Arc<dyn Daemon>,
    stopping: CancellationToken,
}

impl Context {
    /// The open wallet and its node, or what to do to get there.
    fn lightning(&self) -> Result<Arc<dyn Lightning>, ApiError> {
        self.daemon.lightning().ok_or_else(|| match self.daemon.state() {
            _ if self.daemon.is_tower_only() => ApiError::precondition(
                "this leydend is a watchtower alone (--tower-only): it has no wallet and no channels",
            ),
            WalletState::NonExisting => {
                ApiError::precondition("wallet not created, create one to enable full RPC access: `leyden create` does")
            }
            WalletState::Locked => {
                ApiError::precondition("wallet locked, unlock it to enable full RPC access: `leyden unlock` does")
            }
            WalletState::Unlocked | WalletState::RpcActive | WalletState::ServerActive => {
                ApiError::unavailable("the node is starting: try again in a moment")
            }
        })
    }

    /// As of LND, tokens are not made or looked at before the wallet is open, unless there is none here.
    fn refuse_while_locked(&self) -> Result<(), ApiError> {
        if self.daemon.is_tower_only() { Ok(()) } else { self.lightning().map(drop) }
    }

    fn watchtower(&self) -> Result<Arc<dyn Watchtower>, ApiError> {
        self.daemon.watchtower().ok_or_else(|| {
            ApiError::precondition("watchtower not active: start leydend with --tower, or with --tower-only")
        })
    }

    fn chain(&self) -> Result<Arc<dyn Chain>, ApiError> {
        self.daemon.chain().ok_or_else(|| ApiError::unavailable("the chain is starting: try again in a moment"))
    }
}
