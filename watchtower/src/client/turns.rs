//! Whose turn it is at a tower: what is new before what is late, a few states of each channel at a time.

use leyden_channels::types::{ChannelId, CommitmentNumber};

use super::{
    Client,
    event::{ClientOutbox, Effect, Notice, Place, Work},
    keys::tag,
    link::Tower,
    place::{Cover, Opening},
    queue::Queue,
    record::TowerId,
};
use crate::message::Mode;

/// Backups that are being made or on their way to one tower: what it can acknowledge in one commit without waiting for us.
pub const IN_FLIGHT: usize = 256;

/// How many of those may be of channels that catch up: their kits cost 20 µs a signature, and what is new goes before them.
pub const CATCHING_UP: usize = 64;

/// A channel with more states to send than this catches up.
const KEEPS_UP: u64 = 16;

/// So many states of one channel are asked for at a time, so that channels take turns.
const AT_A_TIME: u64 = 16;

impl Tower {
    /// A channel may have something to send.
    pub(super) fn take_turn(&mut self, channel: ChannelId, queue: &Queue) {
        let cover = self.covers.entry(channel).or_default();
        if std::mem::replace(&mut cover.flow.waits, true) {
            return;
        }
        let from = cover.flow.next.or_else(|| queue.first()).unwrap_or(CommitmentNumber(0));
        if queue.backlog(from) > KEEPS_UP {
            self.late_turns.push_back(channel);
        } else {
            self.turns.push_back(channel);
        }
    }

    fn in_flight(&self) -> usize {
        self.covers.values().map(Cover::in_flight).sum()
    }

    /// Takes the next step of one channel; how many backups were asked for.
    fn ask_for(&mut self, id: TowerId, channel: ChannelId, queue: &Queue, places: u64, out: &mut ClientOutbox) -> u64 {
        let (mode, session) = (self.row.mode, self.session);
        let Some(known) = &mut self.known else { return 0 };
        let Some(cover) = self.covers.get_mut(&channel) else { return 0 };
        if cover.trouble.is_some() {
            return 0;
        }
        // Own mode covers what has been from the beginning; blind mode what is queued.
        // What it has under an earlier tag need not be sent again.
        let held = cover.held();
        let from = held.map_or(CommitmentNumber(0), CommitmentNumber::next);
        let run = queue.from(cover.flow.next.unwrap_or(from));
        let wants_past = mode == Mode::Own
            && cover.flow.next.is_none()
            && queue.revoked > held
            && run.is_none_or(|run| run.first > CommitmentNumber(0));
        // States that were revoked while it was not in use: an own tower need not wait for the next one to get them.
        let is_missed = |next| match run {
            Some(run) => run.first > next,
            None => mode == Mode::Own && queue.revoked >= Some(next),
        };
        let gap = cover.flow.next.is_some_and(is_missed);
        if !wants_past && !gap && run.is_none() {
            return 0;
        }
        if gap {
            // States in between were never queued: what follows needs a tag of its own. In own mode it brings them along.
            cover.begin_round();
            if cover.trouble.is_some() {
                return 0;
            }
            if mode == Mode::Own {
                return self.ask_for(id, channel, queue, places, out);
            }
        }
        let name = tag(&known.secret, &channel, cover.round);
        known.tags.insert(name.tag, (channel, cover.round));
        let described = cover.row.as_ref().filter(|row| !row.destination.is_empty());
        let sweep_feerate = described.map_or(self.sweep_feerate, |row| row.sweep_feerate);
        let place = Place { tower: id, channel, session, mode, name, sweep_feerate };
        let destination = described.map(|row| row.destination.clone());
        let (Opening::Open, Some(destination)) = (cover.flow.opening, destination.clone()) else {
            if cover.flow.opening == Opening::No {
                cover.flow.opening = Opening::Describing;
                out.emit(Effect::Describe { place, destination });
            }
            return 0;
        };
        if wants_past {
            if !std::mem::replace(&mut cover.flow.past, true) {
                out.emit(Effect::Prepare { place, destination, work: Work::Past });
            }
            return 0;
        }
        let Some(run) = run else { return 0 };
        if cover.flow.next.is_none() {
            (cover.flow.first, cover.flow.next, cover.flow.expected) =
                (Some(run.first), Some(run.first), Some(run.first));
            if run.first > from {
                out.emit(Effect::Notice(Notice::CoveredFrom { tower: id, channel, number: run.first }));
            }
        }
        let first = cover.flow.first.unwrap_or(run.first);
        let count = places.min(AT_A_TIME).min(run.last.0.saturating_sub(run.first.0).saturating_add(1));
        let last = CommitmentNumber(run.first.0.saturating_add(count).saturating_sub(1));
        cover.flow.next = Some(last.next());
        out.emit(Effect::Prepare { place, destination, work: Work::States { numbers: run.first..=last, first } });
        count
    }
}

impl Client {
    /// Asks for backups to be made, as many as there are places for.
    pub(super) fn pump(&mut self, id: TowerId, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id).filter(|tower| tower.is_ready() && tower.counts()) else { return };
        let mut places = IN_FLIGHT.saturating_sub(tower.in_flight());
        for late in [false, true] {
            if late {
                places = places.min(CATCHING_UP.saturating_sub(tower.in_flight()));
            }
            while places > 0 {
                let turns = if late { &mut tower.late_turns } else { &mut tower.turns };
                let Some(channel) = turns.pop_front() else { break };
                if let Some(cover) = tower.covers.get_mut(&channel) {
                    cover.flow.waits = false;
                }
                let Some(queue) = self.channels.get(&channel) else { continue };
                let asked = tower.ask_for(id, channel, queue, places as u64, out);
                places = places.saturating_sub(asked as usize);
                if asked > 0 {
                    // There may be more.
                    tower.take_turn(channel, queue);
                }
            }
        }
    }
}
