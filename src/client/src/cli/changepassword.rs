//! `leyden changepassword`: another password for the wallet.

use std::path::PathBuf;

use clap::Args;
use leyden_common::files::write_new;
use leyden_proto::lnrpc::ChangePasswordRequest;

use super::{CliError, Context, password::PasswordArgs};

/// Put the wallet under another password, before it is unlocked, and unlock it.
///
/// Who has logged in on the page with the old one is logged out. Macaroons stay good unless --new-mac-root-key takes them back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden changepassword                      asks for the old password and the new one\n  \
    leyden changepassword --password-file old --new-password-file new\n  \
    leyden changepassword --new-mac-root-key   and makes all macaroons anew")]
pub struct ChangePassword {
    #[command(flatten)]
    password: PasswordArgs,
    /// Read the new password from the first line of this file, instead of asking for it
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Take back every macaroon but those of keys with a number of their own
    #[arg(long)]
    new_mac_root_key: bool,
    /// Take the macaroon files away and print the admin macaroon; no other copy exists
    #[arg(long)]
    stateless_init: bool,
    /// Write it to this file instead
    #[arg(long, value_name = "FILE", requires = "stateless_init")]
    save_to: Option<PathBuf>,
}

impl ChangePassword {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let current = self.password.read()?;
        let new = PasswordArgs::choose_new(self.new_password_file.as_ref())?;
        let request = ChangePasswordRequest {
            current_password: current.to_vec(),
            new_password: new.to_vec(),
            stateless_init: self.stateless_init,
            new_macaroon_root_key: self.new_mac_root_key,
        };
        let answer = client.unlocker().change_password(request).await?.into_inner();
        let mut text = "The wallet has its new password, and is open.".to_owned();
        let mut macaroon = None;
        match &self.save_to {
            Some(path) => {
                // There is no other copy of it.
                write_new(path, &answer.admin_macaroon).map_err(|error| {
                    let (path, hex) = (path.display(), hex::encode(&answer.admin_macaroon));
                    CliError::Failed(format!(
                        "the wallet has its new password, and is open, but {path} cannot be written ({error}). The admin macaroon \
                         in hex, of which no copy is kept: {hex}"
                    ))
                })?;
                text += &format!(" The admin macaroon is in {}.", path.display());
            }
            None if self.stateless_init => {
                let hex = hex::encode(&answer.admin_macaroon);
                text = format!("Admin macaroon (no copy is kept):\n{hex}\n\n{text}");
                macaroon = Some(hex);
            }
            None => {}
        }
        context.show_value(&serde_json::json!({ "admin_macaroon": macaroon }), || text)
    }
}
