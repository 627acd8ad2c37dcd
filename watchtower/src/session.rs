//! The tower's side of a client: who may have a place, how much it may store, how fast it may speak.
//!
//! ```text
//!   connected ──hello──► greeted ──register──► a client with a term ──┬─ backs up within its quota
//!                                                                     ├─ nothing stored for a while: its place is given away
//!                                                                     └─ its term ends: so does what is kept for it
//! ```
//!
//! # Bounds
//!
//! What a stranger may make a tower hold or do is in [`Limits`], each number with its reason. What they add up to: strangers
//! have at most [`Limits::strangers_bytes`] on disk together, and [`Limits::places`] places of some 200 bytes in memory; a
//! stranger who opens sessions without end gets [`Limits::registrations_per_minute`], and loses those that hold nothing after
//! [`Limits::idle_blocks`].
//!
//! Whoever has a place has its [`Limits::share`] of the disk: it is set aside for every place that there is, taken or not. What
//! a client stores beyond its share comes out of the rest ([`Limits::common`]), which a few may fill: then those with a place
//! go on within their shares, and places that are free still have theirs. Strangers who fill every place keep other strangers
//! out, and nobody who has a place or is listed.

use std::collections::BTreeSet;

use leyden_channels::types::Uptime;

use crate::{
    appointment::{ChannelName, ClientId},
    message::{Assembler, Mode},
};

/// What clients may make a tower hold and do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registered strangers at a time. Ten thousand places cost two megabytes.
    pub clients: usize,
    /// New places for strangers, all together: a minute's worth is the most that come at once.
    pub registrations_per_minute: u64,
    /// Channels of one stranger, those included that have ended and that it has not taken leave of: a large node has hundreds.
    pub channels: usize,
    /// States of one stranger: a channel that is updated each second for two weeks has a million.
    pub states: u64,
    /// Bytes of one stranger, rows and keys included.
    pub bytes: u64,
    /// Bytes of all strangers together: a tenth of a small machine's disk.
    pub strangers_bytes: u64,
    /// Of these, what each place has for itself: some 4,500 states without HTLCs. Ten thousand places have 10 GiB.
    pub share: u64,
    /// The longest term, in blocks: a year.
    pub term: u32,
    /// After so many blocks a place without a channel is given away: two weeks.
    pub idle_blocks: u32,
    /// Messages of one connection, each second on the average: a backup takes a tower some 10 µs.
    pub messages_per_second: u64,
    /// And at once: what a client catches up with after an outage travels in bursts.
    pub messages_at_once: u64,
    /// Hints of one client that a block's transaction may meet: an honest one has one for each transaction, or a few if it
    /// has given the channel several tags.
    pub backups_per_hint: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 10_000,
            registrations_per_minute: 60,
            channels: 1_000,
            states: 2_000_000,
            bytes: 1 << 29,
            strangers_bytes: 16 << 30,
            share: 1 << 20,
            term: 52_560,
            idle_blocks: 2_016,
            messages_per_second: 20_000,
            messages_at_once: 100_000,
            backups_per_hint: 4,
        }
    }
}

impl Limits {
    /// Places for strangers: no more than there are shares for.
    pub fn places(&self) -> usize {
        let shares = self.strangers_bytes.checked_div(self.share).unwrap_or(u64::MAX);
        self.clients.min(usize::try_from(shares).unwrap_or(usize::MAX))
    }

    /// What is left for all when every place has its share.
    pub fn common(&self) -> u64 {
        let shares = self.share.saturating_mul(self.places() as u64);
        self.strangers_bytes.saturating_sub(shares)
    }

    /// How much of the common rest somebody takes up who stores so much.
    pub fn beyond_share(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.share)
    }
}

/// Who may be a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Whether strangers may register, in blind mode.
    pub open: bool,
    /// These always may, without a quota, and in own mode too if that is offered.
    pub listed: BTreeSet<ClientId>,
}

