//! The checksum of a `channel_update` in extended queries: CRC32C over the update without its signature and timestamp
//! (BOLT 7, The `query_channel_range` and `reply_channel_range` Messages).

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

fn crc32c(parts: [&[u8]; 2]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let index = usize::from((crc as u8) ^ byte);
        (crc >> 8) ^ TABLE.get(index).copied().unwrap_or_default()
    };
    !parts.into_iter().flatten().fold(u32::MAX, step)
}

/// The checksum of an encoded update, its type included.
pub fn update_checksum(raw: &[u8]) -> u32 {
    // type (2) ‖ signature (64) ‖ chain hash (32) ‖ short channel id (8) ‖ timestamp (4) ‖ the rest
    let before = raw.get(66..106).unwrap_or_default();
    let after = raw.get(110..).unwrap_or_default();
    crc32c([before, after])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c([b"1234", b"56789"]), 0xe306_9283);
        assert_eq!(crc32c([&[0; 32], &[]]), 0x8a91_36aa);
    }

    #[test]
    fn signature_and_timestamp_do_not_count() {
        let mut update = vec![7; 138];
        let checksum = update_checksum(&update);
        update[10] = 0;
        update[107] = 0;
        assert_eq!(update_checksum(&update), checksum);
        update[111] = 0;
        assert_ne!(update_checksum(&update), checksum);
    }
}
