//! `leyden channel …`: a channel looked at closely.

mod closed;
pub(super) mod closing;
pub(super) mod tree;

use clap::{Args, Subcommand};

use super::{CliError, Context};

/// Show one channel in detail.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden channel tree 4a5e1e4b         what it can become on the chain\n  \
    leyden channel closing               why channels close, and how far each output is\n  \
    leyden channel closed                why they ended, and what became of each output")]
pub struct Channel {
    #[command(subcommand)]
    command: ChannelCommand,
}

#[derive(Debug, Subcommand)]
enum ChannelCommand {
    Tree(tree::Tree),
    Closing(closing::Closing),
    Closed(closed::Closed),
}

impl Channel {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.command {
            ChannelCommand::Tree(command) => command.run(context).await,
            ChannelCommand::Closing(command) => command.run(context).await,
            ChannelCommand::Closed(command) => command.run(context).await,
        }
    }
}
