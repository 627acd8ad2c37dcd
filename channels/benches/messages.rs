//! What a payment costs a hop apart from its signatures: peeling the onion, encoding and encrypting a message.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use leyden_channels::keys::secp;
use leyden_channels::onion::{self, FailureMessage, Hop, failure};
use leyden_channels::transport::{AwaitingActOne, AwaitingActTwo, ReceiveBuffer};
use leyden_channels::types::{ChannelId, CltvExpiry, HtlcId, Msat, PaymentHash};
use leyden_channels::wire::{Message, UpdateAddHtlc};
use secp256k1::SecretKey;

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a valid key")
}

fn messages(criterion: &mut Criterion) {
    let hash = PaymentHash([9; 32]);
    let payload = [2, 4, 1, 2, 3, 4, 4, 3, 1, 2, 3, 6, 8, 0, 0, 0, 0, 0, 0, 0, 1];
    let hops: Vec<_> = (1..=20).map(|byte| Hop { node: secret(byte).public_key(secp()), payload: &payload }).collect();
    let built = onion::construct(&secret(77), &hops[..4], &hash).expect("a short route");
    criterion.bench_function("construct an onion of 20 hops", |bencher| {
        bencher.iter(|| black_box(onion::construct(&secret(77), &hops, &hash)));
    });
    criterion.bench_function("peel a layer", |bencher| {
        bencher.iter(|| black_box(onion::peel(&built.packet, &hash, &secret(1))));
    });
    criterion.bench_function("read a failure", |bencher| {
        let mut reason = failure::build(&built.shared_secrets[3], &FailureMessage::TemporaryNodeFailure);
        built.shared_secrets[..3].iter().rev().for_each(|secret| failure::wrap(secret, &mut reason));
        bencher.iter(|| black_box(failure::decrypt(&built.shared_secrets, reason.clone())));
    });
    let add = Message::from(UpdateAddHtlc {
        channel_id: ChannelId([1; 32]),
        id: HtlcId(1),
        amount_msat: Msat(1),
        payment_hash: hash,
        cltv_expiry: CltvExpiry(100),
        onion_routing_packet: built.packet.clone(),
        path_key: None,
    });
    let (initiator, one) = AwaitingActTwo::start(secret(1), secret(2).public_key(secp()), secret(3));
    let (responder, two) = AwaitingActOne::start(secret(2), secret(4)).act_one(&one).expect("act one");
    let (mut alice, three) = initiator.act_two(&two).expect("act two");
    let mut bob = responder.act_three(&three).expect("act three");
    let mut buffer = ReceiveBuffer::new();
    criterion.bench_function("encode, encrypt, decrypt and decode an update_add_htlc", |bencher| {
        bencher.iter(|| {
            alice.encryptor.encrypt_message(&add, buffer.tail()).expect("it fits");
            let received = bob.decryptor.decrypt(&mut buffer).expect("authentic").expect("whole");
            black_box(Message::decode(received).expect("a message"))
        });
    });
}

criterion_group!(benches, messages);
criterion_main!(benches);
