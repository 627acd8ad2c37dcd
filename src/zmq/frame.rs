//! ZMTP 3.0 as far as a publisher speaks it (rfc.zeromq.org/spec/23): greeting, NULL handshake, frames.
//!
//! ```text
//!   greeting   ff 00×8 7f │ 3 0 │ "NULL" and zeros to 20 bytes │ 0 │ 00×31          64 bytes, both ways
//!   frame      flags (1: more follow, 2: long, 4: command) │ length of 1 byte, or of 8 if long │ body
//!   command    length of the name │ name │ its data
//!   READY      data: for each property: length of the name, name, length of 4 bytes, value
//! ```

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Bytes of a greeting.
pub(super) const GREETING_LENGTH: usize = 64;
/// Subscribers send prefixes of topics, and a few properties: none comes near this.
const MAX_FRAME: u64 = 4_096;

/// A message with three parts, as it goes over the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub topic: &'static str,
    pub bytes: Vec<u8>,
}

impl Message {
    /// Topic, body, and the number of the message within its topic.
    pub(super) fn new(topic: &'static str, body: &[u8], number: u32) -> Self {
        let mut bytes = Vec::with_capacity(body.len().saturating_add(40));
        put(&mut bytes, MORE, topic.as_bytes());
        put(&mut bytes, MORE, body);
        put(&mut bytes, 0, &number.to_le_bytes());
        Self { topic, bytes }
    }
}

fn put(bytes: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(length) => bytes.extend([flags, length]),
        Err(_) => {
            bytes.push(flags | LONG);
            bytes.extend((body.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(body);
}

/// What either side begins with.
pub(super) fn greeting() -> [u8; GREETING_LENGTH] {
    let mut greeting = [0; GREETING_LENGTH];
    for (place, byte) in [(0, 0xff), (9, 0x7f), (10, 3), (12, b'N'), (13, b'U'), (14, b'L'), (15, b'L')] {
        greeting[place] = byte;
    }
    greeting
}

/// Whether somebody who begins so can be spoken to: version 3 or later, without encryption.
pub(super) fn is_understood(greeting: &[u8; GREETING_LENGTH]) -> bool {
    let mut mechanism = [0; 20];
    mechanism[..4].copy_from_slice(b"NULL");
    greeting[0] == 0xff && greeting[9] == 0x7f && greeting[10] >= 3 && greeting[12..32] == mechanism
}

/// The command that ends the handshake.
pub(super) fn ready(socket_type: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"Socket-Type";
    let mut body = b"\x05READY".to_vec();
    body.push(u8::try_from(NAME.len()).unwrap_or_default());
    body.extend(NAME);
    body.extend(u32::try_from(socket_type.len()).unwrap_or_default().to_be_bytes());
    body.extend(socket_type);
    let mut frame = Vec::new();
    put(&mut frame, COMMAND, &body);
    frame
}

/// The answer to a PING, with its context.
pub(super) fn pong(context: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put(&mut frame, COMMAND, &[b"\x04PONG", context].concat());
    frame
}

/// One frame of a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Command { name: Vec<u8>, data: Vec<u8> },
    Message { body: Vec<u8>, more: bool },
}

/// Reads a frame. One that no subscriber needs to send is an error.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let flags = stream.read_u8().await?;
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(wrong("unknown flags of a frame"));
    }
    let length = if flags & LONG == 0 { u64::from(stream.read_u8().await?) } else { stream.read_u64().await? };
    if length > MAX_FRAME {
        return Err(wrong("a frame is too long"));
    }
    let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut body).await?;
    if flags & COMMAND == 0 {
        return Ok(Frame::Message { body, more: flags & MORE != 0 });
    }
    let (length, rest) = body.split_first().ok_or_else(|| wrong("a command without a name"))?;
    let (name, data) =
        rest.split_at_checked(usize::from(*length)).ok_or_else(|| wrong("a command's name is cut off"))?;
    Ok(Frame::Command { name: name.to_vec(), data: data.to_vec() })
}

/// A property of a READY command.
pub(super) fn property<'d>(mut data: &'d [u8], wanted: &[u8]) -> Option<&'d [u8]> {
    loop {
        let (length, rest) = data.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        data = rest;
    }
}
