//! `leyden tower remove`: one tower less.

use clap::Args;
use leyden_proto::wtclientrpc::RemoveTowerRequest;

use serde_json::json;

use super::{
    super::{CliError, Context, format},
    loss::Loss,
};

/// Remove a watchtower: it gets no more backups, and what it signed for is forgotten.
///
/// Nothing waits for it any more. It still acts on what it has, until its term ends.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower remove 02ab        the beginning of its key will do")]
pub(super) struct Remove {
    /// The tower's key, or the beginning of it
    #[arg(value_name = "KEY")]
    tower: String,
}

impl Remove {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let key = super::find(&client, &self.tower).await?;
        let loss = Loss::of(&client, &key).await;
        let request = RemoveTowerRequest { pubkey: super::key_bytes(&key)?, address: String::new() };
        let answer = client.watchtower_client().remove_tower(request).await?.into_inner();
        let more = vec![("pubkey", json!(key)), ("warnings", json!(loss.warnings()))];
        context.show_with(&answer, more, || format!("Tower {key} is removed.{}", format::warnings(&loss.warnings())))
    }
}
