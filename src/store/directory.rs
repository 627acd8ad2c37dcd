//! The name of this data directory, and which payments another daemon of the same person relies on.

use leyden_channels::types::{DirectoryId, PaymentHash};

use super::{Store, StoreError};

const KEY: &[u8] = b"directory";

impl Store {
    /// Made at the first call, and the same ever after.
    pub fn directory(&self) -> Result<DirectoryId, StoreError> {
        if let Some(bytes) = self.history_entry(KEY)? {
            let id = <[u8; 32]>::try_from(bytes.as_slice()).map(DirectoryId);
            return id.map_err(|_| self.damaged("the name of the data directory"));
        }
        let id = DirectoryId(rand::random());
        self.put_history(KEY, &id.0)?;
        Ok(id)
    }

    /// To be noted before a payment begins that a crossing asks for.
    pub fn put_crossing_payment(&self, hash: &PaymentHash) -> Result<(), StoreError> {
        self.put_history(&crossing_payment(hash), &[])
    }

    /// Whether a crossing has asked for the payment with this hash.
    pub fn is_crossing_payment(&self, hash: &PaymentHash) -> Result<bool, StoreError> {
        Ok(self.history_entry(&crossing_payment(hash))?.is_some())
    }

    /// With the payment itself.
    pub fn forget_crossing_payment(&self, hash: &PaymentHash) -> Result<(), StoreError> {
        self.remove_history(&crossing_payment(hash))
    }
}

fn crossing_payment(hash: &PaymentHash) -> Vec<u8> {
    [b"crossing payment ", hash.0.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_name_and_another_one_has_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = |folder: &tempfile::TempDir| Store::open(folder.path()).unwrap().directory().unwrap();
        assert_eq!(name(&one), name(&one));
        assert_ne!(name(&one), name(&two));
    }
}
