//! `leyden closeallchannels`: lncli's command for the end of a node.

use clap::Args;
use leyden_proto::lnrpc::{Channel, CloseChannelRequest, ListChannelsRequest, close_status_update::Update};

use super::{CliError, Context, closechannel, format, sendcoins::FeeArgs};
use crate::client::Client;

/// Close all open channels: together with peers that are online, and with --force alone where they are not.
#[derive(Debug, Args)]
pub struct CloseAllChannels {
    /// Only those whose peer is offline
    #[arg(long)]
    inactive_only: bool,
    /// Close those whose peer is offline alone
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    fee: FeeArgs,
    /// Close them, and do not only tell which
    #[arg(long)]
    yes: bool,
}

impl CloseAllChannels {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let request = ListChannelsRequest { inactive_only: self.inactive_only, ..Default::default() };
        let mut channels = client.lightning().list_channels(request).await?.into_inner().channels;
        channels.retain(|channel| channel.active || self.force);
        if !self.yes {
            let of = format::counted(u64::try_from(channels.len()).unwrap_or(u64::MAX), "channel");
            let points: Vec<String> = channels.iter().map(|channel| format!("\n  {}", channel.channel_point)).collect();
            let text = format!("{of} would be closed: add --yes (lncli: --skip_confirmation){}", points.concat());
            return Err(CliError::Usage(text));
        }
        let mut failed = 0;
        for channel in channels {
            let (txid, error) = match self.close(&client, &channel).await {
                Ok(txid) => (txid, String::new()),
                Err(error) => (String::new(), error.to_string()),
            };
            failed += u32::from(!error.is_empty());
            let value = serde_json::json!({
                "remote_pub_key": channel.remote_pubkey,
                "channel_point": channel.channel_point,
                "closing_txid": txid,
                "error": error,
            });
            context.show_value(&value, || format!("{}: {txid}{error}", channel.channel_point))?;
        }
        match failed {
            0 => Ok(()),
            _ => Err(CliError::Failed(format!("{} could not be closed", format::counted(failed, "channel")))),
        }
    }

    async fn close(&self, client: &Client, channel: &Channel) -> Result<String, CliError> {
        let is_alone = !channel.active;
        let request = CloseChannelRequest {
            channel_point: Some(closechannel::find_point(client, &channel.channel_point).await?),
            force: is_alone,
            // A force close's transaction is signed already.
            sat_per_vbyte: if is_alone { 0 } else { self.fee.sat_per_vbyte },
            target_conf: if is_alone { 0 } else { self.fee.conf_target },
            ..Default::default()
        };
        let mut updates = client.lightning().close_channel(request).await?.into_inner();
        while let Some(update) = updates.message().await? {
            match update.update {
                Some(Update::ClosePending(pending)) => return Ok(format::txid(&pending.txid)),
                Some(Update::ChanClose(closed)) => return Ok(format::txid(&closed.closing_txid)),
                Some(Update::CloseInstant(_)) | None => {}
            }
        }
        Err(CliError::Failed("the node stopped telling of it".to_owned()))
    }
}
