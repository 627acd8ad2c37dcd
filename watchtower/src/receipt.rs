//! What a tower signs for: that it holds every backup of a channel up to a number, which ones, and until when it keeps them.
//!
//! ```text
//!   digest of n = SHA256(digest of n-1 ‖ SHA256(backup n))        32 zero bytes before the first one
//!   receipt     = tower's signature over (chain, client, tag, funding index, first, up to, digest, until)
//!   close       = tower's signature over (chain, client, tag, funding index, txid, height)      in place of a receipt
//!   audit       = tower's signature over (chain, client, tag, funding index, nonce, at, holds | closed | nothing)
//! ```
//!
//! A receipt is cumulative: the newest one of a channel says all that the earlier ones said, so a client keeps one. The
//! tower signs only after its own commit, so a crash cannot make an honest tower break a receipt.
//!
//! A tower that says later "I hold less", or "I hold others", has signed both: the receipt, and the state in its answer to
//! an audit ([`Audit`]), which is signed too and answers the client's nonce. [`convicts`] finds the contradiction, and
//! anybody with the tower's public key can check it. An audit asks for the digest up to the very number of the receipt, so
//! that later backups do not hide it.
//!
//! A receipt binds up to the block that it names and no longer: an audit says at which height the tower is, and above `until`
//! it may hold nothing. A channel whose end is final on the chain needs no backups either: the tower gives them back, and
//! says by which transaction and in which block the channel was closed ([`Closed`]) until its client's term ends or the client
//! takes leave of the channel. That is no contradiction, unless the funding output is still unspent: then the chain
//! convicts it, for anybody to see. A tower that claims to be at a height that the chain has not reached convicts itself of
//! nothing that could be shown later; its client sees it, and counts it as one that holds nothing.
//!
//! What a receipt cannot show: that a tower which still has the data does not act. A lying tower may also keep the digest and drop the data; therefore an audit can ask for the hash of one
//! backup with a nonce of the client's ([`proof_of_possession`]), and a client that has kept the answer checks it.
//! No lie before the breach is punished by anything but being shown: use several towers.

use bitcoin::{
    Txid,
    constants::ChainHash,
    hashes::{Hash as _, HashEngine as _, sha256},
};
use leyden_channels::{
    keys::curve,
    types::{CommitmentNumber, Height},
    wire::codec::Reader,
};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa::Signature};

use crate::{
    appointment::{ChannelName, ClientId},
    codec::{Part, ReadError, by_field, by_inner},
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
    /// The first state that is held.
    pub first: CommitmentNumber,
    /// The last one.
    pub up_to: CommitmentNumber,
    /// Of all backups, in their order.
    pub digest: Digest,
}

/// What a receipt is about: who gave what to whom, on which chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The genesis block's hash.
    pub chain: ChainHash,
    /// Who gave it.
    pub client: ClientId,
    /// Whose states they are.
    pub channel: ChannelName,
    /// Which states.
    pub held: Held,
    /// It is kept up to this block.
    pub until: Height,
}

/// How a channel ended that nothing is held of any more: all that came of it is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Spends the funding output.
    pub txid: Txid,
    /// The block that holds it.
    pub height: Height,
}

/// What a tower signs instead of a receipt when a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The genesis block's hash.
    pub chain: ChainHash,
    /// Whose channel it was.
    pub client: ClientId,
    /// The channel.
    pub channel: ChannelName,
    /// By what and where.
    pub closed: Closed,
}

/// The tag of a cumulative receipt's hash. The version is in it: another layout gets another tag.
const RECEIPT_TAG: &[u8] = b"leyden/tower/receipt/1";
const CLOSED_TAG: &[u8] = b"leyden/tower/closed/1";
const AUDIT_TAG: &[u8] = b"leyden/tower/audit/1";
const POSSESSION_TAG: &[u8] = b"leyden/tower/possession/1";

impl Holding {
    /// The tower's signature of it.
    pub fn sign(&self, tower: &SecretKey) -> Signature {
        curve::sign(&self.message(), tower)
    }

