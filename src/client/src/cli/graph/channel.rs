//! `leyden graph channel`: one channel.

use clap::Args;
use leyden_proto::lnrpc::ChanInfoRequest;

use super::{CliError, Context, amount, format, table, terms};

/// Show a channel: its two nodes, and the fees that each asks for.
#[derive(Debug, Args)]
pub(super) struct Channel {
    /// Its id, as 103x1x0 or as a number, or its funding output as txid:index
    channel: String,
}

impl Channel {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.lightning().get_chan_info(named(&self.channel)?).await?.into_inner();
        context.show(&answer, || {
            table::facts([
                ("id", format!("{} ({})", format::scid(answer.channel_id), answer.channel_id)),
                ("funding output", answer.chan_point.clone()),
                ("capacity", amount::sat(answer.capacity)),
                ("node 1", answer.node1_pub.clone()),
                ("asks", terms(answer.node1_policy.as_ref())),
                ("node 2", answer.node2_pub.clone()),
                ("asks", terms(answer.node2_policy.as_ref())),
            ])
        })
    }
}

fn named(text: &str) -> Result<ChanInfoRequest, CliError> {
    if text.contains(':') {
        return Ok(ChanInfoRequest { chan_point: text.to_owned(), ..Default::default() });
    }
    match format::channel_id(text) {
        Ok(chan_id) => Ok(ChanInfoRequest { chan_id, ..Default::default() }),
        Err(_) => Err(CliError::Usage(format!(
            "\"{text}\" is no channel: write its id as 103x1x0 or as a number, or its funding output as txid:index"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_named_in_any_of_three_ways() {
        let number = (103 << 40) | (1 << 16);
        assert_eq!(named("103x1x0").unwrap().chan_id, number);
        assert_eq!(named(&number.to_string()).unwrap().chan_id, number);
        assert_eq!(named("ab:1").unwrap().chan_point, "ab:1");
        for wrong in ["", "103x1", "x", "99999999x1x0", "1x2x99999"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
