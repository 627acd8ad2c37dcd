//! Checks that many fields share. Each takes the field's name, so that the answer tells which one is wrong and what
//! it should be.

use std::{fmt::Display, str::FromStr};

use bitcoin::{
    Address, Amount, FeeRate, OutPoint, Transaction, Txid, address::NetworkUnchecked, consensus, hashes::Hash as _,
    secp256k1::PublicKey,
};
use leyden_channels::{
    types::{Msat, PaymentHash, ShortChannelId},
    wire::features::Feature,
};
use leyden_common::names::SPEND_RESERVE;
use leyden_node::{InclusionError, InclusionProof};
use leyden_proto::lnrpc;
use tonic::metadata::MetadataMap;

use crate::{
    api::{ApiError, CoinChoice, FeeChoice, NetworkInfo},
    wallet::reserve::Reserve,
};

type Checked<T> = Result<T, ApiError>;

/// The field is wrong: what it is, and what it should be.
pub(crate) fn wrong(field: &str, what: impl Display) -> ApiError {
    ApiError::invalid(format!("{field}: {what}"))
}

/// Refuses a feature of LND that is not served, whatever it is asked for with.
pub(crate) fn refuse(field: &str, asked: bool, what: &str) -> Checked<()> {
    if asked { Err(wrong(field, format_args!("{what}; leave it unset"))) } else { Ok(()) }
}

pub(crate) fn node_id(field: &str, bytes: &[u8]) -> Checked<PublicKey> {
    PublicKey::from_slice(bytes).map_err(|_| {
        wrong(
            field,
            format_args!("{} bytes that are no public key; it has 33 bytes and begins with 02 or 03", bytes.len()),
        )
    })
}

pub(crate) fn node_id_hex(field: &str, text: &str) -> Checked<PublicKey> {
    PublicKey::from_str(text).ok().filter(|_| text.len() == 66).ok_or_else(|| {
        wrong(field, format_args!("\"{text}\" is no public key; it has 66 hex digits and begins with 02 or 03"))
    })
}

/// What a recipient understands, by its bits of BOLT 9: whether it takes a payment in parts. `None`: nothing is said.
pub(crate) fn dest_features(field: &str, bits: &[i32]) -> Checked<Option<bool>> {
    for bit in bits {
        let number = usize::try_from(*bit).map_err(|_| wrong(field, format_args!("{bit} is no feature bit")))?;
        let is_understood =
            || Feature::ALL.into_iter().any(|known| known.required_bit() == number && known.is_understood());
        if number.is_multiple_of(2) && !is_understood() {
            let text = format_args!("the recipient requires feature {bit}, which this node does not understand");
            return Err(wrong(field, text));
        }
    }
    let in_parts = [lnrpc::FeatureBit::MppReq, lnrpc::FeatureBit::MppOpt];
    let takes_parts = bits.iter().any(|bit| in_parts.iter().any(|part| *part as i32 == *bit));
    Ok((!bits.is_empty()).then_some(takes_parts))
}

pub(crate) fn bytes32(field: &str, bytes: &[u8]) -> Checked<[u8; 32]> {
    bytes.try_into().map_err(|_| wrong(field, format_args!("{} bytes where 32 are needed", bytes.len())))
}

pub(crate) fn payment_hash(field: &str, bytes: &[u8]) -> Checked<PaymentHash> {
    Ok(PaymentHash(bytes32(field, bytes)?))
}

/// A transaction id as people write it.
pub(crate) fn txid(field: &str, text: &str) -> Checked<Txid> {
    Txid::from_str(text)
        .map_err(|_| wrong(field, format_args!("\"{text}\" is no transaction id; it has 64 hex digits")))
}

/// A transaction id in internal byte order.
pub(crate) fn txid_bytes(field: &str, bytes: &[u8]) -> Checked<Txid> {
    Ok(Txid::from_byte_array(bytes32(field, bytes)?))
}

pub(crate) fn outpoint(field: &str, outpoint: &lnrpc::OutPoint) -> Checked<OutPoint> {
    let txid = match (outpoint.txid_bytes.is_empty(), outpoint.txid_str.is_empty()) {
        (false, true) => txid_bytes(field, &outpoint.txid_bytes)?,
        (true, false) => txid(field, &outpoint.txid_str)?,
        (true, true) => return Err(wrong(field, "the transaction id is missing; give txid_bytes or txid_str")),
        // As our own lists give it, and a program gives it back.
        (false, false) => {
            let (of_bytes, of_text) = (txid_bytes(field, &outpoint.txid_bytes)?, txid(field, &outpoint.txid_str)?);
            if of_bytes != of_text {
                return Err(wrong(field, "txid_bytes and txid_str name two transactions"));
            }
            of_bytes
        }
    };
    Ok(OutPoint { txid, vout: outpoint.output_index })
}

/// An output as people write it: TXID:INDEX.
pub(crate) fn output(field: &str, text: &str) -> Checked<OutPoint> {
    OutPoint::from_str(text).map_err(|_| wrong(field, format_args!("\"{text}\" names no output; one is TXID:INDEX")))
}

