//! PSBTs, and the addresses that they are made with.

use std::time::Duration;

use bitcoin::{Amount, FeeRate, Psbt, Sequence, Transaction, TxIn, TxOut, absolute::LockTime, transaction::Version};
use leyden_proto::{lnrpc, walletrpc};

use super::{
    edge, signed as sat_signed,
    wallet_kit::{self, DEFAULT_LEASE, LONGEST_LEASE, MAX_OUTPUTS},
};
use crate::{
    api::{Account, AddressKind, ApiError, FeeChoice, FundPsbt, NetworkInfo, PsbtFunded, Selection, WalletAddress},
    wallet::reserve::Reserve,
};

/// Under which LND leases coins if the caller names nothing.
const DEFAULT_LOCK_ID: [u8; 32] = [
    0xed, 0xe1, 0x9a, 0x92, 0xed, 0x32, 0x1a, 0x47, 0x05, 0xf8, 0xa1, 0xcc, 0xcc, 0x1d, 0x4f, 0x61, 0x82, 0x54, 0x5d,
    0x4b, 0xb4, 0xfa, 0xe0, 0x8b, 0xd5, 0x93, 0x78, 0x31, 0xb7, 0xe3, 0x8f, 0x98,
];

/// Of all outputs, the part that LND pays in fees at most where it adds coins to a PSBT.
const DEFAULT_FEE_RATIO: f64 = 0.2;

/// The highest rate in satoshi per 1,000 weight units, which is that of [`edge::fee_rate`].
const HIGHEST_PER_KW: u64 = 25_000_000;

/// BIP 174.
const MAGIC: &[u8] = b"psbt\xff";

pub(crate) fn psbt(words: &str, bytes: &[u8]) -> Result<Psbt, ApiError> {
    Psbt::deserialize(bytes).map_err(|error| {
        use std::error::Error as _;
        if !bytes.starts_with(MAGIC) {
            return ApiError::invalid(format!("{words}: these are no PSBT, which begins with cHNidP8 in base64"));
        }
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        ApiError::invalid(format!("{words}: {error}{cause}"))
    })
}

pub(crate) fn funding(
    request: walletrpc::FundPsbtRequest,
    reserve: Reserve,
    network: &NetworkInfo,
) -> Result<FundPsbt, ApiError> {
    use walletrpc::{ChangeAddressType, fund_psbt_request::Template, psbt_coin_select::ChangeOutput};
    edge::account(&request.account)?;
    edge::refuse(
        "coin_selection_strategy",
        request.coin_selection_strategy != lnrpc::CoinSelectionStrategy::StrategyUseGlobalConfig as i32,
        "the wallet has one way to choose coins",
    )?;
    let fee = fee(request.fees.as_ref())?;
    let coins = edge::coins(request.min_confs, request.spend_unconfirmed, &[])?;
    let change = match ChangeAddressType::try_from(request.change_type) {
        Ok(ChangeAddressType::Unspecified) => AddressKind::SegwitV0,
        Ok(ChangeAddressType::P2tr) => AddressKind::Taproot,
        Err(_) => return Err(edge::wrong("change_type", format!("there is no change type {}", request.change_type))),
    };
    let lock_id = match request.custom_lock_id.as_slice() {
        [] => DEFAULT_LOCK_ID,
        id => id.try_into().map_err(|_| ApiError::invalid("custom lock ID must be exactly 32 bytes"))?,
    };
    let lock_time = match request.lock_expiration_seconds {
        0 => DEFAULT_LEASE,
        seconds => Duration::from_secs(seconds),
    };
    if lock_time > LONGEST_LEASE {
        let most = LONGEST_LEASE.as_secs();
        return Err(edge::wrong("lock_expiration_seconds", format!("{}; at most {most}, a year", lock_time.as_secs())));
    }
    let asked_ratio = match request.max_fee_ratio {
        0.0 => None,
        ratio if ratio > 0.0 && ratio.is_finite() => Some(ratio),
        ratio => return Err(edge::wrong("max_fee_ratio", format!("{ratio}; it is above 0, and 0.2 is a fifth"))),
    };
    const PARSE: &str = "could not parse PSBT";
    let (template, selection, max_fee_ratio) = match request.template {
        Some(Template::Psbt(bytes)) => (psbt(PARSE, &bytes)?, Selection::Whole, asked_ratio),
        Some(Template::Raw(raw)) => (raw_template(&raw, network)?, Selection::Whole, asked_ratio),
        Some(Template::CoinSelect(select)) => {
            let template = psbt(PARSE, &select.psbt)?;
            if template.unsigned_tx.output.is_empty() {
                return Err(ApiError::invalid("no outputs specified in template"));
            }
            let change = match select.change_output {
                Some(ChangeOutput::ExistingOutputIndex(index)) => {
                    let at = usize::try_from(index).ok().filter(|at| *at < template.unsigned_tx.output.len());
                    Some(at.ok_or_else(|| ApiError::invalid(format!("change output index out of range: {index}")))?)
                }
                Some(ChangeOutput::Add(true)) => None,
                Some(ChangeOutput::Add(false)) | None => {
                    return Err(ApiError::invalid("unknown change output type: give existing_output_index, or add"));
                }
            };
            (template, Selection::Added { change }, Some(asked_ratio.unwrap_or(DEFAULT_FEE_RATIO)))
        }
        None => {
            return Err(ApiError::invalid(
                "transaction template missing, need to specify either PSBT or raw TX template",
            ));
        }
    };
    Ok(FundPsbt {
        template,
        selection,
        fee,
        coins: crate::api::CoinChoice { reserve, ..coins },
        change,
        max_fee_ratio,
        lock_id,
        lock_time,
    })
}

