//! The proof-of-work chain.

use std::{num::NonZeroU32, str::FromStr};

use bitcoin::{BlockHash, consensus};
use leyden_channels::types::Height;
use leyden_node::{MempoolEntryInfo, PeerInfo, TransactionInfo, TransportKind};
use leyden_proto::leyden;

use super::{edge, wallet::address_text};
use crate::api::{
    ApiError, BlockSelector, ChainStatus, DiskUse, FoundBlock, LocatedBlock, MempoolView, MiningInfo, NetworkInfo,
    UtxoSetHash,
};

/// The most blocks of one request; more are asked for with another.
const MAX_BLOCKS: u32 = 100_000;

pub(crate) fn block_selector(request: &leyden::GetBlockRequest) -> Result<BlockSelector, ApiError> {
    use leyden::get_block_request::Block;
    match request.block.as_ref() {
        None => Err(edge::wrong("block", "give block_hash or height")),
        Some(Block::Height(height)) => Ok(BlockSelector::Height(Height(*height))),
        Some(Block::BlockHash(text)) => BlockHash::from_str(text)
            .map(BlockSelector::Hash)
            .map_err(|_| edge::wrong("block_hash", format!("\"{text}\" is no block hash; it has 64 hex digits"))),
    }
}

pub(crate) fn block_count(blocks: u32) -> Result<NonZeroU32, ApiError> {
    NonZeroU32::new(blocks)
        .filter(|blocks| blocks.get() <= MAX_BLOCKS)
        .ok_or_else(|| edge::wrong("blocks", format!("{blocks}; it lies between 1 and {MAX_BLOCKS}")))
}

pub(crate) fn tip(status: &ChainStatus, disk: DiskUse, network: &NetworkInfo) -> leyden::GetTipResponse {
    leyden::GetTipResponse {
        block_hash: status.tip.hash.to_string(),
        height: status.tip.height,
        time: u64::from(status.tip.time),
        median_time: u64::from(status.tip.median_time_past),
        chain_work: hex::encode(status.tip.work.to_be_bytes()),
        difficulty: status.difficulty,
        network: network.name.clone(),
        syncing: status.syncing,
        header_height: status.header_height.0,
        current: status.doubt.is_none(),
        doubt: status.doubt.map(|doubt| doubt.to_string()).unwrap_or_default(),
        light: disk.light,
        disk_bytes: disk.bytes,
    }
}

pub(crate) fn block(located: &LocatedBlock, include_raw: bool) -> leyden::GetBlockResponse {
    let header = &located.block.header;
    leyden::GetBlockResponse {
        block_hash: located.hash.to_string(),
        height: located.height.0,
        confirmations: located.confirmations,
        // The sign has no meaning in a version: its bits do.
        version: u32::from_ne_bytes(header.version.to_consensus().to_ne_bytes()),
        previous_block_hash: header.prev_blockhash.to_string(),
        merkle_root: header.merkle_root.to_string(),
        time: u64::from(header.time),
        bits: header.bits.to_consensus(),
        nonce: header.nonce,
        difficulty: located.difficulty,
        size: number(located.block.total_size()),
        weight: located.block.weight().to_wu(),
        txids: located.block.txdata.iter().map(|tx| tx.compute_txid().to_string()).collect(),
        raw_block: if include_raw { consensus::serialize(located.block.as_ref()) } else { Vec::new() },
    }
}

/// `tip` is the height of the chain's end.
pub(crate) fn transaction(found: &TransactionInfo, tip: u32, network: &NetworkInfo) -> leyden::GetTransactionResponse {
    let transaction = found.transaction.as_ref();
    let input = |input: &bitcoin::TxIn| leyden::TransactionInput {
        outpoint: if input.previous_output.is_null() { String::new() } else { input.previous_output.to_string() },
        sequence: input.sequence.to_consensus_u32(),
    };
    let output = |output: &bitcoin::TxOut| leyden::TransactionOutput {
        amount_sat: output.value.to_sat(),
        pk_script: output.script_pubkey.to_bytes(),
        address: address_text(&output.script_pubkey, network.addresses),
    };
    let block = found.confirmed.map(|(block, _)| block);
    leyden::GetTransactionResponse {
        txid: transaction.compute_txid().to_string(),
        wtxid: transaction.compute_wtxid().to_string(),
        raw_tx: consensus::serialize(transaction),
        size: number(transaction.total_size()),
        weight: transaction.weight().to_wu(),
        block_hash: block.map(|block| block.hash.to_string()).unwrap_or_default(),
        block_height: block.map_or(0, |block| block.height),
        confirmations: block.map_or(0, |block| tip.saturating_sub(block.height).saturating_add(1)),
        inputs: transaction.input.iter().map(input).collect(),
        outputs: transaction.output.iter().map(output).collect(),
    }
}

