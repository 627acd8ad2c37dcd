//! How two ends come to a transport: keys, garbage and the version packet of BIP 324, or plain frames with an end that
//! speaks nothing else.
//!
//! ```text
//!   responder: Prefix ──┬─ `version` frame of v1 ─▶ done: v1
//!                       └─ anything else ─▶ Key ─▶ Garbage ─▶ Version ─▶ done: v2
//!   initiator:                              Key ─▶ Garbage ─▶ Version ─▶ done: v2
//! ```
//!
//! An initiator whose peer closes the connection without a byte may have met one that speaks v1 only, and connects again to
//! speak that.

use std::fmt;

use bitcoin::p2p::Magic;
use secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use secp256k1::{SECP256K1, SecretKey};

use super::cipher::{SessionKeys, TERMINATOR};
use super::packets::{PacketDecoder, PacketEncoder};
use super::{MAX_GARBAGE, MessageDecoder, MessageEncoder, Transport, TransportKind, V2Decoder, V2Encoder};
use crate::codec::FrameError;

/// Bytes of a public key.
const KEY: usize = 64;
/// How a connection of v1 begins, after the magic.
const V1_COMMAND: [u8; 12] = *b"version\0\0\0\0\0";
const V1_PREFIX: usize = 4 + V1_COMMAND.len();

/// What nobody else may foresee. All of it is for one connection.
pub struct Secrets {
    /// The private key.
    pub key: [u8; 32],
    /// By which one of many encodings of the public key is chosen.
    pub entropy: [u8; 32],
    /// What is sent after the key, at most [`MAX_GARBAGE`] bytes, so that the length of what is sent tells nothing.
    pub garbage: Vec<u8>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// Our key pair, and the garbage that follows it.
struct Own {
    secret: SecretKey,
    public: ElligatorSwift,
    garbage: Vec<u8>,
}

impl Own {
    fn new(secrets: Secrets) -> Result<Self, FrameError> {
        let secret = SecretKey::from_slice(&secrets.key).map_err(|_| FrameError::NoKey)?;
        let public = ElligatorSwift::from_seckey(SECP256K1, secret, Some(secrets.entropy));
        let mut garbage = secrets.garbage;
        garbage.truncate(MAX_GARBAGE);
        Ok(Self { secret, public, garbage })
    }

    fn greeting(&self) -> Vec<u8> {
        [self.public.to_array().as_slice(), &self.garbage].concat()
    }
}

/// The start of a connection.
pub struct Opening {
    magic: Magic,
    is_initiator: bool,
    own: Own,
    state: State,
    buffer: Vec<u8>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Opening").field("is_initiator", &self.is_initiator).finish_non_exhaustive()
    }
}

enum State {
    Prefix,
    Key,
    /// So many bytes of the buffer end with no terminator.
    Garbage {
        keys: Box<SessionKeys>,
        searched: usize,
    },
    Version(Box<Session>),
    Over,
}

impl Opening {
    /// The opening of the end that connects, and what it sends at once.
    pub fn initiate(magic: Magic, secrets: Secrets) -> Result<(Self, Vec<u8>), FrameError> {
        let own = Own::new(secrets)?;
        let greeting = own.greeting();
        Ok((Self { magic, is_initiator: true, own, state: State::Key, buffer: Vec::new() }, greeting))
    }

    /// The opening of the end that is connected to, which waits for the first bytes.
    pub fn respond(magic: Magic, secrets: Secrets) -> Result<Self, FrameError> {
        let own = Own::new(secrets)?;
        Ok(Self { magic, is_initiator: false, own, state: State::Prefix, buffer: Vec::new() })
    }

