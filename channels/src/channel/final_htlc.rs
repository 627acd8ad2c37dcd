//! How an HTLC of the peer's has ended, kept for whoever asks later.
//!
//! ```text
//!   removed from both commitments ─────────────► final, off the chain
//!   its channel closed, every output final ────► final, on the chain
//!                                                   └─► one byte under the HTLC's number, if that is wanted
//! ```
//!
//! Of a channel the newest [`FINAL_HTLCS_KEPT`] numbers are kept: a peer chooses how many HTLCs there are.

use super::effect::Effect;
use super::key::Key;
use super::turn::Turn;
use crate::types::{ChannelId, HtlcId};

/// So many numbers back the ends of a channel's HTLCs are kept: some 4 MB on the disk.
pub const FINAL_HTLCS_KEPT: u64 = 100_000;

const SETTLED: u8 = 1;
const ON_CHAIN: u8 = 2;

/// The end of an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalHtlc {
    /// Its amount is ours; otherwise the peer has it back.
    pub settled: bool,
    /// It was decided by a transaction.
    pub on_chain: bool,
}

impl FinalHtlc {
    /// The byte that is stored under [`Key::FinalHtlc`].
    pub fn encode(self) -> Vec<u8> {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        vec![bit(self.settled, SETTLED) | bit(self.on_chain, ON_CHAIN)]
    }

    /// `None` for bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [bits] if bits & !(SETTLED | ON_CHAIN) == 0 => {
                Some(Self { settled: bits & SETTLED != 0, on_chain: bits & ON_CHAIN != 0 })
            }
            _ => None,
        }
    }
}

/// Tells of an end, and has it kept if that is wanted.
pub(super) fn ended(channel: ChannelId, htlc: HtlcId, end: FinalHtlc, turn: &mut Turn<'_>) {
    if turn.ctx.policy.keeps_final_htlcs {
        turn.out.put(Key::FinalHtlc { channel, id: htlc }, end.encode());
        // The numbers of a channel follow one another: each that comes lets one go.
        if let Some(old) = htlc.0.checked_sub(FINAL_HTLCS_KEPT) {
            turn.out.delete(Key::FinalHtlc { channel, id: HtlcId(old) });
        }
    }
    turn.emit(Effect::Final { htlc, end });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_round_trips() {
        for (settled, on_chain) in [(false, false), (false, true), (true, false), (true, true)] {
            let end = FinalHtlc { settled, on_chain };
            assert_eq!(FinalHtlc::decode(&end.encode()), Some(end));
        }
        for strange in [&[][..], &[4], &[1, 1]] {
            assert_eq!(FinalHtlc::decode(strange), None);
        }
    }
}
