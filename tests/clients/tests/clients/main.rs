//! Programs that others wrote for LND, run on daemons of ours: every call that they offer, in a table.
//!
//! ```text
//!   this test ──starts──► leydend (alice, with a wallet full of coins) ◄── leydend (bob)
//!       │                       ▲ gRPC, REST
//!       └──starts──► a script in the client's own language and with its own library
//!                       lines of JSON:  {"call": …, "said": null, or what went wrong}     {"mine": blocks}
//! ```
//!
//! The libraries are installed, in pinned versions, by `.ci/bootstrap clients` into a folder of their own
//! (`LEYDEN_CLIENTS`, or `~/.cache/leyden-clients`). Without them this says so, and ends well unless it runs under CI.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test")]

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use leyden_client::cluster::{DaemonProcess, leydend_program};
use leyden_common::layout::{Layout, Running};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Blocks after which what was mined can be spent.
const MATURE: u32 = 101;

/// A client: its name in the table, its script, and what runs that.
struct Client {
    name: &'static str,
    script: &'static str,
    program: fn(&Path) -> Command,
}

const CLIENTS: [Client; 4] = [
    Client { name: "ln-service (gRPC)", script: "ln-service.js", program: node },
    Client { name: "lnd-grpc-client (gRPC)", script: "lnd_grpc_client.py", program: python },
    Client { name: "nutshell (REST)", script: "nutshell.py", program: python },
    Client { name: "a script for lncli", script: "lncli.sh", program: shell },
];

fn node(clients: &Path) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", clients.join("node_modules")).env("NODE_NO_WARNINGS", "1");
    command
}

fn python(clients: &Path) -> Command {
    Command::new(clients.join("python/bin/python"))
}

fn shell(_: &Path) -> Command {
    Command::new("sh")
}

/// Where `leyden` is found: it lies beside the daemon.
fn path() -> OsString {
    let programs = leydend_program().unwrap().parent().unwrap().to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(programs).chain(env::split_paths(&others))).unwrap()
}

struct Verdict {
    client: &'static str,
    call: String,
    wrong: Option<String>,
    /// The node does not serve what it takes, and has said so.
    is_absent: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("--list") {
        return ExitCode::SUCCESS;
    }
    let filter = first.filter(|first| !first.starts_with('-')).unwrap_or_default();
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let clients = env::var_os("LEYDEN_CLIENTS").map_or_else(|| home.join(".cache/leyden-clients"), PathBuf::from);
    let is_installed = clients.join("node_modules/ln-service").exists() && clients.join("python/bin/python").exists();
    if !is_installed {
        println!("clients of others are not in {}: `.ci/bootstrap clients` installs them", clients.display());
        if env::var_os("CI").is_some() {
            return ExitCode::FAILURE;
        }
    }
    let mut verdicts = Vec::new();
    for client in CLIENTS.iter().filter(|client| client.name.contains(&filter)) {
        if is_installed || client.script == "lncli.sh" {
            verdicts.extend(run(client, &clients).await);
        }
    }
    print(&verdicts)
}

/// Each client has two nodes of its own.
async fn run(client: &'static Client, clients: &Path) -> Vec<Verdict> {
    let mut folder = tempfile::Builder::new().prefix("leyden-clients-").tempdir().unwrap();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &["--accept-keysend"]).unwrap();
    alice.start().await.unwrap();
    let chain = running(&alice).chain_listen.unwrap().to_string();
    let mut bob = DaemonProcess::new(folder.path(), "bob", &["--accept-keysend", "--chain-connect", &chain]).unwrap();
    bob.start().await.unwrap();
    alice.mine(1, None).await.unwrap();
    alice.mine(MATURE, None).await.unwrap();
    synchronised(&alice, &bob).await;
    let config = folder.path().join("clients.json");
    std::fs::write(&config, json!({ "alice": access(&alice), "bob": access(&bob) }).to_string()).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(client.script);
    let log = std::fs::File::create(folder.path().join("client.log")).unwrap();
    let mut process: Child = (client.program)(clients)
        .arg(script)
        .arg(&config)
        .env("PATH", path())
        .env("ALICE", alice.data_dir())
        .env("BOB", bob.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut answers = process.stdin.take().unwrap();
    let mut verdicts = Vec::new();
    let verdict = |call: String, wrong| Verdict { client: client.name, call, wrong, is_absent: false };
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            verdicts.push(verdict("a line".to_owned(), Some(line)));
            continue;
        };
        if let Some(blocks) = said["mine"].as_u64() {
            alice.mine(u32::try_from(blocks).unwrap(), None).await.unwrap();
            synchronised(&alice, &bob).await;
            writeln!(answers).unwrap();
        } else {
            let verdict = verdict(said["call"].as_str().unwrap().to_owned(), said["said"].as_str().map(str::to_owned));
            verdicts.push(Verdict { is_absent: said["absent"] == true, ..verdict });
        }
    }
    let end = process.wait().unwrap();
    if !end.success() {
        let log = std::fs::read_to_string(folder.path().join("client.log")).unwrap_or_default();
        verdicts.push(verdict("the whole script".to_owned(), Some(format!("{end}: {}", log.trim()))));
    }
    keep_if_wrong(&mut folder, &verdicts);
    verdicts
}

fn running(daemon: &DaemonProcess) -> Running {
    let layout = Layout::new(daemon.data_dir().to_owned(), "regtest");
    serde_json::from_slice(&std::fs::read(layout.running()).unwrap()).unwrap()
}

/// What leads a client to a node.
fn access(daemon: &DaemonProcess) -> Value {
    let running = running(daemon);
    let layout = Layout::new(daemon.data_dir().to_owned(), &running.network);
    json!({
        "grpc": format!("127.0.0.1:{}", running.rpc.port()),
        "rest": running.rest.map(|rest| format!("https://127.0.0.1:{}", rest.port())),
        "peer": running.listen.map(|listen| listen.to_string()),
        "cert": layout.tls_certificate(),
        "macaroon": layout.macaroon("admin"),
    })
}

async fn synchronised(alice: &DaemonProcess, bob: &DaemonProcess) {
    bob.wait_for_height(alice.height().await.unwrap()).await.unwrap();
}

fn keep_if_wrong(folder: &mut TempDir, verdicts: &[Verdict]) {
    if verdicts.iter().any(|verdict| verdict.wrong.is_some()) {
        folder.disable_cleanup(true);
        println!("what the daemons wrote is left in {}", folder.path().display());
    }
}

fn print(verdicts: &[Verdict]) -> ExitCode {
    let width = verdicts.iter().map(|verdict| verdict.call.len()).max().unwrap_or(0);
    let client_width = verdicts.iter().map(|verdict| verdict.client.len()).max().unwrap_or(0);
    println!();
    for Verdict { client, call, wrong, is_absent } in verdicts {
        let works = if *is_absent { "is told that it is not served" } else { "works" };
        println!("{client:client_width$}  {call:width$}  {}", wrong.as_deref().unwrap_or(works));
    }
    let failed = verdicts.iter().filter(|verdict| verdict.wrong.is_some()).count();
    println!("\n{} calls of clients that others wrote: {failed} failed", verdicts.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
