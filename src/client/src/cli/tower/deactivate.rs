//! `leyden tower deactivate`: a tower that gets no more backups, and stays on the list.

use clap::Args;
use leyden_proto::wtclientrpc::DeactivateTowerRequest;

use serde_json::json;

use super::{
    super::{CliError, Context, format},
    loss::Loss,
};

/// Send a watchtower no more backups, but keep what it signed for. `leyden tower add` uses it again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower deactivate 02ab        the beginning of its key will do")]
pub(super) struct Deactivate {
    /// The tower's key, or the beginning of it
    #[arg(value_name = "KEY")]
    tower: String,
}

impl Deactivate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let key = super::find(&client, &self.tower).await?;
        let loss = Loss::of(&client, &key).await;
        let request = DeactivateTowerRequest { pubkey: super::key_bytes(&key)? };
        let answer = client.watchtower_client().deactivate_tower(request).await?.into_inner();
        let more = vec![("pubkey", json!(key)), ("active", json!(false)), ("warnings", json!(loss.warnings()))];
        context.show_with(&answer, more, || {
            format!("Tower {key} gets no more backups.{}", format::warnings(&loss.warnings()))
        })
    }
}
