//! Scripts that pass unless something is done to them: pieces that take what they need from the stack, in order.
//!
//! ```text
//!   piece: `<key> CHECKSIGVERIFY`   takes  <signature>      ┐
//!   piece: `SIZE <3> EQUALVERIFY …` takes  <3 bytes>        ├─▶ script, and the items for it, the first on top
//!   …                                                       │
//!   end:   `1`                                              ┘
//! ```

use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};
use leyden_consensus::script::opcodes::*;

use super::keys::{KEYS, Keys};
use super::signature::{Fault, Signature, push_of};
use crate::draw::Draw;

/// Which rules a script runs under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    Legacy,
    WitnessV0,
    Tapscript,
}

/// What lies on the stack when a script starts.
#[derive(Clone, Debug)]
pub enum Item {
    Bytes(Vec<u8>),
    Signature(Signature),
}

/// A script and what it takes.
pub struct Program {
    pub script: Vec<u8>,
    /// The lowest item of the stack first.
    pub items: Vec<Item>,
    /// Where the signature of this item is to be found in the script too, pushed in this form.
    pub embedded: Option<Embedded>,
}

/// A push of a signature in the script that checks it (FindAndDelete).
#[derive(Clone, Copy)]
pub struct Embedded {
    pub offset: usize,
    pub form: EmbeddedForm,
}

#[derive(Clone, Copy, Debug)]
pub enum EmbeddedForm {
    Exact,
    Pushdata1,
    InsideLongerPush,
    Doubled,
}

impl EmbeddedForm {
    /// The bytes that are put into the script; all that they push is dropped again.
    pub fn bytes(self, signature: &[u8]) -> Vec<u8> {
        let exact = push_of(signature);
        match self {
            Self::Exact => [&exact[..], &[OP_DROP]].concat(),
            Self::Pushdata1 => {
                let length = u8::try_from(signature.len()).unwrap_or(0);
                [&[OP_PUSHDATA1, length], signature, &[OP_DROP]].concat()
            }
            Self::InsideLongerPush => [push_of(&[&exact[..], &[7]].concat()), vec![OP_DROP]].concat(),
            Self::Doubled => [&exact[..], &exact, &[OP_2DROP]].concat(),
        }
    }
}

/// Numbers around which rules change.
const NUMBERS: [i64; 17] = [
    0,
    1,
    -1,
    2,
    16,
    17,
    127,
    128,
    -128,
    255,
    256,
    32_767,
    32_768,
    2_147_483_647,
    -2_147_483_647,
    2_147_483_648,
    -2_147_483_648,
];

/// The numbers of a transaction that its scripts can look at.
#[derive(Clone, Copy)]
pub struct Locks {
    pub lock_time: u32,
    pub sequence: u32,
}

pub struct Writer<'d> {
    draw: &'d mut Draw,
    keys: &'d Keys,
    dialect: Dialect,
    locks: Locks,
    script: Vec<u8>,
    opcodes: u32,
    /// Byte offset behind, and opcode position of, the last separator that is executed.
    separator: Option<(usize, u32)>,
    /// The first to be taken first.
    taken: Vec<Item>,
    embedded: Option<Embedded>,
}

impl<'d> Writer<'d> {
    pub fn new(draw: &'d mut Draw, keys: &'d Keys, dialect: Dialect, locks: Locks) -> Self {
        let (script, taken) = (Vec::new(), Vec::new());
        Self { draw, keys, dialect, locks, script, opcodes: 0, separator: None, taken, embedded: None }
    }

    pub fn program(mut self) -> Program {
        for _ in 0..self.draw.within(1, 4) {
            self.piece(0);
        }
        if self.draw.percent(12) {
            self.limit();
        }
        match self.draw.below(30) {
            0 => self.push(&[]),
            1 => self.push(&[0x80]),
            2 => self.push(&[0, 0]),
            3 => self.push(&[0, 1]),
            4 => {}
            5 => [OP_1, OP_1].into_iter().for_each(|opcode| self.op(opcode)),
            _ => self.op(OP_1),
        }
        self.taken.reverse();
        Program { script: self.script, items: self.taken, embedded: self.embedded }
    }

    fn op(&mut self, opcode: u8) {
        self.script.push(opcode);
        self.opcodes += 1;
    }

    fn push(&mut self, data: &[u8]) {
        self.script.extend(push_of(data));
        self.opcodes += 1;
    }

    fn number(&mut self, number: i64) {
        self.script.extend(push_number(number));
        self.opcodes += 1;
    }

    fn take(&mut self, bytes: Vec<u8>) {
        self.taken.push(Item::Bytes(bytes));
    }

