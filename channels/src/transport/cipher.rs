//! Frames: a message's length and the message itself, each encrypted and authenticated (BOLT 8, Lightning Message
//! Specification).

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::wire::{EncodeError, MAX_MESSAGE_LEN, Message};

pub(super) const TAG_LEN: usize = 16;
const LENGTH_LEN: usize = 2;
const HEADER_LEN: usize = LENGTH_LEN + TAG_LEN;

/// How many bytes a frame is longer than its message.
pub const FRAME_OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// A key serves this many encryptions, that is half as many messages (BOLT 8, Lightning Message Key Rotation).
const ROTATION_INTERVAL: u64 = 1000;

/// Why the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum CipherError {
    #[error("a frame does not authenticate: it was altered, or the two sides are out of step")]
    NotAuthentic,
}

/// `HKDF(salt, ikm)` with 64 bytes of output, in halves.
pub(super) fn hkdf_two(salt: &[u8; 32], ikm: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let mut okm = Zeroizing::new([0; 64]);
    // The only error is an output of more than 255 blocks.
    let _ = Hkdf::<Sha256>::new(Some(salt), ikm).expand(&[], okm.as_mut_slice());
    let (mut first, mut second) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    first.iter_mut().zip(okm.iter()).for_each(|(to, from)| *to = *from);
    second.iter_mut().zip(okm.iter().skip(32)).for_each(|(to, from)| *to = *from);
    (first, second)
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some(low) = nonce.last_chunk_mut() {
        *low = number.to_le_bytes();
    }
    nonce
}

/// Encrypts `data` in place; its tag. `None` only for more data than ChaCha20 can encrypt, 256 GiB.
pub(super) fn seal(cipher: &ChaCha20Poly1305, number: u64, ad: &[u8], data: &mut [u8]) -> Option<[u8; TAG_LEN]> {
    cipher.encrypt_inout_detached(&nonce(number).into(), ad, InOutBuf::from(data)).ok().map(Into::into)
}

/// Decrypts `data` in place if its tag is right, and leaves it alone otherwise.
pub(super) fn open(
    cipher: &ChaCha20Poly1305,
    number: u64,
    ad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), CipherError> {
    cipher
        .decrypt_inout_detached(&nonce(number).into(), ad, InOutBuf::from(data), &(*tag).into())
        .map_err(|_| CipherError::NotAuthentic)
}

/// One direction's key, and how often it has been used.
struct RotatingKey {
    cipher: ChaCha20Poly1305,
    key: Zeroizing<[u8; 32]>,
    chaining_key: Zeroizing<[u8; 32]>,
    used: u64,
}

impl RotatingKey {
    fn new(key: Zeroizing<[u8; 32]>, chaining_key: Zeroizing<[u8; 32]>) -> Self {
        Self { cipher: ChaCha20Poly1305::new(&(*key).into()), key, chaining_key, used: 0 }
    }

    /// The nonce to use now. Counted before the use: a nonce must not come twice, even after a failure.
    fn next_nonce(&mut self) -> u64 {
        if self.used == ROTATION_INTERVAL {
            let (chaining_key, key) = hkdf_two(&self.chaining_key, self.key.as_slice());
            *self = Self::new(key, chaining_key);
        }
        let nonce = self.used;
        self.used += 1;
        nonce
    }
}

/// The sending side of a session.
pub struct Encryptor {
    key: RotatingKey,
}

impl Encryptor {
    pub(super) fn new(key: Zeroizing<[u8; 32]>, chaining_key: Zeroizing<[u8; 32]>) -> Self {
        Self { key: RotatingKey::new(key, chaining_key) }
    }

    /// Appends the frame of an encoded message to `out`.
    pub fn encrypt(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if message.len() > MAX_MESSAGE_LEN {
            return Err(EncodeError::TooLong(message.len()));
        }
        let start = out.len();
        out.reserve(message.len() + FRAME_OVERHEAD);
        out.extend_from_slice(&[0; HEADER_LEN]);
        out.extend_from_slice(message);
        self.seal_frame(start, out);
        Ok(())
    }

    /// Appends the frame of `message` to `out`: the message is encoded where it is then encrypted. On an error
    /// `out` is as it was.
    pub fn encrypt_message(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        if let Err(error) = message.encode_into(out) {
            out.truncate(start);
            return Err(error);
        }
        self.seal_frame(start, out);
        Ok(())
    }

    /// Turns what follows `start`, room for a header and a message of at most [`MAX_MESSAGE_LEN`], into a frame.
    fn seal_frame(&mut self, start: usize, out: &mut Vec<u8>) {
        let frame = out.get_mut(start..).unwrap_or_default();
        let Some((header, message)) = frame.split_first_chunk_mut::<HEADER_LEN>() else { return };
        let mut length = (message.len() as u16).to_be_bytes();
        let header_nonce = self.key.next_nonce();
        let header_tag = seal(&self.key.cipher, header_nonce, &[], &mut length).unwrap_or_default();
        header.iter_mut().zip(length.into_iter().chain(header_tag)).for_each(|(to, from)| *to = from);
        let message_nonce = self.key.next_nonce();
        let tag = seal(&self.key.cipher, message_nonce, &[], message).unwrap_or_default();
        out.extend_from_slice(&tag);
    }
}

/// Bytes that have arrived and are not yet messages.
#[derive(Default)]
pub struct ReceiveBuffer {
    bytes: Vec<u8>,
    /// Everything before this has been handed out.
    start: usize,
}

