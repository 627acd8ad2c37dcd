//! What clients ask for.

use bitcoin::hashes::{Hash as _, sha256};
use leyden_channels::types::{CommitmentNumber, FeeratePerKw, Height};

use super::{
    Channel, Ctx, Effect, HangUp, RECENT_BLOCKS, Shown, ToSign, Tower, TowerError, TowerOutbox, space::AuditJob, states,
};
use crate::{
    appointment::{ChannelName, ChannelTag, ClientId, FundingIndex},
    codec::encode,
    hint::Hint,
    message::{
        Ask, Assembled, Backup, BackupBody, ChainSeen, ChannelClosed, ChannelOpened, Has, Hello, MAX_CONSTANTS, Mode,
        OpenChannel, PROTOCOL_VERSION, Possession, RefusalCode, Refused, Register, Registered, State, TowerMessage,
    },
    own::{Guard, OwnChannel},
    receipt::{Closed, Closing, Held, Holding, proof_of_possession},
    record::{ChannelRow, ClientRow, HeldRow, Key, Row as _, Slot},
    session::{Connection, Used},
};

/// What a blind backup takes besides its sealed kit: hint, keys, and what a database adds.
const BACKUP_OVERHEAD: u64 = 56;

/// How many messages an audit counts for: it reads as many rows at a time.
const AUDIT_COST: u64 = 1_000;
/// And a proof of possession: it reads a kit of up to 150 kB.
const POSSESSION_COST: u64 = 100;

/// Why something is refused, for the client's machine and for a person.
type Reason = (RefusalCode, String);

/// A refusal with what it is about.
struct Refusal {
    what: u16,
    code: RefusalCode,
    channel: Option<ChannelName>,
    number: Option<CommitmentNumber>,
}

impl Refusal {
    fn of(what: u16, code: RefusalCode) -> Self {
        Self { what, code, channel: None, number: None }
    }

    fn about(self, channel: ChannelName) -> Self {
        Self { channel: Some(channel), ..self }
    }

    fn send(self, client: ClientId, text: impl ToString, outbox: &mut TowerOutbox) {
        let Self { what, code, channel, number } = self;
        outbox.emit(Effect::Send(client, Refused { what, code, channel, number, text: text.to_string() }.into()));
    }
}

pub(crate) const REGISTER: u16 = 3;
pub(crate) const OPEN_CHANNEL: u16 = 7;
pub(crate) const BACKUP: u16 = 11;

impl Tower {
    pub(super) fn message(
        &mut self,
        client: ClientId,
        message: TowerMessage,
        ctx: &Ctx<'_>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        let limits = &self.config.limits;
        let (per_minute, at_once) = (limits.messages_per_second.saturating_mul(60), limits.messages_at_once);
        // A message on a connection that has ended is late.
        let Some(connection) = self.connections.get_mut(&client) else { return Ok(()) };
        if !connection.messages.take(1, per_minute, at_once, ctx.now) {
            self.hang_up(client, HangUp::TooFast, outbox);
            return Ok(());
        }
        if !connection.greeted && !matches!(message, TowerMessage::Hello(_)) {
            self.hang_up(client, HangUp::NoHello, outbox);
            return Ok(());
        }
        match message {
            TowerMessage::Hello(Hello { chain, .. }) => {
                connection.greeted = true;
                let Self { config, .. } = self;
                let (version, features) = (PROTOCOL_VERSION, config.features);
                outbox.emit(Effect::Send(client, Hello { version, chain: config.chain, features }.into()));
                if chain != self.config.chain {
                    self.hang_up(client, HangUp::OtherChain, outbox);
                }
            }
            TowerMessage::Register(register) => self.register(client, &register, ctx, outbox),
            TowerMessage::OpenChannel(open) => {
                let name = open.channel;
                connection.refused.remove(&name);
                match self.open_channel(client, open, outbox)? {
                    Ok(()) => outbox.emit(Effect::Send(client, ChannelOpened { channel: name }.into())),
                    Err((code, text)) => Refusal::of(OPEN_CHANNEL, code).about(name).send(client, text, outbox),
                }
            }
            TowerMessage::Backup(part) => match connection.assembler.begin(part) {
                Ok(whole) => self.assembled(client, whole, outbox)?,
                Err(error) => self.hang_up(client, error.into(), outbox),
            },
            TowerMessage::BackupRest(rest) => match connection.assembler.rest(&rest) {
                Ok(whole) => self.assembled(client, whole, outbox)?,
                Err(error) => self.hang_up(client, error.into(), outbox),
            },
            TowerMessage::CloseChannel(close) => {
                self.close_channel(client, close.tag, outbox);
                outbox.emit(Effect::Send(client, ChannelClosed { tag: close.tag }.into()));
            }
            TowerMessage::Ask(ask) => self.ask(client, ask, ctx, outbox)?,
            TowerMessage::Registered(_)
            | TowerMessage::ChannelOpened(_)
            | TowerMessage::Acknowledged(_)
            | TowerMessage::ChannelClosed(_)
            | TowerMessage::State(_)
            | TowerMessage::Refused(_)
            | TowerMessage::Audited(_)
            | TowerMessage::Possession(_)
            | TowerMessage::ChainSeen(_) => {
                self.hang_up(client, HangUp::NotForTowers(message.name()), outbox);
            }
            TowerMessage::Unknown { message_type } => {
                if message.must_be_understood() {
                    self.hang_up(client, HangUp::NotUnderstood(message_type), outbox);
                }
            }
        }
        Ok(())
    }

