//! What a tower signs for: that it holds every backup of a channel up to a number, and which ones.
//!
//! ```text
//!   digest of n = SHA256(digest of n-1 ‖ SHA256(backup n))        32 zero bytes before the first one
//!   receipt     = tower's signature over (chain, client, tag, funding index, first, up to, digest)
//! ```
//!
//! A receipt is cumulative: the newest one of a channel says all that the earlier ones said, so a client keeps one. The
//! tower signs only after its own commit, so a crash cannot make an honest tower break a receipt.
//!
//! A tower that says later "I hold less", or "I hold others", has signed both: the receipt, and the state in its answer to
//! an audit ([`Audit`]), which is signed too and answers the client's nonce. [`convicts`] finds the contradiction, and
//! anybody with the tower's public key can check it. An audit asks for the digest up to the very number of the receipt, so
//! that later backups do not hide it. What a receipt cannot show: that a tower which still has the data
//! does not act. A lying tower may also keep the digest and drop the data; therefore an audit can ask for the hash of one
//! backup with a nonce of the client's ([`proof_of_possession`]), and a client that has kept that one backup checks it.
//! No lie before the breach is punished by anything but being shown: use several towers.

use bitcoin::{
    constants::ChainHash,
    hashes::{Hash as _, HashEngine as _, sha256},
};
use leyden_channels::{
    keys::{secp, verify_signature},
    types::CommitmentNumber,
};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa::Signature};

use crate::{
    appointment::{ChannelName, ClientId},
    codec::{Part, by_field, by_inner},
};

/// The digest of all backups of a channel in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// With one more backup; `backup` is what [`crate::message::BackupBody::digest`] makes of it.
    #[must_use]
    pub fn and(self, backup: &BackupDigest) -> Self {
        Self(sha256::Hash::hash(&[self.0, backup.0].concat()).to_byte_array())
    }
}

/// The hash of one backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackupDigest(pub [u8; 32]);

/// What a tower holds of a channel: every state from `first` to `up_to`, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub first: CommitmentNumber,
    pub up_to: CommitmentNumber,
    pub digest: Digest,
}

/// What a receipt is about: who gave what to whom, on which chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub chain: ChainHash,
    pub client: ClientId,
    pub channel: ChannelName,
    pub held: Held,
}

/// The tag of a cumulative receipt's hash. The version is in it: another layout gets another tag.
const RECEIPT_TAG: &[u8] = b"leyden/tower/receipt/1";
const AUDIT_TAG: &[u8] = b"leyden/tower/audit/1";
const POSSESSION_TAG: &[u8] = b"leyden/tower/possession/1";

impl Holding {
    pub fn sign(&self, tower: &SecretKey) -> Signature {
        secp().sign_ecdsa(&self.message(), tower)
    }

    pub fn verify(&self, signature: &Signature, tower: &PublicKey) -> bool {
        verify_signature(&self.message(), signature, tower)
    }

    fn message(&self) -> Message {
        tagged(RECEIPT_TAG, self)
    }
}

/// What a tower says when it is asked what it holds now: read from its disk again, not from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    pub chain: ChainHash,
    pub client: ClientId,
    pub channel: ChannelName,
    /// The client's: an old answer cannot be shown again.
    pub nonce: [u8; 32],
    /// What it holds, up to the number that the client asked for; `None`: nothing at all.
    pub held: Option<Held>,
}

impl Audit {
    pub fn sign(&self, tower: &SecretKey) -> Signature {
        secp().sign_ecdsa(&self.message(), tower)
    }

    pub fn verify(&self, signature: &Signature, tower: &PublicKey) -> bool {
        verify_signature(&self.message(), signature, tower)
    }

    fn message(&self) -> Message {
        tagged(AUDIT_TAG, self)
    }
}

/// How an audit contradicts a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    #[error("the tower signed for states up to {}, and now says that it holds none", up_to.0)]
    HoldsNothing { up_to: CommitmentNumber },
    #[error("the tower signed for states {} to {}, and now says that it holds {} to {}", signed.0.0, signed.1.0, says.0.0, says.1.0)]
    HoldsLess { signed: (CommitmentNumber, CommitmentNumber), says: (CommitmentNumber, CommitmentNumber) },
    #[error("the tower signed for other backups of states {} to {} than it holds now", first.0, up_to.0)]
    HoldsOthers { first: CommitmentNumber, up_to: CommitmentNumber },
}