pub(crate) fn mempool(mempool: &MempoolView) -> leyden::GetMempoolResponse {
    let per_kvb = mempool.info.minimum_fee_rate.to_sat_per_kwu().saturating_mul(4);
    leyden::GetMempoolResponse {
        transaction_count: number(mempool.info.transactions),
        virtual_size: mempool.info.virtual_bytes,
        total_fees_sat: mempool.info.total_fee.to_sat(),
        min_fee_rate_sat_per_kvb: per_kvb,
        transactions: mempool.entries.iter().map(mempool_entry).collect(),
        levels: Vec::new(),
    }
}

/// Where one level ends and the next begins, satoshi per virtual byte.
const LEVELS: [u32; 10] = [500, 200, 100, 50, 20, 10, 5, 2, 1, 0];

/// How much waits at which feerate, the highest first.
pub(crate) fn mempool_levels(entries: &[MempoolEntryInfo]) -> Vec<leyden::MempoolLevel> {
    let level = |sat_per_vbyte| leyden::MempoolLevel { sat_per_vbyte, transaction_count: 0, virtual_size: 0 };
    let mut levels = LEVELS.map(level);
    for entry in entries {
        let reaches = |level: &&mut leyden::MempoolLevel| {
            entry.fee.to_sat() >= entry.virtual_bytes.saturating_mul(u64::from(level.sat_per_vbyte))
        };
        if let Some(level) = levels.iter_mut().find(reaches) {
            level.transaction_count += 1;
            level.virtual_size = level.virtual_size.saturating_add(entry.virtual_bytes);
        }
    }
    levels.into_iter().filter(|level| level.transaction_count > 0).collect()
}

fn mempool_entry(entry: &MempoolEntryInfo) -> leyden::MempoolTransaction {
    leyden::MempoolTransaction {
        txid: entry.txid.to_string(),
        fee_sat: entry.fee.to_sat(),
        virtual_size: entry.virtual_bytes,
        time: entry.time,
        // The node counts the transaction itself.
        ancestor_count: u32::try_from(entry.ancestors.saturating_sub(1)).unwrap_or(u32::MAX),
    }
}

pub(crate) fn generated(block: FoundBlock, found: u32) -> leyden::GenerateUpdate {
    leyden::GenerateUpdate { block_hash: block.hash.to_string(), height: block.height.0, found }
}

pub(crate) fn mining_info(info: &MiningInfo) -> leyden::GetMiningInfoResponse {
    leyden::GetMiningInfoResponse {
        mining: info.reward_to.is_some(),
        threads: info.threads,
        hashes_per_second: info.hashes_per_second,
        blocks_found: info.blocks_found,
        kernel: info.kernel.clone(),
        difficulty: info.difficulty,
        network_hashes_per_second: info.network_hashes_per_second,
        height: info.height.0,
        address: info.reward_to.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(crate) fn utxo_set_hash(set: &UtxoSetHash) -> leyden::GetUtxoSetHashResponse {
    // As Bitcoin Core writes hashes: the last byte first.
    let hash: Vec<u8> = set.hash.iter().rev().copied().collect();
    leyden::GetUtxoSetHashResponse {
        hash: hex::encode(hash),
        block_hash: set.block.to_string(),
        height: set.height.0,
        output_count: set.outputs,
        total_amount_sat: set.total.to_sat(),
    }
}

pub(crate) fn peer(peer: &PeerInfo) -> leyden::ChainPeer {
    let (transport, session_id) = match peer.transport {
        TransportKind::Detecting => ("", String::new()),
        TransportKind::V1 => ("v1", String::new()),
        TransportKind::V2 { session_id } => ("v2", hex::encode(session_id)),
    };
    leyden::ChainPeer {
        address: peer.address.to_string(),
        inbound: peer.inbound,
        user_agent: peer.user_agent.clone(),
        version: peer.protocol_version,
        height: u32::try_from(peer.start_height).unwrap_or(0),
        bytes_sent: peer.bytes_sent,
        bytes_received: peer.bytes_received,
        transport: transport.to_owned(),
        session_id,
        high_bandwidth_to: peer.high_bandwidth_to,
        high_bandwidth_from: peer.high_bandwidth_from,
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
