//! `leyden create`: make the wallet.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use leyden_proto::lnrpc::{ChanBackupSnapshot, GenSeedRequest, InitWalletRequest, MultiChanBackup};
use zeroize::Zeroizing;

use super::{CliError, Context, backup, password::PasswordArgs};

/// Create this node's wallet, from new seed words or from words that you have.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden create                                  new words; asks for a password\n  \
    leyden create --restore                        asks for the 24 words of an old wallet\n  \
    leyden create --restore --multi-file channel.backup    and the channels in this backup\n  \
    leyden create --password-file pw --words-file words --recovery-window 1000")]
pub struct Create {
    #[command(flatten)]
    password: PasswordArgs,
    /// Restore a wallet: ask for its 24 words
    #[arg(long)]
    restore: bool,
    /// Read those words from a file
    #[arg(long, value_name = "FILE")]
    words_file: Option<PathBuf>,
    /// How many addresses to look for on the chain when restoring
    #[arg(long, value_name = "COUNT")]
    recovery_window: Option<i32>,
    /// Also recover the money of lost channels, with this channel backup
    #[arg(long, alias = "multi_file", value_name = "FILE")]
    multi_file: Option<PathBuf>,
    /// How keys follow from the words of an old wallet: by the chain, as those of a new wallet on a network of your own, or by
    /// the coin type, as on regtest and `leyden`, and on every network by versions without this choice
    /// [default: as a new wallet on this network]
    #[arg(long, value_name = "BY")]
    keys: Option<Keys>,
    /// Print the admin macaroon instead of writing it to the data directory; no other copy exists
    #[arg(long)]
    stateless_init: bool,
}

/// How keys follow from words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Keys {
    /// By the coin type alone.
    Coin,
    /// By the chain's genesis block.
    Chain,
}

impl Keys {
    fn name(self) -> &'static str {
        match self {
            Self::Coin => "coin",
            Self::Chain => "chain",
        }
    }
}

/// The look-ahead when restoring, if none was named.
const RECOVERY_WINDOW: i32 = 1000;

impl Create {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let old_words = self.old_words()?;
        let password = self.password.choose()?;
        let restoring = old_words.is_some();
        let client = match self.keys {
            Some(_) if !restoring => {
                return Err(CliError::Usage("--keys is for words that you have: add --restore".to_owned()));
            }
            Some(keys) => client.with_keys_by(keys.name()),
            None => client,
        };
        let words = match old_words {
            Some(words) => words,
            None => client.unlocker().gen_seed(GenSeedRequest::default()).await?.into_inner().cipher_seed_mnemonic,
        };
        let channel_backups = match &self.multi_file {
            Some(path) => {
                let multi_chan_backup = backup::read_file(path)?;
                let multi_chan_backup = Some(MultiChanBackup { multi_chan_backup, ..Default::default() });
                Some(ChanBackupSnapshot { multi_chan_backup, ..Default::default() })
            }
            None => None,
        };
        let request = InitWalletRequest {
            channel_backups,
            wallet_password: password.to_vec(),
            cipher_seed_mnemonic: words.clone(),
            recovery_window: self.recovery_window.unwrap_or(if restoring { RECOVERY_WINDOW } else { 0 }),
            stateless_init: self.stateless_init,
            ..Default::default()
        };
        let answer = client.unlocker().init_wallet(request).await?.into_inner();

        let macaroon = self.stateless_init.then(|| hex::encode(&answer.admin_macaroon));
        let shown = (!restoring).then_some(&words);
        let value = serde_json::json!({ "cipher_seed_mnemonic": shown, "admin_macaroon": macaroon });
        context.show_value(&value, || {
            let mut text = String::new();
            if let Some(words) = shown {
                text += "Write these words down, in this order. They are the only way back to your money if this\n\
                         machine is lost, and whoever reads them can take it.\n\n";
                text += &numbered(words);
                text.push('\n');
            }
            if let Some(macaroon) = &macaroon {
                text += &format!("Admin macaroon (no copy is kept):\n{macaroon}\n\n");
            }
            text += "The wallet is made and open. `leyden newaddress` gives an address to be paid at.";
            if restoring {
                text += "\n\nIt looks for its coins on the whole chain: `leyden recoveryinfo` shows how far that is, how near\n\
                         the edge of the window the last coin lay, and what else to do.";
                if self.multi_file.is_none() {
                    text += " Channels come back with their\nbackup (`leyden restorechanbackup FILE`); peers may have kept \
                             a copy, so `leyden connect` those\nthat you had channels with.";
                }
            }
            text
        })
    }

    fn old_words(&self) -> Result<Option<Vec<String>>, CliError> {
        let text = match &self.words_file {
            Some(path) => Zeroizing::new(
                fs::read_to_string(path).map_err(|source| CliError::Io { what: path.display().to_string(), source })?,
            ),
            None if self.restore => ask_for_words()?,
            None => return Ok(None),
        };
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        if words.len() != 24 {
            return Err(CliError::Usage(format!("{} words; a wallet has 24", words.len())));
        }
        Ok(Some(words))
    }
}

fn ask_for_words() -> Result<Zeroizing<String>, CliError> {
    let failed = |source| CliError::Io { what: "the terminal".to_owned(), source };
    if io::stdin().is_terminal() {
        write!(io::stderr(), "The 24 words, separated by blanks: ").map_err(failed)?;
    }
    let mut line = Zeroizing::new(String::new());
    io::stdin().read_line(&mut line).map_err(failed)?;
    Ok(line)
}

/// Four words a line, each with its place.
fn numbered(words: &[String]) -> String {
    let mut text = String::new();
    for (row, line) in words.chunks(4).enumerate() {
        for (column, word) in line.iter().enumerate() {
            text += &format!("{:>4}. {word:<10}", row * 4 + column + 1);
        }
        text = text.trim_end().to_owned() + "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_in_their_order() {
        let words: Vec<_> = (1..=6).map(|at| format!("word{at}")).collect();
        let text = numbered(&words);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("1. word1") && text.contains("6. word6"), "{text}");
    }
}
