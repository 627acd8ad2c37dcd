//! What a commitment transaction pays, as a reduction: balances and HTLCs = reduce(earlier ones, updates).
//!
//! Promises: nothing is lost or made: both balances and all HTLCs add up to the same total before and after
//! [`CommitmentSpec::reduce`]. Fees and anchors are not known here; they come out of the funder's balance when the transaction
//! is built (BOLT 3, Fee Payment).

use crate::types::{CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentHash, Side};

use super::changes::Update;
use crate::channel::Sides;
use crate::channel::error::Invariant;

/// An HTLC as both commitment transactions know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Htlc {
    /// Who pays.
    pub offered_by: Side,
    /// The number that its offerer gave it.
    pub id: HtlcId,
    /// What it moves.
    pub amount: Msat,
    /// The hash whose preimage claims it.
    pub payment_hash: PaymentHash,
    /// The height from which its offerer may take it back.
    pub cltv_expiry: CltvExpiry,
}

impl Htlc {
    /// The name of the HTLC in its channel.
    pub const fn key(&self) -> HtlcKey {
        HtlcKey { offered_by: self.offered_by, id: self.id }
    }
}

/// The name of an HTLC in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HtlcKey {
    /// Who pays.
    pub offered_by: Side,
    /// The number that its offerer gave it: each side counts its own from 0.
    pub id: HtlcId,
}

/// What one commitment transaction pays to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentSpec {
    /// What each side has, HTLCs taken out and before fees.
    pub balance: Sides<Msat>,
    /// What the opener pays for the commitment transaction and second stages.
    pub feerate: FeeratePerKw,
    /// In the order of their keys, each once.
    htlcs: Vec<Htlc>,
}

impl CommitmentSpec {
    /// Without HTLCs.
    pub const fn new(balance: Sides<Msat>, feerate: FeeratePerKw) -> Self {
        Self { balance, feerate, htlcs: Vec::new() }
    }

    /// `None` if an HTLC occurs twice.
    pub fn with_htlcs(balance: Sides<Msat>, feerate: FeeratePerKw, mut htlcs: Vec<Htlc>) -> Option<Self> {
        htlcs.sort_unstable_by_key(Htlc::key);
        let twice = htlcs.windows(2).any(|pair| matches!(pair, [a, b] if a.key() == b.key()));
        (!twice).then_some(Self { balance, feerate, htlcs })
    }

    /// All HTLCs, in the order of their keys.
    pub fn htlcs(&self) -> &[Htlc] {
        &self.htlcs
    }

    /// The HTLC with this key.
    pub fn htlc(&self, key: HtlcKey) -> Option<&Htlc> {
        self.position(key).ok().and_then(|at| self.htlcs.get(at))
    }

    /// The HTLCs that `side` pays.
    pub fn offered_by(&self, side: Side) -> impl Iterator<Item = &Htlc> {
        self.htlcs.iter().filter(move |htlc| htlc.offered_by == side)
    }

    /// Both balances and every HTLC: the capacity of the channel.
    pub fn total(&self) -> Option<Msat> {
        let balances = self.balance.local.checked_add(self.balance.remote)?;
        self.htlcs.iter().try_fold(balances, |sum, htlc| sum.checked_add(htlc.amount))
    }

