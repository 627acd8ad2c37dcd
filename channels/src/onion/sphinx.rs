//! Building an onion and taking one layer off (BOLT 4, Packet Construction and Onion Decryption).
//!
//! ```text
//!   packet       = version (1) ‖ ephemeral key (33) ‖ hop payloads (1300) ‖ hmac (32)
//!   hop payloads = length ‖ payload ‖ hmac for the next hop ‖ … ‖ filler
//! ```
//!
//! Each hop shares a secret with the origin by the packet's ephemeral key, which every hop blinds anew for its
//! successor, so that no two packets of a payment look related. To peel, a hop decrypts its 1300 bytes together
//! with 1300 zeros: what it shifts out at the front comes in at the back as noise, and the origin computes that
//! noise (the filler) in advance, since the HMACs cover it.

use std::fmt;

use bitcoin_hashes::cmp::fixed_time_eq;
use bitcoin_hashes::{Hash as _, HashEngine as _, sha256};
use secp256k1::{PublicKey, Scalar, SecretKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::stream::{KeyType, derive_key, hmac, xor_stream};
use crate::keys::curve;
use crate::types::PaymentHash;
use crate::wire::{OnionRoutingPacket, Reader, bigsize};

const VERSION: u8 = 0;
const KEY_LEN: usize = 33;
const HMAC_LEN: usize = 32;
const PAYLOADS_LEN: usize = 1300;

/// The longest route: 27 hops fit with the smallest payloads there are (BOLT 4), and failures are decrypted that
/// many times.
pub const MAX_HOPS: usize = 27;

/// The secret that the origin shares with one hop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret(pub [u8; 32]);

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// One hop of a route to be built: its key, and what to tell it (a TLV stream, without its length).
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The hop's node key.
    pub node: PublicKey,
    /// What it is told.
    pub payload: &'a [u8],
}

/// Why an onion cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum OnionError {
    #[error("a route has 1 to {MAX_HOPS} hops, not {0}")]
    RouteLength(usize),
    #[error("the payloads take {0} bytes, and an onion carries {PAYLOADS_LEN}: use a shorter route or smaller records")]
    PayloadsTooLong(usize),
    #[error("the session key leads to an invalid point; draw another one")]
    InvalidSessionKey,
}

/// A packet, and the secrets with which the origin will read a failure.
#[derive(Clone, Debug)]
pub struct Constructed {
    /// The packet for the first hop.
    pub packet: OnionRoutingPacket,
    /// One for each hop, in the order of the route.
    pub shared_secrets: Vec<SharedSecret>,
}

/// How many bytes a payload takes in the packet.
fn layer_len(payload: &[u8]) -> usize {
    bigsize::len(payload.len() as u64) + payload.len() + HMAC_LEN
}

/// The session's ephemeral key for each hop, and the secret shared with it.
fn session(
    session_key: &SecretKey,
    nodes: impl Iterator<Item = PublicKey>,
) -> Result<(PublicKey, Vec<SharedSecret>), OnionError> {
    let mut ephemeral = *session_key;
    let first = curve::public_key(&ephemeral);
    let mut point = first;
    let mut secrets = Vec::with_capacity(MAX_HOPS);
    for (index, node) in nodes.enumerate() {
        if index > 0 {
            let previous = secrets.last().ok_or(OnionError::InvalidSessionKey)?;
            let factor = blinding_factor(&point, previous).ok_or(OnionError::InvalidSessionKey)?;
            ephemeral = ephemeral.mul_tweak(&factor).map_err(|_| OnionError::InvalidSessionKey)?;
            point = curve::public_key(&ephemeral);
        }
        secrets.push(SharedSecret(curve::shared_secret(&node, &ephemeral)));
    }
    Ok((first, secrets))
}

fn blinding_factor(ephemeral: &PublicKey, secret: &SharedSecret) -> Option<Scalar> {
    let mut engine = sha256::Hash::engine();
    engine.input(&ephemeral.serialize());
    engine.input(&secret.0);
    Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array()).ok()
}

/// The secrets of a route again, from its session key: a durable payment keeps the key alone.
pub fn shared_secrets(session_key: &SecretKey, nodes: &[PublicKey]) -> Result<Vec<SharedSecret>, OnionError> {
    session(session_key, nodes.iter().copied()).map(|(_, secrets)| secrets)
}

