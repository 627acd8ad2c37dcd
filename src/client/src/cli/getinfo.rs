//! `leyden getinfo`: the node at a glance.

use clap::Args;
use leyden_proto::{
    leyden::{GetRecoveryRequest, GetTipRequest, GetTipResponse, ListWarningsRequest},
    lnrpc::{GetInfoRequest, GetInfoResponse},
};

use serde_json::json;

use super::{CliError, Context, context::if_allowed, format, recoveryinfo, table};

/// Show this node's identity, its channels, the state of its chain, and what you should do something about.
#[derive(Debug, Args)]
pub struct GetInfo {}

impl GetInfo {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let info = client.lightning().get_info(GetInfoRequest {}).await?.into_inner();
        // A macaroon may allow the one call and not the other.
        let tip = client.chain().get_tip(GetTipRequest {}).await.map(tonic::Response::into_inner).ok();
        let warnings = if_allowed(client.channels().list_warnings(ListWarningsRequest {}).await)?;
        let warnings = warnings.map(|answer| answer.warnings);
        let recovery = client.wallet().get_recovery(GetRecoveryRequest {}).await.map(tonic::Response::into_inner).ok();
        let lost = recovery.as_ref().and_then(recoveryinfo::lost_channels);
        context.show_with(&info, vec![("warnings", json!(warnings))], || {
            let lost = lost.map(|lost| format!("\n\n{lost}")).unwrap_or_default();
            let warnings = match &warnings {
                Some(warnings) => format::warnings(warnings),
                None => format!("\n\n{}", format::not_allowed("warnings", "offchain:read")),
            };
            for_people(&info, tip.as_ref()) + &warnings + &lost
        })
    }
}

fn for_people(info: &GetInfoResponse, tip: Option<&GetTipResponse>) -> String {
    let chain = match tip {
        Some(tip) if !tip.current => format!("not synced, so nothing is paid, taken or opened: {}", tip.doubt),
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
