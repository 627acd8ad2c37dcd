//! `leydend`: the daemon.

use std::{
    fs::OpenOptions, io::IsTerminal as _, os::unix::fs::OpenOptionsExt as _, process::ExitCode, sync::Mutex,
    time::Duration,
};

use clap::Parser as _;
use file_rotate::{ContentLimit, FileRotate, compression::Compression, suffix::AppendCount};
use leyden::{
    bench,
    config::{Config, Flags},
    daemon, log_level,
};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::format::{self, FormatFields},
    reload,
};

/// Bytes of a log file before the next is begun, and how many old ones stay beside it.
const LOG_BYTES: usize = 10 << 20;
const OLD_LOGS: usize = 5;
/// Permissions of a log file.
const OWNER_ONLY: u32 = 0o600;

/// What closing the databases may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == bench::COMMAND) {
        return match bench::run(std::env::args_os().skip(1)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    let config = match Config::load(Flags::parse()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if let Err(error) = start_log(&config) {
        return fail(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let ended = runtime.block_on(daemon::run(config));
    // The databases close with the last task that holds them, and must be closed before the process exits.
    runtime.shutdown_timeout(CLOSE_LIMIT);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("the log file {path}: {source}; name another with --log-file")]
struct NoLog {
    path: String,
    source: std::io::Error,
}

fn start_log(config: &Config) -> Result<(), NoLog> {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).fmt_fields(log_fields());
    let Some(path) = &config.log_file else {
        // What goes to a file or a pipe carries no colours.
        let log = log.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
        let level = log.reload_handle();
        log_level::install(&config.log, move |level_spec| reload(&level, level_spec));
        log.init();
        return Ok(());
    };
    let no_log = |source| NoLog { path: path.display().to_string(), source };
    // The rotation itself would say nothing. What the log tells of payments is its owner's alone.
    OpenOptions::new().create(true).append(true).mode(OWNER_ONLY).open(path).map_err(no_log)?;
    let file = FileRotate::new(
        path,
        AppendCount::new(OLD_LOGS),
        ContentLimit::BytesSurpassed(LOG_BYTES),
        Compression::None,
        Some(append_for_owner()),
    );
    let log = log.with_writer(Mutex::new(file)).with_ansi(false).with_filter_reloading();
    let level = log.reload_handle();
    log_level::install(&config.log, move |level_spec| reload(&level, level_spec));
    log.init();
    Ok(())
}

fn reload<S>(level: &reload::Handle<EnvFilter, S>, level_spec: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level_spec).map_err(|error| error.to_string())?;
    level.reload(filter).map_err(|error| error.to_string())
}

fn append_for_owner() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).create(true).append(true).mode(OWNER_ONLY);
    options
}

/// `name=value`, and a value with blanks in quotation marks, so that programs can read a line.
fn log_fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    format::debug_fn(|writer, field, value| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{text}"),
            name if is_one_word(&text) => write!(writer, "{name}={text}"),
            name => write!(writer, "{name}={text:?}"),
        }
    })
    .delimited(" ")
}

/// Or several in quotation marks already.
fn is_one_word(text: &str) -> bool {
    (text.starts_with('"') && text.len() > 1 && text.ends_with('"')) || !text.contains([' ', '"'])
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("leydend: {error}");
    ExitCode::FAILURE
}
