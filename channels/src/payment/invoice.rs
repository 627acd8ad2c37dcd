//! BOLT 11 invoices in our own types; the format itself is `lightning-invoice`'s.
//!
//! ```text
//!   InvoiceRequest ── sign ──► "lnbcrt…" ── Invoice::parse ──► Invoice
//! ```
//!
//! The prefix names the network. BOLT 11 and the library know five; `leyden` and private chains have none of their
//! own and use `lnsb`, the prefix of btcd's simnet, which no public network answers to. Two private chains share it
//! therefore: what keeps a payment on its chain are its channels, not its invoice.

mod own;
mod read;

use std::fmt;
use std::time::Duration;

use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash as _, sha256};
use lightning_invoice::{
    Bolt11InvoiceDescription, Currency, InvoiceBuilder, RouteHint, RouteHintHop, RoutingFees, Sha256,
};
use secp256k1::{PublicKey, SecretKey};

use crate::keys::curve;
use crate::routing::HintHop;
use crate::types::{CltvExpiry, Height, Msat, PaymentHash, PaymentSecret, UnixTime};
use crate::wire::{FeatureError, Features};

pub use own::OwnFields;

/// BOLT 11's default of `min_final_cltv_expiry_delta`, in blocks.
pub const DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA: u32 = 18;
/// BOLT 11's default of `expiry`, in seconds.
pub const DEFAULT_EXPIRY_SECONDS: u64 = 3600;

/// The network that an invoice is for, as far as its prefix tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvoiceNetwork {
    /// `lnbcrt`
    Regtest,
    /// `lnsb`: the `leyden` network and private chains.
    Leyden,
    /// `lnbc`
    Mainnet,
    /// `lntb`
    Testnet,
    /// `lntbs`
    Signet,
}

impl InvoiceNetwork {
    /// What its invoices begin with (BOLT 11, Human-Readable Part).
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Regtest => "lnbcrt",
            Self::Leyden => "lnsb",
            Self::Mainnet => "lnbc",
            Self::Testnet => "lntb",
            Self::Signet => "lntbs",
        }
    }

    /// Whose invoices begin so.
    pub fn of_prefix(prefix: &str) -> Option<Self> {
        let all = [Self::Regtest, Self::Leyden, Self::Mainnet, Self::Testnet, Self::Signet];
        all.into_iter().find(|network| network.prefix() == prefix)
    }

    const fn currency(self) -> Currency {
        match self {
            Self::Regtest => Currency::Regtest,
            Self::Leyden => Currency::Simnet,
            Self::Mainnet => Currency::Bitcoin,
            Self::Testnet => Currency::BitcoinTestnet,
            Self::Signet => Currency::Signet,
        }
    }

    const fn from_currency(currency: &Currency) -> Self {
        match currency {
            Currency::Regtest => Self::Regtest,
            Currency::Simnet => Self::Leyden,
            Currency::Bitcoin => Self::Mainnet,
            Currency::BitcoinTestnet => Self::Testnet,
            Currency::Signet => Self::Signet,
        }
    }
}

impl fmt::Display for InvoiceNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

/// Why there is no invoice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum InvoiceError {
    #[error("this is not a BOLT 11 invoice: {0}")]
    Malformed(String),
    #[error("the invoice starts with {got}, and this node is on a network whose invoices start with {expected}")]
    WrongNetwork { expected: InvoiceNetwork, got: InvoiceNetwork },
    #[error("the invoice cannot be paid by this node: {0}")]
    Features(#[from] FeatureError),
    #[error("this is not a BOLT 11 invoice: it has {count} fields for {what}, not one")]
    FieldCount { what: &'static str, count: usize },
    #[error("the invoice's amount is not a whole number of millisatoshi")]
    ImpreciseAmount,
    #[error("the invoice's signature is wrong: it was altered or miscopied")]
    BadSignature,
    #[error("the invoice does not demand its payment secret: ask the recipient for one of a newer kind")]
    NoPaymentSecret,
    #[error("the invoice's signature is not in its canonical form")]
    NonCanonicalSignature,
    #[error("a description has at most {MAX_DESCRIPTION_LEN} bytes, not {0}; use a description hash")]
    DescriptionTooLong(usize),
    #[error("a route hint has 1 to {MAX_HINT_HOPS} hops, not {0}")]
    HintLength(usize),
    #[error("an invoice's fallback is an address that has a witness program, a public key's hash or a script's hash")]
    Fallback,
    #[error("the invoice cannot be made: {0}")]
    Creation(String),
}

/// The longest text that a tagged field holds.
pub const MAX_DESCRIPTION_LEN: usize = 639;
/// The most hops that a tagged field holds.
pub const MAX_HINT_HOPS: usize = 12;

/// What a payment is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Description {
    /// The words themselves.
    Text(String),
    /// The SHA-256 of a text that is known otherwise.
    Hash([u8; 32]),
}

