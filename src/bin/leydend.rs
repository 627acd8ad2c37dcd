//! `leydend`: the daemon.

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use clap::Parser as _;
use leyden::{
    bench,
    config::{Config, Flags},
    daemon,
};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::format::{self, FormatFields},
};

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
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    // What goes to a file or a pipe carries no colours.
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    log.fmt_fields(log_fields()).init();
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