/// Builds the onion of a route. `session_key` must be fresh for every packet; `payment_hash` ties the packet to its
/// HTLC.
pub fn construct(
    session_key: &SecretKey,
    hops: &[Hop<'_>],
    payment_hash: &PaymentHash,
) -> Result<Constructed, OnionError> {
    construct_with(session_key, hops, &payment_hash.0)
}

/// [`construct`] with any associated data.
pub fn construct_with(
    session_key: &SecretKey,
    hops: &[Hop<'_>],
    associated_data: &[u8],
) -> Result<Constructed, OnionError> {
    if hops.is_empty() || hops.len() > MAX_HOPS {
        return Err(OnionError::RouteLength(hops.len()));
    }
    let total = hops.iter().map(|hop| layer_len(hop.payload)).sum();
    if total > PAYLOADS_LEN {
        return Err(OnionError::PayloadsTooLong(total));
    }
    let (ephemeral, shared_secrets) = session(session_key, hops.iter().map(|hop| hop.node))?;

    // What lies behind the last payload is noise of our own, so that nobody can tell where the payloads end.
    let mut payloads = [0; PAYLOADS_LEN];
    xor_stream(&derive_key(KeyType::Pad, &session_key.secret_bytes()), 0, &mut payloads);
    let filler = filler(hops, &shared_secrets);
    let mut next_hmac = [0; HMAC_LEN];
    let mut layer = Vec::with_capacity(PAYLOADS_LEN);
    for (index, (hop, secret)) in hops.iter().zip(&shared_secrets).enumerate().rev() {
        layer.clear();
        bigsize::write(hop.payload.len() as u64, &mut layer);
        layer.extend_from_slice(hop.payload);
        layer.extend_from_slice(&next_hmac);
        // The layer comes in at the front and pushes as much out at the back.
        payloads.rotate_right(layer.len().min(PAYLOADS_LEN));
        payloads.iter_mut().zip(&layer).for_each(|(to, from)| *to = *from);
        xor_stream(&derive_key(KeyType::Rho, &secret.0), 0, &mut payloads);
        if index + 1 == hops.len() {
            payloads.iter_mut().rev().zip(filler.iter().rev()).for_each(|(to, from)| *to = *from);
        }
        next_hmac = hmac(&derive_key(KeyType::Mu, &secret.0), &[&payloads, associated_data]);
    }
    Ok(Constructed { packet: assemble(&ephemeral.serialize(), &payloads, &next_hmac), shared_secrets })
}

/// What the hops before the last one will have shifted in at the back when the packet reaches the last one (BOLT 4,
/// Filler Generation).
fn filler(hops: &[Hop<'_>], shared_secrets: &[SharedSecret]) -> Vec<u8> {
    let mut filler = Vec::with_capacity(PAYLOADS_LEN);
    let forwarding = hops.iter().zip(shared_secrets).take(hops.len().saturating_sub(1));
    for (hop, secret) in forwarding {
        let start = PAYLOADS_LEN - filler.len();
        filler.resize(filler.len() + layer_len(hop.payload), 0);
        xor_stream(&derive_key(KeyType::Rho, &secret.0), start as u32, &mut filler);
    }
    filler
}

fn assemble(ephemeral: &[u8; KEY_LEN], payloads: &[u8], hmac: &[u8; HMAC_LEN]) -> OnionRoutingPacket {
    let mut packet = Box::new([VERSION; OnionRoutingPacket::LEN]);
    let parts = ephemeral.iter().chain(payloads).chain(hmac);
    packet.iter_mut().skip(1).zip(parts).for_each(|(to, from)| *to = *from);
    OnionRoutingPacket(packet)
}

/// A packet that nobody can open: it goes back with `update_fail_malformed_htlc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BadOnion {
    #[error("the onion has version {0}; this node knows version {VERSION}")]
    Version(u8),
    #[error("the onion's ephemeral key is no point on the curve")]
    Key,
    #[error("the onion does not authenticate")]
    Hmac,
}

/// Why a packet was not peeled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeelError {
    /// To be answered with `update_fail_malformed_htlc`.
    #[error(transparent)]
    BadOnion(#[from] BadOnion),
    /// The origin built it so. It is told by a failure onion (`invalid_onion_payload`) under this secret.
    #[error("the onion's length of our payload makes no sense")]
    InvalidLayer(SharedSecret),
}

/// A packet after our layer is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeled {
    /// Our payload: a TLV stream.
    pub payload: Vec<u8>,
    /// The packet for the next hop; `None`: the payment ends here.
    pub next: Option<OnionRoutingPacket>,
    /// To send a failure back with, or to wrap one from further on.
    pub shared_secret: SharedSecret,
}

/// Takes one layer off with the node's own key. `payment_hash` is that of the HTLC that carried the packet.
pub fn peel(
    packet: &OnionRoutingPacket,
    payment_hash: &PaymentHash,
    node_secret: &SecretKey,
) -> Result<Peeled, PeelError> {
    peel_with(packet, &payment_hash.0, node_secret)
}

/// [`peel`] with any associated data.
pub fn peel_with(
    packet: &OnionRoutingPacket,
    associated_data: &[u8],
    node_secret: &SecretKey,
) -> Result<Peeled, PeelError> {
    // The packet has a fixed length, so none of these reads can fail.
    let mut reader = Reader::new(packet.0.as_slice());
    let version = reader.field::<u8>().map_err(|_| BadOnion::Key)?;
    if version != VERSION {
        return Err(BadOnion::Version(version).into());
    }
    let ephemeral = reader.array::<KEY_LEN>().map_err(|_| BadOnion::Key)?;
    let payloads = reader.bytes(PAYLOADS_LEN).map_err(|_| BadOnion::Hmac)?;
    let packet_hmac = reader.array::<HMAC_LEN>().map_err(|_| BadOnion::Hmac)?;

    let ephemeral = PublicKey::from_slice(&ephemeral).map_err(|_| BadOnion::Key)?;
    let secret = SharedSecret(curve::shared_secret(&ephemeral, node_secret));
    let expected = hmac(&derive_key(KeyType::Mu, &secret.0), &[payloads, associated_data]);
    if !fixed_time_eq(&expected, &packet_hmac) {
        return Err(BadOnion::Hmac.into());
    }

    let mut opened = [0; 2 * PAYLOADS_LEN];
    opened.iter_mut().zip(payloads).for_each(|(to, from)| *to = *from);
    xor_stream(&derive_key(KeyType::Rho, &secret.0), 0, &mut opened);
    let mut layer = Reader::new(opened.get(..PAYLOADS_LEN).unwrap_or_default());
    let Some((payload, next_hmac)) = read_layer(&mut layer) else { return Err(PeelError::InvalidLayer(secret)) };
    let next = if next_hmac == [0; HMAC_LEN] {
        None
    } else {
        let consumed = PAYLOADS_LEN - layer.remaining();
        let next_payloads = opened.get(consumed..consumed + PAYLOADS_LEN).unwrap_or_default();
        let blinded = blinding_factor(&ephemeral, &secret)
            .and_then(|factor| curve::multiply(&ephemeral, &factor).ok())
            .ok_or(BadOnion::Key)?;
        Some(assemble(&blinded.serialize(), next_payloads, &next_hmac))
    };
    Ok(Peeled { payload, next, shared_secret: secret })
}

/// Lengths 0 and 1 are reserved: no payload is that short.
fn read_layer(layer: &mut Reader<'_>) -> Option<(Vec<u8>, [u8; HMAC_LEN])> {
    let len = usize::try_from(layer.bigsize().ok()?).ok()?;
    if len < 2 {
        return None;
    }
    let payload = layer.bytes(len).ok()?.to_vec();
    Some((payload, layer.array().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors;

    fn secret(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    #[test]
    fn onion_vectors_are_built_and_peeled_to_the_end() {
        let Some(vectors) = vectors::json("lightning/bolt04/onion-test.json") else { return };
        let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
        let generate = &vectors["generate"];
        let payloads: Vec<(PublicKey, Vec<u8>)> = generate["hops"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hop| {
                // The vector's payloads begin with their length.
                let payload = bytes(&hop["payload"]);
                let mut reader = Reader::new(&payload);
                assert_eq!(reader.bigsize().unwrap(), reader.remaining() as u64);
                (PublicKey::from_slice(&bytes(&hop["pubkey"])).unwrap(), reader.take_rest().to_vec())
            })
            .collect();
        let hops: Vec<_> = payloads.iter().map(|(node, payload)| Hop { node: *node, payload }).collect();
        let session_key = SecretKey::from_slice(&bytes(&generate["session_key"])).unwrap();
        let associated_data = bytes(&generate["associated_data"]);
        let built = construct_with(&session_key, &hops, &associated_data).unwrap();
        assert_eq!(hex::encode(built.packet.0.as_slice()), vectors["onion"].as_str().unwrap());

        let keys = vectors["decode"].as_array().unwrap();
        let mut packet = Some(built.packet);
        let mut count = 0;
        for ((key, hop), secret) in keys.iter().zip(&hops).zip(&built.shared_secrets) {
            let key = SecretKey::from_slice(&bytes(key)).unwrap();
            let peeled = peel_with(&packet.unwrap(), &associated_data, &key).unwrap();
            assert_eq!(peeled.payload, hop.payload);
            assert_eq!(&peeled.shared_secret, secret);
            packet = peeled.next;
            count += 1;
        }
        assert_eq!(packet, None);
        vectors::ran("bolt04/onion-test.json", count, 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_route_of_any_length_is_peeled_hop_by_hop(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 2..14), 1..=MAX_HOPS),
        ) {
            let keys: Vec<_> = (1..=payloads.len() as u8).map(secret).collect();
            let hops: Vec<_> = keys
                .iter()
                .zip(&payloads)
                .map(|(key, payload)| Hop { node: curve::public_key(key), payload })
                .collect();
            let hash = PaymentHash([9; 32]);
            let built = construct(&secret(99), &hops, &hash).unwrap();
            let nodes: Vec<_> = hops.iter().map(|hop| hop.node).collect();
            prop_assert_eq!(&shared_secrets(&secret(99), &nodes).unwrap(), &built.shared_secrets);
            let mut packet = built.packet;
            for (index, (key, payload)) in keys.iter().zip(&payloads).enumerate() {
                let peeled = peel(&packet, &hash, key).unwrap();
                prop_assert_eq!(&peeled.payload, payload);
                match peeled.next {
                    Some(next) => packet = next,
                    None => prop_assert_eq!(index + 1, keys.len()),
                }
            }
        }

        #[test]
        fn an_altered_packet_is_refused(at in 0usize..OnionRoutingPacket::LEN, mask in 1u8..) {
            let hops = [Hop { node: curve::public_key(&secret(1)), payload: &[1, 0] }];
            let hash = PaymentHash([9; 32]);
            let mut packet = construct(&secret(99), &hops, &hash).unwrap().packet;
            packet.0[at] ^= mask;
            let refused = matches!(peel(&packet, &hash, &secret(1)), Err(PeelError::BadOnion(_)));
            prop_assert!(refused);
        }
    }

    #[test]
    fn a_packet_is_bound_to_its_payment_and_its_hop() {
        let hops = [Hop { node: curve::public_key(&secret(1)), payload: &[1, 0] }];
        let packet = construct(&secret(99), &hops, &PaymentHash([9; 32])).unwrap().packet;
        let bad = Err(PeelError::BadOnion(BadOnion::Hmac));
        assert_eq!(peel(&packet, &PaymentHash([8; 32]), &secret(1)), bad);
        assert_eq!(peel(&packet, &PaymentHash([9; 32]), &secret(2)), bad);
    }

    #[test]
    fn a_payload_of_reserved_length_is_told_to_the_origin() {
        for payload in [&[][..], &[7][..]] {
            let hops = [Hop { node: curve::public_key(&secret(1)), payload }];
            let built = construct(&secret(99), &hops, &PaymentHash([9; 32])).unwrap();
            let error = peel(&built.packet, &PaymentHash([9; 32]), &secret(1)).unwrap_err();
            assert_eq!(error, PeelError::InvalidLayer(built.shared_secrets[0].clone()));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_built() {
        let node = curve::public_key(&secret(1));
        let long = vec![0; 1266];
        let hash = PaymentHash([0; 32]);
        let error = construct(&secret(9), &[Hop { node, payload: &long }], &hash).unwrap_err();
        assert_eq!(error, OnionError::PayloadsTooLong(1301));
        assert!(construct(&secret(9), &[Hop { node, payload: &long[1..] }], &hash).is_ok());
        assert_eq!(construct(&secret(9), &[], &hash).unwrap_err(), OnionError::RouteLength(0));
        let many = [Hop { node, payload: &[0, 0] }; 28];
        assert_eq!(construct(&secret(9), &many, &hash).unwrap_err(), OnionError::RouteLength(28));
    }
}
