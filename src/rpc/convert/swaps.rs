//! Atomic swaps.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, consensus, hashes::Hash as _};
use leyden_channels::swap::{
    self, Acceptance, Contract, Expiry, Leg, LegState, Offer, Outcome, Phase, Role, Swap,
    contract::extract_secret as secret_of, margins,
};
use leyden_channels::types::PaymentPreimage;
use leyden_proto::leyden;

use super::{
    edge::{self, wrong},
    signed, submarine,
};
use crate::api::{
    AcceptSwap, ApiError, FundSwap, QuoteSwap, RecallSwap, ReclaimSwap, SwapBlock, SwapChainStatus, SwapInfo, SwapTerms,
};

type Checked<T> = Result<T, ApiError>;

/// Confirmations that the other's lock needs if nothing else is said.
pub(super) const DEPTH: u32 = margins::DEPTH;
/// The most satoshi that a lock may pay in fees if nothing else is said: some hundred bytes at 50 sat/vB.
pub(super) const MAX_LOCK_FEE: Amount = Amount::from_sat(10_000);

/// 0 means the usual.
pub(super) fn seconds(hours: u32, usual: u64) -> u64 {
    if hours == 0 { usual } else { u64::from(hours) * 3_600 }
}

pub(crate) fn quote(request: &leyden::SwapQuoteRequest) -> Checked<QuoteSwap> {
    Ok(QuoteSwap {
        give: edge::positive_amount("give", request.give)?,
        get: edge::positive_amount("get", request.get)?,
        give_other: request.give_other,
        terms: terms(request.by_hand, request.depth, request.max_lock_fee)?,
        outer_seconds: seconds(request.outer_hours, margins::OUTER_SECONDS),
        inner_seconds: seconds(request.inner_hours, margins::INNER_SECONDS),
    })
}

pub(crate) fn accept(request: &leyden::SwapAcceptRequest) -> Checked<AcceptSwap> {
    Ok(AcceptSwap {
        offer: Offer::decode(&request.offer).map_err(|error| wrong("offer", error))?,
        give: edge::positive_amount("give", request.give)?,
        get: edge::positive_amount("get", request.get)?,
        give_other: request.give_other,
        locked_for: seconds(request.inner_hours, margins::INNER_SECONDS),
        terms: terms(request.by_hand, request.depth, request.max_lock_fee)?,
    })
}

pub(crate) fn acceptance(bytes: &[u8]) -> Checked<Acceptance> {
    Acceptance::decode(bytes).map_err(|error| wrong("acceptance", error))
}

fn terms(by_hand: bool, depth: u32, max_lock_fee: i64) -> Checked<SwapTerms> {
    let max_lock_fee = match edge::amount("max_lock_fee", max_lock_fee)? {
        Amount::ZERO => MAX_LOCK_FEE,
        amount => amount,
    };
    Ok(SwapTerms { by_hand, depth: if depth == 0 { DEPTH } else { depth }, max_lock_fee })
}

/// Empty: none is said.
pub(crate) fn secret(bytes: &[u8]) -> Checked<Option<PaymentPreimage>> {
    if bytes.is_empty() { Ok(None) } else { edge::bytes32("secret", bytes).map(|secret| Some(PaymentPreimage(secret))) }
}

fn contract(bytes: &[u8]) -> Checked<Contract> {
    Contract::parse(&ScriptBuf::from_bytes(bytes.to_vec())).map_err(|error| wrong("contract", error))
}

pub(crate) fn audit(request: &leyden::SwapAuditRequest) -> Checked<leyden::SwapAudit> {
    let contract = contract(&request.contract)?;
    let transaction = edge::transaction("transaction", &request.transaction)?;
    let found = contract.find_in(&transaction, Amount::ZERO).map_err(|error| wrong("contract", error))?;
    let output = found.and_then(|index| transaction.output.get(index as usize));
    Ok(leyden::SwapAudit {
        hash: contract.hash.0.to_vec(),
        redeem_key: contract.redeem_key.serialize().to_vec(),
        refund_key: contract.refund_key.serialize().to_vec(),
        expiry: match contract.expiry {
            Expiry::Time(time) => time.0,
            Expiry::Height(_) => 0,
        },
        expiry_height: match contract.expiry {
            Expiry::Time(_) => 0,
            Expiry::Height(height) => height.0,
        },
        paid: output.is_some(),
        output_index: found.unwrap_or_default(),
        amount: output.map_or(0, |output| signed(output.value)),
        txid: transaction.compute_txid().to_string(),
    })
}

pub(crate) fn reclaim(request: &leyden::SwapReclaimRequest) -> Checked<ReclaimSwap> {
    let secret = match request.secret.as_slice() {
        [] => None,
        bytes => Some(PaymentPreimage(edge::bytes32("secret", bytes)?)),
    };
    Ok(ReclaimSwap { contract: contract(&request.contract)?, lock: edge::output("lock", &request.lock)?, secret })
}

pub(crate) fn extract_secret(request: &leyden::ExtractSecretRequest) -> Checked<leyden::ExtractSecretResponse> {
    let transaction = edge::transaction("transaction", &request.transaction)?;
    let hash = edge::payment_hash("hash", &request.hash)?;
    let secret = secret_of(&transaction, &hash).ok_or_else(|| {
        ApiError::not_found("no input of this transaction shows a secret of 32 bytes with this hash: is it the redeem?")
    })?;
    Ok(leyden::ExtractSecretResponse { secret: secret.0.to_vec() })
}