/// An invoice that has been read and whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// The network on which it can be paid.
    pub network: InvoiceNetwork,
    /// Who is paid: the key that signed it.
    pub payee: PublicKey,
    /// The hash that payments of it carry.
    pub payment_hash: PaymentHash,
    /// What the payee asks to be shown.
    pub payment_secret: PaymentSecret,
    /// `None`: the payer chooses.
    pub amount: Option<Msat>,
    /// When it was made.
    pub timestamp: UnixTime,
    /// Seconds after which it is not paid any more.
    pub expiry_seconds: u64,
    /// What it is for.
    pub description: Description,
    /// Blocks that the last HTLC must have left when it arrives.
    pub min_final_cltv_expiry_delta: u32,
    /// What the payee supports or asks for.
    pub features: Features,
    /// What the payee asks the payer to repeat.
    pub payment_metadata: Option<Vec<u8>>,
    /// Each a route to the payee, in the direction of the payment.
    pub route_hints: Vec<Vec<HintHop>>,
    /// On-chain outputs that the payee takes as well, in order of preference.
    pub fallbacks: Vec<ScriptBuf>,
}

impl Invoice {
    /// Reads an invoice that must be for `network`.
    pub fn parse(text: &str, network: InvoiceNetwork) -> Result<Self, InvoiceError> {
        let invoice = Self::parse_any(text)?;
        if invoice.network != network {
            return Err(InvoiceError::WrongNetwork { expected: network, got: invoice.network });
        }
        Ok(invoice)
    }

    /// When the invoice is no longer to be paid.
    pub fn expires_at(&self) -> UnixTime {
        UnixTime(self.timestamp.0.saturating_add(self.expiry_seconds))
    }

    /// Whether it can no longer be paid.
    pub fn is_expired(&self, now: UnixTime) -> bool {
        now > self.expires_at()
    }

    /// The least expiry that the last HTLC may have when the tip is at `height`.
    pub fn final_cltv_expiry(&self, height: Height) -> CltvExpiry {
        CltvExpiry(height.0.saturating_add(self.min_final_cltv_expiry_delta))
    }
}

impl HintHop {
    fn to_library(self) -> RouteHintHop {
        RouteHintHop {
            src_node_id: self.node_id,
            short_channel_id: self.short_channel_id.0,
            fees: RoutingFees {
                base_msat: self.fee_base_msat,
                proportional_millionths: self.fee_proportional_millionths,
            },
            cltv_expiry_delta: self.cltv_expiry_delta,
            htlc_minimum_msat: None,
            htlc_maximum_msat: None,
        }
    }
}

/// What an invoice is made of. Its features are [`Features::invoice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRequest {
    /// The network on which it can be paid.
    pub network: InvoiceNetwork,
    /// The hash that payments of it carry.
    pub payment_hash: PaymentHash,
    /// What only the invoice tells.
    pub payment_secret: PaymentSecret,
    /// `None`: the payer chooses.
    pub amount: Option<Msat>,
    /// When it is made.
    pub timestamp: UnixTime,
    /// Seconds after which it is not paid any more.
    pub expiry_seconds: u64,
    /// What it is for.
    pub description: Description,
    /// Blocks that must be left when a payment arrives.
    pub min_final_cltv_expiry_delta: u32,
    /// Routes to us over channels that the graph does not know.
    pub route_hints: Vec<Vec<HintHop>>,
    /// An on-chain output for payers that find no route.
    pub fallback: Option<ScriptBuf>,
}