impl Admission {
    /// Whether the owner has named this client.
    pub fn is_listed(&self, client: &ClientId) -> bool {
        self.listed.contains(client)
    }

    /// Whether this client may have a place in this mode.
    pub fn admits(&self, client: &ClientId, mode: Mode) -> bool {
        match mode {
            Mode::Blind => self.open || self.is_listed(client),
            Mode::Own => self.is_listed(client),
        }
    }
}

/// Lets through so much at once, and so much a second.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// In thousandths.
    level: u64,
    at: Uptime,
}

impl Bucket {
    /// A budget of which nothing is used yet, `at_once` in all.
    pub fn full(at_once: u64, now: Uptime) -> Self {
        Self { level: at_once.saturating_mul(1_000), at: now }
    }

    /// Takes `amount` out if it is there. `per_minute` is what flows in.
    pub fn take(&mut self, amount: u64, per_minute: u64, at_once: u64, now: Uptime) -> bool {
        let passed = now.0.saturating_sub(self.at.0);
        self.at = self.at.max(now);
        // Milliseconds times what flows in a minute, over 60, are thousandths of what flowed in.
        let flowed = passed.saturating_mul(per_minute) / 60;
        self.level = self.level.saturating_add(flowed).min(at_once.saturating_mul(1_000));
        let wanted = amount.saturating_mul(1_000);
        let enough = self.level >= wanted;
        if enough {
            self.level = self.level.saturating_sub(wanted);
        }
        enough
    }
}

/// One connection of a client; nothing of it outlives it.
#[derive(Debug)]
pub struct Connection {
    /// A backup that is being sent in parts.
    pub assembler: Assembler,
    /// Whether its hello has come.
    pub greeted: bool,
    /// What it may send now.
    pub messages: Bucket,
    /// Channels with a refused backup: those that follow it are passed over until the channel is opened again.
    pub refused: BTreeSet<ChannelName>,
}

impl Connection {
    /// One that has just begun.
    pub fn new(limits: &Limits, now: Uptime) -> Self {
        let messages = Bucket::full(limits.messages_at_once, now);
        Self { assembler: Assembler::default(), greeted: false, messages, refused: BTreeSet::new() }
    }
}

/// What a client uses of its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// That live.
    pub channels: usize,
    /// Channels that have ended, of which one row is left.
    pub closed: usize,
    /// Revoked states that are held.
    pub states: u64,
    /// Of backups, rows and keys included.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_what_flows_in_and_no_more_than_it_holds() {
        let mut bucket = Bucket::full(2, Uptime(0));
        let mut take = |now| bucket.take(1, 60, 2, Uptime(now));
        assert_eq!([take(0), take(0), take(0)], [true, true, false]);
        assert_eq!([take(999), take(1_000), take(1_001)], [false, true, false]);
        assert_eq!([take(60_000), take(60_000), take(60_000)], [true, true, false]);
        assert!(!take(5), "a clock that goes back gives nothing");
    }

    #[test]
    fn there_are_no_more_places_than_shares() {
        let limits = Limits::default();
        assert_eq!(limits.places(), limits.clients);
        assert!(limits.common() > 6 << 30, "{}", limits.common());
        let many = Limits { clients: 1_000_000, ..limits };
        assert_eq!((many.places(), many.common()), (16 << 10, 0));
        assert_eq!((many.beyond_share(1 << 20), many.beyond_share((1 << 20) + 3)), (0, 3));
    }

    #[test]
    fn strangers_are_admitted_in_blind_mode_alone() {
        let (stranger, friend) = (ClientId([1; 33]), ClientId([2; 33]));
        let closed = Admission { open: false, listed: BTreeSet::from([friend]) };
        let open = Admission { open: true, ..closed.clone() };
        assert!(open.admits(&stranger, Mode::Blind) && !closed.admits(&stranger, Mode::Blind));
        assert!(!open.admits(&stranger, Mode::Own));
        assert!(closed.admits(&friend, Mode::Blind) && closed.admits(&friend, Mode::Own));
    }
}