    fn take_signature(&mut self, key: usize) {
        let fault = if self.draw.percent(25) { Fault::draw(self.draw) } else { Fault::None };
        let hash_type = match self.draw.below(10) {
            0..=4 => 1,
            5..=7 => self.draw.pick(&[0, 1, 2, 3, 0x81, 0x82, 0x83]),
            _ => self.draw.pick(&[4, 0x1f, 0x21, 0x22, 0x23, 0x43, 0x60, 0x80, 0x84, 0xa2, 0xc3, 0xff]),
        };
        self.taken.push(Item::Signature(Signature { key, hash_type, separator: self.separator, fault }));
    }

    /// The key in the form that the dialect wants, mostly.
    fn push_key(&mut self, key: usize) {
        let bytes = if self.dialect == Dialect::Tapscript {
            match self.draw.below(16) {
                0 => self.keys.compressed(key),
                1 => Vec::new(),
                2 => self.draw.bytes(32),
                3 => self.draw.bytes(1),
                _ => self.keys.x_only(key),
            }
        } else {
            match self.draw.below(20) {
                0..=2 => self.keys.uncompressed(key),
                3 => self.keys.hybrid(key, true),
                4 => self.keys.hybrid(key, false),
                5 => self.draw.bytes(33),
                6 => [&[self.draw.pick(&[0u8, 1, 4, 5, 8])], &self.keys.compressed(key)[1..]].concat(),
                7 => self.keys.x_only(key),
                _ => self.keys.compressed(key),
            }
        };
        self.push(&bytes);
    }

    fn piece(&mut self, depth: usize) {
        match self.draw.below(20) {
            0..=4 => self.check_signature(),
            5 | 6 if self.dialect != Dialect::Tapscript || self.draw.percent(10) => self.check_multisig(),
            5..=7 if self.dialect == Dialect::Tapscript || self.draw.percent(5) => self.check_sig_add(),
            8 => self.check_lock_time(),
            9 => self.check_sequence(),
            10 => self.arithmetic(),
            11 => self.hash(),
            12 => self.size(),
            13 if depth < 3 => self.branch(depth),
            14 => {
                self.op(OP_CODESEPARATOR);
                self.separator = Some((self.script.len(), self.opcodes - 1));
            }
            15 => self.steps(),
            16 if self.dialect == Dialect::Legacy && depth == 0 => self.embed(),
            17 => {
                let opcode = self.draw.pick(&[OP_NOP, OP_NOP1, OP_NOP4, OP_NOP10]);
                self.op(opcode);
            }
            18 if self.draw.percent(30) => {
                let opcode = self.draw.byte();
                self.op(opcode);
            }
            _ => self.check_signature(),
        }
    }

    fn check_signature(&mut self) {
        let key = self.draw.below(KEYS);
        self.take_signature(key);
        self.push_key(key);
        match self.draw.below(6) {
            // A check that fails, and whose failure is wanted.
            0 => {
                let last = self.taken.len() - 1;
                let rest = if self.draw.percent(60) { Vec::new() } else { self.draw.bytes(2) };
                self.taken[last] = Item::Bytes(rest);
                [OP_CHECKSIG, OP_NOT, OP_VERIFY].into_iter().for_each(|opcode| self.op(opcode));
            }
            1 => [OP_CHECKSIG, OP_VERIFY].into_iter().for_each(|opcode| self.op(opcode)),
            _ => self.op(OP_CHECKSIGVERIFY),
        }
    }

    /// `dummy sig… m key… n CHECKMULTISIGVERIFY`
    fn check_multisig(&mut self) {
        let keys = if self.draw.percent(10) { self.draw.pick(&[0, 1, 19, 20, 21]) } else { self.draw.within(1, 4) };
        let signatures = if self.draw.percent(90) { self.draw.within(0, keys.min(4)) } else { keys + 1 };
        let mut signing: Vec<usize> = (0..signatures).map(|index| index % keys.max(1)).collect();
        if self.draw.percent(10) {
            signing.reverse();
        }
        // The last signature is on top.
        for key in signing.into_iter().rev() {
            self.take_signature(key % KEYS);
        }
        let dummy = if self.draw.percent(85) { Vec::new() } else { vec![self.draw.pick(&[0, 1])] };
        self.take(dummy);
        self.number(signatures as i64);
        (0..keys).for_each(|key| self.push_key(key % KEYS));
        self.number(keys as i64);
        self.op(OP_CHECKMULTISIGVERIFY);
    }

