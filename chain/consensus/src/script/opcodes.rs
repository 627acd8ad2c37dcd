//! Opcodes and the reading of a script into instructions.

use super::number;

/// Declares the opcodes that have a meaning of their own, with the names that scripts are written with.
macro_rules! opcodes {
    ($($name:ident = $value:literal;)*) => {
        $(#[doc = concat!("The opcode `", stringify!($name), "`.")] pub const $name: u8 = $value;)*

        /// Every named opcode beyond the direct pushes, with its name.
        pub const NAMED: &[(&str, u8)] = &[$((stringify!($name), $value)),*];
    };
}

opcodes! {
    OP_0 = 0x00; OP_PUSHDATA1 = 0x4c; OP_PUSHDATA2 = 0x4d; OP_PUSHDATA4 = 0x4e; OP_1NEGATE = 0x4f; OP_RESERVED = 0x50;
    OP_1 = 0x51; OP_2 = 0x52; OP_3 = 0x53; OP_4 = 0x54; OP_5 = 0x55; OP_6 = 0x56; OP_7 = 0x57; OP_8 = 0x58;
    OP_9 = 0x59; OP_10 = 0x5a; OP_11 = 0x5b; OP_12 = 0x5c; OP_13 = 0x5d; OP_14 = 0x5e; OP_15 = 0x5f; OP_16 = 0x60;
    OP_NOP = 0x61; OP_VER = 0x62; OP_IF = 0x63; OP_NOTIF = 0x64; OP_VERIF = 0x65; OP_VERNOTIF = 0x66; OP_ELSE = 0x67;
    OP_ENDIF = 0x68; OP_VERIFY = 0x69; OP_RETURN = 0x6a;
    OP_TOALTSTACK = 0x6b; OP_FROMALTSTACK = 0x6c; OP_2DROP = 0x6d; OP_2DUP = 0x6e; OP_3DUP = 0x6f; OP_2OVER = 0x70;
    OP_2ROT = 0x71; OP_2SWAP = 0x72; OP_IFDUP = 0x73; OP_DEPTH = 0x74; OP_DROP = 0x75; OP_DUP = 0x76; OP_NIP = 0x77;
    OP_OVER = 0x78; OP_PICK = 0x79; OP_ROLL = 0x7a; OP_ROT = 0x7b; OP_SWAP = 0x7c; OP_TUCK = 0x7d;
    OP_CAT = 0x7e; OP_SUBSTR = 0x7f; OP_LEFT = 0x80; OP_RIGHT = 0x81; OP_SIZE = 0x82; OP_INVERT = 0x83; OP_AND = 0x84;
    OP_OR = 0x85; OP_XOR = 0x86; OP_EQUAL = 0x87; OP_EQUALVERIFY = 0x88; OP_RESERVED1 = 0x89; OP_RESERVED2 = 0x8a;
    OP_1ADD = 0x8b; OP_1SUB = 0x8c; OP_2MUL = 0x8d; OP_2DIV = 0x8e; OP_NEGATE = 0x8f; OP_ABS = 0x90; OP_NOT = 0x91;
    OP_0NOTEQUAL = 0x92; OP_ADD = 0x93; OP_SUB = 0x94; OP_MUL = 0x95; OP_DIV = 0x96; OP_MOD = 0x97; OP_LSHIFT = 0x98;
    OP_RSHIFT = 0x99; OP_BOOLAND = 0x9a; OP_BOOLOR = 0x9b; OP_NUMEQUAL = 0x9c; OP_NUMEQUALVERIFY = 0x9d;
    OP_NUMNOTEQUAL = 0x9e; OP_LESSTHAN = 0x9f; OP_GREATERTHAN = 0xa0; OP_LESSTHANOREQUAL = 0xa1;
    OP_GREATERTHANOREQUAL = 0xa2; OP_MIN = 0xa3; OP_MAX = 0xa4; OP_WITHIN = 0xa5;
    OP_RIPEMD160 = 0xa6; OP_SHA1 = 0xa7; OP_SHA256 = 0xa8; OP_HASH160 = 0xa9; OP_HASH256 = 0xaa;
    OP_CODESEPARATOR = 0xab; OP_CHECKSIG = 0xac; OP_CHECKSIGVERIFY = 0xad; OP_CHECKMULTISIG = 0xae;
    OP_CHECKMULTISIGVERIFY = 0xaf; OP_NOP1 = 0xb0; OP_CHECKLOCKTIMEVERIFY = 0xb1; OP_CHECKSEQUENCEVERIFY = 0xb2;
    OP_NOP4 = 0xb3; OP_NOP5 = 0xb4; OP_NOP6 = 0xb5; OP_NOP7 = 0xb6; OP_NOP8 = 0xb7; OP_NOP9 = 0xb8; OP_NOP10 = 0xb9;
    OP_CHECKSIGADD = 0xba;
}

/// One opcode with what it pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction<'s> {
    /// The opcode byte.
    pub opcode: u8,
    /// The bytes that follow a push opcode; empty for every other opcode.
    pub data: &'s [u8],
}

