//! Under which terms a channel forwards, and how much one neighbour may have on its way through us.
//!
//! A channel's terms are announced in its `channel_update` (BOLT 7) and hold for HTLCs that leave through it. After a
//! change, the earlier ones hold beside the new ones for a while ([`super::grace`]).
//!
//! **Jamming.** HTLCs that never end cost their sender nothing and us a slot. So the HTLCs that one neighbour sends us
//! may take only a share ([`Limits`]) of the slots and of the capacity of each channel that they leave through; the
//! rest stays for others. A channel with few slots leaves everybody at least one. What is too small for an output of
//! its own is bounded by the channel core (`max_dust_exposure`), and what is in flight on a channel by its own limits.

use crate::channel::RestoreError;
use crate::margins::{MAX_HTLC_CLTV, OFFERED_GRACE, RECEIVED_MARGIN};
use crate::types::{CltvExpiry, Height, Msat};
use crate::wire::bigsize;
use crate::wire::codec::{DecodeError, Field as _, Reader};

/// The fewest blocks between an incoming and an outgoing HTLC that leave time to claim the one after losing the other:
/// our channels wait for the peer after the outgoing expiry, and close some blocks before the incoming one.
pub const MIN_CLTV_EXPIRY_DELTA: u16 = (OFFERED_GRACE + RECEIVED_MARGIN + 3) as u16;
/// An outgoing HTLC must live longer than this: our channel closes that many blocks after its expiry.
pub(super) const MIN_OUTGOING_BLOCKS: u32 = OFFERED_GRACE;

/// The terms of a channel, for HTLCs that leave through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardPolicy {
    /// What each HTLC pays.
    pub base_fee: Msat,
    /// Parts per million of the forwarded amount.
    pub fee_ppm: u32,
    /// Blocks between the expiries of incoming and outgoing HTLC.
    pub cltv_expiry_delta: u16,
    /// The smallest HTLC.
    pub htlc_minimum: Msat,
    /// `None`: what the channel can carry.
    pub htlc_maximum: Option<Msat>,
    /// Whether HTLCs may leave through this channel at all.
    pub enabled: bool,
}

impl Default for ForwardPolicy {
    fn default() -> Self {
        Self {
            base_fee: Msat(1_000),
            fee_ppm: 1,
            cltv_expiry_delta: 80,
            htlc_minimum: Msat(1),
            htlc_maximum: None,
            enabled: true,
        }
    }
}

/// Terms that nobody should set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum PolicyError {
    #[error("a cltv_expiry_delta of {0} leaves too little time to claim an HTLC: use at least {MIN_CLTV_EXPIRY_DELTA}")]
    DeltaTooSmall(u16),
    #[error("a base fee of {0} does not fit a channel_update: use less than 2^32 msat")]
    BaseFeeTooLarge(Msat),
    #[error("the smallest HTLC of {minimum} is above the largest of {maximum}")]
    Empty { minimum: Msat, maximum: Msat },
}

impl ForwardPolicy {
    /// What we keep of an HTLC that hands on `amount` (BOLT 7, HTLC Fees). `None`: more than any HTLC carries.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let share = u128::from(amount.0) * u128::from(self.fee_ppm) / 1_000_000;
        self.base_fee.checked_add(Msat(u64::try_from(share).ok()?))
    }

    /// The expiry that an incoming HTLC must have at least.
    pub fn incoming_expiry(&self, outgoing: CltvExpiry) -> Option<CltvExpiry> {
        outgoing.0.checked_add(u32::from(self.cltv_expiry_delta)).map(CltvExpiry)
    }

    /// Whether a channel may have these terms.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.cltv_expiry_delta < MIN_CLTV_EXPIRY_DELTA {
            return Err(PolicyError::DeltaTooSmall(self.cltv_expiry_delta));
        }
        if self.base_fee > Msat(u64::from(u32::MAX)) {
            return Err(PolicyError::BaseFeeTooLarge(self.base_fee));
        }
        match self.htlc_maximum {
            Some(maximum) if maximum < self.htlc_minimum => {
                Err(PolicyError::Empty { minimum: self.htlc_minimum, maximum })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(self.base_fee.0, out);
        put(u64::from(self.fee_ppm), out);
        self.cltv_expiry_delta.write(out);
        put(self.htlc_minimum.0, out);
        match self.htlc_maximum {
            None => out.push(0),
            Some(maximum) => {
                out.push(1);
                put(maximum.0, out);
            }
        }
        out.push(u8::from(self.enabled));
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            base_fee: Msat(number(reader)?),
            fee_ppm: u32::try_from(number(reader)?).unwrap_or(u32::MAX),
            cltv_expiry_delta: reader.field()?,
            htlc_minimum: Msat(number(reader)?),
            htlc_maximum: match reader.field::<u8>()? {
                0 => None,
                _ => Some(Msat(number(reader)?)),
            },
            enabled: reader.field::<u8>()? != 0,
        })
    }
}

