//! `leyden chain send`: send a transaction made elsewhere.

use clap::Args;
use leyden_proto::leyden::SubmitTransactionRequest;

use super::super::{CliError, Context};

/// Check a signed transaction and broadcast it.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// The serialised transaction, hex
    #[arg(value_name = "HEX")]
    raw_tx: String,
}

impl Send {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let raw_tx = hex::decode(self.raw_tx.trim())
            .map_err(|_| CliError::Usage("the transaction must be written in hex".to_owned()))?;
        let request = SubmitTransactionRequest { raw_tx };
        let answer = context.client().await?.chain().submit_transaction(request).await?.into_inner();
        context.show(&answer, || answer.txid.clone())
    }
}
