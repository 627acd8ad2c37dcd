//! `leyden chain proof`: that a block holds a transaction.

use std::path::PathBuf;

use clap::Args;
use leyden_common::files::write_new;
use leyden_proto::leyden::ProveInclusionRequest;

use super::super::{CliError, Context};

/// Write the proof that a block holds a transaction, as text that can be mailed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden chain proof 4a5e1e4b…                          print it\n  \
    leyden chain proof 4a5e1e4b… --output-file paid.txt   keep it in a file\n\n\
    Whoever has the chain's headers checks it with `leyden chain verify-proof`, on a full or on a light node.\n\
    It proves that the transaction is in a block, and the work on top of that block is the proof that it stays there. It\n\
    does not prove that what the transaction pays is still unspent.")]
pub(super) struct Proof {
    /// The transaction's id
    txid: String,
    /// Write it here instead of printing it
    #[arg(long, alias = "output_file", value_name = "FILE")]
    output_file: Option<PathBuf>,
}

impl Proof {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ProveInclusionRequest { txid: self.txid };
        let proven = context.client().await?.chain().prove_inclusion(request).await?.into_inner();
        let Some(path) = self.output_file else { return context.show(&proven, || proven.proof.clone()) };
        write_new(&path, format!("{}\n", proven.proof).as_bytes())
            .map_err(|source| CliError::Io { what: path.display().to_string(), source })?;
        context.show(&proven, || {
            format!("The proof is in {}. The block has {} confirmations.", path.display(), proven.confirmations)
        })
    }
}