impl InvoiceRequest {
    /// The invoice as text, signed with the node's key. The payee's key is not written down: it is recovered from
    /// the signature.
    pub fn sign(&self, node_secret: &SecretKey) -> Result<String, InvoiceError> {
        let description = match &self.description {
            Description::Text(text) => {
                let description = lightning_invoice::Description::new(text.clone())
                    .map_err(|_| InvoiceError::DescriptionTooLong(text.len()))?;
                Bolt11InvoiceDescription::Direct(description)
            }
            Description::Hash(hash) => Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(*hash))),
        };
        let mut builder = InvoiceBuilder::new(self.network.currency())
            .invoice_description(description)
            .payment_hash(sha256::Hash::from_byte_array(self.payment_hash.0))
            .payment_secret(lightning_invoice::PaymentSecret(self.payment_secret.0))
            .duration_since_epoch(Duration::from_secs(self.timestamp.0))
            .min_final_cltv_expiry_delta(u64::from(self.min_final_cltv_expiry_delta))
            .expiry_time(Duration::from_secs(self.expiry_seconds))
            .basic_mpp();
        if let Some(amount) = self.amount {
            builder = builder.amount_milli_satoshis(amount.0);
        }
        for hint in &self.route_hints {
            if hint.is_empty() || hint.len() > MAX_HINT_HOPS {
                return Err(InvoiceError::HintLength(hint.len()));
            }
            builder = builder.private_route(RouteHint(hint.iter().map(|hop| hop.to_library()).collect()));
        }
        if let Some(script) = &self.fallback {
            builder = builder.fallback(read::fallback(script).ok_or(InvoiceError::Fallback)?);
        }
        builder
            .build_signed(|digest| curve::sign_recoverable(digest, node_secret))
            .map(|invoice| invoice.to_string())
            .map_err(|error| InvoiceError::Creation(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use crate::types::ShortChannelId;
    use proptest::prelude::*;

    use super::*;
    use crate::vectors;
    use crate::wire::Feature;

    fn secret() -> SecretKey {
        SecretKey::from_slice(&[7; 32]).unwrap()
    }

    fn request() -> InvoiceRequest {
        let hop = HintHop {
            node_id: curve::public_key(&secret()),
            short_channel_id: ShortChannelId(0x0102_0304_0506_0708),
            fee_base_msat: 1,
            fee_proportional_millionths: 20,
            cltv_expiry_delta: 144,
        };
        InvoiceRequest {
            network: InvoiceNetwork::Regtest,
            payment_hash: PaymentHash([1; 32]),
            payment_secret: PaymentSecret([2; 32]),
            amount: Some(Msat(123_456)),
            timestamp: UnixTime(1_700_000_000),
            expiry_seconds: 600,
            description: Description::Text("a jar of coffee".to_owned()),
            min_final_cltv_expiry_delta: 80,
            route_hints: vec![vec![hop, hop], vec![hop]],
            fallback: None,
        }
    }

    #[test]
    fn an_invoice_says_what_it_was_asked_to_say() {
        let request = request();
        let text = request.sign(&secret()).unwrap();
        assert!(text.starts_with("lnbcrt"), "{text}");
        let invoice = Invoice::parse(&text, InvoiceNetwork::Regtest).unwrap();
        let expected = Invoice {
            network: request.network,
            payee: curve::public_key(&secret()),
            payment_hash: request.payment_hash,
            payment_secret: request.payment_secret,
            amount: request.amount,
            timestamp: request.timestamp,
            expiry_seconds: request.expiry_seconds,
            description: request.description,
            min_final_cltv_expiry_delta: request.min_final_cltv_expiry_delta,
            features: Features::invoice(),
            payment_metadata: None,
            route_hints: request.route_hints,
            fallbacks: Vec::new(),
        };
        assert_eq!(invoice, expected);
        assert!(!invoice.is_expired(UnixTime(1_700_000_600)));
        assert!(invoice.is_expired(UnixTime(1_700_000_601)));
        assert_eq!(invoice.final_cltv_expiry(Height(100)), CltvExpiry(180));
    }

    #[test]
    fn every_network_has_a_prefix_and_is_told_apart() {
        use InvoiceNetwork::{Leyden, Mainnet, Regtest, Signet, Testnet};
        for network in [Regtest, Leyden, Mainnet, Testnet, Signet] {
            let text = InvoiceRequest { network, amount: None, ..request() }.sign(&secret()).unwrap();
            assert!(text.starts_with(&format!("{}1", network.prefix())), "{text}");
            assert_eq!(Invoice::parse(&text, network).unwrap().amount, None);
            let other = if network == Regtest { Mainnet } else { Regtest };
            let error = Invoice::parse(&text, other);
            assert_eq!(error, Err(InvoiceError::WrongNetwork { expected: other, got: network }));
        }
    }

    /// One of each kind that the `f` field has.
    fn fallbacks() -> Vec<ScriptBuf> {
        let program = |version, length| {
            let version = bitcoin::WitnessVersion::try_from(version).unwrap();
            ScriptBuf::new_witness_program(&bitcoin::WitnessProgram::new(version, &vec![9; length]).unwrap())
        };
        let hash = bitcoin::hashes::hash160::Hash::from_byte_array([8; 20]);
        vec![
            program(0, 20),
            program(0, 32),
            program(1, 32),
            program(16, 2),
            ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_raw_hash(hash)),
            ScriptBuf::new_p2sh(&bitcoin::ScriptHash::from_raw_hash(hash)),
        ]
    }

    #[test]
    fn a_fallback_is_what_the_payer_reads() {
        for script in fallbacks() {
            let text = InvoiceRequest { fallback: Some(script.clone()), ..request() }.sign(&secret()).unwrap();
            assert_eq!(
                Invoice::parse(&text, InvoiceNetwork::Regtest).unwrap().fallbacks,
                std::slice::from_ref(&script)
            );
            assert_eq!(OwnFields::of(&text).fallback, Some(script));
        }
    }

    #[test]
    fn what_an_invoice_cannot_hold_is_refused() {
        for script in [ScriptBuf::new(), ScriptBuf::new_op_return([1])] {
            let strange = InvoiceRequest { fallback: Some(script), ..request() };
            assert_eq!(strange.sign(&secret()), Err(InvoiceError::Fallback));
        }
        let long = InvoiceRequest { description: Description::Text("x".repeat(640)), ..request() };
        assert_eq!(long.sign(&secret()), Err(InvoiceError::DescriptionTooLong(640)));
        let hint = vec![request().route_hints[0][0]; 13];
        let hints = InvoiceRequest { route_hints: vec![hint], ..request() };
        assert_eq!(hints.sign(&secret()), Err(InvoiceError::HintLength(13)));
        let old = InvoiceRequest { timestamp: UnixTime(u64::MAX), ..request() };
        assert!(matches!(old.sign(&secret()), Err(InvoiceError::Creation(_))));
    }

    #[test]
    fn invoice_vectors() {
        let Some(vectors) = vectors::json("lightning/bolt11/invoices.json") else { return };
        let key = hex::decode(vectors["signing_privkey"].as_str().unwrap()).unwrap();
        let payee = curve::public_key(&SecretKey::from_slice(&key).unwrap());
        let mut valid = 0;
        for case in vectors["valid"].as_array().unwrap() {
            let text = case["invoice"].as_str().unwrap();
            let invoice = Invoice::parse_any(text).unwrap_or_else(|error| panic!("{case}: {error}"));
            let title = case["title"].as_str().unwrap();
            // The last vector's point is that another key is recovered from a high-S signature.
            if !title.contains("high-S") && !title.contains("list of items within one week") {
                assert_eq!(invoice.payee, payee, "{title}");
            }
            let amount = match text.to_lowercase() {
                text if text.contains("2500u1") => Some(Msat(250_000_000)),
                text if text.contains("20m1") => Some(Msat(2_000_000_000)),
                text if text.contains("25m1") => Some(Msat(2_500_000_000)),
                text if text.contains("10m1") => Some(Msat(1_000_000_000)),
                text if text.contains("9678785340p1") => Some(Msat(967_878_534)),
                _ => None,
            };
            assert_eq!(invoice.amount, amount, "{title}");
            if title.contains("fallback") {
                assert_eq!(invoice.fallbacks.len(), 1, "{title}");
            }
            if title.contains("extra routing info") {
                assert_eq!(invoice.route_hints.iter().map(Vec::len).collect::<Vec<_>>(), [2], "{title}");
            }
            if title.contains("payment metadata") {
                assert_eq!(invoice.payment_metadata, Some(vec![0x01, 0xfa, 0xfa, 0xf0]));
                assert!(invoice.features.requires(Feature::PaymentMetadata));
            }
            valid += 1;
        }
        vectors::ran("bolt11/invoices.json, valid", valid, 16);
        let mut invalid = 0;
        for case in vectors["invalid"].as_array().unwrap() {
            let read = Invoice::parse_any(case["invoice"].as_str().unwrap());
            assert!(read.is_err(), "{case}: {read:?}");
            invalid += 1;
        }
        vectors::ran("bolt11/invoices.json, invalid", invalid, 10);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, at in 0usize..200, byte in 0u8..128) {
            let _ = Invoice::parse_any(&text);
            let mut altered = request().sign(&secret()).unwrap().into_bytes();
            let len = altered.len();
            altered[at % len] = byte;
            let _ = Invoice::parse_any(&String::from_utf8(altered).unwrap());
        }
    }
}
