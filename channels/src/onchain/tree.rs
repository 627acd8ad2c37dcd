//! The tree of transactions that a channel's present state can become on the chain: what each output of either
//! commitment is, who can spend it, and when.
//!
//! ```text
//!   funding ─┬─ C12a our commitment ─┬─ to_local ──┬─ RD12a   ours, after our delay
//!            │                       │             └─ BR12a   the peer's, had we revoked it
//!            │                       ├─ to_remote ─── D12a    the peer's
//!            │                       └─ HTLC ──────┬─ HT12a   ours, from its expiry ─┬─ HTRD12a
//!            │                                     ├─ HED12a  the peer's, preimage   └─ HTBR12a
//!            │                                     └─ HBR12a  the peer's, had we revoked it
//!            └─ C12b the peer's, the same with the sides exchanged
//! ```
//!
//! Names are the Lightning paper's; `a` is what is ours, `b` what is the peer's.

use bitcoin::{Amount, OutPoint, Txid};

use super::{
    ClosingChannel,
    anchor::commitment_fee,
    closing_channel::{RebuildError, is_outgoing},
};
use crate::{
    tx::{CommitmentHtlc, CommitmentTx, OutputKind},
    types::{CltvExpiry, CommitmentNumber, CommitmentType, HtlcDirection, Side},
};

/// Blocks after which anybody may sweep an anchor (BOLT 3).
const ANCHOR_FREE_AFTER: u16 = 16;

/// What may become of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The funding output.
    pub funding: OutPoint,
    /// What it is worth.
    pub capacity: Amount,
    /// The shape of the commitment transactions.
    pub kind: CommitmentType,
    /// Ours if we may broadcast it, then the peer's, and its next one if we have signed that already.
    pub commitments: Vec<TreeCommitment>,
}

/// A commitment transaction that may come into the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeCommitment {
    /// Who may broadcast it.
    pub owner: Side,
    /// Its number.
    pub number: CommitmentNumber,
    /// Its id, which signatures do not change.
    pub txid: Txid,
    /// What its outputs leave to the miners, HTLCs too small for an output included.
    pub fee: Amount,
    /// Its outputs, in their order.
    pub outputs: Vec<TreeOutput>,
    /// HTLCs too small for an output, as the owner sees them.
    pub trimmed: Vec<CommitmentHtlc>,
}

/// An output of a commitment transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeOutput {
    /// Its index.
    pub vout: u32,
    /// What it is worth.
    pub amount: Amount,
    /// What it is.
    pub kind: TreeOutputKind,
    /// Every way to spend it, the owner's first.
    pub spend_paths: Vec<SpendPath>,
}

/// What an output of a commitment transaction is (BOLT 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum TreeOutputKind {
    /// The owner's balance, after a delay.
    ToLocal,
    /// The other side's balance.
    ToRemote,
    /// A small output for raising the commitment's fee.
    Anchor,
    /// An HTLC.
    Htlc {
        offered_by: Side,
        htlc: CommitmentHtlc,
        /// The preimage of one that was offered to us.
        preimage_known: bool,
    },
}

/// The Lightning paper's names of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaperName {
    /// Revocable delivery: the delayed claim of `to_local`.
    Rd,
    /// Breach remedy: the penalty on `to_local`.
    Br,
    /// Delivery: `to_remote`.
    D,
    /// HTLC execution: the HTLC-success transaction.
    He,
    /// Its delayed claim.
    Herd,
    /// HTLC timeout: the HTLC-timeout transaction.
    Ht,
    /// Its delayed claim.
    Htrd,
    /// HTLC execution delivery: the other node's direct claim with the preimage.
    Hed,
    /// HTLC timeout delivery: the other node's direct claim at the expiry.
    Htd,
    /// The penalty on an HTLC output.
    Hbr,
    /// The penalty on a second-stage output.
    Htbr,
    /// Not in the paper: the child on an anchor that pays for the commitment.
    Anchor,
}

