//! Leases of coins, which hold over a restart: whoever has one may be about to broadcast what spends the coin.

use bitcoin::OutPoint;

use super::{Store, StoreError};

const PREFIX: &[u8] = b"lease ";

impl Store {
    /// Until when (seconds since 1970) a coin is whose.
    pub fn put_lease(&self, coin: &OutPoint, id: &[u8; 32], until: u64) -> Result<(), StoreError> {
        self.put_history(&key(coin), &[id.as_slice(), &until.to_be_bytes()].concat())
    }

    /// A lease has ended.
    pub fn remove_lease(&self, coin: &OutPoint) -> Result<(), StoreError> {
        self.remove_history(&key(coin))
    }

    /// All that were not removed, those that are over included.
    pub fn leases(&self) -> Result<Vec<(OutPoint, [u8; 32], u64)>, StoreError> {
        let mut leases = Vec::new();
        for key in self.history_keys(PREFIX)? {
            let text = key.strip_prefix(PREFIX).and_then(|text| std::str::from_utf8(text).ok());
            let coin = text.and_then(|text| text.parse().ok());
            let value = self.history_entry(&key)?.unwrap_or_default();
            let parts = value.split_first_chunk::<32>().and_then(|(id, until)| Some((*id, until.try_into().ok()?)));
            let (Some(coin), Some((id, until))) = (coin, parts) else { return Err(self.damaged("a lease")) };
            leases.push((coin, id, u64::from_be_bytes(until)));
        }
        Ok(leases)
    }
}

fn key(coin: &OutPoint) -> Vec<u8> {
    [PREFIX, coin.to_string().as_bytes()].concat()
}
