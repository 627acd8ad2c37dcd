//! What the chain does, and what is done about it.
//!
//! ```text
//!   block ──look──► kits that open, HTLCs of own channels' revoked states     reads only: on an error nothing has happened
//!     └───────────► transaction by transaction: breaches, spends of watched outputs
//!                       └─ then every open penalty at the new tip ──► broadcasts; final ones are given back
//! ```

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use bitcoin::{OutPoint, Transaction, Txid};
use leyden_channels::{
    onchain::{self, Rejection},
    tx::CommitmentHtlc,
    types::{CommitmentNumber, Height},
};

use super::{BlockSeen, Ctx, Damage, Effect, Notice, RECENT_BLOCKS, Tower, TowerError, TowerOutbox, serve::recent};
use crate::{
    codec::Bytes,
    hint::Hint,
    kit::{self, BreachOutputs, Claims},
    message::Mode,
    own::GuardCtx,
    receipt::Closed,
    record::{Archive, BreachRow, ChannelRow, Key, OwnHtlcRow, RecentRow, Row as _, Slot, Table, TipRow, scan_all},
    responder::{Breach, Response, TipCtx},
};

/// What a transaction of a block opens.
enum Found {
    /// A breach that is answered already.
    Known(Slot, CommitmentNumber),
    New {
        slot: Slot,
        number: CommitmentNumber,
        claims: Box<Claims>,
        row: BreachRow,
    },
    Useless {
        slot: Slot,
        number: CommitmentNumber,
        notice: Notice,
    },
    /// A row without which the appointment cannot be acted on.
    Damaged(Key, Damage),
}

/// Verdicts on kits that are remembered, some 10 MB.
const USELESS: usize = 100_000;

/// HTLCs of own channels' states that may have been published.
type Htlcs = HashMap<(Slot, CommitmentNumber), OwnHtlcs>;

/// The HTLCs of a state that can be read, and the rows of its channel that cannot.
#[derive(Clone, Default)]
struct OwnHtlcs {
    htlcs: Vec<CommitmentHtlc>,
    damaged: Vec<(Key, Damage)>,
}

impl Tower {
    pub(super) fn block(
        &mut self,
        block: &BlockSeen<'_>,
        ctx: &Ctx<'_>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        let BlockSeen { height, hash, transactions } = *block;
        if self.unsettled {
            return Err(TowerError::Unsettled);
        }
        let expected = self.tip.map(|tip| tip.height.0.saturating_add(1));
        if let Some(expected) = expected.filter(|expected| height.0 > *expected) {
            return Err(TowerError::Gap { expected, got: height.0 });
        }
        let txids: Vec<Txid> = transactions.iter().map(Transaction::compute_txid).collect();
        let mut found = BTreeMap::new();
        for (index, (tx, txid)) in transactions.iter().zip(&txids).enumerate() {
            if self.lookout.contains(Hint::from(txid)) {
                found.insert(index, self.look(tx, txid, ctx.archive)?);
            }
        }
        let htlcs = self.look_for_htlcs(transactions, ctx.archive)?;

        let is_news = expected.is_none_or(|expected| expected == height.0);
        if is_news {
            self.tip = Some(TipRow { height, hash });
            outbox.put(Key::Tip, TipRow { height, hash }.encode());
            self.remember(height, &txids, outbox);
            self.seen_in_mempool.clear();
        }
        let mut is_late = false;
        // A block that is seen again and has nothing to say gives no reason to broadcast everything once more.
        let mut concerns_us = is_news;
        for (index, tx) in transactions.iter().enumerate() {
            for found in found.remove(&index).unwrap_or_default() {
                concerns_us = true;
                is_late |= self.confirmed(found, tx, height, outbox) && !is_news;
            }
            let spent = tx.input.iter().filter_map(|input| self.watched.get(&input.previous_output));
            let slots: BTreeSet<Slot> = spent.flatten().copied().collect();
            concerns_us |= !slots.is_empty();
            for slot in slots {
                self.spent(slot, tx, height, &htlcs, ctx, outbox)?;
            }
        }
        if concerns_us {
            self.act_with(&htlcs, ctx, outbox)?;
        }
        if is_news {
            self.end_terms(height, outbox);
        }
        if is_late {
            // What has been spent of it since.
            self.reread(Height(height.0.saturating_add(1)), outbox);
        }
        Ok(())
    }

