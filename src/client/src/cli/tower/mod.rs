//! `leyden tower …`: the watchtowers that guard this node while it is away, and the one that it runs for others.

mod add;
mod audit;
pub(super) mod coverage;
mod deactivate;
mod info;
mod list;
mod loss;
mod remove;
mod sight;
mod stats;
pub(super) mod waits;

use clap::{Args, Subcommand};
use leyden_proto::leyden::ListTowersRequest;

use super::{CliError, Context};
use crate::client::Client;

/// Have watchtowers guard the channels while this node is away, and see what they cover.
///
/// A peer may publish an old state of a channel when nobody looks. A watchtower looks: it takes what the old state gave the
/// peer, and pays it to this node's wallet. A node that runs with --tower is one for others.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower add 02ab…@tower.example          somebody's tower: it can read nothing before a breach\n  \
    leyden tower add --own 02ab…@10.0.0.2:9911    your second machine: it covers every output\n  \
    leyden tower list                             where they are, and what they hold\n  \
    leyden tower coverage                         which states of which channel are covered\n  \
    leyden tower audit 02ab                       have a tower show that it has what it signed for\n  \
    leyden tower info                             where clients reach the tower that this node runs (leydend --tower)\n  \
    leyden tower stats                            what this node's towers hold, and what it guards for others")]
pub struct Tower {
    #[command(subcommand)]
    command: TowerCommand,
}

#[derive(Debug, Subcommand)]
enum TowerCommand {
    Add(add::Add),
    Remove(remove::Remove),
    Deactivate(deactivate::Deactivate),
    List(list::List),
    Coverage(coverage::Coverage),
    Audit(audit::Audit),
    Info(info::Info),
    Stats(stats::Stats),
}

impl Tower {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.command {
            TowerCommand::Add(command) => command.run(context).await,
            TowerCommand::Remove(command) => command.run(context).await,
            TowerCommand::Deactivate(command) => command.run(context).await,
            TowerCommand::List(command) => command.run(context).await,
            TowerCommand::Coverage(command) => command.run(context).await,
            TowerCommand::Audit(command) => command.run(context).await,
            TowerCommand::Info(command) => command.run(context).await,
            TowerCommand::Stats(command) => command.run(context).await,
        }
    }
}

/// The key of the tower that begins so.
async fn find(client: &Client, wanted: &str) -> Result<String, CliError> {
    let towers = client.towers().list_towers(ListTowersRequest {}).await?.into_inner().towers;
    // People copy what `tower add` takes.
    let wanted = wanted.split('@').next().unwrap_or_default().to_lowercase();
    one_of(towers.iter().map(|tower| tower.pubkey.as_str()), &wanted)
}

fn one_of<'a>(keys: impl Iterator<Item = &'a str>, wanted: &str) -> Result<String, CliError> {
    let mut found: Vec<&str> = keys.filter(|key| !wanted.is_empty() && key.starts_with(wanted)).collect();
    found.dedup();
    match found.as_slice() {
        [key] => Ok((*key).to_owned()),
        [] => Err(CliError::Usage(format!("no tower's key begins with \"{wanted}\": see `leyden tower list`"))),
        [_, ..] => Err(CliError::Usage(format!("several towers' keys begin with \"{wanted}\": give more of it"))),
    }
}

fn key_bytes(key: &str) -> Result<Vec<u8>, CliError> {
    hex::decode(key).map_err(|_| CliError::Usage(format!("\"{key}\" is no key: it has 66 hex digits")))
}

/// Whose a tower is, in a word.
fn whose(own: bool) -> &'static str {
    if own { "own" } else { "blind" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_is_found_by_the_beginning_of_its_key() {
        let keys = ["02aabb", "02aacc", "03dd"];
        assert_eq!(one_of(keys.into_iter(), "03").unwrap(), "03dd");
        assert_eq!(one_of(keys.into_iter(), "02aabb").unwrap(), "02aabb");
        for wanted in ["02aa", "04", ""] {
            assert!(one_of(keys.into_iter(), wanted).is_err(), "{wanted}");
        }
        assert!(one_of(["02aa", "02aa"].into_iter(), "02").is_ok(), "one tower");
    }
}
