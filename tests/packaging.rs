//! The unit and the container file start a node from nothing: with their own words, as far as that goes without systemd or podman.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use leyden_client::cluster::leydend_program;
use leyden_common::layout::{Layout, Running};

const PATIENCE: Duration = Duration::from_secs(60);

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program with these words, and waits until it says that it runs.
fn runs(words: &[String], data_dir: &Path) -> Running {
    let mut command = Command::new(leydend_program().unwrap());
    // The data directory is that of the file; the ports that nobody named would be the machine's own.
    command.args(words).args(["--rpc-listen", "127.0.0.1:0", "--no-wallet-password"]).env("LEYDEN_DATA_DIR", data_dir);
    let _started = Started(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let file = Layout::new(data_dir.to_owned(), "regtest").running();
    let begun = Instant::now();
    loop {
        let running = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Running>(&bytes).ok());
        if let Some(running) = running.filter(|running| running.listen.is_some()) {
            return running;
        }
        assert!(begun.elapsed() < PATIENCE, "{words:?} does not start a node");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_units_command_starts_a_node_in_its_state_directory() {
    let unit = fs::read_to_string("src/packaging/leydend.service").unwrap();
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let (program, words) = command.split_once(' ').unwrap();
    assert_eq!(program, "/usr/local/bin/leydend");
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let mut words: Vec<String> = words.split(' ').map(|word| word.replace("%S", state)).collect();
    words.extend(["--listen", "127.0.0.1:0", "--chain-listen", "127.0.0.1:0"].map(str::to_owned));
    assert!(unit.contains("StateDirectory=leyden\n"));
    runs(&words, &folder.path().join("leyden"));
    if Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success()) {
        let copy = folder.path().join("leydend.service");
        fs::write(&copy, unit.replace(program, leydend_program().unwrap().to_str().unwrap())).unwrap();
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_containers_command_starts_a_node_in_its_volume() {
    let text = fs::read_to_string("src/packaging/Containerfile").unwrap();
    let entry = text.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).unwrap();
    let words: Vec<String> = serde_json::from_str(entry).unwrap();
    let (program, words) = words.split_first().unwrap();
    assert_eq!(program, "leydend");
    assert!(text.contains("ENV LEYDEN_DATA_DIR=/data\n") && text.contains("VOLUME /data\n"));
    // Other nodes of this machine may have these ports.
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            word.replace("0.0.0.0:9735", &format!("0.0.0.0:{}", free_port())).replace("0.0.0.0:18444", "0.0.0.0:0")
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let running = runs(&words, folder.path());
    assert!(running.listen.unwrap().ip().is_unspecified() && running.rpc.ip().is_loopback());
    for line in text.lines().filter_map(|line| line.strip_prefix("RUN cargo build ")) {
        assert!(line.contains("--locked") && line.contains("--release"), "{line}");
    }
}
