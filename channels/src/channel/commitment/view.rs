//! What a commitment would be with all that is proposed for it, kept while updates gather: else each HTLC that comes would
//! build it anew out of all that came before.
//!
//! Only offers are measured by it. What is signed is always built from the commitment and the lists.

use super::changes::Update;
use super::limits::{self, CannotAdd};
use super::spec::{CommitmentSpec, Htlc};
use crate::channel::error::{Invariant, ProtocolViolation};
use crate::channel::terms::Terms;
use crate::types::{CommitmentNumber, Side};

/// A commitment, reduced with what is on its way into it.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The commitment that it began with.
    base: CommitmentNumber,
    /// How many updates of either list it has: the lists only grow while `base` is the latest commitment.
    acked: usize,
    proposed: usize,
    spec: CommitmentSpec,
}

/// Both, if they are known. They are worked out again after anything that does more than add to the lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views {
    pub(super) local: Option<View>,
    pub(super) remote: Option<View>,
}

/// A cache is no part of a channel's state.
impl PartialEq for Views {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl View {
    /// Whether the lists, of these lengths, have only grown at their end since.
    pub(super) fn leads_to(&self, base: CommitmentNumber, acked: usize, proposed: usize) -> bool {
        self.base == base && self.acked == acked && self.proposed <= proposed
    }

    pub(super) const fn new(base: CommitmentNumber, acked: usize, proposed: usize, spec: CommitmentSpec) -> Self {
        Self { base, acked, proposed, spec }
    }

    /// Takes in what `by` has proposed since; the view of how all of it leaves the commitment.
    pub(super) fn follow(&mut self, by: Side, proposed: &[Update]) -> Result<&CommitmentSpec, Invariant> {
        for update in proposed.get(self.proposed..).unwrap_or_default() {
            self.spec.apply(by, update)?;
        }
        self.proposed = proposed.len();
        Ok(&self.spec)
    }

    /// Adds an HTLC of ours, which the caller appends to the list; the inner error is a refusal, and changes nothing.
    pub(super) fn offer(
        &mut self,
        htlc: Htlc,
        terms: &Terms,
        admit: impl FnOnce(&Htlc) -> Result<(), CannotAdd>,
    ) -> Result<Result<(), CannotAdd>, Invariant> {
        match self.spec.add(htlc) {
            Ok(()) => {}
            Err(Invariant::Overdraft { side: Side::Local, balance, .. }) => {
                return Ok(Err(CannotAdd::Balance { balance, needed: htlc.amount }));
            }
            Err(invariant) => return Err(invariant),
        }
        let checked = limits::check_offer(&self.spec, terms).and_then(|()| admit(&htlc));
        match checked {
            Ok(()) => self.proposed += 1,
            Err(_) => self.spec.remove(htlc.key(), htlc.offered_by)?,
        }
        Ok(checked)
    }

    /// Adds an HTLC of the peer's, which the caller appends to the list. After an error the view is of no use.
    pub(super) fn receive(&mut self, htlc: Htlc, terms: &Terms) -> Result<Result<(), ProtocolViolation>, Invariant> {
        match self.spec.add(htlc) {
            Ok(()) => {}
            Err(Invariant::Overdraft { side: Side::Remote, balance, .. }) => {
                return Ok(Err(ProtocolViolation::CannotAfford { balance, needed: htlc.amount }));
            }
            Err(invariant) => return Err(invariant),
        }
        self.proposed += 1;
        Ok(limits::check_receive(&self.spec, terms))
    }
}
