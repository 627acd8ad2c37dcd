//! Closing a channel together (BOLT 2, Closing Initiation and Legacy Closing Negotiation).

use bitcoin::{Amount, ScriptBuf};
use secp256k1::ecdsa::Signature;

use super::codec::{DecodeError, Field as _, Reader, Record};
use crate::types::ChannelId;

message! {
    /// No HTLC will be added any more; the sender's balance is to go to `scriptpubkey`.
    Shutdown = 38 {
        channel_id: ChannelId,
        scriptpubkey: ScriptBuf,
    }
}

message! {
    /// Signs the closing transaction with the fee `fee_satoshis`.
    ClosingSigned = 39 {
        channel_id: ChannelId,
        fee_satoshis: Amount,
        signature: Signature,
    }
    extension {
        /// The fees that the sender would sign.
        1 => fee_range: FeeRange,
    }
}

/// The closing fees that a side would sign, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeeRange {
    /// The lowest fee.
    pub min_fee_satoshis: Amount,
    /// The highest fee.
    pub max_fee_satoshis: Amount,
}

impl Record for FeeRange {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        let range = Self { min_fee_satoshis: value.field()?, max_fee_satoshis: value.field()? };
        value.finish()?;
        Ok(range)
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        self.min_fee_satoshis.write(out);
        self.max_fee_satoshis.write(out);
    }
}
