//! One header at a time, two compressions a nonce. The compression function is the `sha2` crate's, which uses the
//! processor's SHA instructions where there are any.

use sha2::block_api::compress256;

use super::{Kernel, NonceRange};
use crate::job::{Found, INITIAL_STATE, Job};

/// The reference kernel.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Kernel for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn scan(&self, job: &Job, range: NonceRange) -> Option<Found> {
        // Bytes 64..80 of an 80-byte message, then its padding: a one bit and the length of 640 bits.
        let mut second_block = [0u8; 64];
        for (bytes, word) in second_block.as_chunks_mut::<4>().0.iter_mut().zip(job.tail()) {
            *bytes = word.to_be_bytes();
        }
        second_block[16] = 0x80;
        second_block[56..].copy_from_slice(&640u64.to_be_bytes());
        // A 32-byte message with its padding: the first hash, hashed again.
        let mut digest_block = [0u8; 64];
        digest_block[32] = 0x80;
        digest_block[56..].copy_from_slice(&256u64.to_be_bytes());
        for nonce in range.iter() {
            second_block[12..16].copy_from_slice(&nonce.to_le_bytes());
            let mut state = *job.midstate();
            compress256(&mut state, &[second_block]);
            for (bytes, word) in digest_block.as_chunks_mut::<4>().0.iter_mut().zip(state) {
                *bytes = word.to_be_bytes();
            }
            let mut state = INITIAL_STATE;
            compress256(&mut state, &[digest_block]);
            // The hash is a little-endian number, so its most significant word is the last one, byte-swapped.
            if state[7].swap_bytes() <= job.target_top()
                && let Some(found) = job.check(nonce)
            {
                return Some(found);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;

    #[test]
    fn satoshis_nonce_is_found_again() {
        for network in [Network::Bitcoin, Network::Signet] {
            let header = genesis_block(network).header;
            let range = NonceRange { start: header.nonce - 2_000, count: 3_000 };
            let found = Scalar.scan(&Job::new(&header), range);
            assert_eq!(found, Some(Found { nonce: header.nonce, hash: header.block_hash() }));
        }
    }

    #[test]
    fn a_range_without_a_solution_ends_empty_and_the_last_nonces_do_not_wrap() {
        let header = genesis_block(Network::Bitcoin).header;
        let job = Job::new(&header);
        assert_eq!(Scalar.scan(&job, NonceRange { start: header.nonce - 500, count: 500 }), None);
        assert_eq!(Scalar.scan(&job, NonceRange { start: u32::MAX - 9, count: 10 }), None);
        assert_eq!(Scalar.scan(&job, NonceRange { start: header.nonce, count: 0 }), None);
    }

    proptest::proptest! {
        #[test]
        fn the_kernel_agrees_with_the_library(root: [u8; 32], time: u32, start: u32) {
            let mut header = genesis_block(Network::Regtest).header;
            header.merkle_root = bitcoin::hashes::Hash::from_byte_array(root);
            header.time = time;
            let job = Job::new(&header);
            let range = NonceRange { start, count: 64.min(u32::MAX - start) };
            let expected = range.iter().find_map(|nonce| job.check(nonce));
            proptest::prop_assert_eq!(Scalar.scan(&job, range), expected);
        }
    }
}
