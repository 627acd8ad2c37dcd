//! LND's REST of this daemon, from its settings to its answers.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::run::RunError;
use crate::{
    admission::ConnectionSlots,
    config::Config,
    host::HostNames,
    rest::{ServeOptions, serve},
    rpc::{ServeError, Services},
    tls,
};

/// Where REST is asked for.
pub(super) struct RestListener {
    pub address: SocketAddr,
    listener: TcpListener,
    allowed_origins: Vec<String>,
    names: Vec<String>,
    has_page: bool,
}

/// The same, with its certificate.
pub(super) struct SecureRest {
    rest: RestListener,
    names: HostNames,
    tls: TlsAcceptor,
}

impl RestListener {
    /// Unless the settings turn it off, or the address is taken that nobody has named: a second node on this machine, or
    /// another program, must not keep this one from starting.
    pub(super) async fn open(config: &Config) -> Result<Option<Self>, RunError> {
        let Some(rest) = &config.rest else { return Ok(None) };
        let address = rest.listen;
        match bind(address).await {
            Ok((listener, address)) => {
                info!(%address, page = rest.has_page, "REST is served");
                let (allowed_origins, has_page) = (rest.allowed_origins.clone(), rest.has_page);
                Ok(Some(Self { address, listener, allowed_origins, names: config.tls_extra.clone(), has_page }))
            }
            Err(error) if rest.is_named => Err(RunError::RestListen { address, source: error }),
            Err(error) => {
                warn!(%address, %error, "REST is not served: choose a free address with --rest-listen, or say --no-rest");
                Ok(None)
            }
        }
    }

    pub(super) fn with_tls(self, identity: &tls::Identity) -> Result<SecureRest, RunError> {
        let tls = tls::http_acceptor(identity).map_err(|error| ServeError::Tls(error.to_string()))?;
        let names = HostNames::new(&self.names).and_of(&identity.certificate);
        Ok(SecureRest { rest: self, names, tls })
    }
}

impl SecureRest {
    /// Answers until the daemon stops.
    pub(super) async fn serve(self, services: Services, slots: ConnectionSlots, stopping: CancellationToken) {
        let Self { rest: RestListener { address: _, listener, allowed_origins, names: _, has_page }, names, tls } =
            self;
        serve(ServeOptions { services, tls: Some(tls), listener, slots, allowed_origins, names, has_page, stopping })
            .await;
    }
}

async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
