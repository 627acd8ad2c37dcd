//! A daemon whose wallet nobody has made yet: that is the page's first task.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use leyden_client::{
    client::{Access, Client},
    cluster::leydend_program,
    demo::NOBODY,
};
use leyden_common::layout::{Layout, Running};
use leyden_proto::leyden::GenerateRequest;
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct FreshNode {
    folder: PathBuf,
    process: Option<Child>,
    ports: Option<Running>,
}

impl FreshNode {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.join("fresh"), process: None, ports: None }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.folder
    }

    /// It comes back where it was.
    pub(crate) async fn start(&mut self) {
        fs::create_dir_all(&self.folder).unwrap();
        let file = Layout::new(self.folder.clone(), "regtest").running();
        let _ = fs::remove_file(&file);
        let log = File::options().create(true).append(true).open(self.folder.join("leydend.log")).unwrap();
        let port = |of: fn(&Running) -> Option<SocketAddr>| {
            let known = self.ports.as_ref().and_then(of);
            known.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))).to_string()
        };
        let process = Command::new(leydend_program().unwrap())
            .arg("--data-dir")
            .arg(&self.folder)
            .args(["--alias", "Alice <3", "--rpc-listen", "127.0.0.1:0"])
            .args(["--listen", &port(|ports| ports.listen), "--chain-listen", &port(|ports| ports.chain_listen)])
            .args(["--rest-listen", &port(|ports| ports.rest)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let begun = Instant::now();
        loop {
            let running = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Running>(&bytes).ok());
            if let Some(mut running) = running.filter(|running| running.rest.is_some()) {
                // Where Lightning peers connect is known once the wallet is open.
                let listen = self.ports.as_ref().and_then(|ports| ports.listen);
                running.listen = running.listen.or(listen);
                self.ports = Some(running);
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the daemon did not start");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection for the test itself.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&Access::from_data_dir(&self.folder).unwrap()).await.unwrap()
    }

    /// Mines for nobody what its mempool has.
    pub(crate) async fn mine(&self, blocks: u32) {
        let request = GenerateRequest { blocks, address: NOBODY.to_owned() };
        let mut found = self.client().await.chain().generate(request).await.unwrap().into_inner();
        while found.message().await.unwrap().is_some() {}
    }

    /// Where the page is.
    pub(crate) fn address(&self) -> String {
        format!("https://{}/", self.ports.as_ref().and_then(|ports| ports.rest).expect("REST is served"))
    }

    pub(crate) fn chain_address(&self) -> String {
        self.ports.as_ref().and_then(|ports| ports.chain_listen).expect("a port of the chain").to_string()
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
    }
}

impl Drop for FreshNode {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