    /// Every kit under the hint of a transaction. Of one client so many are tried as an honest one could have.
    fn look(&self, tx: &Transaction, txid: &Txid, archive: &dyn Archive) -> Result<Vec<Found>, TowerError> {
        let mut found = Vec::new();
        let mut outputs = None;
        let mut tried: HashMap<_, usize> = HashMap::new();
        let mut rows = Vec::new();
        scan_all::<TowerError>(archive, &Key::hint_prefix(Hint::from(txid)), |key, _| {
            let Key::Hint { slot, number, .. } = key else { return Ok(()) };
            let unreadable = Key::Channel(slot);
            match (self.channels.get(&slot), self.damaged.get(&unreadable)) {
                (Some(channel), _) => {
                    let tried = tried.entry(channel.client).or_default();
                    if *tried < self.config.limits.backups_per_hint {
                        *tried = tried.saturating_add(1);
                        rows.push((slot, number));
                    }
                }
                (None, Some(damage)) => found.push(Found::Damaged(unreadable, damage.clone())),
                // Its rows are being deleted.
                (None, None) => {}
            }
            Ok(())
        })?;
        for (slot, number) in rows {
            if self.breaches.get(&(slot, number)).is_some_and(|breach| breach.txid() == *txid) {
                found.push(Found::Known(slot, number));
                continue;
            }
            if self.useless.contains(&(slot, number, *txid)) {
                continue;
            }
            let Appointment { sealed, channel } = match appointment(slot, number, archive)? {
                Ok(appointment) => appointment,
                Err((row, damage)) => {
                    found.push(Found::Damaged(row, damage));
                    continue;
                }
            };
            let ChannelRow { client, name, constants, .. } = channel;
            let outputs = outputs.get_or_insert_with(|| BreachOutputs::from(tx));
            found.push(match kit::open(outputs, &name, &constants, &sealed) {
                Ok(claims) => {
                    let outputs = outputs.claimed_by(&claims).outputs.into_iter().collect();
                    let row = BreachRow { txid: *txid, outputs, name, constants, sealed: Bytes(sealed) };
                    Found::New { slot, number, claims: Box::new(claims), row }
                }
                Err(cause) => {
                    Found::Useless { slot, number, notice: Notice::Useless { client, channel: name, number, cause } }
                }
            });
        }
        Ok(found)
    }

    /// A kit is opened once against a transaction: each further backup with its hint has the block read again.
    fn remember_useless(&mut self, slot: Slot, number: CommitmentNumber, txid: Txid) {
        if self.useless.len() >= USELESS {
            self.useless.clear();
        }
        self.useless.insert((slot, number, txid));
    }

    /// What own channels had in the states that these transactions may be.
    fn look_for_htlcs(&self, transactions: &[Transaction], archive: &dyn Archive) -> Result<Htlcs, TowerError> {
        let mut htlcs = Htlcs::new();
        for tx in transactions {
            let spent = tx.input.iter().filter_map(|input| Some((input, self.watched.get(&input.previous_output)?)));
            for (input, slot) in spent.flat_map(|(input, slots)| slots.iter().map(move |slot| (input, slot))) {
                let guard = self.guards.get(slot).filter(|guard| guard.channel().funding == input.previous_output);
                if let Some(number) = guard.and_then(|guard| guard.number_of(tx)) {
                    htlcs.insert((*slot, number), own_htlcs(*slot, number, archive)?);
                }
            }
        }
        Ok(htlcs)
    }

    /// Keeps a block's hints, for backups that come late.
    fn remember(&mut self, height: Height, txids: &[Txid], outbox: &mut TowerOutbox) {
        let hints: Vec<u8> = txids.iter().flat_map(|txid| Hint::from(txid).0).collect();
        outbox.put(Key::Recent(height), RecentRow { hints: Bytes(hints) }.encode());
        self.recent.extend(txids.iter().map(|txid| (recent(Hint::from(txid)), height)));
        if let Some(old) = height.0.checked_sub(RECENT_BLOCKS).map(Height) {
            self.recent.retain(|_, at| *at > old);
            outbox.delete(Key::Recent(old));
        }
    }

