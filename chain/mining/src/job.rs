//! A header prepared for the search.
//!
//! SHA-256 eats a header in two 64-byte blocks. The nonce lies in the second one, so the state after the first (the
//! midstate) is computed once a job instead of once a nonce.

use bitcoin::block::Header;
use bitcoin::consensus::Encodable;
use bitcoin::{BlockHash, Target};
use sha2::block_api::compress256;

/// SHA-256's initial state (FIPS 180-4, 5.3.3).
pub const INITIAL_STATE: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// One header whose nonce is wanted.
#[derive(Clone, Debug)]
pub struct Job {
    header: Header,
    midstate: [u32; 8],
    tail: [u32; 3],
    target: [u32; 8],
}

/// A nonce that makes the job's header meet its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The header's nonce that meets the target.
    pub nonce: u32,
    /// The hash of the header with that nonce.
    pub hash: BlockHash,
}

impl Job {
    /// Prepares `header` for a search against the target in its own `bits`. Its nonce is ignored.
    pub fn new(header: &Header) -> Self {
        Self::with_target(header, header.target())
    }

    /// Prepares `header` for a search against another target, as a pool's shares or a test need.
    pub fn with_target(header: &Header, target: Target) -> Self {
        let bytes = header_bytes(header);
        let mut first_block = [0u8; 64];
        first_block.copy_from_slice(&bytes[..64]);
        let mut midstate = INITIAL_STATE;
        compress256(&mut midstate, &[first_block]);
        Self {
            header: *header,
            midstate,
            tail: [word_at(&bytes, 64), word_at(&bytes, 68), word_at(&bytes, 72)],
            target: words(&target.to_be_bytes()),
        }
    }

    /// The state after the header's first 64 bytes.
    pub fn midstate(&self) -> &[u32; 8] {
        &self.midstate
    }

    /// Bytes 64..76 as SHA-256 reads them: the merkle root's last four bytes, the time, the bits. The nonce is the
    /// fourth word, and it enters byte-swapped, since a header holds it little-endian.
    pub fn tail(&self) -> &[u32; 3] {
        &self.tail
    }

    /// The target's most significant 32 bits. A kernel compares the byte-swapped last state word with it, and leaves
    /// the few hashes that do not exceed it to [`Job::check`].
    pub fn target_top(&self) -> u32 {
        self.target[0]
    }

    /// The whole target, most significant word first.
    pub fn target(&self) -> &[u32; 8] {
        &self.target
    }

    /// The header that is searched, with `nonce` filled in.
    pub fn header(&self, nonce: u32) -> Header {
        Header { nonce, ..self.header }
    }

    /// Hashes the header with `nonce` by the library, and says whether it meets the target.
    pub fn check(&self, nonce: u32) -> Option<Found> {
        let hash = self.header(nonce).block_hash();
        let mut number = *AsRef::<[u8; 32]>::as_ref(&hash);
        number.reverse();
        (words(&number) <= self.target).then_some(Found { nonce, hash })
    }
}

fn header_bytes(header: &Header) -> [u8; 80] {
    let mut bytes = [0u8; 80];
    let mut rest: &mut [u8] = &mut bytes;
    // A header is always 80 bytes, so writing into a slice of 80 cannot run out of room.
    let written = header.consensus_encode(&mut rest);
    debug_assert!(matches!(written, Ok(80)));
    bytes
}

fn word_at(bytes: &[u8; 80], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A 256-bit big-endian number as words, most significant first; arrays of words compare like the numbers.
fn words(bytes: &[u8; 32]) -> [u32; 8] {
    let mut words = [0u32; 8];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*chunk);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;

    #[test]
    fn the_genesis_nonces_meet_their_targets() {
        for network in [Network::Bitcoin, Network::Testnet, Network::Signet, Network::Regtest] {
            let header = genesis_block(network).header;
            let found = Job::new(&header).check(header.nonce).expect("a genesis block has its proof of work");
            assert_eq!(found.hash, header.block_hash());
        }
    }

    #[test]
    fn a_hash_equal_to_the_target_is_enough_and_one_above_is_not() {
        let header = genesis_block(Network::Bitcoin).header;
        let mut number = *AsRef::<[u8; 32]>::as_ref(&header.block_hash());
        assert!(Job::with_target(&header, Target::from_le_bytes(number)).check(header.nonce).is_some());
        number[0] -= 1;
        assert!(Job::with_target(&header, Target::from_le_bytes(number)).check(header.nonce).is_none());
    }
}
