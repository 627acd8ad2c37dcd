//! The three acts of the handshake (BOLT 8, Authenticated Key Exchange Handshake Specification).
//!
//! ```text
//!   act one    ──►  e, es     version ‖ ephemeral key ‖ tag
//!   act two   ◄──   e, ee     version ‖ ephemeral key ‖ tag
//!   act three  ──►  s, se     version ‖ encrypted static key ‖ its tag ‖ tag
//! ```

use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use secp256k1::{PublicKey, SecretKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::cipher::{Decryptor, Encryptor, TAG_LEN, hkdf_two, open, seal};
use crate::keys::curve;

const PROTOCOL_NAME: &[u8] = b"Noise_XK_secp256k1_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"lightning";
const VERSION: u8 = 0;
const KEY_LEN: usize = 33;

/// Bytes of the initiator's first message (BOLT 8, Act One).
pub const ACT_ONE_LEN: usize = 1 + KEY_LEN + TAG_LEN;
/// Bytes of the responder's message (BOLT 8, Act Two).
pub const ACT_TWO_LEN: usize = ACT_ONE_LEN;
/// Bytes of the initiator's second message (BOLT 8, Act Three).
pub const ACT_THREE_LEN: usize = 1 + KEY_LEN + TAG_LEN + TAG_LEN;

/// Why the handshake failed. The connection is to be closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum HandshakeError {
    #[error("an act has {expected} bytes, not {got}")]
    Length { expected: usize, got: usize },
    #[error("the peer speaks version {0} of the handshake; this node speaks version {VERSION}")]
    Version(u8),
    #[error("the peer sent an ephemeral key that is no point on the curve")]
    InvalidEphemeralKey,
    #[error("the peer sent a node key that is no point on the curve")]
    InvalidStaticKey,
    #[error("the peer's node key does not decrypt")]
    StaticKeyNotAuthentic,
    #[error("the act does not authenticate: the peer does not hold the key that it is expected to hold")]
    NotAuthentic,
}

/// An authenticated connection.
pub struct Session {
    /// For what we send.
    pub encryptor: Encryptor,
    /// For what we receive.
    pub decryptor: Decryptor,
    /// The peer's node id.
    pub remote: PublicKey,
}

/// The running hash, and the chaining key that every shared secret is mixed into.
struct Transcript {
    hash: [u8; 32],
    chaining_key: Zeroizing<[u8; 32]>,
}

impl Transcript {
    fn new(responder: &PublicKey) -> Self {
        let hash: [u8; 32] = Sha256::digest(PROTOCOL_NAME).into();
        let mut transcript = Self { hash, chaining_key: Zeroizing::new(hash) };
        transcript.mix_hash(PROLOGUE);
        transcript.mix_hash(&responder.serialize());
        transcript
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Sha256::new_with_prefix(self.hash).chain_update(data).finalize().into();
    }

    /// Mixes in a shared secret; the temporary key for what comes next.
    fn mix_key(&mut self, secret: &SecretKey, point: &PublicKey) -> ChaCha20Poly1305 {
        let shared = Zeroizing::new(curve::shared_secret(point, secret));
        let (chaining_key, key) = hkdf_two(&self.chaining_key, shared.as_slice());
        self.chaining_key = chaining_key;
        ChaCha20Poly1305::new(&(*key).into())
    }

    /// Encrypts `data` in place and mixes the result in; the tag.
    fn seal(&mut self, key: &ChaCha20Poly1305, nonce: u64, data: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = seal(key, nonce, &self.hash, data).unwrap_or_default();
        self.mix_sealed(data, &tag);
        tag
    }

    /// Decrypts `data` in place and mixes in what it was.
    fn open(
        &mut self,
        key: &ChaCha20Poly1305,
        nonce: u64,
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), HandshakeError> {
        let ad = self.hash;
        self.mix_sealed(data, tag);
        open(key, nonce, &ad, data, tag).map_err(|_| HandshakeError::NotAuthentic)
    }

    fn mix_sealed(&mut self, data: &[u8], tag: &[u8]) {
        self.hash = Sha256::new_with_prefix(self.hash).chain_update(data).chain_update(tag).finalize().into();
    }

