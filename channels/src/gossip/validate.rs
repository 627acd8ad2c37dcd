//! Whether a message may be believed.
//!
//! Checking is split so that the costly part can run anywhere: a [`SignatureCheck`] owns what it needs and runs on any
//! thread, for many messages at once; what comes out is the only thing that the graph takes in (`intake.rs`). The
//! cheap checks, which need the graph or the time, come before and after.

use secp256k1::Message as Digest;
use secp256k1::ecdsa::Signature;

use crate::keys::curve;
use crate::tx::funding_script_pubkey;
use crate::types::NodeId;
use crate::wire::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};

/// A message of the network that carries signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Signed by both nodes and both funding keys.
    Channel(Box<ChannelAnnouncement>),
    /// Signed by the node that charges.
    Update(ChannelUpdate),
    /// Signed by the node itself.
    Node(Box<NodeAnnouncement>),
}

/// Signatures that are still to be checked.
#[derive(Clone, Debug)]
pub struct SignatureCheck {
    announcement: Announcement,
    raw: Vec<u8>,
    from: Option<NodeId>,
    signer: Signer,
}

/// Whose signatures are due.
#[derive(Clone, Copy, Debug)]
enum Signer {
    /// Those that the message names.
    Named,
    /// The node at the start of an update's direction.
    Node(NodeId),
}

/// An announcement whose signatures are right. Only [`SignatureCheck::run`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(super) announcement: Announcement,
    pub(super) raw: Vec<u8>,
    pub(super) from: Option<NodeId>,
}

/// A signature is wrong: whoever sent the message altered it or did not check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forged {
    /// The message with the wrong signature.
    pub announcement: Announcement,
    /// The peer that sent it; `None`: this node itself.
    pub from: Option<NodeId>,
}

impl SignatureCheck {
    pub(super) fn named(announcement: Announcement, raw: Vec<u8>, from: Option<NodeId>) -> Self {
        Self { announcement, raw, from, signer: Signer::Named }
    }

    pub(super) fn by(announcement: Announcement, raw: Vec<u8>, from: Option<NodeId>, node: NodeId) -> Self {
        Self { announcement, raw, from, signer: Signer::Node(node) }
    }

    /// Four curve operations for a channel, one for anything else.
    pub fn run(self) -> Result<Verified, Box<Forged>> {
        let valid = match (&self.announcement, self.signer) {
            (Announcement::Channel(channel), _) => {
                let digest = channel.signed_digest();
                signed(&digest, &channel.node_signature_1, &channel.node_id_1)
                    && signed(&digest, &channel.node_signature_2, &channel.node_id_2)
                    && signed(&digest, &channel.bitcoin_signature_1, &channel.bitcoin_key_1)
                    && signed(&digest, &channel.bitcoin_signature_2, &channel.bitcoin_key_2)
            }
            (Announcement::Node(node), _) => signed(&node.signed_digest(), &node.signature, &node.node_id),
            (Announcement::Update(update), Signer::Node(id)) => signed(&update.signed_digest(), &update.signature, &id),
            (Announcement::Update(_), Signer::Named) => false,
        };
        if valid {
            Ok(Verified { announcement: self.announcement, raw: self.raw, from: self.from })
        } else {
            Err(Box::new(Forged { announcement: self.announcement, from: self.from }))
        }
    }
}

/// Whether a node has signed this.
pub(crate) fn signed(digest: &Digest, signature: &Signature, key: &NodeId) -> bool {
    key.public_key().is_ok_and(|key| curve::verify(digest, signature, &key))
}

/// The output script that a channel's funding output must have; `None` if its keys are no keys.
pub fn funding_script(announcement: &ChannelAnnouncement) -> Option<bitcoin::ScriptBuf> {
    let key_1 = announcement.bitcoin_key_1.public_key().ok()?;
    let key_2 = announcement.bitcoin_key_2.public_key().ok()?;
    Some(funding_script_pubkey(&key_1, &key_2))
}
