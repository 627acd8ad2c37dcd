//! What the text of an invoice says.
//!
//! The library splits the text into fields. Which of them there must be, and whose signature it is, is judged here: the
//! library recovers the payee's key with a new signature context each time it is asked, and a busy payer asks often.

use bitcoin::hashes::Hash as _;
use bitcoin::{PubkeyHash, Script, ScriptBuf, ScriptHash, WitnessProgram, WitnessVersion};
use lightning_invoice::{
    Bolt11ParseError, Fallback, RawBolt11Invoice, RouteHintHop, SignedRawBolt11Invoice, TaggedField,
};
use secp256k1::{Message, PublicKey};

use super::{
    DEFAULT_EXPIRY_SECONDS, DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA, Description, HintHop, Invoice, InvoiceError,
    InvoiceNetwork,
};
use crate::keys::curve;
use crate::types::{Msat, PaymentHash, PaymentSecret, ShortChannelId, UnixTime};
use crate::wire::{Feature, Features};

/// The human-readable part counts in 10⁻¹² of a bitcoin.
const PICO_PER_MSAT: u64 = 10;

impl Invoice {
    /// Reads an invoice for whatever network.
    pub fn parse_any(text: &str) -> Result<Self, InvoiceError> {
        let parse = |text: &str| text.parse::<SignedRawBolt11Invoice>();
        let signed =
            parse(text.trim()).map_err(|error: Bolt11ParseError| InvoiceError::Malformed(error.to_string()))?;
        let raw = signed.raw_invoice();
        let payment_hash = only(raw, "a payment hash", |field| match field {
            TaggedField::PaymentHash(hash) => Some(PaymentHash(hash.0.to_byte_array())),
            _ => None,
        })?;
        let description = only(raw, "a description", |field| match field {
            TaggedField::Description(text) => Some(Description::Text(text.as_inner().0.clone())),
            TaggedField::DescriptionHash(hash) => Some(Description::Hash(hash.0.to_byte_array())),
            _ => None,
        })?;
        let payment_secret = only(raw, "a payment secret", |field| match field {
            TaggedField::PaymentSecret(secret) => Some(PaymentSecret(secret.0)),
            _ => None,
        })?;
        let features = raw.features().map_or_else(Features::empty, |features| {
            let bytes: Vec<u8> = features.le_flags().iter().rev().copied().collect();
            Features::from_be_bytes(&bytes)
        });
        if !features.supports(Feature::PaymentSecret) {
            return Err(InvoiceError::NoPaymentSecret);
        }
        features.check_required()?;
        let amount = match raw.amount_pico_btc() {
            Some(pico) if pico % PICO_PER_MSAT != 0 => return Err(InvoiceError::ImpreciseAmount),
            pico => pico.map(|pico| Msat(pico / PICO_PER_MSAT)),
        };
        let delta = raw.min_final_cltv_expiry_delta().map(|delta| u32::try_from(delta.0).unwrap_or(u32::MAX));
        let hints = raw.private_routes().into_iter().map(|route| route.clone().into_inner().0);
        Ok(Self {
            network: InvoiceNetwork::from_currency(&raw.currency()),
            payee: payee(&signed)?,
            payment_hash,
            payment_secret,
            amount,
            timestamp: UnixTime(raw.data.timestamp.as_unix_timestamp()),
            expiry_seconds: raw.expiry_time().map_or(DEFAULT_EXPIRY_SECONDS, |expiry| expiry.as_seconds()),
            description,
            min_final_cltv_expiry_delta: delta.unwrap_or(DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA),
            features,
            payment_metadata: raw.payment_metadata().cloned(),
            route_hints: hints.map(|hops| hops.iter().map(HintHop::from_library).collect()).collect(),
            fallbacks: raw.fallbacks().into_iter().filter_map(fallback_script).collect(),
        })
    }
}

/// The value of a field that must be there exactly once (BOLT 11, Tagged Fields).
fn only<T>(
    raw: &RawBolt11Invoice,
    what: &'static str,
    read: impl Fn(&TaggedField) -> Option<T>,
) -> Result<T, InvoiceError> {
    let mut values = raw.known_tagged_fields().filter_map(read);
    let first = values.next().ok_or(InvoiceError::FieldCount { what, count: 0 })?;
    match values.count() {
        0 => Ok(first),
        more => Err(InvoiceError::FieldCount { what, count: more + 1 }),
    }
}

/// Whose signature it is. BOLT 11: where the payee names its key, the signature must be the canonical one of the two.
fn payee(signed: &SignedRawBolt11Invoice) -> Result<PublicKey, InvoiceError> {
    let digest = Message::from_digest(*signed.signable_hash());
    let signature = &signed.signature().0;
    let Some(payee) = signed.raw_invoice().payee_pub_key() else {
        return curve::recover(&digest, signature).map_err(|_| InvoiceError::BadSignature);
    };
    let given = signature.to_standard();
    let mut canonical = given;
    canonical.normalize_s();
    if given != canonical {
        return Err(InvoiceError::NonCanonicalSignature);
    }
    curve::verify(&digest, &given, &payee.0).then_some(payee.0).ok_or(InvoiceError::BadSignature)
}

fn fallback_script(fallback: &Fallback) -> Option<ScriptBuf> {
    match fallback {
        Fallback::SegWitProgram { version, program } => {
            WitnessProgram::new(*version, program).ok().map(|program| ScriptBuf::new_witness_program(&program))
        }
        Fallback::PubKeyHash(hash) => Some(ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash.to_byte_array()))),
        Fallback::ScriptHash(hash) => Some(ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(hash.to_byte_array()))),
    }
}

/// How an invoice says a script (BOLT 11, Tagged Fields, `f`); `None`: it cannot.
pub(super) fn fallback(script: &Script) -> Option<Fallback> {
    let bytes = script.as_bytes();
    if let Some(version) = script.witness_version() {
        return Some(Fallback::SegWitProgram { version, program: bytes.get(2..)?.to_vec() });
    }
    // Behind DUP HASH160 and a push; behind HASH160 and a push.
    let hash = |at: usize| bytes.get(at..)?.first_chunk().copied();
    if script.is_p2pkh() {
        Some(Fallback::PubKeyHash(PubkeyHash::from_byte_array(hash(3)?)))
    } else if script.is_p2sh() {
        Some(Fallback::ScriptHash(ScriptHash::from_byte_array(hash(2)?)))
    } else {
        None
    }
}

/// The script of a field `f`: its version, and the rest of it.
pub(super) fn script_of(version: u8, data: &[u8]) -> Option<ScriptBuf> {
    match (version, data.first_chunk(), data.len()) {
        (17, Some(hash), 20) => Some(ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(*hash))),
        (18, Some(hash), 20) => Some(ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(*hash))),
        (version, ..) => {
            let program = WitnessProgram::new(WitnessVersion::try_from(version).ok()?, data).ok()?;
            Some(ScriptBuf::new_witness_program(&program))
        }
    }
}

impl HintHop {
    fn from_library(hop: &RouteHintHop) -> Self {
        Self {
            node_id: hop.src_node_id,
            short_channel_id: ShortChannelId(hop.short_channel_id),
            fee_base_msat: hop.fees.base_msat,
            fee_proportional_millionths: hop.fees.proportional_millionths,
            cltv_expiry_delta: hop.cltv_expiry_delta,
        }
    }
}
