//! A tower as its rows say.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use leyden_channels::{
    onchain::StoredResolution,
    types::{Height, Uptime},
};

use super::{Channel, Config, Tower, TowerError, states};
use crate::{
    codec::ReadError,
    hint::Hint,
    kit::{self, BreachOutputs},
    lookout::Lookout,
    own::{Guard, OwnChannel},
    receipt::Closed,
    record::{
        Archive, BreachRow, ChannelRow, ClientRow, HeldRow, Key, OwnHtlcRow, OwnStateRow, RecentRow, Row, Slot, Table,
        scan_all,
    },
    responder::{Breach, Response},
    session::Bucket,
};

use bitcoin::hashes::{Hash as _, sha256};

impl Tower {
    /// From what is stored; the driver loads the hints of [`Table::Hint`] by itself, as fast as it can.
    pub fn restore(config: Config, lookout: Lookout, archive: &dyn Archive) -> Result<Self, TowerError> {
        let rate = config.limits.registrations_per_minute;
        let mut tower = Self {
            config,
            tip: get(archive, &Key::Tip)?,
            clients: BTreeMap::new(),
            used: HashMap::new(),
            common_bytes: 0,
            channels: BTreeMap::new(),
            names: BTreeMap::new(),
            closed: BTreeMap::new(),
            next_slot: Slot(0),
            lookout,
            recent: HashMap::new(),
            watched: HashMap::new(),
            breaches: BTreeMap::new(),
            guards: BTreeMap::new(),
            broken: BTreeMap::new(),
            damaged: BTreeMap::new(),
            leaving: BTreeSet::new(),
            audits: VecDeque::new(),
            to_reread: BTreeSet::new(),
            connections: HashMap::new(),
            registrations: Bucket::full(rate, Uptime(0)),
            seen_in_mempool: BTreeSet::new(),
            useless: BTreeSet::new(),
            unsettled: false,
        };
        each(archive, Table::Client, |key, value| {
            if let Key::Client(client) = key
                && let Some(row) = tower.readable(key, ClientRow::decode(&value))?
            {
                tower.clients.insert(client, row);
            }
            Ok(())
        })?;
        each(archive, Table::Channel, |key, value| match key {
            Key::Channel(slot) => tower.load_channel(slot, &value, archive),
            _ => Ok(()),
        })?;
        each(archive, Table::Closed, |key, value| {
            if let Key::Closed { client, channel } = key {
                tower.closed.insert((client, channel), Closed::decode(&value)?);
                let used = tower.used.entry(client).or_default();
                used.closed = used.closed.saturating_add(1);
            }
            Ok(())
        })?;
        let strangers = tower.used.iter().filter(|(client, _)| !tower.config.admission.is_listed(client));
        tower.common_bytes = strangers.map(|(_, used)| tower.config.limits.beyond_share(used.bytes)).sum();
        each(archive, Table::Breach, |key, value| {
            let Key::Breach { slot, number } = key else { return Ok(()) };
            let Some(row) = tower.readable(key, BreachRow::decode(&value))? else { return Ok(()) };
            let BreachRow { txid, outputs, name, constants, sealed } = row;
            let outputs = BreachOutputs { txid, outputs: outputs.into_iter().collect() };
            let claims = match kit::open(&outputs, &name, &constants, &sealed.0) {
                Ok(claims) => claims,
                Err(error) => {
                    tower.broken.insert(slot, error.into());
                    return Ok(());
                }
            };
            // Without it, the blocks say again what became of the breach.
            let response: Option<Response> = tower.get_readable(archive, Key::Response { slot, number })?;
            let response = response.unwrap_or_default();
            let breach = Breach::new(txid, claims, response);
            tower.watch(slot, breach.outputs().keys().copied().collect::<Vec<_>>());
            tower.breaches.insert((slot, number), breach);
            Ok(())
        })?;
        each(archive, Table::Recent, |key, value| {
            if let Key::Recent(height) = key
                && let Some(RecentRow { hints }) = tower.readable(key, RecentRow::decode(&value))?
            {
                let (hints, _) = hints.0.as_chunks::<8>();
                tower.recent.extend(hints.iter().map(|hint| (super::serve::recent(Hint(*hint)), height)));
            }
            Ok(())
        })?;
        each(archive, Table::Leaving, |key, _| {
            if let Key::Leaving(slot) = key {
                tower.leaving.insert(slot);
                tower.next_slot = tower.next_slot.max(Slot(slot.0.saturating_add(1)));
            }
            Ok(())
        })?;
        tower.reread_what_was_late();
        Ok(tower)
    }

