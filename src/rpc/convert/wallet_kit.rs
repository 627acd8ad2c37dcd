//! What other programs ask of the wallet.

use std::{collections::HashMap, time::Duration};

use bitcoin::{OutPoint, Txid, bip32::Fingerprint};
use leyden_proto::{lnrpc, walletrpc};

use super::{edge, signed, wallet};
use crate::api::{Account, AddressKind, ApiError, ChainFeerates, Lease, NetworkInfo, SendEstimate, SendMany};

/// The longest label that LND keeps.
pub(super) const MAX_LABEL: usize = 500;
/// How long a lease lasts if nothing is said: LND's ten minutes.
pub(super) const DEFAULT_LEASE: Duration = Duration::from_secs(600);
/// The longest lease: a coin that is forgotten must be of use again some day.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Outputs that a transaction is to have; more than these would not be relayed.
pub(super) const MAX_OUTPUTS: usize = 2_500;

pub(crate) fn target(request: &walletrpc::EstimateFeeRequest) -> Result<u16, ApiError> {
    match u16::try_from(request.conf_target) {
        Ok(blocks) if blocks > 1 => Ok(blocks),
        _ => {
            Err(ApiError::invalid("confirmation target must be greater than 1: it is a number of blocks, up to 65535"))
        }
    }
}

pub(crate) fn feerates(rates: &ChainFeerates) -> walletrpc::EstimateFeeResponse {
    let per_kw = |rate: bitcoin::FeeRate| i64::try_from(rate.to_sat_per_kwu()).unwrap_or(i64::MAX);
    walletrpc::EstimateFeeResponse { sat_per_kw: per_kw(rates.estimate), min_relay_fee_sat_per_kw: per_kw(rates.relay) }
}

