//! The state machine: one event at a time, and what follows from it.

use std::ops::RangeInclusive;

use crate::channel::{
    AddHtlc, CannotAdd, Channel, HtlcFailure, IncomingHtlc, Key, Outbox, OwedSettlement, RestoreError, Settlement,
};
use crate::margins::UPSTREAM_MARGIN;
use crate::onion::{FailureMessage, ForwardPayload, SharedSecret};
use crate::payment::incoming::Arrived;
use crate::types::{
    ChannelId, CltvExpiry, Height, Msat, PaymentHash, PaymentPreimage, ShortChannelId, TipTrust, UnixTime,
};
use crate::wire::OnionRoutingPacket;

use super::circuit::{Alternatives, Circuit, Circuits, HtlcRef, Leg, Refused, settlement_of};
use super::event::{SwitchCtx, SwitchEffect, SwitchEvent};
use super::forward::{self, OnionContent, OpenedOnion, Refusal, ReturnPath, UnusableOnion};
use super::grace::ForwardPolicies;
use super::history::{FailureDetail, ForwardRecord, HtlcEvent, HtlcEventKind, Outgoing};
use super::interception::{self, HeldHtlc, HeldHtlcs, Interception, Interceptor};
use super::link::{Entry, Link, Links};
use super::policy::{ForwardPolicy, PolicyError};
use super::replay::{self, Found, OnionKey, Onions, Restored, SeenOnion};
use super::waiting::{WaitingHtlc, WaitingHtlcs};

/// The switch of one node.
#[derive(Debug, Default)]
pub struct Switch {
    links: Links,
    circuits: Circuits,
    onions: Onions,
    restored: Restored,
    waiting: WaitingHtlcs,
    held: HeldHtlcs,
    last_forward: u64,
}

/// One event's outbox while it is being filled, and what may be known meanwhile.
struct Turn<'a> {
    ctx: &'a SwitchCtx<'a>,
    out: Outbox<SwitchEffect>,
}

