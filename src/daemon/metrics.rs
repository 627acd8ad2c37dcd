//! The metrics of this daemon, from its settings to its page.

use std::{io, net::SocketAddr, sync::Arc, time::SystemTime};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::run::RunError;
use crate::{
    admission::ConnectionSlots,
    api::Daemon,
    config::Config,
    counters::Counters,
    host::HostNames,
    metrics::{Recorded, install, serve},
};

/// Where metrics are asked for, and what is recorded for them.
pub(super) struct MetricsListener {
    pub address: SocketAddr,
    listener: TcpListener,
    recorded: Recorded,
}

impl MetricsListener {
    /// If the settings ask for it. Before anything happens that is counted.
    pub(super) async fn open(config: &Config) -> Result<Option<Self>, RunError> {
        let Some(address) = config.metrics else { return Ok(None) };
        let (listener, address) = bind(address).await.map_err(|source| RunError::MetricsListen { address, source })?;
        let recorded = install()?;
        if !config.tower.as_ref().is_some_and(|tower| tower.alone) {
            Counters::default().begin_lightning();
        }
        if config.tower.is_some() {
            Counters::default().begin_tower();
        }
        if let Some(second) = &config.also {
            Counters::of_second(&second.params.name).begin_lightning();
        }
        info!(%address, "metrics are served");
        if !address.ip().is_loopback() {
            warn!(
                %address,
                "the metrics are open to other machines, without a password and not encrypted: whoever reaches this address \
                 can read this node's balances"
            );
        }
        Ok(Some(Self { address, listener, recorded }))
    }

    /// Answers until the daemon stops. `daemons`: of each network. `started`: when the process was.
    pub(super) async fn serve(
        self,
        daemons: Vec<Arc<dyn Daemon>>,
        started: SystemTime,
        (slots, names): (ConnectionSlots, HostNames),
        stopping: CancellationToken,
    ) {
        let Self { address: _, listener, recorded } = self;
        let served = serve(daemons, recorded, started, listener, (slots, names), stopping.cancelled_owned()).await;
        if let Err(error) = served {
            error!(%error, "metrics are not served any more");
        }
    }
}

async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
