//! Every kernel that runs here finds exactly the nonces that the library's double hash finds.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use bitcoin::block::{Header, Version};
use bitcoin::constants::genesis_block;
use bitcoin::{BlockHash, CompactTarget, Network, Target, TxMerkleNode};
use bitcoin_hashes::{Hash, sha256d};
use leyden_mining::kernel::available;
use leyden_mining::{Found, Job, Kernel, NonceRange};
use proptest::prelude::*;

/// All solutions of a range, by restarting the kernel after each.
fn all_found(kernel: &dyn Kernel, job: &Job, range: NonceRange) -> Vec<Found> {
    let mut found = vec![];
    let mut rest = range;
    while let Some(next) = kernel.scan(job, rest) {
        found.push(next);
        let tried = next.nonce.wrapping_sub(rest.start) + 1;
        rest = NonceRange { start: next.nonce.wrapping_add(1), count: rest.count - tried };
    }
    found
}

/// What a scan should find, by hashing every header with the library, without any of this crate's code.
fn all_by_library(header: &Header, target: Target, range: NonceRange) -> Vec<Found> {
    range
        .iter()
        .filter_map(|nonce| {
            let bytes = bitcoin::consensus::serialize(&Header { nonce, ..*header });
            let hash = BlockHash::from_byte_array(sha256d::Hash::hash(&bytes).to_byte_array());
            target.is_met_by(hash).then_some(Found { nonce, hash })
        })
        .collect()
}

fn target(leading_zero_bits: usize, below: [u8; 32]) -> Target {
    let mut bytes = below;
    bytes[leading_zero_bits / 8] |= 0x80 >> (leading_zero_bits % 8);
    for bit in 0..leading_zero_bits {
        bytes[bit / 8] &= !(0x80 >> (bit % 8));
    }
    Target::from_be_bytes(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn every_kernel_finds_the_nonces_that_the_library_finds(
        version: i32,
        prev: [u8; 32],
        root: [u8; 32],
        time: u32,
        bits: u32,
        start in prop_oneof![any::<u32>(), Just(0), u32::MAX - 600..u32::MAX],
        count in 0u32..700,
        zero_bits in 0usize..14,
        below: [u8; 32],
    ) {
        let header = Header {
            version: Version::from_consensus(version),
            prev_blockhash: BlockHash::from_byte_array(prev),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time,
            bits: CompactTarget::from_consensus(bits),
            nonce: 0,
        };
        let target = target(zero_bits, below);
        let job = Job::with_target(&header, target);
        // A range never passes 2^32.
        let range = NonceRange { start, count: count.min((u32::MAX - start).saturating_add(1)) };
        let expected = all_by_library(&header, target, range);
        for kernel in available() {
            prop_assert_eq!(&all_found(kernel.as_ref(), &job, range), &expected, "{}", kernel.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    /// A target that only one hash of many meets, at every place of a vector, of a range and next to its ends.
    #[test]
    fn a_hash_equal_to_the_target_is_found_wherever_it_lies_and_one_above_is_not(
        root: [u8; 32],
        time: u32,
        start in 0u32..u32::MAX - 4_096,
        before in 0u32..80,
        after in 0u32..80,
    ) {
        let header = Header {
            merkle_root: TxMerkleNode::from_byte_array(root),
            time,
            ..genesis_block(Network::Regtest).header
        };
        let easy = Job::with_target(&header, Target::from_be_bytes([0xff; 32]));
        let lowest = (start..start + 4_096).filter_map(|nonce| easy.check(nonce)).min_by_key(|found| number(&found.hash));
        let lowest = lowest.unwrap();
        let target = number(&lowest.hash);
        let (equal, below) = (Job::with_target(&header, target), Job::with_target(&header, one_less(target)));
        let first = lowest.nonce.saturating_sub(before).max(start);
        let (to_it, count) = (lowest.nonce - first, (lowest.nonce - first + 1 + after).min(start + 4_096 - first));
        for kernel in available() {
            let range = NonceRange { start: first, count };
            prop_assert_eq!(kernel.scan(&equal, range), Some(lowest), "{}", kernel.name());
            prop_assert_eq!(kernel.scan(&below, range), None, "{}", kernel.name());
            let up_to_it = NonceRange { start: first, count: to_it };
            prop_assert_eq!(kernel.scan(&equal, up_to_it), None, "{}", kernel.name());
        }
    }
}

fn number(hash: &BlockHash) -> Target {
    Target::from_le_bytes(hash.to_byte_array())
}

fn one_less(target: Target) -> Target {
    let mut bytes = target.to_le_bytes();
    for byte in &mut bytes {
        let borrowed;
        (*byte, borrowed) = byte.overflowing_sub(1);
        if !borrowed {
            break;
        }
    }
    Target::from_le_bytes(bytes)
}

#[test]
fn every_kernel_finds_satoshis_nonce() {
    for network in [Network::Bitcoin, Network::Signet] {
        let header = genesis_block(network).header;
        let expected = Some(Found { nonce: header.nonce, hash: header.block_hash() });
        for kernel in available() {
            // At every place of a vector and of the range.
            for before in (0..70).chain([4_096, 100_003]) {
                let range = NonceRange { start: header.nonce - before, count: before + 1 };
                assert_eq!(kernel.scan(&Job::new(&header), range), expected, "{} {before}", kernel.name());
                let short = NonceRange { count: before, ..range };
                assert_eq!(kernel.scan(&Job::new(&header), short), None, "{} {before}", kernel.name());
            }
        }
    }
}

#[test]
fn the_kernels_of_this_machine_are_named() {
    let names: Vec<_> = available().iter().map(|kernel| kernel.name()).collect();
    println!("kernels here: {names:?}");
    assert_eq!(names[0], "scalar");
    let mut different = names.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), names.len());
}
