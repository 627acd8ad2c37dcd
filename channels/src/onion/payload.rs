//! What a layer of the onion says to its hop (BOLT 4, `payload` format).
//!
//! | record      | name                  | forwarding | final                     |
//! |-------------|-----------------------|------------|---------------------------|
//! | 2           | `amt_to_forward`      | yes        | yes                       |
//! | 4           | `outgoing_cltv_value` | yes        | yes                       |
//! | 6           | `short_channel_id`    | yes        | no                        |
//! | 8           | `payment_data`        | no         | with an invoice           |
//! | 16          | `payment_metadata`    | no         | if the invoice has some   |
//! | 5482373484  | keysend preimage      | no         | without an invoice        |
//! | from 65536  | custom records        | no         | as the sender likes       |
//!
//! The records of blinded paths (10, 12, 18) are not understood yet and therefore refused, being even.

use crate::types::{CltvExpiry, Msat, PaymentPreimage, PaymentSecret, ShortChannelId};
use crate::wire::codec::write_truncated;
use crate::wire::tlv::{self, RawRecord, Records};
use crate::wire::{DecodeError, Field as _, Reader};

const AMT_TO_FORWARD: u64 = 2;
const OUTGOING_CLTV_VALUE: u64 = 4;
const SHORT_CHANNEL_ID: u64 = 6;
const PAYMENT_DATA: u64 = 8;
const PAYMENT_METADATA: u64 = 16;

/// Types from here on belong to applications (BOLT 1).
pub const FIRST_CUSTOM_RECORD: u64 = 65_536;
/// The record in which a spontaneous payment brings its own preimage (bLIP 3).
pub const KEYSEND_PREIMAGE: u64 = 5_482_373_484;

/// What a hop is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopPayload {
    /// Pass it on.
    Forward(ForwardPayload),
    /// It is for this node.
    Receive(ReceivePayload),
}

/// To a hop on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardPayload {
    /// What the next hop gets.
    pub amt_to_forward: Msat,
    /// The expiry of the HTLC to the next hop.
    pub outgoing_cltv_value: CltvExpiry,
    /// The channel to forward over, or any other to the same peer.
    pub short_channel_id: ShortChannelId,
}

/// To the recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivePayload {
    /// This part's amount.
    pub amt_to_forward: Msat,
    /// The least expiry that this HTLC must have.
    pub outgoing_cltv_value: CltvExpiry,
    /// `None` for senders that know no payment secret.
    pub payment_data: Option<PaymentData>,
    /// What the invoice asked the sender to repeat.
    pub payment_metadata: Option<Vec<u8>>,
    /// The preimage, of a payment that nobody asked for.
    pub keysend_preimage: Option<PaymentPreimage>,
    /// In increasing order of their types, none of them [`KEYSEND_PREIMAGE`].
    pub custom_records: Vec<RawRecord>,
}

/// What proves that the sender holds the invoice, and how much it will send in all parts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentData {
    /// What only the invoice tells.
    pub payment_secret: PaymentSecret,
    /// What all parts bring together.
    pub total_msat: Msat,
}

/// Why a payload is not understood; what `invalid_onion_payload` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {kind} at byte {offset} of the onion payload is missing, misplaced or not understood")]
pub struct PayloadError {
    /// The record's type.
    pub kind: u64,
    /// Where in the payload it stands; 0 if it is missing.
    pub offset: u16,
}

impl PayloadError {
    fn missing(kind: u64) -> Self {
        Self { kind, offset: 0 }
    }
}

#[derive(Default)]
struct Fields {
    amt_to_forward: Option<Msat>,
    outgoing_cltv_value: Option<CltvExpiry>,
    short_channel_id: Option<ShortChannelId>,
    payment_data: Option<PaymentData>,
    payment_metadata: Option<Vec<u8>>,
    keysend_preimage: Option<PaymentPreimage>,
    custom_records: Vec<RawRecord>,
}

