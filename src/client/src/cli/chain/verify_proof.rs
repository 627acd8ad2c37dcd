//! `leyden chain verify-proof`: whether a block holds a transaction, by its header alone.

use std::{fs, io, path::PathBuf};

use clap::Args;
use leyden_proto::leyden::VerifyInclusionRequest;

use super::{
    super::{CliError, Context},
    tx,
};

/// Longest proof that is read: some times the largest transaction that nodes relay.
const LONGEST: u64 = 3 << 20;

/// Check the proof that a block holds a transaction, and show the transaction.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden chain verify-proof paid.txt         what stands around the proof does not matter\n\n\
    It is checked against this node's headers; the block itself is not needed. Wait for as many confirmations as you would\n\
    for a payment of that size: a block that is replaced takes the transaction with it.")]
pub(super) struct VerifyProof {
    /// File with the proof [default: standard input]
    file: Option<PathBuf>,
}

impl VerifyProof {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = VerifyInclusionRequest { proof: self.read()? };
        let verified = context.client().await?.chain().verify_inclusion(request).await?.into_inner();
        context.show(&verified, || {
            let transaction = verified.transaction.clone().unwrap_or_default();
            format!("The proof is good: the block holds the transaction.\n{}", tx::for_people(&transaction))
        })
    }

    fn read(&self) -> Result<String, CliError> {
        use io::Read as _;
        let (what, source): (String, Box<dyn io::Read>) = match &self.file {
            Some(path) => {
                let what = path.display().to_string();
                let file = fs::File::open(path).map_err(|source| CliError::Io { what: what.clone(), source })?;
                (what, Box::new(file))
            }
            None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
        };
        let mut text = String::new();
        match source.take(LONGEST + 1).read_to_string(&mut text) {
            Ok(read) if read as u64 <= LONGEST => Ok(text),
            Ok(_) => Err(CliError::Usage(format!("{what} is too long for an inclusion proof"))),
            Err(source) => Err(CliError::Io { what, source }),
        }
    }
}
