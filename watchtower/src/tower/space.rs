//! What is done while there is nothing else to do: blocks are read again for backups that came late, space is given back, and
//! everything is read again for an audit, a thousand rows a time.

use leyden_channels::types::CommitmentNumber;

use super::{Ctx, Effect, ToSign, Tower, TowerError, TowerOutbox, serve::blind_body};
use crate::{
    appointment::{ChannelName, ClientId},
    hint::Hint,
    message::Backup,
    receipt::{Audit, Closed, Digest, Held, Says},
    record::{Key, Row as _, SCAN_LIMIT, Slot, Table},
};

/// An audit that is being read.
#[derive(Debug)]
pub(super) struct AuditJob {
    pub client: ClientId,
    name: ChannelName,
    slot: Option<Slot>,
    nonce: [u8; 32],
    up_to: CommitmentNumber,
    /// Of what was read so far.
    held: Option<Held>,
}

impl AuditJob {
    pub(super) fn new(
        client: ClientId,
        name: ChannelName,
        slot: Option<Slot>,
        nonce: [u8; 32],
        up_to: CommitmentNumber,
    ) -> Self {
        Self { client, name, slot, nonce, up_to, held: None }
    }
}

impl Tower {
    /// Begins to forget a channel. What it had in memory but for its hints goes at once, its rows bit by bit. If its end on the
    /// chain is why (`closed`), its client will hear of that instead of what was signed for.
    pub(super) fn give_back(&mut self, slot: Slot, closed: Option<Closed>, outbox: &mut TowerOutbox) {
        let states = self.states_of(slot);
        let Some(channel) = self.channels.remove(&slot) else { return };
        let name = (channel.client, channel.name);
        self.names.remove(&name);
        let bytes = channel.held.map_or(0, |row| row.bytes);
        self.use_bytes(&channel.client, |bytes_before| bytes_before.saturating_sub(bytes));
        let used = self.used.entry(channel.client).or_default();
        used.channels = used.channels.saturating_sub(1);
        used.states = used.states.saturating_sub(states);
        if let Some(closed) = closed.filter(|_| channel.held.is_some()) {
            outbox.put(Key::Closed { client: channel.client, channel: channel.name }, closed.encode());
            if self.closed.insert(name, closed).is_none() {
                used.closed = used.closed.saturating_add(1);
            }
        }
        let of_slot = |number| (slot, CommitmentNumber(number));
        let breaches: Vec<_> = self.breaches.range(of_slot(0)..=of_slot(u64::MAX)).map(|(key, _)| *key).collect();
        for (slot, number) in breaches {
            self.breaches.remove(&(slot, number));
            outbox.delete(Key::Breach { slot, number });
            outbox.delete(Key::Response { slot, number });
        }
        self.guards.remove(&slot);
        self.broken.remove(&slot);
        self.watched.retain(|_, slots| {
            slots.remove(&slot);
            !slots.is_empty()
        });
        for key in [Key::Channel(slot), Key::Held(slot), Key::OwnState(slot), Key::Enforcement(slot)] {
            outbox.delete(key);
        }
        outbox.put(Key::Leaving(slot), Vec::new());
        self.leaving.insert(slot);
        outbox.emit(Effect::MoreWhenIdle);
    }

    /// Changes how much a client has stored.
    pub(super) fn use_bytes(&mut self, client: &ClientId, change: impl FnOnce(u64) -> u64) {
        let used = self.used.entry(*client).or_default();
        let before = used.bytes;
        used.bytes = change(before);
        if !self.config.admission.is_listed(client) {
            let [before, after] = [before, used.bytes].map(|bytes| self.config.limits.beyond_share(bytes));
            self.common_bytes = self.common_bytes.saturating_sub(before).saturating_add(after);
        }
    }

    /// Nobody asks any more how a channel ended.
    pub(super) fn forget_closed(&mut self, client: ClientId, channel: ChannelName, outbox: &mut TowerOutbox) {
        if self.closed.remove(&(client, channel)).is_some() {
            outbox.delete(Key::Closed { client, channel });
            let used = self.used.entry(client).or_default();
            used.closed = used.closed.saturating_sub(1);
        }
    }

