//! The switch among the running tasks: what channels tell it, and what it asks for.
//!
//! ```text
//!   task of A: incoming HTLC ──► Switch ──► A's commit ──► Offer ──► task of B
//!   task of B: outcome ────────► Switch ──► B's commit ──► Settle ──► task of A
//! ```
//!
//! The switch has no task of its own: whoever has news for it takes its lock for some microseconds and hands over
//! what follows to the next write. So a slow channel delays no other one.

use std::sync::{MutexGuard, PoisonError};

use leyden_channels::{
    channel::{CannotAdd, Channel, HtlcFailure, Key, Origin, Outbox},
    payment::incoming::Arrived,
    switch::{ForwardPolicy, HtlcRef, Limits, Link, Switch, SwitchCtx, SwitchEffect, SwitchEvent},
    types::{ChannelId, CltvExpiry, PaymentPreimage, ShortChannelId, UnixTime},
};

use tracing::error;

use super::{
    committer::{NodeEffect, PendingEffects},
    gossip::GossipEvent,
    peer::Command,
    runtime::StartError,
    services::Services,
};
use crate::store::{Store, StoreError};

/// The switch as the store has it. `default` are the terms of channels that have none yet.
pub(crate) fn load(
    store: &Store,
    channels: &[Channel],
    default: ForwardPolicy,
    now: UnixTime,
) -> Result<(Switch, Vec<Outbox<NodeEffect>>), StartError> {
    let mut records = Vec::new();
    let prefixes = [Key::all_settlements_prefix(), Key::all_seen_onions_prefix(), Key::all_forward_policies_prefix()];
    for prefix in prefixes {
        records.extend(store.core_records(&prefix)?);
    }
    records.extend(store.last_core_record(&Key::all_forwards_prefix())?);
    let mut rows = Vec::with_capacity(records.len());
    for (key, value) in records {
        rows.push((Key::decode(&key).ok_or_else(|| store.damaged("a key of the switch"))?, value));
    }
    let has_terms = |channel: &ChannelId| rows.iter().any(|(key, _)| *key == Key::ForwardPolicy(*channel));
    let without: Vec<ChannelId> = channels.iter().map(Channel::id).filter(|channel| !has_terms(channel)).collect();
    let (mut switch, outbox) =
        Switch::restore(rows, channels).map_err(|error| store.damaged(&format!("the switch: {error}")))?;
    let mut batch = vec![outbox.convert()];
    for channel in without {
        // Terms that cannot be are refused with the configuration.
        batch.extend(switch.set_policy(channel, default, now).ok().map(Outbox::convert));
    }
    Ok((switch, batch))
}

impl Services {
    fn switch(&self) -> MutexGuard<'_, Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the switch.
    pub(crate) fn tell_switch(&self, event: SwitchEvent) -> PendingEffects {
        let limits = Limits::default();
        let ctx = SwitchCtx {
            now: self.now(),
            tip: self.tip(),
            trust: self.trust(),
            node_secret: &self.keys.node_secret(),
            limits: &limits,
        };
        self.change(&self.switch, |switch| switch.handle(event, &ctx))
    }

    /// A channel is there, or its names have changed. It forwards under `terms` if it has none yet.
    pub(crate) fn link(&self, channel: &Channel, terms: ForwardPolicy) -> Vec<PendingEffects> {
        let Some(link) = Link::of(channel) else { return Vec::new() };
        let id = link.channel;
        let is_new = self.forward_policy(&id).is_none();
        let mut underway = vec![self.tell_switch(SwitchEvent::Link(Box::new(link)))];
        if is_new {
            // Terms that cannot be are refused with the configuration.
            underway.extend(self.try_change(&self.switch, |switch| switch.set_policy(id, terms, self.now())));
        }
        underway
    }

    /// The terms under which HTLCs leave through a channel.
    pub(crate) fn forward_policy(&self, channel: &ChannelId) -> Option<ForwardPolicy> {
        self.switch().policy(channel)
    }

    /// How many forwards are on their way.
    pub(crate) fn pending_forwards(&self) -> usize {
        self.switch().pending()
    }

