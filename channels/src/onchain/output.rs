//! One output on the chain that concerns us.

use bitcoin::{OutPoint, TxOut, Txid, Witness};

use crate::{
    tx::{ClaimInput, CommitmentHtlc},
    types::{Height, HtlcDirection, HtlcId, Side},
};

/// What an output of a closed channel is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `to_local` of our commitment: ours after our delay.
    ToLocal,
    /// `to_remote` of a commitment of the peer's: ours.
    ToRemote,
    /// An HTLC output of our commitment.
    LocalHtlc(CommitmentHtlc),
    /// The output of our HTLC-success or HTLC-timeout transaction: ours after our delay.
    LocalSecondStage(CommitmentHtlc),
    /// An HTLC output of the peer's commitment, as the peer sees it.
    RemoteHtlc(CommitmentHtlc),
    /// `to_local` of a revoked commitment.
    RevokedToLocal,
    /// An HTLC output of a revoked commitment, as the peer sees it.
    RevokedHtlc(CommitmentHtlc),
    /// An output of the peer's second stages of a revoked commitment.
    RevokedSecondStage,
    /// Our anchor in a transaction that spends the funding output and that we do not know. In those that we know it is
    /// left to whoever wants it: it is worth less than the trouble.
    Anchor,
}

impl Role {
    /// The HTLC that we had offered, if this output is about one.
    pub fn outgoing(&self) -> Option<HtlcId> {
        match self {
            Self::LocalHtlc(htlc) | Self::LocalSecondStage(htlc) => {
                (htlc.direction == HtlcDirection::Offered).then_some(htlc.id)
            }
            Self::RemoteHtlc(htlc) | Self::RevokedHtlc(htlc) => {
                (htlc.direction == HtlcDirection::Received).then_some(htlc.id)
            }
            Self::ToLocal | Self::ToRemote | Self::RevokedToLocal | Self::RevokedSecondStage | Self::Anchor => None,
        }
    }

    /// The HTLC offered to us that this output holds.
    pub(super) fn incoming(&self) -> Option<HtlcId> {
        match self {
            Self::LocalHtlc(htlc) => (htlc.direction == HtlcDirection::Received).then_some(htlc.id),
            Self::RemoteHtlc(htlc) | Self::RevokedHtlc(htlc) => {
                (htlc.direction == HtlcDirection::Offered).then_some(htlc.id)
            }
            Self::ToLocal
            | Self::ToRemote
            | Self::LocalSecondStage(_)
            | Self::RevokedToLocal
            | Self::RevokedSecondStage
            | Self::Anchor => None,
        }
    }

    /// The HTLC itself, if this is the output that holds it.
    pub fn htlc(&self) -> Option<(Side, &CommitmentHtlc)> {
        match self {
            Self::LocalHtlc(htlc) => Some((Side::Local, htlc)),
            Self::RemoteHtlc(htlc) | Self::RevokedHtlc(htlc) => Some((Side::Remote, htlc)),
            Self::ToLocal
            | Self::ToRemote
            | Self::LocalSecondStage(_)
            | Self::RevokedToLocal
            | Self::RevokedSecondStage
            | Self::Anchor => None,
        }
    }

    /// Whether its claim punishes the peer.
    pub fn is_penalty(&self) -> bool {
        match self {
            Self::RevokedToLocal | Self::RevokedHtlc(_) | Self::RevokedSecondStage => true,
            Self::ToLocal
            | Self::ToRemote
            | Self::LocalHtlc(_)
            | Self::LocalSecondStage(_)
            | Self::RemoteHtlc(_)
            | Self::Anchor => false,
        }
    }

    /// Whether nobody but us can ever spend the output; the peer can if the commitment was revoked, which we then did not know.
    pub fn is_ours_alone(&self) -> bool {
        match self {
            Self::ToLocal | Self::ToRemote | Self::LocalSecondStage(_) => true,
            Self::LocalHtlc(_)
            | Self::RemoteHtlc(_)
            | Self::RevokedToLocal
            | Self::RevokedHtlc(_)
            | Self::RevokedSecondStage
            | Self::Anchor => false,
        }
    }
}

/// An output and what has become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackedOutput {
    /// The output's name.
    pub outpoint: OutPoint,
    /// Its value and script.
    pub output: TxOut,
    /// What it is in the channel, and how it is claimed.
    pub role: Role,
    /// Where its transaction is in the chain.
    pub confirmed: Height,
    /// How we spend it; `None` for an HTLC offered to us whose preimage we do not know.
    pub claim: Option<ClaimInput>,
    /// The block by which our claim should be in the chain; `None` if nobody else can spend the output.
    pub deadline: Option<Height>,
    /// What has spent it; `None` while it is unspent in the chain.
    pub spend: Option<Spend>,
    /// Somebody else's spend has been seen in the mempool.
    pub contested: bool,
}

impl TrackedOutput {
    /// Whether this witness spends the output the way that only we can go.
    pub(super) fn is_our_way(&self, witness: &Witness) -> bool {
        match self.role {
            Role::ToRemote => true,
            // BOLT 3, to_local: the other way is the peer's penalty, where this node's state was an old one.
            Role::ToLocal | Role::LocalSecondStage(_) => witness.nth(1).is_some_and(<[u8]>::is_empty),
            Role::RevokedToLocal | Role::RevokedHtlc(_) | Role::RevokedSecondStage => {
                self.claim.as_ref().and_then(|claim| claim.path.is_penalty_by(witness)).unwrap_or(false)
            }
            // The owner of a commitment spends its HTLCs with both signatures, the other node with one.
            Role::LocalHtlc(_) => witness.len() == 5,
            // After 16 blocks anybody may take it, with an empty signature.
            Role::Anchor => witness.nth(0).is_some_and(|signature| !signature.is_empty()),
            Role::RemoteHtlc(_) => witness.len() == 3,
        }
    }
}

/// The transaction in the chain that spent an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The spending transaction.
    pub txid: Txid,
    /// The block that holds it.
    pub height: Height,
    /// Whether it was ours.
    pub ours: bool,
}

impl TrackedOutput {
    /// Whether no block holds a spend of it.
    pub fn is_unspent(&self) -> bool {
        self.spend.is_none()
    }

    /// The tip from which on our claim can go into the next block (BIP 68, BIP 65).
    pub fn claimable_from(&self) -> Option<Height> {
        let claim = self.claim.as_ref()?;
        let relative = self.confirmed.0.saturating_add(u32::from(claim.confirmations_needed())).saturating_sub(1);
        Some(Height(relative.max(claim.height_needed().0).max(self.confirmed.0)))
    }

    /// Whether a claim may be in the block after `tip`.
    pub fn is_claimable(&self, tip: Height) -> bool {
        self.is_unspent() && self.claimable_from().is_some_and(|from| from <= tip)
    }
}
