//! The little 256-bit arithmetic that targets and work need beyond what the `bitcoin` crate offers.

use std::num::NonZeroU64;

/// 256 bits, least significant limb first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Uint256([u64; 4]);

impl Uint256 {
    pub(crate) const MAX: Self = Self([u64::MAX; 4]);

    pub(crate) fn from_be_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0u64; 4];
        for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
            *limb = chunk.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        }
        Self(limbs)
    }

    pub(crate) fn to_be_bytes(self) -> [u8; 32] {
        let mut bytes = [0u8; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0.iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    /// The sum, or the largest number if it does not fit.
    pub(crate) fn saturating_add(self, other: Self) -> Self {
        let mut sum = [0u64; 4];
        let mut carry = false;
        for (out, (a, b)) in sum.iter_mut().zip(self.0.iter().zip(other.0.iter())) {
            let (partial, overflow_a) = a.overflowing_add(*b);
            let (full, overflow_b) = partial.overflowing_add(u64::from(carry));
            *out = full;
            carry = overflow_a || overflow_b;
        }
        if carry { Self::MAX } else { Self(sum) }
    }

    /// `self · numerator / denominator`, rounded down, computed without losing the high bits of the product; the
    /// largest number if the result does not fit.
    pub(crate) fn saturating_mul_div(self, numerator: u64, denominator: NonZeroU64) -> Self {
        let mut product = [0u64; 5];
        let mut carry: u128 = 0;
        for (out, limb) in product.iter_mut().zip(self.0.iter().chain([&0u64])) {
            // At most (2^64−1)² + 2^64−1 < 2^128.
            let wide = u128::from(*limb) * u128::from(numerator) + carry;
            *out = wide as u64;
            carry = wide >> 64;
        }
        let divisor = u128::from(denominator.get());
        let mut quotient = [0u64; 5];
        let mut remainder: u128 = 0;
        for (out, limb) in quotient.iter_mut().rev().zip(product.iter().rev()) {
            // The remainder is below a 64-bit divisor, so this fits and the digit is below 2^64.
            let wide = (remainder << 64) | u128::from(*limb);
            *out = (wide / divisor) as u64;
            remainder = wide % divisor;
        }
        let [a, b, c, d, high] = quotient;
        if high == 0 { Self([a, b, c, d]) } else { Self::MAX }
    }

    /// 2 to the power of `exponent`; zero from 256 on.
    pub(crate) fn power_of_two(exponent: u32) -> Self {
        let mut limbs = [0u64; 4];
        if let Some(limb) = usize::try_from(exponent / 64).ok().and_then(|index| limbs.get_mut(index)) {
            *limb = 1 << (exponent % 64);
        }
        Self(limbs)
    }

    /// How many bits the number has: 0 for zero, 256 for the largest.
    pub(crate) fn bit_length(self) -> u32 {
        let leading: u32 = self
            .0
            .iter()
            .rev()
            .scan(true, |only_zeros, limb| {
                let zeros = if *only_zeros { limb.leading_zeros() } else { 0 };
                *only_zeros &= *limb == 0;
                Some(zeros)
            })
            .sum();
        256 - leading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(value: u64) -> Uint256 {
        Uint256([value, 0, 0, 0])
    }

    #[test]
    fn bytes_go_there_and_back() {
        let bytes: [u8; 32] = core::array::from_fn(|i| i as u8);
        assert_eq!(Uint256::from_be_bytes(bytes).to_be_bytes(), bytes);
        assert_eq!(Uint256::power_of_two(0).to_be_bytes()[31], 1);
        assert_eq!(Uint256::power_of_two(255).to_be_bytes()[0], 0x80);
    }

    #[test]
    fn arithmetic_saturates_and_does_not_wrap() {
        assert_eq!(Uint256::MAX.saturating_add(small(1)), Uint256::MAX);
        assert_eq!(small(u64::MAX).saturating_add(small(1)), Uint256([0, 1, 0, 0]));
        assert_eq!(Uint256::MAX.saturating_mul_div(2, NonZeroU64::MIN), Uint256::MAX);
        let seven = NonZeroU64::new(7).unwrap();
        assert_eq!(Uint256::MAX.saturating_mul_div(7, seven), Uint256::MAX);
        assert_eq!(small(100).saturating_mul_div(3, seven), small(42));
    }

    #[test]
    fn bit_length_counts_from_the_highest_set_bit() {
        assert_eq!(small(0).bit_length(), 0);
        assert_eq!(small(1).bit_length(), 1);
        for exponent in [0, 1, 63, 64, 127, 128, 200, 255] {
            assert_eq!(Uint256::power_of_two(exponent).bit_length(), exponent + 1);
        }
        assert_eq!(Uint256::MAX.bit_length(), 256);
    }
}