impl Switch {
    /// From the stored rows: all settlements, seen onions and forwarding policies, and the last forward. `channels` are
    /// all restored channels, none of which has handled an event.
    pub fn restore<'a>(
        rows: impl IntoIterator<Item = (Key, Vec<u8>)>,
        channels: impl IntoIterator<Item = &'a Channel, IntoIter: Clone>,
    ) -> Result<(Self, Outbox<SwitchEffect>), RestoreError> {
        let channels = channels.into_iter();
        let mut switch = Self::default();
        for link in channels.clone().filter_map(Link::of) {
            switch.links.insert(link);
        }
        let rows: Vec<(Key, Vec<u8>)> = rows.into_iter().collect();
        let mut out = Outbox::default();
        for (key, value) in &rows {
            match key {
                Key::Forward(number) => switch.last_forward = switch.last_forward.max(*number),
                Key::ForwardPolicy(channel) => match switch.links.get_mut(channel) {
                    Some(entry) => entry.policies = Some(ForwardPolicies::decode(value)?),
                    None => out.delete(*key),
                },
                // What [`replay::collect`] reads, and rows of others.
                _ => {}
            }
        }
        let collected = replay::collect(rows, channels)?;
        switch.onions = collected.onions;
        switch.restored = collected.restored;
        for key in collected.stale {
            out.delete(key);
        }
        Ok((switch, out))
    }

    /// Takes one event. Never fails: an HTLC that cannot be forwarded is failed back.
    pub fn handle(&mut self, event: SwitchEvent, ctx: &SwitchCtx<'_>) -> Outbox<SwitchEffect> {
        let mut turn = Turn { ctx, out: Outbox::default() };
        match event {
            SwitchEvent::Link(link) => self.links.insert(*link),
            SwitchEvent::LinkGone(channel) => {
                self.links.remove(&channel);
                self.waiting.remove_channel(&channel);
                self.held.remove_channel(&channel);
                turn.out.delete(Key::ForwardPolicy(channel));
            }
            SwitchEvent::Announced { channel, update } => {
                if let Some(entry) = self.links.get_mut(&channel) {
                    entry.update = update;
                }
            }
            SwitchEvent::Incoming(htlc) => self.incoming(*htlc, &mut turn),
            SwitchEvent::Fulfilled { incoming, outgoing, preimage } => {
                self.fulfilled(incoming, outgoing, preimage, &mut turn);
            }
            SwitchEvent::Failed { incoming, outgoing, failure } => {
                self.failed(incoming, outgoing, failure, &mut turn);
            }
            SwitchEvent::Refused { incoming, cause } => self.refused(incoming, &cause, &mut turn),
            SwitchEvent::Interceptor(interceptor) => self.interceptor(interceptor, &mut turn),
            SwitchEvent::Intercepted { incoming, answer } => self.intercepted(incoming, answer, &mut turn),
            SwitchEvent::NewTip(tip) => {
                self.fail_held_in_time(tip, &mut turn);
                self.circuits.forget_packets(tip);
                for onion in self.onions.expire(tip) {
                    turn.out.delete(onion.key());
                }
            }
            SwitchEvent::StillOpen { channel, tip } => self.fail_in_time(channel, tip, &mut turn),
            SwitchEvent::Tick => {}
            SwitchEvent::Closed(channel) => {
                self.waiting.remove_channel(&channel);
                self.held.channel_closed(&channel);
            }
        }
        self.look_at_waiting(&mut turn);
        turn.out
    }

    /// The terms under which HTLCs leave through a channel; `None` if there is no such channel.
    pub fn policy(&self, channel: &ChannelId) -> Option<ForwardPolicy> {
        self.links.get(channel).map(Entry::policy)
    }

    /// The name that history and events show; `None` if there is no such channel, or it has no name yet.
    pub fn name(&self, channel: &ChannelId) -> Option<ShortChannelId> {
        self.links.get(channel).and_then(|entry| entry.link.name())
    }

    /// Sets the terms of a channel. Those that it had hold beside them for a while (BOLT 7, HTLC Fees).
    pub fn set_policy(
        &mut self,
        channel: ChannelId,
        policy: ForwardPolicy,
        now: UnixTime,
    ) -> Result<Outbox<SwitchEffect>, PolicyError> {
        policy.check()?;
        let mut out = Outbox::default();
        if let Some(entry) = self.links.get_mut(&channel) {
            let policies = match entry.policies.take() {
                Some(policies) => policies.changed(policy, now),
                None => ForwardPolicies::new(policy),
            };
            out.put(Key::ForwardPolicy(channel), policies.encode());
            entry.policies = Some(policies);
            out.emit(SwitchEffect::PolicyChanged { channel, policy });
        }
        Ok(out)
    }

    /// Forgets forwards of the history: it says nothing about what is on its way. Those that are forgotten have to be the oldest.
    pub fn forget_forwards(&self, numbers: RangeInclusive<u64>) -> Outbox<SwitchEffect> {
        let mut out = Outbox::default();
        for number in numbers {
            // The last one says which number comes next, after a restart too.
            if number < self.last_forward {
                out.delete(Key::Forward(number));
            }
        }
        out
    }

    /// When an incoming HTLC that is being forwarded expires; right after a restart, also one that may be.
    pub fn incoming_expiry(&self, incoming: &HtlcRef) -> Option<CltvExpiry> {
        self.circuits.incoming_expiry(incoming).or_else(|| self.restored.expiry(incoming))
    }

    /// How many forwards are on their way.
    pub fn pending(&self) -> usize {
        self.circuits.len() + self.restored.len()
    }

    /// Whether HTLCs wait for the tip.
    pub fn is_waiting(&self) -> bool {
        self.waiting.len() > 0
    }

    /// How many forwards wait for whoever decides about them.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What a preimage must fit for a held HTLC; `None` if it is not held.
    pub fn held_hash(&self, incoming: &HtlcRef) -> Option<PaymentHash> {
        self.held.get(incoming).map(|held| held.htlc.payment_hash)
    }

    /// How many onions are remembered.
    pub fn remembered(&self) -> usize {
        self.onions.len()
    }

    /// How many packets are kept for channels that are not tried yet.
    #[cfg(test)]
    pub fn packets(&self) -> usize {
        self.circuits.packets()
    }

    fn incoming(&mut self, htlc: IncomingHtlc, turn: &mut Turn<'_>) {
        let incoming = HtlcRef { channel: htlc.channel, id: htlc.id };
        if self.circuits.contains(&incoming) || self.waiting.contains(&incoming) || self.held.contains(&incoming) {
            return;
        }
        let opened = forward::open(&htlc, turn.ctx.node_secret);
        let found = self.restored.take(&incoming).unwrap_or_default();
        if found.owed.is_some() || found.outgoing.is_some() {
            let (back, payload) = match opened {
                Ok(OpenedOnion { secret, content: OnionContent::Forward { payload, .. } }) => {
                    (ReturnPath::Onion(secret), Some(payload))
                }
                Ok(OpenedOnion { secret, content: OnionContent::Receive(_) }) => (ReturnPath::Onion(secret), None),
                Err(unusable) => (unusable.back, None),
            };
            return self.resume(&htlc, back, payload, found, turn);
        }
        match opened {
            Ok(OpenedOnion { secret, content: OnionContent::Receive(payload) }) => {
                turn.out.emit(SwitchEffect::Receive(Box::new(Arrived { htlc, payload, shared_secret: secret })));
            }
            Ok(OpenedOnion { secret, content: OnionContent::Forward { payload, next } }) => match turn.ctx.trust {
                TipTrust::Current => self.forward_or_ask(htlc, secret, payload, next, found.onion, turn),
                TipTrust::InDoubt => self.waiting.insert(htlc, found.onion, turn.ctx.now),
            },
            Err(UnusableOnion { back, failure }) => {
                fail_here(incoming, Leg::of(&htlc), &back, &failure, FailureDetail::OnionDecode, turn);
            }
        }
    }

    /// Decides about what waits, once that is possible, and fails what has waited long enough.
    fn look_at_waiting(&mut self, turn: &mut Turn<'_>) {
        match turn.ctx.trust {
            TipTrust::Current => {
                for WaitingHtlc { htlc, onion, .. } in self.waiting.take_all() {
                    match forward::open(&htlc, turn.ctx.node_secret) {
                        Ok(OpenedOnion { secret, content: OnionContent::Forward { payload, next } }) => {
                            self.forward_or_ask(htlc, secret, payload, next, onion, turn);
                        }
                        // What waits is to be forwarded; the same onion opens the same way.
                        Ok(OpenedOnion { content: OnionContent::Receive(_), .. }) | Err(_) => {}
                    }
                }
            }
            TipTrust::InDoubt => {
                for WaitingHtlc { htlc, .. } in self.waiting.take_over(turn.ctx.now, turn.ctx.tip) {
                    let back = match forward::open(&htlc, turn.ctx.node_secret) {
                        Ok(OpenedOnion { secret, .. }) => ReturnPath::Onion(secret),
                        Err(unusable) => unusable.back,
                    };
                    let incoming = HtlcRef { channel: htlc.channel, id: htlc.id };
                    let failure = FailureMessage::TemporaryNodeFailure;
                    fail_here(incoming, Leg::of(&htlc), &back, &failure, FailureDetail::None, turn);
                }
            }
        }
    }

    /// After a restart: an HTLC that had been forwarded before.
    fn resume(
        &mut self,
        htlc: &IncomingHtlc,
        back: ReturnPath,
        payload: Option<ForwardPayload>,
        found: Found,
        turn: &mut Turn<'_>,
    ) {
        let incoming = HtlcRef { channel: htlc.channel, id: htlc.id };
        // Which of the peer's channels it left through is known as long as the HTLC is there; after that it is taken
        // for the one that the sender named.
        let outgoing = found.outgoing.map_or_else(
            || {
                let named = payload.and_then(|payload| self.links.named(payload.short_channel_id));
                Leg {
                    channel: named.map_or(htlc.channel, |entry| entry.link.channel),
                    amount: payload.map_or(Msat::ZERO, |payload| payload.amt_to_forward),
                    cltv_expiry: payload.map_or(htlc.cltv_expiry, |payload| payload.outgoing_cltv_value),
                }
            },
            |(_, leg)| leg,
        );
        let circuit = Circuit {
            back,
            from: self.links.get(&htlc.channel).map(|entry| entry.link.peer),
            incoming: Leg::of(htlc),
            outgoing,
            otherwise: None,
            onion: found.onion.filter(|(_, seen)| !seen.recorded).map(|(onion, _)| onion),
        };
        let htlc_out = Outgoing { channel: outgoing.channel, id: found.outgoing.map(|(outgoing, _)| outgoing.id) };
        match found.owed {
            None => self.circuits.insert(incoming, circuit),
            Some(OwedSettlement::Fulfilled { preimage }) => {
                self.settle_fulfilled(incoming, &circuit, htlc_out, preimage, turn);
            }
            Some(OwedSettlement::Failed { failure }) => {
                settle_failed(incoming, &circuit, htlc_out, failure, turn);
            }
        }
    }

    /// Forwards, unless somebody else decides about that. What its channel wants failed needs no decision.
    fn forward_or_ask(
        &mut self,
        htlc: IncomingHtlc,
        secret: SharedSecret,
        payload: ForwardPayload,
        next: OnionRoutingPacket,
        onion: Option<(OnionKey, SeenOnion)>,
        turn: &mut Turn<'_>,
    ) {
        if self.held.by_whom == Interceptor::None || htlc.must_fail.is_some() {
            return self.forward(&htlc, secret, payload, next, onion, turn);
        }
        if !interception::has_time(&htlc, turn.ctx.tip) {
            let incoming = HtlcRef { channel: htlc.channel, id: htlc.id };
            let failure = FailureMessage::ExpiryTooSoon { channel_update: self.update_for(payload.short_channel_id) };
            let back = ReturnPath::Onion(secret);
            return fail_here(incoming, Leg::of(&htlc), &back, &failure, FailureDetail::None, turn);
        }
        let custom_records = interception::custom_records(&htlc, turn.ctx.node_secret);
        let held = HeldHtlc { htlc, payload, next, custom_records, onion, closed: false };
        if self.held.by_whom == Interceptor::Present {
            self.ask(&held, turn);
        }
        self.held.insert(held);
    }

    fn ask(&self, held: &HeldHtlc, turn: &mut Turn<'_>) {
        let name = self.name(&held.htlc.channel).unwrap_or(ShortChannelId(0));
        turn.out.emit(SwitchEffect::Ask(Box::new(held.ask(name))));
    }

    fn update_for(&self, name: ShortChannelId) -> Vec<u8> {
        self.links.named(name).map(|entry| entry.update_for(name)).unwrap_or_default()
    }

    /// Whoever decides has come or gone.
    fn interceptor(&mut self, interceptor: Interceptor, turn: &mut Turn<'_>) {
        self.held.by_whom = interceptor;
        match interceptor {
            Interceptor::Absent => {}
            Interceptor::Present => self.held.all().for_each(|held| self.ask(held, turn)),
            Interceptor::None => {
                for held in self.held.take_all() {
                    self.resume_held(held, turn);
                }
            }
        }
    }

    fn intercepted(&mut self, incoming: HtlcRef, answer: Interception, turn: &mut Turn<'_>) {
        // A preimage of something else takes nothing.
        if let Interception::Settle(preimage) = &answer
            && self.held_hash(&incoming) != Some(preimage.hash())
        {
            return;
        }
        let Some(held) = self.held.remove(&incoming) else { return };
        match answer {
            Interception::Resume => self.resume_held(held, turn),
            Interception::Settle(preimage) => {
                // Whoever is behind it may have it already, so that the debt must not get lost.
                turn.out.put(incoming.origin().settlement_key(), OwedSettlement::Fulfilled { preimage }.encode());
                settle(incoming, Settlement::Fulfill(preimage), turn);
            }
            Interception::Fail(failure) => {
                let update = self.update_for(held.payload.short_channel_id);
                let sha256_of_onion = held.htlc.onion.sha256();
                let (failure, is_malformed) = failure.message(sha256_of_onion, update);
                let back = is_malformed.then_some(ReturnPath::Plain { sha256_of_onion });
                self.fail_held(&held, back, &failure, turn);
            }
            Interception::FailEncrypted(reason) => {
                if let Some(back) = Self::back_of(&held, turn) {
                    settle(incoming, settlement_of(interception::encrypted(reason), &back), turn);
                    let kind = HtlcEventKind::LinkFail {
                        incoming: Leg::of(&held.htlc),
                        failure_code: FailureMessage::TemporaryChannelFailure { channel_update: Vec::new() }.code(),
                        detail: FailureDetail::None,
                    };
                    tell(incoming, None, kind, turn);
                }
            }
        }
    }

    /// By the switch's own rules, as if nobody had been asked.
    fn resume_held(&mut self, held: HeldHtlc, turn: &mut Turn<'_>) {
        if held.closed {
            return;
        }
        let Some(ReturnPath::Onion(secret)) = Self::back_of(&held, turn) else { return };
        let HeldHtlc { htlc, payload, next, onion, .. } = held;
        self.forward(&htlc, secret, payload, next, onion, turn);
    }

    fn fail_held_in_time(&mut self, tip: Height, turn: &mut Turn<'_>) {
        for held in self.held.take_expiring(tip) {
            let update = self.update_for(held.payload.short_channel_id);
            let failure = FailureMessage::TemporaryChannelFailure { channel_update: update };
            self.fail_held(&held, None, &failure, turn);
        }
    }

    fn fail_held(&self, held: &HeldHtlc, back: Option<ReturnPath>, failure: &FailureMessage, turn: &mut Turn<'_>) {
        if held.closed {
            return;
        }
        let Some(back) = back.or_else(|| Self::back_of(held, turn)) else { return };
        let incoming = HtlcRef { channel: held.htlc.channel, id: held.htlc.id };
        fail_here(incoming, Leg::of(&held.htlc), &back, failure, FailureDetail::None, turn);
    }

    /// The same onion opens the same way.
    fn back_of(held: &HeldHtlc, turn: &Turn<'_>) -> Option<ReturnPath> {
        let opened = forward::open(&held.htlc, turn.ctx.node_secret).ok()?;
        Some(ReturnPath::Onion(opened.secret))
    }

    fn forward(
        &mut self,
        htlc: &IncomingHtlc,
        secret: SharedSecret,
        payload: ForwardPayload,
        next: OnionRoutingPacket,
        seen: Option<(OnionKey, SeenOnion)>,
        turn: &mut Turn<'_>,
    ) {
        let incoming = HtlcRef { channel: htlc.channel, id: htlc.id };
        let from = self.links.get(&htlc.channel).map(|entry| entry.link.peer);
        let onion = OnionKey::new(&secret, htlc.cltv_expiry, turn.ctx.tip);
        let back = ReturnPath::Onion(secret);

        let room = |entry: &Entry| {
            from.is_none_or(|from| self.circuits.has_room(from, &entry.link, payload.amt_to_forward, turn.ctx.limits))
        };
        let mut channels = match forward::route(htlc, &payload, &self.links, turn.ctx, room) {
            Ok(channels) => channels,
            Err(Refusal { failure, detail }) => {
                return fail_here(incoming, Leg::of(htlc), &back, &failure, detail, turn);
            }
        };
        // One row, whichever comes first after a restart: the row's own HTLC, or a repetition of its onion.
        let onion = match seen {
            Some((onion, _)) => onion,
            None if self.onions.insert(onion) => {
                turn.out.put(onion.key(), SeenOnion { owner: incoming, recorded: false }.encode());
                for forgotten in self.onions.shrink() {
                    turn.out.delete(forgotten.key());
                }
                onion
            }
            None => {
                // As if it did not authenticate: whoever repeats it learns nothing of the route.
                let sha256_of_onion = htlc.onion.sha256();
                let failure = FailureMessage::InvalidOnionHmac { sha256_of_onion };
                let back = ReturnPath::Plain { sha256_of_onion };
                return fail_here(incoming, Leg::of(htlc), &back, &failure, FailureDetail::OnionDecode, turn);
            }
        };

        channels.reverse();
        let Some(channel) = channels.pop() else { return };
        let add = Box::new(AddHtlc {
            origin: incoming.origin(),
            amount: payload.amt_to_forward,
            payment_hash: htlc.payment_hash,
            cltv_expiry: payload.outgoing_cltv_value,
            onion: next,
            path_key: None,
        });
        let outgoing = Leg { channel, amount: add.amount, cltv_expiry: add.cltv_expiry };
        let spare = (!channels.is_empty()).then(|| add.clone());
        let otherwise = Alternatives { payload, add: spare, channels, since: turn.ctx.tip };
        let incoming_leg = Leg::of(htlc);
        let circuit =
            Circuit { back, from, incoming: incoming_leg, outgoing, otherwise: Some(otherwise), onion: Some(onion) };
        self.circuits.insert(incoming, circuit);
        turn.out.emit(SwitchEffect::Offer { channel, add });
        let kind = HtlcEventKind::Forward { incoming: incoming_leg, outgoing };
        tell(incoming, Some(Outgoing { channel, id: None }), kind, turn);
    }

    fn fulfilled(&mut self, incoming: HtlcRef, outgoing: HtlcRef, preimage: PaymentPreimage, turn: &mut Turn<'_>) {
        // A live channel has stored what is owed. A closed one's enforcement tells it at every restart, but may be done
        // and forgotten before the incoming channel has signed.
        if self.circuits.contains(&incoming) || self.restored.get_mut(&incoming).is_some() {
            turn.out.put(incoming.origin().settlement_key(), OwedSettlement::Fulfilled { preimage }.encode());
        }
        // Whatever becomes of the preimage, an HTLC that it ends must not be forwarded later.
        self.waiting.remove(&incoming);
        self.held.remove(&incoming);
        if let Some(circuit) = self.circuits.remove(&incoming) {
            return self.settle_fulfilled(incoming, &circuit, outgoing.into(), preimage, turn);
        }
        // The incoming channel has not told its HTLC again yet, or it is settled already. The preimage must not wait,
        // and one too many does no harm.
        if let Some(found) = self.restored.get_mut(&incoming) {
            found.owed = Some(OwedSettlement::Fulfilled { preimage });
        }
        settle(incoming, Settlement::Fulfill(preimage), turn);
    }

    fn failed(&mut self, incoming: HtlcRef, outgoing: HtlcRef, failure: HtlcFailure, turn: &mut Turn<'_>) {
        if let Some(circuit) = self.circuits.remove(&incoming) {
            settle_failed(incoming, &circuit, outgoing.into(), failure, turn);
        } else if let Some(found) = self.restored.get_mut(&incoming)
            && !matches!(found.owed, Some(OwedSettlement::Fulfilled { .. }))
        {
            // A preimage is final: the chain may well have left out an HTLC that was fulfilled before.
            found.owed = Some(OwedSettlement::Failed { failure });
        }
    }

    /// A forward whose incoming HTLC is about to expire is failed, whatever becomes of the outgoing one: its channel is
    /// not closed for an HTLC that is not worth the fee. A closed channel's enforcement does the same, and only it may:
    /// it knows whether the block that is the tip shows the preimage.
    fn fail_in_time(&mut self, channel: ChannelId, tip: Height, turn: &mut Turn<'_>) {
        for incoming in self.circuits.expiring(channel, Height(tip.0.saturating_add(UPSTREAM_MARGIN))) {
            let Some(circuit) = self.circuits.remove(&incoming) else { continue };
            let failure = FailureMessage::PermanentChannelFailure;
            fail_here(incoming, circuit.incoming, &circuit.back, &failure, FailureDetail::None, turn);
        }
    }

    fn refused(&mut self, incoming: HtlcRef, cause: &CannotAdd, turn: &mut Turn<'_>) {
        match self.circuits.refused(&incoming, cause) {
            None => {}
            Some(Refused::Offer { channel, add }) => turn.out.emit(SwitchEffect::Offer { channel, add }),
            Some(Refused::Over(circuit)) => {
                let Refusal { failure, detail } = match &circuit.otherwise {
                    Some(otherwise) => forward::refusal(&otherwise.payload, cause, &self.links),
                    None => Refusal {
                        failure: FailureMessage::TemporaryChannelFailure { channel_update: Vec::new() },
                        detail: forward::detail_of(cause),
                    },
                };
                fail_here(incoming, circuit.incoming, &circuit.back, &failure, detail, turn);
            }
        }
    }

    /// Settles, and writes the history unless it is there already.
    fn settle_fulfilled(
        &mut self,
        incoming: HtlcRef,
        circuit: &Circuit,
        outgoing: Outgoing,
        preimage: PaymentPreimage,
        turn: &mut Turn<'_>,
    ) {
        settle(incoming, Settlement::Fulfill(preimage), turn);
        let fee = circuit.incoming.amount.saturating_sub(circuit.outgoing.amount);
        tell(incoming, Some(outgoing), HtlcEventKind::Settle { preimage, fee }, turn);
        let Some(onion) = circuit.onion else { return };
        if self.onions.contains(&onion) {
            turn.out.put(onion.key(), SeenOnion { owner: incoming, recorded: true }.encode());
        }
        self.last_forward = self.last_forward.saturating_add(1);
        let name = |channel| self.name(&channel);
        let record = ForwardRecord {
            number: self.last_forward,
            at: turn.ctx.now,
            incoming,
            incoming_channel: name(incoming.channel),
            incoming_amount: circuit.incoming.amount,
            outgoing,
            outgoing_channel: name(outgoing.channel),
            outgoing_amount: circuit.outgoing.amount,
        };
        turn.out.put(Key::Forward(record.number), record.encode());
    }
}

