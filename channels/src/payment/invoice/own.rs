//! What one of our own invoices says beside its record.
//!
//! A list of invoices shows fields that stand in the text alone. The text is what this node signed itself, so neither its checksum nor
//! its signature has anything to tell: the fields are split from the letters, which costs a hundredth of reading a stranger's
//! invoice. Whatever does not read is left out.

use bitcoin::ScriptBuf;
use secp256k1::PublicKey;

use super::read::script_of;
use crate::routing::HintHop;
use crate::types::ShortChannelId;
use crate::wire::Features;

/// BOLT 11 writes five bits a letter, as BIP 173 does.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Letters of the time, before the tagged fields.
const TIMESTAMP: usize = 7;
/// Letters of the signature and of the checksum, after the tagged fields.
const SIGNATURE: usize = 104;
const CHECKSUM: usize = 6;
/// A hop of a route hint: key, channel, base fee, proportional fee, expiry delta.
const HOP: usize = 33 + 8 + 4 + 4 + 2;

/// The fields of an own invoice that its record has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnFields {
    /// The `h` field: what it is for, hashed.
    pub description_hash: Option<[u8; 32]>,
    /// The `9` field.
    pub features: Features,
    /// The `r` fields, each a route to us.
    pub route_hints: Vec<Vec<HintHop>>,
    /// The first `f` field: an on-chain output for payers that find no route.
    pub fallback: Option<ScriptBuf>,
}

impl OwnFields {
    /// Splits the text of an invoice that this node has signed.
    pub fn of(text: &str) -> Self {
        let mut fields = Self::default();
        let letters = text.rsplit_once('1').map(|(_, data)| data.as_bytes()).unwrap_or_default();
        let values: Vec<u8> = letters.iter().map_while(value).collect();
        let end = values.len().saturating_sub(SIGNATURE + CHECKSUM);
        let mut rest = values.get(TIMESTAMP..end).unwrap_or_default();
        while let [tag, high, low, data @ ..] = rest {
            let length = usize::from(*high) << 5 | usize::from(*low);
            let Some((field, next)) = data.split_at_checked(length) else { break };
            rest = next;
            match LETTERS.get(usize::from(*tag)) {
                Some(b'h') => fields.description_hash = bytes(field).try_into().ok(),
                Some(b'9') => fields.features = Features::from_be_bytes(&right_aligned(field)),
                Some(b'f') if fields.fallback.is_none() => {
                    let fallback = field.split_first();
                    fields.fallback = fallback.and_then(|(version, program)| script_of(*version, &bytes(program)));
                }
                Some(b'r') => fields.route_hints.push(bytes(field).chunks_exact(HOP).filter_map(hop).collect()),
                Some(_) | None => {}
            }
        }
        fields
    }
}

fn value(letter: &u8) -> Option<u8> {
    let letter = letter.to_ascii_lowercase();
    LETTERS.iter().position(|known| *known == letter).and_then(|value| u8::try_from(value).ok())
}

/// The bits from the left; those that fill no byte are padding.
fn bytes(values: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 5 / 8);
    let (mut bits, mut count) = (0_u16, 0_u32);
    for value in values {
        bits = bits << 5 | u16::from(*value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.extend((bits >> count).to_be_bytes().last());
            bits &= (1 << count) - 1;
        }
    }
    bytes
}

/// The bits from the right, as features count them.
fn right_aligned(values: &[u8]) -> Vec<u8> {
    // Letters before them that make whole bytes: their zeros lead.
    let lead = (8 - values.len() % 8) % 8;
    bytes(&[vec![0; lead].as_slice(), values].concat())
}

