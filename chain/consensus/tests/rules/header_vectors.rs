//! Headers: compact targets, retargets, real header chains.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize;
use bitcoin::{CompactTarget, Target};
use leyden_consensus::difficulty::{BitsError, target_from_bits};
use leyden_consensus::header::check_proof_of_work;
use leyden_consensus::{HeaderChain, HeaderError, HeaderTree, Params, check_transaction, next_bits};
use serde_json::Value;

use crate::support::{LATE, TestChain, block_from_hex, fault, header_from_hex, vector_file, vector_json, vector_lines};

fn bits(hex: &str) -> CompactTarget {
    CompactTarget::from_unprefixed_hex(hex).unwrap()
}

#[test]
fn compact_targets_decode_as_in_bitcoin_core() {
    let Some(vectors) = vector_json("bitcoin-core/pow.json") else { return };
    let cases = vectors["compact"].as_array().unwrap();
    for case in cases {
        let raw = case["bits"].as_str().unwrap();
        let wanted = case["target"].as_str().map(|hex| Target::from_unprefixed_hex(hex).unwrap());
        let zero = wanted == Some(Target::from_be_bytes([0; 32]));
        match target_from_bits(bits(raw)) {
            Err(BitsError::Negative) => assert_eq!(case["negative"], true, "{raw}"),
            Err(BitsError::Overflow) => assert_eq!(case["overflow"], true, "{raw}"),
            Err(BitsError::Zero) => assert!(zero, "{raw}"),
            Ok(target) => {
                assert_eq!((&case["negative"], &case["overflow"]), (&Value::Bool(false), &Value::Bool(false)), "{raw}");
                assert_eq!(Some(target), wanted, "{raw}");
                assert_eq!(target.to_compact_lossy(), bits(case["re_encoded"].as_str().unwrap()), "{raw}");
            }
        }
    }
    println!("compact targets: {} cases", cases.len());
}

/// A chain of which only two headers matter.
struct Interval {
    height: u32,
    first: Header,
    last: Header,
}

impl HeaderChain for Interval {
    fn tip_height(&self) -> u32 {
        self.height
    }

    fn header_at(&self, height: u32) -> Option<Header> {
        match self.height - height {
            0 => Some(self.last),
            2015 => Some(self.first),
            _ => None,
        }
    }
}

#[test]
fn retargets_of_mainnet_are_computed_from_2015_gaps_and_bounded_by_four() {
    let Some(vectors) = vector_json("bitcoin-core/pow.json") else { return };
    let params = Params::mainnet();
    let cases = vectors["retarget_mainnet"].as_array().unwrap();
    for case in cases {
        let old = bits(case["last_bits"].as_str().unwrap());
        let header =
            |time: &str| Header { time: case[time].as_u64().unwrap() as u32, bits: old, ..params.genesis.header };
        let chain = Interval {
            height: case["last_height"].as_u64().unwrap() as u32,
            first: header("first_time"),
            last: header("last_time"),
        };
        assert_eq!(next_bits(&chain, 0, &params), Some(bits(case["expected_bits"].as_str().unwrap())), "{case}");
    }
    println!("retargets: {} cases", cases.len());
}

#[test]
fn impossible_targets_are_refused_whatever_the_hash() {
    let params = Params::mainnet();
    let genesis = params.genesis.header;
    let twice_the_limit = bits("1d01fffe");
    for wrong in
        ["1d80ffff", "ff7fffff", "00000000", "1d800001", "207fffff"].map(bits).into_iter().chain([twice_the_limit])
    {
        let header = Header { bits: wrong, ..genesis };
        assert_eq!(check_proof_of_work(&header, &params), Err(HeaderError::ImpossibleBits { bits: wrong }));
    }
    let unmet = Header { nonce: genesis.nonce + 1, ..genesis };
    assert!(matches!(check_proof_of_work(&unmet, &params), Err(HeaderError::ProofOfWork { .. })));
    assert_eq!(check_proof_of_work(&genesis, &params), Ok(()));
}

fn accept_all(params: Params, headers: &[Header]) -> HeaderTree {
    let mut tree = HeaderTree::new(Arc::new(params));
    assert_eq!(headers[0].block_hash(), tree.params().genesis_hash);
    for (height, header) in headers.iter().enumerate() {
        let accepted = tree.accept(*header, LATE).unwrap_or_else(|error| panic!("height {height}: {error}"));
        assert_eq!(accepted.height as usize, height);
    }
    assert_eq!(tree.best().height as usize, headers.len() - 1);
    tree
}

fn headers_in(bytes: &[u8]) -> Vec<Header> {
    bytes.chunks_exact(80).map(|chunk| deserialize(chunk).unwrap()).collect()
}