    /// This state after the updates of both sides. Removals come first, so that an HTLC may spend what another one
    /// gave back.
    pub fn reduce<'a>(
        &self,
        local: impl Iterator<Item = &'a Update> + Clone,
        remote: impl Iterator<Item = &'a Update> + Clone,
    ) -> Result<Self, Invariant> {
        let mut next = self.clone();
        let updates = local.map(|update| (Side::Local, update)).chain(remote.map(|update| (Side::Remote, update)));
        for (by, update) in updates.clone().filter(|(_, update)| update.adds().is_none()) {
            next.apply(by, update)?;
        }
        for (by, update) in updates.filter(|(_, update)| update.adds().is_some()) {
            next.apply(by, update)?;
        }
        Ok(next)
    }

    /// Changes this state by one update that `by` has sent. After an error nothing has changed.
    pub(super) fn apply(&mut self, by: Side, update: &Update) -> Result<(), Invariant> {
        match update {
            Update::Add(htlc) => self.add(*htlc),
            Update::Fulfill { id, .. } => self.remove(HtlcKey { offered_by: by.other(), id: *id }, by),
            Update::Fail { id, .. } | Update::FailMalformed { id, .. } => {
                self.remove(HtlcKey { offered_by: by.other(), id: *id }, by.other())
            }
            Update::Fee(feerate) => {
                self.feerate = *feerate;
                Ok(())
            }
        }
    }

    pub(super) fn add(&mut self, htlc: Htlc) -> Result<(), Invariant> {
        let Err(at) = self.position(htlc.key()) else {
            return Err(Invariant::HtlcTwice(htlc.key()));
        };
        let balance = self.balance.of_mut(htlc.offered_by);
        *balance = balance.checked_sub(htlc.amount).ok_or(Invariant::Overdraft {
            side: htlc.offered_by,
            balance: *balance,
            htlc: htlc.amount,
        })?;
        self.htlcs.insert(at, htlc);
        Ok(())
    }

    /// Ends an HTLC, in favour of `to`.
    pub(super) fn remove(&mut self, key: HtlcKey, to: Side) -> Result<(), Invariant> {
        let at = self.position(key).map_err(|_| Invariant::HtlcMissing(key))?;
        let amount = self.htlcs.get(at).map(|htlc| htlc.amount).ok_or(Invariant::HtlcMissing(key))?;
        let balance = self.balance.of_mut(to);
        *balance = balance.checked_add(amount).ok_or(Invariant::Overflow)?;
        self.htlcs.remove(at);
        Ok(())
    }

    fn position(&self, key: HtlcKey) -> Result<usize, usize> {
        self.htlcs.binary_search_by_key(&key, Htlc::key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PaymentPreimage;

    fn htlc(offered_by: Side, id: u64, amount: u64) -> Htlc {
        Htlc {
            offered_by,
            id: HtlcId(id),
            amount: Msat(amount),
            payment_hash: PaymentHash([id as u8; 32]),
            cltv_expiry: CltvExpiry(500),
        }
    }

    fn start() -> CommitmentSpec {
        CommitmentSpec::new(Sides { local: Msat(600), remote: Msat(400) }, FeeratePerKw(253))
    }

    fn reduce(spec: &CommitmentSpec, local: &[Update], remote: &[Update]) -> Result<CommitmentSpec, Invariant> {
        let next = spec.reduce(local.iter(), remote.iter())?;
        assert_eq!(next.total(), spec.total());
        Ok(next)
    }

    #[test]
    fn a_fulfilled_htlc_pays_the_receiver_and_a_failed_one_goes_back() {
        let spec = reduce(
            &start(),
            &[Update::Add(htlc(Side::Local, 0, 100)), Update::Add(htlc(Side::Local, 1, 50))],
            &[Update::Add(htlc(Side::Remote, 0, 30))],
        )
        .unwrap();
        assert_eq!(spec.balance, Sides { local: Msat(450), remote: Msat(370) });
        assert_eq!(spec.offered_by(Side::Local).count(), 2);

        let fulfil = Update::Fulfill { id: HtlcId(0), preimage: PaymentPreimage([0; 32]) };
        let fail = Update::Fail { id: HtlcId(1), reason: vec![] };
        let after = reduce(&spec, std::slice::from_ref(&fulfil), &[fulfil.clone(), fail]).unwrap();
        assert_eq!(after.balance, Sides { local: Msat(530), remote: Msat(470) });
        assert!(after.htlcs().is_empty());
    }

    #[test]
    fn an_htlc_may_spend_what_a_removal_of_the_same_commitment_gave_back() {
        let spec = reduce(&start(), &[Update::Add(htlc(Side::Local, 0, 600))], &[]).unwrap();
        let fail = Update::Fail { id: HtlcId(0), reason: vec![] };
        let after = reduce(&spec, &[Update::Add(htlc(Side::Local, 1, 600))], &[fail]).unwrap();
        assert_eq!(after.balance, Sides { local: Msat(0), remote: Msat(400) });
    }

    #[test]
    fn an_overdraft_a_double_and_a_missing_htlc_are_our_bugs() {
        let overdraft = reduce(&start(), &[], &[Update::Add(htlc(Side::Remote, 0, 401))]);
        assert!(matches!(overdraft, Err(Invariant::Overdraft { side: Side::Remote, .. })));
        let add = Update::Add(htlc(Side::Remote, 0, 1));
        assert!(matches!(reduce(&start(), &[], &[add.clone(), add]), Err(Invariant::HtlcTwice(_))));
        let fail = Update::Fail { id: HtlcId(9), reason: vec![] };
        assert!(matches!(reduce(&start(), &[fail], &[]), Err(Invariant::HtlcMissing(_))));
    }
}
