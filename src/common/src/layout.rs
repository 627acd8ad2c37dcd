//! Where everything lies in the data directory. The layout is LND's, so that clients written for it find the certificate
//! and the macaroons.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where `leydend` serves gRPC if nothing else is said, as host:port.
pub const DEFAULT_RPC: &str = "127.0.0.1:10009";

/// The system does not say where the user's home is.
#[derive(Debug, thiserror::Error)]
#[error("no home directory is known: say where the data shall lie with --data-dir")]
pub struct NoHome;

/// `~/.leyden`.
pub fn default_data_dir() -> Result<PathBuf, NoHome> {
    std::env::home_dir().map(|home| home.join(".leyden")).ok_or(NoHome)
}

/// Where things lie. Daemon and client share it, so that the client finds the daemon by the data directory alone.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    network: String,
}

impl Layout {
    /// The places of one network in a data directory. Nothing is read or made.
    pub fn new(root: PathBuf, network: &str) -> Self {
        Self { root, network: network.to_owned() }
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn network_dir(&self) -> PathBuf {
        self.root.join("data").join("chain").join("bitcoin").join(&self.network)
    }

    /// The certificate that clients trust; PEM.
    pub fn tls_certificate(&self) -> PathBuf {
        self.root.join("tls.cert")
    }

    /// The certificate's private key, for the daemon alone; PEM.
    pub fn tls_key(&self) -> PathBuf {
        self.root.join("tls.key")
    }

    /// `name` is `admin`, `readonly` or `invoice`.
    pub fn macaroon(&self, name: &str) -> PathBuf {
        self.network_dir().join(format!("{name}.macaroon"))
    }

    /// The root keys of all macaroons, for the daemon alone.
    pub fn macaroon_root_key(&self) -> PathBuf {
        self.network_dir().join("macaroons.key")
    }

    /// The wallet's seed, encrypted with its password.
    pub fn wallet_seed(&self) -> PathBuf {
        self.network_dir().join("wallet.seed")
    }

    /// What callers of Bitcoin Core's JSON-RPC show; made anew at each start.
    pub fn bitcoin_rpc_cookie(&self) -> PathBuf {
        self.network_dir().join(".cookie")
    }

    /// RocksDB of the chain.
    pub fn chain_database(&self) -> PathBuf {
        self.network_dir().join("chainstate")
    }

    /// RocksDB of wallet, channels, invoices and payments.
    pub fn node_database(&self) -> PathBuf {
        self.network_dir().join("node")
    }

    /// RocksDB of the watchtower.
    pub fn tower_database(&self) -> PathBuf {
        self.network_dir().join("tower")
    }

    /// The watchtower's own key.
    pub fn tower_key(&self) -> PathBuf {
        self.network_dir().join("tower.key")
    }

    /// What brings the channels' money home, with the seed, if this disk is lost.
    pub fn channel_backup(&self) -> PathBuf {
        self.network_dir().join("channel.backup")
    }

    /// What the daemon makes, or reads secrets from, in the data directory.
    pub fn own_paths(&self) -> Vec<PathBuf> {
        vec![
            self.root.join("data"),
            self.root.join("leyden.toml"),
            self.lock(),
            self.running(),
            self.tls_certificate(),
            self.tls_key(),
        ]
    }

    /// Held by the running daemon.
    pub fn lock(&self) -> PathBuf {
        self.root.join("leydend.lock")
    }

    /// Where the running daemon says on which addresses it listens.
    pub fn running(&self) -> PathBuf {
        self.root.join("leydend.json")
    }
}

/// The content of [`Layout::running`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// The daemon's process id.
    pub pid: u32,
    /// The network's name, which is also that of its folder.
    pub network: String,
    /// Where gRPC is served.
    pub rpc: SocketAddr,
    /// Where Lightning peers connect; `None` while the wallet is locked.
    pub listen: Option<SocketAddr>,
    /// Where nodes of the chain connect.
    pub chain_listen: Option<SocketAddr>,
    /// Bitcoin Core's JSON-RPC.
    #[serde(default)]
    pub bitcoin_rpc: Option<SocketAddr>,
    /// LND's REST.
    #[serde(default)]
    pub rest: Option<SocketAddr>,
    /// Clients of the watchtower.
    #[serde(default)]
    pub tower: Option<SocketAddr>,
    /// Metrics for Prometheus.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// The second network of the process.
    #[serde(default)]
    pub also: Option<AlsoRunning>,
}

/// A second network of a running daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlsoRunning {
    /// Its name, which is also that of its folder.
    pub network: String,
    /// Where its Lightning peers connect; `None` while the wallet is locked.
    pub listen: Option<SocketAddr>,
    /// Where nodes of its chain connect.
    pub chain_listen: Option<SocketAddr>,
}