/// The format that the records of the switch begin with, except those that say otherwise.
pub(super) const FORMAT: u8 = 1;

pub(super) fn put(number: u64, out: &mut Vec<u8>) {
    bigsize::write(number, out);
}

pub(super) fn number(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    reader.bigsize()
}

/// Reads a record of the switch whose newest format is `known`; `read` is told the one that it finds.
pub(super) fn decode<T>(
    what: &'static str,
    bytes: &[u8],
    known: u8,
    read: impl FnOnce(&mut Reader<'_>, u8) -> Result<T, DecodeError>,
) -> Result<T, RestoreError> {
    let damaged = |error: DecodeError| RestoreError::Damaged { what, why: error.to_string() };
    let mut reader = Reader::new(bytes);
    match reader.field::<u8>().map_err(damaged)? {
        0 => Err(RestoreError::Damaged { what, why: "a format number of 0".to_owned() }),
        found if found > known => Err(RestoreError::Newer { found, known }),
        found => {
            let value = read(&mut reader, found).map_err(damaged)?;
            reader.finish().map_err(damaged)?;
            Ok(value)
        }
    }
}

/// How much of a channel the HTLCs of one neighbour may take, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the HTLCs that we may offer over the channel at once.
    pub slots_percent: u8,
    /// Of the channel's capacity. Everything by default: a jam of large HTLCs costs a jammer as much liquidity as us,
    /// and a large payment should not fail because of a rule.
    pub value_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { slots_percent: 50, value_percent: 100 }
    }
}

impl Limits {
    pub(super) fn slots(&self, of: u16) -> usize {
        (usize::from(of) * usize::from(self.slots_percent.min(100)) / 100).max(1)
    }

    pub(super) fn value(&self, of: Msat) -> Msat {
        let share = u128::from(of.0) * u128::from(self.value_percent.min(100)) / 100;
        Msat(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// Whether an HTLC that expires then is too close to the tip to be offered.
pub(super) fn is_too_soon(outgoing: CltvExpiry, tip: Height) -> bool {
    outgoing.0 <= tip.0.saturating_add(MIN_OUTGOING_BLOCKS)
}

/// Whether an HTLC that expires then would lock coins for too long.
pub(super) fn is_too_far(incoming: CltvExpiry, tip: Height) -> bool {
    incoming.0 > tip.0.saturating_add(MAX_HTLC_CLTV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fee_is_a_base_and_a_share() {
        let policy = ForwardPolicy { base_fee: Msat(200), fee_ppm: 2_000, ..ForwardPolicy::default() };
        // BOLT 7's example: 4,999,999 msat at 200 + 2000 ppm.
        assert_eq!(policy.fee(Msat(4_999_999)), Some(Msat(10_199)));
        let greedy = ForwardPolicy { base_fee: Msat(1), fee_ppm: u32::MAX, ..policy };
        assert_eq!(greedy.fee(Msat(u64::MAX)), None);
    }

    #[test]
    fn terms_that_would_lose_money_are_refused() {
        let policy = ForwardPolicy::default();
        assert_eq!(policy.check(), Ok(()));
        let hasty = ForwardPolicy { cltv_expiry_delta: 17, ..policy };
        assert_eq!(hasty.check(), Err(PolicyError::DeltaTooSmall(17)));
        let large = ForwardPolicy { base_fee: Msat(1 << 32), ..policy };
        assert_eq!(large.check(), Err(PolicyError::BaseFeeTooLarge(Msat(1 << 32))));
        let empty = ForwardPolicy { htlc_minimum: Msat(2), htlc_maximum: Some(Msat(1)), ..policy };
        assert_eq!(empty.check(), Err(PolicyError::Empty { minimum: Msat(2), maximum: Msat(1) }));
    }
}
