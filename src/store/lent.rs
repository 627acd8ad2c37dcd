//! How many keys of each family were given to programs, so that none is given twice.

use std::sync::{Mutex, PoisonError};

use super::{Store, StoreError};

/// Two that ask at once get two keys.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The node's identity is the first key of its family, which nobody else is to have.
const IDENTITY_FAMILY: u32 = 6;

impl Store {
    /// The number of the next key of a family, which is taken from here on.
    pub fn next_lent_key(&self, family: u32) -> Result<u32, StoreError> {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let key = [b"lent ".as_slice(), &family.to_be_bytes()].concat();
        let next = match self.history_entry(&key)? {
            Some(bytes) => {
                u32::from_be_bytes(bytes.as_slice().try_into().map_err(|_| self.damaged("the count of lent keys"))?)
            }
            None => u32::from(family == IDENTITY_FAMILY),
        };
        self.put_history(&key, &next.saturating_add(1).to_be_bytes())?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[test]
    fn no_key_is_given_twice_and_the_identity_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!([store.next_lent_key(99).unwrap(), store.next_lent_key(99).unwrap()], [0, 1]);
        assert_eq!(store.next_lent_key(6).unwrap(), 1);
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!([store.next_lent_key(99).unwrap(), store.next_lent_key(98).unwrap()], [2, 0]);
    }
}
