//! Frames of the chain's network: however a stream is cut into pieces, it holds the same messages; and a message that we
//! read is written and read as the same.

use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::NetworkMessage;
use leyden_net::{FrameDecoder, encode_frame};

use crate::input::Input;

const MAGIC: Magic = Magic::REGTEST;

/// What the decoder reads, and some that it skips.
const COMMANDS: [&str; 25] = [
    "version",
    "verack",
    "wtxidrelay",
    "sendaddrv2",
    "sendheaders",
    "feefilter",
    "ping",
    "pong",
    "getaddr",
    "addr",
    "addrv2",
    "inv",
    "getdata",
    "notfound",
    "getheaders",
    "headers",
    "block",
    "tx",
    "mempool",
    "sendcmpct",
    "cmpctblock",
    "getblocktxn",
    "blocktxn",
    "alert",
    "unheard-of",
];

pub fn p2p_frames(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = input.u32();
    let stream = if input.flag() { framed(&mut input) } else { input.rest().to_vec() };
    let (messages, error) = read(&stream, std::iter::once(stream.len()));
    let (pieces, piece_error) = read(&stream, pieces(seed));
    assert_eq!(messages, pieces);
    assert_eq!(error, piece_error);
    for message in messages {
        let frame = encode_frame(MAGIC, message.clone());
        assert_eq!(read(&frame, std::iter::once(frame.len())), (vec![message], None));
    }
}

/// Frames with right checksums around payloads that may be anything.
fn framed(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() {
        let command = COMMANDS[input.index(COMMANDS.len())];
        let payload = frame_payload(input);
        stream.extend_from_slice(&frame(command, payload));
    }
    stream
}

fn frame_payload<'a>(input: &mut Input<'a>) -> &'a [u8] {
    if input.flag() { input.long() } else { input.short() }
}

/// One frame of any payload.
pub fn frame(command: &str, payload: &[u8]) -> Vec<u8> {
    let mut name = [0; 12];
    name[..command.len()].copy_from_slice(command.as_bytes());
    let mut frame = MAGIC.to_bytes().to_vec();
    frame.extend_from_slice(&name);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&sha256d::Hash::hash(payload).to_byte_array()[..4]);
    frame.extend_from_slice(payload);
    frame
}

/// Lengths of pieces, most of them short.
fn pieces(mut seed: u32) -> impl Iterator<Item = usize> {
    std::iter::repeat_with(move || {
        // xorshift; zero would stay zero.
        seed = seed.max(1);
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        1 + (seed as usize >> 8) % if seed & 7 == 0 { 500 } else { 30 }
    })
}

/// The messages of a stream that comes in pieces, and why it ends if not with its last byte.
fn read(mut stream: &[u8], pieces: impl Iterator<Item = usize>) -> (Vec<NetworkMessage>, Option<String>) {
    let mut decoder = FrameDecoder::new(MAGIC);
    let mut messages = Vec::new();
    for piece in pieces {
        let (head, tail) = stream.split_at(piece.min(stream.len()));
        decoder.feed(head);
        stream = tail;
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error.to_string())),
            }
        }
        if stream.is_empty() {
            break;
        }
    }
    (messages, None)
}
