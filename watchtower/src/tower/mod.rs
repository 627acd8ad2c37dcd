//! The tower: all clients, all appointments, all breaches, in one state machine.
//!
//! ```text
//!   messages of clients ─┐                                         ┌─► answers, receipts
//!   blocks, mempool ─────┼─► Tower::handle ─► Outbox ─► one commit ─┼─► penalties to broadcast
//!   refused broadcasts ──┘          ▲                              └─► notices
//!                                   └── Archive: what was committed before
//! ```
//!
//! # What a driver does
//!
//! - It commits the outboxes with [`Outbox::commit_all`] and carries out the effects; then it says [`Tower::settled`]. Blocks
//!   and idle work read what is stored, so they are refused while something is not settled.
//! - It feeds blocks in order from [`Tower::tip`] on, and again those that [`Effect::Reread`] names. A block that cannot be
//!   read, or during which the store cannot be read ([`TowerError::Unread`]), it feeds again until it succeeds: nothing has
//!   changed. What was disconnected it tells before.
//! - After a start it feeds what it has missed, then [`Event::Tip`]: every penalty that waits is broadcast again; then
//!   [`Event::Idle`], for what the last run was about to do.
//! - It signs receipts ([`ToSign`]): the tower's key is not in here. Of several receipts of one channel in a batch only the
//!   last need be sent ([`newest_receipts`]).
//! - [`Event::Idle`] while there is nothing else to do: space is given back, audits are read, a thousand rows a time, and
//!   blocks are asked for again that a late backup may answer to.
//!
//! # Promises
//!
//! - Nothing is acknowledged, and nothing broadcast, before what it depends on is durable.
//! - Every transaction of every block is held against every hint and every own channel, and those of the last
//!   [`RECENT_BLOCKS`] blocks also against what comes later: a backup, or a channel in own mode. Blocks count as seen only when everything that they led to is durable.
//! - An appointment is kept until its term ends, its client says that the channel is final, or its penalty is final: an open
//!   penalty outlives the first two. Of a channel whose end is final one row is kept, which says how it ended: until the
//!   client's term ends or the client takes leave of it. It counts as a channel of the client's quota.
//! - Nothing is promised while it is not known how high the chain is: nobody is registered, and no term prolonged.
//! - A channel that cannot be enforced takes no more backups: its client gives it another name, under which it can.
//! - What one client does changes nothing for another, but for the bounds of [`crate::session`]; nor does a channel that
//!   cannot be enforced ([`Tower::broken`]), nor a row that cannot be read ([`Tower::damaged`]): it is told of, and left as it
//!   is. Only without the row of the tip a tower does not start, because it would not know which blocks it has looked at.
//!
//! # What liars can do
//!
//! - A client: waste its own quota. Backups with the hints of what is in blocks already have each of the last
//!   [`RECENT_BLOCKS`] read again, once, while there is nothing else to do. Garbage under a real hint costs an opening that fails; ten thousand backups on one hint
//!   cost a row each in the index, and of one client no more than [`Limits::backups_per_hint`] are opened.
//! - A client that says a channel is final: loses its own appointments, but not an open penalty.
//! - A cheater: see [`crate::responder`] and [`crate::own`].

mod chain;
mod event;
mod report;
mod restore;
mod serve;
mod space;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bitcoin::{OutPoint, Txid, constants::ChainHash};
use leyden_channels::types::{CommitmentNumber, Height};
use secp256k1::PublicKey;

pub use event::{
    BlockSeen, Ctx, Damage, Effect, Event, HangUp, Notice, Shown, ToSign, TowerError, TowerOutbox, newest_receipts,
};
pub use leyden_channels::channel::Outbox;
pub use report::PenaltyReport;

use crate::{
    appointment::{ChannelName, ClientId},
    lookout::Lookout,
    message::{Mode, TowerFeatures},
    own::Guard,
    receipt::{Closed, Held},
    record::{ClientRow, HeldRow, Key, Slot, TipRow},
    responder::Breach,
    session::{Admission, Bucket, Connection, Limits, Used},
};
use space::AuditJob;

/// So many blocks are looked at again for a channel in own mode that comes after its end, and of so many the hints are kept, for
/// backups that come after their breach: what a pruned node can still read again.
pub const RECENT_BLOCKS: u32 = 288;

/// What does not change while a tower runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose breaches are looked for.
    pub chain: ChainHash,
    /// The tower's public key: receipts are signed with its secret.
    pub key: PublicKey,
    /// Which modes it offers.
    pub features: TowerFeatures,
    /// Who may be a client.
    pub admission: Admission,
    /// What a client, and all of them together, may use.
    pub limits: Limits,
}

/// A channel that something is kept of.
#[derive(Debug)]
struct Channel {
    client: ClientId,
    name: ChannelName,
    mode: Mode,
    /// Of what is the same in all its states: to tell whether it is opened again as it was.
    constants: [u8; 32],
    held: Option<HeldRow>,
}

