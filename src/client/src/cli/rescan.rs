//! `leyden rescan`: scan the whole chain again.

use clap::Args;
use leyden_proto::leyden::RescanRequest;

use super::{CliError, Context, recoveryinfo};

/// Scan the whole chain again for coins of this wallet, from the first block.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden rescan --recovery-window 5000     for 5,000 addresses in a row that nobody has paid\n\n\
    Until it has finished, coins are missing that were there before.")]
pub struct Rescan {
    /// How many unused addresses in a row to look for [default: as last time]
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    recovery_window: u32,
}

impl Rescan {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        client.wallet().rescan(RescanRequest { recovery_window: self.recovery_window }).await?;
        let recovery = recoveryinfo::finished(context).await?;
        context.show(&recovery, || recoveryinfo::for_people(&recovery))
    }
}
