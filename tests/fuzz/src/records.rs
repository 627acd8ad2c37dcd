//! Stored records: what is read is written and read again as the same, and what is put together from any rows stands.
//!
//! Damage on a disk is no attack, but a restart must end in an answer and not in a panic, and a record that an older
//! version wrote must not change its meaning when it is written again.

use std::fmt::Debug;

use leyden_channels::channel::{ChannelBackup, HtlcKey, Key, OwedSettlement, decode_retired};
use leyden_channels::gossip::store::{funding_script_of, stored_message};
use leyden_channels::gossip::{GossipKey, Graph};
use leyden_channels::keys::PerCommitmentSecrets;
use leyden_channels::onchain::{ClosingChannel, EnforcementPolicy, StoredResolution, tree};
use leyden_channels::payment::incoming::Invoices;
use leyden_channels::payment::outgoing::Payments;
use leyden_channels::payment::record::{decode_invoice, decode_payment, encode_invoice, encode_payment};
use leyden_channels::routing::Scorer;
use leyden_channels::switch::{ForwardRecord, Switch};
use leyden_channels::types::{CommitmentNumber, Height, HtlcId, ShortChannelId, Side};
use leyden_consensus::utxo_hash::UtxoSetHash;
use leyden_consensus::{BlockUndo, Coin};

use crate::input::Input;

/// Each kind of record, in the order in which an input's first byte names them.
const KINDS: [fn(&[u8]); 16] = [
    key,
    backup,
    closing_channel,
    resolution,
    settlement,
    retired_htlc,
    forward,
    switch_rows,
    invoice,
    payment,
    gossip_key,
    gossip_rows,
    scorer,
    secrets,
    coin,
    undo,
];

pub fn records(bytes: &[u8]) {
    let Some((kind, record)) = bytes.split_first() else { return };
    KINDS[usize::from(*kind) % KINDS.len()](record);
}

/// decode ∘ encode is the identity on everything that decodes.
fn round_trip<T: PartialEq + Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>, encode: impl Fn(&T) -> Vec<u8>) {
    if let Some(value) = decode(bytes) {
        assert_eq!(decode(&encode(&value)), Some(value));
    }
}

fn key(bytes: &[u8]) {
    round_trip(bytes, Key::decode, Key::encode);
    if let Some(key) = Key::decode(bytes) {
        assert_eq!(key.encode(), bytes, "a key has one form");
    }
}

fn backup(bytes: &[u8]) {
    round_trip(bytes, |bytes| ChannelBackup::decode(bytes).ok(), ChannelBackup::encode);
}

fn closing_channel(bytes: &[u8]) {
    round_trip(bytes, |bytes| ClosingChannel::decode(bytes).ok(), ClosingChannel::encode);
    if let Ok(channel) = ClosingChannel::decode(bytes) {
        let _ = tree(&channel);
    }
}

fn resolution(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (channel, facts) = (input.long(), input.rest());
    let Ok(stored) = StoredResolution::decode_separate(channel, Some(facts)) else { return };
    let Ok(channel) = ClosingChannel::decode(channel) else { return };
    if let Ok(resolution) = stored.restore(channel) {
        let _ = resolution.report(Height(1_000), &EnforcementPolicy::default());
        let _ = (resolution.needs_coins(), resolution.lacking(), resolution.closer());
        let again = StoredResolution::decode(&resolution.encode()).expect("what was written");
        assert_eq!(again.restore(resolution.channel().clone()).as_ref(), Ok(&resolution));
    }
}

fn settlement(bytes: &[u8]) {
    round_trip(bytes, OwedSettlement::decode, OwedSettlement::encode);
}

fn retired_htlc(bytes: &[u8]) {
    let key = HtlcKey { offered_by: Side::Remote, id: HtlcId(3) };
    if let Ok(retired) = decode_retired(key, bytes) {
        assert_eq!(retired.htlc.key(), key);
        assert!(retired.first_remote <= retired.last_remote);
        assert!(retired.last_remote <= CommitmentNumber::MAX, "{:?}", retired.last_remote);
    }
}

fn forward(bytes: &[u8]) {
    round_trip(bytes, |bytes| ForwardRecord::decode(7, bytes).ok(), ForwardRecord::encode);
}

/// Rows as a forwarding node finds them at its start, all of whose channels are gone.
fn switch_rows(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut rows = Vec::new();
    while !input.is_empty() {
        if let Some(key) = Key::decode(input.short()) {
            rows.push((key, input.long().to_vec()));
        }
    }
    let _ = Switch::restore(rows, &[]);
}

fn invoice(bytes: &[u8]) {
    round_trip(bytes, |bytes| decode_invoice(bytes).ok(), encode_invoice);
    if let Ok(invoice) = decode_invoice(bytes) {
        let _ = Invoices::restore([invoice]);
    }
}

fn payment(bytes: &[u8]) {
    round_trip(bytes, |bytes| decode_payment(bytes).ok(), encode_payment);
    if let Ok(payment) = decode_payment(bytes) {
        let payments = Payments::restore([payment.clone()]);
        assert_eq!(payments.last_index(), payment.index);
    }
}

fn gossip_key(bytes: &[u8]) {
    round_trip(bytes, |bytes| GossipKey::decode(bytes).ok(), GossipKey::encode);
}

fn gossip_rows(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut graph = Graph::new();
    while !input.is_empty() {
        let (key, value) = (input.short(), input.long());
        let _ = graph.load_record(key, value);
        let _ = funding_script_of(value);
        if let Ok(key) = GossipKey::decode(key) {
            let _ = stored_message(&key, value);
        }
    }
}

fn scorer(bytes: &[u8]) {
    let _ = Scorer::load([(ShortChannelId(1), bytes)]);
}

fn secrets(bytes: &[u8]) {
    let decode = |bytes: &[u8]| PerCommitmentSecrets::decode(bytes).ok();
    let Some(secrets) = decode(bytes) else { return };
    assert_eq!(secrets.encode(), bytes);
    let _ = secrets.get(CommitmentNumber(0));
    assert!(secrets.get(secrets.next()).is_none(), "what was not revealed is not known");
}

fn coin(bytes: &[u8]) {
    round_trip(bytes, |bytes| Coin::from_bytes(bytes).ok(), Coin::to_bytes);
    if let Ok(coin) = Coin::from_bytes(bytes) {
        assert_eq!(coin.to_bytes(), bytes, "a coin has one form");
    }
    if let Some(hash) = UtxoSetHash::from_bytes(bytes) {
        let again = UtxoSetHash::from_bytes(&hash.to_bytes()).expect("what was written");
        assert_eq!(again.to_bytes(), hash.to_bytes());
    }
}

fn undo(bytes: &[u8]) {
    round_trip(bytes, |bytes| BlockUndo::from_bytes(bytes).ok(), BlockUndo::to_bytes);
}