    /// Whether the signature is this tower's, and of exactly this.
    pub fn verify(&self, signature: &Signature, tower: &PublicKey) -> bool {
        curve::verify(&self.message(), signature, tower)
    }

    fn message(&self) -> Message {
        tagged(RECEIPT_TAG, self)
    }
}

impl Closing {
    /// The tower's signature of it.
    pub fn sign(&self, tower: &SecretKey) -> Signature {
        curve::sign(&self.message(), tower)
    }

    /// Whether the signature is this tower's, and of exactly this.
    pub fn verify(&self, signature: &Signature, tower: &PublicKey) -> bool {
        curve::verify(&self.message(), signature, tower)
    }

    fn message(&self) -> Message {
        tagged(CLOSED_TAG, self)
    }
}

/// What a tower says when it is asked what it holds now: read from its disk again, not from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The genesis block's hash.
    pub chain: ChainHash,
    /// Who asked.
    pub client: ClientId,
    /// About which channel.
    pub channel: ChannelName,
    /// The client's: an old answer cannot be shown again.
    pub nonce: [u8; 32],
    /// The last block that the tower has seen.
    pub at: Height,
    /// What was found.
    pub says: Says,
}

/// What a tower has of a channel at an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// No backup of the channel.
    Nothing,
    /// Up to the number that the client asked for.
    Holds(Held),
    /// It gave back what it had when that was final.
    Closed(Closed),
}

impl Audit {
    /// The tower's signature of it.
    pub fn sign(&self, tower: &SecretKey) -> Signature {
        curve::sign(&self.message(), tower)
    }

    /// Whether the signature is this tower's, and of exactly this.
    pub fn verify(&self, signature: &Signature, tower: &PublicKey) -> bool {
        curve::verify(&self.message(), signature, tower)
    }

    fn message(&self) -> Message {
        tagged(AUDIT_TAG, self)
    }
}

/// How an audit contradicts a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum Contradiction {
    #[error("the tower signed for states up to {}, and now says that it holds none", up_to.0)]
    HoldsNothing { up_to: CommitmentNumber },
    #[error("the tower signed for states {} to {}, and now says that it holds {} to {}", signed.0.0, signed.1.0, says.0.0, says.1.0)]
    HoldsLess { signed: (CommitmentNumber, CommitmentNumber), says: (CommitmentNumber, CommitmentNumber) },
    #[error("the tower signed for other backups of states {} to {} than it holds now", first.0, up_to.0)]
    HoldsOthers { first: CommitmentNumber, up_to: CommitmentNumber },
    #[error("the tower says that the channel was closed by {} in block {}, and its funding output is unspent", closed.txid, closed.height.0)]
    NeverClosed { closed: Closed },
}

/// The contradiction between a receipt and a later audit of the same channel, if there is one. Both signatures must have
/// been checked. `unspent_at` is a block, buried deep enough, at which the channel's funding output was still unspent. A tower
/// that holds more than it signed for is honest; so is one whose term is over, and one that was told to forget the channel: a
/// client throws the receipt away before it sends `close_channel`.
pub fn convicts(receipt: &Holding, audit: &Audit, unspent_at: Option<Height>) -> Option<Contradiction> {
    let same = (receipt.chain, receipt.client, receipt.channel) == (audit.chain, audit.client, audit.channel);
    let signed = receipt.held;
    if !same || audit.at > receipt.until {
        return None;
    }
    let says = match audit.says {
        Says::Nothing => return Some(Contradiction::HoldsNothing { up_to: signed.up_to }),
        Says::Closed(closed) => {
            return (unspent_at >= Some(closed.height)).then_some(Contradiction::NeverClosed { closed });
        }
        Says::Holds(held) => held,
    };
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
    Holding { chain, client, channel, held, until }
    Closed { txid, height }
    Closing { chain, client, channel, closed }
    Audit { chain, client, channel, nonce, at, says }
}

const NOTHING: u8 = 0;
const HOLDS: u8 = 1;
const CLOSED: u8 = 2;

