//! Fee rates as exact fractions.

use std::cmp::Ordering;

use bitcoin::{Amount, FeeRate};

/// A fee over a virtual size, compared exactly by cross multiplication.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// What is paid.
    pub fee: Amount,
    /// For so many virtual bytes.
    pub virtual_bytes: u64,
}

impl Rate {
    /// `fee` for `virtual_bytes`.
    pub fn new(fee: Amount, virtual_bytes: u64) -> Self {
        Self { fee, virtual_bytes }
    }

    /// Rounded down to satoshi per 1000 weight units.
    pub fn per_kwu(self) -> FeeRate {
        let weight = u128::from(self.virtual_bytes.max(1)) * 4;
        let rate = u128::from(self.fee.to_sat()) * 1000 / weight;
        FeeRate::from_sat_per_kwu(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = u128::from(self.fee.to_sat()) * u128::from(other.virtual_bytes);
        let right = u128::from(other.fee.to_sat()) * u128::from(self.virtual_bytes);
        left.cmp(&right)
    }
}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rate {}

/// What `virtual_bytes` cost at `rate`, rounded up.
pub fn fee_at(rate: FeeRate, virtual_bytes: u64) -> Amount {
    let weight = u128::from(virtual_bytes) * 4;
    let fee = (u128::from(rate.to_sat_per_kwu()) * weight).div_ceil(1000);
    Amount::from_sat(u64::try_from(fee).unwrap_or(u64::MAX))
}

/// The sum of two fee rates.
pub fn add_rates(left: FeeRate, right: FeeRate) -> FeeRate {
    FeeRate::from_sat_per_kwu(left.to_sat_per_kwu().saturating_add(right.to_sat_per_kwu()))
}