    fn hang_up(&mut self, client: ClientId, why: HangUp, outbox: &mut TowerOutbox) {
        self.connections.remove(&client);
        outbox.emit(Effect::HangUp(client, why));
    }

    pub(super) fn height(&self) -> Height {
        self.tip.map_or(Height(0), |tip| tip.height)
    }

    fn register(&mut self, client: ClientId, register: &Register, ctx: &Ctx<'_>, outbox: &mut TowerOutbox) {
        let Register { mode, sweep_feerate, term } = *register;
        let refuse = |code| Refusal::of(REGISTER, code);
        let limits = &self.config.limits;
        let listed = self.config.admission.is_listed(&client);
        if !self.config.features.offers(mode) || !self.config.admission.admits(&client, mode) {
            return refuse(RefusalCode::NotOffered).send(client, "this tower does not serve you in this mode", outbox);
        }
        if sweep_feerate < FeeratePerKw::FLOOR {
            let text = "a sweep below 253 sat/kw is not relayed";
            return refuse(RefusalCode::Unreadable).send(client, text, outbox);
        }
        // What it promises from a height that is far behind would be over before it is seen.
        let since = self.tip.map(|tip| tip.height).filter(|_| ctx.tip_is_sure);
        let until = since.map(|since| Height(since.0.saturating_add(term.min(limits.term))));
        let known = self.clients.get(&client).copied();
        let has_channels = self.used.get(&client).is_some_and(|used| used.channels > 0);
        let row = match (known, since.zip(until)) {
            (Some(row), _) if row.mode != mode && has_channels => {
                let text = "you have channels here in the other mode: take leave of them first";
                return refuse(RefusalCode::TermsDiffer).send(client, text, outbox);
            }
            (Some(row), _) => ClientRow { mode, sweep_feerate, until: until.unwrap_or_default().max(row.until), ..row },
            (None, None) => {
                let text = "this tower does not know yet how far the chain is: try again later";
                return refuse(RefusalCode::NotReady).send(client, text, outbox);
            }
            (None, Some((since, until))) => {
                let strangers = self.clients.keys().filter(|one| !self.config.admission.is_listed(one)).count();
                if !listed && strangers >= limits.places() {
                    return refuse(RefusalCode::Full).send(client, "every place is taken: try another tower", outbox);
                }
                let rate = limits.registrations_per_minute;
                if !listed && !self.registrations.take(1, rate, rate, ctx.now) {
                    return refuse(RefusalCode::TooFast).send(client, "too many register now: try again later", outbox);
                }
                ClientRow { mode, sweep_feerate, since, until }
            }
        };
        if self.clients.insert(client, row) != Some(row) {
            outbox.put(Key::Client(client), row.encode());
        }
        let (states, bytes) = if listed { (u64::MAX, u64::MAX) } else { (limits.states, limits.bytes) };
        let (until, receipt_key) = (row.until, self.config.key);
        let answer = Registered { mode, sweep_feerate, states, bytes, until, receipt_key };
        outbox.emit(Effect::Send(client, answer.into()));
    }