/// A channel point as people write it: TXID:INDEX.
pub(crate) fn point(field: &str, text: &str) -> Checked<OutPoint> {
    OutPoint::from_str(text).map_err(|_| wrong(field, format_args!("\"{text}\" is no channel point; it is TXID:INDEX")))
}

pub(crate) fn channel_point(field: &str, point: Option<&lnrpc::ChannelPoint>) -> Checked<OutPoint> {
    use lnrpc::channel_point::FundingTxid;
    let missing = || wrong(field, "the channel's funding transaction id and output index are needed");
    let point = point.ok_or_else(missing)?;
    let txid = match point.funding_txid.as_ref().ok_or_else(missing)? {
        FundingTxid::FundingTxidBytes(bytes) => txid_bytes(field, bytes)?,
        FundingTxid::FundingTxidStr(text) => txid(field, text)?,
    };
    Ok(OutPoint { txid, vout: point.output_index })
}

pub(crate) fn transaction(field: &str, bytes: &[u8]) -> Checked<Transaction> {
    consensus::deserialize(bytes).map_err(|error| wrong(field, format_args!("not a serialised transaction: {error}")))
}

pub(crate) fn inclusion_proof(field: &str, text: &str) -> Checked<InclusionProof> {
    text.parse().map_err(|error: InclusionError| wrong(field, error))
}

/// An address of this network.
pub(crate) fn address(field: &str, text: &str, network: &NetworkInfo) -> Checked<Address> {
    let unchecked = Address::<NetworkUnchecked>::from_str(text)
        .map_err(|error| wrong(field, format_args!("\"{text}\" is no address: {error}")))?;
    unchecked
        .require_network(network.addresses)
        .map_err(|_| wrong(field, format_args!("{text} is an address of another network than {}", network.name)))
}

pub(crate) fn optional_address(field: &str, text: &str, network: &NetworkInfo) -> Checked<Option<Address>> {
    if text.is_empty() { Ok(None) } else { address(field, text, network).map(Some) }
}

/// An amount that may be zero.
pub(crate) fn amount(field: &str, sat: i64) -> Checked<Amount> {
    u64::try_from(sat)
        .ok()
        .map(Amount::from_sat)
        .filter(|amount| *amount <= Amount::MAX_MONEY)
        .ok_or_else(|| wrong(field, format_args!("{sat} satoshi is no amount; it lies between 0 and 21 million coins")))
}

/// An amount that may not be zero.
pub(crate) fn positive_amount(field: &str, sat: i64) -> Checked<Amount> {
    match amount(field, sat)? {
        Amount::ZERO => Err(wrong(field, "an amount above zero is needed")),
        amount => Ok(amount),
    }
}

/// An amount in millisatoshi that may be zero.
pub(crate) fn amount_msat(field: &str, msat: i64) -> Checked<Msat> {
    u64::try_from(msat).ok().map(Msat).filter(|amount| amount.floor_sat() <= Amount::MAX_MONEY).ok_or_else(|| {
        wrong(field, format_args!("{msat} millisatoshi is no amount; it lies between 0 and 21 million coins"))
    })
}

/// An amount that may be given in either unit; 0 where neither is.
pub(crate) fn either_amount(field: &str, sat: i64, msat: i64) -> Checked<Msat> {
    if sat != 0 && msat != 0 {
        return Err(wrong(field, format_args!("give {field} or {field}_msat, not both")));
    }
    if msat != 0 {
        return amount_msat(&format!("{field}_msat"), msat);
    }
    let amount = amount(field, sat)?;
    Msat::from_sat(amount).ok_or_else(|| wrong(field, "too large an amount"))
}

/// A limit on fees that may be given in either unit; `None` where neither is. Common clients mean no limit by one above all
/// the money that there can be.
pub(crate) fn fee_limit(field: &str, sat: i64, msat: i64) -> Checked<Option<Msat>> {
    let most = Amount::MAX_MONEY.to_sat();
    let limited = |given: i64, most: u64| if u64::try_from(given).is_ok_and(|given| given > most) { 0 } else { given };
    let (within_sat, within_msat) = (limited(sat, most), limited(msat, most * 1000));
    let limit = either_amount(field, within_sat, within_msat)?;
    // One of them beside a limit without meaning, such as clients send that give both, is the limit.
    let is_unlimited = (within_sat, within_msat) == (0, 0) && (sat, msat) != (0, 0);
    Ok(match is_unlimited {
        true => Some(Msat(most * 1000)),
        false => Some(limit).filter(|limit| *limit > Msat::ZERO),
    })
}

/// From -1 to 1, in hundredths.
pub(crate) fn time_pref(value: f64) -> Checked<i8> {
    if !value.is_finite() || !(-1.0..=1.0).contains(&value) {
        return Err(wrong("time_pref", format_args!("{value}; it lies between -1 and 1")));
    }
    Ok((value * 100.0).round() as i8)
}

