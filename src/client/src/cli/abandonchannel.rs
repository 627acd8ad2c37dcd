//! `leyden abandonchannel`: give up a channel that nothing can close.

use clap::Args;
use leyden_proto::lnrpc::{
    AbandonChannelRequest, ListChannelsRequest, PendingChannelsRequest, pending_channels_response::PendingChannel,
};

use super::{CliError, Context, amount, channel, closechannel};
use crate::client::Client;

/// Forget a channel without closing it: what it holds is lost, unless the chain never has its funding transaction.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden abandonchannel 4a5e1e4b:0          says what it would cost\n  \
    leyden abandonchannel 4a5e1e4b:0 --yes    does it\n\n\
    A channel whose funding transaction was double-spent ends by itself, 100 blocks later. Abandon one\n\
    only if its funding transaction can never be confirmed; in all other cases `leyden closechannel`\n\
    or `leyden closechannel --force` gets the money out. Once a channel is forgotten, nobody here\n\
    watches what the other node does to it.")]
pub struct AbandonChannel {
    /// The channel point TXID:INDEX, or the beginning of it
    channel_point: String,
    /// Confirm that all money in it may be lost
    #[arg(long)]
    yes: bool,
}

impl AbandonChannel {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let whole = channel::tree::find(&client, &self.channel_point).await?;
        if !self.yes {
            let ours = amount::sat(at_stake(&client, &whole).await?);
            let text = format!(
                "An abandoned channel is forgotten, not closed. Whatever it holds ({ours} of it ours, as far as is known) is \
                 lost, the payments in flight in it count as failed, and the other node may take everything. If its funding \
                 transaction is in a block, or may still get into one, use `leyden closechannel` or `leyden closechannel \
                 --force` instead.\nTo abandon it all the same, add --yes."
            );
            return Err(CliError::Usage(text));
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

/// What is ours in a channel, and in the payments in flight in it, in satoshi.
async fn at_stake(client: &Client, point: &str) -> Result<i64, CliError> {
    let open = client.lightning().list_channels(ListChannelsRequest::default()).await?.into_inner().channels;
    if let Some(channel) = open.iter().find(|channel| channel.channel_point == point) {
        return Ok(channel.local_balance.saturating_add(channel.unsettled_balance));
    }
    let pending = client.lightning().pending_channels(PendingChannelsRequest::default()).await?.into_inner();
    let opening = pending.pending_open_channels.iter().map(|one| {
        let ours = one.channel.as_ref().map_or(0, |channel| channel.local_balance);
        (&one.channel, ours)
    });
    let waiting = pending.waiting_close_channels.iter().map(|one| (&one.channel, one.limbo_balance));
    let forced = pending.pending_force_closing_channels.iter().map(|one| (&one.channel, one.limbo_balance));
    let is_it =
        |channel: &Option<PendingChannel>| channel.as_ref().is_some_and(|channel| channel.channel_point == point);
    Ok(opening.chain(waiting).chain(forced).find(|one| is_it(one.0)).map_or(0, |one| one.1))
}
