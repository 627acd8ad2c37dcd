//! The ciphers of BIP 324, each with a key that it replaces by itself, and how all keys follow from one secret.

use std::fmt;

use bitcoin::p2p::Magic;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::codec::FrameError;

/// A key serves this many packets (BIP 324, `REKEY_INTERVAL`).
const REKEY_INTERVAL: u32 = 224;
/// Bytes by which a packet shows that it was not altered.
pub(super) const TAG: usize = 16;
/// Bytes of an encrypted length.
pub(super) const LENGTH: usize = 3;
/// Bytes that end the garbage.
pub(super) const TERMINATOR: usize = 16;

fn nonce(low: u32, high: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let bytes = low.to_le_bytes().into_iter().chain(high.to_le_bytes());
    nonce.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    nonce
}

/// FSChaCha20: encrypts the lengths of packets.
pub(super) struct LengthCipher {
    stream: ChaCha20,
    used: u32,
    rekeyed: u64,
}

impl LengthCipher {
    fn new(key: &[u8; 32]) -> Self {
        Self { stream: ChaCha20::new(&(*key).into(), &nonce(0, 0).into()), used: 0, rekeyed: 0 }
    }

    /// Encrypts a length, or decrypts it.
    pub(super) fn crypt(&mut self, length: &mut [u8; LENGTH]) {
        self.stream.apply_keystream(length);
        self.used = self.used.wrapping_add(1);
        if self.used == REKEY_INTERVAL {
            // The next key is what follows in the stream.
            let mut key = [0; 32];
            self.stream.apply_keystream(&mut key);
            self.rekeyed = self.rekeyed.wrapping_add(1);
            self.used = 0;
            self.stream = ChaCha20::new(&key.into(), &nonce(0, self.rekeyed).into());
        }
    }
}

/// FSChaCha20Poly1305: encrypts and authenticates packets.
pub(super) struct PacketCipher {
    cipher: ChaCha20Poly1305,
    used: u32,
    rekeyed: u64,
}

impl PacketCipher {
    fn new(key: &[u8; 32]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(&(*key).into()), used: 0, rekeyed: 0 }
    }

    /// Encrypts in place; the tag. `None` only for more than ChaCha20 can encrypt, 256 GiB.
    pub(super) fn seal(&mut self, aad: &[u8], data: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = nonce(self.used, self.rekeyed).into();
        let tag = self.cipher.encrypt_inout_detached(&nonce, aad, InOutBuf::from(data)).ok()?;
        self.count();
        Some(tag.into())
    }

    /// Decrypts in place.
    pub(super) fn open(&mut self, aad: &[u8], data: &mut [u8], tag: &[u8; TAG]) -> Result<(), FrameError> {
        let nonce = nonce(self.used, self.rekeyed).into();
        let opened = self.cipher.decrypt_inout_detached(&nonce, aad, InOutBuf::from(data), &(*tag).into());
        opened.map_err(|_| FrameError::NotAuthentic)?;
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        self.used = self.used.wrapping_add(1);
        if self.used == REKEY_INTERVAL {
            let mut key = [0; 32];
            let nonce = nonce(u32::MAX, self.rekeyed).into();
            // So few bytes can always be encrypted.
            let sealed = self.cipher.encrypt_inout_detached(&nonce, &[], InOutBuf::from(key.as_mut_slice()));
            debug_assert!(sealed.is_ok());
            self.cipher = ChaCha20Poly1305::new(&key.into());
            self.rekeyed = self.rekeyed.wrapping_add(1);
            self.used = 0;
        }
    }
}

/// The keys of one direction.
pub(super) struct DirectionKeys {
    pub(super) length: LengthCipher,
    pub(super) packets: PacketCipher,
}

impl fmt::Debug for DirectionKeys {
    /// No key gets into a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DirectionKeys").finish_non_exhaustive()
    }
}

/// All that follows from the secret of two peers.
#[derive(Debug)]
pub(super) struct SessionKeys {
    pub(super) send: DirectionKeys,
    pub(super) receive: DirectionKeys,
    pub(super) send_terminator: [u8; TERMINATOR],
    pub(super) receive_terminator: [u8; TERMINATOR],
    pub(super) session_id: [u8; 32],
}

impl SessionKeys {
    /// BIP 324, Keys and session ID derivation.
    pub(super) fn derive(secret: &[u8; 32], magic: Magic, is_initiator: bool) -> Self {
        let salt = [b"bitcoin_v2_shared_secret".as_slice(), &magic.to_bytes()].concat();
        let hkdf = Hkdf::<Sha256>::new(Some(&salt), secret);
        let expand = |info: &str| {
            let mut key = [0; 32];
            // The only error is an output of more than 255 blocks.
            let expanded = hkdf.expand(info.as_bytes(), &mut key);
            debug_assert!(expanded.is_ok());
            key
        };
        let direction = |length: &str, packets: &str| DirectionKeys {
            length: LengthCipher::new(&expand(length)),
            packets: PacketCipher::new(&expand(packets)),
        };
        let initiator = direction("initiator_L", "initiator_P");
        let responder = direction("responder_L", "responder_P");
        let (mut of_initiator, mut of_responder) = ([0; TERMINATOR], [0; TERMINATOR]);
        let terminators = expand("garbage_terminators");
        let both = of_initiator.iter_mut().chain(of_responder.iter_mut());
        both.zip(terminators).for_each(|(to, from)| *to = from);
        let session_id = expand("session_id");
        let (send, receive, send_terminator, receive_terminator) = if is_initiator {
            (initiator, responder, of_initiator, of_responder)
        } else {
            (responder, initiator, of_responder, of_initiator)
        };
        Self { send, receive, send_terminator, receive_terminator, session_id }
    }
}
