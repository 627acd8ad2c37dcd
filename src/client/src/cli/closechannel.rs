//! `leyden closechannel`: get the coins out of a channel.

use clap::Args;
use leyden_channels::types::ChannelId;
use leyden_proto::lnrpc::{
    ChannelPoint, CloseChannelRequest, ListChannelsRequest, PendingChannelsRequest, channel_point::FundingTxid,
    close_status_update::Update,
};

use super::{CliError, Context, chain::broadcast_note, format, sendcoins::FeeArgs};
use crate::client::Client;

/// Close a channel, cooperatively or by force.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden closechannel 4a5e1e4b:0          the beginning of the channel point will do\n  \
    leyden closechannel 4a5e1e4b --wait     until the closing transaction is confirmed\n  \
    leyden closechannel 4a5e1e4b --sat-per-vbyte 20   again: the closing transaction pays more\n  \
    leyden closechannel 4a5e1e4b --force    the other node does not answer\n\n\
    A channel that was closed by force pays more with `leyden bumpfee`, given its channel point.")]
pub struct CloseChannel {
    /// The channel point TXID:INDEX, or the beginning of it
    channel_point: String,
    /// Force-close without the other node: our balance comes after a delay
    #[arg(long, conflicts_with_all = ["sat_per_vbyte", "conf_target", "delivery_addr"])]
    force: bool,
    #[command(flatten)]
    fee: FeeArgs,
    /// The highest fee rate to agree to, satoshi per virtual byte
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_fee_rate: u64,
    /// Address that receives our balance [default: a fresh address of the wallet]
    #[arg(long, alias = "delivery_addr", default_value = "", hide_default_value = true)]
    delivery_addr: String,
    /// Close even while payments are pending: the channel takes no new ones, and closes once those have ended
    #[arg(long, alias = "no_wait", conflicts_with = "force")]
    no_wait: bool,
    /// Wait until the closing transaction is confirmed
    #[arg(long, alias = "block")]
    wait: bool,
}

impl CloseChannel {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let request = CloseChannelRequest {
            channel_point: Some(find_point(&client, &self.channel_point).await?),
            force: self.force,
            sat_per_vbyte: self.fee.sat_per_vbyte,
            target_conf: self.fee.conf_target,
            delivery_address: self.delivery_addr,
            no_wait: self.no_wait,
            max_fee_per_vbyte: self.max_fee_rate,
            ..Default::default()
        };
        let waiting = context.waiting("closing");
        let mut updates = client.lightning().close_channel(request).await?.into_inner();
        while let Some(update) = updates.message().await? {
            match update.update {
                Some(Update::CloseInstant(instant)) => {
                    waiting.set_message(format!("waiting for {} payments to end", instant.num_pending_htlcs));
                }
                Some(Update::ClosePending(pending)) => {
                    let closing = format::txid(&pending.txid);
                    if !self.wait {
                        waiting.finish_and_clear();
                        let value = serde_json::json!({ "closing_txid": closing });
                        let follows =
                            if context.is_json() { String::new() } else { what_follows(&client, self.force).await };
                        return context.show_value(&value, || format!("{closing}\n{follows}"));
                    }
                    waiting.set_message(format!("{closing} is signed, waiting for confirmations"));
                }
                Some(Update::ChanClose(closed)) => {
                    waiting.finish_and_clear();
                    let closing = format::txid(&closed.closing_txid);
                    let value = serde_json::json!({ "closing_txid": closing });
                    return context.show_value(&value, || format!("{closing}\nthe channel is closed"));
                }
                None => {}
            }
        }
        let text = "the node stopped telling of the channel: `leyden pendingchannels` shows how far it came";
        Err(CliError::Failed(text.to_owned()))
    }
}

/// What a user waits for now.
async fn what_follows(client: &Client, force: bool) -> String {
    let (what, then) = if force {
        ("our commitment transaction", "the money comes back after a delay: `leyden pendingchannels` shows when")
    } else {
        ("the closing transaction", "the money is back once it is confirmed")
    };
    format!("{}; {then}", broadcast_note(client, what).await)
}

/// The channel whose point begins so.
pub(super) async fn find_point(client: &Client, wanted: &str) -> Result<ChannelPoint, CliError> {
    let (txid, output_index) = find(client, wanted).await?;
    Ok(ChannelPoint { funding_txid: Some(FundingTxid::FundingTxidStr(txid)), output_index })
}

async fn find(client: &Client, wanted: &str) -> Result<(String, u32), CliError> {
    if let Some(whole) = whole(wanted) {
        return Ok(whole);
    }
    let channels = client.lightning().list_channels(ListChannelsRequest::default()).await?.into_inner().channels;
    // One that closes already may be closed at a higher fee, or by force.
    let pending = client.lightning().pending_channels(PendingChannelsRequest::default()).await?.into_inner();
    let closing = pending.waiting_close_channels.iter().filter_map(|channel| channel.channel.as_ref());
    let points = channels.iter().map(|channel| channel.channel_point.as_str());
    one_of(points.chain(closing.map(|channel| channel.channel_point.as_str())), wanted)
}

fn whole(point: &str) -> Option<(String, u32)> {
    let (txid, index) = point.split_once(':')?;
    let is_txid = txid.len() == 64 && txid.bytes().all(|digit| digit.is_ascii_hexdigit());
    Some((txid.to_owned(), index.parse().ok()?)).filter(|_| is_txid)
}

/// The channel point that begins so, or whose channel_id it is.
pub(super) fn one_of<'a>(points: impl Iterator<Item = &'a str>, wanted: &str) -> Result<(String, u32), CliError> {
    let (beginning, index) = wanted.split_once(':').map_or((wanted, None), |(txid, index)| (txid, Some(index)));
    let beginning = beginning.trim_end_matches('…');
    let matches = |point: &&str| {
        let (txid, output) = point.split_once(':').unwrap_or((point, ""));
        // A log may name it by its BOLT 2 channel_id.
        let is_id = || point.parse().is_ok_and(|funding| ChannelId::from_funding(funding).to_string() == wanted);
        (txid.starts_with(beginning) && index.is_none_or(|index| index == output)) || is_id()
    };
    let mut found = points.filter(matches);
    match (found.next().and_then(whole), found.next()) {
        (Some(channel), None) => Ok(channel),
        (Some(_), Some(_)) => Err(CliError::Usage(format!("several channels begin with {wanted}: write more of it"))),
        (None, _) => {
            let text = format!(
                "no open channel begins with {wanted}: `leyden listchannels` lists them, `leyden pendingchannels` those \
                 that close already"
            );
            Err(CliError::Usage(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_found_by_the_beginning_of_its_point() {
        let (a, b) = (format!("{}:0", "ab".repeat(32)), format!("{}:1", "ac".repeat(32)));
        let id_of_b = format!("{}ad", "ac".repeat(31));
        let find = |wanted| one_of([a.as_str(), b.as_str()].into_iter(), wanted).map_err(|error| error.to_string());
        assert_eq!(find("ab"), Ok(("ab".repeat(32), 0)));
        assert_eq!(find("acacacacacac…:1"), Ok(("ac".repeat(32), 1)));
        assert_eq!(find(&id_of_b), Ok(("ac".repeat(32), 1)), "the channel_id, as logs and peers name it");
        assert!(find("a").unwrap_err().contains("several"));
        assert!(find("ff").unwrap_err().contains("listchannels"));
        assert!(find("ab:1").unwrap_err().contains("no open channel"));
        assert_eq!(whole(&b), Some(("ac".repeat(32), 1)));
        assert_eq!(whole("ab:0"), None);
    }
}