pub(crate) fn info(info: &SwapInfo) -> leyden::SwapInfo {
    match info {
        SwapInfo::Atomic { swap, give_on, get_on, warnings } => atomic(swap, give_on, get_on, warnings),
        SwapInfo::Submarine { swap, coins_on, payment_on, facts, warnings } => {
            submarine::info(swap, (coins_on, payment_on), facts, warnings)
        }
    }
}

fn atomic(swap: &Swap, give_on: &str, get_on: &str, warnings: &[String]) -> leyden::SwapInfo {
    let role = swap.role();
    leyden::SwapInfo {
        id: swap.id().0.to_vec(),
        initiator: role == Role::Initiator,
        phase: phase(swap.phase()).to_owned(),
        give: Some(leg(swap, role.gives(), give_on)),
        get: Some(leg(swap, role.gets(), get_on)),
        by_hand: swap.is_by_hand(),
        depth: swap.depth(),
        offer: swap.offer().encode(),
        acceptance: swap.acceptance().map(Acceptance::encode).unwrap_or_default(),
        secret: swap.shown_secret().map(|secret| secret.0.to_vec()).unwrap_or_default(),
        created: swap.created().0,
        kind: "atomic".to_owned(),
        warnings: warnings.to_vec(),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Quoted => "quoted",
        Phase::Accepted => "accepted",
        Phase::Locking => "locking",
        Phase::Locked => "locked",
        Phase::Redeemable => "redeemable",
        Phase::Refundable => "refundable",
        Phase::Redeeming => "redeeming",
        Phase::Redeemed => "redeemed",
        Phase::Refunding => "refunding",
        Phase::Refunded => "refunded",
        Phase::Ended(outcome) => ended(outcome),
    }
}

pub(super) fn ended(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Refunded => "refunded",
        Outcome::Swapped => "swapped",
        Outcome::NothingLocked => "given_up",
        Outcome::Lost => "lost",
    }
}

fn leg(swap: &Swap, leg: Leg, network: &str) -> leyden::SwapLegInfo {
    let terms = swap.offer().leg(leg);
    leyden::SwapLegInfo {
        network: network.to_owned(),
        amount: signed(terms.amount),
        expiry: terms.expiry.0,
        ..contract_leg(swap.leg(leg), swap.contract(leg))
    }
}

/// What is known of a contract on a chain.
pub(super) fn contract_leg(state: &LegState, contract: Option<Contract>) -> leyden::SwapLegInfo {
    let script = contract.and_then(|contract| contract.witness_script().ok());
    let bytes = |transaction: Option<&Transaction>| transaction.map(consensus::serialize).unwrap_or_default();
    leyden::SwapLegInfo {
        contract: script.map(ScriptBuf::into_bytes).unwrap_or_default(),
        lock: state.lock.map(|lock| lock.outpoint.to_string()).unwrap_or_default(),
        confirmations: state.lock.and_then(|lock| lock.at).map_or(0, |at| state.confirmations(at)),
        spent_by: state.taken.map(|taken| taken.txid.to_string()).unwrap_or_default(),
        with_secret: state.taken.is_some_and(|taken| taken.with_secret),
        lock_transaction: bytes(state.funding.as_ref()),
        refund_transaction: bytes(state.refund.as_ref()),
        claim_transaction: bytes(state.claim.as_ref().map(|claim| &claim.transaction)),
        ..leyden::SwapLegInfo::default()
    }
}

pub(crate) fn chain_status(status: &SwapChainStatus) -> leyden::SwapChainStatus {
    let swap::Tip { height, hash, median_time } = status.tip;
    let rates = status.feerates.iter();
    leyden::SwapChainStatus {
        network: status.network.clone(),
        genesis_hash: status.chain.hash.to_bytes().to_vec(),
        spacing: status.chain.spacing,
        height: height.0,
        block_hash: hash.to_vec(),
        median_time: median_time.0,
        current: status.is_current,
        measured_spacing: status.spacing,
        pruned: status.is_pruned,
        confirmed: signed(status.confirmed),
        feerates: rates.map(|(blocks, rate)| leyden::SwapFeerate { blocks: *blocks, sat_per_kw: rate.0 }).collect(),
    }
}

pub(crate) fn block(block: &SwapBlock) -> leyden::SwapBlock {
    leyden::SwapBlock {
        block_hash: block.tip.hash.to_vec(),
        median_time: block.tip.median_time.0,
        transactions: block.transactions.iter().map(consensus::serialize).collect(),
        previous_hash: block.previous.to_vec(),
    }
}

pub(crate) fn outpoint(request: &leyden::SwapSpenderRequest) -> Checked<OutPoint> {
    let txid = bitcoin::Txid::from_byte_array(edge::bytes32("txid", &request.txid)?);
    Ok(OutPoint { txid, vout: request.output_index })
}

pub(crate) fn fund(request: leyden::SwapFundRequest) -> Checked<FundSwap> {
    let script = ScriptBuf::from_bytes(request.script);
    if !script.is_p2wsh() {
        return Err(wrong("script", "no P2WSH output script, which is what a swap locks coins in"));
    }
    Ok(FundSwap {
        script,
        amount: edge::positive_amount("amount", request.amount)?,
        max_fee: edge::amount("max_fee", request.max_fee)?,
    })
}

pub(crate) fn recall(request: leyden::SwapRecallRequest) -> Checked<RecallSwap> {
    Ok(RecallSwap {
        lock: edge::transaction("lock", &request.lock)?,
        to: ScriptBuf::from_bytes(request.script),
        fee: edge::amount("fee", request.fee)?,
    })
}

pub(crate) fn funded(transaction: &Transaction, fee: Amount) -> leyden::SwapFundResponse {
    leyden::SwapFundResponse { transaction: consensus::serialize(transaction), fee: signed(fee) }
}