    /// Tapscript's way: `0 key CHECKSIGADD … n NUMEQUALVERIFY`.
    fn check_sig_add(&mut self) {
        let keys = self.draw.within(1, 3);
        let mut signed = 0;
        self.op(OP_0);
        for _ in 0..keys {
            let key = self.draw.below(KEYS);
            // CHECKSIGADD takes signature, number and key: the signature comes below the number.
            if self.draw.percent(70) {
                self.take_signature(key);
                signed += 1;
            } else {
                self.take(Vec::new());
            }
            self.op(OP_SWAP);
            self.push_key(key);
            self.op(OP_CHECKSIGADD);
        }
        self.number(signed);
        self.op(OP_NUMEQUALVERIFY);
    }

    fn check_lock_time(&mut self) {
        let lock = i64::from(self.locks.lock_time);
        let number = if self.draw.percent(70) {
            lock + self.draw.pick(&[-1, 0, 0, 1])
        } else {
            self.draw.pick(&[
                0,
                -1,
                499_999_999,
                500_000_000,
                0xffff_ffff,
                0x1_0000_0000,
                0x7f_ffff_ffff,
                0x80_0000_0000,
            ])
        };
        self.number(number);
        [OP_CHECKLOCKTIMEVERIFY, OP_DROP].into_iter().for_each(|opcode| self.op(opcode));
    }

    fn check_sequence(&mut self) {
        let sequence = i64::from(self.locks.sequence);
        let number = match self.draw.below(10) {
            0..=5 => (sequence & 0x40_ffff) + self.draw.pick(&[-1, 0, 0, 1]),
            6 => sequence,
            7 => 1 << 31,
            _ => self.draw.pick(&[
                0,
                -1,
                0xffff,
                0x1_0000,
                0x40_0000,
                0x40_ffff,
                0x8000_0001,
                0x1_0000_0001,
                0x80_0000_0000,
            ]),
        };
        self.number(number);
        [OP_CHECKSEQUENCEVERIFY, OP_DROP].into_iter().for_each(|opcode| self.op(opcode));
    }

    fn arithmetic(&mut self) {
        let (a, b) = (self.draw.pick(&NUMBERS), self.draw.pick(&NUMBERS));
        let (opcode, result) = match self.draw.below(11) {
            0 => (OP_ADD, a + b),
            1 => (OP_SUB, a - b),
            2 => (OP_MIN, a.min(b)),
            3 => (OP_MAX, a.max(b)),
            4 => (OP_BOOLAND, i64::from(a != 0 && b != 0)),
            5 => (OP_BOOLOR, i64::from(a != 0 || b != 0)),
            6 => (OP_NUMNOTEQUAL, i64::from(a != b)),
            7 => (OP_LESSTHAN, i64::from(a < b)),
            8 => (OP_GREATERTHAN, i64::from(a > b)),
            9 => (OP_LESSTHANOREQUAL, i64::from(a <= b)),
            _ => (OP_GREATERTHANOREQUAL, i64::from(a >= b)),
        };
        let off_by = if self.draw.percent(10) { 1 } else { 0 };
        // In the script or from outside, where a number may have any form.
        if self.draw.percent(50) {
            self.number(a);
        } else {
            let mut bytes = number_bytes(a);
            if self.draw.percent(20) {
                lengthen(&mut bytes);
            }
            self.take(bytes);
        }
        self.number(b);
        self.op(opcode);
        if self.draw.percent(50) {
            // Results of five bytes are no numbers any more, but can be compared as bytes.
            self.push(&number_bytes(result + off_by));
            self.op(OP_EQUALVERIFY);
        } else {
            self.number(result + off_by);
            self.op(OP_NUMEQUALVERIFY);
        }
    }

    fn hash(&mut self) {
        let length = self.draw.pick(&[0, 1, 32, 55, 56, 64, 520]);
        let data = self.draw.bytes(length);
        let (opcode, digest) = match self.draw.below(5) {
            0 => (OP_RIPEMD160, ripemd160::Hash::hash(&data).to_byte_array().to_vec()),
            1 => (OP_SHA1, sha1::Hash::hash(&data).to_byte_array().to_vec()),
            2 => (OP_SHA256, sha256::Hash::hash(&data).to_byte_array().to_vec()),
            3 => (OP_HASH160, hash160::Hash::hash(&data).to_byte_array().to_vec()),
            _ => (OP_HASH256, sha256d::Hash::hash(&data).to_byte_array().to_vec()),
        };
        self.take(data);
        self.op(opcode);
        self.push(&digest);
        self.op(OP_EQUALVERIFY);
    }

