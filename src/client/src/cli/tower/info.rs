//! `leyden tower info`: where clients reach the watchtower.

use clap::Args;
use leyden_proto::watchtowerrpc::GetInfoRequest;

use super::super::{CliError, Context, table};

/// Show the watchtower's key and addresses, as its clients need them.
#[derive(Debug, Args)]
pub(super) struct Info {}

impl Info {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let info = context.client().await?.watchtower().get_info(GetInfoRequest {}).await?.into_inner();
        context.show(&info, || {
            let uris = if info.uris.is_empty() {
                "clients use the key, an @, and an address of this machine that they can reach".to_owned()
            } else {
                info.uris.join(" ")
            };
            table::facts([
                ("key", hex::encode(&info.pubkey)),
                ("listens on", info.listeners.join(" ")),
                ("for clients", uris),
            ])
        })
    }
}
