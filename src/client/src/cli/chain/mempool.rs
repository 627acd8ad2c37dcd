//! `leyden chain mempool`: what waits for a block.

use clap::Args;
use leyden_proto::leyden::{GetMempoolRequest, GetMempoolResponse, MempoolTransaction};

use super::{
    super::{CliError, Context, table},
    count, time,
};

/// Show the mempool: the transactions that wait for a block.
#[derive(Debug, Args)]
pub(super) struct Mempool {
    /// Also list the transactions
    #[arg(long)]
    list: bool,
}

impl Mempool {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = GetMempoolRequest { include_transactions: self.list, ..Default::default() };
        let mempool = context.client().await?.chain().get_mempool(request).await?.into_inner();
        context.show(&mempool, || for_people(&mempool, self.list))
    }
}

fn for_people(mempool: &GetMempoolResponse, list: bool) -> String {
    let facts = table::facts([
        ("transactions", count(mempool.transaction_count)),
        ("size", format!("{} vB", count(mempool.virtual_size))),
        ("fees", format!("{} sat", count(mempool.total_fees_sat))),
        ("lowest rate that is taken", format!("{} sat/kvB", count(mempool.min_fee_rate_sat_per_kvb))),
    ]);
    if !list {
        return facts;
    }
    let row = |tx: &MempoolTransaction| {
        [tx.txid.clone(), count(tx.fee_sat), count(tx.virtual_size), tx.ancestor_count.to_string(), time(tx.time)]
    };
    let rows = mempool.transactions.iter().map(row).collect();
    let headings = ["transaction", ">fee, sat", ">vB", ">needs", "since (UTC)"];
    format!("{facts}\n\n{}", table::list(headings, rows, "Nothing waits."))
}