impl ReceiveBuffer {
    /// Nothing was received.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to append what the socket reads. What has been handed out is dropped first.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start.min(self.bytes.len()));
            self.start = 0;
        }
        &mut self.bytes
    }

    /// More bytes have come.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// The next `len` bytes, once they are all there.
    fn take(&mut self, len: usize) -> Option<&mut [u8]> {
        let end = self.start.checked_add(len)?;
        let taken = self.bytes.get_mut(self.start..end)?;
        self.start = end;
        Some(taken)
    }
}

impl Drop for ReceiveBuffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// The receiving side of a session.
pub struct Decryptor {
    key: RotatingKey,
    /// The length of the message that comes next, once its header has been opened.
    message_len: Option<u16>,
}

impl Decryptor {
    pub(super) fn new(key: Zeroizing<[u8; 32]>, chaining_key: Zeroizing<[u8; 32]>) -> Self {
        Self { key: RotatingKey::new(key, chaining_key), message_len: None }
    }

    /// The next message, decrypted where it lies, or `None` until more bytes have arrived. After an error the
    /// connection has to be closed.
    pub fn decrypt<'b>(&mut self, buffer: &'b mut ReceiveBuffer) -> Result<Option<&'b [u8]>, CipherError> {
        let message_len = match self.message_len {
            Some(len) => len,
            None => {
                let Some(header) = buffer.take(HEADER_LEN) else { return Ok(None) };
                let length = self.open(header)?;
                let length = length.first_chunk().copied().map(u16::from_be_bytes).ok_or(CipherError::NotAuthentic)?;
                *self.message_len.insert(length)
            }
        };
        let Some(message) = buffer.take(usize::from(message_len) + TAG_LEN) else { return Ok(None) };
        self.message_len = None;
        self.open(message).map(Some)
    }

    fn open<'b>(&mut self, sealed: &'b mut [u8]) -> Result<&'b [u8], CipherError> {
        let (data, tag) = sealed.split_last_chunk_mut().ok_or(CipherError::NotAuthentic)?;
        let nonce = self.key.next_nonce();
        open(&self.key.cipher, nonce, &[], data, tag)?;
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors;

    fn pair() -> (Encryptor, Decryptor) {
        let key = || Zeroizing::new([7; 32]);
        (Encryptor::new(key(), key()), Decryptor::new(key(), key()))
    }

    #[test]
    fn message_vectors_over_two_rotations() {
        let Some(vectors) = vectors::json("lightning/bolt08/transport_messages.json") else { return };
        let vector = &vectors["vector"];
        let key = |name: &str| {
            let bytes: [u8; 32] = hex::decode(vector[name].as_str().unwrap()).unwrap().try_into().unwrap();
            Zeroizing::new(bytes)
        };
        let mut encryptor = Encryptor::new(key("sk"), key("ck"));
        let mut decryptor = Decryptor::new(key("sk"), key("ck"));
        let mut frames = Vec::new();
        let mut buffer = ReceiveBuffer::new();
        for _ in 0..vector["messages"].as_u64().unwrap() {
            let mut frame = Vec::new();
            encryptor.encrypt(vector["plaintext_utf8"].as_str().unwrap().as_bytes(), &mut frame).unwrap();
            buffer.extend(&frame);
            assert_eq!(decryptor.decrypt(&mut buffer), Ok(Some(b"hello".as_slice())));
            frames.push(hex::encode(frame));
        }
        let outputs = vector["outputs"].as_array().unwrap();
        for output in outputs {
            assert_eq!(frames[output["index"].as_u64().unwrap() as usize], output["ciphertext"].as_str().unwrap());
        }
        vectors::ran("bolt08/transport_messages.json", outputs.len(), 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn messages_arrive_whole_however_the_stream_is_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
            cuts in proptest::collection::vec(1usize..200, 1..10),
        ) {
            let (mut encryptor, mut decryptor) = pair();
            let mut stream = Vec::new();
            for message in &messages {
                encryptor.encrypt(message, &mut stream).unwrap();
            }
            let mut buffer = ReceiveBuffer::new();
            let mut arrived = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !stream.is_empty() {
                let rest = stream.split_off(stream.len().min(*cuts.next().unwrap()));
                buffer.extend(&stream);
                stream = rest;
                while let Some(message) = decryptor.decrypt(&mut buffer).unwrap() {
                    arrived.push(message.to_vec());
                }
            }
            prop_assert_eq!(arrived, messages);
        }

        #[test]
        fn an_altered_frame_is_refused(message: Vec<u8>, at: usize, mask in 1u8..) {
            let (mut encryptor, mut decryptor) = pair();
            let mut frame = Vec::new();
            encryptor.encrypt(&message, &mut frame).unwrap();
            let len = frame.len();
            frame[at % len] ^= mask;
            let mut buffer = ReceiveBuffer::new();
            buffer.extend(&frame);
            prop_assert_eq!(decryptor.decrypt(&mut buffer), Err(CipherError::NotAuthentic));
        }
    }

    #[test]
    fn the_longest_message_passes_and_a_longer_one_does_not() {
        let (mut encryptor, mut decryptor) = pair();
        let mut out = Vec::new();
        assert_eq!(encryptor.encrypt(&[1; 65_536], &mut out), Err(EncodeError::TooLong(65_536)));
        encryptor.encrypt(&[1; 65_535], &mut out).unwrap();
        assert_eq!(out.len(), 65_569);
        let mut buffer = ReceiveBuffer::new();
        buffer.extend(&out);
        assert_eq!(decryptor.decrypt(&mut buffer).unwrap().map(<[u8]>::len), Some(65_535));
    }
}
