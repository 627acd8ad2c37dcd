//! The options that every command has, and what they lead to: a connection, and a way to print.

use std::{
    fs::{File, TryLockError},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use leyden_common::{
    layout::{DEFAULT_RPC, Layout, default_data_dir},
    words::{in_json, on_lines},
};
use prost::{Message, Name};
use tonic::{Code, Response, Status};

use super::{CliError, json};
use crate::client::{Access, Client};

/// Which node, and how to print.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The node's data directory, where its certificate, macaroons and address are found [default: ~/.leyden]
    #[arg(long, global = true, env = "LEYDEN_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the node's gRPC service [default: as the running node wrote into its data directory]
    #[arg(long, global = true, env = "LEYDEN_RPCSERVER", value_name = "HOST:PORT")]
    pub rpcserver: Option<String>,
    /// Network that is meant, of a daemon that holds two (`leydend --also`) [default: its first]. If the node runs elsewhere, also
    /// the one whose macaroon is used
    #[arg(long, global = true, value_name = "NAME")]
    pub network: Option<String>,
    /// Macaroon to authenticate with [default: admin.macaroon in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub macaroonpath: Option<PathBuf>,
    /// The node's TLS certificate [default: tls.cert in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub tlscertpath: Option<PathBuf>,
    /// Print the whole answer as JSON, with LND's field names
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// What leads to the node: what was named wins over what the data directory says.
    pub fn access(&self) -> Result<Access, CliError> {
        let data_dir = match &self.data_dir {
            Some(path) => path.clone(),
            None => default_data_dir()?,
        };
        let running = Access::from_data_dir(&data_dir);
        let mut access = match (&self.rpcserver, running) {
            (Some(address), running) => {
                let layout = Layout::new(data_dir, self.network.as_deref().unwrap_or("regtest"));
                let mut access = running.unwrap_or(Access {
                    address: DEFAULT_RPC.to_owned(),
                    tls_certificate: layout.tls_certificate(),
                    macaroon: layout.macaroon("admin"),
                });
                access.address.clone_from(address);
                // That of a second network is the first one's.
                let named = layout.macaroon("admin");
                if self.network.is_some() && named.exists() {
                    access.macaroon = named;
                }
                access
            }
            (None, running) => running?,
        };
        if let Some(path) = &self.tlscertpath {
            access.tls_certificate.clone_from(path);
        }
        if let Some(path) = &self.macaroonpath {
            if !path.exists() {
                return Err(CliError::Usage(format!("--macaroonpath: there is no {}", path.display())));
            }
            access.macaroon.clone_from(path);
        }
        Ok(access)
    }
}

/// How long a daemon that holds its data directory is waited for: opening a large chain takes seconds.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Until when a process that was started a moment ago has taken its data directory.
const LOCK_LIMIT: Duration = Duration::from_millis(300);

/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Waits for a daemon that is starting, and not for one that does not run.
struct Patience {
    begun: Instant,
}

impl Patience {
    fn begin() -> Self {
        Self { begun: Instant::now() }
    }

    /// Whether to try once more.
    fn has_more(&self, global: &Global) -> bool {
        // What runs elsewhere has no lock here.
        let data_dir = match (&global.rpcserver, &global.data_dir) {
            (Some(_), _) => return false,
            (None, Some(path)) => path.clone(),
            (None, None) => match default_data_dir() {
                Ok(path) => path,
                Err(_) => return false,
            },
        };
        let waited = self.begun.elapsed();
        match is_locked(&Layout::new(data_dir, "regtest").lock()) {
            true => waited < START_LIMIT,
            false => waited < LOCK_LIMIT,
        }
    }
}

/// Whether a daemon holds the data directory. A shared lock, held for no time: leydend tries more than once.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The answer, unless the macaroon does not allow the call: what a command shows beside its own answer is left out then.
pub(super) fn if_allowed<T>(answer: Result<Response<T>, Status>) -> Result<Option<T>, CliError> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::PermissionDenied => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// What a command runs in.
pub struct Context {
    global: Global,
    output: Mutex<Box<dyn Write + Send>>,
}

impl Context {
    /// Prints to stdout.
    pub fn new(global: Global) -> Self {
        Self::with_output(global, Box::new(io::stdout()))
    }

    /// Prints to `output` in place of stdout.
    pub fn with_output(global: Global, output: Box<dyn Write + Send>) -> Self {
        Self { global, output: Mutex::new(output) }
    }