    /// What it is refused for; nothing has changed then.
    fn open_channel(
        &mut self,
        client: ClientId,
        open: OpenChannel,
        outbox: &mut TowerOutbox,
    ) -> Result<Result<(), Reason>, TowerError> {
        let OpenChannel { channel: name, constants } = open;
        let refuse = |code: RefusalCode, text: &str| Ok(Err((code, text.to_owned())));
        let Some(row) = self.clients.get(&client) else {
            return refuse(RefusalCode::NotRegistered, "register first");
        };
        let mode = row.mode;
        let hash = sha256::Hash::hash(&constants).to_byte_array();
        let slot = self.names.get(&(client, name));
        if let Some((slot, known)) = slot.and_then(|slot| Some((slot, self.channels.get(slot)?))) {
            if self.broken.contains_key(slot) {
                return Ok(Err((RefusalCode::ChannelExists, DAMAGED.to_owned())));
            }
            if known.constants == hash {
                return Ok(Ok(()));
            }
            return refuse(RefusalCode::ChannelExists, "this channel is open with other constants: use another tag");
        }
        if self.closed.contains_key(&(client, name)) {
            return refuse(RefusalCode::ChannelEnded, "this channel has ended");
        }
        if constants.len() > MAX_CONSTANTS {
            return refuse(RefusalCode::Unreadable, &format!("constants of more than {MAX_CONSTANTS} bytes"));
        }
        let listed = self.config.admission.is_listed(&client);
        let channels = |used: &Used| used.channels.saturating_add(used.closed);
        if !listed && self.used.get(&client).is_some_and(|used| channels(used) >= self.config.limits.channels) {
            return refuse(RefusalCode::QuotaExceeded, "you have too many channels here");
        }
        let guard = match mode {
            Mode::Blind => None,
            Mode::Own => match OwnChannel::decode(&constants) {
                Ok(channel) => Some(Guard::new(channel)),
                Err(error) => return refuse(RefusalCode::Unreadable, &error.to_string()),
            },
        };
        let slot = self.next_slot;
        self.next_slot = Slot(slot.0.checked_add(1).ok_or(TowerError::SlotTwice(slot.0))?);
        if let Some(guard) = guard {
            self.watch(slot, guard.outpoints().collect::<Vec<_>>());
            self.guards.insert(slot, guard);
            // Its funding output may have been spent while nobody had told us of it.
            self.reread(self.oldest_recent(), outbox);
        }
        outbox.put(Key::Channel(slot), ChannelRow { client, name, mode, constants }.encode());
        self.channels.insert(slot, Channel { client, name, mode, constants: hash, held: None });
        self.names.insert((client, name), slot);
        let used = self.used.entry(client).or_default();
        used.channels = used.channels.saturating_add(1);
        Ok(Ok(()))
    }

    fn assembled(
        &mut self,
        client: ClientId,
        whole: Option<Assembled>,
        outbox: &mut TowerOutbox,
    ) -> Result<(), TowerError> {
        let Some(whole) = whole else { return Ok(()) };
        let (name, number) = (whole.channel, whole.number);
        let is_passed_over = |connection: &Connection| connection.refused.contains(&name);
        if self.connections.get(&client).is_none_or(is_passed_over) {
            return Ok(());
        }
        if let Err((code, text)) = self.back_up(client, whole, outbox)? {
            Refusal { what: BACKUP, code, channel: Some(name), number: Some(number) }.send(client, text, outbox);
            let most = self.config.limits.channels;
            let Some(connection) = self.connections.get_mut(&client) else { return Ok(()) };
            connection.refused.insert(name);
            if connection.refused.len() > most {
                self.hang_up(client, HangUp::Refused, outbox);
            }
        }
        Ok(())
    }

