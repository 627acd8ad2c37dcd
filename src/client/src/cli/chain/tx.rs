//! `leyden chain tx`: one transaction.

use clap::Args;
use leyden_proto::leyden::{GetTransactionRequest, GetTransactionResponse};

use super::{
    super::{CliError, Context, amount, table},
    count,
};

/// Show one transaction, confirmed or in the mempool.
#[derive(Debug, Args)]
pub(super) struct Tx {
    /// Its id
    txid: String,
    /// Print the serialised transaction as hex, and nothing else
    #[arg(long)]
    raw: bool,
}

impl Tx {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = GetTransactionRequest { txid: self.txid };
        let transaction = context.client().await?.chain().get_transaction(request).await?.into_inner();
        context.show(
            &transaction,
            || {
                if self.raw { hex::encode(&transaction.raw_tx) } else { for_people(&transaction) }
            },
        )
    }
}

pub(super) fn for_people(transaction: &GetTransactionResponse) -> String {
    let place = match transaction.block_hash.as_str() {
        "" => "in the mempool".to_owned(),
        hash => format!("{hash} (height {}, {} confirmations)", transaction.block_height, transaction.confirmations),
    };
    let input = |outpoint: &str| if outpoint.is_empty() { "new coins".to_owned() } else { outpoint.to_owned() };
    let inputs: Vec<_> = transaction.inputs.iter().map(|from| input(&from.outpoint)).collect();
    let outputs: Vec<_> = transaction
        .outputs
        .iter()
        .map(|output| {
            let to = if output.address.is_empty() { hex::encode(&output.pk_script) } else { output.address.clone() };
            format!("{} to {to}", amount::sat(i64::try_from(output.amount_sat).unwrap_or(i64::MAX)))
        })
        .collect();
    table::facts([
        ("transaction", transaction.txid.clone()),
        ("block", place),
        ("size", format!("{} bytes, weight {}", count(transaction.size), count(transaction.weight))),
        ("inputs", inputs.join("\n")),
        ("outputs", outputs.join("\n")),
    ])
}