impl PaperName {
    /// The name as the paper writes it, without its subscripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rd => "RD",
            Self::Br => "BR",
            Self::D => "D",
            Self::He => "HE",
            Self::Herd => "HERD",
            Self::Ht => "HT",
            Self::Htrd => "HTRD",
            Self::Hed => "HED",
            Self::Htd => "HTD",
            Self::Hbr => "HBR",
            Self::Htbr => "HTBR",
            Self::Anchor => "CPFP",
        }
    }

    /// In BOLT 3's words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Rd => "delayed claim of to_local",
            Self::Br => "penalty on to_local",
            Self::D => "claim of to_remote",
            Self::He => "HTLC-success transaction",
            Self::Herd => "delayed claim of HTLC-success",
            Self::Ht => "HTLC-timeout transaction",
            Self::Htrd => "delayed claim of HTLC-timeout",
            Self::Hed => "direct claim with the preimage",
            Self::Htd => "direct claim at the expiry",
            Self::Hbr => "penalty on the HTLC",
            Self::Htbr => "penalty on the second stage",
            Self::Anchor => "child that pays for the commitment",
        }
    }
}

/// One possible spend of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendPath {
    /// What the Lightning paper calls the spending transaction.
    pub paper_name: PaperName,
    /// Who can.
    pub by: Side,
    /// Confirmations that the output needs first.
    pub confirmations: u16,
    /// The first height at which it may be mined, less one.
    pub expiry: Option<CltvExpiry>,
    /// Only with the preimage of the HTLC.
    pub needs_preimage: bool,
    /// Only if the owner of the commitment has revoked it: never for the present state.
    pub needs_revocation: bool,
    /// The HTLC transaction that spends it, if that is the only way.
    pub second_stage: Option<SecondStage>,
}

/// A transaction that both have signed and that has an output of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondStage {
    /// `None` if inputs may be added, so that it is not known yet.
    pub txid: Option<Txid>,
    /// What its output is worth.
    pub amount: Amount,
    /// Every way to spend its output.
    pub spend_paths: Vec<SpendPath>,
}

/// The tree of a channel. Empty where we know no state, because only a backup is left.
pub fn tree(channel: &ClosingChannel) -> Result<Tree, RebuildError> {
    let mut commitments = Vec::new();
    if let (Some(state), Some(commitment), false) =
        (&channel.local_state, channel.local_commitment()?, channel.local_may_be_revoked)
    {
        commitments.push(branch(channel, Side::Local, &commitment, &state.htlcs));
    }
    for state in channel.remote_state.iter().chain(&channel.remote_next) {
        commitments.push(branch(channel, Side::Remote, &channel.remote_commitment(state)?, &state.htlcs));
    }
    Ok(Tree { funding: channel.funding, capacity: channel.capacity, kind: channel.kind, commitments })
}

