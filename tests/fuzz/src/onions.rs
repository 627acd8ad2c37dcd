//! Onions: payloads and failures come back as they were sent, a packet is opened by its hops in their order and by nobody
//! else, and garbage is refused.

use leyden_channels::onion::failure::{build, wrap};
use leyden_channels::onion::{FailureMessage, Hop, HopPayload, OnionError, PeelError, SharedSecret, construct, peel};
use leyden_channels::types::PaymentHash;
use leyden_channels::wire::OnionRoutingPacket;
use secp256k1::SecretKey;

use crate::input::Input;

/// Enough for every role on a route, and quick.
const MOST_HOPS: usize = 5;

pub fn onions(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => payload(input.flag(), input.rest()),
        1 => failure(input.rest()),
        2 => route(&mut input),
        _ => garbage(&mut input),
    }
}

fn payload(is_final: bool, bytes: &[u8]) {
    if let Ok(payload) = HopPayload::decode(bytes, is_final) {
        assert_eq!(HopPayload::decode(&payload.encode(), is_final), Ok(payload));
    }
}

/// A failure is read by the origin as the hop wrote it, and as that hop's.
fn failure(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (hop, altered) = (input.index(MOST_HOPS), input.u16());
    let Ok(failure) = FailureMessage::decode(input.rest()) else { return };
    assert_eq!(FailureMessage::decode(&failure.encode()).as_ref(), Ok(&failure));
    assert_eq!(failure.encode().first_chunk(), Some(&failure.code().to_be_bytes()));

    let secrets: Vec<SharedSecret> = (1..=MOST_HOPS as u8).map(|byte| SharedSecret([byte; 32])).collect();
    let mut onion = build(&secrets[hop], &failure);
    for secret in secrets[..hop].iter().rev() {
        wrap(secret, &mut onion);
    }
    let told = leyden_channels::onion::failure::decrypt(&secrets, onion.clone()).expect("a hop made it");
    assert_eq!((told.hop, told.failure), (hop, failure));

    let at = usize::from(altered) % onion.len();
    onion[at] ^= 1;
    assert_eq!(leyden_channels::onion::failure::decrypt(&secrets, onion), None, "altered at {at}");
}

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a secret key")
}

fn route(input: &mut Input<'_>) {
    let hash = PaymentHash([input.byte(); 32]);
    let altered = input.u16();
    let keys: Vec<SecretKey> = (1..=1 + input.index(MOST_HOPS) as u8).map(key).collect();
    let payloads: Vec<&[u8]> = keys.iter().map(|_| if input.flag() { input.long() } else { input.short() }).collect();
    let hops: Vec<Hop<'_>> = keys
        .iter()
        .zip(&payloads)
        .map(|(key, payload)| Hop { node: key.public_key(secp256k1::SECP256K1), payload })
        .collect();
    let built = match construct(&key(99), &hops, &hash) {
        Ok(built) => built,
        Err(OnionError::PayloadsTooLong(length)) => return assert!(length > 1300),
        Err(other) => panic!("{other}"),
    };

    let mut packet = built.packet.clone();
    let at = usize::from(altered) % OnionRoutingPacket::LEN;
    packet.0[at] ^= 1;
    assert!(matches!(peel(&packet, &hash, &keys[0]), Err(PeelError::BadOnion(_))), "altered at {at}");

    let mut packet = Some(built.packet);
    for (index, (key, payload)) in keys.iter().zip(&payloads).enumerate() {
        let secret = &built.shared_secrets[index];
        match peel(&packet.take().expect("a packet for each hop"), &hash, key) {
            Ok(peeled) => {
                assert_eq!(peeled.payload, *payload);
                assert_eq!(&peeled.shared_secret, secret);
                packet = peeled.next;
            }
            // Lengths 0 and 1 are reserved.
            Err(error) => {
                assert!(payload.len() < 2, "{error}");
                return assert_eq!(error, PeelError::InvalidLayer(secret.clone()));
            }
        }
    }
    assert_eq!(packet, None, "the last hop is the last");
}

fn garbage(input: &mut Input<'_>) {
    let mut packet = Box::new([0; OnionRoutingPacket::LEN]);
    packet.iter_mut().zip(input.rest()).for_each(|(to, from)| *to = *from);
    let result = peel(&OnionRoutingPacket(packet), &PaymentHash([1; 32]), &key(1));
    assert!(matches!(result, Err(PeelError::BadOnion(_))), "nobody makes an HMAC by chance");
}
