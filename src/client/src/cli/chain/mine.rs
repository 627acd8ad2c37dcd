//! `leyden chain mine start|stop`: mine in the background.

use clap::{Args, Subcommand};
use leyden_proto::leyden::{StartMiningRequest, StopMiningRequest};

use super::super::{CliError, Context};

/// Mine in the background.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden chain mine start --threads 2\n  \
    leyden chain hashrate                  how fast it goes\n  \
    leyden chain mine stop")]
pub(super) struct Mine {
    #[command(subcommand)]
    command: MineCommand,
}

#[derive(Debug, Subcommand)]
enum MineCommand {
    /// Start, or restart with other settings
    Start {
        /// Address that receives the rewards [default: this node's wallet]
        #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
        to: String,
        /// Number of threads [default: all cores]
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        threads: u32,
    },
    /// Stop
    Stop,
}

impl Mine {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        match self.command {
            MineCommand::Start { to, threads } => {
                let request = StartMiningRequest { address: to, threads };
                let answer = client.chain().start_mining(request).await?.into_inner();
                context.show(&answer, || "Mining; `leyden chain hashrate` shows how fast.".to_owned())
            }
            MineCommand::Stop => {
                let answer = client.chain().stop_mining(StopMiningRequest {}).await?.into_inner();
                context.show(&answer, || "Mining has ended.".to_owned())
            }
        }
    }
}
