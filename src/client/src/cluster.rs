//! Real daemons, each a process with a folder and addresses of its own: what the demo, the benchmarks and the
//! whole-system tests run.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use leyden_common::layout::{AlsoRunning, Layout, Running};
use leyden_proto::{
    leyden::GenerateRequest,
    lnrpc::{ConnectPeerRequest, GetInfoRequest, GetStateRequest, LightningAddress, NewAddressRequest, WalletState},
};
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use crate::client::{Access, Client, ClientError};

/// For how long anything is waited for: many times longer than it takes on a machine that does nothing else, so that what
/// was waited for in vain never comes. Whoever waits looks again and again, and goes on as soon as it is there.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How often is looked whether a daemon that was started serves: a start is measured to this.
const LOOK: Duration = Duration::from_millis(5);

/// How long to wait before looking again.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Why a daemon of a cluster did not start or answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ClusterError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the program {0} is missing: build it with `cargo build --workspace --bins`")]
    NoProgram(PathBuf),
    #[error("{name} ended at its start ({how}). Its log:\n{log}")]
    Ended { name: String, how: String, log: String },
    #[error("{name} was not ready within {} seconds. Its log:\n{log}", PATIENCE.as_secs())]
    NotReady { name: String, log: String },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{name} answered: {}", .status.message())]
    Call { name: String, status: Box<tonic::Status> },
    #[error("waited in vain for {what}")]
    Waited { what: String },
}

/// One daemon: its folder, its process while it runs, and a connection to it.
pub struct DaemonProcess {
    name: String,
    data_dir: PathBuf,
    program: PathBuf,
    flags: Vec<String>,
    serves_bitcoin_rpc: bool,
    /// Where it listens for others.
    ip: Ipv4Addr,
    process: Option<Child>,
    client: Option<Client>,
    /// Where it listened first: it comes back there, so that peers find it again.
    ports: Option<Running>,
    /// Leaves the process running when this is dropped.
    keep: bool,
}

impl DaemonProcess {
    /// A daemon that keeps its data in `folder/name`. `flags` are passed on to `leydend`.
    pub fn new(folder: &Path, name: &str, flags: &[&str]) -> Result<Self, ClusterError> {
        Ok(Self {
            name: name.to_owned(),
            data_dir: folder.join(name),
            program: leydend_program()?,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            serves_bitcoin_rpc: false,
            ip: own_ip(),
            process: None,
            client: None,
            ports: None,
            keep: false,
        })
    }

    /// What it is called in messages, and its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Serves Bitcoin Core's JSON-RPC too, on a free port.
    pub fn with_bitcoin_rpc(mut self) -> Self {
        self.serves_bitcoin_rpc = true;
        self
    }

    /// The next start is on other ports: nobody who knew the old ones finds it.
    pub fn forget_addresses(&mut self) {
        self.ports = None;
    }

    /// What it is started with next time, in place of the flags before.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Copies all that it has on the disk, for [`Self::put_back`]. It must not run.
    pub fn copy_disk(&self, to: &Path) -> Result<(), ClusterError> {
        copy_folder(&self.data_dir, to)
    }

    /// Puts a copy in place of all that it has on the disk. It must not run.
    pub fn put_back(&self, copy: &Path) -> Result<(), ClusterError> {
        fs::remove_dir_all(&self.data_dir).map_err(at(&self.data_dir))?;
        copy_folder(copy, &self.data_dir)
    }

    /// Leaves the process running when this value is dropped.
    pub fn keep_running(&mut self) {
        self.keep = true;
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.join("leydend.log")
    }