    /// The two keys of the session, in the order initiator to responder, responder to initiator.
    fn split(self) -> (DirectionKeys, DirectionKeys) {
        let (first, second) = hkdf_two(&self.chaining_key, &[]);
        ((first, self.chaining_key.clone()), (second, self.chaining_key))
    }

    /// An act that carries an ephemeral key: writes it and proves the shared secret of `secret` and `point`.
    fn write_ephemeral(&mut self, secret: &SecretKey, point: &PublicKey) -> ([u8; ACT_ONE_LEN], ChaCha20Poly1305) {
        let ephemeral = curve::public_key(secret).serialize();
        self.mix_hash(&ephemeral);
        let key = self.mix_key(secret, point);
        let tag = self.seal(&key, 0, &mut []);
        let mut act = [VERSION; ACT_ONE_LEN];
        act.iter_mut().skip(1).zip(ephemeral.into_iter().chain(tag)).for_each(|(to, from)| *to = from);
        (act, key)
    }

    /// The other side of [`Transcript::write_ephemeral`]; the peer's ephemeral key.
    fn read_ephemeral(
        &mut self,
        act: &[u8],
        secret: &SecretKey,
    ) -> Result<(PublicKey, ChaCha20Poly1305), HandshakeError> {
        let act: &[u8; ACT_ONE_LEN] = exact(act)?;
        let (version, rest) = split_version(act)?;
        check_version(version)?;
        let (ephemeral, tag) = split_tag(rest)?;
        let point = PublicKey::from_slice(ephemeral).map_err(|_| HandshakeError::InvalidEphemeralKey)?;
        self.mix_hash(ephemeral);
        let key = self.mix_key(secret, &point);
        self.open(&key, 0, &mut [], tag)?;
        Ok((point, key))
    }
}

type DirectionKeys = (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>);

fn exact<const N: usize>(act: &[u8]) -> Result<&[u8; N], HandshakeError> {
    act.try_into().map_err(|_| HandshakeError::Length { expected: N, got: act.len() })
}

fn split_version(act: &[u8]) -> Result<(u8, &[u8]), HandshakeError> {
    let (version, rest) = act.split_first().ok_or(HandshakeError::Length { expected: 1, got: 0 })?;
    Ok((*version, rest))
}

fn check_version(version: u8) -> Result<(), HandshakeError> {
    if version == VERSION { Ok(()) } else { Err(HandshakeError::Version(version)) }
}

fn split_tag(bytes: &[u8]) -> Result<(&[u8], &[u8; TAG_LEN]), HandshakeError> {
    bytes.split_last_chunk().ok_or(HandshakeError::Length { expected: TAG_LEN, got: bytes.len() })
}

/// The initiator after act one.
pub struct AwaitingActTwo {
    transcript: Transcript,
    local: SecretKey,
    ephemeral: SecretKey,
    remote: PublicKey,
}

impl AwaitingActTwo {
    /// Act one, to be sent to the node whose id is `remote`. `ephemeral` must be fresh.
    pub fn start(local: SecretKey, remote: PublicKey, ephemeral: SecretKey) -> (Self, [u8; ACT_ONE_LEN]) {
        let mut transcript = Transcript::new(&remote);
        let (act, _) = transcript.write_ephemeral(&ephemeral, &remote);
        (Self { transcript, local, ephemeral, remote }, act)
    }

    /// Takes act two; the session, and act three to be sent before anything else.
    pub fn act_two(mut self, act: &[u8]) -> Result<(Session, [u8; ACT_THREE_LEN]), HandshakeError> {
        let (remote_ephemeral, key) = self.transcript.read_ephemeral(act, &self.ephemeral)?;
        let mut static_key = curve::public_key(&self.local).serialize();
        let static_tag = self.transcript.seal(&key, 1, &mut static_key);
        let key = self.transcript.mix_key(&self.local, &remote_ephemeral);
        let tag = self.transcript.seal(&key, 0, &mut []);
        let mut act = [VERSION; ACT_THREE_LEN];
        let body = static_key.into_iter().chain(static_tag).chain(tag);
        act.iter_mut().skip(1).zip(body).for_each(|(to, from)| *to = from);
        let (sending, receiving) = self.transcript.split();
        let session = Session {
            encryptor: Encryptor::new(sending.0, sending.1),
            decryptor: Decryptor::new(receiving.0, receiving.1),
            remote: self.remote,
        };
        Ok((session, act))
    }
}

