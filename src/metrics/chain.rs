//! The chain, its mempool, its miner and its peers.

use leyden_node::{MempoolInfo, PeerInfo, Totals, Traffic};

use super::page::{Family, Page, family};
use crate::api::{Chain, ChainStatus};

const HEIGHT: Family = family("leyden_chain_height", "Height of the active chain's last block.");
const HEADERS: Family = family("leyden_chain_headers_height", "Height of the best known header.");
const TIP_TIME: Family = family("leyden_chain_tip_timestamp_seconds", "The last block's own time.");
const IN_DOUBT: Family = family(
    "leyden_chain_tip_in_doubt",
    "1 while it is not known how far the chain is: the node does not pay, accept, forward or open then.",
);
const DIFFICULTY: Family = family("leyden_chain_difficulty", "Difficulty of the last block, by the genesis block's.");
const CONNECTED: Family = family("leyden_chain_blocks_connected_total", "Blocks that became part of the active chain.");
const DISCONNECTED: Family =
    family("leyden_chain_blocks_disconnected_total", "Blocks that ceased to be part of the active chain.");
const REORGANISATIONS: Family = family("leyden_chain_reorganisations_total", "Steps to another branch.");
const PEERS: Family = family("leyden_chain_peers", "Connected nodes of the chain.");
const SENT: Family = family("leyden_chain_sent_bytes_total", "Bytes sent to nodes of the chain.");
const RECEIVED: Family = family("leyden_chain_received_bytes_total", "Bytes received from nodes of the chain.");
const HASHES: Family = family("leyden_mining_hashes_total", "Headers that this node has tried.");
const FOUND: Family = family("leyden_mining_blocks_found_total", "Blocks that this node has mined.");
const TRANSACTIONS: Family = family("leyden_mempool_transactions", "Transactions that wait for a block.");
const VBYTES: Family = family("leyden_mempool_vbytes", "Their virtual size.");
const MEMORY: Family = family("leyden_mempool_memory_bytes", "The memory that they take.");
const MEMORY_CAP: Family = family("leyden_mempool_memory_limit_bytes", "Above that the lowest feerates are evicted.");
const FEES: Family = family("leyden_mempool_fees_sat", "What they pay together.");
const MINIMUM: Family = family(
    "leyden_mempool_minimum_feerate_sat_per_vbyte",
    "The lowest feerate that is accepted: what relays, or more while the mempool is full.",
);

/// Satoshi per 1000 weight units that are one satoshi per virtual byte.
const KWU_PER_VBYTE: f64 = 250.0;

pub(super) async fn write(chain: &dyn Chain, page: &Page<'_>) {
    let (status, mempool, peers) = tokio::join!(chain.status(), chain.mempool(false), chain.peers());
    if let Ok(status) = status {
        write_status(&status, page);
    }
    if let Ok(mempool) = mempool {
        write_mempool(&mempool.info, page);
    }
    if let Ok(peers) = peers {
        write_peers(&peers, page);
    }
    write_totals(chain.totals(), page);
}

fn write_status(status: &ChainStatus, page: &Page<'_>) {
    page.gauge(HEIGHT, status.tip.height.into());
    page.gauge(HEADERS, status.header_height.0.into());
    page.gauge(TIP_TIME, status.tip.time.into());
    page.flag(IN_DOUBT, status.doubt.is_some());
    page.number(DIFFICULTY, status.difficulty);
}

fn write_mempool(info: &MempoolInfo, page: &Page<'_>) {
    page.gauge(TRANSACTIONS, info.transactions as u64);
    page.gauge(VBYTES, info.virtual_bytes);
    page.gauge(MEMORY, info.memory_bytes as u64);
    page.gauge(MEMORY_CAP, info.memory_cap_bytes as u64);
    page.gauge(FEES, info.total_fee.to_sat());
    page.number(MINIMUM, info.minimum_fee_rate.to_sat_per_kwu() as f64 / KWU_PER_VBYTE);
}

fn write_peers(peers: &[PeerInfo], page: &Page<'_>) {
    for (direction, inbound) in [("inbound", true), ("outbound", false)] {
        let count = peers.iter().filter(|peer| peer.inbound == inbound).count();
        page.gauge_of(PEERS, ("direction", direction), count as u64);
    }
}

fn write_totals(totals: Totals, page: &Page<'_>) {
    let Totals { blocks_connected, blocks_disconnected, reorganisations, blocks_found, hashes, traffic } = totals;
    let Traffic { sent, received } = traffic;
    page.counter(CONNECTED, blocks_connected);
    page.counter(DISCONNECTED, blocks_disconnected);
    page.counter(REORGANISATIONS, reorganisations);
    page.counter(HASHES, hashes);
    page.counter(FOUND, blocks_found);
    page.counter(SENT, sent);
    page.counter(RECEIVED, received);
}
