//! The last numbers of payments and attempts that were forgotten: none is given again.

use leyden_channels::payment::outgoing::Numbers;

use super::{Store, StoreError};

const KEY: &[u8] = b"payment numbers";

impl Store {
    /// To be kept before a payment is forgotten.
    pub fn put_payment_numbers(&self, numbers: Numbers) -> Result<(), StoreError> {
        self.put_history(KEY, &[numbers.index.to_be_bytes(), numbers.attempt.to_be_bytes()].concat())
    }

    /// The numbers that were kept last.
    pub fn payment_numbers(&self) -> Result<Numbers, StoreError> {
        let Some(bytes) = self.history_entry(KEY)? else { return Ok(Numbers::default()) };
        let read = bytes.split_first_chunk::<8>().and_then(|(index, attempt)| {
            let attempt = attempt.try_into().ok()?;
            Some(Numbers { index: u64::from_be_bytes(*index), attempt: u64::from_be_bytes(attempt) })
        });
        read.ok_or_else(|| self.damaged("the numbers of payments"))
    }
}
