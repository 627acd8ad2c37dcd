//! `leyden tower …`: the watchtower that the node runs.

mod info;
mod stats;

use clap::{Args, Subcommand};

use super::{CliError, Context};

/// Show the watchtower that this node runs for others (leydend --tower).
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower info       where clients reach it\n  \
    leyden tower stats      what it guards, and which penalties are on their way")]
pub struct Tower {
    #[command(subcommand)]
    command: TowerCommand,
}

#[derive(Debug, Subcommand)]
enum TowerCommand {
    Info(info::Info),
    Stats(stats::Stats),
}

impl Tower {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.command {
            TowerCommand::Info(command) => command.run(context).await,
            TowerCommand::Stats(command) => command.run(context).await,
        }
    }
}
