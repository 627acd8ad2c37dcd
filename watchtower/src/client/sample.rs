//! Backups that a tower may be asked to show: a few of each tag, chosen by chance that the tower does not see.
//!
//! ```text
//!   state n is sent ─► one of n chances: its challenge and the answer are kept, in the place of another ─► asked once, at an audit
//! ```
//!
//! A tower that keeps the digest of what it was sent and drops the data passes every audit of digests. The answer to a
//! challenge needs the backup itself. A challenge is used once: a tower could remember its answer.

use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use leyden_channels::types::CommitmentNumber;

use super::record::Sample;
use crate::{
    appointment::ChannelName,
    codec::encode,
    message::{Backup, BackupBody},
    receipt::proof_of_possession,
};

/// Kept of one tag, 40 bytes each: so many audits in a row need no new state between them.
const SAMPLES: usize = 4;

const CHANCE: &[u8] = b"leyden/tower/sample";
const NONCE: &[u8] = b"leyden/tower/challenge";

/// What a tower is asked for a sample.
pub(super) fn challenge(secret: &[u8; 32], channel: &ChannelName, number: CommitmentNumber) -> [u8; 32] {
    keyed(secret, NONCE, channel, number)
}

/// Chooses whether a backup that is sent becomes one of the samples, so that each of the `count` so far is as likely to be one.
pub(super) fn choose(samples: &mut Vec<Sample>, secret: &[u8; 32], backup: &Backup, count: u64) {
    let Backup { channel, number, body } = backup;
    if samples.iter().any(|sample| sample.number == *number) {
        // It is sent again.
        return;
    }
    let [a, b, c, d, e, f, g, h, ..] = keyed(secret, CHANCE, channel, *number);
    let chance = u64::from_be_bytes([a, b, c, d, e, f, g, h]).checked_rem(count).unwrap_or(0);
    let place = match samples.len() {
        len if len < SAMPLES => len,
        _ => match usize::try_from(chance) {
            Ok(place) if place < SAMPLES => place,
            Ok(_) | Err(_) => return,
        },
    };
    let Some(shown) = shown(body, *number) else { return };
    let proof = proof_of_possession(&challenge(secret, channel, *number), &shown);
    let sample = Sample { number: *number, proof };
    match samples.get_mut(place) {
        Some(replaced) => *replaced = sample,
        None => samples.push(sample),
    }
}

/// Over what a tower shows its possession: see [`crate::message::Possession`].
fn shown(body: &BackupBody, number: CommitmentNumber) -> Option<Vec<u8>> {
    match body {
        BackupBody::Blind { .. } => Some(encode(body)),
        BackupBody::Own { secret, .. } => Some(secret.0.to_vec()),
        BackupBody::OwnPast { secrets, .. } => secrets.get(number).map(|secret| secret.0.to_vec()),
    }
}

fn keyed(secret: &[u8; 32], tag: &[u8], channel: &ChannelName, number: CommitmentNumber) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(secret);
    engine.input(tag);
    engine.input(&encode(channel));
    engine.input(&number.0.to_be_bytes());
    Hmac::from_engine(engine).to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        appointment::{ChannelTag, FundingIndex},
        hint::Hint,
    };

    #[test]
    fn every_state_has_the_same_chance_and_a_few_are_kept() {
        let channel = ChannelName { tag: ChannelTag([1; 16]), funding: FundingIndex(0) };
        let backup = |number: u64| {
            let body = BackupBody::Blind { hint: Hint([number as u8; 8]), sealed: vec![1; 20] };
            Backup { channel, number: CommitmentNumber(number), body }
        };
        // In how many of a thousand runs each tenth of a hundred states is among the samples.
        let mut tenths = [0; 10];
        for run in 0..1_000_u32 {
            let mut secret = [0; 32];
            secret[..4].copy_from_slice(&run.to_be_bytes());
            let mut samples = Vec::new();
            for number in 0..100 {
                choose(&mut samples, &secret, &backup(number), number + 1);
                choose(&mut samples, &secret, &backup(number), number + 1);
            }
            assert_eq!(samples.len(), SAMPLES);
            samples.iter().for_each(|sample| tenths[(sample.number.0 / 10) as usize] += 1);
        }
        assert!(tenths.iter().all(|count| (300..500).contains(count)), "{tenths:?}");
    }
}
