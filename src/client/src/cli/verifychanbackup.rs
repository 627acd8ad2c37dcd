//! `leyden verifychanbackup`: whether a channel backup would do.

use clap::Args;
use leyden_proto::lnrpc::{ChanBackupSnapshot, MultiChanBackup};

use super::{CliError, Context, backup::BackupArgs};

/// Check that a channel backup is complete and belongs to this wallet, and list its channels.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden verifychanbackup channel.backup\n  \
    leyden verifychanbackup --multi_backup 4c594342…")]
pub struct VerifyChanBackup {
    #[command(flatten)]
    backup: BackupArgs,
}

impl VerifyChanBackup {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let multi_chan_backup = self.backup.read()?;
        let multi_chan_backup = Some(MultiChanBackup { multi_chan_backup, ..Default::default() });
        let request = ChanBackupSnapshot { multi_chan_backup, ..Default::default() };
        let answer = context.client().await?.lightning().verify_chan_backup(request).await?.into_inner();
        context.show(&answer, || match answer.chan_points.len() {
            0 => "The backup is good; there is no channel in it.".to_owned(),
            count => format!("The backup is good. {count} channels:\n{}", answer.chan_points.join("\n")),
        })
    }
}
