//! Numbers in scripts: little endian, the sign in the highest bit of the last byte.
//!
//! Operands are at most four bytes (five for lock times). Results may be longer: they are kept as 64 bits, so nothing
//! here can overflow, and are refused only when they are used as an operand again.

use super::error::ScriptError;

/// The longest operand of an ordinary operation, in bytes.
pub(super) const OPERAND: usize = 4;
/// The longest operand of a lock time operation: 39 bits hold every 32-bit lock time.
pub(super) const LOCK_TIME_OPERAND: usize = 5;

/// Reads an operand of at most `longest` bytes; with `minimal`, only in its shortest encoding.
pub(super) fn decode(bytes: &[u8], minimal: bool, longest: usize) -> Result<i64, ScriptError> {
    if bytes.len() > longest {
        return Err(ScriptError::ScriptNumber);
    }
    let Some((last, lower)) = bytes.split_last() else { return Ok(0) };
    // The last byte is needed if it carries more than the sign, or if the one below needs its own highest bit.
    if minimal && last & 0x7f == 0 && lower.last().is_none_or(|next| next & 0x80 == 0) {
        return Err(ScriptError::ScriptNumber);
    }
    let magnitude = lower.iter().rev().fold(i64::from(last & 0x7f), |value, byte| (value << 8) | i64::from(*byte));
    Ok(if last & 0x80 == 0 { magnitude } else { -magnitude })
}

/// A number in its shortest encoding.
#[derive(Clone, Copy)]
pub(super) struct Encoded {
    pub(super) bytes: [u8; 9],
    pub(super) length: u8,
}

/// Writes `value` in its shortest encoding; zero is empty.
pub(super) fn encode(value: i64) -> Encoded {
    let mut bytes = [0; 9];
    let mut length = 0u8;
    let mut magnitude = value.unsigned_abs();
    let mut last = 0u8;
    for byte in &mut bytes {
        // Another byte while magnitude is left, and one more if the sign has no room in the last byte.
        if magnitude == 0 && (length == 0 || last & 0x80 == 0) {
            break;
        }
        last = (magnitude & 0xff) as u8;
        *byte = last;
        magnitude >>= 8;
        length = length.saturating_add(1);
    }
    if value < 0
        && let Some(byte) = usize::from(length).checked_sub(1).and_then(|index| bytes.get_mut(index))
    {
        *byte |= 0x80;
    }
    Encoded { bytes, length }
}

/// What an item means as a condition: false is zero of any length, negative zero included.
pub(super) fn is_true(bytes: &[u8]) -> bool {
    match bytes.split_last() {
        None => false,
        Some((last, lower)) => !matches!(last, 0 | 0x80) || lower.iter().any(|byte| *byte != 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: i64) -> Vec<u8> {
        let Encoded { bytes, length } = encode(value);
        bytes[..usize::from(length)].to_vec()
    }

    #[test]
    fn known_numbers_have_known_encodings() {
        for (value, bytes) in [
            (0, &[][..]),
            (1, &[1]),
            (-1, &[0x81]),
            (127, &[0x7f]),
            (128, &[0x80, 0]),
            (-128, &[0x80, 0x80]),
            (255, &[0xff, 0]),
            (-255, &[0xff, 0x80]),
            (256, &[0, 1]),
            (0x7fff_ffff, &[0xff, 0xff, 0xff, 0x7f]),
            (0x8000_0000, &[0, 0, 0, 0x80, 0]),
            (i64::MIN, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0x80]),
        ] {
            assert_eq!(encoded(value), bytes, "{value}");
        }
    }

    #[test]
    fn operands_are_four_bytes_and_lock_times_five() {
        assert_eq!(decode(&[0xff; 4], true, OPERAND), Ok(-0x7fff_ffff));
        assert_eq!(decode(&[1, 0, 0, 0, 1], true, OPERAND), Err(ScriptError::ScriptNumber));
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0x7f], true, LOCK_TIME_OPERAND), Ok((1 << 39) - 1));
        assert_eq!(decode(&[1; 6], true, LOCK_TIME_OPERAND), Err(ScriptError::ScriptNumber));
    }

    #[test]
    fn negative_zero_is_zero_and_false() {
        assert_eq!(decode(&[0x80], false, OPERAND), Ok(0));
        assert_eq!(decode(&[0x80], true, OPERAND), Err(ScriptError::ScriptNumber));
        for item in [&[][..], &[0], &[0x80], &[0, 0, 0x80], &[0; 600]] {
            assert!(!is_true(item), "{item:?}");
        }
        for item in [&[1][..], &[0x80, 0], &[0, 1, 0x80], &[0x81]] {
            assert!(is_true(item), "{item:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in -0x7fff_ffffi64..=0x7fff_ffff) {
            prop_assert_eq!(decode(&encoded(value), true, OPERAND), Ok(value));
        }

        #[test]
        fn only_shortest_encodings_are_minimal(bytes in prop::collection::vec(any::<u8>(), 0..=4)) {
            let value = decode(&bytes, false, OPERAND).expect("short enough");
            prop_assert_eq!(decode(&bytes, true, OPERAND).is_ok(), encoded(value) == bytes);
        }
    }
}