    /// True if that is news.
    fn confirmed(&mut self, found: Found, tx: &Transaction, height: Height, outbox: &mut TowerOutbox) -> bool {
        let (slot, number) = match found {
            Found::Useless { slot, number, notice } => {
                self.remember_useless(slot, number, tx.compute_txid());
                outbox.emit(Effect::Notice(notice));
                return false;
            }
            Found::Damaged(row, damage) => {
                self.tell_damage(row, damage, outbox);
                return false;
            }
            Found::Known(slot, number) => (slot, number),
            Found::New { slot, number, claims, row } => {
                outbox.put(Key::Breach { slot, number }, row.encode());
                self.breaches.insert((slot, number), Breach::new(row.txid, *claims, Response::default()));
                (slot, number)
            }
        };
        let Some(breach) = self.breaches.get_mut(&(slot, number)) else { return false };
        let is_news = breach.confirmed(height);
        if is_news {
            outbox.put(Key::Response { slot, number }, breach.response().encode());
            let (txid, outpoints) = (breach.txid(), breach.outputs().keys().copied().collect::<Vec<_>>());
            self.watch(slot, outpoints);
            self.tell_breach(slot, Mode::Blind, number, txid, height, outbox);
        }
        is_news
    }

    /// What the row was about is not guarded any more; all else is.
    fn tell_damage(&mut self, row: Key, damage: Damage, outbox: &mut TowerOutbox) {
        outbox.emit(Effect::Notice(Notice::Damaged { row, damage: damage.clone() }));
        self.damaged.insert(row, damage);
    }

    pub(super) fn tell_breach(
        &self,
        slot: Slot,
        mode: Mode,
        number: CommitmentNumber,
        txid: Txid,
        height: Height,
        outbox: &mut TowerOutbox,
    ) {
        if let Some(channel) = self.channels.get(&slot) {
            let (client, channel) = (channel.client, channel.name);
            outbox.emit(Effect::Notice(Notice::Breach { client, channel, mode, number, txid, height }));
        }
    }

    /// A transaction in a block spends what one of a slot's penalties watches, or an own channel's funding output.
    fn spent(
        &mut self,
        slot: Slot,
        tx: &Transaction,
        height: Height,
        htlcs: &Htlcs,
        ctx: &Ctx<'_>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        let mut outpoints = Vec::new();
        for ((_, number), breach) in self.breaches.range_mut(all_of(slot)) {
            if breach.spent(tx, height) {
                outbox.put(Key::Response { slot, number: *number }, breach.response().encode());
                outpoints.extend(breach.outputs().keys().copied());
            }
        }
        self.watch(slot, outpoints);
        let event = onchain::Event::Spent { tx: tx.clone(), height: Some(height) };
        self.guard(slot, event, htlcs, ctx, outbox)
    }

    /// Hands an event to an own channel's guard.
    fn guard(
        &mut self,
        slot: Slot,
        event: onchain::Event,
        htlcs: &Htlcs,
        ctx: &Ctx<'_>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        let tip = self.tip.map_or(Height(0), |tip| tip.height);
        let Some(guard) = self.guards.get_mut(&slot).filter(|_| !self.broken.contains_key(&slot)) else {
            return Ok(());
        };
        let guard_ctx = GuardCtx { tip, newest: ctx.newest.max(tip), estimates: ctx.estimates, policy: ctx.policy };
        let damaged = RefCell::new(Vec::new());
        let load = |number| {
            // Asked for again at the next tip if it cannot be read now.
            let read = || own_htlcs(slot, number, ctx.archive).ok();
            let OwnHtlcs { htlcs, damaged: unreadable } = htlcs.get(&(slot, number)).cloned().or_else(read)?;
            damaged.borrow_mut().extend(unreadable);
            Some(htlcs)
        };
        let taken_back = guard.resolution().and_then(onchain::Resolution::close);
        let turn = match guard.handle(event, guard_ctx, &load) {
            Ok(turn) => turn,
            Err(error) => {
                self.stop_guard(slot, error.into(), outbox);
                return Ok(());
            }
        };
        if turn.changed
            && let Some(resolution) = guard.resolution()
        {
            outbox.put(Key::Enforcement(slot), resolution.encode());
        }
        let damaged = damaged.into_inner();
        let breached = guard.is_breached();
        let close = guard.resolution().and_then(onchain::Resolution::close);
        let outpoints: Vec<OutPoint> = guard.outpoints().collect();
        self.watch(slot, outpoints);
        damaged.into_iter().for_each(|(row, damage)| self.tell_damage(row, damage, outbox));
        let whose = self.channels.get(&slot).map(|channel| (channel.client, channel.name));
        for effect in turn.effects {
            match effect {
                onchain::Effect::Broadcast { tx, .. } => outbox.emit(Effect::Broadcast(tx)),
                onchain::Effect::Notice(notice) => match (notice, whose, close) {
                    (onchain::Notice::Breach { number, txid }, _, Some((_, height))) => {
                        self.tell_breach(slot, Mode::Own, number, txid, height, outbox);
                    }
                    (onchain::Notice::Reopened, Some((client, channel)), _) => {
                        if let Some((txid, _)) = taken_back {
                            outbox.emit(Effect::Notice(Notice::BreachTakenBack { client, channel, txid }));
                        }
                    }
                    (_, Some((client, channel)), Some((txid, _))) => {
                        outbox.emit(Effect::Notice(Notice::Closed { client, channel, txid }));
                    }
                    (_, _, _) => {}
                },
                onchain::Effect::Resolved => {
                    if breached && let Some((client, channel)) = whose {
                        outbox.emit(Effect::Notice(Notice::Punished { client, channel }));
                    }
                    self.give_back(slot, close.map(|(txid, height)| Closed { txid, height }), outbox);
                }
                // A tower has no coins, no HTLCs of its own to tell of, and sees every block anyway.
                onchain::Effect::Watch { .. }
                | onchain::Effect::LoadRevokedHtlcs { .. }
                | onchain::Effect::NeedCoins { .. }
                | onchain::Effect::CheckCoins { .. }
                | onchain::Effect::ReleaseCoins(_)
                | onchain::Effect::Fulfilled { .. }
                | onchain::Effect::Failed { .. }
                | onchain::Effect::TakenBack { .. } => {}
            }
        }
        Ok(())
    }

