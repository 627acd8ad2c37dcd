//! MuSig2 (BIP 327): several keys that sign as one.
//!
//! ```text
//!   public keys ──► KeyAgg ──► tweaks ──► the key that the chain sees
//!   nonces of all ──► one aggregate nonce ──┐
//!   message ────────────────────────────────┴──► Session ──► a partial signature of each ──► one BIP 340 signature
//! ```
//!
//! Pure: the randomness of nonces comes in. [`SecretNonce`] is used up by [`Session::sign`]: who signs twice with one gives
//! his key away.

use bitcoin::{
    hashes::{Hash as _, HashEngine as _, sha256},
    secp256k1::{
        Parity, PublicKey, SECP256K1, Scalar, SecretKey, XOnlyPublicKey,
        constants::{CURVE_ORDER, ONE},
    },
};

/// Two points, compressed.
pub(crate) const PUBLIC_NONCE: usize = 66;

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Musig2Error {
    #[error("the keys together make none")]
    Keys,
    #[error("a tweak is no number below the order of the group, or makes no key")]
    Tweak,
    #[error("a public nonce is no pair of points")]
    Nonce,
    #[error("a partial signature is no number below the order of the group")]
    PartialSignature,
    #[error("the signing key is none of the keys")]
    NotAmongKeys,
    #[error("the partial signatures make no valid signature")]
    Signature,
}

/// A number modulo the order of the group; `None` is zero, which the library has no key for.
#[derive(Clone, Copy)]
struct Number(Option<SecretKey>);

impl Number {
    const ZERO: Self = Self(None);

    /// What a hash is modulo the order: it is taken off once at most.
    fn of_hash(hash: [u8; 32]) -> Self {
        let mut bytes = hash;
        if hash >= CURVE_ORDER {
            let mut borrow = 0;
            for (byte, order) in bytes.iter_mut().zip(CURVE_ORDER).rev() {
                let taken = i16::from(*byte) - i16::from(order) - borrow;
                borrow = i16::from(taken < 0);
                *byte = u8::try_from(taken.rem_euclid(256)).unwrap_or_default();
            }
        }
        Self(SecretKey::from_slice(&bytes).ok())
    }

    /// `None` if it is not below the order.
    fn of_bytes(bytes: &[u8; 32]) -> Option<Self> {
        if *bytes >= CURVE_ORDER { None } else { Some(Self(SecretKey::from_slice(bytes).ok())) }
    }

    fn bytes(self) -> [u8; 32] {
        self.0.map_or([0; 32], |key| key.secret_bytes())
    }

    fn scalar(self) -> Scalar {
        self.0.map_or(Scalar::ZERO, Scalar::from)
    }

    fn plus(self, other: Self) -> Self {
        match self.0 {
            // That fails where the sum is zero.
            Some(key) => Self(key.add_tweak(&other.scalar()).ok()),
            None => other,
        }
    }

    fn times(self, other: Self) -> Self {
        Self(self.0.zip(other.0).and_then(|(key, other)| key.mul_tweak(&Scalar::from(other)).ok()))
    }

    fn negated_if(self, condition: bool) -> Self {
        if condition { Self(self.0.map(SecretKey::negate)) } else { self }
    }

    /// So many times the generator.
    fn point(self) -> Point {
        Point(self.0.map(|key| key.public_key(SECP256K1)))
    }
}

/// A point of the curve; `None` is the one at infinity.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Point(Option<PublicKey>);

impl Point {
    fn plus(self, other: Self) -> Self {
        match (self.0, other.0) {
            // That fails where the sum is at infinity.
            (Some(one), Some(other)) => Self(one.combine(&other).ok()),
            (one, None) => Self(one),
            (None, other) => Self(other),
        }
    }

    fn times(self, factor: Number) -> Self {
        Self(self.0.zip(factor.0).and_then(|(point, factor)| point.mul_tweak(SECP256K1, &Scalar::from(factor)).ok()))
    }