    /// What a backup is refused for; nothing has changed then.
    fn back_up(
        &mut self,
        client: ClientId,
        whole: Assembled,
        outbox: &mut TowerOutbox,
    ) -> Result<Result<(), Reason>, TowerError> {
        let Assembled { channel: name, number, mark, body } = whole;
        let refuse = |code: RefusalCode, text: &str| Ok(Err((code, text.to_owned())));
        let known = self.names.get(&(client, name)).copied();
        let Some((slot, channel)) = known.and_then(|slot| Some((slot, self.channels.get(&slot)?))) else {
            return match self.closed.contains_key(&(client, name)) {
                true => refuse(RefusalCode::ChannelEnded, "this channel has ended"),
                false => refuse(RefusalCode::NoSuchChannel, "open the channel first"),
            };
        };
        if self.broken.contains_key(&slot) || self.damaged.contains_key(&Key::Held(slot)) {
            return Ok(Err(damaged()));
        }
        let body = match body {
            Ok(body) if body.mode() == channel.mode => body,
            Ok(_) => return refuse(RefusalCode::Unreadable, "a backup of another mode than you registered for"),
            Err(error) => return Ok(Err((RefusalCode::Unreadable, error.to_string()))),
        };
        let before = channel.held.map(|row| row.held);
        match before {
            Some(held) if number <= held.up_to => {
                outbox.emit(Effect::Sign(client, ToSign::Acknowledged(self.holding(client, name, held))));
                return Ok(Ok(()));
            }
            Some(held) if number != held.up_to.next() => {
                let text = format!("state {} comes next", held.up_to.next().0);
                return Ok(Err((RefusalCode::OutOfOrder, text)));
            }
            Some(_) | None => {}
        }
        let bytes = (encode(&body).len() as u64).saturating_add(BACKUP_OVERHEAD);
        let used = self.used.get(&client).copied().unwrap_or_default();
        let listed = self.config.admission.is_listed(&client);
        let limits = &self.config.limits;
        let after = used.bytes.saturating_add(bytes);
        let beyond = limits.beyond_share(after).saturating_sub(limits.beyond_share(used.bytes));
        let too_much = used.states >= limits.states
            || after > limits.bytes
            || (beyond > 0 && self.common_bytes.saturating_add(beyond) > limits.common());
        if !listed && too_much {
            return refuse(RefusalCode::QuotaExceeded, "there is no more room for your backups");
        }
        let backup = Backup { channel: name, number, body };
        let digest = before.map(|held| held.digest).unwrap_or_default().and(&backup.digest());
        match self.store(slot, &backup, outbox) {
            Ok(true) => {}
            // The past is not whole yet.
            Ok(false) => return Ok(Ok(())),
            Err(refused) => return Ok(Err(refused)),
        }
        let first = before.map_or(number, |held| held.first);
        let held = Held { first, up_to: number, digest };
        let total = self.channels.get(&slot).and_then(|channel| channel.held).map_or(0, |row| row.bytes);
        let row = HeldRow { held, bytes: total.saturating_add(bytes), mark };
        outbox.put(Key::Held(slot), row.encode());
        if let Some(channel) = self.channels.get_mut(&slot) {
            channel.held = Some(row);
        }
        let used = self.used.entry(client).or_default();
        used.states = used.states.saturating_add(1);
        self.use_bytes(&client, |before| before.saturating_add(bytes));
        outbox.emit(Effect::Sign(client, ToSign::Acknowledged(self.holding(client, name, held))));
        Ok(Ok(()))
    }

    /// Writes one state. False if it is a part, after which more comes.
    fn store(&mut self, slot: Slot, backup: &Backup, outbox: &mut TowerOutbox) -> Result<bool, Reason> {
        let number = backup.number;
        let writes = match &backup.body {
            BackupBody::Blind { hint, sealed } => {
                outbox.put(Key::Backup { slot, number }, [&hint.0[..], sealed].concat());
                outbox.put(Key::Hint { hint: *hint, slot, number }, Vec::new());
                self.lookout.add(*hint);
                if let Some(height) = self.recent.get(&recent(*hint)) {
                    self.to_reread.insert(*height);
                    outbox.emit(Effect::MoreWhenIdle);
                }
                return Ok(true);
            }
            BackupBody::Own { secret, htlcs } => {
                let guard = self.guards.get_mut(&slot).ok_or_else(damaged)?;
                guard.back_up(number, *secret, htlcs)
            }
            BackupBody::OwnPast { secrets, htlcs, more } => {
                let held = self.channels.get(&slot).is_some_and(|channel| channel.held.is_some());
                let guard = self.guards.get_mut(&slot).ok_or_else(damaged)?;
                if held {
                    let text = "the past comes before the first state".to_owned();
                    return Err((RefusalCode::OutOfOrder, text));
                }
                guard.back_up_past(number, secrets, htlcs, *more)
            }
        };
        let writes = writes.map_err(|error| (error.code(), error.to_string()))?;
        for ((direction, id), row) in writes.htlcs {
            outbox.put(Key::OwnHtlc { slot, direction, id }, row.encode());
        }
        let Some(state) = writes.state else { return Ok(false) };
        outbox.put(Key::OwnState(slot), state.encode());
        if let Some(guard) = self.guards.get_mut(&slot).filter(|guard| guard.is_closed()) {
            // The breach was there before its backup.
            if let Err(error) = guard.relearn() {
                self.stop_guard(slot, error.into(), outbox);
                return Err(damaged());
            }
            let close = guard.resolution().and_then(|resolution| resolution.close());
            if let Some((txid, height)) = close
                && guard.is_breached()
            {
                self.tell_breach(slot, Mode::Own, number, txid, height, outbox);
                self.reread(height, outbox);
            }
        }
        Ok(true)
    }

