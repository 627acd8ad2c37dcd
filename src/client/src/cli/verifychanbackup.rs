//! `leyden verifychanbackup`: whether a channel backup would do.

use clap::Args;
use leyden_common::names::SWAPS;
use leyden_proto::lnrpc::{ChanBackupSnapshot, MultiChanBackup};

use super::{CliError, Context, backup::BackupArgs, format};

/// Check that a channel backup is complete and belongs to this wallet, list its channels, and count its swaps.
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
        let answer = context.client().await?.lightning().verify_chan_backup(request).await?;
        // Daemons before this said nothing of them.
        let swaps = answer.metadata().get(SWAPS).and_then(|swaps| swaps.to_str().ok()?.parse().ok());
        let answer = answer.into_inner();
        context.show(&answer, || for_people(&answer.chan_points, swaps))
    }
}

fn for_people(channels: &[String], swaps: Option<u32>) -> String {
    let swaps = match swaps {
        None | Some(0) => String::new(),
        Some(count) => format!(" It holds {}, which would go on.", format::counted(count, "swap")),
    };
    match u32::try_from(channels.len()).unwrap_or(u32::MAX) {
        0 => format!("The backup is good; there is no channel in it.{swaps}"),
        count => format!("The backup is good.{swaps} {}:\n{}", format::counted(count, "channel"), channels.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_tells_of_channels_and_of_swaps() {
        let channels = ["ab:0".to_owned(), "cd:1".to_owned()];
        assert_eq!(for_people(&channels, None), "The backup is good. 2 channels:\nab:0\ncd:1");
        assert_eq!(
            for_people(&channels[..1], Some(1)),
            "The backup is good. It holds 1 swap, which would go on. 1 channel:\nab:0"
        );
        assert_eq!(for_people(&[], Some(0)), "The backup is good; there is no channel in it.");
        let only = for_people(&[], Some(2));
        assert_eq!(only, "The backup is good; there is no channel in it. It holds 2 swaps, which would go on.");
    }
}