    fn negated_if(self, condition: bool) -> Self {
        if condition { Self(self.0.map(|point| point.negate(SECP256K1))) } else { self }
    }

    /// At infinity: zeros.
    fn bytes(self) -> [u8; 33] {
        self.0.map_or([0; 33], |point| point.serialize())
    }

    /// What stands for a point, or for the one at infinity.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.iter().all(|byte| *byte == 0) {
            Some(Self(None))
        } else {
            PublicKey::from_slice(bytes).ok().map(|point| Self(Some(point)))
        }
    }
}

fn tagged(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let name = sha256::Hash::hash(tag.as_bytes());
    let mut engine = sha256::Hash::engine();
    engine.input(name.as_byte_array());
    engine.input(name.as_byte_array());
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}

fn is_odd(key: &PublicKey) -> bool {
    key.x_only_public_key().1 == Parity::Odd
}

/// BIP 327, KeySort.
pub(crate) fn sort(keys: &mut [PublicKey]) {
    keys.sort_by_key(PublicKey::serialize);
}

/// The key that several keys are together, and how it was tweaked (BIP 327, KeyAgg Context).
#[derive(Clone)]
pub(crate) struct KeyContext {
    keys: Vec<PublicKey>,
    list: [u8; 32],
    second: Option<PublicKey>,
    key: PublicKey,
    /// Whether the sum of tweaks goes with the negated keys.
    is_negated: bool,
    tweak: Number,
}

impl KeyContext {
    /// BIP 327, KeyAgg: in the order that is given.
    pub(crate) fn new(keys: &[PublicKey]) -> Result<Self, Musig2Error> {
        let first = keys.first().ok_or(Musig2Error::Keys)?;
        let encoded: Vec<[u8; 33]> = keys.iter().map(PublicKey::serialize).collect();
        let parts: Vec<&[u8]> = encoded.iter().map(<[u8; 33]>::as_slice).collect();
        let list = tagged("KeyAgg list", &parts);
        let second = keys.iter().find(|key| *key != first).copied();
        let mut sum = Point(None);
        for key in keys {
            sum = sum.plus(Point(Some(*key)).times(coefficient(&list, second.as_ref(), key)));
        }
        let key = sum.0.ok_or(Musig2Error::Keys)?;
        Ok(Self { keys: keys.to_vec(), list, second, key, is_negated: false, tweak: Number::ZERO })
    }

    /// BIP 327, ApplyTweak.
    pub(crate) fn tweaked(self, tweak: &[u8; 32], is_x_only: bool) -> Result<Self, Musig2Error> {
        let number = Number::of_bytes(tweak).ok_or(Musig2Error::Tweak)?;
        let negate = is_x_only && is_odd(&self.key);
        let point = Point(Some(self.key)).negated_if(negate).plus(number.point());
        Ok(Self {
            key: point.0.ok_or(Musig2Error::Tweak)?,
            is_negated: self.is_negated != negate,
            tweak: number.plus(self.tweak.negated_if(negate)),
            ..self
        })
    }

    /// As the key of a P2TR output (BIP 341) with these scripts, or without any (BIP 86).
    pub(crate) fn tweaked_for_taproot(self, script_root: &[u8]) -> Result<Self, Musig2Error> {
        let tweak = tagged("TapTweak", &[&self.x_only().serialize(), script_root]);
        self.tweaked(&tweak, true)
    }

    pub(crate) fn x_only(&self) -> XOnlyPublicKey {
        self.key.x_only_public_key().0
    }

    pub(crate) fn signers(&self) -> usize {
        self.keys.len()
    }
}

fn coefficient(list: &[u8; 32], second: Option<&PublicKey>, key: &PublicKey) -> Number {
    if second == Some(key) {
        return Number(SecretKey::from_slice(&ONE).ok());
    }
    Number::of_hash(tagged("KeyAgg coefficient", &[list, &key.serialize()]))
}