    /// What one channel cannot do must not keep the tower from the others.
    pub(super) fn stop_guard(&mut self, slot: Slot, error: TowerError, outbox: &mut TowerOutbox) {
        if let Some(channel) = self.channels.get(&slot) {
            let (client, channel, cause) = (channel.client, channel.name, error.to_string());
            outbox.emit(Effect::Notice(Notice::Broken { client, channel, cause }));
        }
        self.broken.insert(slot, error);
    }

    /// Every open penalty at this tip.
    pub(super) fn act(&mut self, ctx: &Ctx<'_>, outbox: &mut TowerOutbox) -> Result<(), TowerError> {
        self.act_with(&Htlcs::new(), ctx, outbox)
    }

    fn act_with(&mut self, htlcs: &Htlcs, ctx: &Ctx<'_>, outbox: &mut TowerOutbox) -> Result<(), TowerError> {
        let tip = self.tip.map_or(Height(0), |tip| tip.height);
        let tip_ctx = TipCtx { tip, newest: ctx.newest.max(tip), estimates: ctx.estimates, policy: ctx.policy };
        let mut resolved = BTreeMap::new();
        for ((slot, number), breach) in &mut self.breaches {
            let before = breach.response().clone();
            let txs = breach.tip(tip_ctx);
            if *breach.response() != before {
                outbox.put(Key::Response { slot: *slot, number: *number }, breach.response().encode());
            }
            txs.into_iter().for_each(|tx| outbox.emit(Effect::Broadcast(tx)));
            if breach.is_resolved(tip, ctx.policy) {
                let txid = breach.txid();
                resolved.insert(*slot, breach.response().height.map(|height| Closed { txid, height }));
            }
        }
        for (slot, closed) in resolved {
            if let Some(channel) = self.channels.get(&slot) {
                let (client, channel) = (channel.client, channel.name);
                outbox.emit(Effect::Notice(Notice::Punished { client, channel }));
            }
            self.give_back(slot, closed, outbox);
        }
        let closing = self.guards.iter().filter(|(_, guard)| guard.resolution().is_some());
        for slot in closing.map(|(slot, _)| *slot).collect::<Vec<_>>() {
            self.guard(slot, onchain::Event::Tip, htlcs, ctx, outbox)?;
        }
        Ok(())
    }

