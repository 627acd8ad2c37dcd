//! One switch between made-up channels: Alice in front, Carol (two channels) and Dave behind.

use std::collections::BTreeMap;
use std::convert::Infallible;

use secp256k1::SecretKey;

use crate::channel::*;
use crate::keys::secp;
use crate::onion::{self, ForwardPayload, HopPayload, PaymentData, ReceivePayload, SharedSecret, sphinx};
use crate::switch::*;
use crate::types::*;

pub(super) const TIP: Height = Height(1_000);
pub(super) const NOW: UnixTime = UnixTime(1_700_000_000);
pub(super) const ALICE: ChannelId = ChannelId([1; 32]);
pub(super) const CAROL: ChannelId = ChannelId([2; 32]);
pub(super) const CAROL_TOO: ChannelId = ChannelId([3; 32]);
pub(super) const DAVE: ChannelId = ChannelId([4; 32]);

pub(super) fn name(channel: ChannelId) -> ShortChannelId {
    ShortChannelId(u64::from(channel.0[0]))
}

pub(super) fn alias(channel: ChannelId) -> ShortChannelId {
    ShortChannelId(1_000 + u64::from(channel.0[0]))
}

/// The terms of every channel here.
pub(super) const POLICY: ForwardPolicy = ForwardPolicy {
    base_fee: Msat(100),
    fee_ppm: 1_000,
    cltv_expiry_delta: 40,
    htlc_minimum: Msat(5_000),
    htlc_maximum: Some(Msat(500_000_000)),
    enabled: true,
};

#[derive(Default)]
pub(super) struct Store(pub BTreeMap<Key, Vec<u8>>);

impl Persist for Store {
    type Error = Infallible;

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Infallible> {
        for write in writes {
            match write {
                Write::Put { key, value } => self.0.insert(key, value),
                Write::Delete { key } => self.0.remove(&key),
            };
        }
        Ok(())
    }
}

/// A switch and what it wrote.
pub(super) struct Single {
    pub switch: Switch,
    pub store: Store,
    pub limits: Limits,
    pub tip: Height,
    pub now: UnixTime,
    pub trust: TipTrust,
}

/// What the sender made: an onion over us to one more hop, or with its end here.
pub(super) struct Sent {
    pub htlc: IncomingHtlc,
    pub secrets: Vec<SharedSecret>,
}

pub(super) fn node_secret() -> SecretKey {
    SecretKey::from_slice(&[0x42; 32]).unwrap()
}

pub(super) fn far_secret() -> SecretKey {
    SecretKey::from_slice(&[0x43; 32]).unwrap()
}

pub(super) fn link(channel: ChannelId, peer: u8) -> Link {
    Link {
        channel,
        peer: NodeId([peer; 33]),
        capacity: Msat(1_000_000_000),
        slots: 483,
        short_channel_id: Some(name(channel)),
        alias: Some(alias(channel)),
        alias_only: false,
    }
}

pub(super) fn forward_payload(to: ChannelId) -> ForwardPayload {
    ForwardPayload {
        amt_to_forward: Msat(1_000_000),
        outgoing_cltv_value: CltvExpiry(TIP.0 + 100),
        short_channel_id: name(to),
    }
}

/// An HTLC from Alice that pays exactly what `POLICY` asks for the payload's amount.
pub(super) fn sent(id: u64, payload: ForwardPayload) -> Sent {
    sent_with(id, &HopPayload::Forward(payload).encode(), true)
}

pub(super) fn sent_here(id: u64) -> Sent {
    let payload = ReceivePayload {
        amt_to_forward: Msat(1_000_000),
        outgoing_cltv_value: CltvExpiry(TIP.0 + 140),
        payment_data: Some(PaymentData { payment_secret: PaymentSecret([6; 32]), total_msat: Msat(1_000_000) }),
        payment_metadata: None,
        keysend_preimage: None,
        custom_records: Vec::new(),
    };
    sent_with(id, &payload.encode(), false)
}

pub(super) fn sent_with(id: u64, payload: &[u8], another_hop: bool) -> Sent {
    let mut hops = vec![sphinx::Hop { node: node_secret().public_key(secp()), payload }];
    let last = [2, 1, 1, 4, 1, 1];
    if another_hop {
        hops.push(sphinx::Hop { node: far_secret().public_key(secp()), payload: &last });
    }
    let hash = preimage(id).hash();
    let session = SecretKey::from_slice(&[id as u8 + 1; 32]).unwrap();
    let built = onion::construct(&session, &hops, &hash).unwrap();
    let htlc = IncomingHtlc {
        channel: ALICE,
        id: HtlcId(id),
        amount: Msat(1_001_100),
        payment_hash: hash,
        cltv_expiry: CltvExpiry(TIP.0 + 140),
        onion: built.packet,
        path_key: None,
        must_fail: None,
    };
    Sent { htlc, secrets: built.shared_secrets }
}