    fn size(&mut self) {
        let length = if self.draw.percent(40) { self.draw.near(520) } else { self.draw.below(90) };
        let data = self.draw.bytes(length);
        self.take(data);
        self.op(OP_SIZE);
        self.number(length as i64);
        [OP_EQUALVERIFY, OP_DROP].into_iter().for_each(|opcode| self.op(opcode));
    }

    fn branch(&mut self, depth: usize) {
        let truth = self.draw.percent(50);
        let condition = match (truth, self.draw.below(8)) {
            (true, 0) => vec![2],
            (true, 1) => vec![0, 1],
            (true, 2) => vec![1, 0],
            (false, 0) => vec![0],
            (false, 1) => vec![0x80],
            (false, 2) => vec![0, 0x80],
            (true, _) => vec![1],
            (false, _) => Vec::new(),
        };
        self.take(condition);
        let opcode = if self.draw.percent(50) { OP_IF } else { OP_NOTIF };
        self.op(opcode);
        let first = truth == (opcode == OP_IF);
        if first {
            self.piece(depth + 1)
        } else {
            self.never_executed()
        }
        self.op(OP_ELSE);
        if first {
            self.never_executed()
        } else {
            self.piece(depth + 1)
        }
        if self.draw.percent(5) {
            self.op(OP_ELSE);
            if first { self.piece(depth + 1) } else { self.never_executed() }
        }
        if self.draw.percent(97) {
            self.op(OP_ENDIF);
        }
    }

    /// What a branch that is not taken may hold; some of it fails all the same.
    fn never_executed(&mut self) {
        match self.draw.below(16) {
            0 => self.op(OP_CODESEPARATOR),
            1 => self.op(OP_RETURN),
            2 => self.op(OP_RESERVED),
            3 => self.op(OP_VER),
            4 => {
                let opcode = self.draw.pick(&[OP_VERIF, OP_VERNOTIF, OP_CAT, OP_MUL, OP_LSHIFT, OP_INVERT]);
                self.op(opcode);
            }
            5 => {
                let length = self.draw.near(520);
                let data = self.draw.bytes(length);
                self.push(&data);
            }
            6 => {
                [OP_0, OP_IF, OP_ELSE, OP_ENDIF].into_iter().for_each(|opcode| self.op(opcode));
            }
            7 => {
                let opcode = self.draw.byte();
                self.op(opcode);
            }
            8 => [OP_CHECKSIG, OP_CHECKMULTISIG].into_iter().for_each(|opcode| self.op(opcode)),
            9 => self.op(success_or_reserved(self.dialect)),
            _ => self.push(&[1, 2, 3]),
        }
    }

    /// Opcodes in a row whose needs are met; what they leave is dropped.
    fn steps(&mut self) {
        const TABLE: [(u8, usize, i32); 29] = [
            (OP_DUP, 1, 1),
            (OP_2DUP, 2, 2),
            (OP_3DUP, 3, 3),
            (OP_OVER, 2, 1),
            (OP_2OVER, 4, 2),
            (OP_ROT, 3, 0),
            (OP_2ROT, 6, 0),
            (OP_SWAP, 2, 0),
            (OP_2SWAP, 4, 0),
            (OP_TUCK, 2, 1),
            (OP_NIP, 2, -1),
            (OP_DROP, 1, -1),
            (OP_2DROP, 2, -2),
            (OP_DEPTH, 0, 1),
            (OP_SIZE, 1, 1),
            (OP_EQUAL, 2, -1),
            (OP_1ADD, 1, 0),
            (OP_1SUB, 1, 0),
            (OP_NEGATE, 1, 0),
            (OP_ABS, 1, 0),
            (OP_NOT, 1, 0),
            (OP_0NOTEQUAL, 1, 0),
            (OP_ADD, 2, -1),
            (OP_SUB, 2, -1),
            (OP_NUMEQUAL, 2, -1),
            (OP_MIN, 2, -1),
            (OP_MAX, 2, -1),
            (OP_WITHIN, 3, -2),
            (OP_PICK, 1, 0),
        ];
        let mut depth = self.draw.within(1, 6);
        for _ in 0..depth {
            let number = if self.draw.percent(70) { self.draw.below(4) as i64 } else { self.draw.pick(&NUMBERS) };
            self.number(number);
        }
        for _ in 0..self.draw.within(1, 12) {
            let (opcode, needs, change) = TABLE[self.draw.below(TABLE.len())];
            if depth < needs {
                continue;
            }
            if opcode == OP_PICK {
                // Numbers that reach the ends of the stack, or one beyond.
                let at = self.draw.below(depth + 1) as i64 - i64::from(self.draw.percent(3));
                self.number(at);
                let roll = self.draw.percent(50);
                self.op(if roll { OP_ROLL } else { OP_PICK });
                depth = if roll { depth } else { depth + 1 };
                continue;
            }
            self.op(opcode);
            depth = depth.saturating_add_signed(change as isize);
        }
        (0..depth).for_each(|_| self.op(OP_DROP));
    }

