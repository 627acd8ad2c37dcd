//! Packets of BIP 324: an encrypted length, then a header and contents, encrypted together.

use crate::codec::{FrameError, MAX_PAYLOAD};

use super::cipher::{DirectionKeys, LENGTH, TAG};
use super::contents::MAX_MESSAGE_TYPE;

/// Bytes before the contents that are encrypted with them.
const HEADER: usize = 1;
/// The header's bit that makes a packet a decoy.
const IGNORE: u8 = 0x80;
/// The longest contents that are taken, those of decoys too.
const MAX_CONTENTS: usize = MAX_MESSAGE_TYPE + MAX_PAYLOAD;

/// The sending side.
#[derive(Debug)]
pub(super) struct PacketEncoder(pub(super) DirectionKeys);

impl PacketEncoder {
    /// A packet with these contents one after the other. `None` if they are longer than a packet can tell.
    pub(super) fn packet(&mut self, contents: &[&[u8]]) -> Option<Vec<u8>> {
        seal(&mut self.0, false, &[], contents)
    }
}

/// A packet with these contents one after the other, authenticated with `aad`. `None` if they are longer than it can tell.
pub(super) fn seal(keys: &mut DirectionKeys, is_decoy: bool, aad: &[u8], contents: &[&[u8]]) -> Option<Vec<u8>> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let [a, b, c, 0] = u32::try_from(length).ok()?.to_le_bytes() else { return None };
    let mut packet = Vec::with_capacity(LENGTH + HEADER + length + TAG);
    packet.extend([a, b, c, if is_decoy { IGNORE } else { 0 }]);
    contents.iter().for_each(|part| packet.extend_from_slice(part));
    let (length, sealed) = packet.split_first_chunk_mut()?;
    keys.length.crypt(length);
    let tag = keys.packets.seal(aad, sealed)?;
    packet.extend(tag);
    Some(packet)
}

/// The receiving side.
#[derive(Debug)]
pub(super) struct PacketDecoder {
    keys: DirectionKeys,
    /// What the next packet is authenticated with.
    aad: Vec<u8>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were consumed.
    consumed: usize,
    /// The length of the contents that come next, once it is decrypted.
    length: Option<usize>,
}

impl PacketDecoder {
    /// The first packet is authenticated with the garbage before it.
    pub(super) fn new(keys: DirectionKeys, garbage: Vec<u8>) -> Self {
        Self { keys, aad: garbage, buffer: Vec::new(), consumed: 0, length: None }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The contents of the next packet that is no decoy, if its last byte has arrived.
    pub(super) fn next_contents(&mut self) -> Result<Option<&[u8]>, FrameError> {
        loop {
            let rest = self.buffer.get_mut(self.consumed..).unwrap_or_default();
            let length = match self.length {
                Some(length) => length,
                None => {
                    let Some((sealed, _)) = rest.split_first_chunk_mut() else { return Ok(None) };
                    self.keys.length.crypt(sealed);
                    let [a, b, c] = *sealed;
                    let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
                    if length > MAX_CONTENTS {
                        return Err(FrameError::Oversized { length, limit: MAX_CONTENTS });
                    }
                    self.consumed += LENGTH;
                    self.length = Some(length);
                    continue;
                }
            };
            let wanted = HEADER + length + TAG;
            let Some((packet, _)) = rest.split_at_mut_checked(wanted) else {
                // Room for the rest at once, but never on the word of a peer that has sent nothing yet.
                if rest.len() > wanted / 4 {
                    self.buffer.reserve(wanted);
                }
                return Ok(None);
            };
            let Some((sealed, tag)) = packet.split_last_chunk_mut() else { return Ok(None) };
            self.keys.packets.open(&std::mem::take(&mut self.aad), sealed, tag)?;
            let start = self.consumed + HEADER;
            self.consumed += wanted;
            self.length = None;
            let is_decoy = sealed.first().is_some_and(|header| header & IGNORE != 0);
            if !is_decoy {
                return Ok(Some(self.buffer.get(start..start + length).unwrap_or_default()));
            }
        }
    }
}