    pub(super) fn reorganized(
        &mut self,
        to: Height,
        hash: [u8; 32],
        ctx: &Ctx<'_>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        let Some(tip) = self.tip.filter(|tip| tip.height > to) else { return Ok(()) };
        let row = TipRow { height: to, hash };
        self.tip = Some(row);
        outbox.put(Key::Tip, row.encode());
        (to.0.saturating_add(1)..=tip.height.0).for_each(|height| outbox.delete(Key::Recent(Height(height))));
        self.recent.retain(|_, height| *height <= to);
        self.to_reread.retain(|height| *height <= to);
        for ((slot, number), breach) in &mut self.breaches {
            let was_there = breach.response().height.is_some();
            if breach.reorganized(to) {
                outbox.put(Key::Response { slot: *slot, number: *number }, breach.response().encode());
            }
            if let Some(channel) = self.channels.get(slot)
                && was_there
                && breach.response().height.is_none()
            {
                let (client, channel, txid) = (channel.client, channel.name, breach.txid());
                outbox.emit(Effect::Notice(Notice::BreachTakenBack { client, channel, txid }));
            }
        }
        let closing = self.guards.iter().filter(|(_, guard)| guard.resolution().is_some());
        for slot in closing.map(|(slot, _)| *slot).collect::<Vec<_>>() {
            self.guard(slot, onchain::Event::Reorganized { to }, &Htlcs::new(), ctx, outbox)?;
        }
        Ok(())
    }

    pub(super) fn mempool(
        &mut self,
        tx: &Transaction,
        ctx: &Ctx<'_>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        let txid = tx.compute_txid();
        if self.lookout.contains(Hint::from(&txid)) && !self.seen_in_mempool.contains(&txid) {
            let tip = self.tip.map_or(Height(0), |tip| tip.height);
            let newest = ctx.newest.max(tip);
            let tip = TipCtx { tip, newest, estimates: ctx.estimates, policy: ctx.policy };
            let mut is_breach = false;
            for found in self.look(tx, &txid, ctx.archive)? {
                // Nothing is kept of it: the block that holds the breach begins anew, with the same claims.
                let claims = match found {
                    Found::Useless { slot, number, notice } => {
                        self.remember_useless(slot, number, txid);
                        outbox.emit(Effect::Notice(notice));
                        continue;
                    }
                    Found::Damaged(..) => continue,
                    Found::Known(slot, number) => {
                        self.breaches.get(&(slot, number)).map(|breach| breach.before_the_block(tip))
                    }
                    Found::New { claims, .. } => {
                        Some(Breach::new(txid, *claims, Response::default()).before_the_block(tip))
                    }
                };
                is_breach = true;
                claims.into_iter().flatten().for_each(|claim| outbox.emit(Effect::Broadcast(claim)));
            }
            if is_breach {
                self.seen_in_mempool.insert(txid);
                outbox.emit(Effect::Notice(Notice::BreachInMempool { txid }));
            }
        }
        let spent = tx.input.iter().filter_map(|input| self.watched.get(&input.previous_output));
        for slot in spent.flatten().copied().collect::<BTreeSet<Slot>>() {
            self.breaches.range_mut(all_of(slot)).for_each(|(_, breach)| breach.seen_in_mempool(tx));
            if self.guards.get(&slot).is_some_and(crate::own::Guard::is_closed) {
                let event = onchain::Event::Spent { tx: tx.clone(), height: None };
                self.guard(slot, event, &Htlcs::new(), ctx, outbox)?;
            }
        }
        Ok(())
    }

