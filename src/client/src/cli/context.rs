//! The options that every command has, and what they lead to: a connection, and a way to print.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use leyden_common::{
    layout::{DEFAULT_RPC, Layout, default_data_dir},
    words::{in_json, on_lines},
};
use prost::{Message, Name};

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
    /// Network whose macaroon to use, if the node runs elsewhere [default: the running node's]
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
                if self.network.is_some() {
                    access.macaroon = layout.macaroon("admin");
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

    /// A connection to the node that the options name.
    pub async fn client(&self) -> Result<Client, CliError> {
        Ok(Client::connect(&self.global.access()?).await?)
    }

    /// Prints an answer: as JSON, or as `for_people` puts it.
    pub fn show<M, F>(&self, message: &M, for_people: F) -> Result<(), CliError>
    where
        M: Message + Name,
        F: FnOnce() -> String,
    {
        if self.is_json() { self.line(&in_json(&json::pretty(message)?)) } else { self.line(&on_lines(&for_people())) }
    }

    /// Prints what is not an answer of its own.
    pub fn show_value<F: FnOnce() -> String>(&self, value: &serde_json::Value, for_people: F) -> Result<(), CliError> {
        if self.is_json() { self.line(&in_json(&format!("{value:#}"))) } else { self.line(&on_lines(&for_people())) }
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