    pub(super) fn idle(&mut self, ctx: &Ctx<'_>, outbox: &mut TowerOutbox) -> Result<(), TowerError> {
        if self.unsettled {
            return Err(TowerError::Unsettled);
        }
        if let Some(height) = self.to_reread.pop_first() {
            outbox.emit(Effect::Reread(height));
        } else if let Some(slot) = self.leaving.first().copied() {
            self.delete_some(slot, ctx, outbox)?;
        } else if let Some(mut job) = self.audits.pop_front() {
            match self.read_some(&mut job, ctx) {
                Ok(Some(audit)) => outbox.emit(Effect::Sign(job.client, ToSign::Audited(audit))),
                Ok(None) => self.audits.push_front(job),
                Err(error) => {
                    self.audits.push_front(job);
                    return Err(error);
                }
            }
        }
        if !self.to_reread.is_empty() || !self.leaving.is_empty() || !self.audits.is_empty() {
            outbox.emit(Effect::MoreWhenIdle);
        }
        Ok(())
    }

    fn delete_some(&mut self, slot: Slot, ctx: &Ctx<'_>, outbox: &mut TowerOutbox) -> Result<(), TowerError> {
        let mut rows = ctx.archive.scan(&Table::Backup.of_slot(slot), None, SCAN_LIMIT)?;
        if rows.len() < SCAN_LIMIT {
            rows.extend(ctx.archive.scan(&Table::OwnHtlc.of_slot(slot), None, SCAN_LIMIT - rows.len())?);
        }
        if rows.is_empty() {
            outbox.delete(Key::Leaving(slot));
            self.leaving.remove(&slot);
        }
        for (key, value) in rows {
            outbox.delete(key);
            if let (Key::Backup { slot, number }, Some((hint, _))) = (key, value.split_first_chunk::<8>()) {
                let hint = Hint(*hint);
                outbox.delete(Key::Hint { hint, slot, number });
                self.lookout.remove(hint);
            }
        }
        Ok(())
    }

    /// The answer, once everything has been read.
    fn read_some(&self, job: &mut AuditJob, ctx: &Ctx<'_>) -> Result<Option<Audit>, TowerError> {
        let (chain, at) = (self.config.chain, self.height());
        let (client, channel, nonce) = (job.client, job.name, job.nonce);
        let says = |says| Audit { chain, client, channel, nonce, at, says };
        let holds = |held: Option<Held>| says(held.map_or(Says::Nothing, Says::Holds));
        let Some(slot) = job.slot.filter(|slot| self.channels.contains_key(slot)) else {
            // It may have ended while it was read.
            let closed = self.closed.get(&(client, channel)).copied();
            return Ok(Some(says(closed.map_or(Says::Nothing, Says::Closed))));
        };
        if let Some(guard) = self.guards.get(&slot) {
            // A shachain that gives the newest secret gives them all; which backups led to it is not kept.
            let held = self.channels.get(&slot).and_then(|channel| channel.held).map(|row| row.held);
            return Ok(Some(holds(held.filter(|held| guard.secret(held.up_to).is_some()))));
        }
        let after = job.held.map(|held| Key::Backup { slot, number: held.up_to });
        let rows = ctx.archive.scan(&Table::Backup.of_slot(slot), after.as_ref(), SCAN_LIMIT)?;
        let mut ended = rows.len() < SCAN_LIMIT;
        for (key, value) in rows {
            let (Key::Backup { number, .. }, Some(body)) = (key, blind_body(&value)) else { continue };
            if number > job.up_to {
                ended = true;
                break;
            }
            let digest = Backup { channel: job.name, number, body }.digest();
            job.held = match job.held {
                // A gap: what comes after it is held, what came before is not part of it.
                Some(held) if number == held.up_to.next() => {
                    Some(Held { up_to: number, digest: held.digest.and(&digest), ..held })
                }
                Some(_) | None => Some(Held { first: number, up_to: number, digest: Digest::default().and(&digest) }),
            };
        }
        Ok(ended.then(|| holds(job.held)))
    }
}
