//! `leydend`: the daemon.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use leyden::{
    bench,
    config::{Config, Flags},
    daemon,
};
use tracing_subscriber::EnvFilter;

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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
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

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("leydend: {error}");
    ExitCode::FAILURE
}
