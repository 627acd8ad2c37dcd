//! `leyden abandonchannel`: give up a channel that nothing can close.

use clap::Args;
use leyden_proto::lnrpc::AbandonChannelRequest;

use super::{CliError, Context, channel, closechannel};

/// Forget a channel without closing it: what it holds is lost, unless the chain never has its funding transaction.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden abandonchannel 4a5e1e4b:0          says what it would cost\n  \
    leyden abandonchannel 4a5e1e4b:0 --yes    does it\n\n\
    A channel whose funding transaction was double-spent ends by itself, 100 blocks later. Abandon one only if its\n\
    funding transaction can never be confirmed; in all other cases `leyden closechannel` or `leyden closechannel --force`\n\
    gets the money out. Once a channel is forgotten, nobody here watches what the other node does to it.")]
pub struct AbandonChannel {
    /// The channel point TXID:INDEX, or the beginning of it
    channel_point: String,
    /// Yes: all that it holds may be lost
    #[arg(long)]
    yes: bool,
}

impl AbandonChannel {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let whole = channel::tree::find(&client, &self.channel_point).await?;
        if !self.yes {
            let text = "An abandoned channel is forgotten, not closed. Whatever it holds is lost, the payments under way in it \
                count as failed, and the other node may take everything. If its funding transaction is in a block, or may \
                still get into one, use `leyden closechannel` or `leyden closechannel --force` instead.\nTo abandon it all \
                the same, add --yes.";
            return Err(CliError::Usage(text.to_owned()));
        }
        let request = AbandonChannelRequest {
            channel_point: Some(closechannel::find_point(&client, &whole).await?),
            i_know_what_i_am_doing: true,
            ..Default::default()
        };
        let answer = client.lightning().abandon_channel(request).await?.into_inner();
        context.show(&answer, || answer.status.clone())
    }
}
