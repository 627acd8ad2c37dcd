//! What the whole-system tests share: real daemons in a temporary folder, on free ports.
//!
//! Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

pub mod bitcoind;
pub mod line;
pub mod network;
pub mod raw;
pub mod scrape;
pub mod stranger;
pub mod tower;

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use bitcoin::{Address, Network, OutPoint, Transaction, TxOut, consensus};
use leyden_client::{
    client::{Access, Client},
    cluster::{DaemonProcess, PATIENCE, wait_until},
    demo::NOBODY,
};
use leyden_common::{
    layout::{Layout, Running},
    names::ADVICE,
};
use leyden_proto::{
    leyden::{GetMempoolRequest, GetTipRequest, GetTransactionRequest, GetUtxoSetHashRequest, GetUtxoSetHashResponse},
    lnrpc::{Channel, OpenChannelRequest, SendCoinsRequest},
};
use tempfile::TempDir;

/// Blocks after which what was mined can be spent, and a channel's funding or closing is final.
pub const MATURE: u32 = 100;
pub const DEEP: u32 = 6;

/// What `--prune 100` does to a chain of many megabytes, for one of some hundred kilobytes.
pub const PRUNE: [&str; 3] = ["--prune", "100", "--regtest-prune-bytes=10000"];

/// A temporary folder that stays, with the daemons' logs, when a test fails.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("leyden-test-").tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            eprintln!("what the daemons wrote is left in {}", self.path().display());
        }
    }
}

/// Two daemons on one chain. Alice has one spendable block reward.
pub struct Pair {
    pub alice: DaemonProcess,
    pub bob: DaemonProcess,
    pub folder: Folder,
}

impl Pair {
    pub async fn funded() -> Self {
        let folder = Folder::new();
        let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
        alice.start().await.unwrap();
        let mut bob = DaemonProcess::new(folder.path(), "bob", &["--chain-connect", &chain(&alice)]).unwrap();
        bob.start().await.unwrap();
        let pair = Self { alice, bob, folder };
        pair.alice.mine(1, None).await.unwrap();
        pair.mine(MATURE).await;
        pair
    }

    /// With a usable channel, opened by Alice.
    pub async fn with_channel(capacity: i64, push: i64) -> Self {
        let pair = Self::funded().await;
        pair.alice.connect(&pair.bob).await.unwrap();
        pair.alice.open_channel(&pair.bob, capacity, push).await.unwrap();
        pair.mine(DEEP).await;
        pair.wait_for_channels(1).await;
        pair
    }

    /// Once both have the same transactions, mines for nobody, and waits until both have seen it.
    pub async fn mine(&self, blocks: u32) {
        wait_until("both mempools to be the same", || async {
            Ok(mempool(&self.alice).await == mempool(&self.bob).await)
        })
        .await
        .unwrap();
        self.alice.mine(blocks, Some(NOBODY)).await.unwrap();
        let height = height(&self.alice).await;
        self.alice.wait_for_height(height).await.unwrap();
        self.bob.wait_for_height(height).await.unwrap();
    }

    pub async fn wait_for_channels(&self, count: usize) {
        self.alice.wait_for_active_channels(count).await.unwrap();
        self.bob.wait_for_active_channels(count).await.unwrap();
    }

    /// The one channel as both see it, once nothing is under way in it.
    pub async fn settled_channel(&self) -> (Channel, Channel) {
        wait_until("both sides to finish their updates", || async {
            let (a, b) = (self.alice.channels().await?, self.bob.channels().await?);
            let ([a], [b]) = (a.as_slice(), b.as_slice()) else { return Ok(false) };
            Ok(a.active
                && b.active
                && a.pending_htlcs.is_empty()
                && b.pending_htlcs.is_empty()
                && a.local_balance == b.remote_balance
                && a.remote_balance == b.local_balance)
        })
        .await
        .unwrap();
        (self.alice.only_channel().await.unwrap(), self.bob.only_channel().await.unwrap())
    }
}

/// What the opener has set aside for the commitment transaction.
pub fn held(channel: &Channel) -> i64 {
    channel.capacity - channel.local_balance - channel.remote_balance - channel.unsettled_balance
}