fn branch(
    channel: &ClosingChannel,
    owner: Side,
    commitment: &CommitmentTx,
    htlcs: &[CommitmentHtlc],
) -> TreeCommitment {
    let spend_paths = SpendPaths {
        owner,
        kind: channel.kind,
        delay: match owner {
            Side::Local => channel.local_delay,
            Side::Remote => channel.remote_delay,
        },
    };
    let outputs: Vec<TreeOutput> = commitment
        .outputs()
        .map(|(vout, output, info)| {
            let (kind, spend_paths) = match info.kind {
                OutputKind::ToLocal => (TreeOutputKind::ToLocal, spend_paths.of_delayed(PaperName::Rd, PaperName::Br)),
                OutputKind::ToRemote => (TreeOutputKind::ToRemote, vec![spend_paths.by_other(PaperName::D)]),
                OutputKind::ToLocalAnchor => (TreeOutputKind::Anchor, spend_paths.of_anchor(owner)),
                OutputKind::ToRemoteAnchor => (TreeOutputKind::Anchor, spend_paths.of_anchor(owner.other())),
                OutputKind::Htlc(htlc) => {
                    let offered_by = if is_outgoing(owner, &htlc) { Side::Local } else { Side::Remote };
                    let known = offered_by == Side::Remote && channel.preimages.contains_key(&htlc.payment_hash);
                    let kind = TreeOutputKind::Htlc { offered_by, htlc, preimage_known: known };
                    (kind, spend_paths.of_htlc(&htlc, commitment, vout))
                }
            };
            TreeOutput { vout, amount: output.value, kind, spend_paths }
        })
        .collect();
    let has_output = |htlc: &&CommitmentHtlc| {
        outputs.iter().any(|output| matches!(&output.kind, TreeOutputKind::Htlc { htlc: one, .. } if one == *htlc))
    };
    TreeCommitment {
        owner,
        number: commitment.number,
        txid: commitment.txid,
        fee: commitment_fee(channel, commitment),
        trimmed: htlcs.iter().filter(|htlc| !has_output(htlc)).copied().collect(),
        outputs,
    }
}

/// How the outputs of one side's commitment can be spent.
struct SpendPaths {
    owner: Side,
    kind: CommitmentType,
    delay: u16,
}

impl SpendPaths {
    fn spend_path(&self, paper_name: PaperName, by: Side) -> SpendPath {
        let second_stage = None;
        SpendPath {
            paper_name,
            by,
            confirmations: 0,
            expiry: None,
            needs_preimage: false,
            needs_revocation: false,
            second_stage,
        }
    }

    /// With anchors nothing but a penalty or an anchor's own spend goes into the commitment's block (BOLT 3).
    fn one_block(&self) -> u16 {
        match self.kind {
            CommitmentType::StaticRemoteKey => 0,
            CommitmentType::Anchors => 1,
        }
    }

    fn by_other(&self, paper_name: PaperName) -> SpendPath {
        SpendPath { confirmations: self.one_block(), ..self.spend_path(paper_name, self.owner.other()) }
    }

    fn penalty(&self, paper_name: PaperName) -> SpendPath {
        SpendPath { needs_revocation: true, ..self.spend_path(paper_name, self.owner.other()) }
    }

    fn of_delayed(&self, claim: PaperName, penalty: PaperName) -> Vec<SpendPath> {
        vec![SpendPath { confirmations: self.delay, ..self.spend_path(claim, self.owner) }, self.penalty(penalty)]
    }

    fn of_anchor(&self, whose: Side) -> Vec<SpendPath> {
        vec![
            self.spend_path(PaperName::Anchor, whose),
            SpendPath { confirmations: ANCHOR_FREE_AFTER, ..self.spend_path(PaperName::Anchor, whose.other()) },
        ]
    }

