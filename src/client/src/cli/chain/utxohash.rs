//! `leyden chain utxohash`: do two nodes agree?

use clap::Args;
use leyden_proto::leyden::GetUtxoSetHashRequest;

use super::{
    super::{CliError, Context, amount, table},
    count,
};

/// Show one hash of the whole UTXO set: two nodes that show the same hash agree on every unspent output.
#[derive(Debug, Args)]
pub(super) struct UtxoHash {}

impl UtxoHash {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let set = context.client().await?.chain().get_utxo_set_hash(GetUtxoSetHashRequest {}).await?.into_inner();
        context.show(&set, || {
            table::facts([
                ("hash", set.hash.clone()),
                ("at block", format!("{} (height {})", set.block_hash, set.height)),
                ("outputs", count(set.output_count)),
                ("total", amount::sat(i64::try_from(set.total_amount_sat).unwrap_or(i64::MAX))),
            ])
        })
    }
}