    /// Tried again at the next block; a batch of several that somebody contests at once, apart.
    pub(super) fn rejected(
        &mut self,
        txid: Txid,
        cause: Rejection,
        ctx: &Ctx<'_>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        for ((slot, number), breach) in &mut self.breaches {
            if breach.rejected(txid, cause) {
                outbox.put(Key::Response { slot: *slot, number: *number }, breach.response().encode());
                return Ok(());
            }
        }
        let claims = |guard: &crate::own::Guard| {
            let sent = guard.resolution().into_iter().flat_map(|resolution| resolution.claims().values());
            sent.filter_map(|claim| claim.sent.as_ref()).any(|sent| sent.tx.compute_txid() == txid)
        };
        let slot = self.guards.iter().find(|(_, guard)| claims(guard)).map(|(slot, _)| *slot);
        match slot {
            Some(slot) => self.guard(slot, onchain::Event::Rejected { txid, cause }, &Htlcs::new(), ctx, outbox),
            None => Ok(()),
        }
    }

    /// Terms that have ended, and places of strangers that nothing was ever put into.
    fn end_terms(&mut self, height: Height, outbox: &mut TowerOutbox) {
        let ended = |row: &crate::record::ClientRow| row.until < height;
        let over: Vec<_> = self.clients.iter().filter(|(_, row)| ended(row)).map(|(client, _)| *client).collect();
        for client in over {
            let own = self.channels.iter().filter(|(_, channel)| channel.client == client);
            let own: Vec<Slot> = own.map(|(slot, _)| *slot).collect();
            let (active, over): (Vec<_>, Vec<_>) = own.into_iter().partition(|slot| self.is_active(*slot));
            over.into_iter().for_each(|slot| self.give_back(slot, None, outbox));
            if active.is_empty() {
                self.forget_client(client, outbox);
                outbox.emit(Effect::Notice(Notice::TermEnded { client }));
            }
        }
        let limits = &self.config.limits;
        let unused = self.clients.iter().filter(|(client, row)| {
            let idle = height.0.saturating_sub(row.since.0) >= limits.idle_blocks;
            let holds = self.used.get(client).is_some_and(|used| used.states > 0 || used.closed > 0);
            idle && !holds && !self.config.admission.is_listed(client)
        });
        for client in unused.map(|(client, _)| *client).collect::<Vec<_>>() {
            let own = self.channels.iter().filter(|(_, channel)| channel.client == client);
            for slot in own.map(|(slot, _)| *slot).collect::<Vec<_>>() {
                self.give_back(slot, None, outbox);
            }
            self.forget_client(client, outbox);
        }
    }

    fn forget_client(&mut self, client: crate::appointment::ClientId, outbox: &mut TowerOutbox) {
        // What it was signed for binds no longer.
        for channel in self.closed_of(client).map(|(channel, _)| channel).collect::<Vec<_>>() {
            self.forget_closed(client, channel, outbox);
        }
        self.clients.remove(&client);
        self.used.remove(&client);
        outbox.delete(Key::Client(client));
    }

    pub(super) fn watch(&mut self, slot: Slot, outpoints: impl IntoIterator<Item = OutPoint>) {
        for outpoint in outpoints {
            self.watched.entry(outpoint).or_default().insert(slot);
        }
    }
}

fn all_of(slot: Slot) -> std::ops::RangeInclusive<(Slot, CommitmentNumber)> {
    (slot, CommitmentNumber(0))..=(slot, CommitmentNumber(u64::MAX))
}

/// A backup, and the row of its channel.
struct Appointment {
    sealed: Vec<u8>,
    channel: ChannelRow,
}

/// One appointment, or the row of it that is damaged.
fn appointment(
    slot: Slot,
    number: CommitmentNumber,
    archive: &dyn Archive,
) -> Result<Result<Appointment, (Key, Damage)>, TowerError> {
    let (backup, channel) = (Key::Backup { slot, number }, Key::Channel(slot));
    // Both are written before the hint, and deleted after it.
    let Some(row) = archive.get(&backup)? else { return Ok(Err((backup, Damage::Missing))) };
    let Some(sealed) = row.get(8..) else { return Ok(Err((backup, Damage::Short(row.len())))) };
    let Some(row) = archive.get(&channel)? else { return Ok(Err((channel, Damage::Missing))) };
    Ok(match ChannelRow::decode(&row) {
        Ok(channel) => Ok(Appointment { sealed: sealed.to_vec(), channel }),
        Err(error) => Err((channel, error.into())),
    })
}

/// The HTLCs of one state of an own channel. Without those that cannot be read, the others can still be taken.
fn own_htlcs(slot: Slot, number: CommitmentNumber, archive: &dyn Archive) -> Result<OwnHtlcs, TowerError> {
    let mut found = OwnHtlcs::default();
    scan_all::<TowerError>(archive, &Table::OwnHtlc.of_slot(slot), |key, value| {
        let row = match OwnHtlcRow::decode(&value) {
            Ok(row) => row,
            Err(error) => {
                found.damaged.push((key, error.into()));
                return Ok(());
            }
        };
        let OwnHtlcRow { amount, payment_hash, cltv_expiry, first, last } = row;
        if let Key::OwnHtlc { direction, id, .. } = key
            && (first..=last.unwrap_or(CommitmentNumber::MAX)).contains(&number)
        {
            found.htlcs.push(CommitmentHtlc { direction, id, amount, payment_hash, cltv_expiry });
        }
        Ok(())
    })?;
    Ok(found)
}
