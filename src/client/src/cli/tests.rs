//! What is typed is understood, and what makes no sense is refused with a word.

use clap::{CommandFactory, Parser, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_line_of_the_helps_examples_parses() {
    let mut lines = 0;
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().map(str::trim).filter(|line| line.starts_with("leyden ")) {
            // An example ends where its explanation begins: at two blanks or more.
            let example = line.split("  ").next().unwrap();
            parse(example).unwrap_or_else(|error| panic!("{example}: {error}"));
            lines += 1;
        }
    }
    assert!(lines > 30, "only {lines} examples");
}

#[test]
fn every_command_of_the_readme_parses() {
    let mut lines = 0;
    for line in include_str!("../../../../README.md").lines().filter(|line| line.starts_with("leyden ")) {
        let command = line.split(" #").next().unwrap();
        // What stands in quotes is one word.
        let quoted = command.split('"').enumerate();
        let words = quoted.flat_map(|(place, text)| match place % 2 {
            0 => text.split_whitespace().collect(),
            _ => vec![text],
        });
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{command}: {error}"));
        lines += 1;
    }
    assert!(lines > 20, "only {lines} commands");
}

#[test]
fn commands_have_the_names_of_lncli() {
    let command = Cli::command();
    let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in [
        "exportchanbackup",
        "verifychanbackup",
        "restorechanbackup",
        "create",
        "unlock",
        "state",
        "getinfo",
        "newaddress",
        "walletbalance",
        "channelbalance",
        "sendcoins",
        "listchaintxns",
        "listunspent",
        "connect",
        "listpeers",
        "disconnect",
        "openchannel",
        "closechannel",
        "listchannels",
        "pendingchannels",
        "closedchannels",
        "addinvoice",
        "lookupinvoice",
        "listinvoices",
        "subscribeinvoices",
        "decodepayreq",
        "payinvoice",
        "trackpayment",
        "listpayments",
        "feereport",
        "updatechanpolicy",
        "fwdinghistory",
        "addholdinvoice",
        "bakemacaroon",
        "listmacaroonids",
        "deletemacaroonid",
        "listpermissions",
        "settleinvoice",
        "cancelinvoice",
        "resetmc",
        "stop",
        "chain",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} is missing");
    }
}

#[test]
fn every_command_explains_itself() {
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        assert!(command.get_about().is_some(), "{} has no description", command.get_name());
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{} of {}", argument.get_id(), command.get_name());
        }
        commands.extend(command.get_subcommands().cloned());
    }
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    for line in ["leyden --json --data-dir /d getinfo", "leyden getinfo --json --data-dir /d"] {
        let cli = parse(line).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.data_dir.unwrap().to_str(), Some("/d"));
    }
}

#[test]
fn flags_are_taken_in_the_spelling_of_lncli_too() {
    for line in [
        "leyden sendcoins addr 5 --sat_per_vbyte 3",
        "leyden openchannel 02ab 5 --sat-per-vbyte 3 --block",
        "leyden closechannel ab:0 --conf_target 6",
        "leyden listunspent --min_confs 1 --max_confs 5",
        "leyden addinvoice --amt_msat 5",
        "leyden chain mine start --threads 2",
        "leyden listchaintxns --end_height -1",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (line, kind) in [
        ("leyden", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("leyden fly", ErrorKind::InvalidSubcommand),
        ("leyden sendcoins addr", ErrorKind::MissingRequiredArgument),
        ("leyden sendcoins addr 5 --sweepall", ErrorKind::ArgumentConflict),
        ("leyden sendcoins addr 1.5", ErrorKind::ValueValidation),
        ("leyden sendcoins addr 5 --sat-per-vbyte 1 --conf-target 2", ErrorKind::ArgumentConflict),
        ("leyden closechannel ab --force --sat-per-vbyte 5", ErrorKind::ArgumentConflict),
        ("leyden addinvoice 5 --amt-msat 5", ErrorKind::ArgumentConflict),
        ("leyden chain generate 0", ErrorKind::ValueValidation),
        ("leyden chain", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("leyden listchannels --active-only --inactive-only", ErrorKind::ArgumentConflict),
    ] {
        assert_eq!(parse(line).map(|_| ()).unwrap_err().kind(), kind, "{line}");
    }
}

#[test]
fn a_node_that_does_not_run_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let global = Global { data_dir: Some(folder.path().into()), ..Default::default() };
    let text = global.access().unwrap_err().to_string();
    assert!(text.contains("leydend --data-dir"), "{text}");

    let named =
        Global { rpcserver: Some("node.example:10009".to_owned()), network: Some("leyden".to_owned()), ..global };
    let access = named.access().unwrap();
    assert_eq!(access.address, "node.example:10009");
    assert_eq!(access.tls_certificate, folder.path().join("tls.cert"));
    assert_eq!(access.macaroon, folder.path().join("data/chain/bitcoin/leyden/admin.macaroon"));

    let elsewhere = Global { macaroonpath: Some(folder.path().join("none")), ..named };
    assert!(elsewhere.access().unwrap_err().to_string().contains("--macaroonpath"));
}

#[test]
fn a_broken_connection_says_what_may_be_the_matter() {
    let broken = CliError::from(tonic::Status::unavailable("transport error"));
    assert!(broken.to_string().contains("does it still run"), "{broken}");
    let refused = CliError::from(tonic::Status::failed_precondition("the wallet is locked: `leyden unlock`"));
    assert_eq!((refused.to_string().as_str(), refused.exit_code()), ("the wallet is locked: `leyden unlock`", 1));
    assert_eq!(refused.code(), "FailedPrecondition");
}