    /// The last run may have ended before it looked at a block again for a backup that came late, or at the blocks after it.
    fn reread_what_was_late(&mut self) {
        let hints = self.recent.iter().filter(|(hint, _)| self.lookout.contains(Hint(hint.to_be_bytes())));
        let heights: Vec<Height> = hints.map(|(_, height)| *height).collect();
        self.to_reread.extend(heights);
        let breaches = self.breaches.values().filter_map(|breach| breach.response().height);
        let closes = self.guards.values().filter(|guard| guard.is_breached());
        let closes = closes.filter_map(|guard| guard.resolution()?.close()).map(|(_, height)| height);
        // A channel in own mode may have been told of after its end, and its end not been looked for.
        let unseen = self.guards.values().any(|guard| !guard.is_closed()).then(|| self.oldest_recent());
        if let (Some(first), Some(tip)) = (breaches.chain(closes).chain(unseen).min(), self.tip) {
            self.to_reread.extend((first.0..=tip.height.0).map(Height));
        }
    }

    fn load_channel(&mut self, slot: Slot, value: &[u8], archive: &dyn Archive) -> Result<(), TowerError> {
        self.next_slot = self.next_slot.max(Slot(slot.0.saturating_add(1)));
        let Some(row) = self.readable(Key::Channel(slot), ChannelRow::decode(value))? else { return Ok(()) };
        let ChannelRow { client, name, mode, constants } = row;
        let held: Option<HeldRow> = self.get_readable(archive, Key::Held(slot))?;
        if let crate::message::Mode::Own = mode {
            match self.load_guard(slot, &constants, archive) {
                Ok(guard) => {
                    self.watch(slot, guard.outpoints().collect::<Vec<_>>());
                    self.guards.insert(slot, guard);
                }
                // A row of a newer version, or one that cannot be read now, is no damage.
                Err(error @ (TowerError::Unread(_) | TowerError::Damaged(ReadError::Newer { .. }))) => {
                    return Err(error);
                }
                Err(error) => drop(self.broken.insert(slot, error)),
            }
        }
        let used = self.used.entry(client).or_default();
        used.channels = used.channels.saturating_add(1);
        if let Some(HeldRow { held, bytes, .. }) = &held {
            used.states = used.states.saturating_add(states(held));
            used.bytes = used.bytes.saturating_add(*bytes);
        }
        let constants = sha256::Hash::hash(&constants).to_byte_array();
        self.channels.insert(slot, Channel { client, name, mode, constants, held });
        self.names.insert((client, name), slot);
        Ok(())
    }

    /// Without HTLCs that cannot be read: the others, and the rest of each state, can still be taken.
    fn load_guard(&mut self, slot: Slot, constants: &[u8], archive: &dyn Archive) -> Result<Guard, TowerError> {
        let channel = OwnChannel::decode(constants)?;
        let state: Option<OwnStateRow> = get(archive, &Key::OwnState(slot))?;
        let state = state
            .map(|state| {
                let mut live = BTreeMap::new();
                for (direction, id) in &state.live {
                    let key = Key::OwnHtlc { slot, direction: *direction, id: *id };
                    if let Some(row) = self.get_readable::<OwnHtlcRow>(archive, key)? {
                        live.insert((*direction, *id), row);
                    }
                }
                Ok::<_, TowerError>((state, live))
            })
            .transpose()?;
        let stored = archive.get(&Key::Enforcement(slot))?;
        let stored = stored.map(|bytes| StoredResolution::decode(&bytes)).transpose()?;
        Ok(Guard::restore(channel, state, stored)?)
    }

    /// What a row says; `None` if it is damaged, which is kept in mind. One of a newer version is no damage.
    fn readable<R>(&mut self, key: Key, row: Result<R, ReadError>) -> Result<Option<R>, TowerError> {
        match row {
            Ok(row) => Ok(Some(row)),
            Err(error @ ReadError::Newer { .. }) => Err(error.into()),
            Err(error) => {
                self.damaged.insert(key, error.into());
                Ok(None)
            }
        }
    }

    fn get_readable<R: Row>(&mut self, archive: &dyn Archive, key: Key) -> Result<Option<R>, TowerError> {
        match archive.get(&key)? {
            Some(bytes) => self.readable(key, R::decode(&bytes)),
            None => Ok(None),
        }
    }
}

fn get<R: Row>(archive: &dyn Archive, key: &Key) -> Result<Option<R>, TowerError> {
    Ok(archive.get(key)?.map(|bytes| R::decode(&bytes)).transpose()?)
}

fn each(
    archive: &dyn Archive,
    table: Table,
    row: impl FnMut(Key, Vec<u8>) -> Result<(), TowerError>,
) -> Result<(), TowerError> {
    scan_all(archive, &table.prefix(), row)
}