/// See the module's documentation.
pub struct Tower {
    config: Config,
    tip: Option<TipRow>,
    clients: BTreeMap<ClientId, ClientRow>,
    used: HashMap<ClientId, Used>,
    /// What strangers store beyond their shares.
    common_bytes: u64,
    channels: BTreeMap<Slot, Channel>,
    names: BTreeMap<(ClientId, ChannelName), Slot>,
    /// How channels ended that nothing is kept of any more.
    closed: BTreeMap<(ClientId, ChannelName), Closed>,
    next_slot: Slot,
    lookout: Lookout,
    /// The hints of the last blocks, and in which one each was.
    recent: HashMap<u64, Height>,
    watched: HashMap<OutPoint, BTreeSet<Slot>>,
    breaches: BTreeMap<(Slot, CommitmentNumber), Breach>,
    guards: BTreeMap<Slot, Guard>,
    /// Channels that a bug or a damaged row keeps us from enforcing, and why. They stop nobody else's.
    broken: BTreeMap<Slot, TowerError>,
    /// Rows that could not be read, and are left as they are.
    damaged: BTreeMap<Key, Damage>,
    /// Channels whose rows are being deleted.
    leaving: BTreeSet<Slot>,
    audits: VecDeque<AuditJob>,
    /// Blocks that had a transaction with the hint of a later backup.
    to_reread: BTreeSet<Height>,
    connections: HashMap<ClientId, Connection>,
    registrations: Bucket,
    /// Breaches seen in the mempool that were told of.
    seen_in_mempool: BTreeSet<Txid>,
    /// Kits that were opened against a transaction with their hint, and are of no use against it.
    useless: BTreeSet<(Slot, CommitmentNumber, Txid)>,
    unsettled: bool,
}

impl Tower {
    /// The block up to which everything was looked at; `None` before the first.
    pub fn tip(&self) -> Option<TipRow> {
        self.tip
    }

    /// As it was started.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every outbox so far has been committed.
    pub fn settled(&mut self) {
        self.unsettled = false;
    }

    /// Handles one event. After an error nothing has changed.
    pub fn handle(&mut self, event: Event<'_>, ctx: &Ctx<'_>) -> Result<TowerOutbox, TowerError> {
        let mut outbox = TowerOutbox::default();
        match event {
            Event::Connected(client) => {
                self.connections.insert(client, Connection::new(&self.config.limits, ctx.now));
            }
            Event::Disconnected(client) => drop(self.connections.remove(&client)),
            Event::Message(client, message) => self.message(client, message, ctx, &mut outbox)?,
            Event::Block(block) => self.block(&block, ctx, &mut outbox)?,
            Event::Reorganized { to, hash } => self.reorganized(to, hash, ctx, &mut outbox)?,
            Event::Mempool(tx) => self.mempool(tx, ctx, &mut outbox)?,
            Event::Rejected { txid, cause } => self.rejected(txid, cause, ctx, &mut outbox)?,
            Event::Tip => self.act(ctx, &mut outbox)?,
            Event::Idle => self.idle(ctx, &mut outbox)?,
        }
        self.unsettled |= outbox.needs_commit();
        Ok(outbox)
    }

    /// Watched outputs and those of penalties on their way: for a look at the mempool.
    pub fn is_watched(&self, outpoint: &OutPoint) -> bool {
        self.watched.contains_key(outpoint)
    }

    /// What is held of a client's channel.
    pub fn held(&self, client: &ClientId, name: &ChannelName) -> Option<Held> {
        let slot = self.names.get(&(*client, *name))?;
        self.channels.get(slot)?.held.map(|row| row.held)
    }

    /// What a person sees.
    pub fn stats(&self) -> Stats {
        let open = |row: &Option<HeldRow>| row.map_or(0, |row| states(&row.held));
        Stats {
            clients: self.clients.len(),
            channels: self.channels.len(),
            states: self.channels.values().map(|channel| open(&channel.held)).sum(),
            bytes: self.channels.values().filter_map(|channel| channel.held).map(|row| row.bytes).sum(),
            hints: self.lookout.len(),
            breaches: self
                .breaches
                .len()
                .saturating_add(self.guards.values().filter(|guard| guard.is_breached()).count()),
            leaving: self.leaving.len(),
        }
    }

    /// Whether somebody is registered here.
    pub fn is_client(&self, client: &ClientId) -> bool {
        self.clients.contains_key(client)
    }

    /// Every client with what it uses.
    pub fn clients(&self) -> impl Iterator<Item = (&ClientId, &ClientRow, Used)> {
        self.clients.iter().map(|(client, row)| (client, row, self.used.get(client).copied().unwrap_or_default()))
    }

    /// Every breach that a blind tower acts on.
    pub fn breaches(&self) -> impl Iterator<Item = (Slot, CommitmentNumber, &Breach)> {
        self.breaches.iter().map(|((slot, number), breach)| (*slot, *number, breach))
    }

    /// What cannot be enforced until a person has looked at it.
    pub fn broken(&self) -> impl Iterator<Item = (Slot, &TowerError)> {
        self.broken.iter().map(|(slot, error)| (*slot, error))
    }

    /// Rows that could not be read since the start: what they were about is not guarded.
    pub fn damaged(&self) -> impl Iterator<Item = (Key, &Damage)> {
        self.damaged.iter().map(|(key, damage)| (*key, damage))
    }

    /// Every channel of own mode.
    pub fn guards(&self) -> impl Iterator<Item = (Slot, &Guard)> {
        self.guards.iter().map(|(slot, guard)| (*slot, guard))
    }
}

/// Figures for `tower stats` and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// That have a place.
    pub clients: usize,
    /// That live.
    pub channels: usize,
    /// Revoked states that are held.
    pub states: u64,
    /// Of backups, rows and keys included.
    pub bytes: u64,
    /// Different or not, in memory.
    pub hints: usize,
    /// That are not final, of both modes.
    pub breaches: usize,
    /// Channels whose rows are being deleted.
    pub leaving: usize,
}

/// How many states are held.
fn states(held: &Held) -> u64 {
    held.up_to.0.saturating_sub(held.first.0).saturating_add(1)
}
