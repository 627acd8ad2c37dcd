//! The program itself, without a daemon: what it prints, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use std::process::{Command, Output};

fn leyden(arguments: &[&str]) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_leyden")).args(arguments).env_remove("LEYDEN_RPCSERVER").output();
    program.expect("the program starts")
}

#[test]
fn help_goes_to_stdout_and_a_misspelt_command_is_an_error_of_usage() {
    let help = leyden(&["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("openchannel"), "{help:?}");
    let misspelt = leyden(&["opnchannel"]);
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(misspelt.stdout.is_empty() && !misspelt.stderr.is_empty(), "{misspelt:?}");
}

#[test]
fn without_a_daemon_it_says_how_to_start_one_and_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data_dir = folder.path().to_str().expect("a name in UTF-8");
    for (arguments, shown) in [
        (["--data-dir", data_dir, "getinfo"].as_slice(), "start it with `leydend --data-dir"),
        (&["--data-dir", data_dir, "--json", "getinfo"], "Unavailable"),
    ] {
        let output = leyden(arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = [output.stdout, output.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains(shown), "{}", String::from_utf8_lossy(&said));
    }
}
