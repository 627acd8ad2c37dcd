//! Amounts as people read and write them.

use std::{fmt::Write as _, str::FromStr};

/// So many satoshi, with thousands set apart: `1,234,567 sat`.
pub(super) fn sat(amount: i64) -> String {
    format!("{} sat", grouped(amount))
}

/// Satoshi with the millisatoshi that are over: `1,234.567 sat`.
pub(super) fn msat(amount: i64) -> String {
    match amount % 1000 {
        0 => sat(amount / 1000),
        rest => format!("{}.{:03} sat", grouped(amount / 1000), rest.abs()),
    }
}

/// Thousands set apart.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Hashes a second, with the unit that leaves few digits: `18.8 MH/s`.
pub(super) fn hash_rate(rate: f64) -> String {
    let units = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s"];
    let mut rate = rate;
    let mut text = String::new();
    for (at, unit) in units.iter().enumerate() {
        if rate < 1000.0 || at + 1 == units.len() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{rate:.1} {unit}");
            break;
        }
        rate /= 1000.0;
    }
    text
}

/// An amount on the command line: satoshi, with `,` or `_` between digits, or coins with a trailing `btc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sat(pub i64);

impl FromStr for Sat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("\"{text}\" is no amount: write satoshi, such as 100000 or 100,000, or coins, such as 0.001btc");
        let lower = text.trim().to_ascii_lowercase();
        if let Some(coins) = lower.strip_suffix("btc") {
            let amount =
                bitcoin::Amount::from_str_in(coins.trim(), bitcoin::Denomination::Bitcoin).map_err(|_| wrong())?;
            return i64::try_from(amount.to_sat()).map(Sat).map_err(|_| wrong());
        }
        let digits: String = lower.trim_end_matches("sat").trim().chars().filter(|c| !matches!(c, ',' | '_')).collect();
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        digits.parse().map(Sat).map_err(|_| wrong())
    }
}

/// An amount for which zero would not mean zero, but the usual: who means nothing is not taken to have said nothing.
pub(super) fn positive(text: &str) -> Result<Sat, String> {
    let amount: Sat = text.parse()?;
    if amount.0 > 0 { Ok(amount) } else { Err("an amount above zero is needed".to_owned()) }
}

/// A time on the command line, in seconds: `90`, or as Go's programs write it, `90s`, `1m30s`, `2h`.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is no time: write seconds, such as 90, or 90s, 2m, 1h");
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let unit_seconds = match unit.bytes().next() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit_seconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &unit[1..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// [`seconds`] for fields of LND that hold them in 32 bits.
pub(super) fn seconds_i32(text: &str) -> Result<i32, String> {
    let seconds = seconds(text)?;
    i32::try_from(seconds).map_err(|_| format!("{seconds} seconds are too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        assert_eq!([sat(0), sat(999), sat(1000), sat(-1234567)], ["0 sat", "999 sat", "1,000 sat", "-1,234,567 sat"]);
        assert_eq!([msat(1000), msat(1500), msat(7)], ["1 sat", "1.500 sat", "0.007 sat"]);
        assert_eq!([hash_rate(0.0), hash_rate(18_800_000.0), hash_rate(1e21)], ["0.0 H/s", "18.8 MH/s", "1000.0 EH/s"]);
    }

    #[test]
    fn times_are_taken_as_seconds_and_as_go_writes_them() {
        for (text, expected) in [("60", 60), ("90s", 90), ("1m30s", 90), ("2h", 7_200)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for wrong in ["", "s", "5x", "m5", "-1s", "1m5", "99999999999999999999h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert!(seconds_i32("99999999999").is_err());
    }

    #[test]
    fn nothing_is_not_taken_for_the_usual() {
        assert_eq!(positive("1"), Ok(Sat(1)));
        assert!(["0", "0btc", "", "-1"].into_iter().all(|text| positive(text).is_err()));
    }

    #[test]
    fn amounts_are_taken_in_the_ways_people_write_them() {
        for (text, amount) in [
            ("5", 5),
            ("100,000", 100_000),
            ("1_000", 1000),
            ("0.001btc", 100_000),
            ("2 BTC", 200_000_000),
            ("7sat", 7),
        ] {
            assert_eq!(text.parse(), Ok(Sat(amount)), "{text}");
        }
        for text in ["", "x", "-1", "1.5", "btc", "0.000000001btc", "99999999999999999999", "1e5", "sat"] {
            assert!(text.parse::<Sat>().is_err(), "{text}");
        }
    }
}