/// A push runs past the end of its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TruncatedPush;

/// Reads a script from front to back. After a truncated push it yields nothing more.
#[derive(Debug, Clone)]
pub struct Instructions<'s> {
    rest: &'s [u8],
}

impl<'s> Instructions<'s> {
    /// Starts at the first byte of `script`.
    pub fn new(script: &'s [u8]) -> Self {
        Self { rest: script }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'s [u8] {
        self.rest
    }

    /// Goes on as if `count` further bytes had been read.
    pub(super) fn skip_bytes(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn take(&mut self, count: usize) -> Option<&'s [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn take_length(&mut self, width: usize) -> Option<usize> {
        let bytes = self.take(width)?;
        let value = bytes.iter().rev().fold(0u32, |value, byte| (value << 8) | u32::from(*byte));
        usize::try_from(value).ok()
    }
}

impl<'s> Iterator for Instructions<'s> {
    type Item = Result<Instruction<'s>, TruncatedPush>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&opcode, rest) = self.rest.split_first()?;
        self.rest = rest;
        let length = match opcode {
            0..OP_PUSHDATA1 => Some(usize::from(opcode)),
            OP_PUSHDATA1 => self.take_length(1),
            OP_PUSHDATA2 => self.take_length(2),
            OP_PUSHDATA4 => self.take_length(4),
            _ => return Some(Ok(Instruction { opcode, data: &[] })),
        };
        match length.and_then(|length| self.take(length)) {
            Some(data) => Some(Ok(Instruction { opcode, data })),
            None => {
                self.rest = &[];
                Some(Err(TruncatedPush))
            }
        }
    }
}

/// Whether the script parses and consists of pushes alone. `OP_RESERVED` counts as a push here, as it does in
/// Bitcoin Core; executing it fails anyway.
pub fn is_push_only(script: &[u8]) -> bool {
    Instructions::new(script).all(|read| read.is_ok_and(|instruction| instruction.opcode <= OP_16))
}

/// Whether a script with this opcode in it fails even where the opcode is not executed (CVE-2010-5137).
pub const fn is_disabled(opcode: u8) -> bool {
    matches!(
        opcode,
        OP_CAT
            | OP_SUBSTR
            | OP_LEFT
            | OP_RIGHT
            | OP_INVERT
            | OP_AND
            | OP_OR
            | OP_XOR
            | OP_2MUL
            | OP_2DIV
            | OP_MUL
            | OP_DIV
            | OP_MOD
            | OP_LSHIFT
            | OP_RSHIFT
    )
}

/// BIP 342: the opcodes whose mere presence makes a tapscript succeed.
pub const fn is_op_success(opcode: u8) -> bool {
    matches!(
        opcode,
        80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 187..=254
    )
}

