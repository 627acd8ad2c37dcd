//! `leyden chain block`: one block.

use clap::Args;
use leyden_proto::leyden::{GetBlockRequest, GetBlockResponse, get_block_request};

use super::{
    super::{CliError, Context, table},
    count, time,
};

/// Show one block.
#[derive(Debug, Args)]
pub(super) struct Block {
    /// Its height or its hash
    #[arg(value_name = "HEIGHT|HASH")]
    block: String,
    /// Print the serialised block as hex, and nothing else
    #[arg(long)]
    raw: bool,
}

impl Block {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let block = selector(&self.block);
        let request = GetBlockRequest { block: Some(block), include_raw: self.raw };
        let block = context.client().await?.chain().get_block(request).await?.into_inner();
        context.show(&block, || if self.raw { hex::encode(&block.raw_block) } else { for_people(&block) })
    }
}

/// A number that fits is a height; a hash has 64 digits and never fits.
fn selector(text: &str) -> get_block_request::Block {
    match text.parse() {
        Ok(height) => get_block_request::Block::Height(height),
        Err(_) => get_block_request::Block::BlockHash(text.to_owned()),
    }
}

fn for_people(block: &GetBlockResponse) -> String {
    let confirmations = match block.confirmations {
        0 => "not in the best chain".to_owned(),
        confirmations => confirmations.to_string(),
    };
    table::facts([
        ("block", block.block_hash.clone()),
        ("height", block.height.to_string()),
        ("confirmations", confirmations),
        ("time", time(block.time)),
        ("previous", block.previous_block_hash.clone()),
        ("merkle root", block.merkle_root.clone()),
        ("version", format!("0x{:08x}", block.version)),
        ("bits", format!("0x{:08x} (difficulty {:.3})", block.bits, block.difficulty)),
        ("nonce", block.nonce.to_string()),
        ("size", format!("{} bytes, weight {}", count(block.size), count(block.weight))),
        ("transactions", block.txids.join("\n")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_named_by_height_or_hash() {
        assert_eq!(selector("101"), get_block_request::Block::Height(101));
        let hash = "1".repeat(64);
        assert_eq!(selector(&hash), get_block_request::Block::BlockHash(hash.clone()));
    }
}
