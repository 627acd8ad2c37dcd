//! `leydend`: the daemon.

use std::process::ExitCode;

use clap::Parser as _;
use leyden::{
    config::{Config, Flags},
    daemon,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
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
    match runtime.block_on(daemon::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("leydend: {error}");
    ExitCode::FAILURE
}
