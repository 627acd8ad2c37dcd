//! How a block is sent to a peer.

use bitcoin::bip152::{BlockTransactions, HeaderAndShortIds};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock};
use bitcoin::{Block, Witness};

/// What of a block is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum BlockForm {
    /// All of it.
    Whole,
    /// All but the witnesses.
    WithoutWitnesses,
    /// Its header, its first transaction and short ids of the others (BIP 152, version 2), which `nonce` makes its own.
    Compact { nonce: u64 },
    /// The transactions with these indexes, lowest first (BIP 152).
    Transactions(Vec<u16>),
}

impl BlockForm {
    /// The message that holds it; `None` if the block does not have it.
    pub fn message(&self, block: &Block) -> Option<NetworkMessage> {
        Some(match self {
            Self::Whole => NetworkMessage::Block(block.clone()),
            Self::WithoutWitnesses => {
                let mut block = block.clone();
                let inputs = block.txdata.iter_mut().flat_map(|transaction| &mut transaction.input);
                inputs.for_each(|input| input.witness = Witness::new());
                NetworkMessage::Block(block)
            }
            Self::Compact { nonce } => {
                let compact_block = HeaderAndShortIds::from_block(block, *nonce, 2, &[]).ok()?;
                NetworkMessage::CmpctBlock(CmpctBlock { compact_block })
            }
            Self::Transactions(indexes) => {
                let chosen = indexes.iter().map(|index| block.txdata.get(usize::from(*index)).cloned());
                let transactions = chosen.collect::<Option<Vec<_>>>()?;
                let transactions = BlockTransactions { block_hash: block.block_hash(), transactions };
                NetworkMessage::BlockTxn(BlockTxn { transactions })
            }
        })
    }
}