    /// A legacy signature that is pushed by the script that checks it.
    fn embed(&mut self) {
        if self.embedded.is_some() {
            return;
        }
        let key = self.draw.below(KEYS);
        self.take_signature(key);
        let form = self.draw.pick(&[
            EmbeddedForm::Exact,
            EmbeddedForm::Pushdata1,
            EmbeddedForm::InsideLongerPush,
            EmbeddedForm::Doubled,
        ]);
        self.embedded = Some(Embedded { offset: self.script.len(), form });
        let compressed = self.keys.compressed(key);
        self.push(&compressed);
        self.op(OP_CHECKSIGVERIFY);
    }

    /// One signature checked again and again, until the witness's weight allows no more (BIP 342), or nearly.
    fn signature_budget(&mut self) {
        let key = self.draw.below(KEYS);
        self.taken.push(Item::Signature(Signature {
            key,
            hash_type: 1,
            separator: self.separator,
            fault: Fault::None,
        }));
        let x_only = self.keys.x_only(key);
        self.push(&x_only);
        for _ in 0..self.draw.within(2, 16) {
            [OP_2DUP, OP_CHECKSIGVERIFY].into_iter().for_each(|opcode| self.op(opcode));
        }
        // Fifty bytes more or less are one check.
        let length = self.draw.below(60);
        let data = self.draw.bytes(length);
        self.push(&data);
        [OP_2DROP, OP_DROP].into_iter().for_each(|opcode| self.op(opcode));
    }

    /// Up to a limit, or one beyond.
    fn limit(&mut self) {
        match self.draw.below(5) {
            _ if self.dialect == Dialect::Tapscript && self.draw.percent(40) => self.signature_budget(),
            0 => {
                let counted = counted_opcodes(&self.script);
                let goal = self.draw.near(201);
                (counted..goal).for_each(|_| self.op(OP_NOP));
            }
            1 => {
                // With the opcode that still follows.
                let goal = self.draw.near(10_000) - 1;
                while self.script.len() + 600 < goal {
                    let data = self.draw.bytes(500);
                    self.push(&data);
                    self.op(OP_DROP);
                }
                while self.script.len() < goal {
                    // A push of n bytes takes n + 1, or n + 2 from 76 bytes on, and its drop one more.
                    match goal - self.script.len() {
                        1 => self.op(OP_NOP),
                        room => {
                            let data = self.draw.bytes(room.min(75).saturating_sub(2));
                            self.push(&data);
                            self.op(OP_DROP);
                        }
                    }
                }
            }
            2 => {
                // Items above those which earlier pieces have left: none.
                let goal = self.draw.near(1_000);
                (0..goal).for_each(|_| self.op(OP_1));
                if self.dialect == Dialect::Tapscript || self.draw.percent(30) {
                    (0..goal / 2).for_each(|_| self.op(OP_2DROP));
                    if goal % 2 == 1 {
                        self.op(OP_DROP);
                    }
                }
            }
            _ => {
                let length = self.draw.near(520);
                let data = self.draw.bytes(length);
                self.push(&data);
                self.op(OP_DROP);
            }
        }
    }
}

fn success_or_reserved(dialect: Dialect) -> u8 {
    if dialect == Dialect::Tapscript { 0xbb } else { OP_RESERVED }
}

/// Opcodes that count against the limit, without the keys of multisigs.
fn counted_opcodes(script: &[u8]) -> usize {
    Instructions::new(script).filter(|read| read.is_ok_and(|instruction| instruction.opcode > OP_16)).count()
}

/// A number in its shortest form.
fn number_bytes(number: i64) -> Vec<u8> {
    match push_number(number)[..] {
        [OP_0] => Vec::new(),
        [OP_1NEGATE] => vec![0x81],
        [opcode @ OP_1..=OP_16] => vec![opcode - OP_1 + 1],
        ref push => push[1..].to_vec(),
    }
}

/// The same number in one byte more.
fn lengthen(bytes: &mut Vec<u8>) {
    let sign = bytes.last_mut().map_or(0, |last| {
        let sign = *last & 0x80;
        *last &= 0x7f;
        sign
    });
    bytes.push(sign);
}
