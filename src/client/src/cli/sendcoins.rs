//! `leyden sendcoins`: pay on the chain.

use clap::Args;
use leyden_proto::lnrpc::{GetTransactionsRequest, OutPoint, SendCoinsRequest};

use super::{
    CliError, Context,
    amount::{self, Sat},
    chain::broadcast_note,
};
use crate::client::Client;

/// Send coins to an on-chain address.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden sendcoins bcrt1q… 150,000\n  \
    leyden sendcoins bcrt1q… 0.0015btc --sat-per-vbyte 5\n  \
    leyden sendcoins bcrt1q… --sweepall       everything; the fee is taken from it\n\n\
    10,000 sat a channel with anchors (100,000 at most) stay in the wallet: they pay for claims, should\n\
    one have to be closed on the chain.")]
pub struct SendCoins {
    /// The address
    addr: String,
    /// How much: satoshi, or coins such as 0.01btc
    #[arg(required_unless_present = "sweepall", conflicts_with = "sweepall")]
    amt: Option<Sat>,
    /// Send everything except the reserve for anchor channels
    #[arg(long)]
    sweepall: bool,
    #[command(flatten)]
    fee: FeeArgs,
    /// A label for the transaction
    #[arg(long, default_value = "")]
    label: String,
    /// Only spend coins with so many confirmations
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    min_confs: i32,
    /// Spend this coin, TXID:INDEX; may be given more than once
    #[arg(long, value_name = "COIN", value_parser = coin)]
    utxo: Vec<OutPoint>,
    /// Also spend coins that are not confirmed
    #[arg(long, alias = "spend_unconfirmed")]
    spend_unconfirmed: bool,
    /// Also spend the reserve for anchor channels, which pays for fee bumps after a force close
    #[arg(long, alias = "spend_reserve")]
    spend_reserve: bool,
    /// Send it even if the fee is more than half of what is sent
    #[arg(long)]
    yes: bool,
}

/// How a transaction's fee is chosen.
#[derive(Debug, Args)]
pub(super) struct FeeArgs {
    /// Fee rate, satoshi per virtual byte [default: the node's estimate]
    #[arg(long, alias = "sat_per_vbyte", value_name = "RATE", default_value_t = 0, hide_default_value = true)]
    pub sat_per_vbyte: u64,
    /// Blocks within which it should confirm
    #[arg(
        long,
        alias = "conf_target",
        value_name = "BLOCKS",
        default_value_t = 0,
        hide_default_value = true,
        conflicts_with = "sat_per_vbyte"
    )]
    pub conf_target: i32,
}

impl SendCoins {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = SendCoinsRequest {
            addr: self.addr,
            amount: self.amt.map_or(0, |amount| amount.0),
            send_all: self.sweepall,
            target_conf: self.fee.conf_target,
            sat_per_vbyte: self.fee.sat_per_vbyte,
            label: self.label,
            spend_unconfirmed: self.spend_unconfirmed,
            min_confs: self.min_confs,
            outpoints: self.utxo,
            ..Default::default()
        };
        let client = context.client().await?.spending_reserve(self.spend_reserve).refusing_high_fee(!self.yes);
        let answer = client.lightning().send_coins(request).await?.into_inner();
        let mut text = answer.txid.clone();
        if !context.is_json() {
            let sent = sent(&client, &answer.txid).await.map(|sent| format!("\n{sent}")).unwrap_or_default();
            text += &format!("{sent}\n{}", broadcast_note(&client, "the transaction").await);
        }
        context.show(&answer, || text)
    }
}

/// A coin of the wallet, TXID:INDEX.
pub(super) fn coin(text: &str) -> Result<OutPoint, String> {
    let outpoint: bitcoin::OutPoint =
        text.parse().map_err(|_| format!("\"{text}\" is no coin: `leyden listunspent` shows them as TXID:INDEX"))?;
    Ok(OutPoint { txid_str: outpoint.txid.to_string(), output_index: outpoint.vout, ..Default::default() })
}

/// What the wallet says of a transaction that it has just sent, while that is unconfirmed.
async fn sent(client: &Client, txid: &str) -> Option<String> {
    // No block is so high: only what is unconfirmed.
    let request = GetTransactionsRequest { start_height: i32::MAX, ..Default::default() };
    let list = client.lightning().get_transactions(request).await.ok()?.into_inner().transactions;
    let transaction = list.into_iter().find(|transaction| transaction.tx_hash == txid)?;
    let fee = transaction.total_fees;
    // To ourselves, only the fee has gone.
    let sent = transaction.amount.saturating_neg().saturating_sub(fee).max(0);
    Some(format!("{} sent, and a fee of {} paid", amount::sat(sent), amount::sat(fee)))
}
