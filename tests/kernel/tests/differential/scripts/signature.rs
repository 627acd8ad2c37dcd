//! Signatures, right ones and ones with a fault that some rule is about.
//!
//! The digests come from the `bitcoin` library, which neither Leyden's interpreter nor Bitcoin Core uses.

use bitcoin::hashes::{Hash, sha256, sha256d};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::TapLeafHash;
use bitcoin::{Script, Transaction, TxOut};
use leyden_consensus::script::opcodes::{Instructions, OP_CODESEPARATOR, OP_PUSHDATA1, OP_PUSHDATA2, OP_PUSHDATA4};
use secp256k1::Scalar;

use super::keys::Keys;
use crate::draw::Draw;

/// A signature to be made once the transaction is complete.
#[derive(Clone, Debug)]
pub struct Signature {
    pub key: usize,
    pub hash_type: u8,
    /// Byte offset behind, and opcode position of, the last executed separator.
    pub separator: Option<(usize, u32)>,
    pub fault: Fault,
}

/// What is wrong, or unusual, with a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// The larger of the two values of S: valid in a block.
    HighS,
    /// A zero before R that is not needed.
    PaddedR,
    /// A zero before S that is not needed.
    PaddedS,
    /// R's first bit is set, as a negative number's.
    NegativeR,
    /// Lengths of DER in their long form.
    LongLength,
    /// The sequence says that it is longer or shorter.
    WrongLength,
    /// Bytes between the signature and its hash type.
    Trailing,
    ZeroR,
    ZeroS,
    /// No hash type.
    NoHashType,
    Empty,
    /// One bit.
    Flipped,
    /// A signature for another digest.
    OtherDigest,
    /// Signed with another key.
    OtherKey,
    /// Schnorr: the default hash type is written, which it must not be.
    DefaultWritten,
}

impl Fault {
    pub fn draw(draw: &mut Draw) -> Self {
        use Fault::*;
        draw.pick(&[
            HighS,
            HighS,
            PaddedR,
            PaddedS,
            NegativeR,
            LongLength,
            WrongLength,
            Trailing,
            ZeroR,
            ZeroS,
            NoHashType,
            Empty,
            Flipped,
            OtherDigest,
            OtherKey,
            DefaultWritten,
        ])
    }
}

/// Where a signature is checked.
pub struct Place<'t> {
    pub tx: &'t Transaction,
    pub spent: &'t [TxOut],
    pub input: usize,
}

/// Taproot's part of a place.
pub struct TaprootPlace<'p> {
    pub annex: Option<&'p [u8]>,
    pub leaf: Option<TapLeafHash>,
    /// Of a key that commits to a tree.
    pub tweak: Option<Scalar>,
}

impl Signature {
    /// `code` is the whole script; `removed` bytes of it at an offset are not signed.
    pub fn legacy(&self, place: &Place<'_>, keys: &Keys, code: &[u8]) -> Vec<u8> {
        let code = without_separators(code.get(self.separator.map_or(0, |(offset, _)| offset)..).unwrap_or(&[]));
        let cache = SighashCache::new(place.tx);
        let mut bytes = Vec::new();
        let one = cache
            .legacy_encode_signing_data_to(
                &mut bytes,
                place.input,
                Script::from_bytes(&code),
                u32::from(self.hash_type),
            )
            .is_sighash_single_bug()
            .expect("the input exists");
        let digest = if one { single_bug() } else { sha256d::Hash::hash(&bytes).to_byte_array() };
        self.ecdsa(keys, digest)
    }

    pub fn witness_v0(&self, place: &Place<'_>, keys: &Keys, code: &[u8]) -> Vec<u8> {
        let code = code.get(self.separator.map_or(0, |(offset, _)| offset)..).unwrap_or(&[]);
        let mut bytes = Vec::new();
        let known = EcdsaSighashType::from_consensus(u32::from(self.hash_type));
        let value = place.spent[place.input].value;
        SighashCache::new(place.tx)
            .segwit_v0_encode_signing_data_to(&mut bytes, place.input, Script::from_bytes(code), value, known)
            .expect("the input exists");
        // The library writes the type that it knows; signed is the one that is used.
        bytes.truncate(bytes.len() - 4);
        bytes.extend(u32::from(self.hash_type).to_le_bytes());
        self.ecdsa(keys, sha256d::Hash::hash(&bytes).to_byte_array())
    }