fn fee(fees: Option<&walletrpc::fund_psbt_request::Fees>) -> Result<FeeChoice, ApiError> {
    use walletrpc::fund_psbt_request::Fees;
    let missing =
        || ApiError::invalid("fee definition missing, need to specify either target_conf, sat_per_vbyte or sat_per_kw");
    match *fees.ok_or_else(missing)? {
        Fees::TargetConf(blocks) => match u16::try_from(blocks) {
            Ok(0) => Err(missing()),
            Ok(blocks) => Ok(FeeChoice::ConfirmWithin(blocks)),
            Err(_) => Err(edge::wrong("target_conf", format!("{blocks} blocks; it lies between 1 and 65535"))),
        },
        Fees::SatPerVbyte(rate) => edge::fee_rate("sat_per_vbyte", rate)?.map(FeeChoice::Rate).ok_or_else(missing),
        Fees::SatPerKw(rate) => per_kw("sat_per_kw", rate)?.map(FeeChoice::Rate).ok_or_else(missing),
    }
}

/// `None` for 0.
pub(super) fn per_kw(field: &str, rate: u64) -> Result<Option<FeeRate>, ApiError> {
    if rate > HIGHEST_PER_KW {
        let text = format!("{rate} satoshi per 1000 weight units; at most {HIGHEST_PER_KW} is taken");
        return Err(edge::wrong(field, text));
    }
    Ok(Some(FeeRate::from_sat_per_kwu(rate)).filter(|rate| *rate > FeeRate::ZERO))
}

fn raw_template(raw: &walletrpc::TxTemplate, network: &NetworkInfo) -> Result<Psbt, ApiError> {
    if raw.outputs.is_empty() || raw.outputs.len() > MAX_OUTPUTS {
        let text = format!("{} addresses; between 1 and {MAX_OUTPUTS} are needed", raw.outputs.len());
        return Err(edge::wrong("outputs", text));
    }
    let mut outputs: Vec<(&String, &u64)> = raw.outputs.iter().collect();
    outputs.sort();
    let output = |(address, sat): (&String, &u64)| {
        let amount = i64::try_from(*sat).unwrap_or(i64::MAX);
        let value: Amount = edge::positive_amount("outputs", amount)?;
        Ok(TxOut { value, script_pubkey: edge::address("outputs", address, network)?.script_pubkey() })
    };
    let inputs = edge::coins(0, false, &raw.inputs)?.only;
    let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs
            .into_iter()
            .map(|previous_output| TxIn { previous_output, sequence, ..TxIn::default() })
            .collect(),
        output: outputs.into_iter().map(output).collect::<Result<_, ApiError>>()?,
    };
    Psbt::from_unsigned_tx(transaction).map_err(|error| ApiError::invalid(format!("could not create PSBT: {error}")))
}

pub(crate) fn funded(funded: &PsbtFunded) -> Result<walletrpc::FundPsbtResponse, ApiError> {
    let index = |at: usize| i32::try_from(at).map_err(|error| ApiError::internal(error.to_string()));
    Ok(walletrpc::FundPsbtResponse {
        funded_psbt: funded.psbt.serialize(),
        change_output_index: funded.change.map_or(Ok(-1), index)?,
        locked_utxos: funded.leases.iter().map(wallet_kit::utxo_lease).collect(),
    })
}

pub(crate) fn signed(psbt: &Psbt, inputs: &[usize]) -> walletrpc::SignPsbtResponse {
    walletrpc::SignPsbtResponse {
        signed_psbt: psbt.serialize(),
        signed_inputs: inputs.iter().filter_map(|at| u32::try_from(*at).ok()).collect(),
    }
}

pub(crate) fn finalized(psbt: &Psbt, transaction: &Transaction) -> walletrpc::FinalizePsbtResponse {
    let raw_final_tx = bitcoin::consensus::serialize(transaction);
    walletrpc::FinalizePsbtResponse { signed_psbt: psbt.serialize(), raw_final_tx }
}

pub(crate) fn wants_addresses(request: &walletrpc::ListAddressesRequest) -> Result<(), ApiError> {
    edge::account(&request.account_name)?;
    edge::refuse("show_custom_accounts", request.show_custom_accounts, "the node's own keys are no addresses")
}

pub(crate) fn account_addresses(account: &Account, addresses: &[WalletAddress]) -> walletrpc::AccountWithAddresses {
    let address = |one: &WalletAddress| walletrpc::AddressProperty {
        address: one.address.to_string(),
        is_internal: one.is_internal,
        balance: sat_signed(one.balance),
        derivation_path: one.path.clone(),
        public_key: one.public_key.serialize().to_vec(),
    };
    walletrpc::AccountWithAddresses {
        name: "default".to_owned(),
        address_type: wallet_kit::address_type(account.kind).into(),
        derivation_path: account.path.clone(),
        addresses: addresses.iter().map(address).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_psbt_is_told_so_and_what_is_wrong_in_one_is_named() {
        let told = |bytes: &[u8]| psbt("error parsing PSBT", bytes).unwrap_err().to_string();
        for bytes in [b"".as_slice(), b"xx", b"psbt"] {
            assert!(told(bytes).starts_with("error parsing PSBT: these are no PSBT"), "{}", told(bytes));
        }
        let cut = told(b"psbt\xff\x01\x00");
        assert!(cut.starts_with("error parsing PSBT: ") && !cut.contains("no PSBT"), "{cut}");
    }
}