/// What a signer keeps to himself between telling his nonce and signing.
pub(crate) struct SecretNonce {
    first: SecretKey,
    second: SecretKey,
}

impl SecretNonce {
    /// BIP 327, NonceGen, for a key and what it signs for. `random` is fresh.
    pub(crate) fn new(random: &[u8; 32], secret: &SecretKey, key: &KeyContext) -> Result<Self, Musig2Error> {
        let public = secret.public_key(SECP256K1);
        Self::generate(random, Some(secret), &public, &key.x_only().serialize(), None, &[])
    }

    fn generate(
        random: &[u8; 32],
        secret: Option<&SecretKey>,
        public: &PublicKey,
        aggregate: &[u8],
        message: Option<&[u8]>,
        extra: &[u8],
    ) -> Result<Self, Musig2Error> {
        let mut seed = *random;
        if let Some(secret) = secret {
            let mask = tagged("MuSig/aux", &[random]);
            let masked = secret.secret_bytes().into_iter().zip(mask).map(|(byte, mask)| byte ^ mask);
            seed.iter_mut().zip(masked).for_each(|(byte, masked)| *byte = masked);
        }
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes();
        let message = match message {
            Some(message) => [&[1], length(message).as_slice(), message].concat(),
            None => vec![0],
        };
        let public = public.serialize();
        let short = |bytes: &[u8]| [u8::try_from(bytes.len()).unwrap_or(u8::MAX)];
        let extra_length = u32::try_from(extra.len()).unwrap_or(u32::MAX).to_be_bytes();
        let number = |at: u8| {
            let hash = tagged(
                "MuSig/nonce",
                &[&seed, &short(&public), &public, &short(aggregate), aggregate, &message, &extra_length, extra, &[at]],
            );
            Number::of_hash(hash).0.ok_or(Musig2Error::Nonce)
        };
        Ok(Self { first: number(0)?, second: number(1)? })
    }

    pub(crate) fn public(&self) -> PublicNonce {
        let point = |secret: &SecretKey| Point(Some(secret.public_key(SECP256K1)));
        PublicNonce { first: point(&self.first), second: point(&self.second) }
    }
}

/// What the others are told, and what all of that is together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicNonce {
    first: Point,
    second: Point,
}

impl PublicNonce {
    /// Of one signer: two points.
    pub(crate) fn of_signer(bytes: &[u8]) -> Result<Self, Musig2Error> {
        let nonce = Self::aggregate_of_bytes(bytes)?;
        if nonce.first.0.is_none() || nonce.second.0.is_none() { Err(Musig2Error::Nonce) } else { Ok(nonce) }
    }

    /// Of all signers: points at infinity are possible.
    pub(crate) fn aggregate_of_bytes(bytes: &[u8]) -> Result<Self, Musig2Error> {
        let (first, second) = bytes.split_at_checked(33).ok_or(Musig2Error::Nonce)?;
        if second.len() != 33 {
            return Err(Musig2Error::Nonce);
        }
        let point = |bytes| Point::of_bytes(bytes).ok_or(Musig2Error::Nonce);
        Ok(Self { first: point(first)?, second: point(second)? })
    }

    /// BIP 327, NonceAgg.
    pub(crate) fn aggregate(nonces: &[Self]) -> Self {
        let none = Self { first: Point(None), second: Point(None) };
        let add = |sum: Self, nonce: &Self| Self {
            first: sum.first.plus(nonce.first),
            second: sum.second.plus(nonce.second),
        };
        nonces.iter().fold(none, add)
    }

    pub(crate) fn bytes(&self) -> [u8; PUBLIC_NONCE] {
        let mut bytes = [0; PUBLIC_NONCE];
        let points = self.first.bytes().into_iter().chain(self.second.bytes());
        bytes.iter_mut().zip(points).for_each(|(byte, point)| *byte = point);
        bytes
    }
}

