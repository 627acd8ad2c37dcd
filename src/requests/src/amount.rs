//! Amounts of money as Bitcoin Core writes and reads them.
//!
//! Written: coins with eight decimals, always (`50.00000000`, `0.00000001`). A program that reads text and not floating
//! point, as Core Lightning does, relies on it. Read: a number or its text, exact to the satoshi; no more than eight
//! decimals, no rounding. Nothing here is ever a floating point number.

use bitcoin::Amount;
use serde_json::Value;

/// Decimals of a coin.
const DECIMALS: usize = 8;
const SATOSHI_PER_COIN: u64 = 100_000_000;

/// Coins, with eight decimals.
pub fn coins(amount: Amount) -> Value {
    let satoshi = amount.to_sat();
    let text = format!("{}.{:08}", satoshi / SATOSHI_PER_COIN, satoshi % SATOSHI_PER_COIN);
    // With the library's exact numbers any decimal is one and keeps its digits.
    text.parse().map_or(Value::Null, Value::Number)
}

/// An amount of coins, at most all money there can be. `1e-6` is as good as `0.000001`: JSON allows it, and some
/// libraries write it.
pub fn parse(text: &str) -> Option<Amount> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    // JSON's numbers have a digit before the point, and no zero in front of others.
    let digits_only = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) || !digits_only(whole) || !digits_only(fraction)
    {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    // The digits in satoshi, and how many zeros follow (or, below zero, how many decimals of a satoshi there are).
    let decimals = i64::try_from(fraction.len()).ok()?;
    let zeros = i64::try_from(DECIMALS).ok()?.checked_add(exponent)?.checked_sub(decimals)?;
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(Amount::ZERO);
    }
    let satoshi = match u32::try_from(zeros) {
        Ok(zeros) => digits.parse::<u64>().ok()?.checked_mul(10u64.checked_pow(zeros)?)?,
        Err(_) => {
            let whole = digits.len().checked_sub(usize::try_from(zeros.unsigned_abs()).ok()?)?;
            let (whole, rest) = digits.split_at_checked(whole)?;
            // Less than a satoshi is no amount.
            if rest.bytes().any(|digit| digit != b'0') {
                return None;
            }
            whole.parse().ok()?
        }
    };
    Some(Amount::from_sat(satoshi)).filter(|amount| *amount <= Amount::MAX_MONEY)
}

fn exponent_of(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // No amount needs an exponent of more digits than these.
    const MAX_DIGITS: usize = 4;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let exponent: i64 = digits.parse().ok()?;
    Some(if text.starts_with('-') { -exponent } else { exponent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_with_eight_decimals() {
        for (satoshi, text) in [
            (0, "0.00000000"),
            (1, "0.00000001"),
            (100, "0.00000100"),
            (99_999_999, "0.99999999"),
            (100_000_000, "1.00000000"),
            (5_000_000_000, "50.00000000"),
            (2_100_000_000_000_000, "21000000.00000000"),
        ] {
            assert_eq!(coins(Amount::from_sat(satoshi)).to_string(), text);
            assert_eq!(parse(text), Some(Amount::from_sat(satoshi)));
        }
    }

    #[test]
    fn amounts_are_read_to_the_satoshi_or_not_at_all() {
        for (text, satoshi) in [
            ("0", 0),
            ("0.0", 0),
            ("0e5", 0),
            ("0.00000001", 1),
            ("0.0000000100", 1),
            ("1e-8", 1),
            ("1E-6", 100),
            ("0.1e-7", 1),
            ("0.01e-6", 1),
            ("100e-10", 1),
            ("0.10000", 10_000_000),
            ("1", 100_000_000),
            ("1.1e1", 1_100_000_000),
            ("0.1e+1", 100_000_000),
            ("20999999.99999999", 2_099_999_999_999_999),
            ("21000000", 2_100_000_000_000_000),
            ("21e6", 2_100_000_000_000_000),
        ] {
            assert_eq!(parse(text), Some(Amount::from_sat(satoshi)), "{text}");
        }
        for text in [
            "",
            " 1",
            "1 ",
            "+1",
            "-1",
            "-0.1",
            "01",
            "00.1",
            ".1",
            "1.",
            "1.e2",
            "e1",
            "1e",
            "1e+",
            "1e1.0",
            "1,0",
            "0x1",
            "0.000000001",
            "1e-9",
            "1.123456789",
            "10e-10",
            "21000000.00000001",
            "21000001",
            "1e99999999999",
            "1e30",
            "184467440737.09551616",
            "nan",
            "inf",
            "١",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
