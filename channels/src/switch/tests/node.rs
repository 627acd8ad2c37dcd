//! One node: its state machines, and what they are made from after a restart.

use std::collections::{BTreeMap, VecDeque};

use secp256k1::{PublicKey, SecretKey};

use super::climate;
use super::items::*;
use super::opening::{self, Base};
use super::single::Store;
use super::view::View;
use super::wallet::Wallet;
use crate::channel::*;
use crate::keys::secp;
use crate::onchain::FeeEstimates;
use crate::payment::incoming::{Invoice, InvoiceCtx, Invoices};
use crate::payment::outgoing::{Numbers, Payment, Payments};
use crate::payment::{record, start};
use crate::switch::grace::ForwardPolicies;
use crate::switch::*;
use crate::types::*;

pub(super) struct Node {
    pub secret: SecretKey,
    pub channels: BTreeMap<ChannelId, Channel>,
    pub switch: Switch,
    pub invoices: Invoices,
    pub payments: Payments,
    pub store: Store,
    pub lanes: BTreeMap<Lane, VecDeque<Item>>,
    pub view: View,
    /// Whether what it has seen of the chain may be relied on.
    pub trust: TipTrust,
    pub wallet: Wallet,
    pub outlook: Outlook,
}

/// What a node makes of the world, and wants of it.
#[derive(Clone)]
pub(super) struct Outlook {
    pub policy: &'static ChannelPolicy,
    pub feerates: Feerates,
    pub estimates: FeeEstimates,
    /// The highest rate of a commitment or a claim that it has ever thought right.
    pub highest: FeeratePerKw,
    /// The highest that it has thought enough for the patient.
    pub highest_later: FeeratePerKw,
}

impl Outlook {
    pub fn mild() -> Self {
        let feerates = Feerates::default();
        let estimates = FeeEstimates::new(vec![(1, FeeratePerKw(1_000)), (144, FeeratePerKw(253))]);
        Self {
            policy: climate::policy(0),
            feerates,
            estimates,
            highest: feerates.closing,
            highest_later: FeeratePerKw::FLOOR,
        }
    }
}

/// What outlives a node's death: its store, its coins, and the world, as far as it has seen that.
pub(super) struct Stored {
    pub rows: BTreeMap<Key, Vec<u8>>,
    pub tip: Height,
    pub wallet: Wallet,
    pub outlook: Outlook,
}

impl Node {
    pub fn load(base: &Base, index: usize, stored: Stored, bug: Bug) -> (Self, Vec<Outbox<NodeEffect>>) {
        let Stored { rows, tip, mut wallet, outlook } = stored;
        let live = Key::all_live_prefix();
        let mut by_channel: BTreeMap<ChannelId, Vec<(Key, Vec<u8>)>> = BTreeMap::new();
        for (key, value) in rows.iter().filter(|(key, _)| key.encode().starts_with(&live)) {
            by_channel.entry(key.channel().unwrap()).or_default().push((*key, value.clone()));
        }
        let channels: BTreeMap<ChannelId, Channel> = by_channel
            .into_iter()
            .map(|(id, rows)| (id, Channel::restore(rows, |terms| Some(base.signer(&terms.keys_id))).unwrap()))
            .collect();
        let of_switch = rows.iter().filter(|(key, _)| match key {
            Key::Settlement { .. } => bug != Bug::ForgottenSettlements,
            Key::SeenOnion { .. } => bug != Bug::ForgottenOnions,
            Key::Forward(_) | Key::ForwardPolicy(_) => true,
            _ => false,
        });
        let of_switch: Vec<(Key, Vec<u8>)> = of_switch.map(|(key, value)| (*key, value.clone())).collect();
        let (switch, out) = if bug == Bug::ForgottenCircuits {
            Switch::restore(of_switch, std::iter::empty()).unwrap()
        } else {
            Switch::restore(of_switch, channels.values()).unwrap()
        };
        let invoices = start::invoices(&rows, 0).unwrap();
        let payments = start::payments(&rows, Numbers::default()).unwrap();
        assert_nothing_is_forgotten(&rows, &invoices, &payments);
        if bug != Bug::ForgottenEnforcements {
            channels.values().filter_map(Channel::resolution).for_each(|one| wallet.set_aside_again(one));
        }
        let secret = node_secret(index);
        let mut node = Self {
            secret,
            channels,
            switch,
            invoices,
            payments,
            store: Store(rows),
            lanes: BTreeMap::new(),
            view: View::at(tip),
            trust: TipTrust::Current,
            wallet,
            outlook,
        };
        let mut outboxes = vec![out.convert()];
        if bug == Bug::ForgottenCircuits {
            let none = Limits::default();
            let trust = TipTrust::Current;
            let ctx = SwitchCtx { now: UnixTime(0), tip, trust, node_secret: &secret, limits: &none };
            let links: Vec<Link> = node.channels.values().filter_map(Link::of).collect();
            for link in links {
                let channel = link.channel;
                outboxes.push(node.switch.handle(SwitchEvent::Link(Box::new(link)), &ctx).convert());
                let row = node.store.0.get(&Key::ForwardPolicy(channel));
                let policy = row.map(|row| ForwardPolicies::decode(row).unwrap().present);
                let set = |policy| node.switch.set_policy(channel, policy, UnixTime(0)).unwrap().convert();
                outboxes.extend(policy.map(set));
            }
        }
        (node, outboxes)
    }