/// Whether `instruction`, a push, is the shortest way to push its data (BIP 62 rule 3).
pub(super) fn is_minimal_push(instruction: &Instruction<'_>) -> bool {
    let opcode = instruction.opcode;
    match *instruction.data {
        [] => opcode == OP_0,
        [1..=16 | 0x81] => false,
        ref data => match data.len() {
            length @ 0..=75 => usize::from(opcode) == length,
            76..=255 => opcode == OP_PUSHDATA1,
            256..=65_535 => opcode == OP_PUSHDATA2,
            _ => true,
        },
    }
}

/// Writes the push of `data` that chooses its opcode by length alone (never `OP_1` and the like): what FindAndDelete
/// looks for and what a nested witness spend must have as its input script.
pub(super) fn push_of(data: &[u8]) -> Vec<u8> {
    let length = data.len();
    let mut push = Vec::with_capacity(length.saturating_add(5));
    match length {
        // Every length in these ranges fits: the casts cannot lose bits.
        0..=75 => push.push(length as u8),
        76..=255 => push.extend([OP_PUSHDATA1, length as u8]),
        256..=65_535 => {
            push.push(OP_PUSHDATA2);
            push.extend((length as u16).to_le_bytes());
        }
        _ => {
            push.push(OP_PUSHDATA4);
            push.extend((length as u32).to_le_bytes());
        }
    }
    push.extend_from_slice(data);
    push
}

/// Writes the push of a number in the one way that scripts push it: an opcode for -1 to 16, else its bytes.
pub fn push_number(value: i64) -> Vec<u8> {
    match value {
        0 => vec![OP_0],
        -1 => vec![OP_1NEGATE],
        // The cast is exact in this range.
        1..=16 => vec![OP_1 + (value as u8 - 1)],
        _ => {
            let number::Encoded { bytes, length } = number::encode(value);
            push_of(bytes.get(..usize::from(length)).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_pushed_by_an_opcode_or_in_as_few_bytes_as_its_sign_allows() {
        for (value, push) in [
            (-1, &[OP_1NEGATE][..]),
            (0, &[OP_0]),
            (1, &[OP_1]),
            (16, &[OP_16]),
            (17, &[1, 17]),
            (-2, &[1, 0x82]),
            (127, &[1, 0x7f]),
            // The highest bit is the sign's, so one byte more.
            (128, &[2, 0x80, 0]),
            (255, &[2, 0xff, 0]),
            (256, &[2, 0, 1]),
            (32_767, &[2, 0xff, 0x7f]),
            (32_768, &[3, 0, 0x80, 0]),
            (8_388_607, &[3, 0xff, 0xff, 0x7f]),
            (8_388_608, &[4, 0, 0, 0x80, 0]),
            (2_147_483_647, &[4, 0xff, 0xff, 0xff, 0x7f]),
            (i64::from(u32::MAX), &[5, 0xff, 0xff, 0xff, 0xff, 0]),
        ] {
            assert_eq!(push_number(value), push, "{value}");
        }
    }

    #[test]
    fn reading_stops_at_a_truncated_push() {
        let read: Vec<_> = Instructions::new(&[OP_DUP, 2, 7, 8, OP_PUSHDATA2, 5, 0, 1]).collect();
        assert_eq!(
            read,
            [
                Ok(Instruction { opcode: OP_DUP, data: &[] }),
                Ok(Instruction { opcode: 2, data: &[7, 8] }),
                Err(TruncatedPush)
            ]
        );
        for script in [&[OP_PUSHDATA1][..], &[OP_PUSHDATA2, 0], &[OP_PUSHDATA4, 255, 255, 255, 255], &[75]] {
            assert_eq!(Instructions::new(script).collect::<Vec<_>>(), [Err(TruncatedPush)]);
        }
    }

    #[test]
    fn a_written_push_reads_back_as_its_data() {
        for length in [0, 1, 75, 76, 255, 256, 65_535, 65_536] {
            let data = vec![0x11; length];
            let script = push_of(&data);
            let read: Vec<_> = Instructions::new(&script).map(|read| read.expect("whole push").data.to_vec()).collect();
            assert_eq!(read, [data]);
        }
    }
}
