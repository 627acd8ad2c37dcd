//! `leyden chain generate`: mine blocks now.

use clap::Args;
use leyden_proto::leyden::GenerateRequest;

use super::super::{CliError, Context, format};

/// Mine a number of blocks now.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden chain generate 1\n  \
    leyden chain generate 101                  coins can be spent once 100 blocks lie on top of them\n  \
    leyden chain generate 6 --to bcrt1q…")]
pub(super) struct Generate {
    /// Number of blocks
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    blocks: u32,
    /// Address that receives the rewards [default: this node's wallet]
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    to: String,
}

impl Generate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = GenerateRequest { blocks: self.blocks, address: self.to };
        let mut found = context.client().await?.chain().generate(request).await?.into_inner();
        let progress = context.progress(u64::from(self.blocks));
        let mut last = None;
        while let Some(block) = found.message().await? {
            progress.set_position(u64::from(block.found));
            progress.set_message(format!("height {}", block.height));
            if context.is_json() {
                context.show(&block, String::new)?;
            }
            last = Some(block);
        }
        progress.finish_and_clear();
        match last {
            Some(block) if block.found >= self.blocks => {
                let text = format!(
                    "{} mined; the tip is {} at height {}",
                    format::counted(block.found, "block"),
                    block.block_hash,
                    block.height
                );
                context.note(&text);
                Ok(())
            }
            stopped => {
                let found = stopped.map_or(0, |block| block.found);
                Err(CliError::Failed(format!("only {found} of {} blocks were mined", self.blocks)))
            }
        }
    }
}