/// A part of a signature.
#[derive(Clone, Copy)]
pub(crate) struct PartialSignature(Number);

impl PartialSignature {
    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, Musig2Error> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| Musig2Error::PartialSignature)?;
        Number::of_bytes(bytes).map(Self).ok_or(Musig2Error::PartialSignature)
    }

    pub(crate) fn bytes(self) -> [u8; 32] {
        self.0.bytes()
    }
}

/// Everything that is known once all nonces and the message are (BIP 327, Session Context).
#[derive(Clone)]
pub(crate) struct Session {
    key: KeyContext,
    /// The second nonces' factor.
    blinding: Number,
    nonce: PublicKey,
    challenge: Number,
}

impl Session {
    pub(crate) fn new(key: KeyContext, nonce: &PublicNonce, message: &[u8]) -> Result<Self, Musig2Error> {
        let x = key.x_only().serialize();
        let blinding = Number::of_hash(tagged("MuSig/noncecoef", &[&nonce.bytes(), &x, message]));
        let point = nonce.first.plus(nonce.second.times(blinding));
        // Where the nonces cancel out, somebody lies, and his partial signature tells who.
        let nonce = point.0.or(Number(SecretKey::from_slice(&ONE).ok()).point().0).ok_or(Musig2Error::Nonce)?;
        let challenge = tagged("BIP0340/challenge", &[&nonce.x_only_public_key().0.serialize(), &x, message]);
        Ok(Self { challenge: Number::of_hash(challenge), blinding, nonce, key })
    }

    /// BIP 327, Sign. The nonce is used up.
    pub(crate) fn sign(&self, nonce: SecretNonce, secret: &SecretKey) -> Result<PartialSignature, Musig2Error> {
        let public = secret.public_key(SECP256K1);
        if !self.key.keys.contains(&public) {
            return Err(Musig2Error::NotAmongKeys);
        }
        let told = nonce.public();
        let negate = is_odd(&self.nonce);
        let first = Number(Some(nonce.first)).negated_if(negate);
        let second = Number(Some(nonce.second)).negated_if(negate);
        let factor = coefficient(&self.key.list, self.key.second.as_ref(), &public);
        let own = Number(Some(*secret)).negated_if(is_odd(&self.key.key) != self.key.is_negated);
        let sum = first.plus(self.blinding.times(second)).plus(self.challenge.times(factor).times(own));
        let signed = PartialSignature(sum);
        // BIP 327: a fault of the machine must not leave it.
        if self.is_valid(&signed, &told, &public) { Ok(signed) } else { Err(Musig2Error::PartialSignature) }
    }

    /// BIP 327, PartialSigVerify.
    pub(crate) fn is_valid(&self, signature: &PartialSignature, nonce: &PublicNonce, key: &PublicKey) -> bool {
        let point = nonce.first.plus(nonce.second.times(self.blinding)).negated_if(is_odd(&self.nonce));
        let factor = coefficient(&self.key.list, self.key.second.as_ref(), key);
        let own = Point(Some(*key)).negated_if(is_odd(&self.key.key) != self.key.is_negated);
        signature.0.point() == point.plus(own.times(self.challenge.times(factor)))
    }

    /// BIP 327, PartialSigAgg: the signature, which holds for the key and the message.
    pub(crate) fn aggregate(&self, parts: &[PartialSignature]) -> [u8; 64] {
        let tweak = self.challenge.times(self.key.tweak).negated_if(is_odd(&self.key.key));
        let sum = parts.iter().fold(tweak, |sum, part| sum.plus(part.0));
        let mut bytes = [0; 64];
        let halves = self.nonce.x_only_public_key().0.serialize().into_iter().chain(sum.bytes());
        bytes.iter_mut().zip(halves).for_each(|(byte, half)| *byte = half);
        bytes
    }
}

#[cfg(test)]
mod tests;
