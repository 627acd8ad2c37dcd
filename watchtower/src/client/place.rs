//! One channel at one tower: which states it has, and which are on their way.

use std::collections::VecDeque;

use leyden_channels::types::CommitmentNumber;

use super::record::{CoverageRow, Round};
use crate::{
    message::{Backup, BackupBody, SignedHeld},
    receipt::{Digest, Held},
};

/// A channel's coverage at a tower.
#[derive(Clone, Debug, Default)]
pub(super) struct Cover {
    pub round: Round,
    /// `None` until the first backup is to be made.
    pub row: Option<CoverageRow>,
    /// What it has under earlier tags.
    pub earlier: Vec<(Round, CoverageRow)>,
    /// What it says that contradicts us. Not stored: it is found again at the next connection.
    pub trouble: Option<Trouble>,
    pub flow: Flow,
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It knows later states than we do.
    DataIsOld,
    /// It does not have what it signed for.
    HoldsLess,
    /// A backup could not be made.
    NotPrepared,
}

/// Of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    pub opening: Opening,
    /// The first state under this tag, once there is one.
    pub first: Option<CommitmentNumber>,
    /// The next state to be prepared.
    pub next: Option<CommitmentNumber>,
    /// The next one that is expected to be prepared.
    pub expected: Option<CommitmentNumber>,
    /// The past is being prepared.
    pub past: bool,
    /// Of everything up to the last one that was prepared.
    pub digest: Digest,
    pub in_flight: VecDeque<InFlight>,
    /// What the tower said that it has when the connection began.
    pub claimed: Option<SignedHeld>,
    /// It waits for its turn.
    pub waits: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opening {
    #[default]
    No,
    Describing,
    Sent,
    Open,
}

/// A backup that was sent, and the digest with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    pub number: CommitmentNumber,
    pub digest: Digest,
}

/// From where on a channel's backups go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumption {
    /// The tower has nothing, and never had.
    Anew,
    /// After this receipt, which is ours already.
    After(Held),
    /// It signed for what we never heard of: the backups are made again to see whether it has the same ones.
    Check(SignedHeld),
    /// The same, but they cannot be made again: own mode, whose tower is trusted.
    Adopt(SignedHeld),
    HoldsLess,
}

/// What becomes of a prepared backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// It was not asked for.
    Unasked,
    Send,
    /// More of the past follows.
    SendPart,
    /// The tower has it.
    Skip,
    /// The tower has all that it claimed, as we made it.
    Confirmed(SignedHeld),
    /// It has something else.
    Differs,
}

impl Cover {
    pub(super) fn receipt(&self) -> Option<SignedHeld> {
        self.row.as_ref().and_then(|row| row.receipt)
    }

    /// The newest state that it has signed for, under any tag.
    pub(super) fn held(&self) -> Option<CommitmentNumber> {
        let earlier = self.earlier.iter().filter_map(|(_, row)| row.receipt);
        self.receipt().into_iter().chain(earlier).map(|receipt| receipt.held.up_to).max()
    }

    /// What the tower says that it has, against what it signed for.
    pub(super) fn resumption(&self, trusted: bool) -> Resumption {
        match (self.receipt(), self.flow.claimed) {
            (None, None) => Resumption::Anew,
            (None, Some(claimed)) if trusted => Resumption::Adopt(claimed),
            (None, Some(claimed)) => Resumption::Check(claimed),
            (Some(_), None) => Resumption::HoldsLess,
            (Some(receipt), Some(claimed)) => {
                let (has, says) = (receipt.held, claimed.held);
                if says.first != has.first || says.up_to < has.up_to {
                    Resumption::HoldsLess
                } else if says.up_to > has.up_to {
                    Resumption::Check(claimed)
                } else if says.digest == has.digest {
                    Resumption::After(has)
                } else {
                    Resumption::HoldsLess
                }
            }
        }
    }

    /// Goes on from there. What is claimed beyond our own receipt is prepared again, from the row after that.
    pub(super) fn resume(&mut self, from: Resumption) {
        let receipt = self.receipt().map(|receipt| receipt.held);
        let flow = &mut self.flow;
        (flow.first, flow.next, flow.digest) = match (from, receipt) {
            (Resumption::Anew | Resumption::HoldsLess, _) => (None, None, Digest::default()),
            (Resumption::After(held), _) | (Resumption::Check(_), Some(held)) => {
                (Some(held.first), Some(held.up_to.next()), held.digest)
            }
            (Resumption::Check(claimed), None) => {
                (Some(claimed.held.first), Some(claimed.held.first), Digest::default())
            }
            (Resumption::Adopt(SignedHeld { held, .. }), _) => (Some(held.first), Some(held.up_to.next()), held.digest),
        };
        if !matches!(from, Resumption::Check(_)) {
            flow.claimed = None;
        }
        flow.expected = flow.next;
    }

    /// Another tag. What the tower has under the old one stays there.
    pub(super) fn begin_round(&mut self) {
        if let Some(row) = self.row.take() {
            self.earlier.push((self.round, row));
        }
        self.round = Round(self.round.0.saturating_add(1));
        self.flow = Flow { waits: self.flow.waits, ..Flow::default() };
    }

    /// How many states are prepared or on their way.
    pub(super) fn in_flight(&self) -> usize {
        let asked = match (self.flow.expected, self.flow.next) {
            (Some(expected), Some(next)) => next.0.saturating_sub(expected.0) as usize,
            (_, _) => 0,
        };
        asked + usize::from(self.flow.past) + self.flow.in_flight.len()
    }

    pub(super) fn prepared(&mut self, backup: &Backup) -> Prepared {
        let flow = &mut self.flow;
        let number = backup.number;
        match &backup.body {
            BackupBody::OwnPast { more, .. } => {
                if !flow.past {
                    return Prepared::Unasked;
                }
                if *more {
                    return Prepared::SendPart;
                }
                flow.past = false;
                flow.first = Some(number);
                flow.next = Some(number.next());
                flow.digest = Digest::default();
            }
            BackupBody::Blind { .. } | BackupBody::Own { .. } => {
                if flow.expected != Some(number) || flow.next <= Some(number) {
                    return Prepared::Unasked;
                }
            }
        }
        flow.expected = Some(number.next());
        flow.digest = flow.digest.and(&backup.digest());
        match flow.claimed {
            Some(claimed) if number < claimed.held.up_to => Prepared::Skip,
            Some(claimed) if number == claimed.held.up_to => {
                flow.claimed = None;
                if claimed.held.digest == flow.digest { Prepared::Confirmed(claimed) } else { Prepared::Differs }
            }
            Some(_) | None => {
                flow.in_flight.push_back(InFlight { number, digest: flow.digest });
                Prepared::Send
            }
        }
    }

    /// Whether a receipt is about what was sent, and not an old one (`None`).
    pub(super) fn matches(&self, held: &Held) -> Option<bool> {
        if self.receipt().is_some_and(|receipt| held.up_to <= receipt.held.up_to) {
            return None;
        }
        let sent = self.flow.in_flight.iter().find(|one| one.number == held.up_to);
        Some(self.flow.first == Some(held.first) && sent.is_some_and(|one| one.digest == held.digest))
    }

    pub(super) fn acknowledged(&mut self, receipt: SignedHeld) {
        while self.flow.in_flight.front().is_some_and(|one| one.number <= receipt.held.up_to) {
            self.flow.in_flight.pop_front();
        }
        if let Some(row) = &mut self.row {
            row.receipt = Some(receipt);
        }
    }
}