/// host:port for nodes of the chain.
pub fn chain(node: &DaemonProcess) -> String {
    node.chain_address().unwrap()
}

/// The height of the chain, whatever the wallet has seen.
pub async fn height(node: &DaemonProcess) -> u32 {
    tip(node).await.1
}

pub async fn tip(node: &DaemonProcess) -> (String, u32) {
    let tip = node.client().unwrap().chain().get_tip(GetTipRequest {}).await.unwrap().into_inner();
    (tip.block_hash, tip.height)
}

pub async fn utxo_set_hash(node: &DaemonProcess) -> GetUtxoSetHashResponse {
    node.client().unwrap().chain().get_utxo_set_hash(GetUtxoSetHashRequest {}).await.unwrap().into_inner()
}

/// What waits for a block.
pub async fn mempool(node: &DaemonProcess) -> Vec<String> {
    let request = GetMempoolRequest { include_transactions: true, ..Default::default() };
    let mempool = node.client().unwrap().chain().get_mempool(request).await.unwrap().into_inner();
    let mut txids: Vec<String> = mempool.transactions.into_iter().map(|transaction| transaction.txid).collect();
    txids.sort();
    txids
}

/// Waits until a transaction can be mined by `node`.
pub async fn wait_for_transaction(node: &DaemonProcess, txid: &str) {
    wait_until(&format!("{} to have {txid} in its mempool", node.name()), || async {
        Ok(mempool(node).await.iter().any(|waiting| waiting == txid))
    })
    .await
    .unwrap();
}

/// Sends coins of the wallet; gives the transaction's id.
pub async fn send(node: &DaemonProcess, address: &str, amount: i64) -> String {
    let request =
        SendCoinsRequest { addr: address.to_owned(), amount, sat_per_vbyte: 2, ..SendCoinsRequest::default() };
    node.client().unwrap().lightning().send_coins(request).await.unwrap().into_inner().txid
}

/// Pays to a script and has that mined; gives the output.
pub async fn fund(node: &DaemonProcess, output: &TxOut) -> OutPoint {
    let address = Address::from_script(&output.script_pubkey, Network::Regtest).unwrap().to_string();
    let txid = send(node, &address, i64::try_from(output.value.to_sat()).unwrap()).await;
    node.mine(1, Some(NOBODY)).await.unwrap();
    let request = GetTransactionRequest { txid };
    let raw = node.client().unwrap().chain().get_transaction(request).await.unwrap().into_inner().raw_tx;
    let funding: Transaction = consensus::deserialize(&raw).unwrap();
    let vout = funding.output.iter().position(|paid| paid.script_pubkey == output.script_pubkey).unwrap() as u32;
    OutPoint { txid: funding.compute_txid(), vout }
}

/// A plain request to open a channel to `peer`.
pub async fn open_request(peer: &DaemonProcess, capacity: i64, push: i64) -> OpenChannelRequest {
    OpenChannelRequest {
        node_pubkey: hex::decode(peer.node_id().await.unwrap()).unwrap(),
        local_funding_amount: capacity,
        push_sat: push,
        sat_per_vbyte: 2,
        ..OpenChannelRequest::default()
    }
}

