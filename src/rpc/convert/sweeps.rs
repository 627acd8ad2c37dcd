//! Claims of closed channels as LND tells them, and transactions that programs hand over.

use std::collections::{BTreeSet, HashMap};

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use leyden_channels::{
    onchain::{OutputReport, OutputStatus, Role},
    types::HtlcDirection,
};
use leyden_proto::{lnrpc, walletrpc};

use super::{
    edge, psbts, signer,
    wallet::{self, transactions},
    wallet_kit::MAX_LABEL,
};
use crate::{
    api::{
        ApiError, BumpFee, ClosedChannel, ClosingChannel, FeeChoice, NetworkInfo, PackageResult, SendOutputs, WalletTx,
    },
    wallet::reserve::Reserve,
};

/// Why there is no limit to what a closed channel's claim may pay.
const BUDGET_OF_CLAIM: &str = "a claim of a closed channel pays what it needs in time, and never more than it brings";

/// Transactions of a package, as of Bitcoin Core.
const MAX_PACKAGE: usize = 25;

fn witness_type(role: &Role) -> walletrpc::WitnessType {
    use walletrpc::WitnessType as Type;
    let offered = |htlc: &leyden_channels::tx::CommitmentHtlc| match htlc.direction {
        HtlcDirection::Offered => true,
        HtlcDirection::Received => false,
    };
    match role {
        Role::ToLocal => Type::CommitmentTimeLock,
        Role::ToRemote => Type::CommitmentToRemoteConfirmed,
        Role::LocalHtlc(htlc) if offered(htlc) => Type::HtlcOfferedTimeoutSecondLevelInputConfirmed,
        Role::LocalHtlc(_) => Type::HtlcAcceptedSuccessSecondLevelInputConfirmed,
        Role::LocalSecondStage(htlc) if offered(htlc) => Type::HtlcOfferedTimeoutSecondLevel,
        Role::LocalSecondStage(_) => Type::HtlcAcceptedSuccessSecondLevel,
        // As the peer sees it.
        Role::RemoteHtlc(htlc) if offered(htlc) => Type::HtlcAcceptedRemoteSuccess,
        Role::RemoteHtlc(_) => Type::HtlcOfferedRemoteTimeout,
        Role::RevokedToLocal => Type::CommitmentRevoke,
        Role::RevokedHtlc(htlc) if offered(htlc) => Type::HtlcAcceptedRevoke,
        Role::RevokedHtlc(_) => Type::HtlcOfferedRevoke,
        Role::RevokedSecondStage => Type::HtlcSecondLevelRevoke,
        Role::Anchor => Type::CommitmentAnchor,
    }
}

/// What is claimed now or will be; what nobody can claim yet, because its preimage is not known, is left out.
pub(crate) fn pending(channels: &[ClosingChannel]) -> walletrpc::PendingSweepsResponse {
    let outputs = channels.iter().flat_map(|channel| &channel.outputs);
    walletrpc::PendingSweepsResponse { pending_sweeps: outputs.filter_map(pending_sweep).collect() }
}

#[allow(deprecated)] // `sat_per_byte` is still read by clients.
fn pending_sweep(output: &OutputReport) -> Option<walletrpc::PendingSweep> {
    let (rate, maturity) = match output.status {
        OutputStatus::Spent { .. } | OutputStatus::NoPreimage => return None,
        OutputStatus::Claimed { feerate, .. } => {
            (bitcoin::FeeRate::from_sat_per_kwu(u64::from(feerate.0)).to_sat_per_vb_floor(), 0)
        }
        OutputStatus::Locked { until } => (0, until.0),
        OutputStatus::Undecided | OutputStatus::Uneconomic | OutputStatus::NeedsCoins => (0, 0),
    };
    Some(walletrpc::PendingSweep {
        outpoint: Some(wallet::outpoint(output.outpoint)),
        witness_type: witness_type(&output.role).into(),
        amount_sat: u32::try_from(output.amount.to_sat()).unwrap_or(u32::MAX),
        sat_per_byte: u32::try_from(rate).unwrap_or(u32::MAX),
        sat_per_vbyte: rate,
        deadline_height: output.deadline.map_or(0, |height| height.0),
        maturity_height: maturity,
    })
}

/// The transactions of ours that have spent, or are to spend, outputs of closed channels.
pub(crate) fn claims(closing: &[ClosingChannel], closed: &[ClosedChannel]) -> BTreeSet<Txid> {
    let now = closing.iter().flat_map(|channel| &channel.outputs).filter_map(|output| match output.status {
        OutputStatus::Claimed { txid, .. } | OutputStatus::Spent { txid, ours: true, .. } => Some(txid),
        OutputStatus::Spent { ours: false, .. }
        | OutputStatus::Locked { .. }
        | OutputStatus::NoPreimage
        | OutputStatus::Undecided
        | OutputStatus::Uneconomic
        | OutputStatus::NeedsCoins => None,
    });
    let before = closed.iter().flat_map(|channel| &channel.outputs).filter_map(|output| output.spent);
    now.chain(before.filter(|(_, ours)| *ours).map(|(txid, _)| txid)).collect()
}

