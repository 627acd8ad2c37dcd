//! `leyden listchaintxns`: the wallet's transactions.

use clap::Args;
use leyden_proto::lnrpc::{GetTransactionsRequest, TransactionDetails};

use super::{CliError, Context, amount, format, table};

/// List the transactions that moved the wallet's coins, newest first.
#[derive(Debug, Args)]
pub struct ListChainTxns {
    /// From this height
    #[arg(long, alias = "start_height", default_value_t = 0)]
    start_height: i32,
    /// Up to this height; -1 is the tip and what is not confirmed
    #[arg(long, alias = "end_height", default_value_t = -1, allow_negative_numbers = true)]
    end_height: i32,
    /// Show at most this many; 0: all
    #[arg(long, alias = "max_transactions", default_value_t = 0)]
    max_transactions: u32,
    /// Skip this many of the newest
    #[arg(long, alias = "index_offset", default_value_t = 0)]
    index_offset: u32,
}

impl ListChainTxns {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = GetTransactionsRequest {
            start_height: self.start_height,
            end_height: self.end_height,
            index_offset: self.index_offset,
            max_transactions: self.max_transactions,
            account: String::new(),
        };
        let details = context.client().await?.lightning().get_transactions(request).await?.into_inner();
        context.show(&details, || for_people(&details))
    }
}

fn for_people(details: &TransactionDetails) -> String {
    let row = |tx: &leyden_proto::lnrpc::Transaction| {
        [
            tx.tx_hash.clone(),
            amount::grouped(tx.amount),
            amount::grouped(tx.total_fees),
            if tx.block_height == 0 { "-".to_owned() } else { tx.block_height.to_string() },
            tx.num_confirmations.to_string(),
            format::time(tx.time_stamp),
            tx.label.clone(),
        ]
    };
    let headings = ["transaction", ">sat", ">fee", ">height", ">conf.", "time (UTC)", "label"];
    table::list(headings, details.transactions.iter().map(row).collect(), "The wallet has no transactions.")
}