    /// The first of the blocks that are looked at again for what comes late.
    pub(super) fn oldest_recent(&self) -> Height {
        Height(self.height().0.saturating_sub(RECENT_BLOCKS - 1))
    }

    /// Has everything from this block on looked at again.
    pub(super) fn reread(&mut self, from: Height, outbox: &mut TowerOutbox) {
        let Some(tip) = self.tip else { return };
        self.to_reread.extend((from.0..=tip.height.0).map(Height));
        outbox.emit(Effect::MoreWhenIdle);
    }

    fn holding(&self, client: ClientId, channel: ChannelName, held: Held) -> Holding {
        let until = self.clients.get(&client).map_or(Height(0), |row| row.until);
        Holding { chain: self.config.chain, client, channel, held, until }
    }

    /// How channels of a client ended that nothing is kept of any more.
    pub(super) fn closed_of(&self, client: ClientId) -> impl Iterator<Item = (ChannelName, Closed)> {
        self.closed.range(all_of(client)).map(|((_, channel), closed)| (*channel, *closed))
    }

    /// The client says that a channel is final: an open penalty knows better.
    fn close_channel(&mut self, client: ClientId, tag: ChannelTag, outbox: &mut TowerOutbox) {
        let of = |funding| (client, ChannelName { tag, funding: FundingIndex(funding) });
        let slots = self.names.range(of(0)..=of(u16::MAX)).map(|(_, slot)| *slot);
        for slot in slots.filter(|slot| !self.is_active(*slot)).collect::<Vec<_>>() {
            self.give_back(slot, None, outbox);
        }
        let closed = self.closed.range(of(0)..=of(u16::MAX)).map(|((_, channel), _)| *channel);
        for channel in closed.collect::<Vec<_>>() {
            self.forget_closed(client, channel, outbox);
        }
    }

    fn ask(&mut self, client: ClientId, ask: Ask, ctx: &Ctx<'_>, outbox: &mut TowerOutbox) -> Result<(), TowerError> {
        let shown = |this: &Self, channel: &Channel| match channel.held {
            Some(row) => Shown::Backups { holding: this.holding(client, channel.name, row.held), mark: row.mark },
            None => Shown::Nothing,
        };
        let chain = self.config.chain;
        let closing = |channel, closed| Shown::Closed(Closing { chain, client, channel, closed });
        let state = |channel, shown, remaining| Effect::Sign(client, ToSign::State { remaining, channel, shown });
        if !self.can_afford(client, &ask, ctx) {
            self.hang_up(client, HangUp::TooFast, outbox);
            return Ok(());
        }
        match ask {
            Ask::All => {
                let slots = self.names.range(all_of(client)).map(|(_, slot)| slot);
                let open = slots.filter_map(|slot| self.channels.get(slot));
                let closed = self.closed_of(client).map(|(channel, closed)| (channel, closing(channel, closed)));
                let all: Vec<_> = open.map(|channel| (channel.name, shown(self, channel))).chain(closed).collect();
                if all.is_empty() {
                    let nothing = State { remaining: 0, channel: None, has: Has::Nothing };
                    outbox.emit(Effect::Send(client, nothing.into()));
                }
                for ((channel, shown), remaining) in all.iter().zip((0..all.len() as u32).rev()) {
                    outbox.emit(state(*channel, *shown, remaining));
                }
            }
            Ask::Channel(name) => {
                let slot = self.names.get(&(client, name));
                let shown = match (slot.and_then(|slot| self.channels.get(slot)), self.closed.get(&(client, name))) {
                    (Some(channel), _) => shown(self, channel),
                    (None, Some(closed)) => closing(name, *closed),
                    (None, None) => Shown::Nothing,
                };
                outbox.emit(state(name, shown, 0));
            }
            Ask::Audit { channel: name, up_to, nonce } => {
                // One at a time: it reads everything.
                self.audits.retain(|job| job.client != client);
                let slot = self.names.get(&(client, name)).copied();
                self.audits.push_back(AuditJob::new(client, name, slot, nonce, up_to));
                outbox.emit(Effect::MoreWhenIdle);
            }
            Ask::Possession { channel: name, number, nonce } => {
                let slot = self.names.get(&(client, name)).copied();
                let proof = match slot {
                    Some(slot) => self.body_of(slot, number, ctx)?.map(|body| proof_of_possession(&nonce, &body)),
                    None => None,
                };
                outbox.emit(Effect::Send(client, Possession { channel: name, number, proof }.into()));
            }
            Ask::Chain => {
                let seen = ChainSeen { height: self.height(), is_sure: ctx.tip_is_sure };
                outbox.emit(Effect::Send(client, seen.into()));
            }
        }
        Ok(())
    }