pub(super) fn preimage(id: u64) -> PaymentPreimage {
    PaymentPreimage([id as u8; 32])
}

pub(super) fn at(channel: ChannelId, id: u64) -> HtlcRef {
    HtlcRef { channel, id: HtlcId(id) }
}

impl Single {
    pub fn new() -> Self {
        let (switch, out) = Switch::restore([], std::iter::empty()).unwrap();
        assert!(out.is_empty());
        let mut single = Self {
            switch,
            store: Store::default(),
            limits: Limits::default(),
            tip: TIP,
            now: NOW,
            trust: TipTrust::Current,
        };
        for (channel, peer) in [(ALICE, 10), (CAROL, 11), (CAROL_TOO, 11), (DAVE, 12)] {
            single.event(SwitchEvent::Link(Box::new(link(channel, peer))));
            single.set_policy(channel, POLICY);
        }
        single
    }

    /// So long ago that earlier terms do not hold any more.
    pub fn set_policy(&mut self, channel: ChannelId, policy: ForwardPolicy) {
        self.set_policy_at(channel, policy, UnixTime(NOW.0 - GRACE_SECONDS));
    }

    pub fn set_policy_at(&mut self, channel: ChannelId, policy: ForwardPolicy, at: UnixTime) {
        let out = self.switch.set_policy(channel, policy, at).unwrap();
        let _ = self.commit(out);
    }

    pub fn event(&mut self, event: SwitchEvent) -> Vec<SwitchEffect> {
        let secret = node_secret();
        let Self { now, tip, trust, .. } = *self;
        let ctx = SwitchCtx { now, tip, trust, node_secret: &secret, limits: &self.limits };
        let out = self.switch.handle(event, &ctx);
        self.commit(out)
    }

    fn commit(&mut self, out: Outbox<SwitchEffect>) -> Vec<SwitchEffect> {
        Outbox::commit_all(vec![out], &mut self.store).unwrap().remove(0)
    }

    pub fn incoming(&mut self, htlc: &IncomingHtlc) -> Vec<SwitchEffect> {
        self.event(SwitchEvent::Incoming(Box::new(htlc.clone())))
    }

    /// Where an HTLC is offered; panics if it is not.
    pub fn offered(&mut self, htlc: &IncomingHtlc) -> (ChannelId, AddHtlc) {
        let effects = self.incoming(htlc);
        offer(&effects).unwrap_or_else(|| panic!("not offered: {effects:?}"))
    }

    /// What the sender reads about an HTLC that we fail.
    pub fn failure(&mut self, sent: &Sent) -> onion::FailureMessage {
        let effects = self.incoming(&sent.htlc);
        read_failure(&effects, sent)
    }

    pub fn forwards(&self) -> Vec<ForwardRecord> {
        let rows = self.store.0.iter().filter_map(|(key, value)| match key {
            Key::Forward(number) => Some(ForwardRecord::decode(*number, value).unwrap()),
            _ => None,
        });
        rows.collect()
    }
}

pub(super) fn offer(effects: &[SwitchEffect]) -> Option<(ChannelId, AddHtlc)> {
    effects.iter().find_map(|effect| match effect {
        SwitchEffect::Offer { channel, add } => Some((*channel, (**add).clone())),
        _ => None,
    })
}

pub(super) fn settlement(effects: &[SwitchEffect]) -> Option<(HtlcRef, Settlement)> {
    effects.iter().find_map(|effect| match effect {
        SwitchEffect::Settle { channel, id, settlement } => {
            Some((HtlcRef { channel: *channel, id: *id }, settlement.clone()))
        }
        _ => None,
    })
}

pub(super) fn news(effects: &[SwitchEffect]) -> Vec<HtlcEventKind> {
    let kinds = effects.iter().filter_map(|effect| match effect {
        SwitchEffect::Htlc(event) => Some(event.kind.clone()),
        _ => None,
    });
    kinds.collect()
}

pub(super) fn read_failure(effects: &[SwitchEffect], sent: &Sent) -> onion::FailureMessage {
    assert!(offer(effects).is_none());
    let (htlc, settlement) = settlement(effects).unwrap_or_else(|| panic!("not settled: {effects:?}"));
    assert_eq!(htlc, HtlcRef { channel: sent.htlc.channel, id: sent.htlc.id });
    let Settlement::Fail { reason } = settlement else { panic!("{settlement:?}") };
    let read = onion::failure::decrypt(&sent.secrets, reason).expect("the sender can read it");
    assert_eq!(read.hop, 0);
    let failure_code = read.failure.code();
    assert!(
        news(effects)
            .iter()
            .any(|kind| matches!(kind, HtlcEventKind::LinkFail { failure_code: code, .. } if *code == failure_code))
    );
    read.failure
}
