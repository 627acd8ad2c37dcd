//! BigSize: integers of one, three, five or nine bytes, big-endian, always in the shortest form (BOLT 1,
//! Appendix A).

use super::codec::{DecodeError, Field as _, Reader};

/// Reads a number; one that is not in its shortest form is an error.
pub fn read(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let (value, least) = match reader.field::<u8>()? {
        0xfd => (u64::from(reader.field::<u16>()?), 0xfd),
        0xfe => (u64::from(reader.field::<u32>()?), 0x1_0000),
        0xff => (reader.field::<u64>()?, 0x1_0000_0000),
        small => (u64::from(small), 0),
    };
    if value < least { Err(DecodeError::NotMinimal) } else { Ok(value) }
}

/// Writes a number in its shortest form.
pub fn write(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0xfc => out.push(value as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            (value as u16).write(out);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            (value as u32).write(out);
        }
        0x1_0000_0000.. => {
            out.push(0xff);
            value.write(out);
        }
    }
}

/// How many bytes [`write`] appends for `value`.
pub const fn len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        0x1_0000_0000.. => 9,
    }
}