    /// Takes bytes as they came. Gives what is to be sent, and the transport once it is there.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, Option<Transport>), FrameError> {
        self.buffer.extend_from_slice(bytes);
        let mut send = Vec::new();
        // After an error there is no way on.
        loop {
            let (next, goes_on) = match std::mem::replace(&mut self.state, State::Over) {
                State::Prefix => match self.is_v1()? {
                    Some(true) => return Ok((send, Some(self.v1()))),
                    Some(false) => {
                        send.extend(self.own.greeting());
                        (State::Key, true)
                    }
                    None => (State::Prefix, false),
                },
                State::Key => match self.take_key()? {
                    Some(Keyed { keys, send: packet }) => {
                        send.extend(packet);
                        (State::Garbage { keys, searched: 0 }, true)
                    }
                    None => (State::Key, false),
                },
                State::Garbage { keys, searched } => match self.find_terminator(&keys, searched)? {
                    Some(garbage) => (State::Version(Box::new(Session::after(*keys, garbage))), true),
                    None => (State::Garbage { keys, searched: self.buffer.len() }, false),
                },
                State::Version(mut session) => {
                    session.decoder.feed(&std::mem::take(&mut self.buffer));
                    // What it holds is for later versions of the protocol.
                    if session.decoder.next_contents()?.is_some() {
                        return Ok((send, Some(session.into_transport())));
                    }
                    (State::Version(session), false)
                }
                State::Over => return Err(FrameError::NotAuthentic),
            };
            self.state = next;
            if !goes_on {
                return Ok((send, None));
            }
        }
    }

    /// Does the connection begin as one of v1? `None` until that is seen.
    fn is_v1(&self) -> Result<Option<bool>, FrameError> {
        let expected = [self.magic.to_bytes().as_slice(), &V1_COMMAND].concat();
        let come = self.buffer.len().min(V1_PREFIX);
        if self.buffer.get(..come) == expected.get(..come) {
            return Ok((come == V1_PREFIX).then_some(true));
        }
        self.check_network()?;
        Ok(Some(false))
    }

    /// No key looks like the `version` frame of another network.
    fn check_network(&self) -> Result<(), FrameError> {
        match self.buffer.split_first_chunk() {
            Some((magic, rest)) if rest.starts_with(&V1_COMMAND) && *magic != self.magic.to_bytes() => {
                Err(FrameError::WrongMagic { got: Magic::from_bytes(*magic), wanted: self.magic })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn v1(&mut self) -> Transport {
        let mut transport = Transport::v1(self.magic);
        transport.decoder.feed(&std::mem::take(&mut self.buffer));
        transport
    }

    /// Takes the other side's key, if it is there, and makes what follows from both: our terminator and version packet.
    fn take_key(&mut self) -> Result<Option<Keyed>, FrameError> {
        self.check_network()?;
        let Some((theirs, rest)) = self.buffer.split_first_chunk::<KEY>() else { return Ok(None) };
        let (ours, theirs) = (self.own.public, ElligatorSwift::from_array(*theirs));
        let (initiator, responder, party) = if self.is_initiator {
            (ours, theirs, ElligatorSwiftParty::A)
        } else {
            (theirs, ours, ElligatorSwiftParty::B)
        };
        let secret = ElligatorSwift::shared_secret(initiator, responder, self.own.secret, party, None);
        self.buffer = rest.to_vec();
        let mut keys = SessionKeys::derive(secret.as_secret_bytes(), self.magic, self.is_initiator);
        let mut send = keys.send_terminator.to_vec();
        let version = super::packets::seal(&mut keys.send, false, &self.own.garbage, &[]);
        send.extend(version.ok_or(FrameError::NotAuthentic)?);
        Ok(Some(Keyed { keys: Box::new(keys), send }))
    }

    /// Takes the garbage and what ends it, if all of that is there.
    fn find_terminator(&mut self, keys: &SessionKeys, searched: usize) -> Result<Option<Vec<u8>>, FrameError> {
        let from = searched.saturating_sub(TERMINATOR - 1);
        let windows = self.buffer.get(from..).unwrap_or_default().windows(TERMINATOR);
        let places = windows.take(MAX_GARBAGE.saturating_add(1).saturating_sub(from)).enumerate();
        let found = places.filter(|(_, window)| *window == keys.receive_terminator.as_slice()).map(|(place, _)| place);
        match found.min() {
            Some(place) => {
                let rest = self.buffer.split_off(from.saturating_add(place));
                let garbage = std::mem::replace(&mut self.buffer, rest.get(TERMINATOR..).unwrap_or_default().to_vec());
                Ok(Some(garbage))
            }
            None if self.buffer.len() >= MAX_GARBAGE + TERMINATOR => Err(FrameError::NoGarbageTerminator),
            None => Ok(None),
        }
    }
}

/// What follows from both keys, and what is sent next.
struct Keyed {
    keys: Box<SessionKeys>,
    send: Vec<u8>,
}

/// Both directions, before the version packet has come.
struct Session {
    encoder: PacketEncoder,
    decoder: PacketDecoder,
    session_id: [u8; 32],
}

impl Session {
    fn after(keys: SessionKeys, garbage: Vec<u8>) -> Self {
        let SessionKeys { send, receive, session_id, send_terminator: _, receive_terminator: _ } = keys;
        Self { encoder: PacketEncoder(send), decoder: PacketDecoder::new(receive, garbage), session_id }
    }

    fn into_transport(self) -> Transport {
        Transport {
            kind: TransportKind::V2 { session_id: self.session_id },
            encoder: MessageEncoder::V2(V2Encoder(self.encoder)),
            decoder: MessageDecoder::V2(Box::new(V2Decoder { packets: self.decoder, last_length: 0 })),
        }
    }
}