impl Fields {
    fn read_record(&mut self, kind: u64, mut value: Reader<'_>) -> Result<(), DecodeError> {
        match kind {
            AMT_TO_FORWARD => self.amt_to_forward = Some(Msat(value.truncated(8)?)),
            // At most four bytes, so the cast loses nothing.
            OUTGOING_CLTV_VALUE => self.outgoing_cltv_value = Some(CltvExpiry(value.truncated(4)? as u32)),
            SHORT_CHANNEL_ID => self.short_channel_id = Some(value.field()?),
            PAYMENT_DATA => {
                let payment_secret = value.field()?;
                self.payment_data = Some(PaymentData { payment_secret, total_msat: Msat(value.truncated(8)?) });
            }
            PAYMENT_METADATA => self.payment_metadata = Some(value.take_rest().to_vec()),
            KEYSEND_PREIMAGE => self.keysend_preimage = Some(value.field()?),
            // (differs) An even custom record is not refused: the application that reads the payment may know it,
            // as LND's does.
            FIRST_CUSTOM_RECORD.. => {
                self.custom_records.push(RawRecord { kind, value: value.take_rest().to_vec() });
            }
            unknown => {
                tlv::unknown(unknown)?;
                value.take_rest();
            }
        }
        value.finish()
    }
}

impl HopPayload {
    /// The payload of a peeled onion; `is_final`: there is no next packet.
    pub fn decode(bytes: &[u8], is_final: bool) -> Result<Self, PayloadError> {
        let mut fields = Fields::default();
        let mut records = Records::new(Reader::new(bytes));
        let mut offset = 0;
        loop {
            let (kind, value) = match records.next_record() {
                Ok(None) => break,
                Ok(Some(record)) => record,
                Err(_) => return Err(PayloadError { kind: peek_type(bytes, offset), offset: offset as u16 }),
            };
            if fields.read_record(kind, value).is_err() {
                return Err(PayloadError { kind, offset: offset as u16 });
            }
            // The next record starts where this one's value ends.
            offset = bytes.len() - records.remaining();
        }
        let amt_to_forward = fields.amt_to_forward.ok_or(PayloadError::missing(AMT_TO_FORWARD))?;
        let outgoing_cltv_value = fields.outgoing_cltv_value.ok_or(PayloadError::missing(OUTGOING_CLTV_VALUE))?;
        match (fields.short_channel_id, is_final) {
            (Some(short_channel_id), false) => {
                if fields.payment_data.is_some() {
                    return Err(PayloadError::missing(PAYMENT_DATA));
                }
                if let Some(even) = fields.custom_records.iter().find(|record| record.kind.is_multiple_of(2)) {
                    return Err(PayloadError::missing(even.kind));
                }
                Ok(Self::Forward(ForwardPayload { amt_to_forward, outgoing_cltv_value, short_channel_id }))
            }
            (None, true) => Ok(Self::Receive(ReceivePayload {
                amt_to_forward,
                outgoing_cltv_value,
                payment_data: fields.payment_data,
                payment_metadata: fields.payment_metadata,
                keysend_preimage: fields.keysend_preimage,
                custom_records: fields.custom_records,
            })),
            (None, false) | (Some(_), true) => Err(PayloadError::missing(SHORT_CHANNEL_ID)),
        }
    }

    /// The custom records of a payload that [`Self::decode`] takes.
    pub fn custom_records(bytes: &[u8]) -> Vec<RawRecord> {
        let mut fields = Fields::default();
        let mut records = Records::new(Reader::new(bytes));
        while let Ok(Some((kind, value))) = records.next_record() {
            if fields.read_record(kind, value).is_err() {
                return Vec::new();
            }
        }
        fields.custom_records
    }

    /// The TLV stream, without its length.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Forward(forward) => forward.encode(),
            Self::Receive(receive) => receive.encode(),
        }
    }
}

/// The type of the record at `offset`, as far as it can be read.
fn peek_type(bytes: &[u8], offset: usize) -> u64 {
    Reader::new(bytes.get(offset..).unwrap_or_default()).bigsize().unwrap_or(0)
}

fn write_common(amt_to_forward: Msat, outgoing_cltv_value: CltvExpiry, out: &mut Vec<u8>) {
    tlv::write_with(AMT_TO_FORWARD, out, |out| write_truncated(amt_to_forward.0, out));
    tlv::write_with(OUTGOING_CLTV_VALUE, out, |out| write_truncated(u64::from(outgoing_cltv_value.0), out));
}

