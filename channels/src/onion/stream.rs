//! Keys and byte streams that both directions of an onion derive from a shared secret (BOLT 4, Key Generation and
//! Pseudo Random Byte Stream).

use bitcoin_hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};

/// What a key is for; the name is hashed into it.
#[derive(Clone, Copy)]
pub(super) enum KeyType {
    /// Obfuscates the payloads.
    Rho,
    /// Authenticates the packet.
    Mu,
    /// Authenticates a failure.
    Um,
    /// Obfuscates a failure.
    Ammag,
    /// Fills the packet before the first payload goes in.
    Pad,
}

pub(super) fn derive_key(kind: KeyType, secret: &[u8; 32]) -> [u8; 32] {
    let name: &[u8] = match kind {
        KeyType::Rho => b"rho",
        KeyType::Mu => b"mu",
        KeyType::Um => b"um",
        KeyType::Ammag => b"ammag",
        KeyType::Pad => b"pad",
    };
    hmac(name, &[secret])
}

pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    for part in parts {
        engine.input(part);
    }
    Hmac::from_engine(engine).to_byte_array()
}

/// XORs `data` with the stream of `key`, from the stream's byte `offset` on. A nonce of zero is safe, because no key
/// is used twice.
pub(super) fn xor_stream(key: &[u8; 32], offset: u32, data: &mut [u8]) {
    let mut cipher = ChaCha20::new(&(*key).into(), &[0; 12].into());
    cipher.seek(offset);
    cipher.apply_keystream(data);
}
