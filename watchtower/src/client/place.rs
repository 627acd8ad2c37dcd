//! One channel at one tower: which states it has, and which are on their way.

use std::collections::VecDeque;

use leyden_channels::types::{CommitmentNumber, Height};

use super::{
    record::{CoverageRow, Round, Sample},
    sample,
};
use crate::{
    message::{Backup, BackupBody, RefusalCode, SignedHeld},
    receipt::{Closed, Digest, Held},
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
    pub pauses: Pauses,
    /// Tags that the tower would not take since it took a state.
    pub lost_rounds: u8,
    /// A block at which the channel's funding output was unspent, buried deep enough since.
    pub unspent_at: Option<Height>,
    pub flow: Flow,
}

/// Rounds that may begin because a tower does not take a tag, before it is left alone for a while: one that forgot its clients
/// takes the first, and one with a damaged row too.
const ROUNDS_AT_ONCE: u8 = 3;

/// After so many tags a channel gets no more at a tower.
const LAST_ROUND: Round = Round(u8::MAX);

/// Growing pauses of a channel that a tower refuses, in ticks: from one to some two hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses {
    left: u32,
    last: u32,
}

const LONGEST_PAUSE: u32 = 240;

impl Pauses {
    fn begin(&mut self) {
        self.last = self.last.saturating_mul(2).clamp(1, LONGEST_PAUSE);
        self.left = self.last;
    }

    /// Whether it is over with this tick.
    fn tick(&mut self) -> bool {
        let was_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        was_left && self.left == 0
    }
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It knows later states than we do, and shows that we sent them.
    DataIsOld,
    /// It says that it knows later states than we do, and cannot show it.
    ClaimsMore,
    /// It does not have what it signed for.
    HoldsLess,
    /// It signed for this state, and could not show that it has it.
    NotShown(CommitmentNumber),
    /// It says that the channel is closed.
    Closed(Closed),
    /// It does not take this channel now; it is tried again after a pause.
    Refused(RefusalCode),
    /// It has not taken any of all the names that a channel can have there.
    NoRoundLeft,
    /// A backup could not be made.
    NotPrepared,
}