/// The responder before act one.
pub struct AwaitingActOne {
    local: SecretKey,
    ephemeral: SecretKey,
}

impl AwaitingActOne {
    /// `ephemeral` must be fresh.
    pub fn start(local: SecretKey, ephemeral: SecretKey) -> Self {
        Self { local, ephemeral }
    }

    /// Takes act one; act two to be sent.
    pub fn act_one(self, act: &[u8]) -> Result<(AwaitingActThree, [u8; ACT_TWO_LEN]), HandshakeError> {
        let mut transcript = Transcript::new(&curve::public_key(&self.local));
        let (remote_ephemeral, _) = transcript.read_ephemeral(act, &self.local)?;
        let (act, key) = transcript.write_ephemeral(&self.ephemeral, &remote_ephemeral);
        Ok((AwaitingActThree { transcript, ephemeral: self.ephemeral, key }, act))
    }
}

/// The responder after act two.
pub struct AwaitingActThree {
    transcript: Transcript,
    ephemeral: SecretKey,
    key: ChaCha20Poly1305,
}

impl AwaitingActThree {
    /// Takes act three, from which the initiator's node id is learnt.
    pub fn act_three(mut self, act: &[u8]) -> Result<Session, HandshakeError> {
        let act: &[u8; ACT_THREE_LEN] = exact(act)?;
        let (version, rest) = split_version(act)?;
        check_version(version)?;
        let (rest, tag) = split_tag(rest)?;
        let (sealed, static_tag) = split_tag(rest)?;
        let mut static_key: [u8; KEY_LEN] = *exact(sealed)?;
        self.transcript
            .open(&self.key, 1, &mut static_key, static_tag)
            .map_err(|_| HandshakeError::StaticKeyNotAuthentic)?;
        let remote = PublicKey::from_slice(&static_key).map_err(|_| HandshakeError::InvalidStaticKey)?;
        let key = self.transcript.mix_key(&self.ephemeral, &remote);
        self.transcript.open(&key, 0, &mut [], tag)?;
        let (receiving, sending) = self.transcript.split();
        Ok(Session {
            encryptor: Encryptor::new(sending.0, sending.1),
            decryptor: Decryptor::new(receiving.0, receiving.1),
            remote,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ReceiveBuffer;
    use crate::vectors;
    use crate::wire::{Message, Ping};

    fn secret(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    /// BOLT's name of an error, given the act during which it arises.
    fn name(act: u64, error: HandshakeError) -> String {
        let cause = match error {
            HandshakeError::Length { .. } => "READ_FAILED",
            HandshakeError::Version(_) => "BAD_VERSION",
            HandshakeError::InvalidEphemeralKey | HandshakeError::InvalidStaticKey => "BAD_PUBKEY",
            HandshakeError::StaticKeyNotAuthentic => "BAD_CIPHERTEXT",
            HandshakeError::NotAuthentic => "BAD_TAG",
        };
        format!("ACT{act}_{cause}")
    }

    enum Party {
        One(AwaitingActOne),
        Two(AwaitingActTwo),
        Three(AwaitingActThree),
        Done(Session),
        Failed(HandshakeError),
    }

    fn receive(party: Party, act: &[u8], outputs: &mut Vec<Vec<u8>>) -> Party {
        let next = match party {
            Party::One(state) => state.act_one(act).map(|(state, act)| {
                outputs.push(act.to_vec());
                Party::Three(state)
            }),
            Party::Two(state) => state.act_two(act).map(|(session, act)| {
                outputs.push(act.to_vec());
                Party::Done(session)
            }),
            Party::Three(state) => state.act_three(act).map(Party::Done),
            Party::Done(_) | Party::Failed(_) => panic!("nothing more is expected"),
        };
        next.unwrap_or_else(Party::Failed)
    }

    #[test]
    fn handshake_vectors() {
        let Some(vectors) = vectors::json("lightning/bolt08/transport_handshake.json") else { return };
        let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
        let key = |value: &serde_json::Value| SecretKey::from_slice(&bytes(value)).unwrap();
        let mut count = 0;
        for case in vectors["cases"].as_array().unwrap() {
            let mut outputs = Vec::new();
            let mut party = if case["role"] == "initiator" {
                let remote = PublicKey::from_slice(&bytes(&case["rs_pub"])).unwrap();
                let (state, act) = AwaitingActTwo::start(key(&case["ls_priv"]), remote, key(&case["e_priv"]));
                outputs.push(act.to_vec());
                Party::Two(state)
            } else {
                Party::One(AwaitingActOne::start(key(&case["ls_priv"]), key(&case["e_priv"])))
            };
            for step in case["steps"].as_array().unwrap() {
                if step["input"].is_string() {
                    party = receive(party, &bytes(&step["input"]), &mut outputs);
                }
                if step["output"].is_string() {
                    assert_eq!(outputs.remove(0), bytes(&step["output"]), "{case}");
                }
                if let Some(expected) = step["error"].as_str() {
                    let Party::Failed(error) = &party else { panic!("{case}: no error") };
                    let got = name(step["act"].as_u64().unwrap(), *error);
                    assert_eq!(Some(got.as_str()), expected.split(' ').next(), "{case}");
                }
                if step["final"].is_object() {
                    let Party::Done(session) = &mut party else { panic!("{case}: not done") };
                    // The keys show in what they encrypt.
                    let chaining_key = "919219dbb2920afa8db80f9a51787a840bcf111ed8d588caf9ab4be716e42b01";
                    let chaining_key: [u8; 32] = hex::decode(chaining_key).unwrap().try_into().unwrap();
                    let keys = |name: &str| {
                        let key: [u8; 32] = bytes(&step["final"][name]).try_into().unwrap();
                        (Zeroizing::new(key), Zeroizing::new(chaining_key))
                    };
                    let (sk, rk) = (keys("sk"), keys("rk"));
                    let (mut sent, mut expected) = (Vec::new(), Vec::new());
                    for _ in 0..1100 {
                        session.encryptor.encrypt(b"x", &mut sent).unwrap();
                    }
                    let mut reference = Encryptor::new(sk.0, sk.1);
                    for _ in 0..1100 {
                        reference.encrypt(b"x", &mut expected).unwrap();
                    }
                    assert_eq!(sent, expected);
                    let mut received = Vec::new();
                    Encryptor::new(rk.0, rk.1).encrypt(b"y", &mut received).unwrap();
                    let mut buffer = ReceiveBuffer::new();
                    buffer.extend(&received);
                    assert_eq!(session.decryptor.decrypt(&mut buffer), Ok(Some(b"y".as_slice())));
                }
            }
            count += 1;
        }
        vectors::ran("bolt08/transport_handshake.json", count, 15);
    }

    #[test]
    fn two_parties_meet_and_learn_each_other() {
        let (alice, bob) = (secret(1), secret(2));
        let bob_id = curve::public_key(&bob);
        let (initiator, one) = AwaitingActTwo::start(alice, bob_id, secret(3));
        let (responder, two) = AwaitingActOne::start(bob, secret(4)).act_one(&one).unwrap();
        let (mut at_alice, three) = initiator.act_two(&two).unwrap();
        let mut at_bob = responder.act_three(&three).unwrap();
        assert_eq!((at_alice.remote, at_bob.remote), (bob_id, curve::public_key(&alice)));
        let ping = Message::from(Ping { num_pong_bytes: 1, ignored: vec![0; 9] });
        for (from, to) in
            [(&mut at_alice.encryptor, &mut at_bob.decryptor), (&mut at_bob.encryptor, &mut at_alice.decryptor)]
        {
            let mut buffer = ReceiveBuffer::new();
            from.encrypt_message(&ping, buffer.tail()).unwrap();
            let received = to.decrypt(&mut buffer).unwrap().unwrap();
            assert_eq!(Message::decode(received), Ok(ping.clone()));
        }
    }

    #[test]
    fn who_expects_another_node_is_turned_away() {
        let (_, one) = AwaitingActTwo::start(secret(1), curve::public_key(&secret(9)), secret(3));
        let error = AwaitingActOne::start(secret(2), secret(4)).act_one(&one).err();
        assert_eq!(error, Some(HandshakeError::NotAuthentic));
    }
}
