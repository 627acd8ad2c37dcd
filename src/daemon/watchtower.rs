//! The watchtower of this daemon, from its settings to its calls.

use std::net::SocketAddr;

use async_trait::async_trait;
use leyden_node::Node;
use leyden_watchtower::session::{Admission, Limits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::run::RunError;
use crate::{
    api::{ApiError, Watchtower, WatchtowerInfo, WatchtowerStats},
    config::{Config, TowerConfig},
    limits::{Descriptors, LimitUse},
    store::TowerStore,
    tower::{self, Setup, TowerServer},
};

pub(super) struct WatchtowerFacade {
    server: TowerServer,
    /// Where the network is told to reach this machine.
    announce: Vec<SocketAddr>,
    max_strangers: usize,
}

impl WatchtowerFacade {
    /// Starts the watchtower that the settings ask for, if they do.
    pub(super) async fn start(
        config: &Config,
        node: &Node,
        descriptors: Descriptors,
        fatal: mpsc::UnboundedSender<String>,
        stopping: CancellationToken,
    ) -> Result<Option<Self>, RunError> {
        let Some(TowerConfig { listen, alone, allowed, strangers }) = config.tower.clone() else { return Ok(None) };
        if alone && config.chain_connect.is_empty() {
            warn!(
                "this tower sees no blocks: it answers no breach, whatever it stores. Start it with --chain-connect HOST:PORT of \
                 a node of the chain (or let such nodes connect to --chain-listen)"
            );
        }
        let path = config.layout.tower_key();
        let key = tower::key::open(&path).map_err(|source| RunError::Io { path, source })?;
        let store = TowerStore::open(&config.layout.tower_database(), descriptors.tower_files())
            .map_err(|error| RunError::Tower(error.into()))?;
        let usual = Limits::default();
        let max_strangers = strangers.map_or(usual.clients, |count| usize::try_from(count).unwrap_or(usize::MAX));
        let limits = Limits { clients: max_strangers, ..usual };
        // No more than there is room for on the disk.
        let max_strangers = limits.places();
        let server = TowerServer::start(Setup {
            key,
            node: node.clone(),
            store,
            listen,
            admission: Admission { open: max_strangers > 0, listed: allowed },
            limits,
            connections: descriptors.tower(),
            fatal,
            stopping,
        })
        .await?;
        Ok(Some(Self { server, announce: config.announce.clone(), max_strangers }))
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.server.listen
    }

    pub(super) fn limits(&self) -> impl Iterator<Item = LimitUse> + use<> {
        self.server.limits()
    }
}

#[async_trait]
impl Watchtower for WatchtowerFacade {
    fn info(&self) -> WatchtowerInfo {
        let listen = self.server.listen;
        let addresses = if listen.ip().is_unspecified() {
            self.announce.iter().map(|address| SocketAddr::new(address.ip(), listen.port())).collect()
        } else {
            vec![listen]
        };
        WatchtowerInfo {
            key: self.server.key,
            listen,
            addresses,
            allowed: self.server.admission.listed.len(),
            strangers: u64::try_from(self.max_strangers).unwrap_or(u64::MAX),
        }
    }

    async fn stats(&self) -> Result<WatchtowerStats, ApiError> {
        let report = self.server.report().await.ok_or_else(|| ApiError::unavailable("the daemon is stopping"))?;
        let tower::TowerReport { tip, stats, connected, penalties, broken } = report;
        Ok(WatchtowerStats { tip, stats, connected, penalties, broken })
    }
}