impl ForwardPayload {
    /// The TLV stream, without its length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        write_common(self.amt_to_forward, self.outgoing_cltv_value, &mut out);
        tlv::write(SHORT_CHANNEL_ID, &self.short_channel_id, &mut out);
        out
    }
}

impl ReceivePayload {
    /// The TLV stream, without its length. Custom records are written in the order of their types; the later of two
    /// with the same type, and any that uses a type below [`FIRST_CUSTOM_RECORD`] or the keysend type, is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        write_common(self.amt_to_forward, self.outgoing_cltv_value, &mut out);
        if let Some(data) = &self.payment_data {
            tlv::write_with(PAYMENT_DATA, &mut out, |out| {
                data.payment_secret.write(out);
                write_truncated(data.total_msat.0, out);
            });
        }
        if let Some(metadata) = &self.payment_metadata {
            tlv::write(PAYMENT_METADATA, metadata, &mut out);
        }
        let mut custom: Vec<(u64, &[u8])> = self
            .custom_records
            .iter()
            .filter(|record| record.kind >= FIRST_CUSTOM_RECORD && record.kind != KEYSEND_PREIMAGE)
            .map(|record| (record.kind, record.value.as_slice()))
            .chain(self.keysend_preimage.as_ref().map(|preimage| (KEYSEND_PREIMAGE, preimage.0.as_slice())))
            .collect();
        custom.sort_by_key(|(kind, _)| *kind);
        custom.dedup_by_key(|(kind, _)| *kind);
        for (kind, value) in custom {
            tlv::write_with(kind, &mut out, |out| out.extend_from_slice(value));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receive() -> ReceivePayload {
        ReceivePayload {
            amt_to_forward: Msat(100_000),
            outgoing_cltv_value: CltvExpiry(800_000),
            payment_data: Some(PaymentData { payment_secret: PaymentSecret([5; 32]), total_msat: Msat(300_000) }),
            payment_metadata: Some(vec![1, 2, 3]),
            keysend_preimage: Some(PaymentPreimage([6; 32])),
            custom_records: vec![
                RawRecord { kind: 65_536, value: b"even".to_vec() },
                RawRecord { kind: 5_482_373_485, value: vec![0; 300] },
            ],
        }
    }

    #[test]
    fn payloads_come_back_as_they_were_sent() {
        let payload = HopPayload::Receive(receive());
        assert_eq!(HopPayload::decode(&payload.encode(), true), Ok(payload));
        let forward = HopPayload::Forward(ForwardPayload {
            amt_to_forward: Msat(0),
            outgoing_cltv_value: CltvExpiry(u32::MAX),
            short_channel_id: ShortChannelId(u64::MAX),
        });
        assert_eq!(HopPayload::decode(&forward.encode(), false), Ok(forward));
    }

    #[test]
    fn a_payload_for_the_other_kind_of_hop_is_refused() {
        let error = Err(PayloadError::missing(SHORT_CHANNEL_ID));
        assert_eq!(HopPayload::decode(&receive().encode(), false), error);
        assert_eq!(HopPayload::decode(&hex::decode("02020001").unwrap(), true).unwrap_err().kind, AMT_TO_FORWARD);
        let missing_cltv = hex::decode("020101").unwrap();
        assert_eq!(HopPayload::decode(&missing_cltv, true), Err(PayloadError::missing(OUTGOING_CLTV_VALUE)));
    }

    #[test]
    fn an_unknown_even_record_is_named_with_its_place() {
        // amount, expiry, then record 10 (a blinded path's).
        let bytes = hex::decode("02010104010a0a00").unwrap();
        assert_eq!(HopPayload::decode(&bytes, true), Err(PayloadError { kind: 10, offset: 6 }));
        let odd = hex::decode("02010104010a0b00").unwrap();
        assert!(HopPayload::decode(&odd, true).is_ok());
        let out_of_order = hex::decode("04010a020101").unwrap();
        assert_eq!(HopPayload::decode(&out_of_order, true), Err(PayloadError { kind: 2, offset: 3 }));
    }

    proptest! {
        #[test]
        fn random_payloads_never_panic(bytes: Vec<u8>, is_final: bool) {
            let _ = HopPayload::decode(&bytes, is_final);
        }
    }
}
