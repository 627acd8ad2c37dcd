//! `leyden exportchanbackup`: what brings the channels' money home if this machine is lost.

use std::path::PathBuf;

use clap::Args;
use leyden_proto::lnrpc::{ChanBackupExportRequest, ExportChannelBackupRequest};

use super::{CliError, Context, closechannel};
use leyden_common::files::write_new;

/// Export the channel backup: with it and the 24 words the channels' money can be recovered.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden exportchanbackup --output-file /media/stick/channel.backup\n  \
    leyden exportchanbackup 4a5e1e4b                                one channel, as hex\n\n\
    leydend keeps the same in the file channel.backup beside the wallet, and writes it anew whenever a channel is opened\n\
    or has ended. Nobody can read it without the seed. `leyden restorechanbackup` is the way back.")]
pub struct ExportChanBackup {
    /// The channel point TXID:INDEX, or the beginning of it [default: all channels]
    #[arg(conflicts_with = "all")]
    channel_point: Option<String>,
    /// All channels
    #[arg(long)]
    all: bool,
    /// Write it here instead of printing it
    #[arg(long, alias = "output_file", value_name = "FILE")]
    output_file: Option<PathBuf>,
}

impl ExportChanBackup {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let sealed = match &self.channel_point {
            Some(point) => {
                let chan_point = Some(closechannel::find_point(&client, point).await?);
                let request = ExportChannelBackupRequest { chan_point };
                let backup = client.lightning().export_channel_backup(request).await?.into_inner();
                if self.output_file.is_none() {
                    return context.show(&backup, || hex::encode(&backup.chan_backup));
                }
                backup.chan_backup
            }
            None => {
                let backups =
                    client.lightning().export_all_channel_backups(ChanBackupExportRequest {}).await?.into_inner();
                let all = backups.multi_chan_backup.clone().unwrap_or_default();
                if self.output_file.is_none() {
                    return context.show(&backups, || hex::encode(&all.multi_chan_backup));
                }
                all.multi_chan_backup
            }
        };
        let Some(path) = self.output_file else { return Ok(()) };
        write_new(&path, &sealed).map_err(|source| CliError::Io { what: path.display().to_string(), source })?;
        let value = serde_json::json!({ "output_file": path, "bytes": sealed.len() });
        context.show_value(&value, || format!("{} bytes in {}", sealed.len(), path.display()))
    }
}
