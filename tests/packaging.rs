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

/// What debian:bookworm-slim has, and a node may need.
const LIBRARIES: [&str; 6] = ["linux-vdso", "libstdc++.so", "libgcc_s.so", "libm.so", "libc.so", "ld-linux"];

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program with these words until it says that it runs, asks it something as a user would, and ends it as systemd
/// and podman do.
fn runs(words: &[String], data_dir: &Path) -> Running {
    let mut command = Command::new(leydend_program().unwrap());
    // The data directory is that of the file; the ports that nobody named would be the machine's own.
    command.args(words).args(["--rpc-listen", "127.0.0.1:0", "--no-wallet-password"]).env("LEYDEN_DATA_DIR", data_dir);
    let mut started =
        Started(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let file = Layout::new(data_dir.to_owned(), "regtest").running();
    let begun = Instant::now();
    let running = loop {
        let running = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Running>(&bytes).ok());
        if let Some(running) = running.filter(|running| running.listen.is_some()) {
            break running;
        }
        assert!(begun.elapsed() < PATIENCE, "{words:?} does not start a node");
        std::thread::sleep(Duration::from_millis(20));
    };
    let asked = Command::new(leydend_program().unwrap().with_file_name("leyden"))
        .args(["--json", "getinfo"])
        .env("LEYDEN_DATA_DIR", data_dir)
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    assert!(Command::new("kill").arg(started.0.id().to_string()).status().unwrap().success());
    assert!(started.0.wait().unwrap().success(), "SIGTERM is its end, and a good one");
    running
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
    assert!(text.contains("STOPSIGNAL SIGTERM\n") && text.contains("FROM docker.io/library/debian:bookworm-slim\n"));
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

#[test]
#[cfg(target_os = "linux")]
fn the_programs_need_no_library_that_the_image_lacks() {
    for program in ["leydend", "leyden"] {
        let path = leydend_program().unwrap().with_file_name(program);
        let output = Command::new("ldd").arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let needed: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(!needed.is_empty() && !text.contains("not found"), "{text}");
        let known = |one: &&str| LIBRARIES.iter().any(|library| one.contains(library));
        let foreign: Vec<&&str> = needed.iter().filter(|one| !known(one)).collect();
        assert!(foreign.is_empty(), "{program} needs {foreign:?}");
    }
}
