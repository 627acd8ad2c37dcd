//! Signing messages as LND does: a recoverable signature over two rounds of SHA-256, in zbase32.

use async_trait::async_trait;
use bitcoin::hashes::{Hash as _, sha256};
use leyden_channels::{keys::secp, types::NodeId};
use secp256k1::{
    Message, PublicKey, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use super::LightningNode;
use crate::api::{ApiError, Messages, Signatory};

/// What stands before each message, so that nobody can have a transaction signed for one.
const PREFIX: &[u8] = b"Lightning Signed Message:";

/// A recoverable signature begins with this, and the number of the key for which it stands: four for the uncompressed form
/// come before those for the compressed one.
const FIRST_HEADER: u8 = 27 + 4;

/// Zooko O'Whielacronx's base 32: the easier letters for the commoner values.
const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

#[async_trait]
impl Messages for LightningNode {
    async fn sign_message(&self, message: Vec<u8>, single_hash: bool) -> Result<String, ApiError> {
        Ok(sign(&self.services().keys.node_secret(), &message, single_hash))
    }

    async fn verify_message(&self, message: Vec<u8>, signature: &str) -> Result<Option<Signatory>, ApiError> {
        let signature = decode(signature)
            .ok_or_else(|| ApiError::invalid("failed to decode signature: it is no text of zbase32"))?;
        let services = self.services();
        let is_known = |node_id| {
            node_id == services.node_id()
                || services.gossip.intake().graph().find_node(&NodeId::from(node_id)).is_some()
        };
        Ok(recover(&message, &signature).map(|node_id| Signatory { node_id, is_known: is_known(node_id) }))
    }
}

fn digest(message: &[u8], single_hash: bool) -> Message {
    let once = sha256::Hash::hash(&[PREFIX, message].concat());
    let hash = if single_hash { once } else { sha256::Hash::hash(once.as_byte_array()) };
    Message::from_digest(hash.to_byte_array())
}

fn sign(key: &SecretKey, message: &[u8], single_hash: bool) -> String {
    let (number, signature) = secp().sign_ecdsa_recoverable(&digest(message, single_hash), key).serialize_compact();
    let header = FIRST_HEADER.saturating_add(u8::try_from(number.to_i32()).unwrap_or_default());
    encode(&[&[header], signature.as_slice()].concat())
}

/// Whose key has signed; none if it is no signature.
fn recover(message: &[u8], signature: &[u8]) -> Option<PublicKey> {
    let (header, signature) = signature.split_first()?;
    let number = RecoveryId::from_i32(i32::from(header.checked_sub(FIRST_HEADER)?)).ok()?;
    let signature = RecoverableSignature::from_compact(signature, number).ok()?;
    secp().recover_ecdsa(&digest(message, false), &signature).ok()
}

/// Five bits a letter, the highest first; the last one is filled up with zeros.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut held, mut bits) = (0u32, 0u32);
    for byte in bytes {
        (held, bits) = ((held << 8) | u32::from(*byte), bits + 8);
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
            held &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

fn letter(value: u32) -> char {
    usize::try_from(value & 31).ok().and_then(|index| ALPHABET.get(index)).map_or('y', |letter| char::from(*letter))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0u32, 0u32);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        (held, bits) = ((held << 5) | u32::try_from(value).ok()?, bits + 5);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_shows_whose_it_is_and_holds_for_one_message() {
        let key = SecretKey::from_slice(&[7; 32]).unwrap();
        let signed = sign(&key, b"I was here", false);
        assert_eq!(signed.len(), 104);
        let bytes = decode(&signed).unwrap();
        assert_eq!(recover(b"I was here", &bytes), Some(key.public_key(secp())));
        assert_ne!(recover(b"I was there", &bytes), Some(key.public_key(secp())));
        let single = decode(&sign(&key, b"I was here", true)).unwrap();
        assert_ne!(recover(b"I was here", &single), Some(key.public_key(secp())));
        for wrong in [&[][..], &[1, 2, 3], &[26; 65], &[99; 65]] {
            assert_eq!(recover(b"I was here", wrong), None);
        }
    }

    #[test]
    fn what_another_node_signed_is_understood() {
        // Of people with LND, as Core Lightning's and LDK's tests have them.
        for (message, signature, node) in [
            (
                "is this compatible?",
                "rbgfioj114mh48d8egqx8o9qxqw4fmhe8jbeeabdioxnjk8z3t1ma1hu1fiswpakgucwwzwo6ofycffbsqusqdimugbh41n1g698hr9t",
                "02b80cabdf82638aac86948e4c06e82064f547768dcef977677b9ea931ea75bab5",
            ),
            (
                "hi",
                "rnrphcjswusbacjnmmmrynh9pqip7sy5cx695h6mfu64iac6qmcmsd8xnsyczwmpqp9shqkth3h4jmkgyqu5z47jfn1q7gpxtaqpx4xg",
                "02de60d194e1ca5947b59fe8e2efd6aadeabfb67f2e89e13ae1a799c1e08e4a43b",
            ),
        ] {
            let signatory = recover(message.as_bytes(), &decode(signature).unwrap()).unwrap();
            assert_eq!(signatory.to_string(), node);
        }
    }

    #[test]
    fn letters_and_bytes_are_the_same_both_ways() {
        assert_eq!(encode(&[0xff]), "9h");
        assert_eq!(decode("9h"), Some(vec![0xff]));
        assert_eq!(decode("9H"), None);
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }
    }
}