    fn of_htlc(&self, htlc: &CommitmentHtlc, commitment: &CommitmentTx, vout: u32) -> Vec<SpendPath> {
        let (stage, claim, direct) = match htlc.direction {
            HtlcDirection::Offered => (PaperName::Ht, PaperName::Htrd, PaperName::Hed),
            HtlcDirection::Received => (PaperName::He, PaperName::Herd, PaperName::Htd),
        };
        let by_time = (htlc.direction == HtlcDirection::Offered).then_some(htlc.cltv_expiry);
        let is_this = |input: &bitcoin::TxIn| input.previous_output.vout == vout;
        let second_stage = commitment.htlc_txs().find(|stage| stage.tx.input.iter().any(is_this)).map(|found| {
            let txid = match self.kind {
                CommitmentType::StaticRemoteKey => Some(found.tx.compute_txid()),
                CommitmentType::Anchors => None,
            };
            let amount = found.tx.output.iter().map(|output| output.value).sum();
            SecondStage { txid, amount, spend_paths: self.of_delayed(claim, PaperName::Htbr) }
        });
        let owners = SpendPath {
            confirmations: self.one_block(),
            expiry: by_time,
            needs_preimage: by_time.is_none(),
            second_stage,
            ..self.spend_path(stage, self.owner)
        };
        let others = SpendPath {
            expiry: by_time.is_none().then_some(htlc.cltv_expiry),
            needs_preimage: by_time.is_some(),
            ..self.by_other(direct)
        };
        vec![owners, others, self.penalty(PaperName::Hbr)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Duo, KINDS, State};
    use super::*;
    use crate::types::Height;

    #[test]
    fn every_output_is_in_the_tree_with_its_owner_and_its_time() {
        for kind in KINDS {
            let states = vec![
                State { alice: 600_000, ..State::default() },
                State { alice: 500_000, offered: vec![(1, 60_000), (3, 300)], received: vec![(2, 40_000)] },
            ];
            let duo = Duo::new(kind, states);
            let channel = duo.closing(Side::Local);
            let tree = tree(&channel).unwrap();
            assert_eq!(tree.commitments.iter().map(|one| one.owner).collect::<Vec<_>>(), [Side::Local, Side::Remote]);
            for (commitment, delay) in tree.commitments.iter().zip([channel.local_delay, channel.remote_delay]) {
                let paid: Amount = commitment.outputs.iter().map(|output| output.amount).sum();
                assert_eq!(paid + commitment.fee, tree.capacity);
                assert_eq!(commitment.trimmed.len(), 1, "the smallest HTLC");
                let anchors = commitment.outputs.iter().filter(|one| one.kind == TreeOutputKind::Anchor).count();
                assert_eq!(anchors, if kind == CommitmentType::Anchors { 2 } else { 0 });
                for output in &commitment.outputs {
                    check(commitment.owner, output, delay, kind);
                }
            }
        }
    }

    fn check(owner: Side, output: &TreeOutput, delay: u16, kind: CommitmentType) {
        let names: Vec<&str> = output.spend_paths.iter().map(|path| path.paper_name.name()).collect();
        let free = u16::from(kind == CommitmentType::Anchors);
        match output.kind {
            TreeOutputKind::ToLocal => {
                assert_eq!(names, ["RD", "BR"]);
                assert_eq!((output.spend_paths[0].by, output.spend_paths[0].confirmations), (owner, delay));
                assert!(output.spend_paths[1].needs_revocation && output.spend_paths[1].by == owner.other());
            }
            TreeOutputKind::ToRemote => {
                assert_eq!(names, ["D"]);
                assert_eq!((output.spend_paths[0].by, output.spend_paths[0].confirmations), (owner.other(), free));
            }
            TreeOutputKind::Anchor => assert_eq!(names, ["CPFP", "CPFP"]),
            TreeOutputKind::Htlc { offered_by, htlc, preimage_known } => {
                assert!(!preimage_known);
                let (stage, direct) = if offered_by == owner { ("HT", "HED") } else { ("HE", "HTD") };
                assert_eq!(names, [stage, direct, "HBR"]);
                let [own, other, penalty] = output.spend_paths.as_slice() else { panic!() };
                // Time for who offered it, the preimage for who is to get it.
                assert_eq!(own.expiry.is_some(), offered_by == owner);
                assert_eq!(own.needs_preimage, offered_by != owner);
                assert_eq!(other.expiry.is_some(), offered_by != owner);
                assert_eq!(own.expiry.or(other.expiry), Some(htlc.cltv_expiry));
                assert!(penalty.needs_revocation && Height(htlc.cltv_expiry.0) > Height(0));
                let second = own.second_stage.as_ref().unwrap();
                assert_eq!(second.txid.is_some(), kind == CommitmentType::StaticRemoteKey);
                assert_eq!(second.spend_paths[0].confirmations, delay);
                assert_eq!(second.spend_paths[1].paper_name, PaperName::Htbr);
            }
        }
    }
}
