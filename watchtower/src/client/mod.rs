//! The client's half: what a node with channels queues for its towers, sends, and holds them to.
//!
//! ```text
//!   channel ── row TowerBackup, Queued ──► Client ── Prepare ──► kits, made elsewhere ── Prepared ──┐
//!      ▲                                     │  ▲                                                   │
//!      └──────── TowersHold ◄── settle ◄─────┘  └── acknowledged: a receipt ◄── tower ◄── backup ◄──┘
//!
//!   a connection:  hello ► register ► ask all ► (open_channel ► backups …)     each answer checked before the next
//! ```
//!
//! # What a driver does
//!
//! - It restores the client from its rows and the keys of the queued ones, names every channel ([`Event::Channel`]) and says
//!   [`Event::Started`] before it connects to anybody. It commits the outboxes, then carries out the effects.
//! - It keeps the connections that [`Effect::Connect`] names, with growing pauses, and makes backups with [`build`], off the
//!   channels' tasks and in the order asked for. It answers [`Effect::TowersHold`] and [`Effect::TowerKnowsRevoked`] by the
//!   channel's events of the same names, and asks [`Client::policy`] for what each channel's
//!   [`Ctx`](leyden_channels::channel::Ctx) says of towers.
//! - A node that may have been restored from an old copy waits, before it lets its channels speak, until its towers have
//!   answered ([`Client::has_answered`]) or a while has passed.
//!
//! # Promises
//!
//! - A row is deleted in the commit that writes the last receipt for it: of every tower in use, and of as many as are required.
//!   A tower that is removed, deactivated or convicted is not waited for, and its rows are given back. While no tower in use
//!   takes them, as when the only one was convicted, the newest [`ROWS_WITHOUT_TOWER`] of a channel are kept for the next.
//! - A channel is told that a state is held only after the receipt is durable.
//! - A receipt counts only if its signature is the tower's and its digest is that of what was sent, in its order. What a tower
//!   signed for while this node was down is made again and compared before it counts.
//! - A blind tower is sent no body and no constants of own mode, whatever the driver hands over: the connection ends instead.
//! - States go to a tower in their order, [`IN_FLIGHT`] at most on their way. Channels that keep up come first; those that
//!   catch up after an outage share [`CATCHING_UP`] places.
//! - Backups that were sent and not acknowledged are made again after a restart, byte for byte.
//!
//! # What a tower can do
//!
//! - Nothing with an answer that does not fit: the connection ends, and the others go on.
//! - Nothing with a claim that it has later states than this node: it is believed only with the mark of the state that it names
//!   ([`crate::mark`]), which this node's seed alone can make. Then the data here is old, and the channel waits for its peer to
//!   close it. A tower that withholds what it has been sent keeps a restored node from hearing that: use several.
//! - Hold up one channel, by refusing it: that waits with growing pauses and is said, and the others go on. A tower that takes no
//!   name of a channel gets three, and then one after each pause.
//! - A tower that has lost what it signed for is convicted by an audit, and counts as none from then on; its receipts stay to be
//!   seen. One that says that the channel is closed is believed until the chain says that the funding output is unspent, and one
//!   whose term is over is held to nothing: both hold nothing meanwhile, which their user sees.

mod audit;
pub mod build;
mod event;
pub mod keys;
mod link;
mod place;
mod queue;
pub mod record;
mod refusal;
mod sample;
mod sight;
mod state;
mod turns;

use std::collections::{BTreeMap, BTreeSet};

use leyden_channels::{
    channel::TowerPolicy,
    types::{ChannelId, CommitmentNumber},
};

pub use event::{ClientOutbox, Constants, Ctx, Effect, Event, Notice, Place, Session, Work};
pub use place::Trouble;
pub use sight::{Blindness, TowerChain};
pub use turns::{CATCHING_UP, IN_FLIGHT};

use crate::{
    codec::ReadError,
    message::{Mode, SignedHeld},
};
use link::Tower;
use place::Cover;
use queue::Queue;
use record::{ClientKey, CoverageRow, Round, TowerId, TowerRow, Use};

/// Of so many rows the deletion is one turn's work: some 40 kB of keys.
pub const DELETED_AT_ONCE: usize = 1_000;

