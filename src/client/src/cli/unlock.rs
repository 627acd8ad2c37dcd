//! `leyden unlock`: open the wallet.

use clap::Args;
use leyden_proto::lnrpc::UnlockWalletRequest;

use super::{CliError, Context, password::PasswordArgs};

/// Unlock the wallet after the daemon was started.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden unlock                              asks for the password\n  \
    leyden unlock --password-file ~/.leyden-pw\n  \
    leyden unlock --recovery-window 5000       and rescan the whole chain for lost coins")]
pub struct Unlock {
    #[command(flatten)]
    password: PasswordArgs,
    /// Scan the whole chain again, with this recovery window: how many unused addresses in a row to look for
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    recovery_window: i32,
}

impl Unlock {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let wallet_password = self.password.read()?.to_vec();
        let request =
            UnlockWalletRequest { wallet_password, recovery_window: self.recovery_window, ..Default::default() };
        let answer = client.unlocker().unlock_wallet(request).await?.into_inner();
        context.show(&answer, || {
            let opened = "The wallet is open.";
            match self.recovery_window {
                0 => opened.to_owned(),
                _ => {
                    format!("{opened} It looks at the whole chain again: `leyden recoveryinfo` shows how far that is.")
                }
            }
        })
    }
}
