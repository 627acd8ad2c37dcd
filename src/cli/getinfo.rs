//! `leyden getinfo`: the node at a glance.

use clap::Args;
use leyden_proto::lnrpc::{GetInfoRequest, GetInfoResponse};

use super::{CliError, Context, format, table};

/// Show who this node is, and how far its chain has come.
#[derive(Debug, Args)]
pub struct GetInfo {}

impl GetInfo {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let info = context.client().await?.lightning().get_info(GetInfoRequest {}).await?.into_inner();
        context.show(&info, || for_people(&info))
    }
}

fn for_people(info: &GetInfoResponse) -> String {
    let synced = if info.synced_to_chain { "" } else { " (catching up)" };
    let network = info.chains.first().map(|chain| chain.network.clone()).unwrap_or_default();
    table::facts([
        ("node", info.identity_pubkey.clone()),
        ("alias", info.alias.clone()),
        ("network", network),
        ("address", if info.uris.is_empty() { "-".to_owned() } else { info.uris.join("\n") }),
        ("peers", info.num_peers.to_string()),
        (
            "channels",
            format!(
                "{} active, {} inactive, {} pending",
                info.num_active_channels, info.num_inactive_channels, info.num_pending_channels
            ),
        ),
        ("height", format!("{}{synced}", info.block_height)),
        ("tip", info.block_hash.clone()),
        ("tip time", format::time(info.best_header_timestamp)),
        ("version", info.version.clone()),
    ])
}