#[test]
fn the_first_headers_of_mainnet_and_signet_are_accepted() {
    for (file, params, count) in [
        ("headers/mainnet_0_10236.bin.zst", Params::mainnet(), 10_237),
        ("headers/signet_0_2015.bin.zst", Params::signet(), 2016),
    ] {
        let Some(bytes) = vector_file(file) else { return };
        let headers = headers_in(&bytes);
        assert_eq!(headers.len(), count);
        let tree = accept_all(params, &headers);
        // The slice is a chain too, and both agree on what comes next.
        let tip = tree.best().hash;
        assert_eq!(next_bits(&headers[..], u32::MAX, tree.params()), tree.next_bits(&tip, u32::MAX));
        println!("{file}: {count} headers");
    }
}

#[test]
fn testnet_headers_with_late_blocks_and_a_fork_are_accepted() {
    let Some(lines) = vector_lines("headers/testnet3_1_546_with_fork.hex") else { return };
    let params = Params::testnet3();
    let (fork, main): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.starts_with("fork:"));
    let genesis = params.genesis.header;
    let main: Vec<Header> =
        std::iter::once(genesis).chain(main.into_iter().map(|line| header_from_hex(line))).collect();
    let mut tree = accept_all(params, &main);
    for line in &fork {
        let accepted = tree.accept(header_from_hex(line.trim_start_matches("fork:")), LATE).unwrap();
        assert!(!accepted.is_best);
    }
    assert_eq!(tree.best().height, 546);
    assert_eq!(tree.tips().len(), 2);
    println!("testnet3: {} headers and a fork of {}", main.len() - 1, fork.len());
}

#[test]
fn an_alternative_mainnet_with_the_largest_retarget_is_accepted_block_by_block() {
    let Some(headers) = vector_lines("headers/mainnet_alt_0_2016.hex.zst") else { return };
    let Some(coinbases) = vector_lines("headers/mainnet_alt_coinbases_1_2016.hex.zst") else { return };
    let mut chain = TestChain::new(Params::mainnet());
    for (header, coinbase) in headers.iter().skip(1).zip(&coinbases) {
        chain.connect(&block_from_hex(&format!("{header}01{coinbase}"))).unwrap();
    }
    assert_eq!(chain.height(), 2016);
    assert_eq!(chain.tree.best().header.bits, bits("1c3fffc0"));
    println!("mainnet_alt: {} blocks, one retarget by four", chain.height());
}

#[test]
fn header_chains_that_only_bip_54_refuses_are_accepted() {
    let Some(bytes) = vector_file("bips/bip54_timestamps.json.zst") else { return };
    let root: Value = serde_json::from_slice(&bytes).unwrap();
    fn walk(node: &Value, tree: &mut HeaderTree) -> usize {
        let headers = node["block_headers"].as_array().unwrap();
        for header in headers {
            tree.accept(header_from_hex(header.as_str().unwrap()), LATE).unwrap();
        }
        let extensions = node.get("extensions").and_then(Value::as_array).cloned().unwrap_or_default();
        headers.len() + extensions.iter().map(|extension| walk(extension, tree)).sum::<usize>()
    }
    let mut tree = HeaderTree::new(Arc::new(Params::mainnet()));
    let count = walk(&root, &mut tree);
    println!("BIP 54 time stamps: {count} headers, all valid today");
    assert_eq!(count, 4049);
}

#[test]
fn coinbases_of_the_bip_54_vectors_are_judged_by_the_rules_of_today() {
    let Some(cases) = vector_json("bips/bip54_coinbases.json") else { return };
    let cases = cases.as_array().unwrap();
    for (index, case) in cases.iter().enumerate() {
        let mut chain = TestChain::new(Params::mainnet());
        let blocks = case["block_chain"].as_array().unwrap();
        let (last, before) = blocks.split_last().unwrap();
        for block in &before[1..] {
            chain.connect(&block_from_hex(block.as_str().unwrap())).unwrap();
        }
        // A coinbase that is locked beyond its own block has never been valid; the rest is BIP 54's.
        let verdict = chain.connect(&block_from_hex(last.as_str().unwrap())).map_err(fault);
        match index {
            0 | 1 => assert_eq!(verdict.unwrap_err().reject_reason(), "bad-txns-nonfinal", "{case}"),
            _ => assert!(verdict.is_ok(), "{verdict:?} {case}"),
        }
    }
    println!("BIP 54 coinbases: {} cases", cases.len());
}

#[test]
fn transactions_of_64_bytes_are_valid_today() {
    let Some(cases) = vector_json("bips/bip54_txsize.json") else { return };
    let cases = cases.as_array().unwrap();
    for case in cases {
        let tx = bitcoin::consensus::encode::deserialize_hex(case["tx"].as_str().unwrap()).unwrap();
        assert_eq!(check_transaction(&tx), Ok(()), "{case}");
    }
    println!("BIP 54 transaction sizes: {} cases", cases.len());
}
