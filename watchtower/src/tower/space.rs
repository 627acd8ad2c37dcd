//! What is done while there is nothing else to do: blocks are read again for backups that came late, space is given back, and
//! everything is read again for an audit, a thousand rows a time.

use leyden_channels::types::CommitmentNumber;

use super::{Ctx, Effect, ToSign, Tower, TowerError, TowerOutbox, serve::blind_body};
use crate::{
    appointment::{ChannelName, ClientId},
    hint::Hint,
    message::Backup,
    receipt::{Audit, Digest, Held},
    record::{Key, SCAN_LIMIT, Slot, Table},
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
    /// Begins to forget a channel. What it had in memory but for its hints goes at once, its rows bit by bit.
    pub(super) fn give_back(&mut self, slot: Slot, outbox: &mut TowerOutbox) {
        let states = self.states_of(slot);
        let Some(channel) = self.channels.remove(&slot) else { return };
        self.names.remove(&(channel.client, channel.name));
        let bytes = channel.held.map_or(0, |row| row.bytes);
        let used = self.used.entry(channel.client).or_default();
        used.channels = used.channels.saturating_sub(1);
        used.states = used.states.saturating_sub(states);
        used.bytes = used.bytes.saturating_sub(bytes);
        if !self.config.admission.is_listed(&channel.client) {
            self.strangers_bytes = self.strangers_bytes.saturating_sub(bytes);
        }
        let of_slot = |number| (slot, CommitmentNumber(number));
        let breaches: Vec<_> = self.breaches.range(of_slot(0)..=of_slot(u64::MAX)).map(|(key, _)| *key).collect();
        for (slot, number) in breaches {
            self.breaches.remove(&(slot, number));
            outbox.delete(Key::Breach { slot, number });
            outbox.delete(Key::Response { slot, number });
        }
        self.guards.remove(&slot);
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
        let answer =
            |held| Audit { chain: self.config.chain, client: job.client, channel: job.name, nonce: job.nonce, held };
        let Some(slot) = job.slot.filter(|slot| self.channels.contains_key(slot)) else {
            return Ok(Some(answer(None)));
        };
        if let Some(guard) = self.guards.get(&slot) {
            // A shachain that gives the newest secret gives them all; which backups led to it is not kept.
            let held = self.channels.get(&slot).and_then(|channel| channel.held).map(|row| row.held);
            return Ok(Some(answer(held.filter(|held| guard.secret(held.up_to).is_some()))));
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
        let held = job.held;
        let answer = Audit { chain: self.config.chain, client: job.client, channel: job.name, nonce: job.nonce, held };
        Ok(ended.then_some(answer))
    }
}