    pub fn taproot(&self, place: &Place<'_>, keys: &Keys, taproot: &TaprootPlace<'_>) -> Vec<u8> {
        let hash_type = if self.hash_type == 1 && self.key == 0 { 0 } else { self.hash_type };
        let position = self.separator.map_or(u32::MAX, |(_, position)| position);
        let known = TapSighashType::from_consensus_u8(hash_type).ok();
        let digest = known.and_then(|known| {
            let annex = taproot.annex.and_then(|annex| Annex::new(annex).ok());
            let leaf = taproot.leaf.map(|leaf| (leaf, position));
            let spent = Prevouts::All(place.spent);
            let mut cache = SighashCache::new(place.tx);
            cache.taproot_signature_hash(place.input, &spent, annex, leaf, known).ok()
        });
        let mut digest = digest.map_or([7; 32], |digest| digest.to_byte_array());
        let mut key = self.key;
        match self.fault {
            Fault::OtherDigest => digest[0] ^= 1,
            Fault::OtherKey => key = (key + 1) % super::keys::KEYS,
            _ => {}
        }
        let mut bytes = keys.schnorr(key, taproot.tweak, digest);
        match self.fault {
            Fault::ZeroR | Fault::NegativeR => bytes[..32].fill(0),
            Fault::ZeroS | Fault::PaddedS => bytes[32..].fill(0),
            Fault::Flipped | Fault::HighS => bytes[40] ^= 4,
            Fault::Empty => return Vec::new(),
            Fault::Trailing => bytes.push(1),
            Fault::WrongLength => drop(bytes.pop()),
            _ => {}
        }
        match (hash_type, self.fault) {
            (0, Fault::DefaultWritten) => bytes.push(0),
            (0, _) | (_, Fault::NoHashType) => {}
            (hash_type, _) => bytes.push(hash_type),
        }
        bytes
    }

    fn ecdsa(&self, keys: &Keys, mut digest: [u8; 32]) -> Vec<u8> {
        let mut key = self.key;
        match self.fault {
            Fault::OtherDigest => digest[0] ^= 1,
            Fault::OtherKey => key = (key + 1) % super::keys::KEYS,
            Fault::Empty => return Vec::new(),
            _ => {}
        }
        let compact = keys.ecdsa(key, digest);
        let (mut r, mut s) = (integer(&compact[..32]), integer(&compact[32..]));
        match self.fault {
            Fault::HighS => s = integer(&negated(&compact[32..])),
            Fault::PaddedR => r.insert(0, 0),
            Fault::PaddedS => s.insert(0, 0),
            Fault::NegativeR => r[0] |= 0x80,
            Fault::ZeroR => r = vec![0],
            Fault::ZeroS => s = if self.key == 0 { Vec::new() } else { vec![0] },
            _ => {}
        }
        let mut body = Vec::new();
        for part in [&r, &s] {
            body.push(2);
            if self.fault == Fault::LongLength {
                body.push(0x81);
            }
            body.push(part.len() as u8);
            body.extend_from_slice(part);
        }
        let mut bytes = vec![0x30];
        if self.fault == Fault::LongLength && self.key.is_multiple_of(2) {
            bytes.push(0x82);
            bytes.push(0);
        }
        let length = body.len() as u8;
        bytes.push(if self.fault == Fault::WrongLength { length ^ 1 } else { length });
        bytes.extend(body);
        match self.fault {
            Fault::Trailing => bytes.extend([0, 1, 2]),
            Fault::Flipped => bytes[20] ^= 1,
            _ => {}
        }
        if self.fault != Fault::NoHashType {
            bytes.push(self.hash_type);
        }
        bytes
    }
}

/// SIGHASH_SINGLE without its output: everybody signs the number one.
fn single_bug() -> [u8; 32] {
    let mut one = [0; 32];
    one[0] = 1;
    one
}

/// The bytes of DER's integer.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(31);
    let mut integer = bytes[start..].to_vec();
    if integer[0] & 0x80 != 0 {
        integer.insert(0, 0);
    }
    integer
}

/// The group's order minus S.
fn negated(s: &[u8]) -> [u8; 32] {
    let secret = secp256k1::SecretKey::from_slice(s).expect("S is in range");
    secret.negate().secret_bytes()
}

/// What a legacy digest signs of a script.
fn without_separators(code: &[u8]) -> Vec<u8> {
    let (mut kept, mut at) = (Vec::new(), 0);
    let mut instructions = Instructions::new(code);
    while let Some(Ok(instruction)) = instructions.next() {
        let end = code.len() - instructions.rest().len();
        if instruction.opcode != OP_CODESEPARATOR {
            kept.extend_from_slice(&code[at..end]);
        }
        at = end;
    }
    kept.extend_from_slice(&code[at..]);
    kept
}

/// A push by the length of its data.
pub fn push_of(data: &[u8]) -> Vec<u8> {
    let length = data.len();
    let head = match length {
        0..=75 => vec![length as u8],
        76..=255 => vec![OP_PUSHDATA1, length as u8],
        256..=65_535 => [&[OP_PUSHDATA2][..], &(length as u16).to_le_bytes()].concat(),
        _ => [&[OP_PUSHDATA4][..], &(length as u32).to_le_bytes()].concat(),
    };
    [&head, data].concat()
}

/// The hash of a taproot leaf of any version.
pub fn leaf_hash(version: u8, script: &[u8]) -> TapLeafHash {
    let mut bytes = vec![version];
    bytes.extend(bitcoin::consensus::serialize(&script.to_vec()));
    TapLeafHash::from_byte_array(tagged(b"TapLeaf", &bytes))
}

/// BIP 340's tagged hash, on plain SHA-256.
pub fn tagged(tag: &[u8], bytes: &[u8]) -> [u8; 32] {
    let tag = sha256::Hash::hash(tag).to_byte_array();
    sha256::Hash::hash(&[&tag[..], &tag, bytes].concat()).to_byte_array()
}
