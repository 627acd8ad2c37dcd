//! Every operation on the curve that a channel, a payment or an onion needs, counted by its kind.
//!
//! Curve arithmetic is most of what a payment costs. A count does not depend on the machine, so a test can hold it
//! (`channel/tests/work.rs`) and metrics can show it. Promises: nothing else of this crate works on the curve, tests and
//! foreign libraries aside (see `tests/architecture.rs`); a count costs one relaxed addition.

use std::sync::atomic::{AtomicU64, Ordering};

use secp256k1::{
    Error, Message, PublicKey, Scalar, SecretKey,
    ecdh::SharedSecret,
    ecdsa::{RecoverableSignature, Signature},
};

use super::secp;

/// A kind of operation, and its cost beside the others (secp256k1 0.29 on a Zen 4 core at 3.7 GHz).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CurveOperation {
    /// An ECDSA signature, some 20 µs. One with a low R takes two on average.
    Sign,
    /// A check of an ECDSA signature, some 30 µs.
    Verify,
    /// The key that has signed, out of a recoverable signature, some 35 µs.
    Recover,
    /// The public key of a secret, some 15 µs.
    PublicKey,
    /// A point plus a multiple of the generator, some 15 µs.
    AddGenerator,
    /// A multiple of a point that is not the generator, some 25 µs.
    Multiply,
    /// A shared secret (ECDH), some 35 µs: its time does not depend on the secret.
    SharedSecret,
}

static COUNTS: [AtomicU64; CurveOperation::ALL.len()] = [const { AtomicU64::new(0) }; CurveOperation::ALL.len()];

impl CurveOperation {
    /// All of them, in the order of the variants.
    pub const ALL: [Self; 7] = [
        Self::Sign,
        Self::Verify,
        Self::Recover,
        Self::PublicKey,
        Self::AddGenerator,
        Self::Multiply,
        Self::SharedSecret,
    ];

    /// For metrics: lower case, words joined by `_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Recover => "recover",
            Self::PublicKey => "public_key",
            Self::AddGenerator => "add_generator",
            Self::Multiply => "multiply",
            Self::SharedSecret => "shared_secret",
        }
    }

    /// How many this process has done since its start.
    pub fn count(self) -> u64 {
        COUNTS.get(self as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn note(self) {
        self.note_many(1);
    }

    fn note_many(self, times: u64) {
        if let Some(count) = COUNTS.get(self as usize) {
            count.fetch_add(times, Ordering::Relaxed);
        }
        #[cfg(test)]
        tests::note_in_thread(self, times);
    }
}

/// ECDSA, deterministic (RFC 6979), with any R and a low S.
pub fn sign(digest: &Message, key: &SecretKey) -> Signature {
    CurveOperation::Sign.note();
    secp().sign_ecdsa(digest, key)
}

/// The same with a low R: it keeps a transaction's size within a byte of its predicted weight.
pub fn sign_low_r(digest: &Message, key: &SecretKey) -> Signature {
    CurveOperation::Sign.note_many(2);
    secp().sign_ecdsa_low_r(digest, key)
}

/// A signature that tells its key, as invoices carry it (BOLT 11).
pub fn sign_recoverable(digest: &Message, key: &SecretKey) -> RecoverableSignature {
    CurveOperation::Sign.note();
    secp().sign_ecdsa_recoverable(digest, key)
}

/// True if `signature` is `key`'s over `digest`. High-S signatures are refused, as they would not relay.
pub fn verify(digest: &Message, signature: &Signature, key: &PublicKey) -> bool {
    CurveOperation::Verify.note();
    secp().verify_ecdsa(digest, signature, key).is_ok()
}

/// The key that has signed. An error if there is none.
pub fn recover(digest: &Message, signature: &RecoverableSignature) -> Result<PublicKey, Error> {
    CurveOperation::Recover.note();
    secp().recover_ecdsa(digest, signature)
}

/// The public key of a secret.
pub fn public_key(secret: &SecretKey) -> PublicKey {
    CurveOperation::PublicKey.note();
    secret.public_key(secp())
}

/// `point + tweak * G`. An error if that is the point at infinity.
pub fn add_generator(point: &PublicKey, tweak: &Scalar) -> Result<PublicKey, Error> {
    CurveOperation::AddGenerator.note();
    point.add_exp_tweak(secp(), tweak)
}

/// `tweak * point`. An error if that is the point at infinity.
pub fn multiply(point: &PublicKey, tweak: &Scalar) -> Result<PublicKey, Error> {
    CurveOperation::Multiply.note();
    point.mul_tweak(secp(), tweak)
}

/// SHA-256 of the compressed product of `point` and `secret` (BOLT 4 and BOLT 8).
pub fn shared_secret(point: &PublicKey, secret: &SecretKey) -> [u8; 32] {
    CurveOperation::SharedSecret.note();
    SharedSecret::new(point, secret).secret_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use super::CurveOperation;

    /// How many of each kind, the kinds that do not occur left out.
    pub(crate) type Work = BTreeMap<CurveOperation, u64>;

    thread_local! {
        static OF_THREAD: RefCell<Work> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn note_in_thread(operation: CurveOperation, times: u64) {
        OF_THREAD.with_borrow_mut(|work| *work.entry(operation).or_default() += times);
    }

    /// What `doing` costs. Tests run side by side, so only this thread counts.
    pub(crate) fn work_of<T>(doing: impl FnOnce() -> T) -> (T, Work) {
        let before = OF_THREAD.take();
        let result = doing();
        let work = OF_THREAD.take();
        OF_THREAD.set(before);
        (result, work)
    }
}
