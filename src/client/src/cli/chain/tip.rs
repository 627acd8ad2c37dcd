//! `leyden chain tip`: where the chain ends.

use clap::Args;
use leyden_proto::leyden::{GetTipRequest, GetTipResponse};

use super::{
    super::{CliError, Context, table},
    count, time,
};

/// Show the tip of the chain with the most work.
#[derive(Debug, Args)]
pub(super) struct Tip {}

impl Tip {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let tip = context.client().await?.chain().get_tip(GetTipRequest {}).await?.into_inner();
        context.show(&tip, || {
            let height = match tip.syncing {
                true => format!("{} (catching up with {})", tip.height, tip.header_height),
                false => tip.height.to_string(),
            };
            let trust = if tip.current { "yes".to_owned() } else { format!("no: {}", tip.doubt) };
            table::facts([
                ("network", tip.network.clone()),
                ("height", height),
                ("synced", trust),
                ("block", tip.block_hash.clone()),
                ("time", time(tip.time)),
                ("median time", time(tip.median_time)),
                ("difficulty", format!("{:.3}", tip.difficulty)),
                ("on disk", disk(&tip)),
                ("work", format!("0x{}", tip.chain_work.trim_start_matches('0'))),
            ])
        })
    }
}

fn disk(tip: &GetTipResponse) -> String {
    let what = if tip.light { "headers, and what concerns this node" } else { "all blocks" };
    format!("{} bytes: {what}", count(tip.disk_bytes))
}