/// So many states of a channel are kept while no tower that is in use takes them: for one that will, some 2 MB a channel.
pub const ROWS_WITHOUT_TOWER: u64 = 10_000;

/// See the module's documentation.
#[derive(Default)]
pub struct Client {
    towers: BTreeMap<TowerId, Tower>,
    channels: BTreeMap<ChannelId, Queue>,
    required: u16,
    next: u16,
    is_started: bool,
    /// Channels with rows that nobody needs any more.
    reclaim: BTreeSet<ChannelId>,
}

/// What a tower covers of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Which tower.
    pub tower: TowerId,
    /// What it is given.
    pub mode: Mode,
    /// What it signed for under each tag that the channel has had there: the newest last.
    pub receipts: Vec<SignedHeld>,
    /// The newest state that is revoked.
    pub revoked: Option<CommitmentNumber>,
    /// How many states wait for it.
    pub waiting: u64,
    /// Why it does not go on, if it does not.
    pub trouble: Option<Trouble>,
}

impl Coverage {
    /// Whether everything that the peer has revoked is held, from the first state on. In own mode a receipt's first state has
    /// brought all earlier ones along.
    pub fn is_complete(&self) -> bool {
        let Some(revoked) = self.revoked else { return true };
        let mut next = CommitmentNumber(0);
        for SignedHeld { held, .. } in &self.receipts {
            if held.first > next && self.mode == Mode::Blind {
                return false;
            }
            next = next.max(held.up_to.next());
        }
        next > revoked && self.trouble.is_none()
    }
}

impl Client {
    /// From all rows under [`ClientKey::PREFIX`], and the keys (the values may be empty) of all queued states.
    pub fn restore(rows: impl IntoIterator<Item = (ClientKey, Vec<u8>)>, required: u16) -> Result<Self, ReadError> {
        let mut client = Self { required, ..Self::default() };
        let mut coverage = Vec::new();
        for (key, value) in rows {
            match key {
                ClientKey::Queued { channel, number } => client.channels.entry(channel).or_default().push(number),
                ClientKey::Tower(id) => {
                    client.next = client.next.max(id.0.saturating_add(1));
                    client.towers.insert(id, Tower::new(TowerRow::decode(&value)?));
                }
                ClientKey::Coverage { tower, channel, round } => {
                    coverage.push((tower, channel, round, CoverageRow::decode(&value)?));
                }
            }
        }
        coverage.sort_by_key(|(tower, channel, round, _)| (*tower, *channel, *round));
        for (id, channel, round, row) in coverage {
            let Some(tower) = client.towers.get_mut(&id) else { continue };
            if row.closing {
                tower.leaving.insert((channel, round));
                continue;
            }
            let cover = tower.covers.entry(channel).or_default();
            if let Some(earlier) = cover.row.take() {
                cover.earlier.push((cover.round, earlier));
            }
            (cover.round, cover.row) = (round, Some(row));
        }
        Ok(client)
    }

    /// What a channel is to do for towers. States are queued as long as there is a tower in use, also one that broke its word:
    /// the one that takes its place gets them.
    pub fn policy(&self) -> TowerPolicy {
        match self.required {
            0 if !self.is_guarded() => TowerPolicy::None,
            0 => TowerPolicy::BackUp,
            _ => TowerPolicy::Require,
        }
    }

    /// How many towers have to hold a state before its channel goes on.
    pub fn required(&self) -> u16 {
        self.required
    }

    /// Every tower that was added.
    pub fn towers(&self) -> impl Iterator<Item = (TowerId, &TowerRow)> {
        self.towers.iter().map(|(id, tower)| (*id, &tower.row))
    }

    /// `None` if it was removed.
    pub fn tower(&self, tower: TowerId) -> Option<&TowerRow> {
        self.towers.get(&tower).map(|tower| &tower.row)
    }

    /// Whether it is connected and has answered the hello.
    pub fn is_connected(&self, tower: TowerId) -> bool {
        self.towers.get(&tower).is_some_and(Tower::is_ready)
    }

    /// Whether every tower in use has said in this run what it holds.
    pub fn has_answered(&self) -> bool {
        self.counted().all(|(_, tower)| tower.has_answered)
    }

