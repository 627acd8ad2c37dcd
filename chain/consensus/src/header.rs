//! What a header must satisfy on its own and on top of its chain: proof of work, time, version.

use bitcoin::CompactTarget;
use bitcoin::block::Header;

use crate::difficulty::target_from_bits;
use crate::error::HeaderError;
use crate::header_chain::HeaderChain;
use crate::params::Params;

/// How many blocks the median time is taken over.
pub const MEDIAN_TIME_SPAN: u32 = 11;

/// The header's hash meets the target that its bits claim, and the target is one that this network allows.
pub fn check_proof_of_work(header: &Header, params: &Params) -> Result<(), HeaderError> {
    let bits = header.bits;
    let target = target_from_bits(bits).map_err(|_| HeaderError::ImpossibleBits { bits })?;
    if target > params.pow_limit {
        return Err(HeaderError::ImpossibleBits { bits });
    }
    let hash = header.block_hash();
    if target.is_met_by(hash) { Ok(()) } else { Err(HeaderError::ProofOfWork { hash, bits }) }
}

/// The median of the times of the last eleven blocks (fewer at the start), the tip included (BIP 113).
///
/// `None` only if the chain does not have the headers that it claims.
pub fn median_time_past<C: HeaderChain + ?Sized>(chain: &C) -> Option<u32> {
    let tip = chain.tip_height();
    let first = tip.saturating_sub(MEDIAN_TIME_SPAN - 1);
    let times = (first..=tip).map(|height| chain.header_at(height).map(|header| header.time));
    median(times.collect::<Option<Vec<u32>>>()?)
}

/// The middle of some times, the later of two middles.
pub(crate) fn median(mut times: Vec<u32>) -> Option<u32> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// What the chain before asks of a header.
pub(crate) struct Expectation {
    pub(crate) bits: CompactTarget,
    pub(crate) median: u32,
    pub(crate) parent_time: u32,
    pub(crate) height: u32,
}

pub(crate) fn check_against(
    header: &Header,
    expected: &Expectation,
    now: u64,
    params: &Params,
) -> Result<(), HeaderError> {
    if header.bits != expected.bits {
        return Err(HeaderError::WrongBits { expected: expected.bits, got: header.bits });
    }
    let time = header.time;
    if time <= expected.median {
        return Err(HeaderError::TimeNotAfterMedian { median: expected.median, time });
    }
    if let Some(step) = params.max_step_back {
        let earliest = expected.parent_time.saturating_sub(step);
        if time < earliest {
            return Err(HeaderError::TimeStepsBack { earliest, time });
        }
    }
    let latest = now.saturating_add(u64::from(params.max_ahead));
    if u64::from(time) > latest {
        return Err(HeaderError::TimeTooFarAhead { latest, time });
    }
    let minimum = minimum_version(expected.height, params);
    let version = header.version.to_consensus();
    if version < minimum {
        return Err(HeaderError::OutdatedVersion { version, minimum });
    }
    Ok(())
}

/// The lowest block version at a height: BIP 34, 66 and 65 asked for 2, 3 and 4.
pub fn minimum_version(height: u32, params: &Params) -> i32 {
    let active = params.activation;
    if height >= active.bip65 {
        4
    } else if height >= active.bip66 {
        3
    } else if height >= active.bip34 {
        2
    } else {
        i32::MIN
    }
}

/// The earliest time that a block on top of the given chain end may carry.
pub fn earliest_time(median: u32, parent_time: u32, params: &Params) -> u32 {
    let after_median = median.saturating_add(1);
    match params.max_step_back {
        Some(step) => after_median.max(parent_time.saturating_sub(step)),
        None => after_median,
    }
}