    /// All that it has written to its log; empty before its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts it and waits until its wallet is open.
    pub async fn start(&mut self) -> Result<(), ClusterError> {
        fs::create_dir_all(&self.data_dir).map_err(at(&self.data_dir))?;
        let layout = Layout::new(self.data_dir.clone(), "regtest");
        let _ = fs::remove_file(layout.running());
        self.process = Some(self.spawn()?);

        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten()) {
                return Err(ClusterError::Ended { name: self.name.clone(), how: status.to_string(), log: self.log() });
            }
            if let Some((client, running)) = self.try_connect(&layout).await {
                self.client = Some(client);
                self.ports = Some(running);
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(ClusterError::NotReady { name: self.name.clone(), log: self.log() });
            }
            sleep(LOOK).await;
        }
    }

    fn arguments(&self) -> Vec<String> {
        let address = |of: fn(&Running) -> Option<SocketAddr>| {
            let known = self.ports.as_ref().and_then(of);
            known.unwrap_or_else(|| SocketAddr::from((self.ip, 0))).to_string()
        };
        let mut arguments: Vec<String> = [
            ("--data-dir", self.data_dir.display().to_string()),
            ("--alias", self.name.clone()),
            ("--listen", address(|ports| ports.listen)),
            ("--rpc-listen", "127.0.0.1:0".to_owned()),
            ("--rest-listen", "127.0.0.1:0".to_owned()),
            ("--chain-listen", address(|ports| ports.chain_listen)),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        arguments.push("--no-wallet-password".to_owned());
        if self.serves_bitcoin_rpc {
            arguments.extend(["--bitcoin-rpc".to_owned(), address(|ports| ports.bitcoin_rpc)]);
        }
        if self.flags.iter().any(|flag| flag == "--also") {
            let also = |of: fn(&AlsoRunning) -> Option<SocketAddr>| {
                let known = self.ports.as_ref().and_then(|ports| ports.also.as_ref()).and_then(of);
                known.unwrap_or_else(|| SocketAddr::from((self.ip, 0))).to_string()
            };
            arguments.extend(["--also-listen".to_owned(), also(|ports| ports.listen)]);
            arguments.extend(["--also-chain-listen".to_owned(), also(|ports| ports.chain_listen)]);
        }
        arguments.extend_from_slice(&self.flags);
        arguments
    }

    /// The second network of this daemon (`--also`) while it runs, under a name of its own. It has no process: what is started
    /// and stopped is the daemon.
    pub fn on_second(&self, name: &str) -> Result<Self, ClusterError> {
        let ports = self.ports()?;
        let no_second = || ClusterError::Waited { what: format!("a second network of {}", self.name) };
        let also = ports.also.clone().ok_or_else(no_second)?;
        let client = self.client()?.clone().on_network(&also.network)?;
        let ports = Running { listen: also.listen, chain_listen: also.chain_listen, ..ports.clone() };
        Ok(Self {
            name: name.to_owned(),
            data_dir: self.data_dir.clone(),
            program: self.program.clone(),
            flags: Vec::new(),
            serves_bitcoin_rpc: false,
            ip: self.ip,
            process: None,
            client: Some(client),
            ports: Some(ports),
            keep: true,
        })
    }

    fn spawn(&self) -> Result<Child, ClusterError> {
        let log = File::options().create(true).append(true).open(self.log_path()).map_err(at(&self.log_path()))?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().map_err(at(&self.program))
    }

    /// A connection, once the wallet is open and has seen the whole chain.
    async fn try_connect(&self, layout: &Layout) -> Option<(Client, Running)> {
        let running: Running = serde_json::from_slice(&fs::read(layout.running()).ok()?).ok()?;
        running.listen?;
        let client = Client::connect(&Access::from_data_dir(&self.data_dir).ok()?).await.ok()?;
        let mut networks = vec![client.clone()];
        if let Some(also) = &running.also {
            also.listen?;
            networks.push(client.clone().on_network(&also.network).ok()?);
        }
        for network in networks {
            let state = network.state().get_state(GetStateRequest {}).await.ok()?.into_inner().state();
            if state != WalletState::ServerActive {
                return None;
            }
        }
        Some((client, running))
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The most memory that it held since its start, in bytes; 0 where the system does not tell.
    pub fn peak_memory(&self) -> u64 {
        let kilobytes = || -> Option<u64> {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        kilobytes().unwrap_or_default().saturating_mul(1024)
    }

    /// SIGKILL: it gets no chance to tidy up.
    pub fn kill(&mut self) {
        self.client = None;
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGTERM, and the exit status.
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        self.client = None;
        let mut process = self.process.take()?;
        let _ = Command::new("kill").arg(process.id().to_string()).status();
        process.wait().ok()
    }

    /// The connection of the running daemon.
    pub fn client(&self) -> Result<&Client, ClusterError> {
        self.client.as_ref().ok_or_else(|| ClusterError::Waited { what: format!("{}, which does not run", self.name) })
    }

    fn ports(&self) -> Result<&Running, ClusterError> {
        self.ports.as_ref().ok_or_else(|| ClusterError::Waited { what: format!("{}, which never ran", self.name) })
    }

    /// host:port for Lightning peers.
    pub fn lightning_address(&self) -> Result<String, ClusterError> {
        Ok(self.ports()?.listen.map(|address| address.to_string()).unwrap_or_default())
    }

    /// host:port for nodes of the chain.
    pub fn chain_address(&self) -> Result<String, ClusterError> {
        Ok(self.ports()?.chain_listen.map(|address| address.to_string()).unwrap_or_default())
    }

    /// Where Bitcoin Core's JSON-RPC is served, if it is.
    pub fn bitcoin_rpc_address(&self) -> Result<Option<SocketAddr>, ClusterError> {
        Ok(self.ports()?.bitcoin_rpc)
    }

    /// Where REST and the page are served, if they are.
    pub fn rest_address(&self) -> Result<Option<SocketAddr>, ClusterError> {
        Ok(self.ports()?.rest)
    }

    /// Where metrics are served, if they are.
    pub fn metrics_address(&self) -> Result<Option<SocketAddr>, ClusterError> {
        Ok(self.ports()?.metrics)
    }

    /// Names the daemon in an error of one of its calls.
    pub fn call_error(&self, status: tonic::Status) -> ClusterError {
        ClusterError::Call { name: self.name.clone(), status: Box::new(status) }
    }

    /// Its node key in hex.
    pub async fn node_id(&self) -> Result<String, ClusterError> {
        let info = self.client()?.lightning().get_info(GetInfoRequest {}).await;
        Ok(info.map_err(|status| self.call_error(status))?.into_inner().identity_pubkey)
    }

    /// The height of its chain's tip.
    pub async fn height(&self) -> Result<u32, ClusterError> {
        let info = self.client()?.lightning().get_info(GetInfoRequest {}).await;
        Ok(info.map_err(|status| self.call_error(status))?.into_inner().block_height)
    }

    /// A fresh on-chain address of its wallet.
    pub async fn new_address(&self) -> Result<String, ClusterError> {
        let address = self.client()?.lightning().new_address(NewAddressRequest::default()).await;
        Ok(address.map_err(|status| self.call_error(status))?.into_inner().address)
    }

    /// Mines so many blocks with real proof of work, to `address` or to the daemon's own wallet.
    pub async fn mine(&self, blocks: u32, address: Option<&str>) -> Result<(), ClusterError> {
        let request = GenerateRequest { blocks, address: address.unwrap_or_default().to_owned() };
        let mut found =
            self.client()?.chain().generate(request).await.map_err(|status| self.call_error(status))?.into_inner();
        while let Some(block) = found.next().await {
            block.map_err(|status| self.call_error(status))?;
        }
        Ok(())
    }

    /// Connects to another daemon as Lightning peer.
    pub async fn connect(&self, other: &Self) -> Result<(), ClusterError> {
        let address = LightningAddress { pubkey: other.node_id().await?, host: other.lightning_address()? };
        let request = ConnectPeerRequest { addr: Some(address), ..ConnectPeerRequest::default() };
        match self.client()?.lightning().connect_peer(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
            Err(status) => Err(self.call_error(status)),
        }
    }

    /// Waits until the wallet has seen a block of this height.
    pub async fn wait_for_height(&self, height: u32) -> Result<(), ClusterError> {
        wait_until(&format!("{} to reach height {height}", self.name), || async {
            let info = self.client()?.lightning().get_info(GetInfoRequest {}).await;
            let info = info.map_err(|status| self.call_error(status))?.into_inner();
            Ok(info.block_height >= height && info.synced_to_chain)
        })
        .await
    }
}

/// An address of this machine that nobody else has, where the system allows that. On 127.0.0.1 a port that a stopped
/// daemon wants back may be taken by a connection of another.
pub fn own_ip() -> Ipv4Addr {
    let [_, a, b, c] = rand::random::<[u8; 4]>();
    let ip = Ipv4Addr::new(127, a | 1, b, c.clamp(1, 254));
    if TcpListener::bind((ip, 0)).is_ok() { ip } else { Ipv4Addr::LOCALHOST }
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), ClusterError> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Io { path, source }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        if !self.keep {
            self.kill();
        }
    }
}

/// Asks again and again until it holds, as long as there is [`PATIENCE`].
pub async fn wait_until<F, Fut>(what: &str, mut holds: F) -> Result<(), ClusterError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool, ClusterError>>,
{
    wait_for(what, || {
        let holds = holds();
        async move { Ok(holds.await?.then_some(())) }
    })
    .await
}

/// Looks again and again until something is there, as long as there is [`PATIENCE`].
pub async fn wait_for<T, F, Fut>(what: &str, mut look: F) -> Result<T, ClusterError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>, ClusterError>>,
{
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        sleep(LOOK_INTERVAL).await;
    }
    Err(ClusterError::Waited { what: what.to_owned() })
}

/// `leydend` beside the program that runs; a test runs one folder further down.
pub fn leydend_program() -> Result<PathBuf, ClusterError> {
    let current = std::env::current_exe()
        .map_err(|source| ClusterError::Io { path: PathBuf::from("the running program"), source })?;
    let name = format!("leydend{}", std::env::consts::EXE_SUFFIX);
    let mut candidates = current.ancestors().skip(1).take(2).map(|folder| folder.join(&name));
    candidates.find(|path| path.is_file()).ok_or(ClusterError::NoProgram(PathBuf::from(name)))
}
