//! The terms that a channel forwards under: the present ones, and for a while those before.
//!
//! ```text
//!   set_policy ──► present ──┐
//!                            ├──► an HTLC that meets any of them as a whole is forwarded
//!   what it replaces ────────┘
//!     for GRACE_SECONDS
//! ```
//!
//! News of new terms travel, and payments are on their way meanwhile: BOLT 7 (HTLC Fees) asks nodes to accept what older
//! terms allow for a reasonable time. Whether a channel is to be used at all is no such term: to disable it counts at
//! once. Earlier terms were checked as the present ones were, so what they allow leaves time to claim an HTLC too.

use super::policy::{ForwardPolicy, decode, number, put};
use crate::channel::RestoreError;
use crate::types::{CltvExpiry, Msat, UnixTime};

/// For how long earlier terms hold beside the present ones, in seconds: ten minutes. An update reaches most of the
/// network within a few minutes, and payers plan over what they knew when they began.
pub const GRACE_SECONDS: u64 = 600;

/// The most earlier terms that are kept: whoever changes them more often within the grace loses the oldest.
const MOST_EARLIER: usize = 16;

/// An HTLC as the terms of the channel that it leaves through see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardedHtlc {
    pub incoming_amount: Msat,
    pub incoming_expiry: CltvExpiry,
    pub amount: Msat,
    pub expiry: CltvExpiry,
}

/// What an HTLC lacks of a policy, the first in BOLT 4's order (Requirements of Failure Messages).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyViolation {
    Minimum,
    Fee,
    Delta,
    Maximum,
}

/// The terms of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForwardPolicies {
    pub present: ForwardPolicy,
    /// The latest first.
    earlier: Vec<Earlier>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Earlier {
    policy: ForwardPolicy,
    until: UnixTime,
}

impl ForwardPolicies {
    pub(super) fn new(present: ForwardPolicy) -> Self {
        Self { present, earlier: Vec::new() }
    }

    /// From now on `present` holds, and for a while what it replaces.
    pub(super) fn changed(mut self, present: ForwardPolicy, now: UnixTime) -> Self {
        self.earlier.retain(|earlier| now < earlier.until);
        if present != self.present {
            let until = UnixTime(now.0.saturating_add(GRACE_SECONDS));
            self.earlier.insert(0, Earlier { policy: self.present, until });
            self.earlier.truncate(MOST_EARLIER);
        }
        Self { present, ..self }
    }

    /// Whether an HTLC may leave through the channel under present terms, or under earlier ones that hold still.
    /// `capacity` is the most where terms name none.
    pub(super) fn met(&self, passing: &ForwardedHtlc, capacity: Msat, now: UnixTime) -> Result<(), PolicyViolation> {
        let earlier = self.earlier.iter().filter(|earlier| now < earlier.until);
        if earlier.clone().any(|earlier| lack(&earlier.policy, passing, capacity).is_none()) {
            return Ok(());
        }
        lack(&self.present, passing, capacity).map_or(Ok(()), Err)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        self.present.put(&mut out);
        put(self.earlier.len() as u64, &mut out);
        for Earlier { policy, until } in &self.earlier {
            policy.put(&mut out);
            put(until.0, &mut out);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RestoreError> {
        decode("forwarding policy", bytes, FORMAT, |reader, format| {
            let mut policies = Self::new(ForwardPolicy::take(reader)?);
            // Format 1 had the present terms alone.
            let earlier = if format < 2 { 0 } else { number(reader)? };
            for _ in 0..earlier {
                let policy = ForwardPolicy::take(reader)?;
                policies.earlier.push(Earlier { policy, until: UnixTime(number(reader)?) });
            }
            Ok(policies)
        })
    }
}

/// The format of a channel's row.
const FORMAT: u8 = 2;

fn lack(policy: &ForwardPolicy, passing: &ForwardedHtlc, capacity: Msat) -> Option<PolicyViolation> {
    let ForwardedHtlc { incoming_amount, incoming_expiry, amount, expiry } = *passing;
    if amount < policy.htlc_minimum {
        return Some(PolicyViolation::Minimum);
    }
    let needed = policy.fee(amount).and_then(|fee| amount.checked_add(fee));
    if needed.is_none_or(|needed| incoming_amount < needed) {
        return Some(PolicyViolation::Fee);
    }
    if policy.incoming_expiry(expiry).is_none_or(|needed| incoming_expiry < needed) {
        return Some(PolicyViolation::Delta);
    }
    (amount > policy.htlc_maximum.unwrap_or(capacity)).then_some(PolicyViolation::Maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000_000);
    const CAPACITY: Msat = Msat(1_000_000_000);

    fn terms(base_fee: u64, cltv_expiry_delta: u16) -> ForwardPolicy {
        ForwardPolicy { base_fee: Msat(base_fee), fee_ppm: 0, cltv_expiry_delta, ..ForwardPolicy::default() }
    }

    fn passing(fee: u64, delta: u32) -> ForwardedHtlc {
        ForwardedHtlc {
            incoming_amount: Msat(1_000_000 + fee),
            incoming_expiry: CltvExpiry(500 + delta),
            amount: Msat(1_000_000),
            expiry: CltvExpiry(500),
        }
    }

    #[test]
    fn earlier_terms_hold_for_ten_minutes_and_each_as_a_whole() {
        let policies = ForwardPolicies::new(terms(100, 80)).changed(terms(200, 40), NOW);
        let met = |fee, delta, after: u64| policies.met(&passing(fee, delta), CAPACITY, UnixTime(NOW.0 + after));
        assert_eq!(met(100, 80, 599), Ok(()));
        assert_eq!(met(200, 40, 599), Ok(()));
        assert_eq!(met(100, 40, 0), Err(PolicyViolation::Fee), "the fee of the one with the delta of the other");
        assert_eq!(met(100, 80, 600), Err(PolicyViolation::Fee));
        assert_eq!(met(200, 40, 600), Ok(()));
    }

    #[test]
    fn rows_round_trip_with_their_earlier_terms_and_older_rows_are_read() {
        let mut policies = ForwardPolicies::new(terms(1, 80));
        for change in 2..40 {
            policies = policies.changed(terms(change, 80), UnixTime(NOW.0 + change));
        }
        assert_eq!(policies.earlier.len(), MOST_EARLIER);
        assert_eq!(ForwardPolicies::decode(&policies.encode()), Ok(policies.clone()));
        let mut old = vec![1];
        policies.present.put(&mut old);
        assert_eq!(ForwardPolicies::decode(&old), Ok(ForwardPolicies::new(policies.present)));
        assert_eq!(ForwardPolicies::decode(&[3]), Err(RestoreError::Newer { found: 3, known: 2 }));
        assert!(matches!(ForwardPolicies::decode(&[2, 0]), Err(RestoreError::Damaged { .. })));
    }
}