    /// What its channels may know of the world.
    pub fn ctx(&self, now: UnixTime) -> Ctx<'static> {
        let Outlook { policy, feerates, .. } = self.outlook;
        Ctx { trust: self.trust, feerates, policy, ..opening::ctx(self.view.tip, now) }
    }

    /// And its invoices.
    pub fn invoice_ctx(&self, now: UnixTime) -> InvoiceCtx {
        InvoiceCtx { now, tip: self.view.tip, trust: self.trust }
    }

    /// The record of an invoice, whatever has become of it.
    pub fn stored_invoice(&self, hash: &PaymentHash) -> Option<Invoice> {
        let index = self.store.0.get(&Key::InvoiceIndex(*hash))?;
        let index = u64::from_be_bytes(index.as_slice().try_into().unwrap());
        Some(record::decode_invoice(&self.store.0[&Key::Invoice(index)]).unwrap())
    }

    /// The record of a payment.
    pub fn stored_payment(&self, hash: &PaymentHash) -> Option<Payment> {
        let index = self.store.0.get(&Key::PaymentIndex(*hash))?;
        let index = u64::from_be_bytes(index.as_slice().try_into().unwrap());
        Some(record::decode_payment(&self.store.0[&Key::Payment(index)]).unwrap())
    }

    pub fn forwards(&self) -> Vec<ForwardRecord> {
        let rows = self.store.0.iter().filter_map(|(key, value)| match key {
            Key::Forward(number) => Some(ForwardRecord::decode(*number, value).unwrap()),
            _ => None,
        });
        rows.collect()
    }

    pub fn balance(&self) -> Msat {
        let balances = self.channels.values().map(|channel| {
            channel.summary().and_then(|summary| summary.established).expect("established").local_balance.0
        });
        Msat(balances.sum())
    }
}

pub(super) fn node_secret(index: usize) -> SecretKey {
    SecretKey::from_slice(&[0x61 + index as u8; 32]).unwrap()
}

pub(super) fn node_key(index: usize) -> PublicKey {
    node_secret(index).public_key(secp())
}

/// What a start reads is what all the records say.
fn assert_nothing_is_forgotten(rows: &BTreeMap<Key, Vec<u8>>, invoices: &Invoices, payments: &Payments) {
    let invoice =
        |(key, bytes): (&Key, &Vec<u8>)| matches!(key, Key::Invoice(_)).then(|| record::decode_invoice(bytes).unwrap());
    let payment =
        |(key, bytes): (&Key, &Vec<u8>)| matches!(key, Key::Payment(_)).then(|| record::decode_payment(bytes).unwrap());
    let all = Invoices::restore(rows.iter().filter_map(invoice));
    assert_eq!(format!("{invoices:?}"), format!("{all:?}"));
    let all = Payments::restore(rows.iter().filter_map(payment));
    assert_eq!(payments.numbers(), all.numbers());
    assert!(payments.under_way().eq(all.under_way()));
}