    /// What the network calls a channel of ours; `None` if it is over or has no name yet.
    pub(crate) fn channel_name(&self, channel: &ChannelId) -> Option<ShortChannelId> {
        self.switch().name(channel)
    }

    /// When the incoming HTLC of a forward expires; `None` for a payment of this node.
    pub(crate) fn upstream_expiry(&self, origin: Origin) -> Option<CltvExpiry> {
        self.switch().incoming_expiry(&HtlcRef::of_origin(origin)?)
    }

    /// The outcome of an HTLC that forwards another one; `None` if it is a payment of this node.
    pub(crate) fn forward_fulfilled(
        &self,
        origin: Origin,
        outgoing: HtlcRef,
        preimage: PaymentPreimage,
    ) -> Option<PendingEffects> {
        let incoming = HtlcRef::of_origin(origin)?;
        Some(self.tell_switch(SwitchEvent::Fulfilled { incoming, outgoing, preimage }))
    }

    /// The failure of an HTLC that forwards another one; `None` if it is a payment of this node.
    pub(crate) fn forward_failed(
        &self,
        origin: Origin,
        outgoing: HtlcRef,
        failure: HtlcFailure,
    ) -> Option<PendingEffects> {
        let incoming = HtlcRef::of_origin(origin)?;
        Some(self.tell_switch(SwitchEvent::Failed { incoming, outgoing, failure }))
    }

    /// A channel did not take an HTLC that forwards another one; `None` if it is a payment of this node.
    pub(crate) fn forward_refused(&self, origin: Origin, cause: CannotAdd) -> Option<PendingEffects> {
        let incoming = HtlcRef::of_origin(origin)?;
        Some(self.tell_switch(SwitchEvent::Refused { incoming, cause }))
    }

    /// Hands an HTLC that ends here to the invoices.
    pub(crate) fn receive(&self, arrived: Arrived) -> Option<PendingEffects> {
        let hash = arrived.htlc.payment_hash;
        let received = self.try_change(&self.invoices, |invoices| {
            let stored = if invoices.open(&hash).is_some() { None } else { self.invoice_record(&hash)? };
            Ok::<_, StoreError>(invoices.arrived(arrived, stored, &self.invoice_ctx()))
        });
        // The HTLC waits for the next start: to fail it for a bad disk would be to refuse money.
        received.inspect_err(|error| error!(%hash, %error, "an invoice cannot be read")).ok()
    }

    /// What waits in a channel that one side has closed waits no longer.
    pub(crate) fn channel_closed(&self, channel: ChannelId) -> [PendingEffects; 2] {
        [
            self.tell_switch(SwitchEvent::Closed(channel)),
            self.change(&self.invoices, |invoices| invoices.channel_closed(&channel)),
        ]
    }

    /// HTLCs that wait for the tip are looked at.
    pub(crate) fn look_at_waiting(&self) -> Option<PendingEffects> {
        let is_waiting = self.switch().is_waiting();
        is_waiting.then(|| self.tell_switch(SwitchEvent::Tick))
    }

    /// Does what the switch asks for; what follows from it has to be waited for too.
    pub(crate) fn switch_effect(&self, effect: SwitchEffect) -> Option<PendingEffects> {
        match effect {
            SwitchEffect::Offer { channel, add } => {
                let origin = add.origin;
                if self.peers.to_channel(&channel, Command::Add { channel, htlc: add }) {
                    return None;
                }
                self.forward_refused(origin, CannotAdd::Offline)
            }
            SwitchEffect::Settle { channel, id, settlement } => {
                self.peers.to_channel(&channel, Command::Settle { channel, id, settlement });
                None
            }
            SwitchEffect::Receive(arrived) => self.receive(*arrived),
            SwitchEffect::Ask(htlc) => {
                self.ask_interceptor(*htlc);
                None
            }
            SwitchEffect::PolicyChanged { channel, .. } => {
                self.gossip.tell(GossipEvent::Terms(channel));
                None
            }
            SwitchEffect::Htlc(event) => {
                self.store.counters().forward(&event);
                self.events.forward(*event);
                None
            }
        }
    }
}