/// The client's program, which is built beside the daemon's.
pub fn leyden_program() -> PathBuf {
    let path =
        Path::new(env!("CARGO_BIN_EXE_leydend")).with_file_name(format!("leyden{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: `cargo build --workspace --bins`", path.display());
    path
}

/// Runs the command line on a data directory.
pub fn run_leyden(data_dir: &Path, arguments: &[&str]) -> Output {
    Command::new(leyden_program()).arg("--data-dir").arg(data_dir).args(arguments).output().unwrap()
}

/// Runs the command line on a data directory, and gives what it printed.
pub fn leyden(data_dir: &Path, arguments: &[&str]) -> String {
    let output = run_leyden(data_dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts the kind of a refusal, and that its sentence holds `words`.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, code: tonic::Code, words: &str) {
    let status = answer.expect_err("this must be refused");
    assert_eq!(status.code(), code, "{status:?}");
    let advice = status.metadata().get_bin(ADVICE).and_then(|advice| advice.to_bytes().ok()).unwrap_or_default();
    let said = format!("{}: {}", status.message(), String::from_utf8_lossy(&advice));
    assert!(said.contains(words), "\"{said}\" does not say \"{words}\"");
}

/// `leydend` with exactly the flags that it is given: for starts that fail, and for wallets that are not open.
pub struct Program {
    pub data_dir: PathBuf,
    child: Child,
}

impl Program {
    /// Starts the daemon on free ports.
    pub fn start(data_dir: &Path, flags: &[&str]) -> Self {
        fs::create_dir_all(data_dir).unwrap();
        let _ = fs::remove_file(Layout::new(data_dir.to_owned(), "regtest").running());
        let log = File::options().create(true).append(true).open(data_dir.join("leydend.log")).unwrap();
        let child = leydend(data_dir, flags).stderr(log).spawn().unwrap();
        Self { data_dir: data_dir.to_owned(), child }
    }

    /// Starts the daemon on free ports, with so many file descriptors at most.
    pub fn start_with_descriptors(data_dir: &Path, flags: &[&str], descriptors: usize) -> Self {
        fs::create_dir_all(data_dir).unwrap();
        let log = File::options().create(true).append(true).open(data_dir.join("leydend.log")).unwrap();
        let daemon = leydend(data_dir, flags);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")).arg(daemon.get_program());
        let child = shell.args(daemon.get_args()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self { data_dir: data_dir.to_owned(), child: child.unwrap() }
    }

    /// A connection, once gRPC answers; the wallet may be closed.
    pub async fn client(&mut self) -> Client {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("leydend ended ({status}): {}", self.log());
            }
            if let Ok(access) = Access::from_data_dir(&self.data_dir)
                && let Ok(client) = Client::connect(&access).await
            {
                return client;
            }
            assert!(begun.elapsed() < PATIENCE, "leydend does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn access(&self) -> Access {
        Access::from_data_dir(&self.data_dir).unwrap()
    }

    pub fn running(&self) -> Running {
        let path = Layout::new(self.data_dir.clone(), "regtest").running();
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.data_dir.join("leydend.log")).unwrap_or_default()
    }

    /// Waits for the end of the process.
    pub async fn end(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < limit, "leydend still runs after {limit:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM, and a clean end.
    pub async fn stop(&mut self) {
        self.terminate();
        let status = self.end(PATIENCE).await;
        assert!(status.success(), "leydend ended with {status}: {}", self.log());
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }
}

/// Runs a daemon that must refuse to start: how it ended, and what it said. What runs on the data directory is left
/// alone.
pub fn refused_start(data_dir: &Path, flags: &[&str]) -> (ExitStatus, String) {
    let mut child = leydend(data_dir, flags).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    // A daemon that starts after all would never close its end.
    let guard = ChildGuard(child.id());
    let watchdog = std::thread::spawn(move || guard.kill_after(PATIENCE));
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    drop(watchdog);
    (status, said)
}

struct ChildGuard(u32);

impl ChildGuard {
    fn kill_after(&self, limit: Duration) {
        let begun = Instant::now();
        let process = PathBuf::from(format!("/proc/{}", self.0));
        while process.exists() {
            if begun.elapsed() > limit {
                let _ = Command::new("kill").args(["-9", &self.0.to_string()]).status();
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The daemon's program on free ports.
fn leydend(data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leydend"));
    command
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--no-rest", "--chain-listen", "127.0.0.1:0"])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Where a daemon listens, and its process.
pub fn running(node: &DaemonProcess) -> Running {
    let path = Layout::new(node.data_dir().to_owned(), "regtest").running();
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The memory of a process, in bytes.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// The file descriptors that a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A log without a panic, and without a call that failed through our own fault.
pub fn assert_calm(name: &str, log: &str) {
    for bad in ["panicked", "through no fault of the caller", "the channel is stopped"] {
        let line = log.lines().find(|line| line.contains(bad));
        assert!(line.is_none(), "{name}: {}", line.unwrap_or_default());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a node has given up the block at a height.
pub fn has_pruned(node: &DaemonProcess, height: u32) -> bool {
    let output = run_leyden(node.data_dir(), &["chain", "block", &height.to_string()]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || words.contains("is pruned"), "{words}");
    !output.status.success()
}
