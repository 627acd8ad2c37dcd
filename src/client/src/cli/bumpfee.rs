//! `leyden bumpfee`: what waits for a block shall wait less.

use clap::Args;
use leyden_proto::{lnrpc::OutPoint, walletrpc::BumpFeeRequest};

use super::{CliError, Context, sendcoins::FeeArgs};

/// Raise the fee of an unconfirmed transaction of the wallet, or of a claim of a closed channel.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bumpfee 4a5e1e4b…:0 --sat-per-vbyte 20    a transaction that leyden sendcoins made\n  \
    leyden bumpfee 9f3c0b77…:2 --conf-target 2       an output that leyden pendingchannels shows\n  \
    leyden bumpfee 9f3c0b77…:0 --budget 5000         the channel point of one that we close alone\n\n\
    What the wallet made alone is replaced. A channel's funding, and what others sent, is pulled along\n\
    by a child. Claims of closed channels are raised by themselves as their deadline comes nearer; this\n\
    is for the impatient.")]
pub struct BumpFee {
    /// The output, TXID:INDEX
    outpoint: String,
    #[command(flatten)]
    fee: FeeArgs,
    /// The most to pay in fees, satoshi
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    budget: u64,
    /// Also spend the reserve for anchor channels, which pays for fee bumps after a force close
    #[arg(long, alias = "spend_reserve")]
    spend_reserve: bool,
}

impl BumpFee {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let usage = || CliError::Usage(format!("\"{}\" is no output; it is TXID:INDEX", self.outpoint));
        let (txid, index) = self.outpoint.split_once(':').ok_or_else(usage)?;
        let output_index = index.parse().map_err(|_| usage())?;
        let request = BumpFeeRequest {
            outpoint: Some(OutPoint { txid_str: txid.to_owned(), output_index, ..OutPoint::default() }),
            target_conf: u32::try_from(self.fee.conf_target).map_err(|_| usage())?,
            sat_per_vbyte: self.fee.sat_per_vbyte,
            budget: self.budget,
            ..BumpFeeRequest::default()
        };
        let client = context.client().await?.spending_reserve(self.spend_reserve);
        let answer = client.wallet_kit().bump_fee(request).await?.into_inner();
        context.show(&answer, || answer.status.clone())
    }
}
