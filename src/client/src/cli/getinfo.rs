//! `leyden getinfo`: the node at a glance.

use clap::Args;
use leyden_proto::{
    leyden::{GetRecoveryRequest, GetTipRequest, GetTipResponse, ListWarningsRequest},
    lnrpc::{GetInfoRequest, GetInfoResponse},
};

use super::{CliError, Context, format, recoveryinfo, table};

/// Show this node's identity, its channels and the state of its chain.
#[derive(Debug, Args)]
pub struct GetInfo {}

impl GetInfo {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let info = client.lightning().get_info(GetInfoRequest {}).await?.into_inner();
        // A token may allow the one call and not the other.
        let tip = client.chain().get_tip(GetTipRequest {}).await.map(tonic::Response::into_inner).ok();
        let warnings = match context.is_json() {
            true => Vec::new(),
            false => client.channels().list_warnings(ListWarningsRequest {}).await?.into_inner().warnings,
        };
        let recovery = client.wallet().get_recovery(GetRecoveryRequest {}).await.map(tonic::Response::into_inner).ok();
        let lost = recovery.as_ref().and_then(recoveryinfo::lost_channels);
        context.show(&info, || {
            let lost = lost.map(|lost| format!("\n\n{lost}")).unwrap_or_default();
            for_people(&info, tip.as_ref()) + &format::warnings(&warnings) + &lost
        })
    }
}

fn for_people(info: &GetInfoResponse, tip: Option<&GetTipResponse>) -> String {
    let chain = match tip {
        Some(tip) if !tip.current => format!("not relied on, so nothing is paid, taken or opened: {}", tip.doubt),
        Some(_) | None if info.synced_to_chain => "synced".to_owned(),
        Some(_) | None => "catching up".to_owned(),
    };
    let network = info.chains.first().map(|chain| chain.network.clone()).unwrap_or_default();
    table::facts([
        ("node", info.identity_pubkey.clone()),
        ("alias", info.alias.clone()),
        ("network", network),
        ("address", if info.uris.is_empty() { "-".to_owned() } else { info.uris.join(" ") }),
        ("peers", info.num_peers.to_string()),
        (
            "channels",
            format!(
                "{} active, {} inactive, {} pending",
                info.num_active_channels, info.num_inactive_channels, info.num_pending_channels
            ),
        ),
        ("chain", chain),
        ("height", info.block_height.to_string()),
        ("tip", info.block_hash.clone()),
        ("tip time", format::time(info.best_header_timestamp)),
        ("version", info.version.clone()),
    ])
}
