//! A few keys, the same in every run, in every form in which scripts may hold them.

use secp256k1::{Keypair, Message, PublicKey, SECP256K1, Scalar, SecretKey};

/// How many there are.
pub const KEYS: usize = 4;

pub struct Keys(Vec<Keypair>);

impl Keys {
    pub fn new() -> Self {
        let secret = |index: usize| SecretKey::from_slice(&[index as u8 + 1; 32]).expect("in range");
        Self((0..KEYS).map(|index| Keypair::from_secret_key(SECP256K1, &secret(index))).collect())
    }

    pub fn public(&self, key: usize) -> PublicKey {
        self.0[key].public_key()
    }

    pub fn compressed(&self, key: usize) -> Vec<u8> {
        self.public(key).serialize().to_vec()
    }

    pub fn uncompressed(&self, key: usize) -> Vec<u8> {
        self.public(key).serialize_uncompressed().to_vec()
    }

    /// Both coordinates behind a mark that tells the oddness of the second, rightly or not.
    pub fn hybrid(&self, key: usize, right: bool) -> Vec<u8> {
        let mut bytes = self.uncompressed(key);
        let odd = bytes[64] & 1;
        bytes[0] = 6 + if right { odd } else { 1 - odd };
        bytes
    }

    pub fn x_only(&self, key: usize) -> Vec<u8> {
        self.0[key].x_only_public_key().0.serialize().to_vec()
    }

    /// Compact: R and S, 32 bytes each.
    pub fn ecdsa(&self, key: usize, digest: [u8; 32]) -> [u8; 64] {
        let message = Message::from_digest(digest);
        SECP256K1.sign_ecdsa(&message, &self.0[key].secret_key()).serialize_compact()
    }

    /// By the key itself, or by the key that commits to a taproot tree.
    pub fn schnorr(&self, key: usize, tweak: Option<Scalar>, digest: [u8; 32]) -> Vec<u8> {
        let pair = match tweak {
            Some(tweak) => self.0[key].add_xonly_tweak(SECP256K1, &tweak).expect("no such tweak"),
            None => self.0[key],
        };
        SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair).as_ref().to_vec()
    }

    /// The output key that commits to a tweak, and whether its second coordinate is odd.
    pub fn tweaked(&self, key: usize, tweak: Scalar) -> ([u8; 32], bool) {
        let (x_only, _) = self.0[key].x_only_public_key();
        let (output, parity) = x_only.add_tweak(SECP256K1, &tweak).expect("no such tweak");
        (output.serialize(), parity == secp256k1::Parity::Odd)
    }
}
