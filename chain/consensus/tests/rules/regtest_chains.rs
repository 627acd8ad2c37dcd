//! Whole chains, put on block by block and taken off again.

use bitcoin::{Amount, Block};
use leyden_consensus::Params;
use leyden_consensus::subsidy::block_subsidy;

use crate::support::{TestChain, block_from_hex, framed_blocks, vector_file, vector_json, vector_lines};

/// Connects all blocks, disconnects all, connects all again; every state is the same on the way back.
fn there_and_back(name: &str, params: Params, blocks: &[Block]) -> TestChain {
    let mut chain = TestChain::new(params);
    let mut states = Vec::new();
    for block in blocks {
        states.push((chain.coins_in_bytes(), chain.stats.count));
        chain.connect(block).unwrap_or_else(|error| panic!("{name} height {}: {error}", chain.height() + 1));
    }
    let top = (chain.coins_in_bytes(), chain.stats.hash.finish());
    for (bytes, count) in states.into_iter().rev() {
        chain.disconnect();
        assert!(
            chain.coins_in_bytes() == bytes,
            "{name}: coins differ after height {} was taken off",
            chain.height() + 1
        );
        assert_eq!(chain.stats.count, count);
    }
    assert!(chain.coins.is_empty());
    assert_eq!(chain.stats.total, Amount::ZERO);
    assert_eq!(chain.stats.hash.finish(), leyden_consensus::UtxoSetHash::new().finish());
    for block in blocks {
        chain.connect(block).unwrap();
    }
    assert!((chain.coins_in_bytes(), chain.stats.hash.finish()) == top);
    // No coin appears or vanishes: what exists is what subsidies created, less what coinbases left unclaimed.
    let created: Amount = (1..=chain.height()).map(|height| block_subsidy(height, &chain.params)).sum();
    assert!(chain.stats.total <= created);
    let spends: usize = blocks.iter().map(|block| block.txdata.len() - 1).sum();
    println!(
        "{name}: {} blocks, {spends} spending transactions, utxo hash {}",
        blocks.len(),
        chain.stats.hash.finish()
    );
    chain
}

#[test]
fn a_regtest_chain_of_206_blocks_with_spends_goes_on_and_off() {
    let Some(lines) = vector_lines("regtest/kernel_206_blocks.hex") else { return };
    let blocks: Vec<Block> = lines.iter().map(|line| block_from_hex(line)).collect();
    assert_eq!(blocks.len(), 206);
    there_and_back("kernel_206_blocks", Params::regtest(), &blocks);
}

#[test]
fn another_regtest_chain_of_150_blocks_goes_on_and_off() {
    let Some(lines) = vector_lines("regtest/floresta_0_150.hex") else { return };
    let blocks: Vec<Block> = lines.iter().map(|line| block_from_hex(line)).collect();
    assert_eq!(blocks[0], Params::regtest().genesis);
    there_and_back("floresta_0_150", Params::regtest(), &blocks[1..]);
}

#[test]
fn the_first_255_blocks_of_mainnet_go_on_and_off() {
    let Some(bytes) = vector_file("blocks/mainnet_1_255.dat") else { return };
    let blocks = framed_blocks(&bytes);
    assert_eq!(blocks.len(), 255);
    there_and_back("mainnet_1_255", Params::mainnet(), &blocks);
}

#[test]
fn a_regtest_chain_has_the_block_statistics_of_bitcoin_core() {
    let Some(vectors) = vector_json("regtest/rpc_getblockstats.json") else { return };
    let blocks: Vec<Block> =
        vectors["blocks"].as_array().unwrap().iter().map(|hex| block_from_hex(hex.as_str().unwrap())).collect();
    let mut chain = TestChain::new(Params::regtest());
    let mut compared = 0;
    for block in &blocks[1..] {
        let (fees, coins) = (chain.fees, chain.stats.count);
        chain.connect(block).unwrap();
        let stats = vectors["stats"].as_array().unwrap();
        let Some(stats) = stats.iter().find(|stats| stats["height"].as_u64() == Some(u64::from(chain.height()))) else {
            continue;
        };
        assert_eq!(stats["blockhash"].as_str().unwrap(), block.block_hash().to_string());
        assert_eq!(stats["mediantime"].as_u64().unwrap(), u64::from(chain.tree.best().median_time_past));
        assert_eq!(stats["subsidy"].as_u64().unwrap(), block_subsidy(chain.height(), &chain.params).to_sat());
        assert_eq!(stats["totalfee"].as_u64().unwrap(), (chain.fees - fees).to_sat());
        let increase = chain.stats.count as i64 - coins as i64;
        assert_eq!(stats["utxo_increase_actual"].as_i64().unwrap(), increase);
        compared += 1;
    }
    println!("getblockstats: {} blocks, {compared} compared", chain.height());
    assert!(compared >= 2);
}
