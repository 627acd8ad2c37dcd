//! What channels can become on the chain, and how they end.

use bitcoin::Txid;
use leyden_channels::{
    onchain::{OutputReport, OutputStatus, SecondStage, SpendPath, TreeCommitment, TreeOutput, TreeOutputKind},
    tx::CommitmentHtlc,
    types::{CommitmentType, FeeratePerKw, Height, HtlcDirection, Side},
};
use leyden_proto::{
    leyden::{self, closing_output::State},
    lnrpc,
};

use super::{sat, signed};
use crate::api::{ChannelTree, ClosedChannel, ClosingChannel, ResolvedKind, ResolvedOutput};

pub(crate) fn tree(tree: &ChannelTree) -> leyden::ChannelTree {
    leyden::ChannelTree {
        channel_point: tree.tree.funding.to_string(),
        remote_pubkey: tree.node_id.to_string(),
        capacity: signed(tree.tree.capacity),
        commitment_type: match tree.tree.kind {
            CommitmentType::StaticRemoteKey => "static_remotekey",
            CommitmentType::Anchors => "anchors",
        }
        .to_owned(),
        block_height: tree.height.0,
        commitments: tree.tree.commitments.iter().map(commitment).collect(),
    }
}

fn commitment(commitment: &TreeCommitment) -> leyden::TreeCommitment {
    let name = Name { number: commitment.number.0, owner: commitment.owner };
    let trimmed = |htlc: &CommitmentHtlc| {
        let offered_by = match htlc.direction {
            HtlcDirection::Offered => commitment.owner,
            HtlcDirection::Received => commitment.owner.other(),
        };
        tree_htlc(offered_by, htlc, false)
    };
    leyden::TreeCommitment {
        name: name.of("C"),
        ours: commitment.owner == Side::Local,
        number: commitment.number.0,
        txid: commitment.txid.to_string(),
        fee: signed(commitment.fee),
        outputs: commitment.outputs.iter().map(|output| tree_output(output, &name)).collect(),
        trimmed_htlcs: commitment.trimmed.iter().map(trimmed).collect(),
    }
}

/// The paper's subscripts: the state's number, and whose commitment it belongs to.
struct Name {
    number: u64,
    owner: Side,
}

impl Name {
    fn of(&self, letters: &str) -> String {
        let side = if self.owner == Side::Local { 'a' } else { 'b' };
        format!("{letters}{}{side}", self.number)
    }
}

fn tree_output(output: &TreeOutput, name: &Name) -> leyden::TreeOutput {
    let (kind, htlc) = match &output.kind {
        TreeOutputKind::ToLocal => ("to_local", None),
        TreeOutputKind::ToRemote => ("to_remote", None),
        TreeOutputKind::Anchor => ("anchor", None),
        TreeOutputKind::Htlc { offered_by, htlc, preimage_known } => {
            ("HTLC", Some(tree_htlc(*offered_by, htlc, *preimage_known)))
        }
    };
    leyden::TreeOutput {
        output_index: output.vout,
        amount: signed(output.amount),
        kind: kind.to_owned(),
        htlc,
        spends: output.spend_paths.iter().map(|path| tree_spend(path, name)).collect(),
    }
}

fn tree_htlc(offered_by: Side, htlc: &CommitmentHtlc, preimage_known: bool) -> leyden::TreeHtlc {
    leyden::TreeHtlc {
        incoming: offered_by == Side::Remote,
        payment_hash: htlc.payment_hash.to_string(),
        expiry: htlc.cltv_expiry.0,
        amount: sat(htlc.amount),
        preimage_known,
    }
}

fn tree_spend(path: &SpendPath, name: &Name) -> leyden::TreeSpend {
    let stage: Option<&SecondStage> = path.second_stage.as_ref();
    leyden::TreeSpend {
        name: name.of(path.paper_name.name()),
        kind: path.paper_name.describe().to_owned(),
        ours: path.by == Side::Local,
        confirmations: u32::from(path.confirmations),
        expiry: path.expiry.map_or(0, |expiry| expiry.0),
        needs_preimage: path.needs_preimage,
        needs_revocation: path.needs_revocation,
        txid: text(stage.and_then(|stage| stage.txid)),
        amount: stage.map_or(0, |stage| signed(stage.amount)),
        spends: stage
            .map(|stage| stage.spend_paths.iter().map(|path| tree_spend(path, name)).collect())
            .unwrap_or_default(),
    }
}

fn text(txid: Option<Txid>) -> String {
    txid.map(|txid| txid.to_string()).unwrap_or_default()
}

