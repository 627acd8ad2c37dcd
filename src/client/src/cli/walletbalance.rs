//! `leyden walletbalance`: the money on the chain.

use clap::Args;
use leyden_proto::lnrpc::WalletBalanceRequest;

use leyden_common::names::IMMATURE;

use super::{CliError, Context, amount, table};

/// Show the wallet's on-chain balance, without channels.
#[derive(Debug, Args)]
pub struct WalletBalance {
    /// Confirmations from which a coin counts as confirmed
    #[arg(long, alias = "min_confs", default_value_t = 1)]
    min_confs: i32,
    /// The only account is the default one
    #[arg(long, default_value = "", hide = true)]
    account: String,
}

impl WalletBalance {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = WalletBalanceRequest { min_confs: self.min_confs, account: self.account };
        let balance = context.client().await?.lightning().wallet_balance(request).await?.into_inner();
        let mined = balance.account_balance.get(IMMATURE).map_or(0, |account| account.unconfirmed_balance);
        context.show(&balance, || {
            table::facts([
                ("confirmed", amount::sat(balance.confirmed_balance)),
                ("unconfirmed", amount::sat(balance.unconfirmed_balance)),
                ("total", amount::sat(balance.total_balance)),
                ("mined, spendable after 100 blocks", amount::sat(mined)),
                ("locked for pending transactions", amount::sat(balance.locked_balance)),
                ("reserved for anchor channels", reserved(balance.reserved_balance_anchor_chan, balance.total_balance)),
            ])
        })
    }
}

/// What is to be reserved; if the wallet has less, how much of it is there.
fn reserved(wanted: i64, total: i64) -> String {
    if total < wanted { format!("{} of {}", amount::sat(total), amount::sat(wanted)) } else { amount::sat(wanted) }
}