/// The channels that a payment may leave by; `one` is the older field for a single one.
pub(crate) fn outgoing(one: u64, several: &[u64]) -> Checked<Vec<ShortChannelId>> {
    if one == 0 {
        return Ok(several.iter().copied().map(ShortChannelId).collect());
    }
    if several.is_empty() {
        return Ok(vec![ShortChannelId(one)]);
    }
    Err(wrong("outgoing_chan_id", "give it or outgoing_chan_ids, not both"))
}

/// How a transaction's fee is asked for in LND's requests.
#[derive(Clone, Copy)]
pub(crate) struct FeeFields {
    pub target_conf: i32,
    pub sat_per_vbyte: u64,
    /// The older name of `sat_per_vbyte`.
    pub sat_per_byte: i64,
}

pub(crate) fn fee(fields: FeeFields) -> Checked<FeeChoice> {
    let FeeFields { target_conf, sat_per_vbyte, sat_per_byte } = fields;
    let older = u64::try_from(sat_per_byte)
        .map_err(|_| wrong("sat_per_byte", format_args!("{sat_per_byte} is negative; leave it 0 for the default")))?;
    let given = [target_conf != 0, sat_per_vbyte != 0, older != 0].into_iter().filter(|given| *given).count();
    if given > 1 {
        return Err(wrong("sat_per_vbyte", "give a fee rate or target_conf, not both"));
    }
    if target_conf != 0 {
        let blocks = u16::try_from(target_conf)
            .map_err(|_| wrong("target_conf", format_args!("{target_conf} blocks; it lies between 1 and 65535")))?;
        return Ok(FeeChoice::ConfirmWithin(blocks));
    }
    Ok(fee_rate("sat_per_vbyte", sat_per_vbyte.max(older))?.map_or(FeeChoice::Default, FeeChoice::Rate))
}

/// A rate that stops a typing error from giving everything away; `None` for 0.
pub(crate) fn fee_rate(field: &str, sat_per_vbyte: u64) -> Checked<Option<FeeRate>> {
    const HIGHEST: u64 = 100_000;
    if sat_per_vbyte > HIGHEST {
        return Err(wrong(field, format_args!("{sat_per_vbyte} satoshi per virtual byte; at most {HIGHEST} is taken")));
    }
    Ok(FeeRate::from_sat_per_vb(sat_per_vbyte).filter(|rate| *rate > FeeRate::ZERO))
}

/// Which coins may be spent, as LND's requests say it.
pub(crate) fn coins(min_confs: i32, spend_unconfirmed: bool, outpoints: &[lnrpc::OutPoint]) -> Checked<CoinChoice> {
    let asked = u32::try_from(min_confs)
        .map_err(|_| wrong("min_confs", format_args!("{min_confs} is negative; 0 means 1 confirmation")))?;
    if spend_unconfirmed && asked > 0 {
        return Err(wrong("min_confs", "spend_unconfirmed asks for the contrary; give one of the two"));
    }
    let min_confirmations = if spend_unconfirmed { 0 } else { asked.max(1) };
    let mut only = Vec::with_capacity(outpoints.len());
    for given in outpoints {
        let coin = outpoint("outpoints", given)?;
        if only.contains(&coin) {
            return Err(wrong("outpoints", format_args!("{coin} is named twice")));
        }
        only.push(coin);
    }
    Ok(CoinChoice { min_confirmations, only, reserve: Reserve::Keep })
}

/// Whether the caller insists on spending what is kept back for claims. LND has no field for it, so it is a header.
pub(crate) fn reserve(metadata: &MetadataMap) -> Checked<Reserve> {
    Ok(if flag(metadata, SPEND_RESERVE)? { Reserve::Spend } else { Reserve::Keep })
}

/// A header that is true or false; false without it.
pub(crate) fn flag(metadata: &MetadataMap, key: &'static str) -> Checked<bool> {
    match metadata.get(key).map(|value| value.to_str().unwrap_or_default()) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(wrong(key, format_args!("\"{other}\" is neither true nor false"))),
    }
}

/// There is one account.
pub(crate) fn account(name: &str) -> Checked<()> {
    match name {
        "" | "default" => Ok(()),
        other => Err(wrong("account", format_args!("there is no account \"{other}\"; the only one is \"default\""))),
    }
}

/// host:port, the host being a name, an IPv4 address or an IPv6 address in brackets.
pub(crate) fn host_and_port(field: &str, text: &str) -> Checked<()> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && !bare_v6 && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|p| p != 0)
    });
    if valid { Ok(()) } else { Err(wrong(field, format_args!("\"{text}\" is not host:port, such as 127.0.0.1:9735"))) }
}

/// A number that must fit into fewer bits; `None` for 0, which leaves the choice to the daemon.
pub(crate) fn optional_u16(field: &str, value: impl TryInto<u16> + Copy + Display) -> Checked<Option<u16>> {
    match value.try_into() {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(wrong(field, format_args!("{value} is too large or negative; it lies between 0 and 65535"))),
    }
}

/// A text of at most `limit` bytes.
pub(crate) fn text(field: &str, text: String, limit: usize) -> Checked<String> {
    if text.len() > limit {
        return Err(wrong(field, format_args!("{} bytes; at most {limit} are kept", text.len())));
    }
    Ok(text)
}