impl Trouble {
    /// Whether what the tower signed for is not to be relied on.
    pub fn voids_receipts(self) -> bool {
        match self {
            Self::ClaimsMore | Self::HoldsLess | Self::NotShown(_) | Self::Closed(_) => true,
            Self::DataIsOld | Self::Refused(_) | Self::NoRoundLeft | Self::NotPrepared => false,
        }
    }
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
    /// Or that it has of earlier tags.
    pub earlier: Vec<(Round, Held)>,
    /// Or how it says that the channel was closed.
    pub closed: Option<Closed>,
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
    /// It could not show a state when it was asked last.
    NotShown(CommitmentNumber),
    /// It says that the channel is closed.
    Closed(Closed),
    /// By its own receipt it need not have anything any more.
    TermOver(Height),
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
        self.receipts().map(|(_, receipt)| receipt.held.up_to).max()
    }

    /// What the tower says that it has, against what it signed for.
    pub(super) fn resumption(&self, trusted: bool, tip: Height) -> Resumption {
        if let Some(closed) = self.flow.closed {
            return Resumption::Closed(closed);
        }
        if let Some(until) = self.ended(tip) {
            return Resumption::TermOver(until);
        }
        let rows = self.earlier.iter().map(|(_, row)| row).chain(&self.row);
        if let Some(number) = rows.filter_map(|row| row.not_shown).next() {
            return Resumption::NotShown(number);
        }
        let kept = |(round, row): &(Round, CoverageRow)| {
            let says = self.flow.earlier.iter().find(|(of, _)| of == round).map(|(_, held)| *held);
            // Its last acknowledgements may have come too late for us.
            let has = |held: Held| {
                says.is_some_and(|says| says.first == held.first && says.up_to > held.up_to || says == held)
            };
            row.receipt.is_none_or(|receipt| has(receipt.held))
        };
        if !self.earlier.iter().all(kept) {
            return Resumption::HoldsLess;
        }
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
            (Resumption::Anew | Resumption::HoldsLess | Resumption::NotShown(_), _)
            | (Resumption::Closed(_) | Resumption::TermOver(_), _) => (None, None, Digest::default()),
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
        if self.round == LAST_ROUND {
            self.trouble = Some(Trouble::NoRoundLeft);
        }
        self.round = Round(self.round.0.saturating_add(1));
        self.flow = Flow { waits: self.flow.waits, ..Flow::default() };
    }

    /// The tower does not take this tag: another one, but not without end.
    pub(super) fn lose_round(&mut self, code: RefusalCode) {
        self.begin_round();
        self.lost_rounds = self.lost_rounds.saturating_add(1);
        if self.lost_rounds >= ROUNDS_AT_ONCE && self.trouble.is_none() {
            self.refused(code);
        }
    }

    /// The tower does not take this channel now. What was on its way is sent again after the pause, from the last receipt on.
    pub(super) fn refused(&mut self, code: RefusalCode) {
        self.trouble = Some(Trouble::Refused(code));
        self.pauses.begin();
        self.restart();
    }

    /// What was on its way is not: from the last receipt on.
    fn restart(&mut self) {
        self.flow = Flow { waits: self.flow.waits, ..Flow::default() };
        self.resume(match self.receipt() {
            Some(receipt) => Resumption::After(receipt.held),
            None => Resumption::Anew,
        });
    }

    /// A while has passed: whether the channel is tried again.
    pub(super) fn tick(&mut self) -> bool {
        let over = self.pauses.tick();
        match self.trouble {
            Some(Trouble::Refused(_)) if over => {
                self.trouble = None;
                true
            }
            Some(_) | None => false,
        }
    }

    /// It is not tried again before its pause is over, whatever connections come and go.
    pub(super) fn is_paused(&self) -> bool {
        self.pauses.left > 0 && matches!(self.trouble, Some(Trouble::Refused(_)))
    }

    /// The end of the term, if everything that was signed for is beyond it and the tower shows none of it.
    pub(super) fn ended(&self, tip: Height) -> Option<Height> {
        let until = self.receipts().map(|(_, receipt)| receipt.until).max()?;
        let shows = self.flow.claimed.is_some() || !self.flow.earlier.is_empty();
        (until < tip && !shows).then_some(until)
    }

    /// What it signed for under each tag: the newest last.
    pub(super) fn receipts(&self) -> impl Iterator<Item = (Round, SignedHeld)> {
        let current = self.row.iter().map(|row| (self.round, row));
        let all = self.earlier.iter().map(|(round, row)| (*round, row)).chain(current);
        all.filter_map(|(round, row)| Some((round, row.receipt?)))
    }

    /// A backup that is sent may be one that the tower is asked to show later.
    pub(super) fn sample(&mut self, secret: &[u8; 32], backup: &Backup) {
        let first = self.flow.first.unwrap_or(backup.number);
        let count = backup.number.0.saturating_sub(first.0).saturating_add(1);
        if let Some(row) = &mut self.row {
            sample::choose(&mut row.samples, secret, backup, count);
        }
    }

    /// Takes what the tower can be asked to show under each tag, with the row to be written. It has signed for that.
    pub(super) fn take_samples(&mut self) -> Vec<(Round, Sample, CoverageRow)> {
        let current = self.row.as_mut().map(|row| (self.round, row));
        let all = self.earlier.iter_mut().map(|(round, row)| (*round, row)).chain(current);
        let mut taken = Vec::new();
        for (round, row) in all {
            let held = row.receipt.map(|receipt| receipt.held.up_to);
            if let Some(at) = row.samples.iter().position(|sample| Some(sample.number) <= held) {
                taken.push((round, row.samples.swap_remove(at), row.clone()));
            }
        }
        taken
    }

    /// It could not show a state: that stays, with the row to be written.
    pub(super) fn not_shown(&mut self, round: Round, number: CommitmentNumber) -> Option<&CoverageRow> {
        self.trouble = Some(Trouble::NotShown(number));
        let row = match round == self.round {
            true => self.row.as_mut()?,
            false => self.earlier.iter_mut().find(|(of, _)| *of == round).map(|(_, row)| row)?,
        };
        row.not_shown = Some(number);
        Some(row)
    }

    /// The tower shows a receipt for what it has signed for before that binds it for longer: the row to be written.
    pub(super) fn prolong(&mut self, round: Round, receipt: &SignedHeld) -> Option<&CoverageRow> {
        let row = match round == self.round {
            true => self.row.as_mut()?,
            false => self.earlier.iter_mut().find(|(of, _)| *of == round).map(|(_, row)| row)?,
        };
        let known = row.receipt.as_mut()?;
        if known.held != receipt.held || known.until >= receipt.until {
            return None;
        }
        *known = *receipt;
        Some(row)
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
        (self.pauses, self.lost_rounds) = (Pauses::default(), 0);
        if let Some(row) = &mut self.row {
            row.receipt = Some(receipt);
        }
    }
}