/// The contradiction between a receipt and a later audit of the same channel, if there is one. Both signatures must have
/// been checked. A tower that holds more than it signed for is honest; so is one that was told to forget the channel, so
/// a client throws the receipt away before it sends `close_channel`.
pub fn convicts(receipt: &Holding, audit: &Audit) -> Option<Contradiction> {
    let same = (receipt.chain, receipt.client, receipt.channel) == (audit.chain, audit.client, audit.channel);
    let signed = receipt.held;
    if !same {
        return None;
    }
    let Some(says) = audit.held else { return Some(Contradiction::HoldsNothing { up_to: signed.up_to }) };
    if says.first > signed.first || says.up_to < signed.up_to {
        let (signed, says) = ((signed.first, signed.up_to), (says.first, says.up_to));
        return Some(Contradiction::HoldsLess { signed, says });
    }
    let comparable = (says.first, says.up_to) == (signed.first, signed.up_to);
    let (first, up_to) = (signed.first, signed.up_to);
    (comparable && says.digest != signed.digest).then_some(Contradiction::HoldsOthers { first, up_to })
}

/// Shows that whoever made it has one backup: its bytes are hashed with the asker's nonce.
pub fn proof_of_possession(nonce: &[u8; 32], backup: &[u8]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(POSSESSION_TAG);
    engine.input(nonce);
    engine.input(backup);
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// As in BIP 340: the hash of the tag twice, then the content.
fn tagged(tag: &[u8], content: &impl Part) -> Message {
    let tag = sha256::Hash::hash(tag).to_byte_array();
    let mut bytes = [tag, tag].concat();
    content.put(&mut bytes);
    Message::from_digest(sha256::Hash::hash(&bytes).to_byte_array())
}

by_inner!(Digest);
by_field! {
    Held { first, up_to, digest }
    Holding { chain, client, channel, held }
    Audit { chain, client, channel, nonce, held }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appointment::{ChannelTag, FundingIndex};

    fn held(first: u64, up_to: u64, digest: u8) -> Held {
        Held { first: CommitmentNumber(first), up_to: CommitmentNumber(up_to), digest: Digest([digest; 32]) }
    }

    fn holding(held: Held) -> Holding {
        Holding {
            chain: ChainHash::REGTEST,
            client: ClientId([2; 33]),
            channel: ChannelName { tag: ChannelTag([3; 16]), funding: FundingIndex(0) },
            held,
        }
    }

    fn audit(held: Option<Held>) -> Audit {
        let Holding { chain, client, channel, .. } = holding(self::held(0, 0, 0));
        Audit { chain, client, channel, nonce: [7; 32], held }
    }

    #[test]
    fn a_receipt_verifies_for_its_own_content_and_key_alone() {
        let key = SecretKey::from_slice(&[5; 32]).unwrap();
        let receipt = holding(held(0, 9, 1));
        let signature = receipt.sign(&key);
        assert!(receipt.verify(&signature, &key.public_key(secp())));
        assert!(!holding(held(0, 10, 1)).verify(&signature, &key.public_key(secp())));
        assert!(!Holding { client: ClientId([3; 33]), ..receipt }.verify(&signature, &key.public_key(secp())));
        let other = SecretKey::from_slice(&[6; 32]).unwrap().public_key(secp());
        assert!(!receipt.verify(&signature, &other));
    }

    #[test]
    fn a_tower_that_breaks_its_word_is_convicted_and_an_honest_one_is_not() {
        let receipt = holding(held(3, 9, 1));
        let convicts = |held| convicts(&receipt, &audit(held));
        assert_eq!(convicts(Some(held(3, 9, 1))), None);
        assert_eq!(convicts(Some(held(3, 12, 2))), None, "more than it signed for");
        assert_eq!(convicts(None), Some(Contradiction::HoldsNothing { up_to: CommitmentNumber(9) }));
        assert!(matches!(convicts(Some(held(3, 8, 1))), Some(Contradiction::HoldsLess { .. })));
        assert!(matches!(convicts(Some(held(4, 9, 1))), Some(Contradiction::HoldsLess { .. })));
        assert!(matches!(convicts(Some(held(3, 9, 2))), Some(Contradiction::HoldsOthers { .. })));
    }

    #[test]
    fn an_audit_answers_one_nonce() {
        let key = SecretKey::from_slice(&[5; 32]).unwrap();
        let answer = audit(Some(held(0, 9, 1)));
        let signature = answer.sign(&key);
        assert!(answer.verify(&signature, &key.public_key(secp())));
        assert!(!Audit { nonce: [8; 32], ..answer }.verify(&signature, &key.public_key(secp())));
        assert!(!Audit { held: None, ..answer }.verify(&signature, &key.public_key(secp())));
    }

    #[test]
    fn the_digest_depends_on_every_backup_and_their_order() {
        let [one, two] = [1, 2].map(|byte| BackupDigest([byte; 32]));
        let digests = [
            Digest::default(),
            Digest::default().and(&one),
            Digest::default().and(&one).and(&two),
            Digest::default().and(&two).and(&one),
        ];
        let distinct: std::collections::HashSet<_> = digests.into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
