//! `leyden listunspent`: the coins that can be spent.

use clap::Args;
use leyden_proto::lnrpc::{ListUnspentRequest, Utxo};

use super::{CliError, Context, amount, json, lncli, table};

/// List the coins that the wallet can spend.
#[derive(Debug, Args)]
pub struct ListUnspent {
    /// With at least this many confirmations
    #[arg(long, alias = "min_confs", default_value_t = 0)]
    min_confs: i32,
    /// With at most this many; 0: no limit
    #[arg(long, alias = "max_confs", default_value_t = 0)]
    max_confs: i32,
    /// Only those that are not confirmed
    #[arg(long, conflicts_with_all = ["min_confs", "max_confs"])]
    unconfirmed_only: bool,
}

impl ListUnspent {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request =
            ListUnspentRequest { min_confs: self.min_confs, max_confs: self.max_confs, account: String::new() };
        let mut answer = context.client().await?.lightning().list_unspent(request).await?.into_inner();
        answer.utxos.retain(|coin| !self.unconfirmed_only || coin.confirmations == 0);
        if context.is_json() {
            return context.show_value(&lncli::unspent(json::value(&answer)?), String::new);
        }
        context.show(&answer, || {
            let rows = answer.utxos.iter().map(row).collect();
            table::list(["coin", ">sat", ">conf.", "address"], rows, "The wallet has no coins.")
        })
    }
}

fn row(coin: &Utxo) -> [String; 4] {
    let outpoint = coin.outpoint.as_ref().map(|out| format!("{}:{}", out.txid_str, out.output_index));
    [
        outpoint.unwrap_or_default(),
        amount::grouped(coin.amount_sat),
        coin.confirmations.to_string(),
        coin.address.clone(),
    ]
}