fn hop(bytes: &[u8]) -> Option<HintHop> {
    let (key, rest) = bytes.split_first_chunk::<33>()?;
    let (channel, rest) = rest.split_first_chunk()?;
    let (base, rest) = rest.split_first_chunk()?;
    let (proportional, rest) = rest.split_first_chunk()?;
    let (delta, _) = rest.split_first_chunk()?;
    Some(HintHop {
        node_id: PublicKey::from_slice(key).ok()?,
        short_channel_id: ShortChannelId(u64::from_be_bytes(*channel)),
        fee_base_msat: u32::from_be_bytes(*base),
        fee_proportional_millionths: u32::from_be_bytes(*proportional),
        cltv_expiry_delta: u16::from_be_bytes(*delta),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secp256k1::SecretKey;

    use super::*;
    use crate::keys::curve;
    use crate::payment::{Description, Invoice, InvoiceNetwork, InvoiceRequest};
    use crate::types::{Msat, PaymentHash, PaymentSecret, UnixTime};
    use crate::vectors;

    fn of_parsed(invoice: &Invoice) -> OwnFields {
        OwnFields {
            description_hash: match invoice.description {
                Description::Hash(hash) => Some(hash),
                Description::Text(_) => None,
            },
            features: invoice.features.clone(),
            route_hints: invoice.route_hints.clone(),
            fallback: invoice.fallbacks.first().cloned(),
        }
    }

    #[test]
    fn an_own_invoice_is_split_as_a_strangers_is_read() {
        let Some(vectors) = vectors::json("lightning/bolt11/invoices.json") else { return };
        let mut count = 0;
        for case in vectors["valid"].as_array().unwrap() {
            let text = case["invoice"].as_str().unwrap();
            let read = OwnFields::of(text);
            let parsed = of_parsed(&Invoice::parse_any(text).unwrap());
            assert_eq!(read.description_hash, parsed.description_hash, "{text}");
            assert_eq!(read.route_hints, parsed.route_hints, "{text}");
            assert_eq!(read.fallback, parsed.fallback, "{text}");
            assert!(read.features.bits().eq(parsed.features.bits()), "{text}");
            count += 1;
        }
        vectors::ran("bolt11/invoices.json, split", count, 16);
    }

    proptest! {
        #[test]
        fn whatever_was_signed_is_shown(
            hashed: Option<[u8; 32]>,
            memo in "[ -~]{0,200}",
            hints in prop::collection::vec(prop::collection::vec((1_u8..255, any::<u64>(), any::<u32>(), any::<u32>(), any::<u16>()), 1..4), 0..4),
            amount in prop::option::of(1_u64..1_000_000_000),
            fallback in prop::option::of((1_u8..=16, prop::collection::vec(any::<u8>(), 2..=40))),
        ) {
            let key = SecretKey::from_slice(&[7; 32]).unwrap();
            let hop = |(node, id, base, ppm, delta): &(u8, u64, u32, u32, u16)| HintHop {
                node_id: curve::public_key(&SecretKey::from_slice(&[*node; 32]).unwrap()),
                short_channel_id: ShortChannelId(*id),
                fee_base_msat: *base,
                fee_proportional_millionths: *ppm,
                cltv_expiry_delta: *delta,
            };
            let text = InvoiceRequest {
                network: InvoiceNetwork::Regtest,
                payment_hash: PaymentHash([1; 32]),
                payment_secret: PaymentSecret([2; 32]),
                amount: amount.map(Msat),
                description: hashed.map_or(Description::Text(memo), Description::Hash),
                timestamp: UnixTime(1_700_000_000),
                expiry_seconds: 600,
                min_final_cltv_expiry_delta: 80,
                route_hints: hints.iter().map(|hops| hops.iter().map(hop).collect()).collect(),
                fallback: fallback.and_then(|(version, program)| script_of(version, &program)),
            }
            .sign(&key)
            .unwrap();
            prop_assert_eq!(OwnFields::of(&text), of_parsed(&Invoice::parse_any(&text).unwrap()));
        }

        #[test]
        fn no_text_is_too_strange(text: String, at in 0_usize..400) {
            let _ = OwnFields::of(&text);
            let _ = OwnFields::of(&format!("lnbcrt1{text}"));
            let letters: String = text.bytes().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
            let _ = OwnFields::of(&format!("lnbcrt1{}", &letters[..at.min(letters.len())]));
        }
    }
}