/// The kind of address; whether it is for change.
pub(crate) fn next_address(request: &walletrpc::AddrRequest) -> Result<(AddressKind, bool), ApiError> {
    use walletrpc::AddressType;
    edge::account(&request.account)?;
    match AddressType::try_from(request.r#type) {
        Ok(AddressType::Unknown | AddressType::WitnessPubkeyHash) => Ok((AddressKind::SegwitV0, request.change)),
        Ok(AddressType::TaprootPubkey) => Ok((AddressKind::Taproot, request.change)),
        Ok(AddressType::NestedWitnessPubkeyHash | AddressType::HybridNestedWitnessPubkeyHash) => {
            Err(edge::wrong("type", "this wallet has no nested addresses; ask for WITNESS_PUBKEY_HASH"))
        }
        Err(_) => Err(edge::wrong("type", format!("there is no address type {}", request.r#type))),
    }
}

pub(crate) fn label(request: walletrpc::LabelTransactionRequest) -> Result<(Txid, String, bool), ApiError> {
    let walletrpc::LabelTransactionRequest { txid, label, overwrite } = request;
    let txid = edge::txid_bytes("txid", &txid)?;
    if label.is_empty() {
        return Err(ApiError::invalid("cannot label transaction with empty label"));
    }
    Ok((txid, edge::text("label", label, MAX_LABEL)?, overwrite))
}

pub(crate) fn publication(request: walletrpc::Transaction) -> Result<(bitcoin::Transaction, String), ApiError> {
    let transaction = edge::transaction("tx_hex", &request.tx_hex)?;
    Ok((transaction, edge::text("label", request.label, MAX_LABEL)?))
}

/// Which of the accounts are asked for.
pub(crate) fn wanted_accounts(request: &walletrpc::ListAccountsRequest) -> Result<Vec<AddressKind>, ApiError> {
    use walletrpc::AddressType;
    edge::account(&request.name)?;
    let kind = AddressType::try_from(request.address_type)
        .map_err(|_| edge::wrong("address_type", format!("there is no address type {}", request.address_type)))?;
    Ok(match kind {
        AddressType::Unknown => AddressKind::ALL.to_vec(),
        AddressType::WitnessPubkeyHash => vec![AddressKind::SegwitV0],
        AddressType::TaprootPubkey => vec![AddressKind::Taproot],
        AddressType::NestedWitnessPubkeyHash | AddressType::HybridNestedWitnessPubkeyHash => Vec::new(),
    })
}

pub(super) fn address_type(kind: AddressKind) -> walletrpc::AddressType {
    match kind {
        AddressKind::SegwitV0 => walletrpc::AddressType::WitnessPubkeyHash,
        AddressKind::Taproot => walletrpc::AddressType::TaprootPubkey,
    }
}

pub(crate) fn account(account: &Account) -> walletrpc::Account {
    walletrpc::Account {
        name: "default".to_owned(),
        address_type: address_type(account.kind).into(),
        extended_public_key: account.public_key.clone(),
        master_key_fingerprint: Fingerprint::from(account.master_fingerprint).to_bytes().to_vec(),
        derivation_path: account.path.clone(),
        external_key_count: account.external,
        internal_key_count: account.internal,
        watch_only: false,
    }
}

pub(crate) fn reserve(amount: bitcoin::Amount) -> walletrpc::RequiredReserveResponse {
    walletrpc::RequiredReserveResponse { required_reserve: signed(amount) }
}

/// Of a lease: whose, which coin, for how long.
pub(crate) fn lease(request: &walletrpc::LeaseOutputRequest) -> Result<([u8; 32], OutPoint, Duration), ApiError> {
    let time = match request.expiration_seconds {
        0 => DEFAULT_LEASE,
        seconds => Duration::from_secs(seconds),
    };
    if time > LONGEST_LEASE {
        let most = LONGEST_LEASE.as_secs();
        return Err(edge::wrong("expiration_seconds", format!("{}; at most {most}, a year", time.as_secs())));
    }
    let (id, coin) = leased(&request.id, request.outpoint.as_ref())?;
    Ok((id, coin, time))
}

/// Whose a coin is, and which.
pub(crate) fn leased(id: &[u8], outpoint: Option<&lnrpc::OutPoint>) -> Result<([u8; 32], OutPoint), ApiError> {
    let id: Option<[u8; 32]> = id.try_into().ok().filter(|id| *id != [0; 32]);
    let id = id.ok_or_else(|| ApiError::invalid("id must be 32 random bytes"))?;
    let outpoint = outpoint.ok_or_else(|| edge::wrong("outpoint", "a coin is needed"))?;
    Ok((id, edge::outpoint("outpoint", outpoint)?))
}

pub(crate) fn utxo_lease(lease: &Lease) -> walletrpc::UtxoLease {
    walletrpc::UtxoLease {
        id: lease.id.to_vec(),
        outpoint: Some(wallet::outpoint(lease.outpoint)),
        expiration: lease.until.0,
        pk_script: lease.output.script_pubkey.to_bytes(),
        value: lease.output.value.to_sat(),
    }
}

fn outputs(
    amounts: &HashMap<String, i64>,
    network: &NetworkInfo,
) -> Result<Vec<(bitcoin::Address, bitcoin::Amount)>, ApiError> {
    if amounts.is_empty() || amounts.len() > MAX_OUTPUTS {
        let text = format!("{} addresses; between 1 and {MAX_OUTPUTS} are needed", amounts.len());
        return Err(edge::wrong("AddrToAmount", text));
    }
    let mut sorted: Vec<_> = amounts.iter().collect();
    sorted.sort();
    let one = |(address, amount): (&String, &i64)| {
        Ok((edge::address("AddrToAmount", address, network)?, edge::positive_amount("AddrToAmount", *amount)?))
    };
    sorted.into_iter().map(one).collect()
}

fn one_strategy(strategy: i32) -> Result<(), ApiError> {
    edge::refuse(
        "coin_selection_strategy",
        strategy != lnrpc::CoinSelectionStrategy::StrategyUseGlobalConfig as i32,
        "the wallet has one way to choose coins",
    )
}

#[allow(deprecated)] // `sat_per_byte` is still sent by clients.
pub(crate) fn send_many(request: lnrpc::SendManyRequest, network: &NetworkInfo) -> Result<SendMany, ApiError> {
    one_strategy(request.coin_selection_strategy)?;
    Ok(SendMany {
        outputs: outputs(&request.addr_to_amount, network)?,
        fee: edge::fee(edge::FeeFields {
            target_conf: request.target_conf,
            sat_per_vbyte: request.sat_per_vbyte,
            sat_per_byte: request.sat_per_byte,
        })?,
        coins: edge::coins(request.min_confs, request.spend_unconfirmed, &[])?,
        label: edge::text("label", request.label, MAX_LABEL)?,
    })
}

pub(crate) fn to_estimate(request: &lnrpc::EstimateFeeRequest, network: &NetworkInfo) -> Result<SendMany, ApiError> {
    one_strategy(request.coin_selection_strategy)?;
    let target_conf = request.target_conf;
    Ok(SendMany {
        outputs: outputs(&request.addr_to_amount, network)?,
        fee: edge::fee(edge::FeeFields { target_conf, sat_per_vbyte: 0, sat_per_byte: 0 })?,
        coins: edge::coins(request.min_confs, request.spend_unconfirmed, &request.inputs)?,
        label: String::new(),
    })
}

#[allow(deprecated)] // `feerate_sat_per_byte` is still read by clients.
pub(crate) fn estimate(estimate: &SendEstimate) -> lnrpc::EstimateFeeResponse {
    let rate = estimate.rate.to_sat_per_vb_ceil();
    lnrpc::EstimateFeeResponse {
        fee_sat: signed(estimate.fee),
        feerate_sat_per_byte: i64::try_from(rate).unwrap_or(i64::MAX),
        sat_per_vbyte: rate,
        inputs: estimate.inputs.iter().map(|coin| wallet::outpoint(*coin)).collect(),
    }
}
