//! `leyden unlock`: open the wallet.

use clap::Args;
use leyden_proto::lnrpc::UnlockWalletRequest;

use super::{CliError, Context, password::PasswordArgs};

/// Open the wallet after the node was started.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden unlock                              asks for the password\n  \
    leyden unlock --password-file ~/.leyden-pw")]
pub struct Unlock {
    #[command(flatten)]
    password: PasswordArgs,
}

impl Unlock {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let wallet_password = self.password.read()?.to_vec();
        let request = UnlockWalletRequest { wallet_password, ..Default::default() };
        let answer = client.unlocker().unlock_wallet(request).await?.into_inner();
        context.show(&answer, || "The wallet is open.".to_owned())
    }
}