    /// What each tower covers of a channel.
    pub fn coverage(&self, channel: ChannelId) -> Vec<Coverage> {
        let queue = self.channels.get(&channel);
        let revoked = queue.and_then(|queue| queue.revoked);
        let of = |(id, tower): (&TowerId, &Tower)| {
            let cover = tower.covers.get(&channel);
            let held = cover.and_then(Cover::held);
            let from = held.map_or(CommitmentNumber(0), CommitmentNumber::next);
            let rows = cover.into_iter().flat_map(Cover::receipts).map(|(_, receipt)| receipt);
            Coverage {
                tower: *id,
                mode: tower.row.mode,
                receipts: rows.collect(),
                revoked,
                waiting: queue.map_or(0, |queue| queue.backlog(from)),
                trouble: cover.and_then(|cover| cover.trouble),
            }
        };
        self.towers.iter().map(of).collect()
    }

    /// The towers in use that do not hold a channel's newest queued state.
    pub fn missing(&self, channel: ChannelId) -> Vec<TowerId> {
        let newest = self.channels.get(&channel).and_then(Queue::newest);
        let lacks = |tower: &Tower| tower.held(&channel) < newest;
        self.counted().filter(|(_, tower)| lacks(tower)).map(|(id, _)| *id).collect()
    }

    /// Handles one event.
    pub fn handle(&mut self, event: Event, ctx: &Ctx<'_>) -> ClientOutbox {
        let mut out = ClientOutbox::default();
        match event {
            Event::Started => self.started(&mut out),
            Event::Add { key, address, mode } => self.add(key, address, mode, &mut out),
            Event::Remove(tower) => self.remove(tower, &mut out),
            Event::Activate(tower) => self.set_use(tower, Use::Active, &mut out),
            Event::Deactivate(tower) => self.set_use(tower, Use::Deactivated, &mut out),
            Event::Require(required) => {
                self.required = required;
                self.settle_all(&mut out);
            }
            Event::Channel { channel, revoked } => {
                let queue = self.channels.entry(channel).or_default();
                queue.revoked = queue.revoked.max(revoked);
                if !self.is_started {
                    // The rows were read after that.
                    queue.seen = queue.seen.max(revoked);
                }
                queue.is_named = true;
                self.work_for(channel, ctx, &mut out);
            }
            Event::Queued { channel, number } => self.queued(channel, number, ctx, &mut out),
            Event::ChannelOver(channel) => self.channel_over(channel, ctx, &mut out),
            Event::Connected(tower) => self.connected(tower, ctx, &mut out),
            Event::Disconnected(tower) => self.disconnected(tower),
            Event::Message(tower, message) => self.message(tower, message, ctx, &mut out),
            Event::Described { tower, channel, session, destination, constants } => {
                self.described(tower, channel, session, destination, constants, &mut out);
            }
            Event::Prepared { tower, channel, session, backup } => {
                self.prepared(tower, channel, session, &backup, ctx, &mut out);
            }
            Event::NotPrepared { tower, channel, session, why } => {
                self.not_prepared(tower, channel, session, why, &mut out);
            }
            Event::ClosedLookedFor { tower, channel, unspent_at } => {
                self.looked_for_close(tower, channel, unspent_at, &mut out);
            }
            Event::Audit { tower, channel, nonce } => self.audit(tower, channel, nonce, &mut out),
            Event::Continue => {
                for channel in std::mem::take(&mut self.reclaim) {
                    self.settle(channel, false, &mut out);
                }
            }
            Event::Tick => self.tick(ctx, &mut out),
        }
        out
    }

    /// The towers whose receipts count.
    fn counted(&self) -> impl Iterator<Item = (&TowerId, &Tower)> {
        self.towers.iter().filter(|(_, tower)| tower.counts())
    }

    /// Whether any tower is in use.
    fn is_guarded(&self) -> bool {
        self.towers.values().any(|tower| tower.row.use_of_it == Use::Active)
    }

