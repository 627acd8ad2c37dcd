//! The last number of an invoice when one was forgotten: none is given again.

use super::{Store, StoreError};

const KEY: &[u8] = b"invoice number";

impl Store {
    /// To be kept before an invoice is forgotten.
    pub fn put_invoice_number(&self, number: u64) -> Result<(), StoreError> {
        self.put_history(KEY, &number.to_be_bytes())
    }

    /// The number that was kept last; 0 if none was.
    pub fn invoice_number(&self) -> Result<u64, StoreError> {
        let Some(bytes) = self.history_entry(KEY)? else { return Ok(0) };
        let bytes = bytes.as_slice().try_into().map_err(|_| self.damaged("the number of invoices"))?;
        Ok(u64::from_be_bytes(bytes))
    }
}
