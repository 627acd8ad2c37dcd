//! What a person sees of a breach: each output, and how far its claim is.

use bitcoin::{Amount, OutPoint, Txid};
use leyden_channels::{
    onchain::{OutputReport, OutputStatus},
    types::{FeeratePerKw, Height},
};

use super::Breach;

/// One output that a penalty is to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimReport {
    /// Which output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub amount: Amount,
    /// The block by which the claim should be confirmed; `None` if nobody else can take the output.
    pub deadline: Option<Height>,
    /// How far the claim is.
    pub status: ClaimStatus,
}

/// How far the claim of one output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum ClaimStatus {
    /// Nothing is broadcast: it has just been seen, or would cost more than it is worth.
    Waiting,
    /// Our claim is broadcast. The fee is that of its transaction, which may claim other outputs too.
    Broadcast { txid: Txid, fee: Amount, feerate: FeeratePerKw },
    /// A transaction in a block has spent it.
    Spent { txid: Txid, ours: bool, height: Height },
}

impl Breach {
    /// All outputs that the kit is about, in the order of their outpoints.
    pub fn report(&self) -> Vec<ClaimReport> {
        let outputs = self.outputs().iter().map(|(outpoint, output)| {
            let batch = self.response().batches.iter().find(|batch| batch.inputs.contains(outpoint));
            let status = match (output.spend, batch.and_then(|batch| batch.sent)) {
                (Some(spend), _) => ClaimStatus::Spent { txid: spend.txid, ours: spend.ours, height: spend.height },
                (None, Some(sent)) => ClaimStatus::Broadcast { txid: sent.txid, fee: sent.fee, feerate: sent.rate },
                (None, None) => ClaimStatus::Waiting,
            };
            let (amount, deadline) = (output.claim.sweep.output.value, self.deadline(outpoint, output));
            ClaimReport { outpoint: *outpoint, amount, deadline, status }
        });
        outputs.collect()
    }
}

/// What own mode's resolution says, in the same terms.
impl ClaimReport {
    /// What own mode says of an output, in the same terms.
    pub fn of_output(output: &OutputReport, tip: Height) -> Self {
        let OutputReport { outpoint, amount, deadline, ref status, .. } = *output;
        let status = match *status {
            OutputStatus::Locked { .. }
            | OutputStatus::NoPreimage
            | OutputStatus::Undecided
            | OutputStatus::Uneconomic
            | OutputStatus::NeedsCoins => ClaimStatus::Waiting,
            OutputStatus::Claimed { txid, fee, feerate } => ClaimStatus::Broadcast { txid, fee, feerate },
            OutputStatus::Spent { txid, ours, confirmations, .. } => {
                let height = Height(tip.0.saturating_add(1).saturating_sub(confirmations));
                ClaimStatus::Spent { txid, ours, height }
            }
        };
        Self { outpoint, amount, deadline, status }
    }
}