/// The wallet's transactions among them from a height on.
pub(crate) fn sweeps(
    request: &walletrpc::ListSweepsRequest,
    claims: &BTreeSet<Txid>,
    all: Vec<WalletTx>,
    network: &NetworkInfo,
) -> Result<walletrpc::ListSweepsResponse, ApiError> {
    use walletrpc::list_sweeps_response::{Sweeps, TransactionIDs};
    let start = from_height(request)?;
    let is_asked = |tx: &WalletTx| match (tx.confirmation, start) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(found), Some(start)) => found.height.0 >= start,
    };
    let chosen: Vec<WalletTx> = all.into_iter().filter(|tx| claims.contains(&tx.txid) && is_asked(tx)).collect();
    let sweeps = if request.verbose {
        Sweeps::TransactionDetails(transactions(0, &chosen, network))
    } else {
        Sweeps::TransactionIds(TransactionIDs {
            transaction_ids: chosen.iter().map(|tx| tx.txid.to_string()).collect(),
        })
    };
    Ok(walletrpc::ListSweepsResponse { sweeps: Some(sweeps) })
}

/// `None`: those in no block.
pub(crate) fn from_height(request: &walletrpc::ListSweepsRequest) -> Result<Option<u32>, ApiError> {
    match request.start_height {
        -1 => Ok(None),
        height => u32::try_from(height)
            .map(Some)
            .map_err(|_| edge::wrong("start_height", format!("{height} is no block height; -1 means none"))),
    }
}

/// Which channel's commitment is meant, and what it shall pay.
pub(crate) fn close_bump(request: &walletrpc::BumpForceCloseFeeRequest, reserve: Reserve) -> Result<BumpFee, ApiError> {
    let outpoint: OutPoint = edge::channel_point("chan_point", request.chan_point.as_ref())?;
    let given = [request.target_conf != 0, request.deadline_delta != 0, request.starting_feerate != 0];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(edge::wrong("starting_feerate", "give it, target_conf or deadline_delta: one of them"));
    }
    edge::refuse("budget", request.budget != 0, BUDGET_OF_CLAIM)?;
    let blocks = request.target_conf.max(request.deadline_delta);
    let fee = edge::fee(edge::FeeFields {
        target_conf: i32::try_from(blocks).unwrap_or(i32::MAX),
        sat_per_vbyte: request.starting_feerate,
        sat_per_byte: 0,
    })?;
    Ok(BumpFee { outpoint, fee, budget: None, reserve })
}

pub(crate) fn to_send(request: walletrpc::SendOutputsRequest, reserve: Reserve) -> Result<SendOutputs, ApiError> {
    edge::refuse(
        "coin_selection_strategy",
        request.coin_selection_strategy != lnrpc::CoinSelectionStrategy::StrategyUseGlobalConfig as i32,
        "the wallet has one way to choose coins",
    )?;
    let outputs: Vec<TxOut> = signer::outputs("outputs", &request.outputs)?;
    if outputs.is_empty() {
        return Err(ApiError::invalid("must specify at least one output to create"));
    }
    let total = outputs.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
    if total.is_none_or(|total| total > Amount::MAX_MONEY) {
        return Err(edge::wrong("outputs", "together they are more than all money"));
    }
    let rate = u64::try_from(request.sat_per_kw)
        .map_err(|_| edge::wrong("sat_per_kw", format!("{} is negative", request.sat_per_kw)))?;
    let rate = psbts::per_kw("sat_per_kw", rate)?.ok_or_else(|| edge::wrong("sat_per_kw", "a rate is needed"))?;
    let coins = edge::coins(request.min_confs, request.spend_unconfirmed, &[])?;
    Ok(SendOutputs {
        outputs,
        fee: FeeChoice::Rate(rate),
        coins: crate::api::CoinChoice { reserve, ..coins },
        label: edge::text("label", request.label, MAX_LABEL)?,
    })
}

pub(crate) fn package(request: &walletrpc::SubmitPackageRequest) -> Result<Vec<Transaction>, ApiError> {
    let limited = request.sat_per_vbyte.is_some_and(|limit| limit > 0);
    edge::refuse("sat_per_vbyte", limited, "what each transaction pays is not limited here")?;
    match request.raw_txs.len() {
        0 => return Err(ApiError::invalid("must provide at least one transaction")),
        many if many > MAX_PACKAGE => {
            let text = format!("package of {many} transactions exceeds the maximum of {MAX_PACKAGE}");
            return Err(ApiError::invalid(text));
        }
        _ => {}
    }
    let one = |bytes: &Vec<u8>| {
        bitcoin::consensus::deserialize(bytes)
            .map_err(|error| ApiError::invalid(format!("unable to decode tx: {error}")))
    };
    request.raw_txs.iter().map(one).collect()
}

pub(crate) fn submitted(result: &PackageResult) -> walletrpc::SubmitPackageResponse {
    let one = |(txid, wtxid, error): &(Txid, bitcoin::Wtxid, Option<String>)| {
        let error = error.clone().unwrap_or_default();
        (wtxid.to_string(), walletrpc::SubmitPackageTxResult { txid: txid.to_string(), error })
    };
    let tx_results: HashMap<_, _> = result.transactions.iter().map(one).collect();
    walletrpc::SubmitPackageResponse {
        package_msg: result.message.clone(),
        tx_results,
        replaced_transactions: result.replaced.iter().map(ToString::to_string).collect(),
    }
}