    fn started(&mut self, out: &mut ClientOutbox) {
        self.is_started = true;
        for (id, _) in self.counted() {
            out.emit(Effect::Connect(*id));
        }
        // Their rows were erased, and this was not told.
        let gone: Vec<ChannelId> =
            self.channels.iter().filter(|(_, queue)| !queue.is_named).map(|(channel, _)| *channel).collect();
        let covered = self.towers.values().flat_map(|tower| tower.covers.keys().copied());
        let covered: BTreeSet<ChannelId> = covered.filter(|channel| !self.channels.contains_key(channel)).collect();
        for channel in gone.into_iter().chain(covered) {
            self.forget(channel, out);
        }
        self.settle_all(out);
    }

    fn add(&mut self, key: secp256k1::PublicKey, address: String, mode: Mode, out: &mut ClientOutbox) {
        let known = self.towers.iter_mut().find(|(_, tower)| tower.row.key == key && tower.row.mode == mode);
        let id = match known {
            // The same tower at another address.
            Some((id, tower)) => {
                (tower.row.address, tower.row.use_of_it) = (address, Use::Active);
                *id
            }
            None => {
                let id = TowerId(self.next);
                self.next = self.next.saturating_add(1);
                let row = TowerRow { key, address, mode, use_of_it: Use::Active, granted: None, proof: None };
                self.towers.insert(id, Tower::new(row));
                id
            }
        };
        if let Some(tower) = self.towers.get(&id) {
            out.put(ClientKey::Tower(id), tower.row.encode());
        }
        out.emit(Effect::NameChannels);
        out.emit(Effect::Connect(id));
        self.settle_all(out);
    }

    fn remove(&mut self, id: TowerId, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.remove(&id) else { return };
        out.delete(ClientKey::Tower(id));
        for (channel, round) in tower.rows() {
            out.delete(ClientKey::Coverage { tower: id, channel, round });
        }
        out.emit(Effect::Disconnect { tower: id, again: false });
        self.settle_all(out);
    }

    fn set_use(&mut self, id: TowerId, use_of_it: Use, out: &mut ClientOutbox) {
        let Some(tower) = self.towers.get_mut(&id) else { return };
        tower.row.use_of_it = use_of_it;
        out.put(ClientKey::Tower(id), tower.row.encode());
        match use_of_it {
            Use::Active => {
                out.emit(Effect::NameChannels);
                out.emit(Effect::Connect(id));
            }
            Use::Deactivated => {
                tower.down();
                out.emit(Effect::Disconnect { tower: id, again: false });
            }
        }
        self.settle_all(out);
    }

    fn queued(&mut self, channel: ChannelId, number: CommitmentNumber, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let required = self.required;
        let queue = self.channels.entry(channel).or_default();
        queue.is_named = true;
        if Some(number) > queue.seen {
            queue.push(number);
        } else if required > 0 {
            // A channel that has just started knows nothing.
            let free = self.free(channel);
            self.tell(channel, free, out);
        }
        // With no tower that is waited for it is nobody's already.
        self.settle(channel, false, out);
        self.work_for(channel, ctx, out);
    }

    fn channel_over(&mut self, channel: ChannelId, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        self.forget(channel, out);
        for id in self.towers.keys().copied().collect::<Vec<_>>() {
            self.say_goodbye(id, ctx, out);
        }
    }

    /// The receipts go before the tower is told: what it forgets then is no broken word.
    fn forget(&mut self, channel: ChannelId, out: &mut ClientOutbox) {
        for (id, tower) in &mut self.towers {
            let Some(cover) = tower.covers.remove(&channel) else { continue };
            let rows = cover.earlier.into_iter().chain(cover.row.map(|row| (cover.round, row)));
            for (round, row) in rows {
                let row = CoverageRow { receipt: None, closing: true, ..row };
                out.put(ClientKey::Coverage { tower: *id, channel, round }, row.encode());
                tower.leaving.insert((channel, round));
            }
        }
        if let Some(mut queue) = self.channels.remove(&channel) {
            // The channel's own erasure does it too, if it was not cut short.
            while let Some(number) = queue.newest().and_then(|newest| queue.pop(newest)) {
                out.delete(ClientKey::Queued { channel, number });
            }
        }
        self.reclaim.remove(&channel);
    }

