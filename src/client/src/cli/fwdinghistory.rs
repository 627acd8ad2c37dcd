//! `leyden fwdinghistory`: payments that passed through.

use clap::Args;
use leyden_proto::lnrpc::{ForwardingEvent, ForwardingHistoryRequest};

use super::{CliError, Context, amount, format, table};

/// List the payments that this node has forwarded, the oldest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden fwdinghistory\n  \
    leyden fwdinghistory --start-time=-1w          since a week ago\n  \
    leyden fwdinghistory --start-time 1790000000 --max-events 50 --index-offset 50")]
pub struct FwdingHistory {
    /// From this time on: seconds since 1970, or -1w, -2d, -3h
    #[arg(long, allow_hyphen_values = true, value_parser = format::moment, default_value_t = 0, hide_default_value = true)]
    start_time: u64,
    /// Until this time [default: now]
    #[arg(long, allow_hyphen_values = true, value_parser = format::moment, default_value_t = 0, hide_default_value = true)]
    end_time: u64,
    /// How many to skip
    #[arg(long, alias = "index_offset", default_value_t = 0)]
    index_offset: u32,
    /// Show at most this many
    #[arg(long, alias = "max_events", default_value_t = 100)]
    max_events: u32,
    /// Do not look up the peers' aliases
    #[arg(long, alias = "skip_peer_alias_lookup")]
    skip_peer_alias_lookup: bool,
    /// Only those that came in through this channel; may be given more than once
    #[arg(long, value_name = "ID", value_parser = format::channel_id, value_delimiter = ',')]
    incoming_chan_ids: Vec<u64>,
    /// Only those that went out through this channel; may be given more than once
    #[arg(long, value_name = "ID", value_parser = format::channel_id, value_delimiter = ',')]
    outgoing_chan_ids: Vec<u64>,
}

impl FwdingHistory {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ForwardingHistoryRequest {
            start_time: self.start_time,
            end_time: self.end_time,
            index_offset: self.index_offset,
            num_max_events: self.max_events,
            peer_alias_lookup: !self.skip_peer_alias_lookup,
            incoming_chan_ids: self.incoming_chan_ids,
            outgoing_chan_ids: self.outgoing_chan_ids,
        };
        let answer = context.client().await?.lightning().forwarding_history(request).await?.into_inner();
        context.show(&answer, || {
            let headings = ["at (UTC)", "in through", "out through", ">in", ">out", ">earned"];
            let rows = answer.forwarding_events.iter().map(row).collect();
            table::list(headings, rows, "Nothing has been forwarded in this time.")
        })
    }
}

fn row(event: &ForwardingEvent) -> [String; 6] {
    let side = |id: u64, alias: &str| match alias {
        "" => format::scid(id),
        alias => format!("{} {alias}", format::scid(id)),
    };
    let msat = |amount: u64| amount::msat(i64::try_from(amount).unwrap_or(i64::MAX));
    [
        format::time(i64::try_from(event.timestamp_ns / 1_000_000_000).unwrap_or(i64::MAX)),
        side(event.chan_id_in, &event.peer_alias_in),
        side(event.chan_id_out, &event.peer_alias_out),
        msat(event.amt_in_msat),
        msat(event.amt_out_msat),
        msat(event.fee_msat),
    ]
}