impl Leg {
    fn of(htlc: &IncomingHtlc) -> Self {
        Self { channel: htlc.channel, amount: htlc.amount, cltv_expiry: htlc.cltv_expiry }
    }
}

fn settle_failed(incoming: HtlcRef, circuit: &Circuit, outgoing: Outgoing, failure: HtlcFailure, turn: &mut Turn<'_>) {
    settle(incoming, settlement_of(failure, &circuit.back), turn);
    tell(incoming, Some(outgoing), HtlcEventKind::ForwardFail, turn);
}

fn settle(incoming: HtlcRef, settlement: Settlement, turn: &mut Turn<'_>) {
    turn.out.emit(SwitchEffect::Settle { channel: incoming.channel, id: incoming.id, settlement });
}

fn tell(incoming: HtlcRef, outgoing: Option<Outgoing>, kind: HtlcEventKind, turn: &mut Turn<'_>) {
    turn.out.emit(SwitchEffect::Htlc(Box::new(HtlcEvent { at: turn.ctx.now, incoming, outgoing, kind })));
}

/// Fails an HTLC in our own name.
fn fail_here(
    incoming: HtlcRef,
    leg: Leg,
    back: &ReturnPath,
    failure: &FailureMessage,
    detail: FailureDetail,
    turn: &mut Turn<'_>,
) {
    settle(incoming, back.fail(failure), turn);
    let kind = HtlcEventKind::LinkFail { incoming: leg, failure_code: failure.code(), detail };
    tell(incoming, None, kind, turn);
}
