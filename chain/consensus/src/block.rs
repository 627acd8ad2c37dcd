//! What a block must satisfy before its coins are looked at.
//!
//! [`check_block`] needs the block alone, [`check_block_in_context`] its place in the chain. Both tell a *mutated* copy
//! (bytes that do not belong to the header, see [`BlockError::is_mutation`]) from a block that is *invalid* under that
//! header: only the second verdict may be remembered. So everything that could be a mutation is checked before
//! anything else that depends on the same bytes.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Block, BlockHash, Transaction};

use crate::block_ids::BlockIds;
use crate::error::{BlockError, TransactionError};
use crate::header::check_proof_of_work;
use crate::locktime::is_final;
use crate::params::Params;
use crate::script::opcodes::push_number;
use crate::script::sigops::legacy_sigops;
use crate::transaction::check_transaction;
use crate::weight::{MAX_BLOCK_SIGOP_COST, MAX_BLOCK_WEIGHT, WITNESS_SCALE, block_weight, stripped_size};

/// Where a block stands in its chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockContext {
    /// Blocks between the genesis block (0) and this one.
    pub height: u32,
    /// The median time of the eleven blocks before this one.
    pub parent_median_time: u32,
    /// The hash of the block before.
    pub parent: BlockHash,
}

/// The rules that need nothing but the block: proof of work, merkle root, sizes, its transactions one by one.
pub fn check_block(block: &Block, params: &Params) -> Result<(), BlockError> {
    check_identified(block, &BlockIds::of(block), params)
}

/// [`check_block`] of a block whose transactions were hashed before.
pub fn check_identified(block: &Block, ids: &BlockIds, params: &Params) -> Result<(), BlockError> {
    check_proof_of_work(&block.header, params)?;
    check_identified_body(block, ids)
}

/// [`check_block`] without the proof of work: for a template that is not mined yet.
pub fn check_block_body(block: &Block) -> Result<(), BlockError> {
    check_identified_body(block, &BlockIds::of(block))
}

/// [`check_block_body`] of a block whose transactions were hashed before.
pub fn check_identified_body(block: &Block, ids: &BlockIds) -> Result<(), BlockError> {
    check_merkle_root(block, ids)?;
    let count = block.txdata.len() as u64;
    let Some((coinbase, others)) = block.txdata.split_first() else { return Err(BlockError::Length) };
    if count * WITNESS_SCALE > MAX_BLOCK_WEIGHT || stripped_size(block) * WITNESS_SCALE > MAX_BLOCK_WEIGHT {
        return Err(BlockError::Length);
    }
    if !coinbase.is_coinbase() {
        return Err(BlockError::NoCoinbase);
    }
    if let Some(second) = others.iter().position(Transaction::is_coinbase) {
        return Err(BlockError::SecondCoinbase { index: second + 1 });
    }
    for tx in &block.txdata {
        check_transaction(tx).map_err(|cause| BlockError::Transaction { txid: tx.compute_txid(), cause })?;
    }
    // Less than the whole count, which needs the spent coins; but enough to refuse early.
    let cost = block.txdata.iter().map(legacy_sigops).sum::<u64>() * WITNESS_SCALE;
    if cost > MAX_BLOCK_SIGOP_COST {
        return Err(BlockError::SigopCost { cost, limit: MAX_BLOCK_SIGOP_COST });
    }
    Ok(())
}

/// The rules that need the chain of headers: locks, height in the coinbase, witness commitment, weight.
pub fn check_block_in_context(block: &Block, context: &BlockContext, params: &Params) -> Result<(), BlockError> {
    check_identified_in_context(block, &BlockIds::of(block), context, params)
}

