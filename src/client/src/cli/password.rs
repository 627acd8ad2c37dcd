//! Where the wallet's password comes from: a file, the environment, or whoever sits before the terminal.

use std::{
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::Args;
use zeroize::Zeroizing;

use super::CliError;

/// The environment variable that may hold the password.
const VARIABLE: &str = "LEYDEN_WALLET_PASSWORD";

#[derive(Debug, Args)]
pub(super) struct PasswordArgs {
    /// Read the wallet's password from the first line of this file (- for stdin), instead of asking for it or taking
    /// it from the environment variable LEYDEN_WALLET_PASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password of a wallet that exists.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, CliError> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask("Wallet password: "),
        }
    }

    /// Another password for a wallet, from the first line of a file if there is one.
    pub(super) fn choose_new(file: Option<&PathBuf>) -> Result<Zeroizing<Vec<u8>>, CliError> {
        match file {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|source| failed(&path.display().to_string(), source))?;
                Ok(first_line(&Zeroizing::new(text)))
            }
            None => ask_twice(),
        }
    }

    /// The password of a wallet to be made: asked for twice, for nobody can restore a misspelt one.
    pub(super) fn choose(&self) -> Result<Zeroizing<Vec<u8>>, CliError> {
        if let Some(password) = self.given()? {
            return Ok(password);
        }
        ask_twice()
    }

    fn given(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CliError> {
        let text = match &self.password_file {
            Some(path) if path.as_os_str() == "-" => {
                Zeroizing::new(io::read_to_string(io::stdin()).map_err(|source| failed("stdin", source))?)
            }
            Some(path) => {
                Zeroizing::new(fs::read_to_string(path).map_err(|source| failed(&path.display().to_string(), source))?)
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => Zeroizing::new(text),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(first_line(&text)))
    }
}

fn first_line(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.lines().next().unwrap_or_default().as_bytes().to_vec())
}

fn ask_twice() -> Result<Zeroizing<Vec<u8>>, CliError> {
    let password = ask("New wallet password (at least 8 characters): ")?;
    if password != ask("The same again: ")? {
        return Err(CliError::Usage("the passwords differ: start again".to_owned()));
    }
    Ok(password)
}

fn ask(question: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if !io::stdin().is_terminal() {
        let text = format!("nobody is here to be asked for the password: give --password-file or set {VARIABLE}");
        return Err(CliError::Usage(text));
    }
    let password = rpassword::prompt_password(question).map_err(|source| failed("the terminal", source))?;
    Ok(Zeroizing::new(password.into_bytes()))
}

fn failed(what: &str, source: io::Error) -> CliError {
    CliError::Io { what: what.to_owned(), source }
}