    /// What enough towers hold of a channel.
    fn enough(&self, channel: ChannelId) -> Option<CommitmentNumber> {
        let queue = self.channels.get(&channel)?;
        let Some(nth) = usize::from(self.required).checked_sub(1) else { return queue.revoked };
        let mut held: Vec<Option<CommitmentNumber>> =
            self.counted().map(|(_, tower)| tower.held_in_order(&channel)).collect();
        held.sort_unstable_by(|a, b| b.cmp(a));
        held.get(nth).copied().flatten()
    }

    /// Up to where nothing keeps the channel waiting: what was queued while fewer towers were wanted, and is deleted, does not.
    fn free(&self, channel: ChannelId) -> Option<CommitmentNumber> {
        let (queue, enough) = (self.channels.get(&channel)?, self.enough(channel));
        if queue.newest() <= enough { queue.revoked } else { enough }
    }

    fn tell(&mut self, channel: ChannelId, up_to: Option<CommitmentNumber>, out: &mut ClientOutbox) {
        if let Some(queue) = self.channels.get_mut(&channel) {
            queue.told = up_to;
            out.emit(Effect::TowersHold { channel, up_to });
        }
    }

    /// Deletes what every tower has, and tells the channel what enough of them have. `anew`: towers, or how many are required,
    /// have changed.
    fn settle(&mut self, channel: ChannelId, anew: bool, out: &mut ClientOutbox) {
        let enough = self.enough(channel);
        let all = self.counted().map(|(_, tower)| tower.held_in_order(&channel)).min();
        // Of those that can be expected to take what waits; for the others no more is kept than a bound.
        let taking = self.counted().filter(|(_, tower)| tower.takes(&channel));
        let taken = taking.map(|(_, tower)| tower.held_in_order(&channel)).min();
        let is_guarded = self.is_guarded();
        let Some(queue) = self.channels.get_mut(&channel) else { return };
        let done = match all {
            Some(all) => all,
            None if is_guarded => None,
            None => enough,
        };
        let surplus = queue.all_but(ROWS_WITHOUT_TOWER).filter(|_| is_guarded);
        let done = done.max(surplus.min(taken.unwrap_or(surplus))).min(enough);
        let mut deleted = 0;
        while deleted < DELETED_AT_ONCE
            && let Some(number) = done.and_then(|done| queue.pop(done))
        {
            out.delete(ClientKey::Queued { channel, number });
            deleted += 1;
        }
        if queue.first().is_some() && queue.first() <= done {
            self.reclaim.insert(channel);
            out.emit(Effect::Continue);
        }
        let (told, free) = (self.channels.get(&channel).and_then(|queue| queue.told), self.free(channel));
        if anew || (self.required > 0 && told != free) {
            self.tell(channel, free, out);
        }
    }

    fn settle_all(&mut self, out: &mut ClientOutbox) {
        for channel in self.channels.keys().copied().collect::<Vec<_>>() {
            self.settle(channel, true, out);
        }
    }

    fn tick(&mut self, ctx: &Ctx<'_>, out: &mut ClientOutbox) {
        let mut waiting = Vec::new();
        for (channel, queue) in &mut self.channels {
            let newest = queue.newest().filter(|newest| self.required > 0 && queue.told < Some(*newest));
            // Told once, when it has waited from one tick to the next.
            if newest.is_some() && newest == queue.seen_waiting && !queue.warned {
                queue.warned = true;
                waiting.extend(newest.map(|number| (*channel, number)));
            } else if newest != queue.seen_waiting {
                (queue.seen_waiting, queue.warned) = (newest, false);
            }
        }
        let required = self.required;
        for (channel, number) in waiting {
            let missing = self.missing(channel);
            out.emit(Effect::Notice(Notice::Waiting { channel, number, missing, required }));
        }
        self.tick_towers(ctx, out);
        self.renew(ctx, out);
    }

    /// Where a channel is at a tower, for both to be changed.
    fn at(&mut self, tower: TowerId, channel: ChannelId) -> Option<(&mut Tower, &mut Queue)> {
        Some((self.towers.get_mut(&tower)?, self.channels.get_mut(&channel)?))
    }
}

/// Rounds up to here are looked for in a tower's answer: a node restored from an old copy may have had fewer of them.
const ROUNDS: std::ops::Range<u8> = 0..8;

fn rounds() -> impl Iterator<Item = Round> {
    ROUNDS.map(Round)
}