/// [`check_block_in_context`] of a block whose transactions were hashed before.
pub fn check_identified_in_context(
    block: &Block,
    ids: &BlockIds,
    context: &BlockContext,
    params: &Params,
) -> Result<(), BlockError> {
    let active = params.activation;
    let cutoff = if context.height >= active.csv { context.parent_median_time } else { block.header.time };
    if let Some(tx) = block.txdata.iter().find(|tx| !is_final(tx, context.height, cutoff)) {
        return Err(BlockError::Transaction { txid: tx.compute_txid(), cause: TransactionError::NotFinal });
    }
    if context.height >= active.bip34 {
        let expected = push_number(i64::from(context.height));
        let starts_with_height = block
            .txdata
            .first()
            .and_then(|coinbase| coinbase.input.first())
            .is_some_and(|input| input.script_sig.as_bytes().starts_with(&expected));
        if !starts_with_height {
            return Err(BlockError::CoinbaseHeight { height: context.height });
        }
    }
    check_witnesses(block, ids, context.height >= active.segwit)?;
    // Only now is the weight the block's own: before, anybody could have stuffed the coinbase's witness.
    let weight = block_weight(block);
    if weight > MAX_BLOCK_WEIGHT {
        return Err(BlockError::Weight { weight, limit: MAX_BLOCK_WEIGHT });
    }
    Ok(())
}

/// Whether a received block cannot be what its header commits to, so that its sender is at fault and not its miner.
/// `segwit` says whether witness commitments hold at its height.
pub fn is_block_mutated(block: &Block, segwit: bool) -> Option<BlockError> {
    is_identified_mutated(block, &BlockIds::of(block), segwit)
}

/// [`is_block_mutated`] of a block whose transactions were hashed before.
pub fn is_identified_mutated(block: &Block, ids: &BlockIds, segwit: bool) -> Option<BlockError> {
    if let Err(error) = check_merkle_root(block, ids) {
        return Some(error);
    }
    // An inner node of the merkle tree is 64 bytes: a doctored list may present inner nodes as transactions. A coinbase
    // of that size would take some 2^224 hashes to make, so a block with a coinbase is above suspicion.
    if !block.txdata.first().is_some_and(Transaction::is_coinbase) {
        let ambiguous = block.txdata.iter().any(|tx| tx.base_size() == 64);
        return ambiguous.then_some(BlockError::AmbiguousTransaction);
    }
    check_witnesses(block, ids, segwit).err()
}

fn check_merkle_root(block: &Block, ids: &BlockIds) -> Result<(), BlockError> {
    let computed = ids.merkle_root();
    if computed.root != block.header.merkle_root {
        Err(BlockError::MerkleRoot)
    } else if computed.repeats {
        Err(BlockError::RepeatedTransactions)
    } else {
        Ok(())
    }
}

/// BIP 141, commitment structure: the last matching output of the coinbase commits to the witnesses, and to a value
/// in the coinbase's own witness. Without a commitment there may be no witness anywhere.
fn check_witnesses(block: &Block, ids: &BlockIds, segwit: bool) -> Result<(), BlockError> {
    if let Some(commitment) = witness_commitment(block).filter(|_| segwit) {
        let coinbase_witness =
            block.txdata.first().and_then(|coinbase| coinbase.input.first()).map(|input| &input.witness);
        let reserved = coinbase_witness
            .filter(|witness| witness.len() == 1)
            .and_then(|witness| witness.nth(0))
            .filter(|item| item.len() == 32)
            .ok_or(BlockError::WitnessReservedValue)?;
        let mut engine = sha256d::Hash::engine();
        engine.input(ids.witness_root().as_byte_array());
        engine.input(reserved);
        let computed = sha256d::Hash::from_engine(engine);
        return if computed.as_byte_array() == commitment { Ok(()) } else { Err(BlockError::WitnessCommitment) };
    }
    let carries_witness = |tx: &&Transaction| tx.input.iter().any(|input| !input.witness.is_empty());
    match block.txdata.iter().find(carries_witness) {
        Some(tx) => Err(BlockError::UnexpectedWitness(tx.compute_txid())),
        None => Ok(()),
    }
}

/// OP_RETURN, a push of 36 bytes, and four bytes that say what follows.
pub const WITNESS_COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// The witness commitment in the coinbase, if there is one.
pub fn witness_commitment(block: &Block) -> Option<&[u8; 32]> {
    block.txdata.first()?.output.iter().rev().find_map(|output| {
        output.script_pubkey.as_bytes().strip_prefix(&WITNESS_COMMITMENT_PREFIX)?.first_chunk::<32>()
    })
}