pub(crate) fn closing(channel: &ClosingChannel) -> leyden::ClosingChannel {
    let depth = |height: Height| channel.height.0.saturating_sub(height.0).saturating_add(1);
    leyden::ClosingChannel {
        channel_point: channel.funding.to_string(),
        remote_pubkey: channel.node_id.to_string(),
        capacity: signed(channel.capacity),
        reason: channel.reason.clone(),
        closing_txid: text(channel.closing_txid),
        confirmations: channel.closed_at.map_or(0, depth),
        outputs: channel.outputs.iter().map(output).collect(),
        fees: signed(channel.fees),
        recovered: signed(channel.recovered),
    }
}

fn output(report: &OutputReport) -> leyden::ClosingOutput {
    let base = leyden::ClosingOutput {
        outpoint: report.outpoint.to_string(),
        amount: signed(report.amount),
        what: report.role.describe().to_owned(),
        deadline: report.deadline.map_or(0, |height| height.0),
        ..Default::default()
    };
    match report.status {
        OutputStatus::Locked { until } => leyden::ClosingOutput { state: State::Locked.into(), until: until.0, ..base },
        OutputStatus::NoPreimage => leyden::ClosingOutput { state: State::NoPreimage.into(), ..base },
        OutputStatus::Undecided => leyden::ClosingOutput { state: State::Undecided.into(), ..base },
        OutputStatus::Uneconomic => leyden::ClosingOutput { state: State::Uneconomic.into(), ..base },
        OutputStatus::NeedsCoins => leyden::ClosingOutput { state: State::NeedsCoins.into(), ..base },
        OutputStatus::Claimed { txid, fee, feerate } => leyden::ClosingOutput {
            state: State::Claimed.into(),
            spending_txid: txid.to_string(),
            fee: signed(fee),
            sat_per_vbyte: per_vbyte(feerate),
            ..base
        },
        OutputStatus::Spent { txid, ours, confirmations, is_final } => leyden::ClosingOutput {
            state: if ours { State::Ours } else { State::Theirs }.into(),
            spending_txid: txid.to_string(),
            confirmations,
            r#final: is_final,
            ..base
        },
    }
}

fn per_vbyte(feerate: FeeratePerKw) -> f64 {
    f64::from(feerate.0) * 4.0 / 1000.0
}

pub(crate) fn ended(channel: &ClosedChannel) -> leyden::EndedChannel {
    leyden::EndedChannel {
        channel_point: channel.funding.to_string(),
        remote_pubkey: channel.node_id.to_string(),
        capacity: signed(channel.capacity),
        reason: channel.reason.clone(),
        closing_txid: text(channel.closing_txid),
        close_height: channel.height.0,
        settled: channel.settled.map(signed),
        fees: signed(channel.fees),
        outputs: channel.outputs.iter().map(ended_output).collect(),
    }
}

fn ended_output(output: &ResolvedOutput) -> leyden::EndedOutput {
    leyden::EndedOutput {
        outpoint: output.outpoint.to_string(),
        amount: signed(output.amount),
        what: output.what.clone(),
        ours: output.spent.is_some_and(|(_, ours)| ours),
        spending_txid: text(output.spent.map(|(txid, _)| txid)),
    }
}

/// LND's report of the same.
pub(super) fn resolution(output: &ResolvedOutput) -> lnrpc::Resolution {
    lnrpc::Resolution {
        resolution_type: resolution_type(output.kind).into(),
        outcome: outcome(output).into(),
        outpoint: Some(super::wallet::outpoint(output.outpoint)),
        amount_sat: output.amount.to_sat(),
        sweep_txid: text(output.spent.map(|(txid, _)| txid)),
    }
}

pub(super) fn outcome(output: &ResolvedOutput) -> lnrpc::ResolutionOutcome {
    use lnrpc::ResolutionOutcome as Outcome;
    match (output.kind, output.spent) {
        (_, None) => Outcome::Unclaimed,
        (_, Some((_, true))) if output.first_stage => Outcome::FirstStage,
        (ResolvedKind::OutgoingHtlc, Some((_, true))) => Outcome::Timeout,
        (ResolvedKind::Commitment | ResolvedKind::IncomingHtlc, Some((_, true))) => Outcome::Claimed,
        // An HTLC that we offered and that was paid counts as claimed in LND's words.
        (ResolvedKind::OutgoingHtlc, Some((_, false))) => Outcome::Claimed,
        (ResolvedKind::IncomingHtlc, Some((_, false))) => Outcome::Timeout,
        (ResolvedKind::Commitment, Some((_, false))) => Outcome::Abandoned,
    }
}

pub(super) fn resolution_type(kind: ResolvedKind) -> lnrpc::ResolutionType {
    use lnrpc::ResolutionType as Type;
    match kind {
        ResolvedKind::Commitment => Type::Commit,
        ResolvedKind::IncomingHtlc => Type::IncomingHtlc,
        ResolvedKind::OutgoingHtlc => Type::OutgoingHtlc,
    }
}