impl Part for Says {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => out.push(NOTHING),
            Self::Holds(held) => {
                out.push(HOLDS);
                held.put(out);
            }
            Self::Closed(closed) => {
                out.push(CLOSED);
                closed.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        match reader.field::<u8>()? {
            NOTHING => Ok(Self::Nothing),
            HOLDS => Part::take(reader).map(Self::Holds),
            CLOSED => Part::take(reader).map(Self::Closed),
            value => Err(ReadError::Unknown { what: "answer to an audit", value: u64::from(value) }),
        }
    }
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
            until: Height(1_000),
        }
    }

    fn audit(says: Says) -> Audit {
        let Holding { chain, client, channel, .. } = holding(self::held(0, 0, 0));
        Audit { chain, client, channel, nonce: [7; 32], at: Height(900), says }
    }

    #[test]
    fn a_receipt_verifies_for_its_own_content_and_key_alone() {
        let key = SecretKey::from_slice(&[5; 32]).unwrap();
        let receipt = holding(held(0, 9, 1));
        let signature = receipt.sign(&key);
        assert!(receipt.verify(&signature, &curve::public_key(&key)));
        assert!(!holding(held(0, 10, 1)).verify(&signature, &curve::public_key(&key)));
        assert!(!Holding { until: Height(999), ..receipt }.verify(&signature, &curve::public_key(&key)));
        assert!(!Holding { client: ClientId([3; 33]), ..receipt }.verify(&signature, &curve::public_key(&key)));
        let other = curve::public_key(&SecretKey::from_slice(&[6; 32]).unwrap());
        assert!(!receipt.verify(&signature, &other));
    }

    #[test]
    fn a_tower_that_breaks_its_word_is_convicted_and_an_honest_one_is_not() {
        let receipt = holding(held(3, 9, 1));
        let convicts = |says| convicts(&receipt, &audit(says), None);
        let holds = |first, up_to, digest| Says::Holds(held(first, up_to, digest));
        assert_eq!(convicts(holds(3, 9, 1)), None);
        assert_eq!(convicts(holds(3, 12, 2)), None, "more than it signed for");
        assert_eq!(convicts(Says::Nothing), Some(Contradiction::HoldsNothing { up_to: CommitmentNumber(9) }));
        assert!(matches!(convicts(holds(3, 8, 1)), Some(Contradiction::HoldsLess { .. })));
        assert!(matches!(convicts(holds(4, 9, 1)), Some(Contradiction::HoldsLess { .. })));
        assert!(matches!(convicts(holds(3, 9, 2)), Some(Contradiction::HoldsOthers { .. })));
    }

    #[test]
    fn a_term_that_is_over_binds_nobody_and_one_that_is_not_does() {
        let receipt = holding(held(3, 9, 1));
        let at = |height| Audit { at: Height(height), ..audit(Says::Nothing) };
        assert!(convicts(&receipt, &at(1_000), None).is_some());
        assert_eq!(convicts(&receipt, &at(1_001), None), None);
    }

    #[test]
    fn a_close_explains_that_nothing_is_held_unless_the_chain_says_that_there_was_none() {
        let receipt = holding(held(3, 9, 1));
        let closed = Closed { txid: bitcoin::hashes::Hash::all_zeros(), height: Height(700) };
        let audit = audit(Says::Closed(closed));
        for unspent_at in [None, Some(Height(699))] {
            assert_eq!(convicts(&receipt, &audit, unspent_at), None);
        }
        assert_eq!(convicts(&receipt, &audit, Some(Height(700))), Some(Contradiction::NeverClosed { closed }));
    }

    #[test]
    fn an_audit_answers_one_nonce() {
        let key = SecretKey::from_slice(&[5; 32]).unwrap();
        let answer = audit(Says::Holds(held(0, 9, 1)));
        let signature = answer.sign(&key);
        assert!(answer.verify(&signature, &curve::public_key(&key)));
        assert!(!Audit { nonce: [8; 32], ..answer }.verify(&signature, &curve::public_key(&key)));
        assert!(!Audit { says: Says::Nothing, ..answer }.verify(&signature, &curve::public_key(&key)));
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
