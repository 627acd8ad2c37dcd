//! Where clients on this machine find the daemon: a file in the data directory, written again as more of it runs.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use leyden_common::files::write_new;
use leyden_node::Node;

use crate::config::{AlsoRunning, Config, Running};

/// Clones are the same.
#[derive(Clone)]
pub(super) struct Announcement {
    path: PathBuf,
    running: Arc<Mutex<Running>>,
}

impl Announcement {
    /// Of a daemon whose wallet is not open. `also` is the second network, if there is one.
    pub(super) fn new(config: &Config, node: &Node, tower: Option<SocketAddr>, also: Option<&(Config, Node)>) -> Self {
        let also = also.map(|(config, node)| AlsoRunning {
            network: config.params.name.clone(),
            listen: None,
            chain_listen: node.local_address(),
        });
        let running = Running {
            pid: std::process::id(),
            network: config.params.name.clone(),
            rpc: config.rpc_listen,
            listen: None,
            chain_listen: node.local_address(),
            bitcoin_rpc: config.bitcoin_rpc,
            rest: config.rest.as_ref().map(|rest| rest.listen),
            tower,
            metrics: config.metrics,
            also,
        };
        Self { path: config.layout.running(), running: Arc::new(Mutex::new(running)) }
    }

    /// Writes it as it is now.
    pub(super) fn write(&self) -> io::Result<()> {
        self.change(|_| ())
    }

    /// Lightning peers of a network connect here.
    pub(super) fn listens(&self, network: &str, listen: SocketAddr) -> io::Result<()> {
        self.change(|running| match &mut running.also {
            Some(also) if also.network == network => also.listen = Some(listen),
            Some(_) | None => running.listen = Some(listen),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Running)) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        write_new(&self.path, &serde_json::to_vec_pretty(&*running).map_err(io::Error::other)?)
    }
}