    /// Questions cost more than other messages: a signature for each channel, reads.
    fn can_afford(&mut self, client: ClientId, ask: &Ask, ctx: &Ctx<'_>) -> bool {
        let cost = match ask {
            Ask::All => self.used.get(&client).map_or(0, |used| used.channels.saturating_add(used.closed) as u64),
            Ask::Channel(_) | Ask::Chain => 0,
            Ask::Audit { .. } => AUDIT_COST,
            Ask::Possession { .. } => POSSESSION_COST,
        };
        let limits = &self.config.limits;
        let (per_minute, at_once) = (limits.messages_per_second.saturating_mul(60), limits.messages_at_once);
        let connection = self.connections.get_mut(&client);
        connection.is_some_and(|connection| connection.messages.take(cost, per_minute, at_once, ctx.now))
    }

    /// What a proof of possession is about: the body of a blind backup, or the secret of an own one.
    fn body_of(&self, slot: Slot, number: CommitmentNumber, ctx: &Ctx<'_>) -> Result<Option<Vec<u8>>, TowerError> {
        if let Some(guard) = self.guards.get(&slot) {
            return Ok(guard.secret(number).map(|secret| secret.0.to_vec()));
        }
        let row = ctx.archive.get(&Key::Backup { slot, number })?;
        Ok(row.and_then(|row| blind_body(&row)).map(|body| encode(&body)))
    }

    /// Whether a penalty is on its way, or might have to be.
    pub(super) fn is_active(&self, slot: Slot) -> bool {
        let number = |number| (slot, CommitmentNumber(number));
        self.breaches.range(number(0)..=number(u64::MAX)).any(|(_, breach)| breach.response().height.is_some())
            || self.guards.get(&slot).is_some_and(Guard::is_breached)
    }

    pub(super) fn states_of(&self, slot: Slot) -> u64 {
        self.channels.get(&slot).and_then(|channel| channel.held).map_or(0, |row| states(&row.held))
    }
}

/// What a row of the backups' table holds.
pub(super) fn blind_body(row: &[u8]) -> Option<BackupBody> {
    let (hint, sealed) = row.split_first_chunk::<8>()?;
    Some(BackupBody::Blind { hint: Hint(*hint), sealed: sealed.to_vec() })
}

pub(super) fn recent(hint: Hint) -> u64 {
    u64::from_be_bytes(hint.0)
}

const DAMAGED: &str = "what this tower has of the channel is damaged: use another tag";

/// The channel cannot be enforced, or added to: see [`Tower::broken`] and [`Tower::damaged`].
fn damaged() -> Reason {
    (RefusalCode::NoSuchChannel, DAMAGED.to_owned())
}

/// Every name of a client.
fn all_of(client: ClientId) -> std::ops::RangeInclusive<(ClientId, ChannelName)> {
    let name = |byte, funding| ChannelName { tag: ChannelTag([byte; 16]), funding: FundingIndex(funding) };
    (client, name(0, 0))..=(client, name(0xff, u16::MAX))
}

impl crate::own::OwnError {
    fn code(&self) -> RefusalCode {
        match self {
            Self::Secret(_) => RefusalCode::WrongSecret,
            Self::UnknownHtlc { .. } | Self::Twice { .. } | Self::PastTooShort { .. } => RefusalCode::Unreadable,
        }
    }
}
