//! `leyden graph info`: the network in numbers.

use clap::Args;
use leyden_proto::lnrpc::NetworkInfoRequest;

use super::{CliError, Context, amount, table};

/// Show how large the network is: nodes, channels and capacity.
#[derive(Debug, Args)]
pub(super) struct Info {}

impl Info {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.lightning().get_network_info(NetworkInfoRequest {}).await?.into_inner();
        context.show(&answer, || {
            table::facts([
                ("nodes", answer.num_nodes.to_string()),
                ("channels", answer.num_channels.to_string()),
                ("of them unusable", answer.num_zombie_chans.to_string()),
                ("capacity", amount::sat(answer.total_network_capacity)),
                ("median channel", amount::sat(answer.median_channel_size_sat)),
                ("largest channel", amount::sat(answer.max_channel_size)),
                ("channels of a node", format!("{:.1}, at most {}", answer.avg_out_degree, answer.max_out_degree)),
                ("from end to end", format!("{} channels", answer.graph_diameter)),
            ])
        })
    }
}
