//! HTLCs that wait for room in a channel.
//!
//! ```text
//!   payment, forward ──► room? ──┬── there is ──────────────────► the channel
//!                                ├── there is none ─────────────► the channel, which refuses it
//!                                └── soon: a removal is unsigned ─► waits its turn, and then the same
//! ```
//!
//! An HTLC has its place until its removal is signed and revoked, somewhat longer than the payment lives that it belongs to.
//! Who begins the next payment as soon as one has ended would find the channel full now and then. Promises: what waits is
//! offered in its order, within [`ROOM_PATIENCE`], whatever the peer does; a channel says itself why it refuses. What waits is no
//! more than what is in the mailbox: after a restart it was never offered.

use std::{collections::VecDeque, time::Duration};

use leyden_channels::{
    channel::{AddHtlc, CannotAdd, Event, HtlcRoom},
    types::ChannelId,
};
use tokio::time::Instant;

use super::{Peer, Slot};
use crate::limits::MAX_WAITING_FOR_ROOM;

/// How long an HTLC waits at most.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// HTLCs, each with the moment until which it waits.
pub(super) type WaitingForRoom = VecDeque<(Instant, Box<AddHtlc>)>;

impl Slot {
    /// Whether one more HTLC would be refused now and taken soon.
    fn has_room_soon(&self) -> bool {
        self.channel.is_usable() && !self.stopped && self.channel.room_for_htlc() == HtlcRoom::Soon
    }
}

impl Peer {
    /// Offers an HTLC, as soon as there is room for it.
    pub(super) fn add(&mut self, id: ChannelId, htlc: Box<AddHtlc>) {
        self.add_waiting(id, Instant::now());
        // What waited may have ended the channel's turn, or the channel.
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.stopped) else {
            return self.refused(htlc.origin, CannotAdd::Offline);
        };
        let must_wait = !slot.waiting_for_room.is_empty() || slot.has_room_soon();
        if must_wait && slot.waiting_for_room.len() < MAX_WAITING_FOR_ROOM {
            slot.waiting_for_room.push_back((Instant::now() + ROOM_PATIENCE, htlc));
        } else {
            self.event(id, Event::Add(htlc));
        }
    }

    /// Offers what has room now, or has waited long enough.
    fn add_waiting(&mut self, id: ChannelId, now: Instant) {
        while let Some(slot) = self.slots.get_mut(&id)
            && let Some((until, _)) = slot.waiting_for_room.front()
            && (*until <= now || !slot.has_room_soon())
            && let Some((_, htlc)) = slot.waiting_for_room.pop_front()
        {
            match self.runs(&id) {
                true => self.event(id, Event::Add(htlc)),
                false => self.refused(htlc.origin, CannotAdd::Offline),
            }
        }
    }

    /// The channel is about to go.
    pub(super) fn refuse_waiting(&mut self, id: ChannelId) {
        let waiting = self.slots.get_mut(&id).map(|slot| std::mem::take(&mut slot.waiting_for_room));
        for (_, htlc) in waiting.unwrap_or_default() {
            self.refused(htlc.origin, CannotAdd::Offline);
        }
    }

    /// The same in every channel.
    pub(super) fn add_all_waiting(&mut self) {
        let waiting = self.slots.iter().filter(|(_, slot)| !slot.waiting_for_room.is_empty());
        let waiting: Vec<ChannelId> = waiting.map(|(id, _)| *id).collect();
        if waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        for id in waiting {
            self.add_waiting(id, now);
        }
    }

    /// Until when the first of them waits.
    pub(super) fn next_waiting_for_room(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.waiting_for_room.front()).map(|(until, _)| *until).min()
    }
}
