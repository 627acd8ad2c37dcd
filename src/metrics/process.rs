//! The process itself, under the names that Prometheus' own libraries give. What only Linux tells is left out elsewhere.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use super::page::{Family, Page, family};
use crate::api::{Daemon, WalletState};

const BUILD: Family = family("leyden_build_info", "1, with the version of leydend.");
const WALLET: Family = family("leyden_wallet_open", "1 while the wallet is open.");
const STARTED: Family = family("process_start_time_seconds", "When the process was started, seconds since 1970.");
const DESCRIPTORS: Family = family("process_open_fds", "File descriptors that are open.");
const RESIDENT: Family = family("process_resident_memory_bytes", "Memory that the process has in RAM.");

pub(super) fn write(daemon: &dyn Daemon, started: SystemTime, page: &Page<'_>) {
    if !daemon.is_tower_only() {
        page.flag(WALLET, daemon.state() >= WalletState::RpcActive);
    }
    if !page.is_first() {
        return;
    }
    page.gauge_of(BUILD, ("version", env!("CARGO_PKG_VERSION")), 1);
    if let Ok(since) = started.duration_since(UNIX_EPOCH) {
        page.number(STARTED, since.as_secs_f64());
    }
    if let Some(count) = open_descriptors() {
        page.gauge(DESCRIPTORS, count);
    }
    if let Some(bytes) = resident_bytes() {
        page.gauge(RESIDENT, bytes);
    }
}

/// Without the one that reads them.
fn open_descriptors() -> Option<u64> {
    let all = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    all.checked_sub(1)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}
