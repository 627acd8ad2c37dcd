//! Small changes to inputs, the same for the same seed.

/// SplitMix64: a run is its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// Values at which lengths, counts and flags change their meaning.
const INTERESTING: [u8; 10] = [0, 1, 2, 0x20, 0x7f, 0x80, 0xfc, 0xfd, 0xfe, 0xff];

/// An input with one to four changes: a byte or a bit, a piece left out, repeated or moved, a piece of `other`, the end
/// cut off or something new there.
pub fn mutate(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 => replace(&mut bytes, at, random.byte()),
            1 => replace(&mut bytes, at, INTERESTING[random.below(INTERESTING.len())]),
            2 => {
                let bit = 1 << random.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bit;
                }
            }
            3 => drop(bytes.drain(at.min(end)..end)),
            4 => {
                let piece = bytes[at.min(end)..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => {
                let from = random.below(other.len());
                let piece = other.iter().skip(from).take(1 + random.below(64)).copied().collect::<Vec<_>>();
                bytes.splice(at..at, piece);
            }
            6 => bytes.truncate(at),
            _ => bytes.extend((0..random.below(12)).map(|_| random.byte())),
        }
    }
    bytes
}

fn replace(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}
