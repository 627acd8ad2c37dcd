//! Why a channel is being closed, in words, kept from the moment of the decision until the record of its end is written.

use bitcoin::OutPoint;
use leyden_channels::types::Side;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

/// Who wanted a channel to end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseCause {
    pub by: Side,
    pub words: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    by_us: bool,
    words: String,
}

impl Store {
    /// Stores why a channel is being closed.
    pub fn put_cause(&self, funding: &OutPoint, cause: &CloseCause) -> Result<(), StoreError> {
        let record = Record { by_us: cause.by == Side::Local, words: cause.words.clone() };
        let bytes = serde_json::to_vec(&record).map_err(|error| self.damaged(&error.to_string()))?;
        self.put_history(&cause_key(funding), &bytes)
    }

    /// Why a channel is being closed; `None` if nobody has said.
    pub fn cause(&self, funding: &OutPoint) -> Result<Option<CloseCause>, StoreError> {
        let Some(bytes) = self.history_entry(&cause_key(funding))? else { return Ok(None) };
        let Record { by_us, words } =
            serde_json::from_slice(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
        Ok(Some(CloseCause { by: if by_us { Side::Local } else { Side::Remote }, words }))
    }
}

fn cause_key(funding: &OutPoint) -> Vec<u8> {
    format!("cause {funding}").into_bytes()
}
