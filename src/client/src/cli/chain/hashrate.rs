//! `leyden chain hashrate`: how fast the node mines.

use clap::Args;
use leyden_proto::leyden::GetMiningInfoRequest;

use super::{
    super::{CliError, Context, amount, table},
    count,
};

/// Show this node's hash rate and the chain's difficulty.
#[derive(Debug, Args)]
pub(super) struct Hashrate {}

impl Hashrate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let info = context.client().await?.chain().get_mining_info(GetMiningInfoRequest {}).await?.into_inner();
        context.show(&info, || {
            let mining = match info.mining {
                true => format!(
                    "{} on {} threads ({})",
                    amount::hash_rate(info.hashes_per_second),
                    info.threads,
                    info.kernel
                ),
                false => "no: `leyden chain mine start` begins".to_owned(),
            };
            let reward = if info.address.is_empty() { "-".to_owned() } else { info.address.clone() };
            table::facts([
                ("mining", mining),
                ("rewards go to", reward),
                ("blocks found", count(info.blocks_found)),
                ("height", info.height.to_string()),
                ("difficulty", format!("{:.3}", info.difficulty)),
                ("all miners", amount::hash_rate(info.network_hashes_per_second)),
            ])
        })
    }
}