    /// Whether answers are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.global.json
    }

    /// A command that comes next, for the same network as this one.
    pub(super) fn command(&self, command: &str) -> String {
        match &self.global.network {
            Some(network) => format!("leyden --network {network} {command}"),
            None => format!("leyden {command}"),
        }
    }

    /// Where the node is, if the options say that it runs elsewhere.
    pub(super) fn remote_address(&self) -> Option<&str> {
        self.global.rpcserver.as_deref()
    }

    /// The data directory, if the options name one.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.global.data_dir.as_deref()
    }

    /// A connection to the node that the options name. One that is just starting is waited for.
    pub async fn client(&self) -> Result<Client, CliError> {
        let patience = Patience::begin();
        loop {
            let error = match self.global.access() {
                Ok(access) => match Client::connect(&access).await {
                    Ok(client) => return self.on_network(client),
                    Err(error) => CliError::Client(error),
                },
                Err(error) => error,
            };
            if !matches!(error, CliError::Client(_)) || !patience.has_more(&self.global) {
                return Err(error);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The connection, for the network that the options name.
    fn on_network(&self, client: Client) -> Result<Client, CliError> {
        match &self.global.network {
            Some(name) => Ok(client.on_network(name)?),
            None => Ok(client),
        }
    }

    /// Prints an answer: as JSON, or as `for_people` puts it.
    pub fn show<M, F>(&self, message: &M, for_people: F) -> Result<(), CliError>
    where
        M: Message + Name,
        F: FnOnce() -> String,
    {
        if self.is_json() { self.line(&in_json(&json::pretty(message)?)) } else { self.line(&on_lines(&for_people())) }
    }

    /// Prints an answer that carries more than LND's message has fields for: in JSON as further fields of it.
    pub fn show_with<M, F>(
        &self,
        message: &M,
        more: Vec<(&str, serde_json::Value)>,
        for_people: F,
    ) -> Result<(), CliError>
    where
        M: Message + Name,
        F: FnOnce() -> String,
    {
        if !self.is_json() {
            return self.line(&on_lines(&for_people()));
        }
        let mut value = json::value(message)?;
        if let Some(fields) = value.as_object_mut() {
            fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        self.line(&in_json(&format!("{value:#}")))
    }

    /// Prints what is not an answer of its own.
    pub fn show_value<F: FnOnce() -> String>(&self, value: &serde_json::Value, for_people: F) -> Result<(), CliError> {
        if self.is_json() { self.line(&in_json(&format!("{value:#}"))) } else { self.line(&on_lines(&for_people())) }
    }

    /// Prints what is text already and made by this program: nothing in it is another's.
    pub(super) fn script(&self, text: &str) -> Result<(), CliError> {
        self.line(text)
    }

    fn line(&self, text: &str) -> Result<(), CliError> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush());
        written.map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe => CliError::Closed,
            _ => CliError::Io { what: "stdout".to_owned(), source },
        })
    }

    /// A remark on stderr, for people alone.
    pub fn note(&self, text: &str) {
        if !self.is_json() {
            // Whether anybody reads it does not matter.
            let _ = writeln!(io::stderr(), "{}", on_lines(text));
        }
    }

    /// A spinner on stderr while something takes long; silent for programs.
    pub fn waiting(&self, text: impl Into<String>) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.draw_target());
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// A bar on stderr for so many steps; silent for programs.
    pub fn progress(&self, steps: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(steps), self.draw_target());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar
    }

    fn draw_target(&self) -> ProgressDrawTarget {
        let quiet = self.is_json() || !io::stderr().is_terminal();
        if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
    }

    /// Says what went wrong, in the form that was asked for.
    pub fn fail(&self, error: &CliError) -> ExitCode {
        let text = if self.is_json() {
            let value = serde_json::json!({ "error": { "code": error.code(), "message": error.to_string() } });
            in_json(&format!("{value:#}")).into_owned()
        } else {
            on_lines(&format!("leyden: {error}")).into_owned()
        };
        let _ = writeln!(io::stderr(), "{text}");
        ExitCode::from(error.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_starting_is_waited_for_and_one_that_does_not_run_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let global = Global { data_dir: Some(folder.path().into()), ..Global::default() };
        let waited = |waited: Duration| Patience { begun: Instant::now().checked_sub(waited).unwrap() };
        // Nobody has the data directory.
        assert!(!waited(LOCK_LIMIT).has_more(&global));
        let lock = File::create(Layout::new(folder.path().into(), "regtest").lock()).unwrap();
        assert!(!waited(LOCK_LIMIT).has_more(&global));
        lock.try_lock().unwrap();
        assert!(waited(LOCK_LIMIT).has_more(&global), "it has not said yet where it listens");
        assert!(!waited(START_LIMIT).has_more(&global), "not for ever");
        let elsewhere = Global { rpcserver: Some("node.example:10009".to_owned()), ..global };
        assert!(!waited(Duration::ZERO).has_more(&elsewhere));
    }
}
