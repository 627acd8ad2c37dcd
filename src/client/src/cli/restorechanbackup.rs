//! `leyden restorechanbackup`: get the money of lost channels back.

use clap::Args;
use leyden_proto::lnrpc::{RestoreChanBackupRequest, restore_chan_backup_request::Backup};

use super::{CliError, Context, backup::BackupArgs};

/// Recover channels of which only a backup is left: this node asks their peers to close them, and its balance goes to
/// the wallet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden create --restore                            first the wallet, from its 24 words\n  \
    leyden restorechanbackup channel.backup\n  \
    leyden pendingchannels                             how far it is\n\n\
    Payments that were in flight when the machine was lost are not in a backup. The peer has to be\n\
    there; if it is reached at another address than before, `leyden connect` it. What a close of your\n\
    own still held back is not claimed from a backup: if the old data folder is still there, keep it.\n\n\
    Swaps that were under way are in it too, and go on: `leyden swap list`. Copies that peers have kept\n\
    hold no swaps: those come back from the file alone, or one by one with `leyden swap reclaim`.")]
pub struct RestoreChanBackup {
    #[command(flatten)]
    backup: BackupArgs,
}

impl RestoreChanBackup {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = RestoreChanBackupRequest { backup: Some(Backup::MultiChanBackup(self.backup.read()?)) };
        let answer = context.client().await?.lightning().restore_channel_backups(request).await?.into_inner();
        context.show(&answer, || match answer.num_restored {
            0 => "Every channel and swap of this backup is here already, or has ended.".to_owned(),
            count => format!(
                "{count} channels and swaps are restored. The channels' peers are asked to close them: `leyden \
                 pendingchannels` shows how far that is. The swaps go on: `leyden swap list`."
            ),
        })
    }
}
