//! What a person sees of a closing channel: each output, who claims it and how far that is.

use bitcoin::{Amount, OutPoint, Txid};

use super::{EnforcementPolicy, Resolution, Role, upstream};
use crate::types::{FeeratePerKw, Height, HtlcDirection};

/// One output of a closed channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputReport {
    /// The output's name.
    pub outpoint: OutPoint,
    /// What it is worth.
    pub amount: Amount,
    /// What it is in the channel.
    pub role: Role,
    /// How far its claim is.
    pub status: OutputStatus,
    /// The block by which our claim should be confirmed.
    pub deadline: Option<Height>,
}

/// How far the claim of an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum OutputStatus {
    /// A lock must run out: the claim can go into the block after this height.
    Locked { until: Height },
    /// An HTLC offered to us, whose preimage we do not know.
    NoPreimage,
    /// Whether and how it is claimed is decided with the news of the tip, which is on its way.
    Undecided,
    /// It would cost more than it is worth; it is claimed when fees fall.
    Uneconomic,
    /// It waits for coins of the wallet to pay its fee.
    NeedsCoins,
    /// Our claim is broadcast.
    Claimed { txid: Txid, fee: Amount, feerate: FeeratePerKw },
    /// Somebody's transaction has spent it.
    Spent { txid: Txid, ours: bool, confirmations: u32, is_final: bool },
}

impl Role {
    /// What it is, in BOLT 3's words and the paper's.
    pub fn describe(&self) -> &'static str {
        let by = |direction| match direction {
            HtlcDirection::Offered => true,
            HtlcDirection::Received => false,
        };
        match self {
            Self::ToLocal => "to_local (RD): ours after the delay",
            Self::ToRemote => "to_remote (D): ours",
            Self::LocalHtlc(htlc) if by(htlc.direction) => "HTLC that we offered: HTLC-timeout (HT)",
            Self::LocalHtlc(_) => "HTLC offered to us: HTLC-success (HE)",
            Self::LocalSecondStage(htlc) if by(htlc.direction) => "HTLC-timeout output (HTRD): ours after the delay",
            Self::LocalSecondStage(_) => "HTLC-success output (HERD): ours after the delay",
            Self::RemoteHtlc(htlc) if by(htlc.direction) => "HTLC offered to us: claimed with its preimage",
            Self::RemoteHtlc(_) => "HTLC that we offered: claimed back at its expiry",
            Self::RevokedToLocal => "revoked to_local: penalty (BR)",
            Self::RevokedHtlc(_) => "revoked HTLC: penalty (HBR)",
            Self::RevokedSecondStage => "revoked second stage: penalty (HTBR)",
            Self::Anchor => "our anchor in a transaction that nobody knows",
        }
    }
}

impl Resolution {
    /// All outputs that concern us, in the order of their outpoints.
    pub fn report(&self, tip: Height, policy: &EnforcementPolicy) -> Vec<OutputReport> {
        self.outputs
            .values()
            .map(|output| {
                let claim = self.facts.claims.values().find(|claim| claim.inputs.contains(&output.outpoint));
                let status = match (&output.spend, claim, output.claimable_from()) {
                    (Some(spend), _, _) => {
                        let confirmations = upstream::depth(spend.height, tip);
                        let is_final = confirmations >= policy.finality;
                        OutputStatus::Spent { txid: spend.txid, ours: spend.ours, confirmations, is_final }
                    }
                    (None, Some(claim), _) => match &claim.sent {
                        Some(sent) => {
                            OutputStatus::Claimed { txid: sent.tx.compute_txid(), fee: sent.fee, feerate: sent.rate }
                        }
                        None => OutputStatus::NeedsCoins,
                    },
                    (None, None, None) => OutputStatus::NoPreimage,
                    (None, None, Some(from)) if from > tip => OutputStatus::Locked { until: from },
                    (None, None, Some(_)) if self.decided.contains(&output.outpoint) => OutputStatus::Uneconomic,
                    (None, None, Some(_)) => OutputStatus::Undecided,
                };
                OutputReport {
                    outpoint: output.outpoint,
                    amount: output.output.value,
                    role: output.role,
                    status,
                    deadline: output.deadline,
                }
            })
            .collect()
    }
}
